"""server/store/schema.py: who may open the file, and what becomes of older ones."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.store import schema
from server.store.readers import find_room, read_room
from server.store.schema import FolderLock, Unreadable, open_reader, open_writer


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file_is_durable_and_ours(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "journal.db")
    assert pragma(connection, "journal_mode") == "wal"
    assert pragma(connection, "synchronous") == 2, "FULL: an fsync per commit"
    assert pragma(connection, "busy_timeout") == schema.BUSY_TIMEOUT_MS
    assert pragma(connection, "application_id") == schema.APPLICATION_ID
    assert pragma(connection, "user_version") == len(schema.MIGRATIONS)
    connection.close()


def test_each_journal_has_its_own_log_id(tmp_path: Path) -> None:
    ids = set()
    for name in ("a.db", "b.db", "a.db"):
        connection = open_writer(tmp_path / name)
        ids.add(connection.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()[0])
        connection.close()
    assert len(ids) == 2, "random per file, kept when it is opened again"


def test_synchronous_is_a_constant_tests_can_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "SYNCHRONOUS", "OFF")
    connection = open_writer(tmp_path / "journal.db")
    assert pragma(connection, "synchronous") == 0
    connection.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    open_writer(tmp_path / "journal.db").close()
    connection = open_reader(tmp_path / "journal.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO meta VALUES ('a', 1)")
    connection.close()


@pytest.mark.parametrize("open_file", [open_writer, open_reader])
def test_another_programs_file_is_refused(tmp_path: Path, open_file: Callable[[Path], sqlite3.Connection]) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE documents (name)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Unreadable, match="another program's SQLite file"):
        open_file(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("open_file", [open_writer, open_reader])
def test_a_newer_version_is_refused(tmp_path: Path, open_file: Callable[[Path], sqlite3.Connection]) -> None:
    path = tmp_path / "journal.db"
    connection = open_writer(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(Unreadable, match=r"schema version 99, this program reads up to \d+: start a newer version"):
        open_file(path)


def test_what_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, " * 400)
    with pytest.raises(Unavailable, match="file is not a database"):
        open_writer(path)
    assert path.read_bytes() == b"not a database, " * 400


def test_an_empty_file_left_by_a_crash_is_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch()
    connection = open_writer(tmp_path / "journal.db")
    assert pragma(connection, "user_version") == len(schema.MIGRATIONS)
    connection.close()


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="can't be opened"):
        open_reader(tmp_path / "journal.db")
    assert not (tmp_path / "journal.db").exists()


def test_version_1_is_read(build_version_1: Callable[[], Path]) -> None:
    path = build_version_1()
    open_writer(path).close()
    connection = open_reader(path)
    stored = read_room(connection, RoomKey("", "notes")).stored()
    assert stored.snapshot is not None
    assert (stored.snapshot.seq, stored.snapshot.slices) == (7, (b"\0\0",))
    assert [(row.seq, [entry.author for entry in row.entries]) for row in stored.rows] == [
        (8, ["ann"]),
        (9, ["ann", "bob"]),
    ]
    record = find_room(connection, RoomKey("acme", "plan"))
    assert record is not None
    assert (record.last_seq, record.rows, record.updated_at) == (1, 1, 1700000010.0)
    connection.close()


def test_a_migration_runs_once_and_keeps_everything(
    build_version_1: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_version_1()
    runs: list[int] = []

    def add_color(connection: sqlite3.Connection) -> None:
        runs.append(pragma(connection, "user_version"))
        connection.execute("ALTER TABLE documents ADD COLUMN color TEXT")

    monkeypatch.setattr(schema, "MIGRATIONS", (schema._create_version_1, add_color))
    with pytest.raises(Unreadable, match="schema version 1, not yet 2: start a node on it once"):
        open_reader(path)
    open_writer(path).close()
    connection = open_writer(path)
    assert runs == [1]
    assert pragma(connection, "user_version") == 2
    assert connection.execute("SELECT name, color FROM documents ORDER BY room").fetchall() == [
        ("notes", None),
        ("plan", None),
    ]
    assert connection.execute("SELECT count(*) FROM updates").fetchone() == (3,)
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    build_version_1: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_version_1()

    def fails_late(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE conflicts")
        connection.execute("DELETE FROM updates")
        connection.execute("SELECT no_such_column FROM documents")

    original = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*original, fails_late))
    with pytest.raises(Unavailable, match="no such column"):
        open_writer(path)
    monkeypatch.setattr(schema, "MIGRATIONS", original)
    connection = open_writer(path)
    assert connection.execute("SELECT count(*) FROM updates").fetchone() == (3,)
    assert connection.execute("SELECT count(*) FROM conflicts").fetchone() == (0,)
    connection.close()


def test_one_process_holds_the_folder(folder: Path) -> None:
    with FolderLock(folder):
        with pytest.raises(Unavailable, match=rf"in use by another node \(process {os.getpid()}\)"):
            FolderLock(folder)
        script = "import sys, pathlib, server.store.schema as s; s.FolderLock(pathlib.Path(sys.argv[1]))"
        other = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
        assert f"Unavailable: data folder {folder} is in use by another node (process {os.getpid()})" in other.stderr
    FolderLock(folder).release()


def test_the_lock_of_a_dead_process_is_gone(folder: Path) -> None:
    script = "import sys, os, pathlib, server.store.schema as s; s.FolderLock(pathlib.Path(sys.argv[1])); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, folder], check=False).returncode == 9
    FolderLock(folder).release()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"data folder .*file/data can't be used: Not a directory"):
        FolderLock(tmp_path / "file" / "data")
