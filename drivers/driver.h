/* SPDX-License-Identifier: MIT */
/*
 * driver.h - what the driver library knows about a device and a queue, and
 * what a driver has to provide.
 *
 * 1. A driver is one struct driver: property table, device and queue
 *    functions. Its device embeds struct blkio, its queue struct blkioq, its
 *    request struct request, each as the first member.
 * 2. Common code (blkio.c, props.c, queue.c) checks names, states, flags and
 *    arguments; a driver sees only calls that are allowed in the state.
 * 3. Each accepted request ends in exactly one queue_finish() or queue_fail().
 * 4. On the data path nothing is allocated: requests come from a pool that is
 *    as large as the driver's own limit on requests in flight. A client that
 *    queues more makes the pool grow by the same number at a time.
 *
 * Errors of control functions go through error_set() and error_os(), which
 * return the negative errno to return. Threads: see blkio.h.
 */
#ifndef DRIVERS_DRIVER_H
#define DRIVERS_DRIVER_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/annotate.h"
#include "base/utf8.h"
#include "blkio-ext.h"
#include "blkio.h"

struct driver;
struct region;

/* --- Errors (error.c) ------------------------------------------------------ */

/* Sets this thread's message and returns -ERR (ERR is positive). */
int error_set(int err, const char *fmt, ...) printf_fn(2, 3);

/*
 * The same with the system's text for ERR in front: "TEXT (os error N)", then
 * what FMT gives ("" for nothing more).
 */
int error_os(int err, const char *fmt, ...) printf_fn(2, 3);

/* --- Devices --------------------------------------------------------------- */

/* In order; bits of them say where a property may be set. */
enum state {
	CREATED = 1 << 0,
	CONNECTED = 1 << 1,
	STARTED = 1 << 2,
};

/* What properties say about a device; 0 is "no limit" where blkio(3) says so. */
struct limits {
	uint64_t mem_region_alignment; /* bytes */
	uint64_t max_mem_regions;
	uint64_t max_write_zeroes_len; /* bytes */
	uint64_t max_discard_len;      /* bytes */
	int request_alignment;         /* bytes, likewise the alignments below */
	int buf_alignment;
	int optimal_buf_alignment;
	int optimal_io_alignment;
	int optimal_io_size;
	int discard_alignment;
	int discard_alignment_offset;
	int max_segments;
	int max_segment_len; /* bytes */
	int max_transfer;    /* bytes */
	int max_queues;
	bool can_add_queues;
	bool can_grow;
	bool flush_needed;
	bool may_pin_mem_regions;
	bool needs_mem_regions;
	bool needs_mem_region_fd;
	bool supports_fua_natively;
	bool supports_poll_queues;
};

/* Queues of one kind by index; NULL where one was removed. */
struct queue_set {
	struct blkioq **queue;
	int len;
};

/* A device. Common code owns everything but limits, which the driver fills. */
struct blkio {
	const struct driver *driver;
	enum state state;
	bool read_only;
	int num_queues;      /* as set, for start */
	int num_poll_queues; /* as set, for start */
	struct limits limits;
	struct queue_set queues, poll_queues;

	/* Regions, by address; region.c. The lock is for queues that look. */
	pthread_mutex_t region_lock;
	struct region *regions;
	size_t regions_len, regions_cap;
	uint64_t region_id_last;
	_Atomic uint64_t region_generation; /* changes with each map and unmap */
};

/* --- Properties (props.c) -------------------------------------------------- */

enum prop_type { PROP_BOOL, PROP_INT, PROP_U64, PROP_STR };

/* One value; str is the caller's (set) or on the heap for the caller (get). */
struct prop_value {
	bool b;
	int i;
	uint64_t u64;
	char *str;
};

struct prop {
	const char *name;
	enum prop_type type;
	unsigned get_in; /* set of enum state */
	unsigned set_in; /* set of enum state; 0: read-only */
	size_t offset;   /* of the field in the driver's device, without a get */

	/* 0 or a negative errno. Without them the field is read and written. */
	int (*get)(struct blkio *b, struct prop_value *v);
	int (*set)(struct blkio *b, const struct prop_value *v);
};

#define PROP_ALWAYS (CREATED | CONNECTED | STARTED)
#define PROP_KNOWN (CONNECTED | STARTED)

/* A property of TYPE that is FIELD of the device struct DEV. */
#define PROP_FIELD(name_, type_, get_in_, set_in_, dev_, field_) \
	{ .name = (name_), .type = (type_), .get_in = (get_in_), .set_in = (set_in_), \
	  .offset = offsetof(dev_, field_) }

/* The same with a setter that looks at the value first. */
#define PROP_CHECKED(name_, type_, get_in_, set_in_, dev_, field_, set_) \
	{ .name = (name_), .type = (type_), .get_in = (get_in_), .set_in = (set_in_), \
	  .offset = offsetof(dev_, field_), .set = (set_) }

/* A read-only property that a function answers. */
#define PROP_COMPUTED(name_, type_, get_in_, get_) \
	{ .name = (name_), .type = (type_), .get_in = (get_in_), .get = (get_) }

int prop_get_driver(struct blkio *b, struct prop_value *v);
int prop_set_num_queues(struct blkio *b, const struct prop_value *v);
int prop_set_num_poll_queues(struct blkio *b, const struct prop_value *v);

/* Whether S is there and valid UTF-8. */
static inline bool
text_valid(const char *s)
{
	return s && utf8_valid(s, strlen(s));
}

/* --- Regions (region.c) ---------------------------------------------------- */

/* A region that is allocated here, mapped, or both. */
struct region {
	struct blkio_mem_region mem;
	uint64_t id; /* never used twice in the life of a device; 0: not mapped */
	bool allocated;
	bool mapped;
};

void regions_init(struct blkio *b);
void regions_release(struct blkio *b);

/* --- Requests and queues (queue.c) ----------------------------------------- */

/* Common part of a driver's request; free, in the driver, or finished. */
struct request {
	struct request *next;
	void *user_data;
	const char *error_msg;
	int ret;
	uint8_t op;    /* the driver's */
	uint8_t flags; /* the driver's */
	uint8_t tries; /* the driver's */
	uint8_t pad;
};

/* Requests in order. A zeroed one is empty. */
struct fifo {
	struct request *first, *last;
};

static inline void
fifo_push(struct fifo *f, struct request *r)
{
	r->next = NULL;
	if (f->first)
		f->last->next = r;
	else
		f->first = r;
	f->last = r;
}

static inline struct request *
fifo_pop(struct fifo *f)
{
	struct request *r = f->first;

	if (r)
		f->first = r->next;
	return r;
}

struct wait;

/* A driver's queue functions; the owner thread of the queue calls them. */
struct queue_ops {
	/*
	 * Requests, flags and signs checked. They must not make a system call
	 * when there is room, and must not fail but by queue_fail().
	 */
	void (*read)(struct blkioq *q, uint64_t start, void *buf, uint32_t len, void *user_data);
	void (*write)(struct blkioq *q, uint64_t start, const void *buf, uint32_t len,
		      void *user_data, uint32_t flags);
	void (*readv)(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
		      void *user_data);
	void (*writev)(struct blkioq *q, uint64_t start, const struct iovec *iov, int iovcnt,
		       void *user_data, uint32_t flags);
	void (*write_zeroes)(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
			     uint32_t flags);
	void (*discard)(struct blkioq *q, uint64_t start, uint64_t len, void *user_data);
	void (*flush)(struct blkioq *q, void *user_data);

	/*
	 * Submits everything and, while fewer than WANT requests are ready
	 * (q->ready), waits. 0; -ETIME and -EINTR as W says; else an error of
	 * the queue itself, after which requests are still outstanding.
	 */
	int (*run)(struct blkioq *q, unsigned want, struct wait *w);

	/* Whether something has finished that q->ready does not count yet. */
	bool (*pending)(struct blkioq *q);

	/*
	 * See blkioq_ext_status(); LEN > 0, and the range ends below 2^63. May
	 * be NULL: -ENOTSUP.
	 */
	int (*status)(struct blkioq *q, uint64_t start, uint64_t len,
		      struct blkio_ext_extent *extent);

	/* See blkioq_ext_let_go(); nothing is in flight. May be NULL. */
	void (*let_go)(struct blkioq *q);

	/* Tells the device to raise the completion fd, or not; may be NULL. */
	void (*set_event)(struct blkioq *q, bool enable);

	/* Waits for what is in flight and frees what the driver has in Q. */
	void (*close)(struct blkioq *q);
};

/*
 * A queue. Everything a request touches is in the first cache line; the
 * driver's own fields follow in its struct.
 */
struct blkioq {
	const struct queue_ops *ops;
	struct request *free;
	unsigned outstanding; /* not yet fetched: in the driver, early or done */
	unsigned ready;       /* of them early or done */
	struct fifo early;    /* failures found at once; delivered first */
	struct fifo done;     /* finished */
	struct blkio *dev;
	int event_fd; /* -1 on poll queues */
	bool event_enabled;
	bool event_owed; /* the driver muted the device's own signal */
	bool poll;

	/* The request pool: chunks of CHUNK_LEN requests of REQUEST_SIZE. */
	struct request_chunk *chunks;
	size_t request_size;
	unsigned chunk_len;
};

/*
 * Prepares Q: its pool with CHUNK_LEN requests and, unless POLL, its eventfd.
 * 0 or a negative errno with message.
 */
int queue_init(struct blkioq *q, struct blkio *dev, const struct queue_ops *ops, bool poll,
	       size_t request_size, unsigned chunk_len);

/* Frees what queue_init made; Q may be zeroed. */
void queue_release(struct blkioq *q);

/* Enlarges the pool and takes a request from it; for queue_take only. */
struct request *queue_grow(struct blkioq *q);

/* A free request with its user data set; counts as outstanding from here. */
static inline struct request *
queue_take(struct blkioq *q, void *user_data)
{
	struct request *r = q->free;

	if (unlikely(!r))
		r = queue_grow(q);
	q->free = r->next;
	q->outstanding++;
	r->user_data = user_data;
	return r;
}

/* R has finished: RET is for the client, MSG constant text or NULL. */
static inline void
queue_finish(struct blkioq *q, struct request *r, int ret, const char *msg)
{
	r->ret = ret;
	r->error_msg = msg;
	fifo_push(&q->done, r);
	q->ready++;
}

/* A request never gets going: it completes with -ERR, before finished I/O. */
void queue_fail(struct blkioq *q, void *user_data, int err, const char *msg);

/* A request that has nothing to do completes with 0, in the same place. */
void queue_pass(struct blkioq *q, void *user_data);

/* Makes the completion fd readable if it is enabled. */
void queue_signal(struct blkioq *q);

/* How long, and under which signal mask, a run may wait. */
struct wait {
	bool limited;            /* there is a deadline */
	bool interruptible;      /* a signal ends the wait */
	struct timespec end;     /* CLOCK_MONOTONIC */
	const sigset_t *sigmask; /* or NULL: as it is */
};

/* Time left until W's deadline; {0, 0} when it is over. */
struct timespec wait_left(const struct wait *w);

/* --- Drivers --------------------------------------------------------------- */

struct driver {
	const char *name;
	size_t dev_size; /* bytes of the driver's device, zeroed by blkio_create */
	const struct prop *props; /* ends with a NULL name */

	/* Sets defaults in a new device. */
	void (*init)(struct blkio *b);

	/* Opens the device and fills b->limits; on failure nothing has changed. */
	int (*connect)(struct blkio *b);

	/* Makes one queue. */
	int (*queue_open)(struct blkio *b, bool poll, struct blkioq **qp);

	/* Frees what init and connect left; queues are gone already. */
	void (*close)(struct blkio *b);
};

extern const struct driver io_uring_driver;
extern const struct driver mem_driver;

#endif
