"""Whatever way honest updates arrive (any order, in parts, twice, merged, squashed) the room ends where they were made."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.document import RoomDocument, merge_all
from crdt.gate import Gate, GateLimits
from crdt.state_vector import decode_state_vector
from crdt.update import parse_update
from tests.crdt.editors import Editor, content, session

VECTORS = Path(__file__).parent.parent / "vectors"
DOCS = json.loads((VECTORS / "docs.json").read_text())["docs"]
CONCURRENT = json.loads((VECTORS / "concurrent.json").read_text())["cases"]
SMALL = GateLimits(slice_blocks=3, slice_bytes=60)


class Room:
    """A gate with its document. After each update the document holds exactly what the gate says is in effect."""

    def __init__(self, limits: GateLimits | None = None, step_blocks: int = 0) -> None:
        self.gate = Gate(limits)
        self.document = RoomDocument(self.gate)
        self.sent: list[bytes] = []
        self.settled: list[int] = []
        self.count = 0
        self._step_blocks = step_blocks

    def take(self, update: bytes) -> None:
        ref = self.count
        self.count += 1
        if self._step_blocks:
            steps = self.gate.admit_steps(update, ref=ref, owner=ref % 3, step_blocks=self._step_blocks)
            try:
                while True:
                    next(steps)
            except StopIteration as stop:
                admission = stop.value
        else:
            admission = self.gate.admit(update, ref=ref, owner=ref % 3)
        assert admission.refused == ()
        assert len(admission.owners) == len(admission.updates)
        self.document.apply(admission.updates)
        self.sent += admission.updates
        self.settled += admission.settled
        assert admission.waiting == (ref not in self.settled)
        assert self.document.clocks() == dict(self.gate.clocks)

    def finish(self) -> bytes:
        """Everything has arrived: nothing waits, every update settled once, and the document is whole."""
        assert (self.gate.held_updates, self.gate.held_bytes, self.gate.missing()) == (0, 0, {})
        assert sorted(self.settled) == list(range(self.count))
        assert self.document.is_whole()
        return self.document.full()


def reference(updates: list[bytes]) -> bytes:
    """What pycrdt makes of updates whose dependencies always come first."""
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    for update in updates:
        doc.apply_update(update)
    return doc.get_update()


def four_edits(seed: int) -> list[bytes]:
    person = Editor(7, random.Random(seed))
    for _ in range(4):
        person.edit()
    updates = person.take()
    assert len(updates) == 4
    return updates


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_four_edits_of_one_sender_in_every_order(order: tuple[int, ...]) -> None:
    for seed in (1, 7, 11, 14):
        edits = four_edits(seed)
        room = Room()
        for index in order:
            room.take(edits[index])
        assert content(room.finish()) == content(reference(edits))


def test_pycrdt_alone_loses_edits_that_come_out_of_order() -> None:
    """Why the gate holds back. When this fails, pycrdt was mended."""
    edits = four_edits(7)
    whole = content(reference(edits))
    lost = sum(content(reference(list(order))) != whole for order in itertools.permutations(edits))
    assert lost > 0


@pytest.mark.parametrize("block", range(10))
def test_random_order_of_four_editors(block: int) -> None:
    """300 sessions with every kind of content; without the gate a quarter of them do not converge."""
    for seed in range(30 * block, 30 * block + 30):
        rnd = random.Random(seed)
        _, updates = session(seed, rounds=rnd.randrange(5, 40))
        shuffled = rnd.sample(updates, len(updates))
        room = Room()
        for update in shuffled:
            room.take(update)
        assert content(room.finish()) == content(reference(updates)), seed


@pytest.mark.parametrize("seed", range(60))
def test_parts_copies_merges_and_squashes_in_any_order(seed: int) -> None:
    rnd = random.Random(seed)
    people, updates = session(seed + 1000, rounds=rnd.randrange(10, 50))
    feed = [*updates, *rnd.sample(updates, len(updates) // 3)]
    # Merges of what does not follow have Skips; whole states overlap everything.
    feed += [pycrdt.merge_updates(*rnd.sample(updates, min(len(updates), rnd.randrange(1, 7)))) for _ in range(5)]
    feed += [person.doc.get_update() for person in people if rnd.random() < 0.5]
    rnd.shuffle(feed)
    room = Room(SMALL if seed % 3 == 0 else None, step_blocks=rnd.choice((0, 0, 1, 7)))
    for update in feed:
        room.take(update)
    whole = room.finish()
    assert content(whole) == content(reference(updates))
    # What was sent, in that order, is what a fresh peer needs: nothing of it waits anywhere.
    peer = Gate()
    assert all(not peer.admit(update, ref=ref, owner=0).waiting for ref, update in enumerate(room.sent))
    assert peer.digests() == room.gate.digests()
    assert content(merge_all(room.sent)) == content(whole)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.randoms(use_true_random=False))
def test_taking_in_is_commutative_associative_and_idempotent(seed: int, rnd: random.Random) -> None:
    _, updates = session(seed, rounds=12)
    rooms = []
    for shuffle in (False, True, True):
        feed = [*updates, *updates] if shuffle else list(updates)
        if shuffle:
            rnd.shuffle(feed)
            cuts = sorted(rnd.sample(range(len(feed) + 1), 2))
            feed = [*feed[: cuts[0]], merge_all(feed[cuts[0] : cuts[1]]), *feed[cuts[1] :], *feed[cuts[0] : cuts[1]]]
        room = Room()
        for update in feed:
            room.take(update)
        rooms.append((room.gate.digests(), content(room.finish())))
    assert rooms[0] == rooms[1] == rooms[2]


def test_two_gates_given_the_same_answer_the_same() -> None:
    _, updates = session(9)
    feed = random.Random(9).sample(updates, len(updates))
    first, second = Gate(SMALL), Gate(SMALL)
    for ref, update in enumerate(feed):
        assert first.admit(update, ref=ref, owner=0) == second.admit(update, ref=ref, owner=0)


# -- updates made by yjs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("doc", [doc for doc in DOCS if doc["name"] != "xml"], ids=lambda doc: doc["name"])
def test_documents_of_yjs_forwards_backwards_and_at_once(doc: dict[str, Any]) -> None:
    updates = [bytes.fromhex(update) for update in doc["updatesV1"]]
    whole = [bytes.fromhex(doc["stateV1"])]
    merged = [bytes.fromhex(doc["mergedV1"])]
    for feed in (updates, updates[::-1], whole, merged, [*whole, *updates], [*updates[::2], *merged, *updates[1::2]]):
        room = Room()
        for update in feed:
            room.take(update)
        assert dict(room.gate.clocks) == decode_state_vector(bytes.fromhex(doc["stateVector"]), clients_max=9)
        shown = room.finish()
        kind = doc["content"].get("text")
        if kind is not None and feed is not whole:
            expected = kind["string"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            loaded: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
            loaded.apply_update(shown)
            parts = loaded.get("text", type=pycrdt.Text).diff()
            assert "".join(part for part, _ in parts if isinstance(part, str)) == expected


@pytest.mark.parametrize("case", [case for case in CONCURRENT if "clients" in case], ids=lambda case: case["name"])
def test_concurrent_edits_of_yjs_in_every_order(case: dict[str, Any]) -> None:
    base = [bytes.fromhex(update) for update in ([case["base"]] if isinstance(case["base"], str) else case["base"])]
    theirs = [[bytes.fromhex(update) for update in client["updates"]] for client in case["clients"]]
    shown = set()
    for order in itertools.permutations(theirs):
        edits = [update for updates in order for update in updates]
        for feed in ([*base, *edits], [*edits, *base], [*edits[::-1], *base]):
            room = Room()
            for update in feed:
                room.take(update)
            clocks = {int(client): clock for client, clock in case["stateVectorAsMap"].items()}
            assert dict(room.gate.clocks) == clocks
            shown.add(json.dumps(_plain(room.finish()), sort_keys=True))
    assert len(shown) == 1
    text = case["final"]["text"]["string"]
    assert json.loads(shown.pop())["text"] == text


def _plain(update: bytes) -> dict[str, Any]:
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    doc.apply_update(update)
    text, array, mapping = (doc.get(name, type=kind) for name, kind in _ROOTS.items())
    return {"text": str(text), "delta": text.diff(), "array": array.to_py(), "map": mapping.to_py()}


_ROOTS: dict[str, Any] = {"text": pycrdt.Text, "array": pycrdt.Array, "map": pycrdt.Map}


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_long_session_of_yjs_that_cuts_surrogate_pairs(shuffled: bool) -> None:
    """pycrdt shows other text here (protocol reference, section 7); the room shows what yjs shows."""
    case = next(case for case in CONCURRENT if "updatesInOrder" in case)
    updates = [bytes.fromhex(step["update"]) for step in case["updatesInOrder"]]
    if shuffled:
        random.Random(1).shuffle(updates)
    room = Room()
    for update in updates:
        room.take(update)
    assert dict(room.gate.clocks) == {int(client): clock for client, clock in case["stateVectorAsMap"].items()}
    assert _plain(room.finish())["text"] == case["final"]["text"]["string"]


@pytest.mark.parametrize("case", CONCURRENT, ids=lambda case: case["name"])
def test_pending_states_of_yjs_are_read(case: dict[str, Any]) -> None:
    before = case.get("updatesBeforeBase")
    if before is None:
        parse_update(bytes.fromhex(case["mergedV1"]), GateLimits())
        return
    room = Room()
    room.take(bytes.fromhex(before["encodeStateAsUpdateBeforeBase"]))
    assert room.gate.held_updates == before["hadPendingStructs"]
    room.take(bytes.fromhex(case["base"]) if isinstance(case["base"], str) else bytes.fromhex(case["base"][0]))
    assert content(room.finish())
