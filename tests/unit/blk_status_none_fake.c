/* SPDX-License-Identifier: MIT */
/* blk_status_none_fake.c - a driver library that has no status: all is data. */
#include "blk/status.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"
#include "tests/lib/unit_fakeblkio.h"

static struct unit_disk d;
static struct blk_extent extent;
static int ret;

static void
ask_co(void *arg)
{
	co_assert();
	ret = blk_co_status(d.q, 512, fake.capacity - 512, &extent);
}

START_TEST(all_is_data)
{
	const struct dev_config config = { .driver = "fake", .nqueues = 1 };

	fake_reset();
	unit_disk_open(&d, &config);
	unit_loop_co(&d.u, ask_co, NULL);
	ck_assert_int_eq(ret, 0);
	ck_assert_uint_eq(extent.len, fake.capacity - 512);
	ck_assert_uint_eq(extent.flags, BLK_EXTENT_END);
	unit_disk_close(&d);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), all_is_data)
