/* SPDX-License-Identifier: MIT */
/*
 * simdev_live.c - simulated devices in a server: each handle is one, and is gone
 * with it; see simdev.h.
 *
 * Each has a thread, live_main(), that makes one step after the other for as long
 * as there are any, and announces what has ended through the completion fds. So
 * the order is the seed's, and how far it has come at a time is the machine's.
 *
 * With "control" it connects to a socket that a test listens on. It tells, line
 * by line and before anybody else can know,
 *
 *	EVENT ID OP OFF LEN FLAGS RET
 *
 * where EVENT is "comes", "holds" or "ends", and takes commands, each of which it
 * answers with "ok" or "error TEXT" when it is done:
 *
 *	fault TEXT	see sim_fault_add()
 *	release		what is held goes on; nothing more is held
 *	clear		the same, and nothing fails any more
 *	cut		the power goes: what is in flight fails, and what is not stable
 *			may be lost; everything fails until
 *	on		it is back
 *	sync		nothing: what was told before has been told
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/range.h"
#include "simdev_core.h"

/* Blocks of the contents have no use for less. */
#define BLOCK_MIN 512

struct live {
	struct blkio b; /* first */
	pthread_t thread;
	bool runs;
	bool stops; /* atomic */
	int wake;    /* eventfd */
	int control; /* -1: none */
	size_t command_len;
	char command[512];
};

static struct live *
live_of(struct blkio *b)
{
	return container_of(b, struct live, b);
}

/* --- Control ------------------------------------------------------------------ */

static void
say(struct live *l, const char *text)
{
	size_t len = strlen(text);

	/* Nobody listens any more: that is the end of a test, and no failure of ours. */
	while (l->control >= 0 && len > 0) {
		ssize_t n = send(l->control, text, len, MSG_NOSIGNAL);

		if (n < 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void
tell(struct blkio *b, enum sim_event event, const struct sim_request *r)
{
	static const char *const names[] = {
		[SIM_COMES] = "comes",
		[SIM_HOLDS] = "holds",
		[SIM_ENDS] = "ends",
	};
	char line[160];

	snprintf(line, sizeof(line), "%s %llu %s %llu %llu %u %d\n", names[event],
		 (unsigned long long)r->id, sim_op_names[r->op], (unsigned long long)r->off,
		 (unsigned long long)r->len, r->flags, r->ret);
	say(live_of(b), line);
}

static int
do_release(struct blkio *b, const char *args)
{
	for (unsigned n = 0; n < SIM_FAULTS_MAX; n++)
		if (b->c.faults[n].hold)
			b->c.faults[n] = (struct sim_fault){ 0 };
	sim_let_go(b);
	return 0;
}

static int
do_clear(struct blkio *b, const char *args)
{
	memset(b->c.faults, 0, sizeof(b->c.faults));
	sim_let_go(b);
	return 0;
}

static int
do_cut(struct blkio *b, const char *args)
{
	sim_cut(b);
	return 0;
}

static int
do_on(struct blkio *b, const char *args)
{
	b->dead = false;
	return 0;
}

static int
do_sync(struct blkio *b, const char *args)
{
	return 0;
}

static void
command_run(struct live *l, char *args)
{
	static const struct {
		const char *name;
		int (*run)(struct blkio *b, const char *args);
	} commands[] = {
		{ "fault", sim_fault_add }, { "release", do_release }, { "clear", do_clear },
		{ "cut", do_cut },	    { "on", do_on },	       { "sync", do_sync },
	};
	const char *name = strsep(&args, " ");
	char answer[300] = "ok\n";
	size_t i = 0;

	while (i < ARRAY_SIZE(commands) && strcmp(commands[i].name, name) != 0)
		i++;
	if (i == ARRAY_SIZE(commands))
		snprintf(answer, sizeof(answer), "error no command %s\n", name);
	else if (commands[i].run(&l->b, args ? args : "") < 0)
		snprintf(answer, sizeof(answer), "error %s\n", blkio_get_error_msg());
	say(l, answer);
}

/* Takes what has come, and runs every whole line of it. */
static void
control_read(struct live *l)
{
	ssize_t n = recv(l->control, l->command + l->command_len,
			 sizeof(l->command) - l->command_len, 0);
	char *line = l->command, *end;

	if (n <= 0) {
		close(l->control);
		l->control = -1;
		return;
	}
	l->command_len += (size_t)n;
	while ((end = memchr(line, '\n', l->command_len - (size_t)(line - l->command)))) {
		*end = '\0';
		command_run(l, line);
		line = end + 1;
	}
	l->command_len -= (size_t)(line - l->command);
	memmove(l->command, line, l->command_len);
	if (l->command_len == sizeof(l->command))
		sim_broken(&l->b, "a command that is too long");
}

static int
control_open(struct live *l)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (!l->b.control[0])
		return 0;
	_Static_assert(sizeof(l->b.control) <= sizeof(to.sun_path), "it fits");
	strcpy(to.sun_path, l->b.control);
	l->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->control < 0 || connect(l->control, (struct sockaddr *)&to, sizeof(to)) < 0)
		return sim_refuse(errno, "control=%s: %s", l->b.control, strerror(errno));
	return 0;
}

/* --- Time --------------------------------------------------------------------- */

static void
busy(struct blkio *b)
{
	if (eventfd_write(live_of(b)->wake, 1) < 0)
		sim_broken(b, "eventfd");
}

static void *
live_main(void *arg)
{
	struct live *l = arg;
	bool more = false;

	while (!__atomic_load_n(&l->stops, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[] = {
			{ .fd = l->wake, .events = POLLIN },
			{ .fd = l->control, .events = POLLIN },
		};
		eventfd_t count;

		if (poll(fds, ARRAY_SIZE(fds), more ? 0 : -1) < 0)
			sim_broken(&l->b, "poll");
		if (fds[0].revents)
			(void)eventfd_read(l->wake, &count);
		pthread_mutex_lock(&l->b.lock);
		if (fds[1].revents)
			control_read(l);
		more = sim_step_one(&l->b);
		pthread_mutex_unlock(&l->b.lock);
	}
	return NULL;
}

/* Signals are for the server's own threads. */
static int
thread_start(struct live *l)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&l->thread, NULL, live_main, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return sim_refuse(error, "thread: %s", strerror(error));
	l->runs = true;
	return 0;
}

static void
thread_stop(struct live *l)
{
	if (!l->runs)
		return;
	__atomic_store_n(&l->stops, true, __ATOMIC_RELEASE);
	busy(&l->b);
	pthread_join(l->thread, NULL);
}

/* --- Handles ------------------------------------------------------------------ */

int
blkio_create(const char *driver, struct blkio **bp)
{
	struct live *l;

	if (strcmp(driver, "sim") != 0)
		return sim_refuse(ENOENT, "Unknown driver name");
	l = calloc(1, sizeof(*l));
	if (!l)
		return sim_refuse(ENOMEM, "Out of memory");
	pthread_mutex_init(&l->b.lock, NULL);
	l->b.open = true;
	l->b.num_queues = 1;
	l->b.c.flush_needed = true;
	l->b.tell = tell;
	l->b.busy = busy;
	l->control = -1;
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	*bp = &l->b;
	return 0;
}

int
blkio_connect(struct blkio *b)
{
	struct live *l = live_of(b);
	struct sim_config config = b->c;
	int ret = control_open(l);

	if (ret < 0)
		return ret;
	config.block = (unsigned)MAX(config.request_alignment, BLOCK_MIN);
	sim_init(b, &config);
	return thread_start(l);
}

void
blkio_destroy(struct blkio **bp)
{
	struct live *l = live_of(*bp);

	thread_stop(l);
	sim_close(&l->b);
	sim_release(&l->b);
	if (l->control >= 0)
		close(l->control);
	close(l->wake);
	pthread_mutex_destroy(&l->b.lock);
	free(l);
	*bp = NULL;
}
