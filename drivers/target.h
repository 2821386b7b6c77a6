/* SPDX-License-Identifier: MIT */
/*
 * target.h - a regular file or block device, and what it can do.
 *
 * 1. An open target has an fd that is its own: target_close() closes it.
 * 2. Everything here may block (open, sysfs); only target_capacity() may be
 *    called on the way of a request.
 */
#ifndef DRIVERS_TARGET_H
#define DRIVERS_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "driver.h"

struct target {
	int fd;
	bool block;     /* a block device, else a regular file */
	bool direct;    /* O_DIRECT */
	bool read_only; /* opened so, or the device is */

	/* Block devices: bytes a request may have; 0: the device cannot. */
	uint64_t hw_discard_max;
	uint64_t hw_write_zeroes_max;
	unsigned block_size; /* requests to a block device are multiples of it; else 1 */
};

/* Opens PATH as T; 0 or a negative errno with message, which names PATH. */
int target_open(struct target *t, const char *path, bool read_only, bool direct);

/*
 * Makes T of FD, which stays the caller's on failure. -EINVAL: it is neither
 * regular file nor block device; -EBADF.
 */
int target_adopt(struct target *t, int fd);

/*
 * One more descriptor of the same file, with an open file description of its
 * own: the kernel reports a failed writeback once to each description, so those
 * who share one can miss it. DIRECT: with O_DIRECT. A negative errno without
 * message: no /proc, or no permission any more.
 */
int target_reopen(const struct target *t, bool direct);

void target_close(struct target *t);

/* Fills in those limits that the file or device decides. */
void target_limits(struct target *t, struct limits *l);

/*
 * The unit in which direct I/O and the page cache must not meet in one file, a
 * power of two: a page, a block of the file system, ALIGNMENT (of requests),
 * whichever is largest.
 */
uint64_t target_cache_unit(const struct target *t, int alignment);

/* The size right now, bytes; does not move the file offset. */
int target_capacity(const struct target *t, uint64_t *bytes);

#endif
