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
#include "context.h"
#include "proto.h"
#include "reply.h"

struct conn;
struct export;

/* The text of an error, for people; without the NUL. */
#define REQUEST_TEXT_MAX 160

/* Why a request is refused: what the text of its error says. */
enum request_fault {
	REQUEST_FINE, /* or it failed later: at the device, for want of memory */
	REQUEST_COMMAND,
	REQUEST_FLAGS,
	REQUEST_READ_ONLY,
	REQUEST_NOT_OFFERED,
	REQUEST_ARGUMENTS,
	REQUEST_NO_CONTEXT,
	REQUEST_RANGE,
	REQUEST_EMPTY,
	REQUEST_ALIGNMENT,
	REQUEST_TOO_LONG,
	REQUEST_PAYLOAD,
};

struct request {
	struct conn *conn;
	struct list link; /* on the connection's free slots */
	struct nbd_request nbd;
	enum request_fault fault;
	bool chunked;	   /* some of its reply is queued already */
	uint32_t contexts; /* of a BLOCK_STATUS: bits of context.h */
	struct buf buf;
	struct reply last;
};

/* What a verdict depends on; constant for a connection in transmission. */
struct request_limits {
	uint64_t size_bytes;
	uint64_t alignment; /* of offset and length, power of two; the end is fine, too */
	uint32_t payload_max; /* that was advertised: what one chunk may hold */
	uint16_t tflags;    /* transmission flags that were advertised */
	enum nbd_headers headers;
	uint32_t contexts; /* that were agreed on for this export: bits of context.h */
};

struct request_verdict {
	int ret;		/* 0, or -errno: refuse it */
	enum request_fault fault;
	uint64_t payload_bytes; /* that follow the header in either case */
	uint32_t buffer_bytes;	/* memory it needs to be executed */
};

/*
 * Judges REQ. When several faults apply the first of this order counts:
 * command, flags, read-only, range, alignment, size. The range of a BLOCK_STATUS
 * with PAYLOAD_LEN is in its payload; what is judged is only the payload's
 * length. See request_status_payload().
 * Source: NBD protocol, "Error values" and each command's section.
 */
struct request_verdict request_check(const struct request_limits *limits,
				     const struct nbd_request *req);

/* The longest payload of a BLOCK_STATUS that can be right. */
#define REQUEST_STATUS_PAYLOAD_MAX (8 + 4 * CONTEXTS_MAX)

/*
 * Makes of a BLOCK_STATUS with the LEN bytes of its PAYLOAD, whose contexts have
 * ids from ID_BASE on, one without: the range is REQ's, *CONTEXTS those it asks
 * for. False: a context that was not agreed on, or one named twice.
 * Source: NBD protocol, extended headers, NBD_CMD_BLOCK_STATUS.
 */
bool request_status_payload(const struct request_limits *limits, uint32_t id_base,
			    const uint8_t *payload, size_t len, struct nbd_request *req,
			    uint32_t *contexts);

/*
 * Says in words why REQ is answered with RET, in at most SIZE bytes of UTF-8
 * without a NUL at the end; how many.
 */
size_t request_explain(const struct request *req, int ret, char *text, size_t size);

/* Counts a request of an export that was refused. */
void request_count_refused(const struct request *req) loop_fn;

/* The coroutine of a request that passed; ARG is the struct request. */
void request_main(void *arg);

/* --- For the commands with files of their own (read.c, status.c) -------------- */

/* Ends a request with a result: logs a failure, queues the last reply. */
void request_finish(struct request *req, int ret) loop_fn;

/* They queue every reply, the last one included. */
void read_co_main(struct request *req) co_fn;
void status_co_main(struct request *req) co_fn;

#endif
