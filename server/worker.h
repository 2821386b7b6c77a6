/* SPDX-License-Identifier: MIT */
/*
 * worker.h - one thread that serves sessions.
 *
 * 1. A worker has one loop, one payload pool and one queue per device; all of
 *    it is made by main, used by the worker's thread, freed by main.
 * 2. A session (a connection of some protocol) lives on one worker for its
 *    whole life; the worker only knows how to drain and how to abort it.
 *
 * Life, all called by main: new, start, then any number of loop_call() to its
 * loop, stop, join, free.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/buf.h"
#include "blk/co_lock.h"
#include "blk/loop.h"
#include "blk/queue.h"
#include "server/export.h"
#include "server/share.h"

struct worker;

struct worker_turn {
	struct co_sem sem; /* of one */
	uint64_t count;
};

struct worker_session {
	struct list link;
	/* Takes no new work; ends when what it has is finished. Worker's thread. */
	void (*drain)(struct worker_session *session);
	/* Ends as soon as nothing of it is at a device. Worker's thread. */
	void (*abort)(struct worker_session *session);
};

/* Context: main. Errors: those of loop_new(), buf_pool_new(), queue_new(). */
int worker_new(struct worker **workerp, unsigned index, const struct export_set *exports,
	       uint64_t payload_bytes, bool queues_at_start, struct err *err);
/* How long it looks for work before it sleeps, at most. Before its start. */
void worker_set_poll(struct worker *worker, uint64_t max_ns);
int worker_start(struct worker *worker, struct err *err);

/*
 * Asks every session to drain, or to abort; later sessions too. From the return
 * of worker_drain() on worker_draining() is true. Context: main.
 */
void worker_drain(struct worker *worker);
void worker_abort(struct worker *worker);

/*
 * Flushes the devices and ends the thread; then has FN(CALL) run on LOOP.
 * Invariant: every session has left. Context: main.
 */
void worker_stop(struct worker *worker, struct loop *loop, struct loop_call *call,
		 void (*fn)(struct loop_call *call));

/*
 * Waits for the thread's end, which worker_stop() asked for; at once when it
 * never started. -EIO when the last flush of a device failed.
 */
int worker_join(struct worker *worker);

/* NULL is fine. Invariant: never started, or joined. */
void worker_free(struct worker *worker);

/* Any thread. */
struct loop *worker_loop(struct worker *worker);
unsigned worker_index(const struct worker *worker);
/* The server is stopping: no new work is to be begun. */
bool worker_draining(const struct worker *worker);

/* Worker's thread. */
struct buf_pool *worker_pool(struct worker *worker);
/* What payloads of about LEN_BYTES that are still arriving may hold together. */
struct co_budget *worker_arriving(struct worker *worker, size_t len_bytes);
/* Its port to an export's backend; made now if need be, which may fail. */
int worker_port(struct worker *worker, struct export *exp, struct backend_port **portp,
		struct err *err) loop_fn;
/* Whose turn it is to ask for extents, of all its connections, and how often was asked. */
struct worker_turn *worker_status_turn(struct worker *worker);
/* The arithmetic of TLS handshakes, of all its connections. */
struct share *worker_handshakes(struct worker *worker);
/* Reads that only warm a cache, of all its connections. */
struct co_sem *worker_cache_reads(struct worker *worker);
/* From enter to leave the session is drained and aborted with the others. */
void worker_enter(struct worker *worker, struct worker_session *session) loop_fn;
void worker_leave(struct worker *worker, struct worker_session *session) loop_fn;

#endif
