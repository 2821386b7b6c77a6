/* SPDX-License-Identifier: MIT */
/*
 * blk_co.c - coroutines and what they wait with.
 *
 * Needs blk/co*.c and libc only, so that it can be built for any machine
 * (make check-aarch64).
 */
#include "blk/co.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "blk/co_lock.h"
#include "tests/lib/unit.h"

static struct co_sched sched;
static struct unit_trace trace;

static void
start(void)
{
	co_sched_init(&sched);
	trace.len = 0;
	trace.text[0] = '\0';
}

static void
spawn(void (*fn)(void *), const void *arg)
{
	loop_assert();
	/* A test may start one with a literal, which it then only reads. */
	ck_assert_int_eq(co_spawn(&sched, CO_STACK_REQUEST, NULL, fn, (void *)(uintptr_t)arg), 0);
}

/* Runs until nothing is ready. */
static void
run(void)
{
	loop_assert();
	while (co_sched_run(&sched, 100))
		;
}

static void
finish(void)
{
	run();
	ck_assert_uint_eq(sched.live, 0);
	co_sched_release(&sched);
}

/* --- Order ------------------------------------------------------------------ */

static void
note_thrice(void *arg)
{
	co_assert();
	for (int i = 0; i < 3; i++) {
		unit_note(&trace, "%s%d ", (const char *)arg, i);
		co_pass(&sched);
	}
}

START_TEST(passing_is_round_robin)
{
	start();
	spawn(note_thrice, "a");
	spawn(note_thrice, "b");
	spawn(note_thrice, "c");
	ck_assert_str_eq(trace.text, ""); /* nobody runs inside co_spawn() */
	finish();
	ck_assert_str_eq(trace.text, "a0 b0 c0 a1 b1 c1 a2 b2 c2 ");
}
END_TEST

static void
note_and_spawn(void *arg)
{
	co_assert();
	spawn(note_thrice, "x");
	unit_note(&trace, "parent ");
}

START_TEST(spawned_from_a_coroutine_runs_later)
{
	start();
	spawn(note_and_spawn, NULL);
	spawn(note_thrice, "a");
	finish();
	ck_assert_str_eq(trace.text, "parent a0 x0 a1 x1 a2 x2 ");
}
END_TEST

struct sleeper {
	const char *name;
	struct co *co;
};

static void
sleeper_main(void *arg)
{
	struct sleeper *s = arg;

	co_assert();
	s->co = co_self(&sched);
	for (;;) {
		co_yield(&sched);
		if (!s->name)
			return;
		unit_note(&trace, "%s ", s->name);
	}
}

START_TEST(ready_order)
{
	struct sleeper a = { .name = "a" }, b = { .name = "b" }, c = { .name = "c" };

	loop_assert();
	start();
	spawn(sleeper_main, &a);
	spawn(sleeper_main, &b);
	spawn(sleeper_main, &c);
	run();
	ck_assert_str_eq(trace.text, "");
	ck_assert(!co_sched_has_ready(&sched));

	co_ready(c.co);
	co_ready(a.co);
	ck_assert_str_eq(trace.text, ""); /* nobody runs inside co_ready() */
	ck_assert(co_sched_has_ready(&sched));
	co_ready(b.co);
	run();
	ck_assert_str_eq(trace.text, "c a b ");

	co_ready(b.co);
	run();
	ck_assert_str_eq(trace.text, "c a b b ");
	ck_assert_uint_eq(sched.live, 3);

	a.name = b.name = c.name = NULL;
	co_ready(a.co);
	co_ready(b.co);
	co_ready(c.co);
	finish();
}
END_TEST

START_TEST(run_keeps_to_its_budget)
{
	loop_assert();
	start();
	spawn(note_thrice, "a");
	spawn(note_thrice, "b");
	ck_assert(co_sched_run(&sched, 0));
	ck_assert_str_eq(trace.text, "");
	ck_assert(co_sched_run(&sched, 1));
	ck_assert_str_eq(trace.text, "a0 ");
	ck_assert(co_sched_run(&sched, 3));
	ck_assert_str_eq(trace.text, "a0 b0 a1 b1 ");
	ck_assert(co_sched_run(&sched, 3)); /* a2 b2, and a's end */
	ck_assert(!co_sched_run(&sched, 1)); /* b's end */
	ck_assert(!co_sched_run(&sched, 1));
	finish();
}
END_TEST

static void
wake_twice(void *arg)
{
	struct sleeper s = { .name = "a" };

	loop_assert();
	start();
	spawn(sleeper_main, &s);
	run();
	co_ready(s.co);
	co_ready(s.co);
}

START_TEST(waking_twice_is_caught)
{
	ck_assert(unit_died_of(unit_child(wake_twice, NULL), SIGABRT));
}
END_TEST

static void
release_with_live(void *arg)
{
	struct sleeper s = { .name = "a" };

	start();
	spawn(sleeper_main, &s);
	run();
	co_sched_release(&sched);
}

START_TEST(release_with_a_live_one_is_caught)
{
	ck_assert(unit_died_of(unit_child(release_with_live, NULL), SIGABRT));
}
END_TEST

/* --- Stacks ----------------------------------------------------------------- */

#define MANY 2000

static unsigned ran;

static void
count_up(void *arg)
{
	volatile unsigned here = *(unsigned *)arg; /* on this very stack */

	co_assert();
	for (int i = 0; i < 3; i++) {
		co_pass(&sched);
		ck_assert_uint_eq(here, *(unsigned *)arg);
	}
	ran++;
}

START_TEST(many_at_once)
{
	static unsigned numbers[MANY];

	start();
	ran = 0;
	for (unsigned i = 0; i < MANY; i++) {
		numbers[i] = i;
		spawn(count_up, &numbers[i]);
	}
	ck_assert_uint_eq(sched.live, MANY);
	run();
	ck_assert_uint_eq(ran, MANY);
	ck_assert_uint_eq(sched.live, 0);
	/* What is beyond the pool has been unmapped. */
	ck_assert_uint_eq(sched.idle_count[CO_STACK_REQUEST], CO_STACK_KEEP);
	finish();
}
END_TEST

static struct co *last_self;

static void
remember_self(void *arg)
{
	co_assert();
	last_self = co_self(&sched);
	ran++;
}

START_TEST(stacks_are_used_again)
{
	struct co *first;

	start();
	spawn(remember_self, NULL);
	run();
	first = last_self;
	ran = 0;
	for (int i = 0; i < 1000; i++) {
		last_self = NULL;
		spawn(remember_self, NULL);
		run();
		ck_assert_ptr_eq(last_self, first);
	}
	ck_assert_uint_eq(ran, 1000);
	ck_assert_uint_eq(sched.idle_count[CO_STACK_REQUEST], 1);
	ck_assert_uint_eq(sched.idle_count[CO_STACK_CONN], 0);
	finish();
}
END_TEST

/* Most of a stack in one frame, kept across a yield. */
#define USE_STACK(name, bytes) \
	static void name(void *arg) \
	{ \
		volatile uint8_t buf[bytes]; \
		uint8_t mark = *(uint8_t *)arg; \
\
		co_assert(); \
		for (size_t i = 0; i < sizeof(buf); i++) \
			buf[i] = (uint8_t)(mark + i); \
		co_pass(&sched); \
		for (size_t i = 0; i < sizeof(buf); i++) \
			ck_assert_uint_eq(buf[i], (uint8_t)(mark + i)); \
		ran++; \
	}

USE_STACK(use_request_stack, 12 * 1024)
USE_STACK(use_conn_stack, 60 * 1024)

START_TEST(deep_use)
{
	static uint8_t marks[] = { 1, 50, 99, 200 };

	loop_assert();
	start();
	ran = 0;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		ck_assert_int_eq(co_spawn(&sched, CO_STACK_REQUEST, NULL, use_request_stack,
					  &marks[i]), 0);
		ck_assert_int_eq(co_spawn(&sched, CO_STACK_CONN, NULL, use_conn_stack, &marks[i]),
				 0);
	}
	run();
	ck_assert_uint_eq(ran, 2 * ARRAY_SIZE(marks));
	finish();
}
END_TEST

/* Writes downwards, finer than a page, for twice as much as there is. */
static void
overflow(void *arg)
{
	volatile char *here = __builtin_frame_address(0);

	for (size_t i = 0; i < 2 * 4 * *(size_t *)arg; i += 256)
		*(here - i) = 1;
}

struct overflow {
	enum co_stack kind;
	size_t stack_bytes;
};

static void
overflow_in_coroutine(void *arg)
{
	struct overflow *o = arg;

	loop_assert();
	signal(SIGSEGV, SIG_DFL); /* a sanitizer has its own */
	start();
	/* Below the upper of two there is another stack, behind the guard. */
	ck_assert_int_eq(co_sched_reserve(&sched, o->kind, 8), 0);
	ck_assert_int_eq(co_spawn(&sched, o->kind, NULL, overflow, &o->stack_bytes), 0);
	run();
}

START_TEST(overflow_hits_the_guard)
{
	struct overflow request = { CO_STACK_REQUEST, 16 * 1024 };
	struct overflow conn = { CO_STACK_CONN, 64 * 1024 };

	ck_assert(unit_died_of(unit_child(overflow_in_coroutine, &request), SIGSEGV));
	ck_assert(unit_died_of(unit_child(overflow_in_coroutine, &conn), SIGSEGV));
}
END_TEST

/* --- No memory -------------------------------------------------------------- */

static void
no_more_memory(void *arg)
{
	struct rlimit limit = { 4096, 4096 };
	void *p;

	loop_assert();
	start();
	ck_assert_int_eq(co_sched_reserve(&sched, CO_STACK_REQUEST, 5), 0);
	ck_assert_uint_eq(sched.idle_count[CO_STACK_REQUEST], 5);
	ck_assert_int_eq(co_sched_reserve(&sched, CO_STACK_REQUEST, 3), 0); /* has them */
	ck_assert_uint_eq(sched.idle_count[CO_STACK_REQUEST], 5);
	ran = 0;

	if (UNIT_SANITIZED || setrlimit(RLIMIT_AS, &limit) < 0)
		_exit(77);
	p = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p != MAP_FAILED)
		_exit(77);
	for (int i = 0; i < 5; i++)
		if (co_spawn(&sched, CO_STACK_REQUEST, NULL, remember_self, NULL) != 0)
			_exit(1);
	if (co_spawn(&sched, CO_STACK_REQUEST, NULL, remember_self, NULL) != -ENOMEM)
		_exit(2);
	if (co_sched_reserve(&sched, CO_STACK_CONN, 1) != -ENOMEM)
		_exit(3);
	if (sched.live != 5)
		_exit(4);
	run();
	/* The stacks of those that ended serve again. */
	for (int i = 0; i < 5; i++)
		if (co_spawn(&sched, CO_STACK_REQUEST, NULL, remember_self, NULL) != 0)
			_exit(5);
	run();
	_exit(ran == 10 ? 0 : 6);
}

START_TEST(reserved_stacks_need_no_memory)
{
	int status = unit_child(no_more_memory, NULL);

	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		/* An emulator and a sanitizer do not limit what they need themselves. */
		puts("RLIMIT_AS has no effect here: -ENOMEM was not tested");
		return;
	}
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

/* --- Registers -------------------------------------------------------------- */

/*
 * More integers and floating-point numbers live across a switch than there are
 * registers that a callee has to save, so all of those are in use.
 */
static volatile uint64_t source[24];
static volatile double source_fp[16];

#define FOR_16(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) \
	X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD(i) uint64_t r##i = source[i] * factor;
#define LOAD_FP(i) double d##i = source_fp[i] * (double)factor;
#define MIX(i) r##i = r##i * 3 + 1;
#define MIX_FP(i) d##i = d##i * 0.5 + 1.0;
#define CHECK(i) ok &= r##i == mixed(source[i] * factor, rounds);
#define CHECK_FP(i) ok &= d##i == mixed_fp(source_fp[i] * (double)factor, rounds);

#define ROUNDS 50

static __attribute__((noinline)) uint64_t
mixed(uint64_t v, unsigned rounds)
{
	while (rounds-- > 0)
		v = v * 3 + 1;
	return v;
}

static __attribute__((noinline)) double
mixed_fp(double v, unsigned rounds)
{
	while (rounds-- > 0)
		v = v * 0.5 + 1.0;
	return v;
}

/* Keeps the numbers while SWITCH is called ROUNDS times. */
static __attribute__((noinline)) bool
survive(uint64_t factor, void (*change)(void))
{
	unsigned rounds = 0;
	bool ok = true;

	FOR_16(LOAD)
	for (; rounds < ROUNDS; rounds++) {
		change();
		FOR_16(MIX)
	}
	FOR_16(CHECK)
	return ok;
}

static __attribute__((noinline)) bool
survive_fp(uint64_t factor, void (*change)(void))
{
	unsigned rounds = 0;
	bool ok = true;

	FOR_16(LOAD_FP)
	for (; rounds < ROUNDS; rounds++) {
		change();
		FOR_16(MIX_FP)
	}
	FOR_16(CHECK_FP)
	return ok;
}

static void
change_in_coroutine(void)
{
	co_assert();
	co_pass(&sched);
}

static void
change_in_scheduler(void)
{
	loop_assert();
	co_sched_run(&sched, 3);
}

static void
survive_main(void *arg)
{
	uint64_t factor = *(uint64_t *)arg;

	co_assert();
	for (int i = 0; i < 4; i++) {
		ck_assert(survive(factor + (uint64_t)i, change_in_coroutine));
		ck_assert(survive_fp(factor + (uint64_t)i, change_in_coroutine));
	}
	ran++;
}

START_TEST(registers_survive)
{
	static uint64_t factors[] = { 3, 1000003, 77777777777 };

	for (unsigned i = 0; i < 16; i++) {
		source[i] = 0x0101010101010101ull * (i + 1);
		source_fp[i] = 1.0 / (i + 3);
	}
	start();
	ran = 0;
	for (size_t i = 0; i < ARRAY_SIZE(factors); i++)
		spawn(survive_main, &factors[i]);
	/* The thread's own flow is a context, too. */
	ck_assert(survive(5, change_in_scheduler));
	ck_assert(survive_fp(7, change_in_scheduler));
	finish();
	ck_assert_uint_eq(ran, ARRAY_SIZE(factors));
}
END_TEST

static void
varargs_main(void *arg)
{
	co_assert();
	/* Needs an aligned stack, with SSE for the floating-point arguments. */
	unit_note(&trace, "%d %.3f %d %.3f %s", 1, 2.5, 3, 4.25, (const char *)arg);
}

START_TEST(entry_stack_is_aligned)
{
	start();
	spawn(varargs_main, "ok");
	finish();
	ck_assert_str_eq(trace.text, "1 2.500 3 4.250 ok");
}
END_TEST

/* --- Wait queue ------------------------------------------------------------- */

static struct co_waitq waitq;

struct named {
	const char *name;
	bool front;
};

static void
wait_main(void *arg)
{
	struct named *n = arg;

	co_assert();
	if (n->front)
		co_waitq_wait_front(&waitq, &sched);
	else
		co_waitq_wait(&waitq, &sched);
	unit_note(&trace, "%s ", n->name);
}

START_TEST(waitq_is_fifo)
{
	struct named a = { "a", false }, b = { "b", false }, c = { "c", false };

	loop_assert();
	start();
	co_waitq_init(&waitq);
	ck_assert(co_waitq_empty(&waitq));
	ck_assert(!co_waitq_wake_one(&waitq));
	co_waitq_wake_all(&waitq);
	spawn(wait_main, &a);
	spawn(wait_main, &b);
	spawn(wait_main, &c);
	run();
	ck_assert(!co_waitq_empty(&waitq));
	ck_assert(co_waitq_wake_one(&waitq));
	ck_assert_str_eq(trace.text, "");
	run();
	ck_assert_str_eq(trace.text, "a ");
	co_waitq_wake_all(&waitq);
	ck_assert(co_waitq_empty(&waitq));
	finish();
	ck_assert_str_eq(trace.text, "a b c ");
}
END_TEST

START_TEST(waitq_front_goes_first)
{
	struct named a = { "a", false }, b = { "b", true }, c = { "c", false }, d = { "d", true };

	loop_assert();
	start();
	co_waitq_init(&waitq);
	spawn(wait_main, &a);
	spawn(wait_main, &b);
	spawn(wait_main, &c);
	spawn(wait_main, &d);
	run();
	co_waitq_wake_all(&waitq);
	finish();
	ck_assert_str_eq(trace.text, "d b a c ");
}
END_TEST

static void
wait_again(void *arg)
{
	co_assert();
	for (int i = 0; i < 3; i++) {
		co_waitq_wait(&waitq, &sched);
		unit_note(&trace, "%s%d ", (const char *)arg, i);
	}
}

START_TEST(wake_all_wakes_each_once)
{
	loop_assert();
	start();
	co_waitq_init(&waitq);
	spawn(wait_again, "a");
	spawn(wait_again, "b");
	run();
	for (int i = 0; i < 3; i++) {
		co_waitq_wake_all(&waitq);
		run();
	}
	finish();
	ck_assert_str_eq(trace.text, "a0 b0 a1 b1 a2 b2 ");
}
END_TEST

/* --- Mutex ------------------------------------------------------------------ */

static struct co_mutex mutex;
static bool inside;

static void
lock_main(void *arg)
{
	co_assert();
	for (int i = 0; i < 2; i++) {
		co_mutex_lock(&mutex, &sched);
		ck_assert(!inside);
		inside = true;
		unit_note(&trace, "%s%d ", (const char *)arg, i);
		co_pass(&sched);
		inside = false;
		co_mutex_unlock(&mutex);
	}
}

START_TEST(mutex_is_fifo)
{
	start();
	co_mutex_init(&mutex);
	spawn(lock_main, "a");
	spawn(lock_main, "b");
	spawn(lock_main, "c");
	finish();
	/* Also: who unlocks and locks again at once does not jump the queue. */
	ck_assert_str_eq(trace.text, "a0 b0 c0 a1 b1 c1 ");
	ck_assert(!mutex.locked);
}
END_TEST

static void
unlock_unlocked(void *arg)
{
	loop_assert();
	co_mutex_init(&mutex);
	co_mutex_unlock(&mutex);
}

START_TEST(unlocking_an_unlocked_mutex_is_caught)
{
	ck_assert(unit_died_of(unit_child(unlock_unlocked, NULL), SIGABRT));
}
END_TEST

/* --- Semaphore -------------------------------------------------------------- */

static struct co_sem sem;
static unsigned holders, holders_max;

static void
sem_main(void *arg)
{
	co_assert();
	co_sem_down(&sem, &sched);
	unit_note(&trace, "%s ", (const char *)arg);
	holders_max = MAX(holders_max, ++holders);
	co_pass(&sched);
	holders--;
	co_sem_up(&sem);
}

/* Gives and takes in one go: must not pass those who wait. */
static void
sem_thief(void *arg)
{
	co_assert();
	co_sem_down(&sem, &sched);
	co_pass(&sched);
	co_sem_up(&sem);
	co_sem_down(&sem, &sched);
	unit_note(&trace, "thief ");
	co_sem_up(&sem);
}

START_TEST(semaphore_counts)
{
	start();
	co_sem_init(&sem, 3);
	holders = holders_max = 0;
	for (int i = 0; i < 10; i++)
		spawn(sem_main, "x");
	finish();
	ck_assert_uint_eq(holders_max, 3);
	ck_assert_uint_eq(sem.count, 3);
	ck_assert(co_waitq_empty(&sem.waiters));
}
END_TEST

START_TEST(semaphore_is_fifo)
{
	start();
	co_sem_init(&sem, 1);
	spawn(sem_thief, NULL);
	spawn(sem_main, "a");
	spawn(sem_main, "b");
	finish();
	ck_assert_str_eq(trace.text, "a b thief ");
	ck_assert_uint_eq(sem.count, 1);
}
END_TEST

/* --- Budget ----------------------------------------------------------------- */

static struct co_budget budget;

struct spender {
	const char *name;
	size_t bytes;
	unsigned rounds, holds;
};

static void
spender_main(void *arg)
{
	struct spender *s = arg;

	co_assert();
	for (unsigned i = 0; i < s->rounds; i++) {
		co_budget_take(&budget, &sched, s->bytes);
		unit_note(&trace, "%s ", s->name);
		for (unsigned k = 0; k < s->holds; k++)
			co_pass(&sched);
		co_budget_give(&budget, s->bytes);
	}
}

START_TEST(budget_waits_in_line)
{
	struct spender a = { "a", 6, 1, 3 }, big = { "big", 10, 1, 1 }, c = { "c", 1, 1, 1 };

	start();
	co_budget_init(&budget, 10);
	spawn(spender_main, &a);
	spawn(spender_main, &big);
	spawn(spender_main, &c); /* would fit, but stands behind */
	finish();
	ck_assert_str_eq(trace.text, "a big c ");
	ck_assert_uint_eq(budget.left, 10);
	ck_assert(list_empty(&budget.waiters));
}
END_TEST

START_TEST(budget_serves_all_that_fit)
{
	struct spender big = { "big", 10, 1, 1 }, small = { "s", 3, 1, 5 };

	start();
	co_budget_init(&budget, 10);
	spawn(spender_main, &big);
	for (int i = 0; i < 4; i++)
		spawn(spender_main, &small);
	loop_assert();
	/* big takes, passes, gives; then three of the four fit at once. */
	co_sched_run(&sched, 5);
	ck_assert_uint_eq(budget.left, 0);
	co_sched_run(&sched, 4);
	ck_assert_uint_eq(budget.left, 1);
	finish();
	ck_assert_str_eq(trace.text, "big s s s s ");
	ck_assert_uint_eq(budget.left, 10);
}
END_TEST

/*
 * A small one that gives and takes again without a pause is a newcomer: it
 * must not get what the large one in the line has been waiting for.
 */
START_TEST(budget_large_is_not_starved)
{
	struct spender small = { "s", 1, 20, 2 }, large = { "LARGE", 10, 1, 1 };
	const char *at;

	start();
	co_budget_init(&budget, 10);
	spawn(spender_main, &small);
	spawn(spender_main, &large);
	finish();
	at = strstr(trace.text, "LARGE");
	ck_assert_ptr_nonnull(at);
	ck_assert_msg(at - trace.text == 2, "overtaken: %s", trace.text);
	ck_assert_uint_eq(budget.left, 10);
}
END_TEST

/* The same with two small ones that take turns, so that one always holds some. */
START_TEST(budget_large_among_many)
{
	struct spender small = { "s", 1, 20, 3 }, large = { "LARGE", 10, 1, 1 };

	start();
	co_budget_init(&budget, 10);
	for (int i = 0; i < 4; i++)
		spawn(spender_main, &small);
	spawn(spender_main, &large);
	finish();
	ck_assert_msg(strncmp(trace.text, "s s s s LARGE ", 14) == 0, "overtaken: %s", trace.text);
}
END_TEST

#define SPENDERS 20
#define SPENDER_ROUNDS 200
#define BUDGET_BYTES 1000

struct random_spender {
	uint64_t seed;
};

static size_t random_held;
/* Of those that had to wait: the next in line, and the next to be served. */
static unsigned tickets, served, out_of_order;

static void
random_spender_main(void *arg)
{
	struct random_spender *s = arg;

	co_assert();
	for (unsigned i = 0; i < SPENDER_ROUNDS; i++) {
		uint64_t r = unit_random(&s->seed);
		size_t bytes = 1 + (r & 7 ? (r >> 8) % 100 : (r >> 8) % BUDGET_BYTES);

		bool waits = !list_empty(&budget.waiters) || budget.left < bytes;
		unsigned ticket = waits ? tickets++ : 0;

		co_budget_take(&budget, &sched, bytes);
		if (waits)
			out_of_order += ticket != served++;
		random_held += bytes;
		ck_assert_uint_le(random_held, BUDGET_BYTES);
		ck_assert_uint_le(budget.left, BUDGET_BYTES - random_held);
		for (r = unit_random(&s->seed) % 4; r > 0; r--)
			co_pass(&sched);
		random_held -= bytes;
		co_budget_give(&budget, bytes);
	}
	ran++;
}

START_TEST(budget_random)
{
	struct random_spender spenders[SPENDERS];
	uint64_t seed = unit_seed();

	start();
	co_budget_init(&budget, BUDGET_BYTES);
	ran = tickets = served = out_of_order = 0;
	random_held = 0;
	for (int i = 0; i < SPENDERS; i++) {
		spenders[i].seed = unit_random(&seed);
		spawn(random_spender_main, &spenders[i]);
	}
	run();
	/* A lost wake-up leaves somebody waiting for ever. */
	ck_assert_uint_eq(ran, SPENDERS);
	ck_assert_uint_eq(budget.left, BUDGET_BYTES);
	ck_assert_uint_ge(tickets, 100); /* or nothing was tested */
	ck_assert_msg(out_of_order == 0, "%u of %u takes were out of order", out_of_order, tickets);
	finish();
}
END_TEST

/* --- Group ------------------------------------------------------------------ */

static void
member_main(void *arg)
{
	co_assert();
	co_pass(&sched);
	unit_note(&trace, "member ");
}

static void
parent_main(void *arg)
{
	struct co_group group;

	co_assert();
	co_group_init(&group);
	co_group_wait(&group, &sched); /* nobody: returns at once */
	unit_note(&trace, "parent ");
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			ck_assert_int_eq(co_spawn(&sched, CO_STACK_REQUEST, &group, member_main,
						  NULL), 0);
		ck_assert_uint_eq(group.running, 3);
		co_group_wait(&group, &sched);
		ck_assert_uint_eq(group.running, 0);
		unit_note(&trace, "all ");
	}
}

START_TEST(group_waits_for_all)
{
	start();
	spawn(parent_main, NULL);
	finish();
	ck_assert_str_eq(trace.text,
			 "parent member member member all member member member all ");
}
END_TEST

static struct co_group nested;

static void
chain_main(void *arg)
{
	intptr_t depth = (intptr_t)arg;

	co_assert();
	co_pass(&sched);
	if (depth > 0)
		ck_assert_int_eq(co_spawn(&sched, CO_STACK_REQUEST, &nested, chain_main,
					  (void *)(depth - 1)), 0);
	unit_note(&trace, "%d ", (int)depth);
}

static void
chain_parent(void *arg)
{
	co_assert();
	co_group_init(&nested);
	ck_assert_int_eq(co_spawn(&sched, CO_STACK_REQUEST, &nested, chain_main, (void *)5), 0);
	co_group_wait(&nested, &sched);
	unit_note(&trace, "all ");
}

/* A member that starts another member keeps the group alive. */
START_TEST(group_of_a_chain)
{
	start();
	spawn(chain_parent, NULL);
	finish();
	ck_assert_str_eq(trace.text, "5 4 3 2 1 0 all ");
}
END_TEST

UNIT_MAIN(passing_is_round_robin, spawned_from_a_coroutine_runs_later, ready_order,
	  run_keeps_to_its_budget, waking_twice_is_caught, release_with_a_live_one_is_caught,
	  many_at_once, stacks_are_used_again, deep_use, overflow_hits_the_guard,
	  reserved_stacks_need_no_memory, registers_survive, entry_stack_is_aligned, waitq_is_fifo,
	  waitq_front_goes_first, wake_all_wakes_each_once, mutex_is_fifo,
	  unlocking_an_unlocked_mutex_is_caught, semaphore_counts, semaphore_is_fifo,
	  budget_waits_in_line, budget_serves_all_that_fit, budget_large_is_not_starved,
	  budget_large_among_many, budget_random, group_waits_for_all, group_of_a_chain)
