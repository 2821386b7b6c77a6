/* SPDX-License-Identifier: MIT */
/* blk_dev.c - opening devices through the real drivers; the rules for limits. */
#include "blk/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/lib/unit.h"

/* --- Limits ----------------------------------------------------------------- */

static const struct dev_limits good = {
	.request_alignment = 512,
	.opt_transfer = 4096,
	.max_transfer = 65536,
	.max_segments = 8,
	.mem_alignment = 4096,
	.opt_mem_alignment = 4096,
	.discard_alignment = 4096,
	.max_discard = 1 << 20,
	.max_write_zeroes = 1 << 20,
};

#define FIELD(f) offsetof(struct dev_limits, f)

START_TEST(limits_rules)
{
	/* One field changed; the words that have to be in the text, or fine. */
	static const struct {
		size_t field;
		uint64_t value;
		const char *name, *number, *rule;
	} table[] = {
		{ FIELD(request_alignment), 0, "request-alignment", " 0", "power of two" },
		{ FIELD(request_alignment), 3, "request-alignment", "3", "power of two" },
		{ FIELD(request_alignment), 513, "request-alignment", "513", "power of two" },
		{ FIELD(request_alignment), 1ull << 31, "request-alignment", "2147483648",
		  "2 GiB" },
		{ FIELD(request_alignment), UINT64_MAX, "request-alignment", "18446744073709551615",
		  "power of two" },
		{ FIELD(request_alignment), 1, NULL, NULL, NULL },
		{ FIELD(request_alignment), 4096, NULL, NULL, NULL },
		{ FIELD(request_alignment), 8192, "optimal-io-size", "4096",
		  "no multiple of request-alignment 8192" },
		{ FIELD(mem_alignment), 0, "buf-alignment", " 0", "power of two" },
		{ FIELD(mem_alignment), 48, "buf-alignment", "48", "power of two" },
		{ FIELD(mem_alignment), 1, NULL, NULL, NULL },
		{ FIELD(opt_mem_alignment), 0, "optimal-buf-alignment", " 0", "1 at least" },
		{ FIELD(opt_mem_alignment), 96, NULL, NULL, NULL },
		{ FIELD(opt_transfer), 0, NULL, NULL, NULL },
		{ FIELD(opt_transfer), 100, "optimal-io-size", "100",
		  "no multiple of request-alignment 512" },
		{ FIELD(opt_transfer), 65536 * 3, "max-transfer", "65536",
		  "no multiple of optimal-io-size 196608" },
		{ FIELD(max_transfer), 0, NULL, NULL, NULL },
		{ FIELD(max_transfer), 4097, "max-transfer", "4097",
		  "no multiple of request-alignment 512" },
		{ FIELD(max_transfer), 4096 + 512, "max-transfer", "4608",
		  "no multiple of optimal-io-size 4096" },
		{ FIELD(max_transfer), 511, "max-transfer", "511", "request-alignment 512" },
		{ FIELD(discard_alignment), 0, NULL, NULL, NULL },
		{ FIELD(discard_alignment), 700, "discard-alignment", "700",
		  "no multiple of request-alignment 512" },
		{ FIELD(max_discard), 0, NULL, NULL, NULL },
		{ FIELD(max_discard), 1000, "max-discard-len", "1000",
		  "no multiple of request-alignment 512" },
		{ FIELD(max_write_zeroes), 0, NULL, NULL, NULL },
		{ FIELD(max_write_zeroes), 513, "max-write-zeroes-len", "513",
		  "no multiple of request-alignment 512" },
		{ FIELD(max_write_zeroes), 1ull << 40, NULL, NULL, NULL },
	};
	struct dev_limits l;
	struct err err = { 0 };

	ck_assert_int_eq(dev_limits_check(&good, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		int ret;

		l = good;
		memcpy((char *)&l + table[i].field, &table[i].value, sizeof(uint64_t));
		err = (struct err){ 0 };
		ret = dev_limits_check(&l, &err);
		if (!table[i].name) {
			ck_assert_msg(ret == 0, "row %zu: %s", i, err.text);
			continue;
		}
		ck_assert_msg(ret == -EINVAL && err.code == -EINVAL, "row %zu: %d", i, ret);
		ck_assert_msg(strstr(err.text, table[i].name) &&
				      strstr(err.text, table[i].number) &&
				      strstr(err.text, table[i].rule),
			      "row %zu: %s", i, err.text);
	}

	l = good;
	l.max_segments = 0;
	ck_assert_int_eq(dev_limits_check(&l, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "max-segments is 0"));
	l.max_segments = 1;
	ck_assert_int_eq(dev_limits_check(&l, &err), 0);
}
END_TEST

/* --- Open ------------------------------------------------------------------- */

static char path[128];

/* A file of SIZE bytes in the test's own directory. */
static void
make_file(off_t size)
{
	const char *dir = getenv("TEST_TMP");
	int fd;

	snprintf(path, sizeof(path), "%s/blk_dev.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	ck_assert(fd >= 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static struct dev_prop path_prop = { "path", path };

static struct dev_config
file_config(void)
{
	return (struct dev_config){
		.driver = "io_uring",
		.props = &path_prop,
		.nprops = 1,
		.discard = true,
		.nqueues = 1,
	};
}

static void
check_refused(const struct dev_config *config, int code, const char *word, const char *word2)
{
	struct dev *dev = (struct dev *)1;
	struct err err = { 0 };
	int ret = dev_open(&dev, config, &err);

	ck_assert_msg(ret == code, "%d: %s", ret, err.text);
	ck_assert_int_eq(err.code, code);
	ck_assert_msg(strstr(err.text, word) && strstr(err.text, word2), "%s", err.text);
	ck_assert_ptr_eq(dev, (struct dev *)1); /* written on success only */
}

START_TEST(open_file)
{
	struct dev_config c = file_config();
	struct dev *dev;
	struct err err;

	make_file(1 << 20);
	ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(dev->size_bytes, 1 << 20);
	ck_assert_uint_eq(dev->limits.request_alignment, 1);
	ck_assert_uint_ge(dev->limits.max_segments, 1);
	ck_assert(!dev->read_only && !dev->direct && !dev->write_through && !dev->unsafe);
	ck_assert(dev->discard && dev->flush_needed);
	ck_assert_ptr_nonnull(dev_queue(dev, 0));
	ck_assert(!dev_flush_failed(dev));
	ck_assert_int_eq(dev_flush_error(dev), 0);
	dev_flush_fail(dev, -ENOSPC);
	dev_flush_fail(dev, -EIO);
	ck_assert(dev_flush_failed(dev));
	ck_assert_int_eq(dev_flush_error(dev), -ENOSPC);
	dev_close(dev);
	dev_close(NULL);
	unlink(path);
}
END_TEST

START_TEST(sizes)
{
	static const off_t table[] = { 0, 1, 511, 512, 4097, (1ll << 40) + 1 };
	struct dev_config c = file_config();
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct dev *dev;

		make_file(table[i]);
		ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
		ck_assert_uint_eq(dev->size_bytes, (uint64_t)table[i]);
		dev_close(dev);
		unlink(path);
	}
}
END_TEST

START_TEST(caches)
{
	static const struct {
		enum dev_cache cache;
		bool direct, write_through, unsafe;
	} table[] = {
		{ DEV_CACHE_WRITEBACK, false, false, false },
		{ DEV_CACHE_NONE, true, false, false },
		{ DEV_CACHE_WRITETHROUGH, false, true, false },
		{ DEV_CACHE_DIRECTSYNC, true, true, false },
		{ DEV_CACHE_UNSAFE, false, false, true },
	};
	struct dev_config c = file_config();
	struct err err;

	make_file(1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct dev *dev;
		int ret;

		c.cache = table[i].cache;
		ret = dev_open(&dev, &c, &err);
		if (table[i].direct && ret == -EINVAL) {
			printf("no direct I/O here: %s\n", err.text);
			continue;
		}
		ck_assert_msg(ret == 0, "%s", err.text);
		ck_assert(dev->direct == table[i].direct);
		ck_assert(dev->write_through == table[i].write_through);
		ck_assert(dev->unsafe == table[i].unsafe);
		if (dev->direct)
			ck_assert_uint_ge(dev->limits.request_alignment, 512);
		dev_close(dev);
	}
	unlink(path);
}
END_TEST

/* Without the tail that the driver can serve to the byte, that is. */
START_TEST(direct_wants_whole_blocks)
{
	struct dev_prop props[] = { path_prop, { "x-buffered-tail", "false" } };
	struct dev_config c = file_config();
	struct dev *dev;
	struct err err;

	c.cache = DEV_CACHE_NONE;
	make_file(4096);
	if (dev_open(&dev, &c, &err) < 0) {
		printf("no direct I/O here: %s\n", err.text);
	} else {
		dev_close(dev);
		ck_assert_int_eq(truncate(path, 4097), 0);
		ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
		ck_assert_uint_eq(dev->size_bytes, 4097);
		ck_assert_uint_le(dev->tail_start, 4096);
		dev_close(dev);
		c.props = props;
		c.nprops = 2;
		check_refused(&c, -EINVAL, "size 4097", "writeback");
	}
	unlink(path);
}
END_TEST

START_TEST(read_only)
{
	struct dev_config c = file_config();
	struct dev *dev;
	struct err err;

	make_file(4096);
	ck_assert_int_eq(chmod(path, 0444), 0);
	c.read_only = true;
	ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
	ck_assert(dev->read_only);
	dev_close(dev);
	unlink(path);
}
END_TEST

START_TEST(errors)
{
	static struct dev_prop two[] = { { "path", path }, { "colour", "blue" } };
	static struct dev_prop bad_value[] = { { "path", path }, { "direct", "perhaps" } };
	static struct dev_prop bad_size[] = { { "size", "much" } };
	static struct dev_prop many[65];
	struct dev_config c = file_config();

	snprintf(path, sizeof(path), "/nonexistent/disk.img");
	check_refused(&c, -ENOENT, "/nonexistent/disk.img", "No such file");

	make_file(4096);
	c.driver = "floppy";
	check_refused(&c, -ENOENT, "floppy", "driver");
	c.driver = "io_uring";
	c.props = two;
	c.nprops = 2;
	check_refused(&c, -ENOENT, "colour", "property");
	c.props = bad_value;
	check_refused(&c, -EINVAL, "direct=perhaps", "property");
	c.props = bad_size;
	c.nprops = 1;
	c.driver = "mem";
	check_refused(&c, -EINVAL, "size=much", "property");
	c.props = many;
	c.nprops = 65;
	for (int i = 0; i < 65; i++)
		many[i] = (struct dev_prop){ "size", "1" };
	check_refused(&c, -E2BIG, "65", "64");
	unlink(path);
}
END_TEST

START_TEST(a_directory_is_no_device)
{
	struct dev_config c = file_config();
	struct dev *dev;
	struct err err = { 0 };

	c.read_only = true;
	snprintf(path, sizeof(path), "/");
	ck_assert_int_eq(dev_open(&dev, &c, &err) < 0, 1);
	ck_assert_int_eq(err.code < 0, 1);
	ck_assert(err.text[0] != '\0');
}
END_TEST

START_TEST(mem)
{
	struct dev_prop size = { "size", "1048576" };
	struct dev_config c = { .driver = "mem", .props = &size, .nprops = 1, .nqueues = 2 };
	struct dev *dev;
	struct err err;
	struct blkioq *q;

	ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(dev->size_bytes, 1 << 20);
	ck_assert(dev_queue(dev, 0) != dev_queue(dev, 1));
	ck_assert_msg(dev_add_queue(dev, &q, &err) == 0, "%s", err.text);
	ck_assert(q && q != dev_queue(dev, 0) && q != dev_queue(dev, 1));
	dev_close(dev);

	c.nqueues = 0; /* all of them later */
	ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
	ck_assert_int_eq(dev_add_queue(dev, &q, &err), 0);
	dev_close(dev);
}
END_TEST

START_TEST(map_and_unmap)
{
	struct dev_config c = file_config();
	struct buf_region region;
	struct buf_pool *pool;
	struct dev *dev;
	struct err err;

	make_file(4096);
	ck_assert_int_eq(buf_pool_new(&pool, 1, &err), 0);
	buf_pool_region(pool, &region);
	ck_assert_msg(dev_open(&dev, &c, &err) == 0, "%s", err.text);
	ck_assert_msg(dev_map(dev, &region, &err) == 0, "%s", err.text);
	ck_assert_int_eq(dev_map(dev, &region, &err), -EINVAL); /* known already */
	ck_assert_ptr_nonnull(strstr(err.text, "mapping 4194304 bytes"));
	dev_unmap(dev, &region);
	ck_assert_msg(dev_map(dev, &region, &err) == 0, "%s", err.text);
	dev_unmap(dev, &region);
	dev_close(dev);
	buf_pool_free(pool);
	unlink(path);
}
END_TEST

UNIT_MAIN(limits_rules, open_file, sizes, caches, direct_wants_whole_blocks, read_only, errors,
	  a_directory_is_no_device, mem, map_and_unmap)
