/* SPDX-License-Identifier: MIT */
/*
 * drivers_tail.c - files whose size is no multiple of the request alignment,
 * with direct I/O: where their tail begins, what it takes, random requests on
 * both sides of its start, and a size that stays.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/annotate.h"
#include "base/range.h"
#include "blkio-ext.h"
#include "tests/lib/drv_model.h"

#define MIB (1 << 20)
#define ODD_SIZE (MIB + 3 * 512 + 77)

static char *path;

static void
teardown(void)
{
	if (path)
		unlink(path);
	free(path);
	path = NULL;
}

static uint64_t
file_size(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

/* What the file holds, read behind the library's back. */
static void
file_read(uint64_t off, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, buf, len, (off_t)off), (ssize_t)len);
	close(fd);
}

/* A new file of SIZE bytes, opened for direct I/O with its tail, connected. */
static struct blkio *
connect_file(uint64_t size, const char *tail)
{
	path = drv_file(drv_dir(), size);
	return drv_connect("io_uring", "path", path, "direct", "true", "x-buffered-tail", tail,
			   NULL);
}

static uint64_t
page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- Where it begins ------------------------------------------------------- */

START_TEST(test_start)
{
	static const uint64_t sizes[] = { 0, 1, 511, 512, 4095, 4096, 4097, 8191, ODD_SIZE, MIB };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct blkio *b = connect_file(sizes[i], "true");
		uint64_t align = (uint64_t)drv_get_int(b, "request-alignment");
		uint64_t start = drv_get_u64(b, BLKIO_EXT_TAIL_START);

		ck_assert_uint_eq(drv_get_u64(b, "capacity"), sizes[i]);
		ck_assert(drv_get_bool(b, "can-grow") == (start == UINT64_MAX));
		if (sizes[i] % align == 0) {
			ck_assert_uint_eq(start, UINT64_MAX);
		} else {
			ck_assert_uint_le(start, sizes[i]);
			ck_assert_uint_eq(start % align, 0);
			ck_assert_uint_eq(start % page_bytes(), 0);
			/* No more than a page and a block of the usual size. */
			ck_assert_uint_lt(sizes[i] - start, 65536);
		}
		blkio_destroy(&b);
		teardown();
	}
}
END_TEST

START_TEST(test_none)
{
	struct blkio *b = connect_file(ODD_SIZE, "false");
	bool on = true;

	ck_assert_uint_eq(drv_get_u64(b, BLKIO_EXT_TAIL_START), UINT64_MAX);
	drv_expect(blkio_set_bool(b, BLKIO_EXT_BUFFERED_TAIL, true), -EBUSY);
	drv_expect(blkio_set_uint64(b, BLKIO_EXT_TAIL_START, 0), -EACCES);
	blkio_destroy(&b);

	b = drv_connect("io_uring", "path", path, "x-buffered-tail", "true", NULL);
	ck_assert_uint_eq(drv_get_u64(b, BLKIO_EXT_TAIL_START), UINT64_MAX);
	ck_assert(drv_get_bool(b, "can-grow"));
	blkio_destroy(&b);

	drv_expect(blkio_create("io_uring", &b), 0);
	drv_expect(blkio_get_bool(b, BLKIO_EXT_BUFFERED_TAIL, &on), 0);
	ck_assert(!on);
	ck_assert_int_eq(blkio_get_uint64(b, BLKIO_EXT_TAIL_START, &(uint64_t){ 0 }), -ENODEV);
	blkio_destroy(&b);
	drv_expect(blkio_create("mem", &b), 0);
	ck_assert_int_eq(blkio_set_bool(b, BLKIO_EXT_BUFFERED_TAIL, true), -ENOENT);
	blkio_destroy(&b);
}
END_TEST

static unsigned
open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* A descriptor of the client's own has a tail as well; all are closed. */
START_TEST(test_given_fd)
{
	unsigned before = open_fds();
	struct blkio *b;
	struct blkioq *q;
	char fd[16], byte = 'x';

	path = drv_file(drv_dir(), ODD_SIZE);
	snprintf(fd, sizeof(fd), "%d", open(path, O_RDWR | O_DIRECT | O_CLOEXEC));
	b = drv_connect("io_uring", "fd", fd, "x-buffered-tail", "true", NULL);
	ck_assert_uint_lt(drv_get_u64(b, BLKIO_EXT_TAIL_START), ODD_SIZE);
	q = drv_start(b);
	drv_expect(drv_write(q, ODD_SIZE - 1, &byte, 1, 0), 0);
	byte = 0;
	drv_expect(drv_read(q, ODD_SIZE - 1, &byte, 1), 0);
	ck_assert_int_eq(byte, 'x');
	blkio_destroy(&b);
	ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(test_read_only)
{
	struct blkio *b;
	struct blkioq *q;
	char buf[77];

	path = drv_file(drv_dir(), ODD_SIZE);
	b = drv_connect("io_uring", "path", path, "direct", "true", "read-only", "true",
			"x-buffered-tail", "true", NULL);
	q = drv_start(b);
	drv_expect(drv_read(q, ODD_SIZE - 77, buf, 77), 0);
	drv_expect(drv_write(q, ODD_SIZE - 77, buf, 77, 0), -EBADF);
	drv_expect(drv_zeroes(q, ODD_SIZE - 77, 77, 0), -EBADF);
	blkio_destroy(&b);
}
END_TEST

/* --- What it takes --------------------------------------------------------- */

static void
refused(int ret, const char *msg)
{
	drv_expect(ret, -EINVAL);
	ck_assert_str_eq(drv_msg, msg);
}

static void
expect_refused(struct blkioq *q, uint64_t start, size_t len, const char *msg)
{
	unsigned char *buf = drv_alloc(4096, len);
	struct iovec iov[2] = { { buf, len / 2 }, { buf + len / 2, len - len / 2 } };

	refused(drv_read(q, start, buf, len), msg);
	refused(drv_write(q, start, buf, len, BLKIO_REQ_FUA), msg);
	blkioq_readv(q, start, iov, 2, &drv_msg, 0);
	refused(drv_wait(q), msg);
	blkioq_writev(q, start, iov, 2, &drv_msg, 0);
	refused(drv_wait(q), msg);
	refused(drv_zeroes(q, start, len, 0), msg);
	refused(drv_discard(q, start, len), msg);
	free(buf);
}

START_TEST(test_edges)
{
	const char *crossing = "a request must not cross property \"x-tail-start\"";
	const char *beyond = "invalid len or start offset";
	struct blkio *b = connect_file(ODD_SIZE, "true");
	struct blkioq *q = drv_start(b);
	uint64_t align = (uint64_t)drv_get_int(b, "request-alignment");
	uint64_t start = drv_get_u64(b, BLKIO_EXT_TAIL_START), len = ODD_SIZE - start;
	unsigned char *buf = drv_alloc(4096, 65536), got[16];
	struct iovec iov[3] = { { buf + 1, 1 }, { buf + 9, 0 }, { buf + 2, len - 3 } };

	ck_assert_uint_lt(start, ODD_SIZE);
	expect_refused(q, start - align, align + 1, crossing);
	expect_refused(q, start - 1, 2, crossing);
	expect_refused(q, start - align, align + len, crossing);
	expect_refused(q, start, len + 1, beyond);
	expect_refused(q, start - align, align + len + 1, beyond);
	expect_refused(q, ODD_SIZE, 2, beyond);
	expect_refused(q, 2 * ODD_SIZE, 512, beyond);
	drv_expect(drv_read(q, ODD_SIZE, buf, 0), 0);
	ck_assert_uint_eq(file_size(), ODD_SIZE);

	/* Up to it, from it on, and its last byte. */
	memset(buf, 'a', 65536);
	drv_expect(drv_write(q, start - align, buf, align, 0), 0);
	memset(buf, 'b', 65536);
	drv_expect(drv_write(q, start, buf + 3, len, BLKIO_REQ_FUA), 0);
	drv_expect(drv_write(q, ODD_SIZE - 1, "c", 1, 0), 0);
	drv_expect(drv_zeroes(q, start + 5, 2, BLKIO_REQ_FUA), 0);
	drv_expect(drv_zeroes(q, start + 8, 1, BLKIO_REQ_NO_UNMAP), 0);
	drv_expect(drv_discard(q, start + 10, 1), 0);
	drv_expect(drv_flush(q), 0);
	file_read(start - 2, got, sizeof(got));
	ck_assert_mem_eq(got, "aabbbbb\0\0b\0b\0bbb", 16);
	file_read(ODD_SIZE - 2, got, 2);
	ck_assert_mem_eq(got, "bc", 2);

	/* Segments of any length, too, in memory of any alignment. */
	memset(buf, 'd', 65536);
	blkioq_writev(q, start + 1, iov, 3, &drv_msg, BLKIO_REQ_FUA);
	drv_expect(drv_wait(q), 0);
	memset(buf, 0, 65536);
	blkioq_readv(q, start + 1, iov, 3, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);
	drv_expect_bytes(buf + 1, len - 2, 'd');
	file_read(start, got, 2);
	ck_assert_mem_eq(got, "bd", 2);
	ck_assert_uint_eq(file_size(), ODD_SIZE);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), ODD_SIZE);
	free(buf);
	blkio_destroy(&b);
}
END_TEST

/* A file that is all tail. */
START_TEST(test_small)
{
	struct blkio *b = connect_file(7, "true");
	struct blkioq *q = drv_start(b);
	char buf[8] = "";

	ck_assert_uint_eq(drv_get_u64(b, BLKIO_EXT_TAIL_START), 0);
	drv_expect(drv_write(q, 0, "1234567", 7, 0), 0);
	drv_expect(drv_zeroes(q, 2, 1, 0), 0);
	drv_expect(drv_write(q, 0, buf, 8, 0), -EINVAL);
	drv_expect(drv_read(q, 0, buf, 7), 0);
	ck_assert_mem_eq(buf, "12\0" "4567", 7);
	ck_assert_uint_eq(file_size(), 7);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_strict_end)
{
	struct blkio *b;
	struct blkioq *q;
	uint64_t start;
	char buf[16];

	path = drv_file(drv_dir(), ODD_SIZE);
	b = drv_connect("io_uring", "path", path, "direct", "true", "x-buffered-tail", "true",
			"x-strict-eof", "true", NULL);
	q = drv_start(b);
	start = drv_get_u64(b, BLKIO_EXT_TAIL_START);
	ck_assert_int_eq(truncate(path, (off_t)start + 8), 0);
	drv_expect(drv_read(q, start, buf, 8), 0);
	drv_expect(drv_read(q, start, buf, 16), -EIO);
	drv_expect(drv_read(q, start + 8, buf, 8), -EIO);
	drv_expect(drv_zeroes(q, start + 4, 8, 0), -EIO);
	ck_assert_uint_eq(file_size(), start + 8);
	blkio_destroy(&b);
}
END_TEST

/* --- Neighbours ------------------------------------------------------------ */

static void *
run_model(void *arg)
{
	drv_model_run(arg);
	return NULL;
}

/*
 * Two queues, one just below the start of the tail and one in it, at the same
 * time: neither may undo what the other has written.
 */
START_TEST(test_neighbours)
{
	struct blkio *b;
	struct drv_model m[2];
	pthread_t thread[2];
	uint64_t align, start, seed = drv_seed();

	path = drv_file(drv_dir(), ODD_SIZE);
	b = drv_connect("io_uring", "path", path, "direct", "true", "x-buffered-tail", "true",
			"num-queues", "2", NULL);
	align = (uint64_t)drv_get_int(b, "request-alignment");
	start = drv_get_u64(b, BLKIO_EXT_TAIL_START);
	drv_start(b);
	for (int i = 0; i < 2; i++) {
		m[i] = (struct drv_model){
			.q = blkio_get_queue(b, i),
			.base = i ? start : start - 32768,
			.size = i ? ODD_SIZE - start : 32768,
			.align = i ? 1 : align,
			.depth = 10,
			.requests = 1500,
			.len_max = 16384,
			.discard_zeroes = true,
			.refuses_zeroes = !drv_can_zero_range(drv_dir()),
			.seed = seed + (uint64_t)i,
		};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, run_model, &m[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
	for (int i = 0; i < 2; i++) {
		unsigned char *bytes = drv_alloc(1, m[i].size);

		drv_model_check(&m[i]);
		file_read(m[i].base, bytes, m[i].size);
		ck_assert_mem_eq(bytes, m[i].bytes, m[i].size);
		free(bytes);
		drv_model_release(&m[i]);
	}
	ck_assert_uint_eq(file_size(), ODD_SIZE);
	blkio_destroy(&b);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_tail");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_set_timeout(tc, 600);
	tcase_add_test(tc, test_start);
	tcase_add_test(tc, test_none);
	tcase_add_test(tc, test_given_fd);
	tcase_add_test(tc, test_read_only);
	tcase_add_test(tc, test_edges);
	tcase_add_test(tc, test_small);
	tcase_add_test(tc, test_strict_end);
	tcase_add_test(tc, test_neighbours);
	suite_add_tcase(s, tc);
	return s;
}

/* Whether files of tests lie where direct I/O is possible; else says so. */
static bool
direct_possible(void)
{
	char *name = drv_file(drv_dir(), 0);
	int fd = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		printf("no direct I/O in %s: %s\n", drv_dir(), strerror(errno));
	else
		close(fd);
	unlink(name);
	free(name);
	return fd >= 0;
}

int
main(void)
{
	SRunner *sr;
	int failed;

	if (!direct_possible())
		return 77;
	sr = srunner_create(suite());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
