"""The fault laboratory, our storescp: what it tells of clients of DCMTK, of raw `ssl`, of `openssl`, and of others."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicomtls_cli.upperlayer.codec import encode
from tests.interop.conftest import Faults
from tests.support import cli, peers, scripted
from tests.support.pki import Identity, make_identity, write_bundle
from tests.support.revocation import make_crl
from tests.support.told import Told, check

LIMIT = 30.0
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
RQ = encode(scripted.request())


@dataclass(frozen=True)
class Refused:
    """What our storescp told of a client that it refused."""

    told: Told
    event: dict[str, Any]


@dataclass
class Scps:
    """Our storescp, started once per set of options."""

    start: Callable[..., peers.OurStorescp]

    def refused(self, play: Callable[[int], None], *words: object) -> Refused:
        """Let `play` go to the port of a storescp with these options; return what is told of it."""
        scp = self.start(*map(str, words))
        place = len(scp.log)
        play(scp.port)
        event = scp.event("refused", place)
        error = event["error"]
        told = Told(error["exit"], error["code"], error["message"], error["hint"])
        check(told, event["peer"])
        assert event["peer"].startswith(("127.0.0.1:", "[::1]:"))
        return Refused(told, event)


@pytest.fixture(scope="module")
def scps(our_storescp: Callable[..., peers.OurStorescp]) -> Scps:
    return Scps(our_storescp)


def ours(faults: Faults, *more: object) -> list[object]:
    return ["--cert", faults.peer.cert, "--key", faults.peer.key, "--trust", faults.trusted, *more]


def serves(scp: peers.OurStorescp, faults: Faults) -> bool:
    good = ["--cert", faults.good.cert, "--key", faults.good.key, "--trust", faults.peer.cert]
    return cli.run("echoscu", f"localhost:{scp.port}", *good).exit_code == 0


# ---------------------------------------------------------------------- what is no TLS

STRANGE: list[tuple[str, bytes, bool, tuple[int, str], str, str]] = [
    ("HTTP GET", b"GET / HTTP/1.1\r\n\r\n", True, (13, "tls.peer-plain"), "it speaks HTTP, not TLS", "health check"),
    ("HTTP POST", b"POST / HTTP/1.1\r\n\r\n", True, (13, "tls.peer-plain"), "it speaks HTTP, not TLS", "health check"),
    ("plain DICOM", RQ, True, (13, "tls.peer-plain"), "it speaks plain DICOM, not TLS", "`UseDicomTls`"),
    ("SSH client", b"SSH-2.0-OpenSSH_9.6\r\n", True, (13, "tls.peer-plain"), "it speaks SSH, not TLS", "SSH client"),
    ("garbage", b"\x99" * 20, True, (13, "tls.peer-plain"), "it sends `99 99 99 99 99`, which begins no", "TLS"),
    ("health check", b"", True, (10, "peer.closed-at-once"), "connected and closed without a word", "health check"),
    ("cut ClientHello", b"\x16\x03\x01\x00", True, (13, "tls.peer-hung-up"), "it closed the connection", "log"),
    ("HTTP GET", b"GET / HTTP/1.1\r\n\r\n", False, (21, "association.peer-speaks-http"), "speaks HTTP", "port"),
    ("HTTP POST", b"POST / HTTP/1.1\r\n\r\n", False, (21, "association.peer-speaks-http"), "speaks HTTP", "port"),
    ("SSH client", b"SSH-2.0-x\r\n", False, (21, "association.peer-speaks-ssh"), "the peer speaks SSH", "port"),
    ("garbage", b"\x99" * 20, False, (21, "association.protocol-error"), "`99 99 99 99 99 99`", "PS3.8"),
    ("health check", b"", False, (10, "peer.closed-at-once"), "connected and closed without a word", "health check"),
    ("cut A-ASSOCIATE-RQ", RQ[:50], False, (21, "association.lost"), "closed the connection before it", "log"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "secured", "outcome", "words", "hint"),
    [row[1:] for row in STRANGE],
    ids=[f"{row[0]}-{'tls' if row[2] else 'plain'}" for row in STRANGE],
)
def test_a_strange_client(
    data: bytes, secured: bool, outcome: tuple[int, str], words: str, hint: str, scps: Scps, faults: Faults
) -> None:
    def play(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.settimeout(LIMIT)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass

    options = ours(faults) if secured else ["--no-tls"]
    told = scps.refused(play, *options).told
    assert told.outcome == outcome
    assert words in told.message
    assert hint in told.hint


def test_a_tls_client_of_a_plain_port(scps: Scps, faults: Faults) -> None:
    """What the hint of each side says is done: the client leaves TLS out, or the server turns it on."""
    words = ["echoscu", "--cert", faults.good.cert, "--key", faults.good.key, "--trust", faults.trusted]
    told = scps.refused(lambda port: play_cli(*words, f"localhost:{port}"), "--no-tls").told
    assert told.outcome == (13, "association.peer-speaks-tls")
    assert "turn TLS on" in told.hint
    assert cli.run(*words, f"localhost:{scps.start(*map(str, ours(faults))).port}").exit_code == 0


def play_cli(*words: object) -> None:
    assert cli.run(*words).exit_code != 0


# ---------------------------------------------------------------------- raw ssl


@dataclass(frozen=True)
class Client:
    """A client of the standard library's `ssl` with one fault, and what our storescp tells of it.

    `shows` is its certificate ("": none), `trusts` tells whether it verifies ours and by which; `server` is ours,
    `narrowed` are options of ours that the hint says to leave out, `mended` those that it adds (None: nothing of ours
    to mend).
    """

    name: str
    outcome: tuple[int, str]
    words: str = ""
    shows: str = "good"
    trusts: str = ""
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (TLS12, TLS13)
    ciphers: str = "DEFAULT"
    narrowed: tuple[str, ...] = ()
    server: str = "peer"
    mended: tuple[str, ...] | None = None
    hint: str = ""
    both: bool = False


OLD = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
CCM = "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"
CLIENTS = [
    Client("untrusted", (11, "tls.peer-untrusted"), "not trusted here", shows="stranger",
           hint="if you know this fingerprint: `dicomtls bundle FILE --append -o ", both=True),
    Client("none", (11, "tls.peer-no-certificate"), shows="", mended=("--peer-cert", "verify"), both=True),
    Client("expired", (11, "tls.peer-expired"), "has expired", shows="expired", both=True),
    Client("not yet valid", (11, "tls.peer-not-yet-valid"), "not valid yet", shows="not_yet_valid", both=True),
    Client("for servers only", (11, "tls.peer-wrong-usage"), shows="client_wrong_usage", both=True),
    Client("distrusts us", (12, "tls.refused-unknown-ca"), trusts="stranger", hint="`--cert`", both=True),
    Client("finds ours expired", (12, "tls.refused-expired"), trusts="expired", server="expired",
           hint="gencert --renew", both=True),
    Client("finds ours not yet valid", (12, "tls.refused-bad-certificate"), "which is not valid before",
           trusts="not_yet_valid", server="not_yet_valid", hint="gencert --renew", both=True),
    Client("finds ours for clients only", (12, "tls.refused-wrong-usage"), trusts="server_wrong_usage",
           server="server_wrong_usage", hint="serverAuth", both=True),
    Client("TLS 1.1", (13, "tls.no-common"), "it offers TLS 1.1", versions=OLD, ciphers="ALL",
           hint="retired"),
    Client("AES128-SHA only", (13, "tls.no-common"), "no shared cipher: it offers TLS_RSA_WITH_AES_128_CBC_SHA",
           versions=(TLS12, TLS12), ciphers="AES128-SHA", mended=("--tls-profile", "aes"), hint="dcm4che"),
    Client("DHE only", (13, "tls.no-common"), "no shared cipher: it offers TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
           versions=(TLS12, TLS12), ciphers="DHE-RSA-AES256-GCM-SHA384", mended=("--tls-profile", "bcp195-nd")),
    Client("CBC only", (13, "tls.no-common"), "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", versions=(TLS12, TLS12),
           ciphers="ECDHE-RSA-AES128-SHA256", mended=("+cs", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256")),
    Client("of no use", (13, "tls.no-common"), "none that is of any use", versions=(TLS12, TLS12),
           ciphers="PSK-AES128-CBC-SHA:AES256-CCM", hint="ECDHE and AES-GCM"),
    Client("TLS 1.2, and we 1.3", (13, "tls.no-common"), "it offers TLS 1.2", versions=(TLS12, TLS12),
           narrowed=("--tls13",), mended=(), hint="leave out what narrows ours (`--tls12`, `--tls13`"),
    Client("AES128-SHA only, and we 1.3", (13, "tls.no-common"), "it offers TLS 1.2", versions=(TLS12, TLS12),
           ciphers="AES128-SHA", narrowed=("--tls13",), mended=("--tls-profile", "aes"), hint="leave out what narrows"),
    Client("AES128-SHA only, and we CCM", (13, "tls.no-common"), "TLS_RSA_WITH_AES_128_CBC_SHA",
           versions=(TLS12, TLS12), ciphers="AES128-SHA", narrowed=("--tls-cipher", CCM),
           mended=("--tls-profile", "aes"), hint="leave out what narrows"),
    Client("what we take by default, and we CCM", (13, "tls.no-common"), "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
           versions=(TLS12, TLS12), ciphers="ECDHE-RSA-AES256-GCM-SHA384:AES128-SHA", narrowed=("--tls-cipher", CCM),
           mended=(), hint="leave out what narrows"),
    Client("TLS 1.3, and we 1.2", (13, "tls.no-common"), "it offers TLS 1.3", versions=(TLS13, TLS13),
           narrowed=("--tls12",), mended=(), hint="leave out what narrows ours (`--tls12`, `--tls13`"),
    Client("RSA suites, and our key is EC", (13, "tls.no-common"), "do not go with the key of our certificate",
           versions=(TLS12, TLS12), ciphers="ECDHE-RSA-AES256-GCM-SHA384", server="ec", hint="--key-type rsa2048"),
]  # fmt: skip
ROWS = [
    pytest.param(client, version, id=f"{client.name}{'' if version is None else version.name[4:]}")
    for client in CLIENTS
    for version in ((TLS12, TLS13) if client.both else (None,))
]


@pytest.fixture(scope="module")
def ec(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("ec"), "ec")


def client_context(client: Client, version: ssl.TLSVersion | None, faults: Faults) -> ssl.SSLContext:
    import warnings

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(f"{client.ciphers}:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old versions are deprecated
        lowest, highest = (version, version) if version else client.versions
        context.minimum_version, context.maximum_version = lowest, highest
    if client.shows:
        identity: Identity = getattr(faults, client.shows)
        context.load_cert_chain(identity.cert, identity.key)
    if client.trusts:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(getattr(faults, client.trusts).cert)
    return context


def handshakes(context: ssl.SSLContext, port: int) -> bool:
    """Make a handshake and read what comes after it; tell whether an A-ASSOCIATE-RQ was answered by an AC."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(LIMIT)
        try:
            with context.wrap_socket(sock) as tls:
                tls.sendall(RQ)
                return tls.recv(1) == b"\x02"
        except OSError:
            return False


@pytest.mark.parametrize(("client", "version"), ROWS)
def test_a_raw_client(
    client: Client, version: ssl.TLSVersion | None, scps: Scps, faults: Faults, ec: Identity
) -> None:
    server = ec if client.server == "ec" else getattr(faults, client.server)
    options = ["--cert", server.cert, "--key", server.key, "--trust", faults.trusted]
    context = client_context(client, version, faults)
    refused = scps.refused(
        lambda port: handshakes(context, port) and pytest.fail("it came in"), *options, *client.narrowed
    )
    told = refused.told
    assert told.outcome == client.outcome
    assert client.words in told.message
    assert client.hint in told.hint
    if client.outcome[0] == 11 and client.shows:
        identity = getattr(faults, client.shows)
        assert refused.event["certificate_sha256"] == identity.fingerprint
        assert refused.event["certificate_subject"] == "CN=localhost"
        assert refused.event["certificate_pem"] == identity.pem
    if client.mended is not None:
        assert not client.mended or list(client.mended) in told.options
        assert handshakes(context, scps.start(*map(str, [*options, *client.mended])).port)


@pytest.mark.parametrize("server", ["expired", "not_yet_valid", "server_wrong_usage", "ec"])
def test_a_certificate_of_ours_is_replaced_as_the_hint_says(
    server: str, scps: Scps, faults: Faults, ec: Identity, tmp_path: Path
) -> None:
    """The command of the hint makes a certificate that the same client takes, once it was given it."""
    fault = next(client for client in CLIENTS if client.server == server)
    identity = ec if server == "ec" else getattr(faults, server)
    for file in (identity.cert, identity.key):
        shutil.copy(file, tmp_path / f"me{file.suffix}")
    words = ["--cert", tmp_path / "me.crt", "--key", tmp_path / "me.key", "--trust", faults.trusted]
    context = client_context(fault, None, faults)
    told = scps.refused(lambda port: handshakes(context, port) and pytest.fail("it came in"), *words).told
    (command,) = told.commands
    made = cli.run(*command, "--json")
    assert made.exit_code == 0, made.stderr
    new, key = (tmp_path / made.json.get(part, "me.key") for part in ("certificate", "key"))
    words = ["--cert", new, "--key", key, "--trust", faults.trusted]
    if fault.trusts:
        context.load_verify_locations(new)
    assert handshakes(context, scps.start(*map(str, words)).port)


def test_a_chain_of_ours_is_completed_as_the_hint_says(scps: Scps, faults: Faults, tmp_path: Path) -> None:
    root = make_identity(tmp_path, "root", subject="Root", ca=True)
    middle = make_identity(tmp_path, "CA", subject="Middle", ca=True, issuer=root)
    leaf = make_identity(tmp_path, "leaf", issuer=middle)
    context = client_context(Client("", (0, "")), TLS13, faults)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(root.cert)
    words = ["--key", leaf.key, "--trust", faults.trusted]
    told = scps.refused(lambda port: handshakes(context, port) and None, *words, "--cert", leaf.cert).told  # type: ignore[func-returns-value]
    assert told.outcome == (12, "tls.refused-unknown-ca")
    assert "signed by CN=Middle" in told.hint
    (command,) = told.commands
    assert cli.run(*command).exit_code == 0  # the CA's file is CA.crt in this folder
    assert ["--cert", "chain.crt"] in told.options
    assert handshakes(context, scps.start(*map(str, words), "--cert", "chain.crt").port)


def test_a_certificate_of_ours_that_a_client_finds_revoked(
    scps: Scps, faults: Faults, tmp_path: Path
) -> None:
    ca = make_identity(tmp_path, "ca", subject="CA", ca=True)
    leaf = make_identity(tmp_path, "leaf", issuer=ca)
    context = client_context(Client("", (0, "")), TLS13, faults)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.load_verify_locations(ca.cert)
    context.load_verify_locations(make_crl(tmp_path / "list.pem", ca, leaf))
    words = ["--cert", leaf.cert, "--key", leaf.key, "--trust", faults.trusted]
    told = scps.refused(lambda port: handshakes(context, port) and None, *words).told  # type: ignore[func-returns-value]
    assert told.outcome == (12, "tls.refused-revoked")


# ---------------------------------------------------------------------- hostile clients


def hello() -> bytes:
    """Return the ClientHello that OpenSSL makes, in its record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def resets(sock: socket.socket) -> None:
    scripted.Scripted(sock).reset()


def waits(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            pass


HOSTILE: list[tuple[str, Callable[[], bytes], Callable[[socket.socket], None], tuple[int, str]]] = [
    ("a hello and then nothing", hello, waits, (10, "tls.peer-silent")),
    ("a hello and then a reset", hello, resets, (13, "tls.peer-hung-up")),
    ("half a hello and then a reset", lambda: hello()[:99], resets, (13, "tls.peer-hung-up")),
    ("a hello of 16 MB", lambda: b"\x16\x03\x01\x00\x08\x01\xff\xff\xff\0\0\0\0", waits, (13, "tls.failed")),
    ("a hello of garbage", lambda: b"\x16\x03\x01\x00\x08\x01\0\0\4\x99\x99\x99\x99", waits, (13, "tls.failed")),
    ("two hellos", lambda: hello() * 2, waits, (13, "tls.failed")),
    ("a record of 64 KB", lambda: b"\x16\x03\x01\xff\xff" + bytes(999), waits, (13, "tls.failed")),
    ("an alert", lambda: b"\x15\x03\x01\x00\x02\x02\x28", waits, (13, "tls.peer-plain")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "then", "outcome"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE]
)
def test_a_hostile_client(
    data: Callable[[], bytes],
    then: Callable[[socket.socket], None],
    outcome: tuple[int, str],
    scps: Scps,
    faults: Faults,
) -> None:
    def play(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.settimeout(LIMIT)
            sock.sendall(data())
            then(sock)

    options = ours(faults, "-ts", "1s")
    assert scps.refused(play, *options).told.outcome == outcome
    assert serves(scps.start(*map(str, options)), faults)


@pytest.mark.parametrize("stage", ["after the handshake", "in the A-ASSOCIATE-RQ"])
def test_a_client_that_resets(stage: str, scps: Scps, faults: Faults) -> None:
    context = client_context(Client("", (0, "")), TLS13, faults)

    def play(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock, context.wrap_socket(sock) as tls:
            if stage != "after the handshake":
                tls.sendall(RQ[:50])
            scripted.Scripted(tls).reset()

    assert scps.refused(play, *ours(faults)).told.outcome == (21, "association.lost")


def test_a_client_whose_name_has_64_kb(scps: Scps, faults: Faults, tmp_path: Path) -> None:
    vast = make_identity(tmp_path, "vast", unit="x" * 65536)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(vast.cert, vast.key)
    refused = scps.refused(
        lambda port: handshakes(context, port) and pytest.fail("it came in"), *ours(faults)
    )
    assert refused.told.outcome == (11, "tls.peer-untrusted")
    assert refused.event["certificate_sha256"] == vast.fingerprint
    assert len(refused.event["certificate_subject"]) <= 200


# ---------------------------------------------------------------------- openssl s_client


def s_client(*words: object) -> Callable[[int], None]:
    def play(port: int) -> None:
        command = [peers.installed("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *map(str, words)]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)

    return play


@pytest.mark.parametrize(
    ("words", "outcome", "message", "mended"),
    [
        (["-tls1_2", "-cipher", "AES128-SHA"], (13, "tls.no-common"), "TLS_RSA_WITH_AES_128_CBC_SHA",
         ["--tls-profile", "aes"]),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], (13, "tls.no-common"), "it offers TLS 1.1", None),
        (["-tls1_3"], (11, "tls.peer-no-certificate"), "it showed no certificate", ["--peer-cert", "verify"]),
        (["-tls1_2"], (11, "tls.peer-no-certificate"), "it showed no certificate", ["--peer-cert", "verify"]),
    ],
)  # fmt: skip
def test_openssl_s_client(
    words: list[str],
    outcome: tuple[int, str],
    message: str,
    mended: list[str] | None,
    scps: Scps,
    faults: Faults,
) -> None:
    told = scps.refused(s_client(*words), *ours(faults)).told
    assert told.outcome == outcome
    assert message in told.message
    if mended is not None:
        assert mended in told.options
        scp = scps.start(*map(str, ours(faults, *mended)))
        pair = ["-cert", faults.good.cert, "-key", faults.good.key] if outcome[0] == 13 else []
        place = len(scp.log)
        s_client(*words, *pair)(scp.port)
        # It is through the handshake: what it then says is no DICOM.
        assert scp.event("refused", place)["stage"] == "association"


# ---------------------------------------------------------------------- DCMTK


@pytest.mark.interop
@pytest.mark.parametrize(
    ("words", "outcome", "message", "mended"),
    [
        (["+pa"], (13, "tls.no-common"), "TLS_RSA_WITH_AES_128_CBC_SHA", ["--tls-profile", "aes"]),
        ([], (0, ""), "", None),
    ],
)
def test_dcmtk_with_an_old_profile(
    words: list[str],
    outcome: tuple[int, str],
    message: str,
    mended: list[str] | None,
    scps: Scps,
    faults: Faults,
) -> None:
    tls = peers.dcmtk_tls(faults.good.cert, faults.good.key, faults.trusted)

    def play(port: int) -> None:
        peers.dcmtk("echoscu", *tls, *words, "localhost", port)

    if mended is None:
        assert (
            peers.dcmtk("echoscu", *tls, "localhost", scps.start(*map(str, ours(faults))).port).returncode
            == 0
        )
        return
    told = scps.refused(play, *ours(faults)).told
    assert told.outcome == outcome
    assert message in told.message
    assert mended in told.options
    scp = scps.start(*map(str, ours(faults, *mended)))
    assert peers.dcmtk("echoscu", *tls, *words, "localhost", scp.port).returncode == 0


@pytest.mark.interop
@pytest.mark.parametrize(
    ("options", "words", "slug", "mended"),
    [
        (["--aet-only", "--aet", "ARCHIVE"], ["-aec", "OTHER"], "access.called-aet", ["-aec", "ARCHIVE"]),
        (["--allow", "CT1"], ["-aet", "CT2"], "access.calling-aet", ["--allow", "CT2"]),
        (["--refuse"], [], "association.rejected", None),
    ],
)
def test_dcmtk_rejected(
    options: list[str], words: list[str], slug: str, mended: list[str] | None, scps: Scps, faults: Faults
) -> None:
    tls = peers.dcmtk_tls(faults.good.cert, faults.good.key, faults.trusted)
    scp = scps.start(*map(str, ours(faults, *options)))
    place = len(scp.log)
    peers.dcmtk("echoscu", *tls, *words, "localhost", scp.port)
    event = scp.event("refused", place)
    error = event["error"]
    assert (error["exit"], error["code"]) == (20, slug)
    assert event["peer"] in error["message"]
    if mended is None:
        return
    if mended[0].startswith("--"):
        assert f"`{' '.join(mended)}`" in error["hint"]
        scp = scps.start(*map(str, ours(faults, *options, *mended)))
        assert peers.dcmtk("echoscu", *tls, *words, "localhost", scp.port).returncode == 0
    else:
        assert f"let it call `{mended[1]}`" in error["hint"]
        assert peers.dcmtk("echoscu", *tls, *mended, "localhost", scp.port).returncode == 0


# ---------------------------------------------------------------------- refused certificates, kept and trusted


def bundled(told: dict[str, Any]) -> tuple[list[str], str]:
    """Return the `bundle` command of a hint, and the process that is to be told."""
    found = re.search(r"`dicomtls (bundle [^`]+)`, and `kill -HUP (\d+)`", told["error"]["hint"])
    assert found, told
    return found[1].split(), found[2]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_who_is_refused_is_trusted_by_the_command_of_the_hint(
    kind: str, faults: Faults, tmp_path: Path
) -> None:
    trusted = write_bundle(tmp_path / "trusted.crt", faults.good)
    if kind == "folder":
        folder = tmp_path / "trusted"
        folder.mkdir()
        trusted = trusted.rename(folder / "good.crt").parent
    words = ["--cert", faults.peer.cert, "--key", faults.peer.key, "--trust", trusted]
    refused = tmp_path / "refused"
    stranger = ["--cert", faults.stranger.cert, "--key", faults.stranger.key, "--trust", faults.peer.cert]
    with peers.our_storescp(tmp_path / "scp", *words, "--refused-dir", refused) as scp:
        echo = ["echoscu", f"localhost:{scp.port}", *stranger]
        assert cli.run(*echo).exit_code == 12
        event = scp.event("refused")
        command, process = bundled(event)
        assert [path.name for path in refused.iterdir()] == [f"{faults.stranger.fingerprint}.crt"]
        assert cli.run(*command).exit_code == 0
        os.kill(int(process), signal.SIGHUP)
        scp.log.wait_for("reloaded certificates and rules")
        assert cli.run(*echo).exit_code == 0
        assert serves(scp, faults)  # whoever was trusted still is


def test_only_what_trust_would_help_is_kept(faults: Faults, tmp_path: Path) -> None:
    refused = tmp_path / "refused"
    with peers.our_storescp(tmp_path / "scp", *ours(faults), "--refused-dir", refused) as scp:
        for name, count in (("expired", 0), ("stranger", 1), ("stranger", 1)):
            identity: Identity = getattr(faults, name)
            shown = ["--cert", identity.cert, "--key", identity.key, "--trust", faults.peer.cert]
            place = len(scp.log)
            assert cli.run("echoscu", f"localhost:{scp.port}", *shown).exit_code == 12
            assert ("bundle" in scp.event("refused", place)["error"]["hint"]) == bool(count)
            assert len(list(refused.iterdir())) == count


@pytest.mark.parametrize("words", [["--no-tls"], ["--peer-cert", "ignore"]])
def test_a_folder_for_refused_certificates_where_none_is_looked_at(words: list[str], faults: Faults) -> None:
    pair = [] if "--no-tls" in words else ["--cert", faults.peer.cert, "--key", faults.peer.key]
    result = cli.run("storescp", "--json", "--port", "0", *pair, *words, "--refused-dir", "refused")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.contradiction")
    assert not Path("refused").exists()


def test_a_folder_for_refused_certificates_that_cannot_be(faults: Faults) -> None:
    Path("file").touch()
    result = cli.run("storescp", "--json", "--port", "0", *ours(faults), "--refused-dir", "file")
    assert (result.exit_code, result.json["error"]["code"]) == (4, "output.refused-directory")
    check(
        Told(4, "output.refused-directory", result.json["error"]["message"], result.json["error"]["hint"]),
        "file",
    )


# ---------------------------------------------------------------------- races


@pytest.mark.parametrize("shows", ["stranger", "", "expired"])
def test_the_same_refusal_every_time(shows: str, scps: Scps, faults: Faults) -> None:
    """Twenty clients that write behind their handshake and leave at once: each is told for what it is."""
    context = client_context(Client("", (0, ""), shows=shows), TLS13, faults)
    told = [
        scps.refused(lambda port: handshakes(context, port) and None, *ours(faults)).told.slug  # type: ignore[func-returns-value]
        for _ in range(20)
    ]
    assert len(set(told)) == 1
