/* SPDX-License-Identifier: MIT */
/*
 * session.h - one connection under a fuzzer: the server's side as it is, the
 * client's as a script says.
 *
 * 1. There is one worker, whose loop is stepped here, and a few exports on one
 *    simulated device (simdev.h). Connections come one after another; who is told
 *    to stop makes place for a new server. The same script and the same session_settings give the same
 *    run: chance comes from the seed, and time stands still while something moves.
 * 2. A script is the bytes that the client sends, and what it does between
 *    them. It says what is sent; when, and in which pieces, the seed does.
 * 3. A struct watcher is told of every byte in both directions, in order, and
 *    judges them. What is wrong ends the process: fail().
 * 4. When a session is over all has to be as before: no payload memory held,
 *    nothing at the device, no client counted.
 *
 * Threads: one.
 */
#ifndef FUZZ_SESSION_H
#define FUZZ_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/annotate.h"
#include "server/export.h"
#include "tests/lib/simdev.h"

/* --- Exports ---------------------------------------------------------------- */

enum {
	EXPORT_DISK,   /* the fallback */
	EXPORT_FROZEN, /* read-only */
	EXPORT_LONG,   /* name and description as long as they may be */
	EXPORT_LONGER, /* and so are these */
	EXPORT_TAKEN,  /* has all the clients that it may have */
	EXPORTS,
};

/*
 * The device: large, its last bytes beyond the last block. Contents are kept
 * from DISK_KEPT on; below, all is zero, whatever is written.
 */
#define DISK_BLOCK 512u
#define DISK_EVEN (UINT64_C(16) << 30)
#define DISK_ODD 313u
#define DISK_BYTES (DISK_EVEN + DISK_ODD)
#define DISK_KEPT (DISK_EVEN - (256u << 10))

extern struct export session_exports[EXPORTS];
extern const struct export_set session_set;

/* --- The client ------------------------------------------------------------- */

enum act {
	ACT_WAIT,  /* sends nothing more until all is answered */
	ACT_PAUSE, /* takes nothing more until nothing else moves */
	ACT_LATE,  /* a minute goes by */
	ACT_ABORT, /* the server gives the connection up */
	ACT_LEAVE, /* closes the socket; the script ends */
	ACT_STOP,  /* the server is to stop */
	ACTS,
};

#define SCRIPT_BYTES (1536u << 10)
#define SCRIPT_ACTS 64

struct script {
	size_t len;
	unsigned nacts;
	struct {
		size_t at; /* before this byte */
		enum act act;
	} acts[SCRIPT_ACTS];
	uint8_t bytes[SCRIPT_BYTES];
};

/* False: there is no room, and nothing was put. */
bool script_put(struct script *script, const void *data, size_t len);
bool script_act(struct script *script, enum act act);

struct watcher {
	/* So many bytes of the script have been sent. */
	void (*sent)(struct watcher *watcher, size_t total);
	void (*received)(struct watcher *watcher, const uint8_t *data, size_t len);
	/* Whether all that was sent is answered: for ACT_WAIT. */
	bool (*settled)(const struct watcher *watcher);
	bool stopping; /* the server was told to stop, and may say so */
};

/* --- Sessions --------------------------------------------------------------- */

struct session_settings {
	uint64_t seed;
	size_t piece_bytes; /* of one send, at most, of a short script */
	size_t take_bytes;  /* of one receive, at first */
	bool pipes;	    /* two of them, instead of a socket */
	bool small_buffer;  /* what the server sends to holds little that was not taken */
	struct sim_fault faults[SIM_FAULTS_MAX];
};

struct conn;

struct session {
	struct session_settings settings;
	uint64_t rng;
	int rfd, wfd; /* the client's; -1: closed */
	struct conn *conn;
	bool closed;  /* the server has */
	bool eof;     /* all that it had sent has been taken */
	bool spoiled; /* aborted, left, late, stopping: not all that was sent needs an answer */
	bool stopped; /* the server is no good for another session */
	bool paused;
	size_t taken;	  /* bytes */
	unsigned resumes; /* of backends that had stopped */
};

/* Before each session: afterwards the exports are there, and may be changed. */
void session_prepare(void);

void session_begin(struct session *s, const struct session_settings *settings);

/* Runs SCRIPT to its end and until all is answered, or the server has closed. */
void session_run(struct session *s, const struct script *script, struct watcher *watcher);

/* Nothing more is sent; runs until the server has closed, and judges what is left. */
void session_end(struct session *s, struct watcher *watcher);

/* --- Judging ---------------------------------------------------------------- */

_Noreturn void fail(const char *fmt, ...) printf_fn(1, 2);

#define check(cond, ...) \
	do { \
		if (!(cond)) \
			fail(__VA_ARGS__); \
	} while (0)

#endif
