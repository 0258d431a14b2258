"""Yjs updates written by hand, block by block, so that a test can say what no library would write.

update((7, 0, [text("ab"), text("c", left=(7, 1))]), delete={7: [(0, 1)]})
"""

from collections.abc import Mapping, Sequence

from crdt.varint import encode_bytes, encode_string, encode_uint

Id = tuple[int, int]
Section = tuple[int, int, Sequence[bytes]]

NULL = b"\x7e"
ONE = b"\x7d\x01"


def item(
    ref: int,
    content: bytes,
    *,
    left: Id | None = None,
    right: Id | None = None,
    parent: str | Id = "text",
    key: str | None = None,
) -> bytes:
    """A block of content kind `ref`. The parent and its key are written where the format has them: without origins."""
    info = ref | (0x80 if left else 0) | (0x40 if right else 0) | (0x20 if key is not None else 0)
    out = bytes((info,))
    for origin in (left, right):
        if origin is not None:
            out += encode_uint(origin[0]) + encode_uint(origin[1])
    if left is None and right is None:
        if isinstance(parent, str):
            out += b"\x01" + encode_string(parent)
        else:
            out += b"\x00" + encode_uint(parent[0]) + encode_uint(parent[1])
        if key is not None:
            out += encode_string(key)
    return out + content


def text(
    content: str,
    *,
    left: Id | None = None,
    right: Id | None = None,
    parent: str | Id = "text",
    key: str | None = None,
) -> bytes:
    return item(4, encode_string(content), left=left, right=right, parent=parent, key=key)


def values(
    *encoded: bytes,
    left: Id | None = None,
    right: Id | None = None,
    parent: str | Id = "array",
    key: str | None = None,
) -> bytes:
    return item(8, encode_uint(len(encoded)) + b"".join(encoded), left=left, right=right, parent=parent, key=key)


def shared_type(
    kind: int,
    *,
    name: str = "p",
    left: Id | None = None,
    right: Id | None = None,
    parent: str | Id = "xml",
    key: str | None = None,
) -> bytes:
    content = encode_uint(kind) + (encode_string(name) if kind in (3, 5) else b"")
    return item(7, content, left=left, right=right, parent=parent, key=key)


def embed(json: bytes, *, left: Id | None = None) -> bytes:
    return item(5, encode_bytes(json), left=left)


def deleted(length: int, *, left: Id | None = None, right: Id | None = None, parent: str | Id = "text") -> bytes:
    return item(1, encode_uint(length), left=left, right=right, parent=parent)


def collected(length: int) -> bytes:
    return b"\x00" + encode_uint(length)


def skip(length: int) -> bytes:
    return b"\x0a" + encode_uint(length)


def update(*sections: Section, delete: Mapping[int, Sequence[tuple[int, int]]] | None = None) -> bytes:
    """An update of (client, first clock, blocks) sections; `delete` maps clients to (clock, length) ranges."""
    out = encode_uint(len(sections))
    for client, clock, blocks in sections:
        out += encode_uint(len(blocks)) + encode_uint(client) + encode_uint(clock) + b"".join(blocks)
    out += encode_uint(len(delete or {}))
    for client, ranges in (delete or {}).items():
        out += encode_uint(client) + encode_uint(len(ranges))
        out += b"".join(encode_uint(clock) + encode_uint(length) for clock, length in ranges)
    return out


def typed(client: int, clock: int, content: str, parent: str = "text") -> bytes:
    """An update with one text block that follows the client's own last one, as typing at the end makes it."""
    block = text(content, parent=parent) if clock == 0 else text(content, left=(client, clock - 1))
    return update((client, clock, [block]))
