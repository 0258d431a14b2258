"""One room's actor: takes inputs, steps the pure machine, runs the effects, sleeps until the machine's deadline.

One asyncio task per room. Inputs are posted synchronously and gathered until the task runs, so what arrives in one turn
of the loop is merged in one tick. Knows the journal and the peers, not sockets or HTTP. Supervises its own machine
(R13): an exception or a `Fail` starts the room over from its journal; too many in a while and the room is quarantined,
read-only with its bytes kept; if even that fails the peers are closed and the hub is told.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from crdt.errors import CloseCode, LocalError, TuttiError, Unavailable
from server.delivery import Delivery, Peer
from server.outbox import Fill
from server.pace import Pace
from server.room.effects import Broadcast, Close, Effect, Fail, Journal, Load, Send
from server.room.inputs import (
    AwarenessReceived,
    CommitFailed,
    Committed,
    FrameRefused,
    Input,
    JournalChanged,
    Loaded,
    OutboxBusy,
    OutboxFull,
    PaceChanged,
    Restarted,
    SessionJoined,
    SessionLeft,
    StateVectorReceived,
    UpdateReceived,
)
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.room.machine import Room
from server.room.rows import Row, StoredRoom
from server.supervision import RestartBudget
from server.telemetry import Telemetry

logger = logging.getLogger("tutti.room")

INPUTS_PER_TURN: Final = 256
"""Inputs handled before the loop gets its turn: a flood in one room must not hold up the others."""


OPENING: Final = frozenset(("loading", "rebuilding"))
"""States that end when the document is loaded."""

LOAD_RETRY_S: Final = 1.0
"""Between two attempts to read a room while the disk fails."""


INPUT_BYTES: Final = 200
"""What an input weighs beside its bytes: objects and its place in the inbox. A flood of empty ones is a flood too (R7)."""


def _weight(event: Input) -> int:
    match event:
        case UpdateReceived() | AwarenessReceived():
            return INPUT_BYTES + len(event.update)
        case StateVectorReceived():
            return INPUT_BYTES + len(event.state_vector)
    return INPUT_BYTES


class RoomJournal(Protocol):
    """The part of the journal an actor needs; see `server.store.journal`."""

    @property
    def available(self) -> bool:
        """Whether rows are taken."""

    def append(self, row: Row, done: Callable[[int, Unavailable | None], None]) -> None:
        """Keep the row; `done(seq, error)` once it is on disk or never will be. Raises Unavailable at once if it can't."""

    async def load(self, key: RoomKey) -> StoredRoom:
        """Everything kept of the room, after its own pending commits (R16)."""


class Recorder(Protocol):
    """Where a trace of the room goes; see `server.record`."""

    def step(self, event: Input | None, now: float, effects: list[Effect] | None) -> None:
        """One call of the machine: an input, or a tick if None. `effects` is None if it raised."""

    def close(self) -> None:
        """The room is closed."""


class Actor:
    """See the module. Create, then `start()`; `stop()` when no session is left."""

    def __init__(
        self,
        key: RoomKey,
        *,
        limits: RoomLimits,
        journal: RoomJournal,
        journal_available: bool,
        pace: Pace,
        inbox_bytes_max: int,
        budget: RestartBudget,
        quarantine_s: float,
        telemetry: Telemetry,
        recorder: Recorder | None,
        failed: Callable[["Actor"], None],
    ) -> None:
        self.key = key
        self.room = Room(key, limits, journal_available=journal_available, counts=telemetry)
        self._delivery = Delivery(telemetry)
        self.peers = self._delivery.peers
        self.state = "loading"
        """loading, open, rebuilding, quarantined, closing or failed; for people, not for decisions."""
        self.holds = 0
        """Joins under way: the hub must not evict the room."""
        self.opened = asyncio.Event()
        """Set while the document can be read, and for good once the room failed."""
        self.closed = asyncio.Event()
        self._journal = journal
        self._pace = pace
        self._inbox: deque[Input] = deque()
        self._inbox_bytes = 0
        self._inbox_bytes_max = inbox_bytes_max
        self._paused: dict[int, None] = {}
        self._budget = budget
        self._quarantine_s = quarantine_s
        self._telemetry = telemetry
        self._recorder = recorder
        self._failed = failed
        self._run = 0  # rises with each restart: what the journal reports for an earlier run is of no concern
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stopping = False
        self._in_turn = False
        self._tick_interval_s = limits.tick_interval_s

    # ---- from the hub and the sockets

    def start(self) -> None:
        """Begin to load; posts are taken from now on."""
        self._task = self._loop.create_task(self._main(), name=f"room {self.key}")

    def join(self, session: int, peer: Peer, *, author: str, wants_saved: bool) -> None:
        """A session enters. Its frames are to be posted after this."""
        if self.state == "failed":  # since the hub was asked for it
            peer.close(CloseCode.ROOM_FAILED, "room can't be opened now")
            return
        self.peers[session] = peer
        self.post(SessionJoined(session, author, wants_saved))

    def leave(self, session: int) -> None:
        """A session is gone."""
        if self.peers.pop(session, None) is not None:
            self._paused.pop(session, None)
            self.post(SessionLeft(session))

    def post(self, event: Input) -> None:
        """Hand the room an input. Never blocks; above the inbox limit the sender is not read from any more (R7).

        A room at rest takes it in on the spot, as most are most of the time: waking its task costs another turn of the loop.
        """
        if self._waiter is not None and not self._inbox and not self._in_turn and not self._waiter.done():
            self._take_now(event)
            return
        self._inbox.append(event)
        self._inbox_bytes += _weight(event)
        if self._inbox_bytes + self.room.content.backlog_bytes > self._inbox_bytes_max:
            session = getattr(event, "session", None)
            if session is not None:
                self._pause(session)
        self._wake()

    def journal_changed(self, *, available: bool) -> None:
        """The journal takes rows again, or no longer does."""
        self.post(JournalChanged(available))

    def stop(self) -> None:
        """Take no more sessions; finish what is queued, wait for its commit, end. `closed` is set then."""
        if self.state != "failed":
            self.state = "closing"
        self._stopping = True
        self._wake()

    # ---- the task

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _main(self) -> None:
        try:
            self._run_effects(self.room.open())
            while True:
                deadline = self._turn()
                if self._stopping and self._finished:
                    break
                if self._inbox or (deadline is not None and deadline <= self._loop.time()):
                    await asyncio.sleep(0)
                else:
                    await self._wait(deadline)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._loading is not None:
                self._loading.cancel()
            if self._recorder is not None:
                self._recorder.close()
            self.closed.set()

    @property
    def _finished(self) -> bool:
        return self.state == "failed" or (not self._inbox and self.room.settled)

    async def _wait(self, deadline: float | None) -> None:
        """Until something is posted or the deadline is there."""
        if deadline is not None:
            self._arm(deadline)
        self._waiter = self._loop.create_future()
        await self._waiter
        self._waiter = None

    def _arm(self, deadline: float) -> None:
        timer = self._timer
        if timer is None or timer.when() > deadline:
            # A timer that fires early costs one look; arming one for each message would cost more.
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._wake()

    def _take_now(self, event: Input) -> None:
        """One input and what is due after it, while the task waits."""
        self._in_turn = True
        now = self._loop.time()
        self._handle(event, now)
        self._tick(now)
        self._in_turn = False
        if type(event) is UpdateReceived and self.room.content.backlog_bytes > self._inbox_bytes_max:
            self._pause(event.session)
        deadline = self.room.next_deadline()
        if self._inbox or self._stopping or self.state in OPENING or (deadline is not None and deadline <= now):
            self._wake()
        elif deadline is not None:
            self._arm(deadline)

    def _turn(self) -> float | None:
        """Everything that is due, within bounds. Returns when there is more."""
        self._in_turn = True
        now = self._loop.time()
        if self._pace.tick_interval_s != self._tick_interval_s:
            self._tick_interval_s = self._pace.tick_interval_s
            self._handle(PaceChanged(self._tick_interval_s), now)
        inbox = self._inbox
        for _ in range(min(len(inbox), INPUTS_PER_TURN)):
            event = inbox.popleft()
            self._inbox_bytes -= _weight(event)
            self._handle(event, now)
        self._tick(now)
        if self._paused and self._inbox_bytes + self.room.content.backlog_bytes < self._inbox_bytes_max // 2:
            paused, self._paused = self._paused, {}
            for session in paused:
                self.peers[session].resume_reading()
        if self.room.content.loaded and self.state in OPENING:
            self.state = "quarantined" if self.room.quarantined else "open"
            self.opened.set()
        self._in_turn = False
        return self.room.next_deadline()

    # Whatever goes wrong in the two steps below ends this room's run, not the node (R10); pycrdt's panics are no Exceptions.

    def _handle(self, event: Input, now: float) -> bool:
        """One input to the machine. True if anything came of it."""
        try:
            effects = self.room.handle(event, now)
        except BaseException as error:  # noqa: BLE001  see above
            session = getattr(event, "session", None)
            if session is not None:
                # Whoever sent what our code can't bear must not be able to send it again to the rebuilt room.
                refused = FrameRefused(session, CloseCode.INTERNAL_ERROR, "internal error")
                self._inbox.appendleft(refused)
                self._inbox_bytes += _weight(refused)
            self._machine_failed(event, now, error)
            return True
        if self._recorder is not None:
            self._recorder.step(event, now, effects)
        if effects:
            self._run_effects(effects)
        return bool(effects)

    def _tick(self, now: float) -> None:
        try:
            effects = self.room.tick(now)
        except BaseException as error:  # noqa: BLE001  see above
            self._machine_failed(None, now, error)
            return
        if self._recorder is not None:
            self._recorder.step(None, now, effects)
        if effects:
            self._telemetry.ticks += 1
            self._run_effects(effects)

    def _machine_failed(self, event: Input | None, now: float, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError):
            raise error
        if self._recorder is not None:
            self._recorder.step(event, now, None)
        logger.error("room %s failed", self.key, exc_info=error)
        self._restart(poisoned=True)

    # ---- effects

    def _run_effects(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._run_effect(effect)
        # Before anything else happens to the room: it takes the document as it is now for what these peers have (R8).
        while self._delivery.full:
            session, fill = self._delivery.full.pop()
            self._handle(OutboxFull(session) if fill is Fill.FULL else OutboxBusy(session), self._loop.time())

    def _run_effect(self, effect: Effect) -> None:
        match effect:
            case Broadcast():
                self._delivery.broadcast(effect)
            case Send():
                self._delivery.send(effect.session, effect.message)
            case Journal():
                self._append(effect.row)
            case Load():
                self._start_load()
            case Close():
                self._telemetry.closed(effect.code)
                peer = self.peers.pop(effect.session, None)
                self._paused.pop(effect.session, None)
                if peer is not None:
                    logger.info(
                        "session %d of room %s closed: %d %s", effect.session, self.key, effect.code, effect.reason
                    )
                    peer.close(effect.code, effect.reason)
            case Fail():
                logger.error("room %s failed: %s", self.key, effect.reason)
                self._restart(poisoned=effect.poisoned)

    def _append(self, row: Row) -> None:
        try:
            self._journal.append(row, partial(self._journaled, self._run))
        except Unavailable as error:
            self.post(CommitFailed(row.seq, str(error)))

    def _journaled(self, run: int, seq: int, error: TuttiError | None) -> None:
        if run != self._run:
            return
        if isinstance(error, LocalError):
            # The journal is fine and won't have this row: a bug of ours, which trying again would repeat.
            logger.error("room %s: %s", self.key, error)
            self._restart(poisoned=True)
        elif error is not None:
            self.post(CommitFailed(seq, str(error)))
        # At once and without waking the task: most rooms have nobody to tell.
        elif self._waiter is None or self._in_turn or self._stopping:
            self.post(Committed(seq))
        elif self._handle(Committed(seq), self._loop.time()):
            self._wake()

    def _start_load(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        self._loading = self._loop.create_task(self._load_room(), name=f"load {self.key}")

    async def _load_room(self) -> None:
        """Read the room; while the disk fails, again and again. Nobody is answered meanwhile (R1)."""
        while True:
            try:
                stored = await self._journal.load(self.key)
            except Unavailable as error:
                logger.warning("room %s can't be loaded now: %s", self.key, error)
                if self._stopping:
                    self._give_up()
                    return
                await asyncio.sleep(LOAD_RETRY_S)
            except TuttiError as error:
                # Bytes that can't be read: trying again would change nothing, and they are kept.
                logger.error("room %s can't be loaded: %s", self.key, error)  # noqa: TRY400  not a bug of ours
                self._give_up()
                return
            else:
                self.post(Loaded(stored))
                return

    def _pause(self, session: int) -> None:
        peer = self.peers.get(session)
        if peer is not None and session not in self._paused:
            self._telemetry.reads_paused += 1
            self._paused[session] = None
            peer.pause_reading()

    # ---- supervision

    def _restart(self, *, poisoned: bool) -> None:
        """Start the room over from its journal, or quarantine it, or give it up (R13)."""
        if self.state == "failed":
            return
        self._run += 1
        self._delivery.full.clear()
        self._telemetry.room_rebuilds += 1
        read_only = self.room.quarantined
        if poisoned and not self._budget.spend(self._loop.time()):
            if read_only:
                self._give_up()
                return
            read_only = True
            self._telemetry.quarantines += 1
            logger.error(
                "room %s is quarantined for %g s: read-only, its journal is kept", self.key, self._quarantine_s
            )
            self._loop.call_later(self._quarantine_s, self._end_quarantine)
        self._rebuild()
        now = self._loop.time()
        self._handle(JournalChanged(self._journal.available), now)
        self._handle(Restarted(read_only), now)

    def _rebuild(self) -> None:
        self.state = "rebuilding"
        self.opened.clear()

    def _end_quarantine(self) -> None:
        if self.state == "quarantined":
            self._budget.reset()
            self._run += 1
            self._rebuild()
            self.post(Restarted(read_only=False))

    def _give_up(self) -> None:
        """Not even reading works: let go of the peers. The journal keeps the bytes, a later join tries again."""
        self.state = "failed"
        self.opened.set()
        self._stopping = True
        peers = list(self.peers.values())
        self.peers.clear()
        for peer in peers:
            peer.close(CloseCode.ROOM_FAILED, "room can't be opened now")
        self._failed(self)
        self._wake()
