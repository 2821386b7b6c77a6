/* SPDX-License-Identifier: MIT */
/*
 * simdev_core.h - what the files of the simulated device share.
 *
 * simdev.c has requests and queues, simdev_disk.c what is on the device,
 * simdev_props.c its properties. A front, simdev_unit.c or simdev_live.c, makes
 * devices and lets time pass.
 *
 * 1. A device is a struct blkio. Its contents outlive a handle: sim_init() makes
 *    the device, blkio_connect() and blkio_destroy() come and go.
 * 2. Everything but the properties is called under the device's lock, unless it
 *    says otherwise.
 */
#ifndef TESTS_SIMDEV_CORE_H
#define TESTS_SIMDEV_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "blkio.h"
#include "simdev.h"

#define SIM_QUEUES_MAX 64
#define SIM_REGIONS_MAX 64
#define SIM_REQUESTS_MAX 8192
#define SIM_TEXT_BYTES (256u << 10)
#define SIM_CONTROL_MAX 108

enum sim_state { SIM_QUEUED, SIM_HELD, SIM_SUBMITTED, SIM_FINISHED };

struct sim_request {
	enum sim_op op;
	enum sim_state state;
	bool hold; /* it is to be held when it is submitted */
	uint64_t id, off, len;
	uint32_t flags;
	struct blkioq *q;
	void *user_data;
	int ret;
	uint64_t covers; /* of a flush */
	const struct iovec *given;
	struct iovec *iov; /* as it was */
	int iovcnt;
	uint8_t *data;	   /* written, or read so far */
	uint8_t *applied;  /* by block of the window */
	unsigned first, nblocks, left;
	unsigned steps;
};

struct blkioq {
	struct blkio *dev;
	int fd;
	bool enabled;
	unsigned finished; /* not fetched */
};

/* Contents of a block that are not on stable storage yet. */
struct sim_version {
	struct sim_version *next;
	uint64_t owner;	  /* request */
	uint64_t done_at; /* simdev_disk.c, I1; 0: not fetched, or lost */
	uint8_t data[];
};

struct sim_block {
	struct sim_version *oldest, *newest;
	unsigned dirty; /* its place in disk.dirty, if it has versions */
};

struct sim_disk {
	uint64_t block; /* bytes */
	unsigned nblocks;
	uint8_t *now, *stable; /* of the window */
	size_t allocated;
	struct sim_block *blocks;
	unsigned *dirty; /* numbers of blocks with versions */
	unsigned ndirty;
	struct sim_version *free;
	struct sim_chunk {
		struct sim_chunk *next;
	} *chunks, *carving; /* all; the one that new versions come from, or NULL */
	size_t carved;	     /* bytes of it */
};

/* What the front is told of. */
enum sim_event {
	SIM_COMES, /* a request is queued; its result is not known yet */
	SIM_HOLDS,
	SIM_ENDS,
};

struct blkio {
	pthread_mutex_t lock;
	struct sim_config c;
	struct sim_stats stats;
	uint64_t rng;
	bool open, started; /* the handle */
	bool dead;	    /* no power */

	int num_queues;
	struct blkioq queues[SIM_QUEUES_MAX];
	unsigned nqueues;
	struct blkio_mem_region regions[SIM_REGIONS_MAX];
	unsigned nregions;
	unsigned fault_hits[SIM_FAULTS_MAX];

	struct sim_request *requests[SIM_REQUESTS_MAX]; /* oldest first */
	unsigned nrequests;
	unsigned nready; /* SIM_SUBMITTED */
	uint64_t ids, fetches;
	struct sim_disk disk;

	/* The front's. */
	void (*tell)(struct blkio *b, enum sim_event event, const struct sim_request *r);
	void (*busy)(struct blkio *b); /* there are steps to be made; may be NULL */
	char control[SIM_CONTROL_MAX]; /* path of a socket that it talks to; or "" */

	size_t text_len;
	char text[SIM_TEXT_BYTES];
};

/* Says what was wrong, and the last requests; aborts. */
_Noreturn void sim_broken(const struct blkio *b, const char *fmt, ...) printf_fn(2, 3);
void *sim_must(const struct blkio *b, void *p);

/* The message of blkio_get_error_msg(); -ERROR. Without the lock. */
int sim_refuse(int error, const char *fmt, ...) printf_fn(2, 3);

extern const char *const sim_op_names[SIM_OPS + 1];

/* A number in [0, N), as the seed says. */
static inline unsigned
sim_pick(struct blkio *b, unsigned n)
{
	return sim_below(&b->rng, n);
}

/* There the device has no alignment. */
static inline bool
sim_in_tail(const struct blkio *b, uint64_t off)
{
	return b->c.tail && off >= b->c.tail_start;
}

/* --- Requests (simdev.c) ---------------------------------------------------------- */

/* A device with the properties of CONFIG whose contents are zeroes. */
void sim_init(struct blkio *b, const struct sim_config *config);
void sim_release(struct blkio *b);

/* Takes some request that was submitted a step further; false: there is none. */
bool sim_step_one(struct blkio *b);

/* What is held goes on. */
void sim_let_go(struct blkio *b);

/* See sim_power_cut(); what is submitted has failed afterwards. */
void sim_cut(struct blkio *b);

/* What blkio_destroy() does to every device. */
void sim_close(struct blkio *b);

/* --- Properties (simdev_props.c) --------------------------------------------------- */

/*
 * Adds a fault that TEXT describes: OPS[@OFF+LEN]:WHAT[:OPTION...]. OPS are names
 * of requests joined by '+', and "status"; WHAT an errno by name or number, or
 * "hold"; options are skip=N, times=N, permille=N and "fua". -EINVAL.
 */
int sim_fault_add(struct blkio *b, const char *text);

/* --- Contents (simdev_disk.c) ------------------------------------------------------ */

/* LEN bytes of zeroes; what was there is gone. */
void disk_reset(struct blkio *b, uint64_t len);
void disk_release(struct blkio *b);

/* The part of R that contents are kept of. */
void disk_request(struct blkio *b, struct sim_request *r);

/* Block K of R takes effect. */
void disk_apply(struct blkio *b, struct sim_request *r, unsigned k);

/* What R did to its blocks is durable. */
void disk_make_durable(struct blkio *b, const struct sim_request *r);

/* What the flush R covers is durable, or, if it FAILS, never will be by a flush. */
void disk_flush(struct blkio *b, const struct sim_request *r, bool fails);

/* R has been fetched: what it wrote has a place in that order. */
void disk_fetched(struct blkio *b, const struct sim_request *r);

/* What is not stable is gone, or some of it. */
void disk_cut(struct blkio *b);

/* Bytes from START on, LEN at most, that all are zero, or all are not, as reads see them. */
uint64_t disk_alike(const struct blkio *b, uint64_t start, uint64_t len, bool *zero);

#endif
