"""What a shell may do to us: unset variables, closed streams, narrow locales, impatience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dicomtls_cli import TlsOptions, tls_context
from dicomtls_cli.errors import UsageError
from tests.conftest import Pki
from tests.support import cli
from tests.support.scripted import Scripted, listening_at_once

EMPTY = [
    ["echoscu", "h", "--trust", ""],
    ["echoscu", "h", "+cf", ""],
    ["echoscu", "h", "--trust-ca", ""],
    ["echoscu", "h", "--pin", "", "--trust", "t.crt"],
    ["echoscu", "h", "--cert", "", "--key", "k"],
    ["storescu", "h", "104", ""],
    ["storescu", "h", "104", "f", "--report", ""],
    ["storescu", "h", "104", "f", "--resume", ""],
    ["storescp", "--output", "", "--no-tls"],
    ["storescp", "--ready-file", "", "--no-tls"],
    ["bundle", "", "-o", "out.crt"],
    ["bundle", "a.crt", "-o", ""],
    ["gencert", "x", "--out-dir", ""],
]


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_empty_word_is_not_the_current_folder(words, pki: Pki) -> None:
    """What lies there would else be trusted, sent or bundled."""
    os.link(pki.scp.cert, "a.crt")
    result = cli.run(*words, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.empty-path")
    assert [path.name for path in Path().iterdir()] == ["a.crt"]


@pytest.mark.parametrize(
    "names", [{"trust": ("",)}, {"trust": "."}, {"cert": ""}, {"authorities": ("",)}, {"pin": ""}]
)
def test_nor_is_it_for_programs(names, pki: Pki) -> None:
    with pytest.raises(UsageError) as caught:
        tls_context("requestor", TlsOptions(**{"trust": (pki.trusted,), **names}))
    assert caught.value.slug == "usage.empty-path"


def test_a_role_may_be_a_word(pki: Pki) -> None:
    assert tls_context("requestor", TlsOptions(trust=(pki.trusted,))).policy.role == "requestor"
    with pytest.raises(UsageError):
        tls_context("somebody", TlsOptions(trust=(pki.trusted,)))


def test_a_closed_stdin_is_no_obstacle(pki: Pki, scp: cli.Receiver) -> None:
    line = [sys.executable, "-m", "dicomtls_cli", "echoscu", f"localhost:{scp.port}", *pki.scu_options]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *line],
        env=cli.environment(), capture_output=True, text=True, timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_loopback_of_one_family(family) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "dicomtls_cli", "storescp", "--no-tls", "--ignore", "--port", "0", family],
        env=cli.environment(), stderr=subprocess.PIPE, text=True,
    ) as scp:  # fmt: skip
        assert scp.stderr is not None
        line = scp.stderr.readline()
        scp.terminate()
    assert scp.returncode == 0
    assert line.startswith("listening on 127.0.0.1:" if family == "-4" else "listening on [::1]:")
    assert ("127.0.0.1" in line) != ("[::1]" in line)


def test_a_ready_file_that_cannot_be_written_leaves_no_folder() -> None:
    result = cli.run_process(
        "storescp", "--no-tls", "--port", "0", "--output", "new", "--ready-file", "no/such/folder/x"
    )
    assert result.exit_code == 4
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["echoscu", "--help"]], ids=" ".join)
def test_help_for_a_full_disk(words) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dicomtls_cli", *words],
            env=cli.environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=cli.LIMIT, check=False,
        )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.startswith("error: cannot write to standard output: No space left")


def test_ctrl_c_does_not_wait_for_silent_peers() -> None:
    """They stay silent, and connected, until the command has ended."""

    def silent(peer: Scripted) -> None:
        peer.read_pdu()
        arrived.append(peer)
        if len(arrived) == 2:
            process.send_signal(signal.SIGINT)
        peer.expect_end()

    arrived: list[Scripted] = []
    with listening_at_once(2, silent) as port:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomtls_cli", "echoscu", "--no-tls", *[f"127.0.0.1:{port}"] * 2, "-ta", "3600"],
            env=cli.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        _, told = process.communicate(timeout=cli.LIMIT)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "error: interrupted" in told
