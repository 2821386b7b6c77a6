/* SPDX-License-Identifier: MIT */
/*
 * simdev.c - a simulated block device behind blkio.h; see simdev.h.
 *
 * The path of a request: blkioq_writev() checks it and puts it on the queue;
 * blkioq_do_io() submits what is queued; sim_step() picks one that is submitted
 * and lets some of its blocks take effect, or finishes it; a later
 * blkioq_do_io() fetches it.
 *
 * A block that changed has a list of versions, oldest first, from the one after
 * what is stable to the one that reads see. Making durable is to move "stable"
 * forward in that list: at least as far as promised, further as the seed says.
 *
 * Invariants:
 * I1. A version whose request has been fetched, as a success or not, has its
 *     place in the order of fetching in done_at; a flush covers those below its
 *     own.
 * I2. The newest version of a block is what `now` has.
 */
#include "simdev.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/annotate.h"
#include "base/range.h"
#include "blkio-ext.h"
#include "blkio.h"

#define QUEUES_MAX 64
#define REGIONS_MAX 64
#define REQUESTS_MAX 8192
#define TEXT_BYTES (256u << 10)
#define VERSION_CHUNK (1u << 20)

enum state { QUEUED, SUBMITTED, FINISHED };

struct version {
	struct version *next;
	uint64_t owner;	  /* request */
	uint64_t done_at; /* I1; 0: not fetched, or lost */
	uint8_t data[];
};

struct block {
	struct version *oldest, *newest;
	unsigned dirty; /* its place in sim.dirty, if it has versions */
};

struct blkio {
	bool there, connected, started;
	int num_queues;
};

struct request {
	enum sim_op op;
	enum state state;
	uint64_t id, off, len;
	uint32_t flags;
	struct blkioq *q;
	void *user_data;
	int ret;
	uint64_t covers; /* of a flush */
	const struct iovec *given;
	struct iovec *iov; /* as it was */
	int iovcnt;
	uint8_t *data;	   /* written, or read so far */
	uint8_t *applied;  /* by block of the window */
	unsigned first, nblocks, left;
	unsigned steps;
};

struct blkioq {
	int fd;
	bool enabled;
	unsigned finished; /* not fetched */
};

static struct {
	pthread_mutex_t lock;
	struct sim_config c;
	uint64_t rng;
	struct blkio dev;
	struct blkioq queues[QUEUES_MAX];
	unsigned nqueues;
	struct blkio_mem_region regions[REGIONS_MAX];
	unsigned nregions;
	unsigned fault_hits[SIM_FAULTS_MAX];
	bool dead; /* no power */

	struct request *requests[REQUESTS_MAX]; /* oldest first */
	unsigned nrequests;
	unsigned nready; /* neither QUEUED nor FINISHED */
	uint64_t ids, fetches;

	uint64_t block; /* bytes */
	unsigned nblocks;
	uint8_t *now, *stable; /* of the window */
	size_t allocated;
	struct block *blocks;
	unsigned *dirty; /* numbers of blocks with versions */
	unsigned ndirty;
	struct version *free;
	struct chunk {
		struct chunk *next;
	} *chunks, *carving; /* all; the one that new versions come from, or NULL */
	size_t carved;	     /* bytes of it */

	size_t text_len;
	char text[TEXT_BYTES];
} sim = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct sim_stats sim_stats;
void (*sim_on_request)(enum sim_op op, uint64_t off, uint64_t len, uint32_t flags);

static const char *const op_names[SIM_OPS] = { "read", "write", "zeroes", "discard", "flush" };

static _Noreturn void printf_fn(1, 2)
broken(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "simdev: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nthe last requests: %s\n",
		sim.text + (sim.text_len > 600 ? sim.text_len - 600 : 0));
	abort();
}

static void *
must(void *p)
{
	if (!p)
		broken("no memory");
	return p;
}

static unsigned
below(unsigned n)
{
	return sim_below(&sim.rng, n);
}

/* There the device has no alignment. */
static bool
in_tail(uint64_t off)
{
	return sim.c.tail && off >= sim.c.tail_start;
}

static void
happened(uint64_t what)
{
	sim_stats.hash = (sim_stats.hash ^ what) * UINT64_C(0x100000001b3);
	sim_stats.hash ^= sim_stats.hash >> 29;
}

/* --- Blocks ----------------------------------------------------------------- */

/* Bytes of block I that the device has, and where they are in the window. */
static size_t
block_len(unsigned i)
{
	return (size_t)MIN(sim.block, sim.c.window_len - i * sim.block);
}

static uint64_t
block_off(unsigned i)
{
	return sim.c.window_off + i * sim.block;
}

static struct version *
version_new(void)
{
	size_t size = align_up(sizeof(struct version) + sim.block, 16);
	struct version *v = sim.free;

	if (v) {
		sim.free = v->next;
		return v;
	}
	if (sim.carved + size > VERSION_CHUNK) {
		struct chunk *next = sim.carving ? sim.carving->next : sim.chunks;

		if (!next) {
			next = must(malloc(VERSION_CHUNK));
			next->next = NULL;
			*(sim.carving ? &sim.carving->next : &sim.chunks) = next;
		}
		sim.carving = next;
		sim.carved = 64;
	}
	v = (struct version *)(void *)((char *)sim.carving + sim.carved);
	sim.carved += size;
	return v;
}

/* Makes block I stable up to and with version V. */
static void
advance(unsigned i, const struct version *v)
{
	struct block *b = &sim.blocks[i];
	bool last;

	memcpy(sim.stable + i * sim.block, v->data, block_len(i));
	do {
		struct version *gone = b->oldest;

		last = gone == v;
		b->oldest = gone->next;
		gone->next = sim.free;
		sim.free = gone;
	} while (!last);
	if (b->oldest)
		return;
	b->newest = NULL;
	sim.dirty[b->dirty] = sim.dirty[--sim.ndirty];
	sim.blocks[sim.dirty[b->dirty]].dirty = b->dirty;
}

/* As far as V at least. */
static void
advance_from(unsigned i, const struct version *v)
{
	while (v->next && below(2))
		v = v->next;
	advance(i, v);
}

/* The request gives block I the contents that are in DATA from here on. */
static void
version_add(struct request *r, unsigned i)
{
	struct block *b = &sim.blocks[i];
	struct version *v;

	/* What is there already may have been written back meanwhile. */
	if (b->oldest && below(4) == 0)
		advance_from(i, b->oldest);
	v = version_new();
	v->next = NULL;
	v->owner = r->id;
	v->done_at = 0;
	memcpy(v->data, sim.now + i * sim.block, block_len(i));
	if (b->newest) {
		b->newest->next = v;
	} else {
		b->oldest = v;
		b->dirty = sim.ndirty;
		sim.dirty[sim.ndirty++] = i;
	}
	b->newest = v;
}

/* The request's part of block I: where in the window, in its data, how much. */
static size_t
part_of(const struct request *r, unsigned i, size_t *in_window, size_t *in_data)
{
	uint64_t from = MAX(r->off, block_off(i));
	uint64_t to = MIN(r->off + r->len, block_off(i) + block_len(i));

	*in_window = (size_t)(from - sim.c.window_off);
	*in_data = (size_t)(from - r->off);
	return (size_t)(to - from);
}

static void
apply(struct request *r, unsigned k)
{
	unsigned i = r->first + k;
	size_t at, from, len = part_of(r, i, &at, &from);

	r->applied[k] = 1;
	r->left--;
	switch (r->op) {
	case SIM_READ:
		memcpy(r->data + from, sim.now + at, len);
		return;
	case SIM_WRITE:
		memcpy(sim.now + at, r->data + from, len);
		break;
	case SIM_ZEROES:
		memset(sim.now + at, 0, len);
		break;
	case SIM_DISCARD:
		if (sim.c.discarded == SIM_DISCARDED_KEPT ||
		    (sim.c.discarded == SIM_DISCARDED_EITHER && below(2)))
			return;
		memset(sim.now + at, 0, len);
		break;
	default:
		broken("a flush has no blocks");
	}
	version_add(r, i);
}

/* What the request did to its blocks is durable. */
static void
make_durable(const struct request *r)
{
	for (unsigned k = 0; k < r->nblocks; k++) {
		unsigned i = r->first + k;
		struct version *v, *own = NULL;

		for (v = sim.blocks[i].oldest; v; v = v->next)
			if (v->owner == r->id)
				own = v;
		if (own)
			advance_from(i, own);
	}
}

/*
 * Whether a sync fails, or has a failing one of the same queue beside it: a
 * failure of writing back is reported once, to whichever of them comes first.
 */
static bool
sync_fails(const struct request *r)
{
	for (unsigned i = 0; r->ret == 0 && i < sim.nrequests; i++) {
		const struct request *other = sim.requests[i];

		if (other->q == r->q && other->state != FINISHED &&
		    ((other->op == SIM_FLUSH && other->ret < 0) ||
		     (other->flags & BLKIO_REQ_FUA && other->ret == -EIO)))
			return true;
	}
	return r->ret < 0;
}

/* A flush: what it covers is durable, or, if it failed, never will be by a flush. */
static void
flush_covered(const struct request *r)
{
	bool fails = sync_fails(r);

	for (unsigned k = sim.ndirty; k-- > 0;) {
		unsigned i = sim.dirty[k];
		struct version *v, *covered = NULL;

		for (v = sim.blocks[i].oldest; v; v = v->next) {
			if (v->done_at == 0 || v->done_at > r->covers)
				continue;
			covered = v;
			if (fails)
				v->done_at = 0;
		}
		if (covered && !fails)
			advance_from(i, covered);
	}
}

/* --- Results ---------------------------------------------------------------- */

static bool
fault_hit(unsigned n, const struct request *r)
{
	const struct sim_fault *f = &sim.c.faults[n];

	if (!(f->ops & 1u << r->op) || (f->fua_only && !(r->flags & BLKIO_REQ_FUA)))
		return false;
	if (f->end && r->op != SIM_FLUSH &&
	    !range_overlap(f->off, f->end - f->off, r->off, r->len))
		return false;
	if (f->permille && below(1000) >= f->permille)
		return false;
	sim.fault_hits[n]++;
	return sim.fault_hits[n] > f->skip &&
	       (!f->times || sim.fault_hits[n] <= f->skip + f->times);
}

/* What the device answers; decided when the request comes. */
static int
result_of(const struct request *r)
{
	uint64_t unit = in_tail(r->off) ? 1 : (uint64_t)MAX(sim.c.discard_alignment, 1);

	if (r->op == SIM_ZEROES) {
		bool fast = r->flags & BLKIO_REQ_NO_FALLBACK;

		if (sim.c.zeroes == SIM_ZEROES_NONE || (sim.c.zeroes == SIM_ZEROES_NO_FAST && fast))
			return -ENOTSUP;
	}
	if (r->op == SIM_DISCARD) {
		if (sim.c.discards == SIM_DISCARDS_NONE)
			return -ENOTSUP;
		if (sim.c.discards == SIM_DISCARDS_UNITS && (r->off % unit || r->len % unit))
			return -EINVAL;
	}
	for (unsigned n = 0; n < SIM_FAULTS_MAX; n++) {
		if (sim.c.faults[n].ops && fault_hit(n, r)) {
			sim_stats.failed++;
			return sim.c.faults[n].ret;
		}
	}
	return 0;
}

static bool
untouched(int ret)
{
	return ret == -ENOTSUP || ret == -EINVAL;
}

/* --- Steps ------------------------------------------------------------------ */

static void
iov_check(const struct request *r)
{
	size_t at = 0;

	if (r->iovcnt && memcmp(r->given, r->iov, (size_t)r->iovcnt * sizeof(*r->iov)) != 0)
		broken("an iovec of %s %llu+%llu changed under way", op_names[r->op],
		       (unsigned long long)r->off, (unsigned long long)r->len);
	if (r->op != SIM_WRITE)
		return;
	for (int i = 0; i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->iov[i].iov_len &&
		    memcmp(r->iov[i].iov_base, r->data + at, r->iov[i].iov_len) != 0)
			broken("data of write %llu+%llu changed under way",
			       (unsigned long long)r->off, (unsigned long long)r->len);
}

static void
announce(struct blkioq *q)
{
	uint64_t one = 1;

	if (q->enabled && write(q->fd, &one, sizeof(one)) != sizeof(one))
		broken("eventfd");
}

static void
finish(struct request *r)
{
	size_t at = 0;

	iov_check(r);
	if (sim.dead) {
		r->ret = -EIO;
		r->nblocks = r->left = 0;
	}
	for (unsigned k = 0; k < r->nblocks && r->left; k++)
		if (!r->applied[k] && (r->ret == 0 || (!untouched(r->ret) && below(2))))
			apply(r, k);
	if (!sim.c.flush_needed || (r->flags & BLKIO_REQ_FUA && !sync_fails(r)))
		make_durable(r);
	if (r->op == SIM_FLUSH)
		flush_covered(r);
	for (int i = 0; r->op == SIM_READ && i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->iov[i].iov_len)
			memcpy(r->iov[i].iov_base, r->data + at, r->iov[i].iov_len);
	for (unsigned i = 0; i < sim.nrequests && sim.requests[i] != r; i++)
		if (sim.requests[i]->state != FINISHED) {
			sim_stats.overtaken++;
			break;
		}
	sim_stats.torn += r->steps > 0;
	r->state = FINISHED;
	sim.nready--;
	r->q->finished++;
	happened(r->id * 3 + 1 + (uint64_t)(unsigned)r->ret);
	announce(r->q);
}

/* Some blocks of a request in flight, or all and its end. */
static void
step(struct request *r)
{
	if (r->left > 0 && !untouched(r->ret) && below(2)) {
		unsigned mask = below(3) ? 2 : 1; /* half of them, or a run */
		unsigned from = below(r->nblocks);

		for (unsigned k = 0; k < r->nblocks; k++)
			if (!r->applied[k] && (mask == 1 ? k >= from : below(2)))
				apply(r, k);
		r->steps++;
		happened(r->id * 3);
		return;
	}
	finish(r);
}

static bool
step_any(void)
{
	unsigned pick;

	if (sim.nready == 0)
		return false;
	/* Mostly any; sometimes the oldest, so that nothing waits for ever. */
	pick = below(8) ? below(sim.nready) : 0;
	for (unsigned i = 0; i < sim.nrequests; i++) {
		struct request *r = sim.requests[i];

		if (r->state == SUBMITTED && pick-- == 0) {
			step(r);
			return true;
		}
	}
	broken("requests in flight were miscounted");
}

bool
sim_step(void)
{
	bool any;

	pthread_mutex_lock(&sim.lock);
	if (sim.c.spurious && sim.nqueues && below(16) == 0)
		announce(&sim.queues[below(sim.nqueues)]);
	any = step_any();
	pthread_mutex_unlock(&sim.lock);
	return any;
}

unsigned
sim_open(void)
{
	unsigned n;

	pthread_mutex_lock(&sim.lock);
	n = sim.nrequests;
	pthread_mutex_unlock(&sim.lock);
	return n;
}

/* --- Requests --------------------------------------------------------------- */

static void
text_add(const struct request *r)
{
	char *at = sim.text + sim.text_len;
	size_t room = sizeof(sim.text) - sim.text_len;
	int n;

	if (room < 256) {
		sim.text_len = 0;
		at = sim.text;
		room = sizeof(sim.text);
	}
	n = r->op == SIM_FLUSH ? snprintf(at, room, "flush, ") :
				 snprintf(at, room, "%s %llu+%llu%s%s%s, ", op_names[r->op],
					  (unsigned long long)r->off, (unsigned long long)r->len,
					  r->flags & BLKIO_REQ_FUA ? " fua" : "",
					  r->flags & BLKIO_REQ_NO_UNMAP ? " no-unmap" : "",
					  r->flags & BLKIO_REQ_NO_FALLBACK ? " no-fallback" : "");
	sim.text_len += (size_t)n;
}

static struct request *
request_new(struct blkioq *q, enum sim_op op, uint64_t off, uint64_t len, void *user_data,
	    uint32_t flags)
{
	struct request *r = must(calloc(1, sizeof(*r)));
	uint64_t align = in_tail(off) ? 1 : (uint64_t)sim.c.request_alignment;
	const char *name = op_names[op];

	*r = (struct request){
		.op = op,
		.id = ++sim.ids,
		.off = off,
		.len = len,
		.flags = flags,
		.q = q,
		.user_data = user_data,
	};
	text_add(r);
	sim_stats.requests[op]++;
	happened(off * 31 + len * 7 + (uint64_t)op + ((uint64_t)flags << 40));
	if (sim_on_request)
		sim_on_request(op, off, len, flags);
	if (flags & ~(op == SIM_WRITE ? 1u : op == SIM_ZEROES ? 7u : 0u))
		broken("%s with flags 0x%x", name, flags);
	if (op != SIM_READ && op != SIM_FLUSH && sim.c.read_only)
		broken("%s of a read-only device", name);
	if (op == SIM_FLUSH) {
		r->covers = sim.fetches;
	} else {
		if (len == 0)
			broken("an empty %s", name);
		if (!range_ok(off, len, sim.c.capacity))
			broken("%s %llu+%llu is beyond the end", name, (unsigned long long)off,
			       (unsigned long long)len);
		if (in_tail(off) != in_tail(off + len - 1))
			broken("%s %llu+%llu crosses the start of the tail", name,
			       (unsigned long long)off, (unsigned long long)len);
		if (off % align || len % align)
			broken("%s %llu+%llu is not aligned to %llu", name,
			       (unsigned long long)off, (unsigned long long)len,
			       (unsigned long long)align);
	}
	r->ret = result_of(r);
	if (sim.nrequests == REQUESTS_MAX)
		broken("too many requests");
	sim.requests[sim.nrequests++] = r;
	return r;
}

/* The part of it that contents are kept of. */
static void
request_blocks(struct request *r)
{
	uint64_t start = MAX(r->off, sim.c.window_off);
	uint64_t end = MIN(r->off + r->len, sim.c.window_off + sim.c.window_len);

	if (start >= end)
		return;
	r->first = (unsigned)((start - sim.c.window_off) / sim.block);
	r->nblocks = (unsigned)((end - 1 - sim.c.window_off) / sim.block) - r->first + 1;
	r->left = r->nblocks;
	r->applied = must(calloc(r->nblocks, 1));
}

static void
memory_check(const struct request *r)
{
	uint64_t align = in_tail(r->off) ? 1 : (uint64_t)MAX(sim.c.buf_alignment, 1);

	for (int i = 0; i < r->iovcnt; i++) {
		const struct iovec *iov = &r->iov[i];
		bool found = !sim.c.needs_regions;

		if ((uintptr_t)iov->iov_base % align)
			broken("memory at %p is not aligned to %llu", iov->iov_base,
			       (unsigned long long)align);
		for (unsigned k = 0; k < sim.nregions && !found; k++)
			found = range_ok((uintptr_t)iov->iov_base - (uintptr_t)sim.regions[k].addr,
					 iov->iov_len, sim.regions[k].len);
		if (!found)
			broken("memory at %p is in no mapped region", iov->iov_base);
	}
}

static void
transfer(struct blkioq *q, enum sim_op op, uint64_t off, const struct iovec *iov, int iovcnt,
	 void *user_data, uint32_t flags)
{
	struct request *r;
	uint64_t len = 0, at = 0;

	pthread_mutex_lock(&sim.lock);
	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	r = request_new(q, op, off, len, user_data, flags);
	if (iovcnt < 1 || iovcnt > MAX(sim.c.max_segments, 1))
		broken("%d segments, but at most %d are allowed", iovcnt, sim.c.max_segments);
	if (sim.c.max_transfer && len > (uint64_t)sim.c.max_transfer)
		broken("%s of %llu bytes, but at most %d are allowed", op_names[op],
		       (unsigned long long)len, sim.c.max_transfer);
	r->given = iov;
	r->iovcnt = iovcnt;
	r->iov = must(malloc((size_t)iovcnt * sizeof(*iov)));
	memcpy(r->iov, iov, (size_t)iovcnt * sizeof(*iov));
	r->data = must(malloc(len));
	for (int i = 0; op == SIM_WRITE && i < iovcnt; at += iov[i++].iov_len)
		if (iov[i].iov_len)
			memcpy(r->data + at, iov[i].iov_base, iov[i].iov_len);
	if (op == SIM_READ)
		memset(r->data, r->ret < 0 ? 0xee : 0, len);
	memory_check(r);
	request_blocks(r);
	pthread_mutex_unlock(&sim.lock);
}

void
blkioq_readv(struct blkioq *q, uint64_t start, const struct iovec *iovec, int iovcnt,
	     void *user_data, uint32_t flags)
{
	transfer(q, SIM_READ, start, iovec, iovcnt, user_data, flags);
}

void
blkioq_writev(struct blkioq *q, uint64_t start, struct iovec *iovec, int iovcnt, void *user_data,
	      uint32_t flags)
{
	transfer(q, SIM_WRITE, start, iovec, iovcnt, user_data, flags);
}

/* A piece lies in one unit, or is whole units. */
static void
units_check(const char *name, uint64_t off, uint64_t len, uint64_t unit)
{
	if (unit && !in_tail(off) && off / unit != (off + len - 1) / unit &&
	    (off % unit || len % unit))
		broken("%s %llu+%llu crosses a boundary of %llu", name, (unsigned long long)off,
		       (unsigned long long)len, (unsigned long long)unit);
}

void
blkioq_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		    uint32_t flags)
{
	pthread_mutex_lock(&sim.lock);
	request_blocks(request_new(q, SIM_ZEROES, start, len, user_data, flags));
	if (sim.c.max_write_zeroes && len > sim.c.max_write_zeroes)
		broken("zeroes longer than max-write-zeroes-len");
	units_check("zeroes", start, len, (uint64_t)sim.c.zeroes_alignment);
	pthread_mutex_unlock(&sim.lock);
}

void
blkioq_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data, uint32_t flags)
{
	pthread_mutex_lock(&sim.lock);
	request_blocks(request_new(q, SIM_DISCARD, start, len, user_data, flags));
	if (sim.c.max_discard && len > sim.c.max_discard)
		broken("discard longer than max-discard-len");
	units_check("discard", start, len, (uint64_t)sim.c.discard_alignment);
	pthread_mutex_unlock(&sim.lock);
}

void
blkioq_flush(struct blkioq *q, void *user_data, uint32_t flags)
{
	pthread_mutex_lock(&sim.lock);
	request_new(q, SIM_FLUSH, 0, 0, user_data, flags);
	pthread_mutex_unlock(&sim.lock);
}

static void
request_free(struct request *r)
{
	free(r->iov);
	free(r->data);
	free(r->applied);
	free(r);
}

/* Request I has been fetched: what it wrote has a place in that order. */
static void
fetched(unsigned i)
{
	struct request *r = sim.requests[i];

	sim.fetches++;
	for (unsigned k = 0; r->op != SIM_READ && k < r->nblocks; k++)
		for (struct version *v = sim.blocks[r->first + k].oldest; v; v = v->next)
			if (v->owner == r->id)
				v->done_at = sim.fetches;
	r->q->finished--;
	memmove(&sim.requests[i], &sim.requests[i + 1],
		(--sim.nrequests - i) * sizeof(sim.requests[0]));
	request_free(r);
}

static int
submit_and_fetch(struct blkioq *q, struct blkio_completion *completions, int max)
{
	int n = 0;

	for (unsigned i = 0; i < sim.nrequests; i++) {
		struct request *r = sim.requests[i];

		if (r->q != q || r->state != QUEUED)
			continue;
		r->state = SUBMITTED;
		sim.nready++;
		if (sim.c.instant || sim.dead)
			finish(r);
	}
	/* Some are so fast that they are back at once. */
	for (unsigned k = sim.c.instant ? 0 : below(3); k > 0 && below(2); k--)
		step_any();
	for (unsigned i = 0; i < sim.nrequests && n < max;) {
		struct request *r = sim.requests[i];

		if (r->q != q || r->state != FINISHED ||
		    (!sim.c.instant && !sim.dead && below(8) == 0)) {
			i++;
			continue;
		}
		completions[n++] = (struct blkio_completion){
			.user_data = r->user_data,
			.ret = r->ret,
		};
		fetched(i);
	}
	if (q->finished)
		announce(q);
	return n;
}

int
blkioq_do_io(struct blkioq *q, struct blkio_completion *completions, int min_completions,
	     int max_completions, struct timespec *timeout)
{
	static const int errors[] = { -EAGAIN, -EBUSY, -ENOMEM, -EINTR };
	int n;

	if (min_completions != 0 || timeout)
		broken("it does not wait");
	pthread_mutex_lock(&sim.lock);
	if (!sim.dead && sim.c.not_now_permille && below(1000) < sim.c.not_now_permille)
		n = errors[below(ARRAY_SIZE(errors))];
	else
		n = submit_and_fetch(q, completions, max_completions);
	pthread_mutex_unlock(&sim.lock);
	return n;
}

/* --- Status ----------------------------------------------------------------- */

/* Bytes from START on that all are zero, or all are not, as reads see them. */
static uint64_t
alike(uint64_t start, uint64_t len, bool *zero)
{
	uint64_t window_end = sim.c.window_off + sim.c.window_len, n;

	*zero = true;
	if (start < sim.c.window_off)
		return MIN(len, sim.c.window_off - start);
	if (start >= window_end)
		return len;
	len = MIN(len, window_end - start);
	*zero = sim.now[start - sim.c.window_off] == 0;
	for (n = 1; n < len && (sim.now[start + n - sim.c.window_off] == 0) == *zero; n++)
		;
	return n;
}

/* Whatever is true: as data, or less of it, too. */
int
blkioq_ext_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	bool zero;
	int ret = 0;

	pthread_mutex_lock(&sim.lock);
	if (!range_ok(start, len, sim.c.capacity) || len == 0)
		broken("status of %llu+%llu", (unsigned long long)start, (unsigned long long)len);
	if (sim.dead)
		ret = -EIO;
	else if (!sim.c.status)
		ret = -ENOTSUP;
	*extent = (struct blkio_ext_extent){ .len = alike(start, len, &zero) };
	if (zero && below(8))
		extent->flags = BLKIO_EXT_ZERO | (below(2) ? BLKIO_EXT_HOLE : 0);
	if (!zero && below(2))
		extent->len = len; /* data to the end of it all is never wrong */
	if (below(4) == 0)
		extent->len = 1 + below((unsigned)MIN(extent->len, (uint64_t)INT32_MAX));
	pthread_mutex_unlock(&sim.lock);
	return ret;
}

/* --- Power ------------------------------------------------------------------ */

void
sim_power_cut(void)
{
	unsigned keep;

	pthread_mutex_lock(&sim.lock);
	keep = below(5); /* of four dirty blocks; 0: none */
	while (sim.ndirty > 0) {
		unsigned i = sim.dirty[sim.ndirty - 1];
		struct block *b = &sim.blocks[i];

		if (below(4) < keep) {
			advance_from(i, b->oldest);
			if (!b->oldest)
				continue;
		}
		sim_stats.lost++;
		while (b->oldest) {
			struct version *v = b->oldest;

			b->oldest = v->next;
			v->next = sim.free;
			sim.free = v;
		}
		b->newest = NULL;
		sim.ndirty--;
	}
	memcpy(sim.now, sim.stable, (size_t)sim.c.window_len);
	sim.dead = true;
	for (unsigned i = 0; i < sim.nrequests; i++) {
		struct request *r = sim.requests[i];

		if (r->state == SUBMITTED)
			finish(r);
	}
	pthread_mutex_unlock(&sim.lock);
}

void
sim_power_on(void)
{
	pthread_mutex_lock(&sim.lock);
	if (sim.nrequests || sim.dev.there)
		broken("power comes back while the device is open");
	sim.dead = false;
	memset(sim.c.faults, 0, sizeof(sim.c.faults));
	pthread_mutex_unlock(&sim.lock);
}

/* --- The device as a whole -------------------------------------------------- */

void
sim_reset(const struct sim_config *config)
{
	uint64_t len = config->window_len ? config->window_len :
					    config->capacity - config->window_off;

	pthread_mutex_lock(&sim.lock);
	if (sim.nrequests || sim.dev.there)
		broken("reset while the device is open");
	sim.c = *config;
	sim.c.window_len = len;
	sim.c.request_alignment = MAX(config->request_alignment, 1);
	sim.c.buf_alignment = MAX(config->buf_alignment, 1);
	sim.c.max_segments = config->max_segments ? config->max_segments : 1024;
	sim.rng = config->seed ? config->seed : 1;
	sim.dead = false;
	sim.ids = sim.fetches = 0;
	sim.nregions = 0;
	memset(sim.fault_hits, 0, sizeof(sim.fault_hits));
	memset(&sim_stats, 0, sizeof(sim_stats));
	sim.text_len = 0;
	sim.text[0] = '\0';

	sim.free = NULL;
	sim.carving = NULL;
	sim.carved = VERSION_CHUNK;
	sim.block = config->block ? config->block : (uint64_t)sim.c.request_alignment;
	sim.nblocks = (unsigned)((len + sim.block - 1) / sim.block);
	free(sim.blocks);
	free(sim.dirty);
	sim.blocks = must(calloc(sim.nblocks, sizeof(*sim.blocks)));
	sim.dirty = must(calloc(sim.nblocks, sizeof(*sim.dirty)));
	sim.ndirty = 0;
	if (sim.allocated < len) {
		free(sim.now);
		free(sim.stable);
		sim.now = must(malloc((size_t)len));
		sim.stable = must(malloc((size_t)len));
		sim.allocated = (size_t)len;
	}
	memset(sim.now, 0, (size_t)len);
	memset(sim.stable, 0, (size_t)len);
	pthread_mutex_unlock(&sim.lock);
}

void
sim_poke(uint64_t off, const void *data, size_t len)
{
	memcpy(sim.now + (off - sim.c.window_off), data, len);
	memcpy(sim.stable + (off - sim.c.window_off), data, len);
}

void
sim_peek(uint64_t off, void *data, size_t len)
{
	memcpy(data, sim.now + (off - sim.c.window_off), len);
}

const char *
sim_text(void)
{
	sim.text[sim.text_len] = '\0';
	return sim.text;
}

void
sim_text_clear(void)
{
	sim.text_len = 0;
	sim.text[0] = '\0';
}

/* --- Handles ---------------------------------------------------------------- */

static _Thread_local char message[256];

static int
refuse(int error, const char *text)
{
	snprintf(message, sizeof(message), "%s", text);
	return -error;
}

const char *
blkio_get_error_msg(void)
{
	return message;
}

int
blkio_create(const char *driver, struct blkio **bp)
{
	if (strcmp(driver, "sim") != 0)
		return refuse(ENOENT, "Unknown driver name");
	if (sim.dev.there)
		broken("there is one device only");
	sim.dev = (struct blkio){ .there = true, .num_queues = 1 };
	*bp = &sim.dev;
	return 0;
}

int
blkio_connect(struct blkio *b)
{
	b->connected = true;
	return 0;
}

static int
queue_make(void)
{
	if (sim.nqueues == QUEUES_MAX)
		return refuse(EMFILE, "too many queues");
	sim.queues[sim.nqueues] = (struct blkioq){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	return (int)sim.nqueues++;
}

int
blkio_start(struct blkio *b)
{
	b->started = true;
	for (int i = 0; i < b->num_queues; i++)
		queue_make();
	return 0;
}

void
blkio_destroy(struct blkio **bp)
{
	if (sim.nrequests > 0)
		broken("destroyed with %u requests that were not fetched", sim.nrequests);
	for (unsigned i = 0; i < sim.nqueues; i++)
		close(sim.queues[i].fd);
	sim.nqueues = sim.nregions = 0;
	(*bp)->there = false;
	*bp = NULL;
}

int
blkio_get_bool(struct blkio *b, const char *name, bool *value)
{
	if (strcmp(name, "flush-needed") == 0)
		*value = sim.c.flush_needed;
	else if (strcmp(name, "supports-fua-natively") == 0)
		*value = sim.c.fua_native;
	else if (strcmp(name, "read-only") == 0)
		*value = sim.c.read_only;
	else if (strcmp(name, "needs-mem-regions") == 0)
		*value = sim.c.needs_regions;
	else if (strcmp(name, "needs-mem-region-fd") == 0)
		*value = sim.c.needs_region_fds;
	else
		return refuse(ENOENT, "Unknown property name");
	return 0;
}

int
blkio_get_int(struct blkio *b, const char *name, int *value)
{
	if (strcmp(name, "request-alignment") == 0)
		*value = sim.c.request_alignment;
	else if (strcmp(name, "optimal-io-size") == 0)
		*value = sim.c.optimal_io_size;
	else if (strcmp(name, "max-transfer") == 0)
		*value = sim.c.max_transfer;
	else if (strcmp(name, "max-segments") == 0)
		*value = sim.c.max_segments;
	else if (strcmp(name, "buf-alignment") == 0 || strcmp(name, "optimal-buf-alignment") == 0)
		*value = sim.c.buf_alignment;
	else if (strcmp(name, "discard-alignment") == 0)
		*value = sim.c.discard_alignment;
	else if (strcmp(name, BLKIO_EXT_ZERO_ALIGNMENT) == 0 && sim.c.zeroes_alignment)
		*value = sim.c.zeroes_alignment;
	else
		return refuse(ENOENT, "Unknown property name");
	return 0;
}

int
blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value)
{
	if (strcmp(name, "capacity") == 0)
		*value = sim.c.capacity;
	else if (strcmp(name, "max-discard-len") == 0)
		*value = sim.c.max_discard;
	else if (strcmp(name, "max-write-zeroes-len") == 0)
		*value = sim.c.max_write_zeroes;
	else if (strcmp(name, BLKIO_EXT_TAIL_START) == 0 && sim.c.tail)
		*value = sim.c.tail_start;
	else
		return refuse(ENOENT, "Unknown property name");
	return 0;
}

int
blkio_set_bool(struct blkio *b, const char *name, bool value)
{
	if (strcmp(name, "read-only") == 0)
		sim.c.read_only = value;
	else
		return refuse(ENOENT, "Unknown property name");
	return 0;
}

int
blkio_set_int(struct blkio *b, const char *name, int value)
{
	if (strcmp(name, "num-queues") == 0)
		b->num_queues = value;
	else
		return refuse(ENOENT, "Unknown property name");
	return 0;
}

int
blkio_set_str(struct blkio *b, const char *name, const char *value)
{
	return refuse(ENOENT, "Unknown property name");
}

int
blkio_map_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	int ret = 0;

	pthread_mutex_lock(&sim.lock);
	if (!b->started)
		broken("a region for a device that is not started");
	if (sim.c.needs_region_fds && region->fd < 0)
		broken("a region without a descriptor");
	for (unsigned i = 0; i < sim.nregions; i++)
		if (range_overlap((uintptr_t)region->addr, region->len,
				  (uintptr_t)sim.regions[i].addr, sim.regions[i].len))
			broken("regions overlap");
	if (sim.nregions == REGIONS_MAX)
		ret = refuse(ENOMEM, "too many regions");
	else
		sim.regions[sim.nregions++] = *region;
	pthread_mutex_unlock(&sim.lock);
	return ret;
}

void
blkio_unmap_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	pthread_mutex_lock(&sim.lock);
	for (unsigned i = 0; i < sim.nregions; i++) {
		if (sim.regions[i].addr != region->addr)
			continue;
		if (memcmp(&sim.regions[i], region, sizeof(*region)) != 0)
			broken("unmapping a region with other arguments");
		sim.regions[i] = sim.regions[--sim.nregions];
		pthread_mutex_unlock(&sim.lock);
		return;
	}
	broken("unmapping an unknown region");
}

struct blkioq *
blkio_get_queue(struct blkio *b, int index)
{
	return index >= 0 && (unsigned)index < sim.nqueues ? &sim.queues[index] : NULL;
}

int
blkio_add_queue(struct blkio *b)
{
	int index;

	pthread_mutex_lock(&sim.lock);
	index = queue_make();
	pthread_mutex_unlock(&sim.lock);
	return index;
}

int
blkioq_get_completion_fd(struct blkioq *q)
{
	return q->fd;
}

void
blkioq_set_completion_fd_enabled(struct blkioq *q, bool enable)
{
	pthread_mutex_lock(&sim.lock);
	q->enabled = enable;
	if (q->finished)
		announce(q);
	pthread_mutex_unlock(&sim.lock);
}
