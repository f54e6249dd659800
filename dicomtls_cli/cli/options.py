"""Options that several commands share, each set as one decorator that hands its command one object.

`output_options` gives `terminal`, `tls_options(role)` gives `tls`, `association_options` gives `link`.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from dicomtls_cli.cli.terminal import Terminal, is_interactive, to_stdout
from dicomtls_cli.cli.values import AE_TITLE, BOUND_AET, FILE, MAX_PDU, SECONDS, SECONDS_WITH_UNIT, not_empty
from dicomtls_cli.cli.version import version_option
from dicomtls_cli.cli.words import STATED_META_KEY, WORDS_META_KEY
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import Timeouts, TlsOptions
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role
from dicomtls_cli.tls.profiles import PROFILES, SUITES, SUITES_13

logger = logging.getLogger("dicomtls.tls")

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

# Whether a file can be read is found out where it is read: not by click, which calls it a wrong word.
_PASSPHRASE_VARIABLE = "DICOMTLS_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


def with_options(function: Callable[..., Any], options: Sequence[Any], prepare: Callable[..., Any]) -> Any:
    """Return `function` with `options`, whose values `prepare` turns into the arguments it gets instead."""

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        return function(**prepare(values))

    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in reversed(options):
        command = option(command)
    return command


class Switch:
    """One setting that an option and DCMTK's flags can write; contradicting ones are a usage error.

    The flags are not in the help: they would bury the option, whose own text names them.
    """

    def __init__(self, name: str, flags: dict[tuple[str, ...], str]) -> None:
        self.name = name
        self.values = {f"{name}_{number}": value for number, value in enumerate(flags.values())}
        self.options = [
            click.option(*spellings, variable, is_flag=True, hidden=True)
            for spellings, variable in zip(flags, self.values, strict=True)
        ]

    def flags(self, function: Callable[..., Any]) -> Any:
        """Add the flags to a command, as a decorator."""
        for option in reversed(self.options):
            function = option(function)
        return function

    def take(self, values: dict[str, Any]) -> str | None:
        """Take the flags and the option off `values`; return the one value they agree on."""
        chosen = {value for variable, value in self.values.items() if values.pop(variable)}
        named = values.pop(self.name)
        chosen |= {named} if named is not None else set()
        if len(chosen) > 1:
            raise UsageError(
                f"contradicting options for `--{self.name.replace('_', '-')}`: {', '.join(sorted(chosen))}",
                "give one of them",
                slug="usage.contradiction",
            )
        return chosen.pop() if chosen else None


# ---------------------------------------------------------------------- output

_DCMTK_LEVELS = {"fatal": -1, "error": -1, "warn": 0, "info": 1, "debug": 2, "trace": 2}

_OUTPUT = [
    click.option(
        "-v", "--verbose", count=True, help="Say what happens; -vv also dumps the A-ASSOCIATE PDUs."
    ),
    click.option("-d", "--debug", is_flag=True, help="Say everything, and show tracebacks."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option(
        "-ll", "--log-level", type=click.Choice(list(_DCMTK_LEVELS)), help="The same in DCMTK's words."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print results and errors as JSON lines on stdout."),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        help="Colour the output [auto: on a terminal, unless NO_COLOR is set].",
    ),
    click.option("--log-file", type=FILE, help="Append the log to this file, with times."),
    version_option,
]


def output_options(function: Callable[..., Any]) -> Any:
    """Add the options about what is printed; the command gets `terminal`."""
    return with_options(function, _OUTPUT, _prepare_output)


def _prepare_output(values: dict[str, Any]) -> dict[str, Any]:
    verbose, debug, quiet = values.pop("verbose"), values.pop("debug"), values.pop("quiet")
    level = values.pop("log_level")
    if quiet and (verbose or debug):
        raise UsageError(
            "`--quiet` contradicts `--verbose` and `--debug`", "give one of them", slug="usage.contradiction"
        )
    verbosity = -1 if quiet else 2 if debug else min(verbose, 2)
    if level is not None:
        verbosity = max(verbosity, _DCMTK_LEVELS[level]) if verbosity > 0 else _DCMTK_LEVELS[level]
    color = {"always": True, "never": False}.get(values.pop("color"))
    if color is None and "NO_COLOR" in os.environ:
        color = False
    terminal = Terminal(verbosity, values.pop("as_json"), color, values.pop("log_file"))
    terminal.start(click.get_current_context().meta.get(STATED_META_KEY, []))
    return {**values, "terminal": terminal}


# ---------------------------------------------------------------------- TLS


def _print_and_exit(lines: Callable[[], Sequence[str]]) -> Any:
    def callback(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            for line in lines():
                to_stdout(line)
            ctx.exit()

    return callback


def _profile_lines() -> list[str]:
    return [
        f"{profile.name}  PS3.15 {profile.section}{', retired' if profile.retired else ', the default'}: "
        f"{', '.join(v.name.replace('TLSv1_', 'TLS 1.') for v in profile.versions)}; {' '.join(profile.suites)}"
        for profile in PROFILES.values()
    ]


def _cipher_lines() -> list[str]:
    return [
        *(f"{name}  (TLS 1.3)" for name in SUITES_13),
        *(f"{iana}  {name}" for iana, name in SUITES.items()),
    ]


_PROFILE = Switch(
    "tls_profile",
    {
        ("+pg", "--profile-8996", "--profile-bcp195-rfc9325"): "bcp195-rfc9325",
        ("+py", "--profile-bcp195-nd"): "bcp195-nd",
        ("+px", "--profile-bcp195"): "bcp195",
        ("+pz", "--profile-bcp195-ex", "--profile-bcp195-ext"): "bcp195-ext",
        ("+pa", "--profile-aes", "--tls", "--tls-aes"): "aes",
    },
)
_REQUESTOR_CHECK = Switch(
    "peer_cert",
    {("-rc", "--require-peer-cert"): "require", ("-ic", "--ignore-peer-cert"): "ignore"},
)
_ACCEPTOR_CHECK = Switch(
    "peer_cert",
    {
        ("-rc", "--require-peer-cert"): "require",
        ("-vc", "--verify-peer-cert"): "verify",
        ("-ic", "--ignore-peer-cert"): "ignore",
    },
)
_REQUESTOR_IDENTITY = Switch("identity", {("--tls-eia-https", "--tls-eia-ldaps"): "name"})
_ACCEPTOR_IDENTITY = Switch("identity", {})
_CHECK_HELP = {
    Role.REQUESTOR: "The peer's certificate must be trusted [require], or is not looked at [ignore] (DCMTK: -rc, -ic).",
    Role.ACCEPTOR: "A peer must show a trusted certificate [require]; may show none, but no untrusted one "
    "[verify]; is not asked for one [ignore] (DCMTK: -rc, -vc, -ic).",
}


def _tls_option_list(role: Role, check: Switch, identity: Switch) -> list[Any]:
    requestor = role is Role.REQUESTOR
    identities = [i.value for i in Identity if requestor or i is not Identity.NAME]
    options = [
        click.option("--cert", type=FILE, help="Own certificate, PEM or DER; may hold its chain, and the key too."),
        click.option("--key", type=FILE, help="Its private key, PEM or DER."),
        click.option("+tls", "--enable-tls", "tls_pair", type=FILE, nargs=2, metavar="KEY CERT",
                     help="The same in DCMTK's order: key first."),
        click.option("--key-passphrase-file", type=FILE,
                     help=f"Passphrase of an encrypted key: the first line of this file. Else ${_PASSPHRASE_VARIABLE}, "
                     "else asked for on a terminal."),
        click.option("+pw", "--use-passwd", "passphrase", metavar="PASS",
                     help="The passphrase itself: visible in the process list."),
        click.option("+ps", "--std-passwd", "ask", is_flag=True, help="Ask for the passphrase."),
        click.option("--trust", "+cf", "--add-cert-file", "+cd", "--add-cert-dir", "trust", multiple=True,
                     metavar="FILE|DIR",
                     help="Trusted certificates of peers or CAs; may be repeated. `system`: this machine's CAs."),
        click.option("--trust-ca", multiple=True, type=FILE, metavar="FILE",
                     help="A certificate that is a CA on purpose, although it does not say keyCertSign."),
        click.option("--peer-cert", type=click.Choice(["require", *([] if requestor else ["verify"]), "ignore"]),
                     help=_CHECK_HELP[role]),
        *check.options,
        click.option("--identity", type=click.Choice(identities),
                     help="How a valid peer is known to be the right one [auto] (docs/security.md)."),
        *identity.options,
        click.option("--tls-profile", type=click.Choice(list(PROFILES)),
                     help="Secure transport profile of PS3.15 Annex B [bcp195-rfc9325] "
                     "(DCMTK: +pg +py +px +pz +pa; dcm4che: --tls)."),
        *_PROFILE.options,
        click.option("--list-profiles", "+ph", is_flag=True, expose_value=False, is_eager=True,
                     callback=_print_and_exit(_profile_lines), help="List the profiles and exit."),
        click.option("--tls-cipher", multiple=True, metavar="NAME",
                     help="Allow exactly this TLS 1.2 suite; may be repeated. A TLS 1.3 name chooses the version."),
        click.option("+cs", "--cipher", "extra_cipher", multiple=True, metavar="NAME",
                     help="Allow this cipher suite too."),
        click.option("--list-ciphers", "+cc", is_flag=True, expose_value=False, is_eager=True,
                     callback=_print_and_exit(_cipher_lines), help="List the cipher suites and exit."),
        click.option("--tls12", is_flag=True, help="Allow TLS 1.2 (alone: nothing else)."),
        click.option("--tls13", is_flag=True, help="Allow TLS 1.3 (alone: nothing else)."),
        click.option("--x509-strict", is_flag=True, help="Hold certificates to RFC 5280 to the letter."),
        click.option("--no-tls", "--disable-tls", is_flag=True, help="Plain DICOM, without any protection."),
    ]  # fmt: skip
    if requestor:
        options += [
            click.option("--pin", metavar="SHA256|FILE", help="The one certificate this peer may show."),
            click.option("--anonymous-tls", "+tla", is_flag=True,
                         help="Show no certificate of one's own; the peer's is still verified."),
        ]  # fmt: skip
    return options


def tls_options(role: Role) -> Decorator[Any]:
    """Add the TLS options of `role`; the command gets `tls`, a TlsOptions, or None for plain DICOM.

    Stands below `output_options`, whose `terminal` it warns on.
    """
    requestor = role is Role.REQUESTOR
    check = _REQUESTOR_CHECK if requestor else _ACCEPTOR_CHECK
    identity = _REQUESTOR_IDENTITY if requestor else _ACCEPTOR_IDENTITY

    def prepare(values: dict[str, Any]) -> dict[str, Any]:
        given = {name: values.pop(name) for name in _TLS_NAMES if name in values}
        given["tls_profile"], given["peer_cert"] = _PROFILE.take(values), check.take(values)
        given["identity"] = identity.take(values)
        plain = values.pop("no_tls")
        values["tls"] = None if plain else _tls_from(given, values["terminal"])
        if plain:
            _refuse_tls_options(given)
        return values

    return lambda function: with_options(function, _tls_option_list(role, check, identity), prepare)


_TLS_NAMES = (
    "cert", "key", "tls_pair", "key_passphrase_file", "passphrase", "ask", "trust", "trust_ca",
    "tls_cipher", "extra_cipher", "tls12", "tls13", "x509_strict", "pin", "anonymous_tls",
)  # fmt: skip


def _refuse_tls_options(given: dict[str, Any]) -> None:
    used = sorted(name for name, value in given.items() if value)
    if used:
        raise UsageError(
            f"`--no-tls` contradicts the TLS options ({', '.join(name.replace('_', '-') for name in used)})",
            "drop `--no-tls`, or the TLS options",
            slug="usage.no-tls-contradiction",
        )


def _tls_from(given: dict[str, Any], terminal: Terminal) -> TlsOptions:
    cert, key = given["cert"], given["key"]
    if given["tls_pair"]:
        if cert or key:
            raise UsageError(
                "`+tls` and `--cert`/`--key` both name a key pair",
                "give one of them",
                slug="usage.contradiction",
            )
        key, cert = given["tls_pair"]
    if given.get("anonymous_tls") and (cert or key):
        raise UsageError(
            "`--anonymous-tls` shows no certificate, yet one is given",
            "drop `--anonymous-tls`, or the certificate and key",
            slug="usage.contradiction",
        )
    peer_check = PeerCheck(given["peer_cert"] or "require")
    if peer_check is PeerCheck.IGNORE:
        terminal.warning("the peer's certificate is not looked at: anybody could be answering")
    profile = PROFILES[given["tls_profile"] or "bcp195-rfc9325"]
    if profile.retired and given["tls_profile"]:
        terminal.warning(f"profile `{profile.name}` (PS3.15 {profile.section}) is retired")
    if given["passphrase"] is not None:
        terminal.warning("a passphrase on the command line is visible in the process list")
    for name in (*given["tls_cipher"], *given["extra_cipher"]):
        if name in SUITES_13:
            logger.info("`%s`: which TLS 1.3 suite is used cannot be limited here, only the version", name)
    versions = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
    return TlsOptions(
        cert=cert,
        key=key,
        passphrase=_passphrase(given, key or cert),
        trust=tuple(Path(not_empty(entry)) for entry in given["trust"] if entry != "system"),
        authorities=given["trust_ca"],
        system_trust="system" in given["trust"],
        peer_check=peer_check,
        identity=Identity(given["identity"] or "auto"),
        pin=None if given.get("pin") is None else not_empty(given["pin"]),
        profile=profile,
        ciphers=given["tls_cipher"],
        extra_ciphers=given["extra_cipher"],
        versions=frozenset(version for name, version in versions.items() if given[name]),
        x509_strict=given["x509_strict"],
    )


def _passphrase(given: dict[str, Any], key: Path | None) -> Callable[[], bytes] | None:
    """Return where the passphrase of an encrypted key comes from, if from anywhere."""
    if given["passphrase"] is not None:
        return lambda: str(given["passphrase"]).encode()
    if given["key_passphrase_file"] is not None:
        from dicomtls_cli.pki.load import read_passphrase

        return lambda: read_passphrase(given["key_passphrase_file"])
    if _PASSPHRASE_VARIABLE in os.environ and not given["ask"]:
        return os.environ[_PASSPHRASE_VARIABLE].encode
    if is_interactive():
        return lambda: str(click.prompt(f"Passphrase of {key}", hide_input=True, err=True)).encode()
    return None


# ---------------------------------------------------------------------- association


class Link(NamedTuple):
    """What the options say about every association: our AE title (None: unsaid), PDU sizes in bytes, IP family."""

    aet: str | None
    timeouts: Timeouts
    maximum_length: int
    send_limit: int
    family: socket.AddressFamily


def association_options(role: Role) -> Decorator[Any]:
    """Add the options about associations; the command gets `link`, a Link."""
    requestor = role is Role.REQUESTOR
    options = [
        click.option("-aet", "--aetitle", "--aet", "aet", type=AE_TITLE,
                     help=f"Own AE title ({'calling' if requestor else 'called'}) [DICOMTLS]."),
        click.option("-ts", "--socket-timeout", "--tls-timeout", "tls_timeout", type=SECONDS, default=10.0,
                     help="Seconds for the TLS handshake [10]."),
        click.option("-ta", "--acse-timeout", type=SECONDS, default=30.0,
                     help="Seconds for the association and its release [30]."),
        click.option("-td", "--dimse-timeout", type=SECONDS, default=60.0, help="Seconds for one DIMSE message [60]."),
        click.option("-pdu", "--max-pdu", "--max-pdulen-rcv", "max_pdu", type=MAX_PDU, default=131072,
                     help="Largest PDU we take, in bytes [131072]."),
        click.option("-4", "-i4", "--ipv4", "ipv4", is_flag=True, help="IPv4 only."),
        click.option("-6", "-i6", "--ipv6", "ipv6", is_flag=True, help="IPv6 only."),
    ]  # fmt: skip
    if requestor:
        options += [
            click.option("-b", "bound_aet", type=BOUND_AET, hidden=True),
            click.option("--accept-timeout", type=SECONDS_WITH_UNIT, hidden=True),
            click.option("--response-timeout", type=SECONDS_WITH_UNIT, hidden=True),
            click.option("-to", "--timeout", "--connect-timeout", "connect_timeout", type=SECONDS, default=10.0,
                         help="Seconds to connect [10]."),
            click.option("--max-send-pdu", "--max-pdulen-snd", "max_send_pdu", type=MAX_PDU, default=131072,
                         help="Largest PDU we send, in bytes [131072]."),
        ]  # fmt: skip
    return lambda function: with_options(function, options, _prepare_link)


# What only dcm4che spells so, as far as our own option lists have it. Its time-outs are milliseconds.
_DCM4CHE = frozenset(
    {
        *("-b", "-c", "--connect", "--directory", "--max-pdulen-rcv", "--max-pdulen-snd", "--prior-high"),
        *("--prior-low", "--tls", "--tls-aes", "--tls-eia-https", "--tls-eia-ldaps", "--accept-timeout"),
        *("--response-timeout", "--not-async", "--filepath", "--response-delay"),
    }
)
_LONG_TIMEOUTS = ("--connect-timeout", "--tls-timeout", "--acse-timeout", "--dimse-timeout")


def _refuse_bare_milliseconds(words: tuple[str, ...]) -> None:
    """Refuse a time-out without a unit on a line in dcm4che's dialect: a thousandfold misunderstanding."""
    spelled = [word.partition("=")[0] for word in words]
    if _DCM4CHE.isdisjoint(spelled):
        return
    for number, name in enumerate(spelled):
        value = words[number].partition("=")[2] or (words[number + 1] if number + 1 < len(words) else "")
        if name in _LONG_TIMEOUTS and value.isdigit():
            raise UsageError(
                f"`{name} {value}` on a line with dcm4che's options: seconds or milliseconds?",
                f"write the unit: `{name} {value}ms` or `{name} {value}s`",
                slug="usage.ambiguous-seconds",
            )


def _prepare_link(values: dict[str, Any]) -> dict[str, Any]:
    _refuse_bare_milliseconds(click.get_current_context().meta.get(WORDS_META_KEY, ()))
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
    timeouts = Timeouts(
        connect=values.pop("connect_timeout", 10.0),
        tls=values.pop("tls_timeout"),
        acse=values.pop("accept_timeout", None) or values.pop("acse_timeout"),
        dimse=values.pop("response_timeout", None) or values.pop("dimse_timeout"),
    )
    maximum = values.pop("max_pdu")
    values = {name: value for name, value in values.items() if not name.endswith("_timeout")}
    link = Link(aet or bound, timeouts, maximum, values.pop("max_send_pdu", 131072), family)
    return {**values, "link": link}
