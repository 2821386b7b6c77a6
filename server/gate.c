/* SPDX-License-Identifier: MIT */
/* gate.c - what decides who may enter; see gate.h. */
#include "gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/log.h"
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
static bool
wants_certificates(const struct gate *gate, const struct config *config)
{
	return config->tls.verify_peer ||
	       (gate->access && access_names_certificates(gate->access));
}

static int
credentials_load(struct gate *gate, const struct config *config, struct err *err)
{
	struct tls_files files = config->tls;

	files.verify_peer = wants_certificates(gate, config);
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
gate_check_start(const struct gate *gate, const struct config *config, struct err *err)
{
	if (config->tls_purpose_given && !wants_certificates(gate, config))
		return err_set(err, -EINVAL,
			       "--tls-purpose: is about certificates of clients, and none has to "
			       "show one: add --tls-verify-peer, or a rule that names one");
	return 0;
}

/* FN for each file that gate_open() would read now. */
static int
files_each(const struct config *config, int (*fn)(const char *path, struct err *err),
	   struct err *err)
{
	int ret = config->access.path ? fn(config->access.path, err) : 0;

	if (ret == 0 && config->tls_mode != TLS_OFF)
		ret = tls_files_each(&config->tls, fn, err);
	return ret;
}

int
gate_allow_reload(const struct config *config, struct err *err)
{
	int ret = files_each(config, sandbox_allow_read, err);

	/* What is not there yet may come. */
	if (ret == 0 && config->tls_mode != TLS_OFF && config->tls.dir)
		ret = sandbox_allow_read(config->tls.dir, err);
	return ret;
}

static int
file_check(const char *path, struct err *err)
{
	(void)err;
	if (access(path, R_OK) < 0)
		log_warning("SIGHUP will not reload, the user of the server may not read path=%s "
			    "error=\"%s\"", path, strerror(errno));
	return 0;
}

void
gate_check_reload(const struct config *config)
{
	struct err err;

	if (files_each(config, file_check, &err) < 0)
		log_warning("SIGHUP may not reload error=\"%s\"", err.text);
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
