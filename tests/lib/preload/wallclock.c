/* SPDX-License-Identifier: MIT */
/*
 * wallclock.c - for LD_PRELOAD: clocks that a test moves.
 *
 * The wall clock is one for the whole machine, so a test must not set it. What a program
 * gets from the C library is shifted instead, by the seconds that the file named by
 * WALLCLOCK begins with: an int64_t for the wall clock, and one for the monotonic clock.
 * It is mapped once, so that a process in a sandbox has it, and a change counts at once;
 * but who sleeps is not woken.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const int64_t *shift_s; /* wall, monotonic */
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void
wallclock_init(void)
{
	const char *path = getenv("WALLCLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED :
			     mmap(NULL, 2 * sizeof(*shift_s), PROT_READ, MAP_SHARED, fd, 0);

	real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (map == MAP_FAILED || !real_clock_gettime)
		abort();
	shift_s = map;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int ret;

	if (!shift_s)
		wallclock_init(); /* the constructor of another library was first */
	ret = real_clock_gettime(clock, ts);
	if (ret == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ||
			 clock == CLOCK_TAI))
		ts->tv_sec += __atomic_load_n(&shift_s[0], __ATOMIC_RELAXED);
	if (ret == 0 && clock == CLOCK_MONOTONIC)
		ts->tv_sec += __atomic_load_n(&shift_s[1], __ATOMIC_RELAXED);
	return ret;
}

time_t
time(time_t *result)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (result)
		*result = ts.tv_sec;
	return ts.tv_sec;
}

int
gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;
	int ret = clock_gettime(CLOCK_REALTIME, &ts);

	*tv = (struct timeval){ ts.tv_sec, ts.tv_nsec / 1000 };
	return ret;
}
