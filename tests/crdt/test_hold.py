"""What is held: books that balance, queues that wake in order, and nothing that grows unpaid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import HoldOverflow, LocalError
from crdt.hold import (
    BLOCK_COST,
    NEED_COST,
    PAIRS_COST,
    SPAN_COST,
    WAKE_BLOCKS,
    WAKE_DELETIONS,
    WAKE_UPDATE,
    HeldBlock,
    Hold,
    Lane,
    Need,
    Span,
)
from crdt.limits import GateLimits
from crdt.ranges import RangeSet


def block(clock: int, end: int, owner: int = 1, data: bytes = b"12345", pairs: RangeSet | None = None) -> HeldBlock:
    return HeldBlock(clock, end, 4, left=(9, 0), right=(0, 0), data=data, pairs=pairs, owner=owner)


def hold(**limits: int) -> Hold:
    return Hold(GateLimits(**limits))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=12), st.integers(0, 30), st.integers(0, 8))
def test_gaps_are_what_nobody_has(parts: list[tuple[int, int]], start: int, size: int) -> None:
    lane: Lane[Span] = Lane()
    taken: set[int] = set()
    for clock, length in parts:
        for first, end in lane.gaps(clock, clock + length):
            lane.insert(Span(first, end, 1))
            assert not taken & set(range(first, end))
            taken |= set(range(first, end))
    assert lane.clocks == sorted(lane.clocks) == [part.clock for part in lane.parts]
    asked = set(range(start, start + size))
    assert {clock for first, end in lane.gaps(start, start + size) for clock in range(first, end)} == asked - taken


def test_every_byte_is_charged_and_given_back() -> None:
    held = hold()
    held.add_block(7, block(5, 6))
    held.add_block(7, block(3, 5, owner=2, pairs=RangeSet([(3, 5)])))
    held.add_span(7, Span(20, 30, 2))
    held.add_update(1, Need(2, [(7, 3, 6), (7, 20, 30)]))
    assert held.bytes == 2 * (BLOCK_COST + 5) + PAIRS_COST + SPAN_COST + 2 * NEED_COST
    assert [part.clock for part in held.blocks[7].parts] == [3, 5]
    held.drop_blocks(7, 1)
    held.drop_blocks(7, 1)
    assert held.blocks == {}
    assert [(span.clock, span.end) for span in held.take_spans(7, 24)] == [(20, 24)]
    assert [(span.clock, span.end) for span in held.take_spans(7, 24)] == []
    assert [(span.clock, span.end) for span in held.take_spans(7, 99)] == [(24, 30)]
    assert held.take_spans(7, 99) == []
    held.drop_update(1)
    assert held.bytes == 0
    assert held._owner_bytes == {}
    assert held.waited_for() == set()


def test_limits() -> None:
    held = hold(held_bytes_max=1000, held_bytes_per_owner_max=600, held_updates_max=1)
    held.check_room(1, 600)
    with pytest.raises(HoldOverflow, match="601 bytes of one sender would wait for missing edits, limit is 600"):
        held.check_room(1, 601)
    held.charge(1, 600)
    held.check_room(2, 400)
    with pytest.raises(HoldOverflow, match="1001 bytes would wait for missing edits, limit is 1000"):
        held.check_room(2, 401)
    held.add_update(5, Need(2, []))
    with pytest.raises(HoldOverflow, match="1 updates wait"):
        held.check_room(2, 1)
    with pytest.raises(LocalError, match="update 5 is waiting already"):
        held.add_update(5, Need(2, []))
    held.relimit(GateLimits())
    held.check_room(2, 100_000)


def test_waking_is_in_the_order_of_what_was_waited_for() -> None:
    held = hold()
    held.watch((WAKE_UPDATE, 1), 7, 5)
    held.watch((WAKE_BLOCKS, 9), 7, 3)
    held.watch((WAKE_BLOCKS, 8), 7, 9)
    assert held.waited_for() == {7}
    assert held.woken(7, 2) == []
    assert held.woken(7, 5) == [(WAKE_BLOCKS, 9), (WAKE_UPDATE, 1)]
    assert held.woken(9, 100) == []
    assert held.woken(7, 9) == [(WAKE_BLOCKS, 8)]
    assert held._queues == {}


def test_one_waits_for_one_thing_at_a_time() -> None:
    held = hold()
    held.watch((WAKE_BLOCKS, 9), 7, 3)
    held.watch((WAKE_BLOCKS, 9), 7, 3)
    held.watch((WAKE_BLOCKS, 9), 5, 1)
    assert held.woken(7, 3) == []
    assert held.woken(5, 1) == [(WAKE_BLOCKS, 9)]
    assert held.woken(5, 1) == []


def test_deletions_wake_for_their_first_clock() -> None:
    held = hold()
    held.add_span(7, Span(20, 30, 1))
    held.add_span(7, Span(10, 12, 1))
    assert held.woken(7, 10) == []
    assert held.woken(7, 11) == [(WAKE_DELETIONS, 7)]
    assert [(span.clock, span.end) for span in held.take_spans(7, 11)] == [(10, 11)]
    assert held.woken(7, 12) == [(WAKE_DELETIONS, 7)]


def test_forgotten_entries_are_swept() -> None:
    """Waits that were given up stay in their queue for a while, and there are never many of them."""
    held = hold()
    held.watch((WAKE_BLOCKS, 1), 2, 10**9)
    for clock in range(10_000):
        held.watch((WAKE_BLOCKS, 9), 5000 + clock, 1)
    assert sum(len(queue) for queue in held._queues.values()) < 100
    assert len(held._queues) < 100
    assert held.waited_for() == {2, 14_999}
    assert held.woken(2, 10**9) == [(WAKE_BLOCKS, 1)]
    assert held.woken(14_999, 1) == [(WAKE_BLOCKS, 9)]
