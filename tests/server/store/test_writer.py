"""server/store/writer.py: what one transaction keeps, and what it must not."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store import writer as writer_module
from server.store.codec import encode_snapshot
from server.store.readers import find_room, read_room
from server.store.schema import open_reader
from server.store.writer import RowRefused, Swap, Writer, WriterThread


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    yield writer
    writer.close()


def row(name: str, seq: int, *, generation: int = 1) -> Row:
    return Row(RoomKey("", name), generation, seq, (Entry("ann", b"update %d" % seq),))


def stored(path: Path, name: str) -> list[int]:
    connection = open_reader(path)
    try:
        return [row.seq for row in read_room(connection, RoomKey("", name)).rows]
    finally:
        connection.close()


class FailingConnection:
    """A connection whose statements that start with `fails_on` raise, before or after they took effect."""

    def __init__(self, real: sqlite3.Connection, fails_on: str, *, after: bool = False) -> None:
        self._real, self.fails_on, self.after = real, fails_on, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
        if self.fails_on and sql.startswith(self.fails_on):
            if self.after:
                self._real.execute(sql, *args)
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(sql, *args)


def fail(writer: Writer, fails_on: str, *, after: bool = False) -> FailingConnection:
    failing = FailingConnection(writer._connection, fails_on, after=after)
    writer._connection = failing  # type: ignore[assignment]
    return failing


def test_rows_of_many_rooms_are_kept_together(writer: Writer, path: Path) -> None:
    assert writer.commit([row("a", 1), row("b", 1), row("a", 2)]) == [None] * 3
    assert (stored(path, "a"), stored(path, "b")) == ([1, 2], [1])


@pytest.mark.parametrize("count", [1, 99, 100, 101, 350])
def test_any_number_of_rows(writer: Writer, path: Path, count: int) -> None:
    writer.commit([row("b", 1)])
    assert writer.commit([row("a", seq) for seq in range(1, count + 1)]) == [None] * count
    assert writer.commit([row("b", seq) for seq in range(2, count + 2)]) == [None] * count
    assert (len(stored(path, "a")), len(stored(path, "b"))) == (count, count + 1)


def test_a_gap_costs_its_room_only(writer: Writer, path: Path) -> None:
    verdicts = writer.commit([row("a", 1), row("b", 1), row("a", 3), row("a", 2), row("b", 2)])
    assert [verdict is None for verdict in verdicts] == [True, True, False, False, True]
    assert "row 3 of room a does not follow 1, the last one stored" in str(verdicts[2])
    assert stored(path, "a") == [1], "row 2 came after a failed one: its room must start over first"
    assert stored(path, "b") == [1, 2]
    assert writer.commit([row("a", 2)]) == [None]


def test_a_row_already_stored_is_refused(writer: Writer, path: Path) -> None:
    writer.commit([row("a", 1)])
    assert isinstance(writer.commit([row("a", 1)])[0], RowRefused)
    assert stored(path, "a") == [1]


def test_a_refused_row_makes_no_room(writer: Writer, path: Path) -> None:
    assert isinstance(writer.commit([row("new", 2), row("b", 1)])[0], RowRefused)
    connection = open_reader(path)
    assert find_room(connection, RoomKey("", "new")) is None
    connection.close()


def test_another_generation_is_refused(writer: Writer) -> None:
    (verdict,) = writer.commit([row("a", 1, generation=2)])
    assert "row 1 of room a is of generation 2, the journal's is 1" in str(verdict)


def test_a_name_that_is_no_text_costs_its_room_only(writer: Writer, path: Path) -> None:
    verdicts = writer.commit([row("\ud800", 1), row("b", 1)])
    assert isinstance(verdicts[0], RowRefused)
    assert stored(path, "b") == [1]


def test_the_last_seq_is_found_again(writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "HEADS_MAX", 2)
    for seq in (1, 2, 3):
        assert writer.commit([row(name, seq) for name in "abcde"]) == [None] * 5
    assert len(writer._heads) == 2
    again = Writer(path)
    assert again.commit([row("a", 4)]) == [None]
    again.close()


def test_the_last_seq_is_found_behind_a_snapshot(writer: Writer, path: Path) -> None:
    writer.commit([row("a", seq) for seq in (1, 2, 3)])
    assert writer.swap(Swap(RoomKey("", "a"), 1, 0, 3, encode_snapshot([b"\0\0"], [])))
    again = Writer(path)
    assert isinstance(again.commit([row("a", 1)])[0], RowRefused)
    assert again.commit([row("a", 4)]) == [None]
    again.close()


@pytest.mark.parametrize("fails_on", ["BEGIN", "INSERT INTO documents", "INSERT INTO updates", "COMMIT", "SELECT"])
def test_a_failed_commit_keeps_nothing(writer: Writer, path: Path, fails_on: str) -> None:
    writer.commit([row("a", 1)])
    writer._heads.clear()
    failing = fail(writer, fails_on)
    with pytest.raises(sqlite3.OperationalError):
        writer.commit([row("a", 2), row("new", 1)])
    failing.fails_on = ""
    assert (stored(path, "a"), stored(path, "new")) == ([1], [])
    writer.probe()
    assert writer.doubtful == {}
    assert writer.commit([row("a", 2), row("new", 1)]) == [None, None]


@pytest.mark.parametrize("new", [False, True])
def test_a_failed_commit_that_is_on_disk_all_the_same_is_undone_by_the_probe(
    writer: Writer, path: Path, *, new: bool
) -> None:
    writer.commit([row("a", 1)])
    failing = fail(writer, "COMMIT" if new else "INSERT INTO updates", after=True)
    with pytest.raises(sqlite3.OperationalError):
        writer.commit([row("a", 2), row("new", 1)] if new else [row("a", 2)])
    failing.fails_on = ""
    assert stored(path, "a") == [1, 2], "the case: reported as failed, and there"
    assert writer.doubtful == ({RoomKey("", "a"): 1, RoomKey("", "new"): 0} if new else {RoomKey("", "a"): 1})
    assert not writer.swap(Swap(RoomKey("", "a"), 1, 0, 2, b"")), "a snapshot may hold what does not count"
    writer.probe()
    assert (stored(path, "a"), stored(path, "new")) == ([1], [])
    assert writer.commit([row("a", 2), row("new", 1)]) == [None, None]


def test_a_second_failure_keeps_the_first_ones_place(writer: Writer) -> None:
    writer.commit([row("a", 1)])
    fail(writer, "INSERT INTO updates", after=True)
    for seq in (2, 3):
        with pytest.raises(sqlite3.OperationalError):
            writer.commit([row("a", seq)])
    assert writer.doubtful == {RoomKey("", "a"): 1}


def test_a_connection_that_failed_a_probe_is_replaced(writer: Writer, path: Path) -> None:
    writer.commit([row("a", 1)])
    failing = fail(writer, "BEGIN")
    for _ in range(2):
        try:
            writer.probe()
        except sqlite3.OperationalError:
            continue
    assert writer._connection is not failing
    assert writer.commit([row("a", 2)]) == [None]


def test_a_probe_leaves_nothing_behind(writer: Writer, path: Path) -> None:
    writer.probe()
    connection = open_reader(path)
    assert connection.execute("SELECT name FROM meta WHERE name = 'probe'").fetchall() == []
    connection.close()


def test_a_swap_puts_the_snapshot_in_and_takes_its_rows_out(writer: Writer, path: Path) -> None:
    writer.commit([row("a", seq) for seq in range(1, 6)] + [row("b", 1)])
    assert writer.swap(Swap(RoomKey("", "a"), 1, 0, 3, encode_snapshot([b"abc"], [])))
    connection = open_reader(path)
    contents = read_room(connection, RoomKey("", "a"))
    assert contents.snapshot is not None
    assert (contents.snapshot.seq, contents.snapshot.slices) == (3, (b"abc",))
    assert [row.seq for row in contents.rows] == [4, 5]
    connection.close()
    assert stored(path, "b") == [1]
    assert writer.swap(Swap(RoomKey("", "a"), 1, 3, 5, encode_snapshot([b"abcd"], []))), "the next one from there"


@pytest.mark.parametrize(
    "swap",
    [
        Swap(RoomKey("", "a"), 2, 0, 3, b"x"),
        Swap(RoomKey("", "a"), 1, 1, 3, b"x"),
        Swap(RoomKey("", "a"), 1, 0, 9, b"x"),
        Swap(RoomKey("", "none"), 1, 0, 3, b"x"),
        Swap(RoomKey("t", "a"), 1, 0, 3, b"x"),
    ],
    ids=["generation", "snapshot", "seq", "room", "tenant"],
)
def test_a_swap_of_something_else_changes_nothing(writer: Writer, path: Path, swap: Swap) -> None:
    writer.commit([row("a", seq) for seq in range(1, 6)])
    assert not writer.swap(swap)
    assert stored(path, "a") == [1, 2, 3, 4, 5]
    assert writer.commit([row("a", 6)]) == [None], "no transaction stays open"


@pytest.mark.parametrize("fails_on", ["BEGIN", "INSERT OR REPLACE INTO snapshots", "DELETE", "COMMIT"])
def test_a_swap_that_fails_at_any_step_changes_nothing(writer: Writer, path: Path, fails_on: str) -> None:
    writer.commit([row("a", seq) for seq in range(1, 6)])
    failing = fail(writer, fails_on)
    with pytest.raises(sqlite3.OperationalError):
        writer.swap(Swap(RoomKey("", "a"), 1, 0, 3, encode_snapshot([b"abc"], [])))
    failing.fails_on = ""
    assert stored(path, "a") == [1, 2, 3, 4, 5]
    assert writer.commit([row("a", 6)]) == [None]


async def test_the_thread_brings_outcomes_in_order(path: Path) -> None:
    outcomes: list[object] = []
    thread = WriterThread(Writer(path), asyncio.get_running_loop())
    thread.submit(lambda writer: writer.commit([row("a", 1)]), outcomes.append)
    thread.submit(lambda _: 1 / 0, outcomes.append)
    thread.submit(lambda _: "last", outcomes.append)
    thread.stop()
    await asyncio.to_thread(thread.join)
    assert outcomes[0] == [None]
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert outcomes[2] == "last"


def test_the_thread_ends_when_its_loop_was_closed(path: Path) -> None:
    loop = asyncio.new_event_loop()
    thread = WriterThread(Writer(path), loop)
    loop.close()
    thread.submit(lambda writer: writer.commit([row("a", 1)]), lambda _: None)
    thread.join()
    assert stored(path, "a") == [1]
