/* SPDX-License-Identifier: MIT */
/*
 * simdev.h - a simulated block device behind blkio.h, driven by a seed.
 *
 * It takes the place of the driver library and has one driver, "sim". Two fronts
 * make devices of it: simdev_unit.c, for unit tests, has one device and the
 * functions below; simdev_live.c, for a server, has one for each target, with a
 * thread that lets time pass.
 *
 * 1. Nothing happens by itself: a request that was submitted goes on in
 *    sim_step(), or in blkioq_do_io() when the seed says so, in any order.
 *    The same seed and the same calls give the same run.
 * 2. A write takes effect block by block, each at a moment between its
 *    submission and its completion; so requests that are in flight together
 *    land in any order, and a read sees each block old or new. A request that
 *    fails has taken effect on some blocks or on none.
 * 3. The device has a volatile cache. What is on stable storage is, block by
 *    block, the contents of some moment since the last thing that made them
 *    durable: a flush, for what had completed (been fetched) before it came, be
 *    it as a failure that took effect, a
 *    write with FUA for itself, or each completion when flush_needed is false.
 *    A flush that fails has lost what it was to cover: no later one makes up
 *    for it. Beside a sync (a flush, or a write with FUA) of the same queue that
 *    is going to fail, others succeed without having made anything durable.
 * 4. It holds its caller to the contract: what breaks a limit, changes an iovec
 *    or written data before the completion, uses memory it was not told of, or
 *    leaves requests or mapped regions behind aborts with a text.
 * 5. Contents are kept for a window of the device only; elsewhere writes are
 *    forgotten and reads give zeroes. So devices can be large.
 *
 * Threads: any; one lock over each device.
 */
#ifndef TESTS_SIMDEV_H
#define TESTS_SIMDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_op { SIM_READ, SIM_WRITE, SIM_ZEROES, SIM_DISCARD, SIM_FLUSH, SIM_OPS };
/* No request; but a fault may be one of looking up what the device holds. */
#define SIM_STATUS SIM_OPS

enum sim_zeroes {
	SIM_ZEROES_DONE,
	SIM_ZEROES_NO_FAST, /* ENOTSUP with NO_FALLBACK */
	SIM_ZEROES_NONE,    /* ENOTSUP always */
};

enum sim_discards {
	SIM_DISCARDS_UNITS,   /* EINVAL unless it is whole units of discard_alignment */
	SIM_DISCARDS_ANY,     /* of any alignment */
	SIM_DISCARDS_NONE,    /* ENOTSUP */
};

/* What a discarded block reads as. */
enum sim_discarded { SIM_DISCARDED_KEPT, SIM_DISCARDED_ZERO, SIM_DISCARDED_EITHER };

/* Requests of some kinds that touch a range fail, or are held. */
struct sim_fault {
	unsigned ops;	     /* of 1 << SIM_* */
	uint64_t off, end;   /* both 0: anywhere; a flush is everywhere */
	unsigned skip;	     /* so many go well first */
	unsigned times;	     /* then so many fail; 0: all */
	unsigned permille;   /* of those, by chance; 0: each */
	bool fua_only;
	bool hold; /* it has no effect, and no end, before it is released */
	int ret;
};

#define SIM_FAULTS_MAX 16

/* 0 and false are the plainest device but for capacity and flush_needed. */
struct sim_config {
	uint64_t seed;
	bool instant; /* requests finish in their order in the do_io that submits them */
	uint64_t capacity;
	uint64_t window_off, window_len; /* length 0: the whole device */
	unsigned block; /* bytes that change together; 0: request_alignment */
	bool tail;	/* from tail_start on there is no alignment; no request crosses it */
	uint64_t tail_start;

	int request_alignment, optimal_io_size, max_transfer, max_segments, buf_alignment;
	int discard_alignment;
	uint64_t max_discard, max_write_zeroes;
	int zeroes_alignment; /* 0: the property is not there */
	bool read_only, flush_needed, fua_native;
	bool needs_regions, needs_region_fds;

	enum sim_zeroes zeroes;
	enum sim_discards discards;
	enum sim_discarded discarded;
	bool status; /* blkioq_ext_status() tells, as much as the seed says */
	struct sim_fault faults[SIM_FAULTS_MAX];

	unsigned not_now_permille; /* do_io calls that say -EAGAIN and the like */
	bool spurious;		   /* the completion fd tells of nothing, at times */
};

/* What happened to a device since it was made. */
struct sim_stats {
	uint64_t requests[SIM_OPS];
	uint64_t failed;    /* by a fault */
	uint64_t overtaken; /* finished before an older one */
	uint64_t torn;	    /* took effect in more than one step */
	uint64_t lost;	    /* blocks that a power cut set back */
	uint64_t hash;	    /* of all that happened, to compare runs */
};

/* --- The one device of a unit test --------------------------------------------- */

/* Forgets everything: a device whose contents are zeroes. Nothing may be open. */
void sim_reset(const struct sim_config *config);

/*
 * The same while it is open, with nothing in flight, to begin again with another
 * seed and these SIM_FAULTS_MAX faults.
 */
void sim_renew(uint64_t seed, const struct sim_fault *faults);

/* What is held goes on; after sim_mend() nothing that comes meets a fault, either. */
void sim_unhold(void);
void sim_mend(void);

/* Contents as reads see them; in the window. Not beside requests in flight. */
void sim_poke(uint64_t off, const void *data, size_t len);
void sim_peek(uint64_t off, void *data, size_t len);

/* Takes some request a step further; false when there is none. */
bool sim_step(void);

/* Requests whose completions have not been fetched. */
unsigned sim_open(void);

/*
 * The power goes: only what is stable remains, all requests fail with -EIO from
 * now on without any effect. sim_power_on() after the device was closed.
 */
void sim_power_cut(void);
void sim_power_on(void);

/* The requests since the last call as text: "write 0+4096 fua, flush, ". */
const char *sim_text(void);
void sim_text_clear(void);

/* Since sim_reset(). */
const struct sim_stats *sim_stats(void);

/* Each request as it comes: for a test's own trace; NULL: none. */
extern void (*sim_on_request)(enum sim_op op, uint64_t off, uint64_t len, uint32_t flags);

/* --- Chance ------------------------------------------------------------------- */

/* xorshift64*; *STATE must not be 0. */
static inline uint64_t
sim_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* In [0, n). */
static inline unsigned
sim_below(uint64_t *state, unsigned n)
{
	return (unsigned)((sim_random(state) >> 33) % n);
}

#endif
