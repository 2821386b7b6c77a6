/* SPDX-License-Identifier: MIT */
/* context.c - the table of metadata contexts; see context.h. */
#include "context.h"

#include <string.h>

#include "blk/status.h"
#include "proto.h"

/*
 * Which parts are allocated, and which read as zeroes. No flag where nobody
 * knows: then the range may be a hole all the same.
 */
static int
base_allocation(struct queue *q, uint64_t off, uint64_t len, struct context_extent *extent)
{
	struct blk_extent e;
	int ret;

	co_assert();
	ret = blk_co_status(q, off, len, &e);
	if (ret < 0)
		return ret;
	extent->len = e.len;
	extent->flags = (e.flags & BLK_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
			(e.flags & BLK_EXTENT_ZERO ? NBD_STATE_ZERO : 0);
	return 0;
}

/* Which layer has the data: there is one, 1, or none, 0. */
static int
allocation_depth(struct queue *q, uint64_t off, uint64_t len, struct context_extent *extent)
{
	struct blk_extent e;
	int ret;

	co_assert();
	ret = blk_co_status(q, off, len, &e);
	if (ret < 0)
		return ret;
	extent->len = e.len;
	extent->flags = e.flags & BLK_EXTENT_HOLE ? 0 : 1;
	return 0;
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
