/* SPDX-License-Identifier: MIT */
/*
 * io.c - one request: checked, widened to blocks, cut to the device's limits.
 *
 * The path of blk_co_write(): change_co_begin(); then one piece when it is
 * aligned and fits, which is the rule (io_whole()), else transfer_co() in
 * pieces, or pad_co_write() when it begins or ends inside a block; then
 * change_co_end(), which flushes for a BLK_FUA that the pieces did not carry.
 *
 * Zeroes and discards are in zero.c.
 */
#include "io.h"

#include <errno.h>
#include <limits.h>

#include "base/range.h"
#include "blkio.h"
#include "change.h"
#include "pad.h"
#include "transfer.h"
#include "zero.h"

static size_t
iov_bytes(const struct iovec *iov, int iovcnt)
{
	size_t len = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	return len;
}

/* Whether an aligned range goes down as it is. */
static bool
fits(const struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt, size_t len)
{
	const struct dev *dev = queue_dev(q);
	const struct dev_limits *l = &dev->limits;

	return (unsigned)iovcnt <= l->max_segments && len <= INT_MAX &&
	       (!l->max_transfer || len <= l->max_transfer) &&
	       dev_before_tail(dev, off, len) == len && transfer_memory_ok(q, off, iov, iovcnt);
}

static int co_fn
read_range(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt, size_t len)
{
	const struct dev *dev = queue_dev(q);
	const struct transfer t = { .q = q, .nruns = 1, .runs = { { .iov = iov, .len = len } } };
	struct queue_io io;
	struct pad pad;

	if (!range_ok(off, len, dev->size_bytes))
		return -EIO;
	if (len == 0)
		return 0;
	if (dev->limits.request_alignment > 1 && pad_plan(&pad, dev, off, len))
		return pad_co_read(q, off, iov, len);
	if (unlikely(!fits(q, off, iov, iovcnt, len)))
		return transfer_co(&t, off);
	queue_readv(q, &io, off, iov, iovcnt);
	return queue_co_wait(q, &io);
}

int
blk_co_read(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt)
{
	int ret;

	ret = drain_co_enter(queue_door(q));
	if (ret < 0)
		return ret;
	ret = read_range(q, off, iov, iovcnt, iov_bytes(iov, iovcnt));
	drain_leave(queue_door(q));
	return ret;
}

/* The data of a change that has begun. *CARRIED: FUA went down with it. */
static int co_fn
write_range(struct change *c, uint64_t off, const struct iovec *iov, int iovcnt, size_t len,
	    bool *carried)
{
	struct queue *q = c->q;
	bool single = !c->pads && fits(q, off, iov, iovcnt, len);
	struct transfer t = {
		.q = q,
		.write = true,
		.nruns = 1,
		.runs = { { .iov = iov, .len = len } },
	};
	struct queue_io io;

	*carried = change_carries_fua(c, single);
	t.flags = *carried ? BLKIO_REQ_FUA : 0;
	if (unlikely(c->pads))
		return pad_co_write(q, c->pads, off, iov, len, t.flags);
	if (unlikely(!single))
		return transfer_co(&t, off);
	queue_writev(q, &io, off, iov, iovcnt, t.flags);
	return queue_co_wait(q, &io);
}

int
blk_co_write(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt, unsigned flags)
{
	const struct dev *dev = queue_dev(q);
	size_t len = iov_bytes(iov, iovcnt);
	bool carried = false;
	struct change c;
	int ret;

	if (dev->detect_zeroes != DEV_DETECT_OFF && len > 0 && zero_iov(iov, iovcnt))
		return blk_co_write_zeroes(
			q, off, len,
			flags | (dev->detect_zeroes == DEV_DETECT_UNMAP ? BLK_MAY_UNMAP : 0));
	if (dev->write_through && len > 0)
		flags |= BLK_FUA;
	ret = change_co_begin(&c, q, off, len, flags);
	if (ret < 0)
		return ret;
	if (likely(len > 0))
		ret = write_range(&c, off, iov, iovcnt, len, &carried);
	return change_co_end(&c, ret, carried);
}

int
blk_co_flush(struct queue *q)
{
	struct dev *dev = queue_dev(q);
	int ret = drain_co_enter(queue_door(q));

	if (ret < 0)
		return ret;
	if (dev->read_only || dev->unsafe)
		ret = 0;
	else if (dev_flush_failed(dev))
		ret = -EIO;
	else if (dev->flush_needed)
		ret = flush_co(q);
	drain_leave(queue_door(q));
	return ret;
}
