/* SPDX-License-Identifier: MIT */
/* blk_buf.c - the payload pool: sizes, order of waiting, giving back. */
#include "blk/buf.h"

#include <signal.h>
#include <sys/stat.h>

#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define KIB (1024u)
#define MIB (1024u * 1024u)
/* The smallest pool: 16 slabs for all and 2 that are kept for small requests. */
#define POOL_BYTES (72 * MIB)

static struct unit_loop u;
static struct buf_pool *pool;
static struct unit_trace trace;

static void
start_with(size_t share)
{
	struct err err;

	unit_loop_open(&u);
	ck_assert_int_eq(buf_pool_new(&pool, share, &err), 0);
	buf_pool_attach(pool, u.loop);
	trace.len = 0;
	trace.text[0] = '\0';
}

static void
start(void)
{
	start_with(POOL_BYTES);
}

static void
finish(void)
{
	loop_assert();
	ck_assert_uint_eq(buf_pool_used(pool), 0);
	buf_pool_detach(pool);
	unit_loop_close(&u);
	buf_pool_free(pool);
}

/* Memory behind the pool, in bytes. */
static size_t
resident(void)
{
	struct buf_region region;
	struct stat st;

	buf_pool_region(pool, &region);
	ck_assert_int_eq(fstat(region.fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void
fill(const struct buf *buf, uint8_t mark)
{
	for (int i = 0; i < buf->iovcnt; i++)
		memset(buf->iov[i].iov_base, mark, buf->iov[i].iov_len);
}

/* --- Sizes ------------------------------------------------------------------ */

START_TEST(footprints)
{
	static const struct {
		size_t len, takes;
	} table[] = {
		{ 1, 4 * KIB }, { 4095, 4 * KIB }, { 4096, 4 * KIB }, { 4097, 8 * KIB },
		{ 8 * KIB, 8 * KIB }, { 8 * KIB + 1, 16 * KIB }, { 64 * KIB, 64 * KIB },
		{ 512 * KIB, 512 * KIB }, { 512 * KIB + 1, MIB }, { MIB, MIB },
		{ MIB + 1, 4 * MIB }, { 4 * MIB, 4 * MIB }, { 4 * MIB + 1, 8 * MIB },
		{ 63 * MIB, 64 * MIB }, { 64 * MIB, 64 * MIB },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		ck_assert_uint_eq(buf_footprint(table[i].len), table[i].takes);
}
END_TEST

/* Gets LEN bytes and checks the shape. */
static void co_fn
get_checked(struct buf *buf, size_t len)
{
	size_t sum = 0;

	buf_co_get(pool, buf, len);
	ck_assert_uint_eq(buf->len_bytes, len);
	for (int i = 0; i < buf->iovcnt; i++) {
		ck_assert_uint_eq((uintptr_t)buf->iov[i].iov_base % 4096, 0);
		ck_assert(buf->iov[i].iov_len > 0);
		sum += buf->iov[i].iov_len;
	}
	ck_assert_uint_eq(sum, len);
	ck_assert_int_eq(buf->iovcnt, len <= MIB ? 1 : (int)((len + 4 * MIB - 1) / (4 * MIB)));
}

static void
sizes_main(void *arg)
{
	static const size_t lens[] = {
		1, 4095, 4096, 4097, 65536, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB,
		4 * MIB + 1, 32 * MIB, 64 * MIB - 1, 64 * MIB,
	};

	co_assert();
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct buf buf;

		get_checked(&buf, lens[i]);
		ck_assert_uint_eq(buf_pool_used(pool),
				  MAX(buf_footprint(lens[i]), (size_t)4 * MIB));
		fill(&buf, 0x5a);
		buf_put(pool, &buf);
		ck_assert_int_eq(buf.iovcnt, 0);
		buf_put(pool, &buf); /* holds nothing */
		ck_assert_uint_eq(buf_pool_used(pool), 0);
	}
}

START_TEST(every_size)
{
	start();
	unit_loop_co(&u, sizes_main, NULL);
	ck_assert_uint_eq(buf_pool_waits(pool), 0);
	finish();
}
END_TEST

#define CHUNKS 1024 /* of 4 KiB in a slab */

static void
chunks_main(void *arg)
{
	static struct buf bufs[CHUNKS + 1], whole, other;

	co_assert();
	for (int i = 0; i < CHUNKS; i++) {
		get_checked(&bufs[i], 4096);
		fill(&bufs[i], (uint8_t)i);
		ck_assert_uint_eq(buf_pool_used(pool), 4 * MIB);
	}
	get_checked(&bufs[CHUNKS], 1); /* a second slab of that class */
	ck_assert_uint_eq(buf_pool_used(pool), 8 * MIB);
	get_checked(&other, 8192); /* another class */
	ck_assert_uint_eq(buf_pool_used(pool), 12 * MIB);
	get_checked(&whole, 5 * MIB);
	ck_assert_uint_eq(buf_pool_used(pool), 20 * MIB);
	fill(&whole, 0xff);
	fill(&other, 0xff);
	for (int i = 0; i < CHUNKS; i++)
		for (int k = 0; k < 4096; k += 512)
			ck_assert_uint_eq(((uint8_t *)bufs[i].iov[0].iov_base)[k], (uint8_t)i);

	/* Back in another order; a chunk that is free is used before a new slab. */
	for (int i = 1; i < CHUNKS; i += 2)
		buf_put(pool, &bufs[i]);
	ck_assert_uint_eq(buf_pool_used(pool), 20 * MIB);
	for (int i = 1; i < CHUNKS; i += 2)
		get_checked(&bufs[i], 4096);
	ck_assert_uint_eq(buf_pool_used(pool), 20 * MIB);
	for (int i = CHUNKS; i >= 0; i--)
		buf_put(pool, &bufs[i]);
	ck_assert_uint_eq(buf_pool_used(pool), 12 * MIB);
	buf_put(pool, &whole);
	buf_put(pool, &other);
}

START_TEST(chunks_of_a_slab)
{
	start();
	unit_loop_co(&u, chunks_main, NULL);
	finish();
}
END_TEST

START_TEST(share_is_rounded)
{
	struct buf_region region;

	start_with(1); /* becomes the minimum */
	buf_pool_region(pool, &region);
	ck_assert_uint_eq(region.len_bytes, 4 * MIB);
	ck_assert(region.fd >= 0 && region.fd_offset == 0);
	unit_loop_co(&u, sizes_main, NULL);
	finish();
}
END_TEST

/* --- Waiting ---------------------------------------------------------------- */

struct holder {
	const char *name;
	size_t len;
	struct buf buf;
	bool have;
};

static void
holder_main(void *arg)
{
	struct holder *h = arg;

	co_assert();
	buf_co_get(pool, &h->buf, h->len);
	h->have = true;
	unit_note(&trace, "%s ", h->name);
}

static void
give(struct holder *h)
{
	loop_assert();
	ck_assert(h->have);
	h->have = false;
	buf_put(pool, &h->buf);
	unit_loop_turns(&u, 2);
}

static void
want(struct holder *h)
{
	unit_loop_spawn(&u, NULL, holder_main, h);
	unit_loop_turns(&u, 1);
}

START_TEST(waiting_is_fifo)
{
	struct holder all = { .name = "all", .len = 64 * MIB };
	struct holder a = { .name = "a", .len = 8 * MIB }, b = { .name = "b", .len = 33 * KIB };
	struct holder c = { .name = "c", .len = 60 * MIB }, d = { .name = "d", .len = 64 * KIB };

	start();
	want(&all);
	want(&a);
	want(&b);
	want(&c);
	want(&d);
	ck_assert_str_eq(trace.text, "all ");
	ck_assert_uint_eq(buf_pool_waits(pool), 4);
	give(&all);
	ck_assert_str_eq(trace.text, "all a b "); /* c does not fit, d stands behind it */
	give(&a);
	ck_assert_str_eq(trace.text, "all a b c d "); /* d shares the slab of b */
	give(&b);
	give(&c);
	give(&d);
	finish();
}
END_TEST

/* A chunk of 32 KiB is small: 128 of them are a slab, and two slabs are theirs. */
#define SMALLS 256

static struct holder smalls[SMALLS + 3];

static void
smalls_reset(void)
{
	static char names[SMALLS + 3][8];

	for (int i = 0; i < SMALLS + 3; i++) {
		snprintf(names[i], sizeof(names[i]), "s%d", i);
		smalls[i] = (struct holder){ .name = names[i], .len = 32 * KIB };
	}
}

START_TEST(small_ones_have_a_reserve)
{
	struct holder all = { .name = "all", .len = 64 * MIB };
	struct holder more = { .name = "more", .len = 33 * KIB };

	start();
	smalls_reset();
	want(&all);
	want(&more); /* waits: the two slabs that are free are not for it */
	ck_assert(!more.have);
	for (int i = 0; i < SMALLS + 3; i++)
		want(&smalls[i]);
	ck_assert(smalls[SMALLS - 1].have);
	ck_assert(!smalls[SMALLS].have && !smalls[SMALLS + 1].have && !smalls[SMALLS + 2].have);
	ck_assert_uint_eq(buf_pool_waits(pool), 4);

	/* Among themselves they are served in order, too. */
	give(&smalls[5]);
	ck_assert(smalls[SMALLS].have && !smalls[SMALLS + 1].have);
	give(&smalls[200]);
	ck_assert(smalls[SMALLS + 1].have && !smalls[SMALLS + 2].have);
	give(&all);
	ck_assert(more.have && smalls[SMALLS + 2].have);
	give(&more);
	for (int i = 0; i < SMALLS + 3; i++)
		if (smalls[i].have)
			give(&smalls[i]);
	finish();
}
END_TEST

/* Small ones come and go without a pause: one of them is held at any time. */
START_TEST(a_large_request_is_not_starved)
{
	struct holder first = { .name = "first", .len = 4 * MIB };
	struct holder large = { .name = "LARGE", .len = 64 * MIB };

	start();
	smalls_reset();
	want(&first);
	want(&smalls[0]);
	want(&large);
	ck_assert(!large.have);
	give(&first);
	for (int i = 0; i < SMALLS && !large.have; i++) {
		want(&smalls[i + 1]);
		ck_assert(smalls[i + 1].have); /* nor are they */
		give(&smalls[i]);
	}
	ck_assert(large.have);
	give(&large);
	for (int i = 0; i <= SMALLS; i++)
		if (smalls[i].have)
			give(&smalls[i]);
	finish();
}
END_TEST

#define THIEF_BYTES (64 * KIB)

static void
thief_main(void *arg)
{
	struct buf buf;

	co_assert();
	for (int i = 0; i < 3; i++) {
		buf_co_get(pool, &buf, THIEF_BYTES);
		unit_note(&trace, "thief%d ", i);
		co_pass(loop_sched(u.loop));
		co_pass(loop_sched(u.loop));
		buf_put(pool, &buf);
	}
}

/* Who gives and takes in one go is behind those who wait already. */
START_TEST(nobody_jumps_the_queue)
{
	struct holder large = { .name = "LARGE", .len = 64 * MIB };

	start();
	unit_loop_spawn(&u, NULL, thief_main, NULL);
	unit_loop_spawn(&u, NULL, holder_main, &large);
	unit_loop_turns(&u, 8);
	ck_assert_str_eq(trace.text, "thief0 LARGE ");
	give(&large);
	unit_loop_turns(&u, 8);
	ck_assert_str_eq(trace.text, "thief0 LARGE thief1 thief2 ");
	finish();
}
END_TEST

/* --- Random ----------------------------------------------------------------- */

#define ACTORS 24
#define ACTOR_ROUNDS 150

struct actor {
	uint64_t seed;
	struct buf buf;
};

static struct actor actors[ACTORS];
static unsigned actors_done;

static bool
share_memory(const struct buf *a, const struct buf *b)
{
	for (int i = 0; i < a->iovcnt; i++)
		for (int k = 0; k < b->iovcnt; k++) {
			char *x = a->iov[i].iov_base, *y = b->iov[k].iov_base;

			if (x < y + b->iov[k].iov_len && y < x + a->iov[i].iov_len)
				return true;
		}
	return false;
}

static void
actor_main(void *arg)
{
	struct actor *me = arg;

	co_assert();
	for (int round = 0; round < ACTOR_ROUNDS; round++) {
		uint64_t r = unit_random(&me->seed);
		unsigned shift = (unsigned)(r % 27); /* up to 64 MiB, mostly small */
		size_t len = 1 + (unit_random(&me->seed) & ((1ull << shift) - 1));
		struct buf buf;

		get_checked(&buf, len);
		me->buf = buf;
		for (int i = 0; i < ACTORS; i++)
			if (&actors[i] != me)
				ck_assert(!share_memory(&me->buf, &actors[i].buf));
		for (r = unit_random(&me->seed) % 6; r > 0; r--)
			co_pass(loop_sched(u.loop));
		me->buf.iovcnt = 0;
		buf_put(pool, &buf);
	}
	actors_done++;
}

START_TEST(random_model)
{
	uint64_t seed = unit_seed();

	start_with(96 * MIB);
	for (int i = 0; i < ACTORS; i++) {
		actors[i].seed = unit_random(&seed);
		unit_loop_spawn(&u, NULL, actor_main, &actors[i]);
	}
	while (co_sched_has_ready(loop_sched(u.loop)))
		unit_loop_turns(&u, 1);
	ck_assert_uint_eq(actors_done, ACTORS); /* nobody waits for ever */
	ck_assert_uint_ge(buf_pool_waits(pool), 50); /* or it was no test */
	finish();
}
END_TEST

/* --- Giving back ------------------------------------------------------------ */

static void
touch_all_main(void *arg)
{
	struct buf buf;

	co_assert();
	buf_co_get(pool, &buf, 64 * MIB);
	fill(&buf, 0xaa);
	buf_put(pool, &buf);
}

static void
reads_zero_main(void *arg)
{
	struct buf buf;
	size_t dirty = 0;

	co_assert();
	buf_co_get(pool, &buf, 64 * MIB);
	for (int i = 0; i < buf.iovcnt; i++)
		for (size_t k = 0; k < buf.iov[i].iov_len; k += 4096)
			dirty += ((uint8_t *)buf.iov[i].iov_base)[k] != 0;
	ck_assert_uint_le(dirty, 4 * MIB / 4096); /* of the slab that stays */
	buf_put(pool, &buf);
}

START_TEST(idle_memory_goes_back)
{
	start();
	ck_assert_uint_le(resident(), 4 * MIB);
	unit_loop_co(&u, touch_all_main, NULL);
	ck_assert_uint_eq(resident(), 64 * MIB);
	unit_loop_pass(&u, 4 * UNIT_SECOND);
	ck_assert_uint_eq(resident(), 64 * MIB); /* not yet */
	unit_loop_pass(&u, 60 * UNIT_SECOND);
	ck_assert_uint_eq(resident(), 4 * MIB); /* the first slab stays */
	unit_loop_co(&u, reads_zero_main, NULL);
	unit_loop_co(&u, touch_all_main, NULL); /* and it serves again */
	unit_loop_pass(&u, 60 * UNIT_SECOND);
	ck_assert_uint_eq(resident(), 4 * MIB);
	finish();
}
END_TEST

/* Memory that is held must stay as it is. */
START_TEST(held_memory_stays)
{
	struct holder a = { .name = "a", .len = 20 * MIB }, b = { .name = "b", .len = 40 * MIB };
	size_t wrong = 0;

	start();
	want(&a);
	fill(&a.buf, 0x77);
	want(&b);
	fill(&b.buf, 0x88);
	give(&b);
	unit_loop_pass(&u, 60 * UNIT_SECOND);
	ck_assert_uint_le(resident(), 24 * MIB);
	for (int i = 0; i < a.buf.iovcnt; i++)
		for (size_t k = 0; k < a.buf.iov[i].iov_len; k += 512)
			wrong += ((uint8_t *)a.buf.iov[i].iov_base)[k] != 0x77;
	ck_assert_uint_eq(wrong, 0);
	give(&a);
	finish();
}
END_TEST

/* Light traffic does not keep what a burst has taken long ago. */
START_TEST(idle_memory_goes_back_under_traffic)
{
	struct holder a = { .name = "a", .len = 4 * MIB }, b = { .name = "b", .len = 4 * MIB };

	start();
	unit_loop_co(&u, touch_all_main, NULL);
	for (int i = 0; i < 120; i++) {
		want(&a);
		want(&b);
		give(&b);
		give(&a);
		unit_loop_pass(&u, UNIT_SECOND);
	}
	ck_assert_uint_le(resident(), 12 * MIB);
	finish();
}
END_TEST

/* --- What must not be ------------------------------------------------------- */

static void
get_main(void *arg)
{
	struct buf buf;

	co_assert();
	buf_co_get(pool, &buf, *(size_t *)arg);
}

static void
get_in_child(void *arg)
{
	start();
	unit_loop_co(&u, get_main, arg);
}

static void
free_while_held(void *arg)
{
	get_in_child(arg);
	buf_pool_free(pool);
}

START_TEST(misuse_is_caught)
{
	size_t none = 0, too_much = 64 * MIB + 1, some = 4096;

	ck_assert(unit_died_of(unit_child(get_in_child, &none), SIGABRT));
	ck_assert(unit_died_of(unit_child(get_in_child, &too_much), SIGABRT));
	ck_assert_int_eq(unit_child(get_in_child, &some), 0);
	ck_assert(unit_died_of(unit_child(free_while_held, &some), SIGABRT));
	buf_pool_free(NULL);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), footprints, every_size, chunks_of_a_slab, share_is_rounded,
	     waiting_is_fifo, small_ones_have_a_reserve, a_large_request_is_not_starved,
	     nobody_jumps_the_queue, random_model,
	     idle_memory_goes_back, held_memory_stays, idle_memory_goes_back_under_traffic,
	     misuse_is_caught)
