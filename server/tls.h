/* SPDX-License-Identifier: MIT */
/*
 * tls.h - what TLS needs besides a connection: certificates, keys, users.
 *
 * 1. A set of credentials is loaded whole or not at all, and is constant from
 *    then on. Whoever uses one holds a reference; the last one wipes the keys.
 * 2. After tls_load() no file is read any more, so a handshake never waits for one.
 * 3. What is offered is TLS 1.3 and 1.2; nothing that the operator says can add an
 *    older version.
 *
 * Threads: tls_load() main; get and put any; tls_session_new() any.
 * Source: NBD protocol, "TLS versions", "Security considerations".
 */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/err.h"

struct gnutls_session_int;

enum tls_mode {
	TLS_OFF,     /* no client gets it */
	TLS_ON,	     /* who asks for it */
	TLS_REQUIRE, /* without it there is nothing to be had */
};

/* Where things are. NULL: not given. */
struct tls_files {
	const char *dir; /* with ca-cert.pem, ca-crl.pem, server-cert.pem, server-key.pem */
	const char *ca, *crl, *cert, *key; /* instead of those */
	const char *psk;		   /* lines of USER:HEX, as psktool(1) makes them */
	const char *priority; /* for gnutls_priority_init(3); NULL: our own */
	bool verify_peer;     /* who connects has to show a certificate */
	bool any_purpose;     /* which need not say that it is for TLS clients */
};

struct tls;

/* Whether FILES name anything at all; certificates. */
bool tls_wanted(const struct tls_files *files);
bool tls_wants_x509(const struct tls_files *files);

/*
 * Before any other use of GnuTLS, and before threads: initialises the library,
 * without what the environment would have it do (a log, a key log, other
 * priorities). -ENODEV when it cannot be used.
 */
int tls_init(struct err *err);

/*
 * Reads and checks everything; one reference is the caller's. -EINVAL: a file says
 * something wrong, or not enough; -EACCES: a key is readable for everybody; or
 * what open(2) and read(2) said.
 */
int tls_load(struct tls **tlsp, const struct tls_files *files, struct err *err);

/*
 * Has FN see each file that tls_load() would read now, until one is an error, which
 * is returned; -ENOMEM.
 */
int tls_files_each(const struct tls_files *files, int (*fn)(const char *path, struct err *err),
		   struct err *err);

struct tls *tls_get(struct tls *tls);
void tls_put(struct tls *tls); /* NULL is fine */

/*
 * Whether NEW, loaded again by the same options, may follow OLD: a file that is just being
 * replaced must not let somebody in. -EINVAL: clients would not have to show certificates
 * any more, or the revocation list of a CA that both trust is missing or older.
 */
int tls_check_successor(const struct tls *old, const struct tls *new, struct err *err);

/* Logs what expires soon, or has expired, by the wall clock now. */
void tls_warn_of_expiry(const struct tls *tls);

/*
 * A server's session with these credentials, which must outlive it: still without
 * transport. -ENOMEM.
 */
int tls_session_new(struct tls *tls, struct gnutls_session_int **sessionp);

#endif
