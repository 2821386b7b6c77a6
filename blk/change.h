/* SPDX-License-Identifier: MIT */
/*
 * change.h - what every request that changes data has around it.
 *
 * 1. In this order: the device's door, the checks, the place among overlapping
 *    requests, pad memory if the range is not aligned; these are given back at
 *    the end, and then, for FUA, comes the flush that the request itself could
 *    not carry, and then the door.
 * 2. A request on a device with request alignment 1 is never padded and never
 *    tracked.
 */
#ifndef BLK_CHANGE_H
#define BLK_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/annotate.h"
#include "queue.h"
#include "track.h"

struct change {
	struct queue *q;
	bool fua;     /* is to be durable at the end */
	bool tracked; /* is in the tracker */
	void *pads;   /* a slot; NULL: the range is aligned */
	struct track_req req;
};

/*
 * Begins a change of [OFF, OFF + LEN). FLAGS: BLK_FUA counts. Errors:
 * -ENOMEDIUM (the queue has been detached), -EPERM (read-only device), -EIO
 * (outside the device; durability asked for and lost); then nothing was begun.
 */
int change_co_begin(struct change *c, struct queue *q, uint64_t off, uint64_t len,
		    unsigned flags) co_fn;

/*
 * Whether FUA goes down with the request's pieces: to a device that does it
 * natively, or with a single piece, for which the driver's way costs no more
 * than a flush of everything.
 */
bool change_carries_fua(const struct change *c, bool single);

/*
 * Ends it. RET: what the pieces came to. CARRIED: they were durable one by one.
 * Returns RET, or -EIO when the data is there and not durable.
 */
int change_co_end(struct change *c, int ret, bool carried) co_fn;

#endif
