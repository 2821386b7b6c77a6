/* SPDX-License-Identifier: MIT */
/*
 * sandbox.h - what the process can still do once it serves, whoever is in control
 * of it: --sandbox.
 *
 * 1. sandbox_enter() comes when everything has been opened, bound and made, and
 *    before there are other threads: they inherit it.
 * 2. In this order: the user (identity.h); no_new_privs; capabilities; core dumps
 *    and debuggers; files (landlock.h); system calls (syscalls.h).
 * 3. What is instrumented (a sanitizer, coverage, valgrind) needs more than what
 *    is left; there the last three stay away, which SANDBOX_ON takes for an
 *    error and SANDBOX_AUTO says.
 *
 * Context: main, before there are other threads.
 */
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include <stdbool.h>

#include "base/annotate.h"
#include "blk/err.h"
#include "server/identity.h"

enum sandbox_mode {
	SANDBOX_AUTO, /* as much as there is; one line tells what is not */
	SANDBOX_ON,   /* all of it, or an error */
	SANDBOX_OFF,  /* the user and no_new_privs only */
};

struct sandbox_options {
	enum sandbox_mode mode;
	bool rings_later; /* queues are made, and so are rings, while it serves */
};

/*
 * FILE will be read again while serving: what is in its directory may be, also
 * in the one to which symbolic links lead now; a directory is allowed itself.
 * Whether the user may is for the file system to say. Before sandbox_enter().
 * Errors: those of realpath(3), -ENOMEM.
 */
int sandbox_allow_read(const char *file, struct err *err) no_co_fn;

/* PATH, a file or with DIRECTORY an empty directory, will be removed at the end. */
int sandbox_allow_remove(const char *path, bool directory, struct err *err) no_co_fn;

/*
 * There will be secrets in memory: no core dump from now on, and no debugger without
 * root's rights; whatever --sandbox says. More than once is fine.
 */
void sandbox_secrets(void) no_co_fn;

/* From here on. Errors: those of identity_become(); with SANDBOX_ON of each part. */
int sandbox_enter(const struct sandbox_options *options, const struct identity *id,
		  struct err *err) no_co_fn;

#endif
