/* SPDX-License-Identifier: MIT */
/* tls_peer.c - who a client is; see tls_peer.h. */
#include "tls_peer.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "server/access_dn.h"
#include "server/limits.h"

/* A SEQUENCE of nothing, in DER. */
#define EMPTY_BYTES 2u

/* A copy of its own, and a NUL behind it. */
static int
text_set(struct access_text *text, const void *data, size_t len)
{
	text->data = malloc(len + 1);
	if (!text->data)
		return -ENOMEM;
	memcpy(text->data, data, len);
	text->data[len] = '\0';
	text->len = len;
	return 0;
}

static int
digest(const gnutls_datum_t *der, uint8_t sha256[32])
{
	size_t len = 32;

	return gnutls_fingerprint(GNUTLS_DIG_SHA256, der, sha256, &len) < 0 ? -EPROTO : 0;
}

/* The digest of the key in its DER form. */
static int
key_digest(gnutls_x509_crt_t crt, uint8_t sha256[32])
{
	gnutls_datum_t der = { 0 };
	gnutls_pubkey_t key;
	int ret = -EPROTO;

	if (gnutls_pubkey_init(&key) < 0)
		return -ENOMEM;
	if (gnutls_pubkey_import_x509(key, crt, 0) >= 0 &&
	    gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der) >= 0)
		ret = digest(&der, sha256);
	gnutls_free(der.data);
	gnutls_pubkey_deinit(key);
	return ret;
}

/* One alternative name; those of other types are left out. */
static int
san_add(struct access_peer *peer, const void *name, size_t len, int type)
{
	struct access_san *sans;
	int ret;

	if (type != GNUTLS_SAN_DNSNAME && type != GNUTLS_SAN_URI)
		return 0;
	sans = realloc(peer->sans, (peer->nsans + 1) * sizeof(*sans));
	if (!sans)
		return -ENOMEM;
	peer->sans = sans;
	sans += peer->nsans;
	sans->type = type == GNUTLS_SAN_URI ? ACCESS_SAN_URI : ACCESS_SAN_DNS;
	ret = text_set(&sans->name, name, len);
	if (ret == 0)
		peer->nsans++;
	return ret;
}

static int
sans_read(gnutls_x509_crt_t crt, struct access_peer *peer)
{
	char *name = malloc(LIMIT_STRING_BYTES);
	int type = 0, ret = name ? 0 : -ENOMEM;

	for (unsigned i = 0; ret == 0; i++) {
		size_t len = LIMIT_STRING_BYTES;

		type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &len, NULL);
		if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			break;
		/* No rule has one as long. */
		if (type == GNUTLS_E_SHORT_MEMORY_BUFFER)
			continue;
		ret = type < 0 ? -EPROTO : san_add(peer, name, len, type);
	}
	free(name);
	return ret;
}

/* The subject. One without parts is no text, where GnuTLS has an error as for a bad one. */
static int
dn_read(gnutls_x509_crt_t crt, struct access_peer *peer)
{
	gnutls_datum_t der = { 0 }, dn = { 0 };
	int ret = -EPROTO;

	if (gnutls_x509_crt_get_raw_dn(crt, &der) < 0)
		return -EPROTO;
	if (der.size == EMPTY_BYTES) {
		ret = 0;
	} else if (gnutls_x509_crt_get_dn3(crt, &dn, 0) >= 0) {
		access_dn_sort((char *)dn.data);
		ret = text_set(&peer->dn, dn.data, dn.size);
	}
	gnutls_free(dn.data);
	gnutls_free(der.data);
	return ret;
}

static int
certificate_read(const gnutls_datum_t *der, struct access_peer *peer)
{
	gnutls_x509_crt_t crt;
	int ret = -EPROTO;

	if (gnutls_x509_crt_init(&crt) < 0)
		return -ENOMEM;
	if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) >= 0)
		ret = dn_read(crt, peer);
	if (ret == 0)
		ret = digest(der, peer->certificate_sha256);
	if (ret == 0)
		ret = key_digest(crt, peer->key_sha256);
	if (ret == 0)
		ret = sans_read(crt, peer);
	gnutls_x509_crt_deinit(crt);
	if (ret == 0)
		peer->identity = ACCESS_X509;
	return ret;
}

int
tls_peer_identify(gnutls_session_t session, struct access_peer *peer)
{
	const gnutls_datum_t *chain;
	gnutls_datum_t user;
	unsigned n = 0;
	int ret;

	if (gnutls_auth_client_get_type(session) == GNUTLS_CRD_PSK) {
		if (gnutls_psk_server_get_username2(session, &user) < 0)
			return -EPROTO;
		ret = text_set(&peer->psk, user.data, user.size);
		if (ret == 0)
			peer->identity = ACCESS_PSK;
		return ret;
	}
	chain = gnutls_certificate_get_peers(session, &n);
	return chain && n > 0 ? certificate_read(&chain[0], peer) : 0;
}
