"""`tutti import` and `tutti export`: documents into a data folder, and out of it as files.

An import goes the way of any edit: through the gate, into the journal, to the disk. A document is one row, so it is
stored whole or not at all, and one that is there already adds nothing. It needs the folder for itself; an export only
reads, beside a running node if there is one. Both go on after a document they can't do, say why, and end with 1.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import orjson

from crdt.errors import RemoteError, TuttiError, Unavailable
from crdt.gate import GateLimits
from crdt.joining import for_stored
from crdt.views import ViewKind, read_json
from server.configuration import load
from server.room.key import RoomKey
from server.room.rows import Entry, Row, StoredRoom
from server.settings import Settings, SettingsError
from server.store.compaction import whole_update
from server.store.journal import Journal
from server.store.readers import page_rooms, read_room
from server.store.rebuild import OWNER, rebuild, replay
from server.store.schema import JOURNAL_FILE, open_reader
from server.store.sources import UPDATE_SUFFIX, Refused, Source, file_name, find_sources

IMPORT_AUTHOR: Final = "import"
"""Who an imported update is from, in the journal."""

INTERRUPTED: Final = 130
"""128 + SIGINT, the way shells report it."""

PROGRESS_INTERVAL_S: Final = 1.0

ROOMS_PER_PAGE: Final = 500

_LIMITS: Final = for_stored(GateLimits())
"""A document of one's own is as large as it is; the depths that would end a process still hold."""

_NEVER: Final = 2**62
"""No compaction while importing: an imported document is as compact as it came."""

_SUFFIXES: Final = {"yjs": UPDATE_SUFFIX, "json": ".json", "text": ".txt"}

_VIEWS: Final[tuple[ViewKind, ...]] = ("prosemirror", "xml", "text", "delta", "map", "array")


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be typed behind `tutti import`."""
    _add_folder_arguments(parser)
    parser.add_argument(
        "--room", metavar="NAME", help="Room for the one file named. Without: the file's name, decoded."
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        type=Path,
        help="A .yjs file (one Yjs v1 update), a folder of them, or the SQLite file of @hocuspocus/extension-sqlite.",
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be typed behind `tutti export`."""
    _add_folder_arguments(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--room", metavar="NAME", help="The one room to write.")
    which.add_argument("--all", action="store_true", help="Every room.")
    parser.add_argument("--format", choices=tuple(_SUFFIXES), default="yjs", help="What to write (default yjs).")
    parser.add_argument("--root", metavar="NAME", default="default", help="For json and text: which root to read.")
    parser.add_argument("--as", dest="view", choices=_VIEWS, default="prosemirror", help="For json: read as what.")
    parser.add_argument("--force", action="store_true", help="Write over files that exist.")
    parser.add_argument(
        "target", metavar="FOLDER", type=Path, help="Folder to write into, made if missing. With --room, - is stdout."
    )


def run_import(namespace: argparse.Namespace) -> int:
    """Bring documents in; the exit code."""
    settings = _settings(namespace)
    found = [source for path in namespace.paths for source in find_sources(path, namespace.room)]
    if namespace.room is not None and (len(found) != 1 or namespace.paths[0].is_dir()):
        raise SettingsError("--room goes with one .yjs file")
    try:
        journal = Journal.open(settings.data_dir, compact_rows_min=_NEVER, compact_bytes_min=_NEVER)
    except TuttiError as error:
        _say(f"tutti import: {error}")
        return 1
    return asyncio.run(_Import(settings, journal, found).run())


def run_export(namespace: argparse.Namespace) -> int:
    """Write documents out; the exit code."""
    settings = _settings(namespace)
    path = settings.data_dir / JOURNAL_FILE
    to_stdout = str(namespace.target) == "-"
    if to_stdout and namespace.room is None:
        raise SettingsError("- goes with --room: many documents need a folder")
    failed = written = 0
    try:
        if not to_stdout:
            namespace.target.mkdir(parents=True, exist_ok=True)
        for name in _names(path) if namespace.all else (namespace.room,):
            try:
                _export(path, name, namespace, to_stdout=to_stdout)
                written += 1
            except TuttiError as error:
                _say(f"tutti export: room {name!r}: {error}")
                failed += 1
    except (TuttiError, OSError) as error:
        _say(f"tutti export: {error}")
        return 1
    if not to_stdout:
        _say(f"{written} rooms written to {namespace.target}" + (f", {failed} not" if failed else ""))
    return 1 if failed else 0


class _Import:
    """One run. Ctrl-C ends it after the document it is at; a second one at once."""

    def __init__(self, settings: Settings, journal: Journal, found: list[Source | Refused]) -> None:
        self._settings = settings
        self._journal = journal
        self._found = found
        self._stopped = False
        self._added = self._known = self._failed = self._bytes = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._journal.start(loop)
        loop.add_signal_handler(signal.SIGINT, self._stop, loop)
        told_at = time.monotonic()
        try:
            for done, source in enumerate(self._found):
                # Nothing here waits but for the disk: give a signal its chance to be heard.
                await asyncio.sleep(0)
                if self._stopped:
                    break
                if time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
                    told_at = time.monotonic()
                    _say(f"{done} of {len(self._found)} documents, {self._bytes} bytes")
                await self._take(source)
        except Unavailable as error:
            _say(f"tutti import: {error}")
            self._failed += 1
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            await self._journal.close()
        _say(f"{self._added} imported, {self._known} there already, {self._failed} refused, {self._bytes} bytes read")
        if self._stopped:
            left = len(self._found) - self._added - self._known - self._failed
            _say(f"stopped by request, {left} documents left: run it again, what is there adds nothing")
            return INTERRUPTED
        return 1 if self._failed else 0

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stopped = True
        loop.remove_signal_handler(signal.SIGINT)

    async def _take(self, source: Source | Refused) -> None:
        try:
            if isinstance(source, Refused):
                raise source
            try:
                if await self._store(source):
                    self._added += 1
                else:
                    self._known += 1
            except (Refused, RemoteError) as error:
                raise Refused(f"room {source.name!r}: {error}") from error
        except Refused as error:
            _say(f"tutti import: {error}")
            self._failed += 1

    async def _store(self, source: Source) -> bool:
        """Whether anything was new. Raises `Refused` or `RemoteError`, and `Unavailable` when the disk fails."""
        _check_name(source.name, self._settings.room_name_bytes_max)
        update = source.read()
        self._bytes += len(update)
        limit = self._settings.document_bytes_max
        if len(update) > limit:
            raise Refused(f"document is {len(update)} bytes, limit is {limit}")
        key = RoomKey("", source.name)
        stored = await self._journal.load(key)
        entries = _entries(stored)
        admission = replay(key, entries, _LIMITS).gate.admit(update, ref=len(entries), owner=OWNER)
        if not admission.journal:
            return False
        parts = admission.updates
        if admission.waiting:
            # The raw bytes hold what waits, and must pass a node's gate as one update when it loads the room.
            if len(update) > self._settings.message_bytes_max:
                raise Refused(f"document lacks edits it refers to, and is {len(update)} bytes, too large to be held")
            _say(f"room {source.name!r} lacks edits it refers to: a part of it shows when they come")
            parts = (update,)
        done = asyncio.get_running_loop().create_future()
        row = Row(key, stored.generation, stored.last_seq + 1, tuple(Entry(IMPORT_AUTHOR, part) for part in parts))
        self._journal.append(row, lambda _, error: done.set_result(error))
        await self._journal.flush()
        error: Unavailable | None = await done
        if error is not None:
            raise error
        return True


def _entries(stored: StoredRoom) -> list[Entry]:
    slices = stored.snapshot.slices if stored.snapshot is not None else ()
    return [*(Entry("", part) for part in slices), *(entry for row in stored.rows for entry in row.entries)]


def _check_name(name: str, bytes_max: int) -> None:
    """A name no client could ask for would be a document nobody can open."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Refused("its name is not valid Unicode") from None
    if not size:
        raise Refused("its name is empty")
    if size > bytes_max:
        raise Refused(f"its name is {size} bytes, limit is {bytes_max}")
    if "\0" in name:
        raise Refused("its name holds a NUL")


def _names(path: Path) -> Iterator[str]:
    """All rooms, page by page: a reading transaction must not stay open for as long as an export takes."""
    after: str | None = None
    while True:
        with closing(open_reader(path)) as connection:
            page = page_rooms(connection, "", after, ROOMS_PER_PAGE)
        for record in page:
            yield record.key.name
        if not page:
            return
        after = page[-1].key.name


def _export(path: Path, name: str, namespace: argparse.Namespace, *, to_stdout: bool) -> None:
    target = namespace.target / file_name(name, _SUFFIXES[namespace.format])
    if not to_stdout and not namespace.force and _exists(target):
        raise Refused(f"{target} exists, --force writes over it")
    with closing(open_reader(path)) as connection:
        contents = read_room(connection, RoomKey("", name))
    if contents.snapshot is None and not contents.rows:
        raise Refused("there is no such room")
    room = rebuild(contents, _LIMITS)
    if room.held:
        _say(f"room {name!r}: {len(room.held)} updates wait for others that never came, and are left out")
    update = whole_update(room)
    match namespace.format:
        case "yjs":
            data = update
        case "json":
            data = orjson.dumps(read_json(update, namespace.root, namespace.view), option=orjson.OPT_APPEND_NEWLINE)
        case _:
            data = str(read_json(update, namespace.root, "text")).encode()
    if to_stdout:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        _write_file(target, data)


def _exists(target: Path) -> bool:
    try:
        return target.exists()
    except OSError:
        # Too long a name, mostly: writing it says so.
        return False


def _write_file(target: Path, data: bytes) -> None:
    """All of it under its name, or nothing."""
    partial = target.with_name(f".tutti-{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Refused(f"{target} can't be written: {(error.strerror or str(error)).lower()}") from error


def _add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    where = "Data folder (default: as `tutti serve` finds it)."
    parser.add_argument("--data-dir", metavar="FOLDER", default=argparse.SUPPRESS, help=where)
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="Settings file (TOML).")


def _settings(namespace: argparse.Namespace) -> Settings:
    flags = {name: value for name, value in vars(namespace).items() if name in {"data_dir", "config"}}
    return load(flags, os.environ)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201 - a command's answer to who typed it
