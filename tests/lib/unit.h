/* SPDX-License-Identifier: MIT */
/*
 * unit.h - the frame of a unit test: tests, their list, main().
 *
 *	START_TEST(adds_up)
 *	{
 *		ck_assert_int_eq(1 + 1, 2);
 *	}
 *	END_TEST
 *
 *	UNIT_MAIN(adds_up)
 *
 * 1. It is libcheck; with NO_CHECK it is a few lines of our own with the same
 *    words, for a target that libcheck has not been built for. There the first
 *    failure is the end.
 * 2. main() returns 0 when all passed, 77 after unit_need() said why nothing
 *    can run here, else 1.
 * 3. Each test is a process of its own unless CK_FORK=no. The time limit is a
 *    guard against hanging, nothing more.
 */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/annotate.h"

#define UNIT_HANG_GUARD_S 200

/* A sanitizer is at work, which needs memory and signals of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNIT_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNIT_SANITIZED true
#endif
#endif
#ifndef UNIT_SANITIZED
#define UNIT_SANITIZED false
#endif

#ifndef NO_CHECK

#include <check.h>

static inline int
unit_run(const char *file, const TTest *const *tests, size_t n)
{
	Suite *suite = suite_create(file);
	TCase *tcase = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, UNIT_HANG_GUARD_S);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}

#define UNIT_TEST_TYPE const TTest

#else

struct unit_test {
	const char *name;
	void (*fn)(void);
};

#define START_TEST(name_) \
	static void name_##_fn(void); \
	static const struct unit_test name_##_test = { #name_, name_##_fn }; \
	static const struct unit_test *const name_ = &name_##_test; \
	static void name_##_fn(void)
#define END_TEST

#define ck_abort_msg(...) \
	do { \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
		fprintf(stderr, __VA_ARGS__); \
		fputc('\n', stderr); \
		exit(1); \
	} while (0)
#define ck_assert_msg(cond, ...) \
	do { \
		if (!(cond)) \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)
#define ck_assert(cond) ck_assert_msg(cond, "assertion '%s' failed", #cond)
#define ck_assert_int_eq(a, b) \
	do { \
		intmax_t unit_a_ = (a), unit_b_ = (b); \
		ck_assert_msg(unit_a_ == unit_b_, "%s == %s: %jd, %jd", #a, #b, unit_a_, unit_b_); \
	} while (0)
#define ck_assert_uint_eq(a, b) \
	do { \
		uintmax_t unit_a_ = (a), unit_b_ = (b); \
		ck_assert_msg(unit_a_ == unit_b_, "%s == %s: %ju, %ju", #a, #b, unit_a_, unit_b_); \
	} while (0)
#define ck_assert_uint_le(a, b) ck_assert((uintmax_t)(a) <= (uintmax_t)(b))
#define ck_assert_uint_ge(a, b) ck_assert((uintmax_t)(a) >= (uintmax_t)(b))
#define ck_assert_ptr_eq(a, b) ck_assert((const void *)(a) == (const void *)(b))
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#define ck_assert_ptr_null(a) ck_assert((a) == NULL)
#define ck_assert_str_eq(a, b) \
	ck_assert_msg(strcmp(a, b) == 0, "%s == %s: \"%s\", \"%s\"", #a, #b, a, b)

static inline int
unit_run(const char *file, const struct unit_test *const *tests, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		printf("%s\n", tests[i]->name);
		fflush(stdout);
		tests[i]->fn();
	}
	printf("%s: %zu passed\n", file, n);
	return 0;
}

#define UNIT_TEST_TYPE const struct unit_test

#endif

/* main(), when something has to be there first: NEED prints the reason if not. */
#define UNIT_MAIN_IF(need, ...) \
	int main(void) \
	{ \
		UNIT_TEST_TYPE *const tests[] = { __VA_ARGS__ }; \
\
		if (!(need)) \
			return 77; \
		return unit_run(__FILE__, tests, ARRAY_SIZE(tests)); \
	}
#define UNIT_MAIN(...) UNIT_MAIN_IF(true, __VA_ARGS__)

/* --- A log of events, to compare with what was expected --------------------- */

struct unit_trace {
	size_t len;
	char text[4096];
};

static inline void printf_fn(2, 3)
unit_note(struct unit_trace *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->text + t->len, sizeof(t->text) - t->len, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(t->text) - t->len)
		ck_abort_msg("the trace is full");
	t->len += (size_t)n;
}

/* --- What ends a process ---------------------------------------------------- */

/* Runs FN(ARG) in a child, whose output is dropped; its wait status. */
static inline int
unit_child(void (*fn)(void *), void *arg)
{
	pid_t pid;
	int status = -1;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(STDERR_FILENO);
		fn(arg);
		_exit(0);
	}
	ck_assert(pid > 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static inline bool
unit_died_of(int status, int sig)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == sig;
}

/* --- Random numbers that repeat --------------------------------------------- */

/* xorshift64*; the seed must not be 0. */
static inline uint64_t
unit_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* The seed: UNIT_SEED from the environment, else a constant. It is printed. */
static inline uint64_t
unit_seed(void)
{
	const char *text = getenv("UNIT_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 0;

	if (seed == 0)
		seed = UINT64_C(0x9e3779b97f4a7c15);
	printf("UNIT_SEED=0x%llx\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

#endif
