/* SPDX-License-Identifier: MIT */
/*
 * worker.c - one thread that serves sessions.
 *
 * The path: worker_new() makes ring, pool and queues while main may still do
 * anything; thread_main() attaches to the ring and runs the loop; connections
 * arrive as loop_call()s. worker_stop() sends one last call, whose coroutine
 * flushes, lets go of the queues and stops the loop.
 */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "blk/io.h"
#include "server/limits.h"
#include "server/log.h"

struct worker {
	unsigned index;
	pthread_t thread;
	bool started;
	struct loop *loop;
	struct buf_pool *pool;
	struct co_budget arriving_medium, arriving_large;
	struct co_sem cache_reads;
	struct share handshakes;
	struct worker_turn status_turn;
	const struct export_set *exports;
	struct backend_port *ports; /* by export index; without a queue until made */
	struct list sessions;  /* of worker_session.link */
	bool draining; /* set by main, read by the worker; atomic */
	bool aborting;
	bool flush_failed; /* the last one, of any device; for main after the join */
	struct loop_call drain_call, abort_call, stop_call;
	struct loop *stopped_loop; /* whom to tell that it is stopped, and how */
	struct loop_call *stopped_call;
	void (*stopped_fn)(struct loop_call *call);
};

/* --- Sessions --------------------------------------------------------------- */

void
worker_enter(struct worker *worker, struct worker_session *session)
{
	list_add_tail(&worker->sessions, &session->link);
	if (worker_draining(worker))
		session->drain(session);
	if (worker->aborting)
		session->abort(session);
}

void
worker_leave(struct worker *worker, struct worker_session *session)
{
	list_del(&session->link);
}

static void
drain_called(struct loop_call *call)
{
	struct worker *worker = container_of(call, struct worker, drain_call);
	struct worker_session *session;

	loop_assert();
	for (unsigned i = 0; i < worker->exports->count; i++)
		if (worker->ports[i].q)
			backend_port_stop(&worker->ports[i]);
	list_for_each(session, &worker->sessions, link)
		session->drain(session); /* makes coroutines ready, runs none */
}

static void
abort_called(struct loop_call *call)
{
	struct worker *worker = container_of(call, struct worker, abort_call);
	struct worker_session *session;

	worker->aborting = true;
	list_for_each(session, &worker->sessions, link)
		session->abort(session);
}

void
worker_drain(struct worker *worker)
{
	__atomic_store_n(&worker->draining, true, __ATOMIC_RELEASE);
	loop_call(worker->loop, &worker->drain_call, drain_called);
}

void
worker_abort(struct worker *worker)
{
	loop_call(worker->loop, &worker->abort_call, abort_called);
}

/* --- Queues ----------------------------------------------------------------- */

/* INDEX: the device's queue, or -1 for one more. */
static int
port_new(struct worker *worker, struct export *exp, int index, struct err *err)
{
	struct buf_region memory;
	struct queue *q;
	int ret = queue_new(&q, exp->dev, index, worker->loop, err);

	if (ret < 0)
		return ret;
	buf_pool_region(worker->pool, &memory);
	queue_set_memory(q, &memory);
	backend_port_init(&worker->ports[exp->index], &exp->backend, q);
	return 0;
}

int
worker_port(struct worker *worker, struct export *exp, struct backend_port **portp,
	    struct err *err)
{
	struct backend_port *port = &worker->ports[exp->index];

	if (!port->q) {
		int ret = port_new(worker, exp, -1, err);

		if (ret < 0)
			return ret;
		queue_attach(port->q);
		if (worker_draining(worker))
			backend_port_stop(port);
	}
	*portp = port;
	return 0;
}

/* --- Thread ----------------------------------------------------------------- */

static void co_fn
last_flush(struct worker *worker, unsigned i)
{
	const struct export *exp = &worker->exports->exports[i];
	int ret = blk_co_flush(worker->ports[i].q);
	char quoted[LOG_QUOTE_MAX];

	if (ret == 0)
		return;
	worker->flush_failed = true;
	/* What the device said, and not what is said of it since. */
	if (dev_flush_failed(exp->dev))
		ret = dev_flush_error(exp->dev);
	log_error("last flush failed export=%s error=\"%s\"",
		  log_quote(quoted, exp->name, strlen(exp->name)), strerror(-ret));
}

static void
stop_main(void *arg)
{
	struct worker *worker = arg;

	co_assert();
	for (unsigned i = 0; i < worker->exports->count; i++) {
		if (!worker->ports[i].q)
			continue;
		last_flush(worker, i);
		queue_co_detach(worker->ports[i].q);
	}
	buf_pool_detach(worker->pool);
	loop_stop(worker->loop);
	loop_call(worker->stopped_loop, worker->stopped_call, worker->stopped_fn);
}

static void
stop_called(struct loop_call *call)
{
	struct worker *worker = container_of(call, struct worker, stop_call);
	int ret;

	loop_assert();
	invariant(list_empty(&worker->sessions));
	ret = co_spawn(loop_sched(worker->loop), CO_STACK_REQUEST, NULL, stop_main, worker);
	invariant(ret == 0); /* its stack was reserved by worker_new() */
}

static void *
thread_main(void *arg)
{
	struct worker *worker = arg;
	struct err err;

	loop_assert();
	if (loop_attach(worker->loop, &err) < 0) {
		log_error("worker cannot start index=%u error=\"%s\"", worker->index, err.text);
		abort();
	}
	for (unsigned i = 0; i < worker->exports->count; i++)
		if (worker->ports[i].q)
			queue_attach(worker->ports[i].q);
	loop_run(worker->loop);
	loop_detach(worker->loop);
	return NULL;
}

void
worker_set_poll(struct worker *worker, uint64_t max_ns)
{
	loop_assert();
	loop_set_poll(worker->loop, max_ns);
}

int
worker_start(struct worker *worker, struct err *err)
{
	sigset_t all, old;
	int ret;

	/* Signals are main's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&worker->thread, NULL, thread_main, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret != 0)
		return err_set(err, -ret, "worker %u: cannot create its thread: %s", worker->index,
			       strerror(ret));
	worker->started = true;
	return 0;
}

void
worker_stop(struct worker *worker, struct loop *loop, struct loop_call *call,
	    void (*fn)(struct loop_call *))
{
	worker->stopped_loop = loop;
	worker->stopped_call = call;
	worker->stopped_fn = fn;
	loop_call(worker->loop, &worker->stop_call, stop_called);
}

int
worker_join(struct worker *worker)
{
	if (worker->started)
		pthread_join(worker->thread, NULL);
	worker->started = false;
	return worker->flush_failed ? -EIO : 0;
}

/* --- Life ------------------------------------------------------------------- */

int
worker_new(struct worker **workerp, unsigned index, const struct export_set *exports,
	   uint64_t payload_bytes, bool queues_at_start, struct err *err)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int ret;

	if (!worker)
		return err_set(err, -ENOMEM, "worker %u: out of memory", index);
	worker->index = index;
	worker->exports = exports;
	list_init(&worker->sessions);
	worker->ports = calloc(exports->count, sizeof(*worker->ports));
	if (!worker->ports) {
		ret = err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	if ((ret = loop_new(&worker->loop, err)) < 0 ||
	    (ret = buf_pool_new(&worker->pool, payload_bytes, err)) < 0)
		goto fail;
	buf_pool_attach(worker->pool, worker->loop);
	co_budget_init(&worker->arriving_medium, LIMIT_ARRIVING_MEDIUM(payload_bytes));
	co_budget_init(&worker->arriving_large, LIMIT_ARRIVING_LARGE(payload_bytes));
	co_sem_init(&worker->cache_reads, LIMIT_CACHE_READS);
	share_init(&worker->handshakes, worker->loop);
	co_sem_init(&worker->status_turn.sem, 1);
	if (co_sched_reserve(loop_sched(worker->loop), CO_STACK_REQUEST, 1) < 0) {
		ret = err_set(err, -ENOMEM, "no memory for a coroutine");
		goto fail;
	}
	for (unsigned i = 0; queues_at_start && i < exports->count; i++) {
		ret = port_new(worker, &exports->exports[i], (int)index, err);
		if (ret < 0)
			goto fail;
	}
	*workerp = worker;
	return 0;

fail:
	err_prefix(err, "worker %u", index);
	worker_free(worker);
	return ret;
}

void
worker_free(struct worker *worker)
{
	if (!worker)
		return;
	invariant(!worker->started);
	for (unsigned i = 0; worker->ports && i < worker->exports->count; i++) {
		struct queue *q = worker->ports[i].q;

		backend_port_fini(&worker->ports[i]);
		queue_free(q);
	}
	free(worker->ports);
	buf_pool_free(worker->pool);
	loop_free(worker->loop);
	free(worker);
}

struct loop *
worker_loop(struct worker *worker)
{
	return worker->loop;
}

struct buf_pool *
worker_pool(struct worker *worker)
{
	return worker->pool;
}

struct co_budget *
worker_arriving(struct worker *worker, size_t len_bytes)
{
	return len_bytes <= LIMIT_MEDIUM_PAYLOAD ? &worker->arriving_medium :
						   &worker->arriving_large;
}

struct worker_turn *
worker_status_turn(struct worker *worker)
{
	return &worker->status_turn;
}

struct share *
worker_handshakes(struct worker *worker)
{
	return &worker->handshakes;
}

struct co_sem *
worker_cache_reads(struct worker *worker)
{
	return &worker->cache_reads;
}

bool
worker_draining(const struct worker *worker)
{
	return __atomic_load_n(&worker->draining, __ATOMIC_ACQUIRE);
}

unsigned
worker_index(const struct worker *worker)
{
	return worker->index;
}
