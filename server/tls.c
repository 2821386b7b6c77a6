/* SPDX-License-Identifier: MIT */
/*
 * tls.c - credentials; see tls.h.
 *
 * The path, tls_load(): the files are read into memory, one after the other; GnuTLS
 * takes certificates, key and lists from there, the users are kept by ourselves
 * (tls_psk.h); what they say together is checked; the memory is wiped.
 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/annotate.h"
#include "base/range.h"
#include "server/limits.h"
#include "server/tls_cert.h"
#include "server/tls_expiry.h"
#include "server/tls_psk.h"

/*
 * Without what a reader of packets could undo later (static RSA) or what has been
 * broken before (CBC, SHA-1), and without groups whose arithmetic would occupy a
 * worker for 24 ms and up to a third of a second, at no cost for the client. It is for
 * the server to choose among what is left; the first group is the one for which most
 * clients have a share ready, or each handshake would begin twice.
 */
#define PRIORITY \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-AES-128-CBC:-AES-256-CBC:-SHA1:" \
	"-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:" \
	"-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+GROUP-SECP521R1:" \
	"+GROUP-X448:+GROUP-FFDHE2048:%SERVER_PRECEDENCE"
#define PRIORITY_PSK ":+ECDHE-PSK:+DHE-PSK"

/* In the directory of --tls-certificates; the same that other programs have. */
#define CERT_NAME "server-cert.pem"
#define KEY_NAME "server-key.pem"
#define CA_NAME "ca-cert.pem"
#define CRL_NAME "ca-crl.pem"

struct tls {
	unsigned refs; /* atomic */
	gnutls_certificate_credentials_t x509; /* NULL: without certificates */
	gnutls_psk_server_credentials_t psk;   /* NULL: without users */
	gnutls_priority_t priority;
	bool verify_peer;
	bool any_purpose;
	char *crl;		  /* the file of revocation lists, or NULL */
	struct tls_crls revoked;  /* what is in it */
	struct tls_certs trusted; /* who signs certificates of clients, and these lists */
	struct tls_expiries expiries;
	struct tls_psk_list users;
};

/* libgnutls asks this before it initialises itself while it is loaded. */
__attribute__((visibility("default"))) int _gnutls_global_init_skip(void);

int
_gnutls_global_init_skip(void)
{
	return 1;
}

bool
tls_wants_x509(const struct tls_files *f)
{
	return f->dir || f->ca || f->crl || f->cert || f->key;
}

bool
tls_wanted(const struct tls_files *f)
{
	return tls_wants_x509(f) || f->psk;
}

int
tls_init(struct err *err)
{
	char **at = environ;
	int ret;

	unsetenv("SSLKEYLOGFILE");
	/* Other versions know other ones. */
	while (*at) {
		char name[128], *entry = *at;
		size_t len = strcspn(entry, "=");

		if (strncmp(entry, "GNUTLS_", 7) != 0 || len >= sizeof(name)) {
			at++;
			continue;
		}
		memcpy(name, entry, len);
		name[len] = '\0';
		unsetenv(name);
		/* It is still there if it is a name without a value. */
		if (*at == entry)
			at++;
	}
	ret = gnutls_global_init();
	if (ret < 0)
		return err_set(err, -ENODEV, "GnuTLS: %s", gnutls_strerror(ret));
	return 0;
}

/* --- Files ------------------------------------------------------------------ */

/* A file and what it says, NUL behind it; wiped by text_release(). */
struct text {
	char *path; /* NULL: there is none */
	char *data;
	size_t len;
};

static void
text_release(struct text *text)
{
	if (text->data)
		explicit_bzero(text->data, text->len);
	free(text->data);
	free(text->path);
	*text = (struct text){ 0 };
}

/* Which file it is: the one that was GIVEN, or NAME in the directory if that is there. */
static int
text_find(struct text *text, const struct tls_files *files, const char *given, const char *name,
	  struct err *err)
{
	*text = (struct text){ 0 };
	if (!given && !files->dir)
		return 0;
	if (given)
		text->path = strdup(given);
	else if (asprintf(&text->path, "%s/%s", files->dir, name) < 0)
		text->path = NULL;
	if (!text->path)
		return err_set(err, -ENOMEM, "out of memory");
	if (!given && access(text->path, F_OK) < 0 && errno == ENOENT) {
		free(text->path);
		text->path = NULL;
	}
	return 0;
}

static int
text_check(const char *path, const struct stat *st, bool secret, unsigned max_bytes,
	   struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, -EINVAL, "%s: must be a regular file", path);
	if (st->st_size > max_bytes)
		return err_set(err, -EFBIG, "%s: has %lld bytes, but %u is the limit", path,
			       (long long)st->st_size, max_bytes);
	if (st->st_mode & S_IWOTH)
		return err_set(err, -EACCES,
			       "%s: everybody may write it, and so decide who gets in: chmod o-w",
			       path);
	if (secret && st->st_mode & 0037)
		return err_set(err, -EACCES,
			       "%s: has mode %04o, others than its owner and a group that reads "
			       "must not get at the key: chmod 0600 or 0640",
			       path, (unsigned)st->st_mode & 07777);
	return 0;
}

static int
text_read(struct text *text, bool secret, unsigned max_bytes, struct err *err)
{
	int fd = open(text->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), ret;
	struct stat st;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", text->path, strerror(errno));
	ret = fstat(fd, &st) < 0 ? err_set(err, -errno, "%s: %s", text->path, strerror(errno)) :
				   text_check(text->path, &st, secret, max_bytes, err);
	if (ret < 0)
		goto close;
	text->len = (size_t)st.st_size;
	text->data = malloc(text->len + 1);
	if (!text->data) {
		ret = err_set(err, -ENOMEM, "%s: out of memory", text->path);
		goto close;
	}
	for (size_t at = 0; at < text->len;) {
		ssize_t n = read(fd, text->data + at, text->len - at);

		if (n <= 0) {
			ret = err_set(err, n < 0 ? -errno : -EIO, "%s: %s", text->path,
				      n < 0 ? strerror(errno) : "became shorter meanwhile");
			break;
		}
		at += (size_t)n;
	}
	text->data[text->len] = '\0';
close:
	close(fd);
	return ret;
}

static gnutls_datum_t
datum(const struct text *text)
{
	return (gnutls_datum_t){ (unsigned char *)text->data, (unsigned)text->len };
}

/* --- Certificates ------------------------------------------------------------ */

/* What a file of several has, and what GnuTLS does not look at itself; then GnuTLS has it. */
typedef int text_examine(struct tls *tls, const struct text *text, struct err *err);

static int
own_examine(struct tls *tls, const struct text *text, struct err *err)
{
	struct tls_certs certs = { 0 };
	int ret = tls_certs_parse(&certs, text->data, text->len, err);

	if (ret == 0)
		ret = tls_certs_check_own(&certs, time(NULL), err);
	if (ret == 0)
		ret = tls_certs_expiries(&certs, true, text->path, &tls->expiries, err);
	tls_certs_release(&certs);
	return ret < 0 ? err_prefix(err, "%s", text->path) : 0;
}

static int
trusted_examine(struct tls *tls, const struct text *text, struct err *err)
{
	int ret = tls_certs_parse(&tls->trusted, text->data, text->len, err);

	if (ret == 0)
		ret = tls_certs_check_keys(&tls->trusted, err);
	if (ret == 0)
		ret = tls_certs_expiries(&tls->trusted, false, text->path, &tls->expiries, err);
	if (ret == 0 && gnutls_certificate_set_x509_trust(tls->x509, tls->trusted.crts,
							  (int)tls->trusted.count) < 0)
		ret = err_set(err, -ENOMEM, "out of memory");
	return ret < 0 ? err_prefix(err, "%s", text->path) : 0;
}

static int
crls_examine(struct tls *tls, const struct text *text, struct err *err)
{
	int ret = tls_crls_parse(&tls->revoked, text->data, text->len, err);

	if (ret == 0)
		ret = tls_crls_check(&tls->revoked, &tls->trusted, err);
	if (ret == 0)
		ret = tls_crls_expiries(&tls->revoked, text->path, &tls->expiries, err);
	/* Not as a text: of those GnuTLS keeps one for each name of an issuer. */
	if (ret == 0 && gnutls_certificate_set_x509_crl(tls->x509, tls->revoked.crls,
							(int)tls->revoked.count) < 0)
		ret = err_set(err, -ENOMEM, "out of memory");
	if (ret < 0)
		return err_prefix(err, "%s", text->path);
	tls->crl = strdup(text->path);
	return tls->crl ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* By itself, since of a certificate and a key GnuTLS does not say which is wrong. */
static int
key_examine(const struct text *text, struct err *err)
{
	const gnutls_datum_t d = datum(text);
	gnutls_privkey_t key;
	int ret = gnutls_privkey_init(&key);

	if (ret < 0)
		return err_set(err, -ENOMEM, "out of memory");
	ret = gnutls_privkey_import_x509_raw(key, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
	gnutls_privkey_deinit(key);
	if (ret == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return err_set(err, -EINVAL, "%s: there is no key in it", text->path);
	if (ret == GNUTLS_E_DECRYPTION_FAILED)
		return err_set(err, -EINVAL, "%s: the key must not need a password", text->path);
	return ret < 0 ? err_set(err, -EINVAL, "%s: %s", text->path, gnutls_strerror(ret)) : 0;
}

/* The server's own certificate, with those up to the CA's, and its key. */
static int
identity_load(struct tls *tls, const struct tls_files *files, struct err *err)
{
	struct text cert = { 0 }, key = { 0 };
	gnutls_datum_t cert_datum, key_datum;
	int ret;

	if ((ret = text_find(&cert, files, files->cert, CERT_NAME, err)) < 0 ||
	    (ret = text_find(&key, files, files->key, KEY_NAME, err)) < 0)
		goto release;
	if (!cert.path || !key.path) {
		if (files->dir)
			ret = err_set(err, -ENOENT, "%s: there is no %s in it", files->dir,
				      cert.path ? KEY_NAME : CERT_NAME);
		else
			ret = err_set(err, -EINVAL, "a server's certificate needs --tls-cert=FILE "
						    "and --tls-key=FILE");
		goto release;
	}
	if ((ret = text_read(&cert, false, LIMIT_CREDENTIAL_BYTES, err)) < 0 ||
	    (ret = text_read(&key, true, LIMIT_CREDENTIAL_BYTES, err)) < 0)
		goto release;
	if ((ret = own_examine(tls, &cert, err)) < 0 || (ret = key_examine(&key, err)) < 0)
		goto release;
	cert_datum = datum(&cert);
	key_datum = datum(&key);
	ret = gnutls_certificate_set_x509_key_mem2(tls->x509, &cert_datum, &key_datum,
						   GNUTLS_X509_FMT_PEM, NULL, 0);
	if (ret < 0)
		ret = err_set(err, -EINVAL, "%s, %s: %s", cert.path, key.path,
			      gnutls_strerror(ret));
release:
	text_release(&cert);
	text_release(&key);
	return ret;
}

/* A file of several: the one GIVEN, or NAME in the directory. 1; 0: there is none. */
static int
list_load(struct tls *tls, const struct tls_files *files, const char *given, const char *name,
	  text_examine *examine, struct err *err)
{
	struct text text;
	int ret = text_find(&text, files, given, name, err);

	if (ret < 0 || !text.path)
		return ret;
	ret = text_read(&text, false, LIMIT_CREDENTIAL_BYTES, err);
	if (ret == 0)
		ret = examine(tls, &text, err);
	text_release(&text);
	return ret < 0 ? ret : 1;
}

static int
trusted_missing(const struct tls_files *files, struct err *err)
{
	if (files->dir)
		return err_set(err, -ENOENT,
			       "%s: there is no " CA_NAME " in it, and without the certificate of "
			       "who signs clients' ones none of theirs is good",
			       files->dir);
	return err_set(err, -EINVAL,
		       "--tls-verify-peer: needs the certificate of who signs clients' ones: "
		       CA_NAME " in --tls-certificates, or --tls-ca=FILE");
}

/* Certificates of those who sign clients' ones, and what they have taken back. */
static int
trust_load(struct tls *tls, const struct tls_files *files, struct err *err)
{
	int ret = list_load(tls, files, files->ca, CA_NAME, trusted_examine, err);

	if (ret == 0 && tls->verify_peer)
		ret = trusted_missing(files, err);
	if (ret >= 0)
		ret = list_load(tls, files, files->crl, CRL_NAME, crls_examine, err);
	return MIN(ret, 0);
}

static int
x509_load(struct tls *tls, const struct tls_files *files, struct err *err)
{
	int ret;

	if (gnutls_certificate_allocate_credentials(&tls->x509) < 0 ||
	    gnutls_certificate_set_known_dh_params(tls->x509, GNUTLS_SEC_PARAM_MEDIUM) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	gnutls_certificate_set_verify_limits(tls->x509, LIMIT_PEER_KEY_BITS, LIMIT_PEER_CHAIN);
	/* Putting a chain in order compares each with each, again and again: up to 250 ms. */
	gnutls_certificate_set_verify_flags(tls->x509,
					    GNUTLS_VERIFY_DO_NOT_ALLOW_UNSORTED_CHAIN);
	ret = identity_load(tls, files, err);
	return ret < 0 ? ret : trust_load(tls, files, err);
}

/* --- Users ------------------------------------------------------------------- */

/*
 * GnuTLS asks for the key of a user. Who is not there has one that nobody knows, so
 * that this looks like a wrong key from outside; and it is drawn for whoever comes, so
 * that it takes as long.
 */
static int
user_key(gnutls_session_t session, const gnutls_datum_t *user, gnutls_datum_t *key)
{
	const struct tls *tls = gnutls_session_get_ptr(session);
	uint8_t drawn[TLS_PSK_KEY_MIN];
	const struct tls_psk nobody = { .key = drawn, .key_len = sizeof(drawn) };
	const struct tls_psk *psk = tls_psk_find(&tls->users, user->data, user->size);

	if (!psk)
		psk = &nobody;
	if (gnutls_rnd(GNUTLS_RND_KEY, drawn, sizeof(drawn)) < 0)
		return -1; /* UNTESTED: the kernel has no chance to give */
	key->data = gnutls_malloc(psk->key_len);
	if (!key->data)
		return -1;
	key->size = psk->key_len;
	memcpy(key->data, psk->key, psk->key_len);
	explicit_bzero(drawn, sizeof(drawn));
	return 0;
}

static int
users_load(struct tls *tls, const struct tls_files *files, struct err *err)
{
	struct text text;
	int ret = text_find(&text, files, files->psk, NULL, err);

	if (ret == 0)
		ret = text_read(&text, true, LIMIT_PSK_BYTES, err);
	if (ret == 0) {
		ret = tls_psk_parse(&tls->users, text.data, text.len, err);
		if (ret < 0)
			err_prefix(err, "%s", files->psk);
	}
	text_release(&text);
	if (ret < 0)
		return ret;
	if (gnutls_psk_allocate_server_credentials(&tls->psk) < 0 ||
	    gnutls_psk_set_server_known_dh_params(tls->psk, GNUTLS_SEC_PARAM_MEDIUM) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	gnutls_psk_set_server_credentials_function2(tls->psk, user_key);
	return 0;
}

/* --- Priorities --------------------------------------------------------------- */

static int
priority_load(struct tls *tls, const struct tls_files *files, struct err *err)
{
	const char *text = files->priority, *at;
	const unsigned *versions;
	int n, ret;

	if (!text)
		text = tls->psk ? PRIORITY PRIORITY_PSK : PRIORITY;
	ret = gnutls_priority_init(&tls->priority, text, &at);
	if (ret < 0)
		return err_set(err, -EINVAL, "--tls-priority=%s: %s at '%s'", text,
			       gnutls_strerror(ret), at);
	n = gnutls_priority_protocol_list(tls->priority, &versions);
	for (int i = 0; i < n; i++)
		if (versions[i] != GNUTLS_TLS1_2 && versions[i] != GNUTLS_TLS1_3)
			return err_set(err, -EINVAL,
				       "--tls-priority=%s: would allow %s, but TLS 1.2 is the "
				       "oldest: begin with NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2",
				       text, gnutls_protocol_get_name(versions[i]));
	if (n == 0)
		return err_set(err, -EINVAL, "--tls-priority=%s: allows no version of TLS", text);
	return 0;
}

/* --- The whole ----------------------------------------------------------------- */

static void
tls_free(struct tls *tls)
{
	if (tls->x509)
		gnutls_certificate_free_credentials(tls->x509);
	if (tls->psk)
		gnutls_psk_free_server_credentials(tls->psk);
	if (tls->priority)
		gnutls_priority_deinit(tls->priority);
	tls_psk_release(&tls->users);
	tls_expiries_release(&tls->expiries);
	tls_crls_release(&tls->revoked);
	tls_certs_release(&tls->trusted);
	free(tls->crl);
	free(tls);
}

int
tls_load(struct tls **tlsp, const struct tls_files *files, struct err *err)
{
	bool x509 = tls_wants_x509(files);
	struct tls *tls = calloc(1, sizeof(*tls));
	int ret = 0;

	if (!tls)
		return err_set(err, -ENOMEM, "out of memory");
	tls->refs = 1;
	tls->verify_peer = files->verify_peer;
	tls->any_purpose = files->any_purpose;
	if (tls->verify_peer && !x509)
		ret = err_set(err, -EINVAL, "--tls-verify-peer: needs certificates, see "
					    "--tls-certificates");
	else if (files->psk && x509 && !tls->verify_peer)
		ret = err_set(err, -EINVAL,
			      "--tls-psk: who has no key could still come in with certificates, "
			      "which nobody needs to show: add --tls-verify-peer");
	if (ret == 0 && x509)
		ret = x509_load(tls, files, err);
	if (ret == 0 && files->psk)
		ret = users_load(tls, files, err);
	if (ret == 0)
		ret = priority_load(tls, files, err);
	if (ret < 0) {
		tls_free(tls);
		err_prefix(err, "TLS");
		return ret;
	}
	*tlsp = tls;
	return 0;
}

int
tls_files_each(const struct tls_files *files, int (*fn)(const char *path, struct err *err),
	       struct err *err)
{
	const struct {
		const char *given, *name;
	} all[] = {
		{ files->cert, CERT_NAME }, { files->key, KEY_NAME }, { files->ca, CA_NAME },
		{ files->crl, CRL_NAME },
	};
	int ret = files->psk ? fn(files->psk, err) : 0;

	for (size_t i = 0; i < ARRAY_SIZE(all) && ret == 0; i++) {
		struct text text;

		ret = text_find(&text, files, all[i].given, all[i].name, err);
		if (ret == 0 && text.path)
			ret = fn(text.path, err);
		text_release(&text);
	}
	return ret;
}

struct tls *
tls_get(struct tls *tls)
{
	if (tls)
		__atomic_add_fetch(&tls->refs, 1, __ATOMIC_RELAXED);
	return tls;
}

void
tls_put(struct tls *tls)
{
	if (tls && __atomic_sub_fetch(&tls->refs, 1, __ATOMIC_ACQ_REL) == 0)
		tls_free(tls);
}

int
tls_check_successor(const struct tls *old, const struct tls *new, struct err *err)
{
	int ret;

	if (old->verify_peer && !new->verify_peer)
		return err_set(err, -EINVAL,
			       "TLS: no rule names a certificate any more, so whoever comes would "
			       "get in without one; add --tls-verify-peer, or, to have it so, start "
			       "the server anew");
	if (!old->crl)
		return 0;
	ret = tls_crls_check_successor(&old->revoked, &new->revoked, &new->trusted, err);
	return ret < 0 ? err_prefix(err, "TLS: %s", new->crl ? new->crl : old->crl) : 0;
}

void
tls_warn_of_expiry(const struct tls *tls)
{
	tls_expiries_warn(&tls->expiries);
}

/* --- Sessions ------------------------------------------------------------------ */

/* What a client's certificate must be for; without the extension it is for anything. */
static const gnutls_typed_vdata_st client_purpose = {
	.type = GNUTLS_DT_KEY_PURPOSE_OID,
	.data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT,
};

/* RFC 8879. Never offered; there is no telling what is in it before it is taken apart. */
#define COMPRESSED_CERTIFICATE 25

/*
 * What a message of the client's is held against before GnuTLS looks at it. A chain's
 * size, and how much is in it: what is in a certificate of 60 KiB, its signature still
 * unknown, takes up to 150 ms to look at, and in one of 15 KiB 20. How strong its keys
 * are: before the client's proof that it is its own, when it has been read. GnuTLS
 * verifies it, then or before; what it leaves to us, the purpose and whether the
 * client's names can be told, is last.
 */
static int
message_check(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming,
	      const gnutls_datum_t *message)
{
	const struct tls *tls = gnutls_session_get_ptr(session);
	int ret;

	if (!incoming)
		return 0;
	switch (type) {
	case GNUTLS_HANDSHAKE_CERTIFICATE_PKT:
		if (message->size > LIMIT_PEER_CHAIN_BYTES)
			return GNUTLS_E_HANDSHAKE_TOO_LARGE;
		return tls_message_check_values(message->data, message->size,
						gnutls_protocol_get_version(session) ==
							GNUTLS_TLS1_3);
	case COMPRESSED_CERTIFICATE:
		return GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET;
	case GNUTLS_HANDSHAKE_CERTIFICATE_VERIFY:
		return tls_peer_check_strength(session);
	case GNUTLS_HANDSHAKE_FINISHED:
		ret = tls->any_purpose ? 0 : tls_peer_check_purpose(session);
		return ret < 0 ? ret : tls_peer_check_names(session);
	default:
		return 0;
	}
}

int
tls_session_new(struct tls *tls, gnutls_session_t *sessionp)
{
	gnutls_session_t session;

	/* No tickets: who comes back shows who it is again. */
	if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) < 0)
		return -ENOMEM;
	gnutls_session_set_ptr(session, tls);
	if (gnutls_priority_set(session, tls->priority) < 0 ||
	    (tls->x509 &&
	     gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls->x509) < 0) ||
	    (tls->psk && gnutls_credentials_set(session, GNUTLS_CRD_PSK, tls->psk) < 0)) {
		gnutls_deinit(session);
		return -ENOMEM;
	}
	gnutls_handshake_set_max_packet_length(session, LIMIT_TLS_MESSAGE_BYTES);
	if (tls->verify_peer) {
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert2(
			session, (gnutls_typed_vdata_st *)&client_purpose, 1, 0);
		gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_PRE,
						   message_check);
	}
	*sessionp = session;
	return 0;
}
