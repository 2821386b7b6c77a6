/* SPDX-License-Identifier: MIT */
/*
 * reply.c - from results to bytes.
 *
 * The path: reply_queue() notes the result in the request's last reply and
 * appends it to conn->replies; the end-of-turn hook wakes the writer;
 * reply_writer() has gather() encode the headers of all that is queued and put
 * them, with the data between them, into one iovec; sends it, and frees the
 * slots. When the send fails the connection is aborted and the writer only
 * frees what comes.
 *
 * Invariants:
 * I1. Replies of one request are queued in the order in which they are to be
 *     sent, the last one last: when that has gone all of them have.
 * I2. A spare reply is on conn->spare_replies or on conn->replies, or it is
 *     being sent.
 */
#include "reply.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "blk/co_lock.h"
#include "conn.h"
#include "request.h"
#include "server/limits.h"

/* Bytes between a chunk's header and its data, at most: ERROR_OFFSET's. */
#define CHUNK_PREFIX_MAX (4 + 2 + REQUEST_TEXT_MAX + 8)
#define HEADER_MAX (NBD_REPLY_BYTES_MAX + CHUNK_PREFIX_MAX)

_Static_assert(LIMIT_SEND_SEGMENTS > BUF_SLABS_MAX, "any one reply fits");
_Static_assert(LIMIT_SEND_HEADERS >= HEADER_MAX, "and so does its header");

static void
writer_wake(struct conn *conn)
{
	loop_assert();
	co_waitq_wake_one(&conn->writer_idle);
}

static void
reply_turn(struct loop_hook *hook)
{
	writer_wake(container_of(hook, struct conn, reply_hook));
}

/* --- Queueing --------------------------------------------------------------- */

static void loop_fn
enqueue(struct reply *reply)
{
	struct conn *conn = reply->req->conn;

	list_add_tail(&conn->replies, &reply->link);
	if (!co_waitq_empty(&conn->writer_idle)) {
		conn->reply_hook.fn = reply_turn;
		loop_hook_arm(conn->chan.loop, LOOP_REPLY, &conn->reply_hook);
	}
}

static void
set_data(struct reply *reply, uint64_t offset, void *data, size_t len)
{
	reply->offset = offset;
	reply->one = (struct iovec){ data, len };
	reply->iov = &reply->one;
	reply->iovcnt = 1;
}

static void
set_hole(struct reply *reply, uint64_t offset, uint64_t len)
{
	invariant(len > 0 && len <= UINT32_MAX);
	reply->offset = offset;
	reply->length = (uint32_t)len;
}

static struct reply *
last_reply(struct request *req, enum nbd_reply_type type)
{
	req->last = (struct reply){ .req = req, .type = (uint16_t)type, .last = true };
	return &req->last;
}

void
reply_queue(struct request *req, int ret)
{
	struct reply *reply = last_reply(req, ret < 0 ? NBD_REPLY_ERROR : NBD_REPLY_NONE);

	reply->ret = ret;
	/* Chunks before it may still need the memory. */
	if (!req->chunked)
		conn_payload_put(req->conn, req);
	enqueue(reply);
}

void
reply_queue_error_at(struct request *req, int ret, uint64_t offset)
{
	struct reply *reply = last_reply(req, NBD_REPLY_ERROR_OFFSET);

	invariant(req->conn->limits.headers != NBD_SIMPLE && ret < 0);
	reply->ret = ret;
	reply->offset = offset;
	enqueue(reply);
}

void
reply_queue_buffer(struct request *req)
{
	struct reply *reply = last_reply(req, NBD_REPLY_OFFSET_DATA);

	reply->offset = req->nbd.offset;
	reply->iov = req->buf.iov;
	reply->iovcnt = req->buf.iovcnt;
	enqueue(reply);
}

void
reply_queue_data(struct request *req, enum nbd_reply_type type, uint64_t offset, void *data,
		 size_t len)
{
	invariant(req->conn->limits.headers != NBD_SIMPLE);
	set_data(last_reply(req, type), offset, data, len);
	enqueue(&req->last);
}

void
reply_queue_hole(struct request *req, uint64_t offset, uint64_t len)
{
	invariant(req->conn->limits.headers != NBD_SIMPLE);
	set_hole(last_reply(req, NBD_REPLY_OFFSET_HOLE), offset, len);
	enqueue(&req->last);
}

/* A reply for a chunk before the last. NULL: the client is gone. */
static struct reply *co_fn
spare_get(struct request *req, enum nbd_reply_type type)
{
	struct conn *conn = req->conn;
	struct reply *reply;

	invariant(conn->limits.headers != NBD_SIMPLE);
	while (list_empty(&conn->spare_replies))
		co_waitq_wait(&conn->spare_wait, loop_sched(conn->chan.loop));
	if (conn->chan.aborted) {
		co_waitq_wake_one(&conn->spare_wait);
		return NULL;
	}
	reply = list_entry(list_pop(&conn->spare_replies), struct reply, link);
	*reply = (struct reply){ .req = req, .type = (uint16_t)type };
	req->chunked = true;
	return reply;
}

int
reply_co_data(struct request *req, enum nbd_reply_type type, uint64_t offset, void *data,
	      size_t len)
{
	struct reply *reply = spare_get(req, type);

	if (!reply)
		return -ECONNABORTED;
	set_data(reply, offset, data, len);
	enqueue(reply);
	return 0;
}

int
reply_co_hole(struct request *req, uint64_t offset, uint64_t len)
{
	struct reply *reply = spare_get(req, NBD_REPLY_OFFSET_HOLE);

	if (!reply)
		return -ECONNABORTED;
	set_hole(reply, offset, len);
	enqueue(reply);
	return 0;
}

static void loop_fn
reply_sent(struct conn *conn, struct reply *reply)
{
	if (reply->last) {
		conn_slot_put(conn, reply->req);
		return;
	}
	list_add_tail(&conn->spare_replies, &reply->link);
	co_waitq_wake_one(&conn->spare_wait);
}

/* --- Encoding --------------------------------------------------------------- */

static size_t
data_bytes(const struct reply *reply)
{
	size_t len = 0;

	for (int i = 0; i < reply->iovcnt; i++)
		len += reply->iov[i].iov_len;
	return len;
}

/* What stands between a chunk's header and its data; its length. */
static size_t
encode_prefix(const struct reply *reply, uint8_t *to)
{
	size_t len;

	switch (reply->type) {
	case NBD_REPLY_OFFSET_DATA:
		put_be64(to, reply->offset);
		return 8;
	case NBD_REPLY_OFFSET_HOLE:
		put_be64(to, reply->offset);
		put_be32(to + 8, reply->length);
		return 12;
	case NBD_REPLY_ERROR:
	case NBD_REPLY_ERROR_OFFSET:
		len = request_explain(reply->req, reply->ret, (char *)to + 6, REQUEST_TEXT_MAX);
		put_be32(to, nbd_error_of(reply->ret));
		put_be16(to + 4, (uint16_t)len);
		len += 6;
		if (reply->type == NBD_REPLY_ERROR_OFFSET) {
			put_be64(to + len, reply->offset);
			len += 8;
		}
		return len;
	default:
		return 0;
	}
}

/* The bytes before the reply's data, into TO of HEADER_MAX; how many. */
static size_t
encode(enum nbd_headers headers, const struct reply *reply, uint8_t *to)
{
	const struct nbd_request *nbd = &reply->req->nbd;
	uint8_t prefix[CHUNK_PREFIX_MAX];
	size_t header_len, prefix_len;

	if (headers == NBD_SIMPLE) {
		nbd_simple_reply_encode(to, nbd_error_of(reply->ret), nbd->cookie);
		return NBD_SIMPLE_REPLY_BYTES;
	}
	prefix_len = encode_prefix(reply, prefix);
	header_len = nbd_chunk_encode(to, headers,
				      &(struct nbd_chunk){
					      .done = reply->last,
					      .type = reply->type,
					      .cookie = nbd->cookie,
					      .offset = nbd->offset,
					      .length = prefix_len + data_bytes(reply),
				      });
	memcpy(to + header_len, prefix, prefix_len);
	return header_len + prefix_len;
}

/* --- The writer ------------------------------------------------------------- */

/* Appends to the iovec, or to its last segment if that ends where this begins. */
static int
append(struct iovec *iov, int n, void *base, size_t len)
{
	if (n > 0 && (char *)iov[n - 1].iov_base + iov[n - 1].iov_len == (char *)base) {
		iov[n - 1].iov_len += len;
		return n;
	}
	iov[n] = (struct iovec){ base, len };
	return n + 1;
}

/* Moves what fits in one send from the replies to BATCH; its iovec's length. */
static int
gather(struct conn *conn, struct list *batch)
{
	struct iovec *iov = conn->send_iov;
	uint8_t *header = conn->send_headers;
	const uint8_t *headers_end = header + sizeof(conn->send_headers);
	size_t bytes = 0;
	int n = 0;

	while (!list_empty(&conn->replies) && bytes < LIMIT_SEND_BYTES &&
	       headers_end - header >= HEADER_MAX) {
		struct reply *reply = list_entry(conn->replies.next, struct reply, link);
		size_t len;

		if (n + 1 + reply->iovcnt > (int)LIMIT_SEND_SEGMENTS)
			break;
		len = encode(conn->limits.headers, reply, header);
		n = append(iov, n, header, len);
		header += len;
		for (int i = 0; i < reply->iovcnt; i++)
			iov[n++] = reply->iov[i];
		bytes += len + data_bytes(reply);
		list_del(&reply->link);
		list_add_tail(batch, &reply->link);
	}
	return n;
}

void
reply_writer(void *arg)
{
	struct conn *conn = arg;
	struct co_sched *sched = loop_sched(conn->chan.loop);

	co_assert();
	for (;;) {
		struct list batch = LIST_INIT(batch);
		struct list *link;
		int iovcnt, ret;

		while (list_empty(&conn->replies)) {
			if (conn->replies_end)
				return;
			co_waitq_wait(&conn->writer_idle, sched);
		}
		iovcnt = gather(conn, &batch);
		ret = chan_co_writev(&conn->chan, conn->send_iov, iovcnt);
		if (ret < 0)
			chan_abort(&conn->chan, ret);
		while ((link = list_pop(&batch)))
			reply_sent(conn, list_entry(link, struct reply, link));
	}
}

void
reply_finish(struct conn *conn)
{
	conn->replies_end = true;
	writer_wake(conn);
}
