/* SPDX-License-Identifier: MIT */
/*
 * access.h - who may do what with which export: the rule list.
 *
 * A rule is RIGHT SUBJECT [and SUBJECT...] on EXPORT..., one a line; the grammar
 * is in blkgate-security(7), and access_rule.c reads it.
 *
 * 1. The first rule decides whose subjects all fit the client and that has the
 *    export; if none does the right is none. First, because the answer to "why"
 *    is then one line, which the log can name, and because the mistake that this
 *    invites, a rule behind a wider one, can be proved from the list alone: it is
 *    an error. "The most specific wins" has no such proof, nor an answer to which
 *    of uid=0 and ip=10.0.0.0/8 is the more specific.
 * 2. The lines of the command line come before those of the file, and may
 *    override them; within one of these a rule, or an export that a rule names,
 *    that earlier ones leave nothing of is an error, and so is a rule that no
 *    client can fit.
 * 3. Everything is compared byte by byte and with its length: no text with a NUL
 *    in it fits any rule, and nothing is folded, trimmed or matched in part.
 * 4. A list is constant from access_load() to access_free(); any thread may ask.
 *
 * Pure, but for the file and the names of users and groups that access_load()
 * looks up.
 */
#ifndef SERVER_ACCESS_H
#define SERVER_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"
#include "blk/err.h"

/* Each has what is before it. */
enum access_right {
	ACCESS_NONE,  /* the export does not exist */
	ACCESS_LIST,  /* LIST shows it, INFO and LIST_META_CONTEXT tell of it */
	ACCESS_READ,  /* it can be entered, and is read-only */
	ACCESS_WRITE, /* all that the export itself allows */
};

/* --- Clients ------------------------------------------------------------------ */

enum access_transport {
	ACCESS_UNKNOWN, /* pipes: fits no subject but `any` */
	ACCESS_UNIX,
	ACCESS_INET,
	ACCESS_VSOCK,
};

/* What TLS has proved; ACCESS_NOBODY also with TLS but without a certificate. */
enum access_identity { ACCESS_NOBODY, ACCESS_X509, ACCESS_PSK };

/* Bytes; a NUL is one of them. */
struct access_text {
	char *data;
	size_t len;
};

enum access_san_type { ACCESS_SAN_DNS, ACCESS_SAN_URI };

struct access_san {
	enum access_san_type type;
	struct access_text name;
};

/*
 * A client. Zeroed it is one of whom nothing is known. Whoever fills it in gives
 * it memory of malloc(), which access_peer_release() frees.
 */
struct access_peer {
	enum access_transport transport;
	/* ACCESS_UNIX: as of the connect(), SO_PEERCRED and SO_PEERGROUPS. */
	uint32_t uid, gid;
	uint32_t *groups; /* the supplementary ones */
	unsigned ngroups;
	/* ACCESS_INET: by access_peer_set_ip(). */
	bool is_ip4;
	uint8_t ip[16]; /* an IPv4 address in the first four */
	/* ACCESS_VSOCK. */
	uint32_t cid;

	enum access_identity identity;
	/*
	 * ACCESS_X509: of the client's own certificate, the first of its chain, once
	 * all of it has been verified. The DN is the subject as RFC 4514 writes it,
	 * the last RDN first, without blanks around separators; none if it is empty.
	 */
	struct access_text dn;
	struct access_san *sans; /* of the types above; others are left out */
	unsigned nsans;
	uint8_t certificate_sha256[32]; /* of its DER encoding */
	uint8_t key_sha256[32];		/* of the DER of its SubjectPublicKeyInfo */
	/* ACCESS_PSK: the user whose key was used. */
	struct access_text psk;
};

/* An address of 4 or 16 bytes; an IPv4 address in an IPv6 one counts as IPv4. */
void access_peer_set_ip(struct access_peer *peer, const void *addr, size_t len);

/* Frees what it has, and zeroes it: nothing is known of the client any more. */
void access_peer_release(struct access_peer *peer);

/* --- Lists -------------------------------------------------------------------- */

struct access;

/* A rule of the command line. */
struct access_line {
	bool is_deny; /* --deny: without its right, which is none */
	const char *text;
};

/*
 * Where rules come from, and the exports by whose places in EXPORTS verdicts are told.
 * What LINES and PATH point to lasts as long as the list.
 */
struct access_source {
	const char *const *exports;
	unsigned nexports; /* at most LIMIT_EXPORTS */
	const struct access_line *lines;
	unsigned nlines;
	const char *path; /* or NULL */
};

/*
 * Reads and checks all rules. -EINVAL with the option or FILE:LINE:COLUMN, the
 * word, and what would be right; -ENOMEM; an error of the file. Context: main, after
 * tls_init(): how certificates' names are written is for GnuTLS to say.
 */
int access_load(struct access **accessp, const struct access_source *source,
		struct err *err) no_co_fn;
void access_free(struct access *access);

/* How many rules there are. */
unsigned access_count(const struct access *access);

/* A verdict is the number of the rule that decides, from 0, or this. */
#define ACCESS_NO_RULE UINT16_MAX

/* What PEER may do with each of the exports, one verdict each. */
void access_judge(const struct access *access, const struct access_peer *peer, uint16_t *verdicts);

/* The right that a verdict comes to. */
enum access_right access_right_of(const struct access *access, uint16_t verdict);

/* Longest access_where() with its NUL. */
#define ACCESS_WHERE_MAX 256

/* For messages: the option, FILE:LINE, or that no rule fits, as it stands. Returns BUF. */
const char *access_where(const struct access *access, uint16_t verdict, char *buf);

/* The first rule that names a certificate (ACCESS_X509) or a PSK user; ACCESS_NO_RULE: none. */
uint16_t access_naming(const struct access *access, enum access_identity identity);

/*
 * Whether somebody who has proved nothing may read that export, perhaps; with OVER_IP,
 * somebody who comes over IP.
 */
bool access_admits_nobody(const struct access *access, unsigned export, bool over_ip);

/* Whether clients have to show one, or nobody could tell whether a rule fits them. */
static inline bool
access_names_certificates(const struct access *access)
{
	return access_naming(access, ACCESS_X509) != ACCESS_NO_RULE;
}

#endif
