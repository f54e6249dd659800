"""What `dicomtls orthanc` is asked to write, and how it tells of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dicomtls_cli.cli.values import FILE, parse_peer, parse_port
from dicomtls_cli.errors import UsageError

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.services.orthanc.findings import Finding, Version
    from dicomtls_cli.services.orthanc.settings import Modality, Wanted

DEFAULT_OUTPUT = Path("dicom-tls.json")


class Asked(NamedTuple):
    """The options as they were given."""

    cert: Path | None
    key: Path | None
    tls_pair: tuple[Path, Path] | None
    trust: tuple[str, ...]
    peer_cert: str | None
    modalities: tuple[str, ...]
    aet: str | None
    port: str | None
    min_tls: str | None
    tls_cipher: tuple[str, ...]
    orthanc_version: str | None
    output: Path | None
    force: bool
    docker: bool
    checked: Path | None
    run: bool

    @property
    def writes(self) -> bool:
        """Whether a configuration is to be made, not only one to be used that is there."""
        return not self.run or bool(self.cert or self.key or self.tls_pair or self.trust)

    @property
    def version(self) -> Version | None:
        """The version of Orthanc that was named."""
        from dicomtls_cli.services.orthanc.findings import parse_version

        return None if self.orthanc_version is None else parse_version(self.orthanc_version)


def wanted_from(asked: Asked) -> Wanted:
    """Return what is to be written; raise UsageError where the options do not say it."""
    from dicomtls_cli.services.orthanc.settings import Wanted
    from dicomtls_cli.tls.profiles import suite

    key, cert = asked.tls_pair or (asked.key, asked.cert)
    if cert is None or not asked.trust:
        raise UsageError(
            f"no {'certificate' if cert is None else 'file of trusted certificates'} is named",
            "as in `dicomtls orthanc --cert orthanc.crt --key orthanc.key --trust trusted.crt`",
            slug="usage.orthanc-files",
        )
    if len(asked.trust) > 1 or "system" in asked.trust:
        files = " ".join(shlex.quote(file) for file in asked.trust if file != "system")
        raise UsageError(
            "Orthanc reads its trusted certificates from one file",
            f"make it one: `dicomtls bundle {files or 'CERT...'} -o trusted.crt`, then `--trust trusted.crt`",
            slug="usage.orthanc-trust",
        )
    modalities = tuple(_parse_modality(text) for text in asked.modalities)
    if len({one.name for one in modalities}) < len(modalities):
        raise UsageError("a modality is named twice", "name each once", slug="usage.modality")
    return Wanted(
        cert=cert,
        key=key or cert,
        trusted=Path(FILE.convert(asked.trust[0], None, None)),
        is_required=asked.peer_cert != "verify",
        modalities=modalities,
        aet=asked.aet,
        port=None if asked.port is None else parse_port(asked.port),
        minimum=asked.min_tls,
        ciphers=tuple(suite(name)[1] for name in asked.tls_cipher),
    )


def _parse_modality(text: str) -> Modality:
    from dicomtls_cli.services.orthanc.modalities import GREATEST_PORT, NAME
    from dicomtls_cli.services.orthanc.settings import Modality

    name, equals, address = text.partition("=")
    if not (name and equals and "@" in address) or not NAME.fullmatch(name):
        raise UsageError(
            f"`{text}` is not a modality",
            "write NAME=AET@HOST:PORT, as in `--modality ct=CT@10.0.0.5:2762`; a NAME has letters, digits, - and _",
            slug="usage.modality",
        )
    peer, _ = parse_peer(address, aec=None, tls=True)
    if ":" in peer.host or peer.port > GREATEST_PORT:
        what = "an IPv6 address" if ":" in peer.host else f"a port above {GREATEST_PORT}"
        raise UsageError(
            f"`{text}` is not a modality: Orthanc takes no {what.partition(' ')[2]}",
            "name a host or its IPv4 address, and a port from 1 to 65534",
            slug="usage.modality",
        )
    return Modality(name, peer.called_aet, peer.host, peer.port)


def write(terminal: Terminal, wanted: Wanted, output: Path, asked: Asked) -> None:
    """Write the configuration, tell of it, and warn of what will fail with it."""
    from dicomtls_cli.pki.files import NewFile, check_targets, refuse_output_among_inputs, word, write_files
    from dicomtls_cli.services.orthanc.findings import SINCE, version_text
    from dicomtls_cli.services.orthanc.settings import examine, needs, neighbours, render, settings

    refuse_output_among_inputs(output, [wanted.cert, wanted.key, wanted.trusted])
    keys = settings(wanted)
    findings = examine(keys, output, asked.version)
    check_targets([output], force=asked.force)
    write_files([NewFile(output, render(keys))], force=asked.force)
    if not asked.run:
        findings += neighbours(keys, output, os.environ)
    warn(terminal, findings)
    version = version_text(needs(keys))
    since = {key: version_text(SINCE[key]) for key in keys if key in SINCE}
    terminal.record(
        {
            "ok": True, "output": str(output), "settings": keys, "needs": version, "since": since,
            "findings": [record_of(one) for one in findings],
        }
    )  # fmt: skip
    lines = [
        f"wrote {word(output)}, for Orthanc {version} or newer",
        f"  certificate  {keys['DicomTlsCertificate']}",
        f"  trusts       {keys['DicomTlsTrustedCertificates']}",
        f"  peers        {'must' if wanted.is_required else 'need not'} show a certificate",
        *(
            f"  modality     {one.name}: {one.aet}@{one.host}:{one.port}, over TLS"
            for one in wanted.modalities
        ),
        *(f"  needs        {number} for {key}" for key, number in since.items() if number != "1.9.0"),
    ]
    if not asked.run:
        lines += [
            f"put it beside Orthanc's other configuration files, which must not have {', '.join(keys)}:",
            f"  sudo cp {word(output)} /etc/orthanc/ && dicomtls orthanc --check /etc/orthanc",
            "or try it here:",
            f"  dicomtls orthanc --run{'' if output == DEFAULT_OUTPUT else f' -o {word(output)}'}",
        ]
    terminal.result("\n".join(lines))


def print_environment(terminal: Terminal, wanted: Wanted, version: Version | None) -> None:
    """Print the configuration as variables for a container."""
    from dicomtls_cli.services.orthanc.findings import absolute
    from dicomtls_cli.services.orthanc.settings import environment, examine, settings

    keys = settings(wanted)
    # In a container the user is another one.
    findings = [one for one in examine(keys, DEFAULT_OUTPUT, version) if one.code != "hidden-from-service"]
    variables = environment(keys)
    files = dict.fromkeys(str(absolute(path)) for path in (wanted.cert, wanted.key, wanted.trusted))
    warn(terminal, findings)
    terminal.record(
        {
            "ok": True, "environment": variables, "mounts": list(files),
            "findings": [record_of(one) for one in findings],
        }
    )  # fmt: skip
    terminal.result("\n".join(f"{name}={value}" for name, value in variables.items()))
    port = wanted.port or 4242
    mounts = " ".join(f"-v {shlex.quote(f'{file}:{file}:ro')}" for file in files)
    terminal.note(
        "into a file, then with the certificates and key where they are here:\n"
        f"  docker run --env-file FILE {mounts} -p {port}:{port} orthancteam/orthanc"
    )


def warn(terminal: Terminal, findings: Sequence[Finding]) -> None:
    """Warn of each finding, with what to do."""
    for one in findings:
        # What the user asked for needs no way out of it.
        terminal.warning(one.text if one.code == "not-required" else f"{one.text}; {one.fix}")


def record_of(one: Finding) -> dict[str, Any]:
    """Return a finding as JSON output has it."""
    return {
        "when": one.when.value,
        "code": one.code,
        "message": one.text,
        "fix": one.fix,
        "where": one.where or None,
    }
