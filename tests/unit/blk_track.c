/* SPDX-License-Identifier: MIT */
/*
 * blk_track.c - who waits for whom: by hand on two loops of one thread, at
 * random against a plain statement of the rule, and with threads.
 *
 * Covers: BL-3
 */
#include "blk/track.h"

#include <pthread.h>

#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define UNIT ((uint64_t)TRACK_UNIT)
#define BLOCK 4096u

static struct track track;
static struct unit_loop loops[2];

/* A request that stays inside until it is let go. */
struct actor {
	unsigned loop;
	uint64_t off, len;
	bool serialises;
	bool inside, done;
	struct co *co;
	struct track_req req;
};

static void
actor_main(void *arg)
{
	struct actor *a = arg;
	struct loop *loop = loops[a->loop].loop;

	co_assert();
	track_co_begin(&track, loop, &a->req, a->off, a->len, a->serialises);
	a->inside = true;
	a->co = co_self(loop_sched(loop));
	co_yield(loop_sched(loop));
	a->inside = false;
	track_end(&track, loop, &a->req);
	a->done = true;
}

static void
settle(void)
{
	for (int i = 0; i < 3; i++)
		for (int l = 0; l < 2; l++)
			unit_loop_turns(&loops[l], 3);
}

static void
start(void)
{
	track_init(&track);
	for (int l = 0; l < 2; l++)
		unit_loop_open(&loops[l]);
}

static void
finish(void)
{
	track_fini(&track);
	for (int l = 0; l < 2; l++)
		unit_loop_close(&loops[l]);
}

static void
enter(struct actor *a, uint64_t off, uint64_t len, bool serialises, unsigned loop)
{
	*a = (struct actor){ .loop = loop, .off = off, .len = len, .serialises = serialises };
	unit_loop_spawn(&loops[loop], NULL, actor_main, a);
	settle();
}

static void
let_go(struct actor *a)
{
	loop_assert();
	ck_assert(a->inside);
	co_ready(a->co);
	settle();
	ck_assert(a->done);
}

START_TEST(plain_ones_run_together)
{
	struct actor a, b;

	start();
	enter(&a, 0, BLOCK, false, 0);
	enter(&b, 0, BLOCK, false, 1);
	ck_assert(a.inside && b.inside);
	ck_assert(!a.req.waited && !b.req.waited);
	let_go(&a);
	let_go(&b);
	finish();
}
END_TEST

START_TEST(either_one_serialising_is_enough)
{
	for (int first = 0; first < 2; first++) {
		struct actor a, b;

		start();
		enter(&a, 0, BLOCK, first == 0, 0);
		enter(&b, 0, BLOCK, first == 1, 1); /* woken by the other loop */
		ck_assert(a.inside && !b.inside);
		let_go(&a);
		ck_assert(b.inside && b.req.waited);
		let_go(&b);
		finish();
	}
}
END_TEST

START_TEST(neighbours_do_not_wait)
{
	struct actor a, b, c;

	start();
	enter(&a, BLOCK, BLOCK, true, 0);
	enter(&b, 0, BLOCK, true, 0);
	enter(&c, 2 * BLOCK, BLOCK, true, 1);
	ck_assert(a.inside && b.inside && c.inside);
	let_go(&b);
	let_go(&a);
	let_go(&c);
	finish();
}
END_TEST

/* B waits for A; C, younger than B, does not overtake it; D is beside all. */
START_TEST(nobody_overtakes_who_is_older)
{
	struct actor a, b, c, d;

	start();
	enter(&a, 0, BLOCK, false, 0);
	enter(&b, 0, 2 * BLOCK, true, 1);
	enter(&c, BLOCK, BLOCK, false, 0);
	enter(&d, 2 * BLOCK, BLOCK, true, 0);
	ck_assert(a.inside && !b.inside && !c.inside && d.inside);
	let_go(&a);
	ck_assert(b.inside && !c.inside);
	let_go(&b);
	ck_assert(c.inside);
	let_go(&c);
	let_go(&d);
	finish();
}
END_TEST

START_TEST(waiters_go_in_their_order)
{
	struct actor a, w[6];

	start();
	enter(&a, 0, BLOCK, true, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++)
		enter(&w[i], 0, BLOCK, true, i % 2);
	let_go(&a);
	for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(w); k++)
			ck_assert_int_eq(w[k].inside, k == i);
		let_go(&w[i]);
	}
	finish();
}
END_TEST

/* Two units with their two shards, the last shard and the first, all of them. */
START_TEST(ranges_of_every_width)
{
	static const struct {
		uint64_t off, len;
	} wide[] = {
		{ UNIT - BLOCK, 2 * BLOCK },
		{ (TRACK_SHARDS - 1) * UNIT, 2 * UNIT },
		{ UNIT / 2, 2 * UNIT },
		{ UNIT - 1, UNIT + 2 },
		{ 0, 200 * UNIT },
		{ 5 * UNIT, 64 * UNIT },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(wide); i++) {
		uint64_t first = wide[i].off, last = first + wide[i].len - 1;
		struct actor a, b[4];

		for (int order = 0; order < 2; order++) {
			start();
			if (order == 0)
				enter(&a, first, wide[i].len, true, 0);
			enter(&b[0], first, 1, false, 1);
			enter(&b[1], last, 1, false, 1);
			if (first > 0)
				enter(&b[2], first - 1, 1, false, 0);
			enter(&b[3], last + 1, 1, false, 0);
			if (order == 1)
				enter(&a, first, wide[i].len, true, 0);

			ck_assert(b[3].inside);
			let_go(&b[3]);
			if (first > 0)
				let_go(&b[2]);
			ck_assert_int_eq(a.inside, order == 0);
			ck_assert_int_eq(b[0].inside, order == 1);
			ck_assert_int_eq(b[1].inside, order == 1);
			if (order == 0)
				let_go(&a);
			let_go(&b[0]);
			let_go(&b[1]);
			if (order == 1)
				let_go(&a);
			finish();
		}
	}
}
END_TEST

START_TEST(two_wide_ones)
{
	struct actor a, b, c;

	start();
	enter(&a, 0, 100 * UNIT, false, 0);
	enter(&b, 99 * UNIT, 100 * UNIT, true, 1);
	enter(&c, 198 * UNIT, 100 * UNIT, false, 0);
	ck_assert(a.inside && !b.inside && !c.inside);
	let_go(&a);
	ck_assert(b.inside && !c.inside);
	let_go(&b);
	let_go(&c);
	finish();
}
END_TEST

/* --- At random -------------------------------------------------------------- */

#define ACTORS 24

static bool
stands_before(const struct actor *older, const struct actor *a)
{
	return !older->done && (older->serialises || a->serialises) &&
	       older->off < a->off + a->len && a->off < older->off + older->len;
}

/* Exactly those are inside whom nobody older stands before. */
START_TEST(the_rule_at_random)
{
	uint64_t seed = unit_seed();

	for (int round = 0; round < (UNIT_SANITIZED ? 40 : 400); round++) {
		struct actor a[ACTORS];
		unsigned live = 0;

		start();
		for (unsigned i = 0; i < ACTORS; i++) {
			bool is_wide = unit_random(&seed) % 8 == 0;
			uint64_t grain = is_wide ? UNIT / 2 : BLOCK;
			uint64_t base = is_wide ? 0 : unit_random(&seed) % 3 * (UNIT - 4 * BLOCK);
			uint64_t off = base + unit_random(&seed) % 8 * grain;

			enter(&a[i], off, (1 + unit_random(&seed) % 8) * grain,
			      unit_random(&seed) % 3 == 0, unit_random(&seed) % 2);
			live++;
		}
		while (live > 0) {
			unsigned inside = 0, k;

			for (unsigned i = 0; i < ACTORS; i++) {
				bool blocked = false;

				for (unsigned o = 0; o < i; o++)
					blocked |= stands_before(&a[o], &a[i]);
				ck_assert_int_eq(a[i].inside, !a[i].done && !blocked);
				inside += a[i].inside;
			}
			k = (unsigned)(unit_random(&seed) % inside);
			for (unsigned i = 0; i < ACTORS; i++) {
				if (a[i].inside && k-- == 0) {
					let_go(&a[i]);
					break;
				}
			}
			live--;
		}
		finish();
	}
}
END_TEST

/* --- Threads ---------------------------------------------------------------- */

#define THREADS 4
#define COS 8
/* Three units and a half: every way of locking is used. */
#define BLOCKS (7 * TRACK_UNIT / 2 / BLOCK)
#define ROUNDS (UNIT_SANITIZED ? 300 : 3000)

/* Who is inside each block; written without atomics where the rule protects. */
static struct {
	int plain, alone; /* atomic */
} blocks[BLOCKS];

struct racer {
	struct loop *loop;
	uint64_t seed;
	int left;
};

static void
occupy(uint64_t off, uint64_t len, bool serialises)
{
	for (uint64_t b = off / BLOCK; b < (off + len) / BLOCK; b++) {
		int *mine = serialises ? &blocks[b].alone : &blocks[b].plain;

		if (__atomic_add_fetch(mine, 1, __ATOMIC_ACQ_REL) > 1 && serialises)
			ck_abort_msg("two serialising requests in block %u", (unsigned)b);
		if (__atomic_load_n(serialises ? &blocks[b].plain : &blocks[b].alone,
				    __ATOMIC_ACQUIRE))
			ck_abort_msg("a plain and a serialising request in block %u", (unsigned)b);
	}
}

static void
vacate(uint64_t off, uint64_t len, bool serialises)
{
	for (uint64_t b = off / BLOCK; b < (off + len) / BLOCK; b++)
		__atomic_sub_fetch(serialises ? &blocks[b].alone : &blocks[b].plain, 1,
				   __ATOMIC_ACQ_REL);
}

static void
racer_co(void *arg)
{
	struct racer *r = arg;

	co_assert();
	for (int i = 0; i < ROUNDS; i++) {
		bool serialises = unit_random(&r->seed) % 4 == 0;
		uint64_t most = unit_random(&r->seed) % 16 == 0 ? BLOCKS - 1 : 4;
		uint64_t n = 1 + unit_random(&r->seed) % most;
		uint64_t off = unit_random(&r->seed) % (BLOCKS - n) * BLOCK;
		struct track_req req;

		track_co_begin(&track, r->loop, &req, off, n * BLOCK, serialises);
		occupy(off, n * BLOCK, serialises);
		co_pass(loop_sched(r->loop));
		vacate(off, n * BLOCK, serialises);
		track_end(&track, r->loop, &req);
	}
	if (--r->left == 0)
		loop_stop(r->loop);
}

static void *
racer_thread(void *arg)
{
	struct racer *r = arg;
	struct err err;

	loop_assert();
	ck_assert(loop_attach(r->loop, &err) == 0);
	for (int i = 0; i < COS; i++)
		ck_assert(co_spawn(loop_sched(r->loop), CO_STACK_REQUEST, NULL, racer_co, r) == 0);
	loop_run(r->loop);
	loop_detach(r->loop);
	return NULL;
}

START_TEST(threads)
{
	struct racer r[THREADS];
	pthread_t t[THREADS];
	struct err err;

	track_init(&track);
	for (int i = 0; i < THREADS; i++) {
		r[i] = (struct racer){ .seed = unit_seed() + (uint64_t)i, .left = COS };
		ck_assert(loop_new(&r[i].loop, &err) == 0);
		ck_assert(pthread_create(&t[i], NULL, racer_thread, &r[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		ck_assert(pthread_join(t[i], NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		loop_free(r[i].loop);
	track_fini(&track);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), plain_ones_run_together, either_one_serialising_is_enough,
	     neighbours_do_not_wait, nobody_overtakes_who_is_older, waiters_go_in_their_order,
	     ranges_of_every_width, two_wide_ones, the_rule_at_random, threads)
