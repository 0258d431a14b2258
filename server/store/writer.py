"""The one connection that writes, and the thread it lives in.

`Writer` owns what a transaction holds: a commit of many rooms' rows, the swap of a snapshot for the rows it stands for,
the probe that finds out whether the disk works again. It checks that each room's sequence has no gap. `WriterThread`
runs one piece of work after another and brings each outcome to the loop with one wake-up. When to commit, and what a
failure means for the rooms, is `journal`'s.

The interpreter's lock is given up at every SQLite step and only comes back after up to 5 ms when the loop is busy, so
the number of steps decides: ten rows by BEGIN, executemany, COMMIT took 35 ms under a spinning loop, as one INSERT in
autocommit 5 ms (and 62 instead of 63 µs of CPU otherwise).
"""

import contextlib
import logging
import sqlite3
import threading
import time
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple, TypeVar

from crdt.errors import LocalError, Unavailable
from server.room.key import RoomKey
from server.room.rows import FIRST_GENERATION, Row
from server.store.codec import encode_batch
from server.store.schema import open_writer

logger = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

ROWS_PER_INSERT: Final = 100
"""Rows of one INSERT statement. Each count up to it is a prepared statement of its own, which the connection caches."""

HEADS_MAX: Final = 10_000
"""Rooms whose newest sequence is remembered (about 250 bytes each); one look-up in the file for any other."""

PROBE_BYTES: Final = 64 * 1024
"""What a probe writes: more than the rows of an ordinary commit, so that a disk with one free page doesn't pass."""


class RowRefused(LocalError, Unavailable):
    """A row that doesn't follow what is stored: a bug of its room. As after any failed commit, it was not kept."""


class Head(NamedTuple):
    """Where a room's rows end. `room` is None for one that has no document yet."""

    room: int | None
    generation: int
    seq: int


@dataclass(frozen=True, slots=True)
class Swap:
    """A snapshot to put in place of rows. `from_seq` is the sequence of the snapshot it was made from, 0 for none."""

    key: RoomKey
    generation: int
    from_seq: int
    seq: int
    blob: bytes


class Writer:
    """See the module. Every method blocks and belongs into the writer's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = open_writer(path)
        self._heads: OrderedDict[RoomKey, Head] = OrderedDict()
        self._doubtful: dict[RoomKey, int] = {}
        self._probe_failed = False

    @property
    def doubtful(self) -> dict[RoomKey, int]:
        """Rooms of failed commits and the last sequence that counts: rows after it were reported as failed.

        A COMMIT that raised may have reached the disk. `probe` deletes such rows before anything else is committed.
        """
        return dict(self._doubtful)

    def commit(self, rows: Sequence[Row]) -> list[RowRefused | None]:
        """Make `rows` durable: one transaction, one fsync. Returns a verdict per row.

        A room's rows must follow each other and what is stored; where they don't, that room's remaining rows are left
        out and get the error, the others are kept. Raises `sqlite3.Error` when nothing was kept.
        """
        heads: dict[RoomKey, Head] = {}
        refused: dict[RoomKey, RowRefused] = {}
        verdicts: list[RowRefused | None] = []
        inserts: list[tuple[RoomKey, int, int, bytes]] = []
        before: dict[RoomKey, int] = {}
        try:
            for row in rows:
                key = row.key
                head = heads.get(key)
                if head is None:
                    head = heads[key] = self._head(key)
                    before[key] = head.seq
                if key not in refused:
                    try:
                        blob = _checked_batch(row, head)
                        heads[key] = Head(head.room, head.generation, row.seq)
                        inserts.append((key, row.generation, row.seq, blob))
                    except LocalError as error:
                        refused[key] = RowRefused(str(error))
                verdicts.append(refused.get(key))
            if inserts:
                self._insert(heads, inserts)
        except BaseException:
            # The error that brought us here is the one to report; a failed ROLLBACK has rolled back already.
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            self._heads.clear()
            for key, seq in before.items():
                self._doubtful.setdefault(key, seq)
            raise
        self._remember(heads, refused)
        return verdicts

    def swap(self, swap: Swap) -> bool:
        """Put the snapshot in and take the rows out that it stands for (R3). Raises `sqlite3.Error`, with nothing done.

        False, with nothing done, when the room is no longer what the snapshot was made from, or may not have been.
        """
        if swap.key in self._doubtful:
            return False
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute(
                """SELECT d.room, d.generation, ifnull(s.seq, 0),
                    (SELECT at FROM updates u WHERE u.room = d.room AND u.generation = d.generation AND u.seq = ?)
                FROM documents d LEFT JOIN snapshots s ON s.room = d.room AND s.generation = d.generation
                WHERE d.tenant = ? AND d.name = ?""",
                (swap.seq, swap.key.tenant, swap.key.name),
            ).fetchone()
            # Without its last row the snapshot was made from something else than this room.
            if found is None or found[1:3] != (swap.generation, swap.from_seq) or found[3] is None:
                connection.execute("ROLLBACK")
                return False
            room, generation, _, updated_at = found
            connection.execute(
                "INSERT OR REPLACE INTO snapshots (room, generation, seq, slices, updated_at) VALUES (?, ?, ?, ?, ?)",
                (room, generation, swap.seq, swap.blob, updated_at),
            )
            connection.execute(
                "DELETE FROM updates WHERE room = ? AND generation = ? AND seq <= ?", (room, generation, swap.seq)
            )
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise
        return True

    def probe(self) -> None:
        """Find out whether commits work, by making one; raises `sqlite3.Error` or `Unavailable` while they don't.

        Afterwards nothing that was reported as failed is in the file. A connection that failed a probe is replaced.
        """
        if self._probe_failed:
            self._connection.close()
            self._connection = open_writer(self._path)
        self._probe_failed = True
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for key, seq in self._doubtful.items():
                connection.execute(
                    """DELETE FROM updates WHERE seq > ? AND (room, generation) IN
                        (SELECT room, generation FROM documents WHERE tenant = ? AND name = ?)""",
                    (seq, key.tenant, key.name),
                )
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', zeroblob(?))", (PROBE_BYTES,))
            connection.execute("COMMIT")
            # Its own commit, so that the space was really taken; what it gives back serves the next rows.
            connection.execute("DELETE FROM meta WHERE name = 'probe'")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise
        self._doubtful.clear()
        self._probe_failed = False

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it. Raises `sqlite3.Error`; what was committed stays so."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._connection.close()

    def _insert(self, heads: dict[RoomKey, Head], inserts: list[tuple[RoomKey, int, int, bytes]]) -> None:
        now = time.time()
        new = [key for key, head in heads.items() if head.room is None]
        alone = not new and len(inserts) <= ROWS_PER_INSERT
        execute = self._connection.execute
        if not alone:
            execute("BEGIN IMMEDIATE")
            written = {key for key, _, _, _ in inserts}
            for key in new:
                if key in written:
                    room = execute(
                        "INSERT INTO documents (tenant, name, generation, created_at) VALUES (?, ?, ?, ?)",
                        (key.tenant, key.name, heads[key].generation, now),
                    ).lastrowid
                    heads[key] = heads[key]._replace(room=room)
        for start in range(0, len(inserts), ROWS_PER_INSERT):
            chunk = inserts[start : start + ROWS_PER_INSERT]
            values: list[object] = []
            for key, generation, seq, blob in chunk:
                values += (heads[key].room, generation, seq, blob, now)
            execute(_insert_statement(len(chunk)), values)
        if not alone:
            execute("COMMIT")

    def _head(self, key: RoomKey) -> Head:
        known = self._heads.get(key)
        if known is not None:
            self._heads.move_to_end(key)
            return known
        try:
            found = self._connection.execute(
                """SELECT d.room, d.generation, max(
                    ifnull((SELECT max(seq) FROM updates u WHERE u.room = d.room AND u.generation = d.generation), 0),
                    ifnull((SELECT seq FROM snapshots s WHERE s.room = d.room AND s.generation = d.generation), 0))
                FROM documents d WHERE d.tenant = ? AND d.name = ?""",
                (key.tenant, key.name),
            ).fetchone()
        except UnicodeEncodeError:
            # Found by `_checked_batch` too, with the sentence.
            found = None
        return Head(None, FIRST_GENERATION, 0) if found is None else Head(*found)

    def _remember(self, heads: dict[RoomKey, Head], refused: dict[RoomKey, RowRefused]) -> None:
        for key, head in heads.items():
            if key in refused:
                self._heads.pop(key, None)
            elif head.room is not None:
                self._heads[key] = head
        while len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


class WriterThread:
    """Runs work on a `Writer` in order. `submit` and `stop` are called on the loop, and so is what they call back."""

    def __init__(self, writer: Writer, loop: AbstractEventLoop) -> None:
        self._writer = writer
        self._loop = loop
        # Bounded by its user: `journal` has one commit, one probe and one swap in here at most.
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: a program that ends without `stop` must not hang here. The file survives a kill at any moment.
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Writer], Outcome], done: Callable[[Outcome | Exception], None]) -> None:
        """Run `work` in the thread, then `done` on the loop with what it returned or raised."""

        def step() -> None:
            try:
                outcome: Outcome | Exception = work(self._writer)
            except Exception as error:  # noqa: BLE001 - the thread's edge: the loop's side decides what each error means
                outcome = error
            self._loop.call_soon_threadsafe(done, outcome)

        self._queue.put(step)

    def stop(self) -> None:
        """End the thread after what was submitted; it closes the writer."""
        self._queue.put(None)

    def join(self) -> None:
        """Block until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while (step := self._queue.get()) is not None:
                step()
        except RuntimeError as error:
            # The loop was closed under us: nobody is left to be told anything.
            logger.warning("the journal's writer stops: %s", error)
        try:
            self._writer.close()
        except sqlite3.Error as error:
            # Nothing is lost: the next start reads the write-ahead log.
            logger.warning("the journal could not be folded at close: %s", error)


def _checked_batch(row: Row, head: Head) -> bytes:
    key = row.key
    if row.generation != head.generation:
        raise LocalError(
            f"row {row.seq} of room {key} is of generation {row.generation}, the journal's is {head.generation}"
        )
    if row.seq != head.seq + 1:
        raise LocalError(f"row {row.seq} of room {key} does not follow {head.seq}, the last one stored")
    try:
        (key.tenant + key.name).encode()
    except UnicodeEncodeError as error:
        raise LocalError(f"room {key!r} has a name that is not valid Unicode") from error
    return encode_batch(row.entries)


@cache
def _insert_statement(rows: int) -> str:
    values = ",".join(["(?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO updates (room, generation, seq, batch, at) VALUES {values}"  # noqa: S608 - question marks only
