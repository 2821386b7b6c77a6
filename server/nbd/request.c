/* SPDX-License-Identifier: MIT */
/*
 * request.c - one command of a client.
 *
 * The path: conn_reader() parses a header and asks request_check(); a good
 * request gets its buffer, its payload and a coroutine, request_main(), which
 * calls the block layer and hands the result to reply_queue().
 */
#include "request.h"

#include <errno.h>
#include <string.h>

#include "base/range.h"
#include "blk/backend.h"
#include "blk/io.h"
#include "conn.h"
#include "reply.h"
#include "server/limits.h"
#include "server/log.h"

/* --- The verdict ------------------------------------------------------------ */

struct command {
	uint16_t flags;	     /* that it takes */
	uint16_t needs;	     /* transmission flag without which it is unknown; 0: none */
	enum backend_op op;  /* as what it is counted */
	bool writes;	     /* refused on a read-only export */
	bool has_range;	     /* offset and length mean bytes of the export */
	int past_end;	     /* -errno for a range beyond the end */
	uint32_t length_max; /* 0: none */
};

static const struct command commands[] = {
	[NBD_CMD_READ] = {
		.op = BACKEND_READ,
		.flags = NBD_CMD_FLAG_FUA,
		.has_range = true,
		.past_end = -EINVAL,
		.length_max = LIMIT_PAYLOAD_SERVED,
	},
	[NBD_CMD_WRITE] = {
		.op = BACKEND_WRITE,
		.flags = NBD_CMD_FLAG_FUA,
		.writes = true,
		.has_range = true,
		.past_end = -ENOSPC,
		.length_max = LIMIT_PAYLOAD_SERVED,
	},
	[NBD_CMD_FLUSH] = {
		.op = BACKEND_FLUSH,
		.flags = NBD_CMD_FLAG_FUA,
		.needs = NBD_FLAG_SEND_FLUSH,
	},
	[NBD_CMD_TRIM] = {
		.op = BACKEND_DISCARD,
		.flags = NBD_CMD_FLAG_FUA,
		.needs = NBD_FLAG_SEND_TRIM,
		.writes = true,
		.has_range = true,
		.past_end = -EINVAL,
	},
	[NBD_CMD_CACHE] = {
		.op = BACKEND_READ,
		.flags = NBD_CMD_FLAG_FUA,
		.needs = NBD_FLAG_SEND_CACHE,
		.has_range = true,
		.past_end = -EINVAL,
	},
	[NBD_CMD_WRITE_ZEROES] = {
		.op = BACKEND_ZEROES,
		.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		.needs = NBD_FLAG_SEND_WRITE_ZEROES,
		.writes = true,
		.has_range = true,
		.past_end = -ENOSPC,
	},
};

static const struct command *
command_find(uint16_t number)
{
	/* Served are those with a flag to take; DISC and BLOCK_STATUS have none. */
	return number < ARRAY_SIZE(commands) && commands[number].flags ? &commands[number] : NULL;
}

static int
judge(const struct request_limits *limits, const struct nbd_request *req)
{
	const struct command *cmd = command_find(req->command);
	bool read_only = limits->tflags & NBD_FLAG_READ_ONLY;

	if (!cmd || req->flags & ~cmd->flags)
		return -EINVAL;
	if (cmd->writes && read_only)
		return -EPERM;
	if (cmd->needs && !(limits->tflags & cmd->needs))
		return -EINVAL;
	if (!cmd->has_range)
		return req->offset || req->length ? -EINVAL : 0;
	if (!range_ok(req->offset, req->length, limits->size_bytes))
		return cmd->past_end;
	if (!is_aligned(req->offset | req->length, limits->alignment))
		return -EINVAL;
	if (cmd->length_max && req->length > cmd->length_max)
		return -EINVAL;
	return 0;
}

struct request_verdict
request_check(const struct request_limits *limits, const struct nbd_request *req)
{
	struct request_verdict v = {
		.ret = judge(limits, req),
		.payload_bytes = req->command == NBD_CMD_WRITE ? req->length : 0,
	};

	if (v.ret < 0)
		return v;
	if (req->command == NBD_CMD_READ || req->command == NBD_CMD_WRITE)
		v.buffer_bytes = req->length;
	return v;
}

void
request_count_refused(const struct request *req)
{
	const struct command *cmd = command_find(req->nbd.command);

	if (cmd)
		backend_invalid(req->conn->port, cmd->op);
}

/* --- Execution -------------------------------------------------------------- */

static unsigned
fua_of(const struct request *req)
{
	return req->nbd.flags & NBD_CMD_FLAG_FUA ? BLK_FUA : 0;
}

static unsigned
zero_flags_of(const struct request *req)
{
	return fua_of(req) | (req->nbd.flags & NBD_CMD_FLAG_NO_HOLE ? 0 : BLK_MAY_UNMAP) |
	       (req->nbd.flags & NBD_CMD_FLAG_FAST_ZERO ? BLK_NO_FALLBACK : 0);
}

/*
 * Whether a hint is of no more use, or in the way: with the reader waiting for
 * a slot its client could not even be heard to leave.
 */
static bool
cache_is_over(const struct conn *conn)
{
	return conn->chan.aborted || conn->reader_ended || worker_draining(conn->worker) ||
	       !co_waitq_empty(&conn->slot_wait);
}

static int co_fn
cache_piece(struct queue *q, struct request *req, uint64_t off, uint64_t len)
{
	struct buf_pool *pool = worker_pool(req->conn->worker);
	int ret;

	if (cache_is_over(req->conn))
		return -ECANCELED;
	buf_co_get(pool, &req->buf, (size_t)MIN(len, LIMIT_CACHE_PIECE));
	ret = blk_co_read(q, off, req->buf.iov, req->buf.iovcnt);
	buf_put(pool, &req->buf);
	return ret;
}

/*
 * Reads the range once, so that a page cache has it. A hint: no failure counts,
 * and it stands back behind real work. It has memory only while it reads, and
 * nobody waits for a turn with memory in hand.
 */
static int co_fn
cache_range(struct queue *q, struct request *req)
{
	struct loop *loop = req->conn->chan.loop;
	struct co_sem *turns = worker_cache_reads(req->conn->worker);
	uint64_t off = req->nbd.offset, end = off + req->nbd.length;
	int ret = queue_dev(q)->direct ? -ENOTSUP : 0;

	for (; off < end && ret == 0; off += LIMIT_CACHE_PIECE) {
		co_sem_down(turns, loop_sched(loop));
		ret = cache_piece(q, req, off, end - off);
		/* The next one in the loop's next turn, after the sockets' work. */
		loop_co_sleep(loop, 0);
		co_sem_up(turns);
	}
	return 0;
}

static int co_fn
request_run(struct request *req)
{
	const struct nbd_request *nbd = &req->nbd;
	struct backend_port *port = req->conn->port;
	const bool *gone = &req->conn->reader_ended;

	switch (nbd->command) {
	case NBD_CMD_READ:
		return backend_co_read(port, nbd->offset, req->buf.iov, req->buf.iovcnt, gone);
	case NBD_CMD_WRITE:
		return backend_co_write(port, nbd->offset, req->buf.iov, req->buf.iovcnt,
					fua_of(req), gone);
	case NBD_CMD_FLUSH:
		return backend_co_flush(port, gone);
	case NBD_CMD_TRIM:
		return backend_co_discard(port, nbd->offset, nbd->length, fua_of(req), gone);
	case NBD_CMD_CACHE:
		return cache_range(port->q, req);
	case NBD_CMD_WRITE_ZEROES:
		return backend_co_write_zeroes(port, nbd->offset, nbd->length, zero_flags_of(req),
					       gone);
	default:
		invariant(!"a command that request_check() let through");
		return -EINVAL;
	}
}

/* What the device said, as what this client may be told. */
static int
result_for_client(const struct request *req, int ret)
{
	bool fast_zero = req->nbd.flags & NBD_CMD_FLAG_FAST_ZERO;

	if (ret == -EBADF)
		return req->conn->limits.tflags & NBD_FLAG_READ_ONLY ? -EPERM : -EIO;
	/* ENOTSUP is the answer to FAST_ZERO and to nothing else. */
	if (ret == -ENOTSUP && !fast_zero)
		return -EINVAL;
	return ret;
}

void
request_main(void *arg)
{
	struct request *req = arg;
	int ret;

	co_assert();
	invariant(range_ok(req->nbd.offset, req->nbd.length, req->conn->limits.size_bytes));
	ret = request_run(req);
	if (unlikely(ret < 0))
		conn_log_failure(req->conn, req, ret);
	reply_queue(req, result_for_client(req, ret));
}
