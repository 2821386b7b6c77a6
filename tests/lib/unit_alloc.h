/* SPDX-License-Identifier: MIT */
/*
 * unit_alloc.h - counts allocations, in a test that is linked with --wrap of
 * malloc, calloc, realloc and aligned_alloc.
 */
#ifndef TESTS_UNIT_ALLOC_H
#define TESTS_UNIT_ALLOC_H

/* Calls of any of them so far, on any thread. */
unsigned unit_allocs(void);

#endif
