/* SPDX-License-Identifier: MIT */
/* admission.c - how many clients may be inside, and who waits outside; see admission.h. */
#include "admission.h"

#include "server/limits.h"
#include "server/log.h"

/* How long a shortage must have lasted, and have been over, to be worth a line. */
#define SHORTAGE_NS LIMIT_MS(1000)

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

/* --- What the operator is told ------------------------------------------------ */

/* Whether the log is to say that there is a shortage, or none any more. */
static bool
shortage_is_news(struct admission_shortage *s)
{
	bool news = s->is != s->said;

	s->said = s->is;
	return news;
}

static void
conns_look(struct loop_timer *timer)
{
	struct admission *a = container_of(timer, struct admission, of_conns.timer);

	if (!shortage_is_news(&a->of_conns))
		return;
	if (a->of_conns.is)
		log_warning("as many clients as --max-connections, more have to wait "
			    "connections=%u",
			    a->conns);
	else
		log_info("place for clients again connections=%u", a->conns);
}

static void
handshakes_look(struct loop_timer *timer)
{
	struct admission *a = container_of(timer, struct admission, of_handshakes.timer);

	if (!shortage_is_news(&a->of_handshakes))
		return;
	if (a->of_handshakes.is)
		log_warning("as many clients that negotiate as --max-handshakes, more have to wait "
			    "handshakes=%u",
			    a->handshakes);
	else
		log_info("place for clients that negotiate again handshakes=%u", a->handshakes);
}

static void loop_fn
shortage_update(struct admission *a, struct admission_shortage *s, bool is,
		void (*look)(struct loop_timer *))
{
	s->is = is;
	if (is == s->said) {
		/* It is not over after all. One that is over before it is said may come back. */
		if (is)
			loop_timer_disarm(&s->timer);
	} else if (!list_linked(&s->timer.link)) {
		loop_timer_arm(a->loop, &s->timer, SHORTAGE_NS, look);
	}
}

/* --- Places ------------------------------------------------------------------ */

static bool
conns_full(const struct admission *a)
{
	return a->conns >= a->conns_max;
}

static bool
handshakes_full(const struct admission *a)
{
	return a->handshakes >= a->handshakes_max;
}

/* The counts have changed. */
static void loop_fn
changed(struct admission *a)
{
	if (a->closed)
		return;
	shortage_update(a, &a->of_conns, conns_full(a), conns_look);
	/* Where handshakes may take all places they are short only when these are. */
	if (a->handshakes_max < a->conns_max)
		shortage_update(a, &a->of_handshakes, handshakes_full(a), handshakes_look);
}

void
admission_co_wait(struct admission *a)
{
	while (!a->closed && (conns_full(a) || handshakes_full(a)))
		co_waitq_wait(&a->waiting, loop_sched(a->loop));
}

void
admission_enter(struct admission *a)
{
	a->conns++;
	a->handshakes++;
	changed(a);
}

void
admission_handshake_end(struct admission *a)
{
	invariant(a->handshakes > 0);
	a->handshakes--;
	changed(a);
	co_waitq_wake_all(&a->waiting);
}

void
admission_leave(struct admission *a)
{
	invariant(a->conns > a->handshakes);
	a->conns--;
	changed(a);
	co_waitq_wake_all(&a->waiting);
}

void
admission_close(struct admission *a)
{
	a->closed = true;
	loop_timer_disarm(&a->of_conns.timer);
	loop_timer_disarm(&a->of_handshakes.timer);
	co_waitq_wake_all(&a->waiting);
}
