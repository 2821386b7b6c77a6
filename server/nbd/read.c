/* SPDX-License-Identifier: MIT */
/*
 * read.c - READ: a simple reply, or chunks of data and of holes.
 *
 * With simple replies all of the range is read before the first byte of the
 * reply: there is no way to take a reply back.
 *
 * The path with chunks, read_chunks(): what is a hole, by the device's status,
 * is told and not read; the rest is read piece by piece, and each piece leaves
 * while the next one is read. A piece lies in one segment of the buffer and is
 * no longer than the payload that was advertised. Most reads are one piece, and
 * that is the last reply.
 *
 * When a piece fails, locate() halves it until the first block that cannot be
 * read is found; what is before that block is told, then the error and where it
 * is.
 *
 * Source: NBD protocol, NBD_CMD_READ, "Structured reply types".
 */
#include <errno.h>

#include "base/range.h"
#include "blk/backend.h"
#include "blk/status.h"
#include "blk/zero.h"
#include "conn.h"
#include "request.h"
#include "server/limits.h"

/* How far a READ in chunks has come. */
struct reading {
	struct request *req;
	uint64_t off, end;   /* what is still to be told */
	const struct iovec *seg; /* of the buffer, where off belongs */
	size_t skip;	     /* bytes of seg before that */
	bool sparse;	     /* holes are looked for */
	unsigned lookups;    /* of them still to be made; then the rest counts as data */
	uint64_t data, hole; /* known to begin at off: so much of the one, then of the other */
};

static struct iovec
here(const struct reading *r, size_t len)
{
	return (struct iovec){ (char *)r->seg->iov_base + r->skip, len };
}

static void
advance(struct reading *r, uint64_t len)
{
	r->off += len;
	r->data -= MIN(r->data, len);
	while (len > 0) {
		size_t n = (size_t)MIN(len, (uint64_t)(r->seg->iov_len - r->skip));

		r->skip += n;
		len -= n;
		if (r->skip == r->seg->iov_len) {
			r->seg++;
			r->skip = 0;
		}
	}
}

/* --- Replies ---------------------------------------------------------------- */

static int co_fn
tell_hole(struct reading *r, uint64_t len)
{
	uint64_t off = r->off;

	advance(r, len);
	if (r->off < r->end)
		return reply_co_hole(r->req, off, len);
	reply_queue_hole(r->req, off, len);
	return 0;
}

static int co_fn
tell_data(struct reading *r, size_t len)
{
	struct iovec mem = here(r, len);
	uint64_t off = r->off;

	advance(r, len);
	if (r->off < r->end)
		return reply_co_data(r->req, NBD_REPLY_OFFSET_DATA, off, mem.iov_base, len);
	reply_queue_data(r->req, NBD_REPLY_OFFSET_DATA, off, mem.iov_base, len);
	return 0;
}

/* Data that has been read, where zeroes are to be told as holes: unit by unit. */
static int co_fn
tell_data_and_zeroes(struct reading *r, size_t len)
{
	int ret = 0;

	while (len > 0 && ret == 0) {
		bool zero = false;
		size_t n = 0;

		while (n < len) {
			size_t unit = LIMIT_HOLE_UNIT - (size_t)((r->off + n) % LIMIT_HOLE_UNIT);
			struct iovec mem = here(r, n);

			unit = MIN(unit, len - n);
			mem = (struct iovec){ (char *)mem.iov_base + n, unit };
			if (n > 0 && zero_iov(&mem, 1) != zero)
				break;
			if (n == 0)
				zero = zero_iov(&mem, 1);
			n += unit;
		}
		ret = zero ? tell_hole(r, n) : tell_data(r, n);
		len -= n;
	}
	return ret;
}

/* --- Holes ------------------------------------------------------------------ */

/* Whether a hole of LEN bytes at AT is worth a chunk of its own. */
static bool
is_worth_telling(const struct reading *r, uint64_t at, uint64_t len)
{
	return len >= LIMIT_HOLE_UNIT || (at == r->off && at + len == r->end);
}

/* What the device has from AT on; a failure is data: reading will tell. */
static struct blk_extent co_fn
ask(struct conn *conn, uint64_t at)
{
	uint64_t left = conn->limits.size_bytes - at;
	struct blk_extent e;

	if (blk_co_status(conn->port->q, at, left, &e) < 0)
		e = (struct blk_extent){ .len = left };
	return e;
}

/*
 * Looks from off on until a hole is found, LEN_MAX bytes of data are known, or
 * it has looked often enough.
 */
static void co_fn
look(struct reading *r, uint64_t len_max)
{
	struct conn *conn = r->req->conn;
	uint64_t left = r->end - r->off;

	len_max = MIN(left, len_max);
	while (r->hole == 0 && r->data < len_max) {
		uint64_t at = r->off + r->data;
		struct blk_extent e;

		if (!r->sparse || r->lookups == 0) {
			r->data = left;
			return;
		}
		r->lookups--;
		e = ask(conn, at);
		e.len = MIN(e.len, r->end - at);
		if (e.flags & BLK_EXTENT_ZERO && is_worth_telling(r, at, e.len))
			r->hole = e.len;
		else
			r->data += e.len;
	}
}

/* --- Failures --------------------------------------------------------------- */

/*
 * Whether RET is about some block of a range, while others may be fine: the words
 * that Linux has for what a medium, or the checksum of a block, says. After any
 * other one asking again would be in vain, or each time as slow as the first.
 */
static bool
is_medium_error(int ret)
{
	return ret == -EIO || ret == -ENODATA || ret == -EILSEQ;
}

/* Somebody waits for the answer, and there is time for it: each try may take seconds. */
static bool
is_awaited(const struct conn *conn)
{
	return !conn->reader_ended && !conn->chan.aborted && !worker_draining(conn->worker);
}

/*
 * Finds the first block of a piece of LEN bytes that cannot be read: *GOOD bytes
 * before it can be, and have been. False: it was not found in the reads that
 * this may take.
 */
static bool co_fn
locate(const struct reading *r, size_t len, size_t *good)
{
	struct conn *conn = r->req->conn;
	uint64_t block = MAX(conn->exp->dev->limits.request_alignment, (uint64_t)512);
	size_t bad = len; /* the first bad block begins before it */

	*good = 0;
	for (unsigned tries = 0; tries < LIMIT_LOCATE_READS && is_awaited(conn); tries++) {
		uint64_t from = r->off + *good, to = r->off + bad;
		uint64_t middle = align_up(from + (to - from) / 2, block);
		struct iovec mem = here(r, (size_t)(middle - r->off));

		if (middle >= to)
			middle = align_down(to - 1, block);
		if (middle <= from)
			return true;
		mem.iov_base = (char *)mem.iov_base + *good;
		mem.iov_len = (size_t)(middle - from);
		if (backend_co_read(conn->port, from, &mem, 1, &conn->client) == 0)
			*good += mem.iov_len;
		else
			bad = (size_t)(middle - r->off);
	}
	return false;
}

/* A piece of LEN bytes has failed with RET: the rest of the reply. */
static void co_fn
piece_failed(struct reading *r, size_t len, int ret)
{
	struct request *req = r->req;
	bool located = false;
	size_t good = 0;

	if (is_medium_error(ret))
		located = locate(r, len, &good);
	if (good > 0 && tell_data(r, good) < 0)
		located = false;
	if (!located) {
		request_finish(req, ret);
		return;
	}
	conn_log_failure(req->conn, req, ret);
	reply_queue_error_at(req, ret, r->off);
}

/* --- Reads ------------------------------------------------------------------ */

/* The next piece of data at most, of the DATA bytes that are known. */
static size_t
piece_max(const struct reading *r, uint64_t data)
{
	uint64_t max = r->req->conn->limits.payload_max;
	uint64_t n = MIN(data, r->end - r->off);

	n = MIN(n, (uint64_t)(r->seg->iov_len - r->skip));
	/* Where it is cut, at a whole sector. */
	return (size_t)(n > max ? max - (r->off + max) % 512 : n);
}

static void co_fn
read_chunks(struct reading *r)
{
	struct conn *conn = r->req->conn;
	int ret = 0;

	while (r->off < r->end && ret == 0) {
		struct iovec mem;
		size_t n;

		look(r, piece_max(r, UINT64_MAX));
		if (r->data == 0) {
			uint64_t hole = r->hole;

			r->hole = 0;
			ret = tell_hole(r, hole);
			continue;
		}
		n = piece_max(r, r->data);
		mem = here(r, n);
		ret = backend_co_read(conn->port, r->off, &mem, 1, &conn->client);
		if (ret < 0) {
			piece_failed(r, n, ret);
			return;
		}
		if (r->sparse && conn->exp->sparse == EXPORT_SPARSE_ZEROES)
			ret = tell_data_and_zeroes(r, n);
		else
			ret = tell_data(r, n);
	}
	if (ret < 0)
		request_finish(r->req, ret);
}

/* One chunk, of data or of a hole. */
static void co_fn
read_unfragmented(struct reading *r)
{
	struct request *req = r->req;
	int ret;

	look(r, r->end - r->off);
	if (r->data == 0 && r->hole == r->end - r->off) {
		reply_queue_hole(req, r->off, r->hole);
		return;
	}
	ret = backend_co_read(req->conn->port, r->off, req->buf.iov, req->buf.iovcnt,
			      &req->conn->client);
	if (ret < 0)
		request_finish(req, ret);
	else
		reply_queue_buffer(req);
}

void
read_co_main(struct request *req)
{
	struct conn *conn = req->conn;
	uint64_t len = req->nbd.length;
	struct reading r = {
		.req = req,
		.off = req->nbd.offset,
		.end = req->nbd.offset + len,
		.seg = req->buf.iov,
		.sparse = len >= LIMIT_HOLE_UNIT && conn->exp->sparse != EXPORT_SPARSE_OFF,
		.lookups = LIMIT_HOLE_LOOKUPS,
	};
	int ret;

	if (len == 0) {
		request_finish(req, 0);
	} else if (conn->limits.headers != NBD_SIMPLE) {
		if (req->nbd.flags & NBD_CMD_FLAG_DF)
			read_unfragmented(&r);
		else
			read_chunks(&r);
	} else {
		ret = backend_co_read(conn->port, r.off, req->buf.iov, req->buf.iovcnt,
				      &req->conn->client);
		if (ret < 0)
			request_finish(req, ret);
		else
			reply_queue_buffer(req);
	}
}
