/* SPDX-License-Identifier: MIT */
/*
 * drv_model.c - random requests against a queue, held against an array of
 * bytes.
 *
 * One round: start requests until the depth is reached or chance says so, let
 * do_io return some, check each. A write changes the model when it starts (no
 * other request looks there before it ends).
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/range.h"
#include "tests/lib/drv_model.h"

#define SEGMENTS 9

enum kind { READ, WRITE, ZEROES, DISCARD, FLUSH };

struct io {
	struct io *next; /* in flight */
	enum kind kind;
	uint64_t start, len;
	uint32_t flags;
	struct iovec iov[SEGMENTS];
	int iovcnt;
	unsigned char *buf; /* LEN bytes cut into the segments */
	bool own;           /* buf is ours to free */
	bool refused_ok;
};

struct run {
	struct drv_model *m;
	struct io *flying;
	unsigned nflying;
};

static struct io *
find_overlap(struct run *run, uint64_t start, uint64_t len)
{
	for (struct io *io = run->flying; io; io = io->next) {
		if (range_overlap(io->start, io->len, start, len))
			return io;
	}
	return NULL;
}

/* Cuts the buffer into segments of random length, some of them empty. */
static void
make_segments(struct drv_model *m, struct io *io)
{
	uint64_t off = 0;

	io->iovcnt = 0;
	while (io->iovcnt < SEGMENTS - 1 && off < io->len) {
		uint64_t n = align_down(drv_between(&m->seed, 0, io->len - off), m->align);

		if (drv_between(&m->seed, 0, 3) == 0)
			n = 0;
		io->iov[io->iovcnt++] = (struct iovec){ io->buf + off, n };
		off += n;
	}
	if (off < io->len || !io->iovcnt)
		io->iov[io->iovcnt++] = (struct iovec){ io->buf + off, io->len - off };
}

static void
make_buffer(struct run *run, struct io *io)
{
	struct drv_model *m = run->m;

	/* One request at a time has the region: its memory is not shared out. */
	if (m->memory && io->len <= m->memory_len && drv_between(&m->seed, 0, 1)) {
		bool taken = false;

		for (struct io *other = run->flying; other; other = other->next)
			taken |= other->buf && !other->own;
		if (!taken) {
			io->buf = (unsigned char *)m->memory +
				  align_down(drv_between(&m->seed, 0, m->memory_len - io->len),
					     m->align);
			return;
		}
	}
	io->own = true;
	io->buf = drv_alloc(m->align, io->len);
}

static void
model_set(struct drv_model *m, const struct io *io)
{
	unsigned char *at = m->bytes + io->start;
	bool *unknown = m->unknown + io->start;

	switch (io->kind) {
	case WRITE:
		memcpy(at, io->buf, io->len);
		memset(unknown, false, io->len);
		break;
	case ZEROES:
		memset(at, 0, io->len);
		memset(unknown, false, io->len);
		break;
	case DISCARD:
		memset(at, 0, io->len);
		memset(unknown, !m->discard_zeroes, io->len);
		break;
	default:
		break;
	}
}

static void
submit(struct drv_model *m, struct io *io)
{
	uint64_t at = m->base + io->start;

	switch (io->kind) {
	case READ:
		if (io->iovcnt)
			blkioq_readv(m->q, at, io->iov, io->iovcnt, io, 0);
		else
			blkioq_read(m->q, at, io->buf, io->len, io, 0);
		break;
	case WRITE:
		if (io->iovcnt)
			blkioq_writev(m->q, at, io->iov, io->iovcnt, io, io->flags);
		else
			blkioq_write(m->q, at, io->buf, io->len, io, io->flags);
		break;
	case ZEROES:
		blkioq_write_zeroes(m->q, at, io->len, io, io->flags);
		break;
	case DISCARD:
		blkioq_discard(m->q, at, io->len, io, 0);
		break;
	case FLUSH:
		blkioq_flush(m->q, io, 0);
		break;
	}
}

static enum kind
pick_kind(struct drv_model *m)
{
	uint64_t n = drv_between(&m->seed, 0, 99);

	if (n < 40)
		return READ;
	if (n < 75)
		return WRITE;
	if (n < 87)
		return ZEROES;
	if (n < 95 && !m->no_discard)
		return DISCARD;
	return FLUSH;
}

/* Starts one random request, unless it would meet another one. */
static void
start_one(struct run *run)
{
	struct drv_model *m = run->m;
	struct io *io = calloc(1, sizeof(*io));
	uint64_t align = m->align, max;

	ck_assert_ptr_nonnull(io);
	io->kind = pick_kind(m);
	if (io->kind == ZEROES && m->zero_align)
		align = m->zero_align;
	if (io->kind != FLUSH) {
		io->start = align_down(drv_between(&m->seed, 0, m->size - align), align);
		max = m->size - io->start;
		if (max > m->len_max)
			max = m->len_max;
		/* Mostly short ones. */
		if (drv_between(&m->seed, 0, 3) && max > 16 * align)
			max = 16 * align;
		io->len = align_down(drv_between(&m->seed, align, max), align);
		if (find_overlap(run, io->start, io->len)) {
			free(io);
			return;
		}
	}
	if (io->kind == READ || io->kind == WRITE) {
		make_buffer(run, io);
		drv_fill(&m->seed, io->buf, io->len < 4096 ? io->len : 4096);
		for (uint64_t i = 4096; i < io->len; i++)
			io->buf[i] = (unsigned char)(io->buf[i - 4096] * 5 + 1);
		if (drv_between(&m->seed, 0, 1))
			make_segments(m, io);
	}
	if (io->kind == WRITE || io->kind == ZEROES)
		io->flags = drv_between(&m->seed, 0, 3) ? 0 : BLKIO_REQ_FUA;
	if (io->kind == ZEROES)
		io->flags |= drv_between(&m->seed, 0, 3) << 1; /* NO_UNMAP, NO_FALLBACK */
	io->refused_ok = m->refuses_zeroes && (io->flags & BLKIO_REQ_NO_FALLBACK);

	io->next = run->flying;
	run->flying = io;
	run->nflying++;
	submit(m, io);
	if (!io->refused_ok)
		model_set(m, io);
}

static void
check_read(struct drv_model *m, const struct io *io)
{
	for (uint64_t i = 0; i < io->len; i++) {
		uint64_t at = io->start + i;

		if (!m->unknown[at] && io->buf[i] != m->bytes[at])
			ck_abort_msg("byte %" PRIu64 " (%" PRIu64 " of a read of %" PRIu64
				     " in %d segments) is 0x%02x, not 0x%02x",
				     m->base + at, i, io->len, io->iovcnt, io->buf[i],
				     m->bytes[at]);
	}
}

static void
finish_one(struct run *run, const struct blkio_completion *c)
{
	struct io *io = c->user_data, **link;
	struct drv_model *m = run->m;

	for (link = &run->flying; *link != io; link = &(*link)->next)
		ck_assert_msg(*link, "a completion for no request");
	*link = io->next;
	run->nflying--;

	if (c->ret == -EIO && m->injected) {
		if (io->kind != READ && io->kind != FLUSH)
			memset(m->unknown + io->start, true, io->len);
	} else if (c->ret == -EOPNOTSUPP && io->refused_ok) {
		/* and nothing has changed, which reads will see */
	} else {
		ck_assert_msg(c->ret == 0, "kind %d, start %" PRIu64 ", len %" PRIu64
			      ", flags %u: ret %d (%s)", io->kind, m->base + io->start, io->len,
			      io->flags, c->ret, c->error_msg ? c->error_msg : "");
		ck_assert_ptr_null(c->error_msg);
		if (io->kind == READ)
			check_read(m, io);
		if (io->refused_ok)
			model_set(m, io);
	}
	if (io->own)
		free(io->buf);
	free(io);
}

void
drv_model_run(struct drv_model *m)
{
	struct blkio_completion c[16];
	struct run run = { .m = m };
	unsigned started = 0;

	if (!m->bytes)
		m->bytes = calloc(m->size, 1);
	if (!m->unknown)
		m->unknown = calloc(m->size, sizeof(bool));
	ck_assert(m->bytes && m->unknown);

	while (started < m->requests || run.nflying) {
		unsigned burst = drv_between(&m->seed, 1, m->depth);
		int min, n;

		for (; burst && started < m->requests && run.nflying < m->depth; burst--) {
			start_one(&run);
			started++;
		}
		min = (int)drv_between(&m->seed, 0, 16);
		if ((unsigned)min > run.nflying)
			min = (int)run.nflying;
		n = blkioq_do_io(m->q, c, min, (int)drv_between(&m->seed, min, 16), NULL);
		ck_assert_int_ge(n, min);
		for (int i = 0; i < n; i++)
			finish_one(&run, &c[i]);
	}
}

void
drv_model_check(struct drv_model *m)
{
	struct io io = { .kind = READ, .own = true };

	for (; io.start < m->size; io.start += io.len) {
		int ret;

		io.len = m->size - io.start;
		if (io.len > 1 << 20)
			io.len = 1 << 20;
		io.buf = drv_alloc(m->align, io.len);
		do {
			ret = drv_read(m->q, m->base + io.start, io.buf, io.len);
		} while (ret == -EIO && m->injected);
		drv_expect(ret, 0);
		check_read(m, &io);
		free(io.buf);
	}
}

void
drv_model_release(struct drv_model *m)
{
	free(m->bytes);
	free(m->unknown);
	m->bytes = NULL;
	m->unknown = NULL;
}
