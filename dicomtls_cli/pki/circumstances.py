"""What the rules of `compatibility` ask of a certificate, and the words that name what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from dicomtls_cli.pki.description import CertificateFacts


class Case(NamedTuple):
    """A certificate to be judged at the time `now`, trusted for itself or through `above`, the CAs that are known.

    `complete` tells whether the last of these is self-signed, or the certificate is. Of its private key, where it
    is known: whether it is under a passphrase, and in a PEM file. `namesake` tells whether another certificate here has
    its subject, and no key identifiers tell the two apart.
    """

    certificate: CertificateFacts
    now: datetime
    above: tuple[CertificateFacts, ...] = ()
    complete: bool = True
    key_encrypted: bool = False
    pem: bool = True
    namesake: bool = False


def is_authority(certificate: CertificateFacts) -> bool:
    """Tell whether a certificate is a CA's, which vouches for others and is nobody's own.

    One that is made for TLS as well (a usage of TLS, and digitalSignature) is both, and judged.
    """
    usages = certificate.key_usage or ()
    shown = "digitalSignature" in usages and bool(
        {"serverAuth", "clientAuth"} & {*(certificate.extended_usage or ())}
    )
    return bool(certificate.ca) and "keyCertSign" in usages and not shown


_WEAK_HASHES = frozenset({"md2", "md4", "md5", "sha1"})
_TLS_CURVES = frozenset({"P-256", "P-384", "P-521"})


def _chain(case: Case) -> tuple[CertificateFacts, ...]:
    """Return what has to be in order: the certificate, and the CAs through which it is trusted."""
    return (case.certificate, *case.above) if case.complete else (case.certificate,)


def _below_anchor(case: Case) -> tuple[CertificateFacts, ...]:
    """Return the same without the one that is trusted for itself, at which Java does not look."""
    return _chain(case)[:-1]


def _without_root(case: Case) -> tuple[CertificateFacts, ...]:
    return (case.certificate, *_chain(case)[1:-1])


def unreadable(case: Case) -> bool:
    """Tell whether a part of it could not be read that the rules ask for."""
    return not case.certificate.readable or bool({"extensions", "key", "dates"} & {*case.certificate.unread})


def _is_over(one: CertificateFacts, now: datetime) -> bool:
    return one.not_after is not None and one.not_after < now


def _is_early(one: CertificateFacts, now: datetime) -> bool:
    return one.not_before is not None and one.not_before > now


def expired(case: Case) -> bool:
    """Tell whether it, or a CA through which it is trusted, has ended."""
    return any(_is_over(one, case.now) for one in _chain(case))


def not_yet(case: Case) -> bool:
    """Tell whether it, or a CA through which it is trusted, has not begun."""
    return any(_is_early(one, case.now) for one in _chain(case))


def java_expired(case: Case) -> bool:
    """Tell the same as `expired`, as Java does: what is trusted for itself has no end."""
    return any(_is_over(one, case.now) for one in _below_anchor(case))


def java_not_yet(case: Case) -> bool:
    """Tell the same as `not_yet`, as Java does: what is trusted for itself has no beginning."""
    return any(_is_early(one, case.now) for one in _below_anchor(case))


def own_or_between_expired(case: Case) -> bool:
    """Tell the same as `expired`, as rustls does: of the CA at the end it takes name and key alone."""
    return any(_is_over(one, case.now) for one in _without_root(case))


def own_or_between_not_yet(case: Case) -> bool:
    """Tell the same as `not_yet`, as rustls does."""
    return any(_is_early(one, case.now) for one in _without_root(case))


def vouched(case: Case) -> bool:
    """Tell whether a CA that is here vouches for it; else it is trusted for itself."""
    return bool(case.above) and case.complete


def lacks_usage(word: str) -> Callable[[Case], bool]:
    """Return whether there is an extended key usage, and `word` is not in it."""

    def lacks(case: Case) -> bool:
        usages = case.certificate.extended_usage
        return usages is not None and word not in usages

    return lacks


def java_lacks_usage(word: str) -> Callable[[Case], bool]:
    """Return the same, as Java does: any usage will do, and what is trusted for itself needs none."""

    def lacks(case: Case) -> bool:
        usages = case.certificate.extended_usage
        return vouched(case) and usages is not None and not {word, "anyExtendedKeyUsage"} & set(usages)

    return lacks


def lacks_key_usage(*words: str) -> Callable[[Case], bool]:
    """Return whether there is a key usage, and none of `words` is in it."""

    def lacks(case: Case) -> bool:
        usages = case.certificate.key_usage
        return usages is not None and not set(words) & set(usages)

    return lacks


def small_rsa(case: Case) -> bool:
    """Tell whether it, or a CA through which it is trusted, has an RSA key under 2048 bits."""
    return any(one.key is not None and one.key.kind == "RSA" and one.key.bits < 2048 for one in _chain(case))


def own_small_rsa(case: Case) -> bool:
    """Tell whether its own key is RSA under 2048 bits."""
    return small_rsa(case._replace(above=()))


def _is_weakly_signed(one: CertificateFacts) -> bool:
    return one.signature is not None and one.signature.hash in _WEAK_HASHES


def weak_hash(case: Case) -> bool:
    """Tell whether it is signed with a broken hash, or a CA between it and the one at the end."""
    return any(map(_is_weakly_signed, _without_root(case)))


def weak_hash_below_anchor(case: Case) -> bool:
    """Nobody looks at the signature of what is trusted for itself."""
    return any(map(_is_weakly_signed, _below_anchor(case)))


def own_weak_hash(case: Case) -> bool:
    """Tell whether a CA signed it with a broken hash."""
    return _is_weakly_signed(case.certificate) and not case.certificate.self_signed


def not_rsa(case: Case) -> bool:
    """Tell whether it has a key that is not RSA."""
    key = case.certificate.key
    return key is not None and key.kind != "RSA"


def odd_key(case: Case) -> bool:
    """Tell whether its key is of a kind that no TLS version signs with."""
    key = case.certificate.key
    if key is None or key.kind in ("RSA", "Ed25519", "Ed448"):
        return False
    return key.curve not in _TLS_CURVES


def is_key(*words: str) -> Callable[[Case], bool]:
    """Return whether its key is of one of these kinds or curves."""

    def is_one(case: Case) -> bool:
        key = case.certificate.key
        return key is not None and (key.kind in words or key.curve in words)

    return is_one


def hosts(case: Case) -> tuple[str, ...]:
    """Return the names and addresses it is made out to."""
    return tuple(value for kind, value in case.certificate.names if kind in ("DNS", "IP"))


def not_localhost(case: Case) -> bool:
    """Tell whether `localhost` is not among its names."""
    named = any(kind == "DNS" and name.lower() == "localhost" for kind, name in case.certificate.names)
    return not (named or unreadable(case))


def no_ca(case: Case) -> bool:
    """Tell whether what signed it says that it is no CA, or may not sign."""
    return any(
        one.ca is False or (one.key_usage is not None and "keyCertSign" not in one.key_usage)
        for one in _chain(case)[1:]
    )


def silent_ca(case: Case) -> bool:
    """Tell whether what signed it does not say keyCertSign."""
    return any("keyCertSign" not in (one.key_usage or ()) for one in _chain(case)[1:])


def and_vouched(applies: Callable[[Case], bool]) -> Callable[[Case], bool]:
    """Return `applies` for what is trusted through a CA alone."""
    return lambda case: vouched(case) and applies(case)


def absent(case: Case) -> bool:
    """Tell whether its CA is not here."""
    return not case.complete


# ---------------------------------------------------------------------- the words that need the case


def end_text(case: Case) -> str:
    """Say what has ended, and when."""
    late = next(one for one in _chain(case) if _is_over(one, case.now))
    who = "it" if late is case.certificate else f"its CA `{_short(late.subject)}`"
    return f"{who} expired on {late.not_after:%Y-%m-%d}"


def start_text(case: Case) -> str:
    """Say what has not begun, and when it will."""
    early = next(one for one in _chain(case) if _is_early(one, case.now))
    who = "it" if early is case.certificate else f"its CA `{_short(early.subject)}`"
    return f"{who} is not valid before {early.not_before:%Y-%m-%d}"


def absent_text(case: Case) -> str:
    """Say which CA is missing."""
    issuer = _short((case.certificate, *case.above)[-1].issuer)
    return f"its CA `{issuer}` has to be among the trusted certificates, and is not here"


def names_text(case: Case) -> str:
    """Say by which names it has to be called."""
    names = hosts(case)
    if not names:
        return "only where it is called by its common name: it has no subject alternative name"
    shown = ", ".join(_short(name) for name in names[:3])
    return f"where it is called by one of its names: {shown}{', ...' if len(names) > 3 else ''}"


def _short(text: str | None) -> str:
    return (text or "unreadable")[:100]
