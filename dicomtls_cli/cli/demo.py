"""`dicomtls demo`."""

from __future__ import annotations

import click

from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.words import StrictCommand
from dicomtls_cli.services.demo import run_demo


@click.command(cls=StrictCommand, short_help="See all of it work on this machine.")
@output_options
def demo(terminal: Terminal) -> int:
    """See all of it work on this machine, without a peer or a file.

    Makes identities, starts a receiver with mutual TLS on loopback, verifies and stores, from a pynetdicom
    program too, shows how a stranger is refused, and leaves nothing behind. The exit code is 0 only if all
    of it went as it should.
    """
    count = 0
    for count, step in enumerate(run_demo(), 1):
        terminal.heading(f"{count}. {step.title}")
        terminal.result(f"   $ {step.command}")
        for line in step.output.splitlines():
            terminal.result(f"   {line}")
        terminal.record({"ok": True, "step": step.title, "command": step.command, "output": step.output})
    terminal.result(f"all {count} steps went as they should")
    return 0
