/* SPDX-License-Identifier: MIT */
/* stats.c - what the exports have done so far, for the log; see stats.h. */
#include "stats.h"

#include <string.h>

#include "server/log.h"

void
stats_log(const struct export_set *exports)
{
	for (unsigned i = 0; i < exports->count; i++) {
		struct backend *b = &exports->exports[i].backend;
		char quoted[LOG_QUOTE_MAX];
		struct backend_stats stats;

		backend_stats(b, &stats);
		log_quote(quoted, b->name, strlen(b->name));
		for (enum backend_op op = 0; op < BACKEND_OPS; op++) {
			const struct backend_counters *c = &stats.of[op];

			if (c->ops == 0 && c->invalid == 0)
				continue;
			log_info("statistics export=%s type=%s ops=%llu bytes=%llu errors=%llu "
				 "invalid=%llu latency_us=%llu latency_max_us=%llu",
				 quoted, backend_op_name(op), (unsigned long long)c->ops,
				 (unsigned long long)c->bytes, (unsigned long long)c->errors,
				 (unsigned long long)c->invalid,
				 (unsigned long long)(c->ops ? c->latency_ns / c->ops / 1000 : 0),
				 (unsigned long long)c->latency_max_ns / 1000);
		}
		log_info("statistics export=%s status=%s waited=%llu rmw_heads=%llu "
			 "rmw_tails=%llu fragments=%llu bounce_bytes=%llu "
			 "flushes_skipped=%llu flushes_joined=%llu",
			 quoted, backend_status_name(backend_status(b)),
			 (unsigned long long)stats.waited, (unsigned long long)stats.rmw_heads,
			 (unsigned long long)stats.rmw_tails, (unsigned long long)stats.fragments,
			 (unsigned long long)stats.bounce_bytes,
			 (unsigned long long)stats.flushes_skipped,
			 (unsigned long long)stats.flushes_joined);
	}
}
