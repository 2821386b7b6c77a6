/* SPDX-License-Identifier: MIT */
/*
 * tls_cert.h - what is looked at in certificates besides what GnuTLS verifies.
 *
 * Threads: any.
 * Source: NIST SP 800-57 part 1, 112 bits of security; RFC 9155 (SHA-1); RFC 5280,
 * 4.2.1.12 (extended key usage).
 */
#ifndef SERVER_TLS_CERT_H
#define SERVER_TLS_CERT_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "blk/err.h"

struct gnutls_x509_crt_int;
struct gnutls_x509_crl_int;
struct gnutls_session_int;

/* Certificates of one file. */
struct tls_certs {
	struct gnutls_x509_crt_int **crts;
	unsigned count;
};

/* Reads LEN bytes of TEXT, in PEM. -EINVAL; -ENOMEM. */
int tls_certs_parse(struct tls_certs *certs, const char *text, size_t len, struct err *err);
void tls_certs_release(struct tls_certs *certs);

/* Revocation lists of one file. */
struct tls_crls {
	struct gnutls_x509_crl_int **crls;
	unsigned count;
};

/* Likewise. */
int tls_crls_parse(struct tls_crls *crls, const char *text, size_t len, struct err *err);
void tls_crls_release(struct tls_crls *crls);

/*
 * The server's own: the first is valid at NOW, each is strong enough, and together
 * they leave room for those of a client in one handshake. -EINVAL.
 */
int tls_certs_check_own(const struct tls_certs *certs, time_t now, struct err *err);

/* The key of each is strong enough: all that those who sign clients' ones need. -EINVAL. */
int tls_certs_check_keys(const struct tls_certs *certs, struct err *err);

/*
 * Each list is of one of TRUSTED, whose name it has to the byte, and signed by it; its
 * dates may be any. -EINVAL.
 */
int tls_crls_check(const struct tls_crls *crls, const struct tls_certs *trusted, struct err *err);

/*
 * Of each of TRUSTED that has a list in OLD there is one in NEW, and its newest is no
 * older. -EINVAL.
 */
int tls_crls_check_successor(const struct tls_crls *old, const struct tls_crls *new,
			     const struct tls_certs *trusted, struct err *err);

/*
 * A client's Certificate message, before GnuTLS has taken its certificates apart: all of
 * them together have not so many parts that this would take long, and nothing comes with
 * them, such as what OCSP says, that GnuTLS would verify first. IS_13: it is TLS 1.3's. 0, or the error to
 * end the handshake with: GnuTLS's, or one that tls_refusal() knows.
 * Source: RFC 5246, 7.4.2; RFC 8446, 4.4.2.
 */
int tls_message_check_values(const void *message, size_t len, bool is_13);

/*
 * One certificate of a client's, LEN bytes of DER: strong enough, whatever
 * --tls-priority says, and with a key that does not take long. Returns likewise.
 */
int tls_cert_check_strength(const void *der, size_t len);

/* Likewise each of a client's chain; 0 for a client without one. */
int tls_peer_check_strength(struct gnutls_session_int *session);

/* And that the client's own says that it is for TLS clients, in so many words. */
int tls_peer_check_purpose(struct gnutls_session_int *session);

/* And that tls_peer_identify() can tell who the client is. */
int tls_peer_check_names(struct gnutls_session_int *session);

/* Why one of these refuses, a constant; NULL: the error is GnuTLS's. */
const char *tls_refusal(int error);

struct tls_expiries;

/* Notes when those of FILE end. -ENOMEM. */
int tls_certs_expiries(const struct tls_certs *certs, bool own, const char *file,
		       struct tls_expiries *list, struct err *err);
/* Likewise, when lists have to be there anew. */
int tls_crls_expiries(const struct tls_crls *crls, const char *file, struct tls_expiries *list,
		      struct err *err);

/* "YYYY-MM-DD HH:MM:SS UTC" into BUF. Returns BUF. */
#define TLS_DATE_MAX 40
const char *tls_date(char buf[TLS_DATE_MAX], time_t at);

#endif
