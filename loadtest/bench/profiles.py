"""The shapes of load: how many rooms, how many people in each, how many of them type and how fast."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """One shape. `edits_per_s` is per writer; without writers the run measures what idle connections cost."""

    name: str
    rooms: int
    clients_per_room: int
    writers_per_room: int
    edits_per_s: float

    @property
    def clients(self) -> int:
        return self.rooms * self.clients_per_room

    @property
    def idle(self) -> bool:
        return self.writers_per_room == 0

    def __str__(self) -> str:
        rooms = "one room" if self.rooms == 1 else f"{self.rooms} rooms"
        if self.idle:
            return f"{self.clients} connections in {rooms}, nobody types"
        writers = "one types" if self.writers_per_room == 1 else f"{self.writers_per_room} type"
        where = "in it" if self.rooms == 1 else "in each"
        return f"{rooms} of {self.clients_per_room}, {writers} {where}, {self.edits_per_s:g} edits/s per writer"


PROFILES: Final = {
    profile.name: profile
    for profile in (
        # Many small meetings: per frame and per room costs dominate, little can be merged.
        Profile("small-rooms", rooms=100, clients_per_room=10, writers_per_room=1, edits_per_s=5.0),
        # A lecture where a quarter takes notes: fan-out dominates, merging pays.
        Profile("busy-room", rooms=1, clients_per_room=200, writers_per_room=50, edits_per_s=4.0),
        Profile("idle", rooms=100, clients_per_room=10, writers_per_room=0, edits_per_s=0.0),
    )
}
