# SPDX-License-Identifier: MIT
"""Runs `blkgate list` and `blkgate probe` for a test, and other servers for them.

    client("list", uri)                       status, stdout, stderr
    client_json("probe", uri)                 what --json printed, parsed
    same_facts(export, nbdinfo_export)        against nbdinfo --json

Where the program is not built, importing this skips the test.
"""
import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import namedtuple

from nbdraw import connect_unix, refuses
from server import BLKGATE, BUILD, GUARD, REPORT, Skip, eq, path_for

Run = namedtuple("Run", "status out err rss_kib")
FLAGS = ("READ_ONLY", "SEND_FLUSH", "SEND_FUA", "ROTATIONAL", "SEND_TRIM", "SEND_WRITE_ZEROES",
         "SEND_DF", "CAN_MULTI_CONN", "SEND_CACHE", "SEND_FAST_ZERO", "BLOCK_STATUS_PAYLOAD")
EXPORT_KEYS = ["name", "uri", "canonical_name", "description", "size", "read_only", "flags",
               "block_size"]
PROTOCOL_KEYS = ["protocol", "tls", "structured_replies", "extended_headers"]
NBDINFO_FLAGS = {"is_read_only": "READ_ONLY", "can_flush": "SEND_FLUSH", "can_fua": "SEND_FUA",
                 "is_rotational": "ROTATIONAL", "can_trim": "SEND_TRIM",
                 "can_zero": "SEND_WRITE_ZEROES", "can_df": "SEND_DF",
                 "can_multi_conn": "CAN_MULTI_CONN", "can_cache": "SEND_CACHE",
                 "can_fast_zero": "SEND_FAST_ZERO",
                 "can_block_status_payload": "BLOCK_STATUS_PAYLOAD"}


if not os.path.exists(os.path.join(BUILD, "blkgate-client")):
    print("blkgate-client is not built: pkg-config does not find libnbd")
    sys.exit(77)


def need(*programs):
    """Skips the test where one of these is not installed."""
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def client(*args, locale="C.UTF-8", program=BLKGATE, **popen):
    """One run to its end; stdout as bytes, stderr as text."""
    process = subprocess.Popen([program, *[str(a) for a in args]], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "LC_ALL": locale}, **popen)
    try:
        out, err = process.communicate(timeout=GUARD)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"{args}: does not end") from None
    text = err.decode("utf-8", "backslashreplace")
    assert not REPORT.search(text), f"{args}: a report: {text}"
    assert process.returncode in (0, 1, 2), f"{args}: exit status {process.returncode}: {text}"
    # Of the largest child so far: good for an upper bound.
    return Run(process.returncode, out, text,
               resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def client_ok(*args, **options):
    """What it printed; it must have succeeded, and said nothing else."""
    run = client(*args, **options)
    eq((run.status, run.err), (0, ""), f"{args}")
    return run.out


def client_lines(*args, **options):
    return client_ok(*args, **options).decode().splitlines()


def client_json(command, *args, **options):
    """The object that --json prints, whose keys are always the same."""
    info = json.loads(client_ok(command, "--json", *args, **options))
    if command == "list":
        eq(list(info), PROTOCOL_KEYS + ["exports"], "keys")
        for export in info["exports"]:
            eq(list(export), EXPORT_KEYS + ["error"], "keys of an export")
            if export["error"] is None:
                check_export(export)
    else:
        eq(list(info), PROTOCOL_KEYS + ["export"], "keys")
        eq(list(info["export"]), EXPORT_KEYS + ["contexts"], "keys of the export")
        check_export(info["export"])
    return info


def check_export(export):
    eq(tuple(export["flags"]), FLAGS, "flags")
    eq(list(export["block_size"]), ["minimum", "preferred", "maximum"], "block sizes")
    eq(export["read_only"], export["flags"]["READ_ONLY"], "read_only")


def client_fails(*args, status=1, says=(), **options):
    """It must fail with one line on stderr that contains all these; its stdout."""
    run = client(*args, **options)
    eq(run.status, status, f"{args}: {run.err}: exit status")
    lines = run.err.splitlines()
    if status == 2 and len(lines) == 2:
        assert lines.pop().startswith("Try 'blkgate "), run.err
    assert len(lines) == 1 and run.err.endswith("\n"), f"{args}: not one line: {run.err!r}"
    assert lines[0].startswith("blkgate: "), run.err
    for text in says:
        assert text in lines[0], f"{args}: no '{text}' in: {lines[0]}"
    if "--json" in args:
        eq(run.out, b"", f"{args}: stdout")
    return run.out


def nbdinfo(*args):
    run = subprocess.run(["nbdinfo", "--json", *args], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, check=False, timeout=GUARD)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def same_facts(export, other):
    """An export as we tell it, and as nbdinfo does."""
    what = f"export {export['name']!r}: "
    # Theirs is the canonical name, where there is one.
    eq(export["canonical_name"] or export["name"], other["export-name"], what + "name")
    eq(export["size"], other["export-size"], what + "size")
    for theirs, ours in NBDINFO_FLAGS.items():
        if theirs in other:
            eq(export["flags"][ours], other[theirs], what + ours)
    for which, size in export["block_size"].items():
        eq(size or 0, other.get(f"block_size_{which}", 0), what + f"{which} block size")
    if "contexts" in export:
        eq(export["contexts"], other.get("contexts", []), what + "contexts")


@contextlib.contextmanager
def other_server(*command, sock):
    """Another server in the foreground, once it listens on the Unix socket."""
    log = path_for("log")
    with open(log, "wb") as f:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=f)
    try:
        for _ in range(GUARD * 20):
            if os.path.exists(sock) and not refuses(connect_unix, sock):
                break
            if process.poll() is not None:
                with open(log, encoding="utf-8") as f:
                    raise AssertionError(f"{command} ended: {f.read()}")
            time.sleep(0.05)
        yield f"nbd+unix:///%s?socket={sock}"
    finally:
        process.terminate()
        process.wait(GUARD)


# What is allowed to reach a terminal: no controls, no direction, nothing invisible.
SAFE = re.compile("[^\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e"
                  "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]*")


def check_safe(text):
    for line in text.decode("utf-8").split("\n"):
        assert SAFE.fullmatch(line), f"reaches the terminal: {line!r}"
