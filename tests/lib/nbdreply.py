# SPDX-License-Identifier: MIT
"""Holds every byte that a server sends in transmission to the protocol.

    nbd = nbdreply.negotiate(conn, EXTENDED, contexts=("base:allocation",))
    answer = nbd.call(CMD_READ, 0, 0, 4096)
    answer.error, answer.data, answer.chunks

A Session remembers what it has asked, by cookie, and checks each reply against
that and against what was agreed on in the handshake:

 1. The magic is that of the mode. SIMPLE: simple replies. STRUCTURED: chunks,
    and simple replies for what is neither READ nor BLOCK_STATUS. EXTENDED:
    extended chunks and nothing else, with the request's offset in each.
 2. Flags, types and lengths of chunks are those that the protocol knows, for
    this command, in this mode. Nothing is longer than the advertised maximum.
 3. DONE comes once for each request; nothing comes after it.
 4. Content of a successful READ covers the range exactly once; that of a failed
    one lies within the range and never overlaps. With DF it is one chunk.
 5. A successful BLOCK_STATUS has one chunk for each context that was selected:
    extents that are not empty, in order, of which only the last may pass the
    end of the request and none that of the export; one and no longer than the
    request with REQ_ONE.
 6. Error numbers are the protocol's, and such as this command may fail with.
    Texts fill their chunk, and are UTF-8 without NUL of at most 4096 bytes.
    Offsets of errors lie in the request, and no content for them comes later.

What breaks these raises Violation. What the protocol leaves open is for the
test to judge: answer.chunks has all chunks as they came.
"""
import os
import struct
from collections import namedtuple

import nbdopt
import nbdraw
from nbdraw import (CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO,
                    CMD_FLAG_PAYLOAD_LEN, CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM,
                    CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, EIO, ENOSPC, ENOTSUP, EOVERFLOW,
                    EPERM, INFO_BLOCK_SIZE, SIMPLE_REPLY_MAGIC, WIRE_ERRORS)
from nbdopt import ALLOCATION_DEPTH, BASE_ALLOCATION

SIMPLE, STRUCTURED, EXTENDED = "simple", "structured", "extended"
# All of them; fewer for a server that knows fewer.
MODES = tuple(os.environ.get("CONFORM_MODES", "simple structured extended").split())
CHUNKED = tuple(mode for mode in MODES if mode != SIMPLE)

CHUNK_MAGIC = 0x668e33ef
EXTENDED_REQUEST_MAGIC = 0x21e41c71
EXTENDED_CHUNK_MAGIC = 0x6e8a278c

DONE = 1

NONE = 0
OFFSET_DATA = 1
OFFSET_HOLE = 2
BLOCK_STATUS = 5
BLOCK_STATUS_EXT = 6
ERROR = 0x8001
ERROR_OFFSET = 0x8002

HOLE, ZERO = 1, 2

TEXT_MAX = 4096
PAYLOAD_DEFAULT = 1 << 25       # what an export without block sizes allows
EXTENTS_MAX = 131072

# What a command may fail with, beside EIO, EINVAL and, while stopping, ESHUTDOWN.
ERRORS_OF = {
    CMD_READ: (EOVERFLOW,),
    CMD_WRITE: (EPERM, ENOSPC),
    CMD_TRIM: (EPERM, ENOSPC, EOVERFLOW),
    CMD_CACHE: (EOVERFLOW,),
    CMD_WRITE_ZEROES: (EPERM, ENOSPC, EOVERFLOW, ENOTSUP),
    CMD_BLOCK_STATUS: (EOVERFLOW,),
}
HAS_RANGE = (CMD_READ, CMD_WRITE, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS)

# offset: what an extended chunk repeats; None in a structured one.
Chunk = namedtuple("Chunk", "flags type offset payload")
Failure = namedtuple("Failure", "error text offset")


class Violation(AssertionError):
    """The server has broken a rule of the protocol."""


def need(truth, text):
    if not truth:
        raise Violation(text)


# --- Requests -----------------------------------------------------------------

def extended_bytes(command, flags, offset, length, cookie=0, magic=EXTENDED_REQUEST_MAGIC):
    """The header of an extended request."""
    return struct.pack(">IHHQQQ", magic, flags, command, cookie, offset, length)


class Request:
    """What was asked: length is that of the effect, contexts the ids that are wanted."""

    def __init__(self, mode, command, flags, offset, length, cookie, contexts):
        self.mode, self.command, self.flags = mode, command, flags
        self.offset, self.length = offset, length
        self.cookie, self.contexts = cookie, contexts

    def __repr__(self):
        return (f"{self.mode}: command {self.command} flags {self.flags:#x} "
                f"{self.length}@{self.offset} cookie {self.cookie:#x}")

    def holds(self, offset):
        return self.offset <= offset < self.offset + self.length


# --- Replies ------------------------------------------------------------------

class Answer:
    """All that has come for one request, checked chunk by chunk."""

    def __init__(self, session, request):
        self.session, self.request = session, request
        self.simple = False         # it came as a simple reply
        self.chunks = []
        self.failures = []
        self.content = []           # (offset, bytes, or the length of a hole), as they came
        self.status = {}            # context id: [(length, flags)]
        self.done = False

    @property
    def error(self):
        return self.failures[0].error if self.failures else 0

    @property
    def text(self):
        return self.failures[0].text if self.failures else ""

    @property
    def data(self):
        """What a READ has brought; where it has brought nothing, zeroes."""
        if len(self.content) == 1 and isinstance(self.content[0][1], bytes):
            return self.content[0][1]
        data = bytearray(self.request.length)
        for offset, what in self.content:
            if isinstance(what, bytes):
                start = offset - self.request.offset
                data[start:start + len(what)] = what
        return bytes(data)

    def extents(self, context=BASE_ALLOCATION):
        """[(length, flags)] of a context by its name."""
        return self.status[self.session.contexts[context]]

    def fail(self, text):
        raise Violation(f"{self.request}: {text}")

    def need(self, truth, text):
        if not truth:
            self.fail(text)

    # --- a simple reply ---

    def take_simple(self, error, data):
        self.simple = True
        if error:
            self.take_failure(Failure(error, "", None))
        elif self.request.command == CMD_READ and data:
            self.content.append((self.request.offset, data))
        self.done = True

    # --- chunks ---

    def check_header(self, flags, kind, offset, length):
        """Before the payload is there: what its length may be."""
        self.need(not flags & ~DONE, f"chunk flags {flags:#x}")
        extended = self.session.mode == EXTENDED
        if extended:
            self.need(offset == self.request.offset, f"a chunk repeats offset {offset:#x}")
        command = self.request.command
        if kind == NONE:
            self.need(length == 0, f"NONE with {length} bytes")
            self.need(flags & DONE, "NONE without DONE")
        elif kind == OFFSET_DATA:
            self.need(command == CMD_READ, "OFFSET_DATA")
            self.need(length >= 9, f"OFFSET_DATA with {length} bytes")
            self.need(length - 8 <= self.session.max_payload,
                      f"OFFSET_DATA of {length - 8} bytes, advertised maximum "
                      f"{self.session.max_payload}")
            self.need(length - 8 <= self.request.length, f"OFFSET_DATA of {length - 8} bytes")
        elif kind == OFFSET_HOLE:
            self.need(command == CMD_READ, "OFFSET_HOLE")
            self.need(length == 12, f"OFFSET_HOLE with {length} bytes")
        elif kind == BLOCK_STATUS:
            self.need(command == CMD_BLOCK_STATUS and not extended, "BLOCK_STATUS chunk")
            self.need(length >= 12 and length % 8 == 4, f"BLOCK_STATUS with {length} bytes")
            self.need(length - 4 <= self.session.max_payload, f"BLOCK_STATUS of {length} bytes")
        elif kind == BLOCK_STATUS_EXT:
            self.need(command == CMD_BLOCK_STATUS and extended, "BLOCK_STATUS_EXT chunk")
            self.need(length >= 24 and length % 16 == 8, f"BLOCK_STATUS_EXT with {length} bytes")
            self.need(length - 8 <= self.session.max_payload,
                      f"BLOCK_STATUS_EXT of {length} bytes")
        elif kind == ERROR:
            self.need(6 <= length <= 6 + TEXT_MAX, f"ERROR with {length} bytes")
        elif kind == ERROR_OFFSET:
            self.need(command in HAS_RANGE, "ERROR_OFFSET")
            self.need(14 <= length <= 14 + TEXT_MAX, f"ERROR_OFFSET with {length} bytes")
        else:
            self.fail(f"chunk type {kind:#x}")

    def take_chunk(self, chunk):
        self.chunks.append(chunk)
        kind, payload = chunk.type, chunk.payload
        if kind == OFFSET_DATA:
            offset, = struct.unpack_from(">Q", payload)
            self.take_content(offset, payload[8:], len(payload) - 8)
        elif kind == OFFSET_HOLE:
            offset, length = struct.unpack(">QI", payload)
            self.need(length > 0, "an empty OFFSET_HOLE")
            self.take_content(offset, length, length)
        elif kind == BLOCK_STATUS:
            context, = struct.unpack_from(">I", payload)
            values = struct.unpack_from(f">{(len(payload) - 4) // 4}I", payload, 4)
            self.take_extents(context, list(zip(values[::2], values[1::2])))
        elif kind == BLOCK_STATUS_EXT:
            context, count = struct.unpack_from(">II", payload)
            self.need(len(payload) == 8 + 16 * count,
                      f"{count} extents in BLOCK_STATUS_EXT of {len(payload)} bytes")
            values = struct.unpack_from(f">{2 * count}Q", payload, 8)
            self.take_extents(context, list(zip(values[::2], values[1::2])))
        elif kind in (ERROR, ERROR_OFFSET):
            self.take_error_chunk(kind, payload)
        if chunk.flags & DONE:
            self.done = True
            self.check_complete()

    def take_content(self, offset, what, length):
        request = self.request
        self.need(request.offset <= offset and
                  offset + length <= request.offset + request.length,
                  f"content {length}@{offset} is outside")
        for other, piece in self.content:
            piece_length = len(piece) if isinstance(piece, bytes) else piece
            self.need(offset + length <= other or other + piece_length <= offset,
                      f"content {length}@{offset} overlaps {piece_length}@{other}")
        for failure in self.failures:
            self.need(failure.error != EOVERFLOW, "content after EOVERFLOW")
            self.need(failure.offset is None or
                      not offset <= failure.offset < offset + length,
                      f"content {length}@{offset} after the error for {failure.offset}")
        self.content.append((offset, what))
        if request.flags & CMD_FLAG_DF:
            self.need(len(self.content) == 1, "a second chunk of content in spite of DF")

    def take_extents(self, context, extents):
        request = self.request
        self.need(not self.failures, "status after an error")
        self.need(context in request.contexts, f"status for context {context}, not selected")
        self.need(context not in self.status, f"status for context {context} twice")
        self.need(len(extents) <= EXTENTS_MAX, f"{len(extents)} extents")
        total = 0
        for length, flags in extents:
            self.need(length > 0, "an empty extent")
            self.need(total < request.length,
                      f"an extent at {total}, past a request of {request.length}")
            if context == self.session.contexts.get(BASE_ALLOCATION):
                self.need(not flags & ~(HOLE | ZERO), f"reserved status bits: {flags:#x}")
            total += length
        self.need(request.offset + total <= self.session.size, "an extent past the export's end")
        if request.flags & CMD_FLAG_REQ_ONE:
            self.need(len(extents) == 1, f"{len(extents)} extents in spite of REQ_ONE")
            self.need(total <= request.length, f"REQ_ONE: an extent of {total} bytes")
        self.status[context] = extents

    def take_error_chunk(self, kind, payload):
        error, length = struct.unpack_from(">IH", payload)
        self.need(error != 0, "an error chunk without an error")
        tail = 8 if kind == ERROR_OFFSET else 0
        self.need(len(payload) == 6 + length + tail,
                  f"a text of {length} bytes in an error chunk of {len(payload)}")
        raw = payload[6:6 + length]
        self.need(b"\0" not in raw, f"NUL in a text: {raw!r}")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"a text that is not UTF-8: {raw!r}")
        offset = None
        if kind == ERROR_OFFSET:
            offset, = struct.unpack_from(">Q", payload, 6 + length)
            self.need(self.request.holds(offset), f"ERROR_OFFSET for {offset:#x}, outside")
        with_offset = {f.offset is not None for f in self.failures} | {offset is not None}
        self.need(len(with_offset) == 1, "ERROR and ERROR_OFFSET in one reply")
        self.need(offset is not None or not self.failures, "ERROR twice")
        self.take_failure(Failure(error, text, offset))

    def take_failure(self, failure):
        error, request, mode = failure.error, self.request, self.session.mode
        self.need(error in WIRE_ERRORS, f"error {error} is none of the protocol's")
        allowed = {EIO, EINVAL, *ERRORS_OF.get(request.command, ()), *self.session.may_fail_with}
        if mode == SIMPLE:
            allowed.discard(EOVERFLOW)
        if not request.flags & CMD_FLAG_FAST_ZERO:
            allowed.discard(ENOTSUP)
        self.need(error in allowed, f"error {error}")
        self.need(error != EOVERFLOW or not self.content, "EOVERFLOW after content")
        self.failures.append(failure)

    def check_complete(self):
        """After DONE: a success has brought everything."""
        if self.failures:
            return
        if self.request.command == CMD_READ:
            have = sum(len(w) if isinstance(w, bytes) else w for _, w in self.content)
            self.need(have == self.request.length,
                      f"{have} of {self.request.length} bytes, and DONE")
        if self.request.command == CMD_BLOCK_STATUS:
            self.need(set(self.status) == set(self.request.contexts),
                      f"status for {sorted(self.status)} of {sorted(self.request.contexts)}")


# --- Sessions -----------------------------------------------------------------

class Session:
    """A connection in transmission. contexts: {name: id}, as selected."""

    def __init__(self, conn, mode, contexts=None):
        self.conn, self.mode, self.contexts = conn, mode, dict(contexts or {})
        self.export = conn.export
        self.size = conn.export.size
        self.max_payload = (conn.export.block_size or (1, 4096, PAYLOAD_DEFAULT))[2]
        self.pending = {}           # cookie: Answer
        self.may_fail_with = set()  # what a test provokes: ESHUTDOWN, ENOMEM

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.conn.close()

    # --- asking ---

    def header(self, command, flags, offset, length, cookie=0):
        if self.mode == EXTENDED:
            return extended_bytes(command, flags, offset, length, cookie)
        return nbdraw.request_bytes(command, flags, offset, length, cookie)

    def note(self, command, flags, offset, length, cookie=None, contexts=None):
        """A request that the test is about to send by itself: its Answer to come."""
        if cookie is None:
            cookie = self.conn.next_cookie
            self.conn.next_cookie += 1
        assert cookie not in self.pending, f"the test asks twice with cookie {cookie:#x}"
        if contexts is None:
            contexts = self.contexts.values()
        answer = Answer(self, Request(self.mode, command, flags, offset, length, cookie,
                                      tuple(contexts)))
        self.pending[cookie] = answer
        return answer

    def build(self, command, flags=0, offset=0, length=0, payload=b"", cookie=None):
        """(Answer to come, bytes to send). A WRITE has PAYLOAD_LEN where it must."""
        if self.mode == EXTENDED and command == CMD_WRITE:
            flags |= CMD_FLAG_PAYLOAD_LEN
        answer = self.note(command, flags, offset, length, cookie)
        header = self.header(command, flags, offset, length, answer.request.cookie)
        return answer, header + payload

    def send(self, command, flags=0, offset=0, length=0, payload=b"", cookie=None):
        """Sends one request; its Answer, to be finished."""
        answer, data = self.build(command, flags, offset, length, payload, cookie)
        self.conn.send(data)
        return answer

    def send_many(self, requests):
        """Sends requests, each as build() takes them, in one piece; their Answers."""
        built = [self.build(*request) for request in requests]
        self.conn.send(b"".join(data for _, data in built))
        return [answer for answer, _ in built]

    def send_status(self, offset, length, ids, flags=0, payload=None, effect=None):
        """BLOCK_STATUS with a payload of its own: effect length and context ids."""
        if payload is None:
            payload = struct.pack(f">Q{len(ids)}I", length, *ids)
        answer = self.note(CMD_BLOCK_STATUS, flags | CMD_FLAG_PAYLOAD_LEN, offset,
                           length if effect is None else effect, contexts=ids)
        self.conn.send(extended_bytes(CMD_BLOCK_STATUS, flags | CMD_FLAG_PAYLOAD_LEN, offset,
                                      len(payload), answer.request.cookie) + payload)
        return answer

    # --- being answered ---

    def step(self):
        """Takes one reply or chunk, whose ever it is; that request's Answer."""
        magic, = struct.unpack(">I", self.conn.recv(4))
        if magic == SIMPLE_REPLY_MAGIC:
            return self.step_simple()
        wanted = {STRUCTURED: CHUNK_MAGIC, EXTENDED: EXTENDED_CHUNK_MAGIC}.get(self.mode)
        need(magic == wanted, f"reply magic {magic:#x} in {self.mode} mode")
        flags, kind, cookie = struct.unpack(">HHQ", self.conn.recv(12))
        offset = None
        if self.mode == EXTENDED:
            offset, length = struct.unpack(">QQ", self.conn.recv(16))
        else:
            length, = struct.unpack(">I", self.conn.recv(4))
        answer = self.answer_of(cookie)
        answer.check_header(flags, kind, offset, length)
        answer.take_chunk(Chunk(flags, kind, offset, self.conn.recv(length)))
        if answer.done:
            del self.pending[cookie]
        return answer

    def step_simple(self):
        need(self.mode != EXTENDED, "a simple reply in extended mode")
        error, cookie = struct.unpack(">IQ", self.conn.recv(12))
        answer = self.answer_of(cookie)
        command = answer.request.command
        need(self.mode == SIMPLE or command not in (CMD_READ, CMD_BLOCK_STATUS),
             f"{answer.request}: a simple reply")
        need(command != CMD_BLOCK_STATUS or error, f"{answer.request}: a simple success")
        length = answer.request.length if command == CMD_READ and error == 0 else 0
        answer.take_simple(error, self.conn.recv(length))
        del self.pending[cookie]
        return answer

    def answer_of(self, cookie):
        need(cookie in self.pending,
             f"a reply with cookie {cookie:#x}: nobody has asked, or it was answered already")
        return self.pending[cookie]

    def wait_reply(self):
        """Until some of a reply is there; it stays to be taken."""
        if not self.conn.buffer:
            self.conn.buffer = self.conn.recv_some()

    def finish(self, answer):
        """Everything up to the end of this answer; returns it."""
        while not answer.done:
            self.step()
        return answer

    def finish_all(self):
        while self.pending:
            self.step()

    # --- both ---

    def call(self, command, flags=0, offset=0, length=0, payload=b""):
        return self.finish(self.send(command, flags, offset, length, payload))

    def good(self, command, flags=0, offset=0, length=0, payload=b""):
        """A request that has to succeed."""
        answer = self.call(command, flags, offset, length, payload)
        assert answer.error == 0, f"{answer.request}: error {answer.error} {answer.text}"
        return answer

    def read(self, offset, length, flags=0):
        return self.good(CMD_READ, flags, offset, length).data

    def write(self, offset, data, flags=0):
        self.good(CMD_WRITE, flags, offset, len(data), data)

    def flush(self):
        self.good(CMD_FLUSH)

    def status(self, offset, length, flags=0, context=BASE_ALLOCATION):
        """[(length, flags)] of a context by its name."""
        return self.good(CMD_BLOCK_STATUS, flags, offset, length).extents(context)

    def alive(self, what="", length=512):
        """A READ at the start of the disk still succeeds, and its reply is all there is."""
        length = max(length, (self.export.block_size or (1,))[0])
        try:
            self.read(0, min(length, self.size))
        except (nbdraw.Closed, AssertionError) as e:
            raise AssertionError(f"{what}: no longer usable: {e}") from None

    def refused(self, error, command, flags=0, offset=0, length=0, payload=b""):
        """A request that has to fail with this error, and leaves the connection usable."""
        answer = self.call(command, flags, offset, length, payload)
        assert answer.error == error, \
            f"{answer.request}: error {answer.error} instead of {error} {answer.text}"
        self.alive(f"after {answer.request}")
        return answer

    def disconnect(self):
        """DISC: what was asked before may still be answered, nothing else comes."""
        self.conn.send(self.header(CMD_DISC, 0, 0, 0))
        self.expect_end("DISC")
        self.conn.close()

    def expect_end(self, what):
        """Whole replies to what is pending, if anything, and then the close."""
        while True:
            self.wait_reply()
            if not self.conn.buffer:
                return
            need(self.pending, f"{what}: {len(self.conn.buffer)} bytes instead of a close: "
                               f"{self.conn.buffer[:64]!r}")
            try:
                self.step()
            except nbdraw.Closed as e:
                raise Violation(f"{what}: a reply that is cut off: {e}") from None


def negotiate(conn, mode=SIMPLE, name="", contexts=(), infos=(INFO_BLOCK_SIZE,)):
    """From the first byte into transmission, in one of the three modes."""
    conn.hello()
    if mode == STRUCTURED:
        nbdopt.structured(conn)
    elif mode == EXTENDED:
        nbdopt.extended(conn)
    selected = {}
    if contexts:
        got = nbdopt.set_meta(conn, name, contexts)
        assert isinstance(got, list), f"SET_META_CONTEXT: {got:#x}"
        selected = {context.name: context.id for context in got}
        missing = set(contexts) - set(selected)
        assert not missing, f"contexts that were not selected: {missing}"
    export = conn.go(name, infos)
    assert isinstance(export, nbdraw.Export), f"GO '{name}': {export:#x}"
    return Session(conn, mode, selected)


def session(server, mode=SIMPLE, contexts=()):
    """A new connection to the server, in transmission."""
    return negotiate(server.connect(), mode, contexts=contexts)


def sessions(server, modes=MODES, contexts=()):
    """A session in each mode, one after the other, ended with DISC: nothing may be left over."""
    for mode in modes:
        with session(server, mode, contexts if mode != SIMPLE else ()) as nbd:
            yield nbd
            nbd.disconnect()


def recv_chunk(conn, mode):
    """(cookie, Chunk) for a test that asks with one cookie twice; nothing is checked."""
    if mode == STRUCTURED:
        magic, flags, kind, cookie, length = struct.unpack(">IHHQI", conn.recv(20))
        need(magic == CHUNK_MAGIC, f"reply magic {magic:#x}")
        return cookie, Chunk(flags, kind, None, conn.recv(length))
    magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQQ", conn.recv(32))
    need(magic == EXTENDED_CHUNK_MAGIC, f"reply magic {magic:#x}")
    return cookie, Chunk(flags, kind, offset, conn.recv(length))
