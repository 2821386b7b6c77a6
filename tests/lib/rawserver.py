# SPDX-License-Identifier: MIT
"""A raw NBD server: it answers what it is told to, right or wrong.

    def handler(peer):
        peer.hello()
        peer.negotiate([Offer("disk", 1 << 20)])
    with RawServer(handler) as server:
        ... server.uri() ...

Each connection gets a thread that runs the handler and closes it in the end.
negotiate() is a server in good order; its on={OPTION: function} replaces single
answers. A client that has gone ends a handler silently; anything else that goes
wrong in one is raised when the `with` block is left. uri() is of a Unix socket.
"""
import os
import socket
import struct
import threading
from collections import namedtuple

from nbdraw import *
from server import path_for

Offer = namedtuple("Offer", "name size flags description contexts block_size",
                   defaults=(1 << 20, HAS_FLAGS, b"", (), None))


class Gone(Exception):
    """The client has closed the connection."""


class Peer:
    """One connection, seen from the server."""

    def __init__(self, sock, number):
        self.sock = sock
        self.number = number            # of the connection, from 1
        self.sock.settimeout(GUARD)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone from None

    def recv(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.sock.recv(count - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Gone
            data += part
        return data

    def stall(self):
        """Says nothing more until the client has gone."""
        while True:
            self.recv(1)

    def hello(self, flags=FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES):
        self.send(struct.pack(">QQH", NBDMAGIC, IHAVEOPT, flags))
        client, = struct.unpack(">I", self.recv(4))
        return client

    def option(self):
        """The next option: (number, data)."""
        magic, option, length = struct.unpack(">QII", self.recv(16))
        assert magic == IHAVEOPT, f"option magic {magic:#x}"
        assert length <= 1 << 20, f"an option of {length} bytes"
        return option, self.recv(length)

    def reply(self, option, kind, data=b"", length=None):
        """An option reply; length lies about the data if it is given."""
        if length is None:
            length = len(data)
        self.send(struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, length) + data)

    def reply_server(self, name, description=b""):
        """An item of LIST."""
        name = name_bytes(name)
        self.reply(OPT_LIST, REP_SERVER, struct.pack(">I", len(name)) + name + description)

    def reply_info(self, option, offer):
        """All that INFO and GO can tell."""
        self.reply(option, REP_INFO, struct.pack(">HQH", INFO_EXPORT, offer.size, offer.flags))
        self.reply(option, REP_INFO, struct.pack(">H", INFO_NAME) + name_bytes(offer.name))
        if offer.description:
            self.reply(option, REP_INFO, struct.pack(">H", INFO_DESCRIPTION) + offer.description)
        if offer.block_size:
            self.reply(option, REP_INFO, struct.pack(">HIII", INFO_BLOCK_SIZE, *offer.block_size))
        self.reply(option, REP_ACK)

    def negotiate(self, offers, on=None):
        """Answers options until ABORT, or until an export has been entered."""
        on = on or {}
        offers = {name_bytes(offer.name): offer for offer in offers}
        while True:
            option, data = self.option()
            if option in on:
                on[option](self, data)
            elif option == OPT_ABORT:
                self.reply(option, REP_ACK)
                return
            elif option == OPT_STRUCTURED_REPLY:
                self.reply(option, REP_ACK)
            elif option == OPT_LIST:
                for name, offer in offers.items():
                    self.reply_server(name, offer.description)
                self.reply(option, REP_ACK)
            elif option in (OPT_INFO, OPT_GO):
                offer = offers.get(asked_name(data))
                if offer is None:
                    self.reply(option, REP_ERR_UNKNOWN)
                    continue
                self.reply_info(option, offer)
                if option == OPT_GO:
                    return
            elif option == OPT_LIST_META_CONTEXT:
                for context in offers[asked_name(data)].contexts:
                    self.reply(option, REP_META_CONTEXT, bytes(4) + name_bytes(context))
                self.reply(option, REP_ACK)
            elif option == OPT_EXPORT_NAME:
                if data not in offers:
                    return
                self.send(struct.pack(">QH", offers[data].size, offers[data].flags))
                return
            else:
                self.reply(option, REP_ERR_UNSUP)


def asked_name(data):
    """The export that an INFO, GO or LIST_META_CONTEXT is about."""
    length, = struct.unpack(">I", data[:4])
    return data[4:4 + length]


def refuse(option, kind=REP_ERR_POLICY, text=b""):
    """For negotiate(): this option is refused."""
    return {option: lambda peer, data: peer.reply(option, kind, text)}


class RawServer:
    """Listens on a Unix socket below TEST_TMP."""

    def __init__(self, handler):
        self.handler = handler
        self.path = path_for("raw")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.connections = 0
        self.threads, self.failures = [], []
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(Peer(sock, self.connections),),
                                      daemon=True)
            thread.start()
            self.threads.append(thread)

    def _serve(self, peer):
        try:
            self.handler(peer)
        except Gone:
            pass
        except BaseException as e:      # pylint: disable=broad-except
            self.failures.append(e)
        finally:
            peer.sock.close()

    def uri(self, name=""):
        return f"nbd+unix:///{name}?socket={self.path}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.acceptor.join(GUARD)
        for thread in self.threads:
            thread.join(GUARD)
        os.unlink(self.path)
        if kind is None and self.failures:
            raise self.failures[0]
