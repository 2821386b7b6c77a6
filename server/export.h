/* SPDX-License-Identifier: MIT */
/*
 * export.h - what clients may ask for by name.
 *
 * 1. The set of exports is made by main and constant while workers run; only
 *    the count of clients changes, atomically.
 * 2. Names and descriptions are valid protocol strings (UTF-8, no NUL, at most
 *    4096 bytes); names are compared byte by byte and are never paths.
 * 3. The empty name, when no export has it, means the default export.
 */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blk/backend.h"
#include "blk/dev.h"

struct export {
	unsigned index; /* in its set */
	const char *name;
	const char *description; /* "" for none */
	struct dev *dev;
	struct backend backend; /* on dev */
	uint64_t size_bytes;
	uint64_t block_min; /* of offsets and lengths; a power of two, at most 64 KiB */
	bool read_only;
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

/* One more client; false when the limit is reached. Any thread. */
bool export_enter(struct export *exp);
void export_leave(struct export *exp);

#endif
