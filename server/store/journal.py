"""The node's journal, seen from the loop: rows in, "it is on disk" out; rooms whole; compaction by itself.

Owns when to commit. Rows of all rooms gather for a few milliseconds and become one transaction with one fsync (group
commit), done by one thread with one hand-over and one wake-up. At most one commit is under way; what arrives meanwhile
is the next one, so commits grow with the load, they don't queue.

Also owns what a failed commit means. Every row of it and every row gathered behind it is reported as failed, because a
later row of a room may not be kept without an earlier one. The journal is then away: `append` raises, and each
`retry_s` a real write is tried until one works. No method called on the loop touches the disk.

Invariants, of which the tests prove each:
1. What `done` reported as committed is in every later `load`, also after a kill at any moment.
2. What `done` reported as failed is in none, except after a crash between the failure and the first write that worked:
   a commit whose fsync failed may be found whole then. Its rows follow each other like any others.
3. `done` is called once per row, in the order of `append`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from crdt.errors import LocalError, Unavailable
from crdt.limits import GateLimits
from server.room.key import RoomKey
from server.room.rows import Row, StoredRoom
from server.store.compaction import Compacted, compact_room
from server.store.compactor import Compactor, Verdict
from server.store.readers import Readers, RoomContents, RoomRecord, find_room, page_rooms, read_room
from server.store.schema import JOURNAL_FILE, FolderLock
from server.store.worker import Worker
from server.store.writer import RowRefused, Swap, Writer, WriterThread

logger = logging.getLogger(__name__)

Done = Callable[[int, Unavailable | None], None]

BUSY_ROWS: Final = 8
"""Rows of one commit from which the longer interval is fully used. One room typing alone makes one row a commit."""

ROW_OVERHEAD_BYTES: Final = 300
"""What a pending row weighs beside its updates: objects, names, its place in the lists."""

READERS: Final = 2
"""Threads that read: one large room must not hold up all others. More only compete for the interpreter."""


@dataclass(slots=True)
class JournalCounts:
    """Since the journal was opened."""

    commits: int = 0
    commit_failures: int = 0
    rows: int = 0
    bytes: int = 0
    commit_s: float = 0.0
    """Sum of hand-over to outcome, so that a mean can be had."""
    compactions: int = 0


@dataclass(slots=True)
class _Pending:
    row: Row
    done: Done
    bytes: int


class Journal:
    """See the module. `open` before the loop serves, then `start` on the loop, `close` at the end."""

    def __init__(
        self,
        data_dir: Path,
        *,
        commit_interval_s: float,
        commit_interval_busy_s: float,
        retry_s: float,
        pending_bytes_max: int,
        compact_rows_min: int,
        compact_bytes_min: int,
        gate_limits: GateLimits,
    ) -> None:
        self.path = data_dir / JOURNAL_FILE
        self.counts = JournalCounts()
        self.on_available: Callable[[], None] | None = None
        """Called on the loop when commits work again after they had failed."""
        self._interval_s = commit_interval_s
        self._interval_busy_s = commit_interval_busy_s
        self._retry_s = retry_s
        self._pending_bytes_max = pending_bytes_max
        self._gate_limits = gate_limits
        self._lock = FolderLock(data_dir)
        try:
            self._writer = Writer(self.path)
            self._readers = Readers(self.path, READERS)
        except BaseException:
            self._lock.release()
            raise
        self._worker = Worker("compaction")
        self._compactor = Compactor(self._compact_once, rows_min=compact_rows_min, bytes_min=compact_bytes_min)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: WriterThread | None = None
        self._closed = False
        self._gathered: list[_Pending] = []
        self._in_flight: list[_Pending] = []
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._handed_over_at = float("-inf")
        self._rows_before = 0
        self._appended = 0
        self._settled = 0
        self._newest: dict[RoomKey, int] = {}  # what `_appended` was after the room's newest pending row
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._reason = ""
        self._since: float | None = None
        self._doubtful: dict[RoomKey, int] = {}
        self._probe_timer: asyncio.TimerHandle | None = None

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        commit_interval_s: float = 0.005,
        commit_interval_busy_s: float = 0.025,
        retry_s: float = 1.0,
        pending_bytes_max: int = 128 * 1024 * 1024,
        compact_rows_min: int = 500,
        compact_bytes_min: int = 1024 * 1024,
        gate_limits: GateLimits | None = None,
    ) -> Self:
        """Lock the folder (made if missing), open or make the file, bring it to this version's schema. Blocks.

        Intervals in seconds, see `commit_interval`; `retry_s` is the pause between attempts while the disk fails;
        `pending_bytes_max` bounds rows that are not on disk yet. `gate_limits` are those rooms are loaded with.
        Raises `Unavailable` when the folder is taken or the disk fails, `Unreadable` for a file of a newer version.
        """
        return cls(
            data_dir,
            commit_interval_s=commit_interval_s,
            commit_interval_busy_s=commit_interval_busy_s,
            retry_s=retry_s,
            pending_bytes_max=pending_bytes_max,
            compact_rows_min=compact_rows_min,
            compact_bytes_min=compact_bytes_min,
            gate_limits=gate_limits or GateLimits(),
        )

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to commit, on `loop`."""
        if self._thread is not None:
            raise LocalError("a journal is started once")
        self._loop = loop
        self._thread = WriterThread(self._writer, loop)

    async def close(self) -> None:
        """Commit what was appended, stop the thread and the worker, fold the file, let go of the folder."""
        if self._closed:
            return
        self._closed = True
        await self._compactor.close()
        await self._worker.close()
        await self.flush()
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        await asyncio.to_thread(self._close_blocking)

    @property
    def available(self) -> bool:
        """Whether rows are taken. False from a failed commit until a write worked again, and after `close`."""
        return self._since is None and not self._closed

    @property
    def reason(self) -> str:
        """Why not, as a sentence; empty while available."""
        return self._reason or ("the journal is closed" if self._closed else "")

    @property
    def since(self) -> float | None:
        """The loop's time when it became unavailable, None while it is not."""
        return self._since

    def append(self, row: Row, done: Done) -> None:
        """Have `row` written with the next commit; `done(seq, error)` is called on the loop once it is on disk or failed.

        Never blocks. Raises `Unavailable` at once, and calls nothing, when commits fail or too much is pending already.
        """
        if not self.available:
            raise Unavailable(self.reason)
        assert self._loop is not None, "append before start"
        size = ROW_OVERHEAD_BYTES
        for entry in row.entries:
            size += len(entry.update)
        if self._pending_bytes and self._pending_bytes + size > self._pending_bytes_max:
            raise Unavailable(
                f"{self._pending_bytes + size} bytes wait for the disk, limit is {self._pending_bytes_max}"
            )
        self._pending_bytes += size
        self._appended += 1
        self._newest[row.key] = self._appended
        self._gathered.append(_Pending(row, done, size))
        if self._timer is None and not self._in_flight:
            self._schedule()

    def pending(self, key: RoomKey) -> bool:
        """Whether rows of the room are not on disk yet."""
        return key in self._newest

    async def flush(self) -> None:
        """Return when everything appended so far was committed or failed."""
        await self._wait_settled(self._appended)

    async def load(self, key: RoomKey) -> StoredRoom:
        """Everything stored of a room, its own pending rows included (R16). Empty for a room never written.

        Raises `Unavailable` when the disk fails, `Unreadable` when a byte of it can't be read.
        """
        if (newest := self._newest.get(key)) is not None:
            await self._wait_settled(newest)
        # Rows that were reported as failed, but may have reached the disk: the next probe deletes them.
        contents: RoomContents = await self._readers.run(read_room, key, self._doubtful.get(key))
        snapshot_bytes, row_bytes = contents.snapshot_bytes, contents.row_bytes
        self._compactor.loaded(key, rows=len(contents.rows), row_bytes=row_bytes, snapshot_bytes=snapshot_bytes)
        return contents.stored()

    async def rooms(self, *, tenant: str, after: str | None, limit: int) -> list[RoomRecord]:
        """Up to `limit` rooms whose name follows `after` (None: from the first), in order of their UTF-8 bytes."""
        return await self._readers.run(page_rooms, tenant, after, limit)

    async def room(self, key: RoomKey) -> RoomRecord | None:
        """One room's record, None if nothing of it is on disk."""
        return await self._readers.run(find_room, key)

    def evicted(self, key: RoomKey) -> None:
        """The room was closed: it is compacted if that pays, and forgotten."""
        self._compactor.evicted(key)

    async def compact(self, key: RoomKey) -> Verdict:
        """Compact a room now, after what is under way. Normally the journal decides by itself (`compactor`)."""
        return await self._compactor.compact(key)

    # ---- commits

    def _schedule(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        interval = commit_interval(self._interval_s, self._interval_busy_s, self._rows_before)
        self._timer = self._loop.call_at(max(now + self._interval_s, self._handed_over_at + interval), self._hand_over)

    def _hand_over(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._timer = None
        self._in_flight, self._gathered = self._gathered, []
        self._handed_over_at = self._loop.time()
        self._rows_before = len(self._in_flight)
        rows = [pending.row for pending in self._in_flight]
        self._thread.submit(lambda writer: writer.commit(rows), self._committed)

    def _committed(self, outcome: list[RowRefused | None] | Exception) -> None:
        assert self._loop is not None
        batch, self._in_flight = self._in_flight, []
        self.counts.commit_s += self._loop.time() - self._handed_over_at
        if isinstance(outcome, Exception):
            self._fail(batch, outcome)
            return
        self.counts.commits += 1
        for pending, refused in zip(batch, outcome, strict=True):
            row = pending.row
            if refused is None:
                self.counts.rows += 1
                self.counts.bytes += pending.bytes
                self._compactor.committed(row.key, pending.bytes)
            else:
                logger.error("the journal refused a row: %s", refused)
            self._settle(pending, refused)
        self._wake_waiters()
        if self._waiters:
            self._hurry()
        elif self._gathered and self._timer is None:
            self._schedule()

    def _fail(self, batch: list[_Pending], error: Exception) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self.counts.commit_failures += 1
        self._since = self._loop.time()
        self._reason = f"the journal can't be written: {error}"
        # Read here, on the loop: the thread is idle until the next `submit`.
        self._doubtful = self._writer.doubtful
        logger.error("%s (%d rows were not kept)", self._reason, len(batch) + len(self._gathered), exc_info=_bug(error))
        batch += self._gathered
        self._gathered = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        failure = Unavailable(self._reason)
        for pending in batch:
            self._settle(pending, failure)
        self._wake_waiters()
        self._probe_timer = self._loop.call_later(self._retry_s, self._probe)

    def _settle(self, pending: _Pending, error: Unavailable | None) -> None:
        assert self._loop is not None
        key = pending.row.key
        self._settled += 1
        self._pending_bytes -= pending.bytes
        if self._newest[key] == self._settled:
            del self._newest[key]
        try:
            pending.done(pending.row.seq, error)
        except Exception as fault:  # noqa: BLE001 - one room's fault must not keep the others from hearing of their rows
            self._loop.call_exception_handler(
                {"message": f"what room {key} does after a commit failed", "exception": fault}
            )

    def _probe(self) -> None:
        assert self._thread is not None
        self._probe_timer = None
        self._thread.submit(Writer.probe, self._probed)

    def _probed(self, outcome: Exception | None) -> None:
        assert self._loop is not None
        if isinstance(outcome, Exception):
            self._reason = f"the journal can't be written: {outcome}"
            if not self._closed:
                self._probe_timer = self._loop.call_later(self._retry_s, self._probe)
            return
        logger.warning("the journal can be written again, after %.1f s", self._loop.time() - (self._since or 0.0))
        self._since = None
        self._reason = ""
        self._doubtful = {}
        if self.on_available is not None and not self._closed:
            self.on_available()

    async def _wait_settled(self, appended: int) -> None:
        if self._settled >= appended:
            return
        assert self._loop is not None
        waiter = self._loop.create_future()
        self._waiters.append((appended, waiter))
        self._hurry()
        await waiter

    def _hurry(self) -> None:
        """Somebody waits: no reason to gather any longer."""
        if self._gathered and not self._in_flight:
            if self._timer is not None:
                self._timer.cancel()
            self._hand_over()

    def _wake_waiters(self) -> None:
        still: list[tuple[int, asyncio.Future[None]]] = []
        for appended, waiter in self._waiters:
            if waiter.done():
                continue
            if appended <= self._settled:
                waiter.set_result(None)
            else:
                still.append((appended, waiter))
        self._waiters = still

    # ---- compaction

    async def _compact_once(self, key: RoomKey) -> Verdict:
        """One room, once: the worker makes and proves a snapshot, the writer puts it in place of the rows."""
        if not self.available:
            return Verdict(swapped=False, reason=self.reason)
        failures = self.counts.commit_failures
        made = await self._worker.run(compact_room, self.path, key, self._gate_limits)
        if not isinstance(made, Compacted):
            return Verdict(swapped=False, reason=made)
        # A commit that failed meanwhile may have left rows on disk that don't count, and the snapshot may hold them.
        # One whose outcome is still on its way here is `Writer.swap`'s to find.
        if self.counts.commit_failures != failures:
            return Verdict(swapped=False, reason="a commit failed meanwhile")
        swap = Swap(key, made.generation, made.from_seq, made.seq, made.blob)
        if not await self._swap(swap):
            return Verdict(swapped=False, reason="the room was changed meanwhile")
        self.counts.compactions += 1
        return Verdict(swapped=True, snapshot_bytes=len(made.blob))

    async def _swap(self, swap: Swap) -> bool:
        assert self._loop is not None
        assert self._thread is not None
        answer: asyncio.Future[bool] = self._loop.create_future()
        self._thread.submit(lambda writer: writer.swap(swap), partial(_answer, answer))
        return await answer

    def _close_blocking(self) -> None:
        # Readers first: the last connection to go folds the write-ahead log.
        self._readers.close()
        if self._thread is None:
            self._writer.close()
        else:
            self._thread.stop()
            self._thread.join()
        self._lock.release()


def commit_interval(short_s: float, busy_s: float, rows_before: int) -> float:
    """Seconds between two hand-overs when the one before had `rows_before` rows.

    A commit costs the same CPU and fsync for one row as for ten, so under load they are made rarer and larger: from
    `short_s` at one row to `busy_s` at `BUSY_ROWS`. Settles by itself; about 300 rows/s is where it starts to stretch.
    """
    share = min(1.0, max(0, rows_before - 1) / (BUSY_ROWS - 1))
    return short_s + (max(short_s, busy_s) - short_s) * share


def _answer(answer: asyncio.Future[bool], outcome: bool | Exception) -> None:  # noqa: FBT001 - what a thread's work returned
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(Unavailable(f"the snapshot can't be written: {outcome}"))
    else:
        answer.set_result(outcome)


def _bug(error: Exception) -> Exception | None:
    """The error to log with its traceback, if it isn't the disk's doing."""
    return None if isinstance(error, sqlite3.Error | OSError | MemoryError) else error
