/* SPDX-License-Identifier: MIT */
/* export.c - looking up exports, counting their clients; see export.h. */
#include "export.h"

#include <string.h>

struct export *
export_find(const struct export_set *set, const char *name, size_t len)
{
	for (unsigned i = 0; i < set->count; i++) {
		struct export *exp = &set->exports[i];

		if (strlen(exp->name) == len && memcmp(exp->name, name, len) == 0)
			return exp;
	}
	return len == 0 ? set->fallback : NULL;
}

bool
export_enter(struct export *exp)
{
	unsigned n = __atomic_load_n(&exp->clients, __ATOMIC_RELAXED);

	do {
		if (exp->clients_max > 0 && n >= exp->clients_max)
			return false;
	} while (!__atomic_compare_exchange_n(&exp->clients, &n, n + 1, true, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	return true;
}

void
export_leave(struct export *exp)
{
	unsigned before = __atomic_fetch_sub(&exp->clients, 1, __ATOMIC_ACQ_REL);

	invariant(before > 0);
}
