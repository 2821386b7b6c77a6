# SPDX-License-Identifier: MIT
"""The clocks of a server, which a test moves: see preload/wallclock.c.

    clock = Clock()
    with Server(..., popen={"env": clock.environment}) as server:
        clock.set(wall=-3600)
"""
import mmap
import os
import struct

from server import BUILD, path_for

PRELOAD = os.path.abspath(os.path.join(BUILD, "tests", "lib", "preload", "wallclock.so"))


class Clock:
    """Those of a server that is started with its environment."""

    def __init__(self):
        self.path = path_for("clock")
        with open(self.path, "wb") as f:
            f.write(bytes(16))
        with open(self.path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 16)
        asan = os.environ.get("ASAN_OPTIONS", "").split(":") + ["verify_asan_link_order=0"]
        self.environment = os.environ | {"LD_PRELOAD": PRELOAD, "WALLCLOCK": self.path,
                                         "ASAN_OPTIONS": ":".join(filter(None, asan))}

    def set(self, wall, monotonic=0):
        """How many seconds the wall clock is off, and the time since the start."""
        self.map[:16] = struct.pack("=qq", wall, monotonic)
