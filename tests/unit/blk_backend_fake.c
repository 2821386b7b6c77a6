/* SPDX-License-Identifier: MIT */
/*
 * blk_backend_fake.c - what a backend counts, and when it stops and goes on.
 *
 * Covers: BL-14
 */
#include "blk/backend.h"

#include <errno.h>

#include "blk/io.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"
#include "tests/lib/unit_fakeblkio.h"

static struct unit_disk d;
static struct backend backend;
static struct backend_port port;
static uint8_t data[4096];
static int device_says; /* to writes and zeroes */
static int reads_say;
static bool gone; /* nobody waits for the answers */

static bool
is_gone(struct backend_client *c)
{
	return gone;
}

static struct backend_client client = { .gone = is_gone };

static int
result(const struct fake_call *call)
{
	return call->op == FAKE_READ ? reads_say : device_says;
}

static void
start(enum backend_policy policy)
{
	struct dev_config config = { .driver = "fake", .discard = true, .nqueues = 1 };

	fake_reset();
	device_says = reads_say = 0;
	unit_disk_open(&d, &config);
	fake.result = result;
	backend_init(&backend, "disk", d.dev, policy, policy);
	backend_port_init(&port, &backend, d.q);
}

static void
finish(void)
{
	ck_assert_uint_eq(fake_open(), 0);
	backend_port_fini(&port);
	backend_fini(&backend);
	unit_disk_close(&d);
}

struct call {
	enum backend_op op;
	uint64_t off;
	bool done;
	int ret;
};

static void
call_main(void *arg)
{
	struct call *c = arg;
	struct iovec iov = { data, sizeof(data) };

	co_assert();
	switch (c->op) {
	case BACKEND_READ:
		c->ret = backend_co_read(&port, c->off, &iov, 1, &client);
		break;
	case BACKEND_WRITE:
		c->ret = backend_co_write(&port, c->off, &iov, 1, 0, &client);
		break;
	case BACKEND_ZEROES:
		c->ret = backend_co_write_zeroes(&port, c->off, 4096, BLK_NO_FALLBACK, &client);
		break;
	case BACKEND_DISCARD:
		c->ret = backend_co_discard(&port, c->off, 4096, 0, &client);
		break;
	default:
		c->ret = backend_co_flush(&port, &client);
	}
	c->done = true;
}

static void
begin(struct call *c, enum backend_op op)
{
	*c = (struct call){ .op = op };
	unit_loop_spawn(&d.u, NULL, call_main, c);
	unit_loop_turns(&d.u, 4);
}

static int
run(enum backend_op op)
{
	struct call c;

	begin(&c, op);
	ck_assert_msg(c.done, "%s is held", backend_op_name(op));
	return c.ret;
}

START_TEST(everything_is_counted)
{
	struct backend_stats s;

	start(BACKEND_REPORT);
	for (enum backend_op op = 0; op < BACKEND_OPS; op++)
		for (unsigned n = 0; n <= (unsigned)op; n++)
			ck_assert_int_eq(run(op), 0);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	device_says = -ENOTSUP;
	ck_assert_int_eq(run(BACKEND_ZEROES), -ENOTSUP);
	/* An answer to the one, a failure of the other. */
	reads_say = -ENOTSUP;
	ck_assert_int_eq(run(BACKEND_READ), -ENOTSUP);
	loop_assert();
	backend_invalid(&port, BACKEND_READ);

	backend_stats(&backend, &s);
	ck_assert_uint_eq(s.of[BACKEND_READ].ops, 2);
	ck_assert_uint_eq(s.of[BACKEND_READ].bytes, 4096);
	ck_assert_uint_eq(s.of[BACKEND_READ].errors, 1);
	ck_assert_uint_eq(s.of[BACKEND_READ].invalid, 1);
	ck_assert_uint_eq(s.of[BACKEND_WRITE].ops, 3);
	ck_assert_uint_eq(s.of[BACKEND_WRITE].bytes, 2 * 4096);
	ck_assert_uint_eq(s.of[BACKEND_WRITE].errors, 1);
	ck_assert_uint_eq(s.of[BACKEND_ZEROES].ops, 4);
	ck_assert_uint_eq(s.of[BACKEND_ZEROES].bytes, 3 * 4096);
	ck_assert_uint_eq(s.of[BACKEND_ZEROES].errors, 0);
	ck_assert_uint_eq(s.of[BACKEND_DISCARD].bytes, 4 * 4096);
	ck_assert_uint_eq(s.of[BACKEND_FLUSH].ops, 5);
	ck_assert_uint_eq(s.of[BACKEND_FLUSH].bytes, 0);
	ck_assert_uint_eq(s.flushes_skipped, 4);

	/* A port that goes leaves what it counted. */
	backend_port_fini(&port);
	backend_stats(&backend, &s);
	ck_assert_uint_eq(s.of[BACKEND_WRITE].ops, 3);
	ck_assert_uint_eq(s.flushes_skipped, 4);
	backend_port_init(&port, &backend, d.q);
	finish();
}
END_TEST

START_TEST(latency)
{
	struct backend_stats s;
	struct call c;

	start(BACKEND_REPORT);
	fake.hold = true;
	begin(&c, BACKEND_READ);
	unit_loop_pass(&d.u, 5000);
	fake_finish(0, 0);
	for (int i = 0; i < 4; i++)
		unit_loop_pass(&d.u, UNIT_SECOND);
	fake.hold = false;
	ck_assert(c.done);
	backend_stats(&backend, &s);
	ck_assert_uint_ge(s.of[BACKEND_READ].latency_ns, 5000);
	ck_assert_uint_eq(s.of[BACKEND_READ].latency_ns, s.of[BACKEND_READ].latency_max_ns);
	finish();
}
END_TEST

START_TEST(report_answers_everything)
{
	start(BACKEND_REPORT);
	device_says = -ENOSPC;
	ck_assert_int_eq(run(BACKEND_WRITE), -ENOSPC);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	finish();
}
END_TEST

START_TEST(enospc_stops_there_only)
{
	struct call w, later;

	start(BACKEND_ENOSPC);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);

	device_says = -ENOSPC;
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done);
	ck_assert_int_eq(backend_status(&backend), BACKEND_NOSPACE);
	/* Everything waits, whatever it is; nothing goes down. */
	fake.ncalls = 0;
	begin(&later, BACKEND_READ);
	ck_assert(!later.done);
	ck_assert_uint_eq(fake.ncalls, 0);

	/* Told to go on too early: it stops again. */
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
	ck_assert(!w.done);
	ck_assert_int_eq(backend_status(&backend), BACKEND_NOSPACE);

	device_says = 0;
	backend_resume(&backend);
	backend_resume(&backend); /* twice at once does no harm */
	unit_loop_turns(&d.u, 6);
	ck_assert(w.done && w.ret == 0 && later.done && later.ret == 0);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	finish();
}
END_TEST

START_TEST(stop_stops_at_every_failure)
{
	struct call r, w;

	start(BACKEND_STOP);
	reads_say = -EIO;
	begin(&r, BACKEND_READ);
	ck_assert(!r.done);
	ck_assert_int_eq(backend_status(&backend), BACKEND_FAILED);
	reads_say = 0;
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
	ck_assert(r.done && r.ret == 0);

	/* Answers are no failures. */
	device_says = -ENOTSUP;
	ck_assert_int_eq(run(BACKEND_ZEROES), -ENOTSUP);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);

	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done);
	device_says = 0;
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
	ck_assert(w.done && w.ret == 0);
	finish();
}
END_TEST

START_TEST(flushes_are_always_answered)
{
	start(BACKEND_STOP);
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	/* And what the loss makes impossible from then on. */
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	finish();
}
END_TEST

START_TEST(nobody_waits_for_what_is_held)
{
	struct call w;

	start(BACKEND_STOP);
	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done);
	loop_assert();
	gone = true;
	backend_port_look(&port);
	unit_loop_turns(&d.u, 4);
	ck_assert(w.done && w.ret == -ESHUTDOWN);
	gone = false;
	/* It has stopped all the same. */
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done);
	device_says = 0;
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
	ck_assert(w.done && w.ret == 0);
	finish();
}
END_TEST

/* What needs no durability goes on as the policy says after a flush has failed. */
START_TEST(a_lost_write_leaves_the_policy_alone)
{
	struct call r;

	start(BACKEND_STOP);
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	reads_say = -EIO;
	begin(&r, BACKEND_READ);
	ck_assert(!r.done);
	reads_say = 0;
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
	ck_assert(r.done && r.ret == 0);
	finish();
}
END_TEST

static int told_lost;

static void
count_lost(struct backend *b, int ret)
{
	ck_assert_ptr_eq(b, &backend);
	ck_assert_int_eq(ret, -ENOSPC);
	told_lost++;
}

START_TEST(a_lost_write_is_told_once)
{
	start(BACKEND_REPORT);
	backend.lost = count_lost;
	told_lost = 0;
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	device_says = 0;
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	ck_assert_int_eq(told_lost, 0);
	device_says = -ENOSPC;
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	ck_assert_int_eq(told_lost, 1);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	ck_assert_int_eq(told_lost, 1);
	finish();
}
END_TEST

START_TEST(shutdown_fails_what_is_held)
{
	struct call w, later;

	start(BACKEND_STOP);
	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	begin(&later, BACKEND_READ);
	ck_assert(!w.done && !later.done);
	loop_assert();
	backend_port_stop(&port);
	unit_loop_turns(&d.u, 4);
	ck_assert(w.done && w.ret == -ESHUTDOWN);
	ck_assert(later.done && later.ret == -ESHUTDOWN);
	ck_assert_int_eq(run(BACKEND_READ), -ESHUTDOWN);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), everything_is_counted, latency, report_answers_everything,
	     enospc_stops_there_only, stop_stops_at_every_failure, flushes_are_always_answered,
	     nobody_waits_for_what_is_held, a_lost_write_leaves_the_policy_alone,
	     a_lost_write_is_told_once,
	     shutdown_fails_what_is_held)
