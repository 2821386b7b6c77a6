/* SPDX-License-Identifier: MIT */
/*
 * conn.c - one NBD connection.
 *
 * The path, conn_main(): handshake_co_run(), then conn_transmit(): the writer
 * coroutine is started and conn_reader() runs until the client says DISC, goes
 * away, breaks the protocol, or the server stops. Then: wait for the requests,
 * let the writer finish, close, tell the owner.
 *
 * The path of a request, in conn_reader():
 *   slot -> header -> verdict -> payload memory -> payload -> request_main()
 * Each arrow may wait; nobody who holds something on the right asks for
 * something on its left, so the waits cannot form a circle.
 *
 * Stopping: a connection that drains refuses new requests with ESHUTDOWN, and
 * ends when nothing is in flight and its reader waits between two requests. What
 * it has sent may not have arrived by then: it lingers.
 */
#include "conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chan_tls.h"
#include "handshake.h"
#include "reply.h"
#include "server/log.h"

/* --- Slots and payload ------------------------------------------------------ */

static void loop_fn
end_if_drained(struct conn *conn)
{
	if (worker_draining(conn->worker) && conn->inflight == 0 && conn->reader_between)
		chan_stop(&conn->chan, -ESHUTDOWN);
}

static struct request *co_fn
slot_get(struct conn *conn)
{
	while (list_empty(&conn->free_slots))
		co_waitq_wait(&conn->slot_wait, loop_sched(conn->chan.loop));
	return list_entry(list_pop(&conn->free_slots), struct request, link);
}

/* Puts back a slot that no request came for. */
static void
slot_return(struct conn *conn, struct request *req)
{
	list_add_head(&conn->free_slots, &req->link);
}

void
conn_slot_put(struct conn *conn, struct request *req)
{
	conn_payload_put(conn, req);
	slot_return(conn, req);
	conn->inflight--;
	co_waitq_wake_one(&conn->slot_wait);
	end_if_drained(conn);
}

/*
 * How far the data begins behind an alignment of memory that the device has:
 * as far as on the disk, so that its whole blocks lie aligned in memory too. Of a
 * READ in pieces the segments, which these follow, end at whole sectors.
 */
static size_t
payload_skip(const struct conn *conn, const struct request *req, size_t bytes)
{
	uint64_t align = conn->exp->dev->limits.mem_alignment;

	if (req->nbd.command == NBD_CMD_BLOCK_STATUS)
		return 0; /* no data of the disk */
	if (req->nbd.command == NBD_CMD_READ && bytes > BUF_CHUNK_MAX)
		align = MAX(align, (uint64_t)512);
	if (align > BUF_CHUNK_MIN || bytes > BUF_BYTES_MAX - align)
		return 0; /* it bounces */
	return (size_t)(req->nbd.offset & (align - 1));
}

/* ARRIVING: the budget of a payload that is still to come, taken on the way; or NULL. */
static void co_fn
payload_get(struct conn *conn, struct request *req, size_t bytes, struct co_budget *arriving)
{
	struct co_sched *sched = loop_sched(conn->chan.loop);
	size_t skip = payload_skip(conn, req, bytes);

	co_budget_take(&conn->payload, sched, buf_footprint(bytes + skip));
	if (arriving)
		co_budget_take(arriving, sched, buf_footprint(bytes + skip));
	buf_co_get(worker_pool(conn->worker), &req->buf, bytes + skip);
	buf_skip(&req->buf, skip);
}

void
conn_payload_put(struct conn *conn, struct request *req)
{
	if (req->buf.iovcnt == 0)
		return;
	buf_put(worker_pool(conn->worker), &req->buf);
	co_budget_give(&conn->payload, buf_footprint(req->buf.len_bytes));
}

/* --- Reader ----------------------------------------------------------------- */

static bool
payload_is_large(const struct nbd_request *nbd)
{
	return nbd->command == NBD_CMD_WRITE && nbd->length > LIMIT_SMALL_PAYLOAD;
}

/*
 * Before the length of an extended WRITE without the flag is taken for its payload's.
 * Nothing to warn of: QEMU's client never sets it.
 */
static void
note_payload_len(struct conn *conn, const struct nbd_request *nbd)
{
	if (conn->limits.headers != NBD_EXTENDED || nbd->command != NBD_CMD_WRITE ||
	    nbd->flags & NBD_CMD_FLAG_PAYLOAD_LEN || conn->payload_len_missed)
		return;
	conn->payload_len_missed = true;
	log_debug("extended WRITE without PAYLOAD_LEN, its length is taken for the payload's "
		  "conn=%llu peer=%s",
		  (unsigned long long)conn->id, conn->peer);
}

/*
 * Takes in the payload of a BLOCK_STATUS, which has its range and contexts, and
 * judges that. An error is the end of the connection.
 */
static int co_fn
status_payload_receive(struct conn *conn, struct request *req, struct request_verdict *v)
{
	uint8_t payload[REQUEST_STATUS_PAYLOAD_MAX];
	size_t len = (size_t)v->payload_bytes;
	int ret;

	invariant(len <= sizeof(payload));
	ret = chan_co_read(&conn->chan, payload, len, CHAN_INSIDE);
	if (ret < 0)
		return ret;
	if (request_status_payload(&conn->limits, conn->agreed.context_id_base, payload, len,
				   &req->nbd, &req->contexts))
		*v = request_check(&conn->limits, &req->nbd);
	else
		*v = (struct request_verdict){ .ret = -EINVAL, .fault = REQUEST_PAYLOAD };
	v->payload_bytes = 0;
	return 0;
}

/* Receives the payload of a WRITE into memory of its own. */
static int co_fn
payload_receive(struct conn *conn, struct request *req)
{
	struct co_budget *arriving = worker_arriving(conn->worker, req->nbd.length);
	int ret;

	if (!payload_is_large(&req->nbd)) {
		ret = chan_co_buffer(&conn->chan, req->nbd.length);
		if (ret < 0)
			return ret;
		payload_get(conn, req, req->nbd.length, NULL);
		return chan_co_readv(&conn->chan, req->buf.iov, req->buf.iovcnt);
	}
	payload_get(conn, req, req->nbd.length, arriving);
	ret = chan_co_readv(&conn->chan, req->buf.iov, req->buf.iovcnt);
	co_budget_give(arriving, buf_footprint(req->buf.len_bytes));
	return ret;
}

/*
 * Answers a request that is not to be executed; its payload is read and
 * forgotten. An error is the end of the connection; the slot is used up.
 */
static int co_fn
request_refuse(struct conn *conn, struct request *req, const struct request_verdict *v)
{
	int ret;

	request_count_refused(req);
	log_debug("request refused conn=%llu command=%s flags=0x%x offset=%llu length=%llu "
		  "error=\"%s\"",
		  (unsigned long long)conn->id, nbd_cmd_name(req->nbd.command), req->nbd.flags,
		  (unsigned long long)req->nbd.offset, (unsigned long long)req->nbd.length,
		  strerror(-v->ret));
	if (v->payload_bytes > LIMIT_PAYLOAD_DRAINED) {
		reply_queue(req, v->ret);
		return -EMSGSIZE;
	}
	ret = chan_co_skip(&conn->chan, (size_t)v->payload_bytes);
	if (ret < 0)
		conn_slot_put(conn, req);
	else
		reply_queue(req, v->ret);
	return ret;
}

/*
 * Ends a good request with RET before it was begun; otherwise likewise.
 */
static int co_fn
request_abandon(struct conn *conn, struct request *req, uint64_t payload_bytes, int ret)
{
	int skipped = chan_co_skip(&conn->chan, (size_t)payload_bytes);

	if (skipped < 0)
		conn_slot_put(conn, req);
	else
		request_finish(req, ret);
	return skipped;
}

/*
 * Takes in the rest of a request whose header is read, and starts it or
 * refuses it. An error is the end of the connection; the slot is used up.
 */
static int co_fn
request_admit(struct conn *conn, struct request *req)
{
	struct request_verdict v = request_check(&conn->limits, &req->nbd);
	int ret = 0;

	note_payload_len(conn, &req->nbd);
	req->chunked = false;
	req->contexts = conn->limits.contexts;
	if (worker_draining(conn->worker))
		v = (struct request_verdict){ .ret = -ESHUTDOWN, .payload_bytes = v.payload_bytes };
	if (v.ret == 0 && v.payload_bytes > 0 && req->nbd.command == NBD_CMD_BLOCK_STATUS)
		ret = status_payload_receive(conn, req, &v);
	req->fault = v.fault;
	if (ret == 0 && v.ret < 0)
		return request_refuse(conn, req, &v);
	/* What is held at a backend that has stopped holds no memory that others need. */
	if (ret == 0 && v.buffer_bytes > 0) {
		int held = backend_co_admit(conn->port, &conn->client);

		if (held < 0)
			return request_abandon(conn, req, v.payload_bytes, held);
	}
	if (ret == 0 && v.payload_bytes > 0)
		ret = payload_receive(conn, req);
	else if (ret == 0 && v.buffer_bytes > 0)
		payload_get(conn, req, v.buffer_bytes, NULL);
	if (ret < 0) {
		conn_slot_put(conn, req);
		return ret;
	}
	ret = co_spawn(loop_sched(conn->chan.loop), CO_STACK_REQUEST, &conn->requests,
		       request_main, req);
	if (ret < 0)
		reply_queue(req, ret);
	return 0;
}

/* Serves until the connection is to end; why. 0: the client said goodbye. */
static int co_fn
conn_reader(struct conn *conn)
{
	for (;;) {
		struct request *req = slot_get(conn);
		enum nbd_headers headers = conn->limits.headers;
		uint8_t header[NBD_REQUEST_BYTES_MAX];
		int ret;

		conn->reader_between = true;
		end_if_drained(conn);
		ret = chan_co_read(&conn->chan, header, nbd_request_bytes(headers), CHAN_BETWEEN);
		conn->reader_between = false;
		if (ret < 0) {
			slot_return(conn, req);
			return ret;
		}
		if (!nbd_request_parse(header, headers, &req->nbd)) {
			slot_return(conn, req);
			return -EPROTO;
		}
		if (req->nbd.command == NBD_CMD_DISC) {
			slot_return(conn, req);
			return 0;
		}
		chan_set_ahead(&conn->chan, payload_is_large(&req->nbd) ? LIMIT_READ_AHEAD_LARGE :
									  LIMIT_READ_AHEAD);
		conn->inflight++;
		ret = request_admit(conn, req);
		if (ret < 0)
			return ret;
	}
}

/* --- Transmission ----------------------------------------------------------- */

static int
slots_new(struct conn *conn)
{
	conn->slots = calloc(LIMIT_INFLIGHT, sizeof(*conn->slots));
	if (!conn->slots)
		return -ENOMEM;
	for (unsigned i = 0; i < LIMIT_INFLIGHT; i++) {
		conn->slots[i].conn = conn;
		list_add_tail(&conn->free_slots, &conn->slots[i].link);
	}
	return 0;
}

/* Not only what the reader has seen: it may be waiting for something else. */
static bool
client_gone(struct backend_client *client)
{
	const struct conn *conn = container_of(client, struct conn, client);

	return conn->reader_ended || chan_peer_left(&conn->chan);
}

static int co_fn
conn_transmit(struct conn *conn)
{
	struct co_sched *sched = loop_sched(conn->chan.loop);
	int ret = slots_new(conn);

	if (ret < 0)
		return ret;
	/* GnuTLS says nowhere how much of a stack it wants. */
	ret = co_spawn(sched, conn->chan.tls ? CO_STACK_CONN : CO_STACK_REQUEST, &conn->writer,
		       reply_writer, conn);
	if (ret < 0)
		return ret;
	chan_set_ahead(&conn->chan, LIMIT_READ_AHEAD);

	ret = conn_reader(conn);
	conn->reader_ended = true;
	backend_port_look(conn->port);

	co_group_wait(&conn->requests, sched);
	reply_finish(conn);
	co_group_wait(&conn->writer, sched);
	invariant(conn->inflight == 0);
	loop_hook_disarm(&conn->reply_hook);
	return ret;
}

void
conn_log_failure(struct conn *conn, const struct request *req, int ret)
{
	char quoted[LOG_QUOTE_MAX];

	bool answer = ret == -ENOTSUP && req->nbd.flags & NBD_CMD_FLAG_FAST_ZERO;

	/* Not a failure; or nobody is there to be answered. */
	if (answer || conn->chan.aborted)
		return;
	log_limited(&conn->failures, LOG_ERROR,
		    "request failed export=%s command=%s offset=%llu length=%llu error=\"%s\" "
		    "conn=%llu peer=%s",
		    log_quote(quoted, conn->exp->name, strlen(conn->exp->name)),
		    nbd_cmd_name(req->nbd.command), (unsigned long long)req->nbd.offset,
		    (unsigned long long)req->nbd.length, strerror(-ret),
		    (unsigned long long)conn->id, conn->peer);
}

/* --- Life on the worker ----------------------------------------------------- */

/*
 * Of a handshake nothing more is received, which leaves room for a goodbye; unless
 * it is writing to somebody who does not read.
 */
static void
handshake_late(struct loop_timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, timer);
	int reason = worker_draining(conn->worker) ? -ESHUTDOWN : -ETIMEDOUT;

	loop_assert();
	if (conn->chan.stopped) {
		chan_abort(&conn->chan, reason);
		return;
	}
	chan_stop(&conn->chan, reason);
	loop_timer_arm(conn->chan.loop, timer, LIMIT_LINGER_NS, handshake_late);
}

static void
session_drain(struct worker_session *session)
{
	struct conn *conn = container_of(session, struct conn, session);

	loop_assert();
	end_if_drained(conn);
	if (conn->negotiating)
		loop_timer_arm(conn->chan.loop, &conn->timer, LIMIT_HANDSHAKE_LINGER_NS,
			       handshake_late);
}

static void
session_abort(struct worker_session *session)
{
	struct conn *conn = container_of(session, struct conn, session);

	loop_assert();
	chan_abort(&conn->chan, -ESHUTDOWN);
}

static void
owner_negotiated(struct loop_call *call)
{
	struct conn *conn = container_of(call, struct conn, negotiated_call);

	conn->owner->negotiated(conn->owner, conn);
}

static void
owner_closed(struct loop_call *call)
{
	struct conn *conn = container_of(call, struct conn, closed_call);

	conn->owner->closed(conn->owner, conn);
}

/* Of all connections: whoever reconnects does not get more. */
static struct log_limit handshakes, transmissions;

void
conn_log_handshake(struct conn *conn, const char *fmt, ...)
{
	char text[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_limited(&handshakes, LOG_WARNING, "%s conn=%llu peer=%s", text,
		    (unsigned long long)conn->id, conn->peer);
}

/* Leaving is ordinary; the rest is worth a line. */
static void
log_end(struct conn *conn, const char *during, int ret)
{
	bool quiet = ret == 0 || conn->end_logged || ret == -ENODATA || ret == -ESHUTDOWN ||
		     (!conn->exp && (ret == -ECONNRESET || ret == -EPIPE));
	bool tls = ret == -EPROTO && conn->chan.tls && chan_tls_failed(conn->chan.tls);
	const char *why = tls ? chan_tls_text(conn->chan.tls) : strerror(-ret);

	if (quiet)
		log_debug("connection ended conn=%llu peer=%s during=%s reason=\"%s\"",
			  (unsigned long long)conn->id, conn->peer, during,
			  ret == 0 ? "goodbye" : why);
	else
		log_limited(conn->negotiated ? &transmissions : &handshakes, LOG_WARNING,
			    "connection dropped conn=%llu peer=%s during=%s error=\"%s%s\"",
			    (unsigned long long)conn->id, conn->peer, during, tls ? "TLS: " : "",
			    why);
	if (conn->failures.suppressed > 0)
		log_error("more requests failed conn=%llu peer=%s suppressed=%llu",
			  (unsigned long long)conn->id, conn->peer,
			  (unsigned long long)conn->failures.suppressed);
}

/* The client may be sending, and has replies, or an alert, to read. */
static bool
ended_by_us(const struct conn *conn, int ret)
{
	return ret == -EMSGSIZE || ret == -ESHUTDOWN ||
	       (conn->chan.tls && (ret == -EPROTO || ret == -ETIMEDOUT));
}

static void
conn_main(void *arg)
{
	struct conn *conn = arg;
	struct loop *loop = conn->chan.loop;
	int ret;

	co_assert();
	log_debug("connection conn=%llu peer=%s worker=%u", (unsigned long long)conn->id,
		  conn->peer, worker_index(conn->worker));
	/* Armed first: a worker that drains already makes it shorter. */
	if (conn->owner->handshake_ns > 0)
		loop_timer_arm(loop, &conn->timer, conn->owner->handshake_ns, handshake_late);
	conn->negotiating = true;
	worker_enter(conn->worker, &conn->session);
	ret = handshake_co_run(conn);
	conn->negotiating = false;
	loop_timer_disarm(&conn->timer);

	if (ret == 0 && conn->exp) {
		conn->negotiated = true;
		loop_call(conn->owner->loop, &conn->negotiated_call, owner_negotiated);
		ret = conn_transmit(conn);
		log_end(conn, "transmission", ret);
	} else {
		log_end(conn, "handshake", ret);
	}
	chan_co_goodbye(&conn->chan);
	if (ended_by_us(conn, ret))
		chan_co_linger(&conn->chan);
	if (conn->exp)
		export_leave(conn->exp);
	worker_leave(conn->worker, &conn->session);
	chan_close(&conn->chan);
	loop_call(conn->owner->loop, &conn->closed_call, owner_closed);
}

static void
conn_arrived(struct loop_call *call)
{
	struct conn *conn = container_of(call, struct conn, start_call);
	struct loop *loop = worker_loop(conn->worker);

	loop_assert();
	chan_attach(&conn->chan, loop);
	if (co_spawn(loop_sched(loop), CO_STACK_CONN, NULL, conn_main, conn) == 0)
		return;
	conn_log_handshake(conn, "connection refused error=\"out of memory\"");
	chan_close(&conn->chan);
	loop_call(conn->owner->loop, &conn->closed_call, owner_closed);
}

/* --- Life at the owner ------------------------------------------------------ */

int
conn_new(struct conn **connp, uint64_t id, int rfd, int wfd, const char *peer,
	 struct worker *worker, const struct export_set *exports, struct conn_owner *owner)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return -ENOMEM;
	if (chan_init(&conn->chan, rfd, wfd) < 0) {
		free(conn);
		return -ENOMEM;
	}
	conn->id = id;
	strncpy(conn->peer, peer, sizeof(conn->peer) - 1);
	conn->owner = owner;
	conn->worker = worker;
	conn->exports = exports;
	conn->client.gone = client_gone;
	conn->session.drain = session_drain;
	conn->session.abort = session_abort;
	list_init(&conn->free_slots);
	list_init(&conn->replies);
	list_init(&conn->spare_replies);
	for (unsigned i = 0; i < LIMIT_SPARE_REPLIES; i++)
		list_add_tail(&conn->spare_replies, &conn->spares[i].link);
	co_waitq_init(&conn->slot_wait);
	co_waitq_init(&conn->spare_wait);
	co_waitq_init(&conn->writer_idle);
	co_group_init(&conn->requests);
	co_group_init(&conn->writer);
	co_budget_init(&conn->payload, LIMIT_CONN_PAYLOAD);
	*connp = conn;
	return 0;
}

void
conn_start(struct conn *conn)
{
	loop_call(worker_loop(conn->worker), &conn->start_call, conn_arrived);
}

void
conn_free(struct conn *conn)
{
	gate_put(conn->gate);
	access_peer_release(&conn->who);
	free(conn->slots);
	free(conn);
}
