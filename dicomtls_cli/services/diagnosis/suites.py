"""Why two sides share no TLS version or cipher suite, and which option of ours would change that. Pure."""

from __future__ import annotations

import ssl

from dicomtls_cli.services.diagnosis.causes import NO_COMMON, Diagnosis
from dicomtls_cli.tls.flights import ServerHello
from dicomtls_cli.tls.hello import Offer
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


def explain_choice(choice: ServerHello, context: ssl.SSLContext) -> Diagnosis:
    """Return why a peer refused what `context` offers, when it chose `choice` out of all there is."""
    name = _NAMES.get(choice.suite, "")
    version = choice.version.replace("TLSv", "TLS ")
    is_newest = version == "TLS 1.3"
    taken = version if is_newest else f"{version} with {name or f'suite 0x{choice.suite:04X}'}"
    cause = f"{NO_COMMON.cause}; it takes {taken}"
    if not (is_newest or name):
        return NO_COMMON._replace(cause=cause)
    narrowed = version not in _written(context) or _lacks_suites(context)
    hint = _remedy("" if is_newest else name, "our choice", narrowed=narrowed)
    return NO_COMMON._replace(cause=cause, hint=hint or f"{_taking(name)}; better, {NO_COMMON.hint}")


def explain_offer(offer: Offer, context: ssl.SSLContext) -> Diagnosis:
    """Return why a client that makes this `offer` shares nothing with an acceptor of `context`."""
    known = [_NAMES[number] for number in offer.suites if number in _NAMES]
    best = min(known, key=_effort, default="")
    if not _written(context) & set(offer.versions):
        return _explain_versions(offer, best)
    suites = {cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
    if {number for number in suites if number in _NAMES} & set(offer.suites):
        return NO_COMMON._replace(
            cause="no shared cipher: its suites do not go with the key of our certificate",
            hint="show one that does: `dicomtls gencert NAME --key-type rsa2048` works with every peer",
        )
    if not best:
        cause = "no shared cipher: it offers none that is of any use"
        return NO_COMMON._replace(cause=cause, hint=f"the client needs ECDHE and AES-GCM {_THEIRS}")
    more = f" and {len(known) - 1} more" if len(known) > 1 else ""
    hint = _remedy(best, "ours", narrowed=_lacks_suites(context))
    return NO_COMMON._replace(
        cause=f"no shared cipher: it offers {best}{more}",
        hint=hint or f"{_taking(best)}; better, let the client offer ECDHE and AES-GCM {_THEIRS}",
    )


def _explain_versions(offer: Offer, best: str) -> Diagnosis:
    hint = f"bring the client to TLS 1.2: older versions are retired (RFC 8996), and not taken here {_THEIRS}"
    if set(_WRITTEN.values()) & set(offer.versions):
        hint = _remedy("" if "TLS 1.3" in offer.versions else best, "ours", narrowed=True)
    offered = ", ".join(offer.versions) or "none that is known"
    return NO_COMMON._replace(cause=f"no TLS version in common: it offers {offered}", hint=hint)


def _remedy(name: str, whose: str, *, narrowed: bool) -> str:
    """Return which options to leave out, and which to give instead, for the suite `name` ("": TLS 1.3 does).

    "" where there is nothing to leave out: neither is what we take `narrowed`, nor do we take that suite by default.
    """
    is_extra = name and SUITES[name] not in DEFAULT_PROFILE.suites
    if is_extra and not narrowed:
        return ""
    left = f"leave out what narrows {whose} (`--tls12`, `--tls13`, `--tls-cipher`, `--tls-profile`)"
    return f"{left}, and give `{_option_for(name)}`" if is_extra else left


def _taking(name: str) -> str:
    return f"`{_option_for(name)}` takes that"


def _effort(name: str) -> int:
    """Return what it takes of us to share the suite `name`: nothing, a profile, or the suite by its name."""
    if SUITES[name] in DEFAULT_PROFILE.suites:
        return 0
    return 2 if _option_for(name).startswith("+cs") else 1


def _written(context: ssl.SSLContext) -> set[str]:
    return {_WRITTEN[version] for version in versions_of(context)}


def _lacks_suites(context: ssl.SSLContext) -> bool:
    """Tell whether `context` takes less than it would by default."""
    return not set(DEFAULT_PROFILE.suites) <= {cipher["name"] for cipher in context.get_ciphers()}


def versions_of(context: ssl.SSLContext) -> list[ssl.TLSVersion]:
    """Return the versions of TLS that a context of ours takes, lowest first."""
    return [one for one in _WRITTEN if context.minimum_version <= one <= context.maximum_version]


def _option_for(name: str) -> str:
    """Return the option that adds the suite `name` (IANA)."""
    for profile in sorted(PROFILES.values(), key=lambda profile: len(profile.suites)):
        if SUITES[name] in profile.suites and len(profile.versions) > 1:
            return f"--tls-profile {profile.name}"
    return f"+cs {name}"
