"""The three files of Orthanc's DICOM TLS: whether they can be loaded, and with whom they will fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import InputError
from dicomtls_cli.pki.acceptance import LOADS_BUT_TRUSTS_NONE, key_kind, pair_fault, trust_fault
from dicomtls_cli.pki.bundle import describe
from dicomtls_cli.pki.contents import Contents, read_contents
from dicomtls_cli.pki.files import open_regular, word
from dicomtls_cli.pki.findings import find
from dicomtls_cli.services.orthanc.configuration import Configuration, Setting
from dicomtls_cli.services.orthanc.findings import (
    IGNORES,
    Finding,
    Version,
    When,
    absolute,
    version_text,
)
from dicomtls_cli.services.orthanc.rights import SERVICE_USER, is_hidden_from

CERTIFICATE = "DicomTlsCertificate"
KEY = "DicomTlsPrivateKey"
TRUSTED = "DicomTlsTrustedCertificates"
REQUIRED = "DicomTlsRemoteCertificateRequired"

# What is wrong with a certificate but does not keep a peer out, or not yet.
_NOTES = frozenset({"expires-soon", "ca-true", "weak-signature", "unreadable", "ca-absent"})
_OWN_FIX = "make a new pair: `dicomtls gencert NAME`, and give its certificate to the peers"
_PEER_FIXES = {
    "expired": "get the peer's new certificate, then `dicomtls bundle NEW.crt --append -o {bundle}`",
    "not-yet-valid": "wait until then, or look at the clock of this machine: `date -u`",
    "wrong-eku": "have the peer make one for both roles: `dicomtls gencert NAME`",
    "ca-absent": "add the CA that issued it: `dicomtls bundle CA.crt --append -o {bundle}`",
    "same-subject": "have one of them made anew, with another name: `dicomtls gencert NAME`",
    "same-identifier": "take the one that is not in use out: `dicomtls bundle --remove SHA256 -o {bundle}`",
}


class _File(NamedTuple):
    """A file that a key names; `path` is None where it cannot be looked at."""

    setting: Setting
    path: Path | None


def check_files(
    configuration: Configuration, *, listens: bool, connects: bool, version: Version | None
) -> Iterator[Finding]:
    """Yield what is wrong with the files of DICOM TLS.

    `listens` tells that Orthanc's own port speaks TLS, `connects` that it speaks TLS to a modality.
    """
    cert, key, trusted = (configuration.get(name, str, "") for name in (CERTIFICATE, KEY, TRUSTED))
    is_required = configuration.get(REQUIRED, bool, True)
    reads_trust = is_required or version is None or version < IGNORES
    if listens:
        yield from _unnamed(cert, key, trusted, is_required, reads_trust)
    if connects and not listens and not (cert and key and trusted):
        yield Finding(
            When.PEER, "files-not-set",
            f"a modality has UseDicomTls, but not all of `{CERTIFICATE}`, `{KEY}` and `{TRUSTED}` are set: "
            "connections to it fail", "set all three: `dicomtls orthanc --cert CERT --key KEY --trust BUNDLE`",
        )  # fmt: skip
    if not (listens or connects):
        # Orthanc looks whether the files are there all the same.
        for name in (CERTIFICATE, KEY) if cert and key else ():
            yield from _located(configuration, name)[1]
        if trusted:
            yield from _located(configuration, TRUSTED)[1]
        return
    yield from _check_rights(configuration)
    when = When.START if listens else When.PEER
    if cert and key:
        yield from _check_pair(configuration, when, connects=connects)
    if trusted:
        yield from _check_trust(configuration, when if reads_trust else When.NOTE)


def _unnamed(cert: str, key: str, trusted: str, is_required: bool, reads_trust: bool) -> Iterator[Finding]:
    for name, value, option in ((CERTIFICATE, cert, "--cert CERT"), (KEY, key, "--key KEY")):
        if not value:
            yield Finding(
                When.START, "file-not-set", f"DICOM TLS is enabled, but `{name}` is not set",
                f"make a pair with `dicomtls gencert orthanc` and name it: `dicomtls orthanc {option} ...`",
            )  # fmt: skip
    if not trusted and reads_trust:
        before = (
            "" if is_required else f" (before Orthanc {version_text(IGNORES)} also where none is required)"
        )
        yield Finding(
            When.START, "file-not-set", f"DICOM TLS is enabled, but `{TRUSTED}` is not set{before}",
            "collect the peers' certificates: `dicomtls bundle CERT... -o trusted.crt`, and name that file",
        )  # fmt: skip


def _located(configuration: Configuration, name: str) -> tuple[_File, list[Finding]]:
    """Return the file that the key `name` names, and what is wrong with it before it is opened."""
    setting = configuration.settings[name]
    path, found = Path(setting.value), []
    if not path.is_absolute():
        found.append(
            Finding(
                When.NOTE, "relative-path",
                f"`{name}` is relative, and Orthanc looks for it from the folder it was started in; checked from here",
                f"write `{absolute(path)}`", setting.where,
            )
        )  # fmt: skip
    try:
        with open_regular(path, name):
            return _File(setting, path), found
    except InputError as error:
        if error.slug == "file.unreadable" and path.is_file():
            found.append(
                Finding(When.NOTE, "unreadable-here", error.message, f"check as root: `sudo ls -l {word(path)}`",
                        setting.where)
            )  # fmt: skip
        elif error.slug == "file.is-directory" and name == TRUSTED:
            bundled = f"dicomtls bundle {word(path)} -o {word(path.with_name(f'{path.name}.crt'))}"
            found.append(
                Finding(When.START, "trust-is-directory",
                        f"`{name}` is the folder `{path}`, and Orthanc reads one file",
                        f"make it: `{bundled}`, and name that", setting.where)
            )  # fmt: skip
        else:
            found.append(Finding(When.START, "file-missing", error.message, error.hint, setting.where))
    return _File(setting, None), found


def _check_rights(configuration: Configuration) -> Iterator[Finding]:
    """Orthanc as a service is another user, and a key is readable for its owner only."""
    for name in (KEY, CERTIFICATE, TRUSTED):
        path = Path(configuration.get(name, str, ""))
        if path.is_absolute() and is_hidden_from(SERVICE_USER, path):
            shown = word(path)
            yield Finding(
                When.NOTE, "hidden-from-service",
                f"the user `{SERVICE_USER}`, whom Orthanc runs as where it is a service, cannot read `{path}`",
                f"let it: `sudo chgrp {SERVICE_USER} {shown} && sudo chmod 640 {shown}`, and the folders above",
                configuration.settings[name].where,
            )  # fmt: skip
            return


def _check_pair(configuration: Configuration, when: When, *, connects: bool) -> Iterator[Finding]:
    (cert, found), (key, more) = _located(configuration, CERTIFICATE), _located(configuration, KEY)
    yield from (*found, *more)
    if cert.path is None or key.path is None:
        return
    fault = pair_fault(cert.path, key.path)
    if fault is not None:
        where = key.setting.where if "key" in fault.code else cert.setting.where
        yield Finding(when, fault.code, fault.text, fault.fix, where)
        return
    contents = _contents(cert.path)
    if contents is None:
        yield _odd(cert.path, cert.setting.where)
    else:
        yield from _check_own(contents, cert.setting.where, connects=connects)


def _contents(path: Path) -> Contents | None:
    """Return what is in a file that OpenSSL reads; None where we do not, since it passes over what we refuse."""
    try:
        return read_contents(path, "certificate")
    except InputError:
        return None


def _odd(path: Path, where: str) -> Finding:
    return Finding(
        When.NOTE,
        "odd-pem",
        f"`{path}` has markers where none can be: OpenSSL reads what it can, and its certificates were not judged",
        f"see them with `grep -n -e ----- {word(path)}`",
        where,
    )


def _check_own(contents: Contents, where: str, *, connects: bool) -> Iterator[Finding]:
    """Yield what peers will say to Orthanc's own certificate."""
    certificates = [describe(der) for der in contents.certificates]
    for one in find(certificates):
        if one.certificate is not certificates[0]:
            continue
        text, fix, when = one.text, _OWN_FIX, When.NOTE if one.code in _NOTES else When.PEER
        if one.code == "ca-absent":
            text = (
                "was issued by a CA: peers need that CA's certificate, and Orthanc shows what is in this file"
            )
            fix = f"append intermediate CAs to it: `cat INTERMEDIATE.crt >> {word(contents.path)}`"
        elif one.code == "wrong-eku":
            # As an SCU it is looked at by modalities only.
            when = When.PEER if connects or "SCP" in one.text else When.NOTE
        yield Finding(when, f"own-{one.code}", f"Orthanc's certificate `{contents.path}` {text}", fix, where)
    kind = key_kind(contents.certificates[0])
    if kind not in ("RSA", ""):
        yield Finding(
            When.NOTE, "own-tls13-only",
            f"Orthanc's certificate `{contents.path}` has a key of kind {kind}: builds with DCMTK 3.6.7 use it over "
            "TLS 1.3 only, and peers that have TLS 1.2 fail", "RSA serves all: `dicomtls gencert NAME`", where,
        )  # fmt: skip


def _check_trust(configuration: Configuration, when: When) -> Iterator[Finding]:
    file, found = _located(configuration, TRUSTED)
    yield from found
    if file.path is None:
        return
    where, bundle = file.setting.where, word(file.path)
    fault = trust_fault(file.path)
    if fault is not None:
        loads = fault.code == LOADS_BUT_TRUSTS_NONE
        yield Finding(When.PEER if loads else when, fault.code, fault.text, fault.fix, where)
        return
    contents = _contents(file.path)
    if contents is None:
        yield _odd(file.path, where)
        return
    for one in find([describe(der) for der in contents.certificates]):
        subject = one.certificate.subject or "unreadable subject"
        is_note = one.code in _NOTES - {"ca-absent"} or one.code == "weak-key"
        yield Finding(
            When.NOTE if is_note else When.PEER, f"peer-{one.code}",
            f"the trusted certificate {subject} (SHA-256 {one.certificate.sha256[:16]}...) in `{file.path}` {one.text}",
            _PEER_FIXES.get(one.code, f"see all of them: `dicomtls bundle --check {bundle}`").format(bundle=bundle),
            where,
        )  # fmt: skip
    if contents.keys:
        yield Finding(
            When.NOTE, "private-key",
            f"`{file.path}` also holds a private key: whoever gets the file can be that peer",
            f"`dicomtls bundle --strip-keys {bundle} -o {word(file.path.with_suffix('.pem.crt'))}`, and name that",
            where,
        )  # fmt: skip
