/* SPDX-License-Identifier: MIT */
/*
 * buf.h - payload memory of one worker.
 *
 * 1. One reserved, memfd-backed mapping, cut into slabs of 4 MiB. The first is
 *    faulted in at start and never given back; drivers may register it. The
 *    others are taken on first use and given back to the kernel when idle.
 * 2. A request takes all it needs in one buf_co_get(), or waits. There are two
 *    lines, for small requests and for the rest, each served strictly in order.
 *    The last BUF_SLABS_RESERVED slabs are for small ones alone, and while
 *    others wait small ones take no more than those: neither starves the other.
 * 3. The pool never grows beyond its share and nothing is allocated after
 *    buf_pool_new(): when it is empty, callers wait.
 * 4. Owner thread only, except new and free.
 *
 * Whoever holds a buffer never waits for a request slot or a second buffer:
 * that order (slot, payload, device) is what keeps the pool free of deadlock.
 */
#ifndef BLK_BUF_H
#define BLK_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "err.h"
#include "loop.h"

#define BUF_SLAB_BYTES (4u << 20)
/* Chunks are 4 KiB, 8 KiB ... 1 MiB; what is larger takes whole slabs. */
#define BUF_CHUNK_MIN (4u << 10)
#define BUF_CHUNK_MAX (1u << 20)
/* Small is what takes a chunk of at most this. */
#define BUF_SMALL_MAX (32u << 10)
#define BUF_SLABS_RESERVED 2
/* The largest buf_co_get(), and so the largest request served (64 MiB). */
#define BUF_SLABS_MAX 16
#define BUF_BYTES_MAX ((size_t)BUF_SLABS_MAX * BUF_SLAB_BYTES)

struct buf_pool;

struct buf {
	size_t len_bytes; /* as asked for; buf_skip() leaves it */
	int iovcnt;	  /* 0: holds nothing */
	struct iovec iov[BUF_SLABS_MAX];
};

/* What a driver may register: the slab that stays. */
struct buf_region {
	void *addr;
	size_t len_bytes;
	int fd; /* of the memfd, the pool's own */
	int64_t fd_offset;
};

/*
 * Makes a pool of SHARE_BYTES (rounded up to slabs, at least BUF_BYTES_MAX and
 * the reserve).
 * Context: main. Errors: -ENOMEM, -EMFILE.
 */
int buf_pool_new(struct buf_pool **poolp, size_t share_bytes, struct err *err);

/* Invariant: every buffer was put back. NULL is fine. Context: main. */
void buf_pool_free(struct buf_pool *pool);

/* The loop on which callers wait; before the first get. Context: owner. */
void buf_pool_attach(struct buf_pool *pool, struct loop *loop);

/* Ends the idle timer. Context: owner, when nothing is held any more. */
void buf_pool_detach(struct buf_pool *pool) loop_fn;

void buf_pool_region(const struct buf_pool *pool, struct buf_region *region);

/*
 * Fills BUF with LEN_BYTES (1 ... BUF_BYTES_MAX) of uninitialised memory; waits
 * until there is that much. Segments are page-aligned.
 */
void buf_co_get(struct buf_pool *pool, struct buf *buf, size_t len_bytes) co_fn;

/* Has the memory begin SKIP bytes later: for data of a certain alignment. */
void buf_skip(struct buf *buf, size_t skip_bytes);

/* Bytes of the pool that a buffer of LEN_BYTES takes. Any context. */
size_t buf_footprint(size_t len_bytes);

/* Gives BUF's memory back; one that holds nothing is fine. */
void buf_put(struct buf_pool *pool, struct buf *buf) loop_fn;

/* Bytes of slabs in use now, and requests that had to wait so far. */
size_t buf_pool_used(const struct buf_pool *pool);
uint64_t buf_pool_waits(const struct buf_pool *pool);

#endif
