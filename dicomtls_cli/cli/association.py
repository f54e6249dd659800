"""The options about associations: AE titles, time-outs, PDU sizes, and who the user is."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

import click

from dicomtls_cli.cli.options import Decorator, with_options
from dicomtls_cli.cli.terminal import Terminal
from dicomtls_cli.cli.values import AE_TITLE, BOUND_AET, FILE, MAX_PDU, SECONDS, SECONDS_WITH_UNIT
from dicomtls_cli.cli.words import WORDS_META_KEY
from dicomtls_cli.errors import InputError, UsageError
from dicomtls_cli.services.peer import Timeouts, TlsOptions
from dicomtls_cli.tls.policy import PeerCheck, Role
from dicomtls_cli.upperlayer.items import UserIdentity
from dicomtls_cli.upperlayer.negotiation import user_identity

logger = logging.getLogger("dicomtls.association")


class Link(NamedTuple):
    """What the options say about every association: our AE title (None: unsaid), PDU sizes in bytes, IP family.

    `user` is who we say the user is, to a peer that asks for more than certificates; None says nothing.
    """

    aet: str | None
    timeouts: Timeouts
    maximum_length: int
    send_limit: int
    family: socket.AddressFamily
    user: UserIdentity | None = None


def association_options(role: Role) -> Decorator[Any]:
    """Add the options about associations; the command gets `link`, a Link.

    Stands below `output_options`, whose `terminal` it warns on, and below `tls_options`.
    """
    requestor = role is Role.REQUESTOR
    options = [
        click.option("-aet", "--aetitle", "--aet", "aet", type=AE_TITLE,
                     help=f"Own AE title ({'calling' if requestor else 'called'}) [DICOMTLS]."),
        click.option("-ts", "--socket-timeout", "--tls-timeout", "tls_timeout", type=SECONDS,
                     help="Seconds for the TLS handshake [10]."),
        click.option("-ta", "--acse-timeout", type=SECONDS,
                     help="Seconds for the association and its release [30]."),
        click.option("-td", "--dimse-timeout", type=SECONDS, help="Seconds for one DIMSE message [60]."),
        click.option("-pdu", "--max-pdu", "--max-pdulen-rcv", "max_pdu", type=MAX_PDU, default=131072,
                     help="Largest PDU we take, in bytes [131072]."),
        click.option("-4", "-i4", "--ipv4", "ipv4", is_flag=True, help="IPv4 only."),
        click.option("-6", "-i6", "--ipv6", "ipv6", is_flag=True, help="IPv6 only."),
    ]  # fmt: skip
    if not requestor:
        options += [
            click.option("--idle-timeout", type=SECONDS,
                         help="Seconds an association may be without a message [as --dimse-timeout]."),
            click.option("--request-timeout", type=SECONDS_WITH_UNIT, hidden=True,
                         help="The same as --acse-timeout."),
        ]  # fmt: skip
    if requestor:
        options += [
            click.option("-b", "--bind", "bound_aet", type=BOUND_AET, hidden=True, help="The same as --aet."),
            *(click.option(name, type=SECONDS_WITH_UNIT, hidden=True, help=f"Part of --{phase}-timeout.")
              for name, phase in _DCM4CHE_SCU_TIMEOUTS.items()),
            click.option("-to", "--timeout", "--connect-timeout", "connect_timeout", type=SECONDS,
                         help="Seconds to connect [10]."),
            click.option("--max-send-pdu", "--max-pdulen-snd", "max_send_pdu", type=MAX_PDU, default=131072,
                         help="Largest PDU we send, in bytes [131072]."),
            *_USER,
        ]  # fmt: skip

    def prepare(values: dict[str, Any]) -> dict[str, Any]:
        words = click.get_current_context().meta.get(WORDS_META_KEY, ())
        _refuse_bare_milliseconds(words, _DCM4CHE | {"--bind"} if requestor else _DCM4CHE)
        user = _take_user(values) if requestor else None
        link = _take_link(values, user)
        return {**values, "link": link}

    return lambda function: with_options(function, options, prepare)


def _take_link(values: dict[str, Any], user: UserIdentity | None) -> Link:
    aet, bound = values.pop("aet"), values.pop("bound_aet", None)
    if None not in (aet, bound) and aet != bound:
        raise UsageError(
            f"`--aet {aet}` and `-b {bound}` name different AE titles",
            "give one of them",
            slug="usage.contradiction",
        )
    ipv4, ipv6 = values.pop("ipv4"), values.pop("ipv6")
    family = (
        socket.AF_INET if ipv4 and not ipv6 else socket.AF_INET6 if ipv6 and not ipv4 else socket.AF_UNSPEC
    )
    timeouts = _take_timeouts(values)
    maximum = values.pop("max_pdu")
    return Link(aet or bound, timeouts, maximum, values.pop("max_send_pdu", 131072), family, user)


# ---------------------------------------------------------------------- time-outs

# dcm4che's, and the one of ours that covers them. Their numbers are milliseconds.
_DCM4CHE_SCU_TIMEOUTS = {
    "--accept-timeout": "acse",
    "--release-timeout": "acse",
    "--response-timeout": "dimse",
    "--store-timeout": "dimse",
}
_DCM4CHE_TIMEOUTS = {**_DCM4CHE_SCU_TIMEOUTS, "--request-timeout": "acse"}
_LONG_TIMEOUTS = ("--connect-timeout", "--tls-timeout", "--acse-timeout", "--dimse-timeout", "--idle-timeout")

# What only dcm4che spells so, as far as our own option lists have it.
_DCM4CHE = frozenset(
    {
        *("-b", "-c", "--connect", "--directory", "--max-pdulen-rcv", "--max-pdulen-snd", "--prior-high"),
        *("--prior-low", "--tls", "--tls-aes", "--tls-eia-https", "--tls-eia-ldaps", "--not-async"),
        *("--key-store", "--key-store-pass", "--key-pass", "--trust-store", "--trust-store-pass"),
        *("--user-pass", "--user-rsp", "--accept", "--filepath", "--response-delay", "--tls-noauth"),
        *_DCM4CHE_TIMEOUTS,
    }
)


def _refuse_bare_milliseconds(words: tuple[str, ...], dcm4che: frozenset[str]) -> None:
    """Refuse a time-out without a unit on a line in dcm4che's dialect: a thousandfold misunderstanding."""
    spelled = [word.partition("=")[0] for word in words]
    if dcm4che.isdisjoint(spelled):
        return
    for number, name in enumerate(spelled):
        value = words[number].partition("=")[2] or (words[number + 1] if number + 1 < len(words) else "")
        if name in _LONG_TIMEOUTS and value.isdigit():
            raise UsageError(
                f"`{name} {value}` on a line with dcm4che's options: seconds or milliseconds?",
                f"write the unit: `{name} {value}ms` or `{name} {value}s`",
                slug="usage.ambiguous-seconds",
            )


def _take_timeouts(values: dict[str, Any]) -> Timeouts:
    chosen = {}
    for phase in Timeouts._fields:
        ours = values.pop(f"{phase}_timeout", None)
        theirs = {
            spelled: seconds
            for spelled, covering in _DCM4CHE_TIMEOUTS.items()
            if covering == phase and (seconds := values.pop(_variable(spelled), None)) is not None
        }
        if ours is not None and set(theirs.values()) - {ours}:
            raise UsageError(
                f"`--{phase}-timeout` and {_listed(theirs)} say different times",
                "give one of them",
                slug="usage.contradiction",
            )
        if len(set(theirs.values())) > 1:
            logger.info("%s: one time-out covers both, the longer one counts", _listed(theirs))
        if ours is not None or theirs:
            chosen[phase] = ours if ours is not None else max(theirs.values())
    return Timeouts(**chosen)


def _variable(spelled: str) -> str:
    return spelled.removeprefix("--").replace("-", "_")


def _listed(spelled: dict[str, float]) -> str:
    return " and ".join(f"`{name}`" for name in spelled)


# ---------------------------------------------------------------------- user identity

_USER = [
    click.option("-usr", "--user", "user", metavar="NAME",
                 help="Tell the peer this user name (user identity negotiation, PS3.7 D.3.3.7)."),
    click.option("--user-pass-file", type=FILE, help="The user's passcode: the first line of this file."),
    click.option("-pwd", "--password", "--user-pass", "user_pass", metavar="PASS",
                 help="The passcode itself: visible in the process list."),
    click.option("-epw", "--empty-password", "empty_password", is_flag=True, help="An empty passcode."),
    click.option("-rsp", "--pos-response", "--user-rsp", "user_rsp", is_flag=True,
                 help="Ask the peer to confirm the user, and give up if it does not."),
]  # fmt: skip
_PASSCODES = ("user_pass_file", "user_pass", "empty_password")
_FOR_OTHERS = 0o066  # rights of group and others to read and write


def _take_user(values: dict[str, Any]) -> UserIdentity | None:
    """Take the options about the user off `values`; read the passcode, and warn of who else may see it."""
    name, asked = values.pop("user"), values.pop("user_rsp")
    given = {variable: values.pop(variable) for variable in _PASSCODES}
    given = {variable: value for variable, value in given.items() if value not in (None, False)}
    if name is None:
        if given or asked:
            what = "a passcode" if given else "a confirmation"
            raise UsageError(f"{what} without a user", "name one: `--user NAME`", slug="usage.no-user")
        return None
    if len(given) > 1:
        raise UsageError(
            "the passcode is said in more than one way",
            "give one of `--user-pass-file`, `--user-pass` and `--empty-password`",
            slug="usage.contradiction",
        )
    passcode = _passcode(given, values["terminal"])
    identity = user_identity(name, passcode, response_requested=asked)
    if passcode:
        _warn_of_listeners(values["tls"], values["terminal"])
    return identity


def _passcode(given: dict[str, Any], terminal: Terminal) -> str | None:
    if not given:
        return None
    ((variable, value),) = given.items()
    if variable == "user_pass_file":
        return _read_passcode(value, terminal)
    if variable == "user_pass":
        terminal.warning("a passcode on the command line is visible in the process list")
        return str(value)
    return ""


def _read_passcode(path: Path, terminal: Terminal) -> str:
    from dicomtls_cli.pki.load import read_passphrase

    line = read_passphrase(path, "passcode")
    if os.name == "posix" and path.stat().st_mode & _FOR_OTHERS:
        terminal.warning(f"`{path}` holds a passcode and is open to other users: `chmod 600` it")
    try:
        passcode = line.decode("utf-8-sig")
        why = "its first line is empty"
    except UnicodeDecodeError:
        passcode, why = "", "its first line is no UTF-8"
    if not passcode:
        raise InputError(
            f"the passcode file `{path}` holds no passcode: {why}",
            "write the passcode on its first line; an empty passcode is `--empty-password`",
            slug="file.no-passcode",
        )
    return passcode


def _warn_of_listeners(tls: TlsOptions | None, terminal: Terminal) -> None:
    if tls is None:
        terminal.warning("the passcode travels in the clear, for everybody on the network to read")
    elif tls.peer_check is PeerCheck.IGNORE:
        terminal.warning("the passcode goes to whoever answers")
