/* SPDX-License-Identifier: MIT */
/*
 * endian.h - big- and little-endian integers in unaligned byte arrays.
 *
 * NBD is big-endian (spec: all integers in network byte order); the compiler
 * turns each of these into one move and one swap.
 */
#ifndef BASE_ENDIAN_H
#define BASE_ENDIAN_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ENDIAN_BE(bits, v) __builtin_bswap##bits(v)
#else
#define ENDIAN_BE(bits, v) (v)
#endif

#define ENDIAN_GET_PUT(bits) \
	static inline uint##bits##_t get_be##bits(const void *p) \
	{ \
		uint##bits##_t v; \
\
		memcpy(&v, p, sizeof(v)); \
		return ENDIAN_BE(bits, v); \
	} \
\
	static inline void put_be##bits(void *p, uint##bits##_t v) \
	{ \
		v = ENDIAN_BE(bits, v); \
		memcpy(p, &v, sizeof(v)); \
	}

ENDIAN_GET_PUT(16)
ENDIAN_GET_PUT(32)
ENDIAN_GET_PUT(64)

#endif
