/* SPDX-License-Identifier: MIT */
/*
 * drivers_props.c - every property of both drivers in every state: types,
 * values, errors and their order, messages; the life of a device.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "blkio-ext.h"
#include "tests/lib/drv_dev.h"

#define FILE_SIZE 1234567

enum type { T_BOOL, T_INT, T_U64, T_STR };

/* What a property does in each state. */
struct expect {
	const char *name;
	enum type type;
	bool early;    /* known before connect */
	char set_in;   /* 'r': read-only, else first letter of the state */
	const char *created;   /* its text there; NULL: not looked at */
	const char *connected; /* likewise */
};

static const struct expect io_uring_props[] = {
	{ "driver", T_STR, true, 'r', "io_uring", "io_uring" },
	{ "path", T_STR, true, 'c', "", NULL },
	{ "fd", T_INT, true, 'c', "-1", NULL },
	{ "direct", T_BOOL, true, 'c', "false", "false" },
	{ "read-only", T_BOOL, true, 'c', "false", "false" },
	{ "num-entries", T_INT, true, 'n', "128", "128" },
	{ "num-queues", T_INT, true, 'n', "1", "1" },
	{ "num-poll-queues", T_INT, true, 'n', "0", "0" },
	{ "can-add-queues", T_BOOL, true, 'r', "true", "true" },
	{ "max-queues", T_INT, true, 'r', "2147483647", "2147483647" },
	{ "max-mem-regions", T_U64, true, 'r', "18446744073709551615", "18446744073709551615" },
	{ "may-pin-mem-regions", T_BOOL, true, 'r', "false", "false" },
	{ "needs-mem-regions", T_BOOL, true, 'r', "false", "false" },
	{ "needs-mem-region-fd", T_BOOL, true, 'r', "false", "false" },
	{ "flush-needed", T_BOOL, true, 'r', "true", "true" },
	{ "can-grow", T_BOOL, true, 'r', "false", "true" },
	{ "supports-fua-natively", T_BOOL, true, 'r', "false", NULL },
	{ "supports-poll-queues", T_BOOL, true, 'r', "false", "false" },
	{ "capacity", T_U64, false, 'r', NULL, "1234567" },
	{ "request-alignment", T_INT, false, 'r', NULL, "1" },
	{ "buf-alignment", T_INT, false, 'r', NULL, "1" },
	{ "mem-region-alignment", T_U64, false, 'r', NULL, "1" },
	{ "optimal-buf-alignment", T_INT, false, 'r', NULL, "4096" },
	{ "optimal-io-alignment", T_INT, false, 'r', NULL, NULL },
	{ "optimal-io-size", T_INT, false, 'r', NULL, "0" },
	{ "max-segments", T_INT, false, 'r', NULL, "1024" },
	{ "max-segment-len", T_INT, false, 'r', NULL, "0" },
	{ "max-transfer", T_INT, false, 'r', NULL, "0" },
	{ "max-write-zeroes-len", T_U64, false, 'r', NULL, "0" },
	{ "max-discard-len", T_U64, false, 'r', NULL, "0" },
	{ "discard-alignment", T_INT, false, 'r', NULL, "1" },
	{ "discard-alignment-offset", T_INT, false, 'r', NULL, "0" },
	{ BLKIO_EXT_STRICT_EOF, T_BOOL, true, 'b', "false", "false" },
	{ BLKIO_EXT_PIN_MEM_REGIONS, T_BOOL, true, 'b', "false", "false" },
	{ BLKIO_EXT_SINGLE_ISSUER, T_BOOL, true, 'n', "false", "false" },
	{ .name = NULL },
};

static const struct expect mem_props[] = {
	{ "driver", T_STR, true, 'r', "mem", "mem" },
	{ "size", T_U64, true, 'c', "0", "1234567" },
	{ "read-only", T_BOOL, true, 'c', "false", "false" },
	{ "num-queues", T_INT, true, 'n', "1", "1" },
	{ "num-poll-queues", T_INT, true, 'n', "0", "0" },
	{ "can-add-queues", T_BOOL, true, 'r', "true", "true" },
	{ "max-queues", T_INT, true, 'r', "2147483647", "2147483647" },
	{ "max-mem-regions", T_U64, true, 'r', "18446744073709551615", "18446744073709551615" },
	{ "may-pin-mem-regions", T_BOOL, true, 'r', "false", "false" },
	{ "needs-mem-regions", T_BOOL, true, 'r', "false", "false" },
	{ "needs-mem-region-fd", T_BOOL, true, 'r', "false", "false" },
	{ "flush-needed", T_BOOL, true, 'r', "false", "false" },
	{ "can-grow", T_BOOL, true, 'r', "false", "false" },
	{ "supports-fua-natively", T_BOOL, true, 'r', "true", "true" },
	{ "supports-poll-queues", T_BOOL, true, 'r', "false", "false" },
	{ "capacity", T_U64, false, 'r', NULL, "1234567" },
	{ "request-alignment", T_INT, false, 'r', NULL, "1" },
	{ "buf-alignment", T_INT, false, 'r', NULL, "1" },
	{ "mem-region-alignment", T_U64, false, 'r', NULL, "1" },
	{ "optimal-buf-alignment", T_INT, false, 'r', NULL, "1" },
	{ "optimal-io-alignment", T_INT, false, 'r', NULL, "4096" },
	{ "optimal-io-size", T_INT, false, 'r', NULL, "0" },
	{ "max-segments", T_INT, false, 'r', NULL, "1024" },
	{ "max-segment-len", T_INT, false, 'r', NULL, "0" },
	{ "max-transfer", T_INT, false, 'r', NULL, "0" },
	{ "max-write-zeroes-len", T_U64, false, 'r', NULL, "0" },
	{ "max-discard-len", T_U64, false, 'r', NULL, "0" },
	{ "discard-alignment", T_INT, false, 'r', NULL, "4096" },
	{ "discard-alignment-offset", T_INT, false, 'r', NULL, "0" },
	{ .name = NULL },
};

static char *path; /* a file of FILE_SIZE bytes */

static void
setup(void)
{
	path = drv_file(drv_dir(), FILE_SIZE);
}

static void
teardown(void)
{
	unlink(path);
	free(path);
}

/* --- The tables ------------------------------------------------------------ */

static void
check_get(struct blkio *b, const struct expect *e, bool known, const char *text)
{
	bool vb = true;
	int vi = 77;
	uint64_t vu = 77;
	char *vs = (char *)&vi;
	int wrong = -ENOTTY, ret = known ? 0 : -ENODEV;
	const char *why = known ? "" : "Device must be connected";

	if (e->type == T_BOOL) {
		drv_expect(blkio_get_bool(b, e->name, &vb), ret);
	} else {
		drv_expect_msg(blkio_get_bool(b, e->name, &vb), wrong, "Property is not a bool");
		ck_assert(!vb);
	}
	if (e->type == T_INT) {
		drv_expect(blkio_get_int(b, e->name, &vi), ret);
	} else {
		drv_expect_msg(blkio_get_int(b, e->name, &vi), wrong, "Property is not an int");
		ck_assert_int_eq(vi, 0);
	}
	if (e->type == T_U64) {
		drv_expect(blkio_get_uint64(b, e->name, &vu), ret);
	} else {
		drv_expect_msg(blkio_get_uint64(b, e->name, &vu), wrong,
			       "Property is not an unsigned 64-bit integer");
		ck_assert_uint_eq(vu, 0);
	}
	if (known) {
		drv_expect(blkio_get_str(b, e->name, &vs), 0);
		ck_assert_ptr_nonnull(vs);
		if (text)
			ck_assert_msg(!strcmp(vs, text), "%s is %s, not %s", e->name, vs, text);
		switch (e->type) {
		case T_BOOL:
			ck_assert_str_eq(vs, vb ? "true" : "false");
			break;
		case T_INT:
			ck_assert_int_eq(atoi(vs), vi);
			break;
		case T_U64:
			ck_assert_uint_eq(strtoull(vs, NULL, 10), vu);
			break;
		case T_STR:
			break;
		}
		free(vs);
	} else {
		drv_expect_msg(blkio_get_str(b, e->name, &vs), ret, why);
		ck_assert_ptr_null(vs);
		ck_assert(e->type != T_BOOL || !vb);
		ck_assert(e->type != T_INT || !vi);
		ck_assert(e->type != T_U64 || !vu);
	}
}

/* The errno of setting E in STATE ('c', 'n' for connected, 's'), and why. */
static int
set_errno(const struct expect *e, char state, const char **why)
{
	*why = "";
	if (e->set_in == 'r') {
		*why = "Property is read-only";
		return -EACCES;
	}
	if (e->set_in == state || (e->set_in == 'b' && state != 's'))
		return 0;
	if (state == 'c') {
		*why = "Device must be connected";
		return -ENODEV;
	}
	*why = state == 's' ? "Cannot set property in started state" :
			      "Cannot set property in connected state";
	return -EBUSY;
}

/* Sets E in every wrong way, and, where it may be set, to what it is. */
static void
check_set(struct blkio *b, const struct expect *e, char state, bool known)
{
	const char *why, *garbage = NULL;
	int ret = set_errno(e, state, &why);
	char *text = NULL;
	bool vb = false;
	int vi = 1;
	uint64_t vu = 1;

	if (known)
		drv_expect(blkio_get_str(b, e->name, &text), 0);

	if (e->type != T_BOOL)
		drv_expect_msg(blkio_set_bool(b, e->name, true), -ENOTTY,
			       "Property is not a bool");
	if (e->type != T_INT)
		drv_expect_msg(blkio_set_int(b, e->name, 1), -ENOTTY, "Property is not an int");
	if (e->type != T_U64)
		drv_expect_msg(blkio_set_uint64(b, e->name, 1), -ENOTTY,
			       "Property is not an unsigned 64-bit int");

	switch (e->type) {
	case T_BOOL:
		if (known)
			drv_expect(blkio_get_bool(b, e->name, &vb), 0);
		drv_expect_msg(blkio_set_bool(b, e->name, vb), ret, why);
		garbage = "True";
		why = "Value must be \"true\" or \"false\"";
		break;
	case T_INT:
		if (known)
			drv_expect(blkio_get_int(b, e->name, &vi), 0);
		drv_expect_msg(blkio_set_int(b, e->name, vi), ret, why);
		garbage = "12x";
		why = "Value must be a signed 32-bit integer";
		break;
	case T_U64:
		if (known)
			drv_expect(blkio_get_uint64(b, e->name, &vu), 0);
		drv_expect_msg(blkio_set_uint64(b, e->name, vu), ret, why);
		garbage = "-1";
		why = "Value must be an unsigned 64-bit integer";
		break;
	case T_STR:
		drv_expect_msg(blkio_set_str(b, e->name, text), ret, why);
		garbage = "\xc3(";
		why = "Invalid value string";
		break;
	}
	/* Parsing comes before read-only and state. */
	drv_expect_msg(blkio_set_str(b, e->name, garbage), -EINVAL, why);
	set_errno(e, state, &why);
	if (text)
		drv_expect_msg(blkio_set_str(b, e->name, text), ret, why);
	free(text);
}

static void
check_table(struct blkio *b, const struct expect *table)
{
	const struct expect *e;

	for (e = table; e->name; e++) {
		check_get(b, e, e->early, e->created);
		check_set(b, e, 'c', e->early);
	}
	if (table == io_uring_props)
		drv_expect(blkio_set_str(b, "path", path), 0);
	else
		drv_expect(blkio_set_uint64(b, "size", FILE_SIZE), 0);
	drv_expect(blkio_connect(b), 0);
	for (e = table; e->name; e++) {
		check_get(b, e, true, e->connected);
		check_set(b, e, 'n', true);
	}
	drv_expect(blkio_start(b), 0);
	for (e = table; e->name; e++) {
		check_get(b, e, true, e->connected);
		check_set(b, e, 's', true);
	}
}

START_TEST(test_io_uring_table)
{
	struct blkio *b;

	drv_expect(blkio_create("io_uring", &b), 0);
	check_table(b, io_uring_props);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_mem_table)
{
	struct blkio *b;

	drv_expect(blkio_create("mem", &b), 0);
	check_table(b, mem_props);
	blkio_destroy(&b);
}
END_TEST

/* --- Names and text -------------------------------------------------------- */

START_TEST(test_names)
{
	static const char *const unknown[] = { "", "read_only", "Path", "path ", "capacity2",
					       "size" };
	struct blkio *b;
	uint64_t u;
	bool v;
	int i;
	char *s;

	drv_expect(blkio_create("io_uring", &b), 0);
	for (size_t n = 0; n < sizeof(unknown) / sizeof(unknown[0]); n++) {
		const char *msg = "Unknown property name";

		drv_expect_msg(blkio_get_bool(b, unknown[n], &v), -ENOENT, msg);
		drv_expect_msg(blkio_get_int(b, unknown[n], &i), -ENOENT, msg);
		drv_expect_msg(blkio_get_uint64(b, unknown[n], &u), -ENOENT, msg);
		drv_expect_msg(blkio_get_str(b, unknown[n], &s), -ENOENT, msg);
		drv_expect_msg(blkio_set_bool(b, unknown[n], true), -ENOENT, msg);
		drv_expect_msg(blkio_set_int(b, unknown[n], 1), -ENOENT, msg);
		drv_expect_msg(blkio_set_uint64(b, unknown[n], 1), -ENOENT, msg);
		drv_expect_msg(blkio_set_str(b, unknown[n], "x"), -ENOENT, msg);
	}
	drv_expect_msg(blkio_get_int(b, "\xff", &i), -EINVAL, "Invalid property name");
	drv_expect_msg(blkio_set_int(b, NULL, 1), -EINVAL, "Invalid property name");
	drv_expect_msg(blkio_set_str(b, "path", NULL), -EINVAL, "Invalid value string");
	drv_expect(blkio_set_int(NULL, "fd", 1), -EINVAL);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_integer_text)
{
	static const struct {
		const char *text;
		int ret, value;
	} ints[] = {
		{ "0", 0, 0 }, { "+3", 0, 3 }, { "-0", 0, 0 }, { "007", 0, 7 },
		{ "2147483647", 0, INT_MAX }, { "-2147483648", 0, INT_MIN },
		{ "2147483648", -EINVAL, 0 }, { "-2147483649", -EINVAL, 0 },
		{ "", -EINVAL, 0 }, { "-", -EINVAL, 0 }, { "+", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 }, { "1 ", -EINVAL, 0 }, { "0x10", -EINVAL, 0 },
		{ "+-1", -EINVAL, 0 }, { "1.0", -EINVAL, 0 },
		{ "99999999999999999999999999", -EINVAL, 0 },
	};
	static const struct {
		const char *text;
		int ret;
		uint64_t value;
	} u64s[] = {
		{ "0", 0, 0 }, { "+3", 0, 3 }, { "9223372036854775807", 0, INT64_MAX },
		{ "18446744073709551616", -EINVAL, 0 }, { "-1", -EINVAL, 0 },
		{ "", -EINVAL, 0 }, { "0x1", -EINVAL, 0 },
		/* parses, but is not a size */
		{ "18446744073709551615", -EINVAL, 0 }, { "9223372036854775808", -EINVAL, 0 },
	};
	struct blkio *b;
	int i;
	uint64_t u;

	drv_expect(blkio_create("io_uring", &b), 0);
	for (size_t n = 0; n < sizeof(ints) / sizeof(ints[0]); n++) {
		drv_expect(blkio_set_int(b, "fd", 5555), 0);
		ck_assert_msg(blkio_set_str(b, "fd", ints[n].text) == ints[n].ret, "'%s'",
			      ints[n].text);
		drv_expect(blkio_get_int(b, "fd", &i), 0);
		ck_assert_int_eq(i, ints[n].ret ? 5555 : ints[n].value);
	}
	/* Nothing of ours: destroy must not close what was never connected. */
	drv_expect(blkio_set_int(b, "fd", 0), 0);
	blkio_destroy(&b);
	ck_assert_int_ge(fcntl(0, F_GETFD), 0);

	drv_expect(blkio_create("mem", &b), 0);
	for (size_t n = 0; n < sizeof(u64s) / sizeof(u64s[0]); n++) {
		drv_expect(blkio_set_uint64(b, "size", 5555), 0);
		ck_assert_msg(blkio_set_str(b, "size", u64s[n].text) == u64s[n].ret, "'%s'",
			      u64s[n].text);
		drv_expect(blkio_get_uint64(b, "size", &u), 0);
		ck_assert_uint_eq(u, u64s[n].ret ? 5555 : u64s[n].value);
	}
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_utf8)
{
	static const struct {
		const char *text;
		bool valid;
	} cases[] = {
		{ "plain", true }, { "\xc3\xa4", true }, { "\xe2\x82\xac", true },
		{ "\xf0\x9f\x98\x80", true }, { "\xf4\x8f\xbf\xbf", true },
		{ "\xee\x80\x80", true },
		{ "\x80", false }, { "\xc0\xaf", false }, { "\xc1\xbf", false },
		{ "\xe0\x80\x80", false }, { "\xed\xa0\x80", false },
		{ "\xf0\x80\x80\x80", false }, { "\xf4\x90\x80\x80", false },
		{ "\xf5\x80\x80\x80", false }, { "\xff", false }, { "\xc3", false },
		{ "\xe2\x82", false }, { "\xf0\x9f\x98", false }, { "a\xe2(\xa1", false },
	};
	struct blkio *b;

	drv_expect(blkio_create("io_uring", &b), 0);
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++)
		ck_assert_msg(blkio_set_str(b, "path", cases[n].text) ==
			      (cases[n].valid ? 0 : -EINVAL), "case %zu", n);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_bad_values)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);

	drv_expect_msg(blkio_set_int(b, "num-entries", 0), -EINVAL,
		       "num-entries must be greater than 0");
	drv_expect(blkio_set_str(b, "num-entries", "-5"), -EINVAL);
	drv_expect_msg(blkio_set_int(b, "num-queues", -1), -EINVAL,
		       "num_queues must be equal to or greater than 0");
	drv_expect_msg(blkio_set_int(b, "num-poll-queues", -1), -EINVAL,
		       "num_poll_queues must be equal to or greater than 0");
	ck_assert_int_eq(drv_get_int(b, "num-entries"), 128);
	ck_assert_int_eq(drv_get_int(b, "num-queues"), 1);
	blkio_destroy(&b);
}
END_TEST

/* --- Create and connect ---------------------------------------------------- */

START_TEST(test_create)
{
	static const char *const unknown[] = { "", "IO_URING", "io-uring", "mem ", "nvme" };
	struct blkio *b;

	for (size_t n = 0; n < sizeof(unknown) / sizeof(unknown[0]); n++) {
		b = (struct blkio *)&b;
		drv_expect_msg(blkio_create(unknown[n], &b), -ENOENT, "Unknown driver name");
		ck_assert_ptr_null(b);
	}
	drv_expect_msg(blkio_create("io_uring", NULL), -EINVAL, "bp must be non-NULL");
	drv_expect_msg(blkio_create("\xff", &b), -EINVAL, "Invalid driver name");
	drv_expect_msg(blkio_create(NULL, &b), -EINVAL, "Invalid driver name");

	drv_expect(blkio_create("io_uring", &b), 0);
	blkio_destroy(&b);
	ck_assert_ptr_null(b);
	blkio_destroy(&b);
	blkio_destroy(NULL);
}
END_TEST

/* Connects B, which must fail, twice: nothing may have changed in between. */
static void
connect_fails(struct blkio *b, int ret, const char *msg)
{
	int before = drv_get_int(b, "fd");

	drv_expect_msg(blkio_connect(b), ret, msg);
	ck_assert_int_eq(drv_get_int(b, "fd"), before);
	drv_expect_msg(blkio_connect(b), ret, msg);
	/* Still in created state: connection properties may be set. */
	drv_expect(blkio_set_str(b, "path", ""), 0);
}

START_TEST(test_connect_errors)
{
	struct blkio *b;
	char *dir;
	int fds[2], fd;

	drv_expect(blkio_create("io_uring", &b), 0);
	connect_fails(b, -EINVAL, "One of path and fd must be set");

	drv_expect(blkio_set_str(b, "path", "/nonexistent/x"), 0);
	connect_fails(b, -ENOENT, "No such file or directory (os error 2)");
	/* It says which. */
	ck_assert_ptr_nonnull(strstr(blkio_get_error_msg(), "'/nonexistent/x'"));

	drv_expect(blkio_set_str(b, "path", drv_dir()), 0);
	connect_fails(b, -EISDIR, "Is a directory (os error 21)");
	drv_expect(blkio_set_str(b, "path", drv_dir()), 0);
	drv_expect(blkio_set_bool(b, "read-only", true), 0);
	connect_fails(b, -EINVAL, "The file must be a block device or a regular file");

	drv_expect(blkio_set_str(b, "path", "/dev/null"), 0);
	connect_fails(b, -EINVAL, "The file must be a block device or a regular file");

	/* A FIFO nobody writes to: opening it would never return. */
	dir = drv_file(drv_dir(), 0);
	unlink(dir);
	ck_assert_int_eq(mkfifo(dir, 0600), 0);
	drv_expect(blkio_set_str(b, "path", dir), 0);
	connect_fails(b, -EINVAL, "The file must be a block device or a regular file");
	unlink(dir);
	free(dir);

	fd = open(path, O_RDWR);
	drv_expect(blkio_set_int(b, "fd", fd), 0);
	drv_expect(blkio_set_str(b, "path", path), 0);
	connect_fails(b, -EINVAL, "path and fd cannot be set at the same time");

	/* The caller's fds are not closed by failures. */
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	close(fd);
	connect_fails(b, -EBADF, "Bad file descriptor (os error 9)");
	ck_assert_int_eq(pipe(fds), 0);
	drv_expect(blkio_set_int(b, "fd", fds[0]), 0);
	connect_fails(b, -EINVAL, "The file must be a block device or a regular file");
	ck_assert_int_ge(fcntl(fds[0], F_GETFD), 0);
	close(fds[0]);
	close(fds[1]);
	fd = open(path, O_PATH);
	drv_expect(blkio_set_int(b, "fd", fd), 0);
	connect_fails(b, -EBADF, "Bad file descriptor (os error 9)");
	close(fd);

	/* And after all that it works. */
	drv_expect(blkio_set_int(b, "fd", -1), 0);
	drv_expect(blkio_set_str(b, "path", path), 0);
	drv_expect(blkio_connect(b), 0);
	drv_expect(blkio_connect(b), 0);
	drv_expect(blkio_start(b), 0);
	drv_expect(blkio_start(b), 0);
	drv_expect_msg(blkio_connect(b), -EBUSY, "Cannot set property in connected state");
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_permission)
{
	struct blkio *b;

	if (geteuid() == 0) {
		/* Root may do everything, but nobody writes to a program that runs. */
		drv_expect(blkio_create("io_uring", &b), 0);
		drv_expect(blkio_set_str(b, "path", "/proc/self/exe"), 0);
		drv_expect_msg(blkio_connect(b), -ETXTBSY, "Text file busy (os error 26)");
		ck_assert_int_eq(seteuid(65534), 0);
	} else {
		drv_expect(blkio_create("io_uring", &b), 0);
	}
	drv_expect(blkio_set_str(b, "path", "/etc/passwd"), 0);
	drv_expect_msg(blkio_connect(b), -EACCES, "Permission denied (os error 13)");
	ck_assert_ptr_nonnull(strstr(blkio_get_error_msg(), "read-only"));
	drv_expect(blkio_set_bool(b, "read-only", true), 0);
	drv_expect(blkio_connect(b), 0);
	ck_assert(drv_get_bool(b, "read-only"));
	blkio_destroy(&b);
	if (getuid() == 0)
		ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* What a given fd is decides, not what the properties said. */
START_TEST(test_fd)
{
	struct blkio *b;
	int fd, mode;

	for (mode = 0; mode < 3; mode++) {
		const int flags[] = { O_RDWR, O_RDONLY, O_RDWR | O_DIRECT };

		fd = open(path, flags[mode]);
		ck_assert_int_ge(fd, 0);
		drv_expect(blkio_create("io_uring", &b), 0);
		drv_expect(blkio_set_int(b, "fd", fd), 0);
		drv_expect(blkio_set_bool(b, "direct", mode == 0), 0);
		drv_expect(blkio_connect(b), 0);
		ck_assert_int_eq(drv_get_int(b, "fd"), fd);
		ck_assert_int_eq(drv_get_bool(b, "read-only"), mode == 1);
		ck_assert_int_eq(drv_get_bool(b, "direct"), mode == 2);
		blkio_destroy(&b);
		/* It belonged to the library, which closed it. */
		ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	}
}
END_TEST

START_TEST(test_capacity_follows)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	int fd = drv_get_int(b, "fd");

	ck_assert_int_eq(lseek(fd, 17, SEEK_SET), 17);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), FILE_SIZE);
	ck_assert_int_eq(truncate(path, 99), 0);
	ck_assert_uint_eq(drv_get_u64(b, "capacity"), 99);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 17);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_limits)
{
	struct blkio *b;
	struct statfs fs;
	int align;

	b = drv_connect("io_uring", "path", path, "direct", "true", NULL);
	ck_assert_int_eq(statfs(path, &fs), 0);
	align = drv_get_int(b, "request-alignment");
	ck_assert(align >= 512 && !(align & (align - 1)));
	ck_assert_int_ge(drv_get_int(b, "optimal-io-alignment"), align);
	ck_assert_int_ge(drv_get_int(b, "optimal-io-alignment"), (int)fs.f_bsize);
	ck_assert_int_eq(drv_get_int(b, "discard-alignment"), align);
	ck_assert_uint_eq(drv_get_u64(b, "mem-region-alignment"),
			  (uint64_t)drv_get_int(b, "buf-alignment"));
	ck_assert(drv_get_bool(b, "direct"));
	blkio_destroy(&b);

	b = drv_connect("io_uring", "path", path, "x-pin-mem-regions", "true", NULL);
	ck_assert(drv_get_bool(b, "may-pin-mem-regions"));
	blkio_destroy(&b);
}
END_TEST

/* --- Start and queues ------------------------------------------------------ */

START_TEST(test_start_errors)
{
	struct blkio *b;

	drv_expect(blkio_create("io_uring", &b), 0);
	drv_expect_msg(blkio_start(b), -ENODEV, "Device must be connected");
	blkio_destroy(&b);

	b = drv_connect("io_uring", "path", path, "num-poll-queues", "1", NULL);
	drv_expect_msg(blkio_start(b), -EINVAL, "Poll queues not supported");
	drv_expect(blkio_set_int(b, "num-poll-queues", 0), 0);
	drv_expect(blkio_set_int(b, "num-entries", 32769), 0);
	drv_expect(blkio_start(b), -EINVAL);
	drv_expect(blkio_set_int(b, "num-entries", 32768), 0);
	drv_expect(blkio_start(b), 0);
	blkio_destroy(&b);
}
END_TEST

/* Out of file descriptors half way: all is given back, fewer queues work. */
START_TEST(test_start_too_many)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "num-queues", "1000000",
				      "num-entries", "1", NULL);
	struct rlimit few, many;
	int before, after;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &many), 0);
	few = many;
	few.rlim_cur = 200;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	before = dup(0);
	drv_expect(blkio_start(b), -EMFILE);
	drv_expect(blkio_set_int(b, "num-queues", 64), 0);
	close(before);
	after = dup(0);
	ck_assert_int_eq(before, after);
	close(after);
	drv_expect(blkio_start(b), 0);
	ck_assert_ptr_nonnull(blkio_get_queue(b, 63));
	ck_assert_ptr_null(blkio_get_queue(b, 64));
	blkio_destroy(&b);
	after = dup(0);
	ck_assert_int_le(after, before);
	close(after);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
}
END_TEST

static void
check_queues(struct blkio *b)
{
	struct blkioq *q[3];

	drv_expect_msg(blkio_add_queue(b), -EBUSY, "Device must be started");
	drv_expect_msg(blkio_add_poll_queue(b), -EBUSY, "Device must be started");
	ck_assert_ptr_null(blkio_get_queue(b, 0));
	drv_expect(blkio_start(b), 0);
	ck_assert_ptr_null(blkio_get_queue(b, 0));
	for (int i = 0; i < 3; i++) {
		drv_expect(blkio_add_queue(b), i);
		q[i] = blkio_get_queue(b, i);
		ck_assert_ptr_nonnull(q[i]);
	}
	ck_assert_ptr_null(blkio_get_queue(b, 3));
	ck_assert_ptr_null(blkio_get_queue(b, -1));
	ck_assert_ptr_null(blkio_get_poll_queue(b, 0));
	drv_expect(blkio_remove_queue(b, 1), 0);
	ck_assert_ptr_null(blkio_get_queue(b, 1));
	ck_assert_ptr_eq(blkio_get_queue(b, 2), q[2]);
	drv_expect_msg(blkio_remove_queue(b, 1), -ENOENT, "no queue with index 1");
	drv_expect(blkio_remove_queue(b, 99), -ENOENT);
	drv_expect(blkio_remove_poll_queue(b, 0), -ENOENT);
	drv_expect_msg(blkio_add_poll_queue(b), -EINVAL, "Poll queues not supported");
	drv_expect(blkio_add_queue(b), 1);
	drv_expect(blkio_add_queue(b), 3);
	ck_assert_int_eq(drv_get_int(b, "num-queues"), 0);
	drv_expect(drv_flush(blkio_get_queue(b, 3)), 0);
}

START_TEST(test_queues)
{
	struct blkio *b;

	b = drv_connect("io_uring", "path", path, "num-queues", "0", NULL);
	check_queues(b);
	blkio_destroy(&b);
	b = drv_connect("mem", "size", "4096", "num-queues", "0", NULL);
	check_queues(b);
	blkio_destroy(&b);
}
END_TEST

START_TEST(test_completion_fd)
{
	struct blkio *b = drv_connect("io_uring", "path", path, NULL);
	struct blkioq *q = drv_start(b);
	int fd = blkioq_get_completion_fd(q);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(blkioq_get_completion_fd(q), fd);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	blkio_destroy(&b);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

/* --- Error messages -------------------------------------------------------- */

static void *
other_thread(void *arg)
{
	struct blkio *b;

	ck_assert_str_eq(blkio_get_error_msg(), "");
	drv_expect_msg(blkio_create("nope", &b), -ENOENT, "Unknown driver name");
	return NULL;
}

START_TEST(test_error_msg)
{
	char name[600];
	struct blkio *b;
	pthread_t thread;

	drv_expect(blkio_create("io_uring", &b), 0);
	drv_expect(blkio_connect(b), -EINVAL);
	ck_assert_str_eq(blkio_get_error_msg(), "One of path and fd must be set");
	ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	/* Neither another thread nor a success changes it. */
	drv_expect(blkio_set_int(b, "fd", -1), 0);
	ck_assert_str_eq(blkio_get_error_msg(), "One of path and fd must be set");

	memset(name, 'x', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = '\0';
	drv_expect(blkio_set_str(b, "path", name), 0);
	drv_expect(blkio_connect(b), -ENAMETOOLONG);
	ck_assert_uint_eq(strlen(blkio_get_error_msg()), 255);
	blkio_destroy(&b);
}
END_TEST

/* --- Memory regions -------------------------------------------------------- */

START_TEST(test_region_alloc)
{
	struct blkio *b;
	struct blkio_mem_region r, s;

	drv_expect(blkio_create("io_uring", &b), 0);
	drv_expect_msg(blkio_alloc_mem_region(b, &r, 4096), -ENODEV, "Device must be connected");
	drv_expect_msg(blkio_map_mem_region(b, &r), -ENODEV, "Device must be connected");
	blkio_unmap_mem_region(b, &r);
	drv_expect(blkio_set_str(b, "path", path), 0);
	drv_expect(blkio_set_bool(b, "direct", true), 0);
	drv_expect(blkio_connect(b), 0);

	drv_expect(blkio_alloc_mem_region(b, &r, 8192), 0);
	ck_assert_uint_eq((uintptr_t)r.addr % 4096, 0);
	ck_assert_uint_eq(r.len, 8192);
	ck_assert_uint_eq(r.iova, 0);
	ck_assert_int_eq(r.fd_offset, 0);
	ck_assert_uint_eq(r.flags, 0);
	ck_assert(fcntl(r.fd, F_GETFD) & FD_CLOEXEC);
	memset(r.addr, 5, r.len);
	/* The fd is the memory. */
	ck_assert_int_eq(pread(r.fd, &s, 1, 8191), 1);
	ck_assert_int_eq(*(char *)&s, 5);

	drv_expect(blkio_alloc_mem_region(b, &s, 0), -EINVAL);
	drv_expect(blkio_alloc_mem_region(b, &s, (size_t)1 << 62), -ENOMEM);
	drv_expect(blkio_alloc_mem_region(b, &s, ((size_t)1 << 63) + 4096), -ENOMEM);
	drv_expect_msg(blkio_alloc_mem_region(b, &s, 4097), -EINVAL,
		       "len 4097 violates mem-region-alignment ");
	drv_expect_msg(blkio_map_mem_region(b, &r), -EBUSY, "Device must be started");

	blkio_free_mem_region(b, &r);
	ck_assert_int_eq(fcntl(r.fd, F_GETFD), -1);
	blkio_free_mem_region(b, &r); /* twice: nothing */

	/* One is left for destroy. */
	drv_expect(blkio_alloc_mem_region(b, &r, 4096), 0);
	blkio_destroy(&b);
	ck_assert_int_eq(fcntl(r.fd, F_GETFD), -1);
}
END_TEST

START_TEST(test_region_map)
{
	struct blkio *b = drv_connect("io_uring", "path", path, "direct", "true", NULL);
	struct blkio_mem_region r, other;
	char *memory = drv_alloc(4096, 65536);

	drv_expect(blkio_alloc_mem_region(b, &r, 16384), 0);
	drv_start(b);
	drv_expect(blkio_map_mem_region(b, &r), 0);
	drv_expect_msg(blkio_map_mem_region(b, &r), -EINVAL, "memory region already mapped");
	/* Mapped: it cannot be freed. */
	blkio_free_mem_region(b, &r);
	ck_assert_str_eq(blkio_get_error_msg(), "memory region is still mapped");
	memset(r.addr, 1, r.len);

	other = r;
	other.len = 4096;
	drv_expect_msg(blkio_map_mem_region(b, &other), -EINVAL, "memory region overlaps");
	blkio_unmap_mem_region(b, &other); /* unknown: nothing */
	drv_expect(blkio_map_mem_region(b, &r), -EINVAL);

	other = (struct blkio_mem_region){ .addr = memory, .len = 65536, .fd = -1 };
	other.addr = memory + 1;
	drv_expect_msg(blkio_map_mem_region(b, &other), -EINVAL, "addr 0x");
	other.addr = memory;
	other.len = 65535;
	drv_expect_msg(blkio_map_mem_region(b, &other), -EINVAL,
		       "len 0xffff violates mem-region-alignment ");
	other.len = 65536;
	other.flags = 1;
	drv_expect(blkio_map_mem_region(b, &other), -EINVAL);
	other.flags = 0;
	other.iova = 4096;
	drv_expect(blkio_map_mem_region(b, &other), -EINVAL);
	other.iova = 0;
	drv_expect(blkio_map_mem_region(b, &other), 0);
	blkio_free_mem_region(b, &other); /* not allocated here */
	blkio_unmap_mem_region(b, &other);
	blkio_free_mem_region(b, &other);
	drv_expect(blkio_map_mem_region(b, &other), 0);

	/* Unmapped and mapped again, freed, and its neighbours stay. */
	blkio_unmap_mem_region(b, &r);
	drv_expect(blkio_map_mem_region(b, &r), 0);
	blkio_unmap_mem_region(b, &r);
	blkio_free_mem_region(b, &r);
	ck_assert_int_eq(fcntl(r.fd, F_GETFD), -1);
	drv_expect_msg(blkio_map_mem_region(b, &other), -EINVAL, "memory region already mapped");
	blkio_destroy(&b);
	memory[65535] = 1; /* still ours */
	free(memory);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_props");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_io_uring_table);
	tcase_add_test(tc, test_mem_table);
	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_integer_text);
	tcase_add_test(tc, test_utf8);
	tcase_add_test(tc, test_bad_values);
	tcase_add_test(tc, test_create);
	tcase_add_test(tc, test_connect_errors);
	tcase_add_test(tc, test_permission);
	tcase_add_test(tc, test_fd);
	tcase_add_test(tc, test_capacity_follows);
	tcase_add_test(tc, test_limits);
	tcase_add_test(tc, test_start_errors);
	tcase_add_test(tc, test_start_too_many);
	tcase_add_test(tc, test_queues);
	tcase_add_test(tc, test_completion_fd);
	tcase_add_test(tc, test_error_msg);
	tcase_add_test(tc, test_region_alloc);
	tcase_add_test(tc, test_region_map);
	suite_add_tcase(s, tc);
	return s;
}

int
main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
