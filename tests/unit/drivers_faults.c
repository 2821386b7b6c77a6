/* SPDX-License-Identifier: MIT */
/*
 * drivers_faults.c - the io_uring driver on a kernel that misbehaves: short
 * transfers, EAGAIN and EINTR, refused operations, errors, completions in any
 * order, waits that end early, partial submission.
 *
 * The kernel and the file are simulated here: this program has its own
 * uring_init() and target_open(), so those of the library are not linked. All
 * randomness comes from one seed; SEED=n replays a run exactly.
 */
#include <check.h>
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/annotate.h"
#include "drivers/target.h"
#include "drivers/uring.h"
#include "tests/lib/drv_model.h"

#define DISK_MAX (4 << 20)
#define FLIGHT_MAX 65536

/* What the kernel and the disk do; set by each test. */
static struct {
	bool block, direct;
	unsigned block_size;
	uint64_t write_zeroes_max, discard_max;
	uint64_t tail_start; /* from here on there is no direct I/O; 0: nowhere */

	bool no_punch_hole, no_zero_range, no_discard_cmd;
	unsigned short_percent; /* of transfers */
	unsigned short_max;     /* bytes of a short one; 0: any */
	bool fixed;             /* memory can be registered */
	bool interrupted;       /* each entry finishes everything and says EINTR */
	unsigned again_percent; /* of steps: EAGAIN or EINTR */
	unsigned error_percent; /* of steps: EIO */
	unsigned odd_percent;   /* of entries: EINTR, partial submission, early return */
	bool inline_all;        /* completes at submission, in order */
	uint64_t seed;
} sim;

static struct {
	unsigned char bytes[DISK_MAX];
	bool unstable[DISK_MAX]; /* written, not flushed */
	uint64_t size;
} disk;

/* The simulated ring: one at a time is enough. */
static struct {
	struct io_uring_sqe flight[FLIGHT_MAX];
	unsigned nflight;
	unsigned cq_tail;
	unsigned sq_flags, cq_flags, cq_head, sq_tail;
	unsigned enters;
	unsigned steps;
	unsigned fixed; /* of the steps */
	struct iovec slot[64];
	unsigned slots; /* in use */
} kernel;

static bool
chance(unsigned percent)
{
	return percent && drv_between(&sim.seed, 0, 99) < percent;
}

/* --- The disk -------------------------------------------------------------- */

static void
disk_set(uint64_t off, const void *from, uint64_t len, bool stable)
{
	ck_assert_uint_le(off + len, DISK_MAX);
	if (from)
		memcpy(disk.bytes + off, from, len);
	else
		memset(disk.bytes + off, 0, len);
	memset(disk.unstable + off, !stable, len);
	if (off + len > disk.size && !sim.block)
		disk.size = off + len;
}

/* Moves bytes between the disk and one segment; the number moved, or an errno. */
static int
disk_transfer(bool write, bool stable, uint64_t off, void *buf, uint64_t len)
{
	uint64_t end = write && !sim.block ? DISK_MAX : disk.size;

	if (sim.block && write && len && off >= end)
		return -ENOSPC;
	if (off >= end)
		return 0;
	if (len > end - off)
		len = end - off;
	if (write)
		disk_set(off, buf, len, stable);
	else
		memcpy(buf, disk.bytes + off, len);
	return (int)len;
}

static int
run_transfer(const struct io_uring_sqe *sqe, bool write, const struct iovec *iov, unsigned n)
{
	bool direct = sim.direct && sqe->fd == 0;
	uint64_t total = 0, limit;
	int moved = 0, ret;

	for (unsigned i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (direct && ((sqe->off | total) & (sim.block_size - 1)))
		return -EINVAL;
	limit = total;
	if (total > (direct ? sim.block_size : 1) && chance(sim.short_percent)) {
		limit = drv_between(&sim.seed, 1, sim.short_max ? sim.short_max : total);
		if (direct)
			limit = limit < sim.block_size ? sim.block_size :
							 limit & -(uint64_t)sim.block_size;
	}
	for (unsigned i = 0; i < n && limit; i++) {
		uint64_t len = MIN(iov[i].iov_len, limit);

		ret = disk_transfer(write, sqe->rw_flags & RWF_DSYNC, sqe->off + (unsigned)moved,
				    iov[i].iov_base, len);
		if (ret < 0)
			return moved ? moved : ret;
		moved += ret;
		limit -= len;
		if ((uint64_t)ret < len)
			break;
	}
	return moved;
}

static int
run_fallocate(const struct io_uring_sqe *sqe)
{
	uint64_t off = sqe->off, len = sqe->addr;
	int mode = (int)sqe->len;

	if ((mode & FALLOC_FL_PUNCH_HOLE) ? sim.no_punch_hole : sim.no_zero_range)
		return -EOPNOTSUPP;
	if ((off | len) & (sim.block_size - 1) && sim.block)
		return -EINVAL;
	if (!len)
		return -EINVAL;
	if (mode & FALLOC_FL_KEEP_SIZE) {
		if (off >= disk.size)
			return 0;
		len = MIN(len, disk.size - off);
	}
	disk_set(off, NULL, len, false);
	return 0;
}

static bool
is_transfer(const struct io_uring_sqe *sqe)
{
	switch (sqe->opcode) {
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_READV:
	case IORING_OP_WRITEV:
		return true;
	default:
		return false;
	}
}

/* Executes a step; its result is the completion's. */
static int
run(const struct io_uring_sqe *sqe)
{
	struct iovec one = { (void *)(uintptr_t)sqe->addr, sqe->len };
	const struct iovec *iov = (const void *)(uintptr_t)sqe->addr;

	kernel.steps++;
	/* All syncs are of one descriptor: that one hears of every error. */
	ck_assert_int_eq(sqe->fd, sim.tail_start && is_transfer(sqe) && sqe->off >= sim.tail_start);
	/* A command must be copied by the kernel before the entry is used again. */
	ck_assert_int_eq(sqe->flags & IOSQE_FIXED_FILE, IOSQE_FIXED_FILE);
	ck_assert_int_eq(!!(sqe->flags & IOSQE_ASYNC), sqe->opcode == IORING_OP_URING_CMD);
	if (chance(sim.again_percent))
		return chance(50) ? -EAGAIN : -EINTR;
	if (chance(sim.error_percent))
		return -EIO;

	switch (sqe->opcode) {
	case IORING_OP_READ:
	case IORING_OP_WRITE:
		return run_transfer(sqe, sqe->opcode == IORING_OP_WRITE, &one, 1);
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
		kernel.fixed++;
		ck_assert_uint_lt(sqe->buf_index, ARRAY_SIZE(kernel.slot));
		iov = &kernel.slot[sqe->buf_index];
		ck_assert((char *)one.iov_base >= (char *)iov->iov_base &&
			  (char *)one.iov_base + one.iov_len <=
			  (char *)iov->iov_base + iov->iov_len);
		return run_transfer(sqe, sqe->opcode == IORING_OP_WRITE_FIXED, &one, 1);
	case IORING_OP_READV:
	case IORING_OP_WRITEV:
		return run_transfer(sqe, sqe->opcode == IORING_OP_WRITEV, iov, sqe->len);
	case IORING_OP_FSYNC:
		ck_assert_uint_eq(sqe->fsync_flags, IORING_FSYNC_DATASYNC);
		memset(disk.unstable, false, sizeof(disk.unstable));
		return 0;
	case IORING_OP_FALLOCATE:
		return run_fallocate(sqe);
	case IORING_OP_URING_CMD:
		if (sim.no_discard_cmd)
			return chance(50) ? -EOPNOTSUPP : -EINVAL;
		ck_assert(sim.block);
		disk_set(sqe->addr, NULL, sqe->addr3, false);
		return 0;
	}
	ck_abort_msg("opcode %d", sqe->opcode);
	return 0;
}

/* --- The kernel ------------------------------------------------------------ */

int
uring_init(struct uring *r, const struct uring_options *o)
{
	memset(r, 0, sizeof(*r));
	memset(&kernel, 0, sizeof(kernel));
	r->features = 1;
	r->enabled = true;
	r->sq_entries = 1;
	while (r->sq_entries < o->entries)
		r->sq_entries *= 2;
	r->cq_entries = 2 * r->sq_entries;
	r->sqes = calloc(r->sq_entries, sizeof(*r->sqes));
	r->cqes = calloc(r->cq_entries, sizeof(*r->cqes));
	r->ksq_tail = &kernel.sq_tail;
	r->ksq_flags = &kernel.sq_flags;
	r->kcq_head = &kernel.cq_head;
	r->kcq_tail = &kernel.cq_tail;
	r->kcq_flags = &kernel.cq_flags;
	return 0;
}

void
uring_release(struct uring *r)
{
	free(r->sqes);
	free(r->cqes);
	memset(r, 0, sizeof(*r));
}

int
uring_restrict(struct uring *r, const uint8_t *operations, unsigned n, unsigned flags,
	       unsigned required)
{
	return 0;
}

int
uring_register(struct uring *r, unsigned opcode, const void *arg, unsigned len)
{
	const struct io_uring_rsrc_update2 *update = arg;
	const struct iovec *iov;

	if (opcode == IORING_REGISTER_BUFFERS2)
		return sim.fixed ? 0 : -EINVAL;
	if (opcode != IORING_REGISTER_BUFFERS_UPDATE)
		return 0;
	ck_assert_uint_eq(update->nr, 1);
	ck_assert_uint_lt(update->offset, ARRAY_SIZE(kernel.slot));
	iov = (const void *)(uintptr_t)update->data;
	kernel.slots += !!iov->iov_base - !!kernel.slot[update->offset].iov_base;
	kernel.slot[update->offset] = *iov;
	return 1;
}

static void
finish(struct uring *r, unsigned index)
{
	struct io_uring_sqe sqe = kernel.flight[index];
	struct io_uring_cqe *cqe;

	memmove(&kernel.flight[index], &kernel.flight[index + 1],
		(kernel.nflight - index - 1) * sizeof(sqe));
	kernel.nflight--;
	/* The driver never lets them overflow. */
	ck_assert_uint_lt(kernel.cq_tail - kernel.cq_head, r->cq_entries);
	cqe = &r->cqes[kernel.cq_tail & (r->cq_entries - 1)];
	cqe->user_data = sqe.user_data;
	cqe->res = run(&sqe);
	kernel.cq_tail++;
}

int
uring_enter(struct uring *r, unsigned want, const struct timespec *timeout,
	    const sigset_t *sigmask)
{
	unsigned n = r->to_submit, ready;

	kernel.enters++;
	kernel.sq_flags = 0;
	if (n && chance(sim.odd_percent))
		n = (unsigned)drv_between(&sim.seed, 0, n);
	if (!n && r->to_submit)
		return -EINTR;
	for (unsigned i = 0; i < n; i++) {
		unsigned at = r->sq_tail - r->to_submit;

		ck_assert_uint_lt(kernel.nflight, FLIGHT_MAX);
		kernel.flight[kernel.nflight++] = r->sqes[at & (r->sq_entries - 1)];
		/* Taken: what is there now is nobody's. */
		memset(&r->sqes[at & (r->sq_entries - 1)], 0xee, sizeof(*r->sqes));
		r->to_submit--;
	}
	if (sim.inline_all || sim.interrupted) {
		while (kernel.nflight)
			finish(r, 0);
		return sim.interrupted ? -EINTR : (int)n;
	}
	if (r->to_submit)
		return (int)n;
	ready = kernel.cq_tail - kernel.cq_head;
	ck_assert_uint_le(want, ready + kernel.nflight);
	if (want && chance(sim.odd_percent))
		want = 0; /* ends early */
	while (kernel.nflight && (kernel.cq_tail - kernel.cq_head < want || chance(30)))
		finish(r, (unsigned)drv_between(&sim.seed, 0, kernel.nflight - 1));
	if (!n && want && timeout && kernel.cq_tail - kernel.cq_head < want)
		return -ETIME;
	return (int)n;
}

/* --- The file -------------------------------------------------------------- */

int
target_open(struct target *t, const char *path, bool read_only, bool direct)
{
	*t = (struct target){
		.fd = dup(0),
		.block = sim.block,
		.direct = sim.direct,
		.hw_discard_max = sim.discard_max,
		.hw_write_zeroes_max = sim.write_zeroes_max,
		.block_size = sim.block ? sim.block_size : 1,
	};
	return 0;
}

int
target_adopt(struct target *t, int fd)
{
	return target_open(t, "", false, false);
}

int
target_reopen(const struct target *t, bool direct)
{
	return dup(t->fd);
}

void
target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

void
target_limits(struct target *t, struct limits *l)
{
	l->request_alignment = sim.direct ? (int)sim.block_size : 1;
	l->mem_region_alignment = 1;
	l->max_segments = 1024;
}

uint64_t
target_cache_unit(const struct target *t, int alignment)
{
	return MAX((uint64_t)alignment, UINT64_C(4096));
}

int
target_capacity(const struct target *t, uint64_t *bytes)
{
	*bytes = disk.size;
	return 0;
}

/* --- Tests ----------------------------------------------------------------- */

static void
setup(void)
{
	memset(&sim, 0, sizeof(sim));
	memset(&disk, 0, sizeof(disk));
	sim.block_size = 512;
	sim.write_zeroes_max = sim.discard_max = 1 << 30;
	sim.seed = 1;
	disk.size = 1 << 20;
}

/* Every combination of what a file or device may refuse. */
#define MIXES 64

START_TEST(test_random_mix)
{
	struct drv_model m = {
		.base = 512,
		.size = (1 << 19) - 1024,
		.requests = 1200,
		.len_max = 100000,
		.seed = drv_seed() + (unsigned)_i,
	};
	struct blkio *b;
	char entries[8];

	sim.seed = ~m.seed;
	sim.block = _i & 1;
	sim.direct = _i & 2;
	sim.no_punch_hole = _i & 4;
	sim.no_zero_range = _i & 8;
	sim.no_discard_cmd = _i & 16;
	sim.error_percent = _i & 32 ? 5 : 0;
	sim.short_percent = 40;
	sim.again_percent = 10;
	sim.odd_percent = 20;
	if (sim.block && chance(30))
		sim.write_zeroes_max = 0;

	snprintf(entries, sizeof(entries), "%d", (int)drv_between(&sim.seed, 1, 64));
	b = drv_connect("io_uring", "path", "x", "num-entries", entries, NULL);
	m.q = drv_start(b);
	m.align = sim.direct ? sim.block_size : 1;
	m.depth = (unsigned)drv_between(&sim.seed, 1, 200);
	m.refuses_zeroes = sim.no_punch_hole || sim.no_zero_range || !sim.write_zeroes_max;
	/* Without either of the two a discard has no way left. */
	m.no_discard = sim.no_punch_hole && (!sim.block || sim.no_discard_cmd);
	m.discard_zeroes = !sim.block;
	m.injected = sim.error_percent;

	drv_model_run(&m);
	drv_model_check(&m);
	drv_model_release(&m);
	blkio_destroy(&b);
}
END_TEST

/* The tail of a file behind, and in, what is direct. */
START_TEST(test_tail)
{
	struct drv_model m[2];
	struct blkio *b;
	uint64_t seed = drv_seed() + (unsigned)_i;

	sim.seed = ~seed;
	sim.direct = true;
	sim.no_punch_hole = _i & 1;
	sim.no_zero_range = _i & 2;
	sim.error_percent = _i & 4 ? 5 : 0;
	sim.short_percent = 40;
	sim.again_percent = 10;
	sim.odd_percent = 20;
	sim.tail_start = 1 << 18;
	disk.size = sim.tail_start + 3333;
	b = drv_connect("io_uring", "path", "x", "x-buffered-tail", "true", "x-strict-eof", "true",
			NULL);
	ck_assert_uint_eq(drv_get_u64(b, "x-tail-start"), sim.tail_start);
	drv_start(b);
	for (int i = 0; i < 2; i++) {
		m[i] = (struct drv_model){
			.q = blkio_get_queue(b, 0),
			.base = i ? sim.tail_start : 0,
			.size = i ? 3333 : sim.tail_start,
			.align = i ? 1 : sim.block_size,
			.depth = 50,
			.requests = 600,
			.len_max = 50000,
			.refuses_zeroes = sim.no_punch_hole || sim.no_zero_range,
			.no_discard = sim.no_punch_hole,
			.discard_zeroes = true,
			.injected = sim.error_percent,
			.seed = seed + (unsigned)i,
		};
		drv_model_run(&m[i]);
	}
	for (int i = 0; i < 2; i++) {
		drv_model_check(&m[i]);
		drv_model_release(&m[i]);
	}
	ck_assert_uint_eq(disk.size, sim.tail_start + 3333);
	blkio_destroy(&b);
}
END_TEST

static bool
unstable(uint64_t off, uint64_t len)
{
	return memchr(disk.unstable + off, true, len);
}

/* FUA reaches every way in which a request may be done. */
START_TEST(test_fua)
{
	static unsigned char buf[3 << 20];
	struct iovec iov[3] = { { buf, 100 }, { buf, 100 }, { buf, 100 } };
	struct blkio *b;
	struct blkioq *q;

	sim.block = _i & 1;
	sim.no_punch_hole = _i & 2;
	sim.no_zero_range = _i & 4;
	sim.short_percent = 70;
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	for (int round = 0; round < 20; round++) {
		drv_expect(drv_write(q, 1, buf, 1000, 0), 0);
		ck_assert(unstable(1, 1000));
		drv_expect(drv_write(q, 1, buf, 1000, BLKIO_REQ_FUA), 0);
		ck_assert(!unstable(1, 1000));

		blkioq_writev(q, 5000, iov, 3, &drv_msg, BLKIO_REQ_FUA);
		drv_expect(drv_wait(q), 0);
		ck_assert(!unstable(5000, 300));

		for (uint32_t flags = 0; flags < 4; flags += 2) {
			drv_expect(drv_zeroes(q, 7, 700000, flags), 0);
			ck_assert(unstable(7, 700000));
			drv_expect(drv_zeroes(q, 7, 700000, flags | BLKIO_REQ_FUA), 0);
			ck_assert(!unstable(7, 700000));
		}
		drv_expect(drv_write(q, 9, buf, 1000, 0), 0);
		drv_expect(drv_flush(q), 0);
		ck_assert(!unstable(0, disk.size));
	}
	blkio_destroy(&b);
}
END_TEST

/* What is refused without a fallback has changed nothing. */
START_TEST(test_no_fallback)
{
	unsigned char buf[8192], old[8192];
	struct blkio *b;
	struct blkioq *q;

	sim.block = _i & 1;
	sim.no_punch_hole = sim.no_zero_range = true;
	if (_i & 2)
		sim.write_zeroes_max = 0;
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	memset(old, 6, sizeof(old));
	drv_expect(drv_write(q, 0, old, sizeof(old), 0), 0);
	for (int round = 0; round < 2; round++) {
		for (uint32_t flags = BLKIO_REQ_NO_FALLBACK; flags < 8; flags++) {
			drv_expect(drv_zeroes(q, 10, 5000, flags), -EOPNOTSUPP);
			ck_assert_str_ne(drv_msg, "");
			drv_expect(drv_read(q, 0, buf, sizeof(buf)), 0);
			ck_assert_mem_eq(buf, old, sizeof(buf));
		}
	}
	drv_expect(drv_zeroes(q, 10, 5000, 0), 0);
	drv_expect(drv_read(q, 0, buf, sizeof(buf)), 0);
	memset(old + 10, 0, 5000);
	ck_assert_mem_eq(buf, old, sizeof(buf));
	blkio_destroy(&b);
}
END_TEST

/* A device without its own zeroes: asking for them would write them slowly. */
START_TEST(test_no_fallback_is_fast)
{
	struct blkio *b;
	struct blkioq *q;
	unsigned before;

	sim.block = true;
	sim.write_zeroes_max = 0;
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	before = kernel.steps;
	drv_expect(drv_zeroes(q, 0, 4096, BLKIO_REQ_NO_FALLBACK), -EOPNOTSUPP);
	ck_assert_str_eq(drv_msg, "the block device does not support write zeroes with "
				  "BLKIO_REQ_NO_FALLBACK");
	ck_assert_uint_eq(kernel.steps, before);
	drv_expect(drv_zeroes(q, 0, 4096, 0), 0);
	blkio_destroy(&b);
}
END_TEST

/* What was refused once is not asked for again. */
START_TEST(test_refusals_are_remembered)
{
	struct blkio *b;
	struct blkioq *q;

	sim.block = _i;
	sim.no_punch_hole = sim.no_zero_range = true;
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	drv_expect(drv_zeroes(q, 0, 4096, 0), 0);
	ck_assert_uint_eq(kernel.steps, 3);
	drv_expect(drv_zeroes(q, 0, 4096, 0), 0);
	ck_assert_uint_eq(kernel.steps, 4);
	blkio_destroy(&b);

	sim.no_punch_hole = false;
	sim.no_discard_cmd = true;
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	drv_expect(drv_discard(q, 0, 4096), 0);
	ck_assert_uint_eq(kernel.steps, _i ? 2 : 1);
	drv_expect(drv_discard(q, 0, 4096), 0);
	ck_assert_uint_eq(kernel.steps, _i ? 3 : 2);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_discard_unsupported)
{
	struct blkio *b;
	struct blkioq *q;

	sim.block = _i & 1;
	if (_i & 2) {
		sim.no_punch_hole = sim.no_discard_cmd = true;
	} else if (sim.block) {
		sim.discard_max = 0;
	}
	b = drv_connect("io_uring", "path", "x", NULL);
	q = drv_start(b);
	drv_expect(drv_discard(q, 0, 4096), _i ? -EOPNOTSUPP : 0);
	ck_assert_str_eq(drv_msg, _i ? "discard not supported" : "");
	blkio_destroy(&b);
}
END_TEST

/* EAGAIN for ever is told in the end, and a queue goes on after it. */
START_TEST(test_again_for_ever)
{
	struct blkio *b = drv_connect("io_uring", "path", "x", NULL);
	struct blkioq *q = drv_start(b);
	char buf[10];
	int ret;

	sim.again_percent = 100;
	ret = drv_read(q, 0, buf, 10);
	ck_assert(ret == -EAGAIN || ret == -EINTR);
	ck_assert_uint_ge(kernel.steps, 10);
	ret = drv_zeroes(q, 0, 10, 0);
	ck_assert(ret == -EAGAIN || ret == -EINTR);
	sim.again_percent = 0;
	drv_expect(drv_read(q, 0, buf, 10), 0);
	blkio_destroy(&b);
}
END_TEST

/* Progress counts: a request may meet EAGAIN often if it moves in between. */
START_TEST(test_again_with_progress)
{
	static unsigned char buf[200000];
	struct blkio *b = drv_connect("io_uring", "path", "x", NULL);
	struct blkioq *q = drv_start(b);
	struct iovec iov[1000];

	for (int i = 0; i < 1000; i++)
		iov[i] = (struct iovec){ buf + i * 200, 200 };
	sim.again_percent = 50;
	sim.short_percent = 100;
	sim.short_max = 1000;
	for (int i = 0; i < 20; i++) {
		blkioq_writev(q, 0, iov, 1000, &drv_msg, 0);
		drv_expect(drv_wait(q), 0);
	}
	ck_assert_uint_ge(kernel.steps, 20 * 400);
	blkio_destroy(&b);
}
END_TEST

/* A write that gets nowhere without an error is an error. */
START_TEST(test_write_of_nothing)
{
	char buf[16];
	struct blkio *b = drv_connect("io_uring", "path", "x", NULL);
	struct blkioq *q = drv_start(b);

	drv_expect(drv_write(q, DISK_MAX, buf, 16, 0), -EIO);
	drv_expect(drv_write(q, DISK_MAX - 8, buf, 16, 0), -EIO);
	blkio_destroy(&b);
}
END_TEST

/* O_DIRECT cannot ask for the rest of a block that the file ends in. */
START_TEST(test_direct_odd_size)
{
	unsigned char *buf = drv_alloc(512, 2048);
	struct iovec iov[2] = { { buf, 512 }, { buf + 512, 1536 } };
	struct blkio *b;
	struct blkioq *q;

	sim.direct = true;
	disk.size = 5 * 512 + 100;
	memset(disk.bytes, 8, disk.size);
	b = drv_connect("io_uring", "path", "x", "x-strict-eof", _i ? "true" : "false", NULL);
	q = drv_start(b);
	memset(buf, 1, 2048);
	drv_expect(drv_read(q, 4 * 512, buf, 2048), _i ? -EIO : 0);
	if (!_i) {
		drv_expect_bytes(buf, 612, 8);
		drv_expect_bytes(buf + 612, 2048 - 612, 0);
	}
	memset(buf, 1, 2048);
	blkioq_readv(q, 4 * 512, iov, 2, &drv_msg, 0);
	drv_expect(drv_wait(q), _i ? -EIO : 0);
	if (!_i) {
		drv_expect_bytes(buf, 612, 8);
		drv_expect_bytes(buf + 612, 2048 - 612, 0);
	}
	blkio_destroy(&b);
	free(buf);
}
END_TEST

/* A signal as the last request finishes: what is there counts. */
START_TEST(test_interrupted_but_done)
{
	struct blkio *b = drv_connect("io_uring", "path", "x", NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_completion c[2];
	char buf[2];

	blkioq_read(q, 0, buf, 1, NULL, 0);
	blkioq_read(q, 1, buf + 1, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	sim.interrupted = true;
	drv_expect(blkioq_do_io_interruptible(q, c, 2, 2, NULL, NULL), 2);
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), 1);
	blkio_destroy(&b);
}
END_TEST

/* Requests from mapped regions use registered memory, whatever their order. */
START_TEST(test_registered_memory)
{
	static const unsigned order[] = { 3, 7, 0, 5, 1, 6, 2, 4 };
	struct blkio_mem_region r = { .len = 4096, .fd = -1 };
	char *memory = drv_alloc(4096, 8 * 4096);
	struct blkio *b;
	struct blkioq *q;
	unsigned before;

	sim.fixed = true;
	b = drv_connect("io_uring", "path", "x", "x-pin-mem-regions", _i ? "true" : "false", NULL);
	q = drv_start(b);
	for (int i = 0; i < 8; i++) {
		r.addr = memory + order[i] * 4096;
		drv_expect(blkio_map_mem_region(b, &r), 0);
	}
	ck_assert_uint_eq(kernel.slots, 0);
	for (int i = 0; i < 32; i++) {
		before = kernel.fixed;
		drv_expect(drv_write(q, 0, memory + i % 8 * 4096 + 96, 4000, 0), 0);
		ck_assert_uint_eq(kernel.fixed, before + (_i ? 1 : 0));
		/* Beyond the region that was just used, into its neighbour. */
		if (i % 8 < 7) {
			drv_expect(drv_write(q, 0, memory + i % 8 * 4096 + 96, 4001, 0), 0);
			ck_assert_uint_eq(kernel.fixed, before + (_i ? 1 : 0));
		}
	}
	ck_assert_uint_eq(kernel.slots, _i ? 8 : 0);
	/* Let go of with the next request. */
	for (int i = 0; i < 4; i++) {
		r.addr = memory + order[i] * 4096;
		blkio_unmap_mem_region(b, &r);
	}
	before = kernel.fixed;
	drv_expect(drv_write(q, 0, memory + order[0] * 4096, 4096, 0), 0);
	ck_assert_uint_eq(kernel.fixed, before);
	ck_assert_uint_eq(kernel.slots, _i ? 4 : 0);
	drv_expect(drv_write(q, 0, memory + order[7] * 4096, 4096, 0), 0);
	ck_assert_uint_eq(kernel.fixed, before + (_i ? 1 : 0));
	blkio_destroy(&b);
	free(memory);
}
END_TEST

/* System calls: one for a batch, none for nothing. */
START_TEST(test_entries)
{
	struct blkio *b = drv_connect("io_uring", "path", "x", NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_completion c[64];
	char buf[64];

	sim.inline_all = true;
	for (int i = 0; i < 64; i++)
		blkioq_read(q, (uint64_t)i, buf + i, 1, NULL, 0);
	ck_assert_uint_eq(kernel.enters, 0);
	drv_expect(blkioq_do_io(q, c, 64, 64, NULL), 64);
	ck_assert_uint_eq(kernel.enters, 1);
	drv_expect(blkioq_do_io(q, c, 0, 64, NULL), 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_uint_eq(kernel.enters, 1);

	/* Completions that are there need no call, and early failures none. */
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_uint_eq(kernel.enters, 2);
	blkioq_read(q, 0, buf, 1, NULL, 0x80);
	drv_expect(blkioq_do_io(q, c, 2, 64, NULL), 2);
	ck_assert_uint_eq(kernel.enters, 2);

	/* Unless the kernel says that it has some which it must be asked for. */
	sim.inline_all = false;
	kernel.sq_flags = IORING_SQ_TASKRUN;
	drv_expect(blkioq_do_io(q, c, 0, 64, NULL), 0);
	ck_assert_uint_eq(kernel.enters, 3);
	kernel.sq_flags = IORING_SQ_CQ_OVERFLOW;
	drv_expect(blkioq_do_io(q, c, 0, 64, NULL), 0);
	ck_assert_uint_eq(kernel.enters, 4);

	/* A backlog of n rings takes about n entries. */
	sim.inline_all = true;
	for (int i = 0; i < 128 * 10; i++)
		blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_uint_le(kernel.enters, 4 + 10);
	for (int i = 0; i < 128 * 10 / 64; i++)
		drv_expect(blkioq_do_io(q, c, 64, 64, NULL), 64);
	ck_assert_uint_le(kernel.enters, 4 + 10);
	blkio_destroy(&b);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_faults");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, test_random_mix, 0, MIXES);
	tcase_add_loop_test(tc, test_tail, 0, 8);
	tcase_add_loop_test(tc, test_fua, 0, 8);
	tcase_add_loop_test(tc, test_no_fallback, 0, 4);
	tcase_add_test(tc, test_no_fallback_is_fast);
	tcase_add_loop_test(tc, test_refusals_are_remembered, 0, 2);
	tcase_add_loop_test(tc, test_discard_unsupported, 0, 4);
	tcase_add_test(tc, test_again_for_ever);
	tcase_add_test(tc, test_again_with_progress);
	tcase_add_test(tc, test_write_of_nothing);
	tcase_add_loop_test(tc, test_direct_odd_size, 0, 2);
	tcase_add_test(tc, test_interrupted_but_done);
	tcase_add_loop_test(tc, test_registered_memory, 0, 2);
	tcase_add_test(tc, test_entries);
	suite_add_tcase(s, tc);
	return s;
}

int
main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
