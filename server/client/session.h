/* SPDX-License-Identifier: MIT */
/*
 * session.h - a conversation with an NBD server, one question at a time.
 *
 * 1. The only file that knows libnbd. What it and the server say is copied; no
 *    pointer of theirs outlives a call.
 * 2. A question has a time limit, from when it is asked until it is answered as
 *    a whole, name resolution and TLS included. Beyond it the process says so
 *    and exits with status 1: nothing else could end the library's calls. So what
 *    is known should have left stdout before.
 * 3. A refusal leaves the session open for the next question. After an error it
 *    is closed, and can be opened again.
 * 4. Zeroed it is closed; session_open() needs uri and timeout_s.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum session_answer {
	SESSION_YES,
	SESSION_REFUSED, /* the server said no */
	SESSION_LOST,	 /* no connection, or it ended, or it is not NBD */
	SESSION_BAD_URI, /* of session_open(): nothing has been tried */
};

struct session {
	const char *uri;
	unsigned timeout_s;
	struct nbd_handle *nbd; /* NULL: closed */
	const char *question;	/* the last one, for session_complain() */
	char *name;		/* of the export it was about, or NULL */
	char *why;		/* no answer, or this one; and libnbd's errno */
	int code;
	char *words; /* the server's own about its refusal, or NULL */
};

/* What a server told about itself. */
struct session_protocol {
	const char *name;
	bool tls, structured_replies;
	int extended_headers; /* -1: this libnbd cannot tell */
};

/* A transmission flag. */
struct session_flag {
	const char *name, *meaning;
	int (*get)(struct nbd_handle *nbd); /* NULL: this libnbd cannot tell */
};

#define SESSION_FLAGS 11
#define SESSION_READ_ONLY 0
extern const struct session_flag session_flags[SESSION_FLAGS];

/* What it told about an export. Zeroed at first; to be released. */
struct session_facts {
	char *name;				       /* that was asked for */
	char *canonical_name, *description;	       /* NULL: not told */
	int64_t size_bytes;			       /* -1: 2^63 or more */
	int64_t block_min, block_preferred, block_max; /* 0: not told */
	signed char flags[SESSION_FLAGS];	       /* 0, 1, or -1: unknown */
};

/* Connects, and negotiates all that needs no export. */
enum session_answer session_open(struct session *s);
/* Takes leave without waiting for anything; nothing if it is closed. */
void session_close(struct session *s);
void session_release(struct session *s);

/* Whether a question can be asked: it is open, and no export has been entered. */
bool session_can_ask(const struct session *s);

void session_protocol(const struct session *s, struct session_protocol *p);

/*
 * The exports that the server lists: FN is called for each, with texts that are
 * gone afterwards. It must not use the session. An error makes all of it void.
 */
enum session_answer session_list(struct session *s,
				 int (*fn)(void *arg, const char *name, const char *description),
				 void *arg);

/*
 * What the server tells about the export NAME, or with NULL about that of the
 * URI. A server that does not know INFO is asked by entering the export.
 */
enum session_answer session_info(struct session *s, const char *name, struct session_facts *facts);
void session_facts_release(struct session_facts *facts);
/* How much memory their texts take. */
size_t session_facts_bytes(const struct session_facts *facts);

/* The metadata contexts of the export of the last session_info(); as session_list(). */
enum session_answer session_contexts(struct session *s, int (*fn)(void *arg, const char *name),
				     void *arg);

/* One line on stderr: which server was asked what, and why there is no answer. */
void session_complain(const struct session *s, const char *why);

#endif
