# SPDX-License-Identifier: MIT
"""Options that change the session: reply formats and metadata contexts.

    acked(conn, OPT_STRUCTURED_REPLY)
    contexts = set_meta(conn, "", ["base:allocation"])
    contexts = list_meta(conn, "", [])

set_meta() and list_meta() give [Context] or the number of the error; what no
server may send, whatever it was asked, is an AssertionError.
"""
import struct
from collections import namedtuple

from nbdraw import (OPT_EXTENDED_HEADERS, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
                    OPT_STRUCTURED_REPLY, REP_ACK, REP_META_CONTEXT, is_error, name_bytes)

STRING_MAX = 4096               # bytes of any string of the protocol
QUERIES_MAX = 1024              # of one option; more are ERR_TOO_BIG
BASE_ALLOCATION = "base:allocation"
ALLOCATION_DEPTH = "qemu:allocation-depth"

Context = namedtuple("Context", "id name")


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def string(text):
    """A string as options carry it: its length, and itself."""
    text = name_bytes(text)
    return u32(len(text)) + text


def meta_data(name="", queries=(), count=None):
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT; count lies if it is given."""
    return (string(name) + u32(len(queries) if count is None else count) +
            b"".join(string(query) for query in queries))


def parse_contexts(replies):
    """The contexts of a reply that ends in ACK: each name once, and as the protocol spells them."""
    contexts = []
    for reply in replies[:-1]:
        assert reply.type == REP_META_CONTEXT, f"a reply of type {reply.type:#x} before the ACK"
        assert len(reply.data) > 4, f"META_CONTEXT of {len(reply.data)} bytes"
        number, = struct.unpack(">I", reply.data[:4])
        name = reply.data[4:].decode("utf-8")
        assert len(reply.data) - 4 <= STRING_MAX, f"a context's name of {len(reply.data) - 4} bytes"
        assert "\0" not in name, f"NUL in {name!r}"
        space, colon, leaf = name.partition(":")
        assert space and colon and leaf, f"{name!r} is not namespace:leaf"
        assert name.isprintable() and " " not in name, f"{name!r} is not for printing"
        contexts.append(Context(number, name))
    names = [context.name for context in contexts]
    assert len(names) == len(set(names)), f"a context twice: {names}"
    return contexts


def _meta(conn, option, name, queries):
    replies = conn.option(option, meta_data(name, queries))
    if is_error(replies[-1].type):
        return replies[-1].type
    return parse_contexts(replies)


def list_meta(conn, name="", queries=()):
    return _meta(conn, OPT_LIST_META_CONTEXT, name, queries)


def set_meta(conn, name="", queries=(BASE_ALLOCATION,)):
    contexts = _meta(conn, OPT_SET_META_CONTEXT, name, queries)
    if isinstance(contexts, list):
        ids = [context.id for context in contexts]
        assert len(ids) == len(set(ids)), f"two contexts with one id: {contexts}"
    return contexts


def acked(conn, option, data=b""):
    """The option takes effect."""
    got = conn.option_final(option, data)
    assert got == REP_ACK, f"option {option}: {got:#x} instead of an ACK"


def structured(conn):
    acked(conn, OPT_STRUCTURED_REPLY)


def extended(conn):
    acked(conn, OPT_EXTENDED_HEADERS)
