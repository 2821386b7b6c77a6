/* SPDX-License-Identifier: MIT */
/*
 * region.c - memory regions of a device: allocated here, mapped, or both.
 *
 * One array, sorted by address then length, holds every region that is known.
 * A region is identified by all six fields; of two regions that are mapped no
 * byte is shared, so a mapped region can be found by an address in it.
 *
 * Queues that want regions (to register them with the kernel) compare the
 * generation with the one they saw last, and copy the array under the lock
 * only when it differs: requests take no lock.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/range.h"
#include "driver.h"

void
regions_init(struct blkio *b)
{
	pthread_mutex_init(&b->region_lock, NULL);
}

static void
region_free_memory(const struct blkio_mem_region *mem)
{
	munmap(mem->addr, mem->len);
	close(mem->fd);
}

void
regions_release(struct blkio *b)
{
	for (size_t i = 0; i < b->regions_len; i++) {
		if (b->regions[i].allocated)
			region_free_memory(&b->regions[i].mem);
	}
	free(b->regions);
	pthread_mutex_destroy(&b->region_lock);
}

/* --- The array ------------------------------------------------------------- */

static bool
region_same(const struct blkio_mem_region *a, const struct blkio_mem_region *b)
{
	return a->addr == b->addr && a->len == b->len && a->iova == b->iova &&
	       a->fd_offset == b->fd_offset && a->fd == b->fd && a->flags == b->flags;
}

static struct region *
region_find(struct blkio *b, const struct blkio_mem_region *mem)
{
	for (size_t i = 0; i < b->regions_len; i++) {
		if (region_same(&b->regions[i].mem, mem))
			return &b->regions[i];
	}
	return NULL;
}

/* Adds MEM, neither allocated nor mapped yet; NULL without memory. Locked. */
static struct region *
region_add(struct blkio *b, const struct blkio_mem_region *mem)
{
	size_t i;

	if (b->regions_len == b->regions_cap) {
		size_t cap = b->regions_cap ? 2 * b->regions_cap : 16;
		struct region *regions = reallocarray(b->regions, cap, sizeof(*regions));

		if (!regions)
			return NULL;
		b->regions = regions;
		b->regions_cap = cap;
	}
	for (i = b->regions_len; i > 0; i--) {
		const struct blkio_mem_region *before = &b->regions[i - 1].mem;

		if (before->addr < mem->addr ||
		    (before->addr == mem->addr && before->len <= mem->len))
			break;
		b->regions[i] = b->regions[i - 1];
	}
	b->regions[i] = (struct region){ .mem = *mem };
	b->regions_len++;
	return &b->regions[i];
}

/* Takes R off when it is neither allocated nor mapped any more. Locked. */
static void
region_drop_unused(struct blkio *b, struct region *r)
{
	size_t i = r - b->regions;

	if (r->allocated || r->mapped)
		return;
	b->regions_len--;
	memmove(r, r + 1, (b->regions_len - i) * sizeof(*r));
}

/* --- Allocated regions ----------------------------------------------------- */

int
blkio_alloc_mem_region(struct blkio *b, struct blkio_mem_region *region, size_t len)
{
	struct blkio_mem_region mem = { .len = len };
	struct region *r;
	int err;

	if (!b || !region)
		return error_set(EINVAL, "blkio and region must be non-NULL");
	if (b->state == CREATED)
		return error_set(ENODEV, "Device must be connected");
	if (len % b->limits.mem_region_alignment)
		return error_set(EINVAL, "len %zu violates mem-region-alignment %" PRIu64, len,
				 b->limits.mem_region_alignment);
	if (len == 0)
		return error_set(EINVAL, "len must be greater than 0");
	if (len > INT64_MAX)
		return error_os(ENOMEM, ": a region of %zu bytes", len);

	mem.fd = memfd_create("blkio-region", MFD_CLOEXEC);
	if (mem.fd < 0)
		return error_os(errno, "%s", ": no file for a memory region");
	if (ftruncate(mem.fd, (off_t)len) < 0) {
		err = errno == EFBIG || errno == EINVAL ? ENOMEM : errno;
		goto close_fd;
	}
	mem.addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, mem.fd, 0);
	if (mem.addr == MAP_FAILED) {
		err = errno;
		goto close_fd;
	}

	pthread_mutex_lock(&b->region_lock);
	r = region_add(b, &mem);
	if (r)
		r->allocated = true;
	pthread_mutex_unlock(&b->region_lock);
	if (!r) {
		region_free_memory(&mem);
		return error_os(ENOMEM, ": a region of %zu bytes", len);
	}
	*region = mem;
	return 0;

close_fd:
	close(mem.fd);
	return error_os(err, ": a region of %zu bytes", len);
}

void
blkio_free_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	struct region *r;
	bool ours = false;

	if (!b || !region)
		return;
	pthread_mutex_lock(&b->region_lock);
	r = region_find(b, region);
	if (r && r->allocated && !r->mapped) {
		ours = true;
		r->allocated = false;
		region_drop_unused(b, r);
	}
	pthread_mutex_unlock(&b->region_lock);

	if (ours)
		region_free_memory(region);
	else
		error_set(EINVAL, "memory region is %s", r ? "still mapped" : "not allocated here");
}

/* --- Mapped regions -------------------------------------------------------- */

/* 0, or the negative errno of a region that cannot be mapped. */
static int
region_check(struct blkio *b, const struct blkio_mem_region *mem)
{
	uint64_t align = b->limits.mem_region_alignment;
	uintptr_t addr = (uintptr_t)mem->addr;

	if (addr % align)
		return error_set(EINVAL, "addr %p violates mem-region-alignment %" PRIu64,
				 mem->addr, align);
	if (mem->len % align)
		return error_set(EINVAL, "len %#zx violates mem-region-alignment %" PRIu64,
				 mem->len, align);
	if (mem->len > UINTPTR_MAX - addr)
		return error_set(EINVAL, "memory region is beyond the address space");
	if (mem->iova || mem->flags)
		return error_set(EINVAL, "iova and flags of a memory region must be 0");
	if (b->limits.needs_mem_region_fd && mem->fd < 0)
		return error_set(EINVAL, "memory region has no file descriptor");

	for (size_t i = 0; i < b->regions_len; i++) {
		const struct region *r = &b->regions[i];

		if (!r->mapped)
			continue;
		if (region_same(&r->mem, mem))
			return error_set(EINVAL, "memory region already mapped");
		if (range_overlap(addr, mem->len, (uintptr_t)r->mem.addr, r->mem.len))
			return error_set(EINVAL, "memory region overlaps one already mapped");
	}
	return 0;
}

int
blkio_map_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	struct region *r;
	int ret;

	if (!b || !region)
		return error_set(EINVAL, "blkio and region must be non-NULL");
	if (b->state == CREATED)
		return error_set(ENODEV, "Device must be connected");
	if (b->state == CONNECTED)
		return error_set(EBUSY, "Device must be started");

	pthread_mutex_lock(&b->region_lock);
	ret = region_check(b, region);
	if (ret)
		goto unlock;
	r = region_find(b, region);
	if (!r)
		r = region_add(b, region);
	if (!r) {
		ret = error_os(ENOMEM, "%s", "");
		goto unlock;
	}
	r->mapped = true;
	r->id = ++b->region_id_last;
	atomic_fetch_add_explicit(&b->region_generation, 1, memory_order_release);
unlock:
	pthread_mutex_unlock(&b->region_lock);
	return ret;
}

void
blkio_unmap_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	struct region *r;

	if (!b || !region || b->state != STARTED)
		return;
	pthread_mutex_lock(&b->region_lock);
	r = region_find(b, region);
	if (r && r->mapped) {
		r->mapped = false;
		r->id = 0;
		region_drop_unused(b, r);
		atomic_fetch_add_explicit(&b->region_generation, 1, memory_order_release);
	}
	pthread_mutex_unlock(&b->region_lock);
}
