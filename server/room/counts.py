"""What rooms count as they go, for whoever watches the node. Plain integers, one object for all rooms of a node."""

from dataclasses import dataclass, field
from typing import Protocol


class Counts(Protocol):
    """The integers a room raises; `server.telemetry.Telemetry` has them among others."""

    updates_admitted: int
    updates_held: int
    updates_refused: dict[int, int]
    """By close code."""
    tick_updates: int
    presence_changes: int
    outbox_overflows: int
    resyncs: int
    slow_readers_closed: int


@dataclass(slots=True)
class RoomCounts:
    """`Counts` and nothing else, for a room on its own."""

    updates_admitted: int = 0
    updates_held: int = 0
    updates_refused: dict[int, int] = field(default_factory=dict)
    tick_updates: int = 0
    presence_changes: int = 0
    outbox_overflows: int = 0
    resyncs: int = 0
    slow_readers_closed: int = 0
