"""Our own certificate, where a peer refuses it: what it says itself about the reason."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

from dicomtls_cli.errors import ConnectionFailed, DicomTlsError
from dicomtls_cli.services.diagnosis.causes import BAD_CERTIFICATE

_UNKNOWN_CA = "tls.refused-unknown-ca"


def explain_own(found: DicomTlsError, certificate_file: str) -> DicomTlsError:
    """Return `found`, a refusal of the certificate in `certificate_file` ("": none), with what that says itself.

    That is who signed it, where the peer does not know that one, and from when on it is valid.
    """
    if found.slug not in (_UNKNOWN_CA, BAD_CERTIFICATE.slug) or not certificate_file:
        return found
    from dicomtls_cli.pki.bundle import collect
    from dicomtls_cli.pki.subject import issuer_of

    try:
        ours = collect([Path(certificate_file)], strip_keys=True).certificates[0]
    except DicomTlsError:
        return found
    file = shlex.quote(certificate_file)
    message, hint = found.message, found.hint
    if found.slug == _UNKNOWN_CA:
        if issuer := issuer_of(ours.der):
            hint = (
                f"ours is signed by {issuer}: let the peer trust that CA; if it trusts one above, show the chain: "
                f"`dicomtls bundle {file} CA.crt -o chain.crt`, and then `--cert chain.crt`"
            )
    elif ours.not_before is not None and ours.not_before > datetime.now(UTC):
        message = f"{message}, which is not valid before {ours.not_before:%Y-%m-%d %H:%M} UTC"
        hint = f"check both clocks (`date`), or make a new one: `dicomtls gencert --renew {file}`"
    return ConnectionFailed(message, hint, slug=found.slug, exit_code=found.exit_code)
