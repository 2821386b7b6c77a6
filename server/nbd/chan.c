/* SPDX-License-Identifier: MIT */
/*
 * chan.c - the connection's door; see chan.h.
 *
 * The path of a read: what is in the read-ahead buffer is copied; when more is
 * wanted, one receive takes the rest straight into the caller's memory and
 * whatever follows it into the read-ahead buffer (chan_co_receive). Who must
 * not wait with memory in hand asks for the bytes first (chan_co_buffer).
 *
 * The path of a write: one send, or as many as the socket needs.
 *
 * With TLS both have the engine of chan_tls.c in their middle: receive() asks it for
 * plaintext and gives it what it receives when there is none; a write gives it the
 * message, part by part, and sends what it has made of each.
 *
 * Each receive and each send may take the stall limit, but none may last beyond
 * the deadline of its message, which begins with the call that reads or writes
 * it (message_limit): what goes on between two calls is the server's own time.
 */
#include "chan.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "chan_tls.h"
#include "server/limits.h"
#include "server/share.h"

_Static_assert(LIMIT_SEND_SEGMENTS <= IOV_MAX, "the kernel takes that many");

/* --- Limits of time ---------------------------------------------------------- */

/* When a message of LEN bytes that begins now must be over. */
static uint64_t
message_limit(const struct chan *chan, size_t len)
{
	return loop_now(chan->loop) + LIMIT_MESSAGE_NS(len);
}

/* How long the next byte may take of a message that must be over at LIMIT. */
static uint64_t
byte_limit(const struct chan *chan, uint64_t limit)
{
	uint64_t now = loop_now(chan->loop);

	return limit > now ? MIN(limit - now, LIMIT_STALL_NS) : 0;
}

static void
rx_stalled(struct loop_timer *timer)
{
	loop_assert();
	chan_abort(container_of(timer, struct chan, rx_stall), -ETIMEDOUT);
}

/*
 * A send is slow: is it too slow, or one that the kernel may have forgotten? For a
 * peer that has said that it sends nothing more the kernel waits in a thread of its
 * own, and that has been seen to sleep on when there was space again.
 */
static void
tx_look(struct loop_timer *timer)
{
	struct chan *chan = container_of(timer, struct chan, tx_stall);
	uint64_t now = loop_now(chan->loop);

	loop_assert();
	if (now >= chan->tx_end) {
		chan_abort(chan, -ETIMEDOUT);
		return;
	}
	if (chan->wfd_is_socket && !chan->peer_quiet && chan_peer_left(chan)) {
		chan->peer_quiet = true;
		loop_cancel(chan->loop, &chan->tx); /* the next one does not wait */
	}
	loop_timer_arm(chan->loop, timer, MIN(LIMIT_SEND_LOOK_NS, chan->tx_end - now), tx_look);
}

/* --- Reading ---------------------------------------------------------------- */

/*
 * One receive into IOV: the bytes, 0 for "again", -ENODATA at the end of the
 * stream.
 */
static int co_fn
receive_wire(struct chan *chan, struct iovec *iov, int iovcnt, enum chan_where where)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)iovcnt };
	int ret;

	if (chan->aborted || chan->stopped)
		return chan->aborted ? chan->aborted : chan->stopped;
	if (where == CHAN_INSIDE)
		loop_timer_arm(chan->loop, &chan->rx_stall, byte_limit(chan, chan->rx_limit),
			       rx_stalled);
	if (!chan->rfd_is_socket)
		ret = loop_co_readv(chan->loop, &chan->rx, chan->rfd, iov, iovcnt);
	else if (iovcnt == 1)
		ret = loop_co_recv(chan->loop, &chan->rx, chan->rfd, iov->iov_base, iov->iov_len);
	else
		ret = loop_co_recvmsg(chan->loop, &chan->rx, chan->rfd, &msg);
	if (where == CHAN_INSIDE)
		loop_timer_disarm(&chan->rx_stall);

	if (chan->aborted)
		return chan->aborted;
	if (ret == -EINTR || ret == -EAGAIN)
		return 0;
	if (ret < 0 && chan->stopped)
		return chan->stopped;
	return ret == 0 ? -ENODATA : ret;
}

/* As receive_wire(): what was encrypted there. */
static int co_fn
receive(struct chan *chan, struct iovec *iov, int iovcnt, enum chan_where where)
{
	struct iovec room;
	int ret;

	if (!chan->tls)
		return receive_wire(chan, iov, iovcnt, where);
	for (;;) {
		ret = (int)chan_tls_read(chan->tls, iov, iovcnt);
		if (ret != -EAGAIN)
			return ret;
		room = chan_tls_room(chan->tls);
		ret = receive_wire(chan, &room, 1, where);
		/* Who ends it without a word may not be the peer. */
		if (ret < 0)
			return ret == -ENODATA ? -ECONNRESET : ret;
		chan_tls_received(chan->tls, (size_t)ret);
	}
}

/*
 * One receive: up to WANT bytes into BUF, and up to AHEAD of what comes beyond
 * them into the (empty) read-ahead buffer. Returns the bytes that went into BUF.
 */
static ssize_t co_fn
chan_co_receive(struct chan *chan, void *buf, size_t want, size_t ahead, enum chan_where where)
{
	struct iovec iov[2] = {
		{ .iov_base = buf, .iov_len = want },
		{ .iov_base = chan->ahead, .iov_len = ahead },
	};
	int ret;

	invariant(chan->begin == chan->end);
	ret = want > 0 ? receive(chan, iov, 2, where) : receive(chan, &iov[1], 1, where);
	if (ret < 0 || (size_t)ret <= want)
		return ret;
	chan->begin = 0;
	chan->end = (size_t)ret - want;
	return (ssize_t)want;
}

int
chan_co_buffer(struct chan *chan, size_t len)
{
	invariant(len <= LIMIT_READ_AHEAD);
	if (chan->aborted)
		return chan->aborted;
	chan->rx_limit = message_limit(chan, len);
	while (chan->end - chan->begin < len) {
		struct iovec iov;
		int ret;

		if (LIMIT_READ_AHEAD - chan->begin < len) {
			memmove(chan->ahead, chan->ahead + chan->begin, chan->end - chan->begin);
			chan->end -= chan->begin;
			chan->begin = 0;
		}
		iov.iov_base = chan->ahead + chan->end;
		iov.iov_len = LIMIT_READ_AHEAD - chan->end;
		ret = receive(chan, &iov, 1, CHAN_INSIDE);
		if (ret < 0)
			return ret == -ENODATA ? -ECONNRESET : ret;
		chan->end += (size_t)ret;
	}
	return 0;
}

/* Up to LEN bytes from the read-ahead buffer; BUF may be NULL to forget them. */
static size_t
ahead_take(struct chan *chan, void *buf, size_t len)
{
	size_t n = MIN(len, chan->end - chan->begin);

	if (buf && n > 0)
		memcpy(buf, chan->ahead + chan->begin, n);
	chan->begin += n;
	return n;
}

/* Small reads go through the buffer, the rest of large ones past it. */
#define DIRECT_MIN 1024

static int co_fn
read_whole(struct chan *chan, char *to, size_t len, enum chan_where where)
{
	size_t done;

	if (chan->aborted)
		return chan->aborted;
	done = ahead_take(chan, to, len);
	while (done < len) {
		size_t want = len - done < DIRECT_MIN ? 0 : len - done;
		ssize_t n = chan_co_receive(chan, to + done, want, chan->ahead_max, where);

		if (n == -ENODATA && where == CHAN_INSIDE)
			return -ECONNRESET;
		if (n < 0)
			return (int)n;
		done += (size_t)n;
		done += ahead_take(chan, to + done, len - done);
		if (where == CHAN_BETWEEN && done > 0) {
			chan->rx_limit = message_limit(chan, len);
			where = CHAN_INSIDE;
		}
	}
	return 0;
}

int
chan_co_read(struct chan *chan, void *buf, size_t len, enum chan_where where)
{
	if (chan->end > chan->begin)
		where = CHAN_INSIDE;
	chan->rx_limit = message_limit(chan, len);
	return read_whole(chan, buf, len, where);
}

int
chan_co_readv(struct chan *chan, const struct iovec *iov, int iovcnt)
{
	size_t len = 0;
	int ret = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	chan->rx_limit = message_limit(chan, len);
	for (int i = 0; i < iovcnt && ret == 0; i++)
		ret = read_whole(chan, iov[i].iov_base, iov[i].iov_len, CHAN_INSIDE);
	return ret;
}

int
chan_co_skip(struct chan *chan, size_t len)
{
	chan->rx_limit = message_limit(chan, len);
	for (;;) {
		ssize_t n;

		if (chan->aborted)
			return chan->aborted;
		len -= ahead_take(chan, NULL, len);
		if (len == 0)
			return 0;
		n = chan_co_receive(chan, NULL, 0, LIMIT_SKIP, CHAN_INSIDE);
		if (n < 0)
			return n == -ENODATA ? -ECONNRESET : (int)n;
	}
}

/* --- Writing ---------------------------------------------------------------- */

/* As much as the socket takes, without a wait in the kernel: see tx_look(). */
static int co_fn
send_quiet(struct chan *chan, const struct msghdr *msg)
{
	int ret;

	while ((ret = loop_co_sendmsg(chan->loop, &chan->tx, chan->wfd, msg, MSG_DONTWAIT)) ==
		       -EAGAIN &&
	       !chan->aborted)
		loop_co_sleep(chan->loop, LIMIT_SEND_QUIET_NS);
	return ret;
}

static int co_fn
chan_co_send(struct chan *chan, struct iovec *iov, int iovcnt)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)iovcnt };
	uint64_t left;
	int ret;

	if (chan->aborted)
		return chan->aborted;
	left = byte_limit(chan, chan->tx_limit);
	chan->tx_end = loop_now(chan->loop) + left;
	loop_timer_arm(chan->loop, &chan->tx_stall, MIN(LIMIT_SEND_LOOK_NS, left), tx_look);
	/* Not MSG_WAITALL: progress must be seen, or a slow peer would look dead. */
	if (!chan->wfd_is_socket)
		ret = loop_co_writev(chan->loop, &chan->tx, chan->wfd, iov, iovcnt);
	else if (chan->peer_quiet)
		ret = send_quiet(chan, &msg);
	else
		ret = loop_co_sendmsg(chan->loop, &chan->tx, chan->wfd, &msg, 0);
	loop_timer_disarm(&chan->tx_stall);
	if (chan->aborted)
		return chan->aborted;
	return ret == -EINTR || ret == -EAGAIN || ret == -ECANCELED ? 0 : ret;
}

/* Sends all of IOV as it is, LEN bytes; it is used up. */
static int co_fn
send_wire(struct chan *chan, struct iovec *iov, int iovcnt, size_t len)
{
	while (len > 0) {
		int ret = chan_co_send(chan, iov, MIN(iovcnt, (int)LIMIT_SEND_SEGMENTS));
		size_t n = (size_t)ret;

		if (ret < 0)
			return ret;
		len -= n;
		while (iovcnt > 0 && n >= iov->iov_len) {
			n -= iov->iov_len;
			iov++;
			iovcnt--;
		}
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return 0;
}

/* Sends what TLS has to say. */
static int co_fn
send_output(struct chan *chan)
{
	struct iovec out;

	while ((out = chan_tls_output(chan->tls)).iov_len > 0) {
		int ret = chan_co_send(chan, &out, 1);

		if (ret < 0)
			return ret;
		chan_tls_sent(chan->tls, (size_t)ret);
	}
	return 0;
}

int
chan_co_writev(struct chan *chan, struct iovec *iov, int iovcnt)
{
	size_t len = 0;
	int ret, more;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	chan->tx_limit = message_limit(chan, len);
	if (!chan->tls)
		return send_wire(chan, iov, iovcnt, len);
	do {
		more = chan->aborted ? chan->aborted : chan_tls_write(chan->tls, &iov, &iovcnt);
		ret = more < 0 ? more : send_output(chan);
	} while (ret == 0 && more > 0);
	return ret;
}

/* --- TLS ---------------------------------------------------------------------- */

bool
chan_has_ahead(const struct chan *chan)
{
	return chan->end > chan->begin;
}

/*
 * One step of the handshake, which may take milliseconds of arithmetic: 10 for an RSA
 * key of 4096 bits. What waits for that is not the peer's time.
 */
static int co_fn
handshake_step(struct chan *chan, struct share *share)
{
	uint64_t before = loop_now(chan->loop);
	int step;

	share_co_begin(share);
	/* May have been aborted, or told to receive nothing more. */
	step = chan->aborted ? chan->aborted : chan->stopped;
	if (step == 0)
		step = chan_tls_handshake(chan->tls);
	share_end(share);
	chan->rx_limit += loop_now(chan->loop) - before;
	return step;
}

int
chan_co_starttls(struct chan *chan, struct tls *credentials, struct share *share)
{
	int step, ret;

	invariant(!chan->tls && !chan_has_ahead(chan));
	ret = chan_tls_new(&chan->tls, credentials);
	if (ret < 0)
		return ret;
	chan->rx_limit = message_limit(chan, LIMIT_TLS_MESSAGE_BYTES);
	for (;;) {
		struct iovec room;

		step = handshake_step(chan, share);
		chan->tx_limit = message_limit(chan, LIMIT_TLS_SEND);
		ret = send_output(chan);
		if (step < 0 && step != -EAGAIN)
			return step;
		if (step == 0 || ret < 0)
			return ret;
		if (step == 1)
			continue;
		room = chan_tls_room(chan->tls);
		ret = receive_wire(chan, &room, 1, CHAN_INSIDE);
		if (ret < 0)
			return ret == -ENODATA ? -ECONNRESET : ret;
		chan_tls_received(chan->tls, (size_t)ret);
	}
}

/* --- The end ---------------------------------------------------------------- */

/* AF_UNIX, AF_INET...; -1: it is none. */
static int
socket_domain(int fd)
{
	int domain;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 ? domain : -1;
}

/* Bytes in the socket that the peer (TCP: its kernel) has not taken. */
static size_t
unsent(const struct chan *chan)
{
	int n;

	return ioctl(chan->wfd, SIOCOUTQ, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* What is taken from a unix socket has been read; TCP only stores it at the other end. */
static bool
peer_has_all(const struct chan *chan)
{
	return chan->unsent == 0 && socket_domain(chan->wfd) == AF_UNIX;
}

void
chan_co_goodbye(struct chan *chan)
{
	if (!chan->tls || chan->aborted)
		return;
	chan_tls_bye(chan->tls);
	chan->unsent = unsent(chan);
	/* It stays there to be read: no reason to linger. An alert is for one that still sends. */
	chan->only_goodbye = peer_has_all(chan) && !chan_tls_failed(chan->tls);
	chan->tx_limit = loop_now(chan->loop) + LIMIT_LINGER_NS;
	(void)send_output(chan);
}

static void
linger_look(struct loop_timer *timer)
{
	struct chan *chan = container_of(timer, struct chan, tx_stall);
	uint64_t now = loop_now(chan->loop), end;
	size_t left = unsent(chan);

	loop_assert();
	if (left < chan->unsent)
		chan->linger_limit = now + LIMIT_LINGER_NS;
	chan->unsent = left;
	end = MIN(chan->linger_limit, chan->tx_limit);
	if (now >= end || peer_has_all(chan))
		chan_abort(chan, -ETIMEDOUT);
	else
		loop_timer_arm(chan->loop, timer, MIN(LIMIT_LINGER_LOOK_NS, end - now), linger_look);
}

void
chan_co_linger(struct chan *chan)
{
	struct iovec forgotten = { chan->ahead, LIMIT_SKIP };

	if (!chan->wfd_is_socket || chan->aborted || shutdown(chan->wfd, SHUT_WR) < 0)
		return;
	chan->unsent = unsent(chan);
	if (peer_has_all(chan) || chan->only_goodbye)
		return;
	chan->stopped = 0;
	chan->begin = chan->end = 0;
	chan->tx_limit = message_limit(chan, chan->unsent);
	chan->linger_limit = loop_now(chan->loop) + LIMIT_LINGER_NS;
	loop_timer_arm(chan->loop, &chan->tx_stall, LIMIT_LINGER_LOOK_NS, linger_look);
	while (receive_wire(chan, &forgotten, 1, CHAN_BETWEEN) >= 0)
		;
	loop_timer_disarm(&chan->tx_stall);
}

bool
chan_peer_left(const struct chan *chan)
{
	struct pollfd poll_rfd = { .fd = chan->rfd, .events = POLLRDHUP };

	return chan->aborted || poll(&poll_rfd, 1, 0) != 0;
}

void
chan_stop(struct chan *chan, int reason)
{
	invariant(reason < 0);
	if (chan->stopped)
		return;
	chan->stopped = reason;
	loop_cancel(chan->loop, &chan->rx);
}

void
chan_abort(struct chan *chan, int reason)
{
	invariant(reason < 0);
	if (chan->aborted)
		return;
	chan->aborted = reason;
	loop_cancel(chan->loop, &chan->rx);
	loop_cancel(chan->loop, &chan->tx);
}

/* --- Life ------------------------------------------------------------------- */

int
chan_init(struct chan *chan, int rfd, int wfd)
{
	*chan = (struct chan){ .rfd = rfd, .wfd = wfd, .ahead_max = LIMIT_READ_AHEAD_HANDSHAKE };
	chan->rfd_is_socket = socket_domain(rfd) >= 0;
	chan->wfd_is_socket = socket_domain(wfd) >= 0;
	chan->ahead = malloc(LIMIT_READ_AHEAD);
	return chan->ahead ? 0 : -ENOMEM;
}

void
chan_attach(struct chan *chan, struct loop *loop)
{
	chan->loop = loop;
}

void
chan_set_ahead(struct chan *chan, size_t bytes)
{
	invariant(bytes <= LIMIT_READ_AHEAD);
	chan->ahead_max = bytes;
}

void
chan_close(struct chan *chan)
{
	close(chan->rfd);
	if (chan->wfd != chan->rfd)
		close(chan->wfd);
	free(chan->ahead);
	chan_tls_free(chan->tls);
}
