/* SPDX-License-Identifier: MIT */
/*
 * blk_flush_fake.c - which flushes go down to the device, and which need not.
 *
 * Covers: BL-8
 */
#include "blk/flush.h"

#include <errno.h>

#include "blk/io.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"
#include "tests/lib/unit_fakeblkio.h"

static struct unit_disk d;
static uint8_t data[4096];

static void
start(void)
{
	struct dev_config config = { .driver = "fake", .discard = true, .nqueues = 1 };

	fake_reset();
	unit_disk_open(&d, &config);
}

static void
finish(void)
{
	ck_assert_uint_eq(fake_open(), 0);
	unit_disk_close(&d);
}

static void
settle(void)
{
	unit_loop_turns(&d.u, 4);
}

static void
begin_flush(struct unit_request *r)
{
	*r = (struct unit_request){ .op = UNIT_FLUSH };
	unit_disk_start(&d, r);
	settle();
}

static void
write_block(void)
{
	ck_assert_int_eq(unit_disk_write(&d, 0, data, sizeof(data), 0), 0);
}

/* Ends call INDEX, as those that come one by one are numbered. */
static void
end(unsigned index, int ret)
{
	fake_finish(index, ret);
	/* Somebody has to look: the fake has no completion fd. */
	for (int i = 0; i < 4; i++)
		unit_loop_pass(&d.u, UNIT_SECOND);
}

START_TEST(nothing_new_no_flush)
{
	start();
	/* The first one may be of an earlier server's clients. */
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_str_eq(fake_text(), "flush, ");
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_uint_eq(fake.ncalls, 1);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_FLUSHES_SKIPPED), 1);

	write_block();
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 4096, 0), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, 0), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_read(&d, 0, data, sizeof(data)), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_str_eq(fake_text(), "flush, write 0+4096, flush, zeroes 0+4096 no-unmap, flush, "
				      "discard 0+4096, flush, read 0+4096, ");
	finish();
}
END_TEST

static int
writes_fail(const struct fake_call *call)
{
	return call->op == FAKE_WRITE ? -ENOSPC : 0;
}

START_TEST(a_failed_write_may_have_written)
{
	start();
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	fake.result = writes_fail;
	ck_assert_int_eq(unit_disk_write(&d, 0, data, sizeof(data), 0), -ENOSPC);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_str_eq(fake_text(), "flush, write 0+4096, flush, ");
	finish();
}
END_TEST

START_TEST(one_at_a_time_and_joined)
{
	struct unit_request f[4];

	start();
	write_block();
	fake.hold = true;
	for (int i = 0; i < 4; i++)
		begin_flush(&f[i]);
	ck_assert_uint_eq(fake.ncalls, 2);
	end(1, 0);
	for (int i = 0; i < 4; i++)
		ck_assert(f[i].done && f[i].ret == 0);
	ck_assert_uint_eq(fake.ncalls, 2);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_FLUSHES_JOINED), 3);
	fake.hold = false;
	finish();
}
END_TEST

/* What completes while a flush runs is not covered by it. */
START_TEST(a_flush_covers_what_was_before_it)
{
	struct unit_request first, second, third;
	struct iovec iov = { data, sizeof(data) };
	struct unit_request w = { .op = UNIT_WRITE, .iov = &iov, .iovcnt = 1 };

	start();
	write_block();
	fake.hold = true;
	begin_flush(&first);
	unit_disk_start(&d, &w);
	settle();
	ck_assert_uint_eq(fake.ncalls, 3);
	end(2, 0);
	ck_assert(w.done);
	begin_flush(&second);
	begin_flush(&third);
	ck_assert_uint_eq(fake.ncalls, 3); /* one at a time */
	end(1, 0);
	ck_assert(first.done && !second.done && !third.done);
	ck_assert_uint_eq(fake.ncalls, 4);
	end(3, 0);
	ck_assert(second.done && second.ret == 0 && third.done && third.ret == 0);
	ck_assert_uint_eq(fake.ncalls, 4);
	fake.hold = false;
	finish();
}
END_TEST

START_TEST(who_waits_for_one_that_fails)
{
	struct unit_request f[3];

	start();
	write_block();
	fake.hold = true;
	for (int i = 0; i < 3; i++)
		begin_flush(&f[i]);
	end(1, -EIO);
	for (int i = 0; i < 3; i++)
		ck_assert(f[i].done && f[i].ret == -EIO);
	ck_assert_uint_eq(fake.ncalls, 2);
	fake.hold = false;
	ck_assert_int_eq(unit_disk_flush(&d), -EIO);
	ck_assert_uint_eq(fake.ncalls, 2);
	finish();
}
END_TEST

/* Whichever sync hears of a loss: a flush that ran beside it says nothing else. */
START_TEST(beside_a_fua_that_fails)
{
	struct iovec iov = { data, sizeof(data) };

	for (unsigned first = 0; first < 2; first++) {
		struct unit_request f;
		struct unit_request w = {
			.op = UNIT_WRITE, .iov = &iov, .iovcnt = 1, .flags = BLK_FUA,
		};

		start();
		fake.hold = true;
		begin_flush(&f);
		unit_disk_start(&d, &w);
		settle();
		ck_assert_str_eq(fake_text(), "flush, write 0+4096 fua, ");
		end(first, first == 1 ? -EIO : 0);
		ck_assert(!f.done);
		end(1 - first, first == 0 ? -EIO : 0);
		ck_assert(f.done && w.done);
		ck_assert_int_eq(w.ret, -EIO);
		ck_assert_int_eq(f.ret, -EIO);
		fake.hold = false;
		finish();
	}
}
END_TEST

/* The changes of a queue that is gone stay counted: others' are on top of them. */
START_TEST(a_queue_that_goes)
{
	struct queue *other;
	struct err err;

	start();
	ck_assert_int_eq(queue_new(&other, d.dev, -1, d.u.loop, &err), 0);
	loop_assert();
	for (int i = 0; i < 3; i++)
		queue_changed(other);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	queue_free(other);
	/* Its going is no change. */
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_str_eq(fake_text(), "flush, ");
	write_block();
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_str_eq(fake_text(), "flush, write 0+4096, flush, ");
	finish();
}
END_TEST

/* A write that asked for durability by flush shares the flushes of others. */
START_TEST(fua_by_flush_joins)
{
	struct iovec iov[2] = { { data, 2048 }, { data + 2048, 2048 } };
	struct unit_request w[4];
	unsigned flushes = 0;

	fake_reset();
	fake.max_transfer = 2048;
	{
		struct dev_config config = { .driver = "fake", .nqueues = 1 };

		unit_disk_open(&d, &config);
	}
	for (int i = 0; i < 4; i++) {
		w[i] = (struct unit_request){ .op = UNIT_WRITE,
					      .off = (uint64_t)i * 4096,
					      .iov = iov,
					      .iovcnt = 2,
					      .flags = BLK_FUA };
		unit_disk_start(&d, &w[i]);
	}
	unit_loop_turns(&d.u, 20);
	for (int i = 0; i < 4; i++)
		ck_assert(w[i].done && w[i].ret == 0);
	for (unsigned i = 0; i < fake.ncalls; i++)
		flushes += fake.calls[i].op == FAKE_FLUSH;
	ck_assert_uint_ge(flushes, 1);
	ck_assert_uint_le(flushes, 2);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), nothing_new_no_flush, a_failed_write_may_have_written,
	     one_at_a_time_and_joined, a_flush_covers_what_was_before_it,
	     who_waits_for_one_that_fails, beside_a_fua_that_fails, a_queue_that_goes,
	     fua_by_flush_joins)
