/* SPDX-License-Identifier: MIT */
/*
 * listener.c - the sockets on which clients arrive.
 *
 * The path: listener_open() binds every address of the configuration;
 * listener_start() gives each socket a coroutine, accept_main(), which hands
 * each client to accepted() and waits for the next.
 */
#include "listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "server/identity.h"
#include "server/limits.h"
#include "server/log.h"
#include "server/sandbox.h"

/* How long to wait before accepting again when descriptors or memory are short. */
#define ACCEPT_RETRY_NS LIMIT_MS(100)
/* How long nothing must have failed until that is over; they go one by one. */
#define ACCEPT_CALM_NS LIMIT_MS(1000)

/* How many ports are tried until one is free on every address. */
#define PORT_TRIES 32

static struct listener *
listener_add(struct listener_set *set, int fd)
{
	struct listener *more =
		realloc(set->listeners, (set->count + 1) * sizeof(*set->listeners));

	if (!more)
		return NULL;
	set->listeners = more;
	more[set->count] = (struct listener){ .fd = fd };
	return &more[set->count++];
}

/* --- What cannot be ----------------------------------------------------------- */

/* Who starts us with sockets waits on them, and would never see ours. */
static int
activation_refuse(struct err *err)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	char own[24];

	snprintf(own, sizeof(own), "%ld", (long)getpid());
	if (!pid || !fds || strcmp(pid, own) != 0)
		return 0;
	return err_set(err, -EOPNOTSUPP,
		       "LISTEN_FDS=%s: socket activation is not supported; start the server with "
		       "--socket and give its URI to the client, or let the client start it with "
		       "--single and connect to its standard input and output",
		       fds);
}

static int
terminal_refuse(struct err *err)
{
	if (!isatty(STDIN_FILENO))
		return 0;
	return err_set(err, -ENOTTY,
		       "--single: standard input is a terminal, which is no NBD client; it is for "
		       "clients that start the server themselves");
}

/* --- TCP -------------------------------------------------------------------- */

static void
address_text(const struct sockaddr *addr, socklen_t len, char *text, size_t size)
{
	char host[64] = "?", port[8] = "?";

	getnameinfo(addr, len, host, sizeof(host), port, sizeof(port),
		    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(text, size, addr->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int
tcp_bind(struct listener_set *set, const struct addrinfo *ai, struct err *err)
{
	char text[LISTENER_NAME_MAX];
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct listener *l;
	int fd, ret, one = 1;

	address_text(ai->ai_addr, ai->ai_addrlen, text, sizeof(text));
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "listening on %s: %s", text, strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
		ret = err_set(err, -errno, "listening on %s: %s%s", text, strerror(errno),
			      errno == EADDRINUSE ?
				      "; another server? choose a port with --port" :
				      "");
		goto close_fd;
	}
	l = listener_add(set, fd);
	if (!l) {
		ret = err_set(err, -ENOMEM, "out of memory");
		goto close_fd;
	}
	l->is_tcp = true;
	getsockname(fd, (struct sockaddr *)&addr, &len);
	l->port = ntohs(addr.ss_family == AF_INET6 ?
				((struct sockaddr_in6 *)&addr)->sin6_port :
				((struct sockaddr_in *)&addr)->sin_port);
	address_text((struct sockaddr *)&addr, len, l->name, sizeof(l->name));
	return 0;

close_fd:
	close(fd);
	return ret;
}

/* Every address of HOST; *PORT is 0 at first for any, then what was found free. */
static int
tcp_open(struct listener_set *set, const char *host, uint16_t *port, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list;
	char service[8];
	int ret;

	snprintf(service, sizeof(service), "%u", *port);
	ret = getaddrinfo(host, service, &hints, &list);
	if (ret != 0)
		return err_set(err, -EADDRNOTAVAIL,
			       "listening on %s: %s; --bind takes an address or a host name", host,
			       gai_strerror(ret));
	ret = 0;
	for (struct addrinfo *ai = list; ai && ret == 0; ai = ai->ai_next) {
		/* Behind the first, the same port wherever it is free. */
		if (ai->ai_family == AF_INET)
			((struct sockaddr_in *)ai->ai_addr)->sin_port = htons(*port);
		else if (ai->ai_family == AF_INET6)
			((struct sockaddr_in6 *)ai->ai_addr)->sin6_port = htons(*port);
		ret = tcp_bind(set, ai, err);
		if (ret == 0)
			*port = set->listeners[set->count - 1].port;
	}
	freeaddrinfo(list);
	return ret;
}

/* 127.0.0.1 and ::1; a host without IPv6 has only the first. */
static int
loopback_open(struct listener_set *set, uint16_t *port, struct err *err)
{
	int ret = tcp_open(set, "127.0.0.1", port, err);

	if (ret < 0)
		return ret;
	ret = tcp_open(set, "::1", port, err);
	if (ret == -EADDRNOTAVAIL || ret == -EAFNOSUPPORT) {
		log_debug("no IPv6 loopback error=\"%s\"", err->text);
		ret = 0;
	}
	return ret;
}

/* --- Unix ------------------------------------------------------------------- */

/* The path cannot be looked at or made: its directory is why. */
static int
directory_error(const char *path, int error, struct err *err)
{
	const char *slash = strrchr(path, '/');
	int len = !slash ? 1 : slash == path ? 1 : (int)(slash - path);

	return err_set(err, -error, "socket %s: its directory %.*s: %s", path, len,
		       slash ? path : ".", strerror(error));
}

/*
 * 0 when somebody listens there, -ECONNREFUSED when nobody does, also when that
 * becomes so within half a second: the kernel closes the sockets of a killed
 * server's rings late. Else the error that keeps it from us.
 */
static int
unix_probe(const struct sockaddr_un *addr)
{
	const struct timespec nap = { .tv_nsec = 25 * 1000 * 1000 };
	int ret = 0;

	for (int i = 0; i < 20 && ret == 0; i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0)
			return -errno;
		if (i > 0)
			nanosleep(&nap, NULL);
		ret = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;
		if (ret == -EAGAIN)
			ret = 0; /* it has a backlog, and that is full */
		close(fd);
	}
	return ret;
}

/* Removes a socket that nobody listens on; 0 when the path is free afterwards. */
static int
unix_replace(const char *path, const struct sockaddr_un *addr, struct err *err)
{
	struct stat st;
	int ret;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : directory_error(path, errno, err);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST,
			       "socket %s: there is something else, which is no socket; "
			       "remove it or choose another path",
			       path);
	if (st.st_uid != identity_files_uid())
		return err_set(err, -EPERM, "socket %s: belongs to uid %u, not to us", path,
			       (unsigned)st.st_uid);
	ret = unix_probe(addr);
	if (ret == 0)
		return err_set(err, -EADDRINUSE, "socket %s: another server listens there", path);
	if (ret == -EPROTOTYPE)
		return err_set(err, -EADDRINUSE,
			       "socket %s: another program has it, for something else than streams",
			       path);
	if (ret == -ENOENT)
		return 0; /* it has gone meanwhile */
	if (ret != -ECONNREFUSED)
		return err_set(err, ret, "socket %s: cannot find out who listens there: %s", path,
			       strerror(-ret));
	if (unlink(path) < 0)
		return err_set(err, -errno, "socket %s: cannot replace it: %s", path,
			       strerror(errno));
	log_info("stale socket replaced path=%s", path);
	return 0;
}

/*
 * Removes a socket of ours, unless something else has taken its place. While
 * it is open its inode number belongs to nobody else, so: before its close().
 */
static void
unix_unlink(const char *path, dev_t dev, ino_t ino)
{
	struct stat st;

	if (lstat(path, &st) < 0 || st.st_dev != dev || st.st_ino != ino)
		return;
	/* Its directory may be another's, and we no longer root with all rights. */
	if (unlink(path) < 0)
		log_warning("socket left behind path=%s error=\"%s\"", path, strerror(errno));
}

static int
unix_open(struct listener_set *set, const char *path, unsigned mode, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct listener *l;
	struct stat st;
	mode_t old;
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "socket %s: %zu bytes, but a unix socket path has at most %zu", path,
			       strlen(path), sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	ret = unix_replace(path, &addr, err);
	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "socket %s: %s", path, strerror(errno));
	/* With its mode from the first moment, so there is none to set by a path. */
	old = umask(0777 & ~mode);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(old);
	if (ret == -ENOENT || ret == -EACCES || ret == -EROFS) {
		directory_error(path, -ret, err);
		goto close_fd;
	}
	if (ret < 0) {
		err_set(err, ret, "socket %s: %s", path, strerror(-ret));
		goto close_fd;
	}
	if (lstat(path, &st) < 0) {
		ret = err_set(err, -errno, "socket %s: %s", path, strerror(errno));
		goto close_fd;
	}
	if (listen(fd, SOMAXCONN) < 0) {
		ret = err_set(err, -errno, "socket %s: %s", path, strerror(errno));
		goto unlink_path;
	}
	l = listener_add(set, fd);
	if (!l) {
		ret = err_set(err, -ENOMEM, "out of memory");
		goto unlink_path;
	}
	l->unlink_path = path;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	snprintf(l->name, sizeof(l->name), "%s", path);
	return 0;

unlink_path:
	unix_unlink(path, st.st_dev, st.st_ino);
close_fd:
	close(fd);
	return ret;
}

static int
private_open(struct listener_set *set, unsigned mode, struct err *err)
{
	char dir[] = "/tmp/blkgateXXXXXX";

	if (!mkdtemp(dir))
		return err_set(err, -errno, "private socket: %s: %s", dir, strerror(errno));
	set->private_dir = strdup(dir);
	if (!set->private_dir || asprintf(&set->private_path, "%s/socket", dir) < 0) {
		set->private_path = NULL;
		return err_set(err, -ENOMEM, "private socket: out of memory");
	}
	return unix_open(set, set->private_path, mode, err);
}

/* --- Public ----------------------------------------------------------------- */

/*
 * One of the dynamic ports (RFC 6335). Not the kernel's choice, which would be
 * one half of them, odd or even, as long as the first address has any of it.
 */
static uint16_t
port_random(void)
{
	uint16_t n = 0;

	if (getrandom(&n, sizeof(n), GRND_NONBLOCK) < 0)
		return 0; /* UNTESTED: only while the machine boots; the kernel's choice then */
	return 0xc000 | n;
}

static int
tcp_open_all(struct listener_set *set, const struct config *config, uint16_t port, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < config->nlistens && ret == 0; i++) {
		const struct config_listen *c = &config->listens[i];

		if (c->unix_path)
			continue;
		ret = c->host ? tcp_open(set, c->host, &port, err) :
				loopback_open(set, &port, err);
	}
	if (ret < 0)
		listener_close(set);
	return ret;
}

int
listener_open(struct listener_set *set, const struct config *config, struct err *err)
{
	int ret = activation_refuse(err);

	if (ret == 0 && config->single)
		ret = terminal_refuse(err);
	if (ret == 0)
		ret = tcp_open_all(set, config, config->port, err);
	/* Of port 0 the first address gets one that may be taken on the next. */
	for (int i = 0; i < PORT_TRIES && ret == -EADDRINUSE && config->port == 0; i++)
		ret = tcp_open_all(set, config, port_random(), err);
	for (unsigned i = 0; i < config->nlistens && ret == 0; i++)
		if (config->listens[i].unix_path)
			ret = unix_open(set, config->listens[i].unix_path, config->socket_mode,
					err);
	if (ret == 0 && config->private_socket)
		ret = private_open(set, config->socket_mode, err);
	if (ret < 0)
		listener_close(set);
	else
		set->tcp = config->tcp;
	return ret;
}

int
listener_allow_unlink(const struct listener_set *set, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < set->count && ret == 0; i++)
		if (set->listeners[i].unlink_path)
			ret = sandbox_allow_remove(set->listeners[i].unlink_path, false, err);
	if (ret == 0 && set->private_dir)
		ret = sandbox_allow_remove(set->private_dir, true, err);
	return ret;
}

void
listener_unlink(const struct listener_set *set)
{
	for (unsigned i = 0; i < set->count; i++) {
		const struct listener *l = &set->listeners[i];

		if (l->unlink_path)
			unix_unlink(l->unlink_path, l->dev, l->ino);
	}
	if (set->private_dir)
		rmdir(set->private_dir);
}

void
listener_close(struct listener_set *set)
{
	listener_unlink(set);
	for (unsigned i = 0; i < set->count; i++)
		close(set->listeners[i].fd);
	free(set->listeners);
	free(set->private_dir);
	free(set->private_path);
	*set = (struct listener_set){ 0 };
}

static bool
is_passing(int error)
{
	switch (-error) {
	case EINTR:
	case EAGAIN:
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case ENETUNREACH:
	case EHOSTUNREACH:
		return true; /* of that one client: accept(2) */
	default:
		return false;
	}
}

/* Accepting has failed for want of something: said once, until it is over. */
static void co_fn
accept_failed(struct listener *l, int error)
{
	if (!l->failing)
		log_warning("cannot accept listener=%s error=\"%s\"", l->name, strerror(-error));
	l->failing = true;
	l->failed_ns = loop_now(l->set->loop);
	loop_co_sleep(l->set->loop, ACCEPT_RETRY_NS);
}

static void
accept_succeeded(struct listener *l)
{
	if (!l->failing || loop_now(l->set->loop) - l->failed_ns < ACCEPT_CALM_NS)
		return;
	l->failing = false;
	log_info("accepting again listener=%s", l->name);
}

static void
set_option(int fd, int level, int option, unsigned value)
{
	int v = (int)value;

	setsockopt(fd, level, option, &v, sizeof(v));
}

static void
tcp_tune(int fd, const struct config_tcp *tcp)
{
	/* Small replies must not wait for acknowledgements of others. */
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	/* A client that has lost power must not keep its place for ever. */
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, tcp->user_timeout_s * 1000);
	if (!tcp->keepalive_idle_s)
		return;
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, tcp->keepalive_idle_s);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, tcp->keepalive_interval_s);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, tcp->keepalive_probes);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static void
accept_main(void *arg)
{
	struct listener *l = arg;
	struct listener_set *set = l->set;

	co_assert();
	for (;;) {
		int fd;

		set->client->admit(set->client);
		if (set->closing)
			return;
		fd = loop_co_accept(set->loop, &l->op, l->fd);
		if (fd >= 0) {
			accept_succeeded(l);
			if (l->is_tcp)
				tcp_tune(fd, &set->tcp);
			set->client->accepted(set->client, fd);
		} else if (!set->closing && !is_passing(fd)) {
			accept_failed(l, fd);
		}
	}
}

int
listener_start(struct listener_set *set, struct loop *loop, struct listener_client *client)
{
	set->loop = loop;
	set->client = client;
	co_group_init(&set->group);
	for (unsigned i = 0; i < set->count; i++) {
		int ret;

		set->listeners[i].set = set;
		ret = co_spawn(loop_sched(loop), CO_STACK_CONN, &set->group, accept_main,
			       &set->listeners[i]);
		if (ret < 0)
			return ret;
	}
	return 0;
}

void
listener_co_stop(struct listener_set *set)
{
	if (!set->loop)
		return; /* never started: there is nobody to stop */
	set->closing = true;
	for (unsigned i = 0; i < set->count; i++)
		loop_cancel(set->loop, &set->listeners[i].op);
	co_group_wait(&set->group, loop_sched(set->loop));
}

/* --- Text ------------------------------------------------------------------- */

/* RFC 3986: what is not unreserved is escaped; KEEP lists what stays besides. */
static void
print_escaped(const char *text, const char *keep, FILE *out)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || strchr("-._~", *p) || strchr(keep, *p);

		fprintf(out, plain ? "%c" : "%%%02X", *p);
	}
}

void
listener_print_uri(const struct listener *l, const char *export_name, bool tls, FILE *out)
{
	fputs(tls ? "nbds" : "nbd", out);
	if (l->is_tcp) {
		fprintf(out, "://%s", l->name);
		if (*export_name)
			putc('/', out);
		print_escaped(export_name, "", out);
	} else {
		fputs("+unix:///", out);
		print_escaped(export_name, "", out);
		fputs("?socket=", out);
		print_escaped(l->name, "/", out);
	}
	putc('\n', out);
}

void
listener_peer(int fd, char *text, size_t size)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);

	snprintf(text, size, "stdio");
	if (getpeername(fd, (struct sockaddr *)&addr, &len) < 0)
		return;
	if (addr.ss_family != AF_UNIX)
		address_text((struct sockaddr *)&addr, len, text, size);
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0)
		snprintf(text, size, "unix:pid=%d,uid=%u", (int)cred.pid, (unsigned)cred.uid);
}

static bool
is_loopback(const struct sockaddr_storage *addr)
{
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;

	if (addr->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(v6) ||
		       (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
	return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
}

bool
listener_beyond_host(const struct listener_set *set)
{
	for (unsigned i = 0; i < set->count; i++) {
		struct sockaddr_storage addr;
		socklen_t len = sizeof(addr);

		if (set->listeners[i].is_tcp &&
		    getsockname(set->listeners[i].fd, (struct sockaddr *)&addr, &len) == 0 &&
		    !is_loopback(&addr))
			return true;
	}
	return false;
}

/* SO_PEERGROUPS tells with ERANGE how much room it wants. */
static int
identify_groups(int fd, struct access_peer *peer)
{
	socklen_t len = 0;
	gid_t *groups;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	if (len > LIMIT_PEER_GROUPS * sizeof(*groups))
		return -E2BIG; /* UNTESTED: the kernel has no more */
	groups = malloc(len);
	if (!groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0) {
		int ret = -errno; /* UNTESTED: they do not change after connect() */

		free(groups);
		return ret;
	}
	peer->groups = groups;
	peer->ngroups = (unsigned)(len / sizeof(*groups));
	return 0;
}

int
listener_identify(int fd, struct access_peer *peer)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_vm vm;
		struct sockaddr_storage room;
	} addr;
	socklen_t len = sizeof(addr);
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);

	if (getpeername(fd, &addr.any, &len) < 0)
		return errno == ENOTSOCK ? 0 : -errno; /* pipes: nothing is known */
	switch (addr.any.sa_family) {
	case AF_UNIX:
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0)
			return -errno; /* UNTESTED: every unix socket has them */
		peer->uid = cred.uid;
		peer->gid = cred.gid;
		peer->transport = ACCESS_UNIX;
		return identify_groups(fd, peer);
	case AF_INET:
		access_peer_set_ip(peer, &addr.in.sin_addr, 4);
		return 0;
	case AF_INET6:
		access_peer_set_ip(peer, &addr.in6.sin6_addr, 16);
		return 0;
	case AF_VSOCK:
		peer->transport = ACCESS_VSOCK;
		peer->cid = addr.vm.svm_cid;
		return 0;
	default:
		return 0;
	}
}
