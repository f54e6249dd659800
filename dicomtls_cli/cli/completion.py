"""`dicomtls completion`."""

from __future__ import annotations

from pathlib import Path

import click

from dicomtls_cli.cli.terminal import show
from dicomtls_cli.cli.version import version_option
from dicomtls_cli.cli.words import StrictCommand

_SCRIPTS = {
    "bash": "dicomtls.bash",
    "zsh": "_dicomtls",
    "fish": "dicomtls.fish",
    "powershell": "dicomtls.ps1",
}
_FILES = ":files"
"""The first word of the line that lets the shell complete names of files; no candidate begins with a colon."""


@click.command(cls=StrictCommand, short_help="Print what makes a shell complete the words of dicomtls.")
@click.argument("shell", type=click.Choice(list(_SCRIPTS)), metavar="SHELL")
@click.argument("words", nargs=-1, metavar="")
@click.option("--word", "begun", hidden=True, help="Print what may stand for this word after `-- WORDS`.")
@version_option
def completion(shell: str, words: tuple[str, ...], begun: str | None) -> int:
    """Print the script that makes SHELL complete commands, options, values and files.

    SHELL is bash (4.4 or newer), zsh, fish or powershell. Put the script where the shell looks for it, and
    start a new one:

    \b
      dicomtls completion bash > ~/.local/share/bash-completion/completions/dicomtls
      dicomtls completion zsh > ~/.zfunc/_dicomtls     # with `fpath+=~/.zfunc` before compinit in ~/.zshrc
      dicomtls completion fish > ~/.config/fish/completions/dicomtls.fish
      dicomtls completion powershell >> $PROFILE
    """  # noqa: D301
    if begun is None:
        if words:
            raise click.UsageError(f"got an unexpected argument ({words[0]})")
        script = Path(__file__).with_name("shells") / _SCRIPTS[shell]
        show(script.read_text(encoding="utf-8").rstrip("\n"))
        return 0
    from dicomtls_cli.cli import group
    from dicomtls_cli.cli.candidates import find_candidates

    found = find_candidates(group, [_unquoted(word) for word in words] if shell == "bash" else words, begun)
    lines = [f"{word.value}\t{word.about}".rstrip("\t") for word in found.words]
    if found.files_after is not None:
        lines.append(f"{_FILES}\t{found.files_after}")
    if lines:
        show("\n".join(lines))
    return 0


def _unquoted(word: str) -> str:
    """Return a word of a line without its quotes: bash hands words over as they were typed."""
    import shlex

    try:
        return "".join(shlex.split(word))
    except ValueError:
        return word
