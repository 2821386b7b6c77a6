/* SPDX-License-Identifier: MIT */
/*
 * props.c - properties: one lookup, one place for types, states and text.
 *
 * The path of a get: find the name in the driver's table, check that the state
 * knows it, read the field (or call the getter), compare the type or turn the
 * value into text.
 *
 * The path of a set: find the name, turn text into a value or compare the
 * type, then look at "read-only", at the state, and last at the value. Text
 * is parsed first of all: a value that is none is -EINVAL on a read-only
 * property too.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* --- Getters and setters that drivers share ------------------------------- */

int
prop_get_driver(struct blkio *b, struct prop_value *v)
{
	v->str = strdup(b->driver->name);
	return v->str ? 0 : error_os(ENOMEM, "%s", "");
}

int
prop_set_num_queues(struct blkio *b, const struct prop_value *v)
{
	if (v->i < 0)
		return error_set(EINVAL, "num_queues must be equal to or greater than 0");
	b->num_queues = v->i;
	return 0;
}

int
prop_set_num_poll_queues(struct blkio *b, const struct prop_value *v)
{
	if (v->i < 0)
		return error_set(EINVAL, "num_poll_queues must be equal to or greater than 0");
	b->num_poll_queues = v->i;
	return 0;
}

/* --- Lookup ---------------------------------------------------------------- */

static int
prop_find(struct blkio *b, const char *name, const struct prop **out)
{
	const struct prop *p;

	if (!b)
		return error_set(EINVAL, "blkio must be non-NULL");
	if (!text_valid(name))
		return error_set(EINVAL, "Invalid property name");
	for (p = b->driver->props; p->name; p++) {
		if (!strcmp(p->name, name)) {
			*out = p;
			return 0;
		}
	}
	return error_set(ENOENT, "Unknown property name");
}

static int
prop_wrong_type(enum prop_type wanted, bool set)
{
	switch (wanted) {
	case PROP_BOOL:
		return error_set(ENOTTY, "Property is not a bool");
	case PROP_INT:
		return error_set(ENOTTY, "Property is not an int");
	default:
		return error_set(ENOTTY, "Property is not an unsigned 64-bit int%s",
				 set ? "" : "eger");
	}
}

/* --- Reading --------------------------------------------------------------- */

static void *
prop_field(struct blkio *b, const struct prop *p)
{
	return (char *)b + p->offset;
}

/* Reads P, whatever its type; a string is the caller's to free. */
static int
prop_read(struct blkio *b, const struct prop *p, struct prop_value *v)
{
	const char *str;

	if (!(p->get_in & b->state))
		return error_set(ENODEV, "Device must be connected");
	if (p->get)
		return p->get(b, v);

	switch (p->type) {
	case PROP_BOOL:
		v->b = *(bool *)prop_field(b, p);
		return 0;
	case PROP_INT:
		v->i = *(int *)prop_field(b, p);
		return 0;
	case PROP_U64:
		v->u64 = *(uint64_t *)prop_field(b, p);
		return 0;
	case PROP_STR:
		str = *(char **)prop_field(b, p);
		v->str = strdup(str ? str : "");
		return v->str ? 0 : error_os(ENOMEM, "%s", "");
	}
	return error_set(EINVAL, "Unknown property type"); /* UNTESTED: no such table */
}

static int
prop_get(struct blkio *b, const char *name, enum prop_type type, struct prop_value *v)
{
	const struct prop *p;
	int ret;

	ret = prop_find(b, name, &p);
	if (ret)
		return ret;
	if (p->type != type)
		return prop_wrong_type(type, false);
	return prop_read(b, p, v);
}

int
blkio_get_bool(struct blkio *b, const char *name, bool *value)
{
	struct prop_value v = { .b = false };
	int ret = prop_get(b, name, PROP_BOOL, &v);

	*value = !ret && v.b;
	return ret;
}

int
blkio_get_int(struct blkio *b, const char *name, int *value)
{
	struct prop_value v = { .i = 0 };
	int ret = prop_get(b, name, PROP_INT, &v);

	*value = ret ? 0 : v.i;
	return ret;
}

int
blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value)
{
	struct prop_value v = { .u64 = 0 };
	int ret = prop_get(b, name, PROP_U64, &v);

	*value = ret ? 0 : v.u64;
	return ret;
}

int
blkio_get_str(struct blkio *b, const char *name, char **value)
{
	struct prop_value v = { .str = NULL };
	const struct prop *p;
	char text[24];
	int ret;

	*value = NULL;
	ret = prop_find(b, name, &p);
	if (ret)
		return ret;
	ret = prop_read(b, p, &v);
	if (ret)
		return ret;

	switch (p->type) {
	case PROP_BOOL:
		snprintf(text, sizeof(text), "%s", v.b ? "true" : "false");
		break;
	case PROP_INT:
		snprintf(text, sizeof(text), "%d", v.i);
		break;
	case PROP_U64:
		snprintf(text, sizeof(text), "%" PRIu64, v.u64);
		break;
	case PROP_STR:
		*value = v.str;
		return 0;
	}
	*value = strdup(text);
	return *value ? 0 : error_os(ENOMEM, "%s", "");
}

/* --- Writing --------------------------------------------------------------- */

static int
prop_write(struct blkio *b, const struct prop *p, const struct prop_value *v)
{
	char *str;

	if (!p->set_in)
		return error_set(EACCES, "Property is read-only");
	if (!(p->set_in & b->state)) {
		if (b->state < (p->set_in & -p->set_in))
			return error_set(ENODEV, "Device must be connected");
		return error_set(EBUSY, "Cannot set property in %s state",
				 b->state == STARTED ? "started" : "connected");
	}
	if (p->set)
		return p->set(b, v);

	switch (p->type) {
	case PROP_BOOL:
		*(bool *)prop_field(b, p) = v->b;
		break;
	case PROP_INT:
		*(int *)prop_field(b, p) = v->i;
		break;
	case PROP_U64:
		*(uint64_t *)prop_field(b, p) = v->u64;
		break;
	case PROP_STR:
		str = strdup(v->str);
		if (!str)
			return error_os(ENOMEM, "%s", "");
		free(*(char **)prop_field(b, p));
		*(char **)prop_field(b, p) = str;
		break;
	}
	return 0;
}

static int
prop_set(struct blkio *b, const char *name, enum prop_type type, const struct prop_value *v)
{
	const struct prop *p;
	int ret;

	ret = prop_find(b, name, &p);
	if (ret)
		return ret;
	if (p->type != type)
		return prop_wrong_type(type, true);
	return prop_write(b, p, v);
}

int
blkio_set_bool(struct blkio *b, const char *name, bool value)
{
	struct prop_value v = { .b = value };

	return prop_set(b, name, PROP_BOOL, &v);
}

int
blkio_set_int(struct blkio *b, const char *name, int value)
{
	struct prop_value v = { .i = value };

	return prop_set(b, name, PROP_INT, &v);
}

int
blkio_set_uint64(struct blkio *b, const char *name, uint64_t value)
{
	struct prop_value v = { .u64 = value };

	return prop_set(b, name, PROP_U64, &v);
}

/*
 * Reads decimal digits, nothing before or after them, into *V; false when S is
 * something else or the number is over MAX.
 */
static bool
parse_digits(const char *s, uint64_t max, uint64_t *v)
{
	uint64_t sum = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		unsigned digit = (unsigned char)*s - '0';

		if (digit > 9 || sum > (max - digit) / 10)
			return false;
		sum = sum * 10 + digit;
	}
	*v = sum;
	return true;
}

static int
parse_value(enum prop_type type, const char *s, struct prop_value *v)
{
	bool minus = *s == '-';
	uint64_t u64;

	switch (type) {
	case PROP_BOOL:
		if (strcmp(s, "true") && strcmp(s, "false"))
			return error_set(EINVAL, "Value must be \"true\" or \"false\"");
		v->b = *s == 't';
		return 0;
	case PROP_INT:
		if (*s == '-' || *s == '+')
			s++;
		if (!parse_digits(s, (uint64_t)INT_MAX + minus, &u64))
			return error_set(EINVAL, "Value must be a signed 32-bit integer");
		v->i = minus ? (int)-(int64_t)u64 : (int)u64;
		return 0;
	case PROP_U64:
		if (*s == '+')
			s++;
		if (!parse_digits(s, UINT64_MAX, &v->u64))
			return error_set(EINVAL, "Value must be an unsigned 64-bit integer");
		return 0;
	case PROP_STR:
		v->str = (char *)(uintptr_t)s; /* prop_write() only reads it */
		return 0;
	}
	return error_set(EINVAL, "Unknown property type"); /* UNTESTED: no such table */
}

int
blkio_set_str(struct blkio *b, const char *name, const char *value)
{
	struct prop_value v = { .str = NULL };
	const struct prop *p;
	int ret;

	ret = prop_find(b, name, &p);
	if (ret)
		return ret;
	if (!text_valid(value))
		return error_set(EINVAL, "Invalid value string");
	ret = parse_value(p->type, value, &v);
	if (ret)
		return ret;
	return prop_write(b, p, &v);
}
