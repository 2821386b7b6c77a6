/* SPDX-License-Identifier: MIT */
/* unit_fakeblkio.c - a driver library that does what the test says. */
#include "unit_fakeblkio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/range.h"
#include "blkio.h"

struct fake fake;

struct blkio {
	bool connected, started;
};

struct blkioq {
	int fd;
	bool enabled;
	unsigned index;
};

static struct blkio device;
static struct blkioq queues[16];
static unsigned nqueues;
static char message[256];

static _Noreturn void
broken(const char *what)
{
	fprintf(stderr, "fake: %s\n%s\n", what, fake_text());
	abort();
}

void
fake_reset(void)
{
	for (unsigned i = 0; i < nqueues; i++)
		close(queues[i].fd);
	nqueues = 0;
	memset(&fake, 0, sizeof(fake));
	fake.capacity = FAKE_STORE_BYTES;
	fake.request_alignment = 1;
	fake.max_segments = 1024;
	fake.buf_alignment = fake.optimal_buf_alignment = 1;
	fake.flush_needed = true;
}

/* --- Handles ---------------------------------------------------------------- */

static int
refuse(int error, const char *text)
{
	snprintf(message, sizeof(message), "%s", text);
	return -error;
}

const char *
blkio_get_error_msg(void)
{
	return message;
}

int
blkio_create(const char *driver, struct blkio **bp)
{
	if (strcmp(driver, "fake") != 0)
		return refuse(ENOENT, "no such driver");
	device = (struct blkio){ 0 };
	*bp = &device;
	return 0;
}

int
blkio_connect(struct blkio *b)
{
	if (fake.connect_ret)
		return refuse(-fake.connect_ret, "the device is not there");
	b->connected = true;
	return 0;
}

static void
queue_make(void)
{
	if (nqueues == sizeof(queues) / sizeof(queues[0]))
		broken("too many queues");
	queues[nqueues] = (struct blkioq){
		.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.index = nqueues,
	};
	nqueues++;
}

int
blkio_start(struct blkio *b)
{
	if (fake.start_ret)
		return refuse(-fake.start_ret, "the device does not start");
	b->started = true;
	for (unsigned i = 0; i < fake.queues; i++)
		queue_make();
	return 0;
}

void
blkio_destroy(struct blkio **bp)
{
	if (fake_open() > 0)
		broken("destroyed with requests in flight");
	*bp = NULL;
}

/* --- Properties ------------------------------------------------------------- */

static int
missing(const char *name)
{
	return refuse(ENOENT, name);
}

static bool
is(const char *name, const char *known)
{
	return strcmp(name, known) == 0 && !(fake.missing && strcmp(fake.missing, known) == 0);
}

int
blkio_get_bool(struct blkio *b, const char *name, bool *value)
{
	if (is(name, "flush-needed"))
		*value = fake.flush_needed;
	else if (is(name, "supports-fua-natively"))
		*value = fake.fua_native;
	else if (is(name, "read-only"))
		*value = fake.read_only;
	else if (is(name, "direct"))
		*value = fake.direct;
	else
		return missing(name);
	return 0;
}

int
blkio_get_int(struct blkio *b, const char *name, int *value)
{
	if (is(name, "request-alignment"))
		*value = fake.request_alignment;
	else if (is(name, "optimal-io-size"))
		*value = fake.optimal_io_size;
	else if (is(name, "max-transfer"))
		*value = fake.max_transfer;
	else if (is(name, "max-segments"))
		*value = fake.max_segments;
	else if (is(name, "buf-alignment"))
		*value = fake.buf_alignment;
	else if (is(name, "optimal-buf-alignment"))
		*value = fake.optimal_buf_alignment;
	else if (is(name, "discard-alignment"))
		*value = fake.discard_alignment;
	else
		return missing(name);
	return 0;
}

int
blkio_get_uint64(struct blkio *b, const char *name, uint64_t *value)
{
	if (is(name, "capacity"))
		*value = fake.capacity;
	else if (is(name, "max-discard-len"))
		*value = fake.max_discard;
	else if (is(name, "max-write-zeroes-len"))
		*value = fake.max_write_zeroes;
	else
		return missing(name);
	return 0;
}

static int
note_set(struct blkio *b, const char *name, const char *value)
{
	size_t n = strlen(fake.props);

	if (!b->connected && (strcmp(name, "late") == 0 || strcmp(name, "num-entries") == 0))
		return refuse(ENODEV, "too early");
	if (strcmp(name, "unknown") == 0 || (fake.missing && strcmp(name, fake.missing) == 0))
		return missing(name);
	if (strcmp(name, "read-only") == 0)
		fake.read_only = strcmp(value, "true") == 0;
	if (strcmp(name, "direct") == 0)
		fake.direct = strcmp(value, "true") == 0;
	snprintf(fake.props + n, sizeof(fake.props) - n, "%s%s=%s ", b->connected ? "+" : "", name,
		 value);
	return 0;
}

int
blkio_set_bool(struct blkio *b, const char *name, bool value)
{
	if (strncmp(name, "x-", 2) == 0)
		return missing(name); /* as a foreign library does */
	return note_set(b, name, value ? "true" : "false");
}

int
blkio_set_int(struct blkio *b, const char *name, int value)
{
	char text[16];

	if (strcmp(name, "num-queues") == 0)
		fake.queues = (unsigned)value;
	snprintf(text, sizeof(text), "%d", value);
	return note_set(b, name, text);
}

int
blkio_set_str(struct blkio *b, const char *name, const char *value)
{
	return note_set(b, name, value);
}

/* --- Regions and queues ----------------------------------------------------- */

int
blkio_map_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	fake.maps++;
	return 0;
}

void
blkio_unmap_mem_region(struct blkio *b, const struct blkio_mem_region *region)
{
	fake.unmaps++;
}

struct blkioq *
blkio_get_queue(struct blkio *b, int index)
{
	return index >= 0 && (unsigned)index < nqueues ? &queues[index] : NULL;
}

int
blkio_add_queue(struct blkio *b)
{
	if (fake.add_queue_ret)
		return refuse(-fake.add_queue_ret, "no more queues");
	queue_make();
	return (int)nqueues - 1;
}

int
blkioq_get_completion_fd(struct blkioq *q)
{
	return q->fd;
}

static bool
to_fetch(void)
{
	for (unsigned i = 0; i < fake.ncalls; i++)
		if (fake.calls[i].finished && !fake.calls[i].fetched)
			return true;
	return false;
}

static void
announce(struct blkioq *q)
{
	uint64_t one = 1;

	if (q->enabled && to_fetch() && write(q->fd, &one, sizeof(one)) != sizeof(one))
		broken("eventfd");
}

void
blkioq_set_completion_fd_enabled(struct blkioq *q, bool enable)
{
	q->enabled = enable;
	announce(q);
}

/* --- Requests --------------------------------------------------------------- */

unsigned
fake_open(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < fake.ncalls; i++)
		n += !fake.calls[i].finished;
	return n;
}

static struct fake_call *
call_new(enum fake_op op, uint64_t off, uint64_t len, uint32_t flags, void *user_data)
{
	struct fake_call *call = &fake.calls[fake.ncalls];

	if (fake.ncalls == FAKE_CALLS_MAX)
		broken("too many requests");
	*call = (struct fake_call){
		.op = op,
		.off = off,
		.len = len,
		.flags = flags,
		.user_data = user_data,
	};
	fake.ncalls++;
	fake.open_max = fake_open() > fake.open_max ? fake_open() : fake.open_max;
	if (op == FAKE_FLUSH)
		return call;
	if (!range_ok(off, len, fake.capacity))
		broken("beyond the end");
	if (len == 0)
		broken("an empty request");
	if ((off | len) % (uint64_t)fake.request_alignment)
		broken("not aligned");
	return call;
}

static void
transfer(enum fake_op op, uint64_t off, const struct iovec *iov, int iovcnt, void *user_data,
	 uint32_t flags)
{
	struct fake_call *call;
	uint64_t len = 0;

	if (iovcnt < 1 || iovcnt > FAKE_SEGMENTS_MAX)
		broken("segments");
	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	call = call_new(op, off, len, flags, user_data);
	call->given = iov;
	call->iovcnt = iovcnt;
	memcpy(call->iov, iov, (size_t)iovcnt * sizeof(*iov));
	if (fake.max_transfer && len > (uint64_t)fake.max_transfer)
		broken("longer than max-transfer");
	if (iovcnt > fake.max_segments)
		broken("more segments than max-segments");
}

void
blkioq_readv(struct blkioq *q, uint64_t start, const struct iovec *iovec, int iovcnt,
	     void *user_data, uint32_t flags)
{
	transfer(FAKE_READ, start, iovec, iovcnt, user_data, flags);
}

void
blkioq_writev(struct blkioq *q, uint64_t start, struct iovec *iovec, int iovcnt, void *user_data,
	      uint32_t flags)
{
	transfer(FAKE_WRITE, start, iovec, iovcnt, user_data, flags);
}

void
blkioq_write_zeroes(struct blkioq *q, uint64_t start, uint64_t len, void *user_data,
		    uint32_t flags)
{
	if (fake.max_write_zeroes && len > fake.max_write_zeroes)
		broken("longer than max-write-zeroes-len");
	call_new(FAKE_ZEROES, start, len, flags, user_data);
}

void
blkioq_discard(struct blkioq *q, uint64_t start, uint64_t len, void *user_data, uint32_t flags)
{
	if (fake.max_discard && len > fake.max_discard)
		broken("longer than max-discard-len");
	call_new(FAKE_DISCARD, start, len, flags, user_data);
}

void
blkioq_flush(struct blkioq *q, void *user_data, uint32_t flags)
{
	call_new(FAKE_FLUSH, 0, 0, flags, user_data);
}

static void
execute(const struct fake_call *call)
{
	uint64_t at = call->off;

	if (call->op == FAKE_ZEROES && at + call->len <= FAKE_STORE_BYTES)
		memset(fake.store + at, 0, call->len);
	for (int i = 0; i < call->iovcnt; at += call->iov[i++].iov_len) {
		if (at + call->iov[i].iov_len > FAKE_STORE_BYTES)
			continue;
		if (call->op == FAKE_WRITE)
			memcpy(fake.store + at, call->iov[i].iov_base, call->iov[i].iov_len);
		else
			memcpy(call->iov[i].iov_base, fake.store + at, call->iov[i].iov_len);
	}
}

/* What the device says by itself: it discards whole units only. */
static int
own_result(const struct fake_call *call)
{
	if (call->op == FAKE_DISCARD && fake.discard_alignment &&
	    (call->off | call->len) % (uint64_t)fake.discard_alignment)
		return -EINVAL;
	return 0;
}

void
fake_finish(unsigned index, int ret)
{
	struct fake_call *call = &fake.calls[index];

	if (index >= fake.ncalls || call->finished)
		broken("there is no such request to finish");
	if (!call->started)
		broken("it was never submitted");
	if (call->iovcnt &&
	    memcmp(call->given, call->iov, (size_t)call->iovcnt * sizeof(call->iov[0])) != 0)
		broken("an iovec changed under way");
	call->finished = true;
	call->ret = ret;
	if (ret == 0)
		execute(call);
	for (unsigned i = 0; i < nqueues; i++)
		announce(&queues[i]);
}

int
blkioq_do_io(struct blkioq *q, struct blkio_completion *completions, int min_completions,
	     int max_completions, struct timespec *timeout)
{
	int n = 0;

	fake.do_io_calls++;
	if (fake.do_io_shorts > 0) {
		fake.do_io_shorts--;
		return 0;
	}
	if (fake.do_io_ret && fake.do_io_fails > 0) {
		fake.do_io_fails--;
		return refuse(-fake.do_io_ret, "not now");
	}
	for (unsigned i = 0; i < fake.ncalls; i++) {
		struct fake_call *call = &fake.calls[i];

		call->started = true;
		if (!call->finished && !fake.hold)
			fake_finish(i, fake.result ? fake.result(call) : own_result(call));
	}
	for (unsigned i = 0; i < fake.ncalls && n < max_completions; i++) {
		struct fake_call *call = &fake.calls[i];

		if (!call->finished || call->fetched)
			continue;
		call->fetched = true;
		completions[n++] = (struct blkio_completion){
			.user_data = call->user_data,
			.ret = call->ret,
		};
	}
	return n;
}

const char *
fake_text(void)
{
	static const char *const names[] = { "read", "write", "zeroes", "discard", "flush" };
	static char text[64 * FAKE_CALLS_MAX];
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < fake.ncalls; i++) {
		const struct fake_call *c = &fake.calls[i];

		n += (size_t)sprintf(text + n, "%s", names[c->op]);
		if (c->op != FAKE_FLUSH)
			n += (size_t)sprintf(text + n, " %llu+%llu", (unsigned long long)c->off,
					     (unsigned long long)c->len);
		if (c->flags & BLKIO_REQ_FUA)
			n += (size_t)sprintf(text + n, " fua");
		if (c->flags & BLKIO_REQ_NO_UNMAP)
			n += (size_t)sprintf(text + n, " no-unmap");
		if (c->flags & BLKIO_REQ_NO_FALLBACK)
			n += (size_t)sprintf(text + n, " no-fallback");
		n += (size_t)sprintf(text + n, ", ");
	}
	return text;
}
