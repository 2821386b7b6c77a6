/* SPDX-License-Identifier: MIT */
/*
 * loop.h - one thread's event loop: an io_uring and the coroutines it resumes.
 *
 * 1. A loop belongs to one thread: the one that called loop_attach(). Only
 *    loop_call() and loop_new()/loop_free() may be used from elsewhere.
 * 2. One turn: run ready coroutines, run the end-of-turn hooks, until nothing
 *    is ready; then one wait on the ring. A completion only makes a coroutine
 *    ready or runs a short callback; nothing is resumed inside the reaping.
 * 3. No nesting: loop_turn() is never called from a coroutine, a callback or a
 *    hook. Waiting is yielding.
 * 4. Each loop_co_*() call is at most one operation in flight per struct
 *    loop_op, which the caller owns and which must live until the call returns.
 * 5. Returned errors are -errno. No SIGPIPE is ever raised by a send.
 *
 * Source: io_uring(7), io_uring_setup(2), io_uring_enter(2).
 */
#ifndef BLK_LOOP_H
#define BLK_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/annotate.h"
#include "base/list.h"
#include "co.h"
#include "err.h"

struct loop;

/* Where a completion of the ring goes; part of the objects below. */
struct loop_sink {
	void (*done)(struct loop_sink *sink, int res, uint32_t cqe_flags);
};

/* --- Life ------------------------------------------------------------------- */

/*
 * Makes the ring, disabled, so that it can be made before privileges are
 * dropped. Context: main. Errors: -EPERM (io_uring forbidden by sysctl or
 * seccomp), -ENOSYS (kernel without io_uring or too old), -ENOMEM, -EMFILE;
 * the text says what to change.
 */
int loop_new(struct loop **loopp, struct err *err);

/* Invariant: no coroutine is live, nothing is in flight. NULL is fine. */
void loop_free(struct loop *loop);

/* The calling thread becomes the owner and the ring is enabled. Once. */
int loop_attach(struct loop *loop, struct err *err);

/*
 * The owner gives the loop up: after it, another thread may call loop_free().
 * Context: the owner thread, after its last turn. Once.
 */
void loop_detach(struct loop *loop);

/* Runs turns until loop_stop(). Context: the owner thread. */
void loop_run(struct loop *loop);

/* Makes loop_run() return after this turn. */
void loop_stop(struct loop *loop) loop_fn;

/*
 * One turn; with WAIT it sleeps until something completes or a timer is due.
 * For loop_run() and for tests that step a loop.
 */
void loop_turn(struct loop *loop, bool wait);

/* The coroutines of this loop. */
struct co_sched *loop_sched(struct loop *loop);

/* --- Time ------------------------------------------------------------------- */

/* Monotonic nanoseconds, taken once per turn. */
uint64_t loop_now(const struct loop *loop);

/* The same clock, read now: for how long something takes within a turn. */
uint64_t loop_clock(const struct loop *loop);

/* Replaces the clock (tests: virtual time). NULL: CLOCK_MONOTONIC again. */
void loop_set_clock(struct loop *loop, uint64_t (*now)(void *arg), void *arg);

struct loop_timer {
	struct list link;
	uint64_t deadline; /* nanoseconds on the loop's clock */
	void (*fn)(struct loop_timer *timer);
};

/*
 * Calls FN once, on the loop, DELAY_NS from now; an armed timer is moved.
 * The timer is the caller's and must be disarmed before it goes.
 */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns,
		    void (*fn)(struct loop_timer *)) loop_fn;
void loop_timer_disarm(struct loop_timer *timer) loop_fn;

void loop_co_sleep(struct loop *loop, uint64_t delay_ns) co_fn;

/* --- Messages from other threads -------------------------------------------- */

struct loop_call {
	struct loop_call *next;
	void (*fn)(struct loop_call *call);
};

/*
 * Has FN(CALL) run once on LOOP's thread, in the order of the calls of one
 * thread. CALL belongs to the loop until FN runs. Context: any thread.
 */
void loop_call(struct loop *loop, struct loop_call *call, void (*fn)(struct loop_call *));

/* A coroutine that waits for something which loops share; in its own frame. */
struct loop_waiter {
	struct loop_waiter *next; /* the one that came before, of the same thing */
	struct loop *loop;
	struct co *co;
	struct loop_call call;
};

/* The running coroutine of LOOP as a waiter; then it is pushed and yields. */
void loop_waiter_init(struct loop_waiter *waiter, struct loop *loop) co_fn;

/*
 * Wakes NEWEST and all that came before it, the first that came first. SELF is
 * the loop that calls: waiters of others get a loop_call().
 */
void loop_wake_all(struct loop *self, struct loop_waiter *newest) loop_fn;

/* --- End of turn ------------------------------------------------------------ */

/* In this order; the next stage runs only when the one before left nothing ready. */
enum loop_stage {
	LOOP_SUBMIT, /* device queues: submit the turn's requests, reap */
	LOOP_REPLY,  /* connections: send the turn's replies */
	LOOP_STAGES,
};

struct loop_hook {
	struct list link;
	void (*fn)(struct loop_hook *hook);
};

/* Runs FN(HOOK) once at the end of this turn. Arming an armed hook is nothing. */
void loop_hook_arm(struct loop *loop, enum loop_stage stage, struct loop_hook *hook) loop_fn;
void loop_hook_disarm(struct loop_hook *hook) loop_fn;

/* --- Polling before sleep --------------------------------------------------- */

/*
 * A loop with nothing left to do may look for more for a while before it
 * sleeps, which spares a wake-up and costs CPU time. The while adapts: it grows
 * while sleeps turn out short, up to a maximum, and shrinks when they are long.
 */
struct loop_poller {
	struct list link;
	/* Looks for completions and takes them; whether there were some. */
	bool (*fn)(struct loop_poller *poller);
};

/* The maximum; 0, as at first, is no polling. */
void loop_set_poll(struct loop *loop, uint64_t max_ns) loop_fn;
/* Besides the ring. Invariant for both: POLLER is not, or is, there. */
void loop_poller_add(struct loop *loop, struct loop_poller *poller) loop_fn;
void loop_poller_remove(struct loop_poller *poller) loop_fn;

/* How long it would poll now, nanoseconds. */
uint64_t loop_poll_ns(const struct loop *loop);

/* --- Watches ---------------------------------------------------------------- */

struct loop_watch {
	struct loop_sink sink;
	struct loop *loop;
	int fd;
	bool armed;	  /* the kernel holds a poll for it */
	struct list link; /* or it is to be armed before the loop sleeps */
	void (*fn)(struct loop_watch *watch);
	struct co *closer; /* waits in loop_co_unwatch() */
};

/*
 * Calls FN each time FD becomes readable, until loop_co_unwatch(). FN must read
 * all that is there: of what it leaves it may not be told again before more
 * comes. For eventfds, signalfds and the like.
 */
void loop_watch(struct loop *loop, struct loop_watch *watch, int fd,
		void (*fn)(struct loop_watch *)) loop_fn;
/* Returns when the kernel has let go of the watch. */
void loop_co_unwatch(struct loop_watch *watch) co_fn;

/* --- Operations ------------------------------------------------------------- */

struct loop_op {
	struct loop_sink sink;
	struct co *co; /* waits for it; NULL: nothing in flight */
	int res;
};

/* Up to LEN bytes; 0 is end of file. */
int loop_co_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len) co_fn;
int loop_co_recvmsg(struct loop *loop, struct loop_op *op, int fd, struct msghdr *msg) co_fn;
int loop_co_sendmsg(struct loop *loop, struct loop_op *op, int fd, const struct msghdr *msg,
		    int flags) co_fn;

/* For pipes and files, at their current position. */
int loop_co_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		  int iovcnt) co_fn;
int loop_co_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		   int iovcnt) co_fn;

/* A connected socket, close-on-exec. */
int loop_co_accept(struct loop *loop, struct loop_op *op, int fd) co_fn;

/* Waits for poll(2) events; returns those that are there. */
int loop_co_poll(struct loop *loop, struct loop_op *op, int fd, unsigned events) co_fn;

/*
 * Asks the kernel to give up OP; the call that waits for it returns -ECANCELED,
 * or its result if that came first. Nothing in flight: nothing happens.
 */
void loop_cancel(struct loop *loop, struct loop_op *op) loop_fn;

#endif
