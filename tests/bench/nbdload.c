// SPDX-License-Identifier: MIT
/*
 * nbdload.c - a lean load generator for any NBD server.
 *
 * One thread drives all connections, each with a fixed number of requests in
 * flight: one receive takes all replies that have arrived, one send puts out a
 * new request for each of them. So the generator costs the server's machine as
 * little as it can, and what a server saves by batching shows.
 *
 * Read on: main() -> connection_open() -> run() -> receive() -> refill() ->
 * send_pending(). Data is neither looked at nor verified.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/endian.h"

enum {
	REQUEST_SIZE = 28,
	REPLY_SIZE = 16,	/* of a simple reply */
	CHUNK_SIZE = 20,	/* of a structured one's header */
	RECV_SIZE = 1 << 20,	/* bytes one receive takes at most */
	IOV_MAX_SEND = 256,	/* pieces one send takes at most */
	HIST_SUB = 64,		/* buckets per power of two: 1.6 % */
	HIST_SIZE = 64 * HIST_SUB,
};

enum pattern { READ_SEQ, READ_RAND, WRITE_SEQ, WRITE_RAND, MIXED_RAND };

static const char *const pattern_names[] = {
	[READ_SEQ] = "read",
	[READ_RAND] = "randread",
	[WRITE_SEQ] = "write",
	[WRITE_RAND] = "randwrite",
	[MIXED_RAND] = "randrw",
};

static struct {
	const char *unix_path;
	const char *host;
	const char *port;
	const char *export_name;
	enum pattern pattern;
	unsigned connections;
	unsigned depth;
	uint32_t block_bytes;
	uint64_t size_bytes;	/* 0: the whole export */
	double warmup_s;
	double run_s;
	uint64_t ops_max;	/* 0: no limit */
	int pid;		/* 0: no CPU figures */
	uint64_t seed;
	bool structured;	/* replies */
	const char *tls_dir;	/* with ca-cert.pem and client-*.pem; NULL: in clear */
	const char *tls_priority; /* what GnuTLS may use */
} opt = {
	.host = "127.0.0.1",
	.port = "10809",
	.export_name = "",
	.pattern = READ_RAND,
	.connections = 1,
	.depth = 1,
	.block_bytes = 4096,
	.warmup_s = 0.5,
	.run_s = 3,
	.seed = 1,
	.tls_priority = "NORMAL",
};

/* One request in flight; its index is the cookie. */
struct slot {
	uint8_t header[REQUEST_SIZE];
	bool is_write;
	uint64_t sent_ns;
};

struct connection {
	int fd;
	gnutls_session_t tls;	/* NULL: in clear */
	struct slot *slots;	/* opt.depth of them */
	uint32_t *pending;	/* ring of slots still to be sent */
	unsigned pending_first;
	unsigned pending_count;
	size_t sent_of_first;	/* bytes of the first pending request that are out */
	uint8_t head[CHUNK_SIZE];
	unsigned head_len;	/* bytes of the next reply header that are here */
	unsigned head_size;	/* how long it will be */
	uint64_t skip_bytes;	/* payload still to come */
	uint32_t read_slot;	/* whose payload skip_bytes is */
	bool skip_is_last;	/* it ends that slot's reply */
	uint64_t next_offset;	/* sequential position */
	uint64_t first_offset;	/* sequential range of this connection */
	uint64_t end_offset;
	bool wants_write;	/* registered for EPOLLOUT */
};

static uint64_t export_bytes;
static uint64_t random_state;
static uint64_t in_flight;
static uint64_t done_ops;
static uint64_t issued_ops;
static bool stopping;
static bool measuring;
static uint64_t histogram[HIST_SIZE];
static uint8_t *recv_buf;
static uint8_t *write_buf;
static int epoll_fd;
static gnutls_certificate_credentials_t tls_credentials;
static int pull_flags;		/* of the receives that GnuTLS does */

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("nbdload: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* xorshift64*: quick, and the same sequence for every server. */
static uint64_t
random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull;
}

/* --- Connecting ----------------------------------------------------------- */

static ssize_t tls_send(gnutls_session_t tls, const struct iovec *iov, size_t iovcnt);
static ssize_t tls_recv(gnutls_session_t tls, void *buf, size_t len, int flags);

static void
send_all(const struct connection *conn, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		struct iovec iov = { (void *)(uintptr_t)p, len };
		ssize_t n = conn->tls ? tls_send(conn->tls, &iov, 1) :
					send(conn->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			die("send: %s", strerror(errno));
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

static void
recv_all(const struct connection *conn, void *data, size_t len)
{
	uint8_t *p = data;

	while (len > 0) {
		ssize_t n = conn->tls ? tls_recv(conn->tls, p, len, 0) :
					recv(conn->fd, p, len, 0);

		if (n == 0)
			die("the server closed the connection during the handshake");
		if (n < 0 && errno != EINTR)
			die("recv: %s", strerror(errno));
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

/* --- TLS --------------------------------------------------------------------- */

static ssize_t
tls_pull(gnutls_transport_ptr_t arg, void *buf, size_t len)
{
	return recv((int)(intptr_t)arg, buf, len, pull_flags);
}

/* Sends the segments in records as large as they may be; all of them. */
static ssize_t
tls_send(gnutls_session_t tls, const struct iovec *iov, size_t iovcnt)
{
	size_t len = 0;

	gnutls_record_cork(tls);
	for (size_t i = 0; i < iovcnt; i++) {
		if (gnutls_record_send(tls, iov[i].iov_base, iov[i].iov_len) < 0)
			die("TLS: cannot take a message");
		len += iov[i].iov_len;
	}
	if (gnutls_record_uncork(tls, GNUTLS_RECORD_WAIT) < 0)
		die("TLS: cannot send");
	return (ssize_t)len;
}

/* As recv(2). */
static ssize_t
tls_recv(gnutls_session_t tls, void *buf, size_t len, int flags)
{
	ssize_t n;

	pull_flags = flags;
	n = gnutls_record_recv(tls, buf, len);
	pull_flags = 0;
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
		errno = EAGAIN;
		return -1;
	}
	if (n < 0)
		die("TLS: %s", gnutls_strerror((int)n));
	return n;
}

static void
tls_prepare(void)
{
	char path[3][PATH_MAX];

	snprintf(path[0], PATH_MAX, "%s/ca-cert.pem", opt.tls_dir);
	snprintf(path[1], PATH_MAX, "%s/client-cert.pem", opt.tls_dir);
	snprintf(path[2], PATH_MAX, "%s/client-key.pem", opt.tls_dir);
	if (gnutls_certificate_allocate_credentials(&tls_credentials) < 0 ||
	    gnutls_certificate_set_x509_trust_file(tls_credentials, path[0],
						   GNUTLS_X509_FMT_PEM) <= 0 ||
	    gnutls_certificate_set_x509_key_file(tls_credentials, path[1], path[2],
						 GNUTLS_X509_FMT_PEM) < 0)
		die("%s: no certificates in it that can be used", opt.tls_dir);
}

static gnutls_session_t
tls_begin(int fd)
{
	gnutls_session_t tls;
	int ret;

	if (gnutls_init(&tls, GNUTLS_CLIENT) < 0 ||
	    gnutls_priority_set_direct(tls, opt.tls_priority, NULL) < 0 ||
	    gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, tls_credentials) < 0)
		die("TLS: no session with %s", opt.tls_priority);
	gnutls_session_set_verify_cert(tls, "localhost", 0);
	gnutls_transport_set_int(tls, fd);
	gnutls_transport_set_pull_function(tls, tls_pull);
	do
		ret = gnutls_handshake(tls);
	while (ret < 0 && !gnutls_error_is_fatal(ret));
	if (ret < 0)
		die("TLS: %s", gnutls_strerror(ret));
	return tls;
}

/* What it came to: version, key exchange, cipher. */
static void
tls_print(gnutls_session_t tls)
{
	char *desc = gnutls_session_get_desc(tls);

	printf(" tls=%s", desc ? desc : "unknown");
	gnutls_free(desc);
}

/* --- Sockets ----------------------------------------------------------------- */

static int
connect_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(addr.sun_path))
		die("%s: cannot make a socket for it", path);
	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static int
connect_tcp(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	int on = 1, fd = -1;
	int ret = getaddrinfo(host, port, &hints, &list);

	if (ret != 0)
		die("%s: %s", host, gai_strerror(ret));
	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
		if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	if (fd < 0)
		die("%s port %s: %s", host, port, strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

/* An option without data that is answered with an ACK. */
static void
ask(const struct connection *conn, uint32_t option, const char *what)
{
	uint8_t buf[20];

	put_be64(buf, 0x49484156454f5054ull);
	put_be32(buf + 8, option);
	put_be32(buf + 12, 0);
	send_all(conn, buf, 16);
	recv_all(conn, buf, 20);
	if (get_be32(buf + 12) != 1 || get_be32(buf + 16) != 0)
		die("%s: refused with error %#x", what, get_be32(buf + 12));
}

/* Fixed newstyle, TLS and structured replies if wanted, GO; the size of the export. */
static uint64_t
handshake(struct connection *conn)
{
	uint8_t buf[4096];
	uint32_t name_len = (uint32_t)strlen(opt.export_name);
	uint64_t size = 0;

	recv_all(conn, buf, 18);
	if (get_be64(buf) != 0x4e42444d41474943ull || get_be64(buf + 8) != 0x49484156454f5054ull)
		die("this is not a newstyle NBD server");
	if (name_len > sizeof(buf) - 32)
		die("the export name is too long");
	put_be32(buf, 3);
	send_all(conn, buf, 4);
	if (opt.tls_dir) {
		ask(conn, 5, "STARTTLS");
		conn->tls = tls_begin(conn->fd);
	}
	if (opt.structured)
		ask(conn, 8, "structured replies");
	put_be64(buf, 0x49484156454f5054ull);
	put_be32(buf + 8, 7);
	put_be32(buf + 12, 6 + name_len);
	put_be32(buf + 16, name_len);
	memcpy(buf + 20, opt.export_name, name_len);
	put_be16(buf + 20 + name_len, 0);
	send_all(conn, buf, 22 + name_len);
	for (;;) {
		uint32_t type, len;

		recv_all(conn, buf, 20);
		type = get_be32(buf + 12);
		len = get_be32(buf + 16);
		if (len > sizeof(buf))
			die("an option reply of %u bytes", len);
		recv_all(conn, buf, len);
		if (type == 1)
			return size;
		if (type != 3)
			die("export '%s' is refused: error %#x %.*s", opt.export_name, type,
			    (int)len, (char *)buf);
		if (len == 12 && buf[0] == 0 && buf[1] == 0)
			size = get_be64(buf + 2);
	}
}

static void
connection_open(struct connection *conn, unsigned index)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
	uint64_t size, share;

	conn->fd = opt.unix_path ? connect_unix(opt.unix_path) : connect_tcp(opt.host, opt.port);
	size = handshake(conn);
	if (opt.size_bytes != 0 && opt.size_bytes < size)
		size = opt.size_bytes;
	size -= size % opt.block_bytes;
	if (size / opt.block_bytes < opt.connections)
		die("the export is too small");
	export_bytes = size;
	/* Sequential: each connection walks its own part, round and round. */
	share = size / opt.block_bytes / opt.connections * opt.block_bytes;
	conn->first_offset = index * share;
	conn->end_offset = conn->first_offset + share;
	conn->next_offset = conn->first_offset;
	conn->head_size = REPLY_SIZE;
	conn->slots = calloc(opt.depth, sizeof(*conn->slots));
	conn->pending = calloc(opt.depth, sizeof(*conn->pending));
	if (!conn->slots || !conn->pending)
		die("no memory");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* --- Requests ------------------------------------------------------------- */

static void
issue(struct connection *conn, uint32_t index)
{
	struct slot *slot = &conn->slots[index];
	uint64_t offset;

	slot->is_write = opt.pattern == WRITE_SEQ || opt.pattern == WRITE_RAND ||
			 (opt.pattern == MIXED_RAND && random_next() >> 63);
	if (opt.pattern == READ_SEQ || opt.pattern == WRITE_SEQ) {
		offset = conn->next_offset;
		conn->next_offset += opt.block_bytes;
		if (conn->next_offset >= conn->end_offset)
			conn->next_offset = conn->first_offset;
	} else {
		offset = random_next() % (export_bytes / opt.block_bytes) * opt.block_bytes;
	}
	put_be32(slot->header, 0x25609513);
	put_be16(slot->header + 4, 0);
	put_be16(slot->header + 6, slot->is_write);
	put_be64(slot->header + 8, index);
	put_be64(slot->header + 16, offset);
	put_be32(slot->header + 24, opt.block_bytes);
	conn->pending[(conn->pending_first + conn->pending_count) % opt.depth] = index;
	conn->pending_count++;
	issued_ops++;
	in_flight++;
}

static size_t
wire_bytes(const struct slot *slot)
{
	return REQUEST_SIZE + (slot->is_write ? opt.block_bytes : 0);
}

static void
watch_for_room(struct connection *conn, bool wanted)
{
	struct epoll_event event = { .events = EPOLLIN | (wanted ? EPOLLOUT : 0),
				     .data.ptr = conn };

	if (conn->wants_write == wanted)
		return;
	conn->wants_write = wanted;
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

/* Puts out what the socket takes. */
static void
send_pending(struct connection *conn)
{
	while (conn->pending_count > 0) {
		struct iovec iov[IOV_MAX_SEND];
		struct msghdr msg = { .msg_iov = iov };
		size_t skip = conn->sent_of_first;
		uint64_t now = now_ns();
		unsigned count = 0, i;
		ssize_t n;

		for (i = 0; i < conn->pending_count && count + 2 <= IOV_MAX_SEND; i++) {
			uint32_t index = conn->pending[(conn->pending_first + i) % opt.depth];
			struct slot *slot = &conn->slots[index];

			slot->sent_ns = now;
			if (skip < REQUEST_SIZE) {
				iov[count].iov_base = slot->header + skip;
				iov[count++].iov_len = REQUEST_SIZE - skip;
				skip = 0;
			} else {
				skip -= REQUEST_SIZE;
			}
			if (slot->is_write) {
				iov[count].iov_base = write_buf + skip;
				iov[count++].iov_len = opt.block_bytes - skip;
			}
			skip = 0;
		}
		msg.msg_iovlen = count;
		n = conn->tls ? tls_send(conn->tls, iov, count) :
				sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("send: %s", strerror(errno));
		conn->sent_of_first += (size_t)n;
		while (conn->pending_count > 0) {
			uint32_t index = conn->pending[conn->pending_first];
			size_t len = wire_bytes(&conn->slots[index]);

			if (conn->sent_of_first < len)
				break;
			conn->sent_of_first -= len;
			conn->pending_first = (conn->pending_first + 1) % opt.depth;
			conn->pending_count--;
		}
	}
	watch_for_room(conn, conn->pending_count > 0);
}

/* --- Replies -------------------------------------------------------------- */

/* Logarithmic buckets, HIST_SUB of them for each power of two. */
static unsigned
bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < HIST_SUB)
		return (unsigned)ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
	return (shift + 1) * HIST_SUB + (unsigned)(ns >> shift) - HIST_SUB;
}

static double
bucket_us(unsigned bucket)
{
	unsigned shift;

	if (bucket < HIST_SUB)
		return bucket / 1e3;
	shift = bucket / HIST_SUB - 1;
	return (double)((uint64_t)(bucket % HIST_SUB + HIST_SUB) << shift) / 1e3;
}

static void
complete(struct connection *conn, uint32_t index, uint64_t now)
{
	done_ops++;
	in_flight--;
	if (measuring)
		histogram[bucket_of(now - conn->slots[index].sent_ns)]++;
	if (!stopping)
		issue(conn, index);
}

/* A simple reply. */
static void
reply_header(struct connection *conn, uint32_t slot, uint64_t now)
{
	uint32_t error = get_be32(conn->head + 4);

	if (error != 0)
		die("the server answers error %u", error);
	if (conn->slots[slot].is_write) {
		complete(conn, slot, now);
	} else {
		conn->read_slot = slot;
		conn->skip_bytes = opt.block_bytes;
		conn->skip_is_last = true;
	}
}

/* A chunk of a structured one. What is in it is not looked at. */
static void
chunk_header(struct connection *conn, uint32_t slot, uint64_t now)
{
	bool done = get_be16(conn->head + 4) & 1;
	uint16_t type = get_be16(conn->head + 6);

	if (type & 0x8000)
		die("the server answers with an error chunk");
	conn->read_slot = slot;
	conn->skip_bytes = get_be32(conn->head + 16);
	conn->skip_is_last = done;
	if (done && conn->skip_bytes == 0)
		complete(conn, slot, now);
}

/* More of a header: what it is shows in its first bytes. */
static void
header_bytes(struct connection *conn, uint64_t now)
{
	uint32_t magic;
	uint64_t cookie;

	if (conn->head_len < REPLY_SIZE)
		return;
	magic = get_be32(conn->head);
	cookie = get_be64(conn->head + 8);
	if ((magic != 0x67446698 && magic != 0x668e33ef) || cookie >= opt.depth)
		die("a reply that is none: magic %#x, cookie %llu", magic,
		    (unsigned long long)cookie);
	conn->head_size = magic == 0x67446698 ? REPLY_SIZE : CHUNK_SIZE;
	if (conn->head_len < conn->head_size)
		return;
	if (conn->head_size == CHUNK_SIZE)
		chunk_header(conn, (uint32_t)cookie, now);
	else
		reply_header(conn, (uint32_t)cookie, now);
	conn->head_len = 0;
	conn->head_size = REPLY_SIZE;
}

/* One receive, and everything that was in it. False: there was nothing. */
static bool
receive_once(struct connection *conn, int flags)
{
	const uint8_t *p = recv_buf;
	ssize_t n = conn->tls ? tls_recv(conn->tls, recv_buf, RECV_SIZE, flags) :
				recv(conn->fd, recv_buf, RECV_SIZE, flags);
	uint64_t now = now_ns();
	size_t len;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0)
		die("recv: %s", strerror(errno));
	if (n == 0)
		die("the server closed the connection");
	for (len = (size_t)n; len > 0;) {
		size_t part;

		if (conn->skip_bytes > 0) {
			part = len < conn->skip_bytes ? len : (size_t)conn->skip_bytes;
			conn->skip_bytes -= part;
			if (conn->skip_bytes == 0 && conn->skip_is_last)
				complete(conn, conn->read_slot, now);
		} else {
			part = conn->head_size - conn->head_len;
			if (part > len)
				part = len;
			memcpy(conn->head + conn->head_len, p, part);
			conn->head_len += (unsigned)part;
			header_bytes(conn, now);
		}
		p += part;
		len -= part;
	}
	return true;
}

static void
receive(struct connection *conn, int flags)
{
	/* Of records GnuTLS gives one at a time; the socket says nothing of those it has. */
	while (receive_once(conn, flags) && conn->tls)
		flags = MSG_DONTWAIT;
	send_pending(conn);
}

/* --- The run -------------------------------------------------------------- */

/* CPU time of all threads of the server, living and dead. */
static uint64_t
server_cpu_ns(void)
{
	clockid_t clock;
	struct timespec ts;

	if (opt.pid == 0)
		return 0;
	if (clock_getcpuclockid(opt.pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		die("cannot read the CPU clock of process %d", opt.pid);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The same by user and system time, in clock ticks. */
static void
server_cpu_ticks(uint64_t *user, uint64_t *system)
{
	char path[64], line[1024];
	unsigned long long u = 0, s = 0;
	const char *p;
	FILE *f;

	*user = *system = 0;
	if (opt.pid == 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/stat", opt.pid);
	f = fopen(path, "r");
	if (!f || !fgets(line, sizeof(line), f) || !(p = strrchr(line, ')')))
		die("cannot read %s", path);
	fclose(f);
	if (sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &u, &s) != 2)
		die("cannot read %s", path);
	*user = u;
	*system = s;
}

static void
turn(struct connection *conns)
{
	struct epoll_event events[64];
	int n;

	/* Alone and with everything sent: the receive itself may wait. */
	if (opt.connections == 1 && conns[0].pending_count == 0) {
		receive(&conns[0], 0);
		return;
	}
	n = epoll_wait(epoll_fd, events, 64, 1000);
	for (int i = 0; i < n; i++) {
		struct connection *conn = events[i].data.ptr;

		if (events[i].events & EPOLLOUT)
			send_pending(conn);
		if (events[i].events & ~(uint32_t)EPOLLOUT)
			receive(conn, MSG_DONTWAIT);
	}
}

static double
percentile(double share)
{
	uint64_t total = 0, sum = 0;
	unsigned i;

	for (i = 0; i < HIST_SIZE; i++)
		total += histogram[i];
	for (i = 0; i < HIST_SIZE; i++) {
		sum += histogram[i];
		if ((double)sum >= share * (double)total && sum > 0)
			break;
	}
	return bucket_us(i);
}

static void
run(struct connection *conns)
{
	uint64_t start, begin_ns, end_ns, begin_ops, ops, cpu;
	uint64_t user[2], system[2];
	double tick_us = 1e6 / (double)sysconf(_SC_CLK_TCK);

	start = now_ns();
	for (unsigned i = 0; i < opt.connections; i++) {
		for (uint32_t j = 0; j < opt.depth; j++)
			issue(&conns[i], j);
		send_pending(&conns[i]);
	}
	while (now_ns() - start < (uint64_t)(opt.warmup_s * 1e9))
		turn(conns);

	measuring = true;
	begin_ops = done_ops;
	server_cpu_ticks(&user[0], &system[0]);
	cpu = server_cpu_ns();
	begin_ns = now_ns();
	do {
		turn(conns);
		end_ns = now_ns();
	} while (opt.ops_max ? done_ops - begin_ops < opt.ops_max :
			       end_ns - begin_ns < (uint64_t)(opt.run_s * 1e9));
	cpu = server_cpu_ns() - cpu;
	server_cpu_ticks(&user[1], &system[1]);
	ops = done_ops - begin_ops;
	measuring = false;

	/* Every request gets its reply, so that the server ends in order. */
	stopping = true;
	while (in_flight > 0)
		turn(conns);

	printf("pattern=%s bs=%u conns=%u depth=%u ops=%llu ops_per_s=%.0f MB_per_s=%.1f "
	       "lat_us_p50=%.1f lat_us_p99=%.1f",
	       pattern_names[opt.pattern], opt.block_bytes, opt.connections, opt.depth,
	       (unsigned long long)ops, (double)ops * 1e9 / (double)(end_ns - begin_ns),
	       (double)ops * opt.block_bytes * 1e3 / (double)(end_ns - begin_ns),
	       percentile(0.5), percentile(0.99));
	if (opt.pid != 0)
		printf(" cpu_us_per_op=%.2f user_us_per_op=%.2f sys_us_per_op=%.2f",
		       (double)cpu / 1e3 / (double)ops,
		       (double)(user[1] - user[0]) * tick_us / (double)ops,
		       (double)(system[1] - system[0]) * tick_us / (double)ops);
	if (conns[0].tls)
		tls_print(conns[0].tls);
	putchar('\n');
}

static void __attribute__((noreturn))
usage(int status)
{
	fputs("usage: nbdload [-u SOCKET | -H HOST -P PORT] [-x EXPORT] [options]\n"
	      "  -m PATTERN  read, write (sequential), randread, randwrite, randrw\n"
	      "  -c N        connections (1)\n"
	      "  -d N        requests in flight per connection (1)\n"
	      "  -b BYTES    block size (4096)\n"
	      "  -z BYTES    use only the first BYTES of the export\n"
	      "  -s SECONDS  measured time (3)\n"
	      "  -n OPS      measure this many operations instead\n"
	      "  -w SECONDS  warm-up before it (0.5)\n"
	      "  -p PID      the server: report its CPU time per operation\n"
	      "  -S SEED     of the random offsets (1)\n"
	      "  -R          structured replies\n"
	      "  -T DIR      TLS, with ca-cert.pem and client-*.pem in DIR\n"
	      "  -C TEXT     what GnuTLS may use for it (NORMAL)\n",
	      status ? stderr : stdout);
	exit(status);
}

static uint64_t
number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *end || text[0] == '-' || v < min || v > max)
		die("'%s' is no number from %llu to %llu", text, (unsigned long long)min,
		    (unsigned long long)max);
	return v;
}

static double
seconds(const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= 1e6))
		die("'%s' is no number of seconds", text);
	return v;
}

static void
parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "u:H:P:x:m:c:d:b:z:s:n:w:p:S:RT:C:h")) != -1) {
		switch (c) {
		case 'u': opt.unix_path = optarg; break;
		case 'H': opt.host = optarg; break;
		case 'P': opt.port = optarg; break;
		case 'x': opt.export_name = optarg; break;
		case 'm':
			opt.pattern = READ_SEQ;
			while (strcmp(optarg, pattern_names[opt.pattern]) != 0)
				if (++opt.pattern > MIXED_RAND)
					die("no pattern '%s'", optarg);
			break;
		case 'c': opt.connections = (unsigned)number(optarg, 1, 1000); break;
		case 'd': opt.depth = (unsigned)number(optarg, 1, 4096); break;
		case 'b': opt.block_bytes = (uint32_t)number(optarg, 1, 64 << 20); break;
		case 'z': opt.size_bytes = number(optarg, 1, INT64_MAX); break;
		case 's': opt.run_s = seconds(optarg); break;
		case 'n': opt.ops_max = number(optarg, 1, INT64_MAX); break;
		case 'w': opt.warmup_s = seconds(optarg); break;
		case 'p': opt.pid = (int)number(optarg, 1, INT32_MAX); break;
		case 'S': opt.seed = number(optarg, 0, UINT64_MAX); break;
		case 'R': opt.structured = true; break;
		case 'T': opt.tls_dir = optarg; break;
		case 'C': opt.tls_priority = optarg; break;
		case 'h': usage(0);
		default: usage(2);
		}
	}
	if (optind != argc)
		usage(2);
}

int
main(int argc, char **argv)
{
	struct connection *conns;

	parse(argc, argv);
	if (opt.tls_dir)
		tls_prepare();
	random_state = opt.seed * 0x9e3779b97f4a7c15ull | 1;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	recv_buf = malloc(RECV_SIZE);
	write_buf = malloc(opt.block_bytes);
	conns = calloc(opt.connections, sizeof(*conns));
	if (epoll_fd < 0 || !recv_buf || !write_buf || !conns)
		die("no memory");
	for (uint32_t i = 0; i < opt.block_bytes; i++)
		write_buf[i] = (uint8_t)random_next();
	for (unsigned i = 0; i < opt.connections; i++)
		connection_open(&conns[i], i);
	run(conns);
	for (unsigned i = 0; i < opt.connections; i++) {
		uint8_t disc[REQUEST_SIZE];

		memset(disc, 0, sizeof(disc));
		put_be32(disc, 0x25609513);
		put_be16(disc + 6, 2);
		send_all(&conns[i], disc, sizeof(disc));
		close(conns[i].fd);
		free(conns[i].slots);
		free(conns[i].pending);
	}
	free(conns);
	free(recv_buf);
	free(write_buf);
	return 0;
}
