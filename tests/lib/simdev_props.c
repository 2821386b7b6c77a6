/* SPDX-License-Identifier: MIT */
/*
 * simdev_props.c - the properties of a simulated device: fields of its config,
 * by the names that blkio(3) has for them.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "blkio-ext.h"
#include "simdev_core.h"

enum type { BOOL, INT, U64 };

struct prop {
	const char *name;
	enum type type;
	size_t field; /* of struct blkio */
};

#define PROP(name_, type_, field_) \
	{ .name = (name_), .type = (type_), .field = offsetof(struct blkio, field_) }

static const struct prop props[] = {
	PROP("capacity", U64, c.capacity),
	PROP("request-alignment", INT, c.request_alignment),
	PROP("optimal-io-size", INT, c.optimal_io_size),
	PROP("max-transfer", INT, c.max_transfer),
	PROP("max-segments", INT, c.max_segments),
	PROP("buf-alignment", INT, c.buf_alignment),
	PROP("optimal-buf-alignment", INT, c.buf_alignment),
	PROP("discard-alignment", INT, c.discard_alignment),
	PROP("max-discard-len", U64, c.max_discard),
	PROP("max-write-zeroes-len", U64, c.max_write_zeroes),
	PROP(BLKIO_EXT_ZERO_ALIGNMENT, INT, c.zeroes_alignment),
	PROP(BLKIO_EXT_TAIL_START, U64, c.tail_start),
	PROP("read-only", BOOL, c.read_only),
	PROP("flush-needed", BOOL, c.flush_needed),
	PROP("supports-fua-natively", BOOL, c.fua_native),
	PROP("needs-mem-regions", BOOL, c.needs_regions),
	PROP("needs-mem-region-fd", BOOL, c.needs_region_fds),
	PROP("num-queues", INT, num_queues),
};

/* Not every driver has the extensions. */
static bool
is_there(const struct blkio *b, const struct prop *p)
{
	if (p->field == offsetof(struct blkio, c.zeroes_alignment))
		return b->c.zeroes_alignment > 0;
	if (p->field == offsetof(struct blkio, c.tail_start))
		return b->c.tail;
	return true;
}

/* The field of property NAME of that type. */
static int
find(struct blkio *b, const char *name, enum type type, void **field)
{
	for (size_t i = 0; i < ARRAY_SIZE(props); i++) {
		const struct prop *p = &props[i];

		if (strcmp(p->name, name) != 0 || !is_there(b, p))
			continue;
		if (p->type != type)
			return sim_refuse(ENOTTY, "Property is of another type");
		*field = (char *)b + p->field;
		return 0;
	}
	return sim_refuse(ENOENT, "Unknown property name");
}

int
blkio_get_bool(struct blkio *b, const char *name, bool *value)
{
	void *field;
	int ret = find(b, name, BOOL, &field);

	*value = ret == 0 && *(bool *)field;
	return ret;
}

int
blkio_get_int(struct blkio *b, const char *name, int *value)
{
	void *field;
	int ret = find(b, name, INT, &field);

	*value = ret == 0 ? *(int *)field : 0;
	return ret;
}

int
blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value)
{
	void *field;
	int ret = find(b, name, U64, &field);

	*value = ret == 0 ? *(uint64_t *)field : 0;
	return ret;
}

int
blkio_set_bool(struct blkio *b, const char *name, bool value)
{
	void *field;
	int ret = find(b, name, BOOL, &field);

	if (ret == 0)
		*(bool *)field = value;
	return ret;
}

int
blkio_set_int(struct blkio *b, const char *name, int value)
{
	void *field;
	int ret = find(b, name, INT, &field);

	if (ret == 0)
		*(int *)field = value;
	return ret;
}

int
blkio_set_str(struct blkio *b, const char *name, const char *value)
{
	return sim_refuse(ENOENT, "Unknown property name");
}
