"""Connections without a first byte: whom to drop where too many wait."""

from __future__ import annotations

import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomtls_cli.services.receiving.arrivals import Arrival, Arrivals, first_of_most
from dicomtls_cli.services.receiving.events import Client


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_the_oldest_of_the_address_with_most_goes_never_the_newest(sources: list[str]) -> None:
    items = list(enumerate(sources))
    number, source = first_of_most(items, lambda item: item[1])
    counts = Counter(sources)
    assert counts[source] == max(counts.values())
    assert number == min(n for n, s in items if counts[s] == counts[source])
    assert number < len(items) - 1 or len(items) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1:1", "192.0.2.1:2", True),
        ("192.0.2.1:1", "192.0.2.2:1", False),
        (
            "[2001:db8::1]:1",
            "[2001:db8::2:3:4:5]:2",
            True,
        ),  # one network, of which a machine has all addresses
        ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", False),
        ("[fe80::1%eth0]:1", "[fe80::2%eth1]:1", True),
    ],
)
def test_what_counts_as_one_address(one, other, same) -> None:
    first, second = (Arrival(None, Client(address), 0.0).source for address in (one, other))  # type: ignore[arg-type]
    assert (first == second) == same


def test_one_that_begins_to_speak_while_its_room_is_needed_is_served() -> None:
    dropped: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arrivals = Arrivals(
            [listener],
            patience=60.0,
            most=1,
            dropped=lambda _client, why: dropped.append(why),
            await_room=lambda: None,
        )
        with socket.create_connection(listener.getsockname()) as first:
            assert arrivals.next() == []
            with socket.create_connection(listener.getsockname()):  # it is noticed before the other speaks
                first.send(b"\x16")
                (arrival,) = arrivals.next()
        assert arrival.sock.recv(1) == b"\x16"
        arrival.sock.close()
        arrivals.close()
    assert dropped == []
