/* SPDX-License-Identifier: MIT */
/*
 * unit_loop.h - a loop that a test steps by hand, in virtual time.
 *
 * 1. Time stands still unless the test moves `now`; waiting for a timer never
 *    takes time.
 * 2. unit_loop_co() runs one function as a coroutine until it has returned, and
 *    whatever else became ready with it.
 */
#ifndef TESTS_UNIT_LOOP_H
#define TESTS_UNIT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/co_lock.h"
#include "blk/loop.h"

#define UNIT_SECOND UINT64_C(1000000000)

struct unit_loop {
	struct loop *loop;
	uint64_t now; /* nanoseconds */
};

/* Whether io_uring works here; prints the reason when it does not. */
bool unit_loop_possible(void);

void unit_loop_open(struct unit_loop *u);
/* Invariant: no coroutine is left. */
void unit_loop_close(struct unit_loop *u);

/* Runs FN(ARG) on a large stack until it has returned. */
void unit_loop_co(struct unit_loop *u, void (*fn)(void *), void *arg);

/* Turns until *DONE, however long that takes. */
void unit_loop_until(struct unit_loop *u, const bool *done);

/* Starts FN(ARG), which runs in later turns. */
void unit_loop_spawn(struct unit_loop *u, struct co_group *group, void (*fn)(void *), void *arg);

/* N turns that do not wait: enough of them settle everything that can. */
void unit_loop_turns(struct unit_loop *u, unsigned n);

/* Moves the clock and runs what is due. */
void unit_loop_pass(struct unit_loop *u, uint64_t ns);

#endif
