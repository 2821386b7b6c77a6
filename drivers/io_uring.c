/* SPDX-License-Identifier: MIT */
/*
 * io_uring.c - the driver "io_uring": regular files and block devices through
 * the kernel.
 *
 * The path: "path" or "fd" is set; dev_connect() opens or takes it and asks it
 * for its limits (target.c); start makes queues (io_uring_queue.c). Until
 * connect has succeeded nothing has changed, and an fd is still the caller's.
 *
 * The tail. Direct I/O moves whole blocks, so the end of a file whose size is
 * no multiple of them goes through the page cache, by a descriptor without
 * O_DIRECT.
 *
 * 1. No page, and no block of the file system, is used both ways. A buffered
 *    write rewrites its whole page later on; a direct write to another part of
 *    it that was in flight when the page was read would be lost. So the tail
 *    begins at a multiple of both, and no request crosses its start. The page
 *    cache makes large folios forwards from the page that is asked for, so
 *    none that a request for the tail brings in reaches below its start.
 *    (fallocate() works on either side: the kernel lets direct I/O finish
 *    first and keeps it out meanwhile.)
 * 2. The tail has one descriptor for all queues, and that one is never synced.
 *    What a writeback fails with is recorded at the file, whoever wrote, and
 *    is told to each open file description at its own next sync. A sync writes
 *    back and hears of all of the file. So the one description with which a
 *    queue has always synced hears of the tail as well, for flushes and for
 *    FUA, and one sync is enough; a second description that were synced
 *    sometimes would only be one more place where an error can be told to
 *    nobody who counts.
 * 3. The file keeps its size: no transfer reaches beyond what it had at
 *    connect.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/range.h"
#include "io_uring.h"

#define NUM_ENTRIES_DEFAULT 128

/* --- Properties ------------------------------------------------------------ */

static int
get_capacity(struct blkio *b, struct prop_value *v)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	if (dev->tail_start != UINT64_MAX) {
		v->u64 = dev->tail_end;
		return 0;
	}
	return target_capacity(&dev->target, &v->u64);
}

static int
set_num_entries(struct blkio *b, const struct prop_value *v)
{
	if (v->i <= 0)
		return error_set(EINVAL, "num-entries must be greater than 0");
	container_of(b, struct io_uring_dev, b)->num_entries = v->i;
	return 0;
}

#define DEV(name, type, set_in, field) \
	PROP_FIELD(name, type, PROP_ALWAYS, set_in, struct io_uring_dev, field)
#define LIMIT(name, type, get_in, field) \
	PROP_FIELD(name, type, get_in, 0, struct io_uring_dev, b.limits.field)
#define CHECKED(name, type, set_in, field, set) \
	PROP_CHECKED(name, type, PROP_ALWAYS, set_in, struct io_uring_dev, field, set)

static const struct prop props[] = {
	PROP_COMPUTED("driver", PROP_STR, PROP_ALWAYS, prop_get_driver),
	DEV("path", PROP_STR, CREATED, path),
	DEV("fd", PROP_INT, CREATED, fd),
	DEV("direct", PROP_BOOL, CREATED, direct),
	DEV("read-only", PROP_BOOL, CREATED, b.read_only),
	DEV("x-buffered-tail", PROP_BOOL, CREATED, buffered_tail),
	DEV("x-strict-eof", PROP_BOOL, CREATED | CONNECTED, strict_eof),
	DEV("x-pin-mem-regions", PROP_BOOL, CREATED | CONNECTED, b.limits.may_pin_mem_regions),
	DEV("x-single-issuer", PROP_BOOL, CONNECTED, single_issuer),
	CHECKED("num-entries", PROP_INT, CONNECTED, num_entries, set_num_entries),
	CHECKED("num-queues", PROP_INT, CONNECTED, b.num_queues, prop_set_num_queues),
	CHECKED("num-poll-queues", PROP_INT, CONNECTED, b.num_poll_queues,
		prop_set_num_poll_queues),

	LIMIT("can-add-queues", PROP_BOOL, PROP_ALWAYS, can_add_queues),
	LIMIT("can-grow", PROP_BOOL, PROP_ALWAYS, can_grow),
	LIMIT("flush-needed", PROP_BOOL, PROP_ALWAYS, flush_needed),
	LIMIT("max-mem-regions", PROP_U64, PROP_ALWAYS, max_mem_regions),
	LIMIT("max-queues", PROP_INT, PROP_ALWAYS, max_queues),
	LIMIT("may-pin-mem-regions", PROP_BOOL, PROP_ALWAYS, may_pin_mem_regions),
	LIMIT("needs-mem-region-fd", PROP_BOOL, PROP_ALWAYS, needs_mem_region_fd),
	LIMIT("needs-mem-regions", PROP_BOOL, PROP_ALWAYS, needs_mem_regions),
	LIMIT("supports-fua-natively", PROP_BOOL, PROP_ALWAYS, supports_fua_natively),
	LIMIT("supports-poll-queues", PROP_BOOL, PROP_ALWAYS, supports_poll_queues),

	PROP_COMPUTED("capacity", PROP_U64, PROP_KNOWN, get_capacity),
	LIMIT("buf-alignment", PROP_INT, PROP_KNOWN, buf_alignment),
	LIMIT("discard-alignment", PROP_INT, PROP_KNOWN, discard_alignment),
	LIMIT("discard-alignment-offset", PROP_INT, PROP_KNOWN, discard_alignment_offset),
	LIMIT("max-discard-len", PROP_U64, PROP_KNOWN, max_discard_len),
	LIMIT("max-segment-len", PROP_INT, PROP_KNOWN, max_segment_len),
	LIMIT("max-segments", PROP_INT, PROP_KNOWN, max_segments),
	LIMIT("max-transfer", PROP_INT, PROP_KNOWN, max_transfer),
	LIMIT("max-write-zeroes-len", PROP_U64, PROP_KNOWN, max_write_zeroes_len),
	LIMIT("mem-region-alignment", PROP_U64, PROP_KNOWN, mem_region_alignment),
	LIMIT("optimal-buf-alignment", PROP_INT, PROP_KNOWN, optimal_buf_alignment),
	LIMIT("optimal-io-alignment", PROP_INT, PROP_KNOWN, optimal_io_alignment),
	LIMIT("optimal-io-size", PROP_INT, PROP_KNOWN, optimal_io_size),
	LIMIT("request-alignment", PROP_INT, PROP_KNOWN, request_alignment),
	PROP_FIELD("x-tail-start", PROP_U64, PROP_KNOWN, 0, struct io_uring_dev, tail_start),
	{ .name = NULL },
};

/* --- The tail --------------------------------------------------------------- */

/* Gives DEV the tail that T, with these limits, has to have, if any. */
static int
tail_open(struct io_uring_dev *dev, const struct target *t, const struct limits *l,
	  uint64_t capacity)
{
	int fd;

	if (!dev->buffered_tail || t->block || !t->direct ||
	    is_aligned(capacity, (uint64_t)l->request_alignment))
		return 0;
	fd = target_reopen(t, false);
	if (fd < 0)
		return error_os(-fd, "%s", ": cannot open the file once more, for its tail, "
					   "through /proc/self/fd");
	dev->tail_fd = fd;
	dev->tail_start = align_down(capacity, target_cache_unit(t, l->request_alignment));
	dev->tail_end = capacity;
	return 0;
}

bool
io_tail_refused(struct io_queue *q, uint64_t start, uint64_t len, void *user_data)
{
	if (likely(q->tail_start == UINT64_MAX) || range_ok(start, len, q->tail_start))
		return false;
	if (!range_ok(start, len, q->dev->tail_end))
		queue_fail(&q->q, user_data, EINVAL, MSG_RANGE);
	else if (start < q->tail_start)
		queue_fail(&q->q, user_data, EINVAL,
			   "a request must not cross property \"x-tail-start\"");
	else
		return io_queue_refused_on_poll(&q->q, user_data);
	return true;
}

/* --- The device ------------------------------------------------------------ */

static void
dev_init(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	dev->fd = -1;
	dev->target.fd = -1;
	dev->tail_fd = -1;
	dev->tail_start = UINT64_MAX;
	dev->num_entries = NUM_ENTRIES_DEFAULT;
	b->limits.can_add_queues = true;
	b->limits.flush_needed = true;
	b->limits.max_mem_regions = UINT64_MAX;
	b->limits.max_queues = INT_MAX;
}

static int
dev_connect(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);
	bool have_path = dev->path && *dev->path, have_fd = dev->fd >= 0;
	struct limits limits = b->limits;
	struct target t;
	uint64_t capacity;
	int ret;

	if (have_path && have_fd)
		return error_set(EINVAL, "path and fd cannot be set at the same time");
	if (!have_path && !have_fd)
		return error_set(EINVAL, "One of path and fd must be set");

	if (have_path)
		ret = target_open(&t, dev->path, b->read_only, dev->direct);
	else
		ret = target_adopt(&t, dev->fd);
	if (ret)
		return ret;
	ret = target_capacity(&t, &capacity);
	if (ret)
		goto close_target;
	target_limits(&t, &limits);
	ret = tail_open(dev, &t, &limits, capacity);
	if (ret)
		goto close_target;

	if (dev->tail_start != UINT64_MAX)
		limits.can_grow = false;
	b->limits = limits;
	atomic_store(&dev->capacity_seen, capacity);
	dev->target = t;
	dev->fd = t.fd;
	dev->adopted = have_fd;
	dev->direct = t.direct;
	b->read_only = t.read_only;
	return 0;

close_target:
	if (have_path)
		target_close(&t);
	return ret;
}

static void
dev_close(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	if (dev->tail_fd >= 0)
		close(dev->tail_fd);
	target_close(&dev->target);
	free(dev->path);
}

const struct driver io_uring_driver = {
	.name = "io_uring",
	.dev_size = sizeof(struct io_uring_dev),
	.props = props,
	.init = dev_init,
	.connect = dev_connect,
	.queue_open = io_queue_open,
	.close = dev_close,
};
