/* SPDX-License-Identifier: MIT */
/*
 * blk_io.c - the block API over the real drivers: a RAM disk and a file through
 * io_uring, held against a copy in memory.
 */
#include "blk/io.h"

#include <errno.h>
#include <fcntl.h>

#include "tests/lib/unit.h"
#include "tests/lib/unit_alloc.h"
#include "tests/lib/unit_disk.h"

#define DISK_BYTES (4u << 20)

static struct unit_disk d;
static char path[128];
/* Aligned as direct I/O wants its buffers. */
static _Alignas(4096) uint8_t model[DISK_BYTES], pattern[DISK_BYTES], back[DISK_BYTES];

static void
open_mem(void)
{
	static struct dev_prop size = { "size", "4194304" };
	const struct dev_config config = {
		.driver = "mem", .props = &size, .nprops = 1, .discard = true, .nqueues = 1,
	};

	unit_disk_open(&d, &config);
	memset(model, 0, sizeof(model));
}

static void
make_file(off_t size)
{
	const char *dir = getenv("TEST_TMP");
	int fd;

	snprintf(path, sizeof(path), "%s/blk_io.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	ck_assert(fd >= 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
	memset(model, 0, sizeof(model));
}

static struct dev_prop path_prop = { "path", path };

static struct dev_config
file_config(enum dev_cache cache)
{
	return (struct dev_config){
		.driver = "io_uring",
		.props = &path_prop,
		.nprops = 1,
		.cache = cache,
		.discard = true,
		.nqueues = 1,
	};
}

static void
close_file(void)
{
	unit_disk_close(&d);
	unlink(path);
}

/* The whole disk reads as the model. */
static void
check_contents(void)
{
	memset(back, 0x5c, sizeof(back));
	ck_assert_int_eq(unit_disk_read(&d, 0, back, sizeof(back)), 0);
	for (size_t i = 0; i < sizeof(back); i++)
		if (back[i] != model[i])
			ck_abort_msg("byte %zu is %02x, not %02x", i, back[i], model[i]);
}

/* Cuts LEN bytes at BUF into at most MAX segments of a multiple of ALIGN. */
static int
random_iov(uint64_t *seed, uint8_t *buf, size_t len, size_t align, struct iovec *iov, int max)
{
	int n = 0;

	while (len > 0) {
		size_t take = (1 + unit_random(seed) % 9000) / align * align;

		if (take == 0)
			take = align;
		if (n == max - 1 || take > len)
			take = len;
		iov[n++] = (struct iovec){ buf, take };
		buf += take;
		len -= take;
	}
	return n;
}

static void
random_model(unsigned steps)
{
	uint64_t seed = unit_seed(), align = d.dev->limits.request_alignment;
	uint64_t blocks = DISK_BYTES / align;
	struct iovec iov[60];

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(1 + i * 11 + i / 300);
	for (unsigned step = 0; step < steps; step++) {
		uint64_t r = unit_random(&seed);
		uint64_t off = (r >> 8) % blocks * align;
		uint64_t most = (r >> 40) % 2 ? 21 : blocks / 8 + 1;
		uint64_t max = MIN((DISK_BYTES - off) / align, most);
		uint64_t len = unit_random(&seed) % (max + 1) * align;
		unsigned flags = r >> 60 & BLK_FUA;
		uint8_t *from = pattern + unit_random(&seed) % (blocks - len / align + 1) * align;
		int ret;

		switch (r % 6) {
		case 0:
		case 1:
			ret = unit_disk_run(&d, (struct unit_request){
				.op = UNIT_WRITE, .off = off, .iov = iov, .flags = flags,
				.iovcnt = random_iov(&seed, from, len, align, iov, 60) });
			memcpy(model + off, from, len);
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
				.iovcnt = random_iov(&seed, back, len, align, iov, 60) });
			ck_assert(memcmp(back, model + off, len) == 0);
			break;
		}
		ck_assert_msg(ret == 0, "step %u: %d", step, ret);
	}
	check_contents();
}

START_TEST(mem_against_model)
{
	open_mem();
	random_model(600);
	unit_disk_close(&d);
}
END_TEST

START_TEST(file_against_model)
{
	static const enum dev_cache caches[] = {
		DEV_CACHE_WRITEBACK, DEV_CACHE_NONE, DEV_CACHE_WRITETHROUGH, DEV_CACHE_UNSAFE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
		struct dev_config config = file_config(caches[i]);
		struct dev *dev;
		struct err err;
		FILE *f;

		make_file(DISK_BYTES);
		if (dev_open(&dev, &config, &err) < 0) {
			printf("cache %u: %s\n", caches[i], err.text);
			unlink(path);
			continue;
		}
		dev_close(dev);
		unit_disk_open(&d, &config);
		random_model(150);
		/* And so says the file itself. */
		f = fopen(path, "rb");
		ck_assert_ptr_nonnull(f);
		ck_assert_uint_eq(fread(back, 1, sizeof(back), f), sizeof(back));
		ck_assert(memcmp(back, model, sizeof(back)) == 0);
		fclose(f);
		close_file();
	}
}
END_TEST

/* Many at once, each on a place of its own. */
START_TEST(many_together)
{
	static struct unit_request r[256];
	static struct iovec iov[256];
	struct dev_config config = file_config(DEV_CACHE_WRITEBACK);

	make_file(DISK_BYTES);
	unit_disk_open(&d, &config);
	for (unsigned i = 0; i < 256; i++) {
		memset(model + i * 16384, (int)i + 1, 16384);
		iov[i] = (struct iovec){ model + i * 16384, 16384 };
		r[i] = (struct unit_request){
			.op = UNIT_WRITE, .off = i * 16384, .iov = &iov[i], .iovcnt = 1,
			.flags = i % 16 == 0 ? BLK_FUA : 0,
		};
		unit_disk_start(&d, &r[i]);
	}
	for (unsigned i = 0; i < 256; i++) {
		unit_loop_until(&d.u, &r[i].done);
		ck_assert_int_eq(r[i].ret, 0);
	}
	check_contents();
	close_file();
}
END_TEST

/* What has been announced and is not there any more is an error, not zeroes. */
START_TEST(a_file_that_shrinks)
{
	struct dev_config config = file_config(DEV_CACHE_WRITEBACK);

	make_file(DISK_BYTES);
	unit_disk_open(&d, &config);
	ck_assert_int_eq(unit_disk_read(&d, DISK_BYTES - 4096, back, 4096), 0);
	ck_assert_int_eq(truncate(path, DISK_BYTES / 2), 0);
	ck_assert_int_eq(unit_disk_read(&d, 0, back, 4096), 0);
	ck_assert_int_eq(unit_disk_read(&d, DISK_BYTES - 4096, back, 4096), -EIO);
	ck_assert_int_eq(unit_disk_read(&d, DISK_BYTES / 2 - 512, back, 4096), -EIO);
	close_file();
}
END_TEST

START_TEST(odd_sizes_to_the_byte)
{
	static const off_t sizes[] = { 1, 511, 513, 4097 };
	struct dev_config config = file_config(DEV_CACHE_WRITEBACK);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t size = (uint64_t)sizes[i];

		make_file(sizes[i]);
		unit_disk_open(&d, &config);
		ck_assert_int_eq(unit_disk_write(&d, size - 1, "x", 1, BLK_FUA), 0);
		ck_assert_int_eq(unit_disk_write(&d, size, "x", 1, 0), -EIO);
		ck_assert_int_eq(unit_disk_read(&d, 0, back, size), 0);
		ck_assert_uint_eq(back[size - 1], 'x');
		ck_assert_int_eq(unit_disk_read(&d, 0, back, size + 1), -EIO);
		ck_assert_int_eq(unit_disk_zeroes(&d, 0, size, 0), 0);
		ck_assert_int_eq(unit_disk_read(&d, 0, back, size), 0);
		for (uint64_t k = 0; k < size; k++)
			ck_assert_uint_eq(back[k], 0);
		close_file();
	}
}
END_TEST

START_TEST(read_only_file)
{
	struct dev_config config = file_config(DEV_CACHE_WRITEBACK);

	make_file(DISK_BYTES);
	config.read_only = true;
	unit_disk_open(&d, &config);
	ck_assert_int_eq(unit_disk_write(&d, 0, "x", 1, 0), -EPERM);
	ck_assert_int_eq(unit_disk_flush(&d), 0);
	ck_assert_int_eq(unit_disk_read(&d, 0, back, 4096), 0);
	close_file();
}
END_TEST

START_TEST(the_data_path_does_not_allocate)
{
	static struct unit_request r[32];
	static struct iovec iov[32];
	struct dev_config config = file_config(DEV_CACHE_WRITEBACK);

	for (int driver = 0; driver < 2; driver++) {
		unsigned before = 0;

		make_file(DISK_BYTES);
		if (driver == 0)
			open_mem();
		else
			unit_disk_open(&d, &config);
		ck_assert_int_eq(unit_disk_write(&d, 0, pattern, DISK_BYTES, 0), 0);
		for (int round = 0; round < 20; round++) {
			if (round == 2) /* stacks and pools are there */
				before = unit_allocs();
			for (unsigned i = 0; i < 32; i++) {
				iov[i] = (struct iovec){ back + i * 4096, 4096 };
				r[i] = (struct unit_request){
					.op = i % 2 ? UNIT_WRITE : UNIT_READ,
					.off = i * 4096, .iov = &iov[i], .iovcnt = 1,
				};
				unit_disk_start(&d, &r[i]);
			}
			for (unsigned i = 0; i < 32; i++)
				unit_loop_until(&d.u, &r[i].done);
		}
		ck_assert_uint_eq(unit_allocs() - before, 0);
		for (unsigned i = 0; i < 32; i++)
			ck_assert_int_eq(r[i].ret, 0);
		close_file();
	}
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), mem_against_model, file_against_model, many_together,
	     a_file_that_shrinks, odd_sizes_to_the_byte, read_only_file,
	     the_data_path_does_not_allocate)
