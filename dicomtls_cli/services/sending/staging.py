"""An instance on its way to an association: its file opened or converted, and laid out as a C-STORE-RQ."""

from __future__ import annotations

import logging
from io import BytesIO
from typing import IO, NamedTuple

from dicomtls_cli.dimse.command import Priority
from dicomtls_cli.dimse.repeated import encode_store_request
from dicomtls_cli.errors import InputError
from dicomtls_cli.services.files.read_ahead import ReadAhead
from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.files.syntax import transfer_syntax
from dicomtls_cli.services.transcoding.transcode import transcode
from dicomtls_cli.upperlayer.association import Association

logger = logging.getLogger("dicomtls.association")


class Way(NamedTuple):
    """How instances of one kind travel on the open association; `refusal` says why they cannot."""

    context_id: int
    transfer_syntax: str
    refusal: str = ""


class Staged(NamedTuple):
    """An instance that is laid out on an association: its data set, how many bytes that has, its message id."""

    data: IO[bytes]
    length: int
    message_id: int


def stage(
    association: Association,
    instance: Instance,
    way: Way,
    message_id: int,
    priority: Priority,
    read_ahead: ReadAhead,
) -> Staged:
    """Open or convert `instance`, unless it is in `read_ahead`, and lay it out on `association`, for its `transmit`.

    Raises InputError or OSError for a file that cannot be sent, DicomTlsError where it cannot be converted.
    """
    if way.transfer_syntax != instance.transfer_syntax:
        logger.info("Converting to transfer syntax %s: %s", way.transfer_syntax, instance.file)
        data, length = transcode(instance, way.transfer_syntax)
    else:
        data, length = open_data_set(instance, read_ahead)
    try:
        request = encode_store_request(message_id, instance.sop_class, instance.sop_instance, priority)
        association.stage(way.context_id, request, data, length)
    except BaseException:
        data.close()
        raise
    return Staged(data, length, message_id)


def open_data_set(instance: Instance, read_ahead: ReadAhead) -> tuple[IO[bytes], int]:
    """Return where the data set of `instance` is read from, exactly as it is stored, and its length in bytes.

    Every fragment has to be even (PS3.7 Annex F); a deflated stream of odd length gets one NUL after its end (PS3.5
    A.5), any other data set of odd length is malformed.
    """
    file = read_ahead.open(instance)
    try:
        file.seek(instance.offset)
        length = instance.size - instance.offset
        if length % 2 == 0:
            return file, length
        if not transfer_syntax(instance.transfer_syntax).deflated:
            raise InputError(
                f"`{instance.file}` is a broken DICOM file: its data set has an odd number of bytes",
                "write it anew from its source",
                slug="input.odd-length",
            )
        with file:
            return BytesIO(file.read() + b"\0"), length + 1
    except BaseException:
        file.close()
        raise
