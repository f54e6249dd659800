"""What will fail when Orthanc starts with a configuration, or when the first peer comes, before either does."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from dicomtls_cli.errors import UsageError
from dicomtls_cli.services.orthanc.configuration import Configuration
from dicomtls_cli.services.orthanc.files import CERTIFICATE, KEY, REQUIRED, TRUSTED, check_files
from dicomtls_cli.services.orthanc.findings import IGNORES, SINCE, Finding, Version, When, version_text
from dicomtls_cli.services.orthanc.modalities import IN_DATABASE, check_modalities, modalities, uses_tls
from dicomtls_cli.services.orthanc.ports import is_free
from dicomtls_cli.upperlayer.negotiation import ae_title

ENABLED = "DicomTlsEnabled"
MINIMUM = "DicomTlsMinimumProtocolVersion"
CIPHERS = "DicomTlsCiphersAccepted"
DEFAULT_AET = "ORTHANC"
DEFAULT_PORTS = {"DicomPort": 4242, "HttpPort": 8042}

_KINDS: dict[type, tuple[str, tuple[str, ...]]] = {
    bool: (
        "`true` or `false`, without quotes",
        (
            ENABLED, REQUIRED, IN_DATABASE, "DicomCheckCalledAet", "DicomCheckModalityHost", "DicomServerEnabled",
            "DicomAlwaysAllowEcho", "DicomAlwaysAllowStore", "HttpServerEnabled", "AuthenticationEnabled",
            "RemoteAccessAllowed",
        ),
    ),
    str: ("a string in double quotes", (CERTIFICATE, KEY, TRUSTED, "DicomAet", "StorageDirectory", "IndexDirectory")),
    int: ("a number without quotes and point", ("DicomPort", "HttpPort", MINIMUM)),
}  # fmt: skip
_GREATEST = 2**31 - 1
_ORDER = {When.START: 0, When.PEER: 1, When.NOTE: 2}


def check(
    configuration: Configuration, *, version: Version | None = None, probe_ports: bool = True
) -> list[Finding]:
    """Return what is wrong with `configuration`, the worst first; `version` is Orthanc's, if it is known.

    The ports are tried out unless `probe_ports` is false. Where a file of the configuration could not be read,
    nothing else is judged.
    """
    found = list(configuration.findings)
    if configuration.is_whole:
        found += _check_whole(configuration, version, probe_ports)
    return sorted(found, key=lambda one: _ORDER[one.when])


def _check_whole(
    configuration: Configuration, version: Version | None, probe_ports: bool
) -> Iterator[Finding]:
    has_listener = configuration.get("DicomServerEnabled", bool, True)
    listens = has_listener and configuration.get(ENABLED, bool, False)
    connects = any(uses_tls(one) for one in modalities(configuration).values())
    yield from _check_kinds(configuration, version)
    yield from _check_listener(configuration, has_listener=has_listener)
    if probe_ports:
        yield from _check_ports(configuration, has_listener=has_listener)
    yield from check_files(configuration, listens=listens, connects=connects, version=version)
    yield from check_modalities(configuration, listens=listens)
    if listens:
        yield from _check_rules(configuration)
    yield from _check_versions(configuration, version)


def _check_kinds(configuration: Configuration, version: Version | None) -> Iterator[Finding]:
    """Orthanc looks at no value of another kind than it wants: it ends."""
    for kind, (wanted, keys) in _KINDS.items():
        for key in keys:
            setting = configuration.settings.get(key)
            if setting is None or (version is not None and SINCE.get(key, version) > version):
                continue
            is_of_kind = type(setting.value) is kind
            if not is_of_kind:
                yield Finding(
                    When.START,
                    "wrong-kind",
                    f"`{key}` is not {wanted}",
                    f'write {wanted} after `"{key}":`',
                    setting.where,
                )
            elif kind is int and not 0 <= setting.value <= _GREATEST:
                yield Finding(
                    When.START,
                    "wrong-kind",
                    f"`{key}` is negative, or too large",
                    f"write a number from `0` to `{_GREATEST}`",
                    setting.where,
                )


def _check_listener(configuration: Configuration, *, has_listener: bool) -> Iterator[Finding]:
    if not has_listener:
        yield Finding(
            When.NOTE, "no-listener", "Orthanc's DICOM server is off: nobody can connect to it",
            "take it out where that is not meant: `\"DicomServerEnabled\": false`",
            configuration.settings["DicomServerEnabled"].where,
        )  # fmt: skip
        return
    enabled, aet = configuration.settings.get(ENABLED), configuration.settings.get("DicomAet")
    if enabled is None or enabled.value is False:
        yield Finding(
            When.PEER if enabled is None else When.NOTE, "tls-off",
            f"`{ENABLED}` is not true: Orthanc's port speaks plain DICOM, and peers that speak TLS fail",
            "`dicomtls orthanc --cert CERT --key KEY --trust BUNDLE` writes what turns it on",
            enabled.where if enabled else "",
        )  # fmt: skip
    if aet is not None and isinstance(aet.value, str) and not 1 <= len(aet.value) <= 16:
        yield Finding(
            When.START, "ae-title", "`DicomAet` has not 1 to 16 characters",
            'write 1 to 16, as in `"DicomAet": "ORTHANC"`', aet.where,
        )  # fmt: skip
    elif aet is not None and isinstance(aet.value, str):
        try:
            ae_title(aet.value)
        except UsageError as error:
            yield Finding(When.PEER, "ae-title", f"`DicomAet`: {error.message}", error.hint, aet.where)


def _check_ports(configuration: Configuration, *, has_listener: bool) -> Iterator[Finding]:
    ports = {
        key: configuration.get(key, int, default)
        for key, default in DEFAULT_PORTS.items()
        if (has_listener if key == "DicomPort" else configuration.get("HttpServerEnabled", bool, True))
    }
    places = {
        key: configuration.settings[key].where if key in configuration.settings else "" for key in ports
    }
    for key, port in ports.items():
        if not 0 < port < 65536:
            yield Finding(
                When.PEER,
                "port",
                f"`{key}` is {port}, which is no port",
                "write one from 1 to 65535, as `4242`",
                places[key],
            )
    if len(ports) == 2 and len(set(ports.values())) == 1:
        yield Finding(
            When.START, "port-taken", "`DicomPort` and `HttpPort` are the same",
            'write another port for one of them, as `"HttpPort": 8043`', places["DicomPort"],
        )  # fmt: skip
        return
    taken = [key for key, port in ports.items() if 0 < port < 65536 and not is_free(port)]
    is_running = len(taken) == len(ports)  # both: that is most likely this very Orthanc
    for key in taken:
        yield Finding(
            When.NOTE if is_running else When.START, "port-taken",
            f"port {ports[key]} (`{key}`) is taken{', by this Orthanc perhaps' if is_running else ''}",
            f"see who has it: `ss -ltnp 'sport = :{ports[key]}'`", places[key],
        )  # fmt: skip


def _check_rules(configuration: Configuration) -> Iterator[Finding]:
    """Yield whom Orthanc turns away after TLS."""
    if configuration.get("DicomCheckCalledAet", bool, False):
        aet = configuration.get("DicomAet", str, DEFAULT_AET)
        yield Finding(
            When.NOTE, "called-aet", f"peers must call Orthanc `{aet}`: any other called AE title is rejected",
            f"`dicomtls echoscu HOST PORT --aec {shlex.quote(aet)}`",
            configuration.settings["DicomCheckCalledAet"].where,
        )  # fmt: skip
    for key in ("DicomAlwaysAllowEcho", "DicomAlwaysAllowStore"):
        if not configuration.get(key, bool, True):
            yield Finding(
                When.NOTE, "known-peers-only", f"`{key}` is false: only modalities of `DicomModalities` may do that",
                "name them: `dicomtls orthanc --modality NAME=AET@HOST:PORT ...`", configuration.settings[key].where,
            )  # fmt: skip


def _check_versions(configuration: Configuration, version: Version | None) -> Iterator[Finding]:
    required = configuration.settings.get(REQUIRED)
    if required is not None and required.value is False:
        before = (
            f"before Orthanc {version_text(IGNORES)} a peer may show no certificate, an untrusted one never"
        )
        since = (
            f"from Orthanc {version_text(IGNORES)} on no certificate is asked for, and Orthanc verifies no server it "
            "connects to"
        )
        said = f"{before}; {since}" if version is None else since if version >= IGNORES else before
        yield Finding(
            When.NOTE,
            "not-required",
            f"`{REQUIRED}` is false: {said}",
            "take it out, or write `true`",
            required.where,
        )
    for key in (REQUIRED, MINIMUM, CIPHERS, ENABLED):
        if key in configuration.settings and version is not None and SINCE[key] > version:
            yield Finding(
                When.PEER if key == ENABLED else When.NOTE, "too-old",
                f"`{key}` means nothing to Orthanc {version_text(version)}: {version_text(SINCE[key])} brought it",
                "update Orthanc (`Orthanc --version`), or take it out", configuration.settings[key].where,
            )  # fmt: skip
    ciphers = configuration.settings.get(CIPHERS)
    is_known = version is None or version >= SINCE[CIPHERS]
    if ciphers is not None and is_known and ciphers.value and not configuration.get(MINIMUM, int, 0):
        yield Finding(
            When.START, "ciphers", f"`{CIPHERS}` needs a `{MINIMUM}` other than 0 (from Orthanc 1.12.4 on)",
            f'write `"{MINIMUM}": 4` beside it (4: TLS 1.2, 5: TLS 1.3)', ciphers.where,
        )  # fmt: skip
