"""Why connections over a context failed, kept for programs that do not hand the exception on.

pynetdicom catches what its sockets raise, and tells only that there is no association.
"""

from __future__ import annotations

import ssl
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from dicomtls_cli.tls.context import DicomTlsSocket
from dicomtls_cli.tls.handshake import messages
from dicomtls_cli.tls.policy import Role, TlsPolicy

_PATIENCE = 1.0  # seconds for an alert that is on its way


class Failure(NamedTuple):
    """What a connection ended with, and how far it was: `connected` by TCP, `secured` by TLS, `answered`.

    `certificate_requested` tells whether the acceptor asked for a certificate; `policy` is the context's.
    """

    policy: TlsPolicy
    error: OSError
    connected: bool
    secured: bool
    answered: bool
    certificate_requested: bool


_last: WeakKeyDictionary[ssl.SSLContext, Failure] = WeakKeyDictionary()


def keep_failures(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make the sockets of `context`, which is one of ours, note why they failed; return it."""
    context.sslsocket_class = _NotingSocket
    return context


def take_failure(context: ssl.SSLContext) -> Failure | None:
    """Return the last failure on a socket of `context`, and forget it.

    A requestor's context forgets it too when its next connection begins.
    """
    return _last.pop(context, None)


class _NotingSocket(DicomTlsSocket):
    _is_connected = True  # wrapped as such, unless `connect` is called
    _has_answered = False
    _has_reason = False

    def connect(self, address: Any) -> None:
        _last.pop(self.context, None)
        self._is_connected = False
        try:
            super().connect(address)
        except OSError as error:
            self._note(error)
            raise

    def do_handshake(self, *arguments: Any) -> None:
        self._is_connected = True
        if self.context.policy.role is Role.REQUESTOR:
            _last.pop(self.context, None)
        try:
            super().do_handshake(*arguments)
        except OSError as error:
            self._note(error)
            raise

    def read(self, *arguments: Any) -> Any:
        try:
            found = super().read(*arguments)
        except OSError as error:
            self._note(error)
            raise
        self._has_answered = True
        return found

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags)
        except TimeoutError as error:  # the connection lives, and what waits to be read is its user's
            self._note(error)
            raise
        except OSError as error:
            self._note(self._unread_alert() or error)
            raise

    def _unread_alert(self) -> ssl.SSLError | None:
        """Return the alert that came before the peer closed, where nothing else did.

        Under TLS 1.3 a refused certificate shows at the first read only, and who sends first may never read.
        """
        if not self._identified or self._has_answered or self.gettimeout() == 0:
            return None
        self.settimeout(_PATIENCE)
        try:
            super().read(1)
        except ssl.SSLError as alert:
            return alert
        except OSError:
            return None
        return None

    def _note(self, error: OSError) -> None:
        if self._has_reason or isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            return
        # What TLS says stays: that the connection is closed comes after it.
        self._has_reason = isinstance(error, ssl.SSLError)
        _last[self.context] = Failure(
            self.context.policy,
            _without_trace(error),
            self._is_connected,
            self._identified,
            self._has_answered,
            messages(self).certificate_requested,
        )


def _without_trace(error: OSError) -> OSError:
    """Return an equal of `error` that keeps nothing alive: its own holds the frames, and they this very socket."""
    kind = type(error)
    equal = kind.__new__(kind, *error.args)
    OSError.__init__(equal, *error.args)
    vars(equal).update(vars(error))
    return equal
