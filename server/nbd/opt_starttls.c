/* SPDX-License-Identifier: MIT */
/*
 * opt_starttls.c - STARTTLS: everything after its ACK is encrypted.
 *
 * What was agreed on before counts no more: somebody else may have said it. Bytes
 * that came in the same receive as the option would have to be TLS; they came too
 * early, before the ACK, so they end the connection rather than be looked at.
 * Source: NBD protocol, NBD_OPT_STARTTLS, "TLS support".
 */
#include <errno.h>

#include "chan_tls.h"
#include "handshake.h"
#include "server/log.h"

static int
too_early(struct handshake *h)
{
	conn_log_handshake(h->conn, "bytes in clear behind STARTTLS");
	h->conn->end_logged = true;
	return -EPROTO;
}

static int
failed(struct handshake *h, int ret)
{
	struct chan *chan = &h->conn->chan;

	if (ret != -EPROTO || !chan->tls)
		return ret;
	conn_log_handshake(h->conn, "TLS handshake failed reason=\"%s\"",
			   chan_tls_text(chan->tls));
	h->conn->end_logged = true;
	return ret;
}

int
opt_co_starttls(struct handshake *h)
{
	struct conn *conn = h->conn;
	int ret = chan_co_skip(&conn->chan, h->opt.len);

	if (ret < 0)
		return ret;
	if (h->opt.len > 0)
		return handshake_co_error(h, NBD_REP_ERR_INVALID, "STARTTLS takes no data");
	if (conn->chan.tls)
		return handshake_co_error(h, NBD_REP_ERR_INVALID, "this is TLS already");
	if (!conn_tls(conn))
		return handshake_co_error(h, NBD_REP_ERR_POLICY,
					  "this server is not configured for TLS");
	if (chan_has_ahead(&conn->chan))
		return too_early(h);
	ret = handshake_co_ack(h);
	if (ret < 0)
		return ret;
	/*
	 * A certificate that has been taken back must not come in by a connection that has
	 * waited for that, with its STARTTLS or with taking the ACK.
	 */
	handshake_renew(h);
	ret = chan_co_starttls(&conn->chan, conn_tls(conn), worker_handshakes(conn->worker));
	if (ret < 0)
		return failed(h, ret);
	ret = chan_tls_identify(conn->chan.tls, &conn->who);
	if (ret < 0)
		return ret;
	handshake_forget(h);
	handshake_judge(h);
	log_debug("TLS conn=%llu peer=%s with=\"%s\"", (unsigned long long)conn->id, conn->peer,
		  chan_tls_text(conn->chan.tls));
	return HANDSHAKE_NEXT;
}
