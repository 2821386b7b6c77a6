/* SPDX-License-Identifier: MIT */
/* tls_expiry.c - when credentials end; see tls_expiry.h. */
#include "tls_expiry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/log.h"
#include "server/tls_cert.h"

#define DAY ((time_t)24 * 60 * 60)

static const struct {
	const char *name;
	time_t ahead;
	const char *soon, *over;
} kinds[] = {
	[TLS_EXPIRY_OWN] = { "certificate", 30 * DAY, "expires soon", "has expired" },
	[TLS_EXPIRY_TRUSTED] = { "CA certificate", 30 * DAY, "expires soon", "has expired" },
	[TLS_EXPIRY_REVOKED] = { "revocation list", DAY, "is due for the next one soon",
				 "is out of date, and still used" },
};

int
tls_expiries_add(struct tls_expiries *list, enum tls_expiry_kind kind, const char *file,
		 unsigned number, time_t end, struct err *err)
{
	struct tls_expiry *items = realloc(list->items, (list->count + 1) * sizeof(*items));
	char *copy = strdup(file);

	if (items)
		list->items = items;
	if (!items || !copy) {
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	items[list->count++] = (struct tls_expiry){
		.kind = kind, .file = copy, .number = number, .end = end
	};
	return 0;
}

void
tls_expiries_release(struct tls_expiries *list)
{
	for (unsigned i = 0; i < list->count; i++)
		free(list->items[i].file);
	free(list->items);
	*list = (struct tls_expiries){ 0 };
}

bool
tls_expiry_line(const struct tls_expiry *e, time_t now, char line[TLS_EXPIRY_LINE_MAX])
{
	time_t left = e->end - now;
	char quoted[LOG_QUOTE_MAX], date[TLS_DATE_MAX];

	if (left > kinds[e->kind].ahead)
		return false;
	snprintf(line, TLS_EXPIRY_LINE_MAX, "%s %s file=%s number=%u at=\"%s\" days=%lld",
		 kinds[e->kind].name, left > 0 ? kinds[e->kind].soon : kinds[e->kind].over,
		 log_quote(quoted, e->file, strlen(e->file)), e->number, tls_date(date, e->end),
		 (long long)(left / DAY));
	return true;
}

void
tls_expiries_warn(const struct tls_expiries *list)
{
	time_t now = time(NULL);
	char line[TLS_EXPIRY_LINE_MAX];

	for (unsigned i = 0; i < list->count; i++)
		if (tls_expiry_line(&list->items[i], now, line))
			log_warning("%s", line);
}
