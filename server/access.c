/* SPDX-License-Identifier: MIT */
/*
 * access.c - the list of rules: reading, proving, asking; see access.h.
 *
 * The path: access_load() reads the rules of the command line, then the file,
 * line by line (access_rule.c), and holds each against those before it from the
 * same place, rule_reached(). access_judge() goes through the list once for a
 * client and all exports.
 */
#include "access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/access_rule.h"
#include "server/limits.h"
#include "server/log.h"

_Static_assert(LIMIT_ACCESS_RULES < ACCESS_NO_RULE, "a verdict is the number of a rule");
_Static_assert(LIMIT_EXPORTS % 64 == 0, "a rule's bits are whole words");

struct access {
	struct access_rule *rules;
	unsigned nrules;
	unsigned nexports;
	const char *path; /* or NULL */
	char **texts;	  /* that rules point into */
	unsigned ntexts;
};

static int
no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* --- Names of rules --------------------------------------------------------- */

/* What is too long loses the beginning of its path, or the end of its rule. */
static const char *
rule_where(const struct access *a, const struct access_rule *rule, char *buf)
{
	const struct access_line *option = rule->option;

	if (option) {
		snprintf(buf, ACCESS_WHERE_MAX, "--%s=%s", option->is_deny ? "deny" : "allow",
			 option->text);
	} else {
		size_t len = strlen(a->path), most = ACCESS_WHERE_MAX - 16;

		snprintf(buf, ACCESS_WHERE_MAX, "%s:%u", a->path + (len > most ? len - most : 0),
			 rule->line);
	}
	return buf;
}

const char *
access_where(const struct access *a, uint16_t verdict, char *buf)
{
	if (verdict != ACCESS_NO_RULE)
		return rule_where(a, &a->rules[verdict], buf);
	snprintf(buf, ACCESS_WHERE_MAX, "none fits");
	return buf;
}

/* --- Proving ---------------------------------------------------------------- */

static bool
same_place(const struct access_rule *a, const struct access_rule *b)
{
	return !a->option == !b->option;
}

/* EARLIER leaves nothing of export E to RULE. */
static bool
decides_before(const struct access_rule *earlier, const struct access_rule *rule, unsigned e)
{
	return earlier->exports[e / 64] & UINT64_C(1) << e % 64 && same_place(earlier, rule) &&
	       access_rule_covers(earlier, rule);
}

static bool
share_exports(const struct access_rule *a, const struct access_rule *b)
{
	for (unsigned i = 0; i < ACCESS_EXPORT_WORDS; i++)
		if (a->exports[i] & b->exports[i])
			return true;
	return false;
}

/* RULE is never asked about an export of it, because EARLIER is. */
static int
unreached(const struct access *a, const struct access_rule *rule, const struct access_rule *earlier,
	  struct err *err)
{
	bool same = access_rule_covers(rule, earlier);
	char where[ACCESS_WHERE_MAX];

	rule_where(a, earlier, where);
	if (same && rule->right == earlier->right)
		return err_set(err, -EINVAL, "says again what is said before: %s", where);
	if (same)
		return err_set(err, -EINVAL, "contradicts an earlier rule, which decides: %s",
			       where);
	return err_set(err, -EINVAL,
		       "is never reached, an earlier rule has all its clients: %s; the narrower "
		       "rule goes first",
		       where);
}

/* Whether the last rule has something left to decide, of each export that it names. */
static int
rule_reached(const struct access *a, const struct access_source *source, struct err *err)
{
	const struct access_rule *rule = &a->rules[a->nrules - 1], *by = NULL;
	uint64_t gone[ACCESS_EXPORT_WORDS] = { 0 };
	char quoted[LOG_QUOTE_MAX];
	bool any_left = false;

	for (unsigned i = 0; i < a->nrules - 1; i++) {
		const struct access_rule *earlier = &a->rules[i];

		if (!same_place(earlier, rule) || !share_exports(earlier, rule) ||
		    !access_rule_covers(earlier, rule))
			continue;
		if (!by)
			by = earlier;
		for (unsigned k = 0; k < ACCESS_EXPORT_WORDS; k++)
			gone[k] |= earlier->exports[k];
	}
	for (unsigned k = 0; k < ACCESS_EXPORT_WORDS; k++)
		any_left |= rule->exports[k] & ~gone[k];
	if (!by || (any_left && rule->is_all))
		return 0;
	if (!any_left)
		return unreached(a, rule, by, err);
	/* One that it names, and another rule decides about. */
	for (unsigned e = 0; e < a->nexports; e++) {
		const char *name = source->exports[e];

		if (!(rule->exports[e / 64] & gone[e / 64] & UINT64_C(1) << e % 64))
			continue;
		while (!decides_before(by, rule, e))
			by++;
		unreached(a, rule, by, err);
		return err_prefix(err, "export %s", log_quote(quoted, name, strlen(name)));
	}
	return 0; /* UNTESTED: BY shares an export */
}

/* --- Reading ---------------------------------------------------------------- */

/* Room for one more rule, zeroed. */
static struct access_rule *
rule_new(struct access *a, struct err *err)
{
	struct access_rule *rules;

	if (a->nrules == LIMIT_ACCESS_RULES) {
		err_set(err, -EINVAL, "more than %u rules", LIMIT_ACCESS_RULES);
		return NULL;
	}
	/* In steps of doubling. */
	if ((a->nrules & (a->nrules - 1)) == 0) {
		size_t room = a->nrules ? 2 * (size_t)a->nrules : 1;

		rules = realloc(a->rules, room * sizeof(*rules));
		if (!rules) {
			no_memory(err);
			return NULL;
		}
		a->rules = rules;
	}
	a->rules[a->nrules] = (struct access_rule){ 0 };
	return &a->rules[a->nrules++];
}

/* Keeps TEXT, which is the list's in any case. */
static int
text_keep(struct access *a, char *text, struct err *err)
{
	char **texts = text ? realloc(a->texts, (a->ntexts + 1) * sizeof(*texts)) : NULL;

	if (!texts) {
		free(text);
		return no_memory(err);
	}
	a->texts = texts;
	a->texts[a->ntexts++] = text;
	return 0;
}

static int
line_add(struct access *a, const struct access_line *option, const struct access_source *source,
	 struct err *err)
{
	struct access_rule *rule, parsed;
	char *text = strdup(option->text);
	char where[ACCESS_WHERE_MAX];
	unsigned column = 0;
	int ret = text_keep(a, text, err);

	if (ret < 0)
		return ret;
	ret = access_rule_parse(&parsed, text, strlen(option->text), option->is_deny, source,
				&column, err);
	if (ret < 0)
		err_prefix(err, "column %u", column);
	if (ret == 1)
		ret = err_set(err, -EINVAL, "is empty: must be a rule, such as '%s'",
			      option->is_deny ? "uid=1000 on *" : "read any on *");
	if (ret == 0) {
		rule = rule_new(a, err);
		if (!rule)
			return err->code;
		*rule = parsed;
		rule->option = option;
		ret = rule_reached(a, source, err);
	}
	parsed.option = option;
	return ret < 0 ? err_prefix(err, "%s", rule_where(a, &parsed, where)) : 0;
}

/* All of the file, and a byte behind it. */
static int
file_read(const char *path, char **textp, size_t *lenp, struct err *err)
{
	/* A pipe would be empty when it is read again, and might make us wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), ret;
	struct stat st;
	size_t len = 0;
	char *text;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	ret = -EINVAL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		err_set(err, ret, "%s: must be a regular file", path);
		goto close_fd;
	}
	if (st.st_mode & S_IWOTH) {
		err_set(err, ret, "%s: everybody may write it: chmod o-w", path);
		goto close_fd;
	}
	text = malloc(LIMIT_ACCESS_BYTES + 1);
	if (!text) {
		ret = no_memory(err);
		goto close_fd;
	}
	for (;;) {
		ssize_t n = read(fd, text + len, LIMIT_ACCESS_BYTES + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ret = err_set(err, -errno, "%s: %s", path, strerror(errno));
			goto free_text;
		}
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > LIMIT_ACCESS_BYTES) {
			err_set(err, ret, "%s: is larger than %u bytes", path, LIMIT_ACCESS_BYTES);
			goto free_text;
		}
	}
	close(fd);
	*textp = text;
	*lenp = len;
	return 0;

free_text:
	free(text);
close_fd:
	close(fd);
	return ret;
}

static int
file_add(struct access *a, const struct access_source *source, struct err *err)
{
	unsigned line = 0, before = a->nrules;
	char *text = NULL, *at;
	size_t left = 0;
	int ret = file_read(a->path, &text, &left, err);

	if (ret < 0 || (ret = text_keep(a, text, err)) < 0)
		return ret;
	for (at = text; left > 0;) {
		char *end = memchr(at, '\n', left);
		size_t len = end ? (size_t)(end - at) : left;
		struct access_rule *rule, parsed;
		unsigned column = 0;

		line++;
		/* What is written just now may end anywhere, in the middle of a name, too. */
		if (!end)
			return err_set(err, -EINVAL,
				       "%s:%u: the last line has no newline: is the file whole?",
				       a->path, line);
		ret = access_rule_parse(&parsed, at, len, false, source, &column, err);
		if (ret < 0)
			return err_prefix(err, "%s:%u:%u", a->path, line, column);
		at += len + 1;
		left -= len + 1;
		if (ret == 1)
			continue;
		rule = rule_new(a, err);
		if (!rule)
			return err_prefix(err, "%s:%u", a->path, line);
		*rule = parsed;
		rule->line = line;
		if ((ret = rule_reached(a, source, err)) < 0)
			return err_prefix(err, "%s:%u", a->path, line);
	}
	if (a->nrules == before)
		return err_set(err, -EINVAL,
			       "%s: has no rule; to keep everybody out write: none any on *",
			       a->path);
	return 0;
}

int
access_load(struct access **accessp, const struct access_source *source, struct err *err)
{
	struct access *a = calloc(1, sizeof(*a));
	int ret = 0;

	if (!a)
		return no_memory(err);
	invariant(source->nexports <= LIMIT_EXPORTS);
	a->nexports = source->nexports;
	a->path = source->path;
	for (unsigned i = 0; i < source->nlines && ret == 0; i++)
		ret = line_add(a, &source->lines[i], source, err);
	if (ret == 0 && source->path)
		ret = file_add(a, source, err);
	if (ret < 0) {
		access_free(a);
		return ret;
	}
	*accessp = a;
	return 0;
}

void
access_free(struct access *a)
{
	if (!a)
		return;
	for (unsigned i = 0; i < a->ntexts; i++)
		free(a->texts[i]);
	free(a->texts);
	free(a->rules);
	free(a);
}

/* --- Asking ----------------------------------------------------------------- */

unsigned
access_count(const struct access *a)
{
	return a->nrules;
}

void
access_judge(const struct access *a, const struct access_peer *peer, uint16_t *verdicts)
{
	uint64_t open[ACCESS_EXPORT_WORDS];

	for (unsigned e = 0; e < a->nexports; e++)
		verdicts[e] = ACCESS_NO_RULE;
	memset(open, 0xff, sizeof(open));
	for (unsigned i = 0; i < a->nrules; i++) {
		const struct access_rule *rule = &a->rules[i];

		if (!access_rule_fits(rule, peer))
			continue;
		for (unsigned k = 0; k < ACCESS_EXPORT_WORDS; k++) {
			uint64_t bits = rule->exports[k] & open[k];

			open[k] &= ~bits;
			for (; bits; bits &= bits - 1)
				verdicts[k * 64 + (unsigned)__builtin_ctzll(bits)] = (uint16_t)i;
		}
	}
}

enum access_right
access_right_of(const struct access *a, uint16_t verdict)
{
	return verdict == ACCESS_NO_RULE ? ACCESS_NONE : a->rules[verdict].right;
}

uint16_t
access_naming(const struct access *a, enum access_identity identity)
{
	for (unsigned i = 0; i < a->nrules; i++)
		if (access_rule_names(&a->rules[i], identity))
			return (uint16_t)i;
	return ACCESS_NO_RULE;
}

bool
access_admits_nobody(const struct access *a, unsigned export, bool over_ip)
{
	for (unsigned i = 0; i < a->nrules; i++) {
		const struct access_rule *rule = &a->rules[i];

		if (rule->right >= ACCESS_READ &&
		    rule->exports[export / 64] & UINT64_C(1) << export % 64 &&
		    access_rule_fits_nobody(rule, over_ip))
			return true;
	}
	return false;
}

void
access_peer_release(struct access_peer *peer)
{
	for (unsigned i = 0; i < peer->nsans; i++)
		free(peer->sans[i].name.data);
	free(peer->sans);
	free(peer->groups);
	free(peer->dn.data);
	free(peer->psk.data);
	*peer = (struct access_peer){ 0 };
}
