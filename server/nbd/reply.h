/* SPDX-License-Identifier: MIT */
/*
 * reply.h - from results to bytes, many at a time.
 *
 * 1. A reply is one piece that goes out: a simple reply, or one chunk of a
 *    structured or extended one. Every request that was started, and every one
 *    that was refused, has exactly one last reply, which is a member of it; its
 *    slot is free again when that has been sent, or when it became clear that it
 *    never will be.
 * 2. Chunks before the last are of the connection's spare ones. Who finds none
 *    waits until the client has taken some: that bounds what a request of many
 *    chunks can queue.
 * 3. What is queued in one turn leaves in one send. While a send is under way
 *    more may queue up: batching by being busy, never by a timer.
 * 4. Nothing is encoded before it is sent: a queued reply is a few facts, and
 *    headers and texts of errors have one place per connection.
 * 5. The memory of data must stay until the last reply of the request is sent:
 *    it belongs to the request's buffer.
 *
 * Source: NBD protocol, "Simple reply message", "Structured reply chunk
 * message", "Extended reply chunk message", "Structured reply types".
 */
#ifndef NBD_REPLY_H
#define NBD_REPLY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/annotate.h"
#include "base/list.h"
#include "proto.h"

struct conn;
struct request;

struct reply {
	struct list link; /* of conn->replies, or of conn->spare_replies */
	struct request *req;
	uint16_t type; /* enum nbd_reply_type; a simple reply only has its errors */
	bool last;
	int ret;	 /* of an error: -errno */
	uint64_t offset; /* of data, holes, ERROR_OFFSET */
	uint32_t length; /* of a hole */
	struct iovec one; /* data in one piece; iov points here */
	const struct iovec *iov; /* what follows the header; or NULL */
	int iovcnt;
};

/* --- The last reply; the request is the writer's from then on ---------------- */

/* The result is all there is to say: RET is 0 or -errno. */
void reply_queue(struct request *req, int ret) loop_fn;
/* ... and it was met at OFFSET, which lies in the request. Chunks only. */
void reply_queue_error_at(struct request *req, int ret, uint64_t offset) loop_fn;
/* The whole buffer of a READ. */
void reply_queue_buffer(struct request *req) loop_fn;
/* TYPE with LEN bytes of DATA; OFFSET of OFFSET_DATA. Chunks only. */
void reply_queue_data(struct request *req, enum nbd_reply_type type, uint64_t offset, void *data,
		      size_t len) loop_fn;
/* LEN zeroes at OFFSET, 0 < LEN < 2^32. Chunks only. */
void reply_queue_hole(struct request *req, uint64_t offset, uint64_t len) loop_fn;

/* --- Chunks before the last; these may wait, and fail when the client is gone -- */

int reply_co_data(struct request *req, enum nbd_reply_type type, uint64_t offset, void *data,
		  size_t len) co_fn;
int reply_co_hole(struct request *req, uint64_t offset, uint64_t len) co_fn;

/* --- The writer -------------------------------------------------------------- */

/* The connection's writer coroutine; ends after reply_finish(). ARG: the conn. */
void reply_writer(void *arg);

/* Nothing more will be queued: lets the writer send what is there and end. */
void reply_finish(struct conn *conn) loop_fn;

#endif
