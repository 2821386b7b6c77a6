/* SPDX-License-Identifier: MIT */
/*
 * annotate.h - words that the compiler, the analyser and the reader share.
 *
 * co_fn     the function may yield; call it from a coroutine only
 * no_co_fn  the function blocks; never call it from a coroutine
 * loop_fn   the function must run on the thread that owns the loop
 *
 * They are clang thread-safety attributes on capabilities that nothing really
 * takes: `make TSA=1 CC=clang` proves that no plain function calls a yielding
 * one. co_assert() and loop_assert() tell analyser and reader at an entry
 * point (a function called through a pointer) what its caller guarantees.
 * gcc sees nothing of it.
 */
#ifndef BASE_ANNOTATE_H
#define BASE_ANNOTATE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__clang__)
#define ANNOTATE_TSA(x) __attribute__((x))
#else
#define ANNOTATE_TSA(x)
#endif

struct ANNOTATE_TSA(capability("coroutine")) annotate_co {
	char unused;
};
struct ANNOTATE_TSA(capability("loop")) annotate_loop {
	char unused;
};
extern struct annotate_co annotate_co;
extern struct annotate_loop annotate_loop;

#define co_fn ANNOTATE_TSA(requires_capability(annotate_co, annotate_loop))
#define no_co_fn ANNOTATE_TSA(locks_excluded(annotate_co))
#define loop_fn ANNOTATE_TSA(requires_capability(annotate_loop))

static inline void
co_assert(void) ANNOTATE_TSA(assert_capability(annotate_co, annotate_loop))
{
}

static inline void
loop_assert(void) ANNOTATE_TSA(assert_capability(annotate_loop))
{
}

#define printf_fn(fmt, first) __attribute__((format(printf, fmt, first)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define MIN(a, b) \
	({ \
		__typeof__(a) min_a_ = (a); \
		__typeof__(b) min_b_ = (b); \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b) \
	({ \
		__typeof__(a) max_a_ = (a); \
		__typeof__(b) max_b_ = (b); \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

/*
 * A broken invariant of our own: print where and abort, in release builds too.
 * Never for values that a peer, a file or a device has influenced.
 */
#define invariant(cond) \
	do { \
		if (unlikely(!(cond))) \
			invariant_failed(#cond, __FILE__, __LINE__); \
	} while (0)

static inline __attribute__((cold, noreturn)) void
invariant_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "%s:%d: invariant broken: %s\n", file, line, cond);
	abort();
}

#endif
