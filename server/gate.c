/* SPDX-License-Identifier: MIT */
/* gate.c - what decides who may enter; see gate.h. */
#include "gate.h"

#include <errno.h>
#include <stdlib.h>

#include "server/sandbox.h"

/* A rule that fits nobody would look as if it kept somebody out, or let somebody in. */
static int
identities_check(const struct access *access, const struct tls_files *tls, struct err *err)
{
	static const enum access_identity kinds[] = { ACCESS_X509, ACCESS_PSK };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		bool x509 = kinds[i] == ACCESS_X509;
		uint16_t rule = access_naming(access, kinds[i]);
		char where[ACCESS_WHERE_MAX];

		if (rule != ACCESS_NO_RULE && !(x509 ? tls_wants_x509(tls) : tls->psk != NULL))
			return err_set(err, -EINVAL, "%s: names %s, but no client has one without %s",
				       access_where(access, rule, where),
				       x509 ? "a certificate" : "a PSK user",
				       x509 ? "--tls-certificates" : "--tls-psk");
	}
	return 0;
}

/* Who is named by a certificate has to show it. */
static int
credentials_load(struct gate *gate, const struct config *config, struct err *err)
{
	struct tls_files files = config->tls;

	if (gate->access && access_naming(gate->access, ACCESS_X509) != ACCESS_NO_RULE)
		files.verify_peer = true;
	return tls_load(&gate->tls, &files, err);
}

int
gate_open(struct gate **gatep, const struct config *config, struct err *err)
{
	struct gate *gate = calloc(1, sizeof(*gate));
	int ret = 0;

	if (!gate)
		return err_set(err, -ENOMEM, "out of memory");
	gate->refs = 1;
	if (config_has_access(config))
		ret = access_load(&gate->access, &config->access, err);
	if (ret == 0 && gate->access)
		ret = identities_check(gate->access, &config->tls, err);
	if (ret == 0 && config->tls_mode != TLS_OFF)
		ret = credentials_load(gate, config, err);
	if (ret < 0) {
		gate_put(gate);
		return ret;
	}
	*gatep = gate;
	return 0;
}

int
gate_allow_reload(const struct config *config, struct err *err)
{
	const struct tls_files *tls = &config->tls;
	const char *const paths[] = { config->access.path, tls->dir, tls->ca,  tls->crl,
				      tls->cert,	   tls->key, tls->psk };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(paths) && ret == 0; i++)
		if (paths[i])
			ret = sandbox_allow_read(paths[i], err);
	return ret;
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
	tls_put(gate->tls);
	free(gate);
}

void
gate_place_init(struct gate_place *place, struct gate *gate)
{
	pthread_mutex_init(&place->lock, NULL);
	place->gate = gate;
}

void
gate_exchange(struct gate_place *place, struct gate *gate)
{
	struct gate *old = place->gate;

	pthread_mutex_lock(&place->lock);
	place->gate = gate;
	pthread_mutex_unlock(&place->lock);
	gate_put(old);
}

struct gate *
gate_in_force(struct gate_place *place)
{
	struct gate *gate;

	pthread_mutex_lock(&place->lock);
	gate = gate_get(place->gate);
	pthread_mutex_unlock(&place->lock);
	return gate;
}
