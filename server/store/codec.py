"""The bytes of the journal's blobs: a row's batch of updates, a snapshot's slices.

    batch     version, count, count x (author varString, update varBytes)
    snapshot  version, count, count x slice varBytes, count, count x (author varString, update varBytes)

The second list of a snapshot holds, byte for byte, the updates that were still waiting for something when it was made:
they have not taken effect, so no slice contains them. The version byte is the first (R18). Decoding is strict: what
doesn't decode raises `Unreadable` naming room and sequence, it is never skipped and never repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from crdt.errors import LocalError, Malformed
from crdt.varint import Reader, encode_bytes, encode_string, encode_uint
from server.room.key import RoomKey
from server.room.rows import Entry, Row, Snapshot
from server.store.schema import Unreadable

BATCH_VERSION: Final = 1
SNAPSHOT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as the journal keeps it: `held` updates still have their authors."""

    seq: int
    slices: tuple[bytes, ...]
    held: tuple[Entry, ...]

    def replayable(self) -> Snapshot:
        """As a room loads it: the held updates come last, and the room's gate holds them again."""
        return Snapshot(self.seq, self.slices + tuple(entry.update for entry in self.held))


def encode_batch(entries: tuple[Entry, ...]) -> bytes:
    """The blob of one row."""
    if not entries:
        raise LocalError("a row needs at least one entry")
    parts = [encode_uint(BATCH_VERSION)]
    _append_entries(parts, entries)
    return b"".join(parts)


def decode_batch(key: RoomKey, generation: int, seq: int, blob: bytes) -> Row:
    """The row stored under (key, generation, seq). Raises `Unreadable`."""
    place = f"row {seq} of room {key}"
    reader = _open_blob(blob, BATCH_VERSION, place)
    try:
        entries = _entries(reader)
        reader.expect_end()
    except Malformed as error:
        raise Unreadable(f"{place} is damaged: {error.reason}") from error
    if not entries:
        raise Unreadable(f"{place} is damaged: it holds no update")
    return Row(key, generation, seq, entries)


def encode_snapshot(slices: Iterable[bytes], held: Iterable[Entry]) -> bytes:
    """The blob of a snapshot; its sequence stands in a column."""
    slices = tuple(slices)
    parts = [encode_uint(SNAPSHOT_VERSION), encode_uint(len(slices)), *map(encode_bytes, slices)]
    _append_entries(parts, tuple(held))
    return b"".join(parts)


def decode_snapshot(key: RoomKey, seq: int, blob: bytes) -> StoredSnapshot:
    """The snapshot stored for `key`. Raises `Unreadable`."""
    place = f"snapshot {seq} of room {key}"
    reader = _open_blob(blob, SNAPSHOT_VERSION, place)
    try:
        slices = tuple([reader.bytes_() for _ in range(reader.uint())])
        held = _entries(reader)
        reader.expect_end()
    except Malformed as error:
        raise Unreadable(f"{place} is damaged: {error.reason}") from error
    return StoredSnapshot(seq, slices, held)


def _append_entries(parts: list[bytes], entries: tuple[Entry, ...]) -> None:
    parts.append(encode_uint(len(entries)))
    for entry in entries:
        parts += (encode_string(entry.author), encode_uint(len(entry.update)), entry.update)


def _entries(reader: Reader) -> tuple[Entry, ...]:
    return tuple([Entry(reader.string(), reader.bytes_()) for _ in range(reader.uint())])


def _open_blob(blob: bytes, version_max: int, place: str) -> Reader:
    reader = Reader(blob)
    try:
        version = reader.uint()
    except Malformed as error:
        raise Unreadable(f"{place} is damaged: {error.reason}") from error
    if not 1 <= version <= version_max:
        raise Unreadable(f"{place} has version {version}, this program reads up to {version_max}")
    return reader
