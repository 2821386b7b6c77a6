/* SPDX-License-Identifier: MIT */
/*
 * co.c - coroutines: stacks, their pool, the ready list.
 *
 * The path of one coroutine:
 *   co_spawn       takes a pooled stack (or maps one), notes fn and arg, ready
 *   co_sched_run   switches to it; co_main() calls fn
 *   co_yield       switches back; co_ready() puts it on the ready list again
 *   fn returns     co_main() leaves the group, puts the stack back, switches
 *                  away for good; the next co_spawn on this stack continues
 *                  the endless loop in co_main()
 *
 * Layout of a stack's mapping, low to high:
 *   guard page | stack, growing down | struct co
 *
 * Invariants:
 * I1. sched->current is the coroutine whose stack is in use, or NULL.
 * I2. A coroutine is in exactly one state; `link` is on the ready list in
 *     READY, on the idle list in IDLE, and on none in RUNNING. In WAITING it is
 *     free for the lock that the coroutine waits for... which uses nodes of its
 *     own, so it is on none either.
 */
#include "co.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/valgrind.h"
#include "co_lock.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CO_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define CO_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define CO_TSAN 1
#endif

#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if defined(CO_ASAN) || defined(CO_TSAN)
#define STACK_SCALE 4
#else
#define STACK_SCALE 1
#endif

static const size_t stack_bytes[CO_STACK_KINDS] = {
	[CO_STACK_REQUEST] = 16 * 1024 * STACK_SCALE,
	[CO_STACK_CONN] = 64 * 1024 * STACK_SCALE,
};

enum co_state { CO_IDLE, CO_READY, CO_RUNNING, CO_WAITING };

struct co {
	struct co_ctx ctx;
	struct list link; /* I2 */
	struct co_sched *sched;
	enum co_state state;
	enum co_stack kind;
	struct co_group *group;
	void (*fn)(void *);
	void *arg;
	void *stack; /* lowest usable address */
	size_t stack_size;
	void *map; /* guard page and all */
	size_t map_size;
	void *asan_fake_stack;
	void *tsan_fiber;
	unsigned valgrind_id;
};

/* --- Telling the tools ------------------------------------------------------ */

/* Those around a switch are always inlined: TSAN would see calls without returns. */

static void
tools_stack_mapped(struct co *co)
{
#ifdef CO_ASAN
	__asan_unpoison_memory_region(co->stack, co->stack_size);
#endif
#ifdef CO_TSAN
	co->tsan_fiber = __tsan_create_fiber(0);
#endif
	co->valgrind_id = VALGRIND_STACK_REGISTER(co->stack, (char *)co->stack + co->stack_size);
}

static void
tools_stack_unmapped(struct co *co)
{
#ifdef CO_ASAN
	/* The next mapping of these addresses may be no stack. */
	__asan_unpoison_memory_region(co->stack, co->stack_size);
#endif
#ifdef CO_TSAN
	__tsan_destroy_fiber(co->tsan_fiber);
#endif
	VALGRIND_STACK_DEREGISTER(co->valgrind_id);
}

static inline __attribute__((always_inline)) void
tools_before_enter(struct co_sched *sched, struct co *co, void **thread_fake_stack)
{
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(thread_fake_stack, co->stack, co->stack_size);
#endif
#ifdef CO_TSAN
	sched->tsan_fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(co->tsan_fiber, 0);
#endif
}

static inline __attribute__((always_inline)) void
tools_after_leave(void *thread_fake_stack)
{
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(thread_fake_stack, NULL, NULL);
#endif
}

static inline __attribute__((always_inline)) void
tools_before_leave(struct co *co)
{
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(&co->asan_fake_stack, co->sched->asan_stack_bottom,
				       co->sched->asan_stack_size);
#endif
#ifdef CO_TSAN
	__tsan_switch_to_fiber(co->sched->tsan_fiber, 0);
#endif
}

static inline __attribute__((always_inline)) void
tools_after_enter(struct co *co)
{
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(co->asan_fake_stack, &co->sched->asan_stack_bottom,
					&co->sched->asan_stack_size);
#endif
}

/* --- Switching -------------------------------------------------------------- */

static void
co_leave(struct co *co)
{
	tools_before_leave(co);
	co_ctx_switch(&co->ctx, &co->sched->ctx);
	tools_after_enter(co);
}

static void
co_enter(struct co_sched *sched, struct co *co)
{
	void *fake_stack = NULL;

	invariant(!sched->current && co->state == CO_READY);
	co->state = CO_RUNNING;
	sched->current = co;
	tools_before_enter(sched, co, &fake_stack);
	co_ctx_switch(&sched->ctx, &co->ctx);
	tools_after_leave(fake_stack);
	sched->current = NULL;
}

static void
co_main(void *arg)
{
	struct co *co = arg;

	loop_assert();
	tools_after_enter(co);
	for (;;) {
		struct co_sched *sched = co->sched;
		struct co_group *group;

		co->fn(co->arg);

		group = co->group;
		co->state = CO_IDLE;
		sched->live--;
		list_add_head(&sched->idle[co->kind], &co->link);
		sched->idle_count[co->kind]++;
		if (group)
			co_group_leave_(group);
		co_leave(co);
	}
}

/* --- Stacks ----------------------------------------------------------------- */

static struct co *
co_map(struct co_sched *sched, enum co_stack kind)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t map_size = page + stack_bytes[kind];
	char *map;
	struct co *co;

	map = mmap(NULL, map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return NULL;
	if (mprotect(map + page, stack_bytes[kind], PROT_READ | PROT_WRITE) < 0) {
		munmap(map, map_size);
		return NULL;
	}

	co = (struct co *)(map + map_size - ((sizeof(*co) + 63) & ~(size_t)63));
	*co = (struct co){
		.sched = sched,
		.state = CO_IDLE,
		.kind = kind,
		.stack = map + page,
		.stack_size = (size_t)((char *)co - (map + page)),
		.map = map,
		.map_size = map_size,
	};
	list_init(&co->link);
	tools_stack_mapped(co);
	co_ctx_init(&co->ctx, co->stack, co->stack_size, co_main, co);
	return co;
}

static void
co_unmap(struct co *co)
{
	tools_stack_unmapped(co);
	munmap(co->map, co->map_size);
}

static struct co *
co_take_stack(struct co_sched *sched, enum co_stack kind)
{
	struct list *link = list_pop(&sched->idle[kind]);

	if (!link)
		return co_map(sched, kind);
	sched->idle_count[kind]--;
	return list_entry(link, struct co, link);
}

/* Runs outside every coroutine, so none of the stacks it unmaps is in use. */
static void
co_sched_trim(struct co_sched *sched)
{
	for (int kind = 0; kind < CO_STACK_KINDS; kind++) {
		while (unlikely(sched->idle_count[kind] > CO_STACK_KEEP)) {
			struct list *link = sched->idle[kind].prev;

			list_del(link);
			sched->idle_count[kind]--;
			co_unmap(list_entry(link, struct co, link));
		}
	}
}

/* --- Public ----------------------------------------------------------------- */

void
co_sched_init(struct co_sched *sched)
{
	*sched = (struct co_sched){ 0 };
	list_init(&sched->ready);
	for (int kind = 0; kind < CO_STACK_KINDS; kind++)
		list_init(&sched->idle[kind]);
}

void
co_sched_release(struct co_sched *sched)
{
	invariant(sched->live == 0 && list_empty(&sched->ready));
	for (int kind = 0; kind < CO_STACK_KINDS; kind++) {
		struct list *link;

		while ((link = list_pop(&sched->idle[kind])))
			co_unmap(list_entry(link, struct co, link));
		sched->idle_count[kind] = 0;
	}
}

int
co_sched_reserve(struct co_sched *sched, enum co_stack kind, unsigned n)
{
	while (sched->idle_count[kind] < n) {
		struct co *co = co_map(sched, kind);

		if (!co)
			return -ENOMEM;
		list_add_tail(&sched->idle[kind], &co->link);
		sched->idle_count[kind]++;
	}
	return 0;
}

bool
co_sched_run(struct co_sched *sched, unsigned budget)
{
	struct list *link;

	while (budget-- > 0 && (link = list_pop(&sched->ready)))
		co_enter(sched, list_entry(link, struct co, link));
	co_sched_trim(sched);
	return co_sched_has_ready(sched);
}

int
co_spawn(struct co_sched *sched, enum co_stack kind, struct co_group *group, void (*fn)(void *),
	 void *arg)
{
	struct co *co = co_take_stack(sched, kind);

	if (!co)
		return -ENOMEM;
	co->fn = fn;
	co->arg = arg;
	co->group = group;
	if (group)
		co_group_join_(group);
	sched->live++;
	co->state = CO_READY;
	list_add_tail(&sched->ready, &co->link);
	return 0;
}

struct co *
co_self(struct co_sched *sched)
{
	invariant(sched->current);
	return sched->current;
}

void
co_yield(struct co_sched *sched)
{
	struct co *co = co_self(sched);

	co->state = CO_WAITING;
	co_leave(co);
}

void
co_pass(struct co_sched *sched)
{
	struct co *co = co_self(sched);

	co->state = CO_READY;
	list_add_tail(&sched->ready, &co->link);
	co_leave(co);
}

void
co_ready(struct co *co)
{
	invariant(co->state == CO_WAITING);
	co->state = CO_READY;
	list_add_tail(&co->sched->ready, &co->link);
}
