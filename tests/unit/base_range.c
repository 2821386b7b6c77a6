/* SPDX-License-Identifier: MIT */
/* base_range.c - range.h against arithmetic that cannot wrap. */
#include "base/range.h"

#include "tests/lib/unit.h"

#define wide unsigned __int128

/* Around every place where something may go wrong. */
static const uint64_t edges[] = {
	0, 1, 2, 3, 511, 512, 513, 4095, 4096, 4097, (1ull << 31) - 1, 1ull << 31,
	(1ull << 32) - 1, 1ull << 32, (1ull << 32) + 1, (1ull << 63) - 1, 1ull << 63,
	(1ull << 63) + 1, UINT64_MAX - 4096, UINT64_MAX - 4095, UINT64_MAX - 2, UINT64_MAX - 1,
	UINT64_MAX,
};

static bool
range_ok_wide(uint64_t off, uint64_t len, uint64_t size)
{
	return (wide)off + len <= size;
}

START_TEST(range_ok_small_exhaustive)
{
	for (uint64_t size = 0; size < 20; size++)
		for (uint64_t off = 0; off < 24; off++)
			for (uint64_t len = 0; len < 24; len++)
				ck_assert(range_ok(off, len, size) ==
					  range_ok_wide(off, len, size));
}
END_TEST

START_TEST(range_ok_never_wraps)
{
	unsigned good = 0;

	for (size_t i = 0; i < ARRAY_SIZE(edges); i++)
		for (size_t j = 0; j < ARRAY_SIZE(edges); j++)
			for (size_t k = 0; k < ARRAY_SIZE(edges); k++) {
				bool ok = range_ok(edges[i], edges[j], edges[k]);

				ck_assert(ok == range_ok_wide(edges[i], edges[j], edges[k]));
				good += ok;
			}
	ck_assert_uint_ge(good, 1);
	/* The sum is 0: in a naive check it lies inside everything. */
	ck_assert(!range_ok(UINT64_MAX, 1, UINT64_MAX));
	ck_assert(!range_ok(1ull << 63, 1ull << 63, UINT64_MAX));
	ck_assert(!range_ok(UINT64_MAX - 511, 512, 4096));
	ck_assert(range_ok(UINT64_MAX, 0, UINT64_MAX));
}
END_TEST

/* Byte by byte. */
static bool
share_a_byte(unsigned a, unsigned a_len, unsigned b, unsigned b_len)
{
	for (unsigned i = a; i < a + a_len; i++)
		if (i >= b && i < b + b_len)
			return true;
	return false;
}

START_TEST(overlap_small_exhaustive)
{
	for (unsigned a = 0; a < 10; a++)
		for (unsigned a_len = 0; a_len < 10; a_len++)
			for (unsigned b = 0; b < 10; b++)
				for (unsigned b_len = 0; b_len < 10; b_len++)
					ck_assert(range_overlap(a, a_len, b, b_len) ==
						  share_a_byte(a, a_len, b, b_len));
}
END_TEST

START_TEST(overlap_at_the_top)
{
	uint64_t top = UINT64_MAX - 100;

	for (unsigned a = 0; a < 20; a++)
		for (unsigned a_len = 0; a_len < 20; a_len++)
			for (unsigned b = 0; b < 20; b++)
				for (unsigned b_len = 0; b_len < 20; b_len++)
					ck_assert(range_overlap(top + a, a_len, top + b, b_len) ==
						  share_a_byte(a, a_len, b, b_len));
	ck_assert(range_overlap(0, UINT64_MAX, UINT64_MAX - 1, 1));
	ck_assert(!range_overlap(0, UINT64_MAX - 1, UINT64_MAX - 1, 1));
	ck_assert(!range_overlap(0, UINT64_MAX, UINT64_MAX - 1, 0));
}
END_TEST

START_TEST(pow2)
{
	unsigned count = 0;

	for (uint64_t v = 0; v < 70000; v++)
		ck_assert(is_pow2(v) == (__builtin_popcountll(v) == 1));
	for (unsigned i = 0; i < 64; i++) {
		ck_assert(is_pow2(1ull << i));
		if (i > 1) {
			ck_assert(!is_pow2((1ull << i) - 1));
			ck_assert(!is_pow2((1ull << i) + 1));
		}
		count++;
	}
	ck_assert_uint_eq(count, 64);
	ck_assert(!is_pow2(UINT64_MAX));
}
END_TEST

START_TEST(aligning_small_exhaustive)
{
	for (uint64_t align = 1; align <= 64; align *= 2)
		for (uint64_t v = 0; v < 300; v++) {
			ck_assert(is_aligned(v, align) == (v % align == 0));
			ck_assert_uint_eq(align_down(v, align), v / align * align);
			ck_assert_uint_eq(align_up(v, align), (v + align - 1) / align * align);
		}
}
END_TEST

START_TEST(aligning_at_the_edges)
{
	for (unsigned shift = 0; shift < 64; shift++) {
		uint64_t align = 1ull << shift;

		for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
			uint64_t v = edges[i];
			wide up = ((wide)v + align - 1) / align * align;

			ck_assert(is_aligned(v, align) == (v % align == 0));
			ck_assert_uint_eq(align_down(v, align), v - v % align);
			/* What does not fit in 64 bits is 0. */
			ck_assert_uint_eq(align_up(v, align), up >> 64 ? 0 : (uint64_t)up);
		}
	}
	ck_assert_uint_eq(align_up(UINT64_MAX, 4096), 0);
	ck_assert_uint_eq(align_up(UINT64_MAX, 1), UINT64_MAX);
}
END_TEST

UNIT_MAIN(range_ok_small_exhaustive, range_ok_never_wraps, overlap_small_exhaustive,
	  overlap_at_the_top, pow2, aligning_small_exhaustive, aligning_at_the_edges)
