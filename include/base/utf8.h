/* SPDX-License-Identifier: MIT */
/* utf8.h - what is UTF-8 and what is not. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length in bytes of the character at P with LEFT > 0 bytes; 0: none. */
static inline size_t
utf8_char(const unsigned char *p, size_t left)
{
	unsigned char lead = p[0];
	size_t len = lead < 0x80 ? 1 :
		     lead < 0xc2 ? 0 :
		     lead < 0xe0 ? 2 :
		     lead < 0xf0 ? 3 :
		     lead < 0xf5 ? 4 :
				   0;

	if (len == 0 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) ||
	    (lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* Whether TEXT is well-formed in all of its LEN bytes, NUL included; RFC 3629. */
static inline bool
utf8_valid(const void *text, size_t len)
{
	const unsigned char *p = text;

	while (len > 0) {
		size_t n = utf8_char(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

#endif
