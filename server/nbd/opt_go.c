/* SPDX-License-Identifier: MIT */
/*
 * opt_go.c - INFO and GO: what an export is, and the way into transmission.
 *
 * Both answer alike; the facts come from what is constant while the server
 * runs, so a GO after an INFO repeats them.
 * Source: NBD protocol, NBD_OPT_INFO, NBD_OPT_GO, "Size constraints".
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "handshake.h"
#include "server/log.h"

/* What a client may wish for; EXPORT and BLOCK_SIZE it gets in any case. */
struct wishes {
	uint32_t name_len;
	bool name, description, sizes;
};

/* Reads the option's data; 0, -EBADMSG, or the transport's error. */
static int co_fn
read_wishes(struct handshake *h, struct wishes *w)
{
	struct wire wire;
	uint16_t n;

	*w = (struct wishes){ 0 };
	wire_init(&wire, &h->conn->chan, h->opt.len);
	w->name_len = handshake_co_name(h, &wire);
	n = wire_co_u16(&wire);
	for (unsigned i = 0; i < n && !wire.is_short && wire.error == 0; i++) {
		uint16_t info = wire_co_u16(&wire);

		w->name |= info == NBD_INFO_NAME;
		w->description |= info == NBD_INFO_DESCRIPTION;
		w->sizes |= info == NBD_INFO_BLOCK_SIZE;
	}
	return wire_co_end(&wire);
}

static int co_fn
info_export(struct handshake *h, const struct export *exp)
{
	uint8_t body[12];

	put_be16(body, NBD_INFO_EXPORT);
	put_be64(body + 2, exp->size_bytes);
	put_be16(body + 10, handshake_tflags(h, exp));
	return handshake_co_item(h, NBD_REP_INFO, body, sizeof(body));
}

static int co_fn
info_block_size(struct handshake *h, const struct export *exp)
{
	struct block_sizes sizes = export_sizes_for(exp, h->asked_sizes);
	uint8_t body[14];

	put_be16(body, NBD_INFO_BLOCK_SIZE);
	put_be32(body + 2, sizes.minimum);
	put_be32(body + 6, sizes.preferred);
	put_be32(body + 10, sizes.maximum);
	return handshake_co_item(h, NBD_REP_INFO, body, sizeof(body));
}

/* NAME and DESCRIPTION: a type and a string. */
static int co_fn
info_string(struct handshake *h, enum nbd_info type, const char *text)
{
	uint8_t header[NBD_OPTION_REPLY_BYTES + 2];
	size_t len = strlen(text);
	int ret;

	nbd_option_reply_encode(header, h->opt.number, NBD_REP_INFO, (uint32_t)(2 + len));
	put_be16(header + NBD_OPTION_REPLY_BYTES, (uint16_t)type);
	ret = handshake_co_raw(h, header, sizeof(header));
	return ret < 0 ? ret : handshake_co_raw(h, text, len);
}

static int co_fn
send_infos(struct handshake *h, const struct export *exp, const struct wishes *w)
{
	int ret;

	if ((ret = info_export(h, exp)) < 0 || (ret = info_block_size(h, exp)) < 0 ||
	    (w->name && (ret = info_string(h, NBD_INFO_NAME, exp->name)) < 0) ||
	    (w->description && exp->description[0] &&
	     (ret = info_string(h, NBD_INFO_DESCRIPTION, exp->description)) < 0))
		return ret;
	return handshake_co_ack(h);
}

int
opt_co_info_or_go(struct handshake *h)
{
	const char *opt_name = nbd_opt_name(h->opt.number);
	char quoted[LOG_QUOTE_MAX];
	struct export *exp;
	struct wishes w;
	struct err err;
	int ret = read_wishes(h, &w);

	if (ret < 0 && ret != -EBADMSG)
		return ret;
	if (ret == -EBADMSG)
		return handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "the lengths in %s do not fit its %u bytes", opt_name,
					  h->opt.len);
	exp = handshake_co_find(h, w.name_len, &ret);
	if (!exp)
		return ret;
	h->asked_sizes = w.sizes;
	if (h->opt.number == NBD_OPT_INFO)
		return send_infos(h, exp, &w);

	ret = handshake_choose(h, exp, &err);
	if (ret == -EACCES)
		return handshake_co_error(h, NBD_REP_ERR_POLICY, "%s", err.text);
	if (ret < 0) {
		conn_log_handshake(h->conn, "export refused export=%s reason=\"%s\"",
				   log_quote(quoted, h->name, w.name_len), err.text);
		if (ret == -EBUSY)
			return handshake_co_error(h, NBD_REP_ERR_POLICY, "%s", err.text);
		return handshake_co_error(h, NBD_REP_ERR_PLATFORM,
					  "the server cannot use the export's device now");
	}
	ret = send_infos(h, exp, &w);
	return ret < 0 ? ret : HANDSHAKE_DONE;
}
