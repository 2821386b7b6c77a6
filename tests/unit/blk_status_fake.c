/* SPDX-License-Identifier: MIT */
/*
 * blk_status_fake.c - status over a driver that says what the test wants, also
 * what no driver should.
 */
#include <errno.h>

#include "blk/status.h"
#include "blkio-ext.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"
#include "tests/lib/unit_fakeblkio.h"

#define HOLE (BLK_EXTENT_ZERO | BLK_EXTENT_HOLE)

static struct unit_disk d;
static struct blkio_ext_extent says;
static int says_ret;
static uint64_t asked_start, asked_len;

int
blkioq_ext_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	asked_start = start;
	asked_len = len;
	if (says_ret == 0)
		*extent = says;
	return says_ret;
}

static struct {
	uint64_t off, len;
	struct blk_extent extent;
	int ret;
} ask;

static void
ask_co(void *arg)
{
	co_assert();
	ask.ret = blk_co_status(d.q, ask.off, ask.len, &ask.extent);
}

static int
status(uint64_t off, uint64_t len, int ret, uint64_t says_len, uint32_t flags)
{
	status_punched(d.dev); /* nothing is remembered */
	says_ret = ret;
	says = (struct blkio_ext_extent){ .len = says_len, .flags = flags };
	ask.off = off;
	ask.len = len;
	unit_loop_co(&d.u, ask_co, NULL);
	return ask.ret;
}

static void
open_fake(void)
{
	const struct dev_config config = { .driver = "fake", .nqueues = 1 };

	unit_disk_open(&d, &config);
}

#define expect(len_, flags_) \
	do { \
		ck_assert_int_eq(ask.ret, 0); \
		ck_assert_uint_eq(ask.extent.len, (len_)); \
		ck_assert_uint_eq(ask.extent.flags, (flags_)); \
	} while (0)

START_TEST(words_of_the_driver)
{
	fake_reset();
	fake.request_alignment = 4096;
	open_fake();

	/* It is asked from a block on, for all there is. */
	status(5000, 10, 0, 4096, BLKIO_EXT_ZERO);
	expect(10, BLK_EXTENT_ZERO);
	ck_assert(asked_start == 4096 && asked_len == fake.capacity - 4096);
	status(5000, 4000, 0, 8192, BLKIO_EXT_ZERO | BLKIO_EXT_HOLE);
	expect(4000, HOLE);
	ck_assert(asked_start == 4096 && asked_len == fake.capacity - 4096);

	/* Holes that may read as anything are data. */
	status(0, 65536, 0, 8192, BLKIO_EXT_HOLE);
	expect(8192, 0);
	/* Ends inside a block. */
	status(0, 65536, 0, 8191, BLKIO_EXT_ZERO);
	expect(4096, BLK_EXTENT_ZERO);
	status(0, 65536, 0, 4095, BLKIO_EXT_ZERO);
	expect(4096, 0);
	status(0, 65536, 0, 4097, 0);
	expect(8192, 0);
	status(65536 - 1, 1, 0, 1, BLKIO_EXT_ZERO);
	expect(1, 0);

	/* Errors are data, but for one. */
	status(0, 65536, -ENOTSUP, 0, 0);
	expect(65536, 0);
	status(0, 65536, -EINVAL, 0, 0);
	expect(65536, 0);
	ck_assert_int_eq(status(0, 65536, -EIO, 0, 0), -EIO);
	/* Lengths that cannot be, too. */
	status(0, 65536, 0, 0, BLKIO_EXT_ZERO);
	expect(65536, 0);
	status(0, 65536, 0, fake.capacity + 1, BLKIO_EXT_ZERO);
	expect(65536, 0);
	status(0, 65536, 0, UINT64_MAX, BLKIO_EXT_ZERO);
	expect(65536, 0);

	status(fake.capacity - 4096, 4096, 0, 4096, BLKIO_EXT_ZERO);
	expect(4096, BLK_EXTENT_ZERO | BLK_EXTENT_END);
	unit_disk_close(&d);
}
END_TEST

/* Asks once more, from where data was told before. */
static bool
asks(uint64_t off)
{
	asked_len = 0;
	says_ret = 0;
	says = (struct blkio_ext_extent){ .len = 65536, .flags = BLKIO_EXT_ZERO };
	ask.off = off;
	ask.len = 4096;
	unit_loop_co(&d.u, ask_co, NULL);
	ck_assert_int_eq(ask.ret, 0);
	ck_assert_uint_eq(ask.extent.flags, asked_len ? BLK_EXTENT_ZERO : 0);
	return asked_len != 0;
}

static uint64_t now;

static uint64_t
clock_now(void *arg)
{
	return now;
}

/* Data is believed in for a while, and only where it was told; zeroes never are. */
START_TEST(data_is_remembered)
{
	fake_reset();
	open_fake();
	loop_assert();
	now = 1;
	loop_set_clock(d.u.loop, clock_now, NULL);

	status(8192, 4096, 0, 1 << 20, 0);
	expect(4096, 0);
	ck_assert(!asks(8192));
	ck_assert(!asks(8192 + (1 << 20) - 1));
	ck_assert(asks(8192 + (1 << 20)));
	ck_assert(asks(8191));
	/* A write changes nothing about it. */
	ck_assert_int_eq(unit_disk_write(&d, 16384, (const char[4096]){ 1 }, 4096, 0), 0);
	ck_assert(!asks(16384));

	ck_assert_int_eq(unit_disk_zeroes(&d, 16384, 4096, BLK_MAY_UNMAP), 0);
	ck_assert(asks(16384));
	status(8192, 4096, 0, 1 << 20, 0);
	ck_assert_int_eq(unit_disk_discard(&d, 16384, 4096, 0), 0);
	ck_assert(asks(16384));

	status(8192, 4096, 0, 1 << 20, 0);
	now += STATUS_AGE_NS - 1;
	ck_assert(!asks(8192));
	now += 1;
	ck_assert(asks(8192));
	ck_assert(asks(8192)); /* a zero is told, and not remembered */
	unit_disk_close(&d);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), words_of_the_driver, data_is_remembered)
