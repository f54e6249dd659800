"""The command line: the only package that imports click or rich. Commands are imported when they run."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence
from itertools import pairwise

import click

from dicomtls_cli.cli.version import version_option
from dicomtls_cli.cli.words import StrictGroup, of_click
from dicomtls_cli.errors import DicomTlsError, ExitCode

_HERE = "dicomtls_cli.cli."
_COMMANDS = {
    "gencert": (_HERE + "gencert:gencert", "Make a private key and a self-signed certificate per name."),
    "bundle": (_HERE + "bundle:bundle", "Collect trusted certificates into one file, without keys."),
    "echoscu": (_HERE + "echoscu:echoscu", "Verify peers: C-ECHO over TLS."),
    "storescu": (_HERE + "storescu:storescu", "Send DICOM files and folders: C-STORE over TLS."),
    "storescp": (_HERE + "storescp:storescp", "Receive: a C-STORE and C-ECHO SCP over TLS."),
    "peers": (_HERE + "peers:peers", "List and check the peers that have a name."),
    "doctor": (_HERE + "doctor:doctor", "Say how a peer speaks TLS and DICOM, and what is wrong."),
    "inspect": (_HERE + "inspect:inspect", "Say what a certificate, key or peer is, and who takes it."),
    "orthanc": (_HERE + "orthanc:orthanc", "Write, check and try Orthanc's DICOM TLS configuration."),
    "demo": (_HERE + "demo:demo", "See all of it work on this machine, without a peer or a file."),
    "completion": (
        _HERE + "completion:completion",
        "Print what makes a shell complete the words of dicomtls.",
    ),
    "help": (_HERE + "help:help_command", "Explain a topic or a command."),
}


@click.group(
    cls=StrictGroup,
    commands_table=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@version_option
def group() -> None:
    """DICOM over TLS from the shell.

    Make certificates, verify peers, send and receive, and be told in plain words why a connection fails.
    TLS is the default; every command explains itself with --help.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and exit with its code (docs/exit-codes.md).

    `arguments` are the words after the program's name, those of the process unless given.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale cannot print is printed escaped
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        code = group.main(words, prog_name="dicomtls", standalone_mode=False)
        return int(code or 0)
    except DicomTlsError as error:
        return _report(error, words)
    except SystemExit:  # so click leaves where the reader of help has left
        return int(ExitCode.CANNOT_WRITE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message, err=True)
        return int(ExitCode.USAGE)
    except click.UsageError as error:
        return _report(of_click(error), words)
    except click.Abort:
        return _report(
            DicomTlsError("interrupted", slug="interrupted", exit_code=ExitCode.INTERRUPTED), words
        )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE):
            return _report(_no_output(error), words)
        if _has(words, "--debug", "-d"):
            raise
        return _report(
            DicomTlsError(
                f"unexpected {type(error).__name__}: {error}",
                "this is a defect of dicomtls; `--debug` shows where it happened",
                slug="unexpected",
            ),
            words,
        )


def _no_output(error: OSError) -> DicomTlsError:
    """Return the error for help or a version that found no room: all other output reports by itself."""
    from dicomtls_cli.cli.terminal import standard_output_failed

    return standard_output_failed(error)


def _report(error: DicomTlsError, words: list[str]) -> int:
    from dicomtls_cli.cli.terminal import report_error, wanted_color

    chosen = next((value for word, value in pairwise([*_options(words), ""]) if word == "--color"), None)
    report_error(error, as_json=_has(words, "--json"), color=wanted_color(chosen))
    return int(error.exit_code)


def _has(words: list[str], *spellings: str) -> bool:
    """Tell whether an option was given, also where the line could not be parsed."""
    options = _options(words)
    return any(spelling in options for spelling in spellings)


def _options(words: list[str]) -> list[str]:
    """Return the words that may be options, an attached value as a word of its own."""
    before = words[: words.index("--")] if "--" in words else words
    return [part for word in before for part in (word.split("=", 1) if word.startswith("--") else [word])]
