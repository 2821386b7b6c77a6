/* SPDX-License-Identifier: MIT */
/*
 * The TLS engine against a client of GnuTLS: no descriptors, bytes go from one
 * memory to the other.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/nbd/chan_tls.h"
#include "server/tls.h"
#include "tests/lib/unit_tls.h"

#define BYTES (300u << 10)

static struct tls *credentials;
static struct chan_tls *server;
static gnutls_session_t client;
static gnutls_psk_client_credentials_t client_credentials;

/* What the client has sent, and may read. */
static unsigned char to_server[1 << 20], to_client[1 << 20];
static size_t to_server_len, to_client_begin, to_client_end;

static ssize_t
client_push(gnutls_transport_ptr_t arg, const void *data, size_t len)
{
	ck_assert_uint_le(to_server_len + len, sizeof(to_server));
	memcpy(to_server + to_server_len, data, len);
	to_server_len += len;
	return (ssize_t)len;
}

static ssize_t
client_pull(gnutls_transport_ptr_t arg, void *data, size_t len)
{
	size_t n = to_client_end - to_client_begin;

	if (n == 0) {
		gnutls_transport_set_errno(client, EAGAIN);
		return -1;
	}
	n = n < len ? n : len;
	memcpy(data, to_client + to_client_begin, n);
	to_client_begin += n;
	return (ssize_t)n;
}

/* Whatever the engine has to say. */
static void
take_output(void)
{
	struct iovec out;

	if (to_client_begin == to_client_end)
		to_client_begin = to_client_end = 0;
	while ((out = chan_tls_output(server)).iov_len > 0) {
		/* Not all of it at once: sockets do not either. */
		size_t n = out.iov_len > 1000 ? out.iov_len - 1000 : out.iov_len;

		ck_assert_uint_le(to_client_end + n, sizeof(to_client));
		memcpy(to_client + to_client_end, out.iov_base, n);
		to_client_end += n;
		chan_tls_sent(server, n);
	}
}

static void
give_input(void)
{
	struct iovec room = chan_tls_room(server);
	size_t n = to_server_len < room.iov_len ? to_server_len : room.iov_len;

	memcpy(room.iov_base, to_server, n);
	memmove(to_server, to_server + n, to_server_len - n);
	to_server_len -= n;
	chan_tls_received(server, n);
}

static void
setup(void)
{
	credentials = unit_tls_load();
	ck_assert_int_eq(chan_tls_new(&server, credentials), 0);
	to_server_len = to_client_begin = to_client_end = 0;
}

static void
teardown(void)
{
	gnutls_deinit(client);
	gnutls_psk_free_client_credentials(client_credentials);
	chan_tls_free(server);
	tls_put(credentials);
}

/* RECORD: the longest that the client wants; 0: it does not say. */
static void
handshake(const char *priority, size_t record)
{
	const gnutls_datum_t key = { (unsigned char *)UNIT_TLS_KEY, 64 };
	int theirs = GNUTLS_E_AGAIN, ours = -EAGAIN;

	ck_assert_int_eq(gnutls_init(&client, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
	ck_assert_int_eq(gnutls_priority_set_direct(client, priority, NULL), 0);
	ck_assert_int_eq(gnutls_psk_allocate_client_credentials(&client_credentials), 0);
	ck_assert_int_eq(gnutls_psk_set_client_credentials(client_credentials, "alice", &key,
							   GNUTLS_PSK_KEY_HEX), 0);
	gnutls_credentials_set(client, GNUTLS_CRD_PSK, client_credentials);
	gnutls_transport_set_push_function(client, client_push);
	gnutls_transport_set_pull_function(client, client_pull);
	gnutls_transport_set_ptr(client, &client);
	if (record)
		ck_assert_int_eq(gnutls_record_set_max_recv_size(client, record), 0);
	while (theirs != 0 || ours != 0) {
		if (theirs != 0)
			theirs = gnutls_handshake(client);
		ck_assert(theirs == 0 || theirs == GNUTLS_E_AGAIN);
		if (ours == -EAGAIN)
			give_input();
		if (ours != 0)
			ours = chan_tls_handshake(server);
		ck_assert(ours == 0 || ours == 1 || ours == -EAGAIN);
		take_output();
	}
}

/* One message in pieces of PIECE bytes, and a large one; what comes out is the same. */
static void
send_and_compare(size_t piece)
{
	static unsigned char data[BYTES], got[BYTES];
	static struct iovec iov[256];
	struct iovec *at = iov;
	int n = 0, more;
	size_t len = 0, have = 0;

	for (size_t i = 0; i < BYTES; i++)
		data[i] = (unsigned char)(i * 7 + i / 251);
	while (n < 200 && len + piece < BYTES) {
		iov[n++] = (struct iovec){ data + len, piece };
		len += piece;
		iov[n++] = (struct iovec){ data + len, 0 };
	}
	iov[n++] = (struct iovec){ data + len, BYTES - len };
	do {
		more = chan_tls_write(server, &at, &n);
		ck_assert_int_ge(more, 0);
		take_output();
		for (;;) {
			ssize_t r = gnutls_record_recv(client, got + have, BYTES - have);

			if (r == GNUTLS_E_AGAIN)
				break;
			ck_assert_int_gt(r, 0);
			have += (size_t)r;
			if (have == BYTES)
				break;
		}
	} while (more);
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(have, BYTES);
	ck_assert_mem_eq(got, data, BYTES);
}

static const struct {
	const char *priority;
	size_t record;
} peers[] = {
	{ "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK", 0 },
	{ "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK", 512 },
	{ "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK", 5000 },
	{ "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK", 0 },
	{ "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK", 600 },
};

/* A client may want records that are shorter than ours: it gets them. */
START_TEST(records_as_long_as_the_peer_wants)
{
	static const size_t pieces[] = { 16, 1000, 16383, 16384, 40000 };

	handshake(peers[_i].priority, peers[_i].record);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		send_and_compare(pieces[i]);
}
END_TEST

/* The client changes keys, and asks for the same, in the middle. */
START_TEST(keys_are_changed)
{
	char buf[16];
	struct iovec iov = { buf, sizeof(buf) };

	handshake(peers[0].priority, 0);
	/* GnuTLS takes more than eight in a second for an attack. */
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(gnutls_session_key_update(client, GNUTLS_KU_PEER), 0);
		ck_assert_int_eq(gnutls_record_send(client, "0123456789abcdef", 16), 16);
		while (to_server_len > 0) {
			ssize_t n;

			give_input();
			n = chan_tls_read(server, &iov, 1);
			ck_assert(n == 16 || n == -EAGAIN);
		}
		ck_assert_mem_eq(buf, "0123456789abcdef", 16);
		send_and_compare(1000);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("server_chan_tls");
	TCase *tc = tcase_create("all");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, records_as_long_as_the_peer_wants, 0,
			    sizeof(peers) / sizeof(peers[0]));
	tcase_add_test(tc, keys_are_changed);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
