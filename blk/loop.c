/* SPDX-License-Identifier: MIT */
/*
 * loop.c - the event loop.
 *
 * The path of a turn, loop_turn():
 *   calls_run       what other threads sent
 *   timers_run      what is due
 *   settle          coroutines, then hooks, until nothing is ready (or PASSES_MAX)
 *   poll            looks for completions for a while, if that is switched on
 *   ring_wait       one io_uring_enter: submits what the turn queued, sleeps
 *   ring_reap       every completion goes to its sink: co_ready() or a callback
 *
 * The path of an operation: loop_co_recv() fills an SQE whose user_data is the
 * caller's loop_op, yields; op_done() stores the result and makes it ready.
 *
 * Invariants:
 * I1. After loop_attach() the ring is touched by the owner thread only; it is
 *     made with SINGLE_ISSUER where the kernel has it, which makes it say so.
 * I2. The wake eventfd is written only when the list of calls was empty, and
 *     the list is emptied after the eventfd's edge was consumed: no call is
 *     left behind while the loop sleeps.
 * I3. A sink with an operation in flight stays where it is until done() ran
 *     with no IORING_CQE_F_MORE.
 * I4. done() never submits: ring_sqe() may have to reap, and reaping does not
 *     nest. A watch that the kernel let go of is armed again in ring_wait().
 */
#include "loop.h"

#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/valgrind.h"

/* SQEs a turn may queue before they are pushed early. */
#define RING_ENTRIES 256
/* Completions taken at once. */
#define REAP_BATCH 32
/*
 * Rounds of coroutines and hooks before the ring gets its turn even though
 * something is still ready: a request that always completes at once (a huge
 * zero on a sparse file) must not keep sockets waiting.
 */
#define PASSES_MAX 16
/* The same in time, as passes can be long. */
#define PASSES_NS 1000000u
/* What polling begins with when it grows from nothing. */
#define POLL_LEAST_NS 4000u
/* Coroutine resumptions in one round. */
#define ROUND_BUDGET 1024

struct loop {
	struct io_uring ring;
	struct co_sched sched;
	struct list hooks[LOOP_STAGES]; /* of loop_hook.link, armed */
	struct list timers;		/* of loop_timer.link, soonest first */
	struct list unarmed;		/* of loop_watch.link */
	struct list pollers;		/* of loop_poller.link */
	uint64_t poll_ns, poll_max_ns;
	uint64_t now;
	uint64_t (*clock)(void *arg);
	void *clock_arg;
	int wake_fd; /* I2 */
	struct loop_watch wake;
	bool stopping;
	bool in_turn;
	bool reaping;
	bool attached;
	bool deferred; /* completions need an enter with GETEVENTS */
	bool valgrind; /* runs on it: see ring_sleep() */
	/* Written by other threads, on a cache line of its own. */
	struct loop_call *calls __attribute__((aligned(64))); /* newest first */
};

/* --- Clock and timers ------------------------------------------------------- */

static uint64_t
clock_monotonic(void *arg)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
loop_now(const struct loop *loop)
{
	return loop->now;
}

uint64_t
loop_clock(const struct loop *loop)
{
	return loop->clock(loop->clock_arg);
}

void
loop_set_clock(struct loop *loop, uint64_t (*now)(void *), void *arg)
{
	loop->clock = now ? now : clock_monotonic;
	loop->clock_arg = arg;
	loop->now = loop->clock(loop->clock_arg);
}

void
loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns,
	       void (*fn)(struct loop_timer *))
{
	struct list *at;

	if (list_linked(&timer->link))
		list_del(&timer->link);
	timer->fn = fn;
	timer->deadline = loop->now + delay_ns;

	/* There are few different delays, so the place is near the end. */
	for (at = loop->timers.prev; at != &loop->timers; at = at->prev)
		if (list_entry(at, struct loop_timer, link)->deadline <= timer->deadline)
			break;
	list_add_head(at, &timer->link);
}

void
loop_timer_disarm(struct loop_timer *timer)
{
	if (list_linked(&timer->link))
		list_del(&timer->link);
}

static void loop_fn
timers_run(struct loop *loop)
{
	struct list due = LIST_INIT(due);
	struct list *link;

	/* One that is armed again with no delay is for the next turn. */
	while (!list_empty(&loop->timers)) {
		link = loop->timers.next;
		if (list_entry(link, struct loop_timer, link)->deadline > loop->now)
			break;
		list_del(link);
		list_add_tail(&due, link);
	}
	while ((link = list_pop(&due))) {
		struct loop_timer *timer = list_entry(link, struct loop_timer, link);

		timer->fn(timer);
	}
}

struct sleeper {
	struct loop_timer timer;
	struct co *co;
};

static void
sleeper_wake(struct loop_timer *timer)
{
	loop_assert();
	co_ready(container_of(timer, struct sleeper, timer)->co);
}

void
loop_co_sleep(struct loop *loop, uint64_t delay_ns)
{
	struct sleeper s = { .co = co_self(&loop->sched) };

	loop_timer_arm(loop, &s.timer, delay_ns, sleeper_wake);
	co_yield(&loop->sched);
}

/* --- Hooks ------------------------------------------------------------------ */

void
loop_hook_arm(struct loop *loop, enum loop_stage stage, struct loop_hook *hook)
{
	if (!list_linked(&hook->link))
		list_add_tail(&loop->hooks[stage], &hook->link);
}

void
loop_hook_disarm(struct loop_hook *hook)
{
	if (list_linked(&hook->link))
		list_del(&hook->link);
}

static void loop_fn
hooks_run(struct loop *loop, enum loop_stage stage)
{
	struct list now = LIST_INIT(now);
	struct list *link;

	/* A hook may arm itself again: that is for the next round. */
	list_splice_tail(&now, &loop->hooks[stage]);
	while ((link = list_pop(&now))) {
		struct loop_hook *hook = list_entry(link, struct loop_hook, link);

		hook->fn(hook);
	}
}

static bool
hooks_armed(const struct loop *loop)
{
	for (int stage = 0; stage < LOOP_STAGES; stage++)
		if (!list_empty(&loop->hooks[stage]))
			return true;
	return false;
}

/* Runs coroutines and hooks; false when some work is left for the next turn. */
static bool loop_fn
settle(struct loop *loop)
{
	bool last = false;

	for (int pass = 0; !last; pass++) {
		/* However busy it is, in the last pass every stage has its turn. */
		last = co_sched_run(&loop->sched, ROUND_BUDGET) || pass == PASSES_MAX - 1 ||
		       loop->clock(loop->clock_arg) - loop->now > PASSES_NS;
		hooks_run(loop, LOOP_SUBMIT);
		if (co_sched_has_ready(&loop->sched) && !last)
			continue;
		hooks_run(loop, LOOP_REPLY);
		if (!co_sched_has_ready(&loop->sched) && !hooks_armed(loop))
			return true;
	}
	return false;
}

/* --- The ring --------------------------------------------------------------- */

static void loop_fn
ring_reap(struct loop *loop)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	unsigned n;

	invariant(!loop->reaping);
	loop->reaping = true;
	while ((n = io_uring_peek_batch_cqe(&loop->ring, cqes, REAP_BATCH)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			struct loop_sink *sink = io_uring_cqe_get_data(cqes[i]);

			/* A cancel request has no sink. */
			if (sink)
				sink->done(sink, cqes[i]->res, cqes[i]->flags);
		}
		io_uring_cq_advance(&loop->ring, n);
	}
	loop->reaping = false;
}

static int
ring_submit(struct loop *loop)
{
	if (loop->deferred)
		return io_uring_submit_and_get_events(&loop->ring);
	return io_uring_submit(&loop->ring);
}

/* A free SQE; pushes the queued ones early when there is none. */
static struct io_uring_sqe *loop_fn
ring_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		int ret = ring_submit(loop);

		/* EAGAIN, EBUSY: the kernel wants completions taken first. */
		invariant(ret >= 0 || ret == -EAGAIN || ret == -EBUSY || ret == -EINTR);
		ring_reap(loop);
	}
	return sqe;
}

static void loop_fn
watch_arm(struct loop_watch *watch)
{
	struct io_uring_sqe *sqe = ring_sqe(watch->loop);

	io_uring_prep_poll_multishot(sqe, watch->fd, POLLIN);
	io_uring_sqe_set_data(sqe, &watch->sink);
	watch->armed = true;
}

/* Submits and sleeps until there is a completion or TIMEOUT (NULL: none) is over. */
static int
ring_sleep(struct loop *loop, struct __kernel_timespec *timeout)
{
	struct io_uring_cqe *cqe;
	int ret;

	if (likely(!loop->valgrind))
		return io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, timeout, NULL);

	/* Valgrind runs no other thread while one is in io_uring_enter(2): poll(2). */
	ret = ring_submit(loop);
	if (ret >= 0 && io_uring_cq_ready(&loop->ring) == 0) {
		struct pollfd ring = { .fd = loop->ring.ring_fd, .events = POLLIN };
		int ms = -1;

		if (timeout)
			ms = (int)MIN(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000 + 1,
				      INT_MAX);
		(void)poll(&ring, 1, ms);
		ret = ring_submit(loop); /* takes what is deferred */
	}
	return ret;
}

/* Submits; sleeps until a completion, a due timer or a call when WAIT is set. */
static void loop_fn
ring_wait(struct loop *loop, bool wait)
{
	struct __kernel_timespec ts, *timeout = NULL;
	struct list *link;
	int ret;

	while ((link = list_pop(&loop->unarmed)))
		watch_arm(list_entry(link, struct loop_watch, link));
	if (wait && !list_empty(&loop->timers)) {
		uint64_t deadline =
			list_entry(loop->timers.next, struct loop_timer, link)->deadline;
		uint64_t delay = deadline > loop->now ? deadline - loop->now : 0;

		if (loop->clock != clock_monotonic)
			delay = 0; /* virtual time does not pass by sleeping */
		ts.tv_sec = (int64_t)(delay / 1000000000u);
		ts.tv_nsec = (int64_t)(delay % 1000000000u);
		timeout = &ts;
	}
	if (wait)
		ret = ring_sleep(loop, timeout);
	else
		ret = ring_submit(loop);
	invariant(ret >= 0 || ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY);
}

/* --- Polling ---------------------------------------------------------------- */

void
loop_set_poll(struct loop *loop, uint64_t max_ns)
{
	loop->poll_max_ns = max_ns;
	loop->poll_ns = MIN(loop->poll_ns, max_ns);
}

uint64_t
loop_poll_ns(const struct loop *loop)
{
	return loop->poll_ns;
}

void
loop_poller_add(struct loop *loop, struct loop_poller *poller)
{
	list_add_tail(&loop->pollers, &poller->link);
}

void
loop_poller_remove(struct loop_poller *poller)
{
	list_del(&poller->link);
}

/* One look at everything that may end a sleep. */
static bool loop_fn
poll_once(struct loop *loop)
{
	struct loop_poller *poller;

	/* Completions that wait for their task, us, become visible by entering. */
	(void)io_uring_get_events(&loop->ring);
	if (io_uring_cq_ready(&loop->ring) > 0 ||
	    __atomic_load_n(&loop->calls, __ATOMIC_RELAXED))
		return true;
	list_for_each(poller, &loop->pollers, link)
		if (poller->fn(poller))
			return true;
	return false;
}

/* Looks until something has come, the time is over or a timer is due. */
static bool loop_fn
poll_for_work(struct loop *loop, uint64_t start)
{
	uint64_t until = start + loop->poll_ns;

	if (!list_empty(&loop->timers))
		until = MIN(until,
			    list_entry(loop->timers.next, struct loop_timer, link)->deadline);
	do {
		if (poll_once(loop))
			return true;
	} while (loop->clock(loop->clock_arg) < until);
	return false;
}

/* Learns from a sleep that polling did not spare: it took SLEPT_NS with polling. */
static void
poll_adapt(struct loop *loop, uint64_t slept_ns)
{
	if (slept_ns > loop->poll_max_ns)
		loop->poll_ns = loop->poll_ns / 2 < POLL_LEAST_NS ? 0 : loop->poll_ns / 2;
	else if (slept_ns > loop->poll_ns)
		loop->poll_ns = MIN(MAX(loop->poll_ns * 2, (uint64_t)POLL_LEAST_NS),
				    loop->poll_max_ns);
}

/* As ring_wait(loop, true), with a while of polling before the sleep. */
static void loop_fn
poll_or_sleep(struct loop *loop)
{
	uint64_t start = loop->clock(loop->clock_arg);

	ring_wait(loop, false);
	if (loop->poll_ns > 0) {
		if (poll_for_work(loop, start))
			return;
		loop->now = loop->clock(loop->clock_arg); /* or timers would be late */
	}
	ring_wait(loop, true);
	poll_adapt(loop, loop->clock(loop->clock_arg) - start);
}

/* --- Turns ------------------------------------------------------------------ */

static void loop_fn
calls_run(struct loop *loop)
{
	struct loop_call *newest, *oldest = NULL;

	newest = __atomic_exchange_n(&loop->calls, NULL, __ATOMIC_ACQUIRE);
	while (newest) {
		struct loop_call *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		struct loop_call *call = oldest;

		oldest = call->next; /* fn may free the call */
		call->fn(call);
	}
}

void
loop_turn(struct loop *loop, bool wait)
{
	bool settled;

	loop_assert();
	invariant(loop->attached && !loop->in_turn);
	loop->in_turn = true;
	loop->now = loop->clock(loop->clock_arg);
	calls_run(loop);
	timers_run(loop);
	settled = settle(loop);
	if (!loop->stopping) {
		if (wait && settled && loop->poll_max_ns > 0)
			poll_or_sleep(loop);
		else
			ring_wait(loop, wait && settled);
		ring_reap(loop);
	}
	loop->in_turn = false;
}

void
loop_run(struct loop *loop)
{
	while (!loop->stopping)
		loop_turn(loop, true);
}

void
loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

struct co_sched *
loop_sched(struct loop *loop)
{
	return &loop->sched;
}

/* --- Calls ------------------------------------------------------------------ */

void
loop_call(struct loop *loop, struct loop_call *call, void (*fn)(struct loop_call *))
{
	struct loop_call *head = __atomic_load_n(&loop->calls, __ATOMIC_RELAXED);

	call->fn = fn;
	do {
		call->next = head;
	} while (!__atomic_compare_exchange_n(&loop->calls, &head, call, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!head) {
		uint64_t one = 1;
		ssize_t n = write(loop->wake_fd, &one, sizeof(one));

		invariant(n == sizeof(one));
	}
}

void
loop_waiter_init(struct loop_waiter *waiter, struct loop *loop)
{
	waiter->next = NULL;
	waiter->loop = loop;
	waiter->co = co_self(&loop->sched);
}

static void
waiter_called(struct loop_call *call)
{
	loop_assert();
	co_ready(container_of(call, struct loop_waiter, call)->co);
}

void
loop_wake_all(struct loop *self, struct loop_waiter *newest)
{
	struct loop_waiter *oldest = NULL;

	while (newest) {
		struct loop_waiter *next = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	while (oldest) {
		struct loop_waiter *waiter = oldest;

		oldest = waiter->next; /* woken elsewhere, its frame may go at once */
		if (waiter->loop == self)
			co_ready(waiter->co);
		else
			loop_call(waiter->loop, &waiter->call, waiter_called);
	}
}

/* The calls themselves run at the start of the next turn. */
static void
wake_seen(struct loop_watch *watch)
{
	uint64_t count;
	ssize_t n = read(watch->fd, &count, sizeof(count));

	invariant(n == sizeof(count) || errno == EAGAIN);
}

/* --- Watches ---------------------------------------------------------------- */

static void
watch_done(struct loop_sink *sink, int res, uint32_t cqe_flags)
{
	struct loop_watch *watch = container_of(sink, struct loop_watch, sink);

	loop_assert();
	if (!(cqe_flags & IORING_CQE_F_MORE))
		watch->armed = false;
	if (watch->closer) {
		if (!watch->armed) {
			co_ready(watch->closer);
			watch->closer = NULL;
		}
		return;
	}
	/* Without memory the kernel could not poll: again. Else it can. */
	invariant(res >= 0 || res == -ENOMEM || res == -EAGAIN);
	if (res >= 0)
		watch->fn(watch);
	/*
	 * The kernel ends a multishot poll when its CQ overflows, and each time
	 * when it is another ring that signals the eventfd: go on.
	 */
	if (!watch->armed)
		list_add_tail(&watch->loop->unarmed, &watch->link);
}

void
loop_watch(struct loop *loop, struct loop_watch *watch, int fd, void (*fn)(struct loop_watch *))
{
	*watch = (struct loop_watch){ .sink.done = watch_done, .loop = loop, .fd = fd, .fn = fn };
	list_init(&watch->link);
	watch_arm(watch);
}

static void loop_fn
cancel_sink(struct loop *loop, struct loop_sink *sink)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);

	io_uring_prep_cancel(sqe, sink, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

void
loop_co_unwatch(struct loop_watch *watch)
{
	if (!watch->loop)
		return;
	list_del(&watch->link); /* off unarmed, if it is there */
	if (watch->armed) {
		cancel_sink(watch->loop, &watch->sink);
		watch->closer = co_self(&watch->loop->sched);
		co_yield(&watch->loop->sched);
	}
	watch->loop = NULL;
}

/* --- Operations ------------------------------------------------------------- */

static void
op_done(struct loop_sink *sink, int res, uint32_t cqe_flags)
{
	struct loop_op *op = container_of(sink, struct loop_op, sink);
	struct co *co = op->co;

	loop_assert();
	op->res = res;
	op->co = NULL;
	co_ready(co);
}

/* Valgrind does not see what io_uring wrote: LEN bytes into IOV. */
static void
received(const struct loop *loop, const struct iovec *iov, size_t iovcnt, int len)
{
	size_t left = len > 0 ? (size_t)len : 0;

	if (likely(!loop->valgrind))
		return;
	for (size_t i = 0; i < iovcnt && left > 0; i++) {
		size_t n = MIN(left, iov[i].iov_len);

		(void)VALGRIND_MAKE_MEM_DEFINED(iov[i].iov_base, n);
		left -= n;
	}
}

/* Yields until the SQE just filled has completed. */
static int co_fn
op_wait(struct loop *loop, struct loop_op *op, struct io_uring_sqe *sqe)
{
	invariant(!op->co);
	op->sink.done = op_done;
	op->co = co_self(&loop->sched);
	io_uring_sqe_set_data(sqe, &op->sink);
	co_yield(&loop->sched);
	return op->res;
}

int
loop_co_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);
	int n;

	io_uring_prep_recv(sqe, fd, buf, len, 0);
	n = op_wait(loop, op, sqe);
	received(loop, &(struct iovec){ buf, len }, 1, n);
	return n;
}

int
loop_co_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);
	int n;

	io_uring_prep_recvmsg(sqe, fd, msg, 0);
	n = op_wait(loop, op, sqe);
	received(loop, msg->msg_iov, msg->msg_iovlen, n);
	return n;
}

int
loop_co_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg, int flags)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);

	io_uring_prep_sendmsg(sqe, fd, msg, (unsigned)flags | MSG_NOSIGNAL);
	return op_wait(loop, op, sqe);
}

int
loop_co_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, int iovcnt)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);
	int n;

	io_uring_prep_readv(sqe, fd, iov, (unsigned)iovcnt, (uint64_t)-1);
	n = op_wait(loop, op, sqe);
	received(loop, iov, (size_t)iovcnt, n);
	return n;
}

int
loop_co_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, int iovcnt)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);

	io_uring_prep_writev(sqe, fd, iov, (unsigned)iovcnt, (uint64_t)-1);
	return op_wait(loop, op, sqe);
}

int
loop_co_accept(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);

	io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	return op_wait(loop, op, sqe);
}

int
loop_co_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	struct io_uring_sqe *sqe = ring_sqe(loop);

	io_uring_prep_poll_add(sqe, fd, events);
	return op_wait(loop, op, sqe);
}

void
loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (op->co)
		cancel_sink(loop, &op->sink);
}

/* --- Life ------------------------------------------------------------------- */

static int
ring_error(struct err *err, int ret)
{
	switch (ret) {
	case -EPERM:
		return err_set(err, ret,
			       "io_uring: not permitted: allow it with sysctl "
			       "kernel.io_uring_disabled=0 and in the seccomp filter of the "
			       "container or unit");
	case -ENOSYS:
		return err_set(err, ret,
			       "io_uring: this kernel has none, or a seccomp filter hides it; "
			       "Linux 5.13 or newer is needed");
	case -ENOMEM:
		return err_set(err, ret,
			       "io_uring: no memory for a ring: raise the locked-memory limit "
			       "(ulimit -l, LimitMEMLOCK=)");
	default:
		return err_set(err, ret, "io_uring: cannot make a ring: %s", strerror(-ret));
	}
}

/* The strictest flags first: fewer interrupts and no locks, where known. */
static int
ring_new(struct loop *loop, struct err *err)
{
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,	 /* 6.0 */
		IORING_SETUP_COOP_TASKRUN,				 /* 5.19 */
		0,
	};
	/* With DEFER_TASKRUN nothing wakes a poll(2) of the ring: see ring_sleep(). */
	size_t first = loop->valgrind ? ARRAY_SIZE(flags) - 1 : 0;
	int ret = -EINVAL;

	for (size_t i = first; i < ARRAY_SIZE(flags) && ret == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
			.cq_entries = RING_ENTRIES * 4,
		};

		ret = io_uring_queue_init_params(RING_ENTRIES, &loop->ring, &params);
		if (ret == 0)
			loop->deferred = flags[i] & IORING_SETUP_DEFER_TASKRUN;
	}
	if (ret < 0)
		return ring_error(err, ret);

	const unsigned need = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
			      IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG |
			      IORING_FEAT_RSRC_TAGS; /* 5.13, as are multishot polls */
	unsigned missing = need & ~loop->ring.features;

	if (missing) {
		io_uring_queue_exit(&loop->ring);
		return err_set(err, -ENOSYS,
			       "io_uring: this kernel is too old (features 0x%x are missing); "
			       "Linux 5.13 or newer is needed",
			       missing);
	}
	return 0;
}

/*
 * What is not done here cannot be done with this ring, whoever gets to it: the
 * kernel refuses every other operation with EACCES. The descriptor of a ring is
 * beyond the reach of a system call filter. It has to be said before the ring is
 * enabled. What a new loop_co_*() needs goes into the table.
 */
static int
ring_restrict(struct loop *loop, struct err *err)
{
	static const uint8_t operations[] = {
		IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_RECV,  IORING_OP_RECVMSG,
		IORING_OP_SENDMSG,  IORING_OP_READV,	    IORING_OP_WRITEV, IORING_OP_ACCEPT,
	};
	/* Enabling is no registration in this sense. */
	static const uint8_t registrations[] = {
		IORING_REGISTER_RING_FDS,
		IORING_UNREGISTER_RING_FDS,
	};
	struct io_uring_restriction r[ARRAY_SIZE(operations) + ARRAY_SIZE(registrations)] = { 0 };
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = operations[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(registrations); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
		r[n].register_op = registrations[i];
	}
	/* liburing 2.3 has no wrapper for it. */
	if (syscall(__NR_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, r,
		    n) < 0)
		return err_set(err, -errno, "io_uring: cannot restrict the ring: %s",
			       strerror(errno));
	return 0;
}

int
loop_new(struct loop **loopp, struct err *err)
{
	struct loop *loop = aligned_alloc(64, sizeof(*loop));
	int ret;

	if (!loop)
		return err_set(err, -ENOMEM, "loop: out of memory");
	memset(loop, 0, sizeof(*loop));
	for (int stage = 0; stage < LOOP_STAGES; stage++)
		list_init(&loop->hooks[stage]);
	list_init(&loop->timers);
	list_init(&loop->unarmed);
	list_init(&loop->pollers);
	co_sched_init(&loop->sched);
	loop->valgrind = RUNNING_ON_VALGRIND;
	loop_set_clock(loop, NULL, NULL);

	ret = ring_new(loop, err);
	if (ret < 0)
		goto free_loop;
	ret = ring_restrict(loop, err);
	if (ret < 0)
		goto exit_ring;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		ret = err_set(err, -errno,
			      "eventfd: %s; the limit of open files (ulimit -n, LimitNOFILE=) "
			      "may be too low",
			      strerror(errno));
		goto exit_ring;
	}
	*loopp = loop;
	return 0;

exit_ring:
	io_uring_queue_exit(&loop->ring);
free_loop:
	free(loop);
	return ret;
}

int
loop_attach(struct loop *loop, struct err *err)
{
	loop_assert();
	invariant(!loop->attached);
	/* liburing 2.3 has no wrapper for it. */
	if (syscall(__NR_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
		    0) < 0)
		return err_set(err, -errno, "io_uring: cannot enable the ring: %s",
			       strerror(errno));
	/* Saves a file lookup per enter; 5.18. Without it all works the same. */
	(void)io_uring_register_ring_fd(&loop->ring);
	loop->attached = true;
	loop_watch(loop, &loop->wake, loop->wake_fd, wake_seen);
	return 0;
}

void
loop_detach(struct loop *loop)
{
	/* The registered descriptor is an index into this thread's own table. */
	(void)io_uring_unregister_ring_fd(&loop->ring);
	loop->attached = false;
}

void
loop_free(struct loop *loop)
{
	if (!loop)
		return;
	invariant(!loop->attached);
	co_sched_release(&loop->sched);
	io_uring_queue_exit(&loop->ring);
	close(loop->wake_fd);
	free(loop);
}
