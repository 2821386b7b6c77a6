/* SPDX-License-Identifier: MIT */
/* server_tls_psk.c - users and their keys: who is found, what is refused, what is left behind. */
#include "server/tls_psk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/limits.h"
#include "tests/lib/unit.h"

#define USERS 100000u
#define LINE_MAX 160u
#define KEY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct err err;

static int
parse(struct tls_psk_list *list, const char *text)
{
	*list = (struct tls_psk_list){ 0 };
	return tls_psk_parse(list, text, strlen(text), &err);
}

/* Refused, with this text. */
static void
refuses(const char *text, const char *wanted)
{
	struct tls_psk_list list;

	ck_assert_int_eq(parse(&list, text), -EINVAL);
	ck_assert_int_eq(err.code, -EINVAL);
	ck_assert_pstr_eq(err.text, wanted);
	tls_psk_release(&list);
	ck_assert_ptr_null(list.users);
}

/* --- Few -------------------------------------------------------------------- */

START_TEST(finds_exactly)
{
	static const char text[] = "# comment\n\nbob:" KEY "\r\nal:ice:" KEY KEY "\nalice:" KEY "\n"
				   "\xff\xfe:" KEY "\n";
	struct tls_psk_list list;
	const struct tls_psk *psk;

	ck_assert_int_eq(parse(&list, text), 0);
	ck_assert_uint_eq(list.count, 4);
	psk = tls_psk_find(&list, "bob", 3);
	ck_assert_ptr_nonnull(psk);
	ck_assert_uint_eq(psk->line, 3);
	ck_assert_uint_eq(psk->key_len, 32);
	ck_assert_int_eq(psk->key[0], 0);
	ck_assert_int_eq(psk->key[31], 0xff);
	psk = tls_psk_find(&list, "al:ice", 6);
	ck_assert_ptr_nonnull(psk);
	ck_assert_uint_eq(psk->key_len, 64);
	ck_assert_ptr_nonnull(tls_psk_find(&list, "alice", 5));
	ck_assert_ptr_nonnull(tls_psk_find(&list, "\xff\xfe", 2));

	ck_assert_ptr_null(tls_psk_find(&list, "bo", 2));
	ck_assert_ptr_null(tls_psk_find(&list, "bob", 4)); /* with the NUL */
	ck_assert_ptr_null(tls_psk_find(&list, "boc", 3));
	ck_assert_ptr_null(tls_psk_find(&list, "", 0));
	tls_psk_release(&list);
	ck_assert_ptr_null(tls_psk_find(&list, "bob", 3));
}
END_TEST

/* What a client sends may be of any length: none of it is cut. */
START_TEST(long_names)
{
	static char sent[(64u << 10) + 4];
	char text[TLS_PSK_USER_MAX + LINE_MAX], name[TLS_PSK_USER_MAX + 1];
	struct tls_psk_list list;

	memset(name, 'u', sizeof(name));
	memset(sent, 'b', sizeof(sent));
	snprintf(text, sizeof(text), "bbb:" KEY "\n%.*s:" KEY "\n", (int)TLS_PSK_USER_MAX, name);
	ck_assert_int_eq(parse(&list, text), 0);
	ck_assert_ptr_nonnull(tls_psk_find(&list, name, TLS_PSK_USER_MAX));
	ck_assert_ptr_null(tls_psk_find(&list, name, TLS_PSK_USER_MAX + 1));
	ck_assert_ptr_nonnull(tls_psk_find(&list, sent, 3));
	ck_assert_ptr_null(tls_psk_find(&list, sent, (64u << 10) + 3));
	tls_psk_release(&list);
	snprintf(text, sizeof(text), "%.*s:" KEY "\n", (int)TLS_PSK_USER_MAX + 1, name);
	refuses(text, "line 1: the user's name has 256 bytes, it must have from 1 to 255");
}
END_TEST

START_TEST(mistakes_have_lines)
{
	refuses("", "there is no user in it");
	refuses("# nobody\n\n", "there is no user in it");
	refuses("a:" KEY, "line 1: has no newline: is the file whole?");
	refuses("a:" KEY "\n# end", "line 2: has no newline: is the file whole?");
	refuses("a:" KEY "\n\nb\n", "line 3: must be USER:KEY");
	refuses(":" KEY "\n", "line 1: the user's name has 0 bytes, it must have from 1 to 255");
	refuses("a\x1b:" KEY "\n", "line 1: byte 2 of the user's name is a control character");
	refuses("a:" KEY "\nb:" KEY "x1\n",
		"line 2: the key must be hexadecimal digits, byte 65 of it is none");
	refuses("a:" KEY "0\n",
		"line 1: the key has 65 digits, it must be an even number of them from 64 to 128");
	refuses("a:" KEY KEY "00\n",
		"line 1: the key has 130 digits, it must be an even number of them from 64 to 128");
}
END_TEST

/* Wherever the two are, and of several pairs the one that a reader of the file meets first. */
START_TEST(names_only_once)
{
	refuses("a:" KEY "\na:" KEY "\n", "line 2: the user has a key already, in line 1");
	refuses("# who\nb:" KEY "\nzz:" KEY "\na:" KEY "\n\nzz:" KEY "\nb:" KEY "\nb:" KEY "\n",
		"line 6: the user has a key already, in line 3");
	refuses("b:" KEY "\nb:" KEY "\nb:" KEY "\n",
		"line 2: the user has a key already, in line 1");
}
END_TEST

/* --- Many ------------------------------------------------------------------- */

static size_t
name_of(char name[LINE_MAX], unsigned i)
{
	/* In no order, and of several lengths. */
	return (size_t)snprintf(name, LINE_MAX, "user%u", (i * 7919u) % USERS);
}

/* With N users; the one of line AGAIN, from 1, has the name of the first one. */
static char *
file_of(unsigned n, unsigned again, size_t *len)
{
	char *text = malloc((size_t)n * LINE_MAX), name[LINE_MAX];

	ck_assert_ptr_nonnull(text);
	*len = 0;
	for (unsigned i = 0; i < n; i++) {
		if (n > USERS)
			snprintf(name, sizeof(name), "u%u", i);
		else
			name_of(name, i + 1 == again ? 0 : i);
		*len += (size_t)snprintf(text + *len, LINE_MAX, "%s:%08x%s\n", name, i, KEY + 8);
	}
	return text;
}

START_TEST(hundred_thousand)
{
	struct tls_psk_list list = { 0 };
	char name[LINE_MAX];
	size_t len;
	char *text = file_of(USERS, 0, &len);

	ck_assert_int_eq(tls_psk_parse(&list, text, len, &err), 0);
	free(text);
	ck_assert_uint_eq(list.count, USERS);
	for (unsigned i = 0; i < USERS; i++) {
		const struct tls_psk *psk = tls_psk_find(&list, name, name_of(name, i));

		ck_assert_ptr_nonnull(psk);
		ck_assert_uint_eq(psk->line, i + 1);
		ck_assert_uint_eq((unsigned)psk->key[0] << 24 | (unsigned)psk->key[1] << 16 |
					  (unsigned)psk->key[2] << 8 | psk->key[3],
				  i);
	}
	ck_assert_ptr_null(tls_psk_find(&list, "user100000", 10));
	tls_psk_release(&list);
}
END_TEST

START_TEST(hundred_thousand_and_one_twice)
{
	struct tls_psk_list list = { 0 };
	size_t len;
	char *text = file_of(USERS, USERS, &len);

	ck_assert_int_eq(tls_psk_parse(&list, text, len, &err), -EINVAL);
	ck_assert_pstr_eq(err.text, "line 100000: the user has a key already, in line 1");
	free(text);
	tls_psk_release(&list);
}
END_TEST

START_TEST(too_many)
{
	struct tls_psk_list list = { 0 };
	size_t len;
	char *text = file_of(LIMIT_PSK_USERS + 1, 0, &len);

	ck_assert_int_eq(tls_psk_parse(&list, text, len, &err), -EINVAL);
	ck_assert_pstr_eq(err.text, "line 131073: at most 131072 users can have a key");
	ck_assert_ptr_null(list.users);
	/* One less is not. */
	for (len--; text[len - 1] != '\n'; len--)
		;
	ck_assert_int_eq(tls_psk_parse(&list, text, len, &err), 0);
	tls_psk_release(&list);
	free(text);
}
END_TEST

/* --- Afterwards ------------------------------------------------------------- */

#define MARK_LEN TLS_PSK_KEY_MIN
#define CHUNK (1u << 20)

static bool
is_inverted(const uint8_t *seen, const uint8_t inverted[MARK_LEN])
{
	for (unsigned i = 0; i < MARK_LEN; i++)
		if ((seen[i] ^ inverted[i]) != 0xff)
			return false;
	return true;
}

/* How often the key is in the private memory that this process can write to. */
static unsigned
copies_of(const uint8_t inverted[MARK_LEN])
{
	/* Shared, so that it is not looked for here. */
	uint8_t *seen = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	FILE *maps = fopen("/proc/self/maps", "r");
	int mem = open("/proc/self/mem", O_RDONLY);
	unsigned long from, to;
	unsigned found = 0;
	char line[512], mode[8];

	ck_assert(seen != MAP_FAILED && maps && mem >= 0);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strcmp(mode, "rw-p") != 0)
			continue;
		for (unsigned long at = from; at < to; at += CHUNK - MARK_LEN + 1) {
			ssize_t n = pread(mem, seen, MIN(to - at, CHUNK), (off_t)at);

			for (ssize_t i = 0; i + MARK_LEN <= n; i++)
				found += is_inverted(seen + i, inverted);
		}
	}
	close(mem);
	fclose(maps);
	munmap(seen, CHUNK);
	return found;
}

/* A user whose key the process knows only inverted, between some others, and then MORE. */
static char *
marked_file(uint8_t inverted[MARK_LEN], const char *more)
{
	size_t size = 64 * LINE_MAX, len = 0;
	char *text = malloc(size);

	ck_assert_ptr_nonnull(text);
	for (unsigned i = 0; i < 20; i++) {
		len += (size_t)snprintf(text + len, size - len, "user%u:", 20 - i);
		for (unsigned k = 0; k < MARK_LEN; k++) {
			inverted[k] = (uint8_t)(k * 37 + 11);
			len += (size_t)snprintf(text + len, size - len, "%02x",
						i == 10 ? (uint8_t)~inverted[k] : i);
		}
		text[len++] = '\n';
	}
	snprintf(text + len, size - len, "%s", more);
	return text;
}

/* Sorted or not, complete or not. */
START_TEST(nothing_left)
{
	static const char *const more[] = { "", "user7:" KEY "\n", "x:" KEY "x\n", "x\n" };

	if (UNIT_SANITIZED)
		return; /* it keeps what is freed, and has terabytes of its own */
	for (size_t i = 0; i < ARRAY_SIZE(more); i++) {
		uint8_t inverted[MARK_LEN];
		struct tls_psk_list list;
		char *text = marked_file(inverted, more[i]);

		ck_assert_int_eq(parse(&list, text), i == 0 ? 0 : -EINVAL);
		/* In the text it has digits. */
		ck_assert_uint_eq(copies_of(inverted), 1);
		tls_psk_release(&list);
		ck_assert_uint_eq(copies_of(inverted), 0);
		free(text);
	}
}
END_TEST

UNIT_MAIN(finds_exactly, long_names, mistakes_have_lines, names_only_once, hundred_thousand,
	  hundred_thousand_and_one_twice, too_many, nothing_left)
