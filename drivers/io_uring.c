/* SPDX-License-Identifier: MIT */
/*
 * io_uring.c - the driver "io_uring": regular files and block devices through
 * the kernel.
 *
 * The path: "path" or "fd" is set; dev_connect() opens or takes it and asks it
 * for its limits (target.c); start makes queues (io_uring_queue.c). Until
 * connect has succeeded nothing has changed, and an fd is still the caller's.
 */
#include <limits.h>
#include <stdlib.h>

#include "io_uring.h"

#define NUM_ENTRIES_DEFAULT 128

/* --- Properties ------------------------------------------------------------ */

static int
get_capacity(struct blkio *b, struct prop_value *v)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

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
	{ .name = NULL },
};

/* --- The device ------------------------------------------------------------ */

static void
dev_init(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

	dev->fd = -1;
	dev->target.fd = -1;
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
	if (ret) {
		if (have_path)
			target_close(&t);
		return ret;
	}

	target_limits(&t, &b->limits);
	atomic_store(&dev->capacity_seen, capacity);
	dev->target = t;
	dev->fd = t.fd;
	dev->direct = t.direct;
	b->read_only = t.read_only;
	return 0;
}

static void
dev_close(struct blkio *b)
{
	struct io_uring_dev *dev = container_of(b, struct io_uring_dev, b);

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
