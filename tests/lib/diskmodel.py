# SPDX-License-Identifier: MIT
"""Random commands on four connections at depth 16, every reply against a model of the disk.

    run(server, SIZE, seed)
"""
import random
import select

from nbdraw import *
from server import eq

AREA = 32 * 1024                # requests stay within one; one in flight per area


class Model:
    """The disk as it has to be; TRIM leaves bytes of which either value is right."""

    def __init__(self, size):
        self.data = bytearray(size)
        self.unsure = bytearray(size)

    def write(self, offset, data):
        self.data[offset:offset + len(data)] = data
        self.unsure[offset:offset + len(data)] = bytes(len(data))

    def trim(self, offset, length):
        self.unsure[offset:offset + length] = b"\1" * length

    def read(self, offset, data):
        """Whether a read is right; what it saw is then known."""
        end = offset + len(data)
        if data != self.data[offset:end]:
            for i, byte in enumerate(data):
                at = offset + i
                if byte != self.data[at] and not (self.unsure[at] and byte == 0):
                    return f"byte {at} is {byte:#x} instead of {self.data[at]:#x}"
            self.data[offset:end] = data
        self.unsure[offset:end] = bytes(len(data))
        return None


def operation(rng, unit, areas_free):
    area = rng.choice(areas_free)
    offset = area * AREA + rng.randrange(AREA // unit) * unit
    most = (area + 1) * AREA - offset
    length = min(most, max(unit, rng.choice((unit, 512, 4096, rng.randrange(1, AREA)))
                           // unit * unit))
    command = rng.choice((CMD_READ, CMD_READ, CMD_READ, CMD_WRITE, CMD_WRITE, CMD_WRITE,
                          CMD_WRITE_ZEROES, CMD_TRIM, CMD_CACHE, CMD_FLUSH))
    flags = CMD_FLAG_FUA if rng.randrange(8) == 0 else 0
    if command == CMD_WRITE_ZEROES and rng.randrange(2):
        flags |= CMD_FLAG_NO_HOLE
    if command == CMD_FLUSH:
        offset = length = 0
    return area, command, flags, offset, length


def run(server, size, seed, unit=1, operations=6000):
    """Requests are whole units. Returns what is on the disk in the end, which is zeroes at first."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    model = Model(size)
    conns = [server.open() for _ in range(4)]
    flying = [{} for _ in conns]
    free = set(range(size // AREA))
    started = 0
    while started < operations or any(flying):
        for conn, mine in zip(conns, flying):
            while started < operations and len(mine) < 16:
                area, command, flags, offset, length = operation(rng, unit, sorted(free))
                payload = rng.randbytes(length) if command == CMD_WRITE else b""
                cookie = conn.send_request(command, flags, offset, length, payload)
                mine[cookie] = (area, command, offset, length, payload)
                free.discard(area)
                started += 1
        ready = [i for i, conn in enumerate(conns) if flying[i] and
                 (conn.buffer or select.select([conn.sock], [], [], 0)[0])]
        for i in ready or [j for j, mine in enumerate(flying) if mine][:1]:
            conn, mine = conns[i], flying[i]
            reply = conn.reply(lambda c, m=mine: m[c][3] if m[c][1] == CMD_READ else 0)
            area, command, offset, length, payload = mine.pop(reply.cookie)
            what = f"seed {seed}: command {command} {length}@{offset}"
            eq(reply.error, 0, what)
            if command == CMD_READ:
                wrong = model.read(offset, reply.data)
                assert wrong is None, f"{what}: {wrong}"
            elif command == CMD_WRITE:
                model.write(offset, payload)
            elif command == CMD_WRITE_ZEROES:
                model.write(offset, bytes(length))
            elif command == CMD_TRIM:
                model.trim(offset, length)
            free.add(area)
    conns[0].flush()
    wrong = model.read(0, conns[1].read(0, size))
    assert wrong is None, f"seed {seed}: at the end: {wrong}"
    for conn in conns:
        conn.disconnect()
    return bytes(model.data)
