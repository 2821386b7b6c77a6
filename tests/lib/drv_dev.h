/* SPDX-License-Identifier: MIT */
/*
 * drv_dev.h - devices, single requests, files and random numbers for tests of
 * the driver library.
 *
 * 1. Everything checks itself: a function that has no way to tell of a failure
 *    fails the running test.
 * 2. Random numbers come from one 64-bit seed: drv_seed() takes it from the
 *    environment (SEED) or makes one, and prints it.
 */
#ifndef TESTS_DRV_DEV_H
#define TESTS_DRV_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blkio.h"

/*
 * A device of DRIVER, connected but not started. Pairs of property and value,
 * up to a NULL, are set before connect, or after it where that is their time.
 */
struct blkio *drv_connect(const char *driver, ...) __attribute__((sentinel));

/* Starts B and gives its first queue. */
struct blkioq *drv_start(struct blkio *b);

/* The value of a property that must be there. */
int drv_get_int(struct blkio *b, const char *name);
uint64_t drv_get_u64(struct blkio *b, const char *name);
bool drv_get_bool(struct blkio *b, const char *name);

/* Waits for one completion and gives its result, its text in drv_msg. */
int drv_wait(struct blkioq *q);
extern __thread const char *drv_msg; /* this thread's; "" for none */

/* One request on an idle queue, with its result. */
int drv_read(struct blkioq *q, uint64_t start, void *buf, size_t len);
int drv_write(struct blkioq *q, uint64_t start, const void *buf, size_t len, uint32_t flags);
int drv_zeroes(struct blkioq *q, uint64_t start, uint64_t len, uint32_t flags);
int drv_discard(struct blkioq *q, uint64_t start, uint64_t len);
int drv_flush(struct blkioq *q);

/* Fails the test with the library's message unless RET is EXPECTED. */
#define drv_expect(ret, expected) drv_expect_at((ret), (expected), #ret, __FILE__, __LINE__)
void drv_expect_at(int ret, int expected, const char *what, const char *file, int line);

/* The same, and the message must be (or begin with) MSG. */
#define drv_expect_msg(ret, expected, msg) \
	drv_expect_msg_at((ret), (expected), (msg), #ret, __FILE__, __LINE__)
void drv_expect_msg_at(int ret, int expected, const char *msg, const char *what,
		       const char *file, int line);

/* Fails unless each of LEN bytes at BUF is VALUE. */
void drv_expect_bytes(const void *buf, size_t len, unsigned char value);

/* A new empty file of SIZE bytes in DIR; the name is on the heap. */
char *drv_file(const char *dir, uint64_t size);

/* Where files of tests go: TMPDIR or /var/tmp. */
const char *drv_dir(void);

/* A directory on tmpfs, or NULL. */
const char *drv_tmpfs_dir(void);

/* Whether the file system of DIR can zero in place; asked on a file of its own. */
bool drv_can_zero_range(const char *dir);

/* Memory of LEN bytes at a multiple of ALIGN; free(3). */
void *drv_alloc(size_t align, size_t len);

uint64_t drv_seed(void);
uint64_t drv_random(uint64_t *seed);
/* A number in [low, high]. */
uint64_t drv_between(uint64_t *seed, uint64_t low, uint64_t high);
void drv_fill(uint64_t *seed, void *buf, size_t len);

#endif
