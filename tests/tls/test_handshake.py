"""What the messages of a handshake show, also of the one that failed; and that its deadline holds."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.diagnosis.diagnose import Stage, diagnose
from dicomtls_cli.tls import handshake as module
from dicomtls_cli.tls.context import client_context, server_context
from dicomtls_cli.tls.handshake import TlsFacts, first_byte, handshake, messages
from dicomtls_cli.tls.policy import PeerCheck, Role, TlsPolicy
from tests.tls.conftest import Zoo
from tests.tls.wire import HOST, TLS12, TLS13, connect, key_pair, plain_context, trust

LIMIT = 30.0
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS1.2", "TLS1.3"])
ROLES = pytest.mark.parametrize("role", list(Role))


def _ours(
    role: Role, zoo: Zoo, trusted: str = "self", check: PeerCheck = PeerCheck.REQUIRE
) -> ssl.SSLContext:
    policy = TlsPolicy(role, key_pair(zoo["own"]), trust(*zoo.all(trusted)), check)
    return client_context(policy) if role is Role.REQUESTOR else server_context(policy)


# ---------------------------------------------------------------------- what is seen


def test_this_python_has_the_message_callback() -> None:
    """Where it goes missing, "certificate not available on this Python" is all a refusal can say."""
    assert hasattr(ssl.SSLContext, "_msg_callback")


@pytest.mark.parametrize("animal", ["self", "stranger", "self_expired", "child"])
@VERSIONS
@ROLES
def test_the_peers_certificate_is_seen_in_any_case(
    role: Role, version: ssl.TLSVersion, animal: str, zoo: Zoo
) -> None:
    ours = _ours(role, zoo, "self openssl")
    if role is Role.REQUESTOR:
        us, _ = connect(ours, plain_context(Role.ACCEPTOR, key_pair(zoo[animal]), version))
    else:
        _, us = connect(plain_context(Role.REQUESTOR, key_pair(zoo[animal]), version), ours)
    assert us.done == (animal == "self")
    assert messages(us.tls).certificate == zoo[animal].der


@VERSIONS
@ROLES
def test_the_first_certificate_of_a_chain_is_the_peers_own(
    role: Role, version: ssl.TLSVersion, zoo: Zoo
) -> None:
    pair = key_pair(zoo["deep"], zoo.all("intermediate ca"))
    if role is Role.REQUESTOR:
        us, _ = connect(_ours(role, zoo), plain_context(Role.ACCEPTOR, pair, version))
    else:
        _, us = connect(plain_context(Role.REQUESTOR, pair, version), _ours(role, zoo))
    assert us.error is not None
    assert messages(us.tls).certificate == zoo["deep"].der
    assert messages(us.tls).certificates == tuple(one.der for one in zoo.all("deep intermediate ca"))


@VERSIONS
def test_no_certificate_is_none(version: ssl.TLSVersion, zoo: Zoo) -> None:
    _, us = connect(plain_context(Role.REQUESTOR, None, version), _ours(Role.ACCEPTOR, zoo))
    assert us.outcome == "tls.peer-no-certificate"
    assert messages(us.tls).certificate is None


@pytest.mark.parametrize(
    ("mode", "asked"), [(ssl.CERT_NONE, False), (ssl.CERT_OPTIONAL, True), (ssl.CERT_REQUIRED, True)]
)
@VERSIONS
def test_the_requestor_knows_whether_it_was_asked(
    version: ssl.TLSVersion, mode: ssl.VerifyMode, asked: bool, zoo: Zoo
) -> None:
    server = plain_context(Role.ACCEPTOR, key_pair(zoo["self"]), version)
    server.verify_mode = mode
    server.load_verify_locations(cadata=zoo["ca"].der)  # not ours: it is refused where it is asked for
    us, _ = connect(_ours(Role.REQUESTOR, zoo), server)
    assert messages(us.tls).certificate_requested == asked


@pytest.mark.parametrize("version", [TLS12], ids=["TLS1.2"])
def test_the_alert_of_the_peer_is_seen(version: ssl.TLSVersion, zoo: Zoo) -> None:
    server = plain_context(Role.ACCEPTOR, key_pair(zoo["self"]), version)
    server.verify_mode = ssl.CERT_REQUIRED
    us, _ = connect(_ours(Role.REQUESTOR, zoo), server)
    assert us.outcome == "tls.refused-unknown-ca"
    assert messages(us.tls).alert == 48  # unknown_ca, RFC 8446 6.2


def test_without_the_callback_the_rest_still_works(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ssl", SimpleNamespace(SSLContext=object))  # a Python that lacks it
    server = plain_context(Role.ACCEPTOR, key_pair(zoo["stranger"]))
    us, _ = connect(_ours(Role.REQUESTOR, zoo), server)
    assert us.outcome == "tls.peer-untrusted"
    assert messages(us.tls).certificate is None


@given(st.binary(max_size=40))
def test_no_message_can_confuse_it(data: bytes) -> None:
    for found in module.read_certificates(data):
        assert found
        assert found in data


# ---------------------------------------------------------------------- sockets


def _pair(role: Role, zoo: Zoo, context: ssl.SSLContext | None = None) -> tuple[ssl.SSLSocket, socket.socket]:
    here, there = socket.socketpair()
    here.settimeout(LIMIT)
    there.settimeout(LIMIT)
    ours = (context or _ours(role, zoo)).wrap_socket(
        here,
        server_side=role is Role.ACCEPTOR,
        server_hostname=HOST if role is Role.REQUESTOR else None,
        do_handshake_on_connect=False,
    )
    return ours, there


def _shake(role: Role, zoo: Zoo, version: ssl.TLSVersion) -> tuple[TlsFacts, ssl.SSLSocket, ssl.SSLSocket]:
    ours, there = _pair(role, zoo)
    theirs = plain_context(
        Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR, key_pair(zoo["self"]), version
    ).wrap_socket(there, server_side=role is Role.REQUESTOR, do_handshake_on_connect=False)
    thread = threading.Thread(target=theirs.do_handshake, daemon=True)
    thread.start()
    facts = handshake(ours, time.monotonic() + LIMIT)
    thread.join(LIMIT)
    assert not thread.is_alive()
    return facts, ours, theirs


@VERSIONS
@ROLES
def test_the_facts_of_a_good_handshake(role: Role, version: ssl.TLSVersion, zoo: Zoo) -> None:
    facts, ours, theirs = _shake(role, zoo, version)
    with ours, theirs:
        der = zoo["self"].der
        assert facts.seconds > 0
        assert facts == TlsFacts(
            version={TLS12: "TLSv1.2", TLS13: "TLSv1.3"}[version],
            cipher=(theirs.cipher() or ("",))[0],
            certificate=der,
            subject=f"CN={zoo['self'].certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value}",
            identified_by="pin",
            certificate_requested=role is Role.ACCEPTOR,  # the requestor's peer here asks for none
            seconds=facts.seconds,
        )
        assert facts.fingerprint == hashlib.sha256(der).hexdigest()
        # The callback is gone, and the connection works on without it.
        assert ours.context._msg_callback is None  # type: ignore[attr-defined]
        theirs.sendall(b"after")
        assert ours.recv(5) == b"after"
        ours.sendall(b"wards")
        assert theirs.recv(5) == b"wards"


def test_the_facts_without_a_certificate(zoo: Zoo) -> None:
    ours, there = _pair(Role.ACCEPTOR, zoo, _ours(Role.ACCEPTOR, zoo, check=PeerCheck.VERIFY))
    theirs = plain_context(Role.REQUESTOR).wrap_socket(there, do_handshake_on_connect=False)
    thread = threading.Thread(target=theirs.do_handshake, daemon=True)
    thread.start()
    with ours, theirs:
        facts = handshake(ours, time.monotonic() + LIMIT)
        thread.join(LIMIT)
    assert (facts.certificate, facts.fingerprint, facts.identified_by) == (None, "", "")


def _outlasts(peer: Callable[[threading.Event], None], action: Callable[[], object]) -> BaseException | None:
    """Run `action` while `peer` keeps on until told to stop; return what `action` raised.

    The peer must outlast it: had it given up first, the deadline would not have been what ended the wait.
    """
    over = threading.Event()
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            action()
            raised.append(None)
        except BaseException as error:
            raised.append(error)
        over.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    peer(over)
    thread.join(LIMIT)
    assert not thread.is_alive()
    return raised[0]


# A record that is never complete: handshake, TLS 1.2, 16 KB (RFC 8446 5.1). Type and length for the client
# are those of a ServerHello, for the server those of a ClientHello.
_HEADER = b"\x16\x03\x03\x3f\xf0"
_BEGIN = {Role.REQUESTOR: b"\x02\x00\x3f\xec\x03\x03", Role.ACCEPTOR: b"\x01\x00\x3f\xec\x03\x03"}


@ROLES
def test_a_peer_that_drips_ends_in_a_time_out(role: Role, zoo: Zoo) -> None:
    ours, there = _pair(role, zoo)
    record = _HEADER + _BEGIN[role] + bytes(0x3FF0 - 6)
    sent = 0

    def drip(over: threading.Event) -> None:
        nonlocal sent
        while not over.wait(0.01) and sent < 3000:  # half a minute of it, a byte at a time
            there.send(record[sent : sent + 1])
            sent += 1

    with ours, there:
        error = _outlasts(drip, lambda: handshake(ours, time.monotonic() + 0.3))
    assert isinstance(error, TimeoutError)
    assert 1 < sent < 3000
    assert diagnose(error, role=role, stage=Stage.TLS, peer="peer").slug == "tls.peer-silent"


@ROLES
def test_a_silent_peer_ends_in_a_time_out(role: Role, zoo: Zoo) -> None:
    ours, there = _pair(role, zoo)
    with ours, there:
        error = _outlasts(lambda over: _wait(over), lambda: handshake(ours, time.monotonic() + 0.1))
    assert isinstance(error, TimeoutError)


def _wait(over: threading.Event) -> None:
    assert over.wait(LIMIT)


@ROLES
def test_a_deadline_that_has_passed_is_a_time_out(role: Role, zoo: Zoo) -> None:
    ours, there = _pair(role, zoo)
    with ours, there:
        error = _outlasts(_wait, lambda: handshake(ours, time.monotonic() - 1))
    assert isinstance(error, TimeoutError)


def test_the_first_byte_is_looked_at_and_left() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"\x16\x03\x01")
        assert first_byte(here, time.monotonic() + LIMIT) == b"\x16\x03\x01"
        assert here.recv(3) == b"\x16\x03\x01"
        error = _outlasts(_wait, lambda: first_byte(here, time.monotonic() + 0.05))
        assert isinstance(error, TimeoutError)
        there.close()
        assert first_byte(here, time.monotonic() + LIMIT) == b""
