"""A walk as a record for programs."""

from __future__ import annotations

import ssl
from typing import Any

from dicomtls_cli.errors import printable
from dicomtls_cli.services.doctor.facts import Facts
from dicomtls_cli.services.doctor.judgement import Step
from dicomtls_cli.services.doctor.rules import PROFILE, VERSION_WORDS


def step_record(step: Step) -> dict[str, Any]:
    """Return `step` as `--json` has it."""
    return {
        "step": step.name,
        "status": step.status.value,
        "text": step.text,
        "notes": list(step.notes),
        "fix": step.fix,
        "code": step.slug,
    }


def facts_record(facts: Facts) -> dict[str, Any]:
    """Return what was seen as `--json` has it: null and empty where the walk did not come so far."""
    accept = facts.associated.accept if facts.associated else None
    return {
        "addresses": [
            {"address": one.address, "seconds": round(one.seconds, 6), "error": one.error and one.error.slug}
            for one in facts.addresses
        ],
        "speaks": facts.speaks and facts.speaks.value,
        "versions": {VERSION_WORDS[name]: name in facts.accepted_versions for name in facts.versions},
        "ssl3": facts.speaks_ssl3,
        "suites_tls12": list(facts.suites),
        "suites_tls12_complete": facts.suites_complete,
        "suites_tls13": facts.suites_13,
        "groups": facts.groups,
        "chain": [ssl.DER_cert_to_PEM_cert(der) for der in facts.chain],
        "identified_by": facts.tls.identified_by if facts.tls else None,
        "association": accept
        and {
            "calling_aet": facts.calling_aet,
            "called_aet": facts.peer.called_aet,
            "maximum_length": accept.maximum_length,
            "implementation_class_uid": printable(accept.implementation_class_uid),
            "implementation_version": printable(accept.implementation_version),
        },
        "echo_seconds": facts.echo_seconds and round(facts.echo_seconds, 6),
        "connections": facts.connections,
    }


def walk_record(facts: Facts, steps: list[Step], exit_code: int) -> dict[str, Any]:
    """Return the one record of `dicomtls doctor --json`."""
    return {
        "ok": exit_code == 0,
        "exit": exit_code,
        "peer": str(facts.peer),
        "profile": PROFILE,
        "steps": [step_record(step) for step in steps],
        "facts": facts_record(facts),
    }
