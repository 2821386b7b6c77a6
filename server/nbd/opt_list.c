/* SPDX-License-Identifier: MIT */
/*
 * opt_list.c - LIST: every export that exists for this client, under its own
 * name, with its description.
 * Source: NBD protocol, NBD_OPT_LIST, NBD_REP_SERVER.
 */
#include <string.h>

#include "base/endian.h"
#include "handshake.h"

static int co_fn
list_item(struct handshake *h, const struct export *exp)
{
	size_t name_len = strlen(exp->name), description_len = strlen(exp->description);
	uint8_t header[NBD_OPTION_REPLY_BYTES + 4];
	int ret;

	nbd_option_reply_encode(header, h->opt.number, NBD_REP_SERVER,
				(uint32_t)(4 + name_len + description_len));
	put_be32(header + NBD_OPTION_REPLY_BYTES, (uint32_t)name_len);
	if ((ret = handshake_co_raw(h, header, sizeof(header))) < 0 ||
	    (ret = handshake_co_raw(h, exp->name, name_len)) < 0)
		return ret;
	return handshake_co_raw(h, exp->description, description_len);
}

int
opt_co_list(struct handshake *h)
{
	const struct export_set *set = h->conn->exports;
	int ret = chan_co_skip(&h->conn->chan, h->opt.len);

	if (ret < 0)
		return ret;
	if (h->opt.len > 0)
		return handshake_co_error(h, NBD_REP_ERR_INVALID, "LIST takes no data");
	handshake_renew(h);
	for (unsigned i = 0; i < set->count; i++) {
		if (handshake_right(h, &set->exports[i]) == ACCESS_NONE)
			continue;
		ret = list_item(h, &set->exports[i]);
		if (ret < 0)
			return ret;
	}
	return handshake_co_ack(h);
}
