/* SPDX-License-Identifier: MIT */
/*
 * tls_psk.h - users and their pre-shared keys.
 *
 * 1. What a list has is in one allocation, and all of it is wiped by
 *    tls_psk_release(): whatever came of tls_psk_parse(), no key is left behind.
 * 2. Users are sorted, so a handshake finds one of a hundred thousand in 17 steps.
 *
 * Threads: constant after tls_psk_parse().
 * Source: psktool(1), the file's format.
 */
#ifndef SERVER_TLS_PSK_H
#define SERVER_TLS_PSK_H

#include <stddef.h>
#include <stdint.h>

#include "blk/err.h"

#define TLS_PSK_KEY_MIN 32 /* bytes; what psktool(1) makes */
#define TLS_PSK_KEY_MAX 64
#define TLS_PSK_USER_MAX 255

struct tls_psk {
	const char *user; /* without NUL */
	const uint8_t *key;
	uint16_t user_len; /* bytes, as key_len */
	uint16_t key_len;
	unsigned line; /* where it is in the file, from 1 */
};

struct tls_psk_list {
	struct tls_psk *users; /* by length and bytes of their names; what they name follows */
	unsigned count;
	size_t size_bytes; /* of the allocation */
};

/*
 * Reads LEN bytes of TEXT: lines of USER:HEX; # begins a comment. Fills the
 * (zeroed) LIST, which must be released whatever the result. -EINVAL with the
 * line's number, never with a key; -ENOMEM.
 */
int tls_psk_parse(struct tls_psk_list *list, const char *text, size_t len, struct err *err);

/* The user of exactly that name; NULL: there is none. */
const struct tls_psk *tls_psk_find(const struct tls_psk_list *list, const void *user, size_t len);

/* Wipes the keys. */
void tls_psk_release(struct tls_psk_list *list);

#endif
