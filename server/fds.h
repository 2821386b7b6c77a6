/* SPDX-License-Identifier: MIT */
/*
 * fds.h - the descriptors of the process: the first three, how many there may
 * be, and whether these are enough. Context: main, before anything is served.
 */
#ifndef SERVER_FDS_H
#define SERVER_FDS_H

#include <stdint.h>

#include "base/annotate.h"
#include "server/export.h"

/* No descriptor of ours may become a standard stream of a careless caller. -errno. */
int fds_reserve_stdio(void) no_co_fn;

/* As many as the hard limit allows: the soft one is for those who use select(2). */
void fds_raise(void) no_co_fn;

/*
 * Warns when the limit may be too low for all exports in use on all WORKERS and
 * as many connections as CONNS. Running out is for later, if ever; but now
 * somebody reads the log.
 */
void fds_check(const struct export_set *exports, unsigned workers, unsigned listeners,
	       unsigned conns) no_co_fn;

#endif
