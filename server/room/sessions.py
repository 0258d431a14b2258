"""A session's state in its room: what it may be sent.

    Greeted ── step 1 ──> Live <──────── drained ────────┐
       │                   │ ▲                           │
       │                 busy drained                    │
       │                   ▼ │                           │
       └──── full ────>  Crowded ───────── full ───────> Lagging ── too long ──> closed

*Greeted*: in the room, has not said what it has: presence only. *Live*: gets every tick. *Crowded*: reads slowly;
presence is shed. *Lagging*: gets nothing until its outbox is empty, then one diff from what it was last sent, and the
full roster (R8). A session that is being closed is no longer known to the room.
"""

from dataclasses import dataclass, field

from server.room.saved import SavedLedger


@dataclass(frozen=True, slots=True)
class Greeted:
    """Not synced yet."""


@dataclass(frozen=True, slots=True)
class Live:
    """Synced: has been sent everything in the document."""


@dataclass(frozen=True, slots=True)
class Crowded:
    """Synced, but presence is held back."""


@dataclass(frozen=True, slots=True)
class Lagging:
    """Has at least `state_vector`; `owes_step2` when the diff must also answer its step 1; closed at `closes_at`."""

    state_vector: bytes | None
    owes_step2: bool
    closes_at: float


SessionState = Greeted | Live | Crowded | Lagging

# States without fields are shared: a node holds tens of thousands of sessions.
GREETED = Greeted()
LIVE = Live()
CROWDED = Crowded()


@dataclass(slots=True)
class Session:
    """One socket in the room. `saved` is None unless the peer asked for the saved signal."""

    id: int
    author: str
    saved: SavedLedger | None
    state: SessionState = field(default=GREETED)
    resync_at: float | None = None
    """When to ask for its state again, None if nothing is missing."""
    resync_delay_s: float = 0.0
    """The last wait; 0 when the session is whole."""
    has_hole: bool = False
    """A frame was refused and its sender not asked for its state since."""
