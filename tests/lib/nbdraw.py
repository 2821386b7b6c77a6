# SPDX-License-Identifier: MIT
"""A raw NBD client: it sends what it is told to, right or wrong.

It stands on sockets and struct alone, so that a fault of a client library
cannot hide one of the server, and so that it can send what no library would.

    conn = nbdraw.Conn(sock)
    conn.hello()                              greeting and client flags
    conn.option(OPT_LIST)                     all replies to one option
    conn.go("")                               into transmission
    conn.call(CMD_READ, 0, 0, 512)            one request and its reply

send_option() and send_request() only send, so requests can be pipelined, cut
short or given wrong lengths. Every wait ends in an error after GUARD seconds.
"""
import errno
import os
import socket
import struct
from collections import namedtuple

# A hang guard, not a bound: far beyond what anything here takes.
GUARD = int(os.environ.get("TEST_GUARD", 120))

NBDMAGIC = 0x4e42444d41474943
IHAVEOPT = 0x49484156454f5054
OPTION_REPLY_MAGIC = 0x0003e889045565a9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698

FLAG_FIXED_NEWSTYLE = 1
FLAG_NO_ZEROES = 2
DEFAULT_FLAGS = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES

OPT_EXPORT_NAME = 1
OPT_ABORT = 2
OPT_LIST = 3
OPT_PEEK_EXPORT = 4
OPT_STARTTLS = 5
OPT_INFO = 6
OPT_GO = 7
OPT_STRUCTURED_REPLY = 8
OPT_LIST_META_CONTEXT = 9
OPT_SET_META_CONTEXT = 10
OPT_EXTENDED_HEADERS = 11
OPT_UNKNOWN = 0x7ffffff0

REP_ACK = 1
REP_SERVER = 2
REP_INFO = 3
REP_META_CONTEXT = 4
REP_ERR_UNSUP = 0x80000001
REP_ERR_POLICY = 0x80000002
REP_ERR_INVALID = 0x80000003
REP_ERR_PLATFORM = 0x80000004
REP_ERR_TLS_REQD = 0x80000005
REP_ERR_UNKNOWN = 0x80000006
REP_ERR_SHUTDOWN = 0x80000007
REP_ERR_BLOCK_SIZE_REQD = 0x80000008
REP_ERR_TOO_BIG = 0x80000009
REP_ERR_EXT_HEADER_REQD = 0x8000000a

INFO_EXPORT = 0
INFO_NAME = 1
INFO_DESCRIPTION = 2
INFO_BLOCK_SIZE = 3

HAS_FLAGS = 0x0001
READ_ONLY = 0x0002
SEND_FLUSH = 0x0004
SEND_FUA = 0x0008
ROTATIONAL = 0x0010
SEND_TRIM = 0x0020
SEND_WRITE_ZEROES = 0x0040
SEND_DF = 0x0080
CAN_MULTI_CONN = 0x0100
SEND_RESIZE = 0x0200
SEND_CACHE = 0x0400
SEND_FAST_ZERO = 0x0800
BLOCK_STATUS_PAYLOAD = 0x1000

CMD_READ = 0
CMD_WRITE = 1
CMD_DISC = 2
CMD_FLUSH = 3
CMD_TRIM = 4
CMD_CACHE = 5
CMD_WRITE_ZEROES = 6
CMD_BLOCK_STATUS = 7
CMD_RESIZE = 8

CMD_FLAG_FUA = 1
CMD_FLAG_NO_HOLE = 2
CMD_FLAG_DF = 4
CMD_FLAG_REQ_ONE = 8
CMD_FLAG_FAST_ZERO = 16
CMD_FLAG_PAYLOAD_LEN = 32

# The numbers on the wire, whatever the host calls them.
EPERM = 1
EIO = 5
ENOMEM = 12
EINVAL = 22
ENOSPC = 28
EOVERFLOW = 75
ENOTSUP = 95
ESHUTDOWN = 108
WIRE_ERRORS = (0, EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN)

MIB = 1 << 20

OptionReply = namedtuple("OptionReply", "option type data")
Export = namedtuple("Export", "size flags name description block_size")
Reply = namedtuple("Reply", "error cookie data")


class Closed(Exception):
    """The server closed the connection where it should have answered."""


def is_error(reply_type):
    return bool(reply_type & 0x80000000)


def option_bytes(option, data=b"", length=None):
    """An option; length lies about the data if it is given."""
    if length is None:
        length = len(data)
    return struct.pack(">QII", IHAVEOPT, option, length) + data


def option_reply_bytes(option, kind, data=b""):
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def name_bytes(name):
    return name if isinstance(name, bytes) else name.encode()


def info_data(name="", infos=()):
    """The data of INFO and GO."""
    name = name_bytes(name)
    return (struct.pack(">I", len(name)) + name +
            struct.pack(f">H{len(infos)}H", len(infos), *infos))


def request_bytes(command, flags, offset, length, cookie=0, magic=REQUEST_MAGIC):
    return struct.pack(">IHHQQI", magic, flags, command, cookie, offset, length)


class Conn:
    """One connection, in whatever state the test has brought it to."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(GUARD)
        self.buffer = b""
        self.next_cookie = 1
        self.export = None
        self.handshake_flags = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- bytes ---

    def send(self, data):
        """Sends; a server that has hung up is found out by the next receive."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def wire(self, data):
        """The bytes that carry the data: to be sent by the test itself, all or none of them."""
        return data

    def recv_some(self, count=1 << 20):
        """Bytes, or b"" at the end of the connection; at most count are taken off the wire."""
        try:
            return self.sock.recv(count)
        except ConnectionResetError:
            return b""
        except socket.timeout:
            raise AssertionError(f"no answer within the {GUARD} s guard") from None

    def recv(self, count):
        parts = [self.buffer]
        have = len(self.buffer)
        while have < count:
            part = self.recv_some()
            if not part:
                self.buffer = b"".join(parts)
                raise Closed(f"connection closed after {have} of {count} bytes")
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self.buffer = data[count:]
        return data[:count]

    def recv_to_end(self):
        """Everything until the server closes."""
        parts = [self.buffer]
        self.buffer = b""
        while True:
            part = self.recv_some()
            if not part:
                return b"".join(parts)
            parts.append(part)

    def expect_close(self, what="connection"):
        """The server hangs up without another byte."""
        data = self.recv_to_end()
        assert not data, f"{what}: {len(data)} bytes instead of a close: {data[:64]!r}"

    def close(self):
        self.sock.close()

    def reset(self):
        """Leaves with RST (TCP) instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    # --- handshake ---

    def greeting(self):
        magic, version, flags = struct.unpack(">QQH", self.recv(18))
        assert magic == NBDMAGIC, f"greeting magic {magic:#x}"
        assert version == IHAVEOPT, f"greeting version {version:#x}"
        self.handshake_flags = flags
        return flags

    def send_flags(self, flags=DEFAULT_FLAGS):
        self.send(struct.pack(">I", flags))
        return self

    def hello(self, flags=DEFAULT_FLAGS):
        self.greeting()
        return self.send_flags(flags)

    def send_option(self, option, data=b"", length=None):
        self.send(option_bytes(option, data, length))

    def option_reply(self):
        magic, option, kind, length = struct.unpack(">QIII", self.recv(20))
        assert magic == OPTION_REPLY_MAGIC, f"option reply magic {magic:#x}"
        assert length <= 1 << 16, f"an option reply of {length} bytes"
        return OptionReply(option, kind, self.recv(length))

    def option_replies(self, option):
        """All replies to an option that was sent; the last one is final."""
        replies = []
        while True:
            reply = self.option_reply()
            assert reply.option == option, \
                f"reply to option {reply.option:#x} instead of {option:#x}"
            replies.append(reply)
            if reply.type == REP_ACK:
                assert reply.data == b"", "an ACK with data"
                return replies
            if is_error(reply.type):
                assert len(reply.data) <= 4096, f"{len(reply.data)} bytes of error text"
                reply.data.decode("utf-8")
                return replies

    def option(self, option, data=b"", length=None):
        self.send_option(option, data, length)
        return self.option_replies(option)

    def option_final(self, option, data=b"", length=None):
        """The type of the one reply to an option that is answered with one."""
        replies = self.option(option, data, length)
        assert len(replies) == 1, f"option {option}: {len(replies)} replies: {replies}"
        return replies[0].type

    def info(self, name="", infos=(), option=OPT_INFO):
        """INFO or GO: what it tells as an Export, or the error's number."""
        replies = self.option(option, info_data(name, infos))
        if is_error(replies[-1].type):
            assert len(replies) == 1, f"items before an error: {replies}"
            return replies[-1].type
        return parse_info(replies)

    def go(self, name="", infos=()):
        export = self.info(name, infos, OPT_GO)
        if isinstance(export, Export):
            self.export = export
        return export

    def list(self):
        """[(name, description)], as bytes."""
        replies = self.option(OPT_LIST)
        assert replies[-1].type == REP_ACK, f"LIST: {replies[-1].type:#x} {replies[-1].data!r}"
        exports = []
        for reply in replies[:-1]:
            assert reply.type == REP_SERVER, f"LIST: a reply of type {reply.type:#x}"
            length, = struct.unpack(">I", reply.data[:4])
            assert 4 + length <= len(reply.data), "LIST: name longer than its reply"
            assert len(reply.data) - 4 - length <= 4096, "LIST: description over 4096 bytes"
            exports.append((reply.data[4:4 + length], reply.data[4 + length:]))
        return exports

    def sync(self, what=""):
        """Both sides agree where in the byte stream of the handshake they are."""
        try:
            self.list()
        except (Closed, AssertionError) as e:
            raise AssertionError(f"{what}: out of step: {e}") from None

    def export_name(self, name="", zeroes=0):
        """EXPORT_NAME; raises Closed if it is refused."""
        self.send_option(OPT_EXPORT_NAME, name_bytes(name))
        size, flags = struct.unpack(">QH", self.recv(10))
        padding = self.recv(zeroes)
        assert padding == bytes(zeroes), "EXPORT_NAME: the padding is not zero"
        self.export = Export(size, flags, None, None, None)
        return self.export

    # --- transmission ---

    def send_request(self, command, flags=0, offset=0, length=0, payload=b"", cookie=None):
        if cookie is None:
            cookie = self.next_cookie
            self.next_cookie += 1
        self.send(request_bytes(command, flags, offset, length, cookie) + payload)
        return cookie

    def reply_header(self):
        magic, error, cookie = struct.unpack(">IIQ", self.recv(16))
        assert magic == SIMPLE_REPLY_MAGIC, f"reply magic {magic:#x}"
        assert error in WIRE_ERRORS, f"error {error} is none of the protocol's"
        return error, cookie

    def reply(self, lengths):
        """One reply; lengths tells how much data each cookie's success brings."""
        error, cookie = self.reply_header()
        length = lengths(cookie) if callable(lengths) else lengths
        return Reply(error, cookie, self.recv(length) if error == 0 else b"")

    def call(self, command, flags=0, offset=0, length=0, payload=b""):
        """One request, and its reply."""
        cookie = self.send_request(command, flags, offset, length, payload)
        reply = self.reply(length if command == CMD_READ else 0)
        assert reply.cookie == cookie, f"cookie {reply.cookie:#x} instead of {cookie:#x}"
        return reply

    def read(self, offset, length):
        reply = self.call(CMD_READ, 0, offset, length)
        assert reply.error == 0, f"READ {length}@{offset}: error {reply.error}"
        return reply.data

    def write(self, offset, data, flags=0):
        reply = self.call(CMD_WRITE, flags, offset, len(data), data)
        assert reply.error == 0, f"WRITE {len(data)}@{offset}: error {reply.error}"

    def flush(self):
        reply = self.call(CMD_FLUSH)
        assert reply.error == 0, f"FLUSH: error {reply.error}"

    def alive(self, what="", length=512):
        """A READ at the start of the disk still succeeds."""
        try:
            self.read(0, length)
        except (Closed, AssertionError) as e:
            raise AssertionError(f"{what}: no longer usable: {e}") from None

    def disconnect(self):
        """DISC, and the close that is the only answer to it."""
        self.send_request(CMD_DISC)
        self.expect_close("DISC")
        self.close()


def parse_info(replies):
    """The INFO items of a reply that ends in ACK; each type at most once."""
    items = {}
    for reply in replies[:-1]:
        assert reply.type == REP_INFO, f"a reply of type {reply.type:#x} before the ACK"
        kind, = struct.unpack(">H", reply.data[:2])
        assert kind not in items, f"info {kind} twice"
        items[kind] = reply.data[2:]
    assert INFO_EXPORT in items, "no INFO_EXPORT"
    assert len(items[INFO_EXPORT]) == 10, "INFO_EXPORT is not 12 bytes"
    size, flags = struct.unpack(">QH", items[INFO_EXPORT])
    block_size = None
    if INFO_BLOCK_SIZE in items:
        assert len(items[INFO_BLOCK_SIZE]) == 12, "INFO_BLOCK_SIZE is not 14 bytes"
        block_size = struct.unpack(">III", items[INFO_BLOCK_SIZE])
    return Export(size, flags, items.get(INFO_NAME), items.get(INFO_DESCRIPTION), block_size)


def connect_unix(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(path)
    return Conn(sock)


def connect_tcp(host, port, recv_buffer=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if recv_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_buffer)
    sock.connect((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Conn(sock)


def refuses(connect, *args):
    """True if nobody listens there."""
    try:
        connect(*args).close()
    except OSError as e:
        return e.errno in (errno.ECONNREFUSED, errno.ENOENT)
    return False
