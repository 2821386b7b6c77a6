/* SPDX-License-Identifier: MIT */
/*
 * haggle.h - a second opinion on the handshake.
 *
 * 1. It reads the bytes that the client is to send, as a server would, and
 *    knows for each option which final reply it must get, if any.
 * 2. It reads the server's bytes strictly: greeting, replies in the order of the
 *    options, each one's number, length and place; items only where they belong.
 * 3. It never looks into the server.
 *
 * Source: NBD protocol, "Fixed newstyle negotiation", "Option types".
 */
#ifndef FUZZ_HAGGLE_H
#define FUZZ_HAGGLE_H

#include "server/nbd/proto.h"
#include "session.h"

#define HAGGLE_OPTIONS 128
#define HAGGLE_CONTEXTS 2
/* All of one option's replies but LIST's, with names and texts as short as they mostly are. */
#define HAGGLE_REPLY_BYTES 640

struct haggle_option {
	uint32_t number;
	size_t end;		  /* of its bytes in the script */
	uint32_t want;		  /* final reply */
	uint32_t items;		  /* that must come before an ACK: bits, see haggle.c */
	const struct export *exp; /* that it is about */
	uint32_t contexts;	  /* of *_META_CONTEXT: bits */
	uint16_t tflags;	  /* of INFO and GO */
	bool asked_sizes;
};

struct haggle {
	struct watcher watcher; /* of sent and received bytes, before transmission */

	/* What the client says, as far as it was read. */
	size_t read; /* bytes */
	bool greeted, fixed, no_zeroes;
	bool ended; /* nothing that follows is an option, or looked at */
	enum nbd_headers headers;
	uint32_t contexts; /* that are selected, for context_export */
	const struct export *context_export;
	struct haggle_option options[HAGGLE_OPTIONS];
	unsigned noptions;

	/* What it leads to. */
	const struct export *exp; /* transmission begins; NULL: it does not */
	uint32_t exp_contexts;

	/* What was exchanged. */
	size_t sent;
	unsigned answered; /* options */
	uint32_t seen;	   /* items of the one that is being answered: bits */
	uint64_t out_bytes, list_bytes, long_bytes;
	bool done; /* what follows is of the transmission */
	size_t have;
	uint8_t buf[16 << 10];

	/* What the server told in the option that led to transmission. */
	uint64_t size_bytes;
	uint16_t tflags;
	bool told_sizes;
	uint32_t minimum, preferred, maximum;
	uint32_t ids[HAGGLE_CONTEXTS];
};

void haggle_init(struct haggle *h);

/* Reads on in what the client is to send: whole messages only. */
void haggle_read(struct haggle *h, const uint8_t *bytes, size_t len);

/*
 * Takes the server's bytes; returns how many of them belong to the handshake.
 * They are the watcher's functions, too.
 */
size_t haggle_received(struct haggle *h, const uint8_t *data, size_t len);
void haggle_sent(struct haggle *h, size_t total);
bool haggle_settled(const struct haggle *h);

/* The connection is over; SPOILED: not all that was sent needs an answer. */
void haggle_end(const struct haggle *h, bool spoiled);

#endif
