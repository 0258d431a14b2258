"""The pycrdt document behind the gate, and its stand-ins where pycrdt is wrong."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from crdt import document as module
from crdt.document import Document, MergedDocument, RoomDocument, is_pycrdt_fault, merge_all
from crdt.errors import DocumentBroken
from crdt.gate import Gate
from crdt.ranges import IdSet
from crdt.state_vector import encode_state_vector
from tests.crdt.editors import content, session
from tests.crdt.hand import text, typed, update

DOCS = json.loads((Path(__file__).parent.parent / "vectors" / "docs.json").read_text())["docs"]
BY_NAME = {doc["name"]: doc for doc in DOCS}
EMOJI = ("emoji-split-insert", "emoji-split-delete")


def string_of(data: bytes) -> str:
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    doc.apply_update(data)
    return str(doc.get("text", type=pycrdt.Text))


def admitted(doc: dict[str, Any], room: RoomDocument, gate: Gate) -> None:
    for ref, data in enumerate(doc["updatesV1"]):
        room.apply(gate.admit(bytes.fromhex(data), ref=ref, owner=0).updates)


def test_updates_are_applied_in_one_transaction() -> None:
    document = Document()
    events: list[bytes] = []
    subscription = document._doc.observe(lambda event: events.append(event.update))
    document.apply([typed(7, 0, "ab"), typed(7, 2, "c"), update(delete={7: [(0, 1)]})])
    assert len(events) == 1
    assert document.clocks() == {7: 3}
    assert document.state_vector() == encode_state_vector({7: 3})
    assert string_of(document.full()) == "bc"
    assert document.update_since(encode_state_vector({7: 2})) == update(
        (7, 2, [text("c", left=(7, 1))]), delete={7: [(0, 1)]}
    )
    document.apply([])
    assert document.clocks() == {7: 3}
    del subscription


def test_the_whole_is_encoded_once_between_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document()
    document.apply([typed(7, 0, "ab")])
    first = document.full()
    assert document.full() is first
    document.apply([typed(7, 2, "c")])
    assert document.full() != first


@pytest.mark.parametrize("bad", [b"", b"\x01", update((8, 0, [text("x", parent=(7, 0))]))])
def test_what_pycrdt_refuses_names_the_update(bad: bytes) -> None:
    document = Document()
    with pytest.raises(DocumentBroken, match="update 1 of 3 broke the document") as caught:
        document.apply([typed(7, 0, "ab"), bad, typed(7, 2, "c")])
    assert caught.value.index == 1


def test_a_panic_is_a_broken_document() -> None:
    """It derives from BaseException: nothing but its name tells it from an interrupt."""
    document = Document()
    with pytest.raises(DocumentBroken, match="unwrap"):
        document.apply([typed(1, 0, "ab"), bytes.fromhex("0100010600")])
    broken = Document()
    broken.apply([bytes.fromhex("01010601000000")])
    with pytest.raises(DocumentBroken, match="encoding an update failed"):
        broken.full()
    with pytest.raises(DocumentBroken, match="state vector"):
        Document.state_vector(_Failing())  # type: ignore[arg-type]
    with pytest.raises(DocumentBroken, match="merging"):
        merge_all([b"\x01", b"\x02"])


class _Failing:
    """What `Document` looks like when pycrdt fails at everything."""

    class _doc:  # noqa: N801  the attribute's name
        @staticmethod
        def get_state() -> bytes:
            raise ValueError("no")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit, TypeError])
def test_interrupts_pass_through(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_pycrdt_fault(error())

    class Interrupted:
        def transaction(self) -> None:
            raise error

        def apply_update(self, update: bytes) -> None:
            raise error

        def get_state(self) -> None:
            raise error

        def get_update(self, sv: bytes) -> None:
            raise error

    document = Document()
    document._doc = Interrupted()  # type: ignore[assignment]
    for call in (lambda: document.apply([b""]), document.state_vector, document.full):
        with pytest.raises(error):
            call()

    def interrupted(*_: bytes) -> bytes:
        raise error

    monkeypatch.setattr(module.pycrdt, "merge_updates", interrupted)
    with pytest.raises(error):
        merge_all([b"", b""])
    whole = Document()
    monkeypatch.setattr(module.pycrdt, "get_state", interrupted)
    with pytest.raises(error):
        whole.is_whole()


def test_agreement_is_asked_of_the_clients_touched() -> None:
    document = Document()
    document.apply([typed(7, 0, "ab"), typed(5, 0, "x")])
    assert document.agrees_with({7: 2, 5: 9}, [7])
    assert not document.agrees_with({7: 2, 5: 9}, [7, 5])
    assert document.agrees_with({}, [4])
    assert document.is_whole()


@pytest.mark.parametrize("name", EMOJI)
def test_pycrdt_alone_gets_cut_pairs_wrong(name: str) -> None:
    """The fault that `RoomDocument` exists for. When this fails, pycrdt was mended and much can go."""
    doc = BY_NAME[name]
    document = Document()
    document.apply([bytes.fromhex(data) for data in doc["updatesV1"]])
    if name == "emoji-split-delete":
        assert not document.is_whole()
    assert string_of(document.full()) != doc["content"]["text"]["string"]


def test_a_broken_merge_is_a_broken_document() -> None:
    document = Document()
    document._full = b"\x01"
    with pytest.raises(DocumentBroken, match="reading an update's state"):
        document.is_whole()


@pytest.mark.parametrize("name", EMOJI)
@pytest.mark.parametrize("revived", [False, True])
def test_a_room_s_document_gets_cut_pairs_right(name: str, revived: bool) -> None:
    doc = BY_NAME[name]
    gate = Gate()
    room = RoomDocument(gate)
    admitted(doc, room, gate)
    assert not room.is_live
    assert gate.cut_pairs.ranges(6) == [(1, 3)]
    if revived:
        room.revive()
        assert room.is_live
    assert string_of(room.full()) == doc["content"]["text"]["string"]
    assert room.clocks() == dict(gate.clocks)
    assert room.agrees_with(gate.clocks, gate.clocks)
    assert room.is_whole()
    # Somebody new is served with everything, and an edit that follows is in it.
    end = gate.clocks[6]
    more = typed(6, end, "!")
    room.apply(gate.admit(more, ref=99, owner=0).updates)
    assert "!" in string_of(room.full())
    assert room.update_since(encode_state_vector({6: end})) == update(
        (6, end, [text("!", left=(6, end - 1))]), delete=_deletions(gate)
    )
    assert room.state_vector() == encode_state_vector(gate.clocks)


def _deletions(gate: Gate) -> dict[int, list[tuple[int, int]]]:
    return {client: [(start, end - start) for start, end in ranges] for client, ranges in gate.deletions.items()}


def test_a_revived_document_switches_again_at_the_next_cut() -> None:
    gate = Gate()
    room = RoomDocument(gate)

    def edit(ref: int, data: bytes) -> None:
        room.apply(gate.admit(data, ref=ref, owner=0).updates)

    edit(1, typed(7, 0, "a😀b🎉c"))
    assert room.is_live
    edit(2, update(delete={7: [(1, 1)]}))
    assert not room.is_live
    room.revive()
    edit(3, update((9, 0, [text("-", left=(7, 1), right=(7, 2))])))
    # The first pair is none any more, so an edit between its halves is like any other.
    assert room.is_live
    edit(4, update((9, 1, [text("+", left=(7, 4), right=(7, 5))])))
    assert not room.is_live
    assert string_of(room.full()) == "a-\ufffdb\ufffd+\ufffdc"
    room.revive()
    room.revive()
    assert string_of(room.full()) == "a-\ufffdb\ufffd+\ufffdc"


def test_text_that_comes_after_the_gate_saw_its_cut_is_mended_on_the_way() -> None:
    gate = Gate()
    room = RoomDocument(gate)
    first = gate.admit(typed(7, 0, "a😀"), ref=1, owner=0).updates
    cut = gate.admit(update(delete={7: [(1, 1)]}), ref=2, owner=0).updates
    room.apply([])
    room.revive()
    assert room.is_live
    room.apply(first)
    room.apply(cut)
    assert room.is_live
    assert string_of(room.full()) == "a\ufffd"
    assert room.is_whole()


def test_a_merged_document_answers_like_a_live_one() -> None:
    _, updates = session(5)
    gate = Gate()
    live, merged = Document(), MergedDocument((), IdSet())
    assert merged.full() == b"\x00\x00"
    for ref, data in enumerate(updates):
        parts = gate.admit(data, ref=ref, owner=0).updates
        live.apply(parts)
        merged.apply(parts)
        if ref % 7 == 0:
            assert merged.clocks() == live.clocks()
    assert merged.clocks() == live.clocks() == dict(gate.clocks)
    assert merged.state_vector() == encode_state_vector(gate.clocks)
    assert merged.agrees_with(gate.clocks, gate.clocks)
    assert merged.is_whole()
    assert content(merged.full()) == content(live.full())
    half = {client: clock // 2 for client, clock in gate.clocks.items()}
    base = Gate()
    for ref, data in enumerate((merged.full(), merged.update_since(encode_state_vector(half)))):
        base.admit(data, ref=ref, owner=0)
    assert base.digests() == gate.digests()


def test_merging_is_done_in_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [typed(7, n, "a") for n in range(120)]
    sizes: list[int] = []
    merge = pycrdt.merge_updates

    def counted(*parts: bytes) -> bytes:
        sizes.append(len(parts))
        return merge(*parts)

    monkeypatch.setattr(module.pycrdt, "merge_updates", counted)
    assert merge_all(updates) == merge(*updates)
    assert sizes == [50, 50, 20, 3]
    assert merge_all([]) == b"\x00\x00"
    assert merge_all([updates[0]]) == updates[0]
