"""`may_sign_certificates` against what `cryptography` reads in the same certificate."""

from __future__ import annotations

import datetime
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from dicomtls_cli.tls.der import may_sign_certificates

_KEY = ec.generate_private_key(ec.SECP256R1())
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
_NOW = datetime.datetime.now(datetime.UTC)


def _certificate(*extensions: x509.ExtensionType, critical: bool = True) -> bytes:
    builder = x509.CertificateBuilder(_NAME, _NAME, _KEY.public_key(), 1, _NOW, _NOW + datetime.timedelta(1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _by_cryptography(der: bytes) -> bool | None:
    """Return whether `der` is a CA that says keyCertSign; None where `cryptography` cannot read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # a mutated serial number
            extensions = x509.load_der_x509_certificate(der).extensions
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        return is_ca and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False
    except ValueError as error:
        if "key_agreement" in str(error):  # about decipherOnly, which is none of our business
            reject()
        return None
    except (x509.DuplicateExtension, x509.InvalidVersion):
        return None


def _usage(bits: list[bool]) -> x509.KeyUsage:
    signature, commitment, encipherment, data, agreement, cert_sign, crl_sign, encipher, decipher = bits
    return x509.KeyUsage(
        signature, commitment, encipherment, data, agreement, cert_sign, crl_sign,
        encipher and agreement, decipher and agreement,
    )  # fmt: skip


_CONSTRAINTS = st.one_of(
    st.just(x509.BasicConstraints(False, None)),
    st.builds(x509.BasicConstraints, st.just(True), st.none() | st.integers(0, 300)),
)
_USAGES = st.lists(st.booleans(), min_size=9, max_size=9).map(_usage)
_OTHERS = st.lists(
    st.sampled_from(
        [
            x509.SubjectKeyIdentifier(b"k"),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.SubjectAlternativeName([x509.DNSName("a" * 200)]),
            x509.InhibitAnyPolicy(0),
        ]
    ),
    unique_by=type,
)


@st.composite
def _extensions(draw: st.DrawFn) -> list[x509.ExtensionType]:
    chosen: list[x509.ExtensionType] = list(draw(_OTHERS))
    chosen += [draw(_CONSTRAINTS)] if draw(st.booleans()) else []
    chosen += [draw(_USAGES)] if draw(st.booleans()) else []
    return draw(st.permutations(chosen))


@given(_extensions(), st.booleans())
def test_reads_what_cryptography_reads(extensions: list[x509.ExtensionType], critical: bool) -> None:
    der = _certificate(*extensions, critical=critical)
    assert may_sign_certificates(der) is _by_cryptography(der)


_CA = _certificate(x509.BasicConstraints(True, 3), _usage([True] * 9), x509.SubjectKeyIdentifier(b"k"))
_OPENSSL = _certificate(x509.BasicConstraints(True, None), x509.SubjectKeyIdentifier(b"k"))
_LEAF = _certificate(x509.BasicConstraints(False, None), _usage([True, *[False] * 8]))


def test_the_three_that_matter() -> None:
    assert may_sign_certificates(_CA)
    assert not may_sign_certificates(_OPENSSL)
    assert not may_sign_certificates(_LEAF)


_CONSTRAINT_BYTES = [
    b"\x30\x03\x01\x01\xff",  # the right one
    b"\x30\x06\x01\x01\xff\x02\x01\x00",  # ... with a path length
    b"\x30\x00",
    b"\x30\x03\x01\x01\x00",
    b"\x30\x03\x01\x01\x01",
    b"\x30\x04\x01\x02\xff\xff",
    b"\x30\x81\x03\x01\x01\xff",
    b"\x30\x82\x00\x03\x01\x01\xff",
    b"\x30\x80\x01\x01\xff\x00\x00",
    b"\x30\x03\x01\x01\xff\x00",
    b"\x30\x06\x01\x01\xff\x01\x01\xff",
    b"\x30\x09\x01\x01\xff\x02\x01\x00\x02\x01\x00",
    b"\x30\x06\x02\x01\x00\x01\x01\xff",
    b"\x31\x03\x01\x01\xff",
    b"\x01\x01\xff",
    b"",
]
_USAGE_BYTES = [
    b"\x03\x02\x02\x04",  # the right one
    b"\x03\x02\x01\x06",  # ... with cRLSign
    b"\x03\x02\x01\x02",
    b"\x03\x02\x00\x04",
    b"\x03\x02\x08\x04",
    b"\x03\x02\x05\x04",
    b"\x03\x03\x02\x04\x00",
    b"\x03\x81\x02\x02\x04",
    b"\x03\x02\x02\x04\x00",
    b"\x04\x02\x02\x04",
    b"\x03\x01\x00",
    b"\x03\x00",
    b"",
]


def _agrees(constraints: bytes, usage: bytes) -> bool:
    der = _certificate(
        x509.UnrecognizedExtension(ExtensionOID.BASIC_CONSTRAINTS, constraints),
        x509.UnrecognizedExtension(ExtensionOID.KEY_USAGE, usage),
    )
    said = may_sign_certificates(der)
    assert said is (_by_cryptography(der) is True)
    return said


def test_extensions_of_odd_bytes_are_no_reason_to_say_yes() -> None:
    said = [_agrees(constraints, usage) for constraints in _CONSTRAINT_BYTES for usage in _USAGE_BYTES]
    assert any(said)


@given(st.binary(max_size=6), st.binary(max_size=6))
def test_extensions_of_any_bytes_are_no_reason_to_say_yes(constraints: bytes, usage: bytes) -> None:
    _agrees(constraints, _USAGE_BYTES[0])
    _agrees(_CONSTRAINT_BYTES[0], usage)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("again", [ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE])
def test_two_of_one_extension_are_none(again: x509.ObjectIdentifier, first: bool) -> None:
    """RFC 5280 4.2. `cryptography` makes no such certificate, so the identifier of a third one is changed."""
    third = x509.ObjectIdentifier("2.5.29.99")
    value = {ExtensionOID.BASIC_CONSTRAINTS: b"\x30\x00", ExtensionOID.KEY_USAGE: b"\x03\x02\x07\x80"}[again]
    odd = x509.UnrecognizedExtension(third, value)
    extensions = [x509.BasicConstraints(True, None), _usage([True] * 9)]
    der = _certificate(*([odd, *extensions] if first else [*extensions, odd]))
    assert may_sign_certificates(der)
    last = int(again.dotted_string.rpartition(".")[2])
    doubled = der.replace(b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d" + bytes([last]))
    assert doubled != der
    assert not may_sign_certificates(doubled)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no(data: bytes) -> None:
    assert may_sign_certificates(data) is False


_EDITS = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 1), st.binary(max_size=2)), min_size=1, max_size=4
)


def _edited(der: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for position, dropped, inserted in edits:
        at = position % len(der)
        der = der[:at] + inserted + der[at + dropped :]
    return der


@given(st.sampled_from([_CA, _OPENSSL, _LEAF]), _EDITS)
def test_a_mutated_certificate_never_gains_a_right(der: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    mutated = _edited(der, edits)
    if may_sign_certificates(mutated):
        assert _by_cryptography(mutated) is not False


@given(st.integers(0, len(_CA) - 1), st.integers(1, 255))
def test_any_byte_of_a_ca_may_change(position: int, difference: int) -> None:
    mutated = bytearray(_CA)
    mutated[position] ^= difference
    theirs = _by_cryptography(bytes(mutated))
    assume(theirs is not None)
    assert may_sign_certificates(bytes(mutated)) <= bool(theirs)


def test_a_truncated_or_continued_certificate_is_no() -> None:
    for end in range(len(_CA)):
        assert may_sign_certificates(_CA[:end]) is False
        assert may_sign_certificates(_CA + _CA[: end + 1]) is False
