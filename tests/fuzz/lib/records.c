/* SPDX-License-Identifier: MIT */
/*
 * records.c - changes to inputs that are records; see records.h.
 *
 * libFuzzer calls the two functions at the end by their names. Whatever its size,
 * an input is taken for its whole records.
 */
#include "records.h"

#include <stdint.h>
#include <string.h>

#include "base/annotate.h"
#include "tests/lib/simdev.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
				 uint8_t *out, size_t max_size, unsigned seed);

static uint64_t rng;

static size_t
below(size_t n)
{
	return sim_below(&rng, (unsigned)n);
}

static uint8_t *
record(uint8_t *data, size_t i)
{
	return data + i * RECORD_BYTES;
}

/* libFuzzer changes one record, and nothing else. */
static void
change(uint8_t *r)
{
	size_t n = LLVMFuzzerMutate(r, RECORD_BYTES, RECORD_BYTES);

	memset(r + n, 0, RECORD_BYTES - n);
}

/* A record like one that is there, but for a byte or two, in front of record AT. */
static void
insert(uint8_t *data, size_t n, size_t at)
{
	uint8_t fresh[RECORD_BYTES];

	memcpy(fresh, record(data, below(n)), sizeof(fresh));
	for (size_t i = below(4); i > 0; i--)
		fresh[below(RECORD_BYTES)] = (uint8_t)below(256);
	memmove(record(data, at + 1), record(data, at), (n - at) * RECORD_BYTES);
	memcpy(record(data, at), fresh, sizeof(fresh));
}

static void
swap(uint8_t *a, uint8_t *b)
{
	uint8_t tmp[RECORD_BYTES];

	memcpy(tmp, a, sizeof(tmp));
	memmove(a, b, sizeof(tmp));
	memcpy(b, tmp, sizeof(tmp));
}

/* Leaves out a few records from AT on; how many are left. */
static size_t
leave_out(uint8_t *data, size_t n, size_t at)
{
	size_t gone = 1 + below(MIN(n - at, (size_t)8));

	memmove(record(data, at), record(data, at + gone), (n - at - gone) * RECORD_BYTES);
	return n - gone;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
	size_t n = size / RECORD_BYTES, at;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	if (n < 2 || below(16) == 0)
		return LLVMFuzzerMutate(data, size, max_size);
	at = 1 + below(n - 1);
	switch (below(8)) {
	case 0:
		change(data);
		break;
	case 1:
	case 2:
		if ((n + 1) * RECORD_BYTES <= max_size)
			insert(data, n++, at + below(2));
		break;
	case 3:
		n = leave_out(data, n, at);
		break;
	case 4:
		swap(record(data, at), record(data, 1 + below(n - 1)));
		break;
	default:
		change(record(data, at));
		break;
	}
	return n * RECORD_BYTES;
}

/* The setting and the first records of the one, then the last of the other. */
size_t
LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
			  uint8_t *out, size_t max_size, unsigned seed)
{
	size_t head, tail, max = max_size / RECORD_BYTES;

	rng = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	head = MIN(below(a_size / RECORD_BYTES + 1), max);
	tail = MIN(below(b_size / RECORD_BYTES + 1), max - head);
	memcpy(out, a, head * RECORD_BYTES);
	memcpy(out + head * RECORD_BYTES, b + (b_size / RECORD_BYTES - tail) * RECORD_BYTES,
	       tail * RECORD_BYTES);
	return (head + tail) * RECORD_BYTES;
}
