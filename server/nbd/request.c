/* SPDX-License-Identifier: MIT */
/*
 * request.c - one command of a client.
 *
 * The path: conn_reader() parses a header and asks request_check(); a good
 * request gets its buffer, its payload and a coroutine, request_main(), which
 * calls the block layer and hands the result to reply_queue(). READ and
 * BLOCK_STATUS, whose replies have parts, are in read.c and status.c.
 */
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/endian.h"
#include "base/range.h"
#include "blk/backend.h"
#include "blk/io.h"
#include "blk/status.h"
#include "conn.h"
#include "context.h"
#include "server/limits.h"
#include "server/log.h"

/* --- The verdict ------------------------------------------------------------ */

struct command {
	uint16_t flags;	     /* that it always takes */
	uint16_t needs;	     /* transmission flag without which it is not offered; 0: none */
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
		.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE,
		.needs = NBD_FLAG_SEND_WRITE_ZEROES,
		.writes = true,
		.has_range = true,
		.past_end = -ENOSPC,
	},
	[NBD_CMD_BLOCK_STATUS] = {
		.op = BACKEND_READ,
		.flags = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,
		.has_range = true,
		.past_end = -EINVAL,
	},
};

static const struct command *
command_find(uint16_t number)
{
	/* Served are those with a flag to take; DISC has none. */
	return number < ARRAY_SIZE(commands) && commands[number].flags ? &commands[number] : NULL;
}

/* The flags that command NUMBER takes in this session. */
static uint16_t
flags_taken(const struct request_limits *limits, uint16_t number)
{
	bool extended = limits->headers == NBD_EXTENDED;
	uint16_t flags = commands[number].flags;

	if (number == NBD_CMD_READ && limits->tflags & NBD_FLAG_SEND_DF)
		flags |= NBD_CMD_FLAG_DF;
	if (number == NBD_CMD_WRITE && extended)
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (number == NBD_CMD_BLOCK_STATUS && limits->tflags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (number == NBD_CMD_WRITE_ZEROES && limits->tflags & NBD_FLAG_SEND_FAST_ZERO)
		flags |= NBD_CMD_FLAG_FAST_ZERO;
	return flags;
}

static bool
is_status_with_payload(const struct nbd_request *req)
{
	return req->command == NBD_CMD_BLOCK_STATUS && req->flags & NBD_CMD_FLAG_PAYLOAD_LEN;
}

/* An effect length, and at least one context; so many as were agreed on, at most. */
static bool
status_payload_fits(const struct request_limits *limits, uint64_t len)
{
	return len >= 8 + 4 && (len - 8) % 4 == 0 &&
	       (len - 8) / 4 <= (unsigned)__builtin_popcount(limits->contexts);
}

static bool
fits_blocks(const struct request_limits *limits, const struct nbd_request *req)
{
	return is_aligned(req->offset, limits->alignment) &&
	       (is_aligned(req->length, limits->alignment) ||
		req->offset + req->length == limits->size_bytes);
}

static struct request_verdict
refuse(int ret, enum request_fault fault)
{
	return (struct request_verdict){ .ret = ret, .fault = fault };
}

/* Of a READ or WRITE in range that is longer than what is served, or a chunk. */
static struct request_verdict
judge_length(const struct request_limits *limits, const struct nbd_request *req,
	     uint32_t length_max)
{
	bool reads = req->command == NBD_CMD_READ && limits->headers != NBD_SIMPLE;

	if (reads && req->flags & NBD_CMD_FLAG_DF)
		length_max = MIN(length_max, limits->payload_max);
	if (req->length > length_max)
		return refuse(reads ? -EOVERFLOW : -EINVAL, REQUEST_TOO_LONG);
	return refuse(0, REQUEST_FINE);
}

static struct request_verdict
judge(const struct request_limits *limits, const struct nbd_request *req)
{
	const struct command *cmd = command_find(req->command);

	if (!cmd)
		return refuse(-EINVAL, REQUEST_COMMAND);
	if (req->flags & ~flags_taken(limits, req->command))
		return refuse(-EINVAL, REQUEST_FLAGS);
	if (cmd->writes && limits->tflags & NBD_FLAG_READ_ONLY)
		return refuse(-EPERM, REQUEST_READ_ONLY);
	if (cmd->needs && !(limits->tflags & cmd->needs))
		return refuse(-EINVAL, REQUEST_NOT_OFFERED);
	if (req->command == NBD_CMD_BLOCK_STATUS && !limits->contexts)
		return refuse(-EINVAL, REQUEST_NO_CONTEXT);
	if (!cmd->has_range)
		return req->offset || req->length ? refuse(-EINVAL, REQUEST_ARGUMENTS) :
						    refuse(0, REQUEST_FINE);
	if (is_status_with_payload(req))
		return status_payload_fits(limits, req->length) ? refuse(0, REQUEST_FINE) :
								  refuse(-EINVAL, REQUEST_PAYLOAD);
	if (!range_ok(req->offset, req->length, limits->size_bytes))
		return refuse(cmd->past_end, REQUEST_RANGE);
	if (req->command == NBD_CMD_BLOCK_STATUS && req->length == 0)
		return refuse(-EINVAL, REQUEST_EMPTY);
	if (!fits_blocks(limits, req))
		return refuse(-EINVAL, REQUEST_ALIGNMENT);
	if (cmd->length_max)
		return judge_length(limits, req, cmd->length_max);
	return refuse(0, REQUEST_FINE);
}

/* A WRITE's length is its payload's, whether an extended header says so or not. */
static uint64_t
payload_bytes(const struct request_limits *limits, const struct nbd_request *req)
{
	bool says_so = limits->headers == NBD_EXTENDED && req->flags & NBD_CMD_FLAG_PAYLOAD_LEN;

	return says_so || req->command == NBD_CMD_WRITE ? req->length : 0;
}

struct request_verdict
request_check(const struct request_limits *limits, const struct nbd_request *req)
{
	struct request_verdict v = judge(limits, req);

	v.payload_bytes = payload_bytes(limits, req);
	if (v.ret < 0)
		return v;
	if (req->command == NBD_CMD_READ || req->command == NBD_CMD_WRITE)
		v.buffer_bytes = (uint32_t)req->length;
	else if (req->command == NBD_CMD_BLOCK_STATUS && !is_status_with_payload(req))
		v.buffer_bytes = req->flags & NBD_CMD_FLAG_REQ_ONE ? LIMIT_STATUS_ONE_BYTES :
								     LIMIT_STATUS_BYTES;
	return v;
}

bool
request_status_payload(const struct request_limits *limits, uint32_t id_base,
		       const uint8_t *payload, size_t len, struct nbd_request *req,
		       uint32_t *contexts)
{
	uint32_t wanted = 0;

	invariant(status_payload_fits(limits, len));
	for (size_t at = 8; at < len; at += 4) {
		uint32_t bit = context_bit(get_be32(payload + at), id_base);

		if (!(bit & limits->contexts) || bit & wanted)
			return false;
		wanted |= bit;
	}
	req->flags &= (uint16_t)~NBD_CMD_FLAG_PAYLOAD_LEN;
	req->length = get_be64(payload);
	*contexts = wanted;
	return true;
}

/* --- Words ------------------------------------------------------------------- */

size_t
request_explain(const struct request *req, int ret, char *text, size_t size)
{
	const struct request_limits *limits = &req->conn->limits;
	const struct nbd_request *nbd = &req->nbd;
	const char *command = nbd_cmd_name(nbd->command);
	unsigned long long off = nbd->offset, len = nbd->length, end = limits->size_bytes;
	const char *error = strerrordesc_np(-ret);
	char out[REQUEST_TEXT_MAX + 1];
	int n;

	switch (req->fault) {
	case REQUEST_COMMAND:
		n = snprintf(out, sizeof(out), "there is no command %u", nbd->command);
		break;
	case REQUEST_FLAGS:
		n = snprintf(out, sizeof(out),
			     "%s does not take flags 0x%x in this session, only 0x%x", command,
			     nbd->flags & ~flags_taken(limits, nbd->command),
			     flags_taken(limits, nbd->command));
		break;
	case REQUEST_READ_ONLY:
		n = snprintf(out, sizeof(out), "the export is read-only");
		break;
	case REQUEST_NOT_OFFERED:
		n = snprintf(out, sizeof(out), "%s was not offered for this export", command);
		break;
	case REQUEST_ARGUMENTS:
		n = snprintf(out, sizeof(out), "%s takes no offset and no length", command);
		break;
	case REQUEST_NO_CONTEXT:
		n = snprintf(out, sizeof(out), "no metadata context was agreed on");
		break;
	case REQUEST_RANGE:
		n = snprintf(out, sizeof(out), "%llu bytes at %llu are not within the %llu of the export",
			     len, off, end);
		break;
	case REQUEST_EMPTY:
		n = snprintf(out, sizeof(out), "%s of no bytes has no answer", command);
		break;
	case REQUEST_ALIGNMENT:
		n = snprintf(out, sizeof(out),
			     "%llu bytes at %llu are no whole blocks of %llu, as was agreed on", len,
			     off, (unsigned long long)limits->alignment);
		break;
	case REQUEST_TOO_LONG:
		n = snprintf(out, sizeof(out), "%llu bytes are more than one %s may have", len,
			     command);
		break;
	case REQUEST_PAYLOAD:
		n = snprintf(out, sizeof(out),
			     "the payload of %s is no length and contexts that were agreed on, each once",
			     command);
		break;
	case REQUEST_FINE:
	default:
		if (ret == -ESHUTDOWN)
			n = snprintf(out, sizeof(out), "the server is stopping");
		else if (ret == -ENOTSUP)
			n = snprintf(out, sizeof(out), "zeroing is no faster here than writing");
		else
			n = snprintf(out, sizeof(out), "%s of %llu bytes at %llu failed: %s", command,
				     len, off, error ? error : "an error without a name");
		break;
	}
	n = MIN(n, (int)sizeof(out) - 1);
	n = MIN(n, (int)size);
	memcpy(text, out, (size_t)n);
	return (size_t)n;
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

/* How far a range of LEN bytes at OFF is known to be a hole, with nothing to be read. */
static uint64_t co_fn
cache_hole(struct queue *q, uint64_t off, uint64_t len)
{
	struct blk_extent e;

	if (blk_co_status(q, off, len, &e) < 0)
		return 0;
	return e.flags & BLK_EXTENT_ZERO ? e.len : 0;
}

static int co_fn
cache_piece(struct queue *q, struct request *req, uint64_t off, uint64_t len)
{
	struct buf_pool *pool = worker_pool(req->conn->worker);
	int ret;

	buf_co_get(pool, &req->buf, (size_t)len);
	ret = blk_co_read(q, off, req->buf.iov, req->buf.iovcnt);
	buf_put(pool, &req->buf);
	return ret;
}

/*
 * Reads the range once, so that a page cache has it; but not holes, which would
 * fill it with zeroes. A hint: no failure counts, and it stands back behind real
 * work. It has memory only while it reads, and nobody waits for a turn with memory
 * in hand.
 */
static int co_fn
cache_range(struct queue *q, struct request *req)
{
	struct loop *loop = req->conn->chan.loop;
	struct co_sem *turns = worker_cache_reads(req->conn->worker);
	uint64_t off = req->nbd.offset, end = off + req->nbd.length;
	int ret = queue_dev(q)->direct ? -ENOTSUP : 0;

	while (off < end && ret == 0) {
		uint64_t len;

		co_sem_down(turns, loop_sched(loop));
		len = cache_hole(q, off, end - off);
		if (cache_is_over(req->conn)) {
			ret = -ECANCELED;
		} else if (len == 0) {
			len = MIN(end - off, LIMIT_CACHE_PIECE);
			ret = cache_piece(q, req, off, len);
		}
		off += len;
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
	struct backend_client *client = &req->conn->client;

	switch (nbd->command) {
	case NBD_CMD_WRITE:
		return backend_co_write(port, nbd->offset, req->buf.iov, req->buf.iovcnt,
					fua_of(req), client);
	case NBD_CMD_FLUSH:
		return backend_co_flush(port, client);
	case NBD_CMD_TRIM:
		return backend_co_discard(port, nbd->offset, nbd->length, fua_of(req), client);
	case NBD_CMD_CACHE:
		return cache_range(port->q, req);
	case NBD_CMD_WRITE_ZEROES:
		return backend_co_write_zeroes(port, nbd->offset, nbd->length, zero_flags_of(req),
					       client);
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
	/* A device's words that would mean something else of the server. */
	if (ret == -EOVERFLOW || (ret == -ESHUTDOWN && !worker_draining(req->conn->worker)))
		return -EIO;
	return ret;
}

void
request_finish(struct request *req, int ret)
{
	if (unlikely(ret < 0))
		conn_log_failure(req->conn, req, ret);
	reply_queue(req, result_for_client(req, ret));
}

void
request_main(void *arg)
{
	struct request *req = arg;

	co_assert();
	invariant(range_ok(req->nbd.offset, req->nbd.length, req->conn->limits.size_bytes));
	if (req->nbd.command == NBD_CMD_READ)
		read_co_main(req);
	else if (req->nbd.command == NBD_CMD_BLOCK_STATUS)
		status_co_main(req);
	else
		request_finish(req, request_run(req));
}
