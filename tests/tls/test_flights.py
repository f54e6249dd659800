"""Handshake messages read from bytes, and a ClientHello of our own, against OpenSSL's and against anything."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.tls import flights
from dicomtls_cli.tls.flights import (
    BROKEN_SUITES,
    SUITES_13,
    ServerHello,
    client_hello,
    group_name,
    read_answer,
    read_key_exchange,
    read_server_hello,
)
from dicomtls_cli.tls.handshake import read_certificates
from dicomtls_cli.tls.policy import Role
from tests.tls.conftest import Zoo
from tests.tls.wire import TLS12, TLS13, caught, key_pair, plain_context

AES256, AES128 = 0x1302, 0x1301
GCM_RSA = 0xC030
RENEGOTIATION = bytes.fromhex("ff01000100")


def server_hello(
    suite: int, version: int = 0x0303, extensions: bytes = RENEGOTIATION, session: bytes = b""
) -> bytes:
    body = version.to_bytes(2, "big") + bytes(32) + bytes((len(session),)) + session
    body += suite.to_bytes(2, "big") + b"\0" + len(extensions).to_bytes(2, "big") + extensions
    return b"\2" + len(body).to_bytes(3, "big") + body


def record(message: bytes, kind: int = 22) -> bytes:
    return bytes((kind, 3, 3)) + len(message).to_bytes(2, "big") + message


def answer_of(zoo: Zoo, offered: bytes, version: ssl.TLSVersion) -> bytes:
    """Return what a server of OpenSSL's says to the record `offered`."""
    context = plain_context(Role.ACCEPTOR, key_pair(zoo["self"]), version)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(offered)
    caught(server.do_handshake)
    return outgoing.read()


# ---------------------------------------------------------------------- a ClientHello of our own


@pytest.mark.parametrize("suite", [AES256, AES128])
def test_a_server_of_tls13_names_the_suite_it_takes(suite: int, zoo: Zoo) -> None:
    found = read_answer(answer_of(zoo, client_hello("TLSv1.3", (suite,), "peer.test"), TLS13))
    assert isinstance(found, ServerHello)
    assert (found.version, found.suite) == ("TLSv1.3", suite)


def test_a_server_of_tls12_names_the_suite_it_takes(zoo: Zoo) -> None:
    found = read_answer(
        answer_of(zoo, client_hello("TLSv1.2", (0x000A, GCM_RSA, 0xC02C), "peer.test"), TLS12)
    )
    assert isinstance(found, ServerHello)
    assert (found.version, found.secure_renegotiation) == ("TLSv1.2", True)
    assert found.suite in (GCM_RSA, 0xC02C)


@pytest.mark.parametrize(
    ("version", "suites", "spoken"),
    [("TLSv1.3", (AES256,), TLS12), ("SSLv3", (0x0035,), TLS12), ("TLSv1.2", tuple(BROKEN_SUITES), TLS12),
     ("TLSv1", (0x0035,), TLS12)],
)  # fmt: skip
def test_what_is_refused_reads_as_refused(
    version: str, suites: tuple[int, ...], spoken: ssl.TLSVersion, zoo: Zoo
) -> None:
    assert read_answer(answer_of(zoo, client_hello(version, suites), spoken)) is False


def test_the_name_is_sent_where_there_is_one() -> None:
    assert b"\0\x09peer.test" in client_hello("TLSv1.3", (AES256,), "peer.test")
    assert b"\0\0\0" + bytes((14,)) not in client_hello("TLSv1.2", (AES256,))[44:]


# ---------------------------------------------------------------------- a ServerHello


def test_a_server_hello_is_read() -> None:
    assert read_server_hello(server_hello(GCM_RSA)) == ServerHello("TLSv1.2", GCM_RSA, "", True)
    assert read_server_hello(server_hello(GCM_RSA, extensions=b"")) == ServerHello(
        "TLSv1.2", GCM_RSA, "", False
    )
    share = bytes.fromhex("002b00020304003300020017")
    assert read_server_hello(server_hello(AES256, extensions=share, session=bytes(32))) == ServerHello(
        "TLSv1.3", AES256, "P-256", True
    )
    bare = b"\2\0\0\0\x03\x03" + bytes(32) + b"\0\xc0\x30\0"
    assert read_server_hello(bare) == ServerHello("TLSv1.2", GCM_RSA, "", False)
    old = read_server_hello(server_hello(0x0005, version=0x0300))
    assert old is not None
    assert old.version == "SSLv3"


def test_an_answer_in_pieces_is_waited_for() -> None:
    whole = record(server_hello(GCM_RSA))
    split = record(server_hello(GCM_RSA)[:20]) + record(server_hello(GCM_RSA)[20:])
    for answer in (whole, split):
        assert all(read_answer(answer[:end]) is None for end in range(len(answer)))
        found = read_answer(answer + b"more")
        assert isinstance(found, ServerHello)
        assert found.suite == GCM_RSA


def test_an_alert_is_a_refusal() -> None:
    assert read_answer(record(b"\2\x28", kind=21)) is False
    assert read_answer(b"HTTP/1.1 400 Bad Request") is False


# ---------------------------------------------------------------------- groups and certificates


def test_groups_are_named() -> None:
    assert [group_name(n) for n in (0, 29, 23, 256, 4588, 4711)] == [
        "", "X25519", "P-256", "ffdhe2048", "X25519MLKEM768", "group 4711",
    ]  # fmt: skip


def test_the_group_of_a_key_exchange() -> None:
    assert read_key_exchange(bytes.fromhex("0c000000 03001d"), "ECDHE-RSA-AES128-SHA") == "X25519"
    prime = (1 << 1023 | 1).to_bytes(128, "big")
    assert read_key_exchange(b"\x0c\0\0\0\0\x80" + prime, "DHE-RSA-AES128-SHA") == "DH 1024"
    assert read_key_exchange(b"\x0c\0\0\0\1\0" + prime, "DHE-RSA-AES128-SHA") == ""  # cut off
    assert read_key_exchange(b"\x0c\0\0\0\1\0", "AES128-SHA") == ""


def certificate_message(*certificates: bytes, is_13: bool) -> bytes:
    listed = b"".join(
        len(one).to_bytes(3, "big") + one + (b"\0\2xx" if is_13 else b"") for one in certificates
    )
    body = (b"\0" if is_13 else b"") + len(listed).to_bytes(3, "big") + listed
    return b"\x0b" + len(body).to_bytes(3, "big") + body


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=4), st.booleans())
def test_certificates_are_read_in_their_order(certificates: list[bytes], is_13: bool) -> None:
    assert read_certificates(certificate_message(*certificates, is_13=is_13)) == tuple(certificates)


def test_a_certificate_that_is_longer_than_its_message_is_none() -> None:
    assert read_certificates(bytes.fromhex("0b000006 ffffff ffffff") + b"abc") == ()


@given(st.binary(max_size=300), st.sampled_from([*SUITES_13, 0, 0x2F]))
def test_arbitrary_bytes_are_read_or_not(data: bytes, suite: int) -> None:
    read_answer(data)
    read_answer(record(data))
    read_server_hello(data)
    read_server_hello(server_hello(suite, extensions=data))
    read_certificates(data)
    for name in ("ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-SHA", "AES128-SHA"):
        read_key_exchange(data, name)


def test_no_suite_is_in_two_tables() -> None:
    assert not flights.SUITES_13.keys() & flights.BROKEN_SUITES.keys()
