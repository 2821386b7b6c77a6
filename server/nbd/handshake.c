/* SPDX-License-Identifier: MIT */
/*
 * handshake.c - negotiation.
 *
 * The path: greeting, client flags, then options until one of them leads to
 * transmission (GO, EXPORT_NAME) or to the end (ABORT). dispatch() is the table
 * of options; those with a file of their own are in opt_*.c.
 *
 *          greeting sent            flags good
 *   START ---------------> FLAGS ---------------> OPTIONS --GO, EXPORT_NAME--> done
 *                            |                     |   ^ |
 *                       bad flags            refused   | +--ABORT, broken rule--> end
 *                            v                  or INFO, LIST
 *                           end
 */
#include "handshake.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "server/log.h"

/* --- Output ----------------------------------------------------------------- */

int
handshake_co_flush(struct handshake *h)
{
	struct iovec iov = { .iov_base = h->out, .iov_len = h->out_len };

	h->out_len = 0;
	return iov.iov_len ? chan_co_writev(&h->conn->chan, &iov, 1) : 0;
}

int
handshake_co_raw(struct handshake *h, const void *data, size_t len)
{
	invariant(len <= sizeof(h->out));
	if (len > sizeof(h->out) - h->out_len) {
		int ret = handshake_co_flush(h);

		if (ret < 0)
			return ret;
	}
	memcpy(h->out + h->out_len, data, len);
	h->out_len += len;
	return 0;
}

int
handshake_co_item(struct handshake *h, uint32_t type, const void *data, size_t len)
{
	uint8_t header[NBD_OPTION_REPLY_BYTES];
	int ret;

	nbd_option_reply_encode(header, h->opt.number, type, (uint32_t)len);
	ret = handshake_co_raw(h, header, sizeof(header));
	return ret < 0 || len == 0 ? ret : handshake_co_raw(h, data, len);
}

int
handshake_co_ack(struct handshake *h)
{
	int ret = handshake_co_item(h, NBD_REP_ACK, NULL, 0);

	return ret < 0 ? ret : handshake_co_flush(h);
}

int
handshake_co_error(struct handshake *h, uint32_t type, const char *fmt, ...)
{
	char text[400], quoted[LOG_QUOTE_MAX];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_debug("option refused conn=%llu option=%s reply=0x%x reason=%s",
		  (unsigned long long)h->conn->id, nbd_opt_name(h->opt.number), type,
		  log_quote(quoted, text, strlen(text)));
	ret = handshake_co_item(h, type, text, strlen(text));
	return ret < 0 ? ret : handshake_co_flush(h);
}

/* --- Rights ----------------------------------------------------------------- */

/* Whoever has no TLS does not see it. */
static bool
is_hidden(const struct handshake *h, const struct export *exp)
{
	return exp->tls_required && !h->conn->chan.tls;
}

enum access_right
handshake_right(const struct handshake *h, const struct export *exp)
{
	const struct access *access = conn_access(h->conn);

	if (is_hidden(h, exp))
		return ACCESS_NONE;
	return access ? access_right_of(access, h->verdicts[exp->index]) : ACCESS_WRITE;
}

/* How many options there may be must not tell of exports that do not exist. */
void
handshake_judge(struct handshake *h)
{
	const struct export_set *set = h->conn->exports;
	const struct access *access = conn_access(h->conn);
	unsigned visible = 0;

	if (access)
		access_judge(access, &h->conn->who, h->verdicts);
	for (unsigned i = 0; i < set->count; i++)
		visible += handshake_right(h, &set->exports[i]) != ACCESS_NONE;
	h->options_max = LIMIT_OPTIONS + LIMIT_OPTIONS_PER_EXPORT * visible;
}

void
handshake_renew(struct handshake *h)
{
	struct conn *conn = h->conn;
	struct gate *old = conn->gate;

	if (!conn->owner->gate)
		return;
	conn->gate = gate_in_force(conn->owner->gate);
	if (conn->gate != old)
		handshake_judge(h);
	gate_put(old);
}

/* A right is missing: for the operator alone. */
static void
log_denied(struct handshake *h, const struct export *exp)
{
	char name[LOG_QUOTE_MAX], where[ACCESS_WHERE_MAX], rule[LOG_QUOTE_MAX];

	access_where(conn_access(h->conn), h->verdicts[exp->index], where);
	conn_log_handshake(h->conn, "access denied export=%s option=%s rule=%s",
			   log_quote(name, exp->name, strlen(exp->name)),
			   nbd_opt_name(h->opt.number), log_quote(rule, where, strlen(where)));
}

/* --- Exports ---------------------------------------------------------------- */

uint16_t
handshake_tflags(const struct handshake *h, const struct export *exp)
{
	uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			 NBD_FLAG_SEND_CACHE;

	if (exp->read_only || handshake_right(h, exp) < ACCESS_WRITE) {
		flags |= NBD_FLAG_READ_ONLY;
	} else {
		flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
		if (exp->dev->discard)
			flags |= NBD_FLAG_SEND_TRIM;
	}
	if (h->conn->agreed.headers != NBD_SIMPLE)
		flags |= NBD_FLAG_SEND_DF;
	if (h->conn->agreed.headers == NBD_EXTENDED && handshake_contexts(h, exp))
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	/* All connections share the device and its cache; one client alone needs no promise. */
	if (exp->clients_max != 1)
		flags |= NBD_FLAG_CAN_MULTI_CONN;
	return flags;
}

uint32_t
handshake_contexts(const struct handshake *h, const struct export *exp)
{
	const struct conn_agreed *agreed = &h->conn->agreed;

	return agreed->context_export == exp ? agreed->contexts : 0;
}

void
handshake_forget(struct handshake *h)
{
	h->conn->agreed = (struct conn_agreed){ .headers = NBD_SIMPLE };
}

uint32_t
handshake_co_name(struct handshake *h, struct wire *wire)
{
	uint32_t len = wire_co_u32(wire);

	if (len <= LIMIT_STRING_BYTES)
		wire_co_bytes(wire, h->name, len);
	else
		wire_co_skip(wire, len);
	return len;
}

/* It must come before anything else that this client may want. */
static bool
needs_tls(const struct handshake *h)
{
	return h->conn->owner->tls_mode == TLS_REQUIRE && !h->conn->chan.tls;
}

int
handshake_find(struct handshake *h, uint32_t len, struct export **expp)
{
	struct export *exp = export_find(h->conn->exports, h->name, len);

	handshake_renew(h);
	if (!exp || is_hidden(h, exp))
		return -ENOENT;
	if (handshake_right(h, exp) == ACCESS_NONE) {
		log_denied(h, exp);
		return -EACCES;
	}
	*expp = exp;
	return 0;
}

/*
 * The answer for a name that is not there. Where some exports are to be had with TLS
 * only it may be one of them, so INFO and GO say the same of all.
 */
static int co_fn
answer_unknown(struct handshake *h, uint32_t len)
{
	char quoted[LOG_QUOTE_MAX];
	bool asks = h->opt.number == NBD_OPT_INFO || h->opt.number == NBD_OPT_GO;

	log_quote(quoted, h->name, len);
	if (asks && h->conn->owner->tls_mode == TLS_ON && !h->conn->chan.tls)
		return handshake_co_error(h, NBD_REP_ERR_TLS_REQD,
					  "there is no export %s without TLS", quoted);
	return handshake_co_error(h, NBD_REP_ERR_UNKNOWN, "there is no export %s", quoted);
}

struct export *
handshake_co_find(struct handshake *h, uint32_t len, int *ret)
{
	struct export *exp;

	if (len > LIMIT_STRING_BYTES) {
		*ret = handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "the export name has %u bytes, but %u is the limit", len,
					  LIMIT_STRING_BYTES);
		return NULL;
	}
	if (!nbd_string_ok(h->name, len)) {
		*ret = handshake_co_error(h, NBD_REP_ERR_INVALID,
					  "the export name is not UTF-8 without NUL");
		return NULL;
	}
	if (handshake_find(h, len, &exp) < 0) {
		*ret = answer_unknown(h, len);
		return NULL;
	}
	return exp;
}

int
handshake_choose(struct handshake *h, struct export *exp, struct err *err)
{
	struct conn *conn = h->conn;

	if (handshake_right(h, exp) < ACCESS_READ) {
		log_denied(h, exp);
		return err_set(err, -EACCES, "the export is listed for this client, and no more");
	}
	if (!export_enter(exp))
		return err_set(err, -EBUSY, "the export has its %u clients already",
			       exp->clients_max);
	if (worker_port(conn->worker, exp, &conn->port, err) < 0) {
		export_leave(exp);
		err->code = -ENODEV; /* whatever the driver's was */
		return err->code;
	}
	conn->exp = exp;
	conn->limits = (struct request_limits){
		.size_bytes = exp->size_bytes,
		.alignment = exp->strict ? export_sizes_for(exp, h->asked_sizes).minimum : 1,
		.payload_max = exp->sizes.maximum,
		.tflags = handshake_tflags(h, exp),
		.headers = conn->agreed.headers,
		.contexts = handshake_contexts(h, exp),
	};
	return 0;
}

/* --- Options ---------------------------------------------------------------- */

/* Reads the data of an option that is refused or needs none. */
static int co_fn
drain(struct handshake *h)
{
	return chan_co_skip(&h->conn->chan, h->opt.len);
}

static int co_fn
opt_co_abort(struct handshake *h)
{
	int ret = drain(h);

	if (ret == 0)
		/* A client that does not wait for the answer is not at fault. */
		(void)handshake_co_ack(h);
	return ret < 0 ? ret : HANDSHAKE_DONE;
}

static int co_fn
opt_co_unsupported(struct handshake *h)
{
	int ret = drain(h);

	if (ret < 0)
		return ret;
	return handshake_co_error(h, NBD_REP_ERR_UNSUP, "option %u (%s) is not supported",
				  h->opt.number, nbd_opt_name(h->opt.number));
}

/* Any option but those that may come before TLS, and EXPORT_NAME, which has no answer. */
static int co_fn
require_tls(struct handshake *h)
{
	int ret = drain(h);

	return ret < 0 ? ret :
			 handshake_co_error(h, NBD_REP_ERR_TLS_REQD, "STARTTLS has to come first");
}

static int co_fn
dispatch(struct handshake *h)
{
	int ret;

	if (h->fixed && needs_tls(h) && h->opt.number != NBD_OPT_ABORT &&
	    h->opt.number != NBD_OPT_STARTTLS && h->opt.number != NBD_OPT_EXPORT_NAME)
		return require_tls(h);
	if (worker_draining(h->conn->worker) && h->opt.number != NBD_OPT_ABORT) {
		ret = drain(h);
		if (ret < 0 || h->opt.number == NBD_OPT_EXPORT_NAME)
			return ret < 0 ? ret : -ESHUTDOWN;
		return handshake_co_error(h, NBD_REP_ERR_SHUTDOWN, "the server is stopping");
	}
	if (!h->fixed && h->opt.number != NBD_OPT_EXPORT_NAME) {
		ret = drain(h);
		return ret < 0 ? ret :
				 handshake_co_error(h, NBD_REP_ERR_INVALID,
						    "only EXPORT_NAME without fixed newstyle");
	}

	switch (h->opt.number) {
	case NBD_OPT_EXPORT_NAME:
		return opt_co_export_name(h);
	case NBD_OPT_ABORT:
		return opt_co_abort(h);
	case NBD_OPT_LIST:
		return opt_co_list(h);
	case NBD_OPT_STARTTLS:
		return opt_co_starttls(h);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return opt_co_info_or_go(h);
	case NBD_OPT_STRUCTURED_REPLY:
		return opt_co_structured_reply(h);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return opt_co_meta_context(h);
	case NBD_OPT_EXTENDED_HEADERS:
		return opt_co_extended_headers(h);
	default:
		return opt_co_unsupported(h);
	}
}

/* Reads the next option's header; an error when the client breaks the rules. */
static int co_fn
next_option(struct handshake *h)
{
	uint8_t bytes[NBD_OPTION_BYTES];
	int ret = chan_co_read(&h->conn->chan, bytes, sizeof(bytes), CHAN_BETWEEN);

	if (ret < 0)
		return ret;
	if (!nbd_option_parse(bytes, &h->opt))
		return -EPROTO;
	if (h->opt.len > LIMIT_OPTION_BYTES) {
		conn_log_handshake(h->conn, "option too long option=%s length=%u limit=%u",
				   nbd_opt_name(h->opt.number), h->opt.len, LIMIT_OPTION_BYTES);
		h->conn->end_logged = true;
		return -EMSGSIZE;
	}
	if (++h->options > h->options_max) {
		conn_log_handshake(h->conn, "too many options limit=%u", h->options_max);
		h->conn->end_logged = true;
		return -EMSGSIZE;
	}
	return 0;
}

static int co_fn
greet(struct handshake *h)
{
	static const uint32_t known = NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES;
	uint8_t greeting[NBD_GREETING_BYTES], bytes[4];
	uint32_t flags;
	int ret;

	nbd_greeting_encode(greeting, known);
	if ((ret = handshake_co_raw(h, greeting, sizeof(greeting))) < 0 ||
	    (ret = handshake_co_flush(h)) < 0)
		return ret;
	ret = chan_co_read(&h->conn->chan, bytes, sizeof(bytes), CHAN_BETWEEN);
	if (ret < 0)
		return ret;
	flags = get_be32(bytes);
	if (flags & ~known) {
		conn_log_handshake(h->conn, "unknown client flags flags=0x%x known=0x%x", flags,
				   known);
		h->conn->end_logged = true;
		return -EPROTO;
	}
	h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	return 0;
}

int
handshake_co_run(struct conn *conn)
{
	struct handshake *h = malloc(sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	h->conn = conn;
	h->options = 0;
	h->asked_sizes = false;
	h->out_len = 0;
	handshake_judge(h);
	handshake_forget(h);

	ret = greet(h);
	while (ret == HANDSHAKE_NEXT) {
		ret = next_option(h);
		if (ret == 0)
			ret = dispatch(h);
		/* Nothing more is received, nor is what was received before served. */
		if (ret >= 0 && conn->chan.stopped)
			ret = conn->chan.stopped;
	}
	free(h);
	return ret == HANDSHAKE_DONE ? 0 : ret;
}
