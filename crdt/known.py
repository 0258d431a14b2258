"""What a room's gate knows of everything in effect: clocks, deletions, places, surrogate pairs. Never content."""

from crdt.digest import Digest
from crdt.pairs import Pairs
from crdt.places import Places
from crdt.ranges import IdSet


class Known:
    """One room's knowledge. Changed by `Plan.commit` and by what `crdt.waiting` releases, nowhere else."""

    __slots__ = ("clocks", "deletions", "digest", "pairs", "places")

    def __init__(self) -> None:
        self.clocks: dict[int, int] = {}
        """Per client the number of its clocks in effect: all of `[0, n)`, because only ready prefixes go in."""
        self.deletions = IdSet()
        self.places = Places()
        self.pairs = Pairs()
        self.digest: Digest | None = None
        """From the first time somebody asked."""

    def clock(self, client: int) -> int:
        """The client's number of clocks in effect."""
        return self.clocks.get(client, 0)
