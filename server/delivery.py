"""A room's messages on their way to its peers: encoded once for each protocol, and no oftener than need be.

Owns the peers of one actor and knows, by list of recipients, which of them speak what. Reports whose outbox filled up;
what follows from that is the room's (R8).
"""

from collections.abc import Callable
from typing import Final, Protocol

from crdt.sync import SyncStep2, SyncUpdate
from server.outbox import Fill, WireFrame
from server.room.effects import Broadcast, Message
from server.telemetry import Telemetry

SHARED_STEP2_BYTES: Final = 65_536
"""From here on a step 2 is worth keeping encoded."""


class Peer(Protocol):
    """A session as the actor sees it."""

    def encode(self, message: Message) -> WireFrame:
        """The message in this peer's protocol. The same for all peers with the same `framing`."""

    framing: object
    """Identifies the protocol, so that a broadcast is encoded once per protocol."""

    def send(self, frame: WireFrame) -> Fill:
        """Hand over a frame; see `Outbox.put`."""

    def close(self, code: int, reason: str) -> None:
        """End it, perhaps a little later. Nothing is sent to it after."""

    def pause_reading(self) -> None:
        """Take no more from it for now."""

    def resume_reading(self) -> None:
        """Go on."""


Route = tuple[Callable[[Message], WireFrame], list[tuple[int, Callable[[WireFrame], Fill]]]]
"""How one protocol encodes, and the sessions that speak it with where to send."""


class Delivery:
    """See the module."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.peers: dict[int, Peer] = {}
        self.full: list[tuple[int, Fill]] = []
        """Sessions whose outbox has just become busy or full, to be taken out by the caller."""
        self._telemetry = telemetry
        self._routes_for: tuple[int, ...] = ()
        self._routes: list[Route] = []
        self._shared_step2: tuple[bytes, object, WireFrame] | None = None

    def send(self, session: int, message: Message) -> None:
        """One message to one session, if it is still there."""
        peer = self.peers.get(session)
        if peer is not None:
            self._telemetry.frames_out += 1
            fill = peer.send(self._encode(peer, message))
            if fill:
                self.full.append((session, fill))

    def broadcast(self, effect: Broadcast) -> None:
        """One message to many."""
        if type(effect.message) is SyncUpdate:
            self._shared_step2 = None
        if effect.to is not self._routes_for:
            self._plan_routes(effect.to)
        sent = 0
        skip = effect.skip
        for encode, readers in self._routes:
            frame = encode(effect.message)
            for session, send in readers:
                if session != skip:
                    sent += 1
                    fill = send(frame)
                    if fill:
                        self.full.append((session, fill))
        self._telemetry.frames_out += sent
        self._telemetry.bytes_out += sent * len(effect.message.update)

    def _encode(self, peer: Peer, message: Message) -> WireFrame:
        """A large step 2 is kept while the document stays as it is: readers that come one after the other share it."""
        if type(message) is not SyncStep2 or len(message.update) < SHARED_STEP2_BYTES:
            return peer.encode(message)
        shared = self._shared_step2
        if shared is None or shared[0] is not message.update or shared[1] != peer.framing:
            shared = self._shared_step2 = (message.update, peer.framing, peer.encode(message))
        return shared[2]

    def _plan_routes(self, to: tuple[int, ...]) -> None:
        """Whom a list of recipients means, by protocol. The room makes a new list whenever it changes."""
        by_framing: dict[object, Route] = {}
        for session in to:
            peer = self.peers.get(session)
            if peer is not None:
                by_framing.setdefault(peer.framing, (peer.encode, []))[1].append((session, peer.send))
        self._routes = list(by_framing.values())
        self._routes_for = to
