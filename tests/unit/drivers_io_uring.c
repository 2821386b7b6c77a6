/* SPDX-License-Identifier: MIT */
/*
 * drivers_io_uring.c - the io_uring driver on regular files: random requests
 * against a model, ends of files, wrong requests, backlogs, do_io arguments,
 * the completion fd, registered memory.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/annotate.h"
#include "blkio-ext.h"
#include "tests/lib/drv_model.h"

#define FILE_SIZE (1 << 20)
#define MIB (1 << 20)

static char *path; /* FILE_SIZE zeroes on a disk file system */

static void
setup(void)
{
	path = drv_file(drv_dir(), FILE_SIZE);
}

static void
teardown(void)
{
	unlink(path);
	free(path);
}

/* What the file holds, read behind the library's back. */
static unsigned char
file_byte(off_t off)
{
	unsigned char c = 0xee;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, &c, 1, off), 1);
	close(fd);
	return c;
}

/* --- Random requests ------------------------------------------------------- */

/* The file behind the model, byte for byte. */
static void
compare_file(const struct drv_model *m, const char *name)
{
	unsigned char *bytes = drv_alloc(1, m->size);
	int fd = open(name, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, bytes, m->size, (off_t)m->base), (ssize_t)m->size);
	ck_assert_mem_eq(bytes, m->bytes, m->size);
	close(fd);
	free(bytes);
}

struct mix {
	const char *direct, *entries, *single, *pin;
	bool tmpfs;
	unsigned depth, requests;
};

static const struct mix mixes[] = {
	{ "false", "128", "false", "false", false, 32, 4000 },
	{ "false", "128", "true", "true", false, 32, 4000 },
	/* Many more requests than entries. */
	{ "false", "4", "false", "true", false, 100, 4000 },
	{ "false", "1", "true", "false", true, 50, 2000 },
	{ "false", "64", "false", "true", true, 64, 4000 },
	{ "true", "128", "false", "false", false, 32, 1500 },
	{ "true", "2", "true", "true", false, 40, 1500 },
};

START_TEST(test_random_mix)
{
	const struct mix *mix = &mixes[_i];
	struct blkio_mem_region r;
	struct drv_model m = {
		.size = FILE_SIZE - 4096,
		.base = 4096,
		.depth = mix->depth,
		.requests = mix->requests,
		.len_max = 300000,
		.discard_zeroes = true,
		.seed = drv_seed(),
	};
	const char *tmpfs = drv_tmpfs_dir();
	char *name = path;
	struct blkio *b;

	if (mix->tmpfs) {
		ck_assert_ptr_nonnull(tmpfs);
		name = drv_file(tmpfs, FILE_SIZE);
	}
	m.refuses_zeroes = !drv_can_zero_range(mix->tmpfs ? tmpfs : drv_dir());
	b = drv_connect("io_uring", "path", name, "direct", mix->direct, "num-entries",
			mix->entries, "x-single-issuer", mix->single, "x-pin-mem-regions",
			mix->pin, NULL);
	drv_expect(blkio_alloc_mem_region(b, &r, MIB), 0);
	m.align = (uint64_t)drv_get_int(b, "request-alignment");
	m.q = drv_start(b);
	drv_expect(blkio_map_mem_region(b, &r), 0);
	m.memory = r.addr;
	m.memory_len = r.len;

	drv_model_run(&m);
	drv_model_check(&m);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), FILE_SIZE);
	drv_expect(drv_flush(m.q), 0);
	compare_file(&m, name);
	drv_model_release(&m);
	blkio_destroy(&b);
	if (mix->tmpfs) {
		unlink(name);
		free(name);
	}
}
END_TEST

/* Two queues of one device in two threads, each with its half of the file. */
static void *
run_model(void *arg)
{
	drv_model_run(arg);
	return NULL;
}

START_TEST(test_two_threads)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "num-queues", "2",
				      "x-single-issuer", _i ? "true" : "false", NULL);
	struct drv_model m[2];
	pthread_t thread[2];
	uint64_t seed = drv_seed();

	drv_start(b);
	for (int i = 0; i < 2; i++) {
		m[i] = (struct drv_model){
			.q = blkio_get_queue(b, i),
			.base = (uint64_t)i * FILE_SIZE / 2,
			.size = FILE_SIZE / 2,
			.align = 1,
			.depth = 20,
			.requests = 2000,
			.len_max = 20000,
			.discard_zeroes = true,
			.refuses_zeroes = !drv_can_zero_range(drv_dir()),
			.seed = seed + (uint64_t)i,
		};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, run_model, &m[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
	for (int i = 0; i < 2; i++) {
		compare_file(&m[i], path);
		drv_model_release(&m[i]);
	}
	blkio_destroy(&b);
}
END_TEST

/* --- Ends of files --------------------------------------------------------- */

START_TEST(test_end_of_file)
{
	struct blkio *b;
	struct blkioq *q;
	unsigned char buf[300], zero[300] = { 0 };
	struct iovec iov[4] = { { buf, 50 }, { buf, 0 }, { buf + 50, 100 }, { buf + 150, 150 } };

	ck_assert_int_eq(truncate(path, 1000), 0);
	b = drv_connect("io_uring", "path", path, NULL);
	q = drv_start(b);
	memset(buf, 7, 100);
	drv_expect(drv_write(q, 900, buf, 100, 0), 0);

	/* One buffer across the end; then behind it, near and far. */
	memset(buf, 1, sizeof(buf));
	drv_expect(drv_read(q, 999, buf, 300), 0);
	ck_assert_int_eq(buf[0], 7);
	ck_assert_mem_eq(buf + 1, zero, 299);
	memset(buf, 1, sizeof(buf));
	drv_expect(drv_read(q, 1000, buf, 300), 0);
	ck_assert_mem_eq(buf, zero, 300);
	memset(buf, 1, sizeof(buf));
	drv_expect(drv_read(q, (uint64_t)1 << 60, buf, 300), 0);
	ck_assert_mem_eq(buf, zero, 300);

	/* Several, ending in the middle of the third. */
	memset(buf, 1, sizeof(buf));
	blkioq_readv(q, 925, iov, 4, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(buf[i], i < 75 ? 7 : 0);
	/* And exactly at the end of one. */
	memset(buf, 1, sizeof(buf));
	blkioq_readv(q, 850, iov, 4, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(buf[i], i >= 50 && i < 150 ? 7 : 0);
	ck_assert_uint_eq(iov[2].iov_len, 100);

	/* Writing there makes the file longer. */
	drv_expect(drv_write(q, 2000, buf + 50, 1, 0), 0);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), 2001);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_strict_end_of_file)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "x-strict-eof", "true", "direct",
				      _i ? "true" : "false", NULL);
	struct blkioq *q = drv_start(b);
	unsigned char *buf = drv_alloc(4096, 16384);
	struct iovec iov[2] = { { buf, 4096 }, { buf + 4096, 4096 } };

	drv_expect(drv_read(q, FILE_SIZE - 8192, buf, 8192), 0);
	ck_assert_int_eq(truncate(path, FILE_SIZE - 4096), 0);
	drv_expect(drv_read(q, FILE_SIZE - 8192, buf, 4096), 0);
	drv_expect(drv_read(q, FILE_SIZE - 8192, buf, 8192), -EIO);
	ck_assert_str_eq(drv_msg, "end of the file or device");
	drv_expect(drv_read(q, FILE_SIZE - 4096, buf, 4096), -EIO);
	blkioq_readv(q, FILE_SIZE - 8192, iov, 2, &drv_msg, 0);
	drv_expect(drv_wait(q), -EIO);
	free(buf);
	blkio_destroy(&b);
}
END_TEST

/* O_DIRECT cannot ask for the rest of a block that the file ends in. */
START_TEST(test_direct_odd_size)
{
	struct blkio *b;
	struct blkioq *q;
	unsigned char *buf = drv_alloc(4096, 8192);
	int fd = open(path, O_WRONLY);

	ck_assert_int_eq(pwrite(fd, "xyz", 3, FILE_SIZE), 3);
	close(fd);
	b = drv_connect("io_uring", "path", path, "direct", "true", NULL);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), FILE_SIZE + 3);
	q = drv_start(b);
	memset(buf, 1, 8192);
	drv_expect(drv_read(q, FILE_SIZE - 4096, buf, 8192), 0);
	ck_assert_mem_eq(buf + 4096, "xyz\0\0", 5);
	ck_assert_int_eq(buf[0], 0);
	ck_assert_int_eq(buf[8191], 0);
	blkio_destroy(&b);
	free(buf);
}
END_TEST

/*
 * The kernel moves less than 2 GiB at a time: longer requests go on after a
 * short result, in the middle of a buffer. All segments are the same memory, so
 * it holds the last one afterwards.
 */
START_TEST(test_longer_than_a_transfer)
{
	const size_t seg = 9 * MIB / 4, n = 1000; /* 2.2 GiB */
	const char *tmpfs = drv_tmpfs_dir();
	struct iovec *iov = calloc(n, sizeof(*iov));
	unsigned char *buf = drv_alloc(4096, seg);
	char *name;
	struct blkio *b;
	struct blkioq *q;

	ck_assert_ptr_nonnull(tmpfs);
	name = drv_file(tmpfs, seg * n);
	b = drv_connect("io_uring", "path", name, NULL);
	q = drv_start(b);
	for (size_t i = 0; i < n; i++)
		iov[i] = (struct iovec){ buf, seg };
	for (size_t i = 0; i < seg; i++)
		buf[i] = (unsigned char)(i * 7 + (i >> 8));
	drv_expect(drv_write(q, seg * (n - 1), buf, seg, 0), 0);
	memset(buf, 0xee, seg);
	blkioq_readv(q, 0, iov, (int)n, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	for (size_t i = 0; i < seg; i++) {
		if (buf[i] != (unsigned char)(i * 7 + (i >> 8)))
			ck_abort_msg("byte %zu", i);
	}
	unlink(name);
	free(name);
	free(iov);
	free(buf);
	blkio_destroy(&b);
}
END_TEST

/* The same with one buffer: one memory mapped over and over again. */
START_TEST(test_longer_than_a_transfer_in_one)
{
	const size_t piece = 64 * MIB, n = 33, last = piece * n - 5;
	const char *tmpfs = drv_tmpfs_dir();
	int memory = memfd_create("x", MFD_CLOEXEC);
	char *name;
	unsigned char *buf;
	struct blkio *b;
	struct blkioq *q;

	ck_assert_ptr_nonnull(tmpfs);
	ck_assert_int_eq(ftruncate(memory, (off_t)piece), 0);
	buf = mmap(NULL, piece * n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(buf, MAP_FAILED);
	for (size_t i = 0; i < n; i++)
		ck_assert_ptr_ne(mmap(buf + i * piece, piece, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_FIXED, memory, 0), MAP_FAILED);
	close(memory);
	name = drv_file(tmpfs, piece * n);
	b = drv_connect("io_uring", "path", name, NULL);
	q = drv_start(b);
	drv_expect(drv_write(q, last, "hello", 5, 0), 0);
	drv_expect(drv_read(q, 0, buf, piece * n), 0);
	ck_assert_mem_eq(buf + last, "hello", 5);
	ck_assert_int_eq(buf[0], 0);
	munmap(buf, piece * n);
	unlink(name);
	free(name);
	blkio_destroy(&b);
}
END_TEST

/* --- Wrong requests -------------------------------------------------------- */

/* Asks for request KIND with FLAGS; the bits it allows go to ALLOWED. */
static void
any_request(struct blkioq *q, int kind, uint32_t flags, uint32_t *allowed)
{
	static char buf[16];
	static struct iovec iov = { buf, 16 };
	void *ud = &drv_msg;

	*allowed = 0;
	switch (kind) {
	case 0: blkioq_read(q, 0, buf, 16, ud, flags); break;
	case 1: blkioq_readv(q, 0, &iov, 1, ud, flags); break;
	case 2: *allowed = 1; blkioq_write(q, 0, buf, 16, ud, flags); break;
	case 3: *allowed = 1; blkioq_writev(q, 0, &iov, 1, ud, flags); break;
	case 4: *allowed = 7; blkioq_write_zeroes(q, 0, 16, ud, flags); break;
	case 5: blkioq_discard(q, 0, 16, ud, flags); break;
	case 6: blkioq_flush(q, ud, flags); break;
	case 7: blkioq_report_zones(q, 0, NULL, 0, ud, flags); break;
	case 8: blkioq_close_zone(q, 0, ud, flags); break;
	case 9: blkioq_finish_zone(q, 0, ud, flags); break;
	case 10: blkioq_open_zone(q, 0, ud, flags); break;
	case 11: blkioq_reset_zone(q, 0, ud, flags); break;
	case 12: blkioq_close_all_zones(q, ud, flags); break;
	case 13: blkioq_finish_all_zones(q, ud, flags); break;
	case 14: blkioq_open_all_zones(q, ud, flags); break;
	case 15: blkioq_reset_all_zones(q, ud, flags); break;
	}
}

START_TEST(test_flags)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	struct blkioq *q = drv_start(b);

	for (int kind = 0; kind < 16; kind++) {
		for (int bit = -1; bit < 32; bit++) {
			uint32_t flags = bit < 0 ? 0 : UINT32_C(1) << bit, allowed;
			const char *msg = "";
			int ret = 0;

			any_request(q, kind, flags, &allowed);
			if (flags & ~allowed) {
				ret = -EINVAL;
				msg = bit > 2 ? "unsupported bits in request flags" :
				      bit == 0 ? "BLKIO_REQ_FUA is invalid for this request type" :
				      bit == 1 ? "BLKIO_REQ_NO_UNMAP is invalid for this "
						 "request type" :
						 "BLKIO_REQ_NO_FALLBACK is invalid for this "
						 "request type";
			} else if (kind >= 7) {
				ret = -EOPNOTSUPP;
				msg = "request not supported for this driver";
			}
			drv_expect(drv_wait(q), ret);
			ck_assert_str_eq(drv_msg, msg);
		}
	}
	/* The lowest wrong bit is named; unknown ones come first. */
	blkioq_flush(q, &drv_msg, 7);
	drv_expect(drv_wait(q), -EINVAL);
	ck_assert_str_eq(drv_msg, "BLKIO_REQ_FUA is invalid for this request type");
	blkioq_flush(q, &drv_msg, 9);
	drv_expect(drv_wait(q), -EINVAL);
	ck_assert_str_eq(drv_msg, "unsupported bits in request flags");
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_wrong_ranges)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	struct blkioq *q = drv_start(b);
	struct iovec *iov = calloc(1025, sizeof(*iov)), huge[2];
	char buf[64] = { 0 };

	/* "The current file position" must not be an offset. */
	drv_expect(drv_read(q, UINT64_MAX, buf, 16), -EINVAL);
	ck_assert_str_eq(drv_msg, "invalid len or start offset");
	drv_expect(drv_write(q, UINT64_MAX, buf, 16, 0), -EINVAL);
	drv_expect(drv_read(q, INT64_MAX - 8, buf, 16), -EINVAL);
	drv_expect(drv_zeroes(q, UINT64_MAX, 1, 0), -EINVAL);
	drv_expect(drv_zeroes(q, 1, UINT64_MAX, 0), -EINVAL);
	drv_expect(drv_discard(q, 1, INT64_MAX), -EINVAL);
	iov[0] = (struct iovec){ buf, 16 };
	iov[1] = (struct iovec){ buf, 16 };
	for (int n = 1; n <= 2; n++) {
		blkioq_readv(q, UINT64_MAX, iov, n, &drv_msg, 0);
		drv_expect(drv_wait(q), -EINVAL);
		blkioq_writev(q, (uint64_t)INT64_MAX + 1, iov, n, &drv_msg, 0);
		drv_expect(drv_wait(q), -EINVAL);
	}

	drv_expect(drv_zeroes(q, 0, 0, 0), -EINVAL);
	ck_assert_str_eq(drv_msg, "len must be positive");
	drv_expect(drv_discard(q, 0, 0), -EINVAL);
	drv_expect(drv_read(q, 0, buf, (size_t)UINT32_MAX + 1), -EINVAL);
	ck_assert_str_eq(drv_msg, "len must fit in an unsigned 32-bit integer");
	drv_expect(drv_write(q, 0, buf, (size_t)UINT32_MAX + 1, 0), -EINVAL);
	drv_expect(drv_read(q, 0, NULL, 16), -EFAULT);
	ck_assert_str_eq(drv_msg, "");

	/* Nothing to do is done. */
	drv_expect(drv_read(q, 0, NULL, 0), 0);
	drv_expect(drv_write(q, FILE_SIZE * 2, NULL, 0, BLKIO_REQ_FUA), 0);
	blkioq_readv(q, 0, NULL, 0, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	for (int i = 0; i < 1025; i++)
		iov[i] = (struct iovec){ buf, 0 };
	blkioq_readv(q, 0, iov, 1024, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	blkioq_readv(q, 2 * FILE_SIZE, iov, 1024, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), FILE_SIZE);

	blkioq_readv(q, 0, iov, 1025, &drv_msg, 0);
	drv_expect(drv_wait(q), -EINVAL);
	ck_assert_str_eq(drv_msg, "iovcnt must not exceed property \"max-segments\"");
	blkioq_readv(q, 0, iov, -1, &drv_msg, 0);
	drv_expect(drv_wait(q), -EINVAL);
	ck_assert_str_eq(drv_msg, "iovcnt must be non-negative and fit in a signed 32-bit integer");
	blkioq_writev(q, 0, iov, INT_MIN, &drv_msg, 0);
	drv_expect(drv_wait(q), -EINVAL);

	/* A sum that is too large is the kernel's to refuse. */
	huge[0] = huge[1] = (struct iovec){ buf, SIZE_MAX / 2 };
	blkioq_writev(q, 0, huge, 2, &drv_msg, 0);
	ck_assert_int_lt(drv_wait(q), 0);
	free(iov);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_read_only)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "read-only", "true", NULL);
	struct blkioq *q = drv_start(b);
	char buf[16] = { 1 };
	struct iovec iov = { buf, 16 };

	drv_expect(drv_read(q, 0, buf, 16), 0);
	drv_expect(drv_write(q, 0, "x", 1, 0), -EBADF);
	ck_assert_str_eq(drv_msg, "device is read-only");
	blkioq_writev(q, 0, &iov, 1, &drv_msg, 0);
	drv_expect(drv_wait(q), -EBADF);
	drv_expect(drv_zeroes(q, 0, 1, 0), -EBADF);
	drv_expect(drv_discard(q, 0, 1), -EBADF);
	drv_expect(drv_flush(q), 0);
	blkio_destroy(&b);
}
END_TEST

/* --- Zeroes and discard ---------------------------------------------------- */

static uint64_t
blocks_of(const char *name)
{
	struct stat st;

	ck_assert_int_eq(stat(name, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* What becomes of a file's blocks: given back or kept, as the flags say. */
START_TEST(test_zeroes_unmap)
{
	const char *tmpfs = drv_tmpfs_dir();
	char *name;
	struct blkio *b;
	struct blkioq *q;
	unsigned char *buf = drv_alloc(4096, MIB);
	uint64_t full;
	bool can;

	ck_assert_ptr_nonnull(tmpfs);
	name = _i ? drv_file(tmpfs, MIB) : strdup(path);
	can = drv_can_zero_range(_i ? tmpfs : drv_dir());
	b = drv_connect("io_uring", "path", name, NULL);
	q = drv_start(b);
	memset(buf, 9, MIB);
	drv_expect(drv_write(q, 0, buf, MIB, 0), 0);
	drv_expect(drv_flush(q), 0);
	full = blocks_of(name);
	ck_assert_uint_ge(full, MIB);

	/* Where it cannot be zeroed in place (tmpfs) it is written, or refused. */
	drv_expect(drv_zeroes(q, 0, MIB, BLKIO_REQ_NO_UNMAP | BLKIO_REQ_NO_FALLBACK),
		   can ? 0 : -EOPNOTSUPP);
	if (!can) {
		ck_assert_str_eq(drv_msg, "write zeroes not supported");
		drv_expect(drv_read(q, 0, buf, MIB), 0);
		ck_assert_int_eq(buf[0], 9);
		ck_assert_int_eq(buf[MIB - 1], 9);
	}
	drv_expect(drv_zeroes(q, 1, MIB - 2, BLKIO_REQ_NO_UNMAP | BLKIO_REQ_FUA), 0);
	ck_assert_str_eq(drv_msg, "");
	ck_assert_uint_eq(blocks_of(name), full);
	drv_expect(drv_read(q, 0, buf, MIB), 0);
	drv_expect_bytes(buf + 1, MIB - 2, 0);
	ck_assert_int_eq(buf[0], can ? 0 : 9);
	ck_assert_int_eq(buf[MIB - 1], can ? 0 : 9);

	drv_expect(drv_zeroes(q, 0, MIB / 2, BLKIO_REQ_NO_FALLBACK), 0);
	ck_assert_uint_le(blocks_of(name), full - MIB / 2);
	drv_expect(drv_discard(q, 0, MIB), 0);
	ck_assert_uint_le(blocks_of(name), full - MIB);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), MIB);

	unlink(name);
	free(name);
	free(buf);
	blkio_destroy(&b);
}
END_TEST

/* Writing zeroes takes several pieces of 1 MiB. */
START_TEST(test_zeroes_in_pieces)
{
	const char *tmpfs = drv_tmpfs_dir();
	const size_t size = 5 * MIB + 777;
	unsigned char *buf = drv_alloc(1, size);
	char *name;
	struct blkio *b;
	struct blkioq *q;

	ck_assert_ptr_nonnull(tmpfs);
	name = drv_file(tmpfs, size);
	b = drv_connect("io_uring", "path", name, NULL);
	q = drv_start(b);
	memset(buf, 3, size);
	drv_expect(drv_write(q, 0, buf, size, 0), 0);
	drv_expect(drv_zeroes(q, 5, size - 10, BLKIO_REQ_NO_UNMAP), 0);
	drv_expect(drv_read(q, 0, buf, size), 0);
	drv_expect_bytes(buf, 5, 3);
	drv_expect_bytes(buf + 5, size - 10, 0);
	drv_expect_bytes(buf + size - 5, 5, 3);
	unlink(name);
	free(name);
	free(buf);
	blkio_destroy(&b);
}
END_TEST

/* --- Many requests --------------------------------------------------------- */

START_TEST(test_backlog)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "num-entries", _i ? "1" : "128",
				      NULL);
	struct blkioq *q = drv_start(b);
	const int n = 3000;
	struct blkio_completion *c = calloc((size_t)n + 1, sizeof(*c));
	unsigned char *buf = calloc((size_t)n, 8);
	bool *seen = calloc((size_t)n, sizeof(bool));

	for (int i = 0; i < n; i++)
		blkioq_write(q, (uint64_t)i * 8, memcpy(buf + i * 8, &i, sizeof(i)), 8,
			     (void *)(intptr_t)i, 0);
	/* Nothing is submitted before do_io. */
	ck_assert_int_eq(file_byte(8), 0);
	drv_expect(blkioq_do_io(q, c, n + 1, n + 1, NULL), -EINVAL);
	ck_assert_int_eq(file_byte(8), 0);
	drv_expect(blkioq_do_io(q, c, n, n + 1, NULL), n);
	for (int i = 0; i < n; i++) {
		intptr_t ud = (intptr_t)c[i].user_data;

		ck_assert_int_eq(c[i].ret, 0);
		ck_assert(ud >= 0 && ud < n && !seen[ud]);
		seen[ud] = true;
	}
	memset(buf, 0xff, (size_t)n * 8);
	for (int i = 0; i < n; i++)
		blkioq_read(q, (uint64_t)i * 8, buf + i * 8, 8, NULL, 0);
	/* In bits: never more than asked for, none lost. */
	for (int left = n; left;) {
		int got = blkioq_do_io(q, c, left < 7 ? left : 7, 11, NULL);

		ck_assert_int_ge(got, left < 7 ? left : 7);
		ck_assert_int_le(got, 11);
		left -= got;
	}
	drv_expect(blkioq_do_io(q, c, 0, n, NULL), 0);
	for (int i = 0; i < n; i++)
		ck_assert_mem_eq(buf + i * 8, &i, sizeof(i));
	free(c);
	free(buf);
	free(seen);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_early_failures_first)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_completion c[8];
	char buf[3];

	blkioq_read(q, 0, buf, 1, (void *)1, 0);
	blkioq_read(q, 1, buf + 1, 1, (void *)2, 0x80);
	blkioq_read(q, 2, buf + 2, 1, (void *)3, 0);
	blkioq_discard(q, 0, 0, (void *)4, 0);
	drv_expect(blkioq_do_io(q, c, 4, 8, NULL), 4);
	ck_assert_ptr_eq(c[0].user_data, (void *)2);
	ck_assert_int_eq(c[0].ret, -EINVAL);
	ck_assert_ptr_eq(c[1].user_data, (void *)4);
	ck_assert_int_eq(c[2].ret, 0);
	ck_assert_int_eq(c[3].ret, 0);
	blkio_destroy(&b);
}
END_TEST

/* Requests that nobody waits for must not trouble whoever closes. */
START_TEST(test_destroy_with_requests)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "num-queues", "2", "num-entries",
				      "2", NULL);
	struct blkioq *q = drv_start(b);
	static char buf[512];

	/* In the kernel, finished, in the backlog, early. */
	for (int i = 0; i < 50; i++)
		blkioq_write(q, (uint64_t)i * 512, buf, 512, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	blkioq_flush(q, NULL, 0x80);
	blkioq_flush(q, NULL, 0);
	drv_expect(blkio_remove_queue(b, 0), 0);

	/* Never submitted at all. */
	q = blkio_get_queue(b, 1);
	memset(buf, 1, sizeof(buf));
	for (int i = 0; i < 50; i++)
		blkioq_write(q, (uint64_t)i * 512, buf, 512, NULL, 0);
	blkio_destroy(&b);
	ck_assert_int_eq(file_byte(0), 0);
}
END_TEST

/* The file is closed when destroy returns, not some time later: no other open is left. */
START_TEST(test_destroy_closes)
{
	struct blkio *b;
	int fd;

	for (int i = 0; i < 20; i++) {
		b = drv_connect("io_uring", "path", path, "num-queues", "3", NULL);
		drv_expect(drv_flush(drv_start(b)), 0);
		blkio_destroy(&b);
		fd = open(path, O_RDWR | O_CLOEXEC);
		ck_assert_int_eq(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
		close(fd);
	}
}
END_TEST

/* --- do_io arguments ------------------------------------------------------- */

START_TEST(test_do_io_arguments)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_completion c[4];
	struct timespec bad_sec = { -1, -1 }, bad_nsec = { 0, -1 }, bad_nsec2 = { 0, 1000000000 },
			ts = { 5, 5 }, forever = { INT64_MAX, 999999999 };
	char buf[4];

	blkioq_read(q, 0, buf, 1, NULL, 0);
	/* Each call has all later errors too: the order counts. */
	drv_expect_msg(blkioq_do_io(q, NULL, -1, -2, &bad_sec), -EINVAL,
		       "tv_sec cannot be negative");
	drv_expect_msg(blkioq_do_io(q, NULL, -1, -2, &bad_nsec), -EINVAL,
		       "tv_nsec must be less than one second");
	drv_expect_msg(blkioq_do_io(q, NULL, -1, -2, &bad_nsec2), -EINVAL,
		       "tv_nsec must be less than one second");
	drv_expect_msg(blkioq_do_io(q, NULL, -1, -2, &ts), -EINVAL,
		       "min_completions cannot be negative");
	drv_expect_msg(blkioq_do_io(q, NULL, 3, -2, &ts), -EINVAL,
		       "max_completions cannot be negative");
	drv_expect_msg(blkioq_do_io(q, NULL, 3, 2, &ts), -EINVAL,
		       "min_completions must be less than or equal to max_completions");
	drv_expect_msg(blkioq_do_io(q, NULL, 2, 2, &ts), -EINVAL,
		       "max_completions must be 0 when completions is NULL");
	drv_expect_msg(blkioq_do_io(q, c, 2, 2, &ts), -EINVAL,
		       "min_completions is larger than total outstanding requests");
	ck_assert_int_eq(bad_sec.tv_sec, -1);
	ck_assert_int_eq(bad_nsec2.tv_nsec, 1000000000);
	ck_assert(ts.tv_sec == 5 && ts.tv_nsec == 5);

	drv_expect(blkioq_do_io(q, c, 1, 2, &ts), 1);
	ck_assert(ts.tv_sec < 5 || ts.tv_nsec <= 5);
	drv_expect(blkioq_do_io(q, c, 0, 2, &ts), 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), -EINVAL);

	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, &forever), 1);
	ck_assert_int_gt(forever.tv_sec, 1000000000);

	/* Finished, not fetched: outstanding. */
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, c, 0, 0, NULL), 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), 1);
	blkio_destroy(&b);
}
END_TEST

/* --- Completion fd --------------------------------------------------------- */

static bool
readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int ret = poll(&p, 1, 0);

	ck_assert_int_ge(ret, 0);
	return ret == 1;
}

START_TEST(test_completion_fd)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "x-single-issuer",
				      _i ? "true" : "false", NULL);
	struct blkioq *q = drv_start(b);
	int fd = blkioq_get_completion_fd(q);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct blkio_completion c[4];
	eventfd_t count;
	char buf[8];

	/* Off at the start, for both kinds of completions. */
	blkioq_read(q, 0, buf, 1, NULL, 0);
	blkioq_read(q, 0, buf, 1, NULL, 0x80);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert(!readable(fd));

	/* Completions that wait already are told of. */
	blkioq_set_completion_fd_enabled(q, true);
	ck_assert(readable(fd));
	drv_expect(blkioq_do_io(q, c, 2, 4, NULL), 2);
	ck_assert_int_eq(eventfd_read(fd, &count), 0);
	ck_assert(!readable(fd));

	/* What do_io leaves behind is told of; nobody else would. */
	for (int i = 0; i < 3; i++)
		blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_int_eq(poll(&p, 1, -1), 1);
	ck_assert_int_eq(eventfd_read(fd, &count), 0);
	drv_expect(blkioq_do_io(q, c, 3, 4, NULL), 3);

	/* What do_io returns is not. */
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), 1);
	ck_assert(!readable(fd));

	/* An early failure is told of at once. */
	blkioq_read(q, 0, buf, 1, NULL, 0x80);
	ck_assert(readable(fd));
	ck_assert_int_eq(eventfd_read(fd, &count), 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), 1);

	/* Work that is done elsewhere is, when it is done. */
	for (int i = 0; i < 20; i++) {
		blkioq_write_zeroes(q, (uint64_t)i * 4096, 4096, NULL, BLKIO_REQ_FUA);
		int n = blkioq_do_io(q, c, 0, 1, NULL);

		while (n == 0) {
			ck_assert_int_eq(poll(&p, 1, -1), 1);
			eventfd_read(fd, &count);
			n = blkioq_do_io(q, c, 0, 1, NULL);
		}
		ck_assert_int_eq(n, 1);
		ck_assert_int_eq(c[0].ret, 0);
	}

	blkioq_set_completion_fd_enabled(q, false);
	eventfd_read(fd, &count);
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert(!readable(fd));
	blkio_destroy(&b);
}
END_TEST

/* --- Registered memory ----------------------------------------------------- */

/*
 * A region goes and another takes its address: what was registered for the
 * first must not be used for the second. More regions than slots, too.
 */
START_TEST(test_regions_replaced)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "x-pin-mem-regions", "true", NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_mem_region r = { .len = 8192, .fd = -1 };
	char *memory = mmap(NULL, 200 * 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	char buf[8192];

	ck_assert_ptr_ne(memory, MAP_FAILED);
	r.addr = memory;
	for (int i = 0; i < 100; i++) {
		drv_expect(blkio_map_mem_region(b, &r), 0);
		memset(memory, i + 1, r.len);
		drv_expect(drv_write(q, (uint64_t)i * 16, memory + i, 16, 0), 0);
		drv_expect(drv_read(q, (uint64_t)i * 16, memory + 4000, 16), 0);
		ck_assert_int_eq(memory[4000], i + 1);
		blkio_unmap_mem_region(b, &r);
		ck_assert_ptr_eq(mmap(memory, r.len, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), memory);
	}
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(file_byte(i * 16), i + 1);

	for (int i = 0; i < 200; i++) {
		r.addr = memory + i * 8192;
		memset(r.addr, i, r.len);
		drv_expect(blkio_map_mem_region(b, &r), 0);
	}
	for (int i = 0; i < 200; i++)
		drv_expect(drv_write(q, (uint64_t)i * 8, memory + i * 8192 + 8184, 8, 0), 0);
	/* Across the border of two regions, registered and just used. */
	drv_expect(drv_write(q, 4004, memory, 4, 0), 0);
	drv_expect(drv_write(q, 4000, memory + 8192 - 4, 8, 0), 0);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(file_byte(i * 8 + 7), i);
	ck_assert_int_eq(file_byte(4003), 0);
	ck_assert_int_eq(file_byte(4004), 1);
	drv_expect(drv_read(q, 0, buf, sizeof(buf)), 0);
	munmap(memory, 200 * 8192);
	blkio_destroy(&b);
}
END_TEST

/* More than may be locked: the region is not pinned, and all works. */
START_TEST(test_pin_refused)
{
	const struct rlimit little = { MIB, MIB };
	bool root = geteuid() == 0;
	struct blkio_mem_region r;
	struct blkio *b;
	struct blkioq *q;

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
	b = drv_connect("io_uring", "path", path, "x-pin-mem-regions", "true", NULL);
	drv_expect(blkio_alloc_mem_region(b, &r, 4 * MIB), 0);
	/* The limit is not for root. */
	if (root)
		ck_assert_int_eq(seteuid(65534), 0);
	q = drv_start(b);
	drv_expect(blkio_map_mem_region(b, &r), 0);
	memset(r.addr, 4, r.len);
	drv_expect(drv_write(q, 0, r.addr, 65536, 0), 0);
	drv_expect(drv_read(q, 0, (char *)r.addr + 65536, 65536), 0);
	if (root)
		ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(file_byte(65535), 4);
	blkio_destroy(&b);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_io_uring");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, test_random_mix, 0, ARRAY_SIZE(mixes));
	tcase_add_loop_test(tc, test_two_threads, 0, 2);
	tcase_add_test(tc, test_end_of_file);
	tcase_add_loop_test(tc, test_strict_end_of_file, 0, 2);
	tcase_add_test(tc, test_direct_odd_size);
	tcase_add_test(tc, test_longer_than_a_transfer);
	tcase_add_test(tc, test_longer_than_a_transfer_in_one);
	tcase_add_test(tc, test_flags);
	tcase_add_test(tc, test_wrong_ranges);
	tcase_add_test(tc, test_read_only);
	tcase_add_loop_test(tc, test_zeroes_unmap, 0, 2);
	tcase_add_test(tc, test_zeroes_in_pieces);
	tcase_add_loop_test(tc, test_backlog, 0, 2);
	tcase_add_test(tc, test_early_failures_first);
	tcase_add_test(tc, test_destroy_with_requests);
	tcase_add_test(tc, test_destroy_closes);
	tcase_add_test(tc, test_do_io_arguments);
	tcase_add_loop_test(tc, test_completion_fd, 0, 2);
	tcase_add_test(tc, test_regions_replaced);
	tcase_add_test(tc, test_pin_refused);
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
