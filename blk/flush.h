/* SPDX-License-Identifier: MIT */
/*
 * flush.h - one flush at a time for all workers of a device.
 *
 * 1. Each queue counts the changes it has completed: its generation. Their sum
 *    is the device's. A flush covers the generation at its start.
 * 2. At most one flush is at the driver. Who comes meanwhile waits; who finds
 *    its generation covered is done without one of its own.
 * 3. Only success advances what is covered. After the first failure (dev.h)
 *    nothing is covered any more.
 * 4. Sums are read under the lock, so of two of them each part of the later
 *    one is no smaller; equal sums mean equal parts.
 * 5. The first flush after opening always goes down: what an earlier process
 *    wrote and its clients rely on may still be on its way.
 */
#ifndef BLK_FLUSH_H
#define BLK_FLUSH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/annotate.h"
#include "base/list.h"
#include "loop.h"

struct queue;

/* Of one queue; written by its loop only. */
struct flush_writer {
	struct list link; /* of flush.writers */
	uint64_t generation;
};

struct flush {
	pthread_mutex_t lock; /* over the rest */
	struct list writers;  /* of flush_writer.link */
	uint64_t gone;	      /* generations of writers that were removed, and 1 */
	uint64_t covered;
	bool running;
	struct loop_waiter *waiters; /* newest first */
};

void flush_init(struct flush *f);
void flush_fini(struct flush *f);

/* Any thread. */
void flush_add(struct flush *f, struct flush_writer *w);
void flush_remove(struct flush *f, struct flush_writer *w);

/* A change has completed, in whatever way. Context: the writer's loop. */
static inline void
flush_changed(struct flush_writer *w)
{
	__atomic_store_n(&w->generation, w->generation + 1, __ATOMIC_RELEASE);
}

/* Everything that completed before the call, on any queue, is stable; or -EIO. */
int flush_co(struct queue *q) co_fn;

#endif
