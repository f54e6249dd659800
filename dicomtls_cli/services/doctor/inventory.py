"""What a peer's TLS has to offer: versions, suites, groups, and what it makes of a stranger."""

from __future__ import annotations

from collections.abc import Mapping

from dicomtls_cli.services.doctor.facts import Facts
from dicomtls_cli.services.doctor.probes import Probes
from dicomtls_cli.services.doctor.stranger import stranger
from dicomtls_cli.tls.flights import BROKEN_SUITES, SSL3_SUITES, SUITES_13
from dicomtls_cli.tls.survey import GROUPS, VERSIONS, Ending, Offer, old_suites


def survey_versions(probes: Probes, facts: Facts) -> None:
    """Offer one version after the other."""
    for version in VERSIONS:
        seen = probes.converse(Offer(version, version))
        if seen is None:
            return
        facts.versions[version] = seen


def show_a_stranger(probes: Probes, facts: Facts) -> None:
    """Show a certificate that nobody can know.

    Over TLS 1.2 where that is accepted: there the answer is part of the handshake.
    """
    version = "TLSv1.2" if "TLSv1.2" in facts.accepted_versions else "TLSv1.3"
    with stranger() as pair:
        facts.stranger = probes.converse(Offer(version, version, key_pair=pair), listen=True)


def survey_suites(probes: Probes, facts: Facts) -> None:
    """Offer all suites, note the one that is picked, and offer the others."""
    accepted = facts.accepted_versions
    if "TLSv1.2" in accepted and not _survey_suites_12(probes, facts):
        return
    if "TLSv1.3" in accepted:
        facts.suites_13 += _pick(probes, "TLSv1.3", SUITES_13) or ()
    # OpenSSL is built without these; in the oldest version that is spoken they are likeliest.
    oldest = [name for name in accepted if name != "TLSv1.3"][:1]
    broken = _pick(probes, oldest[0], BROKEN_SUITES) if oldest else []
    facts.suites.update(dict.fromkeys(broken or (), ""))
    ssl3 = probes.ask("SSLv3", tuple(SSL3_SUITES))
    facts.speaks_ssl3 = bool(ssl3)
    facts.suites_complete = broken is not None and ssl3 is not None


def _survey_suites_12(probes: Probes, facts: Facts) -> bool:
    """Note the suites of TLS 1.2; tell whether all were offered."""
    left = list(old_suites())
    while left:
        seen = probes.converse(Offer("TLSv1.2", "TLSv1.2", tuple(left)))
        if seen is None or seen.ending is Ending.SILENT:
            return False
        if seen.cipher not in left:
            break
        facts.suites[seen.cipher] = seen.group
        left.remove(seen.cipher)
    return True


def _pick(probes: Probes, version: str, names: Mapping[int, str]) -> list[str] | None:
    """Return which of the suites `names` are accepted, best first; None where they could not all be offered."""
    left, taken = dict(names), []
    while left:
        chosen = probes.ask(version, tuple(left))
        if chosen is None:
            return None
        if not chosen:
            break
        taken.append(left.pop(chosen))
    return taken


def survey_groups(probes: Probes, facts: Facts) -> None:
    """Offer one key exchange group after the other."""
    accepted = [name for name in ("TLSv1.3", "TLSv1.2") if name in facts.accepted_versions]
    if not accepted:
        return
    # Up to TLS 1.2 a certificate with an EC key is shown only where its own curve is offered (RFC 8422 5.1).
    may_be_the_certificate = accepted[0] == "TLSv1.2" and any("ECDSA" in name for name in facts.suites)
    for group in GROUPS:
        seen = probes.converse(Offer(accepted[-1], accepted[0], group=group))
        if seen is None:
            return
        taken = seen.group == group
        if taken or not (may_be_the_certificate or seen.ending is Ending.NOT_OFFERED):
            facts.groups[group] = taken
