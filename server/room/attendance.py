"""Who is in the room and what each may be sent: the sessions, their states, and what is due for one of them.

Keeps the two lists of recipients (documents, presence), rebuilt only when a state changes, and the sessions that have a
deadline: asked for their state because of a hole (R7), or closed because they read too slowly (R8). Decides when; what is
then sent is `server.room.machine`'s.
"""

from collections.abc import Iterator

from server.room.limits import RoomLimits
from server.room.saved import SavedLedger
from server.room.sessions import Crowded, Greeted, Lagging, Live, Session, SessionState


class Attendance:
    """The sessions of one room, in the order they came."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._sessions: dict[int, Session] = {}
        self.timed: dict[int, None] = {}
        """Sessions with a deadline, in the order they got it. Mostly empty, and then nothing need be asked."""
        self._live: tuple[int, ...] | None = ()
        self._present: tuple[int, ...] | None = ()
        self.saving: dict[int, SavedLedger] = {}
        """Ledgers with frames that are not durable yet, by session."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def get(self, session: int) -> Session | None:
        """The session, None if it is not, or no longer, in the room."""
        return self._sessions.get(session)

    def add(self, session: Session) -> None:
        """A session enters."""
        self._sessions[session.id] = session
        self._live = self._present = None

    def remove(self, session: int) -> bool:
        """A session leaves. False if it had."""
        if self._sessions.pop(session, None) is None:
            return False
        self.saving.pop(session, None)
        self.timed.pop(session, None)
        self._live = self._present = None
        return True

    def enter_state(self, session: Session, state: SessionState) -> None:
        """Move a session on; see the diagram in `server.room.sessions`."""
        session.state = state
        self._live = self._present = None
        if isinstance(state, Lagging):
            self.timed[session.id] = None
        elif session.resync_at is None:
            self.timed.pop(session.id, None)

    @property
    def live(self) -> tuple[int, ...]:
        """Who gets document frames."""
        if self._live is None:
            self._live = tuple(s.id for s in self if isinstance(s.state, Live | Crowded))
        return self._live

    @property
    def present(self) -> tuple[int, ...]:
        """Who gets presence."""
        if self._present is None:
            self._present = tuple(s.id for s in self if isinstance(s.state, Live | Greeted))
        return self._present

    # ---- deadlines

    def plan_resync(self, session: Session, now: float) -> None:
        """The session's stream has a hole: ask for its state, at once the first time, then with growing waits (R7)."""
        if session.resync_at is None:
            session.resync_at = now + session.resync_delay_s
            self.timed[session.id] = None

    def end_resync(self, session: Session, *, asked: bool) -> None:
        """It is due and done, or (not `asked`) not needed any more."""
        session.resync_at = None
        session.has_hole = False
        if not isinstance(session.state, Lagging):
            self.timed.pop(session.id, None)
        limits = self._limits
        longer = min(max(session.resync_delay_s * 2, limits.resync_delay_s), limits.resync_delay_max_s)
        session.resync_delay_s = longer if asked else 0.0

    def next_deadline(self) -> float:
        """When `due` has somebody; `timed` must not be empty."""
        return min(_deadline(self._sessions[session]) for session in self.timed)

    def due(self, now: float) -> list[Session]:
        """Sessions whose deadline has passed: lagging ones are to be closed, others to be asked for their state."""
        return [s for session in self.timed if _deadline(s := self._sessions[session]) <= now]


def _deadline(session: Session) -> float:
    # One that lags is not asked for anything before it reads again.
    if isinstance(session.state, Lagging):
        return session.state.closes_at
    assert session.resync_at is not None
    return session.resync_at
