/* SPDX-License-Identifier: MIT */
/*
 * gate.h - what decides who may enter, and can be exchanged while the server runs.
 *
 * 1. A gate is constant from gate_open() on, and counts its references.
 * 2. One is in force, and main exchanges it as a whole: a set that is broken in part
 *    is never in force in part. Its place has a lock, since workers ask for it, too.
 * 3. A connection takes its reference when it comes, and exchanges it for that of the one
 *    in force at STARTTLS and whenever it asks for exports, until it has one: whoever is
 *    inside stays, by the rules under which he came in.
 */
#ifndef SERVER_GATE_H
#define SERVER_GATE_H

#include <pthread.h>

#include "server/access.h"
#include "server/config.h"
#include "server/tls.h"

struct gate {
	unsigned refs;	       /* atomic */
	struct access *access; /* NULL: everybody may do everything */
	struct tls *tls;       /* NULL: nobody gets TLS */
};

/* Where the one in force is. */
struct gate_place {
	pthread_mutex_t lock;
	struct gate *gate; /* main, which alone changes it, may read it without the lock */
};

/*
 * Reads all that CONFIG names, with one reference. Errors: of access_load() and
 * tls_load(); of rules about what this server cannot find out. Context: main, after
 * tls_init() if there are credentials.
 */
int gate_open(struct gate **gatep, const struct config *config, struct err *err) no_co_fn;

/*
 * At the start, for the first one: -EINVAL for an option that changes nothing for anybody.
 * On a reload that is no reason to keep rules that somebody wants to be rid of.
 */
int gate_check_start(const struct gate *gate, const struct config *config, struct err *err);

/* Lets the sandbox have what another gate_open() reads. Context: main. */
int gate_allow_reload(const struct config *config, struct err *err) no_co_fn;

/* Afterwards: a warning for each file of that which the user now may not read. */
void gate_check_reload(const struct config *config) no_co_fn;

/* Any thread. gate_put() takes NULL, too. */
struct gate *gate_get(struct gate *gate);
void gate_put(struct gate *gate);

/* Before threads. GATE's reference is the place's; likewise with gate_exchange(). */
void gate_place_init(struct gate_place *place, struct gate *gate);
/* Puts GATE in force. Context: main. */
void gate_exchange(struct gate_place *place, struct gate *gate);
/* A reference to the one in force. Any thread. */
struct gate *gate_in_force(struct gate_place *place);

#endif
