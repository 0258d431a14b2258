"""A room's name: the tenant it belongs to and its name within it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class RoomKey:
    """Names a room everywhere: in memory, in the journal, on the wire between nodes.

    `name` is the decoded UTF-8 name (may contain `/`); `tenant` is `""` where no tenancy is configured.
    """

    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}:{self.name}" if self.tenant else self.name
