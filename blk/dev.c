/* SPDX-License-Identifier: MIT */
/*
 * dev.c - opening a device through the driver library.
 *
 * The path of dev_open(): create the handle; set the properties that belong
 * before connecting; connect; set those that belong after it, and the queues;
 * start; read the limits and hold them against their rules.
 *
 * The library may be a foreign libblkio: an unknown extension property is not
 * an error, an unknown property of the operator's is.
 */
#include "dev.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/range.h"
#include "blkio-ext.h"
#include "blkio.h"

/* Entries of a queue's ring, by default. A driver keeps what is beyond in line itself. */
#define QUEUE_ENTRIES 256

/* --- Limits ----------------------------------------------------------------- */

static int
check_multiple(const char *name, uint64_t value, const char *of_name, uint64_t of, struct err *err)
{
	if (of == 0 || value % of == 0)
		return 0;
	return err_set(err, -EINVAL, "limit %s is %llu, which is no multiple of %s %llu", name,
		       (unsigned long long)value, of_name, (unsigned long long)of);
}

int
dev_limits_check(const struct dev_limits *l, struct err *err)
{
	uint64_t align = l->request_alignment;
	int ret;

	if (align >= INT_MAX || !is_pow2(align))
		return err_set(err, -EINVAL,
			       "limit request-alignment is %llu, which is no power of two "
			       "below 2 GiB",
			       (unsigned long long)align);
	if (!is_pow2(l->mem_alignment))
		return err_set(err, -EINVAL, "limit buf-alignment is %llu, which is no power of two",
			       (unsigned long long)l->mem_alignment);
	if (l->opt_mem_alignment < 1)
		return err_set(err, -EINVAL,
			       "limit optimal-buf-alignment is 0, but must be 1 at least");
	if (l->max_segments < 1)
		return err_set(err, -EINVAL, "limit max-segments is 0, but must be 1 at least");
	if ((ret = check_multiple("optimal-io-size", l->opt_transfer, "request-alignment", align,
				  err)) < 0 ||
	    (ret = check_multiple("max-transfer", l->max_transfer, "request-alignment", align,
				  err)) < 0 ||
	    (ret = check_multiple("max-transfer", l->max_transfer, "optimal-io-size",
				  l->opt_transfer, err)) < 0 ||
	    (ret = check_multiple("discard-alignment", l->discard_alignment, "request-alignment",
				  align, err)) < 0 ||
	    (ret = check_multiple("max-discard-len", l->max_discard, "request-alignment", align,
				  err)) < 0 ||
	    (ret = check_multiple("max-write-zeroes-len", l->max_write_zeroes, "request-alignment",
				  align, err)) < 0 ||
	    (ret = check_multiple(BLKIO_EXT_ZERO_ALIGNMENT, l->zero_alignment, "request-alignment",
				  align, err)) < 0)
		return ret;
	return 0;
}

/* The optimum fits the limits, or is none. */
static void
drop_odd_optimum(struct dev_limits *l)
{
	if (l->opt_transfer && ((l->request_alignment && l->opt_transfer % l->request_alignment) ||
				l->max_transfer % l->opt_transfer))
		l->opt_transfer = 0;
}

/* --- Properties ------------------------------------------------------------- */

/* The driver library's own words for what just failed. */
static int
blkio_error(int ret, struct err *err)
{
	const char *msg = blkio_get_error_msg();

	return err_set(err, ret, "%s", msg && *msg ? msg : strerror(-ret));
}

static int
get_int(struct dev *dev, const char *name, uint64_t *value, struct err *err)
{
	int v, ret = blkio_get_int(dev->blkio, name, &v);

	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s", name);
	}
	if (v < 0)
		return err_set(err, -EINVAL, "property %s is %d, but must not be negative", name, v);
	*value = (uint64_t)v;
	return 0;
}

static int
get_u64(struct dev *dev, const char *name, uint64_t *value, struct err *err)
{
	int ret = blkio_get_uint64(dev->blkio, name, value);

	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s", name);
	}
	return 0;
}

static int
get_bool(struct dev *dev, const char *name, bool *value, struct err *err)
{
	int ret = blkio_get_bool(dev->blkio, name, value);

	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s", name);
	}
	return 0;
}

static int
set_str(struct dev *dev, const char *name, const char *value, struct err *err)
{
	int ret = blkio_set_str(dev->blkio, name, value);

	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s=%s", name, value);
	}
	return 0;
}

/* A property that not every driver, or not every library, has. */
static int
set_bool_if_known(struct dev *dev, const char *name, bool value, struct err *err)
{
	int ret = blkio_set_bool(dev->blkio, name, value);

	if (ret < 0 && ret != -ENOENT) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s=%s", name, value ? "true" : "false");
	}
	return 0;
}

/* *VALUE stays what it is where the driver does not know the property. */
static int
get_bool_if_known(struct dev *dev, const char *name, bool *value, struct err *err)
{
	bool v;
	int ret = blkio_get_bool(dev->blkio, name, &v);

	if (ret == -ENOENT)
		return 0;
	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property %s", name);
	}
	*value = v;
	return 0;
}

static int
get_int_if_known(struct dev *dev, const char *name, uint64_t *value, struct err *err)
{
	int v;

	return blkio_get_int(dev->blkio, name, &v) == -ENOENT ? 0 : get_int(dev, name, value, err);
}

static int
get_u64_if_known(struct dev *dev, const char *name, uint64_t *value, struct err *err)
{
	uint64_t v;

	return blkio_get_uint64(dev->blkio, name, &v) == -ENOENT ? 0 :
								   get_u64(dev, name, value, err);
}

/* --- Open ------------------------------------------------------------------- */

static int
read_limits(struct dev *dev, struct err *err)
{
	struct dev_limits *l = &dev->limits;
	uint64_t max_segments, opt_transfer;
	int ret;

	if ((ret = get_u64(dev, "capacity", &dev->size_bytes, err)) < 0 ||
	    (ret = get_int(dev, "request-alignment", &l->request_alignment, err)) < 0 ||
	    (ret = get_int(dev, "optimal-io-size", &l->opt_transfer, err)) < 0 ||
	    (ret = get_int(dev, "max-transfer", &l->max_transfer, err)) < 0 ||
	    (ret = get_int(dev, "max-segments", &max_segments, err)) < 0 ||
	    (ret = get_int(dev, "buf-alignment", &l->mem_alignment, err)) < 0 ||
	    (ret = get_int(dev, "optimal-buf-alignment", &l->opt_mem_alignment, err)) < 0 ||
	    (ret = get_int(dev, "discard-alignment", &l->discard_alignment, err)) < 0 ||
	    (ret = get_u64(dev, "max-discard-len", &l->max_discard, err)) < 0 ||
	    (ret = get_u64(dev, "max-write-zeroes-len", &l->max_write_zeroes, err)) < 0 ||
	    (ret = get_int_if_known(dev, BLKIO_EXT_ZERO_ALIGNMENT, &l->zero_alignment, err)) < 0 ||
	    (ret = get_u64_if_known(dev, BLKIO_EXT_TAIL_START, &dev->tail_start, err)) < 0 ||
	    /* What was asked for, or what the operator's own properties made of it. */
	    (ret = get_bool(dev, "read-only", &dev->read_only, err)) < 0 ||
	    (ret = get_bool_if_known(dev, "direct", &dev->direct, err)) < 0 ||
	    (ret = get_bool(dev, "flush-needed", &dev->flush_needed, err)) < 0 ||
	    (ret = get_bool(dev, "supports-fua-natively", &dev->fua_native, err)) < 0 ||
	    (ret = get_bool_if_known(dev, "needs-mem-regions", &dev->needs_regions, err)) < 0)
		return ret;
	l->max_segments = (unsigned)max_segments;
	/* An optimum is a wish, and real disks report odd ones. */
	opt_transfer = l->opt_transfer;
	drop_odd_optimum(l);
	dev->dropped_opt_transfer = opt_transfer - l->opt_transfer;

	ret = dev_limits_check(l, err);
	if (ret < 0)
		return ret;
	if (dev->size_bytes > INT64_MAX)
		return err_set(err, -EFBIG, "capacity is %llu bytes, but at most 2^63-1 can be served",
			       (unsigned long long)dev->size_bytes);
	if (dev->tail_start != UINT64_MAX &&
	    (dev->tail_start % l->request_alignment || dev->tail_start > dev->size_bytes))
		return err_set(err, -EINVAL,
			       "property " BLKIO_EXT_TAIL_START " is %llu, which is beyond the "
			       "capacity %llu or no multiple of request-alignment %llu",
			       (unsigned long long)dev->tail_start,
			       (unsigned long long)dev->size_bytes,
			       (unsigned long long)l->request_alignment);
	if (dev->tail_start == UINT64_MAX && dev->size_bytes % l->request_alignment)
		return err_set(err, -EINVAL,
			       "size %llu is no multiple of the request alignment %llu, which "
			       "direct I/O needs; use a page cache mode such as writeback",
			       (unsigned long long)dev->size_bytes,
			       (unsigned long long)l->request_alignment);
	return 0;
}

/* Some properties can be set only once connected: those are left for later. */
static int
set_props(struct dev *dev, const struct dev_config *config, bool connected, uint64_t *later,
	  struct err *err)
{
	for (unsigned i = 0; i < config->nprops; i++) {
		const struct dev_prop *p = &config->props[i];
		int ret;

		if (connected && !(*later & (1ull << i)))
			continue;
		ret = set_str(dev, p->name, p->value, err);
		if (!connected && ret == -ENODEV)
			*later |= 1ull << i;
		else if (ret < 0)
			return ret;
	}
	return 0;
}

static int
connect_and_start(struct dev *dev, const struct dev_config *config, struct err *err)
{
	uint64_t later = 0;
	int ret;

	if (config->nprops > 64)
		return err_set(err, -E2BIG, "%u properties, but at most 64 can be given",
			       config->nprops);
	if ((ret = set_bool_if_known(dev, "direct", dev->direct, err)) < 0 ||
	    (ret = set_bool_if_known(dev, "read-only", dev->read_only, err)) < 0 ||
	    (ret = set_bool_if_known(dev, BLKIO_EXT_STRICT_EOF, true, err)) < 0 ||
	    (ret = set_bool_if_known(dev, BLKIO_EXT_BUFFERED_TAIL, true, err)) < 0 ||
	    /* What dev_map() tells of stays where it is: it may be pinned. */
	    (ret = set_bool_if_known(dev, BLKIO_EXT_PIN_MEM_REGIONS, true, err)) < 0 ||
	    (ret = set_props(dev, config, false, &later, err)) < 0)
		return ret;

	ret = blkio_connect(dev->blkio);
	if (ret < 0)
		return blkio_error(ret, err);

	/* A default, which the operator may change. */
	ret = blkio_set_int(dev->blkio, "num-entries", QUEUE_ENTRIES);
	if (ret < 0 && ret != -ENOENT) {
		blkio_error(ret, err);
		return err_prefix(err, "property num-entries=%d", QUEUE_ENTRIES);
	}
	ret = set_props(dev, config, true, &later, err);
	if (ret < 0)
		return ret;
	ret = blkio_set_int(dev->blkio, "num-queues", (int)config->nqueues);
	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "property num-queues=%u", config->nqueues);
	}
	ret = set_bool_if_known(dev, BLKIO_EXT_SINGLE_ISSUER, true, err);
	if (ret < 0)
		return ret;

	ret = blkio_start(dev->blkio);
	if (ret < 0)
		return blkio_error(ret, err);
	return 0;
}

int
dev_open(struct dev **devp, const struct dev_config *config, struct err *err)
{
	struct dev *dev = aligned_alloc(_Alignof(struct dev), sizeof(*dev));
	int ret;

	if (!dev)
		return err_set(err, -ENOMEM, "device: out of memory");
	memset(dev, 0, sizeof(*dev));
	pthread_mutex_init(&dev->lock, NULL);
	track_init(&dev->track);
	flush_init(&dev->flush);
	drain_init(&dev->drain);
	dev->direct = config->cache == DEV_CACHE_NONE || config->cache == DEV_CACHE_DIRECTSYNC;
	dev->write_through =
		config->cache == DEV_CACHE_WRITETHROUGH || config->cache == DEV_CACHE_DIRECTSYNC;
	dev->unsafe = config->cache == DEV_CACHE_UNSAFE;
	dev->read_only = config->read_only;
	dev->discard = config->discard;
	dev->detect_zeroes = config->detect_zeroes;
	dev->nqueues = config->nqueues;
	dev->tail_start = UINT64_MAX;

	ret = blkio_create(config->driver, &dev->blkio);
	if (ret < 0) {
		blkio_error(ret, err);
		err_prefix(err, "driver %s", config->driver);
		goto fail;
	}
	ret = connect_and_start(dev, config, err);
	if (ret < 0)
		goto fail;
	ret = read_limits(dev, err);
	if (ret < 0)
		goto fail;
	*devp = dev;
	return 0;

fail:
	dev_close(dev);
	return ret;
}

void
dev_close(struct dev *dev)
{
	if (!dev)
		return;
	if (dev->blkio)
		blkio_destroy(&dev->blkio);
	drain_fini(&dev->drain);
	flush_fini(&dev->flush);
	track_fini(&dev->track);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

struct blkioq *
dev_queue(struct dev *dev, unsigned index)
{
	struct blkioq *q;

	invariant(index < dev->nqueues);
	q = blkio_get_queue(dev->blkio, (int)index);
	invariant(q);
	return q;
}

int
dev_add_queue(struct dev *dev, struct blkioq **qp, struct err *err)
{
	int index, ret = 0;

	pthread_mutex_lock(&dev->lock);
	index = blkio_add_queue(dev->blkio);
	if (index < 0)
		ret = blkio_error(index, err);
	else
		*qp = blkio_get_queue(dev->blkio, index);
	pthread_mutex_unlock(&dev->lock);
	return ret;
}

static struct blkio_mem_region
to_blkio_region(const struct buf_region *region)
{
	return (struct blkio_mem_region){
		.addr = region->addr,
		.len = region->len_bytes,
		.fd = region->fd,
		.fd_offset = region->fd_offset,
	};
}

int
dev_map(struct dev *dev, const struct buf_region *region, struct err *err)
{
	struct blkio_mem_region r = to_blkio_region(region);
	int ret;

	pthread_mutex_lock(&dev->lock);
	ret = blkio_map_mem_region(dev->blkio, &r);
	pthread_mutex_unlock(&dev->lock);
	if (ret < 0) {
		blkio_error(ret, err);
		return err_prefix(err, "mapping %zu bytes of payload memory", region->len_bytes);
	}
	return 0;
}

void
dev_unmap(struct dev *dev, const struct buf_region *region)
{
	struct blkio_mem_region r = to_blkio_region(region);

	pthread_mutex_lock(&dev->lock);
	blkio_unmap_mem_region(dev->blkio, &r);
	pthread_mutex_unlock(&dev->lock);
}

bool
dev_flush_failed(const struct dev *dev)
{
	return dev_flush_error(dev) < 0;
}

int
dev_flush_error(const struct dev *dev)
{
	return __atomic_load_n(&dev->flush_error, __ATOMIC_ACQUIRE);
}

void
dev_flush_fail(struct dev *dev, int ret)
{
	int none = 0;

	__atomic_compare_exchange_n(&dev->flush_error, &none, ret, false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
}
