/* SPDX-License-Identifier: MIT */
/*
 * opt_headers.c - STRUCTURED_REPLY and EXTENDED_HEADERS: how requests and
 * replies of the transmission will be framed.
 *
 *   SIMPLE --STRUCTURED_REPLY--> STRUCTURED --EXTENDED_HEADERS--> EXTENDED
 *      \__________________EXTENDED_HEADERS_________________________/^
 *
 * Source: NBD protocol, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS.
 */
#include "handshake.h"

/* Refuses data, an agreement that exists, and structured replies after extended headers. */
static int co_fn
agree(struct handshake *h, enum nbd_headers headers)
{
	enum nbd_headers *agreed = &h->conn->agreed.headers;
	const char *name = nbd_opt_name(h->opt.number);
	int ret = chan_co_skip(&h->conn->chan, h->opt.len);

	if (ret < 0)
		return ret;
	if (h->opt.len > 0)
		return handshake_co_error(h, NBD_REP_ERR_INVALID, "%s takes no data", name);
	if (*agreed == headers)
		return handshake_co_error(h, NBD_REP_ERR_INVALID, "%s was agreed on before", name);
	if (*agreed > headers)
		return handshake_co_error(h, NBD_REP_ERR_EXT_HEADER_REQD,
					  "extended headers were agreed on, which have all that "
					  "%s is for",
					  name);
	*agreed = headers;
	return handshake_co_ack(h);
}

int
opt_co_structured_reply(struct handshake *h)
{
	return agree(h, NBD_STRUCTURED);
}

int
opt_co_extended_headers(struct handshake *h)
{
	return agree(h, NBD_EXTENDED);
}
