"""The Yjs bytes the benchmark's clients write and read: appended text, step 1 and 2, clock ranges of what arrives.

Pure. Writes what an honest yjs client writes when its user types at the end of their own run in one shared Y.Text: the
first block names the root type, each later one its left neighbour. Reads any update made of such blocks, alone or many
clients' merged into one, only as far as it takes to know which clocks it brings.
"""

from typing import Final

from crdt.varint import Reader, encode_bytes, encode_string, encode_uint

ROOT: Final = "text"

STEP1_EMPTY: Final = b"\x00\x00\x01\x00"
"""Step 1 of a client that has nothing yet."""
STEP2_EMPTY: Final = b"\x00\x01\x02\x00\x00"
"""Step 2 of a client that has nothing the server lacks."""

_GC: Final = 0
_DELETED: Final = 1
_STRING: Final = 4
_SKIP: Final = 10
_HAS_ORIGIN: Final = 0x80
_HAS_RIGHT_ORIGIN: Final = 0x40
_HAS_PARENT_KEY: Final = 0x20
_NO_DELETIONS: Final = b"\x00"

Range = tuple[int, int, int]
"""Client id, first clock, clock after the last."""


def append(client: int, clock: int, text: str) -> bytes:
    """The v1 update of `client`, at `clock`, writing `text` behind all it has written before. `text` is ASCII."""
    if clock == 0:
        block = bytes((_STRING, 1)) + encode_string(ROOT)
    else:
        block = bytes((_STRING | _HAS_ORIGIN,)) + encode_uint(client) + encode_uint(clock - 1)
    return b"\x01\x01" + encode_uint(client) + encode_uint(clock) + block + encode_string(text) + _NO_DELETIONS


def update_frame(update: bytes) -> bytes:
    """The message that brings an edit (outer type 0, subtype 2)."""
    return b"\x00\x02" + encode_bytes(update)


def step2_frame(update: bytes) -> bytes:
    """The message that answers a step 1."""
    return b"\x00\x01" + encode_bytes(update)


def awareness_frame(client: int, clock: int, state: str) -> bytes:
    """One client's presence; `state` is JSON text."""
    return b"\x01" + encode_bytes(b"\x01" + encode_uint(client) + encode_uint(clock) + encode_string(state))


def cursor_state(name: str, client: int, clock: int) -> str:
    """Presence as editors send it: who it is, and a relative position in the root text as y-prosemirror writes one."""
    position = f'{{"type":null,"tname":"{ROOT}","item":{{"client":{client},"clock":{clock}}},"assoc":0}}'
    return f'{{"user":{{"name":"{name}","color":"#30bced"}},"cursor":{{"anchor":{position},"head":{position}}}}}'


def read_step1(message: bytes) -> dict[int, int]:
    """The state vector of a step 1 message (from its outer type on)."""
    vector = Reader(Reader(message[2:]).bytes_())
    return {vector.uint(): vector.uint() for _ in range(vector.uint())}


def read_ranges(message: bytes) -> list[Range]:
    """The clocks a step 2 or update message brings; holes (Skip) are left out. `Malformed` on anything else."""
    return update_ranges(Reader(message[2:]).bytes_())


def update_ranges(update: bytes) -> list[Range]:
    """The clock ranges of one update, adjoining blocks joined, in the order they stand in."""
    reader = Reader(update)
    ranges: list[Range] = []
    for _ in range(reader.uint()):
        blocks, client, clock = reader.uint(), reader.uint(), reader.uint()
        start = clock
        for _ in range(blocks):
            length, brings = _skip_block(reader)
            if not brings:
                if clock > start:
                    ranges.append((client, start, clock))
                start = clock + length
            clock += length
        if clock > start:
            ranges.append((client, start, clock))
    return ranges


def _skip_block(reader: Reader) -> tuple[int, bool]:
    """Passes over one block: its length in clocks, and whether it brings them (a Skip does not)."""
    info = reader.data[reader.pos] if reader.pos < reader.end else reader.uint()
    reader.pos += 1
    content = info & 0x1F
    if content in (_GC, _SKIP):
        return reader.uint(), content != _SKIP
    if info & _HAS_ORIGIN:
        reader.uint(), reader.uint()
    if info & _HAS_RIGHT_ORIGIN:
        reader.uint(), reader.uint()
    if not info & (_HAS_ORIGIN | _HAS_RIGHT_ORIGIN):
        if reader.uint() == 1:
            reader.bytes_()
        else:
            reader.uint(), reader.uint()
        if info & _HAS_PARENT_KEY:
            reader.bytes_()
    if content == _STRING:
        return len(reader.string().encode("utf-16-le")) // 2, True
    if content == _DELETED:
        return reader.uint(), True
    raise ValueError(f"content {content} in an update: nobody here writes that")
