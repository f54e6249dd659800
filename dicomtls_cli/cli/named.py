"""`@NAME` on a command line: the peer of that name in a peers file, whose settings stand in for options."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.cli.association import Link, association_options
from dicomtls_cli.cli.options import output_options
from dicomtls_cli.cli.passphrase import PASSPHRASE_VARIABLE
from dicomtls_cli.cli.requestor import make_requestor
from dicomtls_cli.cli.tls import tls_options
from dicomtls_cli.cli.values import FILE, take_peer
from dicomtls_cli.cli.words import OPTIONS_META_KEY, of_click
from dicomtls_cli.errors import DicomTlsError
from dicomtls_cli.services.peer import Target, TlsOptions
from dicomtls_cli.services.peers_file import OF_TLS, NamedPeer, find_peer
from dicomtls_cli.tls.policy import Role

# What belongs together: an option on the line takes the place of all the settings of its set.
_SETS = (
    {"cert", "key", "tls_pair", "key_store", "key_store_pass", "key_passphrase_file", "passphrase", "ask",
     "anonymous_tls"},
    {"trust", "trust_ca", "trust_store", "trust_passphrase_file", "trust_store_pass"},
    {"aet", "bound_aet"},
)  # fmt: skip
_TLS = {setting.replace("-", "_") for setting in OF_TLS}


def stand_in(command: click.Command, ctx: click.Context, words: Sequence[str], at: int) -> list[str]:
    """Return `words` with the address of the peer that `words[at]` names in its place.

    Its settings become the defaults of `ctx`: what the line says goes before them. Raises InputError.
    """
    given = _given(command, ctx, words)
    peer = find_peer(words[at][1:], _config(words))
    defaults = _defaults(peer, given)
    ctx.default_map = defaults
    address = peer.address if "aec" in given else peer.called_address
    return [*words[:at], address, *words[at + 1 :]]


def named_target(ctx: click.Context, word: str) -> Target:
    """Return the peer that `word` names, one of several on the line of `ctx`, and how it is reached.

    The options of the line count for it as if it were the only one. Raises DicomTlsError, which names the peer.
    """
    command = ctx.command
    with _about(word):
        alone = command.make_context(ctx.info_name, [*ctx.meta[OPTIONS_META_KEY], word], parent=ctx.parent)
        with alone:
            found: Target = alone.invoke(_target, **alone.params)
            return found


def target_of(name: str, config: Path | None) -> Target:
    """Return the peer called `name` and how it is reached, as `echoscu @NAME` alone would reach it.

    Raises DicomTlsError, which names the peer.
    """
    from dicomtls_cli.cli.echoscu import echoscu

    words = [f"@{name}", *(["--config", str(config)] if config is not None else [])]
    with _about(words[0]):
        ctx = echoscu.make_context("dicomtls echoscu", words)
        with ctx:
            found: Target = ctx.invoke(_target, **ctx.params)
            return found


@contextlib.contextmanager
def _about(word: str) -> Iterator[None]:
    """Say of which peer it is true where something is wrong."""
    try:
        yield
    except (DicomTlsError, click.UsageError) as error:
        wrong = of_click(error) if isinstance(error, click.UsageError) else error
        if wrong.slug.startswith("config."):  # these name it
            raise
        message = f"{word}: {wrong.message}"
        raise DicomTlsError(message, wrong.hint, slug=wrong.slug, exit_code=wrong.exit_code) from error


@output_options
@tls_options(Role.REQUESTOR)
@association_options(Role.REQUESTOR)
def _target(
    words: tuple[str, ...], aec: str | None, tls: TlsOptions | None, link: Link, **_: object
) -> Target:
    return Target(take_peer(list(words), aec=aec, tls=tls is not None)[0], make_requestor(link, tls))


def _defaults(peer: NamedPeer, given: set[str]) -> dict[str, Any]:
    """Return the settings of `peer` that no option of the line replaces, by the parameters of the options."""
    settings = {key.replace("-", "_"): value for key, value in peer.settings.items() if key != "aec"}
    replaced = set(given)
    for belonging in _SETS:
        if belonging & given:
            replaced |= belonging
    if "no_tls" in given:
        replaced |= _TLS
    elif given & (_TLS | _SETS[0] | _SETS[1]):
        replaced.add("no_tls")
    if PASSPHRASE_VARIABLE in os.environ:
        replaced.add("key_passphrase_file")
    return {name: value for name, value in settings.items() if name not in replaced}


def _given(command: click.Command, ctx: click.Context, words: Sequence[str]) -> set[str]:
    """Return the parameters that the options among `words` set, a switch's flags as what they switch."""
    written = {word.partition("=")[0] if word.startswith("--") else word for word in words}
    return {
        name.rstrip("0123456789").rstrip("_") if name[-1:].isdigit() else name
        for option in command.get_params(ctx)
        if isinstance(option, click.Option) and not written.isdisjoint(option.opts)
        for name in [option.name or ""]
    }


def _config(words: Sequence[str]) -> Path | None:
    """Return the peers file that is named, the last one as with any option."""
    found = None
    for word, following in pairwise([*words, ""]):
        if word == "--config":
            found = FILE.convert(following, None, None)
        elif word.startswith("--config="):
            found = FILE.convert(word.partition("=")[2], None, None)
    return found
