/* SPDX-License-Identifier: MIT */
/*
 * pad.c - unaligned reads, and writes as read-modify-write; see pad.h.
 *
 * The path of pad_co_write(): read the block in front and the block behind
 * (one read when they lie together and are all there is), put the caller's
 * ends of them into pad memory, write [head block][caller's middle][tail
 * block] as one transfer.
 */
#include "pad.h"

#include <string.h>

#include "base/range.h"
#include "slots.h"
#include "transfer.h"

bool
pad_plan(struct pad *pad, const struct dev *dev, uint64_t off, uint64_t len)
{
	uint64_t align = dev->limits.request_alignment;

	pad->start = dev_align_down(dev, off);
	pad->end = dev_align_up(dev, off + len);
	pad->head = (size_t)(off - pad->start);
	pad->tail = (size_t)(pad->end - (off + len));
	pad->head_len = pad->tail_len = 0;
	if (pad->head == 0 && pad->tail == 0)
		return false;
	/* A padded end is below the tail, so the range is a block at least. */
	if (pad->end - pad->start == align) {
		pad->head_len = (size_t)align;
		return true;
	}
	if (pad->head > 0)
		pad->head_len = (size_t)align;
	if (pad->tail > 0)
		pad->tail_len = (size_t)align;
	return true;
}

/* Bytes of the caller that lie in the head block, and in the tail block. */
static size_t
own_in_head(const struct pad *pad, size_t len)
{
	return pad->head_len ? MIN(pad->head_len - pad->head, len) : 0;
}

static size_t
own_in_tail(const struct pad *pad)
{
	return pad->tail_len ? pad->tail_len - pad->tail : 0;
}

/* Moves LEN bytes between MEM and the bytes from SKIP on of IOV. */
static void
iov_copy(const struct iovec *iov, size_t skip, char *mem, size_t len, bool to_mem)
{
	while (len > 0) {
		char *at = (char *)iov->iov_base + skip;
		size_t n;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			iov++;
			continue;
		}
		n = MIN(len, iov->iov_len - skip);
		if (to_mem)
			memcpy(mem, at, n);
		else
			memcpy(at, mem, n);
		mem += n;
		skip += n;
		len -= n;
	}
}

/* Moves the caller's ends to or from the pad memory. IOV NULL: zeroes. */
static void
copy_ends(const struct pad *pad, const struct iovec *iov, size_t len, char *mem, bool to_mem)
{
	size_t in_tail = own_in_tail(pad);

	if (!iov) {
		invariant(own_in_head(pad, len) + in_tail == len);
		memset(mem + pad->head, 0, own_in_head(pad, len));
		memset(mem + pad->head_len, 0, in_tail);
		return;
	}
	iov_copy(iov, 0, mem + pad->head, own_in_head(pad, len), to_mem);
	iov_copy(iov, len - in_tail, mem + pad->head_len, in_tail, to_mem);
}

/* The whole range: pad memory at the ends, the caller's in the middle. */
static int co_fn
transfer_padded(struct queue *q, const struct pad *pad, const struct iovec *iov, size_t len,
		char *mem, bool write, uint32_t flags)
{
	const struct iovec head = { mem, pad->head_len };
	const struct iovec tail = { mem + pad->head_len, pad->tail_len };
	size_t in_head = own_in_head(pad, len);
	const struct transfer t = {
		.q = q,
		.write = write,
		.flags = flags,
		.nruns = 3,
		.runs = {
			{ .iov = &head, .len = head.iov_len },
			{ .iov = iov, .skip = in_head, .len = len - in_head - own_in_tail(pad) },
			{ .iov = &tail, .len = tail.iov_len },
		},
	};

	return transfer_co(&t, pad->start);
}

int
pad_co_read(struct queue *q, uint64_t off, const struct iovec *iov, size_t len)
{
	struct slots *slots = queue_pads(q);
	struct pad pad;
	char *mem;
	int ret;

	pad_plan(&pad, queue_dev(q), off, len);
	mem = slots_co_get(slots);
	ret = transfer_padded(q, &pad, iov, len, mem, false, 0);
	if (ret == 0)
		copy_ends(&pad, iov, len, mem, false);
	slots_put(slots, mem);
	return ret;
}

static int co_fn
read_block(struct queue *q, uint64_t off, char *mem, size_t len)
{
	const struct iovec iov = { mem, len };
	const struct transfer t = { .q = q, .nruns = 1, .runs = { { .iov = &iov, .len = len } } };

	return transfer_co(&t, off);
}

/* Fills pad memory with what the device has in the blocks at the ends. */
static int co_fn
read_ends(struct queue *q, const struct pad *pad, char *mem)
{
	int ret = 0;

	queue_count(q, QUEUE_RMW_HEADS, pad->head > 0);
	queue_count(q, QUEUE_RMW_TAILS, pad->tail > 0);
	if (pad->head_len + pad->tail_len == pad->end - pad->start)
		return read_block(q, pad->start, mem, pad->head_len + pad->tail_len);
	if (pad->head_len)
		ret = read_block(q, pad->start, mem, pad->head_len);
	if (ret == 0 && pad->tail_len)
		ret = read_block(q, pad->end - pad->tail_len, mem + pad->head_len, pad->tail_len);
	return ret;
}

int
pad_co_write(struct queue *q, void *pads, uint64_t off, const struct iovec *iov, size_t len,
	     uint32_t flags)
{
	struct pad pad;
	int ret;

	pad_plan(&pad, queue_dev(q), off, len);
	ret = read_ends(q, &pad, pads);
	if (ret < 0)
		return ret;
	copy_ends(&pad, iov, len, pads, true);
	return transfer_padded(q, &pad, iov, len, pads, true, flags);
}
