"""The parser: honest updates are read to the last number, everything else is refused whole."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import update as module
from crdt.errors import Malformed, RemoteError, TooLarge, Unsupported
from crdt.limits import GateLimits
from crdt.update import ParsedUpdate, parse_steps, parse_update
from crdt.varint import encode_string, encode_uint
from tests.crdt.editors import session
from tests.crdt.hand import (
    NULL,
    ONE,
    collected,
    deleted,
    embed,
    item,
    shared_type,
    skip,
    text,
    typed,
    update,
    values,
)

LIMITS = GateLimits()
VECTORS = Path(__file__).parent.parent / "vectors"
DOCS = json.loads((VECTORS / "docs.json").read_text())["docs"]
UTILS = json.loads((VECTORS / "update-utils.json").read_text())["cases"]
HOOK = ("xml",)
"""The one document of the vectors that no pycrdt document can hold."""


def parse(data: bytes, **limits: int) -> ParsedUpdate:
    return parse_update(data, GateLimits(**limits))


def in_steps(data: bytes, step: int, limits: GateLimits = LIMITS) -> tuple[ParsedUpdate, int]:
    steps = parse_steps(data, limits, step)
    pauses = 0
    try:
        while True:
            next(steps)
            pauses += 1
    except StopIteration as stop:
        return stop.value, pauses


@pytest.mark.parametrize("doc", [doc for doc in DOCS if doc["name"] not in HOOK], ids=lambda doc: doc["name"])
def test_every_update_of_yjs_is_read(doc: dict[str, Any]) -> None:
    for update_hex in [*doc["updatesV1"], doc["stateV1"], doc["mergedV1"]]:
        data = bytes.fromhex(update_hex)
        parsed = parse_update(data, LIMITS)
        again, _ = in_steps(data, 1)
        assert [list(section) for section in again.sections] == [list(section) for section in parsed.sections]
        assert again.deletions == parsed.deletions
        for section in parsed.sections:
            blocks = list(section)
            assert len(blocks) == section.count
            assert (blocks[0][0], blocks[-1][1]) == (section.clock, section.end)
            assert (blocks[0][3], blocks[-1][4]) == (section.start, section.stop)
            assert all(a[1] == b[0] and a[4] == b[3] for a, b in pairwise(blocks))
    whole = parse_update(bytes.fromhex(doc["stateV1"]), LIMITS)
    assert {section.client: section.end for section in whole.sections} == {
        int(client): clock for client, clock in _vector(doc["stateVector"]).items()
    }


def _vector(hex_bytes: str) -> dict[int, int]:
    from crdt.state_vector import decode_state_vector

    return decode_state_vector(bytes.fromhex(hex_bytes), clients_max=100)


def test_the_document_with_a_hook_is_unsupported() -> None:
    doc = next(doc for doc in DOCS if doc["name"] in HOOK)
    with pytest.raises(Unsupported, match="shared type of kind 5"):
        parse_update(bytes.fromhex(doc["stateV1"]), LIMITS)


@pytest.mark.parametrize("seed", range(10))
def test_every_update_of_pycrdt_is_read(seed: int) -> None:
    people, updates = session(seed)
    for data in [*updates, *(person.doc.get_update() for person in people)]:
        parse_update(data, LIMITS)


def test_blocks_point_into_the_bytes() -> None:
    data = update(
        (7, 3, [text("né😀", left=(9, 1), right=(7, 2)), collected(2), deleted(3, left=(7, 0))]),
        (5, 0, [shared_type(3, parent=(7, 1), key="k"), values(NULL, ONE), skip(4), embed(b"{}")]),
        delete={7: [(0, 1), (1, 2)], 8: [(5, 1)]},
    )
    parsed = parse_update(data, LIMITS)
    seven, five = parsed.sections
    assert [block[:3] for block in seven] == [(3, 7, 0xC4), (7, 9, 0), (9, 12, 0x81)]
    assert [block[5:] for block in seven] == [(9, 1, 7, 2), (0, 0, 0, 0), (7, 0, 0, 0)]
    assert [block[:2] for block in five] == [(0, 1), (1, 3), (3, 7), (7, 8)]
    assert [block[2] for block in five] == [0x27 | module.PARENT_ID, 8, 10, 5]
    assert next(iter(five))[5:7] == (7, 1)
    assert [data[block[3] : block[4]] for block in seven][1] == collected(2)
    assert parsed.block_count == 7
    assert parsed.deletions == [(7, [(0, 1), (1, 3)]), (8, [(5, 6)])]
    assert list(seven.pairs or ()) == [(5, 7)]
    assert five.pairs is None


def test_many_blocks_are_packed_and_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [text("a"), *(text("a", left=(7, n)) for n in range(25))]
    data = update((7, 0, blocks))
    plain = [list(section) for section in parse_update(data, LIMITS).sections]
    monkeypatch.setattr(module, "_PACK_BLOCKS", 4)
    packed = parse_update(data, LIMITS).sections
    assert [list(section) for section in packed] == plain
    assert all(type(number) is int for block in packed[0] for number in block)


UPDATE = typed(7, 0, "ab")

STRUCTURE = {
    "nothing": (b"", "ends early"),
    "one byte": (b"\x00", "ends early"),
    "a block missing": (update((7, 0, [text("a")]))[:-4], "ends early|passes"),
    "deletions missing": (UPDATE[:-1], "ends early"),
    "bytes left over": (UPDATE + b"\x00", "1 bytes left over"),
    "the same client twice": (bytes.fromhex("020107000401017403616263010700040101740358595a00"), "listed twice"),
    "no blocks for a client": (bytes.fromhex("0100010600040104743200"), "without blocks"),
    "a collected block of length 0": (bytes.fromhex("01010601000000"), "length 0"),
    "a deleted block of length 0": (update((7, 0, [deleted(0)])), "length 0"),
    "a skip of length 0": (update((7, 0, [skip(0)])), "length 0"),
    "empty text": (update((7, 0, [text("")])), "length 0"),
    "no values": (update((7, 0, [values()])), "length 0"),
    "too many clients announced": (bytes.fromhex("ffff0300"), "ends early"),
    "too many blocks announced": (bytes.fromhex("01ffffff7f0700"), "blocks announced"),
    "too many values announced": (update((7, 0, [item(8, b"\xff\xff\x7f")])), "values announced"),
    "too many deletions announced": (bytes.fromhex("000107ffffff7f0001"), "deletions announced"),
    "a block that ends at 2^31": (update((7, 2**31 - 2, [text("ab", left=(7, 0))])), "not below 2\\^31"),
    "a block beyond 2^31": (update((7, 2**32 - 1, [text("ab", left=(7, 0))])), "not below 2\\^31"),
    "a collected block beyond 2^31": (update((7, 0, [collected(2**31)])), "not below 2\\^31"),
    "a deletion beyond 2^31": (update(delete={7: [(2**31 - 1, 1)]}), "not below 2\\^31"),
    "a deletion of length 0": (update(delete={7: [(3, 0)]}), "length 0"),
    "deletions out of order": (update(delete={7: [(3, 1), (1, 1)]}), "comes after"),
    "deletions that overlap": (update(delete={7: [(1, 3), (3, 1)]}), "comes after"),
    "deletions of a client twice": (bytes.fromhex("0002070100010701050100")[:-1], "twice in the deletions"),
    "a client beyond 53 bits": (bytes.fromhex("0101ffffffffffffff1f0004010174016100"), "2\\^53"),
    "a padded integer": (bytes.fromhex("0101870000040101740161") + b"\x00", "padded"),
    "the same origin left and right": (update((7, 5, [text("a", left=(9, 1), right=(9, 1))])), "same item"),
    "a left origin in its own future": (update((7, 5, [text("a", left=(7, 5))])), "own future"),
    "a right origin in its own future": (update((7, 5, [text("a", right=(7, 6))])), "own future"),
    "a parent in its own future": (update((7, 5, [text("a", parent=(7, 5))])), "own future"),
    "an origin beyond 2^31": (update((7, 5, [text("a", left=(9, 2**31))])), "not below 2\\^31"),
    "a parent beyond 2^31": (update((7, 5, [text("a", parent=(9, 2**31))])), "not below 2\\^31"),
    "a parent of unknown kind": (bytes.fromhex("01010700040201740161") + b"\x00", "unknown kind 2"),
    "flags on a collected block": (update((7, 0, [b"\x80\x09\x01\x01"])), "has flags"),
    "flags on a skip": (update((7, 0, [b"\x4a\x09\x01\x01"])), "has flags"),
    "a key on a collected block": (update((7, 0, [b"\x20\x01\x01t\x01k\x01"])), "has flags"),
    "a root name that is no utf-8": (bytes.fromhex("010107000401028080016100"), "utf-8"),
    "a root name too long": (bytes.fromhex("01010700040105016100"), "root name of 5 bytes"),
    "a key too long": (bytes.fromhex("010107002401017405016100"), "key of 5 bytes"),
    "text that is no utf-8": (bytes.fromhex("010101000401017402fffe00"), "utf-8"),
    "text too long": (bytes.fromhex("01010100040101747f6100"), "text of 127 bytes"),
    "json too long": (update((7, 0, [item(5, b"\x7fa")])), "json of 127 bytes"),
    "a format key too long": (update((7, 0, [item(6, b"\x7fa")])), "format key of 127 bytes"),
    "a node name too long": (update((7, 0, [item(7, b"\x03\x7fa")])), "node name of 127 bytes"),
    "binary too long": (update((7, 0, [item(3, b"\x7fa")])), "content of 127 bytes"),
    "options of a subdocument that are no map": (update((7, 0, [item(9, b"\x01g\x7e")])), "not a map"),
    "a number cut off": (bytes.fromhex("01010700080101740a7b00"), "values announced|inside a number|ends early"),
}


@pytest.mark.parametrize(("data", "message"), STRUCTURE.values(), ids=STRUCTURE)
def test_what_no_honest_editor_writes_is_malformed(data: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        parse_update(data, LIMITS)
    with pytest.raises(Malformed, match=message):
        in_steps(data, 1)


UNSUPPORTED = {
    "an XmlHook": update((7, 0, [shared_type(5)])),
    "a weak link": update((7, 0, [item(7, b"\x07\x01\x09\x00")])),
    "an unknown shared type": update((7, 0, [shared_type(15)])),
    "content of kind 11": update((7, 0, [item(11, b"\x00")])),
    "content of kind 31": bytes.fromhex("010101001f01017400"),
    "content of kind 16, which yrs takes for 0": update((7, 0, [item(16, b"\x01")])),
    "json that is none": update((7, 0, [embed(b"{{{")])),
    "json with half a surrogate pair": update((7, 0, [embed(rb'"\ud83d"')])),
    "long json that is none": update((7, 0, [embed(b"[" + b"1," * 400 + b"]")])),
    "content of Yjs 12": update((7, 0, [item(2, b"\x01" + encode_string("1"))])),
}


@pytest.mark.parametrize("data", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_pycrdt_can_t_hold_is_unsupported(data: bytes) -> None:
    with pytest.raises(Unsupported):
        parse_update(data, LIMITS)


def test_a_client_without_deletions_is_harmless() -> None:
    assert parse(bytes.fromhex("00010700")).deletions == []


def test_limits() -> None:
    with pytest.raises(TooLarge, match="update is 19 bytes, limit is 18"):
        parse(typed(7, 0, "hello!"), update_bytes_max=18)
    with pytest.raises(TooLarge, match="holds 2 blocks or more, limit is 1"):
        parse(update((7, 0, [text("a")]), (5, 0, [text("a")])), blocks_max=1)
    with pytest.raises(TooLarge, match="lists 2 clients, limit is 1"):
        parse(update((7, 0, [text("a")]), (5, 0, [text("a")])), clients_max=1)
    with pytest.raises(TooLarge, match="deletes from 2 clients, limit is 1"):
        parse(update(delete={7: [(0, 1)], 5: [(0, 1)]}), clients_max=1)
    with pytest.raises(TooLarge, match="holds 2 deletions or more, limit is 1"):
        parse(update(delete={7: [(0, 1), (2, 1)]}), delete_ranges_max=1)
    with pytest.raises(TooLarge, match="deeper than 2"):
        parse(update((7, 0, [values(b"\x75\x01" * 3 + NULL)])), any_depth_max=2)
    with pytest.raises(TooLarge, match="deeper than 2"):
        parse(update((7, 0, [embed(b"[[[]]]")])), any_depth_max=2)
    with pytest.raises(TooLarge, match="more than 2 separate runs"):
        parse(typed(7, 0, "😀a😀a😀"), pair_runs_max=2)


def test_where_pairs_are_runs_through_blocks_that_touch() -> None:
    data = update((7, 0, [text("a😀"), text("😀😀b", left=(7, 2)), text("c🎉d🎉", left=(7, 7))]))
    assert list(parse(data).sections[0].pairs or ()) == [(1, 7), (9, 11), (12, 14)]


def test_long_text_is_checked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONG_TEXT", 5)
    content = "né😀漢" * 9
    parsed, pauses = in_steps(typed(7, 0, content), 10**9)
    assert parsed.sections[0].end == 45
    assert list(parsed.sections[0].pairs or ()) == [(2 + 5 * n, 4 + 5 * n) for n in range(9)]
    assert pauses == (len(content.encode()) - 1) // 5
    broken = typed(7, 0, content).replace("漢".encode(), b"\xe6\xbca", 1)
    with pytest.raises(Malformed, match="utf-8"):
        in_steps(broken, 10**9)
    json_text = b'["' + b"ab" * 300 + b'"]'
    _, pauses = in_steps(update((7, 0, [embed(json_text)])), 10**9)
    assert pauses == (len(json_text) - 1) // 5
    with pytest.raises(Malformed, match="utf-8"):
        in_steps(update((7, 0, [embed(b'["' + b"\xc3" * 300 + b'"]')])), 10**9)


def test_long_content_pauses() -> None:
    many = update((7, 0, [values(*[NULL] * 100), embed(b"[" + b",".join([b"1"] * 200) + b"]")]))
    _, pauses = in_steps(many, 10)
    assert pauses >= 9 + 20
    options = item(
        9, encode_string("guid") + b"\x76" + encode_uint(50) + b"".join(b"\x02%02d\x7e" % n for n in range(50))
    )
    _, pauses = in_steps(update((7, 0, [options])), 10)
    assert pauses >= 5
    _, pauses = in_steps(update(delete={7: [(2 * n, 1) for n in range(100)]}), 10)
    assert pauses == 10


def test_utilities_of_yjs() -> None:
    for case in UTILS:
        for update_hex in [*case.get("in", []), case.get("update", ""), case.get("then", "")]:
            if update_hex:
                parse_update(bytes.fromhex(update_hex), LIMITS)
    empty = next(case for case in UTILS if case["name"] == "empty update v1")
    assert parse_update(bytes.fromhex(empty["out"]), LIMITS).sections == []


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_but_remote_errors(data: bytes) -> None:
    try:
        parse_update(data, LIMITS)
    except RemoteError:
        return


@settings(max_examples=500)
@given(st.integers(0, 400), st.data())
def test_damaged_updates_raise_nothing_but_remote_errors(where: int, data: st.DataObject) -> None:
    honest = bytearray(bytes.fromhex(DOCS[where % len(DOCS)]["stateV1"]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(honest) - 1))
        honest[at] = data.draw(st.integers(0, 255))
    outcomes = []
    for step in (1, 10**9):
        try:
            outcomes.append([list(section) for section in in_steps(bytes(honest), step)[0].sections])
        except RemoteError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
