/* SPDX-License-Identifier: MIT */
/*
 * listener.h - the sockets on which clients arrive.
 *
 * 1. All sockets are bound before anybody is served; accepting begins later.
 * 2. A unix socket that nobody answers on is replaced; anything else at its
 *    path is an error. Our own is removed at the end, if it is still there.
 * 3. Context: main, and coroutines on main's loop.
 */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "blk/co_lock.h"
#include "blk/loop.h"
#include "server/access.h"
#include "server/config.h"

#define LISTENER_NAME_MAX 128

struct listener_client;

struct listener {
	int fd;
	bool is_tcp;
	uint16_t port;		      /* the real one */
	char name[LISTENER_NAME_MAX]; /* address or path, for log and URI */
	const char *unlink_path;      /* to remove at the end, or NULL */
	dev_t dev;		      /* what bind() has made there, */
	ino_t ino;		      /* and nothing else is removed */
	struct listener_set *set;
	struct loop_op op;
	bool failing; /* to accept; since when for the last time */
	uint64_t failed_ns;
};

struct listener_set {
	struct listener *listeners;
	unsigned count;
	char *private_dir; /* of --unix=-, or NULL */
	char *private_path;
	struct config_tcp tcp; /* for every TCP client */
	struct loop *loop;
	bool closing;
	struct co_group group;
	struct listener_client *client;
};

/* Who takes the clients. Both may yield; a listener waits for them. */
struct listener_client {
	/* Returns when one more client may come, or when it is all over. */
	void (*admit)(struct listener_client *client);
	/* A client has come; FD is the callee's now. */
	void (*accepted)(struct listener_client *client, int fd);
};

/* Binds and listens. Errors: with the address or path and the reason. */
int listener_open(struct listener_set *set, const struct config *config, struct err *err) no_co_fn;

/* Lets listener_close() remove our unix sockets in spite of a sandbox: before it. */
int listener_allow_unlink(const struct listener_set *set, struct err *err) no_co_fn;

/* Accepts on LOOP from now. -ENOMEM. */
int listener_start(struct listener_set *set, struct loop *loop,
		   struct listener_client *client) loop_fn;

/* Stops accepting; listener_close() may follow once its coroutines have ended. */
void listener_co_stop(struct listener_set *set) co_fn;

/* Closes the sockets and removes ours. An opened set, once; a zeroed one is fine. */
void listener_close(struct listener_set *set);

/* Only removes our unix sockets: for an exit in a hurry. */
void listener_unlink(const struct listener_set *set);

/* Writes the URI of an export there, with a newline. */
void listener_print_uri(const struct listener *listener, const char *export_name, bool tls,
			FILE *out);

/* Whether some listener takes clients from other hosts. Context: main. */
bool listener_beyond_host(const struct listener_set *set);

/* Describes the client behind FD for the log; safe to print. */
void listener_peer(int fd, char *text, size_t size);

/*
 * What the kernel knows of the client behind FD: nothing, if it is no socket. PEER is
 * zeroed before. -ENOMEM, or another error: who it is cannot be told.
 */
int listener_identify(int fd, struct access_peer *peer);

#endif
