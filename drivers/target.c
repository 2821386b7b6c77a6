/* SPDX-License-Identifier: MIT */
/*
 * target.c - opening files and block devices and asking what they can do.
 *
 * The path: target_open() looks at the path before it opens it (a FIFO would
 * block, a terminal would do worse), opens it, and target_adopt() checks what
 * was really opened. target_limits() asks, from the surest source to guesses:
 *
 *   alignments      statx (STATX_DIOALIGN, 6.1), else the logical block size
 *   block sizes     BLKSSZGET, BLKPBSZGET, BLKIOOPT
 *   everything else queue/... in sysfs: of the device itself, of the disk of
 *                   a partition, for files of the device below the file system
 *
 * What cannot be found out has a value that is safe: no FUA, a volatile cache,
 * no polling, direct I/O in units of 4096 bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/range.h"
#include "target.h"

#define PAGE_BYTES 4096
#define SEGMENTS_MAX 1024 /* UIO_MAXIOV: the kernel takes no longer arrays */

/* --- sysfs ----------------------------------------------------------------- */

/*
 * Reads NAME ("queue/fua") of the block device DEV into BUF, without its
 * newline; false if there is no such file. A partition has no queue directory
 * of its own but its disk's.
 */
static bool
sysfs_read(dev_t dev, const char *name, char *buf, size_t size)
{
	static const char *const places[] = { "", "../" };
	char path[128];
	ssize_t len;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s%s", major(dev), minor(dev),
			 places[i], name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		len = read(fd, buf, size - 1);
		close(fd);
		if (len < 0)
			return false;
		buf[len] = '\0';
		buf[strcspn(buf, "\n")] = '\0';
		return true;
	}
	return false;
}

/* The same for numbers: DFLT if there is none. */
static uint64_t
sysfs_number(dev_t dev, const char *name, uint64_t dflt)
{
	char buf[32], *end;
	uint64_t v;

	if (!sysfs_read(dev, name, buf, sizeof(buf)))
		return dflt;
	errno = 0;
	v = strtoull(buf, &end, 10);
	return errno || end == buf ? dflt : v;
}

static int
to_int(uint64_t v)
{
	return v > INT_MAX ? INT_MAX : (int)v;
}

/* --- Opening --------------------------------------------------------------- */

static int
not_storage(void)
{
	return error_set(EINVAL, "The file must be a block device or a regular file");
}

/* What to do about an open() that failed. */
static int
open_failed(int err, const char *path, bool read_only, bool direct)
{
	const char *hint = "";

	if ((err == EACCES || err == EPERM || err == EROFS) && !read_only &&
	    faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0)
		hint = "; with read-only=true it would be opened for reading only";
	else if (err == EINVAL && direct)
		hint = "; its file system may not know O_DIRECT, try direct=false";
	else if (err == EISDIR)
		hint = "; a regular file or a block device is needed";
	return error_os(err, ": cannot open '%s'%s", path, hint);
}

/* A block device that is read-only may be opened for writing all the same. */
static bool
device_read_only(int fd)
{
	int v = 0;

	return ioctl(fd, BLKROGET, &v) == 0 && v;
}

int
target_adopt(struct target *t, int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return error_os(errno, ": fd %d", fd);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return not_storage();
	if (flags & O_PATH)
		return error_os(EBADF, ": fd %d is open as a path only", fd);

	*t = (struct target){
		.fd = fd,
		.block = S_ISBLK(st.st_mode),
		.direct = flags & O_DIRECT,
		.read_only = (flags & O_ACCMODE) == O_RDONLY ||
			     (S_ISBLK(st.st_mode) && device_read_only(fd)),
		.block_size = 1,
	};
	return 0;
}

int
target_open(struct target *t, const char *path, bool read_only, bool direct)
{
	struct stat st;
	int fd, ret;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode) &&
	    !S_ISDIR(st.st_mode))
		return not_storage();

	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (fd < 0)
		return open_failed(errno, path, read_only, direct);
	ret = target_adopt(t, fd);
	if (ret)
		close(fd);
	return ret;
}

int
target_reopen(const struct target *t, bool direct)
{
	char path[32];
	int flags = fcntl(t->fd, F_GETFL), fd;

	if (flags < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->fd);
	flags &= ~(O_CREAT | O_EXCL | O_TRUNC | O_DIRECT);
	fd = open(path, flags | O_CLOEXEC | (direct ? O_DIRECT : 0));
	return fd < 0 ? -errno : fd;
}

void
target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* --- Limits ---------------------------------------------------------------- */

static int
ioctl_int(int fd, unsigned long request, int dflt)
{
	int v = 0;

	return ioctl(fd, request, &v) < 0 || v <= 0 ? dflt : v;
}

/* What direct I/O asks of buffers and offsets; DFLT each if nobody tells. */
static void
direct_alignment(int fd, int dflt, int *buf, int *offset)
{
	*buf = *offset = dflt;
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return;
	if (is_pow2(stx.stx_dio_mem_align))
		*buf = to_int(stx.stx_dio_mem_align);
	if (is_pow2(stx.stx_dio_offset_align))
		*offset = to_int(stx.stx_dio_offset_align);
#endif
}

/* Answers that are the same for both kinds; DEV is the device that counts. */
static void
device_limits(const struct target *t, dev_t dev, struct limits *l)
{
	char cache[32];

	l->supports_fua_natively = sysfs_number(dev, "queue/fua", 0) == 1;
	l->supports_poll_queues = t->direct && sysfs_number(dev, "queue/io_poll", 0) == 1;
	l->flush_needed = true;
	if (t->block && t->direct && sysfs_read(dev, "queue/write_cache", cache, sizeof(cache)))
		l->flush_needed = !strcmp(cache, "write back");
}

static void
block_limits(struct target *t, dev_t dev, struct limits *l)
{
	int logical = ioctl_int(t->fd, BLKSSZGET, 512);
	int offset;

	t->block_size = (unsigned)logical;
	t->hw_discard_max = sysfs_number(dev, "queue/discard_max_bytes", 0);
	t->hw_write_zeroes_max = sysfs_number(dev, "queue/write_zeroes_max_bytes", 0);

	l->request_alignment = l->buf_alignment = 1;
	if (t->direct)
		direct_alignment(t->fd, logical, &l->buf_alignment, &l->request_alignment);
	l->optimal_io_alignment = MAX(ioctl_int(t->fd, BLKPBSZGET, logical),
				      l->request_alignment);
	l->optimal_io_size = ioctl_int(t->fd, BLKIOOPT, 0);
	l->discard_alignment = to_int(sysfs_number(dev, "queue/discard_granularity", 0));
	offset = to_int(sysfs_number(dev, "discard_alignment", 0));
	l->discard_alignment_offset = offset == l->discard_alignment ? 0 : offset;
	l->can_grow = false;
}

static void
file_limits(struct target *t, dev_t dev, struct limits *l)
{
	struct statfs fs;
	int guess = to_int(sysfs_number(dev, "queue/logical_block_size", PAGE_BYTES));

	t->block_size = 1;
	l->request_alignment = l->buf_alignment = 1;
	if (t->direct)
		direct_alignment(t->fd, guess, &l->buf_alignment, &l->request_alignment);
	l->optimal_io_alignment = l->request_alignment;
	if (fstatfs(t->fd, &fs) == 0)
		l->optimal_io_alignment = MAX(to_int(fs.f_bsize), l->request_alignment);
	l->optimal_io_size = 0;
	l->discard_alignment = l->request_alignment;
	l->discard_alignment_offset = 0;
	l->can_grow = true;
}

void
target_limits(struct target *t, struct limits *l)
{
	struct stat st = { 0 };
	dev_t dev;

	if (fstat(t->fd, &st) < 0)
		st.st_dev = 0; /* UNTESTED: the fd was checked when it came */
	dev = t->block ? st.st_rdev : st.st_dev;
	device_limits(t, dev, l);
	if (t->block)
		block_limits(t, dev, l);
	else
		file_limits(t, dev, l);
	l->mem_region_alignment = (uint64_t)l->buf_alignment;
	l->optimal_buf_alignment = MAX((int)sysconf(_SC_PAGESIZE), l->buf_alignment);
	l->max_segments = SEGMENTS_MAX;
}

uint64_t
target_cache_unit(const struct target *t, int alignment)
{
	uint64_t unit = (uint64_t)sysconf(_SC_PAGESIZE), least = (uint64_t)alignment;
	struct statfs fs;

	/* Of network file systems "blocks" may be any number. */
	if (fstatfs(t->fd, &fs) == 0 && fs.f_bsize > 0)
		least = MAX(least, MIN((uint64_t)fs.f_bsize, UINT64_C(1) << 30));
	while (unit < least)
		unit *= 2;
	return unit;
}

int
target_capacity(const struct target *t, uint64_t *bytes)
{
	struct stat st;

	if (t->block ? ioctl(t->fd, BLKGETSIZE64, bytes) < 0 : fstat(t->fd, &st) < 0)
		return error_os(errno, "%s", ": cannot get the size");
	if (!t->block)
		*bytes = (uint64_t)st.st_size;
	return 0;
}
