"""What a room asks its journal to keep, and what it gets back when it opens.

Values, not frozen where each edit makes one (see `server.room.effects`): `server.room.machine` makes rows, `server.store` writes and reads them, the simulator does both in memory.
"""

from dataclasses import dataclass

from server.room.key import RoomKey

FIRST_GENERATION = 1
"""The generation of a room that was never deleted, restored or reset (R12)."""


@dataclass(slots=True)
class Entry:
    """One accepted raw update, byte for byte as its sender sent it (R2), and who sent it."""

    author: str
    update: bytes


@dataclass(slots=True)
class Row:
    """One tick's accepted updates: the unit of the journal. `seq` rises by one from 1 within (key, generation)."""

    key: RoomKey
    generation: int
    seq: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands for all rows up to and including `seq`: slices to be applied in order, each closed under dependencies."""

    seq: int
    slices: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StoredRoom:
    """Everything the journal has of one room. `snapshot` is None and `rows` empty for a room never written."""

    key: RoomKey
    generation: int
    snapshot: Snapshot | None
    rows: tuple[Row, ...]

    @property
    def last_seq(self) -> int:
        """The newest sequence stored, 0 for none. The room's next row is this plus one."""
        if self.rows:
            return self.rows[-1].seq
        return self.snapshot.seq if self.snapshot else 0
