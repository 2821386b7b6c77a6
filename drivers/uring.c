/* SPDX-License-Identifier: MIT */
/*
 * uring.c - making, entering and closing an io_uring by its system calls.
 *
 * Making: the flags we would like are tried first, and those the kernel does
 * not know are given up one group after the other, from the newest (single
 * issuer, 6.1) to none (5.11). The index array of the submission ring is
 * filled once, entry i at place i, so that submitting only moves the tail.
 *
 * Entering: one io_uring_enter with IORING_ENTER_EXT_ARG. Its result is the
 * number of entries submitted if there were any; the outcome of the wait is
 * told only when nothing was to be submitted. Callers look at the completion
 * ring and at their clock, not at the result, to know whether to go on.
 *
 * A ring is made disabled, which lets uring_restrict() say what it is for. The
 * first thread that enters enables it; with a single issuer it is the one from then
 * on. Closing is free to all.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver.h"
#include "uring.h"

/* Bytes of a signal set as the kernel counts them. */
#define KERNEL_SIGSET_SIZE (_NSIG / 8)

#define FEATURES_NEEDED (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG)

static int
sys_setup(unsigned entries, struct io_uring_params *p)
{
	return (int)syscall(__NR_io_uring_setup, entries, p);
}

static int
sys_enter(int fd, unsigned to_submit, unsigned min_complete, unsigned flags,
	  const struct io_uring_getevents_arg *arg)
{
	return (int)syscall(__NR_io_uring_enter, fd, to_submit, min_complete, flags, arg,
			    arg ? sizeof(*arg) : 0);
}

int
uring_register(struct uring *r, unsigned opcode, const void *arg, unsigned len)
{
	int ret = (int)syscall(__NR_io_uring_register, r->fd, opcode, arg, len);

	return ret < 0 ? -errno : ret;
}

/* The message for a ring that could not be made. */
static int
setup_failed(int err, const struct uring_options *o)
{
	switch (err) {
	case EPERM:
		return error_os(err, ": io_uring is not permitted here; look at sysctl "
				     "kernel.io_uring_disabled and at seccomp filters");
	case ENOSYS:
		return error_os(err, ": the kernel has no io_uring, or a seccomp filter hides it");
	case ENOMEM:
		return error_os(err, ": no memory for a ring of %u entries; it may count against "
				     "the limit on locked memory (ulimit -l)", o->entries);
	default:
		return error_os(err, ": cannot make an io_uring of %u entries", o->entries);
	}
}

/* Tries the flags from the best set down; the fd, or -1 with errno. */
static int
setup(struct io_uring_params *p, const struct uring_options *o)
{
	const unsigned base = IORING_SETUP_R_DISABLED | (o->iopoll ? IORING_SETUP_IOPOLL : 0);
	const unsigned coop = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
			      IORING_SETUP_TASKRUN_FLAG;
	const unsigned single = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
				IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
	const unsigned tries[] = { single, coop, IORING_SETUP_SUBMIT_ALL, 0 };
	int fd = -1;

	for (size_t i = o->single_issuer ? 0 : 1; i < ARRAY_SIZE(tries); i++) {
		memset(p, 0, sizeof(*p));
		p->flags = base | tries[i];
		fd = sys_setup(o->entries, p);
		if (fd >= 0 || errno != EINVAL)
			break;
	}
	return fd;
}

static int
map_rings(struct uring *r, const struct io_uring_params *p)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
	size_t sq_len = p->sq_off.array + p->sq_entries * sizeof(unsigned);
	size_t cq_len = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	char *rings;
	unsigned *array;

	r->rings_len = MAX(sq_len, cq_len);
	rings = mmap(NULL, r->rings_len, prot, flags, r->fd, IORING_OFF_SQ_RING);
	if (rings == MAP_FAILED)
		return -errno;
	r->rings_map = rings;
	r->sqes_len = p->sq_entries * sizeof(struct io_uring_sqe);
	r->sqes = mmap(NULL, r->sqes_len, prot, flags, r->fd, IORING_OFF_SQES);
	if (r->sqes == MAP_FAILED) {
		r->sqes = NULL;
		return -errno;
	}

	r->ksq_tail = (unsigned *)(void *)(rings + p->sq_off.tail);
	r->ksq_flags = (unsigned *)(void *)(rings + p->sq_off.flags);
	r->sq_entries = p->sq_entries;
	r->sq_tail = *r->ksq_tail;
	array = (unsigned *)(void *)(rings + p->sq_off.array);
	for (unsigned i = 0; i < p->sq_entries; i++)
		array[i] = i;

	r->kcq_head = (unsigned *)(void *)(rings + p->cq_off.head);
	r->kcq_tail = (unsigned *)(void *)(rings + p->cq_off.tail);
	r->kcq_flags = (unsigned *)(void *)(rings + p->cq_off.flags);
	r->cqes = (struct io_uring_cqe *)(void *)(rings + p->cq_off.cqes);
	r->cq_entries = p->cq_entries;
	r->cq_head = *r->kcq_head;
	return 0;
}

int
uring_init(struct uring *r, const struct uring_options *o)
{
	struct io_uring_params p;
	int ret;

	memset(r, 0, sizeof(*r));
	r->fd = setup(&p, o);
	if (r->fd < 0)
		return setup_failed(errno, o);
	r->features = p.features;
	r->setup_flags = p.flags;

	if ((p.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
		ret = error_os(ENOSYS, ": this kernel's io_uring is too old, Linux 5.11 is needed");
		goto release;
	}
	ret = map_rings(r, &p);
	if (ret) {
		error_os(-ret, ": cannot map an io_uring of %u entries", o->entries);
		goto release;
	}
	return 0;

release:
	uring_release(r);
	return ret;
}

void
uring_release(struct uring *r)
{
	if (r->sqes)
		munmap(r->sqes, r->sqes_len);
	if (r->rings_map)
		munmap(r->rings_map, r->rings_len);
	if (r->features)
		close(r->fd);
	memset(r, 0, sizeof(*r));
}

int
uring_restrict(struct uring *r, const uint8_t *operations, unsigned n, unsigned flags,
	       unsigned required)
{
	static const uint8_t registrations[] = {
		IORING_REGISTER_BUFFERS_UPDATE,
		IORING_UNREGISTER_BUFFERS,
		IORING_UNREGISTER_FILES,
	};
	struct io_uring_restriction rs[URING_OPERATIONS_MAX + ARRAY_SIZE(registrations) + 2];
	unsigned count = 0;

	invariant(!r->enabled && n <= URING_OPERATIONS_MAX);
	memset(rs, 0, sizeof(rs));
	for (unsigned i = 0; i < n; i++, count++) {
		rs[count].opcode = IORING_RESTRICTION_SQE_OP;
		rs[count].sqe_op = operations[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(registrations); i++, count++) {
		rs[count].opcode = IORING_RESTRICTION_REGISTER_OP;
		rs[count].register_op = registrations[i];
	}
	rs[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rs[count++].sqe_flags = (uint8_t)(flags | required);
	rs[count].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rs[count++].sqe_flags = (uint8_t)required;
	return uring_register(r, IORING_REGISTER_RESTRICTIONS, rs, count);
}

static int
enable(struct uring *r)
{
	int ret = uring_register(r, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

	if (ret < 0)
		return ret;
	r->enabled = true;
	return 0;
}

int
uring_enter(struct uring *r, unsigned want, const struct timespec *timeout,
	    const sigset_t *sigmask)
{
	struct __kernel_timespec ts;
	struct io_uring_getevents_arg arg, *argp = NULL;
	unsigned flags = 0;
	int ret;

	if (unlikely(!r->enabled)) {
		ret = enable(r);
		if (ret < 0)
			return ret;
	}
	/* A deferring ring runs completions only for who asks for events. */
	if (want || !r->to_submit ||
	    (r->setup_flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_IOPOLL)))
		flags |= IORING_ENTER_GETEVENTS;
	if (timeout || sigmask) {
		memset(&arg, 0, sizeof(arg));
		if (timeout) {
			ts.tv_sec = timeout->tv_sec;
			ts.tv_nsec = timeout->tv_nsec;
			arg.ts = (uint64_t)(uintptr_t)&ts;
		}
		if (sigmask) {
			arg.sigmask = (uint64_t)(uintptr_t)sigmask;
			arg.sigmask_sz = KERNEL_SIGSET_SIZE;
		}
		argp = &arg;
		flags |= IORING_ENTER_EXT_ARG;
	}

	__atomic_store_n(r->ksq_tail, r->sq_tail, __ATOMIC_RELEASE);
	ret = sys_enter(r->fd, r->to_submit, want, flags, argp);
	if (ret < 0)
		return -errno;
	r->to_submit -= MIN((unsigned)ret, r->to_submit);
	return ret;
}
