/* SPDX-License-Identifier: MIT */
/* config_target.h - the TARGETs of the command line; for config.c. */
#ifndef SERVER_CONFIG_TARGET_H
#define SERVER_CONFIG_TARGET_H

#include "server/config.h"

/* What options say about the targets' names; NULL: nothing. */
struct config_names {
	const char *export_name, *description, *default_export;
};

/* One more, taken apart. -EINVAL with the reason; -ENOMEM. */
int config_target_add(struct config *config, const char *text, struct err *err);

/*
 * When all options and targets are there: holds them against each other, names
 * the exports and finds the default one. -EINVAL with the reason.
 */
int config_targets_settle(struct config *config, const struct config_names *names,
			  struct err *err);

void config_targets_release(struct config *config);

#endif
