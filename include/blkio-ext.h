/* SPDX-License-Identifier: MIT */
/*
 * blkio-ext.h - what this library adds to the interface of blkio.h.
 *
 * 1. Extensions are properties whose names begin with "x-", and functions whose
 *    names begin with "blkioq_ext_". A library without a property answers
 *    -ENOENT to its name, so a client can ask any library.
 * 2. The functions are in the static library alone; a shared one exports
 *    nothing beyond blkio.h. A client that is to link with any library refers
 *    to them weakly and looks whether they are there.
 */
#ifndef BLKIO_EXT_H
#define BLKIO_EXT_H

#include <stdint.h>

struct blkioq;

/*
 * bool, io_uring; set before start; default false.
 *
 * A read that reaches the end of a regular file fails with -EIO, instead of
 * filling the rest with zeroes. For servers that have announced a size: a file
 * that shrinks behind their back must not answer with invented data.
 */
#define BLKIO_EXT_STRICT_EOF "x-strict-eof"

/*
 * bool, io_uring; set between connect and start; default false.
 *
 * Each queue belongs to the thread of its first blkioq_do_io(): only that
 * thread may call it, in exchange for cheaper completions. Another thread gets
 * -EEXIST. The queues may be made by any thread, and, once their requests
 * have finished, be destroyed by any thread. If there are requests left then
 * that only their own thread could finish, destroying waits for five seconds.
 * Kernels that cannot do it ignore the wish.
 */
#define BLKIO_EXT_SINGLE_ISSUER "x-single-issuer"

/*
 * bool, io_uring; set before start; default false.
 *
 * Each queue registers a mapped memory region with the kernel at its first
 * request from it, which makes requests from it cheaper. Registered memory is
 * pinned: pages must not be taken out of a mapped region (MADV_DONTNEED, hole
 * punching) while it is mapped. "may-pin-mem-regions" says the same as this
 * property. What the kernel refuses to pin is used as before.
 */
#define BLKIO_EXT_PIN_MEM_REGIONS "x-pin-mem-regions"

/*
 * int, read-only, from connect on.
 *
 * Write zeroes are cheap, or done without falling back to writing, in whole
 * units of this many bytes. A multiple of "request-alignment", or 0: none
 * beyond that. Drivers that split a request themselves do not have it.
 */
#define BLKIO_EXT_ZERO_ALIGNMENT "x-write-zeroes-alignment"

/*
 * bool, io_uring; set before connect; default false.
 *
 * With "direct" a file whose size is no multiple of "request-alignment" ends in
 * a block that direct I/O can neither read nor write to the byte: a write of
 * all of it would make the file longer. With this property the end of such a
 * file, its tail, goes through the page cache instead, to the byte.
 *
 * A request lies below the tail or in it; one that does both is -EINVAL, and
 * so is one beyond the end: the file does not grow, and "capacity" is what it
 * was at connect. Poll queues do not serve the tail. It has no effect on block
 * devices and without "direct".
 */
#define BLKIO_EXT_BUFFERED_TAIL "x-buffered-tail"

/*
 * u64, read-only, from connect on.
 *
 * Where the tail begins, a multiple of "request-alignment"; UINT64_MAX if there
 * is none.
 */
#define BLKIO_EXT_TAIL_START "x-tail-start"

/* What a part of a device holds. No flag: data, or not known. */
enum {
	BLKIO_EXT_HOLE = 1 << 0, /* it has no storage of its own */
	BLKIO_EXT_ZERO = 1 << 1, /* it reads as zeroes */
};

struct blkio_ext_extent {
	uint64_t len;   /* bytes, above 0 */
	uint32_t flags; /* BLKIO_EXT_* */
};

/*
 * Tells what [START, START + LEN) holds, from START on: *EXTENT is at most LEN
 * bytes long, and may be shorter than what is alike.
 *
 * It is synchronous, and may block for as long as the file system looks. Writes
 * that have completed before the call are seen. Of one that runs meanwhile each
 * byte is told as it was at some moment of the call, like a read does.
 *
 * 0, or a negative errno without message: -ENOTSUP, the driver or the target
 * cannot tell; -EINVAL, LEN is 0 or the range cannot be; -EIO, START is beyond
 * the end of the file and "x-strict-eof" is set.
 */
int blkioq_ext_status(struct blkioq *q, uint64_t start, uint64_t len,
		      struct blkio_ext_extent *extent);

/*
 * Takes back from the kernel what makes requests of Q cheaper and would keep a
 * file, or a file system, busy for a while after the device is destroyed, which
 * comes next: the queue takes no more requests. Only when nothing is outstanding;
 * for the thread that the queue belongs to ("x-single-issuer").
 */
void blkioq_ext_let_go(struct blkioq *q);

#endif
