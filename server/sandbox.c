/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - what the process can still do once it serves; see sandbox.h.
 *
 * The path is sandbox_enter(), from top to bottom: each part takes away what the
 * ones before it needed, and the filter of system calls what all of them did.
 */
#include "sandbox.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/valgrind.h"
#include "server/landlock.h"
#include "server/log.h"
#include "server/syscalls.h"
#include "server/users.h"

/* What in this process needs more than a sandbox leaves; NULL: nothing. */
static const char *
instrumented(void)
{
#ifdef BLKGATE_INSTRUMENTED
	return BLKGATE_INSTRUMENTED;
#else
	return RUNNING_ON_VALGRIND ? "it runs under valgrind" : NULL;
#endif
}

/* --- Places ----------------------------------------------------------------- */

/* The directory that PATH is in. */
static int
parent_allow(const char *path, unsigned rights, struct err *err)
{
	char *copy = strdup(path);
	int ret;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	ret = landlock_allow(dirname(copy), rights, err);
	free(copy);
	return ret;
}

int
sandbox_allow_read(const char *file, struct err *err)
{
	char *real = realpath(file, NULL);
	struct stat st;
	int ret;

	if (!real)
		return err_set(err, -errno, "%s: %s", file, strerror(errno));
	if (stat(real, &st) == 0 && S_ISDIR(st.st_mode)) {
		ret = landlock_allow(real, LANDLOCK_READ, err);
	} else {
		ret = parent_allow(file, LANDLOCK_READ, err);
		if (ret == 0)
			ret = parent_allow(real, LANDLOCK_READ, err);
	}
	free(real);
	return ret;
}

int
sandbox_allow_remove(const char *path, bool directory, struct err *err)
{
	return parent_allow(path, directory ? LANDLOCK_REMOVE_DIR : LANDLOCK_REMOVE_FILE, err);
}

/* --- Parts ------------------------------------------------------------------ */

/*
 * The kernel charges rings and registered memory to nobody while we have
 * CAP_IPC_LOCK, and to the user afterwards: what is made later must fit.
 */
static void
locked_memory_raise(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_MEMLOCK, &limit);
}

/*
 * What could be had again by way of a program. Without CAP_SETPCAP, which goes
 * with the user, it stays; then no_new_privs alone makes it useless.
 */
static void
bounds_drop(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

/*
 * Of the ambient set the kernel keeps no more than of the others. Who has none needs
 * no permission for that: a service manager may refuse capset(2).
 */
static int
capabilities_drop(struct err *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3];
	static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

	if (syscall(__NR_capget, &header, have) < 0 ||
	    (memcmp(have, none, sizeof(none)) != 0 && syscall(__NR_capset, &header, none) < 0))
		return err_set(err, -errno, "capabilities: %s", strerror(errno));
	return 0;
}

static bool has_secrets; /* of the process */

void
sandbox_secrets(void)
{
	const struct rlimit none = { 0, 0 };

	has_secrets = true;
	setrlimit(RLIMIT_CORE, &none);
	/* The leak checker of a sanitizer is a debugger. */
	if (!instrumented())
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* --- All -------------------------------------------------------------------- */

/* A part that is not to be had: an error, or one more word of MISSING. */
static int
missing_add(enum sandbox_mode mode, char *missing, size_t size, struct err *err)
{
	size_t len = strlen(missing);

	if (mode == SANDBOX_ON)
		return err_prefix(err, "--sandbox=on");
	snprintf(missing + len, size - len, "%s%s", len ? "; " : "", err->text);
	return 0;
}

static int
confine(const struct sandbox_options *o, struct err *err)
{
	const char *why = instrumented();
	char missing[ERR_TEXT_MAX] = "";
	int ret = capabilities_drop(err);

	if (ret < 0)
		return ret;
	if (why) {
		if (o->mode == SANDBOX_ON)
			return err_set(err, -ENOTSUP, "--sandbox=on: not possible: %s", why);
		log_info("sandbox missing=\"landlock, seccomp\" reason=\"%s\"", why);
		return 0;
	}
	sandbox_secrets();
	if (landlock_enter(err) < 0)
		ret = missing_add(o->mode, missing, sizeof(missing), err);
	if (ret == 0 && syscalls_restrict(o->rings_later, err) < 0)
		ret = missing_add(o->mode, missing, sizeof(missing), err);
	if (*missing)
		log_warning("sandbox missing=\"%s\"", missing);
	return ret;
}

int
sandbox_enter(const struct sandbox_options *o, const struct identity *id, struct err *err)
{
	int ret;

	locked_memory_raise();
	if (o->mode != SANDBOX_OFF)
		bounds_drop();
	ret = identity_become(id, err);
	if (ret < 0)
		return ret;
	/* For who changes users the system's fs.suid_dumpable is in force again. */
	if (has_secrets)
		sandbox_secrets();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) /* UNTESTED: all kernels have it */
		return err_set(err, -errno, "no_new_privs: %s", strerror(errno));
	if (o->mode != SANDBOX_OFF) {
		users_freeze();
		ret = confine(o, err);
	}
	landlock_release();
	return ret;
}
