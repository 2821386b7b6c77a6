/* SPDX-License-Identifier: MIT */
/* client.c - what `blkgate list` and `blkgate probe` share; see client.h. */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/text.h"

enum client_exit
client_open(struct client *client)
{
	enum session_answer answer = session_open(&client->session);

	if (answer == SESSION_YES)
		return CLIENT_OK;
	session_complain(&client->session, client->session.why);
	return answer == SESSION_BAD_URI ? CLIENT_USAGE : CLIENT_FAILED;
}

void
client_grow(struct client *client, size_t bytes)
{
	char size[TEXT_SIZE_MAX], *why;

	client->bytes += bytes;
	if (client->bytes <= CLIENT_BYTES_MAX)
		return;
	why = text_format("the answer is longer than %s", text_size(size, CLIENT_BYTES_MAX));
	session_complain(&client->session, why);
	free(why);
	exit(CLIENT_FAILED);
}

char *
client_keep(struct client *client, const char *text)
{
	client_grow(client, strlen(text) + 1);
	return text_format("%s", text);
}

enum client_exit
client_flush(const struct client *client)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return CLIENT_OK;
	/* An earlier write may have been the one that failed. */
	fprintf(stderr, "blkgate: standard output: %s\n", strerror(errno ? errno : EIO));
	return CLIENT_FAILED;
}

/* --- JSON ------------------------------------------------------------------------- */

static const char *
json_bool(int value)
{
	return value < 0 ? "null" : value ? "true" : "false";
}

void
client_json_protocol(const struct session_protocol *p)
{
	printf("\"protocol\": ");
	text_json(stdout, p->name);
	printf(",\n\"tls\": %s,\n\"structured_replies\": %s,\n\"extended_headers\": %s,\n",
	       json_bool(p->tls), json_bool(p->structured_replies), json_bool(p->extended_headers));
}

/* A number of which 0 or less means that it is not known. */
static void
json_size(const char *key, int64_t value)
{
	if (value > 0)
		printf("\"%s\": %lld", key, (long long)value);
	else
		printf("\"%s\": null", key);
}

static void
json_facts(const struct session_facts *facts)
{
	if (facts->size_bytes >= 0)
		printf("\"size\": %lld, ", (long long)facts->size_bytes);
	else
		printf("\"size\": null, ");
	printf("\"read_only\": %s, \"flags\": {", json_bool(facts->flags[SESSION_READ_ONLY]));
	for (unsigned i = 0; i < SESSION_FLAGS; i++)
		printf("%s\"%s\": %s", i ? ", " : "", session_flags[i].name,
		       json_bool(facts->flags[i]));
	printf("}, \"block_size\": {");
	json_size("minimum", facts->block_min);
	printf(", ");
	json_size("preferred", facts->block_preferred);
	printf(", ");
	json_size("maximum", facts->block_max);
	printf("}");
}

void
client_json_export(const char *uri, const char *name, const char *description,
		   const struct session_facts *facts)
{
	printf("\"name\": ");
	text_json(stdout, name);
	printf(", \"uri\": ");
	text_json(stdout, uri);
	printf(", \"canonical_name\": ");
	text_json(stdout, facts ? facts->canonical_name : NULL);
	printf(", \"description\": ");
	text_json(stdout, description);
	printf(", ");
	if (facts)
		json_facts(facts);
	else
		printf("\"size\": null, \"read_only\": null, \"flags\": null, "
		       "\"block_size\": null");
}
