"""One conversation with a TLS server: how far it goes, with one deadline and a cap on what is read."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from dicomtls_cli.tls.flights import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    SERVER_HELLO,
    SERVER_KEY_EXCHANGE,
    ServerHello,
    client_hello,
    read_answer,
    read_key_exchange,
    read_server_hello,
)
from dicomtls_cli.tls.handshake import read_certificates
from dicomtls_cli.tls.names import is_address
from dicomtls_cli.tls.survey import Ending, Seen, kept_alert, kept_messages, suite_names

_PIECE = 16 * 1024
_MOST = 512 * 1024  # bytes that are read in one conversation; OpenSSL takes 100 KB of certificates
_ROUNDS = 3  # times the handshake's own seconds: its answer has as far to go
_START = 64  # bytes kept of what a peer says first


def survey(
    sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float, *, listen: float = 0.0
) -> Seen:
    """Make a handshake with the server `host` on a connected `sock` before `deadline` (`time.monotonic()` seconds).

    Where it asks for a certificate, what it says of ours is waited for `listen` seconds, longer only where the
    handshake was slow: under TLS 1.3 that comes after it. The socket stays open. Never raises for what a peer does.
    """
    return _Conversation(sock, context, host, deadline).run(listen)


def ask(sock: socket.socket, version: str, suites: tuple[int, ...], host: str, deadline: float) -> int | None:
    """Offer one `version` and `suites` by their numbers (those of tls.flights) in a bare ClientHello.

    Return the suite that was chosen, 0 where all were refused, None where the peer did not answer before `deadline`.
    Nothing follows the answer. Never raises for what a peer does.
    """
    name = "" if is_address(host) else host
    data = b""
    answer: ServerHello | bool | None = None
    try:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        sock.sendall(client_hello(version, suites, name))
        while answer is None and len(data) < _PIECE:
            if (remaining := deadline - time.monotonic()) <= 0:
                return None
            sock.settimeout(remaining)
            piece = sock.recv(_PIECE)
            if not piece:
                return 0
            data += piece
            answer = read_answer(data)
    except TimeoutError:
        return None
    except OSError:
        return 0
    chosen = isinstance(answer, ServerHello) and answer.version == version and answer.suite in suites
    return answer.suite if chosen and isinstance(answer, ServerHello) else 0


class _Conversation:
    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        except ValueError:  # no name that could be sent
            self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._start = b""
        self._received = 0
        self._sent = False

    def run(self, listen: float) -> Seen:
        begun = time.monotonic()
        error: OSError | None = None
        done = False
        try:
            while not done:
                try:
                    self._tls.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    self._exchange()
            self._flush()
        except OSError as failure:
            error = failure
        seconds = time.monotonic() - begun
        seen = self._seen(error, done, seconds)
        if done and seen.certificate_requested and listen:
            patience = max(listen, _ROUNDS * seconds)
            self._deadline = min(self._deadline, time.monotonic() + patience)
            error = self._listen()
            seen = self._seen(error, done, seconds)
        self._part()
        return seen

    def _listen(self) -> OSError | None:
        """Wait for what the peer says of our certificate; saying nothing is consent."""
        try:
            while True:
                try:
                    self._tls.read(1)
                    return None
                except ssl.SSLWantReadError:
                    self._exchange()
        except TimeoutError:
            return None
        except OSError as error:
            return error

    def _exchange(self) -> None:
        """Send what is to be sent, and read what comes."""
        self._flush()
        if self._received > _MOST:
            raise _TooMuch("the peer does not stop sending")
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(remaining)
        data = self._sock.recv(_PIECE)
        if len(self._start) < _START:
            self._start += data[: _START - len(self._start)]
        self._received += len(data)
        if data:
            self._incoming.write(data)
        else:
            raise _Closed("the peer closed the connection")

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._sent = True
            self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            self._sock.sendall(data)

    def _part(self) -> None:
        """Say goodbye, or why we refuse."""
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._flush()

    def _seen(self, error: OSError | None, done: bool, seconds: float) -> Seen:
        messages = tuple(kept_messages(self._tls))
        hellos = [
            hello for kind, data in messages if kind == SERVER_HELLO and (hello := read_server_hello(data))
        ]
        version = hellos[-1].version if hellos else ""
        suite = suite_names().get(hellos[-1].suite, f"0x{hellos[-1].suite:04X}") if hellos else ""
        group = hellos[-1].group if hellos else ""
        chain: tuple[bytes, ...] = ()
        for kind, data in messages:
            if kind == SERVER_KEY_EXCHANGE:
                group = read_key_exchange(data, suite)
            elif kind == CERTIFICATE:
                chain = read_certificates(data)
        if done and not version:  # a Python without the message callback
            version, suite = self._tls.version() or "", (self._tls.cipher() or ("", "", 0))[0]
            own = self._tls.getpeercert(True)
            chain = (own,) if own else ()
        alert = kept_alert(self._tls)
        return Seen(
            ending=_ending(error, alert, self._start, sent=self._sent),
            version=version,
            cipher=suite,
            group=group,
            chain=chain,
            certificate_requested=any(kind == CERTIFICATE_REQUEST for kind, _ in messages),
            secure_renegotiation=all(hello.secure_renegotiation for hello in hellos[-1:]),
            alpn=(self._tls.selected_alpn_protocol() or "") if done else "",
            start=self._start,
            alert=alert,
            error=error,
            handshake_done=done,
            identified_by=getattr(self._tls, "identified_by", ""),
            seconds=seconds,
        )


class _Closed(ConnectionError):
    pass


class _TooMuch(OSError):
    pass


def _ending(error: OSError | None, alert: int | None, start: bytes, *, sent: bool) -> Ending:
    if error is None:
        return Ending.DONE
    if isinstance(error, TimeoutError):
        return Ending.SILENT
    if isinstance(error, _TooMuch):
        return Ending.TOO_MUCH
    if isinstance(error, ssl.SSLCertVerificationError):
        return Ending.REFUSED
    if alert is not None:
        return Ending.ALERT
    if isinstance(error, _Closed | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Ending.CLOSED
    if isinstance(error, ssl.SSLError):
        return Ending.GARBAGE if start else Ending.NOT_OFFERED if not sent else Ending.CLOSED
    return Ending.RESET
