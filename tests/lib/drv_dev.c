/* SPDX-License-Identifier: MIT */
/*
 * drv_dev.c - devices, single requests, files and random numbers for tests of
 * the driver library.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "tests/lib/drv_dev.h"

#define TMPFS_MAGIC_NUMBER 0x01021994
#define PROPS_MAX 16

__thread const char *drv_msg = "";

void
drv_expect_at(int ret, int expected, const char *what, const char *file, int line)
{
	if (ret != expected)
		ck_abort_msg("%s:%d: %s is %d, not %d (%s)", file, line, what, ret, expected,
			     blkio_get_error_msg());
}

void
drv_expect_msg_at(int ret, int expected, const char *msg, const char *what, const char *file,
		  int line)
{
	drv_expect_at(ret, expected, what, file, line);
	if (strncmp(blkio_get_error_msg(), msg, strlen(msg)))
		ck_abort_msg("%s:%d: %s: the message is \"%s\", not \"%s\"", file, line, what,
			     blkio_get_error_msg(), msg);
}

void
drv_expect_bytes(const void *buf, size_t len, unsigned char value)
{
	const unsigned char *p = buf;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != value)
			ck_abort_msg("byte %zu of %zu is 0x%02x, not 0x%02x", i, len, p[i], value);
	}
}

struct blkio *
drv_connect(const char *driver, ...)
{
	const char *late[PROPS_MAX][2], *name, *value;
	struct blkio *b;
	int nlate = 0, ret;
	va_list ap;

	drv_expect(blkio_create(driver, &b), 0);
	va_start(ap, driver);
	while ((name = va_arg(ap, const char *))) {
		value = va_arg(ap, const char *);
		ret = blkio_set_str(b, name, value);
		if (ret == -ENODEV) {
			ck_assert_int_lt(nlate, PROPS_MAX);
			late[nlate][0] = name;
			late[nlate++][1] = value;
		} else {
			drv_expect(ret, 0);
		}
	}
	va_end(ap);
	drv_expect(blkio_connect(b), 0);
	for (int i = 0; i < nlate; i++)
		drv_expect(blkio_set_str(b, late[i][0], late[i][1]), 0);
	return b;
}

struct blkioq *
drv_start(struct blkio *b)
{
	struct blkioq *q;

	drv_expect(blkio_start(b), 0);
	q = blkio_get_queue(b, 0);
	ck_assert_ptr_nonnull(q);
	return q;
}

int
drv_get_int(struct blkio *b, const char *name)
{
	int v;

	drv_expect(blkio_get_int(b, name, &v), 0);
	return v;
}

uint64_t
drv_get_u64(struct blkio *b, const char *name)
{
	uint64_t v;

	drv_expect(blkio_get_uint64(b, name, &v), 0);
	return v;
}

bool
drv_get_bool(struct blkio *b, const char *name)
{
	bool v;

	drv_expect(blkio_get_bool(b, name, &v), 0);
	return v;
}

int
drv_wait(struct blkioq *q)
{
	struct blkio_completion c;

	memset(&c, 0xff, sizeof(c));
	drv_expect(blkioq_do_io(q, &c, 1, 1, NULL), 1);
	ck_assert_ptr_eq(c.user_data, &drv_msg);
	for (size_t i = 0; i < sizeof(c.reserved_); i++)
		ck_assert_int_eq(c.reserved_[i], 0);
	drv_msg = c.error_msg ? c.error_msg : "";
	return c.ret;
}

int
drv_read(struct blkioq *q, uint64_t start, void *buf, size_t len)
{
	blkioq_read(q, start, buf, len, &drv_msg, 0);
	return drv_wait(q);
}

int
drv_write(struct blkioq *q, uint64_t start, const void *buf, size_t len, uint32_t flags)
{
	blkioq_write(q, start, buf, len, &drv_msg, flags);
	return drv_wait(q);
}

int
drv_zeroes(struct blkioq *q, uint64_t start, uint64_t len, uint32_t flags)
{
	blkioq_write_zeroes(q, start, len, &drv_msg, flags);
	return drv_wait(q);
}

int
drv_discard(struct blkioq *q, uint64_t start, uint64_t len)
{
	blkioq_discard(q, start, len, &drv_msg, 0);
	return drv_wait(q);
}

int
drv_flush(struct blkioq *q)
{
	blkioq_flush(q, &drv_msg, 0);
	return drv_wait(q);
}

const char *
drv_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : "/var/tmp";
}

const char *
drv_tmpfs_dir(void)
{
	struct statfs fs;

	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC_NUMBER ||
	    access("/dev/shm", W_OK) < 0)
		return NULL;
	return "/dev/shm";
}

char *
drv_file(const char *dir, uint64_t size)
{
	char *name;
	int fd;

	/* Also used outside of tests, where check must not be called. */
	if (asprintf(&name, "%s/blkgate-test-XXXXXX", dir) < 0)
		abort();
	fd = mkstemp(name);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		ck_abort_msg("%s: %s", name, strerror(errno));
	close(fd);
	return name;
}

bool
drv_can_zero_range(const char *dir)
{
	char *name = drv_file(dir, 4096);
	int fd = open(name, O_RDWR | O_CLOEXEC);
	int ret = fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4096);

	ck_assert(fd >= 0 && (ret == 0 || errno == EOPNOTSUPP));
	close(fd);
	unlink(name);
	free(name);
	return ret == 0;
}

void *
drv_alloc(size_t align, size_t len)
{
	void *p;

	if (align < sizeof(void *))
		align = sizeof(void *);
	ck_assert_int_eq(posix_memalign(&p, align, len ? len : 1), 0);
	return p;
}

uint64_t
drv_seed(void)
{
	const char *s = getenv("SEED");
	uint64_t seed = 0;

	if (s)
		seed = strtoull(s, NULL, 0);
	else
		ck_assert_int_eq(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	printf("SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

/* splitmix64: any seed is good, also 0. */
uint64_t
drv_random(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
drv_between(uint64_t *seed, uint64_t low, uint64_t high)
{
	return low + drv_random(seed) % (high - low + 1);
}

void
drv_fill(uint64_t *seed, void *buf, size_t len)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(drv_random(seed) >> 24);
}
