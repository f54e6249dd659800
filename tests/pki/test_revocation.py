"""Revocation lists: what is read, what is refused, and what they say about a chain; bad ones of every kind."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError, UsageError
from dicomtls_cli.pki import revocation
from dicomtls_cli.pki.load import load_trust
from dicomtls_cli.pki.revocation import RevocationLists, gather
from dicomtls_cli.pki.validity import read_validity
from tests.pki.conftest import openssl
from tests.support.pki import DAY, Identity, make_identity, write_bundle
from tests.support.revocation import make_crl


@dataclass(frozen=True)
class Family:
    """Two CAs of one name, an intermediate of the first, what they issued, and one that is self-signed."""

    folder: Path
    people: dict[str, Identity]

    def __getitem__(self, name: str) -> Identity:
        return self.people[name]

    def verdict(self, chain: str, *crls: Path, pinned: bool = False, now: float = 0) -> str | None:
        """Return the slug of the refusal of the chain `chain`, names of people; `now` is in days from today."""
        ders = [self[name].der for name in chain.split()]
        lists = RevocationLists(gather(crls), [self["ca"].der, self["self"].der])
        refusal = lists.check(ders, pinned, datetime.datetime.now(datetime.UTC) + now * DAY)
        if refusal is None:
            return None
        assert refusal.message
        assert refusal.hint
        return refusal.slug


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    people: dict[str, Identity] = {}
    for name, issuer, options in (
        ("ca", "", {"subject": "ward", "ca": True}),
        ("twin", "", {"subject": "ward", "ca": True}),
        ("silent", "", {"subject": "silent", "ca": True, "key_usage": False}),
        ("intermediate", "ca", {"subject": "intermediate", "ca": True}),
        ("node", "ca", {"subject": "node"}),
        ("other", "ca", {"subject": "other"}),
        ("deep", "intermediate", {"subject": "deep"}),
        ("self", "", {"subject": "self"}),
        ("quiet", "silent", {"subject": "quiet"}),
    ):
        people[name] = make_identity(folder, name, issuer=people.get(issuer), **options)
    return Family(folder, people)


REVOKED, MISSING, EXPIRED = "tls.peer-revoked", "tls.crl-missing", "tls.crl-expired"
FUTURE, UNUSABLE = "tls.crl-not-yet-valid", "tls.crl-unusable"


@pytest.mark.parametrize("name", ["list.crl", "list.der"])
def test_who_is_on_it_and_who_is_not(name: str, family: Family) -> None:
    listed = make_crl(Path(name), family["ca"], family["node"])
    assert family.verdict("node ca", listed) == REVOKED
    assert family.verdict("other ca", listed) is None


def test_many_lists_in_one_file(family: Family) -> None:
    parts = [
        make_crl(Path("a.crl"), family["ca"], family["node"]),
        make_crl(Path("b.crl"), family["intermediate"]),
    ]
    both = Path("both.crl")
    both.write_text("text\n" + "".join(path.read_text() for path in parts) + "more text\n")
    assert family.verdict("node ca", both) == REVOKED
    assert family.verdict("deep intermediate ca", both) is None


def test_every_ca_below_the_anchor_needs_a_list_and_is_looked_up(family: Family) -> None:
    own = make_crl(Path("own.crl"), family["intermediate"])
    root = make_crl(Path("root.crl"), family["ca"])
    without = make_crl(Path("without.crl"), family["ca"], family["intermediate"])
    chain = "deep intermediate ca"
    assert family.verdict(chain, own, root) is None
    assert family.verdict(chain, own) == MISSING
    assert family.verdict(chain, root) == MISSING
    assert family.verdict(chain, own, without) == REVOKED
    # Where the intermediate is the anchor itself, the chain ends with it, and nobody is asked about it.
    assert family.verdict("deep intermediate", own) is None


def test_the_dates(family: Family) -> None:
    listed = make_crl(Path("list.crl"), family["ca"], family["node"], valid=(-1, 7))
    assert family.verdict("other ca", listed, now=6.9) is None
    assert family.verdict("other ca", listed, now=7.1) == EXPIRED
    assert family.verdict("node ca", listed, now=7.1) == REVOKED, "an old list is right about whom it names"
    assert family.verdict("other ca", listed, now=-1.1) == FUTURE
    assert family.verdict("node ca", listed, now=-1.1) == FUTURE


def test_of_several_the_one_that_was_issued_last_decides(family: Family) -> None:
    old = make_crl(Path("old.crl"), family["ca"], valid=(-5, 30))
    new = make_crl(Path("new.crl"), family["ca"], family["node"], valid=(-1, 1))
    for files in ((old, new), (new, old)):
        assert family.verdict("node ca", *files) == REVOKED
        assert family.verdict("other ca", *files) is None
        assert family.verdict("other ca", *files, now=2) == EXPIRED, "the older one may lack somebody"
        assert family.verdict("other ca", *files, now=-2) is None, "the newer one is not there yet"


def test_only_the_cas_own_signature_counts(family: Family) -> None:
    """A list of the same name by another key names nobody here, and does no harm beside the right one."""
    forged = make_crl(Path("forged.crl"), family["ca"], family["node"], signer=family["twin"])
    assert family.verdict("other ca", forged) == UNUSABLE
    right = make_crl(Path("right.crl"), family["ca"], valid=(-5, 30))
    assert family.verdict("node ca", forged, right) is None


def test_a_ca_that_may_not_sign_lists(family: Family) -> None:
    """A node that holds a key, and signs a list in its own name; RFC 5280 6.3.3 (f)."""
    listed = make_crl(Path("list.crl"), family["node"])
    child = make_identity(family.folder, "child", subject="child", issuer=family["node"])
    lists = RevocationLists(gather([listed]), [])
    refusal = lists.check([child.der, family["node"].der], False)
    assert refusal is not None
    assert (refusal.slug, "keyUsage" in refusal.message) == (UNUSABLE, True)
    # Without a key usage at all, as `openssl req -x509` makes them, it may.
    assert family.verdict("quiet silent", make_crl(Path("silent.crl"), family["silent"])) is None


def test_a_pinned_peer_needs_no_list_and_must_not_be_on_one(family: Family) -> None:
    empty = make_crl(Path("empty.crl"), family["ca"], valid=(-9, -1))
    listed = make_crl(Path("list.crl"), family["ca"], family["node"], valid=(-9, -1))
    forged = make_crl(Path("forged.crl"), family["ca"], family["node"], signer=family["twin"])
    assert family.verdict("self", listed, pinned=True) is None
    assert family.verdict("node", empty, pinned=True) is None
    assert family.verdict("node", forged, pinned=True) is None
    for chain in ("node", "node ca"):
        assert family.verdict(chain, listed, pinned=True) == REVOKED
    # A self-signed certificate that puts itself on a list of its own: it may not sign one, and is the user's pin.
    assert (
        family.verdict("self", make_crl(Path("self.crl"), family["self"], family["self"]), pinned=True)
        is None
    )


@pytest.mark.parametrize("pinned", [False, True])
def test_a_chain_that_cannot_be_read_or_is_unknown(pinned: bool, family: Family) -> None:
    lists = RevocationLists(gather([make_crl(Path("list.crl"), family["ca"])]), [family["ca"].der])
    for chain in ([], [b"\x30\x00"], [b"", family["ca"].der], [family["node"].der]):
        refusal = lists.check(chain, pinned)
        assert (refusal and refusal.slug) == (None if pinned else UNUSABLE)


def test_ten_thousand_entries(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = make_crl(Path("big.der"), family["ca"], family["node"], serials=range(1, 10_001))
    assert family.verdict("node ca", listed) == REVOKED
    assert family.verdict("other ca", listed) is None
    (one,) = gather([listed])
    assert len(one.revoked) == 10_001
    verified: list[object] = []
    verifies = revocation._verifies
    monkeypatch.setattr(revocation, "_verifies", lambda *words: verified.append(words) or verifies(*words))
    lists = RevocationLists([one], [])
    for _ in range(3):
        assert lists.check([family["other"].der, family["ca"].der], False) is None
    assert len(verified) == 1, "once, not for each association"


# ---------------------------------------------------------------------- what is not read

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "else")])
_POINT = {
    "full_name": None, "relative_name": None, "only_contains_user_certs": False, "only_contains_ca_certs": False,
    "only_some_reasons": None, "indirect_crl": False, "only_contains_attribute_certs": False,
}  # fmt: skip
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
_UNSUPPORTED = {
    "delta": ({"extensions": [(x509.DeltaCRLIndicator(1), True)]}, "delta"),
    "delta, not critical": ({"extensions": [(x509.DeltaCRLIndicator(1), False)]}, "delta"),
    "indirect": (
        {"extensions": [(x509.IssuingDistributionPoint(**{**_POINT, "indirect_crl": True}), True)]}, "indirect",
    ),
    "users only": (
        {"extensions": [(x509.IssuingDistributionPoint(**{**_POINT, "only_contains_user_certs": True}), True)]},
        "some certificates only",
    ),
    "unknown": ({"extensions": [(_UNKNOWN, True)]}, "1.3.6.1.4.1.99999.1"),
    "entry of another CA": (
        {"entry_extensions": [(x509.CertificateIssuer([x509.DirectoryName(_NAME)]), True)], "serials": [7]},
        "indirect",
    ),
    "unknown in an entry": ({"entry_extensions": [(_UNKNOWN, True)], "serials": [7]}, "1.3.6.1.4.1.99999.1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", _UNSUPPORTED)
def test_lists_that_do_not_speak_for_all(kind: str, family: Family) -> None:
    options, words = _UNSUPPORTED[kind]
    with pytest.raises(InputError) as caught:
        gather([make_crl(Path("list.crl"), family["ca"], **options)])
    assert caught.value.slug == "crl.unsupported"
    assert words in caught.value.message
    assert "`CN=ward`" in caught.value.message


def test_what_is_not_critical_does_not_matter(family: Family) -> None:
    listed = make_crl(
        Path("list.crl"), family["ca"], family["node"],
        extensions=[(x509.CRLNumber(3), False), (_UNKNOWN, False)],
        entry_extensions=[(x509.CRLReason(x509.ReasonFlags.key_compromise), False)],
    )  # fmt: skip
    assert family.verdict("node ca", listed) == REVOKED


CONFIGURATION = """
[ca]
default_ca = ward
[ward]
database = index.txt
default_md = {digest}
default_crl_days = 30
certificate = {cert}
private_key = {key}
crlnumber = crlnumber
crl_extensions = extensions
[extensions]
authorityKeyIdentifier = keyid
"""


def by_openssl(ca: Identity, *revoked: Identity, digest: str = "sha256", days: int = 30) -> None:
    """Write list.pem and list.der in the current folder as `openssl ca` makes them."""
    Path("index.txt").write_text("")
    Path("crlnumber").write_text("01\n")
    Path("ca.cnf").write_text(CONFIGURATION.format(digest=digest, cert=ca.cert, key=ca.key))
    for one in revoked:
        openssl("ca", "-config", "ca.cnf", "-revoke", one.cert, "-crl_reason", "keyCompromise")
    openssl("ca", "-config", "ca.cnf", "-gencrl", "-crldays", str(days), "-out", "list.pem")
    openssl("crl", "-in", "list.pem", "-outform", "DER", "-out", "list.der")


@pytest.mark.parametrize("form", ["pem", "der"])
def test_a_list_made_by_openssl(form: str, family: Family) -> None:
    by_openssl(family["ca"], family["node"])
    listed = Path(f"list.{form}")
    assert family.verdict("node ca", listed) == REVOKED
    assert family.verdict("other ca", listed) is None


def test_a_list_with_a_weak_signature(family: Family) -> None:
    by_openssl(family["ca"], digest="sha1")
    with pytest.raises(InputError, match="SHA1") as caught:
        gather([Path("list.pem")])
    assert caught.value.slug == "crl.unsupported"


def without_end(der: bytes) -> bytes:
    """Return the list `der` without its nextUpdate, the second of the two times in it."""
    begin = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 2)
    shorter = der[:begin] + der[begin + 15 :]
    # The two SEQUENCEs around it have lengths of two octets: 30 82 hh ll.
    for at in (0, 4):
        length = int.from_bytes(shorter[at + 2 : at + 4]) - 15
        shorter = shorter[: at + 2] + length.to_bytes(2) + shorter[at + 4 :]
    return shorter


def test_a_list_that_never_ends(family: Family) -> None:
    listed = make_crl(Path("list.der"), family["ca"], serials=range(1, 20))
    listed.write_bytes(without_end(listed.read_bytes()))
    assert "Next Update: NONE" in openssl("crl", "-in", listed, "-noout", "-text", "-inform", "DER")
    with pytest.raises(InputError, match="nextUpdate") as caught:
        gather([listed])
    assert caught.value.slug == "crl.unsupported"


@pytest.mark.parametrize("data", [
    b"", b"hello", b"\x30\x03\x02\x01\x00", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
])  # fmt: skip
def test_what_is_no_list(data: bytes, family: Family) -> None:
    Path("x").write_bytes(data)
    for path in (Path("x"), family["node"].cert):
        with pytest.raises(InputError) as caught:
            gather([path])
        assert caught.value.slug == "crl.not-a-list"
        assert caught.value.hint


@pytest.mark.parametrize("body", ["%%%%", "AAAA", "MAA=", ""])
def test_a_block_with_nonsense_in_it(body: str) -> None:
    Path("x.crl").write_text(f"-----BEGIN X509 CRL-----\n{body}\n-----END X509 CRL-----\n")
    with pytest.raises(InputError) as caught:
        gather([Path("x.crl")])
    assert caught.value.slug == "crl.damaged"


@given(st.binary(max_size=300), st.sampled_from(["raw", "pem", "der"]))
def test_garbage_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: bytes, how: str) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.crl"
    if how == "pem":
        data = b"-----BEGIN X509 CRL-----\n" + base64.b64encode(data) + b"\n-----END X509 CRL-----\n"
    elif how == "der":
        # As a list begins: SEQUENCE { SEQUENCE { algorithm, issuer, time, ... }, SEQUENCE, BIT STRING }
        time = b"\x17\x0d250101000000Z"
        body = b"\x02\x01\x01\x30\x00\x30\x00" + time + time + data[:60]
        data = (
            b"\x30" + bytes([len(body) + 7]) + b"\x30" + bytes([len(body)]) + body + b"\x30\x00\x03\x01\x00"
        )
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        gather([path])
    assert caught.value.slug in ("crl.not-a-list", "crl.damaged", "crl.unsupported", "pem.damaged")


@pytest.fixture(scope="module")
def naming(family: Family) -> bytes:
    """The list of the CA that names the node, DER."""
    return make_crl(family.folder / "naming.der", family["ca"], family["node"]).read_bytes()


@given(at=st.integers(0, 400), flipped=st.integers(1, 255))
def test_a_changed_list_never_lets_the_revoked_one_in(
    at: int, flipped: int, naming: bytes, family: Family
) -> None:
    """One octet is another one: the list is refused, or is not the CA's any more, or still names the node."""
    changed = bytearray(naming)
    changed[at % len(naming)] ^= flipped
    path = family.folder / "changed.der"
    path.write_bytes(changed)
    try:
        verdict = family.verdict("node ca", path)
    except InputError:
        return
    assert verdict is not None


# ---------------------------------------------------------------------- among the trusted certificates


def slug_of(
    trusted: Sequence[Path], chain: Sequence[Identity], *crls: Path, check: bool = False
) -> str | None:
    trust = load_trust(trusted, crls=crls, check_crls=check)
    assert trust.revocation is not None
    refusal = trust.revocation([one.der for one in chain], False)
    return refusal and refusal.slug


def test_lists_in_a_trust_file_count_once_they_are_wanted(
    family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    listed = make_crl(Path("list.crl"), family["ca"], family["node"])
    both = write_bundle(Path("both.pem"), family["ca"])
    both.write_text(both.read_text() + listed.read_text())
    chain = (family["node"], family["ca"])
    assert load_trust([both]).revocation is None
    assert "also holds a revocation list, which is looked at with `--crl FILE` or `+crv` only" in caplog.text
    assert slug_of([both], chain, check=True) == REVOKED
    assert slug_of([family["ca"].cert, listed], chain, check=True) == REVOKED
    own = make_crl(Path("own.crl"), family["intermediate"])
    assert slug_of([both], chain, own) == REVOKED


def test_lists_in_a_trust_folder(family: Family) -> None:
    folder = Path("trusted")
    make_crl(folder / "ward.crl", family["ca"], family["node"])
    (folder / "ward.crt").write_text(family["ca"].pem)
    (folder / "README").write_text("not looked at")
    assert slug_of([folder], (family["node"], family["ca"]), check=True) == REVOKED
    assert load_trust([folder]).revocation is None
    (folder / "ward.crl").rename(folder / "crl.pem")
    assert slug_of([folder], (family["node"], family["ca"]), check=True) == REVOKED
    with pytest.raises(InputError) as caught:
        load_trust([folder])
    assert (caught.value.slug, "--crl" in caught.value.hint) == ("trust.is-crl", True)


def test_none_at_all_where_they_are_wanted(family: Family) -> None:
    with pytest.raises(UsageError) as caught:
        load_trust([family["ca"].cert], check_crls=True)
    assert caught.value.slug == "usage.no-crl"


def test_who_is_warned_of_a_list_that_ends(family: Family) -> None:
    listed = make_crl(Path("list.crl"), family["ca"], valid=(-10, 10))
    validity = read_validity(family["node"].cert, [family["ca"].cert], crls=[listed])
    mine = [one for one in validity.warnings() if "list" in one]
    assert mine == []
    now = datetime.datetime.now(datetime.UTC)
    soon, late = (
        [one for one in validity.warnings(now + days * DAY) if "`list.crl`" in one] for days in (7, 11)
    )
    assert "is in force until" in soon[0]
    assert "has not been in force since" in late[0]
    assert read_validity(family["node"].cert, [family["ca"].cert]).lists == ()


def test_the_same_list_as_openssl_reads_it(family: Family) -> None:
    """The oracle: `openssl verify -crl_check` on the same files, with the same outcome."""
    files = {
        "right": make_crl(Path("right.crl"), family["ca"], family["node"]),
        "old": make_crl(Path("old.crl"), family["ca"], family["node"], valid=(-9, -1)),
        "early": make_crl(Path("early.crl"), family["ca"], family["node"], valid=(1, 9)),
        "forged": make_crl(Path("forged.crl"), family["ca"], signer=family["twin"]),
        "strange": make_crl(Path("strange.crl"), family["silent"]),
    }
    for name, path in files.items():
        for who in ("node", "other"):
            ours = family.verdict(f"{who} ca", path) is None
            words = ("verify", "-crl_check", "-CAfile", family["ca"].cert, "-CRLfile", path, family[who].cert)
            try:
                theirs = openssl(*words).endswith("OK\n")
            except AssertionError:
                theirs = False
            assert ours == theirs, (name, who)


def test_pem_is_read_with_the_tolerance_of_certificates(family: Family) -> None:
    """Windows line ends, a byte order mark and text around the block."""
    listed = make_crl(Path("list.crl"), family["ca"], family["node"])
    text = "text\n" + listed.read_text()
    listed.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert family.verdict("node ca", listed) == REVOKED
