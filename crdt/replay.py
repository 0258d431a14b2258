"""Puts the items of an update in the order every Yjs peer shows them in, without pycrdt.

Owns YATA's placing of items (Nicolaescu et al., "Near real-time peer-to-peer shared editing on extensible data types",
2016; yjs 13.6 `Item.integrate`) for reading only: nothing can be added later, nothing is encoded again. Why not ask
pycrdt: it reads an array in quadratic time, has no defined order of marks, cannot tell undefined from null or a small
bigint from a number, raises on an XML element in a map, and loses text when a surrogate pair is cut. Bytes a hostile
peer made cost this time and an exception, never the process.
"""

from collections.abc import Iterator
from typing import Final

from crdt.errors import TooLarge
from crdt.items import Branch, ContentRef, DecodedUpdate, Item, ItemId, decode_update

ITEMS_MAX: Final = 2_000_000
"""Items one replay takes in: about 10 s and 700 MB. Past it a document is only to be had as an update."""

STEPS_MAX: Final = 20_000_000
"""Comparisons of items put at one place at the same time: about 2 s. Honest documents stay below their item count."""


def replay(update: bytes, *, items_max: int = ITEMS_MAX, steps_max: int = STEPS_MAX) -> dict[str, Branch]:
    """The roots of the document that `update` is the whole of, by name, in order of first appearance.

    What depends on something the update lacks stays out, as it does at a Yjs peer. Raises `RemoteError` only.
    """
    decoded = decode_update(update, items_max=items_max)
    _Replay(decoded, steps_max).run()
    for client, ranges in decoded.deletions.items():
        _delete(decoded.items.get(client, []), ranges)
    return decoded.roots


def visible(branch: Branch) -> Iterator[Item]:
    """The items of a sequence that are not deleted, formatting marks included, in order."""
    item = branch.firsts.get(None)
    while item is not None:
        if not item.deleted:
            yield item
        item = item.right


class _Replay:
    """One pass over the items. `_clocks` says how much of each client has its place."""

    def __init__(self, decoded: DecodedUpdate, steps_max: int) -> None:
        self._items = decoded.items
        self._clocks = dict.fromkeys(decoded.items, 0)
        # client -> clock -> the placed item that starts, or ends, there
        self._starts: dict[int, dict[int, Item]] = {client: {} for client in decoded.items}
        self._ends: dict[int, dict[int, Item]] = {client: {} for client in decoded.items}
        self._steps_max = steps_max
        self._steps = steps_max

    def run(self) -> None:
        """Each client's items in order; where one refers to another client's, that client's come first."""
        next_index = dict.fromkeys(self._items, 0)
        settled: set[int] = set()  # clients of which nothing more can be placed
        for client, items in self._items.items():
            # A stack of clients, and up to which clock the one below waits for each. A client goes no further than that,
            # so that whoever is on the stack still waits: meeting one of them again is a circle.
            waiting = {client: items[-1].clock if items else 0}
            while waiting:
                current, target = next(reversed(waiting.items()))
                needs = self._place_until(current, target, next_index)
                if needs is not None and not (
                    needs[0] in settled or needs[0] in waiting or needs[0] not in self._items
                ):
                    waiting[needs[0]] = needs[1]
                    continue
                del waiting[current]
                if self._clocks[current] <= target:
                    # At its end, at a hole, or waiting for what never comes; whoever waits for it is about to find out.
                    settled.add(current)

    def _place_until(self, client: int, target: int, next_index: dict[int, int]) -> ItemId | None:
        """Place items of `client` until the clock `target` has its place. Returns what the next one lacks, if it does."""
        items = self._items[client]
        index = next_index[client]
        needs = None
        while index < len(items) and self._clocks[client] <= target and items[index].clock == self._clocks[client]:
            needs = self._missing(items[index])
            if needs is not None:
                break
            self._place(items[index])
            index += 1
        next_index[client] = index
        return needs

    def _missing(self, item: Item) -> ItemId | None:
        """What must have its place before `item`, if any."""
        for needed in (item.origin, item.right_origin, item.parent_id):
            if needed is not None and needed[1] >= self._clocks.get(needed[0], 0):
                return needed
        return None

    def _place(self, item: Item) -> None:
        client, clock = item.client, item.clock
        end = self._clocks[client] = clock + item.length
        self._starts[client][clock] = self._ends[client][end - 1] = item
        left = self._ending(item.origin) if item.origin is not None else None
        right = self._starts[item.right_origin[0]][item.right_origin[1]] if item.right_origin is not None else None
        parent = self._parent(item, left, right)
        item.parent = parent
        if parent is None:
            item.deleted = True
            return
        apart = left.right is not right if left is not None else (right is None or right.left is not None)
        if apart:
            left = self._after_conflicts(item, parent, left, right)
        _link(item, parent, left)

    def _ending(self, end: ItemId) -> Item:
        return self._ends[end[0]][end[1]]

    def _parent(self, item: Item, left: Item | None, right: Item | None) -> Branch | None:
        """The type `item` belongs to, which its neighbours may have to tell; None if it or they are gone for good."""
        if item.ref == ContentRef.GC:
            return None
        if (left is not None and left.parent is None) or (right is not None and right.parent is None):
            return None
        neighbour = left or right
        if neighbour is not None:
            item.key = neighbour.key
            return neighbour.parent
        if item.parent_id is not None:
            # A type is one clock long, so what merely contains the clock is no type.
            holder = self._ends[item.parent_id[0]].get(item.parent_id[1])
            return holder.content if holder is not None and isinstance(holder.content, Branch) else None
        return item.parent

    def _after_conflicts(self, item: Item, parent: Branch, left: Item | None, right: Item | None) -> Item | None:
        """The item to stand behind, past what others put at the same place (yjs `Item.integrate`, cases 1 and 2)."""
        other = left.right if left is not None else parent.firsts.get(item.key)
        passed: set[Item] = set()
        conflicting: set[Item] = set()
        while other is not None and other is not right:
            self._steps -= 1
            if self._steps < 0:
                raise TooLarge(f"document needs more than {self._steps_max} comparisons to be put in order")
            passed.add(other)
            conflicting.add(other)
            if item.origin == other.origin:
                if other.client < item.client:
                    left = other
                    conflicting.clear()
                elif item.right_origin == other.right_origin:
                    break
            elif other.origin is not None and (before := self._ending(other.origin)) in passed:
                if before not in conflicting:
                    left = other
                    conflicting.clear()
            else:
                break
            other = other.right
        return left


def _link(item: Item, parent: Branch, left: Item | None) -> None:
    key = item.key
    if left is not None:
        right = left.right
        left.right = item
    else:
        right = parent.firsts.get(key)
        parent.firsts[key] = item
    item.left, item.right = left, right
    if right is not None:
        right.left = item
    elif key is not None:
        parent.lasts[key] = item


def _delete(items: list[Item], ranges: list[tuple[int, int]]) -> None:
    """Mark what lies in `ranges`; both are sorted and items were cut at the ranges' ends."""
    index = 0
    for item in items:
        while index < len(ranges) and ranges[index][1] <= item.clock:
            index += 1
        if index == len(ranges):
            return
        if ranges[index][0] <= item.clock:
            item.deleted = True
