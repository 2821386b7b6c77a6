/* SPDX-License-Identifier: MIT */
/* base_endian.c - endian.h, byte by byte and at every alignment. */
#include "base/endian.h"

#include "tests/lib/unit.h"

/* The definition: most significant byte first. */
static uint64_t
from_bytes(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

START_TEST(known_bytes)
{
	static const uint8_t b[] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
	uint8_t out[8];

	ck_assert_uint_eq(get_be16(b), 0x0123);
	ck_assert_uint_eq(get_be32(b), 0x01234567);
	ck_assert_uint_eq(get_be64(b), 0x0123456789abcdefull);
	put_be16(out, 0x0123);
	ck_assert(memcmp(out, b, 2) == 0);
	put_be32(out, 0x01234567);
	ck_assert(memcmp(out, b, 4) == 0);
	put_be64(out, 0x0123456789abcdefull);
	ck_assert(memcmp(out, b, 8) == 0);
}
END_TEST

START_TEST(all_of_16_bits)
{
	for (unsigned v = 0; v <= UINT16_MAX; v++) {
		uint8_t b[2];

		put_be16(b, (uint16_t)v);
		ck_assert_uint_eq(b[0], v >> 8);
		ck_assert_uint_eq(b[1], v & 0xff);
		ck_assert_uint_eq(get_be16(b), v);
	}
}
END_TEST

START_TEST(each_bit)
{
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t v = 1ull << bit;
		uint8_t b[8];

		put_be64(b, v);
		ck_assert_uint_eq(from_bytes(b, 8), v);
		ck_assert_uint_eq(get_be64(b), v);
		put_be64(b, ~v);
		ck_assert_uint_eq(get_be64(b), ~v);
		if (bit >= 32)
			continue;
		put_be32(b, (uint32_t)v);
		ck_assert_uint_eq(from_bytes(b, 4), v);
		ck_assert_uint_eq(get_be32(b), v);
	}
}
END_TEST

/* Any address will do, and the neighbours stay. */
START_TEST(unaligned)
{
	uint8_t b[32];

	for (unsigned at = 1; at < 16; at++) {
		memset(b, 0xee, sizeof(b));
		put_be64(b + at, 0x1122334455667788ull);
		ck_assert_uint_eq(get_be64(b + at), 0x1122334455667788ull);
		ck_assert_uint_eq(b[at - 1], 0xee);
		ck_assert_uint_eq(b[at + 8], 0xee);
		memset(b, 0xee, sizeof(b));
		put_be32(b + at, 0x11223344);
		ck_assert_uint_eq(from_bytes(b + at, 4), 0x11223344);
		ck_assert_uint_eq(b[at - 1], 0xee);
		ck_assert_uint_eq(b[at + 4], 0xee);
		memset(b, 0xee, sizeof(b));
		put_be16(b + at, 0x1122);
		ck_assert_uint_eq(from_bytes(b + at, 2), 0x1122);
		ck_assert_uint_eq(b[at - 1], 0xee);
		ck_assert_uint_eq(b[at + 2], 0xee);
	}
}
END_TEST

UNIT_MAIN(known_bytes, all_of_16_bits, each_bit, unaligned)
