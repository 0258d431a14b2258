"""One socket of `/ws/{room}`: the y-websocket protocol between a connection and its room.

Joins the room, turns frames into inputs and the room's messages into frames, keeps the outbox. Runs on `DirectWebSocket`
without a task of its own; on other ASGI servers through `AsgiConnection`. Decides nothing about documents.
"""

import asyncio
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote_to_bytes

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from crdt.errors import CloseCode, RemoteError
from server import framing
from server.actor import Actor
from server.asgi import AsgiConnection
from server.hub import Busy, Hub
from server.outbox import Fill, Outbox, WireFrame
from server.room.effects import Message
from server.room.inputs import OutboxDrained
from server.room.key import RoomKey
from server.transport import EXTENSION, DirectWebSocket, Receiver, websocket_frame

PREFIX: Final = b"/ws/"

REFUSALS_WAITING_MAX: Final = 1000
"""Refused sockets kept open for `close_delay_s`. Past it they are closed at once: the delay protects, it must not cost."""


class Connection(Protocol):
    """What a session needs of a connection: `DirectWebSocket` or `AsgiConnection`."""

    writable_now: bool

    def attach(self, receiver: Receiver) -> None: ...
    def write(self, data: bytes) -> None: ...
    def write_now(self, data: bytes) -> None: ...
    def ping(self) -> bool: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class YSession:
    """A session in its room (`server.delivery.Peer`), on its connection (`server.transport.Receiver`)."""

    __slots__ = ("_actor", "_closing", "_connection", "_hub", "_outbox", "_quiet", "framing", "id")

    def __init__(self, session: int, hub: Hub, actor: Actor, connection: Connection) -> None:
        self.id = session
        self.framing: object = "y-websocket" if isinstance(connection, DirectWebSocket) else "y-websocket payload"
        self._hub = hub
        self._actor = actor
        self._connection = connection
        self._outbox = Outbox(connection, hub.settings.outbox_bytes_max)
        self._closing = False
        self._quiet = False  # nothing was sent since the last visit

    # ---- server.delivery.Peer

    def encode(self, message: Message) -> WireFrame:
        """See `server.framing`."""
        payload = framing.encode(message)
        if isinstance(self._connection, DirectWebSocket):
            return websocket_frame(payload, self._hub.settings.outbox_slice_bytes)
        return payload

    def send(self, frame: WireFrame) -> Fill:
        """Hand a frame to the outbox."""
        self._quiet = False
        if self._connection.writable_now and not self._outbox.bytes and type(frame) is bytes:
            self._connection.write_now(frame)
            return Fill.CLEAR
        return self._outbox.put(frame)

    def close(self, code: int, reason: str) -> None:
        """Close after `close_delay_s`: providers before 3.1 come back within 100 ms, whatever the code says."""
        if not self._closing:
            self._closing = True
            self._connection.pause_reading()
            asyncio.get_running_loop().call_later(
                self._hub.settings.close_delay_s, self._connection.close, int(code), reason
            )

    def pause_reading(self) -> None:
        """The room has enough for now."""
        self._connection.pause_reading()

    def resume_reading(self) -> None:
        """The room can take more."""
        if not self._closing:
            self._connection.resume_reading()

    # ---- server.transport.Receiver

    def message_received(self, data: bytes) -> None:
        """A frame for the room."""
        if self._closing:
            return
        telemetry = self._hub.telemetry
        telemetry.frames_in += 1
        telemetry.bytes_in += len(data)
        event = framing.decode(self.id, data)
        if event is not None:
            self._actor.post(event)

    def text_received(self) -> None:
        """Not part of this protocol."""
        if not self._closing:
            self._actor.post(framing.text_refused(self.id))

    def writing_resumed(self) -> None:
        """Room in the transport again."""
        if self._outbox.pump():
            self._actor.post(OutboxDrained(self.id))

    def connection_lost(self) -> None:
        """The end."""
        self._hub.dismiss(self.id, self._actor)

    # ---- server.hub.Visited

    def visit(self, *, ping: bool) -> None:
        """Keep a silent connection alive, and notice a dead one."""
        if self._closing or not self._connection.writable_now:
            return  # on its way out, or owed so much that the slow-reader policy decides
        if self._quiet:
            self._outbox.put(keepalive(direct=isinstance(self._connection, DirectWebSocket)))
        self._quiet = True
        if ping and not self._connection.ping():
            self._connection.abort()


def keepalive(*, direct: bool) -> WireFrame:
    """The frame that keeps providers from giving up a silent room."""
    return _KEEPALIVE_FRAME if direct else framing.KEEPALIVE


_KEEPALIVE_FRAME: Final = websocket_frame(framing.KEEPALIVE, len(framing.KEEPALIVE))


class BadRoom(RemoteError):
    """A room name nobody can have."""

    code = CloseCode.BAD_ROOM


def room_name(raw: bytes, bytes_max: int) -> str:
    """The name from its percent-encoded form in a path, decoded once. Raises BadRoom."""
    decoded = unquote_to_bytes(raw)
    if not decoded:
        raise BadRoom("room name is empty")
    if len(decoded) > bytes_max:
        raise BadRoom(f"room name is {len(decoded)} bytes, limit is {bytes_max}")
    if b"\0" in decoded:
        raise BadRoom("room name holds a NUL")
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        raise BadRoom("room name is not valid UTF-8") from None


class Sockets:
    """The endpoint behind `/ws/{room}`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._refusing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from handshake to handing over (or to its end, on a plain ASGI server)."""
        websocket = WebSocket(scope, receive, send)
        try:
            raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
            name = room_name(
                raw_path.removeprefix(scope.get("root_path", "").encode()).removeprefix(PREFIX),
                self._hub.settings.room_name_bytes_max,
            )
            session = self._hub.admit()
        except RemoteError as error:
            await self._refuse(websocket, error)
            return
        actor: Actor | None = None
        handed_over = False
        try:
            actor = await self._hub.enter(RoomKey("", name))
            if len(actor.peers) >= self._hub.settings.sessions_per_room_max:
                self._hub.release(actor)
                actor = None
                await self._refuse(websocket, Busy("too many sessions in this room"))
                return
            await websocket.accept(subprotocol=next(iter(scope.get("subprotocols") or ()), None))
            handed_over = True
        except RemoteError as error:
            await self._refuse(websocket, error)
            return
        finally:
            if not handed_over:
                if actor is not None:
                    self._hub.release(actor)
                self._hub.dismiss(session, None)
        await self._serve(websocket, session, actor)

    async def _serve(self, websocket: WebSocket, session: int, actor: Actor) -> None:
        direct: Any = websocket.scope.get("extensions", {}).get(EXTENSION)
        connection: Connection = direct if direct is not None else AsgiConnection(websocket)
        peer = YSession(session, self._hub, actor, connection)
        wants_saved = parse_qs(websocket.scope["query_string"].decode("latin-1")).get("saved") == ["1"]
        connection.attach(peer)
        actor.join(session, peer, author=f"{self._hub.run}-{session}", wants_saved=wants_saved)
        self._hub.release(actor)
        self._hub.watch(session, peer)
        if isinstance(connection, AsgiConnection):
            await connection.run()

    async def _refuse(self, websocket: WebSocket, error: RemoteError) -> None:
        """Accept, wait, close with the code: refusing the upgrade would look like a network error and be retried."""
        await websocket.accept(subprotocol=next(iter(websocket.scope.get("subprotocols") or ()), None))
        self._hub.telemetry.closed(error.code)
        if self._refusing < REFUSALS_WAITING_MAX:
            self._refusing += 1
            try:
                await asyncio.sleep(self._hub.settings.close_delay_s)
            finally:
                self._refusing -= 1
        await websocket.close(int(error.code), error.reason)
