/* SPDX-License-Identifier: MIT */
/*
 * session.c - a conversation with an NBD server; see session.h.
 *
 * The path of a question: ask_begin() writes down what is asked and starts the
 * clock; one call of libnbd sends it and waits for the whole answer; ask_end()
 * stops the clock and sorts the result into yes, no, and gone. Where the library
 * does not return, too_late() is the end.
 *
 * The library's own errors are its sentences for what the protocol has numbers
 * for. The server's words about a refusal are better; older versions of the
 * library have them in their debugging messages alone, so these are listened to.
 * Where they are worded differently, the sentence remains.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/client/text.h"

#ifdef LIBNBD_HAVE_NBD_CAN_BLOCK_STATUS_PAYLOAD
#define CAN_BLOCK_STATUS_PAYLOAD nbd_can_block_status_payload
#else
#define CAN_BLOCK_STATUS_PAYLOAD NULL
#endif

const struct session_flag session_flags[SESSION_FLAGS] = {
	[SESSION_READ_ONLY] = { "READ_ONLY", "every change is refused", nbd_is_read_only },
	{ "SEND_FLUSH", "FLUSH makes durable what has been written", nbd_can_flush },
	{ "SEND_FUA", "a request can ask to be durable when it is answered", nbd_can_fua },
	{ "ROTATIONAL", "the disk rotates: requests in order are quicker", nbd_is_rotational },
	{ "SEND_TRIM", "TRIM says what is no longer needed", nbd_can_trim },
	{ "SEND_WRITE_ZEROES", "zeroes can be written without sending them", nbd_can_zero },
	{ "SEND_DF", "a READ can ask for its data in one piece", nbd_can_df },
	{ "CAN_MULTI_CONN", "a FLUSH covers writes of other connections too", nbd_can_multi_conn },
	{ "SEND_CACHE", "CACHE asks to read ahead", nbd_can_cache },
	{ "SEND_FAST_ZERO", "WRITE_ZEROES can ask to fail rather than be slow", nbd_can_fast_zero },
	{ "BLOCK_STATUS_PAYLOAD", "BLOCK_STATUS can choose among the contexts",
	  CAN_BLOCK_STATUS_PAYLOAD },
};

/* --- The line on stderr --------------------------------------------------------- */

/* "blkgate: URI: QUESTION: WHY\n", to be freed. */
static char *
complaint(const struct session *s, const char *why, size_t *len)
{
	char *line = NULL;
	FILE *out = open_memstream(&line, len);

	if (!out)
		text_no_memory();
	fputs("blkgate: ", out);
	text_plain(out, s->uri);
	if (s->question)
		fprintf(out, ": %s", s->question);
	if (s->question && s->name) {
		fputc(' ', out);
		text_quote(out, s->name);
	}
	fputs(": ", out);
	text_plain(out, why);
	fputc('\n', out);
	if (fclose(out) != 0)
		text_no_memory();
	return line;
}

void
session_complain(const struct session *s, const char *why)
{
	size_t len;
	char *line = complaint(s, why, &len);

	fputs(line, stderr);
	free(line);
}

/* --- Questions -------------------------------------------------------------------- */

/* What the signal handler writes; not touched while the clock runs. */
static char *late_line;
static size_t late_len;

static void
too_late(int sig)
{
	ssize_t n = write(STDERR_FILENO, late_line, late_len);

	(void)n;
	_exit(1);
}

static void
clock_start(const struct session *s)
{
	char *why = text_format("no answer within %u s", s->timeout_s);
	sigset_t set;

	free(late_line);
	late_line = complaint(s, why, &late_len);
	free(why);
	/* Whoever started us may have blocked or ignored it. */
	signal(SIGALRM, too_late);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	alarm(s->timeout_s);
}

static void
clock_stop(void)
{
	alarm(0);
}

/* NAME is that of an export, or NULL. */
static void
ask_begin(struct session *s, const char *question, const char *name)
{
	free(s->name);
	free(s->why);
	free(s->words);
	s->question = question;
	s->name = name ? text_format("%s", name) : NULL;
	s->why = s->words = NULL;
	clock_start(s);
}

/* The library's last error without the name of the function it was in. */
static char *
library_error(void)
{
	const char *text = nbd_get_error();
	const char *colon = text && strncmp(text, "nbd_", 4) == 0 ? strstr(text, ": ") : NULL;

	if (!text)
		text = "an answer that libnbd does not accept";
	return text_format("%s", colon ? colon + 2 : text);
}

static void
why_set(struct session *s, char *why)
{
	free(s->why);
	s->why = why;
}

static bool
negotiating(const struct session *s)
{
	return nbd_aio_is_negotiating(s->nbd) > 0;
}

/* The library does not tell which error it was; every server names TLS in its words. */
static bool
wants_tls(const struct session *s)
{
	return nbd_get_tls_negotiated(s->nbd) == 0 && strstr(s->why, "TLS");
}

/* RET is that of the library's function. */
static enum session_answer
ask_end(struct session *s, int ret)
{
	clock_stop();
	if (ret >= 0)
		return SESSION_YES;
	s->code = nbd_get_errno();
	s->why = library_error();
	if (!negotiating(s)) {
		/* The library's sentence depends on when it notices. */
		if (s->code == ENOTCONN)
			why_set(s, text_format("recv: server disconnected unexpectedly"));
		session_close(s);
		return SESSION_LOST;
	}
	if (s->words)
		why_set(s, text_format("the server says: %s", s->words));
	if (wants_tls(s)) {
		bool is_unix = strncmp(s->uri, "nbd+unix:", strlen("nbd+unix:")) == 0;

		why_set(s, text_format("%s (use nbds%s:// for TLS)", s->why,
				       is_unix ? "+unix" : ""));
	}
	return SESSION_REFUSED;
}

/* --- Open and close ----------------------------------------------------------------- */

static int
debug_message(void *arg, const char *context, const char *message)
{
	static const char words[] = "handshake: server error message: ";
	struct session *s = arg;

	if (strncmp(message, words, strlen(words)) == 0) {
		free(s->words);
		s->words = text_format("%s", message + strlen(words));
	}
	return 0;
}

/* Whether the library now does as we need it. */
static bool
prepare(struct session *s)
{
	const nbd_debug_callback debug = { .callback = debug_message, .user_data = s };

	/* Who sets LIBNBD_DEBUG wants to see the messages himself. */
	if (nbd_get_debug(s->nbd) == 0 &&
	    (nbd_set_debug_callback(s->nbd, debug) < 0 || nbd_set_debug(s->nbd, true) < 0))
		return false;
	return nbd_set_opt_mode(s->nbd, true) == 0 && nbd_set_full_info(s->nbd, true) == 0 &&
	       nbd_set_uri_allow_local_file(s->nbd, true) == 0;
}

/* Where the library only tells where it failed: what that is likely to mean. */
static const char *
tls_hint(const char *why)
{
	static const struct {
		const char *begins, *contains, *hint;
	} hints[] = {
		/* With TLS 1.3 a client has all it needs before the server has judged it. */
		{ "gnutls_record_", "",
		  "the server ended TLS at once, so it may want another certificate" },
		{ "gnutls_handshake: ", "verification",
		  "the server's certificate is not for this host, not of a CA in ca-cert.pem, or "
		  "not valid now" },
		{ "gnutls_handshake: ", "",
		  "no handshake; the server may want another certificate or another key" },
		{ "getlogin_r: ", "", "tls-psk-file= goes with a user, as in nbds://USER@HOST" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hints); i++)
		if (strncmp(why, hints[i].begins, strlen(hints[i].begins)) == 0 &&
		    strstr(why, hints[i].contains))
			return hints[i].hint;
	return NULL;
}

/* Why there is no session, after the library has failed to connect. */
static char *
open_error(const struct session *s)
{
	char *why = library_error(), *more = NULL;
	const char *hint = tls_hint(why);

	/* It has taken leave by itself, because it was refused what it cannot do without. */
	if (s->words && nbd_aio_is_closed(s->nbd) > 0)
		more = text_format("the server says: %s", s->words);
	else if (hint)
		more = text_format("%s (%s)", hint, why);
	if (!more)
		return why;
	free(why);
	return more;
}

/*
 * The library takes a directory that is not there for an empty one, and then goes
 * without certificates, its own and the CA's.
 */
static bool
certificates_are_there(struct session *s)
{
	bool is_tls = strncmp(s->uri, "nbds", strlen("nbds")) == 0;
	char *dir = is_tls ? text_uri_value(s->uri, "tls-certificates") : NULL;
	int fd;

	if (!dir)
		return true;
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		why_set(s, text_format("tls-certificates=%s: %s", dir, strerror(errno)));
	else
		close(fd);
	free(dir);
	return fd >= 0;
}

enum session_answer
session_open(struct session *s)
{
	bool bad_uri;
	int ret;

	ask_begin(s, NULL, NULL);
	if (!certificates_are_there(s)) {
		clock_stop();
		return SESSION_LOST;
	}
	s->nbd = nbd_create();
	if (!s->nbd)
		text_no_memory();
	ret = prepare(s) ? nbd_connect_uri(s->nbd, s->uri) : -1;
	clock_stop();
	if (ret == 0)
		return SESSION_YES;
	s->code = nbd_get_errno();
	s->why = open_error(s);
	/* After a failed connect it is as good as new, too, but that is not invalid. */
	bad_uri = s->code == EINVAL && nbd_aio_is_created(s->nbd) > 0;
	session_close(s);
	return bad_uri ? SESSION_BAD_URI : SESSION_LOST;
}

void
session_close(struct session *s)
{
	if (!s->nbd)
		return;
	if (negotiating(s))
		nbd_aio_opt_abort(s->nbd);
	else if (nbd_aio_is_ready(s->nbd) > 0)
		nbd_aio_disconnect(s->nbd, 0);
	nbd_close(s->nbd);
	s->nbd = NULL;
}

void
session_release(struct session *s)
{
	session_close(s);
	free(s->name);
	free(s->why);
	free(s->words);
	free(late_line);
	late_line = NULL;
}

bool
session_can_ask(const struct session *s)
{
	return s->nbd && negotiating(s);
}

void
session_protocol(const struct session *s, struct session_protocol *p)
{
	const char *name = nbd_get_protocol(s->nbd);

	p->name = name ? name : "unknown";
	p->tls = nbd_get_tls_negotiated(s->nbd) > 0;
	p->structured_replies = nbd_get_structured_replies_negotiated(s->nbd) > 0;
#ifdef LIBNBD_HAVE_NBD_GET_EXTENDED_HEADERS_NEGOTIATED
	p->extended_headers = nbd_get_extended_headers_negotiated(s->nbd);
#else
	p->extended_headers = -1;
#endif
}

/* --- Answers ------------------------------------------------------------------------ */

enum session_answer
session_list(struct session *s, int (*fn)(void *arg, const char *name, const char *description),
	     void *arg)
{
	const nbd_list_callback listed = { .callback = fn, .user_data = arg };

	ask_begin(s, "listing the exports", NULL);
	return ask_end(s, nbd_opt_list(s->nbd, listed));
}

static void
facts_read(const struct session *s, struct session_facts *facts)
{
	int64_t size = nbd_get_size(s->nbd);

	*facts = (struct session_facts){
		.name = nbd_get_export_name(s->nbd),
		.canonical_name = nbd_get_canonical_export_name(s->nbd),
		.description = nbd_get_export_description(s->nbd),
		.size_bytes = MAX(size, (int64_t)-1),
		.block_min = nbd_get_block_size(s->nbd, LIBNBD_SIZE_MINIMUM),
		.block_preferred = nbd_get_block_size(s->nbd, LIBNBD_SIZE_PREFERRED),
		.block_max = nbd_get_block_size(s->nbd, LIBNBD_SIZE_MAXIMUM),
	};
	for (unsigned i = 0; i < SESSION_FLAGS; i++)
		facts->flags[i] =
			session_flags[i].get ? (signed char)session_flags[i].get(s->nbd) : -1;
}

/* The questions about the export that is set. */
static enum session_answer
info_ask(struct session *s)
{
	char *name = nbd_get_export_name(s->nbd);
	enum session_answer answer;

	ask_begin(s, "asking for export", name);
	answer = ask_end(s, nbd_opt_info(s->nbd));
	if (answer == SESSION_REFUSED && s->code == ENOTSUP) {
		ask_begin(s, "entering export", name);
		answer = ask_end(s, nbd_opt_go(s->nbd));
	}
	free(name);
	return answer;
}

enum session_answer
session_info(struct session *s, const char *name, struct session_facts *facts)
{
	enum session_answer answer = SESSION_YES;

	/* An oldstyle server has told all it ever will. */
	if (negotiating(s)) {
		if (name && nbd_set_export_name(s->nbd, name) < 0)
			text_no_memory();
		answer = info_ask(s);
	}
	if (answer == SESSION_YES)
		facts_read(s, facts);
	return answer;
}

void
session_facts_release(struct session_facts *facts)
{
	free(facts->name);
	free(facts->canonical_name);
	free(facts->description);
}

size_t
session_facts_bytes(const struct session_facts *facts)
{
	const char *const texts[] = { facts->name, facts->canonical_name, facts->description };
	size_t bytes = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++)
		bytes += texts[i] ? strlen(texts[i]) + 1 : 0;
	return bytes;
}

enum session_answer
session_contexts(struct session *s, int (*fn)(void *arg, const char *name), void *arg)
{
	const nbd_context_callback listed = { .callback = fn, .user_data = arg };

	ask_begin(s, "listing the metadata contexts", NULL);
	return ask_end(s, nbd_opt_list_meta_context(s->nbd, listed));
}
