/* SPDX-License-Identifier: MIT */
/*
 * blk_io_fake.c - the block API over a driver that the test controls: cutting,
 * errors, durability. The fake itself aborts when a request breaks a limit.
 *
 * Covers: R-97 R-102 R-109 BL-2 BL-13
 */
#include "blk/io.h"

#include <errno.h>
#include <limits.h>

#include "base/range.h"
#include "blk/slots.h"
#include "blk/status.h"
#include "blkio.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_alloc.h"
#include "tests/lib/unit_disk.h"
#include "tests/lib/unit_fakeblkio.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

static struct unit_disk d;
static uint8_t data[2 * MIB];
static struct dev_config config;

/* Sets the fake and the configuration back; then limits may be changed. */
static void
reset(void)
{
	fake_reset();
	config = (struct dev_config){ .driver = "fake", .discard = true, .nqueues = 1 };
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251 + 1);
}

static void
start(void)
{
	unit_disk_open(&d, &config);
}

static void
finish(void)
{
	ck_assert_uint_eq(fake_open(), 0);
	ck_assert_uint_eq(queue_inflight(d.q), 0);
	unit_disk_close(&d);
}

static void
forget(void)
{
	fake.ncalls = fake.open_max = 0;
}

/* What the driver was asked for since the last forget(). */
static void
check_calls(const char *text)
{
	ck_assert_str_eq(fake_text(), text);
	forget();
}

static void
settle(void)
{
	unit_loop_turns(&d.u, 4);
}

/* --- Whole requests --------------------------------------------------------- */

START_TEST(what_fits_goes_down_whole)
{
	uint8_t back[4096];

	reset();
	start();
	ck_assert_int_eq(unit_disk_write(&d, 8192, data, 4096, 0), 0);
	ck_assert(memcmp(fake.store + 8192, data, 4096) == 0);
	ck_assert_int_eq(unit_disk_read(&d, 8192, back, 4096), 0);
	ck_assert(memcmp(back, data, 4096) == 0);
	ck_assert_int_eq(unit_disk_read(&d, 1, back, 1), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	check_calls("write 8192+4096, read 8192+4096, read 1+1, flush, ");
	finish();
}
END_TEST

START_TEST(a_turn_is_one_batch)
{
	struct unit_request r[20];
	struct iovec iov = { data, 512 };

	reset();
	fake.hold = true;
	start();
	for (int i = 0; i < 20; i++) {
		r[i] = (struct unit_request){
			.op = UNIT_WRITE, .off = (uint64_t)i * 512, .iov = &iov, .iovcnt = 1,
		};
		unit_disk_start(&d, &r[i]);
	}
	fake.do_io_calls = 0;
	loop_turn(d.u.loop, false);
	ck_assert_uint_eq(fake.ncalls, 20);
	ck_assert_uint_eq(queue_inflight(d.q), 20);
	/* Submit, and once more after the completion fd was enabled. */
	ck_assert_uint_le(fake.do_io_calls, 2);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert(fake.calls[i].started && !r[i].done);
		fake_finish(i, i == 7 ? -EIO : 0);
	}
	settle();
	for (int i = 0; i < 20; i++) {
		ck_assert(r[i].done);
		ck_assert_int_eq(r[i].ret, i == 7 ? -EIO : 0);
	}
	finish();
}
END_TEST

/* Completions come one by one, in any order, while the loop sleeps. */
START_TEST(completions_in_any_order)
{
	struct unit_request r[8];
	struct iovec iov = { data, 512 };

	reset();
	fake.hold = true;
	start();
	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct unit_request){
			.op = UNIT_READ, .off = i * 512, .iov = &iov, .iovcnt = 1,
		};
		unit_disk_start(&d, &r[i]);
	}
	settle();
	for (unsigned k = 0; k < 8; k++) {
		unsigned i = k * 5 % 8;

		fake_finish(i, 0);
		unit_loop_until(&d.u, &r[i].done);
		for (unsigned j = k + 1; j < 8; j++)
			ck_assert(!r[j * 5 % 8].done);
	}
	finish();
}
END_TEST

/* In its first call, or in the second after it had something to submit again. */
START_TEST(a_driver_that_cannot_just_now)
{
	for (unsigned shorts = 0; shorts < 2; shorts++) {
		struct iovec iov = { data, 512 };
		struct unit_request r = { .op = UNIT_WRITE, .iov = &iov, .iovcnt = 1 };

		reset();
		start();
		fake.do_io_shorts = shorts;
		fake.do_io_ret = -EAGAIN;
		fake.do_io_fails = 3;
		unit_disk_start(&d, &r);
		settle();
		ck_assert(!r.done);
		for (int i = 0; i < 10 && !r.done; i++)
			unit_loop_pass(&d.u, UNIT_SECOND);
		ck_assert(r.done);
		ck_assert_int_eq(r.ret, 0);
		ck_assert_uint_eq(fake.do_io_fails, 0);
		finish();
	}
}
END_TEST

/* --- Polling ---------------------------------------------------------------- */

static uint64_t poll_clock; /* moves by a microsecond each time somebody looks */

static uint64_t
poll_now(void *arg)
{
	return poll_clock += 1000;
}

static void
nothing(struct loop_timer *timer)
{
}

/* A turn that may sleep; it ends for the timer, and time stands still while it sleeps. */
static void
turn_that_waits(struct loop_timer *late)
{
	loop_assert();
	loop_timer_arm(d.u.loop, late, UNIT_SECOND, nothing);
	loop_turn(d.u.loop, true);
	loop_timer_disarm(late);
}

#define POLL_NS 50000

/* A request that has been submitted and is held, on a loop that polls. */
static void
start_polling(struct unit_request *r)
{
	struct loop_timer late = { 0 };

	reset();
	start();
	loop_assert();
	loop_set_clock(d.u.loop, poll_now, NULL);
	loop_set_poll(d.u.loop, POLL_NS);
	while (loop_poll_ns(d.u.loop) < POLL_NS)
		turn_that_waits(&late);
	fake.hold = true;
	unit_disk_start(&d, r);
	settle();
	ck_assert_uint_eq(queue_inflight(d.q), 1);
}

struct releaser {
	struct loop_poller poller;
	unsigned looks;
};

/* Looks after the queue does. In its third look the device has finished. */
static bool
releaser_looks(struct loop_poller *poller)
{
	if (++container_of(poller, struct releaser, poller)->looks == 3)
		fake.hold = false;
	return false;
}

START_TEST(polling_finds_completions)
{
	static struct iovec iov = { data, 512 };
	struct unit_request r = { .op = UNIT_READ, .iov = &iov, .iovcnt = 1 };
	struct releaser last = { .poller.fn = releaser_looks };
	struct loop_timer late = { 0 };

	start_polling(&r);
	loop_poller_add(d.u.loop, &last.poller);
	turn_that_waits(&late);
	/* The queue found it, and nobody looked further. */
	ck_assert_uint_eq(queue_inflight(d.q), 0);
	ck_assert_uint_eq(last.looks, 3);
	settle();
	ck_assert(r.done && r.ret == 0);
	loop_assert();
	loop_poller_remove(&last.poller);
	finish();
}
END_TEST

/* The last look of all fails: what the driver was to submit again is not forgotten. */
START_TEST(a_driver_that_cannot_when_polling_ends)
{
	static struct iovec iov = { data, 512 };
	struct unit_request r = { .op = UNIT_READ, .iov = &iov, .iovcnt = 1 };
	struct loop_timer late = { 0 };

	start_polling(&r);
	fake.hold = false;
	fake.do_io_ret = -EAGAIN;
	fake.do_io_fails = UINT_MAX;
	turn_that_waits(&late);
	ck_assert_uint_lt(fake.do_io_fails, UINT_MAX);
	settle();
	ck_assert(!r.done);
	fake.do_io_fails = 0;
	poll_clock += UNIT_SECOND;
	settle();
	ck_assert(r.done && r.ret == 0);
	finish();
}
END_TEST

/* --- Cutting ---------------------------------------------------------------- */

START_TEST(max_transfer)
{
	reset();
	fake.request_alignment = 512;
	fake.max_transfer = 8192;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 512, data, 8192, 0), 0);
	check_calls("write 512+8192, ");
	ck_assert_int_eq(unit_disk_write(&d, 512, data, 8192 * 2 + 512, 0), 0);
	check_calls("write 512+8192, write 8704+8192, write 16896+512, ");
	ck_assert(memcmp(fake.store + 512, data, 8192 * 2 + 512) == 0);
	ck_assert_int_eq(unit_disk_read(&d, 0, data, 65536), 0);
	ck_assert_uint_eq(fake.ncalls, 8);
	ck_assert_uint_le(fake.open_max, 4);
	finish();
}
END_TEST

/* Segments end in the middle of blocks: what does not make a block goes back. */
START_TEST(max_segments_and_odd_segments)
{
	struct iovec iov[6] = {
		{ data, 100 }, { data + 100, 924 }, { data + 1024, 300 },
		{ data + 1324, 212 }, { data + 1536, 10 }, { data + 1546, 502 },
	};

	reset();
	fake.request_alignment = 512;
	fake.max_segments = 3;
	start();
	ck_assert_int_eq(unit_disk_run(&d, (struct unit_request){
			.op = UNIT_WRITE, .iov = iov, .iovcnt = 6 }), 0);
	/* 100 + 924 + 300 is two blocks and 300 bytes that go back. */
	check_calls("write 0+1024, write 1024+512, write 1536+512, ");
	ck_assert(memcmp(fake.store, data, 2048) == 0);
	finish();
}
END_TEST

/* There is no such piece: the block goes through memory of our own. */
START_TEST(a_block_in_too_many_segments)
{
	uint8_t want[1024];
	struct iovec iov[4] = {
		{ data, 512 }, { data + 512, 200 }, { data + 712, 200 }, { data + 912, 112 },
	};

	reset();
	memcpy(want, data, sizeof(want));
	fake.request_alignment = 512;
	fake.max_segments = 2;
	start();
	ck_assert_int_eq(unit_disk_run(&d, (struct unit_request){
			.op = UNIT_WRITE, .iov = iov, .iovcnt = 4 }), 0);
	check_calls("write 0+512, write 512+512, ");
	ck_assert(memcmp(fake.store, want, 1024) == 0);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_BOUNCE_BYTES), 512);
	memset(data, 0, 1024);
	ck_assert_int_eq(unit_disk_run(&d, (struct unit_request){
			.op = UNIT_READ, .iov = iov, .iovcnt = 4 }), 0);
	check_calls("read 0+512, read 512+512, ");
	ck_assert(memcmp(data, want, 1024) == 0);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_BOUNCE_BYTES), 1024);
	finish();
}
END_TEST

#define SPLIT_BYTES 16384

/* Cuts SPLIT_BYTES at BUF into segments; their number. */
static int
random_iov(uint64_t *seed, uint8_t *buf, struct iovec *iov, int max, unsigned len_max)
{
	size_t at = 0;
	int n = 0;

	while (at < SPLIT_BYTES) {
		size_t len = 1 + unit_random(seed) % len_max;

		if (n == max - 1 || len > SPLIT_BYTES - at)
			len = SPLIT_BYTES - at;
		iov[n++] = (struct iovec){ buf + at, len };
		at += len;
	}
	return n;
}

START_TEST(every_combination_of_limits)
{
	static const int aligns[] = { 1, 512 }, transfers[] = { 0, 1, 2, 7 };
	static const int segments[] = { 1, 2, 3, 7, 8 };
	static const unsigned lens[] = { 40, 700, 5000, 40000 };
	static uint8_t back[SPLIT_BYTES];
	static struct iovec iov[1024];
	uint64_t seed = unit_seed();
	unsigned bounced = 0, cut = 0;

	for (size_t a = 0; a < ARRAY_SIZE(aligns); a++)
	for (size_t t = 0; t < ARRAY_SIZE(transfers); t++)
	for (size_t s = 0; s < ARRAY_SIZE(segments); s++) {
		reset();
		fake.request_alignment = aligns[a];
		/* With alignment 1, pieces of single bytes would be too many. */
		fake.max_transfer = transfers[t] * (aligns[a] == 1 ? 97 : aligns[a]);
		fake.max_segments = segments[s];
		start();
		for (size_t l = 0; l < ARRAY_SIZE(lens); l++)
		for (int round = 0; round < 3; round++) {
			int n = random_iov(&seed, data, iov, 1024, lens[l]);
			/* In the second round the first and last block are not whole. */
			uint64_t off = 1024 + (unsigned)round % 2 * 77;
			int ret;

			forget();
			memset(fake.store, 0, SPLIT_BYTES * 2);
			ret = unit_disk_run(&d, (struct unit_request){
				.op = UNIT_WRITE, .off = off, .iov = iov, .iovcnt = n });
			ck_assert_int_eq(ret, 0);
			cut += fake.ncalls > 1;
			ck_assert(memcmp(fake.store + off, data, SPLIT_BYTES) == 0);
			ck_assert_uint_eq(fake.store[off - 1], 0);
			ck_assert_uint_eq(fake.store[off + SPLIT_BYTES], 0);
			forget();
			n = random_iov(&seed, back, iov, 1024, lens[l]);
			memset(back, 0, sizeof(back));
			ret = unit_disk_run(&d, (struct unit_request){
				.op = UNIT_READ, .off = off, .iov = iov, .iovcnt = n });
			ck_assert_int_eq(ret, 0);
			ck_assert(memcmp(back, data, SPLIT_BYTES) == 0);
		}
		bounced += queue_counter(d.q, QUEUE_BOUNCE_BYTES) > 0;
		finish();
	}
	ck_assert_uint_ge(bounced, 5);
	ck_assert_uint_ge(cut, 50);
}
END_TEST

/* --- Errors ----------------------------------------------------------------- */

static struct iovec long_iov = { data, 8 * 4096 };
static struct unit_request long_write = { .op = UNIT_WRITE, .iov = &long_iov, .iovcnt = 1 };

/* Eight pieces, of which four are in flight. */
static void
start_long_write(struct unit_request *r, unsigned flags)
{
	*r = long_write;
	r->flags = flags;
	unit_disk_start(&d, r);
	settle();
	ck_assert_uint_eq(fake.ncalls, 4);
}

static void
reset_for_pieces(void)
{
	reset();
	fake.max_transfer = 4096;
	fake.hold = true;
}

START_TEST(four_pieces_in_flight)
{
	struct unit_request r;

	reset_for_pieces();
	start();
	start_long_write(&r, 0);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert(!r.done);
		fake_finish(i, 0);
		settle();
		ck_assert_uint_eq(fake.ncalls, MIN(i + 5, 8u));
	}
	ck_assert(r.done);
	ck_assert_int_eq(r.ret, 0);
	ck_assert_uint_eq(fake.open_max, 4);
	ck_assert(memcmp(fake.store, data, 8 * 4096) == 0);
	finish();
}
END_TEST

START_TEST(first_error_is_kept)
{
	struct unit_request r;

	reset_for_pieces();
	start();
	start_long_write(&r, 0);
	fake_finish(0, 0);
	settle();
	ck_assert_uint_eq(fake.ncalls, 5);
	fake_finish(1, -ENOSPC);
	settle();
	ck_assert_uint_eq(fake.ncalls, 5); /* nothing new */
	ck_assert(!r.done);		   /* those in flight are waited for */
	fake_finish(2, -EIO);
	fake_finish(3, 0);
	settle();
	ck_assert(!r.done);
	fake_finish(4, -EPERM);
	settle();
	ck_assert(r.done);
	ck_assert_int_eq(r.ret, -ENOSPC);
	ck_assert_uint_eq(fake.ncalls, 5);
	finish();
}
END_TEST

/* The error is known, though an older piece is still under way. */
START_TEST(no_new_piece_after_an_error_out_of_order)
{
	struct unit_request r;

	reset_for_pieces();
	start();
	start_long_write(&r, 0);
	fake_finish(2, -ENOSPC);
	settle();
	fake_finish(0, 0);
	settle();
	ck_assert_uint_eq(fake.ncalls, 4);
	for (unsigned i = 0; i < fake.ncalls; i++)
		if (!fake.calls[i].finished)
			fake_finish(i, 0);
	settle();
	ck_assert(r.done);
	ck_assert_int_eq(r.ret, -ENOSPC);
	finish();
}
END_TEST

static uint64_t bad_offs[2];

static int
two_pieces_fail(const struct fake_call *call)
{
	return call->off == bad_offs[0] ? -EIO : call->off == bad_offs[1] ? -ENOSPC : 0;
}

/* Whichever of 64 pieces fails, and whichever second one. */
START_TEST(any_piece_may_fail)
{
	static const unsigned bad[] = { 0, 1, 2, 3, 4, 5, 31, 32, 62, 63 };

	for (size_t a = 0; a < ARRAY_SIZE(bad); a++)
	for (size_t b = 0; b < ARRAY_SIZE(bad); b++) {
		reset();
		fake.max_transfer = 32 * KIB;
		fake.result = two_pieces_fail;
		bad_offs[0] = bad[a] * 32 * KIB;
		bad_offs[1] = bad[b] * 32 * KIB;
		start();
		ck_assert_int_eq(unit_disk_write(&d, 0, data, 2 * MIB, 0),
				 a <= b ? -EIO : -ENOSPC);
		ck_assert_uint_le(fake.ncalls, MIN(bad[a], bad[b]) + 4);
		ck_assert_int_eq(unit_disk_read(&d, 0, data, 2 * MIB), a <= b ? -EIO : -ENOSPC);
		finish();
	}
}
END_TEST

START_TEST(checks_at_the_entry)
{
	uint64_t size;

	reset();
	fake.request_alignment = 512;
	start();
	size = FAKE_STORE_BYTES;
	/* Beyond the end. */
	ck_assert_int_eq(unit_disk_read(&d, size, data, 512), -EIO);
	ck_assert_int_eq(unit_disk_read(&d, size - 512, data, 1024), -EIO);
	ck_assert_int_eq(unit_disk_write(&d, UINT64_MAX - 511, data, 512, 0), -EIO);
	ck_assert_int_eq(unit_disk_zeroes(&d, 512, size, 0), -EIO);
	ck_assert_int_eq(unit_disk_zeroes(&d, 512, UINT64_MAX - 511, 0), -EIO);
	ck_assert_int_eq(unit_disk_discard(&d, size, 512, 0), -EIO);
	ck_assert_int_eq(unit_disk_zeroes(&d, size + 512, 0, 0), -EIO);
	/* That it is not aligned makes no difference. */
	ck_assert_int_eq(unit_disk_read(&d, size - 1, data, 2), -EIO);
	ck_assert_int_eq(unit_disk_write(&d, size - 511, data, 512, BLK_FUA), -EIO);
	ck_assert_int_eq(unit_disk_zeroes(&d, 1, size, 0), -EIO);
	ck_assert_int_eq(unit_disk_discard(&d, 5, UINT64_MAX, 0), -EIO);
	check_calls("");
	/* Up to the last byte. */
	ck_assert_int_eq(unit_disk_read(&d, size - 512, data, 512), 0);
	ck_assert_int_eq(unit_disk_write(&d, size - 1, data, 1, 0), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, size, 0), 0);
	finish();
}
END_TEST

struct detached {
	int read, write, zeroes, discard, flush, status;
};

static void
detached_main(void *arg)
{
	struct detached *x = arg;
	struct iovec iov = { data, 512 };
	struct blk_extent extent;

	co_assert();
	queue_co_detach(d.q);
	x->read = blk_co_read(d.q, 0, &iov, 1);
	x->write = blk_co_write(d.q, 0, &iov, 1, BLK_FUA);
	x->zeroes = blk_co_write_zeroes(d.q, 0, 512, 0);
	x->discard = blk_co_discard(d.q, 0, 512, 0);
	x->flush = blk_co_flush(d.q);
	x->status = blk_co_status(d.q, 0, 512, &extent);
}

/* What comes when the device is being closed. */
START_TEST(no_medium)
{
	struct detached x = { 0 };

	reset();
	start();
	forget();
	unit_loop_co(&d.u, detached_main, &x);
	ck_assert_int_eq(x.read, -ENOMEDIUM);
	ck_assert_int_eq(x.write, -ENOMEDIUM);
	ck_assert_int_eq(x.zeroes, -ENOMEDIUM);
	ck_assert_int_eq(x.discard, -ENOMEDIUM);
	ck_assert_int_eq(x.flush, -ENOMEDIUM);
	ck_assert_int_eq(x.status, -ENOMEDIUM);
	check_calls("");
	queue_free(d.q);
	dev_close(d.dev);
	unit_loop_close(&d.u);
}
END_TEST

START_TEST(read_only)
{
	reset();
	config.read_only = true;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 512, 0), -EPERM);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, BLK_FUA), -EPERM);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 512, 0), -EPERM);
	ck_assert_int_eq(unit_disk_discard(&d, 0, 512, 0), -EPERM);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	check_calls("");
	ck_assert_int_eq(unit_disk_read(&d, 0, data, 512), 0);
	finish();
}
END_TEST

START_TEST(zero_length)
{
	struct unit_request none = { .op = UNIT_READ, .off = 100 };

	reset();
	start();
	ck_assert_int_eq(unit_disk_run(&d, none), 0);
	none.op = UNIT_WRITE;
	ck_assert_int_eq(unit_disk_run(&d, none), 0);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, 0), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, FAKE_STORE_BYTES, 0, 0), 0);
	ck_assert_int_eq(unit_disk_discard(&d, 0, 0, 0), 0);
	check_calls("");
	none.flags = BLK_FUA;
	ck_assert_int_eq(unit_disk_run(&d, none), 0);
	check_calls("flush, ");
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 0, BLK_FUA), 0);
	check_calls("flush, ");
	ck_assert_int_eq(unit_disk_discard(&d, 0, 0, BLK_FUA), 0);
	check_calls("flush, ");
	finish();
}
END_TEST

/* --- Durability ------------------------------------------------------------- */

START_TEST(fua_is_carried_by_a_single_piece)
{
	reset();
	fake.max_transfer = 4096;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, BLK_FUA), 0);
	check_calls("write 0+4096 fua, ");
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 4096, BLK_FUA | BLK_MAY_UNMAP), 0);
	check_calls("zeroes 0+4096 fua, ");
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, 0), 0);
	check_calls("write 0+4096, ");
	finish();
}
END_TEST

START_TEST(fua_is_carried_by_every_native_piece)
{
	reset();
	fake.max_transfer = 4096;
	fake.max_write_zeroes = 4096;
	fake.fua_native = true;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 8192, BLK_FUA), 0);
	check_calls("write 0+4096 fua, write 4096+4096 fua, ");
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 8192, BLK_FUA), 0);
	check_calls("zeroes 0+4096 fua no-unmap, zeroes 4096+4096 fua no-unmap, ");
	finish();
}
END_TEST

START_TEST(one_flush_after_the_last_piece)
{
	struct unit_request r;

	reset_for_pieces();
	start();
	start_long_write(&r, BLK_FUA);
	/* The last piece overtakes the others: still no flush before them. */
	for (unsigned i = 0; i < 4; i++)
		fake_finish(i, 0);
	settle();
	ck_assert_uint_eq(fake.ncalls, 8);
	fake_finish(7, 0);
	fake_finish(6, 0);
	fake_finish(4, 0);
	settle();
	ck_assert_uint_eq(fake.ncalls, 8);
	fake_finish(5, 0);
	settle();
	ck_assert_uint_eq(fake.ncalls, 9);
	ck_assert_int_eq(fake.calls[8].op, FAKE_FLUSH);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(fake.calls[i].flags, 0);
	ck_assert(!r.done); /* it answers after the flush, not before */
	fake_finish(8, 0);
	settle();
	ck_assert(r.done);
	ck_assert_int_eq(r.ret, 0);
	finish();
}
END_TEST

START_TEST(no_flush_after_a_failed_piece)
{
	struct unit_request r;

	reset_for_pieces();
	start();
	start_long_write(&r, BLK_FUA);
	for (unsigned i = 0; i < 4; i++)
		fake_finish(i, i == 3 ? -ENOSPC : 0);
	settle();
	for (unsigned i = 4; i < fake.ncalls; i++)
		fake_finish(i, 0);
	settle();
	ck_assert(r.done);
	ck_assert_int_eq(r.ret, -ENOSPC);
	ck_assert_ptr_null(strstr(fake_text(), "flush"));
	ck_assert(!dev_flush_failed(d.dev));
	finish();
}
END_TEST

START_TEST(no_flush_where_none_is_needed)
{
	reset();
	fake.max_transfer = 4096;
	fake.flush_needed = false;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 8192, BLK_FUA), 0);
	check_calls("write 0+4096, write 4096+4096, ");
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, BLK_FUA), 0);
	check_calls("");
	finish();
}
END_TEST

START_TEST(write_through_and_unsafe)
{
	reset();
	fake.max_transfer = 4096;
	config.cache = DEV_CACHE_WRITETHROUGH;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, 0), 0);
	check_calls("write 0+4096 fua, ");
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 8192, 0), 0);
	check_calls("write 0+4096, write 4096+4096, flush, ");
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 4096, BLK_MAY_UNMAP), 0);
	check_calls("zeroes 0+4096 fua, ");
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, 0), 0);
	check_calls("");
	finish();

	reset();
	config.cache = DEV_CACHE_UNSAFE;
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, BLK_FUA), 0);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, BLK_FUA), 0);
	check_calls("write 0+4096, ");
	finish();
}
END_TEST

static int
flush_fails(const struct fake_call *call)
{
	return call->op == FAKE_FLUSH ? -ENOSPC : 0;
}

static int
writes_fail(const struct fake_call *call)
{
	return call->op == FAKE_WRITE ? -EIO : 0;
}

/* All that promises durability fails from now on; the rest goes on. */
static void
check_latched(void)
{
	fake.result = NULL;
	forget();
	ck_assert(dev_flush_failed(d.dev));
	ck_assert_int_eq(unit_disk_flush(&d), -EIO);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, BLK_FUA), -EIO);
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 0, BLK_FUA), -EIO);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 4096, BLK_FUA), -EIO);
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, BLK_FUA), -EIO);
	check_calls(""); /* the device is not asked again */
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, 0), 0);
	ck_assert_int_eq(unit_disk_read(&d, 0, data, 4096), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 4096, 0), 0);
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, 0), 0);
	ck_assert_uint_eq(fake.ncalls, 4);
}

START_TEST(a_failed_flush_latches)
{
	reset();
	start();
	fake.result = flush_fails;
	ck_assert_int_eq(unit_disk_flush(&d), -EIO);
	check_latched();
	finish();
	start(); /* opened again, it is forgotten */
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	finish();
}
END_TEST

START_TEST(a_failed_flush_behind_fua_latches)
{
	reset();
	fake.max_transfer = 4096;
	start();
	fake.result = flush_fails;
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 8192, BLK_FUA), -EIO);
	check_latched();
	finish();
}
END_TEST

static int fua_ret;

static int
fua_fails(const struct fake_call *call)
{
	return call->flags & BLKIO_REQ_FUA ? fua_ret : 0;
}

START_TEST(a_failed_fua_latches)
{
	for (int native = 0; native < 2; native++) {
		reset();
		fake.fua_native = native;
		start();
		fake.result = writes_fail;
		ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, 0), -EIO);
		ck_assert(!dev_flush_failed(d.dev)); /* a write of its own alone */
		/* Nothing was written: nobody else's data is lost with it. */
		fake.result = fua_fails;
		fua_ret = -ENOSPC;
		ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, BLK_FUA), -ENOSPC);
		ck_assert(!dev_flush_failed(d.dev));
		/* The write or its sync: it may have been the sync. */
		fua_ret = -EIO;
		ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, BLK_FUA), -EIO);
		check_latched();
		finish();
	}
}
END_TEST

/*
 * Syncs side by side: which of them hears of a loss is chance, so whoever
 * succeeds waits for those that were in flight beside it.
 */
static void
check_syncs(bool ok_first, int ret)
{
	struct iovec iov = { data, 4096 };
	struct unit_request a = { .op = UNIT_FLUSH };
	struct unit_request b = {
		.op = UNIT_WRITE, .iov = &iov, .iovcnt = 1, .flags = BLK_FUA,
	};

	reset();
	fake.hold = true;
	start();
	unit_disk_start(&d, &a);
	unit_disk_start(&d, &b);
	settle();
	ck_assert_str_eq(fake_text(), "flush, write 0+4096 fua, ");
	fake_finish(ok_first ? 1 : 0, ok_first ? 0 : ret);
	settle();
	ck_assert(!b.done);
	ck_assert(a.done == (!ok_first && ret < 0));
	fake_finish(ok_first ? 0 : 1, ok_first ? ret : 0);
	settle();
	ck_assert(a.done && b.done);
	ck_assert_int_eq(a.ret, ret);
	ck_assert_int_eq(b.ret, ret);
	finish();
}

START_TEST(syncs_side_by_side)
{
	check_syncs(false, -EIO);
	check_syncs(true, -EIO);
	check_syncs(false, 0);
	check_syncs(true, 0);
}
END_TEST

/* But nobody waits for a sync that began later: that could go on for ever. */
START_TEST(a_sync_does_not_wait_for_later_ones)
{
	struct iovec iov = { data, 4096 };
	struct unit_request a = {
		.op = UNIT_WRITE, .iov = &iov, .iovcnt = 1, .flags = BLK_FUA,
	}, b = a, c = a;

	reset();
	fake.hold = true;
	start();
	unit_disk_start(&d, &a);
	unit_disk_start(&d, &b);
	settle();
	fake_finish(1, 0);
	settle();
	unit_disk_start(&d, &c);
	settle();
	ck_assert(!a.done && !b.done && !c.done);
	fake_finish(0, 0);
	settle();
	ck_assert(b.done && !c.done);
	ck_assert_int_eq(b.ret, 0);
	fake_finish(2, 0);
	settle();
	ck_assert(a.done && c.done);
	finish();
}
END_TEST

/* Plain reads and writes wait for no sync. */
START_TEST(others_pass_a_sync)
{
	struct iovec iov = { data, 4096 };
	struct unit_request a = { .op = UNIT_FLUSH };
	struct unit_request b = { .op = UNIT_WRITE, .iov = &iov, .iovcnt = 1 };

	reset();
	fake.hold = true;
	start();
	unit_disk_start(&d, &a);
	unit_disk_start(&d, &b);
	settle();
	fake_finish(1, 0);
	settle();
	ck_assert(b.done && !a.done);
	fake_finish(0, 0);
	settle();
	ck_assert(a.done);
	finish();
}
END_TEST

/* --- Blocks that requests share --------------------------------------------- */

/* B begins when nothing of A is left: as many requests as FIRST has. */
static void
check_order(struct unit_request a, struct unit_request b, const char *first, const char *both)
{
	unsigned n;

	reset();
	fake.request_alignment = 4096;
	fake.hold = true;
	start();
	unit_disk_start(&d, &a);
	unit_disk_start(&d, &b);
	settle();
	for (n = 0; !a.done; n++) {
		ck_assert_uint_eq(fake.ncalls, n + 1);
		ck_assert(strncmp(first, fake_text(), strlen(fake_text())) == 0);
		fake_finish(n, 0);
		settle();
	}
	ck_assert(!b.done);
	for (; !b.done; n++) {
		fake_finish(n, 0);
		settle();
	}
	ck_assert_str_eq(fake_text(), both);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_WAITED), 1);
	finish();
}

START_TEST(a_shared_block_is_not_read_too_early)
{
	static struct iovec block = { data, 4096 }, few = { data, 12 };
	const struct unit_request whole = {
		.op = UNIT_WRITE, .off = 4096, .iov = &block, .iovcnt = 1,
	}, part = {
		.op = UNIT_WRITE, .off = 4196, .iov = &few, .iovcnt = 1,
	}, zeroes = {
		.op = UNIT_ZEROES, .off = 4097, .len = 10,
	}, discard = {
		.op = UNIT_DISCARD, .off = 4096, .len = 4096,
	};

	check_order(whole, part, "write 4096+4096, ",
		    "write 4096+4096, read 4096+4096, write 4096+4096, ");
	check_order(part, whole, "read 4096+4096, write 4096+4096, ",
		    "read 4096+4096, write 4096+4096, write 4096+4096, ");
	check_order(part, part, "read 4096+4096, write 4096+4096, ",
		    "read 4096+4096, write 4096+4096, read 4096+4096, write 4096+4096, ");
	check_order(zeroes, part, "read 4096+4096, write 4096+4096, ",
		    "read 4096+4096, write 4096+4096, read 4096+4096, write 4096+4096, ");
	check_order(discard, part, "discard 4096+4096, ",
		    "discard 4096+4096, read 4096+4096, write 4096+4096, ");
}
END_TEST

/* Reads and whole blocks need not wait for each other. */
START_TEST(what_need_not_wait)
{
	struct iovec block = { data, 4096 }, few = { data + 4096, 12 };
	struct unit_request a = { .op = UNIT_WRITE, .iov = &block, .iovcnt = 1 }, b = a;
	struct unit_request r = { .op = UNIT_READ, .off = 5, .iov = &few, .iovcnt = 1 };
	struct unit_request c = { .op = UNIT_WRITE, .off = 4096, .iov = &few, .iovcnt = 1 };

	reset();
	fake.request_alignment = 4096;
	fake.hold = true;
	start();
	unit_disk_start(&d, &a);
	unit_disk_start(&d, &b);
	unit_disk_start(&d, &r);
	unit_disk_start(&d, &c);
	settle();
	ck_assert_str_eq(fake_text(),
			 "write 0+4096, write 0+4096, read 0+4096, read 4096+4096, ");
	for (unsigned i = 0; i < 4; i++)
		fake_finish(i, 0);
	settle();
	fake_finish(4, 0);
	settle();
	ck_assert(a.done && b.done && c.done && r.done);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_WAITED), 0);
	finish();
}
END_TEST

/* --- Zeroes ----------------------------------------------------------------- */

START_TEST(zero_flags)
{
	reset();
	start();
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 512, 0), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 512, BLK_MAY_UNMAP), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 512, BLK_NO_FALLBACK), 0);
	check_calls("zeroes 0+512 no-unmap, zeroes 0+512, zeroes 0+512 no-unmap no-fallback, ");
	finish();

	reset();
	config.discard = false; /* the operator wants no holes */
	start();
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 512, BLK_MAY_UNMAP), 0);
	check_calls("zeroes 0+512 no-unmap, ");
	finish();
}
END_TEST

START_TEST(a_tebibyte_of_zeroes)
{
	reset();
	fake.capacity = 2 * TIB;
	start();
	ck_assert_int_eq(unit_disk_zeroes(&d, 4096, TIB, BLK_FUA), 0);
	ck_assert_uint_eq(fake.ncalls, 1025);
	ck_assert_uint_eq(fake.open_max, 1);
	for (unsigned i = 0; i < 1024; i++) {
		ck_assert_uint_eq(fake.calls[i].off, 4096 + i * GIB);
		ck_assert_uint_eq(fake.calls[i].len, GIB);
	}
	ck_assert_int_eq(fake.calls[1024].op, FAKE_FLUSH);
	finish();
}
END_TEST

START_TEST(zeroes_in_pieces)
{
	reset();
	fake.request_alignment = 512;
	fake.max_write_zeroes = 3 * MIB;
	start();
	ck_assert_int_eq(unit_disk_zeroes(&d, 512, 7 * MIB, BLK_MAY_UNMAP), 0);
	check_calls("zeroes 512+3145728, zeroes 3146240+3145728, zeroes 6291968+1048576, ");
	finish();
}
END_TEST

static int zeroes_ret;
static unsigned zeroes_allowed; /* before zeroes_ret */

static int
zeroes_fail(const struct fake_call *call)
{
	if (call->op != FAKE_ZEROES)
		return 0;
	if (zeroes_allowed > 0) {
		zeroes_allowed--;
		return 0;
	}
	return zeroes_ret;
}

START_TEST(zeroes_as_data)
{
	reset();
	start();
	fake.result = zeroes_fail;
	zeroes_ret = -ENOTSUP;
	zeroes_allowed = 0;
	memset(fake.store, 0xaa, FAKE_STORE_BYTES);
	ck_assert_int_eq(unit_disk_zeroes(&d, 1000, 3 * MIB + 7, BLK_FUA), 0);
	ck_assert_uint_eq(fake.store[999], 0xaa);
	for (uint64_t i = 1000; i < 1000 + 3 * MIB + 7; i++)
		if (fake.store[i] != 0)
			ck_abort_msg("byte %llu is not zero", (unsigned long long)i);
	ck_assert_uint_eq(fake.store[1000 + 3 * MIB + 7], 0xaa);
	check_calls("zeroes 1000+3145735 fua no-unmap, write 1000+1048576, write 1049576+1048576, "
		    "write 2098152+1048576, write 3146728+7, flush, ");
	finish();
}
END_TEST

START_TEST(zeroes_as_data_within_limits)
{
	reset();
	fake.request_alignment = 512;
	fake.max_transfer = 8192;
	fake.max_segments = 1;
	start();
	fake.result = zeroes_fail;
	zeroes_ret = -ENOTSUP;
	zeroes_allowed = 0;
	memset(fake.store, 0xaa, FAKE_STORE_BYTES);
	ck_assert_int_eq(unit_disk_zeroes(&d, 512, 256 * KIB, 0), 0);
	ck_assert_uint_eq(fake.ncalls, 1 + 32);
	ck_assert_uint_eq(fake.store[511], 0xaa);
	for (unsigned i = 512; i < 512 + 256 * KIB; i++)
		ck_assert(fake.store[i] == 0);
	ck_assert_uint_eq(fake.store[512 + 256 * KIB], 0xaa);
	finish();
}
END_TEST

START_TEST(no_fallback_leaves_the_contents)
{
	reset();
	fake.max_write_zeroes = 4096;
	start();
	fake.result = zeroes_fail;
	zeroes_ret = -ENOTSUP;
	zeroes_allowed = 0;
	memset(fake.store, 0xaa, 65536);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 16384, BLK_NO_FALLBACK | BLK_FUA), -ENOTSUP);
	check_calls("zeroes 0+4096 no-unmap no-fallback, ");
	for (int i = 0; i < 16384; i++)
		ck_assert_uint_eq(fake.store[i], 0xaa);

	/* Refused later than that, it is too late for a refusal. */
	zeroes_allowed = 2;
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 16384, BLK_NO_FALLBACK), 0);
	for (int i = 0; i < 16384; i++)
		ck_assert_uint_eq(fake.store[i], 0);
	finish();
}
END_TEST

START_TEST(other_errors_of_zeroes_are_results)
{
	reset();
	fake.max_write_zeroes = 4096;
	start();
	fake.result = zeroes_fail;
	zeroes_ret = -ENOSPC;
	zeroes_allowed = 1;
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, 16384, BLK_FUA), -ENOSPC);
	check_calls("zeroes 0+4096 no-unmap, zeroes 4096+4096 no-unmap, ");
	finish();
}
END_TEST

/* --- Discards --------------------------------------------------------------- */

/*
 * Up to the first unit, units, the rest: a device that frees units only says
 * EINVAL to the ends, as the fake does, and that is no error.
 */
START_TEST(discards_in_units_and_ends)
{
	static const struct {
		uint64_t off, len;
		const char *calls;
	} table[] = {
		{ 0, 4096, "discard 0+4096, " },
		{ 1, 4095, "discard 1+4095, " },
		{ 0, 4095, "discard 0+4095, " },
		{ 1, 4096, "discard 1+4095, discard 4096+1, " },
		{ 1, 8191, "discard 1+4095, discard 4096+4096, " },
		{ 4095, 4098, "discard 4095+1, discard 4096+4096, discard 8192+1, " },
		{ 4096, 8192, "discard 4096+8192, " },
		{ 4000, 20000, "discard 4000+96, discard 4096+16384, discard 20480+3520, " },
		{ 5 * MIB, 3 * MIB, "discard 5242880+3145728, " },
		{ FAKE_STORE_BYTES - 1, 1, "discard 8388607+1, " },
	};

	reset();
	fake.discard_alignment = 4096;
	start();
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		ck_assert_int_eq(unit_disk_discard(&d, table[i].off, table[i].len, 0), 0);
		check_calls(table[i].calls);
	}
	ck_assert_int_eq(unit_disk_discard(&d, 1, 5, BLK_FUA), 0);
	check_calls("discard 1+5, flush, ");
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, BLK_FUA), 0);
	check_calls("discard 0+4096, flush, ");
	finish();
}
END_TEST

/* Blocks that are not discarded as a whole are somebody else's too. */
START_TEST(discards_of_whole_blocks_only)
{
	static const struct {
		uint64_t off, len;
		const char *calls;
	} table[] = {
		{ 512, 1024, "discard 512+1024, " },
		{ 511, 1025, "discard 512+1024, " },
		{ 513, 1024, "discard 1024+512, " },
		{ 513, 511, "" },
		{ 1, 510, "" },
		{ 100, 9000, "discard 512+3584, discard 4096+4096, discard 8192+512, " },
		{ FAKE_STORE_BYTES - 513, 513, "discard 8388096+512, " },
	};

	reset();
	fake.request_alignment = 512;
	fake.discard_alignment = 4096;
	start();
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		ck_assert_int_eq(unit_disk_discard(&d, table[i].off, table[i].len, 0), 0);
		check_calls(table[i].calls);
	}
	/* Nothing to discard is still something to flush for. */
	ck_assert_int_eq(unit_disk_discard(&d, 1, 5, BLK_FUA), 0);
	check_calls("flush, ");
	finish();
}
END_TEST

START_TEST(discards_in_pieces)
{
	reset();
	fake.capacity = 4 * GIB;
	fake.discard_alignment = 4096;
	fake.max_discard = 10000; /* two units, not two and a half */
	start();
	ck_assert_int_eq(unit_disk_discard(&d, 0, 5 * 4096, 0), 0);
	check_calls("discard 0+8192, discard 8192+8192, discard 16384+4096, ");
	finish();

	reset();
	fake.capacity = 4 * GIB;
	start();
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4 * GIB, 0), 0);
	ck_assert_uint_eq(fake.ncalls, 4);
	ck_assert_uint_eq(fake.open_max, 1);
	finish();
}
END_TEST

static int discard_ret;

static int
discards_fail(const struct fake_call *call)
{
	return call->op == FAKE_DISCARD ? discard_ret : 0;
}

START_TEST(discard_is_a_hint)
{
	reset();
	start();
	fake.result = discards_fail;
	discard_ret = -ENOTSUP;
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, 0), 0);
	discard_ret = -EINVAL;
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, 0), -EINVAL);
	discard_ret = -EIO;
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, BLK_FUA), -EIO);
	ck_assert(!dev_flush_failed(d.dev));
	finish();

	/* Part of a unit may be refused as such. */
	reset();
	fake.request_alignment = 512;
	fake.discard_alignment = 4096;
	start();
	fake.result = discards_fail;
	discard_ret = -EINVAL;
	ck_assert_int_eq(unit_disk_discard(&d, 512, 1024, 0), 0);
	finish();

	reset();
	config.discard = false;
	start();
	ck_assert_int_eq(unit_disk_discard(&d, 0, 4096, 0), 0);
	check_calls("");
	finish();
}
END_TEST

/* Data that is zero in part only is data, whichever segment shows it. */
START_TEST(zeroes_in_segments)
{
	static uint8_t zero[16384], part[8192];
	struct iovec iov[3] = {
		{ zero, 512 }, { zero + 512, 8192 }, { zero + 8704, 7680 },
	};
	const struct unit_request write = { .op = UNIT_WRITE, .iov = iov, .iovcnt = 3 };

	reset();
	config.detect_zeroes = DEV_DETECT_ON;
	start();
	ck_assert_int_eq(unit_disk_run(&d, write), 0);
	check_calls("zeroes 0+16384 no-unmap, ");
	for (int i = 0; i < 3; i++) {
		void *was = iov[i].iov_base;

		/* In its last byte. */
		memset(part, 0, sizeof(part));
		part[iov[i].iov_len - 1] = 1;
		iov[i].iov_base = part;
		ck_assert_int_eq(unit_disk_run(&d, write), 0);
		check_calls("write 0+16384, ");
		/* In its first. */
		part[iov[i].iov_len - 1] = 0;
		part[0] = 1;
		ck_assert_int_eq(unit_disk_run(&d, write), 0);
		check_calls("write 0+16384, ");
		iov[i].iov_base = was;
	}
	finish();
}
END_TEST

/* --- Memory ----------------------------------------------------------------- */

/* The slots are whole multiples of the alignment that is heeded. */
static void
check_pads(int optimal, size_t slot_bytes)
{
	reset();
	fake.request_alignment = 512;
	fake.optimal_buf_alignment = optimal;
	start();
	ck_assert_uint_eq(queue_pads(d.q)->slot_bytes, slot_bytes);
	ck_assert(is_aligned((uint64_t)(uintptr_t)queue_pads(d.q)->mem, 4096));
	ck_assert_int_eq(unit_disk_write(&d, 100, data, 512, 0), 0);
	check_calls("read 0+1024, write 0+1024, ");
	finish();
}

START_TEST(pads_as_the_device_likes_them)
{
	check_pads(1, 1024);
	check_pads(2048, 2048);
	check_pads(4096, 4096);
	/* Too much memory for a wish; and one that is no alignment. */
	check_pads(8192, 1024);
	check_pads(1 << 20, 1024);
	check_pads(3000, 1024);
}
END_TEST

START_TEST(the_data_path_does_not_allocate)
{
	struct iovec iov = { data, 4096 };
	struct unit_request r[16];
	unsigned before, after;
	void *volatile p;

	reset();
	start();
	ck_assert_int_eq(unit_disk_write(&d, 0, data, 4096, 0), 0);
	/* The counter counts. */
	before = unit_allocs();
	p = malloc(1);
	free(p);
	ck_assert_uint_ge(unit_allocs(), before + 1);

	for (int round = 0; round < 2; round++) { /* the first one makes the stacks */
		before = unit_allocs();
		for (int i = 0; i < 200; i++) {
			forget();
			for (unsigned k = 0; k < 16; k++) {
				r[k] = (struct unit_request){
					.op = (enum unit_op)(k % 5),
					.off = k * 4096,
					.len = 4096,
					.iov = &iov,
					.iovcnt = 1,
					.flags = k % 2 ? BLK_FUA : 0,
				};
				unit_disk_start(&d, &r[k]);
			}
			unit_loop_turns(&d.u, 3);
		}
		after = unit_allocs();
	}
	ck_assert_uint_eq(after - before, 0);
	for (int k = 0; k < 16; k++)
		ck_assert(r[k].done && r[k].ret == 0);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), what_fits_goes_down_whole, a_turn_is_one_batch,
	     completions_in_any_order, a_driver_that_cannot_just_now, polling_finds_completions,
	     a_driver_that_cannot_when_polling_ends, max_transfer,
	     max_segments_and_odd_segments, a_block_in_too_many_segments,
	     every_combination_of_limits, four_pieces_in_flight, first_error_is_kept,
	     no_new_piece_after_an_error_out_of_order, any_piece_may_fail,
	     checks_at_the_entry, no_medium, read_only, zero_length,
	     fua_is_carried_by_a_single_piece, fua_is_carried_by_every_native_piece,
	     one_flush_after_the_last_piece, no_flush_after_a_failed_piece,
	     no_flush_where_none_is_needed, write_through_and_unsafe, a_failed_flush_latches,
	     a_failed_flush_behind_fua_latches, a_failed_fua_latches, syncs_side_by_side,
	     a_sync_does_not_wait_for_later_ones, others_pass_a_sync,
	     a_shared_block_is_not_read_too_early, what_need_not_wait, zero_flags,
	     a_tebibyte_of_zeroes, zeroes_in_pieces, zeroes_as_data, zeroes_as_data_within_limits,
	     no_fallback_leaves_the_contents, other_errors_of_zeroes_are_results,
	     discards_in_units_and_ends, discards_of_whole_blocks_only, discards_in_pieces,
	     discard_is_a_hint, zeroes_in_segments, pads_as_the_device_likes_them,
	     the_data_path_does_not_allocate)
