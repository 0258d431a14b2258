"""A Yjs peer for tests: pycrdt's document on a real WebSocket, counting what the server said is saved.

Speaks the y-websocket protocol with pycrdt's own codec, so that ours is not tested against itself. Many of them fit into
one event loop. Knows nothing of the server's process:

    async with await Peer.join(node.ws_url, "room") as ann:    # returns once synced
        frame = await ann.edit(lambda text: text.insert(0, "hello"))
        await ann.wait_saved(frame)
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from pycrdt import (
    Decoder,
    Doc,
    Text,
    TransactionEvent,
    create_sync_message,
    create_update_message,
    handle_sync_message,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SYNC: Final = 0
STEP1: Final = b"\x00\x00"
STEP2: Final = b"\x00\x01"
UPDATE: Final = b"\x00\x02"
SAVED: Final = b"\x74\x00"

NO_CLOSE_FRAME: Final = 1006


class Close(NamedTuple):
    """How the connection ended; the code is 1006 when it did without a close frame."""

    code: int
    reason: str


class Peer:
    """One connection and its document; made by `join`, left by `leave` or the end of an `async with`.

    `received` counts frames by their first byte, `saved` is the last count the server sent (-1 before the first),
    `sent` the document frames sent so far, `closed` how the connection ended.
    """

    def __init__(self, socket: ClientConnection, doc: "Doc[Text] | None") -> None:
        self.doc: Doc[Text] = Doc() if doc is None else doc
        self.text = self.doc.get("text", type=Text)
        self.received: Counter[int] = Counter()
        self.saved = -1
        self.sent = 0
        self.synced = False
        self.closed: Close | None = None
        self._socket = socket
        self._news = asyncio.Event()
        self._receiving = False
        self._edits: list[bytes] = []
        self._subscription = self.doc.observe(self._observed)
        self._task = asyncio.create_task(self._receive())

    @classmethod
    async def open(
        cls, ws_url: str, room: str, *, doc: "Doc[Text] | None" = None, saved: bool = True, within_s: float = 10.0
    ) -> Self:
        """Connects and asks for the document, without waiting for anything. `doc` is kept over a reconnect."""
        url = f"{ws_url}/{quote(room, safe='/')}{'?saved=1' if saved else ''}"
        # Pings would be the client's own watch over the server, which is not what is tested with it.
        socket = await connect(url, compression=None, max_size=None, ping_interval=None, open_timeout=within_s)
        peer = cls(socket, doc)
        await peer.send(create_sync_message(peer.doc))
        return peer

    @classmethod
    async def join(
        cls, ws_url: str, room: str, *, doc: "Doc[Text] | None" = None, saved: bool = True, within_s: float = 10.0
    ) -> Self:
        """Connects and returns once the document is there. `AssertionError` if the server closes instead."""
        peer = await cls.open(ws_url, room, doc=doc, saved=saved, within_s=within_s)
        try:
            await peer.wait("synced", lambda: peer.synced, within_s=within_s)
        except BaseException:
            await peer.leave()
            raise
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def edit(self, change: Callable[[Text], object]) -> int:
        """Changes the text in one transaction and sends it. Returns the number of its frame: saved from that count on.

        A connection that is closed, or closes now, is no error: the frame then never counts.
        """
        with self.doc.transaction():
            change(self.text)
        if not self._edits:
            return self.sent
        return await self.send(create_update_message(self._edits.pop()))

    async def send(self, frame: bytes) -> int:
        """Sends a frame as it is. Returns how many that the server counts were sent up to it."""
        if frame[:2] in {STEP2, UPDATE}:
            self.sent += 1
        number = self.sent
        with suppress(ConnectionClosed):
            await self._socket.send(frame)
        return number

    async def wait(self, what: str, holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
        """Returns as soon as it holds; `AssertionError` naming `what` when it does not in time, or no longer can."""
        deadline = time.monotonic() + within_s
        while not holds():
            self._news.clear()
            left = deadline - time.monotonic()
            if self._task.done() or left <= 0:
                self._raise_fault()
                raise AssertionError(f"never so: {what} ({self!r}, waited up to {within_s:g} s)")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    async def wait_saved(self, frame: int | None = None, *, within_s: float = 10.0) -> None:
        """Returns once that frame, or else all sent so far, is reported saved."""
        frames = self.sent if frame is None else frame
        await self.wait(f"{frames} frames saved", lambda: self.saved >= frames, within_s=within_s)

    async def wait_closed(self, *, within_s: float = 10.0) -> Close:
        """Returns how the server ended the connection."""
        await self.wait("closed", lambda: self.closed is not None, within_s=within_s)
        assert self.closed is not None
        return self.closed

    async def leave(self) -> None:
        """Closes with a closing handshake; harmless when closed. What was received until then is in the document."""
        await self._socket.close()
        await self._task
        self._raise_fault()

    async def vanish(self) -> None:
        """Drops the connection without a word, as a machine that lost its power would."""
        self._socket.transport.abort()
        await self._task

    def __repr__(self) -> str:
        return f"<Peer sent={self.sent} saved={self.saved} synced={self.synced} closed={self.closed}>"

    def _observed(self, event: TransactionEvent) -> None:
        if not self._receiving:
            self._edits.append(event.update)

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._socket.recv()
                assert isinstance(message, bytes), f"a text message: {message}"
                await self._handle(message)
                self._news.set()
        except ConnectionClosed:
            code = self._socket.close_code
            self.closed = Close(NO_CLOSE_FRAME if code is None else code, self._socket.close_reason or "")
        finally:
            self._news.set()

    async def _handle(self, message: bytes) -> None:
        self.received[message[0]] += 1
        if message[0] == SYNC:
            self._receiving = True
            reply = handle_sync_message(message[1:], self.doc)
            self._receiving = False
            self.synced = self.synced or message[:2] == STEP2
            if reply is not None:
                await self.send(reply)
        elif message[:2] == SAVED:
            self.saved = Decoder(message[2:]).read_var_uint()

    def _raise_fault(self) -> None:
        """A fault of this peer is the cause of whatever was waited for."""
        if self._task.done() and self._task.exception() is not None:
            raise AssertionError("the peer failed") from self._task.exception()
