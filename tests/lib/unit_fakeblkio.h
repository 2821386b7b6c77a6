/* SPDX-License-Identifier: MIT */
/*
 * unit_fakeblkio.h - a driver library that does what the test says.
 *
 * It stands in for libblkio under blk/: one device, fake, whose limits and
 * results the test sets and whose requests it reads afterwards. A unit test
 * whose name ends in _fake links it instead of the library.
 *
 * 1. Requests start at blkioq_do_io(), not before. By default they finish there,
 *    with what fake.result says; with fake.hold they stay until fake_finish().
 * 2. It holds blk/ to the contract: what breaks a limit, or changes an iovec
 *    before its completion, aborts the test.
 * 3. Up to FAKE_STORE_BYTES of contents are kept; what lies beyond is not.
 */
#ifndef TESTS_UNIT_FAKEBLKIO_H
#define TESTS_UNIT_FAKEBLKIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define FAKE_STORE_BYTES (8u << 20)
#define FAKE_CALLS_MAX 4096
#define FAKE_SEGMENTS_MAX 64

enum fake_op { FAKE_READ, FAKE_WRITE, FAKE_ZEROES, FAKE_DISCARD, FAKE_FLUSH };

struct fake_call {
	enum fake_op op;
	uint64_t off, len;
	uint32_t flags; /* BLKIO_REQ_* */
	int iovcnt;
	struct iovec iov[FAKE_SEGMENTS_MAX]; /* as it was when it came */
	const struct iovec *given;
	void *user_data;
	bool started, finished, fetched;
	int ret;
};

struct fake {
	/* Limits, as properties: set before dev_open(). */
	uint64_t capacity, max_discard, max_write_zeroes;
	int request_alignment, optimal_io_size, max_transfer, max_segments, buf_alignment;
	int optimal_buf_alignment;
	int discard_alignment;
	bool flush_needed, fua_native;
	bool read_only, direct; /* as set last */
	const char *missing; /* property that is not there, or NULL */
	int connect_ret, start_ret, add_queue_ret;

	/* Behaviour; may change at any time. */
	bool hold;
	int (*result)(const struct fake_call *call); /* NULL: all is well */
	unsigned do_io_shorts;		  /* calls that start what needs another call, first */
	int do_io_ret;			  /* not 0: what blkioq_do_io() returns */
	unsigned do_io_fails;		  /* that many times */

	/* What happened. */
	struct fake_call calls[FAKE_CALLS_MAX];
	unsigned ncalls;
	unsigned open_max; /* most of them open together */
	unsigned do_io_calls;
	unsigned maps, unmaps, queues;
	char props[1024]; /* "name=value " of each that was set */
	uint8_t store[FAKE_STORE_BYTES];
};

extern struct fake fake;

/* Forgets everything: a device of 8 MiB without limits, buffered. */
void fake_reset(void);

/* Ends held request INDEX (in fake.calls) with RET. */
void fake_finish(unsigned index, int ret);

/* Requests that have come and not been finished. */
unsigned fake_open(void);

/* The requests so far as text: "write 0+4096 fua, flush, ". */
const char *fake_text(void);

#endif
