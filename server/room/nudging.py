"""When to have everybody raise their clock for a client that is back (PROTOCOL, P5): in rounds, and not too often."""

from collections.abc import Iterable
from typing import Final

from presence.roster import Roster

NUDGED_MAX: Final = 100
"""People present up to whom a returning client is shown at once who was there all along; each costs a small message to
and from each. In larger rooms it waits for their renewals (at most 18 s), as with any other server."""

NUDGE_INTERVAL_S: Final = 1.0
"""Who returns within it is served by one round, at its end."""


class NudgeRounds:
    """The rounds of one room."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._last = float("-inf")
        self._returned: int | None = None  # the last session for which a round is still to come

    def returned(self, session: int) -> None:
        """A client that was here before is back in this session."""
        self._returned = session

    @property
    def deadline(self) -> float | None:
        """When the next round is due, None while nobody waits for one."""
        return None if self._returned is None else self._last + NUDGE_INTERVAL_S

    def run(self, now: float, listening: Iterable[int]) -> list[tuple[int, bytes]]:
        """(session, its own clients' removal) for each of `listening`, if a round is due."""
        if self._returned is None or now < self._last + NUDGE_INTERVAL_S:
            return []
        newcomer, self._returned = self._returned, None
        if len(self._roster) > NUDGED_MAX:
            return []
        self._last = now
        there = frozenset(listening)
        return [(session, nudge) for session, nudge in self._roster.nudges(newcomer) if session in there]
