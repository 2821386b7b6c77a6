/* SPDX-License-Identifier: MIT */
/*
 * uring.h - one io_uring: made for what the kernel can do, filled and drained
 * without system calls, entered once for both submitting and waiting.
 *
 * 1. uring_sqe() hands out the next entry, zeroed; it is submitted with the
 *    next uring_enter(). The kernel takes entries in order.
 * 2. uring_peek() and uring_seen() look at completions; the caller never has
 *    more requests in the kernel than cq_entries, so none overflow.
 * 3. One thread at a time. With single_issuer: after the first uring_enter()
 *    only the thread that called it.
 *
 * Linux 5.11 is needed (timeouts and signal masks in io_uring_enter); all else
 * is tried and done without when the kernel refuses.
 */
#ifndef DRIVERS_URING_H
#define DRIVERS_URING_H

#include <linux/io_uring.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/annotate.h"

struct uring {
	int fd;
	unsigned features; /* 0: not made */
	unsigned setup_flags;
	bool enabled; /* false: nobody has entered it yet */

	/* Submission: entries [sq_tail - to_submit, sq_tail) wait for uring_enter. */
	struct io_uring_sqe *sqes;
	unsigned *ksq_tail;
	unsigned *ksq_flags;
	unsigned sq_tail;
	unsigned to_submit;
	unsigned sq_entries;

	/* Completion: entries [cq_head, *kcq_tail) wait for the caller. */
	struct io_uring_cqe *cqes;
	unsigned *kcq_head;
	unsigned *kcq_tail;
	unsigned *kcq_flags;
	unsigned cq_head;
	unsigned cq_entries;

	void *rings_map;
	size_t rings_len;
	size_t sqes_len;
};

struct uring_options {
	unsigned entries;   /* of the submission ring; the other has twice as many */
	bool iopoll;        /* completions by polling the device */
	bool single_issuer; /* see invariant 3; without effect on old kernels */
};

/* Makes a ring. 0 or a negative errno with message. */
int uring_init(struct uring *r, const struct uring_options *o);

/* Closes it; accepts one that is zeroed or was never made. */
void uring_release(struct uring *r);

/*
 * Submits what waits and, unless WANT is 0, waits until WANT completions are
 * in the ring, TIMEOUT (relative, NULL: none) is over or a signal comes, with
 * SIGMASK (NULL: as it is) meanwhile. Returns how many entries were submitted,
 * or a negative errno when none were: -ETIME, -EINTR from the wait; -EAGAIN,
 * -EBUSY: the kernel cannot take any now; -EEXIST: not the issuer's thread.
 * A return without the wait having ended as asked is possible: look again.
 */
int uring_enter(struct uring *r, unsigned want, const struct timespec *timeout,
		const sigset_t *sigmask);

/* io_uring_register(2): 0 or a positive count, or a negative errno, no message. */
int uring_register(struct uring *r, unsigned opcode, const void *arg, unsigned len);

/* Operations that uring_restrict() takes at most. */
#define URING_OPERATIONS_MAX 16

/*
 * From its first uring_enter() on the ring does these operations and no others,
 * with all flags of REQUIRED (of IOSQE_*) and those of FLAGS at most, and registers
 * nothing but buffers: it opens no file for whoever gets at it. Before the first
 * entry, after what else is to be registered. 0 or a negative errno, no message.
 */
int uring_restrict(struct uring *r, const uint8_t *operations, unsigned n, unsigned flags,
		   unsigned required);

/* The next submission entry, zeroed, or NULL when the ring is full. */
static inline struct io_uring_sqe *
uring_sqe(struct uring *r)
{
	struct io_uring_sqe *sqe;

	if (unlikely(r->to_submit == r->sq_entries))
		return NULL;
	sqe = &r->sqes[r->sq_tail & (r->sq_entries - 1)];
	memset(sqe, 0, sizeof(*sqe));
	r->sq_tail++;
	r->to_submit++;
	return sqe;
}

/* The oldest completion, or NULL; it stays until uring_seen(). */
static inline const struct io_uring_cqe *
uring_peek(const struct uring *r)
{
	if (r->cq_head == __atomic_load_n(r->kcq_tail, __ATOMIC_ACQUIRE))
		return NULL;
	return &r->cqes[r->cq_head & (r->cq_entries - 1)];
}

static inline void
uring_seen(struct uring *r)
{
	__atomic_store_n(r->kcq_head, ++r->cq_head, __ATOMIC_RELEASE);
}

/* Whether completions will only appear after an entry into the kernel. */
static inline bool
uring_needs_enter(const struct uring *r)
{
	unsigned flags = __atomic_load_n(r->ksq_flags, __ATOMIC_RELAXED);

	return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

/*
 * Whether the eventfd may be off during an entry, without missing what comes
 * just as it is switched on again: who switches it on looks at the rings after
 * a full barrier; the kernel, the other way round, posts, has a barrier, and
 * looks whether to signal. For deferred work it has that barrier only where
 * atomic operations imply one.
 */
static inline bool
uring_may_mute(const struct uring *r)
{
#if defined(__x86_64__) || defined(__i386__)
	return true;
#else
	return !(r->setup_flags & IORING_SETUP_DEFER_TASKRUN);
#endif
}

/* Switches the registered eventfd off or on, without a system call. */
static inline void
uring_set_eventfd(struct uring *r, bool enable)
{
	__atomic_store_n(r->kcq_flags, enable ? 0 : IORING_CQ_EVENTFD_DISABLED, __ATOMIC_RELAXED);
}

#endif
