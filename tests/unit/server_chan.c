/* SPDX-License-Identifier: MIT */
/* server_chan.c - the connection's door: reading ahead, stalls, aborts, pipes. */
#include "server/nbd/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "server/limits.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct unit_loop u;
static struct chan chan;
static int peer_rfd, peer_wfd; /* the other side: what it reads and writes */

static void
no_block(int fd)
{
	ck_assert_int_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void
open_over(int rfd, int wfd)
{
	unit_loop_open(&u);
	ck_assert_int_eq(chan_init(&chan, rfd, wfd), 0);
	chan_attach(&chan, u.loop);
	no_block(peer_rfd);
	no_block(peer_wfd);
}

static void
start(void)
{
	int sv[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	peer_rfd = peer_wfd = sv[1];
	open_over(sv[0], sv[0]);
}

static void
start_pipes(void)
{
	int in[2], out[2];

	signal(SIGPIPE, SIG_IGN); /* as the server does */
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	peer_wfd = in[1];
	peer_rfd = out[0];
	open_over(in[0], out[1]);
}

static void
peer_close(void)
{
	close(peer_rfd);
	if (peer_wfd != peer_rfd)
		close(peer_wfd);
	peer_rfd = peer_wfd = -1;
}

static void
finish(void)
{
	chan_close(&chan);
	if (peer_rfd >= 0)
		peer_close();
	unit_loop_close(&u);
}

/* The byte at place AT of every stream here. */
static uint8_t
stream_byte(size_t at)
{
	return (uint8_t)(at * 13 + at / 251);
}

static void
peer_send(size_t from, size_t len)
{
	static uint8_t buf[70000];

	ck_assert_uint_le(len, sizeof(buf));
	for (size_t i = 0; i < len; i++)
		buf[i] = stream_byte(from + i);
	ck_assert_int_eq(write(peer_wfd, buf, len), (ssize_t)len);
}

/* --- Reading ---------------------------------------------------------------- */

/* What a connection reads, over and over, until the stream's end. */
enum action { HEADER, SMALL, PAYLOAD, VECTOR, SKIP, BUFFERED };

struct reader {
	size_t at, end;
	bool done;
	int ret;
};

static uint8_t big[4 << 20];

static void
check_stream(const uint8_t *p, size_t len, size_t at)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != stream_byte(at + i))
			ck_abort_msg("byte %zu is wrong", at + i);
}

static int co_fn
read_some(struct reader *r, enum action action, size_t len)
{
	struct iovec iov[3] = {
		{ big, len / 3 }, { big + len / 3, len / 2 }, { big + len / 3 + len / 2, 0 },
	};
	int ret;

	switch (action) {
	case SKIP:
		return chan_co_skip(&chan, len);
	case VECTOR:
		iov[2].iov_len = len - len / 3 - len / 2;
		ret = chan_co_readv(&chan, iov, 3);
		break;
	case BUFFERED:
		ret = chan_co_buffer(&chan, len);
		if (ret == 0) {
			ck_assert_uint_ge(chan.end - chan.begin, len);
			ret = chan_co_read(&chan, big, len, CHAN_INSIDE);
		}
		break;
	default:
		ret = chan_co_read(&chan, big, len, action == HEADER ? CHAN_BETWEEN : CHAN_INSIDE);
	}
	if (ret == 0)
		check_stream(big, len, r->at);
	return ret;
}

static void
reader_main(void *arg)
{
	static const struct {
		enum action action;
		size_t len;
	} plan[] = {
		{ HEADER, 28 }, { HEADER, 28 }, { SMALL, 1 }, { SMALL, 1023 }, { HEADER, 28 },
		{ PAYLOAD, 1024 }, { SKIP, 1 }, { HEADER, 28 }, { PAYLOAD, 5000 }, { SKIP, 3000 },
		{ BUFFERED, 700 }, { VECTOR, 4100 }, { SMALL, 0 }, { SKIP, 0 }, { BUFFERED, 4097 },
		{ HEADER, 28 }, { PAYLOAD, 40000 }, { HEADER, 28 }, { SKIP, 20000 },
		{ VECTOR, 40000 }, { BUFFERED, 30000 },
	};
	struct reader *r = arg;
	size_t step = 0;

	co_assert();
	while (r->at < r->end) {
		enum action action = plan[step % ARRAY_SIZE(plan)].action;
		size_t len = MIN(plan[step % ARRAY_SIZE(plan)].len, r->end - r->at);

		r->ret = read_some(r, action, len);
		ck_assert_int_eq(r->ret, 0);
		r->at += len;
		step++;
	}
	r->done = true;
}

static void
check_chunks(size_t chunk, size_t total, size_t ahead)
{
	struct reader r = { .end = total };

	chan_set_ahead(&chan, ahead);
	unit_loop_spawn(&u, NULL, reader_main, &r);
	for (size_t at = 0; at < total; at += chunk) {
		peer_send(at, MIN(chunk, total - at));
		unit_loop_turns(&u, 3);
		/* A large chunk may take several receives. */
		while (chunk >= 1000 && co_sched_has_ready(loop_sched(u.loop)))
			unit_loop_turns(&u, 1);
	}
	unit_loop_until(&u, &r.done);
	ck_assert_uint_eq(r.at, total);
	ck_assert_uint_eq(chan.begin, chan.end); /* nothing is left over */
}

START_TEST(a_stream_in_chunks_of_every_size)
{
	static const size_t chunks[] = {
		1, 2, 3, 7, 27, 28, 29, 56, 1023, 1024, 1025, 4095, 4096, 4097, 30000, 65535, 65536,
		70000,
	};

	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		size_t total = chunks[i] < 27 ? 20000 : chunks[i] < 1000 ? 60000 : 300000;

		start();
		check_chunks(chunks[i], total, LIMIT_READ_AHEAD_HANDSHAKE);
		check_chunks(chunks[i], total, LIMIT_READ_AHEAD);
		check_chunks(chunks[i], 3000, LIMIT_READ_AHEAD);
		finish();
	}
}
END_TEST

START_TEST(a_stream_over_pipes)
{
	static const size_t chunks[] = { 1, 28, 1024, 4097, 30000 };

	for (size_t i = 0; i < ARRAY_SIZE(chunks); i++) {
		start_pipes();
		check_chunks(chunks[i], chunks[i] < 27 ? 12000 : 150000, LIMIT_READ_AHEAD);
		finish();
	}
}
END_TEST

/* A stream of 100 bytes cut at any two places. */
START_TEST(every_two_cuts)
{
	start();
	for (size_t a = 0; a <= 100; a++)
		for (size_t b = a; b <= 100; b += 7) {
			struct reader r = { .end = 100 };

			unit_loop_spawn(&u, NULL, reader_main, &r);
			peer_send(0, a);
			unit_loop_turns(&u, 2);
			peer_send(a, b - a);
			unit_loop_turns(&u, 2);
			peer_send(b, 100 - b);
			unit_loop_until(&u, &r.done);
		}
	finish();
}
END_TEST

static void
header_main(void *arg)
{
	struct reader *r = arg;

	co_assert();
	r->ret = chan_co_read(&chan, big, 28, CHAN_BETWEEN);
	r->done = true;
}

START_TEST(a_burst_is_one_receive)
{
	struct reader r = { 0 };

	start();
	chan_set_ahead(&chan, LIMIT_READ_AHEAD);
	peer_send(0, 50 * 28);
	unit_loop_co(&u, header_main, &r);
	ck_assert_int_eq(r.ret, 0);
	ck_assert_uint_eq(chan.end - chan.begin, 49 * 28);
	finish();
}
END_TEST

struct one_read {
	enum chan_where where;
	enum action action;
	size_t len;
	int ret;
	bool done;
};

static void
one_read_main(void *arg)
{
	struct one_read *r = arg;
	struct iovec iov[] = { { big, r->len / 2 }, { big + r->len / 2, r->len - r->len / 2 } };

	co_assert();
	if (r->action == SKIP)
		r->ret = chan_co_skip(&chan, r->len);
	else if (r->action == BUFFERED)
		r->ret = chan_co_buffer(&chan, r->len);
	else if (r->action == VECTOR)
		r->ret = chan_co_readv(&chan, iov, ARRAY_SIZE(iov));
	else
		r->ret = chan_co_read(&chan, big, r->len, r->where);
	r->done = true;
}

/* What a read makes of SENT bytes and then the end. */
static int
read_at_end(struct one_read r, size_t sent)
{
	start();
	unit_loop_spawn(&u, NULL, one_read_main, &r);
	unit_loop_turns(&u, 2);
	peer_send(0, sent);
	unit_loop_turns(&u, 2);
	peer_close();
	unit_loop_until(&u, &r.done);
	finish();
	return r.ret;
}

START_TEST(end_of_stream)
{
	const struct one_read between = { CHAN_BETWEEN, HEADER, 28, 0, false };
	const struct one_read inside = { CHAN_INSIDE, HEADER, 28, 0, false };
	const struct one_read large = { CHAN_BETWEEN, PAYLOAD, 5000, 0, false };
	const struct one_read skip = { CHAN_INSIDE, SKIP, 5000, 0, false };
	const struct one_read buffer = { CHAN_INSIDE, BUFFERED, 5000, 0, false };

	ck_assert_int_eq(read_at_end(between, 0), -ENODATA);
	ck_assert_int_eq(read_at_end(inside, 0), -ECONNRESET);
	ck_assert_int_eq(read_at_end(large, 0), -ENODATA);
	ck_assert_int_eq(read_at_end(skip, 0), -ECONNRESET);
	ck_assert_int_eq(read_at_end(buffer, 0), -ECONNRESET);
	ck_assert_int_eq(read_at_end(between, 28), 0);
	ck_assert_int_eq(read_at_end(skip, 5000), 0);
	ck_assert_int_eq(read_at_end(buffer, 5000), 0);
	for (size_t sent = 1; sent < 28; sent++) {
		ck_assert_int_eq(read_at_end(between, sent), -ECONNRESET);
		ck_assert_int_eq(read_at_end(inside, sent), -ECONNRESET);
	}
	ck_assert_int_eq(read_at_end(large, 4999), -ECONNRESET);
	ck_assert_int_eq(read_at_end(skip, 4999), -ECONNRESET);
	ck_assert_int_eq(read_at_end(buffer, 4999), -ECONNRESET);
}
END_TEST

/* --- Stall ------------------------------------------------------------------ */

START_TEST(silence_between_messages)
{
	struct one_read r = { CHAN_BETWEEN, HEADER, 28, 0, false };

	start();
	unit_loop_spawn(&u, NULL, one_read_main, &r);
	for (int i = 0; i < 10; i++)
		unit_loop_pass(&u, 1000 * UNIT_SECOND);
	ck_assert(!r.done);
	peer_send(0, 28);
	unit_loop_until(&u, &r.done);
	ck_assert_int_eq(r.ret, 0);
	finish();
}
END_TEST

static void
check_over(struct one_read *r)
{
	unit_loop_until(&u, &r->done);
	ck_assert_int_eq(r->ret, -ETIMEDOUT);
	/* For good, also for bytes that are there. */
	peer_send(0, 100);
	unit_loop_co(&u, one_read_main, r);
	ck_assert_int_eq(r->ret, -ETIMEDOUT);
}

static void
begin_message(struct one_read *r)
{
	start();
	unit_loop_spawn(&u, NULL, one_read_main, r);
	unit_loop_turns(&u, 2);
	if (r->where == CHAN_BETWEEN) {
		unit_loop_pass(&u, 1000 * UNIT_SECOND);
		peer_send(0, 1); /* now a message is under way */
	}
	unit_loop_turns(&u, 2);
}

static void
check_stalls(struct one_read r)
{
	begin_message(&r);
	unit_loop_pass(&u, LIMIT_STALL_NS - 1);
	ck_assert(!r.done);
	unit_loop_pass(&u, 1);
	check_over(&r);
	finish();
}

static const struct one_read messages[] = {
	{ CHAN_INSIDE, HEADER, 28, 0, false },
	{ CHAN_BETWEEN, HEADER, 28, 0, false },
	{ CHAN_INSIDE, PAYLOAD, 20000, 0, false },
	{ CHAN_INSIDE, PAYLOAD, sizeof(big), 0, false },
	{ CHAN_INSIDE, VECTOR, sizeof(big), 0, false },
	{ CHAN_INSIDE, SKIP, 20000, 0, false },
	{ CHAN_INSIDE, SKIP, LIMIT_PAYLOAD_DRAINED, 0, false },
	{ CHAN_INSIDE, BUFFERED, 20000, 0, false },
};

START_TEST(silence_inside_a_message)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		check_stalls(messages[i]);
}
END_TEST

START_TEST(a_byte_ends_the_silence)
{
	struct one_read r = { CHAN_INSIDE, PAYLOAD, sizeof(big), 0, false };

	begin_message(&r);
	unit_loop_pass(&u, LIMIT_STALL_NS - 1);
	peer_send(0, 1);
	unit_loop_turns(&u, 3);
	unit_loop_pass(&u, LIMIT_STALL_NS - 1);
	ck_assert(!r.done);
	unit_loop_pass(&u, 1);
	check_over(&r);
	finish();
}
END_TEST

/* A byte now and then keeps no message alive beyond what its size is worth. */
static void
check_trickle(struct one_read r)
{
	uint64_t limit = LIMIT_MESSAGE_NS(r.len), nap = LIMIT_STALL_NS / 3, left;

	begin_message(&r);
	for (left = limit; left > nap; left -= nap) {
		unit_loop_pass(&u, nap);
		ck_assert(!r.done);
		peer_send(0, 1);
		unit_loop_turns(&u, 3);
	}
	unit_loop_pass(&u, left - 1);
	ck_assert(!r.done);
	unit_loop_pass(&u, 1);
	check_over(&r);
	finish();
}

START_TEST(a_message_that_trickles)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		check_trickle(messages[i]);
}
END_TEST

/* Slow, but as fast as is asked for. */
START_TEST(a_message_at_the_slowest_rate)
{
	struct one_read r = { CHAN_INSIDE, PAYLOAD, sizeof(big), 0, false };

	begin_message(&r);
	unit_loop_pass(&u, LIMIT_STALL_NS - 1);
	for (size_t at = 0; at < r.len; at += LIMIT_RATE) {
		ck_assert(!r.done);
		peer_send(0, MIN(r.len - at, LIMIT_RATE));
		for (int i = 0; i < 5 && !r.done; i++)
			unit_loop_turns(&u, 2);
		unit_loop_pass(&u, UNIT_SECOND);
	}
	unit_loop_until(&u, &r.done);
	ck_assert_int_eq(r.ret, 0);
	finish();
}
END_TEST

/* What the server does between two reads counts for nothing. */
START_TEST(time_that_is_ours)
{
	struct one_read r = { CHAN_INSIDE, BUFFERED, 5000, 0, false };

	start();
	peer_send(0, 70000);
	for (int i = 0; i < 10; i++) {
		unit_loop_co(&u, one_read_main, &r);
		ck_assert_int_eq(r.ret, 0);
		r.action = i % 2 ? BUFFERED : PAYLOAD;
		unit_loop_pass(&u, 1000 * UNIT_SECOND);
	}
	finish();
}
END_TEST

/* --- Writing ---------------------------------------------------------------- */

#define OUT_BYTES (3u << 20)

struct writer {
	size_t len;
	int iovcnt;
	int ret;
	bool done;
};

static uint8_t out[OUT_BYTES], in[OUT_BYTES];
static struct iovec out_iov[600];

static void
writer_main(void *arg)
{
	struct writer *w = arg;
	size_t at = 0;

	co_assert();
	for (int i = 0; i < w->iovcnt; i++) {
		size_t len = i == w->iovcnt - 1 ? w->len - at : w->len / (size_t)w->iovcnt;

		/* Some of them are empty. */
		if (i % 5 == 3)
			len = 0;
		out_iov[i] = (struct iovec){ out + at, len };
		at += len;
	}
	ck_assert_uint_eq(at, w->len);
	w->ret = chan_co_writev(&chan, out_iov, w->iovcnt);
	w->done = true;
}

static size_t
peer_receive(size_t at, size_t max)
{
	ssize_t n = read(peer_rfd, in + at, max);

	return n > 0 ? (size_t)n : 0;
}

static void
fill_out(void)
{
	for (size_t i = 0; i < OUT_BYTES; i++)
		out[i] = stream_byte(i);
	memset(in, 0, sizeof(in));
}

static void
check_write(struct writer w, size_t read_max)
{
	size_t at = 0;

	fill_out();
	unit_loop_spawn(&u, NULL, writer_main, &w);
	while (at < w.len) {
		unit_loop_turns(&u, 1);
		at += peer_receive(at, MIN(read_max, w.len - at));
	}
	unit_loop_until(&u, &w.done);
	ck_assert_int_eq(w.ret, 0);
	ck_assert_uint_eq(peer_receive(0, 1), 0);
	check_stream(in, w.len, 0);
}

static const struct writer writes[] = {
	{ .len = 16, .iovcnt = 1 },
	{ .len = 100000, .iovcnt = 2 },
	{ .len = 300000, .iovcnt = 600 },
	{ .len = LIMIT_SEND_BYTES, .iovcnt = 17 },
	{ .len = LIMIT_SEND_BYTES + 1, .iovcnt = 257 },
	{ .len = OUT_BYTES, .iovcnt = 300 },
};

START_TEST(writes_arrive_whole)
{
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		start();
		check_write(writes[i], OUT_BYTES);
		finish();
	}
}
END_TEST

START_TEST(writes_through_a_narrow_socket)
{
	int small = 4096;

	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		start();
		ck_assert_int_eq(setsockopt(chan.wfd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
				 0);
		check_write(writes[i], 5000);
		finish();
	}
}
END_TEST

START_TEST(writes_into_a_pipe)
{
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		start_pipes();
		check_write(writes[i], 5000);
		finish();
	}
}
END_TEST

START_TEST(nobody_reads)
{
	struct writer w = { .len = OUT_BYTES, .iovcnt = 3 };

	for (int pipes = 0; pipes < 2; pipes++) {
		w.done = false;
		if (pipes)
			start_pipes();
		else
			start();
		unit_loop_spawn(&u, NULL, writer_main, &w);
		unit_loop_turns(&u, 8);
		unit_loop_pass(&u, LIMIT_STALL_NS - 1);
		ck_assert(!w.done);
		unit_loop_pass(&u, 1);
		unit_loop_until(&u, &w.done);
		ck_assert_int_eq(w.ret, -ETIMEDOUT);
		finish();
	}
}
END_TEST

/* A peer that takes RATE bytes a second; whether it gets everything. */
static bool
slow_reader_is_served(struct writer w, size_t rate)
{
	uint64_t begin;
	int small = 4096;
	size_t at = 0;

	start();
	ck_assert_int_eq(setsockopt(chan.wfd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	fill_out();
	begin = u.now;
	unit_loop_spawn(&u, NULL, writer_main, &w);
	while (at < w.len && !w.done) {
		size_t part = MIN(rate, w.len - at), n;

		do {
			unit_loop_turns(&u, 3);
			n = peer_receive(at, part);
			at += n;
			part -= n;
		} while (part > 0 && !w.done);
		unit_loop_turns(&u, 3);
		ck_assert(w.done || u.now - begin < LIMIT_MESSAGE_NS(w.len));
		unit_loop_pass(&u, UNIT_SECOND);
	}
	unit_loop_until(&u, &w.done);
	ck_assert(w.ret == 0 || w.ret == -ETIMEDOUT);
	finish();
	return w.ret == 0;
}

START_TEST(slow_readers)
{
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		ck_assert(slow_reader_is_served(writes[i], LIMIT_RATE));
		ck_assert(writes[i].len < 3 * LIMIT_RATE ||
			  !slow_reader_is_served(writes[i], LIMIT_RATE / 16));
	}
}
END_TEST

START_TEST(time_between_writes)
{
	struct writer w = { .len = 1000, .iovcnt = 1 };

	start();
	for (int i = 0; i < 10; i++) {
		unit_loop_co(&u, writer_main, &w);
		ck_assert_int_eq(w.ret, 0);
		unit_loop_pass(&u, 1000 * UNIT_SECOND);
	}
	finish();
}
END_TEST

START_TEST(the_peer_is_gone)
{
	struct writer w = { .len = 16, .iovcnt = 1 };

	signal(SIGPIPE, SIG_DFL); /* none may come from a socket */
	start();
	peer_close();
	unit_loop_co(&u, writer_main, &w);
	ck_assert_int_eq(w.ret, -EPIPE);
	finish();

	start_pipes();
	peer_close();
	unit_loop_co(&u, writer_main, &w);
	ck_assert_int_eq(w.ret, -EPIPE);
	finish();
}
END_TEST

/* --- Abort ------------------------------------------------------------------ */

static void
check_abort(bool pipes)
{
	struct one_read r = { CHAN_BETWEEN, HEADER, 28, 0, false };
	struct writer w = { .len = OUT_BYTES, .iovcnt = 3 };

	loop_assert();
	if (pipes)
		start_pipes();
	else
		start();
	unit_loop_spawn(&u, NULL, one_read_main, &r);
	unit_loop_spawn(&u, NULL, writer_main, &w);
	unit_loop_turns(&u, 5);
	ck_assert(!r.done && !w.done);
	chan_abort(&chan, -ESHUTDOWN);
	chan_abort(&chan, -EPROTO); /* only the first counts */
	unit_loop_until(&u, &r.done);
	unit_loop_until(&u, &w.done);
	ck_assert_int_eq(r.ret, -ESHUTDOWN);
	ck_assert_int_eq(w.ret, -ESHUTDOWN);

	unit_loop_co(&u, one_read_main, &r);
	ck_assert_int_eq(r.ret, -ESHUTDOWN);
	w.len = 16;
	unit_loop_co(&u, writer_main, &w);
	ck_assert_int_eq(w.ret, -ESHUTDOWN);
	finish();
}

START_TEST(abort_ends_reader_and_writer)
{
	check_abort(false);
	check_abort(true);
}
END_TEST

START_TEST(abort_with_nobody_waiting)
{
	struct one_read r = { CHAN_BETWEEN, HEADER, 28, 0, false };
	struct one_read skip = { CHAN_INSIDE, SKIP, 10, 0, false };
	struct one_read buffer = { CHAN_INSIDE, BUFFERED, 10, 0, false };

	loop_assert();
	start();
	peer_send(0, 100);
	unit_loop_co(&u, one_read_main, &r);
	ck_assert_int_eq(r.ret, 0);
	ck_assert_uint_eq(chan.end - chan.begin, 72);
	chan_abort(&chan, -EPROTO);
	/* Not even what has been received already. */
	unit_loop_co(&u, one_read_main, &r);
	unit_loop_co(&u, one_read_main, &skip);
	unit_loop_co(&u, one_read_main, &buffer);
	ck_assert_int_eq(r.ret, -EPROTO);
	ck_assert_int_eq(skip.ret, -EPROTO);
	ck_assert_int_eq(buffer.ret, -EPROTO);
	finish();
}
END_TEST

/* --- Stop ------------------------------------------------------------------- */

static void
check_stop_of_a_reader(bool pipes, struct one_read r)
{
	struct writer w = { .len = 1000, .iovcnt = 1 };

	loop_assert();
	if (pipes)
		start_pipes();
	else
		start();
	unit_loop_spawn(&u, NULL, one_read_main, &r);
	unit_loop_turns(&u, 3);
	chan_stop(&chan, -ESHUTDOWN);
	chan_stop(&chan, -EPROTO); /* only the first counts */
	unit_loop_until(&u, &r.done);
	ck_assert_int_eq(r.ret, -ESHUTDOWN);
	unit_loop_co(&u, writer_main, &w);
	ck_assert_int_eq(w.ret, 0);
	ck_assert_uint_eq(peer_receive(0, 2000), 1000);
	chan_abort(&chan, -EPROTO);
	unit_loop_co(&u, one_read_main, &r);
	unit_loop_co(&u, writer_main, &w);
	ck_assert_int_eq(r.ret, -EPROTO);
	ck_assert_int_eq(w.ret, -EPROTO);
	finish();
}

START_TEST(stop_ends_the_reader)
{
	for (int pipes = 0; pipes < 2; pipes++) {
		check_stop_of_a_reader(pipes, (struct one_read){ CHAN_BETWEEN, HEADER, 28, 0, 0 });
		check_stop_of_a_reader(pipes, (struct one_read){ CHAN_INSIDE, SKIP, 5000, 0, 0 });
		check_stop_of_a_reader(pipes, (struct one_read){ CHAN_INSIDE, BUFFERED, 50, 0, 0 });
	}
}
END_TEST

START_TEST(stop_leaves_what_was_received)
{
	struct one_read r = { CHAN_BETWEEN, HEADER, 28, 0, false };

	loop_assert();
	start();
	chan_set_ahead(&chan, LIMIT_READ_AHEAD);
	peer_send(0, 100);
	unit_loop_co(&u, one_read_main, &r);
	chan_stop(&chan, -ESHUTDOWN);
	peer_send(0, 100);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(r.ret, 0);
		unit_loop_co(&u, one_read_main, &r);
	}
	ck_assert_int_eq(r.ret, -ESHUTDOWN);
	finish();
}
END_TEST

/* --- Linger ----------------------------------------------------------------- */

static bool lingered;

static void
linger_main(void *arg)
{
	co_assert();
	chan_co_linger(&chan);
	lingered = true;
}

/* COUNT messages wait in the socket. */
static void
begin_linger(unsigned count)
{
	struct writer w = { .len = 100, .iovcnt = 1 };

	start();
	while (count-- > 0)
		unit_loop_co(&u, writer_main, &w);
	lingered = false;
	unit_loop_spawn(&u, NULL, linger_main, NULL);
	unit_loop_turns(&u, 3);
}

START_TEST(linger_until_the_peer_closes)
{
	begin_linger(1);
	ck_assert_uint_eq(peer_receive(0, 100), 100);
	ck_assert_int_eq(read(peer_rfd, in, 1), 0); /* it has heard the end */
	peer_send(0, 60000);
	unit_loop_turns(&u, 5);
	peer_send(0, 60000);
	unit_loop_turns(&u, 5);
	ck_assert(!lingered);
	peer_close();
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

START_TEST(linger_has_an_end)
{
	begin_linger(1);
	/* However much still comes. */
	for (int i = 0; i < 10; i++) {
		peer_send(0, 1000);
		unit_loop_pass(&u, LIMIT_LINGER_NS / 10 - 1);
	}
	ck_assert(!lingered);
	unit_loop_pass(&u, 10);
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

START_TEST(nothing_to_linger_for)
{
	struct writer w = { .len = 100, .iovcnt = 1 };

	loop_assert();
	start_pipes(); /* has no half to close */
	unit_loop_co(&u, writer_main, &w);
	unit_loop_co(&u, linger_main, NULL);
	finish();

	start(); /* all was read */
	unit_loop_co(&u, writer_main, &w);
	ck_assert_uint_eq(peer_receive(0, 100), 100);
	unit_loop_co(&u, linger_main, NULL);
	finish();

	start();
	unit_loop_co(&u, writer_main, &w);
	chan_abort(&chan, -EPROTO);
	unit_loop_co(&u, linger_main, NULL);
	finish();
}
END_TEST

START_TEST(linger_after_a_stop)
{
	struct writer w = { .len = 100, .iovcnt = 1 };

	loop_assert();
	start();
	unit_loop_co(&u, writer_main, &w);
	chan_stop(&chan, -ESHUTDOWN);
	lingered = false;
	unit_loop_spawn(&u, NULL, linger_main, NULL);
	unit_loop_turns(&u, 3);
	peer_send(0, 60000);
	unit_loop_turns(&u, 5);
	ck_assert(!lingered);
	peer_close();
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

START_TEST(linger_while_the_peer_takes_something)
{
	begin_linger(10);
	for (int i = 0; i < 9; i++) {
		unit_loop_pass(&u, LIMIT_LINGER_NS - 1);
		ck_assert_uint_eq(peer_receive(0, 100), 100);
		unit_loop_pass(&u, 1);
		ck_assert(!lingered);
	}
	unit_loop_pass(&u, LIMIT_LINGER_NS - 1);
	ck_assert(!lingered);
	unit_loop_pass(&u, 1);
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

START_TEST(linger_until_the_peer_has_read_all)
{
	begin_linger(2);
	ck_assert_uint_eq(peer_receive(0, 100), 100);
	unit_loop_pass(&u, LIMIT_LINGER_LOOK_NS);
	ck_assert(!lingered);
	ck_assert_uint_eq(peer_receive(0, 100), 100);
	unit_loop_pass(&u, LIMIT_LINGER_LOOK_NS);
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

START_TEST(linger_ends_for_one_that_trickles)
{
	uint64_t end;

	begin_linger(100);
	end = chan.tx_limit;
	while (u.now < end) {
		ck_assert(!lingered);
		ck_assert_uint_eq(peer_receive(0, 100), 100);
		unit_loop_pass(&u, LIMIT_LINGER_NS);
	}
	unit_loop_until(&u, &lingered);
	finish();
}
END_TEST

/* Somebody may have made our standard input non-blocking: wait, do not spin. */
START_TEST(a_non_blocking_pipe)
{
	struct one_read r = { CHAN_BETWEEN, HEADER, 28, 0, false };

	start_pipes();
	no_block(chan.rfd);
	unit_loop_spawn(&u, NULL, one_read_main, &r);
	unit_loop_turns(&u, 3);
	for (int i = 0; i < 5; i++) {
		unit_loop_turns(&u, 1);
		ck_assert_msg(!co_sched_has_ready(loop_sched(u.loop)), "it spins");
	}
	peer_send(0, 28);
	unit_loop_until(&u, &r.done);
	ck_assert_int_eq(r.ret, 0);
	finish();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), a_stream_in_chunks_of_every_size, a_stream_over_pipes,
	     every_two_cuts, a_burst_is_one_receive, end_of_stream, silence_between_messages,
	     silence_inside_a_message, a_byte_ends_the_silence, a_message_that_trickles,
	     a_message_at_the_slowest_rate, time_that_is_ours, writes_arrive_whole,
	     writes_through_a_narrow_socket, writes_into_a_pipe, nobody_reads, slow_readers,
	     time_between_writes, the_peer_is_gone, abort_ends_reader_and_writer,
	     abort_with_nobody_waiting, stop_ends_the_reader, stop_leaves_what_was_received,
	     linger_until_the_peer_closes, linger_has_an_end, nothing_to_linger_for, linger_after_a_stop,
	     linger_while_the_peer_takes_something, linger_until_the_peer_has_read_all,
	     linger_ends_for_one_that_trickles,
	     a_non_blocking_pipe)
