/* SPDX-License-Identifier: MIT */
/* check.h - what an input must not be able to do. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the run with WHAT unless OK. */
static inline void
check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

#endif
