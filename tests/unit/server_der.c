/* SPDX-License-Identifier: MIT */
/* server_der.c - counting the values of DER: each that is there, and never past its end. */
#include "server/der.h"

#include <errno.h>
#include <stdint.h>

#include "tests/lib/unit.h"

/* In memory of its own, past whose end nothing may be read. */
static int
count(const void *bytes, size_t len)
{
	void *own = calloc(len, 1);
	int ret;

	memcpy(own, bytes, len);
	ret = der_count(own, len);
	free(own);
	return ret;
}

#define COUNT(literal) count(literal, sizeof(literal) - 1)

START_TEST(values)
{
	ck_assert_int_eq(COUNT("\x05\x00"), 1);
	ck_assert_int_eq(COUNT("\x02\x01\x07"), 1);
	ck_assert_int_eq(COUNT("\x30\x00"), 1);
	ck_assert_int_eq(COUNT("\x30\x05\x02\x01\x07\x05\x00"), 3);
	ck_assert_int_eq(COUNT("\x31\x06\x30\x00\x30\x02\x05\x00"), 4);
	ck_assert_int_eq(COUNT("\xa3\x02\x05\x00"), 2);
	/* What it has under another tag is not known. */
	ck_assert_int_eq(COUNT("\x82\x02\x05\x00"), 1);
	ck_assert_int_eq(COUNT("\x03\x03\x00\x05\x00"), 1);
}
END_TEST

START_TEST(strings)
{
	ck_assert_int_eq(COUNT("\x04\x00"), 1);
	ck_assert_int_eq(COUNT("\x04\x04\x30\x02\x05\x00"), 3);
	ck_assert_int_eq(COUNT("\x04\x04\x05\x00\x05\x00"), 3);
	ck_assert_int_eq(COUNT("\x30\x06\x04\x02\x05\x00\x05\x00"), 4);
	/* Only so deep are extensions. */
	ck_assert_int_eq(COUNT("\x04\x04\x04\x02\x05\x00"), 2);
	/* Something else, or what others might take for more than it is: as many as can be. */
	ck_assert_int_eq(COUNT("\x04\x06xxxxxx"), 4);
	ck_assert_int_eq(COUNT("\x04\x06\x30\x80\x05\x00\x00\x00"), 4);
	ck_assert_int_eq(COUNT("\x04\x06\x30\x81\x03\x02\x01\x07"), 4);
	ck_assert_int_eq(COUNT("\x04\x06\x24\x04\x04\x02\x05\x00"), 4);
}
END_TEST

START_TEST(lengths)
{
	static const struct {
		size_t len;
		const char *header;
		size_t header_len;
	} table[] = {
		{ 0x7f, "\x0c\x7f", 2 },	     { 0x80, "\x0c\x81\x80", 3 },
		{ 0xff, "\x0c\x81\xff", 3 },	     { 0x100, "\x0c\x82\x01\x00", 4 },
		{ 0xffff, "\x0c\x82\xff\xff", 4 },   { 0x10000, "\x0c\x83\x01\x00\x00", 5 },
	};
	static uint8_t bytes[5 + 0x10000 + 1];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		size_t len = table[i].header_len + table[i].len;

		memcpy(bytes, table[i].header, table[i].header_len);
		ck_assert_int_eq(count(bytes, len), 1);
		ck_assert_int_eq(count(bytes, len - 1), -EBADMSG);
		ck_assert_int_eq(count(bytes, len + 1), -EBADMSG);
	}
}
END_TEST

START_TEST(what_is_no_der)
{
	static const char value[] = "\x30\x0b\x02\x01\x07\x30\x06\x04\x01x\x04\x81\x00";

	ck_assert_int_eq(COUNT(""), -EBADMSG);
	for (size_t len = 1; len < sizeof(value) - 1; len++)
		ck_assert_int_eq(count(value, len), -EBADMSG);
	/* Behind it, past what it is in, past everything. */
	ck_assert_int_eq(COUNT("\x05\x00\x05\x00"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x30\x02\x02\x01\x07"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x30\x04\x30\x04\x05\x00\x05\x00"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x30\x03\x05\x00\x05"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x0c\x84\xff\xff\xff\xffx"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x0c\x88\xff\xff\xff\xff\xff\xff\xff\xffx"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x0c\xffx"), -EBADMSG);
	/* Longer than it need be, or without a length. */
	ck_assert_int_eq(COUNT("\x0c\x81\x01x"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x0c\x82\x00\x01x"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x30\x80\x05\x00\x00\x00"), -EBADMSG);
	/* Tags: none, of several bytes, of what is not made of others or is. */
	ck_assert_int_eq(COUNT("\x00\x00"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x1f\x81\x01\x00"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x24\x02\x04\x00"), -EBADMSG);
	ck_assert_int_eq(COUNT("\x10\x02\x05\x00"), -EBADMSG);
	/* A set of nothing. */
	ck_assert_int_eq(COUNT("\x30\x02\x31\x00"), -EBADMSG);
}
END_TEST

/* N within each other. */
static int
count_nested(unsigned n)
{
	uint8_t bytes[2 * DER_DEPTH_MAX + 2];

	for (unsigned i = 0; i < n; i++) {
		bytes[2 * i] = 0x30;
		bytes[2 * i + 1] = (uint8_t)(2 * (n - i - 1));
	}
	return count(bytes, (size_t)2 * n);
}

START_TEST(depth)
{
	for (int n = 1; n < DER_DEPTH_MAX; n++)
		ck_assert_int_eq(count_nested((unsigned)n), n);
	ck_assert_int_eq(count_nested(DER_DEPTH_MAX), -EBADMSG);
}
END_TEST

START_TEST(random_bytes)
{
	static const char seed_value[] = "\x30\x10\x31\x06\x30\x04\x06\x00\x0c\x00"
					 "\x04\x06\x30\x04\x82\x00\x82\x00";
	uint64_t seed = unit_seed();
	unsigned good = 0;

	for (unsigned i = 0; i < 200000; i++) {
		uint8_t bytes[sizeof(seed_value) - 1];
		size_t len = sizeof(bytes) - (unit_random(&seed) % 8 == 0);
		int ret;

		memcpy(bytes, seed_value, sizeof(bytes));
		for (unsigned n = unit_random(&seed) % 4; n > 0; n--)
			bytes[unit_random(&seed) % sizeof(bytes)] = (uint8_t)unit_random(&seed);
		ret = count(bytes, len);
		ck_assert(ret == -EBADMSG || (ret > 0 && (size_t)ret <= len / 2));
		good += ret > 0;
	}
	ck_assert_uint_gt(good, 1000);
}
END_TEST

UNIT_MAIN(values, strings, lengths, what_is_no_der, depth, random_bytes)
