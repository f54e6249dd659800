"""Bad input, driven through the command line: each ends in one clear error, in time, with nothing broken.

Every case says what is wrong, the slug and exit code that have to come of it, and words that the message must
have; `refuses` looks at all the rest: two lines on stderr, the same in `--json`, no file touched.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from dicomtls_cli.dimse import command as dimse
from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.files.images import write_test_images
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.services.receiving.server import ServerOptions, StorageServer
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.upperlayer.codec import encode
from dicomtls_cli.upperlayer.items import ImplementationClassUID, ImplementationVersion, MaximumLength
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer
from dicomtls_cli.upperlayer.pdu import AssociateAccept, AssociateRequest
from tests.support import cli, scripted
from tests.support.discs import dicomdir
from tests.support.images import FOLDER, data_set, sop_instance
from tests.support.peers import OurStorescp, our_storescp
from tests.support.pki import make_identity, write_bundle
from tests.support.rawpeer import serving
from tests.support.told import documented

SHORT = ["--connect-timeout", "500ms", "-ts", "300ms", "-ta", "300ms", "-td", "300ms"]
DRIP = 0.05  # seconds between two bytes of a dripping peer: far below every time-out, as a byte a second is
COMMANDS = ("echoscu", "storescu", "storescp")

Words = Sequence[object]
Run = Callable[..., cli.Result]

# ---------------------------------------------------------------------- what every refusal has to be


def snapshot(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Return kind, mode and content of everything in `folders`."""
    found = {}
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mode, content)
    return found


def one_error(stderr: str) -> tuple[str, str]:
    """Return the message and the hint of a stderr that has nothing else."""
    lines = stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["error", "hint"], stderr
    assert all(line.isprintable() and line.partition(": ")[2] for line in lines), stderr
    return lines[0].removeprefix("error: "), lines[1].removeprefix("hint: ")


def refuses(words: Words, slug: str, exit_code: int, *mentioned: object, run: Run = cli.run) -> None:
    """Expect the command line `words` to fail as it should, for people and as JSON, and to touch nothing."""
    before = snapshot(Path.cwd())
    told = run(*words)
    assert (told.exit_code, told.stdout) == (exit_code, ""), told
    message, hint = one_error(told.stderr)
    for word in mentioned:
        assert str(word) in message
    name, *rest = words
    record = run(name, "--json", *rest)
    assert (record.exit_code, record.stderr) == (exit_code, "")
    assert record.records == [
        {"ok": False, "error": {"code": slug, "exit": exit_code, "message": message, "hint": hint}}
    ]
    assert documented(slug).fullmatch(message), (
        f"{message!r} is not what docs/troubleshooting.md says: {slug}"
    )
    assert snapshot(Path.cwd()) == before


def powerless(*words: object) -> cli.Result:
    """Run a command line as a process whom file permissions bind, were it root's."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if not shutil.which(prefix[0]) or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("root may read and write everything, and setpriv cannot take that right away here")
    return process([*prefix, sys.executable, "-m", "dicomtls_cli"], words)


def process(command: Sequence[str], words: Words, stdout: Any = subprocess.PIPE) -> cli.Result:
    done = subprocess.run(
        [*command, *map(str, words)], env=cli.environment(), stdin=subprocess.DEVNULL, stdout=stdout,
        stderr=subprocess.PIPE, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    return cli.Result(done.returncode, done.stdout or "", done.stderr)


# ---------------------------------------------------------------------- files for TLS: certificate, key, trust


@dataclass(frozen=True)
class Material:
    """Good pairs, and a file for everything that can be wrong with one."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    put = Material(folder)
    good, other = make_identity(folder, "good"), make_identity(folder, "other")
    make_identity(folder, "expired", valid=(-30, -1))
    make_identity(folder, "small", ec_key=False, key_size=1024)
    write_bundle(put["two.crt"], good, other)
    write_bundle(put["with-expired.crt"], good, make_identity(folder, "old-peer", valid=(-30, -1)))
    secret = serialization.BestAvailableEncryption(b"secret")
    put["encrypted.key"].write_bytes(
        good.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    )
    locked = serialization.BestAvailableEncryption(b"a password nobody tries")
    put["locked.p12"].write_bytes(
        pkcs12.serialize_key_and_certificates(b"x", good.private_key, good.certificate, None, locked)
    )
    put["damaged.p12"].write_bytes(b"0\x07\x02\x01\x030\x02\x05\0")
    put["wrong-passphrase"].write_text("not it\n")
    put["empty"].write_bytes(b"")
    put["garbage"].write_bytes(bytes(range(256)) * 4)
    put["cut.pem"].write_bytes(good.cert.read_bytes()[:300])
    put["cut.key"].write_bytes(good.key.read_bytes()[:100])
    hollow = b"\x30\x82\x01\x00\x30\x81\xfd" + bytes(253)
    put["hollow.pem"].write_text(ssl.DER_cert_to_PEM_cert(hollow))
    damaged = good.key.read_text().splitlines()
    damaged[1] = "A" * len(damaged[1])
    put["damaged.key"].write_text("\n".join(damaged) + "\n")
    put["image.dcm"].write_bytes((FOLDER / "CT_small.dcm").read_bytes())
    put["folder"].mkdir()
    os.mkfifo(put["fifo"])
    return put


@pytest.fixture(scope="session")
def taken_port() -> Iterator[int]:
    """Hold a port, so that a storescp that takes what it should refuse ends there, with exit code 5."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Lines:
    """The three DICOM commands with given TLS options; none of them gets as far as a connection."""

    material: Material
    port: int

    def words(self, name: str, options: Words) -> list[object]:
        if name == "storescp":
            return [name, "--bind", "127.0.0.1", "--port", self.port, "--output", "received", *options]
        files = [self.material["image.dcm"]] if name == "storescu" else []
        return [name, f"127.0.0.1:{self.port}", *files, *SHORT, *options]


@pytest.fixture
def lines(material: Material, taken_port: int) -> Lines:
    return Lines(material, taken_port)


# Which file stands in for which part; a good one stands for the others.
BAD_FILES = [
    ({"cert": "missing"}, "file.missing", 3),
    ({"cert": "folder"}, "file.is-directory", 3),
    ({"cert": "fifo"}, "file.not-regular", 3),
    ({"cert": "empty"}, "certificate.empty", 3),
    ({"cert": "garbage"}, "certificate.not-a-certificate", 3),
    ({"cert": "image.dcm"}, "certificate.not-a-certificate", 3),
    ({"cert": "good.key"}, "certificate.is-key", 3),
    ({"cert": "encrypted.key"}, "certificate.is-key", 3),
    ({"cert": "damaged.p12"}, "store.damaged", 3),
    ({"cert": "locked.p12"}, "store.locked", 3),
    ({"cert": "locked.p12", "key-passphrase-file": "wrong-passphrase"}, "store.wrong-password", 3),
    ({"cert": "cut.pem"}, "pem.damaged", 3),
    ({"cert": "hollow.pem"}, "certificate.damaged", 3),
    ({"cert": "small.crt", "key": "small.key"}, "certificate.key-too-small", 3),
    ({"cert": "good.key", "key": "good.crt"}, "key.swapped", 3),
    ({"cert": "other.crt"}, "key.mismatch", 3),
    ({"key": "missing"}, "file.missing", 3),
    ({"key": "folder"}, "file.is-directory", 3),
    ({"key": "fifo"}, "file.not-regular", 3),
    ({"key": "empty"}, "key.empty", 3),
    ({"key": "garbage"}, "key.not-a-key", 3),
    ({"key": "image.dcm"}, "key.not-a-key", 3),
    ({"key": "good.crt"}, "key.is-certificate", 3),
    ({"key": "locked.p12"}, "store.locked", 3),
    ({"key": "cut.key"}, "pem.damaged", 3),
    ({"key": "damaged.key"}, "key.damaged", 3),
    ({"key": "other.key"}, "key.mismatch", 3),
    ({"key": "encrypted.key"}, "key.encrypted", 3),
    ({"key": "encrypted.key", "key-passphrase-file": "wrong-passphrase"}, "key.wrong-passphrase", 3),
    ({"key": "encrypted.key", "key-passphrase-file": "empty"}, "key.wrong-passphrase", 3),
    ({"key": "encrypted.key", "key-passphrase-file": "missing"}, "file.missing", 3),
    ({"key": "encrypted.key", "key-passphrase-file": "folder"}, "file.is-directory", 3),
    ({"trust": "missing"}, "file.missing", 3),
    ({"trust": "folder"}, "trust.empty-directory", 3),
    ({"trust": "fifo"}, "file.not-regular", 3),
    ({"trust": "empty"}, "trust.empty", 3),
    ({"trust": "garbage"}, "trust.not-a-certificate", 3),
    ({"trust": "image.dcm"}, "trust.not-a-certificate", 3),
    ({"trust": "good.key"}, "trust.is-key", 3),
    ({"trust": "encrypted.key"}, "trust.is-key", 3),
    ({"trust": "damaged.p12"}, "store.damaged", 3),
    ({"trust": "locked.p12"}, "store.locked", 3),
    ({"trust": "locked.p12", "trust-passphrase-file": "wrong-passphrase"}, "store.wrong-password", 3),
    ({"trust-store": "locked.p12"}, "store.locked", 3),
    ({"trust": "cut.pem"}, "pem.damaged", 3),
    ({"trust": "hollow.pem"}, "trust.damaged", 3),
    ({"trust-ca": "missing"}, "file.missing", 3),
]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("bad", "slug", "exit_code"), BAD_FILES, ids=lambda value: str(value))
def test_a_bad_file(
    bad: dict[str, str], slug: str, exit_code: int, name: str, material: Material, lines: Lines
) -> None:
    parts = {"cert": "good.crt", "key": "good.key", "trust": "good.crt", **bad}
    options = [word for part, file in parts.items() for word in (f"--{part}", material[file])]
    before = snapshot(material.folder)
    at_fault = (
        bad.get("cert", list(bad.values())[-1])
        if slug not in ("key.wrong-passphrase", "store.wrong-password")
        else next(iter(bad.values()))
    )
    refuses(lines.words(name, options), slug, exit_code, material[at_fault])
    assert snapshot(material.folder) == before


@pytest.mark.parametrize(("part", "name"), [("cert", "echoscu"), ("key", "storescu"), ("trust", "storescp")])
def test_an_unreadable_file(part: str, name: str, material: Material, lines: Lines) -> None:
    closed = Path("closed.pem")
    shutil.copy(material["good.key" if part == "key" else "good.crt"], closed)
    closed.chmod(0)
    parts = {"cert": "good.crt", "key": "good.key", "trust": "good.crt"}
    options = [w for p, file in parts.items() for w in (f"--{p}", closed if p == part else material[file])]
    for run in (powerless, lambda *words: powerless(words[0], "--json", *words[1:])):
        told = run(*lines.words(name, options))
        assert told.exit_code == ExitCode.INPUT, told
        assert "file.unreadable" in told.stdout or one_error(told.stderr)[0].endswith("Permission denied")


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("options", "slug", "exit_code"),
    [
        (["--cert", "good.crt", "--key", "good.key"], "usage.no-trust", 2),
        (["--key", "good.key", "--trust", "good.crt"], "usage.half-key-pair", 2),
        (["--cert", "good.crt", "--trust", "good.crt"], "key.not-given", 3),
        (["--no-tls", "--trust", "good.crt"], "usage.no-tls-contradiction", 2),
        (["--cert", "good.crt", "+tls", "good.key", "good.crt"], "usage.contradiction", 2),
    ],
    ids=lambda value: str(value),
)
def test_half_of_what_is_needed(
    options: list[str], slug: str, exit_code: int, name: str, material: Material, lines: Lines
) -> None:
    at_place = [material[word] if "." in word else word for word in options]
    refuses(lines.words(name, at_place), slug, exit_code)


def test_an_scp_without_a_pair(material: Material, lines: Lines) -> None:
    refuses(lines.words("storescp", ["--trust", material["good.crt"]]), "usage.no-certificate", 2)


@pytest.mark.parametrize(
    ("pin", "slug", "exit_code"),
    [
        ("missing", "file.missing", 3),
        ("empty", "trust.empty", 3),
        ("two.crt", "trust.not-one-certificate", 3),
    ],
)
def test_a_bad_pin(pin: str, slug: str, exit_code: int, material: Material, lines: Lines) -> None:
    refuses(lines.words("echoscu", ["--pin", material[pin]]), slug, exit_code, material[pin])


@pytest.mark.parametrize(
    ("inputs", "slug", "exit_code"),
    [
        (["missing"], "file.missing", 3),
        (["empty"], "trust.empty", 3),
        (["good.crt", "garbage"], "trust.not-a-certificate", 3),
        (["good.crt", "good.key"], "bundle.private-key", 3),
        (["folder"], "trust.empty-directory", 3),
        (["image.dcm"], "trust.not-a-certificate", 3),
    ],
    ids=lambda value: str(value),
)
def test_a_bad_file_in_a_bundle(inputs: list[str], slug: str, exit_code: int, material: Material) -> None:
    files = [material[name] for name in inputs]
    refuses(["bundle", *files, "-o", "out.crt"], slug, exit_code, files[-1])


# ---------------------------------------------------------------------- expired, in both roles


@pytest.mark.parametrize("name", ["echoscu", "storescu"])
def test_our_certificate_has_expired(name: str, material: Material, tmp_path: Path) -> None:
    """The peer refuses it, we say so, and the peer goes on serving."""
    trust = ["--trust", material["with-expired.crt"]]
    good = ["--cert", material["good.crt"], "--key", material["good.key"], *trust]
    old = ["--cert", material["old-peer.crt"], "--key", material["old-peer.key"], *trust]
    files = [material["image.dcm"]] if name == "storescu" else []
    with our_storescp(tmp_path / "scp", *good) as scp:
        peer = f"localhost:{scp.port}"
        refuses([name, peer, *files, *old], "tls.refused-expired", 12, peer)
        assert scp.event("refused")["error"]["code"] == "tls.peer-expired"
        assert stored(scp.output) == []
        assert cli.run(name, peer, *files, *good).exit_code == 0
    assert stored(scp.output) == [sop_instance(file) for file in files]


@pytest.mark.parametrize("name", ["echoscu", "storescu"])
def test_the_trusted_certificate_has_expired(name: str, material: Material, tmp_path: Path) -> None:
    files = [material["image.dcm"]] if name == "storescu" else []
    expired = ["--cert", material["expired.crt"], "--key", material["expired.key"]]
    with our_storescp(tmp_path / "scp", *expired, "--trust", material["good.crt"]) as scp:
        own = ["--cert", material["good.crt"], "--key", material["good.key"]]
        peer = f"localhost:{scp.port}"
        refuses([name, peer, *files, *own, "--trust", material["expired.crt"]], "tls.peer-expired", 11, peer)
    assert stored(scp.output) == []


# ---------------------------------------------------------------------- words of the command line

AE_17 = "A" * 17
# `PEER` stands for host and port, `TRUST` for what every line needs to get any further.
BAD_WORDS = [
    (["echoscu", "--aet", AE_17, "PEER"], "usage.ae-title", 2, AE_17),
    (["echoscu", "-aet", "A\\B", "PEER"], "usage.ae-title", 2, "A\\B"),
    (["echoscu", "--aet", "", "PEER"], "usage.ae-title", 2, "``"),
    (["echoscu", "--aet", "   ", "PEER"], "usage.ae-title", 2, "AE title"),
    (["echoscu", "--aet", "A\x1b[31mB", "PEER"], "usage.ae-title", 2, "A\\x1b[31mB"),
    (["echoscu", "--aet", "Ä", "PEER"], "usage.ae-title", 2, "Ä"),
    (["echoscu", "--aet", "-v", "PEER"], "usage.option-value", 2, "`-v`"),
    (["storescu", "--aec", AE_17, "PEER", "f"], "usage.ae-title", 2, AE_17),
    (["storescu", "-aec", "A\\B", "PEER", "f"], "usage.ae-title", 2, "A\\B"),
    (["storescu", "--aec=", "PEER", "f"], "usage.ae-title", 2, "``"),
    (["storescu", "-aec", "-aet", "PEER", "f"], "usage.option-value", 2, "`-aet`"),
    (["echoscu", f"{AE_17}@h:104"], "usage.ae-title", 2, AE_17),
    (["echoscu", "A\\B@h:104"], "usage.ae-title", 2, "A\\B"),
    (["echoscu", "@h:104"], "usage.ae-title", 2, "``"),
    (["echoscu", "-A@h:104"], "usage.no-such-option", 2, "-A@h:104"),
    (["storescu", "-c", f"{AE_17}@h:104", "f"], "usage.ae-title", 2, AE_17),
    (["storescp", "--aet", AE_17, "TAKEN"], "usage.ae-title", 2, AE_17),
    (["storescp", "--aet", "A\\B", "TAKEN"], "usage.ae-title", 2, "A\\B"),
    (["storescp", "--aet=", "TAKEN"], "usage.ae-title", 2, "``"),
    (["storescp", "-b", f"{AE_17}:104"], "usage.ae-title", 2, AE_17),
    (["echoscu", "h", "0"], "usage.port", 2, "`0`"),
    (["echoscu", "h:0"], "usage.port", 2, "`0`"),
    (["echoscu", "h", "70000"], "usage.port", 2, "`70000`"),
    (["echoscu", "h:70000"], "usage.port", 2, "`70000`"),
    (["echoscu", "[::1]:70000"], "usage.port", 2, "`70000`"),
    (["echoscu", "h:-1"], "usage.port", 2, "`-1`"),
    (["echoscu", "h:x"], "usage.port", 2, "`x`"),
    (["storescu", "h", "0", "f"], "usage.port", 2, "`0`"),
    (["storescu", "-c", "A@h:70000", "f"], "usage.port", 2, "`70000`"),
    (["storescp", "00"], "usage.port", 2, "`00`"),
    (["storescp", "70000"], "usage.port", 2, "`70000`"),
    (["storescp", "--port", "70000"], "usage.port", 2, "70000"),
    (["storescp", "--port", "-1"], "usage.port", 2, "-1"),
    (["storescp", "-b", "70000"], "usage.port", 2, "`70000`"),
    (["echoscu"], "usage.no-peer", 2, "no peer"),
    (["echoscu", ""], "usage.peer", 2, "``"),
    (["echoscu", "104"], "usage.peer", 2, "`104`"),
    (["echoscu", "https://pacs:104"], "usage.peer", 2, "https"),
    (["echoscu", "pa\x1b[31mcs:104"], "usage.peer", 2, "pa\\x1b[31mcs"),
    (["storescu"], "usage.no-peer", 2, "no peer"),
    (["storescu", "PEER"], "usage.no-path", 2, "PEER"),
    (["storescu", "-c", "PEER", "--halt"], "usage.no-path", 2, "PEER"),
    (["storescu", "PEER", "-", "IMAGE", "-"], "usage.list-twice", 2, "`-`"),
    (["storescu", "PEER", "CERT"], "usage.pem-as-dicom", 2, "CERT"),
    (["storescu", "PEER", "IMAGE", "KEY"], "usage.pem-as-dicom", 2, "KEY"),
    (["storescu", "CERT", "PEER", "IMAGE"], "usage.pem-as-dicom", 2, "CERT"),
    (["echoscu", "CERT", "PEER"], "usage.pem-as-dicom", 2, "CERT"),
    (["echoscu", "PEER", "-td", "0"], "usage.seconds", 2, "`0`"),
    (["echoscu", "PEER", "-td", "1h"], "usage.seconds", 2, "`1h`"),
    (["echoscu", "PEER", "--max-pdu", "1"], "usage.invalid", 2, "--max-pdu"),
    (["storescp", "--ignore", "--output", "x", "TAKEN"], "usage.contradiction", 2, "--ignore"),
    (["gencert", "x", "--host", "a b"], "usage.invalid-host", 2, "`a b`"),
    (["gencert", "../x"], "usage.invalid-name", 2, "`../x`"),
    (["ecohscu", "PEER"], "usage.no-such-command", 2, "`ecohscu`"),
]


@pytest.mark.parametrize(
    ("words", "slug", "exit_code", "mentioned"), BAD_WORDS, ids=lambda value: ascii(value)[:60]
)
def test_a_bad_word(
    words: list[str], slug: str, exit_code: int, mentioned: str, material: Material, taken_port: int
) -> None:
    names = {
        "PEER": f"127.0.0.1:{taken_port}",
        "TAKEN": str(taken_port),
        "CERT": str(material["good.crt"]),
        "KEY": str(material["good.key"]),
        "IMAGE": str(material["image.dcm"]),
    }
    trust = [] if words[0] in ("gencert", "ecohscu") else ["--trust", material["good.crt"]]
    line = [names.get(word, word) for word in words]
    refuses([*line, *trust], slug, exit_code, names.get(mentioned, mentioned))


# ---------------------------------------------------------------------- peers


def drip(sock: socket.socket, start: bytes) -> None:
    """Send `start`, then NULs, byte by byte, until the other side leaves: it never ends by itself."""
    while True:
        if select.select([sock], [], [], DRIP)[0] and not sock.recv(65536):
            return
        sock.send(start[:1] or b"\0")
        start = start[1:]


def says(data: bytes) -> Callable[[socket.socket], None]:
    """Return a peer that says `data` at once and then waits for the other side to leave."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(data)
        while sock.recv(65536):
            pass

    return serve


def hangs_up(sock: socket.socket) -> None:
    """Read what comes first, and leave without a word."""
    sock.recv(65536)


def resets(sock: socket.socket) -> None:
    """Read what comes first, and break the connection off."""
    sock.recv(65536)
    scripted.Scripted(sock).reset()


def accepts(
    then: Callable[[socket.socket], None], *, version: str = "PEER"
) -> Callable[[socket.socket], None]:
    """Return a plain DICOM peer that accepts any association and goes on with `then`."""

    def serve(sock: socket.socket) -> None:
        asked = read_request(sock)
        accepted = answer(asked, AcceptRules())
        information = (MaximumLength(16384), ImplementationClassUID("1.2.3"), ImplementationVersion(version))
        sock.sendall(
            encode(AssociateAccept(accepted.called_ae, accepted.calling_ae, accepted.results, information))
        )
        then(sock)

    return serve


def read_request(sock: socket.socket) -> AssociateRequest:
    from dicomtls_cli.upperlayer.codec import decode

    asked = decode(scripted.RQ, scripted.Scripted(sock).expect(scripted.RQ))
    assert isinstance(asked, AssociateRequest)
    return asked


def responds(status: int, comment: str = "") -> Callable[[socket.socket], None]:
    """Go on, after `accepts`, by answering one message with `status`."""

    def serve(sock: socket.socket) -> None:
        script = scripted.Scripted(sock)
        context_id, command, _ = script.expect_message()
        reply = dimse.encode(dimse.response(dimse.decode(command), status, comment))
        script.send(scripted.p_data(scripted.pdv(context_id, reply, command=True)))
        script.expect(scripted.RELEASE)
        script.send(scripted.RELEASE_RP)
        sock.recv(1)

    return serve


@contextlib.contextmanager
def closed() -> Iterator[int]:
    with socket.socket() as sock:  # bound and not listening: nobody else gets the port
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Yield a port whose queue of connections is full: the next one gets no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def storage(context: ssl.SSLContext | None) -> Iterator[int]:
    with StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",), context=context)) as server:
        yield server.port


def tls_server(material: Material) -> ssl.SSLContext:
    pair = TlsOptions(cert=material["good.crt"], key=material["good.key"], trust=(material["good.crt"],))
    return tls_context(Role.ACCEPTOR, pair)


HTTP = says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
SSH = says(b"SSH-2.0-OpenSSH_9.6\r\n")
SERVER_HELLO = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"
BAD_PEERS: list[tuple[str, Any, str, str, int]] = [
    ("closed", lambda _: closed(), "tls", "peer.connection-refused", 10),
    ("closed", lambda _: closed(), "plain", "peer.connection-refused", 10),
    ("full", lambda _: full(), "tls", "peer.timeout", 10),
    ("silent", lambda _: silent(), "tls", "tls.peer-silent", 10),
    ("silent", lambda _: silent(), "plain", "association.timeout", 21),
    ("dripping", lambda _: serving(lambda s: drip(s, SERVER_HELLO)), "tls", "tls.peer-silent", 10),
    ("dripping", lambda _: serving(lambda s: drip(s, b"\2\0\0\0\xff\xff")), "plain", "association.timeout", 21),
    ("drips its response", lambda _: serving(accepts(lambda s: drip(s, scripted.header(4, 9999)))), "plain",
     "association.timeout", 21),
    ("plain", lambda _: storage(None), "tls", "tls.peer-plain", 13),
    ("TLS", lambda material: storage(tls_server(material)), "plain", "association.peer-speaks-tls", 13),
    ("HTTP", lambda _: serving(HTTP), "tls", "tls.peer-plain", 13),
    ("HTTP", lambda _: serving(HTTP), "plain", "association.peer-speaks-http", 21),
    ("SSH", lambda _: serving(SSH), "tls", "tls.peer-plain", 13),
    ("SSH", lambda _: serving(SSH), "plain", "association.peer-speaks-ssh", 21),
    ("garbage", lambda _: serving(says(b"\x99" * 64)), "tls", "tls.peer-plain", 13),
    ("garbage", lambda _: serving(says(b"\x99" * 64)), "plain", "association.protocol-error", 21),
    ("hangs up", lambda _: serving(hangs_up), "tls", "tls.peer-hung-up", 13),
    ("hangs up", lambda _: serving(hangs_up), "plain", "association.lost", 21),
    ("resets", lambda _: serving(resets), "tls", "tls.peer-hung-up", 13),
    ("resets", lambda _: serving(resets), "plain", "association.lost", 21),
    ("rejects", lambda _: serving(says(scripted.reject(1, 1, 7))), "plain", "association.rejected", 20),
    ("aborts", lambda _: serving(says(scripted.abort(2, 1))), "plain", "association.aborted", 21),
    ("fails", lambda _: serving(accepts(responds(0xA700))), "plain", "dimse.failure-status", 30),
]  # fmt: skip


AFTER_ACCEPT = (
    "fails",
    "drips its response",
)  # storescu then has a failed instance, not a failed association


@pytest.mark.parametrize("name", ["echoscu", "storescu"])
@pytest.mark.parametrize(
    ("kind", "make", "mode", "slug", "exit_code"), BAD_PEERS, ids=[f"{row[0]}-{row[2]}" for row in BAD_PEERS]
)
def test_a_bad_peer(
    kind: str, make: Any, mode: str, slug: str, exit_code: int, name: str, material: Material, tmp_path: Path
) -> None:
    images = write_test_images(tmp_path, 1) if name == "storescu" else []
    options = ["--trust", material["good.crt"]] if mode == "tls" else ["--no-tls"]
    with make(material) as port:
        words = [name, f"127.0.0.1:{port}", *images, *options, *SHORT]
        if name == "echoscu":
            refuses(words, slug, exit_code)
            return
        told = cli.run(*words, "--json")
    assert (told.exit_code, told.stderr) == (exit_code, "")
    error = told.records[0]["error"]
    assert (error["code"], error["exit"]) == (slug, exit_code)
    # An association that came about leaves a failed instance, by name, and a sum.
    by_name, has_sum = str(images[0]) in error["message"], len(told.records) == 2
    assert by_name == has_sum == (kind in AFTER_ACCEPT)


@pytest.mark.parametrize("name", ["echoscu", "storescu"])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64, "a..b"])
def test_an_unknown_host(host: str, name: str, material: Material) -> None:
    files = [material["image.dcm"]] if name == "storescu" else []
    words = [name, f"{host}:104", *files, "--trust", material["good.crt"], *SHORT]
    refuses(words, "peer.unknown-host", 10, host)


def test_several_peers_each_have_their_error(material: Material) -> None:
    with closed() as first, silent() as second, storage(tls_server(material)) as good:
        peers = [f"localhost:{port}" for port in (first, second, good)]
        pair = [
            "--cert",
            material["good.crt"],
            "--key",
            material["good.key"],
            "--trust",
            material["good.crt"],
        ]
        told = cli.run("echoscu", *peers, *pair, *SHORT, "--tls-timeout", "1s", "-4")
    assert told.exit_code == ExitCode.UNREACHABLE
    assert [line.partition(": ")[0] for line in told.stderr.splitlines()] == ["error", "hint"] * 2
    assert told.stdout.startswith(f"localhost:{good}: C-ECHO success")


# ---------------------------------------------------------------------- what comes to a receiver


@pytest.fixture(scope="module")
def busy(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurStorescp]:
    """Run a storescp over TLS with short time-outs, for all the bad clients."""
    pair = ["--cert", material["good.crt"], "--key", material["good.key"], "--trust", material["good.crt"]]
    with our_storescp(tmp_path_factory.mktemp("busy"), *pair, "-ts", "500ms", "-ta", "500ms") as scp:
        yield scp


CLIENT_HELLO = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03"
PLAIN_REQUEST = encode(scripted.request())
BAD_CLIENTS: list[tuple[str, Callable[[socket.socket], None], str, int]] = [
    ("silent", lambda sock: None, "peer.silent", 21),
    ("dripping", lambda sock: drip(sock, CLIENT_HELLO), "tls.peer-silent", 10),
    ("dripping garbage", lambda sock: drip(sock, b"\x99"), "tls.peer-plain", 13),
    ("plain", lambda sock: sock.sendall(PLAIN_REQUEST), "tls.peer-plain", 13),
    ("HTTP", lambda sock: sock.sendall(b"GET / HTTP/1.1\r\n\r\n"), "tls.peer-plain", 13),
    ("SSH", lambda sock: sock.sendall(b"SSH-2.0-x\r\n"), "tls.peer-plain", 13),
    ("cut ClientHello", lambda sock: sock.sendall(CLIENT_HELLO), "tls.peer-silent", 10),
    ("health check", lambda sock: sock.shutdown(socket.SHUT_WR), "peer.closed-at-once", 10),
]


def undisturbed(play: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    def run(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            play(sock)

    return run


@pytest.mark.parametrize(
    ("play", "slug", "exit_code"), [row[1:] for row in BAD_CLIENTS], ids=[row[0] for row in BAD_CLIENTS]
)
def test_a_bad_client(
    play: Callable[[socket.socket], None], slug: str, exit_code: int, busy: OurStorescp, material: Material
) -> None:
    """It is refused with its reason while it is still there, and others are served meanwhile."""
    since = len(busy.log)
    with socket.create_connection(("127.0.0.1", busy.port)) as sock:
        sock.settimeout(cli.LIMIT)
        player = threading.Thread(target=undisturbed(play), args=(sock,), daemon=True)
        player.start()
        pair = [
            "--cert",
            material["good.crt"],
            "--key",
            material["good.key"],
            "--trust",
            material["good.crt"],
        ]
        assert cli.run("echoscu", f"localhost:{busy.port}", *pair).exit_code == 0
        told = busy.event("refused", since)
        player.join(cli.LIMIT)
        assert not player.is_alive()
    assert (told["error"]["code"], told["error"]["exit"]) == (slug, exit_code)
    assert told["peer"].startswith("127.0.0.1:")
    assert stored(busy.output) == []


# ---------------------------------------------------------------------- what cannot be written

BAD_OUTPUTS = [
    (["gencert", "x", "--out-dir", "missing"], "output.no-directory", "missing"),
    (["gencert", "x", "--out-dir", "file"], "output.no-directory", "file"),
    (["gencert", "mine"], "output.exists", "mine.key"),
    (["gencert", "x", "mine"], "output.exists", "mine.key"),
    (["gencert", "folder", "--force"], "output.is-directory", "folder.key"),
    (["bundle", "CERT", "-o", "file"], "output.exists", "file"),
    (["bundle", "CERT", "-o", "folder.key", "--force"], "output.is-directory", "folder.key"),
    (["bundle", "CERT", "-o", "missing/out.crt"], "output.no-directory", "missing"),
    (["bundle", "CERT", "-o", "fifo", "--force"], "output.not-regular", "fifo"),
    (["bundle", "copy.crt", "-o", "copy.crt", "--force"], "output.is-input", "copy.crt"),
    (["storescp", "--output", "file"], "output.directory", "file"),
    (["storescp", "--output", "file/below"], "output.directory", "file/below"),
    (["storescp", "--output", "missing", "--log-file", "folder.key"], "output.log-file", "folder.key"),
    (["echoscu", "h:104", "--log-file", "missing/log"], "output.log-file", "missing/log"),
]


@pytest.mark.parametrize(("words", "slug", "mentioned"), BAD_OUTPUTS, ids=lambda value: str(value))
def test_a_place_that_cannot_be_written(
    words: list[str], slug: str, mentioned: str, material: Material, lines: Lines
) -> None:
    for name in ("file", "mine.key"):
        Path(name).write_bytes(b"precious")
    Path("folder.key").mkdir()
    os.mkfifo("fifo")
    shutil.copy(material["good.crt"], "copy.crt")
    line: Words = [material["good.crt"] if word == "CERT" else word for word in words]
    if words[0] == "storescp":
        line = [*line, "--port", lines.port, "--bind", "127.0.0.1", "--no-tls"]
    refuses(line, slug, 4, mentioned)


@pytest.mark.parametrize("name", ["gencert", "bundle", "storescp"])
def test_a_read_only_directory(name: str, material: Material, lines: Lines) -> None:
    closed = Path("closed")
    closed.mkdir(mode=0o500)
    line: Words = {
        "gencert": ["gencert", "x", "--out-dir", closed],
        "bundle": ["bundle", material["good.crt"], "-o", closed / "out.crt"],
        "storescp": ["storescp", "--no-tls", "--bind", "127.0.0.1", "--port", lines.port, "--output", closed],
    }[name]
    slug = "output.directory" if name == "storescp" else "output.not-writable"
    refuses(line, slug, 4, closed, "Permission denied", run=powerless)


def test_a_taken_port(lines: Lines) -> None:
    Path("received/.incoming").mkdir(parents=True)
    words = lines.words("storescp", ["--no-tls"])
    refuses(words, "listen.failed", 5, lines.port)


def test_a_ready_file_that_cannot_be_written() -> None:
    Path("received/.incoming").mkdir(parents=True)
    words = ["storescp", "--no-tls", "--port", "0", "--output", "received", "--ready-file", "missing/ready"]
    refuses(words, "output.no-directory", 4, "missing/ready", run=cli.run_process)


# ---------------------------------------------------------------------- a disk that is full

LIMITED = "import resource, sys; sys.dont_write_bytecode = True; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
RUN = "from dicomtls_cli.cli import main; main(sys.argv[1:])"


def with_small_files(limit: int) -> Run:
    """Return a way to run a command line whose files may not grow beyond `limit` bytes."""
    return lambda *words: process([sys.executable, "-c", LIMITED.format(limit) + RUN], words)


def test_no_room_for_a_key(material: Material) -> None:
    refuses(["gencert", "x"], "output.no-space", 4, "x.key", run=with_small_files(600))
    Path("x.key").write_bytes(b"precious")
    refuses(["gencert", "x", "--force"], "output.no-space", 4, "x.key", run=with_small_files(600))
    bundle = ["bundle", material["two.crt"], "-o", "out.crt"]
    refuses(bundle, "output.no-space", 4, "out.crt", run=with_small_files(600))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 64 KB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit is answered with A700 and leaves no trace; what fits is stored, before and after."""
    small, large, last = (dicom_file(Path(name), pixels) for name, pixels in
                          (("a.dcm", 1000), ("b.dcm", 200_000), ("c.dcm", 1000)))  # fmt: skip
    with (
        small_disk(tmp_path / "disk") as disk,
        our_storescp(tmp_path / "scp", "--no-tls", "--output", disk / "received") as scp,
    ):
        told = cli.run("storescu", f"127.0.0.1:{scp.port}", small, large, last, "--no-tls")
        assert told.exit_code == ExitCode.PARTIAL
        message, _ = one_error(told.stderr)
        assert str(large) in message
        assert "0xA700" in message
        assert told.stdout.endswith("2 stored, 0 with a warning, 1 failed\n")
        assert stored(disk / "received") == sorted(map(sop_instance, (small, last)))


def test_a_receiver_that_may_write_small_files_only(tmp_path: Path) -> None:
    """The same with a quota instead of a disk: what a process may write is limited."""
    files = [
        dicom_file(Path("a.dcm"), 1000),
        dicom_file(Path("b.dcm"), 200_000),
        dicom_file(Path("c.dcm"), 1000),
    ]
    output, ready = tmp_path / "received", tmp_path / "ready"
    words = [
        "storescp",
        "--no-tls",
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--ready-file",
        ready,
        "--output",
        output,
    ]
    command = [sys.executable, "-c", LIMITED.format(100_000) + RUN, *map(str, words)]
    with subprocess.Popen(
        command, env=cli.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as scp:
        assert scp.stderr is not None
        try:
            port = int(scp.stderr.readline().split("127.0.0.1:")[1].split()[0])
            told = cli.run("storescu", f"127.0.0.1:{port}", *files, "--no-tls", "--json")
            assert cli.run("echoscu", f"127.0.0.1:{port}", "--no-tls").exit_code == 0
        finally:
            scp.terminate()
        rest = scp.stderr.read()
    assert scp.returncode == 0
    assert rest.startswith("E: cannot write to ")
    assert len(rest.splitlines()) == 1
    assert told.exit_code == ExitCode.PARTIAL
    assert [record.get("status") for record in told.records[:3]] == ["0000", "A700", "0000"]
    assert told.records[1]["error"]["code"] == "dimse.failure-status"
    assert stored(output) == sorted(map(sop_instance, (files[0], files[2])))


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        *(
            (reader, words)
            for reader in ("full", "gone")
            for words in (["gencert", "x"], ["gencert", "x", "--json"])
        ),
        ("full", ["echoscu", "--list-ciphers"]),  # who has read enough of a list may go
    ],
)
def test_nobody_takes_the_output(reader: str, words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed_pipe, Path("/dev/full").open("wb") as full_disk:
        sink = full_disk if reader == "full" else closed_pipe
        told = process([sys.executable, "-m", "dicomtls_cli"], words, stdout=sink)
    assert told.exit_code == ExitCode.CANNOT_WRITE
    assert one_error(told.stderr)[0].startswith("cannot write to standard output: ")


def test_a_log_file_that_takes_no_more(material: Material) -> None:
    """It is said once, and the command goes on."""
    with closed() as port:
        words = [f"127.0.0.1:{port}", "-v", "--trust", material["good.crt"], "--log-file", "/dev/full"]
        told = cli.run_process("echoscu", *words, *SHORT)
    assert told.exit_code == ExitCode.UNREACHABLE
    kinds = [line.partition(": ")[0] for line in told.stderr.splitlines()]
    assert kinds == ["T", "warning", "error", "hint"]


def test_a_receiver_whose_reader_left(tmp_path: Path) -> None:
    """It goes on receiving: the images matter more than the lines about them."""
    image = dicom_file(Path("a.dcm"), 1000)
    output = tmp_path / "received"
    words = ["storescp", "--no-tls", "--bind", "127.0.0.1", "--port", "0", "--output", output]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as sink, subprocess.Popen(
        [sys.executable, "-m", "dicomtls_cli", *map(str, words)],
        env=cli.environment(), stdout=sink, stderr=subprocess.PIPE, text=True,
    ) as scp:  # fmt: skip
        assert scp.stderr is not None
        try:
            port = int(scp.stderr.readline().split("127.0.0.1:")[1].split()[0])
            for _ in range(2):
                assert cli.run("storescu", f"127.0.0.1:{port}", image, "--no-tls").exit_code == 0
        finally:
            scp.terminate()
        rest = scp.stderr.read()
    assert (scp.returncode, len(rest.splitlines())) == (0, 1)
    assert rest.startswith("E: cannot write to standard output")
    assert stored(output) == [sop_instance(image)]


# ---------------------------------------------------------------------- DICOM files

PIXELS = b"\xe0\x7f\x10\x00OW\0\0"


def dicom_file(path: Path, pixels: int, **changes: str) -> Path:
    """Write a CT image with `pixels` bytes of pixel data, sparse, and return its path."""
    import pydicom

    folder = path.parent / f".{path.name}.folder"
    folder.mkdir()
    [template] = write_test_images(folder, 1)
    image = pydicom.dcmread(template)
    image.PixelData = b"\0\0"
    for name, value in changes.items():
        image[name].value = value
    image.save_as(template)
    head = template.read_bytes().removesuffix(PIXELS + struct.pack("<L", 2) + b"\0\0")
    shutil.rmtree(folder)
    with path.open("wb") as file:
        file.write(head + PIXELS + struct.pack("<L", pixels))
        file.truncate(file.tell() + pixels)
    return path


def stored(output: Path) -> list[str]:
    """Return the SOP Instance UIDs of all that was stored, each file whole; nothing half-written is there."""
    files = [path for path in output.rglob("*") if path.is_file()]
    for path in files:
        assert path.suffix == ".dcm"
        data = path.read_bytes()
        if PIXELS in data:
            at = data.index(PIXELS) + len(PIXELS)
            length = struct.unpack_from("<L", data, at)[0]
            assert len(data) >= at + 4 + length, f"{path} is not whole"
    return sorted(map(sop_instance, files))


@dataclass(frozen=True)
class Scp:
    """An SCP for plain DICOM in a thread of this process, and where it stores."""

    port: int
    output: Path


@pytest.fixture
def plain_scp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scp]:
    output = tmp_path_factory.mktemp("scp")
    with StorageServer(ServerOptions(port=0, hosts=("127.0.0.1",), output=output)) as server:
        yield Scp(server.port, output)


def cut(path: Path, length: int) -> Path:
    path.write_bytes((FOLDER / "CT_small.dcm").read_bytes()[:length])
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


# CT_small.dcm: the meta ends at 336; (0008,0018) stands from 474 to 530, the pixel data from 6426 to 39206.
BAD_IMAGES: list[tuple[str, Callable[[Path], Path], str]] = [
    ("missing", lambda path: path, "input.unreadable"),
    ("empty", lambda path: write(path, b""), "input.not-dicom"),
    ("a DICOMDIR that leads out of its folder", lambda path: write(path, dicomdir(r"..\1.dcm")), "input.dicomdir"),
    ("a DICOMDIR whose files are gone", lambda path: write(path, dicomdir("GONE")), "input.unreadable"),
    ("a DICOMDIR cut off", lambda path: write(path, dicomdir()[:-20]), "input.dicomdir"),
    ("JPEG, so it says, with implicit VRs", lambda path: write(path, (FOLDER / "SC_rgb_jpeg.dcm").read_bytes()),
     "input.transfer-syntax"),
    ("a bare data set with compressed pixels", lambda path: write(path, data_set(FOLDER / "JPEG2000.dcm")),
     "input.transfer-syntax"),
    ("a SOP Instance UID of 65 characters", lambda path: dicom_file(path, 100, SOPInstanceUID="1." + "2" * 63),
     "input.broken-dicom"),
    ("text", lambda path: write(path, b"a text\n"), "input.not-dicom"),
    ("garbage", lambda path: write(path, bytes(range(256)) * 100), "input.not-dicom"),
    ("PEM", lambda path: write(path, b"-----BEGIN CERTIFICATE-----\n"), "input.not-dicom"),
    ("FIFO", fifo, "input.not-dicom"),
    ("device", lambda _: Path("/dev/zero"), "input.not-dicom"),
    ("cut in the preamble", lambda path: cut(path, 100), "input.not-dicom"),
    ("cut after the prefix", lambda path: cut(path, 132), "input.broken-dicom"),
    ("cut in the meta", lambda path: cut(path, 200), "input.broken-dicom"),
    ("cut after the meta", lambda path: cut(path, 336), "input.broken-dicom"),
    ("a SOP Instance UID with an escape", lambda path: dicom_file(path, 100, SOPInstanceUID="1.2\x1b[31m"),
     "input.broken-dicom"),
    ("odd", lambda path: dicom_file(path, 101), "input.odd-length"),
]  # fmt: skip
# Their heads are good, and the archive would hold an image that is not whole.
TRUNCATED = [
    ("cut before its UIDs", lambda path: cut(path, 404)),
    ("cut in its SOP Instance UID", lambda path: cut(path, 496)),  # where what is left of it is a UID as well
    ("cut in its head", lambda path: cut(path, 1000)),
    ("cut in its pixel data", lambda path: cut(path, 20_000)),
    ("cut before its end", lambda path: cut(path, 39_000)),
]


@pytest.mark.parametrize(
    ("make", "slug"),
    [
        *(pytest.param(make, slug, id=name) for name, make, slug in BAD_IMAGES),
        *(pytest.param(make, "input.truncated", id=name) for name, make in TRUNCATED),
    ],
)
def test_a_bad_file_among_good_ones(
    make: Callable[[Path], Path], slug: str, plain_scp: Scp, material: Material
) -> None:
    """It is named and not sent; the good ones before and after it are. Alone, it is all there is to say."""
    good = [dicom_file(Path("1.dcm"), 1000), dicom_file(Path("3.dcm"), 1000)]
    bad = make(Path("2.dcm"))
    before = snapshot(Path.cwd())
    address = f"127.0.0.1:{plain_scp.port}"
    told = cli.run("storescu", address, good[0], bad, good[1], "--no-tls")
    assert told.exit_code == ExitCode.PARTIAL, told
    assert f"`{bad}`" in one_error(told.stderr)[0]
    assert told.stdout.startswith(f"{address}: 2 stored, 0 with a warning, 1 failed")
    assert stored(plain_scp.output) == sorted(map(sop_instance, good))
    told = cli.run("storescu", "--json", address, bad, "--no-tls")
    assert told.exit_code == ExitCode.INPUT
    assert told.stderr == ""
    error = told.records[0]["error"]
    assert (error["code"], error["exit"]) == (slug, ExitCode.INPUT)
    assert stored(plain_scp.output) == sorted(map(sop_instance, good))
    assert snapshot(Path.cwd()) == before


def test_an_unreadable_image(plain_scp: Scp) -> None:
    good, bad = dicom_file(Path("1.dcm"), 1000), dicom_file(Path("2.dcm"), 1000)
    bad.chmod(0)
    told = powerless("storescu", f"127.0.0.1:{plain_scp.port}", bad, good, "--no-tls")
    assert told.exit_code == ExitCode.PARTIAL
    assert one_error(told.stderr)[0] == "cannot read `2.dcm`: Permission denied"
    assert stored(plain_scp.output) == [sop_instance(good)]


def test_what_is_no_image_in_a_folder_is_passed_over(plain_scp: Scp) -> None:
    folder = Path("study")
    (folder / "below").mkdir(parents=True)
    good = [dicom_file(folder / "a", 1000), dicom_file(folder / "below" / "b.dcm", 1000)]
    write(folder / "DICOMDIR", dicomdir("A", "BELOW\\B.DCM"))  # in capitals, as on the CD
    write(folder / "readme.txt", b"a text")
    write(folder / "empty", b"")
    write(folder / "peer.crt", b"-----BEGIN CERTIFICATE-----\n")
    fifo(folder / "fifo")
    (folder / "loop").symlink_to(".")
    told = cli.run("storescu", f"127.0.0.1:{plain_scp.port}", folder, "--no-tls")
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.endswith("2 stored, 0 with a warning, 0 failed, 6 other files passed over\n")
    assert stored(plain_scp.output) == sorted(map(sop_instance, good))
    told = cli.run("storescu", f"127.0.0.1:{plain_scp.port}", folder, "--no-tls", "--strict-files")
    assert told.exit_code == ExitCode.PARTIAL
    named = [line for line in told.stderr.splitlines() if line.startswith("error: ")]
    assert [Path(line.split("`")[1]).name for line in named] == [
        "empty",
        "fifo",
        "loop",
        "peer.crt",
        "readme.txt",
    ]
    assert told.stdout.endswith("2 stored, 0 with a warning, 5 failed, 1 other file passed over\n")


def test_nothing_to_send(material: Material) -> None:
    """Neither an empty folder nor one without an image gets as far as a connection."""
    Path("empty").mkdir()
    Path("texts").mkdir()
    write(Path("texts/a.txt"), b"a text")
    with closed() as port:
        peer = f"127.0.0.1:{port}"
        for folder in ("empty", "texts"):
            refuses(["storescu", peer, folder, "--no-tls"], "input.nothing-to-send", 3)


@contextlib.contextmanager
def proxy(port: int, after: int, act: Callable[[], object]) -> Iterator[int]:
    """Yield the port of a proxy to `port` that calls `act` once, when the client has sent `after` bytes."""
    done = threading.Lock()

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            server.settimeout(cli.LIMIT)
            passed = 0
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(16384)
                    if not data:
                        return
                    if source is client:
                        passed += len(data)
                        if passed >= after and done.acquire(blocking=False):
                            act()
                    (server if source is client else client).sendall(data)

    with serving(serve) as own:
        yield own


@pytest.mark.parametrize("secured", [True, False], ids=["TLS", "plain"])
def test_a_file_that_shrinks_while_it_is_sent(secured: bool, material: Material, tmp_path: Path) -> None:
    """The peer gets an A-ABORT instead of padding, stores nothing of it, and gets the others."""
    size = 64 << 20  # more than all buffers on the way can hold
    good = [dicom_file(Path("1.dcm"), 1000), dicom_file(Path("3.dcm"), 1000)]
    bad = dicom_file(Path("2.dcm"), size)
    pair = ["--cert", material["good.crt"], "--key", material["good.key"], "--trust", material["good.crt"]]
    options = pair if secured else ["--no-tls"]
    with (
        our_storescp(tmp_path / "scp", *options) as scp,
        proxy(scp.port, 1 << 20, lambda: os.truncate(bad, 2 << 20)) as port,
    ):
        told = cli.run("storescu", f"localhost:{port}", good[0], bad, good[1], *options)
        closed_event = scp.event("closed")
        assert told.exit_code == ExitCode.PARTIAL
        assert one_error(told.stderr)[0] == "`2.dcm` became shorter while it was sent"
        assert closed_event["error"]["code"] == "association.aborted"
        assert stored(scp.output) == sorted(map(sop_instance, good))


@pytest.mark.parametrize(
    ("act", "slug"),
    [
        (lambda path: os.truncate(path, 500), "input.file-changed"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0\0"), "input.file-changed"),
        (Path.unlink, "input.unreadable"),
    ],
    ids=["shrinks", "grows", "vanishes"],
)
def test_a_file_that_changes_before_it_is_sent(
    act: Callable[[Path], object], slug: str, plain_scp: Scp
) -> None:
    good, bad = dicom_file(Path("1.dcm"), 1000), dicom_file(Path("2.dcm"), 1000)
    with proxy(plain_scp.port, 1, lambda: act(bad)) as port:
        told = cli.run("storescu", "--json", f"127.0.0.1:{port}", bad, good, "--no-tls")
    assert told.exit_code == ExitCode.PARTIAL
    assert [record.get("error", {}).get("code") for record in told.records] == [slug, None, None]
    assert stored(plain_scp.output) == [sop_instance(good)]


# ---------------------------------------------------------------------- strings that would act on a terminal

EVIL = "\x1b]0;owned\x07\x1b[31m[bold red]x[/]\u202e\nerror: forged"


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("more", [[], ["-v"], ["-d"], ["--json"]], ids=["", "-v", "-d", "json"])
def test_file_names_do_not_act(more: list[str], plain_scp: Scp) -> None:
    name = EVIL.replace("/", "|")
    bad, folder = write(Path(name), b"no image"), Path(f"folder{name}")
    folder.mkdir()
    raw = os.fsdecode(b"not\xffutf-8.dcm")
    good = [dicom_file(folder / "1.dcm", 1000), dicom_file(Path(raw), 1000)]
    told = cli.run("storescu", f"127.0.0.1:{plain_scp.port}", bad, folder, raw, "--no-tls", *more)
    assert told.exit_code == ExitCode.PARTIAL
    assert is_harmless(told.stdout + told.stderr)
    assert not any(line.startswith("error: forged") for line in told.stderr.splitlines())
    assert "[bold red]x[|]" in told.stdout + told.stderr  # markup is text like any other
    assert stored(plain_scp.output) == sorted(map(sop_instance, good))


@pytest.mark.parametrize("more", [[], ["-v"], ["-d"], ["--json"]], ids=["", "-v", "-d", "json"])
@pytest.mark.parametrize("name", ["echoscu", "storescu"])
def test_a_peers_answers_do_not_act(name: str, more: list[str], tmp_path: Path) -> None:
    """Implementation version and error comment come from the peer."""
    words = write_test_images(tmp_path, 1) if name == "storescu" else []
    comment, version = "\x1b[31m[red]\nno\x9b", "\x1b]0;[red]\n\x07"
    for status in (0xA700, 0):
        with serving(accepts(responds(status, comment), version=version)) as port:
            told = cli.run(name, f"127.0.0.1:{port}", *words, "--no-tls", *more)
        assert told.exit_code == (ExitCode.STATUS if status else ExitCode.OK), told
        assert is_harmless(told.stdout + told.stderr)
        assert "[red]" in told.stdout + told.stderr or (status == 0 and name == "storescu")
        if not more:
            assert told.stderr.count("\n") == (2 if status else 0)
            assert told.stdout.count("\n") == (0 if status and name == "echoscu" else 1)


EVIL_TITLE = b"A\x1b[31m\nB[red]".ljust(16)
EVIL_UID = "1.2.\x1b[31m\n../[red]"


@pytest.mark.parametrize("json", [False, True], ids=["lines", "json"])
def test_a_clients_strings_do_not_act(json: bool, tmp_path: Path) -> None:
    """Titles and UIDs that a client sends stand escaped in the log, a line for each event, and make no path."""
    output = tmp_path / "received"
    words = ["--no-tls", "--bind", "127.0.0.1", "--port", "0", "--output", output, "-d"]
    command = [
        sys.executable,
        "-m",
        "dicomtls_cli",
        "storescp",
        *map(str, words),
        *(["--json"] if json else []),
    ]
    with subprocess.Popen(
        command, env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as scp:
        assert scp.stderr is not None
        assert scp.stdout is not None
        try:
            port = int(scp.stderr.readline().split("127.0.0.1:")[1].split()[0])
            send_evil_title(port)
            refused = scp.stdout.readline()
            send_evil_uid(port)
            opened, not_stored = scp.stdout.readline(), scp.stdout.readline()
        finally:
            scp.terminate()
        rest, log = scp.communicate(timeout=cli.LIMIT)
    assert scp.returncode == 0
    kinds = ("refused", "opened", "received") if json else ("refused", "opened", "not stored")
    for line, kind in zip((refused, opened, not_stored), kinds, strict=True):
        assert kind in line
    assert "[red]" in refused
    assert "[red]" in not_stored
    assert is_harmless(refused + opened + not_stored + rest + log)
    assert "\\x1b[31m\\n" in refused.replace("\\\\", "\\")
    assert stored(output) == []
    assert [path.name for path in tmp_path.iterdir()] == ["received"]


def send_evil_title(port: int) -> None:
    """Ask for an association under a title that is none: rejected with 1/1/3."""
    asked = bytearray(encode(scripted.request()))
    asked[10 + 16 : 10 + 32] = EVIL_TITLE
    with socket.create_connection(("127.0.0.1", port)) as sock:
        script = scripted.Scripted(sock)
        script.send(bytes(asked))
        assert script.expect(scripted.RJ)[1:] == bytes((1, 1, 3))


def send_evil_uid(port: int) -> None:
    """Store under a SOP Instance UID that is none: status 0117."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        script = scripted.Scripted(sock)
        script.send(encode(scripted.request((scripted.CT, (scripted.EXPLICIT,)))))
        script.expect(scripted.AC)
        command = dimse.encode(dimse.store_request(1, scripted.CT, EVIL_UID, dimse.Priority.MEDIUM))
        data = b"\x08\x00\x18\x00UI\x04\x001.2\0"
        script.send(scripted.p_data(scripted.pdv(1, command, command=True), scripted.pdv(1, data)))
        _, reply, _ = script.expect_message()
        assert dimse.decode(reply).status == 0x0117
        script.send(scripted.RELEASE_RQ)
        script.expect(scripted.RELEASED)
