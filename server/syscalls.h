/* SPDX-License-Identifier: MIT */
/*
 * syscalls.h - which system calls the process still has, by seccomp.
 *
 * 1. A list of what serving takes; everything else does not exist (ENOSYS, which
 *    the C library knows what to do about) or is not permitted (EPERM).
 * 2. What no part of the process ever has a use for, but an intruder does, ends
 *    it: execve, ptrace, mount, bpf and the like.
 * 3. No sockets are made, no file is opened for writing, no memory becomes
 *    executable, no ring is made (unless it is asked for), no process is begun.
 *
 * What goes through a ring, seccomp does not see: that is for the restrictions of
 * the rings themselves (blk/loop.c, drivers/uring.h).
 */
#ifndef SERVER_SYSCALLS_H
#define SERVER_SYSCALLS_H

#include <stdbool.h>

#include "base/annotate.h"
#include "blk/err.h"

/*
 * From here on, for every thread; RINGS_LATER: more rings are made. Context: main.
 * Errors: -ENOSYS, -EINVAL (the kernel has no seccomp filters), -ENOMEM.
 */
int syscalls_restrict(bool rings_later, struct err *err) no_co_fn;

#endif
