"""Files for OpenSSL, which reads by name only: in memory where the system has such, gone with their context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dicomtls_cli.errors import OutputError
from dicomtls_cli.pki.files import NewFile, write_files


@contextmanager
def temporary_files() -> Iterator[Callable[[str, bytes], str]]:
    """Yield a function that keeps bytes where OpenSSL can read them by the name it returns.

    In memory where Linux lets us: nothing is left behind even when the process is killed. Elsewhere in a
    directory of mode 0700; the passphrase of a key left in one died with the process.
    """
    with ExitStack() as stack:
        directory: list[Path] = []

        def keep(name: str, data: bytes) -> str:
            in_memory = _in_memory(name, data, stack)
            if in_memory is not None:
                return in_memory
            if not directory:
                directory.append(stack.enter_context(_temporary_directory()))
            write_files([NewFile(directory[0] / name, data, private=True)])
            return str(directory[0] / name)

        yield keep


def _in_memory(name: str, data: bytes, stack: ExitStack) -> str | None:
    """Return the path of `data` as a file that has no name on any disk; None where there is no such thing."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create(f"dicomtls-{name}", os.MFD_CLOEXEC)
    except OSError:
        return None
    file = stack.enter_context(os.fdopen(descriptor, "wb", buffering=0))
    path = f"/proc/self/fd/{descriptor}"
    try:
        os.fchmod(descriptor, 0o600)
        file.write(data)
    except OSError:
        return None
    return path if os.access(path, os.R_OK) else None


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    try:
        from tempfile import TemporaryDirectory

        directory = TemporaryDirectory(prefix="dicomtls-", ignore_cleanup_errors=True)  # 0700
    except OSError as error:
        raise OutputError(
            f"there is no directory for temporary files: {error.strerror}",
            "set TMPDIR to a directory you may write to, or convert certificate and key to PEM",
            slug="output.no-temporary",
        ) from None
    with directory as name:
        yield Path(name)
