"""Hellos read: those that OpenSSL makes, and any bytes at all."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.diagnosis.suites import NUMBERS
from dicomtls_cli.tls.hello import Offer, read_offer
from dicomtls_cli.tls.profiles import SUITES

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def client_hello(lowest: ssl.TLSVersion, highest: ssl.TLSVersion, ciphers: str = "DEFAULT") -> bytes:
    """Return the ClientHello that OpenSSL makes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = lowest, highest
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="peer.test").do_handshake()
    return outgoing.read()[5:]  # without the header of the record


@pytest.mark.parametrize(
    ("lowest", "highest", "versions"),
    [
        (TLS12, TLS12, ("TLS 1.2",)),
        (TLS12, TLS13, ("TLS 1.2", "TLS 1.3")),
        (TLS13, TLS13, ("TLS 1.3",)),
    ],
)
def test_the_versions_of_an_offer(
    lowest: ssl.TLSVersion, highest: ssl.TLSVersion, versions: tuple[str, ...]
) -> None:
    offer = read_offer(client_hello(lowest, highest))
    assert offer is not None
    assert offer.versions == versions


@pytest.mark.parametrize("name", SUITES)
def test_each_suite_has_openssls_number(name: str) -> None:
    offer = read_offer(client_hello(TLS12, TLS12, SUITES[name]))
    assert offer is not None
    assert NUMBERS[name] in offer.suites
    assert not {number for number in NUMBERS.values() if number != NUMBERS[name]} & set(offer.suites)


def test_every_suite_that_may_be_asked_for_has_a_number() -> None:
    assert NUMBERS.keys() == SUITES.keys()
    assert len(set(NUMBERS.values())) == len(NUMBERS)


def test_an_old_client_names_its_highest_version() -> None:
    hello = b"\x01\0\0\x29\x03\x02" + bytes(32) + b"\0\0\2\0\x2f\1\0"
    assert read_offer(hello) == Offer(("TLS 1.1",), (0x2F,))


def test_versions_nobody_knows_are_left_out() -> None:
    """GREASE (RFC 8701), and drafts."""
    extension = b"\0\x2b\0\5\4\x3a\x3a\x03\x04"
    hello = b"\x01\0\0\x00\x03\x03" + bytes(32) + b"\0\0\2\x13\1\1\0" + b"\0\x09" + extension
    assert read_offer(hello) == Offer(("TLS 1.3",), (0x1301,))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_not(data: bytes) -> None:
    assert read_offer(data) is None or isinstance(read_offer(data), Offer)


HELLO = client_hello(TLS12, TLS13)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255), st.integers(0, len(HELLO)))
def test_a_damaged_hello_is_read_or_not(place: int, value: int, length: int) -> None:
    damaged = bytearray(HELLO)
    damaged[place] = value
    for data in (bytes(damaged), bytes(damaged[:length])):
        assert read_offer(data) is None or isinstance(read_offer(data), Offer)
