"""`dicomtls orthanc`: write Orthanc's DICOM TLS configuration, check one, try one."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dicomtls_cli.cli.configuring import (
    DEFAULT_OUTPUT,
    Asked,
    print_environment,
    record_of,
    wanted_from,
    warn,
    write,
)
from dicomtls_cli.cli.interrupt import interruptible
from dicomtls_cli.cli.options import Switch, output_options
from dicomtls_cli.cli.terminal import counted
from dicomtls_cli.cli.values import AE_TITLE, FILE
from dicomtls_cli.cli.words import Dialect, Refused, StrictCommand
from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError, UsageError, printable

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.services.orthanc.findings import Version
    from dicomtls_cli.services.orthanc.trial import Running

_BUNDLE = "make it one PEM file: `dicomtls bundle FILE... -o trusted.crt`, then `--trust trusted.crt`"
_DECRYPT = "decrypt a copy: `openssl pkey -in KEY -out PLAIN`, then `--key PLAIN`"
_PEER_CERT = Switch(
    "peer_cert",
    {("-rc", "--require-peer-cert"): "require", ("-vc", "--verify-peer-cert"): "verify"},
)
_REFUSED = {
    "--key-store": Refused(
        "Orthanc reads PEM files only",
        "convert it: `openssl pkcs12 -in P12 -nodes -out orthanc.pem`, then `--cert orthanc.pem`",
    ),
    "--trust-store": Refused("Orthanc reads one PEM file", _BUNDLE),
    "+cd": Refused("Orthanc reads one PEM file", _BUNDLE),
    "--add-cert-dir": Refused("Orthanc reads one PEM file", _BUNDLE),
    "+pw": Refused("Orthanc cannot open an encrypted key", _DECRYPT),
    "--use-passwd": Refused("Orthanc cannot open an encrypted key", _DECRYPT),
    "--key-passphrase-file": Refused("Orthanc cannot open an encrypted key", _DECRYPT),
    "-ic": Refused("Orthanc before 1.12.4 has no such mode", "write `--peer-cert verify`"),
    "--ignore-peer-cert": Refused("Orthanc before 1.12.4 has no such mode", "write `--peer-cert verify`"),
    "--no-tls": Refused("this command is about TLS", 'plain DICOM needs no file: `"DicomTlsEnabled": false`'),
}


@click.command(cls=StrictCommand, dialect=Dialect(refused=_REFUSED))
@click.option("--cert", type=FILE, help="Orthanc's certificate, PEM; may hold its chain, and the key too.")
@click.option("--key", type=FILE, help="Its private key, PEM, not encrypted.")
@click.option(
    "+tls", "--enable-tls", "tls_pair", type=FILE, nargs=2, metavar="KEY CERT",
    help="The same in DCMTK's order: key first.",
)  # fmt: skip
@click.option(
    "--trust", "+cf", "--add-cert-file", "trust", multiple=True, metavar="FILE",
    help="The peers' certificates: one PEM file, as `dicomtls bundle` writes it.",
)  # fmt: skip
@click.option(
    "--peer-cert", type=click.Choice(["require", "verify"]),
    help="Peers must show a trusted certificate [require]; may show none [verify; from Orthanc 1.12.4 on none is "
    "asked for, and Orthanc verifies nobody] (DCMTK: -rc, -vc).",
)  # fmt: skip
@_PEER_CERT.flags
@click.option(
    "--modality", "modalities", multiple=True, metavar="NAME=AET@HOST[:PORT]",
    help="A DICOM node that Orthanc knows as NAME and speaks TLS to [port 2762]; repeat.",
)  # fmt: skip
@click.option("-aet", "--aetitle", "--aet", "aet", type=AE_TITLE, help="Orthanc's AE title  [not written]")
@click.option("--port", metavar="PORT", help="The port Orthanc listens on  [not written: Orthanc's is 4242]")
@click.option(
    "--min-tls", type=click.Choice(["1.2", "1.3"]),
    help="The oldest TLS version taken; with --orthanc-version 1.12.4 or newer.",
)  # fmt: skip
@click.option(
    "--tls-cipher", multiple=True, metavar="NAME",
    help="Allow exactly this cipher suite, IANA's or OpenSSL's name; with --min-tls; repeat.",
)  # fmt: skip
@click.option(
    "--orthanc-version", metavar="X.Y.Z",
    help="The Orthanc it is for  [default: any from 1.9.3 on; for --check and --run the one installed here]",
)  # fmt: skip
@click.option(
    "-o", "--output", "output", type=FILE, metavar="FILE", help="The file to write  [dicom-tls.json]"
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--docker", is_flag=True,
    help="Print the same as ORTHANC__ variables, for an --env-file of orthancteam/orthanc, and write nothing.",
)  # fmt: skip
@click.option(
    "--check", "checked", type=FILE, metavar="FILE|DIR",
    help="Say what will fail with this configuration, at the start or with a peer; exit 40 if anything will.",
)  # fmt: skip
@click.option(
    "--run", is_flag=True,
    help="Then run the Orthanc installed here with FILE, its data in a temporary folder, until Ctrl-C. Without --cert "
    "a FILE that is there is run.",
)  # fmt: skip
@output_options
def orthanc(terminal: Terminal, **given: Any) -> int:
    """Write DICOM TLS for Orthanc into dicom-tls.json, or check what is there.

    The file holds nothing but what concerns DICOM TLS, and stands beside Orthanc's other configuration files
    in one folder. None of its keys may be in another of them: Orthanc would not start.

    \b
      dicomtls orthanc --cert orthanc.crt --key orthanc.key --trust trusted.crt --modality ct=CT@10.0.0.5:2762
      dicomtls orthanc --check /etc/orthanc
    """  # noqa: D301
    given["peer_cert"] = _PEER_CERT.take(given)
    asked = Asked(**given)
    _check_combination(asked)
    if asked.checked is not None:
        return _check(terminal, asked.checked, asked.version)
    output = asked.output or DEFAULT_OUTPUT
    if asked.writes:
        wanted = wanted_from(asked)
        if asked.docker:
            print_environment(terminal, wanted, asked.version)
            return 0
        write(terminal, wanted, output, asked)
    if asked.run:
        return _run(terminal, output, asked.version)
    return 0


def _check_combination(asked: Asked) -> None:
    about_content = {
        "--cert": asked.cert, "--key": asked.key, "+tls": asked.tls_pair, "--trust": asked.trust,
        "--peer-cert": asked.peer_cert, "--modality": asked.modalities, "--aet": asked.aet, "--port": asked.port,
        "--min-tls": asked.min_tls, "--tls-cipher": asked.tls_cipher,
    }  # fmt: skip
    used = [option for option, value in about_content.items() if value]
    about_writing = {"--output": asked.output, "--force": asked.force, "--run": asked.run}
    clashes: list[tuple[str, Sequence[str]]] = []
    if asked.checked is not None:
        writing = [option for option, value in {**about_writing, "--docker": asked.docker}.items() if value]
        clashes.append(("--check", [*used, *writing]))
    if asked.docker:
        clashes.append(("--docker", [option for option, value in about_writing.items() if value]))
    if not asked.writes:
        clashes.append(("--run without --cert", [*used, *(["--force"] if asked.force else [])]))
    if asked.tls_pair:
        clashes.append(("+tls", [option for option in ("--cert", "--key") if option in used]))
    for option, others in clashes:
        if others:
            raise UsageError(
                f"`{option}` and `{others[0]}` do not go together",
                "leave one of them out",
                slug="usage.contradiction",
            )
    if asked.tls_cipher and asked.min_tls is None:
        raise UsageError(
            "`--tls-cipher` means nothing without `--min-tls`",
            "add `--min-tls 1.2`",
            slug="usage.contradiction",
        )
    if asked.min_tls is not None and (asked.version or (0, 0, 0)) < (1, 12, 4):
        raise UsageError(
            "`--min-tls` needs Orthanc 1.12.4: older ones pass over it in silence",
            "say that it is new enough: `--orthanc-version 1.12.4`; older ones take TLS 1.2 and 1.3 as they are",
            slug="usage.orthanc-too-old",
        )


# ---------------------------------------------------------------------- checking


def _check(terminal: Terminal, path: Path, named: Version | None) -> int:
    from dicomtls_cli.services.orthanc.check import check
    from dicomtls_cli.services.orthanc.configuration import read_configuration
    from dicomtls_cli.services.orthanc.findings import When, version_text
    from dicomtls_cli.services.orthanc.trial import installed_version

    configuration = read_configuration(path, os.environ)
    version = named or installed_version()
    findings = check(configuration, version=version)
    failing = [one for one in findings if one.when is not When.NOTE]
    for one in findings:
        place = f"{one.where}: " if one.where else ""
        # One line each, whatever the configuration holds.
        terminal.result(printable(f"{one.when.words}: {place}{one.text}; fix: {one.fix}", limit=5000))
    terminal.record(
        {
            "ok": not failing, "checked": str(path),
            "orthanc_version": None if version is None else version_text(version),
            "findings": [record_of(one) for one in findings],
        }
    )  # fmt: skip
    notes = len(findings) - len(failing)
    told = counted(len(failing), "fault") if failing else "no fault"
    judge = (
        f"Orthanc {version_text(version)}{'' if named else ', installed here'}" if version else "any Orthanc"
    )
    told += f" and {counted(notes, 'note')}" if notes else ""
    terminal.result(f"{told} ({judge})")
    return int(ExitCode.FINDING) if failing else 0


# ---------------------------------------------------------------------- a trial


def _run(terminal: Terminal, path: Path, named: Version | None) -> int:
    from dicomtls_cli.services.orthanc.check import check
    from dicomtls_cli.services.orthanc.configuration import read_configuration
    from dicomtls_cli.services.orthanc.findings import When
    from dicomtls_cli.services.orthanc.trial import installed_version, running

    configuration = read_configuration(path, os.environ)
    findings = check(configuration, version=named or installed_version(), probe_ports=False)
    for one in findings:
        if one.when is When.START:
            place = f"{one.where}: " if one.where else ""
            raise InputError(f"{place}{one.text}", one.fix, slug="orthanc.unusable-file")
    warn(terminal, [one for one in findings if one.when is When.PEER])
    keys = {key: setting.value for key, setting in configuration.settings.items()}
    try:
        with interruptible(), _ended_by_hangup(), running(keys) as trial:
            _tell_trial(terminal, trial, keys)
            trial.wait()
    except DicomTlsError as error:
        if error.slug != "interrupted":
            raise
    return 0


@contextlib.contextmanager
def _ended_by_hangup() -> Iterator[None]:
    """Let a terminal that is closed end the trial as Ctrl-C does: nobody else would end Orthanc."""
    number = getattr(signal, "SIGHUP", None)
    if number is None or signal.getsignal(number) is not signal.SIG_DFL:  # Windows; nohup
        yield
        return
    signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _tell_trial(terminal: Terminal, trial: Running, keys: Mapping[str, Any]) -> None:
    port = trial.dicom_port if keys.get("DicomServerEnabled", True) else None
    terminal.record(
        {
            "ok": True, "event": "listening", "pid": trial.process.pid, "dicom_port": port,
            "http_port": trial.http_port, "aet": trial.aet,
        }
    )  # fmt: skip
    listens = f"DICOM on port {port}" if port else "no DICOM (`DicomServerEnabled` is false)"
    lines = [
        f"Orthanc {trial.aet} listens: {listens}, HTTP on http://localhost:{trial.http_port} "
        "(this machine only, no password)"
    ]
    if port:
        lines.append(f"  dicomtls echoscu localhost {port} --aec {shlex.quote(trial.aet)} {_shown(keys)}")
    terminal.result("\n".join([*lines, "Ctrl-C ends it, and all it received is gone"]))


def _shown(keys: Mapping[str, Any]) -> str:
    """Return the options of a peer that is to reach an Orthanc with this configuration."""
    if keys.get("DicomTlsEnabled") is not True:
        return "--no-tls"
    return f"--cert CERT --key KEY --trust {shlex.quote(str(keys['DicomTlsCertificate']))}"
