"""Blocks as bytes: cutting one, and writing updates from parts of others.

The gate lets raw bytes through where it can. Where it can't (a block overlaps known clocks, parts wait, an update is
too large to apply at once) it writes new updates from byte ranges of the old, with cut blocks where needed.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crdt.content import NO_BUDGET, cut_content, scan_any
from crdt.update import GC, HAS_KEY, HAS_LEFT, HAS_RIGHT, REF_MASK
from crdt.varint import Reader, encode_string, encode_uint

Deletions = list[tuple[int, list[tuple[int, int]]]]
"""Per client its delete ranges, as in `ParsedUpdate.deletions`."""


class Extent(NamedTuple):
    """Consecutive blocks of one client, as bytes."""

    client: int
    clock: int
    block_count: int
    blocks: bytes


class _Header(NamedTuple):
    """The parts of a block's bytes before its content."""

    info: int
    origins: bytes
    """Origins, or parent and key: all between the info byte and the content."""
    right: bytes
    """The right origin alone."""
    content: Reader


def _read_header(block: bytes) -> _Header:
    info = block[0]
    reader = Reader(block)
    reader.pos = 1
    if info == GC:
        return _Header(info, b"", b"", reader)
    if info & HAS_LEFT:
        reader.uint()
        reader.uint()
    right = reader.pos
    if info & HAS_RIGHT:
        reader.uint()
        reader.uint()
    right_id = block[right : reader.pos]
    if not info & (HAS_LEFT | HAS_RIGHT):
        if reader.uint() == 1:
            reader.bytes_()
        else:
            reader.uint()
            reader.uint()
        if info & HAS_KEY:
            reader.bytes_()
    return _Header(info, block[1 : reader.pos], right_id, reader)


def read_parent(data: bytes, at: int) -> tuple[str | None, str | None]:
    """The parent of the block at `at`, one without origins: (root name, or None where it is an item; key if any)."""
    reader = Reader(data)
    reader.pos = at + 1
    name = None
    if reader.uint() == 1:
        name = reader.string()
    else:
        reader.uint()
        reader.uint()
    return name, reader.string() if data[at] & HAS_KEY else None


def cut_block(block: bytes, client: int, clock: int, start: int, end: int) -> bytes:
    """The clocks `[start, end)` of a block of `client` that begins at `clock` (and was parsed before).

    A part that does not begin the block gets the item before it as its left origin, as `Item.write` of Yjs does.
    """
    info, origins, right, content = _read_header(block)
    if start > clock and info != GC:
        info |= HAS_LEFT
        origins = encode_uint(client) + encode_uint(start - 1) + right
    return bytes((info,)) + origins + cut_content(content, info & REF_MASK, start - clock, end - clock)


def split_values(block: bytes, client: int, clock: int) -> list[bytes]:
    """A block of several `any` values at `clock` as blocks of one each, every one after the other."""
    header = _read_header(block)
    reader = header.content
    count = reader.uint()
    later = bytes((header.info | HAS_LEFT,)) + encode_uint(client)
    blocks = []
    pos = reader.pos
    for index in range(count):
        end = scan_any(block, pos, [1], NO_BUDGET, NO_BUDGET)
        origins = later + encode_uint(clock + index - 1) + header.right if index else block[:1] + header.origins
        blocks.append(origins + b"\x01" + block[pos:end])
        pos = end
    return blocks


def replace_units(block: bytes, units: Iterable[int]) -> bytes:
    """A text block with these UTF-16 units, counted from its beginning, replaced by U+FFFD."""
    header = _read_header(block)
    text = bytearray(header.content.string().encode("utf-16-le"))
    for unit in units:
        text[2 * unit : 2 * unit + 2] = b"\xfd\xff"
    return block[:1] + header.origins + encode_string(text.decode("utf-16-le"))


def write_update(extents: Iterable[Extent], deletions: Deletions) -> bytes:
    """One update of these blocks and deletions. Each client's extents come in clock order without gaps.

    Clients are written highest first, as Yjs does.
    """
    clients: dict[int, list[Extent]] = {}
    for extent in extents:
        clients.setdefault(extent.client, []).append(extent)
    out = bytearray(encode_uint(len(clients)))
    for client in sorted(clients, reverse=True):
        parts = clients[client]
        out += encode_uint(sum(part.block_count for part in parts))
        out += encode_uint(client)
        out += encode_uint(parts[0].clock)
        for part in parts:
            out += part.blocks
    out += encode_uint(len(deletions))
    for client, ranges in deletions:
        out += encode_uint(client)
        out += encode_uint(len(ranges))
        for start, end in ranges:
            out += encode_uint(start)
            out += encode_uint(end - start)
    return bytes(out)


def write_slices(
    extents: Iterable[Extent], deletions: Deletions, *, slice_blocks: int, slice_bytes: int
) -> Iterator[bytes]:
    """The same as several updates, each small enough to apply at once (R17).

    Extents must come in an order in which each one's dependencies are in before it, so any cut leaves slices that
    apply one after the other; deletions follow all blocks. A single extent is never divided.
    """
    part: list[Extent] = []
    count = size = 0
    for extent in extents:
        if part and (count + extent.block_count > slice_blocks or size + len(extent.blocks) > slice_bytes):
            yield write_update(part, [])
            part = []
            count = size = 0
        part.append(extent)
        count += extent.block_count
        size += len(extent.blocks)
    room = slice_blocks - count
    dropped: Deletions = []
    for client, ranges in deletions:
        done = 0
        while done < len(ranges):
            if room <= 0:
                yield write_update(part, dropped)
                part = []
                dropped = []
                room = slice_blocks
            taken = ranges[done : done + room]
            dropped.append((client, taken))
            done += len(taken)
            room -= len(taken)
    if part or dropped:
        yield write_update(part, dropped)
