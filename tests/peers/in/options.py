# SPDX-License-Identifier: MIT
"""The handshake option by option: extended headers, structured replies, contexts.

usage: options.py URI

URI names no export; the server has "a" (1 MiB), which is the default, and "b" (2 MiB).
"""
import sys
from errno import EINVAL, ENOTSUP

from peer import *

uri = sys.argv[1]

# The library's number for every error reply to an option about contexts.
REFUSED = ENOTSUP


def negotiating(strict=True):
    """A handle in the middle of its handshake, with nothing agreed on yet."""
    h = nbd.NBD()
    h.set_request_structured_replies(False)
    h.set_request_extended_headers(False)
    h.set_request_meta_context(False)
    h.set_opt_mode(True)
    if not strict:
        h.set_strict_mode(0)
    h.connect_uri(uri)
    return h


def contexts_of(call, *queries):
    found = []
    count = call(*queries, found.append)
    eq(count, len(found), "contexts counted")
    return found


def go(h, name, size):
    h.set_export_name(name)
    h.opt_go()
    eq(h.get_size(), size, f"size of {name}")
    eq(h.pread(512, 512), bytes(512), "data")


def headers_in_every_order():
    for options in ((), ("structured",), ("extended",), ("structured", "extended")):
        h = negotiating()
        for option in options:
            eq(h.opt_structured_reply() if option == "structured" else h.opt_extended_headers(),
               True, option)
        eq(h.get_structured_replies_negotiated(), bool(options), f"{options}: structured")
        eq(h.get_extended_headers_negotiated(), "extended" in options, f"{options}: extended")
        h.opt_info()
        eq(h.can_df(), bool(options), f"{options}: DF after INFO")
        go(h, "b", 2 * MIB)
        eq(h.can_df(), bool(options), f"{options}: DF after GO")
        h.shutdown()


def twice():
    """A second time is refused, and changes nothing."""
    h = negotiating(strict=False)
    eq(h.opt_structured_reply(), True, "structured replies")
    eq(h.opt_structured_reply(), False, "structured replies a second time")
    eq(h.opt_extended_headers(), True, "extended headers")
    eq(h.opt_extended_headers(), False, "extended headers a second time")
    eq(h.opt_structured_reply(), False, "structured replies after extended headers")
    go(h, "a", MIB)
    h.shutdown()


def lists():
    """LIST_META_CONTEXT with wildcards, what nobody knows, and nothing."""
    h = negotiating()
    h.opt_structured_reply()
    for queries, wanted in (([], True), (["base:"], True), ([BASE], True), ([BASE, BASE], True),
                            (["base:", BASE, "base:none"], True), (["base:none"], False),
                            (["x-nobody:thing"], False), (["x-nobody:"], False),
                            (["base"], False)):
        found = contexts_of(h.opt_list_meta_context_queries, queries)
        eq(found.count(BASE), 1 if wanted else 0, f"LIST_META_CONTEXT {queries}: {found}")
        eq(len(set(found)), len(found), f"LIST_META_CONTEXT {queries}: twice")
    h.set_export_name("none")
    fails(REFUSED, "LIST_META_CONTEXT of an absent export", h.opt_list_meta_context_queries, [],
          lambda *_: 0)
    go(h, "a", MIB)
    h.shutdown()


def sets():
    """SET_META_CONTEXT selects what is named, once, and nothing else."""
    for extended in (False, True):
        h = negotiating()
        eq(h.opt_extended_headers() if extended else h.opt_structured_reply(), True, "headers")
        for queries, wanted in (([BASE], [BASE]), ([], []), (["base:"], []), ([BASE, BASE], [BASE]),
                                (["x-nobody:thing", BASE, "base:none"], [BASE]),
                                (["base:none"], []), (["x-nobody:"], [])):
            eq(contexts_of(h.opt_set_meta_context_queries, queries), wanted,
               f"SET_META_CONTEXT {queries}")
            eq(h.can_meta_context(BASE), BASE in wanted, f"after SET_META_CONTEXT {queries}")
        # The last one counts.
        h.opt_set_meta_context_queries([BASE], lambda *_: 0)
        go(h, "", MIB)
        eq(h.can_meta_context(BASE), True, "after GO")
        eq(h.can_block_status_payload(), extended, "BLOCK_STATUS_PAYLOAD")
        extents_at(h, MIB, 0)
        h.shutdown()


def replaced_by_nothing():
    h = negotiating(strict=False)
    h.opt_structured_reply()
    h.opt_set_meta_context_queries([BASE], lambda *_: 0)
    h.opt_set_meta_context_queries([], lambda *_: 0)
    go(h, "", MIB)
    fails(EINVAL, "BLOCK_STATUS without a context", h.block_status_64, 512, 0, lambda *_: 0)
    h.shutdown()


def for_another_export():
    """Contexts are one export's: after GO to another there are none."""
    h = negotiating(strict=False)
    h.opt_structured_reply()
    h.set_export_name("a")
    h.opt_set_meta_context_queries([BASE], lambda *_: 0)
    go(h, "b", 2 * MIB)
    fails(EINVAL, "BLOCK_STATUS without a context", h.block_status_64, 512, 0, lambda *_: 0)
    h.shutdown()

    # The failure of a later one counts as well.
    h = negotiating(strict=False)
    h.opt_structured_reply()
    h.opt_set_meta_context_queries([BASE], lambda *_: 0)
    h.set_export_name("none")
    fails(REFUSED, "SET_META_CONTEXT of an absent export", h.opt_set_meta_context_queries, [BASE],
          lambda *_: 0)
    go(h, "", MIB)
    fails(EINVAL, "BLOCK_STATUS without a context", h.block_status_64, 512, 0, lambda *_: 0)
    h.shutdown()


def before_headers():
    """Without structured replies contexts may be listed, and not be set."""
    h = negotiating(strict=False)
    eq(BASE in contexts_of(h.opt_list_meta_context_queries, []), True, "LIST_META_CONTEXT")
    fails(REFUSED, "SET_META_CONTEXT", h.opt_set_meta_context_queries, [BASE], lambda *_: 0)
    go(h, "b", 2 * MIB)
    h.shutdown()


headers_in_every_order()
twice()
lists()
sets()
replaced_by_nothing()
for_another_export()
before_headers()
