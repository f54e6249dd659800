"""What `dicomtls storescu` sums up where the peer refused presentation contexts."""

from __future__ import annotations

from pathlib import Path

from dicomtls_cli.upperlayer.codec import decode
from tests.support.objects import data_set, write
from tests.support.scripted import CT, EXPLICIT, MR, RQ, Scripted, accept_of
from tests.support.sending import answer, run, summary

PRIVATE = "1.2.826.0.1.3680043.10.99.2"  # a SOP class that PS3.6 does not know
ABSTRACT, SYNTAXES = 3, 4  # results of an A-ASSOCIATE-AC, PS3.8 9.3.3.2


def _mixed(folder: Path) -> Path:
    for number in range(1, 4):
        write(folder / f"ct{number}.dcm", sop_instance=f"1.2.{number}")
    for number, sop_class in ((4, MR), (5, MR), (6, PRIVATE)):
        uid = f"1.2.{number}"
        write(folder / f"other{number}.dcm", data_set(uid, sop_class=sop_class), uid, sop_class=sop_class)
    return folder


def _takes_ct_only(peer: Scripted) -> None:
    asked = decode(RQ, peer.expect(RQ))
    refused = {MR: ABSTRACT, PRIVATE: SYNTAXES}
    results = [(c.context_id, refused.get(c.abstract_syntax, 0), EXPLICIT) for c in asked.contexts]
    peer.send(accept_of(*results))
    for _ in range(3):
        answer(peer, 0)
    peer.release()


def test_refused_contexts_are_summed_up_by_sop_class(tmp_path) -> None:
    result = run("--transcode", "never", _mixed(tmp_path), scripts=(_takes_ct_only,))
    assert (result.exit_code, summary(result)) == (31, "3 stored, 0 with a warning, 3 failed")
    assert result.stdout.splitlines()[:-1] == [
        "not taken by the peer:",
        f"  {PRIVATE}",
        "    Explicit VR Little Endian: 1 file, transfer syntaxes not supported",
        "  MR Image Storage (1.2.840.10008.5.1.4.1.1.4)",
        "    Explicit VR Little Endian: 2 files, abstract syntax not supported",
    ]
    assert result.stderr.count("error: the peer does not take `") == 3  # each file is named all the same


def test_in_json_they_are_values(tmp_path) -> None:
    result = run("--json", "--transcode", "never", _mixed(tmp_path), scripts=(_takes_ct_only,))
    assert result.json["refused"] == [
        {"sop_class": PRIVATE, "transfer_syntax": EXPLICIT,
         "reason": "transfer syntaxes not supported", "instances": 1},
        {"sop_class": MR, "transfer_syntax": EXPLICIT, "reason": "abstract syntax not supported", "instances": 2},
    ]  # fmt: skip


def test_where_nothing_was_refused_nothing_is_said(tmp_path) -> None:
    write(tmp_path / "ct.dcm")
    result = run("--json", tmp_path, scripts=(_takes_all_of_one,))
    assert result.json["refused"] == []
    assert result.records[0]["sop_class"] == CT


def _takes_all_of_one(peer: Scripted) -> None:
    peer.accept()
    answer(peer, 0)
    peer.release()
