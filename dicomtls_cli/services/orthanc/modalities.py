"""Orthanc's list of modalities: what ends Orthanc at its start, and which of them it will not reach."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dicomtls_cli.services.orthanc.configuration import Configuration
from dicomtls_cli.services.orthanc.findings import Finding, When

MODALITIES = "DicomModalities"
IN_DATABASE = "DicomModalitiesInDatabase"
NAME = re.compile(r"[A-Za-z0-9_-]*")
GREATEST_PORT = 65534  # Orthanc refuses 65535

_BOOLEANS = (
    "UseDicomTls", "AllowEcho", "AllowStore", "AllowFind", "AllowFindWorklist", "AllowMove", "AllowGet",
    "AllowNAction", "AllowEventReport", "AllowStorageCommitment", "AllowTranscoding",
)  # fmt: skip
_SHAPE = '`"ct": {"AET": "CT", "Host": "ct.example", "Port": 2762, "UseDicomTls": true}`'


def modalities(configuration: Configuration) -> Mapping[str, Any]:
    """Return the modalities of the configuration, empty where Orthanc keeps them in its database."""
    if configuration.get(IN_DATABASE, bool, False):
        return {}
    found: Mapping[str, Any] = configuration.get(MODALITIES, dict, {})
    return found


def uses_tls(modality: Any) -> bool:
    """Tell whether Orthanc speaks TLS to a modality."""
    return isinstance(modality, dict) and modality.get("UseDicomTls") is True


def check_modalities(configuration: Configuration, *, listens: bool) -> Iterator[Finding]:
    """Yield what is wrong with the modalities; `listens` tells that Orthanc's own port speaks TLS."""
    setting = configuration.settings.get(MODALITIES)
    if configuration.get(IN_DATABASE, bool, False):
        yield Finding(
            When.NOTE, "modalities-in-database",
            f"Orthanc keeps its modalities in its database: those of `{MODALITIES}` do not count, and were not checked",
            "ask it for them: `curl http://localhost:8042/modalities?expand`",
        )  # fmt: skip
        return
    if setting is None:
        return
    if not isinstance(setting.value, dict):
        yield Finding(
            When.START, "modality", f"`{MODALITIES}` is no object", f"write it as `{{{_SHAPE.strip('`')}}}`",
            setting.where,
        )  # fmt: skip
        return
    for name, modality in setting.value.items():
        if not NAME.fullmatch(name):
            yield Finding(
                When.START, "modality", f"the modality `{name}` has a name of other characters than a-z, 0-9, - and _",
                "give it such a name, as `my-ct`", setting.where,
            )  # fmt: skip
        fault = _fault(modality)
        if fault:
            yield Finding(
                When.START,
                "modality",
                f"the modality `{name}` {fault}",
                f"write it as {_SHAPE}",
                setting.where,
            )
        elif listens and not uses_tls(modality):
            yield _plain(name, modality, setting.where)


def _fault(modality: Any) -> str:
    """Return why Orthanc cannot read a modality, "" if it can."""
    if isinstance(modality, list):
        if len(modality) not in (3, 4):
            return "is a list of other than three or four values"
        *titles, port = modality[:3]
        strings = {"AE title": titles[0], "host": titles[1], "manufacturer": (*modality, "")[3]}
    elif isinstance(modality, dict):
        missing = [key for key in ("AET", "Host", "Port") if key not in modality]
        if missing:
            return f"has no `{missing[0]}`"
        port = modality["Port"]
        strings = {key: modality.get(key, "") for key in ("AET", "Host", "Manufacturer", "LocalAet")}
        for key in _BOOLEANS:
            if type(modality.get(key, True)) is not bool:
                return f"has a `{key}` that is neither true nor false"
    else:
        return "is neither an object nor a list"
    wrong = [key for key, value in strings.items() if not isinstance(value, str)]
    return f"has a {wrong[0]} that is no string" if wrong else _port_fault(port)


def _port_fault(port: Any) -> str:
    if isinstance(port, str) and re.fullmatch(r"[-+]?\d{1,9}", port):
        port = int(port)
    if type(port) is not int or not 0 < port <= GREATEST_PORT:
        return f"has a port that is no number from 1 to {GREATEST_PORT}"
    return ""


def _plain(name: str, modality: Any, where: str) -> Finding:
    """Return what is to be said of a modality without TLS; who wrote `false` may have meant it."""
    if isinstance(modality, dict):
        shown, meant = modality, modality.get("UseDicomTls") is False
    else:
        shown, meant = {"AET": modality[0], "Host": modality[1], "Port": modality[2]}, False
    known = {key: shown[key] for key in ("AET", "Host", "Port")}
    return Finding(
        When.NOTE if meant else When.PEER,
        "plain-modality",
        f"Orthanc speaks to the modality `{name}` without TLS, which a TLS peer refuses",
        f"write it as `{json.dumps(name)}: {json.dumps({**known, 'UseDicomTls': True})}`"
        + ("" if meant else ', or say that it is meant: `"UseDicomTls": false`'),
        where,
    )
