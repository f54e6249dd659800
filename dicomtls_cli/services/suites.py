"""Why two sides share no TLS version or cipher suite, and which option of ours would change that. Pure."""

from __future__ import annotations

import ssl

from dicomtls_cli.services.causes import NO_COMMON, Diagnosis
from dicomtls_cli.tls.hello import Choice, Offer
from dicomtls_cli.tls.profiles import DEFAULT_PROFILE, PROFILES, SUITES

NUMBERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_ECDSA_WITH_AES_256_CCM": 0xC0AD,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CCM": 0xC0AC,
    "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384": 0x009F,
    "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCAA,
    "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256": 0x009E,
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384": 0xC024,
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384": 0xC028,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": 0xC023,
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": 0xC027,
    "TLS_RSA_WITH_AES_256_GCM_SHA384": 0x009D,
    "TLS_RSA_WITH_AES_128_GCM_SHA256": 0x009C,
    "TLS_RSA_WITH_AES_256_CBC_SHA": 0x0035,
    "TLS_RSA_WITH_AES_128_CBC_SHA": 0x002F,
}
"""Numbers of the TLS 1.2 suites that may be asked for (RFC 5288, 5289, 5246, 6655, 7905)."""

_NAMES = {number: name for name, number in NUMBERS.items()}
_WRITTEN = {ssl.TLSVersion.TLSv1_2: "TLS 1.2", ssl.TLSVersion.TLSv1_3: "TLS 1.3"}
_THEIRS = "(dcm4che: `--tls-cipher TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`, DCMTK: `+py`, from 3.6.8 on `+pg`)"


def explain_choice(choice: Choice, context: ssl.SSLContext) -> Diagnosis:
    """Return why a peer refused what `context` offers, when it chose `choice` out of all there is."""
    name = _NAMES.get(choice.suite, "")
    is_newest = choice.version == "TLS 1.3"
    taken = choice.version if is_newest else f"{choice.version} with {name or f'suite 0x{choice.suite:04X}'}"
    cause = f"{NO_COMMON.cause}; it takes {taken}"
    lacks_version = choice.version not in {_WRITTEN[version] for version in versions_of(context)}
    if is_newest or lacks_version or SUITES.get(name) in DEFAULT_PROFILE.suites:
        hint = "leave out what narrows our choice (`--tls12`, `--tls13`, `--tls-cipher`, `--tls-profile`)"
        return NO_COMMON._replace(cause=cause, hint=hint)
    hint = f"`{_option_for(name)}` takes that; better, {NO_COMMON.hint}" if name else NO_COMMON.hint
    return NO_COMMON._replace(cause=cause, hint=hint)


def explain_offer(offer: Offer, context: ssl.SSLContext) -> Diagnosis:
    """Return why a client that makes this `offer` shares nothing with an acceptor of `context`."""
    if not {_WRITTEN[version] for version in versions_of(context)} & set(offer.versions):
        return _explain_versions(offer)
    suites = {cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
    if {number for number in suites if number in _NAMES} & set(offer.suites):
        return NO_COMMON._replace(
            cause="no shared cipher: its suites do not go with the key of our certificate",
            hint="show one that does: `dicomtls gencert NAME --key-type rsa2048` works with every peer",
        )
    known = [_NAMES[number] for number in offer.suites if number in _NAMES]
    if not known:
        cause = "no shared cipher: it offers none that is of any use"
        return NO_COMMON._replace(cause=cause, hint=f"the client needs ECDHE and AES-GCM {_THEIRS}")
    best = min(known, key=lambda name: _option_for(name).startswith("+cs"))  # the first that a profile has
    more = f" and {len(known) - 1} more" if len(known) > 1 else ""
    return NO_COMMON._replace(
        cause=f"no shared cipher: it offers {best}{more}",
        hint=f"`{_option_for(best)}` takes that; better, let the client offer ECDHE and AES-GCM {_THEIRS}",
    )


def _explain_versions(offer: Offer) -> Diagnosis:
    hint = f"bring the client to TLS 1.2: older versions are retired (RFC 8996), and not taken here {_THEIRS}"
    if set(_WRITTEN.values()) & set(offer.versions):
        hint = "leave out what narrows ours (`--tls12`, `--tls13`, `--tls-profile`)"
    offered = ", ".join(offer.versions) or "none that is known"
    return NO_COMMON._replace(cause=f"no TLS version in common: it offers {offered}", hint=hint)


def versions_of(context: ssl.SSLContext) -> list[ssl.TLSVersion]:
    """Return the versions of TLS that a context of ours takes, lowest first."""
    return [one for one in _WRITTEN if context.minimum_version <= one <= context.maximum_version]


def _option_for(name: str) -> str:
    """Return the option that adds the suite `name` (IANA)."""
    for profile in sorted(PROFILES.values(), key=lambda profile: len(profile.suites)):
        if SUITES[name] in profile.suites and len(profile.versions) > 1:
            return f"--tls-profile {profile.name}"
    return f"+cs {name}"
