/* SPDX-License-Identifier: MIT */
/*
 * probe.c - `blkgate probe`: all that a server tells about one export.
 *
 * The path: probe_ask() asks for the facts, and then for the metadata contexts,
 * of which there are none without structured replies; then everything is printed
 * at once.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/client/client.h"
#include "server/client/text.h"

struct probe {
	struct client *client;
	struct session_protocol protocol;
	struct session_facts facts;
	bool contexts_refused; /* the server does not list them */
	char **contexts;
	size_t ncontexts;
};

/* --- Asking -------------------------------------------------------------------------- */

static int
context_add(void *arg, const char *name)
{
	struct probe *p = arg;

	client_grow(p->client, sizeof(*p->contexts));
	p->contexts = realloc(p->contexts, (p->ncontexts + 1) * sizeof(*p->contexts));
	if (!p->contexts)
		text_no_memory();
	p->contexts[p->ncontexts++] = client_keep(p->client, name);
	return 0;
}

static void
contexts_forget(struct probe *p)
{
	for (size_t i = 0; i < p->ncontexts; i++)
		free(p->contexts[i]);
	free(p->contexts);
	p->contexts = NULL;
	p->ncontexts = 0;
}

static enum client_exit
probe_ask(struct probe *p)
{
	struct session *s = &p->client->session;
	enum client_exit ret = client_open(p->client);
	enum session_answer answer;

	if (ret != CLIENT_OK)
		return ret;
	answer = session_info(s, NULL, &p->facts);
	if (answer == SESSION_YES) {
		session_protocol(s, &p->protocol);
		if (session_can_ask(s) && p->protocol.structured_replies) {
			answer = session_contexts(s, context_add, p);
			if (answer == SESSION_REFUSED) {
				contexts_forget(p);
				p->contexts_refused = true;
				answer = SESSION_YES;
			}
		}
	}
	if (answer == SESSION_YES)
		return CLIENT_OK;
	session_complain(s, s->why);
	return CLIENT_FAILED;
}

/* --- Showing --------------------------------------------------------------------------- */

static void
label(const char *text)
{
	printf("%-20s", text);
}

static void
quoted_print(const char *what, const char *text)
{
	if (!text)
		return;
	label(what);
	text_quote(stdout, text);
	putchar('\n');
}

static void
protocol_print(const struct session_protocol *p)
{
	label("protocol");
	printf("%s, %s TLS, %s structured replies", p->name, p->tls ? "with" : "without",
	       p->structured_replies ? "with" : "without");
	if (p->extended_headers >= 0)
		printf(", %s extended headers", p->extended_headers ? "with" : "without");
	putchar('\n');
}

static void
size_print(const struct session_facts *facts)
{
	char size[TEXT_SIZE_MAX];

	label("size");
	if (facts->size_bytes >= 0)
		printf("%lld bytes (%s)\n", (long long)facts->size_bytes,
		       text_size(size, (uint64_t)facts->size_bytes));
	else
		printf("8 EiB or more\n");
}

static void
block_size_print(const struct session_facts *facts)
{
	label("block size");
	if (facts->block_min <= 0) {
		printf("not told\n");
		return;
	}
	printf("minimum %lld, preferred %lld, maximum ", (long long)facts->block_min,
	       (long long)facts->block_preferred);
	if (facts->block_max == UINT32_MAX)
		printf("not limited\n");
	else
		printf("%lld\n", (long long)facts->block_max);
}

static void
flags_print(const struct session_facts *facts)
{
	printf("flags\n");
	for (unsigned i = 0; i < SESSION_FLAGS; i++)
		if (facts->flags[i] >= 0)
			printf("  %-20s  %-3s  %s\n", session_flags[i].name,
			       facts->flags[i] ? "yes" : "no", session_flags[i].meaning);
}

static void
contexts_print(const struct probe *p)
{
	if (p->ncontexts == 0) {
		label("metadata contexts");
		printf("%s\n", p->contexts_refused ? "not told" : "none");
		return;
	}
	printf("metadata contexts\n");
	for (size_t i = 0; i < p->ncontexts; i++) {
		printf("  ");
		text_quote(stdout, p->contexts[i]);
		putchar('\n');
	}
}

static void
text_print(const struct probe *p)
{
	quoted_print("export", p->facts.name);
	quoted_print("canonical name", p->facts.canonical_name);
	quoted_print("description", p->facts.description);
	protocol_print(&p->protocol);
	size_print(&p->facts);
	block_size_print(&p->facts);
	flags_print(&p->facts);
	contexts_print(p);
}

static void
json_print(const struct probe *p)
{
	printf("{\n");
	client_json_protocol(&p->protocol);
	printf("\"export\": {");
	client_json_export(p->client->session.uri, p->facts.name, p->facts.description, &p->facts);
	printf(", \"contexts\": ");
	if (p->contexts_refused) {
		printf("null");
	} else {
		putchar('[');
		for (size_t i = 0; i < p->ncontexts; i++) {
			printf("%s", i ? ", " : "");
			text_json(stdout, p->contexts[i]);
		}
		putchar(']');
	}
	printf("}\n}\n");
}

enum client_exit
probe_run(struct client *client)
{
	struct probe p = { .client = client };
	enum client_exit ret = probe_ask(&p);

	if (ret == CLIENT_OK) {
		if (client->json)
			json_print(&p);
		else
			text_print(&p);
	}
	contexts_forget(&p);
	session_facts_release(&p.facts);
	return ret;
}
