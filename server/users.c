/* SPDX-License-Identifier: MIT */
/* users.c - the numbers of users and groups that rules name; see users.h. */
#include "users.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct user {
	enum users_kind kind;
	char *name;
	uint32_t id;
};

/* The process's, like the database, and no more of them than that has. */
static struct user *users;
static unsigned nusers;
static bool frozen;

static struct user *
known(enum users_kind kind, const char *name)
{
	for (unsigned i = 0; i < nusers; i++)
		if (users[i].kind == kind && strcmp(users[i].name, name) == 0)
			return &users[i];
	return NULL;
}

static int
remember(enum users_kind kind, const char *name, uint32_t id)
{
	struct user *more = realloc(users, (nusers + 1) * sizeof(*users));
	char *copy = strdup(name);

	if (more)
		users = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	users[nusers++] = (struct user){ .kind = kind, .name = copy, .id = id };
	return 0;
}

static int
database_find(enum users_kind kind, const char *name, uint32_t *id)
{
	const struct passwd *user;
	const struct group *group;

	if (kind == USERS_USER) {
		if (!(user = getpwnam(name)))
			return -ENOENT;
		*id = user->pw_uid;
	} else {
		if (!(group = getgrnam(name)))
			return -ENOENT;
		*id = group->gr_gid;
	}
	return 0;
}

int
users_find(enum users_kind kind, const char *name, uint32_t *id)
{
	struct user *user = known(kind, name);
	uint32_t n;
	int ret;

	if (frozen) {
		if (user)
			*id = user->id;
		return user ? 0 : -EPERM;
	}
	ret = database_find(kind, name, &n);
	if (ret == 0 && user)
		user->id = n;
	else if (ret == 0)
		ret = remember(kind, name, n);
	if (ret == 0)
		*id = n;
	return ret;
}

void
users_freeze(void)
{
	frozen = true;
}
