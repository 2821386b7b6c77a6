/* SPDX-License-Identifier: MIT */
/*
 * server_conn.c - how long a handshake may take, in virtual time, and what comes of one
 * that is too late.
 * Covers: HS-7 TLS-11
 */
#include "server/nbd/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "server/log.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"
#include "tests/lib/unit_tls.h"

#define PAYLOAD_BYTES LIMIT_PAYLOAD_WORKER_MIN
#define YEAR (365 * 24 * 3600 * UNIT_SECOND)

static struct export export = { .name = "disk", .description = "" };
static struct export_set set = { .exports = &export, .count = 1, .fallback = &export };
static struct worker *worker;
static struct unit_loop u; /* the worker's loop, which is the owner's as well */
static struct conn_owner owner;
static struct conn *conn;
static struct gate *gate; /* what the connection gets; NULL: none */
static bool over_tcp; /* not a unix socket */
static bool is_negotiated, is_closed, is_stopped;
static int peer;
static size_t received; /* bytes */

static void
negotiated(struct conn_owner *o, struct conn *c)
{
	ck_assert(!is_negotiated && !is_closed);
	is_negotiated = true;
}

static void
gone(struct conn_owner *o, struct conn *c)
{
	ck_assert(!is_closed);
	is_closed = true;
}

static uint64_t
virtual_now(void *arg)
{
	return u.now;
}

/* Whatever the server has sent so far; whether it has hung up. */
static bool
hung_up(void)
{
	char buf[4096];
	ssize_t n;

	unit_loop_turns(&u, 8);
	while ((n = recv(peer, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		received += (size_t)n;
	return n == 0 || errno != EAGAIN;
}

/* Two ends of a connection. */
static void
connect_pair(int sv[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int fd;

	if (!over_tcp) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		return;
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	sv[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(sv[1], (struct sockaddr *)&at, len), 0);
	sv[0] = accept(fd, NULL, NULL);
	ck_assert_int_ge(sv[0], 0);
	close(fd);
}

static void
start(uint64_t handshake_ns)
{
	static const struct dev_prop size = { "size", "1048576" };
	static const struct dev_config config = { .driver = "mem", .props = &size, .nprops = 1 };
	struct err err;
	int sv[2];

	log_init(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(dev_open(&export.dev, &config, &err), 0);
	export.size_bytes = export.dev->size_bytes;
	export_set_sizes(&export, &(struct block_sizes){ 0 });
	backend_init(&export.backend, export.name, export.dev, BACKEND_REPORT, BACKEND_REPORT);
	ck_assert_msg(worker_new(&worker, 0, &set, PAYLOAD_BYTES, false, &err) == 0, "%s",
		      err.text);
	u.loop = worker_loop(worker);
	u.now = UNIT_SECOND;
	ck_assert_int_eq(loop_attach(u.loop, &err), 0);
	loop_set_clock(u.loop, virtual_now, NULL);

	owner = (struct conn_owner){
		.loop = u.loop,
		.handshake_ns = handshake_ns,
		.negotiated = negotiated,
		.closed = gone,
	};
	connect_pair(sv);
	/* Little room: a few answers that nobody reads fill it. */
	ck_assert_int_eq(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int)), 0);
	peer = sv[1];
	ck_assert_int_eq(conn_new(&conn, 1, sv[0], sv[0], "peer", worker, &set, &owner), 0);
	conn->gate = gate;
	conn_start(conn);
	ck_assert(!hung_up());
	ck_assert_uint_eq(received, NBD_GREETING_BYTES);
}

static void
stopped(struct loop_call *call)
{
	is_stopped = true;
}

static void
finish(void)
{
	struct loop_call call;

	close(peer);
	unit_loop_until(&u, &is_closed);
	conn_free(conn);
	ck_assert_uint_eq(export.clients, 0);
	worker_stop(worker, u.loop, &call, stopped);
	unit_loop_until(&u, &is_stopped);
	loop_detach(u.loop);
	worker_free(worker);
	backend_fini(&export.backend);
	dev_close(export.dev);
}

static void
say(const void *bytes, size_t len)
{
	ck_assert_int_eq(send(peer, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void
say_flags(void)
{
	uint8_t flags[4];

	put_be32(flags, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	say(flags, sizeof(flags));
}

static void
option_header(uint8_t header[NBD_OPTION_BYTES], enum nbd_opt opt, uint32_t len)
{
	put_be64(header, NBD_OPTION_MAGIC);
	put_be32(header + 8, opt);
	put_be32(header + 12, len);
}

/* An option without data gets its answer. */
static void
check_lists(void)
{
	uint8_t header[NBD_OPTION_BYTES];
	size_t before;

	ck_assert(!hung_up());
	before = received;
	option_header(header, NBD_OPT_LIST, 0);
	say(header, sizeof(header));
	ck_assert(!hung_up());
	ck_assert(received > before);
}

START_TEST(silence)
{
	start(7 * UNIT_SECOND);
	unit_loop_pass(&u, 7 * UNIT_SECOND - 1);
	ck_assert(!hung_up());
	unit_loop_pass(&u, 1);
	ck_assert(hung_up() && is_closed && !is_negotiated);
	finish();
}
END_TEST

/* One option after the other, a byte at a time: there is progress all the time. */
START_TEST(progress_earns_no_time)
{
	uint8_t header[NBD_OPTION_BYTES];
	size_t answered = 0;

	start(20 * UNIT_SECOND);
	say_flags();
	option_header(header, NBD_OPT_LIST, 0);
	for (unsigned i = 1; i < 200; i++) {
		unit_loop_pass(&u, UNIT_SECOND / 10);
		ck_assert_msg(!hung_up(), "after %u tenths of a second", i);
		say(&header[(i - 1) % sizeof(header)], 1);
	}
	answered = received;
	ck_assert(answered > NBD_GREETING_BYTES);
	unit_loop_pass(&u, UNIT_SECOND / 10);
	ck_assert(hung_up() && is_closed);
	finish();
}
END_TEST

/* Nor does an answer that cannot be sent; it only is not cut off at once. */
START_TEST(takes_no_answer)
{
	uint8_t header[NBD_OPTION_BYTES];

	start(7 * UNIT_SECOND);
	say_flags();
	option_header(header, NBD_OPT_LIST, 0);
	for (unsigned i = 0; i < 50; i++)
		say(header, sizeof(header));
	unit_loop_turns(&u, 200);
	unit_loop_pass(&u, 7 * UNIT_SECOND);
	ck_assert(!is_closed);
	unit_loop_pass(&u, LIMIT_LINGER_NS - 1);
	ck_assert(!is_closed);
	unit_loop_pass(&u, 1);
	unit_loop_until(&u, &is_closed);
	ck_assert(!is_negotiated);
	finish();
}
END_TEST

START_TEST(no_limit)
{
	start(0);
	unit_loop_pass(&u, YEAR);
	ck_assert(!hung_up());
	say_flags();
	check_lists();
	unit_loop_pass(&u, YEAR);
	check_lists();
	finish();
}
END_TEST

/* What has been begun must go on, whatever the limit of the whole. */
START_TEST(no_limit_but_a_stall)
{
	uint8_t header[NBD_OPTION_BYTES];

	start(0);
	say_flags();
	check_lists();
	option_header(header, NBD_OPT_LIST, 0);
	say(header, 1);
	ck_assert(!hung_up());
	unit_loop_pass(&u, LIMIT_STALL_NS - 1);
	ck_assert(!hung_up());
	unit_loop_pass(&u, 1);
	ck_assert(hung_up() && is_closed);
	finish();
}
END_TEST

START_TEST(no_limit_but_the_end_of_the_server)
{
	start(0);
	say_flags();
	check_lists();
	unit_loop_pass(&u, YEAR);
	worker_drain(worker);
	ck_assert(!hung_up());
	unit_loop_pass(&u, LIMIT_HANDSHAKE_LINGER_NS - 1);
	ck_assert(!hung_up());
	unit_loop_pass(&u, 1);
	unit_loop_pass(&u, LIMIT_LINGER_NS); /* after which it has been said goodbye to */
	ck_assert(hung_up() && is_closed);
	finish();
}
END_TEST

/* With TLS to be had. */
static void
start_with_tls(uint64_t handshake_ns)
{
	gate = calloc(1, sizeof(*gate));
	gate->refs = 1;
	gate->tls = unit_tls_load();
	start(handshake_ns);
}

/* And so must a handshake of TLS, in all: bytes that come now and then do not save it. */
START_TEST(no_limit_but_that_of_tls)
{
	/* The beginning of a handshake message of 2^14 bytes, in a record as long. */
	static const uint8_t record[] = { 0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc };
	uint8_t starttls[NBD_OPTION_BYTES];
	uint64_t left = LIMIT_MESSAGE_NS(LIMIT_TLS_MESSAGE_BYTES);

	start_with_tls(0);
	say_flags();
	option_header(starttls, NBD_OPT_STARTTLS, 0);
	say(starttls, sizeof(starttls));
	ck_assert(!hung_up());
	ck_assert_uint_eq(received, NBD_GREETING_BYTES + NBD_OPTION_REPLY_BYTES);
	for (unsigned i = 0; left > 10 * UNIT_SECOND; i++) {
		say(i < sizeof(record) ? &record[i] : record, 1);
		ck_assert(!hung_up());
		unit_loop_pass(&u, 10 * UNIT_SECOND);
		left -= 10 * UNIT_SECOND;
	}
	unit_loop_pass(&u, left - 1);
	ck_assert(!hung_up());
	unit_loop_pass(&u, 1);
	ck_assert(hung_up() && is_closed);
	finish();
}
END_TEST

/* Options whose answers nobody takes, and behind them a GO that is received in time. */
static void
start_with_go_ahead(void)
{
	uint8_t list[NBD_OPTION_BYTES], go[NBD_OPTION_BYTES + 6] = { 0 };

	start(7 * UNIT_SECOND);
	say_flags();
	option_header(list, NBD_OPT_LIST, 0);
	for (unsigned i = 0; i < 50; i++)
		say(list, sizeof(list));
	option_header(go, NBD_OPT_GO, 6);
	say(go, sizeof(go));
	unit_loop_turns(&u, 200);
}

/* Now the answers are taken. */
static void
check_no_export(void)
{
	ck_assert(!is_closed);
	for (unsigned i = 0; i < 200 && !hung_up(); i++)
		;
	ck_assert(!is_negotiated);
	ck_assert_uint_eq(export.clients, 0);
	finish();
}

START_TEST(go_ahead_of_the_limit)
{
	start_with_go_ahead();
	unit_loop_pass(&u, 7 * UNIT_SECOND);
	check_no_export();
}
END_TEST

START_TEST(go_ahead_of_the_end_of_the_server)
{
	start_with_go_ahead();
	worker_drain(worker);
	unit_loop_turns(&u, 8);
	unit_loop_pass(&u, LIMIT_HANDSHAKE_LINGER_NS);
	check_no_export();
}
END_TEST

static void
occupy(void *arg)
{
	co_assert();
	share_co_begin(worker_handshakes(worker));
}

/* The client has sent what nobody has read: that must not take the alert from it. */
START_TEST(goodbye_to_one_that_is_late)
{
	uint8_t starttls[NBD_OPTION_BYTES], rest[64];

	over_tcp = true;
	start_with_tls(7 * UNIT_SECOND);
	say_flags();
	unit_loop_pass(&u, 7 * UNIT_SECOND - 1);
	unit_loop_co(&u, occupy, NULL);
	option_header(starttls, NBD_OPT_STARTTLS, 0);
	say(starttls, sizeof(starttls));
	ck_assert(!hung_up());
	ck_assert_uint_eq(received, NBD_GREETING_BYTES + NBD_OPTION_REPLY_BYTES);
	say(starttls, sizeof(starttls));
	unit_loop_pass(&u, 1);
	loop_assert();
	share_end(worker_handshakes(worker));
	unit_loop_turns(&u, 8);
	unit_loop_pass(&u, 1); /* a share rests as long as it has worked */
	unit_loop_turns(&u, 8);
	ck_assert(!is_closed);
	ck_assert_int_gt(recv(peer, rest, sizeof(rest), 0), 0);
	ck_assert_int_eq(rest[0], 0x15);
	ck_assert_int_eq(recv(peer, rest, sizeof(rest), 0), 0);
	finish();
	ck_assert(!is_negotiated);
}
END_TEST

/* On a unix socket it can be read later: a server that stops does not wait for that. */
START_TEST(goodbye_to_one_that_does_not_read)
{
	uint8_t starttls[NBD_OPTION_BYTES], rest[64];

	start_with_tls(0);
	say_flags();
	option_header(starttls, NBD_OPT_STARTTLS, 0);
	say(starttls, sizeof(starttls));
	ck_assert(!hung_up());
	ck_assert_uint_eq(received, NBD_GREETING_BYTES + NBD_OPTION_REPLY_BYTES);
	worker_drain(worker);
	unit_loop_turns(&u, 8);
	unit_loop_pass(&u, LIMIT_HANDSHAKE_LINGER_NS);
	unit_loop_turns(&u, 8);
	ck_assert(is_closed);
	ck_assert_int_gt(recv(peer, rest, sizeof(rest), 0), 0);
	ck_assert_int_eq(rest[0], 0x15);
	ck_assert_int_eq(recv(peer, rest, sizeof(rest), 0), 0);
	finish();
}
END_TEST

START_TEST(in_time)
{
	uint8_t go[NBD_OPTION_BYTES + 6] = { 0 };

	start(7 * UNIT_SECOND);
	say_flags();
	unit_loop_pass(&u, 7 * UNIT_SECOND - 1);
	option_header(go, NBD_OPT_GO, 6); /* an empty name, no wishes */
	say(go, sizeof(go));
	ck_assert(!hung_up());
	ck_assert(is_negotiated);
	ck_assert_uint_eq(export.clients, 1);
	unit_loop_pass(&u, YEAR);
	ck_assert(!hung_up() && !is_closed);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), silence, progress_earns_no_time, takes_no_answer, no_limit,
	     no_limit_but_a_stall, no_limit_but_that_of_tls, no_limit_but_the_end_of_the_server,
	     go_ahead_of_the_limit, go_ahead_of_the_end_of_the_server, goodbye_to_one_that_is_late,
	     goodbye_to_one_that_does_not_read, in_time)
