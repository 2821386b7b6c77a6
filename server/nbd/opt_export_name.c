/* SPDX-License-Identifier: MIT */
/*
 * opt_export_name.c - EXPORT_NAME: the option without an error reply. Whatever
 * cannot be satisfied ends the connection.
 * Source: NBD protocol, NBD_OPT_EXPORT_NAME.
 */
#include <errno.h>

#include "base/endian.h"
#include "handshake.h"
#include "server/log.h"

static int
refuse(struct handshake *h, uint32_t len, const char *why)
{
	char quoted[LOG_QUOTE_MAX];

	conn_log_handshake(h->conn, "export refused export=%s reason=\"%s\"",
			   log_quote(quoted, h->name, len), why);
	h->conn->end_logged = true;
	return -EACCES;
}

/* Size and flags, then the zeroes of old unless both sides do without. */
static int co_fn
answer(struct handshake *h)
{
	uint8_t reply[NBD_EXPORT_NAME_REPLY_BYTES + NBD_EXPORT_NAME_ZEROES] = { 0 };
	int ret;

	put_be64(reply, h->conn->limits.size_bytes);
	put_be16(reply + 8, h->conn->limits.tflags);
	ret = handshake_co_raw(h, reply,
			       h->no_zeroes ? NBD_EXPORT_NAME_REPLY_BYTES : sizeof(reply));
	return ret < 0 ? ret : handshake_co_flush(h);
}

int
opt_co_export_name(struct handshake *h)
{
	uint32_t len = h->opt.len;
	struct export *exp;
	struct err err;
	int ret;

	if (len > LIMIT_STRING_BYTES)
		return -EMSGSIZE;
	ret = chan_co_read(&h->conn->chan, h->name, len, CHAN_INSIDE);
	if (ret < 0)
		return ret;
	/* Spec: MUST NOT. */
	if (h->conn->agreed.headers == NBD_EXTENDED)
		return refuse(h, len, "it was asked for with EXPORT_NAME after EXTENDED_HEADERS");
	if (!nbd_string_ok(h->name, len))
		return refuse(h, len, "the name is not UTF-8 without NUL");
	h->asked_sizes = false;
	ret = handshake_find(h, len, &exp);
	if (ret == -ENOENT)
		return refuse(h, len, conn_tls(h->conn) && !h->conn->chan.tls ?
					      "there is no such export without TLS" :
					      "there is no such export");
	if (ret == 0)
		ret = handshake_choose(h, exp, &err);
	if (ret == -EACCES) {
		h->conn->end_logged = true;
		return ret;
	}
	if (ret < 0)
		return refuse(h, len, err.text);
	ret = answer(h);
	return ret < 0 ? ret : HANDSHAKE_DONE;
}
