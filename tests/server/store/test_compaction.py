"""server/store/compaction.py, joining.py, visible.py, rebuild.py: nothing is lost with the rows a snapshot stands for."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pycrdt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt.document import Document
from crdt.errors import LocalError, Unavailable
from crdt.gate import Gate, GateLimits
from crdt.joining import blocks_by_client, join
from crdt.merge import join_updates
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store import compaction, schema
from server.store.codec import decode_snapshot
from server.store.compaction import Compacted, compact, compact_room
from server.store.readers import RoomContents, read_room
from server.store.rebuild import Rebuilt, rebuild
from server.store.schema import Unreadable, open_reader
from server.store.visible import HoldsSubdocument, pieces
from server.store.writer import Swap, Writer

KEY = RoomKey("", "a")
LIMITS = GateLimits()
VECTORS = Path(__file__).parents[2] / "vectors"
YJS_DOCUMENTS = {
    document["name"]: [bytes.fromhex(update) for update in document["updatesV1"]]
    for document in json.loads((VECTORS / "docs.json").read_text())["docs"]
    if document["updatesV1"] and document["name"] != "xml"  # Y.XmlHook: the gate never let it in
}
YJS_CONTENT = {
    document["name"]: {name: root["string"] for name, root in document["content"].items() if root["kind"] == "text"}
    for document in json.loads((VECTORS / "docs.json").read_text())["docs"]
}
JOINED = {
    "map-exotic": "a bigint would become a number",
    "subdocs": "options of a subdocument would be lost",
}
"""What pycrdt can't give back as it was."""


class Editor:
    """A Yjs peer: a text, a map and an array, and the updates it sent."""

    def __init__(self, client_id: int) -> None:
        self.doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=client_id)
        self.text = self.doc.get("text", type=pycrdt.Text)
        self.map = self.doc.get("map", type=pycrdt.Map)
        self.array = self.doc.get("array", type=pycrdt.Array)
        self.sent: list[bytes] = []
        self._receiving = False
        self._subscription = self.doc.observe(self._changed)

    def _changed(self, event: pycrdt.TransactionEvent) -> None:
        if not self._receiving:
            self.sent.append(event.update)

    def receive(self, update: bytes) -> None:
        self._receiving = True
        self.doc.apply_update(update)
        self._receiving = False

    def edit(self, dice: random.Random) -> None:
        kind = dice.randrange(9)
        if kind <= 2:
            self.text.insert(dice.randint(0, len(self.text)), dice.choice(["a", "word ", "two words "]))
        elif kind == 3 and len(self.text):
            start = dice.randrange(len(self.text))
            del self.text[start : min(len(self.text), start + dice.randint(1, 5))]
        elif kind == 4:
            self.map[dice.choice("xyz")] = dice.choice([1, 2.5, "v", None, [1, {"k": True}]])
        elif kind == 5:
            self.array.insert(dice.randint(0, len(self.array)), dice.choice([1, "item", pycrdt.Text("nested")]))
        elif kind == 6 and len(self.text):
            start = dice.randrange(len(self.text))
            self.text.format(start, dice.randint(start, len(self.text)), {"bold": dice.choice([True, None])})
        elif kind == 7:
            nested = [each for each in self.array if isinstance(each, pycrdt.Text)]
            if nested:
                dice.choice(nested).insert(0, "deep \U0001f600")
        elif len(self.array):
            del self.array[dice.randrange(len(self.array))]


def typed(text: str, client_id: int = 1) -> list[bytes]:
    editor = Editor(client_id)
    for position, letter in enumerate(text):
        editor.text.insert(position, letter)
    return editor.sent


def rows(updates: Sequence[bytes], first: int = 1) -> tuple[Row, ...]:
    return tuple(Row(KEY, 1, seq, (Entry(f"u{seq}", update),)) for seq, update in enumerate(updates, start=first))


def contents(updates: Sequence[bytes]) -> RoomContents:
    return RoomContents(KEY, 1, None, rows(updates), 0, 0)


def after(made: Compacted, more: Sequence[bytes] = ()) -> RoomContents:
    """The room once `made` was put in place, with rows that came later."""
    snapshot = decode_snapshot(KEY, made.seq, made.blob)
    return RoomContents(KEY, 1, snapshot, rows(more, made.seq + 1), len(made.blob), 0)


def compacted(updates: Sequence[bytes] | RoomContents) -> Compacted:
    made = compact(updates if isinstance(updates, RoomContents) else contents(updates), LIMITS)
    assert isinstance(made, Compacted), made
    return made


def state(room: Rebuilt) -> object:
    """Everything a room is: clocks, deletions, what it waits for, what it shows."""
    gate = room.gate
    try:
        shown: object = list(pieces(join_updates(room.updates)))
    except HoldsSubdocument:
        shown = blocks_by_client(room.updates, LIMITS)
    return dict(gate.clocks), gate.digests(), gate.missing(), shown, room.document().clocks()


@pytest.mark.parametrize("name", YJS_DOCUMENTS)
def test_documents_of_yjs_are_the_same_afterwards(name: str) -> None:
    updates = YJS_DOCUMENTS[name]
    made = compacted(updates)
    assert made.squashed is (name not in JOINED), JOINED.get(name)
    assert (made.from_seq, made.seq) == (0, len(updates))
    assert state(rebuild(after(made), LIMITS)) == state(rebuild(contents(updates), LIMITS))


@pytest.mark.parametrize("name", ["emoji-split-insert", "emoji-split-delete"])
def test_a_cut_surrogate_pair_reads_as_in_yjs_and_keeps_its_clocks(name: str) -> None:
    """pycrdt by itself loses a clock or changes the order of the halves (protocol reference, section 7)."""
    made = compacted(YJS_DOCUMENTS[name])
    assert YJS_CONTENT[name] == {"text": pycrdt_text(after(made))}
    later = typed("more", client_id=9)
    again = compacted(after(made, later))
    assert state(rebuild(after(again), LIMITS)) == state(rebuild(contents([*YJS_DOCUMENTS[name], *later]), LIMITS))


def test_where_pycrdt_loses_a_clock_the_raw_updates_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the mending of cut pairs: a live document that saw the cut."""

    class Unmended(Document):
        def revive(self) -> None:
            pass

    def live(room: Rebuilt) -> Document:
        document = Unmended()
        document.apply(room.updates)
        return document

    monkeypatch.setattr(Rebuilt, "document", live)
    updates = YJS_DOCUMENTS["emoji-split-delete"]
    made = compacted(updates)
    assert not made.squashed
    assert decode_snapshot(KEY, made.seq, made.blob).slices == tuple(join(updates, LIMITS))
    assert compaction.whole_update(rebuild(contents(updates), LIMITS)) == join_updates(updates)


def test_clocks_of_deleted_text_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is shown, so only counting finds that they are missing."""
    editor = Editor(1)
    editor.text.insert(0, "abc")
    del editor.text[2:3]
    short = Document()
    short.apply([document_of("ab")])
    monkeypatch.setattr(short.__class__, "revive", lambda self: None, raising=False)
    monkeypatch.setattr(Rebuilt, "document", lambda room: short)
    room = rebuild(contents(editor.sent), LIMITS)
    assert list(pieces(short.full())) == list(pieces(join_updates(editor.sent)))
    assert compaction.whole_update(room) == join_updates(editor.sent)
    monkeypatch.setattr(compaction, "join", lambda *_: [])
    reason = compact(contents(editor.sent), LIMITS)
    assert isinstance(reason, str)
    assert "a document made of it would lack clocks" in reason


def document_of(text: str) -> bytes:
    editor = Editor(1)
    editor.text.insert(0, text)
    return editor.sent[0]


def test_typing_becomes_small() -> None:
    updates = typed("the quick brown fox jumps over the lazy dog" * 5)
    made = compacted(updates)
    assert made.squashed
    assert len(made.blob) < sum(map(len, updates)) / 9
    assert pycrdt_text(after(made)) == "the quick brown fox jumps over the lazy dog" * 5


def pycrdt_text(room: RoomContents) -> str:
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=99)
    doc.apply_update(rebuild(room, LIMITS).document().full())
    return str(doc.get("text", type=pycrdt.Text))


def test_a_snapshot_of_a_snapshot() -> None:
    updates = typed("abcdefghij")
    first = compacted(updates[:4])
    second = compacted(after(first, updates[4:9]))
    assert (second.from_seq, second.seq) == (4, 9)
    assert pycrdt_text(after(second, updates[9:])) == "abcdefghij"


def test_large_documents_are_stored_in_slices() -> None:
    limits = GateLimits(slice_blocks=50, slice_bytes=2000)
    first, second = Editor(1), Editor(2)
    for turn in range(150):
        first.text.insert(0, f"{turn} ")
        second.receive(first.sent[-1])
        second.text.insert(len(second.text), "x")
        first.receive(second.sent[-1])
    updates = [update for pair in zip(first.sent, second.sent, strict=True) for update in pair]
    made = compact(contents(updates), limits)
    assert isinstance(made, Compacted)
    slices = decode_snapshot(KEY, made.seq, made.blob).slices
    assert len(slices) > 3
    gate = Gate(limits)
    for ref, part in enumerate(slices):
        assert gate.admit(part, ref=ref, owner=0).settled == (ref,), "each slice only needs those before it"
    assert pycrdt_text(after(made)) == str(first.text)


def test_what_waits_is_kept_with_its_author_and_takes_effect_later() -> None:
    updates = typed("abcdef")
    arrived = [updates[0], updates[3], updates[4], updates[1], updates[3]]
    made = compacted(arrived)
    snapshot = decode_snapshot(KEY, made.seq, made.blob)
    assert made.seq == 5
    assert snapshot.held == (Entry("u2", updates[3]), Entry("u3", updates[4])), "the second copy of one adds nothing"
    assert pycrdt_text(after(made)) == "ab"
    again = compacted(after(made, [updates[5]]))
    assert decode_snapshot(KEY, again.seq, again.blob).held[0] == Entry("u2", updates[3]), (
        "authors outlive a second one"
    )
    assert pycrdt_text(after(again, [updates[2]])) == "abcdef"
    closed = compacted(after(again, [updates[2]]))
    assert decode_snapshot(KEY, closed.seq, closed.blob).held == ()
    assert pycrdt_text(after(closed)) == "abcdef"


def test_deletions_that_wait_are_kept() -> None:
    editor = Editor(1)
    for position, letter in enumerate("abc"):
        editor.text.insert(position, letter)
    del editor.text[1:2]
    inserts, deletion = editor.sent[:3], editor.sent[3]
    made = compacted([inserts[0], deletion])
    assert pycrdt_text(after(made)) == "a"
    assert pycrdt_text(after(made, inserts[1:])) == "ac"


def test_a_room_where_everything_waits() -> None:
    updates = typed("abc")
    made = compacted(updates[1:])
    assert decode_snapshot(KEY, made.seq, made.blob).slices == ()
    assert pycrdt_text(after(made)) == ""
    assert pycrdt_text(after(made, updates[:1])) == "abc"


def test_many_owners_may_have_held_more_than_one_may() -> None:
    limits = GateLimits(held_bytes_per_owner_max=1000)
    updates = [update for client in range(1, 30) for update in typed("ab" * 40, client)[1:2]]
    made = compact(contents(updates), limits)
    assert isinstance(made, Compacted)
    assert len(decode_snapshot(KEY, made.seq, made.blob).held) == 29


def test_a_row_the_gate_refuses_drops_nothing() -> None:
    with pytest.raises(Unreadable, match="the journal of room a holds what the gate refuses"):
        compact(contents([*typed("ab"), bytes.fromhex("01010601000000")]), LIMITS)


@pytest.mark.parametrize(
    ("lose", "fault"),
    [
        (lambda slices: slices[:-1], "slicing it would change its blocks"),
        (lambda slices: [*slices[:-1], *typed("some wards", client_id=1)], "slicing it would change its blocks"),
    ],
    ids=["slice", "content"],
)
def test_a_squashed_form_that_lost_something_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, lose: Callable[[list[bytes]], list[bytes]], fault: str
) -> None:
    updates = typed("some words")
    real = compaction.slice_update
    monkeypatch.setattr(compaction, "slice_update", lambda update, limits: lose(real(update, limits)))
    made = compacted(updates)
    assert not made.squashed
    assert pycrdt_text(after(made)) == "some words"
    monkeypatch.setattr(compaction, "join", lambda updates, limits: lose(join(updates, limits)))
    reason = compact(contents(updates), LIMITS)
    assert isinstance(reason, str)
    assert fault in reason
    assert "its blocks would differ" in reason


def test_lost_deletions_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor(1)
    editor.text.insert(0, "abc")
    del editor.text[1:2]
    monkeypatch.setattr(compaction, "join", lambda updates, limits: join(updates[:1], limits))
    monkeypatch.setattr(compaction, "_squash", lambda *_: editor.sent[:1])
    reason = compact(contents(editor.sent), LIMITS)
    assert reason == "no snapshot of it could be proven: its deletions would differ; its deletions would differ"


def test_held_updates_that_would_be_lost_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = typed("abc")
    monkeypatch.setattr(compaction, "replay", lambda key, entries, limits: rebuild(contents(updates[:1]), limits))
    reason = compact(contents([updates[0], updates[2]]), LIMITS)
    assert isinstance(reason, str)
    assert "it would wait for other updates than now" in reason


def test_a_subdocument_is_never_shown() -> None:
    with pytest.raises(HoldsSubdocument, match="a subdocument stands at clock 1 of client 10"):
        list(pieces(join_updates(YJS_DOCUMENTS["subdocs"])))


def test_pieces_tell_a_bigint_from_a_number_and_true_from_one() -> None:
    def shown(value: str) -> object:
        # client 1 sets `m.k`: one block of kind 8 (any) with one value
        return list(pieces(bytes.fromhex("0101010028" + "01016d" + "016b" + "01" + value + "00")))

    values = ["7d05", "7a0000000000000005", "7b4014000000000000", "78", "7d01", "7e", "7f", "7705", "7405"]
    values[7:] = ["770135", "740135"]
    assert shown("7d05") == shown("7b4014000000000000"), "5 and 5.0 are one number in JavaScript"
    assert len({repr(shown(value)) for value in values}) == len(values) - 1
    nan = "7b7ff8000000000000"
    assert shown(nan) == shown(nan)


def edited(seed: int, edits: int) -> list[bytes]:
    """What three editors sent that hear of each other now and then, each sender's updates in order."""
    dice = random.Random(seed)
    editors = [Editor(client) for client in (1, 2, 3)]
    log: list[bytes] = []
    heard = [0, 0, 0]
    for _ in range(edits):
        who = dice.randrange(3)
        before = len(editors[who].sent)
        editors[who].edit(dice)
        log += editors[who].sent[before:]
        if dice.random() < 0.3:
            for update in log[heard[who] :]:
                editors[who].receive(update)
            heard[who] = len(log)
    return log


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    moments=st.sets(st.integers(1, 59), max_size=8),
    swaps=st.lists(st.tuples(st.integers(0, 58), st.integers(0, 58)), max_size=6),
    per_row=st.integers(1, 4),
)
def test_with_and_without_compaction_a_room_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    moments: set[int],
    swaps: list[tuple[int, int]],
    per_row: int,
) -> None:
    """Random rows, some out of order so that they wait, snapshots at random moments, through the real file."""
    updates = edited(seed, 60)
    for left, right in swaps:
        left, right = left % len(updates), right % len(updates)  # noqa: PLW2901
        updates[left], updates[right] = updates[right], updates[left]
    folder = tmp_path_factory.mktemp("journal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "SYNCHRONOUS", "OFF")
        writer, plain = Writer(folder / "journal.db"), Writer(folder / "plain.db")
    for seq, start in enumerate(range(0, len(updates), per_row), start=1):
        row = Row(KEY, 1, seq, tuple(Entry("ann", update) for update in updates[start : start + per_row]))
        assert writer.commit([row]) == plain.commit([row]) == [None]
        if seq in moments:
            made = compact_room(folder / "journal.db", KEY, LIMITS)
            assert isinstance(made, Compacted), made
            assert writer.swap(Swap(KEY, 1, made.from_seq, made.seq, made.blob))
            assert state(reread(folder / "journal.db")) == state(reread(folder / "plain.db"))
    assert state(reread(folder / "journal.db")) == state(reread(folder / "plain.db"))
    writer.close()
    plain.close()


def reread(path: Path) -> Rebuilt:
    connection = open_reader(path)
    try:
        return rebuild(read_room(connection, KEY), LIMITS)
    finally:
        connection.close()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 60), size=st.integers(20, 2000))
def test_joined_updates_are_the_same_document(seed: int, blocks: int, size: int) -> None:
    limits = GateLimits(slice_blocks=blocks, slice_bytes=size)
    room = rebuild(contents(edited(seed, 40)), limits)
    joined = join(room.updates, limits)
    assert len(joined) <= len(room.updates)
    assert blocks_by_client(joined, limits) == blocks_by_client(room.updates, limits)
    gate, document = Gate(limits), Document()
    for ref, part in enumerate(joined):
        admission = gate.admit(part, ref=ref, owner=0)
        assert admission.settled == (ref,)
        document.apply(admission.updates)
    assert gate.digests() == room.gate.digests()
    assert document.clocks() == room.gate.clocks


def test_a_room_without_new_rows_is_left_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "journal.db")
    assert compact_room(tmp_path / "journal.db", KEY, LIMITS) == "it has no rows after its snapshot"
    writer.close()


def test_a_file_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        compact_room(tmp_path / "journal.db", KEY, LIMITS)


def test_a_fault_of_ours_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[bytes]:
        raise LocalError("a bug")

    monkeypatch.setattr(compaction, "_squash", broken)
    assert not compacted(typed("abc")).squashed
    monkeypatch.setattr(compaction, "_join", broken)
    assert compact(contents(typed("abc")), LIMITS) == "no snapshot of it could be proven: a bug; a bug"
