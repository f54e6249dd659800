"""`@NAME` on a command line, and `dicomtls peers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicomtls_cli.services import peers_file
from dicomtls_cli.services.peer import TlsOptions, tls_context
from dicomtls_cli.tls.policy import Role
from tests.support.objects import write
from tests.support.server import Events, serving


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder without any file, and no peers of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DICOMTLS_CONFIG", raising=False)
    monkeypatch.setattr(peers_file, "user_file", lambda: tmp_path / "user" / "dicomtls.toml")


@pytest.fixture
def scp(pki):
    events = Events()
    context = tls_context(Role.ACCEPTOR, TlsOptions(cert=pki.scp.cert, key=pki.scp.key, trust=(pki.trusted,)))
    with serving(Path("output"), events, context=context) as server:
        server.events = events
        yield server


def config(pki, port: int, more: str = "", path: str = "dicomtls.toml") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_text(
        f'[defaults]\ncert = "{pki.scu.cert}"\nkey = "{pki.scu.key}"\ntrust = "{pki.trusted}"\naet = "ME"\n'
        f'[peer.pacs]\naddress = "localhost:{port}"\naec = "PACS"\n{more}'
    )
    return file


def test_a_name_is_enough(dicomtls, pki, scp) -> None:
    config(pki, scp.port)
    result = dicomtls("echoscu", "--json", "@pacs")
    assert (result.exit_code, result.json["called_aet"]) == (0, "PACS")
    assert result.json["tls"]["identified_by"] == "pin"


def test_sending_to_a_name(dicomtls, pki, scp) -> None:
    config(pki, scp.port)
    result = dicomtls("storescu", "@pacs", write(Path("in/1.dcm")))
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_line_beats_the_file(dicomtls, pki, scp) -> None:
    config(pki, 1)  # nothing listens there
    words = ("--config", config(pki, scp.port, 'identity = "name"', "site/p.toml"))
    result = dicomtls("echoscu", "--json", "@pacs", *words, "--aec", "OTHER", "--identity", "pinned")
    assert (result.exit_code, result.json["called_aet"]) == (0, "OTHER")


def test_an_own_pair_on_the_line_replaces_the_whole_pair(dicomtls, pki, scp) -> None:
    config(pki, scp.port)
    assert dicomtls("echoscu", "@pacs", "+tls", pki.scu.key, pki.scu.cert).exit_code == 0
    anonymous = dicomtls("echoscu", "--json", "@pacs", "--anonymous-tls")
    assert (anonymous.exit_code, anonymous.json["error"]["code"]) == (12, "tls.refused-no-certificate")


def test_plain_on_the_line_leaves_tls_out(dicomtls, pki) -> None:
    with serving(None) as server:
        config(pki, server.port)
        assert dicomtls("echoscu", "@pacs", "--no-tls").exit_code == 0


def test_plain_in_the_file(dicomtls, pki) -> None:
    with serving(None) as server:
        Path("dicomtls.toml").write_text(f'[peer.p]\naddress = "localhost:{server.port}"\nno-tls = true\n')
        assert dicomtls("echoscu", "@p").exit_code == 0


def test_the_file_of_the_document_is_one(dicomtls, pki) -> None:
    text = (Path(__file__).parents[2] / "docs" / "peers.md").read_text()
    Path("dicomtls.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    for name, source in {"me.crt": pki.scu.cert, "me.key": pki.scu.key, "orthanc.crt": pki.scp.cert}.items():
        Path(name).write_bytes(source.read_bytes())
    result = dicomtls("peers", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [(one["name"], one["called_aet"]) for one in result.records] == [
        ("pacs", "ORTHANC"),
        ("archive", "ARCHIVE"),
    ]


def test_the_line_leaves_out_a_ca_of_the_file(dicomtls, pki, scp) -> None:
    """Who is named by `--trust` is meant, and nobody else."""
    Path("dicomtls.toml").write_text(
        f'[peer.p]\naddress = "localhost:{scp.port}"\ncert = "{pki.scu.cert}"\nkey = "{pki.scu.key}"\n'
        f'trust-ca = "{pki.scp.cert}"\n'
    )
    assert dicomtls("echoscu", "@p").exit_code == 0
    result = dicomtls("echoscu", "@p", "--trust", pki.stranger.cert, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (11, "tls.peer-untrusted")


def test_several_names_each_with_its_own_settings(dicomtls, pki, scp) -> None:
    """One shows our certificate, one must not be verified by it, one is on the line without a name."""
    with serving(None) as plain:
        config(pki, scp.port)
        text = Path("dicomtls.toml").read_text().replace("[defaults]", "[peer.pacs]", 1)
        head, _, tail = text.partition("[peer.pacs]\naddress")
        Path("dicomtls.toml").write_text(
            f'{head}address{tail}[peer.plain]\naddress = "P@localhost:{plain.port}"\nno-tls = true\n'
        )
        result = dicomtls("echoscu", "--json", "@pacs", "@plain", "@pacs")
    assert result.exit_code == 0
    assert [(r["called_aet"], r["tls"] is None) for r in result.records] == [
        ("PACS", False), ("P", True), ("PACS", False),
    ]  # fmt: skip


def test_names_among_other_peers(dicomtls, pki, scp) -> None:
    config(pki, scp.port)
    words = ("@pacs", "localhost", scp.port, *pki.scu_options)
    result = dicomtls("echoscu", "--json", *words, "--count", 2, "--interval", "1ms")
    assert result.exit_code == 0
    assert [(r["sent"], r["answered"]) for r in result.records[-2:]] == [(2, 2), (2, 2)]


def test_the_environment_names_the_file(dicomtls, pki, scp, monkeypatch) -> None:
    config(pki, 1)
    monkeypatch.setenv("DICOMTLS_CONFIG", str(config(pki, scp.port, path="else/p.toml")))
    assert dicomtls("echoscu", "@pacs").exit_code == 0


def test_the_users_file_is_behind_the_projects(dicomtls, pki, scp) -> None:
    config(pki, scp.port, path="user/dicomtls.toml")
    assert dicomtls("echoscu", "@pacs").exit_code == 0
    Path("dicomtls.toml").write_text('[peer.pacs]\naddress = "localhost:1"\n')
    assert dicomtls("echoscu", "@pacs").exit_code == 10


@pytest.mark.parametrize("command", ["echoscu", "storescu"])
def test_no_such_peer(command, dicomtls, pki) -> None:
    result = dicomtls(command, "--json", "@pacs", "x")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "config.no-peer")
    config(pki, 1)
    result = dicomtls(command, "--json", "@pasc", "x")
    assert (result.exit_code, result.json["error"]["hint"]) == (3, "did you mean `@pacs`?")


def test_a_wrong_value_is_told_in_the_words_of_its_option(dicomtls, pki) -> None:
    config(pki, 1, 'identity = "nobody"\n')
    result = dicomtls("echoscu", "@pacs")
    assert (result.exit_code, "'--identity'" in result.stderr) == (2, True)


# --- dicomtls peers --------------------------------------------------------------------------------------


def test_peers_lists_and_checks(dicomtls, pki) -> None:
    config(pki, 104, '[peer.bad]\naddress = "bad.example"\ntrust = "missing.crt"\n')
    result = dicomtls("peers", "--json")
    assert result.exit_code == 3
    good, bad = result.records
    assert (good["ok"], good["name"], good["address"], good["called_aet"]) == (
        True, "pacs", "localhost:104", "PACS",
    )  # fmt: skip
    assert good["files"] == ["dicomtls.toml"]
    assert (bad["ok"], bad["name"], bad["error"]["code"]) == (False, "bad", "file.missing")


def test_peers_in_words(dicomtls, pki) -> None:
    config(pki, 104)
    result = dicomtls("peers")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.split() == [
        "@pacs", "PACS@localhost:104", "TLS,", "shows", "a", "certificate,", "as", "ME", "(dicomtls.toml)",
    ]  # fmt: skip


def test_peers_without_a_file(dicomtls) -> None:
    result = dicomtls("peers", "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "config.no-file")
    assert json.loads(result.stdout)["ok"] is False


def test_the_line_says_what_a_peer_is_called_wherever_the_file_does(dicomtls) -> None:
    with serving(None) as server:
        Path("dicomtls.toml").write_text(f'[peer.p]\naddress = "P@localhost:{server.port}"\nno-tls = true\n')
        assert dicomtls("echoscu", "--json", "@p").json["called_aet"] == "P"
        assert dicomtls("echoscu", "--json", "@p", "--aec", "OTHER").json["called_aet"] == "OTHER"
        assert dicomtls("echoscu", "--json", "@p", "@p", "--aec", "OTHER").json["called_aet"] == "OTHER"


def test_an_empty_name_of_a_file_is_refused(dicomtls) -> None:
    """What `--config "$UNSET"` gives."""
    for words in (["--config", ""], ["--config="]):
        result = dicomtls("echoscu", "@p", *words, "--json")
        assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.empty-path")


@pytest.mark.parametrize("words", [["@"], ["@a b"], ["@-a"], ["-c", "@pacs"]], ids=" ".join)
def test_what_is_no_name(words, dicomtls) -> None:
    Path("dicomtls.toml").write_text('[peer.pacs]\naddress = "h"\n')
    result = dicomtls("echoscu", *words, "--json")
    assert (result.exit_code, result.json["error"]["code"]) == (2, "usage.peer")
    assert "`dicomtls echoscu @pacs`" in result.json["error"]["hint"]


def test_every_peer_is_checked_whatever_is_wrong_with_those_before(dicomtls, pki) -> None:
    config(
        pki,
        104,
        'identity = "nobody"\n[peer.port]\naddress = "h:99999"\n[peer.last]\naddress = "h"\n',
    )
    records = dicomtls("peers", "--json").records
    assert [(one["name"], one["ok"]) for one in records] == [("pacs", False), ("port", False), ("last", True)]
    assert [one["error"]["code"] for one in records[:2]] == ["usage.invalid", "usage.port"]
    result = dicomtls("peers")
    assert result.exit_code == 2
    assert [line.split(":")[1] for line in result.stderr.splitlines() if "error" in line] == [
        " @pacs",
        " @port",
    ]
    assert "`dicomtls echoscu --help`" in result.stderr


def test_what_is_wrong_with_one_of_several_names_it(dicomtls, pki) -> None:
    config(pki, 1, '[peer.bad]\naddress = "h"\ntrust = "missing.crt"\n')
    error = dicomtls("echoscu", "@pacs", "@bad", "--json").json["error"]
    assert (error["code"], error["message"].startswith("@bad: the ")) == ("file.missing", True)
    error = dicomtls("echoscu", "@pacs", "@pasc", "--json").json["error"]
    assert (error["code"], error["message"].startswith("no peer `@pasc`")) == ("config.no-peer", True)
