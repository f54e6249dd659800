"""The direction of dependence (docs/architecture.md), and what a run of the command does not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import dicomtls_cli
from tests.conftest import Pki
from tests.support import cli
from tests.support.objects import write

PACKAGE = Path(dicomtls_cli.__file__).parent
ROOT = "dicomtls_cli"

# room -> the rooms below it that it may use. A module of the package itself is a room of its own; "" is
# `dicomtls_cli/__init__.py`.
_GROUND = {"errors", "material"}
BELOW = {
    "errors": set(),
    "material": set(),
    "upperlayer": _GROUND,
    "dimse": _GROUND,
    "tls": _GROUND,
    "pki": _GROUND,
    "services": {*_GROUND, "upperlayer", "dimse", "tls", "pki"},
    "api": {*_GROUND, "services", "upperlayer", "dimse", "tls", "pki"},
    "testing": {*_GROUND, "api", "services", "tls", "pki"},
    "cli": {*_GROUND, "services", "upperlayer", "dimse", "tls", "pki"},
    "__main__": {"cli"},
    "": {*_GROUND, "api", "services", "upperlayer", "dimse", "tls", "pki"},
}

# DIMSE (PS3.7) stands on the upper layer (PS3.8): a malformed command set is answered by an A-ABORT, whose
# reasons PS3.8 9.3.8 defines. That vocabulary is all it may know of it, and never the reverse.
BETWEEN_SIBLINGS = {("dimse", "upperlayer.header")}

THIRD_PARTY = {
    "cli": {"click", "rich"},
    "services": {"numpy", "platformdirs", "pydicom", "pynetdicom", "prometheus_client"},
    "dimse": {"pynetdicom"},
    "pki": {"cryptography"},
    "testing": {"pytest"},
}
_FOR_TYPES = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
HEAVY = {"numpy", "platformdirs", "pynetdicom", "pydicom", "rich", "cryptography"}


@dataclass(frozen=True)
class Import:
    """One imported module, as written in `module` (dotted, below the package), and what is taken from it."""

    module: str
    target: str
    names: tuple[str, ...]
    at_start: bool
    line: int

    @property
    def room(self) -> str:
        return self.module.partition(".")[0]

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def _imports_of(source: str, module: str, *, is_package: bool) -> Iterator[Import]:
    """Yield all imports in `source`; `at_start` are those that run when the module is loaded."""
    dynamic = {"import_module", "__import__"}

    def walk(node: ast.AST, at_start: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            line = getattr(child, "lineno", 0)
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, (), at_start, line)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    here = [ROOT, *module.split(".")] if module else [ROOT]
                    outer = here[: len(here) - child.level + is_package]
                    base = ".".join([*outer, *filter(None, [child.module])])
                yield Import(module, base, tuple(alias.name for alias in child.names), at_start, line)
            elif isinstance(child, ast.Call) and ast.unparse(child.func).rpartition(".")[2] in dynamic:
                yield Import(module, f"({ast.unparse(child)})", (), at_start, line)
            if isinstance(child, ast.If) and ast.unparse(child.test) in _FOR_TYPES:
                for part in child.body:
                    yield from walk(ast.Module([part], []), False)
                for part in child.orelse:
                    yield from walk(ast.Module([part], []), at_start)
                continue
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_start and not lazy)

    return walk(ast.parse(source), True)


def _all_imports() -> list[Import]:
    found: list[Import] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found += _imports_of(path.read_text(encoding="utf-8"), module, is_package=is_package)
    return found


def _own_targets(found: Import) -> list[str]:
    """Return the modules of the package that `found` loads, dotted below the package; "" is the package."""
    if found.top != ROOT:
        return []
    inside = found.target.removeprefix(ROOT).removeprefix(".")
    targets = []
    for name in found.names or ("",):
        path = PACKAGE.joinpath(*filter(None, inside.split(".")), name)
        is_module = name and (path.is_dir() or path.with_suffix(".py").is_file())
        targets.append(f"{inside}.{name}".strip(".") if is_module else inside)
    return targets


def _wrong_direction(found: Import) -> list[str]:
    wrong = []
    for target in _own_targets(found):
        room = target.partition(".")[0]
        if room == found.room or room in BELOW[found.room] or (found.room, target) in BETWEEN_SIBLINGS:
            continue
        if target == "" and found.names == ("__version__",):  # a constant, not a room
            continue
        wrong.append(f"{found} ({target or ROOT})")
    return wrong


def _is_third_party(found: Import) -> bool:
    return found.top not in {ROOT, "__future__", *sys.stdlib_module_names} and not found.target.startswith(
        "("
    )


def _foreign(found: Import) -> bool:
    return _is_third_party(found) and found.top not in THIRD_PARTY.get(found.room, set())


def test_every_room_is_known() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__init__", "__pycache__", "py"} <= BELOW.keys()


def test_imports_go_from_the_command_line_downwards() -> None:
    found = _all_imports()
    assert len(found) > 300, "the walk lost its way"
    assert [wrong for one in found for wrong in _wrong_direction(one)] == []


def test_third_party_packages_stay_in_their_rooms() -> None:
    assert [str(found) for found in _all_imports() if _foreign(found)] == []


def test_heavy_packages_are_imported_on_need() -> None:
    assert [str(found) for found in _all_imports() if found.at_start and found.top in HEAVY] == []


def test_the_package_itself_loads_nothing() -> None:
    at_start = {found.target for found in _all_imports() if found.module == "" and found.at_start}
    assert at_start <= {"__future__", "typing"}


def test_modules_are_imported_by_name() -> None:
    """What `import_module` loads, this file cannot see: only the table of commands and the lazy API do so."""
    dynamic = {found.module for found in _all_imports() if found.target.startswith("(")}
    assert dynamic <= {"cli.words", ""}


# Every connection is made with a context of `tls.context`, or the identity check is not there.
CONTEXT_MAKERS = {
    "tls.survey": "the offers of `doctor`, old versions among them; nothing is sent through it",
    "tls.context": "the factory",
    "tls.handshake": "what a connection is left with once its handshake is done",
    "services.diagnosis.probe": "the probe whether a peer speaks TLS at all; nothing is sent through it",
    "pki.load": "a parser of certificates; nothing is connected",
    "pki.acceptance": "a judge of files; nothing is connected",
}
_MAKERS = {"SSLContext", "_DicomContext", "create_default_context", "_create_unverified_context"}


def _context_makers(source: str) -> list[str]:
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [call for call in calls if call.rpartition(".")[2] in _MAKERS]


def test_contexts_are_made_in_known_places() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if calls := _context_makers(path.read_text(encoding="utf-8")):
            found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = calls
    assert found.keys() == CONTEXT_MAKERS.keys()
    assert {call for calls in found.values() for call in calls} == {"ssl.SSLContext", "_DicomContext"}


def test_only_doctor_offers_what_is_broken() -> None:
    """The contexts of `tls.survey` verify nobody and offer TLS 1.0: no other command comes near them."""
    users = {
        found.module
        for found in _all_imports()
        for target in _own_targets(found)
        if target in ("tls.survey", "tls.conversation")
    }
    assert users
    assert {user for user in users if not user.startswith("services.doctor.")} == {"tls.conversation"}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tls.context", "from dicomtls_cli.upperlayer.pdu import Abort"),
        ("tls.context", "from dicomtls_cli.pki import load"),
        ("tls.context", "from ..pki.load import load_trust"),
        ("tls.context", "import dicomtls_cli.services.peer"),
        ("upperlayer.stream", "def f():\n    from dicomtls_cli.tls.context import client_context"),
        ("upperlayer.pdu", "from dicomtls_cli.dimse.status import words"),
        ("dimse.command", "from dicomtls_cli.upperlayer.association import Association"),
        ("services.echo", "from dicomtls_cli.cli.terminal import Terminal"),
        ("services.echo", "from dicomtls_cli import cli"),
        ("pki.load", "from dicomtls_cli import something"),
        ("errors", "from dicomtls_cli.material import Trust"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, line: str) -> None:
    (found,) = _imports_of(line, module, is_package=False)
    assert _wrong_direction(found)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cli.echoscu", "from dicomtls_cli.tls.policy import Role"),
        ("services.peer", "from dicomtls_cli.pki.load import load_trust"),
        ("tls.context", "from .der import may_sign_certificates"),
        ("dimse.command", "from dicomtls_cli.upperlayer.header import AbortReason"),
        ("upperlayer.pdu", "from dicomtls_cli import __version__"),
    ],
)
def test_a_right_arrow_passes(module: str, line: str) -> None:
    (found,) = _imports_of(line, module, is_package=False)
    assert not _wrong_direction(found)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tls.context", "import cryptography.x509"),
        ("services.echo", "from rich.console import Console"),
        ("services.echo", "def f():\n    import click"),
        ("cli.echoscu", "import pynetdicom"),
        ("pki.load", "if TYPE_CHECKING:\n    import trustme"),
    ],
)
def test_a_foreign_package_is_seen(module: str, line: str) -> None:
    (found,) = _imports_of(line, module, is_package=False)
    assert _foreign(found)


@pytest.mark.parametrize(
    ("line", "at_start"),
    [
        ("import pydicom", True),
        ("try:\n    import pydicom\nexcept ImportError:\n    pass", True),
        ("class A:\n    import pydicom", True),
        ("def f():\n    import pydicom", False),
        ("if TYPE_CHECKING:\n    import pydicom", False),
        ("if not TYPE_CHECKING:\n    import pydicom", True),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import pydicom", True),
    ],
)
def test_what_runs_at_the_start_is_told_apart(line: str, at_start: bool) -> None:
    (found,) = _imports_of(line, "services.files.scan", is_package=False)
    assert found.at_start == at_start


# ---------------------------------------------------------------------- what a run loads

_LISTING = """
import json, sys
sys.argv = ["dicomtls", *json.loads(sys.argv[1])]
from dicomtls_cli.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps({"code": code, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def _loaded_by(*words: object) -> set[str]:
    """Run a command line as a process of its own, successfully; return the top packages it has loaded."""
    return {module.partition(".")[0] for module in _modules_loaded_by(*words)}


def _modules_loaded_by(*words: object) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LISTING, json.dumps([str(word) for word in words])],
        env=cli.environment(), capture_output=True, text=True, timeout=cli.LIMIT, check=True,
    )  # fmt: skip
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["code"] == 0, done.stderr
    return set(told["modules"])


@pytest.mark.parametrize(
    "words", [["--help"], ["echoscu", "--help"], ["storescp", "--help"], ["doctor", "--help"]]
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    loaded = _loaded_by(*words)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_a_successful_echo_loads_nothing_heavy(scp: cli.Receiver, pki: Pki) -> None:
    loaded = _loaded_by("echoscu", "localhost", scp.port, *pki.scu_options)
    assert "ssl" in loaded
    assert not loaded & HEAVY
    assert "opened" in [event["event"] for event in scp.events()]


def test_what_explains_failures_is_loaded_after_one(scp: cli.Receiver, pki: Pki) -> None:
    loaded = _modules_loaded_by("echoscu", "localhost", scp.port, *pki.scu_options)
    assert "dicomtls_cli.services.connect" in loaded
    for name in ("causes", "diagnose", "probe", "suites"):
        assert f"dicomtls_cli.services.{name}" not in loaded


def test_a_successful_store_loads_nothing_heavy(scp: cli.Receiver, pki: Pki, tmp_path: Path) -> None:
    """Nor does its report; what a bar or a dry run needs is for those who want it."""
    write(tmp_path / "a.dcm")
    line = ["storescu", "localhost", scp.port, "a.dcm", *pki.scu_options, "--report", "r"]
    assert not _loaded_by(*line) & HEAVY


def test_a_heavy_package_would_be_seen() -> None:
    """`gencert` needs `cryptography`: the listing that the tests above rely on shows it."""
    assert "cryptography" in _loaded_by("gencert", "me")
