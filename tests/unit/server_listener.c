/* SPDX-License-Identifier: MIT */
/* server_listener.c - binding, accepting, URIs. */
#include "server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "server/log.h"
#include "tests/lib/unit.h"
#include "tests/lib/unit_loop.h"

/* --- URIs ------------------------------------------------------------------- */

static const char *
uri(bool is_tcp, const char *name, const char *export_name)
{
	static char text[2048];
	struct listener l = { .is_tcp = is_tcp };
	FILE *out = fmemopen(text, sizeof(text), "w");

	ck_assert_ptr_nonnull(out);
	snprintf(l.name, sizeof(l.name), "%s", name);
	listener_print_uri(&l, export_name, false, out);
	fclose(out);
	return text;
}

START_TEST(uris)
{
	ck_assert_str_eq(uri(true, "127.0.0.1:10809", ""), "nbd://127.0.0.1:10809\n");
	ck_assert_str_eq(uri(true, "[::1]:10809", "disk"), "nbd://[::1]:10809/disk\n");
	ck_assert_str_eq(uri(true, "127.0.0.1:1", "a b"), "nbd://127.0.0.1:1/a%20b\n");
	/* A slash is part of the name; the parser takes off the first one only. */
	ck_assert_str_eq(uri(true, "127.0.0.1:1", "/a/b"), "nbd://127.0.0.1:1/%2Fa%2Fb\n");
	ck_assert_str_eq(uri(true, "127.0.0.1:1", "?#&=%+"),
			 "nbd://127.0.0.1:1/%3F%23%26%3D%25%2B\n");
	ck_assert_str_eq(uri(true, "127.0.0.1:1", "d\xc3\xbc"), "nbd://127.0.0.1:1/d%C3%BC\n");
	ck_assert_str_eq(uri(true, "127.0.0.1:1", "aZ09-._~"), "nbd://127.0.0.1:1/aZ09-._~\n");
	ck_assert_str_eq(uri(false, "/run/nbd.sock", ""), "nbd+unix:///?socket=/run/nbd.sock\n");
	ck_assert_str_eq(uri(false, "/run/a b&c?d", "x/y"),
			 "nbd+unix:///x%2Fy?socket=/run/a%20b%26c%3Fd\n");
	ck_assert_str_eq(uri(false, "rel/sock", "x"), "nbd+unix:///x?socket=rel/sock\n");
}
END_TEST

START_TEST(every_byte_of_a_uri)
{
	for (unsigned c = 1; c < 256; c++) {
		char name[2] = { (char)c, '\0' }, expect[64];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';

		snprintf(expect, sizeof(expect), plain ? "nbd://h:1/%c\n" : "nbd://h:1/%%%02X\n",
			 c);
		ck_assert_str_eq(uri(true, "h:1", name), expect);
	}
}
END_TEST

/* --- Binding ---------------------------------------------------------------- */

static char dir[100], path[150];
static struct listener_set set;
static struct config config;
static struct config_listen listens[2];

static void
enter(void)
{
	const char *tmp = getenv("TEST_TMP");

	log_init(LOG_ERROR);
	snprintf(dir, sizeof(dir), "%s/listener.XXXXXX", tmp && strlen(tmp) < 60 ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	memset(&set, 0, sizeof(set));
	listens[0] = (struct config_listen){ .unix_path = path };
	config = (struct config){ .listens = listens, .nlistens = 1, .socket_mode = 0600 };
}

static void
leave(void)
{
	listener_close(&set);
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static int
connect_to(const char *to)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(addr.sun_path, to, sizeof(addr.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -errno;
}

static void
check_refused(int code, const char *word)
{
	struct err err = { 0 };

	ck_assert_int_eq(listener_open(&set, &config, &err), code);
	ck_assert_msg(strstr(err.text, word) && strstr(err.text, "socket"), "%s", err.text);
	ck_assert_uint_eq(set.count, 0);
}

START_TEST(unix_sockets)
{
	static const unsigned modes[] = { 0600, 0660, 0777, 0 };
	struct stat st;
	struct err err;

	enter();
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		config.socket_mode = modes[i];
		ck_assert_int_eq(listener_open(&set, &config, &err), 0);
		ck_assert_uint_eq(set.count, 1);
		ck_assert_str_eq(set.listeners[0].name, path);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert(S_ISSOCK(st.st_mode));
		ck_assert_uint_eq(st.st_mode & 0777, modes[i]);
		ck_assert(fcntl(set.listeners[0].fd, F_GETFD) & FD_CLOEXEC);
		listener_close(&set);
		ck_assert_int_eq(stat(path, &st), -1); /* it takes its own away */
	}
	listener_close(&set); /* a zeroed one */
	leave();
}
END_TEST

START_TEST(what_is_there_already)
{
	struct listener_set other = { 0 };
	struct err err;
	FILE *f;
	int fd;

	enter();
	/* A file is not ours to remove. */
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	check_refused(-EEXIST, path);
	ck_assert_int_eq(unlink(path), 0);

	/* Somebody listens. */
	ck_assert_int_eq(listener_open(&other, &config, &err), 0);
	check_refused(-EADDRINUSE, "another server");
	fd = connect_to(path);
	ck_assert(fd >= 0); /* and still does */
	close(fd);

	/* Nobody listens any more: replaced. */
	close(other.listeners[0].fd);
	ck_assert_int_eq(connect_to(path), -ECONNREFUSED);
	ck_assert_int_eq(listener_open(&set, &config, &err), 0);
	fd = connect_to(path);
	ck_assert(fd >= 0);
	close(fd);
	free(other.listeners);
	leave();
}
END_TEST

START_TEST(what_it_is_not_known)
{
	bool root = geteuid() == 0;
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int cwd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	struct err err;

	enter();
	/* Relative, so that the directories above need not let us in. */
	ck_assert_int_eq(chdir(dir), 0);
	listens[0].unix_path = addr.sun_path;

	/* In use, but not by a server of streams. */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	check_refused(-EADDRINUSE, "another program");
	close(fd);
	ck_assert_int_eq(listener_open(&set, &config, &err), 0); /* now nobody has it */
	listener_close(&set);

	/* Ours, but we may not connect. */
	if (root) {
		ck_assert_int_eq(chown(".", 65534, (gid_t)-1), 0);
		ck_assert_int_eq(seteuid(65534), 0);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(chmod(addr.sun_path, 0), 0);
	check_refused(-EACCES, "Permission denied");
	close(fd);
	ck_assert_int_eq(unlink(addr.sun_path), 0);
	if (root)
		ck_assert_int_eq(seteuid(0), 0);
	ck_assert_int_eq(fchdir(cwd), 0);
	close(cwd);
	leave();
}
END_TEST

START_TEST(paths_that_cannot_be)
{
	char longer[120];
	struct stat st;

	enter();
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[108] = '\0';
	listens[0].unix_path = longer;
	check_refused(-ENAMETOOLONG, "108 bytes");
	listens[0].unix_path = "/nonexistent/sock";
	check_refused(-ENOENT, "/nonexistent/sock");
	/* What was opened before the failure is closed again. */
	listens[0].unix_path = path;
	listens[1] = (struct config_listen){ .unix_path = "/nonexistent/sock" };
	config.nlistens = 2;
	check_refused(-ENOENT, "/nonexistent/sock");
	ck_assert_int_eq(stat(path, &st), -1);
	leave();
}
END_TEST

START_TEST(a_private_socket)
{
	char private[200];
	struct stat st;
	struct err err;
	int fd;

	enter();
	config.nlistens = 0;
	config.private_socket = true;
	ck_assert_int_eq(listener_open(&set, &config, &err), 0);
	ck_assert_uint_eq(set.count, 1);
	snprintf(private, sizeof(private), "%s", set.private_dir);
	ck_assert_int_eq(stat(private, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	fd = connect_to(set.listeners[0].name);
	ck_assert(fd >= 0);
	close(fd);
	listener_close(&set);
	ck_assert_int_eq(stat(private, &st), -1);
	leave();
}
END_TEST

START_TEST(tcp_sockets)
{
	struct err err = { 0 };
	uint16_t port;

	enter();
	listens[0] = (struct config_listen){ .host = "127.0.0.1" };
	ck_assert_msg(listener_open(&set, &config, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(set.count, 1);
	port = set.listeners[0].port;
	ck_assert(port != 0 && set.listeners[0].is_tcp);
	ck_assert_str_eq(strrchr(set.listeners[0].name, ':') - 9, set.listeners[0].name);
	ck_assert_int_eq(atoi(strrchr(set.listeners[0].name, ':') + 1), port);

	/* The same port again is taken; the text says which. */
	{
		struct listener_set second = { 0 };

		config.port = port;
		ck_assert_int_eq(listener_open(&second, &config, &err), -EADDRINUSE);
		ck_assert_ptr_nonnull(strstr(err.text, set.listeners[0].name));
		ck_assert_uint_eq(second.count, 0);
	}
	listener_close(&set);

	/* Without a host: both loopback addresses, on one port. */
	config.port = 0;
	listens[0].host = NULL;
	ck_assert_msg(listener_open(&set, &config, &err) == 0, "%s", err.text);
	ck_assert_uint_ge(set.count, 1);
	for (unsigned i = 1; i < set.count; i++)
		ck_assert_uint_eq(set.listeners[i].port, set.listeners[0].port);
	listener_close(&set);

	listens[0].host = "no.such.host.invalid";
	ck_assert_int_eq(listener_open(&set, &config, &err), -EADDRNOTAVAIL);
	ck_assert_ptr_nonnull(strstr(err.text, "no.such.host.invalid"));
	leave();
}
END_TEST

/* --- Accepting -------------------------------------------------------------- */

static struct unit_loop u;
static struct listener_client client;
static struct co_sem places;
static unsigned taken;
static bool stopping;

static void
admit(struct listener_client *c)
{
	co_assert();
	if (!stopping)
		co_sem_down(&places, loop_sched(u.loop));
}

static void
accepted(struct listener_client *c, int fd)
{
	char text[96];

	listener_peer(fd, text, sizeof(text));
	ck_assert_msg(strncmp(text, "unix:pid=", 9) == 0, "%s", text);
	taken++;
	close(fd);
}

static void
stop_main(void *arg)
{
	co_assert();
	listener_co_stop(&set);
	*(bool *)arg = true;
}

START_TEST(accepting)
{
	bool stopped = false;
	struct err err;
	int fds[3];

	loop_assert();
	enter();
	unit_loop_open(&u);
	client = (struct listener_client){ .admit = admit, .accepted = accepted };
	taken = 0;
	co_sem_init(&places, 2);
	ck_assert_int_eq(listener_open(&set, &config, &err), 0);
	ck_assert_int_eq(listener_start(&set, u.loop, &client), 0);
	for (int i = 0; i < 3; i++) {
		fds[i] = connect_to(path);
		ck_assert(fds[i] >= 0);
	}
	unit_loop_turns(&u, 20);
	ck_assert_uint_eq(taken, 2); /* the third waits for a place */
	co_sem_up(&places);
	unit_loop_turns(&u, 20);
	ck_assert_uint_eq(taken, 3);

	stopping = true;
	co_sem_up(&places);
	unit_loop_turns(&u, 20);
	unit_loop_spawn(&u, NULL, stop_main, &stopped);
	unit_loop_until(&u, &stopped);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	leave();
	unit_loop_close(&u);
}
END_TEST

START_TEST(peers)
{
	char text[96];
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	listener_peer(fds[0], text, sizeof(text));
	ck_assert_str_eq(text, "stdio");
	close(fds[0]);
	close(fds[1]);
}
END_TEST

UNIT_MAIN_IF(unit_loop_possible(), uris, every_byte_of_a_uri, unix_sockets, what_is_there_already,
	     what_it_is_not_known, paths_that_cannot_be, a_private_socket, tcp_sockets, accepting,
	     peers)
