"""The profiles of PS3.15 Annex B: each makes a working context, and pairs meet, or do not, as they should."""

from __future__ import annotations

import base64
import ssl
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.diagnosis.suites import NUMBERS
from dicomtls_cli.tls import context as context_module
from dicomtls_cli.tls.context import client_context, server_context
from dicomtls_cli.tls.policy import Role, TlsPolicy
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE, PROFILES, SUITES, SUITES_13, suite
from tests.conftest import Pki
from tests.tls.wire import TLS12, TLS13, End, connect, key_pair, plain_context, trust


def _known_to_openssl() -> list[dict[str, Any]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    return list(context.get_ciphers())


def test_every_suite_of_this_openssl_is_known_or_refused() -> None:
    known = _known_to_openssl()
    assert {found["name"] for found in known} >= {*SUITES.values(), *SUITES_13}
    for found in known:
        name = found["name"]
        if name not in (*SUITES.values(), *SUITES_13):
            with pytest.raises(UsageError) as caught:
                suite(name)
            assert caught.value.slug == "usage.unknown-cipher"
            continue
        version, openssl_name = suite(name)
        assert openssl_name == name
        assert (version is TLS13) == (found["protocol"] == "TLSv1.3")
        weak = [
            word for word in ("None", "RC4", "DES", "PSK", "MD5", "Au=DSS") if word in found["description"]
        ]
        assert not weak


def test_both_spellings_mean_the_same_suite() -> None:
    code_points = {found["name"]: found["id"] & 0xFFFF for found in _known_to_openssl()}
    # By their numbers, not by name, suites meet on the wire; OpenSSL is the authority for ours.
    assert {iana: code_points[openssl] for iana, openssl in SUITES.items()} == NUMBERS
    for iana, openssl in SUITES.items():
        assert suite(iana) == suite(openssl) == (TLS12, openssl)
    for name in SUITES_13:
        assert suite(name) == (TLS13, name)
        assert name in code_points


@pytest.mark.parametrize(
    "name", ["", "ALL", "DEFAULT", "!aNULL", "AES128-SHA:RC4", "aes128-sha", "TLS_AES_128_CCM_SHA256"]
)
def test_an_openssl_expression_is_no_suite(name: str) -> None:
    with pytest.raises(UsageError):
        suite(name)


def _context(role: Role, pki: Pki, **choices: Any) -> ssl.SSLContext:
    own, peer = (pki.scu, pki.scp) if role is Role.REQUESTOR else (pki.scp, pki.scu)
    policy = TlsPolicy(role, key_pair(own), trust(peer), **choices)
    return client_context(policy) if role is Role.REQUESTOR else server_context(policy)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_context_offers_exactly_its_profile(profile: Any, role: Role, pki: Pki) -> None:
    context = _context(role, pki, profile=profile)
    offered = [found["name"] for found in context.get_ciphers() if found["protocol"] != "TLSv1.3"]
    assert tuple(offered) == profile.suites
    assert (context.minimum_version, context.maximum_version) == (profile.versions[0], profile.versions[-1])


@pytest.mark.parametrize("role", Role)
def test_what_no_context_does(role: Role, pki: Pki) -> None:
    context = _context(role, pki)
    for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
        assert option in context.options
    assert ssl.VERIFY_X509_STRICT not in context.verify_flags
    assert ssl.VERIFY_X509_STRICT in _context(role, pki, x509_strict=True).verify_flags
    assert context.get_ca_certs() == []  # nothing but what was given, and that is no CA


def _connect(pki: Pki, ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[End, End]:
    return connect(_context(Role.REQUESTOR, pki, **ours), _context(Role.ACCEPTOR, pki, **theirs), "localhost")


@pytest.mark.parametrize("server", PROFILES)
@pytest.mark.parametrize("client", PROFILES)
def test_every_profile_meets_every_other(client: str, server: str, pki: Pki) -> None:
    requestor, acceptor = _connect(pki, {"profile": PROFILES[client]}, {"profile": PROFILES[server]})
    assert requestor.outcome == acceptor.outcome == "pin"
    expected = "TLSv1.2" if "bcp195-ext" in (client, server) else "TLSv1.3"
    assert requestor.tls.version() == expected


def _only(*ciphers: str) -> dict[str, Any]:
    return {"ciphers": ciphers}


_ONLY_12, _ONLY_13 = {"versions": frozenset({TLS12})}, {"versions": frozenset({TLS13})}


@pytest.mark.parametrize("profile", ["aes", "bcp195"])
def test_the_old_profiles_take_what_dcm4che_speaks(profile: str, pki: Pki) -> None:
    requestor, acceptor = _connect(pki, _only("TLS_RSA_WITH_AES_128_CBC_SHA"), {"profile": PROFILES[profile]})
    assert acceptor.outcome == "pin"
    assert (requestor.tls.cipher() or ())[0] == "AES128-SHA"
    assert requestor.tls.version() == "TLSv1.2"


@pytest.mark.parametrize("profile", ["bcp195", "bcp195-nd"])
@pytest.mark.parametrize("cipher", ["DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256"])
def test_the_profiles_with_dhe_take_peers_that_know_nothing_else(profile: str, cipher: str, pki: Pki) -> None:
    requestor, acceptor = _connect(pki, _only(cipher), {"profile": PROFILES[profile]})
    assert acceptor.outcome == "pin"
    assert (requestor.tls.cipher() or ())[0] == cipher


def test_the_group_of_dhe_is_the_one_of_rfc_7919() -> None:
    """A wrong prime would be weak in silence: RFC 7919 A.1 derives it from the digits of e."""
    pem = Path(context_module.__file__).with_name("ffdhe2048.pem").read_text()
    with localcontext() as exact:
        exact.prec = 1000
        digits = int(Decimal(1).exp() * Decimal(2) ** 1918)
    prime = 2**2048 - 2**1984 + (digits + 560316) * 2**64 - 1
    # SEQUENCE { INTEGER prime, INTEGER 2 } (PKCS #3)
    der = b"\x30\x82\x01\x08\x02\x82\x01\x01\x00" + prime.to_bytes(256, "big") + b"\x02\x01\x02"
    block = pem[pem.index("-----BEGIN DH PARAMETERS-----") :]
    assert base64.b64decode("".join(block.splitlines()[1:-1])) == der


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (_only("TLS_RSA_WITH_AES_128_CBC_SHA"), {"profile": DEFAULT_PROFILE}),
        (_only("TLS_RSA_WITH_AES_128_CBC_SHA"), {"profile": PROFILES["bcp195-nd"]}),
        (_only("TLS_RSA_WITH_AES_128_CBC_SHA"), {"profile": PROFILES["bcp195-ext"]}),
        ({"profile": DEFAULT_PROFILE, **_ONLY_12}, _only("TLS_RSA_WITH_AES_128_CBC_SHA")),
        ({"profile": DEFAULT_PROFILE, **_ONLY_12}, _only("DHE-RSA-AES128-GCM-SHA256")),
        (_only("DHE-RSA-AES128-GCM-SHA256"), {"profile": PROFILES["aes"]}),
        (_ONLY_13, {"profile": PROFILES["bcp195-ext"]}),
        ({"profile": PROFILES["bcp195-ext"]}, _ONLY_13),
        (_ONLY_12, _ONLY_13),
        (_ONLY_13, _ONLY_12),
        (_only("TLS_AES_128_GCM_SHA256"), _ONLY_12),
        # The server's certificate has an RSA key.
        (_only("ECDHE-ECDSA-AES128-GCM-SHA256"), {}),
    ],
)
def test_profiles_that_have_nothing_in_common_do_not_meet(
    client: dict[str, Any], server: dict[str, Any], pki: Pki
) -> None:
    requestor, acceptor = _connect(pki, client, server)
    assert requestor.outcome == "tls.no-common"
    assert acceptor.outcome == "tls.no-common"


def test_every_suite_can_be_asked_for(pki: Pki) -> None:
    for name in SUITES.values():
        context = _context(Role.REQUESTOR, pki, ciphers=(name,))
        assert [found["name"] for found in context.get_ciphers() if found["protocol"] != "TLSv1.3"] == [name]


def test_the_server_chooses_the_suite(pki: Pki) -> None:
    reverse = tuple(reversed(DEFAULT_PROFILE.suites))
    requestor, _ = _connect(pki, {"ciphers": reverse}, {})
    assert (requestor.tls.cipher() or ())[0] == "ECDHE-RSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=lambda v: v.name)
@pytest.mark.parametrize("role", Role)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_tls_1_2(role: Role, version: ssl.TLSVersion, pki: Pki) -> None:
    other = Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR
    theirs = plain_context(other, key_pair(pki.scp), version)
    theirs.set_ciphers("ALL:@SECLEVEL=0")
    ours = _context(role, pki, profile=PROFILES["aes"])
    ends = connect(ours, theirs) if role is Role.REQUESTOR else connect(theirs, ours)
    assert {end.outcome for end in ends if end.role is role} == {"tls.no-common"}


@pytest.mark.parametrize("offered", [["dicom"], ["h2", "dicom"], ["h2"], []], ids=str)
def test_alpn_never_ends_a_handshake(offered: list[str], pki: Pki) -> None:
    theirs = plain_context(Role.REQUESTOR, key_pair(pki.scu))
    if offered:
        theirs.set_alpn_protocols(offered)
    requestor, acceptor = connect(theirs, _context(Role.ACCEPTOR, pki))
    assert acceptor.outcome == "pin"
    assert requestor.tls.selected_alpn_protocol() == ("dicom" if "dicom" in offered else None)


def test_p256_is_enough(pki: Pki) -> None:
    """DCMTK 3.6.7 has no X25519."""
    for role in Role:
        other = Role.ACCEPTOR if role is Role.REQUESTOR else Role.REQUESTOR
        theirs = plain_context(other, key_pair(pki.scp if other is Role.ACCEPTOR else pki.scu))
        theirs.set_ecdh_curve("prime256v1")
        ours = _context(role, pki)
        ends = connect(ours, theirs) if role is Role.REQUESTOR else connect(theirs, ours)
        assert all(end.done for end in ends)
