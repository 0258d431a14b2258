"""What can happen to a room. One value per event, past tense; `Room.handle` takes them, a trace records them.

Nobody changes one; the two that come with each edit are not frozen, because making a frozen one takes three times as long.

Sessions are named by an integer that is unique within a run of the node. Frames are already unwrapped: the same inputs
come from every wire protocol.
"""

from dataclasses import dataclass

from server.room.rows import StoredRoom


@dataclass(frozen=True, slots=True)
class SessionJoined:
    """A socket entered the room. `author` is kept with its updates; `wants_saved` asks for the saved signal (R4)."""

    session: int
    author: str
    wants_saved: bool


@dataclass(frozen=True, slots=True)
class SessionLeft:
    """The socket is gone. What it sent before stays queued and is still applied (R7)."""

    session: int


@dataclass(frozen=True, slots=True)
class StateVectorReceived:
    """Sync step 1: the peer says what it has and wants the rest."""

    session: int
    state_vector: bytes


@dataclass(slots=True)
class UpdateReceived:
    """A document frame: an update, or a step 2 (`answers_step1`). Each counts as one in the saved signal (R4)."""

    session: int
    update: bytes
    answers_step1: bool


@dataclass(frozen=True, slots=True)
class AwarenessReceived:
    """Presence of one or more clients, as an encoded awareness update."""

    session: int
    update: bytes


@dataclass(frozen=True, slots=True)
class AwarenessQueried:
    """The peer asks for everybody's presence (outer type 3)."""

    session: int


@dataclass(frozen=True, slots=True)
class FrameRefused:
    """The socket could not make sense of a frame: the session ends with this code and reason."""

    session: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class OutboxBusy:
    """The peer reads slowly: half its outbox is full (R8, first step)."""

    session: int


@dataclass(frozen=True, slots=True)
class OutboxFull:
    """The outbox is over its limit. Must reach the room before its next tick: it marks what the peer was sent (R8)."""

    session: int


@dataclass(frozen=True, slots=True)
class OutboxDrained:
    """The peer caught up: everything handed to its outbox is written."""

    session: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The journal's answer to `Load`."""

    stored: StoredRoom


@dataclass(slots=True)
class Committed:
    """All rows up to and including `seq` are on disk (fsync done)."""

    seq: int


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The row `seq` is not on disk and never will be, nor any after it (R13)."""

    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class JournalChanged:
    """The journal takes writes again, or no longer does."""

    available: bool


@dataclass(frozen=True, slots=True)
class PaceChanged:
    """The node's load asks for another tick interval, in seconds."""

    tick_interval_s: float


@dataclass(frozen=True, slots=True)
class Restarted:
    """The supervisor starts the room over (R13): forget the document, keep the sessions, load again.

    `read_only` is the quarantine: what can be loaded is served, edits are refused, the bytes stay.
    """

    read_only: bool


Input = (
    SessionJoined
    | SessionLeft
    | StateVectorReceived
    | UpdateReceived
    | AwarenessReceived
    | AwarenessQueried
    | FrameRefused
    | OutboxBusy
    | OutboxFull
    | OutboxDrained
    | Loaded
    | Committed
    | CommitFailed
    | JournalChanged
    | PaceChanged
    | Restarted
)
