/* SPDX-License-Identifier: MIT */
/*
 * io.h - the block API: bytes in, 0 or -errno out.
 *
 * 1. Each call is one request of a coroutine on the queue's loop and returns
 *    when it is finished on all of its range, or has failed.
 * 2. Offsets and lengths are bytes. A range outside the device is -EIO here
 *    (a frontend that wants another code checks first). On a queue that has
 *    been detached every request is -ENOMEDIUM.
 * 3. Zero length succeeds without touching the device, but BLK_FUA still
 *    flushes.
 * 4. The device's limits on size and segments are kept by splitting. After a
 *    failure no further piece is issued, those in flight are waited for, and
 *    the first error is the result.
 * 5. BLK_FUA: when the call returns 0 the data is on stable storage. Where the
 *    device has no such write, one flush follows the last piece.
 * 6. Once a flush has failed, what was written before may be lost without
 *    another report: from then on every flush and every BLK_FUA is -EIO, until
 *    the device is opened again.
 *
 * Source: the block layer's contract; fsync(2) on errors of writeback.
 */
#ifndef BLK_IO_H
#define BLK_IO_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "queue.h"

enum {
	BLK_FUA = 1 << 0,
	BLK_MAY_UNMAP = 1 << 1,	  /* zeroes: the range may become a hole */
	BLK_NO_FALLBACK = 1 << 2, /* zeroes: -ENOTSUP rather than writing them */
};

/* The iovec array and what it points to must stay until the call returns. */
int blk_co_read(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt) co_fn;

/* FLAGS: BLK_FUA. -EPERM on a read-only device; -ENOSPC and the like as is. */
int blk_co_write(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt,
		 unsigned flags) co_fn;

/*
 * The range reads as zeroes afterwards. FLAGS: all three. With BLK_NO_FALLBACK
 * and -ENOTSUP as result the contents are what they were.
 */
int blk_co_write_zeroes(struct queue *q, uint64_t off, uint64_t len, unsigned flags) co_fn;

/* A hint: the contents of the range are not needed any more. FLAGS: BLK_FUA. */
int blk_co_discard(struct queue *q, uint64_t off, uint64_t len, unsigned flags) co_fn;

/* All that completed before the call, on any queue, is stable. */
int blk_co_flush(struct queue *q) co_fn;

#endif
