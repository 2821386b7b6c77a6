/* SPDX-License-Identifier: MIT */
/*
 * helper.c - the commands that a program beside the daemon does; see helper.h.
 *
 * It is looked for where our own executable lies, as in the build directory, and
 * then where `make install` puts it. Never in PATH: what is run has to be ours.
 */
#include "helper.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HELPER "blkgate-client"
#define HELPER_INSTALLED BLKGATE_LIBEXECDIR "/" HELPER

bool
helper_wanted(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "list") == 0 || strcmp(argv[1], "probe") == 0);
}

/* Writes the path beside our own executable to PATH, "" if that is not known. */
static void
path_beside(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size);
	char *slash;

	path[n > 0 && (size_t)n < size ? n : 0] = '\0';
	slash = strrchr(path, '/');
	if (slash && (size_t)(slash + 1 - path) + sizeof(HELPER) <= size)
		strcpy(slash + 1, HELPER);
	else
		path[0] = '\0';
}

int
helper_exec(char **argv)
{
	static char path[PATH_MAX];

	path_beside(path, sizeof(path));
	execv(path, argv);
	if (errno == ENOENT)
		execv(HELPER_INSTALLED, argv);
	if (errno == ENOENT)
		fprintf(stderr,
			"blkgate: %s: there is no %s beside blkgate nor in %s; it is built where "
			"libnbd is (pkg-config libnbd, package libnbd-dev)\n",
			argv[1], HELPER, BLKGATE_LIBEXECDIR);
	else
		fprintf(stderr, "blkgate: %s: cannot run %s: %s\n", argv[1], HELPER,
			strerror(errno));
	return 1;
}
