/* SPDX-License-Identifier: MIT */
/*
 * chan_tls.h - TLS between a channel and its descriptors: bytes in, bytes out.
 *
 * 1. Nothing here waits, or touches a descriptor: what the peer has sent is handed in
 *    with chan_tls_received(), what is to be sent to it lies in chan_tls_output()
 *    until chan_tls_sent(). So GnuTLS never runs across a yield.
 * 2. Its memory is bounded: input is taken when all of the last was looked at, and
 *    nothing is encrypted for which there is no room.
 * 3. After an error other than -EAGAIN the session is over; chan_tls_text() says why, and
 *    an alert in the output tells the peer, where it is what it has sent.
 *
 * Threads: the loop of its connection.
 */
#ifndef NBD_CHAN_TLS_H
#define NBD_CHAN_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct access_peer;
struct tls;
struct chan_tls;

/* A server's session, before its handshake; it holds a reference to TLS. -ENOMEM. */
int chan_tls_new(struct chan_tls **tlsp, struct tls *tls);
void chan_tls_free(struct chan_tls *tls); /* NULL is fine */

/* Where what the peer sends next goes, and how much of it. Invariant: no input is left. */
struct iovec chan_tls_room(struct chan_tls *tls);
void chan_tls_received(struct chan_tls *tls, size_t len);

/* What the peer is to get next; length 0: nothing. */
struct iovec chan_tls_output(const struct chan_tls *tls);
void chan_tls_sent(struct chan_tls *tls, size_t len);

/*
 * Goes on with the handshake. 0: it is over. 1: send the output and call again.
 * -EAGAIN: send the output, then receive something. -EPROTO: it has failed. In every
 * case there may be output.
 */
int chan_tls_handshake(struct chan_tls *tls);

/* As tls_peer_identify(), after the handshake. */
int chan_tls_identify(const struct chan_tls *tls, struct access_peer *peer);

/*
 * Decrypts into IOV what has been received. The bytes; -EAGAIN: none, something has
 * to be received first; -ENODATA: the peer said goodbye; -EPROTO.
 */
ssize_t chan_tls_read(struct chan_tls *tls, const struct iovec *iov, int iovcnt);

/*
 * Encrypts what there is room for, in full records but for the last one; moves *IOV
 * and *IOVCNT on, whose entries change. 0: all of it; 1: there is more, send the output
 * and call again; -EPROTO.
 */
int chan_tls_write(struct chan_tls *tls, struct iovec **iov, int *iovcnt);

/* Says goodbye: close_notify goes to the output, if there is room. */
void chan_tls_bye(struct chan_tls *tls);

/* Whether the session is over because of an error of TLS. */
bool chan_tls_failed(const struct chan_tls *tls);

/* Version and cipher, or what is wrong; one line that is safe to print, until the next call. */
const char *chan_tls_text(struct chan_tls *tls);

#endif
