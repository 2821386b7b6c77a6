# SPDX-License-Identifier: MIT
"""The server on simulated disks, which do what the test says.

    disk = SimDisk("64M", request_alignment=4096)
    with SimServer(disk) as server:
        disk.fail("read", errno.EIO, 4096, 512)
        disk.hold("write")
        ...
        disk.wait("holds", "write")
        disk.release()

A SimDisk is a target: a size, and properties of tests/lib/simdev_props.c. It tells
of every request that comes to it, is held by it, and ends there, as an Event, in
that order and before the client can know of it. What the test tells it holds for
every request that it makes afterwards.
"""
import os
import socket
import threading
import time
from collections import namedtuple

from server import BUILD, GUARD, Server, path_for

SIM = os.path.join(BUILD, "tests", "blkgate-sim")

# flags: those of blkio.h. ret: 0 or -errno, of what has ended.
Event = namedtuple("Event", "what id op offset length flags ret")

FUA, NO_UNMAP, NO_FALLBACK = 1, 2, 4


class SimDisk:
    """One simulated disk; its server connects to it."""

    def __init__(self, size, name=None, **props):
        self.path = path_for("sim")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1)
        props["control"] = self.path
        self.target = "".join([f"{name}=" if name is not None else "", f"sim:{size}"] +
                              [f",{key.replace('_', '-')}={str(value).replace(',', ',,')}"
                               for key, value in props.items()])
        self.events = []
        self.answers = []
        self.gone = False
        self.changed = threading.Condition()
        self.sock = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        sock, _ = self.listener.accept()
        self.listener.close()
        with self.changed:
            self.sock = sock
            self.changed.notify_all()
        with sock.makefile("r", encoding="ascii") as lines:
            for line in lines:
                self._take(line.rstrip("\n"))
        with self.changed:
            self.gone = True
            self.changed.notify_all()

    def _take(self, line):
        words = line.split(" ")
        with self.changed:
            if words[0] in ("ok", "error"):
                self.answers.append(line)
            else:
                what, number, op, *rest = words
                self.events.append(Event(what, int(number), op, *map(int, rest)))
            self.changed.notify_all()

    def _wait_for(self, there, what):
        """What there() returns, once it is not None."""
        deadline = time.monotonic() + GUARD
        with self.changed:
            while True:
                found = there()
                if found is not None:
                    return found
                assert not self.gone, f"the disk is gone, without {what}"
                assert self.changed.wait(deadline - time.monotonic()), f"never {what}"

    # --- what it is told ---

    def tell(self, command):
        """Returns when it is done."""
        sock = self._wait_for(lambda: self.sock, "connected")
        before = len(self.answers)
        sock.sendall(command.encode() + b"\n")
        answer = self._wait_for(
            lambda: self.answers[before] if len(self.answers) > before else None, command)
        assert answer == "ok", f"{command}: {answer}"

    def fault(self, what, ops, offset=None, length=None, fua=False, **options):
        where = "" if offset is None else f"@{offset}+{length}"
        words = [ops + where, str(what), *[f"{key}={value}" for key, value in options.items()]]
        self.tell("fault " + ":".join(words + (["fua"] if fua else [])))

    def fail(self, ops, error, offset=None, length=None, **options):
        """Requests of these kinds ("read+write") that touch the range fail; skip, times, fua."""
        self.fault(error, ops, offset, length, **options)

    def hold(self, ops, offset=None, length=None, **options):
        """They do nothing, and do not end, until release()."""
        self.fault("hold", ops, offset, length, **options)

    def release(self):
        self.tell("release")

    def clear(self):
        """Nothing fails or is held any more."""
        self.tell("clear")

    def power_cycle(self):
        """What no flush and no FUA has made durable may be lost."""
        self.tell("cut")
        self.tell("on")

    # --- what it tells ---

    def mark(self):
        """Where the events are now: to ask for those since."""
        self.tell("sync")               # what has happened has been told then
        with self.changed:
            return len(self.events)

    def since(self, mark, what=None, op=None):
        """The events since then, of that kind."""
        self.tell("sync")
        with self.changed:
            return [e for e in self.events[mark:]
                    if what in (None, e.what) and op in (None, e.op)]

    def wait(self, what, op, mark=0, count=1, offset=None):
        """The first count such events since then, once they are there."""
        def there():
            found = [e for e in self.events[mark:]
                     if (e.what, e.op) == (what, op) and offset in (None, e.offset)]
            return found[:count] if len(found) >= count else None
        return self._wait_for(there, f"{what} {op}")


class SimServer(Server):
    """One running server; its arguments are SimDisks and words of the command line."""

    def __init__(self, *args, **options):
        super().__init__(*[a.target if isinstance(a, SimDisk) else a for a in args],
                         program=SIM, **options)
