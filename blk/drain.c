/* SPDX-License-Identifier: MIT */
/*
 * drain.c - doors that close and open; see drain.h.
 *
 * The path: drain_co_begin() sends each door's loop a call that closes it. A
 * door with nobody inside is quiet at once, another one when its last request
 * leaves. The last quiet door wakes all who began a drain.
 *
 * Invariants:
 * I1. busy counts the doors that are not yet quiet of the drain that runs.
 * I2. A door's close_call is queued only when no drain runs, and drains end
 *     only after they were quiet: so neither call is queued twice at once.
 */
#include "drain.h"

#include <errno.h>

/* --- Doors, on their loops -------------------------------------------------- */

void
drain_quiet_(struct drain_door *door)
{
	struct drain *d = door->drain;
	struct loop_waiter *waiters = NULL;

	pthread_mutex_lock(&d->lock);
	if (--d->busy == 0) {
		waiters = d->waiters;
		d->waiters = NULL;
	}
	pthread_mutex_unlock(&d->lock);
	loop_wake_all(door->loop, waiters);
}

int
drain_co_wait_(struct drain_door *door)
{
	/* A drain that begins again before we run finds the door closed. */
	while (door->closed && !door->shut)
		co_waitq_wait(&door->outside, loop_sched(door->loop));
	return door->shut ? -ENOMEDIUM : 0;
}

void
drain_shut(struct drain_door *door)
{
	struct drain *d = door->drain;
	bool counted;

	invariant(door->inside == 0);
	pthread_mutex_lock(&d->lock);
	list_del(&door->link);
	/* A drain has begun, and its call has not come yet; it may never be run. */
	counted = d->depth > 0 && !door->closed;
	pthread_mutex_unlock(&d->lock);
	door->shut = true;
	door->closed = true;
	if (counted)
		drain_quiet_(door);
	co_waitq_wake_all(&door->outside);
}

static void
close_called(struct loop_call *call)
{
	struct drain_door *door = container_of(call, struct drain_door, close_call);

	loop_assert();
	if (door->shut)
		return; /* it was quiet then */
	door->closed = true;
	if (door->inside == 0)
		drain_quiet_(door);
}

static void
open_called(struct loop_call *call)
{
	struct drain_door *door = container_of(call, struct drain_door, open_call);

	loop_assert();
	door->closed = door->shut;
	co_waitq_wake_all(&door->outside);
}

/* --- Drains ----------------------------------------------------------------- */

void
drain_co_begin(struct drain *d, struct loop *loop)
{
	struct drain_door *door;
	struct loop_waiter waiter;

	pthread_mutex_lock(&d->lock);
	if (d->depth++ == 0) {
		list_for_each(door, &d->doors, link) {
			d->busy++;
			loop_call(door->loop, &door->close_call, close_called);
		}
	}
	if (d->busy == 0) {
		pthread_mutex_unlock(&d->lock);
		return;
	}
	loop_waiter_init(&waiter, loop);
	waiter.next = d->waiters;
	d->waiters = &waiter;
	pthread_mutex_unlock(&d->lock);
	co_yield(loop_sched(loop));
}

void
drain_end(struct drain *d)
{
	struct drain_door *door;

	pthread_mutex_lock(&d->lock);
	invariant(d->depth > 0 && d->busy == 0);
	if (--d->depth == 0)
		list_for_each(door, &d->doors, link)
			loop_call(door->loop, &door->open_call, open_called);
	pthread_mutex_unlock(&d->lock);
}

/* --- Life ------------------------------------------------------------------- */

void
drain_init(struct drain *d)
{
	*d = (struct drain){ 0 };
	pthread_mutex_init(&d->lock, NULL);
	list_init(&d->doors);
}

void
drain_fini(struct drain *d)
{
	invariant(d->depth == 0 && list_empty(&d->doors));
	pthread_mutex_destroy(&d->lock);
}

void
drain_add(struct drain *d, struct drain_door *door, struct loop *loop)
{
	*door = (struct drain_door){ .drain = d, .loop = loop };
	co_waitq_init(&door->outside);
	pthread_mutex_lock(&d->lock);
	door->closed = d->depth > 0;
	list_add_tail(&d->doors, &door->link);
	pthread_mutex_unlock(&d->lock);
}

void
drain_remove(struct drain *d, struct drain_door *door)
{
	invariant(door->inside == 0 && co_waitq_empty(&door->outside));
	if (door->shut)
		return;
	pthread_mutex_lock(&d->lock);
	list_del(&door->link);
	pthread_mutex_unlock(&d->lock);
}
