/* SPDX-License-Identifier: MIT */
/*
 * chan_tls.c - TLS for a channel; see chan_tls.h.
 *
 * The path in: chan_tls_received() says what lies in the input buffer; GnuTLS takes it
 * from there with pull(), whole records or parts of them, which it keeps; what it has
 * decrypted goes straight into the reader's memory.
 *
 * The path out: chan_tls_write() makes records of 16 KiB, from the caller's memory
 * where that has so much in one piece, else from pieces put together in `gathered`;
 * GnuTLS encrypts and push()es them into the output buffer. A peer may want shorter
 * ones: then each takes what it takes, and the rest is for the next.
 *
 * Invariants:
 * I1. When GnuTLS wants more although it has not taken all of the input buffer, it
 *     has dealt with a part (a record that completes nothing), and is called again.
 * I2. A record is begun only when the output buffer has room for it, so a push()
 *     never fails in the middle of one; in a handshake it may, and that is repeated.
 */
#include "chan_tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/annotate.h"
#include "base/range.h"
#include "server/limits.h"
#include "server/tls.h"
#include "server/tls_cert.h"
#include "server/tls_peer.h"

/* Plaintext of a record (RFC 8446, 5.1); what it may have beside it in TLS 1.2. */
#define RECORD_BYTES (16u << 10)
#define RECORD_EXTRA 512u
/* And before the next one GnuTLS may have to say that it changes keys. */
#define RECORD_ROOM (RECORD_BYTES + 2 * RECORD_EXTRA)

_Static_assert(LIMIT_TLS_SEND >= RECORD_ROOM, "there is room for one record");

struct chan_tls {
	struct tls *credentials;
	gnutls_session_t session;
	int error;	   /* GnuTLS's; 0: none */
	size_t in_begin, in_end, out_begin, out_end;
	size_t gathered_begin, gathered_end; /* plaintext that is still to be sent */
	char text[200];
	uint8_t gathered[RECORD_BYTES];
	uint8_t in[LIMIT_TLS_RECEIVE];
	uint8_t out[LIMIT_TLS_SEND];
};

/* --- What GnuTLS calls -------------------------------------------------------- */

static ssize_t
pull(gnutls_transport_ptr_t arg, void *buf, size_t len)
{
	struct chan_tls *tls = arg;
	size_t n = MIN(len, tls->in_end - tls->in_begin);

	if (n == 0) {
		gnutls_transport_set_errno(tls->session, EAGAIN);
		return -1;
	}
	memcpy(buf, tls->in + tls->in_begin, n);
	tls->in_begin += n;
	return (ssize_t)n;
}

static ssize_t
push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
	struct chan_tls *tls = arg;
	size_t n = MIN(len, sizeof(tls->out) - tls->out_end);

	if (n == 0) {
		gnutls_transport_set_errno(tls->session, EAGAIN);
		return -1;
	}
	memcpy(tls->out + tls->out_end, data, n);
	tls->out_end += n;
	return (ssize_t)n;
}

/* --- Input and output ----------------------------------------------------------- */

struct iovec
chan_tls_room(struct chan_tls *tls)
{
	invariant(tls->in_begin == tls->in_end);
	return (struct iovec){ tls->in, sizeof(tls->in) };
}

void
chan_tls_received(struct chan_tls *tls, size_t len)
{
	invariant(len <= sizeof(tls->in));
	tls->in_begin = 0;
	tls->in_end = len;
}

struct iovec
chan_tls_output(const struct chan_tls *tls)
{
	return (struct iovec){ (void *)(tls->out + tls->out_begin),
			       tls->out_end - tls->out_begin };
}

void
chan_tls_sent(struct chan_tls *tls, size_t len)
{
	invariant(len <= tls->out_end - tls->out_begin);
	tls->out_begin += len;
	if (tls->out_begin == tls->out_end)
		tls->out_begin = tls->out_end = 0;
}

/* --- Handshake ------------------------------------------------------------------ */

/* Not at fault, and not the end: it is to be tried again, perhaps with more input. */
static bool
is_passing(ssize_t ret)
{
	return ret == GNUTLS_E_AGAIN || ret == GNUTLS_E_INTERRUPTED ||
	       ret == GNUTLS_E_WARNING_ALERT_RECEIVED || ret == GNUTLS_E_GOT_APPLICATION_DATA;
}

/* Whether there is input left, of which some was taken since it began at BEFORE: I1. */
static bool
goes_on(const struct chan_tls *tls, size_t before)
{
	return tls->in_begin > before && tls->in_begin < tls->in_end;
}

static int
failed(struct chan_tls *tls, int ret)
{
	tls->error = ret;
	return -EPROTO;
}

/* GnuTLS's error whose alert tells a peer of RET. */
static int
told_as(int ret)
{
	/* Nobody but the operator hears what is wrong with a certificate. */
	if (tls_refusal(ret))
		return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
	/* RFC 5246, 7.4.6: a handshake_failure. GnuTLS has it that there is nothing to decode. */
	if (ret == GNUTLS_E_NO_CERTIFICATE_FOUND)
		return GNUTLS_E_INSUFFICIENT_CREDENTIALS;
	return ret;
}

/* It is what the peer has sent that is wrong: it is told so. */
static int
refused(struct chan_tls *tls, int ret)
{
	if (sizeof(tls->out) - tls->out_end >= RECORD_EXTRA)
		(void)gnutls_alert_send_appropriate(tls->session, told_as(ret));
	return failed(tls, ret);
}

int
chan_tls_handshake(struct chan_tls *tls)
{
	size_t before;
	bool stuck;
	int ret;

	do {
		before = tls->in_begin;
		ret = gnutls_handshake(tls->session);
	} while (is_passing(ret) && goes_on(tls, before));
	/* Not that it has taken everything, but that there was no room for its answer. */
	stuck = tls->in_begin < tls->in_end || gnutls_record_get_direction(tls->session) == 1;
	if (is_passing(ret) && stuck && tls->out_begin == tls->out_end)
		ret = GNUTLS_E_INTERNAL_ERROR; /* UNTESTED: it neither takes nor gives */
	if (is_passing(ret))
		return stuck ? 1 : -EAGAIN;
	return ret < 0 ? refused(tls, ret) : 0;
}

int
chan_tls_identify(const struct chan_tls *tls, struct access_peer *peer)
{
	return tls_peer_identify(tls->session, peer);
}

/* --- Records -------------------------------------------------------------------- */

/* One read of GnuTLS: the bytes, or as chan_tls_read(). */
static ssize_t
read_some(struct chan_tls *tls, void *buf, size_t len)
{
	size_t before;
	ssize_t n;

	do {
		before = tls->in_begin;
		n = gnutls_record_recv(tls->session, buf, len);
	} while (is_passing(n) && goes_on(tls, before));
	if (n > 0)
		return n;
	if (is_passing(n) && tls->in_begin == tls->in_end)
		return -EAGAIN;
	/* A client may not begin a new handshake: GNUTLS_E_REHANDSHAKE, too, is the end. */
	return n == 0 ? -ENODATA : refused(tls, (int)n);
}

ssize_t
chan_tls_read(struct chan_tls *tls, const struct iovec *iov, int iovcnt)
{
	size_t done = 0;

	if (tls->error)
		return -EPROTO;
	for (int i = 0; i < iovcnt; i++) {
		size_t at = 0;

		while (at < iov[i].iov_len) {
			ssize_t n = read_some(tls, (char *)iov[i].iov_base + at,
					      iov[i].iov_len - at);

			/* What was there first counts; the next call says the same again. */
			if (n < 0)
				return done > 0 ? (ssize_t)done : n;
			at += (size_t)n;
			done += (size_t)n;
		}
	}
	return (ssize_t)done;
}

/* Moves on by LEN bytes, which are in the first entry. */
static void
advance(struct iovec **iov, int *iovcnt, size_t len)
{
	(*iov)->iov_base = (char *)(*iov)->iov_base + len;
	(*iov)->iov_len -= len;
	if ((*iov)->iov_len == 0) {
		(*iov)++;
		(*iovcnt)--;
	}
}

/* Puts pieces together until they make a record, or there are no more. */
static void
gather(struct chan_tls *tls, struct iovec **iov, int *iovcnt)
{
	size_t len = 0;

	while (*iovcnt > 0 && len < RECORD_BYTES) {
		size_t n = MIN((*iov)->iov_len, RECORD_BYTES - len);

		memcpy(tls->gathered + len, (*iov)->iov_base, n);
		len += n;
		advance(iov, iovcnt, n);
	}
	tls->gathered_begin = 0;
	tls->gathered_end = len;
}

/* One record of what has been gathered, or of the first entry. */
static int
send_record(struct chan_tls *tls, struct iovec **iov, int *iovcnt)
{
	bool direct = tls->gathered_begin == tls->gathered_end;
	const void *data = direct ? (*iov)->iov_base : tls->gathered + tls->gathered_begin;
	size_t len = direct ? (*iov)->iov_len : tls->gathered_end - tls->gathered_begin;
	/* Less than this goes out where the peer wants shorter records. */
	ssize_t n = gnutls_record_send(tls->session, data, MIN(len, (size_t)RECORD_BYTES));

	if (n < 0)
		return failed(tls, (int)n);
	if (direct)
		advance(iov, iovcnt, (size_t)n);
	else
		tls->gathered_begin += (size_t)n;
	return 0;
}

int
chan_tls_write(struct chan_tls *tls, struct iovec **iov, int *iovcnt)
{
	if (tls->error)
		return -EPROTO;
	while (sizeof(tls->out) - tls->out_end >= RECORD_ROOM) {
		int ret;

		if (tls->gathered_begin == tls->gathered_end) {
			if (*iovcnt == 0)
				return 0;
			if ((*iov)->iov_len < RECORD_BYTES) {
				gather(tls, iov, iovcnt);
				continue;
			}
		}
		ret = send_record(tls, iov, iovcnt);
		if (ret < 0)
			return ret;
	}
	return 1;
}

void
chan_tls_bye(struct chan_tls *tls)
{
	if (!tls->error && sizeof(tls->out) - tls->out_end >= RECORD_EXTRA)
		(void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

/* --- What is said of it ----------------------------------------------------------- */

/* The faults that GnuTLS has found in a certificate. */
static void
explain_certificate(struct chan_tls *tls)
{
	unsigned status = gnutls_session_get_verify_cert_status(tls->session);
	gnutls_datum_t words;

	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &words, 0) < 0)
		return;
	snprintf(tls->text, sizeof(tls->text), "%s", (const char *)words.data);
	gnutls_free(words.data);
	for (size_t n = strlen(tls->text); n > 0 && tls->text[n - 1] == ' '; n--)
		tls->text[n - 1] = '\0';
}

bool
chan_tls_failed(const struct chan_tls *tls)
{
	return tls->error != 0;
}

const char *
chan_tls_text(struct chan_tls *tls)
{
	const char *refusal = tls_refusal(tls->error);
	gnutls_session_t s = tls->session;

	if (!tls->error)
		snprintf(tls->text, sizeof(tls->text), "%s %s",
			 gnutls_protocol_get_name(gnutls_protocol_get_version(s)),
			 gnutls_cipher_get_name(gnutls_cipher_get(s)));
	else
		snprintf(tls->text, sizeof(tls->text), "%s",
			 refusal ? refusal : gnutls_strerror(tls->error));
	if (tls->error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
		const char *name = gnutls_alert_get_name(gnutls_alert_get(s));

		snprintf(tls->text, sizeof(tls->text), "the client says: %s (%d)",
			 name ? name : "unknown alert", (int)gnutls_alert_get(s));
	}
	if (tls->error == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		explain_certificate(tls);
	return tls->text;
}

/* --- Life --------------------------------------------------------------------------- */

int
chan_tls_new(struct chan_tls **tlsp, struct tls *credentials)
{
	struct chan_tls *tls = malloc(sizeof(*tls));
	int ret;

	if (!tls)
		return -ENOMEM;
	/* Not the buffers: what is not used takes no memory. */
	memset(tls, 0, offsetof(struct chan_tls, gathered));
	ret = tls_session_new(credentials, &tls->session);
	if (ret < 0) {
		free(tls);
		return ret;
	}
	tls->credentials = tls_get(credentials);
	gnutls_transport_set_ptr(tls->session, tls);
	gnutls_transport_set_pull_function(tls->session, pull);
	gnutls_transport_set_push_function(tls->session, push);
	*tlsp = tls;
	return 0;
}

void
chan_tls_free(struct chan_tls *tls)
{
	if (!tls)
		return;
	gnutls_deinit(tls->session);
	tls_put(tls->credentials);
	free(tls);
}
