/* SPDX-License-Identifier: MIT */
/* zero.h - zeroes in memory; writing and discarding them is in io.h. */
#ifndef BLK_ZERO_H
#define BLK_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

/* Whether all of the memory is zero. Stops at the first byte that is not. */
bool zero_iov(const struct iovec *iov, int iovcnt);

#endif
