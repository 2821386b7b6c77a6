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

static bool gone_too; /* nor for those of the other one */

static bool
is_gone(struct backend_client *c)
{
	return gone;
}

static bool
is_gone_too(struct backend_client *c)
{
	return gone_too;
}

static struct backend_client client = { .gone = is_gone };
static struct backend_client other_client = { .gone = is_gone_too };

static int
result(const struct fake_call *call)
{
	return call->op == FAKE_READ ? reads_say : device_says;
}

static void
start_as(enum dev_cache cache, enum backend_policy on_read, enum backend_policy on_write)
{
	struct dev_config config = {
		.driver = "fake", .cache = cache, .discard = true, .nqueues = 1,
	};

	fake_reset();
	device_says = reads_say = 0;
	gone = gone_too = false;
	unit_disk_open(&d, &config);
	fake.result = result;
	backend_init(&backend, "disk", d.dev, on_read, on_write);
	backend_port_init(&port, &backend, d.q);
}

static void
start(enum backend_policy policy)
{
	start_as(DEV_CACHE_WRITEBACK, policy, policy);
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
	unsigned flags;
	struct backend_client *client;
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
		c->ret = backend_co_read(&port, c->off, &iov, 1, c->client);
		break;
	case BACKEND_WRITE:
		c->ret = backend_co_write(&port, c->off, &iov, 1, c->flags, c->client);
		break;
	case BACKEND_ZEROES:
		c->ret = backend_co_write_zeroes(&port, c->off, 4096,
						 c->flags | BLK_NO_FALLBACK, c->client);
		break;
	case BACKEND_DISCARD:
		c->ret = backend_co_discard(&port, c->off, 4096, c->flags, c->client);
		break;
	default:
		c->ret = backend_co_flush(&port, c->client);
	}
	c->done = true;
}

static void
begin_call(struct call *c, struct call as)
{
	*c = as;
	unit_loop_spawn(&d.u, NULL, call_main, c);
	unit_loop_turns(&d.u, 4);
}

static void
begin(struct call *c, enum backend_op op)
{
	begin_call(c, (struct call){ .op = op, .client = &client });
}

static int
run_with(enum backend_op op, unsigned flags)
{
	struct call c;

	begin_call(&c, (struct call){ .op = op, .flags = flags, .client = &client });
	ck_assert_msg(c.done, "%s is held", backend_op_name(op));
	return c.ret;
}

static int
run(enum backend_op op)
{
	return run_with(op, 0);
}

/* The reason is gone, and it is told so. */
static void
resume(void)
{
	device_says = reads_say = 0;
	backend_resume(&backend);
	unit_loop_turns(&d.u, 6);
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

START_TEST(counters_of_the_queue)
{
	struct backend_stats s;

	start(BACKEND_REPORT);
	loop_assert();
	queue_count(d.q, QUEUE_WAITED, 1);
	queue_count(d.q, QUEUE_RMW_HEADS, 2);
	queue_count(d.q, QUEUE_RMW_TAILS, 3);
	queue_count(d.q, QUEUE_FRAGMENTS, 4);
	queue_count(d.q, QUEUE_BOUNCE_BYTES, 5);
	queue_count(d.q, QUEUE_FLUSHES_SKIPPED, 6);
	queue_count(d.q, QUEUE_FLUSHES_JOINED, 7);
	/* Of this port, and once more when it counts among those that are gone. */
	for (unsigned n = 1; n <= 2; n++) {
		backend_stats(&backend, &s);
		ck_assert_uint_eq(s.waited, n * 1);
		ck_assert_uint_eq(s.rmw_heads, n * 2);
		ck_assert_uint_eq(s.rmw_tails, n * 3);
		ck_assert_uint_eq(s.fragments, n * 4);
		ck_assert_uint_eq(s.bounce_bytes, n * 5);
		ck_assert_uint_eq(s.flushes_skipped, n * 6);
		ck_assert_uint_eq(s.flushes_joined, n * 7);
		backend_port_fini(&port);
		backend_port_init(&port, &backend, d.q);
	}
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

START_TEST(what_is_no_space)
{
	static const int rets[] = { -ENOSPC, -EDQUOT, -EFBIG };

	start(BACKEND_ENOSPC);
	for (size_t i = 0; i < ARRAY_SIZE(rets); i++) {
		struct call w;

		device_says = rets[i];
		begin(&w, BACKEND_WRITE);
		ck_assert(!w.done);
		ck_assert_int_eq(backend_status(&backend), BACKEND_NOSPACE);
		resume();
		ck_assert(w.done && w.ret == 0);
	}
	finish();
}
END_TEST

/* Reads have a policy of their own; everything else has the other. */
START_TEST(two_policies)
{
	struct call c;

	start_as(DEV_CACHE_WRITEBACK, BACKEND_STOP, BACKEND_REPORT);
	device_says = reads_say = -EIO;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	ck_assert_int_eq(run(BACKEND_ZEROES), -EIO);
	ck_assert_int_eq(run(BACKEND_DISCARD), -EIO);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	begin(&c, BACKEND_READ);
	ck_assert(!c.done);
	resume();
	ck_assert(c.done && c.ret == 0);
	finish();

	start_as(DEV_CACHE_WRITEBACK, BACKEND_REPORT, BACKEND_STOP);
	for (enum backend_op op = BACKEND_WRITE; op <= BACKEND_DISCARD; op++) {
		device_says = reads_say = -EIO;
		ck_assert_int_eq(run(BACKEND_READ), -EIO);
		begin(&c, op);
		ck_assert_msg(!c.done, "%s is answered", backend_op_name(op));
		resume();
		ck_assert(c.done && c.ret == 0);
	}
	finish();
}
END_TEST

/* To try these again would end in the same. */
START_TEST(answers_in_every_policy)
{
	static const int rets[] = { -ENOMEDIUM, -EINVAL, -EPERM, -EBADF, -ENOTSUP };

	for (enum backend_policy policy = BACKEND_REPORT; policy <= BACKEND_STOP; policy++) {
		start(policy);
		for (size_t i = 0; i < ARRAY_SIZE(rets); i++) {
			device_says = reads_say = rets[i];
			ck_assert_int_eq(run(BACKEND_READ), rets[i]);
			ck_assert_int_eq(run(BACKEND_WRITE), rets[i]);
			ck_assert_int_eq(run(BACKEND_ZEROES), rets[i]);
			ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
		}
		finish();
	}
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

/* What is to be durable cannot be any more: to wait for it would be for ever. */
START_TEST(after_a_failed_flush_durability_is_refused)
{
	static const enum backend_op ops[] = { BACKEND_WRITE, BACKEND_ZEROES, BACKEND_DISCARD };
	struct call w;

	start(BACKEND_STOP);
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_FLUSH), -EIO);
	device_says = 0;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		ck_assert_int_eq(run_with(ops[i], BLK_FUA), -EIO);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	/* A write that promises nothing waits for the device, as before. */
	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done);
	resume();
	ck_assert(w.done && w.ret == 0);
	finish();
}
END_TEST

/* There every write promises it. */
START_TEST(the_same_with_write_through)
{
	struct call c;

	start_as(DEV_CACHE_WRITETHROUGH, BACKEND_STOP, BACKEND_STOP);
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	device_says = -EIO;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO); /* it, or the sync in it */
	ck_assert(dev_flush_failed(d.dev));
	device_says = 0;
	ck_assert_int_eq(run(BACKEND_WRITE), -EIO);
	ck_assert_int_eq(run(BACKEND_ZEROES), -EIO);
	ck_assert_int_eq(backend_status(&backend), BACKEND_OK);
	/* But reads do not, nor does a discard. */
	device_says = reads_say = -EIO;
	begin(&c, BACKEND_READ);
	ck_assert(!c.done);
	resume();
	ck_assert(c.done && c.ret == 0);
	device_says = -EIO;
	begin(&c, BACKEND_DISCARD);
	ck_assert(!c.done);
	resume();
	ck_assert(c.done && c.ret == 0);
	finish();
}
END_TEST

/* Its client has gone while it was held, and nobody has looked since. */
START_TEST(what_nobody_waits_for_is_not_tried_again)
{
	struct call w, other;

	start(BACKEND_STOP);
	device_says = -EIO;
	begin_call(&other, (struct call){ .op = BACKEND_WRITE, .client = &other_client });
	begin(&w, BACKEND_WRITE);
	ck_assert(!w.done && !other.done);
	gone = true;
	fake.ncalls = 0;
	resume();
	ck_assert(w.done && w.ret == -ESHUTDOWN);
	ck_assert(other.done && other.ret == 0);
	ck_assert_str_eq(fake_text(), "write 0+4096, ");
	/* Who was not held is done, whether somebody waits or not. */
	ck_assert_int_eq(run(BACKEND_WRITE), 0);
	finish();
}
END_TEST

START_TEST(it_is_looked_once_a_second)
{
	struct call w, other, nobodys;

	start(BACKEND_STOP);
	device_says = -EIO;
	begin_call(&nobodys, (struct call){ .op = BACKEND_WRITE });
	begin_call(&other, (struct call){ .op = BACKEND_WRITE, .client = &other_client });
	/* Whoever comes in the meantime puts nothing off. */
	unit_loop_pass(&d.u, UNIT_SECOND / 2);
	begin(&w, BACKEND_WRITE);
	gone_too = true;
	unit_loop_pass(&d.u, UNIT_SECOND / 2);
	ck_assert(other.done && other.ret == -ESHUTDOWN);
	gone_too = false;
	begin_call(&other, (struct call){ .op = BACKEND_WRITE, .client = &other_client });
	for (int i = 0; i < 3; i++)
		unit_loop_pass(&d.u, UNIT_SECOND);
	ck_assert(!w.done && !other.done && !nobodys.done);
	gone = true;
	unit_loop_pass(&d.u, UNIT_SECOND - 1);
	ck_assert(!w.done);
	unit_loop_pass(&d.u, 1);
	ck_assert(w.done && w.ret == -ESHUTDOWN);
	ck_assert(!other.done);
	/* And again. */
	gone_too = true;
	unit_loop_pass(&d.u, UNIT_SECOND);
	ck_assert(other.done && other.ret == -ESHUTDOWN);
	ck_assert(!nobodys.done);
	/* As long as somebody is held. */
	ck_assert(list_linked(&port.look.link));
	resume();
	ck_assert(nobodys.done && nobodys.ret == 0);
	ck_assert(!list_linked(&port.look.link));
	finish();
}
END_TEST

struct admission {
	struct backend_client *client;
	bool done;
	int ret;
};

static void
admit_main(void *arg)
{
	struct admission *a = arg;

	co_assert();
	a->ret = backend_co_admit(&port, a->client);
	a->done = true;
}

static void
admit(struct admission *a, struct backend_client *c)
{
	*a = (struct admission){ .client = c };
	unit_loop_spawn(&d.u, NULL, admit_main, a);
	unit_loop_turns(&d.u, 4);
}

START_TEST(admission)
{
	struct admission a, other, nobodys;
	struct call w;

	start(BACKEND_STOP);
	/* While all is well, whoever it is for; the request finds out itself. */
	gone = true;
	admit(&a, &client);
	ck_assert(a.done && a.ret == 0);
	gone = false;

	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	admit(&a, &client);
	admit(&other, &other_client);
	admit(&nobodys, NULL);
	ck_assert(!a.done && !other.done && !nobodys.done);
	gone = true;
	loop_assert();
	backend_port_look(&port);
	unit_loop_turns(&d.u, 4);
	ck_assert(a.done && a.ret == -ESHUTDOWN);
	/* Who comes now is not held at all. */
	admit(&a, &client);
	ck_assert(a.done && a.ret == -ESHUTDOWN);
	ck_assert(!other.done && !nobodys.done);
	/* Nor is one let in that goes just before the others are. */
	gone_too = true;
	resume();
	ck_assert(other.done && other.ret == -ESHUTDOWN);
	ck_assert(nobodys.done && nobodys.ret == 0);

	gone = false;
	device_says = -EIO;
	begin(&w, BACKEND_WRITE);
	admit(&a, &client);
	ck_assert(!a.done);
	loop_assert();
	backend_port_stop(&port);
	unit_loop_turns(&d.u, 4);
	ck_assert(w.done && w.ret == -ESHUTDOWN);
	ck_assert(a.done && a.ret == -ESHUTDOWN);
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

UNIT_MAIN_IF(unit_loop_possible(), everything_is_counted, counters_of_the_queue, latency,
	     report_answers_everything, enospc_stops_there_only, what_is_no_space, two_policies,
	     answers_in_every_policy, stop_stops_at_every_failure, flushes_are_always_answered,
	     nobody_waits_for_what_is_held, a_lost_write_leaves_the_policy_alone,
	     after_a_failed_flush_durability_is_refused, the_same_with_write_through,
	     what_nobody_waits_for_is_not_tried_again, it_is_looked_once_a_second, admission,
	     a_lost_write_is_told_once, shutdown_fails_what_is_held)
