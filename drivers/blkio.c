/* SPDX-License-Identifier: MIT */
/*
 * blkio.c - the life of a device: created, connected, started, destroyed.
 *
 *	              connect              start
 *	  CREATED ---------------> CONNECTED ------> STARTED
 *	     |                         |                |
 *	     +-------------------------+----------------+--> destroy
 *
 * blkio_create() finds the driver; blkio_connect() lets it open the device;
 * blkio_start() makes the queues. Each either completes or leaves everything
 * as it was, so that it can be called again after a property has changed.
 *
 * Destruction goes backwards: queues first (each waits for its requests in
 * flight), the device, then the memory of regions, which nobody can reach any
 * more by then.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* The binary interface: sizes and places are those of libblkio.so.1. */
#define LAYOUT(type, size) \
	_Static_assert(sizeof(type) == (size), "size of " #type)
#define PLACE(type, field, offset) \
	_Static_assert(offsetof(type, field) == (offset), "offset of " #type "." #field)

#if UINTPTR_MAX == UINT64_MAX
LAYOUT(struct blkio_mem_region, 40);
PLACE(struct blkio_mem_region, addr, 0);
PLACE(struct blkio_mem_region, len, 8);
PLACE(struct blkio_mem_region, iova, 16);
PLACE(struct blkio_mem_region, fd_offset, 24);
PLACE(struct blkio_mem_region, fd, 32);
PLACE(struct blkio_mem_region, flags, 36);
LAYOUT(struct blkio_completion, 32);
PLACE(struct blkio_completion, user_data, 0);
PLACE(struct blkio_completion, error_msg, 8);
PLACE(struct blkio_completion, ret, 16);
PLACE(struct blkio_completion, reserved_, 20);
#endif
LAYOUT(struct blkio_zone, 64);
PLACE(struct blkio_zone, start, 0);
PLACE(struct blkio_zone, len, 8);
PLACE(struct blkio_zone, capacity, 16);
PLACE(struct blkio_zone, write_pointer, 24);
PLACE(struct blkio_zone, zone_type, 32);
PLACE(struct blkio_zone, zone_state, 33);
PLACE(struct blkio_zone, reset, 34);
PLACE(struct blkio_zone, reserved_, 35);

static const struct driver *const drivers[] = {
	&io_uring_driver,
	&mem_driver,
};

/* --- Queues of a started device -------------------------------------------- */

static struct queue_set *
queue_set(struct blkio *b, bool poll)
{
	return poll ? &b->poll_queues : &b->queues;
}

static void
queue_set_release(struct queue_set *set)
{
	for (int i = 0; i < set->len; i++) {
		if (set->queue[i])
			set->queue[i]->ops->close(set->queue[i]);
	}
	free(set->queue);
	*set = (struct queue_set){ .queue = NULL };
}

/* Makes LEN queues; all or none. */
static int
queue_set_open(struct blkio *b, bool poll, int len)
{
	struct queue_set *set = queue_set(b, poll);
	int ret;

	if (!len)
		return 0;
	set->queue = calloc(len, sizeof(struct blkioq *));
	if (!set->queue)
		return error_os(ENOMEM, ": %d queues", len);
	for (; set->len < len; set->len++) {
		ret = b->driver->queue_open(b, poll, &set->queue[set->len]);
		if (ret) {
			queue_set_release(set);
			return ret;
		}
	}
	return 0;
}

static struct blkioq *
queue_get(struct blkio *b, bool poll, int index)
{
	struct queue_set *set;

	if (!b)
		return NULL;
	set = queue_set(b, poll);
	return index >= 0 && index < set->len ? set->queue[index] : NULL;
}

struct blkioq *
blkio_get_queue(struct blkio *b, int index)
{
	return queue_get(b, false, index);
}

struct blkioq *
blkio_get_poll_queue(struct blkio *b, int index)
{
	return queue_get(b, true, index);
}

static int
queue_add(struct blkio *b, bool poll)
{
	struct queue_set *set;
	struct blkioq **queue;
	int index, ret;

	if (!b)
		return error_set(EINVAL, "blkio must be non-NULL");
	if (b->state != STARTED)
		return error_set(EBUSY, "Device must be started");
	if (!b->limits.can_add_queues)
		return error_set(EOPNOTSUPP, "Driver does not support dynamically adding queues");
	if (poll && !b->limits.supports_poll_queues)
		return error_set(EINVAL, "Poll queues not supported");

	set = queue_set(b, poll);
	for (index = 0; index < set->len && set->queue[index]; index++)
		;
	if (index == set->len) {
		if (index == INT_MAX)
			return error_set(ENOSPC, "too many queues");
		queue = reallocarray(set->queue, (size_t)index + 1, sizeof(*queue));
		if (!queue)
			return error_os(ENOMEM, ": queue %d", index);
		queue[index] = NULL;
		set->queue = queue;
		set->len++;
	}
	ret = b->driver->queue_open(b, poll, &set->queue[index]);
	return ret ? ret : index;
}

int
blkio_add_queue(struct blkio *b)
{
	return queue_add(b, false);
}

int
blkio_add_poll_queue(struct blkio *b)
{
	return queue_add(b, true);
}

static int
queue_remove(struct blkio *b, bool poll, int index)
{
	struct blkioq *q = queue_get(b, poll, index);

	if (!q)
		return error_set(ENOENT, "no queue with index %d", index);
	q->ops->close(q);
	queue_set(b, poll)->queue[index] = NULL;
	return 0;
}

int
blkio_remove_queue(struct blkio *b, int index)
{
	return queue_remove(b, false, index);
}

int
blkio_remove_poll_queue(struct blkio *b, int index)
{
	return queue_remove(b, true, index);
}

/* --- Life ------------------------------------------------------------------ */

int
blkio_create(const char *driver, struct blkio **bp)
{
	struct blkio *b;

	if (!bp)
		return error_set(EINVAL, "bp must be non-NULL");
	*bp = NULL;
	if (!text_valid(driver))
		return error_set(EINVAL, "Invalid driver name");

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (strcmp(drivers[i]->name, driver))
			continue;
		b = calloc(1, drivers[i]->dev_size);
		if (!b)
			return error_os(ENOMEM, "%s", "");
		b->driver = drivers[i];
		b->state = CREATED;
		b->num_queues = 1;
		regions_init(b);
		b->driver->init(b);
		*bp = b;
		return 0;
	}
	return error_set(ENOENT, "Unknown driver name");
}

int
blkio_connect(struct blkio *b)
{
	int ret;

	if (!b)
		return error_set(EINVAL, "blkio must be non-NULL");
	if (b->state == CONNECTED)
		return 0;
	if (b->state == STARTED)
		return error_set(EBUSY, "Cannot set property in connected state");
	ret = b->driver->connect(b);
	if (ret)
		return ret;
	b->state = CONNECTED;
	return 0;
}

int
blkio_start(struct blkio *b)
{
	int ret;

	if (!b)
		return error_set(EINVAL, "blkio must be non-NULL");
	if (b->state == CREATED)
		return error_set(ENODEV, "Device must be connected");
	if (b->state == STARTED)
		return 0;
	if (b->num_poll_queues && !b->limits.supports_poll_queues)
		return error_set(EINVAL, "Poll queues not supported");

	ret = queue_set_open(b, false, b->num_queues);
	if (ret)
		return ret;
	ret = queue_set_open(b, true, b->num_poll_queues);
	if (ret) {
		queue_set_release(&b->queues);
		return ret;
	}
	b->state = STARTED;
	return 0;
}

void
blkio_destroy(struct blkio **bp)
{
	struct blkio *b = bp ? *bp : NULL;

	if (!b)
		return;
	*bp = NULL;
	queue_set_release(&b->poll_queues);
	queue_set_release(&b->queues);
	b->driver->close(b);
	regions_release(b);
	free(b);
}
