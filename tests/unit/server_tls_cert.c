/* SPDX-License-Identifier: MIT */
/* server_tls_cert.c - what a client could have a worker compute with for long. */
#include "server/tls_cert.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/unit.h"

#define BYTES_MAX 8192

/* Of a certificate with such a key, signed by another: nobody needs the key itself for that. */
static const char *
refusal(size_t modulus_bytes, size_t exponent_bytes)
{
	static unsigned char modulus[BYTES_MAX], exponent[BYTES_MAX];
	const gnutls_datum_t n = { modulus, (unsigned)modulus_bytes };
	const gnutls_datum_t e = { exponent, (unsigned)exponent_bytes };
	gnutls_x509_crt_t crt, issuer;
	gnutls_x509_privkey_t signer;
	gnutls_pubkey_t key;
	gnutls_datum_t der;
	const char *why;
	int ret;

	memset(modulus, 0xd5, sizeof(modulus));
	memset(exponent, 0x55, sizeof(exponent));
	gnutls_pubkey_init(&key);
	gnutls_x509_crt_init(&crt);
	gnutls_x509_crt_init(&issuer);
	gnutls_x509_privkey_init(&signer);
	ck_assert_int_eq(gnutls_x509_privkey_generate(signer, GNUTLS_PK_ECDSA, 256, 0), 0);
	ck_assert_int_eq(gnutls_x509_crt_set_dn(issuer, "CN=ca", NULL), 0);
	ck_assert_int_eq(gnutls_x509_crt_set_key(issuer, signer), 0);
	ck_assert_int_eq(gnutls_pubkey_import_rsa_raw(key, &n, &e), 0);
	ck_assert_int_eq(gnutls_x509_crt_set_pubkey(crt, key), 0);
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\1", 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL));
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 1000);
	gnutls_x509_crt_set_dn(crt, "CN=alice", NULL);
	ck_assert_int_eq(gnutls_x509_crt_sign2(crt, issuer, signer, GNUTLS_DIG_SHA256, 0), 0);
	ck_assert_int_eq(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &der), 0);
	ret = tls_cert_check_strength(der.data, der.size);
	why = tls_refusal(ret);
	ck_assert(why || ret == 0);
	gnutls_free(der.data);
	gnutls_pubkey_deinit(key);
	gnutls_x509_privkey_deinit(signer);
	gnutls_x509_crt_deinit(issuer);
	gnutls_x509_crt_deinit(crt);
	return why;
}

#define MODULUS "a certificate has a key that is too large"
#define EXPONENT "a certificate has an RSA key whose exponent is too large"

START_TEST(large_keys)
{
	ck_assert_pstr_eq(refusal(1024, 3), NULL);
	ck_assert_pstr_eq(refusal(1025, 3), MODULUS);
	ck_assert_pstr_eq(refusal(7680, 7680), MODULUS);
}
END_TEST

START_TEST(large_exponents)
{
	ck_assert_pstr_eq(refusal(256, 8), NULL);
	ck_assert_pstr_eq(refusal(256, 9), EXPONENT);
	ck_assert_pstr_eq(refusal(1024, 1024), EXPONENT);
}
END_TEST

/* --- Messages --------------------------------------------------------------- */

#define TOO_MANY "a certificate has too many names, extensions or other parts"
#define NO_DER "a certificate is not DER"

/* What is said of a message in memory of its own, past whose end nothing may be read. */
static int
check_message(const uint8_t *message, size_t len, bool is_13)
{
	uint8_t *own = calloc(len, 1);
	int ret;

	memcpy(own, message, len);
	ret = tls_message_check_values(own, len, is_13);
	free(own);
	return ret;
}

/* A message of COUNT certificates, of which the last has VALUES. Its length. */
static size_t
message_of(uint8_t *message, unsigned count, unsigned values, bool is_13)
{
	size_t list = is_13 ? 4 : 3, len = list;

	if (is_13)
		message[0] = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t more = i + 1 < count ? 0 : 2 * (size_t)(values - 1), size = more + 4;

		memcpy(message + len, (uint8_t[]){ 0, (uint8_t)(size >> 8), (uint8_t)size, 0x30,
						   0x82, (uint8_t)(more >> 8), (uint8_t)more }, 7);
		if (more == 0) {
			memcpy(message + len, (uint8_t[]){ 0, 0, 2, 0x30, 0 }, 5);
			size = 2;
		}
		for (size_t k = 0; k < more; k += 2)
			memcpy(message + len + 7 + k, (uint8_t[]){ 5, 0 }, 2);
		len += 3 + size;
		if (is_13) {
			memset(message + len, 0, 2);
			len += 2;
		}
	}
	memcpy(message + list - 3, (uint8_t[]){ 0, (uint8_t)((len - list) >> 8),
						(uint8_t)(len - list) }, 3);
	return len;
}

START_TEST(values_of_messages)
{
	static uint8_t message[4096];

	for (int is_13 = 0; is_13 < 2; is_13++) {
		size_t len = message_of(message, 0, 0, is_13);

		ck_assert_int_eq(check_message(message, len, is_13), 0);
		for (unsigned count = 1; count < 4; count++) {
			/* Each of the others has one. */
			len = message_of(message, count, 1025 - count, is_13);
			ck_assert_int_eq(check_message(message, len, is_13), 0);
			len = message_of(message, count, 1026 - count, is_13);
			ck_assert_pstr_eq(tls_refusal(check_message(message, len, is_13)),
					  TOO_MANY);
		}
		/* A NULL of one byte that it has not. */
		len = message_of(message, 2, 200, is_13);
		message[len - (is_13 ? 3 : 1)] = 1;
		ck_assert_pstr_eq(tls_refusal(check_message(message, len, is_13)), NO_DER);
	}
}
END_TEST

START_TEST(messages_cut_short)
{
	uint8_t message[2048];

	for (int is_13 = 0; is_13 < 2; is_13++) {
		size_t whole = message_of(message, 2, 200, is_13);

		for (size_t len = 0; len < whole; len++)
			ck_assert_int_eq(check_message(message, len, is_13),
					 GNUTLS_E_UNEXPECTED_PACKET_LENGTH);
		message[whole] = 0;
		ck_assert_int_eq(check_message(message, whole + 1, is_13),
				 GNUTLS_E_UNEXPECTED_PACKET_LENGTH);
	}
}
END_TEST

/* What OCSP says of a certificate comes with it, and would be verified whoever sent it. */
START_TEST(extensions_of_entries)
{
	uint8_t message[2048];
	size_t len = message_of(message, 1, 2, true);

	message[len - 1] = 5;
	memcpy(message + len, (uint8_t[]){ 0, 5, 0, 1, 1 }, 5);
	message[3] = (uint8_t)(message[3] + 5);
	ck_assert_int_eq(check_message(message, len + 5, true),
			 GNUTLS_E_RECEIVED_ILLEGAL_EXTENSION);
}
END_TEST

UNIT_MAIN(large_keys, large_exponents, values_of_messages, messages_cut_short,
	  extensions_of_entries)
