"""server/store/readers.py: rooms whole, rooms by name."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store import readers
from server.store.codec import encode_snapshot
from server.store.readers import Readers, find_room, page_rooms, read_room
from server.store.schema import Unreadable, open_reader
from server.store.writer import Swap, Writer

KEY = RoomKey("", "a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    yield writer
    writer.close()


@pytest.fixture
def reader(writer: Writer, path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_reader(path)
    yield connection
    connection.close()


def rows(key: RoomKey, updates: list[bytes]) -> list[Row]:
    return [Row(key, 1, seq, (Entry("ann", update),)) for seq, update in enumerate(updates, start=1)]


def test_a_room_never_written_is_empty(reader: sqlite3.Connection) -> None:
    stored = read_room(reader, KEY).stored()
    assert (stored.generation, stored.snapshot, stored.rows, stored.last_seq) == (1, None, (), 0)
    assert find_room(reader, KEY) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=40) | st.binary(min_size=900, max_size=1100), min_size=1, max_size=20),
    st.integers(1, 6),
    st.integers(1, 3000),
)
def test_every_byte_comes_back_however_it_is_fetched(
    tmp_path_factory: pytest.TempPathFactory, updates: list[bytes], rows_per_step: int, bytes_per_step: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    writer = Writer(path)
    writer.commit(rows(KEY, updates) + rows(RoomKey("", "b"), [b"other"] * 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "ROWS_PER_STEP", rows_per_step)
        patch.setattr(readers, "BYTES_PER_STEP", bytes_per_step)
        connection = open_reader(path)
        contents = read_room(connection, KEY)
        up_to_two = read_room(connection, KEY, 2)
        connection.close()
    writer.close()
    assert [row.entries[0].update for row in contents.rows] == updates
    assert [row.seq for row in contents.rows] == list(range(1, len(updates) + 1))
    assert up_to_two.rows == contents.rows[:2]


def test_zero_bytes_do_not_end_a_row(writer: Writer, reader: sqlite3.Connection) -> None:
    updates = [b"\0" * 5, b"\0", b"", b"\xff\0\x80", bytes(range(256)) * 20]
    writer.commit(rows(KEY, updates))
    assert [row.entries[0].update for row in read_room(reader, KEY).rows] == updates


def test_a_missing_row_is_told_not_skipped(writer: Writer, reader: sqlite3.Connection) -> None:
    writer.commit(rows(KEY, [b"1", b"2", b"3"]))
    writer._connection.execute("DELETE FROM updates WHERE seq = 2")
    with pytest.raises(Unreadable, match="row 2 of room a is missing, the next one stored is 3"):
        read_room(reader, KEY)


def test_a_damaged_row_is_told_not_skipped(writer: Writer, reader: sqlite3.Connection) -> None:
    writer.commit(rows(KEY, [b"1", b"2", b"3"]))
    writer._connection.execute("UPDATE updates SET batch = x'0101' WHERE seq = 2")
    with pytest.raises(Unreadable, match="row 2 of room a is damaged"):
        read_room(reader, KEY)
    writer._connection.execute("UPDATE updates SET batch = x'09' WHERE seq = 2")
    with pytest.raises(Unreadable, match="row 2 of room a has version 9, this program reads up to 1"):
        read_room(reader, KEY)


def test_a_reader_sees_one_moment(writer: Writer, reader: sqlite3.Connection) -> None:
    """A swap between two statements of a read must not show: neither half a room, nor one without snapshot and rows."""
    writer.commit(rows(KEY, [b"1", b"2", b"3"]))
    swapped = []

    def swap_between(statement: str) -> None:
        if "FROM snapshots" in statement and not swapped:
            swapped.append(writer.swap(Swap(KEY, 1, 0, 3, encode_snapshot([b"abc"], []))))

    reader.set_trace_callback(swap_between)
    contents = read_room(reader, KEY)
    assert swapped == [True]
    assert (contents.snapshot, len(contents.rows)) == (None, 3)
    contents = read_room(reader, KEY)
    assert contents.snapshot is not None
    assert contents.rows == ()


def test_rooms_come_in_pages_by_name(writer: Writer, reader: sqlite3.Connection) -> None:
    names = ["", "a", "a/b", "b", "B", "é", "\U0001f600", "\uffff", "z"]
    for name in names:
        writer.commit(rows(RoomKey("", name), [b"x"]))
    writer.commit(rows(RoomKey("acme", "a"), [b"x"]))
    paged: list[str] = []
    after = None
    while page := page_rooms(reader, "", after, 2):
        paged += [record.key.name for record in page]
        after = paged[-1]
    assert paged == sorted(names, key=str.encode)
    assert [record.key for record in page_rooms(reader, "acme", None, 10)] == [RoomKey("acme", "a")]


def test_a_record_counts_what_is_stored(writer: Writer, reader: sqlite3.Connection) -> None:
    writer.commit(rows(KEY, [b"12345", b"1234567890", b"3"]))
    before = find_room(reader, KEY)
    assert before is not None
    assert (before.rows, before.last_seq, before.generation) == (3, 3, 1)
    assert before.bytes == 3 * len(b"\x01\x01\x03ann\x05") + 16
    assert before.created_at <= before.updated_at
    blob = encode_snapshot([b"abc"], [])
    writer.swap(Swap(KEY, 1, 0, 3, blob))
    after = find_room(reader, KEY)
    assert after is not None
    assert (after.rows, after.last_seq, after.bytes) == (0, 3, len(blob))
    assert after.updated_at == before.updated_at


async def test_readers_work_side_by_side(writer: Writer, path: Path) -> None:
    writer.commit(rows(KEY, [b"1"] * 50))
    pool = Readers(path, 2)
    try:
        found = await asyncio.gather(*(pool.run(read_room, KEY) for _ in range(20)))
        assert all(len(contents.rows) == 50 for contents in found)
        with pytest.raises(Unavailable, match="the journal can't be read: no such table: missing"):
            await pool.run(lambda connection: connection.execute("SELECT * FROM missing"))
        assert len((await pool.run(read_room, KEY)).rows) == 50
    finally:
        pool.close()
