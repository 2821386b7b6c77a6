/* SPDX-License-Identifier: MIT */
/*
 * status.c - asking the driver what it knows; see status.h.
 *
 * The path of blk_co_status(): through the door, like a read; widen the range
 * to blocks; if it does not begin in remembered data, ask the driver for one
 * extent and round its end to blocks; clip it to what was asked.
 *
 * Why no zero that is told could be read as anything else:
 *
 * I1. A change that completed before the call is in what the driver sees: the
 *     driver told us so after the kernel, or the RAM disk, had it. Nothing above
 *     the driver holds data back or writes it later.
 * I2. A change that is in flight may be seen or not, and so may it be by a read
 *     that is in flight with it.
 * I3. A read-modify-write puts back the bytes around it as they were: what it
 *     makes of a hole is data that is zero, and it is the driver that says so.
 *     Nobody counts on a zero that was told before.
 * I4. An extent that ends inside a block is cut back to the block's start if it
 *     is zero, and stretched to the block's end, as data, if it is not. A block
 *     that is partly zero is data; that is never wrong.
 * I5. Only data is remembered, and to call something data is never wrong.
 * I6. The door is not needed for any of that; it keeps status from a device
 *     that is being resized or closed.
 */
#include "status.h"

#include <errno.h>

#include "base/range.h"
#include "queue.h"
#include "blkio-ext.h"

/* A foreign driver library does not have it: then this is NULL. */
extern __typeof__(blkioq_ext_status) blkioq_ext_status __attribute__((weak));

static uint64_t
punches(const struct queue *q)
{
	return __atomic_load_n(&queue_dev(q)->punches, __ATOMIC_ACQUIRE);
}

/* That there is data in [OFF, END), as the driver said when there were BEFORE punches. */
static void
remember(struct queue *q, uint64_t off, uint64_t end, uint64_t before)
{
	*queue_status_memory(q) = (struct status_memory){
		.off = off,
		.end = end,
		.punches = before,
		.until = loop_now(queue_loop(q)) + STATUS_AGE_NS,
	};
}

/*
 * What the driver has to say of [OFF, END), which are block boundaries, or the
 * device's end: so does *EXTENT end.
 */
static int
ask(struct queue *q, uint64_t off, uint64_t end, struct blk_extent *extent)
{
	const struct dev *dev = queue_dev(q);
	uint64_t before = punches(q), stop;
	struct blkio_ext_extent e;
	int ret;

	*extent = (struct blk_extent){ .len = end - off };
	if (!blkioq_ext_status)
		return 0;
	ret = blkioq_ext_status(queue_blkioq(q), off, end - off, &e);
	if (ret == -EIO)
		return ret;
	/* A driver that cannot tell, for whatever reason: data. */
	if (ret < 0)
		return 0;
	/* Another library's word is checked, not believed. */
	if (e.len == 0 || e.len > end - off)
		return 0;

	stop = off + e.len;
	if (e.flags & BLKIO_EXT_ZERO) {
		stop = dev_align_down(dev, stop);
		extent->flags = BLK_EXTENT_ZERO |
				(e.flags & BLKIO_EXT_HOLE ? BLK_EXTENT_HOLE : 0);
	}
	/* Data, or a block that is zero in part only: I4. */
	if (!(e.flags & BLKIO_EXT_ZERO) || stop <= off) {
		stop = dev_align_up(dev, off + e.len);
		extent->flags = 0;
		remember(q, off, stop, before);
	}
	extent->len = stop - off;
	return 0;
}

/* Whether OFF lies in remembered data: then *EXTENT is the rest of it. */
static bool
recall(struct queue *q, uint64_t off, struct blk_extent *extent)
{
	const struct status_memory *m = queue_status_memory(q);

	if (off < m->off || off >= m->end || loop_now(queue_loop(q)) >= m->until ||
	    punches(q) != m->punches)
		return false;
	*extent = (struct blk_extent){ .len = m->end - off };
	return true;
}

void
status_punched(struct dev *dev)
{
	__atomic_fetch_add(&dev->punches, 1, __ATOMIC_RELEASE);
}

static int
status_range(struct queue *q, uint64_t off, uint64_t len, struct blk_extent *extent)
{
	const struct dev *dev = queue_dev(q);
	struct blk_extent e = { 0 };
	uint64_t start;
	int ret;

	if (!range_ok(off, len, dev->size_bytes))
		return -EIO;
	if (len > 0) {
		start = dev_align_down(dev, off);
		ret = recall(q, start, &e) ? 0 : ask(q, start, dev->size_bytes, &e);
		if (ret < 0)
			return ret;
		e.len = MIN(e.len - (off - start), len);
	}
	if (off + e.len == dev->size_bytes)
		e.flags |= BLK_EXTENT_END;
	*extent = e;
	return 0;
}

int
blk_co_status(struct queue *q, uint64_t off, uint64_t len, struct blk_extent *extent)
{
	int ret;

	ret = drain_co_enter(queue_door(q));
	if (ret < 0)
		return ret;
	ret = status_range(q, off, len, extent);
	drain_leave(queue_door(q));
	return ret;
}
