/* SPDX-License-Identifier: MIT */
/*
 * dev.h - an open device: its driver handle and its limits.
 *
 * 1. Made and freed by main; constant between dev_open() and dev_close(), but
 *    for the members under "shared" below, which say how.
 * 2. The limits hold the rules of dev_limits_check(); everything above relies
 *    on them without looking again.
 * 3. size_bytes is what the device had when it was opened.
 * 4. A device may have a tail that the driver serves to the byte: from
 *    tail_start, a multiple of the request alignment, to its end. There is
 *    nothing to align there, but no request to the driver crosses tail_start.
 *    Otherwise the size is a multiple of the request alignment.
 */
#ifndef BLK_DEV_H
#define BLK_DEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/range.h"
#include "buf.h"
#include "drain.h"
#include "err.h"
#include "flush.h"
#include "track.h"

struct blkio;
struct blkioq;

/* Bytes unless the name says otherwise; 0 means "no limit" where so marked. */
struct dev_limits {
	uint64_t request_alignment;	 /* power of two */
	uint64_t opt_transfer;		 /* 0: none; multiple of request_alignment */
	uint64_t max_transfer;		 /* 0: none; multiple of the two above */
	unsigned max_segments;		 /* >= 1 */
	uint64_t mem_alignment;		 /* of addresses, power of two */
	uint64_t opt_mem_alignment;	 /* of addresses that are fastest; a wish; >= 1 */
	uint64_t discard_alignment;	 /* 0: none; multiple of request_alignment */
	uint64_t max_discard;		 /* 0: none; likewise */
	uint64_t max_write_zeroes;	 /* 0: none; likewise */
	uint64_t zero_alignment;	 /* of zeroes that are cheap; 0: none; likewise */
};

enum dev_cache {
	DEV_CACHE_WRITEBACK,	/* page cache; durable after a flush */
	DEV_CACHE_NONE,		/* O_DIRECT; durable after a flush */
	DEV_CACHE_WRITETHROUGH, /* page cache; every write is durable */
	DEV_CACHE_DIRECTSYNC,	/* O_DIRECT; every write is durable */
	DEV_CACHE_UNSAFE,	/* page cache; flushes do nothing */
};

/* What becomes of written data that is all zero. */
enum dev_detect {
	DEV_DETECT_OFF,	  /* it is written */
	DEV_DETECT_ON,	  /* zeroes are written, as cheaply as the device can */
	DEV_DETECT_UNMAP, /* ... and may become holes */
};

struct dev_prop {
	const char *name, *value;
};

struct dev_config {
	const char *driver;
	const struct dev_prop *props; /* set before connecting, or after where only that works */
	unsigned nprops;
	enum dev_cache cache;
	bool read_only;
	bool discard;	  /* false: discards do nothing */
	enum dev_detect detect_zeroes;
	unsigned nqueues; /* made at open; 0: by dev_add_queue() alone */
};

struct dev {
	struct blkio *blkio;
	uint64_t size_bytes;
	uint64_t tail_start; /* UINT64_MAX: no tail */
	uint64_t dropped_opt_transfer; /* an optimal-io-size that fits no request; 0: none */
	struct dev_limits limits;
	bool read_only;
	bool direct;	    /* bypasses the page cache */
	bool write_through; /* every write carries FUA */
	bool unsafe;	    /* flushes succeed without I/O */
	bool discard;
	bool flush_needed; /* false: completed writes are durable */
	bool fua_native;   /* the device does FUA itself, write by write */
	enum dev_detect detect_zeroes;
	bool needs_regions; /* takes memory of mapped regions only */
	unsigned nqueues;  /* made at open */

	/* Shared; each with its own lock. */
	struct track track; /* used where request_alignment is above 1 */
	struct flush flush;
	struct drain drain;
	int flush_error;      /* latched; atomic access through dev_flush_error() */
	uint64_t punches;     /* zeroes and discards that have ended; atomic; see status.h */
	pthread_mutex_t lock; /* over calls of blkio while workers run: it takes one at a time */
};

/*
 * Opens a device and reads its limits. Context: main (it blocks).
 * Errors: the driver's, with its text and the property it was about; -EINVAL
 * when a limit breaks its rule.
 */
int dev_open(struct dev **devp, const struct dev_config *config, struct err *err) no_co_fn;

/* Invariant: nothing in flight. NULL is fine. Context: main. */
void dev_close(struct dev *dev);

/* Queue INDEX of those made at open. */
struct blkioq *dev_queue(struct dev *dev, unsigned index);

/* One more queue, for a worker's first use. Any thread; blocks shortly. */
int dev_add_queue(struct dev *dev, struct blkioq **qp, struct err *err);

/* Makes memory known to the driver. Any thread, after open. */
int dev_map(struct dev *dev, const struct buf_region *region, struct err *err);
void dev_unmap(struct dev *dev, const struct buf_region *region);

/* The request alignment that holds at OFF. */
static inline uint64_t
dev_align_at(const struct dev *dev, uint64_t off)
{
	return off < dev->tail_start ? dev->limits.request_alignment : 1;
}

/* OFF, rounded to where a request may begin or end. OFF is on the device. */
static inline uint64_t
dev_align_down(const struct dev *dev, uint64_t off)
{
	return align_down(off, dev_align_at(dev, off));
}

static inline uint64_t
dev_align_up(const struct dev *dev, uint64_t off)
{
	return align_up(off, dev_align_at(dev, off));
}

/* How much of LEN bytes at OFF one request may have before the tail begins. */
static inline uint64_t
dev_before_tail(const struct dev *dev, uint64_t off, uint64_t len)
{
	return off < dev->tail_start ? MIN(len, dev->tail_start - off) : len;
}

/*
 * The rules of the block layer for limits; pure. ERR names limit, value and
 * rule. -EINVAL.
 */
int dev_limits_check(const struct dev_limits *limits, struct err *err);

/* Whether a flush has failed since the device was opened. Any thread. */
bool dev_flush_failed(const struct dev *dev);
/* What the first one that failed said, -errno; or 0. Any thread. */
int dev_flush_error(const struct dev *dev);
/* RET: -errno. The first one stays. */
void dev_flush_fail(struct dev *dev, int ret);

#endif
