/* SPDX-License-Identifier: MIT */
/*
 * io_uring_queue.c - queues of the driver "io_uring".
 *
 * The path of a read: blkioq_read() calls queue_read(), which takes a request
 * from the pool and fills the next submission entry. Nothing else happens
 * before blkioq_do_io(): queue_run() enters the kernel once, to submit and to
 * wait; reap() takes the completions and, for each, complete() decides: done,
 * or again with what is left of it.
 *
 * The failures: a short transfer goes on where it stopped; at the end of a
 * file the rest is zeroes (or -EIO with "x-strict-eof"); EAGAIN, EINTR and EBUSY
 * are tried again, TRIES_MAX times; everything else is the client's to see.
 *
 * While queue_run() is in the kernel the ring does not signal the completion
 * fd: what arrives there is returned, or owed (q->event_owed).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/range.h"
#include "io_uring.h"

/* How often a request that gets nowhere is tried again after EAGAIN, EINTR or EBUSY. */
#define TRIES_MAX 64

/* The kernel moves less than 2 GiB at once; a buffer that was begun goes on so. */
#define PIECE_MAX (1U << 30)

/* --- Filling a submission entry -------------------------------------------- */

/* A transfer with one buffer; through registered memory where that helps. */
static inline void
sqe_prep_buf(struct io_queue *q, struct io_uring_sqe *sqe, bool write, uint64_t off,
	     const void *buf, uint32_t len)
{
	int slot;

	sqe_prep_transfer(q, sqe, write ? IORING_OP_WRITE : IORING_OP_READ, off, buf, len);
	if (!q->use_fixed)
		return;
	slot = fixed_find(&q->fixed, buf, len);
	if (slot >= 0) {
		sqe->opcode = write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		sqe->buf_index = (uint16_t)slot;
	}
}

/* What is left of a transfer with several buffers. */
static inline void
sqe_prep_vector(struct io_queue *q, struct io_uring_sqe *sqe, const struct io_request *req)
{
	bool write = req->r.op == OP_WRITE;
	uint64_t rest;

	if (likely(!req->len)) {
		sqe_prep_transfer(q, sqe, write ? IORING_OP_WRITEV : IORING_OP_READV, req->start,
				  req->iov, req->iovcnt);
		return;
	}
	/* The client's array is const: finish a buffer that was begun on its own. */
	rest = MIN(req->iov->iov_len - req->len, (uint64_t)PIECE_MAX);
	sqe_prep_buf(q, sqe, write, req->start, (char *)req->iov->iov_base + req->len,
		     (uint32_t)rest);
}

/* The sync of what a write with FUA has written. */
static void
sqe_prep_sync_range(const struct io_queue *q, struct io_uring_sqe *sqe,
		    const struct io_request *req)
{
	sqe_prep_sync(q, sqe);
	if (req->moved < UINT32_MAX) {
		sqe->off = req->start - req->moved;
		sqe->len = req->moved;
	}
}

/* Fills SQE with the next step of REQ. */
static inline void
sqe_fill(struct io_queue *q, struct io_uring_sqe *sqe, struct io_request *req)
{
	switch (req->r.op) {
	case OP_READ:
	case OP_WRITE:
		if (unlikely(req->r.flags & REQ_SYNC)) {
			sqe_prep_sync_range(q, sqe, req);
			break;
		}
		if (req->r.flags & REQ_VECTOR)
			sqe_prep_vector(q, sqe, req);
		else
			sqe_prep_buf(q, sqe, req->r.op == OP_WRITE, req->start, req->buf,
				     (uint32_t)req->len);
		if (req->r.flags & BLKIO_REQ_FUA && q->fua_in_write)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case OP_FLUSH:
		sqe_prep_sync(q, sqe);
		break;
	case OP_DISCARD:
		io_discard_prep(q, sqe, req);
		break;
	case OP_ZEROES:
		io_zeroes_prep(q, sqe, req);
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

void
io_queue_begin(struct io_queue *q, struct io_request *req)
{
	begin(q, req);
}

/* --- Requests: reading, writing, flushing ---------------------------------- */

/* A transfer with one buffer. */
static inline void
transfer(struct io_queue *q, enum op op, uint64_t start, void *buf, uint64_t len,
	 void *user_data, uint32_t flags)
{
	struct io_request *req;

	if (unlikely(!range_ok(start, len, INT64_MAX))) {
		queue_fail(&q->q, user_data, EINVAL, MSG_RANGE);
		return;
	}
	if (unlikely(!len)) {
		queue_pass(&q->q, user_data);
		return;
	}
	if (unlikely(io_tail_refused(q, start, len, user_data)))
		return;
	req = io_request_new(q, op, flags, start, user_data);
	req->buf = buf;
	req->len = len;
	req->moved = 0;
	begin(q, req);
}

/* Bytes in all; UINT64_MAX for more than there can be. */
static uint64_t
vector_bytes(const struct iovec *iov, int iovcnt)
{
	uint64_t len = 0;

	for (int i = 0; i < iovcnt; i++) {
		if (__builtin_add_overflow(len, iov[i].iov_len, &len))
			return UINT64_MAX;
	}
	return len;
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
		queue_fail(&q->q, user_data, EINVAL, MSG_RANGE);
		return;
	}
	if (unlikely(iovcnt > q->dev->b.limits.max_segments)) {
		queue_fail(&q->q, user_data, EINVAL,
			   "iovcnt must not exceed property \"max-segments\"");
		return;
	}
	if (unlikely(q->tail_start != UINT64_MAX) &&
	    io_tail_refused(q, start, vector_bytes(iov, iovcnt), user_data))
		return;
	req = io_request_new(q, op, flags | REQ_VECTOR, start, user_data);
	req->iov = iov;
	req->iovcnt = (uint32_t)iovcnt;
	req->len = 0;
	req->moved = 0;
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
		queue_fail(q, user_data, EBADF, MSG_READ_ONLY);
		return;
	}
	transfer(io_queue(q), OP_WRITE, start, (void *)(uintptr_t)buf, len, user_data, flags);
}

static void
queue_writev(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
	     void *user_data, uint32_t flags)
{
	if (unlikely(io_queue(q)->read_only)) {
		queue_fail(q, user_data, EBADF, MSG_READ_ONLY);
		return;
	}
	transfer_vector(io_queue(q), OP_WRITE, start, iov, iovcnt, user_data, flags);
}

bool
io_queue_refused_on_poll(struct blkioq *q, void *user_data)
{
	if (q->poll)
		queue_fail(q, user_data, EOPNOTSUPP,
			   "request not supported on poll queues for this driver");
	return q->poll;
}

static void
queue_flush(struct blkioq *q, void *user_data)
{
	if (io_queue_refused_on_poll(q, user_data))
		return;
	begin(io_queue(q), io_request_new(io_queue(q), OP_FLUSH, 0, 0, user_data));
}

/* --- Completions ----------------------------------------------------------- */

void
io_queue_failed(struct io_queue *q, struct io_request *req, int ret)
{
	/* EBUSY: a block device's fallocate(2) met pages that somebody is just writing. */
	bool passing = ret == -EAGAIN || ret == -EINTR || ret == -EBUSY;

	if (passing && req->r.tries < TRIES_MAX && !q->closing) {
		req->r.tries++;
		io_queue_go_on(q, req);
		return;
	}
	queue_finish(&q->q, &req->r, ret, NULL);
}

/* Moves REQ on by N bytes and over empty buffers; false when none is left. */
static bool
transfer_advance(struct io_request *req, uint64_t n)
{
	req->start += n;
	req->moved = (uint32_t)MIN(req->moved + n, (uint64_t)UINT32_MAX);
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

/*
 * All is moved. A write with FUA is synced in a step of its own, so that an
 * error of the sync, which may be about other writes as well and is reported
 * only once, cannot be taken for one of this write: it is always -EIO.
 */
static void
transfer_done(struct io_queue *q, struct io_request *req)
{
	if (!(req->r.flags & BLKIO_REQ_FUA) || q->fua_in_write) {
		queue_finish(&q->q, &req->r, 0, NULL);
		return;
	}
	req->r.flags |= REQ_SYNC;
	req->r.tries = 0;
	io_queue_go_on(q, req);
}

void
io_queue_sync_done(struct io_queue *q, struct io_request *req, int res)
{
	if (res == -EAGAIN || res == -EINTR)
		io_queue_failed(q, req, res);
	else
		queue_finish(&q->q, &req->r, res < 0 ? -EIO : 0, res < 0 ? "sync failed" : NULL);
}

/* A transfer moved N bytes, not all of what it was asked for, or has buffers. */
static void
transfer_part_done(struct io_queue *q, struct io_request *req, uint32_t n)
{
	const struct target *t = &q->dev->target;
	bool direct = t->direct && req->start < q->tail_start;

	if (!transfer_advance(req, n)) {
		transfer_done(q, req);
		return;
	}
	/*
	 * Direct reads end in the middle of a block only at the end of the
	 * file; from there one could not even ask for more.
	 */
	if (n && !(req->r.op == OP_READ && direct && !t->block &&
		   !is_aligned(req->start, (unsigned)q->dev->b.limits.request_alignment))) {
		req->r.tries = 0;
		io_queue_go_on(q, req);
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

/* The kernel is done with a step of REQ. */
static inline void
complete(struct io_queue *q, struct io_request *req, int res)
{
	q->in_flight--;
	switch (req->r.op) {
	case OP_READ:
	case OP_WRITE:
		if (likely(res >= 0 && !(req->r.flags & (REQ_VECTOR | BLKIO_REQ_FUA)) &&
			   (unsigned)res == req->len))
			queue_finish(&q->q, &req->r, 0, NULL);
		else if (unlikely(req->r.flags & REQ_SYNC))
			io_queue_sync_done(q, req, res);
		else if (res >= 0)
			transfer_part_done(q, req, (uint32_t)res);
		else
			io_queue_failed(q, req, res);
		break;
	case OP_FLUSH:
		if (res < 0)
			io_queue_failed(q, req, res);
		else
			queue_finish(&q->q, &req->r, 0, NULL);
		break;
	case OP_DISCARD:
		io_discard_done(q, req, res);
		break;
	case OP_ZEROES:
		io_zeroes_done(q, req, res);
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
 * Enters the kernel with the completion fd muted, so that it tells only of
 * completions that nobody is there to take.
 */
static int
enter(struct io_queue *q, unsigned want, const struct timespec *timeout, const sigset_t *sigmask)
{
	bool mute = q->q.event_enabled && uring_may_mute(&q->ring);
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
enter_failed(struct io_queue *q, int ret, unsigned want, const struct wait *w, unsigned *stalls)
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
		if (!want || ++*stalls > 10000)
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
		ret = ret < 0 ? enter_failed(q, ret, want, w, &stalls) : 0;
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

/*
 * The kernel takes a ring apart some time after it is closed; file and memory
 * are let go of now. On a ring with a single issuer that is not another
 * thread's to ask for, and then is done later.
 */
static void
queue_let_go(struct blkioq *bq)
{
	struct io_queue *q = io_queue(bq);

	if (q->sqe_flags & IOSQE_FIXED_FILE)
		(void)uring_register(&q->ring, IORING_UNREGISTER_FILES, NULL, 0);
	if (q->use_fixed)
		(void)uring_register(&q->ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

static void
queue_close(struct blkioq *bq)
{
	struct io_queue *q = io_queue(bq);

	drain(q);
	queue_let_go(bq);
	fixed_release(&q->fixed);
	uring_release(&q->ring);
	queue_release(bq);
	if (q->seek_fd != q->fd && q->seek_fd != q->dev->target.fd)
		close(q->seek_fd);
	if (q->fd >= 0)
		close(q->fd);
	else
		q->dev->fd_taken = false;
	free(q);
}

static const struct queue_ops queue_ops = {
	.read = queue_read,
	.write = queue_write,
	.readv = queue_readv,
	.writev = queue_writev,
	.write_zeroes = io_write_zeroes,
	.discard = io_discard,
	.flush = queue_flush,
	.status = io_status,
	.run = queue_run,
	.pending = queue_pending,
	.set_event = queue_set_event,
	.let_go = queue_let_go,
	.close = queue_close,
};

/*
 * All that this file and io_uring_zeroes.c ask of the kernel, and of no file but the
 * registered ones where that is so. Commands, the last, are for block devices.
 */
static int
ring_restrict(struct io_queue *q)
{
	static const uint8_t operations[] = {
		IORING_OP_READ,	      IORING_OP_WRITE,	IORING_OP_READV,     IORING_OP_WRITEV,
		IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
		IORING_OP_URING_CMD,
	};
	unsigned n = ARRAY_SIZE(operations) - !q->dev->target.block;
	int ret = uring_restrict(&q->ring, operations, n, IOSQE_ASYNC, q->sqe_flags);

	return ret < 0 ? error_os(-ret, "%s", ": cannot restrict the ring of a queue") : 0;
}

/*
 * Gives Q a description of the file of its own. Who may no longer open it, having
 * given up privileges since the device was opened, shares that of the first.
 */
static int
open_again(struct io_queue *q)
{
	const struct target *t = &q->dev->target;

	q->fd = target_reopen(t, t->direct);
	if (q->fd != -EACCES && q->fd != -EPERM)
		return q->fd;
	q->fd_shared = true;
	q->fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	return q->fd < 0 ? -errno : q->fd;
}

int
io_queue_open(struct blkio *b, bool poll, struct blkioq **qp)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);
	int fds[2] = { -1, dev->tail_fd };
	const struct uring_options options = {
		.entries = (unsigned)dev->num_entries,
		.iopoll = poll,
		.single_issuer = dev->single_issuer,
	};
	struct io_queue *q;
	int ret;

	ret = io_zeroes_init();
	if (ret)
		return ret;
	q = aligned_alloc(64, align_up(sizeof(*q), 64));
	if (!q)
		return error_os(ENOMEM, "%s", ": a queue");
	memset(q, 0, sizeof(*q));
	q->dev = dev;
	q->read_only = dev->target.read_only;
	q->tail_start = dev->tail_start;
	/* Where the kernel would flush behind the write, its error could be others': in two steps. */
	q->fua_in_write =
		dev->target.block && dev->target.direct && b->limits.supports_fua_natively;
	/* The first has the device's own description, each other one of its own. */
	q->fd = -1;
	if (dev->fd_taken) {
		ret = open_again(q);
		if (ret < 0) {
			ret = error_os(-ret, "%s", ": cannot open the file once more, for another "
						     "queue, through /proc/self/fd");
			goto free_queue;
		}
	}

	ret = uring_init(&q->ring, &options);
	if (ret)
		goto close_fd;
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
	q->sqe_fd = fds[0] = q->fd >= 0 ? q->fd : dev->target.fd;
	q->sqe_tail_fd = dev->tail_fd;
	if (uring_register(&q->ring, IORING_REGISTER_FILES, fds, fds[1] < 0 ? 1 : 2) >= 0) {
		q->sqe_fd = 0;
		q->sqe_tail_fd = 1;
		q->sqe_flags = IOSQE_FIXED_FILE;
	}
	q->use_fixed = b->limits.may_pin_mem_regions && fixed_init(&q->fixed, &q->ring, b);
	ret = ring_restrict(q);
	if (ret)
		goto release_fixed; /* UNTESTED: out of memory */
	q->seek_fd = io_seek_fd(q);
	if (q->fd < 0)
		dev->fd_taken = true;
	*qp = &q->q;
	return 0;

release_fixed:
	fixed_release(&q->fixed);
release_queue:
	queue_release(&q->q);
release_ring:
	uring_release(&q->ring);
close_fd:
	if (q->fd >= 0)
		close(q->fd);
free_queue:
	free(q);
	return ret;
}
