"""Which certificates and revocation lists are out of date, or soon will be: told before a peer notices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dicomtls_cli.errors import printable
from dicomtls_cli.pki.bundle import BundledCertificate, describe
from dicomtls_cli.pki.keystore import Password
from dicomtls_cli.pki.load import read_certificate_files

if TYPE_CHECKING:
    from dicomtls_cli.pki.revocation import RevocationList

_SOON = timedelta(days=30)
_SHOWN = 3  # of the trusted certificates


class Validity(NamedTuple):
    """What is in use: our own certificate (of the file `path`) with its chain, the trusted ones, revocation lists."""

    path: Path
    own: tuple[BundledCertificate, ...]
    trusted: tuple[BundledCertificate, ...]
    lists: tuple[RevocationList, ...] = ()

    def warnings(self, now: datetime | None = None) -> Iterator[str]:
        """Yield what is wrong with their dates at `now` (aware; the present unless given), in sentences.

        Each of our own and each list has one, the trusted ones have one together.
        """
        instant = now or datetime.now(UTC)
        for one in self.own:
            if fault := _fault(one, instant):
                yield f"our certificate `{self.path}` ({_name(one)}) {fault}"
        faults = [f"{_name(one)} {fault}" for one in self.trusted if (fault := _fault(one, instant))]
        if faults:
            more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            yield f"peers with these certificates are refused outside their dates: {', '.join(faults[:_SHOWN])}{more}"
        for listed in self.lists:
            if fault := _fault_of_list(listed, instant):
                yield f"{printable(listed.title)} {fault}"


def read_validity(
    cert: Path,
    trust: Sequence[Path],
    *,
    password: Password = None,
    trust_password: Password = None,
    crls: Sequence[Path] = (),
    check_crls: bool = False,
) -> Validity:
    """Read the certificates of the file `cert` and of the trust files; raise `InputError` where that fails.

    The passwords are those of the files in PKCS#12, as `load_trust` and `key_pair` take them; so are the lists.
    """
    wanted = bool(crls) or check_crls
    own, *_ = read_certificate_files([cert], password=password)
    theirs = read_certificate_files(trust, password=trust_password, allow_list_only=wanted)
    trusted = [der for file in theirs for der in file.certificates]
    lists: Sequence[RevocationList] = ()
    if wanted:
        from dicomtls_cli.pki.revocation import gather

        lists = gather(crls, theirs)
    return Validity(cert, _described(own.certificates), _described(dict.fromkeys(trusted)), tuple(lists))


def _described(certificates: Iterable[bytes]) -> tuple[BundledCertificate, ...]:
    return tuple(describe(der) for der in certificates)


def _fault(one: BundledCertificate, now: datetime) -> str:
    if one.not_before is None or one.not_after is None:
        return ""  # what cannot be read is for OpenSSL to judge
    if now < one.not_before:
        return f"is not valid before {one.not_before:%Y-%m-%d %H:%M} UTC"
    if now > one.not_after:
        return f"expired on {one.not_after:%Y-%m-%d}"
    left = one.not_after - now
    return f"expires on {one.not_after:%Y-%m-%d}, in {left.days} days" if left < _SOON else ""


def _fault_of_list(one: RevocationList, now: datetime) -> str:
    if now > one.ends:
        return f"has not been in force since {one.ends:%Y-%m-%d %H:%M} UTC: all peers of that CA are refused"
    # Lists are made for an hour or for months, and the next one is due well before the end.
    soon = one.ends - now < (one.ends - one.begins) / 5
    return (
        f"is in force until {one.ends:%Y-%m-%d %H:%M} UTC; then all peers of that CA are refused"
        if soon
        else ""
    )


def _name(one: BundledCertificate) -> str:
    return printable(one.subject or "unreadable subject", 100)
