# SPDX-License-Identifier: MIT
"""BLOCK_STATUS in all its forms, against what is known of the disk.

usage: status.py URI MODE MAP WRITABLE

MAP is what the whole disk has to look like, merged: a JSON list of [length, flags],
or null where the server may know nothing. MODE is not simple. WRITABLE is 1 where the
script may write to the disk, and holes appear where it makes them.
"""
import json
import random
import sys
from errno import EINVAL

from peer import *

uri, mode, wanted, writable = sys.argv[1:5]
wanted, writable = json.loads(wanted), writable == "1"
h = connect(uri, mode)
size = h.get_size()
REQ_ONE, FUA, PAYLOAD_LEN = nbd.CMD_FLAG_REQ_ONE, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_PAYLOAD_LEN
# The longest length of a compact request, and of one of its extents.
LONGEST = size if mode == "extended" else min(size, (1 << 32) - 512)


def flags_at(extents, at):
    for length, state in extents:
        if at < length:
            return state
        at -= length
    raise AssertionError(at)


def the_whole():
    """However it is asked for, it is the same map."""
    whole = whole_map(h, LONGEST)
    eq(sum(length for length, _ in whole), size, "length of the map")
    if wanted is not None:
        eq(whole, wanted, "the map")
    eq(whole_map(h, LONGEST, REQ_ONE), whole, "the map with REQ_ONE")
    # The library knows no use for FUA here; it has none, and is taken.
    loose = connect(uri, mode, strict=False)
    eq(whole_map(loose, LONGEST, FUA), whole, "the map with FUA")
    loose.shutdown()
    if size <= 64 * MIB:
        eq(whole_map(h, 300000), whole, "the map in pieces")
        eq(whole_map(h, 4095, REQ_ONE), whole, "the map in pieces, with REQ_ONE")
    return whole


def parts(whole):
    rng = random.Random(4)
    for _ in range(200):
        offset = rng.randrange(size)
        length = rng.randrange(1, min(size - offset, LONGEST) + 1)
        at = offset
        for flags in (0, REQ_ONE):
            for count, state in extents_at(h, length, at, flags)[:32]:
                eq(state, flags_at(whole, at), f"{length}@{offset}: state at {at}")
                at += count
            at = offset


def zeroes_are_zeroes(whole):
    """Wherever the map says ZERO, zeroes are read."""
    at = 0
    for length, state in whole:
        if state & ZERO:
            for start in {at, at + length // 2, at + max(0, length - 65536)}:
                count = min(65536, at + length - start)
                eq(h.pread(count, start), bytes(count), f"zeroes {count}@{start}")
        at += length


def narrow():
    """The call of 32 bits: the same, in shorter extents."""
    count = min(size, 1 << 20)
    found = []

    def extent(context, at, entries, error):
        found.append((context, at, list(entries), error.value))
        return 0

    h.block_status(count, 0, extent)
    eq([call[:2] + call[3:] for call in found], [(BASE, 0, 0)], "contexts of the reply")
    pairs = found[0][2]
    check_extents(h, "32 bits", list(zip(pairs[::2], pairs[1::2])), count, 0)


def both_contexts():
    """Each context once in a reply, of the same disk."""
    both = connect(uri, mode, contexts=(BASE, DEPTH))
    for flags in (0, REQ_ONE):
        at = 0
        for _ in range(50):
            replies = replies_at(both, min(size - at, LONGEST), at, flags)
            eq(set(replies), {BASE, DEPTH}, f"{at}: contexts")
            length, state = replies[BASE][0]
            eq(flags_at(replies[DEPTH], 0), 0 if state & HOLE else 1,
               f"{at}: depth where the flags are {state}")
            at += length
            if at >= size:
                break
    if mode == "extended":
        plain = replies_at(both, size, 0)
        for only in ([BASE], [DEPTH], [BASE, DEPTH], [DEPTH, BASE]):
            eq(replies_at(both, size, 0, 0, only), {name: plain[name] for name in only},
               f"only {only}")
        eq(replies_at(both, 1, size - 1, REQ_ONE, [DEPTH])[DEPTH][0][0], 1, "the last byte")
    both.shutdown()


def payload_refused():
    """The form with a payload, when the payload is wrong."""
    eq(h.can_block_status_payload(), mode == "extended", "BLOCK_STATUS_PAYLOAD")
    if mode != "extended":
        return
    loose = connect(uri, mode, strict=False)
    for contexts in ([], [BASE, BASE]):
        fails(EINVAL, f"a payload of {contexts}", replies_at, loose, 512, 0, PAYLOAD_LEN, contexts)
    for length, offset in ((0, 0), (512, size), (size + 1, 0), ((1 << 64) - 1, 0),
                           ((1 << 64) - 512, 512)):
        fails(EINVAL, f"a payload, {length}@{offset}", replies_at, loose, length, offset,
              PAYLOAD_LEN, [BASE])
    eq(replies_at(loose, size, 0, PAYLOAD_LEN, [BASE]), replies_at(h, size, 0),
       "a payload, after the refusals")
    loose.shutdown()


def what_changes():
    """It follows what is written, at once, on this connection and on others."""
    other = connect(uri, mode)
    unit, at = MIB, size - 8 * MIB

    def state(where=at, length=unit):
        both = [merged(extents_at(handle, length, where, REQ_ONE)) for handle in (h, other)]
        eq(both[0], both[1], "the same on two connections")
        eq(both[0][0][0], length, "one extent")
        return both[0][0][1]

    h.zero(4 * unit, at)
    eq(state(length=4 * unit) & ZERO, ZERO, "after WRITE_ZEROES")
    h.pwrite(b"x" * unit, at + unit)
    eq([state(at + i * unit) for i in range(3)], [state(at), 0, state(at + 2 * unit)],
       "after a WRITE")
    eq(state(at) & ZERO, ZERO, "in front of it")
    eq(state(at + 2 * unit) & ZERO, ZERO, "behind it")
    # What has storage and was never written may be told as a hole, or as data.
    h.zero(unit, at + 2 * unit, nbd.CMD_FLAG_NO_HOLE)
    assert state(at + 2 * unit) in (0, ZERO, HOLE | ZERO), "after WRITE_ZEROES with NO_HOLE"
    h.zero(unit, at + unit)
    eq(state(at + unit) & ZERO, ZERO, "after zeroes over data")
    h.pwrite(b"y" * unit, at + unit)
    h.trim(unit, at + unit)
    eq(state(at + unit), HOLE | ZERO, "after TRIM")
    zeroes_are_zeroes(whole_map(h, LONGEST))
    other.shutdown()


the_map = the_whole()
parts(the_map)
zeroes_are_zeroes(the_map)
narrow()
both_contexts()
payload_refused()
if writable:
    what_changes()
h.shutdown()
