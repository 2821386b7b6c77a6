/* SPDX-License-Identifier: MIT */
/* server_tls_cert.c - keys that a client could have a worker compute with for seconds. */
#include "server/tls_cert.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
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

UNIT_MAIN(large_keys, large_exponents)
