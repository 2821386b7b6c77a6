/* SPDX-License-Identifier: MIT */
/*
 * tls.c - fuzzes the TLS engine: a real client, whose bytes are changed on their way.
 *
 * The first byte of the input says what the client is like: bit 0 is TLS 1.2, bit 1 a new
 * key in the middle (TLS 1.3), bit 2 no client at all, but the rest of the input as it
 * is. The second is how many bytes arrive at once, the third how many the engine is asked
 * for. Then come edits of four bytes: what, argument, and the place in the client's
 * stream, 16 bits, in the order in which they are there.
 *
 * Judged is that what the engine decrypts is what the client has encrypted, from its
 * beginning, whatever was changed; that all of it comes if nothing was; that the engine
 * takes all input, and neither calls for itself for ever nor goes on after an error. Keys
 * are random, so the same input is not the same run.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/range.h"
#include "lib/check.h"
#include "server/nbd/chan_tls.h"
#include "server/tls.h"

#define WIRE_BYTES (256u << 10)
#define SAID_BYTES (20u << 10) /* by the client: a long record, and a short one */
#define CALLS_MAX 10000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { IS_12 = 1, NEW_KEY = 2, NO_CLIENT = 4 };
enum { FLIP, SET, DROP, REPEAT, END, KINDS };

/* Bytes that are on their way. */
struct wire {
	uint8_t bytes[WIRE_BYTES];
	size_t begin, end;
};

static struct tls *credentials;
static gnutls_psk_client_credentials_t client_credentials;
static gnutls_session_t client;
static struct chan_tls *server;
static struct wire to_server, to_client;

static const uint8_t *edits;
static size_t edits_len;
static size_t sent;  /* bytes of the client's stream, before its edits */
static bool changed; /* an edit has been made */
static bool cut;     /* nothing comes any more */

/* --- The way ------------------------------------------------------------------ */

static void
put(struct wire *wire, const void *data, size_t len)
{
	if (wire->begin == wire->end)
		wire->begin = wire->end = 0;
	len = MIN(len, sizeof(wire->bytes) - wire->end);
	memcpy(wire->bytes + wire->end, data, len);
	wire->end += len;
}

static void
put_edited(uint8_t byte, const uint8_t *edit)
{
	unsigned times = 1;

	changed = true;
	switch (edit[0] % KINDS) {
	case FLIP:
		byte ^= (uint8_t)(1 << edit[1] % 8);
		break;
	case SET:
		changed = byte != edit[1];
		byte = edit[1];
		break;
	case DROP:
		times = 0;
		break;
	case REPEAT:
		times += edit[1];
		break;
	case END:
		cut = true;
		return;
	}
	while (times-- > 0)
		put(&to_server, &byte, 1);
}

static ssize_t
client_push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len && !cut; i++, sent++) {
		bool here = edits_len >= 4 && get_be16(edits + 2) <= sent;
		bool was = changed;

		if (!here) {
			put(&to_server, &bytes[i], 1);
			continue;
		}
		put_edited(bytes[i], edits);
		changed |= was;
		edits += 4;
		edits_len -= 4;
	}
	return (ssize_t)len;
}

static ssize_t
client_pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
	size_t n = MIN(len, to_client.end - to_client.begin);

	if (n == 0) {
		gnutls_transport_set_errno(client, EAGAIN);
		return -1;
	}
	memcpy(data, to_client.bytes + to_client.begin, n);
	to_client.begin += n;
	return (ssize_t)n;
}

/* --- The client ------------------------------------------------------------------ */

static uint8_t
said(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8));
}

static void
client_say(bool new_key)
{
	static uint8_t data[SAID_BYTES];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = said(i);
	for (size_t at = 0; at < sizeof(data);) {
		ssize_t n = gnutls_record_send(client, data + at, sizeof(data) - at);

		if (n < 0)
			return;
		at += (size_t)n;
		if (new_key && gnutls_session_key_update(client, GNUTLS_KU_PEER) < 0)
			return;
	}
	(void)gnutls_bye(client, GNUTLS_SHUT_WR);
}

/* Goes on; false when there is nothing more that it could do. */
static bool
client_step(bool *ready, bool new_key)
{
	int ret;

	if (*ready)
		return false;
	ret = gnutls_handshake(client);
	if (ret == 0) {
		*ready = true;
		client_say(new_key);
	}
	return ret == 0 || !gnutls_error_is_fatal(ret);
}

/* --- The server ------------------------------------------------------------------- */

static void
take_output(void)
{
	struct iovec out;

	while ((out = chan_tls_output(server)).iov_len > 0) {
		put(&to_client, out.iov_base, out.iov_len);
		chan_tls_sent(server, out.iov_len);
	}
}

static int
server_handshake(void)
{
	int ret;

	for (unsigned calls = 0; (ret = chan_tls_handshake(server)) == 1; calls++) {
		check(calls < CALLS_MAX, "a handshake that goes round in circles");
		take_output();
	}
	take_output();
	return ret;
}

/* Reads what is there, and answers; as chan_tls_read(). */
static int
server_serve(size_t want, size_t *have)
{
	uint8_t got[512];
	struct iovec iov[2] = { { got, want / 2 + 1 }, { got + 256, want / 2 + 1 } };
	struct iovec answer = { got, sizeof(got) }, *at = &answer;
	int count = 1;
	ssize_t n;

	while ((n = chan_tls_read(server, iov, 2)) > 0)
		for (size_t i = 0; i < (size_t)n; i++, (*have)++) {
			size_t first = iov[0].iov_len;

			check((i < first ? got[i] : got[256 + i - first]) == said(*have),
			      "decrypted what nobody has said");
		}
	if (n == -EAGAIN && *have > 0)
		check(chan_tls_write(server, &at, &count) == 0, "an answer that is not sent");
	take_output();
	return (int)n;
}

/* One arrival of up to LEN bytes. */
static void
arrive(size_t len)
{
	struct iovec room = chan_tls_room(server);

	len = MIN(len, room.iov_len);
	len = MIN(len, to_server.end - to_server.begin);
	memcpy(room.iov_base, to_server.bytes + to_server.begin, len);
	to_server.begin += len;
	chan_tls_received(server, len);
}

static void
run(unsigned flags, size_t piece, size_t want)
{
	bool new_key = flags & NEW_KEY && !(flags & IS_12);
	bool ready = false, inside = false;
	size_t have = 0;
	int ret = -EAGAIN;

	while (ret == -EAGAIN) {
		bool goes_on = !(flags & NO_CLIENT) && client_step(&ready, new_key);

		if (to_server.begin == to_server.end && !goes_on)
			break;
		if (to_server.begin == to_server.end && to_client.begin == to_client.end)
			break;
		if (to_server.begin < to_server.end)
			arrive(piece);
		if (!inside)
			ret = server_handshake();
		inside |= ret == 0;
		if (inside)
			ret = server_serve(want, &have);
	}
	check(!(flags & NO_CLIENT) || !inside, "in without a key");
	if (!changed && !cut && !(flags & NO_CLIENT))
		check(have == SAID_BYTES && ret == -ENODATA, "something is missing");
	check(ret == -EPROTO || !chan_tls_failed(server), "an error that nobody hears of");
	check(!chan_tls_failed(server) || *chan_tls_text(server), "an error without words");
	if (ret == -EPROTO)
		check(server_serve(want, &have) == -EPROTO, "goes on after an error");
}

/* --- One input ---------------------------------------------------------------------- */

static void
init(void)
{
	static const char hex[] = "000102030405060708090a0b0c0d0e0f"
				  "101112131415161718191a1b1c1d1e1f";
	const gnutls_datum_t key = { (unsigned char *)hex, sizeof(hex) - 1 };
	char path[] = "/tmp/blkgate-psk.XXXXXX";
	int fd = mkstemp(path);
	struct err err;

	check(dprintf(fd, "alice:%s\n", hex) > 0, path);
	close(fd);
	check(tls_init(&err) == 0, err.text);
	check(tls_load(&credentials, &(struct tls_files){ .psk = path }, &err) == 0, err.text);
	unlink(path);
	check(gnutls_psk_allocate_client_credentials(&client_credentials) == 0 &&
		      gnutls_psk_set_client_credentials(client_credentials, "alice", &key,
							GNUTLS_PSK_KEY_HEX) == 0,
	      "a client's key");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *priority;
	unsigned flags;

	if (!credentials)
		init();
	if (size < 3)
		return 0;
	flags = data[0];
	priority = flags & IS_12 ? "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK" :
				   "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK";
	sent = to_server.begin = to_server.end = to_client.begin = to_client.end = 0;
	changed = cut = false;
	edits = data + 3;
	edits_len = size - 3;
	check(chan_tls_new(&server, credentials) == 0 &&
		      gnutls_init(&client, GNUTLS_CLIENT | GNUTLS_NONBLOCK) == 0 &&
		      gnutls_priority_set_direct(client, priority, NULL) == 0,
	      "a session");
	gnutls_credentials_set(client, GNUTLS_CRD_PSK, client_credentials);
	gnutls_transport_set_push_function(client, client_push);
	gnutls_transport_set_pull_function(client, client_pull);
	if (flags & NO_CLIENT)
		put(&to_server, edits, edits_len);
	run(flags, (size_t)data[1] * data[1] + 1, data[2]);
	gnutls_deinit(client);
	chan_tls_free(server);
	return 0;
}
