/* SPDX-License-Identifier: MIT */
/*
 * hint.h - what somebody may have meant by a target that cannot be opened.
 *
 * The driver library knows what failed, not how it was written on our command
 * line; what to write instead is said here. Context: main, before anything runs.
 */
#ifndef SERVER_HINT_H
#define SERVER_HINT_H

#include "server/config.h"

/* ERR is dev_open()'s for T; appends to its text "; what to do", or nothing. */
void hint_target(const struct config_target *t, struct err *err) no_co_fn;

#endif
