"""Places: which list an item lies in, and that a draft changes nothing until it is committed."""

import pytest

from crdt.errors import Malformed, TooLarge
from crdt.places import COLLECTED, KEYED, LIST_SHIFT, NOWHERE, PARENT, Draft, Places, pack_id
from crdt.update import ANY, DELETED, GC, HAS_LEFT, HAS_RIGHT, PARENT_ID, STRING, TYPE
from tests.crdt.hand import shared_type, text

NO_ID = (0, 0)


def put(places: Places, client: int, clock: int, ref: int, home: int, *, type_depth_max: int = 9) -> None:
    draft = Draft(places)
    place = draft.place(ref, home, type_depth_max)
    if place != draft.last(client):
        draft.append(client, clock, place)
    draft.commit()


def listed(places: Places, key: str | int | tuple[str, str] | tuple[int, str], level: int = 0) -> int:
    draft = Draft(places)
    number = draft.list_of(key, level)
    draft.commit()
    return number


def test_a_client_is_one_number_until_it_writes_elsewhere() -> None:
    places = Places()
    one, two = listed(places, "text"), listed(places, "map")
    put(places, 7, 0, STRING, one)
    put(places, 7, 3, STRING, one)
    assert places.runs == {7: one << LIST_SHIFT}
    put(places, 7, 5, STRING, two)
    put(places, 7, 6, GC, COLLECTED)
    draft = Draft(places)
    assert [draft.at(7, clock) >> LIST_SHIFT for clock in (0, 4, 5, 6, 100)] == [one, one, two, COLLECTED, COLLECTED]
    assert draft.last(7) == COLLECTED << LIST_SHIFT | PARENT
    assert draft.only(7) == NOWHERE


def test_a_draft_is_asked_over_what_is_known() -> None:
    places = Places()
    one = listed(places, "text")
    put(places, 7, 0, STRING, one)
    draft = Draft(places)
    assert draft.only(7) == one << LIST_SHIFT
    assert (draft.last(9), draft.only(9)) == (NOWHERE, NOWHERE)
    two = draft.list_of("map", 0)
    draft.append(7, 4, two << LIST_SHIFT)
    draft.append(9, 0, one << LIST_SHIFT)
    draft.append(9, 2, two << LIST_SHIFT)
    assert [draft.at(7, 3), draft.at(7, 4), draft.last(7)] == [one << 1, two << 1, two << 1]
    assert [draft.at(9, 1), draft.at(9, 2), draft.last(9)] == [one << 1, two << 1, two << 1]
    assert draft.only(7) == NOWHERE
    assert draft.list_of("map", 0) == two
    assert draft.traits(two) == 0
    assert "map" not in places.lists
    assert 9 not in places.runs
    draft.commit()
    after = Draft(places)
    assert [after.at(9, 1), after.at(9, 2), after.at(7, 3), after.at(7, 9)] == [one << 1, two << 1, one << 1, two << 1]
    assert places.lists["map"] == two


def test_a_list_is_that_of_the_origins() -> None:
    places = Places()
    one, two = listed(places, "text"), listed(places, "map")
    for client, home in ((1, one), (2, one), (3, two), (4, COLLECTED)):
        put(places, client, 0, STRING, home)
    draft = Draft(places)

    def home(left: int, right: int) -> int:
        info = (HAS_LEFT if left else 0) | (HAS_RIGHT if right else 0) | STRING
        return draft.home(info, (left, 0), (right, 0), b"", 0)

    assert home(1, 0) == home(0, 2) == home(1, 2) == one
    assert home(4, 3) == home(3, 4) == two
    assert home(4, 4) == home(4, 0) == COLLECTED
    with pytest.raises(Malformed, match="different lists"):
        home(1, 3)


def test_a_list_is_named_by_root_or_parent_and_key() -> None:
    places = Places()
    put(places, 7, 0, TYPE, listed(places, "xml"))
    draft = Draft(places)
    roots = [
        draft.home(STRING, NO_ID, NO_ID, text("a", parent="xml"), 0),
        draft.home(STRING, NO_ID, NO_ID, text("a", parent="xml", key="k"), 0),
        draft.home(STRING, NO_ID, NO_ID, text("a", parent="xml", key="l"), 0),
        draft.home(STRING | PARENT_ID, (7, 0), NO_ID, text("a", parent=(7, 0)), 0),
        draft.home(STRING | PARENT_ID, (7, 0), NO_ID, text("a", parent=(7, 0), key="k"), 0),
    ]
    assert len(set(roots)) == 5
    assert [draft.traits(number) for number in roots] == [0, KEYED, KEYED, 2, 2 | KEYED]
    assert draft.home(GC, NO_ID, NO_ID, b"\x00\x01", 0) == COLLECTED
    draft.commit()
    assert pack_id(7, 0) in places.lists


def test_only_types_and_what_may_have_been_one_are_parents() -> None:
    places = Places()
    home = listed(places, "xml")
    for client, ref in enumerate((STRING, 3, 5, 6, ANY, 9)):
        put(places, client, 0, ref, home)
        with pytest.raises(Malformed, match="no shared type"):
            Draft(places).home(STRING | PARENT_ID, (client, 0), NO_ID, text("a", parent=(client, 0)), 0)
    for client, ref in ((10, TYPE), (11, DELETED), (12, GC)):
        put(places, client, 0, ref, home)
        Draft(places).home(STRING | PARENT_ID, (client, 0), NO_ID, text("a", parent=(client, 0)), 0)


def test_depth_counts_types_and_is_bounded() -> None:
    places = Places()
    home = listed(places, "xml")
    for clock in range(3):
        put(places, 7, clock, TYPE, home, type_depth_max=3)
        draft = Draft(places)
        home = draft.home(TYPE | PARENT_ID, (7, clock), NO_ID, shared_type(1, parent=(7, clock)), 0)
        draft.commit()
    draft = Draft(places)
    assert draft.traits(home) >> 1 == 3
    draft.place(STRING, home, 3)
    draft.place(DELETED, home, 3)
    with pytest.raises(TooLarge, match="deeper than 3"):
        draft.place(TYPE, home, 3)
