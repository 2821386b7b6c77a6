/* SPDX-License-Identifier: MIT */
/*
 * request.h - one command of a client: judged, then executed.
 *
 * 1. request_check() is pure and sees only what the client sent and what the
 *    export is; request_main() trusts its verdict and asserts it.
 * 2. A request is one of its connection's slots. It owns its payload buffer
 *    from buf_co_get() until the reply that needs it is sent, or until it
 *    failed.
 */
#ifndef NBD_REQUEST_H
#define NBD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "blk/buf.h"
#include "proto.h"

struct conn;
struct export;

struct request {
	struct conn *conn;
	struct list link; /* on the connection's free slots, or its replies */
	struct nbd_request nbd;
	struct buf buf;
	bool sends_data; /* the reply is followed by the buffer */
	uint8_t reply[NBD_SIMPLE_REPLY_BYTES];
};

/* What a verdict depends on; constant for a connection in transmission. */
struct request_limits {
	uint64_t size_bytes;
	uint64_t alignment; /* of offset and length, power of two */
	uint16_t tflags;    /* transmission flags that were advertised */
};

struct request_verdict {
	int ret;		/* 0, or -errno: refuse it */
	uint32_t payload_bytes; /* that follow the header in either case */
	uint32_t buffer_bytes;	/* memory it needs to be executed */
};

/*
 * Judges REQ. When several faults apply the first of this order counts:
 * command, flags, read-only, range, alignment, size.
 * Source: NBD protocol, "Error values" and each command's section.
 */
struct request_verdict request_check(const struct request_limits *limits,
				     const struct nbd_request *req);

/* Counts a request of an export that was refused. */
void request_count_refused(const struct request *req) loop_fn;

/* The coroutine of a request that passed; ARG is the struct request. */
void request_main(void *arg);

#endif
