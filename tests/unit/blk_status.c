/* SPDX-License-Identifier: MIT */
/*
 * blk_status.c - status over the real drivers: what is told as zero reads as
 * zero, rounding to blocks, ends, and the door.
 *
 * Covers: BL-10
 */
#include "blk/status.h"

#include <errno.h>
#include <fcntl.h>

#include "base/range.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"

#define BLOCK 65536u /* no file system has larger ones */
#define BLOCKS 32
#define ODD 777 /* bytes behind the last block */
#define DISK_BYTES (BLOCK * BLOCKS + ODD)
#define HOLE (BLK_EXTENT_ZERO | BLK_EXTENT_HOLE)

static struct unit_disk d;
static char path[128];
static uint8_t model[DISK_BYTES];

static struct {
	uint64_t off, len;
	struct blk_extent extent;
	int ret;
	bool done;
} asked;

static void
ask_co(void *arg)
{
	co_assert();
	asked.ret = blk_co_status(d.q, asked.off, asked.len, &asked.extent);
	asked.done = true;
}

static struct blk_extent
status(uint64_t off, uint64_t len)
{
	asked.off = off;
	asked.len = len;
	unit_loop_co(&d.u, ask_co, NULL);
	ck_assert_int_eq(asked.ret, 0);
	return asked.extent;
}

static void
check_extent(uint64_t off, uint64_t len, uint64_t want_len, uint32_t want_flags)
{
	struct blk_extent e = status(off, len);

	ck_assert_msg(e.len == want_len && e.flags == want_flags,
		      "%llu+%llu: %llu bytes, flags %u, not %llu and %u", (unsigned long long)off,
		      (unsigned long long)len, (unsigned long long)e.len, e.flags,
		      (unsigned long long)want_len, want_flags);
}

static void
open_mem(void)
{
	static char text[24];
	static struct dev_prop size = { "size", text };
	const struct dev_config config = {
		.driver = "mem", .props = &size, .nprops = 1, .discard = true, .nqueues = 1,
	};

	snprintf(text, sizeof(text), "%u", DISK_BYTES);
	unit_disk_open(&d, &config);
	memset(model, 0, sizeof(model));
}

/* False when the file system has no direct I/O. */
static bool
open_file(enum dev_cache cache)
{
	const char *dir = getenv("TEST_TMP");
	static struct dev_prop path_prop = { "path", path };
	const struct dev_config config = {
		.driver = "io_uring", .props = &path_prop, .nprops = 1, .cache = cache,
		.discard = true, .nqueues = 1,
	};
	struct dev *dev;
	struct err err;
	int fd;

	snprintf(path, sizeof(path), "%s/blk_status.XXXXXX", dir ? dir : "/var/tmp");
	fd = mkstemp(path);
	ck_assert(fd >= 0);
	ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	memset(model, 0, sizeof(model));
	if (dev_open(&dev, &config, &err) < 0) {
		printf("cache %d: %s\n", cache, err.text);
		unlink(path);
		return false;
	}
	dev_close(dev);
	unit_disk_open(&d, &config);
	return true;
}

static void
close_file(void)
{
	unit_disk_close(&d);
	unlink(path);
}

/* --- Against what is there ---------------------------------------------------- */

/* Every extent from OFF to the end; the number of them with a hole. */
static unsigned
walk(uint64_t off)
{
	unsigned holes = 0;

	while (off < DISK_BYTES) {
		struct blk_extent e = status(off, DISK_BYTES - off);

		ck_assert(e.len > 0 && e.len <= DISK_BYTES - off);
		ck_assert(!(e.flags & BLK_EXTENT_END) == (off + e.len < DISK_BYTES));
		if (e.flags & BLK_EXTENT_ZERO) {
			holes++;
			for (uint64_t i = off; i < off + e.len; i++)
				if (model[i])
					ck_abort_msg("byte %llu is told as zero",
						     (unsigned long long)i);
		}
		off += e.len;
		ck_assert(dev_align_down(d.dev, off) == off);
	}
	return holes;
}

static void
random_changes(void)
{
	static uint8_t data[BLOCK];
	uint64_t seed = unit_seed();
	unsigned holes = 0;

	for (unsigned step = 0; step < 250; step++) {
		uint64_t off = unit_random(&seed) % DISK_BYTES;
		uint64_t len = 1 + unit_random(&seed) % MIN(DISK_BYTES - off, (uint64_t)BLOCK);

		memset(data, (int)(1 + step % 255), sizeof(data));
		switch (unit_random(&seed) % 4) {
		case 0:
			ck_assert_int_eq(unit_disk_write(&d, off, data, len, 0), 0);
			memset(model + off, data[0], len);
			break;
		case 1: /* from some block on, all */
			off = align_down(off, BLOCK);
			len = MIN(DISK_BYTES - off, (uint64_t)BLOCK * 3);
			ck_assert_int_eq(unit_disk_zeroes(&d, off, len, BLK_MAY_UNMAP), 0);
			memset(model + off, 0, len);
			break;
		case 2:
			ck_assert_int_eq(unit_disk_zeroes(&d, off, len, 0), 0);
			memset(model + off, 0, len);
			break;
		default:
			ck_assert_int_eq(unit_disk_read(&d, off, data, len), 0);
			ck_assert(memcmp(data, model + off, len) == 0);
			break;
		}
		holes += walk(unit_random(&seed) % 2 ? 0 : off);
	}
	printf("%u extents were zero\n", holes);
}

START_TEST(zero_is_zero)
{
	static const enum dev_cache caches[] = { DEV_CACHE_WRITEBACK, DEV_CACHE_NONE };

	open_mem();
	ck_assert_uint_eq(walk(0), 1);
	random_changes();
	unit_disk_close(&d);
	for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
		if (!open_file(caches[i]))
			continue;
		random_changes();
		close_file();
	}
}
END_TEST

/* --- Rounding ------------------------------------------------------------------- */

/* The RAM disk tells of pages; the device is said to have larger blocks. */
START_TEST(rounded_to_blocks)
{
	const uint64_t page = 4096, block = 4 * page, all = DISK_BYTES;

	open_mem();
	/* Block 0: hole, data. Block 1: data, hole. 2: hole, data, hole. 3: hole. */
	ck_assert_int_eq(unit_disk_write(&d, 3 * page, "x", 1, 0), 0);
	ck_assert_int_eq(unit_disk_write(&d, 4 * page, "x", 1, 0), 0);
	ck_assert_int_eq(unit_disk_write(&d, 9 * page, "x", 1, 0), 0);
	ck_assert_int_eq(unit_disk_write(&d, all - 2, "x", 1, 0), 0);
	check_extent(0, all, 3 * page, HOLE);
	check_extent(5 * page, all - 5 * page, 4 * page, HOLE);
	check_extent(10 * page - 5, 3, 3, 0);

	d.dev->limits.request_alignment = block;
	d.dev->tail_start = BLOCK * BLOCKS;
	check_extent(0, all, block, 0);
	check_extent(5, all - 5, block - 5, 0);
	check_extent(5, 7, 7, 0);
	check_extent(block, all - block, block, 0);
	check_extent(2 * block, all - 2 * block, block, 0);
	check_extent(3 * block, all - 3 * block, BLOCK * BLOCKS - 3 * block, HOLE);
	check_extent(3 * block + 1, 17, 17, HOLE);
	/* In the tail to the byte, as far as the driver goes. */
	check_extent(BLOCK * BLOCKS + 100, ODD - 100, ODD - 100, BLK_EXTENT_END);
	check_extent(BLOCK * BLOCKS + 100, 100, 100, 0);
	ck_assert_int_eq(unit_disk_discard(&d, BLOCK * BLOCKS - page, page, 0), 0);
	check_extent(BLOCK * BLOCKS - 1, 1 + ODD, 1, HOLE);
	d.dev->limits.request_alignment = 1;
	unit_disk_close(&d);
}
END_TEST

/* --- Ends ----------------------------------------------------------------------- */

static int
status_error(uint64_t off, uint64_t len)
{
	asked.off = off;
	asked.len = len;
	asked.extent.len = 4711;
	unit_loop_co(&d.u, ask_co, NULL);
	if (asked.ret < 0) /* written on success only */
		ck_assert_uint_eq(asked.extent.len, 4711);
	return asked.ret;
}

START_TEST(ends)
{
	open_mem();
	ck_assert_int_eq(status_error(0, DISK_BYTES + 1), -EIO);
	ck_assert_int_eq(status_error(DISK_BYTES, 1), -EIO);
	ck_assert_int_eq(status_error(DISK_BYTES + 1, 0), -EIO);
	ck_assert_int_eq(status_error(UINT64_MAX, 1), -EIO);
	ck_assert_int_eq(status_error(1, UINT64_MAX), -EIO);
	check_extent(DISK_BYTES, 0, 0, BLK_EXTENT_END);
	check_extent(5, 0, 0, 0);
	check_extent(0, DISK_BYTES, DISK_BYTES, HOLE | BLK_EXTENT_END);
	check_extent(0, DISK_BYTES - 1, DISK_BYTES - 1, HOLE);
	unit_disk_close(&d);
}
END_TEST

/* A file that has become shorter is not all zeroes from there on. */
START_TEST(a_file_that_shrinks)
{
	if (!open_file(DEV_CACHE_WRITEBACK))
		return;
	ck_assert_int_eq(truncate(path, BLOCK), 0);
	ck_assert_int_eq(status_error(BLOCK, BLOCK), -EIO);
	ck_assert_int_eq(unit_disk_read(&d, BLOCK, model, 1), -EIO);
	ck_assert_uint_le(status(0, DISK_BYTES).len, BLOCK);
	close_file();
}
END_TEST

/* --- The door ------------------------------------------------------------------- */

static void
begin_co(void *arg)
{
	co_assert();
	drain_co_begin(&d.dev->drain, d.u.loop);
}

START_TEST(waits_while_drained)
{
	struct co_group group;

	open_mem();
	co_group_init(&group);
	unit_loop_co(&d.u, begin_co, NULL);
	asked.off = 0;
	asked.len = 512;
	asked.done = false;
	unit_loop_spawn(&d.u, &group, ask_co, NULL);
	unit_loop_turns(&d.u, 20);
	ck_assert(!asked.done);
	drain_end(&d.dev->drain);
	unit_loop_until(&d.u, &asked.done);
	ck_assert_int_eq(asked.ret, 0);
	ck_assert_uint_eq(asked.extent.len, 512);
	unit_disk_close(&d);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), zero_is_zero, rounded_to_blocks, ends, a_file_that_shrinks,
	     waits_while_drained)
