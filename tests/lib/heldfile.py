# SPDX-License-Identifier: MIT
"""A file whose fsync() lasts as long as the test wants, and that fails as it wants.

    with HeldFile(1 << 20) as file:
        with Server(file.path) as server:
            file.hold()
            ...
            file.wait_held()
            file.release()
            file.errors[WRITE] = errno.EREMOTEIO
            file.bad = range(4096, 8192)

It is a mount of FUSE whose root is the file; the test itself is the file system,
in a thread. All it does is: be opened, read, written and synced, and asked where
its data are; and zeroed, if it is made with zeroes=True. What has been read once
the kernel may know, unless it is made with direct=True.

(With that, a long read must not fail half way: kernels have been seen that give
io_uring wrong data then.)
"""
import ctypes
import errno
import os
import stat
import struct
import threading

from server import GUARD, Skip, path_for

GETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 3, 14, 15, 16, 18, 20, 25, 26
FALLOCATE, LSEEK = 43, 46
FORGET, BATCH_FORGET, INTERRUPT = 2, 42, 36     # these have no answer
MNT_DETACH = 2
DIRECT_IO = 1
SEEK_DATA = 3


class HeldFile:
    """The file, at path, for the time of a `with` block."""

    def __init__(self, size, zeroes=False, direct=False):
        self.data = bytearray(size)
        self.zeroes, self.direct = zeroes, direct
        self.errors = {}        # kind of request: errno of all of them, from now on
        self.bad = range(0)     # bytes that cannot be read
        self.calls = []         # (kind, offset, length), as they came
        self.path = path_for("held")
        self.free = threading.Event()
        self.free.set()
        self.held = threading.Event()
        self.libc = ctypes.CDLL(None, use_errno=True)

    # --- for the test ---

    def hold(self):
        """From now on an fsync() does not end."""
        self.held.clear()
        self.free.clear()

    def wait_held(self):
        """Returns when one has begun."""
        assert self.held.wait(GUARD), "nobody has called fsync()"

    def release(self):
        self.free.set()

    def __enter__(self):
        try:
            self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            raise Skip(f"no FUSE here: {e}") from None
        with open(self.path, "wb"):
            pass
        options = f"fd={self.fd},rootmode=100600,user_id=0,group_id=0".encode()
        if self.libc.mount(b"held", self.path.encode(), b"fuse", 0, options) != 0:
            os.close(self.fd)
            raise Skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.release()
        if self.libc.umount2(self.path.encode(), MNT_DETACH) != 0:
            raise AssertionError(f"umount: {os.strerror(ctypes.get_errno())}")

    # --- the file system ---

    def _serve(self):
        while True:
            try:
                request = os.read(self.fd, 1 << 20)
            except OSError:
                return                  # ENODEV: nobody has it mounted any more
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _answer(self, request):
        opcode, unique = struct.unpack_from("=4xIQ", request)
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        try:
            body = self._body(opcode, request[40:])
            error = 0
        except OSError as e:
            body, error = b"", -e.errno
        try:
            os.write(self.fd, struct.pack("=IiQ", 16 + len(body), error, unique) + body)
        except OSError:
            pass                        # whoever asked is gone

    def _body(self, opcode, args):
        if opcode in self.errors:
            raise OSError(self.errors[opcode], "as wanted")
        if opcode == INIT:
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 32, 0, 0)
        if opcode == GETATTR:
            size = len(self.data)
            return struct.pack("=Q8xQQQ24x12xIIIIIII", 3600, 1, size, size // 512,
                               stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
        if opcode == OPEN:
            return struct.pack("=QII", 0, DIRECT_IO if self.direct else 0, 0)
        if opcode == READ:
            offset, size = struct.unpack_from("=8xQI", args)
            self.calls.append((READ, offset, size))
            if offset < self.bad.stop and self.bad.start < offset + size:
                raise OSError(errno.EIO, "a bad block")
            return bytes(self.data[offset:offset + size])
        if opcode == WRITE:
            offset, size = struct.unpack_from("=8xQI", args)
            self.calls.append((WRITE, offset, size))
            self.data[offset:offset + size] = args[40:40 + size]
            return struct.pack("=II", size, 0)
        if opcode == FSYNC:
            self.calls.append((FSYNC, 0, 0))
            if not self.free.is_set():
                self.held.set()
                self.free.wait(GUARD)
            return b""
        if opcode == FALLOCATE and self.zeroes:
            # Of a hole and of a range of zeroes alike.
            offset, length = struct.unpack_from("=8xQQ", args)
            self.calls.append((FALLOCATE, offset, length))
            self.data[offset:offset + length] = bytes(length)
            return b""
        if opcode == LSEEK:
            offset, whence = struct.unpack_from("=8xQI", args)
            return struct.pack("=Q", offset if whence == SEEK_DATA else len(self.data))
        if opcode in (RELEASE, FLUSH):
            return b""
        raise OSError(errno.ENOSYS, "nothing that this file can do")
