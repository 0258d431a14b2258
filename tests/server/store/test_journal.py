"""server/store/journal.py: when rows are committed, what is told to whom, and what a failure means."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store import schema
from server.store import writer as writer_module
from server.store.journal import ROW_OVERHEAD_BYTES, Journal, commit_interval
from server.store.schema import FolderLock
from server.store.writer import Writer

OpenNotebook = Callable[..., Any]
"""The `notebook` fixture."""


async def test_rows_that_come_together_are_one_commit(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=0.02) as book:
        for name in "abcab":
            book.append(name)
        assert book.outcomes == [], "nothing is told before it is on disk"
        await book.until(lambda: len(book.outcomes) == 5)
        assert book.committed == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2)]
        assert (book.journal.counts.commits, book.journal.counts.rows) == (1, 5)


async def test_rows_of_a_commit_under_way_are_the_next_one(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        hold = threading.Event()
        book.journal._thread.submit(lambda _: hold.wait(5), lambda _: None)
        book.append("a")
        await asyncio.sleep(0.01)
        for _ in range(50):
            book.append("a")
            await asyncio.sleep(0)
        assert book.journal.pending(RoomKey("", "a"))
        hold.set()
        await book.journal.flush()
        assert book.journal.counts.commits == 2
        assert book.committed == [("a", seq) for seq in range(1, 52)]
        assert not book.journal.pending(RoomKey("", "a"))


def test_the_interval_grows_with_the_rows_of_a_commit() -> None:
    grown = [commit_interval(0.005, 0.025, rows) for rows in range(12)]
    assert grown[0] == grown[1] == 0.005
    assert grown == sorted(grown)
    assert grown[8] == grown[11] == 0.025
    assert commit_interval(0.005, 0.001, 100) == 0.005, "a busy interval below the other one counts for nothing"


async def test_busy_rooms_are_committed_more_rarely(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=0.001, commit_interval_busy_s=0.05) as book:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while loop.time() < started + 0.4:
            for name in "abcdefghij":
                book.append(name)
            await asyncio.sleep(0.002)
        await book.journal.flush()
        assert 5 <= book.journal.counts.commits <= 14, "one in 50 ms, not one in 2"


async def test_a_load_waits_for_the_rooms_own_rows(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=0.2) as book:
        for _ in range(3):
            book.append("a")
        stored = await asyncio.wait_for(book.load("a"), 0.1)
        assert stored.last_seq == 3, "and does not wait until the interval is over"
        assert len(book.outcomes) == 3, "the room has heard of its rows before"


async def test_a_load_waits_behind_a_commit_under_way(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        hold = threading.Event()
        book.append("a")
        await book.journal.flush()
        book.journal._thread.submit(lambda _: hold.wait(5), lambda _: None)
        book.append("a")
        await asyncio.sleep(0.01)
        book.append("a")
        load = asyncio.create_task(book.load("a"))
        other = await asyncio.wait_for(book.load("b"), 1)
        assert other.last_seq == 0, "other rooms are read meanwhile"
        await asyncio.sleep(0.02)
        assert not load.done()
        hold.set()
        assert (await load).last_seq == 3


async def test_a_load_that_is_given_up_disturbs_nobody(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=0.05) as book:
        book.append("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await book.load("a")
        assert (await book.load("a")).last_seq == 1


async def test_what_was_stored_comes_back_from_a_new_journal(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        book.append("a/b \U0001f600", b"\0\xff", b"")
        book.append("a/b \U0001f600", b"2")
        record = None
    async with notebook() as book:
        stored = await book.load("a/b \U0001f600")
        assert [row.entries for row in stored.rows] == [
            (Entry("ann", b"\0\xff"), Entry("ann", b"")),
            (Entry("ann", b"2"),),
        ]
        record = await book.journal.room(stored.key)
        assert record is not None
        assert record.last_seq == 2
        assert [room.key for room in await book.journal.rooms(tenant="", after=None, limit=10)] == [stored.key]


async def test_close_commits_what_was_appended(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=10) as book:
        book.append("a")
    assert book.committed == [("a", 1)]
    assert not book.journal.available
    assert book.journal.reason == "the journal is closed"
    with pytest.raises(Unavailable, match="the journal is closed"):
        book.append("a")
    with pytest.raises(Unavailable, match="the journal is closed"):
        await book.load("a")
    await book.journal.close()


def files_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_close_folds_the_log_and_frees_the_folder(notebook: OpenNotebook, folder: Path) -> None:
    async with notebook() as book:
        book.append("a")
        await book.journal.flush()
        assert (folder / "journal.db-wal").stat().st_size > 0
        with pytest.raises(Unavailable, match="in use by another node"):
            Journal.open(folder)
    assert files_in(folder) == ["journal.db", "journal.lock"]
    await Journal.open(folder).close()


async def test_a_journal_that_cannot_be_opened_frees_the_folder(folder: Path) -> None:
    FolderLock(folder).release()
    (folder / "journal.db").write_bytes(b"not a database, " * 400)
    for _ in range(2):
        with pytest.raises(Unavailable, match="not a database"):
            Journal.open(folder)


async def test_rows_past_the_limit_are_refused_at_once(notebook: OpenNotebook) -> None:
    async with notebook(commit_interval_s=10, pending_bytes_max=1000) as book:
        book.append("a", b"x" * 2000)  # alone it passes: nothing it could wait for would make room
        with pytest.raises(
            Unavailable, match=f"{2000 + 2 * ROW_OVERHEAD_BYTES + 1} bytes wait for the disk, limit is 1000"
        ):
            book.append("b", b"y")
        assert book.journal.available, "no outage: the rows before will be written"
        await book.journal.flush()
        book.seqs["b"] = 0
        book.append("b", b"y")
        await book.journal.flush()
        assert book.committed == [("a", 1), ("b", 1)]


async def test_a_room_that_miscounts_fails_alone(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        book.append("a")
        book.append("b", seq=5)
        book.append("a")
        await book.journal.flush()
        assert (book.committed, book.failed) == ([("a", 1), ("a", 2)], [("b", 5)])
        assert book.journal.available


async def test_a_callback_that_raises_costs_nobody_else_theirs(notebook: OpenNotebook) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with notebook() as book:
        book.append("a")
        book.journal.append(Row(RoomKey("", "b"), 1, 1, (Entry("", b"x"),)), lambda seq, error: 1 / 0)
        book.append("a")
        await book.journal.flush()
        assert book.committed == [("a", 1), ("a", 2)]
        assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]


async def test_a_callback_may_append(notebook: OpenNotebook) -> None:
    async with notebook() as book:

        def again(seq: int, error: Unavailable | None) -> None:
            assert error is None
            if seq < 5:
                book.journal.append(Row(RoomKey("", "a"), 1, seq + 1, (Entry("", b"x"),)), again)

        again(0, None)
        await book.until(lambda: book.journal.counts.rows == 5)
        assert (await book.load("a")).last_seq == 5


async def test_a_full_disk_fails_everything_queued_and_heals(
    notebook: OpenNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLITE_FULL from the real library: no connection may make the file longer, then every one may."""
    full = False

    def open_writer(path: Path) -> sqlite3.Connection:
        connection = schema.open_writer(path)
        if full:
            connection.execute("PRAGMA max_page_count=1")
        return connection

    monkeypatch.setattr(writer_module, "open_writer", open_writer)
    async with notebook(retry_s=0.02) as book:
        book.append("a")
        await book.journal.flush()
        available: list[bool] = []
        book.journal.on_available = lambda: available.append(book.journal.available)
        full = True
        await book.pragma("max_page_count=1")  # what it has is the least SQLite accepts
        hold = threading.Event()
        book.journal._thread.submit(lambda _: hold.wait(5), lambda _: None)
        book.append("a", b"x" * 100_000)
        await asyncio.sleep(0.01)
        book.append("a")
        book.append("b")
        hold.set()
        await book.until(lambda: len(book.outcomes) == 4)
        assert (book.committed, book.failed) == ([("a", 1)], [("a", 2), ("a", 3), ("b", 1)])
        assert not book.journal.available
        assert "database or disk is full" in book.journal.reason
        since = book.journal.since
        assert since is not None
        with pytest.raises(Unavailable, match="database or disk is full"):
            book.append("c")
        assert (await book.reload("a")).last_seq == 1, "reading goes on"
        await asyncio.sleep(0.1)
        assert (book.journal.available, book.journal.since) == (False, since), "tried again, and as bad as before"
        full = False
        await book.until(lambda: book.journal.available)
        assert available == [True]
        assert (book.journal.reason, book.journal.since) == ("", None)
        book.append("a")
        book.seqs["b"] = 0
        book.append("b")
        await book.journal.flush()
        assert book.committed == [("a", 1), ("a", 2), ("b", 1)]
        assert [row.entries[0].update for row in (await book.load("a")).rows] == [b"a 1", b"a 2"]


async def test_a_room_that_did_not_start_over_cannot_go_on(notebook: OpenNotebook) -> None:
    """After a failed row 2 nobody may store row 3."""
    async with notebook(retry_s=0.01) as book:
        book.append("a")
        await book.journal.flush()
        broken = _BreakNext(book, commits=1)
        book.append("a")
        await book.until(lambda: broken.broke == 1)
        await book.until(lambda: book.journal.available)
        book.append("a")
        await book.journal.flush()
        assert (book.committed, book.failed) == ([("a", 1)], [("a", 2), ("a", 3)])


class _BreakNext:
    """The writer's next commits raise, after having reached the disk or before."""

    def __init__(self, book: Any, *, commits: int, after: bool = False) -> None:
        self.broke = 0
        writer: Writer = book.journal._writer
        real = writer._insert

        def insert(*args: Any) -> None:
            if self.broke == commits:
                real(*args)
                return
            self.broke += 1
            if after:
                real(*args)
            raise sqlite3.OperationalError("disk I/O error")

        writer._insert = insert  # type: ignore[method-assign]


async def test_rows_reported_as_failed_are_never_loaded(notebook: OpenNotebook) -> None:
    """The commit raised, but is on disk: what was told counts, before the disk works again and after."""
    async with notebook(retry_s=0.2) as book:
        book.append("a")
        await book.journal.flush()
        _BreakNext(book, commits=1, after=True)
        book.append("a", b"doubtful")
        await book.until(lambda: len(book.failed) == 1)
        assert (await book.reload("a")).last_seq == 1
        await book.until(lambda: book.journal.available)
        assert (await book.reload("a")).last_seq == 1
        book.append("a", b"again")
        await book.journal.flush()
        assert [row.entries[0].update for row in (await book.load("a")).rows] == [b"a 1", b"again"]


async def test_a_fault_of_our_own_is_an_outage_with_a_traceback(
    notebook: OpenNotebook, caplog: pytest.LogCaptureFixture
) -> None:
    async with notebook(retry_s=0.01) as book:
        odd = Row(RoomKey("", "a"), 1, 1, (Entry("ann", _BreaksInThreads(b"x")),))
        book.journal.append(odd, lambda *_: None)
        await book.until(lambda: book.journal.counts.commit_failures == 1)
        assert "Traceback" in caplog.text
        await book.until(lambda: book.journal.available)
        book.append("a")
        await book.journal.flush()
        assert book.committed == [("a", 1)]


class _BreaksInThreads(bytes):
    def __len__(self) -> int:
        if threading.current_thread() is not threading.main_thread():
            raise ZeroDivisionError
        return 1


async def test_the_loop_touches_no_sqlite(notebook: OpenNotebook) -> None:
    """Every statement of every connection is made in another thread than the loop's."""
    async with notebook(retry_s=0.01) as book:
        loop_thread = threading.get_ident()
        statements: list[tuple[int, str]] = []

        def trace(statement: str) -> None:
            statements.append((threading.get_ident(), statement))

        book.journal._writer._connection.set_trace_callback(trace)
        for connection in (pool := [book.journal._readers._connections.get() for _ in range(2)]):
            connection.set_trace_callback(trace)
        for connection in pool:
            book.journal._readers._connections.put(connection)
        for _ in range(3):
            book.append("a")
            book.append("b")
            await book.load("a")
        await book.journal.room(RoomKey("", "a"))
        await book.journal.rooms(tenant="", after=None, limit=3)
        _BreakNext(book, commits=1)
        book.append("a")
        await book.until(lambda: book.journal.available and len(book.failed) == 1)
    kinds = {statement.split()[0] for _, statement in statements}
    assert kinds >= {"BEGIN", "INSERT", "COMMIT", "SELECT", "DELETE", "PRAGMA"}
    assert [statement for thread, statement in statements if thread == loop_thread] == []


async def test_close_during_an_outage_ends(notebook: OpenNotebook) -> None:
    async with notebook(retry_s=0.01) as book:
        _BreakNext(book, commits=1)
        book.append("a")
        await book.until(lambda: len(book.failed) == 1)
    assert not book.journal.available
