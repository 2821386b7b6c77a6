/* SPDX-License-Identifier: MIT */
/*
 * log.h - what the operator reads: one line per event on stderr.
 *
 * 1. `level message key=value ...`; only server/ logs, where a failure is
 *    handled, once.
 * 2. Any thread may log. A line goes out in one write and never blocks: when
 *    stderr does not take it the line is dropped and counted, and the next
 *    line that gets through says how many were.
 * 3. Strings that a peer chose go through log_quote(), and lines that peers can
 *    cause at will through log_limited().
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* Levels above are dropped. Before other threads exist. */
void log_init(enum log_level max);
bool log_wants(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) printf_fn(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) \
	do { \
		if (log_wants(LOG_DEBUG)) \
			log_line(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/* Lines of one kind; zeroed at first. */
struct log_limit {
	uint64_t second; /* in which the last line went out */
	unsigned lines;	 /* that went out in it */
	uint64_t suppressed;
};

/*
 * log_line(), but of one LIMIT only LIMIT_LOG_BURST lines a second go out. The
 * next that does says how many did not: suppressed=N.
 */
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
	printf_fn(3, 4);

/*
 * Whether one more may go out at NOW_NS; then *SUPPRESSED is how many did not
 * since the last one, else it is counted. For log_limited() and its test.
 */
bool log_limit_pass(struct log_limit *limit, uint64_t now_ns, uint64_t *suppressed);

/* Longest log_quote() result with its NUL: 80 bytes of text, each escaped. */
#define LOG_QUOTE_MAX (80 * 4 + 6)

/*
 * Writes "TEXT" with its quotes into BUF (LOG_QUOTE_MAX bytes): at most 80
 * bytes of it, everything but printable ASCII as \xNN. Returns BUF.
 */
const char *log_quote(char *buf, const void *text, size_t len);

#endif
