"""The gate's decisions one by one: what goes in, what waits, what is refused, and that a refusal changes nothing."""

import pytest

from crdt.errors import HoldOverflow, LocalError, Malformed, RemoteError, TooLarge, Unsupported
from crdt.gate import Admission, Gate, GateLimits
from crdt.state_vector import decode_state_vector
from tests.crdt.hand import (
    NULL,
    ONE,
    collected,
    deleted,
    embed,
    item,
    shared_type,
    skip,
    text,
    typed,
    update,
    values,
)


class Room:
    """A gate that numbers its updates."""

    def __init__(self, **limits: int) -> None:
        self.gate = Gate(GateLimits(**limits))
        self.count = 0

    def admit(self, data: bytes, owner: int = 1) -> Admission:
        self.count += 1
        return self.gate.admit(data, ref=self.count, owner=owner)

    def refuse(self, data: bytes, kind: type[RemoteError], message: str | None = None) -> None:
        before = self.state()
        with pytest.raises(kind, match=message):
            self.admit(data)
        assert self.state() == before

    def state(self) -> object:
        gate = self.gate
        places = gate._known.places
        return (
            dict(gate.clocks),
            gate.deletions.copy(),
            gate.held_bytes,
            gate.held_updates,
            gate.missing(),
            dict(places.lists),
            list(places.traits),
            len(places.runs),
            dict(gate._known.pairs.known),
            gate.digests(),
        )


def test_new_and_ready_bytes_go_in_untouched() -> None:
    room = Room()
    for data in (
        typed(7, 0, "ab"),
        typed(7, 2, "c"),
        update((7, 3, [text("d", left=(7, 0), right=(7, 1))]), delete={7: [(0, 1), (3, 1)]}),
        update((9, 0, [text("x", left=(7, 2))]), (8, 0, [text("y", left=(9, 0))])),
        update(delete={7: [(1, 1)]}),
    ):
        admission = room.admit(data, owner=5)
        assert admission == Admission((data,), (5,), (room.count,), waiting=False, journal=True)
        assert admission.updates[0] is data
    assert dict(room.gate.clocks) == {7: 4, 8: 1, 9: 1}
    assert room.gate.deletions.ranges(7) == [(0, 2), (3, 4)]
    assert decode_state_vector(room.gate.state_vector(), clients_max=9) == {7: 4, 8: 1, 9: 1}
    assert room.gate.missing() == {}


def test_what_is_known_adds_nothing() -> None:
    room = Room()
    data = update((7, 0, [text("ab")]), delete={7: [(0, 1)]})
    room.admit(data)
    nothing_new = Admission(settled=(2,))
    assert room.admit(data) == nothing_new
    assert room.admit(b"\x00\x00") == nothing_new._replace(settled=(3,))
    assert room.admit(update(delete={7: [(0, 1)]})) == nothing_new._replace(settled=(4,))


def test_only_the_new_part_of_an_overlap_goes_in() -> None:
    room = Room()
    room.admit(typed(7, 0, "ab"))
    squashed = update((7, 0, [text("abcd"), embed(b"1", left=(7, 3))]), delete={7: [(0, 2), (3, 1)]})
    admission = room.admit(squashed)
    assert admission.updates == (
        update((7, 2, [text("cd", left=(7, 1)), embed(b"1", left=(7, 3))]), delete={7: [(0, 2), (3, 1)]}),
    )
    assert admission.journal
    again = room.admit(update((7, 0, [text("abcd")]), delete={7: [(0, 4)]}))
    assert again.updates == (update(delete={7: [(2, 1)]}),)


def test_other_content_at_a_known_clock_never_gets_out() -> None:
    room = Room()
    room.admit(typed(7, 0, "ab"))
    assert room.admit(typed(7, 0, "XY")).updates == ()
    assert room.admit(typed(7, 0, "XYc")).updates == (update((7, 2, [text("c", left=(7, 1))])),)


def test_a_cut_block_keeps_its_right_origin_and_needs_it() -> None:
    room = Room()
    room.admit(typed(7, 0, "ab"))
    block = text("abcd", right=(9, 0))
    waiting = room.admit(update((7, 0, [block])))
    assert (waiting.updates, waiting.waiting) == ((), True)
    released = room.admit(typed(9, 0, "x"))
    assert released.updates == (typed(9, 0, "x"), update((7, 2, [text("cd", left=(7, 1), right=(9, 0))])))
    assert released.settled == (3, 2)


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        (text("x", left=(9, 4)), {9: 0}),
        (text("x", right=(9, 4)), {9: 0}),
        (text("x", parent=(9, 4)), {9: 0}),
        (text("x", left=(5, 0), right=(9, 4)), {9: 0}),
    ],
)
def test_a_block_waits_for_each_of_its_dependencies(block: bytes, missing: dict[int, int]) -> None:
    room = Room()
    room.admit(typed(5, 0, "a"))
    late = update((7, 0, [block]))
    admission = room.admit(late)
    assert admission == Admission((), (), (), waiting=True, journal=True)
    assert room.gate.missing() == missing
    assert room.gate.held_updates == 1
    partly = update((9, 0, [text("abcd")]))
    assert room.admit(partly) == Admission((partly,), (1,), (3,), waiting=False, journal=True)
    last = update((9, 4, [shared_type(1, parent="text")]))
    released = room.admit(last, owner=8)
    assert released.updates == (last, late)
    assert released.owners == (8, 1)
    assert released.settled == (4, 2)
    assert (room.gate.held_updates, room.gate.held_bytes, room.gate.missing()) == (0, 0, {})


def test_a_gap_in_the_same_client_waits() -> None:
    room = Room()
    late = typed(7, 2, "c")
    assert room.admit(late).waiting
    assert room.gate.missing() == {7: 0}
    first = typed(7, 0, "ab")
    assert room.admit(first).updates == (first, late)


def test_a_skip_is_not_known() -> None:
    room = Room()
    merged = update((7, 0, [text("a"), skip(1), text("c", left=(7, 1))]))
    admission = room.admit(merged)
    assert admission.updates == (typed(7, 0, "a"),)
    assert admission.waiting
    assert admission.journal
    assert dict(room.gate.clocks) == {7: 1}
    filled = room.admit(typed(7, 1, "b"))
    assert filled.updates == (typed(7, 1, "b"), typed(7, 2, "c"))
    assert filled.settled == (2, 1)
    # The same again: the hole is known by now.
    assert room.admit(merged) == Admission(settled=(3,))
    assert room.admit(update((9, 0, [skip(5)]))) == Admission(waiting=False, settled=(4,), journal=False)


def test_the_ready_prefix_goes_in_and_the_rest_waits() -> None:
    room = Room()
    mixed = update(
        (9, 0, [text("a"), text("b", left=(5, 0)), text("c", left=(9, 1))]),
        (7, 0, [text("z"), text("y", left=(9, 2))]),
        delete={7: [(0, 2)], 5: [(0, 1)]},
    )
    admission = room.admit(mixed)
    assert admission.updates == (update((9, 0, [text("a")]), (7, 0, [text("z")]), delete={7: [(0, 1)]}),)
    assert admission.waiting
    released = room.admit(typed(5, 0, "s"), owner=2)
    assert released.updates == (
        typed(5, 0, "s"),
        update(
            (9, 1, [text("b", left=(5, 0)), text("c", left=(9, 1))]),
            (7, 1, [text("y", left=(9, 2))]),
            delete={5: [(0, 1)], 7: [(1, 1)]},
        ),
    )
    assert released.owners == (2, 1)
    assert released.settled == (2, 1)


def test_clients_of_one_update_may_depend_on_each_other_back_and_forth() -> None:
    room = Room()
    data = update(
        (9, 0, [text("a", left=(5, 0)), text("c", left=(5, 1))]),
        (7, 0, [text("z", right=(9, 1))]),
        (5, 0, [text("s"), text("t", left=(9, 0)), text("u", left=(7, 0))]),
    )
    assert room.admit(data).updates == (data,)
    circle = update((9, 2, [text("a", left=(5, 3))]), (5, 3, [text("b", left=(9, 2))]))
    admission = room.admit(circle)
    assert (admission.updates, admission.waiting) == ((), True)
    assert room.gate.missing() == {5: 3, 9: 2}


def test_deletions_before_their_content_wait_for_it() -> None:
    room = Room()
    drop = update(delete={7: [(1, 3)]})
    assert room.admit(drop, owner=3) == Admission((), (), (), waiting=True, journal=True)
    first = room.admit(typed(7, 0, "ab"))
    assert first.updates == (typed(7, 0, "ab"), update(delete={7: [(1, 1)]}))
    assert first.owners == (1, 3)
    assert first.settled == (2,)
    second = room.admit(typed(7, 2, "cde"))
    assert second.updates == (typed(7, 2, "cde"), update(delete={7: [(2, 2)]}))
    assert second.settled == (3, 1)
    assert room.gate.deletions.ranges(7) == [(1, 4)]


def test_a_deletion_known_by_the_time_it_is_released_is_not_sent_again() -> None:
    room = Room()
    room.admit(update(delete={7: [(0, 2)]}), owner=3)
    both = update((7, 0, [text("ab")]), delete={7: [(0, 2)]})
    assert room.admit(both).updates == (both,)
    assert room.gate.held_updates == 0


def test_a_duplicate_of_something_held_waits_with_it_and_is_not_journaled() -> None:
    room = Room()
    late = typed(7, 2, "c")
    room.admit(late)
    held = room.gate.held_bytes
    again = room.admit(late)
    assert again == Admission((), (), (), waiting=True, journal=False)
    assert room.gate.held_updates == 2
    assert 0 < room.gate.held_bytes - held < 1000
    drop = update(delete={7: [(2, 1)]})
    assert room.admit(drop).journal
    assert not room.admit(drop).journal
    released = room.admit(typed(7, 0, "ab"))
    assert released.updates == (typed(7, 0, "ab"), update((7, 2, [text("c", left=(7, 1))]), delete={7: [(2, 1)]}))
    assert set(released.settled) == {1, 2, 3, 4, 5}


def test_of_two_contents_held_at_one_clock_the_first_wins() -> None:
    room = Room()
    room.admit(update((7, 2, [text("cd", left=(7, 1))])), owner=1)
    other = room.admit(update((7, 1, [text("BCDEF", left=(7, 0))])), owner=2)
    assert (other.waiting, other.journal) == (True, True)
    released = room.admit(typed(7, 0, "a"), owner=3)
    assert released.updates == (
        typed(7, 0, "a"),
        update((7, 1, [text("B", left=(7, 0))])),
        update((7, 2, [text("cd", left=(7, 1))])),
        update((7, 4, [text("EF", left=(7, 3))])),
    )
    assert released.owners == (3, 2, 1, 2)
    assert released.settled == (3, 1, 2)


def test_what_comes_ready_wins_over_what_is_held() -> None:
    room = Room()
    room.admit(update((7, 2, [text("XYZ", left=(7, 1))])))
    admission = room.admit(typed(7, 0, "abcd"))
    assert admission.updates == (typed(7, 0, "abcd"), update((7, 4, [text("Z", left=(7, 3))])))
    assert admission.settled == (2, 1)


def test_held_deletions_of_several_senders_do_not_overlap() -> None:
    room = Room()
    room.admit(update(delete={7: [(2, 3)]}), owner=1)
    room.admit(update(delete={7: [(0, 10)]}), owner=2)
    released = room.admit(typed(7, 0, "0123456789"), owner=3)
    assert released.updates == (
        typed(7, 0, "0123456789"),
        update(delete={7: [(0, 2), (5, 5)]}),
        update(delete={7: [(2, 3)]}),
    )
    assert released.owners == (3, 2, 1)


# -- refusals change nothing -------------------------------------------------------------------------------------


def test_a_parent_that_is_no_type_is_refused_whole() -> None:
    room = Room()
    room.admit(typed(7, 0, "a"))
    room.refuse(update((9, 0, [text("ok"), text("x", parent=(7, 0))])), Malformed, "no shared type")
    room.refuse(update((9, 0, [text("ok"), text("x", parent=(9, 0))])), Malformed, "no shared type")


@pytest.mark.parametrize("parent", [shared_type(2, parent="xml"), deleted(1, parent="xml"), collected(1)])
def test_types_and_what_may_have_been_one_are_parents(parent: bytes) -> None:
    room = Room()
    room.admit(update((7, 0, [parent])))
    child = update((7, 1, [text("x", parent=(7, 0))]))
    assert room.admit(child).updates == (child,)


def test_nesting_of_types_is_bounded_however_slowly_it_is_built() -> None:
    room = Room(type_depth_max=4)
    room.admit(update((7, 0, [shared_type(1, parent="map", key="k")])))
    for clock in range(1, 4):
        room.admit(update((7, clock, [shared_type(1, parent=(7, clock - 1), key="k")])))
    room.refuse(update((7, 4, [shared_type(1, parent=(7, 3), key="k")])), TooLarge, "deeper than 4")
    room.refuse(update((8, 0, [text("x", parent=(7, 3)), shared_type(0, left=(8, 0))])), TooLarge, "deeper than 4")
    assert room.admit(update((7, 4, [text("x", parent=(7, 3))]))).journal


def test_an_item_can_t_lie_between_two_lists() -> None:
    """pycrdt would link it into both, and reads freed memory when one of them is collected."""
    room = Room()
    room.admit(
        update(
            (7, 0, [text("a"), text("b", parent="other"), shared_type(2), shared_type(2, left=(7, 2))]),
            (8, 0, [text("in one", parent=(7, 2)), text("in two", parent=(7, 3))]),
            (9, 0, [values(NULL, parent="map", key="k"), values(NULL, parent="map", key="l")]),
            (10, 0, [values(NULL, parent="map")]),
        )
    )
    for left, right in (((7, 0), (7, 1)), ((8, 0), (8, 6)), ((9, 0), (9, 1)), ((9, 0), (10, 0)), ((7, 2), (8, 0))):
        room.refuse(update((11, 0, [text("x", left=left, right=right)])), Malformed, "different lists")
    fine = update((11, 0, [text("x", left=(8, 0), right=(8, 3)), text("y", left=(7, 2), right=(7, 3))]))
    assert room.admit(fine).journal


def test_a_collected_neighbour_is_in_no_list() -> None:
    room = Room()
    room.admit(update((7, 0, [text("a"), collected(2)])))
    assert room.admit(update((9, 0, [text("x", left=(7, 1), right=(7, 0))]))).journal
    room.admit(update((8, 0, [text("b", parent="other")])))
    room.refuse(update((9, 1, [text("y", left=(9, 0), right=(8, 0))])), Malformed, "different lists")


def test_several_values_under_a_key_go_in_one_by_one() -> None:
    """pycrdt keeps the first half of a block it has to divide there, with a pointer to its parent after that is freed."""
    room = Room()
    squashed = update((7, 0, [values(NULL, ONE, NULL, parent="map", key="k")]), delete={7: [(0, 2)]})
    later = [b"\xa8\x07\x00\x01" + ONE, b"\xa8\x07\x01\x01" + NULL]
    expected = update((7, 0, [values(NULL, parent="map", key="k"), *later]), delete={7: [(0, 2)]})
    admission = room.admit(squashed)
    assert admission.updates == (expected,)
    assert dict(room.gate.clocks) == {7: 3}
    # The same through the hold, and cut.
    other = Room()
    other.admit(update((7, 0, [values(NULL, ONE, NULL, parent="map", key="k")])))
    other.admit(update((9, 1, [values(NULL, NULL, left=(7, 2))])))
    released = other.admit(update((9, 0, [values(ONE, left=(7, 2))])))
    assert released.updates[1] == update((9, 1, [values(NULL, left=(7, 2)), values(NULL, left=(9, 1))]))
    room.refuse(update((9, 0, [text("ab", parent="map", key="k")])), Malformed, "several characters under a key")
    assert room.admit(update((9, 0, [text("a", parent="map", key="k"), deleted(3, left=(9, 0))]))).journal


def test_several_values_in_an_array_stay_together() -> None:
    room = Room()
    data = update((7, 0, [values(NULL, ONE), values(NULL, ONE, left=(7, 1))]))
    assert room.admit(data).updates == (data,)


def test_what_the_parser_refuses_changes_nothing() -> None:
    room = Room()
    room.refuse(typed(7, 0, "a") + b"x", Malformed)
    room.refuse(update((7, 0, [text("a"), shared_type(5)])), Unsupported)


# -- refusals that come late -------------------------------------------------------------------------------------


def test_a_held_part_that_turns_out_impossible_is_dropped_and_named() -> None:
    room = Room()
    bad = update((9, 0, [text("x", parent=(7, 0)), text("y", left=(9, 0))]))
    room.admit(bad, owner=5)
    room.admit(bad, owner=6)
    admission = room.admit(typed(7, 0, "a"))
    assert admission.updates == (typed(7, 0, "a"),)
    assert admission.settled == (3,)
    assert [ref for ref, _ in admission.refused] == [1, 2]
    assert all(isinstance(error, Malformed) for _, error in admission.refused)
    assert room.gate.held_updates == 0
    # The honest text of that client can still come.
    good = update((9, 0, [text("q")]))
    assert room.admit(good).updates == (good, update((9, 1, [text("y", left=(9, 0))])))
    assert (room.gate.held_bytes, room.gate.missing()) == (0, {})


def test_an_update_may_refuse_itself_when_what_it_waited_for_was_held() -> None:
    room = Room()
    room.admit(update((7, 0, [text("a", left=(5, 0))])))
    own = update((9, 0, [text("x", parent=(7, 0))]), (5, 0, [text("s")]))
    admission = room.admit(own)
    assert admission.updates == (update((5, 0, [text("s")])), update((7, 0, [text("a", left=(5, 0))])))
    assert [ref for ref, _ in admission.refused] == [2]
    assert (admission.waiting, admission.settled) == (False, (1,))


def test_depth_is_checked_when_a_held_type_comes_in() -> None:
    room = Room(type_depth_max=1)
    room.admit(update((9, 0, [shared_type(1, parent=(7, 0), key="k")])))
    admission = room.admit(update((7, 0, [shared_type(1)])))
    assert [(ref, type(error)) for ref, error in admission.refused] == [(1, TooLarge)]


# -- limits ------------------------------------------------------------------------------------------------------


def test_holding_is_bounded_and_an_overflow_changes_nothing() -> None:
    room = Room(held_bytes_max=4_000, held_bytes_per_owner_max=3_000, held_updates_max=3)
    room.admit(typed(7, 5, "a"))
    room.refuse(typed(8, 5, "b" * 600), HoldOverflow, "of one sender")
    assert room.admit(typed(8, 5, "b"), owner=2).waiting
    with pytest.raises(HoldOverflow, match="bytes would wait"):
        room.admit(typed(9, 5, "c" * 600), owner=3)
    room.admit(typed(8, 5, "b"), owner=3)
    room.refuse(typed(8, 5, "b"), HoldOverflow, "3 updates wait")
    # A refused update's ready part does not go in either.
    room.refuse(update((7, 0, [text("ready")]), (9, 5, [text("c", left=(9, 4))])), HoldOverflow)
    # What closes the gap is let in although nothing more can be held.
    assert room.admit(typed(7, 0, "01234")).settled == (room.count, 1)


def test_held_deletions_are_bounded() -> None:
    room = Room(held_bytes_max=100_000)
    ranges = [(2 * n, 1) for n in range(100_000)]
    room.refuse(update(delete={7: ranges}), HoldOverflow)


def test_pairs_are_bounded_over_all_updates() -> None:
    room = Room(pair_runs_max=3)
    room.admit(typed(7, 0, "😀a😀"))
    room.refuse(typed(7, 5, "a😀b😀"), TooLarge, "more than 3 separate runs")
    assert room.admit(typed(7, 5, "a😀")).journal


def test_a_ref_is_used_once_while_it_waits() -> None:
    gate = Gate()
    gate.admit(typed(7, 2, "c"), ref=1, owner=1)
    with pytest.raises(LocalError, match="update 1 is waiting already"):
        gate.admit(typed(7, 5, "f"), ref=1, owner=1)


def test_other_limits_from_now_on() -> None:
    gate = Gate(GateLimits(held_bytes_max=10**9))
    gate.admit(typed(7, 2, "c"), ref=1, owner=1)
    gate.relimit(GateLimits(held_bytes_max=10, update_bytes_max=30))
    with pytest.raises(HoldOverflow):
        gate.admit(typed(8, 2, "c"), ref=2, owner=1)
    with pytest.raises(TooLarge):
        gate.admit(typed(8, 0, "c" * 40), ref=2, owner=1)


# -- large updates -----------------------------------------------------------------------------------------------


def test_a_large_update_goes_in_as_slices_in_order() -> None:
    room = Room(slice_blocks=3)
    blocks = [text("a"), *(text("a", left=(9, n)) for n in range(7))]
    data = update((9, 0, blocks), (5, 0, [text("z", left=(9, 7))]), delete={9: [(0, 1), (2, 1), (4, 1), (6, 1)]})
    admission = room.admit(data, owner=4)
    assert len(admission.updates) == 5
    assert admission.owners == (4,) * 5
    follower = Gate()
    for ref, part in enumerate(admission.updates):
        again = follower.admit(part, ref=ref, owner=0)
        assert again.updates == (part,)
    assert dict(follower.clocks) == dict(room.gate.clocks)
    assert follower.digests() == room.gate.digests()


def test_one_large_block_is_not_divided() -> None:
    room = Room(slice_bytes=50)
    data = update((9, 0, [text("x" * 200), text("y", left=(9, 199))]))
    assert room.admit(data).updates == (
        update((9, 0, [text("x" * 200)])),
        update((9, 200, [text("y", left=(9, 199))])),
    )


def test_steps_can_be_abandoned_at_any_pause() -> None:
    blocks = [text("a"), *(text("a", left=(9, n)) for n in range(40))]
    data = update((9, 0, [*blocks, text("b", left=(7, 0))]), delete={9: [(2 * n, 1) for n in range(20)], 7: [(0, 1)]})
    pauses = 0
    while True:
        room = Room(slice_blocks=4)
        before = room.state()
        steps = room.gate.admit_steps(data, ref=1, owner=1, step_blocks=3)
        try:
            for _ in range(pauses):
                next(steps)
        except StopIteration as stop:
            admission = stop.value
            break
        steps.close()
        assert room.state() == before
        pauses += 1
    assert pauses > 20
    assert admission == Room(slice_blocks=4).admit(data)


def test_a_fresh_gate_is_small() -> None:
    import tracemalloc

    tracemalloc.start()
    gates = [Gate() for _ in range(200)]
    size = tracemalloc.get_traced_memory()[0] / len(gates)
    tracemalloc.stop()
    assert size < 2048


def test_subdocuments_formats_and_binary_pass() -> None:
    room = Room()
    data = update(
        (
            7,
            0,
            [
                item(9, b"\x04guid\x76\x01\x02gc\x78", parent="map", key="sub"),
                item(6, b"\x04bold\x04true"),
                item(3, b"\x02\x01\x02", parent="map", key="bytes"),
            ],
        )
    )
    assert room.admit(data).updates == (data,)
