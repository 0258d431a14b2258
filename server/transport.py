"""The WebSocket under a session: uvicorn's sans-I/O protocol with two short cuts for a broadcasting application.

An ASGI application that finds `scope["extensions"]["tutti.direct"]` (a `DirectWebSocket`) may, after its
`websocket.accept`, call `attach(receiver)` and *return*: messages are then handed to the receiver as they are parsed,
without a queue, a task switch and pause/resume per message, and finished frames are written without being encoded
again. Per idle connection that also frees the ASGI task, its scope and its queue.

Everything else (handshake, parser, fragmentation, closing handshake, limits) stays uvicorn's and websockets'. On another
server the extension is absent and `server.socket` goes through the plain ASGI messages.
"""

import asyncio
import os
from typing import Any, Final, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected, is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode, apply_mask  # type: ignore[attr-defined]  # C where it is built
from websockets.http11 import Request
from websockets.protocol import State

from server.outbox import WireFrame

EXTENSION: Final = "tutti.direct"

PIECE_BYTES: Final = 4096
"""Received bytes parsed and handled in one turn of the loop. The kernel hands over 256 KiB at once: as the smallest
messages, which only a hostile peer sends, that is a second of work (2026-11); this much is 20 ms (R17). A large message
pays 6 us a KiB for it."""

_BINARY_FINAL: Final = 0x82
_MASKED: Final = 0x80
_LENGTH_16: Final = 126
"""First and second byte of a frame, and the length from which on it takes more (RFC 6455 section 5.2)."""

_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)


def websocket_frame(payload: bytes, fragment_bytes: int) -> WireFrame:
    """A binary message as finished frames for any number of connections (RFC 6455 section 5.4; servers don't mask).

    Above `fragment_bytes` it is cut into fragments, so that pings and the outbox's bound fit in between.
    """
    if len(payload) < _LENGTH_16:
        return bytes((_BINARY_FINAL, len(payload))) + payload  # what the next line makes of it, at a tenth of the cost
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
        self._fd = -1  # of the socket under the transport, if bytes written to it are what the peer gets (no TLS)
        self._unread = memoryview(b"")  # received, not parsed yet: the transport is paused while there is any
        self._parsing: asyncio.Handle | None = None
        self._gathered: bytearray | None = None  # a message whose fragments are still coming

    def attach(self, receiver: Receiver) -> None:
        """From now on `receiver` gets what comes in. Call right after accepting, before the loop turns."""
        self.receiver = receiver
        # What only the handshake needed: at tens of thousands of idle sockets this is most of their memory.
        del self.request, self.response, self.scope
        self.queue = _NO_QUEUE

    def write(self, data: bytes) -> None:
        """Write a finished frame. Nothing may follow a close frame (RFC 6455 section 5.5.1)."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(data)

    def write_now(self, data: bytes) -> None:
        """The same while `writable_now`: the transport's buffer is empty then, so the kernel can be asked directly.

        Saves three calls for each reader of each frame.
        """
        if self._fd < 0:
            self.transport.write(data)
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.transport.write(data)  # meets the same error, and ends the connection for it
            return
        if sent < len(data):
            self.transport.write(data[sent:])

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
        self.writable_now = False
        # The peer's answer can only be seen while reading.
        self.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def abort(self) -> None:
        """Drop the connection without a word: a half-open peer would not hear one."""
        self.writable_now = False
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
            if self._unread:
                self._parse_soon()
            else:
                self.transport.resume_reading()

    # ---- uvicorn's hooks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Paused by the first byte that the kernel does not take, resumed when there is none left: what is owed to a
        # slow reader waits in its outbox, and `writable_now` means that the transport's buffer is empty.
        self.transport.set_write_buffer_limits(high=0)
        if not is_ssl(self.transport):
            self._fd = self.transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        payload = self._only_message(data) if self.receiver is not None else None
        if payload is not None:
            self.ping_pending = False
            assert self.receiver is not None
            self.receiver.message_received(payload)
            return
        if self._unread or len(data) > PIECE_BYTES:
            self.transport.pause_reading()
            self._unread = memoryview(self._unread.tobytes() + data)
            self._parse_soon()
        else:
            super().data_received(data)

    def _only_message(self, data: bytes) -> bytes | None:
        """The payload, if `data` is exactly one small unfragmented binary message and nothing else is under way.

        That is what nearly all messages are. Warm, one takes 0.5 µs this way and 2.3 by websockets' general parser, uvicorn's
        dispatch not counted (Python 3.11, 2026-11). Anything else, and any error, is the parser's.
        """
        size = len(data) - 6
        if (
            0 <= size < 126
            and data[0] == _BINARY_FINAL
            and data[1] == _MASKED | size
            and not self._unread
            and not self.close_sent
            and not self.conn.reader.buffer
            and self.conn.current_size is None
            and self.conn.state is State.OPEN
        ):
            return bytes(apply_mask(data[6:], data[2:6]))
        return None

    def _parse_soon(self) -> None:
        if self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse_piece)

    def _parse_piece(self) -> None:
        """Parse the next piece of what was received, and the rest in later turns: other connections come in between."""
        self._parsing = None
        # Before an application attaches, uvicorn pauses and resumes the transport by itself, and does not know of this.
        if self.transport.is_closing() or (self.read_paused and self.receiver is not None):
            return
        piece, self._unread = self._unread[:PIECE_BYTES], self._unread[PIECE_BYTES:]
        super().data_received(piece.tobytes())
        if self._unread:
            self._parse_soon()
        elif not self.read_paused and not self.disconnected:
            self.transport.resume_reading()

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
        (data,), self.frames = self.frames, []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "bytes":
            receiver.message_received(data if type(data) is bytes else bytes(data))
        else:
            receiver.text_received()

    def handle_cont(self, event: Frame) -> None:
        # The parser bounds the bytes of a message, not its fragments, which may be empty or hold a byte each: one buffer
        # takes them all, where a list would take fifty times the message (R7).
        if self._gathered is None:
            self._gathered = bytearray(self.frames[0])
        self._gathered += event.data
        if event.fin:
            self.frames, self._gathered = [bytes(self._gathered)], None
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.writable_now and not self.transport.is_closing():
            super().handle_ping()
        else:
            # A peer that pings and does not read would fill our memory with pongs. RFC 6455 section 5.5.3 lets us
            # answer only the latest; a later ping gets its answer once the peer reads again.
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        self.ping_pending = False
        if self.receiver is None:
            super().handle_pong(event)

    def shutdown(self) -> None:
        self.writable_now = False
        super().shutdown()

    def handle_close(self, event: Frame) -> None:
        self.writable_now = False
        super().handle_close(event)
        self._drop_if_unread()

    def handle_parser_exception(self) -> None:
        """Say why, then wait for the peer's end instead of closing: one that is still sending its too large message would
        be answered with a reset, and never read the close frame."""
        self.writable_now = False
        if not self.transport.can_write_eof():
            super().handle_parser_exception()
            self._drop_if_unread()
        elif not self.close_sent:
            self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.write_eof()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def _drop_if_unread(self) -> None:
        """uvicorn closes the transport, which waits until all is written: for a peer that does not read, forever."""
        if self.close_timer is None and self.transport.is_closing():
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def pause_writing(self) -> None:
        self.writable_now = False
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.close_sent and not self.transport.is_closing():
            self.writable_now = True
            if self.receiver is not None:
                self.receiver.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable_now = False
        self._fd = -1  # closed next, and then perhaps another connection's
        super().connection_lost(exc)
        # What was not parsed is lost with the connection, as what was still under way is: nobody called it saved.
        self._unread = memoryview(b"")
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
