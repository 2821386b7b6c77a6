/* SPDX-License-Identifier: MIT */
/* base_list.c - list.h, against an array that does the same. */
#include "base/list.h"

#include "tests/lib/unit.h"

struct item {
	int number;
	struct list link;
};

#define ITEMS 8

/* What the list holds, both ways, is NUMBERS. */
static void
check_is(struct list *head, const int *numbers, unsigned n)
{
	struct item *item;
	struct list *link;
	unsigned i = 0;

	list_for_each(item, head, link) {
		ck_assert_uint_le(i + 1, n);
		ck_assert_int_eq(item->number, numbers[i++]);
		ck_assert(list_linked(&item->link));
	}
	ck_assert_uint_eq(i, n);
	for (link = head->prev; link != head; link = link->prev)
		ck_assert_int_eq(list_entry(link, struct item, link)->number, numbers[--i]);
	ck_assert_uint_eq(i, 0);
	ck_assert(list_empty(head) == (n == 0));
}

START_TEST(empty)
{
	struct list head = LIST_INIT(head);
	struct item item = { 0 };

	check_is(&head, NULL, 0);
	ck_assert_ptr_null(list_pop(&head));
	ck_assert(!list_linked(&item.link)); /* zeroed */
	list_init(&item.link);
	ck_assert(!list_linked(&item.link)); /* initialised */
	list_add_tail(&head, &item.link);
	ck_assert(list_linked(&item.link));
	list_del(&item.link);
	ck_assert(!list_linked(&item.link)); /* taken off */
	check_is(&head, NULL, 0);
}
END_TEST

START_TEST(both_ends)
{
	struct list head = LIST_INIT(head);
	struct item items[4];

	for (int i = 0; i < 4; i++)
		items[i].number = i;
	list_add_tail(&head, &items[1].link);
	list_add_tail(&head, &items[2].link);
	list_add_head(&head, &items[0].link);
	list_add_tail(&head, &items[3].link);
	check_is(&head, (int[]){ 0, 1, 2, 3 }, 4);
	for (int i = 0; i < 4; i++) {
		struct list *link = list_pop(&head);

		ck_assert_ptr_eq(link, &items[i].link);
		ck_assert(!list_linked(link));
	}
	check_is(&head, NULL, 0);
}
END_TEST

/* Each subset of 0 ... ITEMS-1 deleted, from the body of the loop. */
START_TEST(delete_each_subset)
{
	for (unsigned set = 0; set < 1u << ITEMS; set++) {
		struct list head = LIST_INIT(head);
		struct item items[ITEMS], *item, *next;
		int left[ITEMS];
		unsigned n = 0;

		for (int i = 0; i < ITEMS; i++) {
			items[i].number = i;
			list_add_tail(&head, &items[i].link);
			if (!(set & 1u << i))
				left[n++] = i;
		}
		list_for_each_safe(item, next, &head, link) {
			if (set & 1u << item->number) {
				list_del(&item->link);
				item->number = -1;
				memset(&item->link, 0xff, sizeof(item->link)); /* as if freed */
			}
		}
		check_is(&head, left, n);
	}
}
END_TEST

START_TEST(splice_each_size)
{
	for (int n_to = 0; n_to < 4; n_to++)
		for (int n_from = 0; n_from < 4; n_from++) {
			struct list to = LIST_INIT(to), from = LIST_INIT(from);
			struct item items[8];
			int numbers[8];

			for (int i = 0; i < n_to + n_from; i++) {
				items[i].number = numbers[i] = i;
				list_add_tail(i < n_to ? &to : &from, &items[i].link);
			}
			list_splice_tail(&to, &from);
			check_is(&to, numbers, (unsigned)(n_to + n_from));
			check_is(&from, NULL, 0);
		}
}
END_TEST

START_TEST(random_against_array)
{
	uint64_t seed = unit_seed();
	struct list head = LIST_INIT(head);
	struct item items[ITEMS] = { 0 };
	int model[ITEMS];
	unsigned n = 0;

	for (int i = 0; i < ITEMS; i++)
		items[i].number = i;
	for (unsigned step = 0; step < 20000; step++) {
		int i = (int)(unit_random(&seed) % ITEMS);
		unsigned at = 0;

		if (!list_linked(&items[i].link)) {
			if (unit_random(&seed) & 1) {
				list_add_tail(&head, &items[i].link);
				model[n] = i;
			} else {
				list_add_head(&head, &items[i].link);
				memmove(model + 1, model, n * sizeof(model[0]));
				model[0] = i;
			}
			n++;
		} else {
			while (model[at] != i)
				at++;
			list_del(&items[i].link);
			n--;
			memmove(model + at, model + at + 1, (n - at) * sizeof(model[0]));
		}
		check_is(&head, model, n);
	}
}
END_TEST

UNIT_MAIN(empty, both_ends, delete_each_subset, splice_each_size, random_against_array)
