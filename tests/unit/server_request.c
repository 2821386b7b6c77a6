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
	unsigned allowed = NBD_CMD_FLAG_FUA;
	__int128 end = (__int128)r->offset + r->length;

	/* Command: what is served at all. */
	if (r->command == NBD_CMD_DISC || r->command >= NBD_CMD_BLOCK_STATUS)
		return -EINVAL;
	/* Flags. */
	if (r->command == NBD_CMD_WRITE_ZEROES)
		allowed |= NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	if (r->flags & ~allowed)
		return -EINVAL;
	/* Read-only. */
	if (writes(r->command) && l->tflags & NBD_FLAG_READ_ONLY)
		return -EPERM;
	/* Not advertised. */
	if (r->command == NBD_CMD_TRIM && !(l->tflags & NBD_FLAG_SEND_TRIM))
		return -EINVAL;
	/* Range. */
	if (r->command == NBD_CMD_FLUSH)
		return r->offset == 0 && r->length == 0 ? 0 : -EINVAL;
	if (end > (__int128)l->size_bytes)
		return r->command == NBD_CMD_WRITE || r->command == NBD_CMD_WRITE_ZEROES ? -ENOSPC :
											    -EINVAL;
	/* Alignment. */
	if (r->offset % l->alignment || r->length % l->alignment)
		return -EINVAL;
	/* Size. */
	if ((r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE) && r->length > SERVED)
		return -EINVAL;
	return 0;
}

static void
check(const struct request_limits *l, const struct nbd_request *r)
{
	struct request_verdict v = request_check(l, r);
	uint32_t buffer = 0;
	int ret = expect(l, r);

	if (v.ret != ret)
		ck_abort_msg("%s flags %x offset %llx length %x tflags %x align %llu: %d, not %d",
			     nbd_cmd_name(r->command), r->flags, (unsigned long long)r->offset,
			     r->length, l->tflags, (unsigned long long)l->alignment, v.ret, ret);
	/* What follows the header follows in any case. */
	if (v.payload_bytes != (r->command == NBD_CMD_WRITE ? r->length : 0))
		ck_abort_msg("%s: payload %u", nbd_cmd_name(r->command), v.payload_bytes);
	/* Memory only for what is executed, and never more than is served. */
	if (ret == 0 && (r->command == NBD_CMD_READ || r->command == NBD_CMD_WRITE))
		buffer = r->length;
	if (v.buffer_bytes != buffer)
		ck_abort_msg("%s: buffer %u, not %u", nbd_cmd_name(r->command), v.buffer_bytes,
			     buffer);
}

static const uint64_t offsets[] = {
	0, 1, 511, 512, 4096, SIZE - 4096, SIZE - 512, SIZE - 1, SIZE, SIZE + 1, SIZE + 4096,
	(1ull << 63), UINT64_MAX - 4095, UINT64_MAX,
};
static const uint32_t lengths[] = {
	0, 1, 512, 513, 4096, 256u << 10, (256u << 10) + 4096, 32u << 20, SERVED - 4096, SERVED,
	SERVED + 1, SERVED + 4096, 128u << 20, (128u << 20) + 4096, 1u << 30, UINT32_MAX - 4095,
	UINT32_MAX,
};

static void
check_ranges(const struct request_limits *l, uint16_t command, uint16_t flags)
{
	for (size_t o = 0; o < ARRAY_SIZE(offsets); o++)
		for (size_t n = 0; n < ARRAY_SIZE(lengths); n++) {
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

START_TEST(every_combination)
{
	static const uint16_t tflags[] = {
		BASE_FLAGS | WRITE_FLAGS,
		BASE_FLAGS | (WRITE_FLAGS & ~NBD_FLAG_SEND_TRIM),
		BASE_FLAGS | NBD_FLAG_READ_ONLY,
		BASE_FLAGS | WRITE_FLAGS | NBD_FLAG_READ_ONLY,
	};
	static const uint64_t aligns[] = { 1, 512, 4096 };
	static const uint64_t sizes[] = { SIZE, 0, UINT64_MAX >> 1 };
	static const uint16_t others[] = { 9, 255, 256, 0x8000, 0xffff };

	for (size_t t = 0; t < ARRAY_SIZE(tflags); t++)
	for (size_t a = 0; a < ARRAY_SIZE(aligns); a++)
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		const struct request_limits l = {
			.size_bytes = sizes[s], .alignment = aligns[a], .tflags = tflags[t],
		};

		for (uint16_t command = 0; command <= 8; command++)
			for (uint16_t flags = 0; flags < 64; flags++)
				check_ranges(&l, command, flags);
		for (size_t i = 0; i < ARRAY_SIZE(others); i++)
			check_ranges(&l, others[i], 0);
	}
}
END_TEST

/* Each flag bit alone, on each command. */
START_TEST(every_flag_bit)
{
	const struct request_limits l = {
		.size_bytes = SIZE, .alignment = 1, .tflags = BASE_FLAGS | WRITE_FLAGS,
	};

	for (uint16_t command = 0; command <= 8; command++)
		for (unsigned bit = 0; bit < 16; bit++)
			check_ranges(&l, command, (uint16_t)(1u << bit));
}
END_TEST

/* Said once more in plain words, with faults piled on each other. */
START_TEST(precedence)
{
	static const struct {
		uint16_t command, flags;
		uint64_t offset;
		uint32_t length;
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

UNIT_MAIN(every_combination, every_flag_bit, precedence)
