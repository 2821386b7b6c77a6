/* SPDX-License-Identifier: MIT */
/*
 * proto.h - the NBD protocol's numbers and messages, as bytes and as structs.
 *
 * Pure: no I/O, no state. Integers on the wire are big-endian.
 * Source: the NBD protocol document (doc/proto.md of the NBD project).
 */
#ifndef NBD_PROTO_H
#define NBD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_MAGIC 0x4e42444d41474943ull		 /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC 0x49484156454f5054ull	 /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC 0x0003e889045565a9ull
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efu
#define NBD_EXTENDED_REPLY_MAGIC 0x6e8a278cu

/* Bytes on the wire, without payload. */
#define NBD_GREETING_BYTES 18
#define NBD_OPTION_BYTES 16
#define NBD_OPTION_REPLY_BYTES 20
#define NBD_EXPORT_NAME_REPLY_BYTES 10
#define NBD_EXPORT_NAME_ZEROES 124
#define NBD_REQUEST_BYTES 28
#define NBD_EXTENDED_REQUEST_BYTES 32
#define NBD_REQUEST_BYTES_MAX NBD_EXTENDED_REQUEST_BYTES
#define NBD_SIMPLE_REPLY_BYTES 16
#define NBD_STRUCTURED_REPLY_BYTES 20
#define NBD_EXTENDED_REPLY_BYTES 32
#define NBD_REPLY_BYTES_MAX NBD_EXTENDED_REPLY_BYTES

/* Handshake flags of the server, and the client's answers: the same bits. */
enum {
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
};

/* Transmission flags. */
enum {
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_ROTATIONAL = 1 << 4,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
	NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

enum nbd_opt {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_PEEK_EXPORT = 4,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

enum nbd_rep {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_META_CONTEXT = 4,
};

/* Option reply errors; too large for an enum's int. */
#define NBD_REP_ERR(n) (0x80000000u | (n))
#define NBD_REP_ERR_UNSUP NBD_REP_ERR(1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR(2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR(3)
#define NBD_REP_ERR_PLATFORM NBD_REP_ERR(4)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR(5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR(6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR(7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD NBD_REP_ERR(8)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR(10)

enum nbd_info {
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

enum nbd_cmd {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum {
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
	NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

/* How requests and replies are framed: what has been negotiated. */
enum nbd_headers {
	NBD_SIMPLE,	/* compact requests, simple replies */
	NBD_STRUCTURED, /* compact requests, replies in chunks */
	NBD_EXTENDED,	/* extended requests, replies in extended chunks */
};

/* Chunks of structured and extended replies. */
enum nbd_reply_type {
	NBD_REPLY_NONE = 0,
	NBD_REPLY_OFFSET_DATA = 1,
	NBD_REPLY_OFFSET_HOLE = 2,
	NBD_REPLY_BLOCK_STATUS = 5,
	NBD_REPLY_BLOCK_STATUS_EXT = 6,
	NBD_REPLY_ERROR = 0x8001,
	NBD_REPLY_ERROR_OFFSET = 0x8002,
};

enum {
	NBD_REPLY_FLAG_DONE = 1 << 0,
};

/* Status flags of the context base:allocation. */
enum {
	NBD_STATE_HOLE = 1 << 0,
	NBD_STATE_ZERO = 1 << 1,
};

/* Errors of transmission replies: fixed numbers, whatever the host's are. */
enum nbd_error {
	NBD_SUCCESS = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

struct nbd_option {
	uint32_t number; /* enum nbd_opt, or anything */
	uint32_t len;	 /* bytes of data that follow */
};

struct nbd_request {
	uint16_t flags;	  /* NBD_CMD_FLAG_* */
	uint16_t command; /* enum nbd_cmd, or anything */
	uint64_t cookie;  /* the client's; copied back bit for bit */
	uint64_t offset;  /* bytes */
	uint64_t length;  /* bytes: payload of a WRITE, else the range */
};

struct nbd_chunk {
	bool done;     /* the last of its reply */
	uint16_t type; /* enum nbd_reply_type */
	uint64_t cookie, offset; /* of the request */
	uint64_t length; /* bytes that follow the header */
};

/* False: not the magic, the stream cannot be followed any more. */
bool nbd_option_parse(const uint8_t bytes[NBD_OPTION_BYTES], struct nbd_option *opt);
/* BYTES: nbd_request_bytes() of them. */
bool nbd_request_parse(const uint8_t *bytes, enum nbd_headers headers, struct nbd_request *req);
size_t nbd_request_bytes(enum nbd_headers headers);

void nbd_greeting_encode(uint8_t bytes[NBD_GREETING_BYTES], uint16_t flags);
void nbd_option_reply_encode(uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option, uint32_t type,
			     uint32_t len);
void nbd_simple_reply_encode(uint8_t bytes[NBD_SIMPLE_REPLY_BYTES], enum nbd_error error,
			     uint64_t cookie);
/* The header of a chunk, HEADERS being structured or extended; its length in bytes. */
size_t nbd_chunk_encode(uint8_t bytes[NBD_REPLY_BYTES_MAX], enum nbd_headers headers,
			const struct nbd_chunk *chunk);

/*
 * The one place where an errno of ours becomes a protocol error. RET is 0 or
 * -errno. What has no code of its own is EIO: a medium's error must not look
 * like a client's mistake.
 */
enum nbd_error nbd_error_of(int ret);

/* A protocol string: UTF-8 (RFC 3629), no NUL. Length is the caller's to check. */
bool nbd_string_ok(const void *text, size_t len);

/* For logs; "unknown" for what is not in the enum. */
const char *nbd_opt_name(uint32_t option);
const char *nbd_cmd_name(uint16_t command);

#endif
