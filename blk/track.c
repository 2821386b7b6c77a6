/* SPDX-License-Identifier: MIT */
/*
 * track.c - requests that change data, in the order in which they entered.
 *
 * The path of track_co_begin(): lock the shards of the range, append the
 * request; while an older one stands in its way, leave a waiter with that one,
 * unlock, yield, and look again from the start. track_end() takes the request
 * out under the same locks and wakes the waiters in the order they came.
 *
 * Invariants:
 * I1. A request is in the shards of all units it touches if those are at most
 *     two; else it is wide, on one list that all locks together guard.
 * I2. All locks of a request are held when it is entered, so the order of a
 *     shard's list is the order of entering for everybody on it, and wide_seq
 *     tells which wide requests are older.
 * I3. Locks are taken in the order of the shards.
 * I4. A waiter is pushed under a lock of the request waited for; all of these
 *     are held when the waiters are taken, so none is left behind. Two may be
 *     pushed at once under different locks: hence the compare-and-swap.
 */
#include "track.h"

/* --- Locks ------------------------------------------------------------------ */

static uint64_t
unit_of(uint64_t off)
{
	return off / TRACK_UNIT;
}

static bool
is_wide(const struct track_req *req)
{
	return unit_of(req->end - 1) - unit_of(req->off) > 1;
}

/* The shards of REQ as a range of at most two, or all; sorted. */
static unsigned
shards_of(const struct track_req *req, unsigned shard[2])
{
	uint64_t first = unit_of(req->off), last = unit_of(req->end - 1);

	shard[0] = (unsigned)(first % TRACK_SHARDS);
	shard[1] = (unsigned)(last % TRACK_SHARDS);
	if (shard[0] > shard[1]) {
		unsigned low = shard[1];

		shard[1] = shard[0];
		shard[0] = low;
	}
	return first == last ? 1 : 2;
}

static void
track_lock(struct track *t, const struct track_req *req)
{
	unsigned shard[2], n;

	if (unlikely(is_wide(req))) {
		for (unsigned i = 0; i < TRACK_SHARDS; i++)
			pthread_mutex_lock(&t->shards[i].lock);
		return;
	}
	n = shards_of(req, shard);
	for (unsigned i = 0; i < n; i++)
		pthread_mutex_lock(&t->shards[shard[i]].lock);
}

static void
track_unlock(struct track *t, const struct track_req *req)
{
	unsigned shard[2], n;

	if (unlikely(is_wide(req))) {
		for (unsigned i = 0; i < TRACK_SHARDS; i++)
			pthread_mutex_unlock(&t->shards[i].lock);
		return;
	}
	n = shards_of(req, shard);
	for (unsigned i = 0; i < n; i++)
		pthread_mutex_unlock(&t->shards[shard[i]].lock);
}

/* --- Places ----------------------------------------------------------------- */

static void
place_add(struct track_req *req, struct list *head)
{
	struct track_place *place = &req->place[req->nplaces++];

	place->req = req;
	list_add_tail(head, &place->link);
}

/* Both under the locks of REQ. */
static void
enter(struct track *t, struct track_req *req)
{
	unsigned shard[2], n;

	req->nplaces = 0;
	if (unlikely(is_wide(req))) {
		req->wide_seq = ++t->wide_seq;
		t->wide_serialising += req->serialises;
		place_add(req, &t->wide);
		return;
	}
	req->wide_seq = t->wide_seq;
	n = shards_of(req, shard);
	for (unsigned i = 0; i < n; i++) {
		t->shards[shard[i]].serialising += req->serialises;
		place_add(req, &t->shards[shard[i]].reqs);
	}
}

static void
leave(struct track *t, struct track_req *req)
{
	unsigned shard[2], n;

	for (unsigned i = 0; i < req->nplaces; i++)
		list_del(&req->place[i].link);
	if (unlikely(is_wide(req))) {
		t->wide_serialising -= req->serialises;
		return;
	}
	n = shards_of(req, shard);
	for (unsigned i = 0; i < n; i++)
		t->shards[shard[i]].serialising -= req->serialises;
}

/* --- Who stands in the way -------------------------------------------------- */

static bool
conflict(const struct track_req *a, const struct track_req *b)
{
	return (a->serialises || b->serialises) && a->off < b->end && b->off < a->end;
}

/* The newest request before LINK on its list HEAD that REQ must wait for. */
static struct track_req *
blocker_before(const struct track_req *req, const struct list *head, const struct list *link)
{
	for (link = link->prev; link != head; link = link->prev) {
		struct track_req *other = container_of(link, struct track_place, link)->req;

		if (conflict(req, other))
			return other;
	}
	return NULL;
}

static struct track_req *
blocker_of_narrow(struct track *t, const struct track_req *req)
{
	struct track_req *other;
	unsigned shard[2], n = shards_of(req, shard);

	for (unsigned i = 0; i < n; i++) {
		const struct track_shard *s = &t->shards[shard[i]];

		if (!req->serialises && s->serialising == 0)
			continue;
		other = blocker_before(req, &s->reqs, &req->place[i].link);
		if (other)
			return other;
	}
	if (!req->serialises && t->wide_serialising == 0)
		return NULL;
	for (const struct list *link = t->wide.prev; link != &t->wide; link = link->prev) {
		other = container_of(link, struct track_place, link)->req;
		if (other->wide_seq <= req->wide_seq && conflict(req, other))
			return other;
	}
	return NULL;
}

static struct track_req *
blocker_of_wide(struct track *t, const struct track_req *req)
{
	for (unsigned i = 0; i < TRACK_SHARDS; i++) {
		const struct track_shard *s = &t->shards[i];

		if (!req->serialises && s->serialising == 0)
			continue;
		for (const struct list *link = s->reqs.prev; link != &s->reqs; link = link->prev) {
			struct track_req *other =
				container_of(link, struct track_place, link)->req;

			if (other->wide_seq < req->wide_seq && conflict(req, other))
				return other;
		}
	}
	return blocker_before(req, &t->wide, &req->place[0].link);
}

static struct track_req *
blocker_of(struct track *t, const struct track_req *req)
{
	return unlikely(is_wide(req)) ? blocker_of_wide(t, req) : blocker_of_narrow(t, req);
}

/* --- Begin and end ---------------------------------------------------------- */

static void
waiter_push(struct track_req *req, struct loop_waiter *waiter)
{
	waiter->next = __atomic_load_n(&req->waiters, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&req->waiters, &waiter->next, waiter, true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

void
track_co_begin(struct track *t, struct loop *loop, struct track_req *req, uint64_t off,
	       uint64_t len, bool serialises)
{
	struct track_req *blocker;

	invariant(len > 0);
	req->off = off;
	req->end = off + len;
	req->serialises = serialises;
	req->waited = false;
	req->waiters = NULL;

	track_lock(t, req);
	enter(t, req);
	while ((blocker = blocker_of(t, req))) {
		struct loop_waiter waiter;

		loop_waiter_init(&waiter, loop);
		waiter_push(blocker, &waiter);
		track_unlock(t, req);
		req->waited = true;
		co_yield(loop_sched(loop));
		track_lock(t, req);
	}
	track_unlock(t, req);
}

void
track_end(struct track *t, struct loop *loop, struct track_req *req)
{
	struct loop_waiter *waiters;

	track_lock(t, req);
	leave(t, req);
	waiters = req->waiters;
	track_unlock(t, req);
	loop_wake_all(loop, waiters);
}

/* --- Life ------------------------------------------------------------------- */

void
track_init(struct track *t)
{
	for (unsigned i = 0; i < TRACK_SHARDS; i++) {
		pthread_mutex_init(&t->shards[i].lock, NULL);
		list_init(&t->shards[i].reqs);
		t->shards[i].serialising = 0;
	}
	list_init(&t->wide);
	t->wide_serialising = 0;
	t->wide_seq = 0;
}

void
track_fini(struct track *t)
{
	for (unsigned i = 0; i < TRACK_SHARDS; i++) {
		invariant(list_empty(&t->shards[i].reqs));
		pthread_mutex_destroy(&t->shards[i].lock);
	}
	invariant(list_empty(&t->wide));
}
