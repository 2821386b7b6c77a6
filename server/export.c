/* SPDX-License-Identifier: MIT */
/* export.c - looking up exports, counting their clients; see export.h. */
#include "export.h"

#include <string.h>

#include "server/limits.h"

/* Of NBD: a preferred size is no less, and no minimum is more. */
#define PREFERRED_MIN 512u
#define MINIMUM_MAX (64u << 10)

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

void
export_set_sizes(struct export *exp, const struct block_sizes *wanted)
{
	const struct dev_limits *l = &exp->dev->limits;
	uint64_t preferred = l->opt_transfer ? l->opt_transfer : 4096;
	struct block_sizes *s = &exp->sizes;

	*s = *wanted;
	if (s->maximum == 0)
		s->maximum = MAX(LIMIT_PAYLOAD_ADVERTISED, s->preferred);
	s->minimum = MAX(s->minimum, 1u);
	if (exp->strict)
		s->minimum = MAX(s->minimum, (uint32_t)MIN(l->request_alignment, MINIMUM_MAX));
	if (s->preferred == 0) {
		while (!is_pow2(preferred))
			preferred &= preferred - 1;
		preferred = MAX(preferred, l->request_alignment);
		preferred = MAX(preferred, (uint64_t)s->minimum);
		preferred = MAX(preferred, (uint64_t)PREFERRED_MIN);
		while (preferred > s->maximum)
			preferred /= 2;
		s->preferred = (uint32_t)preferred;
	}
	/* A device's blocks may be larger than what was wanted. */
	s->preferred = MAX(s->preferred, s->minimum);
	s->maximum = MAX(s->maximum, s->preferred);
}

struct block_sizes
export_sizes_for(const struct export *exp, bool asked)
{
	struct block_sizes s = exp->sizes;

	if (!asked)
		s.minimum = 1;
	return s;
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
