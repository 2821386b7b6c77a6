/* SPDX-License-Identifier: MIT */
/*
 * chan.h - the one door between a connection and its descriptors.
 *
 * 1. Everything that is received comes through chan_co_read*() in order, from
 *    one read-ahead buffer, so a burst of small requests costs one receive.
 *    Nobody else touches the descriptors; after chan_co_starttls() all that goes
 *    through them is encrypted, whoever reads or writes.
 * 2. One reader and one writer at a time; they may be two coroutines.
 * 3. While a message is under way some byte must move within the stall limit,
 *    and all of it within what its size is worth (LIMIT_MESSAGE_NS). Between
 *    messages a peer may be silent for ever.
 * 4. After chan_abort() every call, and the one that waits, fails with its
 *    reason. After chan_stop() only reading does, when it comes to the end of
 *    what has been received. The descriptors stay open until chan_close().
 * 5. Errors: -ENODATA the peer closed between two messages (with TLS, only after
 *    it has said so there), -ECONNRESET inside one, -ETIMEDOUT one of these limits,
 *    -EPROTO what came is not TLS of this session, the reason of chan_abort() or
 *    chan_stop(), or what the kernel said.
 */
#ifndef NBD_CHAN_H
#define NBD_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "blk/loop.h"

struct chan_tls;
struct share;
struct tls;

struct chan {
	struct loop *loop;
	struct chan_tls *tls; /* NULL: in clear */
	int rfd, wfd;			/* one socket, or two ends of pipes */
	bool rfd_is_socket, wfd_is_socket; /* recv and send; else read and write */
	int aborted, stopped;		/* 0, or -errno: why */
	struct loop_op rx, tx;
	struct loop_timer rx_stall, tx_stall;
	uint64_t rx_limit, tx_limit; /* on the loop's clock: end of the message under way */
	uint64_t tx_end; /* and of the send that waits */
	bool peer_quiet; /* it has said that it sends nothing more */
	char *ahead; /* received, not read: [begin, end) */
	size_t begin, end;
	size_t ahead_max; /* bytes one receive may ask for */
	size_t unsent;	  /* lingering: what the peer had not taken when last looked at */
	uint64_t linger_limit; /* when it must have taken some of that */
	bool only_goodbye;     /* of a unix socket: all that the peer may not have taken */
};

/* Takes the descriptors over when it succeeds. Context: main. -ENOMEM. */
int chan_init(struct chan *chan, int rfd, int wfd);

/* The loop it lives on from now. */
void chan_attach(struct chan *chan, struct loop *loop);

/* Closes the descriptors. Invariant: nobody reads or writes. */
void chan_close(struct chan *chan);

/*
 * How much one receive may read ahead from here on: much where many small
 * messages come, little where large payloads follow.
 */
void chan_set_ahead(struct chan *chan, size_t bytes);

enum chan_where {
	CHAN_BETWEEN, /* the first byte may take for ever, and may never come */
	CHAN_INSIDE,
};

/* Reads exactly LEN bytes. */
int chan_co_read(struct chan *chan, void *buf, size_t len, enum chan_where where) co_fn;

/* Reads exactly what IOV holds, inside a message. */
int chan_co_readv(struct chan *chan, const struct iovec *iov, int iovcnt) co_fn;

/*
 * Waits until the next LEN bytes (at most LIMIT_READ_AHEAD), inside a message,
 * are in the read-ahead buffer: reading them will not wait.
 */
int chan_co_buffer(struct chan *chan, size_t len) co_fn;

/* Reads and forgets LEN bytes, inside a message. */
int chan_co_skip(struct chan *chan, size_t len) co_fn;

/* Writes all of IOV, which is used up (its entries change). */
int chan_co_writev(struct chan *chan, struct iovec *iov, int iovcnt) co_fn;

/*
 * From here on with TLS: does its handshake as the server, its arithmetic in SHARE.
 * Invariant: nothing that was received in clear is left, see chan_has_ahead(); nobody
 * else reads or writes. -EPROTO when it fails: chan_tls_text(chan->tls) says why;
 * -ENOMEM.
 */
int chan_co_starttls(struct chan *chan, struct tls *credentials, struct share *share) co_fn;

/* Whether something has been received that nobody has read yet. */
bool chan_has_ahead(const struct chan *chan);

/*
 * Says goodbye, if that is something to say: with TLS, so that the peer knows that
 * nobody else has cut it off. The peer has a moment to take it. Nobody else writes.
 */
void chan_co_goodbye(struct chan *chan) co_fn;

/*
 * Says that nothing more will be sent, then reads and forgets what still comes,
 * until the peer closes, or has taken nothing of what was sent for
 * LIMIT_LINGER_NS: closing earlier would take the last replies away from a TCP
 * peer that sends something meanwhile. For one that trickles there is the limit
 * of a message. May follow chan_stop(). There is nothing to wait for after
 * chan_abort(), on pipes, and when a peer on a unix socket has read everything, or had
 * before the goodbye: there that can still be read when the socket is closed.
 */
void chan_co_linger(struct chan *chan) co_fn;

/*
 * Whether the peer has said that nothing more will come from it, or is not there
 * any more; perhaps behind bytes that nobody has read yet. Costs a system call.
 */
bool chan_peer_left(const struct chan *chan);

/* Receives nothing more: for lack of it readers fail with REASON (-errno). */
void chan_stop(struct chan *chan, int reason) loop_fn;

/* Makes reader and writer fail with REASON (-errno). Only the first counts. */
void chan_abort(struct chan *chan, int reason) loop_fn;

#endif
