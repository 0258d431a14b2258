"""The transport on real loopback sockets, under applications that do one thing each."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from server.transport import EXTENSION, PIECE_BYTES, DirectWebSocket, websocket_frame
from tests.hosting import serving
from tests.server.acting import until
from tests.wire import Wire, frame

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Inbox:
    """A receiver that keeps what it gets, and the turn of the loop in which it got it."""

    def __init__(self, connection: DirectWebSocket) -> None:
        self.connection = connection
        self.messages: list[bytes] = []
        self.turns: list[int] = []
        self.texts = 0
        self.resumed = 0
        self.lost = 0
        self._turn = 0
        self._counting = asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self._turn += 1
        self._counting = asyncio.get_running_loop().call_soon(self._count)

    def message_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.messages.append(data)
        self.turns.append(self._turn)

    def text_received(self) -> None:
        self.texts += 1

    def writing_resumed(self) -> None:
        self.resumed += 1

    def connection_lost(self) -> None:
        self._counting.cancel()
        self.lost += 1


class Host:
    """Serves the application that attaches and returns; `inbox` is the newest connection's."""

    def __init__(self) -> None:
        self.inboxes: list[Inbox] = []
        self.returned = 0
        self.ws_url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: DirectWebSocket = scope["extensions"][EXTENSION]
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        connection.close_timeout = 0.3
        inbox = Inbox(connection)
        self.inboxes.append(inbox)
        connection.attach(inbox)
        self.returned += 1

    @property
    def inbox(self) -> Inbox:
        return self.inboxes[-1]

    @asynccontextmanager
    async def joined(self, **how: Any) -> AsyncIterator[tuple[Wire, Inbox]]:
        async with await Wire.open(self.ws_url, "x", **how) as wire:
            await until(lambda: len(self.inboxes) > 0)
            yield wire, self.inbox


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    async with serving(made, max_size=1_000_000) as made.ws_url:
        yield made


# ---- frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 999, 1000, 1001, 5000, 65_535, 65_536, 70_001])
def test_frames_are_what_a_client_reads(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    made = websocket_frame(payload, 1000)
    pieces = (made,) if isinstance(made, bytes) else made
    frames = read_frames(b"".join(pieces))
    assert b"".join(bytes(each.data) for each in frames) == payload
    assert [each.opcode for each in frames] == [Opcode.BINARY, *[Opcode.CONT] * (len(frames) - 1)]
    assert [each.fin for each in frames] == [*[False] * (len(frames) - 1), True]
    assert len(frames) == max(1, -(-size // 1000))
    assert all(len(each.data) <= 1000 for each in frames)


def read_frames(data: bytes) -> list[Frame]:
    """All frames in there, read by websockets' own parser."""
    reader = StreamReader()
    reader.feed_data(data)
    frames = []
    while reader.buffer:
        steps = Frame.parse(reader.read_exact, mask=False, max_size=None)
        try:
            next(steps)
        except StopIteration as stop:
            frames.append(stop.value)
    return frames


# ---- attaching


async def test_an_application_that_attaches_may_return(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        await until(lambda: host.returned == 1)
        await asyncio.sleep(0.05)
        await wire.write(frame(b"one") + frame(b"two") + frame(b"text", Opcode.TEXT) + frame(b""))
        await until(lambda: len(inbox.messages) == 3)
        assert inbox.messages == [b"one", b"two", b""]
        assert inbox.texts == 1
        inbox.connection.write(Frame(Opcode.BINARY, b"back").serialize(mask=False))
        inbox.connection.write_now(Frame(Opcode.BINARY, b"again").serialize(mask=False))
        assert await wire.read_message(b"back") == b"back"
        assert await wire.read_message(b"again") == b"again"
        assert not inbox.connection.tasks, "nothing but the protocol itself is left of the connection"
    await until(lambda: inbox.lost == 1)
    assert inbox.connection.receiver is None


async def test_an_attached_connection_keeps_nothing_of_its_handshake(host: Host) -> None:
    async with host.joined() as (_, inbox):
        connection = inbox.connection
        for name in ("request", "response", "scope"):
            assert not hasattr(connection, name)
        other = Host()
        async with serving(other) as other.ws_url, other.joined() as (_, second):
            assert second.connection.queue is connection.queue, "one queue that keeps nothing, for all"
        connection.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        assert connection.queue.empty()


async def test_the_loss_of_a_connection_is_told_once(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        await wire.cut()
        await until(lambda: inbox.lost == 1)
        inbox.connection.write(b"\x82\x00")
        inbox.connection.close(1000, "late")
        inbox.connection.pause_reading()
        inbox.connection.resume_reading()
        await asyncio.sleep(0.05)
        assert inbox.lost == 1


async def test_without_attaching_it_is_the_stock_protocol() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": message.get("bytes") or message["text"].encode()})

    async with serving(echo) as ws_url, await Wire.open(ws_url, "x") as wire:
        large = bytes(100_000)
        await wire.write(frame(b"one") + frame(b"zwei", Opcode.TEXT) + frame(large))
        await wire.write(frame(b"a", fin=False) + frame(b"b", Opcode.CONT, fin=False) + frame(b"c", Opcode.CONT))
        await wire.read_until("all of it", lambda: len(wire.messages) == 4)
        assert wire.messages == [b"one", b"zwei", large, b"abc"]


@pytest.mark.parametrize("fault", ["raises", "returns"])
async def test_an_application_that_fails_before_accepting_is_a_500(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if fault == "raises":
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR):
        async with serving(broken) as ws_url:
            with pytest.raises(InvalidStatus):
                await Wire.open(ws_url, "x")
    assert caplog.records


# ---- reading


async def test_fragments_are_one_message_however_many(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        await wire.write(frame(b"<", fin=False))
        await wire.write(frame(b"", Opcode.CONT, fin=False) * 3000)
        await wire.write(frame(b"x", Opcode.CONT, fin=False) * 3000)
        await until(lambda: inbox.connection._gathered is not None and len(inbox.connection._gathered) == 3001)
        assert len(inbox.connection.frames) == 1, "what came is in one buffer, not in a list of fragments"
        await wire.write(frame(b">", Opcode.CONT) + frame(b"next"))
        await until(lambda: len(inbox.messages) == 2)
        assert inbox.messages == [b"<" + b"x" * 3000 + b">", b"next"]
        await wire.write(frame(b"te", Opcode.TEXT, fin=False) + frame(b"xt", Opcode.CONT))
        await until(lambda: inbox.texts == 1)


async def test_R17_many_small_messages_are_handled_in_several_turns(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        count = 4 * PIECE_BYTES // 7
        await wire.write(b"".join(frame(bytes((number % 256,))) for number in range(count)))
        await until(lambda: len(inbox.messages) == count)
        assert inbox.messages == [bytes((number % 256,)) for number in range(count)]
        per_turn = max(inbox.turns.count(turn) for turn in set(inbox.turns))
        assert per_turn <= PIECE_BYTES // 7 + 1
        assert len(set(inbox.turns)) >= 4


async def test_R7_while_reading_is_paused_nothing_is_handed_over(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        connection = inbox.connection
        connection.pause_reading()
        connection.pause_reading()
        writing = asyncio.create_task(wire.write(b"".join(frame(b"%d" % n) for n in range(20_000))))
        await asyncio.sleep(0.1)
        assert not inbox.messages
        connection.resume_reading()
        await until(lambda: len(inbox.messages) > 10)
        connection.pause_reading()
        paused_at = len(inbox.messages)
        await asyncio.sleep(0.1)
        assert len(inbox.messages) == paused_at, "what was read already waits as well"
        connection.resume_reading()
        await writing
        await until(lambda: len(inbox.messages) == 20_000)
        assert inbox.messages == [b"%d" % n for n in range(20_000)]


# ---- writing


async def test_a_peer_that_does_not_read_is_noticed_at_once(host: Host) -> None:
    async with host.joined(receive_buffer_bytes=4096) as (wire, inbox):
        connection = inbox.connection
        piece = Frame(Opcode.BINARY, bytes(50_000)).serialize(mask=False)
        written = 0
        while connection.writable_now:
            connection.write_now(piece)
            written += 1
        assert connection.transport.get_write_buffer_size() <= len(piece)
        assert written * len(piece) < 20_000_000
        await wire.read_until("all of it", lambda: len(wire.messages) == written)
        await until(lambda: connection.writable_now)
        assert inbox.resumed >= 1
        assert all(message == bytes(50_000) for message in wire.messages)


async def test_K3_pings_of_a_peer_that_does_not_read_fill_nothing(host: Host) -> None:
    async with host.joined(receive_buffer_bytes=4096) as (wire, inbox):
        connection = inbox.connection
        while connection.writable_now:
            connection.write(Frame(Opcode.BINARY, bytes(50_000)).serialize(mask=False))
        before = connection.transport.get_write_buffer_size()
        await wire.write(frame(b"x" * 100, Opcode.PING) * 10_000 + frame(b"behind them"))
        await until(lambda: inbox.messages == [b"behind them"])
        assert connection.transport.get_write_buffer_size() <= before
        assert not connection.conn.writes
        await wire.read_until("it is all sent", lambda: connection.writable_now)
        await wire.write(frame(b"late", Opcode.PING))
        await wire.read_until("the latest ping is answered", lambda: wire.pongs == 1)


async def test_K2_a_ping_is_owed_until_any_sign_of_life(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        connection = inbox.connection
        wire.answers_pings = False
        assert connection.ping()
        assert not connection.ping(), "the last one is not answered yet"
        await wire.read_until("a ping", lambda: wire.pings == 1)
        await wire.send(b"a message will do")
        await until(lambda: not connection.ping_pending)
        assert connection.ping()
        await wire.write(frame(b"", Opcode.PONG))
        await until(lambda: not connection.ping_pending)


# ---- ends


async def test_closing_says_why_and_nothing_after(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        connection = inbox.connection
        connection.close(4400, "ä" * 100)
        connection.close(4413, "not twice")
        connection.write(Frame(Opcode.BINARY, b"late").serialize(mask=False))
        close = await wire.wait_closed()
        assert close.code == 4400
        assert close.reason == "ä" * 61, "123 bytes of reason, cut between characters"
        await until(lambda: inbox.lost == 1)
        assert not wire.messages


async def test_messages_that_cross_a_close_are_dropped(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        inbox.connection.pause_reading()
        await wire.send(b"crossed")
        inbox.connection.close(4400, "closed")
        assert (await wire.wait_closed()).code == 4400
        await until(lambda: inbox.lost == 1)
        assert not inbox.messages


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"x" * 1_000_001), 1009),
        (frame(b"x" * 600_000, fin=False) + frame(b"x" * 600_000, Opcode.CONT), 1009),
        (Frame(Opcode.BINARY, b"not masked").serialize(mask=False), 1002),
        (frame(b"a", fin=False) + frame(b"b"), 1002),
        (frame(b"", Opcode.CONT), 1002),
        (b"\xf2\x80\x00\x00\x00\x00", 1002),
        (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),
    ],
    ids=[
        "too large",
        "too large in two",
        "not masked",
        "no continuation",
        "nothing to continue",
        "reserved bits",
        "a ping of 126",
    ],
)
async def test_what_breaks_the_framing_is_told_why(host: Host, data: bytes, code: int) -> None:
    async with host.joined() as (wire, inbox):
        writing = asyncio.create_task(wire.write(data + frame(b"ignored") + bytes(2_000_000)))
        assert (await wire.wait_closed()).code == code
        await wire.cut()
        await writing
        await until(lambda: inbox.lost == 1)
        assert not inbox.messages


@pytest.mark.parametrize("how", ["our close", "its close", "its fault"])
async def test_a_peer_that_does_not_read_its_end_is_dropped(host: Host, how: str) -> None:
    async with host.joined(receive_buffer_bytes=4096) as (wire, inbox):
        connection = inbox.connection
        while connection.writable_now:
            connection.write(Frame(Opcode.BINARY, bytes(50_000)).serialize(mask=False))
        if how == "our close":
            connection.close(4508, "too slow")
        else:
            await wire.write(frame(b"\x03\xe8", Opcode.CLOSE) if how == "its close" else b"\xff" * 20)
        await until(lambda: inbox.lost == 1, within_s=3)


async def test_abort_drops_it_without_a_word(host: Host) -> None:
    async with host.joined() as (wire, inbox):
        inbox.connection.abort()
        assert (await wire.wait_closed()).code == 1006
        await until(lambda: inbox.lost == 1)


async def test_uvicorn_is_the_one_this_was_written_for() -> None:
    """The class reaches into uvicorn's: another minor version must be looked at first (see the module's docstring)."""
    assert uvicorn.__version__.rsplit(".", 1)[0] == "0.54"
