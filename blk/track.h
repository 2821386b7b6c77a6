/* SPDX-License-Identifier: MIT */
/*
 * track.h - who may run beside whom on a device with request alignment.
 *
 * A request that is not aligned rewrites bytes of its neighbours: it reads a
 * block, changes some of it and writes it back. What a neighbour writes in
 * between would be lost. So such a request serialises: its range is rounded
 * out to whole blocks, and two requests whose ranges overlap do not run
 * together if either of them serialises. Writes that do not serialise may
 * overlap: either result is what the client asked for.
 *
 * 1. Every request that changes data is tracked, from before it reads until
 *    after it wrote. Reads are not: a rewritten neighbour reads the same.
 * 2. Requests are ordered by the moment they entered. Each waits for older
 *    ones only, so no circle of waiting can form and nobody is overtaken for
 *    ever.
 * 3. The device has one tracker for all workers. Who waits for a request of
 *    another worker is woken by a loop_call().
 * 4. A device with request alignment 1 is never tracked.
 */
#ifndef BLK_TRACK_H
#define BLK_TRACK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/annotate.h"
#include "base/list.h"
#include "loop.h"

#define TRACK_SHARDS 64
/* Bytes of the device whose requests share a shard. */
#define TRACK_UNIT (1u << 20)

struct track_shard {
	pthread_mutex_t lock;
	struct list reqs;     /* of track_req.place[], oldest first */
	unsigned serialising; /* how many of them serialise */
} __attribute__((aligned(64)));

struct track {
	struct track_shard shards[TRACK_SHARDS];
	/* Of requests too wide for two shards: changed under all locks, read under any. */
	struct list wide; /* of track_req.place[0], oldest first */
	unsigned wide_serialising;
	uint64_t wide_seq; /* of the newest */
};

struct track_place {
	struct list link;
	struct track_req *req;
};

/* One request in flight; lives in its coroutine's frame. */
struct track_req {
	uint64_t off, end; /* the overlap range: [off, end) */
	bool serialises;
	bool waited; /* for the counters */
	unsigned nplaces;
	struct track_place place[2];
	uint64_t wide_seq; /* wide: its own; else: of the newest wide one before it */
	struct loop_waiter *waiters; /* newest first */
};

/* Context: main, while the device has no request. */
void track_init(struct track *t);
void track_fini(struct track *t);

/*
 * Enters REQ with the range [OFF, OFF + LEN), LEN > 0, and waits for whatever
 * must not run beside it. Each such call is followed by one track_end().
 */
void track_co_begin(struct track *t, struct loop *loop, struct track_req *req, uint64_t off,
		    uint64_t len, bool serialises) co_fn;

/* Lets go of those who wait for REQ. Context: the loop that entered it. */
void track_end(struct track *t, struct loop *loop, struct track_req *req) loop_fn;

#endif
