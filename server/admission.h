/* SPDX-License-Identifier: MIT */
/*
 * admission.h - how many clients may be inside, and who waits outside.
 *
 * 1. A place is taken by admission_enter() and given back by admission_leave().
 *    Of those inside only so many may be negotiating, so that silent clients
 *    leave room for those who talk.
 * 2. Who finds no place waits; nobody looks for one again and again.
 * 3. A shortage is logged if there still is one a second after it began, and its
 *    end when it has been over for a second: not how often it comes and goes in
 *    between.
 * 4. Context: main's loop.
 */
#ifndef SERVER_ADMISSION_H
#define SERVER_ADMISSION_H

#include <stdbool.h>

#include "blk/co_lock.h"
#include "blk/loop.h"

/* Of places of one kind: whether there is one, and what the log says about that. */
struct admission_shortage {
	bool is, said;
	struct loop_timer timer; /* when they differ: until it is said */
};

struct admission {
	struct loop *loop;
	unsigned conns_max, handshakes_max;
	unsigned conns, handshakes; /* inside; of these, still negotiating */
	bool closed;		    /* nobody is admitted any more */
	struct co_waitq waiting;
	struct admission_shortage of_conns, of_handshakes;
};

void admission_init(struct admission *a, struct loop *loop, unsigned conns_max,
		    unsigned handshakes_max);

/* Returns when there is a place, or when it is all over. */
void admission_co_wait(struct admission *a) co_fn;

/* One more is inside, and negotiates. */
void admission_enter(struct admission *a) loop_fn;
/* One of these does not negotiate any more, whatever came of it; once for each. */
void admission_handshake_end(struct admission *a) loop_fn;
/* One has left, after the end of its handshake. */
void admission_leave(struct admission *a) loop_fn;

/* It is all over: who waits goes on, and nobody waits any more. */
void admission_close(struct admission *a) loop_fn;

#endif
