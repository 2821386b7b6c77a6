/* SPDX-License-Identifier: MIT */
/* wire.c - a bounded reader over the data of one option; see wire.h. */
#include "wire.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"

void
wire_init(struct wire *wire, struct chan *chan, uint32_t len)
{
	*wire = (struct wire){ .chan = chan, .left = len };
}

/* Whether LEN more bytes may be read now. */
static bool
wire_has(struct wire *wire, uint32_t len)
{
	if (len > wire->left)
		wire->is_short = true;
	return !wire->is_short && wire->error == 0;
}

void
wire_co_bytes(struct wire *wire, void *buf, uint32_t len)
{
	if (!wire_has(wire, len)) {
		memset(buf, 0, len);
		return;
	}
	wire->error = chan_co_read(wire->chan, buf, len, CHAN_INSIDE);
	wire->left -= len;
	if (wire->error)
		memset(buf, 0, len);
}

uint16_t
wire_co_u16(struct wire *wire)
{
	uint8_t bytes[2];

	wire_co_bytes(wire, bytes, sizeof(bytes));
	return get_be16(bytes);
}

uint32_t
wire_co_u32(struct wire *wire)
{
	uint8_t bytes[4];

	wire_co_bytes(wire, bytes, sizeof(bytes));
	return get_be32(bytes);
}

void
wire_co_skip(struct wire *wire, uint32_t len)
{
	if (!wire_has(wire, len))
		return;
	wire->error = chan_co_skip(wire->chan, len);
	wire->left -= len;
}

int
wire_co_end(struct wire *wire)
{
	bool exact = wire->left == 0 && !wire->is_short;

	if (wire->error == 0 && wire->left > 0) {
		wire->error = chan_co_skip(wire->chan, wire->left);
		wire->left = 0;
	}
	if (wire->error)
		return wire->error;
	return exact ? 0 : -EBADMSG;
}
