/* SPDX-License-Identifier: MIT */
/* unit_disk.c - a device with a queue on a stepped loop; see unit_disk.h. */
#include "unit_disk.h"

#include <stdio.h>
#include <stdlib.h>

void
unit_disk_open(struct unit_disk *d, const struct dev_config *config)
{
	struct err err;

	unit_loop_open(&d->u);
	if (dev_open(&d->dev, config, &err) < 0 ||
	    queue_new(&d->q, d->dev, 0, d->u.loop, &err) < 0) {
		fprintf(stderr, "unit_disk: %s\n", err.text);
		abort();
	}
	loop_assert();
	queue_attach(d->q);
}

static void
detach_main(void *arg)
{
	co_assert();
	queue_co_detach(((struct unit_disk *)arg)->q);
}

void
unit_disk_close(struct unit_disk *d)
{
	unit_loop_co(&d->u, detach_main, d);
	queue_free(d->q);
	dev_close(d->dev);
	unit_loop_close(&d->u);
}

static void
request_main(void *arg)
{
	struct unit_request *r = arg;
	struct queue *q = r->disk->q;

	co_assert();
	switch (r->op) {
	case UNIT_READ:
		r->ret = blk_co_read(q, r->off, r->iov, r->iovcnt);
		break;
	case UNIT_WRITE:
		r->ret = blk_co_write(q, r->off, r->iov, r->iovcnt, r->flags);
		break;
	case UNIT_ZEROES:
		r->ret = blk_co_write_zeroes(q, r->off, r->len, r->flags);
		break;
	case UNIT_DISCARD:
		r->ret = blk_co_discard(q, r->off, r->len, r->flags);
		break;
	case UNIT_FLUSH:
		r->ret = blk_co_flush(q);
		break;
	}
	r->done = true;
}

void
unit_disk_start(struct unit_disk *d, struct unit_request *r)
{
	r->disk = d;
	loop_assert();
	if (co_spawn(loop_sched(d->u.loop), CO_STACK_REQUEST, NULL, request_main, r) < 0)
		abort();
}

int
unit_disk_run(struct unit_disk *d, struct unit_request r)
{
	r.done = false;
	unit_disk_start(d, &r);
	unit_loop_until(&d->u, &r.done);
	return r.ret;
}

int
unit_disk_read(struct unit_disk *d, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return unit_disk_run(d, (struct unit_request){
					.op = UNIT_READ, .off = off, .iov = &iov, .iovcnt = 1 });
}

int
unit_disk_write(struct unit_disk *d, uint64_t off, const void *buf, size_t len, unsigned flags)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };

	return unit_disk_run(d, (struct unit_request){ .op = UNIT_WRITE,
						       .off = off,
						       .iov = &iov,
						       .iovcnt = 1,
						       .flags = flags });
}

int
unit_disk_zeroes(struct unit_disk *d, uint64_t off, uint64_t len, unsigned flags)
{
	return unit_disk_run(d, (struct unit_request){ .op = UNIT_ZEROES,
						       .off = off,
						       .len = len,
						       .flags = flags });
}

int
unit_disk_discard(struct unit_disk *d, uint64_t off, uint64_t len, unsigned flags)
{
	return unit_disk_run(d, (struct unit_request){ .op = UNIT_DISCARD,
						       .off = off,
						       .len = len,
						       .flags = flags });
}

int
unit_disk_flush(struct unit_disk *d)
{
	return unit_disk_run(d, (struct unit_request){ .op = UNIT_FLUSH });
}
