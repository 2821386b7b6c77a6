# SPDX-License-Identifier: MIT
"""Clients of other users, and rules, for the tests of access.

    with open_as(server, 1000) as conn:
        conn.hello()
"""
import os
import socket
import stat

from server import GUARD, Skip, connection, path_for, temp_dir

USER, OTHER = 61001, 61002      # of no account; neither may anything here


def need_root():
    if os.geteuid() != 0:
        raise Skip("only root can connect as somebody else")


def open_the_way():
    """Others may get at what lies in the test's directory; its files have modes of their own."""
    where = temp_dir()
    while where != "/":
        mode = stat.S_IMODE(os.stat(where).st_mode)
        if not mode & stat.S_IXOTH:
            os.chmod(where, mode | stat.S_IXOTH)
        where = os.path.dirname(where)


def connect_as(server, uid, gid=None, groups=()):
    """A connection that a child with these credentials has made; it has ended since."""
    need_root()
    open_the_way()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(GUARD)
            sock.connect(server.socket_path)
            socket.send_fds(theirs, [b"x"], [sock.fileno()])
            os._exit(0)
        except OSError as e:
            theirs.send(str(e).encode())
        finally:
            os._exit(1)
    theirs.close()
    text, fds, _, _ = socket.recv_fds(ours, 1000, 1)
    os.waitpid(child, 0)
    ours.close()
    assert fds, f"cannot connect as {uid}: {text.decode()}"
    return connection(socket.socket(fileno=fds[0]))


def open_as(server, uid, *more, **named):
    """The same, after the greeting."""
    return connect_as(server, uid, *more, **named).hello()


def write_rules(path, *lines):
    """Exchanges the file as a whole, as an operator should."""
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    os.rename(path + ".new", path)


def rules(*lines):
    """A file with these rules."""
    path = path_for("rules")
    write_rules(path, *lines)
    return path
