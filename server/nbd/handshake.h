/* SPDX-License-Identifier: MIT */
/*
 * handshake.h - fixed newstyle negotiation: greeting and options.
 *
 * 1. Nothing an option says is applied before its last byte has checked out.
 * 2. Each option gets exactly one final reply; data of a refused one is read
 *    to its end, so the two sides stay in step.
 * 3. No option costs memory in proportion to what the client claims.
 *
 * Source: NBD protocol, "Fixed newstyle negotiation", "Option types".
 */
#ifndef NBD_HANDSHAKE_H
#define NBD_HANDSHAKE_H

#include "conn.h"
#include "proto.h"
#include "wire.h"

/*
 * Negotiates. When conn->exp is set afterwards, transmission begins: export
 * entered, queue and limits set. Otherwise the connection is to be closed; the
 * result says why (0: the client said ABORT).
 */
int handshake_co_run(struct conn *conn) co_fn;

/* --- For the options' files (opt_*.c) --------------------------------------- */

/* Replies gather here until the final one: a LIST is one send, not hundreds. */
#define HANDSHAKE_OUT_BYTES (16u << 10)

struct handshake {
	struct conn *conn;
	bool fixed;	/* the client knows fixed newstyle */
	bool no_zeroes; /* and leaves the 124 zeroes out */
	unsigned options, options_max;
	bool asked_sizes; /* the option being answered asked for the block sizes */
	struct nbd_option opt; /* the one being answered */
	uint16_t verdicts[LIMIT_EXPORTS]; /* of the gate's rules, if it has any */
	size_t out_len;
	char name[LIMIT_STRING_BYTES];
	char query[LIMIT_STRING_BYTES];
	uint8_t out[HANDSHAKE_OUT_BYTES];
};

/* What an option's handler returns, besides -errno for the end. */
enum {
	HANDSHAKE_NEXT = 0, /* on to the next option */
	HANDSHAKE_DONE = 1, /* the handshake is over */
};

/* One reply of several: TYPE and LEN bytes of DATA. 0 or the transport's error. */
int handshake_co_item(struct handshake *h, uint32_t type, const void *data, size_t len) co_fn;

/* The final reply. */
int handshake_co_ack(struct handshake *h) co_fn;
int handshake_co_error(struct handshake *h, uint32_t type, const char *fmt, ...)
	printf_fn(3, 4) co_fn;

/* Puts raw bytes into the stream (EXPORT_NAME has no option reply). */
int handshake_co_raw(struct handshake *h, const void *data, size_t len) co_fn;
int handshake_co_flush(struct handshake *h) co_fn;

/*
 * Looks up what this client may do with each export. Again when more is known of it:
 * its certificate, or its PSK user.
 */
void handshake_judge(struct handshake *h);

/*
 * Exchanges the gate for the one in force, if that is another one by now, and judges
 * anew. What is answered without a yield since is by the rules in force.
 */
void handshake_renew(struct handshake *h);

/* That of EXP: an export with ACCESS_NONE does not exist for this client. */
enum access_right handshake_right(const struct handshake *h, const struct export *exp);

/*
 * The export of the LEN bytes in h->name, by the rules in force now. -ENOENT; -EACCES for
 * one that does not exist for this client only, which has been logged: the client gets, to
 * the byte, the same answer.
 */
int handshake_find(struct handshake *h, uint32_t len, struct export **expp);

/*
 * The client chose EXP, which exists for it: counts it in and fills conn's exp,
 * queue and limits. -EBUSY when the export has all the clients it may have, -EACCES
 * when this one may not enter, which has been logged, -ENODEV when its device cannot
 * be used by this worker now; ERR says why, in words for the client.
 */
int handshake_choose(struct handshake *h, struct export *exp, struct err *err) loop_fn;

/* Transmission flags of EXP, as this session stands. */
uint16_t handshake_tflags(const struct handshake *h, const struct export *exp);

/* Contexts of EXP that were selected, bits of context.h: none if it was another export. */
uint32_t handshake_contexts(const struct handshake *h, const struct export *exp);

/*
 * Forgets whatever options have agreed on. What was said in clear must not count
 * once TLS is up.
 */
void handshake_forget(struct handshake *h);

/* Reads a length and a name, which goes to h->name if it is not too long; the length. */
uint32_t handshake_co_name(struct handshake *h, struct wire *wire) co_fn;

/*
 * The export of a name of LEN bytes that was read so; or NULL, and ERR_INVALID,
 * ERR_TLS_REQD or ERR_UNKNOWN has been answered with *RET as the result.
 */
struct export *handshake_co_find(struct handshake *h, uint32_t len, int *ret) co_fn;

/*
 * The handlers. Each reads its option's data, all of it, and replies; 0 or 1
 * as above, or -errno to end the connection.
 */
int opt_co_export_name(struct handshake *h) co_fn;
int opt_co_list(struct handshake *h) co_fn;
int opt_co_starttls(struct handshake *h) co_fn;
int opt_co_info_or_go(struct handshake *h) co_fn;
int opt_co_structured_reply(struct handshake *h) co_fn;
int opt_co_extended_headers(struct handshake *h) co_fn;
int opt_co_meta_context(struct handshake *h) co_fn;

#endif
