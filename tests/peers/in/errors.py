# SPDX-License-Identifier: MIT
"""What the library refuses by itself, the server refuses too, with the right number.

usage: errors.py URI MODE

The disk is of 1 MiB; it is read-only or not, and takes TRIM or not. Nothing on it is
changed.
"""
import sys
from errno import EINVAL, ENOSPC, EPERM

from peer import *

SIZE = MIB
END = 1 << 64

uri, mode = sys.argv[1:3]
h = connect(uri, mode, strict=False)
read_only = h.is_read_only()
before = h.pread(SIZE, 0)

# Name, call of a length, an offset and flags, error beyond the end, flags taken
# (but for PAYLOAD_LEN).
FUA = nbd.CMD_FLAG_FUA
COMMANDS = [
    ("READ", lambda n, at, flags=0: h.pread(n, at, flags), EINVAL,
     FUA | (nbd.CMD_FLAG_DF if mode != "simple" else 0)),
    ("WRITE", lambda n, at, flags=0: h.pwrite(b"x" * n, at, flags), ENOSPC, FUA),
    ("TRIM", lambda n, at, flags=0: h.trim(n, at, flags), EINVAL, FUA),
    ("CACHE", lambda n, at, flags=0: h.cache(n, at, flags), EINVAL, FUA),
    ("WRITE_ZEROES", lambda n, at, flags=0: h.zero(n, at, flags), ENOSPC,
     FUA | nbd.CMD_FLAG_NO_HOLE | (nbd.CMD_FLAG_FAST_ZERO if h.can_fast_zero() else 0)),
    ("BLOCK_STATUS", lambda n, at, flags=0: h.block_status_64(n, at, lambda *_: 0, flags), EINVAL,
     FUA | nbd.CMD_FLAG_REQ_ONE),
]
WRITES = ("WRITE", "TRIM", "WRITE_ZEROES")
LENGTH_ONLY = ("TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS")


def not_offered(name):
    return name == "TRIM" and not h.can_trim() or name == "BLOCK_STATUS" and mode == "simple"


def payload_flag(name):
    """Without the library's help a WRITE has to say itself that it has a payload."""
    return nbd.CMD_FLAG_PAYLOAD_LEN if mode == "extended" and name == "WRITE" else 0


def refused(wanted, name, call, length, offset, flags=0):
    if read_only and name in WRITES and not flags_wrong(name, flags):
        wanted = EPERM
    elif not_offered(name):
        wanted = EINVAL
    fails(wanted, f"{name} {length}@{offset}, flags {flags:#x}", call, length, offset,
          flags | payload_flag(name))


def flags_wrong(name, flags):
    return flags & ~next(command[3] for command in COMMANDS if command[0] == name)


def beyond_the_end():
    for name, call, error, _ in COMMANDS:
        for length, offset in ((512, SIZE), (512, SIZE - 256), (1, SIZE), (SIZE + 1, 0),
                               (512, (1 << 63) - 256), (512, 1 << 63), (512, END - 512),
                               (512, END - 256), (0, SIZE + 1), (0, END - 1)):
            refused(error, name, call, length, offset)
        if name in LENGTH_ONLY:
            lengths = [(1 << 32) - 1, (1 << 32) - 512, 1 << 31]
            if mode == "extended":
                lengths += [1 << 32, (1 << 32) + 512, 1 << 62, 1 << 63, END - 512, END - 1]
            for length in lengths:
                for offset in (0, 512, SIZE - 1, SIZE):
                    refused(error, name, call, length, offset)


def unknown_flags():
    for name, call, _, taken in COMMANDS:
        for bit in range(16):
            flag = 1 << bit
            # Elsewhere the library would send PAYLOAD_LEN, but no payload.
            if flag & taken or flag == nbd.CMD_FLAG_PAYLOAD_LEN and mode == "extended":
                continue
            refused(EINVAL, name, call, 512, 0, flag)
            refused(EINVAL, name, call, 512, 0, flag | FUA)
            # A wrong flag is told before a wrong range.
            refused(EINVAL, name, call, 512, SIZE, flag)
        if name not in WRITES and not not_offered(name):
            call(512, 0, FUA)
    h.flush(FUA)
    for bit in range(1, 16):
        flag = 1 << bit
        if not (flag == nbd.CMD_FLAG_PAYLOAD_LEN and mode == "extended"):
            fails(EINVAL, f"FLUSH, flags {flag:#x}", h.flush, flag)


def zero_length():
    for name, call, _, _ in COMMANDS:
        for offset in (0, 1, SIZE):
            if read_only and name in WRITES:
                refused(EPERM, name, call, 0, offset)
            elif name == "BLOCK_STATUS" or not_offered(name):
                refused(EINVAL, name, call, 0, offset)
            else:
                call(0, offset, payload_flag(name))
                call(0, offset, FUA | payload_flag(name))


def no_context():
    """BLOCK_STATUS where no context was asked for."""
    other = connect(uri, mode, strict=False, contexts=())
    fails(EINVAL, "BLOCK_STATUS without a context", other.block_status_64, 512, 0, lambda *_: 0)
    eq(other.pread(512, 0), before[:512], "READ after it")
    other.shutdown()


def still_in_order():
    eq(h.pread(SIZE, 0), before, "the disk")
    if not read_only:
        h.pwrite(before[-512:], SIZE - 512, payload_flag("WRITE"))
        # Without its flag the length of a WRITE is that of its payload all the same.
        h.pwrite(before[:512], 0)
        h.flush()
        eq(h.pread(SIZE, 0), before, "the disk after writing what was there")


beyond_the_end()
unknown_flags()
zero_length()
no_context()
still_in_order()
h.shutdown()
