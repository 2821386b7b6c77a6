/* SPDX-License-Identifier: MIT */
/* server_log.c - lines, quoting, and what happens when nobody reads. */
#include "server/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "server/limits.h"
#include "tests/lib/unit.h"

static int saved_stderr, log_fd; /* log_fd: where our standard error comes out */
static char got[1 << 17];

/* What has been written since the last call. */
static const char *
output(void)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(log_fd, got + len, sizeof(got) - 1 - len)) > 0)
		len += (size_t)n;
	got[len] = '\0';
	return got;
}

/* Standard error is a pipe from here to release(). */
static void
capture(void)
{
	int fds[2];

	fflush(stderr);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	saved_stderr = dup(STDERR_FILENO);
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	log_fd = fds[0];
	ck_assert_int_eq(fcntl(log_fd, F_SETFL, O_NONBLOCK), 0);
	log_init(LOG_INFO);
	/* With it goes what another test in this process has lost. */
	log_info("first");
	output();
}

static void
release(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	if (log_fd >= 0)
		close(log_fd);
}

START_TEST(lines)
{
	capture();
	log_error("disk gone export=%s code=%d", "a", 5);
	log_warning("slow");
	log_info("READY");
	log_line(LOG_DEBUG, "hidden");
	log_debug("hidden %d", 1);
	ck_assert_str_eq(output(), "error disk gone export=a code=5\nwarning slow\ninfo READY\n");
	release();
}
END_TEST

START_TEST(levels)
{
	capture();
	for (int max = LOG_ERROR; max <= LOG_DEBUG; max++) {
		static const char *const expect[] = {
			"error x\n",
			"error x\nwarning x\n",
			"error x\nwarning x\ninfo x\n",
			"error x\nwarning x\ninfo x\ndebug x\n",
		};

		log_init((enum log_level)max);
		log_error("x");
		log_warning("x");
		log_info("x");
		log_debug("x");
		ck_assert_str_eq(output(), expect[max]);
		for (int level = LOG_ERROR; level <= LOG_DEBUG; level++)
			ck_assert(log_wants((enum log_level)level) == (level <= max));
	}
	release();
}
END_TEST

START_TEST(long_lines_are_cut)
{
	static char text[3 * LIMIT_LOG_LINE];

	capture();
	for (size_t len = LIMIT_LOG_LINE - 20; len < LIMIT_LOG_LINE + 20; len++) {
		const char *out;

		memset(text, 'y', len);
		text[len] = '\0';
		log_info("%s", text);
		out = output();
		ck_assert_uint_le(strlen(out), LIMIT_LOG_LINE);
		ck_assert_ptr_eq(strchr(out, '\n'), out + strlen(out) - 1);
		ck_assert(memcmp(out, "info yyyy", 9) == 0);
		if (len + 6 < LIMIT_LOG_LINE - 2)
			ck_assert_uint_eq(strlen(out), len + 6);
	}
	memset(text, 'z', sizeof(text) - 1);
	log_error("%s", text);
	ck_assert_uint_le(strlen(output()), LIMIT_LOG_LINE);
	release();
}
END_TEST

/* --- Limits ----------------------------------------------------------------- */

START_TEST(a_limit_per_second)
{
	const uint64_t second = LIMIT_MS(1000);
	struct log_limit limit = { 0 };
	uint64_t suppressed;

	for (uint64_t now = 0; now < 3; now++) {
		for (unsigned i = 0; i < LIMIT_LOG_BURST; i++) {
			suppressed = 99;
			ck_assert(log_limit_pass(&limit, now * second + i, &suppressed));
			/* Told once, by the first one after. */
			ck_assert_uint_eq(suppressed, now > 0 && i == 0 ? 7 : 0);
		}
		for (unsigned i = 0; i < 7; i++) {
			suppressed = 99;
			ck_assert(!log_limit_pass(&limit, now * second + second - 1, &suppressed));
			ck_assert_uint_eq(suppressed, 99);
		}
	}
	/* Silence for long loses nothing. */
	ck_assert(log_limit_pass(&limit, 100000 * second, &suppressed));
	ck_assert_uint_eq(suppressed, 7);
}
END_TEST

START_TEST(limited_lines)
{
	struct log_limit limit = { 0 }, other = { 0 };
	char text[2 * LIMIT_LOG_LINE];
	const char *out;

	capture();
	log_limited(&limit, LOG_WARNING, "peer wrong conn=%d", 1);
	ck_assert_str_eq(output(), "warning peer wrong conn=1\n");
	limit.suppressed = 12;
	log_limited(&other, LOG_ERROR, "other");
	log_limited(&limit, LOG_DEBUG, "not a line");
	ck_assert_str_eq(output(), "error other\n");
	log_limited(&limit, LOG_WARNING, "peer wrong");
	ck_assert_str_eq(output(), "warning peer wrong suppressed=12\n");
	/* The count is not what is cut. */
	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	limit.suppressed = UINT64_MAX;
	log_limited(&limit, LOG_INFO, "%s", text);
	out = output();
	ck_assert_uint_le(strlen(out), LIMIT_LOG_LINE);
	ck_assert_str_eq(strchr(out, 's'), "suppressed=18446744073709551615\n");
	release();
}
END_TEST

/* --- Nobody reads ----------------------------------------------------------- */

/* Fills the pipe to the last byte. */
static void
fill_pipe(void)
{
	static const char junk[4096];
	int flags = fcntl(STDERR_FILENO, F_GETFL);

	ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK), 0);
	while (write(STDERR_FILENO, junk, sizeof(junk)) > 0)
		;
	while (write(STDERR_FILENO, junk, 1) > 0)
		;
	ck_assert_int_eq(fcntl(STDERR_FILENO, F_SETFL, flags), 0);
}

START_TEST(a_full_pipe_drops)
{
	capture();
	fill_pipe();
	for (int i = 0; i < 5; i++)
		log_info("lost %d", i); /* would block for ever */
	output();
	log_info("next");
	ck_assert_str_eq(output(), "warning log lines dropped count=5\ninfo next\n");
	log_info("after");
	ck_assert_str_eq(output(), "info after\n"); /* it is said once */

	fill_pipe();
	log_info("lost");
	log_debug("not a line"); /* so it is not counted */
	output();
	log_error("next");
	ck_assert_str_eq(output(), "warning log lines dropped count=1\nerror next\n");
	release();
}
END_TEST

START_TEST(a_closed_pipe_drops)
{
	signal(SIGPIPE, SIG_IGN); /* as the server does */
	capture();
	close(log_fd);
	log_fd = -1;
	for (int i = 0; i < 3; i++)
		log_error("nobody");
	close(STDERR_FILENO); /* not even that */
	log_error("nothing");
	release();
}
END_TEST

#define THREADS 4
#define LINES 2000

static void *
log_thread(void *arg)
{
	for (int i = 0; i < LINES; i++)
		log_info("thread=%d line=%d tail=abcdefghijklmnopqrstuvwxyz", *(int *)arg, i);
	return NULL;
}

struct drain {
	int fd;
	unsigned lines, dropped, torn;
};

static void *
drain_thread(void *arg)
{
	struct drain *d = arg;
	FILE *in = fdopen(d->fd, "r");
	char line[2 * LIMIT_LOG_LINE];

	while (fgets(line, sizeof(line), in)) {
		unsigned thread, number, n;
		char rest[64] = "";

		if (sscanf(line, "info thread=%u line=%u tail=%63s", &thread, &number, rest) == 3 &&
		    strcmp(rest, "abcdefghijklmnopqrstuvwxyz") == 0)
			d->lines++;
		else if (sscanf(line, "warning log lines dropped count=%u", &n) == 1)
			d->dropped += n;
		else
			d->torn++;
	}
	fclose(in);
	return NULL;
}

/* Lines of several threads come out whole, and each is written or counted. */
START_TEST(several_threads)
{
	pthread_t threads[THREADS], drainer;
	struct drain drain = { 0 };
	int numbers[THREADS];

	capture();
	drain.fd = log_fd;
	log_fd = -1;
	ck_assert_int_eq(fcntl(drain.fd, F_SETFL, 0), 0);
	ck_assert_int_eq(pthread_create(&drainer, NULL, drain_thread, &drain), 0);
	for (int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_thread, &numbers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* Once all is taken there is room for a last line, which reports the rest. */
	for (int left = 1; left > 0; usleep(100))
		ck_assert_int_eq(ioctl(STDERR_FILENO, FIONREAD, &left), 0);
	log_info("thread=%d line=%d tail=abcdefghijklmnopqrstuvwxyz", 0, 0);
	release(); /* the end of the stream */
	pthread_join(drainer, NULL);
	ck_assert_uint_eq(drain.torn, 0);
	ck_assert_uint_eq(drain.lines + drain.dropped, THREADS * LINES + 1);
	ck_assert_uint_ge(drain.lines, 1);
}
END_TEST

/* --- Quoting ---------------------------------------------------------------- */

START_TEST(quoting_every_byte)
{
	char buf[LOG_QUOTE_MAX], expect[16];

	for (unsigned c = 0; c < 256; c++) {
		char byte = (char)c;

		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			snprintf(expect, sizeof(expect), "\"%c\"", (int)c);
		else
			snprintf(expect, sizeof(expect), "\"\\x%02x\"", c);
		ck_assert_ptr_eq(log_quote(buf, &byte, 1), buf);
		ck_assert_str_eq(buf, expect);
	}
	ck_assert_str_eq(log_quote(buf, "", 0), "\"\"");
	ck_assert_str_eq(log_quote(buf, "a\nb\" key=\"v", 11), "\"a\\x0ab\\x22 key=\\x22v\"");
	ck_assert_str_eq(log_quote(buf, "\x1b[2J", 4), "\"\\x1b[2J\"");
}
END_TEST

START_TEST(quoting_long_text)
{
	char buf[LOG_QUOTE_MAX + 1], text[5000];

	memset(text, 'q', sizeof(text));
	for (size_t len = 78; len < 84; len++) {
		log_quote(buf, text, len);
		ck_assert_uint_eq(strlen(buf), len <= 80 ? len + 2 : 80 + 2 + 3);
		ck_assert_str_eq(buf + (len <= 80 ? len + 1 : 81), len <= 80 ? "\"" : "\"...");
	}
	/* The worst fits exactly. */
	memset(text, 0xff, sizeof(text));
	buf[LOG_QUOTE_MAX] = '!';
	log_quote(buf, text, sizeof(text));
	ck_assert_uint_eq(strlen(buf), LOG_QUOTE_MAX - 1);
	ck_assert_int_eq(buf[LOG_QUOTE_MAX], '!');
}
END_TEST

UNIT_MAIN(lines, levels, long_lines_are_cut, a_limit_per_second, limited_lines,
	  a_full_pipe_drops, a_closed_pipe_drops,
	  several_threads, quoting_every_byte, quoting_long_text)
