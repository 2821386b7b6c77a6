/* SPDX-License-Identifier: MIT */
/* server_wire.c - reading the data of one option: never past its end. */
#include "server/nbd/wire.h"

#include <errno.h>
#include <sys/socket.h>

#include "server/limits.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct unit_loop u;
static struct chan chan;
static int peer;

static void
start(void)
{
	int sv[2];

	unit_loop_open(&u);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	ck_assert_int_eq(chan_init(&chan, sv[0], sv[0]), 0);
	chan_attach(&chan, u.loop);
	peer = sv[1];
}

static void
finish(void)
{
	chan_close(&chan);
	close(peer);
	unit_loop_close(&u);
}

/* An option: u16, u32, three bytes, two to skip, u16; then the next message. */
static const uint8_t option[] = {
	0x01, 0x02, 0x11, 0x12, 0x13, 0x14, 'a', 'b', 'c', 0xee, 0xee, 0xfe, 0xdc,
};
#define OPTION_BYTES sizeof(option)
#define NEXT 0x77

struct option_read {
	uint32_t claimed; /* length of the option */
	uint16_t first, last;
	uint32_t second;
	char bytes[3];
	int ret;
	bool is_short;
	int next; /* the byte after the option, or -errno */
	bool done;
};

static void
option_main(void *arg)
{
	struct option_read *o = arg;
	struct wire wire;
	uint8_t next;

	co_assert();
	memset(o->bytes, 'x', sizeof(o->bytes));
	wire_init(&wire, &chan, o->claimed);
	o->first = wire_co_u16(&wire);
	o->second = wire_co_u32(&wire);
	wire_co_bytes(&wire, o->bytes, 3);
	wire_co_skip(&wire, 2);
	o->last = wire_co_u16(&wire);
	o->is_short = wire.is_short;
	o->ret = wire_co_end(&wire);
	o->next = chan_co_read(&chan, &next, 1, CHAN_BETWEEN);
	if (o->next == 0)
		o->next = next;
	o->done = true;
}

static void
peer_send(const void *p, size_t len)
{
	ck_assert_int_eq(write(peer, p, len), (ssize_t)len);
}

static void
check_all_read(const struct option_read *o)
{
	ck_assert_uint_eq(o->first, 0x0102);
	ck_assert_uint_eq(o->second, 0x11121314);
	ck_assert(memcmp(o->bytes, "abc", 3) == 0);
	ck_assert_uint_eq(o->last, 0xfedc);
}

START_TEST(exact)
{
	struct option_read o = { .claimed = OPTION_BYTES };
	const uint8_t next = NEXT;

	start();
	peer_send(option, OPTION_BYTES);
	peer_send(&next, 1);
	unit_loop_co(&u, option_main, &o);
	check_all_read(&o);
	ck_assert_int_eq(o.ret, 0);
	ck_assert(!o.is_short);
	ck_assert_int_eq(o.next, NEXT);
	finish();
}
END_TEST

START_TEST(byte_by_byte)
{
	struct option_read o = { .claimed = OPTION_BYTES };
	const uint8_t next = NEXT;

	start();
	unit_loop_spawn(&u, NULL, option_main, &o);
	for (size_t i = 0; i < OPTION_BYTES; i++) {
		unit_loop_turns(&u, 2);
		ck_assert(!o.done);
		peer_send(&option[i], 1);
	}
	unit_loop_turns(&u, 3);
	ck_assert_int_eq(o.ret, 0);
	ck_assert(!o.done); /* it does not take what comes after as its own */
	peer_send(&next, 1);
	unit_loop_until(&u, &o.done);
	check_all_read(&o);
	ck_assert_int_eq(o.next, NEXT);
	finish();
}
END_TEST

/* The option says it is shorter than what has to be in it: every length. */
START_TEST(too_short)
{
	const uint8_t next = NEXT;

	for (uint32_t claimed = 0; claimed < OPTION_BYTES; claimed++) {
		struct option_read o = { .claimed = claimed };

		start();
		peer_send(option, claimed);
		peer_send(&next, 1);
		unit_loop_co(&u, option_main, &o);
		ck_assert_int_eq(o.ret, -EBADMSG);
		ck_assert(o.is_short);
		ck_assert_int_eq(o.next, NEXT); /* in step */
		/* What is not there is zero, and so is all behind it. */
		ck_assert_uint_eq(o.first, claimed >= 2 ? 0x0102 : 0);
		ck_assert_uint_eq(o.second, claimed >= 6 ? 0x11121314 : 0);
		ck_assert(memcmp(o.bytes, claimed >= 9 ? "abc" : "\0\0\0", 3) == 0);
		ck_assert_uint_eq(o.last, 0);
		finish();
	}
}
END_TEST

START_TEST(too_long)
{
	static const uint32_t more[] = { 1, 2, 100, 5000, LIMIT_OPTION_BYTES };
	static uint8_t junk[LIMIT_OPTION_BYTES];
	const uint8_t next = NEXT;

	memset(junk, 0xdd, sizeof(junk));
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		struct option_read o = { .claimed = (uint32_t)OPTION_BYTES + more[i] };
		size_t at = 0;

		start();
		unit_loop_spawn(&u, NULL, option_main, &o);
		peer_send(option, OPTION_BYTES);
		while (at < more[i]) {
			size_t n = MIN(more[i] - at, (size_t)10000);

			peer_send(junk, n);
			at += n;
			unit_loop_turns(&u, 4);
		}
		peer_send(&next, 1);
		unit_loop_until(&u, &o.done);
		check_all_read(&o);
		ck_assert(!o.is_short);
		ck_assert_int_eq(o.ret, -EBADMSG);
		ck_assert_int_eq(o.next, NEXT);
		finish();
	}
}
END_TEST

/* The stream ends inside: after every byte, and with trailing junk. */
START_TEST(end_of_stream_inside)
{
	for (uint32_t sent = 0; sent < OPTION_BYTES + 5; sent++) {
		struct option_read o = { .claimed = OPTION_BYTES + 5 };

		start();
		peer_send(option, MIN(sent, (uint32_t)OPTION_BYTES));
		peer_send("junk", sent > OPTION_BYTES ? sent - OPTION_BYTES : 0);
		shutdown(peer, SHUT_WR);
		unit_loop_co(&u, option_main, &o);
		ck_assert_int_eq(o.ret, -ECONNRESET);
		ck_assert_uint_eq(o.first, sent >= 2 ? 0x0102 : 0);
		ck_assert_uint_eq(o.second, sent >= 6 ? 0x11121314 : 0);
		ck_assert_uint_eq(o.last, sent >= OPTION_BYTES ? 0xfedc : 0);
		finish();
	}
}
END_TEST

START_TEST(an_error_is_kept)
{
	struct option_read o = { .claimed = OPTION_BYTES };

	loop_assert();
	start();
	unit_loop_spawn(&u, NULL, option_main, &o);
	peer_send(option, 4); /* in the middle of the u32 */
	unit_loop_turns(&u, 3);
	chan_abort(&chan, -ESHUTDOWN);
	unit_loop_until(&u, &o.done);
	ck_assert_int_eq(o.ret, -ESHUTDOWN);
	ck_assert_uint_eq(o.first, 0x0102);
	ck_assert_uint_eq(o.second, 0);
	ck_assert(memcmp(o.bytes, "\0\0\0", 3) == 0);
	ck_assert_int_eq(o.next, -ESHUTDOWN);
	finish();
}
END_TEST

/* Lengths that would wrap when they are added up. */
static void
huge_main(void *arg)
{
	struct wire wire;
	char c = 'x';

	co_assert();
	wire_init(&wire, &chan, 8);
	ck_assert_uint_eq(wire_co_u32(&wire), 0x01021112);
	wire_co_skip(&wire, UINT32_MAX);
	ck_assert(wire.is_short);
	ck_assert_uint_eq(wire.left, 4); /* nothing was taken for it */
	wire_co_bytes(&wire, &c, 1);
	ck_assert_int_eq(c, 0); /* nor after it, though it is there */
	ck_assert_int_eq(wire_co_end(&wire), -EBADMSG);
	ck_assert_int_eq(chan_co_read(&chan, &c, 1, CHAN_BETWEEN), 0);
	ck_assert_int_eq(c, 'c');

	wire_init(&wire, &chan, 0);
	ck_assert_int_eq(wire_co_end(&wire), 0); /* nothing, exactly */
	wire_co_bytes(&wire, &c, 0);
	wire_co_skip(&wire, 0);
	ck_assert(!wire.is_short);
}

START_TEST(huge_lengths)
{
	start();
	peer_send(option, OPTION_BYTES);
	unit_loop_co(&u, huge_main, NULL);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), exact, byte_by_byte, too_short, too_long, end_of_stream_inside,
	     an_error_is_kept, huge_lengths)
