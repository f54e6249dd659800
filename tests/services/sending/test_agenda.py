"""The order of sending, and what the source of instances may do to it."""

from __future__ import annotations

import pytest

from dicomtls_cli.services.files.scan import Instance
from dicomtls_cli.services.sending.agenda import LOOK_AHEAD, Agenda, as_stored, kind_of

LITTLE = "1.2.840.10008.1.2.1"


def instance(number: int, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> Instance:
    return Instance(f"{number}.dcm", 1000, 400, sop_class, f"1.2.{number}", LITTLE)


def classes(count: int, kinds: int) -> list[Instance]:
    return [instance(number, f"1.2.826.{number % kinds}") for number in range(count)]


def sent(agenda: Agenda) -> tuple[list[Instance], int]:
    """Take everything as a sender does; return it, and how many associations that took."""
    proposed: frozenset = frozenset()
    order, associations = [], 0
    while (chosen := agenda.next(proposed)) is not None:
        if as_stored(kind_of(chosen))[0] not in proposed:
            proposed = frozenset(agenda.proposals(chosen))
            associations += 1
            assert len(proposed) <= 128
        order.append(chosen)
        agenda.look_further()
    return order, associations


@pytest.mark.parametrize(("kinds", "associations"), [(1, 1), (128, 1), (150, 2), (256, 2), (300, 3)])
def test_as_few_associations_as_the_kinds_need(kinds, associations) -> None:
    wanted = classes(1000, kinds)
    order, took = sent(Agenda(wanted))
    assert sorted(order) == sorted(wanted)
    assert took == associations


def test_one_kind_keeps_its_order() -> None:
    wanted = classes(1000, 1)
    assert sent(Agenda(wanted))[0] == wanted


def test_no_more_is_known_ahead_than_needed() -> None:
    taken = []

    def source():
        for number in range(10_000):
            taken.append(number)
            yield instance(number)

    agenda = Agenda(source())
    for _ in range(10):
        agenda.next(frozenset(as_stored(kind_of(instance(0)))))
        agenda.look_further()
    assert len(taken) <= LOOK_AHEAD + 11


@pytest.mark.parametrize("good", [0, 10, LOOK_AHEAD, 3 * LOOK_AHEAD])
def test_what_the_source_raises_comes_when_all_before_it_are_through(good) -> None:
    def source():
        yield from (instance(number) for number in range(good))
        raise OSError("the disk is gone")

    agenda = Agenda(source())
    proposed = frozenset(as_stored(kind_of(instance(0))))
    assert [agenda.next(proposed) for _ in range(good)] == [instance(number) for number in range(good)]
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            agenda.next(proposed)
