"""A certificate that nobody can know, for one handshake."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicomtls_cli.material import KeyPair


@contextmanager
def stranger() -> Iterator[KeyPair]:
    """Yield a key pair made on the spot; its key is on disk encrypted, 0600 in 0700, and gone afterwards."""
    from dicomtls_cli.pki.files import NewFile, write_files
    from dicomtls_cli.pki.generate import generate

    secret = os.urandom(32).hex().encode()
    made = generate("stranger", days=1, passphrase=secret)
    with tempfile.TemporaryDirectory(prefix="dicomtls-") as folder:
        cert, key = Path(folder, "stranger.crt"), Path(folder, "stranger.key")
        write_files([NewFile(cert, made.certificate), NewFile(key, made.key, private=True)])
        yield KeyPair(str(cert), str(key), lambda: secret)
