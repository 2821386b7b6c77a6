/* SPDX-License-Identifier: MIT */
/*
 * buf.c - payload memory of one worker; see buf.h.
 *
 * The path: buf_co_get() asks try_get(): a chunk from a slab of its class, or
 * a free slab cut for that class, or, above 1 MiB, as many whole slabs as it
 * takes. Nothing there: wait in line. buf_put() returns chunks to their slab
 * and an empty slab to the free list, then serves both lines from their heads.
 *
 * Invariants:
 * I1. A slab is free (class CLASS_FREE), whole (CLASS_WHOLE) or cut into chunks
 *     of one class; a cut slab with no chunk in use becomes free.
 * I2. partial[c] holds exactly the slabs of class c that have a free chunk.
 * I3. While somebody waits in a line, newcomers to it wait behind them.
 * I4. Which chunks are free is kept outside the payload memory, so handing it
 *     out touches none of it.
 */
#include "buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/list.h"
#include "base/range.h"
#include "co_lock.h"

#define CLASSES 9 /* 4 KiB << 0 ... 4 KiB << 8 */
#define CHUNKS_MAX (BUF_SLAB_BYTES / BUF_CHUNK_MIN)
/* Slabs unused for this long go back to the kernel. */
#define IDLE_NS (5ull * 1000000000u)

_Static_assert(BUF_CHUNK_MIN << (CLASSES - 1) == BUF_CHUNK_MAX, "classes reach from min to max");

enum { CLASS_FREE = -1, CLASS_WHOLE = -2 };
enum line { LINE_SMALL, LINE_OTHERS, LINES };

struct slab {
	struct list link; /* on pool->free, or pool->partial[class] */
	int class;
	bool resident;	 /* its pages may exist */
	uint64_t freed;	 /* when, on the loop's clock */
	unsigned used;	 /* chunks in use */
	unsigned fresh;	 /* chunks [fresh, total) were never handed out */
	unsigned nfree;	 /* entries of free_chunk: handed out and returned */
	uint16_t free_chunk[CHUNKS_MAX];
};

struct waiter {
	struct list link;
	struct co *co;
	struct buf *buf;
	size_t len_bytes;
};

struct buf_pool {
	struct loop *loop;
	char *mem;
	int fd;
	unsigned nslabs, nfree;
	unsigned nsmall; /* slabs cut for small requests */
	struct list free; /* of slab.link; the first slab in front, then resident ones */
	struct list partial[CLASSES];
	struct list waiters[LINES]; /* of waiter.link, oldest first */
	uint64_t waits;
	struct loop_timer idle;
	struct slab slabs[];
};

/* --- Slabs ------------------------------------------------------------------ */

static char *
slab_mem(const struct buf_pool *pool, const struct slab *slab)
{
	return pool->mem + (size_t)(slab - pool->slabs) * BUF_SLAB_BYTES;
}

static size_t
class_bytes(int class)
{
	return (size_t)BUF_CHUNK_MIN << class;
}

static int
class_of(size_t len_bytes)
{
	int class = 0;

	while (class_bytes(class) < len_bytes)
		class++;
	return class;
}

static bool
slab_exhausted(const struct slab *slab)
{
	return slab->nfree == 0 && slab->fresh == BUF_SLAB_BYTES / class_bytes(slab->class);
}

size_t
buf_footprint(size_t len_bytes)
{
	return len_bytes <= BUF_CHUNK_MAX ? class_bytes(class_of(len_bytes)) :
					    align_up(len_bytes, BUF_SLAB_BYTES);
}

static enum line
line_of(size_t len_bytes)
{
	return len_bytes <= BUF_SMALL_MAX ? LINE_SMALL : LINE_OTHERS;
}

static bool
class_is_small(int class)
{
	return class >= 0 && class_bytes(class) <= BUF_SMALL_MAX;
}

/* Free slabs that a request of LINE may take. */
static unsigned
slabs_for(const struct buf_pool *pool, enum line line)
{
	/* What small ones have is part of their reserve. */
	unsigned kept = BUF_SLABS_RESERVED - MIN(pool->nsmall, (unsigned)BUF_SLABS_RESERVED);

	if (line == LINE_OTHERS)
		return pool->nfree > kept ? pool->nfree - kept : 0;
	if (!list_empty(&pool->waiters[LINE_OTHERS]) && pool->nsmall >= BUF_SLABS_RESERVED)
		return 0;
	return pool->nfree;
}

/* Invariant: slabs_for() says there is one. */
static struct slab *
slab_take(struct buf_pool *pool, int class)
{
	struct list *link = list_pop(&pool->free);
	struct slab *slab;

	invariant(link);
	slab = list_entry(link, struct slab, link);
	pool->nfree--;
	pool->nsmall += class_is_small(class);
	slab->class = class;
	slab->resident = true;
	slab->used = slab->fresh = slab->nfree = 0;
	if (class >= 0)
		list_add_head(&pool->partial[class], &slab->link);
	return slab;
}

static void
idle_run(struct loop_timer *timer)
{
	struct buf_pool *pool = container_of(timer, struct buf_pool, idle);
	uint64_t now = loop_now(pool->loop);
	bool more = false;
	struct slab *slab;

	loop_assert();
	list_for_each(slab, &pool->free, link) {
		if (!slab->resident || slab == &pool->slabs[0])
			continue;
		if (now - slab->freed < IDLE_NS) {
			more = true;
			continue;
		}
		/* Failing only means that the pages stay. */
		(void)madvise(slab_mem(pool, slab), BUF_SLAB_BYTES, MADV_REMOVE);
		slab->resident = false;
	}
	if (more)
		loop_timer_arm(pool->loop, &pool->idle, IDLE_NS, idle_run);
}

static void loop_fn
slab_free(struct buf_pool *pool, struct slab *slab)
{
	pool->nsmall -= class_is_small(slab->class);
	slab->class = CLASS_FREE;
	pool->nfree++;
	if (slab == &pool->slabs[0] || pool->free.next != &pool->slabs[0].link)
		list_add_head(&pool->free, &slab->link);
	else
		list_add_head(&pool->slabs[0].link, &slab->link);
	slab->freed = loop_now(pool->loop);
	if (slab != &pool->slabs[0] && !list_linked(&pool->idle.link))
		loop_timer_arm(pool->loop, &pool->idle, IDLE_NS, idle_run);
}

/* --- Get and put ------------------------------------------------------------ */

static bool
try_get_chunk(struct buf_pool *pool, struct buf *buf, size_t len_bytes)
{
	int class = class_of(len_bytes);
	struct slab *slab;
	unsigned chunk;

	if (list_empty(&pool->partial[class])) {
		if (slabs_for(pool, line_of(len_bytes)) == 0)
			return false;
		slab_take(pool, class);
	}
	slab = list_entry(pool->partial[class].next, struct slab, link);
	chunk = slab->nfree ? slab->free_chunk[--slab->nfree] : slab->fresh++;
	slab->used++;
	if (slab_exhausted(slab))
		list_del(&slab->link);
	buf->iov[0].iov_base = slab_mem(pool, slab) + chunk * class_bytes(class);
	buf->iov[0].iov_len = len_bytes;
	buf->iovcnt = 1;
	return true;
}

static bool
try_get(struct buf_pool *pool, struct buf *buf, size_t len_bytes)
{
	size_t nslabs = (len_bytes + BUF_SLAB_BYTES - 1) / BUF_SLAB_BYTES;

	buf->len_bytes = len_bytes;
	if (len_bytes <= BUF_CHUNK_MAX)
		return try_get_chunk(pool, buf, len_bytes);
	if (slabs_for(pool, LINE_OTHERS) < nslabs)
		return false;
	for (size_t i = 0; i < nslabs; i++) {
		struct slab *slab = slab_take(pool, CLASS_WHOLE);

		buf->iov[i].iov_base = slab_mem(pool, slab);
		buf->iov[i].iov_len = MIN(len_bytes, (size_t)BUF_SLAB_BYTES);
		len_bytes -= buf->iov[i].iov_len;
	}
	buf->iovcnt = (int)nslabs;
	return true;
}

void
buf_co_get(struct buf_pool *pool, struct buf *buf, size_t len_bytes)
{
	struct list *line = &pool->waiters[line_of(len_bytes)];
	struct waiter w = { .buf = buf, .len_bytes = len_bytes };

	invariant(len_bytes > 0 && len_bytes <= BUF_BYTES_MAX);
	buf->iovcnt = 0;
	if (list_empty(line) && try_get(pool, buf, len_bytes))
		return;
	pool->waits++;
	w.co = co_self(loop_sched(pool->loop));
	list_add_tail(line, &w.link);
	co_yield(loop_sched(pool->loop)); /* served by buf_put() */
	invariant(buf->iovcnt > 0);
}

void
buf_skip(struct buf *buf, size_t skip_bytes)
{
	/* Within the first chunk, so that buf_put() still knows it by its address. */
	invariant(skip_bytes < BUF_CHUNK_MIN && skip_bytes < buf->iov[0].iov_len);
	buf->iov[0].iov_base = (char *)buf->iov[0].iov_base + skip_bytes;
	buf->iov[0].iov_len -= skip_bytes;
}

static void loop_fn
put_segment(struct buf_pool *pool, const struct iovec *iov)
{
	size_t off = (size_t)((char *)iov->iov_base - pool->mem);
	struct slab *slab = &pool->slabs[off / BUF_SLAB_BYTES];

	invariant(off / BUF_SLAB_BYTES < pool->nslabs && slab->class != CLASS_FREE);
	if (slab->class == CLASS_WHOLE) {
		slab_free(pool, slab);
		return;
	}
	if (slab_exhausted(slab))
		list_add_head(&pool->partial[slab->class], &slab->link);
	slab->free_chunk[slab->nfree++] =
		(uint16_t)(off % BUF_SLAB_BYTES / class_bytes(slab->class));
	if (--slab->used > 0)
		return;
	list_del(&slab->link);
	slab_free(pool, slab);
}

static void loop_fn
line_serve(struct buf_pool *pool, struct list *line)
{
	while (!list_empty(line)) {
		struct waiter *w = list_entry(line->next, struct waiter, link);

		if (!try_get(pool, w->buf, w->len_bytes))
			return;
		list_del(&w->link);
		co_ready(w->co);
	}
}

void
buf_put(struct buf_pool *pool, struct buf *buf)
{
	for (int i = 0; i < buf->iovcnt; i++)
		put_segment(pool, &buf->iov[i]);
	buf->iovcnt = 0;

	/* The others first: when none is left waiting small ones may have more. */
	line_serve(pool, &pool->waiters[LINE_OTHERS]);
	line_serve(pool, &pool->waiters[LINE_SMALL]);
}

size_t
buf_pool_used(const struct buf_pool *pool)
{
	return (size_t)(pool->nslabs - pool->nfree) * BUF_SLAB_BYTES;
}

uint64_t
buf_pool_waits(const struct buf_pool *pool)
{
	return pool->waits;
}

/* --- Life ------------------------------------------------------------------- */

int
buf_pool_new(struct buf_pool **poolp, size_t share_bytes, struct err *err)
{
	size_t least = BUF_BYTES_MAX + (size_t)BUF_SLABS_RESERVED * BUF_SLAB_BYTES;
	size_t share = align_up(MAX(share_bytes, least), BUF_SLAB_BYTES);
	unsigned nslabs = (unsigned)(share / BUF_SLAB_BYTES);
	struct buf_pool *pool = calloc(1, sizeof(*pool) + nslabs * sizeof(pool->slabs[0]));
	int ret;

	if (!pool)
		return err_set(err, -ENOMEM, "buffer pool: out of memory");
	pool->nslabs = nslabs;
	list_init(&pool->free);
	for (int line = 0; line < LINES; line++)
		list_init(&pool->waiters[line]);
	for (int class = 0; class < CLASSES; class++)
		list_init(&pool->partial[class]);
	for (unsigned i = 0; i < nslabs; i++) {
		pool->slabs[i].class = CLASS_FREE;
		list_add_tail(&pool->free, &pool->slabs[i].link);
	}
	pool->nfree = nslabs;

	pool->fd = memfd_create("blkgate-payload", MFD_CLOEXEC);
	if (pool->fd < 0) {
		ret = err_set(err, -errno, "buffer pool: memfd_create: %s", strerror(errno));
		goto free_pool;
	}
	if (ftruncate(pool->fd, (off_t)share) < 0) {
		ret = err_set(err, -errno, "buffer pool: %zu bytes: %s", share, strerror(errno));
		goto close_fd;
	}
	pool->mem = mmap(NULL, share, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, pool->fd, 0);
	if (pool->mem == MAP_FAILED) {
		ret = err_set(err, -errno, "buffer pool: %zu bytes: %s", share, strerror(errno));
		goto close_fd;
	}
	/* Faulted now, so that the first requests do not pay; best effort. */
	(void)madvise(pool->mem, BUF_SLAB_BYTES, MADV_POPULATE_WRITE);
	(void)madvise(pool->mem, share, MADV_DONTDUMP);
	*poolp = pool;
	return 0;

close_fd:
	close(pool->fd);
free_pool:
	free(pool);
	return ret;
}

void
buf_pool_attach(struct buf_pool *pool, struct loop *loop)
{
	pool->loop = loop;
}

void
buf_pool_detach(struct buf_pool *pool)
{
	loop_timer_disarm(&pool->idle);
}

void
buf_pool_free(struct buf_pool *pool)
{
	if (!pool)
		return;
	for (int line = 0; line < LINES; line++)
		invariant(list_empty(&pool->waiters[line]));
	for (unsigned i = 0; i < pool->nslabs; i++)
		invariant(pool->slabs[i].class == CLASS_FREE);
	munmap(pool->mem, (size_t)pool->nslabs * BUF_SLAB_BYTES);
	close(pool->fd);
	free(pool);
}

void
buf_pool_region(const struct buf_pool *pool, struct buf_region *region)
{
	*region = (struct buf_region){
		.addr = pool->mem,
		.len_bytes = BUF_SLAB_BYTES,
		.fd = pool->fd,
		.fd_offset = 0,
	};
}
