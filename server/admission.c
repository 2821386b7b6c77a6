/* SPDX-License-Identifier: MIT */
/* admission.c - how many clients may be inside, and who waits outside; see admission.h. */
#include "admission.h"

#include "server/limits.h"
#include "server/log.h"

/* How long there must have been a place for it to be no longer the same shortage. */
#define CALM_NS LIMIT_MS(1000)

void
admission_init(struct admission *a, struct loop *loop, unsigned conns_max, unsigned handshakes_max)
{
	*a = (struct admission){
		.loop = loop,
		.conns_max = conns_max,
		.handshakes_max = handshakes_max,
	};
	co_waitq_init(&a->waiting);
}

/* Clients have to wait outside: said once, until it is over. */
static void
shortage_log(struct admission *a)
{
	uint64_t now = loop_now(a->loop);

	if (a->conns >= a->conns_max) {
		if (!a->full)
			log_warning("as many clients as --max-connections, more have to wait "
				    "connections=%u",
				    a->conns);
		a->full = true;
		a->full_ns = now;
	} else if (a->full && now - a->full_ns >= CALM_NS) {
		a->full = false;
		log_info("place for clients again connections=%u", a->conns);
	}
}

void
admission_co_wait(struct admission *a)
{
	shortage_log(a);
	while (!a->closed && (a->conns >= a->conns_max || a->handshakes >= a->handshakes_max)) {
		co_waitq_wait(&a->waiting, loop_sched(a->loop));
		a->full_ns = loop_now(a->loop);
	}
}

void
admission_enter(struct admission *a)
{
	a->conns++;
	a->handshakes++;
}

void
admission_handshake_end(struct admission *a)
{
	invariant(a->handshakes > 0);
	a->handshakes--;
	co_waitq_wake_all(&a->waiting);
}

void
admission_leave(struct admission *a)
{
	invariant(a->conns > a->handshakes);
	a->conns--;
	co_waitq_wake_all(&a->waiting);
}

void
admission_close(struct admission *a)
{
	a->closed = true;
	co_waitq_wake_all(&a->waiting);
}
