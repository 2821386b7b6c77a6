/* SPDX-License-Identifier: MIT */
/*
 * access_dn.c - the one way in which a certificate's name is written; see access_dn.h.
 *
 * The path: access_dn_is_canonical() takes one TYPE=VALUE after the other, part_check().
 * What a part says, however it says it, becomes a name of its own in DER, which GnuTLS
 * prints as it would a certificate's: that has to be the part again, byte by byte.
 *
 * GnuTLS reads such texts, too, but not all of those that it prints. It knows the types,
 * and is always given the bytes of a value, TYPE=#HEX.
 */
#include "access_dn.h"

#include <ctype.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/annotate.h"
#include "server/log.h"

static bool no(char *why, const char *fmt, ...) printf_fn(2, 3);

static bool
no(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, ACCESS_DN_WHY_MAX, fmt, ap);
	va_end(ap);
	return false;
}

/* --- As GnuTLS prints it ------------------------------------------------------ */

/* The name that is TEXT, TYPE=#HEX; NULL: there can be none. */
static char *
print(const char *text)
{
	gnutls_datum_t der = { 0 }, printed = { 0 };
	gnutls_x509_dn_t dn;
	const char *end;

	if (gnutls_x509_dn_init(&dn) < 0)
		return NULL;
	/* Only reading it back shows whether the value is one. */
	if (gnutls_x509_dn_set_str(dn, text, &end) == 0 &&
	    gnutls_x509_dn_export2(dn, GNUTLS_X509_FMT_DER, &der) == 0 &&
	    gnutls_x509_dn_import(dn, &der) == 0 && gnutls_x509_dn_get_str2(dn, &printed, 0) < 0)
		printed.data = NULL;
	gnutls_free(der.data);
	gnutls_x509_dn_deinit(dn);
	return (char *)printed.data;
}

/* TYPE with a string of LEN bytes. */
static char *
print_string(const char *type, unsigned tag, const char *string, size_t len)
{
	char *text = malloc(strlen(type) + sizeof("=#tt82llll") + 2 * len), *at = text, *printed;

	/* One that is longer is no certificate's. */
	if (!text || len > UINT16_MAX) {
		free(text);
		return NULL;
	}
	at += sprintf(at, "%s=#%02x", type, tag);
	at += sprintf(at, len < 0x80 ? "%02zx" : len < 0x100 ? "81%02zx" : "82%04zx", len);
	for (size_t i = 0; i < len; i++)
		at += sprintf(at, "%02x", (unsigned char)string[i]);
	printed = print(text);
	free(text);
	return printed;
}

static bool
is_hex(const char *printed)
{
	return strchr(printed, '=')[1] == '#';
}

/* With the kind of string that the type has; if it has none the value is in hexadecimal. */
static char *
print_any_string(const char *type, const char *string, size_t len)
{
	static const uint8_t tags[] = {
		0x16 /* IA5String */, 0x13 /* PrintableString */, 0x0c /* UTF8String */
	};
	char *printed = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(tags) && (!printed || is_hex(printed)); i++) {
		gnutls_free(printed);
		printed = print_string(type, tags[i], string, len);
	}
	return printed;
}

/* --- What is written ---------------------------------------------------------- */

/* In place, as others write it, too: \NN, and blanks around it that do not count. Its length. */
static size_t
unescape(char *value)
{
	char *in = value + strspn(value, " "), *out = value, *end = value;

	while (*in) {
		bool counts = *in != ' ';
		unsigned byte;

		if (*in == '\\' && isxdigit((unsigned char)in[1]) &&
		    isxdigit((unsigned char)in[2])) {
			sscanf(in + 1, "%2x", &byte);
			*out++ = (char)byte;
			in += 3;
		} else {
			in += *in == '\\' && in[1];
			*out++ = *in++;
		}
		if (counts)
			end = out;
	}
	return (size_t)(end - value);
}

/* PART has no separator; TYPE is a copy that is taken apart. */
static bool
part_check(const char *part, char *type, char *why)
{
	char had[LOG_QUOTE_MAX], wanted[LOG_QUOTE_MAX], *value = strchr(type, '='), *printed;
	bool same;

	if (!value || value == type)
		return no(why, "TYPE=VALUE is wanted, without blanks before it or around `='");
	*value++ = '\0';
	printed = print_string(type, 0x0c, "x", 1);
	if (!printed)
		return no(why, "there is no type %s, but for example CN, O, OU, C, ST, L, DC, UID, "
			       "EMAIL", log_quote(had, type, strlen(type)));
	gnutls_free(printed);
	if (*value == '#') {
		printed = print(part);
		if (!printed)
			return no(why, "after `#' the bytes of one value in DER are wanted, two "
				       "digits each; a value that begins with it has a backslash "
				       "before it");
	} else {
		printed = print_any_string(type, value, unescape(value));
		if (!printed)
			return no(why, "a value has at least one character");
	}
	same = strcmp(printed, part) == 0;
	if (!same)
		no(why, "%s is written %s", log_quote(had, part, strlen(part)),
		   log_quote(wanted, printed, strlen(printed)));
	gnutls_free(printed);
	return same;
}

/* To the next one that has no backslash before it. */
static size_t
part_len(const char *at)
{
	size_t len = 0;

	while (at[len] && at[len] != ',' && at[len] != '+')
		len += at[len] == '\\' && at[len + 1] ? 2 : 1;
	return len;
}

static void
reverse(char *at, size_t len)
{
	for (size_t i = 0; i < len / 2; i++) {
		char c = at[i];

		at[i] = at[len - 1 - i];
		at[len - 1 - i] = c;
	}
}

/* Two neighbours, A+B, if they are not in order. Whether they were not. */
static bool
swap(char *a, size_t a_len, size_t b_len)
{
	const char *b = a + a_len + 1;
	int order = memcmp(a, b, MIN(a_len, b_len));

	if (order < 0 || (order == 0 && a_len <= b_len))
		return false;
	reverse(a, a_len);
	reverse(a + a_len + 1, b_len);
	reverse(a, a_len + 1 + b_len);
	return true;
}

void
access_dn_sort(char *dn)
{
	bool again = true;

	while (again) {
		char *at = dn;
		size_t len = part_len(at);

		again = false;
		while (at[len]) {
			size_t next_len = part_len(at + len + 1);

			if (at[len] == '+' && swap(at, len, next_len)) {
				again = true;
				at += next_len + 1;
				continue;
			}
			at += len + 1;
			len = next_len;
		}
	}
}

bool
access_dn_is_canonical(const char *dn, char why[ACCESS_DN_WHY_MAX])
{
	for (;;) {
		size_t len = part_len(dn);
		char *part = strndup(dn, len), *copy = strndup(dn, len);
		bool ok = part && copy ? part_check(part, copy, why) : no(why, "out of memory");

		free(part);
		free(copy);
		if (!ok)
			return false;
		if (!dn[len])
			return true;
		dn += len + 1;
	}
}
