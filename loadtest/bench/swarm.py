"""All the clients of one run in one thread: raw sockets on epoll, edits on a timetable, every delivery counted.

Owns the sockets and the counts. Its one duty beside being right is to be cheap, so that the server is what is measured:
all sockets of a room receive the same bytes, so what a chunk of bytes means is worked out once per room and remembered.

A *delivery* is one edit reaching one client other than its author, known by (Yjs client id, clock); the first arrival
counts, a repeated one is a duplicate. Its latency runs from just before the author's `send` to just after the
receiver's `recv`. The timetable does not wait for the server (an open loop): a slow server gets a queue, not a rest.
"""

import random
import select
import socket
import time
from array import array
from dataclasses import dataclass, field
from typing import Final

from crdt.errors import Malformed
from loadtest.bench.profiles import Profile
from loadtest.bench.updates import (
    STEP1_EMPTY,
    STEP2_EMPTY,
    append,
    awareness_frame,
    cursor_state,
    read_ranges,
    read_step1,
    step2_frame,
    update_frame,
)
from loadtest.bench.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    ServerError,
    client_frame,
    handshake,
    read_handshake,
    split_frames,
)

_RECV_BYTES: Final = 262_144
_CONNECTING_MAX: Final = 50
"""Handshakes under way at once: below any server's accept backlog, so none waits for a SYN to be sent again."""
_CHUNKS_KEPT: Final = 256
"""Chunks whose meaning a room remembers; all its sockets get a chunk within milliseconds, so few are ever live."""
_OWN: Final = -1
"""In `Client.seen`: the client's own edits are not deliveries."""

_SYNC_STEP1: Final = b"\x00\x00"
_SYNC_STEP2: Final = b"\x00\x01"
_SYNC_UPDATE: Final = b"\x00\x02"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What some received bytes mean to any socket of a room."""

    frames: int
    edits: tuple[tuple[int, int, float], ...]
    """(writer's number in the room, index of the edit, when it was sent)."""


@dataclass(slots=True)
class Writer:
    """Somebody who types: a client id, and the edits sent so far."""

    number: int
    client_id: int
    letters: str
    sent: list[float] = field(default_factory=list)

    def text(self, first_clock: int) -> str:
        """All written from `first_clock` on."""
        length = len(self.sent) * len(self.letters)
        return (self.letters * len(self.sent))[first_clock:length]

    def next_message(self) -> bytes:
        return update_frame(append(self.client_id, len(self.sent) * len(self.letters), self.letters))


@dataclass(slots=True)
class Room:
    name: str
    writers: list[Writer] = field(default_factory=list)
    by_client_id: dict[int, Writer] = field(default_factory=dict)
    chunks: dict[bytes, Chunk] = field(default_factory=dict)


class Client:
    """One socket in a room."""

    __slots__ = (
        "awareness_clock",
        "key",
        "lost",
        "opened",
        "partial",
        "recv",
        "room",
        "seen",
        "sock",
        "synced",
        "unsent",
        "writer",
    )

    def __init__(self, sock: socket.socket, room: Room, writer: Writer | None, key: bytes) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.room = room
        self.writer = writer
        self.key = key
        self.opened = False
        self.synced = False
        self.partial = b""
        self.unsent = b""
        self.awareness_clock = 0
        # Per writer of the room how many of its edits arrived, all those before counted in; never one's own.
        self.seen = [_OWN if other is writer else 0 for other in room.writers]
        self.lost: set[tuple[int, int]] = set()
        """(writer, edit) passed over by later ones; may still come."""

    def missing(self) -> int:
        """Edits of others that were sent and never came."""
        behind = sum(len(w.sent) - seen for w, seen in zip(self.room.writers, self.seen, strict=True) if seen != _OWN)
        return behind + len(self.lost)


class Swarm:
    """The clients of one run against one server.

    Call `connect`, then `run` as often as wanted, then `drain`, then `close`. The counts are plain attributes that only
    rise; `latencies` (seconds) may be swapped for an empty one at the start of what is to be measured.
    """

    def __init__(self, profile: Profile, *, port: int, path: str, edit_chars: int, awareness: bool, seed: int) -> None:
        self.deliveries = 0
        self.duplicates = 0
        self.frames = 0
        self.edits = 0
        self.latencies = array("d")
        self._profile = profile
        self._address = ("127.0.0.1", port)
        self._path = path
        self._awareness = awareness
        self._random = random.Random(seed)
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._rooms = [self._plan_room(number, edit_chars) for number in range(profile.rooms)]
        self._timetable: list[tuple[float, Client]] = []

    def connect(self, *, within_s: float) -> None:
        """Opens all sockets and waits until each has had its step 2; `ServerError` if one has not in time."""
        deadline = time.perf_counter() + within_s
        places = [
            (room, room.writers[seat] if seat < len(room.writers) else None)
            for seat in range(self._profile.clients_per_room)
            for room in self._rooms
        ]
        opening: list[Client] = []
        while places or opening:
            while places and len(opening) < _CONNECTING_MAX:
                opening.append(self._open(*places.pop()))
            self._poll(time.perf_counter() + 0.01)
            opening = [client for client in opening if not client.synced]
            if time.perf_counter() > deadline:
                raise ServerError(
                    f"{len(opening) + len(places)} of {self._profile.clients} clients not synced after {within_s:g} s"
                )
        self._make_timetable()

    def run(self, duration_s: float) -> None:
        """Lets the writers type (none in an idle profile) for so long."""
        poll, now = self._poll, time.perf_counter()
        end = now + duration_s
        timetable = self._timetable
        if not timetable:
            while (now := time.perf_counter()) < end:
                poll(min(end, now + 0.5))
            return
        period = 1.0 / self._profile.edits_per_s
        begin = now
        turn = 0
        while now < end:
            phase, client = timetable[turn % len(timetable)]
            due = begin + phase + period * (turn // len(timetable))
            if due > now:
                poll(min(due, end))
            else:
                self._type(client)
                turn += 1
            now = time.perf_counter()

    def drain(self, *, within_s: float) -> int:
        """Waits until every client has every edit; returns how many deliveries are missing when the time is over."""
        deadline = time.perf_counter() + within_s
        while (missing := self.missing()) and time.perf_counter() < deadline:
            self._poll(time.perf_counter() + 0.02)
        return missing

    def missing(self) -> int:
        """Deliveries still owed by the server."""
        return sum(client.missing() for client in self._clients.values())

    def close(self) -> None:
        """Drops all sockets, without goodbye."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()
        self._epoll.close()

    def _plan_room(self, number: int, edit_chars: int) -> Room:
        room = Room(f"bench-{number}")
        for seat in range(self._profile.writers_per_room):
            letters = "".join(self._random.choices("abcdefghijklmnopqrstuvwxyz ", k=edit_chars))
            writer = Writer(seat, self._random.getrandbits(32), letters)
            room.writers.append(writer)
            room.by_client_id[writer.client_id] = writer
        return room

    def _make_timetable(self) -> None:
        """Spreads the writers evenly at random over one period: they don't type in step."""
        writers = [client for client in self._clients.values() if client.writer is not None]
        period = 1.0 / self._profile.edits_per_s if writers else 0.0
        self._timetable = sorted(((self._random.uniform(0, period), c) for c in writers), key=lambda entry: entry[0])

    def _open(self, room: Room, writer: Writer | None) -> Client:
        sock = socket.create_connection(self._address, timeout=5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(sock, room, writer, self._random.randbytes(16))
        sock.settimeout(0.0)
        self._clients[sock.fileno()] = client
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._write(client, handshake(f"127.0.0.1:{self._address[1]}", f"{self._path}/{room.name}", client.key))
        return client

    def _send(self, client: Client, message: bytes, opcode: int = BINARY) -> None:
        self._write(client, client_frame(message, self._random.randbytes(4), opcode))

    def _write(self, client: Client, data: bytes) -> None:
        if client.unsent:
            client.unsent += data
            return
        try:
            written = client.sock.send(data)
        except BlockingIOError:
            written = 0
        except OSError as error:
            raise ServerError(f"a socket of room {client.room.name} broke: {error}") from None
        if written < len(data):
            client.unsent = data[written:]
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, client: Client) -> None:
        data, client.unsent = client.unsent, b""
        self._epoll.modify(client.sock.fileno(), select.EPOLLIN)
        self._write(client, data)

    def _type(self, client: Client) -> None:
        """One edit of a writer, and where its cursor is then if presence is on."""
        writer = client.writer
        assert writer is not None, "only writers are in the timetable"
        frame = client_frame(writer.next_message(), self._random.randbytes(4))
        writer.sent.append(time.perf_counter())
        self._write(client, frame)
        self.edits += 1
        if self._awareness:
            self._announce(client, writer)

    def _announce(self, client: Client, writer: Writer) -> None:
        client.awareness_clock += 1
        clock = max(0, len(writer.sent) * len(writer.letters) - 1)
        state = cursor_state(f"writer {writer.number}", writer.client_id, clock)
        self._send(client, awareness_frame(writer.client_id, client.awareness_clock, state))

    def _poll(self, until: float) -> None:
        """Waits for readable sockets until then and takes one chunk from each. The hot path."""
        clock = time.perf_counter
        for fd, events in self._epoll.poll(max(0.0, until - clock())):
            client = self._clients[fd]
            if events & select.EPOLLOUT:
                self._flush(client)
                if not events & ~select.EPOLLOUT:
                    continue
            try:
                data = client.recv(_RECV_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ServerError(f"a socket of room {client.room.name} broke: {error}") from None
            now = clock()
            chunk = None if client.partial else client.room.chunks.get(data)
            if chunk is None:
                chunk = self._understand(client, data)
            self.frames += chunk.frames
            seen = client.seen
            for writer, edit, sent_at in chunk.edits:
                if seen[writer] == edit:
                    seen[writer] = edit + 1
                elif not self._out_of_order(client, writer, edit):
                    continue
                self.deliveries += 1
                self.latencies.append(now - sent_at)

    def _out_of_order(self, client: Client, writer: int, edit: int) -> bool:
        """Whether an edit that is not the writer's next is new to this client all the same; keeps the books on gaps."""
        seen = client.seen[writer]
        if seen == _OWN:
            return False
        if edit > seen:
            client.lost.update((writer, skipped) for skipped in range(seen, edit))
            client.seen[writer] = edit + 1
            return True
        if (writer, edit) in client.lost:
            client.lost.remove((writer, edit))
            return True
        self.duplicates += 1
        return False

    def _understand(self, client: Client, data: bytes) -> Chunk:
        """Reads a chunk not seen before; remembered for the room unless it asked something of this one socket."""
        if not data:
            raise ServerError(f"the server closed a socket of room {client.room.name}")
        whole = client.partial + data
        cacheable = not client.partial
        start = 0
        if not client.opened:
            start = read_handshake(whole, client.key)
            if not start:
                client.partial = whole
                return Chunk(0, ())
            client.opened = True
            cacheable = False
            self._send(client, STEP1_EMPTY)
            if self._awareness and client.writer is not None:
                self._announce(client, client.writer)
        frames, size = split_frames(whole[start:])
        client.partial = whole[start + size :]
        edits: list[tuple[int, int, float]] = []
        messages = 0
        for opcode, payload in frames:
            if opcode == BINARY:
                messages += 1
                if payload[:2] in (_SYNC_STEP2, _SYNC_UPDATE):
                    edits += self._read_edits(client.room, payload)
            cacheable = not self._answer(client, opcode, payload) and cacheable
        chunk = Chunk(messages, tuple(edits))
        if cacheable and not client.partial:
            chunks = client.room.chunks
            if len(chunks) >= _CHUNKS_KEPT:
                chunks.clear()
            chunks[data] = chunk
        return chunk

    def _read_edits(self, room: Room, message: bytes) -> list[tuple[int, int, float]]:
        edits: list[tuple[int, int, float]] = []
        try:
            ranges = read_ranges(message)
        except (Malformed, ValueError) as error:
            raise ServerError(f"room {room.name} got an update this client cannot read: {error}") from error
        for client_id, start, end in ranges:
            writer = room.by_client_id.get(client_id)
            if writer is None:
                raise ServerError(f"room {room.name} got an edit of client id {client_id}, who is not in it")
            size = len(writer.letters)
            # An edit counts once its last letter is there.
            edits += [(writer.number, edit, writer.sent[edit]) for edit in range(-(-start // size), end // size)]
        return edits

    def _answer(self, client: Client, opcode: int, payload: bytes) -> bool:
        """Does what a frame asks of this one socket; whether it asked anything."""
        if opcode == PING:
            self._send(client, payload, PONG)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise ServerError(
                f"the server closed a socket of room {client.room.name}: {code} {payload[2:].decode(errors='replace')!r}"
            )
        elif opcode != BINARY:
            raise ServerError(f"the server sent a frame with opcode {opcode}")
        elif payload[:2] == _SYNC_STEP1:
            self._send(client, self._step2(client.writer, payload))
        elif payload[:2] == _SYNC_STEP2:
            client.synced = True
        else:
            return False
        return True

    @staticmethod
    def _step2(writer: Writer | None, step1: bytes) -> bytes:
        """What the server lacks of this client's own edits; others' are brought by their authors, who stay connected."""
        if writer is None:
            return STEP2_EMPTY
        known = read_step1(step1).get(writer.client_id, 0)
        text = writer.text(known)
        return step2_frame(append(writer.client_id, known, text)) if text else STEP2_EMPTY
