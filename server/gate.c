/* SPDX-License-Identifier: MIT */
/* gate.c - what decides who may enter; see gate.h. */
#include "gate.h"

#include <errno.h>
#include <stdlib.h>

/* A rule that fits nobody would look as if it kept somebody out, or let somebody in. */
static int
identities_check(const struct access *access, struct err *err)
{
	static const enum access_identity kinds[] = { ACCESS_X509, ACCESS_PSK };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint16_t rule = access_naming(access, kinds[i]);
		char where[ACCESS_WHERE_MAX];

		if (rule != ACCESS_NO_RULE)
			return err_set(err, -EINVAL,
				       "%s: names %s, but without TLS no client has one",
				       access_where(access, rule, where),
				       kinds[i] == ACCESS_X509 ? "a certificate" : "a PSK user");
	}
	return 0;
}

int
gate_open(struct gate **gatep, const struct config *config, struct err *err)
{
	struct gate *gate = calloc(1, sizeof(*gate));
	struct access *access = NULL;
	int ret = 0;

	if (!gate)
		return err_set(err, -ENOMEM, "out of memory");
	if (config_has_access(config))
		ret = access_load(&access, &config->access, err);
	if (ret == 0 && access)
		ret = identities_check(access, err);
	if (ret < 0) {
		access_free(access);
		free(gate);
		return ret;
	}
	gate->refs = 1;
	gate->access = access;
	*gatep = gate;
	return 0;
}

struct gate *
gate_get(struct gate *gate)
{
	__atomic_fetch_add(&gate->refs, 1, __ATOMIC_RELAXED);
	return gate;
}

void
gate_put(struct gate *gate)
{
	if (!gate || __atomic_fetch_sub(&gate->refs, 1, __ATOMIC_ACQ_REL) > 1)
		return;
	access_free(gate->access);
	free(gate);
}
