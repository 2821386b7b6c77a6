/* SPDX-License-Identifier: MIT */
/*
 * selinux.c - the SELinux label of sockets that are made; see selinux.h.
 *
 * The attribute is there with other security modules too, so it is asked first
 * whether SELinux has its own file system mounted.
 */
#include "selinux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SELINUX_FS "/sys/fs/selinux"
#define SELINUX_FS_TYPE 0xf97cff8c
#define SOCKCREATE "/proc/thread-self/attr/sockcreate"

int
selinux_label_sockets(const char *label, struct err *err)
{
	struct statfs st;
	size_t len = label ? strlen(label) + 1 : 0; /* nothing written: no label any more */
	int fd, ret = 0;

	if (statfs(SELINUX_FS, &st) < 0 || (uint32_t)st.f_type != SELINUX_FS_TYPE)
		return err_set(err, -ENOTSUP, "SELinux is not enabled on this machine");
	fd = open(SOCKCREATE, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, SOCKCREATE ": %s", strerror(errno));
	if (write(fd, label, len) < 0)
		ret = err_set(err, -errno, SOCKCREATE ": %s%s", strerror(errno),
			      errno == EINVAL ? "; the policy does not know this label" : "");
	close(fd);
	return ret;
}
