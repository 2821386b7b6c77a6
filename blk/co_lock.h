/* SPDX-License-Identifier: MIT */
/*
 * co_lock.h - how coroutines of one thread wait for each other.
 *
 * 1. All of it belongs to one scheduler; other threads go through loop_call.
 * 2. Every wait is FIFO. A waiter that was woken, found that it must wait
 *    again and has already queued once may go back to the front.
 * 3. Waking only makes ready: nobody runs inside a wake.
 * 4. What is waited for is handed over at the wake (mutex, semaphore, budget),
 *    so a newcomer cannot steal it between wake and run.
 */
#ifndef BLK_CO_LOCK_H
#define BLK_CO_LOCK_H

#include <stdbool.h>

#include "base/annotate.h"
#include "base/list.h"
#include "co.h"

/* --- Wait queue ------------------------------------------------------------- */

struct co_waitq {
	struct list waiters;
};

void co_waitq_init(struct co_waitq *q);

static inline bool
co_waitq_empty(const struct co_waitq *q)
{
	return list_empty(&q->waiters);
}

/* Waits for a wake. The condition may be false again on return: look. */
void co_waitq_wait(struct co_waitq *q, struct co_sched *sched) co_fn;
/* The same, before everybody else: for one that has queued before. */
void co_waitq_wait_front(struct co_waitq *q, struct co_sched *sched) co_fn;
/* Wakes the first; false when nobody waits. */
bool co_waitq_wake_one(struct co_waitq *q) loop_fn;
void co_waitq_wake_all(struct co_waitq *q) loop_fn;

/* --- Mutex ------------------------------------------------------------------ */

struct co_mutex {
	bool locked;
	struct co_waitq waiters;
};

void co_mutex_init(struct co_mutex *m);
void co_mutex_lock(struct co_mutex *m, struct co_sched *sched) co_fn;
void co_mutex_unlock(struct co_mutex *m) loop_fn;

/* --- Semaphore -------------------------------------------------------------- */

struct co_sem {
	unsigned count;
	struct co_waitq waiters;
};

void co_sem_init(struct co_sem *s, unsigned count);
void co_sem_down(struct co_sem *s, struct co_sched *sched) co_fn;
void co_sem_up(struct co_sem *s) loop_fn;

/* --- Budget ----------------------------------------------------------------- */

/*
 * A semaphore counted in bytes: whoever wants more than is left waits, and so
 * does everybody behind it.
 */
struct co_budget {
	size_t left;
	struct list waiters;
};

void co_budget_init(struct co_budget *b, size_t bytes);
/* Invariant: BYTES is no more than the whole budget. */
void co_budget_take(struct co_budget *b, struct co_sched *sched, size_t bytes) co_fn;
void co_budget_give(struct co_budget *b, size_t bytes) loop_fn;

/* --- Group ------------------------------------------------------------------ */

/*
 * Coroutines that somebody waits for: whoever starts others waits for them
 * before it returns, so what they point to may live in its frame.
 */
struct co_group {
	unsigned running;
	struct co *waiter; /* in co_group_wait(), or NULL */
};

void co_group_init(struct co_group *g);
/* Waits until every coroutine spawned into G has ended. One waiter at a time. */
void co_group_wait(struct co_group *g, struct co_sched *sched) co_fn;

/* For co.c only. */
void co_group_join_(struct co_group *g);
void co_group_leave_(struct co_group *g) loop_fn;

#endif
