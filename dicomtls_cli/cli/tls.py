"""The options about TLS: certificates, trust, profile."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from dicomtls_cli.cli.options import Decorator, Switch, with_options
from dicomtls_cli.cli.passphrase import PASSPHRASE_VARIABLE, key_passphrase, trust_passphrase
from dicomtls_cli.cli.terminal import Terminal, show
from dicomtls_cli.cli.values import FILE, STORE, STORE_OR_NONE, not_empty
from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.peer import TlsOptions
from dicomtls_cli.tls.policy import Identity, PeerCheck, Role
from dicomtls_cli.tls.profiles import PROFILES, SUITES, SUITES_13

logger = logging.getLogger("dicomtls.tls")


def _print_and_exit(lines: Callable[[], Sequence[str]]) -> Any:
    def callback(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            show("\n".join(lines()))
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
        ("-ic", "--ignore-peer-cert", "--tls-noauth"): "ignore",
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
        click.option("--cert", type=FILE,
                     help="Own certificate, PEM, DER or PKCS#12; may hold its chain, and the key too."),
        click.option("--key", type=FILE, help="Its private key, PEM, DER or PKCS#12."),
        click.option("+tls", "--enable-tls", "tls_pair", type=FILE, nargs=2, metavar="KEY CERT",
                     help="The same in DCMTK's order: key first."),
        click.option("--key-store", type=STORE_OR_NONE if requestor else STORE, metavar="P12",
                     help="Own certificate, chain and key in one PKCS#12 file"
                     f"{' (dcm4che: an empty name shows none)' if requestor else ''}."),
        click.option("--key-passphrase-file", type=FILE,
                     help="Passphrase of an encrypted key or key store: the first line of this file. "
                     f"Else ${PASSPHRASE_VARIABLE}, else asked for on a terminal; a key store is first tried "
                     "without, and with dcm4che's `secret`."),
        click.option("+pw", "--use-passwd", "--key-pass", "passphrase", metavar="PASS",
                     help="The passphrase itself: visible in the process list."),
        click.option("--key-store-pass", metavar="PASS",
                     help="The password of --key-store itself: visible in the process list."),
        click.option("+ps", "--std-passwd", "ask", is_flag=True, help="Ask for the passphrase."),
        click.option("--trust", "+cf", "--add-cert-file", "+cd", "--add-cert-dir", "trust", multiple=True,
                     metavar="FILE|DIR",
                     help="Trusted certificates of peers or CAs, PEM, DER, PKCS#7 or PKCS#12; may be repeated. "
                     "`system`: this machine's CAs."),
        click.option("--trust-store", multiple=True, type=STORE, metavar="P12",
                     help="The same, as dcm4che spells it."),
        click.option("--trust-passphrase-file", type=FILE,
                     help="Password of trusted certificates in PKCS#12: the first line of this file. "
                     "They are first tried without, and with `secret`, unless it is given."),
        click.option("--trust-store-pass", metavar="PASS",
                     help="The password itself: visible in the process list."),
        click.option("--trust-ca", multiple=True, type=FILE, metavar="FILE",
                     help="A certificate that is a CA on purpose, although it does not say keyCertSign."),
        click.option("--crl", "+crl", "--add-crl-file", "crl", multiple=True, type=FILE, metavar="FILE",
                     help="Revocation lists, PEM or DER; may be repeated. A peer that a CA vouches for must not be "
                     "on its CA's list, and there must be one (docs/security.md)."),
        click.option("+crv", "--enable-crl-vfy", "check_crls", is_flag=True,
                     help="The same with the lists among the trusted certificates alone."),
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
    "cert", "key", "tls_pair", "key_store", "key_store_pass", "key_passphrase_file", "passphrase", "ask",
    "trust", "trust_ca", "trust_store", "trust_store_pass", "trust_passphrase_file", "crl", "check_crls",
    "tls_cipher", "extra_cipher", "tls12", "tls13", "x509_strict", "pin", "anonymous_tls",
)  # fmt: skip


def _refuse_tls_options(given: dict[str, Any]) -> None:
    used = sorted(name for name, value in given.items() if value not in (None, False, ()))
    if used:
        raise UsageError(
            f"`--no-tls` contradicts the TLS options ({', '.join(name.replace('_', '-') for name in used)})",
            "drop `--no-tls`, or the TLS options",
            slug="usage.no-tls-contradiction",
        )


def _tls_from(given: dict[str, Any], terminal: Terminal) -> TlsOptions:
    key, cert = _own_files(given)
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
    if given["passphrase"] or given["key_store_pass"] or given["trust_store_pass"]:
        terminal.warning("a passphrase on the command line is visible in the process list")
    trust = (*given["trust"], *map(str, given["trust_store"]))
    for name in (*given["tls_cipher"], *given["extra_cipher"]):
        if name in SUITES_13:
            logger.info("`%s`: which TLS 1.3 suite is used cannot be limited here, only the version", name)
    versions = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}
    return TlsOptions(
        cert=cert,
        key=key,
        passphrase=key_passphrase(given, key or cert),
        trust_passphrase=trust_passphrase(given, trust),
        trust=tuple(Path(not_empty(entry)) for entry in trust if entry != "system"),
        authorities=given["trust_ca"],
        system_trust="system" in given["trust"],
        crls=given["crl"],
        check_crls=given["check_crls"],
        peer_check=peer_check,
        identity=Identity(given["identity"] or "auto"),
        pin=None if given.get("pin") is None else not_empty(given["pin"]),
        profile=profile,
        ciphers=given["tls_cipher"],
        extra_ciphers=given["extra_cipher"],
        versions=frozenset(version for name, version in versions.items() if given[name]),
        x509_strict=given["x509_strict"],
    )


def _own_files(given: dict[str, Any]) -> tuple[Path | None, Path | None]:
    """Return the files of our key and certificate, however they are named."""
    named = {
        "`--cert`/`--key`": (given["key"], given["cert"]),
        "`+tls`": given["tls_pair"] or (None, None),
        "`--key-store`": (None, given["key_store"]),
    }
    used = [spelled for spelled, files in named.items() if any(file is not None for file in files)]
    if len(used) > 1:
        raise UsageError(
            f"{' and '.join(used)} both name a key pair", "give one of them", slug="usage.contradiction"
        )
    if given["key_store_pass"] is not None and given["key_store"] is None:
        raise UsageError(
            "`--key-store-pass` without `--key-store`",
            "name the key store; the passphrase of `--key` is in a file: `--key-passphrase-file FILE`",
            slug="usage.no-store",
        )
    key, cert = named[used[0]] if used else (None, None)
    return key, cert or None  # `--key-store ""` names no file
