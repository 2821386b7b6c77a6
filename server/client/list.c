/* SPDX-License-Identifier: MIT */
/*
 * list.c - `blkgate list`: the exports of a server.
 *
 * The path: list_entries() gets names and descriptions; entry_ask() asks about
 * each; line_print() shows it, or all of them go into one JSON object.
 *
 * Servers limit how many options a connection may send and how long it may
 * negotiate. So where one that has answered something ends, the question is
 * asked once more on a new one. What is refused, or ends a new connection too,
 * is that export's error and the others go on.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/client/client.h"
#include "server/client/text.h"

/* Names are aligned up to here; longer ones stick out. */
#define NAME_COLUMNS 40u

struct entry {
	char *name, *description;
	bool told; /* there are facts */
	struct session_facts facts;
	char *error; /* why not */
};

struct list {
	struct client *client;
	struct session_protocol protocol;
	struct entry *entries;
	size_t count, room;
	size_t columns; /* of the names */
};

/* --- Asking -------------------------------------------------------------------------- */

static int
entry_add(void *arg, const char *name, const char *description)
{
	struct list *l = arg;
	size_t columns = text_quote(NULL, name);

	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 16;

		client_grow(l->client, (room - l->room) * sizeof(*l->entries));
		l->entries = realloc(l->entries, room * sizeof(*l->entries));
		if (!l->entries)
			text_no_memory();
		l->room = room;
	}
	l->entries[l->count++] = (struct entry){
		.name = client_keep(l->client, name),
		.description = client_keep(l->client, description),
	};
	if (columns <= NAME_COLUMNS)
		l->columns = MAX(l->columns, columns);
	return 0;
}

static enum client_exit
list_entries(struct list *l)
{
	struct session *s = &l->client->session;
	enum client_exit ret = client_open(l->client);

	if (ret != CLIENT_OK)
		return ret;
	session_protocol(s, &l->protocol);
	if (!session_can_ask(s)) {
		session_complain(s, "an oldstyle server has one export and no list; see probe");
		return CLIENT_FAILED;
	}
	if (session_list(s, entry_add, l) == SESSION_YES)
		return CLIENT_OK;
	session_complain(s, s->why);
	return CLIENT_FAILED;
}

static enum client_exit
entry_ask(struct list *l, struct entry *e)
{
	struct session *s = &l->client->session;
	enum session_answer answer = SESSION_LOST;
	bool fresh = false;

	while (answer == SESSION_LOST && !fresh) {
		fresh = !session_can_ask(s);
		if (fresh) {
			enum client_exit ret;

			session_close(s);
			ret = client_open(l->client);
			if (ret != CLIENT_OK)
				return ret;
		}
		answer = session_info(s, e->name, &e->facts);
	}
	e->told = answer == SESSION_YES;
	if (e->told)
		client_grow(l->client, session_facts_bytes(&e->facts));
	else
		e->error = client_keep(l->client, s->why);
	return CLIENT_OK;
}

/* --- Showing --------------------------------------------------------------------------- */

/* LIST's, or else INFO's; NULL: none. */
static const char *
entry_description(const struct entry *e)
{
	return *e->description ? e->description : e->facts.description;
}

static void
line_print(const struct list *l, const struct entry *e)
{
	size_t columns = text_quote(stdout, e->name);
	char size[TEXT_SIZE_MAX];

	printf("%*s", columns < l->columns ? (int)(l->columns - columns) : 0, "");
	if (e->told && e->facts.size_bytes >= 0)
		printf("  %15lld  %10s", (long long)e->facts.size_bytes,
		       text_size(size, (uint64_t)e->facts.size_bytes));
	else
		printf("  %15s  %10s", "-", e->told ? ">= 8 EiB" : "-");
	if (e->told) {
		printf("  %s", e->facts.flags[SESSION_READ_ONLY] ? "read-only" : "read-write");
	} else {
		printf("  error: ");
		text_plain(stdout, e->error);
	}
	if (entry_description(e)) {
		printf("  ");
		text_quote(stdout, entry_description(e));
	}
	putchar('\n');
}

static void
json_print(const struct list *l)
{
	printf("{\n");
	client_json_protocol(&l->protocol);
	printf("\"exports\": [");
	for (size_t i = 0; i < l->count; i++) {
		const struct entry *e = &l->entries[i];
		char *uri = text_uri(l->client->session.uri, e->name);

		printf("%s\n{", i ? "," : "");
		client_json_export(uri, e->name, entry_description(e), e->told ? &e->facts : NULL);
		printf(", \"error\": ");
		text_json(stdout, e->error);
		printf("}");
		free(uri);
	}
	printf("\n]\n}\n");
}

static enum client_exit
list_ask(struct list *l)
{
	enum client_exit ret = list_entries(l);

	for (size_t i = 0; ret == CLIENT_OK && i < l->count; i++) {
		ret = entry_ask(l, &l->entries[i]);
		if (ret == CLIENT_OK && !l->client->json) {
			line_print(l, &l->entries[i]);
			ret = client_flush(l->client);
		}
	}
	return ret;
}

enum client_exit
list_run(struct client *client)
{
	struct list l = { .client = client };
	enum client_exit ret = list_ask(&l);

	if (ret == CLIENT_OK && client->json)
		json_print(&l);
	for (size_t i = 0; i < l.count; i++) {
		free(l.entries[i].name);
		free(l.entries[i].description);
		free(l.entries[i].error);
		session_facts_release(&l.entries[i].facts);
	}
	free(l.entries);
	return ret;
}
