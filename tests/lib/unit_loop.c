/* SPDX-License-Identifier: MIT */
/* unit_loop.c - a loop that a test steps by hand; see unit_loop.h. */
#include "unit_loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
fail(const char *text)
{
	fprintf(stderr, "unit_loop: %s\n", text);
	abort();
}

bool
unit_loop_possible(void)
{
	struct loop *loop;
	struct err err;

	if (loop_new(&loop, &err) < 0) {
		puts(err.text);
		return false;
	}
	loop_free(loop);
	return true;
}

static uint64_t
virtual_now(void *arg)
{
	return ((struct unit_loop *)arg)->now;
}

void
unit_loop_open(struct unit_loop *u)
{
	struct err err;

	/* Not 0, so that a deadline that was never set shows. */
	u->now = 1000 * UNIT_SECOND;
	if (loop_new(&u->loop, &err) < 0 || loop_attach(u->loop, &err) < 0)
		fail(err.text);
	loop_set_clock(u->loop, virtual_now, u);
}

void
unit_loop_close(struct unit_loop *u)
{
	loop_detach(u->loop);
	loop_free(u->loop);
	u->loop = NULL;
}

struct job {
	void (*fn)(void *);
	void *arg;
	bool done;
};

static void
job_main(void *arg)
{
	struct job *job = arg;

	job->fn(job->arg);
	job->done = true;
}

void
unit_loop_spawn(struct unit_loop *u, struct co_group *group, void (*fn)(void *), void *arg)
{
	loop_assert();
	if (co_spawn(loop_sched(u->loop), CO_STACK_CONN, group, fn, arg) < 0)
		fail("no memory for a coroutine");
}

void
unit_loop_co(struct unit_loop *u, void (*fn)(void *), void *arg)
{
	struct job job = { .fn = fn, .arg = arg };

	unit_loop_spawn(u, NULL, job_main, &job);
	unit_loop_until(u, &job.done);
}

void
unit_loop_until(struct unit_loop *u, const bool *done)
{
	for (;;) {
		loop_turn(u->loop, false);
		if (*done)
			return;
		/* What it waits for is in the kernel or in another thread. */
		if (!co_sched_has_ready(loop_sched(u->loop)))
			usleep(20);
	}
}

void
unit_loop_turns(struct unit_loop *u, unsigned n)
{
	while (n-- > 0)
		loop_turn(u->loop, false);
}

void
unit_loop_pass(struct unit_loop *u, uint64_t ns)
{
	u->now += ns;
	unit_loop_turns(u, 8);
}
