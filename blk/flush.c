/* SPDX-License-Identifier: MIT */
/*
 * flush.c - joining and skipping flushes; see flush.h.
 *
 * The path of flush_co(): under the lock, note the generation to be covered;
 * wait while somebody else's flush runs; if that did not cover it, run one:
 * note the generation at its start, unlock, flush, lock, and on success that
 * is what is covered. Whoever ends a flush wakes all who wait.
 */
#include "flush.h"

#include <errno.h>

#include "queue.h"

/* Under the lock: flush.h, 4. */
static uint64_t
generation(const struct flush *f)
{
	uint64_t sum = f->gone;
	struct flush_writer *w;

	list_for_each(w, &f->writers, link)
		sum += __atomic_load_n(&w->generation, __ATOMIC_ACQUIRE);
	return sum;
}

static int co_fn
flush_at_driver(struct queue *q)
{
	struct queue_io io;
	int ret;

	queue_flush(q, &io);
	ret = queue_co_wait(q, &io);
	/* Whoever's sync it was that heard of the loss: ours may be in it. */
	return ret < 0 || dev_flush_failed(queue_dev(q)) ? -EIO : 0;
}

int
flush_co(struct queue *q)
{
	struct flush *f = &queue_dev(q)->flush;
	struct loop *loop = queue_loop(q);
	struct loop_waiter *waiters;
	uint64_t wanted, covers;
	bool waited = false;
	int ret;

	pthread_mutex_lock(&f->lock);
	wanted = generation(f);
	while (f->running && f->covered < wanted) {
		struct loop_waiter waiter;

		loop_waiter_init(&waiter, loop);
		waiter.next = f->waiters;
		f->waiters = &waiter;
		pthread_mutex_unlock(&f->lock);
		waited = true;
		co_yield(loop_sched(loop));
		pthread_mutex_lock(&f->lock);
	}
	if (dev_flush_failed(queue_dev(q)) || f->covered >= wanted) {
		pthread_mutex_unlock(&f->lock);
		if (dev_flush_failed(queue_dev(q)))
			return -EIO;
		queue_count(q, waited ? QUEUE_FLUSHES_JOINED : QUEUE_FLUSHES_SKIPPED, 1);
		return 0;
	}
	f->running = true;
	covers = generation(f);
	pthread_mutex_unlock(&f->lock);

	ret = flush_at_driver(q);

	pthread_mutex_lock(&f->lock);
	f->running = false;
	if (ret == 0)
		f->covered = covers;
	waiters = f->waiters;
	f->waiters = NULL;
	pthread_mutex_unlock(&f->lock);
	loop_wake_all(loop, waiters);
	return ret;
}

void
flush_add(struct flush *f, struct flush_writer *w)
{
	w->generation = 0;
	pthread_mutex_lock(&f->lock);
	list_add_tail(&f->writers, &w->link);
	pthread_mutex_unlock(&f->lock);
}

void
flush_remove(struct flush *f, struct flush_writer *w)
{
	pthread_mutex_lock(&f->lock);
	f->gone += w->generation;
	list_del(&w->link);
	pthread_mutex_unlock(&f->lock);
}

void
flush_init(struct flush *f)
{
	*f = (struct flush){ .gone = 1 };
	pthread_mutex_init(&f->lock, NULL);
	list_init(&f->writers);
}

void
flush_fini(struct flush *f)
{
	invariant(!f->running && list_empty(&f->writers));
	pthread_mutex_destroy(&f->lock);
}
