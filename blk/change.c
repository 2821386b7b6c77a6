/* SPDX-License-Identifier: MIT */
/* change.c - begin and end of a request that changes data; see change.h. */
#include "change.h"

#include <errno.h>

#include "base/range.h"
#include "io.h"
#include "pad.h"
#include "slots.h"

static void co_fn
place_take(struct change *c, uint64_t off, uint64_t len)
{
	struct dev *dev = queue_dev(c->q);
	struct pad pad;
	bool padded;

	if (dev->limits.request_alignment == 1 || len == 0)
		return;
	padded = pad_plan(&pad, dev, off, len);
	track_co_begin(&dev->track, queue_loop(c->q), &c->req, pad.start, pad.end - pad.start,
		       padded);
	c->tracked = true;
	if (c->req.waited)
		queue_count(c->q, QUEUE_WAITED, 1);
	/* After its turn has come: those who wait for one block hold no memory. */
	if (padded)
		c->pads = slots_co_get(queue_pads(c->q));
}

static void co_fn
place_release(struct change *c)
{
	if (c->tracked)
		track_end(&queue_dev(c->q)->track, queue_loop(c->q), &c->req);
	if (c->pads)
		slots_put(queue_pads(c->q), c->pads);
}

int
change_co_begin(struct change *c, struct queue *q, uint64_t off, uint64_t len, unsigned flags)
{
	struct dev *dev = queue_dev(q);
	int ret;

	c->q = q;
	c->fua = flags & BLK_FUA && !dev->unsafe;
	c->tracked = false;
	c->pads = NULL;
	ret = drain_co_enter(queue_door(q));
	if (ret < 0)
		return ret;
	if (dev->read_only)
		ret = -EPERM;
	else if (!range_ok(off, len, dev->size_bytes) ||
		 (c->fua && dev_flush_failed(dev)))
		ret = -EIO;
	if (ret < 0) {
		drain_leave(queue_door(q));
		return ret;
	}
	place_take(c, off, len);
	return 0;
}

bool
change_carries_fua(const struct change *c, bool single)
{
	return c->fua && (queue_dev(c->q)->fua_native || single);
}

static int co_fn
make_durable(struct change *c, bool carried)
{
	struct dev *dev = queue_dev(c->q);

	if (carried || !dev->flush_needed)
		return dev_flush_failed(dev) ? -EIO : 0;
	return flush_co(c->q);
}

int
change_co_end(struct change *c, int ret, bool carried)
{
	queue_changed(c->q);
	place_release(c);
	if (c->fua && ret == 0)
		ret = make_durable(c, carried);
	drain_leave(queue_door(c->q));
	return ret;
}
