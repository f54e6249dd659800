"""Where received instances go: to a part while they stream, then a safe name, in one atomic step.

Nothing a peer sends decides about a path: `naming` makes names that stay inside the output directory, and no
file is ever replaced by another instance, whatever the layout.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dicomtls_cli.errors import OutputError
from dicomtls_cli.services.files.heads import HeadReader
from dicomtls_cli.services.receiving.disk import NoRoom, Space, make_folders
from dicomtls_cli.services.receiving.incoming import IncomingFile
from dicomtls_cli.services.receiving.naming import SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE
from dicomtls_cli.services.receiving.parts import FILE_MODE, Parts
from dicomtls_cli.services.receiving.reception import Identifiers, Incoming, StorageOptions
from dicomtls_cli.services.receiving.settlement import Settlement


class Storage:
    """An output directory; safe for any number of threads and processes at once.

    Raises OutputError when the directory cannot be made or written to.
    """

    def __init__(self, directory: Path, options: StorageOptions | None = None) -> None:
        self.directory = directory
        self.options = options or StorageOptions()
        self.incoming = directory / ".incoming"
        self.wanted = self.options.naming.tags | {SOP_CLASS, SOP_INSTANCE, STUDY_INSTANCE}
        self.heads = HeadReader(self.wanted)
        mode = FILE_MODE if self.options.file_mode is None else self.options.file_mode
        # Who may read the files may find them, and nobody else: names of folders tell of patients.
        self._folder_mode = 0o700 | mode | (mode & 0o444) >> 2
        self.settlement = Settlement(directory, self.options, self.make_folders)
        self.space = Space(directory, self.options.min_free)
        self._made = [path for path in (self.incoming, *self.incoming.parents) if not path.exists()]
        try:
            self.make_folders(self.incoming)
            self.parts = Parts(self.incoming, self.options.file_mode, self.make_folders)
        except OSError as error:
            raise OutputError(
                f"cannot write to the output directory `{directory}`: {error.strerror}",
                "name a directory you may write to with `--output`",
                slug="output.directory",
            ) from error
        with contextlib.suppress(NoRoom):
            self.space.check()

    def withdraw(self) -> None:
        """Remove the folders that were made for nothing: the server could not start."""
        for path in self._made:
            with contextlib.suppress(OSError):  # somebody uses it by now
                path.rmdir()

    def receive(self, identifiers: Identifiers) -> Incoming:
        """Begin to take an instance in. Raises NoRoom."""
        self.space.check()
        return IncomingFile(self, identifiers)

    def make_folders(self, folder: Path) -> list[Path]:
        """Make what is missing of `folder` and those above it; return the new ones, outermost first."""
        options = self.options
        return make_folders(
            folder, self._folder_mode, exact=options.file_mode is not None, sync=options.fsync
        )
