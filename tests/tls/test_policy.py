"""What makes sense together, and what is refused before anything is opened."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from dicomtls_cli.errors import UsageError
from dicomtls_cli.material import KeyPair, Trust
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role, TlsPolicy
from dicomtls_cli.tls.profiles import PROFILES
from tests.tls.wire import TLS12, TLS13

PAIR = KeyPair("own.crt", "own.key", lambda: b"")
TRUST = Trust((b"certificate",))
NOBODY = Trust(())
SYSTEM = Trust((), system=True)
REQUESTOR, ACCEPTOR = Role.REQUESTOR, Role.ACCEPTOR
IGNORE, VERIFY = PeerCheck.IGNORE, PeerCheck.VERIFY


def _policy(role: Role, **choices: Any) -> TlsPolicy:
    return TlsPolicy(role, **{"key_pair": PAIR, "trust": TRUST, **choices})


@pytest.mark.parametrize(
    ("role", "choices", "slug"),
    [
        (REQUESTOR, {"trust": None}, "usage.no-trust"),
        (REQUESTOR, {"trust": NOBODY}, "usage.no-trust"),
        (REQUESTOR, {"trust": None, "pin": b"p" * 32}, "usage.no-trust"),
        (REQUESTOR, {"trust": None, "identity": Identity.NONE}, "usage.no-trust"),
        (ACCEPTOR, {"trust": None}, "usage.no-trust"),
        (ACCEPTOR, {"trust": NOBODY, "peer_check": VERIFY}, "usage.no-trust"),
        (REQUESTOR, {"peer_check": VERIFY}, "usage.verify-requestor"),
        (ACCEPTOR, {"key_pair": None}, "usage.no-certificate"),
        (ACCEPTOR, {"key_pair": None, "peer_check": IGNORE}, "usage.no-certificate"),
        (ACCEPTOR, {"identity": Identity.NAME}, "usage.name-acceptor"),
        (ACCEPTOR, {"identity": Identity.NAME, "peer_check": IGNORE}, "usage.name-acceptor"),
        (REQUESTOR, {"peer_check": IGNORE, "pin": b"p" * 32}, "usage.identity-ignored"),
        (REQUESTOR, {"peer_check": IGNORE, "identity": Identity.NAME}, "usage.identity-ignored"),
        (REQUESTOR, {"peer_check": IGNORE, "identity": Identity.PINNED}, "usage.identity-ignored"),
        (ACCEPTOR, {"peer_check": IGNORE, "identity": Identity.PINNED}, "usage.identity-ignored"),
        (REQUESTOR, {"profile": PROFILES["bcp195-ext"], "versions": frozenset({TLS13})}, "usage.no-tls-version"),
        (REQUESTOR, {"ciphers": ("TLS_AES_128_GCM_SHA256",), "versions": frozenset({TLS12})}, "usage.no-tls-version"),
        (REQUESTOR, {"ciphers": ("AES128-SHA",), "versions": frozenset({TLS13})}, "usage.no-tls-version"),
        (ACCEPTOR, {"profile": PROFILES["bcp195-ext"], "ciphers": ("TLS_AES_128_GCM_SHA256",)},
         "usage.no-tls-version"),
        (REQUESTOR, {"ciphers": ("RC4-SHA",)}, "usage.unknown-cipher"),
        (REQUESTOR, {"identity": Identity.NAME, "pin": b"p" * 32}, "usage.contradiction"),
        (REQUESTOR, {"identity": "bogus"}, "usage.unknown-word"),
        (REQUESTOR, {"peer_check": "verify"}, "usage.verify-requestor"),
        (ACCEPTOR, {"trust": SYSTEM}, "usage.system-acceptor"),
        (ACCEPTOR, {"identity": "name"}, "usage.name-acceptor"),
    ],
)  # fmt: skip
def test_a_senseless_combination_is_a_usage_error(role: Role, choices: dict[str, Any], slug: str) -> None:
    with pytest.raises(UsageError) as caught:
        _policy(role, **choices)
    assert caught.value.slug == slug
    assert caught.value.hint


def test_a_wrong_name_among_the_added_ciphers_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as caught:
        _policy(REQUESTOR, extra_ciphers=("ECDHE-RSA-AES128-GCM-SHA255",)).tls12_suites  # noqa: B018
    assert caught.value.slug == "usage.unknown-cipher"


def test_a_word_is_as_good_as_the_member() -> None:
    policy = _policy(REQUESTOR, identity="pinned", peer_check="require")
    assert (policy.identity, policy.peer_check) == (Identity.PINNED, PeerCheck.REQUIRE)
    assert policy.identity is Identity.PINNED


@pytest.mark.parametrize(
    ("role", "choices"),
    [
        (REQUESTOR, {}),
        (REQUESTOR, {"key_pair": None}),
        (REQUESTOR, {"trust": SYSTEM}),
        (REQUESTOR, {"trust": None, "peer_check": IGNORE}),
        (REQUESTOR, {"trust": None, "peer_check": IGNORE, "identity": Identity.NONE}),
        (REQUESTOR, {"identity": Identity.PINNED, "pin": b"p" * 32}),
        (ACCEPTOR, {}),
        (ACCEPTOR, {"peer_check": VERIFY}),
        (ACCEPTOR, {"identity": Identity.PINNED, "peer_check": VERIFY}),
        (ACCEPTOR, {"trust": None, "peer_check": IGNORE}),
    ],
)
def test_a_sensible_combination_passes(role: Role, choices: dict[str, Any]) -> None:
    assert _policy(role, **choices).role is role


@pytest.mark.parametrize(
    ("choices", "versions"),
    [
        ({}, [TLS12, TLS13]),
        ({"versions": frozenset({TLS12})}, [TLS12]),
        ({"versions": frozenset({TLS13})}, [TLS13]),
        ({"versions": frozenset({TLS12, TLS13})}, [TLS12, TLS13]),
        ({"profile": PROFILES["bcp195-ext"]}, [TLS12]),
        ({"ciphers": ("AES128-SHA",)}, [TLS12]),
        ({"ciphers": ("TLS_AES_128_GCM_SHA256",)}, [TLS13]),
        ({"ciphers": ("TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA")}, [TLS12, TLS13]),
        ({"extra_ciphers": ("AES128-SHA",), "versions": frozenset({TLS13})}, [TLS13]),
    ],
)
def test_the_versions_that_remain(choices: dict[str, Any], versions: list[ssl.TLSVersion]) -> None:
    assert list(_policy(REQUESTOR, **choices).tls_versions) == versions


def test_named_ciphers_replace_those_of_the_profile_and_added_ones_follow() -> None:
    assert _policy(REQUESTOR, ciphers=("TLS_RSA_WITH_AES_128_CBC_SHA",)).tls12_suites == ("AES128-SHA",)
    added = _policy(REQUESTOR, extra_ciphers=("AES128-SHA", "AES128-SHA", "TLS_AES_128_GCM_SHA256"))
    assert added.tls12_suites == (*PROFILES["bcp195-rfc9325"].suites, "AES128-SHA")


def test_secrets_stay_out_of_messages() -> None:
    assert "passphrase" not in repr(_policy(REQUESTOR))
