"""Which list each item lies in, how deep that list is nested, and which items may be parents.

A list is what yrs links items into: the children of a shared type, or the entries of one of its keys. Its parent is a
root or an item. An item is in the list of its origins; with two origins, both must be in the same one. pycrdt does
not check that: an item between two lists ends in both, and when one is collected the other points to freed memory
(a use after free, found by fuzzing with 0.14.13). So the gate has to know the list of any item ever seen.

Neighbouring clocks mostly lie in the same list, so a client is a short list of runs, and a single number while it only
ever wrote into one. Plans are drafted beside the known state and committed at once, so that a refusal changes nothing.
"""

from array import array
from bisect import bisect_right
from typing import Final

from crdt.blocks import read_parent
from crdt.errors import Malformed, TooLarge
from crdt.update import ANY, GC, HAS_LEFT, HAS_RIGHT, STRING, TYPE

Root = str | tuple[str, str]
"""A root's children by its name, or the entries of one of its keys: (name, key)."""
ListKey = Root | int | tuple[int, str]
"""Or an item's children by its packed id, or the entries of one of its keys."""

Place = int
"""Number of the list, times two, plus `PARENT`."""
PARENT: Final = 1
"""The item may be a parent: a shared type may; so may collected and deleted content, which may have been one
(both Yjs and yrs then collect the child too)."""
LIST_SHIFT: Final = 1

Traits = int
"""How many shared types a list lies in (the children of a root: 0), times two, plus `KEYED`."""
KEYED: Final = 1
"""The list is the entries of one key, of which only the last counts."""

COLLECTED: Final = 0
"""The list of items in no list: collected ones, which have forgotten theirs. It is compatible with any other."""

PLAIN: Final = frozenset((3, STRING, 5, 6, ANY, 9))
"""Kinds of content that are never a parent."""

NOWHERE: Final = -1
"""What comes before a client's first item."""


def pack_id(client: int, clock: int) -> int:
    """An item's id as one number."""
    return client << 31 | clock


class Runs:
    """A step function from clock to place, extended at its end only."""

    __slots__ = ("places", "starts")

    def __init__(self) -> None:
        self.starts = array("q")
        self.places = array("q")

    def at(self, clock: int) -> Place:
        """The place at a clock not before the first run."""
        starts = self.starts
        if clock >= starts[-1]:
            return self.places[-1]
        return self.places[bisect_right(starts, clock) - 1]


class Places:
    """The places of all items in effect. Asked and changed through a `Draft`."""

    __slots__ = ("lists", "runs", "traits")

    def __init__(self) -> None:
        self.runs: dict[int, Place | Runs] = {}
        """Per client: its only place so far, or the runs of several."""
        self.lists: dict[ListKey, int] = {}
        self.traits = array("H", [0])
        """Per list: `Traits`."""


class Draft:
    """Places as they would be: the known ones and new ones beside them, until `commit`."""

    __slots__ = ("_base", "_first", "_lists", "_runs", "_traits")

    def __init__(self, base: Places) -> None:
        self._base = base
        self._first: dict[int, Place] = {}
        """Of clients that have nothing in the base: the place from clock 0 on."""
        self._runs: dict[int, Runs] = {}
        """Runs after what is in the base or in `_first`."""
        self._lists: dict[ListKey, int] = {}
        self._traits: list[Traits] = []

    def at(self, client: int, clock: int) -> Place:
        """The place of an item that is in, or drafted."""
        runs = self._runs.get(client)
        if runs is not None and clock >= runs.starts[0]:
            return runs.at(clock)
        known = self._base.runs.get(client)
        if known is None:
            return self._first[client]
        return known if isinstance(known, int) else known.at(clock)

    def last(self, client: int) -> Place:
        """The place of the client's newest item, `NOWHERE` if it has none."""
        runs = self._runs.get(client)
        if runs is not None:
            return runs.places[-1]
        known = self._base.runs.get(client)
        if known is None:
            return self._first.get(client, NOWHERE)
        return known if isinstance(known, int) else known.places[-1]

    def only(self, client: int) -> Place:
        """The place of all of the client's items, if they share one and none are drafted; else `NOWHERE`."""
        known = self._base.runs.get(client)
        return known if isinstance(known, int) and client not in self._runs else NOWHERE

    def append(self, client: int, clock: int, place: Place) -> None:
        """The client's items from `clock` on, beyond all others, lie at `place`, which is not `last(client)`."""
        if clock == 0:
            self._first[client] = place
            return
        runs = self._runs.get(client)
        if runs is None:
            runs = self._runs[client] = Runs()
        runs.starts.append(clock)
        runs.places.append(place)

    def list_of(self, key: ListKey, level: int) -> int:
        """The number of a list; `level` is for a list not seen before."""
        number = self._base.lists.get(key)
        if number is None:
            number = self._lists.get(key)
            if number is None:
                number = len(self._base.traits) + len(self._traits)
                self._lists[key] = number
                self._traits.append(level << 1 | (KEYED if isinstance(key, tuple) else 0))
        return number

    def traits(self, number: int) -> Traits:
        """What is known of a list."""
        known = self._base.traits
        return known[number] if number < len(known) else self._traits[number - len(known)]

    def home(self, info: int, left: tuple[int, int], right: tuple[int, int], data: bytes, at: int) -> int:
        """The list a ready block goes into: its fields as in `crdt.update.Block`, its bytes at `at`. Raises `Malformed`."""
        if info & (HAS_LEFT | HAS_RIGHT):
            home = self.at(*left) >> LIST_SHIFT if info & HAS_LEFT else COLLECTED
            if info & HAS_RIGHT:
                other = self.at(*right) >> LIST_SHIFT
                if home == COLLECTED:
                    # pycrdt takes the parent from whichever origin still has one.
                    home = other
                elif other not in (home, COLLECTED):
                    raise Malformed("left and right origin lie in different lists")
            return home
        if info == GC:
            return COLLECTED
        name, key = read_parent(data, at)
        if name is not None:
            return self.list_of(name if key is None else (name, key), 0)
        parent = self.at(*left)
        if not parent & PARENT:
            raise Malformed(f"parent at clock {left[1]} is no shared type")
        packed = pack_id(*left)
        return self.list_of(packed if key is None else (packed, key), (self.traits(parent >> LIST_SHIFT) >> 1) + 1)

    def place(self, ref: int, home: int, type_depth_max: int) -> Place:
        """The place of an item with content `ref` in the list `home`. Raises `TooLarge`."""
        if ref in PLAIN:
            return home << LIST_SHIFT
        if ref == GC:
            return COLLECTED << LIST_SHIFT | PARENT
        if ref == TYPE and self.traits(home) >> 1 >= type_depth_max:
            raise TooLarge(f"shared types are nested deeper than {type_depth_max}")
        return home << LIST_SHIFT | PARENT

    def commit(self) -> None:
        """Make the draft the known state."""
        base = self._base
        base.runs.update(self._first)
        for client, runs in self._runs.items():
            known = base.runs[client]
            if isinstance(known, int):
                only = known
                known = base.runs[client] = Runs()
                known.starts.append(0)
                known.places.append(only)
            known.starts.extend(runs.starts)
            known.places.extend(runs.places)
        base.lists.update(self._lists)
        base.traits.extend(self._traits)
