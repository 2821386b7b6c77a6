/* SPDX-License-Identifier: MIT */
/*
 * export.h - what clients may ask for by name.
 *
 * 1. The set of exports is made by main and constant while workers run; only
 *    the count of clients changes, atomically.
 * 2. Names and descriptions are valid protocol strings (UTF-8, no NUL, at most
 *    4096 bytes); names are compared byte by byte and are never paths.
 * 3. The empty name, when no export has it, means the default export.
 * 4. Whatever sizes are announced, a client that did not ask for them may send
 *    requests of single bytes; the block layer pads them.
 */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blk/backend.h"
#include "blk/dev.h"

/* Sizes of requests in bytes, as NBD_INFO_BLOCK_SIZE announces them. */
struct block_sizes {
	uint32_t minimum;   /* a power of two, at most 64 KiB */
	uint32_t preferred; /* a power of two, at least 512 and the minimum */
	uint32_t maximum;   /* of payloads; at least the preferred size */
};

/* What a READ tells as a hole rather than as zeroes, to a client that can be told. */
enum export_sparse {
	EXPORT_SPARSE_STATUS, /* what the device says is one */
	EXPORT_SPARSE_ZEROES, /* and data that turns out to be zero */
	EXPORT_SPARSE_OFF,
};

struct export {
	unsigned index; /* in its set */
	const char *name;
	const char *description; /* "" for none */
	struct dev *dev;
	struct backend backend; /* on dev */
	uint64_t size_bytes;
	struct block_sizes sizes;
	bool strict; /* who asks for the sizes is held to the minimum, which is the device's */
	enum export_sparse sparse;
	bool read_only;
	bool tls_required; /* who has no TLS does not see it */
	unsigned clients_max; /* 0: no limit */
	unsigned clients;     /* in transmission; atomic */
};

struct export_set {
	struct export *exports;
	unsigned count;
	struct export *fallback; /* for the empty name */
};

/* The export of that name, or NULL. Any thread. */
struct export *export_find(const struct export_set *set, const char *name, size_t len);

/*
 * Fills in EXP's sizes: those of WANTED that are not 0, and for the rest what its
 * device is best at. Context: main.
 */
void export_set_sizes(struct export *exp, const struct block_sizes *wanted);

/* What a client is told that ASKED for the sizes, or did not. */
struct block_sizes export_sizes_for(const struct export *exp, bool asked);

/* One more client; false when the limit is reached. Any thread. */
bool export_enter(struct export *exp);
void export_leave(struct export *exp);

#endif
