# SPDX-License-Identifier: MIT
"""Lengths and offsets beyond 4 GiB, on a disk of 1 TiB that is empty at first.

usage: lengths.py URI MODE
"""
import sys

from peer import *

TIB = 1 << 40
GIB = 1 << 30

uri, mode = sys.argv[1:3]
h = connect(uri, mode)
eq(h.get_size(), TIB, "size")
# What one request may ask for.
LONGEST = TIB if mode == "extended" else (1 << 32) - 4096
MARKS = (0, 4 * GIB - 4096, 4 * GIB, 4 * GIB + 8192, 9 * GIB, 600 * GIB, TIB - 4096)


def in_pieces(call, offset, end, *flags):
    """One request where the headers allow it, else as few as they allow."""
    while offset < end:
        length = min(LONGEST, end - offset)
        call(length, offset, *flags)
        offset += length


def mark():
    for at in MARKS:
        h.pwrite(at.to_bytes(8, "big") * 512, at)


def marks_in(*gone):
    """The marks are there, but for those in the ranges that are gone."""
    for at in MARKS:
        lost = any(start <= at < end for start, end in gone)
        eq(h.pread(4096, at), bytes(4096) if lost else at.to_bytes(8, "big") * 512, f"mark {at}")


def status():
    if mode == "simple":
        return
    extents = whole_map(h, LONGEST)
    at, data = 0, []
    for length, state in extents:
        if state == 0:
            data.append((at, at + length))
        at += length
    eq(at, TIB, "length of the map")
    for start in MARKS:
        assert any(low <= start and start + 4096 <= high for low, high in data), \
            f"{start} is no data: {data}"
    assert sum(high - low for low, high in data) <= len(MARKS) * MIB, f"too much data: {data}"
    first = extents_at(h, LONGEST - 10 * GIB if mode == "extended" else LONGEST, 9 * GIB)
    if mode == "extended":
        assert max(length for length, _ in first) > 1 << 32, f"no extent is long: {first[:4]}"
    else:
        # Extents of 32 bits that end where blocks do.
        assert all(length % 512 == 0 for length, _ in first), first[:4]


mark()
marks_in()
status()

# From the middle of nowhere across 4 GiB, and not a byte more.
in_pieces(h.zero, 4 * GIB - 2048, 9 * GIB)
eq(h.pread(2048, 4 * GIB - 4096), (4 * GIB - 4096).to_bytes(8, "big") * 256, "in front")
eq(h.pread(2048, 4 * GIB - 2048), bytes(2048), "the first zeroes")
h.pwrite((4 * GIB - 4096).to_bytes(8, "big") * 512, 4 * GIB - 4096)
marks_in((4 * GIB, 9 * GIB))

mark()
in_pieces(h.zero, 4096, TIB - 4096, nbd.CMD_FLAG_FUA)
marks_in((4096, TIB - 4096))

# The rules promise nothing of what was trimmed. These disks give it back, as zeroes.
mark()
in_pieces(h.trim, 4096, TIB - 4096, nbd.CMD_FLAG_FUA)
marks_in((4096, TIB - 4096))

mark()
marks_in()
if h.can_fast_zero():
    in_pieces(h.zero, 0, TIB, nbd.CMD_FLAG_FAST_ZERO)
    marks_in((0, TIB))
    mark()
in_pieces(h.cache, TIB - 64 * MIB, TIB)
status()
h.flush()
h.shutdown()
