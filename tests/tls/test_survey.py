"""What one conversation with a server finds out, over a real socket, whatever the server does."""

from __future__ import annotations

import contextlib
import ssl
import time
import warnings
from pathlib import Path

import pytest

from dicomtls_cli.tls.conversation import ask, survey
from dicomtls_cli.tls.flights import SUITES_13
from dicomtls_cli.tls.policy import Role
from dicomtls_cli.tls.survey import VERSIONS, Ending, Offer, Seen, old_suites, survey_context
from tests.support.pki import make_identity
from tests.support.scripted import LIMIT, Scripted, played
from tests.tls.conftest import Zoo
from tests.tls.test_flights import GCM_RSA, record, server_hello
from tests.tls.wire import HOST, TLS12, TLS13, key_pair, plain_context

SHORT = 0.2  # seconds a peer that says nothing is waited for


def server(
    zoo: Zoo, version: ssl.TLSVersion | None = None, *, verify: ssl.VerifyMode = ssl.CERT_NONE
) -> ssl.SSLContext:
    context = plain_context(Role.ACCEPTOR, key_pair(zoo["self"]), version)
    context.load_verify_locations(cadata=zoo["self"].der)
    context.verify_mode = verify
    return context


def seen_of(context: ssl.SSLContext, offer: Offer = Offer(), *, listen: float = 0.0) -> Seen:  # noqa: B008
    """Return what is seen of a server with this context, which reads until its client leaves."""

    def script(peer: Scripted) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(peer.sock, server_side=True) as tls:
            while tls.recv(1024):
                pass

    with played(script) as ours:
        return survey(ours, survey_context(offer), HOST, time.monotonic() + LIMIT, listen=listen)


@pytest.mark.parametrize(("version", "name"), [(TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")])
def test_what_a_server_shows(version: ssl.TLSVersion, name: str, zoo: Zoo) -> None:
    seen = seen_of(server(zoo, version))
    assert (seen.ending, seen.version, seen.handshake_done) == (Ending.DONE, name, True)
    assert seen.chain == (zoo["self"].der,)
    assert seen.group == "X25519"
    assert seen.cipher
    assert not seen.certificate_requested
    assert seen.start[:2] == b"\x16\3"
    assert seen.seconds > 0


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_the_whole_chain_is_seen(version: ssl.TLSVersion, zoo: Zoo) -> None:
    context = plain_context(Role.ACCEPTOR, key_pair(zoo["deep"], zoo.all("intermediate ca")), version)
    assert seen_of(context).chain == tuple(one.der for one in zoo.all("deep intermediate ca"))


def test_alpn_is_seen(zoo: Zoo) -> None:
    context = server(zoo)
    context.set_alpn_protocols(["h2", "dicom"])
    assert seen_of(context).alpn == "dicom"


@pytest.mark.parametrize("group", ["P-256", "P-384", "X25519"])
def test_one_group_can_be_offered(group: str, zoo: Zoo) -> None:
    assert seen_of(server(zoo), Offer(group=group)).group == group


def test_a_certificate_of_another_curve_has_no_group_in_tls12(zoo: Zoo) -> None:
    """RFC 8422 5.1: the groups that are offered are those of the certificate, too."""
    assert seen_of(server(zoo), Offer("TLSv1.2", "TLSv1.2", group="P-256")).group == "P-256"
    assert seen_of(server(zoo), Offer("TLSv1.2", "TLSv1.2", group="X25519")).group == ""


def test_one_suite_can_be_offered(zoo: Zoo) -> None:
    seen = seen_of(server(zoo), Offer("TLSv1.2", "TLSv1.2", ("AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256")))
    assert seen.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_required_certificate_is_seen(version: ssl.TLSVersion, zoo: Zoo) -> None:
    seen = seen_of(server(zoo, version, verify=ssl.CERT_REQUIRED), listen=LIMIT)
    assert seen.certificate_requested
    assert seen.ending is Ending.ALERT
    assert seen.handshake_done == (version is TLS13)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_certificate_that_is_taken_is_silence(version: ssl.TLSVersion, zoo: Zoo) -> None:
    context = server(zoo, version, verify=ssl.CERT_REQUIRED)
    seen = seen_of(context, Offer(key_pair=key_pair(zoo["self"])), listen=SHORT)
    assert (seen.ending, seen.certificate_requested) == (Ending.DONE, True)


def test_a_version_that_is_refused(zoo: Zoo) -> None:
    seen = seen_of(server(zoo, TLS13), Offer("TLSv1.2", "TLSv1.2"))
    assert (seen.ending, seen.version, seen.alert) == (Ending.ALERT, "", 70)


def test_what_is_old_and_weak_is_seen_to_its_end(tmp_path: Path) -> None:
    """TLS 1.0, an RSA key of 1024 bits: what current OpenSSL refuses as it comes."""
    weak = make_identity(tmp_path, "weak", ec_key=False, key_size=1024)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
    context.load_cert_chain(weak.cert, weak.key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    seen = seen_of(context)
    assert (seen.version, seen.cipher, seen.handshake_done) == ("TLSv1", "ECDHE-RSA-AES128-SHA", True)
    assert seen.chain == (weak.der,)


def test_only_these_contexts_offer_what_is_broken() -> None:
    assert list(VERSIONS) == ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]
    assert {"AES128-SHA", "NULL-SHA256", "ADH-AES128-GCM-SHA256"} <= set(old_suites())
    assert not [name for name in old_suites() if "PSK" in name or "SRP" in name]


# ---------------------------------------------------------------------- servers that are none

GARBAGE = bytes(range(0x80, 0x100)) * 40


def raw(*data: bytes) -> Seen:
    """Return what is seen of a peer that reads a ClientHello, says this, and leaves."""

    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(*data)

    with played(script) as ours:
        return survey(ours, survey_context(Offer()), HOST, time.monotonic() + LIMIT)


@pytest.mark.parametrize(
    ("said", "ending"),
    [
        (b"", Ending.CLOSED),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Ending.GARBAGE),
        (GARBAGE, Ending.GARBAGE),
        (record(b"\2\x28", kind=21), Ending.ALERT),
        (record(server_hello(GCM_RSA)), Ending.CLOSED),
        (record(server_hello(GCM_RSA)) + record(b"\x0b\xff\xff\xff" + bytes(40)), Ending.GARBAGE),
    ],
    ids=["nothing", "http", "garbage", "alert", "hello", "huge-certificate"],
)
def test_how_it_ends(said: bytes, ending: Ending) -> None:
    assert raw(said).ending is ending


def test_what_was_chosen_is_known_although_it_did_not_end_well() -> None:
    seen = raw(record(server_hello(GCM_RSA)))
    assert (seen.version, seen.cipher, seen.handshake_done) == (
        "TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", False,
    )  # fmt: skip


def test_a_reset_is_seen() -> None:
    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.reset()

    with played(script) as ours:
        assert survey(ours, survey_context(Offer()), HOST, time.monotonic() + LIMIT).ending is Ending.RESET


@pytest.mark.parametrize(
    "said",
    [b"", record(server_hello(GCM_RSA))[:30], record(server_hello(GCM_RSA))],
    ids=["nothing", "cut-off", "hello"],
)
def test_silence_ends_at_the_deadline(said: bytes) -> None:
    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(said)
        while peer.sock.recv(65536):
            pass

    with played(script) as ours:
        seen = survey(ours, survey_context(Offer()), HOST, time.monotonic() + SHORT)
    assert seen.ending is Ending.SILENT
    assert isinstance(seen.error, TimeoutError)


def test_a_drip_does_not_move_the_deadline() -> None:
    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.drip(record(server_hello(GCM_RSA)) * 100)

    with played(script) as ours:
        seen = survey(ours, survey_context(Offer()), HOST, time.monotonic() + SHORT)
        assert seen.ending is Ending.SILENT


def test_a_flood_is_cut_off() -> None:
    """Empty handshake records, which OpenSSL would read for ever."""

    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        with contextlib.suppress(OSError):  # it is not read to its end
            for _ in range(64):
                peer.send(record(b"\0\0\0\0") * 2000)

    with played(script) as ours:
        seen = survey(ours, survey_context(Offer("TLSv1.2", "TLSv1.2")), HOST, time.monotonic() + LIMIT)
    assert seen.ending is Ending.TOO_MUCH


# ---------------------------------------------------------------------- a bare ClientHello


def asked(version: str, suites: tuple[int, ...], said: bytes | None, seconds: float = LIMIT) -> int | None:
    """Return what comes of a bare ClientHello; `said` None never answers."""

    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(said or b"")
        while said is None and peer.sock.recv(65536):
            pass

    with played(script) as ours:
        return ask(ours, version, suites, HOST, time.monotonic() + seconds)


def test_the_suite_that_is_chosen() -> None:
    assert asked("TLSv1.2", (0x0005, 0x000A), record(server_hello(0x000A))) == 0x000A
    assert asked("SSLv3", (0x0005,), record(server_hello(0x0005, version=0x0300))) == 0x0005


@pytest.mark.parametrize(
    "said",
    [b"", b"SSH-2.0-x\r\n", GARBAGE, record(b"\2\x28", kind=21), record(server_hello(0x0004)),
     record(server_hello(0x000A, version=0x0301))],
    ids=["nothing", "ssh", "garbage", "alert", "another-suite", "another-version"],
)  # fmt: skip
def test_what_is_no_answer_is_a_refusal(said: bytes) -> None:
    """A suite that was not offered and another version are none either."""
    assert asked("TLSv1.2", (0x0005, 0x000A), said) == 0


def test_no_answer_is_told_apart() -> None:
    assert asked("TLSv1.3", tuple(SUITES_13), None, SHORT) is None
