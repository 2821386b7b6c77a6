/* SPDX-License-Identifier: MIT */
/*
 * err.h - a cold-path failure: an errno and one line for the operator.
 *
 * 1. Functions that take a struct err set it exactly when they return < 0.
 * 2. The text says who, what, which value, what would be right; callers add
 *    their own "who" in front with err_prefix().
 * 3. Fixed size, no allocation; over-long texts are cut.
 *
 * The hot path returns bare -errno and never touches one of these.
 */
#ifndef BLK_ERR_H
#define BLK_ERR_H

#include "base/annotate.h"

#define ERR_TEXT_MAX 512

struct err {
	int code;		 /* -errno */
	char text[ERR_TEXT_MAX]; /* one line, no newline */
};

/* Sets CODE (negative errno) and the text. Returns CODE. Any context. */
int err_set(struct err *err, int code, const char *fmt, ...) printf_fn(3, 4);

/* Puts "PREFIX: " before the text that is there. Returns the code. Any context. */
int err_prefix(struct err *err, const char *fmt, ...) printf_fn(2, 3);

#endif
