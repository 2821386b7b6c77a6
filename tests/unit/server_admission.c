/* SPDX-License-Identifier: MIT */
/* server_admission.c - who comes in, who waits outside, what the operator is told. */
#include "server/admission.h"

#include <fcntl.h>
#include <signal.h>

#include "server/log.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define CONNS_SHORT "warning as many clients as --max-connections, more have to wait connections="
#define CONNS_AGAIN "info place for clients again connections="
#define HANDSHAKES_SHORT \
	"warning as many clients that negotiate as --max-handshakes, more have to wait handshakes="
#define HANDSHAKES_AGAIN "info place for clients that negotiate again handshakes="

static struct unit_loop u;
static struct admission a;
static struct co_group listeners;
static unsigned admitted; /* times that a listener was let on */
static unsigned looked;	  /* times that one came back from waiting */

static int log_fd; /* where our standard error comes out */

/* What has been logged since the last call. */
static const char *
logged(void)
{
	static char text[4096];
	ssize_t n = read(log_fd, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	return text;
}

static void
open_for(unsigned conns_max, unsigned handshakes_max)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	log_fd = fds[0];
	ck_assert_int_eq(fcntl(log_fd, F_SETFL, O_NONBLOCK), 0);
	log_init(LOG_INFO);
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
	/* Nobody is told any more. */
	ck_assert_str_eq(logged(), "");
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_str_eq(logged(), "");
	unit_loop_close(&u);
	close(log_fd);
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
	clients_come(2);
	ck_assert_uint_eq(looked, 1);
	unit_loop_turns(&u, 100);
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_uint_eq(looked, 1);
	ck_assert_str_eq(logged(), HANDSHAKES_SHORT "1\n");
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

START_TEST(a_shortage_is_told)
{
	open_for(10, 2);
	clients_come(2);
	unit_loop_pass(&u, UNIT_SECOND - 1);
	ck_assert_str_eq(logged(), "");
	unit_loop_pass(&u, 1);
	ck_assert_str_eq(logged(), HANDSHAKES_SHORT "2\n");
	/* Once, however long it lasts. */
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_str_eq(logged(), "");
	/* A place that is taken again at once is no end of it. */
	for (int i = 0; i < 5; i++) {
		negotiated();
		unit_loop_pass(&u, UNIT_SECOND / 2);
		clients_come(1);
		unit_loop_pass(&u, 2 * UNIT_SECOND);
		ck_assert_str_eq(logged(), "");
	}
	negotiated();
	unit_loop_pass(&u, UNIT_SECOND - 1);
	ck_assert_str_eq(logged(), "");
	unit_loop_pass(&u, 1);
	ck_assert_str_eq(logged(), HANDSHAKES_AGAIN "1\n");
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_str_eq(logged(), "");
	/* And it can begin anew. */
	clients_come(1);
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(logged(), HANDSHAKES_SHORT "2\n");
	close_all();
}
END_TEST

/* Clients that come at the same time and talk are nothing to warn of. */
START_TEST(a_moment_is_no_shortage)
{
	open_for(10, 2);
	clients_come(2);
	unit_loop_pass(&u, UNIT_SECOND / 2);
	negotiated();
	unit_loop_pass(&u, 3600 * UNIT_SECOND);
	ck_assert_str_eq(logged(), "");
	/* One that keeps coming back is. */
	clients_come(1);
	unit_loop_pass(&u, UNIT_SECOND / 2);
	negotiated();
	clients_come(1);
	unit_loop_pass(&u, UNIT_SECOND / 2);
	ck_assert_str_eq(logged(), HANDSHAKES_SHORT "2\n");
	close_all();
}
END_TEST

START_TEST(both_kinds_are_told)
{
	open_for(3, 2);
	clients_come(2);
	negotiated();
	clients_come(1);
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(logged(), HANDSHAKES_SHORT "2\n" CONNS_SHORT "3\n");
	negotiated();
	left();
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(logged(), HANDSHAKES_AGAIN "1\n" CONNS_AGAIN "2\n");
	/* Where all may negotiate there is one kind only. */
	close_all();
	open_for(2, 2);
	clients_come(3);
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(logged(), CONNS_SHORT "2\n");
	close_all();
}
END_TEST

static void
leave_while_negotiating(void *arg)
{
	admission_init(&a, NULL, 3, 3);
	admission_enter(&a);
	admission_leave(&a);
}

static void
end_twice(void *arg)
{
	admission_init(&a, NULL, 3, 3);
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
	     the_end, a_shortage_is_told, a_moment_is_no_shortage, both_kinds_are_told,
	     miscounting_is_caught)
