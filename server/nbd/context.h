/* SPDX-License-Identifier: MIT */
/*
 * context.h - metadata contexts: what BLOCK_STATUS can tell of an export.
 *
 * 1. A context is a name that clients agree on and a function that tells of the
 *    extent at an offset. All there are stand in one table; a set of them is a
 *    word of bits, in the order of the table.
 * 2. On the wire a context has an id. Ids differ from session to session, so
 *    that nobody takes them for constants: a base of the session, and the
 *    context's place in the table.
 *
 * Namespaces: "base" is the protocol's; "qemu" is registered, and its contexts
 * mean here what QEMU's documentation of them says; what is blkgate's own is to
 * be "x-blkgate".
 * Source: NBD protocol, "Metadata querying", "Metadata contexts"; QEMU,
 * docs/interop/nbd.
 */
#ifndef NBD_CONTEXT_H
#define NBD_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"

struct queue;

/* Bits of a set; so many contexts there can be. */
#define CONTEXTS_MAX 32

struct context_extent {
	uint64_t len;	/* bytes, at most as many as were asked for */
	uint32_t flags; /* whatever the context means by them */
};

struct context {
	const char *name;
	/*
	 * Tells of Q's device from OFF on, LEN > 0 bytes at most. It may tell of
	 * less than is alike, but of one byte at least. 0 or -errno. Context: co.
	 */
	int (*co_extent)(struct queue *q, uint64_t off, uint64_t len,
			 struct context_extent *extent);
};

/* The context with bit 1 << INDEX; NULL beyond the last. */
const struct context *context_at(unsigned index);

/*
 * The contexts that a client's QUERY means. LISTING: a namespace with nothing
 * behind its colon is all of it; to select, a name is given in full.
 */
uint32_t context_match(const char *query, size_t len, bool listing);
/* All that are offered for any export. */
uint32_t context_all(void);

/* Ids are ID_BASE plus the index; 32 bits that may wrap. */
uint32_t context_bit(uint32_t id, uint32_t id_base);

#endif
