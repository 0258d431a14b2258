"""A journal that is easy to write to, and files of earlier versions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import Entry, Row, StoredRoom
from server.store.journal import Journal
from server.store.writer import Writer


class Notebook:
    """Writes rows with the right sequence to a journal and notes, in order, what became of each."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.seqs: dict[str, int] = {}
        self.outcomes: list[tuple[str, int, Unavailable | None]] = []

    def append(self, name: str, *updates: bytes, seq: int | None = None, generation: int = 1) -> None:
        if seq is None:
            seq = self.seqs[name] = self.seqs.get(name, 0) + 1
        entries = tuple(Entry("ann", update) for update in updates or (b"%s %d" % (name.encode(), seq),))
        row = Row(RoomKey("", name), generation, seq, entries)
        self.journal.append(row, lambda seq, error: self.outcomes.append((name, seq, error)))

    async def load(self, name: str) -> StoredRoom:
        return await self.journal.load(RoomKey("", name))

    async def reload(self, name: str) -> StoredRoom:
        """As a room that starts over: the next sequence is what follows the stored one."""
        stored = await self.load(name)
        self.seqs[name] = stored.last_seq
        return stored

    @property
    def committed(self) -> list[tuple[str, int]]:
        return [(name, seq) for name, seq, error in self.outcomes if error is None]

    @property
    def failed(self) -> list[tuple[str, int]]:
        return [(name, seq) for name, seq, error in self.outcomes if error is not None]

    async def in_writer(self, work: Callable[[Writer], Any]) -> Any:
        """Run something in the writer's thread."""
        done = asyncio.get_running_loop().create_future()
        assert self.journal._thread is not None
        self.journal._thread.submit(work, done.set_result)
        outcome = await done
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def pragma(self, text: str) -> Any:
        """The value of a pragma on the connection that writes."""
        return await self.in_writer(lambda writer: writer._connection.execute(f"PRAGMA {text}").fetchone()[0])

    async def until(self, condition: Callable[[], bool], limit_s: float = 5.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110 - any condition: it has no event of its own
                await asyncio.sleep(0.005)


class OpenNotebook(Protocol):
    def __call__(self, **options: Any) -> Any: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def notebook(folder: Path) -> OpenNotebook:
    """`async with notebook(retry_s=0.02) as book`: a started journal in the test's folder, closed at the end."""

    @asynccontextmanager
    async def open_notebook(**options: Any) -> AsyncIterator[Notebook]:
        journal = Journal.open(folder, **{"commit_interval_s": 0.001, "commit_interval_busy_s": 0.002, **options})
        journal.start(asyncio.get_running_loop())
        try:
            yield Notebook(journal)
        finally:
            await journal.close()

    return open_notebook


@pytest.fixture
def build_version_1(folder: Path) -> Callable[[], Path]:
    """Writes a journal as the first version left it. Frozen: never brought in line with today's code."""

    def build() -> Path:
        folder.mkdir()
        path = folder / "journal.db"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            """
            BEGIN;
            CREATE TABLE documents (
                room INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
                created_at REAL NOT NULL, deleted_at REAL, UNIQUE (tenant, name));
            CREATE TABLE updates (
                room INTEGER NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL, batch BLOB NOT NULL,
                at REAL NOT NULL, PRIMARY KEY (room, generation, seq));
            CREATE TABLE snapshots (
                room INTEGER NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL, slices BLOB NOT NULL,
                updated_at REAL NOT NULL, PRIMARY KEY (room, generation));
            CREATE TABLE conflicts (
                id INTEGER PRIMARY KEY, room INTEGER NOT NULL, generation INTEGER NOT NULL, client INTEGER NOT NULL,
                clock INTEGER NOT NULL, author TEXT NOT NULL, content BLOB NOT NULL, at REAL NOT NULL);
            CREATE INDEX conflicts_of_room ON conflicts (room, generation);
            CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
            INSERT INTO meta VALUES ('log_id', '00112233445566778899aabbccddeeff'), ('created_at', 1700000000.0);
            INSERT INTO documents VALUES (1, '', 'notes', 1, 1700000000.0, NULL), (2, 'acme', 'plan', 1, 1700000001.0, NULL);
            -- version 1, one slice of two bytes, nothing held; version 1, one or two entries of author and update
            INSERT INTO snapshots VALUES (1, 1, 7, x'010102000000', 1700000007.0);
            INSERT INTO updates VALUES
                (1, 1, 8, x'010103616e6e020000', 1700000008.0),
                (1, 1, 9, x'010203616e6e02000003626f62020000', 1700000009.0),
                (2, 1, 1, x'010100020000', 1700000010.0);
            PRAGMA application_id=1416983668;
            PRAGMA user_version=1;
            COMMIT;
            """
        )
        connection.close()
        return path

    return build
