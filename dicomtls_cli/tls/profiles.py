"""The secure transport profiles of PS3.15 Annex B, and the names of cipher suites, as data."""

from __future__ import annotations

import ssl
from typing import NamedTuple

from dicomtls_cli.errors import UsageError

_TLS12 = ssl.TLSVersion.TLSv1_2
_TLS13 = ssl.TLSVersion.TLSv1_3

# IANA name -> OpenSSL name, for the TLS 1.2 suites that may be asked for. Everything without forward
# secrecy and encryption that still counts as such is left out on purpose.
SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CCM": "ECDHE-ECDSA-AES256-CCM",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CCM": "ECDHE-ECDSA-AES128-CCM",
    "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384": "DHE-RSA-AES256-GCM-SHA384",
    "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "DHE-RSA-CHACHA20-POLY1305",
    "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256": "DHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384": "ECDHE-ECDSA-AES256-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384": "ECDHE-RSA-AES256-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
}

# TLS 1.3 names are the same in both worlds. Python before 3.15 cannot choose among them, so naming one
# chooses the version.
SUITES_13 = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")

_ECDHE = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_DHE = ("DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-AES128-GCM-SHA256")
_AES128_SHA = ("AES128-SHA",)


class Profile(NamedTuple):
    """One secure transport connection profile: TLS versions and TLS 1.2 suites (OpenSSL names), best first.

    `section` is its place in PS3.15; `retired` tells that the standard no longer has it.
    """

    name: str
    section: str
    versions: tuple[ssl.TLSVersion, ...]
    suites: tuple[str, ...]
    retired: bool = True


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("bcp195-rfc9325", "B.12", (_TLS12, _TLS13), _ECDHE, retired=False),
        Profile("bcp195-nd", "B.10", (_TLS12, _TLS13), _ECDHE + _DHE),
        Profile("bcp195-ext", "B.11", (_TLS12,), _ECDHE),
        Profile("bcp195", "B.9", (_TLS12, _TLS13), _ECDHE + _DHE + _AES128_SHA),
        Profile("aes", "B.3", (_TLS12, _TLS13), _ECDHE + _AES128_SHA),
    )
}
DEFAULT_PROFILE = PROFILES["bcp195-rfc9325"]


def suite(name: str) -> tuple[ssl.TLSVersion, str]:
    """Return the TLS version and OpenSSL name of the cipher suite `name` (IANA or OpenSSL spelling).

    Raises UsageError for a suite this project does not know or refuses to use.
    """
    if name in SUITES_13:
        return _TLS13, name
    if name in SUITES:
        return _TLS12, SUITES[name]
    if name in SUITES.values():
        return _TLS12, name
    raise UsageError(
        f"unknown or refused cipher suite `{name}`",
        "see `dicomtls echoscu --list-ciphers` for those that can be used",
        slug="usage.unknown-cipher",
    )
