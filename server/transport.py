"""The WebSocket under a session: uvicorn's sans-I/O protocol with two short cuts for a broadcasting application.

An ASGI application that finds `scope["extensions"]["tutti.direct"]` (a `DirectWebSocket`) may, after its
`websocket.accept`, call `attach(receiver)` and *return*: messages are then handed to the receiver as they are parsed,
without a queue, a task switch and pause/resume per message, and finished frames are written without being encoded
again. Per idle connection that also frees the ASGI task, its scope and its queue.

Everything else (handshake, parser, fragmentation, closing handshake, limits) stays uvicorn's and websockets'. On another
server the extension is absent and `server.socket` goes through the plain ASGI messages.
"""

import asyncio
from typing import Any, Final, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from server.outbox import WireFrame

EXTENSION: Final = "tutti.direct"

HIGH_WATER_BYTES: Final = 65_536
"""asyncio's own default, spelled out because the outbox's bound builds on it: a peer costs at most this plus a piece."""

_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)


def websocket_frame(payload: bytes, fragment_bytes: int) -> WireFrame:
    """A binary message as finished frames for any number of connections (RFC 6455 section 5.4; servers don't mask).

    Above `fragment_bytes` it is cut into fragments, so that pings and the outbox's bound fit in between.
    """
    if len(payload) <= fragment_bytes:
        return Frame(Opcode.BINARY, payload).serialize(mask=False)
    starts = range(0, len(payload), fragment_bytes)
    return tuple(
        Frame(
            Opcode.CONT if start else Opcode.BINARY,
            payload[start : start + fragment_bytes],
            fin=start + fragment_bytes >= len(payload),
        ).serialize(mask=False)
        for start in starts
    )


class Receiver(Protocol):
    """Who gets what a connection receives. Called on the loop, never re-entered."""

    def message_received(self, data: bytes) -> None:
        """A complete binary message."""

    def text_received(self) -> None:
        """A complete text message; its content is not kept."""

    def writing_resumed(self) -> None:
        """The transport's buffer is down to its low-water mark."""

    def connection_lost(self) -> None:
        """The socket is gone. Called once, and nothing after it."""


class DeadlineHTTP(H11Protocol):
    """uvicorn's HTTP protocol, dropping a connection that has not made a request in time (it has no such limit)."""

    handshake_timeout_s: float = 10.0
    """Set on a subclass per application: uvicorn makes the instances."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.loop.call_later(self.handshake_timeout_s, self._drop_if_silent)

    def _drop_if_silent(self) -> None:
        scope: Any = self.scope  # uvicorn declares it set; it is None until the first request
        if scope is None and not self.transport.is_closing():
            self.transport.close()


class _NoQueue(asyncio.Queue[Any]):
    """The ASGI queue of attached connections: uvicorn puts disconnect events there, `Receiver` has been told already."""

    def put_nowait(self, item: Any) -> None:
        """Keep nothing."""


_NO_QUEUE: Final = _NoQueue()


class DirectWebSocket(WebSocketsSansIOProtocol):
    """One connection. See the module; what is not here is uvicorn's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.receiver: Receiver | None = None
        self.writable_now = True
        self.ping_pending = False

    def attach(self, receiver: Receiver) -> None:
        """From now on `receiver` gets what comes in. Call right after accepting, before the loop turns."""
        self.receiver = receiver
        # What only the handshake needed: at tens of thousands of idle sockets this is most of their memory.
        del self.request, self.response, self.scope
        self.queue = _NO_QUEUE

    def write(self, data: bytes) -> None:
        """Write a finished frame. Nothing may follow a close frame (RFC 6455 section 5.5.1)."""
        if not self.close_sent:
            self.transport.write(data)

    def ping(self) -> bool:
        """Ask the peer for a sign of life. False if it still owes the last one."""
        if self.ping_pending:
            return False
        self.ping_pending = True
        self.write(_PING)
        return True

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the transport closes when the peer answers, or is dropped after a while."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        try:
            # A close frame holds 123 bytes of reason (RFC 6455 section 5.5).
            self.conn.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        except InvalidState:  # the peer's own close crossed ours
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        # The peer's answer can only be seen while reading.
        self.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def abort(self) -> None:
        """Drop the connection without a word: a half-open peer would not hear one."""
        self.transport.abort()

    def pause_reading(self) -> None:
        """Let the peer's bytes wait in the kernel (R7)."""
        if not self.read_paused and not self.disconnected:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self.read_paused and not self.disconnected:
            self.read_paused = False
            self.transport.resume_reading()

    # ---- uvicorn's hooks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:  # the task that reads the scope starts in a later turn of the loop
            extensions: Any = self.scope["extensions"]
            extensions[EXTENSION] = self

    def send_receive_event_to_app(self) -> None:
        receiver = self.receiver
        if receiver is None:
            super().send_receive_event_to_app()
            return
        self.ping_pending = False
        frames, self.frames = self.frames, []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            receiver.message_received(data if type(data) is bytes else bytes(data))
        else:
            receiver.text_received()

    def handle_ping(self) -> None:
        if self.writable_now:
            super().handle_ping()
        else:
            # A peer that pings and does not read would fill our memory with pongs. RFC 6455 section 5.5.3 lets us
            # answer only the latest; a later ping gets its answer once the peer reads again.
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        self.ping_pending = False
        if self.receiver is None:
            super().handle_pong(event)

    def pause_writing(self) -> None:
        self.writable_now = False
        super().pause_writing()

    def resume_writing(self) -> None:
        self.writable_now = True
        super().resume_writing()
        if self.receiver is not None:
            self.receiver.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.connection_lost()

    async def run_asgi(self) -> None:
        """As uvicorn's, except that an application which attached a receiver returns and keeps its connection."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("exception in the ASGI application")
            self.send_500_response()
        else:
            if self.receiver is not None or self.disconnected:
                return
            if not self.handshake_complete:
                self.logger.error("ASGI application returned without completing the handshake")
                self.send_500_response()
        if self.close_timer is None:
            self.transport.close()
