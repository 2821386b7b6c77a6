/* SPDX-License-Identifier: MIT */
/* der.c - goes through DER, down and along; see der.h. */
#include "der.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

enum { OCTET_STRING = 0x04, SEQUENCE = 0x30, SET = 0x31, CONSTRUCTED = 0x20 };

/* Where it is: AT, in DEPTH values, each of which ends where those around it do or before. */
struct der {
	const uint8_t *at;
	const uint8_t *ends[DER_DEPTH_MAX];
	unsigned depth;
};

struct value {
	uint8_t tag;
	const uint8_t *data;
	size_t len;
};

static struct der
begin(const uint8_t *data, size_t len)
{
	return (struct der){ .at = data, .ends = { data + len } };
}

/* One byte, and of universal ones only sequences and sets are constructed, and always. */
static bool
tag_is_good(uint8_t tag)
{
	bool universal = (tag & 0xc0) == 0;
	bool is_list = (tag | CONSTRUCTED) == SEQUENCE || (tag | CONSTRUCTED) == SET;

	return tag != 0 && (tag & 0x1f) != 0x1f &&
	       (!universal || is_list == !!(tag & CONSTRUCTED));
}

/* Definite, and in as few bytes as it can be. */
static bool
length_read(const uint8_t **at, const uint8_t *end, size_t *len)
{
	unsigned more;

	if (*at == end)
		return false;
	*len = *(*at)++;
	if (*len < 0x80)
		return true;
	more = *len & 0x7f;
	if (more == 0 || more > 4 || (size_t)(end - *at) < more || **at == 0)
		return false;
	for (*len = 0; more > 0; more--)
		*len = *len << 8 | *(*at)++;
	return *len >= 0x80;
}

/* The next one, which is gone into if there are others in it. 0: the end. */
static int
next(struct der *der, struct value *value)
{
	const uint8_t *end;

	while (der->at == der->ends[der->depth]) {
		if (der->depth == 0)
			return 0;
		der->depth--;
	}
	end = der->ends[der->depth];
	value->tag = *der->at++;
	if (!tag_is_good(value->tag) || !length_read(&der->at, end, &value->len) ||
	    value->len > (size_t)(end - der->at))
		return -EBADMSG;
	value->data = der->at;
	if (!(value->tag & CONSTRUCTED)) {
		der->at += value->len;
		return 1;
	}
	/* What is a set in a certificate has something in it; GnuTLS compares them all. */
	if (++der->depth == DER_DEPTH_MAX || (value->tag == SET && value->len == 0))
		return -EBADMSG;
	der->ends[der->depth] = der->at + value->len;
	return 1;
}

/* Those in a string, or how many there could be at most: each has two bytes. */
static int
count_string(const struct value *string)
{
	struct der der = begin(string->data, string->len);
	struct value value;
	int count = 0, ret;

	while ((ret = next(&der, &value)) > 0)
		count++;
	return ret < 0 ? (int)(string->len / 2) : count;
}

int
der_count(const void *data, size_t len)
{
	struct der der = begin(data, len);
	struct value value;
	int count = 0, ret;

	while ((ret = next(&der, &value)) > 0) {
		if (count++ == 0 && value.data + value.len != der.ends[0])
			return -EBADMSG;
		if (value.tag == OCTET_STRING)
			count += count_string(&value);
	}
	return ret < 0 || count == 0 ? -EBADMSG : count;
}
