/* SPDX-License-Identifier: MIT */
/*
 * zero.c - write zeroes and discard: long ranges with alignments of their own.
 *
 * The path of blk_co_write_zeroes(): the whole blocks first, in pieces that the
 * device makes zero itself, or written as data where it cannot; then the ends
 * inside a block, as read-modify-write. In this order a BLK_NO_FALLBACK that
 * is refused has changed nothing.
 */
#include "zero.h"

#include <errno.h>
#include <string.h>

#include "base/range.h"
#include "blkio.h"
#include "change.h"
#include "io.h"
#include "pad.h"
#include "status.h"
#include "transfer.h"

/* Zeroes and discards go down in pieces of at most this, one in flight. */
#define LONG_PIECE (1ull << 30)
/* The zeroes that are written where a device cannot make them. */
#define ZERO_BYTES (128u << 10)
/* Of these as many as are compared with at once: they stay in the cache. */
#define SCAN_BYTES (4u << 10)

static const char zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

bool
zero_iov(const struct iovec *iov, int iovcnt)
{
	for (; iovcnt > 0; iovcnt--, iov++) {
		const char *p = iov->iov_base;

		for (size_t left = iov->iov_len; left > 0;) {
			size_t n = MIN(left, (size_t)SCAN_BYTES);

			if (memcmp(p, zeroes, n) != 0)
				return false;
			p += n;
			left -= n;
		}
	}
	return true;
}

static bool
is_unsupported(int ret)
{
	return ret == -ENOTSUP || ret == -EOPNOTSUPP;
}

/*
 * The next piece of LEFT bytes at OFF: up to the first multiple of ALIGN, then
 * multiples of it of at most MAX (0: none) bytes, then the rest. It ends where
 * the tail begins; there ALIGN does not count.
 */
static uint64_t
next_piece(const struct dev *dev, uint64_t off, uint64_t left, uint64_t align, uint64_t max)
{
	uint64_t most = max ? MIN(max, LONG_PIECE) : LONG_PIECE;

	left = dev_before_tail(dev, off, left);
	if (off >= dev->tail_start)
		align = 1;
	if (off % align)
		left = MIN(left, align - off % align);
	else if (left > align)
		left -= left % align;
	if (left > most)
		left = most > align ? most - most % align : most;
	return left;
}

static uint64_t
next_zeroes(const struct dev *dev, uint64_t off, uint64_t left)
{
	const struct dev_limits *l = &dev->limits;

	return next_piece(dev, off, left, MAX(l->zero_alignment, l->request_alignment),
			  l->max_write_zeroes);
}

/* Writes zeroes as data: the same zero bytes, over and over. */
static int co_fn
zeroes_as_data(struct queue *q, uint64_t off, uint64_t len)
{
	const struct iovec iov = { (void *)(uintptr_t)zeroes, sizeof(zeroes) };
	const struct transfer t = {
		.q = q,
		.write = true,
		.nruns = 1,
		.runs = { { .iov = &iov, .len = (size_t)len, .repeat = true } },
	};

	return transfer_co(&t, off);
}

/* Zeroes whole blocks. *CARRIED goes off when data had to be written. */
static int co_fn
zero_blocks(struct change *c, uint64_t off, uint64_t len, unsigned flags, bool *carried)
{
	const struct dev *dev = queue_dev(c->q);
	uint32_t req_flags = (*carried ? BLKIO_REQ_FUA : 0) |
			     (flags & BLK_MAY_UNMAP && dev->discard ? 0 : BLKIO_REQ_NO_UNMAP) |
			     (flags & BLK_NO_FALLBACK ? BLKIO_REQ_NO_FALLBACK : 0);
	bool touched = false;
	int ret = 0;

	while (len > 0 && ret == 0) {
		uint64_t piece = next_zeroes(dev, off, len);
		struct queue_io io;

		queue_write_zeroes(c->q, &io, off, piece, req_flags);
		ret = queue_co_wait(c->q, &io);
		if (is_unsupported(ret)) {
			/* Only before anything was zeroed may a refusal be the answer. */
			if (flags & BLK_NO_FALLBACK && !touched)
				return -ENOTSUP;
			ret = zeroes_as_data(c->q, off, piece);
			*carried = false;
		}
		touched = true;
		off += piece;
		len -= piece;
	}
	return ret;
}

static int co_fn
zero_range(struct change *c, uint64_t off, uint64_t len, unsigned flags, bool *carried)
{
	const struct dev *dev = queue_dev(c->q);
	uint64_t end = off + len, first = off, last = end;
	uint32_t req_flags;
	struct pad pad;
	int ret;

	if (c->pads && pad_plan(&pad, dev, off, len)) {
		first = pad.head ? pad.start + dev->limits.request_alignment : off;
		last = pad.tail ? align_down(end, dev->limits.request_alignment) : end;
	}
	*carried = change_carries_fua(c, !c->pads && len == next_zeroes(dev, off, len));
	req_flags = *carried ? BLKIO_REQ_FUA : 0;
	if (first >= last)
		return pad_co_write(c->q, c->pads, off, NULL, (size_t)len, req_flags);
	ret = zero_blocks(c, first, last - first, flags, carried);
	if (ret == 0 && first > off)
		ret = pad_co_write(c->q, c->pads, off, NULL, (size_t)(first - off), req_flags);
	if (ret == 0 && last < end)
		ret = pad_co_write(c->q, c->pads, last, NULL, (size_t)(end - last), req_flags);
	return ret;
}

int
blk_co_write_zeroes(struct queue *q, uint64_t off, uint64_t len, unsigned flags)
{
	bool carried = false;
	struct change c;
	int ret;

	if (queue_dev(q)->write_through && len > 0)
		flags |= BLK_FUA;
	ret = change_co_begin(&c, q, off, len, flags);
	if (ret < 0)
		return ret;
	if (len > 0)
		ret = zero_range(&c, off, len, flags, &carried);
	status_punched(queue_dev(q));
	return change_co_end(&c, ret, carried);
}

static int co_fn
discard_blocks(struct queue *q, uint64_t off, uint64_t len)
{
	const struct dev *dev = queue_dev(q);
	const struct dev_limits *l = &dev->limits;
	uint64_t align = MAX(l->discard_alignment, l->request_alignment);
	int ret = 0;

	while (len > 0 && ret == 0) {
		uint64_t piece = next_piece(dev, off, len, align, l->max_discard);
		struct queue_io io;

		queue_discard(q, &io, off, piece);
		ret = queue_co_wait(q, &io);
		/* Advice that the device cannot follow, or not for part of a unit. */
		if (is_unsupported(ret) || (ret == -EINVAL && (off % align || piece % align)))
			ret = 0;
		off += piece;
		len -= piece;
	}
	return ret;
}

int
blk_co_discard(struct queue *q, uint64_t off, uint64_t len, unsigned flags)
{
	const struct dev *dev = queue_dev(q);
	uint64_t first, last;
	struct change c;
	int ret;

	if (!range_ok(off, len, dev->size_bytes))
		return dev->read_only ? -EPERM : -EIO;
	/* Whole blocks only, inwards: what is outside stays. */
	first = dev_align_up(dev, off);
	last = dev_align_down(dev, off + len);
	len = last > first ? last - first : 0;
	ret = change_co_begin(&c, q, MIN(first, dev->size_bytes), len, flags);
	if (ret < 0)
		return ret;
	if (len > 0 && dev->discard)
		ret = discard_blocks(q, first, len);
	status_punched(queue_dev(q));
	return change_co_end(&c, ret, false);
}
