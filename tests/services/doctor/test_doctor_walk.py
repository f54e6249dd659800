"""The walk against peers that do what no peer should: it ends, within its limits, with findings."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.doctor.facts import Facts, Speaks
from dicomtls_cli.services.doctor.judgement import Status, Step
from dicomtls_cli.services.doctor.probes import Limits
from dicomtls_cli.services.doctor.steps import decisive, judge
from dicomtls_cli.services.doctor.walk import examine
from dicomtls_cli.services.peer import Peer, Requestor, Timeouts, TlsOptions, tls_context
from dicomtls_cli.tls.policy import PeerCheck, Role
from tests.conftest import Pki
from tests.support.pki import Identity, make_identity
from tests.support.repeating import repeating
from tests.support.scripted import Scripted
from tests.tls.test_flights import GCM_RSA, record, server_hello

LIMITS = Limits(80, 20.0)
SHORT = 0.5  # seconds a peer that says nothing is waited for
GARBAGE = bytes(range(0x80, 0x100)) * 40
HELLO = record(server_hello(GCM_RSA))


@pytest.fixture(scope="module")
def anyone() -> ssl.SSLContext:
    """A context of ours that takes any peer: what is here is refused before."""
    return tls_context(Role.REQUESTOR, TlsOptions(peer_check=PeerCheck.IGNORE))


def examined(
    script: Callable[[Scripted], None],
    context: ssl.SSLContext | None,
    *,
    seconds: float = 10.0,
    acse: float = SHORT,
    limits: Limits = LIMITS,
) -> tuple[Facts, Step | None]:
    """Return what is found out about a peer that plays `script`, and the step that decides the exit code."""
    requestor = Requestor(context=context, timeouts=Timeouts(10.0, seconds, acse, acse))
    with repeating(script) as peer:
        facts = examine(Peer("127.0.0.1", peer.port), requestor, limits)
        made = peer.connections
    assert made <= facts.connections <= limits.connections
    return facts, decisive(judge(facts, now=datetime.now(UTC)))


def says(*data: bytes) -> Callable[[Scripted], None]:
    """Return the script of a peer that reads once, says this, and waits until the other side leaves."""

    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(*data)
        while peer.sock.recv(65536):
            pass

    return script


def reads_and_resets(said: bytes) -> Callable[[Scripted], None]:
    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(said)
        peer.reset()

    return script


def drips(peer: Scripted) -> None:
    peer.sock.recv(65536)
    peer.drip(HELLO * 100)


def greets(peer: Scripted) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    while peer.sock.recv(65536):
        pass


@pytest.mark.parametrize(
    ("script", "seconds", "speaks", "name", "slug", "code"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 5, Speaks.HTTP, "protocol", "tls.peer-plain", 13),
        (greets, 5, Speaks.SSH, "protocol", "tls.peer-plain", 13),
        (says(b"220 mail.example ESMTP\r\n"), 5, Speaks.OTHER, "protocol", "tls.peer-plain", 13),
        (says(GARBAGE), 5, Speaks.OTHER, "protocol", "tls.peer-plain", 13),
        (lambda _: None, 5, Speaks.HANGS_UP, "protocol", "peer.closed-at-once", 10),
        (lambda peer: peer.reset(), 5, Speaks.HANGS_UP, "protocol", "peer.closed-at-once", 10),
        (reads_and_resets(b""), 5, Speaks.HANGS_UP, "protocol", "tls.peer-hung-up", 13),
        (says(), SHORT, Speaks.SILENT, "protocol", "tls.peer-silent", 10),
        (says(HELLO), SHORT, Speaks.TLS, "handshake", "tls.peer-silent", 10),
        (drips, SHORT, Speaks.TLS, "handshake", "tls.peer-silent", 10),
        (reads_and_resets(HELLO), 5, Speaks.TLS, "handshake", "tls.peer-hung-up", 13),
        (says(HELLO, record(b"\x0b\xff\xff\xff" + bytes(40))), 5, Speaks.TLS, "handshake", "tls.failed", 13),
        (says(record(b"\x63\x63\x63\x63\x63")), SHORT, Speaks.TLS, "handshake", "tls.failed", 13),
        (says(record(b"\2\x28", kind=21)), 5, Speaks.TLS, "handshake", "tls.no-common", 13),
    ],
    ids=["http", "ssh", "smtp", "garbage", "closes", "resets", "resets-later", "silent", "hello-then-nothing", "drips",
         "hello-then-reset", "huge-certificate", "tls-garbage", "refuses-all"],
)  # fmt: skip
def test_what_a_peer_does_is_named(
    script: Callable[[Scripted], None], seconds: float, speaks: Speaks, name: str, slug: str, code: int,
    anyone: ssl.SSLContext,
) -> None:  # fmt: skip
    facts, failed = examined(script, anyone, seconds=seconds)
    assert facts.speaks is speaks
    assert failed is not None
    assert (failed.name, failed.slug, failed.exit_code) == (name, slug, code)
    assert failed.fix


def test_a_peer_that_stalls_is_not_asked_again(anyone: ssl.SSLContext) -> None:
    facts, _ = examined(says(HELLO), anyone, seconds=SHORT)
    assert facts.stalled
    assert facts.connections == 2  # TCP, and the one handshake


def test_banners_are_shown_and_do_nothing(anyone: ssl.SSLContext) -> None:
    _, failed = examined(says(b"220 mail \x1b[31m\x07 here\r\n"), anyone)
    assert failed is not None
    assert r"`220 mail \x1b[31m\x07 here`" in failed.text


# ---------------------------------------------------------------------- what is offered


def offered(record_of_hello: bytes) -> tuple[int, ...]:
    """Return the suites that a ClientHello offers, by their numbers; none for a connection without one."""
    if not record_of_hello:
        return ()
    at = 5 + 38 + 1 + record_of_hello[43]
    length = int.from_bytes(record_of_hello[at : at + 2], "big")
    listed = record_of_hello[at + 2 : at + 2 + length]
    return tuple(int.from_bytes(listed[i : i + 2], "big") for i in range(0, length, 2))


def test_suites_that_openssl_does_not_offer_are_found(anyone: ssl.SSLContext) -> None:
    """The server takes 3DES, which is in no OpenSSL of today, and SSL 3.0 with RC4."""

    def script(peer: Scripted) -> None:
        said = peer.sock.recv(65536)
        suites = offered(said)
        if GCM_RSA in suites:
            peer.send(HELLO)
        elif said[9:11] == b"\3\0" and 0x0005 in suites:
            peer.send(record(server_hello(0x0005, version=0x0300)))
        elif 0x000A in suites:
            peer.send(record(server_hello(0x000A)))
        else:
            peer.send(record(b"\2\x28", kind=21))

    facts, _ = examined(script, anyone)
    assert list(facts.suites) == ["ECDHE-RSA-AES256-GCM-SHA384", "DES-CBC3-SHA"]
    assert facts.speaks_ssl3
    notes = [note for one in judge(facts, now=datetime.now(UTC)) for note in one.notes]
    assert "SSL 3.0 must not be used (RFC 8996)" in notes
    assert "suites of less than 128 bits (3DES) should not be used (RFC 9325 4.1): DES-CBC3-SHA" in notes


NULL_SHA256 = 0x003B


def test_a_peer_that_drops_who_offers_what_is_broken(pki: Pki, anyone: ssl.SSLContext) -> None:
    serve = tls_server(pki)

    def script(peer: Scripted) -> None:
        if NULL_SHA256 not in offered(peer.sock.recv(65536, socket.MSG_PEEK)):
            serve(peer)

    facts, failed = examined(script, anyone)
    assert facts.speaks is Speaks.TLS
    assert failed is not None
    assert (failed.name, failed.slug) == ("association", "association.timeout")


# ---------------------------------------------------------------------- addresses


def test_every_address_is_tried(pki: Pki, anyone: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", closed.getsockname())

        def resolve(peer: Peer, *_: object) -> list[object]:
            return [dead, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", peer.port))]

        monkeypatch.setattr("dicomtls_cli.services.doctor.walk.resolve", resolve)
        facts, _ = examined(tls_server(pki), anyone)
    assert [one.error and one.error.slug for one in facts.addresses] == ["peer.connection-refused", None]
    assert facts.speaks is Speaks.TLS
    (connect,) = [one for one in judge(facts, now=datetime.now(UTC)) if one.name == "connect"]
    assert (connect.status, connect.slug) == (Status.WARN, "doctor.dead-address")


# ---------------------------------------------------------------------- limits


def tls_server(pki: Pki) -> Callable[[Scripted], None]:
    """Return the script of a server that makes every handshake, and then says nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.scp.cert, pki.scp.key)

    def script(peer: Scripted) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as tls:
            while tls.recv(65536):
                pass

    return script


@pytest.mark.parametrize("connections", [1, 2, 4, 7, 10, 15])
def test_connections_are_never_more_than_allowed(connections: int, pki: Pki, anyone: ssl.SSLContext) -> None:
    facts, _ = examined(tls_server(pki), anyone, limits=Limits(connections, 20.0))
    assert facts.cut_short == "the connections that were allowed are used up"


def test_the_time_is_never_longer_than_allowed(anyone: ssl.SSLContext) -> None:
    begun = time.monotonic()
    facts, _ = examined(says(), anyone, seconds=60.0, limits=Limits(80, SHORT))
    assert time.monotonic() - begun < 30.0  # an association's time-outs alone would be 60
    assert facts.speaks is Speaks.SILENT


def test_no_connection_is_made_when_the_time_is_over(pki: Pki, anyone: ssl.SSLContext) -> None:
    facts, _ = examined(tls_server(pki), anyone, limits=Limits(80, 0.0))
    assert facts.cut_short == "the time that was allowed is over"
    assert facts.connections == 0


def test_a_server_that_is_no_dicom_peer(pki: Pki, anyone: ssl.SSLContext) -> None:
    facts, failed = examined(tls_server(pki), anyone)
    assert failed is not None
    assert (failed.name, failed.slug, failed.exit_code) == (
        "association",
        "association.timeout",
        ExitCode.ABORTED,
    )
    assert facts.accepted_versions == ["TLSv1.2", "TLSv1.3"]
    assert facts.chain == (pki.scp.der,)
    assert facts.suites_complete


# ---------------------------------------------------------------------- nothing listens


def test_a_port_where_nothing_listens(anyone: ssl.SSLContext) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        peer = Peer("127.0.0.1", sock.getsockname()[1])
        facts = examine(peer, Requestor(context=anyone), LIMITS)
    failed = decisive(judge(facts, now=datetime.now(UTC)))
    assert failed is not None
    assert (failed.name, failed.slug, failed.exit_code) == ("connect", "peer.connection-refused", 10)
    assert facts.connections == 1


def test_a_name_that_nobody_has(anyone: ssl.SSLContext) -> None:
    facts = examine(Peer("nowhere.invalid", 2762), Requestor(context=anyone), LIMITS)
    failed = decisive(judge(facts, now=datetime.now(UTC)))
    assert failed is not None
    assert (failed.name, failed.slug) == ("resolve", "peer.unknown-host")
    assert facts.connections == 0


# ---------------------------------------------------------------------- anything

_RECORDS = st.builds(
    lambda kind, data: record(data, kind), st.sampled_from([20, 21, 22, 23]), st.binary(max_size=80)
)


@given(st.lists(st.binary(max_size=80) | _RECORDS | st.just(HELLO), max_size=4))
@example([HELLO, record(b"\x0b\0\0\3\0\0\0"), record(b"\x0e\0\0\0")])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arbitrary_bytes_are_findings(pieces: list[bytes]) -> None:
    """Whatever a peer says before it leaves: the walk ends, and every step has its words."""

    def script(peer: Scripted) -> None:
        peer.sock.recv(65536)
        peer.send(*pieces)

    context = tls_context(Role.REQUESTOR, TlsOptions(peer_check=PeerCheck.IGNORE))
    facts, failed = examined(script, context)
    assert failed is not None
    assert failed.exit_code in (ExitCode.NO_COMMON_TLS, ExitCode.REFUSED_BY_PEER)
    steps = judge(facts, now=datetime.now(UTC))
    assert all(one.text.isprintable() for one in steps)
    assert [one.status for one in steps if one.name == "association"] == [Status.SKIPPED]


# ---------------------------------------------------------------------- certificates nobody should make


@pytest.mark.parametrize("name", ["a\0b\x1b[2J", "x" * 40_000], ids=["nul", "long"])
def test_a_certificate_with_an_absurd_name(name: str, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    odd = odd_identity(tmp_path, name)
    context.load_cert_chain(odd.cert, odd.key)

    def script(peer: Scripted) -> None:
        with context.wrap_socket(peer.sock, server_side=True) as tls:
            while tls.recv(65536):
                pass

    for options in (TlsOptions(peer_check=PeerCheck.IGNORE), TlsOptions(trust=(odd.cert,))):
        facts, failed = examined(script, tls_context(Role.REQUESTOR, options))
        assert facts.chain == (odd.der,)
        assert failed is not None
        assert failed.name == "association"  # it is no DICOM peer; its name is its own affair
        (chain,) = [one for one in judge(facts, now=datetime.now(UTC)) if one.name == "chain"]
        assert chain.text.isprintable()
        assert len(chain.text) < 500


def odd_identity(folder: Path, name: str) -> Identity:
    """Make an identity whose common name is `name`, however long or odd."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    made = make_identity(folder, "odd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so: too long
        common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, name, _validate=False)
    subject = x509.Name([common_name])
    builder = x509.CertificateBuilder(
        subject, subject, made.private_key.public_key(), made.certificate.serial_number,
        made.certificate.not_valid_before_utc.replace(tzinfo=None),
        made.certificate.not_valid_after_utc.replace(tzinfo=None), list(made.certificate.extensions),
    )  # fmt: skip
    certificate = builder.sign(made.private_key, hashes.SHA256())
    made.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    return replace(made, certificate=certificate)
