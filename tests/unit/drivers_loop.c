/* SPDX-License-Identifier: MIT */
/*
 * drivers_loop.c - the io_uring driver on block devices: loop devices with
 * blocks of 512 and 4096 bytes, buffered and direct. Skipped where no loop
 * device can be had.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/annotate.h"
#include "tests/lib/drv_model.h"

#define SIZE (4 << 20)

static char *file;       /* behind the device */
static char device[32];  /* /dev/loopN */
static int device_fd = -1;

/* A loop device over FILE; false, with errno, when there is none to be had. */
static bool
loop_open(const char *dir, unsigned block_size, uint32_t flags)
{
	struct loop_config config = {
		.block_size = block_size,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR | flags },
	};
	int control, n, fd, err;

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return false;
	file = drv_file(dir, SIZE);
	fd = open(file, O_RDWR | O_CLOEXEC);
	config.fd = (uint32_t)fd;
	/* Somebody else may take the free one first. */
	for (int tries = 0; device_fd < 0 && tries < 20; tries++) {
		n = ioctl(control, LOOP_CTL_GET_FREE);
		if (n < 0)
			break;
		snprintf(device, sizeof(device), "/dev/loop%d", n);
		device_fd = open(device, O_RDWR | O_CLOEXEC);
		if (device_fd < 0)
			break;
		if (ioctl(device_fd, LOOP_CONFIGURE, &config) < 0) {
			err = errno;
			close(device_fd);
			device_fd = -1;
			errno = err;
		}
	}
	err = errno;
	close(fd);
	close(control);
	errno = err;
	return device_fd >= 0;
}

/* The device goes with the last fd (autoclear). */
static void
loop_close(void)
{
	if (device_fd >= 0)
		close(device_fd);
	device_fd = -1;
	if (file)
		unlink(file);
	free(file);
	file = NULL;
}

static void
open_loop(unsigned block_size, uint32_t flags)
{
	if (!loop_open(drv_dir(), block_size, flags))
		ck_abort_msg("no loop device: %s", strerror(errno));
}

/* Mixed: block size, direct, own depth. */
static const struct mix {
	unsigned block;
	const char *direct, *entries, *pin;
	unsigned depth, requests;
} mixes[] = {
	{ 512, "false", "128", "false", 32, 1500 },
	{ 512, "true", "128", "true", 32, 1500 },
	{ 4096, "false", "8", "true", 64, 1500 },
	{ 4096, "true", "4", "false", 64, 1500 },
};

START_TEST(test_random_mix)
{
	const struct mix *mix = &mixes[_i];
	struct blkio_mem_region r;
	struct drv_model m = {
		.size = SIZE,
		.depth = mix->depth,
		.requests = mix->requests,
		.len_max = 200000,
		.seed = drv_seed(),
	};
	struct blkio *b;

	open_loop(mix->block, 0);
	b = drv_connect("io_uring", "path", device, "direct", mix->direct, "num-entries",
			mix->entries, "x-pin-mem-regions", mix->pin, NULL);
	m.align = (uint64_t)drv_get_int(b, "request-alignment");
	ck_assert_uint_eq(m.align, strcmp(mix->direct, "true") ? 1 : mix->block);
	drv_expect(blkio_alloc_mem_region(b, &r, 1 << 20), 0);
	m.q = drv_start(b);
	drv_expect(blkio_map_mem_region(b, &r), 0);
	m.memory = r.addr;
	m.memory_len = r.len;
	drv_model_run(&m);
	drv_model_check(&m);
	drv_model_release(&m);
	blkio_destroy(&b);
	loop_close();
}
END_TEST

START_TEST(test_properties)
{
	unsigned block = _i ? 4096 : 512;
	struct blkio *b;

	open_loop(block, LO_FLAGS_DIRECT_IO);
	b = drv_connect("io_uring", "path", device, "direct", "true", NULL);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), SIZE);
	ck_assert_int_eq(drv_get_int(b, "request-alignment"), (int)block);
	ck_assert_int_ge(drv_get_int(b, "optimal-io-alignment"), (int)block);
	ck_assert_int_ge(drv_get_int(b, "discard-alignment"), (int)block);
	ck_assert_int_eq(drv_get_int(b, "discard-alignment-offset"), 0);
	ck_assert(!drv_get_bool(b, "can-grow"));
	ck_assert(!drv_get_bool(b, "supports-poll-queues"));
	ck_assert(drv_get_bool(b, "direct"));
	/* A loop device has a cache that a flush empties. */
	ck_assert(drv_get_bool(b, "flush-needed"));
	blkio_destroy(&b);

	b = drv_connect("io_uring", "path", device, NULL);
	ck_assert_int_eq(drv_get_int(b, "request-alignment"), 1);
	ck_assert_int_eq(drv_get_int(b, "buf-alignment"), 1);
	blkio_destroy(&b);
	loop_close();
}
END_TEST

START_TEST(test_alignment)
{
	struct blkio *b;
	struct blkioq *q;
	char *buf = drv_alloc(4096, 8192);

	open_loop(4096, 0);
	b = drv_connect("io_uring", "path", device, "direct", "true", NULL);
	q = drv_start(b);
	drv_expect(drv_read(q, 0, buf, 512), -EINVAL);
	drv_expect(drv_read(q, 512, buf, 4096), -EINVAL);
	drv_expect(drv_write(q, 4096, buf, 4097, 0), -EINVAL);
	drv_expect(drv_zeroes(q, 512, 4096, 0), -EINVAL);
	ck_assert_str_eq(drv_msg, "start and len must be multiples of property "
				  "\"request-alignment\"");
	drv_expect(drv_read(q, 4096, buf, 4096), 0);
	blkio_destroy(&b);
	free(buf);
	loop_close();
}
END_TEST

/* Nothing grows; nothing is done beyond the end, or said to be. */
START_TEST(test_end_of_device)
{
	struct blkio *b;
	struct blkioq *q;
	char *buf = drv_alloc(4096, 8192);

	open_loop(512, 0);
	b = drv_connect("io_uring", "path", device, "direct", _i ? "true" : "false", NULL);
	q = drv_start(b);
	memset(buf, 5, 8192);
	drv_expect(drv_write(q, SIZE - 4096, buf, 4096, 0), 0);
	drv_expect(drv_read(q, SIZE - 4096, buf, 8192), -EIO);
	drv_expect(drv_read(q, SIZE, buf, 4096), -EIO);
	drv_expect(drv_write(q, SIZE, buf, 4096, 0), -ENOSPC);
	drv_expect(drv_zeroes(q, SIZE, 4096, 0), -EINVAL);
	drv_expect(drv_zeroes(q, SIZE - 4096, 8192, 0), -EINVAL);
	ck_assert_str_eq(drv_msg, "invalid len or start offset");
	drv_expect(drv_discard(q, SIZE - 4096, 8192), -EINVAL);
	memset(buf, 0, 8192);
	drv_expect(drv_read(q, SIZE - 4096, buf, 4096), 0);
	drv_expect_bytes(buf, 4096, 5);

	/* A device that has grown meanwhile is asked again. */
	ck_assert_int_eq(truncate(file, SIZE + 8192), 0);
	ck_assert_int_eq(ioctl(device_fd, LOOP_SET_CAPACITY), 0);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), SIZE + 8192);
	drv_expect(drv_zeroes(q, SIZE - 4096, 8192, 0), 0);
	drv_expect(drv_discard(q, SIZE, 8192), 0);
	blkio_destroy(&b);
	free(buf);
	loop_close();
}
END_TEST

static uint64_t
file_blocks(void)
{
	struct stat st;

	ck_assert_int_eq(stat(file, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(test_discard_and_zeroes)
{
	struct blkio *b;
	struct blkioq *q;
	char *buf = drv_alloc(4096, SIZE);

	open_loop(512, 0);
	b = drv_connect("io_uring", "path", device, "direct", _i ? "true" : "false", NULL);
	q = drv_start(b);
	memset(buf, 5, SIZE);
	drv_expect(drv_write(q, 0, buf, SIZE, BLKIO_REQ_FUA), 0);
	ck_assert_uint_ge(file_blocks(), SIZE);
	drv_expect(drv_discard(q, 0, SIZE / 4), 0);
	ck_assert_uint_le(file_blocks(), SIZE - SIZE / 4);
	drv_expect(drv_zeroes(q, SIZE / 4, SIZE / 4, BLKIO_REQ_NO_FALLBACK), 0);
	ck_assert_uint_le(file_blocks(), SIZE - SIZE / 2);
	drv_expect(drv_zeroes(q, SIZE / 2, SIZE / 4,
			      BLKIO_REQ_NO_FALLBACK | BLKIO_REQ_NO_UNMAP | BLKIO_REQ_FUA), 0);
	drv_expect(drv_read(q, 0, buf, SIZE), 0);
	drv_expect_bytes(buf + SIZE / 4, SIZE / 2, 0);
	drv_expect_bytes(buf + SIZE * 3 / 4, SIZE / 4, 5);
	blkio_destroy(&b);
	free(buf);
	loop_close();
}
END_TEST

/*
 * Buffered, a client need not know of blocks: parts of them are written by
 * write zeroes and kept by discard.
 */
START_TEST(test_parts_of_blocks)
{
	static const struct {
		unsigned start, len;
	} cases[] = {
		{ 1, 1 }, { 4095, 2 }, { 4095, 4097 }, { 1, 4095 }, { 0, 4095 }, { 100, 10000 },
		{ 4096, 4097 }, { 8191, 8193 }, { 4000, 8288 }, { 12288, 1 },
	};
	const size_t size = 65536;
	unsigned char *buf = drv_alloc(4096, size), *old = drv_alloc(4096, size);
	struct blkio *b;
	struct blkioq *q;

	open_loop(4096, 0);
	b = drv_connect("io_uring", "path", device, NULL);
	q = drv_start(b);
	memset(old, 5, size);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (uint32_t flags = 0; flags < 8; flags++) {
			unsigned start = cases[i].start, end = start + cases[i].len;

			drv_expect(drv_write(q, 0, old, size, 0), 0);
			drv_expect(drv_zeroes(q, start, end - start, flags), 0);
			drv_expect(drv_read(q, 0, buf, size), 0);
			drv_expect_bytes(buf, start, 5);
			drv_expect_bytes(buf + start, end - start, 0);
			drv_expect_bytes(buf + end, size - end, 5);

			drv_expect(drv_write(q, 0, old, size, 0), 0);
			drv_expect(drv_discard(q, start, end - start), 0);
			drv_expect(drv_read(q, 0, buf, size), 0);
			drv_expect_bytes(buf, start, 5);
			drv_expect_bytes(buf + end, size - end, 5);
			if (end / 4096 <= (start + 4095) / 4096)
				drv_expect_bytes(buf, size, 5);
		}
	}
	blkio_destroy(&b);
	free(buf);
	free(old);
	loop_close();
}
END_TEST

START_TEST(test_read_only_device)
{
	struct blkio *b;
	struct blkioq *q;

	open_loop(512, LO_FLAGS_READ_ONLY);
	b = drv_connect("io_uring", "path", device, "read-only", _i ? "true" : "false", NULL);
	ck_assert(drv_get_bool(b, "read-only"));
	q = drv_start(b);
	drv_expect(drv_write(q, 0, "x", 1, 0), -EBADF);
	ck_assert_str_eq(drv_msg, "device is read-only");
	drv_expect(drv_discard(q, 0, 512), -EBADF);
	blkio_destroy(&b);
	loop_close();
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_loop");
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, test_random_mix, 0, ARRAY_SIZE(mixes));
	tcase_add_loop_test(tc, test_properties, 0, 2);
	tcase_add_test(tc, test_alignment);
	tcase_add_loop_test(tc, test_end_of_device, 0, 2);
	tcase_add_loop_test(tc, test_discard_and_zeroes, 0, 2);
	tcase_add_test(tc, test_parts_of_blocks);
	tcase_add_loop_test(tc, test_read_only_device, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}

int
main(void)
{
	SRunner *sr;
	int failed;

	if (!loop_open(drv_dir(), 4096, 0)) {
		printf("skipped: no loop device: %s\n", strerror(errno));
		loop_close();
		return 77;
	}
	loop_close();
	sr = srunner_create(suite());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
