/* SPDX-License-Identifier: MIT */
/*
 * transfer.h - a read or write of any size, as pieces that the device takes.
 *
 * 1. The range begins and ends at multiples of the request alignment, or in the
 *    tail (dev.h).
 * 2. Its memory is up to three runs, one after the other: the block in front
 *    (pad), the caller's, the block behind (pad).
 * 3. A piece is a multiple of the request alignment or lies in the tail, is at
 *    most max_transfer long and max_segments wide. A few are in flight together.
 * 4. Memory that the driver cannot use as it is goes through a bounce slot of
 *    the queue, piece by piece: not aligned to mem_alignment, outside the
 *    mapped region of a driver that needs one, or one block in more segments
 *    than a piece has.
 * 5. After a failure no further piece is issued, those in flight are waited
 *    for, and the first error is the result.
 */
#ifndef BLK_TRANSFER_H
#define BLK_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "queue.h"

/* LEN bytes that begin SKIP bytes into what IOV lists. */
struct transfer_run {
	const struct iovec *iov;
	size_t skip, len;
	bool repeat; /* IOV is one segment, over and over; of a write */
};

#define TRANSFER_RUNS 3

struct transfer {
	struct queue *q;
	bool write;
	uint32_t flags; /* BLKIO_REQ_*, of every piece */
	unsigned nruns;
	struct transfer_run runs[TRANSFER_RUNS];
};

/* All of the runs, to or from the device at OFF. 0 or -errno. */
int transfer_co(const struct transfer *t, uint64_t off) co_fn;

/* Whether the driver can use this memory as it is, for a request at OFF. */
bool transfer_memory_ok(const struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt);

#endif
