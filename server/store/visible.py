"""What a document shows, without pycrdt: to find out whether pycrdt, writing it anew, changed anything.

Two updates of the same content give the same pieces here, however their blocks are cut. Order and nesting come from
`crdt.replay`, which places items by itself; values are compared with their types, because a bigint that came back as a
number is a loss.
"""

from collections.abc import Iterator
from typing import Any

from crdt.errors import LocalError
from crdt.items import Branch, ContentRef, Item
from crdt.replay import replay, visible
from crdt.values import BigInt

Piece = tuple[Any, ...]


class HoldsSubdocument(LocalError):
    """A subdocument is in view. Its options are not decoded, so nothing can be said of them."""


def pieces(update: bytes) -> Iterator[Piece]:
    """What the whole document shows, root by root, in order.

    Raises `HoldsSubdocument`, and `TooLarge` for documents past what `crdt.replay` takes in.
    """
    roots = replay(update)
    for name in sorted(roots):
        yield ("root", name)
        yield from _of(roots[name])


def _of(branch: Branch) -> Iterator[Piece]:
    # Neighbouring texts become one piece: where a block ends is no content.
    text: list[str] = []
    for item in visible(branch):
        if item.ref == ContentRef.STRING:
            text.append(item.content)
            continue
        if text:
            yield ("text", "".join(text))
            text = []
        yield from _content(item)
    if text:
        yield ("text", "".join(text))
    for key in sorted(branch.lasts):
        item = branch.lasts[key]
        if not item.deleted:
            yield ("key", key)
            yield from _content(item)
    yield ("end",)


def _content(item: Item) -> Iterator[Piece]:
    match item.ref:
        case ContentRef.STRING | ContentRef.BINARY:
            yield (item.ref, item.content)
        case ContentRef.ANY | ContentRef.JSON:
            # pycrdt may keep either kind as the other; both are values one by one.
            for value in item.content:
                yield ("value", _plain(value))
        case ContentRef.EMBED:
            yield ("embed", _plain(item.content))
        case ContentRef.FORMAT:
            key, value, _ = item.content
            yield ("format", key, _plain(value))
        case ContentRef.TYPE:
            yield ("type", item.content.kind, item.content.name)
            yield from _of(item.content)
        case _:
            raise HoldsSubdocument(f"a subdocument stands at clock {item.clock} of client {item.client}")


def _plain(value: Any) -> Any:
    """Comparable with ==, which takes True for 1 and a bigint for a number where JavaScript does not."""
    if isinstance(value, dict):
        return "map", {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return "array", [_plain(each) for each in value]
    if isinstance(value, bool | BigInt):
        return type(value).__name__, int(value)
    if isinstance(value, int | float):
        # One kind of number; NaN by name, because it is not equal to itself.
        return "number", "nan" if value != value else float(value)  # noqa: PLR0124
    return type(value).__name__, value
