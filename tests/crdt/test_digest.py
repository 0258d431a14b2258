"""Digests: equal where clocks and deletions are, however they came."""

from hypothesis import given
from hypothesis import strategies as st

from crdt.digest import Digest
from crdt.gate import Gate
from crdt.ranges import IdSet
from tests.crdt.editors import session
from tests.crdt.hand import typed, update

DELETIONS = st.dictionaries(
    st.integers(0, 2**53 - 1), st.lists(st.tuples(st.integers(0, 30), st.integers(31, 40)), max_size=3), max_size=4
)
CLOCKS = st.dictionaries(st.integers(0, 2**53 - 1), st.integers(1, 50), max_size=5)


def id_set(deletions: dict[int, list[tuple[int, int]]]) -> IdSet:
    ids = IdSet()
    for client, ranges in deletions.items():
        for start, end in ranges:
            ids.add(client, start, end)
    return ids


@given(CLOCKS, DELETIONS, CLOCKS, DELETIONS)
def test_digests_are_equal_exactly_where_the_sets_are(
    clocks: dict[int, int],
    deletions: dict[int, list[tuple[int, int]]],
    other_clocks: dict[int, int],
    other_deletions: dict[int, list[tuple[int, int]]],
) -> None:
    mine = Digest(clocks, id_set(deletions)).hashes(clocks, id_set(deletions))
    theirs = Digest(other_clocks, id_set(other_deletions)).hashes(other_clocks, id_set(other_deletions))
    assert (mine[0] == theirs[0]) == (clocks == other_clocks)
    assert (mine[1] == theirs[1]) == (id_set(deletions) == id_set(other_deletions))
    assert [len(part) for part in mine] == [8, 8]


def test_digests_kept_up_are_digests_made_anew_in_any_order() -> None:
    _, updates = session(3)
    kept, fresh = Gate(), Gate()
    for ref, data in enumerate(updates):
        kept.admit(data, ref=ref, owner=0)
        if ref % 3 == 0:
            kept.digests()
    for ref, data in enumerate(reversed(updates)):
        fresh.admit(data, ref=ref, owner=0)
    assert kept.digests() == fresh.digests()
    assert kept.digests() == kept.digests()


def test_each_digest_tells_its_own_set() -> None:
    gate = Gate()
    empty = gate.digests()
    gate.admit(typed(7, 0, "abc"), ref=1, owner=0)
    typed_one = gate.digests()
    assert typed_one[0] != empty[0]
    assert typed_one[1] == empty[1]
    gate.admit(update(delete={7: [(1, 1)]}), ref=2, owner=0)
    dropped_one = gate.digests()
    assert dropped_one[0] == typed_one[0]
    assert dropped_one[1] != typed_one[1]


def test_what_was_held_counts_once_it_is_in_effect() -> None:
    gate, direct = Gate(), Gate()
    first, second = typed(7, 0, "ab"), typed(7, 2, "cd")
    drop = update(delete={7: [(2, 1)]})
    gate.digests()
    for ref, data in enumerate((drop, second, first)):
        gate.admit(data, ref=ref, owner=0)
    for ref, data in enumerate((first, second, drop)):
        direct.admit(data, ref=ref, owner=0)
    assert gate.digests() == direct.digests()
