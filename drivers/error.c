/* SPDX-License-Identifier: MIT */
/*
 * error.c - the message of a thread's last failure.
 *
 * A control function that fails calls error_set() or error_os() once, where it
 * knows most, and returns what that returns. Nothing clears the message: it
 * means something only after a failure.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"

/* With its NUL; the compatible library promises no more. */
#define ERROR_MAX 256

static __thread char error_msg[ERROR_MAX];

const char *
blkio_get_error_msg(void)
{
	return error_msg;
}

int
error_set(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_msg, sizeof(error_msg), fmt, ap);
	va_end(ap);
	return -err;
}

int
error_os(int err, const char *fmt, ...)
{
	char text[96];
	va_list ap;
	int len;

	/* The GNU variant: it returns the text, which need not be in TEXT. */
	len = snprintf(error_msg, sizeof(error_msg), "%s (os error %d)",
		       strerror_r(err, text, sizeof(text)), err);
	invariant(len > 0 && (size_t)len < sizeof(error_msg));

	va_start(ap, fmt);
	vsnprintf(error_msg + len, sizeof(error_msg) - len, fmt, ap);
	va_end(ap);
	return -err;
}
