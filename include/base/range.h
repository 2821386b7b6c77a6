/* SPDX-License-Identifier: MIT */
/*
 * range.h - the only place that does arithmetic on offsets and lengths that
 * somebody else chose. Units are bytes.
 */
#ifndef BASE_RANGE_H
#define BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

/* [off, off + len) lies inside [0, size), without the sum ever wrapping. */
static inline bool
range_ok(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/* The two ranges share a byte. Neither may wrap; an empty one shares nothing. */
static inline bool
range_overlap(uint64_t a_off, uint64_t a_len, uint64_t b_off, uint64_t b_len)
{
	return a_len && b_len && a_off < b_off + b_len && b_off < a_off + a_len;
}

static inline bool
is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* ALIGN is a power of two in the three below. */
static inline bool
is_aligned(uint64_t v, uint64_t align)
{
	return !(v & (align - 1));
}

static inline uint64_t
align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* Wraps to 0 when the result does not fit: check V against a limit first. */
static inline uint64_t
align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

#endif
