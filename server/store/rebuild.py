"""A stored room brought to life outside the loop: replayed through a fresh gate into a fresh document.

Used by compaction and by `tutti import` and `export`; an open room does the same in steps (`server.room.content`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from crdt.document import RoomDocument
from crdt.errors import RemoteError
from crdt.gate import Gate, GateLimits
from crdt.joining import for_stored
from server.room.key import RoomKey
from server.room.rows import Entry
from server.store.readers import RoomContents
from server.store.schema import Unreadable

OWNER = 0
"""Whose everything stored is, for the gate: sessions do not outlive their node."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a replay gave."""

    gate: Gate
    updates: tuple[bytes, ...]
    """What took effect, in order."""
    held: tuple[Entry, ...]
    """Entries of which a part still waits for something, in order."""

    def document(self) -> RoomDocument:
        """A document of what took effect."""
        document = RoomDocument(self.gate)
        document.apply(self.updates)
        return document


def rebuild(contents: RoomContents, limits: GateLimits) -> Rebuilt:
    """Replay a stored room. Raises `Unreadable` if the gate refuses what it once let through."""
    entries: list[Entry] = []
    if contents.snapshot is not None:
        entries += [Entry("", part) for part in contents.snapshot.slices]
        entries += contents.snapshot.held
    for row in contents.rows:
        entries += row.entries
    return replay(contents.key, entries, limits)


def replay(key: RoomKey, entries: Iterable[Entry], limits: GateLimits) -> Rebuilt:
    """Let `entries` through a fresh gate, in order."""
    gate = Gate(for_stored(limits))
    updates: list[bytes] = []
    waiting: dict[int, Entry] = {}
    for ref, entry in enumerate(entries):
        try:
            admission = gate.admit(entry.update, ref=ref, owner=OWNER)
        except RemoteError as error:
            raise Unreadable(f"the journal of room {key} holds what the gate refuses: {error.reason}") from error
        updates += admission.updates
        # A copy of what is held already waits with it; one of them is enough.
        if admission.waiting and admission.journal:
            waiting[ref] = entry
        for settled in admission.settled:
            waiting.pop(settled, None)
        for refused, _ in admission.refused:
            waiting.pop(refused, None)
    return Rebuilt(gate, tuple(updates), tuple(waiting.values()))
