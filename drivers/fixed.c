/* SPDX-License-Identifier: MIT */
/*
 * fixed.c - registering memory regions with a ring, one by one as they are
 * used.
 *
 * The ring gets an empty table of FIXED_SLOTS buffers when the queue is made
 * (Linux 5.19). fixed_lookup() follows the device's regions, finds the one
 * that holds a buffer, and on its first use puts it into a free slot. Slots of
 * regions that are gone are emptied, which is safe even while requests from
 * them are in flight: the kernel keeps pages until the last of them is done.
 */
#include <stdlib.h>
#include <string.h>

#include "fixed.h"

bool
fixed_init(struct fixed_table *t, struct uring *ring, struct blkio *dev)
{
	struct io_uring_rsrc_register reg = {
		.nr = FIXED_SLOTS,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};

	memset(t, 0, sizeof(*t));
	t->ring = ring;
	t->dev = dev;
	t->generation = UINT64_MAX;
	return uring_register(ring, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg)) >= 0;
}

void
fixed_release(struct fixed_table *t)
{
	free(t->regions);
	t->regions = NULL;
}

static int
slot_of(const struct fixed_table *t, uint64_t id)
{
	for (int i = 0; i < FIXED_SLOTS; i++) {
		if (t->slot_id[i] == id)
			return i;
	}
	return FIXED_UNTRIED;
}

/* Puts [ADDR, ADDR + LEN) into SLOT, or nothing (NULL, 0). */
static bool
slot_set(struct fixed_table *t, int slot, uintptr_t addr, size_t len)
{
	struct iovec iov = { .iov_base = (void *)addr, .iov_len = len };
	struct io_uring_rsrc_update2 update = {
		.offset = (uint32_t)slot,
		.data = (uint64_t)(uintptr_t)&iov,
		.nr = 1,
	};

	return uring_register(t->ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
			      sizeof(update)) == 1;
}

/* Registers R if there is a slot and the kernel agrees. */
static void
slot_fill(struct fixed_table *t, struct fixed_region *r)
{
	int slot = slot_of(t, 0);

	r->slot = FIXED_REFUSED;
	if (slot < 0 || !slot_set(t, slot, r->addr, r->end - r->addr))
		return;
	t->slot_id[slot] = r->id;
	r->slot = slot;
}

/* Copies the device's mapped regions. Without memory for it there are none. */
static void
copy_regions(struct fixed_table *t)
{
	struct blkio *dev = t->dev;
	struct fixed_region *regions;

	t->len = t->hit = 0;
	pthread_mutex_lock(&dev->region_lock);
	t->generation = atomic_load_explicit(&dev->region_generation, memory_order_relaxed);
	if (t->cap < dev->regions_len) {
		regions = reallocarray(t->regions, dev->regions_cap, sizeof(*regions));
		if (!regions)
			goto unlock;
		t->regions = regions;
		t->cap = dev->regions_cap;
	}
	for (size_t i = 0; i < dev->regions_len; i++) {
		const struct region *r = &dev->regions[i];

		if (!r->mapped || !r->mem.len)
			continue;
		t->regions[t->len++] = (struct fixed_region){
			.addr = (uintptr_t)r->mem.addr,
			.end = (uintptr_t)r->mem.addr + r->mem.len,
			.id = r->id,
			.slot = slot_of(t, r->id),
		};
	}
unlock:
	pthread_mutex_unlock(&dev->region_lock);
}

static bool
region_present(const struct fixed_table *t, uint64_t id)
{
	for (size_t i = 0; i < t->len; i++) {
		if (t->regions[i].id == id)
			return true;
	}
	return false;
}

/* Brings the table up to date; regions that are gone are let go. */
static void
follow(struct fixed_table *t)
{
	copy_regions(t);
	for (int i = 0; i < FIXED_SLOTS; i++) {
		if (t->slot_id[i] && !region_present(t, t->slot_id[i]) && slot_set(t, i, 0, 0))
			t->slot_id[i] = 0;
	}
}

int
fixed_lookup(struct fixed_table *t, uintptr_t addr, size_t len)
{
	struct fixed_region *r;
	size_t low = 0, high;

	if (t->generation != atomic_load_explicit(&t->dev->region_generation,
						  memory_order_acquire))
		follow(t);
	/* The last region that begins at or before ADDR. */
	for (high = t->len; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (t->regions[middle].addr <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return FIXED_REFUSED;
	r = &t->regions[low - 1];
	if (addr >= r->end || len > r->end - addr)
		return FIXED_REFUSED;
	t->hit = low - 1;
	if (r->slot == FIXED_UNTRIED)
		slot_fill(t, r);
	return r->slot;
}
