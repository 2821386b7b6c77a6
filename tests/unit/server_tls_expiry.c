/* SPDX-License-Identifier: MIT */
/* server_tls_expiry.c - what is said of credentials that end, and when. */
#include "server/tls_expiry.h"

#include <stdio.h>
#include <string.h>

#include "tests/lib/unit.h"

#define DAY ((time_t)86400)
#define END ((time_t)2000000000) /* 2033-05-18 03:33:20 */

static const char *
line_of(enum tls_expiry_kind kind, time_t before)
{
	static char file[] = "a\nb", line[TLS_EXPIRY_LINE_MAX];
	const struct tls_expiry e = { .kind = kind, .file = file, .number = 2, .end = END };

	return tls_expiry_line(&e, END - before, line) ? line : NULL;
}

#define says(kind, before, text) ck_assert_pstr_eq(line_of(kind, before), text)

START_TEST(ahead_and_afterwards)
{
	says(TLS_EXPIRY_OWN, 30 * DAY + 1, NULL);
	says(TLS_EXPIRY_OWN, 30 * DAY,
	     "certificate expires soon file=\"a\\x0ab\" number=2 "
	     "at=\"2033-05-18 03:33:20 UTC\" days=30");
	says(TLS_EXPIRY_TRUSTED, 1,
	     "CA certificate expires soon file=\"a\\x0ab\" number=2 "
	     "at=\"2033-05-18 03:33:20 UTC\" days=0");
	says(TLS_EXPIRY_TRUSTED, 0,
	     "CA certificate has expired file=\"a\\x0ab\" number=2 "
	     "at=\"2033-05-18 03:33:20 UTC\" days=0");
	says(TLS_EXPIRY_REVOKED, DAY + 1, NULL);
	says(TLS_EXPIRY_REVOKED, DAY,
	     "revocation list is due for the next one soon file=\"a\\x0ab\" number=2 "
	     "at=\"2033-05-18 03:33:20 UTC\" days=1");
	says(TLS_EXPIRY_REVOKED, -3 * DAY,
	     "revocation list is out of date, and still used file=\"a\\x0ab\" number=2 "
	     "at=\"2033-05-18 03:33:20 UTC\" days=-3");
}
END_TEST

/* The longest that a name can be leaves room for what counts. */
START_TEST(long_names)
{
	char file[5000], line[TLS_EXPIRY_LINE_MAX];
	const struct tls_expiry e = {
		.kind = TLS_EXPIRY_REVOKED, .file = file, .number = 4000000000u, .end = END
	};

	memset(file, '\n', sizeof(file) - 1);
	file[sizeof(file) - 1] = '\0';
	ck_assert(tls_expiry_line(&e, END + 100000 * DAY, line));
	ck_assert_ptr_nonnull(strstr(line, "UTC\" days=-100000"));
}
END_TEST

UNIT_MAIN(ahead_and_afterwards, long_names)
