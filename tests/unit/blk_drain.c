/* SPDX-License-Identifier: MIT */
/*
 * blk_drain.c - doors on two loops that close, wait, and open again.
 *
 * Covers: BL-11
 */
#include "blk/drain.h"

#include <errno.h>

#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct drain drain;
static struct drain_door doors[2];
static struct unit_loop loops[2];
static struct unit_trace trace;

static void
settle(void)
{
	for (int i = 0; i < 4; i++)
		for (int l = 0; l < 2; l++)
			unit_loop_turns(&loops[l], 3);
}

static void
start(void)
{
	drain_init(&drain);
	for (int l = 0; l < 2; l++) {
		unit_loop_open(&loops[l]);
		drain_add(&drain, &doors[l], loops[l].loop);
	}
}

static void
finish(void)
{
	settle();
	for (int l = 0; l < 2; l++) {
		drain_remove(&drain, &doors[l]);
		unit_loop_close(&loops[l]);
	}
	drain_fini(&drain);
}

/* A request that stays until it is let go. */
struct visit {
	const char *name;
	unsigned loop;
	struct co *co;
	bool inside, done;
	int ret; /* of the door */
};

static void
visit_main(void *arg)
{
	struct visit *v = arg;

	co_assert();
	v->ret = drain_co_enter(&doors[v->loop]);
	if (v->ret < 0) {
		v->done = true;
		return;
	}
	unit_note(&trace, "%s ", v->name);
	v->inside = true;
	v->co = co_self(loop_sched(loops[v->loop].loop));
	co_yield(loop_sched(loops[v->loop].loop));
	v->inside = false;
	drain_leave(&doors[v->loop]);
	v->done = true;
}

static void
visit(struct visit *v, const char *name, unsigned loop)
{
	*v = (struct visit){ .name = name, .loop = loop };
	unit_loop_spawn(&loops[loop], NULL, visit_main, v);
	settle();
}

static void
let_go(struct visit *v)
{
	loop_assert();
	ck_assert(v->inside);
	co_ready(v->co);
	settle();
	ck_assert(v->done);
}

struct drainer {
	unsigned loop;
	bool quiet;
};

static void
drainer_main(void *arg)
{
	struct drainer *d = arg;

	co_assert();
	drain_co_begin(&drain, loops[d->loop].loop);
	d->quiet = true;
}

static void
begin(struct drainer *d, unsigned loop)
{
	*d = (struct drainer){ .loop = loop };
	unit_loop_spawn(&loops[loop], NULL, drainer_main, d);
	settle();
}

START_TEST(an_idle_device_is_quiet_at_once)
{
	struct drainer d;
	struct visit v;

	start();
	begin(&d, 0);
	ck_assert(d.quiet);
	visit(&v, "v", 1);
	ck_assert(!v.inside);
	drain_end(&drain);
	settle();
	let_go(&v);
	finish();
}
END_TEST

START_TEST(it_waits_for_who_is_inside)
{
	struct visit a, b, late[3];
	struct drainer d;

	start();
	trace.len = 0;
	visit(&a, "a", 0);
	visit(&b, "b", 1);
	begin(&d, 0);
	visit(&late[0], "c", 0);
	visit(&late[1], "d", 0);
	visit(&late[2], "e", 1);
	ck_assert(!d.quiet);
	let_go(&a);
	ck_assert(!d.quiet);
	let_go(&b); /* on the other loop */
	ck_assert(d.quiet);
	ck_assert(!late[0].inside && !late[1].inside && !late[2].inside);
	drain_end(&drain);
	settle();
	ck_assert_str_eq(trace.text, "a b c d e ");
	for (int i = 0; i < 3; i++)
		let_go(&late[i]);
	finish();
}
END_TEST

START_TEST(drains_nest)
{
	struct drainer outer, inner, third;
	struct visit a, late;

	start();
	visit(&a, "a", 1);
	begin(&outer, 0);
	begin(&inner, 1);
	ck_assert(!outer.quiet && !inner.quiet);
	let_go(&a);
	ck_assert(outer.quiet && inner.quiet);
	begin(&third, 1);
	ck_assert(third.quiet);
	visit(&late, "late", 0);
	drain_end(&drain);
	drain_end(&drain);
	settle();
	ck_assert(!late.inside);
	drain_end(&drain);
	settle();
	ck_assert(late.inside);
	let_go(&late);
	finish();
}
END_TEST

/* The doors of the first drain have not opened yet when the next one begins. */
START_TEST(one_after_the_other)
{
	struct drainer d;
	struct visit v;

	start();
	begin(&d, 0);
	visit(&v, "v", 1);
	for (int i = 0; i < 3; i++) {
		drain_end(&drain);
		begin(&d, 0);
		ck_assert(d.quiet != v.inside);
		if (v.inside) {
			let_go(&v);
			visit(&v, "v", 1);
		}
		ck_assert(d.quiet && !v.inside);
	}
	drain_end(&drain);
	settle();
	let_go(&v);
	finish();
}
END_TEST

START_TEST(a_door_that_is_added_is_closed)
{
	struct drain_door door;
	struct drainer d;

	start();
	begin(&d, 0);
	drain_add(&drain, &door, loops[1].loop);
	ck_assert(door.closed);
	drain_end(&drain);
	settle();
	ck_assert(!door.closed);
	drain_remove(&drain, &door);
	finish();
}
END_TEST

/* Who waits in front of it, and who comes later; a drain that ends does not open it. */
START_TEST(a_door_that_is_shut)
{
	struct visit waits, late, other;
	struct drainer d;

	start();
	begin(&d, 1);
	ck_assert(d.quiet);
	visit(&waits, "w", 0);
	ck_assert(!waits.done);
	loop_assert();
	drain_shut(&doors[0]);
	settle();
	ck_assert(waits.done);
	ck_assert_int_eq(waits.ret, -ENOMEDIUM);
	drain_end(&drain);
	visit(&late, "l", 0);
	ck_assert(late.done);
	ck_assert_int_eq(late.ret, -ENOMEDIUM);
	/* The others are nobody's business. */
	visit(&other, "o", 1);
	let_go(&other);
	/* And a drain still finds it quiet. */
	begin(&d, 1);
	ck_assert(d.quiet);
	drain_end(&drain);
	finish();
}
END_TEST

/* The loop of the door that is shut does not turn any more: nobody waits for it. */
START_TEST(a_door_whose_loop_has_ended)
{
	struct drainer d = { .loop = 1 };

	start();
	unit_loop_spawn(&loops[1], NULL, drainer_main, &d);
	unit_loop_turns(&loops[1], 3);
	/* It has been called already. */
	ck_assert(!d.quiet);
	loop_assert();
	drain_shut(&doors[0]);
	unit_loop_turns(&loops[1], 3);
	ck_assert(d.quiet);
	drain_end(&drain);

	/* Not at all, now that it is shut. */
	d.quiet = false;
	unit_loop_spawn(&loops[1], NULL, drainer_main, &d);
	unit_loop_turns(&loops[1], 6);
	ck_assert(d.quiet);
	drain_end(&drain);

	/* And if the call should come after all, it changes nothing. */
	settle();
	begin(&d, 1);
	ck_assert(d.quiet);
	drain_end(&drain);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), an_idle_device_is_quiet_at_once, it_waits_for_who_is_inside,
	     drains_nest, one_after_the_other, a_door_that_is_added_is_closed, a_door_that_is_shut,
	     a_door_whose_loop_has_ended)
