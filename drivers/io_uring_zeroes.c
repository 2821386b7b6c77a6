/* SPDX-License-Identifier: MIT */
/*
 * io_uring_zeroes.c - discard and write zeroes of the driver "io_uring".
 *
 * The path of write zeroes: up to four phases, one after the other, each in one
 * or more steps. The body, whole blocks, by fallocate; the parts of blocks
 * before and behind it by writing; a flush for FUA. io_zeroes_prep() fills in
 * the next step, io_zeroes_done() looks at its end and moves on.
 *
 *	BODY --> HEAD --> TAIL --> SYNC --> done
 *	 |  ^
 *	 +--+ refused: PUNCH_HOLE --> ZERO_RANGE --> writing zeroes --> failed
 *
 * The body comes first: when it is refused and no fallback is allowed, nothing
 * has been changed. What a file or device refuses is remembered in the device
 * and not asked for again.
 *
 * A discard is one step: the discard command on block devices (Linux 6.12),
 * else a hole. It is a hint, so parts of blocks at its ends are left alone.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/range.h"
#include "io_uring.h"

/* Zeroes are written from one region of this size. */
#define ZERO_REGION_BYTES (1U << 20)

/* Discard of a block device as a command: start and length. */
#define BLOCK_CMD_DISCARD _IO(0x12, 0)

/* How a discard, or the body of write zeroes, is being done. */
enum way {
	WAY_COMMAND,
	WAY_PUNCH_HOLE,
	WAY_ZERO_RANGE,
	WAY_WRITE,
};

enum phase { PHASE_BODY, PHASE_HEAD, PHASE_TAIL, PHASE_SYNC };

#define MSG_DISCARD "discard not supported"
#define MSG_ZEROES "write zeroes not supported"

/* --- Zeroes in memory -------------------------------------------------------- */

/* Memory of ZERO_REGION_BYTES zeroes that nobody can write. */
static const void *zero_region;

static void
zero_region_make(void)
{
	void *p = mmap(NULL, ZERO_REGION_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		zero_region = p;
}

int
io_zeroes_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, zero_region_make);
	return zero_region ? 0 : error_os(ENOMEM, "%s", ": a region of zeroes");
}

/* --- Checks of both ---------------------------------------------------------- */

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

	if (io_queue_refused_on_poll(q, user_data))
		return true;
	if (ioq->read_only)
		queue_fail(q, user_data, EBADF, MSG_READ_ONLY);
	else if (!len)
		queue_fail(q, user_data, EINVAL, "len must be positive");
	else if (!range_ok(start, len, INT64_MAX) || !inside_device(ioq->dev, start, len))
		queue_fail(q, user_data, EINVAL, MSG_RANGE);
	else
		return io_tail_refused(ioq, start, len, user_data);
	return true;
}

/* --- Discard ----------------------------------------------------------------- */

static void
sqe_prep_fallocate(const struct io_queue *q, struct io_uring_sqe *sqe, int mode, uint64_t off,
		   uint64_t len)
{
	/* The length travels in addr, the mode in len. */
	sqe_prep(q, sqe, IORING_OP_FALLOCATE, off, NULL, (uint32_t)mode);
	sqe->addr = len;
}

void
io_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data)
{
	struct io_queue *ioq = io_queue(q);
	const struct target *t = &ioq->dev->target;
	struct io_request *req;
	uint64_t end;

	if (range_refused(q, start, len, user_data))
		return;
	if (t->block && !t->hw_discard_max) {
		queue_fail(q, user_data, EOPNOTSUPP, MSG_DISCARD);
		return;
	}
	/* A hint: parts of blocks are kept. */
	end = align_down(start + len, t->block_size);
	start = align_up(start, t->block_size);
	if (start >= end) {
		queue_pass(q, user_data);
		return;
	}
	req = io_request_new(ioq, OP_DISCARD, 0, start, user_data);
	req->range_len = end - start;
	req->way = t->block && !atomic_load(&ioq->dev->no_discard_cmd) ? WAY_COMMAND :
									  WAY_PUNCH_HOLE;
	io_queue_begin(ioq, req);
}

void
io_discard_prep(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req)
{
	if (req->way == WAY_COMMAND) {
		sqe_prep(q, sqe, IORING_OP_URING_CMD, 0, NULL, 0);
		sqe->cmd_op = BLOCK_CMD_DISCARD;
		sqe->addr = req->start;
		sqe->addr3 = req->range_len;
		/*
		 * Not in passing: before Linux 6.14 a command that has to wait
		 * for dirty pages is started again from the ring's entry, which
		 * may be another request's by then, and discard its range. What
		 * is sent to a worker at once is copied.
		 */
		sqe->flags |= IOSQE_ASYNC;
	} else {
		sqe_prep_fallocate(q, sqe, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, req->start,
				   req->range_len);
	}
}

void
io_discard_done(struct io_queue *q, struct io_request *req, int res)
{
	if (req->way == WAY_COMMAND && (res == -EOPNOTSUPP || res == -EINVAL || res == -ENOTTY)) {
		/* The range was checked: it is the command that is not known. */
		atomic_store(&q->dev->no_discard_cmd, true);
		req->way = WAY_PUNCH_HOLE;
		io_queue_go_on(q, req);
		return;
	}
	if (res == -EOPNOTSUPP)
		queue_finish(&q->q, &req->r, res, MSG_DISCARD);
	else if (res < 0)
		io_queue_failed(q, req, res);
	else
		queue_finish(&q->q, &req->r, 0, NULL);
}

/* --- Write zeroes ------------------------------------------------------------ */

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

/* The best way that is left for the body with these FLAGS; -1: none. */
static int
zeroes_way(struct io_uring_dev *dev, uint32_t flags)
{
	if (!(flags & BLKIO_REQ_NO_UNMAP) && !atomic_load(&dev->no_punch_hole))
		return WAY_PUNCH_HOLE;
	/* Where a block device's hole was refused the kernel would zero a range by writing. */
	if (dev->target.block && flags & BLKIO_REQ_NO_FALLBACK && atomic_load(&dev->no_punch_hole))
		return -1;
	if (!atomic_load(&dev->no_zero_range))
		return WAY_ZERO_RANGE;
	return flags & BLKIO_REQ_NO_FALLBACK ? -1 : WAY_WRITE;
}

/*
 * Goes to the first phase from PHASE on that has something to do; false when
 * all is done.
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

/* Bytes of the next step, from *START, when it is one of writing; else 0. */
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

void
io_zeroes_prep(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req)
{
	uint64_t start, len;
	uint32_t piece = zeroes_piece(q, req, &start);
	int mode;

	if (piece) {
		sqe_prep_transfer(q, sqe, IORING_OP_WRITE, start, zero_region, piece);
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

void
io_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data, uint32_t flags)
{
	struct io_queue *ioq = io_queue(q);
	const struct target *t = &ioq->dev->target;
	struct io_request *req;
	int way = zeroes_way(ioq->dev, flags);

	if (range_refused(q, start, len, user_data))
		return;
	if (t->block && t->direct && !is_aligned(start | len, t->block_size)) {
		queue_fail(q, user_data, EINVAL,
			   "start and len must be multiples of property \"request-alignment\"");
		return;
	}
	/* The kernel would not refuse: it would write the zeroes itself. */
	if (t->block && !t->hw_write_zeroes_max && (flags & BLKIO_REQ_NO_FALLBACK)) {
		queue_fail(q, user_data, EOPNOTSUPP, "the block device does not support write "
						     "zeroes with BLKIO_REQ_NO_FALLBACK");
		return;
	}
	if (way < 0) {
		queue_fail(q, user_data, EOPNOTSUPP, MSG_ZEROES);
		return;
	}
	req = io_request_new(ioq, OP_ZEROES, flags, start, user_data);
	req->range_len = len;
	req->way = (uint16_t)way;
	zeroes_next(ioq, req, PHASE_BODY);
	io_queue_begin(ioq, req);
}

/* The body was refused in the way it was tried: remember that, try the next. */
static void
zeroes_refused(struct io_queue *q, struct io_request *req)
{
	struct io_uring_dev *dev = q->dev;
	int way;

	atomic_store(req->way == WAY_PUNCH_HOLE ? &dev->no_punch_hole : &dev->no_zero_range, true);
	way = zeroes_way(dev, req->r.flags);
	if (way < 0) {
		queue_finish(&q->q, &req->r, -EOPNOTSUPP, MSG_ZEROES);
		return;
	}
	req->way = (uint16_t)way;
	io_queue_go_on(q, req);
}

/*
 * Whether a hole was punched where a file has nothing to punch it in: with
 * "x-strict-eof" those are no zeroes, as a read would fail.
 */
static bool
hole_past_end(const struct io_queue *q, const struct io_request *req)
{
	const struct target *t = &q->dev->target;
	uint64_t size;

	if (t->block || !q->dev->strict_eof)
		return false;
	return target_capacity(t, &size) || !range_ok(req->start, req->range_len, size);
}

void
io_zeroes_done(struct io_queue *q, struct io_request *req, int res)
{
	uint64_t start;
	uint32_t piece = zeroes_piece(q, req, &start);

	if (res == -EOPNOTSUPP && req->phase == PHASE_BODY && req->way != WAY_WRITE) {
		zeroes_refused(q, req);
		return;
	}
	if (res < 0 && req->phase == PHASE_SYNC) {
		io_queue_sync_done(q, req, res);
		return;
	}
	if (res < 0 || (piece && !res)) {
		io_queue_failed(q, req, res ? res : -EIO);
		return;
	}
	req->r.tries = 0;
	if (piece) {
		req->done += (uint32_t)res;
		if (zeroes_piece(q, req, &start)) {
			io_queue_go_on(q, req);
			return;
		}
	}
	if (req->phase == PHASE_BODY && req->way == WAY_PUNCH_HOLE && hole_past_end(q, req)) {
		queue_finish(&q->q, &req->r, -EIO, "the file ends before the range does");
		return;
	}
	if (zeroes_next(q, req, req->phase + 1))
		io_queue_go_on(q, req);
	else
		queue_finish(&q->q, &req->r, 0, NULL);
}
