"""Joining, differences and mending on bytes, compared with yjs' vectors and with pycrdt where it can be trusted."""

import json
import random
from pathlib import Path

import pycrdt
import pytest

from crdt.errors import LocalError
from crdt.gate import Gate
from crdt.merge import join_updates, mend_pairs, update_beyond
from crdt.ranges import IdSet
from crdt.state_vector import decode_state_vector
from tests.crdt.editors import content, session
from tests.crdt.hand import collected, text, typed, update

UTILS = json.loads((Path(__file__).parent.parent / "vectors" / "update-utils.json").read_text())["cases"]


def case(name: str) -> dict[str, str]:
    return next(case for case in UTILS if case["name"] == name)


def test_merge_updates_of_yjs() -> None:
    vector = case("mergeUpdates")
    assert join_updates([bytes.fromhex(part) for part in vector["in"]]).hex() == vector["out"]
    assert join_updates([]) == b"\x00\x00"


@pytest.mark.parametrize("name", ["diffUpdate", "diffUpdate with equal sv keeps the delete set"])
def test_diff_update_of_yjs(name: str) -> None:
    vector = case(name)
    clocks = decode_state_vector(bytes.fromhex(vector["sv"]), clients_max=9)
    assert update_beyond(bytes.fromhex(vector["update"]), clocks).hex() == vector["out"]


@pytest.mark.parametrize("seed", range(8))
def test_joined_updates_show_what_they_show_one_by_one(seed: int) -> None:
    _, updates = session(seed)
    gate = Gate()
    parts = [part for ref, data in enumerate(updates) for part in gate.admit(data, ref=ref, owner=0).updates]
    whole = join_updates(parts)
    live: pycrdt.Doc[object] = pycrdt.Doc(client_id=1)
    for data in updates:
        live.apply_update(data)
    assert content(whole) == content(live.get_update())
    rnd = random.Random(seed)
    known = {client: rnd.randrange(clock + 1) for client, clock in gate.clocks.items()}
    # What a peer has, and what it lacks of the rest, make the whole again.
    second = Gate()
    for ref, data in enumerate([whole, update_beyond(whole, known), update_beyond(whole, gate.clocks)]):
        second.admit(data, ref=ref, owner=0)
    assert dict(second.clocks) == dict(gate.clocks)
    lacking = update_beyond(whole, known)
    first_clocks = {section.client: section.clock for section in _sections(lacking)}
    assert first_clocks == {client: known[client] for client in first_clocks}
    assert set(first_clocks) == {client for client, clock in gate.clocks.items() if clock > known[client]}


def _sections(data: bytes) -> list[object]:
    from crdt.limits import GateLimits
    from crdt.update import parse_update

    return list(parse_update(data, GateLimits()).sections)


def test_joining_what_does_not_follow_is_our_bug() -> None:
    with pytest.raises(LocalError, match="client 7 goes on at clock 3, expected 2"):
        join_updates([typed(7, 0, "ab"), typed(7, 3, "c")])


def test_a_difference_cuts_the_block_it_begins_in() -> None:
    whole = update((7, 0, [text("abc"), collected(4)]))
    assert update_beyond(whole, {7: 1}) == update((7, 1, [text("bc", left=(7, 0)), collected(4)]))
    assert update_beyond(whole, {7: 3}) == update((7, 3, [collected(4)]))
    assert update_beyond(whole, {7: 5}) == update((7, 5, [collected(2)]))
    assert update_beyond(whole, {7: 7}) == b"\x00\x00"
    assert update_beyond(whole, {7: 99, 5: 1}) == b"\x00\x00"


def test_cut_pairs_are_written_as_two_replacement_characters() -> None:
    whole = update((7, 0, [text("x😀y😀"), collected(1), text("z", left=(7, 5))]), (5, 0, [text("😀")]))
    cut = IdSet()
    cut.add(7, 4, 6)
    cut.add(9, 0, 2)
    assert mend_pairs(whole, cut) == update(
        (7, 0, [text("x😀y\ufffd\ufffd"), collected(1), text("z", left=(7, 5))]), (5, 0, [text("😀")])
    )
    untouched = IdSet()
    untouched.add(7, 50, 52)
    assert mend_pairs(whole, untouched) is whole
