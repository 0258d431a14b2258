"""Sets of clocks, compared with plain sets of integers."""

import sys
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import ranges as module
from crdt.ranges import IdSet, RangeSet

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda span: (span[0], span[0] + span[1]))
CHANGES = st.lists(st.tuples(st.booleans(), SPANS), max_size=25)


def integers(ranges: RangeSet) -> set[int]:
    return {value for start, end in ranges for value in range(start, end)}


def built(changes: list[tuple[bool, tuple[int, int]]]) -> tuple[RangeSet, set[int]]:
    ranges, model = RangeSet(), set[int]()
    for adds, (start, end) in changes:
        if adds:
            ranges.add(start, end)
            model |= set(range(start, end))
        else:
            ranges.remove(start, end)
            model -= set(range(start, end))
    return ranges, model


@given(CHANGES)
def test_adding_and_removing_is_that_of_sets(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    ranges, model = built(changes)
    assert integers(ranges) == model
    assert ranges.size == len(model)
    assert all(value in ranges for value in model)
    assert 100 not in ranges
    pairs = list(ranges)
    assert all(start < end for start, end in pairs)
    assert all(before[1] < after[0] for before, after in pairwise(pairs))
    assert ranges == RangeSet(pairs)
    assert len(ranges) == len(pairs)


@given(CHANGES, SPANS)
def test_questions_about_a_range(changes: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]) -> None:
    ranges, model = built(changes)
    start, end = span
    asked = set(range(start, end))
    assert {value for a, b in ranges.missing(start, end) for value in range(a, b)} == asked - model
    assert ranges.covers(start, end) == (asked <= model)
    assert ranges.overlaps(start, end) == bool(asked & model) or start == end
    assert integers(ranges.clipped(start, end)) == asked & model
    first = ranges.start_of(start)
    assert (first is not None) == (start in model)
    assert first is None or (set(range(first, start + 1)) <= model and first - 1 not in model)


@given(CHANGES, st.lists(SPANS, max_size=10), st.integers(1, 4))
def test_uniting_is_adding_one_by_one(
    changes: list[tuple[bool, tuple[int, int]]], more: list[tuple[int, int]], step: int
) -> None:
    ranges, _ = built(changes)
    more = list(RangeSet(more))
    before = list(ranges)
    steps = ranges.uniting(more, step)
    pauses = 0
    try:
        while True:
            next(steps)
            pauses += 1
    except StopIteration as stop:
        united = stop.value
    for start, end in more:
        ranges.add(start, end)
    assert united == ranges
    assert pauses == (len(before) + len(more)) // step


def test_appending_and_extending_join_what_touches() -> None:
    ranges = RangeSet()
    for start, end in ((0, 2), (2, 4), (6, 8)):
        ranges.append(start, end)
    assert list(ranges) == [(0, 4), (6, 8)]
    ranges.extend(RangeSet([(8, 9), (11, 12)]))
    assert list(ranges) == [(0, 4), (6, 9), (11, 12)]
    ranges.extend(RangeSet([(20, 21)]))
    ranges.extend(RangeSet())
    assert list(ranges) == [(0, 4), (6, 9), (11, 12), (20, 21)]


def test_a_copy_is_independent() -> None:
    ranges = RangeSet([(1, 3)])
    copy = ranges.copy()
    copy.add(5, 6)
    assert list(ranges) == [(1, 3)]
    ids = IdSet()
    ids.add(1, 0, 2)
    twin = ids.copy()
    twin.add(1, 2, 3)
    assert ids.ranges(1) == [(0, 2)]
    assert ids != twin


def test_packed_bytes_are_little_endian_wherever_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = RangeSet([(1, 3), (256, 257)])
    expected = b"".join(n.to_bytes(8, "little") for n in (1, 3, 256, 257))
    assert ranges.packed() == expected
    monkeypatch.setattr(module, "_BIG_ENDIAN", sys.byteorder == "little")
    swapped = array("q", expected)
    swapped.byteswap()
    assert ranges.packed() == swapped.tobytes()


def test_ids_of_several_clients() -> None:
    ids = IdSet()
    ids.add(7, 0, 3)
    ids.add(5, 1, 1)
    ids.add_many(9, [(n, n + 1) for n in range(0, 40, 2)])
    assert list(ids) == [7, 9]
    assert len(ids) == 2
    assert ids.size == 23
    assert ids.contains(7, 2)
    assert not ids.contains(7, 3)
    assert not ids.contains(5, 1)
    assert ids.covers(9, 2, 3)
    assert not ids.covers(9, 2, 4)
    assert ids.covers(5, 1, 1)
    assert not ids.covers(5, 1, 2)
    assert ids.missing(7, 2, 5) == [(3, 5)]
    assert ids.missing(5, 1, 2) == [(1, 2)]
    assert ids.missing(5, 1, 1) == []
    assert ids.get(5) is None
    ids.put(5, RangeSet([(1, 4)]))
    assert ids.ranges(5) == [(1, 4)]
    assert dict(ids.items())[7] == RangeSet([(0, 3)])
    assert repr(ids).startswith("IdSet({7: [(0, 3)]")
    assert repr(RangeSet([(0, 3)])) == "RangeSet([(0, 3)])"
    assert ids != "x"
    assert RangeSet() != "x"
