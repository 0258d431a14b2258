"""Values, JSON and text inside blocks: what pycrdt and browsers can read, and nothing else."""

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.content import NO_BUDGET, check_small_json, check_text, cut_string, long_uint, scan_any, scan_json
from crdt.errors import Malformed, RemoteError, TooLarge, Unsupported
from crdt.varint import encode_uint
from tests.crdt.hand import embed, update

LIB0 = json.loads((Path(__file__).parent.parent / "vectors" / "lib0.json").read_text())


def scan_all(data: bytes, count: int = 1, depth_max: int = 64) -> int:
    return scan_any(data, 0, [count], depth_max, NO_BUDGET)


@pytest.mark.parametrize("vector", LIB0["any"], ids=lambda vector: vector["hex"][:20])
def test_every_value_lib0_writes_is_read_to_its_end(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert scan_all(data) == len(data)
    assert scan_all(data * 3, 3) == 3 * len(data)
    for cut in range(len(data)):
        with pytest.raises((Malformed, IndexError)):
            scan_all(data[:cut])


def test_scanning_goes_on_where_its_budget_ended() -> None:
    data = b"".join(bytes.fromhex(vector["hex"]) for vector in LIB0["any"])
    for budget in (1, 2, 5):
        levels = [len(LIB0["any"])]
        pos = calls = 0
        while levels:
            pos = scan_any(data, pos, levels, 64, budget)
            calls += 1
        assert pos == len(data)
        assert calls > len(LIB0["any"]) / budget


def test_nesting_of_values_is_bounded_without_recursion() -> None:
    assert scan_all(b"\x75\x01" * 64 + b"\x7e") == 129
    with pytest.raises(TooLarge, match="deeper than 64"):
        scan_all(b"\x75\x01" * 65 + b"\x7e")
    with pytest.raises(TooLarge):
        scan_all(b"\x76\x01\x01a" * 1_000_000 + b"\x7e")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("73", "unknown value tag 115"),
        ("7705616263", "passes the 3 bytes left"),
        ("7702fffe", "not valid utf-8"),
        ("76010561", "key of 5 bytes"),
        ("760102fffe7e", "not valid utf-8"),
        ("75ffffffff0f", "values announced"),
        ("7b0000", "inside a number"),
        ("7dffffffffffffffff01", "beyond 2\\^53"),
        ("7dffffffffffffff20", "beyond 2\\^53"),
        ("77ff80808080808080800000", "longer than 8"),
    ],
)
def test_broken_values(data: str, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        scan_all(bytes.fromhex(data))


def test_the_largest_integer_is_read() -> None:
    assert scan_all(bytes.fromhex("7dbfffffffffffff1f")) == 9


def test_long_integers_are_written_one_way_only() -> None:
    assert long_uint(b"\x80\x01", 0) == (128, 2)
    assert long_uint(b"\xff\xff\xff\xff\xff\xff\xff\x0f", 0) == (2**53 - 1, 8)
    for padded in ("8000", "818000"):
        with pytest.raises(Malformed, match="padded"):
            long_uint(bytes.fromhex(padded), 0)
    with pytest.raises(Malformed, match="above"):
        long_uint(b"\xff\xff\xff\xff\xff\xff\xff\x10", 0)
    with pytest.raises(Malformed, match="longer"):
        long_uint(b"\x80" * 9, 0)


def test_text_is_strict_utf8() -> None:
    check_text("aé漢😀".encode())
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"):
        with pytest.raises(Malformed):
            check_text(bad)


# -- JSON --------------------------------------------------------------------------------------------------------


def gate_reads(text: bytes) -> bool:
    try:
        check_small_json(text, 64)
    except RemoteError:
        return False
    return True


def pycrdt_reads(text: bytes) -> bool:
    doc: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    try:
        doc.apply_update(update((1, 0, [embed(text)])))
        doc.get_update()
    except ValueError:
        return False
    return True


GOOD_JSON = [
    *(b"null", b"true", b"false", b'""', b"{}", b"[]", b"0", b"-0", b"1.5e-7", b' {"a" : [1 , {}]}\n'),
    *(rb'"\ud83d\ude00"', rb'"\u0000\n\/"', '"漢😀\u2028"'.encode(), b"9223372036854775807", b"-9223372036854775809"),
    *(b"18446744073709551616", b"1.7976931348623157e+308", b'{"a":1,"a":2}', b"1e-400"),
]
BAD_JSON = [
    *(
        b"",
        b" ",
        b"undefined",
        b"NaN",
        b"-Infinity",
        b"01",
        b"1.",
        b"-",
        b".5",
        b"1 2",
        b"[1,]",
        b'{"a":1,}',
        b"[",
        b"]",
    ),
    *(b"{]", b'{"a"}', b"{1:2}", b'"\x01"', b'"a', rb'"\x"', rb'"\u12"', b"\xef\xbb\xbf1", b"[1}", b'{"a":1]', b"[]]"),
]
NOT_FOR_PYCRDT = [
    *(rb'"\ud83d"', rb'"\ude00"', rb'"\ude00\ud83d"', rb'{"\ud800":1}', b"1e999", b"-1e999"),
    *(b"18446744073709551615", b"9223372036854775808", b"1" + b"0" * 400),
]


@pytest.mark.parametrize("text", GOOD_JSON)
def test_json_that_is_let_through_can_be_read(text: bytes) -> None:
    assert gate_reads(text)
    assert pycrdt_reads(text)
    if b'"a":2' not in text:
        json.loads(text)


@pytest.mark.parametrize("text", BAD_JSON + NOT_FOR_PYCRDT)
def test_json_that_pycrdt_refuses_is_refused(text: bytes) -> None:
    assert not gate_reads(text)
    assert not pycrdt_reads(text)


def test_a_lone_surrogate_is_unsupported_and_no_breach_of_the_format() -> None:
    with pytest.raises(Unsupported):
        check_small_json(rb'"\ud83d"', 64)
    with pytest.raises(Malformed):
        check_small_json(b'"\xff"', 64)


def test_nesting_of_json_is_bounded() -> None:
    check_small_json(b"[" * 64 + b"]" * 64, 64)
    with pytest.raises(TooLarge, match="deeper than 64"):
        check_small_json(b"[" * 65 + b"]" * 65, 64)
    with pytest.raises(TooLarge):
        scan_json(b'{"a":' * 1_000_000, 0, [], 64, NO_BUDGET)


def test_json_scanning_goes_on_where_its_budget_ended() -> None:
    text = b'{"a": [1, 2, {"b": "c"}, []], "d": null}'
    stack: list[int] = []
    at, calls = 0, 0
    while at >= 0:
        at = scan_json(text, at, stack, 64, 1)
        calls += 1
    assert calls == 8  # one for each value, the containers included
    assert stack == []


FRAGMENTS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b'"a"',
        b"1",
        b"-",
        b"e",
        b"+",
        b".",
        b"0",
        b"\\u",
        b"d83d",
        b" ",
        b"\n",
    ),
    *(
        rb"\ud83d\ude00",
        rb"\ude00",
        rb"\n",
        b"\\",
        b"true",
        b"null",
        b"\x01",
        b"9223372036854775808",
        b"1e308",
        b"e308",
    ),
    *("é".encode(), b"/", b'{"a":1}', b"[1,2]", b"NaN", b"18446744073709551615", b"e-400", b"1.7976931348623157"),
]


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8).map(b"".join))
def test_no_json_gets_past_the_gate_that_pycrdt_refuses(text: bytes) -> None:
    if gate_reads(text):
        assert pycrdt_reads(text)


def test_no_number_near_the_largest_gets_past_that_pycrdt_refuses() -> None:
    rnd = random.Random(1)
    read = 0
    for _ in range(5000):
        digits = rnd.randrange(10 ** rnd.randrange(1, 25))
        text = b"%d.%de%d" % (rnd.randrange(10), digits, rnd.choice((307, 308, 309, -320, -308, 200, -324)))
        if gate_reads(text):
            assert pycrdt_reads(text), text
            read += 1
    assert read > 1000


# -- cutting -----------------------------------------------------------------------------------------------------


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=12), st.data())
def test_text_is_cut_in_utf16_units(content: str, data: st.DataObject) -> None:
    units = len(content.encode("utf-16-le")) // 2
    start = data.draw(st.integers(0, units))
    end = data.draw(st.integers(start, units))
    part = cut_string(content.encode(), start, end).decode()
    assert len(part.encode("utf-16-le")) // 2 == end - start
    whole = content.encode("utf-16-le")[2 * start : 2 * end]
    assert part == whole.decode("utf-16-le", "replace")


def test_half_a_pair_becomes_the_replacement_character() -> None:
    assert cut_string("x😀y".encode(), 0, 2).decode() == "x\ufffd"
    assert cut_string("x😀y".encode(), 2, 4).decode() == "\ufffdy"
    assert cut_string("x😀y".encode(), 1, 3).decode() == "😀"


@given(st.binary(max_size=60), st.integers(1, 5))
def test_scanning_anything_raises_only_what_the_parser_expects(data: bytes, count: int) -> None:
    with suppress(RemoteError, IndexError):
        scan_any(data, 0, [count], 64, NO_BUDGET)
    with suppress(RemoteError):
        check_small_json(data, 64)


def test_cost_of_a_long_run_of_values_is_linear() -> None:
    data = encode_uint(200_000) + b"\x7e" * 200_000
    value, pos = long_uint(data, 0)
    assert scan_any(data, pos, [value], 64, NO_BUDGET) == len(data)
