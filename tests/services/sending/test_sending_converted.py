"""Instances that travel in another transfer syntax than they are stored in, because the peer takes no other."""

from __future__ import annotations

from pathlib import Path

from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.transcoding.transcode import transcode
from dicomtls_cli.upperlayer.codec import decode as decode_pdu
from dicomtls_cli.upperlayer.negotiation import AcceptRules, answer
from dicomtls_cli.upperlayer.pdu import AssociateRequest
from tests.services.sending.test_send import STORED, Script, instances, made, outcomes, slugs, take
from tests.support import images
from tests.support.objects import write
from tests.support.scripted import IMPLICIT, RQ, Scripted, encode, listening
from tests.support.server import serving

EXPLICIT = "1.2.840.10008.1.2.1"


def taking_only(*syntaxes: str, got: list[bytes], count: int) -> Script:
    """Return an SCP that takes these transfer syntaxes alone and stores `count` instances."""

    def script(peer: Scripted) -> None:
        asked = decode_pdu(RQ, peer.expect(RQ))
        assert isinstance(asked, AssociateRequest)
        peer.send(encode(answer(asked, AcceptRules(transfer_syntaxes=syntaxes))))
        for _ in range(count):
            context_id, command, data = take(peer)
            got.append(data)
            STORED(peer, context_id, command)
        peer.release()

    return script


def converted(instance: Instance) -> bytes:
    data, length = transcode(instance, IMPLICIT)
    with data:
        content = data.read()
    assert len(content) == length
    return content


def test_what_the_peer_refuses_is_converted(tmp_path) -> None:
    paths = [images.FOLDER / name for name in ("CT_small.dcm", "MR_small_RLE.dcm", "ExplVR_BigEnd.dcm")]
    wanted, got = instances(*paths), []
    with listening(taking_only(IMPLICIT, got=got, count=3)) as port:
        found = outcomes(port, wanted)
    assert slugs(found) == [""] * 3
    assert [outcome.transfer_syntax for outcome in found] == [IMPLICIT] * 3
    assert got == [converted(instance) for instance in wanted]
    assert [outcome.length for outcome in found] == [len(data) for data in got]


def test_what_the_peer_takes_goes_as_it_is(tmp_path) -> None:
    wanted, got = instances(images.FOLDER / "MR_small_RLE.dcm"), []
    with listening(taking_only(EXPLICIT, wanted[0].transfer_syntax, got=got, count=1)) as port:
        (outcome,) = outcomes(port, wanted)
    assert outcome.transfer_syntax == wanted[0].transfer_syntax
    assert got == [images.data_set(wanted[0].path)]


def test_never_is_never(tmp_path) -> None:
    with listening(taking_only(IMPLICIT, got=[], count=0)) as port:
        found = outcomes(port, made(tmp_path, 2), transcode=False)
    assert slugs(found) == ["association.no-context"] * 2


def test_what_cannot_be_converted_fails_alone(tmp_path) -> None:
    """A private transfer syntax: nobody knows how it is encoded."""
    private = write(tmp_path / "p.dcm", sop_instance="1.2.3", transfer_syntax="1.2.826.0.1.3680043.10.99.1")
    whole = write(tmp_path / "q.dcm", sop_instance="1.2.4")
    with listening(taking_only(IMPLICIT, got=[], count=1)) as port:
        found = outcomes(port, instances(private, whole))
    assert slugs(found) == ["association.no-context", ""]


def test_a_broken_file_that_would_have_to_be_converted_is_named(tmp_path) -> None:
    path = tmp_path / "broken.dcm"
    path.write_bytes(
        (images.FOLDER / "JPEG2000.dcm").read_bytes().replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x00")
    )
    whole = images.FOLDER / "CT_small.dcm"
    with listening(taking_only(IMPLICIT, got=[], count=1)) as port:
        found = outcomes(port, instances(path, whole))
    assert slugs(found) == ["transcode.failed", ""]


def test_several_associations_convert_too(tmp_path: Path) -> None:
    rules = AcceptRules(transfer_syntaxes=(IMPLICIT,))
    with serving(tmp_path / "out", rules=rules) as server:
        found = outcomes(server.port, made(tmp_path / "in", 30), jobs=3)
    assert slugs(found) == [""] * 30
    assert {outcome.transfer_syntax for outcome in found} == {IMPLICIT}
