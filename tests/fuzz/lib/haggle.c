/* SPDX-License-Identifier: MIT */
/*
 * haggle.c - a second opinion on the handshake; see haggle.h.
 *
 * The path: haggle_read() finds the messages in the script and has expect()
 * judge each option; haggle_received() cuts the server's bytes into replies and
 * holds them against the oldest option that is not answered.
 */
#include "haggle.h"

#include <string.h>

#include "base/endian.h"
#include "base/utf8.h"
#include "server/limits.h"

/* Reply types that are none: what happens instead. */
#define WANT_EXPORT_NAME 0xfffffff0u /* its own answer, without a header */
#define WANT_CLOSE 0xfffffff1u

/* Items, as bits: INFO types, then contexts. */
#define ITEM_INFO(type) (1u << (type))
#define ITEM_CONTEXT(i) (1u << (8 + (i)))

static const char *const context_names[HAGGLE_CONTEXTS] = {
	"base:allocation",
	"qemu:allocation-depth",
};

/* --- What the client says ---------------------------------------------------- */

/* Bytes that are read one after the other; short: there were too few. */
struct cut {
	const uint8_t *at;
	size_t left;
	bool is_short;
};

static const uint8_t *
cut(struct cut *c, size_t len)
{
	static const uint8_t none[4];
	const uint8_t *at = c->at;

	if (len > c->left || c->is_short) {
		c->is_short = true;
		return none;
	}
	c->at += len;
	c->left -= len;
	return at;
}

static uint32_t
cut_u32(struct cut *c)
{
	return get_be32(cut(c, 4));
}

static bool
is_string(const uint8_t *text, size_t len)
{
	return len <= LIMIT_STRING_BYTES && !(len && memchr(text, 0, len)) && utf8_valid(text, len);
}

static const struct export *
find(const uint8_t *name, size_t len)
{
	for (unsigned i = 0; i < EXPORTS; i++) {
		const struct export *exp = &session_exports[i];

		if (strlen(exp->name) == len && memcmp(exp->name, name, len) == 0)
			return exp;
	}
	return len == 0 ? &session_exports[EXPORT_DISK] : NULL;
}

static uint32_t
contexts_for(const struct haggle *h, const struct export *exp)
{
	return h->context_export == exp ? h->contexts : 0;
}

static uint16_t
tflags_for(const struct haggle *h, const struct export *exp)
{
	unsigned flags =
		NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

	if (exp->read_only)
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO |
			 (exp->dev->discard ? NBD_FLAG_SEND_TRIM : 0u);
	if (h->headers != NBD_SIMPLE)
		flags |= NBD_FLAG_SEND_DF;
	if (h->headers == NBD_EXTENDED && contexts_for(h, exp))
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	if (exp->clients_max != 1)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	return (uint16_t)flags;
}

/* The transmission begins with EXP. */
static void
enter(struct haggle *h, const struct export *exp)
{
	h->exp = exp;
	h->exp_contexts = contexts_for(h, exp);
	h->ended = true;
}

static uint32_t
expect_export_name(struct haggle *h, struct haggle_option *o, const uint8_t *data, size_t len)
{
	const struct export *exp = find(data, len);

	if (h->headers == NBD_EXTENDED || !is_string(data, len) || !exp ||
	    exp == &session_exports[EXPORT_TAKEN])
		return WANT_CLOSE;
	o->exp = exp;
	o->tflags = tflags_for(h, exp);
	enter(h, exp);
	return WANT_EXPORT_NAME;
}

static uint32_t
expect_info(struct haggle *h, struct haggle_option *o, struct cut c)
{
	uint32_t name_len = cut_u32(&c), items = 0;
	const uint8_t *name = cut(&c, name_len);
	unsigned n = get_be16(cut(&c, 2));

	for (unsigned i = 0; i < n && !c.is_short; i++) {
		unsigned type = get_be16(cut(&c, 2));

		if (type <= NBD_INFO_BLOCK_SIZE)
			items |= ITEM_INFO(type);
	}
	if (c.is_short || c.left > 0 || !is_string(name, name_len))
		return NBD_REP_ERR_INVALID;
	o->exp = find(name, name_len);
	if (!o->exp)
		return NBD_REP_ERR_UNKNOWN;
	if (o->number == NBD_OPT_GO && o->exp == &session_exports[EXPORT_TAKEN])
		return NBD_REP_ERR_POLICY;
	o->asked_sizes = items & ITEM_INFO(NBD_INFO_BLOCK_SIZE);
	o->items = items | ITEM_INFO(NBD_INFO_EXPORT) | ITEM_INFO(NBD_INFO_BLOCK_SIZE);
	if (!o->exp->description[0])
		o->items &= ~ITEM_INFO(NBD_INFO_DESCRIPTION);
	o->tflags = tflags_for(h, o->exp);
	if (o->number == NBD_OPT_GO)
		enter(h, o->exp);
	return NBD_REP_ACK;
}

static uint32_t
contexts_meant(const uint8_t *query, size_t len, bool listing)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < HAGGLE_CONTEXTS; i++) {
		const char *name = context_names[i];
		size_t space = (size_t)(strchr(name, ':') - name) + 1;

		if (len == strlen(name) || (listing && len == space))
			set |= (uint32_t)(memcmp(name, query, len) == 0) << i;
	}
	return set;
}

static uint32_t
expect_meta(struct haggle *h, struct haggle_option *o, struct cut c)
{
	bool listing = o->number == NBD_OPT_LIST_META_CONTEXT, text_ok = true;
	uint32_t name_len = cut_u32(&c), n, set = 0;
	const uint8_t *name = cut(&c, name_len);

	n = cut_u32(&c);
	if (listing && n == 0)
		set = (1u << HAGGLE_CONTEXTS) - 1;
	if (!listing)
		h->contexts = 0;
	/* So many that nobody looks at them: but they have to be there. */
	if (n > LIMIT_META_QUERIES && n <= c.left / 4)
		return !listing && h->headers == NBD_SIMPLE ? NBD_REP_ERR_INVALID :
							      NBD_REP_ERR_TOO_BIG;
	for (uint32_t i = 0; i < n && !c.is_short; i++) {
		uint32_t len = cut_u32(&c);
		const uint8_t *query = cut(&c, len);

		if (c.is_short)
			break;
		text_ok = text_ok && is_string(query, len);
		set |= contexts_meant(query, len, listing);
	}
	if (c.is_short || c.left > 0 || !text_ok || (!listing && h->headers == NBD_SIMPLE) ||
	    !is_string(name, name_len))
		return NBD_REP_ERR_INVALID;
	o->exp = find(name, name_len);
	if (!o->exp)
		return NBD_REP_ERR_UNKNOWN;
	o->contexts = set;
	for (unsigned i = 0; i < HAGGLE_CONTEXTS; i++)
		if (set & 1u << i)
			o->items |= ITEM_CONTEXT(i);
	if (!listing) {
		h->contexts = set;
		h->context_export = o->exp;
	}
	return NBD_REP_ACK;
}

static uint32_t
expect_headers(struct haggle *h, enum nbd_headers headers, size_t len)
{
	if (len > 0 || h->headers == headers)
		return NBD_REP_ERR_INVALID;
	if (h->headers > headers)
		return NBD_REP_ERR_EXT_HEADER_REQD;
	h->headers = headers;
	return NBD_REP_ACK;
}

/* The final reply that option O with LEN bytes of DATA must get. */
static uint32_t
expect(struct haggle *h, struct haggle_option *o, const uint8_t *data, size_t len)
{
	const struct cut all = { .at = data, .left = len };

	if (o->number == NBD_OPT_EXPORT_NAME)
		return expect_export_name(h, o, data, len);
	if (!h->fixed)
		return NBD_REP_ERR_INVALID;
	switch (o->number) {
	case NBD_OPT_ABORT:
		h->ended = true;
		return NBD_REP_ACK;
	case NBD_OPT_LIST:
		return len > 0 ? NBD_REP_ERR_INVALID : NBD_REP_ACK;
	case NBD_OPT_STARTTLS:
		return len > 0 ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return expect_info(h, o, all);
	case NBD_OPT_STRUCTURED_REPLY:
		return expect_headers(h, NBD_STRUCTURED, len);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return expect_meta(h, o, all);
	case NBD_OPT_EXTENDED_HEADERS:
		return expect_headers(h, NBD_EXTENDED, len);
	default:
		return NBD_REP_ERR_UNSUP;
	}
}

/* The option whose header is at AT; false: not all of it is there, or it is the end. */
static bool
read_option(struct haggle *h, const uint8_t *at, size_t left)
{
	struct haggle_option *o = &h->options[h->noptions];
	size_t len;

	if (left < NBD_OPTION_BYTES)
		return false;
	len = get_be32(at + 12);
	if (get_be64(at) != NBD_OPTION_MAGIC || len > LIMIT_OPTION_BYTES ||
	    h->noptions == LIMIT_OPTIONS + LIMIT_OPTIONS_PER_EXPORT * EXPORTS ||
	    (get_be32(at + 8) == NBD_OPT_EXPORT_NAME &&
	     (len > LIMIT_STRING_BYTES || h->headers == NBD_EXTENDED))) {
		h->ended = true;
		return false;
	}
	if (left - NBD_OPTION_BYTES < len)
		return false;
	h->read += NBD_OPTION_BYTES + len;
	*o = (struct haggle_option){ .number = get_be32(at + 8), .end = h->read };
	o->want = expect(h, o, at + NBD_OPTION_BYTES, len);
	h->noptions++;
	if (o->want == WANT_CLOSE)
		h->ended = true;
	return !h->ended;
}

void
haggle_read(struct haggle *h, const uint8_t *bytes, size_t len)
{
	static const uint32_t known = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;

	_Static_assert(LIMIT_OPTIONS + LIMIT_OPTIONS_PER_EXPORT * EXPORTS <= HAGGLE_OPTIONS,
		       "all that a client may send");
	if (!h->greeted && !h->ended && len >= 4) {
		uint32_t flags = get_be32(bytes);

		h->greeted = true;
		h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
		h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
		h->ended = flags & ~known;
		h->read = 4;
	}
	while (h->greeted && !h->ended && read_option(h, bytes + h->read, len - h->read))
		;
}

/* --- What the server says ---------------------------------------------------- */

static bool
greeting_is_due(const struct haggle *h)
{
	return h->out_bytes == 0;
}

static size_t
take_greeting(struct haggle *h)
{
	static const uint8_t want[NBD_GREETING_BYTES] = "NBDMAGICIHAVEOPT\0\3";

	if (h->have < sizeof(want))
		return 0;
	check(memcmp(h->buf, want, sizeof(want)) == 0, "the greeting is wrong");
	return sizeof(want);
}

/* The answer to EXPORT_NAME. */
static size_t
take_export_name(struct haggle *h, const struct haggle_option *o)
{
	size_t zeroes = h->no_zeroes ? 0 : NBD_EXPORT_NAME_ZEROES;

	if (h->have < NBD_EXPORT_NAME_REPLY_BYTES + zeroes)
		return 0;
	h->size_bytes = get_be64(h->buf);
	h->tflags = get_be16(h->buf + 8);
	check(h->size_bytes == o->exp->size_bytes, "EXPORT_NAME: another size");
	check(h->tflags == o->tflags, "EXPORT_NAME: flags 0x%x, not 0x%x", h->tflags, o->tflags);
	for (size_t i = 0; i < zeroes; i++)
		check(h->buf[NBD_EXPORT_NAME_REPLY_BYTES + i] == 0, "EXPORT_NAME: no zeroes");
	h->answered++;
	return NBD_EXPORT_NAME_REPLY_BYTES + zeroes;
}

static void
judge_text(const struct haggle_option *o, const uint8_t *data, size_t len, const char *text)
{
	check(len == strlen(text) && memcmp(data, text, len) == 0, "option %u: not \"%s\"",
	      o->number, text);
}

static uint32_t
judge_info(struct haggle *h, const struct haggle_option *o, const uint8_t *data, size_t len)
{
	unsigned type;

	check(len >= 2, "INFO of %zu bytes", len);
	type = get_be16(data);
	switch (type) {
	case NBD_INFO_EXPORT:
		check(len == 12, "INFO_EXPORT of %zu bytes", len);
		h->size_bytes = get_be64(data + 2);
		h->tflags = get_be16(data + 10);
		check(h->size_bytes == o->exp->size_bytes, "INFO_EXPORT: another size");
		check(h->tflags == o->tflags, "INFO_EXPORT: flags 0x%x, not 0x%x", h->tflags,
		      o->tflags);
		break;
	case NBD_INFO_NAME:
		judge_text(o, data + 2, len - 2, o->exp->name);
		break;
	case NBD_INFO_DESCRIPTION:
		judge_text(o, data + 2, len - 2, o->exp->description);
		break;
	case NBD_INFO_BLOCK_SIZE:
		check(len == 14, "INFO_BLOCK_SIZE of %zu bytes", len);
		h->told_sizes = true;
		h->minimum = get_be32(data + 2);
		h->preferred = get_be32(data + 6);
		h->maximum = get_be32(data + 10);
		check(is_pow2(h->minimum) && h->minimum <= 65536 && is_pow2(h->preferred) &&
			      h->preferred >= MAX(h->minimum, 512u) && h->maximum >= h->preferred,
		      "sizes %u, %u, %u", h->minimum, h->preferred, h->maximum);
		check(o->asked_sizes || h->minimum == 1 || !o->exp->strict,
		      "a minimum of %u for who did not ask", h->minimum);
		break;
	default:
		fail("INFO of type %u", type);
	}
	return ITEM_INFO(type);
}

static uint32_t
judge_context(struct haggle *h, const struct haggle_option *o, const uint8_t *data, size_t len)
{
	bool listing = o->number == NBD_OPT_LIST_META_CONTEXT;
	unsigned i;

	check(len > 4, "META_CONTEXT of %zu bytes", len);
	for (i = 0; i < HAGGLE_CONTEXTS; i++)
		if (strlen(context_names[i]) == len - 4 &&
		    memcmp(context_names[i], data + 4, len - 4) == 0)
			break;
	check(i < HAGGLE_CONTEXTS, "a context that nobody knows");
	check(!listing || get_be32(data) == 0, "an id in a list: %u", get_be32(data));
	if (!listing)
		h->ids[i] = get_be32(data);
	for (unsigned k = 0; k < HAGGLE_CONTEXTS && !listing; k++)
		check(k == i || !(h->seen & ITEM_CONTEXT(k)) || h->ids[k] != h->ids[i],
		      "two contexts of one id");
	return ITEM_CONTEXT(i);
}

static void
judge_server(const uint8_t *data, size_t len, const struct export *exp)
{
	size_t name_len;

	check(len >= 4, "SERVER of %zu bytes", len);
	name_len = get_be32(data);
	check(name_len == strlen(exp->name) && len - 4 >= name_len &&
		      memcmp(data + 4, exp->name, name_len) == 0,
	      "LIST: not the name of the next export");
	len -= 4 + name_len;
	check(len == strlen(exp->description) &&
		      memcmp(data + 4 + name_len, exp->description, len) == 0,
	      "LIST: another description");
}

/* An item: a reply before the final one. */
static void
judge_item(struct haggle *h, const struct haggle_option *o, uint32_t type, const uint8_t *data,
	   size_t len)
{
	bool info = o->number == NBD_OPT_INFO || o->number == NBD_OPT_GO;
	bool meta = o->number == NBD_OPT_LIST_META_CONTEXT || o->number == NBD_OPT_SET_META_CONTEXT;
	uint32_t item;

	check(o->want == NBD_REP_ACK, "an item before error 0x%x", o->want);
	if (type == NBD_REP_SERVER && o->number == NBD_OPT_LIST) {
		check(h->seen < EXPORTS, "LIST: more exports than there are");
		judge_server(data, len, &session_exports[h->seen++]);
		return;
	}
	if (type == NBD_REP_INFO && info)
		item = judge_info(h, o, data, len);
	else if (type == NBD_REP_META_CONTEXT && meta)
		item = judge_context(h, o, data, len);
	else
		fail("option %u: an item of type %u", o->number, type);
	check(!(h->seen & item), "option %u: an item twice", o->number);
	h->seen |= item;
}

static void
judge_final(struct haggle *h, const struct haggle_option *o, uint32_t type, const uint8_t *data,
	    size_t len)
{
	if (h->watcher.stopping && type == NBD_REP_ERR_SHUTDOWN && o->number != NBD_OPT_ABORT) {
		/* And so is all that follows. */
		h->exp = NULL;
	} else {
		check(type == o->want, "option %u is answered 0x%x, not 0x%x", o->number, type,
		      o->want);
	}
	if (type == NBD_REP_ACK) {
		check(len == 0, "an ACK with %zu bytes", len);
		if (o->number == NBD_OPT_LIST)
			check(h->seen == EXPORTS, "LIST: %u exports", h->seen);
		else
			check(h->seen == o->items, "option %u: items 0x%x, not 0x%x", o->number,
			      h->seen, o->items);
	} else {
		check(len > 0 && len <= 512 && is_string(data, len), "an error without a text");
	}
	h->seen = 0;
	h->answered++;
}

static size_t
take_reply(struct haggle *h, const struct haggle_option *o)
{
	const uint8_t *data = h->buf + NBD_OPTION_REPLY_BYTES;
	uint32_t type;
	size_t len;

	if (h->have < NBD_OPTION_REPLY_BYTES)
		return 0;
	check(get_be64(h->buf) == NBD_OPTION_REPLY_MAGIC, "an option reply without its magic");
	check(get_be32(h->buf + 8) == o->number, "a reply to option %u, not %u",
	      get_be32(h->buf + 8), o->number);
	type = get_be32(h->buf + 12);
	len = get_be32(h->buf + 16);
	check(len <= sizeof(h->buf) - NBD_OPTION_REPLY_BYTES, "an option reply of %zu bytes", len);
	if (h->have - NBD_OPTION_REPLY_BYTES < len)
		return 0;
	if (type == NBD_REP_ACK || type & 0x80000000)
		judge_final(h, o, type, data, len);
	else
		judge_item(h, o, type, data, len);
	len += NBD_OPTION_REPLY_BYTES;
	if (o->number == NBD_OPT_LIST)
		h->list_bytes += len;
	else if (type == NBD_REP_INFO && len > LIMIT_STRING_BYTES)
		h->long_bytes += len;
	return len;
}

/* One reply, or a part of one; its length, 0: not all is there. */
static size_t
take_one(struct haggle *h)
{
	const struct haggle_option *o = &h->options[h->answered];
	size_t len;

	if (greeting_is_due(h))
		return take_greeting(h);
	if (h->have == 0)
		return 0;
	check(h->answered < h->noptions && h->sent >= o->end && o->want != WANT_CLOSE,
	      "a reply to an option that was not sent");
	len = o->want == WANT_EXPORT_NAME ? take_export_name(h, o) : take_reply(h, o);
	h->done = h->exp && h->answered == h->noptions;
	return len;
}

size_t
haggle_received(struct haggle *h, const uint8_t *data, size_t len)
{
	size_t used = 0;

	while (!h->done) {
		size_t n = MIN(len - used, sizeof(h->buf) - h->have), first;

		memcpy(h->buf + h->have, data + used, n);
		h->have += n;
		used += n;
		first = take_one(h);
		if (first == 0)
			break;
		h->out_bytes += first;
		h->have -= first;
		/* What does not belong to the handshake is the caller's. */
		if (h->done)
			used -= h->have;
		else
			memmove(h->buf, h->buf + first, h->have);
	}
	check(h->out_bytes - h->list_bytes - h->long_bytes <=
		      NBD_GREETING_BYTES + (h->answered + 1) * (uint64_t)HAGGLE_REPLY_BYTES,
	      "more than an option may cost");
	return used;
}

void
haggle_sent(struct haggle *h, size_t total)
{
	h->sent = total;
}

bool
haggle_settled(const struct haggle *h)
{
	return !greeting_is_due(h) &&
	       (h->answered == h->noptions || h->done || h->sent < h->options[h->answered].end ||
		h->options[h->answered].want == WANT_CLOSE);
}

void
haggle_end(const struct haggle *h, bool spoiled)
{
	if (spoiled)
		return;
	check(haggle_settled(h), "option %u has no answer", h->options[h->answered].number);
	check(h->have == 0 || h->done, "half a reply");
}

/* --- As a watcher ------------------------------------------------------------ */

static void
watch_sent(struct watcher *watcher, size_t total)
{
	haggle_sent(container_of(watcher, struct haggle, watcher), total);
}

static void
watch_received(struct watcher *watcher, const uint8_t *data, size_t len)
{
	struct haggle *h = container_of(watcher, struct haggle, watcher);

	check(haggle_received(h, data, len) == len, "replies to requests that were not sent");
}

static bool
watch_settled(const struct watcher *watcher)
{
	return haggle_settled(container_of(watcher, struct haggle, watcher));
}

void
haggle_init(struct haggle *h)
{
	*h = (struct haggle){
		.watcher = {
			.sent = watch_sent,
			.received = watch_received,
			.settled = watch_settled,
		},
	};
}
