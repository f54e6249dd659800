"""Host names against certificates: never more lenient than OpenSSL's own check."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from dicomtls_cli.tls.names import host_matches, is_address, named_hosts, subject_text
from dicomtls_cli.tls.policy import Role
from tests.tls.named import KEY_PEM, Names
from tests.tls.wire import connect, plain_context, write_pem


class Oracle:
    """OpenSSL's verdict, from a handshake that checks the host name; and `getpeercert()` of one without."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def certificate(self, names: Names) -> dict[str, object]:
        client, server = self._contexts(names)
        client.check_hostname = False
        requestor, _ = connect(client, server, host=None)
        return requestor.tls.getpeercert() or {}

    def accepts(self, host: str, names: Names) -> bool:
        client, server = self._contexts(names)
        try:
            requestor, _ = connect(client, server, host)
        except (ValueError, TypeError):  # OpenSSL is not even asked: empty, leading dot, NUL
            return False
        if requestor.done:
            return True
        assert isinstance(requestor.error, ssl.SSLCertVerificationError)
        assert requestor.error.verify_code in (62, 64)
        return False

    def _contexts(self, names: Names) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        der = names.der()
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(cadata=der)
        return client, plain_context(Role.ACCEPTOR, write_pem(self._folder / "named.pem", der, KEY_PEM))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("names"))


_LABELS = st.sampled_from(
    ["a", "B", "a-b", "-a", "a-", "_a", "a_b", "1", "0x1", "com", "*", "a*", "*a", "xn--a",
     "", " ", "\u212a", "k", "\0"]
)  # fmt: skip
_DOTTED = st.lists(_LABELS, min_size=1, max_size=4).map(".".join)
_ADDRESSES = st.sampled_from(["127.0.0.1", "1.2.3.4", "::1", "fe80::1", "::ffff:127.0.0.1"])
_SPELLINGS = st.sampled_from(
    [
        "127.0.0.1", "127.000.0.1", "127.1", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1.", "127.0.0.1%1", "2130706433",
        "::1", "0:0:0:0:0:0:0:1", "::0001", "FE80::1", "fe80:0::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "[::1]",
    ]
)  # fmt: skip
_ENTRIES = st.one_of(_DOTTED, _SPELLINGS)


@st.composite
def _names(draw: st.DrawFn) -> Names:
    return Names(
        tuple(draw(st.lists(_ENTRIES, max_size=2))),
        tuple(draw(st.lists(_ADDRESSES, max_size=2))),
        draw(_ENTRIES.filter(lambda common: 1 <= len(common) <= 64)),
    )


@st.composite
def _questions(draw: st.DrawFn) -> tuple[str, Names]:
    """Return a host and the names of a certificate that are often nearly its own."""
    names = draw(_names())
    entry = draw(st.sampled_from([*names.dns, *names.addresses, names.common]))
    near = [
        entry,
        entry.swapcase(),
        entry.replace("*", "a"),
        entry.replace("*", "a.b"),
        entry.replace("*", "_a"),
        entry.replace("*", "xn--a"),
        entry.replace("*", ""),
        entry + ".",
        entry.removesuffix("."),
        entry.replace("\u212a", "k"),
        entry.partition("\0")[0],
    ]
    return draw(st.one_of(st.sampled_from(near), _ENTRIES)), names


# Where OpenSSL says yes and we say no: no host that is dialled is called so.
_NO_HOST = re.compile(
    r"""
      .*\.              # the root's dot at the end: `services.connect` takes it off
    | .*[^a-z0-9_.-].*  # a character that no host name has: a literal star, a space, not ASCII
    | (.*\.)?[0-9]+     # ends in a number: an address to some resolver, a name to OpenSSL
    | .*\.\..*          # an empty label
    | -.*\..* | [^.]*-\..*  # under a star: the label begins or ends with a hyphen
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL | re.ASCII,
)


@given(_questions())
@example(("kevin", Names(common="\u212aevin")))  # lower() of a Kelvin sign is an ASCII `k`
@example(("my_host.a.b", Names(("*.a.b",))))  # a star stands for letters, digits and hyphens
@example(("x.a_b.c", Names(("*.a_b.c",))))
@example(("127.000.0.1", Names(("127.000.0.1",))))  # an address to OpenSSL
@example(("127.0.0.1%1", Names(addresses=("127.0.0.1",))))
@example(("a.b", Names(("a.b\0.evil",))))
@example(("a.b", Names(("other",), common="a.b")))
@example(("127.0.0.1", Names(common="127.0.0.1")))
@example(("127.0.0.1", Names(("127.0.0.1",))))
@example(("::1", Names(("::1",), ("127.0.0.1",))))
@example(("a.com", Names(("*.com",))))
@example(("foo.a.com", Names(("f*.a.com",))))
@example(("-a.a.b", Names(("*.a.b",))))
def test_never_accepts_what_openssl_refuses(oracle: Oracle, question: tuple[str, Names]) -> None:
    host, names = question
    ours, openssls = host_matches(host, oracle.certificate(names)), oracle.accepts(host, names)
    assert ours <= openssls
    if not ours and openssls:
        assert _NO_HOST.fullmatch(host)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("a.b", Names(("a.b",))),
        ("A.b", Names(("a.B",))),
        ("localhost", Names(("localhost",))),
        ("a_b.c", Names(("a_b.c",))),
        ("x.a.b", Names(("c", "*.a.b"))),
        ("xn--a.a.b", Names(("*.a.b",))),
        ("only-common.name", Names(common="only-common.name")),
        ("only-common.name", Names((), ("127.0.0.1",), "only-common.name")),
        ("x.a.b", Names(common="*.a.b")),
        ("127.0.0.1", Names((), ("127.0.0.1",))),
        ("::1", Names((), ("::1",))),
        ("FE80:0::1", Names((), ("fe80::1",))),
    ],
)
def test_accepts_what_openssl_accepts(oracle: Oracle, host: str, names: Names) -> None:
    assert oracle.accepts(host, names)
    assert host_matches(host, oracle.certificate(names))


def test_a_zone_is_no_part_of_an_address(oracle: Oracle) -> None:
    """The one thing OpenSSL cannot be asked: it takes an address with a zone for a DNS name."""
    names = Names((), ("fe80::1",))
    assert oracle.accepts("fe80::1", names)
    assert host_matches("fe80::1%eth0", oracle.certificate(names))
    assert not host_matches("fe80::2%eth0", oracle.certificate(names))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("localhost", False), ("127.1", False), ("", False),
     ("127.0.0.1%1", False), ("1\0", False), ("[::1]", False)],
)  # fmt: skip
def test_addresses_are_told_from_names(text: str, expected: bool) -> None:
    assert is_address(text) == expected


def test_names_for_messages(oracle: Oracle) -> None:
    def listed(names: Names) -> Iterator[str]:
        yield from named_hosts(oracle.certificate(names))

    assert list(listed(Names(("a.b", "*.c.d"), ("127.0.0.1",)))) == ["a.b", "*.c.d", "127.0.0.1"]
    assert list(listed(Names(common="a.b"))) == ["a.b"]
    assert named_hosts({}) == []


_NAMES = {
    "commonName": NameOID.COMMON_NAME,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "domainComponent": NameOID.DOMAIN_COMPONENT,
    "userId": NameOID.USER_ID,
    "streetAddress": NameOID.STREET_ADDRESS,
}
_VALUES = st.text(st.sampled_from('ab ,+="\\<>;#\0é\n'), min_size=1, max_size=8)
_RELATIVE = st.dictionaries(st.sampled_from(sorted(_NAMES)), _VALUES, min_size=1, max_size=2)


@given(st.lists(_RELATIVE, min_size=1, max_size=4))
def test_a_subject_is_written_as_rfc_4514_says(parts: list[dict[str, str]]) -> None:
    """Nobody can write a comma into a name and pass for somebody of two names."""
    name = x509.Name(
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(_NAMES[key], value) for key, value in part.items()]
        )
        for part in parts
    )
    decoded = {"subject": tuple(tuple(part.items()) for part in parts)}  # as `getpeercert` has it
    assert subject_text(decoded) == name.rfc4514_string()
