/* SPDX-License-Identifier: MIT */
/*
 * server_sandbox.c - what is left to a process in the sandbox: each thing that an
 * intruder would try is tried, by a child of its own, and refused or deadly.
 *
 * The children enter by sandbox_enter(), as the server does. What a sanitizer is in
 * has no sandbox, so there only that is checked.
 *
 *
 */
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "blk/loop.h"
#include "server/landlock.h"
#include "tests/lib/unit.h"

#ifndef BLKGATE_INSTRUMENTED

/* What came of an attempt: 0, an errno, DEADLY: SIGSYS, or ABORTED: SIGABRT. */
#define DEADLY 1000
#define ABORTED 1001

static char inside[] = "/tmp/bgt-inside.XXXXXX", outside[] = "/tmp/bgt-outside.XXXXXX";
static char in_file[64], out_file[64];
static int sock, sock_connected[2];
static int listening, listening_too;
static struct sockaddr_in address_too; /* of listening_too */
static void *page;

/* A listening TCP socket on a port of its own; *ADDRESS is where. */
static int
listen_tcp(struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

/* Two directories with a file each, and descriptors from before. */
static void
prepare(void)
{
	int fd;

	ck_assert(mkdtemp(inside) && mkdtemp(outside));
	snprintf(in_file, sizeof(in_file), "%s/file", inside);
	snprintf(out_file, sizeof(out_file), "%s/file", outside);
	fd = open(in_file, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	fd = open(out_file, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_ge(sock, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sock_connected), 0);
	listening = listen_tcp(&address_too);
	listening_too = listen_tcp(&address_too);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert(page != MAP_FAILED);
}

static void
clear(void)
{
	close(listening);
	close(listening_too);
	unlink(in_file);
	unlink(out_file);
	rmdir(inside);
	rmdir(outside);
}

static void
enter(bool rings_later)
{
	const struct sandbox_options options = { .mode = SANDBOX_ON, .rings_later = rings_later };
	const struct identity same = { 0 };
	struct err err;

	if (sandbox_allow_read(in_file, &err) < 0 ||
	    sandbox_allow_remove(in_file, false, &err) < 0 ||
	    sandbox_enter(&options, &same, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		_exit(99);
	}
}

/* The outcome of FN in a sandbox. */
static int
outcome(int (*fn)(void), bool rings_later)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		enter(rings_later);
		errno = 0;
		_exit(fn() < 0 ? errno : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		if (WTERMSIG(status) == SIGABRT)
			return ABORTED;
		ck_assert_int_eq(WTERMSIG(status), SIGSYS);
		return DEADLY;
	}
	ck_assert_int_ne(WEXITSTATUS(status), 99);
	return WEXITSTATUS(status);
}

/* --- Attempts --------------------------------------------------------------- */

#define ATTEMPT(name, call) \
	static int \
	try_##name(void) \
	{ \
		return (int)(call); \
	}

ATTEMPT(execve, execl("/bin/true", "true", (char *)NULL))
ATTEMPT(execveat, syscall(__NR_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0))
ATTEMPT(fork, syscall(__NR_clone, SIGCHLD, 0, 0, 0, 0))
ATTEMPT(clone3, syscall(__NR_clone3, NULL, 0))
ATTEMPT(namespace, syscall(__NR_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWNET, 0, 0,
			   0, 0))
ATTEMPT(unshare, unshare(CLONE_NEWUSER))
ATTEMPT(setns, setns(0, 0))
ATTEMPT(ptrace, ptrace(PTRACE_SEIZE, getpid(), 0, 0))
ATTEMPT(vm_readv, syscall(__NR_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0))
ATTEMPT(vm_writev, syscall(__NR_process_vm_writev, getpid(), NULL, 0, NULL, 0, 0))
ATTEMPT(mount, mount("none", inside, "tmpfs", 0, NULL))
ATTEMPT(chroot, chroot(inside))
ATTEMPT(bpf, syscall(__NR_bpf, 0, NULL, 0))
ATTEMPT(userfaultfd, syscall(__NR_userfaultfd, 0))
ATTEMPT(keyctl, syscall(__NR_keyctl, 0, 0, 0))
ATTEMPT(perf, syscall(__NR_perf_event_open, NULL, 0, 0, -1, 0))
ATTEMPT(by_handle, syscall(__NR_open_by_handle_at, 0, NULL, 0))
ATTEMPT(module, syscall(__NR_finit_module, 0, "", 0))
ATTEMPT(personality, syscall(__NR_personality, 0xffffffff))

ATTEMPT(read_in, open(in_file, O_RDONLY))
ATTEMPT(read_out, open(out_file, O_RDONLY))
ATTEMPT(read_passwd, open("/etc/passwd", O_RDONLY))
ATTEMPT(read_proc, open("/proc/self/maps", O_RDONLY))
ATTEMPT(write_in, open(in_file, O_WRONLY))
ATTEMPT(write_out, open(out_file, O_RDWR))
ATTEMPT(create_in, open(inside, O_TMPFILE | O_RDWR, 0600))
ATTEMPT(truncate_in, open(in_file, O_RDONLY | O_TRUNC))
ATTEMPT(mkdir, mkdir("/tmp/bgt-never", 0700))
ATTEMPT(link, link(in_file, "/tmp/bgt-never"))
ATTEMPT(rename, rename(out_file, in_file))
ATTEMPT(chmod, chmod(in_file, 0777))
ATTEMPT(unlink_in, unlink(in_file))
ATTEMPT(unlink_out, unlink(out_file))
ATTEMPT(rmdir_out, rmdir(outside))

ATTEMPT(socket_raw, socket(AF_INET, SOCK_RAW, 1))
ATTEMPT(socket_packet, socket(AF_PACKET, SOCK_RAW, 0))
ATTEMPT(socket_unix, socket(AF_UNIX, SOCK_STREAM, 0))
ATTEMPT(socket_netlink, socket(AF_NETLINK, SOCK_RAW, 0))
ATTEMPT(socket_alg, socket(38, SOCK_SEQPACKET, 0))
ATTEMPT(connect, connect(sock, (const struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET },
			 sizeof(struct sockaddr_in)))
ATTEMPT(bind, bind(sock, (const struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET },
		   sizeof(struct sockaddr_in)))
ATTEMPT(send, send(sock_connected[0], "x", 1, 0))
ATTEMPT(accept, accept4(listening, NULL, NULL, SOCK_NONBLOCK))
/* A listening socket that is shut down is a fresh one, which needs no connect(2). */
ATTEMPT(shutdown_all, shutdown(listening, SHUT_RDWR))
ATTEMPT(call_out, (shutdown(listening, SHUT_RDWR),
		   sendto(listening, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL,
			  (const struct sockaddr *)&address_too, sizeof(address_too))))
ATTEMPT(shutdown_write, shutdown(sock_connected[0], SHUT_WR))
ATTEMPT(filter_socket, setsockopt(sock, SOL_SOCKET, SO_ATTACH_FILTER, &page, sizeof(page)))
ATTEMPT(join_group, setsockopt(sock, IPPROTO_IP, IP_ADD_MEMBERSHIP, &page, sizeof(page)))
ATTEMPT(other_level, setsockopt(sock, IPPROTO_IPV6, TCP_NODELAY, &(int){ 1 }, sizeof(int)))
ATTEMPT(no_delay, setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)))
ATTEMPT(keep_alive, setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int)))

ATTEMPT(map_code, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
				MAP_FAILED ?
			-1 :
			0)
ATTEMPT(make_code, mprotect(page, 4096, PROT_READ | PROT_EXEC))
ATTEMPT(guard, mprotect(page, 4096, PROT_NONE))
ATTEMPT(memfd, memfd_create("x", 0))
ATTEMPT(eventfd, eventfd(0, 0))

ATTEMPT(kill_parent, kill(getppid(), 0))
ATTEMPT(setuid, setuid(0))
ATTEMPT(core_limit, setrlimit(RLIMIT_CORE, &(struct rlimit){ 1, 1 }))
ATTEMPT(dumpable, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
ATTEMPT(seccomp_get, prctl(PR_GET_SECCOMP, 0, 0, 0, 0))
ATTEMPT(push_input, ioctl(0, TIOCSTI, "x"))
ATTEMPT(fcntl_owner, fcntl(sock, F_SETOWN, getppid()))
ATTEMPT(unknown_call, syscall(9999))

/* A broken invariant ends in this: with its own signal, not for want of a call. */
static int
try_abort(void)
{
	abort();
}

static int
try_ring(void)
{
	struct io_uring_params p = { 0 };

	return (int)syscall(__NR_io_uring_setup, 4, &p);
}

#if defined(__x86_64__)
/* getpid(2) of the 32-bit kind, and of x32. */
static int
try_call_32(void)
{
	int ret;

	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return ret;
}
ATTEMPT(call_x32, syscall(0x40000000 | __NR_getpid))
#endif

static void *
thread_main(void *arg)
{
	return arg;
}

static int
try_thread(void)
{
	pthread_t thread;
	void *got;

	errno = pthread_create(&thread, NULL, thread_main, page);
	if (errno || pthread_join(thread, &got) != 0)
		return -1;
	return got == page ? 0 : -1;
}

static const struct attempt {
	const char *name;
	int (*fn)(void);
	int want;
} attempts[] = {
#define IS(want, name) { #name, try_##name, want }
	/* Deadly. */
	IS(DEADLY, execve), IS(DEADLY, execveat), IS(DEADLY, unshare), IS(DEADLY, setns),
	IS(DEADLY, ptrace), IS(DEADLY, vm_readv), IS(DEADLY, vm_writev), IS(DEADLY, mount),
	IS(DEADLY, chroot), IS(DEADLY, bpf), IS(DEADLY, userfaultfd), IS(DEADLY, keyctl),
	IS(ABORTED, abort), IS(DEADLY, perf), IS(DEADLY, by_handle), IS(DEADLY, module), IS(DEADLY, personality),
#if defined(__x86_64__)
	IS(DEADLY, call_32), IS(DEADLY, call_x32),
#endif
	/* Not there. */
	IS(ENOSYS, fork), IS(ENOSYS, clone3), IS(ENOSYS, namespace), IS(ENOSYS, rename),
	IS(ENOSYS, mkdir), IS(ENOSYS, link), IS(ENOSYS, chmod), IS(ENOSYS, memfd),
	IS(ENOSYS, eventfd), IS(ENOSYS, core_limit), IS(ENOSYS, dumpable), IS(ENOSYS, seccomp_get),
	IS(ENOSYS, push_input), IS(ENOSYS, fcntl_owner), IS(ENOSYS, unknown_call), IS(ENOSYS, ring),
	IS(EISCONN, call_out), IS(ENOSYS, shutdown_all), IS(ENOSYS, accept),
	IS(ENOSYS, filter_socket), IS(ENOSYS, join_group), IS(ENOSYS, other_level),
	/* Refused. */
	IS(EACCES, read_out), IS(EACCES, read_passwd), IS(EACCES, read_proc), IS(EPERM, write_in),
	IS(EPERM, write_out), IS(EPERM, create_in), IS(EPERM, truncate_in), IS(EACCES, unlink_out),
	IS(EACCES, rmdir_out), IS(EPERM, socket_raw), IS(EPERM, socket_packet),
	IS(EPERM, socket_unix), IS(EPERM, socket_netlink), IS(EPERM, socket_alg),
	IS(EPERM, connect), IS(EPERM, bind), IS(EPERM, map_code), IS(EPERM, make_code),
	IS(EPERM, kill_parent), IS(EPERM, setuid),
	/* And what has to go on working. */
	IS(0, read_in), IS(0, send), IS(0, guard), IS(0, thread), IS(0, shutdown_write),
	IS(0, no_delay), IS(0, keep_alive), IS(0, unlink_in),
#undef IS
};

START_TEST(attempts_end_as_they_should)
{
	bool good = true;

	prepare();
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		int got = outcome(attempts[i].fn, false);

		if (got != attempts[i].want) {
			good = false;
			printf("%s: %d instead of %d\n", attempts[i].name, got, attempts[i].want);
		}
	}
	clear();
	ck_assert(good);
}
END_TEST

/* Queues that are made later need rings, and no more than that. */
START_TEST(rings_later_allows_rings)
{
	prepare();
	ck_assert_int_eq(outcome(try_ring, true), 0);
	ck_assert_int_eq(outcome(try_eventfd, true), 0);
	ck_assert_int_eq(outcome(try_memfd, true), 0);
	ck_assert_int_eq(outcome(try_execve, true), DEADLY);
	ck_assert_int_eq(outcome(try_socket_unix, true), EPERM);
	ck_assert_int_eq(outcome(try_write_out, true), EPERM);
	clear();
}
END_TEST

/* --- Files, by Landlock alone ------------------------------------------------ */

/* A ring's operations pass by seccomp, but not by this. */
START_TEST(landlock_holds_alone)
{
	const struct sockaddr_in nowhere = { .sin_family = AF_INET, .sin_port = 1 };
	struct err err;
	pid_t pid;
	int status;

	prepare();
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct io_uring ring;
		struct io_uring_cqe *cqe;
		int fd = open(out_file, O_RDWR);
		int version = landlock_version();

		if (fd < 0 || io_uring_queue_init(4, &ring, 0) < 0 ||
		    landlock_allow(inside, LANDLOCK_READ, &err) < 0 ||
		    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || landlock_enter(&err) < 0)
			_exit(1);
		io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, out_file, O_RDONLY, 0);
		if (io_uring_submit_and_wait(&ring, 1) != 1 ||
		    io_uring_peek_cqe(&ring, &cqe) != 0 || cqe->res != -EACCES)
			_exit(2);
		if (open(out_file, O_RDONLY) >= 0 || errno != EACCES)
			_exit(3);
		if (open(in_file, O_WRONLY) >= 0 || errno != EACCES)
			_exit(4);
		if (mkdir("/tmp/bgt-never", 0700) == 0 || errno != EACCES)
			_exit(5);
		if (version >= 4 &&
		    (connect(sock, (const struct sockaddr *)&nowhere, sizeof(nowhere)) == 0 ||
		     errno != EACCES))
			_exit(6);
		if (version >= 6 && (kill(getppid(), 0) == 0 || errno != EPERM))
			_exit(7);
		if (version >= 3 && (truncate(out_file, 0) == 0 || errno != EACCES))
			_exit(9);
		if (open(inside, O_RDONLY | O_DIRECTORY) >= 0 || errno != EACCES)
			_exit(10);
		if (open(in_file, O_RDONLY) < 0 || write(fd, "x", 1) != 1 || ftruncate(fd, 5) < 0)
			_exit(8);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	clear();
	ck_assert_int_eq(status, 0);
}
END_TEST

/* --- Rings ------------------------------------------------------------------- */

/* The result of an operation that the loop has no use for. */
static int
ring_result(struct io_uring *ring, unsigned opcode)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int ret;

	io_uring_prep_rw((int)opcode, sqe, -1, NULL, 0, 0);
	ck_assert_int_eq(io_uring_submit_and_wait(ring, 1), 1);
	ck_assert_int_eq(io_uring_peek_cqe(ring, &cqe), 0);
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

START_TEST(ring_of_a_loop_takes_its_own_operations)
{
	static const unsigned foreign[] = {
		IORING_OP_NOP,	      IORING_OP_OPENAT, IORING_OP_OPENAT2,	 IORING_OP_CONNECT,
		IORING_OP_UNLINKAT,   IORING_OP_SPLICE, IORING_OP_RENAMEAT,	 IORING_OP_STATX,
		IORING_OP_FALLOCATE,  IORING_OP_WRITE,	IORING_OP_PROVIDE_BUFFERS,
	};
	struct io_uring *ring;
	struct loop *loop;
	struct err err;

	loop_assert();
	ck_assert_int_eq(loop_new(&loop, &err), 0);
	ck_assert_int_eq(loop_attach(loop, &err), 0);
	loop_turn(loop, false); /* what attaching has queued */
	ring = (struct io_uring *)loop; /* it is the first in struct loop */
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		ck_assert_int_eq(ring_result(ring, foreign[i]), -EACCES);
	ck_assert_int_eq(ring_result(ring, IORING_OP_RECV), -EBADF);
	ck_assert_int_lt(io_uring_register_probe(ring, NULL, 0), 0);
	_exit(0); /* a loop that is taken apart would wait for its own watch */
}
END_TEST

#endif

/* --- Modes ------------------------------------------------------------------- */

START_TEST(off_leaves_all_but_new_privileges)
{
	const struct sandbox_options options = { .mode = SANDBOX_OFF };
	const struct identity same = { 0 };
	struct err err;

	ck_assert_int_eq(sandbox_enter(&options, &same, &err), 0);
	ck_assert_int_eq(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	ck_assert_int_eq(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
	ck_assert_int_ge(open("/etc/passwd", O_RDONLY), 0);
}
END_TEST

START_TEST(secrets_end_core_dumps)
{
	struct rlimit limit;

	sandbox_secrets();
	ck_assert_int_eq(getrlimit(RLIMIT_CORE, &limit), 0);
	ck_assert_uint_eq(limit.rlim_max, 0);
#ifndef BLKGATE_INSTRUMENTED
	ck_assert_int_eq(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0);
#endif
}
END_TEST

START_TEST(places_that_are_not_there)
{
	struct err err;

	ck_assert_int_eq(sandbox_allow_read("/nonexistent/file", &err), -ENOENT);
	ck_assert(strstr(err.text, "/nonexistent/file"));
	ck_assert_int_eq(sandbox_allow_remove("/nonexistent/file", false, &err), -ENOENT);
	landlock_release();
}
END_TEST

#ifdef BLKGATE_INSTRUMENTED
START_TEST(instrumented_is_not_called_a_sandbox)
{
	const struct sandbox_options on = { .mode = SANDBOX_ON }, as_it_is = { 0 };
	const struct identity same = { 0 };
	struct err err;

	ck_assert_int_eq(sandbox_enter(&on, &same, &err), -ENOTSUP);
	ck_assert(strstr(err.text, "built"));
	ck_assert_int_eq(sandbox_enter(&as_it_is, &same, &err), 0);
	ck_assert_int_eq(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
}
END_TEST

UNIT_MAIN(instrumented_is_not_called_a_sandbox, off_leaves_all_but_new_privileges,
	  secrets_end_core_dumps, places_that_are_not_there)
#else
UNIT_MAIN(attempts_end_as_they_should, rings_later_allows_rings, landlock_holds_alone,
	  ring_of_a_loop_takes_its_own_operations, off_leaves_all_but_new_privileges,
	  secrets_end_core_dumps, places_that_are_not_there)
#endif
