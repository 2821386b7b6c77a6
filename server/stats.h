/* SPDX-License-Identifier: MIT */
/* stats.h - what the exports have done so far, for the log. */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include "server/export.h"

/* A line for each type of request there was, and one about each export. Context: main. */
void stats_log(const struct export_set *exports);

#endif
