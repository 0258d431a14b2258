"""How deep a client's items are nested and which may be parents, as runs of clocks.

A refusal of too deep a nesting, or of a parent that is no shared type, needs both for any item ever seen, without its
content. Neighbouring clocks mostly have the same answer (typed text lies at one depth), so a client is a short list of
runs, and one that only ever wrote flat text has none at all.
"""

from array import array
from bisect import bisect_right
from typing import Final

PARENT: Final = 1
"""Lowest bit of a value: the item may be a parent. A shared type may; so may collected and deleted content, which
may have been one (both Yjs and yrs then collect the child too)."""

LEVEL_SHIFT: Final = 1
"""The rest of a value: how many shared types lie between the item and its root."""


class Runs:
    """A step function from clock to value, extended at its end only. Below its first run the value is 0."""

    __slots__ = ("starts", "values")

    def __init__(self) -> None:
        self.starts = array("q")
        self.values = array("H")

    def at(self, clock: int) -> int:
        """The value at this clock."""
        starts = self.starts
        if clock >= starts[-1]:
            return self.values[-1]
        index = bisect_right(starts, clock)
        return self.values[index - 1] if index else 0

    def append(self, clock: int, value: int) -> None:
        """From `clock` on the value is `value`: not the last one, and at a clock beyond the last."""
        self.starts.append(clock)
        self.values.append(value)

    def extend(self, other: "Runs") -> None:
        """Append runs that begin beyond the last."""
        self.starts.extend(other.starts)
        self.values.extend(other.values)
