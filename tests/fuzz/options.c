/* SPDX-License-Identifier: MIT */
/*
 * options.c - fuzzes the handshake: client flags and options.
 *
 * The input is records of 8 bytes. The first says how the client goes about it:
 *
 *   0  client flags, see put_client_flags()
 *   1  bits 0-2 length of pieces that are sent, 3-5 of those that are taken; 6
 *      small buffer; 7 pipes
 *   2  seed (two bytes)
 *
 * The others are options, or something else that the client does; see
 * put_record(). haggle.c judges what the server makes of them. Where they lead
 * to transmission, three requests of the session's kind follow, and exchange.c
 * judges whether it is what was agreed on.
 *
 * Covers: HS-3 HS-4 HS-5 OP-1 OP-2 OP-3 OP-4 OP-5 OP-6 OP-7 OP-8 OP-11
 * Covers: EN-1 EN-2 EN-3 EN-4 EN-6 LI-1 LI-2 LI-3 IG-1 IG-2 IG-3 IG-5 IG-6 IG-10 IG-11
 * Covers: SR-2 MC-1 MC-2 MC-3 MC-4 MC-5 MC-6 MC-7 MC-8 MC-9
 */
#include <string.h>

#include "base/endian.h"
#include "base/range.h"
#include "lib/exchange.h"
#include "lib/records.h"
#include "server/limits.h"

#define BODY_BYTES (LIMIT_OPTION_BYTES + 16)

static struct session session;
static struct haggle haggle;
static struct exchange exchange;
static struct script script;

/* The data of an option in the making. */
static uint8_t body[BODY_BYTES];
static size_t body_len;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- Options ------------------------------------------------------------------ */

static void
put_client_flags(uint8_t kind)
{
	static const uint32_t flags[] = { 3, 3, 3, 1, 2, 0, 4, 0x80000003 };
	uint8_t bytes[4];

	put_be32(bytes, flags[kind % ARRAY_SIZE(flags)]);
	script_put(&script, bytes, sizeof(bytes));
}

static void
add(const void *data, size_t len)
{
	len = MIN(len, BODY_BYTES - body_len);
	memcpy(body + body_len, data, len);
	body_len += len;
}

static void
add_fill(uint8_t byte, size_t len)
{
	len = MIN(len, BODY_BYTES - body_len);
	memset(body + body_len, byte, len);
	body_len += len;
}

static void
add_u16(uint32_t v)
{
	uint8_t bytes[2];

	put_be16(bytes, (uint16_t)v);
	add(bytes, sizeof(bytes));
}

static void
add_u32(uint32_t v)
{
	uint8_t bytes[4];

	put_be32(bytes, v);
	add(bytes, sizeof(bytes));
}

struct word {
	const char *text; /* NULL: LEN times BYTE */
	uint8_t byte;
	uint32_t len;
};

#define WORD(text) { text, 0, sizeof(text) - 1 }

static const struct word names[] = {
	WORD("disk"),
	WORD(""),
	WORD("frozen"),
	WORD("taken"),
	{ NULL, 'n', LIMIT_STRING_BYTES },
	WORD("nosuch"),
	{ NULL, 'n', LIMIT_STRING_BYTES + 1 },
	{ NULL, 'x', LIMIT_STRING_BYTES },
	WORD("disk\0"),
	WORD("\xc3\xbc\xf0\x9f\x92\xbe"),
	WORD("\xed\xa0\x80"),
	{ NULL, 'n', LIMIT_STRING_BYTES - 1 },
	{ NULL, '\n', 100 },
	{ NULL, 'z', 100000 },
	WORD("disk"),
	{ NULL, 'm', LIMIT_STRING_BYTES },
};

static const struct word queries[] = {
	WORD("base:allocation"),
	WORD("qemu:allocation-depth"),
	WORD("base:"),
	WORD("qemu:"),
	WORD("base"),
	WORD(""),
	WORD(":"),
	WORD("base:allocation-depth"),
	WORD("qemu:dirty-bitmap:x"),
	WORD("x-blkgate:"),
	WORD("base:\xff"),
	WORD("base:allocation\0"),
	{ NULL, 'q', LIMIT_STRING_BYTES },
	{ NULL, 'q', LIMIT_STRING_BYTES + 1 },
	WORD("base:allocatio"),
	WORD("base:allocation"),
};

static void
add_word(const struct word *w)
{
	if (w->text)
		add(w->text, w->len);
	else
		add_fill(w->byte, w->len);
}

/* A length or a count, or something near it. */
static uint32_t
lie(uint32_t truth, uint8_t how)
{
	switch (how) {
	case 1:
		return truth + 1;
	case 2:
		return truth - 1;
	case 3:
		return UINT32_MAX;
	case 4:
		return truth * 2 + 4;
	case 5:
		return 0;
	case 6:
		return truth ^ 0x80000000;
	default:
		return truth;
	}
}

static void
add_name(const uint8_t *r)
{
	const struct word *name = &names[r[1] & 15];

	add_u32(lie(name->len, r[1] >> 4));
	add_word(name);
}

/* How many infos or queries there are. */
static unsigned
count_of(const uint8_t *r)
{
	static const unsigned many[] = { LIMIT_META_QUERIES, LIMIT_META_QUERIES + 1, 20000, 65535 };

	return r[2] < 0xf0 ? r[2] & 15 : many[r[2] & 3];
}

static void
add_infos(const uint8_t *r)
{
	unsigned n = count_of(r);

	add_name(r);
	add_u16(lie(n, r[4] & 15));
	for (unsigned i = 0; i < n; i++)
		add_u16(i < 4 ? r[3] >> 2 * i & 3 : i * r[3]);
}

static void
add_queries(const uint8_t *r)
{
	unsigned n = count_of(r);

	add_name(r);
	add_u32(lie(n, r[4] & 15));
	for (unsigned i = 0; i < n; i++) {
		const struct word *q = &queries[(r[3] + i * (r[3] >> 4)) & 15];

		/* Of many not all can be as long as they like. */
		if (n > 16 && q->len > 32)
			q = &queries[5];
		add_u32(i == 0 ? lie(q->len, r[4] >> 4) : q->len);
		add_word(q);
	}
}

static bool
put_option(uint32_t number, const uint8_t *r)
{
	uint8_t header[NBD_OPTION_BYTES];
	uint32_t len;

	if (r[6] & 1) /* too much, and known to be there */
		add_fill(r[7], 1 + r[7] % 64u);
	len = (uint32_t)body_len;
	if (r[6] & 2) /* not all, or not only, what is there */
		len = lie(len, r[6] >> 4 & 7);
	if (r[6] & 4)
		len = LIMIT_OPTION_BYTES + (r[6] >> 4 & 1u);
	put_be64(header, NBD_OPTION_MAGIC ^ (r[6] == 0xff ? 1u : 0u));
	put_be32(header + 8, number);
	put_be32(header + 12, len);
	return script_put(&script, header, sizeof(header)) && script_put(&script, body, body_len);
}

/*
 * One record as the script's next bytes, or as an act. False: there is no room.
 *
 *   0  bits 0-3 what it is, 4-7 its variant
 *   1  bits 0-3 name, 4-7 what its length is said to be
 *   2  how many infos or queries; 3 which
 *   4  bits 0-3 what their number is said to be, 4-7 the length of the first
 *   6  bits 0-2 what is wrong with the length of the option, 4-7 how
 *   7  what is too much
 */
static bool
put_record(const uint8_t *r)
{
	static const uint8_t unknown[] = { 0, 4, 5, 12, 99, 255 };

	body_len = 0;
	switch (r[0] & 15) {
	case 0:
		add_word(&names[r[1] & 15]);
		return put_option(NBD_OPT_EXPORT_NAME, r);
	case 1:
		return put_option(NBD_OPT_ABORT, r);
	case 2:
		return put_option(NBD_OPT_LIST, r);
	case 3:
	case 4:
		add_infos(r);
		return put_option(NBD_OPT_INFO, r);
	case 5:
	case 6:
		add_infos(r);
		return put_option(NBD_OPT_GO, r);
	case 7:
		return put_option(NBD_OPT_STRUCTURED_REPLY, r);
	case 8:
		add_queries(r);
		return put_option(NBD_OPT_LIST_META_CONTEXT, r);
	case 9:
	case 10:
		add_queries(r);
		return put_option(NBD_OPT_SET_META_CONTEXT, r);
	case 11:
		return put_option(NBD_OPT_EXTENDED_HEADERS, r);
	case 12:
		add_fill(r[7], r[5] * 17u);
		return put_option(
			r[1] & 0x80 ? get_be32(r + 1) : unknown[r[1] % ARRAY_SIZE(unknown)], r);
	case 13:
		return script_act(&script, r[1] % 8 < ACTS ? r[1] % 8 : ACT_WAIT);
	case 14:
		return script_put(&script, r + 1, 1 + (r[0] >> 4) % 7u);
	default: /* the same option again, without anything that it needs */
		return put_option(r[1] & 15u, r);
	}
}

static void
put_records(const uint8_t *data, size_t size)
{
	for (; size >= RECORD_BYTES && !haggle.ended; data += RECORD_BYTES, size -= RECORD_BYTES) {
		if (!put_record(data))
			break;
		haggle_read(&haggle, script.bytes, script.len);
	}
	/* Whatever follows would be requests. */
	if (haggle.exp)
		script.len = haggle.read;
}

/* --- What it leads to ---------------------------------------------------------- */

static void
put_request(uint16_t command, uint16_t flags, uint64_t length)
{
	uint8_t header[NBD_REQUEST_BYTES_MAX] = { 0 };
	bool extended = haggle.headers == NBD_EXTENDED;

	put_be32(header, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	put_be16(header + 4, flags);
	put_be16(header + 6, command);
	put_be64(header + 16, DISK_KEPT);
	if (extended)
		put_be64(header + 24, length);
	else
		put_be32(header + 24, (uint32_t)length);
	script_put(&script, header, nbd_request_bytes(haggle.headers));
}

static void
transmit(void)
{
	exchange_init(&exchange, &haggle, session.settings.seed + 1);
	script.len = script.nacts = 0;
	put_request(NBD_CMD_READ, 0, 1000);
	put_request(NBD_CMD_BLOCK_STATUS, 0, DISK_BLOCK);
	put_request(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0);
	put_request(NBD_CMD_DISC, 0, 0);
	exchange_read(&exchange, script.bytes, script.len);
	session_run(&session, &script, &exchange.watcher);
	session_end(&session, &exchange.watcher);
	exchange_end(&exchange, session.spoiled);
	exchange_release(&exchange);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = { 100, 1, 7, 16, 1000, 4096, 65536, SCRIPT_BYTES };
	uint8_t config[RECORD_BYTES] = { 0 };

	session_prepare();
	memcpy(config, data, MIN(size, sizeof(config)));
	session_begin(&session, &(struct session_settings){
					.seed = get_be16(config + 2),
					.piece_bytes = pieces[config[1] & 7],
					.take_bytes = pieces[7 - (config[1] >> 3 & 7)],
					.small_buffer = config[1] & 0x40,
					.pipes = config[1] & 0x80,
				});
	haggle_init(&haggle);
	script.len = script.nacts = 0;
	put_client_flags(config[0]);
	if (size > sizeof(config))
		put_records(data + sizeof(config), size - sizeof(config));
	haggle_read(&haggle, script.bytes, script.len);
	session_run(&session, &script, &haggle.watcher);
	haggle_end(&haggle, session.spoiled || !haggle.ended);
	if (haggle.done)
		transmit();
	else
		session_end(&session, &haggle.watcher);
	haggle_end(&haggle, session.spoiled);
	return 0;
}
