/* SPDX-License-Identifier: MIT */
/*
 * conn.h - one NBD connection, from accept to close.
 *
 * 1. Main makes it and frees it; in between it lives on one worker, and the
 *    frame of its coroutine, conn_main(), is its life: handshake, transmission,
 *    teardown.
 * 2. Request slots, payload memory and replies are bounded (limits.h): when a
 *    bound is reached the reader waits, and that is the back-pressure.
 * 3. Teardown waits for every request that was started: buffers are freed only
 *    after their completion.
 *
 * The owner hears of two events, on its own loop: the handshake is over (once,
 * or never), and the connection is gone (once; then it calls conn_free()).
 */
#ifndef NBD_CONN_H
#define NBD_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/co_lock.h"
#include "chan.h"
#include "request.h"
#include "server/export.h"
#include "server/gate.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/tls.h"
#include "server/worker.h"

#define CONN_PEER_MAX 96

struct conn;

struct conn_owner {
	struct loop *loop;
	uint64_t handshake_ns; /* how long a handshake may last in all; 0: no limit */
	enum tls_mode tls_mode;
	struct gate_place *gate; /* with the one in force, while somebody negotiates; or NULL */
	void (*negotiated)(struct conn_owner *owner, struct conn *conn);
	void (*closed)(struct conn_owner *owner, struct conn *conn);
};

/* What options have agreed on, before an export is chosen. */
struct conn_agreed {
	enum nbd_headers headers;
	/* Contexts: bits of context.h, and the export that they were selected for. */
	uint32_t contexts;
	uint32_t context_id_base;
	const struct export *context_export;
};

struct conn {
	/* Constant. */
	uint64_t id;
	char peer[CONN_PEER_MAX]; /* for the log; safe to print */
	struct conn_owner *owner;
	struct worker *worker;
	const struct export_set *exports;

	/* The worker's, all of the rest. */
	struct gate *gate; /* a reference that the connection owns; or NULL: nobody is kept out */
	struct access_peer who; /* what is known of the client */
	struct chan chan;
	struct worker_session session;
	struct loop_timer timer; /* end of the handshake */
	struct loop_call start_call, negotiated_call, closed_call;

	/* Set by the handshake. */
	bool negotiating;   /* it is under way: the timer is its own */
	bool negotiated;    /* it led to transmission; the owner was told */
	bool end_logged;    /* why it ends: no second line about that */
	struct conn_agreed agreed;
	struct export *exp; /* entered; NULL before */
	struct backend_port *port;
	struct backend_client client;
	struct request_limits limits;

	/* Transmission. */
	struct request *slots;
	struct list free_slots; /* of request.link */
	struct co_waitq slot_wait;
	unsigned inflight;	  /* requests read and not yet answered */
	bool reader_between;	  /* the reader waits for a next request */
	bool reader_ended;	  /* no request will follow, and maybe nobody waits for replies */
	struct co_budget payload; /* what buffers may hold */
	struct co_group requests;
	struct co_group writer;
	struct co_waitq writer_idle;
	struct list replies; /* of reply.link, oldest first */
	bool replies_end;
	struct list spare_replies; /* of reply.link */
	struct co_waitq spare_wait;
	struct reply spares[LIMIT_SPARE_REPLIES];
	struct loop_hook reply_hook;
	struct log_limit failures; /* lines of conn_log_failure() */
	bool payload_len_missed;   /* that was logged */
	struct iovec send_iov[LIMIT_SEND_SEGMENTS];
	uint8_t send_headers[LIMIT_SEND_HEADERS];
};

/*
 * A connection over RFD and WFD (the same for a socket), which it owns from
 * now when this succeeds. Before it starts, its gate and who it is may be set.
 * Context: the owner's. -ENOMEM.
 */
int conn_new(struct conn **connp, uint64_t id, int rfd, int wfd, const char *peer,
	     struct worker *worker, const struct export_set *exports, struct conn_owner *owner);
/* Sends it to its worker. */
void conn_start(struct conn *conn);
/* Context: the owner's, after closed(). */
void conn_free(struct conn *conn);

/* --- For the files of nbd/, on the worker ----------------------------------- */

/* The rules about the client; NULL: it may do everything. */
static inline const struct access *
conn_access(const struct conn *conn)
{
	return conn->gate ? conn->gate->access : NULL;
}

/* What STARTTLS has to offer; NULL: nothing. */
static inline struct tls *
conn_tls(const struct conn *conn)
{
	return conn->gate ? conn->gate->tls : NULL;
}

/* A request has its reply sent, or never will: its slot is free. */
void conn_slot_put(struct conn *conn, struct request *req) loop_fn;

/* Gives the request's payload memory back; without any it does nothing. */
void conn_payload_put(struct conn *conn, struct request *req) loop_fn;

/* One rate-limited warning about what a client has done wrong in its handshake. */
void conn_log_handshake(struct conn *conn, const char *fmt, ...) printf_fn(2, 3);

/* One rate-limited line about a request that the device failed. */
void conn_log_failure(struct conn *conn, const struct request *req, int ret);

#endif
