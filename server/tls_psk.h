/* SPDX-License-Identifier: MIT */
/*
 * tls_psk.h - users and their pre-shared keys.
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
	char user[TLS_PSK_USER_MAX + 1];
	size_t user_len;
	uint8_t key[TLS_PSK_KEY_MAX];
	size_t key_len;
};

struct tls_psk_list {
	struct tls_psk *users;
	unsigned count;
};

/*
 * Reads LEN bytes of TEXT: lines of USER:HEX; # begins a comment. Appends to the
 * (zeroed) LIST, which must be released whatever the result. -EINVAL with the
 * line's number, never with a key; -ENOMEM.
 */
int tls_psk_parse(struct tls_psk_list *list, const char *text, size_t len, struct err *err);

/* The user of exactly that name; NULL: there is none. */
const struct tls_psk *tls_psk_find(const struct tls_psk_list *list, const void *user, size_t len);

/* Wipes the keys. */
void tls_psk_release(struct tls_psk_list *list);

#endif
