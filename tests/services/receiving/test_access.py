"""Who may open an association: the decision alone. tests/cli/test_storescp_access.py has it on the wire."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomtls_cli.errors import ExitCode
from dicomtls_cli.services.receiving.access import AccessRules, Rejection, judge, too_many
from dicomtls_cli.services.receiving.ae_map import AeMap
from dicomtls_cli.services.receiving.events import Client
from dicomtls_cli.tls.handshake import TlsFacts
from tests.conftest import Pki
from tests.support.scripted import request

PERMANENT_CALLING, PERMANENT_CALLED = (1, 1, 3), (1, 1, 7)


def asked(calling: str = "CT1", called: str = "ARCHIVE"):
    return request(called=called)._replace(calling_ae=calling)


def client(certificate: bytes | None = None, vouched_by: tuple[str, ...] = ()) -> Client:
    facts = TlsFacts("TLSv1.3", "x", certificate, "CN=x", "pin", True, vouched_by)
    return Client("192.0.2.1:104", tls=facts, certificate=certificate)


def numbers(rejection: Rejection | None) -> tuple[int, int, int] | None:
    return rejection and (rejection.answer.result, rejection.answer.source, rejection.answer.reason)


def test_without_rules_anybody_may() -> None:
    assert judge(asked(), Client("192.0.2.1:104"), AccessRules()) is None


@pytest.mark.parametrize(
    ("calling", "called", "numbers_", "slug"),
    [
        ("CT1", "ARCHIVE", None, ""),
        (" CT1 ", " ARCHIVE ", None, ""),  # the spaces around it do not count, PS3.5 6.2
        ("CT2", "ARCHIVE", None, ""),
        ("CT1", "OTHER", PERMANENT_CALLED, "access.called-aet"),
        ("CT1", "archive", PERMANENT_CALLED, "access.called-aet"),
        ("CT3", "ARCHIVE", PERMANENT_CALLING, "access.calling-aet"),
        ("ct1", "ARCHIVE", PERMANENT_CALLING, "access.calling-aet"),
        ("CT3", "OTHER", PERMANENT_CALLED, "access.called-aet"),
        ("", "ARCHIVE", PERMANENT_CALLING, "association.rejected"),
        ("CT1", "", PERMANENT_CALLED, "association.rejected"),
    ],
)
def test_ae_titles(calling, called, numbers_, slug) -> None:
    rules = AccessRules("ARCHIVE", frozenset({"CT1", "CT2"}))
    found = judge(asked(calling, called), Client("192.0.2.1:104"), rules)
    assert numbers(found) == numbers_
    if found is not None:
        assert (found.error.slug, found.error.exit_code) == (slug, ExitCode.REJECTED)
        assert found.error.message.startswith("rejected `192.0.2.1:104`: ")
        assert "/".join(map(str, numbers_)) in found.error.message


def test_certificates(pki: Pki) -> None:
    ca = "ef" * 32
    subject = (frozenset({("2.5.4.3", "localhost")}),)
    titles = {pki.scu.fingerprint: frozenset({"CT1", "CT2"}), (ca, subject): frozenset({"MR1"})}
    rules = AccessRules(ae_map=AeMap(Path("map.toml"), titles, frozenset({ca})))
    scu, stranger = pki.scu.der, pki.stranger.der

    def slug(calling: str, *about: object) -> str:
        found = judge(asked(calling), client(*about), rules)  # type: ignore[arg-type]
        assert numbers(found) in (None, PERMANENT_CALLING)
        return found.error.slug if found else ""

    assert slug("CT1", scu) == slug("CT2", scu) == slug("MR1", scu, (ca,)) == slug("CT1", scu, (ca,)) == ""
    assert slug("MR1", stranger, (ca,)) == ""
    assert slug("CT1", stranger, (ca,)) == slug("MR1", scu) == slug("CT3", scu) == "access.not-its-aet"
    assert slug("CT1", stranger) == slug("MR1", stranger, ("ab" * 32,)) == "access.not-in-map"
    assert slug("CT1", None) == "access.no-certificate"


def test_the_hint_is_the_entry_that_is_missing(pki: Pki) -> None:
    rules = AccessRules(ae_map=AeMap(Path("map.toml"), {}, frozenset()))
    found = judge(asked(), client(pki.stranger.der), rules)
    assert found is not None
    assert f'`certificate = "{pki.stranger.fingerprint}"`' in found.error.hint
    assert '`aet = "CT1"`' in found.error.hint
    assert "map.toml" in found.error.message


def test_all_rules_have_to_agree(pki: Pki) -> None:
    titles = {pki.scu.fingerprint: frozenset({"CT1", "CT2"})}
    rules = AccessRules("ARCHIVE", frozenset({"CT2"}), AeMap(Path("map.toml"), titles, frozenset()))
    assert judge(asked("CT2"), client(pki.scu.der), rules) is None
    found = judge(asked("CT1"), client(pki.scu.der), rules)
    assert found is not None
    assert found.error.slug == "access.calling-aet"


def test_too_many_is_a_passing_state() -> None:
    found = too_many(client(), 7)
    assert numbers(found) == (2, 3, 2)
    assert "7 associations" in found.error.message
