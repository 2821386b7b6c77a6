/* SPDX-License-Identifier: MIT */
/*
 * blk_dev_fake.c - opening a device whose properties the test invents.
 *
 * Covers: BL-1
 */
#include "blk/dev.h"

#include <errno.h>

#include "tests/lib/unit.h"
#include "tests/lib/unit_fakeblkio.h"

static struct dev_config config;

static void
reset(void)
{
	fake_reset();
	config = (struct dev_config){ .driver = "fake", .discard = true, .nqueues = 1 };
}

static void
check_refused(int code, const char *word, const char *word2)
{
	struct dev *dev = (struct dev *)1;
	struct err err = { 0 };
	int ret = dev_open(&dev, &config, &err);

	ck_assert_msg(ret == code, "%d: %s", ret, err.text);
	ck_assert_int_eq(err.code, code);
	ck_assert_msg(strstr(err.text, word) && strstr(err.text, word2), "%s", err.text);
	ck_assert_ptr_eq(dev, (struct dev *)1);
}

static void
check_opens(struct dev **devp)
{
	struct err err = { 0 };
	int ret = dev_open(devp, &config, &err);

	ck_assert_msg(ret == 0, "%s", err.text);
}

START_TEST(limits_are_read)
{
	struct dev *dev;

	reset();
	fake.request_alignment = 512;
	fake.optimal_io_size = 4096;
	fake.max_transfer = 131072;
	fake.max_segments = 17;
	fake.buf_alignment = 16;
	fake.optimal_buf_alignment = 4096;
	fake.discard_alignment = 1024;
	fake.max_discard = 1ull << 33;
	fake.max_write_zeroes = 1ull << 34;
	fake.flush_needed = false;
	fake.fua_native = true;
	check_opens(&dev);
	ck_assert_uint_eq(dev->size_bytes, FAKE_STORE_BYTES);
	ck_assert_uint_eq(dev->limits.request_alignment, 512);
	ck_assert_uint_eq(dev->limits.opt_transfer, 4096);
	ck_assert_uint_eq(dev->limits.max_transfer, 131072);
	ck_assert_uint_eq(dev->limits.max_segments, 17);
	ck_assert_uint_eq(dev->limits.mem_alignment, 16);
	ck_assert_uint_eq(dev->limits.opt_mem_alignment, 4096);
	ck_assert_uint_eq(dev->limits.discard_alignment, 1024);
	ck_assert_uint_eq(dev->limits.max_discard, 1ull << 33);
	ck_assert_uint_eq(dev->limits.max_write_zeroes, 1ull << 34);
	ck_assert(!dev->flush_needed && dev->fua_native);
	dev_close(dev);
}
END_TEST

/* Each of them, one at a time, is not there. */
START_TEST(a_property_is_missing)
{
	static const char *const names[] = {
		"capacity", "request-alignment", "optimal-io-size", "max-transfer", "max-segments",
		"buf-alignment", "optimal-buf-alignment", "discard-alignment", "max-discard-len", "max-write-zeroes-len",
		"flush-needed", "supports-fua-natively", "read-only",
	};
	struct dev *dev;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		reset();
		fake.missing = names[i];
		check_refused(-ENOENT, "property", names[i]);
	}
	reset();
	/* Not every driver has these. */
	fake.missing = "direct";
	check_opens(&dev);
	dev_close(dev);
	fake.missing = "num-entries";
	check_opens(&dev);
	dev_close(dev);
}
END_TEST

START_TEST(limits_that_cannot_be)
{
	reset();
	fake.max_transfer = -4096;
	check_refused(-EINVAL, "max-transfer is -4096", "negative");
	reset();
	fake.request_alignment = 24;
	check_refused(-EINVAL, "request-alignment is 24", "power of two");
	reset();
	fake.request_alignment = 0;
	check_refused(-EINVAL, "request-alignment is 0", "power of two");
	reset();
	fake.max_segments = 0;
	check_refused(-EINVAL, "max-segments is 0", "1");
	reset();
	fake.optimal_buf_alignment = 0;
	check_refused(-EINVAL, "optimal-buf-alignment is 0", "1 at least");
	reset();
	fake.request_alignment = 512;
	fake.max_discard = 513;
	check_refused(-EINVAL, "max-discard-len is 513", "request-alignment 512");
}
END_TEST

START_TEST(capacities)
{
	struct dev *dev;

	reset();
	fake.capacity = (uint64_t)INT64_MAX + 1;
	check_refused(-EFBIG, "9223372036854775808", "2^63-1");
	fake.capacity = UINT64_MAX;
	check_refused(-EFBIG, "18446744073709551615", "2^63-1");
	fake.capacity = INT64_MAX;
	check_opens(&dev);
	dev_close(dev);
	fake.capacity = 0;
	check_opens(&dev);
	dev_close(dev);
	fake.request_alignment = 4096;
	fake.capacity = 4096 * 3 + 512;
	check_refused(-EINVAL, "size 12800", "alignment 4096");
}
END_TEST

/* An optimum that fits no request is dropped, not refused; it is not forgotten. */
START_TEST(odd_optimum_is_ignored)
{
	struct dev *dev;

	reset();
	fake.request_alignment = 4096;
	fake.optimal_io_size = 512;
	check_opens(&dev);
	ck_assert_uint_eq(dev->limits.opt_transfer, 0);
	dev_close(dev);

	fake.optimal_io_size = 3 * 4096; /* no whole number of them fits */
	fake.max_transfer = 8 * 4096;
	check_opens(&dev);
	ck_assert_uint_eq(dev->limits.opt_transfer, 0);
	ck_assert_uint_eq(dev->dropped_opt_transfer, 3 * 4096);
	ck_assert_uint_eq(dev->limits.max_transfer, 8 * 4096);
	dev_close(dev);
}
END_TEST

START_TEST(failures_of_the_driver)
{
	reset();
	fake.connect_ret = -ENXIO;
	check_refused(-ENXIO, "the device is not there", "");
	reset();
	fake.start_ret = -EIO;
	check_refused(-EIO, "the device does not start", "");
}
END_TEST

/* Before connecting, or after it where only that works; extensions may be unknown. */
START_TEST(when_properties_are_set)
{
	struct dev_prop props[] = {
		{ "early", "1" }, { "late", "2" }, { "third", "3" }, { "num-entries", "32" }
	};
	struct dev *dev;

	reset();
	config.props = props;
	config.nprops = 4;
	config.cache = DEV_CACHE_NONE;
	config.read_only = true;
	config.nqueues = 3;
	check_opens(&dev);
	ck_assert_str_eq(fake.props, "direct=true read-only=true early=1 third=3 "
				     "+num-entries=256 +late=2 +num-entries=32 +num-queues=3 ");
	ck_assert_ptr_nonnull(dev_queue(dev, 2));
	dev_close(dev);

	fake_reset();
	props[2].name = "unknown";
	check_refused(-ENOENT, "unknown=3", "property");
}
END_TEST

/* What the operator's own properties say is what counts. */
START_TEST(properties_win)
{
	struct dev_prop props[] = { { "read-only", "true" }, { "direct", "true" } };
	struct dev *dev;

	reset();
	config.props = props;
	config.nprops = 2;
	check_opens(&dev);
	ck_assert(dev->read_only && dev->direct);
	dev_close(dev);
}
END_TEST

START_TEST(adding_queues_may_fail)
{
	struct blkioq *q = NULL;
	struct dev *dev;
	struct err err = { 0 };

	reset();
	check_opens(&dev);
	fake.add_queue_ret = -ENOSPC;
	ck_assert_int_eq(dev_add_queue(dev, &q, &err), -ENOSPC);
	ck_assert_ptr_null(q);
	ck_assert_ptr_nonnull(strstr(err.text, "no more queues"));
	dev_close(dev);
}
END_TEST

UNIT_MAIN(limits_are_read, a_property_is_missing, limits_that_cannot_be, capacities,
	  odd_optimum_is_ignored, failures_of_the_driver, when_properties_are_set,
	  properties_win, adding_queues_may_fail)
