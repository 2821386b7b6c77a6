/* SPDX-License-Identifier: MIT */
/*
 * blkio.h - block devices behind one request interface: properties, queues,
 * completions.
 *
 * The interface is source- and ABI-compatible with libblkio 1.5: the same
 * functions, structures and numbers. blkio(3) is its manual; what goes beyond
 * it is in blkio-ext.h.
 *
 * 1. A struct blkio is created, connected, started, in that order and never
 *    back. A failed connect or start leaves the state as it was and may be
 *    repeated, with other property values too.
 * 2. Functions that return int give a value >= 0, or a negative errno; then
 *    blkio_get_error_msg() says more.
 * 3. A request function returns nothing: each request, however wrong, gives
 *    exactly one completion. Early failures come before finished I/O.
 * 4. Buffers and iovec arrays belong to the library from the request to its
 *    completion.
 *
 * Threads: one queue is used by one thread at a time, different queues by
 * different threads at once. Calls on one struct blkio (properties, regions,
 * adding and removing queues) must not overlap each other; mapping a region
 * may overlap requests that do not touch it.
 *
 * Offsets and lengths are bytes.
 */
#ifndef BLKIO_H
#define BLKIO_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h> /* sigset_t, in strict C99 too */
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

struct timespec; /* strict C99 has it in no header */
struct blkio;    /* one device */
struct blkioq;   /* one queue of a device; dies with it or when removed */

/* Memory that the device may be told of in advance. */
struct blkio_mem_region {
	void *addr;        /* start, a multiple of "mem-region-alignment" */
	size_t len;        /* bytes, a multiple of "mem-region-alignment" */
	uint64_t iova;     /* reserved, 0 */
	int64_t fd_offset; /* where in fd the region begins, bytes */
	int fd;            /* file behind the memory, -1 if there is none */
	uint32_t flags;    /* reserved, 0 */
};

/* How one request ended. */
struct blkio_completion {
	void *user_data;       /* as given with the request */
	const char *error_msg; /* constant text or NULL */
	int ret;               /* >= 0, or a negative errno */
	uint8_t reserved_[12]; /* 0 */
};

/* Request flags. */
enum {
	BLKIO_REQ_FUA = 1 << 0,         /* on stable storage before the completion */
	BLKIO_REQ_NO_UNMAP = 1 << 1,    /* write zeroes: keep the blocks allocated */
	BLKIO_REQ_NO_FALLBACK = 1 << 2, /* write zeroes: fail rather than write them */
};

/* struct blkio_zone: zone_type. */
enum {
	BLKIO_ZONE_TYPE_CONVENTIONAL = 0x1,
	BLKIO_ZONE_TYPE_SEQWRITE_REQ = 0x2,
	BLKIO_ZONE_TYPE_SEQWRITE_PREF = 0x3,
};

/* struct blkio_zone: zone_state. */
enum {
	BLKIO_ZONE_STATE_EMPTY = 0x1,
	BLKIO_ZONE_STATE_IMP_OPEN = 0x2,
	BLKIO_ZONE_STATE_EXP_OPEN = 0x3,
	BLKIO_ZONE_STATE_CLOSED = 0x4,
	BLKIO_ZONE_STATE_READONLY = 0xD,
	BLKIO_ZONE_STATE_FULL = 0xE,
	BLKIO_ZONE_STATE_OFFLINE = 0xF,
};

/* One zone of a zoned device, as blkioq_report_zones() tells of it. */
struct blkio_zone {
	uint64_t start;         /* offset of the zone, bytes */
	uint64_t len;           /* to the start of the next zone, bytes */
	uint64_t capacity;      /* of it usable, bytes */
	uint64_t write_pointer; /* offset of the next write, bytes */
	uint8_t zone_type;
	uint8_t zone_state;
	uint8_t reset;          /* the device recommends a reset */
	uint8_t reserved_[29];
};

/* --- Handles -------------------------------------------------------------- */

/*
 * Text of this thread's last failure, at most 255 bytes, "" before the first.
 * Never NULL; valid until this thread's next failing call.
 */
const char *blkio_get_error_msg(void);

/*
 * Makes a handle for DRIVER ("io_uring", "mem") and stores it in *BP; touches
 * no device. *BP is NULL on failure. -ENOENT: no such driver; -EINVAL: BP or
 * the name is no good; -ENOMEM.
 */
int blkio_create(const char *driver, struct blkio **bp);

/*
 * Opens the device that the properties describe; 0 when it is already
 * connected. -EBUSY: already started; else what the driver met. On failure
 * properties, and a file descriptor given as "fd", are still the caller's.
 */
int blkio_connect(struct blkio *b);

/*
 * Makes "num-queues" queues and "num-poll-queues" poll queues; 0 when already
 * started. -ENODEV: not connected; else what the driver met.
 */
int blkio_start(struct blkio *b);

/*
 * Waits for requests in flight, closes the device, frees its queues and
 * regions, and sets *BP to NULL. Completions not yet fetched are dropped.
 * BP and *BP may be NULL.
 */
void blkio_destroy(struct blkio **bp);

/* --- Properties ----------------------------------------------------------- */

/*
 * Reads a property. -ENOENT: no such name; -ENOTTY: it has another type;
 * -ENODEV: not known before blkio_connect(). *VALUE is false or 0 then.
 */
int blkio_get_bool(struct blkio *b, const char *name, bool *value);
int blkio_get_int(struct blkio *b, const char *name, int *value);
int blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value);

/*
 * Reads a property of any type as text, which the caller frees with free(3).
 * *VALUE is NULL on failure; errors as above and -ENOMEM.
 */
int blkio_get_str(struct blkio *b, const char *name, char **value);

/*
 * Sets a property. -ENOENT, -ENOTTY as above; -EACCES: it is read-only;
 * -EBUSY: too late in the device's life; -ENODEV: too early; -EINVAL: a value
 * that cannot be.
 */
int blkio_set_bool(struct blkio *b, const char *name, bool value);
int blkio_set_int(struct blkio *b, const char *name, int value);
int blkio_set_uint64(struct blkio *b, const char *name, uint64_t value);

/*
 * Sets a property of any type from text: "true" or "false", or a decimal
 * number. -EINVAL when it does not parse, which is looked at before -EACCES,
 * -EBUSY and -ENODEV.
 */
int blkio_set_str(struct blkio *b, const char *name, const char *value);

/* --- Memory regions ------------------------------------------------------- */

/*
 * Allocates LEN bytes of zeroed memory, page-aligned and backed by a file
 * descriptor that the library owns, from connected state on. -ENODEV: not connected;
 * -EINVAL: LEN is 0 or no multiple of "mem-region-alignment"; -ENOMEM.
 */
int blkio_alloc_mem_region(struct blkio *b, struct blkio_mem_region *region, size_t len);

/*
 * Gives back what blkio_alloc_mem_region() gave. A region that was not
 * allocated here, or that is still mapped, is left alone.
 */
void blkio_free_mem_region(struct blkio *b, const struct blkio_mem_region *region);

/*
 * Tells the started device of a region. -ENODEV: not connected; -EBUSY: not
 * started; -EINVAL: misaligned, known already, overlapping, or reserved fields
 * are set.
 */
int blkio_map_mem_region(struct blkio *b, const struct blkio_mem_region *region);

/* Takes that back; no request may use the region. Unknown ones are ignored. */
void blkio_unmap_mem_region(struct blkio *b, const struct blkio_mem_region *region);

/* --- Queues --------------------------------------------------------------- */

/*
 * The queue or poll queue INDEX (from 0, each kind for itself), or NULL when
 * there is none.
 */
struct blkioq *blkio_get_queue(struct blkio *b, int index);
struct blkioq *blkio_get_poll_queue(struct blkio *b, int index);

/*
 * Adds a queue to a started device and returns its index, the lowest free one.
 * -EBUSY: not started; -EOPNOTSUPP: the driver cannot; -EINVAL: no poll queues
 * on this device; else what the driver met.
 */
int blkio_add_queue(struct blkio *b);
int blkio_add_poll_queue(struct blkio *b);

/*
 * Waits for the queue's requests in flight, drops its completions and frees
 * it; other queues keep their index. -ENOENT: no such queue.
 */
int blkio_remove_queue(struct blkio *b, int index);
int blkio_remove_poll_queue(struct blkio *b, int index);

/*
 * An eventfd (non-blocking, close-on-exec) that becomes readable when requests
 * have finished and the fd is enabled; owned by the queue. -1 on poll queues.
 */
int blkioq_get_completion_fd(struct blkioq *q);

/*
 * Switches the completion fd on or off; a new queue has it off. Switching it
 * on while completions wait makes it readable. Readable without completions is
 * possible at any time.
 */
void blkioq_set_completion_fd_enabled(struct blkioq *q, bool enable);

/* --- Requests ------------------------------------------------------------- */

/*
 * Reads or writes LEN bytes at offset START. FLAGS: 0, for writes
 * BLKIO_REQ_FUA. The request starts with the next blkioq_do_io() at the latest.
 */
void blkioq_read(struct blkioq *q, uint64_t start, void *buf, size_t len, void *user_data,
		 uint32_t flags);
void blkioq_write(struct blkioq *q, uint64_t start, const void *buf, size_t len, void *user_data,
		  uint32_t flags);

/* The same for IOVCNT buffers; the array, too, must stay until the completion. */
void blkioq_readv(struct blkioq *q, uint64_t start, const struct iovec *iovec, int iovcnt,
		  void *user_data, uint32_t flags);
void blkioq_writev(struct blkioq *q, uint64_t start, struct iovec *iovec, int iovcnt,
		   void *user_data, uint32_t flags);

/* Makes LEN bytes at START read as zeroes. FLAGS: any of the three. */
void blkioq_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
			 uint32_t flags);

/* Tells the device that the contents of a range are not needed any more. */
void blkioq_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		    uint32_t flags);

/* Everything whose completion was fetched before is on stable storage after. */
void blkioq_flush(struct blkioq *q, void *user_data, uint32_t flags);

/*
 * Zoned devices. report_zones fills ZONES from the zone that holds OFFSET on
 * and completes with the number of zones; the others act on the zone at OFFSET
 * or on all. -EOPNOTSUPP completions from drivers without zones.
 */
void blkioq_report_zones(struct blkioq *q, uint64_t offset, struct blkio_zone *zones,
			 uint32_t nr_zones, void *user_data, uint32_t flags);
void blkioq_close_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags);
void blkioq_finish_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags);
void blkioq_open_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags);
void blkioq_reset_zone(struct blkioq *q, uint64_t offset, void *user_data, uint32_t flags);
void blkioq_close_all_zones(struct blkioq *q, void *user_data, uint32_t flags);
void blkioq_finish_all_zones(struct blkioq *q, void *user_data, uint32_t flags);
void blkioq_open_all_zones(struct blkioq *q, void *user_data, uint32_t flags);
void blkioq_reset_all_zones(struct blkioq *q, void *user_data, uint32_t flags);

/*
 * Submits what was requested, waits until at least MIN_COMPLETIONS requests
 * have finished, and stores at most MAX_COMPLETIONS of them; returns how many.
 * TIMEOUT (NULL: none) bounds the wait and becomes the time that was left.
 * Signals do not end the wait.
 *
 * -ETIME: the time is over, with fewer than MIN_COMPLETIONS finished; they are
 * kept for the next call. -EINVAL: an argument that cannot be, or
 * MIN_COMPLETIONS is more than there are outstanding requests.
 */
int blkioq_do_io(struct blkioq *q, struct blkio_completion *completions, int min_completions,
		 int max_completions, struct timespec *timeout);

/*
 * The same, but a signal ends the wait with -EINTR. SIG, unless NULL, is the
 * thread's signal mask during the wait. -EOPNOTSUPP on poll queues.
 */
int blkioq_do_io_interruptible(struct blkioq *q, struct blkio_completion *completions,
			       int min_completions, int max_completions,
			       struct timespec *timeout, const sigset_t *sig);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
