/* SPDX-License-Identifier: MIT */
/*
 * io_uring_status.c - where a file has data and where it has holes.
 *
 * The path: the size of the file; the first data at or behind the start; if the
 * start is data itself, the first hole behind it. That is lseek(2) with
 * SEEK_DATA and SEEK_HOLE, which moves the file offset: the queue has a
 * descriptor whose offset is nobody else's.
 *
 * What is told as zero was so while the call ran:
 *
 * 1. A hole is told when one lseek() has found no data in it. Data is told
 *    without proof: it is never wrong to read it.
 * 2. Up to the end of a file there is a hole when SEEK_DATA finds nothing.
 *    The size was asked for before that, so what somebody appends in between
 *    is not in the range that is told.
 * 3. The file system has to tell data in the page cache that has no blocks yet,
 *    and completed direct writes, as data. Linux's local file systems do. One
 *    that knows neither of the two tells everything as data.
 *
 * Block devices tell nothing: whether a read of what was discarded gives
 * zeroes is not known.
 */
#include <unistd.h>

#include "base/range.h"
#include "io_uring.h"

int
io_seek_fd(const struct io_queue *q)
{
	const struct target *t = &q->dev->target;

	if (q->fd >= 0 && !q->fd_shared)
		return q->fd;
	if (t->block)
		return -1;
	/* Without /proc there is no status; the queue works all the same. */
	return q->dev->adopted ? MAX(target_reopen(t, t->direct), -1) : t->fd;
}

/* The first byte from START on that WHENCE asks for, or a negative errno. */
static int64_t
seek(int fd, uint64_t start, int whence)
{
	off_t at = lseek(fd, (off_t)start, whence);

	return at < 0 ? -errno : at;
}

static int
answer(struct blkio_ext_extent *extent, uint64_t start, uint64_t end, uint64_t len, uint32_t flags)
{
	*extent = (struct blkio_ext_extent){ .len = MIN(end - start, len), .flags = flags };
	return 0;
}

static int
answer_beyond_end(const struct io_queue *q, struct blkio_ext_extent *extent, uint64_t start,
		  uint64_t len)
{
	if (q->dev->strict_eof)
		return -EIO;
	return answer(extent, start, INT64_MAX, len, BLKIO_EXT_HOLE | BLKIO_EXT_ZERO);
}

int
io_status(struct blkioq *bq, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	const struct io_queue *q = io_queue(bq);
	const uint32_t hole = BLKIO_EXT_HOLE | BLKIO_EXT_ZERO;
	uint64_t size, size_now;
	int64_t at;

	if (q->dev->target.block || q->seek_fd < 0)
		return -ENOTSUP;
	if (target_capacity(&q->dev->target, &size))
		return -EIO; /* UNTESTED: the fd is open */
	if (start >= size)
		return answer_beyond_end(q, extent, start, len);

	at = seek(q->seek_fd, start, SEEK_DATA);
	if (at == -ENXIO) {
		/* The end may be why, if it has come nearer since. */
		if (target_capacity(&q->dev->target, &size_now))
			return -EIO; /* UNTESTED: the fd is open */
		if (start >= size_now)
			return answer_beyond_end(q, extent, start, len);
		return answer(extent, start, MIN(size, size_now), len, hole);
	}
	if (at < 0)
		return at == -EINVAL ? -ENOTSUP : (int)at;
	if ((uint64_t)at > start)
		return answer(extent, start, (uint64_t)at, len, hole);

	at = seek(q->seek_fd, start, SEEK_HOLE);
	if (at < 0 && at != -ENXIO)
		return (int)at;
	/* The file has become shorter, or the hole larger: 1. */
	if (at <= (int64_t)start)
		return answer(extent, start, start + len, len, 0);
	return answer(extent, start, (uint64_t)at, len, 0);
}
