# SPDX-License-Identifier: MIT
"""How a READ of the whole disk comes: which parts as data, and which as holes.

usage: holes.py URI MODE WANTED

WANTED is a JSON list of [length, kind], merged; kind is "data" or "hole".
"""
import json
import sys

from peer import *

uri, mode, wanted = sys.argv[1:4]
h = connect(uri, mode)
size = h.get_size()
chunks = []


def chunk(data, at, kind, error):
    chunks.append((at, len(data), "hole" if kind == nbd.READ_HOLE else "data", error.value))
    return 0


buf = h.pread_structured(size, 0, chunk)
assert not any(error for *_, error in chunks), chunks
eq(merged((length, kind) for _, length, kind, _ in sorted(chunks)), json.loads(wanted), "chunks")
# The same bytes as in one piece, in which holes are zeroes.
chunks.clear()
eq(h.pread_structured(size, 0, chunk, nbd.CMD_FLAG_DF), buf, "data with DF")
eq(len(chunks), 1, "chunks with DF")
eq(h.pread(size, 0), buf, "data of a plain READ")
h.shutdown()
