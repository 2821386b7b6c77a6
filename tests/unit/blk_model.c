/* SPDX-License-Identifier: MIT */
/*
 * blk_model.c - random requests on a simulated device, held against a model.
 *
 * A seed is one run: a device with limits of its own, one to three loops that
 * one thread steps, clients that each do one request after the other, all on
 * the same few blocks. Nothing in it depends on time, so a seed repeats:
 *
 *	BLK_MODEL_SEED=0x... build/tests/unit/blk_model		one seed, told
 *	BLK_MODEL_SEEDS=N build/tests/unit/blk_model		so many of each kind
 *
 * The model knows, for each byte, which requests may have written what is
 * there: a set of at most 64, as bits. Bit 0 is what was there at the start.
 * What a request writes at a byte tells which request it was.
 *
 * 1. may: what a read may see. A request that begins adds its bit to its range.
 *    One that succeeds takes away all bits but its own and those of requests
 *    that ran beside it. One that fails leaves old or new. A discard leaves
 *    old or zero. A read beside which nothing changed settles what is there.
 * 2. stable: what may be there after the power went. A request that begins adds
 *    its bit. A flush that succeeds takes away what was not in `may` when it
 *    began and has not begun since; a write with FUA does for its range what 1
 *    says of one that succeeds.
 *
 * Even seeds end in good order, odd ones with a power cut at some moment.
 *
 * Source: the block layer's contract; io.h, flush.h, track.h.
 *
 * Covers: R-97 R-98 R-99 R-101 R-104 R-106 R-107 R-109 R-110 R-111 BL-3 BL-4 BL-5 BL-6 BL-7 BL-8
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "base/range.h"
#include "blk/io.h"
#include "blk/status.h"
#include "blk/zero.h"
#include "blkio.h"
#include "tests/lib/simdev.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define KIB 1024u
#define MIB (1024u * KIB)

#define LOOPS_MAX 3
#define CLIENTS_MAX 8
#define OPS_MAX 96
#define CHANGES_MAX 64
#define WINDOW_MAX (256 * KIB)
#define BUFFER_BYTES (1 * MIB)
#define SEGMENTS_MAX 24
#define STEPS_MAX 200000

enum kind { READ, STATUS, WRITE, ZEROES, DISCARD, FLUSH, DRAIN };

static const char *const kind_names[] = {
	"read", "status", "write", "zeroes", "discard", "flush", "drain",
};

struct op {
	enum kind kind;
	uint64_t off, len; /* of the device */
	size_t lo, hi;	   /* of the window */
	unsigned flags;
	unsigned client;
	unsigned change;     /* its bit, if it may change something; else 0 */
	bool as_flush;	     /* if it succeeds it covers what a flush covers */
	uint64_t beside;     /* changes in flight together with it; of others: begun since */
	bool alone;	     /* READ: no change was in flight with it */
	bool after_failure;  /* a flush had failed before it began */
	uint64_t *before;    /* READ, STATUS, FLUSH: `may` when it began */
	unsigned begun, ended; /* steps */
	bool running;
	int ret;
};

struct client {
	unsigned number;
	struct queue *q;
	struct unit_loop *u;
	uint8_t *own, *foreign; /* BUFFER_BYTES each */
	bool busy;
	struct iovec iov[SEGMENTS_MAX];
};

/* --- The run ---------------------------------------------------------------- */

static struct unit_loop loops[LOOPS_MAX];
static struct buf_region regions[LOOPS_MAX];
static struct client clients[CLIENTS_MAX];
static uint8_t *foreign_memory;

static uint64_t seed, rng;
static bool told; /* every step */
static struct sim_config sc;
static struct dev_config dc;
static struct dev *dev;
static struct queue *queues[LOOPS_MAX];
static unsigned nloops, nclients, nops, live;
static uint64_t hot; /* block that many requests touch */
static unsigned fua_percent, wide_percent, zeroes_percent;
static bool cut;     /* the power is off */
static unsigned drained;
static bool flush_failed;
static unsigned steps;

/* --- The model -------------------------------------------------------------- */

static uint64_t may[WINDOW_MAX], stable[WINDOW_MAX];
static uint8_t key[WINDOW_MAX];
static struct op ops[OPS_MAX];
static unsigned begun, done;
static struct op *changes[CHANGES_MAX];
static unsigned nchanges;
static uint64_t zeroing; /* changes whose data is zero */
static uint64_t inflight; /* changes */

static struct {
	uint64_t seeds, ops, cuts, lost, requests, waited, heads, tails, fragments, bounced;
	uint64_t skipped, joined, overtaken, torn, failed, zero_extents;
} total;

static unsigned
below(unsigned n)
{
	return sim_below(&rng, n);
}

static bool
chance(unsigned percent)
{
	return below(100) < percent;
}

/* One of these numbers. */
#define PICK(...) \
	({ \
		const int pick_[] = { __VA_ARGS__ }; \
		pick_[below(ARRAY_SIZE(pick_))]; \
	})

static uint8_t
value_of(unsigned change, size_t at)
{
	return zeroing & 1ull << change ? 0 : (uint8_t)(1 + (change + key[at]) % 255);
}

/* The changes, of all that there are, that leave VALUE at AT. */
static uint64_t
changes_of(uint8_t value, size_t at)
{
	unsigned change = (unsigned)(value + 509 - key[at]) % 255;

	if (value == 0)
		return zeroing;
	return change < CHANGES_MAX ? 1ull << change & ~zeroing : 0;
}

/* --- What went wrong -------------------------------------------------------- */

static void
print_op(const struct op *op)
{
	fprintf(stderr, "  %5u-", op->begun);
	if (op->running)
		fprintf(stderr, "      ");
	else
		fprintf(stderr, "%-5u ", op->ended);
	fprintf(stderr, "client %u loop %u %s", op->client, op->client % nloops,
		kind_names[op->kind]);
	if (op->kind < FLUSH)
		fprintf(stderr, " %llu+%llu", (unsigned long long)op->off,
			(unsigned long long)op->len);
	fprintf(stderr, "%s%s%s", op->flags & BLK_FUA ? " fua" : "",
		op->flags & BLK_MAY_UNMAP ? " may-unmap" : "",
		op->flags & BLK_NO_FALLBACK ? " no-fallback" : "");
	if (op->change)
		fprintf(stderr, " [%u%s]", op->change,
			zeroing & 1ull << op->change ? ", zero" : "");
	if (!op->running)
		fprintf(stderr, " = %d", op->ret);
	fputc('\n', stderr);
}

static void
print_device(void)
{
	fprintf(stderr,
		"simulated device: %llu bytes from %llu of %llu, block %u, alignment %d, "
		"max-transfer %d, max-segments %d, buf-alignment %d\n"
		"  discards %d of %d at most %llu (%d), zeroes %d of %d at most %llu, "
		"flush-needed %d, fua %d, regions %d, tail from %llu\n"
		"  cache mode %d, discard %d, detect-zeroes %d, %u loops, %u clients\n",
		(unsigned long long)sc.window_len, (unsigned long long)sc.window_off,
		(unsigned long long)sc.capacity, sc.block, sc.request_alignment, sc.max_transfer,
		sc.max_segments, sc.buf_alignment, sc.discards, sc.discard_alignment,
		(unsigned long long)sc.max_discard, sc.discarded, sc.zeroes, sc.zeroes_alignment,
		(unsigned long long)sc.max_write_zeroes, sc.flush_needed, sc.fua_native,
		sc.needs_regions, sc.tail ? (unsigned long long)sc.tail_start : 0, dc.cache,
		dc.discard, dc.detect_zeroes, nloops, nclients);
	for (unsigned i = 0; i < SIM_FAULTS_MAX; i++)
		if (sc.faults[i].ops)
			fprintf(stderr,
				"  fault: requests 0x%x, %llu-%llu, skip %u, times %u, %d\n",
				sc.faults[i].ops, (unsigned long long)sc.faults[i].off,
				(unsigned long long)sc.faults[i].end, sc.faults[i].skip,
				sc.faults[i].times, sc.faults[i].ret);
}

static void
print_replay(void)
{
	fprintf(stderr, "replay: BLK_MODEL_SEED=0x%llx %s\n", (unsigned long long)seed,
		program_invocation_name);
}

/* Also for what aborts below: an invariant, the device. */
static void
on_abort(int sig)
{
	signal(SIGABRT, SIG_DFL);
	print_replay();
	raise(SIGABRT);
}

/* Ends the run; with what happened at byte AT, or everything if it is negative. */
static _Noreturn void printf_fn(2, 3)
wrong(ssize_t at, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "blk_model: step %u: ", steps);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	print_device();
	for (unsigned i = 0; i < begun; i++)
		if (at < 0 || ops[i].kind >= FLUSH ||
		    ((size_t)at >= ops[i].lo && (size_t)at < ops[i].hi))
			print_op(&ops[i]);
	print_replay();
	fflush(NULL);
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void
print_changes(uint64_t set)
{
	for (unsigned i = 0; i < CHANGES_MAX; i++)
		if (set & 1ull << i)
			fprintf(stderr, " %u", i);
}

static _Noreturn void
wrong_byte(size_t at, uint8_t value, uint64_t allowed, const char *what)
{
	fprintf(stderr, "byte %llu is 0x%02x, from [", (unsigned long long)(sc.window_off + at),
		value);
	print_changes(changes_of(value, at));
	fprintf(stderr, " ], but may be from [");
	print_changes(allowed);
	fprintf(stderr, " ]\n");
	wrong((ssize_t)at, "%s", what);
}

/* --- What requests mean ----------------------------------------------------- */

/* Whether the device may zero what is discarded. */
static bool
discards_count(void)
{
	return dc.discard && sc.discards != SIM_DISCARDS_NONE &&
	       sc.discarded != SIM_DISCARDED_KEPT;
}

static bool
is_durable(const struct op *op)
{
	if (dc.cache == DEV_CACHE_UNSAFE)
		return false;
	return op->flags & BLK_FUA || (dc.cache == DEV_CACHE_WRITETHROUGH && op->len > 0 &&
				       (op->kind == WRITE || op->kind == ZEROES));
}

static bool
is_flush(const struct op *op)
{
	if (op->kind == FLUSH)
		return true;
	return op->flags & BLK_FUA && (op->kind == DISCARD || op->len == 0);
}

static void
clip(struct op *op)
{
	uint64_t start = op->off, end = op->off + op->len;
	uint64_t align = (uint64_t)sc.request_alignment;

	/* Of a block that is discarded in part nothing changes. */
	if (op->kind == DISCARD && (!sc.tail || start < sc.tail_start))
		start = align_up(start, align);
	if (op->kind == DISCARD && (!sc.tail || end < sc.tail_start))
		end = align_down(end, align);
	start = MAX(start, sc.window_off);
	end = MIN(end, sc.window_off + sc.window_len);
	op->lo = op->hi = 0;
	if (start < end) {
		op->lo = (size_t)(start - sc.window_off);
		op->hi = (size_t)(end - sc.window_off);
	}
}

static void
model_begin(struct op *op, bool data_is_zero)
{
	clip(op);
	op->begun = steps;
	op->running = true;
	op->after_failure = flush_failed;
	op->as_flush = is_flush(op) && dc.cache != DEV_CACHE_UNSAFE;
	op->alone = true;
	if (op->kind <= STATUS || op->as_flush) {
		size_t lo = op->as_flush ? 0 : op->lo;
		size_t hi = op->as_flush ? (size_t)sc.window_len : op->hi;

		op->before = malloc((hi - lo) * sizeof(may[0]) + 1);
		ck_assert_ptr_nonnull(op->before);
		memcpy(op->before, may + lo, (hi - lo) * sizeof(may[0]));
		for (uint64_t left = inflight; left; left &= left - 1) {
			const struct op *other = changes[__builtin_ctzll(left)];

			if (other->lo < op->hi && op->lo < other->hi)
				op->alone = false;
		}
	}
	if (op->kind <= STATUS || op->kind >= FLUSH || (op->kind == DISCARD && !discards_count()))
		return;
	op->change = nchanges++;
	changes[op->change] = op;
	if (op->kind != WRITE || data_is_zero)
		zeroing |= 1ull << op->change;
	for (unsigned i = 0; i < begun; i++) {
		if (!ops[i].running || &ops[i] == op)
			continue;
		ops[i].beside |= 1ull << op->change;
		if (op->lo < ops[i].hi && ops[i].lo < op->hi)
			ops[i].alone = false;
	}
	op->beside |= inflight;
	inflight |= 1ull << op->change;
	for (size_t i = op->lo; i < op->hi; i++)
		may[i] |= 1ull << op->change;
	for (size_t i = op->lo; i < op->hi; i++)
		stable[i] |= 1ull << op->change;
}

static bool
fault_ret(int ret)
{
	for (unsigned i = 0; i < SIM_FAULTS_MAX; i++)
		if (sc.faults[i].ops && sc.faults[i].ret == ret)
			return true;
	return false;
}

static void
check_result(const struct op *op)
{
	bool wants_durability = is_durable(op) || op->as_flush;

	if (op->ret == 0) {
		if (op->after_failure && wants_durability)
			wrong(-1, "durable, though a flush had failed before it began");
		return;
	}
	if (op->ret == -ENOTSUP && op->kind == ZEROES && op->flags & BLK_NO_FALLBACK &&
	    sc.zeroes != SIM_ZEROES_DONE)
		return;
	if (fault_ret(op->ret) || (op->ret == -EIO && flush_failed))
		return;
	/* A sync that failed elsewhere is every sync's failure. */
	if (op->ret == -EIO && wants_durability && sim_stats()->failed > 0)
		return;
	wrong(-1, "%s of client %u: %d, and nothing is wrong with the device",
	      kind_names[op->kind], op->client, op->ret);
}

/* That VALUE was at byte I at some moment since OP began. */
static inline void
check_byte(const struct op *op, size_t i, uint8_t value, const char *what)
{
	uint64_t from = changes_of(value, i), allowed = op->before[i - op->lo];

	if (likely(from & allowed)) {
		if (op->alone)
			may[i] &= from;
		return;
	}
	/* One that began since, and is about this byte. */
	for (uint64_t left = op->beside; left; left &= left - 1) {
		const struct op *other = changes[__builtin_ctzll(left)];

		if (i >= other->lo && i < other->hi)
			allowed |= 1ull << other->change;
	}
	if (!(from & allowed))
		wrong_byte(i, value, allowed, what);
}

static void
check_data(const struct op *op, const uint8_t *data)
{
	const uint8_t *at_lo = data + (sc.window_off + op->lo - op->off);

	for (size_t i = op->lo; i < op->hi; i++)
		check_byte(op, i, at_lo[i - op->lo], "a read of what cannot be there");
}

/* Whether a request to the device may begin or end at OFF. */
static bool
is_boundary(uint64_t off)
{
	return (sc.tail && off >= sc.tail_start) || off % (uint64_t)sc.request_alignment == 0;
}

/* EXTENT was told of what begins AT bytes into the range of OP. */
static void
check_extent(const struct op *op, uint64_t at, const struct blk_extent *extent)
{
	uint64_t start = op->off + at, end = start + extent->len;

	if (extent->len == 0 || end > op->off + op->len)
		wrong(-1, "an extent of %llu bytes at %llu", (unsigned long long)extent->len,
		      (unsigned long long)start);
	if (end != op->off + op->len && !is_boundary(end))
		wrong(-1, "an extent that ends at %llu", (unsigned long long)end);
	if (!!(extent->flags & BLK_EXTENT_END) != (end == sc.capacity))
		wrong(-1, "an extent that ends at %llu has flags 0x%x", (unsigned long long)end,
		      extent->flags);
	if (extent->flags & BLK_EXTENT_HOLE && !(extent->flags & BLK_EXTENT_ZERO))
		wrong(-1, "a hole that is not zero");
	total.zero_extents += extent->flags & BLK_EXTENT_ZERO;
	for (uint64_t off = start; extent->flags & BLK_EXTENT_ZERO && off < end; off++)
		if (off >= sc.window_off && off < sc.window_off + sc.window_len)
			check_byte(op, (size_t)(off - sc.window_off), 0,
				   "zeroes where none can be");
}

static void
model_end(struct op *op, int ret)
{
	uint64_t own = 1ull << op->change;

	op->ret = ret;
	op->running = false;
	op->ended = steps;
	done++;
	if (told)
		print_op(op);
	if (op->change)
		inflight &= ~own;
	if (cut)
		return; /* whatever it says, nobody has heard it */
	check_result(op);
	if (op->kind == FLUSH && ret < 0)
		flush_failed = true;
	if (ret == 0 && op->change && op->kind != DISCARD) {
		for (size_t i = op->lo; i < op->hi; i++)
			may[i] &= own | op->beside;
		for (size_t i = op->lo; is_durable(op) && i < op->hi; i++)
			stable[i] &= own | op->beside;
	}
	if (ret == -ENOTSUP && op->change) {
		for (size_t i = op->lo; i < op->hi; i++) {
			may[i] &= ~own;
			stable[i] &= ~own;
		}
	}
	if (ret == 0 && op->as_flush)
		for (size_t i = 0; i < sc.window_len; i++)
			stable[i] &= op->before[i] | op->beside |
				     (op->kind == DISCARD && op->change ? own : 0);
}

/* All of what is there, as read by ourselves, is in SETS. */
static void
check_window(const uint8_t *data, const uint64_t *sets, const char *what)
{
	for (size_t i = 0; i < sc.window_len; i++)
		if (!(changes_of(data[i], i) & sets[i]))
			wrong_byte(i, data[i], sets[i], what);
}

/* --- Clients ---------------------------------------------------------------- */

static void
choose_range(struct op *op)
{
	uint64_t align = (uint64_t)sc.request_alignment, size = sc.window_len;
	uint64_t len_max, off;

	switch (below(6)) {
	case 0:
		len_max = size;
		break;
	case 1:
	case 2:
		len_max = 4 * MAX(align, 16u);
		break;
	case 3:
		len_max = MIN(align, 32u);
		break;
	default:
		len_max = align + align / 2 + 1;
		break;
	}
	op->len = 1 + below((unsigned)MIN(len_max, size));
	off = chance(50) ? hot * align + below((unsigned)(2 * align)) : below((unsigned)size);
	if (off + op->len > size)
		off = size - op->len;
	if (align > 1 && chance(40)) {
		off = align_down(off, align);
		op->len = MIN(align_up(op->len, align), size - off);
	}
	op->off = sc.window_off + off;
	/* From before the window: long ranges. */
	if (sc.window_off && op->kind >= ZEROES && chance(wide_percent)) {
		uint64_t more = below((unsigned)MIN(sc.window_off + 1, 9ull * MIB));

		op->off -= MIN(more, op->off);
		op->len += more;
	} else if (sc.window_off && op->kind < ZEROES && chance(10)) {
		uint64_t more = below(256 * KIB);

		op->off -= more;
		op->len += more;
	}
	op->len = MIN(op->len, sc.capacity - op->off);
}

/* Where the client's data is, in pieces. */
static int
choose_memory(struct client *c, size_t len, uint8_t **datap)
{
	bool foreign = sc.needs_regions ? chance(30) : chance(50);
	size_t shift = chance(60) ? 0 : chance(50) ? 64u * below(64) : below(4096);
	uint8_t *at = (foreign ? c->foreign : c->own) + shift;
	int n = 0;
	unsigned cuts = chance(60) ? 0 : chance(80) ? below(6) : below(SEGMENTS_MAX);

	*datap = at;
	while (len > 0) {
		size_t most = MAX((size_t)1, len / (cuts + 1) * 2), part;

		part = cuts ? 1 + below((unsigned)MIN(most, len)) : len;
		if (cuts && sc.request_alignment > 1 && chance(30))
			part = MIN(align_up(part, (size_t)sc.request_alignment), len);
		cuts -= cuts > 0;
		c->iov[n++] = (struct iovec){ at, part };
		at += part;
		len -= part;
	}
	return n;
}

static void
fill(const struct op *op, uint8_t *data)
{
	size_t skip = op->lo == op->hi ? op->len : sc.window_off + op->lo - op->off;

	memset(data, 0xdd, skip);
	for (size_t i = op->lo; i < op->hi; i++)
		data[skip + i - op->lo] = value_of(op->change, i);
	if (op->lo < op->hi)
		memset(data + skip + (op->hi - op->lo), 0xdd, op->len - skip - (op->hi - op->lo));
}

static void co_fn
do_read(struct client *c, struct op *op)
{
	uint8_t *data;
	int n = choose_memory(c, op->len, &data), ret;

	memset(data, 0xcc, op->len);
	model_begin(op, false);
	ret = blk_co_read(c->q, op->off, c->iov, n);
	if (ret == 0 && !cut)
		check_data(op, data);
	model_end(op, ret);
}

/* All extents of the range; of each it is as if it had been asked for alone. */
static void co_fn
do_status(struct client *c, struct op *op)
{
	struct blk_extent extent;
	int ret = 0;

	model_begin(op, false);
	for (uint64_t at = 0; at < op->len && ret == 0 && !cut; at += extent.len) {
		ret = blk_co_status(c->q, op->off + at, op->len - at, &extent);
		if (ret == 0 && !cut)
			check_extent(op, at, &extent);
		if (chance(5))
			loop_co_sleep(c->u->loop, 1000);
	}
	model_end(op, ret);
}

static void co_fn
do_write(struct client *c, struct op *op)
{
	bool zero = chance(dc.detect_zeroes ? 40 : 5);
	uint8_t *data;
	int n = choose_memory(c, op->len, &data);

	model_begin(op, zero);
	if (zero)
		memset(data, 0, op->len);
	else
		fill(op, data);
	model_end(op, blk_co_write(c->q, op->off, c->iov, n, op->flags));
}

static void co_fn
do_drain(struct client *c, struct op *op)
{
	model_begin(op, false);
	drain_co_begin(&dev->drain, c->u->loop);
	if (sim_open() > 0)
		wrong(-1, "drained, with requests at the device");
	drained++;
	for (unsigned i = below(3); i > 0; i--)
		loop_co_sleep(c->u->loop, 1000);
	drained--;
	drain_end(&dev->drain);
	model_end(op, 0);
}

static void
choose_op(struct op *op)
{
	static const enum kind table[] = { READ,  READ,	  READ,	  READ,	  READ,	   STATUS, WRITE,
					   WRITE, WRITE,  WRITE,  WRITE,  WRITE,   WRITE,  ZEROES,
					   ZEROES, ZEROES, DISCARD, FLUSH, FLUSH,   FLUSH };

	op->kind = chance(zeroes_percent) ? ZEROES : table[below(ARRAY_SIZE(table))];
	/* Bit 0 is taken. */
	if (op->kind != FLUSH && nchanges == CHANGES_MAX)
		op->kind = READ;
	if (chance(1) && begun > 10)
		op->kind = DRAIN;
	if (op->kind >= FLUSH)
		return;
	choose_range(op);
	if (op->kind > STATUS && chance(2))
		op->len = 0;
	if (op->kind > STATUS && chance(fua_percent))
		op->flags |= BLK_FUA;
	if (op->kind == ZEROES)
		op->flags |= (chance(40) ? BLK_MAY_UNMAP : 0) | (chance(30) ? BLK_NO_FALLBACK : 0);
}

static void
client_main(void *arg)
{
	struct client *c = arg;

	co_assert();
	while (begun < nops && !cut) {
		struct op *op = &ops[begun];

		memset(op, 0, sizeof(*op));
		op->client = c->number;
		choose_op(op);
		begun++;
		switch (op->kind) {
		case READ:
			do_read(c, op);
			break;
		case STATUS:
			do_status(c, op);
			break;
		case WRITE:
			do_write(c, op);
			break;
		case ZEROES:
			model_begin(op, true);
			model_end(op, blk_co_write_zeroes(c->q, op->off, op->len, op->flags));
			break;
		case DISCARD:
			model_begin(op, true);
			model_end(op, blk_co_discard(c->q, op->off, op->len, op->flags));
			break;
		case FLUSH:
			model_begin(op, false);
			model_end(op, blk_co_flush(c->q));
			break;
		case DRAIN:
			do_drain(c, op);
			break;
		}
	}
	live--;
}

static void
on_request(enum sim_op op, uint64_t off, uint64_t len, uint32_t flags)
{
	if (drained > 0)
		wrong(-1, "a request at the device while it is drained");
	if (told)
		fprintf(stderr, "  %5u       device: %s %llu+%llu flags %u\n", steps,
			(const char *[]){ "read", "write", "zeroes", "discard", "flush" }[op],
			(unsigned long long)off, (unsigned long long)len, flags);
}

/* --- The device of a seed --------------------------------------------------- */

static uint64_t
blocks(unsigned percent, uint64_t align, unsigned most)
{
	return chance(percent) ? align * (1 + below(most)) : 0;
}

static void
choose_faults(void)
{
	unsigned n = 1 + below(3);

	for (unsigned i = 0; i < n; i++) {
		struct sim_fault *f = &sc.faults[i];

		f->ops = 1u << below(SIM_OPS);
		if (chance(20))
			f->ops = 1u << SIM_WRITE | 1u << SIM_ZEROES;
		f->ret = -EIO;
		if (f->ops & (1u << SIM_WRITE | 1u << SIM_ZEROES) && chance(40))
			f->ret = -ENOSPC;
		if (chance(50)) {
			f->off = sc.window_off + below((unsigned)sc.window_len);
			f->end = f->off + 1 + below((unsigned)sc.window_len);
		}
		f->skip = below(30);
		f->times = below(3);
		f->permille = chance(50) ? 0 : 100;
		f->fua_only = !(f->ops & 1u << SIM_FLUSH) && chance(10);
	}
	if (chance(30))
		/* One sync fails, and then there are others beside it. */
		sc.faults[n] = (struct sim_fault){
			.ops = 1u << SIM_WRITE | 1u << SIM_ZEROES,
			.fua_only = true,
			.skip = below(6),
			.times = 1,
			.ret = -EIO,
		};
}

static void
choose_device(void)
{
	uint64_t align = (uint64_t)PICK(1, 1, 1, 16, 64, 512, 512, 512, 512, 512, 1024, 4096, 4096,
					4096, 4096, 8192);
	uint64_t unit, size;

	/* With the larger one a queue has less pad memory than there are clients. */
	if (chance(2))
		align = (uint64_t)PICK(65536, 131072);
	unit = align == 1 ? 97 : align;
	size = align == 1 ? 200 + below(8000) : align * (2 + below(align > 16384 ? 1 : 14));
	sc = (struct sim_config){
		.seed = sim_random(&rng) | 1,
		.window_len = size,
		.block = (unsigned)(align < 64 ? (uint64_t)PICK(16, 64, 512) : align),
		.request_alignment = (int)align,
		.max_transfer = (int)blocks(60, unit, 6),
		.max_segments = PICK(1, 2, 3, 4, 8, 16, 1024),
		.buf_alignment = PICK(1, 1, 1, 4, 64, 512, 4096),
		.discard_alignment = (int)blocks(50, unit, 4),
		.max_discard = blocks(40, unit, 6),
		.max_write_zeroes = blocks(40, unit, 6),
		.zeroes_alignment = (int)blocks(30, unit, 4),
		.flush_needed = chance(92),
		.fua_native = chance(40),
		.needs_regions = chance(15),
		.needs_region_fds = chance(50),
		.zeroes = (enum sim_zeroes)PICK(SIM_ZEROES_DONE, SIM_ZEROES_DONE,
						SIM_ZEROES_NO_FAST, SIM_ZEROES_NONE),
		.discards = (enum sim_discards)PICK(SIM_DISCARDS_UNITS, SIM_DISCARDS_ANY,
						    SIM_DISCARDS_NONE),
		.discarded = (enum sim_discarded)PICK(SIM_DISCARDED_KEPT, SIM_DISCARDED_ZERO,
						      SIM_DISCARDED_EITHER),
		.not_now_permille = chance(15) ? 50 : 0,
		.spurious = chance(30),
		.status = chance(80),
	};
	if (chance(20)) {
		/* Around a boundary, or with much in front. */
		uint64_t base = (uint64_t)PICK(1, 4, 67) * MIB - align_down(size / 2, align);

		sc.window_off = align_down(base, MAX(align, (uint64_t)512));
		/* Many small pieces over megabytes say nothing new. */
		sc.max_transfer = sc.max_transfer ? (int)(align * 64) : 0;
		if (align < 512) {
			sc.max_transfer = 0;
			sc.max_discard = sc.max_write_zeroes = 0;
		}
		sc.max_discard *= 64;
		sc.max_write_zeroes *= 64;
		if (sc.max_transfer && sc.max_transfer < 65536)
			sc.max_transfer = 65536;
	}
	if (align > 1 && chance(30)) {
		/* The last block is cut short; sometimes the tail is more than that. */
		sc.window_len -= below((unsigned)align);
		sc.tail = true;
		sc.tail_start = sc.window_off + align_down(sc.window_len, align);
		if (chance(30))
			sc.tail_start -= align * below((unsigned)(sc.window_len / align) + 1);
	}
	sc.capacity = sc.window_off + sc.window_len;
	if (sc.max_transfer && chance(30))
		sc.optimal_io_size = (int)align;
	if (chance(30))
		choose_faults();
	dc = (struct dev_config){
		.driver = "sim",
		.cache = (enum dev_cache)PICK(DEV_CACHE_WRITEBACK, DEV_CACHE_WRITEBACK,
					      DEV_CACHE_WRITEBACK, DEV_CACHE_WRITEBACK,
					      DEV_CACHE_WRITEBACK, DEV_CACHE_WRITEBACK,
					      DEV_CACHE_WRITETHROUGH, DEV_CACHE_UNSAFE),
		.discard = chance(85),
		.detect_zeroes = (enum dev_detect)PICK(DEV_DETECT_OFF, DEV_DETECT_OFF,
						       DEV_DETECT_OFF, DEV_DETECT_OFF,
						       DEV_DETECT_ON, DEV_DETECT_UNMAP),
		.nqueues = chance(80) ? nloops : below(nloops + 1),
	};
	hot = below((unsigned)(size / align));
	fua_percent = (unsigned)PICK(0, 20, 20, 20, 60);
	wide_percent = (unsigned)PICK(0, 30, 95);
	zeroes_percent = (unsigned)PICK(0, 0, 0, sc.window_off ? 60 : 10);
}

static void
device_open(void)
{
	struct err err;
	int ret = dev_open(&dev, &dc, &err);

	ck_assert_msg(ret == 0, "%s", err.text);
	for (unsigned i = 0; i < nloops; i++) {
		if (sc.needs_regions)
			ck_assert_int_eq(dev_map(dev, &regions[i], &err), 0);
		ck_assert_int_eq(queue_new(&queues[i], dev, i < dc.nqueues ? (int)i : -1,
					   loops[i].loop, &err), 0);
		if (sc.needs_regions)
			queue_set_memory(queues[i], &regions[i]);
		loop_assert();
		queue_attach(queues[i]);
	}
}

static void
detach_main(void *arg)
{
	co_assert();
	queue_co_detach(arg);
}

static void
device_close(void)
{
	for (unsigned i = 0; i < nloops; i++)
		unit_loop_co(&loops[i], detach_main, queues[i]);
	for (unsigned i = 0; i < nloops; i++) {
		struct queue *q = queues[i];

		total.waited += queue_counter(q, QUEUE_WAITED);
		total.heads += queue_counter(q, QUEUE_RMW_HEADS);
		total.tails += queue_counter(q, QUEUE_RMW_TAILS);
		total.fragments += queue_counter(q, QUEUE_FRAGMENTS);
		total.bounced += queue_counter(q, QUEUE_BOUNCE_BYTES) > 0;
		total.skipped += queue_counter(q, QUEUE_FLUSHES_SKIPPED);
		total.joined += queue_counter(q, QUEUE_FLUSHES_JOINED);
		queue_free(q);
		if (sc.needs_regions)
			dev_unmap(dev, &regions[i]);
	}
	dev_close(dev);
}

/* --- A seed ----------------------------------------------------------------- */

static void
one_step(void)
{
	unsigned what = below(100);

	if (++steps > STEPS_MAX)
		wrong(-1, "it does not end");
	if (what < 45) {
		loop_turn(loops[below(nloops)].loop, false);
	} else if (what < 97) {
		if (!sim_step())
			for (unsigned i = 0; i < nloops; i++)
				loop_turn(loops[i].loop, false);
	} else {
		for (unsigned i = 0; i < nloops; i++)
			loops[i].now += UNIT_SECOND / 500;
	}
}

struct plain_read {
	struct queue *q;
	uint64_t off;
	size_t len;
	uint8_t *data;
	bool flush, done;
	int ret;
};

static void
plain_read_main(void *arg)
{
	struct plain_read *r = arg;
	struct iovec iov = { r->data, r->len };

	co_assert();
	r->ret = r->flush ? blk_co_flush(r->q) : blk_co_read(r->q, r->off, &iov, 1);
	r->done = true;
}

/* Reads the window, or flushes (NULL), with nothing else going on. */
static int
plainly(uint8_t **datap)
{
	/* Where it lies matters: the same in every build. */
	uint8_t *data = foreign_memory;
	struct plain_read r = {
		.q = queues[0],
		.off = sc.window_off,
		.len = (size_t)sc.window_len,
		.data = data,
		.flush = !datap,
	};

	loop_assert();
	unit_loop_spawn(&loops[0], NULL, plain_read_main, &r);
	while (!r.done)
		one_step();
	if (datap)
		*datap = data;
	return r.ret;
}

static void
model_reset(void)
{
	size_t len = (size_t)sc.window_len;
	static uint8_t data[WINDOW_MAX];
	bool zero = chance(30);

	begun = done = 0;
	nchanges = 1;
	zeroing = zero;
	inflight = 0;
	cut = flush_failed = false;
	drained = 0;
	for (size_t i = 0; i < len; i++)
		may[i] = stable[i] = 1;
	for (size_t i = 0; i < len; i++)
		key[i] = (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15) >> 32) % 255);
	for (size_t i = 0; i < len; i++)
		data[i] = value_of(0, i);
	sim_poke(sc.window_off, data, len);
}

/* The power goes, everything ends, the device comes back: what is there? */
static void
power_cycle(void)
{
	uint8_t *data;

	cut = true;
	sim_power_cut();
	while (live > 0)
		one_step();
	total.lost += sim_stats()->lost;
	device_close();
	sim_power_on();
	device_open();
	if (plainly(&data) != 0)
		wrong(-1, "the device cannot be read after the power was cut");
	check_window(data, stable, "after the power was cut");
	total.cuts++;
}

static uint64_t
run_seed(uint64_t s)
{
	uint8_t *data;
	unsigned cut_at;
	bool power = s & 1;

	seed = s;
	rng = (s * UINT64_C(0x9e3779b97f4a7c15)) | 1;
	(void)sim_random(&rng);
	steps = 0;
	nloops = 1 + below(LOOPS_MAX);
	nclients = 4 + below(CLIENTS_MAX - 3);
	nops = 50 + below(OPS_MAX - 50);
	choose_device();
	sim_on_request = on_request;
	sim_reset(&sc);
	device_open();
	model_reset();
	if (told)
		print_device();

	live = nclients;
	for (unsigned i = 0; i < nclients; i++) {
		clients[i].number = i;
		clients[i].q = queues[i % nloops];
		clients[i].u = &loops[i % nloops];
		clients[i].own = (uint8_t *)regions[i % nloops].addr +
				 (size_t)i / nloops * BUFFER_BYTES;
		clients[i].foreign = foreign_memory + (size_t)i * BUFFER_BYTES;
		loop_assert();
		unit_loop_spawn(clients[i].u, NULL, client_main, &clients[i]);
	}
	cut_at = power ? below(nops) : nops;
	while (live > 0 && (!power || done < cut_at))
		one_step();
	if (power) {
		for (unsigned i = below(40); i > 0; i--)
			one_step();
		power_cycle();
	} else {
		if (plainly(&data) == 0)
			check_window(data, may, "at the end");
		else if (!fault_ret(-EIO))
			wrong(-1, "the device cannot be read");
		data = foreign_memory;
		sim_peek(sc.window_off, data, (size_t)sc.window_len);
		check_window(data, may, "on the device at the end");
		if (chance(25) && plainly(NULL) == 0 && dc.cache != DEV_CACHE_UNSAFE) {
			for (size_t i = 0; i < sc.window_len; i++)
				stable[i] &= may[i];
			power_cycle();
		}
	}
	device_close();
	for (unsigned i = 0; i < begun; i++)
		free(ops[i].before);
	total.seeds++;
	total.ops += begun;
	total.overtaken += sim_stats()->overtaken;
	total.torn += sim_stats()->torn;
	total.failed += sim_stats()->failed;
	for (unsigned i = 0; i < SIM_OPS; i++)
		total.requests += sim_stats()->requests[i];
	return sim_stats()->hash * 31 + steps;
}

/* --- Many ------------------------------------------------------------------- */

static void
setup(void)
{
	size_t own = (size_t)CLIENTS_MAX * BUFFER_BYTES;


	signal(SIGABRT, on_abort);
	for (unsigned i = 0; i < LOOPS_MAX; i++) {
		int fd = memfd_create("blk_model", MFD_CLOEXEC);

		unit_loop_open(&loops[i]);
		ck_assert(fd >= 0 && ftruncate(fd, (off_t)own) == 0);
		regions[i] = (struct buf_region){ .len_bytes = own, .fd = fd };
		regions[i].addr = mmap(NULL, own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ck_assert(regions[i].addr != MAP_FAILED);
	}
	foreign_memory = mmap(NULL, own, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);
	ck_assert(foreign_memory != MAP_FAILED);
}

static void
teardown(void)
{
	for (unsigned i = 0; i < LOOPS_MAX; i++) {
		unit_loop_close(&loops[i]);
		munmap(regions[i].addr, regions[i].len_bytes);
		close(regions[i].fd);
	}
	munmap(foreign_memory, (size_t)CLIENTS_MAX * BUFFER_BYTES);
	signal(SIGABRT, SIG_DFL);
}

static unsigned
seed_count(unsigned plain)
{
	const char *text = getenv("BLK_MODEL_SEEDS");

	if (text)
		return (unsigned)strtoul(text, NULL, 0);
	return UNIT_SANITIZED ? plain / 20 : plain;
}

static void
run_seeds(unsigned n, bool power)
{
	const char *one = getenv("BLK_MODEL_SEED");
	uint64_t state = unit_seed();

	memset(&total, 0, sizeof(total));
	setup();
	if (one) {
		uint64_t s = strtoull(one, NULL, 0);

		told = true;
		if (power == (s & 1))
			run_seed(s);
		n = 0;
	}
	for (unsigned i = 0; i < n; i++)
		run_seed((unit_random(&state) & ~1ull) | power);
	teardown();
	printf("%llu seeds, %llu ops, %llu power cuts; at the device %llu requests, %llu out of "
	       "order, %llu torn, %llu failed, %llu blocks lost\n"
	       "waited %llu, heads %llu, tails %llu, fragments %llu, queues that bounced %llu, "
	       "flushes skipped %llu, joined %llu, zero extents %llu\n",
	       (unsigned long long)total.seeds, (unsigned long long)total.ops,
	       (unsigned long long)total.cuts, (unsigned long long)total.requests,
	       (unsigned long long)total.overtaken, (unsigned long long)total.torn,
	       (unsigned long long)total.failed, (unsigned long long)total.lost,
	       (unsigned long long)total.waited, (unsigned long long)total.heads,
	       (unsigned long long)total.tails, (unsigned long long)total.fragments,
	       (unsigned long long)total.bounced, (unsigned long long)total.skipped,
	       (unsigned long long)total.joined, (unsigned long long)total.zero_extents);
	fflush(stdout);
	/* Otherwise it was about nothing. */
	if (n >= 100) {
		ck_assert(total.waited > n && total.heads > n && total.tails > n);
		ck_assert(total.fragments > n && total.bounced > n / 10);
		ck_assert(total.zero_extents > n / 4);
		ck_assert(total.skipped > n / 4 && total.joined > n / 4);
		ck_assert(total.overtaken > n && total.torn > n && total.failed > n / 10);
		ck_assert(!power || (total.cuts == n && total.lost > n));
	}
}

START_TEST(any_order)
{
	run_seeds(seed_count(5000), false);
}
END_TEST

START_TEST(power_loss)
{
	run_seeds(seed_count(1000), true);
}
END_TEST

START_TEST(a_seed_repeats)
{
	uint64_t state = unit_seed(), first[40], s[40];

	setup();
	for (unsigned i = 0; i < ARRAY_SIZE(s); i++)
		first[i] = run_seed(s[i] = unit_random(&state));
	for (unsigned i = ARRAY_SIZE(s); i-- > 0;)
		ck_assert_uint_eq(run_seed(s[i]), first[i]);
	teardown();
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), a_seed_repeats, any_order, power_loss)
