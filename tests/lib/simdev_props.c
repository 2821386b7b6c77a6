/* SPDX-License-Identifier: MIT */
/*
 * simdev_props.c - the properties of a simulated device: its configuration, by
 * the names that blkio(3) has for them, and some more.
 *
 * A real device says what it is like; this one is told, as text in front of its
 * start: see sim_fault_add() for faults. "path" is its size.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/range.h"
#include "blkio-ext.h"
#include "simdev_core.h"

enum type { BOOL, INT, U64, WORD, TEXT, FAULT };

struct prop {
	const char *name;
	enum type type;
	size_t field;		  /* of struct blkio */
	const char *const *words; /* of a WORD, by its value; up to NULL */
};

#define PROP(name_, type_, field_) \
	{ .name = (name_), .type = (type_), .field = offsetof(struct blkio, field_) }
#define PROP_WORD(name_, field_, ...) \
	{ .name = (name_), .type = WORD, .field = offsetof(struct blkio, field_), \
	  .words = (const char *const[]){ __VA_ARGS__, NULL } }

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

	/* Of no other driver. */
	PROP("path", U64, c.capacity),
	PROP("seed", U64, c.seed),
	PROP("status", BOOL, c.status),
	PROP("spurious", BOOL, c.spurious),
	PROP("not-now-permille", INT, c.not_now_permille),
	PROP("write-zeroes-alignment", INT, c.zeroes_alignment),
	PROP_WORD("zeroes", c.zeroes, "done", "no-fast", "none"),
	PROP_WORD("discards", c.discards, "units", "any", "none"),
	PROP_WORD("discarded", c.discarded, "kept", "zero", "either"),
	PROP("fault", FAULT, c.faults),
	PROP("control", TEXT, control),
};

/* Not every driver has the extensions. */
static bool
is_there(const struct blkio *b, const struct prop *p)
{
	if (strcmp(p->name, BLKIO_EXT_ZERO_ALIGNMENT) == 0)
		return b->c.zeroes_alignment > 0;
	if (strcmp(p->name, BLKIO_EXT_TAIL_START) == 0)
		return b->c.tail;
	return true;
}

static const struct prop *
find(const struct blkio *b, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(props); i++)
		if (strcmp(props[i].name, name) == 0 && is_there(b, &props[i]))
			return &props[i];
	return NULL;
}

/* The field of property NAME of that type. */
static int
find_field(struct blkio *b, const char *name, enum type type, void **field)
{
	const struct prop *p = find(b, name);

	if (!p)
		return sim_refuse(ENOENT, "Unknown property name");
	if (p->type != type)
		return sim_refuse(ENOTTY, "Property is of another type");
	*field = (char *)b + p->field;
	return 0;
}

/* --- Numbers ------------------------------------------------------------------ */

int
blkio_get_bool(struct blkio *b, const char *name, bool *value)
{
	void *field;
	int ret = find_field(b, name, BOOL, &field);

	*value = ret == 0 && *(bool *)field;
	return ret;
}

int
blkio_get_int(struct blkio *b, const char *name, int *value)
{
	void *field;
	int ret = find_field(b, name, INT, &field);

	*value = ret == 0 ? *(int *)field : 0;
	return ret;
}

int
blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value)
{
	void *field;
	int ret = find_field(b, name, U64, &field);

	*value = ret == 0 ? *(uint64_t *)field : 0;
	return ret;
}

int
blkio_set_bool(struct blkio *b, const char *name, bool value)
{
	void *field;
	int ret = find_field(b, name, BOOL, &field);

	if (ret == 0)
		*(bool *)field = value;
	return ret;
}

int
blkio_set_int(struct blkio *b, const char *name, int value)
{
	void *field;
	int ret = find_field(b, name, INT, &field);

	if (ret == 0)
		*(int *)field = value;
	return ret;
}

/* --- Text --------------------------------------------------------------------- */

/* A number with k, M or G behind it, or with nothing; *END is where it ends. */
static uint64_t
number(const char *text, char **end)
{
	static const char suffixes[] = "kMG";
	uint64_t n = strtoull(text, end, 10);
	const char *suffix = **end && *end != text ? strchr(suffixes, **end) : NULL;

	if (!suffix)
		return n;
	++*end;
	return n << (10 * (suffix - suffixes + 1));
}

static bool
whole_number(const char *text, uint64_t max, uint64_t *n)
{
	char *end;

	*n = number(text, &end);
	return end != text && *end == '\0' && *n <= max;
}

static bool
word_index(const char *const *words, const char *text, unsigned *index)
{
	for (*index = 0; words[*index]; ++*index)
		if (strcmp(words[*index], text) == 0)
			return true;
	return false;
}

static bool
set_field(const struct prop *p, void *field, const char *value)
{
	static const char *const bools[] = { "false", "true", NULL };
	unsigned index;
	uint64_t n;

	switch (p->type) {
	case BOOL:
		if (!word_index(bools, value, &index))
			return false;
		*(bool *)field = index;
		return true;
	case INT:
		if (!whole_number(value, INT32_MAX, &n))
			return false;
		*(int *)field = (int)n;
		return true;
	case U64:
		if (!whole_number(value, INT64_MAX, &n))
			return false;
		*(uint64_t *)field = n;
		return true;
	case WORD:
		if (!word_index(p->words, value, &index))
			return false;
		*(unsigned *)field = index;
		return true;
	case TEXT:
	default:
		if (strlen(value) >= SIM_CONTROL_MAX)
			return false;
		strcpy(field, value);
		return true;
	}
}

int
blkio_set_str(struct blkio *b, const char *name, const char *value)
{
	const struct prop *p = find(b, name);

	if (!p)
		return sim_refuse(ENOENT, "Unknown property name");
	if (b->started)
		return sim_refuse(EBUSY, "Cannot set property in started state");
	if (p->type == FAULT)
		return sim_fault_add(b, value);
	if (!set_field(p, (char *)b + p->field, value))
		return sim_refuse(EINVAL, "Value cannot be that of the property");
	return 0;
}

/* --- Faults ------------------------------------------------------------------- */

/* "OPS" or "OPS@OFF+LEN". */
static bool
parse_where(struct sim_fault *f, char *text)
{
	char *range = strchr(text, '@'), *end;

	if (range) {
		uint64_t len;

		*range++ = '\0';
		f->off = number(range, &end);
		if (end == range || *end != '+' || !whole_number(end + 1, INT64_MAX, &len) ||
		    len == 0 || f->off > INT64_MAX - len)
			return false;
		f->end = f->off + len;
	}
	for (char *name; (name = strsep(&text, "+"));) {
		unsigned op = 0;

		while (op <= SIM_OPS && strcmp(sim_op_names[op], name) != 0)
			op++;
		if (op > SIM_OPS)
			return false;
		f->ops |= 1u << op;
	}
	return true;
}

static bool
parse_what(struct sim_fault *f, const char *text)
{
	uint64_t n;

	f->hold = strcmp(text, "hold") == 0;
	if (f->hold)
		return true;
	if (whole_number(text, INT16_MAX, &n)) {
		f->ret = -(int)n;
		return n > 0;
	}
	for (int error = 1; error < 134; error++) {
		const char *name = strerrorname_np(error);

		if (name && strcmp(name, text) == 0)
			f->ret = -error;
	}
	return f->ret < 0;
}

static bool
parse_option(struct sim_fault *f, char *text)
{
	char *name = strsep(&text, "=");
	uint64_t n;

	if (!text) {
		f->fua_only = true;
		return strcmp(name, "fua") == 0;
	}
	if (!whole_number(text, INT32_MAX, &n))
		return false;
	if (strcmp(name, "skip") == 0)
		f->skip = (unsigned)n;
	else if (strcmp(name, "times") == 0)
		f->times = (unsigned)n;
	else if (strcmp(name, "permille") == 0)
		f->permille = (unsigned)n;
	else
		return false;
	return true;
}

int
sim_fault_add(struct blkio *b, const char *text)
{
	struct sim_fault f = { 0 };
	char copy[256], *rest = copy, *where, *what;
	bool good;
	unsigned n = 0;

	if (strlen(text) >= sizeof(copy))
		return sim_refuse(EINVAL, "fault: too long");
	strcpy(copy, text);
	where = strsep(&rest, ":");
	what = strsep(&rest, ":");
	good = what && parse_where(&f, where) && parse_what(&f, what);
	while (good && rest)
		good = parse_option(&f, strsep(&rest, ":"));
	if (!good)
		return sim_refuse(EINVAL, "fault %s: must be OPS[@OFF+LEN]:WHAT[:OPTION...]", text);
	while (n < SIM_FAULTS_MAX && b->c.faults[n].ops)
		n++;
	if (n == SIM_FAULTS_MAX)
		return sim_refuse(ENOSPC, "fault: there are %d", SIM_FAULTS_MAX);
	b->c.faults[n] = f;
	b->fault_hits[n] = 0;
	return 0;
}
