"""Which programs take a certificate, in which role, and why not: one table of rules, pure.

The rules are what the programs did (tests/interop/test_inspect_verdicts.py asks them again): Orthanc 1.10.1,
DCMTK 3.6.7, Java 17, rustls 0.23 as dicom-rs uses it, and dicomtls itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from dicomtls_cli.pki import circumstances as ask
from dicomtls_cli.pki.circumstances import Case


class Program(StrEnum):
    """Who is to take a certificate."""

    OURS = "dicomtls"
    ORTHANC = "orthanc"
    DCMTK = "dcmtk"
    JAVA = "java"
    RUSTLS = "dicom-rs"


class Use(StrEnum):
    """What the certificate is to the program: that of an SCP it calls, of an SCU that calls it, or its own."""

    SCP = "scp"
    SCU = "scu"
    OWN = "own"


class Answer(StrEnum):
    """Whether it works; all but `yes` come with a reason, and `yes` sometimes with a condition. The worst is last."""

    YES = "yes"
    LIMITED = "limited"
    UNKNOWN = "unknown"
    NO = "no"


class Reason(NamedTuple):
    """Why an answer is what it is: a stable `code`, and words."""

    code: str
    text: str


class Verdict(NamedTuple):
    """What `program` does with a certificate that is this `use` to it."""

    program: Program
    use: Use
    answer: Answer
    reasons: tuple[Reason, ...] = ()


class Rule(NamedTuple):
    """One reason for an answer: it holds `where` (program and use), and for the cases it `applies` to."""

    code: str
    applies: Callable[[Case], bool]
    answer: Answer
    where: frozenset[tuple[Program, Use]]
    text: Callable[[Case], str] | str


def judge(case: Case, uses: Sequence[Use] = (Use.SCP, Use.SCU)) -> list[Verdict]:
    """Return what each program does with the certificate of `case` in these `uses`.

    Of Java and dicom-rs it is not known how they take a certificate as their own: no verdict.
    """
    found = []
    hits = [rule for rule in RULES if rule.applies(case)]
    for program in Program:
        for use in uses:
            if use is Use.OWN and program not in _OPENSSL:
                continue
            fitting = [rule for rule in hits if (program, use) in rule.where]
            answer = max((rule.answer for rule in fitting), key=list(Answer).index, default=Answer.YES)
            reasons = tuple(
                Reason(rule.code, rule.text if isinstance(rule.text, str) else rule.text(case))
                for rule in fitting
                if rule.answer is answer
            )
            found.append(Verdict(program, use, answer, reasons))
    return found


# ---------------------------------------------------------------------- the table

_OURS, _JAVA, _RUSTLS = (Program.OURS,), (Program.JAVA,), (Program.RUSTLS,)
_PEERS = (Program.ORTHANC, Program.DCMTK)
_ALL = tuple(Program)
_OPENSSL = (*_OURS, *_PEERS)
_STRICT = (*_OPENSSL, *_RUSTLS)
_SHOWN = (Use.SCP, Use.SCU)


def _where(programs: Sequence[Program], *uses: Use) -> frozenset[tuple[Program, Use]]:
    return frozenset((program, use) for program in programs for use in uses)


_NO, _LIMITED = Answer.NO, Answer.LIMITED
_ONLY_13 = "over TLS 1.3 only: its TLS 1.2 has suites for RSA keys alone"

RULES: tuple[Rule, ...] = (
    Rule(
        "unreadable",
        ask.unreadable,
        Answer.UNKNOWN,
        _where(_ALL, *_SHOWN) | _where(_OPENSSL, Use.OWN),
        "it cannot be read whole here",
    ),
    Rule("expired", ask.expired, _NO, _where(_OPENSSL, *_SHOWN), ask.end_text),
    Rule("expired", ask.own_or_between_expired, _NO, _where(_RUSTLS, *_SHOWN), ask.end_text),
    Rule("expired", ask.java_expired, _NO, _where(_JAVA, *_SHOWN), ask.end_text),
    Rule("not-yet-valid", ask.not_yet, _NO, _where(_OPENSSL, *_SHOWN), ask.start_text),
    Rule("not-yet-valid", ask.own_or_between_not_yet, _NO, _where(_RUSTLS, *_SHOWN), ask.start_text),
    Rule("not-yet-valid", ask.java_not_yet, _NO, _where(_JAVA, *_SHOWN), ask.start_text),
    Rule("ca-absent", ask.absent, _NO, _where((*_PEERS, *_RUSTLS), *_SHOWN), ask.absent_text),
    Rule(
        "no-ca",
        ask.no_ca,
        _NO,
        _where((*_OPENSSL, *_JAVA), *_SHOWN),
        "what signed it is no CA, or may not sign",
    ),
    Rule(
        "trust-ca",
        ask.silent_ca,
        _LIMITED,
        _where(_OURS, *_SHOWN),
        "with its CA named by `--trust-ca`, since that does not say keyCertSign",
    ),
    Rule(
        "unknown-critical",
        lambda case: bool(case.certificate.critical),
        _NO,
        _where(_STRICT, *_SHOWN),
        "it has a critical extension that nobody knows",
    ),
    Rule(
        "unknown-critical",
        ask.and_vouched(lambda case: bool(case.certificate.critical)),
        _NO,
        _where(_JAVA, *_SHOWN),
        "it has a critical extension that nobody knows",
    ),
    *(
        rule
        for use, word in ((Use.SCP, "serverAuth"), (Use.SCU, "clientAuth"))
        for rule in (
            Rule(
                "extended-usage",
                ask.lacks_usage(word),
                _NO,
                _where(_STRICT, use),
                f"its extended key usage lacks {word}",
            ),
            Rule(
                "extended-usage",
                ask.java_lacks_usage(word),
                _NO,
                _where(_JAVA, use),
                f"its extended key usage lacks {word}",
            ),
        )
    ),
    Rule(
        "key-usage",
        ask.lacks_key_usage("digitalSignature", "keyAgreement"),
        _NO,
        _where(_OPENSSL, Use.SCU),
        "its key usage lacks digitalSignature",
    ),
    Rule(
        "key-usage",
        ask.lacks_key_usage("digitalSignature", "keyAgreement", "keyEncipherment"),
        _NO,
        _where(_OPENSSL, Use.SCP),
        "its key usage lacks digitalSignature",
    ),
    Rule(
        "key-usage",
        ask.and_vouched(ask.lacks_key_usage("digitalSignature")),
        _NO,
        _where(_JAVA, *_SHOWN),
        "its key usage lacks digitalSignature",
    ),
    Rule(
        "odd-key",
        ask.odd_key,
        _NO,
        _where(_ALL, *_SHOWN) | _where(_OPENSSL, Use.OWN),
        "TLS has no signature for its kind of key",
    ),
    Rule(
        "small-key",
        ask.small_rsa,
        _NO,
        _where((*_OURS, *_RUSTLS), *_SHOWN),
        "an RSA key under 2048 bits is no proof",
    ),
    Rule(
        "small-key",
        ask.own_small_rsa,
        _NO,
        _where(_OURS, Use.OWN),
        "an RSA key under 2048 bits is not loaded",
    ),
    Rule(
        "weak-hash",
        ask.weak_hash_below_anchor,
        _NO,
        _where(_OURS, *_SHOWN),
        "a signature with SHA-1 or MD5 is no proof",
    ),
    Rule(
        "weak-hash",
        ask.own_weak_hash,
        _NO,
        _where(_OURS, Use.OWN),
        "a certificate that a CA signed with SHA-1 or MD5 is not loaded",
    ),
    Rule(
        "weak-hash",
        ask.weak_hash,
        _NO,
        _where(_RUSTLS, *_SHOWN),
        "a signature with SHA-1 or MD5 is not verified",
    ),
    Rule("not-rsa", ask.not_rsa, _LIMITED, _where(_PEERS, Use.SCP, Use.OWN), _ONLY_13),
    Rule(
        "version",
        lambda case: 0 < case.certificate.version < 3,
        _NO,
        _where(_RUSTLS, *_SHOWN),
        "it is not X.509 version 3",
    ),
    Rule(
        "ca-true",
        lambda case: bool(case.certificate.ca),
        _NO,
        _where(_RUSTLS, *_SHOWN),
        "it says CA:TRUE, and shows itself",
    ),
    Rule(
        "no-localhost",
        ask.not_localhost,
        _NO,
        _where(_RUSTLS, Use.SCP),
        "its storescu looks for the name `localhost` in it, whatever host it calls",
    ),
    Rule("ed448", ask.is_key("Ed448"), _NO, _where(_RUSTLS, *_SHOWN), "it has no Ed448"),
    Rule("p-521", ask.is_key("P-521"), _LIMITED, _where(_RUSTLS, *_SHOWN), "over TLS 1.3 only"),
    Rule(
        "names",
        lambda case: ask.vouched(case) and bool(ask.hosts(case)),
        Answer.YES,
        _where(_OURS, Use.SCP),
        ask.names_text,
    ),
    Rule(
        "names",
        lambda case: ask.vouched(case) and not ask.hosts(case),
        _LIMITED,
        _where(_OURS, Use.SCP),
        ask.names_text,
    ),
    Rule(
        "encrypted-key",
        lambda case: case.key_encrypted,
        _NO,
        _where((Program.ORTHANC,), Use.OWN),
        "its key has a passphrase, which Orthanc cannot be given",
    ),
    Rule(
        "encrypted-key",
        lambda case: case.key_encrypted,
        _LIMITED,
        _where((Program.DCMTK, *_OURS), Use.OWN),
        "with the passphrase of its key",
    ),
    Rule(
        "not-pem",
        lambda case: not case.pem,
        _LIMITED,
        _where(_PEERS, Use.OWN),
        "once certificate and key are in PEM files",
    ),
    Rule(
        "namesake",
        lambda case: case.namesake,
        _LIMITED,
        _where(_PEERS, *_SHOWN),
        "where it is the first of its subject among the trusted certificates: the others are not seen",
    ),
)
