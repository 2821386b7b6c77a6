/* SPDX-License-Identifier: MIT */
/*
 * syscalls.c - which system calls the process still has; see syscalls.h.
 *
 * The path: syscalls_restrict() fills a filter from the tables below, those that
 * depend on arguments last, and hands it to the kernel.
 *
 * Who needs a further call adds it here, with what it is for; a look at what the
 * C library does for it (strace) tells which one it really is. Calls that a
 * machine does not have are rules that nothing fits.
 */
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

#define NEW_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET)

static const int allowed[] = {
	/* the rings */
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	/* sockets, pipes, eventfds, the log: what is open already */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(signalfd4),
	SCMP_SYS(close),
	/* devices, and files that are read again */
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(lstat),
	SCMP_SYS(stat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	/* our sockets at the end */
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rmdir),
	/* memory */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	/* threads, locks, signals, and their ends */
	SCMP_SYS(futex),
	SCMP_SYS(futex_waitv),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* time, and what can only be asked */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getcpu),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
};

/* For a queue that is made while serving, and what a driver has beside it. */
static const int allowed_later[] = {
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(eventfd2),
	SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate),
};

static const int fatal[] = {
	/* other programs and other processes */
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(kcmp),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	/* the view of files */
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(move_mount),
	SCMP_SYS(open_tree),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(fspick),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(name_to_handle_at),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(quotactl),
	SCMP_SYS(acct),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	/* the kernel's own machinery */
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(keyctl),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(syslog),
	SCMP_SYS(iopl),
	SCMP_SYS(ioperm),
	SCMP_SYS(modify_ldt),
	SCMP_SYS(personality),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(sethostname),
	SCMP_SYS(setdomainname),
};

/* Known, and a clear no: what somebody may try who adds to this program. */
static const int refused[] = {
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(bind),
	SCMP_SYS(connect),
	SCMP_SYS(listen),
	SCMP_SYS(kill),
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setreuid),
	SCMP_SYS(setregid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(capset),
};

static int
add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++)
		ret = seccomp_rule_add(ctx, action, calls[i], 0);
	return ret;
}

/* CALL if its argument ARG has none of BITS, else EPERM. */
static int
add_without_bits(scmp_filter_ctx ctx, int call, unsigned arg, uint64_t bits)
{
	int ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
				   SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, bits, 0));

	for (uint64_t bit = 1; bit <= bits && ret == 0; bit <<= 1)
		if (bits & bit)
			ret = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), call, 1,
					       SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, bit, bit));
	return ret;
}

/* CALL if its argument ARG, of 32 bits, is one of VALUES. */
static int
add_values(scmp_filter_ctx ctx, int call, unsigned arg, const unsigned *values, size_t n)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1,
				       SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, values[i]));
	return ret;
}

/* What a client's socket is told when it has come: listener.c. */
static int
add_socket_options(scmp_filter_ctx ctx)
{
	static const struct {
		unsigned level, option;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE },	{ IPPROTO_TCP, TCP_NODELAY },
		{ IPPROTO_TCP, TCP_KEEPIDLE },	{ IPPROTO_TCP, TCP_KEEPINTVL },
		{ IPPROTO_TCP, TCP_KEEPCNT },	{ IPPROTO_TCP, TCP_USER_TIMEOUT },
	};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options) && ret == 0; i++)
		ret = seccomp_rule_add(
			ctx, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2,
			SCMP_CMP64(1, SCMP_CMP_MASKED_EQ, UINT32_MAX, options[i].level),
			SCMP_CMP64(2, SCMP_CMP_MASKED_EQ, UINT32_MAX, options[i].option));
	return ret;
}

/* The calls of which it depends on the arguments. */
static int
add_by_arguments(scmp_filter_ctx ctx)
{
	static const unsigned fcntls[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC };
	/* A device's size, what a socket still has to send. */
	static const unsigned ioctls[] = { (unsigned)BLKGETSIZE64, SIOCOUTQ };
	static const unsigned prctls[] = { PR_SET_NAME, PR_SET_VMA };
	/*
	 * Not both directions: a listening socket that is shut down so is as good as a
	 * new one, and sendto(2) with MSG_FASTOPEN, or a ring, connects it.
	 */
	static const unsigned shutdowns[] = { SHUT_WR };
	static const unsigned open_bits = O_ACCMODE | O_CREAT | O_TRUNC;
	const uint64_t thread = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND;
	int ret;

	if ((ret = add_without_bits(ctx, SCMP_SYS(mmap), 2, PROT_EXEC)) < 0 ||
	    (ret = add_without_bits(ctx, SCMP_SYS(mprotect), 2, PROT_EXEC)) < 0 ||
	    (ret = add_without_bits(ctx, SCMP_SYS(open), 1, open_bits)) < 0 ||
	    (ret = add_without_bits(ctx, SCMP_SYS(openat), 2, open_bits)) < 0 ||
	    (ret = add_values(ctx, SCMP_SYS(fcntl), 1, fcntls, ARRAY_SIZE(fcntls))) < 0 ||
	    (ret = add_values(ctx, SCMP_SYS(ioctl), 1, ioctls, ARRAY_SIZE(ioctls))) < 0 ||
	    (ret = add_values(ctx, SCMP_SYS(prctl), 0, prctls, ARRAY_SIZE(prctls))) < 0 ||
	    (ret = add_values(ctx, SCMP_SYS(shutdown), 1, shutdowns, ARRAY_SIZE(shutdowns))) < 0 ||
	    (ret = add_socket_options(ctx)) < 0)
		return ret;
	/* Threads. The flags of clone3 are out of sight: without it, clone is taken. */
	ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			       SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, thread | NEW_NAMESPACES, thread));
	/* Asking for a limit of our own, not setting one. */
	if (ret == 0)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
				       SCMP_CMP64(0, SCMP_CMP_EQ, 0, 0),
				       SCMP_CMP64(2, SCMP_CMP_EQ, 0, 0));
	/* abort(3) and raise(3). */
	if (ret == 0)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_CMP64(0, SCMP_CMP_EQ, (uint64_t)getpid(), 0));
	return ret;
}

int
syscalls_restrict(bool rings_later, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int ret;

	if (!ctx)
		return err_set(err, -ENOMEM, "seccomp: cannot make a filter");
	if ((ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) < 0 ||
	    (ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1)) < 0 ||
	    /* Our code is no stranger's: no slower branches, which old kernels would give us. */
	    (ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1)) < 0 ||
	    (ret = seccomp_attr_set(ctx, SCMP_FLTATR_API_SYSRAWRC, 1)) < 0 ||
	    (ret = add_all(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_SIZE(allowed))) < 0 ||
	    (ret = add_all(ctx, SCMP_ACT_KILL_PROCESS, fatal, ARRAY_SIZE(fatal))) < 0 ||
	    (ret = add_all(ctx, SCMP_ACT_ERRNO(EPERM), refused, ARRAY_SIZE(refused))) < 0 ||
	    (rings_later && (ret = add_all(ctx, SCMP_ACT_ALLOW, allowed_later,
					   ARRAY_SIZE(allowed_later))) < 0) ||
	    (ret = add_by_arguments(ctx)) < 0 || (ret = seccomp_load(ctx)) < 0)
		err_set(err, ret, "seccomp: %s", strerror(-ret));
	seccomp_release(ctx);
	return ret;
}
