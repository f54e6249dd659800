"""examples/Dockerfile: its structure, and what it runs and how it is looked after, run here without a container."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support import cli, peers

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "examples" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions, those over several lines as one, without comments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def value(name: str) -> str:
    found = [rest for each, rest in instructions() if each == name]
    assert found, f"no {name}"
    return found[-1]


def test_its_structure() -> None:
    names = [name for name, _ in instructions()]
    assert set(names) <= {
        "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    for _, image in (each for each in instructions() if each[0] == "FROM"):
        assert re.match(r"[\w/]+:[\w.-]*\d", image), "a version is named"
        assert "latest" not in image
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", value("USER")), "not root, and by number"
    last_stage = names[len(names) - 1 - names[::-1].index("FROM") :]
    assert last_stage.index("USER") > last_stage.index("RUN"), "nothing needs root after that"
    assert json.loads(value("ENTRYPOINT")) == ["dicomtls"]
    assert "--no-cache-dir" in DOCKERFILE.read_text()
    assert not re.search(r"\b(?:ADD|curl|wget|sudo|chmod 777)\b", DOCKERFILE.read_text())


def test_what_is_copied_is_what_the_build_needs() -> None:
    """And what .dockerignore lets through: a key that lies in the checkout stays out of the image."""
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = {source for words in copied for source in words}
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split()
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    for needed in (*shared, project["project"]["readme"], *project["project"]["license-files"]):
        assert any(needed == source or needed.startswith(f"{source}/") for source in sources), needed


def test_the_receiver_and_its_health(tmp_path: Path) -> None:
    """The words of CMD and HEALTHCHECK, with other places for files and port."""
    for name, others in (("me", "peer"), ("peer", "me")):
        assert cli.run("gencert", name).exit_code == 0, others
    assert cli.run("bundle", "peer.crt", "-o", "trusted.crt").exit_code == 0

    def here(text: str, port: int) -> str:
        moved = text.replace("/tls/", f"{tmp_path}/").replace("/received", str(tmp_path / "received"))
        return moved.replace("2762", str(port))

    def command(port: int) -> list[str]:
        words = [here(word, port) for word in json.loads(value("CMD"))]
        return [sys.executable, "-m", "dicomtls_cli", *words]

    check = (
        value("HEALTHCHECK")
        .partition(" CMD ")[2]
        .replace("dicomtls ", f"{sys.executable} -m dicomtls_cli ", 1)
    )

    def health(port: int) -> int:
        return subprocess.run(
            ["sh", "-c", here(check, port)],
            env=cli.environment(), capture_output=True, timeout=cli.LIMIT, check=False,
        ).returncode  # fmt: skip

    with peers.listening(command, env=cli.environment(), cwd=tmp_path) as (port, process, _):
        assert health(port) == 0
        sent = cli.run(
            "storescu", f"localhost:{port}", "--generate", "2",
            "--cert", "peer.crt", "--key", "peer.key", "--trust", "me.crt",
        )  # fmt: skip
        assert sent.exit_code == 0, sent.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(cli.LIMIT) == 0
        assert health(port) == 1
    assert len(list((tmp_path / "received").rglob("*.dcm"))) == 2
