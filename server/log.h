/* SPDX-License-Identifier: MIT */
/*
 * log.h - what the operator reads: one line per event on stderr.
 *
 * 1. `level message key=value ...`; only server/ logs, where a failure is
 *    handled, once.
 * 2. Any thread may log. A line goes out in one write and never blocks: when
 *    stderr does not take it the line is dropped and counted, and the next
 *    line that gets through says how many were.
 * 3. Strings that a peer chose go through log_quote().
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stddef.h>

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

/* Longest log_quote() result with its NUL: 80 bytes of text, each escaped. */
#define LOG_QUOTE_MAX (80 * 4 + 6)

/*
 * Writes "TEXT" with its quotes into BUF (LOG_QUOTE_MAX bytes): at most 80
 * bytes of it, everything but printable ASCII as \xNN. Returns BUF.
 */
const char *log_quote(char *buf, const void *text, size_t len);

#endif
