/* SPDX-License-Identifier: MIT */
/*
 * access_dn.h - the one way in which a certificate's name is written.
 *
 * A rule's name is compared with what GnuTLS prints, byte by byte. One that GnuTLS
 * never prints would fit nobody, and a rule with `none` would keep nobody out.
 *
 * Threads: any.
 * Source: RFC 4514, section 2, which leaves a choice; gnutls_x509_dn_get_str2(3), which
 * has made it.
 */
#ifndef SERVER_ACCESS_DN_H
#define SERVER_ACCESS_DN_H

#include <stdbool.h>

#define ACCESS_DN_WHY_MAX 240

/*
 * Whether a certificate's name can look so; if not, WHY says what is wrong with it, and how
 * it is written if that is known. After tls_init().
 */
bool access_dn_is_canonical(const char *dn, char why[ACCESS_DN_WHY_MAX]);

/*
 * Brings what stands between `+' into one order: those are a set, and GnuTLS prints it as it
 * is in the certificate. In place; two names are the same if they look so then.
 */
void access_dn_sort(char *dn);

#endif
