"""The SCP: a receiver inside a Python program."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from dicomtls_cli.api.words import listening_port, path, several
from dicomtls_cli.services.peer import PLAIN_PORT, TLS_PORT, Timeouts, TlsOptions
from dicomtls_cli.services.receiving import server as services
from dicomtls_cli.services.receiving.admission import Admission, default_hosts
from dicomtls_cli.services.receiving.events import Event, Received
from dicomtls_cli.services.receiving.faults import Faults
from dicomtls_cli.services.receiving.reception import StorageOptions
from dicomtls_cli.services.receiving.server import ServerOptions
from dicomtls_cli.upperlayer.negotiation import AcceptRules, ae_title


class StorageServer:
    """A receiver for C-STORE and C-ECHO that serves, in threads of its own, inside `with`.

    It stores into the folder `output`; None receives and throws away. `port` is 2762 unless given, 11112 without
    TLS, and 0 takes a free one. `hosts` are the addresses to listen on: all of them if every peer has to show a
    certificate, else loopback. `aet` is its AE title: with `aet_only` no other may be called; `allow` are those that
    may call, `ae_map` is a file that says which certificate may call itself what. `grace` is how many seconds
    transfers in flight get at the end of `with`, `max_associations` how many may be open at once. `faults` are done
    on purpose, to test senders.

    `on_instance` is told of each instance after its answer, `on_event` of whatever happens, refusals included;
    both are called from the threads of the associations, and what they raise is logged. Raises UsageError for
    contradictions, InputError for files that are missing or not what they should be; entering `with` raises
    OutputError where it cannot listen or write.
    """

    def __init__(
        self,
        output: Path | str | None,
        *,
        tls: TlsOptions | None,
        port: int | None = None,
        hosts: Sequence[str] = (),
        aet: str = "DICOMTLS",
        aet_only: bool = False,
        allow: Collection[str] = (),
        ae_map: Path | str | None = None,
        on_instance: Callable[[Received], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        storing: StorageOptions | None = None,
        rules: AcceptRules | None = None,
        faults: Faults | None = None,
        timeouts: Timeouts | None = None,
        max_associations: int = 200,
        grace: float = 10.0,
    ) -> None:
        self._admission = Admission(
            tls,
            called=ae_title(aet) if aet_only else None,
            calling=frozenset(map(ae_title, several(allow))),
            ae_map=None if ae_map is None else path(ae_map),
        )
        self._on_instance = on_instance
        self._on_event = on_event
        self._options = ServerOptions(
            port=(PLAIN_PORT if tls is None else TLS_PORT) if port is None else listening_port(port),
            hosts=several(hosts) or default_hosts(tls, socket.AF_UNSPEC),
            output=None if output is None else path(output),
            aet=ae_title(aet),
            timeouts=timeouts or Timeouts(),
            max_associations=max_associations,
            rules=rules or AcceptRules(),
            storing=storing or StorageOptions(),
            faults=faults or Faults(),
            grace=grace,
            certificate_file="" if tls is None else tls.certificate_file,
        )
        self._server: services.StorageServer | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._running.port

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports it listens on."""
        return self._running.addresses

    def renew(self) -> bool:
        """Read certificates, trust and AE map anew for whoever connects from now on; tell whether that went well.

        If not, the reason is logged, and what was read before stays in force.
        """
        return self._admission.renew(self._running)

    def __enter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("the receiver runs already: its port is in `port`")
        admission = self._admission
        options = replace(self._options, context=admission.context, access=admission.rules)
        server = services.StorageServer(options, self._tell)
        server.__enter__()
        self._server = server
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__()
        self._server = None

    @property
    def _running(self) -> services.StorageServer:
        if self._server is None:
            raise RuntimeError("the receiver does not run: it does inside `with`")
        return self._server

    def _tell(self, event: Event) -> None:
        try:
            if self._on_instance is not None and isinstance(event, Received):
                self._on_instance(event)
        finally:
            if self._on_event is not None:
                self._on_event(event)
