/* SPDX-License-Identifier: MIT */
/*
 * config.c - the command line.
 *
 * The path: config_parse() runs getopt over the options, one row of options[]
 * each; what is left are TARGETs (config_target.c); then what options say
 * together is looked at: config_targets_settle(), places_settle(),
 * tcp_settle(), tls_settle(), listeners_settle().
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/annotate.h"
#include "server/config_target.h"
#include "server/limits.h"
#include "server/tls.h"
#include "server/value.h"

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
	"                             (writeback)\n"
	"      --discard MODE         unmap, ignore (unmap)\n"
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
	"      --access FILE          rules about which client may do what with which export\n"
	"      --allow RULE           one such rule, before those of the file: RIGHT CLIENT\n"
	"                             on EXPORT, such as 'read any on *'; may be repeated\n"
	"      --deny RULE            the same with the right none, and without the word\n"
	"  -e, --shared N             clients per export (no limit)\n"
	"      --max-connections N    connections in all (100)\n"
	"      --max-handshakes N     of these, still negotiating (half of them)\n"
	"      --handshake-limit N    seconds a client has to negotiate, 0 for ever (10)\n"
	"      --keepalive IDLE[:INTERVAL[:COUNT]]\n"
	"                             seconds of silence until a TCP client is asked whether\n"
	"                             it is there, between attempts, and how many, or off\n"
	"                             (60:10:6)\n"
	"      --tcp-user-timeout N   seconds for it to confirm what is sent, 0 for the\n"
	"                             kernel's own (120, or what keepalive comes to)\n"
	"      --workers N            threads (one per CPU)\n"
	"      --poll N               microseconds to look for work before sleeping (0)\n"
	"      --shutdown-timeout N   seconds to finish in after SIGTERM (10)\n"
	"\n"
	"      --user USER            serve as this user, a name or number\n"
	"      --group GROUP          and this group (that of the user)\n"
	"      --sandbox MODE         give up all rights that serving does not take: auto,\n"
	"                             on, off (auto)\n"
	"      --selinux-label LABEL  of listening sockets\n"
	"      --tls MODE             off, on (for who asks), require (require with the files\n"
	"                             below)\n"
	"      --tls-certificates DIR ca-cert.pem, ca-crl.pem, server-cert.pem, server-key.pem\n"
	"      --tls-cert, --tls-key, --tls-ca, --tls-crl FILE\n"
	"                             instead of those\n"
	"      --tls-verify-peer      clients have to show a certificate of that CA\n"
	"      --tls-purpose MODE     which says that it is for them: required, optional\n"
	"                             (required)\n"
	"      --tls-psk FILE         users and their keys, as psktool(1) makes them\n"
	"      --tls-priority TEXT    what GnuTLS may use\n"
	"\n"
	"      --print-uri            print the URIs to standard output\n"
	"  -v, --verbose              log more\n"
	"  -V, --version\n"
	"  -h, --help\n"
	"\n"
	"--readonly, --exportname, --ipaddr and --timeout are other names of --read-only,\n"
	"--export-name, --bind and --handshake-limit. See blkgate(8).\n";

/* --- Listeners -------------------------------------------------------------- */

static int
listen_add(struct config *config, struct config_listen listen, struct err *err)
{
	struct config_listen *listens =
		realloc(config->listens, (config->nlistens + 1) * sizeof(*listens));

	if (!listens)
		return err_set(err, -ENOMEM, "out of memory");
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

static int
rule_add(struct config *config, const char *text, bool is_deny, struct err *err)
{
	struct access_source *source = &config->access;
	struct access_line *lines;

	if (source->nlines == LIMIT_ACCESS_RULES)
		return err_set(err, -EINVAL, "--allow, --deny: at most %u rules",
			       LIMIT_ACCESS_RULES);
	lines = realloc(config->access_lines, (source->nlines + 1) * sizeof(*lines));
	if (!lines)
		return err_set(err, -ENOMEM, "out of memory");
	lines[source->nlines++] = (struct access_line){ .is_deny = is_deny, .text = text };
	source->lines = config->access_lines = lines;
	return 0;
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
	OPT_MAX_HANDSHAKES,
	OPT_HANDSHAKE_LIMIT,
	OPT_KEEPALIVE,
	OPT_TCP_USER_TIMEOUT,
	OPT_WORKERS,
	OPT_POLL,
	OPT_SHUTDOWN_TIMEOUT,
	OPT_USER,
	OPT_GROUP,
	OPT_SANDBOX,
	OPT_SELINUX_LABEL,
	OPT_TLS,
	OPT_TLS_CERTIFICATES,
	OPT_TLS_CA,
	OPT_TLS_CRL,
	OPT_TLS_CERT,
	OPT_TLS_KEY,
	OPT_TLS_VERIFY_PEER,
	OPT_TLS_PURPOSE,
	OPT_TLS_PSK,
	OPT_TLS_PRIORITY,
	OPT_PRINT_URI,
	OPT_ACCESS,
	OPT_ALLOW,
	OPT_DENY,
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
	{ "access", required_argument, NULL, OPT_ACCESS },
	{ "allow", required_argument, NULL, OPT_ALLOW },
	{ "deny", required_argument, NULL, OPT_DENY },
	{ "shared", required_argument, NULL, 'e' },
	{ "max-connections", required_argument, NULL, OPT_MAX_CONNECTIONS },
	{ "max-handshakes", required_argument, NULL, OPT_MAX_HANDSHAKES },
	{ "handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT },
	{ "timeout", required_argument, NULL, OPT_HANDSHAKE_LIMIT },
	{ "keepalive", required_argument, NULL, OPT_KEEPALIVE },
	{ "tcp-user-timeout", required_argument, NULL, OPT_TCP_USER_TIMEOUT },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "poll", required_argument, NULL, OPT_POLL },
	{ "shutdown-timeout", required_argument, NULL, OPT_SHUTDOWN_TIMEOUT },
	{ "user", required_argument, NULL, OPT_USER },
	{ "group", required_argument, NULL, OPT_GROUP },
	{ "sandbox", required_argument, NULL, OPT_SANDBOX },
	{ "selinux-label", required_argument, NULL, OPT_SELINUX_LABEL },
	{ "tls", required_argument, NULL, OPT_TLS },
	{ "tls-certificates", required_argument, NULL, OPT_TLS_CERTIFICATES },
	{ "tls-ca", required_argument, NULL, OPT_TLS_CA },
	{ "tls-crl", required_argument, NULL, OPT_TLS_CRL },
	{ "tls-cert", required_argument, NULL, OPT_TLS_CERT },
	{ "tls-key", required_argument, NULL, OPT_TLS_KEY },
	{ "tls-verify-peer", no_argument, NULL, OPT_TLS_VERIFY_PEER },
	{ "tls-purpose", required_argument, NULL, OPT_TLS_PURPOSE },
	{ "tls-psk", required_argument, NULL, OPT_TLS_PSK },
	{ "tls-priority", required_argument, NULL, OPT_TLS_PRIORITY },
	{ "print-uri", no_argument, NULL, OPT_PRINT_URI },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static const struct value_word cache_words[] = {
	{ "writeback", DEV_CACHE_WRITEBACK },	    { "none", DEV_CACHE_NONE },
	{ "writethrough", DEV_CACHE_WRITETHROUGH }, { "directsync", DEV_CACHE_DIRECTSYNC },
	{ "unsafe", DEV_CACHE_UNSAFE },
};

static const struct value_word discard_words[] = {
	{ "unmap", true },
	{ "on", true },
	{ "ignore", false },
	{ "off", false },
};

static const struct value_word detect_words[] = {
	{ "off", DEV_DETECT_OFF },
	{ "on", DEV_DETECT_ON },
	{ "unmap", DEV_DETECT_UNMAP },
};

static const struct value_word on_error_words[] = {
	{ "report", BACKEND_REPORT },
	{ "enospc", BACKEND_ENOSPC },
	{ "stop", BACKEND_STOP },
};

static const struct value_word policy_words[] = {
	{ "rmw", false },
	{ "strict", true },
};

static const struct value_word sparse_words[] = {
	{ "status", EXPORT_SPARSE_STATUS },
	{ "zeroes", EXPORT_SPARSE_ZEROES },
	{ "off", EXPORT_SPARSE_OFF },
};

static const struct value_word sandbox_words[] = {
	{ "auto", SANDBOX_AUTO },
	{ "on", SANDBOX_ON },
	{ "off", SANDBOX_OFF },
};

static const struct value_word tls_words[] = {
	{ "off", TLS_OFF },
	{ "on", TLS_ON },
	{ "require", TLS_REQUIRE },
};

static const struct value_word purpose_words[] = {
	{ "required", false },
	{ "optional", true },
};

/* Options whose value is a text of TLS, and where it goes. */
static const struct text {
	int opt;
	size_t at; /* of a const char * in struct config */
} texts[] = {
	{ OPT_TLS_CERTIFICATES, offsetof(struct config, tls.dir) },
	{ OPT_TLS_CA, offsetof(struct config, tls.ca) },
	{ OPT_TLS_CRL, offsetof(struct config, tls.crl) },
	{ OPT_TLS_CERT, offsetof(struct config, tls.cert) },
	{ OPT_TLS_KEY, offsetof(struct config, tls.key) },
	{ OPT_TLS_PSK, offsetof(struct config, tls.psk) },
	{ OPT_TLS_PRIORITY, offsetof(struct config, tls.priority) },
};

/* Options whose value is a number from MIN to MAX, and where it goes. */
static const struct number {
	int opt;
	unsigned min, max;
	size_t at; /* of an unsigned in struct config */
} numbers[] = {
	{ 'e', 0, 1u << 20, offsetof(struct config, clients_max) },
	{ OPT_MAX_CONNECTIONS, 1, 1u << 20, offsetof(struct config, connections_max) },
	{ OPT_MAX_HANDSHAKES, 1, 1u << 20, offsetof(struct config, handshakes_max) },
	{ OPT_HANDSHAKE_LIMIT, 0, 3600, offsetof(struct config, handshake_s) },
	{ OPT_TCP_USER_TIMEOUT, 0, LIMIT_UNCONFIRMED_MAX_S,
	  offsetof(struct config, tcp.user_timeout_s) },
	{ OPT_WORKERS, 1, LIMIT_WORKERS, offsetof(struct config, workers) },
	{ OPT_POLL, 0, 1000000, offsetof(struct config, poll_us) },
	{ OPT_SHUTDOWN_TIMEOUT, 0, 86400, offsetof(struct config, shutdown_s) },
};

/* The name by which messages call an option: its first one. */
static const char *
option_name(int opt)
{
	const struct option *o = options;

	while (o->val != opt)
		o++;
	return o->name;
}

static int
number_apply(struct config *config, const struct number *n, const char *text, struct err *err)
{
	unsigned *at = (unsigned *)((char *)config + n->at);
	char name[40];

	snprintf(name, sizeof(name), "--%s", option_name(n->opt));
	return value_unsigned(name, text, n->min, n->max, at, err);
}

/* Parts that are left out have their defaults, whatever was said before. */
static int
keepalive_parse(const char *text, struct config_tcp *tcp, struct err *err)
{
	static const unsigned max[] = { LIMIT_KEEPALIVE_MAX_S, LIMIT_KEEPALIVE_MAX_S,
					LIMIT_KEEPALIVE_MAX_PROBES };
	unsigned parts[] = { 0, LIMIT_KEEPALIVE_INTERVAL_S, LIMIT_KEEPALIVE_PROBES };
	const char *at = text;
	bool ok = true, more = strcmp(text, "off") != 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && ok && more; i++) {
		char *end;
		unsigned long v = strtoul(at, &end, 10); /* ULONG_MAX if it is too long */

		ok = *at >= '0' && *at <= '9' && v >= 1 && v <= max[i] && (*end == ':' || !*end);
		parts[i] = (unsigned)v;
		more = *end == ':';
		at = end + 1;
	}
	if (!ok || more)
		return err_set(err, -EINVAL,
			       "--keepalive=%s: must be off, or IDLE[:INTERVAL[:COUNT]], two "
			       "numbers of seconds from 1 to %u and one from 1 to %u",
			       text, LIMIT_KEEPALIVE_MAX_S, LIMIT_KEEPALIVE_MAX_PROBES);
	tcp->keepalive_idle_s = parts[0];
	tcp->keepalive_interval_s = parts[1];
	tcp->keepalive_probes = parts[2];
	return 0;
}

static int
option_apply(struct config *config, struct config_names *names, int opt, struct err *err)
{
	const char *arg = optarg;
	int word, ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].opt == opt)
			return number_apply(config, &numbers[i], arg, err);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (texts[i].opt == opt) {
			*(const char **)((char *)config + texts[i].at) = arg;
			return 0;
		}

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
		ret = value_word("--cache", arg, cache_words, ARRAY_SIZE(cache_words), &word, err);
		if (ret == 0)
			config->cache = (enum dev_cache)word;
		break;
	case OPT_DISCARD:
		ret = value_word("--discard", arg, discard_words, ARRAY_SIZE(discard_words), &word,
				 err);
		if (ret == 0)
			config->discard = word;
		break;
	case OPT_DETECT_ZEROES:
		ret = value_word("--detect-zeroes", arg, detect_words, ARRAY_SIZE(detect_words),
				 &word, err);
		if (ret == 0)
			config->detect_zeroes = (enum dev_detect)word;
		break;
	case OPT_ON_ERROR:
		ret = value_word("--on-error", arg, on_error_words, ARRAY_SIZE(on_error_words),
				 &word, err);
		if (ret == 0)
			config->on_error = (enum backend_policy)word;
		break;
	case OPT_BLOCK_SIZE:
		ret = value_block_sizes("--block-size", arg, &config->sizes, err);
		break;
	case OPT_BLOCK_SIZE_POLICY:
		ret = value_word("--block-size-policy", arg, policy_words,
				 ARRAY_SIZE(policy_words), &word, err);
		if (ret == 0)
			config->strict = word;
		break;
	case OPT_SPARSE_READS:
		ret = value_word("--sparse-reads", arg, sparse_words, ARRAY_SIZE(sparse_words),
				 &word, err);
		if (ret == 0)
			config->sparse = (enum export_sparse)word;
		break;
	case 'p': {
		unsigned port;

		ret = value_unsigned("--port", arg, 0, 65535, &port, err);
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
		ret = value_mode("--socket-mode", arg, &config->socket_mode, err);
		break;
	case OPT_SINGLE:
		config->single = true;
		break;
	case OPT_KEEPALIVE:
		ret = keepalive_parse(arg, &config->tcp, err);
		break;
	case OPT_USER:
		config->user = arg;
		break;
	case OPT_GROUP:
		config->group = arg;
		break;
	case OPT_SANDBOX:
		ret = value_word("--sandbox", arg, sandbox_words, ARRAY_SIZE(sandbox_words), &word,
				 err);
		if (ret == 0)
			config->sandbox = (enum sandbox_mode)word;
		break;
	case OPT_SELINUX_LABEL:
		config->selinux_label = arg;
		break;
	case OPT_TLS:
		ret = value_word("--tls", arg, tls_words, ARRAY_SIZE(tls_words), &word, err);
		if (ret == 0) {
			config->tls_mode = (enum tls_mode)word;
			config->tls_mode_given = true;
		}
		break;
	case OPT_TLS_VERIFY_PEER:
		config->tls.verify_peer = true;
		break;
	case OPT_TLS_PURPOSE:
		ret = value_word("--tls-purpose", arg, purpose_words, ARRAY_SIZE(purpose_words),
				 &word, err);
		if (ret == 0) {
			config->tls.any_purpose = word;
			config->tls_purpose_given = true;
		}
		break;
	case OPT_ACCESS:
		config->access.path = arg;
		break;
	case OPT_ALLOW:
	case OPT_DENY:
		ret = rule_add(config, arg, opt == OPT_DENY, err);
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
		/* Of nothing all would be. */
		if (len == 2 || strncmp(o->name, given + 2, (size_t)len - 2) != 0 ||
		    o->val == last)
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

/* Handshakes are some of the connections; half of them unless somebody says. */
static int
places_settle(struct config *config, struct err *err)
{
	if (config->handshakes_max == 0)
		config->handshakes_max = MAX(config->connections_max / 2, 1u);
	if (config->handshakes_max > config->connections_max)
		return err_set(err, -EINVAL,
			       "--max-handshakes=%u: must be at most --max-connections=%u, of "
			       "which they are some",
			       config->handshakes_max, config->connections_max);
	return 0;
}

/*
 * The kernel lets TCP_USER_TIMEOUT decide for a silent client too, and forgets
 * the number of probes: so it is what these come to, unless somebody says.
 */
static void
tcp_settle(struct config_tcp *tcp)
{
	uint64_t s = (uint64_t)tcp->keepalive_interval_s * tcp->keepalive_probes;

	if (tcp->user_timeout_s != UINT_MAX)
		return;
	s = tcp->keepalive_idle_s ? s + tcp->keepalive_idle_s : LIMIT_UNCONFIRMED_S;
	tcp->user_timeout_s = (unsigned)MIN(s, (uint64_t)LIMIT_UNCONFIRMED_MAX_S);
}

/* Whoever names credentials wants them used. */
static int
tls_settle(struct config *config, struct err *err)
{
	bool wanted = tls_wanted(&config->tls);

	if (!config->tls_mode_given)
		config->tls_mode = wanted ? TLS_REQUIRE : TLS_OFF;
	if (config->tls_mode == TLS_OFF && (wanted || config->tls.verify_peer))
		return err_set(err, -EINVAL, "%s",
			       wanted ? "--tls=off: contradicts the credentials that are named" :
					"--tls-verify-peer: needs certificates, see "
					"--tls-certificates");
	if (config->tls_mode != TLS_OFF && !wanted)
		return err_set(err, -EINVAL,
			       "--tls=%s: needs credentials: --tls-certificates=DIR or "
			       "--tls-psk=FILE",
			       config->tls_mode == TLS_ON ? "on" : "require");
	for (unsigned i = 0; i < config->ntargets; i++) {
		const struct config_target *t = &config->targets[i];

		if (t->tls == TARGET_TLS_REQUIRED && config->tls_mode == TLS_OFF)
			return err_set(err, -EINVAL,
				       "target %s: tls=required: needs credentials: "
				       "--tls-certificates=DIR or --tls-psk=FILE",
				       t->text);
		if (t->tls == TARGET_TLS_OPTIONAL && config->tls_mode == TLS_REQUIRE)
			return err_set(err, -EINVAL,
				       "target %s: tls=optional: contradicts --tls=require, which "
				       "credentials alone mean too; it goes with --tls=on",
				       t->text);
	}
	return 0;
}

/* Rules name exports; those of the command line are tried here, before anything else. */
static int
access_settle(struct config *config, struct err *err)
{
	struct access_source lines;
	struct access *access;
	const char **names;
	int ret;

	if (!config_has_access(config))
		return 0;
	names = calloc(config->ntargets, sizeof(*names));
	if (!names)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; i < config->ntargets; i++)
		names[i] = config->targets[i].name;
	config->access.exports = config->access_exports = names;
	config->access.nexports = config->ntargets;
	lines = config->access;
	lines.path = NULL;
	ret = tls_init(err);
	if (ret == 0)
		ret = access_load(&access, &lines, err);
	if (ret == 0)
		access_free(access);
	return ret;
}

int
config_parse(struct config *config, int argc, char **argv, struct err *err)
{
	struct config_names names = { 0 };
	int opt, ret;

	*config = (struct config){
		.port = 10809,
		.socket_mode = 0600,
		.discard = true,
		.connections_max = LIMIT_CONNECTIONS,
		.handshake_s = LIMIT_HANDSHAKE_S,
		.shutdown_s = LIMIT_SHUTDOWN_S,
		.tcp = {
			.keepalive_idle_s = LIMIT_KEEPALIVE_IDLE_S,
			.keepalive_interval_s = LIMIT_KEEPALIVE_INTERVAL_S,
			.keepalive_probes = LIMIT_KEEPALIVE_PROBES,
			.user_timeout_s = UINT_MAX, /* not given */
		},
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
		if ((ret = config_target_add(config, argv[optind], err)) < 0)
			return ret;
	if ((ret = config_targets_settle(config, &names, err)) < 0 ||
	    (ret = places_settle(config, err)) < 0 || (ret = tls_settle(config, err)) < 0 ||
	    (ret = access_settle(config, err)) < 0)
		return ret;
	tcp_settle(&config->tcp);
	return listeners_settle(config, err);
}

void
config_release(struct config *config)
{
	config_targets_release(config);
	free(config->listens);
	free(config->access_lines);
	free(config->access_exports);
}
