# SPDX-License-Identifier: MIT
"""Files that are disks of which it is known where they have data, and where holes."""
import os

from server import MIB, content, contents, sparse

MIXED_SIZE = 48 * MIB


def file_with(size, *places):
    """A file that is a hole, but for random data at these (offset, length)."""
    path = sparse("disk", size)
    with open(path, "r+b") as f:
        for offset, length in places:
            f.seek(offset)
            f.write(content(length, offset))
        os.fsync(f.fileno())
    return path


def mixed_image(name):
    """A file of MIXED_SIZE: random data, long and short, zeroes that are written, holes."""
    path = sparse(name, MIXED_SIZE)
    with open(path, "r+b") as f:
        for offset, data in ((0, content(5 * MIB, 1)), (9 * MIB, bytes(3 * MIB)),
                             (14 * MIB, b"text " * 300000), (20 * MIB + 1000, content(333, 2)),
                             (30 * MIB - 512, content(MIB, 3)),
                             (MIXED_SIZE - 512, content(512, 4))):
            f.seek(offset)
            f.write(data)
        os.fsync(f.fileno())
    return path


def check_same(path, other, what=""):
    assert contents(path) == contents(other), f"{what}: {path} and {other} differ"


def bytes_used(path):
    return os.stat(path).st_blocks * 512


def check_sparse(path, what="", most=12 * MIB):
    """It takes little more room than the data of mixed_image()."""
    used = bytes_used(path)
    assert used <= most, f"{what}: {path} takes {used} bytes"
