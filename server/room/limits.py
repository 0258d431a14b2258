"""The limits of one room, as plain values. `server.settings` fills them in; tests choose their own."""

from dataclasses import dataclass, field

from crdt.limits import GateLimits
from presence.limits import RosterLimits


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Counts, bytes and seconds that bound one room. Every one has a test that reaches it."""

    tick_interval_s: float = 0.016
    """Fastest cadence while updates keep coming; 60 Hz is what a screen shows."""
    tick_updates_max: int = 512
    """Updates applied in one tick; the rest waits for the next (one room can't hold the loop)."""
    tick_bytes_max: int = 262_144
    """Bytes of updates applied in one tick; one update more may start below it."""
    state_vector_clients_max: int = 100_000
    """Clients in a peer's state vector; real documents gather one per page load."""
    resync_delay_s: float = 1.0
    """First wait before a session with a hole is asked for its state again; doubles up to `resync_delay_max_s`."""
    resync_delay_max_s: float = 30.0
    slow_reader_close_s: float = 60.0
    """A peer that has not drained its outbox for so long is closed (R8, last step)."""
    document_bytes_max: int = 268_435_456
    """Accepted bytes since the last snapshot plus its size: past it, edits that add something are refused."""
    gate: GateLimits = field(default_factory=GateLimits)
    roster: RosterLimits = field(default_factory=RosterLimits)
