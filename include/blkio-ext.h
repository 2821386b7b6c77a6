/* SPDX-License-Identifier: MIT */
/*
 * blkio-ext.h - what this library adds to the interface of blkio.h.
 *
 * 1. Extensions are properties whose names begin with "x-". A library without
 *    one answers -ENOENT to its name, so a client can ask any library.
 * 2. There are no extension functions: what is here works through a shared
 *    library that exports nothing beyond blkio.h.
 */
#ifndef BLKIO_EXT_H
#define BLKIO_EXT_H

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

#endif
