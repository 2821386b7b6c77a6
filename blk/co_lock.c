/* SPDX-License-Identifier: MIT */
/* co_lock.c - wait queue, mutex, semaphore, group; see co_lock.h. */
#include "co_lock.h"

struct waiter {
	struct list link;
	struct co *co;
};

/* --- Wait queue ------------------------------------------------------------- */

void
co_waitq_init(struct co_waitq *q)
{
	list_init(&q->waiters);
}

void
co_waitq_wait(struct co_waitq *q, struct co_sched *sched)
{
	struct waiter w = { .co = co_self(sched) };

	list_add_tail(&q->waiters, &w.link);
	co_yield(sched);
}

void
co_waitq_wait_front(struct co_waitq *q, struct co_sched *sched)
{
	struct waiter w = { .co = co_self(sched) };

	list_add_head(&q->waiters, &w.link);
	co_yield(sched);
}

bool
co_waitq_wake_one(struct co_waitq *q)
{
	struct list *link = list_pop(&q->waiters);

	if (!link)
		return false;
	co_ready(list_entry(link, struct waiter, link)->co);
	return true;
}

void
co_waitq_wake_all(struct co_waitq *q)
{
	while (co_waitq_wake_one(q))
		;
}

/* --- Mutex ------------------------------------------------------------------ */

void
co_mutex_init(struct co_mutex *m)
{
	m->locked = false;
	co_waitq_init(&m->waiters);
}

void
co_mutex_lock(struct co_mutex *m, struct co_sched *sched)
{
	if (!m->locked) {
		m->locked = true;
		return;
	}
	co_waitq_wait(&m->waiters, sched); /* handed over by co_mutex_unlock() */
}

void
co_mutex_unlock(struct co_mutex *m)
{
	invariant(m->locked);
	if (!co_waitq_wake_one(&m->waiters))
		m->locked = false;
}

/* --- Semaphore -------------------------------------------------------------- */

void
co_sem_init(struct co_sem *s, unsigned count)
{
	s->count = count;
	co_waitq_init(&s->waiters);
}

void
co_sem_down(struct co_sem *s, struct co_sched *sched)
{
	if (s->count > 0) {
		s->count--;
		return;
	}
	co_waitq_wait(&s->waiters, sched); /* handed over by co_sem_up() */
}

void
co_sem_up(struct co_sem *s)
{
	if (!co_waitq_wake_one(&s->waiters))
		s->count++;
}

/* --- Budget ----------------------------------------------------------------- */

struct taker {
	struct list link;
	struct co *co;
	size_t bytes;
};

void
co_budget_init(struct co_budget *b, size_t bytes)
{
	b->left = bytes;
	list_init(&b->waiters);
}

void
co_budget_take(struct co_budget *b, struct co_sched *sched, size_t bytes)
{
	struct taker t = { .bytes = bytes };

	if (list_empty(&b->waiters) && bytes <= b->left) {
		b->left -= bytes;
		return;
	}
	t.co = co_self(sched);
	list_add_tail(&b->waiters, &t.link);
	co_yield(sched); /* handed over by co_budget_give() */
}

void
co_budget_give(struct co_budget *b, size_t bytes)
{
	b->left += bytes;
	while (!list_empty(&b->waiters)) {
		struct taker *t = list_entry(b->waiters.next, struct taker, link);

		if (t->bytes > b->left)
			return;
		b->left -= t->bytes;
		list_del(&t->link);
		co_ready(t->co);
	}
}

/* --- Group ------------------------------------------------------------------ */

void
co_group_init(struct co_group *g)
{
	*g = (struct co_group){ 0 };
}

void
co_group_join_(struct co_group *g)
{
	g->running++;
}

void
co_group_leave_(struct co_group *g)
{
	invariant(g->running > 0);
	if (--g->running == 0 && g->waiter) {
		struct co *waiter = g->waiter;

		g->waiter = NULL;
		co_ready(waiter);
	}
}

void
co_group_wait(struct co_group *g, struct co_sched *sched)
{
	if (g->running == 0)
		return;
	invariant(!g->waiter);
	g->waiter = co_self(sched);
	co_yield(sched);
}
