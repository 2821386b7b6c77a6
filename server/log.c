/* SPDX-License-Identifier: MIT */
/* log.c - one line per event on stderr, never blocking; see log.h. */
#include "log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "limits.h"

static const char *const level_names[] = {
	[LOG_ERROR] = "error",
	[LOG_WARNING] = "warning",
	[LOG_INFO] = "info",
	[LOG_DEBUG] = "debug",
};

static enum log_level level_max = LOG_INFO;
static uint64_t dropped; /* lines; atomic */

void
log_init(enum log_level max)
{
	level_max = max;
}

bool
log_wants(enum log_level level)
{
	return level <= level_max;
}

/*
 * A pipe or socket that is ready takes a line of at most PIPE_BUF at once.
 * Making stderr non-blocking instead would change it for whoever shares it.
 */
static bool
write_line(const char *line, size_t len)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };
	bool ok = false;

	/* Between one thread's look and its write another must not fill the pipe. */
	pthread_mutex_lock(&lock);
	if (poll(&pfd, 1, 0) == 1 && pfd.revents & POLLOUT)
		ok = write(STDERR_FILENO, line, len) == (ssize_t)len;
	pthread_mutex_unlock(&lock);
	return ok;
}

static void
report_dropped(void)
{
	uint64_t n = __atomic_exchange_n(&dropped, 0, __ATOMIC_RELAXED);
	char line[64];
	int len;

	if (n == 0)
		return;
	len = snprintf(line, sizeof(line), "warning log lines dropped count=%llu\n",
		       (unsigned long long)n);
	if (!write_line(line, (size_t)len))
		__atomic_fetch_add(&dropped, n, __ATOMIC_RELAXED);
}

static void printf_fn(3, 0)
line_out(enum log_level level, uint64_t suppressed, const char *fmt, va_list ap)
{
	char line[LIMIT_LOG_LINE], tail[40] = "";
	size_t len, room = sizeof(line) - 1; /* the newline's place */
	int n;

	if (suppressed > 0)
		room -= (size_t)snprintf(tail, sizeof(tail), " suppressed=%llu",
					 (unsigned long long)suppressed);
	len = (size_t)snprintf(line, room, "%s ", level_names[level]);
	n = vsnprintf(line + len, room - len, fmt, ap);
	if (n > 0)
		len = MIN(len + (size_t)n, room - 1);
	len += (size_t)sprintf(line + len, "%s\n", tail);

	report_dropped();
	if (!write_line(line, len))
		__atomic_fetch_add(&dropped, 1, __ATOMIC_RELAXED);
}

void
log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_wants(level))
		return;
	va_start(ap, fmt);
	line_out(level, 0, fmt, ap);
	va_end(ap);
}

bool
log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed)
{
	uint64_t second = now_ns / LIMIT_MS(1000);

	if (second != limit->second) {
		limit->second = second;
		limit->lines = 0;
	}
	if (limit->lines == LIMIT_LOG_BURST) {
		limit->suppressed++;
		return false;
	}
	limit->lines++;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return true;
}

void
log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t suppressed;
	struct timespec ts;
	va_list ap;
	bool pass;

	if (!log_wants(level))
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	pthread_mutex_lock(&lock);
	pass = log_limit_pass(limit, (uint64_t)ts.tv_sec * LIMIT_MS(1000), &suppressed);
	pthread_mutex_unlock(&lock);
	if (!pass)
		return;
	va_start(ap, fmt);
	line_out(level, suppressed, fmt, ap);
	va_end(ap);
}

const char *
log_quote(char *buf, const void *text, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *in = text;
	size_t shown = MIN(len, (size_t)80);
	char *out = buf;

	*out++ = '"';
	for (size_t i = 0; i < shown; i++) {
		if (in[i] >= 0x20 && in[i] < 0x7f && in[i] != '"' && in[i] != '\\') {
			*out++ = (char)in[i];
			continue;
		}
		*out++ = '\\';
		*out++ = 'x';
		*out++ = hex[in[i] >> 4];
		*out++ = hex[in[i] & 15];
	}
	*out++ = '"';
	if (shown < len) {
		memcpy(out, "...", 3);
		out += 3;
	}
	*out = '\0';
	return buf;
}
