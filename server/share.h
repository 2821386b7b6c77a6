/* SPDX-License-Identifier: MIT */
/*
 * share.h - work that stops a worker's loop, and the share of its time that it may have.
 *
 * 1. Of one share only one coroutine works at a time; the others wait in the order in
 *    which they came.
 * 2. When one has worked for a while, the loop has as long for everything else before
 *    the next begins. So all of it together gets half of the loop's time, however much
 *    there is to do, and whoever does something else is kept from it for no longer than
 *    one piece.
 * 3. A piece is without a yield. It cannot be shortened: that is for who cuts the work.
 *
 * Threads: the loop's.
 */
#ifndef SERVER_SHARE_H
#define SERVER_SHARE_H

#include <stdint.h>

#include "blk/co_lock.h"
#include "blk/loop.h"

struct share {
	struct loop *loop;
	struct co_sem turn; /* of one */
	uint64_t begun;	    /* the piece that is being worked on */
	uint64_t rest_end;  /* none begins before */
};

void share_init(struct share *share, struct loop *loop);

/* Returns when it is the caller's turn. */
void share_co_begin(struct share *share) co_fn;
/* The piece is over. Invariant: nobody has yielded since share_co_begin(). */
void share_end(struct share *share) loop_fn;

#endif
