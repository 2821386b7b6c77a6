# SPDX-License-Identifier: MIT
"""Cases of the conformance suite: one rule of the protocol each, over every way to the server.

    def test_OP_2_data_is_drained(serve):
        with serve("mem:1M") as server, server.hello() as conn:
            eq(conn.option_final(OPT_UNKNOWN, bytes(100)), REP_ERR_UNSUP)
            conn.sync()

    run_cases(globals())

The name says which line of checklist.txt the case holds the server to. It runs
once for each way; serve(ARGUMENT...) starts the server of that way:

    pair      blkgate --single on a socket pair, a process for each connection
    tcp       one server, connections to a port of 127.0.0.1
    pair-cut  the same, but messages arrive in pieces: what is short one byte at
    tcp-cut   a time, of what is long the first bytes
    tls       as tcp, with STARTTLS as the first option of each hello()

A socket pair tells whether the other end has taken what was sent, so that in
pair-cut every byte has a receive of its own. TCP does not tell; there each byte
has a send of its own. No verdict depends on how the pieces arrive.

A server may hang up on a client only for what it did, at once. That it did not
merely lose patience is seen in its log; a case in which it may says late=True.

    tests/conform/options                               all cases
    tests/conform/options OP-2 test_OP_3_longest@tcp    those of one line, one case one way
"""
import fcntl
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
import termios
import time
import traceback
from collections import namedtuple

import nbdraw
import server as running
from nbdtls import TlsConn, client_context
from pki import Pki
from server import GUARD, REPORT, Server, Skip, path_for

WAYS = ("pair", "pair-cut", "tcp", "tcp-cut", "tls")
CUT = 320                       # so many bytes of a message one by one
CASE = re.compile(r"test_([A-Z]{1,3})_(\d+)(?:_[a-z0-9_]+)?")
# For over(): where one server has all connections; where no message is cut.
LISTENS = ("tcp", "tcp-cut", "tls")
UNCUT = ("pair", "tcp", "tls")
# For what comes before TLS, or needs the bytes as they are on the wire.
CLEAR = ("pair", "pair-cut", "tcp", "tcp-cut")


class CutConn(nbdraw.Conn):
    """A connection whose messages arrive in pieces."""

    def send(self, data):
        for i in range(min(len(data), CUT)):
            super().send(data[i:i + 1])
            self.wait_taken()
        if len(data) > CUT:
            super().send(data[CUT:])

    def wait_taken(self):
        """Lets the other end read; it may have stopped doing so for good."""
        if self.sock.family != socket.AF_UNIX:
            return
        for _ in range(5000):
            left, = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
            if left == 0:
                return
            os.sched_yield()


class Pair:
    """blkgate --single behind a socket pair: a process for each connection."""

    def __init__(self, args, conn_class, late=False):
        command = shlex.split(os.environ.get("BLKGATE_WRAP", "")) + [running.BLKGATE, "--single"]
        self.command = command + [str(a) for a in args]
        self.conn_class = conn_class
        self.late = late
        self.processes = []

    def connect(self):
        ours, theirs = socket.socketpair()
        log = path_for("log")
        with open(log, "wb") as f, theirs:
            process = subprocess.Popen(self.command, stdin=theirs, stdout=theirs, stderr=f)
        self.processes.append((process, ours, log))
        return self.conn_class(ours)

    def log_lines(self, levels):
        """The log lines of these levels; of connections that have ended, all of them."""
        return [line for line in self.log().splitlines() if line.split(" ")[0] in levels.split()]

    def log(self):
        text = ""
        for _, _, log in self.processes:
            with open(log, encoding="utf-8", errors="backslashreplace") as f:
                text += f.read()
        return text

    def send_signal(self, number):
        """To the process of the connection that was made last."""
        self.processes[-1][0].send_signal(number)

    def wait_log(self, pattern):
        """Until a line matches."""
        for _ in range(GUARD * 100):
            if re.search(pattern, self.log(), re.MULTILINE):
                return
            time.sleep(0.01)
        raise AssertionError(f"no log line {pattern}:\n{self.log()}")

    def wait_ended(self):
        """Until every connection has ended; they have to be closed, or the server does it."""
        for process, _, _ in self.processes:
            process.wait(GUARD)

    def __exit__(self, kind, *exc):
        for process, sock, _ in self.processes:
            sock.close()
            if kind is not None:
                process.kill()
            try:
                status = process.wait(GUARD)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"the server does not end:\n{self.log()}") from None
            assert kind is not None or status == 0, f"exit status {status}:\n{self.log()}"
        log = self.log()
        if kind is not None:
            sys.stderr.write("".join(f"  log: {line}\n" for line in log.splitlines()[-30:]))
            return
        assert not REPORT.search(log), "a report in the log:\n" + log
        check_patience(log, self.late)


class Listener(Server):
    """A server on a port of 127.0.0.1."""

    def __init__(self, args, conn_class, late=False, **more):
        super().__init__(*args, listen="tcp", **more)
        self.conn_class = conn_class
        self.late = late

    def connect(self, recv_buffer=None):
        return self.conn_class(super().connect(recv_buffer).sock)

    def wait_ended(self):
        """Nothing to wait for: connections come and go."""

    def __exit__(self, kind, *exc):
        super().__exit__(kind, *exc)
        if kind is None:
            check_patience(self.log(), self.late)


def check_patience(log, late):
    assert late or "timed out" not in log, "only its patience ended a connection:\n" + log


class Client:
    """What cases do with either kind of server."""

    def __enter__(self):
        return self

    def hello(self, flags=nbdraw.DEFAULT_FLAGS):
        """A connection that has said hello."""
        return self.connect().hello(flags)

    def go(self, name="", infos=()):
        """A connection in transmission."""
        conn = self.hello()
        export = conn.go(name, infos)
        assert isinstance(export, nbdraw.Export), f"GO '{name}': {export:#x}"
        return conn


class PairServer(Client, Pair):
    pass


class ListeningServer(Client, Listener):
    pass


class TlsListener(Client, Listener):
    """A server that wants TLS, and its clients."""

    directories = []        # with the certificates of both sides, the same for all cases

    def __init__(self, args, **more):
        if not self.directories:
            pki = Pki()
            self.directories.extend((pki.server(), pki.client()))
        directory, self.client_directory = self.directories
        super().__init__([*args, "--tls-certificates", directory, "--tls-verify-peer"],
                         lambda sock: TlsConn(sock, self.context_of()), **more)

    def context_of(self, *versions):
        """Of a client that may come in."""
        return client_context(self.client_directory, *[versions] if versions else [])


class Way:
    """How a case reaches the server; called with the server's arguments, it starts one."""

    def __init__(self, name):
        self.name = name
        self.conn_class = CutConn if name.endswith("-cut") else nbdraw.Conn
        self.listens = name in LISTENS

    def __call__(self, *args, **more):
        if self.name == "tls":
            return TlsListener(args, **more)
        if self.listens:
            return ListeningServer(args, self.conn_class, **more)
        return PairServer(args, self.conn_class, more.get("late", False))


# --- One request in any format --------------------------------------------------

FORMS = {0x67446698: "simple", 0x668e33ef: "structured", 0x6e8a278c: "extended"}
EXTENDED_REQUEST_MAGIC = 0x21e41c71
DONE = 1
CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_STATUS_EXT, CHUNK_ERROR = 1, 2, 5, 6, 0x8001

# form: of the headers. contexts: ids that the chunks of BLOCK_STATUS are for.
# offsets: what extended headers echo.
Answer = namedtuple("Answer", "form error data contexts offsets")


def extended_request_bytes(command, flags, offset, length, cookie=0, magic=EXTENDED_REQUEST_MAGIC):
    return struct.pack(">IHHQQQ", magic, flags, command, cookie, offset, length)


def ask(conn, command, offset=0, length=512, flags=0, payload=b"", extended=False):
    """One request, and its whole reply; that all headers of it have one form is checked."""
    cookie = conn.next_cookie
    conn.next_cookie += 1
    pack = extended_request_bytes if extended else nbdraw.request_bytes
    conn.send(pack(command, flags, offset, length, cookie) + payload)
    form, done, error, data, contexts, offsets = None, 0, 0, bytearray(), [], []
    while not done:
        magic, = struct.unpack(">I", conn.recv(4))
        assert magic in FORMS, f"reply magic {magic:#x}"
        assert form in (None, FORMS[magic]), f"{FORMS[magic]} after {form}"
        form = FORMS[magic]
        if form == "simple":
            error, got = struct.unpack(">IQ", conn.recv(12))
            assert got == cookie, f"cookie {got:#x} instead of {cookie:#x}"
            if command == nbdraw.CMD_READ and error == 0:
                data += conn.recv(length)
            break
        done, kind, got = struct.unpack(">HHQ", conn.recv(12))
        assert got == cookie, f"cookie {got:#x} instead of {cookie:#x}"
        if form == "extended":
            offsets.append(struct.unpack(">Q", conn.recv(8))[0])
        size, = struct.unpack(">Q" if form == "extended" else ">I",
                              conn.recv(8 if form == "extended" else 4))
        body = conn.recv(size)
        if kind == CHUNK_DATA:
            at = struct.unpack(">Q", body[:8])[0] - offset
            data[at:at + size - 8] = body[8:]
        elif kind == CHUNK_HOLE:
            at, count = struct.unpack(">QI", body)
            data[at - offset:at - offset + count] = bytes(count)
        elif kind in (CHUNK_STATUS, CHUNK_STATUS_EXT):
            contexts.append(struct.unpack(">I", body[:4])[0])
        elif kind >= CHUNK_ERROR:
            error, = struct.unpack(">I", body[:4])
            assert error, "an error chunk without an error"
    return Answer(form, error, bytes(data), contexts, offsets)


def over(*ways):
    """For a case that makes sense over some ways only."""
    def mark(case):
        case.ways = ways
        return case
    return mark


def every_cut(serve, args, script, check):
    """The script in two pieces, cut after each byte in turn: check(reply bytes) judges all the same.

    The server is to have ended the connection when it has answered the script.
    """
    with serve(*args) as server:
        for k in range(1, len(script)):
            with server.connect() as conn:
                whole = nbdraw.Conn(conn.sock)
                whole.send(script[:k])
                CutConn.wait_taken(whole)
                whole.send(script[k:])
                try:
                    check(whole.recv_to_end())
                except AssertionError as e:
                    raise AssertionError(f"cut after byte {k}: {e}") from None


def _selected(cases, words):
    """[(name, way)] of what the command line names."""
    everything = [(name, way) for name, case in cases.items()
                  for way in getattr(case, "ways", WAYS)]
    if not words:
        return everything
    chosen = []
    for word in words:
        name, _, way = word.partition("@")
        line = "test_" + name.replace("-", "_")
        found = [(n, w) for n, w in everything
                 if (n == name or n == line or n.startswith(line + "_")) and way in ("", w)]
        if not found:
            sys.exit(f"no case {word}")
        chosen += found
    return chosen


def run_cases(namespace):
    """Runs the cases, or those named on the command line, over each of their ways."""
    cases = {name: case for name, case in namespace.items() if name.startswith("test_")}
    for name in cases:
        assert CASE.fullmatch(name), f"{name} does not name a line of the checklist"
    failed, skips = [], []
    for name, way in _selected(cases, sys.argv[1:]):
        label = f"{name}@{way}"
        try:
            cases[name](Way(way))
            print(f"ok   {label}")
        except Skip as e:
            skips.append(f"{label}: {e}")
        except Exception:       # pylint: disable=broad-except
            failed.append(label)
            sys.stdout.flush()
            traceback.print_exc()
            print(f"FAIL {label}")
        sys.stdout.flush()
    if failed:
        print(f"failed: {' '.join(failed)}")
        sys.exit(1)
    if skips:
        print("; ".join(skips))
        sys.exit(77)
