"""Rooms under hostile updates, as a program: pycrdt behind the gate must neither raise, crash nor hang, and lose nothing.

    python -m tests.crdt.fuzz_rooms FIRST_SEED ROOMS

Each room takes 60 updates: honest ones, honest ones damaged byte by byte, and well-formed ones with random references
(the kind that gets past a parser). After each, the document holds what the gate says. Prints what was met as JSON and ends
with 0. Run it in a process of its own: what it looks for kills the process or holds it.
"""

import json
import random
import sys
from collections import Counter

import pycrdt

from crdt.document import Document, RoomDocument, merge_all
from crdt.errors import RemoteError
from crdt.gate import Gate, GateLimits
from crdt.merge import join_updates
from crdt.state_vector import decode_state_vector, encode_state_vector
from crdt.varint import encode_bytes, encode_string, encode_uint
from tests.crdt.editors import session
from tests.crdt.hand import Id, item, update

UPDATES_PER_ROOM = 60
HONEST_SESSIONS = 500
"""Different sessions that damaged updates are made from; making one takes longer than damaging many."""

INTERESTING_BYTES = (0, 1, 2, 5, 0x0A, 0x28, 0x7F, 0x80, 0x84, 0xC4, 0xFF)


def damaged(rnd: random.Random, honest: bytes, pool: list[bytes]) -> bytes:
    """An update with a few bytes changed, removed, repeated or taken from another."""
    data = bytearray(honest)
    for _ in range(rnd.choice((1, 1, 1, 2, 3, 6))):
        at = rnd.randrange(len(data)) if data else 0
        kind = rnd.randrange(8)
        if not data or kind == 3:
            data.insert(at, rnd.randrange(256))
        elif kind == 0:
            data[at] ^= 1 << rnd.randrange(8)
        elif kind == 1:
            data[at] = rnd.choice(INTERESTING_BYTES)
        elif kind == 2:
            del data[at]
        elif kind == 4:
            data[at] = (data[at] + rnd.choice((-1, 1))) % 256
        elif kind == 5:
            other = rnd.choice(pool)
            begin, size = rnd.randrange(len(other)), rnd.randrange(1, 12)
            data[at : at + rnd.choice((0, size))] = other[begin : begin + size]
        elif kind == 6:
            first, last = sorted((at, rnd.randrange(len(data))))
            data[first:last] = data[first:last] * rnd.choice((0, 2))
        else:
            data = data[:at] + data[-rnd.randrange(4) :]
    return bytes(data)


class Mallory:
    """Writes well-formed updates whose references make no sense, or just enough."""

    def __init__(self, rnd: random.Random, gate: Gate, clients: list[int]) -> None:
        self.rnd = rnd
        self.gate = gate
        self.clients = clients

    def write(self) -> bytes:
        rnd = self.rnd
        sections = []
        for client in rnd.sample(self.clients, rnd.choice((1, 1, 1, 2, 3))):
            first = clock = self._first_clock(client)
            blocks = []
            for _ in range(rnd.choice((1, 1, 2, 4, 8))):
                block, units = self._block(client, clock)
                blocks.append(block)
                clock += units
            sections.append((client, first, blocks))
        return update(*sections, delete=dict(self._deletions()))

    def _first_clock(self, client: int) -> int:
        known = self.gate.clocks.get(client, 0)
        chance = self.rnd.random()
        if chance < 0.12:
            return max(0, known - self.rnd.randrange(6))
        return known + self.rnd.randrange(4) if chance < 0.2 else known

    def _id(self, client: int, clock: int) -> Id:
        if clock and self.rnd.random() < 0.35:
            return client, self.rnd.randrange(clock)
        known = self.gate.clocks
        if known and self.rnd.random() < 0.93:
            other = self.rnd.choice(sorted(known))
            return other, self.rnd.randrange(known[other])
        return self.rnd.choice(self.clients), self.rnd.randrange(40)

    def _block(self, client: int, clock: int) -> tuple[bytes, int]:
        rnd = self.rnd
        kind = rnd.choice((0, 1, 3, 4, 4, 4, 4, 5, 6, 7, 7, 7, 7, 8, 8, 9, 10))
        if kind in (0, 10):
            units = rnd.randrange(1, 4)
            return bytes((kind,)) + encode_uint(units), units
        units, body = self._content(kind)
        origins = rnd.choice(("", "", "left", "left", "right", "both", "both"))
        left = self._id(client, clock) if origins in ("left", "both") else None
        right = self._id(client, clock) if origins in ("right", "both") else None
        parent = rnd.choice(("text", "map", "array", "xml")) if rnd.random() < 0.5 else self._id(client, clock)
        key = rnd.choice("abk") if rnd.random() < 0.3 else None
        return item(kind, body, left=left, right=right, parent=parent, key=key), units

    def _content(self, kind: int) -> tuple[int, bytes]:
        rnd = self.rnd
        if kind == 1:
            units = rnd.randrange(1, 4)
            return units, encode_uint(units)
        if kind == 3:
            return 1, encode_bytes(b"xyz")
        if kind == 4:
            content = rnd.choice(("a", "abc", "é", "😀", "x😀y", "漢字"))
            return len(content.encode("utf-16-le")) // 2, encode_string(content)
        if kind == 5:
            return 1, encode_string(rnd.choice(('{"a":1}', '"x"', "null", "1")))
        if kind == 6:
            return 1, encode_string(rnd.choice(("bold", "i"))) + encode_string(
                rnd.choice(("true", "null", '{"x":[1]}'))
            )
        if kind == 7:
            shared = rnd.choice((0, 1, 2, 3, 4, 6))
            return 1, bytes((shared,)) + (encode_string("p") if shared == 3 else b"")
        if kind == 8:
            units = rnd.randrange(1, 4)
            some = (
                b"\x7d\x05",
                b"\x7e",
                b"\x77\x01a",
                b"\x75\x01\x7d\x01",
                b"\x76\x01\x01k\x78",
                b"\x7f",
                b"\x74\x01\x02",
            )
            return units, encode_uint(units) + b"".join(rnd.choice(some) for _ in range(units))
        return 1, encode_string("guid") + rnd.choice((b"\x76\x00", b"\x76\x01\x02gc\x78", b"\x76\x01\x08autoLoad\x78"))

    def _deletions(self) -> list[tuple[int, list[Id]]]:
        rnd = self.rnd
        found = []
        for client in rnd.sample(self.clients, rnd.choice((0, 0, 0, 1, 1, 2))):
            top = self.gate.clocks.get(client, 0) + 3
            at = 0
            ranges = []
            while at < top and len(ranges) < 4:
                start = at + rnd.randrange(4 if rnd.random() < 0.5 else top)
                length = rnd.randrange(1, 4)
                ranges.append((start, length))
                at = start + length
            found.append((client, ranges))
        return found


def check(room: RoomDocument, gate: Gate, sent: list[bytes], rnd: random.Random) -> None:
    """The document is sound, and what it serves makes the same room anywhere else."""
    if rnd.random() < 0.3:
        room.revive()
    whole = room.full()
    assert room.is_whole()
    reloaded = Document()
    reloaded.apply([whole])
    assert reloaded.is_whole()
    assert reloaded.clocks() == room.clocks()
    other = Gate()
    admission = other.admit(whole, ref=0, owner=0)
    assert not admission.waiting
    assert not other.cut_pairs
    assert dict(other.clocks) == dict(gate.clocks)
    for client, ranges in gate.deletions.items():
        assert all(other.deletions.covers(client, start, end) for start, end in ranges)
    merged = join_updates(sent) if gate.cut_pairs else merge_all(sent)
    assert decode_state_vector(pycrdt.get_state(merged), clients_max=99) == dict(gate.clocks)
    room.update_since(encode_state_vector({client: rnd.randrange(n + 1) for client, n in gate.clocks.items()}))


def run_room(seed: int, met: Counter[str]) -> None:
    """One room's life."""
    rnd = random.Random(seed)
    people, honest = session(seed % HONEST_SESSIONS, rounds=12, editors=3)
    pool = [*honest, *(person.doc.get_update() for person in people)]
    gate = Gate(GateLimits(type_depth_max=rnd.choice((3, 128))))
    room = RoomDocument(gate)
    mallory = Mallory(rnd, gate, [*(person.doc.client_id for person in people), 7, 2**40, 0])
    written = rnd.choice((0.0, 0.5, 1.0))
    sent: list[bytes] = []
    for ref in range(UPDATES_PER_ROOM):
        data = mallory.write() if rnd.random() < written else rnd.choice(pool)
        if rnd.random() < 0.5:
            data = damaged(rnd, data, pool)
        met["updates"] += 1
        try:
            admission = gate.admit(data, ref=ref, owner=ref)
        except RemoteError as error:
            met[type(error).__name__] += 1
            continue
        met["waiting" if admission.waiting else "accepted"] += 1
        met["refused late"] += len(admission.refused)
        room.apply(admission.updates)
        sent += admission.updates
        assert room.clocks() == dict(gate.clocks)
        met["with cut pairs"] += bool(gate.cut_pairs)
        if ref % 10 == 9:
            check(room, gate, sent, rnd)


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2])
    met: Counter[str] = Counter()
    for seed in range(first, first + count):
        # The last line says which room it was, should this be the last thing the process does.
        print(f"room {seed}", file=sys.stderr, flush=True)
        run_room(seed, met)
    print(json.dumps(met))


if __name__ == "__main__":
    main()
