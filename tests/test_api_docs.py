"""The Python of docs/api.md, docs/testing.md and examples/: run as it stands there, and checked by mypy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicomtls_cli import StorageServer, TlsOptions
from dicomtls_cli.services.files.images import write_test_images
from tests.support import cli, peers

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(page: str) -> dict[str, list[str]]:
    """Return the Python blocks of a page by the section they stand in."""
    sections = re.split(r"^#+ (.+)$", (ROOT / "docs" / page).read_text(), flags=re.M)[1:]
    found = {
        title: re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    return {title: blocks for title, blocks in found.items() if blocks}


def run(code: str, names: dict[str, Any], port: int) -> None:
    """Run a block, the peer of the page being at `port` of this machine."""
    here = code.replace("pacs.example:2762", f"localhost:{port}").replace(
        "localhost:2762", f"localhost:{port}"
    )
    exec(compile(here.replace('"localhost", 2762', f'"localhost", {port}'), "docs/api.md", "exec"), names)


def test_the_examples_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In their order, each beginning with what those before it made; the last two once more without the peer."""
    page = {title: "".join(found) for title, found in blocks("api.md").items()}
    assert len(page) == 6
    names: dict[str, Any] = {}
    (tmp_path / "images").mkdir()
    write_test_images(tmp_path / "images", 3)
    told = []

    def play(title: str, port: int = 0) -> str:
        run(page[title], names, port)
        told.append(title)
        return capsys.readouterr().out

    assert play("Certificates and trust").splitlines()[-1] == "['CN=pacs', 'CN=scanner']"
    pacs = TlsOptions(cert="pacs.crt", key="pacs.key", trust=("trusted.crt",))
    with StorageServer("archive", tls=pacs, port=0) as server:
        port = server.port
        assert re.fullmatch(r"[\d.]+ ms DICOMTLS_\S+ TLSv1.3 pin\n", play("Verify a peer", port))
        assert play("Send", port) == "3 stored\n"
        received = play("Receive", port).splitlines()
        assert [Path(line.split()[-1]).is_file() for line in received] == [True] * 3
        assert play("Secure pynetdicom", port) == ""
        assert play("Any other program", port) == "TLSv1.2\n"
    assert told == list(page)
    assert "nothing listens there" in play("Verify a peer", port)
    assert "peer.connection-refused" in play("Secure pynetdicom", port)
    assert play("Any other program", port) == "check the port, and that the peer runs\n"


def test_a_receiver_tells_of_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one branch of the page that nothing above goes through."""
    page = {title: "".join(found) for title, found in blocks("api.md").items()}
    (tmp_path / "images").mkdir()
    write_test_images(tmp_path / "images", 1)
    names: dict[str, Any] = {}
    run(page["Certificates and trust"], names, 0)
    names["tls"] = TlsOptions(trust=("trusted.crt",))
    exec("from dicomtls_cli import TlsOptions, send", names)
    with pytest.raises(Exception, match="it requires a certificate of ours"):
        run(page["Receive"], names, 0)
    assert "it showed no certificate" in capsys.readouterr().out


@pytest.mark.interop
@pytest.mark.parametrize("number", [0, 1])
def test_the_suites_of_the_page_about_testing(number: int, tmp_path: Path) -> None:
    peers.need(peers.ORTHANC)
    (suite,) = (found for title, found in blocks("testing.md").items() if title == "Testing your own program")
    assert len(suite) == 2
    (tmp_path / "test_suite.py").write_text(suite[number])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "dicomtls_cli.testing", "-p", "no:cacheprovider", "test_suite.py"],
        cwd=tmp_path, env={**cli.environment(), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=cli.LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{suite[number].count('def test_')} passed" in done.stdout


def mypy(*paths: Path) -> subprocess.CompletedProcess[str]:
    words = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), *map(str, paths)]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_mypy_is_content_with_programs_that_use_us(tmp_path: Path) -> None:
    """One program of all blocks of a page: names of one are used in the next."""
    api = tmp_path / "api_page.py"
    api.write_text("\n".join(block for found in blocks("api.md").values() for block in found))
    testing = tmp_path / "testing_page.py"
    testing.write_text(next(iter(blocks("testing.md").values()))[1])
    done = mypy(api, testing, *EXAMPLES)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from dicomtls_cli import echo\necho("pacs")\necho("pacs", tls=None).seconds.upper()\n')
    done = mypy(wrong)
    assert re.findall(r":(\d): error: .*\[(.+)\]", done.stdout) == [("2", "call-arg"), ("3", "attr-defined")]
