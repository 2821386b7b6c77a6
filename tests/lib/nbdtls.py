# SPDX-License-Identifier: MIT
"""A raw connection over TLS, by another implementation than the server's.

    conn = TlsConn(sock, client_context(pki.client()))
    conn.hello()                # greeting, flags, STARTTLS, handshake
    conn.list()

One thread may send while another one receives.
"""
import contextlib
import os
import socket
import ssl
import threading

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
        self.lock = threading.Lock()    # of those two and of tls
        self.clean_end = False          # the server said goodbye before it closed
        self.closed = False

    # --- the handshake ---

    def begin(self):
        """What STARTTLS's ACK is followed by: ready for handshake()."""
        assert not self.buffer, "bytes in clear behind the ACK"
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing,
                                         server_hostname="localhost")

    def send_pending(self):
        """To the server what TLS has to say."""
        with self.lock:
            data = self.outgoing.read()
        if data:
            self.send_raw(data)

    def send_raw(self, data):
        super().send(data)

    def feed(self, count=1 << 20):
        """From the server; False at the end."""
        data = super().recv_some(count)
        with self.lock:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()
        return bool(data)

    def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                self.send_pending()
                return self
            except ssl.SSLWantReadError:
                self.send_pending()
                self.feed()

    def starttls(self):
        kind = self.option_final(OPT_STARTTLS)
        assert kind == REP_ACK, f"STARTTLS: {kind:#x}"
        self.begin()
        return self.handshake()

    def hello_in_clear(self, flags=nbdraw.DEFAULT_FLAGS):
        self.greeting()
        return super().send_flags(flags)

    def send_flags(self, flags=nbdraw.DEFAULT_FLAGS):
        super().send_flags(flags)
        return self.starttls()

    # --- bytes ---

    def wire(self, data):
        if not self.tls:
            return data
        with self.lock:
            self.tls.write(data)
            return self.outgoing.read()

    def send(self, data):
        for at in range(0, len(data), 1 << 20):
            self.send_raw(self.wire(data[at:at + (1 << 20)]))

    def recv_some(self, count=1 << 20):
        if not self.tls:
            return super().recv_some(count)
        while True:
            try:
                with self.lock:
                    data = self.tls.read(1 << 20)
                if data:
                    return data
                break                           # of close_notify this is what comes
            except ssl.SSLWantReadError:
                self.send_pending()
                self.feed(count)
            except ssl.SSLZeroReturnError:
                break                           # and so does this, if we said it, too
            except ssl.SSLError as e:
                # Which of the two it is, is up to the versions of Python and OpenSSL.
                if isinstance(e, ssl.SSLEOFError) or e.reason == "UNEXPECTED_EOF_WHILE_READING":
                    return b""
                raise
        self.clean_end = True
        self.recv_wire_to_end()                 # the end that was announced
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
        self.send_pending()

    def half_close(self):
        if self.tls:
            self.say_goodbye()
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        """With a goodbye, if there is still somebody who takes it at once; reset() has none."""
        if self.tls and not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                with contextlib.suppress(ssl.SSLWantReadError):
                    self.tls.unwrap()
                self.sock.settimeout(0)
                self.sock.send(self.outgoing.read())
        super().close()


__all__ = ["TlsConn", "client_context", "GUARD"]
