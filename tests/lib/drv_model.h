/* SPDX-License-Identifier: MIT */
/*
 * drv_model.h - random requests against a queue, held against an array of
 * bytes.
 *
 * Many requests are in flight, but never two that share a byte, so the model
 * knows what each must find. What a discard leaves is unknown where the device
 * does not promise zeroes, until it is written again.
 */
#ifndef TESTS_DRV_MODEL_H
#define TESTS_DRV_MODEL_H

#include "tests/lib/drv_dev.h"

struct drv_model {
	/* Set by the test. */
	struct blkioq *q;
	uint64_t base;      /* where on the device the model lies, bytes */
	uint64_t size;      /* bytes that are tested, from base */
	uint64_t align;     /* of starts, lengths, segments and memory, bytes */
	uint64_t zero_align; /* of write zeroes, bytes; 0: as align */
	unsigned depth;     /* requests in flight at most */
	unsigned requests;  /* in all */
	uint64_t len_max;   /* of one request, bytes */
	bool discard_zeroes; /* discarded bytes read as zeroes */
	bool no_discard;    /* the device has none */
	bool refuses_zeroes; /* -EOPNOTSUPP is right with NO_FALLBACK */
	bool injected;      /* -EIO may come from anywhere: unknown afterwards */
	char *memory;       /* where buffers may also come from (a region), or NULL */
	size_t memory_len;
	uint64_t seed;

	/* What the device should hold; the caller frees both. */
	unsigned char *bytes;
	bool *unknown;
};

/* Runs; the device must read as zeroes (or as M->bytes, if set) before. */
void drv_model_run(struct drv_model *m);

/* Reads everything and compares. */
void drv_model_check(struct drv_model *m);

void drv_model_release(struct drv_model *m);

#endif
