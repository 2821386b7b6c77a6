/* SPDX-License-Identifier: MIT */
/*
 * io.c - one request: checked, cut to the device's limits, made durable.
 *
 * The path of blk_co_write(): entry_check(); one piece when it fits, which is
 * the rule (rw_whole()), else rw_pieces() with a few in flight; then
 * durable(), which flushes for a BLK_FUA that the pieces could not carry.
 *
 * The place of padding and tracking is between the check and the first piece:
 * a request that is not aligned will be serialised there, then read, then
 * written; until that exists entry_check() refuses it.
 *
 * Invariants:
 * I1. A piece is a multiple of the request alignment, at most max_transfer
 *     long and max_segments wide.
 * I2. No flush starts before every piece has completed.
 */
#include "io.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/range.h"
#include "blkio.h"

/* Pieces of one request in flight together, and segments of one piece. */
#define PIECES_MAX 4
#define PIECE_SEGMENTS 8
/* Zeroes and discards go down in pieces of at most this, one in flight. */
#define LONG_PIECE (1ull << 30)
/* The zeroes that are written where a device cannot make them. */
#define ZERO_BYTES (64u << 10)
#define ZERO_SEGMENTS 16

static const char zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

/* --- Checks ----------------------------------------------------------------- */

static size_t
iov_bytes(const struct iovec *iov, int iovcnt)
{
	size_t len = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	return len;
}

static int
entry_check(const struct dev *dev, uint64_t off, uint64_t len, bool writes)
{
	if (writes && dev->read_only)
		return -EPERM;
	if (!range_ok(off, len, dev->size_bytes))
		return -EIO;
	if (!is_aligned(off | len, dev->limits.request_alignment))
		return -EINVAL;
	return 0;
}

/* --- Durability ------------------------------------------------------------- */

static int co_fn
flush_device(struct queue *q)
{
	struct dev *dev = queue_dev(q);
	struct queue_io io;
	int ret;

	if (dev_flush_failed(dev))
		return -EIO;
	queue_flush(q, &io);
	ret = queue_co_wait(q, &io);
	/* Whoever's sync it was that heard of the loss: ours may be in it. */
	return ret < 0 || dev_flush_failed(dev) ? -EIO : 0;
}

static bool
wants_fua(const struct dev *dev, unsigned flags)
{
	return (flags & BLK_FUA || dev->write_through) && !dev->unsafe;
}

/*
 * Whether a request's pieces carry FUA themselves: a device that does it
 * natively, or a single piece, for which the driver's way costs no more than a
 * flush of everything.
 */
static bool
fua_in_pieces(const struct dev *dev, bool fua, bool single)
{
	return fua && (dev->fua_native || single);
}

/* The end of a request that changes data: RET is what its pieces came to. */
static int co_fn
durable(struct queue *q, int ret, bool fua, bool carried)
{
	struct dev *dev = queue_dev(q);

	if (!fua || ret < 0)
		return ret;
	if (carried || !dev->flush_needed)
		return dev_flush_failed(dev) ? -EIO : 0;
	return flush_device(q);
}

int
blk_co_flush(struct queue *q)
{
	struct dev *dev = queue_dev(q);

	if (dev->read_only || dev->unsafe)
		return 0;
	if (dev_flush_failed(dev))
		return -EIO;
	if (!dev->flush_needed)
		return 0;
	return flush_device(q);
}

/* --- Reads and writes ------------------------------------------------------- */

/* A place in a caller's iovec. */
struct cursor {
	const struct iovec *iov;
	size_t skip; /* bytes of iov[0] that are behind */
};

struct piece {
	struct queue_io io;
	struct iovec iov[PIECE_SEGMENTS];
};

struct rw {
	struct queue *q;
	bool write;
	uint32_t flags; /* BLKIO_REQ_* */
};

static void co_fn
rw_issue(const struct rw *rw, struct queue_io *io, uint64_t off, const struct iovec *iov,
	 int iovcnt)
{
	if (rw->write)
		queue_writev(rw->q, io, off, iov, iovcnt, rw->flags);
	else
		queue_readv(rw->q, io, off, iov, iovcnt);
}

/*
 * Fills PIECE's iovec with up to LEN_MAX bytes from the cursor, a multiple of
 * ALIGN, in at most SEGMENTS_MAX segments. Returns the bytes.
 */
static size_t
piece_cut(struct piece *piece, int *iovcnt, struct cursor *at, size_t len_max, int segments_max,
	  size_t align)
{
	size_t len = 0, excess;
	int n = 0;

	while (len < len_max && n < segments_max) {
		size_t take = MIN(at->iov->iov_len - at->skip, len_max - len);

		piece->iov[n].iov_base = (char *)at->iov->iov_base + at->skip;
		piece->iov[n].iov_len = take;
		n++;
		len += take;
		at->skip += take;
		if (at->skip == at->iov->iov_len) {
			at->iov++;
			at->skip = 0;
		}
	}

	/* Out of segments in the middle of a block: give the rest of it back. */
	excess = len % align;
	len -= excess;
	while (excess > 0) {
		size_t give = MIN(excess, piece->iov[n - 1].iov_len);

		if (at->skip == 0) {
			at->iov--;
			at->skip = at->iov->iov_len;
		}
		at->skip -= give;
		piece->iov[n - 1].iov_len -= give;
		if (piece->iov[n - 1].iov_len == 0)
			n--;
		excess -= give;
	}
	*iovcnt = n;
	return len;
}

/* The error of a piece in flight that has failed already, out of turn; or 0. */
static int
pieces_failure(const struct piece *pieces, unsigned waited, unsigned issued)
{
	for (; waited < issued; waited++) {
		const struct queue_io *io = &pieces[waited % PIECES_MAX].io;

		if (io->done && io->ret < 0)
			return io->ret;
	}
	return 0;
}

static int co_fn
rw_pieces(const struct rw *rw, uint64_t off, const struct iovec *iov, size_t len)
{
	const struct dev_limits *l = &queue_dev(rw->q)->limits;
	size_t piece_max = l->max_transfer ? (size_t)MIN(l->max_transfer, (uint64_t)INT_MAX) : len;
	int segments_max = (int)MIN(l->max_segments, (unsigned)PIECE_SEGMENTS);
	struct cursor at = { .iov = iov };
	struct piece pieces[PIECES_MAX];
	unsigned issued = 0, waited = 0;
	int ret = 0;

	while (waited < issued || (len > 0 && ret == 0)) {
		if (ret == 0)
			ret = pieces_failure(pieces, waited, issued);
		if (len > 0 && ret == 0 && issued - waited < PIECES_MAX) {
			struct piece *piece = &pieces[issued % PIECES_MAX];
			int iovcnt;
			size_t n = piece_cut(piece, &iovcnt, &at, MIN(piece_max, len), segments_max,
					     l->request_alignment);

			if (n == 0) {
				/* One block lies in more segments than the device takes. */
				ret = -EINVAL;
				continue;
			}
			rw_issue(rw, &piece->io, off, piece->iov, iovcnt);
			issued++;
			off += n;
			len -= n;
			continue;
		}
		int piece_ret = queue_co_wait(rw->q, &pieces[waited % PIECES_MAX].io);

		waited++;
		if (ret == 0)
			ret = piece_ret;
	}
	return ret;
}

static bool
rw_fits(const struct dev_limits *l, int iovcnt, size_t len)
{
	return (unsigned)iovcnt <= l->max_segments && (!l->max_transfer || len <= l->max_transfer);
}

static int co_fn
rw_whole(const struct rw *rw, uint64_t off, const struct iovec *iov, int iovcnt)
{
	struct queue_io io;

	rw_issue(rw, &io, off, iov, iovcnt);
	return queue_co_wait(rw->q, &io);
}

int
blk_co_read(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt)
{
	const struct dev *dev = queue_dev(q);
	const struct rw rw = { .q = q };
	size_t len = iov_bytes(iov, iovcnt);
	int ret = entry_check(dev, off, len, false);

	if (ret < 0 || len == 0)
		return ret;
	if (likely(rw_fits(&dev->limits, iovcnt, len)))
		return rw_whole(&rw, off, iov, iovcnt);
	return rw_pieces(&rw, off, iov, len);
}

int
blk_co_write(struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt, unsigned flags)
{
	const struct dev *dev = queue_dev(q);
	size_t len = iov_bytes(iov, iovcnt);
	bool single = rw_fits(&dev->limits, iovcnt, len);
	bool fua = wants_fua(dev, flags);
	bool carried = fua_in_pieces(dev, fua, single);
	const struct rw rw = { .q = q, .write = true, .flags = carried ? BLKIO_REQ_FUA : 0 };
	int ret = entry_check(dev, off, len, true);

	if (ret < 0)
		return ret;
	if (fua && dev_flush_failed(dev))
		return -EIO;
	if (len == 0)
		return durable(q, 0, flags & BLK_FUA && !dev->unsafe, false);
	ret = likely(single) ? rw_whole(&rw, off, iov, iovcnt) : rw_pieces(&rw, off, iov, len);
	return durable(q, ret, fua, carried);
}

/* --- Zeroes and discards ---------------------------------------------------- */

static bool
is_unsupported(int ret)
{
	return ret == -ENOTSUP || ret == -EOPNOTSUPP;
}

static uint64_t
long_piece(const struct dev_limits *l, uint64_t limit)
{
	uint64_t piece = limit ? MIN(limit, LONG_PIECE) : LONG_PIECE;

	return MAX(align_down(piece, l->request_alignment), l->request_alignment);
}

/* Writes zeroes as data: the same zero bytes, over and over in one iovec. */
static int co_fn
zeroes_as_data(struct queue *q, uint64_t off, uint64_t len)
{
	const struct rw rw = { .q = q, .write = true };
	struct iovec iov[ZERO_SEGMENTS];
	int ret = 0;

	while (len > 0 && ret == 0) {
		uint64_t piece = MIN(len, (uint64_t)ZERO_BYTES * ZERO_SEGMENTS);
		uint64_t left = piece;
		int n = 0;

		for (; left > 0; n++) {
			iov[n].iov_base = (void *)(uintptr_t)zeroes;
			iov[n].iov_len = (size_t)MIN(left, (uint64_t)ZERO_BYTES);
			left -= iov[n].iov_len;
		}
		ret = rw_fits(&queue_dev(q)->limits, n, (size_t)piece) ?
			      rw_whole(&rw, off, iov, n) :
			      rw_pieces(&rw, off, iov, (size_t)piece);
		off += piece;
		len -= piece;
	}
	return ret;
}

int
blk_co_write_zeroes(struct queue *q, uint64_t off, uint64_t len, unsigned flags)
{
	const struct dev *dev = queue_dev(q);
	uint64_t piece_max = long_piece(&dev->limits, dev->limits.max_write_zeroes);
	bool fua = wants_fua(dev, flags);
	bool carried = fua_in_pieces(dev, fua, len <= piece_max);
	uint32_t req_flags = (carried ? BLKIO_REQ_FUA : 0) |
			     (flags & BLK_MAY_UNMAP && dev->discard ? 0 : BLKIO_REQ_NO_UNMAP) |
			     (flags & BLK_NO_FALLBACK ? BLKIO_REQ_NO_FALLBACK : 0);
	int ret = entry_check(dev, off, len, true);
	bool touched = false;

	if (ret < 0)
		return ret;
	if (fua && dev_flush_failed(dev))
		return -EIO;
	if (len == 0)
		return durable(q, 0, flags & BLK_FUA && !dev->unsafe, false);

	while (len > 0 && ret == 0) {
		uint64_t piece = MIN(len, piece_max);
		struct queue_io io;

		queue_write_zeroes(q, &io, off, piece, req_flags);
		ret = queue_co_wait(q, &io);
		if (is_unsupported(ret)) {
			/* Only before anything was zeroed may a refusal be the answer. */
			if (flags & BLK_NO_FALLBACK && !touched)
				return -ENOTSUP;
			ret = zeroes_as_data(q, off, piece);
			carried = false;
		}
		touched = true;
		off += piece;
		len -= piece;
	}
	return durable(q, ret, fua, carried);
}

int
blk_co_discard(struct queue *q, uint64_t off, uint64_t len, unsigned flags)
{
	const struct dev *dev = queue_dev(q);
	uint64_t piece_max = long_piece(&dev->limits, dev->limits.max_discard);
	uint64_t align = MAX(dev->limits.discard_alignment, dev->limits.request_alignment);
	bool fua = flags & BLK_FUA && !dev->unsafe;
	int ret = entry_check(dev, off, len, true);
	uint64_t first, last;

	if (ret < 0)
		return ret;
	if (fua && dev_flush_failed(dev))
		return -EIO;

	/* Only whole discard units, inwards: what is outside stays. */
	first = (off + align - 1) / align * align;
	last = (off + len) / align * align;
	while (dev->discard && first < last && ret == 0) {
		uint64_t piece = MIN(last - first, MAX(piece_max / align * align, align));
		struct queue_io io;

		queue_discard(q, &io, first, piece);
		ret = queue_co_wait(q, &io);
		if (is_unsupported(ret) || ret == -EINVAL)
			ret = 0;
		first += piece;
	}
	return durable(q, ret, fua, false);
}
