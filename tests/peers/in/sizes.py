# SPDX-License-Identifier: MIT
"""What is announced of block sizes, and what becomes of requests that do not fit.

usage: sizes.py URI MODE MINIMUM PREFERRED MAXIMUM BOUND

BOUND is 1 where a client that asks for the sizes has to keep to the minimum.
"""
import sys
from errno import EINVAL, EOVERFLOW

from peer import *

uri, mode = sys.argv[1:3]
minimum, preferred, maximum, bound = map(int, sys.argv[3:])


def opened(asks):
    h = nbd.NBD()
    h.set_request_block_size(asks)
    h.set_request_structured_replies(mode != "simple")
    h.set_request_extended_headers(mode == "extended")
    if mode != "simple":
        h.add_meta_context(BASE)
    # Its own checks of alignment and length off, its own flags on.
    h.set_strict_mode(nbd.STRICT_AUTO_FLAG)
    h.connect_uri(uri)
    return h


def commands(h, length, offset):
    yield "READ", lambda: h.pread(length, offset)
    yield "CACHE", lambda: h.cache(length, offset)
    if mode != "simple":
        yield "BLOCK_STATUS", lambda: extents_at(h, length, offset)
    yield "WRITE", lambda: h.pwrite(bytes(length), offset)
    yield "WRITE_ZEROES", lambda: h.zero(length, offset)
    yield "TRIM", lambda: h.trim(length, offset)


h = opened(True)
size = h.get_size()
eq([h.get_block_size(which) for which in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)],
   [minimum, preferred, maximum], "sizes")
for length, offset in ((1, 1), (minimum + 1, 0), (minimum, 1), (minimum + 1, minimum),
                       (minimum // 2 + 1, minimum), (size - 1, 0)):
    for name, command in commands(h, length, offset):
        if bound and (length % minimum or offset % minimum):
            fails(EINVAL, f"{name} {length}@{offset}", command)
        else:
            command()
for length, offset in ((minimum, 0), (2 * minimum, minimum), (size, 0)):
    for _, command in commands(h, length, offset):
        command()
# The longest payload is no limit to what is served.
much = min(2 * maximum, size)
assert much > maximum
h.pwrite(b"x" * much, 0)
eq(h.pread(much, 0), b"x" * much, "more than the maximum")
if mode != "simple":
    # In one chunk, that is: one chunk's payload at most.
    eq(h.pread_structured(maximum, 0, lambda *_: 0, nbd.CMD_FLAG_DF), b"x" * maximum, "with DF")
    fails(EOVERFLOW, "more than the maximum with DF", h.pread_structured, much, 0, lambda *_: 0,
          nbd.CMD_FLAG_DF)
h.shutdown()

# Who does not ask is bound by nothing.
h = opened(False)
for length, offset in ((1, 0), (511, 1), (4097, minimum - 1)):
    h.pwrite(b"y" * length, offset)
    eq(h.pread(length, offset), b"y" * length, f"{length}@{offset}, when not asked for")
    for _, command in commands(h, length, offset):
        command()
h.shutdown()
