# SPDX-License-Identifier: MIT
"""Runs the newest clients, in the root tree that the program tests/lib/newroot makes.

    print(inside("nbdinfo", "--size", server.uri()))
    script("status", server.uri(), "extended")

TEST_TMP is at the same path inside, so sockets and files are. A client that ends
with another status than wanted, or says anything on stderr, fails the test.
Importing this ends a test with status 77 where there can be no such root.
"""
import os
import shlex
import subprocess
import sys

from server import GUARD, TESTS, temp_dir

PROGRAM = os.path.join(TESTS, "lib", "newroot")

# What clients may have agreed on for headers and replies.
MODES = ("simple", "structured", "extended")


def _need():
    run = subprocess.run([PROGRAM, "make"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         check=False, text=True)
    if run.returncode != 0:
        print(run.stdout.strip())
        sys.exit(run.returncode)
    temp_dir()


_need()


def attempt(*command):
    """Runs a client to its end: (status, stdout, stderr)."""
    with subprocess.Popen([PROGRAM, "run", *[str(word) for word in command]],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=GUARD)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"hangs: {shlex.join(map(str, command))}") from None
    return process.returncode, out, err


def inside(*command, status=0):
    """Runs a client that has nothing to complain of: its stdout."""
    got, out, err = attempt(*command)
    assert got == status and err == "", \
        f"{shlex.join(map(str, command))}: exit status {got}\n{out}{err}"
    return out


def script_command(name, *args):
    return ["python3", os.path.join(TESTS, "peers", "in", name + ".py"), *map(str, args)]


def script(name, *args):
    """Runs a program of tests/peers/in: its stdout."""
    return inside(*script_command(name, *args))


def behind_nbdkit(server, command, *options):
    """Runs a shell command, in which $uri is an nbdkit that is a client of SERVER.

    nbdkit tells everything it does; a line that is more than that is a complaint.
    """
    where = f"socket={server.socket_path}" if server.socket_path else \
        f"uri={server.uri()}"
    status, out, err = attempt("nbdkit", "-v", "-U", "-", "nbd", where, *options,
                               "--run", f"exec 2>&1\n{command}")
    assert status == 0, f"nbdkit: exit status {status}\n{out}{err}"
    complaints = [line for line in err.splitlines() if ": debug: " not in line]
    assert not complaints, "nbdkit:\n" + "\n".join(complaints)
    return out
