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

#include "base/range.h"
#include "blkio-ext.h"
#include "blkio.h"
#include "slots.h"

/* A foreign driver library does not have it: then this is NULL. */
extern __typeof__(blkioq_ext_let_go) blkioq_ext_let_go __attribute__((weak));

#define REAP_BATCH 64
/* How soon a submission that the kernel had no memory for is tried again. */
#define RETRY_NS 1000000u

/* Pad memory of a queue, and requests of it that may be read-modify-writing. */
#define PADS_BYTES (1u << 20)
#define PADS_MIN 4
#define PADS_MAX 64
/* Requests of a queue that may bounce at once, and the piece they do it in. */
#define BOUNCE_SLOTS 4
/* An alignment that would only be faster is heeded up to this. */
#define OPT_ALIGNMENT_MAX (4u << 10)
#define BOUNCE_BYTES (256u << 10)

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
	struct loop_poller poller;
	struct drain_door door;
	struct flush_writer writer;
	struct slots pads, bounce; /* where the device may need them */
	struct status_memory status;
	struct buf_region memory; /* empty where the driver takes any */
	uint64_t counters[QUEUE_COUNTERS];
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
			dev_flush_fail(q->dev, io->ret);
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

/*
 * Submits and reaps; false when the driver could not be asked just now. Then it is
 * asked again soon: what it was to submit again would wait for ever.
 */
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
	if (n < 0)
		loop_timer_arm(q->loop, &q->retry, RETRY_NS, queue_retry);
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
	if (!queue_do_io(q))
		return;
	if (q->inflight > 0) {
		blkioq_set_completion_fd_enabled(q->blkioq, true);
		q->notify = true;
		/* It may have had something to submit again. */
		queue_do_io(q);
	}
}

/* What it takes the completion fd may announce all the same: see queue_readable(). */
static bool
queue_poll(struct loop_poller *poller)
{
	struct queue *q = container_of(poller, struct queue, poller);
	unsigned before = q->inflight;

	loop_assert();
	if (before > 0)
		queue_do_io(q);
	return q->inflight != before;
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

/* Memory for what a device with these limits may ask of a request. */
static int
slots_new(struct queue *q, struct err *err)
{
	const struct dev *dev = q->dev;
	const struct dev_limits *l = &dev->limits;
	size_t block = (size_t)l->request_alignment;
	size_t align = (size_t)MAX(l->mem_alignment, (uint64_t)64);
	unsigned npads = (unsigned)MIN(MAX(PADS_BYTES / (2 * block), (size_t)PADS_MIN),
				       (size_t)PADS_MAX);
	int ret = 0;

	/* A wish, as long as it costs no memory to speak of. */
	if (is_pow2(l->opt_mem_alignment) && l->opt_mem_alignment <= OPT_ALIGNMENT_MAX)
		align = MAX(align, (size_t)l->opt_mem_alignment);
	if (block > 1)
		ret = slots_init(&q->pads, q->loop, npads, 2 * block, align, err);
	if (ret == 0 && (block > 1 || l->mem_alignment > 1 || dev->needs_regions))
		ret = slots_init(&q->bounce, q->loop, BOUNCE_SLOTS, MAX((size_t)BOUNCE_BYTES, block),
				 align, err);
	return ret;
}

static void
slots_unmap(struct queue *q, const struct slots *s)
{
	struct buf_region region;

	if (s->n == 0 || !q->dev->needs_regions)
		return;
	slots_region(s, &region);
	dev_unmap(q->dev, &region);
}

static int
slots_map(struct queue *q, const struct slots *s, struct err *err)
{
	struct buf_region region;

	if (s->n == 0 || !q->dev->needs_regions)
		return 0;
	slots_region(s, &region);
	return dev_map(q->dev, &region, err);
}

int
queue_new(struct queue **queuep, struct dev *dev, int index, struct loop *loop, struct err *err)
{
	struct queue *q = calloc(1, sizeof(*q));
	int ret;

	if (!q)
		return err_set(err, -ENOMEM, "queue: out of memory");
	q->dev = dev;
	q->loop = loop;
	q->turn.fn = queue_turn;
	q->poller.fn = queue_poll;
	list_init(&q->syncs);
	list_init(&q->held);
	ret = slots_new(q, err);
	if (ret < 0)
		goto fini_slots;
	ret = slots_map(q, &q->pads, err);
	if (ret < 0)
		goto fini_slots;
	ret = slots_map(q, &q->bounce, err);
	if (ret < 0)
		goto unmap_pads;
	if (index >= 0)
		q->blkioq = dev_queue(dev, (unsigned)index);
	else if ((ret = dev_add_queue(dev, &q->blkioq, err)) < 0)
		goto unmap_bounce;
	drain_add(&dev->drain, &q->door, loop);
	flush_add(&dev->flush, &q->writer);
	*queuep = q;
	return 0;

unmap_bounce:
	slots_unmap(q, &q->bounce);
unmap_pads:
	slots_unmap(q, &q->pads);
fini_slots:
	slots_fini(&q->pads);
	slots_fini(&q->bounce);
	free(q);
	return ret;
}

void
queue_attach(struct queue *q)
{
	loop_watch(q->loop, &q->watch, blkioq_get_completion_fd(q->blkioq), queue_readable);
	loop_poller_add(q->loop, &q->poller);
}

void
queue_co_detach(struct queue *q)
{
	invariant(q->inflight == 0);
	drain_shut(&q->door);
	/* Main, which destroys the queue, may not take that back. */
	if (blkioq_ext_let_go)
		blkioq_ext_let_go(q->blkioq);
	loop_poller_remove(&q->poller);
	loop_co_unwatch(&q->watch);
	loop_hook_disarm(&q->turn);
	loop_timer_disarm(&q->retry);
}

void
queue_free(struct queue *q)
{
	if (!q)
		return;
	flush_remove(&q->dev->flush, &q->writer);
	drain_remove(&q->dev->drain, &q->door);
	slots_unmap(q, &q->bounce);
	slots_unmap(q, &q->pads);
	slots_fini(&q->pads);
	slots_fini(&q->bounce);
	free(q);
}

struct dev *
queue_dev(const struct queue *q)
{
	return q->dev;
}

struct blkioq *
queue_blkioq(const struct queue *q)
{
	return q->blkioq;
}

unsigned
queue_inflight(const struct queue *q)
{
	return q->inflight;
}

struct loop *
queue_loop(const struct queue *q)
{
	return q->loop;
}

void
queue_count(struct queue *q, enum queue_counter counter, uint64_t n)
{
	__atomic_store_n(&q->counters[counter], q->counters[counter] + n, __ATOMIC_RELAXED);
}

uint64_t
queue_counter(const struct queue *q, enum queue_counter counter)
{
	return __atomic_load_n(&q->counters[counter], __ATOMIC_RELAXED);
}

void
queue_changed(struct queue *q)
{
	flush_changed(&q->writer);
}

struct drain_door *
queue_door(struct queue *q)
{
	return &q->door;
}

void
queue_set_memory(struct queue *q, const struct buf_region *region)
{
	q->memory = *region;
}

static bool
within(const struct iovec *iov, const void *mem, size_t len)
{
	uintptr_t off = (uintptr_t)iov->iov_base - (uintptr_t)mem;

	return range_ok(off, iov->iov_len, len);
}

bool
queue_has_memory(const struct queue *q, const struct iovec *iov)
{
	return within(iov, q->memory.addr, q->memory.len_bytes) ||
	       within(iov, q->pads.mem, q->pads.n * q->pads.slot_bytes) ||
	       within(iov, q->bounce.mem, q->bounce.n * q->bounce.slot_bytes);
}

struct status_memory *
queue_status_memory(struct queue *q)
{
	return &q->status;
}

struct slots *
queue_pads(struct queue *q)
{
	return &q->pads;
}

struct slots *
queue_bounce(struct queue *q)
{
	return &q->bounce;
}
