"""The AE map: what it says of a certificate, and that anything but complete, different entries is an error."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomtls_cli.errors import ExitCode, InputError
from dicomtls_cli.services.receiving.ae_map import AeMap, load_ae_map
from tests.conftest import Pki

ONE, TWO, CA = ("ab" * 32), ("cd" * 32), ("ef" * 32)


def read(text: str | bytes) -> AeMap:
    path = Path("map.toml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_ae_map(path)


def entry(**keys: str) -> str:
    return "[[peer]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def by_certificate(digest: str = ONE, aet: str = '"CT1"') -> str:
    return entry(certificate=f'"{digest}"', aet=aet)


def by_ca(digest: str = CA, subject: str = "CN=localhost", aet: str = '"CT1"') -> str:
    return entry(ca=f'"{digest}"', subject=f"'{subject}'", aet=aet)


# --- what it says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aet", ['"CT1"', '["CT1"]', '" CT1 "'])
@pytest.mark.parametrize(
    "write", [str, str.upper, lambda text: ":".join(text[i : i + 2] for i in range(0, 64, 2))]
)
def test_a_certificate_by_its_digest(write, aet, pki: Pki) -> None:
    found = read(by_certificate(write(pki.scu.fingerprint), aet))
    assert found.titles_of(pki.scu.der, ()) == {"CT1"}
    assert found.titles_of(pki.stranger.der, ()) == set()  # of the same subject


@pytest.mark.parametrize(
    "subject", ["CN=localhost", "/CN=localhost", "2.5.4.3=localhost", "commonName=localhost"]
)
def test_a_ca_and_a_subject(subject, pki: Pki) -> None:
    found = read(by_ca(CA, subject))
    assert found.titles_of(pki.scu.der, (ONE, CA)) == {"CT1"}
    assert found.titles_of(pki.scu.der, (ONE,)) == set()
    assert found.titles_of(pki.scu.der, ()) == set()


@pytest.mark.parametrize("subject", ["CN=LOCALHOST", "CN=localhost,O=x", "O=localhost", "CN=localhost\\ "])
def test_another_subject_of_that_ca_is_another(subject, pki: Pki) -> None:
    assert read(by_ca(CA, subject)).titles_of(pki.scu.der, (CA,)) == set()


def test_the_digest_of_the_certificate_is_none_of_a_ca(pki: Pki) -> None:
    """Who holds a certificate cannot vouch for itself, nor a CA come in as a peer."""
    assert read(by_ca(pki.scu.fingerprint)).titles_of(pki.scu.der, ()) == set()
    assert read(by_certificate(CA)).titles_of(pki.scu.der, (CA,)) == set()


def test_all_entries_that_fit_count(pki: Pki) -> None:
    text = (
        by_certificate(pki.scu.fingerprint, '["A", "B"]')
        + by_ca(CA, aet='"C"')
        + by_ca(TWO, aet='"D"')
        + by_ca(ONE, "CN=x", '"E"')
        + by_certificate(TWO, '"A"')  # several certificates may use one AE title: a renewal needs it
    )
    assert read(text).titles_of(pki.scu.der, (ONE, CA, TWO)) == {"A", "B", "C", "D"}


def test_a_certificate_that_nobody_can_read_has_no_subject() -> None:
    assert read(by_ca()).titles_of(b"0\x03\x02\x01\x00", (CA,)) == set()


@pytest.mark.parametrize("change", [lambda t: b"\xef\xbb\xbf" + t, lambda t: t.replace(b"\n", b"\r\n")])
def test_as_windows_editors_write_it(change, pki: Pki) -> None:
    assert read(change(by_certificate(pki.scu.fingerprint).encode())).titles_of(pki.scu.der, ()) == {"CT1"}


# --- what it does not take -------------------------------------------------------------------------------

WRONG = [
    pytest.param("", "access.map-empty", "`--ae-map`", id="empty"),
    pytest.param("# only a comment\n", "access.map-empty", "", id="comment"),
    pytest.param("peer = []", "access.map-empty", "", id="no entries"),
    pytest.param("[[peer]", "access.map-syntax", "", id="no TOML"),
    pytest.param(b"\xff\xfe", "access.map-syntax", "", id="no UTF-8"),
    pytest.param("peer = " + "[" * 100_000, "access.map-syntax", "", id="deep"),
    pytest.param("[peer]\naet = 'A'", "access.map-syntax", "[[peer]]", id="one bracket"),
    pytest.param("peer = [1]", "access.map-syntax", "[[peer]]", id="no tables"),
    pytest.param("[[peers]]", "access.map-key", "did you mean `peer`?", id="peers"),
    pytest.param(by_certificate() + "aets = 'A'", "access.map-key", "did you mean `aet`?", id="aets"),
    pytest.param(by_certificate() + "certificat = 'A'", "access.map-key", "`certificate`", id="certificat"),
    pytest.param(by_certificate() + "x = 1", "access.map-key", "the keys are", id="x"),
    pytest.param(entry(aet='"A"'), "access.map-key", "`certificate`", id="nobody"),
    pytest.param(entry(subject='"CN=a"', aet='"A"'), "access.map-key", "`ca`", id="bare subject"),
    pytest.param(entry(ca=f'"{CA}"', aet='"A"'), "access.map-key", "`subject`", id="bare ca"),
    pytest.param(by_certificate() + f'ca = "{CA}"', "access.map-key", "", id="certificate and ca"),
    pytest.param(by_certificate() + 'subject = "CN=a"', "access.map-key", "", id="certificate and subject"),
    pytest.param(entry(certificate=f'"{ONE}"'), "access.map-key", "aet", id="no aet"),
    pytest.param(by_certificate("ab" * 31), "access.map-value", "openssl x509", id="short digest"),
    pytest.param(by_certificate("me.crt"), "access.map-value", "openssl x509", id="file"),
    pytest.param(entry(certificate="1", aet='"A"'), "access.map-value", "quotes", id="digest 1"),
    pytest.param(by_certificate(aet="[]"), "access.map-value", "aet", id="no titles"),
    pytest.param(by_certificate(aet="1"), "access.map-value", "aet", id="title 1"),
    pytest.param(by_certificate(aet="[1]"), "access.map-value", "aet", id="title in list 1"),
    pytest.param(by_certificate(aet='""'), "access.map-value", "1 to 16", id="empty title"),
    pytest.param(by_certificate(aet='"SEVENTEEN_LETTERS"'), "access.map-value", "1 to 16", id="long title"),
    pytest.param(by_ca(subject=""), "access.map-value", "CN=ct1", id="empty subject"),
    pytest.param(by_ca(subject="ct1"), "access.map-value", "CN=ct1", id="no subject"),
    pytest.param(by_ca(subject="C=BE, CN=ct1"), "access.map-value", "CN=ct1", id="space after the comma"),
    pytest.param(by_ca(subject="CN=" + "x" * 1000), "access.map-value", "CN=ct1", id="long subject"),
    pytest.param(by_ca(subject="/XX=ct1"), "access.map-value", "one of", id="unknown attribute"),
    pytest.param(by_certificate(aet='["A", " A"]'), "access.map-duplicate", "", id="title twice"),
    pytest.param(by_certificate() + by_certificate(ONE.upper()), "access.map-duplicate", "", id="digest twice"),
    pytest.param(by_ca() + by_ca(subject="/CN=localhost"), "access.map-duplicate", "", id="subject twice"),
    pytest.param(by_certificate() + 'aet = "B"', "access.map-syntax", "", id="key twice"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "slug", "hint"), WRONG)
def test_a_map_that_cannot_be(text, slug, hint) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    error = caught.value
    assert (error.slug, error.exit_code) == (slug, ExitCode.INPUT)
    assert "map.toml" in error.message
    assert hint in error.hint
    assert error.hint
    assert error.message.isprintable()


def test_the_entry_is_named() -> None:
    with pytest.raises(InputError, match="entry 2 has the unknown key `nmae`"):
        read(by_certificate() + by_certificate(TWO) + "nmae = 1")


@pytest.mark.parametrize(("name", "slug"), [("missing", "file.missing"), (".", "file.is-directory")])
def test_a_file_that_cannot_be_read(name, slug) -> None:
    with pytest.raises(InputError) as caught:
        load_ae_map(Path(name))
    assert caught.value.slug == slug


def test_a_file_without_end() -> None:
    with pytest.raises(InputError) as caught:
        read("#" * (1 << 20) + "\n")
    assert caught.value.slug == "file.too-large"


# --- properties ------------------------------------------------------------------------------------------

_WORDS = ["[[peer]]\n", "[peer]\n", "peer", "aet", "certificate", "ca", "subject", " = ", "\n", '"', "'", "[", "]", ",",
          "{", "}", f'"{ONE}"', f'"{CA}"', '"CN=a"', '"A"', "1", "\\", "#", ".", "\u2028", "\0"]  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(_WORDS), max_size=30).map(lambda w: "".join(w).encode()),
    )
)
def test_nothing_else_than_our_error_comes_of_a_file(data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert read(data).titles


_TITLES = st.text(
    st.characters(codec="ascii", exclude_characters="\\\"' ", min_codepoint=33, max_codepoint=126),
    min_size=1,
    max_size=16,
)


@settings(max_examples=40)
@given(
    st.dictionaries(st.binary(min_size=1, max_size=3), st.sets(_TITLES, min_size=1, max_size=4), min_size=1)
)
def test_what_is_written_is_what_is_read(peers: dict[bytes, set[str]]) -> None:
    """Each certificate has exactly its own AE titles."""
    text = ""
    for der, titles in peers.items():
        written = ", ".join(f'"{title}"' for title in titles)
        text += by_certificate(hashlib.sha256(der).hexdigest(), f"[{written}]")
    found = read(text)
    for der, titles in peers.items():
        assert found.titles_of(der, ()) == titles
    assert found.titles_of(b"none of them", ()) == set()


def test_the_subject_is_that_of_the_log(pki: Pki) -> None:
    """What `storescp` prints of a certificate is what the map takes."""
    from dicomtls_cli.pki.subject import subject_of

    assert isinstance(pki.scu.certificate, x509.Certificate)
    assert read(by_ca(subject=subject_of(pki.scu.der))).titles_of(pki.scu.der, (CA,)) == {"CT1"}
