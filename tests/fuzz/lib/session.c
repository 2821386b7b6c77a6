/* SPDX-License-Identifier: MIT */
/*
 * session.c - one connection under a fuzzer; see session.h.
 *
 * The path, session_run(): in each round the client does or sends what comes
 * next, the loop has a turn, the device some steps, the client takes what has
 * come. Rounds in which nothing moves end a pause, have a stopped backend go on,
 * and, when there are too many of them, say that the connection is stuck.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/log.h"
#include "server/nbd/conn.h"

/* Rounds in which nothing moves before something is done about it, and before it is stuck. */
#define STILL_ROUNDS 100
#define STUCK_ROUNDS 20000
/* From here on the kernel gets time, too: it may have a thread of its own at work. */
#define REAL_ROUNDS 1000
/* How long such a round takes: less than any limit of the server, all together. */
#define STILL_NS (LIMIT_MS(1) / 50)
/* How often a backend that has stopped is told to go on, before the device is mended. */
#define RESUMES_MAX 4

static char long_names[2][LIMIT_STRING_BYTES + 1], long_description[LIMIT_STRING_BYTES + 1];
static struct dev *dev;
struct export session_exports[EXPORTS];
const struct export_set session_set = {
	.exports = session_exports,
	.count = EXPORTS,
	.fallback = &session_exports[EXPORT_DISK],
};

static struct worker *worker;
static struct loop *loop;
static uint64_t now = 1;
static size_t arriving_medium, arriving_large; /* what the worker's budgets have */
static struct session *current;
static bool worker_stopped;

void
fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nthe device: %s\n", sim_text());
	abort();
}

/* --- In the place of others, by the linker ----------------------------------- */

/* Chance is the session's; at times just below the end of what a number may be. */
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);

ssize_t
__wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	bool high = sim_below(&current->rng, 4) == 0;

	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = high ? 0xff : (uint8_t)sim_below(&current->rng, 256);
	return (ssize_t)len;
}

static void printf_fn(1, 0)
log_judge(const char *fmt, va_list ap)
{
	char line[2048];
	int n = vsnprintf(line, sizeof(line), fmt, ap);

	for (int i = 0; i < n && i < (int)sizeof(line) - 1; i++)
		check(line[i] >= ' ' && line[i] <= '~', "a log line that is not printable: %s",
		      line);
}

/* log.c's: thousands of lines a second are no log. */
void __wrap_log_line(enum log_level level, const char *fmt, ...) printf_fn(2, 3);
void __wrap_log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	printf_fn(3, 4);

void
__wrap_log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_judge(fmt, ap);
	va_end(ap);
}

void
__wrap_log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_judge(fmt, ap);
	va_end(ap);
}

/* --- The server's side ------------------------------------------------------ */

static uint64_t
clock_now(void *arg)
{
	return now;
}

static void
negotiated(struct conn_owner *owner, struct conn *conn)
{
	check(conn == current->conn && !current->closed, "negotiated late");
}

static void
closed(struct conn_owner *owner, struct conn *conn)
{
	check(conn == current->conn && !current->closed, "closed twice");
	current->closed = true;
}

static struct conn_owner owner = {
	.handshake_ns = LIMIT_MS(1000) * LIMIT_HANDSHAKE_S,
	.negotiated = negotiated,
	.closed = closed,
};

static void
export_make(unsigned index, const char *name, const char *description)
{
	struct export *exp = &session_exports[index];

	*exp = (struct export){
		.index = index,
		.name = name,
		.description = description,
		.dev = dev,
		.size_bytes = dev->size_bytes,
	};
	export_set_sizes(exp, &(struct block_sizes){ 0 });
	backend_init(&exp->backend, name, dev, BACKEND_REPORT, BACKEND_REPORT);
}

static void
device_open(void)
{
	static const struct sim_config disk = {
		.capacity = DISK_BYTES,
		.window_off = DISK_KEPT,
		.window_len = DISK_BYTES - DISK_KEPT,
		.tail = true,
		.tail_start = DISK_EVEN,
		.request_alignment = DISK_BLOCK,
		.max_transfer = 128 << 10,
		.max_segments = 16,
		.buf_alignment = DISK_BLOCK,
		.discard_alignment = 4096,
		.flush_needed = true,
		.zeroes = SIM_ZEROES_NO_FAST,
		.discarded = SIM_DISCARDED_EITHER,
		.status = true,
		.not_now_permille = 10,
		.spurious = true,
	};
	const struct dev_config config = { .driver = "sim", .discard = true };
	struct err err;

	sim_reset(&disk);
	check(dev_open(&dev, &config, &err) == 0, "dev_open: %s", err.text);
}

static void
exports_make(void)
{
	memset(long_names[0], 'n', LIMIT_STRING_BYTES);
	memset(long_names[1], 'm', LIMIT_STRING_BYTES);
	memset(long_description, 'd', LIMIT_STRING_BYTES);
	export_make(EXPORT_DISK, "disk", "a disk");
	export_make(EXPORT_FROZEN, "frozen", "");
	export_make(EXPORT_LONG, long_names[0], long_description);
	export_make(EXPORT_LONGER, long_names[1], long_description);
	export_make(EXPORT_TAKEN, "taken", "a disk of somebody else");
	session_exports[EXPORT_FROZEN].read_only = true;
	session_exports[EXPORT_TAKEN].clients_max = 1;
	check(export_enter(&session_exports[EXPORT_TAKEN]), "export_enter");
}

void
session_prepare(void)
{
	struct err err;

	if (worker)
		return;
	log_init(LOG_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	device_open();
	exports_make();
	check(worker_new(&worker, 0, &session_set, LIMIT_PAYLOAD_WORKER_MIN, false, &err) == 0,
	      "worker_new: %s", err.text);
	loop = owner.loop = worker_loop(worker);
	check(loop_attach(loop, &err) == 0, "loop_attach: %s", err.text);
	loop_set_clock(loop, clock_now, NULL);
	arriving_medium = worker_arriving(worker, 1)->left;
	arriving_large = worker_arriving(worker, SIZE_MAX)->left;
}

/* --- The client's side ------------------------------------------------------ */

bool
script_put(struct script *script, const void *data, size_t len)
{
	if (len > SCRIPT_BYTES - script->len)
		return false;
	memcpy(script->bytes + script->len, data, len);
	script->len += len;
	return true;
}

bool
script_act(struct script *script, enum act act)
{
	if (script->nacts == SCRIPT_ACTS)
		return false;
	script->acts[script->nacts].at = script->len;
	script->acts[script->nacts++].act = act;
	return true;
}

/* Nothing more is sent. */
static void
hang_up(struct session *s)
{
	if (s->wfd < 0)
		return;
	if (s->wfd != s->rfd)
		close(s->wfd);
	else
		shutdown(s->wfd, SHUT_WR);
	s->wfd = -1;
}

static void
leave(struct session *s)
{
	hang_up(s);
	close(s->rfd);
	s->rfd = -1;
	s->eof = true;
}

/* What has come, as much as is taken at once; whether there was something. */
static bool
take(struct session *s, struct watcher *watcher)
{
	static uint8_t buf[256 << 10];
	size_t len;
	ssize_t n;

	if (s->eof || s->paused)
		return false;
	/* Long answers are not taken in more and more rounds. */
	len = MAX(s->settings.take_bytes, s->taken / 64);
	n = read(s->rfd, buf, MIN(sizeof(buf), len));
	if (n > 0) {
		s->taken += (size_t)n;
		watcher->received(watcher, buf, (size_t)n);
		return true;
	}
	/* What was not read by the one end when it closed resets the other. */
	if (n == 0 || errno == ECONNRESET)
		s->eof = true;
	else
		check(errno == EAGAIN, "read: %s", strerror(errno));
	return s->eof;
}

/* A piece of what is before END; how much. */
static size_t
feed(struct session *s, const struct script *script, size_t at, size_t end)
{
	size_t max = MIN(end - at, s->settings.piece_bytes), len;
	ssize_t n;

	/* Nor are long scripts sent in more of them. */
	len = 1 + sim_below(&s->rng, (unsigned)max);
	len = MIN(MAX(len, script->len / 256), end - at);
	n = write(s->wfd, script->bytes + at, len);
	if (n >= 0)
		return (size_t)n;
	if (errno == EAGAIN)
		return 0;
	check(errno == EPIPE || errno == ECONNRESET, "write: %s", strerror(errno));
	return end - at; /* nobody is there to take it */
}

/* The loop and the device go on; whether the device did. */
static bool
server_turn(struct session *s)
{
	bool any = false;

	loop_turn(loop, false);
	for (unsigned k = sim_below(&s->rng, 4); k > 0; k--)
		any |= sim_step();
	return any;
}

/* Has backends that have stopped go on; whether there were some. */
static bool
resume(void)
{
	bool any = false;

	for (unsigned i = 0; i < EXPORTS; i++) {
		struct backend *b = &session_exports[i].backend;

		if (backend_status(b) == BACKEND_OK)
			continue;
		backend_resume(b);
		any = true;
	}
	return any;
}

/* Nothing has moved for so many rounds. */
static void
still(struct session *s, unsigned rounds)
{
	if (rounds == 0)
		return;
	check(rounds < STUCK_ROUNDS, "the connection is stuck");
	now += STILL_NS;
	if (rounds >= REAL_ROUNDS)
		usleep(100);
	if (rounds % STILL_ROUNDS)
		return;
	s->paused = false;
	sim_unhold();
	if (resume() && ++s->resumes == RESUMES_MAX)
		sim_mend();
}

static void
stopped(struct loop_call *call)
{
	worker_stopped = true;
}

/* The end of a server that has been told to stop. */
static void
server_close(struct session *s)
{
	struct loop_call call;

	worker_stopped = false;
	worker_stop(worker, loop, &call, stopped);
	for (unsigned rounds = 1; !worker_stopped; rounds++) {
		server_turn(s);
		still(s, rounds);
	}
	loop_detach(loop);
	worker_join(worker); /* what it says of a last flush is the device's business */
	worker_free(worker);
	worker = NULL;
	for (unsigned i = 0; i < EXPORTS; i++)
		backend_fini(&session_exports[i].backend);
	dev_close(dev);
}

/* Whether what waits for answers may go on. */
static bool
no_wait(const struct session *s, const struct watcher *watcher)
{
	return s->eof || s->spoiled || watcher->settled(watcher);
}

/* False: it is to be tried again. */
static bool
do_act(struct session *s, enum act act, struct watcher *watcher)
{
	switch (act) {
	case ACT_WAIT:
		s->paused = false;
		return no_wait(s, watcher);
	case ACT_PAUSE:
		s->paused = true;
		return true;
	case ACT_LATE:
		now += LIMIT_MS(60000);
		s->spoiled = true;
		return true;
	case ACT_ABORT:
		s->spoiled = true;
		if (!s->closed && s->conn->chan.loop)
			s->conn->session.abort(&s->conn->session);
		return true;
	case ACT_LEAVE:
		s->spoiled = true;
		leave(s);
		return true;
	case ACT_STOP:
		if (!s->stopped)
			worker_drain(worker);
		s->spoiled = s->stopped = watcher->stopping = true;
		return true;
	default:
		fail("no such act");
	}
}

/* The server's ends in FDS, the client's in S. */
static void
connect_pipes(struct session *s, int fds[2])
{
	int there[2], back[2];

	check(pipe2(there, O_CLOEXEC) == 0 && pipe2(back, O_CLOEXEC) == 0, "pipe2");
	s->wfd = there[1];
	s->rfd = back[0];
	fds[0] = there[0];
	fds[1] = back[1];
	if (s->settings.small_buffer)
		check(fcntl(fds[1], F_SETPIPE_SZ, 4096) > 0, "F_SETPIPE_SZ");
	check(fcntl(s->wfd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
}

static void
connect_sockets(struct session *s, int fds[2])
{
	int sv[2], small = 1; /* the kernel makes it its minimum */

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0, "socketpair");
	s->rfd = s->wfd = sv[1];
	fds[0] = fds[1] = sv[0];
	if (s->settings.small_buffer)
		check(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0,
		      "SO_SNDBUF");
}

void
session_begin(struct session *s, const struct session_settings *settings)
{
	int fds[2];

	*s = (struct session){ .settings = *settings, .rng = settings->seed | 1 };
	current = s;
	/* As if it had been opened for this session. */
	dev->flush_error = 0;
	for (unsigned i = 0; i < EXPORTS; i++)
		session_exports[i].backend.lost_told = false;
	sim_renew(settings->seed | 1, settings->faults);
	if (settings->pipes)
		connect_pipes(s, fds);
	else
		connect_sockets(s, fds);
	check(fcntl(s->rfd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
	check(conn_new(&s->conn, 1, fds[0], fds[1], "fuzz", worker, &session_set, &owner) == 0,
	      "conn_new");
	conn_start(s->conn);
}

void
session_run(struct session *s, const struct script *script, struct watcher *watcher)
{
	unsigned next = 0, rounds = 0;
	size_t sent = 0;

	while (!s->eof) {
		bool acts = next < script->nacts && script->acts[next].at <= script->len;
		size_t end = acts ? script->acts[next].at : script->len;
		bool moved = false;

		if (sent < end) {
			size_t n = feed(s, script, sent, end);

			sent += n;
			moved = n > 0;
			if (moved)
				watcher->sent(watcher, sent);
		} else if (acts) {
			moved = do_act(s, script->acts[next].act, watcher);
			next += moved;
		} else if (no_wait(s, watcher)) {
			break;
		}
		moved |= server_turn(s);
		moved |= take(s, watcher);
		rounds = moved ? 0 : rounds + 1;
		still(s, rounds);
	}
}

static unsigned
list_len(const struct list *list)
{
	unsigned n = 0;

	for (const struct list *link = list->next; link != list; link = link->next)
		n++;
	return n;
}

/* Whatever was taken has been given back. */
static void
judge_end(const struct conn *conn)
{
	check(sim_open() == 0, "requests are left at the device");
	check(conn->inflight == 0 && list_empty(&conn->replies) &&
		      list_len(&conn->spare_replies) == LIMIT_SPARE_REPLIES &&
		      (!conn->slots || list_len(&conn->free_slots) == LIMIT_INFLIGHT),
	      "slots or replies are missing");
	check(conn->payload.left == LIMIT_CONN_PAYLOAD &&
		      worker_arriving(worker, 1)->left == arriving_medium &&
		      worker_arriving(worker, SIZE_MAX)->left == arriving_large,
	      "a budget is not whole");
	check(buf_pool_used(worker_pool(worker)) == 0, "payload memory is held");
	for (unsigned i = 0; i < EXPORTS; i++)
		check(session_exports[i].clients == (i == EXPORT_TAKEN), "a client is counted");
}

void
session_end(struct session *s, struct watcher *watcher)
{
	unsigned rounds = 0;

	s->paused = false;
	hang_up(s);
	while (!s->closed || !s->eof) {
		bool moved = server_turn(s);

		moved |= take(s, watcher);
		rounds = moved ? 0 : rounds + 1;
		still(s, rounds);
	}
	/* It may have closed with a reply half sent, or with a request unread. */
	resume();
	server_turn(s);
	judge_end(s->conn);
	conn_free(s->conn);
	if (s->rfd >= 0)
		close(s->rfd);
	if (s->stopped)
		server_close(s);
}
