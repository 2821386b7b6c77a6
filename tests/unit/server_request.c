/* SPDX-License-Identifier: MIT */
/*
 * server_request.c - the verdict on a request, against a second opinion.
 *
 * expect() says what the protocol and our rulings ask for, fault by fault; the
 * tests run it against request_check() for every combination of what matters,
 * alignment included: no export announces one today.
 *
 * Covers: SZ-2 RD-7 WR-2
 */
#include "server/nbd/request.h"

#include <errno.h>

#include "base/endian.h"
#include "server/limits.h"
#include "tests/lib/unit.h"

#define SIZE (1ull << 30)
#define SERVED (64u << 20)

#define BASE_FLAGS \
	(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE)
#define WRITE_FLAGS (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO)

static bool
writes(unsigned cmd)
{
	return cmd == NBD_CMD_WRITE || cmd == NBD_CMD_TRIM || cmd == NBD_CMD_WRITE_ZEROES;
}

/* The first fault in the order of request.h. */
static int
expect(const struct request_limits *l, const struct nbd_request *r)
{
	bool structured = l->headers != NBD_SIMPLE;
	unsigned allowed = NBD_CMD_FLAG_FUA;
	__int128 end = (__int128)r->offset + r->length;
	uint64_t longest = SERVED;

	/* Command: what is served at all. */
	if (r->command == NBD_CMD_DISC || r->command > NBD_CMD_BLOCK_STATUS)
		return -EINVAL;
	/* Flags. */
	if (r->command == NBD_CMD_WRITE_ZEROES)
		allowed |= NBD_CMD_FLAG_NO_HOLE;
	if (r->command == NBD_CMD_WRITE_ZEROES && l->tflags & NBD_FLAG_SEND_FAST_ZERO)
		allowed |= NBD_CMD_FLAG_FAST_ZERO;
	if (r->command == NBD_CMD_READ && l->tflags & NBD_FLAG_SEND_DF)
		allowed |= NBD_CMD_FLAG_DF;
	if (r->command == NBD_CMD_BLOCK_STATUS)
		allowed |= NBD_CMD_FLAG_REQ_ONE;
	if (r->command == NBD_CMD_WRITE && l->headers == NBD_EXTENDED)
		allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (r->command == NBD_CMD_BLOCK_STATUS && l->tflags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)
		allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (r->flags & ~allowed)
		return -EINVAL;
	/* Read-only. */
	if (writes(r->command) && l->tflags & NBD_FLAG_READ_ONLY)
		return -EPERM;
	/* Not advertised, or nothing agreed on to tell of. */
	if (r->command == NBD_CMD_TRIM && !(l->tflags & NBD_FLAG_SEND_TRIM))
		return -EINVAL;
	if (r->command == NBD_CMD_WRITE_ZEROES && !(l->tflags & NBD_FLAG_SEND_WRITE_ZEROES))
		return -EINVAL;
	if (r->command == NBD_CMD_BLOCK_STATUS && !l->contexts)
		return -EINVAL;
	/* The range is in the payload: 8 bytes and an id of 4 for each, two at most here. */
	if (r->command == NBD_CMD_BLOCK_STATUS && r->flags & NBD_CMD_FLAG_PAYLOAD_LEN)
		return r->length == 12 || r->length == 16 ? 0 : -EINVAL;
	/* Range. */
	if (r->command == NBD_CMD_FLUSH)
		return r->offset == 0 && r->length == 0 ? 0 : -EINVAL;
	if (end > (__int128)l->size_bytes)
		return r->command == NBD_CMD_WRITE || r->command == NBD_CMD_WRITE_ZEROES ? -ENOSPC :
											    -EINVAL;
	if (r->command == NBD_CMD_BLOCK_STATUS && r->length == 0)
		return -EINVAL;
	/* Alignment: the end of an odd size is one, too. */
	if (r->offset % l->alignment)
		return -EINVAL;
	if (r->length % l->alignment && end != (__int128)l->size_bytes)
		return -EINVAL;
	/* Size. */
	if (r->command == NBD_CMD_READ && structured) {
		if (r->flags & NBD_CMD_FLAG_DF)
			longest = l->payload_max;
		return r->length > longest ? -EOVERFLOW : 0;
	}
	if ((r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE) && r->length > longest)
		return -EINVAL;
	return 0;
}

/* What follows the header, whatever the verdict. */
static uint64_t
expect_payload(const struct request_limits *l, const struct nbd_request *r)
{
	if (r->command == NBD_CMD_WRITE)
		return r->length;
	return l->headers == NBD_EXTENDED && r->flags & NBD_CMD_FLAG_PAYLOAD_LEN ? r->length : 0;
}

static void
check(const struct request_limits *l, const struct nbd_request *r)
{
	struct request_verdict v = request_check(l, r);
	int ret = expect(l, r);
	bool status = r->command == NBD_CMD_BLOCK_STATUS && v.payload_bytes == 0;

	if (v.ret != ret)
		ck_abort_msg("%s flags %x offset %llx length %llx tflags %x align %llu headers %d: "
			     "%d, not %d",
			     nbd_cmd_name(r->command), r->flags, (unsigned long long)r->offset,
			     (unsigned long long)r->length, l->tflags,
			     (unsigned long long)l->alignment, l->headers, v.ret, ret);
	if ((v.ret == 0) != (v.fault == REQUEST_FINE))
		ck_abort_msg("%s: result %d with fault %d", nbd_cmd_name(r->command), v.ret,
			     v.fault);
	if (v.payload_bytes != expect_payload(l, r))
		ck_abort_msg("%s: payload %llu", nbd_cmd_name(r->command),
			     (unsigned long long)v.payload_bytes);
	/* Memory only for what is executed, and never more than is served. */
	if (ret < 0 || !(r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE || status)) {
		if (v.buffer_bytes != 0)
			ck_abort_msg("%s: buffer %u", nbd_cmd_name(r->command), v.buffer_bytes);
	} else if (status ? v.buffer_bytes == 0 || v.buffer_bytes > LIMIT_STATUS_BYTES :
			    v.buffer_bytes != r->length) {
		ck_abort_msg("%s: buffer %u", nbd_cmd_name(r->command), v.buffer_bytes);
	}
}

static const uint64_t offsets[] = {
	0, 1, 511, 512, 4096, SIZE - 4096, SIZE - 512, SIZE - 1, SIZE, SIZE + 1, SIZE + 4096,
	(1ull << 63), UINT64_MAX - 4095, UINT64_MAX,
};
static const uint64_t lengths[] = {
	0, 1, 512, 513, 4096, 256u << 10, (256u << 10) + 4096, 32u << 20, SERVED - 4096, SERVED,
	SERVED + 1, SERVED + 4096, 128u << 20, (128u << 20) + 4096, 1u << 30, UINT32_MAX - 4095,
	UINT32_MAX, 1ull << 32, SIZE * 4, 12, 16, 20, (1ull << 63) - 4096, UINT64_MAX - 511, UINT64_MAX,
};

static void
check_ranges(const struct request_limits *l, uint16_t command, uint16_t flags)
{
	for (size_t o = 0; o < ARRAY_SIZE(offsets); o++)
		for (size_t n = 0; n < ARRAY_SIZE(lengths); n++) {
			/* Compact requests have 32 bits for it. */
			if (l->headers != NBD_EXTENDED && lengths[n] > UINT32_MAX)
				continue;
			const struct nbd_request r = {
				.command = command,
				.flags = flags,
				.cookie = 1,
				.offset = offsets[o],
				.length = lengths[n],
			};

			check(l, &r);
		}
}

/* Sessions: what was agreed on, and the transmission flags that come with it. */
static const struct session {
	enum nbd_headers headers;
	uint16_t tflags;
	uint32_t contexts;
} sessions[] = {
	{ NBD_SIMPLE, 0, 0 },
	{ NBD_STRUCTURED, NBD_FLAG_SEND_DF, 0 },
	{ NBD_STRUCTURED, NBD_FLAG_SEND_DF, 1 },
	{ NBD_EXTENDED, NBD_FLAG_SEND_DF, 0 },
	{ NBD_EXTENDED, NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STATUS_PAYLOAD, 3 },
};

static void
check_session(const struct session *session)
{
	static const uint16_t tflags[] = {
		BASE_FLAGS | WRITE_FLAGS,
		BASE_FLAGS | (WRITE_FLAGS & ~NBD_FLAG_SEND_TRIM),
		BASE_FLAGS | NBD_FLAG_READ_ONLY,
		BASE_FLAGS | WRITE_FLAGS | NBD_FLAG_READ_ONLY,
	};
	static const uint64_t aligns[] = { 1, 512, 4096 };
	static const uint64_t sizes[] = { SIZE, 0, UINT64_MAX >> 1, SIZE + 1 };
	static const uint16_t others[] = { 9, 255, 256, 0x8000, 0xffff };

	for (size_t t = 0; t < ARRAY_SIZE(tflags); t++)
	for (size_t a = 0; a < ARRAY_SIZE(aligns); a++)
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		const struct request_limits l = {
			.size_bytes = sizes[s],
			.alignment = aligns[a],
			.payload_max = 32u << 20,
			.tflags = (uint16_t)(tflags[t] | session->tflags),
			.headers = session->headers,
			.contexts = session->contexts,
		};

		for (uint16_t command = 0; command <= 8; command++)
			for (uint16_t flags = 0; flags < 64; flags++)
				check_ranges(&l, command, flags);
		for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
			check_ranges(&l, others[i], 0);
			check_ranges(&l, others[i], NBD_CMD_FLAG_PAYLOAD_LEN);
		}
	}
}

START_TEST(every_combination)
{
	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++)
		check_session(&sessions[i]);
}
END_TEST

/* Each flag bit alone, on each command. */
START_TEST(every_flag_bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(sessions); i++) {
		const struct request_limits l = {
			.size_bytes = SIZE,
			.alignment = 1,
			.payload_max = 32u << 20,
			.tflags = (uint16_t)(BASE_FLAGS | WRITE_FLAGS | sessions[i].tflags),
			.headers = sessions[i].headers,
			.contexts = sessions[i].contexts,
		};

		for (uint16_t command = 0; command <= 8; command++)
			for (unsigned bit = 0; bit < 16; bit++)
				check_ranges(&l, command, (uint16_t)(1u << bit));
	}
}
END_TEST

/* Said once more in plain words, with faults piled on each other. */
START_TEST(precedence)
{
	static const struct {
		uint16_t command, flags;
		uint64_t offset;
		uint64_t length;
		bool read_only;
		int ret;
	} table[] = {
		/* An unknown flag counts before read-only. */
		{ NBD_CMD_WRITE, NBD_CMD_FLAG_DF, SIZE, 1, true, -EINVAL },
		/* Read-only counts before the range, the range before the alignment. */
		{ NBD_CMD_WRITE, 0, SIZE + 1, 1, true, -EPERM },
		{ NBD_CMD_TRIM, 0, SIZE + 1, 1, true, -EPERM },
		{ NBD_CMD_WRITE_ZEROES, 0, SIZE + 1, 1, true, -EPERM },
		{ NBD_CMD_WRITE, 0, SIZE + 1, 1, false, -ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 0, SIZE + 1, 1, false, -ENOSPC },
		{ NBD_CMD_TRIM, 0, SIZE + 1, 1, false, -EINVAL },
		{ NBD_CMD_READ, 0, SIZE + 1, 1, false, -EINVAL },
		{ NBD_CMD_WRITE, 0, 1, 1, false, -EINVAL },
		/* Beyond the end and too long: beyond the end. */
		{ NBD_CMD_WRITE, 0, SIZE - 4096, SERVED * 2, false, -ENOSPC },
		{ NBD_CMD_WRITE, 0, 0, SERVED * 2, false, -EINVAL },
		/* The end itself, with nothing. */
		{ NBD_CMD_WRITE, 0, SIZE, 0, false, 0 },
		{ NBD_CMD_READ, NBD_CMD_FLAG_FUA, SIZE, 0, true, 0 },
		{ NBD_CMD_FLUSH, 0, 0, 0, true, 0 },
		{ NBD_CMD_FLUSH, 0, 512, 0, false, -EINVAL },
		{ NBD_CMD_FLUSH, 0, 0, 512, false, -EINVAL },
		{ NBD_CMD_CACHE, 0, 0, 4096, true, 0 },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_NO_HOLE, 0, 4096, true, -EINVAL },
		/* Sums that wrap. */
		{ NBD_CMD_READ, 0, UINT64_MAX - 511, 512, false, -EINVAL },
		{ NBD_CMD_WRITE, 0, UINT64_MAX - 511, 4096, false, -ENOSPC },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct request_limits l = {
			.size_bytes = SIZE,
			.alignment = 512,
			.payload_max = 32u << 20,
			.tflags = table[i].read_only ? BASE_FLAGS | NBD_FLAG_READ_ONLY :
						       BASE_FLAGS | WRITE_FLAGS,
		};
		const struct nbd_request r = {
			.command = table[i].command,
			.flags = table[i].flags,
			.offset = table[i].offset,
			.length = table[i].length,
		};

		ck_assert_msg(request_check(&l, &r).ret == table[i].ret, "row %zu: %d", i,
			      request_check(&l, &r).ret);
		check(&l, &r);
	}
}
END_TEST

/* What a BLOCK_STATUS with a payload asks for. */
START_TEST(status_payload)
{
	const struct request_limits l = {
		.size_bytes = SIZE, .alignment = 1, .headers = NBD_EXTENDED, .contexts = 3,
		.tflags = BASE_FLAGS | NBD_FLAG_BLOCK_STATUS_PAYLOAD,
	};
	const uint32_t base = 0xffffffff; /* ids may wrap */
	static const struct {
		unsigned n;
		uint32_t ids[2];
		bool ok;
		uint32_t contexts;
	} table[] = {
		{ 1, { 0xffffffff }, true, 1 },
		{ 1, { 0 }, true, 2 },
		{ 2, { 0, 0xffffffff }, true, 3 },
		{ 2, { 0, 0 }, false, 0 },
		{ 1, { 1 }, false, 0 },
		{ 2, { 0, 7 }, false, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t payload[16];
		struct nbd_request r = {
			.command = NBD_CMD_BLOCK_STATUS,
			.flags = NBD_CMD_FLAG_PAYLOAD_LEN | NBD_CMD_FLAG_REQ_ONE,
			.offset = 512,
			.length = 8 + 4 * table[i].n,
		};
		uint32_t contexts = 0;
		bool ok;

		put_be64(payload, 1ull << 40);
		for (unsigned n = 0; n < table[i].n; n++)
			put_be32(payload + 8 + 4 * n, table[i].ids[n]);
		ck_assert_int_eq(request_check(&l, &r).ret, 0);
		ok = request_status_payload(&l, base, payload, r.length, &r, &contexts);
		ck_assert_msg(ok == table[i].ok, "row %zu", i);
		ck_assert_uint_eq(contexts, table[i].contexts);
		if (!ok)
			continue;
		ck_assert_uint_eq(r.length, 1ull << 40);
		ck_assert_uint_eq(r.flags, NBD_CMD_FLAG_REQ_ONE);
		ck_assert_int_eq(request_check(&l, &r).fault, REQUEST_RANGE);
	}
}
END_TEST

UNIT_MAIN(every_combination, every_flag_bit, precedence, status_payload)
