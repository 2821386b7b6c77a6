# SPDX-License-Identifier: MIT
"""A raw connection over TLS, by another implementation than the server's.

    conn = TlsConn(sock, client_context(pki.client()))
    conn.hello()                # greeting, flags, STARTTLS, handshake
    conn.list()
"""
import os
import socket
import ssl

import nbdraw
from nbdraw import GUARD, OPT_STARTTLS, REP_ACK


def client_context(directory=None, versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)):
    """Trusts the CA of the directory, and shows the client certificate in it, if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Or an end without a goodbye would look like one with it.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if directory is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # it is for the server to refuse what is weak
    context.load_verify_locations(os.path.join(directory, "ca-cert.pem"))
    cert = os.path.join(directory, "client-cert.pem")
    if os.path.exists(cert):
        context.load_cert_chain(cert, os.path.join(directory, "client-key.pem"))
    return context


class TlsConn(nbdraw.Conn):
    """In clear until starttls(), which hello() includes."""

    def __init__(self, sock, context):
        super().__init__(sock)
        self.context = context
        self.tls = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.clean_end = False          # the server said goodbye before it closed

    # --- the handshake ---

    def begin(self):
        """What STARTTLS's ACK is followed by: ready for handshake()."""
        assert not self.buffer, "bytes in clear behind the ACK"
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing,
                                         server_hostname="localhost")

    def flush(self):
        """To the server what TLS has to say."""
        data = self.outgoing.read()
        if data:
            self.send_raw(data)

    def send_raw(self, data):
        super().send(data)

    def feed(self):
        """From the server; False at the end."""
        data = super().recv_some()
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()
        return bool(data)

    def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                self.flush()
                return self
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()

    def starttls(self):
        kind = self.option_final(OPT_STARTTLS)
        assert kind == REP_ACK, f"STARTTLS: {kind:#x}"
        self.begin()
        return self.handshake()

    def hello_in_clear(self, flags=nbdraw.FLAG_FIXED_NEWSTYLE | nbdraw.FLAG_NO_ZEROES):
        return super().hello(flags)

    def hello(self, flags=nbdraw.FLAG_FIXED_NEWSTYLE | nbdraw.FLAG_NO_ZEROES):
        super().hello(flags)
        return self.starttls()

    # --- bytes ---

    def send(self, data):
        if not self.tls:
            self.send_raw(data)
            return
        for at in range(0, len(data), 1 << 20):
            self.tls.write(data[at:at + (1 << 20)])
            self.flush()

    def recv_some(self):
        if not self.tls:
            return super().recv_some()
        while True:
            try:
                data = self.tls.read(1 << 20)
                self.clean_end = not data       # of close_notify this is what comes
                return data
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
            except ssl.SSLZeroReturnError:
                self.clean_end = True           # and so does this, if we said it, too
                return b""
            except ssl.SSLEOFError:
                return b""

    def recv_wire_to_end(self):
        """Everything until the server closes, as it is on the wire."""
        data = b""
        while True:
            part = super().recv_some()
            if not part:
                return data
            data += part

    def say_goodbye(self):
        """close_notify; the server may still send."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def half_close(self):
        if self.tls:
            self.say_goodbye()
        self.sock.shutdown(socket.SHUT_WR)


__all__ = ["TlsConn", "client_context", "GUARD"]
