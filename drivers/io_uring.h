/* SPDX-License-Identifier: MIT */
/*
 * io_uring.h - what the parts of the driver "io_uring" share: its device, its
 * queue, its request.
 *
 * io_uring.c         the device: properties, opening, closing
 * io_uring_queue.c   queues: transfers, flushes, running, completions
 * io_uring_zeroes.c  discard and write zeroes, which take several steps
 * io_uring_status.c  where a file has data
 *
 * 1. in_flight counts requests that have a submission entry, submitted or not;
 *    it never exceeds the completion ring. What does not fit waits on the
 *    backlog, in order; what has to go on waits on "again", which goes first.
 * 2. A request is in exactly one place: the kernel, again, backlog, done.
 */
#ifndef DRIVERS_IO_URING_H
#define DRIVERS_IO_URING_H

#include "driver.h"
#include "fixed.h"
#include "target.h"
#include "uring.h"

struct io_uring_dev {
	struct blkio b;
	char *path;
	int fd; /* as set, then that of the target */
	bool adopted; /* the fd was set: others may share its file offset */
	bool direct;
	bool strict_eof;
	bool single_issuer;
	int num_entries;
	struct target target;
	bool fd_taken; /* by a queue: the others need descriptions of their own */

	/* The end of a file that goes through the page cache; see io_uring.c. */
	bool buffered_tail; /* is wanted */
	uint64_t tail_start; /* UINT64_MAX: there is none */
	uint64_t tail_end;   /* the capacity at connect */
	int tail_fd;

	/* What the target has refused so far; any queue may learn it. */
	atomic_bool no_punch_hole, no_zero_range, no_discard_cmd;
	/* Of a block device, when somebody looked last. */
	_Atomic uint64_t capacity_seen;
};

/* What a request is; in request.op. */
enum op {
	OP_READ,
	OP_WRITE,
	/* Not on poll queues: */
	OP_FLUSH,
	OP_DISCARD,
	OP_ZEROES,
};

/* In request.flags, beside BLKIO_REQ_*. */
#define REQ_VECTOR 0x80
#define REQ_SYNC 0x40 /* a write with FUA: it is written, now the sync */

/* A request; one cache line. */
struct io_request {
	struct request r;
	uint64_t start; /* of what is left */
	union {
		/* OP_READ, OP_WRITE */
		struct {
			union {
				void *buf;
				const struct iovec *iov; /* REQ_VECTOR */
			};
			uint64_t len;    /* left; REQ_VECTOR: done of iov[0] */
			uint32_t iovcnt; /* REQ_VECTOR: left */
			uint32_t moved;  /* so far; UINT32_MAX: that or more */
		};
		/* OP_DISCARD, OP_ZEROES */
		struct {
			uint64_t range_len; /* from start, all of it */
			uint64_t done;      /* of the phase, by writing */
			uint16_t way;       /* enum way */
			uint16_t phase;     /* enum phase */
		};
	};
};
_Static_assert(sizeof(struct io_request) == 64, "a request is one cache line");

struct io_queue {
	struct blkioq q;
	struct uring ring;
	unsigned in_flight;
	int fd; /* its own open file description, or -1: the device's */
	bool fd_shared; /* fd is another descriptor of the device's description */
	int seek_fd; /* whose file offset may be moved: fd, the device's, its own; or -1 */
	int sqe_fd, sqe_tail_fd;
	uint8_t sqe_flags;
	bool read_only;
	bool use_fixed;
	bool fua_in_write; /* RWF_DSYNC; else a sync of the range follows */
	bool closing; /* nothing is tried again */
	uint64_t tail_start; /* the device's */
	struct fifo again, backlog;
	struct io_uring_dev *dev;
	struct fixed_table fixed;
};

static inline struct io_queue *
io_queue(struct blkioq *q)
{
	return container_of(q, struct io_queue, q);
}

static inline struct io_request *
io_request(struct request *r)
{
	return container_of(r, struct io_request, r);
}

/* --- io_uring.c --------------------------------------------------------------- */

/*
 * Fails a request that a file with a tail does not take: across its start,
 * beyond the end, or in the tail on a poll queue. True if it did.
 */
bool io_tail_refused(struct io_queue *q, uint64_t start, uint64_t len, void *user_data);

/* --- io_uring_queue.c -------------------------------------------------------- */

/* See struct driver. */
int io_queue_open(struct blkio *b, bool poll, struct blkioq **qp);

/* A new request, complete but for its turn, goes to the ring or the backlog. */
void io_queue_begin(struct io_queue *q, struct io_request *req);

/* A step of REQ failed with RET: it is tried again, or finished. */
void io_queue_failed(struct io_queue *q, struct io_request *req, int ret);

/*
 * The sync of REQ ended with RES. It fails with -EIO, whatever the reason: the
 * kernel's report may be about the data of others, and is gone with this.
 */
void io_queue_sync_done(struct io_queue *q, struct io_request *req, int res);

/* Fails what a poll queue cannot do; true if it did. */
bool io_queue_refused_on_poll(struct blkioq *q, void *user_data);

/* REQ has more to do: its next step is submitted with the next entry. */
static inline void
io_queue_go_on(struct io_queue *q, struct io_request *req)
{
	fifo_push(&q->again, &req->r);
}

/* A request from the pool; the caller fills in what the operation needs. */
static inline struct io_request *
io_request_new(struct io_queue *q, enum op op, uint32_t flags, uint64_t start, void *user_data)
{
	struct io_request *req = io_request(queue_take(&q->q, user_data));

	req->r.op = (uint8_t)op;
	req->r.flags = (uint8_t)flags;
	req->r.tries = 0;
	req->start = start;
	return req;
}

/* What all submission entries have. */
static inline void
sqe_prep(const struct io_queue *q, struct io_uring_sqe *sqe, uint8_t opcode, uint64_t off,
	 const void *addr, uint32_t len)
{
	sqe->opcode = opcode;
	sqe->flags = q->sqe_flags;
	sqe->fd = q->sqe_fd;
	sqe->off = off;
	sqe->addr = (uint64_t)(uintptr_t)addr;
	sqe->len = len;
}

/* The same for a transfer, which in the tail has a descriptor of its own. */
static inline void
sqe_prep_transfer(const struct io_queue *q, struct io_uring_sqe *sqe, uint8_t opcode,
		  uint64_t off, const void *addr, uint32_t len)
{
	sqe_prep(q, sqe, opcode, off, addr, len);
	if (unlikely(off >= q->tail_start))
		sqe->fd = q->sqe_tail_fd;
}

static inline void
sqe_prep_sync(const struct io_queue *q, struct io_uring_sqe *sqe)
{
	sqe_prep(q, sqe, IORING_OP_FSYNC, 0, NULL, 0);
	sqe->fsync_flags = IORING_FSYNC_DATASYNC;
}

#define MSG_RANGE "invalid len or start offset"
#define MSG_READ_ONLY "device is read-only"

/* --- io_uring_zeroes.c ------------------------------------------------------- */

/* To be called before queues are made: 0, or -ENOMEM with message. */
int io_zeroes_init(void);

/* Requests; see struct queue_ops. */
void io_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data);
void io_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		     uint32_t flags);

/* Fill SQE with the next step of REQ. */
void io_discard_prep(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req);
void io_zeroes_prep(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req);

/* A step of REQ has ended with RES. */
void io_discard_done(struct io_queue *q, struct io_request *req, int res);
void io_zeroes_done(struct io_queue *q, struct io_request *req, int res);

/* --- io_uring_status.c ------------------------------------------------------- */

/* A descriptor for io_status() on Q, whose own ones are set; or -1. */
int io_seek_fd(const struct io_queue *q);

/* See struct queue_ops. */
int io_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent);

#endif
