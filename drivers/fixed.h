/* SPDX-License-Identifier: MIT */
/*
 * fixed.h - the memory regions that one queue has registered with its ring.
 *
 * 1. A region is registered at the first request from it, one system call; all
 *    later requests look it up without lock or system call.
 * 2. Regions of a device may be mapped and unmapped by another thread: the
 *    table follows the device's generation. A region that is gone stays
 *    registered (its pages pinned) until the queue's next request, but is never
 *    found again: its id is not.
 * 3. What the kernel refuses (too long, limit on locked memory) is used like
 *    any other memory, and not tried again before the regions change.
 */
#ifndef DRIVERS_FIXED_H
#define DRIVERS_FIXED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "driver.h"
#include "uring.h"

/* Slots in the ring's buffer table. */
#define FIXED_SLOTS 64

/* A mapped region as the queue sees it. */
struct fixed_region {
	uintptr_t addr, end;
	uint64_t id;
	int slot; /* in the ring, or one of: */
#define FIXED_UNTRIED (-1)
#define FIXED_REFUSED (-2)
};

struct fixed_table {
	struct uring *ring;
	struct blkio *dev;
	uint64_t generation; /* of the device's regions, when copied */
	struct fixed_region *regions; /* by address, disjoint */
	size_t len, cap;
	size_t hit; /* where the last one was found */
	uint64_t slot_id[FIXED_SLOTS]; /* region in each slot, 0: none */
};

/* False when the kernel has no sparse tables; T is unused then. */
bool fixed_init(struct fixed_table *t, struct uring *ring, struct blkio *dev);

void fixed_release(struct fixed_table *t);

/* The slow part of fixed_find(). */
int fixed_lookup(struct fixed_table *t, uintptr_t addr, size_t len);

/* The slot that holds LEN bytes at BUF, or a negative number. */
static inline int
fixed_find(struct fixed_table *t, const void *buf, size_t len)
{
	uintptr_t addr = (uintptr_t)buf;

	if (likely(t->generation == atomic_load_explicit(&t->dev->region_generation,
							 memory_order_acquire))) {
		const struct fixed_region *r;

		if (!t->len)
			return FIXED_REFUSED;
		r = &t->regions[t->hit];
		if (addr >= r->addr && addr < r->end && len <= r->end - addr &&
		    r->slot != FIXED_UNTRIED)
			return r->slot;
	}
	return fixed_lookup(t, addr, len);
}

#endif
