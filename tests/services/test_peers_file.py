"""Peers with a name: which files are read, what stands in them, and what no file can say."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import InputError
from dicomtls_cli.services import peers_file
from dicomtls_cli.services.peers_file import SETTINGS, find_peer, load_peers, peers_files


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path) -> None:
    file = written(
        tmp_path / "site" / "peers.toml",
        '[peer.pacs]\naddress = "pacs.example:104"\ncert = "me.crt"\nkey = "/keys/me.key"\n'
        'trust = ["../pacs.crt", "system"]\npin = "../pacs.crt"\n',
    )
    peer = load_peers([file])["pacs"]
    assert (peer.address, peer.origins) == ("pacs.example:104", (file,))
    assert peer.settings == {
        "cert": str(tmp_path / "site" / "me.crt"),
        "key": "/keys/me.key",
        "trust": (str(tmp_path / "site" / "../pacs.crt"), "system"),
        "pin": str(tmp_path / "site" / "../pacs.crt"),
    }


def test_a_digest_is_no_path(tmp_path) -> None:
    file = written(tmp_path / "p.toml", f'[peer.pacs]\naddress = "h"\npin = "{"ab" * 32}"\n')
    assert load_peers([file])["pacs"].settings["pin"] == "ab" * 32


def test_what_a_nearer_file_sets_counts(tmp_path) -> None:
    near = written(
        tmp_path / "near.toml", '[peer.pacs]\naddress = "near"\naec = "NEAR"\n[peer.a]\naddress = "a"'
    )
    far = written(
        tmp_path / "far.toml",
        '[defaults]\naet = "ME"\ntrust = "t.crt"\n[peer.pacs]\naddress = "far"\naec = "FAR"\nidentity = "pinned"\n',
    )
    peers = load_peers([near, far])
    assert (peers["pacs"].address, peers["pacs"].origins) == ("near", (near, far))
    trust = (str(tmp_path / "t.crt"),)
    assert peers["pacs"].settings == {"aec": "NEAR", "identity": "pinned", "aet": "ME", "trust": trust}
    assert peers["a"].settings == {"aet": "ME", "trust": trust}


def test_what_a_peer_is_called_stands_in_one_of_two_places(tmp_path) -> None:
    near = written(tmp_path / "near.toml", '[peer.a]\naec = "NEAR"\n[peer.b]\naddress = "OWN@near:104"')
    far = written(
        tmp_path / "far.toml",
        '[peer.a]\naddress = "FAR@far:104"\n[peer.b]\naddress = "far"\naec = "FAR"\n',
    )
    peers = load_peers([near, far])
    assert peers["a"].called_address == "NEAR@far:104"
    assert peers["b"].called_address == "OWN@near:104"


def test_times_are_taken_as_they_are_written(tmp_path) -> None:
    file = written(
        tmp_path / "p.toml", f'[peer.p]\naddress = "h"\nacse-timeout = 1234567.5\ntls-timeout = {10**400}\n'
    )
    settings = load_peers([file])["p"].settings
    assert (settings["acse-timeout"], settings["tls-timeout"]) == ("1234567.5", str(10**400))


def test_a_link_counts_where_it_stands(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "elsewhere" / "site.toml", '\ufeff[peer.p]\naddress = "h"\ncert = "me.crt"\n')
    Path("dicomtls.toml").symlink_to("elsewhere/site.toml")
    assert load_peers([Path("dicomtls.toml")])["p"].settings["cert"] == str(tmp_path / "me.crt")


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path, monkeypatch) -> None:
    """The user's file would else say, unasked, who a peer of the project is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DICOMTLS_CONFIG", raising=False)
    monkeypatch.setattr(
        peers_file, "user_file", lambda: written(tmp_path / "user.toml", '[peer.p]\naddress = "h"')
    )
    Path("dicomtls.toml").symlink_to("nowhere")
    with pytest.raises(InputError) as caught:
        find_peer("p", None)
    assert (caught.value.slug, "dicomtls.toml" in caught.value.message) == ("file.missing", True)


def test_whoever_has_no_home_has_no_file_there(tmp_path, monkeypatch) -> None:
    """A container may run under a number that no user has."""

    def no_home(path: str) -> str:
        return path

    monkeypatch.chdir(tmp_path)
    for name in ("DICOMTLS_CONFIG", "HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", no_home)
    assert peers_files(None) == []
    with pytest.raises(InputError) as caught:
        find_peer("p", None)
    assert caught.value.hint.startswith("write `dicomtls.toml` here, or name one")


def test_home_is_where_the_user_lives(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = written(tmp_path / "p.toml", '[peer.p]\naddress = "h"\ncert = "~/me.crt"\n')
    assert load_peers([file])["p"].settings["cert"] == str(tmp_path / "home" / "me.crt")


def test_defaults_of_a_nearer_file_go_before_a_peer_of_the_other(tmp_path) -> None:
    near = written(tmp_path / "near.toml", '[defaults]\naet = "PROJECT"\n')
    far = written(tmp_path / "far.toml", '[peer.p]\naddress = "h"\naet = "USER"\nidentity = "name"\n')
    assert load_peers([near, far])["p"].settings == {"aet": "PROJECT", "identity": "name"}
    assert load_peers([far, near])["p"].settings == {"aet": "USER", "identity": "name"}


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ('cert = "/own.crt"\nkey = "/own.key"', {"cert": "/own.crt", "key": "/own.key"}),
        ('key-store = "/own.p12"', {"key-store": "/own.p12"}),
        ("anonymous-tls = true", {"anonymous-tls": True}),
    ],
)
def test_a_key_pair_is_never_mixed(own, kept, tmp_path) -> None:
    """Half of the default pair with half of the peer's own would be no pair."""
    file = written(
        tmp_path / "p.toml",
        f'[defaults]\ncert = "/d.crt"\nkey = "/d.key"\nkey-passphrase-file = "/d"\n[peer.p]\naddress = "h"\n{own}\n',
    )
    assert load_peers([file])["p"].settings == kept


@pytest.mark.parametrize(
    ("defaults", "own", "kept"),
    [
        ('cert = "/d.crt"\nidentity = "name"\naet = "ME"', "no-tls = true", {"no-tls": True, "aet": "ME"}),
        ("no-tls = true", 'trust = "/t.crt"', {"trust": ("/t.crt",)}),
        ("no-tls = true", "tls-timeout = 5", {"no-tls": True, "tls-timeout": "5"}),
        ("no-tls = true", "no-tls = false", {"no-tls": False}),
        (
            'trust-ca = "/ca.crt"\ncrl = "/l.crl"',
            'trust = "/t.crt"',
            {"trust": ("/t.crt",), "crl": ("/l.crl",)},
        ),
    ],
)
def test_what_is_nearer_leaves_out_what_contradicts_it(defaults, own, kept, tmp_path) -> None:
    """A CA of all peers would else vouch where one certificate is named."""
    file = written(tmp_path / "p.toml", f'[defaults]\n{defaults}\n[peer.p]\naddress = "h"\n{own}\n')
    assert load_peers([file])["p"].settings == kept


def test_which_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peers_file, "user_file", lambda: tmp_path / "user" / "dicomtls.toml")
    monkeypatch.delenv("DICOMTLS_CONFIG", raising=False)
    assert peers_files(None) == []
    user = written(tmp_path / "user" / "dicomtls.toml", "")
    project = written(tmp_path / "dicomtls.toml", "")
    assert [path.absolute() for path in peers_files(None)] == [project, user]
    monkeypatch.setenv("DICOMTLS_CONFIG", "other.toml")
    assert peers_files(None) == [Path("other.toml")]
    assert peers_files(Path("given.toml")) == [Path("given.toml")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[peer.p", "is no TOML"),
        ('[peer.p]\naec = "X"', "has no `address`"),
        ('[peer.p]\naddress = "h"\ncret = "x"', "has the unknown key `cret`"),
        ('[peers.p]\naddress = "h"', "has the unknown key `peers`"),
        ('[peer."a b"]\naddress = "h"', "is no name for a peer"),
        ('[peer]\np = "h"', "is no table"),
        ('peer = "h"', "are tables"),
        ("[peer.p]\naddress = 5", "is no text"),
        ('[peer.p]\naddress = ""', "is no text"),
        ('[peer.p]\naddress = "h"\nno-tls = "yes"', "is not true or false"),
        ('[peer.p]\naddress = "h"\ntrust = [1]', "is no text"),
        ('[defaults]\naec = "X"', "has the unknown key `aec`"),
        ('[peer.a.b]\naddress = "h"', "has a table `b` in it"),
        ('[peer.p]\naddress = "A@h"\naec = "B"', "is called `A` in `address`"),
        (
            '[peer.p]\naddress = "h"\ntrust = ["~nobody-of-that-name/x"]',
            "names a home folder that there is not",
        ),
    ],
)
def test_what_no_file_can_say(text, told, tmp_path) -> None:
    file = written(tmp_path / "p.toml", text)
    with pytest.raises(InputError) as caught:
        load_peers([file])
    assert told in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.slug == "config.invalid"
    assert caught.value.hint


def test_the_nearest_key_is_offered(tmp_path) -> None:
    file = written(tmp_path / "p.toml", '[peer.p]\naddress = "h"\ncret = "x"')
    with pytest.raises(InputError) as caught:
        load_peers([file])
    assert "`cert`" in caught.value.hint


def test_the_nearest_name_is_offered(tmp_path) -> None:
    file = written(tmp_path / "p.toml", '[peer.pacs]\naddress = "h"')
    with pytest.raises(InputError) as caught:
        find_peer("pcas", file)
    assert (caught.value.slug, caught.value.hint) == ("config.no-peer", "did you mean `@pacs`?")


@given(st.binary(max_size=300))
def test_any_bytes_give_our_error_or_peers(tmp_path_factory, data) -> None:
    file = tmp_path_factory.mktemp("any") / "p.toml"
    file.write_bytes(data)
    with contextlib.suppress(InputError):
        load_peers([file])


_VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)


@given(st.dictionaries(st.sampled_from([*sorted(SETTINGS), "address", "other"]), _VALUES, max_size=6))
def test_any_values_give_our_error_or_a_peer(tmp_path_factory, table) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    file = tmp_path_factory.mktemp("any") / "p.toml"
    file.write_text("[peer.p]\n" + "\n".join(lines), encoding="utf-8", errors="surrogatepass")
    try:
        peers = load_peers([file])
    except InputError:
        return
    assert set(peers["p"].settings) == set(table) - {"address"}
