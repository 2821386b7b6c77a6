/* SPDX-License-Identifier: MIT */
/*
 * value.h - the values of options: numbers, sizes, words, strings.
 *
 * Pure. Each gives 0 and the value, or -EINVAL and a text that names the OPTION
 * (as the user may write it), its value, and what would be right.
 */
#ifndef SERVER_VALUE_H
#define SERVER_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include "blk/err.h"
#include "server/export.h"

int value_unsigned(const char *option, const char *text, unsigned min, unsigned max,
		   unsigned *value, struct err *err);

/* Bytes, with a suffix k, M, G or T in powers of 1024. */
int value_size(const char *text, uint64_t *value, struct err *err);

/* MIN:PREFERRED:MAX, of which any may be missing. The rules are the protocol's. */
int value_block_sizes(const char *option, const char *text, struct block_sizes *sizes,
		      struct err *err);

struct value_word {
	const char *text;
	int value;
};

int value_word(const char *option, const char *text, const struct value_word *words, size_t n,
	       int *value, struct err *err);

/* Permissions, in octal. */
int value_mode(const char *option, const char *text, unsigned *mode, struct err *err);

/* Whether WHAT, a TEXT of ours, may be sent to clients: length and encoding. */
int value_check_string(const char *what, const char *text, struct err *err);

#endif
