/* SPDX-License-Identifier: MIT */
/* unit_alloc.c - counts allocations; see unit_alloc.h. */
#include "unit_alloc.h"

#include <stddef.h>

/* The linker's names: __wrap_f is called for f, __real_f is f itself. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

static unsigned count;

static void
counted(void)
{
	__atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
}

unsigned
unit_allocs(void)
{
	return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

void *
__wrap_malloc(size_t size)
{
	counted();
	return __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	counted();
	return __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t size)
{
	counted();
	return __real_realloc(p, size);
}

void *
__wrap_aligned_alloc(size_t align, size_t size)
{
	counted();
	return __real_aligned_alloc(align, size);
}
