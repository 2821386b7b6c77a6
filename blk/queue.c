/* SPDX-License-Identifier: MIT */
/*
 * queue.c - one worker's channel to one device.
 *
 * The path: queue_writev() hands the request to the driver, which only notes
 * it, and arms the end-of-turn hook; queue_turn() submits everything of the
 * turn and reaps what already finished; the rest is announced by the driver's
 * completion fd, which the loop watches.
 *
 * Invariants:
 * I1. inflight counts the requests handed to the driver and not yet completed.
 * I2. A sync in flight is on syncs, one that waits for older ones on held.
 * I3. Before the loop can sleep with inflight > 0 the completion fd is enabled,
 *     and completions were looked for once more after enabling it.
 */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "blkio.h"

#define REAP_BATCH 64
/* How soon a submission that the kernel had no memory for is tried again. */
#define RETRY_NS 1000000u

struct queue {
	struct blkioq *blkioq;
	struct dev *dev;
	struct loop *loop;
	unsigned inflight;
	uint64_t sync_last;  /* seq of the newest sync */
	struct list syncs;   /* of queue_io.link: in flight, oldest first */
	struct list held;    /* of queue_io.link: succeeded, by barrier */
	bool notify; /* the completion fd is enabled */
	struct loop_hook turn;
	struct loop_watch watch;
	struct loop_timer retry;
	struct blkio_completion completions[REAP_BATCH];
};

static void loop_fn
io_done(struct queue_io *io)
{
	io->done = true;
	if (io->co)
		co_ready(io->co);
}

/* Lets go of the held syncs that no older one in flight stands before. */
static void loop_fn
syncs_release(struct queue *q)
{
	uint64_t oldest = UINT64_MAX;

	if (!list_empty(&q->syncs))
		oldest = list_entry(q->syncs.next, struct queue_io, link)->seq;
	while (!list_empty(&q->held)) {
		struct queue_io *io = list_entry(q->held.next, struct queue_io, link);

		if (io->barrier >= oldest)
			return;
		list_del(&io->link);
		io_done(io);
	}
}

static void loop_fn
io_complete(struct queue *q, struct queue_io *io, int ret)
{
	invariant(!io->done && q->inflight > 0);
	q->inflight--;
	io->ret = ret > 0 ? 0 : ret;
	if (likely(io->seq == 0)) {
		io_done(io);
		return;
	}
	list_del(&io->link);
	if (io->ret < 0) {
		/* Of a request with FUA another error is its own: it wrote nothing. */
		if (io->is_flush || io->ret == -EIO)
			dev_flush_fail(q->dev);
		io_done(io);
	} else {
		io->barrier = q->sync_last;
		list_add_tail(&q->held, &io->link);
	}
	syncs_release(q);
}

static void
queue_retry(struct loop_timer *timer)
{
	struct queue *q = container_of(timer, struct queue, retry);

	loop_assert();
	loop_hook_arm(q->loop, LOOP_SUBMIT, &q->turn);
}

/* Submits and reaps; false when the driver could not be asked just now. */
static bool loop_fn
queue_do_io(struct queue *q)
{
	int n;

	do {
		n = blkioq_do_io(q->blkioq, q->completions, 0, REAP_BATCH, NULL);
		for (int i = 0; i < n; i++)
			io_complete(q, q->completions[i].user_data, q->completions[i].ret);
	} while (n == REAP_BATCH);
	invariant(n >= 0 || n == -EAGAIN || n == -EBUSY || n == -ENOMEM || n == -EINTR);
	return n >= 0;
}

static void
queue_turn(struct loop_hook *hook)
{
	struct queue *q = container_of(hook, struct queue, turn);

	loop_assert();
	if (q->notify) {
		blkioq_set_completion_fd_enabled(q->blkioq, false);
		q->notify = false;
	}
	if (!queue_do_io(q)) {
		loop_timer_arm(q->loop, &q->retry, RETRY_NS, queue_retry);
		return;
	}
	if (q->inflight > 0) {
		blkioq_set_completion_fd_enabled(q->blkioq, true);
		q->notify = true;
		/* It may have had something to submit again. */
		if (!queue_do_io(q))
			loop_timer_arm(q->loop, &q->retry, RETRY_NS, queue_retry);
	}
}

static void
queue_readable(struct loop_watch *watch)
{
	struct queue *q = container_of(watch, struct queue, watch);
	uint64_t count;

	loop_assert();
	/* The count says nothing that the completions do not; it may be gone. */
	if (read(watch->fd, &count, sizeof(count)) < 0)
		invariant(errno == EAGAIN);
	loop_hook_arm(q->loop, LOOP_SUBMIT, &q->turn);
}

static void loop_fn
io_begin(struct queue *q, struct queue_io *io, bool sync)
{
	io->done = false;
	io->co = NULL;
	io->seq = 0;
	io->is_flush = false;
	if (sync) {
		io->seq = ++q->sync_last;
		list_add_tail(&q->syncs, &io->link);
	}
	q->inflight++;
	loop_hook_arm(q->loop, LOOP_SUBMIT, &q->turn);
}

void
queue_readv(struct queue *q, struct queue_io *io, uint64_t off, const struct iovec *iov, int iovcnt)
{
	io_begin(q, io, false);
	blkioq_readv(q->blkioq, off, iov, iovcnt, io, 0);
}

void
queue_writev(struct queue *q, struct queue_io *io, uint64_t off, const struct iovec *iov,
	     int iovcnt, uint32_t flags)
{
	io_begin(q, io, flags & BLKIO_REQ_FUA);
	/* The library's signature lacks a const that its behaviour has. */
	blkioq_writev(q->blkioq, off, (struct iovec *)iov, iovcnt, io, flags);
}

void
queue_write_zeroes(struct queue *q, struct queue_io *io, uint64_t off, uint64_t len,
		   uint32_t flags)
{
	io_begin(q, io, flags & BLKIO_REQ_FUA);
	blkioq_write_zeroes(q->blkioq, off, len, io, flags);
}

void
queue_discard(struct queue *q, struct queue_io *io, uint64_t off, uint64_t len)
{
	io_begin(q, io, false);
	blkioq_discard(q->blkioq, off, len, io, 0);
}

void
queue_flush(struct queue *q, struct queue_io *io)
{
	io_begin(q, io, true);
	io->is_flush = true;
	blkioq_flush(q->blkioq, io, 0);
}

int
queue_co_wait(struct queue *q, struct queue_io *io)
{
	if (!io->done) {
		io->co = co_self(loop_sched(q->loop));
		co_yield(loop_sched(q->loop));
	}
	return io->ret;
}

int
queue_new(struct queue **queuep, struct dev *dev, int index, struct loop *loop, struct err *err)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(err, -ENOMEM, "queue: out of memory");
	q->dev = dev;
	q->loop = loop;
	q->turn.fn = queue_turn;
	list_init(&q->syncs);
	list_init(&q->held);
	if (index >= 0) {
		q->blkioq = dev_queue(dev, (unsigned)index);
	} else {
		int ret = dev_add_queue(dev, &q->blkioq, err);

		if (ret < 0) {
			free(q);
			return ret;
		}
	}
	*queuep = q;
	return 0;
}

void
queue_attach(struct queue *q)
{
	loop_watch(q->loop, &q->watch, blkioq_get_completion_fd(q->blkioq), queue_readable);
}

void
queue_co_detach(struct queue *q)
{
	invariant(q->inflight == 0);
	loop_co_unwatch(&q->watch);
	loop_hook_disarm(&q->turn);
	loop_timer_disarm(&q->retry);
}

void
queue_free(struct queue *q)
{
	free(q);
}

struct dev *
queue_dev(const struct queue *q)
{
	return q->dev;
}

unsigned
queue_inflight(const struct queue *q)
{
	return q->inflight;
}
