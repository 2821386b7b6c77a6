/* SPDX-License-Identifier: MIT */
/*
 * tls_peer.h - who a client is, as TLS has proved it.
 *
 * Threads: any.
 */
#ifndef SERVER_TLS_PEER_H
#define SERVER_TLS_PEER_H

#include "server/access.h"

struct gnutls_session_int;

/*
 * Fills in PEER's identity from a session whose handshake is over, and whose client
 * certificate, if there is one, was verified in it. -ENOMEM; -EPROTO: there is
 * something in the certificate that cannot be read. Then nobody is to be let in.
 */
int tls_peer_identify(struct gnutls_session_int *session, struct access_peer *peer);

#endif
