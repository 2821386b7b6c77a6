/* SPDX-License-Identifier: MIT */
/*
 * main.c - `blkgate list` and `blkgate probe`.
 *
 * A program of its own, which blkgate runs, so that libnbd and all that comes
 * with it stay out of the daemon. The path: the command line; list_run() or
 * probe_run(); what is left for stdout.
 *
 * Exit status: 0 with an answer, 1 without one, 2 for a wrong command line.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/client/client.h"
#include "server/client/text.h"

#define TIMEOUT_DEFAULT_S 30u
#define TIMEOUT_MAX_S 86400u

static const struct command {
	const char *name;
	enum client_exit (*run)(struct client *client);
	const char *usage;
} commands[] = {
	{ "list", list_run,
	  "usage: blkgate list [--json] [--timeout SECONDS] URI\n"
	  "\n"
	  "Lists the exports of an NBD server: name, size, whether it can be written, and\n"
	  "description.\n" },
	{ "probe", probe_run,
	  "usage: blkgate probe [--json] [--timeout SECONDS] URI\n"
	  "\n"
	  "Shows all that an NBD server tells about one export: its size, what it can do,\n"
	  "block sizes and metadata contexts.\n" },
};

static const char usage_options[] =
	"\n"
	"      --json             for programs\n"
	"      --timeout SECONDS  for each answer of the server (30)\n"
	"  -h, --help\n"
	"\n"
	"URI is nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH; nbds:// with TLS.\n"
	"See blkgate(8).\n";

/*
 * The library's sockets must not become standard streams. Where one is missing,
 * reading gets nothing and writing is an error.
 */
static void
stdio_reserve(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* --- The command line ------------------------------------------------------------- */

enum { OPT_JSON = 256, OPT_TIMEOUT };

static const struct option options[] = {
	{ "json", no_argument, NULL, OPT_JSON },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* What is wrong with the command line, to be freed; NULL: nothing. */
static char *
timeout_parse(const char *text, unsigned *seconds)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v < 1 || v > TIMEOUT_MAX_S)
		return text_format("--timeout=%s: must be a number from 1 to %u", text,
				   TIMEOUT_MAX_S);
	*seconds = (unsigned)v;
	return NULL;
}

static char *
bad_option(char **argv, int opt)
{
	bool exists = false;

	for (const struct option *o = options; o->name; o++)
		exists |= o->val == optopt;
	if (opt == ':')
		return text_format("%s: needs a value", argv[optind - 1]);
	if (exists)
		return text_format("%s: takes no value", argv[optind - 1]);
	if (optopt)
		return text_format("-%c: there is no such option", optopt);
	return text_format("%s: there is no such option", argv[optind - 1]);
}

static char *
parse(struct client *client, bool *help, int argc, char **argv)
{
	char *wrong = NULL;
	int opt;

	while (!wrong && (opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (opt) {
		case OPT_JSON:
			client->json = true;
			break;
		case OPT_TIMEOUT:
			wrong = timeout_parse(optarg, &client->session.timeout_s);
			break;
		case 'h':
			*help = true;
			return NULL;
		default:
			wrong = bad_option(argv, opt);
		}
	}
	if (wrong)
		return wrong;
	if (optind == argc)
		return text_format("no URI: name a server, such as nbd://HOST or "
				   "nbd+unix:///?socket=PATH");
	if (optind + 1 < argc)
		return text_format("%s: one URI is enough", argv[optind + 1]);
	client->session.uri = argv[optind];
	if (!strstr(client->session.uri, "://"))
		return text_format("%s: must be a URI, such as nbd://HOST or "
				   "nbd+unix:///?socket=PATH",
				   client->session.uri);
	return NULL;
}

static const struct command *
command_find(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(commands); i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}

/* --- main() ------------------------------------------------------------------------ */

int
main(int argc, char **argv)
{
	struct client client = { .session.timeout_s = TIMEOUT_DEFAULT_S };
	const struct command *command = command_find(argv[1]);
	enum client_exit ret = CLIENT_OK;
	bool help = false;
	char *wrong;

	stdio_reserve();
	setlocale(LC_CTYPE, "");
	text_init(strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
	if (!command) {
		fputs("blkgate-client: is run by blkgate: blkgate list URI, blkgate probe URI\n",
		      stderr);
		return CLIENT_USAGE;
	}
	wrong = parse(&client, &help, argc - 1, argv + 1);
	if (wrong) {
		fprintf(stderr, "blkgate: %s: %s\nTry 'blkgate %s --help'.\n", command->name, wrong,
			command->name);
		free(wrong);
		return CLIENT_USAGE;
	}
	if (help)
		printf("%s%s", command->usage, usage_options);
	else
		ret = command->run(&client);
	if (ret == CLIENT_OK)
		ret = client_flush(&client);
	session_release(&client.session);
	return ret;
}
