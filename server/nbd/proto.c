/* SPDX-License-Identifier: MIT */
/* proto.c - NBD messages from and to bytes; see proto.h. */
#include "proto.h"

#include <errno.h>
#include <string.h>

#include "base/annotate.h"
#include "base/endian.h"
#include "base/utf8.h"

bool
nbd_option_parse(const uint8_t bytes[NBD_OPTION_BYTES], struct nbd_option *opt)
{
	opt->number = get_be32(bytes + 8);
	opt->len = get_be32(bytes + 12);
	return get_be64(bytes) == NBD_OPTION_MAGIC;
}

size_t
nbd_request_bytes(enum nbd_headers headers)
{
	return headers == NBD_EXTENDED ? NBD_EXTENDED_REQUEST_BYTES : NBD_REQUEST_BYTES;
}

bool
nbd_request_parse(const uint8_t *bytes, enum nbd_headers headers, struct nbd_request *req)
{
	bool extended = headers == NBD_EXTENDED;

	req->flags = get_be16(bytes + 4);
	req->command = get_be16(bytes + 6);
	req->cookie = get_be64(bytes + 8);
	req->offset = get_be64(bytes + 16);
	req->length = extended ? get_be64(bytes + 24) : get_be32(bytes + 24);
	return get_be32(bytes) == (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
}

void
nbd_greeting_encode(uint8_t bytes[NBD_GREETING_BYTES], uint16_t flags)
{
	put_be64(bytes, NBD_MAGIC);
	put_be64(bytes + 8, NBD_OPTION_MAGIC);
	put_be16(bytes + 16, flags);
}

void
nbd_option_reply_encode(uint8_t bytes[NBD_OPTION_REPLY_BYTES], uint32_t option, uint32_t type,
			uint32_t len)
{
	put_be64(bytes, NBD_OPTION_REPLY_MAGIC);
	put_be32(bytes + 8, option);
	put_be32(bytes + 12, type);
	put_be32(bytes + 16, len);
}

void
nbd_simple_reply_encode(uint8_t bytes[NBD_SIMPLE_REPLY_BYTES], enum nbd_error error,
			uint64_t cookie)
{
	put_be32(bytes, NBD_SIMPLE_REPLY_MAGIC);
	put_be32(bytes + 4, error);
	put_be64(bytes + 8, cookie);
}

size_t
nbd_chunk_encode(uint8_t bytes[NBD_REPLY_BYTES_MAX], enum nbd_headers headers,
		 const struct nbd_chunk *chunk)
{
	bool extended = headers == NBD_EXTENDED;

	put_be32(bytes, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	put_be16(bytes + 4, chunk->done ? NBD_REPLY_FLAG_DONE : 0);
	put_be16(bytes + 6, chunk->type);
	put_be64(bytes + 8, chunk->cookie);
	if (!extended) {
		put_be32(bytes + 16, (uint32_t)chunk->length);
		return NBD_STRUCTURED_REPLY_BYTES;
	}
	put_be64(bytes + 16, chunk->offset);
	put_be64(bytes + 24, chunk->length);
	return NBD_EXTENDED_REPLY_BYTES;
}

enum nbd_error
nbd_error_of(int ret)
{
	switch (-ret) {
	case 0:
		return NBD_SUCCESS;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case ENOTSUP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

bool
nbd_string_ok(const void *text, size_t len)
{
	return !(len > 0 && memchr(text, 0, len)) && utf8_valid(text, len);
}

const char *
nbd_opt_name(uint32_t option)
{
	static const char *const names[] = {
		[NBD_OPT_EXPORT_NAME] = "EXPORT_NAME",
		[NBD_OPT_ABORT] = "ABORT",
		[NBD_OPT_LIST] = "LIST",
		[NBD_OPT_PEEK_EXPORT] = "PEEK_EXPORT",
		[NBD_OPT_STARTTLS] = "STARTTLS",
		[NBD_OPT_INFO] = "INFO",
		[NBD_OPT_GO] = "GO",
		[NBD_OPT_STRUCTURED_REPLY] = "STRUCTURED_REPLY",
		[NBD_OPT_LIST_META_CONTEXT] = "LIST_META_CONTEXT",
		[NBD_OPT_SET_META_CONTEXT] = "SET_META_CONTEXT",
		[NBD_OPT_EXTENDED_HEADERS] = "EXTENDED_HEADERS",
	};

	return option < ARRAY_SIZE(names) && names[option] ? names[option] : "unknown";
}

const char *
nbd_cmd_name(uint16_t command)
{
	static const char *const names[] = {
		[NBD_CMD_READ] = "READ",
		[NBD_CMD_WRITE] = "WRITE",
		[NBD_CMD_DISC] = "DISC",
		[NBD_CMD_FLUSH] = "FLUSH",
		[NBD_CMD_TRIM] = "TRIM",
		[NBD_CMD_CACHE] = "CACHE",
		[NBD_CMD_WRITE_ZEROES] = "WRITE_ZEROES",
		[NBD_CMD_BLOCK_STATUS] = "BLOCK_STATUS",
	};

	return command < ARRAY_SIZE(names) ? names[command] : "unknown";
}
