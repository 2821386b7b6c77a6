/* SPDX-License-Identifier: MIT */
/*
 * landlock.c - which files the process may still reach; see landlock.h.
 *
 * The path: landlock_allow() opens a directory as a path only and keeps it;
 * landlock_enter() asks for the version, makes a set of rules that handles all
 * rights which that version has, adds one rule for each place, and enters it.
 *
 * Neither every C library nor every kernel header of the age that we build on has
 * these calls and bits, so they are here; the numbers are the kernel's interface.
 */
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same numbers on every machine since all have them from one table. */
#define SYS_CREATE_RULESET 444
#define SYS_ADD_RULE 445
#define SYS_RESTRICT_SELF 446

#define CREATE_VERSION 1u /* flag: only tell the version */
#define RULE_PATH_BENEATH 1

#define FS_READ_FILE (1ull << 2)
#define FS_REMOVE_DIR (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
/* All up to here are version 1: removing, and making anything of any kind. */
#define FS_VERSION_1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)	  /* 2 */
#define FS_TRUNCATE (1ull << 14)  /* 3 */
#define FS_IOCTL_DEV (1ull << 15) /* 5 */
#define NET_TCP 3ull		  /* 4: bind and connect */
#define SCOPED 3ull		  /* 6: abstract unix sockets, signals */

struct ruleset_attr {
	uint64_t handled_fs;
	uint64_t handled_net; /* since version 4 */
	uint64_t scoped;      /* since version 6 */
};

struct path_beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

struct place {
	int fd;
	unsigned rights;
};

/* The process's, like what they are for. */
static struct place *places;
static unsigned nplaces;

int
landlock_allow(const char *directory, unsigned rights, struct err *err)
{
	struct place *more = realloc(places, (nplaces + 1) * sizeof(*places));
	int fd;

	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	places = more;
	fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "directory %s: %s", directory, strerror(errno));
	places[nplaces++] = (struct place){ .fd = fd, .rights = rights };
	return 0;
}

void
landlock_release(void)
{
	for (unsigned i = 0; i < nplaces; i++)
		close(places[i].fd);
	free(places);
	places = NULL;
	nplaces = 0;
}

int
landlock_version(void)
{
	long v = syscall(SYS_CREATE_RULESET, NULL, (size_t)0, CREATE_VERSION);

	return v < 0 ? -errno : (int)v;
}

/* All that VERSION can forbid; returns how much of ATTR it knows. */
static size_t
attr_fill(struct ruleset_attr *attr, int version)
{
	attr->handled_fs = FS_VERSION_1;
	if (version >= 2)
		attr->handled_fs |= FS_REFER;
	if (version >= 3)
		attr->handled_fs |= FS_TRUNCATE;
	if (version >= 5)
		attr->handled_fs |= FS_IOCTL_DEV;
	attr->handled_net = version >= 4 ? NET_TCP : 0;
	attr->scoped = version >= 6 ? SCOPED : 0;
	if (version >= 6)
		return sizeof(*attr);
	return version >= 4 ? offsetof(struct ruleset_attr, scoped) :
			      offsetof(struct ruleset_attr, handled_net);
}

static int
place_add(int ruleset, const struct place *p)
{
	struct path_beneath_attr rule = { .parent_fd = p->fd };

	if (p->rights & LANDLOCK_READ)
		rule.allowed |= FS_READ_FILE;
	if (p->rights & LANDLOCK_REMOVE_FILE)
		rule.allowed |= FS_REMOVE_FILE;
	if (p->rights & LANDLOCK_REMOVE_DIR)
		rule.allowed |= FS_REMOVE_DIR;
	return (int)syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
}

int
landlock_enter(struct err *err)
{
	struct ruleset_attr attr;
	int version = landlock_version();
	int ruleset, ret = 0;
	size_t size;

	if (version < 0)
		return err_set(err, version, "landlock: %s",
			       version == -ENOSYS ? "this kernel has none" :
			       version == -EOPNOTSUPP ?
						    "it is not among the kernel's lsm= modules" :
						    strerror(-version));
	size = attr_fill(&attr, version);
	ruleset = (int)syscall(SYS_CREATE_RULESET, &attr, size, 0);
	if (ruleset < 0)
		return err_set(err, -errno, "landlock: %s", strerror(errno));
	for (unsigned i = 0; i < nplaces && ret == 0; i++)
		ret = place_add(ruleset, &places[i]);
	if (ret == 0)
		ret = (int)syscall(SYS_RESTRICT_SELF, ruleset, 0);
	if (ret < 0)
		ret = err_set(err, -errno, "landlock: %s", strerror(errno));
	close(ruleset);
	return ret;
}
