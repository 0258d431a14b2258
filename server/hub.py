"""All rooms and sessions of a node: who is open, who may enter, who has been idle or silent for too long.

Owns the registry of actors and the node's one periodic task (eviction, keep-alive, pace, the journal's availability);
nothing in it is O(rooms) or O(sessions) per second (R11): idle rooms wait in order of time, sessions are looked at in
turns. Knows no wire protocol.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Protocol

from crdt.errors import CloseCode, RemoteError, Unavailable
from crdt.limits import GateLimits
from presence.limits import RosterLimits
from presence.roster import Roster
from server.actor import Actor, Recorder
from server.pace import PERIOD_S, Pace
from server.record import TraceFiles
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.settings import Settings
from server.store.journal import Journal
from server.supervision import RestartBudget
from server.telemetry import Telemetry

logger = logging.getLogger("tutti.hub")

TURNS: Final = 10
"""A session is looked at once in so many turns of the wheel: half of `send_keepalive_s` each round."""


class Busy(RemoteError):
    """A limit on rooms or sessions is reached."""

    code = CloseCode.BUSY


class Resting(RemoteError):
    """The room was given up a moment ago."""

    code = CloseCode.ROOM_FAILED


class Visited(Protocol):
    """A session as the wheel sees it."""

    def visit(self, *, ping: bool) -> None:
        """Say something if nothing was said since the last visit; with `ping`, drop a peer that shows no life."""


@dataclass(frozen=True, slots=True)
class LiveRoom:
    """What is known of a room in memory."""

    state: str
    sessions: int
    document_bytes: int
    saved_seq: int
    last_seq: int
    _roster: Roster

    @property
    def present(self) -> list[dict[str, Any]]:
        """Who is here, by client id. `state` is JSON text in UTF-8."""
        return [present._asdict() for present in self._roster.present]


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something the node can't do without, and since when it is as it is (seconds)."""

    name: str
    ok: bool
    reason: str
    since_s: float


class Hub:
    """Create on the running loop, after the journal is open; `start()`, and `close()` at the end."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        telemetry: Telemetry,
        *,
        run: str,
        traces: TraceFiles | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.rooms: dict[RoomKey, Actor] = {}
        self.sessions = 0
        self.draining = False
        self.run = run
        """Names this run of the node in the authors of its rows."""
        self._journal = journal
        self._journal_available = True
        self._limits = settings_to_limits(settings)
        self._pace = Pace.between(settings.tick_interval_ms / 1000, settings.tick_interval_max_ms / 1000)
        self._traces = traces
        self._ids = count(1)
        self._idle: dict[RoomKey, float] = {}  # in the order they became idle
        self._resting: dict[RoomKey, float] = {}  # given up; in order
        self._evictions: dict[RoomKey, asyncio.Task[None]] = {}
        self._wheel: list[dict[int, Visited]] = [{} for _ in range(TURNS)]
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    # ---- rooms

    @property
    def open_rooms(self) -> int:
        """Rooms in memory."""
        return len(self.rooms)

    async def enter(self, key: RoomKey) -> Actor:
        """The room's actor, opened if need be and held until `release`. Raises Busy or Resting.

        A room that is being closed is waited for first: its last commit must be in what the new one loads (R16).
        """
        while (eviction := self._evictions.get(key)) is not None:
            await asyncio.shield(eviction)
        actor = self.rooms.get(key)
        if actor is None:
            actor = self._open(key)
        actor.holds += 1
        return actor

    def release(self, actor: Actor) -> None:
        """Undo `enter`. The room is evicted after a while if nobody is in it."""
        actor.holds -= 1
        self._note_if_idle(actor)

    def live(self, key: RoomKey) -> LiveRoom | None:
        """What is in memory of a room, None if nothing is."""
        actor = self.rooms.get(key)
        if actor is None:
            return None
        room = actor.room
        return LiveRoom(
            actor.state, len(actor.peers), room.content.bytes, room.committed_seq, room.last_seq, room.roster
        )

    async def document(self, key: RoomKey) -> bytes | None:
        """A room's whole document as one Yjs v1 update, None if the room does not exist. Never makes one.

        Raises Busy, Resting, or Unavailable when the journal can't be read.
        """
        if key not in self.rooms and await self._journal.room(key) is None:
            return None
        actor = await self.enter(key)
        try:
            await actor.opened.wait()
            if actor.state == "failed":
                raise Unavailable(f"room {key} can't be opened now")
            return actor.room.content.document.full()
        finally:
            self.release(actor)

    def _open(self, key: RoomKey) -> Actor:
        if self.draining:
            raise Busy("node is stopping")
        if len(self.rooms) >= self.settings.rooms_open_max:
            raise Busy("too many rooms are open")
        if key in self._resting:
            raise Resting("room can't be opened now")
        settings = self.settings
        actor = Actor(
            key,
            limits=self._limits,
            journal=self._journal,
            journal_available=self._journal_available,
            pace=self._pace,
            inbox_bytes_max=settings.session_inbox_bytes_max,
            budget=RestartBudget(settings.restart_max, settings.restart_window_s),
            quarantine_s=settings.quarantine_s,
            telemetry=self.telemetry,
            recorder=self._trace(key),
            failed=self._gave_up,
        )
        self.rooms[key] = actor
        actor.start()
        return actor

    def _trace(self, key: RoomKey) -> Recorder | None:
        if self._traces is None:
            return None
        return self._traces.open(key, self._limits, journal_available=self._journal_available)

    def _gave_up(self, actor: Actor) -> None:
        self._resting[actor.key] = self._loop.time()
        self._evict(actor)

    def _note_if_idle(self, actor: Actor) -> None:
        if not actor.peers and not actor.holds:
            # To the end of the line, also if it stood there already: `_evict_idle` stops at the first that is too young.
            self._idle.pop(actor.key, None)
            self._idle[actor.key] = self._loop.time()

    def _evict(self, actor: Actor) -> None:
        if actor.key not in self._evictions:
            # At once, so that whoever enters from here on waits for the end instead of joining a room that ends.
            actor.stop()
            self._evictions[actor.key] = self._loop.create_task(self._see_off(actor), name=f"evict {actor.key}")

    async def _see_off(self, actor: Actor) -> None:
        await actor.closed.wait()
        del self.rooms[actor.key]
        del self._evictions[actor.key]
        self._journal.evicted(actor.key)

    # ---- sessions

    def admit(self) -> int:
        """A number for a new session, if there is room for one. Raises Busy."""
        if self.draining:
            raise Busy("node is stopping")
        if self.sessions >= self.settings.sessions_max:
            raise Busy("too many sessions on this node")
        self.sessions += 1
        self.telemetry.sessions_opened += 1
        return next(self._ids)

    def watch(self, session: int, visited: Visited) -> None:
        """From now on the session is visited."""
        self._wheel[session % TURNS][session] = visited

    def dismiss(self, session: int, actor: Actor | None) -> None:
        """The session is over."""
        self.sessions -= 1
        self._wheel[session % TURNS].pop(session, None)
        if actor is not None:
            actor.leave(session)
            self._note_if_idle(actor)

    # ---- the node's clock

    def start(self) -> None:
        """Begin to look after rooms and sessions."""
        # Rooms learn of a failure by their own commits, at once; they must not have to wait for its end either.
        self._journal.on_available = self._tell_journal
        self._task = self._loop.create_task(self._look_after(), name="hub")

    async def close(self) -> None:
        """Refuse newcomers, close every room after its last commit (R16, drain)."""
        self.draining = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for actor in self.rooms.values():
            self._evict(actor)
        while self._evictions:
            await asyncio.gather(*self._evictions.values())

    def ready(self) -> tuple[bool, list[Dependency]]:
        """Whether to send new sessions here, and what the answer rests on."""
        since = self._loop.time() - self._journal.since if self._journal.since else 0.0
        journal = Dependency("journal", self._journal.available, self._journal.reason, since)
        return journal.ok and not self.draining, [journal]

    async def _look_after(self) -> None:
        turn_s = self.settings.send_keepalive_s / 2 / TURNS
        turn = 0
        pings_every = max(1, round(self.settings.ping_interval_s / (turn_s * TURNS)))
        next_turn = self._loop.time()
        cpu, wall = time.thread_time(), time.monotonic()
        while True:
            await asyncio.sleep(PERIOD_S)
            cpu_now, wall_now = time.thread_time(), time.monotonic()
            self._pace.observe((cpu_now - cpu) / (wall_now - wall))
            self.telemetry.observe_loop_lag(max(0.0, wall_now - wall - PERIOD_S))
            cpu, wall = cpu_now, wall_now
            now = self._loop.time()
            self._watch_journal()
            self._evict_idle(now)
            while next_turn <= now:
                next_turn += turn_s
                ping = turn // TURNS % pings_every == 0
                for visited in list(self._wheel[turn % TURNS].values()):
                    visited.visit(ping=ping)
                turn += 1

    def _watch_journal(self) -> None:
        if self._journal.available != self._journal_available:
            self._tell_journal()

    def _tell_journal(self) -> None:
        self._journal_available = self._journal.available
        for actor in self.rooms.values():
            actor.journal_changed(available=self._journal_available)

    def _evict_idle(self, now: float) -> None:
        for key, since in list(self._idle.items()):
            if since + self.settings.room_idle_evict_s > now:
                break
            del self._idle[key]
            actor = self.rooms.get(key)
            if actor is not None and not actor.peers and not actor.holds:
                self._evict(actor)
        for key, since in list(self._resting.items()):
            if since + self.settings.quarantine_s > now:
                break
            del self._resting[key]


def settings_to_limits(settings: Settings) -> RoomLimits:
    """The part of the settings that rooms enforce."""
    return RoomLimits(
        tick_interval_s=settings.tick_interval_ms / 1000,
        tick_updates_max=settings.tick_updates_max,
        tick_bytes_max=settings.tick_bytes_max,
        slow_reader_close_s=settings.slow_reader_close_s,
        document_bytes_max=settings.document_bytes_max,
        gate=GateLimits(
            update_bytes_max=settings.message_bytes_max,
            held_bytes_max=settings.held_bytes_max,
            held_bytes_per_owner_max=settings.held_bytes_per_session_max,
            held_updates_max=settings.held_updates_max,
        ),
        roster=RosterLimits(
            state_bytes_max=settings.presence_state_bytes_max,
            clients_per_session_max=settings.presence_clients_per_session_max,
            bytes_max=settings.presence_bytes_max,
            expiry_s=settings.presence_expiry_s,
            renewal_interval_s=settings.presence_renewal_interval_s,
        ),
    )
