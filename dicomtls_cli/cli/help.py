"""`dicomtls help`."""

from __future__ import annotations

import shutil

import click

from dicomtls_cli.cli.formatter import HelpFormatter
from dicomtls_cli.cli.terminal import show
from dicomtls_cli.cli.topics import TOPICS, topic_text
from dicomtls_cli.cli.version import version_option
from dicomtls_cli.cli.words import StrictCommand, StrictGroup, did_you_mean
from dicomtls_cli.errors import UsageError

_WIDEST = 100  # longer lines are hard to read


@click.command("help", cls=StrictCommand, short_help="Explain a topic or a command.")
@click.argument("topic", required=False, metavar="[TOPIC|COMMAND]")
@version_option
@click.pass_context
def help_command(ctx: click.Context, topic: str | None) -> int:
    """Explain a topic, or show the help of a command; without a word, list both.

    The topics are passages of the documents; they need no network.
    """
    root = ctx.find_root()
    assert isinstance(root.command, StrictGroup)
    if topic is None:
        show(_contents(root, root.command))
    elif topic in TOPICS:
        show(topic_text(topic, min(shutil.get_terminal_size().columns, _WIDEST)))
    else:
        show(_command_help(root, root.command, topic))
    return 0


def _contents(root: click.Context, group: StrictGroup) -> str:
    formatter = HelpFormatter(max_width=root.max_content_width or 80)
    formatter.write_usage("dicomtls help", "[TOPIC|COMMAND]")
    with formatter.section("Topics"):
        formatter.write_dl(list(TOPICS.items()))
    group.format_commands(root, formatter)
    return formatter.getvalue().rstrip("\n")


def _command_help(root: click.Context, group: StrictGroup, name: str) -> str:
    command = group.get_command(root, name)
    if command is None:
        names = [*TOPICS, *group.list_commands(root)]
        raise UsageError(
            f"no such topic or command `{name}`",
            did_you_mean(name, names, "`dicomtls help` lists them"),
            slug="usage.no-such-topic",
        )
    return command.get_help(click.Context(command, root, name))
