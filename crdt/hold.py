"""Parts of updates that wait for something not there yet: blocks, deletions, and the updates they came with.

A room's gate puts here what is not ready (R2) and is told, clock by clock, what to look at again. This module knows
who waits for what and what it costs; whether a block may go in is the gate's to decide. Everything is bounded by bytes,
bookkeeping included, per room and per owner.

Per client only the first waiting block matters, because the ones behind it wait for it at least. So each client
with waiting blocks stands in exactly one queue at a time, that of the client it lacks clocks of; so does each waiting update.
"""

from bisect import bisect_left, bisect_right
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

from crdt.errors import HoldOverflow, LocalError
from crdt.limits import GateLimits
from crdt.ranges import RangeSet

BLOCK_COST: Final = 300
"""Bytes charged for a waiting block besides its own: object and lane entries; 270 measured, November 2025."""

PAIRS_COST: Final = 16
"""Bytes charged for each run of surrogate pairs in a waiting block."""

SPAN_COST: Final = 160
"""Bytes charged for a waiting delete range: 126 measured."""

NEED_COST: Final = 900
"""Bytes charged for each client an update waits for: its lane, its queue, its entries; 850 measured."""

WAKE_BLOCKS: Final = 0
WAKE_DELETIONS: Final = 1
WAKE_UPDATE: Final = 2

Wake = tuple[int, int]
"""What to look at again: (WAKE_BLOCKS, client), (WAKE_DELETIONS, client) or (WAKE_UPDATE, ref)."""


class HeldBlock:
    """A waiting block. `info` and the origins are as in `crdt.update.Block`, `data` its bytes, `pairs` as in `Section`."""

    __slots__ = (
        "clock",
        "data",
        "end",
        "info",
        "left_client",
        "left_clock",
        "owner",
        "pairs",
        "right_client",
        "right_clock",
    )

    def __init__(
        self,
        clock: int,
        end: int,
        info: int,
        *,
        left: tuple[int, int],
        right: tuple[int, int],
        data: bytes,
        pairs: RangeSet | None,
        owner: int,
    ) -> None:
        self.clock = clock
        self.end = end
        self.info = info
        self.left_client, self.left_clock = left
        self.right_client, self.right_clock = right
        self.data = data
        self.pairs = pairs
        self.owner = owner

    @property
    def cost(self) -> int:
        """Bytes charged to the owner."""
        return len(self.data) + BLOCK_COST + (PAIRS_COST * len(self.pairs) if self.pairs is not None else 0)


class Span:
    """A waiting delete range of one client."""

    __slots__ = ("clock", "end", "owner")

    def __init__(self, clock: int, end: int, owner: int) -> None:
        self.clock = clock
        self.end = end
        self.owner = owner


class Need:
    """What an update waits for: of each client listed, clocks `[first, end)`. In effect once all ends are reached."""

    __slots__ = ("done", "owner", "spans")

    def __init__(self, owner: int, spans: list[tuple[int, int, int]]) -> None:
        self.owner = owner
        self.spans = spans
        self.done = 0
        """Spans before this index are reached."""


Part = TypeVar("Part", HeldBlock, Span)


class Lane(Generic[Part]):
    """One client's waiting parts in clock order, never overlapping."""

    __slots__ = ("clocks", "parts")

    def __init__(self) -> None:
        self.clocks: list[int] = []
        self.parts: list[Part] = []

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of `[start, end)` no waiting part has."""
        found = []
        index = bisect_right(self.clocks, start) - 1
        if index >= 0:
            start = max(start, self.parts[index].end)
        index += 1
        while start < end:
            if index == len(self.parts) or self.clocks[index] >= end:
                found.append((start, end))
                break
            part = self.parts[index]
            if part.clock > start:
                found.append((start, part.clock))
            start = part.end
            index += 1
        return found

    def insert(self, part: Part) -> None:
        """Put a part at its place."""
        index = bisect_left(self.clocks, part.clock)
        self.clocks.insert(index, part.clock)
        self.parts.insert(index, part)

    def drop_first(self, count: int) -> None:
        """Forget the first parts."""
        del self.clocks[:count]
        del self.parts[:count]


class Hold:
    """Everything a room holds back. Methods keep the books; only `Gate` decides what goes in and out."""

    __slots__ = ("_entries", "_limits", "_owner_bytes", "_queues", "_watches", "blocks", "bytes", "deletions", "needs")

    def __init__(self, limits: GateLimits) -> None:
        self._limits = limits
        self.blocks: dict[int, Lane[HeldBlock]] = {}
        self.deletions: dict[int, Lane[Span]] = {}
        self.needs: dict[int, Need] = {}
        """Waiting updates by ref."""
        self.bytes = 0
        self._owner_bytes: dict[int, int] = {}
        self._queues: dict[int, list[tuple[int, Wake]]] = {}
        """Per client a heap of (clock count that is enough, whom to wake). May hold entries that no longer matter."""
        self._watches: dict[Wake, tuple[int, int]] = {}
        """Whom to wake, to the one queue entry that matters: (client, clock count)."""
        self._entries = 0

    def relimit(self, limits: GateLimits) -> None:
        """Other limits from now on."""
        self._limits = limits

    def check_room(self, owner: int, cost: int) -> None:
        """Raise `HoldOverflow` if `cost` more bytes and one more update of `owner` would pass a limit."""
        limits = self._limits
        if len(self.needs) >= limits.held_updates_max:
            raise HoldOverflow(f"{len(self.needs)} updates wait for missing edits already")
        if self.bytes + cost > limits.held_bytes_max:
            raise HoldOverflow(
                f"{self.bytes + cost} bytes would wait for missing edits, limit is {limits.held_bytes_max}"
            )
        own = self._owner_bytes.get(owner, 0) + cost
        if own > limits.held_bytes_per_owner_max:
            limit = limits.held_bytes_per_owner_max
            raise HoldOverflow(f"{own} bytes of one sender would wait for missing edits, limit is {limit}")

    def charge(self, owner: int, cost: int) -> None:
        """Book `cost` bytes, negative to give them back."""
        self.bytes += cost
        own = self._owner_bytes.get(owner, 0) + cost
        if own:
            self._owner_bytes[owner] = own
        else:
            self._owner_bytes.pop(owner, None)

    def add_block(self, client: int, block: HeldBlock) -> None:
        """Hold a block whose clocks no held block of the client has."""
        lane = self.blocks.get(client)
        if lane is None:
            lane = self.blocks[client] = Lane()
        lane.insert(block)
        self.charge(block.owner, block.cost)

    def drop_blocks(self, client: int, count: int) -> None:
        """Forget the client's first blocks: in effect, known otherwise, or refused."""
        lane = self.blocks[client]
        for block in lane.parts[:count]:
            self.charge(block.owner, -block.cost)
        lane.drop_first(count)
        if not lane.parts:
            del self.blocks[client]
            self._watches.pop((WAKE_BLOCKS, client), None)

    def add_span(self, client: int, span: Span) -> None:
        """Hold a delete range that no held range of the client overlaps."""
        lane = self.deletions.get(client)
        if lane is None:
            lane = self.deletions[client] = Lane()
        lane.insert(span)
        self.charge(span.owner, SPAN_COST)
        self.watch((WAKE_DELETIONS, client), client, lane.parts[0].clock + 1)

    def take_spans(self, client: int, clock: int) -> list[Span]:
        """Take out what the client's held deletions have below `clock`, in order."""
        lane = self.deletions.get(client)
        if lane is None:
            return []
        taken = []
        done = 0
        for span in lane.parts:
            if span.clock >= clock:
                break
            if span.end > clock:
                taken.append(Span(span.clock, clock, span.owner))
                span.clock = clock
                lane.clocks[done] = clock
                break
            taken.append(span)
            self.charge(span.owner, -SPAN_COST)
            done += 1
        lane.drop_first(done)
        if lane.parts:
            self.watch((WAKE_DELETIONS, client), client, lane.parts[0].clock + 1)
        else:
            del self.deletions[client]
            self._watches.pop((WAKE_DELETIONS, client), None)
        return taken

    def add_update(self, ref: int, need: Need) -> None:
        """Hold an update's place: it is in effect once every span of `need` is."""
        if ref in self.needs:
            raise LocalError(f"update {ref} is waiting already")
        self.needs[ref] = need
        self.charge(need.owner, len(need.spans) * NEED_COST)

    def drop_update(self, ref: int) -> None:
        """Forget an update: in effect, or refused."""
        need = self.needs.pop(ref)
        self.charge(need.owner, -len(need.spans) * NEED_COST)
        self._watches.pop((WAKE_UPDATE, ref), None)

    def watch(self, wake: Wake, client: int, clock: int) -> None:
        """Wake `wake` when the client has `clock` clocks, and not for anything it waited for before."""
        if self._watches.get(wake) == (client, clock):
            return
        self._watches[wake] = (client, clock)
        heappush(self._queues.setdefault(client, []), (clock, wake))
        self._entries += 1
        # An entry whose watch has moved on stays in its heap. Somebody who makes many of them pays nothing for them,
        # so they are swept when they outnumber the live ones.
        if self._entries > 2 * len(self._watches) + 64:
            self._sweep()

    def _sweep(self) -> None:
        self._queues = {}
        for wake, (client, clock) in self._watches.items():
            self._queues.setdefault(client, []).append((clock, wake))
        for queue in self._queues.values():
            heapify(queue)
        self._entries = len(self._watches)

    def wakes(self, client: int, clock: int) -> bool:
        """Whether anything might have waited for the client to have `clock` clocks."""
        queue = self._queues.get(client)
        return queue is not None and queue[0][0] <= clock

    def woken(self, client: int, clock: int) -> list[Wake]:
        """Take out whom to wake now that the client has `clock` clocks, in the order of what they waited for."""
        queue = self._queues.get(client)
        if queue is None:
            return []
        found = []
        while queue and queue[0][0] <= clock:
            needed, wake = heappop(queue)
            self._entries -= 1
            if self._watches.get(wake) == (client, needed):
                del self._watches[wake]
                found.append(wake)
        if not queue:
            del self._queues[client]
        return found

    def waited_for(self) -> set[int]:
        """Clients of which held parts lack clocks. An update waits for nothing that a held part does not."""
        return {client for (kind, _), (client, _) in self._watches.items() if kind != WAKE_UPDATE}
