/* SPDX-License-Identifier: MIT */
/*
 * requests.c - fuzzes the transmission: requests of simple, structured and
 * extended sessions, on a device that is slow, out of order and at times broken.
 *
 * The input is records of 8 bytes, as small as what they stand for is large, so
 * that most of what the fuzzer changes changes what a request means and not
 * whether it is one. The first says what the session is like:
 *
 *   0  bits 0-1 headers: simple, structured, extended, extended; 2-3 contexts:
 *      bits; 4 strict sizes; 5 read-only; 6 odd size; 7 small payloads
 *   1  bits 0-1 what a READ tells as holes; 2-3 zeroes detected; 4 no discards;
 *      5 the backend stops at errors; 6 small buffer; 7 asks for sizes
 *   2  bits 0-3 what fails: reads, writes, zeroes, discards; 4-5 with what, or
 *      whether it is held; 6-7 how often
 *   3  where it fails: bits 0-3 from this 16 KiB of the kept part on, 4-7 so many
 *      blocks
 *   4  bits 0-2 length of pieces that are sent, 3-5 of those that are taken; 6-7
 *      how much is read in all
 *   5  bit 7 pipes; the rest, and two more bytes, seed
 *
 * The others are requests, or something else that the client does; see
 * put_record(). After the handshake, which is a good one, they become the
 * script; exchange.c judges what the server makes of it.
 *
 * Covers: SR-1 XH-1 XH-2 XH-3 XH-4 XH-5 XH-6 XH-9 XH-10 TR-1 TR-3 TR-5 TR-6 TR-7 TR-8 TR-9
 * Covers: TR-10 TR-11 RD-1 RD-2 RD-3 RD-4 RD-5 RD-6 RD-7 WR-1 WR-3 DC-1 WZ-1 WZ-3
 * Covers: BS-1 BS-2 BS-3 BS-4 BS-5 BS-6 BS-7 BS-8 BA-2 BA-3 ER-7 ER-8 ER-11 R-62
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/range.h"
#include "lib/exchange.h"
#include "lib/records.h"
#include "server/nbd/conn.h"
#include "server/limits.h"

/* Longer payloads are never sent whole. */
#define PAYLOAD_MAX (SCRIPT_BYTES / 8)

static struct session session;
static struct haggle haggle;
static struct exchange exchange;
static struct script script;
static size_t read_left; /* bytes that requests may still read */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- The session -------------------------------------------------------------- */

static void
configure_export(const uint8_t *c)
{
	struct export *exp = &session_exports[EXPORT_DISK];
	bool small = c[0] & 0x80, stops = c[1] & 0x20;

	exp->strict = c[0] & 0x10;
	exp->read_only = c[0] & 0x20;
	exp->size_bytes = c[0] & 0x40 ? DISK_BYTES : DISK_EVEN;
	export_set_sizes(exp, &(struct block_sizes){
				      .minimum = small && exp->strict ? 2048 : 0,
				      .maximum = small ? 4096 : 0,
			      });
	exp->sparse = (enum export_sparse)((c[1] & 3) % 3);
	exp->dev->detect_zeroes = (enum dev_detect)((c[1] >> 2 & 3) % 3);
	exp->dev->discard = !(c[1] & 0x10);
	exp->backend.on_read_error = exp->backend.on_write_error =
		stops ? BACKEND_STOP : BACKEND_REPORT;
}

static struct sim_fault
configure_fault(const uint8_t *c)
{
	static const int codes[] = { -EIO, -ENOSPC, -ENODATA, 0 };
	static const unsigned times[] = { 0, 1, 3, 0 };
	unsigned code = c[2] >> 4 & 3, often = c[2] >> 6;
	uint64_t off = DISK_KEPT + (c[3] & 15u) * (16u << 10);

	return (struct sim_fault){
		/* In the order of enum sim_op; lookups go with discards. */
		.ops = (c[2] & 15u) | (c[2] & 8u ? 1u << SIM_STATUS : 0),
		.off = off,
		.end = off + (1 + (c[3] >> 4)) * DISK_BLOCK,
		.times = times[often],
		.permille = often == 3 ? 300 : 0,
		.hold = code == 3,
		.ret = codes[code],
	};
}

static struct session_settings
configure_session(const uint8_t *c)
{
	static const size_t pieces[] = { 100, 1, 7, 28, 1000, 4096, 65536, SCRIPT_BYTES };
	static const size_t reads[] = { 1u << 20, 128u << 10, 256u << 10, 9u << 20 };

	read_left = reads[c[4] >> 6];
	return (struct session_settings){
		.seed = get_be32(c + 4) & 0x7fffff,
		.piece_bytes = pieces[c[4] & 7],
		.take_bytes = pieces[7 - (c[4] >> 3 & 7)],
		.small_buffer = c[1] & 0x40,
		.pipes = c[5] & 0x80,
		.faults = { configure_fault(c) },
	};
}

static void
put_option(uint32_t number, const void *data, size_t len)
{
	uint8_t header[NBD_OPTION_BYTES];

	put_be64(header, NBD_OPTION_MAGIC);
	put_be32(header + 8, number);
	put_be32(header + 12, (uint32_t)len);
	script_put(&script, header, sizeof(header));
	if (len > 0)
		script_put(&script, data, len);
}

/* A handshake that leads to what the first record says. */
static void
put_handshake(const uint8_t *c)
{
	static const uint8_t flags[4] = { 0, 0, 0, 3 };
	static const uint8_t go[] = "\0\0\0\4disk\0\1\0\3";
	static const uint8_t *const sets[] = {
		NULL,
		(const uint8_t *)"\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation",
		(const uint8_t *)"\0\0\0\4disk\0\0\0\1\0\0\0\25qemu:allocation-depth",
		(const uint8_t *)"\0\0\0\4disk\0\0\0\2\0\0\0\17base:allocation"
				 "\0\0\0\25qemu:allocation-depth",
	};
	static const size_t lens[] = { 0, 31, 37, 56 };
	unsigned set = c[0] >> 2 & 3;

	script_put(&script, flags, sizeof(flags));
	if (c[0] & 3)
		put_option((c[0] & 3) == 1 ? NBD_OPT_STRUCTURED_REPLY : NBD_OPT_EXTENDED_HEADERS,
			   NULL, 0);
	if (set)
		put_option(NBD_OPT_SET_META_CONTEXT, sets[set], lens[set]);
	if (c[1] & 0x80)
		put_option(NBD_OPT_GO, go, sizeof(go) - 1);
	else
		put_option(NBD_OPT_GO, "\0\0\0\4disk\0", 10);
}

/* The server must judge requests by what it has told. */
static void
judge_limits(void)
{
	const struct request_limits *told = &exchange.limits, *used = &session.conn->limits;

	check(told->size_bytes == used->size_bytes && told->alignment == used->alignment &&
		      told->payload_max == used->payload_max && told->tflags == used->tflags &&
		      told->headers == used->headers && told->contexts == used->contexts,
	      "requests are judged by other limits than those that were told");
}

/* --- Requests ----------------------------------------------------------------- */

static uint64_t
number_of(uint8_t kind, const uint8_t *two)
{
	static const unsigned shifts[] = { 0, 9, 12, 16 };

	return (uint64_t)get_be16(two) << shifts[kind & 3];
}

/* An offset: a place by KIND, and some way on or back. */
static uint64_t
offset_of(uint8_t kind, const uint8_t *two)
{
	uint64_t size = exchange.limits.size_bytes, way = number_of(kind >> 3, two);
	const uint64_t places[] = {
		0, DISK_KEPT, DISK_KEPT, size, DISK_EVEN, size / 2, UINT64_C(1) << 63, 0,
	};

	return kind & 0x20 ? places[kind & 7] - way : places[kind & 7] + way;
}

static uint64_t
length_of(uint8_t kind, const uint8_t *two, uint64_t offset)
{
	static const uint64_t lengths[] = {
		LIMIT_PAYLOAD_SERVED,
		LIMIT_PAYLOAD_SERVED + 1,
		LIMIT_PAYLOAD_DRAINED,
		LIMIT_PAYLOAD_DRAINED + 1,
		LIMIT_PAYLOAD_ADVERTISED,
		UINT32_MAX,
		UINT64_C(1) << 31,
		UINT64_C(1) << 32,
		UINT64_C(9) << 30,
		UINT64_C(1) << 63,
		UINT64_MAX,
		0,
	};

	if (kind & 0x20)
		return lengths[kind % ARRAY_SIZE(lengths)];
	if (kind & 0x10) /* to the end, or a little less or more */
		return exchange.limits.size_bytes - offset + (uint64_t)((kind & 3) - 1);
	return number_of(kind, two) & (kind & 8 ? 0x3ff : UINT64_MAX);
}

/* As much as the budget has, of a length that would be read. */
static uint64_t
affordable(const struct nbd_request *nbd)
{
	bool reads = nbd->command == NBD_CMD_READ || nbd->command == NBD_CMD_CACHE;
	uint64_t len = nbd->length;

	if (!reads || request_check(&exchange.limits, nbd).ret < 0)
		return len;
	len = MIN(len, (uint64_t)read_left);
	read_left -= (size_t)len;
	return len;
}

static bool
put_header(const struct nbd_request *nbd)
{
	uint8_t header[NBD_REQUEST_BYTES_MAX] = { 0 };
	bool extended = exchange.limits.headers == NBD_EXTENDED;

	put_be32(header, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	put_be16(header + 4, nbd->flags);
	put_be16(header + 6, nbd->command);
	put_be64(header + 16, nbd->offset);
	if (extended)
		put_be64(header + 24, nbd->length);
	else
		put_be32(header + 24, (uint32_t)nbd->length);
	return script_put(&script, header, nbd_request_bytes(exchange.limits.headers));
}

/* A payload of LEN bytes; exchange.c makes something of what is not zero. */
static bool
put_payload(uint64_t len, uint8_t byte)
{
	if (len > SCRIPT_BYTES - script.len)
		return false;
	memset(script.bytes + script.len, byte, (size_t)len);
	script.len += (size_t)len;
	return true;
}

/*
 * A BLOCK_STATUS with a payload: bits 4 and 5 of the variant are the contexts, 6
 * is one more, which is the first again or unknown; bit 6 of the flags cuts it.
 */
static bool
put_status_payload(struct nbd_request *nbd, const uint8_t *r)
{
	uint32_t ids[3] = { exchange.ids[0], exchange.ids[1], r[7] & 1 ? exchange.ids[0] : r[7] };
	uint8_t payload[8 + 4 * ARRAY_SIZE(ids)];
	size_t len = 8;

	put_be64(payload, nbd->length);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		if (r[0] & 0x10u << i) {
			put_be32(payload + len, ids[i]);
			len += 4;
		}
	if (r[1] & 0x40)
		len -= 1 + r[7] % 8u;
	nbd->flags ^= NBD_CMD_FLAG_PAYLOAD_LEN;
	nbd->length = len;
	return put_header(nbd) && script_put(&script, payload, len);
}

static bool
put_request(uint16_t command, const uint8_t *r)
{
	bool has_payload_len = exchange.limits.headers == NBD_EXTENDED;
	struct nbd_request nbd = { .command = command, .flags = r[1] & 0x3f };
	uint64_t payload;

	if (r[1] & 0x80)
		nbd.flags |= 0x8000;
	nbd.offset = offset_of(r[2], r + 3);
	nbd.length = length_of(r[5], r + 6, nbd.offset);
	if (command == NBD_CMD_BLOCK_STATUS && r[0] & 0x80)
		return put_status_payload(&nbd, r);
	if (command == NBD_CMD_WRITE && has_payload_len)
		nbd.flags ^= NBD_CMD_FLAG_PAYLOAD_LEN;
	/* So that they are mostly good. */
	if ((command == NBD_CMD_FLUSH || command == NBD_CMD_DISC) && !(r[0] & 0x80))
		nbd.offset = nbd.length = 0;
	if (!has_payload_len)
		nbd.length &= UINT32_MAX;
	nbd.length = affordable(&nbd);
	payload = request_check(&exchange.limits, &nbd).payload_bytes;
	if (payload <= PAYLOAD_MAX)
		return put_header(&nbd) && put_payload(payload, r[0] & 0x40 ? 0 : 1);
	/* It is cut short, and the end: mostly it is not there at all. */
	if (r[0] & 0x80) {
		put_header(&nbd);
		put_payload(number_of(r[5], r + 6) % PAYLOAD_MAX, 1);
	}
	return !(r[0] & 0x80);
}

/*
 * One record as the script's next bytes, or as an act. False: the script ends.
 *
 *   0  bits 0-3 what it is, 4-7 its variant
 *   1  flags of a request; the number of a command, an act, a count
 *   2  offset, 3-4 how far from there; 5 length, 6-7 how long
 */
static bool
put_record(const uint8_t *r, const uint8_t *before)
{
	static const uint8_t commands[] = {
		NBD_CMD_READ,  NBD_CMD_WRITE,	     NBD_CMD_FLUSH,	   NBD_CMD_TRIM,
		NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS, NBD_CMD_READ,
		NBD_CMD_WRITE, NBD_CMD_READ,	     NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE,
	};
	unsigned what = r[0] & 15;
	bool ok = true;

	if (what < ARRAY_SIZE(commands))
		return put_request(commands[what], r);
	switch (what) {
	case 12: /* again */
		for (unsigned i = r[1] % 160; i > 0 && before && ok; i--)
			ok = put_record(before, NULL);
		return ok;
	case 13:
		return script_act(&script, r[1] % 8 < ACTS ? r[1] % 8 : ACT_WAIT);
	case 14: /* bytes as they are */
		return script_put(&script, r + 1, 1 + (r[0] >> 4) % 7u);
	default: /* DISC, or no command at all */
		return put_request(r[1] & 0x40 ? NBD_CMD_DISC : 8 + (r[1] & 0x3f), r);
	}
}

static void
put_records(const uint8_t *data, size_t size)
{
	const uint8_t *before = NULL;

	for (; size >= RECORD_BYTES; data += RECORD_BYTES, size -= RECORD_BYTES) {
		bool on = put_record(data, before);

		exchange_read(&exchange, script.bytes, script.len);
		if (exchange.full)
			script.len = exchange.read;
		if (!on || exchange.ended || exchange.full)
			break;
		before = (data[0] & 15) == 12 ? before : data;
	}
}

/* --- The run ------------------------------------------------------------------ */

/* What the device may say, for exchange.c. */
static void
note_faults(const uint8_t *c)
{
	const struct sim_fault *f = &session.settings.faults[0];

	if (!f->ops || f->hold)
		return;
	exchange.codes = 1u << nbd_error_of(f->ret);
	/* What a stopped backend holds, of a client that has gone. */
	if (c[1] & 0x20)
		exchange.codes |= 1u << NBD_EIO;
	if (f->ops & 1u << SIM_READ && !f->times && !f->permille)
		exchange.bad = (struct exchange_piece){ f->off, f->end - f->off };
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t config[RECORD_BYTES] = { 0 };
	struct session_settings settings;

	session_prepare();
	memcpy(config, data, MIN(size, sizeof(config)));
	configure_export(config);
	settings = configure_session(config);

	session_begin(&session, &settings);
	haggle_init(&haggle);
	script.len = script.nacts = 0;
	put_handshake(config);
	haggle_read(&haggle, script.bytes, script.len);
	session_run(&session, &script, &haggle.watcher);
	check(haggle.done, "a good handshake has failed");

	exchange_init(&exchange, &haggle, settings.seed + 1);
	judge_limits();
	note_faults(config);
	script.len = script.nacts = 0;
	if (size > sizeof(config))
		put_records(data + sizeof(config), size - sizeof(config));
	session_run(&session, &script, &exchange.watcher);
	session_end(&session, &exchange.watcher);
	exchange_end(&exchange, session.spoiled);
	exchange_release(&exchange);
	return 0;
}
