"""Readers that stop reading: they cost bounded bytes, nobody else waits for them, and they come back by themselves (R8)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest
from pycrdt import Doc, Text, create_sync_message
from websockets.asyncio.client import ClientConnection, connect

from presence.awareness import Entry, parse_awareness
from presence.limits import RosterLimits
from tests.offences import presence, step1, step2
from tests.peer import Peer
from tests.serving import Serve
from tests.vitals import RssProbe, metrics, rss_bytes
from tests.wire import Wire, narrow_socket

MIB: Final = 1 << 20
WRITERS: Final = 50
TYPED_BYTES: Final = 48 * MIB
EDIT: Final = "x" * 4_000
TEXT_MAX: Final = 200_000
"""What is typed comes in front, and what is behind this goes: the stream grows and the document does not."""

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(120)]


class Watcher(Peer):
    """A peer that also keeps who is present, by the rule of y-protocols, and can stop reading."""

    def __init__(self, socket: ClientConnection, doc: "Doc[Text] | None") -> None:
        self.present: dict[int, bytes] = {}
        self.clocks: dict[int, int] = {}
        super().__init__(socket, doc)

    @classmethod
    async def of_a_slow_line(cls, node: Serve, room: str) -> "Watcher":
        plug = narrow_socket(4096)
        await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", node.port))
        socket = await connect(f"{node.ws_url}/{room}", sock=plug, compression=None, max_size=None, ping_interval=None)
        watcher = cls(socket, None)
        await watcher.send(create_sync_message(watcher.doc))
        await watcher.wait("synced", lambda: watcher.synced)
        return watcher

    def stop_reading(self) -> None:
        self._socket.transport.pause_reading()

    def read_on(self) -> None:
        self._socket.transport.resume_reading()

    async def _handle(self, message: bytes) -> None:
        await super()._handle(message)
        if message[0] == 1:
            length_bytes = 1 + next(at for at, byte in enumerate(message[1:]) if byte < 0x80)
            for entry in parse_awareness(message[1 + length_bytes :], RosterLimits()):
                self._heard(entry)

    def _heard(self, entry: Entry) -> None:
        clock = self.clocks.get(entry.client, 0)
        if entry.clock > clock or (entry.clock == clock and entry.state is None and entry.client in self.present):
            self.clocks[entry.client] = entry.clock
            if entry.state is None:
                self.present.pop(entry.client, None)
            else:
                self.present[entry.client] = entry.state


class Typist:
    """Types for as long as it is not told to stop."""

    def __init__(self, peer: Peer, random: Random) -> None:
        self.peer = peer
        self._random = random
        self._stopped = False

    async def type(self) -> None:
        while not self._stopped:
            await self.peer.edit(_type_in_front)
            await asyncio.sleep(self._random.uniform(0.02, 0.06))

    def stop(self) -> None:
        self._stopped = True


def _type_in_front(text: Text) -> None:
    text.insert(0, EDIT)
    if len(text) > TEXT_MAX:
        del text[TEXT_MAX:]


@asynccontextmanager
async def typing_crowd(node: Serve, room: str) -> AsyncIterator[list[Peer]]:
    """Everybody types until the block is left; then all of it has been sent, and the peers are still there."""
    peers = [await Peer.join(node.ws_url, room, saved=False) for _ in range(WRITERS)]
    typists = [Typist(peer, Random(number)) for number, peer in enumerate(peers)]
    tasks = [asyncio.create_task(typist.type()) for typist in typists]
    try:
        yield peers
    finally:
        for typist in typists:
            typist.stop()
        await asyncio.gather(*tasks)


async def wait_head(peer: Peer, head: str) -> None:
    await peer.wait(f"its text begins with {head!r}", lambda: str(peer.text).startswith(head), within_s=20)


async def wait_same(peer: Peer, other: Peer) -> None:
    await peer.wait("the same text", lambda: str(peer.text) == str(other.text), within_s=20)


async def test_K3_a_reader_that_stops_costs_bounded_bytes_and_catches_up_on_the_same_socket(tmp_path: Path) -> None:
    """Bound: `outbox_bytes_max` (1 MiB) and the last frame over it for each such reader, 64 KiB in its transport, and what
    10,000 edits leave in the gate and the allocator (15 to 20 MB, the same without slow readers): 28 MiB in all. Without
    a bound what is typed meanwhile would be queued, and that is more."""
    with Serve(tmp_path / "data") as node:
        readers = [await Watcher.of_a_slow_line(node, "room") for _ in range(3)]
        async with typing_crowd(node, "room") as peers:
            await asyncio.sleep(2)
            before = await metrics(node)
            for reader in readers:
                reader.stop_reading()
            heard = peers[0].received[0]
            async with RssProbe(node) as rss:
                after = before
                while after["tutti_received_bytes_total"] < before["tutti_received_bytes_total"] + TYPED_BYTES:
                    await asyncio.sleep(1)
                    assert peers[0].received[0] > heard, "the others are sent nothing any more"
                    heard = peers[0].received[0]
                    after = await metrics(node)
        assert rss.growth_bytes < 28 * MIB
        assert after["tutti_outbox_overflows_total"] - before["tutti_outbox_overflows_total"] == len(readers)
        await peers[0].edit(lambda text: text.insert(0, "the end"))
        for reader in readers:
            frames = reader.received[0]
            reader.read_on()
            await wait_head(reader, "the end")
            assert reader.received[0] - frames < after["tutti_ticks_total"] - before["tutti_ticks_total"]
        for peer in (*peers, *readers):
            await wait_same(peer, peers[0])
            assert peer.closed is None
        # From here on they are readers like any other.
        await peers[1].edit(lambda text: text.insert(0, "once more"))
        for reader in readers:
            await wait_head(reader, "once more")
        for peer in (*peers, *readers):
            await peer.leave()
        assert node.stop() == 0


async def overflow(node: Serve, room: str, reader: Watcher, writer: Peer) -> None:
    """The reader stops, and the room goes on until the server has given up sending to it."""
    reader.stop_reading()
    overflows = (await metrics(node))["tutti_outbox_overflows_total"]
    for _ in range(400):
        for _ in range(4):
            await writer.edit(lambda text: text.insert(0, "x" * 50_000))
            await writer.edit(lambda text: text.__delitem__(slice(0, 50_000)))
        if (await metrics(node))["tutti_outbox_overflows_total"] > overflows:
            return
    raise AssertionError("20 MB never filled the outbox")


async def test_R8_presence_shed_for_a_slow_reader_is_made_up_for(tmp_path: Path) -> None:
    """Somebody comes, somebody moves and somebody leaves while it does not read; then it sees what all others see."""
    with Serve(tmp_path / "data") as node:
        stays, moves, leaves, comes = 11, 12, 13, 14
        async with (
            await Watcher.of_a_slow_line(node, "room") as reader,
            await Watcher.of_a_slow_line(node, "room") as other,
            await Peer.join(node.ws_url, "room", saved=False) as ann,
            await Peer.join(node.ws_url, "room", saved=False) as bob,
        ):
            await ann.send(presence(stays, 1, b'{"n":"stays"}'))
            await ann.send(presence(moves, 1, b'{"n":"moves"}'))
            await bob.send(presence(leaves, 1, b'{"n":"leaves"}'))
            await reader.wait("everybody is seen", lambda: set(reader.present) == {stays, moves, leaves})
            await overflow(node, "room", reader, ann)
            await ann.send(presence(comes, 1, b'{"n":"comes"}'))
            await ann.send(presence(moves, 2, b'{"n":"moved"}'))
            await bob.leave()
            await other.wait("others see it", lambda: set(other.present) == {stays, moves, comes})
            reader.read_on()
            await reader.wait("who came is there", lambda: comes in reader.present)
            assert reader.present[moves] == b'{"n":"moved"}'
            await reader.wait("who left is gone", lambda: leaves not in reader.present, within_s=3)
            assert reader.present == other.present
            assert reader.closed is None


async def test_K3_a_reader_that_never_reads_again_is_closed_with_4508(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", "--slow-reader-close-s", "3", "--close-delay-s", "0.1") as node:
        gone = await Watcher.of_a_slow_line(node, "room")
        late = await Watcher.of_a_slow_line(node, "room")
        async with await Peer.join(node.ws_url, "room", saved=False) as writer:
            await overflow(node, "room", gone, writer)
            await overflow(node, "room", late, writer)
            fell_behind = time.monotonic()
            while (await metrics(node))["tutti_slow_readers_closed_total"] < 2:
                assert time.monotonic() < fell_behind + 6
                await writer.edit(lambda text: text.insert(0, "others go on "))
                await asyncio.sleep(0.1)
            assert time.monotonic() > fell_behind + 2.5
            # One of them wakes up after all: it finds out why, and that it may come back.
            late.read_on()
            assert (await late.wait_closed()).code == 4508
            # The other is dropped without ever having read its close frame.
            while (await metrics(node))["tutti_sessions"] > 1:
                assert time.monotonic() < fell_behind + 25, "the dead connection is still open"
                await asyncio.sleep(0.2)
            assert writer.closed is None
        gone.read_on()
        await gone.vanish()
        assert node.stop() == 0


async def test_R8_many_slow_readers_of_one_large_document_share_it(tmp_path: Path) -> None:
    """20 readers of 10 MB: a copy for each would be 200 MB. Bound: a few copies while it is encoded and cut."""
    readers, size = 20, 10_000_000
    doc: Doc[Text] = Doc()
    text = doc.get("text", type=Text)
    for number in range(100):
        text.insert(0, f"{number} ".ljust(size // 100, "x"))
    with Serve(tmp_path / "data") as node:
        async with await Wire.open(node.ws_url, "large", query="saved=1") as writer:
            await writer.send(step2(doc.get_update()))
            while await writer.read_message(b"\x74\x00", within_s=30) != b"\x74\x00\x01":
                pass
            await asyncio.sleep(0.5)
            before = rss_bytes(node.pid)
            wires = []
            async with RssProbe(node) as rss:
                for _ in range(readers):
                    wire = await Wire.open(node.ws_url, "large", receive_buffer_bytes=4096)
                    await wire.send(step1(b"\x00"))
                    wires.append(wire)
                await asyncio.sleep(2)
            held = rss_bytes(node.pid) - before
            for wire in wires:
                message = await wire.read_message(b"\x00\x01", within_s=60)
                assert len(message) > size
                assert wire.fragments > 10
                await wire.cut()
        assert held < 60 * MIB
        assert rss.growth_bytes < 100 * MIB
        assert node.stop() == 0
