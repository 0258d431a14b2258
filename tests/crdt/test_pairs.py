"""Surrogate pairs: where they are, and which edges cut one."""

from crdt.pairs import Pairs, pairs_between
from crdt.ranges import RangeSet


def test_pairs_between_edges() -> None:
    run = RangeSet([(3, 9)])  # three pairs, at 3, 5 and 7
    assert list(pairs_between(run, 0, 20)) == [(3, 9)]
    assert list(pairs_between(run, 5, 7)) == [(5, 7)]
    assert list(pairs_between(run, 4, 8)) == [(5, 7)]
    assert list(pairs_between(run, 4, 20)) == [(5, 9)]
    assert list(pairs_between(run, 0, 4)) == []
    assert list(pairs_between(run, 8, 9)) == []
    assert list(pairs_between(run, 3, 4)) == []


def test_an_edge_before_a_second_half_cuts_its_pair() -> None:
    pairs = Pairs()
    pairs.add(7, RangeSet([(1, 5), (8, 10)]), 0, 10)
    assert [clock for clock in range(12) if pairs.is_cut_at({}, 7, clock)] == [2, 4, 9]
    assert not pairs.is_cut_at({}, 9, 2)
    assert pairs.is_cut_at({9: RangeSet([(1, 3)])}, 9, 2)
    assert pairs.cut_by({}, 7, 2, 4) == [(7, 2), (7, 4)]
    assert pairs.cut_by({}, 7, 1, 5) == []


def test_a_cut_pair_is_none_any_more_and_its_neighbours_are() -> None:
    pairs = Pairs()
    pairs.add(7, RangeSet([(0, 6)]), 0, 6)
    pairs.note_cut([(7, 3), (7, 3)])
    assert pairs.cut.ranges(7) == [(2, 4)]
    assert [clock for clock in range(6) if pairs.is_cut_at({}, 7, clock)] == [1, 5]


def test_text_goes_on_where_it_ended() -> None:
    pairs = Pairs()
    pairs.add(7, RangeSet([(0, 2)]), 0, 2)
    pairs.add(7, RangeSet([(2, 4), (6, 8)]), 2, 8)
    pairs.add(7, RangeSet([(8, 10)]), 9, 10)
    assert list(pairs.known[7]) == [(0, 4), (6, 8)]
    assert pairs.run_count == 3
