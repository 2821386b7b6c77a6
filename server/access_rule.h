/* SPDX-License-Identifier: MIT */
/*
 * access_rule.h - one rule of access: reading it, and whom it fits; for access.c.
 *
 *	rule    = right subject { "and" subject } "on" export { export } .
 *	right   = "none" | "list" | "read" | "write" .
 *	subject = "any" | "*" | "uid=" id | "gid=" id | "ip=" address [ "/" bits ]
 *	        | "vsock=" cid | "dn=" text | "san=dns:" text | "san=uri:" text
 *	        | "fingerprint=sha256:" hex | "psk=" text .
 *	export  = "*" | text .
 *
 * 1. Words are separated by blanks; "#" before a word begins a comment. '...' is
 *    text as it stands, "..." has \\, \" and \xNN; a quote begins a word or what is
 *    behind its first "=", and ends it. Keywords are never quoted, so "*" in quotes
 *    is an export of that name.
 * 2. What is not quoted has no quote, backslash, "#" or control character in it.
 * 3. Context: main. Only names of users and groups are looked up.
 */
#ifndef SERVER_ACCESS_RULE_H
#define SERVER_ACCESS_RULE_H

#include "server/access.h"
#include "server/limits.h"

#define ACCESS_EXPORT_WORDS (LIMIT_EXPORTS / 64)

enum access_kind {
	SUBJECT_ANY,
	SUBJECT_UID,
	SUBJECT_GID,
	SUBJECT_IP4,
	SUBJECT_IP6,
	SUBJECT_VSOCK,
	SUBJECT_DN,
	SUBJECT_SAN_DNS,
	SUBJECT_SAN_URI,
	SUBJECT_FINGERPRINT,
	SUBJECT_PSK,
};

struct access_subject {
	enum access_kind kind;
	union {
		uint32_t number; /* UID, GID, VSOCK */
		struct {
			uint8_t addr[16]; /* IP4: four of them */
			unsigned bits;
		} ip;
		struct access_text text; /* DN, SAN_*, PSK */
		uint8_t digest[32];	 /* FINGERPRINT */
	};
};

struct access_rule {
	enum access_right right;
	unsigned nsubjects;
	struct access_subject subjects[LIMIT_ACCESS_SUBJECTS];
	uint64_t exports[ACCESS_EXPORT_WORDS]; /* bits, by their places */
	bool is_all;			       /* it says "*" */
	const struct access_line *option;      /* it comes from; NULL: of the file, */
	unsigned line;			       /* from 1 */
};

/*
 * Reads the LEN bytes of TEXT, which it changes, and keeps pointers into: RULE
 * lasts no longer. TEXT[LEN] is the text's, too. With IS_DENY the right is not
 * there, and none. 0; 1 for nothing but blanks and a comment; or -EINVAL, and
 * *COLUMN is where, from 1.
 */
int access_rule_parse(struct access_rule *rule, char *text, size_t len, bool is_deny,
		      const struct access_source *source, unsigned *column,
		      struct err *err) no_co_fn;

/* Whether all subjects of RULE fit PEER. */
bool access_rule_fits(const struct access_rule *rule, const struct access_peer *peer);

/* Whether RULE fits every client that OTHER fits, as far as their texts tell. */
bool access_rule_covers(const struct access_rule *rule, const struct access_rule *other);

/*
 * Whether RULE fits a client that has proved nothing, perhaps; with OVER_IP, one that
 * comes over IP.
 */
bool access_rule_fits_nobody(const struct access_rule *rule, bool over_ip);

/* Whether a subject of RULE is about that identity. */
bool access_rule_names(const struct access_rule *rule, enum access_identity identity);

#endif
