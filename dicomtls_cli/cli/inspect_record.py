"""What `inspect` found, as records for programs: one for each file or peer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dicomtls_cli.errors import error_record
from dicomtls_cli.pki.algorithms import KeyFacts, SignatureFacts
from dicomtls_cli.pki.compatibility import Verdict
from dicomtls_cli.pki.description import CertificateFacts, CrlFacts, RequestFacts, serial_text
from dicomtls_cli.pki.holding import FoundKey, Holding
from dicomtls_cli.pki.relations import ChainFacts
from dicomtls_cli.services.inspection import Ending, Found, Inspection
from dicomtls_cli.services.shown import Shown


def record_of(found: Found, inspection: Inspection, endings: Sequence[Ending]) -> dict[str, Any]:
    """Return the record of one file or peer; `endings` are what ends too soon, of all of them."""
    held = found.holding
    ending = [one for one in endings if one.source == held.source]
    return {
        "ok": not ending and all(one.readable for one in held.certificates),
        "source": held.source,
        "form": held.form,
        "connection": None if found.shown is None else _connection(found.shown),
        "certificates": [_certificate(one, held, inspection) for one in held.certificates],
        "chain": _chain(inspection.relations.chain(held)),
        "duplicates": held.duplicates,
        "keys": [_found_key(key, inspection) for key in held.keys],
        "requests": [_request(request, inspection) for request in held.requests],
        "crls": [_crl(crl) for crl in held.crls],
        "ending": [{"subject": one.subject, "not_after": _time(one.at)} for one in ending],
    }


def _connection(shown: Shown) -> dict[str, Any]:
    return {
        "version": shown.version or None,
        "cipher": shown.cipher or None,
        "certificate_requested": shown.certificate_requested,
        "failure": None if shown.failure is None else error_record(shown.failure),
    }


def _certificate(one: CertificateFacts, held: Holding, inspection: Inspection) -> dict[str, Any]:
    relations, above = inspection.relations, inspection.relations.above(one)
    left = None if one.not_after is None else (one.not_after - inspection.now).days
    return {
        "subject": one.subject,
        "issuer": one.issuer,
        "self_signed": one.self_signed,
        "names": [{"kind": kind, "name": name} for kind, name in one.names],
        "not_before": _time(one.not_before),
        "not_after": _time(one.not_after),
        "days_left": left,
        "serial": one.serial or None,
        "version": one.version or None,
        "key": _key(one.key),
        "signature": _signature(one.signature),
        "key_usage": one.key_usage,
        "extended_key_usage": one.extended_usage,
        "ca": one.ca,
        "path_length": one.path_length,
        "unknown_critical": one.critical,
        "subject_key_id": one.subject_key_id or None,
        "authority_key_id": one.authority_key_id or None,
        "sha256": one.sha256,
        "sha1": one.sha1,
        "unreadable": one.unread,
        "issuers": [issuer.sha256 for issuer in above.issuers],
        "private_key_in": _sources(one.key, inspection),
        "also_in": relations.others_with(one, held.source),
        "revoked": relations.is_revoked(one),
        "findings": [{"code": found.code, "message": found.text} for found in inspection.findings(one)],
        "works_with": _verdicts(inspection.verdicts(one)),
    }


def _verdicts(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in verdicts:
        reasons = [{"code": reason.code, "message": reason.text} for reason in one.reasons]
        found.setdefault(one.program.value, {})[one.use.value] = {
            "answer": one.answer.value,
            "reasons": reasons,
        }
    return found


def _chain(chain: ChainFacts | None) -> dict[str, Any] | None:
    if chain is None:
        return None
    return {
        "one_chain": chain.one,
        "in_order": chain.in_order,
        "complete": chain.complete,
        "missing_issuer": chain.wants or None,
        "order": chain.order,
    }


def _key(key: KeyFacts | None) -> dict[str, Any] | None:
    if key is None:
        return None
    return {"kind": key.kind, "bits": key.bits, "curve": key.curve or None, "sha256": key.digest.hex()}


def _signature(signature: SignatureFacts | None) -> str | None:
    return None if signature is None else signature.text


def _found_key(key: FoundKey, inspection: Inspection) -> dict[str, Any]:
    return {
        "what": key.kind.value,
        "private": key.private,
        "encrypted": key.encrypted,
        "key": _key(key.facts),
        "belongs_to": None if key.facts is None else _owners(key.facts, inspection),
    }


def _sources(key: KeyFacts | None, inspection: Inspection) -> list[str]:
    return [held.source for held, _ in inspection.relations.private_keys(key)]


def _owners(key: KeyFacts | None, inspection: Inspection) -> list[dict[str, Any]]:
    owners = inspection.relations.owners(key)
    return [{"source": source, "subject": one.subject, "sha256": one.sha256} for source, one in owners]


def _request(request: RequestFacts, inspection: Inspection) -> dict[str, Any]:
    return {
        "subject": request.subject,
        "names": [{"kind": kind, "name": name} for kind, name in request.names],
        "key": _key(request.key),
        "signature": _signature(request.signature),
        "signed_by_its_key": request.whole,
        "private_key_in": _sources(request.key, inspection),
        "issued": _owners(request.key, inspection),
    }


def _crl(crl: CrlFacts) -> dict[str, Any]:
    return {
        "issuer": crl.issuer,
        "last_update": _time(crl.last_update),
        "next_update": _time(crl.next_update),
        "number": crl.number,
        "signature": _signature(crl.signature),
        "revoked": sorted(map(serial_text, crl.revoked)),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"
