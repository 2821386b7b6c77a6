/* SPDX-License-Identifier: MIT */
/*
 * reply.c - from results to bytes.
 *
 * The path: reply_queue() encodes the header into the request and appends it
 * to conn->replies; the end-of-turn hook wakes the writer; reply_writer()
 * gathers headers and READ data of all that is queued into one iovec, sends it
 * and frees the slots. When the send fails the connection is aborted and the
 * writer only frees what comes.
 */
#include "reply.h"

#include <errno.h>

#include "blk/co_lock.h"
#include "conn.h"
#include "request.h"
#include "server/limits.h"

_Static_assert(LIMIT_SEND_SEGMENTS > BUF_SLABS_MAX, "any one reply fits");

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

void
reply_queue(struct request *req, int ret)
{
	struct conn *conn = req->conn;

	req->sends_data = ret == 0 && req->nbd.command == NBD_CMD_READ;
	if (!req->sends_data)
		conn_payload_put(conn, req);
	nbd_simple_reply_encode(req->reply, nbd_error_of(ret), req->nbd.cookie);
	list_add_tail(&conn->replies, &req->link);
	if (!co_waitq_empty(&conn->writer_idle)) {
		conn->reply_hook.fn = reply_turn;
		loop_hook_arm(conn->chan.loop, LOOP_REPLY, &conn->reply_hook);
	}
}

void
reply_finish(struct conn *conn)
{
	conn->replies_end = true;
	writer_wake(conn);
}

/* Moves what fits in one send from the replies to BATCH; its iovec's length. */
static int
gather(struct conn *conn, struct list *batch)
{
	struct iovec *iov = conn->send_iov;
	size_t bytes = 0;
	int n = 0;

	while (!list_empty(&conn->replies) && bytes < LIMIT_SEND_BYTES) {
		struct request *req = list_entry(conn->replies.next, struct request, link);
		int data = req->sends_data ? req->buf.iovcnt : 0;

		if (n + 1 + data > (int)LIMIT_SEND_SEGMENTS)
			break;
		iov[n++] = (struct iovec){ req->reply, sizeof(req->reply) };
		bytes += sizeof(req->reply);
		for (int i = 0; i < data; i++) {
			iov[n++] = req->buf.iov[i];
			bytes += req->buf.iov[i].iov_len;
		}
		list_del(&req->link);
		list_add_tail(batch, &req->link);
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
			conn_slot_put(conn, list_entry(link, struct request, link));
	}
}
