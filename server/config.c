/* SPDX-License-Identifier: MIT */
/*
 * config.c - the command line.
 *
 * The path: config_parse() runs getopt over the options, one row of options[]
 * each; what is left are TARGETs, taken apart by target_parse(); then
 * names_assign() gives every export a name and finds the default one.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/annotate.h"
#include "base/range.h"
#include "server/limits.h"
#include "server/nbd/proto.h"

const char config_usage[] =
	"usage: blkgate [options] TARGET [TARGET ...]\n"
	"       blkgate list [options] URI\n"
	"       blkgate probe [options] URI\n"
	"\n"
	"Serves disks over NBD. TARGET is a path, or [NAME=][DRIVER:]PATH[,PROP=VALUE...],\n"
	"or mem:SIZE for a RAM disk. list shows the exports of an NBD server, probe one of\n"
	"them; they have options of their own, see list -h.\n"
	"\n"
	"  -r, --read-only            refuse every change\n"
	"  -x, --export-name NAME     name of the export (one TARGET)\n"
	"  -D, --description TEXT     its description (one TARGET)\n"
	"      --default-export NAME  what the empty name means (the first TARGET)\n"
	"      --cache MODE           writeback, none, writethrough, directsync, unsafe\n"
	"      --discard MODE         unmap, ignore\n"
	"      --detect-zeroes MODE   in written data: off, on, unmap (off)\n"
	"      --on-error MODE        of the device: report, enospc, stop (report)\n"
	"      --block-size MIN:PREFERRED:MAX\n"
	"                             sizes that clients are told (as the device has them)\n"
	"      --block-size-policy MODE\n"
	"                             below the minimum: rmw, strict (rmw)\n"
	"      --sparse-reads MODE    told as holes: status, zeroes, off (status)\n"
	"\n"
	"  -p, --port N               TCP port, 0 for any (10809)\n"
	"  -b, --bind ADDRESS         TCP address, may be repeated (127.0.0.1 and ::1)\n"
	"  -k, -U, --socket, --unix PATH\n"
	"                             unix socket, may be repeated; - for a private one\n"
	"      --socket-mode MODE     its permissions, octal (0600)\n"
	"      --single               serve one connection on standard input and output\n"
	"  -e, --shared N             clients per export (no limit)\n"
	"      --max-connections N    connections in all (100)\n"
	"      --workers N            threads (one per CPU)\n"
	"      --poll N               microseconds to look for work before sleeping (0)\n"
	"      --shutdown-timeout N   seconds to finish in after SIGTERM (10)\n"
	"\n"
	"      --print-uri            print the URIs to standard output\n"
	"  -v, --verbose              log more\n"
	"  -V, --version\n"
	"  -h, --help\n"
	"\n"
	"See blkgate(8).\n";

/* --- Memory ----------------------------------------------------------------- */

struct owned {
	struct owned *next;
	char text[];
};

/* A copy of LEN bytes of TEXT that config_release() frees; NULL without memory. */
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

static int
no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* Makes room for one more element; NULL without memory. */
static void *
grow(void *array, unsigned count, size_t size)
{
	return realloc(array, (count + 1) * size);
}

void
config_release(struct config *config)
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
	free(config->listens);
}

/* --- Values ----------------------------------------------------------------- */

static int
parse_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value,
	     struct err *err)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || *value < min || *value > max)
		return err_set(err, -EINVAL, "%s=%s: must be a number from %llu to %llu", option,
			       text, (unsigned long long)min, (unsigned long long)max);
	return 0;
}

static int
parse_unsigned(const char *option, const char *text, unsigned min, unsigned max, unsigned *value,
	       struct err *err)
{
	uint64_t v;
	int ret = parse_number(option, text, min, max, &v, err);

	if (ret == 0)
		*value = (unsigned)v;
	return ret;
}

/* Bytes, with a suffix k, M, G or T in powers of 1024. */
static int
parse_size(const char *text, uint64_t *value, struct err *err)
{
	static const char suffixes[] = "kmgt";
	unsigned shift = 0;
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*end && !end[1]) {
		char lower = (char)(*end | 0x20);
		const char *at = strchr(suffixes, lower);

		if (at) {
			shift = 10 * (unsigned)(at - suffixes + 1);
			end++;
		}
	}
	if (text[0] < '0' || text[0] > '9' || *end || errno || v > (uint64_t)INT64_MAX >> shift)
		return err_set(err, -EINVAL,
			       "size %s: must be bytes, or a number with k, M, G or T, below 8 EiB",
			       text);
	*value = v << shift;
	return 0;
}

struct word {
	const char *text;
	int value;
};

static int
parse_word(const char *option, const char *text, const struct word *words, size_t n, int *value,
	   struct err *err)
{
	char choices[128] = "";

	for (size_t i = 0; i < n; i++) {
		if (strcmp(text, words[i].text) == 0) {
			*value = words[i].value;
			return 0;
		}
		if (i > 0)
			strncat(choices, ", ", sizeof(choices) - strlen(choices) - 1);
		strncat(choices, words[i].text, sizeof(choices) - strlen(choices) - 1);
	}
	return err_set(err, -EINVAL, "%s=%s: must be one of %s", option, text, choices);
}

static int
check_string(const char *what, const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (len > LIMIT_STRING_BYTES)
		return err_set(err, -EINVAL, "%s of %zu bytes: must be at most %u", what, len,
			       LIMIT_STRING_BYTES);
	if (!nbd_string_ok(text, len))
		return err_set(err, -EINVAL, "%s %s: must be UTF-8", what, text);
	return 0;
}

/* --- Targets ---------------------------------------------------------------- */

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

		if ((ret = parse_size(path, &size, err)) < 0) {
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
		ret = target_prop(config, t, prop, end + 1, err);
	}
	return ret;
}

static int
target_add(struct config *config, const char *text, struct err *err)
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
names_assign(struct config *config, const char *export_name, const char *description,
	     const char *default_export, struct err *err)
{
	int ret;

	if (config->ntargets > 1 && export_name)
		return err_set(err, -EINVAL,
			       "--export-name: goes with one TARGET, but there are %u; "
			       "name each as NAME=TARGET",
			       config->ntargets);
	if (config->ntargets > 1 && description)
		return err_set(err, -EINVAL,
			       "--description: goes with one TARGET, but there are %u; "
			       "several can have names, NAME=TARGET, but no descriptions",
			       config->ntargets);
	if (export_name)
		config->targets[0].name = export_name;
	if (description)
		config->targets[0].description = description;

	for (unsigned i = 0; i < config->ntargets; i++) {
		struct config_target *t = &config->targets[i];

		if (!t->name)
			t->name = config->ntargets == 1 ? "" : basename_of(t);
		if ((ret = check_string("export name", t->name, err)) < 0 ||
		    (ret = check_string("description", t->description, err)) < 0)
			return ret;
		for (unsigned j = 0; j < i; j++)
			if (strcmp(t->name, config->targets[j].name) == 0)
				return err_set(err, -EINVAL,
					       "targets %s and %s: both would be export \"%s\"; "
					       "name them as NAME=TARGET",
					       config->targets[j].text, t->text, t->name);
	}

	for (unsigned i = 0; default_export; i++) {
		if (i == config->ntargets)
			return err_set(err, -EINVAL,
				       "--default-export=%s: must be the name of an export",
				       default_export);
		if (strcmp(config->targets[i].name, default_export) == 0) {
			config->fallback = i;
			break;
		}
	}
	return 0;
}

/* --- Listeners -------------------------------------------------------------- */

static int
listen_add(struct config *config, struct config_listen listen, struct err *err)
{
	struct config_listen *listens = grow(config->listens, config->nlistens, sizeof(*listens));

	if (!listens)
		return no_memory(err);
	config->listens = listens;
	config->listens[config->nlistens++] = listen;
	return 0;
}

/* A colon is in the host's name only if it is an IPv6 address, which has two. */
static int
bind_add(struct config *config, const char *host, struct err *err)
{
	const char *colon = strchr(host, ':');

	if (!*host)
		return err_set(err, -EINVAL, "--bind=: must be an address, such as 0.0.0.0 or ::");
	if (*host == '[' || (colon && !strchr(colon + 1, ':')))
		return err_set(err, -EINVAL,
			       "--bind=%s: must be an address or a host name alone, such as "
			       "127.0.0.1 or ::1; the port goes with --port",
			       host);
	return listen_add(config, (struct config_listen){ .host = host }, err);
}

static int
unix_add(struct config *config, const char *path, struct err *err)
{
	if (!*path)
		return err_set(err, -EINVAL, "--socket=: must be a path, or - for a private one");
	if (strcmp(path, "-") == 0) {
		config->private_socket = true;
		return 0;
	}
	return listen_add(config, (struct config_listen){ .unix_path = path }, err);
}

/* --- Options ---------------------------------------------------------------- */

enum {
	OPT_CACHE = 256,
	OPT_DISCARD,
	OPT_DETECT_ZEROES,
	OPT_ON_ERROR,
	OPT_BLOCK_SIZE,
	OPT_BLOCK_SIZE_POLICY,
	OPT_SPARSE_READS,
	OPT_DEFAULT_EXPORT,
	OPT_SOCKET_MODE,
	OPT_SINGLE,
	OPT_MAX_CONNECTIONS,
	OPT_WORKERS,
	OPT_POLL,
	OPT_SHUTDOWN_TIMEOUT,
	OPT_PRINT_URI,
};

/* Other servers' names for the same thing are accepted as well. */
static const struct option options[] = {
	{ "read-only", no_argument, NULL, 'r' },
	{ "readonly", no_argument, NULL, 'r' },
	{ "export-name", required_argument, NULL, 'x' },
	{ "exportname", required_argument, NULL, 'x' },
	{ "description", required_argument, NULL, 'D' },
	{ "default-export", required_argument, NULL, OPT_DEFAULT_EXPORT },
	{ "cache", required_argument, NULL, OPT_CACHE },
	{ "discard", required_argument, NULL, OPT_DISCARD },
	{ "detect-zeroes", required_argument, NULL, OPT_DETECT_ZEROES },
	{ "on-error", required_argument, NULL, OPT_ON_ERROR },
	{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
	{ "block-size-policy", required_argument, NULL, OPT_BLOCK_SIZE_POLICY },
	{ "sparse-reads", required_argument, NULL, OPT_SPARSE_READS },
	{ "port", required_argument, NULL, 'p' },
	{ "bind", required_argument, NULL, 'b' },
	{ "ipaddr", required_argument, NULL, 'b' },
	{ "socket", required_argument, NULL, 'k' },
	{ "unix", required_argument, NULL, 'U' },
	{ "socket-mode", required_argument, NULL, OPT_SOCKET_MODE },
	{ "single", no_argument, NULL, OPT_SINGLE },
	{ "shared", required_argument, NULL, 'e' },
	{ "max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "poll", required_argument, NULL, OPT_POLL },
	{ "shutdown-timeout", required_argument, NULL, OPT_SHUTDOWN_TIMEOUT },
	{ "print-uri", no_argument, NULL, OPT_PRINT_URI },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static const struct word cache_words[] = {
	{ "writeback", DEV_CACHE_WRITEBACK },	    { "none", DEV_CACHE_NONE },
	{ "writethrough", DEV_CACHE_WRITETHROUGH }, { "directsync", DEV_CACHE_DIRECTSYNC },
	{ "unsafe", DEV_CACHE_UNSAFE },
};

static const struct word discard_words[] = {
	{ "unmap", true },
	{ "on", true },
	{ "ignore", false },
	{ "off", false },
};

static const struct word detect_words[] = {
	{ "off", DEV_DETECT_OFF },
	{ "on", DEV_DETECT_ON },
	{ "unmap", DEV_DETECT_UNMAP },
};

static const struct word on_error_words[] = {
	{ "report", BACKEND_REPORT },
	{ "enospc", BACKEND_ENOSPC },
	{ "stop", BACKEND_STOP },
};

static const struct word policy_words[] = {
	{ "rmw", false },
	{ "strict", true },
};

static const struct word sparse_words[] = {
	{ "status", EXPORT_SPARSE_STATUS },
	{ "zeroes", EXPORT_SPARSE_ZEROES },
	{ "off", EXPORT_SPARSE_OFF },
};

struct names {
	const char *export_name, *description, *default_export;
};

static int
parse_mode(const char *text, unsigned *mode, struct err *err)
{
	char *end;
	unsigned long v = strtoul(text, &end, 8);

	if (text[0] < '0' || text[0] > '7' || *end || v > 0777)
		return err_set(err, -EINVAL, "--socket-mode=%s: must be octal, 0 to 0777", text);
	*mode = (unsigned)v;
	return 0;
}

/* Up to a colon or the end, where it moves *AT: a size from MIN to MAX, or nothing for 0. */
static int
size_part(const char *name, const char **at, uint32_t min, uint32_t max, uint32_t *value,
	  struct err *err)
{
	size_t len = strcspn(*at, ":");
	char text[32];
	uint64_t v;
	int ret;

	*value = 0;
	if (len > 0) {
		if (len >= sizeof(text))
			return err_set(err, -EINVAL, "%s %.*s: is no size", name, (int)len, *at);
		memcpy(text, *at, len);
		text[len] = '\0';
		if ((ret = parse_size(text, &v, err)) < 0)
			return ret;
		if (v < min || v > max)
			return err_set(err, -EINVAL, "%s %s: must be from %u to %u bytes", name, text,
				       min, max);
		*value = (uint32_t)v;
	}
	*at += len;
	return 0;
}

/* MIN:PREFERRED:MAX, of which any may be missing. The rules are the protocol's. */
static int
parse_block_sizes(const char *text, struct block_sizes *sizes, struct err *err)
{
	struct block_sizes s = { 0 };
	const struct {
		const char *name;
		uint32_t min, max, *value;
	} parts[] = {
		{ "minimum", 1, 64u << 10, &s.minimum },
		{ "preferred", 512, LIMIT_PAYLOAD_ADVERTISED, &s.preferred },
		{ "maximum", 512, LIMIT_PAYLOAD_SERVED, &s.maximum },
	};
	const char *at = text;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && ret == 0; i++) {
		if (i > 0 && *at != ':')
			break;
		at += i > 0;
		ret = size_part(parts[i].name, &at, parts[i].min, parts[i].max, parts[i].value,
				err);
	}
	if (ret < 0)
		goto bad;
	ret = -EINVAL;
	if (*at)
		err_set(err, ret, "must be MIN:PREFERRED:MAX");
	else if (s.minimum && !is_pow2(s.minimum))
		err_set(err, ret, "minimum %u: must be a power of two", s.minimum);
	else if (s.preferred && !is_pow2(s.preferred))
		err_set(err, ret, "preferred %u: must be a power of two", s.preferred);
	else if (s.preferred && s.preferred < s.minimum)
		err_set(err, ret, "preferred %u: must not be less than the minimum %u", s.preferred,
			s.minimum);
	else if (s.maximum && s.maximum < MAX(s.minimum, s.preferred))
		err_set(err, ret, "maximum %u: must not be less than the other two", s.maximum);
	else if (s.maximum && s.minimum && s.maximum % s.minimum)
		err_set(err, ret, "maximum %u: must be a multiple of the minimum %u", s.maximum,
			s.minimum);
	else
		ret = 0;
	if (ret == 0) {
		*sizes = s;
		return 0;
	}
bad:
	err_prefix(err, "--block-size=%s", text);
	return ret;
}

static int
option_apply(struct config *config, struct names *names, int opt, struct err *err)
{
	const char *arg = optarg;
	int word, ret = 0;

	switch (opt) {
	case 'r':
		config->read_only = true;
		break;
	case 'x':
		names->export_name = arg;
		break;
	case 'D':
		names->description = arg;
		break;
	case OPT_DEFAULT_EXPORT:
		names->default_export = arg;
		break;
	case OPT_CACHE:
		ret = parse_word("--cache", arg, cache_words, ARRAY_SIZE(cache_words), &word, err);
		if (ret == 0)
			config->cache = (enum dev_cache)word;
		break;
	case OPT_DISCARD:
		ret = parse_word("--discard", arg, discard_words, ARRAY_SIZE(discard_words), &word,
				 err);
		if (ret == 0)
			config->discard = word;
		break;
	case OPT_DETECT_ZEROES:
		ret = parse_word("--detect-zeroes", arg, detect_words, ARRAY_SIZE(detect_words),
				 &word, err);
		if (ret == 0)
			config->detect_zeroes = (enum dev_detect)word;
		break;
	case OPT_ON_ERROR:
		ret = parse_word("--on-error", arg, on_error_words, ARRAY_SIZE(on_error_words),
				 &word, err);
		if (ret == 0)
			config->on_error = (enum backend_policy)word;
		break;
	case OPT_BLOCK_SIZE:
		ret = parse_block_sizes(arg, &config->sizes, err);
		break;
	case OPT_BLOCK_SIZE_POLICY:
		ret = parse_word("--block-size-policy", arg, policy_words,
				 ARRAY_SIZE(policy_words), &word, err);
		if (ret == 0)
			config->strict = word;
		break;
	case OPT_SPARSE_READS:
		ret = parse_word("--sparse-reads", arg, sparse_words, ARRAY_SIZE(sparse_words),
				 &word, err);
		if (ret == 0)
			config->sparse = (enum export_sparse)word;
		break;
	case 'p': {
		unsigned port;

		ret = parse_unsigned("--port", arg, 0, 65535, &port, err);
		if (ret == 0) {
			config->port = (uint16_t)port;
			config->port_given = true;
		}
		break;
	}
	case 'b':
		ret = bind_add(config, arg, err);
		break;
	case 'k':
	case 'U':
		ret = unix_add(config, arg, err);
		break;
	case OPT_SOCKET_MODE:
		ret = parse_mode(arg, &config->socket_mode, err);
		break;
	case OPT_SINGLE:
		config->single = true;
		break;
	case 'e':
		ret = parse_unsigned("--shared", arg, 0, 1u << 20, &config->clients_max, err);
		break;
	case OPT_MAX_CONNECTIONS:
		ret = parse_unsigned("--max-connections", arg, 1, 1u << 20, &config->connections_max,
				     err);
		break;
	case OPT_WORKERS:
		ret = parse_unsigned("--workers", arg, 1, LIMIT_WORKERS, &config->workers, err);
		break;
	case OPT_POLL:
		ret = parse_unsigned("--poll", arg, 0, 1000000, &config->poll_us, err);
		break;
	case OPT_SHUTDOWN_TIMEOUT:
		ret = parse_unsigned("--shutdown-timeout", arg, 0, 86400, &config->shutdown_s, err);
		break;
	case OPT_PRINT_URI:
		config->print_uri = true;
		break;
	case 'v':
		config->verbose++;
		break;
	case 'V':
		config->action = CONFIG_VERSION;
		break;
	case 'h':
		config->action = CONFIG_HELP;
		break;
	}
	return ret;
}

/* The beginning of a long option: of none, or of several. */
static int
bad_long_option(const char *given, struct err *err)
{
	int len = (int)strcspn(given, "=");
	char choices[400] = "";
	int last = 0;

	for (const struct option *o = options; o->name; o++) {
		if (strncmp(o->name, given + 2, (size_t)len - 2) != 0 || o->val == last)
			continue;
		last = o->val; /* other names of the same stand side by side */
		if (*choices)
			strncat(choices, ", ", sizeof(choices) - strlen(choices) - 1);
		strncat(choices, "--", sizeof(choices) - strlen(choices) - 1);
		strncat(choices, o->name, sizeof(choices) - strlen(choices) - 1);
	}
	if (*choices)
		return err_set(err, -EINVAL, "%.*s: could be any of %s", len, given, choices);
	return err_set(err, -EINVAL, "%.*s: there is no such option", len, given);
}

/*
 * In the middle of a cluster such as -Zr, argv[optind - 1] is some other option.
 * It is the culprit where getopt_long(3) has taken all of it: of a long option,
 * and of a short one that lacks its value at the end of the line.
 */
static int
bad_option(char **argv, int opt, struct err *err)
{
	const char *given = argv[optind - 1];
	bool exists = false;

	for (const struct option *o = options; o->name; o++)
		exists |= o->val == optopt;
	if (opt == ':' && strncmp(given, "--", 2) == 0)
		return err_set(err, -EINVAL, "%s: needs a value", given);
	if (opt == ':')
		return err_set(err, -EINVAL, "-%c: needs a value", optopt);
	/* Short ones are never given a value that they do not take. */
	if (optopt && exists)
		return err_set(err, -EINVAL, "%s: takes no value", given);
	if (optopt == '=')
		return err_set(err, -EINVAL,
			       "-=: there is no such option; those of one letter have no = before "
			       "their value, as in -p 10809, and -r and -v take none");
	if (optopt)
		return err_set(err, -EINVAL, "-%c: there is no such option", optopt);
	return bad_long_option(given, err);
}

/* What the options say together: no listener named, or a port without address. */
static int
listeners_settle(struct config *config, struct err *err)
{
	bool named = config->nlistens || config->private_socket;
	bool tcp = false;

	for (unsigned i = 0; i < config->nlistens; i++)
		tcp |= !config->listens[i].unix_path;
	if (config->single) {
		if (named || config->port_given)
			return err_set(err, -EINVAL,
				       "--single: serves standard input, not -p, -b, -k or -U");
		return 0;
	}
	config->default_listen = !named && !config->port_given;
	if (config->default_listen || (config->port_given && !tcp))
		return listen_add(config, (struct config_listen){ 0 }, err);
	return 0;
}

int
config_parse(struct config *config, int argc, char **argv, struct err *err)
{
	struct names names = { 0 };
	int opt, ret;

	*config = (struct config){
		.port = 10809,
		.socket_mode = 0600,
		.discard = true,
		.connections_max = LIMIT_CONNECTIONS,
		.shutdown_s = LIMIT_SHUTDOWN_S,
	};

	optind = 0; /* anew, whatever was left in the middle: getopt(3), NOTES */
	while ((opt = getopt_long(argc, argv, ":rx:D:p:b:k:U:e:vVh", options, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			return bad_option(argv, opt, err);
		ret = option_apply(config, &names, opt, err);
		if (ret < 0)
			return ret;
		if (config->action != CONFIG_SERVE)
			return 0;
	}
	if (optind == argc)
		return err_set(err, -EINVAL,
			       "no TARGET: name a disk image, a block device or mem:SIZE");
	for (; optind < argc; optind++)
		if ((ret = target_add(config, argv[optind], err)) < 0)
			return ret;
	for (unsigned i = 0; i < config->ntargets; i++)
		if ((ret = props_check(config, &config->targets[i], err)) < 0)
			return ret;
	if ((ret = names_assign(config, names.export_name, names.description,
				names.default_export, err)) < 0)
		return ret;
	return listeners_settle(config, err);
}
