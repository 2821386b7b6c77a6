/* SPDX-License-Identifier: MIT */
/*
 * users.h - the numbers of users and groups that rules name.
 *
 * 1. The user database is asked until users_freeze(). From then on there are only
 *    the names that it has been asked for: in the sandbox neither its files nor the
 *    services that it may ask are to be reached, and a name that meant one user in
 *    one reload and nobody in the next would be worse than a fixed one.
 *
 * Context: main.
 */
#ifndef SERVER_USERS_H
#define SERVER_USERS_H

#include <stdint.h>

#include "base/annotate.h"

enum users_kind {
	USERS_USER,
	USERS_GROUP,
};

/*
 * The number of the user or group NAME. -ENOENT: there is none, as far as can be
 * told; -EPERM: the database may not be asked any more; -ENOMEM.
 */
int users_find(enum users_kind kind, const char *name, uint32_t *id) no_co_fn;

void users_freeze(void);

#endif
