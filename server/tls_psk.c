/* SPDX-License-Identifier: MIT */
/*
 * tls_psk.c - users and their pre-shared keys; see tls_psk.h.
 *
 * The path, tls_psk_parse(): count the users; allocate for all of them; read each,
 * in the order of the file; sort; look for two of one name, which are neighbours now.
 *
 * 1. Names and keys lie behind the users, and no users' bytes exceed those of its
 *    line: so the text's length is room enough.
 * 2. qsort(3) copies what it sorts to where nobody wipes it: pointers, no keys.
 */
#include "tls_psk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/annotate.h"
#include "server/limits.h"

/* --- Lines ------------------------------------------------------------------ */

struct reader {
	const char *text;
	size_t left_bytes;
	unsigned line; /* that was read last, from 1 */
};

/* The next line that is about a user. 1: here it is; 0: there is none; -EINVAL. */
static int
reader_next(struct reader *r, const char **text, size_t *len, struct err *err)
{
	while (r->left_bytes > 0) {
		const char *line = r->text, *end = memchr(line, '\n', r->left_bytes);
		size_t line_len;

		r->line++;
		/* Half a key may look like a whole one. */
		if (!end)
			return err_set(err, -EINVAL,
				       "line %u: has no newline: is the file whole?", r->line);
		line_len = (size_t)(end - line);
		r->text = end + 1;
		r->left_bytes -= line_len + 1;
		if (line_len > 0 && line[line_len - 1] == '\r')
			line_len--;
		if (line_len == 0 || line[0] == '#')
			continue;
		*text = line;
		*len = line_len;
		return 1;
	}
	return 0;
}

static int
users_count(const char *text, size_t len, unsigned *count, struct err *err)
{
	struct reader r = { .text = text, .left_bytes = len };
	unsigned n = 0;
	int ret;

	while ((ret = reader_next(&r, &text, &len, err)) > 0)
		if (n++ == LIMIT_PSK_USERS)
			return err_set(err, -EINVAL, "line %u: at most %u users can have a key",
				       r.line, LIMIT_PSK_USERS);
	if (ret == 0 && n == 0)
		return err_set(err, -EINVAL, "there is no user in it");
	*count = n;
	return ret;
}

/* --- A user ----------------------------------------------------------------- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* What follows writes names and keys to ROOM, which is large enough, and moves it on. */
static int
key_parse(struct tls_psk *psk, const char *hex, size_t len, char **room, struct err *err)
{
	uint8_t *key = (uint8_t *)*room;

	for (size_t i = 0; i < len; i++)
		if (hex_digit(hex[i]) < 0)
			return err_set(err, -EINVAL,
				       "line %u: the key must be hexadecimal digits, byte %zu of it "
				       "is none",
				       psk->line, i + 1);
	if (len % 2 || len / 2 < TLS_PSK_KEY_MIN || len / 2 > TLS_PSK_KEY_MAX)
		return err_set(err, -EINVAL,
			       "line %u: the key has %zu digits, it must be an even number of them "
			       "from %u to %u",
			       psk->line, len, 2 * TLS_PSK_KEY_MIN, 2 * TLS_PSK_KEY_MAX);
	for (size_t i = 0; i < len / 2; i++)
		key[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
	psk->key = key;
	psk->key_len = (uint16_t)(len / 2);
	*room += psk->key_len;
	return 0;
}

static int
user_parse(struct tls_psk *psk, const char *user, size_t len, char **room, struct err *err)
{
	if (len == 0 || len > TLS_PSK_USER_MAX)
		return err_set(err, -EINVAL,
			       "line %u: the user's name has %zu bytes, it must have from 1 to %u",
			       psk->line, len, TLS_PSK_USER_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)user[i] < ' ' || user[i] == 0x7f)
			return err_set(err, -EINVAL,
				       "line %u: byte %zu of the user's name is a control character",
				       psk->line, i + 1);
	psk->user = memcpy(*room, user, len);
	psk->user_len = (uint16_t)len;
	*room += len;
	return 0;
}

static int
line_parse(struct tls_psk *psk, const char *text, size_t len, char **room, struct err *err)
{
	const char *colon = memrchr(text, ':', len);
	size_t user_len;
	int ret;

	if (!colon)
		return err_set(err, -EINVAL, "line %u: must be USER:KEY", psk->line);
	user_len = (size_t)(colon - text);
	ret = user_parse(psk, text, user_len, room, err);
	return ret < 0 ? ret : key_parse(psk, colon + 1, len - user_len - 1, room, err);
}

/* --- Order ------------------------------------------------------------------ */

static int
name_cmp(const void *ap, const void *bp)
{
	const struct tls_psk *a = ap, *b = bp;

	if (a->user_len != b->user_len)
		return a->user_len < b->user_len ? -1 : 1;
	return memcmp(a->user, b->user, a->user_len);
}

/* Those of one name as they are in the file. */
static int
name_line_cmp(const void *ap, const void *bp)
{
	const struct tls_psk *a = ap, *b = bp;
	int ret = name_cmp(a, b);

	return ret ? ret : a->line < b->line ? -1 : a->line > b->line;
}

/* The first line of the file that repeats a name is the one to tell of. */
static int
names_check(const struct tls_psk_list *list, struct err *err)
{
	const struct tls_psk *again = NULL;

	for (unsigned i = 1; i < list->count; i++)
		if (name_cmp(&list->users[i - 1], &list->users[i]) == 0 &&
		    (!again || list->users[i].line < again->line))
			again = &list->users[i];
	if (!again)
		return 0;
	return err_set(err, -EINVAL, "line %u: the user has a key already, in line %u", again->line,
		       again[-1].line);
}

/* --- The whole -------------------------------------------------------------- */

int
tls_psk_parse(struct tls_psk_list *list, const char *text, size_t len, struct err *err)
{
	struct reader r = { .text = text, .left_bytes = len };
	unsigned count;
	char *room;
	int ret = users_count(text, len, &count, err);

	if (ret < 0)
		return ret;
	list->size_bytes = count * sizeof(*list->users) + len;
	list->users = malloc(list->size_bytes);
	if (!list->users)
		return err_set(err, -ENOMEM, "out of memory");
	room = (char *)&list->users[count];
	while ((ret = reader_next(&r, &text, &len, err)) > 0) {
		struct tls_psk *psk = &list->users[list->count];

		*psk = (struct tls_psk){ .line = r.line };
		ret = line_parse(psk, text, len, &room, err);
		if (ret < 0)
			return ret;
		list->count++;
	}
	qsort(list->users, list->count, sizeof(*list->users), name_line_cmp);
	return names_check(list, err);
}

const struct tls_psk *
tls_psk_find(const struct tls_psk_list *list, const void *user, size_t len)
{
	const struct tls_psk wanted = { .user = user, .user_len = (uint16_t)len };

	if (list->count == 0 || len > TLS_PSK_USER_MAX)
		return NULL;
	return bsearch(&wanted, list->users, list->count, sizeof(*list->users), name_cmp);
}

void
tls_psk_release(struct tls_psk_list *list)
{
	if (list->users)
		explicit_bzero(list->users, list->size_bytes);
	free(list->users);
	*list = (struct tls_psk_list){ 0 };
}
