"""A bare WebSocket connection for tests: sends any bytes, reads only when told to, answers nothing by itself.

What a broken or hostile client does, where `tests.peer` is an honest one. Frames are built here so that a test may break
them; what comes back is parsed by websockets' own client. Knows nothing of rooms beyond their address:

    async with await Wire.open(node.ws_url, "room") as mallory:
        await mallory.send(b"\\x01\\xff")              # one binary message
        await mallory.write(frame(b"half", fin=False))  # bytes as they are
        assert (await mallory.wait_closed()).code == 4400
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.peer import NO_CLOSE_FRAME, Close

READ_BYTES: Final = 1 << 18


def frame(payload: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    """One masked frame, as a client sends it."""
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


class Wire:
    """One connection; made by `open`, ended by `cut` or the end of an `async with`.

    `messages` are the binary messages read so far, `pongs` how many pongs, `pings` how many pings, `fragments` how many
    data frames, `subprotocol` what the server chose.
    """

    def __init__(self, protocol: ClientProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.messages: list[bytes] = []
        self.pings = 0
        self.pongs = 0
        self.fragments = 0
        self.closed: Close | None = None
        self.answers_pings = True
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._parts: list[bytes] = []

    @classmethod
    async def open(
        cls,
        ws_url: str,
        room: str,
        *,
        query: str = "",
        subprotocols: Sequence[str] = (),
        receive_buffer_bytes: int | None = None,
        within_s: float = 10.0,
    ) -> Self:
        """Connects and returns after the handshake. A small receive buffer makes a slow reader slow soon."""
        url = f"{ws_url}/{quote(room, safe='/%')}{'?' + query if query else ''}"
        return await cls.open_url(
            url, subprotocols=subprotocols, receive_buffer_bytes=receive_buffer_bytes, within_s=within_s
        )

    @classmethod
    async def open_url(
        cls,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        receive_buffer_bytes: int | None = None,
        within_s: float = 10.0,
    ) -> Self:
        """The same for an address written out."""
        where = urlsplit(url)
        plug = narrow_socket(receive_buffer_bytes)
        async with asyncio.timeout(within_s):
            try:
                await asyncio.get_running_loop().sock_connect(plug, (where.hostname, where.port))
                # The stream's own buffer is the least that asyncio reads ahead: what is not asked for stays in the kernel.
                reader, writer = await asyncio.open_connection(sock=plug, limit=READ_BYTES)
            except BaseException:
                plug.close()
                raise
            protocol = ClientProtocol(
                parse_uri(url), subprotocols=[Subprotocol(name) for name in subprotocols] or None, max_size=None
            )
            wire = cls(protocol, reader, writer)
            try:
                protocol.send_request(protocol.connect())
                await wire.write(b"".join(protocol.data_to_send()))
                while protocol.state is State.CONNECTING:
                    await wire._read_some()
                    if protocol.handshake_exc is not None:
                        raise protocol.handshake_exc
            except BaseException:
                await wire.cut()
                raise
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def subprotocol(self) -> str | None:
        return self._protocol.subprotocol

    @property
    def extensions(self) -> list[object]:
        """Extensions that were agreed on."""
        return list(self._protocol.extensions)

    async def send(self, payload: bytes) -> None:
        """One whole binary message."""
        await self.write(frame(payload))

    async def write(self, data: bytes) -> None:
        """Bytes as they are. Returns once they are with the kernel; a connection that is gone takes anything."""
        if not self._writer.transport.is_closing():
            with suppress(ConnectionError):
                self._writer.write(data)
                await self._writer.drain()

    async def offer(self, data: bytes, *, within_s: float) -> bool:
        """As `write`, but a server that does not take them in time is no error: False then."""
        try:
            async with asyncio.timeout(within_s):
                await self.write(data)
        except TimeoutError:
            return False
        return True

    async def read_until(self, what: str, holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Reads until it holds; `AssertionError` naming `what` if it does not in time, or the connection ends first."""
        deadline = time.monotonic() + within_s
        while not holds():
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    alive = await self._read_some()
            except TimeoutError:
                raise AssertionError(f"not within {within_s:g} s: {what}") from None
            assert alive or holds(), f"closed with {self.closed} before: {what}"

    async def read_message(self, kind: bytes, *, within_s: float = 10.0) -> bytes:
        """The next message that begins so and was not asked for before; others in front of it are dropped."""

        def found() -> bool:
            while self.messages and not self.messages[0].startswith(kind):
                self.messages.pop(0)
            return bool(self.messages)

        await self.read_until(f"a message {kind.hex()}", found, within_s=within_s)
        return self.messages.pop(0)

    async def read_for(self, seconds: float) -> None:
        """Reads what comes within that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._read_some():
                    pass

    async def wait_closed(self, *, within_s: float = 10.0) -> Close:
        """Reads on until the server ends the connection."""
        await self.read_until("closed by the server", lambda: self.closed is not None, within_s=within_s)
        assert self.closed is not None
        return self.closed

    async def cut(self) -> None:
        """Drops the connection without a word."""
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _read_some(self) -> bool:
        """One read. False once the connection is over."""
        try:
            data = await self._reader.read(READ_BYTES)
        except ConnectionError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        answer = b"".join(self._protocol.data_to_send())
        if answer and self.answers_pings:
            await self.write(answer)
        if self._protocol.close_rcvd is not None:
            self.closed = Close(int(self._protocol.close_rcvd.code), self._protocol.close_rcvd.reason)
        elif not data:
            self.closed = Close(NO_CLOSE_FRAME, "")
        return self.closed is None

    def _take(self, event: Frame) -> None:
        if event.opcode is Opcode.PONG:
            self.pongs += 1
        elif event.opcode is Opcode.PING:
            self.pings += 1
        elif event.opcode in {Opcode.BINARY, Opcode.CONT}:
            self.fragments += 1
            self._parts.append(bytes(event.data))
            if event.fin:
                self.messages.append(b"".join(self._parts))
                self._parts.clear()


def narrow_socket(receive_buffer_bytes: int | None) -> socket.socket:
    """A TCP socket, not connected; the buffer's size must be set before it is."""
    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    plug.setblocking(False)
    if receive_buffer_bytes is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    else:
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plug


def body(message: bytes, start: int = 2) -> bytes:
    """The byte string that follows the first `start` bytes, which must end the message."""
    size = shift = 0
    while True:
        byte = message[start]
        size |= (byte & 0x7F) << shift
        start += 1
        shift += 7
        if byte < 0x80:
            break
    assert len(message) == start + size
    return message[start:]
