"""What `bundle` tells of certificates: which there are, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicomtls_cli.cli.terminal import counted
from dicomtls_cli.errors import ExitCode, printable

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.bundle import Bundle, BundledCertificate


def _entry(one: BundledCertificate) -> dict[str, Any]:
    return {"subject": one.subject, "not_after": _end(one), "sha256": one.sha256}


def _end(one: BundledCertificate) -> str | None:
    return None if one.not_after is None else f"{one.not_after:%Y-%m-%dT%H:%M:%SZ}"


def _lines(one: BundledCertificate) -> list[str]:
    return [
        f"  {printable(one.subject or 'unreadable subject', 200)}",
        f"    until {_end(one) or 'unreadable'}, sha256 {one.sha256}",
    ]


def tell(terminal: Terminal, output: Path, collected: Bundle) -> None:
    """Tell of the file `output` that was written."""
    terminal.record(
        {
            "ok": True,
            "output": str(output),
            "certificates": [_entry(one) for one in collected.certificates],
            "duplicates": collected.duplicates,
            "keys_dropped": collected.keys_dropped,
            "lists_dropped": collected.lists_dropped,
        }
    )
    twice = f" ({counted(collected.duplicates, 'duplicate')} left out)" if collected.duplicates else ""
    lines = [f"wrote {printable(str(output))}: {counted(len(collected.certificates), 'certificate')}{twice}"]
    for one in collected.certificates:
        lines += _lines(one)
    terminal.result("\n".join(lines))


def tell_list(terminal: Terminal, collected: Bundle) -> None:
    """Tell which certificates there are."""
    for one in collected.certificates:
        terminal.record({"ok": True, **_entry(one)})
    terminal.result("\n".join(line for one in collected.certificates for line in _lines(one)))
    if collected.keys_dropped:
        terminal.warning(
            f"{counted(collected.keys_dropped, 'private key')} in it: such a file must not be handed around"
        )


def tell_findings(terminal: Terminal, collected: Bundle, warn_days: int) -> int:
    """Tell what is wrong with the certificates, or will be in `warn_days` days; return the exit code."""
    from dicomtls_cli.pki.findings import find

    findings = find(collected.certificates, warn_days=warn_days)
    records = [{"code": one.code, "message": one.text, **_entry(one.certificate)} for one in findings]
    if collected.keys_dropped:
        held = (
            f"{counted(collected.keys_dropped, 'private key')} in it: whoever has the file can be that peer"
        )
        records.append({"code": "private-key", "message": held})
        terminal.result(held)
    for one in findings:
        subject = printable(one.certificate.subject or "unreadable subject", 200)
        terminal.result(f"{subject} (sha256 {one.certificate.sha256[:16]}...): {one.text}")
    count = len(collected.certificates)
    terminal.record({"ok": not records, "certificates": count, "findings": records})
    terminal.result(
        f"{counted(count, 'certificate')}, {counted(len(records), 'finding') if records else 'no finding'}"
    )
    return int(ExitCode.FINDING) if records else 0
