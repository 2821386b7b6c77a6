/* SPDX-License-Identifier: MIT */
/* server_proto.c - messages as bytes; errors; what a string may be. */
#include "server/nbd/proto.h"

#include <errno.h>

#include "tests/lib/unit.h"

/* --- Messages --------------------------------------------------------------- */

START_TEST(greeting)
{
	uint8_t b[NBD_GREETING_BYTES];

	nbd_greeting_encode(b, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	ck_assert(memcmp(b, "NBDMAGICIHAVEOPT\0\3", sizeof(b)) == 0);
	nbd_greeting_encode(b, 0x1234);
	ck_assert(memcmp(b, "NBDMAGICIHAVEOPT\x12\x34", sizeof(b)) == 0);
}
END_TEST

START_TEST(option_parse)
{
	uint8_t b[NBD_OPTION_BYTES] = "IHAVEOPT\0\0\0\7\1\2\3";
	struct nbd_option opt;

	b[15] = 4;
	ck_assert(nbd_option_parse(b, &opt));
	ck_assert_uint_eq(opt.number, NBD_OPT_GO);
	ck_assert_uint_eq(opt.len, 0x01020304);
	memset(b + 8, 0xff, 8);
	ck_assert(nbd_option_parse(b, &opt));
	ck_assert_uint_eq(opt.number, UINT32_MAX);
	ck_assert_uint_eq(opt.len, UINT32_MAX);
	/* Every bit of the magic counts. */
	for (unsigned bit = 0; bit < 64; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert(!nbd_option_parse(b, &opt));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert(nbd_option_parse(b, &opt));
}
END_TEST

START_TEST(request_parse)
{
	uint8_t b[NBD_REQUEST_BYTES] = {
		0x25, 0x60, 0x95, 0x13, 0x81, 0x02, 0x83, 0x04,
		0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8,
		0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8,
		0xc1, 0xc2, 0xc3, 0xc4,
	};
	struct nbd_request req;

	ck_assert(nbd_request_parse(b, NBD_STRUCTURED, &req));
	ck_assert_uint_eq(req.flags, 0x8102);
	ck_assert_uint_eq(req.command, 0x8304);
	ck_assert_uint_eq(req.cookie, 0xa1a2a3a4a5a6a7a8ull);
	ck_assert_uint_eq(req.offset, 0xb1b2b3b4b5b6b7b8ull);
	ck_assert_uint_eq(req.length, 0xc1c2c3c4);
	for (unsigned bit = 0; bit < 32; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert(!nbd_request_parse(b, NBD_STRUCTURED, &req));
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert(nbd_request_parse(b, NBD_STRUCTURED, &req));
}
END_TEST

/* Four bytes more of length, and a magic of its own. */
START_TEST(extended_request_parse)
{
	uint8_t b[NBD_EXTENDED_REQUEST_BYTES] = {
		0x21, 0xe4, 0x1c, 0x71, 0x81, 0x02, 0x83, 0x04,
		0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8,
		0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8,
		0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8,
	};
	struct nbd_request req;

	ck_assert_uint_eq(nbd_request_bytes(NBD_EXTENDED), sizeof(b));
	ck_assert_uint_eq(nbd_request_bytes(NBD_STRUCTURED), NBD_REQUEST_BYTES);
	ck_assert_uint_eq(nbd_request_bytes(NBD_SIMPLE), NBD_REQUEST_BYTES);
	ck_assert(nbd_request_parse(b, NBD_EXTENDED, &req));
	ck_assert_uint_eq(req.flags, 0x8102);
	ck_assert_uint_eq(req.command, 0x8304);
	ck_assert_uint_eq(req.cookie, 0xa1a2a3a4a5a6a7a8ull);
	ck_assert_uint_eq(req.offset, 0xb1b2b3b4b5b6b7b8ull);
	ck_assert_uint_eq(req.length, 0xc1c2c3c4c5c6c7c8ull);
	/* Either magic with the other kind of session. */
	ck_assert(!nbd_request_parse(b, NBD_STRUCTURED, &req));
	memcpy(b, "\x25\x60\x95\x13", 4);
	ck_assert(!nbd_request_parse(b, NBD_EXTENDED, &req));
	ck_assert(nbd_request_parse(b, NBD_SIMPLE, &req));
	ck_assert_uint_eq(req.length, 0xc1c2c3c4);
}
END_TEST

START_TEST(chunks)
{
	static const uint8_t structured[] = {
		0x66, 0x8e, 0x33, 0xef, 0x00, 0x01, 0x80, 0x02, 0xa1, 0xa2,
		0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xc1, 0xc2, 0xc3, 0xc4,
	};
	static const uint8_t extended[] = {
		0x6e, 0x8a, 0x27, 0x8c, 0x00, 0x00, 0x00, 0x05, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6,
		0xa7, 0xa8, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0x00, 0x00, 0x00, 0x00,
		0xc1, 0xc2, 0xc3, 0xc4,
	};
	struct nbd_chunk chunk = {
		.done = true,
		.type = NBD_REPLY_ERROR_OFFSET,
		.cookie = 0xa1a2a3a4a5a6a7a8ull,
		.offset = 0xb1b2b3b4b5b6b7b8ull,
		.length = 0xc1c2c3c4,
	};
	uint8_t b[NBD_REPLY_BYTES_MAX];

	ck_assert_uint_eq(nbd_chunk_encode(b, NBD_STRUCTURED, &chunk), sizeof(structured));
	ck_assert(memcmp(b, structured, sizeof(structured)) == 0);
	chunk.done = false;
	chunk.type = NBD_REPLY_BLOCK_STATUS;
	ck_assert_uint_eq(nbd_chunk_encode(b, NBD_EXTENDED, &chunk), sizeof(extended));
	ck_assert(memcmp(b, extended, sizeof(extended)) == 0);
}
END_TEST

START_TEST(replies)
{
	static const uint8_t option_reply[] = {
		0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0x00, 0x00,
		0x00, 0x07, 0x80, 0x00, 0x00, 0x06, 0x01, 0x02, 0x03, 0x04,
	};
	static const uint8_t simple_reply[] = {
		0x67, 0x44, 0x66, 0x98, 0x00, 0x00, 0x00, 0x1c,
		0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8,
	};
	uint8_t b[NBD_OPTION_REPLY_BYTES], s[NBD_SIMPLE_REPLY_BYTES];

	nbd_option_reply_encode(b, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, 0x01020304);
	ck_assert(memcmp(b, option_reply, sizeof(b)) == 0);
	nbd_simple_reply_encode(s, NBD_ENOSPC, 0xa1a2a3a4a5a6a7a8ull);
	ck_assert(memcmp(s, simple_reply, sizeof(s)) == 0);
}
END_TEST

/* --- Errors ----------------------------------------------------------------- */

START_TEST(every_errno)
{
	/* The wire's numbers, which are not the host's everywhere. */
	static const struct {
		int error;
		unsigned wire;
	} table[] = {
		{ EPERM, 1 }, { EACCES, 1 }, { EROFS, 1 }, { ENOMEM, 12 }, { EINVAL, 22 },
		{ ENOSPC, 28 }, { EDQUOT, 28 }, { EFBIG, 28 }, { EOVERFLOW, 75 }, { ENOTSUP, 95 },
		{ EOPNOTSUPP, 95 }, { ESHUTDOWN, 108 },
	};

	ck_assert_uint_eq(nbd_error_of(0), 0);
	for (int error = 1; error < 600; error++) {
		unsigned expect = 5; /* EIO for whatever has no code */

		for (size_t i = 0; i < ARRAY_SIZE(table); i++)
			if (table[i].error == error)
				expect = table[i].wire;
		ck_assert_uint_eq((unsigned)nbd_error_of(-error), expect);
	}
	ck_assert_uint_eq((unsigned)nbd_error_of(-EIO), 5);
	ck_assert_uint_eq((unsigned)nbd_error_of(-EBADF), 5);
}
END_TEST

/* --- Strings ---------------------------------------------------------------- */

/* RFC 3629 by the book: decode, encode as short as can be, compare. */
static bool
is_one_char(const uint8_t *p, size_t len)
{
	static const uint8_t marks[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	static const uint8_t masks[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	static const uint32_t first[] = { 0, 0x0, 0x80, 0x800, 0x10000 };
	uint32_t c;

	if (len < 1 || len > 4)
		return false;
	if ((p[0] & ~masks[len]) != (len == 1 ? 0 : marks[len]))
		return false;
	c = p[0] & masks[len];
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return false;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c >= first[len] && c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
}

/* LEN bytes, at most 4, are characters one after the other, none of them NUL. */
static bool
is_string(const uint8_t *p, size_t len)
{
	if (len == 0)
		return true;
	if (p[0] == 0)
		return false;
	for (size_t n = 1; n <= len; n++)
		if (is_one_char(p, n) && is_string(p + n, len - n))
			return true;
	return false;
}

START_TEST(strings_of_up_to_3_bytes)
{
	static const uint8_t ends[] = { 0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
					0xc0, 0xc2, 0xe0, 0xff };
	unsigned good = 0;

	ck_assert(nbd_string_ok("", 0));
	for (unsigned a = 0; a < 256; a++) {
		uint8_t p[3] = { (uint8_t)a };

		ck_assert(nbd_string_ok(p, 1) == is_string(p, 1));
		for (unsigned b = 0; b < 256; b++) {
			p[1] = (uint8_t)b;
			ck_assert(nbd_string_ok(p, 2) == is_string(p, 2));
			for (size_t c = 0; c < sizeof(ends); c++) {
				p[2] = ends[c];
				if (nbd_string_ok(p, 3) != is_string(p, 3))
					ck_abort_msg("%02x %02x %02x", a, b, ends[c]);
				good += nbd_string_ok(p, 3);
			}
		}
	}
	ck_assert_uint_ge(good, 1000);
}
END_TEST

START_TEST(strings_of_4_bytes)
{
	static const uint8_t ends[] = { 0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff };
	unsigned good = 0;

	for (unsigned a = 0xc0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			for (size_t c = 0; c < sizeof(ends); c++)
				for (size_t e = 0; e < sizeof(ends); e++) {
					uint8_t p[4] = { (uint8_t)a, (uint8_t)b, ends[c], ends[e] };

					if (nbd_string_ok(p, 4) != is_string(p, 4))
						ck_abort_msg("%02x %02x %02x %02x", a, b, ends[c],
							     ends[e]);
					good += nbd_string_ok(p, 4);
				}
	ck_assert_uint_ge(good, 256);
}
END_TEST

START_TEST(known_strings)
{
	static const struct {
		const char *text;
		bool ok;
	} table[] = {
		{ "export", true }, { "d\xc3\xbcsseldorf", true }, { "\xe2\x82\xac", true },
		{ "\xf0\x9f\x92\xbe", true }, { "\xf4\x8f\xbf\xbf", true }, { "\x01\x7f", true },
		{ "\xc0\x80", false },	    /* NUL in two bytes */
		{ "\xe0\x80\xaf", false },  /* overlong */
		{ "\xed\xa0\x80", false },  /* surrogate */
		{ "\xf4\x90\x80\x80", false }, { "\xf8\x88\x80\x80\x80", false },
		{ "\xe2\x82", false },	    /* cut off */
		{ "a\x80", false }, { "latin1 \xfc", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		ck_assert_msg(nbd_string_ok(table[i].text, strlen(table[i].text)) == table[i].ok,
			      "row %zu", i);
	ck_assert(!nbd_string_ok("a\0b", 3));
	ck_assert(!nbd_string_ok("ab", 3)); /* the NUL behind it */
}
END_TEST

START_TEST(names)
{
	ck_assert_str_eq(nbd_opt_name(NBD_OPT_EXPORT_NAME), "EXPORT_NAME");
	ck_assert_str_eq(nbd_opt_name(NBD_OPT_EXTENDED_HEADERS), "EXTENDED_HEADERS");
	ck_assert_str_eq(nbd_cmd_name(NBD_CMD_READ), "READ");
	ck_assert_str_eq(nbd_cmd_name(NBD_CMD_BLOCK_STATUS), "BLOCK_STATUS");
	/* Whatever a client sends. */
	for (unsigned i = 0; i <= UINT16_MAX; i++) {
		ck_assert((strcmp(nbd_cmd_name((uint16_t)i), "unknown") == 0) == (i > 7));
		ck_assert((strcmp(nbd_opt_name(i), "unknown") == 0) == (i == 0 || i > 11));
	}
	ck_assert_str_eq(nbd_opt_name(UINT32_MAX), "unknown");
	ck_assert_str_eq(nbd_opt_name(0x80000001), "unknown");
}
END_TEST

UNIT_MAIN(greeting, option_parse, request_parse, extended_request_parse, chunks, replies, every_errno, strings_of_up_to_3_bytes,
	  strings_of_4_bytes, known_strings, names)
