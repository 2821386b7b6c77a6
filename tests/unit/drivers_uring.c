/* SPDX-License-Identifier: MIT */
/*
 * drivers_uring.c - a ring that was told what it is for does nothing else.
 *
 *
 */
#include "drivers/io_uring.h"

#include <errno.h>
#include <fcntl.h>

#include "tests/lib/unit.h"

static struct uring ring;

/* A ring that may sync and write. */
static void
start(void)
{
	static const uint8_t operations[] = { IORING_OP_FSYNC, IORING_OP_WRITE };
	const struct uring_options options = { .entries = 4 };

	ck_assert_int_eq(uring_init(&ring, &options), 0);
	ck_assert_int_eq(uring_restrict(&ring, operations, ARRAY_SIZE(operations), IOSQE_ASYNC,
					0), 0);
}

static int
result(uint8_t opcode, uint8_t flags, int fd)
{
	struct io_uring_sqe *sqe = uring_sqe(&ring);
	const struct io_uring_cqe *cqe;
	int res;

	sqe->opcode = opcode;
	sqe->flags = flags;
	sqe->fd = fd;
	while (!uring_peek(&ring))
		ck_assert_int_ge(uring_enter(&ring, 1, NULL, NULL), 0);
	cqe = uring_peek(&ring);
	res = cqe->res;
	uring_seen(&ring);
	return res;
}

START_TEST(takes_what_it_was_told)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	ck_assert_int_ge(fd, 0);
	start();
	ck_assert_int_eq(result(IORING_OP_FSYNC, 0, fd), 0);
	ck_assert_int_eq(result(IORING_OP_FSYNC, IOSQE_ASYNC, fd), 0);
	ck_assert_int_eq(result(IORING_OP_WRITE, 0, fd), 0);
	uring_release(&ring);
	close(fd);
}
END_TEST

START_TEST(refuses_the_rest)
{
	static const uint8_t foreign[] = { IORING_OP_NOP, IORING_OP_READ, IORING_OP_OPENAT,
					   IORING_OP_CONNECT, IORING_OP_SENDMSG,
					   IORING_OP_FALLOCATE, IORING_OP_UNLINKAT };

	start();
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		ck_assert_int_eq(result(foreign[i], 0, -1), -EACCES);
	ck_assert_int_eq(result(IORING_OP_FSYNC, IOSQE_IO_DRAIN, -1), -EACCES);
	uring_release(&ring);
}
END_TEST

START_TEST(registers_nothing_more)
{
	int fd = -1;

	start();
	ck_assert_int_eq(result(IORING_OP_FSYNC, 0, -1), -EBADF);
	ck_assert_int_eq(uring_register(&ring, IORING_REGISTER_FILES, &fd, 1), -EACCES);
	ck_assert_int_eq(uring_register(&ring, IORING_REGISTER_PERSONALITY, NULL, 0), -EACCES);
	uring_release(&ring);
}
END_TEST

/* Whoever gets at the ring of a queue gets at the queue's file, and at no other. */
START_TEST(queue_reaches_its_own_file)
{
	char path[] = "/tmp/bgt-uring.XXXXXX";
	int fd = mkstemp(path), other = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	struct blkioq *queue;
	struct blkio *disk;

	ck_assert(fd >= 0 && other >= 0);
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	ck_assert_int_eq(blkio_create("io_uring", &disk), 0);
	ck_assert_int_eq(blkio_set_str(disk, "path", path), 0);
	ck_assert_int_eq(blkio_connect(disk), 0);
	ck_assert_int_eq(blkio_start(disk), 0);
	queue = blkio_get_queue(disk, 0);
	ring = io_queue(queue)->ring;
	ck_assert_int_eq(result(IORING_OP_FSYNC, IOSQE_FIXED_FILE, 0), 0);
	ck_assert_int_eq(result(IORING_OP_FSYNC, 0, other), -EACCES);
	ck_assert_int_eq(result(IORING_OP_WRITE, IOSQE_ASYNC, other), -EACCES);
	/* Commands are for block devices. */
	ck_assert_int_eq(result(IORING_OP_URING_CMD, IOSQE_FIXED_FILE, 0), -EACCES);
	ck_assert_int_eq(result(IORING_OP_OPENAT, IOSQE_FIXED_FILE, 0), -EACCES);
	io_queue(queue)->ring = ring; /* what has been taken from it is gone */
	blkio_destroy(&disk);
	close(fd);
	close(other);
	unlink(path);
}
END_TEST

UNIT_MAIN(takes_what_it_was_told, refuses_the_rest, registers_nothing_more,
	  queue_reaches_its_own_file)
