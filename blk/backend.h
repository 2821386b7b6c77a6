/* SPDX-License-Identifier: MIT */
/*
 * backend.h - what an export sits on: a device, its statistics, its error policy.
 *
 * 1. A backend is made and freed by main and shared by all workers; each has a
 *    port to it, with the worker's queue, which is the worker's alone.
 * 2. Every request of a frontend goes through a port, but for reads that only
 *    warm a cache. There it is counted; the counters are written by the port's
 *    loop and may be read by any thread.
 * 3. An error that the policy says to stop at is not answered: the backend's
 *    status tells of it, the request is held, and so is every later one, until
 *    backend_resume(); then it is tried again. Nothing is ever dropped silently.
 *    When the server stops, what is held fails with -ESHUTDOWN; and so does what
 *    nobody waits for any more, as soon as that is seen, and certainly before it
 *    could be tried again: whoever came after that client may have written since.
 * 4. Errors of flushes are always answered, and so are those of requests with
 *    FUA once a sync has failed: waiting cures no lost write (dev.h).
 */
#ifndef BLK_BACKEND_H
#define BLK_BACKEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "base/list.h"
#include "co_lock.h"
#include "dev.h"
#include "err.h"
#include "loop.h"

struct queue;

enum backend_op {
	BACKEND_READ,
	BACKEND_WRITE,
	BACKEND_ZEROES,
	BACKEND_DISCARD,
	BACKEND_FLUSH,
	BACKEND_OPS,
};

/* What to do about an error of the device. */
enum backend_policy {
	BACKEND_REPORT, /* answer it */
	BACKEND_ENOSPC, /* stop at -ENOSPC and its like, answer the rest */
	BACKEND_STOP,	/* stop */
};

enum backend_status { BACKEND_OK, BACKEND_NOSPACE, BACKEND_FAILED };

/* Of one type of request. */
struct backend_counters {
	uint64_t ops;	     /* completed, with or without success, at each try */
	uint64_t bytes;	     /* of those that succeeded */
	uint64_t errors;     /* that the device reported */
	uint64_t invalid;    /* refused before they reached the device */
	uint64_t latency_ns; /* of all ops, in turns of the loop */
	uint64_t latency_max_ns;
};

struct backend_stats {
	struct backend_counters of[BACKEND_OPS];
	/* Of the queues; see enum queue_counter. */
	uint64_t waited, rmw_heads, rmw_tails, fragments, bounce_bytes;
	uint64_t flushes_skipped, flushes_joined;
};

struct backend {
	const char *name; /* the caller's */
	struct dev *dev;
	enum backend_policy on_read_error, on_write_error;
	/*
	 * Told when it stops, with what the device said; or NULL. Context: the
	 * loop of the request; it must not wait.
	 */
	void (*stopped)(struct backend *b, int ret);
	/*
	 * Told once, by the first request that fails after a flush has, with what
	 * that said: what was written is lost, or may be (dev.h). Or NULL. Context
	 * likewise.
	 */
	void (*lost)(struct backend *b, int ret);
	bool lost_told; /* atomic */
	enum backend_status status; /* atomic */
	pthread_mutex_t lock;	    /* over ports, and what removed ones had counted */
	struct list ports;	    /* of backend_port.link */
	struct backend_stats gone;
};

/* Whoever a request is done for; part of the frontend's own object. */
struct backend_client {
	/* Whether it has left without waiting for the answer. Context: the port's loop. */
	bool (*gone)(struct backend_client *client);
};

struct backend_port {
	struct list link; /* of backend.ports */
	struct backend *backend;
	struct queue *q;
	bool stopping;	      /* what is held fails */
	struct co_waitq held; /* until the backend goes on */
	unsigned nheld;
	struct loop_timer look; /* for clients that have gone, while somebody is held */
	bool resume_sent;     /* resume_call is on its way; atomic */
	struct loop_call resume_call;
	struct backend_stats stats;
};

const char *backend_op_name(enum backend_op op);
const char *backend_status_name(enum backend_status status);

/* NAME and DEV stay the caller's and outlive it. Context: main. */
void backend_init(struct backend *b, const char *name, struct dev *dev,
		  enum backend_policy on_read_error, enum backend_policy on_write_error);
/* Invariant: no port is left. */
void backend_fini(struct backend *b);

/* A port of Q's loop; Q stays the caller's and outlives it. Any thread. */
void backend_port_init(struct backend_port *p, struct backend *b, struct queue *q);
/* Invariant: no request. */
void backend_port_fini(struct backend_port *p);

/*
 * As the calls of io.h; context likewise. CLIENT may be NULL: it never goes. On top
 * of the errors there: -ESHUTDOWN, see 3 above.
 */
int backend_co_read(struct backend_port *p, uint64_t off, const struct iovec *iov, int iovcnt,
		    struct backend_client *client) co_fn;
int backend_co_write(struct backend_port *p, uint64_t off, const struct iovec *iov, int iovcnt,
		     unsigned flags, struct backend_client *client) co_fn;
int backend_co_write_zeroes(struct backend_port *p, uint64_t off, uint64_t len, unsigned flags,
			    struct backend_client *client) co_fn;
int backend_co_discard(struct backend_port *p, uint64_t off, uint64_t len, unsigned flags,
		       struct backend_client *client) co_fn;
int backend_co_flush(struct backend_port *p, struct backend_client *client) co_fn;

/*
 * Waits while the backend has stopped: for who is about to take memory for a
 * request, which would be held with it. 0, or -ESHUTDOWN.
 */
int backend_co_admit(struct backend_port *p, struct backend_client *client) co_fn;
/* Some client has gone. */
void backend_port_look(struct backend_port *p) loop_fn;

/* A request that the frontend refused. */
void backend_invalid(struct backend_port *p, enum backend_op op) loop_fn;

/* From now on what is held, and what would be, fails with -ESHUTDOWN. */
void backend_port_stop(struct backend_port *p) loop_fn;

/* Any thread: */
enum backend_status backend_status(const struct backend *b);
/* The reason is said to be gone: status ok, what is held is tried again. */
void backend_resume(struct backend *b);
/* Sums over all ports, also those that are gone. */
void backend_stats(struct backend *b, struct backend_stats *stats);

#endif
