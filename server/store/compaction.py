"""A snapshot for a room's rows, and the proof that nothing is lost with them (R3). Runs in a worker process.

Two forms are tried. *Squashed* is what the document itself gives back: blocks joined, deleted text collected; it is the
room only if it shows the same, which is found out without pycrdt (`visible`). *Joined* is the raw updates side by side
(`joining`): larger, its blocks the same bytes; for rooms where pycrdt changes something when it writes it anew. Either is replayed through a fresh gate and must arrive at the same clocks, the
same deletions, and wait for the same. What can't be proven is not dropped.

Updates that still wait for something have taken no effect, so no slice holds them: they go into the snapshot as they
were sent, with their authors, and are held again by whoever replays it. So a snapshot stands for all rows up to its
sequence, whatever waits.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from crdt.errors import LocalError, TuttiError, Unavailable
from crdt.gate import GateLimits
from crdt.joining import blocks_by_client, for_stored, join
from crdt.merge import join_updates
from crdt.slices import slice_update
from server.room.key import RoomKey
from server.room.rows import Entry
from server.store.codec import encode_snapshot
from server.store.readers import RoomContents, read_room
from server.store.rebuild import Rebuilt, rebuild, replay
from server.store.schema import open_reader
from server.store.visible import pieces


@dataclass(frozen=True, slots=True)
class Compacted:
    """A proven snapshot that stands for the rows from `from_seq` (exclusive, the snapshot before it) to `seq`."""

    generation: int
    from_seq: int
    seq: int
    blob: bytes
    squashed: bool
    """False if it is the joined raw updates, because pycrdt's own form would lose something."""


def compact_room(path: Path, key: RoomKey, limits: GateLimits) -> Compacted | str:
    """Read a room through a connection of its own and make a snapshot of all of it, or say why not.

    Raises `Unavailable` when the disk fails, `Unreadable` for stored bytes this version can't read.
    """
    try:
        with closing(open_reader(path)) as connection:
            contents = read_room(connection, key)
    except sqlite3.Error as error:
        raise Unavailable(f"the journal can't be read: {error}") from error
    if not contents.rows:
        return "it has no rows after its snapshot"
    return compact(contents, limits)


class Unproven(LocalError):
    """This form of the room would not be the room."""


def compact(contents: RoomContents, limits: GateLimits) -> Compacted | str:
    """The same for what was read already."""
    original = rebuild(contents, limits)
    faults: list[str] = []
    for squashed, make in ((True, _squash), (False, _join)):
        try:
            slices = make(original, limits)
            _prove_replay(contents.key, original, slices, limits)
        except TuttiError as error:
            faults.append(str(error))
            continue
        from_seq = contents.snapshot.seq if contents.snapshot is not None else 0
        blob = encode_snapshot(slices, original.held)
        return Compacted(contents.generation, from_seq, contents.rows[-1].seq, blob, squashed)
    return "no snapshot of it could be proven: " + "; ".join(faults)


def whole_update(original: Rebuilt) -> bytes:
    """The room as one update that loses nothing: what a new client would be sent, where that is so."""
    try:
        return _squashed_update(original)
    except TuttiError:
        return join_updates(original.updates)


def _squash(original: Rebuilt, limits: GateLimits) -> list[bytes]:
    """The document in its most compact form. Raises `Unproven` unless it shows what the raw updates show."""
    update = _squashed_update(original)
    slices = slice_update(update, for_stored(limits))
    if blocks_by_client(slices, limits) != blocks_by_client([update], limits):
        raise Unproven("slicing it would change its blocks")
    return slices


def _squashed_update(original: Rebuilt) -> bytes:
    document = original.document()
    # Where an edit cut a surrogate pair its halves are U+FFFD by now, and pycrdt may hold the document again.
    document.revive()
    if document.clocks() != original.gate.clocks or not document.is_whole():
        raise Unproven("a document made of it would lack clocks")
    update = document.full()
    for was, would_be in zip_longest(pieces(join_updates(original.updates)), pieces(update)):
        if was != would_be:
            raise Unproven("its content would differ")
    return update


def _join(original: Rebuilt, limits: GateLimits) -> list[bytes]:
    """The raw updates side by side. Raises `Unproven` unless each client's blocks are the same bytes."""
    slices = join(original.updates, limits)
    if blocks_by_client(slices, limits) != blocks_by_client(original.updates, limits):
        raise Unproven("its blocks would differ")
    return slices


def _prove_replay(key: RoomKey, original: Rebuilt, slices: list[bytes], limits: GateLimits) -> None:
    """Raise `Unproven` unless slices and held updates, replayed as a room would, give the same state."""
    again = replay(key, [*(Entry("", part) for part in slices), *original.held], limits)
    before, after = original.gate, again.gate
    if after.clocks != before.clocks:
        raise Unproven(f"it would have {sum(after.clocks.values())} of {sum(before.clocks.values())} clocks")
    if after.digests() != before.digests():
        raise Unproven("its deletions would differ")
    if after.missing() != before.missing():
        raise Unproven("it would wait for other updates than now")
