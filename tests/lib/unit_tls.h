/* SPDX-License-Identifier: MIT */
/* unit_tls.h - credentials of one user, alice, with a key. */
#ifndef UNIT_TLS_H
#define UNIT_TLS_H

#include <stdlib.h>
#include <unistd.h>

#include "server/tls.h"
#include "tests/lib/unit.h"

#define UNIT_TLS_KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static inline struct tls *
unit_tls_load(void)
{
	char path[] = "/tmp/blkgate-psk.XXXXXX";
	int fd = mkstemp(path);
	struct tls *tls;
	struct err err;

	ck_assert(dprintf(fd, "alice:%s\n", UNIT_TLS_KEY) > 0);
	close(fd);
	ck_assert_int_eq(tls_init(&err), 0);
	ck_assert_msg(tls_load(&tls, &(struct tls_files){ .psk = path }, &err) == 0, "%s",
		      err.text);
	unlink(path);
	return tls;
}

#endif
