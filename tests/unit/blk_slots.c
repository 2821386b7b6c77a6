/* SPDX-License-Identifier: MIT */
/*
 * blk_slots.c - equal pieces of memory, and the line in front of them.
 *
 * Covers: BL-12
 */
#include "blk/slots.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/range.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

static struct unit_loop u;
static struct slots slots;

struct taker {
	void *slot;
	unsigned order;
};

static unsigned taken;

static void
take(void *arg)
{
	struct taker *t = arg;

	co_assert();
	t->slot = slots_co_get(&slots);
	t->order = ++taken;
}

START_TEST(aligned_apart_and_ours)
{
	static const size_t aligns[] = { 64, 512, 4096, 65536, 1 << 20 };
	struct err err;

	loop_assert();
	unit_loop_open(&u);
	for (size_t a = 0; a < ARRAY_SIZE(aligns); a++) {
		struct taker t[5] = { 0 };

		ck_assert(slots_init(&slots, u.loop, 5, aligns[a] * 2, aligns[a], &err) == 0);
		for (int i = 0; i < 5; i++) {
			unit_loop_co(&u, take, &t[i]);
			ck_assert(is_aligned((uint64_t)(uintptr_t)t[i].slot, aligns[a]));
			memset(t[i].slot, i + 1, aligns[a] * 2);
		}
		for (int i = 0; i < 5; i++) {
			const char *c = t[i].slot;

			ck_assert(c[0] == i + 1 && c[aligns[a] * 2 - 1] == i + 1);
			slots_put(&slots, t[i].slot);
		}
		slots_fini(&slots);
	}
	unit_loop_close(&u);
}
END_TEST

START_TEST(first_come_first_served)
{
	struct taker t[6] = { 0 };
	struct err err;

	loop_assert();
	taken = 0;
	unit_loop_open(&u);
	ck_assert(slots_init(&slots, u.loop, 2, 100, 64, &err) == 0);
	for (int i = 0; i < 6; i++)
		unit_loop_spawn(&u, NULL, take, &t[i]);
	unit_loop_turns(&u, 3);
	ck_assert(t[0].slot && t[1].slot && !t[2].slot);
	for (int i = 0; i < 6; i++) {
		ck_assert_uint_eq(t[i].order, (unsigned)i + 1);
		slots_put(&slots, t[i].slot);
		unit_loop_turns(&u, 3);
	}
	slots_fini(&slots);
	slots_fini(&slots); /* again, and of nothing */
	unit_loop_close(&u);
}
END_TEST

/* No descriptor left: an error, and nothing that would have to be freed. */
START_TEST(without_descriptors)
{
	struct rlimit limit;
	struct err err;

	loop_assert();
	unit_loop_open(&u);
	ck_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	ck_assert(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 3, limit.rlim_max }) == 0);
	ck_assert_int_eq(slots_init(&slots, u.loop, 2, 100, 64, &err), -EMFILE);
	slots_fini(&slots);
	ck_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	ck_assert(slots_init(&slots, u.loop, 2, 100, 64, &err) == 0);
	slots_fini(&slots);
	unit_loop_close(&u);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), aligned_apart_and_ours, first_come_first_served,
	     without_descriptors)
