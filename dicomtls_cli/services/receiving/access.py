"""Who may open an association: a pure decision on the A-ASSOCIATE-RQ and the certificate that was shown."""

from __future__ import annotations

from typing import NamedTuple

from dicomtls_cli.errors import AssociationLost, DicomTlsError, ExitCode
from dicomtls_cli.services.receiving.ae_map import AeMap
from dicomtls_cli.services.receiving.events import Client
from dicomtls_cli.upperlayer.negotiation import ae_title
from dicomtls_cli.upperlayer.pdu import APPLICATION_CONTEXT, AssociateReject, AssociateRequest
from dicomtls_cli.upperlayer.words import reject_words

_VERSION = AssociateReject(1, 2, 2)
_CONTEXT = AssociateReject(1, 1, 2)
_CALLING = AssociateReject(1, 1, 3)
_CALLED = AssociateReject(1, 1, 7)
_TOO_MANY = AssociateReject(2, 3, 2)


class AccessRules(NamedTuple):
    """Who may open an association, beside what the TLS context demands.

    `called` is the AE title that has to be called, None for any; `calling` are those that may call, empty for
    any; `ae_map` says by certificate who may call itself what, None for no such rule.
    """

    called: str | None = None
    calling: frozenset[str] = frozenset()
    ae_map: AeMap | None = None


class Rejection(NamedTuple):
    """The A-ASSOCIATE-RJ (PS3.8 9.3.4) for the peer, and the reason for our log."""

    answer: AssociateReject
    error: DicomTlsError


def judge(request: AssociateRequest, client: Client, rules: AccessRules) -> Rejection | None:
    """Return why `request` of `client` is rejected, None where it may be accepted."""
    if not request.speaks_version_1:
        return rejected(client, _VERSION)
    if request.application_context != APPLICATION_CONTEXT:
        return rejected(client, _CONTEXT)
    titles = []
    for title, answer in ((request.calling_ae, _CALLING), (request.called_ae, _CALLED)):
        try:
            titles.append(ae_title(title))
        except DicomTlsError:
            return rejected(client, answer)
    calling, called = titles
    if rules.called is not None and called != rules.called:
        return rejected(
            client,
            _CALLED,
            "access.called-aet",
            f"it calls `{called}`, and this is `{rules.called}`",
            f"let it call `{rules.called}`, or change ours: `--aet NAME`; without `--aet-only` any is taken",
        )
    if rules.calling and calling not in rules.calling:
        return rejected(
            client,
            _CALLING,
            "access.calling-aet",
            f"`{calling}` is not among those that `--allow` names",
            f"if it may come in, add `--allow {calling}`",
        )
    return None if rules.ae_map is None else _judge_certificate(client, calling, rules.ae_map)


def _judge_certificate(client: Client, calling: str, ae_map: AeMap) -> Rejection | None:
    if not client.certificate:
        return rejected(
            client,
            _CALLING,
            "access.no-certificate",
            f"it showed no certificate, and the AE map `{ae_map.path}` tells peers by theirs",
            "the peer needs a certificate of its own; `--peer-cert require` asks for one in the TLS handshake",
        )
    titles = ae_map.titles_of(client.certificate, client.tls.vouched_by if client.tls else ())
    if calling in titles:
        return None
    if titles:
        return rejected(
            client,
            _CALLING,
            "access.not-its-aet",
            f"its certificate may not call itself `{calling}`, only {', '.join(f'`{t}`' for t in sorted(titles))}",
            f"if it may, add `{calling}` to the `aet` of its entry in `{ae_map.path}`, and send SIGHUP",
        )
    return rejected(
        client,
        _CALLING,
        "access.not-in-map",
        f"no entry of the AE map `{ae_map.path}` fits its certificate",
        f"if it may come in, add these lines to the map and send SIGHUP: `[[peer]]`, "
        f'`certificate = "{client.fingerprint}"`, `aet = "{calling}"`',
    )


def too_many(client: Client, most: int) -> Rejection:
    """Return the rejection of the association after the last of `most` that may be open at once."""
    return rejected(
        client,
        _TOO_MANY,
        "access.too-many",
        f"{most} associations are open",
        "a peer that tries again later comes in; `--max-associations` sets how many there may be",
    )


def rejected(
    client: Client, answer: AssociateReject, slug: str = "association.rejected", why: str = "", hint: str = ""
) -> Rejection:
    """Return the rejection of `client` by `answer`; `why` and `hint` are for our log."""
    words = reject_words(answer)
    return Rejection(
        answer,
        AssociationLost(
            f"rejected `{client.address}`: {f'{why} ({words})' if why else words}",
            hint,
            slug=slug,
            exit_code=ExitCode.REJECTED,
        ),
    )
