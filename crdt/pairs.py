"""Where a room's text has surrogate pairs, and which of them an edit cut in two.

Clocks of text count UTF-16 units, so an edit may land between the halves of an emoji. Yjs then makes two U+FFFD of it.
pycrdt 0.14.13 loses clocks or text instead, panics, and with more such edits crashes (found by fuzzing): it must never
meet one. The gate tells by the positions kept here, 16 bytes for each run of pairs; `crdt.document` acts on it.
"""

from crdt.ranges import IdSet, RangeSet

Fresh = dict[int, RangeSet]
"""Pairs of an update that is being planned, as in `Pairs.known`."""


def pairs_between(pairs: RangeSet, start: int, end: int) -> RangeSet:
    """The whole pairs in `[start, end)`. Where an edge cuts one, the text was cut there and the halves written as U+FFFD."""
    part = pairs.clipped(start, end)
    for edge, half in ((start, start), (end, end - 1)):
        first = pairs.start_of(edge)
        if first is not None and (edge - first) & 1:
            part.remove(half, half + 1)
    return part


class Pairs:
    """The pairs of one room."""

    __slots__ = ("cut", "known", "run_count")

    def __init__(self) -> None:
        self.known: dict[int, RangeSet] = {}
        """Per client the clocks of whole pairs; a range begins with the first half of one."""
        self.run_count = 0
        """Ranges ever added: what `GateLimits.pair_runs_max` bounds."""
        self.cut = IdSet()
        """Clocks of pairs that an edit in effect cut."""

    def is_cut_at(self, fresh: Fresh, client: int, clock: int) -> bool:
        """Whether `clock` is the second half of a pair, so that an edge before it cuts the pair."""
        for pairs in (self.known, fresh):
            ranges = pairs.get(client)
            if ranges is not None:
                start = ranges.start_of(clock)
                if start is not None and (clock - start) & 1:
                    return True
        return False

    def cut_by(self, fresh: Fresh, client: int, start: int, end: int) -> list[tuple[int, int]]:
        """Pairs that the edges of a deletion cut, as (client, clock of the second half)."""
        return [(client, edge) for edge in (start, end) if self.is_cut_at(fresh, client, edge)]

    def add(self, client: int, pairs: RangeSet, start: int, end: int) -> None:
        """Remember the pairs of text that came into effect with clocks `[start, end)`."""
        fresh = pairs_between(pairs, start, end)
        if not fresh:
            return
        self.run_count += len(fresh)
        known = self.known.get(client)
        if known is None:
            self.known[client] = fresh
        else:
            known.extend(fresh)

    def note_cut(self, second_halves: list[tuple[int, int]]) -> None:
        """Count pairs as cut: from now on they are two U+FFFD, and no pairs."""
        for client, clock in second_halves:
            self.known[client].remove(clock - 1, clock + 1)
            self.cut.add(client, clock - 1, clock + 1)
