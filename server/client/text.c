/* SPDX-License-Identifier: MIT */
/* text.c - strings that a server chose, made safe to show; see text.h. */
#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static bool terminal_utf8;

void
text_init(bool utf8)
{
	terminal_utf8 = utf8;
}

/* --- Characters ------------------------------------------------------------- */

/*
 * Controls; soft hyphen; directions and their isolates; what joins, separates
 * or fills without being seen; the byte order mark; tags.
 */
static const struct {
	uint32_t first, last;
} unsafe[] = {
	{ 0x0000, 0x001f },   { 0x007f, 0x009f }, { 0x00ad, 0x00ad }, { 0x061c, 0x061c },
	{ 0x180e, 0x180e },   { 0x200b, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f },
	{ 0xfe00, 0xfe0f },   { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb }, { 0x1d173, 0x1d17a },
	{ 0xe0000, 0xe0fff },
};

static bool
is_unsafe(uint32_t c)
{
	for (size_t i = 0; i < ARRAY_SIZE(unsafe); i++)
		if (c >= unsafe[i].first && c <= unsafe[i].last)
			return true;
	return false;
}

/* The length of the character at P, which is not the end, and *C; 0: no UTF-8. */
static size_t
decode(const unsigned char *p, uint32_t *c)
{
	static const unsigned char lead_bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	size_t len = utf8_char(p, strnlen((const char *)p, 4));

	if (len == 0)
		return 0;
	*c = p[0] & lead_bits[len];
	for (size_t i = 1; i < len; i++)
		*c = *c << 6 | (p[i] & 0x3f);
	return len;
}

/* --- For people --------------------------------------------------------------- */

/* One character or one byte of P, escaped if need be; the bytes it was. */
static size_t
show_char(FILE *out, const unsigned char *p, bool quoted, size_t *columns)
{
	uint32_t c;
	size_t len = decode(p, &c);
	bool plain = len > 0 && !is_unsafe(c) && (c < 0x80 || terminal_utf8);

	if (plain && (c == '\\' || (quoted && c == '"'))) {
		if (out)
			fprintf(out, "\\%c", (int)c);
		*columns += 2;
	} else if (plain) {
		if (out)
			fwrite(p, 1, len, out);
		*columns += 1;
	} else {
		len = MAX(len, (size_t)1);
		for (size_t i = 0; out && i < len; i++)
			fprintf(out, "\\x%02x", p[i]);
		*columns += 4 * len;
	}
	return len;
}

size_t
text_quote(FILE *out, const char *text)
{
	size_t columns = 2;

	if (out)
		fputc('"', out);
	for (const unsigned char *p = (const unsigned char *)text; *p;)
		p += show_char(out, p, true, &columns);
	if (out)
		fputc('"', out);
	return columns;
}

void
text_plain(FILE *out, const char *text)
{
	size_t columns = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p;)
		p += show_char(out, p, false, &columns);
}

const char *
text_size(char *buf, uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	uint64_t whole, rest, tenths;

	while (unit + 1 < ARRAY_SIZE(units) && bytes >> (10 * (unit + 1)) > 0)
		unit++;
	whole = bytes >> (10 * unit);
	rest = bytes - (whole << (10 * unit));
	if (rest == 0) {
		snprintf(buf, TEXT_SIZE_MAX, "%llu %s", (unsigned long long)whole, units[unit]);
		return buf;
	}
	/* A rest exists in units of 1 KiB and more only; it is below 2^60. */
	tenths = (rest * 10 + ((uint64_t)1 << (10 * unit - 1))) >> (10 * unit);
	whole += tenths / 10;
	tenths %= 10;
	if (whole == 1024 && unit + 1 < ARRAY_SIZE(units)) {
		whole = 1;
		unit++;
	}
	snprintf(buf, TEXT_SIZE_MAX, "%llu.%llu %s", (unsigned long long)whole,
		 (unsigned long long)tenths, units[unit]);
	return buf;
}

/* --- For programs --------------------------------------------------------------- */

/* C as \u, in two halves if it needs them. */
static void
json_escape(FILE *out, uint32_t c)
{
	if (c > 0xffff) {
		c -= 0x10000;
		fprintf(out, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
	} else {
		fprintf(out, "\\u%04x", c);
	}
}

void
text_json(FILE *out, const char *text)
{
	if (!text) {
		fputs("null", out);
		return;
	}
	fputc('"', out);
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		uint32_t c = 0xfffd;
		size_t len = decode(p, &c);

		if (len == 0 || is_unsafe(c)) {
			json_escape(out, c);
		} else {
			if (c == '"' || c == '\\')
				fputc('\\', out);
			fwrite(p, 1, len, out);
		}
		p += MAX(len, (size_t)1);
	}
	fputc('"', out);
}

static bool
is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

char *
text_uri(const char *uri, const char *name)
{
	const char *authority = strstr(uri, "://");
	/* Without one the library would not have taken it; then it is all authority. */
	const char *path = authority ? authority + 3 : uri;
	const char *rest;
	char *result, *out;

	path += strcspn(path, "/?#");
	rest = path + strcspn(path, "?#");
	result = malloc((size_t)(path - uri) + 1 + 3 * strlen(name) + strlen(rest) + 1);
	if (!result)
		text_no_memory();
	out = result + sprintf(result, "%.*s/", (int)(path - uri), uri);
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		if (is_unreserved(*p))
			*out++ = (char)*p;
		else
			out += sprintf(out, "%%%02X", *p);
	}
	strcpy(out, rest);
	return result;
}

/* The byte that two hexadecimal digits make; -1: they are none. */
static int
hex_byte(const char *digits)
{
	char pair[3] = { digits[0], digits[0] ? digits[1] : '\0', '\0' };

	return strspn(pair, "0123456789abcdefABCDEF") == 2 ? (int)strtoul(pair, NULL, 16) : -1;
}

char *
text_uri_value(const char *uri, const char *name)
{
	const char *at = strchr(uri, '?');
	size_t len = strlen(name);
	char *value, *out;

	while (at && *at != '#' && !(strncmp(at + 1, name, len) == 0 && at[1 + len] == '='))
		at = strpbrk(at + 1, "&;#");
	if (!at || *at == '#')
		return NULL;
	at += 1 + len + 1;
	value = out = text_format("%.*s", (int)strcspn(at, "&;#"), at);
	for (const char *in = value; *in; in++) {
		int byte = *in == '%' ? hex_byte(in + 1) : -1;

		*out++ = byte < 0 ? *in : (char)byte;
		in += byte < 0 ? 0 : 2;
	}
	*out = '\0';
	return value;
}

/* --- Memory --------------------------------------------------------------------- */

void
text_no_memory(void)
{
	fputs("blkgate: out of memory\n", stderr);
	exit(1);
}

char *
text_format(const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text_no_memory();
	return text;
}
