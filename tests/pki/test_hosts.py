from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.errors import UsageError
from dicomtls_cli.pki.hosts import is_address, parse_host, subject_names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pacs.example.org", "pacs.example.org"),
        ("PACS.Example.org.", "pacs.example.org"),
        ("pacs", "pacs"),
        ("orthanc_1", "orthanc_1"),
        ("*.example.org", "*.example.org"),
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("3com.example", "3com.example"),
        ("köln.example", "xn--kln-sna.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_accepts(text, name):
    assert parse_host(text) == name


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "DNS name"),
        (" ", "DNS name"),
        ("a b", "DNS name"),
        ("a\nb", "DNS name"),
        ("-a", "DNS name"),
        ("a-", "DNS name"),
        ("a..b", "DNS name"),
        (".", "DNS name"),
        ("a" * 64, "DNS name"),
        (".".join(["a" * 60] * 5), "DNS name"),
        ("host:2762", "without its port"),
        ("https://host/", "without scheme"),
        ("10.0.0.0/8", "prefix length"),
        ("AET@host", "AE title"),
        ("1.2.3", "four numbers"),
        ("256.1.1.1", "four numbers"),
        ("12345", "four numbers"),
        ("fe80::1%eth0", "zone"),
        ("*", "two labels"),
        ("*.org", "two labels"),
        ("*.*.example.org", "whole first label"),
        ("a*.example.org", "whole first label"),
        ("a.*.org", "whole first label"),
        ("\udc80", "IDNA"),
        ("ä" * 70, "IDNA"),
    ],
)
def test_refuses(text, word):
    with pytest.raises(UsageError) as caught:
        parse_host(text)
    assert word in caught.value.hint
    assert caught.value.slug == "usage.invalid-host"


def test_localhost_is_always_in_and_once():
    assert subject_names(["a.example", "LOCALHOST", "a.example"]) == ("localhost", "a.example")


def test_default(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Node7")
    assert subject_names() == ("localhost", "node7", "127.0.0.1", "::1")


@pytest.mark.parametrize("odd", ["ward 3", "x" * 70, "", "localhost", "10.0.0.300"])
def test_a_machine_name_that_is_no_host_name_is_left_out(monkeypatch, odd):
    monkeypatch.setattr(socket, "gethostname", lambda: odd)
    assert subject_names() == ("localhost", "127.0.0.1", "::1")


@given(st.text(max_size=40) | st.text("*.:-_[]%@/0123456789abx", max_size=40))
def test_arbitrary_text_raises_only_our_error_and_canonical_is_stable(text):
    try:
        name = parse_host(text)
    except UsageError:
        return
    assert name.isascii()
    assert parse_host(name) == name
    assert is_address(name) or len(name) <= 253
