/* SPDX-License-Identifier: MIT */
/*
 * hint.c - what somebody may have meant by a target that cannot be opened.
 *
 * Nothing depends on these: a text that is not recognised gets no hint.
 */
#include "hint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void append(struct err *err, const char *fmt, ...) printf_fn(2, 3);

static void
append(struct err *err, const char *fmt, ...)
{
	size_t n = strlen(err->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text + n, sizeof(err->text) - n, fmt, ap);
	va_end(ap);
}

static bool
begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static const char *
path_of(const struct config_target *t)
{
	for (unsigned i = 0; i < t->nprops; i++)
		if (strcmp(t->props[i].name, "path") == 0)
			return t->props[i].value;
	return "";
}

/* A path as a whole, but it goes on as properties do: ",NAME=". */
static bool
has_props(const struct config_target *t, const char *path)
{
	const char *comma = path == t->text ? strchr(path, ',') : NULL;

	return comma && strchr(comma, '=');
}

void
hint_target(const struct config_target *t, struct err *err)
{
	const char *path = path_of(t);

	switch (-err->code) {
	case ENOENT:
		if (begins(err->text, "driver "))
			append(err,
			       "; there are io_uring and mem, and a path with a colon is written "
			       "./%s:%s",
			       t->driver, path);
		else if (begins(err->text, "property "))
			append(err, "; see blkio(3)");
		else if (strcmp(path, "mem") == 0)
			append(err, "; a RAM disk is mem:SIZE");
		else if (has_props(t, path))
			append(err,
			       "; what begins with / or ./ is a path as a whole, with properties "
			       "write io_uring:%s",
			       path);
		break;
	case EACCES:
	case EPERM:
	case EROFS:
		if (strstr(err->text, "with read-only=true") &&
		    faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0)
			append(err, ", as all targets are with --read-only");
		break;
	}
}
