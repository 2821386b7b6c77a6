/* SPDX-License-Identifier: MIT */
/*
 * drivers_status.c - what blkioq_ext_status() tells: of sparse files, of RAM
 * disks, at ends, and while somebody writes.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/annotate.h"
#include "base/range.h"
#include "blkio-ext.h"
#include "tests/lib/drv_dev.h"

#define BLOCK 65536 /* no file system has larger ones */
#define BLOCKS 96
#define SIZE ((uint64_t)BLOCK * BLOCKS)
#define HOLE (BLKIO_EXT_HOLE | BLKIO_EXT_ZERO)

static char *path;

static void
setup(void)
{
	path = drv_file(drv_dir(), SIZE);
}

static void
teardown(void)
{
	unlink(path);
	free(path);
}

static struct blkio_ext_extent
status(struct blkioq *q, uint64_t start, uint64_t len)
{
	struct blkio_ext_extent e = { 0 };

	drv_expect(blkioq_ext_status(q, start, len, &e), 0);
	ck_assert(e.len > 0 && e.len <= len);
	ck_assert(e.flags == 0 || e.flags == HOLE);
	return e;
}

static bool
is_hole(struct blkioq *q, uint64_t start)
{
	return status(q, start, 1).flags == HOLE;
}

/* Whether this file system tells anything at all: a file that is one hole. */
static bool
file_system_tells(struct blkioq *q)
{
	struct blkio_ext_extent e;

	return blkioq_ext_status(q, 0, SIZE, &e) == 0 && e.flags == HOLE;
}

static struct blkioq *
open_file(struct blkio **bp, const char *direct, const char *strict)
{
	struct blkioq *q;

	*bp = drv_connect("io_uring", "path", path, "direct", direct, "x-strict-eof", strict,
			  "num-queues", "2", NULL);
	q = drv_start(*bp);
	if (file_system_tells(q))
		return q;
	printf("this file system does not tell of holes\n");
	blkio_destroy(bp);
	return NULL;
}

/* --- Against a model --------------------------------------------------------- */

/*
 * Changes blocks at random. A block to which nothing was written since is told
 * as a hole, together with its neighbours; one that was written holds data
 * somewhere.
 */
static void
against_model(struct blkioq *q)
{
	uint64_t seed = drv_seed();
	unsigned char *buf = drv_alloc(4096, 4096);
	bool data[BLOCKS + 1] = { false };

	memset(buf, 1, 4096);
	for (unsigned step = 0; step < 300; step++) {
		uint64_t i = drv_between(&seed, 0, BLOCKS - 1);
		uint64_t at = i * BLOCK + align_down(drv_between(&seed, 0, BLOCK - 4096), 4096);

		data[i] = drv_between(&seed, 0, 2);
		if (data[i]) {
			drv_expect(drv_write(q, at, buf, 4096, 0), 0);
			ck_assert(!is_hole(q, at) && !is_hole(q, at + 4095));
		} else if (drv_between(&seed, 0, 1)) {
			drv_expect(drv_discard(q, i * BLOCK, BLOCK), 0);
		} else {
			drv_expect(drv_zeroes(q, i * BLOCK, BLOCK, 0), 0);
		}
		for (i = 0; i < BLOCKS; i++) {
			struct blkio_ext_extent e = status(q, i * BLOCK, SIZE - i * BLOCK);
			uint64_t n = i;

			while (n < BLOCKS && !data[n])
				n++;
			if (n > i)
				ck_assert(e.flags == HOLE && e.len >= (n - i) * BLOCK);
			else
				ck_assert(e.flags == 0 || e.len < BLOCK);
		}
	}
	free(buf);
}

/* No byte that was told to be zero is anything else. */
static void
check_against_reads(struct blkioq *q)
{
	unsigned char *buf = drv_alloc(4096, SIZE);

	drv_expect(drv_read(q, 0, buf, SIZE), 0);
	for (uint64_t at = 0; at < SIZE;) {
		struct blkio_ext_extent e = status(q, at, SIZE - at);

		if (e.flags == HOLE)
			drv_expect_bytes(buf + at, e.len, 0);
		at += e.len;
	}
	free(buf);
}

START_TEST(test_file)
{
	struct blkio *b;
	struct blkioq *q = open_file(&b, _i ? "true" : "false", "false");

	if (!q)
		return;
	against_model(q);
	check_against_reads(q);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_mem)
{
	struct blkio *b = drv_connect("mem", "size", "6291456", NULL);
	struct blkioq *q = drv_start(b);

	ck_assert_uint_eq(SIZE, 6291456);
	against_model(q);
	check_against_reads(q);
	blkio_destroy(&b);
}
END_TEST

/* --- RAM disks, page by page ------------------------------------------------- */

START_TEST(test_mem_pages)
{
	struct blkio *b = drv_connect("mem", "size", "1125899906842625", NULL); /* 2^50 + 1 */
	struct blkioq *q = drv_start(b);
	const uint64_t size = (UINT64_C(1) << 50) + 1;
	struct blkio_ext_extent e;

	e = status(q, 0, size);
	ck_assert(e.len == size && e.flags == HOLE);
	drv_expect(drv_write(q, 4095, "ab", 2, 0), 0);
	drv_expect(drv_write(q, size - 1, "c", 1, 0), 0);
	e = status(q, 0, size);
	ck_assert(e.len == 8192 && e.flags == 0);
	e = status(q, 100, 50);
	ck_assert(e.len == 50 && e.flags == 0);
	/* To the page that the last byte is in. */
	e = status(q, 8192, size - 8192);
	ck_assert(e.len == size - 8192 - 1 && e.flags == HOLE);
	e = status(q, size - 1, 1);
	ck_assert(e.len == 1 && e.flags == 0);

	/* Part of a page stays data, all of it does not. */
	drv_expect(drv_zeroes(q, 1, 4096, 0), 0);
	ck_assert(!is_hole(q, 0) && !is_hole(q, 4096));
	drv_expect(drv_zeroes(q, 0, 4096, BLKIO_REQ_NO_UNMAP), 0);
	ck_assert(!is_hole(q, 0));
	drv_expect(drv_zeroes(q, 0, 4096, 0), 0);
	ck_assert(is_hole(q, 0) && !is_hole(q, 4096));
	/* A chunk as a whole, and then a part of it again. */
	drv_expect(drv_discard(q, 0, 1 << 20), 0);
	ck_assert(is_hole(q, 4096));
	drv_expect(drv_write(q, 20000, "x", 1, 0), 0);
	e = status(q, 0, 1 << 20);
	ck_assert(e.len == 16384 && e.flags == HOLE);
	e = status(q, 16384, 1 << 20);
	ck_assert(e.len == 4096 && e.flags == 0);

	ck_assert_int_eq(blkioq_ext_status(q, size, 1, &e), -EINVAL);
	ck_assert_int_eq(blkioq_ext_status(q, 0, size + 1, &e), -EINVAL);
	ck_assert_int_eq(blkioq_ext_status(q, 0, 0, &e), -EINVAL);
	blkio_destroy(&b);
}
END_TEST

/* Much data is told in several answers: none of them takes long. */
START_TEST(test_mem_bounded)
{
	struct blkio *b = drv_connect("mem", "size", "4294967296", NULL);
	struct blkioq *q = drv_start(b);
	struct blkio_ext_extent e;
	uint64_t at = 0;

	for (uint64_t off = 0; off < UINT64_C(1) << 32; off += 1 << 20) {
		drv_expect(drv_write(q, off, "x", 1, 0), 0);
		drv_expect(drv_discard(q, off, 4096), 0);
	}
	e = status(q, 0, UINT64_C(1) << 32);
	ck_assert(e.flags == HOLE && e.len < UINT64_C(1) << 32);
	while (at < UINT64_C(1) << 32)
		at += status(q, at, (UINT64_C(1) << 32) - at).len;
	blkio_destroy(&b);
}
END_TEST

/* --- Ends and arguments ------------------------------------------------------- */

START_TEST(test_ends)
{
	bool strict = _i;
	struct blkio *b;
	struct blkioq *q = open_file(&b, "false", strict ? "true" : "false");
	struct blkio_ext_extent e;

	if (!q)
		return;
	ck_assert_int_eq(blkioq_ext_status(q, 0, 0, &e), -EINVAL);
	ck_assert_int_eq(blkioq_ext_status(q, 1, INT64_MAX, &e), -EINVAL);
	ck_assert_int_eq(blkioq_ext_status(q, UINT64_MAX, 1, &e), -EINVAL);

	/* Data up to the last byte, which is inside a block. */
	drv_expect(drv_write(q, SIZE, "x", 1, 0), 0);
	e = status(q, SIZE, 1);
	ck_assert_int_eq(e.flags, 0);
	e = status(q, 0, SIZE + 1);
	ck_assert(e.flags == HOLE && e.len <= SIZE && e.len > SIZE - BLOCK);

	ck_assert_int_eq(truncate(path, SIZE / 2 + 5), 0);
	e = status(q, 0, SIZE);
	ck_assert(e.flags == HOLE && e.len == SIZE / 2 + 5);
	if (strict) {
		ck_assert_int_eq(blkioq_ext_status(q, SIZE / 2 + 5, 1, &e), -EIO);
		ck_assert_int_eq(blkioq_ext_status(q, SIZE, 1, &e), -EIO);
	} else {
		/* As reads are answered there. */
		e = status(q, SIZE / 2 + 5, 12345);
		ck_assert(e.flags == HOLE && e.len == 12345);
	}
	blkio_destroy(&b);
}
END_TEST

/* The file offset of a descriptor that was given stays where it is. */
START_TEST(test_given_fd)
{
	struct blkio *b;
	struct blkioq *q;
	char text[16];
	int fd = open(path, O_RDWR | O_CLOEXEC), copy = dup(fd);

	ck_assert_int_eq(lseek(copy, 4711, SEEK_SET), 4711);
	snprintf(text, sizeof(text), "%d", fd);
	b = drv_connect("io_uring", "fd", text, NULL);
	q = drv_start(b);
	status(q, 0, SIZE);
	drv_expect(drv_write(q, BLOCK, "x", 1, 0), 0);
	ck_assert(!is_hole(q, BLOCK));
	ck_assert_int_eq(lseek(copy, 0, SEEK_CUR), 4711);
	blkio_destroy(&b);
	close(copy);
}
END_TEST

/* --- While somebody writes ---------------------------------------------------- */

/*
 * A block's state: its lowest bit is set while it is being changed, the next
 * one if it holds data, the rest counts. What was the same before and after a
 * call of status is what the call must not contradict.
 */
#define BUSY 1u
#define DATA 2u
#define STEP 4u

static _Atomic unsigned state[BLOCKS];
static atomic_bool stop;

struct writer {
	struct blkioq *q;
	uint64_t seed;
};

static void *
write_on(void *arg)
{
	struct writer *w = arg;
	unsigned char *buf = drv_alloc(4096, BLOCK);

	memset(buf, 1, BLOCK);
	while (!atomic_load(&stop)) {
		uint64_t i = drv_between(&w->seed, 0, BLOCKS - 1);
		unsigned was = atomic_load(&state[i]);
		bool data = drv_between(&w->seed, 0, 2);

		atomic_store(&state[i], was | BUSY);
		if (data)
			drv_expect(drv_write(w->q, i * BLOCK, buf, BLOCK,
					     drv_between(&w->seed, 0, 15) ? 0 : BLKIO_REQ_FUA), 0);
		else
			drv_expect(drv_zeroes(w->q, i * BLOCK, BLOCK, 0), 0);
		atomic_store(&state[i], (was & ~(STEP - 1)) + STEP + (data ? DATA : 0));
	}
	free(buf);
	return NULL;
}

static void
while_writing(struct blkio *b, unsigned rounds)
{
	struct writer w = { .q = blkio_get_queue(b, 1), .seed = drv_seed() };
	struct blkioq *q = blkio_get_queue(b, 0);
	uint64_t seed = ~w.seed;
	pthread_t thread;
	unsigned zeroes = 0, datas = 0;

	for (unsigned i = 0; i < BLOCKS; i++)
		atomic_store(&state[i], 0);
	atomic_store(&stop, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_on, &w), 0);
	while (rounds-- || !zeroes || !datas) {
		uint64_t start = drv_between(&seed, 0, SIZE - 1), end;
		unsigned before[BLOCKS];
		struct blkio_ext_extent e;

		for (unsigned i = 0; i < BLOCKS; i++)
			before[i] = atomic_load(&state[i]);
		e = status(q, start, SIZE - start);
		if (e.flags != HOLE) {
			datas++;
			continue;
		}
		end = start + e.len;
		for (uint64_t i = start / BLOCK; i * BLOCK < end; i++) {
			if (before[i] & BUSY || !(before[i] & DATA))
				continue;
			if (atomic_load(&state[i]) == before[i])
				ck_abort_msg("block %" PRIu64 " was written and told as a hole", i);
		}
		zeroes++;
	}
	atomic_store(&stop, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	check_against_reads(q);
}

START_TEST(test_file_while_writing)
{
	struct blkio *b;

	if (!open_file(&b, _i ? "true" : "false", "true"))
		return;
	while_writing(b, 20000);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_mem_while_writing)
{
	struct blkio *b = drv_connect("mem", "size", "6291456", "num-queues", "2", NULL);

	drv_start(b);
	while_writing(b, 20000);
	blkio_destroy(&b);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_status");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, test_file, 0, 2);
	tcase_add_test(tc, test_mem);
	tcase_add_test(tc, test_mem_pages);
	tcase_add_test(tc, test_mem_bounded);
	tcase_add_loop_test(tc, test_ends, 0, 2);
	tcase_add_test(tc, test_given_fd);
	tcase_add_loop_test(tc, test_file_while_writing, 0, 2);
	tcase_add_test(tc, test_mem_while_writing);
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
