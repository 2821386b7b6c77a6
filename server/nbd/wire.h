/* SPDX-License-Identifier: MIT */
/*
 * wire.h - reading the data of one option: never past its end, never buffered.
 *
 * 1. A wire is the option's bytes that are still to come. Reading beyond them
 *    gives zeroes and marks it short; nobody has to check in between.
 * 2. The transport's error is kept, and everything after it reads as zero.
 * 3. Nothing read may be applied before wire_co_end() said that all of it was
 *    there: that call also keeps the stream in step.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"

struct wire {
	struct chan *chan;
	uint32_t left; /* bytes of the option not read yet */
	bool is_short; /* somebody asked for more than there was */
	int error;     /* 0, or -errno of the transport */
};

void wire_init(struct wire *wire, struct chan *chan, uint32_t len);

uint16_t wire_co_u16(struct wire *wire) co_fn;
uint32_t wire_co_u32(struct wire *wire) co_fn;
void wire_co_bytes(struct wire *wire, void *buf, uint32_t len) co_fn;
void wire_co_skip(struct wire *wire, uint32_t len) co_fn;

/*
 * Drops what is left. Returns 0 when exactly all of the option was read,
 * -EBADMSG when there was too little or too much, or the transport's error.
 */
int wire_co_end(struct wire *wire) co_fn;

#endif
