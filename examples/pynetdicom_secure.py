"""Secure a pynetdicom SCP and SCU with contexts of dicomtls, two lines each, and say why where it fails.

    python examples/pynetdicom_secure.py FOLDER

FOLDER holds what `dicomtls gencert scp scu && dicomtls bundle scp.crt scu.crt -o trusted.crt` makes.
"""

import sys
from pathlib import Path

from pynetdicom import AE, evt

from dicomtls_cli import Role, TlsOptions, diagnose, tls_context

VERIFICATION = "1.2.840.10008.1.1"


def main(folder: Path) -> int:
    trusted = (folder / "trusted.crt",)
    scp_tls = TlsOptions(cert=folder / "scp.crt", key=folder / "scp.key", trust=trusted)
    scu_tls = TlsOptions(cert=folder / "scu.crt", key=folder / "scu.key", trust=trusted)

    scp = AE("SECURE_SCP")
    scp.add_supported_context(VERIFICATION)
    server = scp.start_server(
        ("127.0.0.1", 0),
        block=False,
        ssl_context=tls_context(Role.ACCEPTOR, scp_tls),
        evt_handlers=[(evt.EVT_C_ECHO, lambda event: 0x0000)],
    )
    port = server.socket.getsockname()[1]

    scu = AE("SECURE_SCU")
    scu.add_requested_context(VERIFICATION)
    context = tls_context(Role.REQUESTOR, scu_tls)
    association = scu.associate("localhost", port, ae_title="SECURE_SCP", tls_args=(context, "localhost"))
    status = association.send_c_echo() if association.is_established else None
    if association.is_established:
        association.release()
    elif error := diagnose(
        context, peer=f"localhost:{port}"
    ):  # pynetdicom itself only says that there is none
        print(f"error: {error.message}\nhint: {error.hint}")
    server.shutdown()
    if status:
        print(f"C-ECHO over TLS: {status.Status:#06x}")
    return 0 if status and status.Status == 0 else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
