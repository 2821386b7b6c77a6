/* SPDX-License-Identifier: MIT */
/*
 * simdev.c - a simulated block device behind blkio.h; see simdev.h.
 *
 * The path of a request: blkioq_writev() checks it and puts it on the queue;
 * blkioq_do_io() submits what is queued; sim_step_one() picks one that is
 * submitted and lets some of its blocks take effect, or finishes it; a later
 * blkioq_do_io() fetches it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/range.h"
#include "blkio-ext.h"
#include "simdev_core.h"

const char *const sim_op_names[SIM_OPS + 1] = { "read",    "write", "zeroes",
						"discard", "flush", "status" };

/* --- Errors ------------------------------------------------------------------- */

static _Thread_local char message[256];

_Noreturn void
sim_broken(const struct blkio *b, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "simdev: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nthe last requests: %s\n",
		b->text + (b->text_len > 600 ? b->text_len - 600 : 0));
	abort();
}

void *
sim_must(const struct blkio *b, void *p)
{
	if (!p)
		sim_broken(b, "no memory");
	return p;
}

int
sim_refuse(int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return -error;
}

const char *
blkio_get_error_msg(void)
{
	return message;
}

/* --- Results ------------------------------------------------------------------ */

static void
happened(struct blkio *b, uint64_t what)
{
	b->stats.hash = (b->stats.hash ^ what) * UINT64_C(0x100000001b3);
	b->stats.hash ^= b->stats.hash >> 29;
}

/* OP is a request's, or SIM_STATUS. */
static bool
fault_hit(struct blkio *b, unsigned n, unsigned op, uint64_t off, uint64_t len, uint32_t flags)
{
	const struct sim_fault *f = &b->c.faults[n];

	if (!(f->ops & 1u << op) || (f->fua_only && !(flags & BLKIO_REQ_FUA)))
		return false;
	if (f->end && op != SIM_FLUSH && !range_overlap(f->off, f->end - f->off, off, len))
		return false;
	if (f->permille && sim_pick(b, 1000) >= f->permille)
		return false;
	b->fault_hits[n]++;
	return b->fault_hits[n] > f->skip &&
	       (!f->times || b->fault_hits[n] <= f->skip + f->times);
}

static bool
is_to_hold(struct blkio *b, const struct sim_request *r)
{
	for (unsigned n = 0; n < SIM_FAULTS_MAX; n++)
		if (b->c.faults[n].hold && fault_hit(b, n, r->op, r->off, r->len, r->flags))
			return true;
	return false;
}

static int
fault_of(struct blkio *b, unsigned op, uint64_t off, uint64_t len, uint32_t flags)
{
	for (unsigned n = 0; n < SIM_FAULTS_MAX; n++) {
		const struct sim_fault *f = &b->c.faults[n];

		if (f->ops && !f->hold && fault_hit(b, n, op, off, len, flags)) {
			b->stats.failed++;
			return f->ret;
		}
	}
	return 0;
}

/* What the device answers; decided when the request comes. */
static int
result_of(struct blkio *b, const struct sim_request *r)
{
	uint64_t unit = sim_in_tail(b, r->off) ? 1 : (uint64_t)MAX(b->c.discard_alignment, 1);

	if (r->op == SIM_ZEROES) {
		bool fast = r->flags & BLKIO_REQ_NO_FALLBACK;

		if (b->c.zeroes == SIM_ZEROES_NONE || (b->c.zeroes == SIM_ZEROES_NO_FAST && fast))
			return -ENOTSUP;
	}
	if (r->op == SIM_DISCARD) {
		if (b->c.discards == SIM_DISCARDS_NONE)
			return -ENOTSUP;
		if (b->c.discards == SIM_DISCARDS_UNITS && (r->off % unit || r->len % unit))
			return -EINVAL;
	}
	return fault_of(b, r->op, r->off, r->len, r->flags);
}

static bool
untouched(int ret)
{
	return ret == -ENOTSUP || ret == -EINVAL;
}

/*
 * Whether a sync fails, or has a failing one of the same queue beside it: a
 * failure of writing back is reported once, to whichever of them comes first.
 */
static bool
sync_fails(const struct blkio *b, const struct sim_request *r)
{
	for (unsigned i = 0; r->ret == 0 && i < b->nrequests; i++) {
		const struct sim_request *other = b->requests[i];

		if (other->q == r->q && other->state != SIM_FINISHED &&
		    ((other->op == SIM_FLUSH && other->ret < 0) ||
		     (other->flags & BLKIO_REQ_FUA && other->ret == -EIO)))
			return true;
	}
	return r->ret < 0;
}

/* --- Steps -------------------------------------------------------------------- */

static void
iov_check(const struct blkio *b, const struct sim_request *r)
{
	size_t at = 0;

	if (r->iovcnt && memcmp(r->given, r->iov, (size_t)r->iovcnt * sizeof(*r->iov)) != 0)
		sim_broken(b, "an iovec of %s %llu+%llu changed under way", sim_op_names[r->op],
			   (unsigned long long)r->off, (unsigned long long)r->len);
	if (r->op != SIM_WRITE)
		return;
	for (int i = 0; i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->iov[i].iov_len &&
		    memcmp(r->iov[i].iov_base, r->data + at, r->iov[i].iov_len) != 0)
			sim_broken(b, "data of write %llu+%llu changed under way",
				   (unsigned long long)r->off, (unsigned long long)r->len);
}

static void
announce(struct blkioq *q)
{
	uint64_t one = 1;

	if (q->enabled && write(q->fd, &one, sizeof(one)) != sizeof(one))
		sim_broken(q->dev, "eventfd");
}

static void
finish(struct blkio *b, struct sim_request *r)
{
	size_t at = 0;

	iov_check(b, r);
	if (b->dead) {
		r->ret = -EIO;
		r->nblocks = r->left = 0;
	}
	for (unsigned k = 0; k < r->nblocks && r->left; k++)
		if (!r->applied[k] && (r->ret == 0 || (!untouched(r->ret) && sim_pick(b, 2))))
			disk_apply(b, r, k);
	if (!b->c.flush_needed || (r->flags & BLKIO_REQ_FUA && !sync_fails(b, r)))
		disk_make_durable(b, r);
	if (r->op == SIM_FLUSH)
		disk_flush(b, r, sync_fails(b, r));
	for (int i = 0; r->op == SIM_READ && i < r->iovcnt; at += r->iov[i++].iov_len)
		if (r->iov[i].iov_len)
			memcpy(r->iov[i].iov_base, r->data + at, r->iov[i].iov_len);
	for (unsigned i = 0; i < b->nrequests && b->requests[i] != r; i++)
		if (b->requests[i]->state != SIM_FINISHED) {
			b->stats.overtaken++;
			break;
		}
	b->stats.torn += r->steps > 0;
	r->state = SIM_FINISHED;
	b->nready--;
	r->q->finished++;
	happened(b, r->id * 3 + 1 + (uint64_t)(unsigned)r->ret);
	b->tell(b, SIM_ENDS, r);
	announce(r->q);
}

/* Some blocks of a request in flight, or all and its end. */
static void
step(struct blkio *b, struct sim_request *r)
{
	if (r->left > 0 && !untouched(r->ret) && sim_pick(b, 2)) {
		unsigned mask = sim_pick(b, 3) ? 2 : 1; /* half of them, or a run */
		unsigned from = sim_pick(b, r->nblocks);

		for (unsigned k = 0; k < r->nblocks; k++)
			if (!r->applied[k] && (mask == 1 ? k >= from : sim_pick(b, 2)))
				disk_apply(b, r, k);
		r->steps++;
		happened(b, r->id * 3);
		return;
	}
	finish(b, r);
}

static bool
step_any(struct blkio *b)
{
	unsigned pick;

	if (b->nready == 0)
		return false;
	/* Mostly any; sometimes the oldest, so that nothing waits for ever. */
	pick = sim_pick(b, 8) ? sim_pick(b, b->nready) : 0;
	for (unsigned i = 0; i < b->nrequests; i++) {
		struct sim_request *r = b->requests[i];

		if (r->state == SIM_SUBMITTED && pick-- == 0) {
			step(b, r);
			return true;
		}
	}
	sim_broken(b, "requests in flight were miscounted");
}

bool
sim_step_one(struct blkio *b)
{
	if (b->c.spurious && b->nqueues && sim_pick(b, 16) == 0)
		announce(&b->queues[sim_pick(b, b->nqueues)]);
	return step_any(b);
}

void
sim_let_go(struct blkio *b)
{
	for (unsigned i = 0; i < b->nrequests; i++) {
		struct sim_request *r = b->requests[i];

		r->hold = false;
		if (r->state != SIM_HELD)
			continue;
		r->state = SIM_SUBMITTED;
		b->nready++;
	}
}

void
sim_cut(struct blkio *b)
{
	sim_let_go(b);
	disk_cut(b);
	b->dead = true;
	for (unsigned i = 0; i < b->nrequests; i++)
		if (b->requests[i]->state == SIM_SUBMITTED)
			finish(b, b->requests[i]);
}

/* --- Requests ----------------------------------------------------------------- */

static void
text_add(struct blkio *b, const struct sim_request *r)
{
	char *at = b->text + b->text_len;
	size_t room = sizeof(b->text) - b->text_len;
	int n;

	if (room < 256) {
		b->text_len = 0;
		at = b->text;
		room = sizeof(b->text);
	}
	n = r->op == SIM_FLUSH ? snprintf(at, room, "flush, ") :
				 snprintf(at, room, "%s %llu+%llu%s%s%s, ", sim_op_names[r->op],
					  (unsigned long long)r->off, (unsigned long long)r->len,
					  r->flags & BLKIO_REQ_FUA ? " fua" : "",
					  r->flags & BLKIO_REQ_NO_UNMAP ? " no-unmap" : "",
					  r->flags & BLKIO_REQ_NO_FALLBACK ? " no-fallback" : "");
	b->text_len += (size_t)n;
}

static struct sim_request *
request_new(struct blkioq *q, enum sim_op op, uint64_t off, uint64_t len, void *user_data,
	    uint32_t flags)
{
	struct blkio *b = q->dev;
	struct sim_request *r = sim_must(b, calloc(1, sizeof(*r)));
	uint64_t align = sim_in_tail(b, off) ? 1 : (uint64_t)b->c.request_alignment;
	const char *name = sim_op_names[op];

	*r = (struct sim_request){
		.op = op,
		.id = ++b->ids,
		.off = off,
		.len = len,
		.flags = flags,
		.q = q,
		.user_data = user_data,
	};
	text_add(b, r);
	b->stats.requests[op]++;
	happened(b, off * 31 + len * 7 + (uint64_t)op + ((uint64_t)flags << 40));
	b->tell(b, SIM_COMES, r);
	if (flags & ~(op == SIM_WRITE ? 1u : op == SIM_ZEROES ? 7u : 0u))
		sim_broken(b, "%s with flags 0x%x", name, flags);
	if (op != SIM_READ && op != SIM_FLUSH && b->c.read_only)
		sim_broken(b, "%s of a read-only device", name);
	if (op == SIM_FLUSH) {
		r->covers = b->fetches;
	} else {
		if (len == 0)
			sim_broken(b, "an empty %s", name);
		if (!range_ok(off, len, b->c.capacity))
			sim_broken(b, "%s %llu+%llu is beyond the end", name,
				   (unsigned long long)off, (unsigned long long)len);
		if (sim_in_tail(b, off) != sim_in_tail(b, off + len - 1))
			sim_broken(b, "%s %llu+%llu crosses the start of the tail", name,
				   (unsigned long long)off, (unsigned long long)len);
		if (off % align || len % align)
			sim_broken(b, "%s %llu+%llu is not aligned to %llu", name,
				   (unsigned long long)off, (unsigned long long)len,
				   (unsigned long long)align);
	}
	r->hold = is_to_hold(b, r);
	r->ret = result_of(b, r);
	if (b->nrequests == SIM_REQUESTS_MAX)
		sim_broken(b, "too many requests");
	b->requests[b->nrequests++] = r;
	return r;
}

static void
memory_check(const struct blkio *b, const struct sim_request *r)
{
	uint64_t align = sim_in_tail(b, r->off) ? 1 : (uint64_t)MAX(b->c.buf_alignment, 1);

	for (int i = 0; i < r->iovcnt; i++) {
		const struct iovec *iov = &r->iov[i];
		bool found = !b->c.needs_regions;

		if ((uintptr_t)iov->iov_base % align)
			sim_broken(b, "memory at %p is not aligned to %llu", iov->iov_base,
				   (unsigned long long)align);
		for (unsigned k = 0; k < b->nregions && !found; k++)
			found = range_ok((uintptr_t)iov->iov_base - (uintptr_t)b->regions[k].addr,
					 iov->iov_len, b->regions[k].len);
		if (!found)
			sim_broken(b, "memory at %p is in no mapped region", iov->iov_base);
	}
}

static void
transfer(struct blkioq *q, enum sim_op op, uint64_t off, const struct iovec *iov, int iovcnt,
	 void *user_data, uint32_t flags)
{
	struct blkio *b = q->dev;
	struct sim_request *r;
	uint64_t len = 0, at = 0;

	pthread_mutex_lock(&b->lock);
	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	r = request_new(q, op, off, len, user_data, flags);
	if (iovcnt < 1 || iovcnt > MAX(b->c.max_segments, 1))
		sim_broken(b, "%d segments, but at most %d are allowed", iovcnt,
			   b->c.max_segments);
	if (b->c.max_transfer && len > (uint64_t)b->c.max_transfer)
		sim_broken(b, "%s of %llu bytes, but at most %d are allowed", sim_op_names[op],
			   (unsigned long long)len, b->c.max_transfer);
	r->given = iov;
	r->iovcnt = iovcnt;
	r->iov = sim_must(b, malloc((size_t)iovcnt * sizeof(*iov)));
	memcpy(r->iov, iov, (size_t)iovcnt * sizeof(*iov));
	r->data = sim_must(b, malloc(len));
	for (int i = 0; op == SIM_WRITE && i < iovcnt; at += iov[i++].iov_len)
		if (iov[i].iov_len)
			memcpy(r->data + at, iov[i].iov_base, iov[i].iov_len);
	if (op == SIM_READ)
		memset(r->data, r->ret < 0 ? 0xee : 0, len);
	memory_check(b, r);
	disk_request(b, r);
	pthread_mutex_unlock(&b->lock);
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
units_check(const struct blkio *b, const char *name, uint64_t off, uint64_t len, uint64_t unit)
{
	if (unit && !sim_in_tail(b, off) && off / unit != (off + len - 1) / unit &&
	    (off % unit || len % unit))
		sim_broken(b, "%s %llu+%llu crosses a boundary of %llu", name,
			   (unsigned long long)off, (unsigned long long)len,
			   (unsigned long long)unit);
}

void
blkioq_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		    uint32_t flags)
{
	struct blkio *b = q->dev;

	pthread_mutex_lock(&b->lock);
	disk_request(b, request_new(q, SIM_ZEROES, start, len, user_data, flags));
	if (b->c.max_write_zeroes && len > b->c.max_write_zeroes)
		sim_broken(b, "zeroes longer than max-write-zeroes-len");
	units_check(b, "zeroes", start, len, (uint64_t)b->c.zeroes_alignment);
	pthread_mutex_unlock(&b->lock);
}

void
blkioq_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data, uint32_t flags)
{
	struct blkio *b = q->dev;

	pthread_mutex_lock(&b->lock);
	disk_request(b, request_new(q, SIM_DISCARD, start, len, user_data, flags));
	if (b->c.max_discard && len > b->c.max_discard)
		sim_broken(b, "discard longer than max-discard-len");
	units_check(b, "discard", start, len, (uint64_t)b->c.discard_alignment);
	pthread_mutex_unlock(&b->lock);
}

void
blkioq_flush(struct blkioq *q, void *user_data, uint32_t flags)
{
	pthread_mutex_lock(&q->dev->lock);
	request_new(q, SIM_FLUSH, 0, 0, user_data, flags);
	pthread_mutex_unlock(&q->dev->lock);
}

/* --- Completions -------------------------------------------------------------- */

static void
request_free(struct sim_request *r)
{
	free(r->iov);
	free(r->data);
	free(r->applied);
	free(r);
}

/* Request I has been fetched. */
static void
fetched(struct blkio *b, unsigned i)
{
	struct sim_request *r = b->requests[i];

	b->fetches++;
	disk_fetched(b, r);
	r->q->finished--;
	memmove(&b->requests[i], &b->requests[i + 1],
		(--b->nrequests - i) * sizeof(b->requests[0]));
	request_free(r);
}

static void
submit(struct blkio *b, const struct blkioq *q)
{
	for (unsigned i = 0; i < b->nrequests; i++) {
		struct sim_request *r = b->requests[i];

		if (r->q != q || r->state != SIM_QUEUED)
			continue;
		if (r->hold && !b->dead) {
			r->state = SIM_HELD;
			b->tell(b, SIM_HOLDS, r);
			continue;
		}
		r->state = SIM_SUBMITTED;
		b->nready++;
		if (b->c.instant || b->dead)
			finish(b, r);
	}
	/* Some are so fast that they are back at once. */
	for (unsigned k = b->c.instant ? 0 : sim_pick(b, 3); k > 0 && sim_pick(b, 2); k--)
		step_any(b);
}

static int
fetch(struct blkioq *q, struct blkio_completion *completions, int max)
{
	struct blkio *b = q->dev;
	int n = 0;

	for (unsigned i = 0; i < b->nrequests && n < max;) {
		struct sim_request *r = b->requests[i];

		if (r->q != q || r->state != SIM_FINISHED ||
		    (!b->c.instant && !b->dead && sim_pick(b, 8) == 0)) {
			i++;
			continue;
		}
		completions[n++] = (struct blkio_completion){
			.user_data = r->user_data,
			.ret = r->ret,
		};
		fetched(b, i);
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
	struct blkio *b = q->dev;
	int n;

	if (min_completions != 0 || timeout)
		sim_broken(b, "it does not wait");
	pthread_mutex_lock(&b->lock);
	if (!b->dead && b->c.not_now_permille && sim_pick(b, 1000) < b->c.not_now_permille) {
		n = errors[sim_pick(b, ARRAY_SIZE(errors))];
	} else {
		submit(b, q);
		n = fetch(q, completions, max_completions);
	}
	if (b->busy && b->nready > 0)
		b->busy(b);
	pthread_mutex_unlock(&b->lock);
	return n;
}

int
blkioq_get_completion_fd(struct blkioq *q)
{
	return q->fd;
}

void
blkioq_set_completion_fd_enabled(struct blkioq *q, bool enable)
{
	pthread_mutex_lock(&q->dev->lock);
	q->enabled = enable;
	if (q->finished)
		announce(q);
	pthread_mutex_unlock(&q->dev->lock);
}

/* --- Status ------------------------------------------------------------------- */

/* Whatever is true: as data, or less of it, too. */
int
blkioq_ext_status(struct blkioq *q, uint64_t start, uint64_t len, struct blkio_ext_extent *extent)
{
	struct blkio *b = q->dev;
	bool zero;
	int ret = 0;

	pthread_mutex_lock(&b->lock);
	if (!range_ok(start, len, b->c.capacity) || len == 0)
		sim_broken(b, "status of %llu+%llu", (unsigned long long)start,
			   (unsigned long long)len);
	if (b->dead)
		ret = -EIO;
	else if (!b->c.status)
		ret = -ENOTSUP;
	else
		ret = fault_of(b, SIM_STATUS, start, len, 0);
	*extent = (struct blkio_ext_extent){ .len = disk_alike(b, start, len, &zero) };
	if (zero && sim_pick(b, 8))
		extent->flags = BLKIO_EXT_ZERO | (sim_pick(b, 2) ? BLKIO_EXT_HOLE : 0);
	if (!zero && sim_pick(b, 2))
		extent->len = len; /* data to the end of it all is never wrong */
	if (sim_pick(b, 4) == 0)
		extent->len = 1 + sim_pick(b, (unsigned)MIN(extent->len, (uint64_t)INT32_MAX));
	pthread_mutex_unlock(&b->lock);
	return ret;
}

/* --- The device as a whole ---------------------------------------------------- */

void
sim_init(struct blkio *b, const struct sim_config *config)
{
	uint64_t len = config->window_len ? config->window_len :
					    config->capacity - config->window_off;

	b->c = *config;
	b->c.window_len = len;
	b->c.request_alignment = MAX(config->request_alignment, 1);
	b->c.buf_alignment = MAX(config->buf_alignment, 1);
	b->c.max_segments = config->max_segments ? config->max_segments : 1024;
	b->c.block = config->block ? config->block : (unsigned)b->c.request_alignment;
	b->rng = config->seed ? config->seed : 1;
	b->dead = false;
	b->ids = b->fetches = 0;
	b->nregions = 0;
	memset(b->fault_hits, 0, sizeof(b->fault_hits));
	memset(&b->stats, 0, sizeof(b->stats));
	b->text_len = 0;
	b->text[0] = '\0';
	disk_reset(b, len);
}

void
sim_release(struct blkio *b)
{
	disk_release(b);
}

static int
queue_make(struct blkio *b)
{
	if (b->nqueues == SIM_QUEUES_MAX)
		return sim_refuse(EMFILE, "too many queues");
	b->queues[b->nqueues] = (struct blkioq){
		.dev = b,
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	return (int)b->nqueues++;
}

int
blkio_start(struct blkio *b)
{
	b->started = true;
	for (int i = 0; i < b->num_queues; i++)
		queue_make(b);
	return 0;
}

void
sim_close(struct blkio *b)
{
	if (b->nrequests > 0)
		sim_broken(b, "destroyed with %u requests that were not fetched", b->nrequests);
	if (b->nregions > 0)
		sim_broken(b, "destroyed with %u regions that are mapped", b->nregions);
	for (unsigned i = 0; i < b->nqueues; i++)
		close(b->queues[i].fd);
	b->nqueues = 0;
	b->open = b->started = false;
}

struct blkioq *
blkio_get_queue(struct blkio *b, int index)
{
	return index >= 0 && (unsigned)index < b->nqueues ? &b->queues[index] : NULL;
}

int
blkio_add_queue(struct blkio *b)
{
	int index;

	pthread_mutex_lock(&b->lock);
	index = queue_make(b);
	pthread_mutex_unlock(&b->lock);
	return index;
}

int
blkio_map_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	int ret = 0;

	pthread_mutex_lock(&b->lock);
	if (!b->started)
		sim_broken(b, "a region for a device that is not started");
	if (b->c.needs_region_fds && region->fd < 0)
		sim_broken(b, "a region without a descriptor");
	for (unsigned i = 0; i < b->nregions; i++)
		if (range_overlap((uintptr_t)region->addr, region->len,
				  (uintptr_t)b->regions[i].addr, b->regions[i].len))
			sim_broken(b, "regions overlap");
	if (b->nregions == SIM_REGIONS_MAX)
		ret = sim_refuse(ENOMEM, "too many regions");
	else
		b->regions[b->nregions++] = *region;
	pthread_mutex_unlock(&b->lock);
	return ret;
}

void
blkio_unmap_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < b->nregions; i++) {
		if (b->regions[i].addr != region->addr)
			continue;
		if (memcmp(&b->regions[i], region, sizeof(*region)) != 0)
			sim_broken(b, "unmapping a region with other arguments");
		b->regions[i] = b->regions[--b->nregions];
		pthread_mutex_unlock(&b->lock);
		return;
	}
	sim_broken(b, "unmapping an unknown region");
}
