"""Update V1 bytes as items: who wrote which content, next to what it was put, and what is deleted.

Owns decoding and cutting; `crdt.replay` puts the items in order, `crdt.views` reads the result. The layout is the one of
the shared protocol reference ("Update V1 in one paragraph"); yjs 13.6 `src/structs/*.js` is the other side.
An item is cut wherever another item or a deletion refers into its middle, before anything is put in order: a reference
then always meets a whole item, and replaying never has to cut (yjs cuts as it goes, to the same pieces).
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from itertools import pairwise
from json import loads as json_loads
from typing import Any, Final, final

from crdt.errors import Malformed, TooLarge, Unsupported
from crdt.varint import Reader

ItemId = tuple[int, int]
"""(client, clock)."""

ANY_DEPTH_MAX: Final = 100
"""Nesting inside one value. The gate lets 64 through; the room between is for documents older than a lower limit."""

SAFE_INTEGER_MAX: Final = 2**53 - 1
"""Largest integer a JavaScript number keeps exactly."""


class ContentRef(IntEnum):
    """What an item holds: the low five bits of its info byte."""

    GC = 0
    DELETED = 1
    JSON = 2
    BINARY = 3
    STRING = 4
    EMBED = 5
    FORMAT = 6
    TYPE = 7
    ANY = 8
    DOC = 9
    SKIP = 10


_GC: Final = int(ContentRef.GC)
_DELETED: Final = int(ContentRef.DELETED)
_STRING: Final = int(ContentRef.STRING)
_SKIP: Final = int(ContentRef.SKIP)


class TypeRef(IntEnum):
    """Kinds of shared types, as their creator wrote them. A root has none: whoever reads it says what it is."""

    ARRAY = 0
    MAP = 1
    TEXT = 2
    XML_ELEMENT = 3
    XML_FRAGMENT = 4
    XML_HOOK = 5
    XML_TEXT = 6


@final
class Undefined:
    """JavaScript's `undefined`, which is not null. One instance: `UNDEFINED`."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = Undefined()


class BigInt(int):
    """A JavaScript `bigint`: an integer, but not a number there."""


class Branch:
    """A shared type: the first item of its sequence and of each of its keys, and the current item of each key."""

    __slots__ = ("firsts", "kind", "lasts", "name")

    def __init__(self, kind: TypeRef | None, name: str) -> None:
        self.kind = kind
        self.name = name
        """Tag of an XML element or hook, name of a root, else empty."""
        self.firsts: dict[str | None, Item] = {}
        """Leftmost item of the sequence (key None) and of every key's chain."""
        self.lasts: dict[str, Item] = {}
        """Rightmost item of every key's chain: its value, unless deleted."""


class Item:
    """One piece of content. `parent` is a `Branch` once known; an item without one holds nothing readable (yjs: GC)."""

    __slots__ = (
        "client",
        "clock",
        "content",
        "deleted",
        "key",
        "left",
        "length",
        "origin",
        "parent",
        "parent_id",
        "ref",
        "right",
        "right_origin",
    )

    def __init__(
        self,
        ref: int,
        client: int,
        clock: int,
        length: int,
        content: Any,
        origin: ItemId | None,
        right_origin: ItemId | None,
        parent: Branch | None,
        parent_id: ItemId | None,
        key: str | None,
    ) -> None:
        self.ref = ref
        self.client = client
        self.clock = clock
        self.length = length
        self.content = content
        self.origin = origin
        self.right_origin = right_origin
        self.parent = parent
        self.parent_id = parent_id
        self.key = key
        self.deleted = ref <= _DELETED
        self.left: Item | None = None
        self.right: Item | None = None


class DecodedUpdate:
    """Items per client in order of clock, cut to where they are referred to; roots by name; coalesced deletions."""

    __slots__ = ("deletions", "items", "roots")

    def __init__(
        self, items: dict[int, list[Item]], roots: dict[str, Branch], deletions: dict[int, list[tuple[int, int]]]
    ) -> None:
        self.items = items
        self.roots = roots
        self.deletions = deletions
        """client -> half-open ranges of clocks, sorted and disjoint."""


def decode_update(update: bytes, *, items_max: int) -> DecodedUpdate:
    """Read a whole update V1.

    Raises `Malformed` on bytes that break the format, `Unsupported` on content nobody reads, `TooLarge` past
    `items_max` items or values nested deeper than `ANY_DEPTH_MAX`.
    """
    reader = Reader(update)
    roots: dict[str, Branch] = {}
    items: dict[int, list[Item]] = {}
    cuts: dict[int, list[int]] = {}
    budget = items_max
    for _ in range(_count(reader)):
        blocks = _count(reader)
        budget -= blocks
        if budget < 0:
            raise TooLarge(f"document has more than {items_max} items")
        client, clock = reader.uint(), reader.uint()
        if client in items:
            raise Malformed(f"client {client} is listed twice")
        client_items = items[client] = []
        for _ in range(blocks):
            clock = _read_block(reader, client, clock, roots, client_items, cuts)
    deletions = _read_deletions(reader, cuts)
    reader.expect_end()
    for client, client_items in items.items():
        clocks = cuts.get(client)
        if clocks:
            items[client] = _cut(client_items, sorted(set(clocks)))
    return DecodedUpdate(items, roots, deletions)


def _count(reader: Reader) -> int:
    """A number of things of at least one byte each."""
    count = reader.uint()
    if count > reader.end - reader.pos:
        raise Malformed(f"{count} entries announced in the {reader.end - reader.pos} bytes left")
    return count


def _read_block(
    reader: Reader, client: int, clock: int, roots: dict[str, Branch], items: list[Item], cuts: dict[int, list[int]]
) -> int:
    """Append one block to `items` (a skip leaves a hole in the clocks). Returns the clock behind it."""
    info = _byte(reader)
    ref = info & 0x1F
    if ref in (_GC, _SKIP):
        length = reader.uint()
        if not length:
            raise Malformed("block of no length")
        if ref == _GC:
            items.append(Item(_GC, client, clock, length, None, None, None, None, None, None))
        return clock + length
    origin = right_origin = parent_id = key = None
    parent: Branch | None = None
    if info & 0x80:
        origin = (reader.uint(), reader.uint())
        cuts.setdefault(origin[0], []).append(origin[1] + 1)
    if info & 0x40:
        right_origin = (reader.uint(), reader.uint())
        cuts.setdefault(right_origin[0], []).append(right_origin[1])
    if not info & 0xC0:
        # The parent is only written when no neighbour tells it.
        if reader.uint():
            name = reader.string()
            parent = roots.get(name)
            if parent is None:
                parent = roots[name] = Branch(None, name)
        else:
            parent_id = (reader.uint(), reader.uint())
        if info & 0x20:
            key = reader.string()
    length, content = _read_content(reader, ref)
    items.append(Item(ref, client, clock, length, content, origin, right_origin, parent, parent_id, key))
    return clock + length


def _read_content(reader: Reader, ref: int) -> tuple[int, Any]:
    """Returns (length in clocks, content). Strings are counted in UTF-16 units, as JavaScript does."""
    if ref == _STRING:
        text = reader.string()
        length = utf16_length(text)
        if not length:
            raise Malformed("string of no length")
        return length, text
    match ref:
        case ContentRef.DELETED:
            length = reader.uint()
            if not length:
                raise Malformed("block of no length")
            return length, None
        case ContentRef.ANY | ContentRef.JSON:
            length = _count(reader)
            if not length:
                raise Malformed("list of no values")
            read = read_any if ref == ContentRef.ANY else _read_json_or_undefined
            return length, [read(reader) for _ in range(length)]
        case ContentRef.BINARY:
            return 1, reader.bytes_()
        case ContentRef.EMBED:
            return 1, _read_json(reader)
        case ContentRef.FORMAT:
            # The third is what showing it costs, for those who bound what they show.
            start = reader.pos
            key, value = reader.string(), _read_json(reader)
            return 1, (key, value, reader.pos - start)
        case ContentRef.TYPE:
            kind = reader.uint()
            if kind > TypeRef.XML_TEXT:
                raise Unsupported(f"shared type {kind} is not known")
            named = kind in (TypeRef.XML_ELEMENT, TypeRef.XML_HOOK)
            return 1, Branch(TypeRef(kind), reader.string() if named else "")
        case ContentRef.DOC:
            guid = reader.string()
            read_any(reader)  # options of the subdocument: nothing of its content
            return 1, guid
        case _:
            raise Unsupported(f"content {ref} is not known")


def utf16_length(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) >> 1


def _byte(reader: Reader) -> int:
    pos = reader.pos
    if pos >= reader.end:
        raise Malformed("message ends where a byte was expected")
    reader.pos = pos + 1
    return reader.data[pos]


def read_any(reader: Reader, depth: int = 0) -> Any:
    """One lib0 `any`. Integers beyond 53 bits cannot occur but as `BigInt`; bytes stay bytes."""
    tag = _byte(reader)
    match tag:
        case 0x77:
            return reader.string()
        case 0x7D:
            return reader.int_()
        case 0x7B:
            return _float(reader, ">d", 8)
        case 0x7C:
            return _float(reader, ">f", 4)
        case 0x78:
            return True
        case 0x79:
            return False
        case 0x7E:
            return None
        case 0x7F:
            return UNDEFINED
        case 0x74:
            return reader.bytes_()
        case 0x7A:
            return BigInt.from_bytes(_take(reader, 8), "big", signed=True)
        case 0x75 | 0x76 if depth >= ANY_DEPTH_MAX:
            raise TooLarge(f"value is nested deeper than {ANY_DEPTH_MAX}")
        case 0x75:
            return [read_any(reader, depth + 1) for _ in range(_count(reader))]
        case 0x76:
            return {reader.string(): read_any(reader, depth + 1) for _ in range(_count(reader))}
        case _:
            raise Malformed(f"value tag {tag} is not known")


def _take(reader: Reader, size: int) -> bytes:
    end = reader.pos + size
    if end > reader.end:
        raise Malformed(f"value of {size} bytes passes the {reader.end - reader.pos} bytes left")
    raw = reader.data[reader.pos : end]
    reader.pos = end
    return raw


def _float(reader: Reader, layout: str, size: int) -> float:
    value: float = struct.unpack(layout, _take(reader, size))[0]
    return value


def _read_json(reader: Reader) -> Any:
    return parse_json(reader.string())


def _read_json_or_undefined(reader: Reader) -> Any:
    text = reader.string()
    return UNDEFINED if text == "undefined" else parse_json(text)


def parse_json(text: str) -> Any:
    """JSON as JavaScript reads it: numbers are doubles, half a surrogate pair is U+FFFD. Raises `Malformed`/`TooLarge`."""
    try:
        value = json_loads(text, parse_int=_js_integer)
    except RecursionError:
        raise TooLarge("json is nested too deeply") from None
    except ValueError:
        raise Malformed("value is not valid json") from None
    return _mend(value, 0)


def _js_integer(digits: str) -> int | float:
    value = float(digits)
    return int(value) if abs(value) <= SAFE_INTEGER_MAX else value


def _mend(value: Any, depth: int) -> Any:
    """Half a surrogate pair, which an escape can write, has no UTF-8; nesting is bounded as everywhere."""
    if depth > ANY_DEPTH_MAX:
        raise TooLarge(f"value is nested deeper than {ANY_DEPTH_MAX}")
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_mend(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {well_formed(key): _mend(each, depth + 1) for key, each in value.items()}
    return value


def well_formed(text: str) -> str:
    """`text` with every half of a surrogate pair replaced by U+FFFD (JavaScript: `toWellFormed`)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _read_deletions(reader: Reader, cuts: dict[int, list[int]]) -> dict[int, list[tuple[int, int]]]:
    deletions: dict[int, list[tuple[int, int]]] = {}
    for _ in range(_count(reader)):
        client = reader.uint()
        ranges = deletions.setdefault(client, [])
        for _ in range(_count(reader)):
            clock = reader.uint()
            ranges.append((clock, clock + reader.uint()))
    for client, ranges in deletions.items():
        merged = _coalesced(sorted(ranges))
        deletions[client] = merged
        cuts.setdefault(client, []).extend(clock for pair in merged for clock in pair)
    return deletions


def _coalesced(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut(items: list[Item], clocks: list[int]) -> list[Item]:
    """The same content in pieces: a new one starts at each of `clocks` (sorted, distinct)."""
    pieces: list[Item] = []
    index, count = 0, len(clocks)
    for item in items:
        end = item.clock + item.length
        while index < count and clocks[index] <= item.clock:
            index += 1
        inside = index
        while index < count and clocks[index] < end:
            index += 1
        if inside == index:
            pieces.append(item)
        else:
            _cut_item(item, clocks[inside:index], pieces)
    return pieces


def _cut_item(item: Item, clocks: list[int], pieces: list[Item]) -> None:
    bounds = [0, *(clock - item.clock for clock in clocks), item.length]
    contents: Iterable[Any]
    if item.ref == _STRING:
        contents = _cut_text(item.content, bounds)
    elif item.ref <= _DELETED:
        contents = [None] * (len(bounds) - 1)
    else:
        contents = [item.content[start:end] for start, end in pairwise(bounds)]
    origin = item.origin
    for (start, end), content in zip(pairwise(bounds), contents, strict=True):
        piece = Item(
            item.ref,
            item.client,
            item.clock + start,
            end - start,
            content,
            origin,
            item.right_origin,
            None,
            None,
            item.key,
        )
        if not start:
            piece.parent, piece.parent_id = item.parent, item.parent_id
        pieces.append(piece)
        if item.ref != _GC:
            origin = (item.client, item.clock + end - 1)


def _cut_text(text: str, bounds: list[int]) -> list[str]:
    """A cut inside a surrogate pair leaves U+FFFD on both sides, as yjs does (`ContentString.splice`)."""
    if text.isascii():
        return [text[start:end] for start, end in pairwise(bounds)]
    raw = text.encode("utf-16-le")
    return [
        raw[2 * start : 2 * end].decode("utf-16-le", "replace") for start, end in pairwise(bounds)
    ]
