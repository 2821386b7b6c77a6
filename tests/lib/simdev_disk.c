/* SPDX-License-Identifier: MIT */
/*
 * simdev_disk.c - what is on the simulated device, and what would survive.
 *
 * A block that changed has a list of versions, oldest first, from the one after
 * what is stable to the one that reads see. Making durable is to move "stable"
 * forward in that list: at least as far as promised, further as the seed says.
 *
 * Invariants:
 * I1. A version whose request has been fetched, as a success or not, has its
 *     place in the order of fetching in done_at; a flush covers those below its
 *     own.
 * I2. The newest version of a block is what `now` has.
 */
#include <stdlib.h>
#include <string.h>

#include "base/range.h"
#include "simdev_core.h"

#define VERSION_CHUNK (1u << 20)

/* --- Versions ----------------------------------------------------------------- */

/* Bytes of block I that the device has, and where they are. */
static size_t
block_len(const struct blkio *b, unsigned i)
{
	return (size_t)MIN(b->disk.block, b->c.window_len - i * b->disk.block);
}

static uint64_t
block_off(const struct blkio *b, unsigned i)
{
	return b->c.window_off + i * b->disk.block;
}

static struct sim_version *
version_new(struct blkio *b)
{
	struct sim_disk *d = &b->disk;
	size_t size = align_up(sizeof(struct sim_version) + d->block, 16);
	struct sim_version *v = d->free;

	if (v) {
		d->free = v->next;
		return v;
	}
	if (d->carved + size > VERSION_CHUNK) {
		struct sim_chunk *next = d->carving ? d->carving->next : d->chunks;

		if (!next) {
			next = sim_must(b, malloc(VERSION_CHUNK));
			next->next = NULL;
			*(d->carving ? &d->carving->next : &d->chunks) = next;
		}
		d->carving = next;
		d->carved = 64;
	}
	v = (struct sim_version *)(void *)((char *)d->carving + d->carved);
	d->carved += size;
	return v;
}

static void
version_free(struct sim_disk *d, struct sim_version *v)
{
	v->next = d->free;
	d->free = v;
}

/* Makes block I stable up to and with version V. */
static void
advance(struct blkio *b, unsigned i, const struct sim_version *v)
{
	struct sim_disk *d = &b->disk;
	struct sim_block *block = &d->blocks[i];
	bool last;

	memcpy(d->stable + i * d->block, v->data, block_len(b, i));
	do {
		struct sim_version *gone = block->oldest;

		last = gone == v;
		block->oldest = gone->next;
		version_free(d, gone);
	} while (!last);
	if (block->oldest)
		return;
	block->newest = NULL;
	d->dirty[block->dirty] = d->dirty[--d->ndirty];
	d->blocks[d->dirty[block->dirty]].dirty = block->dirty;
}

/* As far as V at least. */
static void
advance_from(struct blkio *b, unsigned i, const struct sim_version *v)
{
	while (v->next && sim_pick(b, 2))
		v = v->next;
	advance(b, i, v);
}

/* R gives block I the contents that are in `now` from here on. */
static void
version_add(struct blkio *b, const struct sim_request *r, unsigned i)
{
	struct sim_disk *d = &b->disk;
	struct sim_block *block = &d->blocks[i];
	struct sim_version *v;

	/* What is there already may have been written back meanwhile. */
	if (block->oldest && sim_pick(b, 4) == 0)
		advance_from(b, i, block->oldest);
	v = version_new(b);
	v->next = NULL;
	v->owner = r->id;
	v->done_at = 0;
	memcpy(v->data, d->now + i * d->block, block_len(b, i));
	if (block->newest) {
		block->newest->next = v;
	} else {
		block->oldest = v;
		block->dirty = d->ndirty;
		d->dirty[d->ndirty++] = i;
	}
	block->newest = v;
}

/* --- Requests ----------------------------------------------------------------- */

void
disk_request(struct blkio *b, struct sim_request *r)
{
	uint64_t window_off = b->c.window_off;
	uint64_t start = MAX(r->off, window_off);
	uint64_t end = MIN(r->off + r->len, window_off + b->c.window_len);

	if (start >= end)
		return;
	r->first = (unsigned)((start - window_off) / b->disk.block);
	r->nblocks = (unsigned)((end - 1 - window_off) / b->disk.block) - r->first + 1;
	r->left = r->nblocks;
	r->applied = sim_must(b, calloc(r->nblocks, 1));
}

/* R's part of block I: where in the window, in its data, how much. */
static size_t
part_of(const struct blkio *b, const struct sim_request *r, unsigned i, size_t *in_window,
	size_t *in_data)
{
	uint64_t from = MAX(r->off, block_off(b, i));
	uint64_t to = MIN(r->off + r->len, block_off(b, i) + block_len(b, i));

	*in_window = (size_t)(from - b->c.window_off);
	*in_data = (size_t)(from - r->off);
	return (size_t)(to - from);
}

void
disk_apply(struct blkio *b, struct sim_request *r, unsigned k)
{
	unsigned i = r->first + k;
	size_t at, from, len = part_of(b, r, i, &at, &from);

	r->applied[k] = 1;
	r->left--;
	switch (r->op) {
	case SIM_READ:
		memcpy(r->data + from, b->disk.now + at, len);
		return;
	case SIM_WRITE:
		memcpy(b->disk.now + at, r->data + from, len);
		break;
	case SIM_ZEROES:
		memset(b->disk.now + at, 0, len);
		break;
	case SIM_DISCARD:
		if (b->c.discarded == SIM_DISCARDED_KEPT ||
		    (b->c.discarded == SIM_DISCARDED_EITHER && sim_pick(b, 2)))
			return;
		memset(b->disk.now + at, 0, len);
		break;
	default:
		sim_broken(b, "a flush has no blocks");
	}
	version_add(b, r, i);
}

void
disk_make_durable(struct blkio *b, const struct sim_request *r)
{
	for (unsigned k = 0; k < r->nblocks; k++) {
		unsigned i = r->first + k;
		struct sim_version *v, *own = NULL;

		for (v = b->disk.blocks[i].oldest; v; v = v->next)
			if (v->owner == r->id)
				own = v;
		if (own)
			advance_from(b, i, own);
	}
}

void
disk_flush(struct blkio *b, const struct sim_request *r, bool fails)
{
	for (unsigned k = b->disk.ndirty; k-- > 0;) {
		unsigned i = b->disk.dirty[k];
		struct sim_version *v, *covered = NULL;

		for (v = b->disk.blocks[i].oldest; v; v = v->next) {
			if (v->done_at == 0 || v->done_at > r->covers)
				continue;
			covered = v;
			if (fails)
				v->done_at = 0;
		}
		if (covered && !fails)
			advance_from(b, i, covered);
	}
}

void
disk_fetched(struct blkio *b, const struct sim_request *r)
{
	for (unsigned k = 0; r->op != SIM_READ && k < r->nblocks; k++)
		for (struct sim_version *v = b->disk.blocks[r->first + k].oldest; v; v = v->next)
			if (v->owner == r->id)
				v->done_at = b->fetches;
}

uint64_t
disk_alike(const struct blkio *b, uint64_t start, uint64_t len, bool *zero)
{
	uint64_t window_end = b->c.window_off + b->c.window_len, n, word;
	const uint8_t *at;

	*zero = true;
	if (start < b->c.window_off)
		return MIN(len, b->c.window_off - start);
	if (start >= window_end)
		return len;
	at = b->disk.now + (start - b->c.window_off);
	len = MIN(len, window_end - start);
	*zero = at[0] == 0;
	n = 1;
	/* Zeroes can be many. */
	while (*zero && len - n >= sizeof(word) && (memcpy(&word, at + n, sizeof(word)), !word))
		n += sizeof(word);
	while (n < len && (at[n] == 0) == *zero)
		n++;
	return n;
}

/* --- The whole ---------------------------------------------------------------- */

void
disk_cut(struct blkio *b)
{
	struct sim_disk *d = &b->disk;
	unsigned keep = sim_pick(b, 5); /* of four dirty blocks; 0: none */

	while (d->ndirty > 0) {
		unsigned i = d->dirty[d->ndirty - 1];
		struct sim_block *block = &d->blocks[i];

		if (sim_pick(b, 4) < keep) {
			advance_from(b, i, block->oldest);
			if (!block->oldest)
				continue;
		}
		b->stats.lost++;
		while (block->oldest) {
			struct sim_version *v = block->oldest;

			block->oldest = v->next;
			version_free(d, v);
		}
		block->newest = NULL;
		d->ndirty--;
	}
	memcpy(d->now, d->stable, (size_t)b->c.window_len);
}

void
disk_reset(struct blkio *b, uint64_t len)
{
	struct sim_disk *d = &b->disk;

	d->free = NULL;
	d->carving = NULL;
	d->carved = VERSION_CHUNK;
	d->block = b->c.block;
	d->nblocks = (unsigned)((len + d->block - 1) / d->block);
	free(d->blocks);
	free(d->dirty);
	d->blocks = sim_must(b, calloc(d->nblocks, sizeof(*d->blocks)));
	d->dirty = sim_must(b, calloc(d->nblocks, sizeof(*d->dirty)));
	d->ndirty = 0;
	if (d->allocated >= len) {
		memset(d->now, 0, (size_t)len);
		memset(d->stable, 0, (size_t)len);
		return;
	}
	/* Of a large one most is never touched. */
	free(d->now);
	free(d->stable);
	d->now = sim_must(b, calloc((size_t)len, 1));
	d->stable = sim_must(b, calloc((size_t)len, 1));
	d->allocated = (size_t)len;
}

void
disk_release(struct blkio *b)
{
	struct sim_disk *d = &b->disk;

	while (d->chunks) {
		struct sim_chunk *next = d->chunks->next;

		free(d->chunks);
		d->chunks = next;
	}
	free(d->blocks);
	free(d->dirty);
	free(d->now);
	free(d->stable);
}
