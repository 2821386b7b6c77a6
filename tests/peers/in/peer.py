# SPDX-License-Identifier: MIT
"""What the scripts of this folder share. They run inside the new root, on libnbd."""
import errno

import nbd

MIB = 1 << 20

# The contexts, and the flags of the first.
BASE = "base:allocation"
DEPTH = "qemu:allocation-depth"
HOLE, ZERO = nbd.STATE_HOLE, nbd.STATE_ZERO


def eq(actual, wanted, what=""):
    if actual != wanted:
        # Of long data only where they differ.
        if isinstance(actual, (bytes, bytearray)) and len(wanted) > 64:
            at = next((i for i, (a, b) in enumerate(zip(actual, wanted)) if a != b), -1)
            raise AssertionError(f"{what}: {len(actual)} bytes, of {len(wanted)}; "
                                 f"the first that differs is {at}")
        raise AssertionError(f"{what}: {actual!r} instead of {wanted!r}")


def fails(wanted, what, function, *args):
    """The server, or the library, refuses a call with one of these errors."""
    wanted = (wanted,) if isinstance(wanted, int) else wanted
    try:
        function(*args)
    except nbd.Error as e:
        assert e.errnum in wanted, f"{what}: {e} instead of " + \
            " or ".join(errno.errorcode[number] for number in wanted)
        return
    raise AssertionError(f"{what} succeeded")


def connect(uri, mode, strict=True, contexts=(BASE,)):
    """A handle that has agreed on MODE, and nothing less, with the server."""
    h = nbd.NBD()
    h.set_request_structured_replies(mode != "simple")
    h.set_request_extended_headers(mode == "extended")
    for context in contexts:
        h.add_meta_context(context)
    if not strict:
        h.set_strict_mode(0)
    h.connect_uri(uri)
    eq(h.get_structured_replies_negotiated(), mode != "simple", "structured replies")
    eq(h.get_extended_headers_negotiated(), mode == "extended", "extended headers")
    if mode != "simple":
        for context in contexts:
            eq(h.can_meta_context(context), True, context)
    return h


def drain(h, waiting, most):
    """Waits until at most so many of these asynchronous commands are under way."""
    while len(waiting) > most:
        h.poll(-1)
        for cookie in [c for c in waiting if h.aio_command_completed(c)]:
            done = waiting.pop(cookie)
            if done:
                done()


# --- Extents ------------------------------------------------------------------

def merged(extents):
    """Neighbours that are alike as one: [[length, flags]]."""
    result = []
    for length, flags in extents:
        if result and result[-1][1] == flags:
            result[-1][0] += length
        else:
            result.append([length, flags])
    return result


def replies_at(h, length, offset, flags=0, only=None):
    """What one BLOCK_STATUS brings: {context: [(length, flags)]}; of these only."""
    found = []

    def extent(context, at, entries, error):
        found.append((context, at, [tuple(entry) for entry in entries], error.value))
        return 0

    if only is None:
        h.block_status_64(length, offset, extent, flags)
    else:
        h.block_status_filter(length, offset, only, extent, flags)
    for context, at, entries, error in found:
        what = f"{context}, {length}@{offset}"
        eq((at, error), (offset, 0), what)
        check_extents(h, what, entries, length, offset, flags)
    replies = {context: entries for context, _, entries, _ in found}
    eq(len(replies), len(found), f"{length}@{offset}: contexts, each once")
    return replies


def extents_at(h, length, offset, flags=0):
    """The same of the one context that there is: [(length, flags)]."""
    replies = replies_at(h, length, offset, flags)
    eq(list(replies), [BASE], f"{length}@{offset}: contexts")
    for _, state in replies[BASE]:
        eq(state & ~(HOLE | ZERO), 0, f"{length}@{offset}: unknown flags")
    return replies[BASE]


def check_extents(h, what, entries, length, offset, flags=0):
    what = f"{what}: {entries[:8]}"
    assert entries, f"{what}: no extents"
    total = sum(entry[0] for entry in entries)
    assert all(size > 0 for size, _ in entries), f"{what}: an empty extent"
    assert total - entries[-1][0] < length, f"{what}: more than the last is beyond the request"
    assert offset + total <= h.get_size(), f"{what}: beyond the end"
    if flags & nbd.CMD_FLAG_REQ_ONE:
        eq(len(entries), 1, f"{what}: extents with REQ_ONE")
        assert total <= length, f"{what}: longer than the request with REQ_ONE"


def whole_map(h, step=None, flags=0):
    """The whole disk, asked for in requests of at most STEP bytes."""
    size, at, result = h.get_size(), 0, []
    step = step or size
    while at < size:
        for length, state in extents_at(h, min(step, size - at), at, flags):
            result.append((length, state))
            at += length
    return merged(result)
