/* SPDX-License-Identifier: MIT */
/*
 * opt_meta.c - LIST_META_CONTEXT and SET_META_CONTEXT: which contexts there are,
 * and which ones BLOCK_STATUS is to tell of.
 *
 * The path: the queries are read one by one and become a set of contexts, which
 * counts only when the last byte of the option has checked out. SET replaces
 * what was selected before, also when it fails.
 *
 * Queries for what does not exist are no errors: they select nothing.
 * Source: NBD protocol, NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT,
 * "Metadata querying".
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/endian.h"
#include "context.h"
#include "handshake.h"

struct queries {
	uint32_t name_len; /* of the export; h->name has it unless it is too long */
	uint32_t count;
	bool listing;
	bool too_many; /* none of them was looked at */
	bool bad_text; /* one of them is no string of the protocol */
	uint32_t contexts; /* that they mean */
};

static void co_fn
read_query(struct handshake *h, struct wire *wire, struct queries *q)
{
	uint32_t len = wire_co_u32(wire);

	if (len > LIMIT_STRING_BYTES) {
		q->bad_text = true;
		wire_co_skip(wire, len);
		return;
	}
	wire_co_bytes(wire, h->query, len);
	if (nbd_string_ok(h->query, len))
		q->contexts |= context_match(h->query, len, q->listing);
	else
		q->bad_text = true;
}

/* Reads the option's data; 0, -EBADMSG, or the transport's error. */
static int co_fn
read_queries(struct handshake *h, struct queries *q)
{
	struct wire wire;

	*q = (struct queries){ .listing = h->opt.number == NBD_OPT_LIST_META_CONTEXT };
	wire_init(&wire, &h->conn->chan, h->opt.len);
	q->name_len = handshake_co_name(h, &wire);
	q->count = wire_co_u32(&wire);
	/* Each has four bytes at least: what cannot be there is no number of queries. */
	q->too_many = q->count > LIMIT_META_QUERIES && q->count <= wire.left / 4;
	if (q->too_many)
		wire_co_skip(&wire, wire.left);
	for (uint32_t i = 0; i < q->count && !q->too_many && !wire.is_short && !wire.error; i++)
		read_query(h, &wire, q);
	if (q->listing && q->count == 0)
		q->contexts = context_all();
	return wire_co_end(&wire);
}

/* One reply for each context; with LISTING their ids mean nothing and are 0. */
static int co_fn
send_contexts(struct handshake *h, uint32_t contexts, bool listing)
{
	const struct context *ctx;

	for (unsigned i = 0; (ctx = context_at(i)); i++) {
		uint32_t id = listing ? 0 : h->conn->agreed.context_id_base + i;
		uint8_t header[NBD_OPTION_REPLY_BYTES + 4];
		size_t len = strlen(ctx->name);
		int ret;

		if (!(contexts & UINT32_C(1) << i))
			continue;
		nbd_option_reply_encode(header, h->opt.number, NBD_REP_META_CONTEXT,
					(uint32_t)(4 + len));
		put_be32(header + NBD_OPTION_REPLY_BYTES, id);
		if ((ret = handshake_co_raw(h, header, sizeof(header))) < 0 ||
		    (ret = handshake_co_raw(h, ctx->name, len)) < 0)
			return ret;
	}
	return handshake_co_ack(h);
}

/* Takes what EXP's queries mean for what is selected. Ids are this selection's own. */
static void
select_contexts(struct handshake *h, const struct export *exp, uint32_t contexts)
{
	struct conn_agreed *agreed = &h->conn->agreed;

	agreed->contexts = contexts;
	agreed->context_export = exp;
	/* Whether it is random is of no consequence: it only keeps clients from relying on it. */
	if (getrandom(&agreed->context_id_base, sizeof(agreed->context_id_base), GRND_NONBLOCK) < 0)
		agreed->context_id_base = (uint32_t)h->conn->id;
}

int
opt_co_meta_context(struct handshake *h)
{
	const char *name = nbd_opt_name(h->opt.number);
	const struct export *exp;
	struct queries q;
	int ret = read_queries(h, &q);

	if (ret < 0 && ret != -EBADMSG)
		return ret;
	if (!q.listing)
		select_contexts(h, NULL, 0);
	if (ret == -EBADMSG)
		return handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "the lengths in %s do not fit its %u bytes", name,
					  h->opt.len);
	if (!q.listing && h->conn->agreed.headers == NBD_SIMPLE)
		return handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "%s needs structured replies or extended headers", name);
	if (q.too_many)
		return handshake_co_error(h, NBD_REP_ERR_TOO_BIG,
					  "%s has %u queries, but %u is the limit", name, q.count,
					  LIMIT_META_QUERIES);
	if (q.bad_text)
		return handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "a query is not UTF-8 without NUL of at most %u bytes",
					  LIMIT_STRING_BYTES);
	exp = handshake_co_find(h, q.name_len, &ret);
	if (!exp)
		return ret;
	if (!q.listing)
		select_contexts(h, exp, q.contexts);
	return send_contexts(h, q.contexts, q.listing);
}
