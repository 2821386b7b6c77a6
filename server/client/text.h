/* SPDX-License-Identifier: MIT */
/*
 * text.h - strings that a server chose, made safe to show; sizes; URIs.
 *
 * 1. Such a string is any bytes without a NUL, though the protocol wants UTF-8.
 * 2. For people nothing in it reaches the terminal that does more than show a
 *    character: control characters, those that change the direction of writing
 *    or are invisible, and what is no UTF-8 come as \xNN, byte by byte.
 * 3. For programs it is a JSON string in ASCII and well-formed UTF-8; a byte
 *    that is no UTF-8 becomes U+FFFD.
 * 4. Functions that return memory never return NULL: without memory, which is a
 *    matter of kilobytes here, the program ends.
 */
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/annotate.h"

/* Whether the terminal takes UTF-8; without it what is not ASCII is escaped too. */
void text_init(bool utf8);

/*
 * Writes "TEXT" in quotes to OUT, or nowhere if that is NULL; the columns it
 * takes, as far as one character is one column.
 */
size_t text_quote(FILE *out, const char *text);
/* The same without quotes, for sentences that contain such a string. */
void text_plain(FILE *out, const char *text);
/* Writes TEXT as a JSON string, or null for NULL. */
void text_json(FILE *out, const char *text);

/* Longest text_size() result with its NUL. */
#define TEXT_SIZE_MAX 32

/* BYTES with a binary unit: exact without a fraction, rounded with one. Returns BUF. */
const char *text_size(char *buf, uint64_t bytes);

/* URI with NAME, percent-encoded, in the place of its export name; to be freed. */
char *text_uri(const char *uri, const char *name);

/*
 * What URI says of NAME behind its `?', decoded, to be freed; NULL: nothing. Of
 * several it is the first.
 */
char *text_uri_value(const char *uri, const char *name);

/* printf() into memory of its own, to be freed. */
char *text_format(const char *fmt, ...) printf_fn(1, 2);

/* For who cannot go on without memory. */
_Noreturn void text_no_memory(void);

#endif
