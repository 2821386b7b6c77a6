/* SPDX-License-Identifier: MIT */
/*
 * pad.h - requests that begin or end inside a block.
 *
 * 1. A request is widened to whole blocks. In the tail of the device (dev.h)
 *    nothing is: an end that lies there stays where it is.
 * 2. A read goes to pad memory where the caller did not ask for all of a block;
 *    a write reads those blocks first and writes all of it at once.
 * 3. Pad memory is a slot of the queue, two blocks. Who holds one waits for
 *    bounce memory and the device, and for nothing else.
 */
#ifndef BLK_PAD_H
#define BLK_PAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "queue.h"

/* Where a request lies in the blocks of its device. */
struct pad {
	uint64_t start, end;	   /* rounded out */
	size_t head, tail;	   /* bytes in front of the request, and behind it */
	size_t head_len, tail_len; /* of the blocks that pad memory holds; a lone one is head */
};

/* LEN > 0, in the device. Returns whether anything is to be padded. */
bool pad_plan(struct pad *pad, const struct dev *dev, uint64_t off, uint64_t len);

/* Reads an unaligned range. */
int pad_co_read(struct queue *q, uint64_t off, const struct iovec *iov, size_t len) co_fn;

/*
 * Reads, changes and writes. PADS: a slot; the caller has the blocks for
 * itself (track.h, serialising). IOV NULL: zeroes, in no block as a whole.
 * FLAGS: BLKIO_REQ_*, of the write. When a read fails nothing is written.
 */
int pad_co_write(struct queue *q, void *pads, uint64_t off, const struct iovec *iov, size_t len,
		 uint32_t flags) co_fn;

#endif
