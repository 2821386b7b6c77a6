/* SPDX-License-Identifier: MIT */
/*
 * tls_expiry.h - when credentials end, and what is said of it ahead.
 *
 * 1. A list is filled while credentials are loaded, and is constant from then on.
 * 2. What is said is a function of the list and of the wall clock, which is looked at
 *    for nothing else: when a line is due nothing happens but the line.
 *
 * Threads: any, once it is constant.
 */
#ifndef SERVER_TLS_EXPIRY_H
#define SERVER_TLS_EXPIRY_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "blk/err.h"

enum tls_expiry_kind {
	TLS_EXPIRY_OWN,	    /* the server's certificate, or one between it and its CA's */
	TLS_EXPIRY_TRUSTED, /* of who signs clients' ones */
	TLS_EXPIRY_REVOKED, /* a revocation list, whose next one is due then */
};

struct tls_expiry {
	enum tls_expiry_kind kind;
	char *file;
	unsigned number; /* in the file, from 1 */
	time_t end;
};

struct tls_expiries {
	struct tls_expiry *items;
	unsigned count;
};

/* All zero is an empty list. -ENOMEM. */
int tls_expiries_add(struct tls_expiries *list, enum tls_expiry_kind kind, const char *file,
		     unsigned number, time_t end, struct err *err);
void tls_expiries_release(struct tls_expiries *list);

/*
 * Whether there is something to say of E at NOW: from 30 days ahead on, of a
 * revocation list, which may be a new one each day, from one day. Then LINE is it.
 */
#define TLS_EXPIRY_LINE_MAX 512
bool tls_expiry_line(const struct tls_expiry *e, time_t now, char line[TLS_EXPIRY_LINE_MAX]);

/* Logs all that there is to say now. */
void tls_expiries_warn(const struct tls_expiries *list);

#endif
