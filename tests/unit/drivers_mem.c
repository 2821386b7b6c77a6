/* SPDX-License-Identifier: MIT */
/*
 * drivers_mem.c - the RAM disk: random requests against a model, threads,
 * sizes up to the largest, memory taken and given back, no memory left.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/lib/drv_model.h"

#define MIB (1 << 20)

/* Sanitizers have memory of their own for all memory: limits mean nothing. */
#ifdef __has_feature
#define FEATURE(x) __has_feature(x)
#else
#define FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	FEATURE(address_sanitizer) || FEATURE(thread_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static struct blkioq *
open_disk(struct blkio **b, uint64_t size, const char *queues)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	*b = drv_connect("mem", "size", text, "num-queues", queues, NULL);
	return drv_start(*b);
}

/* Bytes of memory this process has. */
static uint64_t
resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size, pages;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu %lu", &size, &pages), 2);
	fclose(f);
	return (uint64_t)pages * 4096;
}

START_TEST(test_random_mix)
{
	/* Where chunks and tree nodes meet, and at the very end. */
	static const uint64_t bases[] = {
		0, 3 * MIB - 1000, (UINT64_C(512) << 20) - MIB, (UINT64_C(1) << 47) - 12345,
		INT64_MAX - 5 * MIB,
	};
	struct blkio *b;
	struct drv_model m = {
		.base = bases[_i],
		.size = 5 * MIB,
		.align = 1,
		.depth = 40,
		.requests = 5000,
		.len_max = 3 * MIB,
		.discard_zeroes = true,
		.seed = drv_seed(),
	};

	m.q = open_disk(&b, _i ? INT64_MAX : 5 * MIB, "1");
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), _i ? INT64_MAX : 5 * MIB);
	drv_model_run(&m);
	drv_model_check(&m);
	drv_model_release(&m);
	blkio_destroy(&b);
}
END_TEST

static void *
run_model(void *arg)
{
	drv_model_run(arg);
	drv_model_check(arg);
	return NULL;
}

/* Two queues, whose bytes differ but whose chunks do not. */
START_TEST(test_two_threads)
{
	struct drv_model m[2];
	pthread_t thread[2];
	struct blkio *b;
	uint64_t seed = drv_seed();

	open_disk(&b, UINT64_C(1) << 50, "2");
	for (int i = 0; i < 2; i++) {
		m[i] = (struct drv_model){
			.q = blkio_get_queue(b, i),
			.base = 7 * MIB / 2 + (uint64_t)i * 2 * MIB + (unsigned)i,
			.size = 2 * MIB,
			.align = 1,
			.depth = 20,
			.requests = 2000,
			.len_max = MIB,
			.discard_zeroes = true,
			.seed = seed + (uint64_t)i,
		};
		ck_assert_int_eq(pthread_create(&thread[i], NULL, run_model, &m[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
		drv_model_release(&m[i]);
	}
	blkio_destroy(&b);
}
END_TEST

/* The same bytes from two threads: any of both, but never a third thing. */
static pthread_barrier_t both_run;

static void *
write_one_value(void *arg)
{
	struct blkioq *q = arg;
	static _Atomic int next;
	struct blkio_completion c[4];
	int value = ++next;
	char buf[5000], back[5000];

	memset(buf, value, sizeof(buf));
	pthread_barrier_wait(&both_run);
	for (int i = 0; i < 3000; i++) {
		blkioq_write(q, MIB - 2500, buf, sizeof(buf), NULL, 0);
		blkioq_discard(q, (uint64_t)(i % 50) * MIB / 16, MIB / 16, NULL, 0);
		blkioq_discard(q, MIB - 1000, 2000, NULL, 0);
		blkioq_read(q, MIB - 2500, back, sizeof(back), NULL, 0);
		if (blkioq_do_io(q, c, 4, 4, NULL) != 4)
			abort();
	}
	return NULL;
}

START_TEST(test_threads_collide)
{
	pthread_t thread[2];
	struct blkio *b;
	struct blkioq *q = open_disk(&b, 4 * MIB, "2");
	unsigned char buf[5000];

	pthread_barrier_init(&both_run, NULL, 2);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, write_one_value,
						blkio_get_queue(b, i)), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
	drv_expect(drv_read(q, MIB - 2500, buf, sizeof(buf)), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert(buf[i] <= 2);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_sizes)
{
	static const uint64_t sizes[] = {
		0, 1, 511, MIB - 1, MIB, MIB + 1, (UINT64_C(512) << 20) - 1, UINT64_C(512) << 20,
		(UINT64_C(512) << 20) + 1, UINT64_C(1) << 38, (UINT64_C(1) << 47) + 1, INT64_MAX,
	};
	uint64_t size = sizes[_i];
	struct blkio *b;
	struct blkioq *q = open_disk(&b, size, "1");
	unsigned char buf[2] = { 1, 2 };

	drv_expect(drv_read(q, size, buf, 0), 0);
	drv_expect(drv_read(q, size, buf, 1), -EINVAL);
	ck_assert_str_eq(drv_msg, "invalid len or start offset");
	drv_expect(drv_write(q, size, buf, 1, 0), -EINVAL);
	drv_expect(drv_read(q, UINT64_MAX, buf, 1), -EINVAL);
	drv_expect(drv_zeroes(q, 0, size + 1, 0), -EINVAL);
	drv_expect(drv_discard(q, size, 1), -EINVAL);
	drv_expect(drv_flush(q), 0);
	if (size) {
		/* No other place of the disk is the last byte, too. */
		for (uint64_t off = 0; off < size - 1; off = 2 * off + 1)
			drv_expect(drv_write(q, off, "\xee", 1, 0), 0);
		drv_expect(drv_read(q, size - 1, buf + 1, 1), 0);
		ck_assert_int_eq(buf[1], 0);
		drv_expect(drv_write(q, size - 1, buf, 1, BLKIO_REQ_FUA), 0);
		drv_expect(drv_read(q, size - 1, buf + 1, 1), 0);
		ck_assert_int_eq(buf[1], 1);
		/* The whole disk at once: time goes with what is there. */
		drv_expect(drv_discard(q, 0, size), 0);
		drv_expect(drv_zeroes(q, 0, size, 0), 0);
		drv_expect(drv_read(q, size - 1, buf, 1), 0);
		ck_assert_int_eq(buf[0], 0);
	}
	blkio_destroy(&b);
}
END_TEST

/* Memory comes with writing and goes with discards, in whole pages. */
START_TEST(test_memory)
{
	const uint64_t size = 256 * MIB;
	char *buf = drv_alloc(4096, MIB);
	struct blkio *b;
	struct blkioq *q = open_disk(&b, UINT64_C(1) << 60, "1");
	uint64_t before;

	memset(buf, 1, MIB);
	before = resident();
	drv_expect(drv_read(q, 1234567, buf, MIB), 0);
	memset(buf, 1, MIB);
	for (uint64_t off = 0; off < size; off += MIB)
		drv_expect(drv_write(q, off * 1000 + 4096, buf, MIB, 0), 0);
	ck_assert_uint_ge(resident(), before + size * 9 / 10);
	for (uint64_t off = 0; off < size; off += MIB) {
		drv_expect(_i ? drv_zeroes(q, off * 1000 + 8000, MIB - 8000,
					   BLKIO_REQ_NO_FALLBACK) :
				drv_discard(q, off * 1000 + 8000, MIB - 8000), 0);
	}
	ck_assert_uint_le(resident(), before + size / 10);
	drv_expect(drv_read(q, 0, buf, MIB), 0);
	drv_expect_bytes(buf, 4096, 0);
	drv_expect_bytes(buf + 4096, 8000 - 4096, 1);
	drv_expect_bytes(buf + 8000, MIB - 8000, 0);

	/* Kept, if so wished. */
	for (uint64_t off = 0; off < size; off += MIB)
		drv_expect(drv_write(q, off * 1000, buf, MIB, 0), 0);
	drv_expect(drv_zeroes(q, 0, size * 1000, BLKIO_REQ_NO_UNMAP), 0);
	ck_assert_uint_ge(resident(), before + size * 9 / 10);
	drv_expect(drv_zeroes(q, 0, size * 1000 + MIB, 0), 0);
	ck_assert_uint_le(resident(), before + size / 10);
	blkio_destroy(&b);
	free(buf);
}
END_TEST

/* No address space for more: the request fails, and the disk lives on. */
START_TEST(test_full)
{
	struct rlimit limit, old;
	struct blkio *b;
	struct blkioq *q = open_disk(&b, INT64_MAX, "1");
	char c = 1;
	uint64_t n = 0;
	int ret;

	ck_assert_int_eq(getrlimit(RLIMIT_AS, &old), 0);
	limit = old;
	limit.rlim_cur = UINT64_C(1) << 30;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	while (!(ret = drv_write(q, n * 3 * MIB, &c, 1, 0)))
		n++;
	drv_expect(ret, -ENOSPC);
	ck_assert_str_eq(drv_msg, "no memory for another chunk");
	ck_assert_uint_gt(n, 10);
	drv_expect(drv_write(q, 0, &c, 1, 0), 0);
	drv_expect(drv_discard(q, 0, MIB), 0);
	drv_expect(drv_write(q, n * 3 * MIB, &c, 1, 0), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_requests)
{
	struct blkio *b;
	struct blkioq *q;
	struct iovec iov[2];
	struct timespec ts = { 0, 0 };
	struct blkio_completion c[4];
	eventfd_t count;
	char buf[8] = "abcdefg";
	struct pollfd p = { .events = POLLIN };

	b = drv_connect("mem", "size", "4096", "read-only", "true", NULL);
	q = drv_start(b);
	drv_expect(drv_write(q, 0, buf, 1, 0), -EBADF);
	drv_expect(drv_zeroes(q, 0, 1, 0), -EBADF);
	drv_expect(drv_discard(q, 0, 1), -EBADF);
	drv_expect(drv_flush(q), 0);
	drv_expect(drv_read(q, 0, buf, 1), 0);
	blkio_destroy(&b);

	q = open_disk(&b, 4096, "1");
	drv_expect(drv_zeroes(q, 0, 0, 0), -EINVAL);
	drv_expect(drv_discard(q, 0, 0), -EINVAL);
	iov[0] = iov[1] = (struct iovec){ buf, SIZE_MAX / 2 + 1 };
	blkioq_readv(q, 0, iov, 2, &drv_msg, 0);
	drv_expect(drv_wait(q), -EINVAL);
	blkioq_readv(q, 0, iov, 1025, &drv_msg, 0);
	drv_expect(drv_wait(q), -EINVAL);
	blkioq_readv(q, 4096, NULL, 0, &drv_msg, 0);
	drv_expect(drv_wait(q), 0);

	/* Executed by do_io, not before; a wait never takes time. */
	memcpy(buf, "abcdefg", 8);
	blkioq_write(q, 0, buf, 8, (void *)1, 0);
	buf[0] = 'X';
	blkioq_write(q, 0, buf, 1, (void *)2, 0x80);
	drv_expect(blkioq_do_io(q, c, 3, 3, NULL), -EINVAL);
	drv_expect(blkioq_do_io(q, c, 2, 4, &ts), 2);
	ck_assert_ptr_eq(c[0].user_data, (void *)2);
	drv_expect(drv_read(q, 0, buf + 1, 1), 0);
	ck_assert_int_eq(buf[1], 'X');

	p.fd = blkioq_get_completion_fd(q);
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	blkioq_set_completion_fd_enabled(q, true);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	ck_assert_int_eq(eventfd_read(p.fd, &count), 0);
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, c, 0, 2, NULL), 2);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	blkioq_read(q, 0, buf, 1, NULL, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	ck_assert_int_eq(poll(&p, 1, 0), 1);
	/* Left behind: destroy takes it. */
	blkioq_read(q, 0, buf, 1, NULL, 0);
	blkio_destroy(&b);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_mem");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, test_random_mix, 0, 5);
	tcase_add_test(tc, test_two_threads);
	tcase_add_test(tc, test_threads_collide);
	tcase_add_loop_test(tc, test_sizes, 0, 12);
	if (!SANITIZED) {
		tcase_add_loop_test(tc, test_memory, 0, 2);
		tcase_add_test(tc, test_full);
	}
	tcase_add_test(tc, test_requests);
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
