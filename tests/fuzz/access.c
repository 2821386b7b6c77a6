/* SPDX-License-Identifier: MIT */
/*
 * access.c - fuzzes the file of rules.
 *
 * The input is the file. What is refused has to say where and why in one line.
 * What is accepted is taken apart: each line alone is accepted, too, and says of a
 * client what it says in the list; the first that has something to say decides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/check.h"
#include "server/access.h"
#include "server/limits.h"
#include "server/tls.h"

#define EXPORTS 6
#define PEERS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const names[EXPORTS] = { "a", "b", "", "*", "two words", "on" };

static struct access_text
text_of(char *data)
{
	return (struct access_text){ .data = data, .len = strlen(data) };
}

/* Some that seeds are about; their texts belong to nobody. */
static void
peers_init(struct access_peer *peers, struct access_san *sans, char *strings[4])
{
	static const uint8_t ip4[4] = { 10, 1, 2, 3 }, ip6[16] = { 0xfe, 0x80, [15] = 1 };
	static uint32_t groups[2] = { 1, 2 };

	memset(peers, 0, PEERS * sizeof(*peers));
	peers[0] = (struct access_peer){ .transport = ACCESS_UNIX };
	peers[1] = (struct access_peer){ .transport = ACCESS_UNIX, .uid = 1, .gid = 3,
					 .groups = groups, .ngroups = 2 };
	access_peer_set_ip(&peers[2], ip4, sizeof(ip4));
	peers[2].identity = ACCESS_PSK;
	peers[2].psk = text_of(strings[0]);
	access_peer_set_ip(&peers[3], ip6, sizeof(ip6));
	peers[3].identity = ACCESS_X509;
	peers[3].dn = text_of(strings[1]);
	sans[0] = (struct access_san){ ACCESS_SAN_DNS, text_of(strings[2]) };
	sans[1] = (struct access_san){ ACCESS_SAN_URI, text_of(strings[3]) };
	peers[3].sans = sans;
	peers[3].nsans = 2;
	peers[4] = (struct access_peer){ .transport = ACCESS_VSOCK, .cid = 3 };
}

/* A list of one file with these bytes; NULL and ERR when it is refused. */
static struct access *
load(const void *data, size_t size, char *path, size_t path_size, struct err *err)
{
	const struct access_source source = { .exports = names, .nexports = EXPORTS, .path = path };
	struct access *access = NULL;
	int fd = memfd_create("rules", MFD_CLOEXEC), ret;

	check(fd >= 0 && write(fd, data, size) == (ssize_t)size && fchmod(fd, 0600) == 0,
	      "no file");
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	ret = access_load(&access, &source, err);
	close(fd);
	check((ret == 0) == (access != NULL), "neither a list nor an error");
	check(ret == 0 || (ret == err->code && strncmp(err->text, path, strlen(path)) == 0),
	      "refused without a place");
	check(ret == 0 || (!memchr(err->text, '\n', strlen(err->text)) &&
			   !memchr(err->text, '\x1b', strlen(err->text))),
	      "refused in more than a line");
	return access;
}

/* What the lines one by one come to. */
static void
expect(const uint8_t *data, size_t size, const struct access_peer *peers,
       enum access_right rights[PEERS][EXPORTS], unsigned *nrules)
{
	bool decided[PEERS][EXPORTS] = { { false } };
	size_t at = 0;

	memset(rights, 0, sizeof(decided) / sizeof(bool) * sizeof(enum access_right));
	*nrules = 0;
	while (at < size) {
		const uint8_t *end = memchr(data + at, '\n', size - at);
		size_t len = (size_t)(end - (data + at)) + 1;
		char path[40];
		struct err err = { 0 };
		struct access *one = load(data + at, len, path, sizeof(path), &err);

		at += len;
		if (!one) {
			check(strstr(err.text, "has no rule") != NULL, "a good line is none");
			continue;
		}
		check(access_count(one) == 1, "a line of several rules");
		++*nrules;
		for (unsigned p = 0; p < PEERS; p++) {
			uint16_t verdicts[EXPORTS];

			access_judge(one, &peers[p], verdicts);
			for (unsigned e = 0; e < EXPORTS; e++)
				if (!decided[p][e] && verdicts[e] != ACCESS_NO_RULE) {
					decided[p][e] = true;
					rights[p][e] = access_right_of(one, verdicts[e]);
				}
		}
		access_free(one);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char psk[] = "alice", dn[] = "CN=a\\, b+O=x,C=DE", dns[] = "x", uri[] = "y://z";
	char *strings[] = { psk, dn, dns, uri };
	enum access_right rights[PEERS][EXPORTS];
	struct access_peer peers[PEERS];
	struct access_san sans[2];
	struct err err = { 0 };
	struct access *access;
	char path[40];
	unsigned nrules;

	check(tls_init(&err) == 0, err.text);
	access = load(data, size, path, sizeof(path), &err);
	if (!access)
		return 0;
	peers_init(peers, sans, strings);
	expect(data, size, peers, rights, &nrules);
	check(nrules == access_count(access), "rules are lost");
	for (unsigned p = 0; p < PEERS; p++) {
		uint16_t verdicts[EXPORTS];

		access_judge(access, &peers[p], verdicts);
		for (unsigned e = 0; e < EXPORTS; e++)
			check(access_right_of(access, verdicts[e]) == rights[p][e],
			      "another rule decides");
	}
	access_free(access);
	return 0;
}
