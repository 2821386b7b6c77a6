/* SPDX-License-Identifier: MIT */
/*
 * der.h - how many values DER is made of.
 *
 * Those who take a certificate apart, GnuTLS for one, look at each value, and at many
 * of them again for each of the others: the number is what makes it take long.
 *
 * 1. One pass, over each byte at most twice; nothing is allocated.
 * 2. A number is never below what is found by taking it apart, strings in it as well.
 *
 * Threads: any.
 * Source: X.690, 8.1 and 10; RFC 5280, 4.1 (what a certificate has in strings).
 */
#ifndef SERVER_DER_H
#define SERVER_DER_H

#include <stddef.h>

/* No certificate's values are further within each other. */
#define DER_DEPTH_MAX 16

/*
 * Values in DATA, which has to be one, with those in it: of sequences and sets, of what is
 * tagged, and of OCTET STRINGs, where extensions are. A string with something else in it
 * counts as many as might be there. -EBADMSG: this is not DER.
 */
int der_count(const void *data, size_t len);

#endif
