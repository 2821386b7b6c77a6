/* SPDX-License-Identifier: MIT */
/*
 * exchange.c - a second opinion on the transmission; see exchange.h.
 *
 * The path: exchange_read() finds the requests in the script, exchange_sent()
 * notes when each has been sent; exchange_received() cuts the server's bytes
 * into replies and chunks, take_one(), and holds each against its request.
 */
#include "exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/range.h"
#include "base/utf8.h"
#include "server/limits.h"

/* Chunks of a READ, and extents, meet at multiples of it. */
#define SECTOR 512u
/* A compact extent that goes on is cut there. */
#define COMPACT_MAX (UINT64_C(1) << 31)

static bool
chunked(const struct exchange *x)
{
	return x->limits.headers != NBD_SIMPLE;
}

static bool
extended(const struct exchange *x)
{
	return x->limits.headers == NBD_EXTENDED;
}

/* --- Data -------------------------------------------------------------------- */

/* What write number K puts at OFF. */
static uint8_t
pattern(unsigned k, uint64_t off)
{
	return (uint8_t)(k * 61 + off * 7 + (off >> 8) * 13 + 1);
}

static const struct exchange_request *
writer(const struct exchange *x, unsigned k)
{
	return &x->requests[x->writes[k]];
}

static bool
has_byte(const struct exchange_request *w, uint64_t off)
{
	return off - w->nbd.offset < w->nbd.length;
}

/* Whether a read that began at SINCE cannot show write K at OFF (0: what was there first). */
static bool
is_overwritten(const struct exchange *x, unsigned k, uint64_t off, uint64_t since)
{
	for (unsigned i = 1; i <= x->nwrites; i++) {
		const struct exchange_request *later = writer(x, i);

		if (i == k || !has_byte(later, off) || later->nbd.command == NBD_CMD_TRIM ||
		    !later->answered_at || !later->succeeded || later->answered_at > since)
			continue;
		if (k == 0 ||
		    (writer(x, k)->answered_at && writer(x, k)->answered_at < later->sent_at))
			return true;
	}
	return false;
}

/* Writes that may be seen at OFF by a read that began at SINCE; how many. */
static unsigned
visible(const struct exchange *x, uint64_t off, uint64_t since, unsigned *writes)
{
	unsigned n = 0;

	if (!is_overwritten(x, 0, off, since))
		writes[n++] = 0;
	for (unsigned k = 1; k <= x->nwrites; k++)
		if (writer(x, k)->sent_at && has_byte(writer(x, k), off) &&
		    !is_overwritten(x, k, off, since))
			writes[n++] = k;
	return n;
}

/* The next byte after OFF where another set of writes begins, or END. */
static uint64_t
next_border(const struct exchange *x, uint64_t off, uint64_t end)
{
	for (unsigned k = 1; k <= x->nwrites; k++) {
		uint64_t from = writer(x, k)->nbd.offset, to = from + writer(x, k)->nbd.length;

		if (from > off)
			end = MIN(end, from);
		if (to > off)
			end = MIN(end, to);
	}
	return end;
}

/* How many of LEN bytes of DATA (or zeroes) at OFF are what write K has put there. */
static uint64_t
matching(const struct exchange *x, unsigned k, uint64_t off, const uint8_t *data, uint64_t len)
{
	bool zeroes = k == 0 || writer(x, k)->nbd.command != NBD_CMD_WRITE || writer(x, k)->zeroes;
	uint64_t n = 0;

	if (zeroes && !data)
		return len;
	while (n < len && (data ? data[n] : 0) == (zeroes ? 0 : pattern(k, off + n)))
		n++;
	return n;
}

/* Each of LEN bytes at OFF must be of one of N writes. */
static void
judge_bytes(const struct exchange *x, const unsigned *writes, unsigned n, uint64_t off,
	    const uint8_t *data, uint64_t len)
{
	while (len > 0) {
		uint64_t most = 0;

		for (unsigned i = 0; i < n && most < len; i++) {
			uint64_t some = matching(x, writes[i], off, data, len);

			most = MAX(most, some);
		}
		check(most > 0, "0x%02x at %llu, which nobody wrote, or which was overwritten",
		      data ? data[0] : 0, (unsigned long long)off);
		off += most;
		len -= most;
		data = data ? data + most : NULL;
	}
}

/* R tells of LEN bytes at OFF: DATA, or zeroes if that is NULL. */
static void
judge_data(const struct exchange *x, const struct exchange_request *r, uint64_t off,
	   const uint8_t *data, uint64_t len)
{
	uint64_t end = off + len, kept = MAX(off, DISK_KEPT), at, border;
	unsigned writes[EXCHANGE_WRITES + 1], n;

	for (at = off; data && at < MIN(end, DISK_KEPT); at++)
		check(data[at - off] == 0, "data where there are none");
	for (at = kept; at < end; at = border) {
		border = next_border(x, at, end);
		n = visible(x, at, r->sent_at, writes);
		judge_bytes(x, writes, n, at, data ? data + (at - off) : NULL, border - at);
	}
}

/* --- What the client says ---------------------------------------------------- */

/* What R is to write, if it is to change what is kept. */
static void
note_write(struct exchange *x, struct exchange_request *r, uint8_t *payload)
{
	const struct nbd_request *nbd = &r->nbd;
	bool writes = nbd->command == NBD_CMD_WRITE || nbd->command == NBD_CMD_WRITE_ZEROES ||
		      nbd->command == NBD_CMD_TRIM;

	if (!writes || r->verdict < 0 || nbd->length == 0)
		return;
	if (nbd->offset + nbd->length > DISK_KEPT) {
		r->write = ++x->nwrites;
		x->writes[r->write] = x->nrequests;
	}
	if (nbd->command != NBD_CMD_WRITE)
		return;
	r->zeroes = payload[0] == 0;
	for (uint64_t i = 0; i < nbd->length; i++)
		payload[i] = r->zeroes ? 0 : pattern(r->write, nbd->offset + i);
}

/*
 * A BLOCK_STATUS whose range and contexts are in the LEN bytes of its PAYLOAD:
 * each must have been agreed on, and stand there once.
 */
static void
read_status_payload(struct exchange *x, struct exchange_request *r, const uint8_t *payload,
		    size_t len)
{
	r->contexts = 0;
	r->nbd.length = get_be64(payload);
	r->nbd.flags &= (uint16_t)~NBD_CMD_FLAG_PAYLOAD_LEN;
	r->verdict = request_check(&x->limits, &r->nbd).ret;
	for (size_t at = 8; at < len; at += 4) {
		uint32_t bit = 0;

		for (unsigned i = 0; i < HAGGLE_CONTEXTS; i++)
			if (x->limits.contexts & 1u << i && x->ids[i] == get_be32(payload + at))
				bit = 1u << i;
		if (bit == 0 || r->contexts & bit)
			r->verdict = -EINVAL;
		r->contexts |= bit;
	}
}

/* The next request, if all of it is there. */
static bool
read_request(struct exchange *x, uint8_t *at, size_t left)
{
	struct exchange_request *r = &x->requests[x->nrequests];
	size_t header = nbd_request_bytes(x->limits.headers);
	struct request_verdict v;

	if (left < header)
		return false;
	put_be64(at + 8, x->cookie_base ^ x->nrequests);
	*r = (struct exchange_request){ .header_end = x->read + header };
	if (!nbd_request_parse(at, x->limits.headers, &r->nbd) || r->nbd.command == NBD_CMD_DISC) {
		x->ended = true;
		return false;
	}
	v = request_check(&x->limits, &r->nbd);
	r->verdict = v.ret;
	r->contexts = x->limits.contexts;
	r->drops = v.payload_bytes > LIMIT_PAYLOAD_DRAINED;
	x->ended = r->drops;
	if (r->drops)
		v.payload_bytes = 0;
	if (left - header < v.payload_bytes)
		return false;
	r->end = r->header_end + (size_t)v.payload_bytes;
	if (v.ret == 0 && r->nbd.command == NBD_CMD_BLOCK_STATUS && v.payload_bytes > 0)
		read_status_payload(x, r, at + header, (size_t)v.payload_bytes);
	note_write(x, r, at + header);
	x->read = r->end;
	x->nrequests++;
	return !x->ended;
}

void
exchange_read(struct exchange *x, uint8_t *bytes, size_t len)
{
	do {
		x->full = x->nrequests == EXCHANGE_REQUESTS || x->nwrites == EXCHANGE_WRITES;
	} while (!x->ended && !x->full && read_request(x, bytes + x->read, len - x->read));
}

void
exchange_sent(struct exchange *x, size_t total)
{
	x->sent_bytes = total;
	while (x->sent < x->nrequests && x->requests[x->sent].end <= total)
		x->requests[x->sent++].sent_at = ++x->moment;
}

/* --- What the server says ---------------------------------------------------- */

static void
answered(struct exchange *x, struct exchange_request *r)
{
	r->answered_at = ++x->moment;
	r->succeeded = !r->error;
	x->answered++;
}

static struct exchange_request *
find(struct exchange *x, uint64_t cookie)
{
	uint64_t i = cookie ^ x->cookie_base;
	struct exchange_request *r = &x->requests[i];

	check(i < x->sent, "a reply to a request that was not sent: cookie 0x%llx",
	      (unsigned long long)cookie);
	check(!r->answered_at, "a reply after the last one of that request");
	return r;
}

static void
judge_error(const struct exchange *x, struct exchange_request *r, uint32_t code)
{
	bool fast = r->nbd.command == NBD_CMD_WRITE_ZEROES && r->nbd.flags & NBD_CMD_FLAG_FAST_ZERO;

	r->error = true;
	if (x->watcher.stopping && code == NBD_ESHUTDOWN)
		return;
	if (r->verdict < 0)
		check(code == nbd_error_of(r->verdict), "%s is answered %u, not %u",
		      nbd_cmd_name(r->nbd.command), code, nbd_error_of(r->verdict));
	else
		check((code < 32 && x->codes & 1u << code) || (fast && code == NBD_ENOTSUP),
		      "%s is answered %u, which nothing accounts for", nbd_cmd_name(r->nbd.command),
		      code);
}

static void
judge_success(const struct exchange_request *r)
{
	check(r->verdict == 0, "%s succeeds instead of %d", nbd_cmd_name(r->nbd.command),
	      r->verdict);
}

/* Where content may be cut: at sectors, at the ends, anywhere behind the last block. */
static bool
is_border(const struct exchange_request *r, uint64_t off)
{
	return off % SECTOR == 0 || off == r->nbd.offset || off == r->nbd.offset + r->nbd.length ||
	       off > DISK_EVEN;
}

/* Notes that LEN bytes at OFF of a READ were told. */
static void
cover(struct exchange_request *r, uint64_t off, uint64_t len)
{
	struct exchange_piece *last;

	check(r->nbd.command == NBD_CMD_READ, "data for %s", nbd_cmd_name(r->nbd.command));
	judge_success(r);
	check(len > 0 && off >= r->nbd.offset && range_ok(off - r->nbd.offset, len, r->nbd.length),
	      "data outside of the READ");
	check(!(r->nbd.flags & NBD_CMD_FLAG_DF) || r->npieces == 0, "DF, and a second chunk");
	check(is_border(r, off) && is_border(r, off + len), "chunks that meet inside a sector");
	for (unsigned i = 0; i < r->npieces; i++)
		check(!range_overlap(off, len, r->pieces[i].off, r->pieces[i].len),
		      "data told twice");
	r->covered += len;
	last = r->npieces ? &r->pieces[r->npieces - 1] : NULL;
	if (last && last->off + last->len == off) {
		last->len += len;
		return;
	}
	if (r->npieces == r->pieces_max) {
		r->pieces_max = 2 * r->pieces_max + 4;
		r->pieces = realloc(r->pieces, r->pieces_max * sizeof(*r->pieces));
		check(r->pieces, "no memory");
	}
	r->pieces[r->npieces++] = (struct exchange_piece){ off, len };
}

static void
judge_error_chunk(const struct exchange *x, struct exchange_request *r, uint16_t type,
		  const uint8_t *body, size_t len)
{
	size_t fixed = type == NBD_REPLY_ERROR_OFFSET ? 14 : 6, text_len;
	uint64_t off;

	check(len >= fixed, "an error of %zu bytes", len);
	judge_error(x, r, get_be32(body));
	text_len = get_be16(body + 4);
	check(text_len == len - fixed, "an error of %zu bytes with a text of %zu", len, text_len);
	check(text_len > 0 && utf8_valid(body + 6, text_len) && !memchr(body + 6, 0, text_len),
	      "no text");
	if (type == NBD_REPLY_ERROR)
		return;
	off = get_be64(body + 6 + text_len);
	check(r->nbd.command == NBD_CMD_READ && off >= r->nbd.offset &&
		      off - r->nbd.offset < r->nbd.length,
	      "an error outside of the request");
	for (unsigned i = 0; i < r->npieces; i++)
		check(!range_overlap(off, 1, r->pieces[i].off, r->pieces[i].len),
		      "an error where data were told");
	check(!x->bad.len || range_overlap(align_down(off, DISK_BLOCK), DISK_BLOCK, x->bad.off,
					   x->bad.len),
	      "an error at %llu, where there is none", (unsigned long long)off);
}

/* The context of R that has this id. */
static unsigned
context_of(const struct exchange *x, const struct exchange_request *r, uint32_t id)
{
	for (unsigned i = 0; i < HAGGLE_CONTEXTS; i++)
		if (r->contexts & 1u << i && x->ids[i] == id)
			return i;
	fail("the status of a context that was not asked for: %u", id);
}

static void
judge_extent(const struct exchange *x, const struct exchange_request *r, unsigned context,
	     uint64_t off, uint64_t len, uint64_t flags)
{
	uint64_t end = off + len;

	check(len > 0 && range_ok(off, len, x->limits.size_bytes),
	      "an extent of %llu bytes at %llu", (unsigned long long)len, (unsigned long long)off);
	check(is_border(r, end) || len == COMPACT_MAX, "an extent that ends inside a sector: %llu",
	      (unsigned long long)end);
	if (context == 1) {
		check(flags <= 1, "a depth of %llu", (unsigned long long)flags);
		return;
	}
	check(flags <= (NBD_STATE_HOLE | NBD_STATE_ZERO), "flags 0x%llx of an extent",
	      (unsigned long long)flags);
	if (flags & NBD_STATE_ZERO)
		judge_data(x, r, off, NULL, len);
}

static void
judge_status(const struct exchange *x, struct exchange_request *r, uint16_t type,
	     const uint8_t *body, size_t len)
{
	size_t fixed = extended(x) ? 8 : 4, each = extended(x) ? 16 : 8;
	uint64_t off = r->nbd.offset, end = off + r->nbd.length;
	uint64_t before_len = 0, before_flags = 0;
	unsigned context;
	size_t n;

	check(r->nbd.command == NBD_CMD_BLOCK_STATUS, "extents for %s",
	      nbd_cmd_name(r->nbd.command));
	judge_success(r);
	check(type == (extended(x) ? NBD_REPLY_BLOCK_STATUS_EXT : NBD_REPLY_BLOCK_STATUS),
	      "extents of the other kind");
	check(len >= fixed + each && (len - fixed) % each == 0 && len <= x->limits.payload_max,
	      "a status of %zu bytes", len);
	n = (len - fixed) / each;
	check(!extended(x) || get_be32(body + 4) == n, "a count that is not that of the extents");
	check(!(r->nbd.flags & NBD_CMD_FLAG_REQ_ONE) || n == 1, "REQ_ONE, and %zu extents", n);
	context = context_of(x, r, get_be32(body));
	check(!(r->contexts_told & 1u << context), "a context twice");
	r->contexts_told |= 1u << context;
	body += fixed;
	for (size_t i = 0; i < n; i++, body += each) {
		uint64_t extent = extended(x) ? get_be64(body) : get_be32(body);
		uint64_t flags = extended(x) ? get_be64(body + 8) : get_be32(body + 4);

		check(off < end, "an extent beyond the request");
		check(i == 0 || flags != before_flags || before_len == COMPACT_MAX,
		      "two extents that are one");
		judge_extent(x, r, context, off, extent, flags);
		off += extent;
		before_len = extent;
		before_flags = flags;
	}
	check(!(r->nbd.flags & NBD_CMD_FLAG_REQ_ONE) || off <= end,
	      "REQ_ONE, and an extent beyond the request");
}

static void
judge_done(const struct exchange_request *r)
{
	if (r->error)
		return;
	judge_success(r);
	if (r->nbd.command == NBD_CMD_READ)
		check(r->covered == r->nbd.length, "%llu bytes of a READ of %llu",
		      (unsigned long long)r->covered, (unsigned long long)r->nbd.length);
	if (r->nbd.command == NBD_CMD_BLOCK_STATUS)
		check(r->contexts_told == r->contexts, "contexts 0x%x, not 0x%x", r->contexts_told,
		      r->contexts);
}

static void
judge_chunk(struct exchange *x, struct exchange_request *r, const struct nbd_chunk *chunk,
	    const uint8_t *body)
{
	size_t len = (size_t)chunk->length;
	uint64_t off, hole;

	switch (chunk->type) {
	case NBD_REPLY_NONE:
		check(len == 0 && chunk->done, "NONE with %zu bytes, or not the last", len);
		break;
	case NBD_REPLY_OFFSET_DATA:
		check(len > 8 && len - 8 <= x->limits.payload_max, "a chunk of %zu bytes", len);
		off = get_be64(body);
		cover(r, off, len - 8);
		judge_data(x, r, off, body + 8, len - 8);
		break;
	case NBD_REPLY_OFFSET_HOLE:
		check(len == 12, "a hole of %zu bytes", len);
		off = get_be64(body);
		hole = get_be32(body + 8);
		cover(r, off, hole);
		judge_data(x, r, off, NULL, hole);
		break;
	case NBD_REPLY_BLOCK_STATUS:
	case NBD_REPLY_BLOCK_STATUS_EXT:
		judge_status(x, r, chunk->type, body, len);
		break;
	case NBD_REPLY_ERROR:
	case NBD_REPLY_ERROR_OFFSET:
		check(chunk->done, "something after an error");
		judge_error_chunk(x, r, chunk->type, body, len);
		break;
	default:
		fail("a chunk of type 0x%x", chunk->type);
	}
	if (chunk->done) {
		judge_done(r);
		answered(x, r);
	}
}

/* A chunk at AT; its length, 0: not all is there. */
static size_t
take_chunk(struct exchange *x, const uint8_t *at, size_t left)
{
	size_t header = extended(x) ? NBD_EXTENDED_REPLY_BYTES : NBD_STRUCTURED_REPLY_BYTES;
	struct exchange_request *r;
	struct nbd_chunk chunk;
	unsigned flags;

	if (left < header)
		return 0;
	check(get_be32(at) == (extended(x) ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC),
	      "a reply of another kind: 0x%x", get_be32(at));
	flags = get_be16(at + 4);
	check(flags <= NBD_REPLY_FLAG_DONE, "reply flags 0x%x", flags);
	chunk = (struct nbd_chunk){
		.done = flags & NBD_REPLY_FLAG_DONE,
		.type = get_be16(at + 6),
		.cookie = get_be64(at + 8),
		.length = extended(x) ? get_be64(at + 24) : get_be32(at + 16),
	};
	r = find(x, chunk.cookie);
	check(!extended(x) || get_be64(at + 16) == r->nbd.offset, "another request's offset");
	check(chunk.length <= x->limits.payload_max + UINT64_C(8), "a chunk of %llu bytes",
	      (unsigned long long)chunk.length);
	if (left - header < chunk.length)
		return 0;
	judge_chunk(x, r, &chunk, at + header);
	return header + (size_t)chunk.length;
}

static size_t
take_simple(struct exchange *x, const uint8_t *at, size_t left)
{
	struct exchange_request *r;
	uint32_t code;
	size_t len = 0;

	if (left < NBD_SIMPLE_REPLY_BYTES)
		return 0;
	check(get_be32(at) == NBD_SIMPLE_REPLY_MAGIC, "a reply of another kind: 0x%x",
	      get_be32(at));
	code = get_be32(at + 4);
	r = find(x, get_be64(at + 8));
	if (code)
		judge_error(x, r, code);
	else
		judge_success(r);
	if (code == 0 && r->nbd.command == NBD_CMD_READ)
		len = (size_t)r->nbd.length;
	if (left - NBD_SIMPLE_REPLY_BYTES < len)
		return 0;
	if (len > 0)
		judge_data(x, r, r->nbd.offset, at + NBD_SIMPLE_REPLY_BYTES, len);
	answered(x, r);
	return NBD_SIMPLE_REPLY_BYTES + len;
}

static size_t
take_one(struct exchange *x, const uint8_t *at, size_t left)
{
	return chunked(x) ? take_chunk(x, at, left) : take_simple(x, at, left);
}

void
exchange_received(struct exchange *x, const uint8_t *data, size_t len)
{
	size_t at = 0, n;

	if (x->room - x->have < len) {
		x->room = 2 * (x->have + len);
		x->buf = realloc(x->buf, x->room);
		check(x->buf, "no memory");
	}
	memcpy(x->buf + x->have, data, len);
	x->have += len;
	do {
		n = take_one(x, x->buf + at, x->have - at);
		at += n;
	} while (n > 0);
	x->have -= at;
	memmove(x->buf, x->buf + at, x->have);
}

bool
exchange_settled(const struct exchange *x)
{
	return x->answered == x->sent;
}

void
exchange_end(const struct exchange *x, bool spoiled)
{
	if (spoiled)
		return;
	check(exchange_settled(x), "%u of %u requests are answered", x->answered, x->sent);
	check(x->have == 0, "%zu bytes of a reply that has no end", x->have);
}

/* --- As a watcher ------------------------------------------------------------ */

static void
watch_sent(struct watcher *watcher, size_t total)
{
	exchange_sent(container_of(watcher, struct exchange, watcher), total);
}

static void
watch_received(struct watcher *watcher, const uint8_t *data, size_t len)
{
	exchange_received(container_of(watcher, struct exchange, watcher), data, len);
}

static bool
watch_settled(const struct watcher *watcher)
{
	return exchange_settled(container_of(watcher, struct exchange, watcher));
}

/* --- Life -------------------------------------------------------------------- */

void
exchange_init(struct exchange *x, const struct haggle *h, uint64_t seed)
{
	bool held = h->exp->strict && h->told_sizes;

	x->watcher = (struct watcher){
		.sent = watch_sent,
		.received = watch_received,
		.settled = watch_settled,
		.stopping = h->watcher.stopping,
	};
	x->limits = (struct request_limits){
		.size_bytes = h->size_bytes,
		.alignment = held ? h->minimum : 1,
		.payload_max = h->told_sizes ? h->maximum : LIMIT_PAYLOAD_ADVERTISED,
		.tflags = h->tflags,
		.headers = h->headers,
		.contexts = h->exp_contexts,
	};
	memcpy(x->ids, h->ids, sizeof(x->ids));
	x->cookie_base = seed * UINT64_C(0x9e3779b97f4a7c15);
	x->codes = 0;
	x->bad = (struct exchange_piece){ 0 };
	x->read = x->sent_bytes = x->have = 0;
	x->ended = x->full = false;
	x->nrequests = x->nwrites = x->sent = x->answered = 0;
	x->moment = 0;
}

void
exchange_release(struct exchange *x)
{
	for (unsigned i = 0; i < x->nrequests; i++)
		free(x->requests[i].pieces);
	x->nrequests = 0;
}
