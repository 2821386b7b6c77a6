/* SPDX-License-Identifier: MIT */
/*
 * access_rule.c - one rule of access.
 *
 * The path: access_rule_parse() takes word after word (word_next(), which
 * unquotes them in place), the right, subjects up to "on" (subject_parse()), and
 * exports up to the end. Each subject is held against those before it: one that
 * adds nothing, or that no client can be as well, is a mistake.
 *
 * The failures: bad() is where all of them pass, with the column.
 */
#include "access_rule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/access_dn.h"
#include "server/log.h"
#include "server/users.h"

struct parser {
	char *text;
	size_t len, at;
	const struct access_source *source;
	unsigned *column;
	struct err *err;
	char quoted[LOG_QUOTE_MAX]; /* for messages */
};

/* In the text, and a string: a NUL is behind it. */
struct word {
	char *text;
	size_t len;
	unsigned column;
	bool is_quoted; /* from its beginning */
};

static int bad(struct parser *p, unsigned column, const char *fmt, ...) printf_fn(3, 4);

static int
bad(struct parser *p, unsigned column, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->err->text, sizeof(p->err->text), fmt, ap);
	va_end(ap);
	p->err->code = -EINVAL;
	*p->column = column;
	return -EINVAL;
}

static int
bad_word(struct parser *p, const struct word *w, const char *what)
{
	return bad(p, w->column, "%s: %s", log_quote(p->quoted, w->text, w->len), what);
}

/* --- Words ------------------------------------------------------------------ */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static int
bad_control(struct parser *p)
{
	if (p->text[p->at] == '\r')
		return bad(p, (unsigned)p->at + 1,
			   "a carriage return: lines end in a newline alone");
	return bad(p, (unsigned)p->at + 1, "a character \\x%02x: can be written \"\\x%02x\"",
		   (unsigned char)p->text[p->at], (unsigned char)p->text[p->at]);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What a backslash in double quotes stands for, which *AT is moved behind. */
static int
escape(struct parser *p, char *c)
{
	size_t start = p->at;
	const char *s = p->text + start;
	size_t left = p->len - start;

	if (left >= 2 && (s[1] == '\\' || s[1] == '"')) {
		*c = s[1];
		p->at += 2;
		return 0;
	}
	if (left >= 4 && s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0) {
		*c = (char)(hex_digit(s[2]) << 4 | hex_digit(s[3]));
		p->at += 4;
		return *c ? 0 : bad(p, (unsigned)start + 1, "\\x00: no text has a NUL in it");
	}
	return bad(p, (unsigned)start + 1,
		   "a backslash: in double quotes there are \\\\, \\\" and \\xNN; in single ones "
		   "it is a backslash");
}

/* From a quote to behind the one that ends it; the text goes to *OUT. */
static int
unquote(struct parser *p, char **out)
{
	unsigned column = (unsigned)p->at + 1;
	char quote = p->text[p->at++];

	while (p->at < p->len && p->text[p->at] != quote) {
		char c = p->text[p->at];
		int ret;

		if (is_control(c))
			return bad_control(p);
		if (c != '\\' || quote == '\'')
			p->at++;
		else if ((ret = escape(p, &c)) < 0)
			return ret;
		*(*out)++ = c;
	}
	if (p->at == p->len)
		return bad(p, column, "a quote that does not end");
	p->at++;
	if (p->at < p->len && !is_blank(p->text[p->at]))
		return bad(p, (unsigned)p->at + 1,
			   "behind the end of a quote: must be a blank; the other kind of quote "
			   "can hold this one");
	return 0;
}

/* 1 and a word; 0 at the end. */
static int
word_next(struct parser *p, struct word *w)
{
	bool may_quote = true, had_equals = false;
	char *out;

	while (p->at < p->len && is_blank(p->text[p->at]))
		p->at++;
	if (p->at == p->len || p->text[p->at] == '#')
		return 0;
	w->text = out = p->text + p->at;
	w->column = (unsigned)p->at + 1;
	w->is_quoted = *out == '"' || *out == '\'';
	while (p->at < p->len && !is_blank(p->text[p->at])) {
		char c = p->text[p->at];

		if (c == '"' || c == '\'') {
			int ret;

			if (!may_quote)
				return bad(p, (unsigned)p->at + 1,
					   "a quote in the middle of a word: must be at its "
					   "beginning, or behind its first =");
			ret = unquote(p, &out);
			if (ret < 0)
				return ret;
			break;
		}
		if (is_control(c))
			return bad_control(p);
		if (c == '#' || c == '\\')
			return bad(p, (unsigned)p->at + 1,
				   "%c in a word: must be inside quotes, as in '%c'%s", c, c,
				   c == '#' ? "; a comment has a blank before it" : "");
		may_quote = c == '=' && !had_equals;
		had_equals |= c == '=';
		*out++ = c;
		p->at++;
	}
	w->len = (size_t)(out - w->text);
	/* What is overwritten is read, or it is the byte behind the text. */
	if (p->at < p->len)
		p->at++;
	*out = '\0';
	return 1;
}

static bool
word_is(const struct word *w, const char *text)
{
	return !w->is_quoted && strcmp(w->text, text) == 0;
}

/* --- Subjects --------------------------------------------------------------- */

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;

	return memcmp(a, b, bits / 8) == 0 &&
	       (rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0);
}

/* IPv4 in IPv6: ::ffff:0:0/96. */
static bool
is_mapped(const uint8_t *addr)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(addr, prefix, sizeof(prefix)) == 0;
}

/* Digits alone, without leading zeroes; -1: it is no such number up to MAX. */
static int64_t
number_of(const char *text, uint32_t max)
{
	uint64_t n = 0;

	if (text[0] == '0' && text[1])
		return -1;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return -1;
		n = n * 10 + (unsigned)(*c - '0');
		if (n > max)
			return -1;
	}
	return *text ? (int64_t)n : -1;
}

static int
uid_parse(struct parser *p, const struct word *w, const char *value, struct access_subject *s)
{
	const bool is_user = s->kind == SUBJECT_UID;
	int64_t n = number_of(value, UINT32_MAX - 1);
	int ret = 0;

	if (n >= 0)
		s->number = (uint32_t)n;
	else
		ret = users_find(is_user ? USERS_USER : USERS_GROUP, value, &s->number);
	if (ret == -EPERM)
		return bad_word(p, w, is_user ?
				"must be a number, or a user whom a rule named at the start" :
				"must be a number, or a group that a rule named at the start");
	if (ret < 0)
		return bad_word(p, w, is_user ? "must be the number or the name of a user" :
						"must be the number or the name of a group");
	return 0;
}

/* Zeroes what is behind the prefix; whether it was zero. */
static bool
mask(uint8_t *addr, unsigned bits)
{
	bool was = true;

	for (unsigned i = bits; i < 128; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8);

		was &= !(addr[i / 8] & bit);
		addr[i / 8] &= (uint8_t)~bit;
	}
	return was;
}

static int
ip_parse(struct parser *p, const struct word *w, char *value, struct access_subject *s)
{
	char *slash = strchr(value, '/');
	bool is_ip4 = !strchr(value, ':');
	unsigned max = is_ip4 ? 32 : 128, bits = max;
	uint8_t addr[16] = { 0 };

	if (slash) {
		int64_t n = number_of(slash + 1, max);

		if (n < 0)
			return bad_word(p, w, is_ip4 ? "the prefix must be a number from 0 to 32" :
						       "the prefix must be a number from 0 to 128");
		bits = (unsigned)n;
		*slash = '\0';
	}
	if (inet_pton(is_ip4 ? AF_INET : AF_INET6, value, addr) != 1) {
		if (slash)
			*slash = '/';
		return bad_word(p, w, "must be an address or a prefix, such as 192.0.2.1, "
				      "10.0.0.0/8, 2001:db8::1 or fd00::/8");
	}
	if (slash)
		*slash = '/';
	if (!mask(addr, bits)) {
		char text[INET6_ADDRSTRLEN + 64], whole[INET6_ADDRSTRLEN];

		inet_ntop(is_ip4 ? AF_INET : AF_INET6, addr, whole, sizeof(whole));
		snprintf(text, sizeof(text), "has bits behind its prefix; write ip=%s/%u", whole,
			 bits);
		return bad_word(p, w, text);
	}
	if (!is_ip4 && is_mapped(addr) && bits >= 96) {
		is_ip4 = true;
		memmove(addr, addr + 12, 4);
		memset(addr + 4, 0, 12);
		bits -= 96;
	}
	s->kind = is_ip4 ? SUBJECT_IP4 : SUBJECT_IP6;
	memcpy(s->ip.addr, addr, sizeof(addr));
	s->ip.bits = bits;
	return 0;
}

static int
vsock_parse(struct parser *p, const struct word *w, const char *value, struct access_subject *s)
{
	int64_t n = number_of(value, UINT32_MAX - 1);

	if (n < 0)
		return bad_word(p, w, "must be a context id, a number up to 4294967294");
	s->number = (uint32_t)n;
	return 0;
}

/* 64 digits, or 32 pairs with colons between them, in either case. */
static int
fingerprint_parse(struct parser *p, const struct word *w, const char *value,
		  struct access_subject *s)
{
	bool colons = strchr(value, ':');
	size_t i;

	for (i = 0; i < sizeof(s->digest); i++) {
		int high, low;

		if (colons && i > 0 && *value++ != ':')
			break;
		if ((high = hex_digit(value[0])) < 0 || (low = hex_digit(value[1])) < 0)
			break;
		s->digest[i] = (uint8_t)(high << 4 | low);
		value += 2;
	}
	if (i < sizeof(s->digest) || *value)
		return bad_word(p, w, "must be 64 hexadecimal digits, or 32 pairs with colons "
				      "between them");
	return 0;
}

static int
text_parse(struct parser *p, const struct word *w, char *value, struct access_subject *s)
{
	char why[ACCESS_DN_WHY_MAX];

	if (!*value)
		return bad_word(p, w, "must have something behind it");
	if (s->kind == SUBJECT_DN && !access_dn_is_canonical(value, why))
		return bad(p, w->column, "%s: no certificate's name is written so, as "
					 "'CN=alice,O=Example\\, Inc.' is: %s",
			   log_quote(p->quoted, w->text, w->len), why);
	if (s->kind == SUBJECT_DN)
		access_dn_sort(value);
	s->text = (struct access_text){ .data = value, .len = strlen(value) };
	return 0;
}

static int
subject_parse(struct parser *p, const struct word *w, struct access_subject *s)
{
	static const struct {
		const char *prefix;
		enum access_kind kind;
	} table[] = {
		{ "uid=", SUBJECT_UID },
		{ "gid=", SUBJECT_GID },
		{ "ip=", SUBJECT_IP4 },
		{ "vsock=", SUBJECT_VSOCK },
		{ "dn=", SUBJECT_DN },
		{ "san=dns:", SUBJECT_SAN_DNS },
		{ "san=uri:", SUBJECT_SAN_URI },
		{ "fingerprint=sha256:", SUBJECT_FINGERPRINT },
		{ "psk=", SUBJECT_PSK },
	};

	s->kind = SUBJECT_ANY;
	if (word_is(w, "any") || word_is(w, "*"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(table) && !w->is_quoted; i++) {
		size_t len = strlen(table[i].prefix);
		char *value = w->text + len;

		if (strncmp(w->text, table[i].prefix, len) != 0)
			continue;
		s->kind = table[i].kind;
		switch (s->kind) {
		case SUBJECT_UID:
		case SUBJECT_GID:
			return uid_parse(p, w, value, s);
		case SUBJECT_IP4:
			return ip_parse(p, w, value, s);
		case SUBJECT_VSOCK:
			return vsock_parse(p, w, value, s);
		case SUBJECT_FINGERPRINT:
			return fingerprint_parse(p, w, value, s);
		default:
			return text_parse(p, w, value, s);
		}
	}
	return bad_word(p, w, "must be a client: any, uid=, gid=, ip=, vsock=, dn=, san=dns:, "
			      "san=uri:, fingerprint=sha256: or psk=");
}

static bool
text_equal(const struct access_text *a, const struct access_text *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Whether every client that fits B fits A. */
static bool
subject_covers(const struct access_subject *a, const struct access_subject *b)
{
	if (a->kind == SUBJECT_ANY)
		return true;
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case SUBJECT_UID:
	case SUBJECT_GID:
	case SUBJECT_VSOCK:
		return a->number == b->number;
	case SUBJECT_IP4:
	case SUBJECT_IP6:
		return a->ip.bits <= b->ip.bits &&
		       prefix_equal(a->ip.addr, b->ip.addr, a->ip.bits);
	case SUBJECT_FINGERPRINT:
		return memcmp(a->digest, b->digest, sizeof(a->digest)) == 0;
	default:
		return text_equal(&a->text, &b->text);
	}
}

/* Kinds of one group say where a client comes from, or who it is. */
static int
transport_of(enum access_kind kind)
{
	switch (kind) {
	case SUBJECT_UID:
	case SUBJECT_GID:
		return ACCESS_UNIX;
	case SUBJECT_IP4:
	case SUBJECT_IP6:
		return ACCESS_INET;
	case SUBJECT_VSOCK:
		return ACCESS_VSOCK;
	default:
		return ACCESS_UNKNOWN;
	}
}

static int
identity_of(enum access_kind kind)
{
	switch (kind) {
	case SUBJECT_DN:
	case SUBJECT_SAN_DNS:
	case SUBJECT_SAN_URI:
	case SUBJECT_FINGERPRINT:
		return ACCESS_X509;
	case SUBJECT_PSK:
		return ACCESS_PSK;
	default:
		return ACCESS_NOBODY;
	}
}

static bool
differ(int a, int b)
{
	return a && b && a != b;
}

/* Whether no client fits both of these, neither of which covers the other. */
static bool
subjects_exclude(const struct access_subject *a, const struct access_subject *b)
{
	if (differ(transport_of(a->kind), transport_of(b->kind)) ||
	    differ(identity_of(a->kind), identity_of(b->kind)))
		return true;
	switch (a->kind) {
	case SUBJECT_UID:
	case SUBJECT_VSOCK:
	case SUBJECT_DN:
	case SUBJECT_PSK:
	case SUBJECT_IP4:
	case SUBJECT_IP6:
		/* It has one of these, and of one kind; and prefixes that cross do not exist. */
		return transport_of(a->kind) == ACCESS_INET ? transport_of(b->kind) == ACCESS_INET :
							      a->kind == b->kind;
	default:
		return false;
	}
}

static int
subject_add(struct parser *p, const struct word *w, struct access_rule *rule)
{
	struct access_subject s;
	int ret;

	if (rule->nsubjects == LIMIT_ACCESS_SUBJECTS)
		return bad(p, w->column, "more than %u clients joined by \"and\"",
			   LIMIT_ACCESS_SUBJECTS);
	ret = subject_parse(p, w, &s);
	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < rule->nsubjects; i++) {
		const struct access_subject *before = &rule->subjects[i];

		if (subject_covers(before, &s) || subject_covers(&s, before))
			return bad_word(p, w, "this and an earlier one say no more than one of "
					      "them alone");
		if (subjects_exclude(before, &s))
			return bad_word(p, w, "no client is this and an earlier one");
	}
	rule->subjects[rule->nsubjects++] = s;
	return 0;
}

/* --- The rest of a rule ----------------------------------------------------- */

/* The names there are, as far as they fit. */
static void
names_text(struct parser *p, char *text, size_t size)
{
	const struct access_source *source = p->source;
	size_t len = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < source->nexports; i++) {
		const char *name = source->exports[i];
		int n = snprintf(text + len, size - len, "%s%s", i > 0 ? ", " : "",
				 log_quote(p->quoted, name, strlen(name)));

		if ((size_t)n >= size - len) {
			snprintf(text + len, size - len, "...");
			return;
		}
		len += (size_t)n;
	}
}

static int
export_add(struct parser *p, const struct word *w, struct access_rule *rule, unsigned before)
{
	const struct access_source *source = p->source;
	char names[240];

	if (rule->is_all || (word_is(w, "*") && before > 0))
		return bad_word(p, w, "* is all exports, and stands alone");
	if (word_is(w, "*")) {
		rule->is_all = true;
		for (unsigned i = 0; i < source->nexports; i++)
			rule->exports[i / 64] |= UINT64_C(1) << i % 64;
		return 0;
	}
	for (unsigned i = 0; i < source->nexports; i++) {
		uint64_t bit = UINT64_C(1) << i % 64;

		if (strcmp(source->exports[i], w->text) != 0)
			continue;
		if (rule->exports[i / 64] & bit)
			return bad_word(p, w, "is there twice");
		rule->exports[i / 64] |= bit;
		return 0;
	}
	names_text(p, names, sizeof(names));
	return bad(p, w->column, "there is no export %s, only %s%s",
		   log_quote(p->quoted, w->text, w->len), names,
		   strchr(w->text, ',') ? "; between names is a blank" : "");
}

static int
right_parse(struct parser *p, const struct word *w, enum access_right *right)
{
	static const char *const names[] = { "none", "list", "read", "write" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (word_is(w, names[i])) {
			*right = (enum access_right)i;
			return 0;
		}
	return bad_word(p, w, "must be a right: none, list, read or write");
}

/* One more word, which has to be there. */
static int
word_need(struct parser *p, struct word *w, const char *what)
{
	int ret = word_next(p, w);

	return ret ? ret : bad(p, (unsigned)p->at + 1, "the rule ends too early: %s", what);
}

int
access_rule_parse(struct access_rule *rule, char *text, size_t len, bool is_deny,
		  const struct access_source *source, unsigned *column, struct err *err)
{
	struct parser p = {
		.text = text, .len = len, .source = source, .column = column, .err = err,
	};
	struct word w;
	unsigned n = 0;
	int ret = word_next(&p, &w);

	if (ret <= 0)
		return ret < 0 ? ret : 1;
	*rule = (struct access_rule){ .right = ACCESS_NONE };
	if (!is_deny && ((ret = right_parse(&p, &w, &rule->right)) < 0 ||
			 (ret = word_need(&p, &w, "a client must follow, such as any")) < 0))
		return ret;
	for (;;) {
		if ((ret = subject_add(&p, &w, rule)) < 0 ||
		    (ret = word_need(&p, &w, "\"on\" and exports must follow, such as on *")) < 0)
			return ret;
		if (word_is(&w, "on"))
			break;
		if (!word_is(&w, "and"))
			return bad_word(&p, &w, "must be \"and\" before one more client, or "
						"\"on\" before exports");
		ret = word_need(&p, &w, "one more client must follow \"and\"");
		if (ret < 0)
			return ret;
	}
	ret = word_need(&p, &w, "names of exports must follow \"on\", or *");
	while (ret > 0) {
		ret = export_add(&p, &w, rule, n++);
		if (ret == 0)
			ret = word_next(&p, &w);
	}
	return ret;
}

/* --- Whom it fits ----------------------------------------------------------- */

static bool
in_group(const struct access_peer *peer, uint32_t gid)
{
	for (unsigned i = 0; i < peer->ngroups; i++)
		if (peer->groups[i] == gid)
			return true;
	return peer->gid == gid;
}

static bool
has_san(const struct access_peer *peer, enum access_san_type type, const struct access_text *name)
{
	for (unsigned i = 0; i < peer->nsans; i++)
		if (peer->sans[i].type == type && text_equal(&peer->sans[i].name, name))
			return true;
	return false;
}

static bool
subject_fits(const struct access_subject *s, const struct access_peer *peer)
{
	int transport = transport_of(s->kind), identity = identity_of(s->kind);

	if ((transport && transport != (int)peer->transport) ||
	    (identity && identity != (int)peer->identity))
		return false;
	switch (s->kind) {
	case SUBJECT_ANY:
		return true;
	case SUBJECT_UID:
		return peer->uid == s->number;
	case SUBJECT_GID:
		return in_group(peer, s->number);
	case SUBJECT_IP4:
	case SUBJECT_IP6:
		return peer->is_ip4 == (s->kind == SUBJECT_IP4) &&
		       prefix_equal(peer->ip, s->ip.addr, s->ip.bits);
	case SUBJECT_VSOCK:
		return peer->cid == s->number;
	case SUBJECT_DN:
		return text_equal(&peer->dn, &s->text);
	case SUBJECT_SAN_DNS:
		return has_san(peer, ACCESS_SAN_DNS, &s->text);
	case SUBJECT_SAN_URI:
		return has_san(peer, ACCESS_SAN_URI, &s->text);
	case SUBJECT_FINGERPRINT:
		return memcmp(peer->certificate_sha256, s->digest, sizeof(s->digest)) == 0 ||
		       memcmp(peer->key_sha256, s->digest, sizeof(s->digest)) == 0;
	case SUBJECT_PSK:
		return text_equal(&peer->psk, &s->text);
	}
	return false;
}

bool
access_rule_fits(const struct access_rule *rule, const struct access_peer *peer)
{
	for (unsigned i = 0; i < rule->nsubjects; i++)
		if (!subject_fits(&rule->subjects[i], peer))
			return false;
	return true;
}

bool
access_rule_covers(const struct access_rule *rule, const struct access_rule *other)
{
	for (unsigned i = 0; i < rule->nsubjects; i++) {
		bool covered = false;

		for (unsigned k = 0; k < other->nsubjects && !covered; k++)
			covered = subject_covers(&rule->subjects[i], &other->subjects[k]);
		if (!covered)
			return false;
	}
	return true;
}

bool
access_rule_fits_nobody(const struct access_rule *rule, bool over_ip)
{
	for (unsigned i = 0; i < rule->nsubjects; i++) {
		int transport = transport_of(rule->subjects[i].kind);

		if (identity_of(rule->subjects[i].kind) != ACCESS_NOBODY ||
		    (over_ip && transport && transport != ACCESS_INET))
			return false;
	}
	return true;
}

bool
access_rule_names(const struct access_rule *rule, enum access_identity identity)
{
	for (unsigned i = 0; i < rule->nsubjects; i++)
		if (identity_of(rule->subjects[i].kind) == (int)identity)
			return true;
	return false;
}

/* --- Clients ---------------------------------------------------------------- */

void
access_peer_set_ip(struct access_peer *peer, const void *addr, size_t len)
{
	invariant(len == 4 || len == 16);
	peer->transport = ACCESS_INET;
	memset(peer->ip, 0, sizeof(peer->ip));
	peer->is_ip4 = len == 4 || is_mapped(addr);
	if (len == 16 && peer->is_ip4)
		memcpy(peer->ip, (const uint8_t *)addr + 12, 4);
	else
		memcpy(peer->ip, addr, len);
}
