/* SPDX-License-Identifier: MIT */
/* server_export.c - finding exports, counting their clients. */
#include "server/export.h"

#include <pthread.h>
#include <signal.h>

#include "tests/lib/unit.h"

static struct export exports[] = {
	{ .index = 0, .name = "a" },
	{ .index = 1, .name = "disk.img" },
	{ .index = 2, .name = "disk.img2" },
	{ .index = 3, .name = "../etc/passwd" },
};
static const struct export_set set = {
	.exports = exports, .count = ARRAY_SIZE(exports), .fallback = &exports[1],
};

START_TEST(find)
{
	ck_assert_ptr_eq(export_find(&set, "a", 1), &exports[0]);
	ck_assert_ptr_eq(export_find(&set, "disk.img", 8), &exports[1]);
	ck_assert_ptr_eq(export_find(&set, "disk.img2", 9), &exports[2]);
	ck_assert_ptr_eq(export_find(&set, "disk.img2", 8), &exports[1]); /* by its length */
	ck_assert_ptr_eq(export_find(&set, "../etc/passwd", 13), &exports[3]);
	ck_assert_ptr_null(export_find(&set, "disk.im", 7));
	ck_assert_ptr_null(export_find(&set, "A", 1));
	ck_assert_ptr_null(export_find(&set, "a\0", 2));
	ck_assert_ptr_null(export_find(&set, "./a", 3));
	ck_assert_ptr_null(export_find(&set, "/disk.img", 9));
}
END_TEST

START_TEST(the_empty_name)
{
	struct export two[] = { { .name = "x" }, { .name = "" } };
	const struct export_set with = { .exports = two, .count = 2, .fallback = &two[0] };
	const struct export_set none = { .exports = two, .count = 0 };

	ck_assert_ptr_eq(export_find(&set, "", 0), &exports[1]);
	/* An export of that very name comes first. */
	ck_assert_ptr_eq(export_find(&with, "", 0), &two[1]);
	ck_assert_ptr_null(export_find(&none, "", 0));
	ck_assert_ptr_null(export_find(&none, "x", 1));
}
END_TEST

/* What is announced of a device, and what of it to whom. */
START_TEST(sizes)
{
	static const struct {
		uint64_t align, opt;
		bool strict;
		struct block_sizes wanted, asked;
		uint32_t minimum_else; /* for one that did not ask */
	} table[] = {
		{ 1, 0, false, { 0 }, { 1, 4096, 32 << 20 }, 1 },
		{ 4096, 0, false, { 0 }, { 1, 4096, 32 << 20 }, 1 },
		{ 4096, 0, true, { 0 }, { 4096, 4096, 32 << 20 }, 1 },
		{ 1, 0, true, { 0 }, { 1, 4096, 32 << 20 }, 1 },
		/* A preferred size is a power of two, whatever the device is best at. */
		{ 512, 1280 << 10, false, { 0 }, { 1, 1 << 20, 32 << 20 }, 1 },
		{ 512, 1 << 30, false, { 0 }, { 1, 32 << 20, 32 << 20 }, 1 },
		{ 1, 256, false, { 0 }, { 1, 512, 32 << 20 }, 1 },
		{ 8192, 0, false, { 0 }, { 1, 8192, 32 << 20 }, 1 },
		/* What was wanted. */
		{ 1, 0, false, { 512, 0, 0 }, { 512, 4096, 32 << 20 }, 1 },
		{ 1, 0, true, { 512, 0, 0 }, { 512, 4096, 32 << 20 }, 1 },
		{ 4096, 0, true, { 512, 0, 0 }, { 4096, 4096, 32 << 20 }, 1 },
		{ 1, 0, false, { 0, 65536, 0 }, { 1, 65536, 32 << 20 }, 1 },
		{ 1, 0, false, { 0, 0, 512 }, { 1, 512, 512 }, 1 },
		{ 1, 0, false, { 8192, 0, 8192 }, { 8192, 8192, 8192 }, 1 },
		/* Larger blocks of the device count for more than smaller wishes. */
		{ 65536, 0, true, { 0, 4096, 4096 }, { 65536, 65536, 65536 }, 1 },
		{ 1 << 20, 0, true, { 0 }, { 65536, 1 << 20, 32 << 20 }, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct dev dev = { .limits.request_alignment = table[i].align,
				   .limits.opt_transfer = table[i].opt };
		struct export exp = { .dev = &dev, .strict = table[i].strict };
		struct block_sizes s;

		export_set_sizes(&exp, &table[i].wanted);
		s = export_sizes_for(&exp, true);
		ck_assert_msg(memcmp(&s, &table[i].asked, sizeof(s)) == 0, "row %zu: %u %u %u", i,
			      s.minimum, s.preferred, s.maximum);
		s = export_sizes_for(&exp, false);
		ck_assert_msg(s.minimum == table[i].minimum_else, "row %zu: %u", i, s.minimum);
		ck_assert_uint_eq(s.maximum, table[i].asked.maximum);
	}
}
END_TEST

START_TEST(limit)
{
	struct export exp = { .name = "x", .clients_max = 2 };
	struct export free_for_all = { .name = "y" };

	ck_assert(export_enter(&exp));
	ck_assert(export_enter(&exp));
	ck_assert(!export_enter(&exp));
	ck_assert_uint_eq(exp.clients, 2);
	export_leave(&exp);
	ck_assert(export_enter(&exp));
	ck_assert(!export_enter(&exp));
	for (int i = 0; i < 10000; i++)
		ck_assert(export_enter(&free_for_all));
	ck_assert_uint_eq(free_for_all.clients, 10000);
}
END_TEST

#define THREADS 4
#define ROUNDS 20000
#define CLIENTS_MAX 2

static struct export shared = { .name = "x", .clients_max = CLIENTS_MAX };
static unsigned inside, too_many, refused;

static void *
client_thread(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (!export_enter(&shared)) {
			__atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (__atomic_add_fetch(&inside, 1, __ATOMIC_RELAXED) > CLIENTS_MAX)
			__atomic_fetch_add(&too_many, 1, __ATOMIC_RELAXED);
		__atomic_fetch_sub(&inside, 1, __ATOMIC_RELAXED);
		export_leave(&shared);
	}
	return NULL;
}

START_TEST(limit_with_threads)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, client_thread, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(too_many, 0);
	ck_assert_uint_eq(shared.clients, 0);
}
END_TEST

static void
leave_once_more(void *arg)
{
	struct export exp = { .name = "x" };

	export_leave(&exp);
}

START_TEST(leaving_without_entering_is_caught)
{
	ck_assert(unit_died_of(unit_child(leave_once_more, NULL), SIGABRT));
}
END_TEST

UNIT_MAIN(find, the_empty_name, sizes, limit, limit_with_threads, leaving_without_entering_is_caught)
