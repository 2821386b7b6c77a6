/* SPDX-License-Identifier: MIT */
/* client_text.c - what a server's strings become, sizes, URIs. */
#include "server/client/text.h"

#include "tests/lib/unit.h"

static char *written;
static size_t written_len;

static FILE *
out_open(void)
{
	FILE *out;

	free(written);
	written = NULL;
	out = open_memstream(&written, &written_len);
	ck_assert_ptr_nonnull(out);
	return out;
}

static const char *
quoted(const char *text)
{
	FILE *out = out_open();
	size_t columns = text_quote(out, text);

	fclose(out);
	ck_assert_uint_eq(columns, text_quote(NULL, text));
	return written;
}

static const char *
plain(const char *text)
{
	FILE *out = out_open();

	text_plain(out, text);
	fclose(out);
	return written;
}

static const char *
json(const char *text)
{
	FILE *out = out_open();

	text_json(out, text);
	fclose(out);
	return written;
}

START_TEST(quotes)
{
	text_init(true);
	ck_assert_str_eq(quoted(""), "\"\"");
	ck_assert_str_eq(quoted("plain text ~!"), "\"plain text ~!\"");
	ck_assert_str_eq(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
	ck_assert_str_eq(quoted("\x01\n\x1b[m\x7f"), "\"\\x01\\x0a\\x1b[m\\x7f\"");
	ck_assert_str_eq(quoted("\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80"),
			 "\"\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80\"");
	/* C1 controls, directions, what cannot be seen. */
	ck_assert_str_eq(quoted("\xc2\x9b"), "\"\\xc2\\x9b\"");
	ck_assert_str_eq(quoted("\xe2\x80\xae"), "\"\\xe2\\x80\\xae\"");
	ck_assert_str_eq(quoted("\xef\xbb\xbf"), "\"\\xef\\xbb\\xbf\"");
	ck_assert_str_eq(quoted("\xf3\xa0\x81\x81"), "\"\\xf3\\xa0\\x81\\x81\"");
	/* No UTF-8: alone, cut off, overlong, a surrogate, too large. */
	ck_assert_str_eq(quoted("\xff"), "\"\\xff\"");
	ck_assert_str_eq(quoted("\xe2\x82"), "\"\\xe2\\x82\"");
	ck_assert_str_eq(quoted("\xe2\x82x"), "\"\\xe2\\x82x\"");
	ck_assert_str_eq(quoted("\xc0\xaf"), "\"\\xc0\\xaf\"");
	ck_assert_str_eq(quoted("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"");
	ck_assert_str_eq(quoted("\xf4\x90\x80\x80"), "\"\\xf4\\x90\\x80\\x80\"");
	ck_assert_uint_eq(text_quote(NULL, "\xc3\xa9"), 3);
	ck_assert_uint_eq(text_quote(NULL, "\n\""), 2 + 4 + 2);
}
END_TEST

START_TEST(quotes_without_utf8)
{
	text_init(false);
	ck_assert_str_eq(quoted("a\xc3\xa9"), "\"a\\xc3\\xa9\"");
	ck_assert_str_eq(plain("\xc3\xa9"), "\\xc3\\xa9");
}
END_TEST

START_TEST(sentences)
{
	text_init(true);
	ck_assert_str_eq(plain(""), "");
	ck_assert_str_eq(plain("no \"x\"\n"), "no \"x\"\\x0a");
	ck_assert_str_eq(plain("a\\b"), "a\\\\b");
}
END_TEST

START_TEST(json_strings)
{
	text_init(false); /* is about the terminal */
	ck_assert_str_eq(json(NULL), "null");
	ck_assert_str_eq(json(""), "\"\"");
	ck_assert_str_eq(json("a\"b\\c/"), "\"a\\\"b\\\\c/\"");
	ck_assert_str_eq(json("\n\x1b\x7f"), "\"\\u000a\\u001b\\u007f\"");
	ck_assert_str_eq(json("\xc3\xa9\xf0\x9f\x98\x80"), "\"\xc3\xa9\xf0\x9f\x98\x80\"");
	ck_assert_str_eq(json("\xe2\x80\xae"), "\"\\u202e\"");
	ck_assert_str_eq(json("\xf3\xa0\x81\x81"), "\"\\udb40\\udc41\"");
	/* One for each byte that is no UTF-8. */
	ck_assert_str_eq(json("\xff"), "\"\\ufffd\"");
	ck_assert_str_eq(json("\xe2\x82x"), "\"\\ufffd\\ufffdx\"");
}
END_TEST

START_TEST(sizes)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1, "1 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1025, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 1587, "1.5 KiB" },
		{ 1588, "1.6 KiB" },
		{ 1023 * 1024, "1023 KiB" },
		{ (1 << 20) - 52, "1023.9 KiB" },
		{ (1 << 20) - 51, "1.0 MiB" },
		{ 1 << 20, "1 MiB" },
		{ (uint64_t)1 << 40, "1 TiB" },
		{ ((uint64_t)1 << 40) - 1, "1.0 TiB" },
		{ (uint64_t)7 << 60, "7 EiB" },
		{ INT64_MAX, "8.0 EiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char buf[TEXT_SIZE_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ck_assert_str_eq(text_size(buf, cases[i].bytes), cases[i].text);
}
END_TEST

START_TEST(uris)
{
	static const struct {
		const char *uri, *name, *result;
	} cases[] = {
		{ "nbd://host", "", "nbd://host/" },
		{ "nbd://host", "x", "nbd://host/x" },
		{ "nbd://host/", "x", "nbd://host/x" },
		{ "nbd://host:1/old/name", "x", "nbd://host:1/x" },
		{ "nbd+unix:///old?socket=/a/b", "x", "nbd+unix:///x?socket=/a/b" },
		{ "nbd+unix://?socket=/a/b", "x", "nbd+unix:///x?socket=/a/b" },
		{ "nbds://me@[::1]:5/?a=b&c#d", "x", "nbds://me@[::1]:5/x?a=b&c#d" },
		{ "nbd://host#d/e", "x", "nbd://host/x#d/e" },
		{ "nbd://host/?q=://y", "x", "nbd://host/x?q=://y" },
		{ "nbd://h", "/a b%\xff\xc3\xa9?#~-._Z9", "nbd://h/%2Fa%20b%25%FF%C3%A9%3F%23~-._Z9" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *uri = text_uri(cases[i].uri, cases[i].name);

		ck_assert_str_eq(uri, cases[i].result);
		free(uri);
	}
}
END_TEST

START_TEST(uri_values)
{
	static const struct {
		const char *uri, *value;
	} cases[] = {
		{ "nbds://host/", NULL },
		{ "nbds://host/?dir", NULL },
		{ "nbds://host/?dir=", "" },
		{ "nbds://host/?dir=/a/b", "/a/b" },
		{ "nbds://host/?socket=/s&dir=/a&dir=/b", "/a" },
		{ "nbds://host/?socket=/s;dir=/a;x=y", "/a" },
		{ "nbds://host/dir=/a?x=y#dir=/b", NULL },
		{ "nbds://host/?dir=/a#there", "/a" },
		{ "nbds://host/?mydir=/a&directory=/b", NULL },
		{ "nbds://host/&dir=/a", NULL },
		{ "nbds://host/?dir=%2Fa%20b%c3%a9", "/a b\xc3\xa9" },
		{ "nbds://host/?dir=%&x=%41", "%" },
		{ "nbds://host/?dir=%4", "%4" },
		{ "nbds://host/?dir=%4g%+1%%41%", "%4g%+1%A%" },
		{ "?dir=a", "a" },
		{ "", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *value = text_uri_value(cases[i].uri, "dir");

		ck_assert_pstr_eq(value, cases[i].value);
		free(value);
	}
}
END_TEST

/* Random bytes: what comes out is ASCII and UTF-8 without anything to hide. */
START_TEST(random_bytes)
{
	uint64_t seed = unit_seed();

	text_init(false);
	for (unsigned i = 0; i < 5000; i++) {
		char text[24];
		size_t len = unit_random(&seed) % sizeof(text);

		for (size_t at = 0; at < len; at++)
			text[at] = (char)(unit_random(&seed) % 255 + 1);
		text[len] = '\0';
		for (const char *p = quoted(text); *p; p++)
			ck_assert(*p >= 0x20 && *p < 0x7f);
		for (const char *p = json(text); *p; p++)
			ck_assert((unsigned char)*p >= 0x20 && *p != 0x7f);
	}
}
END_TEST

UNIT_MAIN(quotes, quotes_without_utf8, sentences, json_strings, sizes, uris, uri_values,
	  random_bytes)
