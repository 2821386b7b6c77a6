# SPDX-License-Identifier: MIT
"""Every command that moves or changes bytes, against a model of the disk.

usage: transfers.py URI MODE FILE

FILE holds the disk's bytes after a flush ("-": nobody can look at them). The disk
is empty at first, 8 MiB or more; only the first 8 MiB are used.
"""
import errno
import random
import sys

from peer import *

SIZE = 8 * MIB

uri, mode, file = sys.argv[1:4]
h = connect(uri, mode)
model = bytearray(SIZE)
rng = random.Random(f"transfers {mode}")


def somewhere(longest):
    length = rng.choice((1, 511, 512, 4096, 70000, longest, rng.randrange(1, longest)))
    return rng.randrange(SIZE - length), length


def check_file(what):
    h.flush()
    if file != "-":
        with open(file, "rb") as f:
            eq(f.read(SIZE), model, f"{what}: the file")


def check_read(offset, length):
    eq(h.pread(length, offset), model[offset:offset + length], f"READ {length}@{offset}")


def check_read_in_chunks(offset, length, flags=0):
    """The chunks cover the request, each byte once."""
    what = f"READ {length}@{offset}, flags {flags}"
    chunks = []

    def chunk(data, at, kind, error):
        chunks.append((at, bytes(data), kind, error.value))
        return 0

    buf = h.pread_structured(length, offset, chunk, flags)
    eq(buf, model[offset:offset + length], what)
    at = offset
    for start, data, kind, error in sorted(chunks):
        eq((start, error), (at, 0), f"{what}: start of a chunk")
        assert data and kind in (nbd.READ_DATA, nbd.READ_HOLE), f"{what}: chunk {kind}"
        # Of a hole the library shows the zeroes that it stands for.
        eq(data, model[at:at + len(data)], f"{what}: chunk")
        at += len(data)
    eq(at, offset + length, f"{what}: end of the last chunk")
    if flags & nbd.CMD_FLAG_DF:
        eq(len(chunks), 1, f"{what}: chunks in spite of DF")


def change_once():
    """One synchronous command that changes the disk, with every flag it takes."""
    offset, length = somewhere(1 << 18)
    fua = rng.choice((0, nbd.CMD_FLAG_FUA))
    kind = rng.randrange(5 if h.can_fast_zero() else 4)
    if kind < 2:
        data = rng.randbytes(length)
        h.pwrite(data, offset, fua)
    elif kind == 2:
        data = bytes(length)
        h.zero(length, offset, fua | rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
    elif kind == 4:
        data = bytes(length)
        before = bytes(model[offset:offset + length])
        try:
            h.zero(length, offset, fua | nbd.CMD_FLAG_FAST_ZERO)
        except nbd.Error as e:
            eq(e.errnum, errno.ENOTSUP, "FAST_ZERO refused")
            eq(h.pread(length, offset), before, "contents after a refused FAST_ZERO")
            data = before
    else:
        # What was trimmed is anything: it is written before it is looked at.
        h.trim(length, offset, fua)
        data = rng.randbytes(length)
        h.pwrite(data, offset)
    model[offset:offset + length] = data


def synchronous():
    for _ in range(150):
        change_once()
        check_read(*somewhere(1 << 18))
    check_file("synchronous commands")
    h.cache(1 << 20, 4096)
    for _ in range(20):
        check_read_in_chunks(*somewhere(2 * MIB))
    # Holes and data in one reply.
    h.zero(3 * MIB, MIB)
    model[MIB:4 * MIB] = bytes(3 * MIB)
    h.pwrite(b"x" * 4096, 2 * MIB)
    model[2 * MIB:2 * MIB + 4096] = b"x" * 4096
    check_read_in_chunks(0, SIZE)
    check_read_in_chunks(100000, 5 * MIB + 1)
    if mode != "simple":
        eq(h.can_df(), True, "DF")
        for _ in range(20):
            check_read_in_chunks(*somewhere(65536), nbd.CMD_FLAG_DF)
        check_read_in_chunks(MIB + 1, 2 * MIB, nbd.CMD_FLAG_DF)
    else:
        eq(h.can_df(), False, "DF")


def asynchronous():
    """Disjoint writes and zeroes, many at a time; reads of what is still."""
    waiting = {}
    slots = list(range(0, SIZE, 32768))
    rng.shuffle(slots)
    for i, offset in enumerate(slots):
        length = rng.randrange(1, 32769)
        if i % 3 == 0:
            model[offset:offset + length] = bytes(length)
            waiting[h.aio_zero(length, offset)] = None
        else:
            data = rng.randbytes(length)
            model[offset:offset + length] = data
            waiting[h.aio_pwrite(nbd.Buffer.from_bytearray(data), offset)] = None
        drain(h, waiting, 63)
    waiting[h.aio_cache(SIZE, 0)] = None
    drain(h, waiting, 0)
    check_file("asynchronous commands")
    for i in range(1000):
        offset, length = somewhere(65536)
        buf = nbd.Buffer(length)

        def done(buf=buf, offset=offset, length=length):
            eq(buf.to_bytearray(), model[offset:offset + length], f"{length}@{offset}")

        waiting[h.aio_pread(buf, offset)] = done
        drain(h, waiting, 63)
    drain(h, waiting, 0)


synchronous()
asynchronous()
h.shutdown()
