"""A peer that plays a script: it sends exact bytes, checks what it gets, and leaves as real peers do.

Its bytes are built here by hand, so that the code under test does not vouch for itself.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dicomtls_cli.upperlayer.codec import encode
from dicomtls_cli.upperlayer.items import ImplementationClassUID, MaximumLength
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer, propose
from dicomtls_cli.upperlayer.pdu import AssociateAccept, AssociateRequest, ContextResult, PresentationContext

LIMIT = 30.0  # seconds after which a test that hangs fails
_DRIP = 0.03  # seconds between two bytes of a slow peer

RQ, AC, RJ, P_DATA, RELEASE, RELEASED, ABORT = range(1, 8)
RELEASE_RQ = bytes((RELEASE, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RP = bytes((RELEASED, 0, 0, 0, 0, 4, 0, 0, 0, 0))
PROVIDER, USER = 2, 0

VERIFICATION, CT, MR = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def header(pdu_type: int, length: int) -> bytes:
    return struct.pack(">BxI", pdu_type, length)


def abort(source: int, reason: int) -> bytes:
    return header(ABORT, 4) + bytes((0, 0, source, reason))


def reject(result: int, source: int, reason: int) -> bytes:
    return header(RJ, 4) + bytes((0, result, source, reason))


def pdv(context: int, data: bytes, *, command: bool = False, last: bool = True, reserved: int = 0) -> bytes:
    """Return one presentation data value; `reserved` are the other bits of its control header."""
    return struct.pack(">IBB", len(data) + 2, context, command | last << 1 | reserved) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return header(P_DATA, len(body)) + body


def request(
    *proposals: tuple[str, tuple[str, ...]], maximum: int | None = 16384, called: str = "SCP", **more: Any
) -> AssociateRequest:
    """Return an A-ASSOCIATE-RQ for `proposals` (Verification unless given)."""
    items = () if maximum is None else (MaximumLength(maximum),)
    contexts = propose(proposals or [(VERIFICATION, (IMPLICIT,))])
    return AssociateRequest(called, "SCU", contexts, (*items, ImplementationClassUID("1.2.3")), **more)


def accept(asked: AssociateRequest | None = None, maximum: int = 16384) -> bytes:
    """Return the bytes of an A-ASSOCIATE-AC that takes everything `asked` for."""
    return encode(answer(asked or request(), AcceptRules(), maximum))


def accept_of(*results: tuple[int, int, str], maximum: int = 16384) -> bytes:
    """Return the bytes of an A-ASSOCIATE-AC with these results (context id, result, transfer syntax)."""
    made = AssociateAccept("SCP", "SCU", tuple(ContextResult(*r) for r in results), (MaximumLength(maximum),))
    return encode(made)


def context(number: int, abstract: str, *syntaxes: str) -> PresentationContext:
    return PresentationContext(number, abstract, syntaxes)


class Scripted:
    """The other end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(LIMIT)

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.sock.sendall(piece)

    def drip(self, data: bytes) -> None:
        """Send byte by byte, slowly, until the other side says something or leaves."""
        for byte in data:
            if select.select([self.sock], [], [], _DRIP)[0]:
                return
            self.sock.send(bytes((byte,)))
        raise AssertionError("nobody minded")

    def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            assert piece, f"the connection ended after {len(data)} of {count} bytes"
            data += piece
        return bytes(data)

    def read_pdu(self) -> tuple[int, bytes]:
        pdu_type, length = struct.unpack(">BxI", self.read(6))
        return pdu_type, self.read(length)

    def expect(self, pdu_type: int) -> bytes:
        """Read one PDU, which must be of this type, and return what is in it."""
        found, body = self.read_pdu()
        assert found == pdu_type, f"PDU {found} came where {pdu_type} was due: {body[:40]!r}"
        return body

    def expect_abort(self, source: int, reason: int) -> None:
        body = self.expect(ABORT)
        assert (body[2], body[3]) == (source, reason)
        self.expect_end()

    def expect_end(self) -> None:
        """The other side closes, and sends nothing before."""
        assert self.sock.recv(1) == b""

    def expect_message(self) -> tuple[int, bytes, bytes]:
        """Read a command and, where one follows, its data set; return the context id and both."""
        command, context_id = self._expect_part(command=True)
        if b"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01" in command:
            return context_id, command, b""
        return context_id, command, self._expect_part(command=False)[0]

    def _expect_part(self, *, command: bool) -> tuple[bytes, int]:
        data = bytearray()
        while True:
            body = self.expect(P_DATA)
            length, context_id, control = struct.unpack_from(">IBB", body)
            assert length == len(body) - 4
            assert control & 1 == command
            data += body[6:]
            if control & 2:
                return bytes(data), context_id

    def accept(self, maximum: int = 16384, *, window: int = 1) -> AssociateRequest:
        """Take whatever association is asked for, with at most `window` outstanding operations."""
        from dicomtls_cli.upperlayer.codec import decode

        asked = decode(RQ, self.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        self.send(encode(answer(asked, AcceptRules(), maximum, most_invoked=window)))
        return asked

    def release(self) -> None:
        """Answer the release that is due, and see the connection closed."""
        self.expect(RELEASE)
        self.send(RELEASE_RP)
        self.expect_end()

    def finish(self) -> None:
        """Close the sending half: what was sent is all."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Break the connection off: the other side gets a TCP RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def connected() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


class _Player:
    """A thread that runs a script; what goes wrong in it is raised where it is joined."""

    def __init__(self, play: Callable[[], None]) -> None:
        self._failures: list[BaseException] = []
        self._play = play
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._play()
        except BaseException as error:
            self._failures.append(error)

    def join(self, seconds: float = LIMIT) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the scripted peer is still at it"
        if self._failures:
            raise self._failures[0]


@contextlib.contextmanager
def played(script: Callable[[Scripted], None]) -> Iterator[socket.socket]:
    """Play `script` in a thread and yield our end of its connection; fail where the script fails."""
    ours, theirs = connected()

    def play() -> None:
        with theirs:
            script(Scripted(theirs))

    player = _Player(play)
    try:
        yield ours
    except BaseException:
        ours.close()
        with contextlib.suppress(Exception):  # the failure of the test itself tells more
            player.join()
        raise
    ours.close()
    player.join()


@contextlib.contextmanager
def listening_at_once(count: int, script: Callable[[Scripted], None]) -> Iterator[int]:
    """Play `script` on each of `count` connections, side by side, and yield the port they come to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)

        def play() -> None:
            sock, _ = listener.accept()
            with sock:
                script(Scripted(sock))

        players = [_Player(play) for _ in range(count)]
        try:
            yield listener.getsockname()[1]
        except BaseException:
            with contextlib.suppress(Exception):  # the failure of the test itself tells more
                for player in players:
                    player.join(seconds=0)
            raise
        for player in players:
            player.join()


@contextlib.contextmanager
def listening(*scripts: Callable[[Scripted], None]) -> Iterator[int]:
    """Play one script after the other, one per connection, and yield the port they listen on.

    Every script must have been played to its end when the block is left.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        port = listener.getsockname()[1]

        def play() -> None:
            with listener:  # whoever dials after the last script, or after a failed one, is not kept waiting
                for script in scripts:
                    sock, _ = listener.accept()
                    with sock:
                        script(Scripted(sock))

        player = _Player(play)
        try:
            yield port
        except BaseException:
            with contextlib.suppress(Exception):  # the failure of the test itself tells more
                player.join(seconds=0)
            raise
        player.join()
