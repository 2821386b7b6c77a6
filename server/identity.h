/* SPDX-License-Identifier: MIT */
/*
 * identity.h - whose rights the process has: --user and --group.
 *
 * 1. What was not asked for stays as it is.
 * 2. Unix sockets are made as the user that is to come, so that they are his
 *    from their first moment on and he can remove them at the end.
 * 3. After identity_become() there is no way back, which is tried.
 *
 * Context: main, before there are other threads.
 */
#ifndef SERVER_IDENTITY_H
#define SERVER_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/annotate.h"
#include "blk/err.h"

struct identity {
	const char *user, *group; /* as they were given, or NULL */
	bool wanted;		  /* any of them; what follows is set only then */
	uid_t uid;
	gid_t gid;
};

/*
 * Looks USER (a name or number, or NULL) and GROUP up. A user without a group
 * has his own of the user database. Errors: -ENOENT, -EINVAL, -EIO.
 */
int identity_resolve(struct identity *id, const char *user, const char *group,
		     struct err *err) no_co_fn;

/* Between these two, files are made and removed with ID's rights. */
void identity_files_begin(const struct identity *id);
void identity_files_end(const struct identity *id);

/* Whose files we make now: that user, or the process's. */
uid_t identity_files_uid(void);

/*
 * Becomes ID for good, without further groups. What is so already needs no
 * rights. Errors: -EPERM; and what a system call says that has no effect.
 */
int identity_become(const struct identity *id, struct err *err) no_co_fn;

#endif
