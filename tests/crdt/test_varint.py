"""lib0's integers, bytes and text: the vectors made by lib0, and what a reader must refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import LocalError, Malformed
from crdt.varint import UINT_MAX, Reader, encode_bytes, encode_int, encode_string, encode_uint

LIB0 = json.loads((Path(__file__).parent.parent / "vectors" / "lib0.json").read_text())


def reader(hex_bytes: str) -> Reader:
    return Reader(bytes.fromhex(hex_bytes))


@pytest.mark.parametrize("vector", LIB0["varUint"], ids=lambda vector: vector["hex"])
def test_uint_is_lib0s(vector: dict[str, Any]) -> None:
    assert encode_uint(vector["value"]).hex() == vector["hex"]
    read = reader(vector["hex"])
    assert read.uint() == vector["value"]
    assert read.at_end


@pytest.mark.parametrize("vector", LIB0["varInt"], ids=lambda vector: vector["hex"])
def test_int_is_lib0s(vector: dict[str, Any]) -> None:
    read = reader(vector["hex"])
    if vector["value"] == "-0":
        assert read.int_() == 0
    else:
        assert read.int_() == vector["value"]
        assert encode_int(vector["value"]).hex() == vector["hex"]
    read.expect_end()


@pytest.mark.parametrize("vector", LIB0["varString"], ids=lambda vector: vector["hex"][:24])
def test_text_is_lib0s(vector: dict[str, Any]) -> None:
    assert encode_string(vector["value"]).hex() == vector["hex"]
    expected = vector.get("readsBackAs", vector)["value"]
    assert reader(vector["hex"]).string() == expected


@pytest.mark.parametrize("vector", LIB0["varUint8Array"], ids=lambda vector: vector["hex"][:24])
def test_bytes_are_lib0s(vector: dict[str, Any]) -> None:
    value = bytes.fromhex(vector["value"])
    assert encode_bytes(value).hex() == vector["hex"]
    assert reader(vector["hex"]).bytes_() == value


@pytest.mark.parametrize("vector", LIB0["malformedReads"], ids=lambda vector: vector["name"])
def test_what_lib0_refuses_is_refused(vector: dict[str, Any]) -> None:
    read = reader(vector["hex"])
    methods: dict[str, Any] = {
        "varUint": read.uint,
        "varInt": read.int_,
        "varString": read.string,
        "varUint8Array": read.bytes_,
    }
    value = vector["result"].get("value")
    # Two kinds of reading lib0 gets away with: nothing as 0, and one above the largest integer.
    if value is None or vector["hex"] == "" or value > UINT_MAX:
        with pytest.raises(Malformed):
            methods[vector["read"]]()
        assert read.pos == 0 or vector["read"] in ("varString", "varUint8Array")
    else:
        assert methods[vector["read"]]() == value
        assert read.pos == vector["result"]["consumed"]


def test_integers_end_after_eight_bytes() -> None:
    assert reader("80" * 7 + "00").uint() == 0
    for overlong in ("80" * 8 + "00", "ff" * 100_000):
        with pytest.raises(Malformed, match="longer than 8 bytes"):
            reader(overlong).uint()
        with pytest.raises(Malformed, match="longer than 8 bytes"):
            reader(overlong).int_()
    with pytest.raises(Malformed, match="beyond"):
        reader("bf" + "ff" * 6 + "7f").int_()


def test_a_length_never_passes_what_is_left() -> None:
    with pytest.raises(Malformed, match="length 4294967295 passes the 1 bytes left"):
        reader("ffffffff0f61").bytes_()


def test_leftovers_are_refused() -> None:
    read = reader("0000")
    read.uint()
    with pytest.raises(Malformed, match="1 bytes left over"):
        read.expect_end()


@pytest.mark.parametrize("value", [-1, 2**53])
def test_what_can_t_be_written_is_our_bug(value: int) -> None:
    with pytest.raises(LocalError):
        encode_uint(value)
    with pytest.raises(LocalError):
        encode_int(2**53)


@given(st.integers(0, UINT_MAX))
def test_uint_round_trips(value: int) -> None:
    assert Reader(encode_uint(value)).uint() == value


@given(st.integers(-UINT_MAX, UINT_MAX))
def test_int_round_trips(value: int) -> None:
    assert Reader(encode_int(value)).int_() == value


@given(st.text())
def test_text_round_trips(value: str) -> None:
    assert Reader(encode_string(value)).string() == value


def test_a_split_pair_of_surrogates_is_written_as_its_character() -> None:
    assert encode_string("\ud83d\ude00") == encode_string("😀")
    assert encode_string("a\ude00\ud83d") == encode_string("a\ufffd\ufffd")


@given(st.binary(max_size=40), st.lists(st.sampled_from(["uint", "int_", "bytes_", "string"]), max_size=6))
def test_reading_anything_raises_nothing_but_malformed(data: bytes, calls: list[str]) -> None:
    read = Reader(data)
    try:
        for call in calls:
            getattr(read, call)()
        read.expect_end()
    except Malformed:
        return
    assert read.at_end
