/* SPDX-License-Identifier: MIT */
/*
 * landlock.h - which files the process may still reach, by Landlock.
 *
 * 1. Places are named before landlock_enter(); each costs a descriptor until
 *    then. Afterwards there are no others: every open, removal, making and
 *    renaming elsewhere is refused with EACCES, and so are binding and connecting
 *    TCP sockets, and signals and abstract unix sockets of other processes, as far
 *    as the kernel knows these. What is open already stays usable as it was.
 * 2. Looking at attributes (stat(2), access(2)) is not restricted.
 *
 * Source: landlock(7). Context: main, before there are other threads.
 */
#ifndef SERVER_LANDLOCK_H
#define SERVER_LANDLOCK_H

#include <stdint.h>

#include "base/annotate.h"
#include "blk/err.h"

enum landlock_right {
	LANDLOCK_READ = 1,	    /* files, whose names have to be known */
	LANDLOCK_REMOVE_FILE = 2,   /* anything that is no directory */
	LANDLOCK_REMOVE_DIR = 4,    /* directories in it, empty ones */
};

/* What is in DIRECTORY, at any depth, may be used so. Errors: that of open(2), -ENOMEM. */
int landlock_allow(const char *directory, unsigned rights, struct err *err) no_co_fn;

/*
 * The version of the kernel's interface, for the log and for tests; -errno when
 * there is none (-ENOSYS) or it is switched off (-EOPNOTSUPP).
 */
int landlock_version(void);

/* From here on. Invariant: no_new_privs is set. Errors: those of landlock_version(). */
int landlock_enter(struct err *err) no_co_fn;

/* Forgets the places. */
void landlock_release(void);

#endif
