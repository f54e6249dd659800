"""A step of the walk and what was made of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, ExitCode


class Status(StrEnum):
    """How a step went; `skipped` means that it could not be judged."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Step(NamedTuple):
    """One step: what was found, in words, and what to do about it (`fix`).

    `slug` names what is wrong (docs/troubleshooting.md). `exit_code` is that of the failure which stops a C-ECHO here,
    or FINDING where the profile is broken. `notes` are the rules that are broken, one each.
    """

    name: str
    status: Status
    text: str
    fix: str = ""
    slug: str = ""
    exit_code: ExitCode = ExitCode.OK
    notes: tuple[str, ...] = ()


def passed(name: str, text: str) -> Step:
    """Return a step that is as it should be."""
    return Step(name, Status.OK, text)


def skipped(name: str, why: str, fix: str = "") -> Step:
    """Return a step that could not be judged."""
    return Step(name, Status.SKIPPED, why, fix)


def warned(name: str, text: str, fix: str, slug: str) -> Step:
    """Return a step that works, and could be better."""
    return Step(name, Status.WARN, text, fix, slug)


def found(name: str, text: str, fix: str, slug: str) -> Step:
    """Return a step that breaks the profile, although it works."""
    return Step(name, Status.FAIL, text, fix, slug, ExitCode.FINDING)


def stopped(name: str, error: DicomTlsError) -> Step:
    """Return a step at which every C-ECHO ends."""
    return Step(name, Status.FAIL, error.message, error.hint, error.slug, error.exit_code)
