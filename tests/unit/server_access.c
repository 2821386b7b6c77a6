/* SPDX-License-Identifier: MIT */
/*
 * server_access.c - rules: whom they fit, which decides, and what is no rule.
 * Covers: R-145
 */
#include "server/access.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include "server/access_dn.h"
#include "server/limits.h"
#include "server/tls.h"
#include "tests/lib/unit.h"

static const char *const names[] = { "a", "b", "", "*", "on", "two words", "q\"'\\", "n\nl" };
static struct access *access_list;
static struct err err;
static char path[64]; /* of the last list, which names it */

/* --- Loading ---------------------------------------------------------------- */

static int
load(const char *file, const struct access_line *lines, unsigned nlines)
{
	const struct access_source source = {
		.exports = names, .nexports = ARRAY_SIZE(names),
		.lines = lines, .nlines = nlines, .path = file,
	};

	access_free(access_list);
	access_list = NULL;
	err = (struct err){ 0 };
	ck_assert_int_eq(tls_init(&err), 0);
	return access_load(&access_list, &source, &err);
}

static int
load_allow(const char *text)
{
	return load(NULL, &(struct access_line){ .text = text }, 1);
}

static void
write_file(const char *text, size_t len)
{
	int fd;

	strcpy(path, "/tmp/server_access.XXXXXX");
	fd = mkstemp(path);
	ck_assert(fd >= 0);
	ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
	close(fd);
}

static int
load_bytes(const char *text, size_t len)
{
	int ret;

	write_file(text, len);
	ret = load(path, NULL, 0);
	unlink(path);
	return ret;
}

static int
load_text(const char *text)
{
	return load_bytes(text, strlen(text));
}

static void
good(int ret)
{
	ck_assert_msg(ret == 0, "%s", err.text);
}

/* Refused, and the text has this in it. */
static void
bad(int ret, const char *words)
{
	ck_assert_msg(ret == -EINVAL, "%d instead of: %s", ret, words);
	ck_assert_int_eq(err.code, ret);
	ck_assert_msg(strstr(err.text, words) != NULL, "no '%s' in: %s", words, err.text);
}

/* What PEER may do with the export at that place. */
static enum access_right
right(const struct access_peer *peer, unsigned export)
{
	uint16_t verdicts[ARRAY_SIZE(names)];

	access_judge(access_list, peer, verdicts);
	return access_right_of(access_list, verdicts[export]);
}

/* --- Addresses -------------------------------------------------------------- */

static struct access_peer
from(const char *address)
{
	struct access_peer peer = { 0 };
	uint8_t addr[16];

	if (inet_pton(AF_INET, address, addr) == 1) {
		access_peer_set_ip(&peer, addr, 4);
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, address, addr), 1);
		access_peer_set_ip(&peer, addr, 16);
	}
	return peer;
}

START_TEST(addresses)
{
	static const struct {
		const char *rule, *client;
		bool fits;
	} table[] = {
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.2", false },
		{ "192.0.2.1/32", "192.0.2.1", true },
		{ "192.0.2.1/32", "192.0.2.0", false },
		{ "192.0.2.0/31", "192.0.2.1", true },
		{ "192.0.2.0/31", "192.0.2.2", false },
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.128.0.0/9", "10.128.0.1", true },
		{ "10.128.0.0/9", "10.127.255.255", false },
		{ "128.0.0.0/1", "128.0.0.0", true },
		{ "128.0.0.0/1", "127.255.255.255", false },
		{ "0.0.0.0/0", "0.0.0.0", true },
		{ "0.0.0.0/0", "255.255.255.255", true },
		/* Families are apart, and an IPv4 address in an IPv6 one is the former. */
		{ "0.0.0.0/0", "::1", false },
		{ "::/0", "192.0.2.1", false },
		{ "::/0", "::ffff:192.0.2.1", false },
		{ "::/0", "2001:db8::1", true },
		{ "192.0.2.1", "::ffff:192.0.2.1", true },
		{ "192.0.2.1", "::192.0.2.1", false },
		{ "::ffff:192.0.2.1", "192.0.2.1", true },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.1", true },
		{ "::ffff:10.0.0.0/104", "10.1.2.3", true },
		{ "::ffff:10.0.0.0/104", "11.1.2.3", false },
		{ "::ffff:0.0.0.0/96", "11.1.2.3", true },
		{ "::ffff:0.0.0.0/96", "::1", false },
		{ "2001:db8::1", "2001:db8::1", true },
		{ "2001:DB8:0::1", "2001:db8::1", true },
		{ "2001:db8::1", "2001:db8::2", false },
		{ "2001:db8::/32", "2001:db8:ffff::", true },
		{ "2001:db8::/32", "2001:db9::", false },
		{ "2001:db8::/127", "2001:db8::1", true },
		{ "2001:db8::/127", "2001:db8::2", false },
		{ "fe80::/10", "febf::1", true },
		{ "fe80::/10", "fec0::1", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct access_peer peer = from(table[i].client);
		char text[80];

		snprintf(text, sizeof(text), "read ip=%s on a", table[i].rule);
		good(load_allow(text));
		ck_assert_msg(right(&peer, 0) == (table[i].fits ? ACCESS_READ : ACCESS_NONE),
			      "ip=%s and %s", table[i].rule, table[i].client);
	}
}
END_TEST

START_TEST(addresses_that_are_none)
{
	static const struct {
		const char *rule, *words;
	} table[] = {
		{ "ip=192.0.2.1/33", "from 0 to 32" },
		{ "ip=192.0.2.1/-1", "from 0 to 32" },
		{ "ip=192.0.2.1/", "from 0 to 32" },
		{ "ip=192.0.2.1/032", "from 0 to 32" },
		{ "ip=192.0.2.1/+8", "from 0 to 32" },
		{ "ip=192.0.2.1/4294967328", "from 0 to 32" },
		{ "ip=192.0.2.1/255.255.255.0", "from 0 to 32" },
		{ "ip=2001:db8::/129", "from 0 to 128" },
		{ "ip=::ffff:10.0.0.0/8", "behind its prefix; write ip=::/8" },
		{ "ip=10.0.0.1/8", "behind its prefix; write ip=10.0.0.0/8" },
		{ "ip=1.2.3.4/0", "behind its prefix; write ip=0.0.0.0/0" },
		{ "ip=2001:db8::1/64", "behind its prefix; write ip=2001:db8::/64" },
		{ "ip=10.0.0", "must be an address" },
		{ "ip=10", "must be an address" },
		{ "ip=010.0.0.1", "must be an address" },
		{ "ip=0x0a000001", "must be an address" },
		{ "ip=10.0.0.256", "must be an address" },
		{ "ip=10.0.0.1.", "must be an address" },
		{ "ip=localhost", "must be an address" },
		{ "ip=fe80::1%lo", "must be an address" },
		{ "ip=[::1]", "must be an address" },
		{ "ip=", "must be an address" },
		{ "ip=*", "must be an address" },
		{ "ip='10.0.0.1 '", "must be an address" },
		{ "ip=' 10.0.0.1'", "must be an address" },
		{ "ip=\"10.0.0.1\\x0a\"", "must be an address" },
		{ "ip=10.0.0.1\n", "a character \\x0a" },
		{ "ip=10.0.0.1\r", "a carriage return" },
		{ "ip= 10.0.0.1", "must be an address" },
		{ "ip = 10.0.0.1", "must be a client" },
		{ "IP=10.0.0.1", "must be a client" },
		{ "10.0.0.1", "must be a client" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		char text[120];

		snprintf(text, sizeof(text), "read %s on a", table[i].rule);
		bad(load_allow(text), table[i].words);
	}
}
END_TEST

/* --- Other clients ---------------------------------------------------------- */

START_TEST(users)
{
	uint32_t groups[] = { 7, 8, 9 };
	struct access_peer peer = {
		.transport = ACCESS_UNIX, .uid = 5, .gid = 6, .groups = groups, .ngroups = 3,
	};
	static const struct {
		const char *rule;
		bool fits;
	} table[] = {
		{ "uid=5", true },	   { "uid=6", false },	 { "uid=root", false },
		{ "gid=6", true },	   { "gid=7", true },	 { "gid=9", true },
		{ "gid=5", false },	   { "gid=root", false },
		{ "gid=7 and gid=9", true }, { "gid=7 and gid=10", false },
		{ "uid=5 and gid=8", true }, { "uid=4 and gid=8", false },
		{ "any", true },	   { "*", true },	 { "ip=0.0.0.0/0", false },
		{ "ip=::/0", false },	   { "vsock=5", false }, { "uid=4294967294", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		char text[80];

		snprintf(text, sizeof(text), "list %s on a", table[i].rule);
		good(load_allow(text));
		ck_assert_msg(right(&peer, 0) == (table[i].fits ? ACCESS_LIST : ACCESS_NONE), "%s",
			      table[i].rule);
	}
	peer.uid = 0;
	good(load_allow("list uid=root on a"));
	ck_assert_int_eq(right(&peer, 0), ACCESS_LIST);
	/* Numbers that are there from something else do not count. */
	peer.transport = ACCESS_VSOCK;
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	good(load_allow("list vsock=0 on a"));
	ck_assert_int_eq(right(&peer, 0), ACCESS_LIST);
	peer.cid = 1;
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer = (struct access_peer){ 0 };
	good(load_allow("list uid=0 on a"));
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);

	bad(load_allow("list uid= on a"), "the number or the name of a user");
	bad(load_allow("list uid=-1 on a"), "the number or the name of a user");
	bad(load_allow("list uid=4294967295 on a"), "the number or the name of a user");
	bad(load_allow("list uid=00 on a"), "the number or the name of a user");
	bad(load_allow("list uid=nobody-of-that-name on a"), "the number or the name of a user");
	bad(load_allow("list gid=5x on a"), "the number or the name of a group");
	bad(load_allow("list vsock=x on a"), "a context id");
}
END_TEST

static struct access_text
text_of(const char *data, size_t len)
{
	return (struct access_text){ .data = (char *)(uintptr_t)data, .len = len };
}

#define TEXT(literal) text_of(literal, sizeof(literal) - 1)

START_TEST(names_of_certificates)
{
	static const char rule[] = "read dn='CN=alice,O=Example\\, Inc.' on a";
	static const struct {
		const char *dn;
		size_t len;
		bool fits;
	} table[] = {
#define ROW(literal, fits) { literal, sizeof(literal) - 1, fits }
		ROW("CN=alice,O=Example\\, Inc.", true),
		ROW("O=Example\\, Inc.,CN=alice", false),
		ROW("CN=alice,O=Example\\, Inc.,C=DE", false),
		ROW("UID=1,CN=alice,O=Example\\, Inc.", false),
		ROW("CN=alice", false),
		ROW("CN=alice,O=Example\\, Inc", false),
		ROW("CN=alice,O=Example\\2C Inc.", false),
		ROW("CN=alice,O=Example, Inc.", false),
		ROW("CN=alice\\,O=Example\\, Inc.", false),
		ROW("CN=alice\\+O=Example\\, Inc.", false),
		ROW("CN=alice+O=Example\\, Inc.", false),
		ROW("CN=alice\\ ,O=Example\\, Inc.", false),
		ROW("CN=alice, O=Example\\, Inc.", false),
		ROW("CN=Alice,O=Example\\, Inc.", false),
		ROW("cn=alice,O=Example\\, Inc.", false),
		ROW("CN=alice,O=Example\\, Inc. ", false),
		ROW("CN=alice,O=Example\\, Inc.\0", false),
		ROW("CN=alice,O=Example\\, Inc.\0x", false),
		ROW("CN=alice\0,O=Example\\, Inc.", false),
		ROW("CN=alice\\00,O=Example\\, Inc.", false),
		ROW("", false),
#undef ROW
	};
	struct access_peer peer = { .transport = ACCESS_INET, .identity = ACCESS_X509 };

	good(load_allow(rule));
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		peer.dn = text_of(table[i].dn, table[i].len);
		ck_assert_msg(right(&peer, 0) == (table[i].fits ? ACCESS_READ : ACCESS_NONE),
			      "%s", table[i].dn);
	}
	/* What no certificate proved is no name. */
	peer.dn = TEXT("CN=alice,O=Example\\, Inc.");
	ck_assert_int_eq(right(&peer, 0), ACCESS_READ);
	peer.identity = ACCESS_NOBODY;
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.identity = ACCESS_PSK;
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
}
END_TEST

START_TEST(names_that_no_certificate_has)
{
	static const char *const good_ones[] = {
		"CN=a", "CN=a,O=b,C=DE", "1.2.3.4=#0c0161", "CN=a+UID=1,O=x", "EMAIL=a@b,DC=x",
		"CN=a\\,b", "CN=\\ a\\ ", "CN=\\ ", "CN=a b", "CN=a  b", "CN=\\#a", "CN=a#b",
		"CN=a\\\\", "CN=x=y", "CN=x=#y", "CN=#0c03610062", "CN=a\\<b\\>\\;\\\"\\+",
		"serialNumber=1", "CN=\xc3\xa9", "EMAIL=#0c0161", "1.2.3.4=#0500", "C=D",
		"2.5.4.45=#03020701", "1.2.3.4=#30060c01610c0162", "L=a,ST=b,CN=a,CN=a",
	};
	/* Each with a word of why; where something else is meant, with that. */
	static const char *const bad_ones[][2] = {
		{ "", "behind it" }, { "alice", "TYPE=VALUE" }, { "CN=", "at least one" },
		{ "CN= ", "at least one" }, { "=a", "TYPE=VALUE" }, { "CN=a,", "TYPE=VALUE" },
		{ "CN=a,,O=b", "TYPE=VALUE" }, { ",CN=a", "TYPE=VALUE" }, { "CN=a+", "TYPE=VALUE" },
		{ "CN=a, O=b", "\" O=b\" is written \"O=b\"" },
		{ "CN=a ,O=b", "\"CN=a \" is written \"CN=a\"" },
		{ "CN=a ", "is written \"CN=a\"" }, { "CN= a", "is written \"CN=a\"" },
		{ "CN =a", "is written \"CN=a\"" }, { "CN=\\ a ", "is written \"CN=\\x5c a\"" },
		{ "CN=a;O=b", "is written \"CN=a\\x5c;O=b\"" },
		{ "CN=a\\", "is written \"CN=a\\x5c\\x5c\"" }, { "CN=a\\x", "is written \"CN=ax\"" },
		{ "CN=<a>", "is written \"CN=\\x5c<a\\x5c>\"" },
		{ "CN=a\"b", "is written \"CN=a\\x5c\\x22b\"" },
		{ "CN=#a", "after `#'" }, { "/CN=a", "no type \"/CN\"" },
		{ "C N=a", "no type \"C N\"" },
		/* What other programs print. */
		{ "CN=\\61lice", "is written \"CN=alice\"" },
		{ "CN=a\\2Cb", "is written \"CN=a\\x5c,b\"" },
		{ "CN=a\\00b", "is written \"CN=#0c03610062\"" },
		{ "CN=a\\=b", "is written \"CN=a=b\"" }, { "CN=a\\#b", "is written \"CN=a#b\"" },
		{ "CN=a\\ b", "is written \"CN=a b\"" }, { "cn=a", "is written \"CN=a\"" },
		{ "email=a", "is written \"EMAIL=a\"" }, { "S=a", "no type \"S\"" },
		{ "emailAddress=a", "no type \"emailAddress\"" },
		{ "2.5.4.3=#0c0161", "is written \"CN=a\"" }, { "2.5.4.3=a", "is written \"CN=a\"" },
		{ "1.2.3.4=a", "is written \"1.2.3.4=#0c0161\"" },
		{ "1.2.03.4=#0500", "is written \"1.2.3.4=#0500\"" },
		{ "1=#0500", "no type \"1\"" }, { "3.2.3.4=#0500", "no type \"3.2.3.4\"" },
		/* Bytes that are not written as such. */
		{ "1.2.3.4=#0C0161", "is written \"1.2.3.4=#0c0161\"" },
		{ "CN=#0c05616c696365", "is written \"CN=alice\"" },
		{ "O=x,CN=#1305616c696365", "is written \"CN=alice\"" },
		{ "CN=#1e020061", "is written \"CN=a\"" }, { "EMAIL=#160161", "is written \"EMAIL=a\"" },
		/* And those that are no value. */
		{ "CN=#0c016", "after `#'" }, { "CN=#", "after `#'" }, { "1.2.3.4=#ff", "after `#'" },
		{ "1.2.3.4=#0c", "after `#'" }, { "1.2.3.4=#0c0261", "after `#'" },
		{ "1.2.3.4=#0c016100", "after `#'" }, { "1.2.3.4=#0c01610500", "after `#'" },
		{ "1.2.3.4=#30800c01610000", "after `#'" }, { "1.2.3.4=#0g", "after `#'" },
	};
	char text[120];

	for (size_t i = 0; i < ARRAY_SIZE(good_ones); i++) {
		snprintf(text, sizeof(text), "read dn='%s' on a", good_ones[i]);
		good(load_allow(text));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_ones); i++) {
		snprintf(text, sizeof(text), "none dn='%s' on a", bad_ones[i][0]);
		bad(load_allow(text), bad_ones[i][1]);
	}
	/* A control character is printed as it is. */
	good(load_allow("read dn=\"CN=a\\x0a\\x09\" on a"));
}
END_TEST

/* One of a random type, kind of string, and text. Its length. */
static size_t
random_name(uint8_t der[32], uint64_t *seed)
{
	static const char *const types[] = { "\x55\x04\x03", "\x55\x04\x06", "\x55\x04\x2d",
					     "\x2a\x03\x04", "\x55\x04\x05" };
	static const char *const texts[] = { "a", " ", "#", "\\", ",", "+", "\"", "<", ">", ";",
					     "=", "\n", "\t", "\x7f", "\xc3\xa9", "/", "\xff" };
	static const uint8_t tags[] = { 0x0c, 0x13, 0x14, 0x16, 0x1c, 0x1e, 0x04, 0x05, 0x30 };
	size_t len = 0;

	for (unsigned n = unit_random(seed) % 4; n > 0; n--) {
		const char *text = texts[unit_random(seed) % ARRAY_SIZE(texts)];

		memcpy(der + 13 + len, text, strlen(text));
		len += strlen(text);
	}
	memcpy(der, "\x30\x00\x31\x00\x30\x00\x06\x03", 8);
	for (unsigned i = 0; i < 3; i++)
		der[1 + 2 * i] = (uint8_t)(11 + len - 2 * i);
	memcpy(der + 8, types[unit_random(seed) % ARRAY_SIZE(types)], 3);
	der[11] = tags[unit_random(seed) % ARRAY_SIZE(tags)];
	der[12] = (uint8_t)len;
	return 13 + len;
}

START_TEST(names_that_certificates_have)
{
	uint64_t seed = unit_seed();
	unsigned texts = 0, bytes = 0;

	ck_assert_int_eq(tls_init(&err), 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t der[32];
		const gnutls_datum_t d = { der, (unsigned)random_name(der, &seed) };
		char why[ACCESS_DN_WHY_MAX] = "", *value;
		gnutls_datum_t text = { 0 };
		gnutls_x509_dn_t dn;

		ck_assert_int_eq(gnutls_x509_dn_init(&dn), 0);
		/* Where an empty text is printed for a value that has none, there is no rule. */
		if (gnutls_x509_dn_import(dn, &d) == 0 &&
		    gnutls_x509_dn_get_str2(dn, &text, 0) == 0 &&
		    (value = strchr((char *)text.data, '='))[1]) {
			*(value[1] == '#' ? &bytes : &texts) += 1;
			ck_assert_msg(access_dn_is_canonical((char *)text.data, why), "%s: %s",
				      (char *)text.data, why);
		}
		gnutls_free(text.data);
		gnutls_x509_dn_deinit(dn);
	}
	ck_assert_uint_gt(texts, 1000);
	ck_assert_uint_gt(bytes, 1000);
}
END_TEST

START_TEST(other_identities)
{
	struct access_san sans[] = {
		{ ACCESS_SAN_DNS, TEXT("host.example\0.evil") },
		{ ACCESS_SAN_URI, TEXT("spiffe://x/vm1") },
		{ ACCESS_SAN_DNS, TEXT("vm2.example") },
	};
	struct access_peer peer = {
		.identity = ACCESS_X509, .sans = sans, .nsans = 3,
		.certificate_sha256 = { 0x01, [31] = 0xab }, .key_sha256 = { 0x02, [31] = 0xcd },
	};
	static const struct {
		const char *rule;
		bool fits;
	} table[] = {
		{ "san=dns:vm2.example", true },
		{ "san=dns:host.example", false },
		{ "san=dns:VM2.example", false },
		{ "san=dns:vm2.example.", false },
		{ "san=dns:m2.example", false },
		{ "san=dns:*.example", false },
		{ "san=uri:vm2.example", false },
		{ "san=uri:spiffe://x/vm1", true },
		{ "san=dns:spiffe://x/vm1", false },
		{ "san=uri:spiffe://x/vm1 and san=dns:vm2.example", true },
		{ "fingerprint=sha256:"
		  "01000000000000000000000000000000000000000000000000000000000000ab", true },
		{ "fingerprint=sha256:"
		  "02000000000000000000000000000000000000000000000000000000000000CD", true },
		{ "fingerprint=sha256:"
		  "01:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:"
		  "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:AB", true },
		{ "fingerprint=sha256:"
		  "01000000000000000000000000000000000000000000000000000000000000cd", false },
		{ "psk=alice", false },
	};
	static const char *const bad_ones[] = {
		"", "01", "01000000000000000000000000000000000000000000000000000000000000a",
		"01000000000000000000000000000000000000000000000000000000000000abc",
		"01000000000000000000000000000000000000000000000000000000000000ag",
		"01:000000000000000000000000000000000000000000000000000000000000ab",
	};
	char text[200];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(text, sizeof(text), "write %s on a", table[i].rule);
		good(load_allow(text));
		ck_assert_msg(right(&peer, 0) == (table[i].fits ? ACCESS_WRITE : ACCESS_NONE),
			      "%s", table[i].rule);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_ones); i++) {
		snprintf(text, sizeof(text), "write fingerprint=sha256:%s on a", bad_ones[i]);
		bad(load_allow(text), "64 hexadecimal digits");
	}
	bad(load_allow("write fingerprint=sha1:00 on a"), "must be a client");
	bad(load_allow("write san=email:a@b on a"), "must be a client");
	bad(load_allow("write psk= on a"), "must have something behind it");
}
END_TEST

START_TEST(psk_users)
{
	struct access_peer peer = { .identity = ACCESS_PSK, .psk = TEXT("alice") };

	good(load_allow("write psk=alice on a"));
	ck_assert_int_eq(right(&peer, 0), ACCESS_WRITE);
	peer.psk = TEXT("alice\0x");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.psk = TEXT("alice\0");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.psk = TEXT("alic");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.psk = TEXT("Alice");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.psk = TEXT("");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	peer.psk = TEXT("alice");
	peer.identity = ACCESS_X509;
	peer.dn = TEXT("alice");
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	bad(load_allow("write psk=\"alice\\x00\" on a"), "no text has a NUL in it");
}
END_TEST

/* --- Words ------------------------------------------------------------------ */

START_TEST(quotes)
{
	static const struct {
		const char *export;
		unsigned place;
	} table[] = {
		{ "a", 0 }, { "'a'", 0 }, { "\"a\"", 0 }, { "\"\\x61\"", 0 },
		{ "''", 2 }, { "\"\"", 2 }, { "'*'", 3 }, { "\"*\"", 3 }, { "on", 4 },
		{ "'two words'", 5 }, { "\"q\\\"'\\\\\"", 6 }, { "\"n\\x0al\"", 7 },
	};
	struct access_peer peer = { 0 };
	char text[80];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(text, sizeof(text), " \tread\tany  on %s\t # on b", table[i].export);
		good(load_allow(text));
		for (unsigned e = 0; e < ARRAY_SIZE(names); e++)
			ck_assert_msg(right(&peer, e) ==
				      (e == table[i].place ? ACCESS_READ : ACCESS_NONE),
				      "%s and place %u", table[i].export, e);
	}
	bad(load_allow("read any on 'a"), "column 13: a quote that does not end");
	bad(load_allow("read any on \"a"), "column 13: a quote that does not end");
	bad(load_allow("read any on 'a'b"), "column 16: behind the end of a quote");
	bad(load_allow("read any on a'b'"), "column 14: a quote in the middle");
	bad(load_allow("read dn=CN='x' on a"), "column 12: a quote in the middle");
	bad(load_allow("read any on two\\ words"), "column 16: \\ in a word");
	bad(load_allow("read any on a#b"), "column 14: # in a word");
	bad(load_allow("read any on \"\\n\""), "column 14: a backslash: in double quotes");
	bad(load_allow("read any on \"\\x4\""), "column 14: a backslash");
	bad(load_allow("read any on \"\\"), "column 14: a backslash");
	bad(load_allow("read any on 'a\tb'"), "a character \\x09");
	bad(load_allow("read any on a\x7f"), "a character \\x7f");
	/* Keywords are what is not quoted. */
	bad(load_allow("'read' any on a"), "must be a right");
	bad(load_allow("read 'any' on a"), "must be a client");
	bad(load_allow("read any 'on' a"), "\"and\" before one more client");
}
END_TEST

START_TEST(grammar)
{
	static const struct {
		const char *text, *words;
	} table[] = {
		{ "", "is empty: must be a rule" },
		{ " # read any on a", "is empty: must be a rule" },
		{ "allow any on a", "--allow=allow any on a: column 1: \"allow\": must be a right" },
		{ "Read any on a", "must be a right" },
		{ "read", "column 5: the rule ends too early: a client must follow" },
		{ "read any", "column 9: the rule ends too early: \"on\" and exports" },
		{ "read any on", "column 12: the rule ends too early: names of exports" },
		{ "read any and", "column 13: the rule ends too early: one more client" },
		{ "read any and on a", "must be a client" },
		{ "read any a", "column 10: \"a\": must be \"and\"" },
		{ "read uid=1, uid=2 on a", "the number or the name of a user" },
		{ "read any on c", "column 13: there is no export \"c\", only \"a\", \"b\", \"\"" },
		{ "read any on a, b", "\"a,\"" },
		{ "read any on a and b", "column 15: there is no export \"and\"" },
		{ "read any on A", "there is no export \"A\"" },
		{ "read any on a a", "column 15: \"a\": is there twice" },
		{ "read any on a *", "stands alone" },
		{ "read any on * a", "stands alone" },
		{ "read any on * *", "stands alone" },
		/* Clients that say nothing more, or that nobody is. */
		{ "read any and uid=1 on a", "column 14: \"uid=1\": this and an earlier one" },
		{ "read uid=1 and uid=1 on a", "say no more than one of them" },
		{ "read ip=10.0.0.0/8 and ip=10.1.0.0/16 on a", "say no more than one of them" },
		{ "read uid=1 and uid=2 on a", "column 16: \"uid=2\": no client is this and" },
		{ "read uid=1 and ip=::1 on a", "no client is this" },
		{ "read gid=1 and vsock=1 on a", "no client is this" },
		{ "read ip=10.0.0.0/8 and ip=11.0.0.0/8 on a", "no client is this" },
		{ "read ip=10.0.0.0/8 and ip=::1 on a", "no client is this" },
		{ "read vsock=1 and vsock=2 on a", "no client is this" },
		{ "read dn=CN=a and dn=CN=b on a", "no client is this" },
		{ "read dn=CN=a and psk=b on a", "no client is this" },
		{ "read psk=a and psk=b on a", "no client is this" },
	};
	struct access_peer peer = { .transport = ACCESS_UNIX };

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		bad(load_allow(table[i].text), table[i].words);
	good(load_allow("read san=dns:a and san=dns:b and gid=1 and gid=2 and uid=3 on a"));
	bad(load_allow("read gid=1 and gid=2 and gid=3 and gid=4 and gid=5 and gid=6 and gid=7 "
		       "and gid=8 and gid=9 on a"), "more than 8 clients");
	/* --deny has no right; that would be a client. */
	good(load(NULL, (struct access_line[]){ { true, "uid=0 on a" }, { false, "read any on *" } },
		  2));
	ck_assert_int_eq(right(&peer, 0), ACCESS_NONE);
	ck_assert_int_eq(right(&peer, 1), ACCESS_READ);
	bad(load(NULL, &(struct access_line){ true, "none any on a" }, 1),
	    "--deny=none any on a: column 1: \"none\": must be a client");
}
END_TEST

/* --- Lists ------------------------------------------------------------------ */

START_TEST(first_rule_decides)
{
	struct access_peer root = { .transport = ACCESS_UNIX };
	struct access_peer user = { .transport = ACCESS_UNIX, .uid = 1 };
	struct access_peer far = from("192.0.2.1");
	char where[ACCESS_WHERE_MAX];
	uint16_t verdicts[ARRAY_SIZE(names)];

	good(load_text("# The disk of a.\n"
		       "\n"
		       "none uid=1 on b\n"
		       "write uid=0 on *\n"
		       "\tread uid=1 on a 'two words'\n"
		       "list ip=192.0.2.0/24 on a\n"
		       "none any on a\n"
		       "read any on *\n"));
	ck_assert_uint_eq(access_count(access_list), 6);
	ck_assert_int_eq(right(&root, 0), ACCESS_WRITE);
	ck_assert_int_eq(right(&root, 7), ACCESS_WRITE);
	ck_assert_int_eq(right(&user, 0), ACCESS_READ);
	ck_assert_int_eq(right(&user, 1), ACCESS_NONE);
	ck_assert_int_eq(right(&user, 2), ACCESS_READ);
	ck_assert_int_eq(right(&far, 0), ACCESS_LIST);
	ck_assert_int_eq(right(&far, 1), ACCESS_READ);
	far = from("192.0.3.1");
	ck_assert_int_eq(right(&far, 0), ACCESS_NONE);

	access_judge(access_list, &user, verdicts);
	ck_assert_uint_eq(verdicts[1], 0);
	access_where(access_list, verdicts[0], where);
	ck_assert_ptr_nonnull(strstr(where, "server_access."));
	ck_assert_str_eq(strrchr(where, ':'), ":5");
	good(load_text("read uid=0 on a\n"));
	access_judge(access_list, &user, verdicts);
	ck_assert_uint_eq(verdicts[0], ACCESS_NO_RULE);
	ck_assert_int_eq(access_right_of(access_list, verdicts[0]), ACCESS_NONE);
	ck_assert_str_eq(access_where(access_list, verdicts[0], where), "none fits");
}
END_TEST

START_TEST(rules_that_decide_nothing)
{
	static const struct {
		const char *text, *words; /* NULL: they are fine */
	} table[] = {
		{ "read any on *\nwrite uid=0 on a\n", ":2: is never reached" },
		{ "read any on a\nwrite uid=0 on a b\n", ":2: export \"a\": is never reached" },
		{ "read any on a\nwrite uid=0 on *\n", NULL },
		{ "write uid=0 on a b\nread any on *\n", NULL },
		{ "read any on a\nread any on a\n", ":2: says again what is said before: " },
		{ "read any on a\nwrite any on a\n", ":2: contradicts an earlier rule" },
		{ "read any on a\nwrite * on b a\n", ":2: export \"a\": contradicts" },
		{ "read uid=1 on a b\nnone uid=1 on b\n", ":2: contradicts" },
		{ "read ip=10.0.0.0/8 on a\nwrite ip=10.1.0.0/16 on a\n", ":2: is never reached" },
		{ "write ip=10.1.0.0/16 on a\nread ip=10.0.0.0/8 on a\n", NULL },
		{ "read ip=0.0.0.0/0 on a\nread ip=::/0 on a\n", NULL },
		{ "read ip=::ffff:10.0.0.1 on a\nread ip=10.0.0.1 on a\n", ":2: says again" },
		{ "read uid=1 on a\nread uid=1 and gid=2 on a\n", ":2: is never reached" },
		{ "read uid=1 and gid=2 on a\nread uid=1 on a\n", NULL },
		{ "read gid=2 and uid=1 on a\nnone uid=1 and gid=2 on a\n", ":2: contradicts" },
		{ "read uid=1 and gid=2 on a\nread uid=1 and gid=3 on a\n", NULL },
		{ "read uid=0 on a\n\n\nread uid=root on a\n", ":4: says again" },
		{ "none any on *\nread san=dns:x on *\n", ":2: is never reached" },
		{ "read san=dns:x on *\nread san=uri:x on *\n", NULL },
		{ "read psk=x on *\nwrite psk=x on a\n", ":2: contradicts" },
		/* Every one of its exports has gone to another. */
		{ "read any on a\nread any on b '' '*'\n"
		  "read any on on 'two words' \"q\\\"'\\\\\" \"n\\x0al\"\nwrite uid=1 on *\n",
		  ":4: is never reached" },
		{ "read any on a\nread any on b\nwrite uid=1 on a b\n", ":3: is never reached" },
		{ "read uid=1 on a\nread any on b\nwrite uid=1 on '' b\n",
		  ":3: export \"b\": is never reached" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].words)
			bad(load_text(table[i].text), table[i].words);
		else
			good(load_text(table[i].text));
}
END_TEST

START_TEST(command_line_before_file)
{
	const struct access_line lines[] = { { true, "uid=1 on *" }, { false, "write uid=2 on a" } };
	struct access_peer one = { .transport = ACCESS_UNIX, .uid = 1 };
	struct access_peer two = { .transport = ACCESS_UNIX, .uid = 2 };
	static const char text[] = "write uid=1 on *\nread any on *\n";
	char where[ACCESS_WHERE_MAX];

	write_file(text, sizeof(text) - 1);
	good(load(path, lines, 2)); /* the file's are overridden, which is no mistake */
	unlink(path);
	ck_assert_int_eq(right(&one, 0), ACCESS_NONE);
	ck_assert_int_eq(right(&two, 0), ACCESS_WRITE);
	ck_assert_int_eq(right(&two, 1), ACCESS_READ);
	ck_assert_str_eq(access_where(access_list, 0, where), "--deny=uid=1 on *");
	bad(load(NULL, (struct access_line[]){ lines[0], { false, "read uid=1 and gid=1 on b" } },
		 2),
	    "--allow=read uid=1 and gid=1 on b: is never reached, an earlier rule has all its clients: "
	    "--deny=uid=1 on *");
	bad(load(NULL, (struct access_line[]){ lines[0], { false, "read uid=1 on *" } }, 2),
	    "--allow=read uid=1 on *: contradicts an earlier rule, which decides: "
	    "--deny=uid=1 on *");
}
END_TEST

START_TEST(files)
{
	static const char nul[] = "read any on a\nread uid=\0 on b\n";
	char *text = malloc(LIMIT_ACCESS_BYTES + 1);
	char *at = text;

	bad(load_text(""), "has no rule");
	bad(load_text("\n# nothing\n\n"), "has no rule");
	bad(load_text("read any on a\nread any on b"), ":2: the last line has no newline");
	bad(load_text("read any on a\n#"), ":2: the last line has no newline");
	bad(load_text("# x\n\nread any\ton c\n"), ":3:13: there is no export \"c\"");
	bad(load_text("read any on a\r\n"), ":1:14: a carriage return");
	bad(load_text("\xef\xbb\xbfread any on a\n"), ":1:1: \"\\xef\\xbb\\xbfread\": must be a right");
	bad(load_bytes(nul, sizeof(nul) - 1), ":2:10: a character \\x00");

	/* As large as may be, and a byte more. */
	memset(text, '#', LIMIT_ACCESS_BYTES + 1);
	memcpy(text, "read any on a\n", 14);
	text[LIMIT_ACCESS_BYTES - 1] = '\n';
	good(load_bytes(text, LIMIT_ACCESS_BYTES));
	bad(load_bytes(text, LIMIT_ACCESS_BYTES + 1), "is larger than");
	/* As many as may be, and one more. */
	for (unsigned i = 0; i <= LIMIT_ACCESS_RULES; i++)
		at += sprintf(at, "read uid=%u on a\n", i);
	bad(load_bytes(text, (size_t)(at - text)), ":4097: more than 4096 rules");
	at -= strlen("read uid=4096 on a\n");
	good(load_bytes(text, (size_t)(at - text)));
	ck_assert_uint_eq(access_count(access_list), LIMIT_ACCESS_RULES);
	free(text);

	ck_assert_int_eq(load("/nonexistent/rules", NULL, 0), -ENOENT);
	ck_assert_str_eq(err.text, "/nonexistent/rules: No such file or directory");
	bad(load("/", NULL, 0), "/: must be a regular file");
	bad(load("/dev/zero", NULL, 0), "must be a regular file");
	write_file("read any on a\n", 14);
	ck_assert_int_eq(chmod(path, 0606), 0);
	bad(load(path, NULL, 0), "everybody may write it");
	unlink(path);
}
END_TEST

START_TEST(identities_named)
{
	good(load_text("read any on a\nread uid=0 on b\n"));
	ck_assert(!access_names_certificates(access_list));
	ck_assert_uint_eq(access_naming(access_list, ACCESS_PSK), ACCESS_NO_RULE);
	good(load_text("read uid=0 on b\nnone uid=1 and san=dns:x on b\nread psk=x on *\n"));
	ck_assert(access_names_certificates(access_list));
	ck_assert_uint_eq(access_naming(access_list, ACCESS_X509), 1);
	ck_assert_uint_eq(access_naming(access_list, ACCESS_PSK), 2);
}
END_TEST

START_TEST(nobody_is_admitted)
{
	good(load_text("read any on a\nread dn=CN=x on b\nlist any on b\n"));
	ck_assert(access_admits_nobody(access_list, 0, true));
	ck_assert(access_admits_nobody(access_list, 0, false));
	ck_assert(!access_admits_nobody(access_list, 1, false));
	good(load_text("read uid=0 on a\nread ip=10.0.0.0/8 on b\n"));
	ck_assert(access_admits_nobody(access_list, 0, false));
	ck_assert(!access_admits_nobody(access_list, 0, true));
	ck_assert(access_admits_nobody(access_list, 1, true));
	good(load_text("write ip=10.0.0.1 and psk=x on *\nnone any on *\n"));
	ck_assert(!access_admits_nobody(access_list, 0, false));
}
END_TEST

START_TEST(releasing)
{
	struct access_peer peer = { .sans = calloc(1, sizeof(*peer.sans)), .nsans = 1 };

	peer.dn.data = strdup("CN=a");
	peer.psk.data = strdup("a");
	peer.groups = calloc(1, sizeof(*peer.groups));
	peer.sans[0].name.data = strdup("x");
	access_peer_release(&peer);
	access_peer_release(&peer);
	ck_assert_ptr_null(peer.dn.data);
	access_free(NULL);
}
END_TEST

START_TEST(order_within_a_set)
{
	static const char *const sorted[][2] = {
		{ "CN=a", "CN=a" },
		{ "CN=a,O=b", "CN=a,O=b" },
		{ "O=b,CN=a", "O=b,CN=a" }, /* that order says something */
		{ "UID=u+CN=m", "CN=m+UID=u" },
		{ "CN=m+UID=u", "CN=m+UID=u" },
		{ "C=x+B=yy+A=zzz,O=b+L=c", "A=zzz+B=yy+C=x,L=c+O=b" },
		{ "B=1+A=\\+\\,+AA=2", "A=\\+\\,+AA=2+B=1" },
		{ "A=12+A=1", "A=1+A=12" },
		{ "", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		char *dn = strdup(sorted[i][0]);

		access_dn_sort(dn);
		ck_assert_str_eq(dn, sorted[i][1]);
		free(dn);
	}
}
END_TEST

UNIT_MAIN(order_within_a_set, addresses, addresses_that_are_none, users, names_of_certificates,
	  names_that_no_certificate_has, names_that_certificates_have, other_identities, psk_users,
	  quotes, grammar, first_rule_decides, rules_that_decide_nothing,
	  command_line_before_file, files, identities_named, nobody_is_admitted, releasing)
