/* SPDX-License-Identifier: MIT */
/*
 * blk_tail.c - a device with request alignment that ends with a tail served to
 * the byte: how requests are widened and cut there, and a file of odd size with
 * direct I/O against a copy in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/range.h"
#include "blk/io.h"
#include "blk/pad.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_disk.h"

#define DISK_BYTES ((256u << 10) + 3 * 512 + 77)

static struct unit_disk d;
static char path[128];
/* Aligned as direct I/O wants its buffers. */
static _Alignas(4096) uint8_t model[DISK_BYTES], back[DISK_BYTES];

/* --- Widening ----------------------------------------------------------------- */

static bool
may_begin(const struct dev *dev, uint64_t at)
{
	return at >= dev->tail_start || at % dev->limits.request_alignment == 0;
}

/* Every range of small devices: no wider than it has to be. */
START_TEST(plans)
{
	static const uint64_t tails[] = { 0, 8, 24, 32, UINT64_MAX };

	for (size_t t = 0; t < ARRAY_SIZE(tails); t++) {
		struct dev dev = {
			.size_bytes = tails[t] == UINT64_MAX ? 40 : tails[t] + 13,
			.tail_start = tails[t],
			.limits.request_alignment = 8,
		};

		for (uint64_t off = 0; off < dev.size_bytes; off++) {
			for (uint64_t end = off + 1; end <= dev.size_bytes; end++) {
				uint64_t from = off, to = end;
				struct pad p;
				bool padded = pad_plan(&p, &dev, off, end - off);

				while (!may_begin(&dev, from))
					from--;
				while (!may_begin(&dev, to))
					to++;
				ck_assert_uint_eq(p.start, from);
				ck_assert_uint_eq(p.end, to);
				ck_assert_uint_eq(p.head, off - from);
				ck_assert_uint_eq(p.tail, to - end);
				ck_assert(padded == (from != off || to != end));
				ck_assert(p.end <= dev.size_bytes);
				if (padded && to - from == 8)
					ck_assert(p.head_len == 8 && p.tail_len == 0);
				else
					ck_assert(p.head_len == (p.head ? 8 : 0) &&
						  p.tail_len == (p.tail ? 8 : 0));
				ck_assert_uint_eq(dev_align_down(&dev, off), from);
				ck_assert_uint_eq(dev_align_up(&dev, end), to);
			}
		}
	}
}
END_TEST

START_TEST(where_it_begins)
{
	const struct dev dev = { .tail_start = 100, .limits.request_alignment = 4 };
	const struct dev none = { .tail_start = UINT64_MAX, .limits.request_alignment = 4 };

	ck_assert_uint_eq(dev_before_tail(&dev, 0, 99), 99);
	ck_assert_uint_eq(dev_before_tail(&dev, 0, 101), 100);
	ck_assert_uint_eq(dev_before_tail(&dev, 99, 50), 1);
	ck_assert_uint_eq(dev_before_tail(&dev, 100, 50), 50);
	ck_assert_uint_eq(dev_before_tail(&none, 5, UINT64_C(1) << 60), UINT64_C(1) << 60);
	ck_assert_uint_eq(dev_align_at(&dev, 99), 4);
	ck_assert_uint_eq(dev_align_at(&dev, 100), 1);
	ck_assert_uint_eq(dev_align_at(&none, 100), 4);
}
END_TEST

/* --- Files -------------------------------------------------------------------- */

/* A new file, open; its name is in path. */
static int
new_file(void)
{
	const char *dir = getenv("TEST_TMP");

	snprintf(path, sizeof(path), "%s/blk_tail.XXXXXX", dir ? dir : "/var/tmp");
	return mkstemp(path);
}

static void
make_file(off_t size)
{
	int fd = new_file();

	ck_assert(fd >= 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
	memset(model, 0, sizeof(model));
}

static void
open_file(off_t size, enum dev_cache cache)
{
	static struct dev_prop path_prop = { "path", path };
	const struct dev_config config = {
		.driver = "io_uring",
		.props = &path_prop,
		.nprops = 1,
		.cache = cache,
		.discard = true,
		.nqueues = 1,
	};

	make_file(size);
	unit_disk_open(&d, &config);
	ck_assert_uint_eq(d.dev->size_bytes, size);
	ck_assert(d.dev->direct);
}

static void
close_file(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, d.dev->size_bytes);
	unit_disk_close(&d);
	unlink(path);
}

static void
check_contents(void)
{
	memset(back, 0x5c, sizeof(back));
	ck_assert_int_eq(unit_disk_read(&d, 0, back, DISK_BYTES), 0);
	for (size_t i = 0; i < DISK_BYTES; i++)
		if (back[i] != model[i])
			ck_abort_msg("byte %zu is %02x, not %02x", i, back[i], model[i]);
}

static void
check_file(void)
{
	FILE *f = fopen(path, "rb");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(back, 1, sizeof(back), f), DISK_BYTES);
	fclose(f);
	ck_assert(memcmp(back, model, DISK_BYTES) == 0);
}

/* Cuts LEN bytes at BUF into at most MAX segments of any length. */
static int
random_iov(uint64_t *seed, uint8_t *buf, size_t len, struct iovec *iov, int max)
{
	int n = 0;

	while (len > 0) {
		size_t take = 1 + unit_random(seed) % 3000;

		if (n == max - 1 || take > len)
			take = len;
		iov[n++] = (struct iovec){ buf, take };
		buf += take;
		len -= take;
	}
	return n;
}

/* A range around the start of the tail, mostly. */
static void
random_range(uint64_t *seed, uint64_t *off, uint64_t *len)
{
	uint64_t r = unit_random(seed), tail = d.dev->tail_start;

	switch (r % 4) {
	case 0: /* anywhere */
		*off = (r >> 8) % DISK_BYTES;
		break;
	case 1: /* in it */
		*off = tail + (r >> 8) % (DISK_BYTES - tail);
		break;
	default: /* in front of it, most of them across */
		*off = tail - 1 - (r >> 8) % 9000;
		break;
	}
	*len = unit_random(seed) % (MIN(DISK_BYTES - *off, (uint64_t)20000) + 1);
	if (r % 5 == 0) /* all the rest, from or to the start */
		*len = *off < tail && r >> 60 & 1 ? tail - *off : DISK_BYTES - *off;
}

static void
random_requests(unsigned steps)
{
	static uint8_t pattern[DISK_BYTES];
	uint64_t seed = unit_seed();
	struct iovec iov[24];

	for (unsigned step = 0; step < steps; step++) {
		uint64_t r = unit_random(&seed), off, len;
		unsigned flags = r >> 60 & BLK_FUA;
		int ret;

		random_range(&seed, &off, &len);
		switch (r % 6) {
		case 0:
		case 1:
			for (size_t i = 0; i < len; i++)
				pattern[i] = (uint8_t)unit_random(&seed);
			ret = unit_disk_run(&d, (struct unit_request){
				.op = UNIT_WRITE, .off = off, .iov = iov, .flags = flags,
				.iovcnt = random_iov(&seed, pattern, len, iov, 24) });
			memcpy(model + off, pattern, len);
			break;
		case 2:
			ret = unit_disk_zeroes(&d, off, len,
					       flags | (r >> 50 & 1 ? BLK_MAY_UNMAP : 0));
			memset(model + off, 0, len);
			break;
		case 3: /* what is discarded we write again: its contents are open */
			ret = unit_disk_discard(&d, off, len, flags);
			ck_assert_int_eq(ret, 0);
			ret = unit_disk_write(&d, off, model + off, len, 0);
			break;
		case 4:
			ret = unit_disk_flush(&d);
			break;
		default:
			ret = unit_disk_run(&d, (struct unit_request){
				.op = UNIT_READ, .off = off, .iov = iov,
				.iovcnt = random_iov(&seed, back, len, iov, 24) });
			ck_assert(memcmp(back, model + off, len) == 0);
			break;
		}
		ck_assert_msg(ret == 0, "step %u: %llu+%llu: %d", step, (unsigned long long)off,
			      (unsigned long long)len, ret);
	}
	check_contents();
}

/* Limits that the driver does not have are kept all the same. */
static const struct {
	enum dev_cache cache;
	uint64_t max_transfer, mem_alignment, max_write_zeroes, zero_alignment;
	unsigned max_segments;
} limits[] = {
	{ .cache = DEV_CACHE_NONE },
	{ .cache = DEV_CACHE_DIRECTSYNC },
	{ .cache = DEV_CACHE_NONE, .max_transfer = 4096, .mem_alignment = 512 },
	{ .cache = DEV_CACHE_NONE, .max_segments = 1, .max_write_zeroes = 4096 },
	{ .cache = DEV_CACHE_NONE, .max_segments = 3, .zero_alignment = 4096 },
};

START_TEST(against_model)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct dev_limits *l;

		open_file(DISK_BYTES, limits[i].cache);
		l = &d.dev->limits;
		ck_assert(d.dev->tail_start < DISK_BYTES);
		ck_assert_uint_eq(d.dev->tail_start % l->request_alignment, 0);
		if (limits[i].max_transfer)
			l->max_transfer = limits[i].max_transfer;
		l->mem_alignment = MAX(l->mem_alignment, limits[i].mem_alignment);
		l->max_write_zeroes = limits[i].max_write_zeroes;
		l->zero_alignment = limits[i].zero_alignment;
		if (limits[i].max_segments)
			l->max_segments = limits[i].max_segments;
		random_requests(400);
		ck_assert_int_eq(unit_disk_write(&d, DISK_BYTES, "x", 1, 0), -EIO);
		ck_assert_int_eq(unit_disk_flush(&d), 0);
		check_file();
		close_file();
	}
}
END_TEST

/* Many at once, each on some bytes of its own, on both sides of the start. */
START_TEST(many_together)
{
	static struct unit_request r[64];
	static struct iovec iov[64];
	uint64_t seed = unit_seed();

	open_file(DISK_BYTES, DEV_CACHE_NONE);
	for (unsigned round = 0; round < 60; round++) {
		uint64_t from = d.dev->tail_start - 1500 + unit_random(&seed) % 700;
		unsigned n = (unsigned)MIN((DISK_BYTES - from) / 37, ARRAY_SIZE(r));

		for (unsigned i = 0; i < n; i++) {
			uint64_t off = from + i * 37;

			for (unsigned k = 0; k < 37; k++)
				model[off + k] = (uint8_t)unit_random(&seed);
			iov[i] = (struct iovec){ model + off, 37 };
			r[i] = (struct unit_request){
				.op = UNIT_WRITE, .off = off, .iov = &iov[i], .iovcnt = 1,
				.flags = i % 16 == 0 ? BLK_FUA : 0,
			};
			if (i % 9 == 8) {
				memset(model + off, 0, 37);
				r[i] = (struct unit_request){
					.op = UNIT_ZEROES, .off = off, .len = 37,
					.flags = BLK_MAY_UNMAP,
				};
			}
			unit_disk_start(&d, &r[i]);
		}
		for (unsigned i = 0; i < n; i++) {
			unit_loop_until(&d.u, &r[i].done);
			ck_assert_int_eq(r[i].ret, 0);
		}
		check_contents();
	}
	ck_assert(queue_counter(d.q, QUEUE_RMW_HEADS) > 0);
	check_file();
	close_file();
}
END_TEST

/* What lies in the tail alone is never read to be written. */
START_TEST(nothing_is_padded_there)
{
	uint64_t tail;

	open_file(DISK_BYTES, DEV_CACHE_NONE);
	tail = d.dev->tail_start;
	ck_assert_int_eq(unit_disk_write(&d, tail + 1, "abc", 3, 0), 0);
	ck_assert_int_eq(unit_disk_write(&d, DISK_BYTES - 1, "z", 1, BLK_FUA), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, tail + 2, 1, 0), 0);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_RMW_HEADS), 0);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_RMW_TAILS), 0);
	/* Across: the block in front of it is, at its head. */
	ck_assert_int_eq(unit_disk_write(&d, tail - 1, "12", 2, 0), 0);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_RMW_HEADS), 1);
	ck_assert_uint_eq(queue_counter(d.q, QUEUE_RMW_TAILS), 0);
	/* Whole blocks and the tail together: two pieces. */
	ck_assert_int_eq(unit_disk_read(&d, 0, back, DISK_BYTES), 0);
	ck_assert(memcmp(back + tail - 1, "12a\0c", 5) == 0);
	ck_assert_uint_eq(back[DISK_BYTES - 1], 'z');
	/* With nothing else to keep them from being one. */
	ck_assert_int_eq(unit_disk_read(&d, 0, back, tail + 512), 0);
	ck_assert(memcmp(back + tail - 1, "12a\0c", 5) == 0);
	ck_assert_int_eq(unit_disk_write(&d, 0, back, tail + 512, 0), 0);
	ck_assert_int_eq(unit_disk_zeroes(&d, 0, tail + 512, 0), 0);
	close_file();
}
END_TEST

START_TEST(small_files)
{
	static const off_t sizes[] = { 1, 511, 513, 4095, 4097, 8193 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t size = (uint64_t)sizes[i];

		open_file(sizes[i], DEV_CACHE_NONE);
		memset(model, 7, size);
		ck_assert_int_eq(unit_disk_write(&d, 0, model, size, BLK_FUA), 0);
		ck_assert_int_eq(unit_disk_zeroes(&d, size - 1, 1, BLK_MAY_UNMAP), 0);
		model[size - 1] = 0;
		ck_assert_int_eq(unit_disk_read(&d, 0, back, size), 0);
		ck_assert(memcmp(back, model, size) == 0);
		ck_assert_int_eq(unit_disk_discard(&d, 0, size, BLK_FUA), 0);
		ck_assert_int_eq(unit_disk_read(&d, 0, back, size + 1), -EIO);
		close_file();
	}
}
END_TEST

/* Whether files of tests lie where direct I/O is possible. */
static bool
direct_possible(void)
{
	int fd = new_file();
	bool possible = fd >= 0 && fcntl(fd, F_SETFL, O_RDWR | O_DIRECT) == 0;

	if (!possible)
		printf("no direct I/O at %s: %s\n", path, strerror(errno));
	close(fd);
	unlink(path);
	return possible;
}

UNIT_MAIN_IF(unit_loop_possible() && direct_possible(), plans, where_it_begins, against_model,
	     many_together, nothing_is_padded_there, small_files)
