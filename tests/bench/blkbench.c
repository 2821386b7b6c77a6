/* SPDX-License-Identifier: MIT */
/*
 * blkbench.c - what the block layer's own steps cost, without any device.
 *
 *   track   a request entering and leaving the tracker, IN_FLIGHT at a time, at
 *           random places or one after the other; CPU time per request with
 *           one thread and with four
 *   zeroes  scanning written data for zeroes
 *
 * usage: blkbench
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blk/track.h"
#include "blk/zero.h"

#define IN_FLIGHT 128
#define REQUESTS 4000000u
#define BLOCK 4096u
#define DEVICE_BYTES (1ull << 30)

static double
seconds(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static uint64_t
random64(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 2685821657736338717ull;
}

/* --- Tracker ---------------------------------------------------------------- */

static struct track track;

struct runner {
	struct loop *loop;
	uint64_t seed;
	bool sequential;
	double cpu;
};

/* No request serialises, so none waits, and one coroutine can hold many. */
static void
runner_main(void *arg)
{
	struct runner *r = arg;
	struct track_req *reqs = calloc(IN_FLIGHT, sizeof(*reqs));
	double start = seconds(CLOCK_THREAD_CPUTIME_ID);
	uint64_t next = r->seed % 1024 * TRACK_UNIT;

	co_assert();
	if (!reqs)
		abort();
	for (unsigned i = 0; i < REQUESTS + IN_FLIGHT; i++) {
		struct track_req *req = &reqs[i % IN_FLIGHT];
		uint64_t off = r->sequential ? next : random64(&r->seed) % (DEVICE_BYTES / BLOCK) * BLOCK;

		next = (next + BLOCK) % DEVICE_BYTES;
		if (i >= IN_FLIGHT)
			track_end(&track, r->loop, req);
		if (i < REQUESTS)
			track_co_begin(&track, r->loop, req, off, BLOCK, false);
	}
	r->cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
	free(reqs);
	loop_stop(r->loop);
}

static void *
runner_thread(void *arg)
{
	struct runner *r = arg;
	struct err err;

	loop_assert();
	if (loop_attach(r->loop, &err) < 0 ||
	    co_spawn(loop_sched(r->loop), CO_STACK_CONN, NULL, runner_main, r) < 0)
		abort();
	loop_run(r->loop);
	loop_detach(r->loop);
	return NULL;
}

static void
bench_track(unsigned threads, bool sequential)
{
	struct runner r[4];
	pthread_t t[4];
	double cpu = 0;

	track_init(&track);
	for (unsigned i = 0; i < threads; i++) {
		struct err err;

		r[i] = (struct runner){ .seed = 88172645463325252ull + i, .sequential = sequential };
		if (loop_new(&r[i].loop, &err) < 0 ||
		    pthread_create(&t[i], NULL, runner_thread, &r[i]) != 0)
			abort();
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(t[i], NULL);
		loop_free(r[i].loop);
		cpu += r[i].cpu;
	}
	track_fini(&track);
	printf("track %-10s threads=%u in-flight=%u: %6.1f ns CPU per request\n",
	       sequential ? "sequential" : "random", threads, IN_FLIGHT * threads,
	       cpu * 1e9 / ((double)REQUESTS * threads));
}

/* --- Zeroes ----------------------------------------------------------------- */

static void
bench_zeroes(size_t len)
{
	struct iovec iov = { aligned_alloc(4096, len), len };
	unsigned rounds = (unsigned)((8ull << 30) / len);
	unsigned found = 0;
	double start;

	if (!iov.iov_base)
		abort();
	memset(iov.iov_base, 0, len);
	start = seconds(CLOCK_THREAD_CPUTIME_ID);
	for (unsigned i = 0; i < rounds; i++) {
		found += zero_iov(&iov, 1);
		__asm__ volatile("" : : "r"(iov.iov_base) : "memory");
	}
	start = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
	printf("zeroes %7zu bytes: %6.1f GB/s\n", len,
	       (double)found * (double)len / start / 1e9);
	free(iov.iov_base);
}

int
main(void)
{
	for (int sequential = 0; sequential < 2; sequential++) {
		bench_track(1, sequential);
		bench_track(4, sequential);
	}
	bench_zeroes(4096);
	bench_zeroes(128 << 10);
	bench_zeroes(1 << 20);
	return 0;
}
