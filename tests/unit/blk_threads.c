/* SPDX-License-Identifier: MIT */
/*
 * blk_threads.c - workers on threads of their own, all on the same blocks.
 *
 * Every client has bytes that nobody else writes, a few in each block, so the
 * blocks are everybody's. A client knows what its bytes are. The device is
 * simulated and has a thread of its own. What is random here does not repeat;
 * blk_model.c does.
 *
 * Covers: R-98 R-99
 */
#include <pthread.h>
#include <sched.h>

#include "base/range.h"
#include "blk/io.h"
#include "tests/lib/simdev.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

#define LOOPS 3
#define CLIENTS_OF_LOOP 4
#define CLIENTS (LOOPS * CLIENTS_OF_LOOP)
#define OWN_BYTES 60 /* that lie together */
#define SLOTS 40     /* of them */
#define CAPACITY (((uint64_t)OWN_BYTES * CLIENTS * SLOTS + 4095) / 4096 * 4096)

struct worker;

struct client {
	unsigned number;
	struct worker *worker;
	uint64_t rng;
	uint8_t value[SLOTS]; /* of all bytes of a slot */
	uint8_t buf[OWN_BYTES];
};

struct worker {
	struct loop *loop;
	struct queue *q;
	struct loop_call end_call;
	struct client clients[CLIENTS_OF_LOOP];
	pthread_t thread;
};

static struct worker workers[LOOPS];
static struct dev *dev;
static unsigned live, ops_of_client;
static bool device_stops;

static uint64_t
slot_off(const struct client *c, unsigned slot)
{
	return ((uint64_t)slot * CLIENTS + c->number) * OWN_BYTES;
}

static void
check_slot(const struct client *c, unsigned slot, const uint8_t *bytes)
{
	for (unsigned i = 0; i < OWN_BYTES; i++)
		if (bytes[i] != c->value[slot])
			ck_abort_msg("client %u, slot %u, byte %u at %llu: 0x%02x, not 0x%02x",
				     c->number, slot, i,
				     (unsigned long long)slot_off(c, slot) + i, bytes[i],
				     c->value[slot]);
}

static void co_fn
client_op(struct client *c)
{
	struct queue *q = c->worker->q;
	unsigned slot = sim_below(&c->rng, SLOTS);
	uint64_t off = slot_off(c, slot);
	struct iovec iov = { c->buf, OWN_BYTES };
	unsigned what = sim_below(&c->rng, 100);
	unsigned flags = sim_below(&c->rng, 8) == 0 ? BLK_FUA : 0;

	if (what < 40) {
		ck_assert_int_eq(blk_co_read(q, off, &iov, 1), 0);
		check_slot(c, slot, c->buf);
	} else if (what < 80) {
		c->value[slot] = (uint8_t)sim_random(&c->rng);
		memset(c->buf, c->value[slot], OWN_BYTES);
		ck_assert_int_eq(blk_co_write(q, off, &iov, 1, flags), 0);
	} else if (what < 90) {
		c->value[slot] = 0;
		ck_assert_int_eq(blk_co_write_zeroes(q, off, OWN_BYTES, flags), 0);
	} else if (what < 98) {
		ck_assert_int_eq(blk_co_flush(q), 0);
	} else {
		drain_co_begin(&dev->drain, c->worker->loop);
		ck_assert_uint_eq(sim_open(), 0);
		drain_end(&dev->drain);
	}
}

/* --- Life ------------------------------------------------------------------- */

static void
end_main(void *arg)
{
	struct worker *w = arg;

	co_assert();
	queue_co_detach(w->q);
	loop_stop(w->loop);
}

static void
end_called(struct loop_call *call)
{
	struct worker *w = container_of(call, struct worker, end_call);

	loop_assert();
	ck_assert_int_eq(co_spawn(loop_sched(w->loop), CO_STACK_CONN, NULL, end_main, w), 0);
}

static void
client_main(void *arg)
{
	struct client *c = arg;

	co_assert();
	for (unsigned i = 0; i < ops_of_client; i++)
		client_op(c);
	/* Until the last one is done every loop is needed, for drains. */
	if (__atomic_sub_fetch(&live, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	ck_assert_int_eq(blk_co_flush(c->worker->q), 0);
	for (unsigned i = 0; i < LOOPS; i++)
		loop_call(workers[i].loop, &workers[i].end_call, end_called);
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct err err;

	ck_assert_msg(loop_attach(w->loop, &err) == 0, "%s", err.text);
	loop_assert();
	queue_attach(w->q);
	for (unsigned i = 0; i < CLIENTS_OF_LOOP; i++)
		ck_assert_int_eq(co_spawn(loop_sched(w->loop), CO_STACK_CONN, NULL, client_main,
					  &w->clients[i]), 0);
	loop_run(w->loop);
	loop_detach(w->loop);
	return NULL;
}

static void *
device_main(void *arg)
{
	while (!__atomic_load_n(&device_stops, __ATOMIC_ACQUIRE))
		if (!sim_step())
			sched_yield();
	return NULL;
}

static void
run(const struct sim_config *sc, uint64_t seed)
{
	const struct dev_config dc = { .driver = "sim", .discard = true, .nqueues = LOOPS };
	static uint8_t contents[CAPACITY];
	uint64_t waited = 0;
	pthread_t device;
	struct err err;

	sim_reset(sc);
	ck_assert_msg(dev_open(&dev, &dc, &err) == 0, "%s", err.text);
	device_stops = false;
	live = CLIENTS;
	for (unsigned i = 0; i < LOOPS; i++) {
		struct worker *w = &workers[i];

		ck_assert_msg(loop_new(&w->loop, &err) == 0, "%s", err.text);
		ck_assert_msg(queue_new(&w->q, dev, (int)i, w->loop, &err) == 0, "%s", err.text);
		for (unsigned k = 0; k < CLIENTS_OF_LOOP; k++)
			w->clients[k] = (struct client){
				.number = k * LOOPS + i,
				.worker = w,
				.rng = unit_random(&seed),
			};
	}
	ck_assert_int_eq(pthread_create(&device, NULL, device_main, NULL), 0);
	for (unsigned i = 0; i < LOOPS; i++)
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]),
				 0);
	for (unsigned i = 0; i < LOOPS; i++)
		pthread_join(workers[i].thread, NULL);
	__atomic_store_n(&device_stops, true, __ATOMIC_RELEASE);
	pthread_join(device, NULL);
	for (unsigned i = 0; i < LOOPS; i++) {
		waited += queue_counter(workers[i].q, QUEUE_WAITED);
		queue_free(workers[i].q);
		loop_free(workers[i].loop);
	}
	dev_close(dev);
	ck_assert(sc->request_alignment == 1 || waited > 0);

	/* All of it was flushed. */
	sim_power_cut();
	sim_peek(0, contents, CAPACITY);
	for (unsigned i = 0; i < CLIENTS; i++)
		for (unsigned k = 0; k < SLOTS; k++) {
			const struct client *c = &workers[i % LOOPS].clients[i / LOOPS];

			check_slot(c, k, contents + slot_off(c, k));
		}
	sim_power_on();
}

START_TEST(bytes_of_shared_blocks)
{
	static const int aligns[] = { 512, 4096, 1 };
	uint64_t seed = unit_seed();

	ops_of_client = UNIT_SANITIZED ? 100 : 400;
	for (unsigned i = 0; i < 12; i++) {
		const struct sim_config sc = {
			.seed = unit_random(&seed),
			.capacity = CAPACITY,
			.request_alignment = aligns[i % ARRAY_SIZE(aligns)],
			.block = 512,
			.max_segments = i % 2 ? 1 : 0,
			.buf_alignment = i % 4 == 3 ? 512 : 1,
			.flush_needed = i != 7,
			.fua_native = i % 3 == 1,
			.spurious = i % 2,
		};

		run(&sc, sc.seed);
	}
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), bytes_of_shared_blocks)
