/* SPDX-License-Identifier: MIT */
/*
 * exchange.h - a second opinion on the transmission.
 *
 * 1. It reads the requests in the script, gives each a cookie of its own and
 *    each WRITE data that tell who wrote them, and has request_check() judge
 *    it: the answer must be the verdict, or, for a request that is good, what
 *    the device may have said.
 * 2. It reads the server's bytes strictly: headers of the session's kind, one
 *    last reply for each request and none for one that was not sent, chunks
 *    that cover what they have to, extents and errors within their rules.
 * 3. It knows for each byte of the disk's kept part which writes a read may show:
 *    not one that another, begun after its end, has overwritten before the read.
 *    Holes and extents of zeroes must be true in the same way.
 *
 * Source: NBD protocol, "Transmission".
 */
#ifndef FUZZ_EXCHANGE_H
#define FUZZ_EXCHANGE_H

#include "haggle.h"
#include "server/nbd/request.h"

#define EXCHANGE_REQUESTS 1024
/* Writes to what is kept. */
#define EXCHANGE_WRITES 48

struct exchange_piece {
	uint64_t off, len;
};

struct exchange_request {
	struct nbd_request nbd;
	size_t header_end, end; /* in the script; end: of the payload, too */
	int verdict;		/* of request_check(): 0 or -errno */
	bool drops;		/* a payload too long to be read: answered, then the end */
	bool zeroes;		/* a WRITE of zeroes */
	uint32_t contexts;	/* of a BLOCK_STATUS: bits */
	unsigned write;		/* number of what it writes, from 1 on; 0: nothing that counts */

	uint64_t sent_at;     /* moments; 0: not yet */
	uint64_t answered_at; /* its last reply */
	bool succeeded;	      /* if answered */

	/* Of a reply in chunks, so far. */
	bool error;
	uint32_t contexts_told;
	uint64_t covered; /* bytes */
	struct exchange_piece *pieces;
	unsigned npieces, pieces_max;
};

struct exchange {
	struct watcher watcher;

	/* Constant. */
	struct request_limits limits;
	uint32_t ids[HAGGLE_CONTEXTS];
	uint64_t cookie_base;
	unsigned codes; /* errors that the device may cause: bits of enum nbd_error below 32 */
	struct exchange_piece bad; /* the one place that cannot be read; length 0: who knows */

	/* What the client says, as far as it was read. */
	size_t read; /* bytes */
	bool ended;  /* nothing that follows is a request */
	bool full;   /* nor may be: there are as many as can be told apart */
	struct exchange_request requests[EXCHANGE_REQUESTS];
	unsigned nrequests;
	unsigned writes[EXCHANGE_WRITES + 1]; /* requests, by what they write */
	unsigned nwrites;

	/* What was exchanged. */
	uint64_t moment;
	unsigned sent; /* requests that were sent to their last byte */
	size_t sent_bytes;
	unsigned answered;
	uint8_t *buf; /* bytes of a reply that is not complete */
	size_t have, room;
};

/*
 * After H led to transmission. SEED: cookies and data are made from it.
 */
void exchange_init(struct exchange *x, const struct haggle *h, uint64_t seed);
void exchange_release(struct exchange *x);

/*
 * Reads on in what the client is to send, whole requests only, and fills in
 * cookies and data. When it is full the script must end with what was read.
 */
void exchange_read(struct exchange *x, uint8_t *bytes, size_t len);

void exchange_received(struct exchange *x, const uint8_t *data, size_t len);
void exchange_sent(struct exchange *x, size_t total);
bool exchange_settled(const struct exchange *x);

/* The connection is over; SPOILED: not all that was sent needs an answer. */
void exchange_end(const struct exchange *x, bool spoiled);

#endif
