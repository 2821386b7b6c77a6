# SPDX-License-Identifier: MIT
"""Starts blkgate for a test, talks to it, and sees it off.

    with Server(image("disk", 1 << 20)) as server:
        with server.connect() as conn:
            ...
    run_tests(globals())

A Server listens on a Unix socket below TEST_TMP (listen="tcp": on a free port
of 127.0.0.1; listen=(): wherever the arguments say). Leaving the `with` block
stops it with SIGTERM and checks that it went in order: exit status 0, no report
of a sanitizer, socket gone. Nothing here measures time; every wait has a guard.

With TESTS_TLS in the environment, a directory of certificates for both sides,
every server wants TLS and every connection to it begins with STARTTLS, when it
says hello. A case whose docstring says "Not over TLS: REASON" is left out then.
"""
import contextlib
import ctypes
import os
import random
import re
import shlex
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import traceback

import nbdraw
import nbdtls

GUARD = nbdraw.GUARD
MIB = 1 << 20

TESTS = os.environ.get("TESTS") or os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.environ.get("BUILD") or os.path.join(TESTS, "..", "build")
BLKGATE = os.environ.get("BLKGATE") or os.path.join(BUILD, "blkgate")

TLS = os.environ.get("TESTS_TLS")
TLS_OPTIONS = ["--tls-certificates", TLS, "--tls-verify-peer"] if TLS else []
TLS_CONTEXT = nbdtls.client_context(TLS) if TLS else None

REPORT = re.compile(r"Sanitizer|runtime error:|invariant|assert|==\d+==|"
                    r"stack smashing|\*\*\* .* \*\*\*", re.IGNORECASE)


class Skip(Exception):
    """This machine cannot run the test; the text says why."""


# --- Places and contents ------------------------------------------------------

def temp_dir():
    """The runner's directory for this test, or one of our own."""
    if "TEST_TMP" not in os.environ:
        import tempfile
        os.environ["TEST_TMP"] = tempfile.mkdtemp(prefix="bgt.")
    return os.environ["TEST_TMP"]


def let_others_in():
    """Other users may reach what is in temp_dir(); the directory above may be everybody's."""
    for directory in (temp_dir(), os.path.dirname(temp_dir())):
        os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | 0o055)


_count = 0


def path_for(name):
    """A path that no other call returns."""
    global _count
    _count += 1
    return os.path.join(temp_dir(), f"{_count}.{name}")


def content(size, seed=1):
    """The same random bytes for the same seed."""
    return random.Random(seed).randbytes(size)


def image(name, size=MIB, seed=1):
    """A file of random bytes."""
    path = path_for(name)
    with open(path, "wb") as f:
        left, part = size, 0
        while left > 0:
            f.write(content(min(left, 16 * MIB), seed + part))
            left -= min(left, 16 * MIB)
            part += 1
    return path


def sparse(name, size):
    """A file that is one hole."""
    path = path_for(name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def contents(path):
    with open(path, "rb") as f:
        return f.read()


@contextlib.contextmanager
def loop_device(path, *options):
    """A loop device over a file, gone afterwards."""
    run = subprocess.run(["losetup", "--find", "--show", *options, path],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise Skip("no loop device to be had: " + run.stderr.strip())
    device = run.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def small_file_system(mebibytes):
    """A directory with no more space than that."""
    where = path_for("mnt")
    os.mkdir(where)
    run = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}M", "none", where],
                         stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode != 0:
        raise Skip("cannot mount a tmpfs: " + run.stderr.strip())
    try:
        yield where
    finally:
        # The kernel lets go of a ring's files a moment after its process.
        for _ in range(GUARD * 20):
            if subprocess.run(["umount", where], stderr=subprocess.DEVNULL,
                              check=False).returncode == 0:
                break
            time.sleep(0.05)
        else:
            subprocess.run(["umount", "--lazy", where], check=True)
            raise AssertionError("the file system stays busy")


class Backend:
    """A disk of one kind: what to serve, with which options, where its bytes are."""

    KINDS = ("file", "file-direct", "loop", "loop-direct", "mem")

    def __init__(self, kind, size):
        self.kind, self.size = kind, size
        self.file = None                # the bytes, after a FLUSH
        self.unit = 512 if kind.endswith("-direct") else 1
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        if self.kind == "mem":
            assert self.size % MIB == 0
            self.target = [f"mem:{self.size // MIB}M"]
            return self
        self.file = sparse("disk", self.size)
        path = self.file
        if self.kind.startswith("loop"):
            path = self.stack.enter_context(loop_device(self.file))
        self.target = [path]
        if self.kind.endswith("-direct"):
            self.target.insert(0, "--cache=none")
        return self

    def __exit__(self, *exc):
        self.stack.close()


def deny(numbers, error):
    """For preexec_fn: these system calls fail with an error, or (0) do nothing at all."""
    libc = ctypes.CDLL(None, use_errno=True)
    allow, answer = 0x7fff0000, 0x00050000 | error
    code = [(0x20, 0, 0, 0)]                    # load the number of the system call
    for number in numbers:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, answer)]
    code.append((0x06, 0, 0, allow))
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in code))
    program = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no seccomp filter to be had")


def sanitized():
    """Whether the server is built with a sanitizer (or runs in valgrind)."""
    with open(BLKGATE, "rb") as f:
        return b"__asan_init" in f.read() or bool(os.environ.get("BLKGATE_WRAP"))


# --- The server ---------------------------------------------------------------

def connection(sock):
    """A raw connection to a server of ours; nothing is said on it yet."""
    return nbdtls.TlsConn(sock, TLS_CONTEXT) if TLS else nbdraw.Conn(sock)


class Server:
    """One running blkgate."""

    def __init__(self, *args, listen="unix", wait=True, workers=2, uri=True, popen=None,
                 program=BLKGATE):
        self.args = [str(a) for a in args]
        self.socket_path = None
        self.port = None
        self.stopped = False
        self.lines = []
        self.log_end = False
        self.log_changed = threading.Condition()
        self.uris = []
        command = shlex.split(os.environ.get("BLKGATE_WRAP", "")) + [program]
        if workers:
            command += ["--workers", str(workers)]
        if uri:
            command += ["--print-uri"]
        if listen == "unix":
            self.socket_path = path_for("sock")
            command += ["--socket", self.socket_path]
        elif listen == "tcp":
            command += ["--bind", "127.0.0.1", "--port", "0"]
        self.command = command + TLS_OPTIONS + self.args
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **(popen or {}))
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        if wait:
            self.wait_ready()

    def _read_log(self):
        for line in self.process.stderr:
            with self.log_changed:
                self.lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.log_changed.notify_all()
        with self.log_changed:
            self.log_end = True
            self.log_changed.notify_all()

    def wait_log(self, pattern, what=None, since=0):
        """The first log line that matches, SINCE so many; an error if the log ends before it."""
        regex = re.compile(pattern)
        deadline = time.monotonic() + GUARD
        seen = since
        with self.log_changed:
            while True:
                for line in self.lines[seen:]:
                    if regex.search(line):
                        return line
                seen = len(self.lines)
                if self.log_end:
                    raise AssertionError(f"the server ended before {what or pattern}:\n" +
                                         self.log())
                if not self.log_changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no log line {what or pattern}:\n" + self.log())

    def wait_ready(self):
        self.wait_log(r"^info READY\b", "READY")
        if "--print-uri" in self.command:
            # They are printed before READY, so they are here by now.
            os.set_blocking(self.process.stdout.fileno(), False)
            self.uris = (self.process.stdout.read() or b"").decode().splitlines()
        for uri in self.uris:
            match = re.match(r"nbds?://(?:\[[^]]*\]|[^/:]*):(\d+)", uri)
            if match:
                self.port = int(match.group(1))

    def reload(self, wanted="info reloaded "):
        """Sends SIGHUP; the line that tells what came of it, which begins as WANTED."""
        with self.log_changed:
            before = len(self.lines)
        self.send_signal(signal.SIGHUP)
        line = self.wait_log("^info reloaded |^error cannot reload", since=before)
        assert line.startswith(wanted), line
        return line

    def log(self):
        return "\n".join(self.lines)

    def log_lines(self, levels):
        """The log lines of these levels ("error warning")."""
        return [line for line in self.lines if line.split(" ")[0] in levels.split()]

    # --- clients ---

    def connect(self, recv_buffer=None):
        """A raw connection; nothing is said on it yet."""
        conn = (nbdraw.connect_unix(self.socket_path) if self.socket_path else
                nbdraw.connect_tcp("127.0.0.1", self.port, recv_buffer))
        return connection(conn.sock)

    def open(self, name="", infos=(), recv_buffer=None):
        """A raw connection in transmission."""
        conn = self.connect(recv_buffer)
        conn.hello()
        export = conn.go(name, infos)
        assert isinstance(export, nbdraw.Export), f"GO '{name}': {export:#x}"
        return conn

    def uri(self, name=""):
        scheme, more = ("nbds", f"tls-certificates={TLS}") if TLS else ("nbd", "")
        if self.socket_path:
            return f"{scheme}+unix:///{name}?socket={self.socket_path}{'&' if more else ''}{more}"
        return f"{scheme}://127.0.0.1:{self.port}/{name}{'?' if more else ''}{more}"

    def check_serves(self, name=""):
        """A fresh connection works."""
        assert self.process.poll() is None, "the server is gone:\n" + self.log()
        with self.open(name) as conn:
            if conn.export.size >= 512:
                conn.alive("fresh connection", max(512, (conn.export.block_size or (1,))[0]))
            conn.disconnect()

    # --- what it uses ---

    def end_of(self, conn):
        """A duplicate of the server's own end of a TCP connection, which only root may have."""
        pidfd_getfd = 438
        libc = ctypes.CDLL(None, use_errno=True)
        pidfd = os.pidfd_open(self.pid)
        try:
            for number in os.listdir(f"/proc/{self.pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    if not os.readlink(f"/proc/{self.pid}/fd/{number}").startswith("socket:"):
                        continue
                fd = libc.syscall(pidfd_getfd, pidfd, int(number), 0)
                if fd < 0:
                    raise Skip("may not look at the server's sockets: " +
                               os.strerror(ctypes.get_errno()))
                sock = socket.socket(fileno=fd)
                with contextlib.suppress(OSError):
                    if sock.getpeername() == conn.sock.getsockname():
                        return sock
                sock.close()
        finally:
            os.close(pidfd)
        raise AssertionError("the server has no socket of this connection")

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        # Kernel workers of io_uring come and go as they please.
        count = 0
        for tid in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError):
                with open(f"/proc/{self.pid}/task/{tid}/comm", encoding="ascii") as f:
                    count += not f.read().startswith("iou-")
        return count

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(r"^VmRSS:\s*(\d+)", f.read(), re.MULTILINE).group(1))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- the end ---

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self):
        """The exit status, once it has ended by itself."""
        try:
            status = self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end:\n{self.log()}") from None
        self.reader.join(GUARD)
        self.process.stdout.close()
        self.process.stderr.close()
        self.stopped = True
        return status

    def stop(self, number=signal.SIGTERM, status=0):
        """Ends it with a signal, and checks that it went in order."""
        self.send_signal(number)
        got = self.wait_exit()
        assert got == status, f"exit status {got} instead of {status}:\n{self.log()}"
        self.check_end()

    def check_end(self):
        reports = [line for line in self.lines if REPORT.search(line)]
        assert not reports, "a report in the log:\n" + self.log()
        if self.socket_path:
            assert not os.path.lexists(self.socket_path), "the socket is still there"

    def kill(self):
        """For a test that has failed, or that wants a crash."""
        if not self.stopped:
            self.process.kill()
            self.wait_exit()

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        if kind is not None:
            self.kill()
            sys.stderr.write("".join(f"  log: {line}\n" for line in self.lines[-30:]))
        elif not self.stopped:
            self.stop()


def run_failing(*args, wrap=(), program=BLKGATE, **popen):
    """Runs the server with arguments that it must refuse: (status, stderr)."""
    run = subprocess.run([*wrap, program, *[str(a) for a in args]], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=GUARD,
                         check=False, **popen)
    text = run.stderr.decode("utf-8", "backslashreplace")
    assert not REPORT.search(text), f"a report: {text}"
    return run.returncode, text


class Single:
    """blkgate --single on a socket pair (or on two pipes), with its one client."""

    def __init__(self, *args, pipes=False):
        command = shlex.split(os.environ.get("BLKGATE_WRAP", "")) + [BLKGATE, "--single"]
        command += TLS_OPTIONS + [str(a) for a in args]
        if pipes:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.conn = connection(PipePair(self.process))
        else:
            ours, theirs = socket.socketpair()
            self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs,
                                            stderr=subprocess.PIPE)
            theirs.close()
            self.conn = connection(ours)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        if kind is not None:
            self.process.kill()
        self.conn.close()
        log = self.process.stderr.read().decode("utf-8", "backslashreplace")
        status = self.process.wait(GUARD)
        self.process.stderr.close()
        if kind is None:
            assert status == 0, f"exit status {status}: {log}"
            assert not REPORT.search(log), log
        else:
            sys.stderr.write(log)


class PipePair:
    """Two pipes that look like a socket to nbdraw."""

    def __init__(self, process):
        self.process = process

    def settimeout(self, seconds):
        pass                    # the runner's hang guard has to do

    def sendall(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, data):
        self.sendall(data)

    def recv(self, count):
        return os.read(self.process.stdout.fileno(), count)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


# --- Running ------------------------------------------------------------------

def eq(actual, wanted, what=""):
    assert actual == wanted, f"{what}: {actual!r} instead of {wanted!r}"


def in_parallel(*functions):
    """Runs each in a thread; raises the first failure after all have ended."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as e:      # pylint: disable=broad-except
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def is_socket(path):
    return stat.S_ISSOCK(os.lstat(path).st_mode)


def is_only_in_clear(test):
    return "Not over TLS: " in (test.__doc__ or "")


def run_tests(namespace):
    """Runs every test_* function, or those named on the command line."""
    names = sys.argv[1:] or [n for n in namespace if n.startswith("test_") and
                             not (TLS and is_only_in_clear(namespace[n]))]
    failed, skips = [], []
    for name in names:
        try:
            namespace[name]()
            print(f"ok   {name}")
        except Skip as e:
            skips.append(f"{name}: {e}")
        except BaseException as e:      # pylint: disable=broad-except
            if isinstance(e, KeyboardInterrupt):
                raise
            failed.append(name)
            sys.stdout.flush()
            traceback.print_exc()
            print(f"FAIL {name}")
        sys.stdout.flush()
    if failed:
        print(f"failed: {' '.join(failed)}")
        sys.exit(1)
    if skips:
        print("; ".join(skips))
        sys.exit(77)
