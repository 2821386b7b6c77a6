/* SPDX-License-Identifier: MIT */
/*
 * co.h - stackful coroutines on one thread.
 *
 * 1. A coroutine belongs to one scheduler, a scheduler to one thread; neither
 *    ever changes. Nothing here locks.
 * 2. Control goes scheduler -> coroutine -> scheduler. A coroutine never
 *    resumes another; it makes it ready, and the scheduler runs it later.
 * 3. Ready coroutines run in the order in which they became ready.
 * 4. Stacks come from a pool per scheduler, have a guard page below, and are
 *    fixed: 16 KiB for a request, 64 KiB for a connection with its handshake
 *    (four times that under a sanitizer, whose reports need room).
 *
 * Life: co_sched_init, then any number of co_spawn; the coroutine ends when
 * its function returns. co_sched_release wants all of them ended.
 */
#ifndef BLK_CO_H
#define BLK_CO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/annotate.h"
#include "base/list.h"
#include "co_switch.h"

struct co;
struct co_group;

enum co_stack {
	CO_STACK_REQUEST,
	CO_STACK_CONN,
	CO_STACK_KINDS,
};

/* Free stacks a scheduler keeps of each kind; beyond that they are unmapped. */
#define CO_STACK_KEEP 512

struct co_sched {
	struct list ready;		  /* of co.link, oldest first */
	struct list idle[CO_STACK_KINDS]; /* of co.link: stacks without a job */
	unsigned idle_count[CO_STACK_KINDS];
	unsigned live;	    /* spawned and not ended */
	struct co *current; /* the one that runs, NULL outside */
	struct co_ctx ctx;  /* the thread's own flow while a coroutine runs */
	const void *asan_stack_bottom; /* the thread's own stack, for ASAN */
	size_t asan_stack_size;
	void *tsan_fiber; /* the thread's own fiber, for TSAN */
};

/* Context: the owner thread, for all of these. */
void co_sched_init(struct co_sched *sched);

/* Unmaps the pooled stacks. Invariant: no coroutine is live. */
void co_sched_release(struct co_sched *sched);

/*
 * Maps stacks ahead of need so that the next N co_spawn of KIND cannot fail.
 * Any thread before the owner starts. -ENOMEM.
 */
int co_sched_reserve(struct co_sched *sched, enum co_stack kind, unsigned n);

/*
 * Runs what was ready at the call, and what becomes ready meanwhile, up to
 * BUDGET resumptions. Returns true when something is still ready.
 */
bool co_sched_run(struct co_sched *sched, unsigned budget) loop_fn;

static inline bool
co_sched_has_ready(const struct co_sched *sched)
{
	return !list_empty(&sched->ready);
}

/*
 * Starts FN(ARG) as a coroutine: it is put at the end of the ready list and
 * does not run before the caller returns to the scheduler or yields. When
 * GROUP is not NULL the coroutine belongs to it (co_lock.h).
 * Errors: -ENOMEM, no stack.
 */
int co_spawn(struct co_sched *sched, enum co_stack kind, struct co_group *group,
	     void (*fn)(void *), void *arg) loop_fn;

/* The running coroutine. Invariant: there is one. */
struct co *co_self(struct co_sched *sched) co_fn;

/* Sleeps until somebody calls co_ready() on this coroutine. */
void co_yield(struct co_sched *sched) co_fn;

/* Goes to the end of the ready list: lets everybody else run once. */
void co_pass(struct co_sched *sched) co_fn;

/* Makes CO, which sleeps in co_yield(), ready. Invariant: it does sleep. */
void co_ready(struct co *co) loop_fn;

#endif
