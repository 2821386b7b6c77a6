/* SPDX-License-Identifier: MIT */
/*
 * drain.h - keeping requests from a device for a while.
 *
 * 1. Every request of a queue goes through its door. drain_co_begin() closes
 *    all doors and returns when nobody is inside; who comes meanwhile waits
 *    at the door. drain_end() lets them in, in the order in which they came.
 * 2. Drains nest: the doors open when the last one ends.
 * 3. The door is its loop's own: a request looks at no shared memory.
 * 4. A request never begins a drain of its own device: it would wait for
 *    itself.
 * 5. A door that is shut lets nobody in any more: who waits in front of it, and
 *    who comes later, is told -ENOMEDIUM.
 */
#ifndef BLK_DRAIN_H
#define BLK_DRAIN_H

#include <pthread.h>
#include <stdbool.h>

#include "base/annotate.h"
#include "base/list.h"
#include "co_lock.h"
#include "loop.h"

struct drain {
	pthread_mutex_t lock; /* over the rest */
	struct list doors;    /* of drain_door.link */
	unsigned depth;	      /* drains begun and not ended */
	unsigned busy;	      /* doors that closed with somebody inside, or not yet */
	struct loop_waiter *waiters; /* newest first */
};

struct drain_door {
	struct list link; /* of drain.doors */
	struct drain *drain;
	struct loop *loop;
	/* The loop's own: */
	bool closed;
	bool shut; /* and closed, for good */
	unsigned inside;
	struct co_waitq outside;
	struct loop_call close_call, open_call;
};

void drain_init(struct drain *d);
void drain_fini(struct drain *d);

/* A door for LOOP, closed if the device is drained just now. Any thread. */
void drain_add(struct drain *d, struct drain_door *door, struct loop *loop);
/* Invariant: nobody inside, nobody waits, no drain. */
void drain_remove(struct drain *d, struct drain_door *door);

/* Context: a coroutine of LOOP that is inside of no door of D. */
void drain_co_begin(struct drain *d, struct loop *loop) co_fn;
/* Any thread. */
void drain_end(struct drain *d);

/* The device is not to be used through this door again. Invariant: nobody inside. */
void drain_shut(struct drain_door *door) loop_fn;

/* For drain_co_enter() and drain_leave(). */
int drain_co_wait_(struct drain_door *door) co_fn;
void drain_quiet_(struct drain_door *door) loop_fn;

/* Each request, from entry to return. 0, and drain_leave() is to follow; or -ENOMEDIUM. */
static inline int co_fn
drain_co_enter(struct drain_door *door)
{
	int ret = 0;

	if (unlikely(door->closed))
		ret = drain_co_wait_(door);
	if (likely(ret == 0))
		door->inside++;
	return ret;
}

static inline void loop_fn
drain_leave(struct drain_door *door)
{
	if (--door->inside == 0 && unlikely(door->closed))
		drain_quiet_(door);
}

#endif
