"""What bounds the presence of one room, as plain values. `server.settings` fills them in; tests choose their own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RosterLimits:
    """Bytes, counts and seconds. Each has a test that reaches it."""

    state_bytes_max: int = 16 * 1024
    """One state as JSON text. Editors send 100 to 600 bytes; the rest is room for avatars somebody puts inline."""
    state_depth_max: int = 64
    """Nesting of one state. y-prosemirror's cursor has four levels; browsers' JSON.parse fails at thousands."""
    clients_per_session_max: int = 8
    """Clients one session may own. A browser tab is one, but it relays the other tabs of its browser."""
    bytes_max: int = 4 * 1024 * 1024
    """All states of the room, and so what a joiner is sent."""
    entries_max: int = 10_000
    """Clients present: twice the sessions a room takes by default."""
    clock_memory_max: int = 10_000
    """Clients no longer present whose clock is remembered. One that is forgotten could be brought back by a late echo."""
    expiry_s: float = 30.0
    """A client unheard of for so long is removed. Browsers do the same by themselves (y-protocols, `outdatedTimeout`)."""
    renewal_interval_s: float = 2.0
    """Renewals are gathered for so long. A browser renews after 15 to 18 s and forgets others after 30 s, so 12 s are left."""

    @property
    def message_entries_max(self) -> int:
        """Entries in one message: echoes come back as large as what we sent, everybody present and everybody who left."""
        return 2 * self.entries_max
