from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.subject import common_name, name_of, parse_subject, read_name, show_subject
from tests.support.pki import make_identity


def pairs(text: str) -> list[tuple[str, str]]:
    return [(part.type, part.value) for part in parse_subject(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/CN=localhost", [("CN", "localhost")]),
        ("/C=BE/CN=localhost", [("C", "BE"), ("CN", "localhost")]),
        ("/O=A/OU=1/OU=2/CN=x", [("O", "A"), ("OU", "1"), ("OU", "2"), ("CN", "x")]),
        (r"/CN=a\/b", [("CN", "a/b")]),
        (r"/CN=a\+b", [("CN", "a+b")]),
        (r"/CN=a\\b", [("CN", "a\\b")]),
        ("/CN=a=b", [("CN", "a=b")]),
        ("/commonName=x/countryName=de", [("CN", "x"), ("C", "de")]),
        ("/cn=x", [("CN", "x")]),
        ("/CN=Universitätsklinikum Köln", [("CN", "Universitätsklinikum Köln")]),
        ("/emailAddress=a@example.org/DC=org", [("emailAddress", "a@example.org"), ("DC", "org")]),
        ("/CN=a, b", [("CN", "a, b")]),
        ("/CN=" + "x" * 64, [("CN", "x" * 64)]),
    ],
)
def test_parses_what_openssl_parses(text, expected):
    assert pairs(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "begin with `/`"),
        ("CN=x", "begin with `/`"),
        ("/", "without `=`"),
        ("/CN=x/", "without `=`"),
        ("//CN=x", "without `=`"),
        ("/CN", "without `=`"),
        ("/CN=a/b", "without `=`"),
        ("/CN=a+O=b", "multi-valued"),
        ("/CN=C++", "multi-valued"),
        ("/CN=x\\", "lone backslash"),
        ("/XY=x", "not a subject attribute"),
        ("/=x", "not a subject attribute"),
        ("/CN=", "0 bytes"),
        ("/CN=" + "x" * 65, "65 bytes"),
        ("/C=BEL", "3 bytes"),
        ("/C=B1", "cannot be in it"),
        ("/CN=a\nb", "cannot be in it"),
        ("/CN=a\0", "cannot be in it"),
        ("/CN=\udc80", "cannot be in it"),
        ("/emailAddress=ä@b", "cannot be in it"),
        ("/serialNumber=a_b", "cannot be in it"),
    ],
)
def test_refuses(text, word):
    with pytest.raises(UsageError) as caught:
        parse_subject(text)
    assert word in caught.value.message
    assert caught.value.slug == "usage.invalid-subject"
    assert caught.value.hint


def test_common_name():
    assert show_subject(common_name("orthanc")) == "CN=orthanc"
    with pytest.raises(UsageError, match="65 bytes"):
        common_name("x" * 65)


def escape(value: str) -> str:
    return "".join(f"\\{c}" if c in "/+\\" else c for c in value)


@given(st.text(max_size=60))
def test_arbitrary_text_raises_only_our_error(text):
    for candidate in (text, "/" + text, "/CN=" + text):
        try:
            parse_subject(candidate)
        except UsageError as error:
            assert error.hint  # noqa: PT017


VALUES = st.text(min_size=1, max_size=64).filter(lambda v: v.isprintable() and len(v.encode()) <= 64)


@given(st.lists(st.tuples(st.sampled_from(["CN", "O", "OU", "L", "ST"]), VALUES), min_size=1, max_size=5))
def test_escaping_and_parsing_gives_the_values_back(parts):
    text = "".join(f"/{kind}={escape(value)}" for kind, value in parts)
    assert pairs(text) == parts


# --- as a certificate has it, to be compared ---------------------------------------------------------------


ATTRIBUTES = st.sampled_from(
    ["2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.17", "1.2.840.113549.1.9.1", "1.2.3.4"]
)
PARTS = st.dictionaries(ATTRIBUTES, st.text(min_size=1, max_size=20), min_size=1, max_size=2)


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_a_name_is_read_as_cryptography_writes_it(parts):
    name = x509.Name(
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in part.items()]
        )
        for part in parts
    )
    assert read_name(name.rfc4514_string()) == tuple(frozenset(part.items()) for part in parts)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("CN=ct1,O=Hospital,C=BE", "/C=BE/O=Hospital/CN=ct1"),
        ("emailAddress=a@b,serialNumber=1", "/serialNumber=1/emailAddress=a@b"),
        ("1.2.840.113549.1.9.1=a@b", "/emailAddress=a@b"),
        (r"CN=a\,O=b", r"/CN=a,O=b"),
    ],
)
def test_two_ways_to_write_one_name(text, same):
    assert read_name(text) == read_name(same)


def test_names_that_look_alike_differ():
    assert read_name("CN=a,O=b") != read_name(r"CN=a\,O=b")
    assert read_name("CN=a,O=b") != read_name("CN=a+O=b")
    assert read_name("CN=a,O=b") != read_name("O=b,CN=a")
    assert read_name("CN=a+O=b") == read_name("O=b+CN=a")


@given(st.text(max_size=60))
def test_arbitrary_names_raise_only_our_error(text):
    for candidate in (text, "CN=" + text, "/CN=" + text):
        with contextlib.suppress(UsageError):
            assert read_name(candidate)


@given(st.binary(max_size=40))
def test_what_is_no_certificate_has_no_name(der):
    assert name_of(der) is None


def test_the_name_of_a_certificate(tmp_path):
    assert name_of(make_identity(tmp_path, "a", subject="ct1").der) == read_name("CN=ct1")
