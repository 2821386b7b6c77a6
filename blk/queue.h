/* SPDX-License-Identifier: MIT */
/*
 * queue.h - one worker's channel to one device.
 *
 * 1. A queue belongs to one loop. Requests of one turn reach the driver
 *    together, at the end of the turn; nobody has to plug.
 * 2. A struct queue_io, the iovec array and the buffers belong to the driver
 *    from queue_*() until queue_co_wait() has returned: exactly one completion
 *    each. They usually live on the waiting coroutine's stack.
 * 3. A request is never cancelled.
 * 4. Offsets and lengths were checked above: a driver may
 *    refuse them all the same, and then the refusal is the result.
 * 5. A sync is a flush, or a request with FUA. The kernel reports a failed
 *    writeback once per open file, to whichever sync comes first; another that
 *    runs at the same time may be told success about the same data. So a sync
 *    that fails latches dev_flush_fail() when its completion is seen, and one
 *    that succeeds is completed only after every sync that was in flight then.
 *    Between queues it takes a driver whose queues have open files of their
 *    own, as io_uring's do.
 */
#ifndef BLK_QUEUE_H
#define BLK_QUEUE_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "dev.h"
#include "err.h"
#include "loop.h"
#include "status.h"

struct queue;

struct slots;

/* What a queue counts besides its requests. */
enum queue_counter {
	QUEUE_WAITED,	       /* requests that waited for an overlapping one */
	QUEUE_RMW_HEADS,       /* blocks read because a write began inside them */
	QUEUE_RMW_TAILS,       /* ... or ended */
	QUEUE_FRAGMENTS,       /* pieces of transfers that took more than one */
	QUEUE_BOUNCE_BYTES,    /* copied for the driver's sake */
	QUEUE_FLUSHES_SKIPPED, /* nothing had changed since the last one */
	QUEUE_FLUSHES_JOINED,  /* somebody else's covered it */
	QUEUE_COUNTERS,
};

struct queue_io {
	int ret; /* 0 or -errno once it is complete */
	bool done;
	bool is_flush;
	struct co *co; /* in queue_co_wait(), or NULL */
	/* Of a sync, invariant 5. */
	struct list link;
	uint64_t seq;	  /* its place among the queue's syncs; 0: it is none */
	uint64_t barrier; /* held until all syncs up to this one have completed */
};

/*
 * Makes the channel of LOOP to DEV over queue INDEX of those made at open, or
 * over one more when INDEX is negative. Context: main before the worker runs,
 * or the worker. Errors: -ENOMEM, the driver's.
 */
int queue_new(struct queue **queuep, struct dev *dev, int index, struct loop *loop,
	      struct err *err);

/* Starts watching for completions. Context: the loop's thread, once. */
void queue_attach(struct queue *q) loop_fn;
/* Ends it. Invariant: nothing in flight. */
void queue_co_detach(struct queue *q) co_fn;

/* NULL is fine. The device's own queue goes with the device, which is still open. */
void queue_free(struct queue *q);

struct dev *queue_dev(const struct queue *q);
struct loop *queue_loop(const struct queue *q);
/* For calls that are no requests. The queue's own loop. */
struct blkioq *queue_blkioq(const struct queue *q);
/* Requests at the driver. */
unsigned queue_inflight(const struct queue *q);

/* Counts N more; the count so far, from any thread. */
void queue_count(struct queue *q, enum queue_counter counter, uint64_t n) loop_fn;
uint64_t queue_counter(const struct queue *q, enum queue_counter counter);

/* Each change that completed, in whatever way. */
void queue_changed(struct queue *q) loop_fn;
/* Each request, from entry to return. */
struct drain_door *queue_door(struct queue *q);

/* Memory of the worker, mapped into a driver that needs_regions. Before the first request. */
void queue_set_memory(struct queue *q, const struct buf_region *region);
bool queue_has_memory(const struct queue *q, const struct iovec *iov);
/* What status.c remembers. */
struct status_memory *queue_status_memory(struct queue *q);
/* Slots of two blocks each, and of BOUNCE_BYTES; see pad.h and transfer.h. */
struct slots *queue_pads(struct queue *q);
struct slots *queue_bounce(struct queue *q);

/* FLAGS are BLKIO_REQ_*. None of these yields or fails; see queue_co_wait(). */
void queue_readv(struct queue *q, struct queue_io *io, uint64_t off, const struct iovec *iov,
		 int iovcnt) loop_fn;
void queue_writev(struct queue *q, struct queue_io *io, uint64_t off, const struct iovec *iov,
		  int iovcnt, uint32_t flags) loop_fn;
void queue_write_zeroes(struct queue *q, struct queue_io *io, uint64_t off, uint64_t len,
			uint32_t flags) loop_fn;
void queue_discard(struct queue *q, struct queue_io *io, uint64_t off, uint64_t len) loop_fn;
void queue_flush(struct queue *q, struct queue_io *io) loop_fn;

/* Waits for IO; its result. */
int queue_co_wait(struct queue *q, struct queue_io *io) co_fn;

#endif
