"""The fault laboratory, raw peers of our SCU: the standard library's `ssl`, and sockets that play another part.

Each fault has one slug, one exit code, a message with the host, and a hint; where the fault is ours to mend, what the
hint says is done, and the same command then works.
"""

from __future__ import annotations

import datetime
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.interop.conftest import Faults
from tests.support import cli, rawpeer, scripted
from tests.support.objects import write
from tests.support.pki import DAY, Identity, make_identity, write_bundle
from tests.support.rawpeer import behind, server_context, serving
from tests.support.revocation import make_crl
from tests.support.told import Told, failure

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GROUP = Path(__file__).parents[2] / "dicomtls_cli" / "tls" / "ffdhe2048.pem"
SHORT = [
    "-ts",
    "1s",
    "-ta",
    "1s",
    "-td",
    "1s",
]  # where the peer says nothing; a busy machine needs its time elsewhere
HOST = "localhost"


@dataclass(frozen=True)
class Cast:
    """Who takes part: certificates by name, and files with several of them."""

    faults: Faults
    more: dict[str, Identity]
    folder: Path

    def __getitem__(self, name: str) -> Identity:
        return self.more[name] if name in self.more else getattr(self.faults, name)

    def shown(self, name: str) -> list[str]:
        return ["--cert", str(self[name].cert), "--key", str(self[name].key)]


@pytest.fixture(scope="session")
def cast(faults: Faults, tmp_path_factory: pytest.TempPathFactory) -> Cast:
    folder = tmp_path_factory.mktemp("cast")
    ca = make_identity(folder, "ca", subject="A CA", ca=True, hosts=(), addresses=())
    accident = make_identity(folder, "accident", subject="By accident", ca=True, key_usage=False)
    other_ca = make_identity(folder, "other-ca", subject="Another CA", ca=True, hosts=(), addresses=())
    more = {
        "ca": ca,
        "accident": accident,
        "weak": make_identity(folder, "weak", ec_key=False, key_size=1024),
        "signed": make_identity(folder, "signed", issuer=ca),
        "orphan": make_identity(folder, "orphan", issuer=other_ca),
        "elsewhere": make_identity(folder, "elsewhere", issuer=ca, hosts=("pacs.example",), addresses=()),
        "nameless": make_identity(folder, "nameless", issuer=ca, addresses=()),
        "minted": make_identity(folder, "minted", issuer=accident),
        "kept": make_identity(folder, "kept", issuer=accident),
        "ec": make_identity(folder, "ec"),
        "loud": make_identity(folder, "loud", subject="loud\x1b[31m\n\0"),
    }
    write_bundle(folder / "trusted.crt", faults.peer, faults.expired, faults.not_yet_valid,
                 faults.server_wrong_usage, more["weak"], more["ca"], more["accident"], more["ec"],
                 more["kept"])  # fmt: skip
    return Cast(faults, more, folder)


@dataclass(frozen=True)
class Fault:
    """A peer with one fault, or one that finds ours: what it shows, what we say, and what comes of it.

    `options` make the server's context. `words` are on our command line in any case; `until` only as long as the fault
    is there, and `then` instead of them once it is mended, made of the hint; None: nothing of ours to mend.
    """

    name: str
    slug: str
    exit_code: int
    its: str = "peer"
    ours: str = "good"
    options: dict[str, object] = field(default_factory=dict)
    requires: bool = False
    host: str = HOST
    words: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    then: Callable[[Told, Cast], list[str]] | None = None
    mentions: tuple[str, ...] = ()


def option(name: str) -> Callable[[Told, Cast], list[str]]:
    """Take the option `name` of the hint, value and all."""

    def then(told: Told, _cast: Cast) -> list[str]:
        return next(words for words in told.options if words[0] == name)

    return then


def fetch(told: Told, _cast: Cast) -> list[str]:
    """Run the `bundle --from` of the hint, and do with what it wrote as the hint says."""
    (command,) = told.commands
    done = cli.run(*command)
    assert done.exit_code == 0, done.stderr
    assert ["--trust", "peer.crt"] in told.options
    return ["--trust", "peer.crt"]


def show_one(told: Told, cast: Cast) -> list[str]:
    assert ["--cert", "FILE", "--key", "FILE"] in told.options
    return cast.shown("good")


def name_the_ca(told: Told, cast: Cast) -> list[str]:
    assert ["--trust-ca", "FILE"] in told.options
    return ["--trust-ca", str(cast["accident"].cert)]


def unstrict(told: Told, _cast: Cast) -> list[str]:
    assert "leave out `--x509-strict`" in told.hint
    return []


def leave_out(told: Told, _cast: Cast) -> list[str]:
    assert "leave out what narrows our choice" in told.hint
    return []


def date(day: int) -> str:
    return f"{datetime.datetime.now(datetime.UTC) + day * DAY:%Y-%m-%d}"


OLD = {"lowest": ssl.TLSVersion.TLSv1, "highest": ssl.TLSVersion.TLSv1_1}
ONLY12, ONLY13 = {"highest": TLS12}, {"lowest": TLS13}
UNKNOWN_CA = ("it does not trust our certificate",)

# Over both versions of TLS.
BOTH = [
    # Its certificate.
    Fault("self-signed and not trusted", "tls.peer-untrusted", 11, its="stranger", then=fetch,
          mentions=("self-signed certificate", "CN=localhost")),
    Fault("of a CA that is not trusted", "tls.peer-untrusted", 11, its="orphan", then=fetch),
    Fault("expired", "tls.peer-expired", 11, its="expired", mentions=(date(-10),)),
    Fault("not yet valid", "tls.peer-not-yet-valid", 11, its="not_yet_valid", mentions=(date(10),)),
    Fault("for clients only", "tls.peer-wrong-usage", 11, its="server_wrong_usage"),
    Fault("RSA of 1024 bits", "tls.peer-weak", 11, its="weak"),
    Fault("for another host", "tls.name-mismatch", 11, its="elsewhere", then=option("--pin"),
          mentions=("pacs.example",)),
    Fault("without the address", "tls.name-mismatch", 11, its="nameless", host="127.0.0.1", then=option("--pin")),
    Fault("not the pinned one", "tls.pin-mismatch", 11, until=("--pin", "0" * 64), then=option("--pin")),
    Fault("signed by a CA by accident", "tls.peer-not-pinned", 11, its="minted", then=name_the_ca),
    # Ours.
    Fault("we show none", "tls.refused-no-certificate", 12, ours="", requires=True, then=show_one),
    Fault("ours is unknown", "tls.refused-unknown-ca", 12, ours="stranger", requires=True, mentions=UNKNOWN_CA),
    Fault("ours is of an unknown CA", "tls.refused-unknown-ca", 12, ours="orphan", requires=True),
    Fault("ours expired", "tls.refused-expired", 12, ours="expired", requires=True),
    Fault("ours is not yet valid", "tls.refused-bad-certificate", 12, ours="not_yet_valid", requires=True,
          mentions=("not valid before", date(10))),
    Fault("ours is for servers only", "tls.refused-wrong-usage", 12, ours="client_wrong_usage", requires=True),
]  # fmt: skip
ONE = [
    Fault("DHE only", "tls.no-common", 13, options={**ONLY12, "ciphers": "DHE-RSA-AES256-GCM-SHA384", "group": GROUP},
          then=option("--tls-profile"), mentions=("TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",)),
    Fault("AES128-SHA only", "tls.no-common", 13, options={**ONLY12, "ciphers": "AES128-SHA"},
          then=option("--tls-profile"), mentions=("TLS_RSA_WITH_AES_128_CBC_SHA",)),
    Fault("CBC only", "tls.no-common", 13, options={**ONLY12, "ciphers": "ECDHE-RSA-AES128-SHA256"},
          then=option("+cs"), mentions=("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",)),
    Fault("TLS 1.1 only", "tls.no-common", 13, options={**OLD, "ciphers": "ALL"}, mentions=("neither",)),
    Fault("TLS 1.3 only, and we 1.2", "tls.no-common", 13, options=ONLY13, until=("--tls12",), then=leave_out,
          mentions=("TLS 1.3",)),
    Fault("TLS 1.2 only, and we 1.3", "tls.no-common", 13, options=ONLY12, until=("--tls13",), then=leave_out,
          mentions=("TLS 1.2",)),
    Fault("a suite of ours that it lacks", "tls.no-common", 13, options=ONLY12,
          until=("--tls-cipher", "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"), then=leave_out),
    Fault("signed by a CA without key usage, strictly seen", "tls.peer-untrusted", 11, its="kept",
          until=("--x509-strict",), then=unstrict, mentions=("key usage",)),
]  # fmt: skip
ROWS = [
    *(replace(f, name=f"{f.name}, {v[2:]}", words=(v,)) for f in BOTH for v in ("--tls12", "--tls13")),
    *ONE,
]


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.name)
def test_a_fault_behind_tls(fault: Fault, cast: Cast) -> None:
    context = server_context(
        cast[fault.its],
        trusted=cast.faults.trusted if fault.requires else None,
        **fault.options,  # type: ignore[arg-type]
    )
    ours = cast.shown(fault.ours) if fault.ours else []
    with serving(behind(context)) as port:
        words = [
            "echoscu",
            f"{fault.host}:{port}",
            "--trust",
            str(cast.folder / "trusted.crt"),
            *fault.words,
        ]
        told = failure(*words, *ours, *fault.until, peer=f"{fault.host}:{port}")
        assert told.outcome == (fault.exit_code, fault.slug)
        for word in fault.mentions:
            assert word in told.message
        if fault.exit_code == 11:
            assert cast[fault.its].fingerprint in told.message
        if fault.then is None:
            return
        mended = cli.run(*words, *ours, *fault.then(told, cast))
        assert mended.exit_code == 0, mended.stderr


SENDER = [fault for fault in ROWS if fault.then is not None and "tls12" not in fault.name]


@pytest.mark.parametrize("fault", SENDER, ids=lambda fault: fault.name)
def test_a_fault_met_by_storescu(fault: Fault, cast: Cast, tmp_path: Path) -> None:
    """It is told the same, and what the hint says mends it; what comes then is the peer's, which only echoes."""
    image = write(tmp_path / "a.dcm")
    context = server_context(
        cast[fault.its],
        trusted=cast.faults.trusted if fault.requires else None,
        **fault.options,  # type: ignore[arg-type]
    )
    ours = cast.shown(fault.ours) if fault.ours else []
    with serving(behind(context, rawpeer.answers(scripted.reject(2, 3, 1)))) as port:
        peer = f"{fault.host}:{port}"
        words = ["storescu", peer, image, "--trust", cast.folder / "trusted.crt", *fault.words]
        told = failure(*words, *ours, *fault.until, peer=peer)
        assert told.outcome == (fault.exit_code, fault.slug)
        assert fault.then is not None
        past = failure(*words, *ours, *fault.then(told, cast), peer=peer)
        assert past.outcome == (20, "association.rejected")


def test_each_fault_has_its_own_row() -> None:
    assert len({fault.name for fault in ROWS}) == len(ROWS) > 35


# ---------------------------------------------------------------------- what else may listen there

HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.6\r\n"
MAIL = b"220 mail.example ESMTP\r\n"


def dicom_that_hangs_up(sock: socket.socket) -> None:
    """Be DCMTK's plain storescp: leave on what is no PDU, answer an A-ASSOCIATE-RQ."""
    if sock.recv(1, socket.MSG_PEEK) == b"\x01":
        rawpeer.echo(sock)


def dicom_that_waits(sock: socket.socket) -> None:
    """Be a plain SCP that takes a ClientHello for the beginning of a PDU of absurd length."""
    if sock.recv(1, socket.MSG_PEEK) == b"\x01":
        rawpeer.echo(sock)
    else:
        rawpeer.listens(sock)


def resets_at_once(sock: socket.socket) -> None:
    scripted.Scripted(sock).reset()


OTHERS: list[tuple[str, rawpeer.Serve, str, tuple[int, str], str]] = [
    ("SSH", rawpeer.says(SSH), "tls", (13, "tls.peer-plain"), "it speaks SSH, not TLS"),
    ("HTTP", rawpeer.answers(HTTP), "tls", (13, "tls.peer-plain"), "it speaks HTTP, not TLS"),
    ("mail", rawpeer.says(MAIL), "tls", (13, "tls.peer-plain"), "it sends `220 m`, which begins no TLS handshake"),
    ("DICOM that aborts", rawpeer.answers(scripted.abort(2, 1)), "tls", (13, "tls.peer-plain"), "plain DICOM"),
    ("DICOM that hangs up", dicom_that_hangs_up, "tls", (13, "tls.peer-plain"), "it speaks plain DICOM, not TLS"),
    ("DICOM that waits", dicom_that_waits, "tls", (13, "tls.peer-plain"), "it speaks plain DICOM, not TLS"),
    ("closes at once", rawpeer.leaves, "tls", (10, "peer.closed-at-once"), "before anything is said"),
    ("resets at once", resets_at_once, "tls", (10, "peer.closed-at-once"), "before anything is said"),
    ("hangs up", rawpeer.hangs_up, "tls", (13, "tls.peer-hung-up"), "closed the connection during"),
    ("resets", rawpeer.resets, "tls", (13, "tls.peer-hung-up"), "closed the connection during"),
    ("says nothing", rawpeer.listens, "tls", (10, "tls.peer-silent"), "in time"),
    ("garbage", rawpeer.says(b"\x99" * 99), "tls", (13, "tls.peer-plain"), "it sends `99 99 99 99 99`"),
    ("SSH", rawpeer.says(SSH), "plain", (21, "association.peer-speaks-ssh"), "the peer speaks SSH"),
    ("HTTP", rawpeer.answers(HTTP), "plain", (21, "association.peer-speaks-http"), "the peer speaks HTTP"),
    ("mail", rawpeer.says(MAIL), "plain", (21, "association.protocol-error"), "`220 ma`"),
    ("closes at once", rawpeer.leaves, "plain", (10, "peer.closed-at-once"), "before anything is said"),
    ("resets at once", resets_at_once, "plain", (10, "peer.closed-at-once"), "before anything is said"),
    ("hangs up", rawpeer.hangs_up, "plain", (21, "association.lost"), "closed the connection before it answered"),
    ("resets", rawpeer.resets, "plain", (21, "association.lost"), "reset the connection before it answered"),
    ("says nothing", rawpeer.listens, "plain", (21, "association.timeout"), "time-out"),
    ("garbage", rawpeer.says(b"\x99" * 99), "plain", (21, "association.protocol-error"), "`99 99 99 99 99 99`"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("serve", "mode", "outcome", "words"), [row[1:] for row in OTHERS], ids=[f"{r[0]}-{r[2]}" for r in OTHERS]
)
def test_another_protocol(
    serve: rawpeer.Serve, mode: str, outcome: tuple[int, str], words: str, cast: Cast
) -> None:
    options = ["--no-tls"] if mode == "plain" else ["--trust", str(cast["peer"].cert)]
    with serving(serve) as port:
        told = failure("echoscu", f"{HOST}:{port}", *SHORT, *options, peer=f"{HOST}:{port}")
        assert told.outcome == outcome
        assert words in told.message
        if "plain DICOM" in words and serve in (dicom_that_hangs_up, dicom_that_waits):
            assert ["--no-tls"] in told.options
            assert cli.run("echoscu", f"{HOST}:{port}", "--no-tls").exit_code == 0


def test_silence_is_what_it_was(cast: Cast) -> None:
    """A peer that says nothing, and is gone when it is asked once more."""
    count = 0

    def serve(sock: socket.socket) -> None:
        nonlocal count
        count += 1
        if count == 1:
            rawpeer.listens(sock)

    with serving(serve) as port:
        told = failure(
            "echoscu", f"{HOST}:{port}", *SHORT, "--trust", cast["peer"].cert, peer=f"{HOST}:{port}"
        )
    assert told.outcome == (10, "tls.peer-silent")
    assert count == 2


def test_a_tls_port_met_in_plain(cast: Cast) -> None:
    with serving(behind(server_context(cast["peer"]))) as port:
        words = ["echoscu", f"{HOST}:{port}"]
        told = failure(*words, "--no-tls", peer=f"{HOST}:{port}")
        assert told.outcome == (13, "association.peer-speaks-tls")
        assert told.options == [["--no-tls"], ["--trust", "FILE"]]  # drop the one, give the other
        assert cli.run(*words, "--trust", cast["peer"].cert).exit_code == 0


def test_nothing_of_ours_is_told_to_what_speaks_no_tls(cast: Cast) -> None:
    """The question in plain DICOM has neither our AE titles nor anything else of the command line."""
    asked: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            asked.append(data)
            if data[0] == scripted.RQ:
                sock.sendall(scripted.reject(1, 1, 7))
            else:
                return

    with serving(serve) as port:
        titles = ["--aet", "SECRETAET", "--aec", "OTHERAET", "--user", "SOMEBODY"]
        told = failure(
            "echoscu", f"{HOST}:{port}", *titles, "--trust", cast["peer"].cert, peer=f"{HOST}:{port}"
        )
    assert told.slug == "tls.peer-plain"
    hello, question, *rest = asked
    assert hello[0] == 0x16
    assert b"ANY-SCP" in question
    assert [data for data in rest if data != scripted.abort(0, 0)] == []
    for title in titles[1::2]:
        assert title.encode() not in b"".join(asked)


# ---------------------------------------------------------------------- rejected


REJECTS = {
    (1, 1, 1): ("no reason given, permanent, 1/1/1", "log"),
    (1, 1, 2): ("application context name not supported, permanent, 1/1/2", "something else"),
    (1, 1, 3): (
        "calling AE title not recognised, permanent, 1/1/3",
        "`OURS`; give one it knows with `--aet`",
    ),
    (1, 1, 7): ("called AE title not recognised, permanent, 1/1/7", "`ITS`; give its own with `--aec`"),
    (1, 2, 1): ("no reason given, permanent, 1/2/1", "log"),
    (1, 2, 2): ("protocol version not supported, permanent, 1/2/2", "another version"),
    (2, 3, 1): ("temporary congestion, transient, 2/3/1", "try again later"),
    (2, 3, 2): ("local limit exceeded, transient, 2/3/2", "try again later"),
    (1, 1, 9): ("a reason PS3.8 does not know, permanent, 1/1/9", "log"),
}


@pytest.mark.parametrize("numbers", REJECTS)
def test_a_rejection(numbers: tuple[int, int, int]) -> None:
    words, hint = REJECTS[numbers]
    with serving(rawpeer.answers(scripted.reject(*numbers))) as port:
        titles = ["--aet", "OURS", "--aec", "ITS"]
        told = failure("echoscu", f"{HOST}:{port}", "--no-tls", *titles, peer=f"{HOST}:{port}")
    assert told.outcome == (20, "association.rejected")
    assert words in told.message
    assert hint in told.hint


# ---------------------------------------------------------------------- alerts that get lost


def refuses_rudely(context: ssl.SSLContext) -> rawpeer.Serve:
    """Return a server that resets the connection right behind the alert, while the requestor still writes."""

    def serve(sock: socket.socket) -> None:
        tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        try:
            tls.do_handshake()
        except ssl.SSLError:
            scripted.Scripted(tls).reset()
            return
        with tls:
            rawpeer.echo(tls)

    return serve


@pytest.mark.parametrize(
    ("ours", "slug"),
    [
        ("stranger", "tls.refused-unknown-ca"),
        ("", "tls.refused-no-certificate"),
        ("expired", "tls.refused-expired"),
        ("client_wrong_usage", "tls.refused-wrong-usage"),
    ],
)
@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
def test_a_reason_that_races_with_a_reset_is_told_every_time(
    ours: str, slug: str, version: str, cast: Cast
) -> None:
    context = server_context(cast["peer"], trusted=cast.faults.trusted)
    shown = cast.shown(ours) if ours else []
    with serving(refuses_rudely(context)) as port:
        words = ["echoscu", "--json", f"{HOST}:{port}", version, *shown, "--trust", cast["peer"].cert]
        told = [cli.run(*words).json["error"]["code"] for _ in range(20)]
    assert told == [slug] * 20


def test_a_lost_alert_is_asked_for_once(cast: Cast) -> None:
    """The first connection ends without any alert: the second one reads before it writes, and there is no third."""
    context = server_context(cast["peer"], trusted=cast.faults.trusted, **ONLY13)  # type: ignore[arg-type]
    count = 0

    def serve(sock: socket.socket) -> None:
        nonlocal count
        count += 1
        if count == 1:
            open_context = server_context(cast["peer"], **ONLY13)  # type: ignore[arg-type]
            behind(open_context, lambda tls: scripted.Scripted(tls).reset())(sock)
        else:
            refuses_rudely(context)(sock)

    with serving(serve) as port:
        words = ["echoscu", f"{HOST}:{port}", *cast.shown("stranger"), "--trust", cast["peer"].cert]
        told = failure(*words, peer=f"{HOST}:{port}")
    assert told.outcome == (12, "tls.refused-unknown-ca")
    assert count == 2


def test_a_peer_that_gives_no_reason_twice_is_not_waited_for(cast: Cast) -> None:
    """It resets the first connection and keeps the second: two seconds, and then it is told what is known."""
    context = server_context(cast["peer"])
    count = 0

    def then(tls: socket.socket) -> None:
        nonlocal count
        count += 1
        if count == 1:
            scripted.Scripted(tls).reset()
        else:
            rawpeer.listens(tls)

    with serving(behind(context, then)) as port:
        told = failure("echoscu", f"{HOST}:{port}", "--trust", cast["peer"].cert, peer=f"{HOST}:{port}")
    assert told.outcome == (21, "association.lost")
    assert count == 2


def test_a_revoked_certificate_of_ours(cast: Cast, tmp_path: Path) -> None:
    context = server_context(cast["peer"], trusted=cast["ca"].cert)
    context.load_verify_locations(make_crl(tmp_path / "list.pem", cast["ca"], cast["signed"]))
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    with serving(behind(context)) as port:
        words = ["echoscu", f"{HOST}:{port}", "--trust", cast["peer"].cert]
        told = failure(*words, *cast.shown("signed"), peer=f"{HOST}:{port}")
    assert told.outcome == (12, "tls.refused-revoked")


# ---------------------------------------------------------------------- resets at each stage

STAGES: dict[str, tuple[rawpeer.Serve, tuple[int, str]]] = {
    "after the handshake": (lambda tls: scripted.Scripted(tls).reset(), (21, "association.lost")),
    "after the A-ASSOCIATE-RQ": (rawpeer.resets, (21, "association.lost")),
    "in the A-ASSOCIATE-AC": (rawpeer.answers(scripted.accept()[:20]), (21, "association.timeout")),
}


def resets_within_accept(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(scripted.accept()[:20])
    scripted.Scripted(sock).reset()


def resets_after_accept(sock: socket.socket) -> None:
    script = scripted.Scripted(sock)
    script.accept()
    script.expect_message()
    script.reset()


STAGES["within the A-ASSOCIATE-AC"] = (resets_within_accept, (21, "association.lost"))
STAGES["after the C-ECHO-RQ"] = (resets_after_accept, (21, "association.lost"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_reset_at_each_stage(stage: str, cast: Cast) -> None:
    serve, outcome = STAGES[stage]
    with serving(behind(server_context(cast["peer"]), serve)) as port:
        told = failure(
            "echoscu", f"{HOST}:{port}", *SHORT, "--trust", cast["peer"].cert, peer=f"{HOST}:{port}"
        )
    assert told.outcome == outcome


# ---------------------------------------------------------------------- hostile handshakes


def record(kind: int, data: bytes) -> bytes:
    return struct.pack(">BHH", kind, 0x0303, len(data)) + data


def message(kind: int, data: bytes, length: int | None = None) -> bytes:
    return bytes((kind,)) + (len(data) if length is None else length).to_bytes(3, "big") + data


RENEGOTIATION = b"\xff\x01\0\x01\0"  # RFC 5746, or OpenSSL goes no further
SERVER_HELLO = message(2, b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0" + b"\0\5" + RENEGOTIATION)


def certificates(*ders: bytes) -> bytes:
    listed = b"".join(len(der).to_bytes(3, "big") + der for der in ders)
    return message(11, len(listed).to_bytes(3, "big") + listed)


HOSTILE: list[tuple[str, bytes, set[str]]] = [
    ("a hello and then nothing", record(22, SERVER_HELLO), {"tls.peer-silent"}),
    (
        "a message of 16 MB",
        record(22, SERVER_HELLO) + record(22, message(11, bytes(99), 0xFFFFFF)),
        {"tls.failed"},
    ),
    (
        "a list longer than its message",
        record(22, SERVER_HELLO + message(11, b"\xff\xff\xff\0\0\0")),
        {"tls.failed"},
    ),
    (
        "a certificate of 4 GB",
        record(22, SERVER_HELLO + certificates(b"\x30\x84\xff\xff\xff\xff\0")),
        {"tls.failed"},
    ),
    ("a certificate of nothing", record(22, SERVER_HELLO + certificates(b"")), {"tls.failed"}),
    ("no certificate", record(22, SERVER_HELLO + certificates()), {"tls.failed"}),
    ("garbage for a certificate", record(22, SERVER_HELLO + certificates(b"\x99" * 999)), {"tls.failed"}),
    ("garbage behind the hello", record(22, SERVER_HELLO) + b"\x99" * 99, {"tls.failed"}),
    ("another message than the hello", record(22, message(14, b"")), {"tls.failed"}),
    ("an alert nobody knows", record(21, b"\x02\xfe"), {"tls.failed"}),
    ("an empty record", record(22, b""), {"tls.peer-silent"}),
    ("an application record", record(23, b"x" * 99), {"tls.failed"}),
]


@pytest.mark.parametrize(("name", "data", "slugs"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_a_hostile_handshake(name: str, data: bytes, slugs: set[str], cast: Cast) -> None:
    with serving(rawpeer.answers(data)) as port:
        words = ["echoscu", f"{HOST}:{port}", *SHORT, "--tls12", "--trust", cast["peer"].cert]
        told = failure(*words, peer=f"{HOST}:{port}")
    assert told.slug in slugs
    assert told.exit_code in (10, 13)


@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
def test_a_name_of_64_kb(version: str, cast: Cast, tmp_path: Path) -> None:
    """It is shown in short."""
    vast = make_identity(tmp_path, "vast", unit="x" * 65536)
    with serving(behind(server_context(vast))) as port:
        words = ["echoscu", f"{HOST}:{port}", version, "--trust", cast["peer"].cert]
        told = failure(*words, peer=f"{HOST}:{port}")
    assert told.outcome == (11, "tls.peer-untrusted")
    assert vast.fingerprint in told.message


@pytest.mark.parametrize("version", ["--tls12", "--tls13"])
def test_a_name_with_control_characters(version: str, cast: Cast) -> None:
    with serving(behind(server_context(cast["loud"]))) as port:
        words = ["echoscu", f"{HOST}:{port}", version, "--trust", cast["peer"].cert]
        told = failure(*words, peer=f"{HOST}:{port}")
    assert told.outcome == (11, "tls.peer-untrusted")
    assert "CN=loud" in told.message
