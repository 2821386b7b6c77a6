/* SPDX-License-Identifier: MIT */
/* server_config.c - the command line: options, targets, names, error texts. */
#include "server/config.h"

#include <errno.h>
#include <sys/stat.h>

#include "server/limits.h"
#include "tests/lib/unit.h"

#define ARGS_MAX 40

static struct config config;
static struct err err;
static char *line; /* the arguments of the last parse() */
static char *argv[ARGS_MAX];
static int argc;

static void
forget(void)
{
	config_release(&config);
	memset(&config, 0, sizeof(config));
	free(line);
	line = NULL;
}

/* Parses a command line; arguments are separated by one blank each. */
static int
parse(const char *text)
{
	char *at;

	forget();
	line = strdup(text);
	ck_assert_ptr_nonnull(line);
	argc = 0;
	argv[argc++] = (char *)(uintptr_t)"blkgate";
	for (at = *line ? line : NULL; at; argc++) {
		ck_assert_int_eq(argc < ARGS_MAX - 1, 1);
		argv[argc] = at;
		at = strchr(at, ' ');
		if (at)
			*at++ = '\0';
	}
	argv[argc] = NULL;
	err = (struct err){ 0 };
	return config_parse(&config, argc, argv, &err);
}

static void
good(const char *text)
{
	int ret = parse(text);

	ck_assert_msg(ret == 0, "%s: %s", text, err.text);
}

/* Refused, and the text has all of these words in it. */
#define bad(text, ...) \
	bad_words(text, (const char *const[]){ __VA_ARGS__, NULL })

static void
bad_words(const char *text, const char *const *words)
{
	int ret = parse(text);

	ck_assert_msg(ret == -EINVAL, "%s: %d", text, ret);
	ck_assert_int_eq(err.code, -EINVAL);
	for (; *words; words++)
		ck_assert_msg(strstr(err.text, *words) != NULL, "%s: no '%s' in: %s", text, *words,
			      err.text);
}

static const struct config_target *
target(unsigned i)
{
	ck_assert(i < config.ntargets);
	return &config.targets[i];
}

/* The target's driver and properties as "driver name=value name=value". */
static const char *
target_text(unsigned i)
{
	static char text[1024];
	const struct config_target *t = target(i);
	int n = snprintf(text, sizeof(text), "%s", t->driver);

	for (unsigned k = 0; k < t->nprops; k++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " %s=%s", t->props[k].name,
			      t->props[k].value);
	return text;
}

/* --- Options ---------------------------------------------------------------- */

START_TEST(defaults)
{
	good("/disk");
	ck_assert_int_eq(config.action, CONFIG_SERVE);
	ck_assert_uint_eq(config.ntargets, 1);
	ck_assert_uint_eq(config.fallback, 0);
	ck_assert_uint_eq(config.port, 10809);
	ck_assert(!config.port_given && config.default_listen && !config.private_socket);
	ck_assert_uint_eq(config.nlistens, 1);
	ck_assert_ptr_null(config.listens[0].unix_path);
	ck_assert_ptr_null(config.listens[0].host);
	ck_assert_uint_eq(config.socket_mode, 0600);
	ck_assert(!config.single && !config.read_only && config.discard && !config.print_uri);
	ck_assert_int_eq(config.cache, DEV_CACHE_WRITEBACK);
	ck_assert_uint_eq(config.workers, 0);
	ck_assert_uint_eq(config.clients_max, 0);
	ck_assert_uint_eq(config.connections_max, 100);
	ck_assert_uint_eq(config.handshakes_max, 50);
	ck_assert_uint_eq(config.handshake_s, 10);
	ck_assert_uint_eq(config.tcp.keepalive_idle_s, 60);
	ck_assert_uint_eq(config.tcp.keepalive_interval_s, 10);
	ck_assert_uint_eq(config.tcp.keepalive_probes, 6);
	ck_assert_uint_eq(config.tcp.user_timeout_s, 120);
	ck_assert_uint_eq(config.shutdown_s, 10);
	ck_assert_uint_eq(config.verbose, 0);
	ck_assert_str_eq(target(0)->name, "");
	ck_assert_str_eq(target(0)->description, "");
	ck_assert_str_eq(target(0)->text, "/disk");
	ck_assert_str_eq(target_text(0), "io_uring path=/disk");
}
END_TEST

START_TEST(every_option)
{
	/* Each spelling, alone; what has to be true afterwards. */
	static const char *const read_only[] = { "-r", "--read-only", "--readonly", "--read-o" };
	static const char *const names[] = {
		"-x n", "-xn", "--export-name n", "--export-name=n", "--exportname=n",
	};
	static const char *const sockets[] = {
		"-k /s", "-U /s", "--socket /s", "--socket=/s", "--unix=/s", "--unix /s",
	};
	static const char *const binds[] = { "-b ::1", "--bind ::1", "--bind=::1", "--ipaddr=::1" };
	static const struct {
		const char *word;
		enum dev_cache cache;
	} caches[] = {
		{ "writeback", DEV_CACHE_WRITEBACK }, { "none", DEV_CACHE_NONE },
		{ "writethrough", DEV_CACHE_WRITETHROUGH },
		{ "directsync", DEV_CACHE_DIRECTSYNC }, { "unsafe", DEV_CACHE_UNSAFE },
	};
	static const struct {
		const char *word;
		bool discard;
	} discards[] = { { "unmap", true }, { "on", true }, { "ignore", false }, { "off", false } };
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(read_only); i++) {
		snprintf(text, sizeof(text), "%s /disk", read_only[i]);
		good(text);
		ck_assert(config.read_only);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text), "%s /disk", names[i]);
		good(text);
		ck_assert_str_eq(target(0)->name, "n");
	}
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
		snprintf(text, sizeof(text), "%s /disk", sockets[i]);
		good(text);
		ck_assert_uint_eq(config.nlistens, 1);
		ck_assert_str_eq(config.listens[0].unix_path, "/s");
		ck_assert(!config.default_listen);
	}
	for (size_t i = 0; i < ARRAY_SIZE(binds); i++) {
		snprintf(text, sizeof(text), "%s /disk", binds[i]);
		good(text);
		ck_assert_uint_eq(config.nlistens, 1);
		ck_assert_str_eq(config.listens[0].host, "::1");
		ck_assert_ptr_null(config.listens[0].unix_path);
		ck_assert(!config.default_listen);
	}
	for (size_t i = 0; i < ARRAY_SIZE(caches); i++) {
		snprintf(text, sizeof(text), "--cache=%s /disk", caches[i].word);
		good(text);
		ck_assert_int_eq(config.cache, caches[i].cache);
	}
	for (size_t i = 0; i < ARRAY_SIZE(discards); i++) {
		snprintf(text, sizeof(text), "--discard=%s /disk", discards[i].word);
		good(text);
		ck_assert(config.discard == discards[i].discard);
	}
	good("--port=1 -e 3 --max-connections=5 --workers=7 --shutdown-timeout=9 /disk");
	ck_assert(config.port == 1 && config.port_given);
	ck_assert_uint_eq(config.clients_max, 3);
	ck_assert_uint_eq(config.connections_max, 5);
	ck_assert_uint_eq(config.workers, 7);
	ck_assert_uint_eq(config.shutdown_s, 9);
	good("--shared=4 -p 0 --shutdown-timeout=0 -vv --verbose --print-uri /disk");
	ck_assert_uint_eq(config.clients_max, 4);
	ck_assert(config.port == 0 && config.port_given && config.print_uri);
	ck_assert_uint_eq(config.shutdown_s, 0);
	ck_assert_uint_eq(config.verbose, 3);
	good("-D text --socket-mode=0666 --socket=- /disk");
	ck_assert_str_eq(target(0)->description, "text");
	ck_assert_uint_eq(config.socket_mode, 0666);
	ck_assert(config.private_socket && !config.default_listen);
	ck_assert_uint_eq(config.nlistens, 0);
	good("--handshake-limit=5 /disk");
	ck_assert_uint_eq(config.handshake_s, 5);
	good("--timeout 0 /disk");
	ck_assert_uint_eq(config.handshake_s, 0);
	good("--single /disk");
	ck_assert(config.single && config.nlistens == 0 && !config.default_listen);
	good("-r -- /disk");
	good("/disk -r"); /* options may follow */
	ck_assert(config.read_only);
}
END_TEST

START_TEST(help_and_version)
{
	static const char *const help[] = { "-h", "--help", "-rh", "--help --nonsense" };
	static const char *const version[] = { "-V", "--version", "-V --help", "-Vh" };

	for (size_t i = 0; i < ARRAY_SIZE(help); i++) {
		good(help[i]);
		ck_assert_int_eq(config.action, CONFIG_HELP);
	}
	for (size_t i = 0; i < ARRAY_SIZE(version); i++) {
		good(version[i]);
		ck_assert_int_eq(config.action, CONFIG_VERSION);
	}
	/* What came before does not come back. */
	good("/disk");
	ck_assert_int_eq(config.action, CONFIG_SERVE);
}
END_TEST

/* Every long option is in the help, and the help has no other. */
START_TEST(usage_names_every_option)
{
	static const char *const known[] = {
		"--read-only", "--export-name", "--description", "--default-export", "--cache",
		"--discard", "--detect-zeroes", "--on-error", "--port", "--bind", "--socket",
		"--unix", "--socket-mode", "--single", "--shared", "--max-connections",
		"--max-handshakes", "--handshake-limit", "--keepalive", "--tcp-user-timeout",
		"--workers", "--poll", "--shutdown-timeout", "--print-uri", "--block-size ",
		"--block-size-policy", "--sparse-reads", "--user", "--group", "--sandbox",
		"--selinux-label", "--access ", "--allow ", "--deny ", "--tls ",
		"--tls-certificates", "--tls-ca", "--tls-crl", "--tls-cert,", "--tls-key",
		"--tls-verify-peer", "--tls-purpose", "--tls-psk", "--tls-priority", "--verbose",
		"--version", "--help",
		/* Other names, which are told of together at the end. */
		"--readonly, --exportname, --ipaddr and --timeout are other names of --read-only",
	};
	unsigned found = 0;

	for (const char *at = config_usage; (at = strstr(at, "--")); at += 2)
		found++;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		ck_assert_msg(strstr(config_usage, known[i]) != NULL, "%s", known[i]);
	/* The last of these has four, and four that they are names of. */
	ck_assert_uint_eq(found, ARRAY_SIZE(known) - 1 + 8);
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		const char *option, *min, *below, *max, *above;
	} table[] = {
		{ "--port", "0", "-1", "65535", "65536" },
		{ "--shared", "0", "-1", "1048576", "1048577" },
		{ "--max-connections", "1", "0", "1048576", "1048577" },
		{ "--handshake-limit", "0", "-1", "3600", "3601" },
		{ "--tcp-user-timeout", "0", "-1", "2147483", "2147484" },
		{ "--workers", "1", "0", "256", "257" },
		{ "--poll", "0", "-1", "1000000", "1000001" },
		{ "--shutdown-timeout", "0", "-1", "86400", "86401" },
	};
	static const char *const nonsense[] = {
		"x", "1x", "0x10", "+1", "1.5", "18446744073709551616", "99999999999999999999999",
		"--", "\t1",
	};
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const char *o = table[i].option;

		snprintf(text, sizeof(text), "%s=%s /disk", o, table[i].min);
		good(text);
		snprintf(text, sizeof(text), "%s=%s /disk", o, table[i].max);
		good(text);
		snprintf(text, sizeof(text), "%s=%s /disk", o, table[i].below);
		bad(text, o, table[i].below, table[i].min, table[i].max);
		snprintf(text, sizeof(text), "%s=%s /disk", o, table[i].above);
		bad(text, o, table[i].above, table[i].min, table[i].max);
		snprintf(text, sizeof(text), "%s= /disk", o);
		bad(text, o);
		for (size_t k = 0; k < ARRAY_SIZE(nonsense); k++) {
			snprintf(text, sizeof(text), "%s=%s /disk", o, nonsense[k]);
			bad(text, o, nonsense[k], "number");
		}
	}
}
END_TEST

START_TEST(places)
{
	static const struct {
		const char *options;
		unsigned connections, handshakes;
	} table[] = {
		{ "--max-connections=1", 1, 1 },
		{ "--max-connections=2", 2, 1 },
		{ "--max-connections=3", 3, 1 },
		{ "--max-connections=1000", 1000, 500 },
		{ "--max-handshakes=7", 100, 7 },
		{ "--max-handshakes=100", 100, 100 },
		{ "--max-handshakes=200 --max-connections=200", 200, 200 },
		{ "--max-connections=3 --max-handshakes=2", 3, 2 },
		{ "--max-handshakes=1048576 --max-connections=1048576", 1048576, 1048576 },
		{ "--max-handshakes=9 --max-handshakes=2 --max-connections=4", 4, 2 },
	};
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(text, sizeof(text), "%s /disk", table[i].options);
		good(text);
		ck_assert_uint_eq(config.connections_max, table[i].connections);
		ck_assert_uint_eq(config.handshakes_max, table[i].handshakes);
	}
	bad("--max-handshakes=0 /disk", "--max-handshakes=0", "from 1 to 1048576");
	bad("--max-handshakes=1048577 /disk", "--max-handshakes=1048577", "from 1 to 1048576");
	bad("--max-handshakes= /disk", "--max-handshakes=:", "number");
	/* More than all: whichever of the two is meant, both are named. */
	bad("--max-handshakes=101 /disk", "--max-handshakes=101", "--max-connections=100");
	bad("--max-connections=3 --max-handshakes=4 /disk", "--max-handshakes=4",
	    "--max-connections=3");
	bad("--max-handshakes=4 --max-connections=3 /disk", "--max-handshakes=4",
	    "--max-connections=3");
}
END_TEST

START_TEST(tcp_times)
{
	static const struct {
		const char *options;
		unsigned idle, interval, probes, user_timeout;
	} table[] = {
		{ "--keepalive=1", 1, 10, 6, 61 },
		{ "--keepalive=1:2", 1, 2, 6, 13 },
		{ "--keepalive=1:2:3", 1, 2, 3, 7 },
		{ "--keepalive 007:02:3", 7, 2, 3, 13 },
		{ "--keepalive=1:2:3 --keepalive=5", 5, 10, 6, 65 },
		{ "--keepalive=1:2:3 --tcp-user-timeout=0", 1, 2, 3, 0 },
		{ "--tcp-user-timeout=9 --keepalive=1:2:3", 1, 2, 3, 9 },
		{ "--tcp-user-timeout=9", 60, 10, 6, 9 },
		/* As far as the kernel goes, and no further. */
		{ "--keepalive=32767:1:1", 32767, 1, 1, 32768 },
		{ "--keepalive=32767:32767:64", 32767, 32767, 64, 2129855 },
		{ "--keepalive=32767:32767:127", 32767, 32767, 127, 2147483 },
		/* Nobody is asked; what is sent has to be confirmed all the same. */
		{ "--keepalive=off", 0, 10, 6, 120 },
		{ "--keepalive=1:2:3 --keepalive=off", 0, 10, 6, 120 },
		{ "--keepalive=off --tcp-user-timeout=0", 0, 10, 6, 0 },
		{ "--keepalive=off --keepalive=2", 2, 10, 6, 62 },
	};
	static const char *const wrong[] = {
		"", "on", "OFF", "off:1", "0", "0:1:1", "1:0", "1:1:0", "1:", "1:1:", ":", "::",
		":1", "1::1", "1:1:1:", "1:1:1:1", "32768", "1:32768", "1:1:128", "-1", "1:-1",
		"+1", "1x", "1:1x", "0x1", "1.5", "1,1", "18446744073709551617",
		"1:99999999999999999999999",
	};
	char text[100];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		snprintf(text, sizeof(text), "%s /disk", table[i].options);
		good(text);
		ck_assert_msg(config.tcp.keepalive_idle_s == table[i].idle &&
				      config.tcp.keepalive_interval_s == table[i].interval &&
				      config.tcp.keepalive_probes == table[i].probes &&
				      config.tcp.user_timeout_s == table[i].user_timeout,
			      "%s: %u:%u:%u %u", text, config.tcp.keepalive_idle_s,
			      config.tcp.keepalive_interval_s, config.tcp.keepalive_probes,
			      config.tcp.user_timeout_s);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(text, sizeof(text), "--keepalive=%s /disk", wrong[i]);
		bad(text, "--keepalive=", wrong[i], "off", "IDLE[:INTERVAL[:COUNT]]", "32767",
		    "127");
	}
}
END_TEST

START_TEST(words_and_modes)
{
	bad("--cache=fast /disk", "--cache", "fast", "writeback", "none", "writethrough",
	    "directsync", "unsafe");
	bad("--cache= /disk", "--cache", "writeback");
	bad("--discard=maybe /disk", "--discard", "maybe", "unmap", "ignore");
	bad("--detect-zeroes=maybe /disk", "--detect-zeroes", "maybe", "off", "unmap");
	bad("--on-error=ignore /disk", "--on-error", "ignore", "report", "stop");
	bad("--block-size-policy=maybe /disk", "--block-size-policy", "maybe", "rmw", "strict");
	bad("--tls-purpose=any /disk", "--tls-purpose", "any", "required", "optional");
	bad("--sparse-reads=maybe /disk", "--sparse-reads", "maybe", "status", "zeroes", "off");
	bad("--socket-mode=rw /disk", "--socket-mode", "rw", "octal");
	bad("--socket-mode=8 /disk", "--socket-mode", "8", "octal");
	bad("--socket-mode=1000 /disk", "--socket-mode", "1000", "0777");
	bad("--socket-mode=77777777777777777777777 /disk", "--socket-mode", "0777");
	bad("--socket-mode= /disk", "--socket-mode", "octal");
	bad("--socket-mode=-1 /disk", "--socket-mode", "octal");
	bad("--socket= /disk", "--socket", "path");
	bad("--bind= /disk", "--bind", "address");
	bad("--bind=127.0.0.1:10809 /disk", "--bind=127.0.0.1:10809:", "address", "--port");
	bad("-b localhost:1 /disk", "localhost:1", "address", "--port");
	bad("-b : /disk", "--bind=:", "address");
	bad("-b [::1] /disk", "--bind=[::1]", "::1;", "--port");
	bad("-b [::1]:1 /disk", "--bind=[::1]:1", "--port");
	good("-b fe80::1%eth0 -b :: -b ::1 -b ::ffff:1.2.3.4 -b host.name /disk");
	good("--socket-mode=0 /disk");
	good("--socket-mode=777 /disk");
}
END_TEST

START_TEST(block_sizes)
{
	good("/disk");
	ck_assert(!config.strict && config.sizes.minimum == 0);
	good("--block-size=512:4k:1M --block-size-policy=strict --sparse-reads=off /disk");
	ck_assert_uint_eq(config.sizes.minimum, 512);
	ck_assert_uint_eq(config.sizes.preferred, 4096);
	ck_assert_uint_eq(config.sizes.maximum, 1 << 20);
	ck_assert(config.strict);
	ck_assert_int_eq(config.sparse, EXPORT_SPARSE_OFF);
	/* Any of them may be left to the device. */
	good("--block-size=::64M /disk");
	ck_assert_uint_eq(config.sizes.minimum | config.sizes.preferred, 0);
	ck_assert_uint_eq(config.sizes.maximum, 64 << 20);
	good("--block-size=:65536 /disk");
	ck_assert_uint_eq(config.sizes.preferred, 65536);
	good("--block-size=64k:64k:64k /disk");
	good("--block-size=1:512:64k /disk");

	bad("--block-size=3 /disk", "--block-size=3: minimum 3", "power of two");
	bad("--block-size=0:: /disk", "--block-size=0::: minimum 0", "1 to 65536");
	bad("--block-size=128k /disk", "minimum 128k", "1 to 65536");
	bad("--block-size=:256 /disk", "preferred 256", "512 to 33554432");
	bad("--block-size=:1000 /disk", "preferred 1000", "power of two");
	bad("--block-size=4k:512 /disk", "preferred 512", "minimum 4096");
	bad("--block-size=:64M /disk", "preferred 64M", "512 to 33554432");
	bad("--block-size=::65535 /disk", "maximum 65535", "65536 to 67108864");
	bad("--block-size=::64M1 /disk", "64M1", "bytes");
	bad("--block-size=::65M /disk", "maximum 65M", "65536 to 67108864");
	bad("--block-size=:128k:64k /disk", "maximum 65536", "other two");
	bad("--block-size=4k::100000 /disk", "maximum 100000", "multiple of the minimum 4096");
	bad("--block-size=1:512:64k: /disk", "MIN:PREFERRED:MAX");
	bad("--block-size=1:512:64k:1 /disk", "MIN:PREFERRED:MAX");
	bad("--block-size=00000000000000000000000000000000000001 /disk", "minimum", "no size");
	bad("--block-size=x /disk", "size x");
}
END_TEST

START_TEST(wrong_options)
{
	bad("", "TARGET");
	bad("-r", "TARGET");
	bad("-Z /disk", "-Z", "no such option");
	bad("-rZ /disk", "-Z", "no such option");
	bad("--nonsense /disk", "--nonsense: there is no such option");
	bad("--nonsense=1 /disk", "--nonsense: there is no such option");
	bad("--so=/s /disk", "--so: could be any of --socket, --socket-mode");
	bad("--s /disk", "--s: could be any of --sparse-reads, --socket, --socket-mode, --single, "
			 "--shared, --shutdown-timeout");
	bad("--ver /disk", "--ver: could be any of --verbose, --version");
	bad("--=x /disk", "--: there is no such option");
	/* As if it were a long one. */
	bad("-r=1 /disk", "-=: there is no such option", "-p 10809");
	bad("/disk -p", "-p", "value");
	bad("/disk --port", "--port", "value");
	bad("/disk --cache", "--cache", "value");
	/* In front of a cluster of options stands one that is not to blame. */
	bad("--print-uri -Zr /disk", "-Z: there is no such option");
	bad("--cache=none -rZv /disk", "-Z: there is no such option");
	bad("--print-uri /disk -rp", "-p: needs a value");
	bad("--read-o=yes /disk", "--read-o=yes: takes no value");
	/* It is there, but takes nothing: the text must not deny the option. */
	bad("--single=yes /disk", "--single", "takes no value");
	bad("--print-uri=yes /disk", "--print-uri", "takes no value");
	bad("--read-only=yes /disk", "--read-only", "takes no value");
	bad("--verbose=3 /disk", "--verbose", "takes no value");
	/* And an error leaves nothing behind for the next command line. */
	good("/disk");
	bad("-Zr /disk", "-Z");
	good("/disk");
	ck_assert(!config.read_only);
}
END_TEST

/* --- Targets ---------------------------------------------------------------- */

START_TEST(target_grammar)
{
	static const struct {
		const char *text, *name, *parsed;
	} table[] = {
		/* A path, whole, whatever is in it. */
		{ "/a/b,c=d:e", "", "io_uring path=/a/b,c=d:e" },
		{ "./x=y", "", "io_uring path=./x=y" },
		{ "/", "", "io_uring path=/" },
		/* Names. */
		{ "n=/a", "n", "io_uring path=/a" },
		{ "n=a", "n", "io_uring path=a" },
		{ "=/a", "", "io_uring path=/a" },
		{ "n=./a=b", "n", "io_uring path=./a=b" },
		{ "n=a=b", "n", "io_uring path=a=b" },
		/* Drivers. */
		{ "io_uring:/a", "", "io_uring path=/a" },
		{ "nvme-io_uring:/dev/ng0n1", "", "nvme-io_uring path=/dev/ng0n1" },
		{ "n=drv:/a", "n", "drv path=/a" },
		{ "n=drv:a:b", "n", "drv path=a:b" },
		{ "n=drv:a=b", "n", "drv path=a=b" },
		{ "=drv:/a", "", "drv path=/a" },
		/* Properties. */
		{ "drv:/a,p=1", "", "drv path=/a p=1" },
		{ "drv:/a,p=1,q=", "", "drv path=/a p=1 q=" },
		{ "drv:/a,p=x=y", "", "drv path=/a p=x=y" },
		{ "n=a,p=1", "n", "io_uring path=a p=1" },
		{ "nosuchfile,p=1", "", "io_uring path=nosuchfile p=1" },
		/* Two commas are one. */
		{ "drv:/a,,b", "", "drv path=/a,b" },
		{ "drv:/a,,b,p=1,,2,,,q=3", "", "drv path=/a,b p=1,2, q=3" },
		{ "n=a,,,,b", "n", "io_uring path=a,,b" },
		/* Memory. */
		{ "mem:0", "", "mem size=0" },
		{ "mem:512", "", "mem size=512" },
		{ "mem:1k", "", "mem size=1024" },
		{ "mem:3K", "", "mem size=3072" },
		{ "mem:2M", "", "mem size=2097152" },
		{ "mem:2m", "", "mem size=2097152" },
		{ "mem:1G", "", "mem size=1073741824" },
		{ "mem:1T", "", "mem size=1099511627776" },
		{ "mem:9223372036854775807", "", "mem size=9223372036854775807" },
		{ "ram=mem:1M", "ram", "mem size=1048576" },
		{ "mem:1M,p=1", "", "mem size=1048576 p=1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		good(table[i].text);
		ck_assert_msg(strcmp(target(0)->name, table[i].name) == 0 &&
				      strcmp(target_text(0), table[i].parsed) == 0,
			      "%s: '%s' %s", table[i].text, target(0)->name, target_text(0));
		ck_assert_str_eq(target(0)->text, table[i].text);
	}
}
END_TEST

START_TEST(target_of_an_existing_file)
{
	const char *tmp = getenv("TEST_TMP");
	char dir[200];
	FILE *f;

	snprintf(dir, sizeof(dir), "%s/server_config.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	good("n=mem:1M,p=1");
	ck_assert_str_eq(target_text(0), "mem size=1048576 p=1");
	f = fopen("n=mem:1M,p=1", "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	good("n=mem:1M,p=1");
	ck_assert_str_eq(target(0)->name, "");
	ck_assert_str_eq(target_text(0), "io_uring path=n=mem:1M,p=1");
	unlink("n=mem:1M,p=1");
	ck_assert_int_eq(chdir("/"), 0);
	rmdir(dir);
}
END_TEST

START_TEST(wrong_targets)
{
	bad("n=", "n=", "PATH");
	bad("drv:", "drv:", "PATH");
	bad(":a", ":a", "DRIVER");
	bad("=", "=", "PATH");
	bad("n=:a", "n=:a", "DRIVER");
	bad("/a ", "target ''");
	bad("drv:/a,p=1,", "drv:/a,p=1,: after the last comma", "PROPERTY=VALUE");
	bad("drv:/a,", "drv:/a,: after the last comma");
	bad("drv:/a,p=1,,,", "after the last comma");
	bad("mem:1M,", "mem:1M,: after the last comma");
	good("drv:/a,p=1,,");
	ck_assert_str_eq(target_text(0), "drv path=/a p=1,");
	bad("mem:", "mem:", "PATH");
	bad("drv:/a,p", "drv:/a,p", "PROPERTY=VALUE");
	bad("drv:/a,=v", "=v", "PROPERTY=VALUE");
	bad("drv:/a,p=1,q", " q", "PROPERTY=VALUE");
	bad("drv:/a,x-p=1", "drv:/a,x-p=1", "x-p=1", "set by blkgate");
	bad("/b drv:/a,num-queues=1", "drv:/a,num-queues=1", "--workers");
	bad("-r drv:/a,read-only=false", "read-only=false", "--read-only");
	bad("drv:/a,read-only=1 --readonly", "read-only=1", "--read-only");
	good("drv:/a,read-only=false");
	good("-r drv:/a,read-only=true");
	bad("mem:much", "mem:much", "size much", "k, M, G or T");
	bad("mem:-1", "mem:-1", "size -1");
	bad("mem:+1", "size +1");
	bad("mem:0x100", "size 0x100");
	bad("mem:1kb", "size 1kb");
	bad("mem:1P", "size 1P");
	bad("mem:k", "size k");
	bad("mem:8388608T", "size 8388608T", "8 EiB");
	bad("mem:9223372036854775808", "size 9223372036854775808", "8 EiB");
	bad("mem:99999999999999999999", "size 99999999999999999999");
	good("mem:8388607T");
}
END_TEST

/* --- Names ------------------------------------------------------------------ */

START_TEST(names_of_several)
{
	good("/a/one.img two=/b /c/ mem:1M drv:/d/four");
	ck_assert_uint_eq(config.ntargets, 5);
	ck_assert_str_eq(target(0)->name, "one.img");
	ck_assert_str_eq(target(1)->name, "two");
	ck_assert_str_eq(target(2)->name, "/c/");
	ck_assert_str_eq(target(3)->name, "mem");
	ck_assert_str_eq(target(4)->name, "four");
	ck_assert_uint_eq(config.fallback, 0);

	bad("/a/x /b/x", "/a/x", "/b/x", "\"x\"", "NAME=");
	bad("n=/a n=/b", "\"n\"");
	bad("x=/a /b/x", "\"x\"");
	bad("mem:1M mem:2M", "mem:1M", "mem:2M");
	good("/a/x y=/b/x");
	good("=/a /b");
	bad("=/a =/b", "\"\"");
}
END_TEST

START_TEST(default_export)
{
	good("--default-export=b a=/1 b=/2 c=/3");
	ck_assert_uint_eq(config.fallback, 1);
	good("a=/1 b=/2 --default-export a");
	ck_assert_uint_eq(config.fallback, 0);
	good("a=/1 b=/2 --default-export b");
	ck_assert_uint_eq(config.fallback, 1);
	bad("--default-export=d a=/1 b=/2", "--default-export", "d", "name of an export");
	bad("--default-export= a=/1 b=/2", "--default-export");
	good("--default-export= /disk"); /* its name is empty */
}
END_TEST

START_TEST(options_for_one_target)
{
	bad("-x n /a /b", "--export-name", "one TARGET", "2");
	bad("-D text /a /b /c", "--description", "one TARGET", "3", "no descriptions");
	/* Of the same twice the last counts. */
	good("-x one -x two -D a -D b --cache=none --cache=unsafe /a");
	ck_assert_str_eq(target(0)->name, "two");
	ck_assert_str_eq(target(0)->description, "b");
	ck_assert_int_eq(config.cache, DEV_CACHE_UNSAFE);
	good("-x outer inner=/a");
	ck_assert_str_eq(target(0)->name, "outer");
	good("-x /odd/name /a");
	ck_assert_str_eq(target(0)->name, "/odd/name");
}
END_TEST

START_TEST(strings_of_the_protocol)
{
	static char text[LIMIT_STRING_BYTES + 100];

	bad("-x \xff /a", "export name", "UTF-8");
	bad("\xc3\x28=/a", "export name", "UTF-8");
	bad("-D \x80 /a", "description", "UTF-8");
	good("-x d\xc3\xbcsseldorf /a");
	/* The longest, and one more. */
	memset(text, 'x', sizeof(text));
	strcpy(text + LIMIT_STRING_BYTES, "=/a");
	good(text);
	memset(text, 'x', sizeof(text));
	strcpy(text + LIMIT_STRING_BYTES + 1, "=/a");
	bad(text, "export name", "4097", "4096");
}
END_TEST

START_TEST(too_many_targets)
{
	char **many = calloc(LIMIT_EXPORTS + 3, sizeof(*many));

	ck_assert_ptr_nonnull(many);
	forget();
	many[0] = (char *)(uintptr_t)"blkgate";
	for (unsigned i = 0; i <= LIMIT_EXPORTS; i++)
		ck_assert_int_eq(asprintf(&many[i + 1], "n%u=/a", i) > 0, 1);
	ck_assert_int_eq(config_parse(&config, (int)LIMIT_EXPORTS + 1, many, &err), 0);
	ck_assert_uint_eq(config.ntargets, LIMIT_EXPORTS);
	config_release(&config);
	ck_assert_int_eq(config_parse(&config, (int)LIMIT_EXPORTS + 2, many, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "n1024=/a"));
	ck_assert_ptr_nonnull(strstr(err.text, "1024 can be served"));
	forget();
	for (unsigned i = 0; i <= LIMIT_EXPORTS; i++)
		free(many[i + 1]);
	free(many);
}
END_TEST

/* --- Listeners -------------------------------------------------------------- */

START_TEST(listeners)
{
	/* A port without an address is on the loopback addresses. */
	good("-p 1234 /a");
	ck_assert_uint_eq(config.nlistens, 1);
	ck_assert_ptr_null(config.listens[0].host);
	ck_assert_ptr_null(config.listens[0].unix_path);
	ck_assert(!config.default_listen);
	/* Beside a unix socket, too. */
	good("-p 1234 -k /s /a");
	ck_assert_uint_eq(config.nlistens, 2);
	good("-b 0.0.0.0 -b :: -p 1234 /a");
	ck_assert_uint_eq(config.nlistens, 2);
	ck_assert_str_eq(config.listens[0].host, "0.0.0.0");
	ck_assert_str_eq(config.listens[1].host, "::");
	good("-k /s -U /t -b ::1 /a");
	ck_assert_uint_eq(config.nlistens, 3);
	good("-k - -k /s /a");
	ck_assert(config.private_socket);
	ck_assert_uint_eq(config.nlistens, 1);
	good("-k - /a");
	ck_assert(config.private_socket && config.nlistens == 0 && !config.default_listen);

	bad("--single -p 1 /a", "--single");
	bad("--single -b ::1 /a", "--single");
	bad("--single -k /s /a", "--single");
	bad("-U - --single /a", "--single");
}
END_TEST

START_TEST(access_rules)
{
	static char name[] = "blkgate", allow[] = "--allow=read any on b",
		    deny[] = "--deny=uid=0 on a", bad_rule[] = "--allow=read any on c",
		    file[] = "--access=/nonexistent", a[] = "a=/x", b[] = "b=/y";
	char *both[] = { name, allow, file, deny, a, b, NULL };
	char *wrong[] = { name, a, deny, bad_rule, b, NULL };

	good("/disk");
	ck_assert(!config_has_access(&config));
	forget();
	ck_assert_int_eq(config_parse(&config, 6, both, &err), 0);
	ck_assert(config_has_access(&config));
	/* The file is not opened here. */
	ck_assert_str_eq(config.access.path, "/nonexistent");
	ck_assert_uint_eq(config.access.nlines, 2);
	ck_assert(!config.access.lines[0].is_deny && config.access.lines[1].is_deny);
	ck_assert_str_eq(config.access.lines[0].text, "read any on b");
	ck_assert_str_eq(config.access.lines[1].text, "uid=0 on a");
	ck_assert_uint_eq(config.access.nexports, 2);
	ck_assert_str_eq(config.access.exports[0], "a");
	ck_assert_str_eq(config.access.exports[1], "b");
	/* Whatever the order of options and targets. */
	forget();
	ck_assert_int_eq(config_parse(&config, 5, wrong, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "--allow=read any on c: column 13: there is no "
					       "export \"c\", only \"a\", \"b\""));
	bad("--access", "--access", "needs a value");
	bad("--deny", "--deny", "needs a value");
}
END_TEST

UNIT_MAIN(defaults, every_option, help_and_version, usage_names_every_option, numbers, places,
	  tcp_times, words_and_modes, block_sizes, wrong_options, target_grammar,
	  target_of_an_existing_file, wrong_targets,
	  names_of_several, default_export, options_for_one_target, strings_of_the_protocol,
	  too_many_targets, listeners, access_rules)
