/* SPDX-License-Identifier: MIT */
/*
 * access_dn.c - the one way in which a certificate's name is written; see access_dn.h.
 *
 * The path: type_check() and value_check() in turn, each from where the last has ended.
 *
 * A name of a type is one that this GnuTLS has: there are more from time to time. Types
 * that it does not know are numbers, and their values `#` with the bytes of their DER;
 * so is a value that has a NUL in it. Before other values a backslash stands where
 * there is no way without, and a control character is as it is.
 */
#include "access_dn.h"

#include <ctype.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/annotate.h"

/* Those below 2.5.4 are tried one by one. */
static const char *const other_oids[] = {
	"0.9.2342.19200300.100.1.1", "0.9.2342.19200300.100.1.3", "0.9.2342.19200300.100.1.25",
	"1.2.840.113549.1.9.1",	     "1.2.643.100.1",		  "1.2.643.100.3",
	"1.2.643.100.4",	     "1.2.643.100.5",		  "1.2.643.3.131.1.1",
	"1.3.6.1.4.1.311.60.2.1.1",  "1.3.6.1.4.1.311.60.2.1.2",  "1.3.6.1.4.1.311.60.2.1.3",
	"1.3.6.1.5.5.7.9.1",	     "1.3.6.1.5.5.7.9.2",	  "1.3.6.1.5.5.7.9.3",
	"1.3.6.1.5.5.7.9.4",	     "1.3.6.1.5.5.7.9.5",
};
#define X500_MAX 128u

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

/* --- Types ------------------------------------------------------------------- */

/* Number N of those that may have a name; NULL: it has none. */
static const char *
type_name(unsigned n)
{
	char oid[16];

	if (n >= X500_MAX)
		return gnutls_x509_dn_oid_name(other_oids[n - X500_MAX], 0);
	snprintf(oid, sizeof(oid), "2.5.4.%u", n);
	return gnutls_x509_dn_oid_name(oid, 0);
}

static bool
named_type_check(const char *type, size_t len, char *why)
{
	const char *almost = NULL;

	for (unsigned n = 0; n < X500_MAX + ARRAY_SIZE(other_oids); n++) {
		const char *name = type_name(n);

		if (!name || strlen(name) != len || strncasecmp(name, type, len) != 0)
			continue;
		if (memcmp(name, type, len) == 0)
			return true;
		almost = name;
	}
	if (almost)
		return no(why, "the type %.*s is written %s", (int)len, type, almost);
	return no(why, "there is no type %.*s, but for example CN, O, OU, C, ST, L, DC, UID, EMAIL",
		  (int)len, type);
}

/* One that has a name is written with it. */
static bool
numbered_type_check(const char *type, size_t len, char *why)
{
	char oid[64];
	const char *name;

	if (len >= sizeof(oid) || type[len - 1] == '.' || !memchr(type, '.', len))
		return no(why, "a type is a name such as CN, or a number such as 1.2.3.4");
	memcpy(oid, type, len);
	oid[len] = '\0';
	name = gnutls_x509_dn_oid_name(oid, 0);
	if (name)
		return no(why, "the type %s is written %s", oid, name);
	return true;
}

/* At the beginning of *AT, with its `=`; moves on. */
static bool
type_check(const char **at, bool *numbered, char *why)
{
	const char *type = *at;
	size_t len;

	*numbered = isdigit((unsigned char)*type);
	len = *numbered ? strspn(type, "0123456789.") : strcspn(type, "=,+\\ ");
	if (len == 0 || len > 64 || type[len] != '=')
		return no(why, "TYPE=VALUE is wanted, without blanks before it or around `='");
	*at += len + 1;
	return *numbered ? numbered_type_check(type, len, why) : named_type_check(type, len, why);
}

/* --- Values ------------------------------------------------------------------ */

static bool
ends_value(char c)
{
	return c == '\0' || c == ',' || c == '+';
}

static bool
hex_check(const char **at, char *why)
{
	size_t len = strspn(++*at, "0123456789abcdef");

	*at += len;
	if (len == 0 || len % 2 || !ends_value(**at))
		return no(why, "after `#' pairs of hexadecimal digits are wanted, in lower case; a "
			       "value that begins with it has a backslash before it");
	return true;
}

/* What follows a backslash, which is FIRST in the value or not. */
static bool
escape_check(const char *at, bool first, char *why)
{
	if (*at && strchr(",+\"\\<>;", *at))
		return true;
	if ((*at == ' ' && (first || ends_value(at[1]))) || (*at == '#' && first))
		return true;
	return no(why, "a backslash stands before , + \" \\ < > ; alone, a `#' at the beginning, and "
		       "a blank at the beginning or the end of a value");
}

static bool
value_check(const char **at, bool numbered, char *why)
{
	const char *start = *at;

	if (*start == '#')
		return hex_check(at, why);
	if (numbered || ends_value(*start))
		return no(why, numbered ? "the value of a type without a name is `#' and the bytes "
					  "of its DER" :
					  "a value has at least one character");
	for (; !ends_value(**at); ++*at) {
		if (**at == '\\') {
			if (!escape_check(*at + 1, *at == start, why))
				return false;
			++*at;
		} else if (strchr("\"<>;", **at)) {
			return no(why, "`%c' has a backslash before it", **at);
		} else if (**at == ' ' && (*at == start || ends_value((*at)[1]))) {
			return no(why, "a blank at the beginning or the end of a value has a "
				       "backslash before it");
		}
	}
	return true;
}

bool
access_dn_is_canonical(const char *dn, char why[ACCESS_DN_WHY_MAX])
{
	const char *at = dn;
	bool numbered;

	while (type_check(&at, &numbered, why) && value_check(&at, numbered, why)) {
		if (!*at)
			return true;
		at++;
	}
	return false;
}
