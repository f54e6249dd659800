"""What `dicomtls orthanc` writes: the keys of Orthanc's configuration that are about DICOM TLS, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.files import READ_LIMIT, read_capped
from dicomtls_cli.services.orthanc.check import CIPHERS, ENABLED, MINIMUM, check
from dicomtls_cli.services.orthanc.configuration import Configuration, Setting, configuration_files, take_out
from dicomtls_cli.services.orthanc.dialect import Malformed, parse, substitute
from dicomtls_cli.services.orthanc.files import CERTIFICATE, KEY, REQUIRED, TRUSTED
from dicomtls_cli.services.orthanc.findings import SINCE, Finding, Version, When, absolute
from dicomtls_cli.services.orthanc.modalities import MODALITIES

MINIMUM_VERSIONS = {"1.2": 4, "1.3": 5}
"""TLS versions, and Orthanc's number for "this or newer"."""

# Those of B.12 that DCMTK 3.6.7 has too: Orthanc looks the names up there.
_DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256",
)  # fmt: skip


class Modality(NamedTuple):
    """A DICOM node that Orthanc knows under `name`, and speaks TLS to."""

    name: str
    aet: str
    host: str
    port: int


class Wanted(NamedTuple):
    """What Orthanc is to do.

    `is_required` tells that peers must show a certificate. `aet` and `port` are Orthanc's own, written only if
    given. `minimum` is a key of `MINIMUM_VERSIONS`; `ciphers` are OpenSSL's names, a safe choice where empty.
    """

    cert: Path
    key: Path
    trusted: Path
    is_required: bool = True
    modalities: tuple[Modality, ...] = ()
    aet: str | None = None
    port: int | None = None
    minimum: str | None = None
    ciphers: tuple[str, ...] = ()


def settings(wanted: Wanted) -> dict[str, Any]:
    """Return the keys and values for what is wanted; all paths are absolute."""
    found: dict[str, Any] = {
        ENABLED: True,
        CERTIFICATE: str(absolute(wanted.cert)),
        KEY: str(absolute(wanted.key)),
        TRUSTED: str(absolute(wanted.trusted)),
        REQUIRED: wanted.is_required,
    }
    if wanted.minimum is not None:
        found[MINIMUM] = MINIMUM_VERSIONS[wanted.minimum]
        found[CIPHERS] = list(wanted.ciphers or _DEFAULT_CIPHERS)
    if wanted.aet is not None:
        found["DicomAet"] = wanted.aet
    if wanted.port is not None:
        found["DicomPort"] = wanted.port
    if wanted.modalities:
        found[MODALITIES] = {
            one.name: {"AET": one.aet, "Host": one.host, "Port": one.port, "UseDicomTls": True}
            for one in wanted.modalities
        }
    return found


def needs(keys: Iterable[str]) -> Version:
    """Return the first version of Orthanc that knows all of `keys`."""
    return max(SINCE.get(key, (1, 9, 0)) for key in keys)


def render(keys: Mapping[str, Any]) -> bytes:
    """Return the configuration file; every program that reads JSON reads it."""
    text = json.dumps(keys, indent=2, ensure_ascii=False)
    # Orthanc would put a variable in; of names of files it takes the bytes, whatever their encoding.
    return text.replace("${", "\\u0024{").encode("utf-8", "surrogateescape") + b"\n"


def environment(keys: Mapping[str, Any]) -> dict[str, str]:
    """Return `keys` as variables of the environment, as the images orthancteam/orthanc read them."""
    return {
        "ORTHANC__" + re.sub(r"(?<!^)(?=[A-Z])", "_", key).upper(): _variable(value)
        for key, value in keys.items()
    }


def _variable(value: Any) -> str:
    """Return a value as those images tell its kind: what is no JSON is a string."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def examine(keys: Mapping[str, Any], output: Path, version: Version | None) -> list[Finding]:
    """Return what is wrong with what will be written, the worst first.

    Raises InputError for what would keep Orthanc from starting.
    """
    described = {key: Setting(value, output, 0) for key, value in keys.items()}
    found = [
        one._replace(where="")
        for one in check(Configuration(described, ()), version=version, probe_ports=False)
    ]
    for one in found:
        if one.when is When.START:
            raise InputError(one.text, one.fix, slug="orthanc.unusable-file")
    return found


def neighbours(keys: Mapping[str, Any], output: Path, variables: Mapping[str, str]) -> list[Finding]:
    """Return which of `keys` other configuration files in the folder of `output` have: Orthanc would not start.

    What is no configuration is passed over.
    """
    if output.suffix.lower() != ".json":
        return []
    try:
        files = configuration_files(output.parent)
    except InputError:  # a folder one may write to, but not look into
        return []
    return [
        Finding(
            When.START, "key-twice",
            f"`{key}` is in `{setting.where}` too, and Orthanc takes a key from one file of a folder only",
            take_out(setting),
        )
        for path in files
        if path.name != output.name
        for key, setting in _settings_of(path, variables).items()
        if key in keys
    ]  # fmt: skip


def _settings_of(path: Path, variables: Mapping[str, str]) -> dict[str, Setting]:
    try:
        text = read_capped(path, "configuration", limit=READ_LIMIT).decode("utf-8", "surrogateescape")
        document = parse(substitute(text, variables).text)
    except (InputError, Malformed):
        return {}
    return {
        key: Setting(value, path, document.lines[key], key in document.alone)
        for key, value in document.values.items()
    }
