/* SPDX-License-Identifier: MIT */
/*
 * config.c - fuzzes the command line: options and TARGETs.
 *
 * The input is the arguments, one per line. What is accepted has to be sound;
 * what is refused has to say why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "server/config.h"
#include "server/limits.h"
#include "server/nbd/proto.h"

#define ARGS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each is 0 or a size; those that are not 0 are in order. */
static void
check_sizes(const struct block_sizes *s)
{
	check(s->minimum <= 65536 && (s->minimum & (s->minimum - 1)) == 0, "minimum size");
	check((s->preferred & (s->preferred - 1)) == 0 &&
		      (s->preferred == 0 || s->preferred >= MAX(s->minimum, 512u)),
	      "preferred size");
	check(s->maximum == 0 || (s->maximum >= MAX(s->preferred, 512u) &&
				  s->maximum >= s->minimum && s->maximum <= LIMIT_PAYLOAD_SERVED),
	      "maximum size");
}

static void
check_config(const struct config *c)
{
	if (c->action != CONFIG_SERVE)
		return;
	check(c->ntargets >= 1 && c->ntargets <= LIMIT_EXPORTS, "number of targets");
	check(c->fallback < c->ntargets, "default export");
	for (unsigned i = 0; i < c->ntargets; i++) {
		const struct config_target *t = &c->targets[i];

		check(t->name && t->description && t->driver && t->nprops >= 1, "target");
		check(strlen(t->name) <= LIMIT_STRING_BYTES &&
			      nbd_string_ok(t->name, strlen(t->name)), "name");
		check(strlen(t->description) <= LIMIT_STRING_BYTES &&
			      nbd_string_ok(t->description, strlen(t->description)), "description");
		for (unsigned k = 0; k < t->nprops; k++)
			check(t->props[k].name[0] && t->props[k].value, "property");
		for (unsigned k = 0; k < i; k++)
			check(strcmp(t->name, c->targets[k].name) != 0, "two of one name");
	}
	check_sizes(&c->sizes);
	check(c->single || c->nlistens > 0 || c->private_socket, "nobody would listen");
	check(c->socket_mode <= 0777 && c->workers <= LIMIT_WORKERS, "limits");
	check(c->handshakes_max >= 1 && c->handshakes_max <= c->connections_max, "places");
	check(c->tcp.keepalive_idle_s <= LIMIT_KEEPALIVE_MAX_S &&
		      c->tcp.keepalive_interval_s >= 1 && c->tcp.keepalive_probes >= 1 &&
		      c->tcp.user_timeout_s <= LIMIT_UNCONFIRMED_MAX_S, "TCP");
	check(c->detect_zeroes <= DEV_DETECT_UNMAP && c->on_error <= BACKEND_STOP &&
		      c->sparse <= EXPORT_SPARSE_OFF && c->cache <= DEV_CACHE_UNSAFE, "modes");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *at = text;
	char name[] = "blkgate", *argv[ARGS_MAX + 1] = { name };
	struct config config;
	struct err err = { 0 };
	int argc = 1, ret;

	check(text != NULL, "no memory");
	memcpy(text, data, size);
	text[size] = '\0';
	while (at && argc < ARGS_MAX) {
		argv[argc++] = at;
		at = strchr(at, '\n');
		if (at)
			*at++ = '\0';
	}
	argv[argc] = NULL;

	ret = config_parse(&config, argc, argv, &err);
	if (ret == 0)
		check_config(&config);
	else
		check(ret == err.code && err.text[0] && !memchr(err.text, '\n', strlen(err.text)),
		      "refused without a word");
	config_release(&config);
	free(text);
	return 0;
}
