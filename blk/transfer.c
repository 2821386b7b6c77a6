/* SPDX-License-Identifier: MIT */
/*
 * transfer.c - cutting a transfer to the device's limits; see transfer.h.
 *
 * The path of transfer_co(): cut a piece off the cursor, hand it to the queue,
 * go on until PIECES_MAX are in flight, then wait for the oldest. A piece whose
 * memory the driver cannot use is undone; when all others have completed it
 * goes through the bounce slot, on its own.
 *
 * Invariants:
 * I1. Who holds a bounce slot waits for the device and for nothing else.
 */
#include "transfer.h"

#include <limits.h>
#include <string.h>

#include "base/range.h"
#include "slots.h"

/* Pieces of one transfer in flight together, and segments of one piece. */
#define PIECES_MAX 4
#define PIECE_SEGMENTS 8

/* --- The cursor ------------------------------------------------------------- */

struct cursor {
	const struct transfer_run *run;
	const struct iovec *iov; /* of the run */
	size_t skip;		 /* bytes of iov that are behind, or more than it has */
	size_t left;		 /* bytes of the run that are ahead */
};

static void
cursor_enter(struct cursor *at, const struct transfer_run *run)
{
	*at = (struct cursor){ .run = run, .iov = run->iov, .skip = run->skip, .left = run->len };
}

/* The next at most LEN_MAX bytes that lie together. Invariant: there are some. */
static struct iovec
cursor_take(struct cursor *at, size_t len_max)
{
	struct iovec out;
	size_t n;

	while (at->left == 0)
		cursor_enter(at, at->run + 1);
	while (at->skip >= at->iov->iov_len) {
		at->skip -= at->iov->iov_len;
		at->iov += !at->run->repeat;
	}
	n = MIN(at->iov->iov_len - at->skip, at->left);
	n = MIN(n, len_max);
	out = (struct iovec){ (char *)at->iov->iov_base + at->skip, n };
	at->skip += n;
	at->left -= n;
	return out;
}

/* --- Pieces ----------------------------------------------------------------- */

struct piece {
	struct queue_io io;
	int iovcnt;
	struct iovec iov[PIECE_SEGMENTS];
};

static size_t
piece_fill(struct piece *piece, struct cursor *at, size_t len_max, int segments_max)
{
	size_t len = 0;

	piece->iovcnt = 0;
	while (len < len_max && piece->iovcnt < segments_max) {
		struct iovec iov = cursor_take(at, len_max - len);

		piece->iov[piece->iovcnt++] = iov;
		len += iov.iov_len;
	}
	return len;
}

/* Up to LEN_MAX bytes from the cursor, in whole blocks unless it is all. */
static size_t
piece_cut(struct piece *piece, struct cursor *at, size_t len_max, int segments_max, size_t align)
{
	struct cursor start = *at;
	size_t len = piece_fill(piece, at, len_max, segments_max);

	if (len == len_max || is_aligned(len, align))
		return len;
	/* Out of segments in the middle of a block. */
	*at = start;
	return piece_fill(piece, at, align_down(len, align), segments_max);
}

bool
transfer_memory_ok(const struct queue *q, uint64_t off, const struct iovec *iov, int iovcnt)
{
	const struct dev *dev = queue_dev(q);
	uint64_t mask = off < dev->tail_start ? dev->limits.mem_alignment - 1 : 0;

	if (mask == 0 && !dev->needs_regions)
		return true;
	for (int i = 0; i < iovcnt; i++) {
		/* The length of one alone is the request's, whatever memory it has. */
		uint64_t len = iovcnt > 1 ? iov[i].iov_len : 0;

		if (((uint64_t)(uintptr_t)iov[i].iov_base | len) & mask)
			return false;
		if (dev->needs_regions && !queue_has_memory(q, &iov[i]))
			return false;
	}
	return true;
}

static void loop_fn
issue(const struct transfer *t, struct queue_io *io, uint64_t off, const struct iovec *iov,
      int iovcnt)
{
	if (t->write)
		queue_writev(t->q, io, off, iov, iovcnt, t->flags);
	else
		queue_readv(t->q, io, off, iov, iovcnt);
}

/* Moves LEN bytes between the cursor's memory and BOUNCE. */
static void
bounce_copy(struct cursor *at, char *bounce, size_t len, bool to_bounce)
{
	while (len > 0) {
		struct iovec iov = cursor_take(at, len);

		if (to_bounce)
			memcpy(bounce, iov.iov_base, iov.iov_len);
		else
			memcpy(iov.iov_base, bounce, iov.iov_len);
		bounce += iov.iov_len;
		len -= iov.iov_len;
	}
}

/* On its own: what it has on the stack is not needed while pieces are made. */
static __attribute__((noinline)) int co_fn
bounce_piece(const struct transfer *t, struct cursor *at, void *bounce, uint64_t off, size_t len)
{
	struct iovec iov = { bounce, len };
	struct queue_io io;
	int ret;

	queue_count(t->q, QUEUE_BOUNCE_BYTES, len);
	if (t->write)
		bounce_copy(at, bounce, len, true);
	issue(t, &io, off, &iov, 1);
	ret = queue_co_wait(t->q, &io);
	if (!t->write && ret == 0)
		bounce_copy(at, bounce, len, false);
	return ret;
}

/* --- The transfer ----------------------------------------------------------- */

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

/*
 * Cuts the next piece off, of up to LEN_MAX bytes, and moves the cursor on; 0
 * if the driver cannot take it from that memory. On its own for the stack.
 */
static __attribute__((noinline)) size_t
next_piece(const struct transfer *t, struct piece *piece, struct cursor *at, uint64_t off,
	   size_t len_max)
{
	const struct dev *dev = queue_dev(t->q);
	int segments_max = (int)MIN(dev->limits.max_segments, (unsigned)PIECE_SEGMENTS);
	struct cursor before = *at;
	size_t n = piece_cut(piece, at, (size_t)dev_before_tail(dev, off, len_max), segments_max,
			     dev_align_at(dev, off));

	if (n > 0 && transfer_memory_ok(t->q, off, piece->iov, piece->iovcnt))
		return n;
	*at = before;
	return 0;
}

int
transfer_co(const struct transfer *t, uint64_t off)
{
	const struct dev *dev = queue_dev(t->q);
	const struct dev_limits *l = &dev->limits;
	size_t piece_max = l->max_transfer ? (size_t)MIN(l->max_transfer, (uint64_t)INT_MAX) :
					     (size_t)INT_MAX;
	struct slots *slots = queue_bounce(t->q);
	struct piece pieces[PIECES_MAX];
	unsigned issued = 0, waited = 0;
	void *bounce = NULL;
	bool bouncing = false; /* the next piece is to bounce */
	bool split = false;    /* there is more than one */
	struct cursor at;
	size_t len = 0;
	int ret = 0;

	piece_max = align_down(piece_max, l->request_alignment);
	cursor_enter(&at, &t->runs[0]);
	for (unsigned i = 0; i < t->nruns; i++)
		len += t->runs[i].len;

	while (waited < issued || (len > 0 && ret == 0)) {
		if (ret == 0)
			ret = pieces_failure(pieces, waited, issued);
		if (len > 0 && ret == 0 && !bouncing && issued - waited < PIECES_MAX) {
			struct piece *piece = &pieces[issued % PIECES_MAX];
			size_t n = next_piece(t, piece, &at, off, MIN(piece_max, len));

			if (n == 0) {
				bouncing = true;
				continue;
			}
			split |= n < len;
			queue_count(t->q, QUEUE_FRAGMENTS, split);
			issue(t, &piece->io, off, piece->iov, piece->iovcnt);
			issued++;
			off += n;
			len -= n;
			continue;
		}
		if (waited < issued) {
			int piece_ret = queue_co_wait(t->q, &pieces[waited % PIECES_MAX].io);

			waited++;
			if (ret == 0)
				ret = piece_ret;
			continue;
		}
		if (ret == 0) {
			size_t n = MIN(piece_max, slots->slot_bytes);

			n = MIN(align_down(n, l->request_alignment), len);
			n = (size_t)dev_before_tail(dev, off, n);
			if (!bounce)
				bounce = slots_co_get(slots);
			split |= n < len;
			queue_count(t->q, QUEUE_FRAGMENTS, split);
			ret = bounce_piece(t, &at, bounce, off, n);
			off += n;
			len -= n;
			bouncing = false;
		}
	}
	if (bounce)
		slots_put(slots, bounce);
	return ret;
}
