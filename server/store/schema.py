"""The journal's file: what is in it, how it is opened, and by whom.

Owns the tables, their migrations, the pragmas every connection needs and the lock that keeps a second node out of the
data folder. Knows nothing of rooms in memory, threads or what a batch of updates looks like inside (`codec`).
All functions block: they run before the loop serves, in the writer's thread or in a reader's.

Theory: https://www.sqlite.org/wal.html (readers and one writer side by side; what FULL adds to a commit).
"""

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from crdt.errors import LocalError, Unavailable

JOURNAL_FILE: Final = "journal.db"
LOCK_FILE: Final = "journal.lock"

APPLICATION_ID: Final = 0x54757474
"""`Tutt` in the file's header, so that another program's SQLite file in the folder is refused, not migrated."""

SYNCHRONOUS: Final = "FULL"
"""Each commit ends with an fsync of the write-ahead log: what was reported committed survives a power cut (R4).
NORMAL would only sync at a checkpoint."""

BUSY_TIMEOUT_MS: Final = 5_000
"""How long to wait for a lock somebody else holds: an operator's `sqlite3` shell, a backup. No node shares the file."""

WAL_BYTES_KEPT: Final = 64 * 1024 * 1024
"""The write-ahead log is cut back to this after a checkpoint, when one large snapshot made it longer."""

STATEMENTS_CACHED: Final = 256
"""Prepared statements kept per connection: an insert exists once per number of rows (`writer.ROWS_PER_INSERT`)."""


class Unreadable(LocalError):
    """Bytes in the data folder that this version can't read. They are kept; trying again will not help."""


def _create_version_1(connection: sqlite3.Connection) -> None:
    """The first schema.

    `updates` keeps its rowid beside the unique (room, generation, seq): new rows of all rooms then fill the same last
    page. As a WITHOUT ROWID table, ordered by room, ten rows of ten rooms cost 99 KiB of writes a commit and 88 µs of
    CPU, so 50 KiB and 63 µs (1,000 rooms, 160-byte rows, SQLite 3.40). A load reads scattered pages instead, but one
    room has few rows between compactions. No foreign keys: one writer makes a room before its rows, and a check would
    cost a look-up for each row.
    """
    for statement in (
        """CREATE TABLE documents (
            room INTEGER PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL,
            created_at REAL NOT NULL, deleted_at REAL, UNIQUE (tenant, name))""",
        """CREATE TABLE updates (
            room INTEGER NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL, batch BLOB NOT NULL,
            at REAL NOT NULL, PRIMARY KEY (room, generation, seq))""",
        """CREATE TABLE snapshots (
            room INTEGER NOT NULL, generation INTEGER NOT NULL, seq INTEGER NOT NULL, slices BLOB NOT NULL,
            updated_at REAL NOT NULL, PRIMARY KEY (room, generation))""",
        # R15: the losing one of two contents at one clock. Readable, never replayed.
        """CREATE TABLE conflicts (
            id INTEGER PRIMARY KEY, room INTEGER NOT NULL, generation INTEGER NOT NULL, client INTEGER NOT NULL,
            clock INTEGER NOT NULL, author TEXT NOT NULL, content BLOB NOT NULL, at REAL NOT NULL)""",
        "CREATE INDEX conflicts_of_room ON conflicts (room, generation)",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(statement)
    # Random, so that an emptied or restored journal is told from the one it replaces (R14).
    connection.execute("INSERT INTO meta VALUES ('log_id', ?)", (secrets.token_hex(16),))
    connection.execute("INSERT INTO meta VALUES ('created_at', ?)", (time.time(),))


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create_version_1,)
"""Entry n takes a file from version n to n + 1, in one transaction with the new version number. Only ever appended to."""


class FolderLock:
    """The data folder, held by this process until `release` or its death: two writers would each break the other's seq."""

    def __init__(self, data_dir: Path) -> None:
        """Raises `Unavailable` with the holder's process id when the folder is taken or can't be written."""
        try:
            if not data_dir.is_dir():
                data_dir.mkdir(parents=True)
                # SQLite syncs the folder it makes files in, nobody the entry of that folder in its parent.
                _sync_folder(data_dir.parent)
            self._descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Unavailable(f"data folder {data_dir} can't be used: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace") or "unknown"
            os.close(self._descriptor)
            raise Unavailable(f"data folder {data_dir} is in use by another node (process {holder})") from None
        except OSError as error:
            os.close(self._descriptor)
            raise Unavailable(f"data folder {data_dir} can't be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let the next node in. The file stays: unlinking it would let two nodes lock two files of one name."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes, with the file brought to this version's schema. Autocommit; any thread.

    Raises `Unreadable` for a file of another program or a newer version, `Unavailable` when the disk fails.
    """
    connection = _connect(path, f"{path.absolute().as_uri()}?mode=rwc")
    try:
        _check_identity(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise Unavailable(f"{path} can't use a write-ahead log (mode is {mode}): is it on a network file system?")
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
        # Deleted rows are blanked only where that costs no extra write; builds with it fully on write each freed page.
        connection.execute("PRAGMA secure_delete=FAST")
        _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, of a file that has this version's schema already. Autocommit; any thread."""
    connection = _connect(path, f"{path.absolute().as_uri()}?mode=ro")
    try:
        version = _check_identity(connection, path)
        if version < len(MIGRATIONS):
            raise Unreadable(f"{path} has schema version {version}, not yet {len(MIGRATIONS)}: start a node on it once")
        connection.execute("PRAGMA query_only=ON")
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, uri: str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS_CACHED
        )
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return connection


def _unusable(path: Path, error: sqlite3.Error) -> Unavailable:
    return Unavailable(f"journal {path} can't be opened: {error}")


def _check_identity(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version, 0 for a new one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (changes,) = connection.execute("PRAGMA schema_version").fetchone()
    if application != APPLICATION_ID and (application or version or changes):
        raise Unreadable(f"{path} is another program's SQLite file (application id {application:#x})")
    if version > len(MIGRATIONS):
        raise Unreadable(
            f"{path} has schema version {version}, this program reads up to {len(MIGRATIONS)}: start a newer version"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for target, migration in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migration(connection)
            # Both numbers are part of the file's first page: they come and go with the transaction.
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={target}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
