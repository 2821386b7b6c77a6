/* SPDX-License-Identifier: MIT */
/* server_admission.c - who comes in, who waits outside, what the operator is told. */
#include "server/admission.h"

#include <signal.h>

#include "server/log.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct unit_loop u;
static struct admission a;
static struct co_group listeners;
static unsigned admitted; /* times that a listener was let on */
static unsigned looked;	  /* times that one came back from waiting */

static void
open_for(unsigned conns_max, unsigned handshakes_max)
{
	log_init(LOG_ERROR);
	unit_loop_open(&u);
	admission_init(&a, u.loop, conns_max, handshakes_max);
	co_group_init(&listeners);
	admitted = looked = 0;
}

/* One that has a client, waits for its place, and takes it. */
static void
listener_main(void *arg)
{
	co_assert();
	admission_co_wait(&a);
	looked++;
	if (!a.closed) {
		admission_enter(&a);
		admitted++;
	}
}

static void
clients_come(unsigned n)
{
	while (n-- > 0) {
		unit_loop_spawn(&u, &listeners, listener_main, NULL);
		unit_loop_turns(&u, 4);
	}
}

static void
negotiated(void)
{
	loop_assert();
	admission_handshake_end(&a);
	unit_loop_turns(&u, 4);
}

static void
left(void)
{
	loop_assert();
	admission_leave(&a);
	unit_loop_turns(&u, 4);
}

static void
close_all(void)
{
	loop_assert();
	admission_close(&a);
	unit_loop_turns(&u, 4);
	ck_assert_uint_eq(listeners.running, 0);
	unit_loop_close(&u);
}

START_TEST(connections_in_all)
{
	open_for(3, 3);
	clients_come(5);
	ck_assert_uint_eq(admitted, 3);
	/* To have negotiated frees none of these places. */
	negotiated();
	negotiated();
	negotiated();
	ck_assert_uint_eq(admitted, 3);
	left();
	ck_assert_uint_eq(admitted, 4);
	ck_assert_uint_eq(a.conns, 3);
	ck_assert_uint_eq(a.handshakes, 1);
	left();
	ck_assert_uint_eq(admitted, 5);
	close_all();
}
END_TEST

START_TEST(those_who_negotiate)
{
	open_for(10, 2);
	clients_come(5);
	ck_assert_uint_eq(admitted, 2);
	/* One negotiates to its end and stays. */
	negotiated();
	ck_assert_uint_eq(admitted, 3);
	ck_assert_uint_eq(a.conns, 3);
	/* One is given up in the middle. */
	negotiated();
	left();
	ck_assert_uint_eq(admitted, 4);
	ck_assert_uint_eq(a.handshakes, 2);
	/* And one that had negotiated leaves: that is none of these places. */
	left();
	ck_assert_uint_eq(admitted, 4);
	close_all();
}
END_TEST

/* Who waits is asked when something has changed, and not otherwise. */
START_TEST(nobody_looks_in_vain)
{
	open_for(2, 1);
	clients_come(1);
	clients_come(1);
	ck_assert_uint_eq(looked, 1);
	unit_loop_turns(&u, 100);
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_uint_eq(looked, 1);
	negotiated();
	ck_assert_uint_eq(looked, 2);
	close_all();
}
END_TEST

START_TEST(the_end)
{
	open_for(1, 1);
	clients_come(4);
	ck_assert_uint_eq(admitted, 1);
	close_all();
	ck_assert_uint_eq(looked, 4);
	ck_assert_uint_eq(admitted, 1);
}
END_TEST

static void
leave_while_negotiating(void *arg)
{
	open_for(1, 1);
	admission_enter(&a);
	admission_leave(&a);
}

static void
end_twice(void *arg)
{
	open_for(1, 1);
	admission_enter(&a);
	admission_handshake_end(&a);
	admission_handshake_end(&a);
}

START_TEST(miscounting_is_caught)
{
	ck_assert(unit_died_of(unit_child(leave_while_negotiating, NULL), SIGABRT));
	ck_assert(unit_died_of(unit_child(end_twice, NULL), SIGABRT));
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), connections_in_all, those_who_negotiate, nobody_looks_in_vain,
	     the_end, miscounting_is_caught)
