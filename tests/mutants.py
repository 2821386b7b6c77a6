#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Builds the server with one defect at a time; the test named with it has to notice it.

usage: mutants.py [--landing | --look | NAME...]

All of them, which takes minutes; with --landing those of what loses data. With --look
it only looks whether the source still has what they replace.

A defect is a text in a source file and what stands there instead. The text has
to occur exactly once, so a mutant that the source has left behind is an error
and not a pass. A test is a unit test, or a case of tests/conform. Prints a line
per mutant and "N caught, N survived"; the exit status is 0 only if all were caught.
"""
import concurrent.futures
import os
import queue
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
import mutants_handshake        # pylint: disable=wrong-import-position
import mutants_transmission     # pylint: disable=wrong-import-position
PARTS = ("Makefile", "blk", "drivers", "include", "server", "tests")
GUARD = 300         # seconds; against hanging, nothing more
CASE_GUARD = "15"   # of one wait, where a defect makes many hang; the handshake has 10

# Enough for the model check to meet each of its defects; the first one ends it.
ENV = {"BLK_MODEL_SEEDS": "1000"}
ENV_OF = {"blk_model": {"CK_FORK": "no"}}

# name: (test, file, [(what stands there, what shall stand there)])
MUTANTS = {
    "flush-answered-without-flushing": ("blk_io_fake", "blk/flush.c", [
        ("\tqueue_flush(q, &io);\n\tret = queue_co_wait(q, &io);\n",
         "\t(void)io;\n\tret = 0;\n")]),
    "fua-ignored-on-zeroes": ("blk_io_fake", "blk/zero.c", [
        ("(*carried ? BLKIO_REQ_FUA : 0) |\n\t\t\t     (flags & BLK_MAY_UNMAP",
         "(flags & BLK_MAY_UNMAP")]),
    "last-piece-decides": ("blk_io_fake", "blk/transfer.c", [
        ("\t\t\tif (ret == 0)\n\t\t\t\tret = piece_ret;\n", "\t\t\tret = piece_ret;\n")]),
    "read-before-it-serialises": ("blk_model", "blk/track.c", [
        ("\twhile ((blocker = blocker_of(t, req))) {\n",
         "\twhile (!serialises && (blocker = blocker_of(t, req))) {\n")]),
    "overlaps-not-waited-for": ("blk_model", "blk/track.c", [
        ("\twhile ((blocker = blocker_of(t, req))) {\n",
         "\twhile ((blocker = NULL)) {\n")]),
    "no-flush-after-the-last-piece": ("blk_model", "blk/change.c", [
        ("\treturn flush_co(c->q);\n", "\treturn 0;\n")]),
    "changes-not-counted": ("blk_model", "blk/change.c", [
        ("\tqueue_changed(c->q);\n", "")]),
    "flush-covers-what-came-later": ("blk_model", "blk/flush.c", [
        ("\t\tf->covered = covers;\n", "\t\tf->covered = generation(f);\n")]),
    "refused-too-late": ("blk_model", "blk/zero.c", [
        ("\tret = zero_blocks(c, first, last - first, flags, carried);\n"
         "\tif (ret == 0 && first > off)\n",
         "\tif (first > off)\n"),
        ("\tif (ret == 0 && last < end)\n",
         "\tif (first <= off || ret == 0)\n"
         "\t\tret = zero_blocks(c, first, last - first, flags, carried);\n"
         "\tif (ret == 0 && last < end)\n")]),
    "end-padded-beyond-the-end": ("blk_model", "blk/dev.h", [
        ("\treturn off < dev->tail_start ? dev->limits.request_alignment : 1;\n",
         "\treturn dev->limits.request_alignment;\n")]),
    "zeroes-told-of-data": ("blk_model", "blk/status.c", [
        ("\t\tstop = dev_align_down(dev, stop);\n", "\t\tstop = dev_align_up(dev, stop);\n")]),
    "failed-flush-forgotten": ("blk_io_fake", "blk/queue.c", [
        ("\t\t\tdev_flush_fail(q->dev, io->ret);\n", "\t\t\t;\n")]),
    "flush-beside-a-failed-fua": ("blk_flush_fake", "blk/flush.c", [
        ("\treturn ret < 0 || dev_flush_failed(queue_dev(q)) ? -EIO : 0;\n",
         "\treturn ret < 0 ? -EIO : 0;\n")]),
    "changes-of-a-gone-queue-forgotten": ("blk_flush_fake", "blk/flush.c", [
        ("\tf->gone += w->generation;\n", "")]),
    "zeroes-by-the-first-segment": ("blk_io_fake", "blk/zero.c", [
        ("\tfor (; iovcnt > 0; iovcnt--, iov++) {\n",
         "\tfor (; iovcnt > 0; iovcnt = 0) {\n")]),
    "two-requests-one-buffer": ("blk_buf", "blk/buf.c", [
        ("slab->free_chunk[--slab->nfree] : slab->fresh++;",
         "slab->free_chunk[--slab->nfree] : (slab->fresh++, 0);")]),
}
for _more in mutants_handshake.MUTANTS, mutants_transmission.MUTANTS:
    for _name, (_case, _file, _changes) in _more.items():
        assert _name not in MUTANTS, _name
        MUTANTS[_name] = ("conform/" + _case, _file, _changes)


def changed(name):
    """The source of a mutant with its defect."""
    _, source, changes = MUTANTS[name]
    with open(os.path.join(TOP, source), encoding="utf-8") as f:
        text = f.read()
    for old, new in changes:
        if text.count(old) != 1:
            sys.exit(f"mutants.py: {name}: {source}: {text.count(old)} times, not once: {old!r}")
        text = text.replace(old, new)
    return text


def run(tree, test):
    """Builds what one test needs and runs it; its exit status, None if it does not build."""
    env = os.environ | ENV | ENV_OF.get(test, {})
    if test.startswith("conform/"):
        name, case = test.split(" ")
        target, command = "blkgate", [os.path.join(tree, "tests", name), case]
        env |= {"BUILD": os.path.join(tree, "build"), "TEST_GUARD": CASE_GUARD}
    else:
        target = "tests/unit/" + test
        command = [os.path.join(tree, "build", target)]
    # A path that is the same in each copy of the tree: it stands in the dependency files.
    make = subprocess.run(["make", "-C", tree, "O=build", "build/" + target],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if make.returncode != 0:
        print(make.stdout)
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as where:
        try:
            return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  timeout=GUARD, env=env | {"TEST_TMP": where}).returncode
        except subprocess.TimeoutExpired:
            return 1


def caught(trees, texts, name):
    """True, False, or None if it cannot be built."""
    test, source, _ = MUTANTS[name]
    tree = trees.get()
    path = os.path.join(tree, source)
    shutil.copy(path, path + ".orig")
    try:
        with open(path, "w", encoding="utf-8") as f:
            f.write(texts[name])
        status = run(tree, test)
    finally:
        shutil.move(path + ".orig", path)
        os.utime(path)
        trees.put(tree)
    return None if status is None else status not in (0, 77)


def copy_sources(tree):
    os.mkdir(tree)
    for part in PARTS:
        path = os.path.join(TOP, part)
        if os.path.isdir(path):
            shutil.copytree(path, os.path.join(tree, part))
        else:
            shutil.copy(path, tree)


def main():
    names = sys.argv[1:] or list(MUTANTS)
    look = names == ["--look"]
    if look:
        names = list(MUTANTS)
    if names == ["--landing"]:
        names = [name for name in MUTANTS if not MUTANTS[name][0].startswith("conform/")]
    texts = {name: changed(name) for name in names}
    if look:
        return
    tests = sorted({MUTANTS[name][0] for name in names})
    with tempfile.TemporaryDirectory() as top, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        trees = queue.Queue()
        first = os.path.join(top, "0")
        copy_sources(first)
        # What fails without a defect proves nothing with one.
        for test in tests:
            if run(first, test) != 0:
                sys.exit(f"mutants.py: {test} does not pass without a defect")
        trees.put(first)
        for i in range(1, os.cpu_count()):
            tree = os.path.join(top, str(i))
            shutil.copytree(first, tree)
            trees.put(tree)
        survived = 0
        for name, ok in zip(names, pool.map(lambda name: caught(trees, texts, name), names)):
            if ok is None:
                sys.exit(f"mutants.py: {name} does not build")
            survived += not ok
            print(f"{'caught  ' if ok else 'SURVIVED'} {name}", flush=True)
    print(f"{len(names) - survived} caught, {survived} survived")
    sys.exit(survived > 0)


main()
