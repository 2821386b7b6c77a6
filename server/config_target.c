/* SPDX-License-Identifier: MIT */
/*
 * config_target.c - the TARGETs of the command line.
 *
 * The path: each is taken apart by target_parse(); when all are there,
 * names_assign() gives every export a name and finds the default one.
 */
#include "config_target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/limits.h"
#include "server/value.h"

/* --- Memory ----------------------------------------------------------------- */

struct owned {
	struct owned *next;
	char text[];
};

/* A copy of LEN bytes of TEXT that config_targets_release() frees; NULL without memory. */
static char *
keep(struct config *config, const char *text, size_t len)
{
	struct owned *o = malloc(sizeof(*o) + len + 1);

	if (!o)
		return NULL;
	o->next = config->memory;
	config->memory = o;
	memcpy(o->text, text, len);
	o->text[len] = '\0';
	return o->text;
}

void
config_targets_release(struct config *config)
{
	struct owned *o = config->memory;

	while (o) {
		struct owned *next = o->next;

		free(o);
		o = next;
	}
	for (unsigned i = 0; i < config->ntargets; i++)
		free(config->targets[i].props);
	free(config->targets);
}

/* Makes room for one more element; NULL without memory. */
static void *
grow(void *array, unsigned count, size_t size)
{
	return realloc(array, (count + 1) * size);
}

static int
no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* --- Their parts ------------------------------------------------------------ */

static int
target_prop(struct config *config, struct config_target *t, const char *name, const char *value,
	    struct err *err)
{
	struct dev_prop *props = grow(t->props, t->nprops, sizeof(*props));

	if (!props)
		return no_memory(err);
	t->props = props;
	t->props[t->nprops++] = (struct dev_prop){ .name = name, .value = value };
	return 0;
}

static const struct value_word tls_words[] = {
	{ "required", TARGET_TLS_REQUIRED },
	{ "optional", TARGET_TLS_OPTIONAL },
};

/* A property is the driver's, unless it says how clients come to the export. */
static int
target_word(struct config *config, struct config_target *t, const char *name, const char *value,
	    struct err *err)
{
	int word, ret;

	if (strcmp(name, "tls") != 0)
		return target_prop(config, t, name, value, err);
	ret = value_word("tls", value, tls_words, ARRAY_SIZE(tls_words), &word, err);
	if (ret < 0)
		return err_prefix(err, "target %s", t->text);
	t->tls = (enum config_target_tls)word;
	return 0;
}

/*
 * Copies the text up to a lone comma, with ",," as one comma; moves *AT behind
 * it, or makes it NULL at the end.
 */
static char *
comma_part(struct config *config, const char **at)
{
	char *part = keep(config, *at, strlen(*at));
	char *out = part;
	const char *in = *at;

	if (!part)
		return NULL;
	while (*in) {
		if (*in == ',') {
			if (in[1] != ',')
				break;
			in++;
		}
		*out++ = *in++;
	}
	*out = '\0';
	*at = *in ? in + 1 : NULL;
	return part;
}

/* The end of a leading "WORD" before SEPARATOR, if it is one: no '/' or ','. */
static char *
leading_word(char *text, char separator)
{
	size_t len = strcspn(text, "=:/,");

	return text[len] == separator ? text + len : NULL;
}

static int
target_parse(struct config *config, struct config_target *t, struct err *err)
{
	const char *at = t->text;
	char *path, *end;
	int ret;

	t->driver = "io_uring";
	if (t->text[0] == '/' || strncmp(t->text, "./", 2) == 0 || access(t->text, F_OK) == 0)
		return target_prop(config, t, "path", t->text, err);

	path = comma_part(config, &at);
	if (!path)
		return no_memory(err);
	if ((end = leading_word(path, '='))) {
		*end = '\0';
		t->name = path;
		path = end + 1;
	}
	if ((end = leading_word(path, ':'))) {
		*end = '\0';
		t->driver = path;
		path = end + 1;
	}
	if (!*path || !*t->driver)
		return err_set(err, -EINVAL,
			       "target '%s': must be a path or [NAME=][DRIVER:]PATH[,PROP=VALUE...]",
			       t->text);

	if (strcmp(t->driver, "mem") == 0) {
		char digits[24];
		uint64_t size;

		if ((ret = value_size(path, &size, err)) < 0) {
			err_prefix(err, "target %s", t->text);
			return ret;
		}
		snprintf(digits, sizeof(digits), "%llu", (unsigned long long)size);
		path = keep(config, digits, strlen(digits));
		ret = path ? target_prop(config, t, "size", path, err) : no_memory(err);
	} else {
		ret = target_prop(config, t, "path", path, err);
	}

	while (ret == 0 && at) {
		char *prop = comma_part(config, &at);

		if (!prop)
			return no_memory(err);
		end = strchr(prop, '=');
		if (!end || end == prop)
			return err_set(err, -EINVAL, "target %s: %s: must be PROPERTY=VALUE",
				       t->text, *prop ? prop : "after the last comma");
		*end = '\0';
		ret = target_word(config, t, prop, end + 1, err);
	}
	return ret;
}

int
config_target_add(struct config *config, const char *text, struct err *err)
{
	struct config_target *targets;

	if (config->ntargets == LIMIT_EXPORTS)
		return err_set(err, -EINVAL, "target %s: at most %u can be served", text,
			       LIMIT_EXPORTS);
	targets = grow(config->targets, config->ntargets, sizeof(*targets));
	if (!targets)
		return no_memory(err);
	config->targets = targets;
	targets[config->ntargets] = (struct config_target){ .text = text, .description = "" };
	return target_parse(config, &targets[config->ntargets++], err);
}

/*
 * What blkgate says itself is no property of the operator's: it relies on it, or
 * an option has the say.
 */
static int
props_check(const struct config *config, const struct config_target *t, struct err *err)
{
	for (unsigned i = 0; i < t->nprops; i++) {
		const struct dev_prop *p = &t->props[i];

		if (strncmp(p->name, "x-", 2) == 0)
			return err_set(err, -EINVAL, "target %s: %s=%s: is set by blkgate itself",
				       t->text, p->name, p->value);
		if (strcmp(p->name, "num-queues") == 0)
			return err_set(err, -EINVAL, "target %s: %s=%s: is set by --workers",
				       t->text, p->name, p->value);
		if (config->read_only && strcmp(p->name, "read-only") == 0 &&
		    strcmp(p->value, "true") != 0)
			return err_set(err, -EINVAL, "target %s: %s=%s: contradicts --read-only",
				       t->text, p->name, p->value);
	}
	return 0;
}

/* --- Their names ------------------------------------------------------------ */

/* The last component of a path, or the driver's name where there is none. */
static const char *
basename_of(const struct config_target *t)
{
	for (unsigned i = 0; i < t->nprops; i++) {
		const char *slash;

		if (strcmp(t->props[i].name, "path") != 0)
			continue;
		slash = strrchr(t->props[i].value, '/');
		return slash && slash[1] ? slash + 1 : t->props[i].value;
	}
	return t->driver;
}

static int
names_assign(struct config *config, const struct config_names *names, struct err *err)
{
	int ret;

	if (config->ntargets > 1 && names->export_name)
		return err_set(err, -EINVAL,
			       "--export-name: goes with one TARGET, but there are %u; "
			       "name each as NAME=TARGET",
			       config->ntargets);
	if (config->ntargets > 1 && names->description)
		return err_set(err, -EINVAL,
			       "--description: goes with one TARGET, but there are %u; "
			       "several can have names, NAME=TARGET, but no descriptions",
			       config->ntargets);
	if (names->export_name)
		config->targets[0].name = names->export_name;
	if (names->description)
		config->targets[0].description = names->description;

	for (unsigned i = 0; i < config->ntargets; i++) {
		struct config_target *t = &config->targets[i];

		if (!t->name)
			t->name = config->ntargets == 1 ? "" : basename_of(t);
		if ((ret = value_check_string("export name", t->name, err)) < 0 ||
		    (ret = value_check_string("description", t->description, err)) < 0)
			return ret;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(t->name, config->targets[j].name) == 0)
				return err_set(err, -EINVAL,
					       "targets %s and %s: both would be export \"%s\"; "
					       "name them as NAME=TARGET",
					       config->targets[j].text, t->text, t->name);
	}

	for (unsigned i = 0; names->default_export; i++) {
		if (i == config->ntargets)
			return err_set(err, -EINVAL,
				       "--default-export=%s: must be the name of an export",
				       names->default_export);
		if (strcmp(config->targets[i].name, names->default_export) == 0) {
			config->fallback = i;
			break;
		}
	}
	return 0;
}

int
config_targets_settle(struct config *config, const struct config_names *names, struct err *err)
{
	for (unsigned i = 0; i < config->ntargets; i++) {
		int ret = props_check(config, &config->targets[i], err);

		if (ret < 0)
			return ret;
	}
	return names_assign(config, names, err);
}
