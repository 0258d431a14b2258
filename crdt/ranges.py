"""Sets of clocks as sorted disjoint ranges, alone and per client.

`RangeSet` is one client's set, `IdSet` maps clients to theirs: what the gate knows of deletions (R2: known clocks are
sets of ranges, a Skip is not known). Ranges are half-open, `[start, end)`. Two 64-bit arrays per set, so a
document with 100,000 separate deletions takes 1.6 MB; nothing here is O(n) in Python code for a single range.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator
from heapq import merge

_BIG_ENDIAN = array("H", [1]).tobytes() == b"\x00\x01"


class RangeSet:
    """A set of integers kept as disjoint, non-touching, ascending ranges."""

    __slots__ = ("ends", "starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.starts = array("q")
        """First integer of each range. Look, don't change; the same for `ends`."""
        self.ends = array("q")
        """Integer after the last of each range."""
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def __len__(self) -> int:
        """Number of ranges."""
        return len(self.starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self.starts == other.starts and self.ends == other.ends

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    @property
    def size(self) -> int:
        """How many integers the set holds."""
        return sum(self.ends) - sum(self.starts)

    def copy(self) -> "RangeSet":
        """An independent copy."""
        new = RangeSet()
        new.starts = self.starts[:]
        new.ends = self.ends[:]
        return new

    def __contains__(self, value: int) -> bool:
        index = bisect_right(self.starts, value)
        return index > 0 and value < self.ends[index - 1]

    def start_of(self, value: int) -> int | None:
        """Where the range that holds `value` begins; None if none does."""
        index = bisect_right(self.starts, value) - 1
        return self.starts[index] if index >= 0 and value < self.ends[index] else None

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is in the set. Ranges never touch, so one of them must hold it all."""
        if start >= end:
            return True
        index = bisect_right(self.starts, start)
        return index > 0 and end <= self.ends[index - 1]

    def add(self, start: int, end: int) -> None:
        """Add `[start, end)`, joining what it overlaps or touches. An empty range changes nothing."""
        if start >= end:
            return
        starts = self.starts
        ends = self.ends
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        if first == last:
            starts.insert(first, start)
            ends.insert(first, end)
            return
        # Ranges first..last-1 overlap or touch the new one: they become one, in the place of the first.
        start = min(start, starts[first])
        end = max(end, ends[last - 1])
        if last - first > 1:
            del starts[first + 1 : last]
            del ends[first + 1 : last]
        starts[first] = start
        ends[first] = end

    def append(self, start: int, end: int) -> None:
        """Add a range that begins no earlier than the last one ends."""
        ends = self.ends
        if ends and ends[-1] == start:
            ends[-1] = end
        else:
            self.starts.append(start)
            ends.append(end)

    def clipped(self, start: int, end: int) -> "RangeSet":
        """A new set of what this one has in `[start, end)`."""
        new = RangeSet()
        first = bisect_right(self.ends, start)
        last = bisect_left(self.starts, end)
        if first < last:
            new.starts = self.starts[first:last]
            new.ends = self.ends[first:last]
            new.starts[0] = max(new.starts[0], start)
            new.ends[-1] = min(new.ends[-1], end)
        return new

    def extend(self, other: "RangeSet") -> None:
        """Add a set that begins no earlier than this one ends."""
        if self.ends and other.starts and self.ends[-1] == other.starts[0]:
            self.ends[-1] = other.ends[0]
            self.starts.extend(other.starts[1:])
            self.ends.extend(other.ends[1:])
        else:
            self.starts.extend(other.starts)
            self.ends.extend(other.ends)

    def remove(self, start: int, end: int) -> None:
        """Take `[start, end)` out, cutting ranges that reach beyond it."""
        if start >= end:
            return
        starts = self.starts
        ends = self.ends
        first = bisect_right(ends, start)
        last = bisect_left(starts, end)
        if first >= last:
            return
        kept = [(starts[first], start), (end, ends[last - 1])]
        kept = [(a, b) for a, b in kept if a < b]
        starts[first:last] = array("q", [a for a, _ in kept])
        ends[first:last] = array("q", [b for _, b in kept])

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of `[start, end)` that are not in the set, ascending."""
        starts = self.starts
        ends = self.ends
        index = bisect_right(ends, start)
        count = len(starts)
        parts = []
        while start < end:
            if index == count or starts[index] >= end:
                parts.append((start, end))
                break
            if starts[index] > start:
                parts.append((start, starts[index]))
            start = ends[index]
            index += 1
        return parts

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any of `[start, end)` is in the set."""
        index = bisect_right(self.ends, start)
        return index < len(self.starts) and self.starts[index] < end

    def uniting(self, ranges: list[tuple[int, int]], step: int) -> Generator[None, None, "RangeSet"]:
        """A new set that also holds `ranges` (ascending), in one pass that pauses after every `step` ranges.

        For thousands at once, where `add` would move memory for each.
        """
        new = RangeSet()
        starts = new.starts
        ends = new.ends
        top = -1
        budget = step
        for start, end in merge(self, ranges):
            if start > top:
                starts.append(start)
                ends.append(end)
                top = end
            elif end > top:
                ends[-1] = top = end
            budget -= 1
            if budget <= 0:
                budget = step
                yield
        return new

    def packed(self) -> bytes:
        """The set as bytes, equal for equal sets on one machine and, by the fixed byte order, on all."""
        interleaved = array("q", bytes(16 * len(self.starts)))
        interleaved[0::2] = self.starts
        interleaved[1::2] = self.ends
        if _BIG_ENDIAN:
            interleaved.byteswap()
        return interleaved.tobytes()


class IdSet:
    """A set of (client, clock): one `RangeSet` per client that has any. Clients iterate in the order they came."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: dict[int, RangeSet] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(self._clients)

    def __len__(self) -> int:
        """Number of clients."""
        return len(self._clients)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdSet):
            return NotImplemented
        return self._clients == other._clients

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"IdSet({ {client: list(ranges) for client, ranges in self._clients.items()} })"

    def get(self, client: int) -> RangeSet | None:
        """The client's set, or None. Shared, not a copy: look, don't change."""
        return self._clients.get(client)

    def items(self) -> Iterable[tuple[int, RangeSet]]:
        """Each client with its set."""
        return self._clients.items()

    def ranges(self, client: int) -> list[tuple[int, int]]:
        """The client's ranges, ascending; empty for a client without any."""
        known = self._clients.get(client)
        return list(known) if known is not None else []

    def contains(self, client: int, clock: int) -> bool:
        """Whether this one clock is in the set."""
        known = self._clients.get(client)
        return known is not None and clock in known

    def covers(self, client: int, start: int, end: int) -> bool:
        """Whether all of the client's `[start, end)` is in the set."""
        known = self._clients.get(client)
        return start >= end if known is None else known.covers(start, end)

    def missing(self, client: int, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of the client's `[start, end)` that are not in the set."""
        known = self._clients.get(client)
        if known is None:
            return [(start, end)] if start < end else []
        return known.missing(start, end)

    def add(self, client: int, start: int, end: int) -> None:
        """Add the client's `[start, end)`."""
        if start >= end:
            return
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = RangeSet()
        known.add(start, end)

    def add_many(self, client: int, ranges: list[tuple[int, int]]) -> None:
        """Add many ranges of one client (ascending) at once."""
        steps = (self._clients.get(client) or RangeSet()).uniting(ranges, len(ranges) + 1)
        try:
            while True:
                next(steps)
        except StopIteration as stop:
            self._clients[client] = stop.value

    def put(self, client: int, ranges: RangeSet) -> None:
        """Replace the client's set. It belongs to this one from now on."""
        self._clients[client] = ranges

    @property
    def size(self) -> int:
        """How many clocks the set holds over all clients."""
        return sum([ranges.size for ranges in self._clients.values()])

    def copy(self) -> "IdSet":
        """An independent copy."""
        new = IdSet()
        new._clients = {client: ranges.copy() for client, ranges in self._clients.items()}
        return new
