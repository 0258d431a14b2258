"""Update V1 bytes as items: who wrote which content, next to what it was put, and what is deleted.

Owns decoding and cutting; `crdt.replay` puts the items in order, `crdt.views` reads the result. The other
side is `Item.write` and `src/structs/Content*.js` of yjs 13.6.
An item is cut wherever another item or a deletion refers into its middle, before anything is put in order: a reference
then always meets a whole item, and replaying never has to cut (yjs cuts as it goes, to the same pieces).
"""

from collections.abc import Iterable
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final

from crdt.errors import Malformed, TooLarge, Unsupported
from crdt.values import read_any, read_byte, read_count, read_json_or_undefined, read_json_text
from crdt.varint import Reader

ItemId = tuple[int, int]
"""(client, clock)."""


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

    def __init__(self, ref: int, client: int, clock: int, length: int, content: Any) -> None:
        self.ref = ref
        self.client = client
        self.clock = clock
        self.length = length
        self.content = content
        self.origin: ItemId | None = None
        self.right_origin: ItemId | None = None
        self.parent: Branch | None = None
        self.parent_id: ItemId | None = None
        self.key: str | None = None
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
    return _Decoder(update).decode(items_max)


class _Decoder:
    """One update being read, and what later parts of it say about earlier ones."""

    def __init__(self, update: bytes) -> None:
        self._reader = Reader(update)
        self._roots: dict[str, Branch] = {}
        self._cuts: dict[int, list[int]] = {}
        """client -> clocks at which an item has to begin, in no order."""

    def decode(self, items_max: int) -> DecodedUpdate:
        """See `decode_update`."""
        reader = self._reader
        items: dict[int, list[Item]] = {}
        budget = items_max
        for _ in range(read_count(reader)):
            blocks = read_count(reader)
            budget -= blocks
            if budget < 0:
                raise TooLarge(f"document has more than {items_max} items")
            client, clock = reader.uint(), reader.uint()
            if client in items:
                raise Malformed(f"client {client} is listed twice")
            client_items = items[client] = []
            for _ in range(blocks):
                item = self._read_block(client, clock)
                clock += item.length
                if item.ref != _SKIP:
                    client_items.append(item)
        deletions = self._read_deletions()
        reader.expect_end()
        for client, client_items in items.items():
            clocks = self._cuts.get(client)
            if clocks:
                items[client] = _cut(client_items, sorted(set(clocks)))
        return DecodedUpdate(items, self._roots, deletions)

    def _read_block(self, client: int, clock: int) -> Item:
        """A skip is returned as an item too: it takes up clocks, and nobody is to have it."""
        reader, cuts = self._reader, self._cuts
        info = read_byte(reader)
        ref = info & 0x1F
        if ref in (_GC, _SKIP):
            return Item(ref, client, clock, _length(reader), None)
        origin = right_origin = parent = parent_id = key = None
        if info & 0x80:
            origin = (reader.uint(), reader.uint())
            cuts.setdefault(origin[0], []).append(origin[1] + 1)
        if info & 0x40:
            right_origin = (reader.uint(), reader.uint())
            cuts.setdefault(right_origin[0], []).append(right_origin[1])
        if not info & 0xC0:
            # The parent is only written when no neighbour tells it.
            if reader.uint():
                parent = self._root(reader.string())
            else:
                parent_id = (reader.uint(), reader.uint())
            if info & 0x20:
                key = reader.string()
        length, content = _read_content(reader, ref)
        item = Item(ref, client, clock, length, content)
        item.origin, item.right_origin = origin, right_origin
        item.parent, item.parent_id, item.key = parent, parent_id, key
        return item

    def _root(self, name: str) -> Branch:
        root = self._roots.get(name)
        if root is None:
            root = self._roots[name] = Branch(None, name)
        return root

    def _read_deletions(self) -> dict[int, list[tuple[int, int]]]:
        reader = self._reader
        deletions: dict[int, list[tuple[int, int]]] = {}
        for _ in range(read_count(reader)):
            ranges = deletions.setdefault(reader.uint(), [])
            for _ in range(read_count(reader)):
                clock = reader.uint()
                ranges.append((clock, clock + reader.uint()))
        for client, ranges in deletions.items():
            merged = deletions[client] = _coalesced(sorted(ranges))
            self._cuts.setdefault(client, []).extend(clock for pair in merged for clock in pair)
        return deletions


def _length(reader: Reader) -> int:
    length = reader.uint()
    if not length:
        raise Malformed("block of no length")
    return length


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
            return _length(reader), None
        case ContentRef.ANY | ContentRef.JSON:
            length = read_count(reader)
            if not length:
                raise Malformed("list of no values")
            read = read_any if ref == ContentRef.ANY else read_json_or_undefined
            return length, [read(reader) for _ in range(length)]
        case ContentRef.BINARY:
            return 1, reader.bytes_()
        case ContentRef.EMBED:
            return 1, read_json_text(reader)
        case ContentRef.FORMAT:
            # The third is what showing it costs, for those who bound what they show.
            start = reader.pos
            key, value = reader.string(), read_json_text(reader)
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
        piece = Item(item.ref, item.client, item.clock + start, end - start, content)
        piece.origin, piece.right_origin = origin, item.right_origin
        if not start:
            piece.parent, piece.parent_id, piece.key = item.parent, item.parent_id, item.key
        pieces.append(piece)
        if item.ref != _GC:
            origin = (item.client, item.clock + end - 1)


def _cut_text(text: str, bounds: list[int]) -> list[str]:
    """A cut inside a surrogate pair leaves U+FFFD on both sides, as yjs does (`ContentString.splice`)."""
    if text.isascii():
        return [text[start:end] for start, end in pairwise(bounds)]
    raw = text.encode("utf-16-le")
    return [raw[2 * start : 2 * end].decode("utf-16-le", "replace") for start, end in pairwise(bounds)]
