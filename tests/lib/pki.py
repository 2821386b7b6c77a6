#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A small certification authority, made with certtool, and users with keys.

    pki = Pki()
    with Server(disk, "--tls-certificates", pki.server()) as server: ...

    TESTS_TLS=$(tests/lib/pki.py)       a directory for both sides

A directory has the names that servers and clients look for: ca-cert.pem,
server-cert.pem, server-key.pem, client-cert.pem, client-key.pem.
"""
import datetime
import os
import shutil
import ssl
import subprocess

from server import path_for

DAY = 86400
LISTED = datetime.date.today() - datetime.timedelta(days=1)


def certtool(*args, template=""):
    path = path_for("template")
    with open(path, "w", encoding="utf-8") as f:
        f.write(template)
    command = ["certtool", *args]
    if template:
        command += ["--template", path]
    run_tool(command)


def openssl(*args):
    run_tool(["openssl", *args])


def run_tool(command):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         check=False)
    assert run.returncode == 0, f"{' '.join(command)}:\n{run.stdout}"


class Pki:
    """One authority."""

    def __init__(self, name="blkgate test CA", kind="ecdsa", by=None):
        """Signed by another one, if there is one it is below."""
        self.name = name
        self.dir = path_for("ca")
        os.mkdir(self.dir)
        self.key, self.cert = self.at("ca-key.pem"), self.at("ca-cert.pem")
        self.serial = 100
        certtool("--generate-privkey", "--key-type", kind, "--outfile", self.key)
        if by:
            by.certify(self, self.cert)
        else:
            certtool("--generate-self-signed", "--load-privkey", self.key, "--outfile", self.cert,
                     template=self.template(1))

    def at(self, name):
        return os.path.join(self.dir, name)

    def template(self, serial):
        return (f'cn = "{self.name}"\nca\ncert_signing_key\ncrl_signing_key\nserial = {serial}\n'
                'expiration_days = 3650\n')

    def certify(self, other, cert):
        """A certificate for another authority, its name and its key, signed by this one."""
        self.serial += 1
        certtool("--generate-certificate", "--load-ca-certificate", self.cert,
                 "--load-ca-privkey", self.key, "--load-privkey", other.key, "--outfile", cert,
                 template=other.template(self.serial))
        return cert

    def issue(self, to, who, template, digest="SHA256"):
        """WHO-cert.pem and WHO-key.pem into the directory, signed by this authority."""
        self.serial += 1
        key, cert = os.path.join(to, f"{who}-key.pem"), os.path.join(to, f"{who}-cert.pem")
        if not os.path.exists(key):
            certtool("--generate-privkey", "--key-type", "ecdsa", "--outfile", key)
        os.chmod(key, 0o600)
        certtool("--generate-certificate", "--load-ca-certificate", self.cert,
                 "--load-ca-privkey", self.key, "--load-privkey", key, "--outfile", cert,
                 "--hash", digest,
                 template=f"serial = {self.serial}\nsigning_key\n{template}")
        return cert

    def weak(self, to, who, template, kind, bits, digest="SHA256"):
        """The same, of a key and with a signature that nobody should accept any more."""
        key = os.path.join(to, f"{who}-key.pem")
        certtool("--generate-privkey", "--key-type", kind, "--bits", str(bits), "--outfile", key)
        self.issue(to, who, template, digest)

    def many_names(self, names, where=None):
        """A client's certificate with so many of them; certtool takes no more than 128."""
        return self.requested("/CN=alice", "subjectAltName = @names\n[names]\n" + "".join(
            f"DNS.{i} = {name}\n" for i, name in enumerate(names)), where)

    def requested(self, subject, more="", where=None):
        """A client's with a subject as openssl-req(1) takes it, in that order."""
        where = self.client(where=where)
        request, extensions = path_for("request"), path_for("extensions")
        with open(extensions, "w", encoding="ascii") as f:
            f.write(f"extendedKeyUsage = clientAuth\n{more}")
        self.serial += 1
        openssl("req", "-new", "-utf8", "-key", os.path.join(where, "client-key.pem"),
                "-subj", subject, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key,
                "-set_serial", str(self.serial), "-extfile", extensions,
                "-out", os.path.join(where, "client-cert.pem"))
        return where

    def altered(self, where, old, new):
        """The client's once more with these bytes for those, as many, and a good signature."""
        cert, part, signature = os.path.join(where, "client-cert.pem"), path_for("tbs"), \
            path_for("signature")
        with open(cert, encoding="ascii") as f:
            whole = ssl.PEM_cert_to_DER_cert(f.read())
        # SEQUENCE of what is signed, a SEQUENCE too long for one byte; how; the signature.
        assert whole[0:2] == whole[4:6] == b"\x30\x82" and len(old) == len(new)
        end = 8 + int.from_bytes(whole[6:8], "big")
        signed, how = whole[4:end], whole[end:end + 2 + whole[end + 1]]
        assert signed.count(old) == 1, f"{signed.count(old)} times {old}"
        signed = signed.replace(old, new)
        with open(part, "wb") as f:
            f.write(signed)
        openssl("dgst", "-sha256", "-sign", self.key, "-out", signature, part)
        with open(signature, "rb") as f:
            bits = b"\0" + f.read()
        body = signed + how + bytes((3, len(bits))) + bits
        with open(cert, "w", encoding="ascii") as f:
            f.write(ssl.DER_cert_to_PEM_cert(b"\x30\x82" + len(body).to_bytes(2, "big") + body))
        return where

    def directory(self):
        """A new one, with this authority's certificate."""
        where = path_for("pki")
        os.mkdir(where)
        shutil.copy(self.cert, os.path.join(where, "ca-cert.pem"))
        return where

    def server(self, template='cn = "localhost"\ndns_name = "localhost"\n'
                              'ip_address = "127.0.0.1"\ntls_www_server\n', where=None):
        where = where or self.directory()
        self.issue(where, "server", template)
        return where

    def client(self, name="alice", more="tls_www_client\n", where=None):
        where = where or self.directory()
        self.issue(where, "client", f'cn = "{name}"\n{more}')
        return where

    def revoke(self, cert, where, days=365, dates=None):
        """
        ca-crl.pem into the directory: the certificate is taken back. All lists of a test
        are of one moment, unless it says when: none is older than another one.
        """
        certtool("--generate-crl", "--load-ca-privkey", self.key, "--load-ca-certificate",
                 self.cert, "--load-certificate", cert, "--outfile",
                 os.path.join(where, "ca-crl.pem"),
                 template=(dates or f'crl_this_update_date = "{LISTED}"\n'
                           f"crl_next_update = {days}\n") + "crl_number = 1\n")


def psk_file(users):
    """{user: key bytes} as a file of keys."""
    path = path_for("psk")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as f:
        f.writelines(f"{user}:{key.hex()}\n" for user, key in users.items())
    return path


if __name__ == "__main__":
    authority = Pki()
    print(authority.client(where=authority.server()))
