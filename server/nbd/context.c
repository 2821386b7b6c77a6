/* SPDX-License-Identifier: MIT */
/* context.c - the table of metadata contexts; see context.h. */
#include "context.h"

#include <string.h>

#include "blk/status.h"
#include "proto.h"

/* What the device says, in the flags that FLAGS_OF makes of it. */
static int co_fn
device_extent(struct queue *q, uint64_t off, uint64_t len, struct context_extent *extent,
	      uint32_t (*flags_of)(uint32_t flags))
{
	struct blk_extent e;
	int ret = blk_co_status(q, off, len, &e);

	if (ret == 0)
		*extent = (struct context_extent){ .len = e.len, .flags = flags_of(e.flags) };
	return ret;
}

static uint32_t
allocation_flags(uint32_t flags)
{
	return (flags & BLK_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
	       (flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

/*
 * Which parts are allocated, and which read as zeroes. No flag where nobody
 * knows: then the range may be a hole all the same.
 */
static int
base_allocation(struct queue *q, uint64_t off, uint64_t len, struct context_extent *extent)
{
	co_assert();
	return device_extent(q, off, len, extent, allocation_flags);
}

static uint32_t
depth_flags(uint32_t flags)
{
	return flags & BLK_EXTENT_HOLE ? 0 : 1;
}

/* Which layer has the data: there is one, 1, or none, 0. */
static int
allocation_depth(struct queue *q, uint64_t off, uint64_t len, struct context_extent *extent)
{
	co_assert();
	return device_extent(q, off, len, extent, depth_flags);
}

static const struct context contexts[] = {
	{ "base:allocation", base_allocation },
	{ "qemu:allocation-depth", allocation_depth },
};

_Static_assert(ARRAY_SIZE(contexts) <= CONTEXTS_MAX, "a bit for each");

const struct context *
context_at(unsigned index)
{
	return index < ARRAY_SIZE(contexts) ? &contexts[index] : NULL;
}

uint32_t
context_all(void)
{
	return (uint32_t)((UINT64_C(1) << ARRAY_SIZE(contexts)) - 1);
}

/* Whether QUERY is the beginning of NAME up to a colon, and nothing more. */
static bool
is_namespace_of(const char *query, size_t len, const char *name)
{
	return len > 0 && query[len - 1] == ':' && strncmp(query, name, len) == 0;
}

uint32_t
context_match(const char *query, size_t len, bool listing)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(contexts); i++) {
		const char *name = contexts[i].name;
		bool same = strlen(name) == len && memcmp(name, query, len) == 0;

		if (same || (listing && is_namespace_of(query, len, name)))
			set |= UINT32_C(1) << i;
	}
	return set;
}

uint32_t
context_bit(uint32_t id, uint32_t id_base)
{
	uint32_t index = id - id_base;

	return index < ARRAY_SIZE(contexts) ? UINT32_C(1) << index : 0;
}
