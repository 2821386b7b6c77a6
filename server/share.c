/* SPDX-License-Identifier: MIT */
/* share.c - work that stops a worker's loop; see share.h. */
#include "share.h"

void
share_init(struct share *share, struct loop *loop)
{
	*share = (struct share){ .loop = loop };
	co_sem_init(&share->turn, 1);
}

void
share_co_begin(struct share *share)
{
	co_sem_down(&share->turn, loop_sched(share->loop));
	/* It is the next piece that waits, so that this one's work can go on at once. */
	if (share->rest_end > loop_now(share->loop))
		loop_co_sleep(share->loop, share->rest_end - loop_now(share->loop));
	share->begun = loop_clock(share->loop);
}

void
share_end(struct share *share)
{
	uint64_t now = loop_clock(share->loop);

	share->rest_end = now + (now - share->begun);
	co_sem_up(&share->turn);
}
