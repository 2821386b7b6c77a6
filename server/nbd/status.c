/* SPDX-License-Identifier: MIT */
/*
 * status.c - BLOCK_STATUS: the extents of a range, for each context agreed on.
 *
 * The path: the request's buffer is shared out among its contexts; for each one
 * fill() asks for extent after extent and writes them down as they go out; its
 * part of the buffer is then one chunk of the reply.
 *
 * What bounds it: a chunk is never longer than its part of the buffer, nor than
 * the advertised payload. Where that is full the answer is shorter than the
 * range, and the client asks again. Asking keeps the loop: all BLOCK_STATUS of a
 * worker have one turn, in which one after the other asks, and together they ask for
 * no more than LIMIT_STATUS_TURN extents in a turn of the loop.
 *
 * Source: NBD protocol, NBD_CMD_BLOCK_STATUS, NBD_REPLY_TYPE_BLOCK_STATUS and
 * _EXT.
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "blk/backend.h"
#include "conn.h"
#include "context.h"
#include "request.h"
#include "server/limits.h"

/* Of a compact extent, which has 32 bits: whole blocks of whatever size. */
#define COMPACT_EXTENT_MAX (UINT64_C(1) << 31)

/* A chunk of extents in the making. */
struct extents {
	bool extended;
	bool one; /* there is to be one, or those that continue it */
	uint8_t *mem;
	size_t size, len; /* bytes */
	uint32_t count;
	struct context_extent last; /* of them; not yet in mem */
};

static size_t
extent_bytes(const struct extents *x)
{
	return x->extended ? 16 : 8;
}

static void
extents_begin(struct extents *x, bool extended, bool one, uint8_t *mem, size_t size, uint32_t id)
{
	*x = (struct extents){ .extended = extended, .one = one, .mem = mem, .size = size };
	put_be32(mem, id);
	x->len = extended ? 8 : 4;
}

static void
extents_write(struct extents *x)
{
	uint8_t *to = x->mem + x->len;

	if (x->extended) {
		put_be64(to, x->last.len);
		put_be64(to + 8, x->last.flags);
	} else {
		put_be32(to, (uint32_t)x->last.len);
		put_be32(to + 4, x->last.flags);
	}
	x->len += extent_bytes(x);
	x->count++;
}

/* Takes E, or as much as there is room for; how much. 0: the chunk is full. */
static uint64_t
extents_add(struct extents *x, const struct context_extent *e)
{
	uint64_t max = x->extended ? UINT64_MAX : COMPACT_EXTENT_MAX;
	bool begun = x->last.len > 0;
	uint64_t taken;

	if (begun && x->last.flags == e->flags && x->last.len < max) {
		taken = MIN(e->len, max - x->last.len);
		x->last.len += taken;
		return taken;
	}
	if (begun) {
		/* The one that is to come must fit as well. */
		if (x->one || x->len + 2 * extent_bytes(x) > x->size)
			return 0;
		extents_write(x);
	}
	taken = MIN(e->len, max);
	x->last = (struct context_extent){ .len = taken, .flags = e->flags };
	return taken;
}

static void
extents_end(struct extents *x)
{
	extents_write(x);
	if (x->extended)
		put_be32(x->mem + 4, x->count);
}

/* Asks CTX for one extent, in our turn. */
static int co_fn
ask(struct conn *conn, const struct context *ctx, uint64_t off, uint64_t len,
    struct context_extent *e)
{
	struct loop *loop = conn->chan.loop;
	struct worker_turn *turn = worker_status_turn(conn->worker);
	int ret = -ECONNABORTED;

	co_sem_down(&turn->sem, loop_sched(loop));
	if (!conn->chan.aborted)
		ret = ctx->co_extent(conn->port->q, off, len, e);
	if (++turn->count % LIMIT_STATUS_TURN == 0)
		loop_co_sleep(loop, 0);
	co_sem_up(&turn->sem);
	return ret;
}

/* Asks CTX for the extents of the request's range, until there is no more room for them. */
static int co_fn
fill(struct request *req, const struct context *ctx, struct extents *x)
{
	uint64_t off = req->nbd.offset, end = off + req->nbd.length;

	for (unsigned asked = 1; off < end; asked++) {
		struct context_extent e;
		uint64_t taken;
		int ret = ask(req->conn, ctx, off, end - off, &e);

		if (ret < 0)
			return ret;
		invariant(e.len > 0 && e.len <= end - off);
		taken = extents_add(x, &e);
		if (taken == 0 || asked == LIMIT_STATUS_EXTENTS)
			break;
		off += taken;
	}
	extents_end(x);
	return 0;
}

void
status_co_main(struct request *req)
{
	struct conn *conn = req->conn;
	bool extended = conn->limits.headers == NBD_EXTENDED;
	enum nbd_reply_type type = extended ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS;
	unsigned left = (unsigned)__builtin_popcount(req->contexts);
	size_t share = req->buf.iov[0].iov_len / left;
	uint8_t *mem = req->buf.iov[0].iov_base;
	const struct context *ctx;

	for (unsigned i = 0; (ctx = context_at(i)); i++) {
		struct extents x;
		int ret;

		if (!(req->contexts & UINT32_C(1) << i))
			continue;
		extents_begin(&x, extended, req->nbd.flags & NBD_CMD_FLAG_REQ_ONE, mem,
			      MIN(share, (size_t)conn->limits.payload_max),
			      conn->agreed.context_id_base + i);
		ret = fill(req, ctx, &x);
		if (ret == 0 && --left > 0)
			ret = reply_co_data(req, type, 0, mem, x.len);
		else if (ret == 0)
			reply_queue_data(req, type, 0, mem, x.len);
		if (ret < 0) {
			request_finish(req, ret);
			return;
		}
		mem += share;
	}
}
