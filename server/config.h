/* SPDX-License-Identifier: MIT */
/*
 * config.h - the command line, parsed and checked.
 *
 * Pure: nothing is opened, bound or printed here; only names of users in rules
 * are looked up. Texts point into argv or into memory that the config owns, until
 * config_release().
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "blk/backend.h"
#include "blk/dev.h"
#include "blk/err.h"
#include "server/access.h"
#include "server/export.h"
#include "server/sandbox.h"
#include "server/tls.h"

enum config_action { CONFIG_SERVE, CONFIG_HELP, CONFIG_VERSION };

/* What a TARGET says of itself. */
enum config_target_tls { TARGET_TLS_AS_ALL, TARGET_TLS_REQUIRED, TARGET_TLS_OPTIONAL };

struct config_target {
	const char *text; /* as it was given */
	const char *name; /* of the export */
	const char *description;
	const char *driver;
	struct dev_prop *props;
	unsigned nprops;
	enum config_target_tls tls;
};

struct config_listen {
	const char *unix_path; /* or NULL: TCP */
	const char *host;      /* NULL: loopback, v4 and v6 */
};

/* How soon a TCP client that is gone without a word is given up. */
struct config_tcp {
	unsigned keepalive_idle_s; /* 0: it is never asked whether it is there */
	unsigned keepalive_interval_s, keepalive_probes;
	unsigned user_timeout_s; /* TCP_USER_TIMEOUT; 0: the kernel's own */
};

struct config {
	enum config_action action;
	struct config_target *targets;
	unsigned ntargets;
	unsigned fallback; /* index of the default export's target */
	struct config_listen *listens;
	unsigned nlistens;
	bool port_given;
	bool default_listen; /* nobody named a listener: the loopback addresses */
	bool private_socket; /* --unix=-: in a directory of our own */
	uint16_t port;
	unsigned socket_mode;
	bool single;
	bool read_only;
	enum dev_cache cache;
	bool discard;
	enum dev_detect detect_zeroes;
	enum backend_policy on_error;
	struct block_sizes sizes; /* 0: as the device has it */
	bool strict;		  /* who asks for the sizes is held to the minimum */
	enum export_sparse sparse;
	unsigned workers; /* 0: one per CPU */
	unsigned poll_us; /* before a worker sleeps, at most; 0: never */
	unsigned clients_max; /* per export; 0: no limit */
	unsigned connections_max;
	unsigned handshakes_max; /* of these; at most all of them */
	unsigned handshake_s; /* 0: no limit */
	unsigned shutdown_s;
	struct config_tcp tcp;
	const char *user, *group;     /* NULL: whose the process is */
	const char *selinux_label;    /* of listening sockets, or NULL */
	enum sandbox_mode sandbox;
	enum tls_mode tls_mode;
	bool tls_mode_given, tls_purpose_given;
	struct tls_files tls;
	struct access_source access; /* --access, --allow, --deny; names of the exports */
	bool print_uri;
	unsigned verbose;
	void *memory; /* list of owned strings */
	struct access_line *access_lines; /* what access points to */
	const char **access_exports;
};

/*
 * Parses argv. CONFIG must be released whatever the result. Errors: -EINVAL
 * with option, value and what would be right; -ENOMEM. Context: main.
 */
int config_parse(struct config *config, int argc, char **argv, struct err *err);
void config_release(struct config *config);

/* Whether there are rules about who may do what, or a file of them. */
static inline bool
config_has_access(const struct config *config)
{
	return config->access.nlines > 0 || config->access.path;
}

/* The text of --help. */
extern const char config_usage[];

#endif
