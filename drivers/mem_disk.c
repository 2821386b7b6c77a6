/* SPDX-License-Identifier: MIT */
/*
 * mem_disk.c - the driver "mem": a RAM disk that takes memory as it is written.
 *
 * The path of a write: queue_writev() puts the request on the queue's list;
 * queue_run(), at the next blkioq_do_io(), executes the whole list. A transfer
 * is cut into chunks of 1 MiB, each copied under the lock of its chunk;
 * chunk_slot() walks a radix tree from the root and makes what is missing.
 *
 * Chunks are anonymous mappings: the kernel hands out their pages one by one
 * on first use, and takes pages of a chunk back on discard; a chunk that is
 * discarded as a whole is unmapped. What was never written, or discarded, has
 * no memory and reads as zeroes.
 *
 * The failures: no address space or mappings for another chunk is -ENOSPC to
 * the request, like a full thin disk. What was copied before stays.
 *
 * 1. Any thread may walk the tree without a lock: nodes are only ever added
 *    (by compare-and-swap) until the device is closed.
 * 2. A chunk's pointer, map and bytes are read under its lock held for reading,
 *    and changed under its lock held for writing. Locks are picked by the
 *    chunk's number; nobody holds two.
 * 3. A page that is not set in its chunk's map has no memory, or never had, and
 *    is zero. Without a chunk the map is empty.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/range.h"
#include "driver.h"

#define CHUNK_SHIFT 20
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_SHIFT)

/* Tree: each level tells FANOUT_SHIFT bits of the chunk's number apart. */
#define FANOUT_SHIFT 9
#define FANOUT (1U << FANOUT_SHIFT)
/* 63 bits of size less those within a chunk. */
#define LEVELS_MAX ((63 - CHUNK_SHIFT + FANOUT_SHIFT - 1) / FANOUT_SHIFT)

#define LOCKS 64 /* a power of two */

#define PAGE_BYTES 4096

/* Requests a queue has before its pool grows. */
#define POOL_REQUESTS 256

#define SEGMENTS_MAX 1024

/* Which pages of a chunk have been written since they last had no memory. */
struct page_map {
	uint64_t bits[CHUNK_BYTES / PAGE_BYTES / 64];
};

struct node {
	_Atomic(void *) slot[FANOUT]; /* level 0: chunks, else nodes */
	struct node *next;            /* of all nodes, newest first */
	int level;
	struct page_map pages[]; /* level 0: FANOUT, of the chunks */
};

struct chunk_lock {
	_Alignas(64) pthread_rwlock_t lock;
};

struct mem_dev {
	struct blkio b;
	uint64_t size; /* bytes */
	int levels;
	_Atomic(void *) root; /* a node */
	_Atomic(struct node *) nodes; /* all of them */
	struct chunk_lock *locks; /* LOCKS */
};

enum op { OP_READ, OP_WRITE, OP_ZEROES, OP_DISCARD };

struct mem_request {
	struct request r;
	uint64_t start;
	union {
		uint64_t len;            /* OP_ZEROES, OP_DISCARD */
		const struct iovec *iov; /* if iovcnt is not 0 */
	};
	struct iovec one; /* of a request without an array */
	int iovcnt;
};

struct mem_queue {
	struct blkioq q;
	struct fifo waiting;
	struct mem_dev *dev;
};

static inline struct mem_queue *
mem_queue(struct blkioq *q)
{
	return container_of(q, struct mem_queue, q);
}

/* --- The tree -------------------------------------------------------------- */

/* A node that is in the tree when *SLOT, NULL so far, points to it. */
static struct node *
node_make(struct mem_dev *dev, int level, _Atomic(void *) *slot)
{
	size_t maps = level == 0 ? FANOUT * sizeof(struct page_map) : 0;
	struct node *node = calloc(1, sizeof(*node) + maps);
	void *other = NULL;

	if (!node)
		return NULL;
	node->level = level;
	if (!atomic_compare_exchange_strong(slot, &other, node)) {
		free(node);
		return other;
	}
	node->next = atomic_load(&dev->nodes);
	while (!atomic_compare_exchange_weak(&dev->nodes, &node->next, node))
		;
	return node;
}

/* Frees all nodes and chunks; no other thread is left. */
static void
tree_free(struct mem_dev *dev)
{
	struct node *node, *next;

	for (node = atomic_load(&dev->nodes); node; node = next) {
		for (unsigned i = 0; node->level == 0 && i < FANOUT; i++) {
			void *chunk = atomic_load_explicit(&node->slot[i], memory_order_relaxed);

			if (chunk)
				munmap(chunk, CHUNK_BYTES);
		}
		next = node->next;
		free(node);
	}
}

static unsigned
slot_index(uint64_t chunk, int level)
{
	return (unsigned)(chunk >> (level * FANOUT_SHIFT)) & (FANOUT - 1);
}

/*
 * Where the pointer to CHUNK is kept. Nodes that are missing are made if MAKE,
 * and without memory or without MAKE the result is NULL; then *SKIP is the
 * first chunk behind the part of the tree that does not exist.
 */
static _Atomic(void *) *
chunk_slot(struct mem_dev *dev, uint64_t chunk, bool make, uint64_t *skip)
{
	struct node *node = atomic_load_explicit(&dev->root, memory_order_relaxed);

	for (int level = dev->levels - 1; level > 0; level--) {
		_Atomic(void *) *slot = &node->slot[slot_index(chunk, level)];
		void *below = atomic_load_explicit(slot, memory_order_acquire);

		if (!below && make)
			below = node_make(dev, level - 1, slot);
		if (!below) {
			*skip = ((chunk >> (level * FANOUT_SHIFT)) + 1) << (level * FANOUT_SHIFT);
			return NULL;
		}
		node = below;
	}
	return &node->slot[slot_index(chunk, 0)];
}

/* The map of CHUNK, whose pointer is kept in SLOT. */
static struct page_map *
chunk_pages(_Atomic(void *) *slot, uint64_t chunk)
{
	unsigned index = slot_index(chunk, 0);
	struct node *leaf = container_of(slot - index, struct node, slot);

	return &leaf->pages[index];
}

static pthread_rwlock_t *
chunk_lock(struct mem_dev *dev, uint64_t chunk)
{
	return &dev->locks[chunk & (LOCKS - 1)].lock;
}

/* --- Maps of pages ---------------------------------------------------------- */

static bool
page_written(const struct page_map *map, size_t page)
{
	return map->bits[page / 64] >> (page % 64) & 1;
}

/* Sets or clears the pages that have a byte in [OFF, OFF + LEN). */
static void
pages_mark(struct page_map *map, size_t off, size_t len, bool written)
{
	size_t end = align_up(off + len, PAGE_BYTES) / PAGE_BYTES;

	for (size_t page = off / PAGE_BYTES; page < end; page++) {
		uint64_t bit = UINT64_C(1) << (page % 64);

		if (written)
			map->bits[page / 64] |= bit;
		else
			map->bits[page / 64] &= ~bit;
	}
}

/* --- Bytes of one chunk ---------------------------------------------------- */

static void
chunk_read(struct mem_dev *dev, uint64_t chunk, size_t off, void *buf, size_t len)
{
	pthread_rwlock_t *lock = chunk_lock(dev, chunk);
	uint64_t skip;
	_Atomic(void *) *slot = chunk_slot(dev, chunk, false, &skip);
	const char *bytes;

	if (!slot) {
		memset(buf, 0, len);
		return;
	}
	pthread_rwlock_rdlock(lock);
	bytes = atomic_load_explicit(slot, memory_order_relaxed);
	if (bytes)
		memcpy(buf, bytes + off, len);
	else
		memset(buf, 0, len);
	pthread_rwlock_unlock(lock);
}

/* 0 or -ENOSPC. */
static int
chunk_write(struct mem_dev *dev, uint64_t chunk, size_t off, const void *buf, size_t len)
{
	pthread_rwlock_t *lock = chunk_lock(dev, chunk);
	uint64_t skip;
	_Atomic(void *) *slot = chunk_slot(dev, chunk, true, &skip);
	char *bytes;
	int ret = 0;

	if (!slot)
		return -ENOSPC;
	pthread_rwlock_wrlock(lock);
	bytes = atomic_load_explicit(slot, memory_order_relaxed);
	if (!bytes) {
		void *fresh = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (fresh != MAP_FAILED) {
			atomic_store_explicit(slot, fresh, memory_order_relaxed);
			bytes = fresh;
		}
	}
	if (bytes) {
		memcpy(bytes + off, buf, len);
		pages_mark(chunk_pages(slot, chunk), off, len, true);
	} else {
		ret = -ENOSPC;
	}
	pthread_rwlock_unlock(lock);
	return ret;
}

/* Zeroes a part of a chunk's memory; whole pages go back to the kernel. */
static void
chunk_zero(char *bytes, struct page_map *map, size_t off, size_t len, bool give_back)
{
	size_t pages = align_up(off, PAGE_BYTES), pages_end = align_down(off + len, PAGE_BYTES);

	if (!give_back || pages >= pages_end ||
	    madvise(bytes + pages, pages_end - pages, MADV_DONTNEED) < 0) {
		memset(bytes + off, 0, len);
		return;
	}
	pages_mark(map, pages, pages_end - pages, false);
	memset(bytes + off, 0, pages - off);
	memset(bytes + pages_end, 0, off + len - pages_end);
}

/* Zeroes a part of the chunk in SLOT; its memory goes with GIVE_BACK. */
static void
chunk_clear(struct mem_dev *dev, uint64_t chunk, _Atomic(void *) *slot, size_t off, size_t len,
	    bool give_back)
{
	pthread_rwlock_t *lock = chunk_lock(dev, chunk);
	struct page_map *map = chunk_pages(slot, chunk);
	char *bytes;

	pthread_rwlock_wrlock(lock);
	bytes = atomic_load_explicit(slot, memory_order_relaxed);
	if (bytes && give_back && len == CHUNK_BYTES) {
		atomic_store_explicit(slot, NULL, memory_order_relaxed);
		munmap(bytes, CHUNK_BYTES);
		*map = (struct page_map){ 0 };
	} else if (bytes) {
		chunk_zero(bytes, map, off, len, give_back);
	}
	pthread_rwlock_unlock(lock);
}

/*
 * How many of the LEN bytes from OFF on are alike: in pages that were WRITTEN
 * or in pages that were not.
 */
static size_t
chunk_alike(struct mem_dev *dev, uint64_t chunk, _Atomic(void *) *slot, size_t off, size_t len,
	    bool *written)
{
	pthread_rwlock_t *lock = chunk_lock(dev, chunk);
	const struct page_map *map = chunk_pages(slot, chunk);
	size_t end = off + len, page = off / PAGE_BYTES;

	pthread_rwlock_rdlock(lock);
	*written = page_written(map, page);
	do
		page++;
	while (page * PAGE_BYTES < end && page_written(map, page) == *written);
	pthread_rwlock_unlock(lock);
	return MIN(page * PAGE_BYTES, end) - off;
}

/* --- Executing requests ---------------------------------------------------- */

static int
transfer(struct mem_dev *dev, enum op op, uint64_t start, const struct iovec *iov, int iovcnt)
{
	for (int i = 0; i < iovcnt; i++) {
		char *buf = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left) {
			size_t off = start & (CHUNK_BYTES - 1);
			size_t len = MIN(left, (size_t)(CHUNK_BYTES - off));

			if (op == OP_READ)
				chunk_read(dev, start >> CHUNK_SHIFT, off, buf, len);
			else if (chunk_write(dev, start >> CHUNK_SHIFT, off, buf, len))
				return -ENOSPC;
			start += len;
			buf += len;
			left -= len;
		}
	}
	return 0;
}

/* Time goes with the chunks that exist, not with LEN. */
static void
clear_range(struct mem_dev *dev, uint64_t start, uint64_t len, bool give_back)
{
	uint64_t end = start + len, skip;

	while (start < end) {
		uint64_t chunk = start >> CHUNK_SHIFT;
		size_t off = start & (CHUNK_BYTES - 1);
		size_t n = MIN(end - start, CHUNK_BYTES - off);
		_Atomic(void *) *slot = chunk_slot(dev, chunk, false, &skip);

		if (slot) {
			chunk_clear(dev, chunk, slot, off, n, give_back);
			start += n;
		} else if (skip > (end - 1) >> CHUNK_SHIFT) {
			return;
		} else {
			start = skip << CHUNK_SHIFT;
		}
	}
}

static int
execute(struct mem_dev *dev, const struct mem_request *req)
{
	switch (req->r.op) {
	case OP_READ:
	case OP_WRITE:
		return transfer(dev, req->r.op, req->start, req->iovcnt ? req->iov : &req->one,
				req->iovcnt ? req->iovcnt : 1);
	case OP_ZEROES:
		clear_range(dev, req->start, req->len, !(req->r.flags & BLKIO_REQ_NO_UNMAP));
		return 0;
	default:
		clear_range(dev, req->start, req->len, true);
		return 0;
	}
}

/* Everything that waits is done here and now: there is nothing to wait for. */
static int
queue_run(struct blkioq *bq, unsigned want, struct wait *w)
{
	struct mem_queue *q = mem_queue(bq);
	struct request *r;

	while ((r = fifo_pop(&q->waiting))) {
		int ret = execute(q->dev, container_of(r, struct mem_request, r));

		queue_finish(bq, r, ret, ret ? "no memory for another chunk" : NULL);
		bq->event_owed = bq->event_enabled;
	}
	return 0;
}

/* --- Requests -------------------------------------------------------------- */

/* A new request on the list, or NULL when it has failed. */
static struct mem_request *
begin(struct blkioq *q, enum op op, uint32_t flags, uint64_t start, uint64_t len, void *user_data)
{
	struct mem_dev *dev = mem_queue(q)->dev;
	struct mem_request *req;

	if (op != OP_READ && dev->b.read_only) {
		queue_fail(q, user_data, EBADF, "device is read-only");
		return NULL;
	}
	if (!range_ok(start, len, dev->size)) {
		queue_fail(q, user_data, EINVAL, "invalid len or start offset");
		return NULL;
	}
	req = container_of(queue_take(q, user_data), struct mem_request, r);
	req->r.op = (uint8_t)op;
	req->r.flags = (uint8_t)flags;
	req->start = start;
	req->len = len;
	req->one = (struct iovec){ 0 };
	req->iovcnt = 0;
	fifo_push(&mem_queue(q)->waiting, &req->r);
	return req;
}

static void
begin_transfer(struct blkioq *q, enum op op, uint64_t start, void *buf, uint32_t len,
	       void *user_data)
{
	struct mem_request *req = begin(q, op, 0, start, len, user_data);

	if (req)
		req->one = (struct iovec){ .iov_base = buf, .iov_len = len };
}

static void
begin_vector(struct blkioq *q, enum op op, uint64_t start, const struct iovec *iov, int iovcnt,
	     void *user_data)
{
	struct mem_request *req;
	uint64_t len = 0;

	if (iovcnt > SEGMENTS_MAX) {
		queue_fail(q, user_data, EINVAL,
			   "iovcnt must not exceed property \"max-segments\"");
		return;
	}
	for (int i = 0; i < iovcnt; i++) {
		if (__builtin_add_overflow(len, iov[i].iov_len, &len))
			len = UINT64_MAX; /* never inside the device */
	}
	req = begin(q, op, 0, start, len, user_data);
	if (req && iovcnt) {
		req->iov = iov;
		req->iovcnt = iovcnt;
	}
}

static void
queue_read(struct blkioq *q, uint64_t start, void *buf, uint32_t len, void *user_data)
{
	begin_transfer(q, OP_READ, start, buf, len, user_data);
}

static void
queue_write(struct blkioq *q, uint64_t start, const void *buf, uint32_t len, void *user_data,
	    uint32_t flags)
{
	begin_transfer(q, OP_WRITE, start, (void *)(uintptr_t)buf, len, user_data);
}

static void
queue_readv(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
	    void *user_data)
{
	begin_vector(q, OP_READ, start, iov, iovcnt, user_data);
}

static void
queue_writev(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
	     void *user_data, uint32_t flags)
{
	begin_vector(q, OP_WRITE, start, iov, iovcnt, user_data);
}

static void
queue_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		   uint32_t flags)
{
	if (!len)
		queue_fail(q, user_data, EINVAL, "len must be positive");
	else
		begin(q, OP_ZEROES, flags, start, len, user_data);
}

static void
queue_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data)
{
	if (!len)
		queue_fail(q, user_data, EINVAL, "len must be positive");
	else
		begin(q, OP_DISCARD, 0, start, len, user_data);
}

static void
queue_flush(struct blkioq *q, void *user_data)
{
	/* Nothing outlives us anyway: an empty read. */
	begin(q, OP_READ, 0, 0, 0, user_data);
}

/* --- Status ------------------------------------------------------------------ */

/*
 * Looks at so many chunks and no more, so that a large disk full of data costs
 * no more time than a piece of it. Parts of the tree that do not exist are free.
 */
#define STATUS_CHUNKS 1024

static int
queue_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	struct mem_dev *dev = mem_queue(q)->dev;
	uint64_t at = start, end = start + len, skip;
	bool first = false, written;
	unsigned chunks = 0;

	if (!range_ok(start, len, dev->size))
		return -EINVAL;
	while (at < end && chunks < STATUS_CHUNKS) {
		uint64_t chunk = at >> CHUNK_SHIFT;
		size_t off = at & (CHUNK_BYTES - 1);
		uint64_t alike = MIN(end - at, CHUNK_BYTES - off);
		_Atomic(void *) *slot = chunk_slot(dev, chunk, false, &skip);

		written = false;
		if (slot) {
			alike = chunk_alike(dev, chunk, slot, off, (size_t)alike, &written);
			chunks++;
		} else if (skip > (end - 1) >> CHUNK_SHIFT) {
			alike = end - at;
		} else {
			alike = (skip << CHUNK_SHIFT) - at;
		}
		if (at == start)
			first = written;
		else if (written != first)
			break;
		at += alike;
	}
	*extent = (struct blkio_ext_extent){
		.len = at - start,
		.flags = first ? 0 : BLKIO_EXT_HOLE | BLKIO_EXT_ZERO,
	};
	return 0;
}

/* --- Opening and closing a queue ------------------------------------------- */

static bool
queue_pending(struct blkioq *q)
{
	return false;
}

static void
queue_close(struct blkioq *q)
{
	queue_release(q);
	free(mem_queue(q));
}

static const struct queue_ops queue_ops = {
	.read = queue_read,
	.write = queue_write,
	.readv = queue_readv,
	.writev = queue_writev,
	.write_zeroes = queue_write_zeroes,
	.discard = queue_discard,
	.flush = queue_flush,
	.status = queue_status,
	.run = queue_run,
	.pending = queue_pending,
	.close = queue_close,
};

static int
queue_open(struct blkio *b, bool poll, struct blkioq **qp)
{
	struct mem_queue *q = aligned_alloc(64, align_up(sizeof(*q), 64));
	int ret;

	if (!q)
		return error_os(ENOMEM, "%s", ": a queue");
	memset(q, 0, sizeof(*q));
	q->dev = container_of(b, struct mem_dev, b);
	ret = queue_init(&q->q, b, &queue_ops, poll, align_up(sizeof(struct mem_request), 64),
			 POOL_REQUESTS);
	if (ret) {
		free(q);
		return ret;
	}
	*qp = &q->q;
	return 0;
}

/* --- Properties ------------------------------------------------------------ */

static int
set_size(struct blkio *b, const struct prop_value *v)
{
	if (v->u64 > INT64_MAX)
		return error_set(EINVAL, "size must be less than 2^63");
	container_of(b, struct mem_dev, b)->size = v->u64;
	return 0;
}

#define LIMIT(name, type, get_in, field) \
	PROP_FIELD(name, type, get_in, 0, struct mem_dev, b.limits.field)
#define CHECKED(name, type, set_in, field, set) \
	PROP_CHECKED(name, type, PROP_ALWAYS, set_in, struct mem_dev, field, set)

static const struct prop props[] = {
	PROP_COMPUTED("driver", PROP_STR, PROP_ALWAYS, prop_get_driver),
	CHECKED("size", PROP_U64, CREATED, size, set_size),
	PROP_FIELD("read-only", PROP_BOOL, PROP_ALWAYS, CREATED, struct mem_dev, b.read_only),
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

	PROP_FIELD("capacity", PROP_U64, PROP_KNOWN, 0, struct mem_dev, size),
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
	struct limits *l = &b->limits;

	l->can_add_queues = true;
	l->supports_fua_natively = true; /* nothing is ever cached */
	l->max_mem_regions = UINT64_MAX;
	l->max_queues = INT_MAX;
	l->mem_region_alignment = 1;
	l->request_alignment = 1;
	l->buf_alignment = 1;
	l->optimal_buf_alignment = 1;
	l->optimal_io_alignment = PAGE_BYTES;
	l->discard_alignment = PAGE_BYTES;
	l->max_segments = SEGMENTS_MAX;
}

static int
dev_connect(struct blkio *b)
{
	struct mem_dev *dev = container_of(b, struct mem_dev, b);
	uint64_t chunks = (dev->size >> CHUNK_SHIFT) + 1;

	_Static_assert(LEVELS_MAX * FANOUT_SHIFT + CHUNK_SHIFT >= 63, "the tree holds any size");
	for (dev->levels = 1; dev->levels < LEVELS_MAX; dev->levels++) {
		if (chunks <= UINT64_C(1) << (dev->levels * FANOUT_SHIFT))
			break;
	}
	dev->locks = aligned_alloc(64, LOCKS * sizeof(*dev->locks));
	if (!dev->locks)
		return error_os(ENOMEM, "%s", "");
	if (!node_make(dev, dev->levels - 1, &dev->root)) {
		free(dev->locks);
		dev->locks = NULL;
		return error_os(ENOMEM, "%s", "");
	}
	for (int i = 0; i < LOCKS; i++)
		pthread_rwlock_init(&dev->locks[i].lock, NULL);
	return 0;
}

static void
dev_close(struct blkio *b)
{
	struct mem_dev *dev = container_of(b, struct mem_dev, b);

	if (!dev->locks)
		return; /* never connected */
	tree_free(dev);
	for (int i = 0; i < LOCKS; i++)
		pthread_rwlock_destroy(&dev->locks[i].lock);
	free(dev->locks);
}

const struct driver mem_driver = {
	.name = "mem",
	.dev_size = sizeof(struct mem_dev),
	.props = props,
	.init = dev_init,
	.connect = dev_connect,
	.queue_open = queue_open,
	.close = dev_close,
};
