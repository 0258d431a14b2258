"""loadtest/bench/swarm.py against a small relay that can be told to misbehave: the counts must tell."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest
from pycrdt import Doc, Text, merge_updates
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from crdt.varint import Reader, encode_bytes
from loadtest.bench.profiles import Profile
from loadtest.bench.swarm import Swarm
from loadtest.bench.updates import ROOT, STEP2_EMPTY, append, read_ranges, update_frame
from loadtest.bench.websocket import ServerError

pytestmark = pytest.mark.integration

TWO_ROOMS = Profile("test", rooms=2, clients_per_room=4, writers_per_room=2, edits_per_s=20.0)
Deliver = Callable[["Seat", bytes], list[bytes]]


@dataclass(eq=False)
class Seat:
    """One accepted socket, numbered in the order of arrival in its room."""

    socket: ServerConnection
    room: str
    number: int
    update_count: int = 0
    kept: list[bytes] = field(default_factory=list)


def as_they_come(_seat: Seat, update: bytes) -> list[bytes]:
    return [update]


@dataclass
class Relay:
    """Sends each update to the other seats of its room as `deliver` says, echoing it to its author first."""

    deliver: Deliver = as_they_come
    sync: bool = True
    after_sync: Callable[[ServerConnection], Awaitable[None]] | None = None
    presence: int = 0
    seats: list[Seat] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    port: int = 0

    async def attend(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # swarms leave without goodbye
            await self._serve(socket)

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        room = socket.request.path
        seat = Seat(socket, room, sum(other.room == room for other in self.seats))
        self.seats.append(seat)
        async for message in socket:
            assert isinstance(message, bytes)
            if message[:2] == b"\x00\x00":
                if self.sync:
                    await socket.send(STEP2_EMPTY)
                if self.after_sync is not None:
                    await self.after_sync(socket)
            elif message[0] == 1:
                self.presence += 1
            else:
                self.received.append(message)
                update = Reader(message[2:]).bytes_()
                await socket.send(message)
                for other in self.seats:
                    if other.room == room and other is not seat:
                        for out in self.deliver(other, update):
                            await other.socket.send(update_frame(out))


@pytest.fixture
def start() -> Iterator[Callable[[Relay], Relay]]:
    """Runs relays on an event loop in a thread of its own; all end with the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers: list[Server] = []

    def begin(relay: Relay) -> Relay:
        server = asyncio.run_coroutine_threadsafe(serve_on_loopback(relay), loop).result(5)
        servers.append(server)
        relay.port = next(iter(server.sockets)).getsockname()[1]
        return relay

    async def serve_on_loopback(relay: Relay) -> Server:
        return await serve(relay.attend, "127.0.0.1", 0, compression=None)

    async def close(server: Server) -> None:
        server.close()
        await server.wait_closed()

    yield begin
    for server in servers:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def swarm_on() -> Iterator[Callable[..., Swarm]]:
    swarms: list[Swarm] = []

    def connect(relay: Relay, profile: Profile = TWO_ROOMS, *, awareness: bool = False) -> Swarm:
        swarm = Swarm(profile, port=relay.port, path="/ws", edit_chars=3, awareness=awareness, seed=5)
        swarms.append(swarm)
        swarm.connect(within_s=5)
        return swarm

    yield connect
    for swarm in swarms:
        swarm.close()


Start = Callable[[Relay], Relay]
SwarmOn = Callable[..., Swarm]


def test_every_edit_is_delivered_to_everybody_but_its_author(start: Start, swarm_on: SwarmOn) -> None:
    relay = start(Relay())
    swarm = swarm_on(relay)
    swarm.run(0.5)
    assert swarm.drain(within_s=5) == 0
    assert 20 < swarm.edits <= 2 * 2 * 20 * 0.5 + 4, "four writers on a timetable, fewer on a busy machine"
    assert swarm.deliveries == swarm.edits * 3
    assert swarm.frames - 8 == swarm.edits * 4, "a step 2 each, then each edit to all four, its author included"
    assert swarm.duplicates == 0
    assert len(swarm.latencies) == swarm.deliveries
    assert all(0 < latency < 5 for latency in swarm.latencies)


def test_what_the_writers_send_is_one_readable_document(start: Start, swarm_on: SwarmOn) -> None:
    relay = start(Relay())
    swarm = swarm_on(relay, Profile("test", 1, 2, 2, 20.0))
    swarm.run(0.4)
    swarm.drain(within_s=5)
    doc: Doc[Text] = Doc()
    text = doc.get(ROOT, type=Text)
    for message in relay.received:
        doc.apply_update(Reader(message[2:]).bytes_())
    assert len(str(text)) == swarm.edits * 3


def test_one_lost_delivery_is_missed(start: Start, swarm_on: SwarmOn) -> None:
    def lose_one(seat: Seat, update: bytes) -> list[bytes]:
        seat.update_count += 1
        return [] if (seat.room, seat.number, seat.update_count) == ("/ws/bench-1", 3, 4) else [update]

    swarm = swarm_on(start(Relay(lose_one)))
    swarm.run(0.5)
    assert swarm.drain(within_s=0.5) == 1
    assert swarm.deliveries == swarm.edits * 3 - 1


def test_the_last_edit_lost_is_missed_too(start: Start, swarm_on: SwarmOn) -> None:
    deaf: list[Seat] = []

    def lose_all(seat: Seat, update: bytes) -> list[bytes]:
        if not deaf:
            deaf.append(seat)
        return [] if seat is deaf[0] else [update]

    swarm = swarm_on(start(Relay(lose_all)), Profile("test", 1, 3, 1, 20.0))
    swarm.run(0.3)
    assert swarm.drain(within_s=0.3) == swarm.edits > 0


def test_repeated_deliveries_count_once(start: Start, swarm_on: SwarmOn) -> None:
    swarm = swarm_on(start(Relay(lambda _seat, update: [update, update])))
    swarm.run(0.3)
    assert swarm.drain(within_s=5) == 0
    assert swarm.deliveries == swarm.edits * 3
    assert 0 < swarm.duplicates <= swarm.deliveries


def test_merged_frames_deliver_all_they_hold(start: Start, swarm_on: SwarmOn) -> None:
    def by_fives(seat: Seat, update: bytes) -> list[bytes]:
        seat.kept.append(update)
        if len(seat.kept) < 5:
            return []
        merged, seat.kept = merge_updates(*seat.kept), []
        return [merged]

    swarm = swarm_on(start(Relay(by_fives)))
    swarm.run(1.0)
    missing = swarm.drain(within_s=0.5)
    assert missing < 5 * 8, "each of eight sockets may wait for its next five"
    assert swarm.deliveries == swarm.edits * 3 - missing > 100


def test_edits_that_overtake_each_other_all_count(start: Start, swarm_on: SwarmOn) -> None:
    def swapped(seat: Seat, update: bytes) -> list[bytes]:
        seat.kept.append(update)
        if len(seat.kept) < 4:
            return []
        late, seat.kept = seat.kept[::-1], []
        return late

    swarm = swarm_on(start(Relay(swapped)), Profile("test", 1, 3, 1, 40.0))
    swarm.run(0.5)
    missing = swarm.drain(within_s=0.5)
    assert missing == (swarm.edits % 4) * 2
    assert swarm.deliveries == swarm.edits * 2 - missing
    assert swarm.duplicates == 0


def test_pings_are_answered_and_a_late_step_1_brings_ones_own_edits(start: Start, swarm_on: SwarmOn) -> None:
    relay = start(Relay())
    swarm = swarm_on(relay, Profile("test", 1, 2, 1, 20.0))
    swarm.run(0.3)
    assert swarm.drain(within_s=5) == 0
    before = len(relay.received)

    async def ask_all() -> None:
        for seat in relay.seats:
            await (await seat.socket.ping())
            await seat.socket.send(b"\x00\x00" + encode_bytes(b"\x00"))

    asking = asyncio.run_coroutine_threadsafe(ask_all(), relay.seats[0].socket.loop)
    deadline = time.perf_counter() + 5
    while len(relay.received) < before + 2 and time.perf_counter() < deadline:
        swarm._poll(time.perf_counter() + 0.05)
    asking.result(5)
    empty, own = sorted(relay.received[before:], key=len)
    assert empty == STEP2_EMPTY
    assert read_ranges(own) == [(read_ranges(relay.received[0])[0][0], 0, swarm.edits * 3)]


def test_presence_goes_out_with_each_edit_when_asked_for(start: Start, swarm_on: SwarmOn) -> None:
    relay = start(Relay())
    swarm = swarm_on(relay, Profile("test", 1, 2, 1, 20.0), awareness=True)
    swarm.run(0.3)
    assert swarm.drain(within_s=5) == 0
    assert relay.presence == swarm.edits + 1, "one at the start, then one an edit"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda socket: socket.close(4400, "no"), "closed a socket of room bench-0: 4400 'no'"),
        (lambda socket: socket.send("text"), "opcode 1"),
        (lambda socket: socket.send(update_frame(append(99, 0, "abc"))), "client id 99, who is not in it"),
        (lambda socket: socket.send(update_frame(b"\x01\x01")), "cannot read"),
    ],
    ids=["close", "text", "stranger", "broken"],
)
def test_a_server_that_does_what_no_server_should_ends_the_run(
    start: Start, swarm_on: SwarmOn, fault: Callable[[ServerConnection], Awaitable[None]], message: str
) -> None:
    relay = start(Relay(after_sync=fault))

    def live() -> None:  # depending on when the fault arrives, either step meets it
        swarm_on(relay, Profile("test", 1, 2, 1, 20.0)).run(1.0)

    with pytest.raises(ServerError, match=message):
        live()


def test_a_client_never_synced_ends_the_run(start: Start) -> None:
    relay = start(Relay(sync=False))
    swarm = Swarm(TWO_ROOMS, port=relay.port, path="/ws", edit_chars=3, awareness=False, seed=5)
    try:
        with pytest.raises(ServerError, match=r"8 of 8 clients not synced after 0.2 s"):
            swarm.connect(within_s=0.2)
    finally:
        swarm.close()
