/* SPDX-License-Identifier: MIT */
/*
 * backend.c - counting, and stopping at errors; see backend.h.
 *
 * The path: backend_co_admit() holds the request while the backend has stopped;
 * the block API does the work; is_answer() says whether the result is an answer.
 * If it is not, the status is set and the request goes back to the first.
 */
#include "backend.h"

#include <errno.h>

#include "io.h"
#include "queue.h"

const char *
backend_op_name(enum backend_op op)
{
	static const char *const names[BACKEND_OPS] = {
		[BACKEND_READ] = "read",       [BACKEND_WRITE] = "write",
		[BACKEND_ZEROES] = "zeroes",   [BACKEND_DISCARD] = "discard",
		[BACKEND_FLUSH] = "flush",
	};

	return names[op];
}

const char *
backend_status_name(enum backend_status status)
{
	static const char *const names[] = {
		[BACKEND_OK] = "ok",
		[BACKEND_NOSPACE] = "nospace",
		[BACKEND_FAILED] = "failed",
	};

	return names[status];
}

/* --- Counting --------------------------------------------------------------- */

/* By the port's loop only; others read. */
static void
count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void
count_done(struct backend_port *p, enum backend_op op, uint64_t bytes, uint64_t since, int ret)
{
	struct backend_counters *c = &p->stats.of[op];
	uint64_t ns = loop_now(queue_loop(p->q)) - since;

	count(&c->ops, 1);
	count(&c->latency_ns, ns);
	if (ns > c->latency_max_ns)
		__atomic_store_n(&c->latency_max_ns, ns, __ATOMIC_RELAXED);
	if (ret == 0)
		count(&c->bytes, bytes);
	else if (ret != -ENOTSUP || op != BACKEND_ZEROES) /* an answer, not a failure */
		count(&c->errors, 1);
}

void
backend_invalid(struct backend_port *p, enum backend_op op)
{
	count(&p->stats.of[op].invalid, 1);
}

static void
stats_add(struct backend_stats *sum, const struct backend_port *p)
{
	static const struct {
		enum queue_counter counter;
		size_t offset;
	} queues[] = {
		{ QUEUE_WAITED, offsetof(struct backend_stats, waited) },
		{ QUEUE_RMW_HEADS, offsetof(struct backend_stats, rmw_heads) },
		{ QUEUE_RMW_TAILS, offsetof(struct backend_stats, rmw_tails) },
		{ QUEUE_FRAGMENTS, offsetof(struct backend_stats, fragments) },
		{ QUEUE_BOUNCE_BYTES, offsetof(struct backend_stats, bounce_bytes) },
		{ QUEUE_FLUSHES_SKIPPED, offsetof(struct backend_stats, flushes_skipped) },
		{ QUEUE_FLUSHES_JOINED, offsetof(struct backend_stats, flushes_joined) },
	};

	for (int op = 0; op < BACKEND_OPS; op++) {
		const struct backend_counters *c = &p->stats.of[op];
		uint64_t max = __atomic_load_n(&c->latency_max_ns, __ATOMIC_RELAXED);

		sum->of[op].ops += __atomic_load_n(&c->ops, __ATOMIC_RELAXED);
		sum->of[op].bytes += __atomic_load_n(&c->bytes, __ATOMIC_RELAXED);
		sum->of[op].errors += __atomic_load_n(&c->errors, __ATOMIC_RELAXED);
		sum->of[op].invalid += __atomic_load_n(&c->invalid, __ATOMIC_RELAXED);
		sum->of[op].latency_ns += __atomic_load_n(&c->latency_ns, __ATOMIC_RELAXED);
		sum->of[op].latency_max_ns = MAX(sum->of[op].latency_max_ns, max);
	}
	for (size_t i = 0; i < ARRAY_SIZE(queues); i++) {
		uint64_t *total = (uint64_t *)(void *)((char *)sum + queues[i].offset);

		*total += queue_counter(p->q, queues[i].counter);
	}
}

void
backend_stats(struct backend *b, struct backend_stats *stats)
{
	struct backend_port *p;

	pthread_mutex_lock(&b->lock);
	*stats = b->gone;
	list_for_each(p, &b->ports, link)
		stats_add(stats, p);
	pthread_mutex_unlock(&b->lock);
}

/* Requests that are to be durable fail from now on: says why, once. */
static void
tell_lost(struct backend *b)
{
	int ret = dev_flush_error(b->dev);

	if (ret < 0 && b->lost && !__atomic_exchange_n(&b->lost_told, true, __ATOMIC_ACQ_REL))
		b->lost(b, ret);
}

/* --- Policy ----------------------------------------------------------------- */

enum backend_status
backend_status(const struct backend *b)
{
	return __atomic_load_n(&b->status, __ATOMIC_ACQUIRE);
}

struct backend_request {
	enum backend_op op;
	uint64_t off, len;
	const struct iovec *iov;
	int iovcnt;
	unsigned flags;
	struct backend_client *client; /* or NULL */
};

/* How often it is looked for clients that have gone, while requests are held. */
#define LOOK_NS 1000000000u

static bool
is_gone(struct backend_client *client)
{
	return client && client->gone(client);
}

static void
look_due(struct loop_timer *timer)
{
	struct backend_port *p = container_of(timer, struct backend_port, look);

	loop_assert();
	co_waitq_wake_all(&p->held);
}

static void co_fn
hold(struct backend_port *p)
{
	struct loop *loop = queue_loop(p->q);

	if (!list_linked(&p->look.link))
		loop_timer_arm(loop, &p->look, LOOK_NS, look_due);
	p->nheld++;
	co_waitq_wait(&p->held, loop_sched(loop));
	if (--p->nheld == 0)
		loop_timer_disarm(&p->look);
}

int
backend_co_admit(struct backend_port *p, struct backend_client *client)
{
	bool held = false;

	while (unlikely(backend_status(p->backend) != BACKEND_OK)) {
		if (p->stopping || is_gone(client))
			return -ESHUTDOWN;
		hold(p);
		held = true;
	}
	return held && is_gone(client) ? -ESHUTDOWN : 0;
}

static bool
is_nospace(int ret)
{
	return ret == -ENOSPC || ret == -EDQUOT || ret == -EFBIG;
}

/* Whether a success would say that something is on stable storage. */
static bool
promises_durability(const struct backend *b, const struct backend_request *r)
{
	return r->op == BACKEND_FLUSH || r->flags & BLK_FUA ||
	       (b->dev->write_through && (r->op == BACKEND_WRITE || r->op == BACKEND_ZEROES));
}

/* Whether RET is to be answered; if not, the backend has stopped. */
static bool
is_answer(struct backend_port *p, const struct backend_request *r, int ret)
{
	struct backend *b = p->backend;
	enum backend_policy policy =
		r->op == BACKEND_READ ? b->on_read_error : b->on_write_error;
	bool nospace = is_nospace(ret);
	enum backend_status was;

	if (likely(ret == 0 || policy == BACKEND_REPORT))
		return true;
	if (policy == BACKEND_ENOSPC && !nospace)
		return true;
	/* No failure, or one that trying again cannot cure. */
	if (ret == -ENOTSUP || ret == -EINVAL || ret == -EPERM || ret == -EBADF || ret == -ENOMEDIUM ||
	    r->op == BACKEND_FLUSH || p->stopping ||
	    (dev_flush_failed(b->dev) && promises_durability(b, r)))
		return true;
	was = __atomic_exchange_n(&b->status, nospace ? BACKEND_NOSPACE : BACKEND_FAILED,
				  __ATOMIC_ACQ_REL);
	if (was == BACKEND_OK && b->stopped)
		b->stopped(b, ret);
	return false;
}

static void
resume_called(struct loop_call *call)
{
	struct backend_port *p = container_of(call, struct backend_port, resume_call);

	loop_assert();
	/* Before the status is looked at: a later backend_resume() sends another. */
	(void)__atomic_exchange_n(&p->resume_sent, false, __ATOMIC_SEQ_CST);
	co_waitq_wake_all(&p->held);
}

void
backend_resume(struct backend *b)
{
	struct backend_port *p;

	__atomic_store_n(&b->status, BACKEND_OK, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&b->lock);
	list_for_each(p, &b->ports, link)
		if (!__atomic_exchange_n(&p->resume_sent, true, __ATOMIC_SEQ_CST))
			loop_call(queue_loop(p->q), &p->resume_call, resume_called);
	pthread_mutex_unlock(&b->lock);
}

void
backend_port_stop(struct backend_port *p)
{
	p->stopping = true;
	co_waitq_wake_all(&p->held);
}

void
backend_port_look(struct backend_port *p)
{
	co_waitq_wake_all(&p->held);
}

/* --- Requests --------------------------------------------------------------- */

static int co_fn
request_run(struct queue *q, const struct backend_request *r)
{
	switch (r->op) {
	case BACKEND_READ:
		return blk_co_read(q, r->off, r->iov, r->iovcnt);
	case BACKEND_WRITE:
		return blk_co_write(q, r->off, r->iov, r->iovcnt, r->flags);
	case BACKEND_ZEROES:
		return blk_co_write_zeroes(q, r->off, r->len, r->flags);
	case BACKEND_DISCARD:
		return blk_co_discard(q, r->off, r->len, r->flags);
	case BACKEND_FLUSH:
	default:
		return blk_co_flush(q);
	}
}

static int co_fn
request_co(struct backend_port *p, const struct backend_request *r)
{
	int ret;

	do {
		uint64_t since;

		ret = backend_co_admit(p, r->client);
		if (ret < 0)
			return ret;
		since = loop_now(queue_loop(p->q));
		ret = request_run(p->q, r);
		count_done(p, r->op, r->len, since, ret);
		if (unlikely(ret < 0))
			tell_lost(p->backend);
	} while (!is_answer(p, r, ret));
	return ret;
}

static uint64_t
iov_bytes(const struct iovec *iov, int iovcnt)
{
	uint64_t len = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	return len;
}

int
backend_co_read(struct backend_port *p, uint64_t off, const struct iovec *iov, int iovcnt,
		struct backend_client *client)
{
	return request_co(p, &(struct backend_request){ .op = BACKEND_READ,
							.off = off,
							.len = iov_bytes(iov, iovcnt),
							.iov = iov,
							.iovcnt = iovcnt,
							.client = client });
}

int
backend_co_write(struct backend_port *p, uint64_t off, const struct iovec *iov, int iovcnt,
		 unsigned flags, struct backend_client *client)
{
	return request_co(p, &(struct backend_request){ .op = BACKEND_WRITE,
							.off = off,
							.len = iov_bytes(iov, iovcnt),
							.iov = iov,
							.iovcnt = iovcnt,
							.flags = flags,
							.client = client });
}

int
backend_co_write_zeroes(struct backend_port *p, uint64_t off, uint64_t len, unsigned flags,
			struct backend_client *client)
{
	return request_co(p, &(struct backend_request){
				     .op = BACKEND_ZEROES,
				     .off = off,
				     .len = len,
				     .flags = flags,
				     .client = client });
}

int
backend_co_discard(struct backend_port *p, uint64_t off, uint64_t len, unsigned flags,
		   struct backend_client *client)
{
	return request_co(p, &(struct backend_request){ .op = BACKEND_DISCARD,
							.off = off,
							.len = len,
							.flags = flags,
							.client = client });
}

int
backend_co_flush(struct backend_port *p, struct backend_client *client)
{
	return request_co(p, &(struct backend_request){ .op = BACKEND_FLUSH, .client = client });
}

/* --- Life ------------------------------------------------------------------- */

void
backend_init(struct backend *b, const char *name, struct dev *dev,
	     enum backend_policy on_read_error, enum backend_policy on_write_error)
{
	*b = (struct backend){
		.name = name,
		.dev = dev,
		.on_read_error = on_read_error,
		.on_write_error = on_write_error,
	};
	pthread_mutex_init(&b->lock, NULL);
	list_init(&b->ports);
}

void
backend_fini(struct backend *b)
{
	if (!b->dev)
		return;
	invariant(list_empty(&b->ports));
	pthread_mutex_destroy(&b->lock);
	b->dev = NULL;
}

void
backend_port_init(struct backend_port *p, struct backend *b, struct queue *q)
{
	*p = (struct backend_port){ .backend = b, .q = q };
	co_waitq_init(&p->held);
	pthread_mutex_lock(&b->lock);
	list_add_tail(&b->ports, &p->link);
	pthread_mutex_unlock(&b->lock);
}

void
backend_port_fini(struct backend_port *p)
{
	struct backend *b = p->backend;

	if (!b)
		return;
	invariant(co_waitq_empty(&p->held));
	pthread_mutex_lock(&b->lock);
	list_del(&p->link);
	stats_add(&b->gone, p);
	pthread_mutex_unlock(&b->lock);
	p->backend = NULL;
}
