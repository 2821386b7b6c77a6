/* SPDX-License-Identifier: MIT */
/*
 * drivers_wait.c - waiting for a request that does not finish: timeouts,
 * signals, the completion fd, closing, threads.
 *
 * The request is a write from a page that a userfaultfd holds back: the
 * kernel's worker stops at it until the test gives the page. Without
 * userfaultfd (it takes privileges for faults in the kernel) the test is
 * skipped.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "blkio-ext.h"
#include "tests/lib/drv_dev.h"

#define PAGE 4096

static char *path;
static int uffd = -1;
static char *page;     /* nobody gets past it before page_give() */
static char *contents; /* what it will hold */
static struct blkio *b;
static struct blkioq *q;

static int
uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void
page_hold(void)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(page, MAP_FAILED);
	reg.range.start = (uint64_t)(uintptr_t)page;
	reg.range.len = PAGE;
	ck_assert_int_eq(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
}

/* Async-signal-safe: a signal handler may end a wait with it. */
static void
page_give(void)
{
	struct uffdio_copy copy = {
		.dst = (uint64_t)(uintptr_t)page,
		.src = (uint64_t)(uintptr_t)contents,
		.len = PAGE,
	};

	if (ioctl(uffd, UFFDIO_COPY, &copy) < 0)
		abort();
}

/* Blocks until the kernel has really stopped at the page. */
static void
page_wait(void)
{
	struct pollfd p = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	ck_assert_int_eq(poll(&p, 1, -1), 1);
	ck_assert_int_eq(read(uffd, &msg, sizeof(msg)), sizeof(msg));
}

static void
open_device(bool single)
{
	b = drv_connect("io_uring", "path", path, "x-single-issuer", single ? "true" : "false",
			NULL);
	q = drv_start(b);
}

static void
setup(void)
{
	path = drv_file(drv_dir(), 1 << 20);
	uffd = uffd_open();
	ck_assert_int_ge(uffd, 0);
	contents = drv_alloc(PAGE, PAGE);
	memset(contents, 'C', PAGE);
	page_hold();
}

static void
teardown(void)
{
	blkio_destroy(&b);
	munmap(page, PAGE);
	close(uffd);
	free(contents);
	unlink(path);
	free(path);
}

/* A write that waits for the page, submitted. */
static void
stall(void)
{
	blkioq_write(q, 0, page, PAGE, &drv_msg, 0);
	drv_expect(blkioq_do_io(q, NULL, 0, 0, NULL), 0);
	page_wait();
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* --- Timeouts -------------------------------------------------------------- */

START_TEST(test_timeout)
{
	struct timespec ts = { 0, 0 }, later = { 0, 50000000 }, never = { 1000000, 500 };
	struct blkio_completion c[3];
	double begin;
	char buf[1];

	open_device(_i);
	stall();
	drv_expect_msg(blkioq_do_io(q, c, 1, 3, &ts), -ETIME, "Timer expired (os error 62)");
	ck_assert(!ts.tv_sec && !ts.tv_nsec);

	begin = now();
	drv_expect(blkioq_do_io(q, c, 1, 3, &later), -ETIME);
	ck_assert(now() - begin >= 0.05);
	ck_assert(!later.tv_sec && !later.tv_nsec);

	/* One more that finishes at once: kept, not lost, by a wait for two. */
	blkioq_read(q, 8192, buf, 1, buf, 0);
	later.tv_nsec = 1000000;
	drv_expect(blkioq_do_io(q, c, 2, 3, &later), -ETIME);
	/* With min 0 no timeout is an error. */
	later.tv_nsec = 1000000;
	drv_expect(blkioq_do_io(q, c, 0, 0, &later), 0);
	drv_expect(blkioq_do_io(q, c, 3, 3, &never), -EINVAL);
	ck_assert(never.tv_sec == 1000000 && never.tv_nsec == 500);
	drv_expect(blkioq_do_io(q, c, 1, 3, &never), 1);
	ck_assert_ptr_eq(c[0].user_data, buf);
	ck_assert(never.tv_sec < 1000000 || never.tv_nsec <= 500);

	page_give();
	drv_expect(drv_wait(q), 0);
	drv_expect(blkioq_do_io(q, c, 1, 1, NULL), -EINVAL);
}
END_TEST

/* --- Signals --------------------------------------------------------------- */

static volatile sig_atomic_t handled;

static void
handler_counts(int sig)
{
	handled++;
}

/* The third signal lets the request go. */
static void
handler_gives_third(int sig)
{
	if (++handled == 3)
		page_give();
}

static void
handle(int sig, void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = handler };

	handled = 0;
	ck_assert_int_eq(sigaction(sig, &sa, NULL), 0);
}

static timer_t
signal_every_5ms(int sig)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig };
	struct itimerspec its = { { 0, 5000000 }, { 0, 5000000 } };
	timer_t timer;

	ck_assert_int_eq(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	ck_assert_int_eq(timer_settime(timer, 0, &its, NULL), 0);
	return timer;
}

START_TEST(test_signals_do_not_end_a_wait)
{
	struct timespec ts = { 1000000, 0 };
	struct blkio_completion c;
	timer_t timer;

	open_device(_i);
	stall();
	handle(SIGUSR1, handler_gives_third);
	timer = signal_every_5ms(SIGUSR1);
	drv_expect(blkioq_do_io(q, &c, 1, 1, &ts), 1);
	timer_delete(timer);
	ck_assert_int_ge(handled, 3);
	ck_assert_int_eq(c.ret, 0);
	/* What is left has the interrupted waits taken off: 10 ms at the least. */
	ck_assert(ts.tv_sec < 999999 || (ts.tv_sec == 999999 && ts.tv_nsec <= 995000000));
}
END_TEST

START_TEST(test_timeout_despite_signals)
{
	struct timespec ts = { 0, 60000000 };
	struct blkio_completion c;
	timer_t timer;

	open_device(_i);
	stall();
	handle(SIGUSR1, handler_counts);
	timer = signal_every_5ms(SIGUSR1);
	drv_expect(blkioq_do_io(q, &c, 1, 1, &ts), -ETIME);
	timer_delete(timer);
	ck_assert_int_ge(handled, 1);
	page_give();
	drv_expect(drv_wait(q), 0);
}
END_TEST

START_TEST(test_interruptible)
{
	struct timespec ts = { 1000000, 0 };
	struct blkio_completion c;
	sigset_t all, none, before;
	timer_t timer;

	open_device(_i);
	handle(SIGUSR1, handler_counts);
	sigfillset(&all);
	sigemptyset(&none);
	stall();

	/* Without a mask: as it is. */
	timer = signal_every_5ms(SIGUSR1);
	drv_expect_msg(blkioq_do_io_interruptible(q, &c, 1, 1, &ts, NULL), -EINTR,
		       "Interrupted system call (os error 4)");
	timer_delete(timer);
	ck_assert_int_ge(handled, 1);
	ck_assert_int_eq(ts.tv_sec, 999999);

	/* Blocked everywhere but in the wait, pending before it. */
	sigprocmask(SIG_SETMASK, &all, &before);
	handled = 0;
	raise(SIGUSR1);
	ck_assert_int_eq(handled, 0);
	drv_expect(blkioq_do_io_interruptible(q, &c, 1, 1, NULL, &none), -EINTR);
	ck_assert_int_eq(handled, 1);

	/* The same while there is something to submit. */
	raise(SIGUSR1);
	blkioq_write(q, PAGE, page, PAGE, &drv_msg, 0);
	drv_expect(blkioq_do_io_interruptible(q, &c, 1, 1, NULL, &none), -EINTR);
	ck_assert_int_eq(handled, 2);

	/* Blocked in the wait, too: only the time ends it. */
	raise(SIGUSR1);
	ts = (struct timespec){ 0, 20000000 };
	drv_expect(blkioq_do_io_interruptible(q, &c, 1, 1, &ts, &all), -ETIME);
	ck_assert_int_eq(handled, 2);
	sigprocmask(SIG_SETMASK, &before, NULL);
	ck_assert_int_eq(handled, 3);

	page_give();
	drv_expect(blkioq_do_io_interruptible(q, &c, 1, 1, NULL, NULL), 1);
	drv_expect(drv_wait(q), 0);
	drv_expect_msg(blkioq_do_io_interruptible(q, &c, 1, 1, NULL, NULL), -EINVAL,
		       "min_completions is larger than total outstanding requests");
}
END_TEST

/* --- Completion fd --------------------------------------------------------- */

START_TEST(test_completion_fd)
{
	struct pollfd p = { .events = POLLIN };
	struct blkio_completion c;
	eventfd_t count;

	open_device(_i & 1);
	p.fd = blkioq_get_completion_fd(q);
	if (_i & 2) {
		/* Off while it finishes, then switched on. */
		stall();
		page_give();
		ck_assert_int_eq(poll(&p, 1, 20), 0);
		blkioq_set_completion_fd_enabled(q, true);
	} else {
		blkioq_set_completion_fd_enabled(q, true);
		stall();
		ck_assert_int_eq(poll(&p, 1, 0), 0);
		page_give();
	}
	do {
		ck_assert_int_eq(poll(&p, 1, -1), 1);
		ck_assert_int_eq(eventfd_read(p.fd, &count), 0);
	} while (!blkioq_do_io(q, &c, 0, 1, NULL));
	ck_assert_int_eq(c.ret, 0);
}
END_TEST

/* --- Closing --------------------------------------------------------------- */

static void *
give_later(void *arg)
{
	usleep(20000);
	page_give();
	return NULL;
}

/* When destroy returns the memory is the client's: nothing is in flight. */
START_TEST(test_destroy_waits)
{
	pthread_t thread;
	char buf[PAGE];
	int fd;

	open_device(false);
	stall();
	ck_assert_int_eq(pthread_create(&thread, NULL, give_later, NULL), 0);
	if (_i) {
		drv_expect(blkio_remove_queue(b, 0), 0);
		ck_assert_ptr_null(blkio_get_queue(b, 0));
	} else {
		blkio_destroy(&b);
	}
	fd = open(path, O_RDONLY);
	ck_assert_int_eq(read(fd, buf, PAGE), PAGE);
	ck_assert_mem_eq(buf, contents, PAGE);
	close(fd);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* --- Threads --------------------------------------------------------------- */

static void *
do_io_in_thread(void *arg)
{
	struct blkio_completion c;

	return (void *)(intptr_t)blkioq_do_io(q, &c, 0, 1, NULL);
}

static int
other_thread(void)
{
	pthread_t thread;
	void *ret;

	ck_assert_int_eq(pthread_create(&thread, NULL, do_io_in_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, &ret), 0);
	return (int)(intptr_t)ret;
}

/* The thread of the first do_io has the queue for itself, if so wished. */
START_TEST(test_single_issuer)
{
	open_device(_i);
	stall();
	blkioq_flush(q, &drv_msg, 0);
	drv_expect(other_thread(), _i ? -EEXIST : 0);
	page_give();
	drv_expect(drv_wait(q), 0);
}
END_TEST

static void *
submit_and_end(void *arg)
{
	stall();
	return NULL;
}

/* Who submitted has ended, with a request in flight; another thread closes. */
START_TEST(test_submitter_gone)
{
	pthread_t submitter, giver;

	open_device(false);
	ck_assert_int_eq(pthread_create(&submitter, NULL, submit_and_end, NULL), 0);
	ck_assert_int_eq(pthread_create(&giver, NULL, give_later, NULL), 0);
	ck_assert_int_eq(pthread_join(submitter, NULL), 0);
	blkio_destroy(&b);
	ck_assert_int_eq(pthread_join(giver, NULL), 0);
}
END_TEST

static Suite *
suite(void)
{
	Suite *s = suite_create("drivers_wait");
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_timeout, 0, 2);
	tcase_add_loop_test(tc, test_signals_do_not_end_a_wait, 0, 2);
	tcase_add_loop_test(tc, test_timeout_despite_signals, 0, 2);
	tcase_add_loop_test(tc, test_interruptible, 0, 2);
	tcase_add_loop_test(tc, test_completion_fd, 0, 4);
	tcase_add_loop_test(tc, test_destroy_waits, 0, 2);
	tcase_add_loop_test(tc, test_single_issuer, 0, 2);
	tcase_add_test(tc, test_submitter_gone);
	suite_add_tcase(s, tc);
	return s;
}

int
main(void)
{
	SRunner *sr;
	int failed, fd = uffd_open();

	if (fd < 0) {
		printf("skipped: userfaultfd: %s\n", strerror(errno));
		return 77;
	}
	close(fd);
	sr = srunner_create(suite());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
