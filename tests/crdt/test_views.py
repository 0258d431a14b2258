"""Views against yjs and y-prosemirror (vectors/views.json, docs.json), and what hostile documents come to."""

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycrdt import Array, Doc, Map, Text, XmlElement, XmlFragment, XmlText

from crdt import views
from crdt.errors import RemoteError, TooLarge
from crdt.varint import encode_bytes, encode_string, encode_uint
from crdt.views import VIEW_KINDS, ViewKind, WrongView, read_json, roots

VECTORS = Path(__file__).parent.parent / "vectors"


def js_integer(digits: str) -> float:
    """JavaScript's one kind of number."""
    return float(digits) if abs(int(digits)) > 2**53 else int(digits)


DOCUMENTS = json.loads((VECTORS / "views.json").read_text(), parse_int=js_integer)["documents"]
DOCS = json.loads((VECTORS / "docs.json").read_text())["docs"]


def strict(value: Any) -> Any:
    """A form in which True is not 1, and the order of keys does not count."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=[document["name"] for document in DOCUMENTS])
def test_views_are_those_of_yjs_and_y_prosemirror(document: dict[str, Any]) -> None:
    update = base64.b64decode(document["update"])
    assert document["views"]
    for view in document["views"]:
        got = read_json(update, view["root"], view["as"])
        assert strict(got) == strict(view["value"]), (view["root"], view["as"])


def as_shown(content: Any) -> Any:
    """docs.json has its own forms for what JSON lacks, and keeps half a surrogate pair, which has no bytes."""
    match content:
        case {"$bytes": str(digits)}:
            return {"$bytes": base64.b64encode(bytes.fromhex(digits)).decode()}
        case {"$number": _}:
            return None
        case {"$bigint": digits}:
            wrapped = (int(digits) + 2**63) % 2**64 - 2**63  # yjs itself writes 64 bits of it
            return {"$bigint": str(wrapped)}
        case dict():
            return {key: as_shown(value) for key, value in content.items() if value != {"$undefined": True}}
        case list():
            return [as_shown(value) for value in content]
        case str():
            return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case _:
            return content


def test_every_document_of_docs_json_reads_as_in_yjs() -> None:
    compared = 0
    for document in DOCS:
        if document["name"] == "subdocs":
            continue  # a subdocument's own content is not in its parent: see the test below
        for root, content in document["content"].items():
            kinds: list[ViewKind] = ["text", "delta"] if content["kind"] == "text" else [content["kind"]]
            for kind in kinds:
                expected = as_shown(content.get(kind, content.get("string", content.get("json"))))
                for update in (document["stateV1"], document["mergedV1"]):
                    assert strict(read_json(bytes.fromhex(update), root, kind)) == strict(expected), document["name"]
                    compared += 1
    assert compared > 50


def test_a_subdocument_is_its_guid() -> None:
    document = next(document for document in DOCS if document["name"] == "subdocs")
    update = bytes.fromhex(document["stateV1"])
    assert read_json(update, "map", "map") == {"sub": {"$doc": "sub-guid-1"}}
    assert read_json(update, "array", "array") == [{"$doc": "sub-guid-2"}]


# ---- roots and kinds

ALL_KINDS = {"text": "text", "array": "array", "map": "map", "xml": "xml"}
READABLE = {
    "text": {"text", "delta"},
    "array": {"array"},
    "map": {"map"},
    "xml": {"xml", "prosemirror", "array"},
}


def four_roots() -> bytes:
    doc: Doc[Any] = Doc(client_id=1)
    doc.get("text", type=Text).insert(0, "words")
    doc.get("array", type=Array).extend([1, 2])
    doc.get("map", type=Map)["key"] = "value"
    doc.get("xml", type=XmlFragment).children.append(XmlElement("p", {"a": "b"}, [XmlText("in")]))
    return doc.get_update()


@pytest.mark.parametrize("kind", VIEW_KINDS)
@pytest.mark.parametrize("root", ALL_KINDS)
def test_a_root_of_another_kind_is_refused_by_name(root: str, kind: ViewKind) -> None:
    if kind in READABLE[root]:
        read_json(four_roots(), root, kind)
    else:
        with pytest.raises(WrongView, match=f"root '{root}' holds {root} and can't be read as {kind}"):
            read_json(four_roots(), root, kind)


@pytest.mark.parametrize("update", [b"\0\0", four_roots()])
def test_an_unknown_root_is_an_empty_one_of_any_kind(update: bytes) -> None:
    shown = {kind: read_json(update, "unknown", kind) for kind in VIEW_KINDS}
    empty_document = {"type": "doc", "content": []}
    assert shown == {"prosemirror": empty_document, "xml": "", "text": "", "delta": [], "map": {}, "array": []}


def test_roots_are_listed_by_name() -> None:
    assert roots(b"\0\0") == []
    assert roots(four_roots()) == ["array", "map", "text", "xml"]


def test_a_map_in_an_element_is_no_prosemirror_document() -> None:
    # Client 1: element "p" in root "x", and in it a map.
    update = b"\x01\x02\x01\x00" + b"\x07\x01\x01x\x03\x01p" + b"\x07\x00\x01\x00\x01" + b"\x00"
    assert read_json(update, "x", "xml") == "<p>[object Object]</p>"
    with pytest.raises(WrongView, match="an element holds a shared map"):
        read_json(update, "x", "prosemirror")


# ---- against pycrdt, where both can tell

words = st.text(st.characters(codec="utf-8"), max_size=5)
plain = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
edits = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("tam"), st.integers(0, 20), values, words), max_size=25)


@settings(max_examples=60, deadline=None)
@given(edits, st.lists(st.integers(0, 8), max_size=25))
def test_three_editors_read_as_pycrdt_reads_them(steps: list[tuple[int, str, int, Any, str]], syncs: list[int]) -> None:
    docs: list[Doc[Any]] = [Doc(client_id=number + 1) for number in range(3)]
    for index, (who, root, where, value, word) in enumerate(steps):
        doc = docs[who]
        if root == "t":
            text = doc.get("t", type=Text)
            shown = str(text)
            # pycrdt counts in UTF-8 bytes; in the middle of a character it would write an empty string, or lose text.
            at = len(shown[: where % (len(shown) + 1)].encode())
            if where % 3 or not shown:
                text.insert(at, word or "-")
            elif shown.isascii():
                del text[min(at, len(shown) - 1)]
        elif root == "a":
            array = doc.get("a", type=Array)
            if where % 3 or not len(array):
                array.insert(where % (len(array) + 1), value)
            else:
                del array[where % len(array)]
        else:
            doc.get("m", type=Map)[word] = value
        if index < len(syncs):
            source, target = divmod(syncs[index], 3)
            docs[target].apply_update(docs[source].get_update(docs[target].get_state()))
    for doc in docs:
        docs[0].apply_update(doc.get_update())
    update = docs[0].get_update()
    assert read_json(update, "t", "text") == str(docs[0].get("t", type=Text))
    assert read_json(update, "a", "array") == docs[0].get("a", type=Array).to_py()
    assert read_json(update, "m", "map") == docs[0].get("m", type=Map).to_py()


# ---- hostile documents


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(VIEW_KINDS))
def test_any_bytes_raise_nothing_but_remote_errors(update: bytes, kind: ViewKind) -> None:
    with suppress(RemoteError):
        json.dumps(read_json(update, "", kind))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DOCUMENTS), st.data())
def test_mutated_documents_raise_nothing_but_remote_errors(document: dict[str, Any], data: st.DataObject) -> None:
    update = bytearray(base64.b64decode(document["update"]))
    for _ in range(data.draw(st.integers(1, 4))):
        update[data.draw(st.integers(0, len(update) - 1))] = data.draw(st.integers(0, 255))
    for view in document["views"]:
        with suppress(RemoteError):
            json.dumps(read_json(bytes(update), view["root"], view["as"]))


def nested_types(kind: bytes, depth: int) -> bytes:
    """Root "x" holds a type, that holds one, and so on."""
    blocks = b"\x07\x01\x01x" + kind + b"".join(b"\x07\x00\x01" + encode_uint(n) + kind for n in range(depth - 1))
    return b"\x01" + encode_uint(depth) + b"\x01\x00" + blocks + b"\x00"


@pytest.mark.parametrize(
    ("kind", "view"),
    [(b"\x03\x01p", "prosemirror"), (b"\x03\x01p", "xml"), (b"\x00", "array"), (b"\x03\x01p", "array")],
)
def test_types_nested_as_deep_as_the_gate_lets_through_are_shown_and_deeper_ones_refused(
    kind: bytes, view: ViewKind
) -> None:
    json.dumps(read_json(nested_types(kind, 128), "x", view))
    with pytest.raises(TooLarge, match="nested"):
        read_json(nested_types(kind, 20_000), "x", view)


def any_update(value: bytes) -> bytes:
    return b"\x01\x01\x01\x00\x08\x01\x01x\x01" + value + b"\x00"


def test_values_nested_as_deep_as_the_gate_lets_through_are_shown_and_deeper_ones_refused() -> None:
    shown = read_json(any_update(b"\x75\x01" * 64 + b"\x7e"), "x", "array")
    assert json.dumps(shown).count("[") == 65
    with pytest.raises(TooLarge, match="nested deeper than 100"):
        read_json(any_update(b"\x75\x01" * 30_000 + b"\x7e"), "x", "array")


@pytest.mark.parametrize("depth", [200, 200_000])
def test_json_nested_too_deep_in_an_embed_is_refused(depth: int) -> None:
    embed = b"\x01\x01\x01\x00\x05\x01\x01x" + encode_string("[" * depth + "]" * depth) + b"\x00"
    with pytest.raises(TooLarge, match="nested"):
        read_json(embed, "x", "delta")


def runs_under_one_attribute(runs: int, attribute_bytes: int) -> bytes:
    """A text whose runs all carry one large attribute, and are told apart by a small one."""
    blocks = [b"\x06\x01\x01x" + encode_string("big") + encode_string(json.dumps("v" * attribute_bytes))]
    clock = 0
    for number in range(runs):
        blocks.append(b"\x86\x01" + encode_uint(clock) + encode_string("small") + encode_string(str(number)))
        blocks.append(b"\x84\x01" + encode_uint(clock + 1) + encode_string("a"))
        clock += 2
    return b"\x01" + encode_uint(len(blocks)) + b"\x01\x00" + b"".join(blocks) + b"\x00"


def test_one_large_attribute_over_many_runs_cannot_make_gigabytes() -> None:
    assert len(read_json(runs_under_one_attribute(100, 1000), "x", "delta")) == 100
    with pytest.raises(TooLarge, match=f"more than {views.MARKS_BYTES_MAX} bytes"):
        read_json(runs_under_one_attribute(2000, 100_000), "x", "delta")


def test_more_items_than_the_limit_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="more than 2000000 items"):
        read_json(b"\x01" + encode_uint(2_000_001) + b"\x01\x00" + b"\x00\x01" * 2_000_001 + b"\x00", "x", "text")


def test_half_a_surrogate_pair_in_json_is_a_replacement_character() -> None:
    embed = b"\x01\x01\x01\x00\x05\x01\x01x" + encode_string('{"\\ud83d": "\\ude00 \\ud83d\\ude00"}') + b"\x00"
    assert read_json(embed, "x", "delta") == [{"insert": {"\ufffd": "\ufffd 😀"}}]


def test_numbers_are_written_as_javascript_writes_them() -> None:
    doubles = b"".join(
        b"\x7b" + raw for raw in (b"\x40\x00" + bytes(6), b"\x7f\xf0" + bytes(6), b"\x80\x00" + bytes(6))
    )
    update = b"\x01\x01\x01\x00\x08\x01\x01x\x03" + doubles + b"\x00"
    assert strict(read_json(update, "x", "array")) == "[2, null, 0]"


def test_bytes_are_base64_and_a_bigint_is_digits() -> None:
    update = any_update(
        b"\x76\x02"
        + encode_string("b")
        + b"\x74"
        + encode_bytes(b"\xff\0")
        + encode_string("n")
        + b"\x7a"
        + b"\xff" * 8
    )
    assert read_json(update, "x", "array") == [{"b": {"$bytes": "/wA="}, "n": {"$bigint": "-1"}}]


# ---- marks


@pytest.mark.parametrize(
    ("attribute", "mark"),
    [
        ("bold", "bold"),
        ("comment--aB3+/=xY", "comment"),
        ("a--b--12345678", "a--b"),
        ("short--1234567", "short--1234567"),
        ("long--123456789", "long--123456789"),
        ("bad--1234_678", "bad--1234_678"),
        ("--12345678", ""),
    ],
)
def test_a_mark_that_may_overlap_itself_loses_its_hash(attribute: str, mark: str) -> None:
    doc: Doc[Any] = Doc(client_id=1)
    text = XmlText()
    doc.get("x", type=XmlFragment).children.append(XmlElement("p", contents=[text]))
    text.insert(0, "a", {attribute: {}})
    node = read_json(doc.get_update(), "x", "prosemirror")["content"][0]["content"][0]
    assert node == {"type": "text", "text": "a", "marks": [{"type": mark, "attrs": {}}]}
