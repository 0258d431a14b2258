"""An actor under test: a journal in memory that commits when told to, and peers that keep what they are sent."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pycrdt

from crdt.errors import TuttiError, Unavailable
from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from server.actor import Actor
from server.outbox import Fill, WireFrame
from server.pace import Pace
from server.room.effects import Message, Saved
from server.room.inputs import StateVectorReceived, UpdateReceived
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.room.rows import Row, StoredRoom
from server.supervision import RestartBudget
from server.telemetry import Telemetry

KEY: Final = RoomKey("", "room")


class MemoryJournal:
    """`server.actor.RoomJournal`. With `autocommit` a row is reported in the next turn of the loop, else by `commit`."""

    def __init__(self, *, autocommit: bool = True) -> None:
        self.rows: list[Row] = []
        self.pending: list[tuple[Row, Callable[[int, Unavailable | None], None]]] = []
        self.autocommit = autocommit
        self.available = True
        self.refusal: Unavailable | None = None
        """Raised by `append` while set."""
        self.load_errors: list[TuttiError] = []
        """Raised by the next loads, one each."""
        self.loads = 0
        self.log: list[str] = []

    def append(self, row: Row, done: Callable[[int, Unavailable | None], None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.log.append(f"append {row.seq}")
        self.pending.append((row, done))
        if self.autocommit:
            asyncio.get_running_loop().call_soon(self.commit)

    def commit(self) -> None:
        pending, self.pending = self.pending, []
        for row, done in pending:
            self.rows.append(row)
            done(row.seq, None)

    def fail(self, error: Unavailable) -> None:
        pending, self.pending = self.pending, []
        for row, done in pending:
            done(row.seq, error)

    async def load(self, key: RoomKey) -> StoredRoom:
        self.loads += 1
        await asyncio.sleep(0)
        if self.load_errors:
            raise self.load_errors.pop(0)
        return StoredRoom(key, 1, None, tuple(self.rows))


@dataclass
class ActedPeer:
    """`server.actor.Peer`, and the document behind it."""

    id: int
    log: list[str]
    framing: object = "y"
    doc: "pycrdt.Doc[pycrdt.Text]" = field(default_factory=pycrdt.Doc)
    received: list[Message] = field(default_factory=list)
    frames: list[WireFrame] = field(default_factory=list)
    closed: tuple[int, str] | None = None
    reading: bool = True
    fill: Fill = Fill.CLEAR
    """What the next `send` answers."""
    encoded: int = 0

    def __post_init__(self) -> None:
        self.text = self.doc.get("text", type=pycrdt.Text)

    def encode(self, message: Message) -> WireFrame:
        self.encoded += 1
        return pickle.dumps(message)

    def send(self, frame: WireFrame) -> Fill:
        assert self.closed is None, "nothing is sent to a peer that was closed"
        assert isinstance(frame, bytes)
        message: Message = pickle.loads(frame)  # of any peer's encoding, as in a room of one protocol
        self.log.append(f"send {self.id} {type(message).__name__}")
        self.frames.append(frame)
        self.received.append(message)
        if isinstance(message, SyncStep2 | SyncUpdate):
            self.doc.apply_update(message.update)
        fill, self.fill = self.fill, Fill.CLEAR
        return fill

    def close(self, code: int, reason: str) -> None:
        assert self.closed is None
        self.closed = (int(code), reason)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.received]

    def saved(self) -> int:
        return max((message.count for message in self.received if isinstance(message, Saved)), default=-1)

    def insert(self, text: str) -> bytes:
        """Insert at the end; the update, as a provider would send it."""
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        self.text.insert(len(self.text), text)
        self.doc.unobserve(subscription)
        return updates[0]


class Stage:
    """One actor with its journal and peers."""

    def __init__(
        self,
        *,
        journal: MemoryJournal | None = None,
        limits: RoomLimits | None = None,
        inbox_bytes_max: int = 1 << 22,
        restarts_max: int = 3,
        quarantine_s: float = 60.0,
        recorder: Any = None,
    ) -> None:
        self.journal = journal or MemoryJournal()
        self.telemetry = Telemetry()
        self.gave_up: list[Actor] = []
        limits = limits or RoomLimits(tick_interval_s=0.001)
        self.actor = Actor(
            KEY,
            limits=limits,
            journal=self.journal,
            journal_available=True,
            pace=Pace.between(limits.tick_interval_s, 0.1),
            inbox_bytes_max=inbox_bytes_max,
            budget=RestartBudget(restarts_max, 60.0),
            quarantine_s=quarantine_s,
            telemetry=self.telemetry,
            recorder=recorder,
            failed=self.gave_up.append,
        )

    def join(self, session: int, *, saved: bool = False, sync: bool = True, framing: object = "y") -> ActedPeer:
        peer = ActedPeer(session, self.journal.log, framing, pycrdt.Doc(client_id=session))
        self.actor.join(session, peer, author=f"author {session}", wants_saved=saved)
        if sync:
            self.actor.post(StateVectorReceived(session, peer.doc.get_state()))
        return peer

    def send(self, peer: ActedPeer, update: bytes) -> None:
        self.actor.post(UpdateReceived(peer.id, update, answers_step1=False))

    def type(self, peer: ActedPeer, text: str) -> None:
        self.send(peer, peer.insert(text))

    def answer(self, peer: ActedPeer) -> None:
        """Answers the last step 1 that it was sent."""
        step1 = next(message for message in reversed(peer.received) if isinstance(message, SyncStep1))
        self.actor.post(UpdateReceived(peer.id, peer.doc.get_update(step1.sv), answers_step1=True))


@asynccontextmanager
async def stage(**how: Any) -> AsyncIterator[Stage]:
    """An actor that runs; stopped at the end, which must work."""
    made = Stage(**how)
    made.actor.start()
    yield made
    made.journal.autocommit = True
    made.journal.commit()
    made.actor.stop()
    async with asyncio.timeout(5):
        await made.actor.closed.wait()


async def until(holds: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110  conditions of many kinds, and nobody to set an event
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Everything that is due now."""
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
