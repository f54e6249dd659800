"""`dicomtls bundle`: collect certificates into one trust file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.values import FILE
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.errors import printable

if TYPE_CHECKING:
    from dicomtls_cli.cli.terminal import Terminal
    from dicomtls_cli.pki.bundle import Bundle


@click.command(cls=StrictCommand)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=FILE)
@click.option(
    "--output",
    "-o",
    "output",
    required=True,
    type=FILE,
    metavar="OUT",
    help="The file to write.",
)
@click.option(
    "--strip-keys", is_flag=True, help="Drop private keys from the inputs instead of refusing them."
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@output_options
def bundle(terminal: Terminal, inputs: tuple[Path, ...], output: Path, strip_keys: bool, force: bool) -> None:
    """Write the certificates of all INPUTs into one PEM file for `--trust`.

    An INPUT is a PEM file with any number of certificates, a DER file, or a directory of such (.pem, .crt,
    .cer, .der). Each certificate is written once, in the order of the INPUTs.
    """
    from dicomtls_cli.pki.bundle import collect, render
    from dicomtls_cli.pki.files import NewFile, check_targets, refuse_output_among_inputs, write_files

    refuse_output_among_inputs(output, inputs)
    check_targets([output], force=force)
    collected = collect(inputs, strip_keys=strip_keys)
    refuse_output_among_inputs(output, collected.files)
    if collected.keys_dropped:
        terminal.warning(f"{_count(collected.keys_dropped, 'private key')} in the inputs left out")
    write_files([NewFile(output, render(collected))], force=force)
    _tell(terminal, output, collected)


def _tell(terminal: Terminal, output: Path, collected: Bundle) -> None:
    ends = [
        None if c.not_after is None else f"{c.not_after:%Y-%m-%dT%H:%M:%SZ}" for c in collected.certificates
    ]
    terminal.record(
        {
            "ok": True,
            "output": str(output),
            "certificates": [
                {"subject": c.subject, "not_after": end, "sha256": c.sha256}
                for c, end in zip(collected.certificates, ends, strict=True)
            ],
            "duplicates": collected.duplicates,
            "keys_dropped": collected.keys_dropped,
        }
    )
    twice = f" ({_count(collected.duplicates, 'duplicate')} left out)" if collected.duplicates else ""
    lines = [f"wrote {printable(str(output))}: {_count(len(collected.certificates), 'certificate')}{twice}"]
    for one, end in zip(collected.certificates, ends, strict=True):
        lines += [
            f"  {printable(one.subject or 'unreadable subject', 200)}",
            f"    until {end or 'unreadable'}, sha256 {one.sha256}",
        ]
    terminal.result("\n".join(lines))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
