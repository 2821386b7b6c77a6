/* SPDX-License-Identifier: MIT */
/*
 * conn.c - fuzzes one NBD connection, from greeting to close.
 *
 * The input is what a client sends. It arrives over a socket pair in pieces of
 * changing size, at a connection on a worker whose loop this program steps
 * itself; then the client hangs up. Time stands still. Afterwards all has to be
 * as before: no payload memory held, nothing in flight, no client counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "server/log.h"
#include "server/nbd/conn.h"

#define PAYLOAD_BYTES (128u << 20)
/* Turns in which nothing moves, before a connection counts as stuck. */
#define STUCK_TURNS 20000

static struct export exports[2];
static struct export_set set = { .exports = exports, .count = 2, .fallback = &exports[0] };
static struct worker *worker;
static struct loop *loop;
static struct conn_owner owner;
static struct conn *conn;
static bool closed;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static uint64_t
no_time(void *arg)
{
	return 1;
}

static void
negotiated(struct conn_owner *o, struct conn *c)
{
	check(c == conn && !closed, "negotiated: another connection, or late");
}

static void
gone(struct conn_owner *o, struct conn *c)
{
	check(c == conn && !closed, "closed twice");
	closed = true;
}

static void
export_open(struct export *exp, const char *name, const char *size, bool read_only)
{
	const struct dev_prop prop = { "size", size };
	const struct dev_config config = {
		.driver = "mem",
		.props = &prop,
		.nprops = 1,
		.discard = true,
		.read_only = read_only,
	};
	struct err err;

	check(dev_open(&exp->dev, &config, &err) == 0, "dev_open");
	exp->index = (unsigned)(exp - exports);
	exp->name = name;
	exp->description = "a disk";
	exp->size_bytes = exp->dev->size_bytes;
	export_set_sizes(exp, &(struct block_sizes){ 0 });
	exp->read_only = read_only;
	backend_init(&exp->backend, name, exp->dev, BACKEND_REPORT, BACKEND_REPORT);
}

static void
once(void)
{
	struct err err;

	if (worker)
		return;
	log_init(LOG_ERROR);
	export_open(&exports[0], "disk", "1048576", false);
	export_open(&exports[1], "frozen", "513", true);
	if (worker_new(&worker, 0, &set, PAYLOAD_BYTES, false, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	loop = worker_loop(worker);
	check(loop_attach(loop, &err) == 0, "loop_attach");
	loop_set_clock(loop, no_time, NULL);
	owner = (struct conn_owner){ .loop = loop, .negotiated = negotiated, .closed = gone };
}

/* Takes what the server has sent; whether there was something. */
static bool
drain(int fd, size_t *total, uint8_t head[8])
{
	static uint8_t buf[1 << 16];
	bool some = false;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < n && *total + (size_t)i < 8; i++)
			head[*total + (size_t)i] = buf[i];
		*total += (size_t)n;
		some = true;
	}
	return some;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t mix = size * 0x9e3779b97f4a7c15ull + 1;
	size_t sent = 0, received = 0;
	uint8_t head[8] = { 0 };
	unsigned idle = 0;
	int sv[2];

	once();
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0, "socketpair");
	check(conn_new(&conn, 1, sv[0], sv[0], "fuzz", worker, &set, &owner) == 0, "conn_new");
	closed = false;
	conn_start(conn);

	while (!closed) {
		bool moved = false;

		if (sent < size) {
			size_t piece = MIN(size - sent, (size_t)(mix >> 33) % 97 + 1);
			ssize_t n = send(sv[1], data + sent, piece, MSG_DONTWAIT | MSG_NOSIGNAL);

			mix = mix * 6364136223846793005ull + 1442695040888963407ull;
			if (n > 0) {
				sent += (size_t)n;
				moved = true;
			} else if (errno != EAGAIN) {
				sent = size; /* the server has hung up */
			}
		} else if (sent == size) {
			shutdown(sv[1], SHUT_WR);
			sent++;
		}
		loop_turn(loop, false);
		moved |= drain(sv[1], &received, head);
		idle = moved ? 0 : idle + 1;
		check(idle < STUCK_TURNS, "the connection is stuck");
	}

	check(received == 0 || memcmp(head, "NBDMAGIC", MIN(received, (size_t)8)) == 0,
	      "no greeting");
	check(buf_pool_used(worker_pool(worker)) == 0, "payload memory is held");
	check(exports[0].clients == 0 && exports[1].clients == 0, "a client is counted");
	conn_free(conn);
	close(sv[1]);
	return 0;
}
