/* SPDX-License-Identifier: MIT */
/* slots.c - equal pieces of memory with a line in front; see slots.h. */
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/range.h"

/* A place of LEN bytes for the mapping, aligned beyond what mmap() promises. */
static void *
map_aligned(int fd, size_t len, size_t align)
{
	char *raw, *at;

	raw = mmap(NULL, len + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return MAP_FAILED;
	at = (char *)(uintptr_t)align_up((uint64_t)(uintptr_t)raw, align);
	if (at > raw)
		munmap(raw, (size_t)(at - raw));
	munmap(at + len, align - (size_t)(at - raw));
	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(at, len);
		return MAP_FAILED;
	}
	return at;
}

static size_t
mapped_bytes(const struct slots *s)
{
	return align_up(s->n * s->slot_bytes, (size_t)sysconf(_SC_PAGESIZE));
}

int
slots_init(struct slots *s, struct loop *loop, unsigned n, size_t slot_bytes, size_t align,
	   struct err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t len;

	int ret;

	invariant(n > 0 && n <= UINT16_MAX && is_pow2(align));
	*s = (struct slots){ .loop = loop, .slot_bytes = align_up(slot_bytes, align), .n = n };
	len = mapped_bytes(s);
	s->stack = calloc(n, sizeof(*s->stack));
	if (!s->stack) {
		ret = err_set(err, -ENOMEM, "slots: out of memory");
		goto fail;
	}
	s->fd = memfd_create("blkgate-slots", MFD_CLOEXEC);
	if (s->fd < 0) {
		ret = err_set(err, -errno, "slots: memfd_create: %s", strerror(errno));
		goto free_stack;
	}
	s->mem = ftruncate(s->fd, (off_t)len) < 0 ? MAP_FAILED :
						    map_aligned(s->fd, len, MAX(align, page));
	if (s->mem == MAP_FAILED) {
		ret = err_set(err, -errno, "slots: %zu bytes: %s", len, strerror(errno));
		goto close_fd;
	}
	co_sem_init(&s->free, n);
	while (s->depth < n) {
		s->stack[s->depth] = (uint16_t)(n - 1 - s->depth);
		s->depth++;
	}
	return 0;

close_fd:
	close(s->fd);
free_stack:
	free(s->stack);
fail:
	*s = (struct slots){ 0 }; /* there is nothing to be freed */
	return ret;
}

void
slots_fini(struct slots *s)
{
	if (s->n == 0)
		return;
	invariant(s->depth == s->n);
	munmap(s->mem, mapped_bytes(s));
	close(s->fd);
	free(s->stack);
	s->n = 0;
}

void *
slots_co_get(struct slots *s)
{
	co_sem_down(&s->free, loop_sched(s->loop));
	return s->mem + s->stack[--s->depth] * s->slot_bytes;
}

void
slots_put(struct slots *s, void *slot)
{
	s->stack[s->depth++] = (uint16_t)((size_t)((char *)slot - s->mem) / s->slot_bytes);
	co_sem_up(&s->free);
}

void
slots_region(const struct slots *s, struct buf_region *region)
{
	*region = (struct buf_region){
		.addr = s->mem,
		.len_bytes = mapped_bytes(s),
		.fd = s->fd,
		.fd_offset = 0,
	};
}
