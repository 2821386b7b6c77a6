/* SPDX-License-Identifier: MIT */
/* tls_cert.c - what is looked at in certificates; see tls_cert.h. */
#include "tls_cert.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/annotate.h"
#include "server/der.h"
#include "server/limits.h"
#include "server/tls_expiry.h"
#include "server/tls_peer.h"

/* In a message: a certificate's length, and in TLS 1.3 that of its extensions. */
#define CERTIFICATE_LEN_BYTES 3u
#define EXTENSIONS_LEN_BYTES 2u
#define CONTEXT_LEN_BYTES 1u
#define ENTRY_BYTES (CERTIFICATE_LEN_BYTES + EXTENSIONS_LEN_BYTES)

#define EXTENDED_KEY_USAGE "2.5.29.37"

const char *
tls_date(char buf[TLS_DATE_MAX], time_t at)
{
	struct tm tm;

	if (!gmtime_r(&at, &tm) || !strftime(buf, TLS_DATE_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(buf, TLS_DATE_MAX, "never"); /* UNTESTED: years have four digits */
	return buf;
}

/* --- Files ------------------------------------------------------------------ */

static int
parse_error(int ret, struct err *err)
{
	return err_set(err, ret == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EINVAL, "%s",
		       gnutls_strerror(ret));
}

int
tls_certs_parse(struct tls_certs *certs, const char *text, size_t len, struct err *err)
{
	const gnutls_datum_t d = { (unsigned char *)(uintptr_t)text, (unsigned)len };
	int ret = gnutls_x509_crt_list_import2(&certs->crts, &certs->count, &d,
					       GNUTLS_X509_FMT_PEM, 0);

	if (ret < 0) {
		*certs = (struct tls_certs){ 0 };
		return parse_error(ret, err);
	}
	return 0;
}

void
tls_certs_release(struct tls_certs *certs)
{
	for (unsigned i = 0; i < certs->count; i++)
		gnutls_x509_crt_deinit(certs->crts[i]);
	gnutls_free(certs->crts);
	*certs = (struct tls_certs){ 0 };
}

/* Lines that begin with WORDS. */
static unsigned
lines_count(const char *text, size_t len, const char *words)
{
	const char *end = text + len, *at = text;
	size_t words_len = strlen(words);
	unsigned n = 0;

	while ((at = memmem(at, (size_t)(end - at), words, words_len))) {
		n += at == text || at[-1] == '\n';
		at += words_len;
	}
	return n;
}

int
tls_crls_parse(struct tls_crls *crls, const char *text, size_t len, struct err *err)
{
	const gnutls_datum_t d = { (unsigned char *)(uintptr_t)text, (unsigned)len };
	int ret = gnutls_x509_crl_list_import2(&crls->crls, &crls->count, &d,
					       GNUTLS_X509_FMT_PEM, 0);

	if (ret < 0) {
		*crls = (struct tls_crls){ 0 };
		return parse_error(ret, err);
	}
	/* GnuTLS passes over what it takes for something else. */
	if (lines_count(text, len, "-----BEGIN ") != crls->count ||
	    lines_count(text, len, "-----END ") != crls->count)
		return err_set(err, -EINVAL,
			       "%u revocation lists can be read, but there is more in it, or a line "
			       "that begins or ends one is damaged",
			       crls->count);
	return 0;
}

void
tls_crls_release(struct tls_crls *crls)
{
	for (unsigned i = 0; i < crls->count; i++)
		gnutls_x509_crl_deinit(crls->crls[i]);
	gnutls_free(crls->crls);
	*crls = (struct tls_crls){ 0 };
}

/* --- Ends ------------------------------------------------------------------- */

int
tls_certs_expiries(const struct tls_certs *certs, bool own, const char *file,
		   struct tls_expiries *list, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < certs->count && ret == 0; i++)
		ret = tls_expiries_add(list, own ? TLS_EXPIRY_OWN : TLS_EXPIRY_TRUSTED, file, i + 1,
				       gnutls_x509_crt_get_expiration_time(certs->crts[i]), err);
	return ret;
}

int
tls_crls_expiries(const struct tls_crls *crls, const char *file, struct tls_expiries *list,
		  struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < crls->count && ret == 0; i++) {
		time_t end = gnutls_x509_crl_get_next_update(crls->crls[i]);

		/* It need not say when. */
		if (end != (time_t)-1)
			ret = tls_expiries_add(list, TLS_EXPIRY_REVOKED, file, i + 1, end, err);
	}
	return ret;
}

/* --- Strength --------------------------------------------------------------- */

static bool
key_is_weak(gnutls_x509_crt_t crt, unsigned *bits)
{
	int algorithm = gnutls_x509_crt_get_pk_algorithm(crt, bits);

	return algorithm < 0 ||
	       gnutls_pk_bits_to_sec_param((gnutls_pk_algorithm_t)algorithm, *bits) <
		       GNUTLS_SEC_PARAM_MEDIUM;
}

/* One that has signed itself is not trusted for that. */
static bool
signature_is_weak(gnutls_x509_crt_t crt)
{
	int algorithm = gnutls_x509_crt_get_signature_algorithm(crt);

	return !gnutls_x509_crt_check_issuer(crt, crt) &&
	       (algorithm < 0 ||
		!gnutls_sign_is_secure2((gnutls_sign_algorithm_t)algorithm,
					GNUTLS_SIGN_FLAG_SECURE_FOR_CERTS));
}

/* Number N, from 0, of the file. */
static int
bad(unsigned n, struct err *err, const char *what, const char *algorithm, unsigned bits)
{
	char size[24] = "";

	if (bits)
		snprintf(size, sizeof(size), " of %u bits", bits);
	return err_set(err, -EINVAL, "certificate %u of it %s %s%s, which is too weak", n + 1,
		       what, algorithm ? algorithm : "unknown", size);
}

int
tls_certs_check_keys(const struct tls_certs *certs, struct err *err)
{
	unsigned bits;

	for (unsigned i = 0; i < certs->count; i++)
		if (key_is_weak(certs->crts[i], &bits))
			return bad(i, err, "has a key",
				   gnutls_pk_get_name(
					   (gnutls_pk_algorithm_t)gnutls_x509_crt_get_pk_algorithm(
						   certs->crts[i], NULL)),
				   bits);
	return 0;
}

/* --- Revocation lists ------------------------------------------------------- */

/* What may be wrong with a list that is its CA's all the same. */
#define CRL_DATES \
	((unsigned)(GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED | \
		    GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE))

/* That a CA may sign lists is said by the file that it is in. */
static bool
crl_is_signed(gnutls_x509_crl_t crl, gnutls_x509_crt_t issuer)
{
	unsigned verdict;

	if (gnutls_x509_crl_verify(crl, &issuer, 1, GNUTLS_VERIFY_DISABLE_CA_SIGN, &verdict) < 0)
		return false;
	/* Dates make it invalid, too; but then there is nothing else. */
	if (verdict & CRL_DATES)
		verdict &= ~(CRL_DATES | (unsigned)GNUTLS_CERT_INVALID);
	return verdict == 0;
}

/* To the byte: GnuTLS finds a list by what its issuer's name looks like. */
static bool
crl_is_of(gnutls_x509_crl_t crl, gnutls_x509_crt_t issuer)
{
	gnutls_datum_t name = { 0 }, its = { 0 };
	bool same = gnutls_x509_crl_get_raw_issuer_dn(crl, &name) == 0 &&
		    gnutls_x509_crt_get_raw_dn(issuer, &its) == 0 && name.size == its.size &&
		    memcmp(name.data, its.data, its.size) == 0;

	gnutls_free(name.data);
	gnutls_free(its.data);
	return same;
}

/*
 * Whether there is something about it that GnuTLS does not heed: that it is not all that is
 * revoked (a delta, a part), or not all by its issuer. RFC 5280, 5.2: it must not be used.
 */
static int
extensions_check(gnutls_x509_crl_t crl, unsigned n, struct err *err)
{
	char oid[64];
	unsigned critical;
	size_t len = sizeof(oid);

	for (unsigned i = 0; gnutls_x509_crl_get_extension_info(crl, i, oid, &len, &critical) == 0;
	     i++, len = sizeof(oid))
		if (critical)
			return err_set(err, -EINVAL,
				       "list %u of it has the critical extension %s, which is not "
				       "known here: it has to be a whole list, not a delta or a part",
				       n + 1, oid);
	return 0;
}

/*
 * When a client comes GnuTLS looks up a list by its issuer's name, and not whether it is
 * the issuer's: anybody's would put out clients, or let back in whom another one named;
 * one that is nobody's, or spells the name otherwise, would do nothing at all.
 */
static int
crl_check(gnutls_x509_crl_t crl, unsigned n, const struct tls_certs *trusted, struct err *err)
{
	bool named = false;
	int ret = extensions_check(crl, n, err);

	if (ret < 0)
		return ret;
	/* After a change of its key a CA is there twice. */
	for (unsigned i = 0; i < trusted->count; i++) {
		if (!crl_is_of(crl, trusted->crts[i]))
			continue;
		if (crl_is_signed(crl, trusted->crts[i]))
			return 0;
		named = true;
	}
	if (named)
		return err_set(err, -EINVAL, "list %u of it is not signed by the CA that it names",
			       n + 1);
	return err_set(err, -EINVAL,
		       "list %u of it is of none of the CAs that are trusted, so it would revoke "
		       "nothing; add the certificate of its CA to those",
		       n + 1);
}

int
tls_crls_check(const struct tls_crls *crls, const struct tls_certs *trusted, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < crls->count && ret == 0; i++)
		ret = crl_check(crls->crls[i], i, trusted, err);
	return ret;
}

/* When the newest list by ISSUER, and by its key, was made; -1: there is none. */
static time_t
newest(const struct tls_crls *crls, gnutls_x509_crt_t issuer)
{
	time_t at = -1;

	for (unsigned i = 0; i < crls->count; i++)
		if (crl_is_of(crls->crls[i], issuer) && crl_is_signed(crls->crls[i], issuer))
			at = MAX(at, gnutls_x509_crl_get_this_update(crls->crls[i]));
	return at;
}

int
tls_crls_check_successor(const struct tls_crls *old, const struct tls_crls *new,
			 const struct tls_certs *trusted, struct err *err)
{
	int ret = 0;

	for (unsigned i = 0; i < trusted->count && ret == 0; i++) {
		time_t was = newest(old, trusted->crts[i]), is = newest(new, trusted->crts[i]);
		char was_date[TLS_DATE_MAX], is_date[TLS_DATE_MAX];

		if (was != -1 && is == -1)
			ret = err_set(err, -EINVAL,
				      "the revocation list that was there is missing; to do without "
				      "one start the server anew");
		else if (is < was)
			ret = err_set(err, -EINVAL,
				      "the revocation list is of %s, older than the one in force, of "
				      "%s; to go back start the server anew",
				      tls_date(is_date, is), tls_date(was_date, was));
	}
	return ret;
}

/* --- The server's own ------------------------------------------------------- */

static int
dates_check(gnutls_x509_crt_t crt, time_t now, struct err *err)
{
	time_t from = gnutls_x509_crt_get_activation_time(crt);
	time_t to = gnutls_x509_crt_get_expiration_time(crt);
	char date[TLS_DATE_MAX];

	if (now >= from && now < to)
		return 0;
	return err_set(err, -EINVAL, "the certificate %s %s",
		       now < from ? "is not valid before" : "has expired on",
		       tls_date(date, now < from ? from : to));
}

static int
size_check(const struct tls_certs *certs, struct err *err)
{
	size_t total = 0;

	for (unsigned i = 0; i < certs->count; i++) {
		size_t len = 0;

		/* How long it would be. */
		gnutls_x509_crt_export(certs->crts[i], GNUTLS_X509_FMT_DER, NULL, &len);
		total += len + ENTRY_BYTES;
	}
	if (total > LIMIT_OWN_CHAIN_BYTES)
		return err_set(err, -EINVAL,
			       "%u certificates of %zu bytes, but %u is the limit of what fits a "
			       "handshake: only those between the server's and the CA's belong "
			       "here",
			       certs->count, total, LIMIT_OWN_CHAIN_BYTES);
	return 0;
}

int
tls_certs_check_own(const struct tls_certs *certs, time_t now, struct err *err)
{
	int ret = dates_check(certs->crts[0], now, err);

	if (ret == 0)
		ret = size_check(certs, err);
	if (ret == 0)
		ret = tls_certs_check_keys(certs, err);
	for (unsigned i = 0; i < certs->count && ret == 0; i++)
		if (signature_is_weak(certs->crts[i]))
			ret = bad(i, err, "is signed with",
				  gnutls_sign_get_name(
					  (gnutls_sign_algorithm_t)
						  gnutls_x509_crt_get_signature_algorithm(
							  certs->crts[i])),
				  0);
	return ret;
}

/* --- A client's -------------------------------------------------------------- */

/* What is found wrong beyond what GnuTLS looks at, as errors that it has no meaning for. */
enum refusal {
	NO_DER,
	TOO_MANY_VALUES,
	WEAK,
	KEY_TOO_LARGE,
	EXPONENT_TOO_LARGE,
	NO_PURPOSE,
	ANY_PURPOSE,
	UNREADABLE,
};

static const char *const refusals[] = {
	[NO_DER] = "a certificate is not DER",
	[TOO_MANY_VALUES] = "a certificate has too many names, extensions or other parts",
	[WEAK] = "a certificate has a key or a signature of an insecure algorithm",
	[KEY_TOO_LARGE] = "a certificate has a key that is too large",
	[EXPONENT_TOO_LARGE] = "a certificate has an RSA key whose exponent is too large",
	[NO_PURPOSE] = "the certificate does not say that it is for TLS clients: it has no "
		       "extended key usage, see --tls-purpose",
	[ANY_PURPOSE] = "the certificate does not say that it is for TLS clients: its extended key "
			"usage is for any purpose, see --tls-purpose",
	[UNREADABLE] = "the certificate has a subject or another name that cannot be read, such as "
		       "one with an empty part",
};

static int
refused(enum refusal which)
{
	return GNUTLS_E_APPLICATION_ERROR_MAX - (int)which;
}

const char *
tls_refusal(int error)
{
	int which = GNUTLS_E_APPLICATION_ERROR_MAX - error;

	return which >= 0 && which < (int)ARRAY_SIZE(refusals) ? refusals[which] : NULL;
}

/* The next LEN_BYTES + that many bytes of MESSAGE, which loses them. */
static bool
vector(gnutls_datum_t *message, unsigned len_bytes, gnutls_datum_t *bytes)
{
	unsigned len = 0;

	if (message->size < len_bytes)
		return false;
	for (unsigned i = 0; i < len_bytes; i++)
		len = len << 8 | message->data[i];
	if (len > message->size - len_bytes)
		return false;
	*bytes = (gnutls_datum_t){ message->data + len_bytes, len };
	message->data += len_bytes + len;
	message->size -= len_bytes + len;
	return true;
}

/* Adds those of one certificate to COUNT. */
static int
values_check(const gnutls_datum_t *der, int *count)
{
	int more = der_count(der->data, der->size);

	if (more < 0)
		return refused(NO_DER);
	*count += more;
	return *count > LIMIT_PEER_CHAIN_VALUES ? refused(TOO_MANY_VALUES) : 0;
}

int
tls_message_check_values(const void *message, size_t len, bool is_13)
{
	gnutls_datum_t left = { (unsigned char *)(uintptr_t)message, (unsigned)len }, list, part;
	int ret = 0, count = 0;

	if ((is_13 && !vector(&left, CONTEXT_LEN_BYTES, &part)) ||
	    !vector(&left, CERTIFICATE_LEN_BYTES, &list) || left.size > 0)
		return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
	while (list.size > 0 && ret == 0) {
		if (!vector(&list, CERTIFICATE_LEN_BYTES, &part))
			return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
		ret = values_check(&part, &count);
		if (is_13 && !vector(&list, EXTENSIONS_LEN_BYTES, &part))
			return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
		/*
		 * An OCSP response, which GnuTLS would verify before it knows whether it trusts
		 * anybody there: with a certificate in it, of any key and any number of values.
		 */
		if (is_13 && part.size > 0)
			return GNUTLS_E_RECEIVED_ILLEGAL_EXTENSION;
	}
	return ret;
}

/* Whether these are for clients in so many words: "any" says nothing either. */
static bool
names_client(gnutls_x509_key_purposes_t purposes)
{
	static const char client[] = GNUTLS_KP_TLS_WWW_CLIENT;
	gnutls_datum_t oid;

	for (unsigned i = 0; gnutls_x509_key_purpose_get(purposes, i, &oid) == 0; i++)
		if (oid.size == sizeof(client) - 1 && memcmp(oid.data, client, oid.size) == 0)
			return true;
	return false;
}

/* Of what GnuTLS lets through: for clients, for any purpose, or without a word of it. */
static int
purpose_check(gnutls_x509_crt_t crt)
{
	gnutls_x509_key_purposes_t purposes;
	gnutls_datum_t der;
	int ret = gnutls_x509_crt_get_extension_by_oid2(crt, EXTENDED_KEY_USAGE, 0, &der, NULL);

	if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return refused(NO_PURPOSE);
	if (ret < 0)
		return ret;
	ret = gnutls_x509_key_purpose_init(&purposes);
	if (ret < 0)
		goto free_der;
	ret = gnutls_x509_ext_import_key_purposes(&der, purposes, 0);
	if (ret == 0 && !names_client(purposes))
		ret = refused(ANY_PURPOSE);
	gnutls_x509_key_purpose_deinit(purposes);
free_der:
	gnutls_free(der.data);
	return ret;
}

/* Bytes of a number, without zeroes before it. */
static size_t
number_bytes(const gnutls_datum_t *n)
{
	size_t zeroes = 0;

	while (zeroes < n->size && n->data[zeroes] == 0)
		zeroes++;
	return n->size - zeroes;
}

/*
 * In TLS 1.3 the client's signature is verified before its chain, so with a key that
 * nobody has vouched for, and the time and the stack that it takes are those of the
 * modulus and of the exponent: seconds, and more stack than a coroutine has.
 */
static int
size_check_peer(gnutls_x509_crt_t crt, unsigned bits)
{
	int algorithm = gnutls_x509_crt_get_pk_algorithm(crt, NULL);
	gnutls_datum_t n = { 0 }, e = { 0 };
	gnutls_pubkey_t key;
	int ret;

	if (bits > LIMIT_PEER_KEY_BITS)
		return refused(KEY_TOO_LARGE);
	/* The parameters of others (DSA) would have to be looked at as well. */
	if (algorithm == GNUTLS_PK_EC || algorithm == GNUTLS_PK_EDDSA_ED25519 ||
	    algorithm == GNUTLS_PK_EDDSA_ED448)
		return 0;
	if (algorithm != GNUTLS_PK_RSA && algorithm != GNUTLS_PK_RSA_PSS)
		return refused(WEAK);
	ret = gnutls_pubkey_init(&key);
	if (ret < 0)
		return ret;
	ret = gnutls_pubkey_import_x509(key, crt, 0);
	if (ret == 0)
		ret = gnutls_pubkey_export_rsa_raw(key, &n, &e);
	if (ret == 0 && number_bytes(&e) > LIMIT_PEER_EXPONENT_BYTES)
		ret = refused(EXPONENT_TOO_LARGE);
	gnutls_free(n.data);
	gnutls_free(e.data);
	gnutls_pubkey_deinit(key);
	return ret;
}

static int
strength_check(gnutls_x509_crt_t crt)
{
	unsigned bits;

	if (key_is_weak(crt, &bits) || signature_is_weak(crt))
		return refused(WEAK);
	return size_check_peer(crt, bits);
}

/* CHECK of one certificate of a client's. */
static int
peer_check(const gnutls_datum_t *der, int (*check)(gnutls_x509_crt_t crt))
{
	gnutls_x509_crt_t crt;
	int ret = gnutls_x509_crt_init(&crt);

	if (ret < 0)
		return ret;
	ret = gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER);
	if (ret == 0)
		ret = check(crt);
	gnutls_x509_crt_deinit(crt);
	return ret;
}

int
tls_cert_check_strength(const void *der, size_t len)
{
	const gnutls_datum_t d = { (unsigned char *)(uintptr_t)der, (unsigned)len };

	return peer_check(&d, strength_check);
}

int
tls_peer_check_strength(gnutls_session_t session)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
	int ret = 0;

	for (unsigned i = 0; i < n && ret == 0; i++)
		ret = peer_check(&chain[i], strength_check);
	return ret;
}

int
tls_peer_check_purpose(gnutls_session_t session)
{
	unsigned n = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);

	/* Those of the CAs in between need not say what theirs is for. */
	return n > 0 ? peer_check(&chain[0], purpose_check) : 0;
}

int
tls_peer_check_names(gnutls_session_t session)
{
	struct access_peer peer = { 0 };
	int ret = tls_peer_identify(session, &peer);

	access_peer_release(&peer);
	if (ret == -EPROTO)
		return refused(UNREADABLE);
	return ret < 0 ? GNUTLS_E_MEMORY_ERROR : 0;
}
