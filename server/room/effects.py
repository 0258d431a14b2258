"""What a room wants done. The actor runs effects in order, at once, before the room's next step.

Values, though not frozen: several are made for each edit, and making a frozen one takes three times as long. Nobody
changes one.
"""

from dataclasses import dataclass

from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from server.room.rows import Row


@dataclass(slots=True)
class Awareness:
    """An awareness update for a peer."""

    update: bytes


@dataclass(frozen=True, slots=True)
class Saved:
    """This connection's first `count` document frames are durable (R4)."""

    count: int


Message = SyncStep1 | SyncStep2 | SyncUpdate | Awareness | Saved
"""What a peer can be told. Each wire protocol has its own framing of these."""


@dataclass(slots=True)
class Send:
    """One message to one session."""

    session: int
    message: Message


@dataclass(slots=True)
class Broadcast:
    """One message to many sessions, to be encoded once. `skip` is the only author of an update, or None."""

    message: SyncUpdate | Awareness
    to: tuple[int, ...]
    skip: int | None


@dataclass(slots=True)
class Journal:
    """Append this row; answer with `Committed` or `CommitFailed`."""

    row: Row


@dataclass(frozen=True, slots=True)
class Load:
    """Read the room from the journal; answer with `Loaded`."""


@dataclass(frozen=True, slots=True)
class Close:
    """End a session. The room has forgotten it already; `SessionLeft` may still follow and is ignored."""

    session: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The room's memory can't be trusted any more (R13): the supervisor must restart it.

    `poisoned` when the content did it: too many of those in a row and the room is quarantined.
    """

    reason: str
    poisoned: bool


Effect = Send | Broadcast | Journal | Load | Close | Fail
