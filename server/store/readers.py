"""Reading the journal beside its writer: one room whole, rooms by name, each in one read transaction.

Owns the read-only connections and the threads they are used in. A transaction of a reader sees the file as of one
commit, so a room is read before or after a snapshot replaced its rows, never in between (R3).

Rows are fetched many to a step: the interpreter's lock is given up at each step of SQLite and comes back after up to
5 ms when the loop is busy. 500 rows one by one took 2.4 s under a spinning loop, concatenated 8 ms (0.45 ms either way
when it is idle).
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import FIRST_GENERATION, Row, StoredRoom
from server.store.codec import StoredSnapshot, decode_batch, decode_snapshot
from server.store.schema import Unreadable, open_reader

Result = TypeVar("Result")

ROWS_PER_STEP: Final = 512
"""Rows whose sizes are read at once."""

BYTES_PER_STEP: Final = 16 * 1024 * 1024
"""Bytes of rows concatenated at once; SQLite refuses a value of 1 GB. One row alone may be longer."""


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """What the journal knows of a room without reading its updates. Times are seconds since the epoch."""

    key: RoomKey
    generation: int
    last_seq: int
    bytes: int
    """Stored bytes: the snapshot and the rows after it."""
    rows: int
    """Rows after the snapshot."""
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class RoomContents:
    """Everything stored of one room; the snapshot with the authors of what it holds."""

    key: RoomKey
    generation: int
    snapshot: StoredSnapshot | None
    rows: tuple[Row, ...]
    snapshot_bytes: int
    row_bytes: int

    def stored(self) -> StoredRoom:
        """As a room loads it."""
        snapshot = None if self.snapshot is None else self.snapshot.replayable()
        return StoredRoom(self.key, self.generation, snapshot, self.rows)


def read_room(connection: sqlite3.Connection, key: RoomKey, seq_max: int | None = None) -> RoomContents:
    """One room as of one commit, rows after `seq_max` left out. Raises `Unreadable` if a byte of it can't be read."""
    with _transaction(connection):
        found = connection.execute(
            "SELECT room, generation FROM documents WHERE tenant = ? AND name = ?", (key.tenant, key.name)
        ).fetchone()
        if found is None:
            return RoomContents(key, FIRST_GENERATION, None, (), 0, 0)
        room, generation = found
        stored = connection.execute(
            "SELECT seq, slices FROM snapshots WHERE room = ? AND generation = ?", (room, generation)
        ).fetchone()
        seq = 0 if stored is None else stored[0]
        blobs = list(_batches(connection, room, generation, seq, 2**63 - 1 if seq_max is None else seq_max))
    # Decoded outside: a long transaction keeps the write-ahead log from being folded.
    snapshot = None if stored is None else decode_snapshot(key, *stored)
    for expected, (found_seq, _) in enumerate(blobs, start=seq + 1):
        if found_seq != expected:
            raise Unreadable(f"row {expected} of room {key} is missing, the next one stored is {found_seq}")
    rows = tuple([decode_batch(key, generation, found_seq, blob) for found_seq, blob in blobs])
    row_bytes = sum(len(blob) for _, blob in blobs)
    return RoomContents(key, generation, snapshot, rows, 0 if stored is None else len(stored[1]), row_bytes)


def page_rooms(connection: sqlite3.Connection, tenant: str, after: str | None, limit: int) -> list[RoomRecord]:
    """Up to `limit` rooms of `tenant` whose name follows `after`, in order of their UTF-8 bytes."""
    # None must start before the empty name, which is a name too.
    condition = "tenant = ? AND name >= ?" if after is None else "tenant = ? AND name > ?"
    return _records(connection, condition, (tenant, after or ""), limit)


def find_room(connection: sqlite3.Connection, key: RoomKey) -> RoomRecord | None:
    """The record of one room, None if nothing of it was ever stored."""
    return next(iter(_records(connection, "tenant = ? AND name = ?", (key.tenant, key.name), 1)), None)


class Readers:
    """A few read-only connections, each used by one thread at a time."""

    def __init__(self, path: Path, count: int) -> None:
        """Blocks; raises what `schema.open_reader` does. The connections stay open for good: while one is, SQLite
        keeps the index of the write-ahead log and never recovers a commit from it that had failed."""
        self._path = path
        self._connections: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(count):
            self._connections.put(open_reader(path))
        self._count = count
        self._closed = False
        # Its queue holds one job per awaiting caller; whoever opens rooms bounds those.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="journal-reader")

    async def run(self, read: Callable[..., Result], *args: object) -> Result:
        """`read(connection, *args)` in a thread. Raises `Unavailable` when the disk does, and what `read` raises."""
        if self._closed:
            raise Unavailable("the journal is closed")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, functools.partial(self._run, read, *args)
        )

    def close(self) -> None:
        """Blocks until running reads have ended; those not begun are dropped."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self._count):
            self._connections.get().close()

    def _run(self, read: Callable[..., Result], *args: object) -> Result:
        connection = self._connections.get()
        try:
            return read(connection, *args)
        except sqlite3.Error as error:
            raise Unavailable(f"the journal can't be read: {error}") from error
        finally:
            self._connections.put(connection)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _batches(
    connection: sqlite3.Connection, room: int, generation: int, after: int, seq_max: int
) -> Iterator[tuple[int, bytes]]:
    """(seq, blob) of the rows with after < seq <= seq_max, in order."""
    while True:
        # LIMIT keeps the inner order: without it SQLite may fold the inner SELECT into the outer one.
        seqs_text, sizes_text = connection.execute(
            """SELECT group_concat(seq), group_concat(size) FROM (
                SELECT seq, length(batch) AS size FROM updates
                WHERE room = ? AND generation = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?)""",
            (room, generation, after, seq_max, ROWS_PER_STEP),
        ).fetchone()
        if seqs_text is None:
            return
        seqs = [int(text) for text in seqs_text.split(",")]
        sizes = [int(text) for text in sizes_text.split(",")]
        for start, end in pairwise(_cuts(sizes)):
            (data,) = connection.execute(
                """SELECT CAST(group_concat(batch, '') AS BLOB) FROM (
                    SELECT batch FROM updates
                    WHERE room = ? AND generation = ? AND seq >= ? AND seq <= ? ORDER BY seq LIMIT ?)""",
                (room, generation, seqs[start], seqs[end - 1], end - start),
            ).fetchone()
            data = data or b""
            if len(data) != sum(sizes[start:end]):
                raise Unreadable(
                    f"rows {seqs[start]} to {seqs[end - 1]} are {len(data)} bytes, not {sum(sizes[start:end])}"
                )
            position = 0
            for index in range(start, end):
                yield seqs[index], data[position : position + sizes[index]]
                position += sizes[index]
        after = seqs[-1]


def _cuts(sizes: list[int]) -> list[int]:
    """Positions that cut `sizes` into runs of at most `BYTES_PER_STEP`, or of one."""
    cuts = [0]
    total = 0
    for index, size in enumerate(sizes):
        if total + size > BYTES_PER_STEP and index > cuts[-1]:
            cuts.append(index)
            total = 0
        total += size
    return [*cuts, len(sizes)]


def _records(connection: sqlite3.Connection, condition: str, values: tuple[str, str], limit: int) -> list[RoomRecord]:
    rows = connection.execute(
        f"""SELECT d.tenant, d.name, d.generation, max(ifnull(s.seq, 0), ifnull(max(u.seq), 0)),
            ifnull(length(s.slices), 0) + ifnull(sum(length(u.batch)), 0), count(u.seq),
            d.created_at, max(d.created_at, ifnull(s.updated_at, 0), ifnull(max(u.at), 0))
        FROM (SELECT * FROM documents WHERE {condition} AND deleted_at IS NULL ORDER BY name LIMIT ?) d
        LEFT JOIN snapshots s ON s.room = d.room AND s.generation = d.generation
        LEFT JOIN updates u ON u.room = d.room AND u.generation = d.generation
        GROUP BY d.name ORDER BY d.name""",  # noqa: S608 - `condition` is one of the literals above
        (*values, limit),
    ).fetchall()
    return [RoomRecord(RoomKey(tenant, name), *rest) for tenant, name, *rest in rows]
