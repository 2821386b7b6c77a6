/* SPDX-License-Identifier: MIT */
/*
 * client.h - `blkgate list` and `blkgate probe`: what they share.
 *
 * 1. stdout gets the answer and nothing else, stderr one line when there is
 *    none. JSON is written when all is known, so it is whole or absent.
 * 2. A server can make the program wait for the time limit of each question,
 *    and grow to CLIENT_BYTES_MAX.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <stdbool.h>

#include "server/client/session.h"

/* Texts of one server that are kept, with what keeps them. */
#define CLIENT_BYTES_MAX ((size_t)64 << 20)

enum client_exit { CLIENT_OK, CLIENT_FAILED, CLIENT_USAGE };

struct client {
	bool json;
	struct session session;
	size_t bytes; /* of texts kept */
};

/* The commands, with the URI in client->session. */
enum client_exit list_run(struct client *client);
enum client_exit probe_run(struct client *client);

/* Connects; else says so on stderr. */
enum client_exit client_open(struct client *client);
/* A copy of TEXT. Beyond CLIENT_BYTES_MAX the program says so and ends. */
char *client_keep(struct client *client, const char *text);
/* Accounts for BYTES more of what keeps texts, in the same way. */
void client_grow(struct client *client, size_t bytes);
/* What has been written to stdout leaves it; else says so on stderr. */
enum client_exit client_flush(const struct client *client);

/* Beginning of the JSON object of both commands, without its brace. */
void client_json_protocol(const struct session_protocol *p);
/*
 * The members of an export's JSON object, without its braces. DESCRIPTION may be
 * NULL, and FACTS: the server did not tell.
 */
void client_json_export(const char *uri, const char *name, const char *description,
			const struct session_facts *facts);

#endif
