/* SPDX-License-Identifier: MIT */
/*
 * unit_disk.h - a device with a queue on a stepped loop, and single requests.
 *
 * Requests that the block API would take from a coroutine are made here as a
 * struct: disk_run() makes it and returns its result, disk_start() only begins.
 */
#ifndef TESTS_UNIT_DISK_H
#define TESTS_UNIT_DISK_H

#include "blk/io.h"
#include "tests/lib/unit_loop.h"

struct unit_disk {
	struct unit_loop u;
	struct dev *dev;
	struct queue *q;
};

/* Opens CONFIG, which has to have one queue; aborts when that fails. */
void unit_disk_open(struct unit_disk *d, const struct dev_config *config);
void unit_disk_close(struct unit_disk *d);

enum unit_op { UNIT_READ, UNIT_WRITE, UNIT_ZEROES, UNIT_DISCARD, UNIT_FLUSH };

struct unit_request {
	enum unit_op op;
	uint64_t off;
	uint64_t len;		 /* ZEROES, DISCARD */
	const struct iovec *iov; /* READ, WRITE */
	int iovcnt;
	unsigned flags;
	struct unit_disk *disk;
	bool done;
	int ret;
};

void unit_disk_start(struct unit_disk *d, struct unit_request *r);
int unit_disk_run(struct unit_disk *d, struct unit_request r);

/* With one buffer. */
int unit_disk_read(struct unit_disk *d, uint64_t off, void *buf, size_t len);
int unit_disk_write(struct unit_disk *d, uint64_t off, const void *buf, size_t len,
		    unsigned flags);
int unit_disk_zeroes(struct unit_disk *d, uint64_t off, uint64_t len, unsigned flags);
int unit_disk_discard(struct unit_disk *d, uint64_t off, uint64_t len, unsigned flags);
int unit_disk_flush(struct unit_disk *d);

#endif
