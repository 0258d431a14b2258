"""loadtest/bench/updates.py against pycrdt: what the benchmark's clients write is what a Yjs client would."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from pycrdt import Awareness, Doc, Map, Text, get_state, merge_updates

from crdt.errors import Malformed
from loadtest.bench.updates import (
    ROOT,
    STEP1_EMPTY,
    STEP2_EMPTY,
    append,
    awareness_frame,
    cursor_state,
    read_ranges,
    read_step1,
    step2_frame,
    update_frame,
    update_ranges,
)

ANN, BOB = 7, 2**32 - 1
VECTORS = Path(__file__).parents[2] / "vectors"


def document(*updates: bytes) -> Doc[Text]:
    doc: Doc[Text] = Doc()
    doc.get(ROOT, type=Text)
    for update in updates:
        doc.apply_update(update)
    return doc


def text(doc: Doc[Text]) -> str:
    return str(doc.get(ROOT, type=Text))


def edits(client: int, *words: str) -> list[bytes]:
    """One update per word, each behind the one before."""
    return [append(client, sum(map(len, words[:i])), word) for i, word in enumerate(words)]


def test_appended_words_stand_in_order() -> None:
    assert text(document(*edits(ANN, "one ", "two ", "three"))) == "one two three"


def test_two_writers_keep_their_own_runs_whatever_arrives_first() -> None:
    updates = [*edits(ANN, "aa", "AA"), *edits(BOB, "bb", "BB")]
    texts = {text(document(*order)) for order in permutations(updates)}
    assert len(texts) == 1
    assert texts <= {"aaAAbbBB", "bbBBaaAA"}


def test_an_append_is_byte_for_byte_what_an_editor_makes() -> None:
    doc: Doc[Text] = Doc(client_id=ANN)
    root = doc.get(ROOT, type=Text)
    made: list[bytes] = []
    subscription = doc.observe(lambda event: made.append(event.update))
    root += "hello"
    root += " you"
    doc.unobserve(subscription)
    assert made == edits(ANN, "hello", " you")


def test_ranges_of_one_edit() -> None:
    assert [update_ranges(update) for update in edits(ANN, "hello", " you")] == [[(ANN, 0, 5)], [(ANN, 5, 9)]]


def test_ranges_of_many_writers_merged_into_one_update() -> None:
    merged = merge_updates(*edits(ANN, "one", "two"), *edits(BOB, "three"))
    assert sorted(update_ranges(merged)) == [(ANN, 0, 6), (BOB, 0, 5)]


def test_ranges_leave_out_a_hole() -> None:
    first, _, third = edits(ANN, "one", "two", "three")
    assert update_ranges(merge_updates(first, third)) == [(ANN, 0, 3), (ANN, 6, 11)]


def test_ranges_of_a_whole_document_with_deletions_keys_and_code_units() -> None:
    doc: Doc[Text] = Doc(client_id=ANN)
    root = doc.get(ROOT, type=Text)
    root += "a😀b"
    root.insert(0, "x")
    del root[0]
    assert update_ranges(doc.get_update()) == [(ANN, 0, 5)]


def test_every_update_of_plain_text_in_the_vectors_brings_its_state_vector() -> None:
    read = 0
    for case in json.loads((VECTORS / "docs.json").read_text())["docs"]:
        full = bytes.fromhex(case["stateV1"])
        try:
            ranges = update_ranges(full)
        except ValueError:
            continue  # formats, maps, XML: nobody in the benchmark writes those
        read += 1
        ends = {client: end for client, _, end in ranges}
        assert ends == read_step1(b"\x00\x00" + bytes([len(get_state(full))]) + get_state(full))
    assert read >= 3


def test_content_nobody_here_writes_is_refused() -> None:
    doc: Doc[Map[object]] = Doc(client_id=ANN)
    doc.get("map", type=Map)["key"] = {"a": 1}
    with pytest.raises(ValueError, match="content 8"):
        update_ranges(doc.get_update())


@pytest.mark.parametrize("cut", range(2, 16))  # one is the deletions alone, which nobody here reads
def test_a_cut_update_is_refused(cut: int) -> None:
    with pytest.raises((Malformed, ValueError)):
        update_ranges(append(ANN, 5, "hello")[:-cut])


def test_messages_carry_their_type_and_length() -> None:
    update = append(ANN, 0, "hello")
    assert read_ranges(update_frame(update)) == read_ranges(step2_frame(update)) == [(ANN, 0, 5)]
    assert (update_frame(update)[:2], step2_frame(update)[:2]) == (b"\x00\x02", b"\x00\x01")
    assert read_ranges(STEP2_EMPTY) == []
    assert read_step1(STEP1_EMPTY) == {}


def test_step_1_is_read_as_a_map() -> None:
    vector = document(*edits(ANN, "one"), *edits(BOB, "three")).get_state()
    assert read_step1(b"\x00\x00" + bytes([len(vector)]) + vector) == {ANN: 3, BOB: 5}


def test_presence_is_understood_by_a_real_peer() -> None:
    awareness = Awareness(Doc(client_id=1))
    message = awareness_frame(ANN, 4, cursor_state("writer 1", ANN, 12))
    assert (message[0], message[1] & 0x7F | message[2] << 7) == (1, len(message) - 3)
    awareness.apply_awareness_update(message[3:], "test")
    state = awareness.states[ANN]
    assert state["user"]["name"] == "writer 1"
    assert state["cursor"]["head"]["item"] == {"client": ANN, "clock": 12}
