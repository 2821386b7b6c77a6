# SPDX-License-Identifier: MIT
"""Networks of a test's own, and a cable that it can pull.

    cable = Cable()
    with Server("mem:1M", "-b", cable.host, "-p", "0", listen=(),
                popen={"preexec_fn": cable.plug_in}) as server:
        cable.connect()
        with nbdraw.connect_tcp(cable.host, server.port) as conn:
            ...
            cable.pull()

The server has one end in a network of its own, the test the other. What a pulled
cable loses is lost without a word: no packet arrives anywhere, no error either.
"""
import ctypes
import os
import subprocess

from server import Skip

CLONE_NEWNET = 0x40000000


def own_network():
    """For preexec_fn, or for the test itself: a network with nothing but loopback addresses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    ip("link", "set", "lo", "up")


def need_own_network():
    """Skips a test that cannot have one."""
    try:
        child = subprocess.run(["true"], preexec_fn=own_network, check=False)
    except subprocess.SubprocessError:
        raise Skip("cannot make a network of its own") from None
    assert child.returncode == 0


def ip(*args):
    subprocess.run(["ip", *args], check=True)


_cables = 0


class Cable:
    """Two ends with an address each: host is the server's."""

    def __init__(self):
        global _cables
        need_own_network()
        if _cables == 0:
            own_network()               # not in the machine's
        _cables += 1
        self.pid = os.getpid()
        self.number = _cables
        self.name = f"far{_cables}"
        self.host = f"192.0.2.{4 * _cables + 1}"

    def plug_in(self):
        """In the server, before it runs."""
        own_network()
        ip("link", "add", "near", "type", "veth", "peer", "name", self.name, "netns",
           str(self.pid))
        ip("address", "add", f"{self.host}/30", "dev", "near")
        ip("link", "set", "near", "up")

    def connect(self):
        """Our end, once the server has its own."""
        ip("address", "add", f"192.0.2.{4 * self.number + 2}/30", "dev", self.name)
        ip("link", "set", self.name, "up")

    def pull(self):
        ip("link", "set", self.name, "down")

    def plug(self):
        ip("link", "set", self.name, "up")
