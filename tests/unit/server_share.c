/* SPDX-License-Identifier: MIT */
/* server_share.c - long work comes one piece at a time, and leaves as much for the rest. */
#include "server/share.h"

#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define MS (UNIT_SECOND / 1000)
#define PIECES 8

static struct unit_loop u;
static struct share share;
static struct co_group workers;
static unsigned done;		  /* pieces */
static uint64_t begun_at[PIECES]; /* by the order in which they began */
static unsigned who[PIECES];
static uint64_t piece_ns;

static void
piece_main(void *arg)
{
	co_assert();
	share_co_begin(&share);
	ck_assert_uint_lt(done, PIECES);
	begun_at[done] = u.now;
	who[done++] = *(unsigned *)arg;
	u.now += piece_ns;
	share_end(&share);
}

static void
open_for(uint64_t ns)
{
	unit_loop_open(&u);
	share_init(&share, u.loop);
	co_group_init(&workers);
	done = 0;
	piece_ns = ns;
}

static unsigned numbers[] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static void
pieces_come(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		unit_loop_spawn(&u, &workers, piece_main, &numbers[i]);
}

START_TEST(half_of_the_time)
{
	open_for(10 * MS);
	pieces_come(4);
	unit_loop_turns(&u, 8);
	ck_assert_uint_eq(done, 1);
	for (unsigned i = 2; i <= 4; i++) {
		unit_loop_pass(&u, 9 * MS);
		ck_assert_uint_eq(done, i - 1);
		unit_loop_pass(&u, 1 * MS);
		ck_assert_uint_eq(done, i);
		ck_assert_uint_eq(begun_at[i - 1] - begun_at[i - 2], 20 * MS);
		ck_assert_uint_eq(who[i - 1], i - 1);
	}
	unit_loop_close(&u);
}
END_TEST

START_TEST(alone_it_waits_for_nobody)
{
	open_for(10 * MS);
	for (unsigned i = 1; i <= 3; i++) {
		pieces_come(1);
		unit_loop_turns(&u, 8);
		ck_assert_uint_eq(done, i);
		unit_loop_pass(&u, 10 * MS);
	}
	unit_loop_close(&u);
}
END_TEST

START_TEST(no_rest_after_nothing)
{
	open_for(0);
	pieces_come(PIECES);
	unit_loop_turns(&u, 8);
	ck_assert_uint_eq(done, PIECES);
	unit_loop_close(&u);
}
END_TEST

/* Somebody who only ever wants the next turn gets one between two pieces. */
static unsigned turns_of_other;

static void
other_main(void *arg)
{
	co_assert();
	while (done < 4) {
		turns_of_other++;
		loop_co_sleep(u.loop, 1 * MS);
	}
}

START_TEST(others_get_their_turns)
{
	open_for(10 * MS);
	turns_of_other = 0;
	pieces_come(4);
	unit_loop_spawn(&u, &workers, other_main, NULL);
	while (done < 4)
		unit_loop_pass(&u, 1 * MS);
	unit_loop_pass(&u, 1 * MS);
	/* Three times 10 ms, of which one or the other may end with a piece. */
	ck_assert_uint_ge(turns_of_other, 27);
	unit_loop_close(&u);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), half_of_the_time, alone_it_waits_for_nobody,
	     no_rest_after_nothing, others_get_their_turns)
