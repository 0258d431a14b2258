"""A connection on any ASGI server, made to look like `DirectWebSocket`.

Slower (one task and one await per frame), the same behaviour: for tests and for embedding in other servers. Frames are
plain payloads here, so its peers have a framing of their own.
"""

import asyncio
from collections import deque

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from server.transport import Receiver


class AsgiConnection:
    """Wraps an accepted Starlette WebSocket. `run()` until it is over."""

    def __init__(self, websocket: WebSocket) -> None:
        self.writable_now = True
        self._websocket = websocket
        self._receiver: Receiver | None = None
        self._outgoing: deque[bytes] = deque()
        self._closing: tuple[int, str] | None = None
        self._wake_sender = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()

    def attach(self, receiver: Receiver) -> None:
        """See `DirectWebSocket.attach`."""
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        """One payload at a time is with the server: until it took it, `writable_now` is false."""
        if self._closing is None:
            self._outgoing.append(data)
            self.writable_now = False
            self._wake_sender.set()

    def write_now(self, data: bytes) -> None:
        """See `DirectWebSocket.write_now`."""
        self.write(data)

    def ping(self) -> bool:
        """ASGI has no pings; its servers send their own."""
        return True

    def close(self, code: int, reason: str) -> None:
        """After what was written."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake_sender.set()
            self._reading.set()

    def abort(self) -> None:
        """As near as ASGI gets."""
        self.close(1011, "")

    def pause_reading(self) -> None:
        """Stop asking the server for messages."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Ask again."""
        self._reading.set()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        assert self._receiver is not None
        sender = asyncio.create_task(self._send())
        try:
            await self._receive(self._receiver)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            self._receiver.connection_lost()

    async def _receive(self, receiver: Receiver) -> None:
        while True:
            await self._reading.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if self._closing is not None:
                continue
            data = message.get("bytes")
            if data is not None:
                receiver.message_received(data)
            else:
                receiver.text_received()

    async def _send(self) -> None:
        assert self._receiver is not None
        try:
            while True:
                await self._wake_sender.wait()
                self._wake_sender.clear()
                while self._outgoing:
                    await self._websocket.send_bytes(self._outgoing.popleft())
                if self._closing is not None:
                    if self._websocket.application_state is WebSocketState.CONNECTED:
                        await self._websocket.close(*self._closing)
                    return
                self.writable_now = True
                self._receiver.writing_resumed()
        except (WebSocketDisconnect, RuntimeError):
            # Starlette's two ways to say that the peer went while we wrote; `_receive` sees the same.
            return
