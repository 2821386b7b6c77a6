/* SPDX-License-Identifier: MIT */
/* fds.c - the descriptors of the process; see fds.h. */
#include "fds.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/log.h"

/*
 * The process: standard streams, main's ring and eventfd, signals. A worker:
 * ring, eventfd, payload memory. A queue: ring, eventfd, open file; a RAM disk's
 * has only the second of these. If its device has blocks: memory for padding and
 * for bouncing. A device that ends inside a block: its tail.
 */
#define FDS_PROCESS 6u
#define FDS_WORKER 3u
#define FDS_QUEUE 3u
#define FDS_QUEUE_BLOCKS 2u
#define FDS_TAIL 1u

int
fds_reserve_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

void
fds_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void
fds_check(const struct export_set *exports, unsigned workers, unsigned listeners, unsigned conns)
{
	uint64_t needed = (uint64_t)FDS_PROCESS + listeners + FDS_WORKER * workers + conns;
	struct rlimit limit;

	for (unsigned i = 0; i < exports->count; i++) {
		const struct dev *dev = exports->exports[i].dev;
		bool blocks = dev->limits.request_alignment > 1 || dev->limits.mem_alignment > 1 ||
			      dev->needs_regions;

		needed += workers * (FDS_QUEUE + (blocks ? FDS_QUEUE_BLOCKS : 0));
		needed += dev->tail_start != UINT64_MAX ? FDS_TAIL : 0;
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed)
		log_warning("the limit of open files (ulimit -Hn, LimitNOFILE=) may be too low for "
			    "all exports and connections limit=%llu needed=%llu",
			    (unsigned long long)limit.rlim_cur, (unsigned long long)needed);
}
