"""`--version`, on the program and on every command."""

from __future__ import annotations

import click


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import platform
        import ssl

        from dicomtls_cli import __version__

        click.echo(f"dicomtls {__version__} ({ssl.OPENSSL_VERSION}, Python {platform.python_version()})")
        ctx.exit()


version_option = click.option(
    "-V",
    "--version",
    "version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of dicomtls, OpenSSL and Python.",
)
