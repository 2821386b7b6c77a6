/* SPDX-License-Identifier: MIT */
/*
 * identity.c - whose rights the process has; see identity.h.
 *
 * The path: identity_resolve() asks the user database before anything is
 * opened; the listeners are made between identity_files_begin() and _end();
 * identity_become() gives up groups first, then the group, and the user last,
 * reads back what has become of it, and tries to return.
 */
#include "identity.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>

/* The last number means "as it is" to setresuid(2). */
#define ID_MAX (UINT32_MAX - 1)

/* --- Names ------------------------------------------------------------------ */

/* Whether TEXT is a number; one that is no id has no *ID and is an error to come. */
static bool
id_number(const char *text, uint32_t *id, bool *in_range)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long v;

	if (digits == 0 || text[digits])
		return false;
	errno = 0;
	v = strtoul(text, NULL, 10);
	*in_range = errno == 0 && v <= ID_MAX;
	*id = (uint32_t)v;
	return true;
}

/* Why the database has no such entry, for what getpwnam(3) left in errno. */
static int
not_found(const char *option, const char *text, const char *what, int error, struct err *err)
{
	switch (error) {
	case 0:
	case ENOENT:
	case ESRCH:
	case EBADF:
	case EPERM:
		return err_set(err, -ENOENT, "%s=%s: there is no such %s", option, text, what);
	default:
		return err_set(err, -EIO, "%s=%s: cannot look the %s up: %s", option, text, what,
			       strerror(error));
	}
}

static int
not_an_id(const char *option, const char *text, struct err *err)
{
	return err_set(err, -EINVAL, "%s=%s: must be a name, or a number up to %u", option, text,
		       ID_MAX);
}

static int
group_resolve(struct identity *id, struct err *err)
{
	const struct group *g;
	bool in_range;

	if (id_number(id->group, &id->gid, &in_range))
		return in_range ? 0 : not_an_id("--group", id->group, err);
	errno = 0;
	g = getgrnam(id->group);
	if (!g)
		return not_found("--group", id->group, "group", errno, err);
	id->gid = g->gr_gid;
	return 0;
}

static int
user_resolve(struct identity *id, struct err *err)
{
	const struct passwd *p;
	bool in_range;

	if (id_number(id->user, &id->uid, &in_range)) {
		if (!in_range)
			return not_an_id("--user", id->user, err);
		p = getpwuid(id->uid);
		if (!p && !id->group)
			return err_set(err, -ENOENT,
				       "--user=%s: the user database does not know this number, so "
				       "--group is needed too",
				       id->user);
	} else {
		errno = 0;
		p = getpwnam(id->user);
		if (!p)
			return not_found("--user", id->user, "user", errno, err);
		id->uid = p->pw_uid;
	}
	if (!id->group)
		id->gid = p->pw_gid;
	return 0;
}

int
identity_resolve(struct identity *id, const char *user, const char *group, struct err *err)
{
	int ret = 0;

	*id = (struct identity){
		.user = user,
		.group = group,
		.wanted = user || group,
		.uid = geteuid(),
		.gid = getegid(),
	};
	if (group)
		ret = group_resolve(id, err);
	if (ret == 0 && user)
		ret = user_resolve(id, err);
	return ret;
}

/* --- Rights ----------------------------------------------------------------- */

/* NULL, or who makes files now: the kernel could be asked, but a filter may refuse. */
static const struct identity *files_of;

uid_t
identity_files_uid(void)
{
	return files_of ? files_of->uid : geteuid();
}

void
identity_files_begin(const struct identity *id)
{
	if (!id->wanted)
		return;
	files_of = id;
	/* The group first: without the user's rights it could not be set. */
	setfsgid(id->gid);
	setfsuid(id->uid);
}

void
identity_files_end(const struct identity *id)
{
	if (!id->wanted)
		return;
	files_of = NULL;
	setfsuid(geteuid());
	setfsgid(getegid());
}

static int
refused(const struct identity *id, const char *what, int error, struct err *err)
{
	const char *option = id->user ? "--user" : "--group";
	const char *text = id->user ? id->user : id->group;

	if (error == EPERM)
		return err_set(err, -EPERM,
			       "%s=%s: not permitted to change %s; it takes root, or CAP_SETUID "
			       "and CAP_SETGID",
			       option, text, what);
	return err_set(err, -error, "%s=%s: cannot change %s: %s", option, text, what,
		       strerror(error));
}

static bool
is_already(const struct identity *id)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	return getgroups(0, NULL) == 0 && getresgid(&rgid, &egid, &sgid) == 0 &&
	       getresuid(&ruid, &euid, &suid) == 0 && rgid == id->gid && egid == id->gid &&
	       sgid == id->gid && ruid == id->uid && euid == id->uid && suid == id->uid;
}

int
identity_become(const struct identity *id, struct err *err)
{
	if (!id->wanted || is_already(id))
		return 0;
	if (setgroups(0, NULL) < 0)
		return refused(id, "the groups", errno, err);
	if (setresgid(id->gid, id->gid, id->gid) < 0)
		return refused(id, "the group", errno, err);
	if (setresuid(id->uid, id->uid, id->uid) < 0)
		return refused(id, "the user", errno, err);
	/* UNTESTED: no kernel is known that would get here. */
	if (!is_already(id) || (id->uid != 0 && setuid(0) == 0))
		return err_set(err, -EPERM, "the change of user has no lasting effect");
	return 0;
}
