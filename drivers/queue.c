/* SPDX-License-Identifier: MIT */
/*
 * queue.c - requests and completions: what every driver's queue has in common.
 *
 * The path of a request: blkioq_*() checks its flags and calls the driver,
 * which takes a struct request from the pool. blkioq_do_io() lets the driver
 * run; what finishes goes onto a list of the queue, and from there into the
 * caller's array.
 *
 * What fails at once (flags, signs, lengths, unsupported requests) never gets
 * to the driver's lists: it waits on the early list, which is fetched first.
 *
 * 1. q->outstanding counts requests from blkioq_*() to the moment they are
 *    stored in the caller's array; q->ready those that could be stored now.
 * 2. Nothing is taken off a list before it is known that the call succeeds, so
 *    an error of blkioq_do_io() loses no completion.
 * 3. The completion fd is only ever needed for what becomes ready while no
 *    blkioq_do_io() is there to return it.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/range.h"
#include "driver.h"

/* The pool grows by one of these at a time. */
struct request_chunk {
	struct request_chunk *next;
	_Alignas(64) unsigned char memory[];
};

/* --- The pool -------------------------------------------------------------- */

static bool
pool_grow(struct blkioq *q)
{
	size_t size = sizeof(struct request_chunk) + q->chunk_len * q->request_size;
	struct request_chunk *chunk;

	chunk = aligned_alloc(64, (size + 63) & ~(size_t)63);
	if (!chunk)
		return false;
	chunk->next = q->chunks;
	q->chunks = chunk;
	/* From the end, so that the first ones are used first. */
	for (unsigned i = q->chunk_len; i > 0; i--) {
		void *memory = chunk->memory + (i - 1) * q->request_size;
		struct request *r = memory;

		r->next = q->free;
		q->free = r;
	}
	return true;
}

struct request *
queue_grow(struct blkioq *q)
{
	/*
	 * Only a client that goes beyond the queue's depth gets here. Without
	 * memory its request could not even be failed.
	 */
	invariant(pool_grow(q));
	return q->free;
}

int
queue_init(struct blkioq *q, struct blkio *dev, const struct queue_ops *ops, bool poll,
	   size_t request_size, unsigned chunk_len)
{
	int ret;

	q->ops = ops;
	q->dev = dev;
	q->poll = poll;
	q->request_size = request_size;
	q->chunk_len = chunk_len;
	q->event_fd = -1;
	if (!poll) {
		q->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (q->event_fd < 0)
			return error_os(errno, "%s", ": no eventfd for a queue");
	}
	if (!pool_grow(q)) {
		ret = error_os(ENOMEM, ": %u requests of a queue", chunk_len);
		queue_release(q);
		return ret;
	}
	return 0;
}

void
queue_release(struct blkioq *q)
{
	struct request_chunk *chunk;

	while ((chunk = q->chunks)) {
		q->chunks = chunk->next;
		free(chunk);
	}
	q->free = NULL;
	if (q->ops && q->event_fd >= 0)
		close(q->event_fd);
	q->event_fd = -1;
}

/* --- Early completions and the completion fd ------------------------------- */

void
queue_signal(struct blkioq *q)
{
	/* The counter cannot overflow in practice, and would be readable if it did. */
	if (q->event_enabled && eventfd_write(q->event_fd, 1) < 0)
		invariant(errno == EAGAIN);
}

static void
queue_early(struct blkioq *q, void *user_data, int ret, const char *msg)
{
	struct request *r = queue_take(q, user_data);

	r->ret = ret;
	r->error_msg = msg;
	fifo_push(&q->early, r);
	q->ready++;
	queue_signal(q);
}

void
queue_fail(struct blkioq *q, void *user_data, int err, const char *msg)
{
	queue_early(q, user_data, -err, msg);
}

void
queue_pass(struct blkioq *q, void *user_data)
{
	queue_early(q, user_data, 0, NULL);
}

int
blkioq_get_completion_fd(struct blkioq *q)
{
	return q->event_fd;
}

void
blkioq_set_completion_fd_enabled(struct blkioq *q, bool enable)
{
	if (q->poll || enable == q->event_enabled)
		return;
	q->event_enabled = enable;
	if (q->ops->set_event)
		q->ops->set_event(q, enable);
	if (enable && (q->ready || q->ops->pending(q)))
		queue_signal(q);
}

/* --- Requests -------------------------------------------------------------- */

/* Fails a request whose FLAGS are not all in ALLOWED. */
static __attribute__((cold)) void
reject_flags(struct blkioq *q, void *user_data, uint32_t flags, uint32_t allowed)
{
	const uint32_t known = BLKIO_REQ_FUA | BLKIO_REQ_NO_UNMAP | BLKIO_REQ_NO_FALLBACK;
	uint32_t bad = flags & ~allowed;
	const char *msg;

	if (flags & ~known)
		msg = "unsupported bits in request flags";
	else if (bad & BLKIO_REQ_FUA)
		msg = "BLKIO_REQ_FUA is invalid for this request type";
	else if (bad & BLKIO_REQ_NO_UNMAP)
		msg = "BLKIO_REQ_NO_UNMAP is invalid for this request type";
	else
		msg = "BLKIO_REQ_NO_FALLBACK is invalid for this request type";
	queue_fail(q, user_data, EINVAL, msg);
}

static __attribute__((cold)) void
reject_len(struct blkioq *q, void *user_data)
{
	queue_fail(q, user_data, EINVAL, "len must fit in an unsigned 32-bit integer");
}

static __attribute__((cold)) void
reject_iovcnt(struct blkioq *q, void *user_data)
{
	queue_fail(q, user_data, EINVAL,
		   "iovcnt must be non-negative and fit in a signed 32-bit integer");
}

void
blkioq_read(struct blkioq *q, uint64_t start, void *buf, size_t len, void *user_data,
	    uint32_t flags)
{
	if (unlikely(flags))
		reject_flags(q, user_data, flags, 0);
	else if (unlikely(len > UINT32_MAX))
		reject_len(q, user_data);
	else
		q->ops->read(q, start, buf, (uint32_t)len, user_data);
}

void
blkioq_write(struct blkioq *q, uint64_t start, const void *buf, size_t len, void *user_data,
	     uint32_t flags)
{
	if (unlikely(flags & ~(uint32_t)BLKIO_REQ_FUA))
		reject_flags(q, user_data, flags, BLKIO_REQ_FUA);
	else if (unlikely(len > UINT32_MAX))
		reject_len(q, user_data);
	else
		q->ops->write(q, start, buf, (uint32_t)len, user_data, flags);
}

void
blkioq_readv(struct blkioq *q, uint64_t start, const struct iovec *iovec, int iovcnt,
	     void *user_data, uint32_t flags)
{
	if (unlikely(flags))
		reject_flags(q, user_data, flags, 0);
	else if (unlikely(iovcnt < 0))
		reject_iovcnt(q, user_data);
	else
		q->ops->readv(q, start, iovec, iovcnt, user_data);
}

void
blkioq_writev(struct blkioq *q, uint64_t start, struct iovec *iovec, int iovcnt,
	      void *user_data, uint32_t flags)
{
	if (unlikely(flags & ~(uint32_t)BLKIO_REQ_FUA))
		reject_flags(q, user_data, flags, BLKIO_REQ_FUA);
	else if (unlikely(iovcnt < 0))
		reject_iovcnt(q, user_data);
	else
		q->ops->writev(q, start, iovec, iovcnt, user_data, flags);
}

void
blkioq_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		    uint32_t flags)
{
	const uint32_t allowed = BLKIO_REQ_FUA | BLKIO_REQ_NO_UNMAP | BLKIO_REQ_NO_FALLBACK;

	if (unlikely(flags & ~allowed))
		reject_flags(q, user_data, flags, allowed);
	else
		q->ops->write_zeroes(q, start, len, user_data, flags);
}

void
blkioq_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data, uint32_t flags)
{
	if (unlikely(flags))
		reject_flags(q, user_data, flags, 0);
	else
		q->ops->discard(q, start, len, user_data);
}

void
blkioq_flush(struct blkioq *q, void *user_data, uint32_t flags)
{
	if (unlikely(flags))
		reject_flags(q, user_data, flags, 0);
	else
		q->ops->flush(q, user_data);
}

/*
 * These are here and not in a file of their own: a weak reference, which is what clients
 * have, takes nothing out of an archive.
 */
void
blkioq_ext_let_go(struct blkioq *q)
{
	if (q->ops->let_go && q->outstanding == 0)
		q->ops->let_go(q);
}

int
blkioq_ext_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	if (!len || !range_ok(start, len, INT64_MAX))
		return -EINVAL;
	if (!q->ops->status)
		return -ENOTSUP;
	return q->ops->status(q, start, len, extent);
}

/* --- Zones: no driver has any yet ------------------------------------------ */

static void
zone_request(struct blkioq *q, void *user_data, uint32_t flags)
{
	if (flags)
		reject_flags(q, user_data, flags, 0);
	else
		queue_fail(q, user_data, EOPNOTSUPP, "request not supported for this driver");
}

void
blkioq_report_zones(struct blkioq *q, uint64_t offset, struct blkio_zone *zones,
		    uint32_t nr_zones, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_close_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_finish_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_open_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_reset_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_close_all_zones(struct blkioq *q, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_finish_all_zones(struct blkioq *q, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_open_all_zones(struct blkioq *q, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

void
blkioq_reset_all_zones(struct blkioq *q, void *user_data, uint32_t flags)
{
	zone_request(q, user_data, flags);
}

/* --- Waiting --------------------------------------------------------------- */

#define NSEC_PER_SEC 1000000000L
/* A longer time than this (30 years) is no limit at all. */
#define WAIT_SEC_MAX 1000000000L

struct timespec
wait_left(const struct wait *w)
{
	struct timespec now, left;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left.tv_sec = w->end.tv_sec - now.tv_sec;
	left.tv_nsec = w->end.tv_nsec - now.tv_nsec;
	if (left.tv_nsec < 0) {
		left.tv_sec--;
		left.tv_nsec += NSEC_PER_SEC;
	}
	if (left.tv_sec < 0)
		left = (struct timespec){ 0 };
	return left;
}

static void
wait_begin(struct wait *w, const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec > WAIT_SEC_MAX)
		return;
	w->limited = true;
	clock_gettime(CLOCK_MONOTONIC, &w->end);
	w->end.tv_sec += timeout->tv_sec;
	w->end.tv_nsec += timeout->tv_nsec;
	if (w->end.tv_nsec >= NSEC_PER_SEC) {
		w->end.tv_sec++;
		w->end.tv_nsec -= NSEC_PER_SEC;
	}
}

/* --- do_io ----------------------------------------------------------------- */

/* The arguments in the order in which their errors count. */
static int
do_io_check(const struct blkioq *q, const struct blkio_completion *completions, int min, int max,
	    const struct timespec *timeout)
{
	if (timeout && timeout->tv_sec < 0)
		return error_set(EINVAL, "tv_sec cannot be negative");
	if (timeout && (timeout->tv_nsec < 0 || timeout->tv_nsec >= NSEC_PER_SEC))
		return error_set(EINVAL, "tv_nsec must be less than one second");
	if (min < 0)
		return error_set(EINVAL, "min_completions cannot be negative");
	if (max < 0)
		return error_set(EINVAL, "max_completions cannot be negative");
	if (min > max)
		return error_set(EINVAL, "min_completions must be less than or equal to "
					 "max_completions");
	if (!completions && max > 0)
		return error_set(EINVAL, "max_completions must be 0 when completions is NULL");
	if ((unsigned)min > q->outstanding)
		return error_set(EINVAL, "min_completions is larger than total outstanding "
					 "requests");
	return 0;
}

/* Stores up to MAX finished requests in C and frees them; returns how many. */
static int
fetch(struct blkioq *q, struct fifo *finished, struct blkio_completion *c, int max)
{
	struct request *r;
	int n = 0;

	while (n < max && (r = fifo_pop(finished))) {
		c[n++] = (struct blkio_completion){
			.user_data = r->user_data,
			.error_msg = r->error_msg,
			.ret = r->ret,
		};
		r->next = q->free;
		q->free = r;
	}
	q->outstanding -= n;
	q->ready -= n;
	return n;
}

static int
do_io(struct blkioq *q, struct blkio_completion *completions, int min, int max,
      struct timespec *timeout, struct wait *w)
{
	int ret, n;

	ret = do_io_check(q, completions, min, max, timeout);
	if (unlikely(ret))
		return ret;
	wait_begin(w, timeout);

	ret = q->ops->run(q, min, w);
	invariant(ret < 0 || q->ready >= (unsigned)min);

	if (w->limited)
		*timeout = ret == -ETIME ? (struct timespec){ 0 } : wait_left(w);
	if (unlikely(ret < 0)) {
		n = 0;
	} else {
		n = fetch(q, &q->early, completions, max);
		n += fetch(q, &q->done, completions + n, max - n);
		ret = n;
	}
	/* Invariant 3: what came in unsignalled and is not returned now. */
	if (unlikely(q->event_owed)) {
		q->event_owed = false;
		if (q->ready)
			queue_signal(q);
	}
	return ret;
}

int
blkioq_do_io(struct blkioq *q, struct blkio_completion *completions, int min_completions,
	     int max_completions, struct timespec *timeout)
{
	struct wait w = { .limited = false };

	return do_io(q, completions, min_completions, max_completions, timeout, &w);
}

int
blkioq_do_io_interruptible(struct blkioq *q, struct blkio_completion *completions,
			   int min_completions, int max_completions, struct timespec *timeout,
			   const sigset_t *sig)
{
	struct wait w = { .interruptible = true, .sigmask = sig };

	if (q->poll)
		return error_set(EOPNOTSUPP,
				 "blkioq_do_io_interruptible() is not supported on poll queues");
	return do_io(q, completions, min_completions, max_completions, timeout, &w);
}
