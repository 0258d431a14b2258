"""What a document says, for people and programs that do not speak Yjs: JSON, XML and text.

Owns the forms; `crdt.replay` owns the order. A *view* is one root read as one kind:

    prosemirror  the document node that y-prosemirror 1.3 `yXmlFragmentToProsemirrorJSON` makes
    xml          yjs `toString()` of an XML fragment: attributes sorted, nothing escaped, so it is for reading only
    text, delta  yjs `toString()` and `toDelta()` of a text
    map, array   yjs `toJSON()`

A root's kind is not in its bytes, so it is judged by what it shows; one that shows nothing is an empty one of any kind.
Values that JSON lacks: undefined goes missing from an object and is null in an array, NaN and the infinities are null
(all as `JSON.stringify`); bytes are `{"$bytes": base64}`, a bigint `{"$bigint": "123"}`, a subdocument `{"$doc": guid}`.
Differences to the JavaScript forms: neighbouring runs of text with equal attributes are always one run (in yjs that
depends on the history), text that stands right below a ProseMirror document is not wrapped in a list, and what the
JavaScript would fail on (a map inside an XML element) is `WrongView`.
"""

import math
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final, Literal

from crdt.errors import RemoteError, TooLarge
from crdt.items import Branch, ContentRef, Item, TypeRef
from crdt.javascript import js_string, sorted_keys
from crdt.replay import replay, visible
from crdt.values import UNDEFINED, BigInt, Undefined

ViewKind = Literal["prosemirror", "xml", "text", "delta", "map", "array"]
VIEW_KINDS: Final[tuple[ViewKind, ...]] = ("prosemirror", "xml", "text", "delta", "map", "array")

TYPE_DEPTH_MAX: Final = 150
"""Nesting of shared types. The gate lets 128 through; Python's own stack ends near 300 of ours."""

MARKS_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of text attributes in one view. One attribute is repeated with every run it covers, so that a small document
could show as gigabytes; a book of 10,000 linked words repeats about one megabyte."""

_XML: Final = frozenset({TypeRef.XML_ELEMENT, TypeRef.XML_FRAGMENT, TypeRef.XML_TEXT, TypeRef.XML_HOOK})
_TEXT_CONTENT: Final = frozenset({ContentRef.STRING, ContentRef.EMBED, ContentRef.FORMAT})
_HASH_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")

Shown = Literal["nothing", "text", "xml", "array", "map"]
_READABLE_AS: Final[dict[ViewKind, frozenset[Shown]]] = {
    "prosemirror": frozenset({"nothing", "xml"}),
    "xml": frozenset({"nothing", "xml"}),
    "text": frozenset({"nothing", "text"}),
    "delta": frozenset({"nothing", "text"}),
    "map": frozenset({"nothing", "map"}),
    "array": frozenset({"nothing", "array", "xml"}),
}


class WrongView(RemoteError):
    """The document cannot be read the way it was asked for: what it holds is of another kind."""


def read_json(update: bytes, root: str, as_: ViewKind) -> Any:
    """Read one root of the document that `update` (Yjs V1) is the whole of. An unknown root is an empty one.

    Returns what `json` can write, nested up to about 500 deep (orjson stops at 254). Raises `WrongView` if the root
    holds another kind, `TooLarge` if it is too much to show, `Malformed` or `Unsupported` on bytes no gate let through.
    """
    branch = replay(update).get(root) or Branch(None, root)
    shown = _shown(branch)
    if shown not in _READABLE_AS[as_]:
        raise WrongView(f"root {root!r} holds {shown} and can't be read as {as_}")
    try:
        return _read(branch, as_)
    except RecursionError:
        raise TooLarge("document is nested too deeply to be shown") from None


def _read(branch: Branch, as_: ViewKind) -> Any:
    view = _View()
    match as_:
        case "prosemirror":
            return {"type": "doc", "content": view.prosemirror(branch, 0)}
        case "xml":
            return view.xml(branch, 0)
        case "text":
            return _plain(branch)
        case "delta":
            return [view.json_run(run, 0) for run in view.runs(branch)]
        case "map":
            return view.entries(branch, 0)
        case "array":
            return view.elements(branch, 0)


def roots(update: bytes) -> list[str]:
    """Names of the roots that something was ever put into, sorted. Raises as `read_json` does."""
    return sorted(replay(update))


def _shown(branch: Branch) -> Shown:
    """The kind of a root, judged by what is visible: text wins over values, values over XML, a sequence over keys."""
    xml = values = False
    for item in visible(branch):
        if item.ref in _TEXT_CONTENT:
            return "text"
        if item.ref == ContentRef.TYPE and item.content.kind in _XML:
            xml = True
        else:
            values = True
    if values:
        return "array"
    if xml:
        return "xml"
    return "map" if any(True for _ in _entries(branch)) else "nothing"


def _entries(branch: Branch) -> Iterator[tuple[str, Any]]:
    """Keys and values of a map, or of an element's attributes, sorted by key."""
    for key in sorted_keys(branch.lasts):
        item = branch.lasts[key]
        if not item.deleted:
            yield key, _values(item)[-1]


def _values(item: Item) -> list[Any]:
    """An item's content as values (yjs `getContent`)."""
    if item.ref in (ContentRef.ANY, ContentRef.JSON):
        values: list[Any] = item.content
        return values
    if item.ref == ContentRef.DOC:
        return [_Subdocument(item.content)]
    if item.ref == ContentRef.FORMAT:
        return [UNDEFINED]
    return [item.content]


class _Subdocument:
    """A subdocument, of which a document knows the guid. Its content is another room's."""

    __slots__ = ("guid",)

    def __init__(self, guid: str) -> None:
        self.guid = guid


def _plain(branch: Branch) -> str:
    return "".join(item.content for item in visible(branch) if item.ref == ContentRef.STRING)


class _Run:
    """A stretch of text, or one embedded value, with its attributes in the order they began."""

    __slots__ = ("attributes", "insert")

    def __init__(self, insert: Any, attributes: dict[str, Any]) -> None:
        self.insert = insert
        self.attributes = attributes


class _View:
    """One reading. Holds what is left of the bound on repeated attributes."""

    def __init__(self) -> None:
        self._marks_bytes = MARKS_BYTES_MAX

    def runs(self, branch: Branch) -> list[_Run]:
        """A text in runs (yjs `toDelta`)."""
        runs: list[_Run] = []
        current: dict[str, Any] = {}
        costs: dict[str, int] = {}
        # Formats since the last content, the last of each key: what yjs leaves of them when it loads a document.
        gap: dict[str, tuple[Any, int]] = {}
        parts: list[str] = []
        for item in visible(branch):
            if item.ref == ContentRef.FORMAT:
                key, value, cost = item.content
                gap.pop(key, None)
                gap[key] = (value, cost)
                continue
            if item.ref not in (ContentRef.STRING, ContentRef.EMBED, ContentRef.TYPE):
                continue
            if gap:
                for key, (value, cost) in gap.items():
                    if value is None:
                        current.pop(key, None)
                        costs.pop(key, None)
                    else:
                        current[key] = value
                        costs[key] = cost
                gap.clear()
                self._charge(costs)
                if parts and not _same(runs[-1].attributes, current):
                    runs[-1].insert = "".join(parts)
                    parts.clear()
            if item.ref == ContentRef.STRING:
                if not parts:
                    self._charge(costs)
                    runs.append(_Run("", dict(current)))
                parts.append(item.content)
            else:
                if parts:
                    runs[-1].insert = "".join(parts)
                    parts.clear()
                self._charge(costs)
                runs.append(_Run(_Embed(item.content), dict(current)))
        if parts:
            runs[-1].insert = "".join(parts)
        return runs

    def _charge(self, costs: dict[str, int]) -> None:
        self._marks_bytes -= sum(costs.values())
        if self._marks_bytes < 0:
            raise TooLarge(f"text attributes would take more than {MARKS_BYTES_MAX} bytes")

    def json_run(self, run: _Run, depth: int) -> dict[str, Any]:
        """One operation of a delta."""
        operation = {"insert": self._inserted(run, depth)}
        if run.attributes:
            operation["attributes"] = self.json(run.attributes, depth)
        return operation

    def _inserted(self, run: _Run, depth: int) -> Any:
        return self.json(run.insert.value, depth) if isinstance(run.insert, _Embed) else run.insert

    def json(self, value: Any, depth: int) -> Any:
        """A value or shared type in the JSON form of the module's page."""
        match value:
            case None | bool():
                return value
            case _Subdocument():
                return {"$doc": value.guid}
            case str():
                return value
            case BigInt():
                return {"$bigint": str(int(value))}
            case int():
                return value
            case float():
                return _number(value)
            case bytes():
                return {"$bytes": b64encode(value).decode()}
            case Undefined():
                return None
            case list():
                return [self.json(each, depth) for each in value]
            case dict():
                return {key: self.json(each, depth) for key, each in value.items() if each is not UNDEFINED}
            case Branch():
                return self._json_type(value, _deeper(depth))
        raise AssertionError(type(value))

    def _json_type(self, branch: Branch, depth: int) -> Any:
        match branch.kind:
            case TypeRef.MAP | TypeRef.XML_HOOK:
                return self.entries(branch, depth)
            case TypeRef.TEXT:
                return _plain(branch)
            case TypeRef.XML_ELEMENT | TypeRef.XML_FRAGMENT | TypeRef.XML_TEXT:
                return self.xml(branch, depth)
            case _:
                return self.elements(branch, depth)

    def entries(self, branch: Branch, depth: int) -> dict[str, Any]:
        """yjs `Map.toJSON`."""
        return {key: self.json(value, depth) for key, value in _entries(branch) if value is not UNDEFINED}

    def elements(self, branch: Branch, depth: int) -> list[Any]:
        """yjs `Array.toJSON`."""
        return [
            self.json(value, depth)
            for item in visible(branch)
            if item.ref != ContentRef.FORMAT
            for value in _values(item)
        ]

    def xml(self, branch: Branch, depth: int) -> str:
        """yjs `toString` of an XML type."""
        parts: list[str] = []
        self._write_xml(branch, depth, parts)
        return "".join(parts)

    def _write_xml(self, branch: Branch, depth: int, parts: list[str]) -> None:
        if branch.kind is TypeRef.XML_TEXT:
            for run in self.runs(branch):
                self._write_xml_run(run, depth, parts)
            return
        if branch.kind is TypeRef.XML_ELEMENT:
            tag = branch.name.lower()
            parts.append(f"<{tag}")
            for key, value in _entries(branch):
                parts.append(f' {key}="')
                self._write_xml_value(value, depth, parts)
                parts.append('"')
            parts.append(">")
        for item in visible(branch):
            if item.ref != ContentRef.FORMAT:
                for value in _values(item):
                    self._write_xml_value(value, depth, parts)
        if branch.kind is TypeRef.XML_ELEMENT:
            parts.append(f"</{tag}>")

    def _write_xml_value(self, value: Any, depth: int, parts: list[str]) -> None:
        """What JavaScript makes of a value inside a string."""
        if not isinstance(value, Branch) or value.kind in (TypeRef.ARRAY, TypeRef.MAP, TypeRef.XML_HOOK):
            parts.append(js_string(value))
        elif value.kind is TypeRef.TEXT:
            parts.append(_plain(value))
        else:
            self._write_xml(value, _deeper(depth), parts)

    def _write_xml_run(self, run: _Run, depth: int, parts: list[str]) -> None:
        """Attributes become elements around the text, their own attributes those of the elements."""
        names = sorted_keys(run.attributes)
        for name in names:
            parts.append(f"<{name}")
            value = run.attributes[name]
            if isinstance(value, str | list):  # JavaScript's `for in` walks their indexes
                value = {str(index): each for index, each in enumerate(value)}
            if isinstance(value, dict):
                parts.extend(f' {key}="{js_string(value[key])}"' for key in sorted_keys(value))
            parts.append(">")
        if isinstance(run.insert, _Embed):
            self._write_xml_value(run.insert.value, depth, parts)
        else:
            parts.append(run.insert)
        parts.extend(f"</{name}>" for name in reversed(names))

    def prosemirror(self, branch: Branch, depth: int) -> list[Any]:
        """The content of a node: elements are nodes, texts are runs of text nodes."""
        content: list[Any] = []
        for item in visible(branch):
            child = item.content
            if item.ref != ContentRef.TYPE or child.kind not in (TypeRef.XML_ELEMENT, TypeRef.XML_TEXT):
                raise WrongView(f"an element holds {_describe(item)}, which prosemirror has no node for")
            if child.kind is TypeRef.XML_TEXT:
                content.extend(self._prosemirror_text(run, depth) for run in self.runs(child))
                continue
            node: dict[str, Any] = {"type": child.name}
            attributes = self.entries(child, depth)
            if attributes:
                node["attrs"] = attributes
            if any(True for _ in visible(child)):
                node["content"] = self.prosemirror(child, _deeper(depth))
            content.append(node)
        return content

    def _prosemirror_text(self, run: _Run, depth: int) -> dict[str, Any]:
        node: dict[str, Any] = {"type": "text", "text": self._inserted(run, depth)}
        if run.attributes:
            node["marks"] = [
                {"type": _mark_name(name), "attrs": self.json(value, depth)} for name, value in run.attributes.items()
            ]
        return node


class _Embed:
    """What stands in a text without being text; may itself be a string."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _describe(item: Item) -> str:
    if item.ref == ContentRef.TYPE:
        return f"a shared {item.content.kind.name.lower().replace('_', ' ')}"
    return f"{ContentRef(item.ref).name.lower()} content"


def _deeper(depth: int) -> int:
    if depth >= TYPE_DEPTH_MAX:
        raise TooLarge(f"shared types are nested deeper than {TYPE_DEPTH_MAX}")
    return depth + 1


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: to Python, true equals 1."""
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(_same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _number(value: float) -> int | float | None:
    """As `JSON.stringify`: no number but a finite one, and no fraction where there is none."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) <= 2**53 else value


def _mark_name(attribute: str) -> str:
    """y-prosemirror keeps marks that may overlap themselves apart as `name--` and eight characters of a hash."""
    if attribute[-10:-8] == "--" and _HASH_CHARACTERS.issuperset(attribute[-8:]):
        return attribute[:-10]
    return attribute
