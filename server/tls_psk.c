/* SPDX-License-Identifier: MIT */
/* tls_psk.c - users and their pre-shared keys; see tls_psk.h. */
#include "tls_psk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/annotate.h"
#include "server/limits.h"

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

static int
key_parse(struct tls_psk *psk, const char *hex, size_t len, unsigned line, struct err *err)
{
	for (size_t i = 0; i < len; i++)
		if (hex_digit(hex[i]) < 0)
			return err_set(err, -EINVAL,
				       "line %u: the key must be hexadecimal digits, byte %zu of it "
				       "is none",
				       line, i + 1);
	if (len % 2 || len / 2 < TLS_PSK_KEY_MIN || len / 2 > TLS_PSK_KEY_MAX)
		return err_set(err, -EINVAL,
			       "line %u: the key has %zu digits, it must be an even number of them "
			       "from %u to %u",
			       line, len, 2 * TLS_PSK_KEY_MIN, 2 * TLS_PSK_KEY_MAX);
	psk->key_len = len / 2;
	for (size_t i = 0; i < psk->key_len; i++)
		psk->key[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
	return 0;
}

static int
user_parse(struct tls_psk *psk, const char *user, size_t len, unsigned line, struct err *err)
{
	if (len == 0 || len > TLS_PSK_USER_MAX)
		return err_set(err, -EINVAL,
			       "line %u: the user's name has %zu bytes, it must have from 1 to %u",
			       line, len, TLS_PSK_USER_MAX);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)user[i] < ' ' || user[i] == 0x7f)
			return err_set(err, -EINVAL,
				       "line %u: byte %zu of the user's name is a control character",
				       line, i + 1);
	memcpy(psk->user, user, len);
	psk->user[len] = '\0';
	psk->user_len = len;
	return 0;
}

/* Room for one more. Not realloc(3): it would leave keys behind. */
static struct tls_psk *
grow(struct tls_psk_list *list)
{
	struct tls_psk *users = calloc(list->count + 1u, sizeof(*users));

	if (!users)
		return NULL;
	if (list->users) {
		memcpy(users, list->users, list->count * sizeof(*users));
		explicit_bzero(list->users, list->count * sizeof(*users));
		free(list->users);
	}
	list->users = users;
	return &users[list->count];
}

static int
line_parse(struct tls_psk_list *list, const char *text, size_t len, unsigned line,
	   struct err *err)
{
	const char *colon = memrchr(text, ':', len);
	struct tls_psk *psk;
	size_t user_len;
	int ret;

	if (!colon)
		return err_set(err, -EINVAL, "line %u: must be USER:KEY", line);
	user_len = (size_t)(colon - text);
	if (tls_psk_find(list, text, user_len))
		return err_set(err, -EINVAL, "line %u: the user has a key already", line);
	if (list->count == LIMIT_PSK_USERS)
		return err_set(err, -EINVAL, "line %u: at most %u users can have a key", line,
			       LIMIT_PSK_USERS);
	psk = grow(list);
	if (!psk)
		return err_set(err, -ENOMEM, "out of memory");
	if ((ret = user_parse(psk, text, user_len, line, err)) < 0 ||
	    (ret = key_parse(psk, colon + 1, len - user_len - 1, line, err)) < 0)
		return ret;
	list->count++;
	return 0;
}

int
tls_psk_parse(struct tls_psk_list *list, const char *text, size_t len, struct err *err)
{
	for (unsigned line = 1; len > 0; line++) {
		const char *end = memchr(text, '\n', len);
		size_t line_len = end ? (size_t)(end - text) : len;
		size_t whole = line_len + 1;
		int ret;

		/* Half a key may look like a whole one. */
		if (!end)
			return err_set(err, -EINVAL,
				       "line %u: has no newline: is the file whole?", line);
		if (line_len > 0 && text[line_len - 1] == '\r')
			line_len--;
		if (line_len > 0 && text[0] != '#') {
			ret = line_parse(list, text, line_len, line, err);
			if (ret < 0)
				return ret;
		}
		text += whole;
		len -= whole;
	}
	if (list->count == 0)
		return err_set(err, -EINVAL, "there is no user in it");
	return 0;
}

const struct tls_psk *
tls_psk_find(const struct tls_psk_list *list, const void *user, size_t len)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->users[i].user_len == len && memcmp(list->users[i].user, user, len) == 0)
			return &list->users[i];
	return NULL;
}

void
tls_psk_release(struct tls_psk_list *list)
{
	if (list->users)
		explicit_bzero(list->users, list->count * sizeof(*list->users));
	free(list->users);
	*list = (struct tls_psk_list){ 0 };
}
