/* SPDX-License-Identifier: MIT */
/*
 * selinux.h - the SELinux label of sockets that are made: --selinux-label.
 *
 * Source: the kernel's interface below /proc/thread-self/attr, and proc_pid_attr(5).
 * Context: main.
 */
#ifndef SERVER_SELINUX_H
#define SERVER_SELINUX_H

#include "base/annotate.h"
#include "blk/err.h"

/*
 * Sockets that this thread makes have LABEL from now on; NULL: as the policy has
 * it. Errors: -ENOTSUP without SELinux; -EINVAL: the policy knows no such label;
 * -EACCES: it forbids it.
 */
int selinux_label_sockets(const char *label, struct err *err) no_co_fn;

#endif
