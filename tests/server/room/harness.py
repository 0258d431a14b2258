"""A room under test: inputs as verbs, effects kept, a journal in memory that commits when the test says so.

Peers are real pycrdt documents that speak the sync protocol by hand, so a test decides when bytes move.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pycrdt

from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from server.room import inputs as i
from server.room.effects import Awareness, Broadcast, Close, Effect, Fail, Journal, Load, Message, Saved, Send
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.room.machine import Room
from server.room.rows import Row, StoredRoom

KEY = RoomKey("", "room")


@dataclass
class Peer:
    """A browser: a document, and what the room sent it."""

    id: int
    doc: pycrdt.Doc
    received: list[Message] = field(default_factory=list)
    outgoing: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> pycrdt.Text:
        return self.doc.get("text", type=pycrdt.Text)

    def insert(self, text: str, at: int | None = None) -> bytes:
        """Insert text (at the end by default) and return the update, as the provider would send it."""
        return self._edit(lambda: self.text.insert(len(self.text) if at is None else at, text))

    def delete(self, start: int, end: int) -> bytes:
        """Delete and return the update."""

        def edit() -> None:
            del self.text[start:end]

        return self._edit(edit)

    def _edit(self, edit: Callable[[], object]) -> bytes:
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        edit()
        self.doc.unobserve(subscription)
        (update,) = updates
        return update

    def take(self, kind: type) -> list:
        """The messages of one kind received since the last look."""
        taken = [message for message in self.received if isinstance(message, kind)]
        self.received = [message for message in self.received if not isinstance(message, kind)]
        return taken


class World:
    """One room, its journal and its peers, on a clock that the test moves."""

    def __init__(
        self, limits: RoomLimits | None = None, *, rows: tuple[Row, ...] = (), autocommit: bool = True
    ) -> None:
        self.now = 0.0
        self.rows: list[Row] = list(rows)
        self.uncommitted: list[Row] = []
        self.autocommit = autocommit
        self.journal_works = True
        self.peers: dict[int, Peer] = {}
        self.closed: dict[int, tuple[int, str]] = {}
        self.failures: list[Fail] = []
        self.loads = 0
        self.broadcasts: list[Broadcast] = []
        self.room = Room(KEY, limits or RoomLimits())
        self._run(self.room.open())

    # ---- the room

    def handle(self, event: i.Input) -> list[Effect]:
        effects = self.room.handle(event, self.now)
        self._run(effects)
        return effects

    def tick(self) -> list[Effect]:
        effects = self.room.tick(self.now)
        self._run(effects)
        return effects

    def settle(self, seconds: float = 0.0) -> None:
        """Tick at each deadline until nothing is due within `seconds` of now."""
        end = self.now + seconds
        for _ in range(10_000):
            deadline = self.room.next_deadline()
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            self.tick()
        raise AssertionError("the room never comes to rest")

    def load(self) -> None:
        """Let the journal answer, and the room take it in."""
        self.handle(i.Loaded(StoredRoom(KEY, 1, None, tuple(self.rows))))
        while self.room.content.working:
            self.tick()

    def commit(self) -> None:
        """The disk did it."""
        rows, self.uncommitted = self.uncommitted, []
        self.rows += rows
        for row in rows:
            self.handle(i.Committed(row.seq))

    def fail_commit(self) -> None:
        """The disk did not."""
        rows, self.uncommitted = self.uncommitted, []
        for row in rows[:1]:
            self.handle(i.CommitFailed(row.seq, "disk is full"))

    # ---- peers

    def join(self, session: int, *, saved: bool = False, sync: bool = True, doc: pycrdt.Doc | None = None) -> Peer:
        peer = Peer(session, doc or pycrdt.Doc(client_id=session))
        self.peers[session] = peer
        self.handle(i.SessionJoined(session, f"author-{session}", saved))
        if sync:
            self.sync(peer)
        return peer

    def sync(self, peer: Peer) -> None:
        """Step 1 from the peer, and its answer to every step 1 it was sent."""
        self.handle(i.StateVectorReceived(peer.id, peer.doc.get_state()))
        self.answer(peer)

    def answer(self, peer: Peer) -> None:
        for step1 in peer.take(SyncStep1):
            self.handle(i.UpdateReceived(peer.id, peer.doc.get_update(step1.sv), answers_step1=True))
        self.settle(0.1)

    def send(self, peer: Peer, update: bytes, *, settle: bool = True) -> None:
        self.handle(i.UpdateReceived(peer.id, update, answers_step1=False))
        if settle:
            self.settle(0.1)

    # ---- effects

    def _run(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._deliver(effect.session, effect.message)
                case Broadcast():
                    self.broadcasts.append(effect)
                    for session in effect.to:
                        if session != effect.skip:
                            self._deliver(session, effect.message)
                case Journal():
                    self.uncommitted.append(effect.row)
                    if self.autocommit:
                        self.commit()
                case Close():
                    self.closed[effect.session] = (effect.code, effect.reason)
                    self.peers.pop(effect.session, None)
                case Load():
                    self.loads += 1
                case Fail():
                    self.failures.append(effect)

    def _deliver(self, session: int, message: Message) -> None:
        peer = self.peers[session]
        peer.received.append(message)
        if isinstance(message, SyncStep2 | SyncUpdate):
            peer.doc.apply_update(message.update)

    def document(self) -> str:
        """The text a fresh client would see."""
        doc = pycrdt.Doc()
        doc.apply_update(self.room.content.document.full())
        return str(doc.get("text", type=pycrdt.Text))

    def saved(self, peer: Peer) -> int | None:
        """The last saved count a peer was told."""
        counts = [message.count for message in peer.received if isinstance(message, Saved)]
        assert counts == sorted(counts), "the saved count never goes back"
        return counts[-1] if counts else None


def awareness_of(peer: Peer) -> list[Awareness]:
    return [message for message in peer.received if isinstance(message, Awareness)]
