/* SPDX-License-Identifier: MIT */
/*
 * helper.h - the commands that a program beside the daemon does.
 *
 * `blkgate list` and `blkgate probe` are clients. They stand on libnbd, which
 * brings more code than the whole daemon, so they are blkgate-client.
 * Context: main, before anything else.
 */
#ifndef SERVER_HELPER_H
#define SERVER_HELPER_H

#include <stdbool.h>

/* Whether the first word of the command line is one of them. */
bool helper_wanted(int argc, char **argv);

/* Becomes that program; returns the exit status when it cannot, and says why. */
int helper_exec(char **argv);

#endif
