"""Values as JavaScript prints and orders them; the expected strings are Node's."""

import math

import pytest

from crdt.javascript import js_string, sorted_keys
from crdt.values import UNDEFINED, BigInt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (100.0, "100"),
        (-12.5, "-12.5"),
        (0.1, "0.1"),
        (0.000123, "0.000123"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (2.0**53, "9007199254740992"),
        (9007199254740994.0, "9007199254740994"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.25e300, "-1.25e+300"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert js_string(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        (UNDEFINED, "undefined"),
        (True, "true"),
        (False, "false"),
        (BigInt(5), "5"),
        (b"\x01\xff", "1,255"),
        ([1, None, [2, UNDEFINED, "x"], {}], "1,,2,,x,[object Object]"),
        ({"a": 1}, "[object Object]"),
    ],
)
def test_other_values(value: object, text: str) -> None:
    assert js_string(value) == text


def test_keys_are_ordered_by_utf16_units() -> None:
    assert sorted_keys(["\uffee", "😀", "b", "é", "a"]) == ["a", "b", "é", "😀", "\uffee"]
