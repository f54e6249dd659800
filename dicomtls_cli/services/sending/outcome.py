"""What becomes of an instance that was to be sent, and the errors that say so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dicomtls_cli.errors import DicomTlsError, ExitCode, InputError
from dicomtls_cli.services.files.scan import Instance


class Outcome(NamedTuple):
    """What became of one instance.

    `status` is the peer's C-STORE status, None where it gave none; `error` says what went wrong and is None
    for success and warnings; `seconds` is the time from the request to its response, `length` the number of
    bytes of the data set, `transfer_syntax` what it travelled in ("" where it did not). `refusal` says in
    words why the peer took no presentation context for it, where that is what was wrong.
    """

    instance: Instance
    status: int | None
    error: DicomTlsError | None
    seconds: float = 0.0
    length: int = 0
    transfer_syntax: str = ""
    refusal: str = ""

    @property
    def path(self) -> Path:
        """The file."""
        return self.instance.path

    @property
    def is_stored(self) -> bool:
        """Whether the peer said that it stored the instance, were it with a warning."""
        return self.error is None

    @property
    def is_warning(self) -> bool:
        """Whether the peer stored the instance with a warning."""
        return self.is_stored and self.status != 0


def not_sent(instance: Instance, cause: DicomTlsError, what: str = "sent") -> Outcome:
    """Return the outcome of an instance that `cause`, which is about the peer, left unsent or unanswered."""
    error = DicomTlsError(
        f"`{instance.file}` was not {what}: {cause.message}",
        cause.hint,
        slug=cause.slug,
        exit_code=cause.exit_code,
    )
    return Outcome(instance, None, error)


def no_context(instance: Instance, reason: str) -> Outcome:
    """Return the outcome of an instance whose presentation contexts the peer refused; `reason` is in words."""
    error = DicomTlsError(
        f"the peer does not take `{instance.file}` (SOP class {instance.sop_class}, transfer syntax "
        f"{instance.transfer_syntax}): {reason}",
        "the peer has to support this SOP class in this transfer syntax",
        slug="association.no-context",
        exit_code=ExitCode.NO_CONTEXT,
    )
    return Outcome(instance, None, error, refusal=reason)


def unreadable(instance: Instance, error: OSError) -> Outcome:
    """Return the outcome of an instance whose file cannot be read any more."""
    return Outcome(
        instance,
        None,
        InputError(
            f"cannot read `{instance.file}`: {error.strerror}",
            "check the path and its rights",
            slug="input.unreadable",
        ),
    )
