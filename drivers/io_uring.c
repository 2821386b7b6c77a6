/* SPDX-License-Identifier: MIT */
/*
 * io_uring.c - the driver "io_uring": regular files and block devices through
 * the kernel.
 *
 * The path of a read: blkioq_read() calls queue_read(), which takes a request
 * from the pool and fills the next submission entry. Nothing else happens
 * before blkioq_do_io(): queue_run() enters the kernel once, to submit and to
 * wait; reap() takes the completions and, for each, complete() decides: done,
 * or again with what is left of it.
 *
 * The failures: a short transfer goes on where it stopped; at the end of a
 * file the rest is zeroes (or -EIO with "x-strict-eof"); EAGAIN and EINTR are
 * tried again, TRIES_MAX times; everything else is the client's to see.
 *
 * Write zeroes is a little state machine, see zeroes_next(): the body by
 * fallocate, the parts of blocks before and behind it by writing, then a flush
 * for FUA. What the file or device refuses is remembered in the device and
 * done in the next best way, ending with plain writes of zeroes.
 *
 * 1. in_flight counts requests that have an entry, submitted or not; it never
 *    exceeds the completion ring. What does not fit waits on the backlog, in
 *    order; what has to go on waits on "again", which goes first.
 * 2. A request is in exactly one place: the kernel, again, backlog, done.
 * 3. While queue_run() is in the kernel the ring does not signal the
 *    completion fd: what arrives there is returned, or owed (q->event_owed).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/range.h"
#include "driver.h"
#include "fixed.h"
#include "target.h"
#include "uring.h"

/* How often a request that gets nowhere is tried again after EAGAIN or EINTR. */
#define TRIES_MAX 64

/* Zeroes are written from one region of this size. */
#define ZERO_REGION_BYTES (1U << 20)

/* One transfer of the kernel is shorter than 2 GiB; so are our own. */
#define PIECE_MAX (1U << 30)

/* Discard of a block device as a command, Linux 6.12: start and length. */
#define BLOCK_CMD_DISCARD _IO(0x12, 0)

/* The kernel takes no larger ring. */
#define NUM_ENTRIES_DEFAULT 128

struct io_uring_dev {
	struct blkio b;
	char *path;
	int fd; /* as set, then that of the target */
	bool direct;
	bool strict_eof;
	bool single_issuer;
	int num_entries;
	struct target target;

	/* What the target has refused so far; any queue may learn it. */
	atomic_bool no_punch_hole, no_zero_range, no_discard_cmd;
	/* Of a block device, when somebody looked last. */
	_Atomic uint64_t capacity_seen;
};

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

/* How a discard, or the body of write zeroes, is being done. */
enum way {
	WAY_COMMAND,
	WAY_PUNCH_HOLE,
	WAY_ZERO_RANGE,
	WAY_WRITE,
};

enum phase { PHASE_BODY, PHASE_HEAD, PHASE_TAIL, PHASE_SYNC };

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
		};
		/* OP_DISCARD, OP_ZEROES */
		struct {
			uint64_t range_len; /* from start, all of it */
			uint64_t done;      /* of the phase, by writing */
			uint16_t way;       /* of the body */
			uint16_t phase;
		};
	};
};
_Static_assert(sizeof(struct io_request) == 64, "a request is one cache line");

struct io_queue {
	struct blkioq q;
	struct uring ring;
	unsigned in_flight;
	int sqe_fd;
	uint8_t sqe_flags;
	bool read_only;
	bool use_fixed;
	bool closing; /* nothing is tried again */
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

/* --- Zeroes in memory ------------------------------------------------------ */

static const void *zero_region;

static void
zero_region_make(void)
{
	void *p = mmap(NULL, ZERO_REGION_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		zero_region = p;
}

/* Memory of ZERO_REGION_BYTES zeroes that nobody can write; NULL without memory. */
static const void *
zero_region_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, zero_region_make);
	return zero_region;
}

/* --- Filling a submission entry -------------------------------------------- */

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

/* A transfer with one buffer; through registered memory where that helps. */
static inline void
sqe_prep_buf(struct io_queue *q, struct io_uring_sqe *sqe, bool write, uint64_t off,
	     const void *buf, uint32_t len)
{
	int slot;

	sqe_prep(q, sqe, write ? IORING_OP_WRITE : IORING_OP_READ, off, buf, len);
	if (!q->use_fixed)
		return;
	slot = fixed_find(&q->fixed, buf, len);
	if (slot >= 0) {
		sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		sqe->buf_index = (uint16_t)slot;
	}
}

static void
sqe_prep_fallocate(const struct io_queue *q, struct io_uring_sqe *sqe, int mode, uint64_t off,
		   uint64_t len)
{
	/* The length travels in addr, the mode in len. */
	sqe_prep(q, sqe, IORING_OP_FALLOCATE, off, NULL, (uint32_t)mode);
	sqe->addr = len;
}

static void
sqe_prep_sync(const struct io_queue *q, struct io_uring_sqe *sqe)
{
	sqe_prep(q, sqe, IORING_OP_FSYNC, 0, NULL, 0);
	sqe->fsync_flags = IORING_FSYNC_DATASYNC;
}

/* What is left of a transfer with several buffers. */
static inline void
sqe_prep_vector(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req)
{
	bool write = req->r.op == OP_WRITE;
	uint64_t rest;

	if (likely(!req->len)) {
		sqe_prep(q, sqe, write ? IORING_OP_WRITEV : IORING_OP_READV, req->start, req->iov,
			 req->iovcnt);
		return;
	}
	/* The client's array is const: finish a buffer that was begun on its own. */
	rest = MIN(req->iov->iov_len - req->len, (uint64_t)PIECE_MAX);
	sqe_prep_buf(q, sqe, write, req->start, (char *)req->iov->iov_base + req->len,
		     (uint32_t)rest);
}

static void zeroes_prep(struct io_queue *q, struct io_uring_sqe *sqe, struct io_request *req);

static void
discard_prep(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req)
{
	if (req->way == WAY_COMMAND) {
		sqe_prep(q, sqe, IORING_OP_URING_CMD, BLOCK_CMD_DISCARD, NULL, 0);
		sqe->addr = req->start;
		sqe->addr3 = req->range_len;
	} else {
		sqe_prep_fallocate(q, sqe, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, req->start,
				   req->range_len);
	}
}

/* Fills SQE with the next step of REQ. */
static inline void
sqe_fill(struct io_queue *q, struct io_uring_sqe *sqe, struct io_request *req)
{
	switch (req->r.op) {
	case OP_READ:
	case OP_WRITE:
		if (req->r.flags & REQ_VECTOR)
			sqe_prep_vector(q, sqe, req);
		else
			sqe_prep_buf(q, sqe, req->r.op == OP_WRITE, req->start, req->buf,
				     (uint32_t)req->len);
		if (req->r.flags & BLKIO_REQ_FUA)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case OP_FLUSH:
		sqe_prep_sync(q, sqe);
		break;
	case OP_DISCARD:
		discard_prep(q, sqe, req);
		break;
	case OP_ZEROES:
		zeroes_prep(q, sqe, req);
		break;
	}
	sqe->user_data = (uint64_t)(uintptr_t)req;
}

/* Gives REQ an entry, or false when there is no room. */
static inline bool
enqueue(struct io_queue *q, struct io_request *req)
{
	struct io_uring_sqe *sqe;

	if (unlikely(q->in_flight == q->ring.cq_entries))
		return false;
	sqe = uring_sqe(&q->ring);
	if (unlikely(!sqe))
		return false;
	sqe_fill(q, sqe, req);
	q->in_flight++;
	return true;
}

/* A new request goes to the ring, or behind those that wait already. */
static inline void
begin(struct io_queue *q, struct io_request *req)
{
	if (unlikely(q->backlog.first) || unlikely(!enqueue(q, req)))
		fifo_push(&q->backlog, &req->r);
}

/* --- Requests: reading, writing, flushing ---------------------------------- */

static const char *const msg_range = "invalid len or start offset";
static const char *const msg_read_only = "device is read-only";

static inline struct io_request *
request_new(struct io_queue *q, enum op op, uint32_t flags, uint64_t start, void *user_data)
{
	struct io_request *req = io_request(queue_take(&q->q, user_data));

	req->r.op = (uint8_t)op;
	req->r.flags = (uint8_t)flags;
	req->r.tries = 0;
	req->start = start;
	return req;
}

/* A transfer with one buffer. */
static inline void
transfer(struct io_queue *q, enum op op, uint64_t start, void *buf, uint64_t len,
	 void *user_data, uint32_t flags)
{
	struct io_request *req;

	if (unlikely(!range_ok(start, len, INT64_MAX))) {
		queue_fail(&q->q, user_data, EINVAL, msg_range);
		return;
	}
	if (unlikely(!len)) {
		queue_pass(&q->q, user_data);
		return;
	}
	req = request_new(q, op, flags, start, user_data);
	req->buf = buf;
	req->len = len;
	begin(q, req);
}

/* A transfer with several; one alone is a plain one. */
static inline void
transfer_vector(struct io_queue *q, enum op op, uint64_t start, const struct iovec *iov,
		int iovcnt, void *user_data, uint32_t flags)
{
	struct io_request *req;

	if (iovcnt <= 1 && (!iovcnt || iov->iov_len <= UINT32_MAX)) {
		transfer(q, op, start, iovcnt ? iov->iov_base : NULL, iovcnt ? iov->iov_len : 0,
			 user_data, flags);
		return;
	}
	if (unlikely(start > INT64_MAX)) {
		queue_fail(&q->q, user_data, EINVAL, msg_range);
		return;
	}
	if (unlikely(iovcnt > q->dev->b.limits.max_segments)) {
		queue_fail(&q->q, user_data, EINVAL,
			   "iovcnt must not exceed property \"max-segments\"");
		return;
	}
	req = request_new(q, op, flags | REQ_VECTOR, start, user_data);
	req->iov = iov;
	req->iovcnt = (uint32_t)iovcnt;
	req->len = 0;
	begin(q, req);
}

static void
queue_read(struct blkioq *q, uint64_t start, void *buf, uint32_t len, void *user_data)
{
	transfer(io_queue(q), OP_READ, start, buf, len, user_data, 0);
}

static void
queue_readv(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
	    void *user_data)
{
	transfer_vector(io_queue(q), OP_READ, start, iov, iovcnt, user_data, 0);
}

static void
queue_write(struct blkioq *q, uint64_t start, const void *buf, uint32_t len, void *user_data,
	    uint32_t flags)
{
	if (unlikely(io_queue(q)->read_only)) {
		queue_fail(q, user_data, EBADF, msg_read_only);
		return;
	}
	transfer(io_queue(q), OP_WRITE, start, (void *)(uintptr_t)buf, len, user_data, flags);
}

static void
queue_writev(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
	     void *user_data, uint32_t flags)
{
	if (unlikely(io_queue(q)->read_only)) {
		queue_fail(q, user_data, EBADF, msg_read_only);
		return;
	}
	transfer_vector(io_queue(q), OP_WRITE, start, iov, iovcnt, user_data, flags);
}

/* Fails what a poll queue cannot do. */
static bool
refused_on_poll_queue(struct blkioq *q, void *user_data)
{
	if (q->poll)
		queue_fail(q, user_data, EOPNOTSUPP,
			   "request not supported on poll queues for this driver");
	return q->poll;
}

static void
queue_flush(struct blkioq *q, void *user_data)
{
	if (refused_on_poll_queue(q, user_data))
		return;
	begin(io_queue(q), request_new(io_queue(q), OP_FLUSH, 0, 0, user_data));
}

/* --- Requests: discard and write zeroes ------------------------------------ */

/* Whether [start, start + len) lies inside a block device; files may grow. */
static bool
inside_device(struct io_uring_dev *dev, uint64_t start, uint64_t len)
{
	uint64_t capacity;

	if (!dev->target.block || range_ok(start, len, atomic_load(&dev->capacity_seen)))
		return true;
	/* It may have grown; asking needs no I/O. */
	if (target_capacity(&dev->target, &capacity))
		return false;
	atomic_store(&dev->capacity_seen, capacity);
	return range_ok(start, len, capacity);
}

/* Common checks of both; true when the request has failed. */
static bool
range_refused(struct blkioq *q, uint64_t start, uint64_t len, void *user_data)
{
	struct io_queue *ioq = io_queue(q);

	if (refused_on_poll_queue(q, user_data))
		return true;
	if (ioq->read_only)
		queue_fail(q, user_data, EBADF, msg_read_only);
	else if (!len)
		queue_fail(q, user_data, EINVAL, "len must be positive");
	else if (!range_ok(start, len, INT64_MAX) || !inside_device(ioq->dev, start, len))
		queue_fail(q, user_data, EINVAL, msg_range);
	else
		return false;
	return true;
}

static void
queue_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data)
{
	struct io_queue *ioq = io_queue(q);
	const struct target *t = &ioq->dev->target;
	struct io_request *req;
	uint64_t end;

	if (range_refused(q, start, len, user_data))
		return;
	if (t->block && !t->hw_discard_max) {
		queue_fail(q, user_data, EOPNOTSUPP, "discard not supported");
		return;
	}
	/* A hint: parts of blocks are kept. */
	end = align_down(start + len, t->block_size);
	start = align_up(start, t->block_size);
	if (start >= end) {
		queue_pass(q, user_data);
		return;
	}
	req = request_new(ioq, OP_DISCARD, 0, start, user_data);
	req->range_len = end - start;
	req->way = t->block && !atomic_load(&ioq->dev->no_discard_cmd) ? WAY_COMMAND :
									  WAY_PUNCH_HOLE;
	begin(ioq, req);
}

/*
 * The bytes of a phase of write zeroes. BODY is what fallocate can do: whole
 * blocks. HEAD and TAIL are the rest of the blocks at both ends; all in HEAD
 * when that is one block. On files blocks have one byte.
 */
static uint64_t
zeroes_range(const struct io_queue *q, const struct io_request *req, enum phase phase,
	     uint64_t *start)
{
	unsigned block = q->dev->target.block_size;
	uint64_t end = req->start + req->range_len;
	uint64_t body = align_up(req->start, block), body_end = align_down(end, block);

	switch (phase) {
	case PHASE_BODY:
		*start = body;
		return body < body_end ? body_end - body : 0;
	case PHASE_HEAD:
		*start = req->start;
		return MIN(body, end) - req->start;
	case PHASE_TAIL:
		*start = MAX(body_end, MIN(body, end));
		return end - *start;
	case PHASE_SYNC:
		break;
	}
	*start = 0;
	return req->r.flags & BLKIO_REQ_FUA ? 1 : 0;
}

/* The best way that is left for the body, or false when none is allowed. */
static bool
zeroes_way(struct io_queue *q, struct io_request *req)
{
	struct io_uring_dev *dev = q->dev;

	if (!(req->r.flags & BLKIO_REQ_NO_UNMAP) && !atomic_load(&dev->no_punch_hole)) {
		req->way = WAY_PUNCH_HOLE;
		return true;
	}
	/*
	 * On a block device the kernel writes zeroes by itself when the device
	 * cannot make them, so a client that wants no fallback must not ask.
	 */
	if (!atomic_load(&dev->no_zero_range) &&
	    !(dev->target.block && !dev->target.hw_write_zeroes_max &&
	      (req->r.flags & BLKIO_REQ_NO_FALLBACK))) {
		req->way = WAY_ZERO_RANGE;
		return true;
	}
	req->way = WAY_WRITE;
	return !(req->r.flags & BLKIO_REQ_NO_FALLBACK) && zero_region_get();
}

/*
 * Goes to the first phase from PHASE on that has something to do; false when
 * all is done. The body comes first: if it is refused (no fallback), nothing
 * has been changed.
 */
static bool
zeroes_next(struct io_queue *q, struct io_request *req, enum phase phase)
{
	uint64_t start;

	req->done = 0;
	for (; phase <= PHASE_SYNC; phase++) {
		if (zeroes_range(q, req, phase, &start)) {
			req->phase = (uint16_t)phase;
			return true;
		}
	}
	return false;
}

/* Whether the phase is one of writing, and how many bytes the next write has. */
static uint32_t
zeroes_piece(const struct io_queue *q, const struct io_request *req, uint64_t *start)
{
	uint64_t len;

	if (req->phase == PHASE_SYNC || (req->phase == PHASE_BODY && req->way != WAY_WRITE))
		return 0;
	len = zeroes_range(q, req, req->phase, start) - req->done;
	*start += req->done;
	return (uint32_t)MIN(len, (uint64_t)ZERO_REGION_BYTES);
}

static void
zeroes_prep(struct io_queue *q, struct io_uring_sqe *sqe, struct io_request *req)
{
	uint64_t start, len;
	uint32_t piece = zeroes_piece(q, req, &start);
	int mode;

	if (piece) {
		sqe_prep(q, sqe, IORING_OP_WRITE, start, zero_region, piece);
		return;
	}
	if (req->phase == PHASE_SYNC) {
		sqe_prep_sync(q, sqe);
		return;
	}
	len = zeroes_range(q, req, PHASE_BODY, &start);
	if (req->way == WAY_PUNCH_HOLE)
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	else
		mode = FALLOC_FL_ZERO_RANGE | (q->dev->target.block ? FALLOC_FL_KEEP_SIZE : 0);
	sqe_prep_fallocate(q, sqe, mode, start, len);
}

static void
queue_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		   uint32_t flags)
{
	struct io_queue *ioq = io_queue(q);
	const struct target *t = &ioq->dev->target;
	struct io_request *req;

	if (range_refused(q, start, len, user_data))
		return;
	if (t->block && t->direct && !is_aligned(start | len, t->block_size)) {
		queue_fail(q, user_data, EINVAL,
			   "start and len must be multiples of property \"request-alignment\"");
		return;
	}
	if (t->block && !t->hw_write_zeroes_max && (flags & BLKIO_REQ_NO_FALLBACK)) {
		queue_fail(q, user_data, EOPNOTSUPP, "the block device does not support write "
						     "zeroes with BLKIO_REQ_NO_FALLBACK");
		return;
	}
	/* The ends of blocks are written, whatever happens to the body. */
	if (t->block && !is_aligned(start | len, t->block_size) && !zero_region_get()) {
		queue_fail(q, user_data, ENOMEM, NULL);
		return;
	}
	req = request_new(ioq, OP_ZEROES, flags, start, user_data);
	req->range_len = len;
	zeroes_next(ioq, req, PHASE_BODY);
	if (!zeroes_way(ioq, req))
		queue_finish(q, &req->r, -EOPNOTSUPP, "write zeroes not supported");
	else
		begin(ioq, req);
}

/* --- Completions ----------------------------------------------------------- */

static void
go_on(struct io_queue *q, struct io_request *req)
{
	fifo_push(&q->again, &req->r);
}

/* A step of REQ failed with -ERR. */
static void
failed(struct io_queue *q, struct io_request *req, int ret)
{
	if ((ret == -EAGAIN || ret == -EINTR) && req->r.tries < TRIES_MAX && !q->closing) {
		req->r.tries++;
		go_on(q, req);
		return;
	}
	queue_finish(&q->q, &req->r, ret, NULL);
}

/* Moves REQ on by N bytes and over empty buffers; false when none is left. */
static bool
transfer_advance(struct io_request *req, uint64_t n)
{
	req->start += n;
	if (!(req->r.flags & REQ_VECTOR)) {
		req->buf = (char *)req->buf + n;
		req->len -= n;
		return req->len;
	}
	req->len += n;
	while (req->iovcnt && req->len >= req->iov->iov_len) {
		req->len -= req->iov->iov_len;
		req->iov++;
		req->iovcnt--;
	}
	return req->iovcnt;
}

static void
zero_rest(const struct io_request *req)
{
	if (!(req->r.flags & REQ_VECTOR)) {
		memset(req->buf, 0, req->len);
		return;
	}
	for (uint32_t i = 0; i < req->iovcnt; i++) {
		uint64_t skip = i ? 0 : req->len;

		memset((char *)req->iov[i].iov_base + skip, 0, req->iov[i].iov_len - skip);
	}
}

/* A transfer moved N bytes, not all of what it was asked for, or has buffers. */
static void
transfer_part_done(struct io_queue *q, struct io_request *req, uint32_t n)
{
	const struct target *t = &q->dev->target;

	if (!transfer_advance(req, n)) {
		queue_finish(&q->q, &req->r, 0, NULL);
		return;
	}
	/*
	 * Direct reads end in the middle of a block only at the end of the
	 * file; from there one could not even ask for more.
	 */
	if (n && !(req->r.op == OP_READ && t->direct && !t->block &&
		   !is_aligned(req->start, (unsigned)q->dev->b.limits.request_alignment))) {
		req->r.tries = 0;
		go_on(q, req);
		return;
	}
	if (req->r.op == OP_READ && !t->block && !q->dev->strict_eof) {
		zero_rest(req);
		queue_finish(&q->q, &req->r, 0, NULL);
		return;
	}
	queue_finish(&q->q, &req->r, -EIO,
		     req->r.op == OP_READ ? "end of the file or device" : NULL);
}

static void
discard_done(struct io_queue *q, struct io_request *req, int res)
{
	if (req->way == WAY_COMMAND && (res == -EOPNOTSUPP || res == -EINVAL || res == -ENOTTY)) {
		/* The range was checked: it is the command that is not known. */
		atomic_store(&q->dev->no_discard_cmd, true);
		req->way = WAY_PUNCH_HOLE;
		go_on(q, req);
		return;
	}
	if (res == -EOPNOTSUPP)
		queue_finish(&q->q, &req->r, res, "discard not supported");
	else if (res < 0)
		failed(q, req, res);
	else
		queue_finish(&q->q, &req->r, 0, NULL);
}

/* The body was refused in the way it was tried: remember that, try the next. */
static void
zeroes_refused(struct io_queue *q, struct io_request *req)
{
	if (req->way == WAY_PUNCH_HOLE)
		atomic_store(&q->dev->no_punch_hole, true);
	else
		atomic_store(&q->dev->no_zero_range, true);
	if (zeroes_way(q, req))
		go_on(q, req);
	else
		queue_finish(&q->q, &req->r, -EOPNOTSUPP, "write zeroes not supported");
}

static void
zeroes_step_done(struct io_queue *q, struct io_request *req, int res)
{
	uint64_t start;
	uint32_t piece = zeroes_piece(q, req, &start);

	if (res == -EOPNOTSUPP && req->phase == PHASE_BODY && req->way != WAY_WRITE) {
		zeroes_refused(q, req);
		return;
	}
	if (res < 0 || (piece && !res)) {
		failed(q, req, res ? res : -EIO);
		return;
	}
	req->r.tries = 0;
	if (piece) {
		req->done += (uint32_t)res;
		if (zeroes_piece(q, req, &start)) {
			go_on(q, req);
			return;
		}
	}
	if (zeroes_next(q, req, req->phase + 1))
		go_on(q, req);
	else
		queue_finish(&q->q, &req->r, 0, NULL);
}

/* The kernel is done with a step of REQ. */
static inline void
complete(struct io_queue *q, struct io_request *req, int res)
{
	q->in_flight--;
	switch (req->r.op) {
	case OP_READ:
	case OP_WRITE:
		if (likely(res >= 0 && !(req->r.flags & REQ_VECTOR) && (unsigned)res == req->len))
			queue_finish(&q->q, &req->r, 0, NULL);
		else if (res >= 0)
			transfer_part_done(q, req, (uint32_t)res);
		else
			failed(q, req, res);
		break;
	case OP_FLUSH:
		if (res < 0)
			failed(q, req, res);
		else
			queue_finish(&q->q, &req->r, 0, NULL);
		break;
	case OP_DISCARD:
		discard_done(q, req, res);
		break;
	case OP_ZEROES:
		zeroes_step_done(q, req, res);
		break;
	}
}

/* Takes all completions out of the ring; returns how many. */
static unsigned
reap(struct io_queue *q)
{
	const struct io_uring_cqe *cqe;
	unsigned n;

	for (n = 0; (cqe = uring_peek(&q->ring)); n++) {
		struct io_request *req = (struct io_request *)(uintptr_t)cqe->user_data;
		int res = cqe->res;

		uring_seen(&q->ring);
		complete(q, req, res);
	}
	return n;
}

/* --- Running --------------------------------------------------------------- */

/* Gives entries to what waits for one: unfinished requests, then new ones. */
static void
refill(struct io_queue *q)
{
	struct fifo *lists[] = { &q->again, &q->backlog };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		while (lists[i]->first && enqueue(q, io_request(lists[i]->first)))
			fifo_pop(lists[i]);
	}
}

/* For how many completions the next entry into the kernel waits. */
static unsigned
wait_for(const struct io_queue *q, unsigned missing, const struct wait *w)
{
	if (!missing || !(q->again.first || q->backlog.first))
		/* A signal during a wait must not hide behind what was submitted. */
		return w->interruptible && q->ring.to_submit ? 0 : MIN(missing, q->in_flight);
	if (q->in_flight < q->ring.cq_entries)
		return 0; /* more to submit at once */
	return MIN(missing, MAX(q->in_flight / 2, 1U));
}

/*
 * Enters the kernel with the completion fd muted (invariant 3), so that it
 * tells only of completions that nobody is there to take.
 */
static int
enter(struct io_queue *q, unsigned want, const struct timespec *timeout, const sigset_t *sigmask)
{
	bool mute = q->q.event_enabled;
	int ret;

	if (mute)
		uring_set_eventfd(&q->ring, false);
	ret = uring_enter(&q->ring, want, timeout, sigmask);
	if (mute) {
		uring_set_eventfd(&q->ring, true);
		/* Who posted while it was muted is seen by the look that follows. */
		atomic_thread_fence(memory_order_seq_cst);
	}
	return ret;
}

/* What a failing entry means for queue_run(): 0 to go on, or a negative errno. */
static int
enter_failed(struct io_queue *q, int ret, const struct wait *w, unsigned *stalls)
{
	const struct timespec nap = { .tv_nsec = 100 * 1000 };

	switch (ret) {
	case -ETIME:
		return 0; /* our own clock decides */
	case -EINTR:
		return w->interruptible ? error_os(EINTR, "%s", "") : 0;
	case -EAGAIN:
	case -EBUSY:
		/* UNTESTED: the kernel has no memory for requests. Let it get some. */
		if (++*stalls > 10000)
			return error_os(-ret, "%s", ": the kernel takes no requests");
		nanosleep(&nap, NULL);
		return 0;
	case -EEXIST:
		return error_os(EEXIST, "%s",
				": the queue belongs to another thread (x-single-issuer)");
	default:
		return error_os(-ret, "%s", ": io_uring_enter");
	}
}

static int
queue_run(struct blkioq *bq, unsigned want, struct wait *w)
{
	struct io_queue *q = io_queue(bq);
	struct timespec left, *timeout = NULL;
	bool entered = false;
	unsigned stalls = 0, missing, n;
	int ret = 0;

	for (;;) {
		n = reap(q);
		if (entered && n)
			bq->event_owed = bq->event_enabled;
		refill(q);

		missing = want > bq->ready ? want - bq->ready : 0;
		if (ret == -EINTR && !missing)
			return 0; /* the last look found enough */
		if (ret < 0)
			return ret;
		if (!q->ring.to_submit && !missing &&
		    (entered || !(uring_needs_enter(&q->ring) || (bq->poll && q->in_flight))))
			break;
		if (missing && w->limited) {
			left = wait_left(w);
			timeout = &left;
			if (entered && !q->ring.to_submit && !left.tv_sec && !left.tv_nsec)
				return error_os(ETIME, "%s", "");
		}
		n = wait_for(q, missing, w);
		ret = enter(q, bq->poll && timeout ? 0 : n, n ? timeout : NULL,
			    n ? w->sigmask : NULL);
		entered = true;
		ret = ret < 0 ? enter_failed(q, ret, w, &stalls) : 0;
	}
	/*
	 * A deferring ring signals when work arrives, not when it is done: what
	 * came while we were muted would not be told again.
	 */
	if (unlikely(entered && bq->event_enabled && uring_needs_enter(&q->ring)))
		queue_signal(bq);
	return 0;
}

static bool
queue_pending(struct blkioq *bq)
{
	struct io_queue *q = io_queue(bq);

	return uring_peek(&q->ring) || uring_needs_enter(&q->ring);
}

static void
queue_set_event(struct blkioq *bq, bool enable)
{
	uring_set_eventfd(&io_queue(bq)->ring, enable);
	/* Pairs with the kernel: post, then look whether to signal. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- Opening and closing a queue ------------------------------------------- */

/* Waits until the kernel has nothing of Q any more. */
static void
drain(struct io_queue *q)
{
	const struct timespec nap = { .tv_nsec = 1000 * 1000 };
	int patience = 5000;

	q->closing = true;
	/* Entries that were never submitted never will be. */
	q->in_flight -= q->ring.to_submit;
	q->ring.sq_tail -= q->ring.to_submit;
	q->ring.to_submit = 0;

	while (reap(q), q->in_flight) {
		int ret = uring_enter(&q->ring, 1, NULL, NULL);

		if (ret >= 0 || ret == -EINTR)
			continue;
		/*
		 * Only the issuer's thread could run completions, and it left
		 * some: what is done is not told us. Give it time to be done.
		 */
		if (!patience--)
			break;
		nanosleep(&nap, NULL);
	}
}

static void
queue_close(struct blkioq *bq)
{
	struct io_queue *q = io_queue(bq);

	drain(q);
	/*
	 * The kernel takes a ring apart some time after it is closed. File and
	 * memory should be let go of now; it is not our thread's to ask for on
	 * a ring with a single issuer, and then is done later.
	 */
	uring_register(&q->ring, IORING_UNREGISTER_FILES, NULL, 0);
	if (q->use_fixed)
		uring_register(&q->ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
	fixed_release(&q->fixed);
	uring_release(&q->ring);
	queue_release(bq);
	free(q);
}

static const struct queue_ops queue_ops = {
	.read = queue_read,
	.write = queue_write,
	.readv = queue_readv,
	.writev = queue_writev,
	.write_zeroes = queue_write_zeroes,
	.discard = queue_discard,
	.flush = queue_flush,
	.run = queue_run,
	.pending = queue_pending,
	.set_event = queue_set_event,
	.close = queue_close,
};

static int
queue_open(struct blkio *b, bool poll, struct blkioq **qp)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);
	const struct uring_options options = {
		.entries = (unsigned)dev->num_entries,
		.iopoll = poll,
		.single_issuer = dev->single_issuer,
	};
	struct io_queue *q;
	int ret;

	q = aligned_alloc(64, align_up(sizeof(*q), 64));
	if (!q)
		return error_os(ENOMEM, "%s", ": a queue");
	memset(q, 0, sizeof(*q));
	q->dev = dev;
	q->read_only = dev->target.read_only;

	ret = uring_init(&q->ring, &options);
	if (ret)
		goto free_queue;
	ret = queue_init(&q->q, b, &queue_ops, poll, sizeof(struct io_request),
			 q->ring.cq_entries);
	if (ret)
		goto release_ring;
	if (!poll) {
		uring_set_eventfd(&q->ring, false);
		ret = uring_register(&q->ring, IORING_REGISTER_EVENTFD, &q->q.event_fd, 1);
		if (ret < 0) {
			ret = error_os(-ret, "%s", ": cannot register the completion fd");
			goto release_queue;
		}
	}
	/* A registered file saves two atomic operations per request. */
	q->sqe_fd = dev->target.fd;
	if (uring_register(&q->ring, IORING_REGISTER_FILES, &dev->target.fd, 1) >= 0) {
		q->sqe_fd = 0;
		q->sqe_flags = IOSQE_FIXED_FILE;
	}
	q->use_fixed = b->limits.may_pin_mem_regions && fixed_init(&q->fixed, &q->ring, b);
	*qp = &q->q;
	return 0;

release_queue:
	queue_release(&q->q);
release_ring:
	uring_release(&q->ring);
free_queue:
	free(q);
	return ret;
}

/* --- Properties ------------------------------------------------------------ */

static int
get_capacity(struct blkio *b, struct prop_value *v)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	return target_capacity(&dev->target, &v->u64);
}

static int
set_num_entries(struct blkio *b, const struct prop_value *v)
{
	if (v->i <= 0)
		return error_set(EINVAL, "num-entries must be greater than 0");
	container_of(b, struct io_uring_dev, b)->num_entries = v->i;
	return 0;
}

#define DEV(name, type, set_in, field) \
	PROP_FIELD(name, type, PROP_ALWAYS, set_in, struct io_uring_dev, field)
#define LIMIT(name, type, get_in, field) \
	PROP_FIELD(name, type, get_in, 0, struct io_uring_dev, b.limits.field)
#define CHECKED(name, type, set_in, field, set) \
	PROP_CHECKED(name, type, PROP_ALWAYS, set_in, struct io_uring_dev, field, set)

static const struct prop props[] = {
	PROP_COMPUTED("driver", PROP_STR, PROP_ALWAYS, prop_get_driver),
	DEV("path", PROP_STR, CREATED, path),
	DEV("fd", PROP_INT, CREATED, fd),
	DEV("direct", PROP_BOOL, CREATED, direct),
	DEV("read-only", PROP_BOOL, CREATED, b.read_only),
	DEV("x-strict-eof", PROP_BOOL, CREATED | CONNECTED, strict_eof),
	DEV("x-pin-mem-regions", PROP_BOOL, CREATED | CONNECTED, b.limits.may_pin_mem_regions),
	DEV("x-single-issuer", PROP_BOOL, CONNECTED, single_issuer),
	CHECKED("num-entries", PROP_INT, CONNECTED, num_entries, set_num_entries),
	CHECKED("num-queues", PROP_INT, CONNECTED, b.num_queues, prop_set_num_queues),
	CHECKED("num-poll-queues", PROP_INT, CONNECTED, b.num_poll_queues,
		prop_set_num_poll_queues),

	LIMIT("can-add-queues", PROP_BOOL, PROP_ALWAYS, can_add_queues),
	LIMIT("can-grow", PROP_BOOL, PROP_ALWAYS, can_grow),
	LIMIT("flush-needed", PROP_BOOL, PROP_ALWAYS, flush_needed),
	LIMIT("max-mem-regions", PROP_U64, PROP_ALWAYS, max_mem_regions),
	LIMIT("max-queues", PROP_INT, PROP_ALWAYS, max_queues),
	LIMIT("may-pin-mem-regions", PROP_BOOL, PROP_ALWAYS, may_pin_mem_regions),
	LIMIT("needs-mem-region-fd", PROP_BOOL, PROP_ALWAYS, needs_mem_region_fd),
	LIMIT("needs-mem-regions", PROP_BOOL, PROP_ALWAYS, needs_mem_regions),
	LIMIT("supports-fua-natively", PROP_BOOL, PROP_ALWAYS, supports_fua_natively),
	LIMIT("supports-poll-queues", PROP_BOOL, PROP_ALWAYS, supports_poll_queues),

	PROP_COMPUTED("capacity", PROP_U64, PROP_KNOWN, get_capacity),
	LIMIT("buf-alignment", PROP_INT, PROP_KNOWN, buf_alignment),
	LIMIT("discard-alignment", PROP_INT, PROP_KNOWN, discard_alignment),
	LIMIT("discard-alignment-offset", PROP_INT, PROP_KNOWN, discard_alignment_offset),
	LIMIT("max-discard-len", PROP_U64, PROP_KNOWN, max_discard_len),
	LIMIT("max-segment-len", PROP_INT, PROP_KNOWN, max_segment_len),
	LIMIT("max-segments", PROP_INT, PROP_KNOWN, max_segments),
	LIMIT("max-transfer", PROP_INT, PROP_KNOWN, max_transfer),
	LIMIT("max-write-zeroes-len", PROP_U64, PROP_KNOWN, max_write_zeroes_len),
	LIMIT("mem-region-alignment", PROP_U64, PROP_KNOWN, mem_region_alignment),
	LIMIT("optimal-buf-alignment", PROP_INT, PROP_KNOWN, optimal_buf_alignment),
	LIMIT("optimal-io-alignment", PROP_INT, PROP_KNOWN, optimal_io_alignment),
	LIMIT("optimal-io-size", PROP_INT, PROP_KNOWN, optimal_io_size),
	LIMIT("request-alignment", PROP_INT, PROP_KNOWN, request_alignment),
	{ .name = NULL },
};

/* --- The device ------------------------------------------------------------ */

static void
dev_init(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	dev->fd = -1;
	dev->target.fd = -1;
	dev->num_entries = NUM_ENTRIES_DEFAULT;
	b->limits.can_add_queues = true;
	b->limits.flush_needed = true;
	b->limits.max_mem_regions = UINT64_MAX;
	b->limits.max_queues = INT_MAX;
}

static int
dev_connect(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);
	bool have_path = dev->path && *dev->path, have_fd = dev->fd >= 0;
	struct target t;
	uint64_t capacity;
	int ret;

	if (have_path && have_fd)
		return error_set(EINVAL, "path and fd cannot be set at the same time");
	if (!have_path && !have_fd)
		return error_set(EINVAL, "One of path and fd must be set");

	if (have_path)
		ret = target_open(&t, dev->path, b->read_only, dev->direct);
	else
		ret = target_adopt(&t, dev->fd);
	if (ret)
		return ret;
	ret = target_capacity(&t, &capacity);
	if (ret) {
		if (have_path)
			target_close(&t);
		return ret;
	}

	target_limits(&t, &b->limits);
	atomic_store(&dev->capacity_seen, capacity);
	dev->target = t;
	dev->fd = t.fd;
	dev->direct = t.direct;
	b->read_only = t.read_only;
	return 0;
}

static void
dev_close(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	target_close(&dev->target);
	free(dev->path);
}

const struct driver io_uring_driver = {
	.name = "io_uring",
	.dev_size = sizeof(struct io_uring_dev),
	.props = props,
	.init = dev_init,
	.connect = dev_connect,
	.queue_open = queue_open,
	.close = dev_close,
};
