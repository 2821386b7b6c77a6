/* SPDX-License-Identifier: MIT */
/*
 * blk_loop.c - the event loop, stepped in virtual time; calls with threads.
 *
 * Covers: BL-13
 */
#include "blk/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "blk/co_lock.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct unit_loop u;
static struct unit_trace trace;
static int sv[2];

static void
start(void)
{
	unit_loop_open(&u);
	trace.len = 0;
	trace.text[0] = '\0';
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
}

static void
finish(void)
{
	close(sv[0]);
	close(sv[1]);
	unit_loop_close(&u);
}

/* --- Operations ------------------------------------------------------------- */

struct io {
	struct loop_op op;
	char buf[64];
	size_t len;
	int ret;
	bool done;
};

static void
recv_main(void *arg)
{
	struct io *io = arg;

	co_assert();
	io->ret = loop_co_recv(u.loop, &io->op, sv[0], io->buf, io->len);
	io->done = true;
}

START_TEST(recv_waits_for_data)
{
	struct io io = { .len = 10 };

	start();
	unit_loop_spawn(&u, NULL, recv_main, &io);
	unit_loop_turns(&u, 5);
	ck_assert(!io.done);
	ck_assert_int_eq(write(sv[1], "hello", 5), 5);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, 5);
	ck_assert(memcmp(io.buf, "hello", 5) == 0);

	/* What is there already, and no more than asked for. */
	ck_assert_int_eq(write(sv[1], "0123456789abcdef", 16), 16);
	unit_loop_co(&u, recv_main, &io);
	ck_assert_int_eq(io.ret, 10);
	unit_loop_co(&u, recv_main, &io);
	ck_assert_int_eq(io.ret, 6);
	ck_assert(memcmp(io.buf, "abcdef", 6) == 0);
	finish();
}
END_TEST

START_TEST(recv_end_of_file)
{
	struct io io = { .len = 10 };

	start();
	unit_loop_spawn(&u, NULL, recv_main, &io);
	unit_loop_turns(&u, 3);
	ck_assert_int_eq(shutdown(sv[1], SHUT_WR), 0);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, 0);
	unit_loop_co(&u, recv_main, &io);
	ck_assert_int_eq(io.ret, 0);
	finish();
}
END_TEST

/* The whole way with turns that sleep. */
static void
recv_and_stop(void *arg)
{
	struct io *io = arg;

	co_assert();
	for (char expect = 'a'; expect < 'k'; expect++) {
		recv_main(io);
		ck_assert_int_eq(io->ret, 1);
		ck_assert_int_eq(io->buf[0], expect);
	}
	loop_stop(u.loop);
}

static void *
slow_writer(void *arg)
{
	for (char c = 'a'; c < 'k'; c++) {
		usleep(500);
		ck_assert_int_eq(write(sv[1], &c, 1), 1);
	}
	return NULL;
}

START_TEST(a_sleeping_loop_hears_of_data)
{
	struct io io = { .len = 1 };
	pthread_t thread;

	start();
	loop_set_clock(u.loop, NULL, NULL);
	unit_loop_spawn(&u, NULL, recv_and_stop, &io);
	ck_assert_int_eq(pthread_create(&thread, NULL, slow_writer, NULL), 0);
	loop_run(u.loop);
	pthread_join(thread, NULL);
	finish();
}
END_TEST

static void
msg_main(void *arg)
{
	char a[3] = "abc", b[5] = "defgh";
	struct iovec iov[2] = { { a, 3 }, { b, 5 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct loop_op op = { 0 };

	co_assert();
	ck_assert_int_eq(loop_co_sendmsg(u.loop, &op, sv[1], &msg, 0), 8);
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	ck_assert_int_eq(loop_co_recvmsg(u.loop, &op, sv[0], &msg), 8);
	ck_assert(memcmp(a, "abc", 3) == 0 && memcmp(b, "defgh", 5) == 0);

	close(sv[0]);
	iov[0] = (struct iovec){ a, sizeof(a) };
	/* A SIGPIPE would end this process. */
	ck_assert_int_eq(loop_co_sendmsg(u.loop, &op, sv[1], &msg, 0), -EPIPE);
}

START_TEST(messages_and_a_closed_peer)
{
	signal(SIGPIPE, SIG_DFL);
	start();
	unit_loop_co(&u, msg_main, NULL);
	finish();
}
END_TEST

static void
pipe_main(void *arg)
{
	int *fds = arg;
	char a[2] = "ab", b[6] = "cdefgh";
	struct iovec iov[2] = { { a, 2 }, { b, 6 } };
	struct loop_op op = { 0 };

	co_assert();
	ck_assert_int_eq(loop_co_writev(u.loop, &op, fds[1], iov, 2), 8);
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	ck_assert_int_eq(loop_co_readv(u.loop, &op, fds[0], iov, 2), 8);
	ck_assert(memcmp(a, "ab", 2) == 0 && memcmp(b, "cdefgh", 6) == 0);
	close(fds[1]);
	ck_assert_int_eq(loop_co_readv(u.loop, &op, fds[0], iov, 2), 0);
	close(fds[0]);
}

START_TEST(pipes)
{
	int fds[2];

	start();
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	unit_loop_co(&u, pipe_main, fds);
	finish();
}
END_TEST

static void
file_main(void *arg)
{
	int fd = *(int *)arg;
	char a[8] = "abcdefgh";
	struct iovec iov = { a, 8 };
	struct loop_op op = { 0 };

	co_assert();
	ck_assert_int_eq(loop_co_writev(u.loop, &op, fd, &iov, 1), 8);
	ck_assert_int_eq(lseek(fd, 2, SEEK_SET), 2);
	iov = (struct iovec){ a, 4 };
	ck_assert_int_eq(loop_co_readv(u.loop, &op, fd, &iov, 1), 4);
	ck_assert(memcmp(a, "cdef", 4) == 0);
	ck_assert_int_eq(loop_co_readv(u.loop, &op, fd, &iov, 1), 2);
	ck_assert(memcmp(a, "gh", 2) == 0);
	ck_assert_int_eq(loop_co_readv(u.loop, &op, fd, &iov, 1), 0);
	ck_assert_int_eq(loop_co_recv(u.loop, &op, fd, a, 4), -ENOTSOCK);
}

START_TEST(files_at_their_position)
{
	FILE *f = tmpfile();
	int fd = fileno(f);

	start();
	unit_loop_co(&u, file_main, &fd);
	fclose(f);
	finish();
}
END_TEST

struct accepting {
	struct loop_op op;
	int listener, ret;
	bool done;
};

static void
accept_main(void *arg)
{
	struct accepting *a = arg;

	co_assert();
	a->ret = loop_co_accept(u.loop, &a->op, a->listener);
	a->done = true;
}

START_TEST(accepting_and_cancel)
{
	struct accepting a = { 0 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);
	int client;

	loop_assert();
	start();
	a.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Without a name it gets one from the abstract space. */
	ck_assert_int_eq(bind(a.listener, (struct sockaddr *)&addr, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(a.listener, 5), 0);
	ck_assert_int_eq(getsockname(a.listener, (struct sockaddr *)&addr, &len), 0);

	unit_loop_spawn(&u, NULL, accept_main, &a);
	unit_loop_turns(&u, 3);
	ck_assert(!a.done);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&addr, len), 0);
	unit_loop_until(&u, &a.done);
	ck_assert(a.ret >= 0);
	ck_assert(fcntl(a.ret, F_GETFD) & FD_CLOEXEC);
	ck_assert_int_eq(write(client, "x", 1), 1);
	ck_assert_int_eq(read(a.ret, addr.sun_path, 1), 1);
	close(a.ret);
	close(client);

	a.done = false;
	unit_loop_spawn(&u, NULL, accept_main, &a);
	unit_loop_turns(&u, 3);
	loop_cancel(u.loop, &a.op);
	unit_loop_until(&u, &a.done);
	ck_assert_int_eq(a.ret, -ECANCELED);
	close(a.listener);
	finish();
}
END_TEST

static void
poll_main(void *arg)
{
	struct io *io = arg;

	co_assert();
	io->ret = loop_co_poll(u.loop, &io->op, sv[0], POLLIN);
	io->done = true;
}

START_TEST(polling)
{
	struct io io = { 0 };

	start();
	unit_loop_spawn(&u, NULL, poll_main, &io);
	unit_loop_turns(&u, 3);
	ck_assert(!io.done);
	ck_assert_int_eq(write(sv[1], "x", 1), 1);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, POLLIN);
	unit_loop_co(&u, poll_main, &io); /* still there */
	ck_assert_int_eq(io.ret, POLLIN);
	finish();
}
END_TEST

/* --- Cancel ----------------------------------------------------------------- */

START_TEST(cancel_ends_a_recv)
{
	struct io io = { .len = 10 };

	loop_assert();
	start();
	loop_cancel(u.loop, &io.op); /* nothing in flight */
	unit_loop_spawn(&u, NULL, recv_main, &io);
	unit_loop_turns(&u, 3);
	loop_cancel(u.loop, &io.op);
	loop_cancel(u.loop, &io.op);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, -ECANCELED);
	loop_cancel(u.loop, &io.op);
	unit_loop_turns(&u, 3);

	/* A cancel that came too late must not hit the next one on the same op. */
	io.done = false;
	unit_loop_spawn(&u, NULL, recv_main, &io);
	unit_loop_turns(&u, 3);
	ck_assert(!io.done);
	ck_assert_int_eq(write(sv[1], "abc", 3), 3);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, 3);
	finish();
}
END_TEST

/* Before its SQE has reached the kernel. */
START_TEST(cancel_in_the_same_turn)
{
	struct io io = { .len = 10 };

	loop_assert();
	start();
	unit_loop_spawn(&u, NULL, recv_main, &io);
	co_sched_run(loop_sched(u.loop), 10);
	ck_assert(!io.done);
	loop_cancel(u.loop, &io.op);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, -ECANCELED);
	finish();
}
END_TEST

START_TEST(a_result_beats_a_cancel)
{
	struct io io = { .len = 10 };

	loop_assert();
	start();
	ck_assert_int_eq(write(sv[1], "abc", 3), 3);
	unit_loop_spawn(&u, NULL, recv_main, &io);
	co_sched_run(loop_sched(u.loop), 10);
	loop_cancel(u.loop, &io.op);
	unit_loop_until(&u, &io.done);
	ck_assert_int_eq(io.ret, 3);
	finish();
}
END_TEST

/* --- Time ------------------------------------------------------------------- */

struct named_timer {
	struct loop_timer timer;
	const char *name;
	struct loop_timer *victim; /* disarmed when this one fires */
	uint64_t again;		   /* armed again with this delay, once */
};

static void
timer_fired(struct loop_timer *timer)
{
	struct named_timer *t = container_of(timer, struct named_timer, timer);

	loop_assert();
	unit_note(&trace, "%s@%llu ", t->name,
		  (unsigned long long)((loop_now(u.loop) - 1000 * UNIT_SECOND) / 1000));
	if (t->victim)
		loop_timer_disarm(t->victim);
	if (t->again) {
		uint64_t delay = t->again;

		t->again = 0;
		loop_timer_arm(u.loop, timer, delay, timer_fired);
	}
}

static void
arm(struct named_timer *t, uint64_t delay_us)
{
	loop_assert();
	loop_timer_arm(u.loop, &t->timer, delay_us * 1000, timer_fired);
}

START_TEST(timers_in_order)
{
	struct named_timer t[5] = {
		{ .name = "a" }, { .name = "b" }, { .name = "c" }, { .name = "d" }, { .name = "e" },
	};

	start();
	arm(&t[0], 30);
	arm(&t[1], 10);
	arm(&t[2], 20);
	arm(&t[3], 20); /* equal: in the order of arming */
	arm(&t[4], 10);
	unit_loop_turns(&u, 3);
	ck_assert_str_eq(trace.text, "");
	unit_loop_pass(&u, 10000 - 1);
	ck_assert_str_eq(trace.text, "");
	unit_loop_pass(&u, 1);
	ck_assert_str_eq(trace.text, "b@10 e@10 ");
	unit_loop_pass(&u, 50000);
	ck_assert_str_eq(trace.text, "b@10 e@10 c@60 d@60 a@60 ");
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(trace.text, "b@10 e@10 c@60 d@60 a@60 ");
	finish();
}
END_TEST

START_TEST(timers_disarm_and_move)
{
	struct named_timer a = { .name = "a" }, b = { .name = "b" }, c = { .name = "c" };
	struct named_timer never = { .name = "never" };

	loop_assert();
	start();
	loop_timer_disarm(&never.timer); /* never armed */
	arm(&a, 10);
	arm(&b, 10);
	arm(&c, 10);
	arm(&a, 20); /* moved back */
	loop_timer_disarm(&b.timer);
	loop_timer_disarm(&b.timer);
	unit_loop_pass(&u, 10000);
	ck_assert_str_eq(trace.text, "c@10 ");
	arm(&b, 5);
	unit_loop_pass(&u, 5000);
	ck_assert_str_eq(trace.text, "c@10 b@15 ");
	arm(&a, 1); /* moved forward */
	unit_loop_pass(&u, 1000);
	ck_assert_str_eq(trace.text, "c@10 b@15 a@16 ");
	unit_loop_pass(&u, UNIT_SECOND);
	ck_assert_str_eq(trace.text, "c@10 b@15 a@16 ");
	finish();
}
END_TEST

START_TEST(timers_from_timers)
{
	struct named_timer b = { .name = "b" };
	struct named_timer a = { .name = "a", .victim = &b.timer, .again = 7000 };

	start();
	arm(&a, 10);
	arm(&b, 10); /* due together, but a takes it away */
	unit_loop_pass(&u, 10000);
	ck_assert_str_eq(trace.text, "a@10 ");
	unit_loop_pass(&u, 6999);
	ck_assert_str_eq(trace.text, "a@10 ");
	unit_loop_pass(&u, 1);
	ck_assert_str_eq(trace.text, "a@10 a@17 ");
	finish();
}
END_TEST

static void
timer_at_once(struct loop_timer *timer)
{
	loop_assert();
	unit_note(&trace, "%s ", container_of(timer, struct named_timer, timer)->name);
	loop_timer_arm(u.loop, timer, 0, timer_at_once);
}

/* A timer that arms itself with no delay runs once a turn, and others too. */
START_TEST(timers_with_no_delay)
{
	struct named_timer a = { .name = "a" }, b = { .name = "b" };

	loop_assert();
	start();
	loop_timer_arm(u.loop, &a.timer, 0, timer_at_once);
	loop_timer_arm(u.loop, &b.timer, 0, timer_at_once);
	for (int i = 0; i < 3; i++)
		loop_turn(u.loop, false);
	ck_assert_str_eq(trace.text, "a b a b a b ");
	loop_timer_disarm(&a.timer);
	loop_timer_disarm(&b.timer);
	finish();
}
END_TEST

/* --- Polling ---------------------------------------------------------------- */

static uint64_t poll_clock; /* moves by poll_step each time somebody looks */
static uint64_t poll_step;

static uint64_t
poll_now(void *arg)
{
	return poll_clock += poll_step;
}

struct counted_poller {
	struct loop_poller poller;
	unsigned looks;
	unsigned finds; /* something in that look; 0: never */
};

static bool
poller_looks(struct loop_poller *poller)
{
	struct counted_poller *p = container_of(poller, struct counted_poller, poller);

	return ++p->looks == p->finds;
}

/* A timer that fires DELAY_NS after now ends the turn's sleep. */
static void
poll_turn(struct named_timer *t, uint64_t delay_ns)
{
	loop_assert();
	loop_timer_arm(u.loop, &t->timer, delay_ns, timer_fired);
	loop_turn(u.loop, true);
	loop_timer_disarm(&t->timer);
}

START_TEST(polling_adapts)
{
	struct counted_poller p = { .poller.fn = poller_looks };
	struct named_timer t = { .name = "t" };
	uint64_t before;

	loop_assert();
	start();
	poll_step = 1000;
	loop_set_clock(u.loop, poll_now, NULL);
	loop_poller_add(u.loop, &p.poller);

	/* Off at first: nobody looks. */
	poll_turn(&t, UNIT_SECOND);
	ck_assert_uint_eq(p.looks, 0);
	ck_assert_uint_eq(loop_poll_ns(u.loop), 0);

	/* Short sleeps make it grow, to the maximum; it never goes beyond. */
	loop_set_poll(u.loop, 50000);
	do {
		before = loop_poll_ns(u.loop);
		poll_turn(&t, UNIT_SECOND);
		ck_assert_uint_gt(loop_poll_ns(u.loop), before);
		ck_assert_uint_le(loop_poll_ns(u.loop), 50000);
	} while (loop_poll_ns(u.loop) < 50000);
	ck_assert_uint_gt(p.looks, 0);

	/* What is found while polling spares the sleep and changes nothing. */
	before = loop_poll_ns(u.loop);
	p.looks = 0;
	p.finds = 3;
	poll_turn(&t, UNIT_SECOND);
	ck_assert_uint_eq(p.looks, 3);
	ck_assert_uint_eq(loop_poll_ns(u.loop), before);

	/* Long sleeps make it shrink, to nothing. */
	p.finds = 0;
	poll_step = 100000;
	for (int i = 0; i < 12; i++) {
		before = loop_poll_ns(u.loop);
		poll_turn(&t, UNIT_SECOND);
		ck_assert_uint_le(loop_poll_ns(u.loop), before);
	}
	ck_assert_uint_eq(loop_poll_ns(u.loop), 0);

	/* Switched off in the middle. */
	poll_step = 1000;
	poll_turn(&t, UNIT_SECOND);
	loop_set_poll(u.loop, 0);
	ck_assert_uint_eq(loop_poll_ns(u.loop), 0);
	p.looks = 0;
	poll_turn(&t, UNIT_SECOND);
	ck_assert_uint_eq(p.looks, 0);
	loop_poller_remove(&p.poller);
	finish();
}
END_TEST

/* It finds what sockets, other threads and timers have, and no sooner ends. */
START_TEST(polling_serves_everybody)
{
	start();
	loop_assert();
	loop_set_clock(u.loop, NULL, NULL);
	loop_set_poll(u.loop, 20 * 1000000);
	for (int i = 0; i < 200; i++) {
		struct named_timer t = { .name = "", .again = 100000 };

		/*
		 * It counts from the last turn: it may be due when this one begins,
		 * whose sleep ends when it is due again.
		 */
		loop_timer_arm(u.loop, &t.timer, 100000, timer_fired);
		loop_turn(u.loop, true);
		while (list_linked(&t.timer.link))
			loop_turn(u.loop, false);
		trace.len = 0;
	}
	finish();
}
END_TEST

/* A turn that waits comes back for a timer, though virtual time stands still. */
START_TEST(waiting_turns_end_with_timers)
{
	struct named_timer a = { .name = "a" };

	loop_assert();
	start();
	arm(&a, 10);
	for (int i = 0; i < 3; i++)
		loop_turn(u.loop, true);
	ck_assert_str_eq(trace.text, "");
	loop_timer_disarm(&a.timer);
	finish();
}
END_TEST

struct nap {
	const char *name;
	uint64_t ns;
};

static void
nap_main(void *arg)
{
	struct nap *n = arg;
	uint64_t before = loop_now(u.loop);

	co_assert();
	loop_co_sleep(u.loop, n->ns);
	ck_assert_uint_ge(loop_now(u.loop), before + n->ns);
	unit_note(&trace, "%s ", n->name);
}

START_TEST(sleeping)
{
	struct nap a = { "a", 3000 }, b = { "b", 1000 }, c = { "c", 3000 }, now = { "now", 0 };

	start();
	unit_loop_spawn(&u, NULL, nap_main, &a);
	unit_loop_spawn(&u, NULL, nap_main, &b);
	unit_loop_spawn(&u, NULL, nap_main, &c);
	unit_loop_spawn(&u, NULL, nap_main, &now);
	unit_loop_turns(&u, 4);
	ck_assert_str_eq(trace.text, "now ");
	unit_loop_pass(&u, 2999);
	ck_assert_str_eq(trace.text, "now b ");
	unit_loop_pass(&u, 1);
	ck_assert_str_eq(trace.text, "now b a c ");
	finish();
}
END_TEST

START_TEST(the_real_clock)
{
	struct nap a = { "a", 2000000 };
	uint64_t virtual;

	start();
	virtual = loop_now(u.loop);
	ck_assert_uint_eq(virtual, u.now);
	loop_set_clock(u.loop, NULL, NULL);
	ck_assert(loop_now(u.loop) != virtual);
	unit_loop_co(&u, nap_main, &a); /* sleeps in the kernel, checks the time */
	ck_assert_str_eq(trace.text, "a ");
	finish();
}
END_TEST

/* --- Calls ------------------------------------------------------------------ */

struct message {
	struct loop_call call;
	unsigned number;
	struct message *follow_up;
};

static void
message_run(struct loop_call *call)
{
	struct message *m = container_of(call, struct message, call);

	unit_note(&trace, "%u ", m->number);
	if (m->follow_up)
		loop_call(u.loop, &m->follow_up->call, message_run);
	free(m); /* the call is ours again */
}

static struct message *
message_new(unsigned number)
{
	struct message *m = calloc(1, sizeof(*m));

	ck_assert_ptr_nonnull(m);
	m->number = number;
	return m;
}

START_TEST(calls_in_order)
{
	struct message *second;

	start();
	second = message_new(2);
	second->follow_up = message_new(4);
	loop_call(u.loop, &message_new(1)->call, message_run);
	loop_call(u.loop, &second->call, message_run);
	loop_call(u.loop, &message_new(3)->call, message_run);
	ck_assert_str_eq(trace.text, "");
	loop_turn(u.loop, true);
	ck_assert_str_eq(trace.text, "1 2 3 ");
	loop_turn(u.loop, false); /* what a call calls is for the next turn */
	ck_assert_str_eq(trace.text, "1 2 3 4 ");
	finish();
}
END_TEST

#define SENDERS 4
#define SENDER_CALLS 5000

struct sender {
	unsigned next; /* the number that has to come next */
	struct sender_call {
		struct loop_call call;
		struct sender *sender;
		unsigned number;
	} calls[SENDER_CALLS];
};

static struct sender senders[SENDERS];
static unsigned calls_seen;

static void
sender_call_run(struct loop_call *call)
{
	struct sender_call *c = container_of(call, struct sender_call, call);

	loop_assert();
	ck_assert_uint_eq(c->number, c->sender->next);
	c->sender->next++;
	if (++calls_seen == SENDERS * SENDER_CALLS)
		loop_stop(u.loop);
}

static void *
sender_thread(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < SENDER_CALLS; i++) {
		s->calls[i].sender = s;
		s->calls[i].number = i;
		loop_call(u.loop, &s->calls[i].call, sender_call_run);
		/* Now and then the loop gets to sleep in between. */
		if (i % 512 == 0)
			usleep(100);
	}
	return NULL;
}

START_TEST(calls_from_many_threads)
{
	pthread_t threads[SENDERS];

	start();
	loop_set_clock(u.loop, NULL, NULL);
	calls_seen = 0;
	for (int i = 0; i < SENDERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, sender_thread, &senders[i]), 0);
	loop_run(u.loop); /* a lost wake-up: for ever */
	for (int i = 0; i < SENDERS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(senders[i].next, SENDER_CALLS);
	}
	finish();
}
END_TEST

#define VOLLEYS 20000

/* One ball between two loops that both sleep between the strokes. */
struct player {
	struct loop *loop;
	struct player *other;
	unsigned strokes;
};

struct ball {
	struct loop_call call;
	struct player *at;
};

static void
stroke(struct loop_call *call)
{
	struct ball *ball = container_of(call, struct ball, call);
	struct player *me = ball->at;

	loop_assert();
	if (++me->strokes == VOLLEYS)
		loop_stop(me->loop);
	if (me->strokes == VOLLEYS && me->other->strokes == VOLLEYS)
		return;
	ball->at = me->other;
	loop_call(ball->at->loop, call, stroke);
}

static void *
player_thread(void *arg)
{
	struct player *p = arg;
	struct err err;

	loop_assert();
	if (loop_attach(p->loop, &err) < 0)
		abort();
	loop_run(p->loop);
	loop_detach(p->loop);
	return NULL;
}

START_TEST(calls_between_two_loops)
{
	struct player a = { 0 }, b = { 0 };
	struct ball ball = { .at = &a };
	pthread_t threads[2];
	struct err err;

	ck_assert_int_eq(loop_new(&a.loop, &err), 0);
	ck_assert_int_eq(loop_new(&b.loop, &err), 0);
	a.other = &b;
	b.other = &a;
	loop_call(a.loop, &ball.call, stroke); /* before anybody runs */
	ck_assert_int_eq(pthread_create(&threads[0], NULL, player_thread, &a), 0);
	ck_assert_int_eq(pthread_create(&threads[1], NULL, player_thread, &b), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	ck_assert_uint_eq(a.strokes, VOLLEYS);
	ck_assert_uint_eq(b.strokes, VOLLEYS);
	loop_free(a.loop);
	loop_free(b.loop);
}
END_TEST

/* --- Hooks ------------------------------------------------------------------ */

struct named_hook {
	struct loop_hook hook;
	const char *name;
	enum loop_stage stage;
	unsigned again;	  /* how many times it arms itself */
	struct co **wake; /* made ready once, when set */
	unsigned runs;
};

static void
hook_ran(struct loop_hook *hook)
{
	struct named_hook *h = container_of(hook, struct named_hook, hook);

	loop_assert();
	h->runs++;
	if (h->name)
		unit_note(&trace, "%s ", h->name);
	if (h->again) {
		h->again--;
		loop_hook_arm(u.loop, h->stage, hook);
	}
	if (h->wake && *h->wake) {
		co_ready(*h->wake);
		*h->wake = NULL;
	}
}

#define HOOK(name_, stage_) { .hook.fn = hook_ran, .name = name_, .stage = stage_ }

static void
hook_arm(struct named_hook *h)
{
	loop_assert();
	loop_hook_arm(u.loop, h->stage, &h->hook);
}

START_TEST(hooks_once_and_in_stages)
{
	struct named_hook r = HOOK("reply", LOOP_REPLY), s = HOOK("submit", LOOP_SUBMIT);
	struct named_hook s2 = HOOK("submit2", LOOP_SUBMIT), off = HOOK("off", LOOP_SUBMIT);

	loop_assert();
	start();
	loop_hook_disarm(&off.hook); /* never armed */
	hook_arm(&r);
	hook_arm(&s);
	hook_arm(&s2);
	hook_arm(&s); /* armed already */
	hook_arm(&off);
	loop_hook_disarm(&off.hook);
	ck_assert_str_eq(trace.text, "");
	loop_turn(u.loop, false);
	ck_assert_str_eq(trace.text, "submit submit2 reply ");
	loop_turn(u.loop, false);
	ck_assert_str_eq(trace.text, "submit submit2 reply ");
	finish();
}
END_TEST

static struct co *waiting;

static void
woken_main(void *arg)
{
	co_assert();
	waiting = co_self(loop_sched(u.loop));
	co_yield(loop_sched(u.loop));
	unit_note(&trace, "woken ");
}

/* What a hook makes ready runs in the same turn, before the next stage. */
START_TEST(hooks_that_wake)
{
	struct named_hook s = HOOK("submit", LOOP_SUBMIT), r = HOOK("reply", LOOP_REPLY);

	start();
	s.wake = &waiting;
	unit_loop_spawn(&u, NULL, woken_main, NULL);
	unit_loop_turns(&u, 1);
	hook_arm(&r);
	hook_arm(&s);
	loop_turn(u.loop, false);
	ck_assert_str_eq(trace.text, "submit woken reply ");
	finish();
}
END_TEST

static void
arm_and_sleep(void *arg)
{
	struct named_hook *h = arg;

	co_assert();
	for (int i = 0; i < 3; i++) {
		hook_arm(h);
		unit_note(&trace, "co%d ", i);
		loop_co_sleep(u.loop, 1000);
	}
}

START_TEST(hooks_run_at_the_end_of_each_turn)
{
	struct named_hook s = HOOK("submit", LOOP_SUBMIT);

	start();
	unit_loop_spawn(&u, NULL, arm_and_sleep, &s);
	for (int i = 0; i < 4; i++)
		unit_loop_pass(&u, 1000);
	ck_assert_str_eq(trace.text, "co0 submit co1 submit co2 submit ");
	finish();
}
END_TEST

/* Armed from itself: again in the same turn, but the turn ends all the same. */
START_TEST(hooks_that_arm_themselves)
{
	struct named_hook few = HOOK("few", LOOP_SUBMIT), ever = HOOK(NULL, LOOP_REPLY);

	loop_assert();
	start();
	few.again = 3;
	hook_arm(&few);
	loop_turn(u.loop, false);
	ck_assert_str_eq(trace.text, "few few few few ");
	ever.again = UINT32_MAX;
	hook_arm(&ever);
	loop_turn(u.loop, true); /* must not sleep: something is armed */
	ck_assert_uint_ge(ever.runs, 2);
	loop_hook_disarm(&ever.hook);
	finish();
}
END_TEST

/* --- Fairness --------------------------------------------------------------- */

static bool busy_ends;
static struct co *busy_sleeps;

static void
always_ready(void *arg)
{
	co_assert();
	while (!busy_ends)
		co_pass(loop_sched(u.loop));
}

/* Bound on the turns in which everything else has to have had its share. */
#define FAIR_TURNS 100

START_TEST(a_busy_coroutine_leaves_sockets_alive)
{
	struct io io = { .len = 10 };

	start();
	busy_ends = false;
	unit_loop_spawn(&u, NULL, always_ready, NULL);
	unit_loop_spawn(&u, NULL, recv_main, &io);
	unit_loop_turns(&u, 2);
	ck_assert_int_eq(write(sv[1], "abc", 3), 3);
	for (int i = 0; i < FAIR_TURNS && !io.done; i++)
		loop_turn(u.loop, true);
	ck_assert(io.done);
	ck_assert_int_eq(io.ret, 3);
	busy_ends = true;
	unit_loop_turns(&u, 3);
	finish();
}
END_TEST

START_TEST(a_busy_coroutine_leaves_timers_alive)
{
	struct named_timer t = { .name = "t" };

	start();
	busy_ends = false;
	unit_loop_spawn(&u, NULL, always_ready, NULL);
	arm(&t, 10);
	u.now += 10000;
	unit_loop_turns(&u, FAIR_TURNS);
	ck_assert_str_eq(trace.text, "t@10 ");
	busy_ends = true;
	unit_loop_turns(&u, 3);
	finish();
}
END_TEST

START_TEST(a_busy_coroutine_leaves_hooks_alive)
{
	struct named_hook s = HOOK("submit", LOOP_SUBMIT), r = HOOK("reply", LOOP_REPLY);

	start();
	busy_ends = false;
	unit_loop_spawn(&u, NULL, always_ready, NULL);
	hook_arm(&s);
	hook_arm(&r);
	unit_loop_turns(&u, FAIR_TURNS);
	ck_assert_str_eq(trace.text, "submit reply ");
	busy_ends = true;
	unit_loop_turns(&u, 3);
	finish();
}
END_TEST

/* A request whose pieces all complete at once: each submit wakes it again. */
static void
instant_io_main(void *arg)
{
	struct named_hook *h = arg;

	co_assert();
	while (!busy_ends) {
		hook_arm(h);
		busy_sleeps = co_self(loop_sched(u.loop));
		co_yield(loop_sched(u.loop));
	}
}

START_TEST(instant_io_leaves_replies_and_sockets_alive)
{
	struct named_hook s = HOOK(NULL, LOOP_SUBMIT), r = HOOK("reply", LOOP_REPLY);
	struct io io = { .len = 10 };

	start();
	busy_ends = false;
	s.wake = &busy_sleeps;
	unit_loop_spawn(&u, NULL, instant_io_main, &s);
	unit_loop_spawn(&u, NULL, recv_main, &io);
	hook_arm(&r);
	ck_assert_int_eq(write(sv[1], "abc", 3), 3);
	unit_loop_turns(&u, FAIR_TURNS);
	ck_assert_uint_ge(s.runs, 1);
	ck_assert(io.done);
	ck_assert_str_eq(trace.text, "reply ");
	busy_ends = true;
	unit_loop_turns(&u, 3);
	finish();
}
END_TEST

/* --- Watches ---------------------------------------------------------------- */

struct counting_watch {
	struct loop_watch watch;
	unsigned calls;
	uint64_t sum;
	size_t take; /* bytes read by a call; 0: an eventfd's 8 */
};

static void
watch_ready(struct loop_watch *watch)
{
	struct counting_watch *w = container_of(watch, struct counting_watch, watch);
	char bytes[8];
	uint64_t count;

	w->calls++;
	if (w->take) {
		ssize_t n = recv(watch->fd, bytes, w->take, MSG_DONTWAIT);

		w->sum += n > 0 ? (uint64_t)n : 0;
	} else if (read(watch->fd, &count, sizeof(count)) == sizeof(count)) {
		w->sum += count;
	}
}

static void
unwatch_main(void *arg)
{
	struct counting_watch *w = arg;

	co_assert();
	loop_co_unwatch(&w->watch);
	loop_co_unwatch(&w->watch); /* again: nothing */
}

static void
signal_eventfd(int fd, uint64_t n)
{
	ck_assert_int_eq(write(fd, &n, sizeof(n)), sizeof(n));
}

START_TEST(watch_repeats)
{
	struct counting_watch w = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	unsigned calls;

	loop_assert();
	start();
	loop_watch(u.loop, &w.watch, fd, watch_ready);
	unit_loop_turns(&u, 3);
	ck_assert_uint_eq(w.calls, 0);
	for (uint64_t i = 1; i <= 2000; i++) {
		signal_eventfd(fd, 1);
		while (w.sum < i)
			unit_loop_turns(&u, 1);
	}
	ck_assert_uint_eq(w.sum, 2000);

	unit_loop_co(&u, unwatch_main, &w);
	calls = w.calls;
	signal_eventfd(fd, 1);
	unit_loop_turns(&u, 5);
	ck_assert_uint_eq(w.calls, calls);

	/* Watched again, it sees what came in between. */
	loop_watch(u.loop, &w.watch, fd, watch_ready);
	while (w.sum < 2001)
		unit_loop_turns(&u, 1);
	unit_loop_co(&u, unwatch_main, &w);
	close(fd);
	finish();
}
END_TEST

/* Ready and unwatched in the same turn. */
START_TEST(unwatch_while_ready)
{
	struct counting_watch w = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	loop_assert();
	start();
	for (int i = 0; i < 50; i++) {
		loop_watch(u.loop, &w.watch, fd, watch_ready);
		if (i % 2)
			unit_loop_turns(&u, 1);
		signal_eventfd(fd, 1);
		unit_loop_co(&u, unwatch_main, &w);
	}
	unit_loop_turns(&u, 5);
	close(fd);
	finish();
}
END_TEST

/* What the callback left behind does not keep it from hearing of more. */
START_TEST(watch_hears_of_more)
{
	struct counting_watch w = { .take = 1 };

	loop_assert();
	start();
	loop_watch(u.loop, &w.watch, sv[0], watch_ready);
	unit_loop_turns(&u, 2);
	for (unsigned i = 1; i <= 20; i++) {
		ck_assert_int_eq(write(sv[1], "abcdef", 6), 6);
		for (int k = 0; k < FAIR_TURNS && w.sum < i; k++)
			unit_loop_turns(&u, 1);
		ck_assert_uint_ge(w.sum, i);
	}
	unit_loop_co(&u, unwatch_main, &w);
	finish();
}
END_TEST

/* --- More than the rings hold ----------------------------------------------- */

#define CROWD 3000

static unsigned crowd_done;

static void
crowd_main(void *arg)
{
	struct loop_op op = { 0 };
	char c;

	co_assert();
	ck_assert_int_eq(loop_co_recv(u.loop, &op, sv[0], &c, 1), 1);
	ck_assert_int_eq(c, 'x');
	crowd_done++;
}

START_TEST(more_operations_than_entries)
{
	static char bytes[CROWD];
	struct counting_watch w = { 0 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t events = 0;

	loop_assert();
	start();
	memset(bytes, 'x', sizeof(bytes));
	loop_watch(u.loop, &w.watch, fd, watch_ready);
	for (int round = 0; round < 2; round++) {
		crowd_done = 0;
		/* First they all wait, then they all find something at once. */
		if (round == 1)
			ck_assert_int_eq(write(sv[1], bytes, CROWD), CROWD);
		for (int i = 0; i < CROWD; i++)
			ck_assert_int_eq(co_spawn(loop_sched(u.loop), CO_STACK_REQUEST, NULL,
						  crowd_main, NULL), 0);
		unit_loop_turns(&u, 5);
		if (round == 0)
			ck_assert_int_eq(write(sv[1], bytes, CROWD), CROWD);
		signal_eventfd(fd, 1);
		events++;
		while (crowd_done < CROWD || w.sum < events)
			unit_loop_turns(&u, 1);
	}
	ck_assert_uint_eq(crowd_done, CROWD);

	/* The watch has come through it, whatever overflowed. */
	signal_eventfd(fd, 1);
	while (w.sum < events + 1)
		unit_loop_turns(&u, 1);
	unit_loop_co(&u, unwatch_main, &w);
	close(fd);
	finish();
}
END_TEST

/* --- What must not be ------------------------------------------------------- */

static void
nest_main(void *arg)
{
	loop_turn(u.loop, false);
}

static void
nest_in_child(void *arg)
{
	unit_loop_open(&u);
	unit_loop_spawn(&u, NULL, nest_main, NULL);
	loop_turn(u.loop, false);
}

START_TEST(nesting_is_caught)
{
	ck_assert(unit_died_of(unit_child(nest_in_child, NULL), SIGABRT));
}
END_TEST

/* io_uring_setup() fails with ERROR in this process from now. */
static void
forbid_io_uring(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(77);
}

struct refusal {
	int error;
	const char *word;
};

static void
refused_in_child(void *arg)
{
	struct refusal *r = arg;
	struct loop *loop = (struct loop *)1;
	struct err err = { 0 };

	if (r->error == EMFILE) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_NOFILE, &none);
	} else {
		forbid_io_uring(r->error);
	}
	if (loop_new(&loop, &err) != -r->error || err.code != -r->error)
		_exit(1);
	if (!strstr(err.text, "io_uring") || !strstr(err.text, r->word))
		_exit(2);
	if (loop != (struct loop *)1)
		_exit(3); /* written on success only */
	_exit(0);
}

START_TEST(refusals_say_why)
{
	struct refusal refusals[] = {
		{ EPERM, "kernel.io_uring_disabled" },
		{ ENOSYS, "seccomp" },
		{ ENOMEM, "locked-memory limit" },
		{ EMFILE, "Too many open files" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		int status = unit_child(refused_in_child, &refusals[i]);

		ck_assert(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			puts("seccomp filters are not allowed here: refusals were not tested");
			return;
		}
		ck_assert_msg(WEXITSTATUS(status) == 0, "error %d: check %d failed",
			      refusals[i].error, WEXITSTATUS(status));
	}
}
END_TEST

START_TEST(free_takes_null)
{
	struct loop *loop;
	struct err err;

	loop_free(NULL);
	ck_assert_int_eq(loop_new(&loop, &err), 0);
	loop_free(loop); /* never attached */
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), recv_waits_for_data, recv_end_of_file,
	     a_sleeping_loop_hears_of_data,
	     messages_and_a_closed_peer, pipes, files_at_their_position, accepting_and_cancel,
	     polling, cancel_ends_a_recv, cancel_in_the_same_turn, a_result_beats_a_cancel,
	     timers_in_order, timers_disarm_and_move, timers_from_timers, timers_with_no_delay, polling_adapts,
	     polling_serves_everybody,
	     waiting_turns_end_with_timers, sleeping, the_real_clock, calls_in_order,
	     calls_from_many_threads, calls_between_two_loops, hooks_once_and_in_stages,
	     hooks_that_wake, hooks_run_at_the_end_of_each_turn, hooks_that_arm_themselves,
	     a_busy_coroutine_leaves_sockets_alive, a_busy_coroutine_leaves_timers_alive,
	     a_busy_coroutine_leaves_hooks_alive, instant_io_leaves_replies_and_sockets_alive,
	     watch_repeats, unwatch_while_ready, watch_hears_of_more,
	     more_operations_than_entries, nesting_is_caught, refusals_say_why, free_takes_null)
