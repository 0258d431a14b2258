"""The lane: what the room has yet to be told about its presence, latest wins (R9).

Knows which clients changed since the last take and how soon that is due, not what their states are. A change is due at
once; a renewal (the same state at a higher clock, which only keeps browsers from forgetting) waits for others to join
it. Each client is in it at most once, so it is never longer than the room has clients, and clients that left.
"""

from collections import OrderedDict
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """Why a present client is told about, in the order of the frame (see `Lane.take`)."""

    ADDED = 0
    CHANGED = 1
    RENEWED = 2


class Taken(NamedTuple):
    """What is told now: clients whose state is to be read, then clients that left, with their clock."""

    shown: list[int]
    gone: list[tuple[int, int]]


class Lane:
    """Pending changes of one room. `removals_max` bounds those who left; past it the oldest is left to the browsers."""

    __slots__ = ("_due", "_gone", "_removals_max", "_renewal_interval_s", "_shown", "removals_shed")

    def __init__(self, *, renewal_interval_s: float, removals_max: int) -> None:
        self._renewal_interval_s = renewal_interval_s
        self._removals_max = removals_max
        self._shown: dict[int, Kind] = {}
        self._gone: OrderedDict[int, int] = OrderedDict()
        self._due: float | None = None
        self.removals_shed = 0
        """Removals never told, for want of room: browsers forget those clients by themselves after 30 s."""

    def add(self, client: int, kind: Kind, now: float) -> None:
        """A present client has something new."""
        self._gone.pop(client, None)
        told = self._shown.get(client)
        self._shown[client] = kind if told is None else min(told, kind)
        self._be_due(now if kind is not Kind.RENEWED else now + self._renewal_interval_s)

    def remove(self, client: int, clock: int, now: float) -> None:
        """A client left. Whatever was to be told about it before is no news any more."""
        self._shown.pop(client, None)
        self._gone.pop(client, None)
        self._gone[client] = clock
        if len(self._gone) > self._removals_max:
            self._gone.popitem(last=False)
            self.removals_shed += 1
        self._be_due(now)

    def next_take(self) -> float | None:
        """When `take` has something to give, None for never."""
        return self._due

    def take(self, now: float) -> Taken | None:
        """Everything pending once something is due, and nothing of it again.

        In the order in which y-protocols reports what it received (added, updated, removed): providers send it back in
        that order, and an echo that is the same bytes is the cheapest to recognise.
        """
        if self._due is None or now < self._due:
            return None
        shown = sorted(self._shown, key=lambda client: self._shown[client] is not Kind.ADDED)
        taken = Taken(shown, list(self._gone.items()))
        self._shown.clear()
        self._gone.clear()
        self._due = None
        return taken

    def _be_due(self, at: float) -> None:
        self._due = at if self._due is None else min(self._due, at)
