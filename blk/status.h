/* SPDX-License-Identifier: MIT */
/*
 * status.h - what a part of a device holds: data, zeroes, nothing.
 *
 * 1. Data is always a right answer. Zero is one only where, for each byte, a
 *    read at some moment of the call would have given zero.
 * 2. So what was written before the call, through whichever queue, is never
 *    told as zero; of what is written during the call the old may be told, as
 *    by a read. Bytes are told one by one: of two writes during the call the
 *    later one may be seen and the earlier one not, as by a long read.
 * 3. Asking costs in proportion to what is alike, with files: of a large one
 *    without holes it is milliseconds. So a queue remembers for STATUS_AGE_NS where
 *    it has been told of data, until zeroes or a discard have ended on any queue.
 *    What somebody else punches meanwhile is told as data, which is not wrong.
 */
#ifndef BLK_STATUS_H
#define BLK_STATUS_H

#include <stdint.h>

#include "base/annotate.h"

struct dev;
struct queue;

/* No flag: data, or nobody knows. */
enum {
	BLK_EXTENT_ZERO = 1 << 0, /* reads as zeroes */
	BLK_EXTENT_HOLE = 1 << 1, /* has no storage of its own */
	BLK_EXTENT_END = 1 << 2,  /* ends where the device does */
};

#define STATUS_AGE_NS 1000000000u

/* Of a queue: [off, end) was data when DEV had that many punches; until then. */
struct status_memory {
	uint64_t off, end;
	uint64_t punches;
	uint64_t until; /* on the loop's clock */
};

struct blk_extent {
	uint64_t len;	/* bytes; 0 only for a length of 0 */
	uint32_t flags; /* BLK_EXTENT_* */
};

/*
 * Tells what the device has from OFF on. *EXTENT is at most LEN bytes long, may
 * be shorter than what is alike, and begins and ends where a request to the
 * device may (dev.h), or as the range does.
 *
 * It asks the driver and waits for it, on the loop's thread: a caller with many
 * extents to ask for lets others have their turn now and then. Errors: -EIO,
 * the range is outside the device, or the device is not what it was.
 */
int blk_co_status(struct queue *q, uint64_t off, uint64_t len, struct blk_extent *extent) co_fn;

/* Zeroes or a discard have ended: what was data may be a hole. Any thread. */
void status_punched(struct dev *dev);

#endif
