"""The room machine: decides everything about one room, waits for nothing, reads no clock.

    room.handle(input, now) -> effects      answer what must be answered at once, queue the rest
    room.tick(now)          -> effects      merge the queue: one transaction, one broadcast, one row
    room.next_deadline()    -> float | None  when to tick next; None means nothing is pending

The caller (`server.actor`, the simulator, a replay) runs the effects in order before the next step, and reports
`OutboxFull` before anything else. Any exception out of here means that the room's memory can't be trusted: restart it
(R13). Content lives in `server.room.content`, presence in `presence.roster`, what is durable in `server.room.saved`.

What holds after every step:
1. Nobody is answered from a document that is not loaded (R1).
2. What a session was sent is in the document (R2).
3. `Saved(n)` is sent only when the rows of a session's first n document frames are committed (R4).
4. A document frame that was not accepted is followed by a step 1 to its sender or by its close (R7).
5. Without pending work (a round of nudges is some) `next_deadline` is None, or the next expiry of presence.
"""

from collections.abc import Callable
from typing import Final

from crdt.errors import CloseCode, DocumentBroken, HoldOverflow, RemoteError
from crdt.joining import join
from crdt.state_vector import decode_state_vector, encode_state_vector
from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from presence.roster import Roster
from server.room import inputs as i
from server.room.attendance import Attendance
from server.room.content import Content, Refusal, read_only_error
from server.room.counts import Counts, RoomCounts
from server.room.effects import Awareness, Broadcast, Close, Effect, Fail, Journal, Load, Message, Saved, Send
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.room.nudging import NudgeRounds
from server.room.rows import FIRST_GENERATION, Row
from server.room.saved import SavedLedger
from server.room.sessions import CROWDED, GREETED, LIVE, Crowded, Greeted, Lagging, Live, Session

NEVER: Final = float("-inf")

CROWD_SESSIONS: Final = 100
CROWD_STRETCH_MAX: Final = 2.0
"""From 100 sessions on the cadence stretches, to half of it at 200: 30 Hz where 60 is the fastest. 50 people typing in a
room of 200 cost 2.7 us a delivery at 60 Hz, 1.7 at 30, for 8 ms more of median latency (2 cores, 2026-11)."""


class Room:
    """One room. Call `open()` first and run its effects."""

    def __init__(
        self, key: RoomKey, limits: RoomLimits, *, journal_available: bool = True, counts: Counts | None = None
    ) -> None:
        self.key = key
        self.limits = limits
        self._counts: Counts = counts if counts is not None else RoomCounts()
        self.generation = FIRST_GENERATION
        self.content = Content(limits)
        self.roster = Roster(limits.roster)
        self.last_seq = 0
        """The newest row handed to the journal."""
        self.committed_seq = 0
        """The newest row known to be on disk."""
        self.quarantined = False
        self._journal_available = journal_available
        self._interval = self._cadence_s = limits.tick_interval_s
        self._share_at: float | None = None  # when presence is to be shared, and when some of it expires
        self._expire_at: float | None = None
        self._last_tick = NEVER
        self._sessions = Attendance(limits)
        self._frames: dict[int, tuple[int, int, int]] = {}  # ref -> (session, frame, step 1 answered or 0)
        self._unanswered: dict[int, dict[int, int]] = {}  # step 1s that came before the room was loaded
        self._next_ref = 0
        self._nudges = NudgeRounds(self.roster)
        self._handlers: dict[type, Callable[..., list[Effect]]] = {
            i.UpdateReceived: self._update_received,
            i.AwarenessReceived: self._awareness_received,
            i.Committed: self._committed,
            i.StateVectorReceived: self._state_vector_received,
            i.SessionJoined: self._session_joined,
            i.SessionLeft: self._session_left,
            i.AwarenessQueried: self._awareness_queried,
            i.FrameRefused: self._frame_refused,
            i.OutboxBusy: self._outbox_busy,
            i.OutboxFull: self._outbox_full,
            i.OutboxDrained: self._outbox_drained,
            i.Loaded: self._loaded,
            i.CommitFailed: self._commit_failed,
            i.JournalChanged: self._journal_changed,
            i.PaceChanged: self._pace_changed,
            i.Restarted: self._restarted,
        }

    # ------------------------------------------------------------------ the three steps

    def open(self) -> list[Effect]:
        """The first step: ask for what the journal has."""
        return [Load()]

    def handle(self, event: i.Input, now: float) -> list[Effect]:
        """Take one input. Raises only on a fault of ours."""
        return self._handlers[type(event)](event, now)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due. Harmless when nothing is."""
        effects: list[Effect] = []
        content = self.content
        if content.working:
            was_loaded = content.loaded
            for refusal in content.work():
                self._refused(refusal, now, effects)
            if content.loaded and not was_loaded:
                self._greet_all(effects)
        if now >= self._last_tick + self._cadence_s:
            if content.queued:
                self._last_tick = now
                if not self._merge(effects):
                    return effects
            if self._share_at is not None and self._share_at <= now:
                self._last_tick = now
                self._share_presence(now, effects)
        if self._expire_at is not None and self._expire_at <= now:
            self.roster.expire(now)
            self._presence_changed()
        if self._nudges.deadline is not None:
            self._nudge(now, effects)
        for session in self._sessions.due(now) if self._sessions.timed else ():
            if isinstance(session.state, Lagging):
                self._counts.slow_readers_closed += 1
                self._end(session.id, CloseCode.TOO_SLOW, "reads too slowly", now, effects)
            else:
                self._resync(session, now, effects)
        return effects

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; in the past means now."""
        if self.content.working:
            return NEVER
        cadence = self._last_tick + self._cadence_s
        if self.content.queued:
            return cadence
        due = self._expire_at
        if self._share_at is not None:
            shared = max(self._share_at, cadence)
            due = shared if due is None else min(due, shared)
        nudged = self._nudges.deadline
        if nudged is not None:
            due = nudged if due is None else min(due, nudged)
        if self._sessions.timed:
            of_session = self._sessions.next_deadline()
            due = of_session if due is None else min(due, of_session)
        return due

    def _crowd_changed(self) -> None:
        """Seconds between ticks: longer in a crowd, where each costs as many writes as there are readers."""
        stretch = min(max(len(self._sessions) / CROWD_SESSIONS, 1.0), CROWD_STRETCH_MAX)
        self._cadence_s = self._interval * stretch

    def _presence_changed(self) -> None:
        """To be called after the roster was touched: its deadlines are looked at far more often than they change."""
        self._share_at = self.roster.next_take()
        self._expire_at = self.roster.next_expiry()

    # ------------------------------------------------------------------ what others may look at

    @property
    def sessions(self) -> int:
        """How many sockets are in the room."""
        return len(self._sessions)

    @property
    def settled(self) -> bool:
        """Nothing is queued, at work or waiting for its commit: the room may be evicted once it has no session."""
        content = self.content
        return content.loaded and not content.working and not content.queued and self.committed_seq == self.last_seq

    # ------------------------------------------------------------------ sessions come and go

    def _session_joined(self, event: i.SessionJoined, _now: float) -> list[Effect]:
        ledger = SavedLedger() if event.wants_saved else None
        session = Session(event.session, event.author, ledger)
        self._sessions.add(session)
        self._crowd_changed()
        effects: list[Effect] = []
        if self.content.loaded:
            self._greet(session, effects)
        return effects

    def _greet(self, session: Session, effects: list[Effect]) -> None:
        self._ask_state(session, effects)
        everybody = self.roster.full()
        if everybody is not None:
            effects.append(Send(session.id, Awareness(everybody)))
        if session.saved is not None:
            session.saved.committed(self.committed_seq)
            effects.append(Send(session.id, Saved(session.saved.count)))

    def _greet_all(self, effects: list[Effect]) -> None:
        """The room has just been loaded: first for those who waited, or again after a restart (R13)."""
        for session in self._sessions:
            self._greet(session, effects)
        waiting, self._unanswered = self._unanswered, {}
        for session in self._sessions:
            if session.id in waiting:
                self._answer(session, waiting[session.id], effects)

    def _session_left(self, event: i.SessionLeft, now: float) -> list[Effect]:
        self._forget(event.session, now)
        return []

    def _forget(self, session_id: int, now: float) -> None:
        if self._sessions.remove(session_id):
            self._unanswered.pop(session_id, None)
            self.roster.leave(session_id, now)
            self._presence_changed()
            self._crowd_changed()

    def _end(self, session_id: int, code: int, reason: str, now: float, effects: list[Effect]) -> None:
        """Close a session for cause. What it sent before and was accepted stays."""
        if self._sessions.get(session_id) is not None:
            self._forget(session_id, now)
            effects.append(Close(session_id, code, reason))

    def _frame_refused(self, event: i.FrameRefused, now: float) -> list[Effect]:
        effects: list[Effect] = []
        self._end(event.session, event.code, event.reason, now, effects)
        return effects

    # ------------------------------------------------------------------ sync

    def _ask_state(self, session: Session, effects: list[Effect]) -> None:
        # The gate's clocks, not the document's: what is queued is as good as merged, and cheap to know.
        if session.saved is not None:
            session.saved.asked()
        effects.append(Send(session.id, SyncStep1(self.content.gate.state_vector())))

    def _state_vector_received(self, event: i.StateVectorReceived, now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is None:
            return []
        effects: list[Effect] = []
        try:
            theirs = decode_state_vector(event.state_vector, clients_max=self.limits.state_vector_clients_max)
        except RemoteError as error:
            self._end(session.id, error.code, error.reason, now, effects)
            return effects
        if self.content.loaded:
            self._answer(session, theirs, effects)
        else:
            self._unanswered[session.id] = theirs
        return effects

    def _answer(self, session: Session, theirs: dict[int, int], effects: list[Effect]) -> None:
        # What we do not know can't change the answer, and must not cost pycrdt anything.
        ours = self.content.gate.clocks
        state_vector = encode_state_vector({c: min(n, ours[c]) for c, n in theirs.items() if c in ours})
        if isinstance(session.state, Lagging):
            session.state = Lagging(state_vector, owes_step2=True, closes_at=session.state.closes_at)
            return
        document = self.content.document
        # All joiners of an unchanged document are given one and the same object, which is encoded once.
        update = document.update_since(state_vector) if len(state_vector) > 1 else document.full()
        effects.append(Send(session.id, SyncStep2(update)))
        if isinstance(session.state, Greeted):
            self._sessions.enter_state(session, LIVE)

    def _update_received(self, event: i.UpdateReceived, now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is None:
            return []
        ref = self._next_ref
        self._next_ref = ref + 1
        if session.saved is not None:
            frame = session.saved.received()
            answer = session.saved.answered() if event.answers_step1 else 0
            self._frames[ref] = (session.id, frame, answer)
            self._sessions.saving[session.id] = session.saved
        content = self.content
        refusal = content.offer(
            event.update, owner=session.id, author=session.author, ref=ref, answers_step1=event.answers_step1
        )
        effects: list[Effect] = []
        if refusal is not None:
            self._refused(refusal, now, effects)
            return effects
        self._counts.updates_admitted += 1
        if content.waiting and ref in content.waiting:
            self._counts.updates_held += 1
            self._sessions.plan_resync(session, now)
        return effects

    def _refused(self, refusal: Refusal, now: float, effects: list[Effect]) -> None:
        refused = self._counts.updates_refused
        refused[refusal.error.code] = refused.get(refusal.error.code, 0) + 1
        frame = self._frames.pop(refusal.ref, None)
        session = self._sessions.get(refusal.owner)
        if session is None:
            return
        if session.saved is not None and frame is not None:
            session.saved.refused(frame[1])
        if isinstance(refusal.error, HoldOverflow) or refusal.asked_for:
            session.has_hole = True
            self._sessions.plan_resync(session, now)
        else:
            self._end(session.id, refusal.error.code, refusal.error.reason, now, effects)

    def _resync(self, session: Session, now: float, effects: list[Effect]) -> None:
        """Ask a session for its state if its stream still has a hole, and once more later if that does not help (R7)."""
        needed = session.has_hole or self.content.owner_waits(session.id)
        self._sessions.end_resync(session, asked=needed)
        if not needed:
            return
        self._counts.resyncs += 1
        if self.content.loaded:  # else everybody is asked once it is
            self._ask_state(session, effects)
        if self.content.owner_waits(session.id):
            self._sessions.plan_resync(session, now)

    # ------------------------------------------------------------------ the tick

    def _merge(self, effects: list[Effect]) -> bool:
        """Let queued updates take effect; False if the document broke over it and the room must restart (R10, R13)."""
        content = self.content
        try:
            done = content.merge()
        except DocumentBroken as error:
            offender = content.owner_at(error.index)
            self._end(offender, CloseCode.MALFORMED, "update can't be applied", self._last_tick, effects)
            effects.append(Fail(str(error), poisoned=True))
            return False
        if done.updates:
            # Joined byte for byte, not by pycrdt, whose merge changes bigints and subdocuments on the way.
            updates = done.updates if len(done.updates) == 1 else join(done.updates, self.limits.gate)
            author = done.owners[0]
            sole = author if len(done.owners) == 1 or all(owner == author for owner in done.owners) else None
            effects += [Broadcast(SyncUpdate(update), self._sessions.live, sole) for update in updates]
            self._counts.tick_updates += len(done.updates)
        if done.entries:
            self.last_seq += 1
            effects.append(Journal(Row(self.key, self.generation, self.last_seq, tuple(done.entries))))
        if self._frames:
            self._cover(done.settled, effects)
        return True

    def _cover(self, settled: list[int], effects: list[Effect]) -> None:
        """What is whole now is as durable as the newest row: it is in it, or in one before (R4)."""
        touched: dict[int, SavedLedger] = {}
        for ref in settled:
            frame = self._frames.pop(ref, None)
            if frame is None:
                continue
            session_id, number, answer = frame
            ledger = self._sessions.saving.get(session_id)
            if ledger is None:
                continue
            ledger.covered(number, self.last_seq)
            if answer:
                ledger.covered_holes(answer, self.last_seq)
            touched[session_id] = ledger
        if self.committed_seq == self.last_seq:
            for session_id, ledger in touched.items():
                self._tell_saved(session_id, ledger, effects)

    def _tell_saved(self, session_id: int, ledger: SavedLedger, effects: list[Effect]) -> None:
        if not ledger.committed(self.committed_seq):
            return
        if ledger.settled:
            del self._sessions.saving[session_id]
        session = self._sessions.get(session_id)
        if session is not None and not isinstance(session.state, Lagging):
            effects.append(Send(session_id, Saved(ledger.count)))

    def _committed(self, event: i.Committed, _now: float) -> list[Effect]:
        # A commit of before a restart may still be reported; the loaded state already includes it.
        self.committed_seq = max(self.committed_seq, event.seq)
        effects: list[Effect] = []
        for session_id, ledger in list(self._sessions.saving.items()):
            self._tell_saved(session_id, ledger, effects)
        return effects

    # ------------------------------------------------------------------ presence

    def _awareness_received(self, event: i.AwarenessReceived, now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is None:
            return []
        effects: list[Effect] = []
        try:
            received = self.roster.receive(session.id, event.update, now)
        except RemoteError as error:
            self._end(session.id, error.code, error.reason, now, effects)
            return effects
        if received.nudge is not None:
            effects.append(Send(session.id, Awareness(received.nudge)))
        if received.returned:
            self._nudges.returned(session.id)
            self._nudge(now, effects)
        self._presence_changed()
        return effects

    def _nudge(self, now: float, effects: list[Effect]) -> None:
        effects += [Send(to, Awareness(nudge)) for to, nudge in self._nudges.run(now, self._sessions.present)]

    def _awareness_queried(self, event: i.AwarenessQueried, _now: float) -> list[Effect]:
        everybody = self.roster.full()
        if self._sessions.get(event.session) is None or everybody is None:
            return []
        return [Send(event.session, Awareness(everybody))]

    def _share_presence(self, now: float, effects: list[Effect]) -> None:
        update = self.roster.take(now)
        self._presence_changed()
        self._counts.presence_changes += 1
        if update is not None:
            # The sender gets it back too: the provider's watchdog lives on that echo (PROTOCOL, keep-alive).
            effects.append(Broadcast(Awareness(update), self._sessions.present, None))

    # ------------------------------------------------------------------ slow readers (R8)

    def _outbox_busy(self, event: i.OutboxBusy, _now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is not None and isinstance(session.state, Live):
            self._sessions.enter_state(session, CROWDED)
        return []

    def _outbox_full(self, event: i.OutboxFull, now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is not None and not isinstance(session.state, Lagging):
            self._counts.outbox_overflows += 1
            # The document as it stands is what a synced session was sent last: the outbox still took that frame.
            sent = None if isinstance(session.state, Greeted) else self.content.document.state_vector()
            closes_at = now + self.limits.slow_reader_close_s
            self._sessions.enter_state(session, Lagging(sent, owes_step2=False, closes_at=closes_at))
        return []

    def _outbox_drained(self, event: i.OutboxDrained, _now: float) -> list[Effect]:
        session = self._sessions.get(event.session)
        if session is None or isinstance(session.state, Greeted | Live):
            return []
        effects: list[Effect] = []
        state = session.state
        if isinstance(state, Lagging):
            if not self.content.loaded:
                # Restarted meanwhile: everybody is greeted and answered once it is loaded.
                self._sessions.enter_state(session, LIVE)
                if state.state_vector is not None:
                    self._unanswered[session.id] = decode_state_vector(
                        state.state_vector, clients_max=self.limits.state_vector_clients_max
                    )
                return effects
            if state.state_vector is None:
                self._sessions.enter_state(session, GREETED)
            else:
                diff = self.content.document.update_since(state.state_vector)
                message: Message = SyncStep2(diff) if state.owes_step2 else SyncUpdate(diff)
                effects.append(Send(session.id, message))
                self._sessions.enter_state(session, LIVE)
        else:
            assert isinstance(state, Crowded)
            self._sessions.enter_state(session, LIVE)
        # Presence was shed meanwhile: who is here, and who is not any more.
        told = (self.roster.full(), self.roster.gone())
        effects += [Send(session.id, Awareness(update)) for update in told if update is not None]
        if session.saved is not None:
            effects.append(Send(session.id, Saved(session.saved.count)))
        return effects

    # ------------------------------------------------------------------ journal and restarts

    def _loaded(self, event: i.Loaded, _now: float) -> list[Effect]:
        self.generation = event.stored.generation
        self.last_seq = self.committed_seq = event.stored.last_seq
        self.content.load(event.stored)
        return []

    def _commit_failed(self, event: i.CommitFailed, _now: float) -> list[Effect]:
        if not self.content.loaded:
            return []  # one of several rows that failed together; the room starts over already
        return [Fail(f"row {event.seq} could not be committed: {event.reason}", poisoned=False)]

    def _journal_changed(self, event: i.JournalChanged, _now: float) -> list[Effect]:
        self._journal_available = event.available
        self._set_writable()
        return []

    def _restarted(self, event: i.Restarted, _now: float) -> list[Effect]:
        self.quarantined = event.read_only
        effects: list[Effect] = []
        self._start_over(effects, kept=self.committed_seq)
        return effects

    def _start_over(self, effects: list[Effect], *, kept: int) -> None:
        """Forget the document, keep the sessions, load. Everybody is asked for their state when it is there (R13)."""
        self.content = Content(self.limits)
        self._set_writable()
        self._frames.clear()
        for session in self._sessions:
            if session.saved is not None:
                session.saved.restarted(kept)
        effects.append(Load())

    def _set_writable(self) -> None:
        if self._journal_available and not self.quarantined:
            self.content.read_only = None
        else:
            self.content.read_only = read_only_error(quarantined=self.quarantined)

    def _pace_changed(self, event: i.PaceChanged, _now: float) -> list[Effect]:
        self._interval = event.tick_interval_s
        self._crowd_changed()
        return []
