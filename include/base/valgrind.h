/* SPDX-License-Identifier: MIT */
/*
 * valgrind.h - what valgrind is told, and nothing where its header is missing.
 */
#ifndef BASE_VALGRIND_H
#define BASE_VALGRIND_H

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_STACK_REGISTER(start, end) ((void)(start), (void)(end), 0)
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#define VALGRIND_MAKE_MEM_DEFINED(start, len) ((void)(start), (void)(len))
#endif

#endif
