"""Many instances and a very large one, from `dicomtls storescu` to `dicomtls storescp`: memory and time stay."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import Pki
from tests.support import cli
from tests.support.flood import memory
from tests.support.objects import data_set, element, file_meta, write
from tests.support.receiver import storescp

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

MOST_MEMORY = 100_000_000  # bytes, of either
INSTANCES = 20_000
GIGABYTES = 4_000_000_000  # bytes of pixels; a length has 32 bits
BLOCK = 1 << 20

# The kernel's account of a child begins with the memory of its parent: the command tells its own.
_WITH_PEAK = """
import sys
from dicomtls_cli.cli import main
try: main(sys.argv[1:])
finally: print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def send(pki: Pki, port: int, folder: Path) -> int:
    """Send a folder; return the most memory it took, in bytes."""
    words = ["storescu", "-q", *pki.scu_options, f"localhost:{port}", str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", _WITH_PEAK, *words],
        env=cli.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.split()[-1]) * 1024


def test_20_000_small_instances(pki: Pki, tmp_path: Path) -> None:
    for number in range(INSTANCES):
        uid = f"1.2.{number}"
        folder = tmp_path / "sent" / f"{number // 1000}"
        write(folder / f"{number}.dcm", data_set(uid, study=f"1.9.{number // 1000}", pixels=bytes(3800)), uid)
    with storescp("--json", *pki.scp_options) as scp:
        sender = send(pki, scp.port, tmp_path / "sent")
        scp.out.wait_for('"event": "closed"')
        receiver = memory(scp, "VmHWM")
        told = [json.loads(line) for line in scp.out.lines() if '"event": "received"' in line]
    assert len({one["sop_instance"] for one in told if one["ok"]}) == len(told) == INSTANCES
    assert len(list(Path("output").rglob("*.dcm"))) == INSTANCES
    times = [datetime.fromisoformat(one["time"]).timestamp() for one in told]
    first, last = times[999] - times[0], times[-1] - times[-1000]
    print(
        f"{INSTANCES:,} instances in {times[-1] - times[0]:.1f} s, the first thousand in {first:.2f} s, the last in "
        f"{last:.2f} s; at most {sender / 1e6:.1f} MB of the sender, {receiver / 1e6:.1f} MB of the receiver"
    )
    assert max(sender, receiver) < MOST_MEMORY
    assert last < 3 * first + 0.5  # a loaded machine is not what is looked for


def test_an_object_of_4_gigabytes(pki: Pki, tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 2 * GIGABYTES:
        pytest.skip(f"there are not {2 * GIGABYTES:,} bytes free in {tmp_path}")
    head = data_set(pixels=b"")[: -len(element(0x7FE00010, b"OB", b""))]
    head += struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", GIGABYTES)
    sent = write(tmp_path / "sent" / "large.dcm", head)
    meta = len(file_meta())
    with sent.open("r+b") as file:
        file.truncate(meta + len(head) + GIGABYTES)  # sparse
        file.seek(-2, 2)
        file.write(b"\1\2")
    with storescp("--json", *pki.scp_options) as scp:
        sender = send(pki, scp.port, sent.parent)
        scp.out.wait_for('"event": "closed"')
        receiver = memory(scp, "VmHWM")
        (event,) = [json.loads(line) for line in scp.out.lines() if '"event": "received"' in line]
    stored = Path(event["path"])
    print(
        f"{event['bytes']:,} bytes in {event['seconds']:.1f} s; at most {sender / 1e6:.1f} MB of the sender, "
        f"{receiver / 1e6:.1f} MB of the receiver"
    )
    try:
        assert event["bytes"] == len(head) + GIGABYTES
        assert_same_end(sent, stored, event["bytes"])
    finally:
        stored.unlink()
    assert max(sender, receiver) < MOST_MEMORY


def assert_same_end(one: Path, other: Path, count: int) -> None:
    """The last `count` bytes of both files are the same."""
    with one.open("rb") as ours, other.open("rb") as theirs:
        ours.seek(-count, 2)
        theirs.seek(-count, 2)
        while piece := ours.read(BLOCK):
            assert piece == theirs.read(BLOCK)
        assert not theirs.read(1)
