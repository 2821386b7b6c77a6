# SPDX-License-Identifier: MIT
"""Real clients over TLS: the ways in, and what each client does on each of them.

    peers = Peers(here)                 of this machine; or newroot's attempt
    for way in WAYS:
        peers.nbdcopy(way)

A way is who the client is (a certificate, or a user with a key), the socket, and
the version of TLS, which is the client's choice: the server is as it comes.
"""
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections import namedtuple

from images import *
from nbdraw import GUARD
from pki import Pki, psk_file
from server import MIB, Server, eq, image, path_for, sparse

KEY = bytes(range(32))
PRIORITY = {"TLS1.2": "NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.3": "NORMAL:-VERS-ALL:+VERS-TLS1.3"}
# A server with a certificate of another CA, and one with another's name.
STRANGER, MISNAMED = "stranger", "misnamed"
# nbdkit ends with its command and nbdfuse at a signal, without a word to the server.
NO_GOODBYE = 'during=transmission error="Connection reset by peer"'


class Credentials:
    """What both sides of a way have: made once."""

    def __init__(self):
        pki, other = Pki(), Pki("another CA")
        self.client = pki.client()
        self.servers = {None: pki.server(), STRANGER: other.server(),
                        MISNAMED: pki.server('cn = "elsewhere"\ndns_name = "elsewhere"\n'
                                             "tls_www_server\n")}
        # The client's own certificate is good there.
        shutil.copy(pki.cert, os.path.join(self.servers[STRANGER], "ca-cert.pem"))
        self.keys = path_for("keys")
        os.mkdir(self.keys)
        self.key_file = os.path.join(self.keys, "keys.psk")     # as QEMU calls it
        os.link(psk_file({"alice": KEY}), self.key_file)
        self.other_keys = psk_file({"alice": KEY[::-1]})
        self.only_12 = path_for("only-12")
        with open(self.only_12, "w", encoding="ascii") as f:
            f.write("[overrides]\ndisabled-version = tls1.3\n")


@functools.cache
def credentials():
    return Credentials()


class Way(namedtuple("Way", "by listen version")):
    def serve(self, *args, wrong=None):
        """A server; a WRONG one is what no client should talk to."""
        c = credentials()
        if self.by == "key":
            options = ["--tls-psk", c.other_keys if wrong else c.key_file]
        else:
            options = ["--tls-certificates", c.servers[wrong], "--tls-verify-peer"]
        return Server("-v", *options, *args, listen=self.listen)

    def uri(self, server, trusting=False):
        """Of a client, or of one that has the keys of a wrong server."""
        c = credentials()
        if self.by == "key":
            user, tls = "alice@", f"tls-psk-file={c.other_keys if trusting else c.key_file}"
        else:
            user, tls = "", f"tls-certificates={c.client}"
        if self.listen == "unix":
            return f"nbds+unix://{user}/?socket={server.socket_path}&{tls}"
        return f"nbds://{user}localhost:{server.port}/?{tls}"

    def qemu(self, server):
        """Options of its programs, and what stands for the disk then."""
        c = credentials()
        creds = f"tls-creds-psk,dir={c.keys},username=alice" if self.by == "key" else \
            f"tls-creds-x509,dir={c.client}"
        where = f"path={server.socket_path},tls-hostname=localhost" if self.listen == "unix" else \
            f"host=localhost,port={server.port}"
        return ["--object", f"{creds},id=tls,endpoint=client,priority={PRIORITY[self.version]}"], \
            f"driver=raw,file.driver=nbd,file.tls-creds=tls,file.{where.replace(',', ',file.')}"

    def nbdkit(self, server):
        """Its plugin's parameters."""
        c = credentials()
        tls = ["tls-username=alice", f"tls-psk={c.key_file}"] if self.by == "key" else \
            [f"tls-certificates={c.client}"]
        where = [f"socket={server.socket_path}"] if self.listen == "unix" else \
            ["hostname=localhost", f"port={server.port}"]
        return ["nbd", *where, "tls=require", *tls]

    def check(self, server, but=None):
        """Everybody who was served came in this way, and nobody had trouble BUT this."""
        server.wait_log("^debug TLS ", f"{self}: nobody came over TLS")
        found = [line for line in server.lines if line.startswith("debug TLS ")]
        for line in found:
            # With TLS 1.2 GnuTLS has no AES-GCM for keys and elliptic curves.
            assert re.search(f'with="{self.version} (AES-256-GCM|CHACHA20-POLY1305)"', line), line
        eq([line for line in server.log_lines("error warning") if not (but and but in line)], [],
           f"{self}: complaints in the log")


WAYS = [Way(by, listen, version) for by in ("certificate", "key") for listen in ("unix", "tcp")
        for version in PRIORITY]
# Any two of their words meet.
FEW_WAYS = [way for i, way in enumerate(WAYS) if i in (1, 2, 4, 7)]


def here(*command):
    """Runs a client of this machine's Debian to its end: (status, stdout, stderr)."""
    run = subprocess.run(["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *map(str, command)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, timeout=GUARD, check=False)
    return run.returncode, run.stdout, run.stderr


NBDSH = """
h.pwrite(b"hello", 1000, nbd.CMD_FLAG_FUA)
h.pwrite(b"x" * 8192, 65536)
h.zero(4096, 65536, nbd.CMD_FLAG_NO_HOLE)
h.pwrite(b"y" * 65536, 1 << 20)
h.trim(65536, 1 << 20)
h.cache(4096, 0)
h.flush()
print(h.get_tls_negotiated(), bytes(h.pread(7, 999)), bytes(h.pread(2, 69631)))
h.block_status(h.get_size(), 0, lambda name, at, extents, e: print(name, at, sum(extents[::2])))
h.pwrite(bytes(range(256)) * 131072, 4 << 20)
print(h.pread(32 << 20, 4 << 20) == bytes(range(256)) * 131072)
h.shutdown()
"""

# What qemu-io does, and what is there afterwards.
QEMU_IO = ["write -P 0x11 0 16M", "write -P 0x22 1000 3000", "write -f -P 0x33 1M 64k",
           "write -z 2M 1M", "write -z -u 4M 1M", "discard 6M 1M", "write -P 0x44 6M 1M",
           *[f"aio_write -P {0x50 + i} {8 + i}M 1M" for i in range(8)], "aio_flush", "flush"]
QEMU_IO_READS = ["read -P 0x11 0 1000", "read -P 0x22 1000 3000", "read -P 0x11 4000 1044576",
                 "read -P 0x33 1M 64k", "read -P 0 2M 1M", "read -P 0x11 3M 1M", "read -P 0 4M 1M",
                 "read -P 0x44 6M 1M",
                 *[f"read -P {0x50 + i} {8 + i}M 1M" for i in range(8)]]


class Peers:
    """The clients of a machine, on which ATTEMPT runs one; NEWEST is libnbd 1.22."""

    def __init__(self, attempt, newest=False):
        self.attempt = attempt
        self.newest = newest
        self.source = None

    def run(self, way, *command, status=0):
        """What it printed; and it had nothing to complain of."""
        got, out, err = self.start(way, *command)
        assert (got, err) == (status, ""), \
            f"{way}: {shlex.join(map(str, command))}: exit status {got}\n{out}{err}"
        return out

    def start(self, way, *command):
        # What chooses for libnbd, which itself has no such option.
        env = ["env", f"GNUTLS_SYSTEM_PRIORITY_FILE={credentials().only_12}"] \
            if way.version == "TLS1.2" else []
        return self.attempt(*env, *command)

    def image(self):
        """The same each time; nobody writes to it."""
        self.source = self.source or mixed_image("source")
        return self.source

    def is_refused(self, way, command, wrongs):
        """COMMAND(way, server) ends at a wrong server, which loses nothing by it."""
        for wrong in wrongs:
            with way.serve("mem:48M", wrong=wrong) as server:
                status, out, err = self.start(way, *command(way, server))
                assert status != 0, f"{way}: {wrong}: {out}{err}"
                # QEMU looks at a certificate when TLS is there, the others before that.
                server.wait_log("TLS handshake failed|during=handshake")
                assert "transmission" not in server.log(), f"{way}: {wrong}:\n{server.log()}"
                eq(self.run(way, *nbdsh(way, server, trusting=True), "-c", "print(h.get_size())"),
                   f"{48 * MIB}\n", f"{way}: {wrong}: who trusts it")

    def wrong_servers(self, way):
        """Those that libnbd can tell: on a Unix socket it has no name to expect."""
        if way.by == "key":
            return [STRANGER]
        if way.listen == "unix":
            return [STRANGER] if self.newest else []
        return [STRANGER, MISNAMED]

    # --- libnbd ---

    def nbdcopy(self, way):
        """In and out, and from one to the other, on several connections."""
        source, copy = self.image(), path_for("copy")
        with way.serve(sparse("disk", MIXED_SIZE)) as server, way.serve("mem:48M") as other:
            self.run(way, "nbdcopy", "--flush", source, way.uri(server))
            check_same(source, server.args[-1], way)
            self.run(way, "nbdcopy", "--connections=4", way.uri(server), way.uri(other))
            self.run(way, "nbdcopy", "--synchronous", way.uri(other), copy)
            check_same(source, copy, way)
            check_sparse(copy, way)
            way.check(server)
            way.check(other)

    def nbdsh(self, way):
        with way.serve("mem:48M") as server:
            out = self.run(way, *nbdsh(way, server), "-c", NBDSH)
            eq(out.splitlines(), [r"True b'\x00hello\x00' b'\x00x'",
                                  f"base:allocation 0 {48 * MIB}", "True"], way)
            way.check(server)

    def libnbd_refuses(self, way):
        for command in (lambda w, s: ["nbdinfo", w.uri(s)],
                        lambda w, s: ["nbdcopy", w.uri(s), "null:"],
                        nbdsh):
            self.is_refused(way, command, self.wrong_servers(way))

    def nbdfuse(self, way):
        """A file that is the disk."""
        source, where = self.image(), path_for("mounted")
        os.mkdir(where)
        with way.serve(sparse("disk", MIXED_SIZE)) as server:
            self.run(way, "sh", "-ec",
                     f'nbdfuse --pidfile {where}.pid {where}/disk "$1" 2>{where}.err & '
                     f"until [ -s {where}.pid ]; do kill -0 $!; sleep 0.1; done; "
                     f"dd if={source} of={where}/disk bs=1M conv=notrunc,fsync status=none; "
                     f"cmp {source} {where}/disk; kill $!; wait $! || :", "sh", way.uri(server))
            check_same(source, server.args[-1], way)
            way.check(server, NO_GOODBYE)

    # --- QEMU ---

    def qemu_img(self, way):
        source, copy = self.image(), path_for("copy")
        with way.serve(sparse("disk", MIXED_SIZE)) as server:
            tls, disk = way.qemu(server)
            self.run(way, "qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", *tls,
                     "--target-image-opts", source, disk)
            check_same(source, server.args[-1], way)
            self.run(way, "qemu-img", "compare", "-q", *tls, "--image-opts",
                     f"driver=raw,file.driver=file,file.filename={source}", disk)
            self.run(way, "qemu-img", "convert", *tls, "--image-opts", "-O", "raw", disk, copy)
            check_same(source, copy, way)
            way.check(server)
        with way.serve(file_with(32 * MIB, (5 * MIB, MIB))) as server:
            tls, disk = way.qemu(server)
            found = json.loads(self.run(way, "qemu-img", "map", "--output=json", *tls,
                                        "--image-opts", disk))
            eq([(e["start"], e["length"], e["data"], e["zero"]) for e in found],
               [(0, 5 * MIB, False, True), (5 * MIB, MIB, True, False),
                (6 * MIB, 26 * MIB, False, True)], f"{way}: map")
            way.check(server)

    def qemu_io(self, way):
        with way.serve(sparse("disk", 16 * MIB)) as server:
            for commands in QEMU_IO, QEMU_IO_READS:
                tls, disk = way.qemu(server)
                out = self.run(way, "qemu-io", *tls, "--image-opts",
                               *[word for line in commands for word in ("-c", line)], disk)
                assert not re.search("fail|error|invalid|unknown", out, re.IGNORECASE), out
            way.check(server)

    def qemu_refuses(self, way):
        def img(way, server):
            tls, disk = way.qemu(server)
            return ["qemu-img", "info", *tls, "--image-opts", disk]

        def io(way, server):
            tls, disk = way.qemu(server)
            return ["qemu-io", *tls, "--image-opts", "-c", "read 0 4k", disk]

        for command in img, io:
            self.is_refused(way, command, [STRANGER, MISNAMED] if way.by != "key" else [STRANGER])

    # --- nbdkit ---

    def nbdkit(self, way):
        """Its plugin is the client, for others that are in clear."""
        source, copy = self.image(), path_for("copy")
        with way.serve(sparse("disk", MIXED_SIZE)) as server:
            for command in (f'nbdcopy --flush --connections=4 {source} "$uri"',
                            f'nbdcopy "$uri" {copy}',
                            f'qemu-img compare -q -f raw -F raw {source} "$uri"'):
                self.run(way, "nbdkit", "-U", "-", *way.nbdkit(server), "--run", command)
            check_same(source, server.args[-1], way)
            check_same(source, copy, way)
            way.check(server, NO_GOODBYE)

    def fio(self, way):
        """Whose engine takes no files of certificates or keys: nbdkit has them."""
        with way.serve(sparse("disk", 16 * MIB)) as server:
            out = path_for("fio.json")
            self.run(way, "nbdkit", "-U", "-", *way.nbdkit(server), "--run",
                     'fio --name=verify --ioengine=nbd --uri="$uri" --rw=randrw --iodepth=32 '
                     "--numjobs=2 --size=8M --offset_increment=8M --bssplit=512/10:4k/60:64k/30 "
                     "--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 "
                     f"--randseed=7 --group_reporting --output-format=json --output={out}")
            with open(out, encoding="utf-8") as f:
                job, = json.load(f)["jobs"]
            eq(job["error"], 0, f"{way}: fio")
            assert min(job["read"]["io_bytes"], job["write"]["io_bytes"]) > MIB, f"{way}: {job}"
            way.check(server, NO_GOODBYE)

    def nbdkit_refuses(self, way):
        self.is_refused(way, lambda w, s: ["nbdkit", "-U", "-", *w.nbdkit(s), "--run",
                                           'nbdinfo "$uri"'], self.wrong_servers(way))


def nbdsh(way, server, trusting=False):
    """Its option for a URI lets that name no files. TRUSTING, it takes any server."""
    return ["nbdsh", "--base-allocation", "-c", "h.set_uri_allow_local_file(True)",
            "-c", f"h.set_tls_verify_peer({not trusting})",
            "-c", f"h.connect_uri('{way.uri(server, trusting)}')"]
