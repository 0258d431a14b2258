"""Documents in other programs' files: raw Yjs updates, and the SQLite file of `@hocuspocus/extension-sqlite`.

Owns how rooms are named there and read from there, one at a time; what the bytes are worth is the gate's to say.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from crdt.errors import LocalError

UPDATE_SUFFIX: Final = ".yjs"

_SQLITE_HEADER: Final = b"SQLite format 3\0"


class Refused(LocalError):
    """This document can't be brought in, or out. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Source:
    """One document: the room it is for, and how to get its update (which may raise `Refused`)."""

    name: str
    read: Callable[[], bytes]


def find_sources(path: Path, room: str | None) -> Iterator[Source | Refused]:
    """The documents in a file or a folder, in order of their names; what can't even be named as the reason why not.

    `room` is the name to take for a file that holds one document, instead of the file's own.
    """
    if path.is_dir():
        # Files only this deep: a name with a slash is written `%2F`, so a folder in it is somebody else's.
        for file in sorted(path.glob(f"*{UPDATE_SUFFIX}")):
            yield _file_source(file, None)
        return
    try:
        with path.open("rb") as opened:
            is_database = opened.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER
    except OSError as error:
        yield Refused(f"{path} can't be read: {_reason(error)}")
        return
    if is_database:
        yield from _database_sources(path)
    else:
        yield _file_source(path, room)


def file_name(room: str, suffix: str) -> str:
    """The file a room is written to: percent-encoded, so that it has no separator, and comes back by `room_name`."""
    # Letters, digits, `_`, `-` and `~` stay. A dot is encoded where it would hide the file or name a folder.
    encoded = quote(room, safe="")
    return (f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded) + suffix


def room_name(file: str) -> str:
    """The room that `file_name` made a file of. Raises `Refused` if it can't have."""
    try:
        return unquote_to_bytes(file.removesuffix(UPDATE_SUFFIX)).decode()
    except UnicodeDecodeError:
        raise Refused(f"the name of file {file!r} is not UTF-8 when decoded") from None


def _file_source(path: Path, room: str | None) -> Source | Refused:
    try:
        return Source(room_name(path.name) if room is None else room, partial(_read_file, path))
    except Refused as error:
        return error


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} can't be read: {_reason(error)}") from error


def _database_sources(path: Path) -> Iterator[Source | Refused]:
    """The table `documents (name, data)`, `data` being the whole document as one update (extension-sqlite 4.7.0)."""
    try:
        with closing(_connect(path)) as connection:
            names = connection.execute('SELECT rowid, name FROM "documents" ORDER BY name').fetchall()
    except sqlite3.Error as error:
        yield Refused(f"{path} is no database of @hocuspocus/extension-sqlite: {error}")
        return
    for rowid, name in names:
        if isinstance(name, str):
            yield Source(name, partial(_read_database, path, rowid))
        else:
            yield Refused(f"row {rowid} of {path} has no text for a name")


def _read_database(path: Path, rowid: int) -> bytes:
    try:
        with closing(_connect(path)) as connection:
            found = connection.execute('SELECT data FROM "documents" WHERE rowid = ?', (rowid,)).fetchone()
    except sqlite3.Error as error:
        raise Refused(f"{path} can't be read: {error}") from error
    if found is None or not isinstance(found[0], bytes):
        raise Refused(f"row {rowid} of {path} holds no bytes")
    return found[0]


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
