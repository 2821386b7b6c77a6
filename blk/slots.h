/* SPDX-License-Identifier: MIT */
/*
 * slots.h - a fixed number of equal pieces of memory, for one loop.
 *
 * 1. Whoever finds none free waits in line; a piece that comes back goes to
 *    the first of the line.
 * 2. The memory is mapped at once and touched on first use only. It is a
 *    memfd, so that a driver which needs regions with descriptors can have it.
 */
#ifndef BLK_SLOTS_H
#define BLK_SLOTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"
#include "buf.h"
#include "co_lock.h"
#include "err.h"
#include "loop.h"

struct slots {
	struct loop *loop;
	char *mem;
	size_t slot_bytes;
	unsigned n;
	int fd;
	struct co_sem free;
	uint16_t *stack; /* of free slots' numbers */
	unsigned depth;
};

/* N slots (65535 at most) of SLOT_BYTES, each aligned to ALIGN, a power of two. */
int slots_init(struct slots *s, struct loop *loop, unsigned n, size_t slot_bytes, size_t align,
	       struct err *err);
/* Invariant: all slots are back. Zeroed and never initialised is fine. */
void slots_fini(struct slots *s);

void *slots_co_get(struct slots *s) co_fn;
void slots_put(struct slots *s, void *slot) loop_fn;

/* All of the memory. */
void slots_region(const struct slots *s, struct buf_region *region);

#endif
