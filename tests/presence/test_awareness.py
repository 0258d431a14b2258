"""The awareness codec against y-protocols' own bytes, and against everything that must not reach a browser."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import Malformed, RemoteError, TooLarge
from crdt.varint import UINT_MAX, encode_bytes, encode_uint
from presence.awareness import Entry, encode_awareness, encode_entry, join_entries, parse_awareness
from presence.limits import RosterLimits

LIMITS = RosterLimits()


def message(state: bytes) -> bytes:
    return b"\x01\x07\x05" + encode_bytes(state)


def parsed(state: bytes, limits: RosterLimits = LIMITS) -> bytes | None:
    (entry,) = parse_awareness(message(state), limits)
    assert (entry.client, entry.clock) == (7, 5)
    return entry.state


def test_an_update_made_by_y_protocols() -> None:
    update = bytes.fromhex(
        "020104337b2275736572223a7b226e616d65223a22416e6e227d2c22637572736f72223a7b22616e63686f72223a337d2c2278223a317d"
        "02011c7b2275736572223a7b226e616d65223a22426f6220f09f9880227d7d"
    )
    entries = [
        Entry(1, 4, b'{"user":{"name":"Ann"},"cursor":{"anchor":3},"x":1}'),
        Entry(2, 1, '{"user":{"name":"Bob 😀"}}'.encode()),
    ]
    assert parse_awareness(update, LIMITS) == entries
    assert encode_awareness(entries) == update


def test_a_removal() -> None:
    removal = bytes.fromhex("010104046e756c6c")
    assert parse_awareness(removal, LIMITS) == [Entry(1, 4, None)]
    assert encode_awareness([Entry(1, 4, None)]) == removal
    assert join_entries([encode_entry(1, 4, None)]) == removal


def test_nobody() -> None:
    assert parse_awareness(b"\0", LIMITS) == []
    assert encode_awareness([]) == b"\0"


@given(
    st.lists(
        st.builds(
            Entry,
            st.integers(0, UINT_MAX),
            st.integers(0, UINT_MAX),
            st.none()
            | st.dictionaries(st.text(), st.integers() | st.text()).map(lambda value: json.dumps(value).encode()),
        ),
        unique_by=lambda entry: entry.client,
    )
)
def test_what_is_encoded_parses_back(entries: list[Entry]) -> None:
    assert parse_awareness(encode_awareness(entries), LIMITS) == entries


@pytest.mark.parametrize(
    "state",
    [
        b"{}",
        b' {"a" : [1, -0, 1.5e3, true, null] }\n',
        b'{"a":"\\ud800","__proto__":{},"a":2}',
        b'{"a":"[[[[\\"{{{{"}',
        '{"ü":"😀"}'.encode(),
        b'{"n":' + b"9" * 300 + b"}",
        b'{"n":1e-999}',
    ],
)
def test_a_state_is_kept_as_the_text_it_came_as(state: bytes) -> None:
    assert parsed(state) == state


@pytest.mark.parametrize("state", [b"null", b" null", b"null\n"])
def test_null_in_any_dress_is_a_removal(state: bytes) -> None:
    assert parsed(state) is None


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"", "not json at character 0"),
        (b"{bad", "not json at character 1"),
        (b"{}x", "not json at character 2"),
        (b'{"a":"\n"}', "not json at character 6"),
        (b'{"a":01}', "not json"),
        (b'{"a":[}', "not json"),
        ("\ufeff{}".encode(), "not json at character 0"),
        (b'"str"', "neither an object nor null"),
        (b"[]", "neither an object nor null"),
        (b"5", "neither an object nor null"),
        (b"true", "neither an object nor null"),
        (b'{"a":NaN}', "holds NaN"),
        (b'{"a":-Infinity}', "holds -Infinity"),
        (b"Infinity", "holds Infinity"),
        (b'{"a":1e999}', "beyond a double's range"),
        (b'{"a":[-1e999]}', "beyond a double's range"),
        (b'{"a":' + b"9" * 400 + b"}", "beyond a double's range"),
        (b'{"a":' + b"9" * 5000 + b"}", "beyond a double's range"),
        (b'{"a":"\xff"}', "not valid utf-8"),
        (b'{"a":"\xed\xa0\x80"}', "not valid utf-8"),
    ],
)
def test_states_no_browser_should_meet(state: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parsed(state)


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ("", "ends inside an integer"),
        ("01", "1 awareness entries in 0 bytes"),
        ("0101", "ends inside an integer"),
        ("010104", "ends inside an integer"),
        ("010104056e756c6c", "length 5 passes the 4 bytes left"),
        ("010104046e756c6c00", "1 bytes left over"),
        ("030132027b7d", "ends inside an integer"),
        ("ffffff3f", "134217727 awareness entries in 0 bytes"),
        ("01ffffffffffffffff7f00046e756c6c", "longer than 8 bytes"),
        ("01ffffffffffffff1f00046e756c6c", "above 2"),
        ("0101ffffffffffffff1f046e756c6c", "above 2"),
        ("0201010201017b7d", "not json at character 0"),
        ("025101077b2261223a317d5102077b2261223a327d", "names a client twice"),
    ],
)
def test_broken_messages(update: str, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_awareness(bytes.fromhex(update), LIMITS)


def test_state_bytes_max() -> None:
    limits = RosterLimits(state_bytes_max=20)
    assert parsed(b'{"a":"12345678901"} ', limits) is not None
    with pytest.raises(TooLarge, match="awareness state is 21 bytes, limit is 20"):
        parsed(b'{"a":"1234567890123"}', limits)


def test_entries_max_counts_everybody_present_and_everybody_who_left() -> None:
    limits = RosterLimits(entries_max=2)
    entries = [Entry(client, 1, None) for client in range(5)]
    assert len(parse_awareness(encode_awareness(entries[:4]), limits)) == 4
    with pytest.raises(TooLarge, match="5 awareness entries, limit is 4"):
        parse_awareness(encode_awareness(entries), limits)


@pytest.mark.parametrize(("before", "after"), [(b"[", b"]"), (b'{"a":', b"}"), (b'{"\\"{":[', b"]}")])
def test_state_depth_max(before: bytes, after: bytes) -> None:
    levels = before.count(b"[") + before.count(b"{") - (b"\\" in before)
    fits = (LIMITS.state_depth_max - 1) // levels
    deepest = b'{"a":' + before * fits + b"1" + after * fits + b"}"
    assert parsed(deepest) == deepest
    beside = b'{"b":[' + b"[]," * 64 + b"[]]," + deepest[1:]
    assert parsed(beside) == beside
    # Many brackets side by side, or within strings, are not depth.
    wide = b'{"a":[' + b"[],{}," * 200 + b'"' + b"[{" * 200 + b'\\"]"]}'
    assert parsed(wide) == wide
    for extra in (1, 7000 // len(before)):
        with pytest.raises(TooLarge, match="nested deeper than 64"):
            parsed(b'{"a":' + before * (fits + extra) + b"1" + after * (fits + extra) + b"}")


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "state",
    [
        b'"' + b'\\"' * 300_000 + b"[" * 65,
        b'{"a":"' + b"\\" * 8001 + b"{" * 200,
        b"]" * 4000 + b"[" * 4000,
        b'{"a":1}' + b"]" * 500 + b"[" * 500,
        b'{"' * 5000,
    ],
)
def test_broken_nesting_is_refused_without_recursion_or_quadratic_time(state: bytes) -> None:
    with pytest.raises((Malformed, TooLarge)):
        parsed(state, RosterLimits(state_bytes_max=1_000_000))


def test_a_state_that_was_checked_before_is_not_parsed_again() -> None:
    checked = {7: SimpleNamespace(state=b"known to be good")}
    assert parse_awareness(message(b"known to be good"), LIMITS, checked) == [Entry(7, 5, b"known to be good")]
    with pytest.raises(Malformed):
        parse_awareness(message(b"something else"), LIMITS, checked)
    with pytest.raises(Malformed):
        parse_awareness(b"\x01\x08\x05" + encode_bytes(b"known to be good"), LIMITS, checked)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def assert_fit_for_browsers(value: Any) -> None:
    assert depth(value) <= LIMITS.state_depth_max
    match value:
        case float():
            assert math.isfinite(value)
        case dict():
            for inner in value.values():
                assert_fit_for_browsers(inner)
        case list():
            for inner in value:
                assert_fit_for_browsers(inner)


HONEST = encode_awareness(
    [Entry(1, 4, b'{"user":{"name":"Ann","c":[1,2.5]}}'), Entry(300, 2**40, None), Entry(2, 1, b"{}")]
)


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_but_remote_errors(data: bytes) -> None:
    for update in (data, message(data), encode_uint(len(data)) + data):
        try:
            entries = parse_awareness(update, LIMITS)
        except RemoteError:
            continue
        for entry in entries:
            if entry.state is not None:
                assert_fit_for_browsers(json.loads(entry.state))


@given(st.data())
def test_mutated_updates_raise_nothing_but_remote_errors(data: st.DataObject) -> None:
    update = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(update) - 1))
        update[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        entries = parse_awareness(bytes(update), LIMITS)
    except RemoteError:
        return
    assert parse_awareness(encode_awareness(entries), LIMITS) == entries


@given(st.text(alphabet='{}[]",:\\0123456789.eE+-NaInfityrulsd \n\ud7ff', max_size=60))
def test_any_text_that_is_taken_for_a_state_is_an_object_of_finite_numbers(text: str) -> None:
    try:
        state = parsed(text.encode())
    except RemoteError:
        return
    if state is not None:
        value = json.loads(state)
        assert isinstance(value, dict)
        assert_fit_for_browsers(value)
