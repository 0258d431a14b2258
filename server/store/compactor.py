"""When which room is compacted: counters in memory, one room at a time, with a pause after each.

Owns the pacing only; `journal` gives it the job. A room is due once enough rows or bytes came after its snapshot, or
fewer when it closes. A room whose snapshot could not be proven keeps its rows and is left alone until it has doubled.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from crdt.errors import TuttiError
from server.room.key import RoomKey

logger = logging.getLogger(__name__)

ROW_WEIGHT_BYTES: Final = 256
"""What a row costs a load beside its bytes: a gate call and an apply, about as much as this many bytes of typing."""

SNAPSHOT_SHARE: Final = 8
"""A snapshot is only rewritten once an eighth of its size came after it, so that a large document costs its writer at
most nine bytes on disk for each byte typed."""

EVICTION_SHARE: Final = 10
"""When a room closes, a tenth of the usual rows or bytes will do: its next load is what they would slow down."""

ROOMS_MAX: Final = 65_536
"""Rooms whose growth is remembered (about 200 bytes each). The one forgotten is counted anew when it is next loaded."""

PAUSE_S: Final = 0.2
"""Least pause between two rooms. It is at least as long as the last room took: compaction gets half a core at most."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one attempt: a new snapshot of so many bytes, or why not."""

    swapped: bool
    reason: str = ""
    snapshot_bytes: int = 0


@dataclass(slots=True)
class Growth:
    """What came after a room's snapshot."""

    rows: int = 0
    bytes: int = 0
    snapshot_bytes: int = 0
    not_before: int = 0
    """Weight below which it is not tried again."""
    evicted: bool = False

    @property
    def weight(self) -> int:
        """What it costs a load, in bytes."""
        return self.bytes + self.rows * ROW_WEIGHT_BYTES

    def due(self, rows_min: int, bytes_min: int) -> bool:
        """Whether a new snapshot pays."""
        weight = self.weight
        grown = self.rows > 0 and (self.rows >= rows_min or self.bytes >= bytes_min)
        return grown and weight >= self.not_before and weight * SNAPSHOT_SHARE >= self.snapshot_bytes


class Compactor:
    """See the module. Everything is called on the loop."""

    def __init__(
        self,
        compact: Callable[[RoomKey], Awaitable[Verdict]],
        *,
        rows_min: int,
        bytes_min: int,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._compact = compact
        self._rows_min = rows_min
        self._bytes_min = bytes_min
        self._pause_s = pause_s
        self._growth: OrderedDict[RoomKey, Growth] = OrderedDict()
        self._due: dict[RoomKey, None] = {}  # in the order they became so; a part of `_growth`
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def loaded(self, key: RoomKey, *, rows: int, row_bytes: int, snapshot_bytes: int) -> None:
        """A room was read: what it has on disk."""
        growth = self._of(key)
        growth.rows, growth.bytes, growth.snapshot_bytes = rows, row_bytes, snapshot_bytes
        growth.evicted = False
        self._consider(key, growth, 1)

    def committed(self, key: RoomKey, row_bytes: int) -> None:
        """One more row of a room is on disk."""
        growth = self._growth.get(key)
        if growth is None:
            growth = self._of(key)
        growth.rows += 1
        growth.bytes += row_bytes
        if growth.rows >= self._rows_min or growth.bytes >= self._bytes_min:
            self._consider(key, growth, 1)

    def evicted(self, key: RoomKey) -> None:
        """A room was closed: compact it if that pays, then forget it."""
        growth = self._growth.get(key)
        if growth is None:
            return
        growth.evicted = True
        self._consider(key, growth, EVICTION_SHARE)
        self._forget(key, growth)

    async def compact(self, key: RoomKey) -> Verdict:
        """One room now, or after the one under way. Raises nothing but cancellation."""
        async with self._turn:
            self._due.pop(key, None)
            growth = self._of(key)
            # Cleared before the rows are read (R3): what is committed from here on counts for the next time.
            rows, row_bytes, weight = growth.rows, growth.bytes, growth.weight
            growth.rows = growth.bytes = 0
            try:
                verdict = await self._compact(key)
            except TuttiError as error:
                verdict = Verdict(swapped=False, reason=str(error))
            except BaseException:
                growth.rows += rows
                growth.bytes += row_bytes
                raise
            if verdict.swapped:
                growth.snapshot_bytes = verdict.snapshot_bytes
                growth.not_before = 0
            else:
                logger.warning("room %s keeps its rows: %s", key, verdict.reason)
                growth.rows += rows
                growth.bytes += row_bytes
                growth.not_before = 2 * weight
            self._forget(key, growth)
            return verdict

    async def close(self) -> None:
        """Stop. What is under way is given up; rows stay as they are."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _of(self, key: RoomKey) -> Growth:
        growth = self._growth.get(key)
        if growth is None:
            growth = self._growth[key] = Growth()
            if len(self._growth) > ROOMS_MAX:
                forgotten, _ = self._growth.popitem(last=False)
                self._due.pop(forgotten, None)
        return growth

    def _consider(self, key: RoomKey, growth: Growth, share: int) -> None:
        if self._closed or not growth.due(self._rows_min // share, self._bytes_min // share):
            return
        self._due[key] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="compactor")

    def _forget(self, key: RoomKey, growth: Growth) -> None:
        """Drop a closed room's counters, unless it waits for its turn or must not be tried again at its next load."""
        if growth.evicted and key not in self._due and not growth.not_before:
            self._growth.pop(key, None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due:
            started = loop.time()
            await self.compact(next(iter(self._due)))
            await asyncio.sleep(max(self._pause_s, loop.time() - started))
