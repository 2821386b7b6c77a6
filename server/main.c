/* SPDX-License-Identifier: MIT */
/*
 * main.c - blkgate from its first line to its last.
 *
 * The path: parse the command line; load credentials; open the devices; bind the
 * sockets; make the rings; give up what serving does not need (sandbox.h); start the
 * workers; accept. After that main's own loop admits
 * clients, hands each to the least loaded worker, and waits for a signal.
 * `list` and `probe` are another program's (helper.h), before any of it.
 *
 * Stopping (shutdown_main): no more clients; every connection drains, until
 * --shutdown-timeout; when the last has gone the workers flush, which is given
 * its time, and end.
 *
 * Exit status: 0 after a clean end, 1 when start-up failed, requests had to be
 * abandoned or the last flush failed or was not waited for, 2 for a wrong
 * command line.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "blk/co_lock.h"
#include "blk/loop.h"
#include "server/admission.h"
#include "server/config.h"
#include "server/export.h"
#include "server/fds.h"
#include "server/gate.h"
#include "server/helper.h"
#include "server/hint.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/nbd/conn.h"
#include "server/sandbox.h"
#include "server/selinux.h"
#include "server/stats.h"
#include "server/tls.h"
#include "server/worker.h"

/* After the shutdown timeout: time for connections to notice. */
#define ABANDON_NS LIMIT_MS(1000)

struct seat {
	struct worker *worker;
	unsigned conns;
	struct buf_region region;
	unsigned mapped; /* devices that know the region */
	struct loop_call stopped_call;
	struct server *server;
};

struct server {
	struct config config;
	struct identity identity;
	struct export_set exports;
	struct gate_place gate; /* with the one in force */
	struct listener_set listeners;
	struct seat *seats;
	unsigned nseats;

	struct loop *loop;
	struct conn_owner conn_owner;
	struct listener_client clients;
	uint64_t next_conn;
	struct admission admission;
	struct log_limit refused;
	struct co_waitq changed; /* shutdown_main() waits: connections, running workers */

	sigset_t signals;
	struct loop_watch signal_watch;
	bool started; /* main's loop runs, and maybe workers */
	bool stopping;
	unsigned workers_running;
	struct loop_timer deadline;
	struct loop_timer daily;
};

/* --- Connections ------------------------------------------------------------ */

static void
clients_admit(struct listener_client *client)
{
	struct server *s = container_of(client, struct server, clients);

	co_assert();
	admission_co_wait(&s->admission);
}

static struct seat *
least_loaded(struct server *s)
{
	struct seat *best = &s->seats[0];

	for (unsigned i = 1; i < s->nseats; i++)
		if (s->seats[i].conns < best->conns)
			best = &s->seats[i];
	return best;
}

static int loop_fn
conn_begin(struct server *s, int rfd, int wfd)
{
	struct seat *seat = least_loaded(s);
	struct access_peer who = { 0 };
	char peer[CONN_PEER_MAX];
	struct conn *conn;
	int ret = 0;

	listener_peer(rfd, peer, sizeof(peer));
	if (s->gate.gate->access)
		ret = listener_identify(rfd, &who);
	if (ret == 0)
		ret = conn_new(&conn, ++s->next_conn, rfd, wfd, peer, seat->worker, &s->exports,
			       &s->conn_owner);
	if (ret < 0) {
		access_peer_release(&who);
		log_limited(&s->refused, LOG_ERROR, "connection refused peer=%s error=\"%s\"", peer,
			    strerror(-ret));
		return ret;
	}
	conn->gate = gate_get(s->gate.gate);
	conn->who = who;
	admission_enter(&s->admission);
	seat->conns++;
	conn_start(conn);
	return 0;
}

static void
clients_accepted(struct listener_client *client, int fd)
{
	struct server *s = container_of(client, struct server, clients);

	co_assert();
	/* Another listener may have filled the last place meanwhile. */
	clients_admit(client);
	if (s->stopping || conn_begin(s, fd, fd) < 0)
		close(fd);
}

static void
conn_negotiated(struct conn_owner *owner, struct conn *conn)
{
	struct server *s = container_of(owner, struct server, conn_owner);

	loop_assert();
	admission_handshake_end(&s->admission);
}

static void shutdown_begin(struct server *s) loop_fn;

static void
conn_closed(struct conn_owner *owner, struct conn *conn)
{
	struct server *s = container_of(owner, struct server, conn_owner);

	loop_assert();
	if (!conn->negotiated)
		admission_handshake_end(&s->admission);
	admission_leave(&s->admission);
	s->seats[worker_index(conn->worker)].conns--;
	conn_free(conn);
	co_waitq_wake_all(&s->changed);
	if (s->config.single)
		shutdown_begin(s);
}

/* --- Shutdown --------------------------------------------------------------- */

static void
abandon(struct loop_timer *timer)
{
	struct server *s = container_of(timer, struct server, deadline);

	log_error("stopping with requests abandoned connections=%u", s->admission.conns);
	_exit(1);
}

static void
deadline_reached(struct loop_timer *timer)
{
	struct server *s = container_of(timer, struct server, deadline);

	loop_assert();
	if (s->admission.conns == 0)
		return; /* shutdown_main() is about to flush */
	log_warning("shutdown timeout connections=%u", s->admission.conns);
	for (unsigned i = 0; i < s->nseats; i++)
		worker_abort(s->seats[i].worker);
	loop_timer_arm(s->loop, &s->deadline, ABANDON_NS, abandon);
}

static void
worker_stopped(struct loop_call *call)
{
	struct seat *seat = container_of(call, struct seat, stopped_call);

	loop_assert();
	seat->server->workers_running--;
	co_waitq_wake_all(&seat->server->changed);
}

static void
shutdown_main(void *arg)
{
	struct server *s = arg;
	struct co_sched *sched = loop_sched(s->loop);

	co_assert();
	loop_timer_disarm(&s->daily);
	loop_timer_arm(s->loop, &s->deadline, LIMIT_MS(1000) * s->config.shutdown_s,
		       deadline_reached);
	admission_close(&s->admission);
	listener_co_stop(&s->listeners);
	listener_close(&s->listeners);
	while (s->admission.conns > 0)
		co_waitq_wait(&s->changed, sched);
	/* What clients have written is worth any wait; a second signal ends it. */
	loop_timer_disarm(&s->deadline);

	log_info("flushing");
	for (unsigned i = 0; i < s->nseats; i++)
		worker_stop(s->seats[i].worker, s->loop, &s->seats[i].stopped_call, worker_stopped);
	while (s->workers_running > 0)
		co_waitq_wait(&s->changed, sched);
	loop_co_unwatch(&s->signal_watch);
	loop_stop(s->loop);
}

static void
shutdown_begin(struct server *s)
{
	if (s->stopping)
		return;
	s->stopping = true;
	for (unsigned i = 0; i < s->nseats; i++)
		worker_drain(s->seats[i].worker);
	log_info("stopping connections=%u", s->admission.conns);
	if (co_spawn(loop_sched(s->loop), CO_STACK_CONN, NULL, shutdown_main, s) < 0) {
		log_error("cannot stop in order error=\"out of memory\"");
		listener_unlink(&s->listeners);
		_exit(1);
	}
}

/* --- Backends ---------------------------------------------------------------- */

static void
backend_stopped(struct backend *b, int ret)
{
	char quoted[LOG_QUOTE_MAX];

	log_error("export stopped, its requests wait for SIGUSR2 export=%s error=\"%s\"",
		  log_quote(quoted, b->name, strlen(b->name)), strerror(-ret));
}

static void
backend_lost(struct backend *b, int ret)
{
	char quoted[LOG_QUOTE_MAX];

	log_error("what was written may be lost, FLUSH and FUA fail until the server is started "
		  "again export=%s error=\"%s\"",
		  log_quote(quoted, b->name, strlen(b->name)), strerror(-ret));
}

static void
backends_resume(struct server *s)
{
	for (unsigned i = 0; i < s->exports.count; i++) {
		struct backend *b = &s->exports.exports[i].backend;
		char quoted[LOG_QUOTE_MAX];

		if (backend_status(b) != BACKEND_OK)
			log_info("export goes on export=%s",
				 log_quote(quoted, b->name, strlen(b->name)));
		backend_resume(b);
	}
}

/* --- Signals ----------------------------------------------------------------- */

static void a_day_later(struct loop_timer *timer);

/* Said at the start, after each exchange, and each day. */
static void loop_fn
warn_of_expiry(struct server *s)
{
	if (!s->gate.gate->tls || s->stopping)
		return;
	tls_warn_of_expiry(s->gate.gate->tls);
	loop_timer_arm(s->loop, &s->daily, LIMIT_EXPIRY_LOOK_NS, a_day_later);
}

static void
a_day_later(struct loop_timer *timer)
{
	loop_assert();
	warn_of_expiry(container_of(timer, struct server, daily));
}

static void
tell_reloaded(const struct gate *gate)
{
	char rules[24] = "";

	if (gate->access)
		snprintf(rules, sizeof(rules), " rules=%u", access_count(gate->access));
	log_info("reloaded%s%s", rules, gate->tls ? " credentials=yes" : "");
}

/* Whether there is a file that may have been changed. */
static bool
reloads(const struct server *s)
{
	return s->config.access.path || s->config.tls_mode != TLS_OFF;
}

/* All of the new, or nothing of it. */
static void loop_fn
reload(struct server *s)
{
	static struct err err; /* of main alone */
	struct gate *gate = NULL;

	if (gate_open(&gate, &s->config, &err) < 0 ||
	    (gate->tls && tls_check_successor(s->gate.gate->tls, gate->tls, &err) < 0)) {
		log_error("cannot reload, what was in force stays so: %s", err.text);
		gate_put(gate);
		return;
	}
	gate_exchange(&s->gate, gate);
	tell_reloaded(gate);
	warn_of_expiry(s);
}

static void loop_fn
signal_stop(struct server *s, uint32_t signo)
{
	if (!s->stopping) {
		shutdown_begin(s);
	} else if (signo != SIGHUP) {
		/* A closing terminal sends SIGHUP more than once: no impatience. */
		bool unflushed = s->workers_running > 0;

		log_warning("second signal, leaving at once%s connections=%u",
			    unflushed ? " without the last flush" : "", s->admission.conns);
		listener_unlink(&s->listeners);
		_exit(unflushed);
	}
}

static void
signal_readable(struct loop_watch *watch)
{
	struct server *s = container_of(watch, struct server, signal_watch);
	struct signalfd_siginfo info;

	loop_assert();
	while (read(watch->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			stats_log(&s->exports);
		else if (info.ssi_signo == SIGUSR2)
			backends_resume(s);
		else if (info.ssi_signo == SIGHUP && reloads(s) && !s->stopping)
			reload(s);
		else
			signal_stop(s, info.ssi_signo);
	}
}

/* --- Start-up --------------------------------------------------------------- */

static unsigned
cpus_allowed(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return MIN((unsigned)MAX(n, 1), LIMIT_WORKERS);
}

/* Whether every worker gets its queues now, or each on its first use. */
static bool
queues_at_start(const struct server *s)
{
	return s->nseats * s->config.ntargets <= LIMIT_QUEUES_AT_START;
}

static int
exports_open(struct server *s, struct err *err)
{
	const struct config *c = &s->config;

	s->exports.exports = calloc(c->ntargets, sizeof(*s->exports.exports));
	if (!s->exports.exports)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < c->ntargets; i++) {
		const struct config_target *t = &c->targets[i];
		struct export *exp = &s->exports.exports[i];
		const struct dev_config dc = {
			.driver = t->driver,
			.props = t->props,
			.nprops = t->nprops,
			.cache = c->cache,
			.read_only = c->read_only,
			.discard = c->discard,
			.detect_zeroes = c->detect_zeroes,
			.nqueues = queues_at_start(s) ? s->nseats : 0,
		};
		char quoted[LOG_QUOTE_MAX];
		int ret = dev_open(&exp->dev, &dc, err);

		if (ret < 0) {
			hint_target(t, err);
			err_prefix(err, "%s", t->text);
			return ret;
		}
		if (exp->dev->dropped_opt_transfer)
			log_info("optimum ignored export=%s optimal_io_size=%llu reason=\"it does "
				 "not fit blocks of %llu bytes and the largest request\"",
				 log_quote(quoted, t->name, strlen(t->name)),
				 (unsigned long long)exp->dev->dropped_opt_transfer,
				 (unsigned long long)exp->dev->limits.request_alignment);
		s->exports.count++;
		exp->index = i;
		exp->name = t->name;
		exp->description = t->description;
		exp->size_bytes = exp->dev->size_bytes;
		exp->strict = c->strict;
		exp->sparse = c->sparse;
		export_set_sizes(exp, &c->sizes);
		exp->read_only = exp->dev->read_only;
		exp->tls_required = c->tls_mode == TLS_REQUIRE || t->tls == TARGET_TLS_REQUIRED;
		exp->clients_max = c->clients_max;
		backend_init(&exp->backend, exp->name, exp->dev, c->on_error, c->on_error);
		exp->backend.stopped = backend_stopped;
		exp->backend.lost = backend_lost;
	}
	s->exports.fallback = &s->exports.exports[c->fallback];
	return 0;
}

static uint64_t
payload_per_worker(const struct server *s)
{
	return MAX(LIMIT_PAYLOAD_TOTAL / s->nseats, LIMIT_PAYLOAD_WORKER_MIN);
}

static int
seat_new(struct server *s, unsigned i, struct err *err)
{
	struct seat *seat = &s->seats[i];
	int ret;

	seat->server = s;
	ret = worker_new(&seat->worker, i, &s->exports, payload_per_worker(s), queues_at_start(s),
			 err);
	if (ret < 0)
		return ret;
	worker_set_poll(seat->worker, (uint64_t)s->config.poll_us * 1000);
	buf_pool_region(worker_pool(seat->worker), &seat->region);
	for (unsigned e = 0; e < s->exports.count; e++) {
		ret = dev_map(s->exports.exports[e].dev, &seat->region, err);
		if (ret < 0)
			return ret;
		seat->mapped++;
	}
	return 0;
}

/* -EIO when a worker's last flush failed. */
static int
seats_free(struct server *s)
{
	int ret = 0;

	for (unsigned i = 0; i < s->nseats && s->seats; i++) {
		struct seat *seat = &s->seats[i];

		if (seat->worker && worker_join(seat->worker) < 0)
			ret = -EIO;
		for (unsigned e = 0; e < seat->mapped; e++)
			dev_unmap(s->exports.exports[e].dev, &seat->region);
		worker_free(seat->worker);
	}
	free(s->seats);
	return ret;
}

static int
server_free(struct server *s)
{
	int ret;

	listener_close(&s->listeners);
	ret = seats_free(s);
	loop_free(s->loop);
	if (s->started && log_wants(LOG_DEBUG))
		stats_log(&s->exports);
	for (unsigned i = 0; i < s->exports.count; i++) {
		backend_fini(&s->exports.exports[i].backend);
		dev_close(s->exports.exports[i].dev);
	}
	free(s->exports.exports);
	gate_put(s->gate.gate);
	config_release(&s->config);
	return ret;
}

/* Signals that ask for something and stop nothing. */
static void
signals_harmless(sigset_t *set)
{
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
}

/*
 * From here on a signal waits for signals_watch(): one in between must not
 * leave a socket behind. Opening devices may take long, and is over.
 */
static void
signals_hold(struct server *s)
{
	sigemptyset(&s->signals);
	sigaddset(&s->signals, SIGTERM);
	sigaddset(&s->signals, SIGINT);
	signals_harmless(&s->signals);
	/* The terminal is gone, if there is nothing to reload. But nohup(1) means it. */
	if (signal(SIGHUP, SIG_DFL) == SIG_IGN && !reloads(s))
		signal(SIGHUP, SIG_IGN);
	else
		sigaddset(&s->signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &s->signals, NULL);
}

/* The sockets, as the user that is to come and with their label. */
static int
listeners_open(struct server *s, struct err *err)
{
	const char *label = s->config.selinux_label;
	int ret = label ? selinux_label_sockets(label, err) : 0;

	if (ret < 0)
		return err_prefix(err, "--selinux-label=%s", label);
	identity_files_begin(&s->identity);
	ret = listener_open(&s->listeners, &s->config, err);
	identity_files_end(&s->identity);
	if (ret == 0 && label)
		ret = selinux_label_sockets(NULL, err);
	return ret;
}

/* Nothing else will be opened: only what it takes to serve and to stop is left. */
static int
server_confine(struct server *s, struct err *err)
{
	const struct sandbox_options options = {
		.mode = s->config.sandbox,
		.rings_later = !queues_at_start(s),
	};
	int ret;

	if ((ret = listener_allow_unlink(&s->listeners, err)) < 0 ||
	    (ret = gate_allow_reload(&s->config, err)) < 0)
		return ret;
	return sandbox_enter(&options, &s->identity, err);
}

/* Everything that may fail, before anything runs. */
static int
server_open(struct server *s, struct err *err)
{
	struct gate *gate;
	int ret = identity_resolve(&s->identity, s->config.user, s->config.group, err);

	if (ret < 0)
		return ret;
	s->nseats = s->config.single ? 1 : s->config.workers ? s->config.workers : cpus_allowed();
	co_waitq_init(&s->changed);
	s->seats = calloc(s->nseats, sizeof(*s->seats));
	if (!s->seats)
		return err_set(err, -ENOMEM, "out of memory");

	if (s->config.tls_mode != TLS_OFF) {
		sandbox_secrets();
		if ((ret = tls_init(err)) < 0)
			return ret;
	}
	if ((ret = gate_open(&gate, &s->config, err)) < 0)
		return ret;
	gate_place_init(&s->gate, gate);
	if ((ret = gate_check_start(gate, &s->config, err)) < 0)
		return ret;
	if ((ret = exports_open(s, err)) < 0)
		return ret;
	signals_hold(s);
	if ((ret = listeners_open(s, err)) < 0 ||
	    (ret = loop_new(&s->loop, err)) < 0)
		return ret;
	/* With --single there is nobody to wait, so nobody needs to hear of it. */
	admission_init(&s->admission, s->loop,
		       s->config.single ? UINT_MAX : s->config.connections_max,
		       s->config.single ? UINT_MAX : s->config.handshakes_max);
	for (unsigned i = 0; i < s->nseats; i++)
		if ((ret = seat_new(s, i, err)) < 0)
			return ret;
	return server_confine(s, err);
}

static int
signals_watch(struct server *s, struct err *err)
{
	int fd = signalfd(-1, &s->signals, SFD_CLOEXEC | SFD_NONBLOCK);

	if (fd < 0)
		return err_set(err, -errno, "signalfd: %s", strerror(errno));
	loop_assert();
	loop_watch(s->loop, &s->signal_watch, fd, signal_readable);
	return 0;
}

static int
server_start(struct server *s, struct err *err)
{
	int ret;

	loop_assert();
	if ((ret = loop_attach(s->loop, err)) < 0)
		return ret;
	s->started = true;
	if ((ret = signals_watch(s, err)) < 0)
		return ret;
	s->conn_owner = (struct conn_owner){
		.loop = s->loop,
		.handshake_ns = LIMIT_MS(1000) * s->config.handshake_s,
		.tls_mode = s->config.tls_mode,
		.gate = &s->gate,
		.negotiated = conn_negotiated,
		.closed = conn_closed,
	};
	s->clients = (struct listener_client){
		.admit = clients_admit,
		.accepted = clients_accepted,
	};
	for (unsigned i = 0; i < s->nseats; i++) {
		ret = worker_start(s->seats[i].worker, err);
		if (ret < 0)
			return ret;
		s->workers_running++;
	}
	if (s->config.single)
		ret = conn_begin(s, STDIN_FILENO, STDOUT_FILENO);
	else
		ret = listener_start(&s->listeners, s->loop, &s->clients);
	return ret < 0 ? err_set(err, ret, "out of memory") : 0;
}

/*
 * Writes to standard output as long as somebody takes it. Signals are blocked
 * and for the loop, which does not run yet; here one ends the waiting.
 */
static void
print_text(const struct server *s, const char *text, size_t len)
{
	struct pollfd fds[] = {
		{ .fd = STDOUT_FILENO, .events = POLLOUT },
		{ .fd = s->signal_watch.fd, .events = POLLIN },
	};

	while (len > 0) {
		ssize_t n;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return; /* UNTESTED: out of memory */
		}
		if (fds[1].revents)
			return;
		/* A pipe that is ready takes this much without waiting. */
		n = write(STDOUT_FILENO, text, MIN(len, (size_t)PIPE_BUF));
		if (n < 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void
print_uris(const struct server *s)
{
	size_t len = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &len);

	for (unsigned l = 0; out && l < s->listeners.count; l++)
		for (unsigned e = 0; e < s->exports.count; e++)
			listener_print_uri(&s->listeners.listeners[l],
					   s->exports.exports[e].name,
					   s->exports.exports[e].tls_required, out);
	if (out && fclose(out) == 0)
		print_text(s, text, len);
	else
		log_error("cannot print the URIs error=\"out of memory\"");
	free(text);
}

/* What clients will meet; the names are those of the options, where there is one. */
static void
limits_log(const struct server *s)
{
	const struct config *c = &s->config;
	const struct config_tcp *tcp = &c->tcp;
	char keepalive[40] = "off";

	if (tcp->keepalive_idle_s)
		snprintf(keepalive, sizeof(keepalive), "%u:%u:%u", tcp->keepalive_idle_s,
			 tcp->keepalive_interval_s, tcp->keepalive_probes);
	log_debug("limits max_connections=%u max_handshakes=%u shared=%u handshake_limit_s=%u "
		  "keepalive=%s tcp_user_timeout_s=%u shutdown_timeout_s=%u stall_s=%u "
		  "options=%u option_bytes=%u queries=%u name_bytes=%u inflight=%u "
		  "request_bytes=%u refused_bytes=%u connection_payload_bytes=%u "
		  "worker_payload_bytes=%llu",
		  c->connections_max, c->handshakes_max, c->clients_max, c->handshake_s, keepalive,
		  tcp->user_timeout_s, c->shutdown_s, (unsigned)(LIMIT_STALL_NS / LIMIT_MS(1000)),
		  LIMIT_OPTIONS + LIMIT_OPTIONS_PER_EXPORT * s->exports.count, LIMIT_OPTION_BYTES,
		  LIMIT_META_QUERIES, LIMIT_STRING_BYTES, LIMIT_INFLIGHT, LIMIT_PAYLOAD_SERVED,
		  LIMIT_PAYLOAD_DRAINED, LIMIT_CONN_PAYLOAD, (unsigned long long)payload_per_worker(s));
}

/* Whether a client may get at EXP without TLS; with OVER_IP, one that comes over IP. */
static bool
is_clear(const struct server *s, const struct export *exp, bool over_ip)
{
	const struct access *access = s->gate.gate->access;

	return !exp->tls_required && (!access || access_admits_nobody(access, exp->index, over_ip));
}

/* What is there in clear, although somebody may think otherwise. */
static void
warn_of_clear(const struct server *s)
{
	const struct gate *gate = s->gate.gate;
	bool over_ip = false;
	char quoted[LOG_QUOTE_MAX];

	for (unsigned e = 0; e < s->exports.count; e++) {
		const struct export *exp = &s->exports.exports[e];

		if (gate->tls && is_clear(s, exp, false))
			log_warning("export is to be had without TLS, too export=%s",
				    log_quote(quoted, exp->name, strlen(exp->name)));
		over_ip |= is_clear(s, exp, true);
	}
	if (gate->tls || !over_ip || !listener_beyond_host(&s->listeners))
		return;
	if (gate->access)
		log_warning("no TLS: rules know clients on the network by their addresses alone, and "
			    "whoever is on the way sees and changes what goes over it; see "
			    "--tls-certificates");
	else
		log_warning("no TLS: whoever reaches the server gets at the exports, and whoever is "
			    "on the way sees and changes what goes over it; see --tls-certificates");
}

static void
announce(const struct server *s)
{
	for (unsigned l = 0; l < s->listeners.count; l++)
		log_info("listening on=%s", s->listeners.listeners[l].name);
	if (s->config.print_uri)
		print_uris(s);
	for (unsigned e = 0; e < s->exports.count; e++) {
		const struct export *exp = &s->exports.exports[e];
		char quoted[LOG_QUOTE_MAX];

		log_debug("export name=%s size=%llu alignment=%llu%s",
			  log_quote(quoted, exp->name, strlen(exp->name)),
			  (unsigned long long)exp->size_bytes,
			  (unsigned long long)exp->dev->limits.request_alignment,
			  exp->read_only ? " read-only" : "");
	}
	limits_log(s);
	gate_check_reload(&s->config);
	fds_check(&s->exports, s->nseats, s->listeners.count,
		  s->config.single ? 0 : s->config.connections_max);
	if (s->config.cache == DEV_CACHE_UNSAFE)
		log_warning("cache=unsafe: flushes do nothing, a crash of the host loses data");
	warn_of_clear(s);
	if (s->config.default_listen)
		log_info("no listener was named: serving this host only, see --bind and --socket");
	if (!s->config.single)
		log_info("READY listeners=%u exports=%u workers=%u", s->listeners.count,
			 s->exports.count, s->nseats);
}

static int
serve(struct server *s, struct err *err)
{
	if (server_open(s, err) < 0 || server_start(s, err) < 0) {
		log_error("cannot start: %s", err->text);
		listener_close(&s->listeners);
		/* What runs already, and the loop that it may call, end with the process. */
		if (!s->started)
			server_free(s);
		return 1;
	}
	loop_assert();
	warn_of_expiry(s);
	announce(s);
	loop_run(s->loop);
	close(s->signal_watch.fd);
	loop_detach(s->loop);
	return server_free(s) < 0;
}

int
main(int argc, char **argv)
{
	static struct server server;
	static struct err err;
	sigset_t harmless;
	int ret;

	if (helper_wanted(argc, argv))
		return helper_exec(argv);
	/* From the first moment: they never mean the end. */
	sigemptyset(&harmless);
	signals_harmless(&harmless);
	sigprocmask(SIG_BLOCK, &harmless, NULL);
	ret = fds_reserve_stdio();
	if (ret < 0) {
		log_init(LOG_INFO);
		log_error("cannot start: /dev/null: %s", strerror(-ret));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN); /* --single on a pipe: EPIPE says the same */
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes: so does EFBIG */
	ret = config_parse(&server.config, argc, argv, &err);
	if (ret < 0) {
		fprintf(stderr, "blkgate: %s\nTry 'blkgate --help'.\n", err.text);
		config_release(&server.config);
		return 2;
	}
	if (server.config.action == CONFIG_SERVE) {
		log_init(server.config.verbose ? LOG_DEBUG : LOG_INFO);
		fds_raise();
		return serve(&server, &err);
	}
	if (server.config.action == CONFIG_HELP)
		fputs(config_usage, stdout);
	else
		puts("blkgate " BLKGATE_VERSION);
	config_release(&server.config);
	return 0;
}
