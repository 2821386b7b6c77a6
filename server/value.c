/* SPDX-License-Identifier: MIT */
/* value.c - the values of options; see value.h. */
#include "value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/annotate.h"
#include "base/range.h"
#include "server/limits.h"
#include "server/nbd/proto.h"

int
value_unsigned(const char *option, const char *text, unsigned min, unsigned max, unsigned *value,
	       struct err *err)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v < min || v > max)
		return err_set(err, -EINVAL, "%s=%s: must be a number from %u to %u", option, text,
			       min, max);
	*value = (unsigned)v;
	return 0;
}

int
value_size(const char *text, uint64_t *value, struct err *err)
{
	static const char suffixes[] = "kmgt";
	unsigned shift = 0;
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*end && !end[1]) {
		char lower = (char)(*end | 0x20);
		const char *at = strchr(suffixes, lower);

		if (at) {
			shift = 10 * (unsigned)(at - suffixes + 1);
			end++;
		}
	}
	if (text[0] < '0' || text[0] > '9' || *end || errno || v > (uint64_t)INT64_MAX >> shift)
		return err_set(err, -EINVAL,
			       "size %s: must be bytes, or a number with k, M, G or T, below 8 EiB",
			       text);
	*value = v << shift;
	return 0;
}

/* Up to a colon or the end, where it moves *AT: a size from MIN to MAX, or nothing for 0. */
static int
size_part(const char *name, const char **at, uint32_t min, uint32_t max, uint32_t *value,
	  struct err *err)
{
	size_t len = strcspn(*at, ":");
	char text[32];
	uint64_t v;
	int ret;

	*value = 0;
	if (len > 0) {
		if (len >= sizeof(text))
			return err_set(err, -EINVAL, "%s %.*s: is no size", name, (int)len, *at);
		memcpy(text, *at, len);
		text[len] = '\0';
		if ((ret = value_size(text, &v, err)) < 0)
			return ret;
		if (v < min || v > max)
			return err_set(err, -EINVAL, "%s %s: must be from %u to %u bytes", name, text,
				       min, max);
		*value = (uint32_t)v;
	}
	*at += len;
	return 0;
}

int
value_block_sizes(const char *option, const char *text, struct block_sizes *sizes, struct err *err)
{
	struct block_sizes s = { 0 };
	const struct {
		const char *name;
		uint32_t min, max, *value;
	} parts[] = {
		{ "minimum", 1, 64u << 10, &s.minimum },
		{ "preferred", 512, LIMIT_PAYLOAD_ADVERTISED, &s.preferred },
		{ "maximum", LIMIT_UNFRAGMENTED, LIMIT_PAYLOAD_SERVED, &s.maximum },
	};
	const char *at = text;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && ret == 0; i++) {
		if (i > 0 && *at != ':')
			break;
		at += i > 0;
		ret = size_part(parts[i].name, &at, parts[i].min, parts[i].max, parts[i].value,
				err);
	}
	if (ret < 0)
		goto bad;
	ret = -EINVAL;
	if (*at)
		err_set(err, ret, "must be MIN:PREFERRED:MAX");
	else if (s.minimum && !is_pow2(s.minimum))
		err_set(err, ret, "minimum %u: must be a power of two", s.minimum);
	else if (s.preferred && !is_pow2(s.preferred))
		err_set(err, ret, "preferred %u: must be a power of two", s.preferred);
	else if (s.preferred && s.preferred < s.minimum)
		err_set(err, ret, "preferred %u: must not be less than the minimum %u", s.preferred,
			s.minimum);
	else if (s.maximum && s.maximum < MAX(s.minimum, s.preferred))
		err_set(err, ret, "maximum %u: must not be less than the other two", s.maximum);
	else if (s.maximum && s.minimum && s.maximum % s.minimum)
		err_set(err, ret, "maximum %u: must be a multiple of the minimum %u", s.maximum,
			s.minimum);
	else
		ret = 0;
	if (ret == 0) {
		*sizes = s;
		return 0;
	}
bad:
	err_prefix(err, "%s=%s", option, text);
	return ret;
}

int
value_word(const char *option, const char *text, const struct value_word *words, size_t n,
	   int *value, struct err *err)
{
	char choices[128] = "";

	for (size_t i = 0; i < n; i++) {
		if (strcmp(text, words[i].text) == 0) {
			*value = words[i].value;
			return 0;
		}
		if (i > 0)
			strncat(choices, ", ", sizeof(choices) - strlen(choices) - 1);
		strncat(choices, words[i].text, sizeof(choices) - strlen(choices) - 1);
	}
	return err_set(err, -EINVAL, "%s=%s: must be one of %s", option, text, choices);
}

int
value_mode(const char *option, const char *text, unsigned *mode, struct err *err)
{
	char *end;
	unsigned long v = strtoul(text, &end, 8);

	if (text[0] < '0' || text[0] > '7' || *end || v > 0777)
		return err_set(err, -EINVAL, "%s=%s: must be octal, 0 to 0777", option, text);
	*mode = (unsigned)v;
	return 0;
}

int
value_check_string(const char *what, const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (len > LIMIT_STRING_BYTES)
		return err_set(err, -EINVAL, "%s of %zu bytes: must be at most %u", what, len,
			       LIMIT_STRING_BYTES);
	if (!nbd_string_ok(text, len))
		return err_set(err, -EINVAL, "%s %s: must be UTF-8", what, text);
	return 0;
}
