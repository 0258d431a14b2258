"""How JavaScript orders and prints values, where a view has to say the same (ECMA-262, "Number::toString")."""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from crdt.values import UNDEFINED, BigInt


def sorted_keys(keys: Iterable[str]) -> list[str]:
    """By UTF-16 unit, as `Array.prototype.sort`: characters beyond U+FFFF come before U+E000."""
    ordered = sorted(keys)
    if any(key > "\ud7ff" for key in ordered):  # the two orders agree below the surrogates
        ordered.sort(key=lambda key: key.encode("utf-16-be"))
    return ordered


def js_string(value: Any) -> str:
    """`String(value)`. What is no plain value (an object, a shared type) is `[object Object]`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if value is UNDEFINED:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, BigInt):
        return str(int(value))
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, bytes):
        return ",".join(map(str, value))
    if isinstance(value, list):
        return ",".join("" if each is None or each is UNDEFINED else js_string(each) for each in value)
    return "[object Object]"


def _number(value: float) -> str:
    """Same digits as Python's `repr`, other thresholds: an exponent from 1e21 up and below 1e-6."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 2**53):
        return str(int(value))
    _, parts, exponent = Decimal(repr(abs(value))).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, parts)).rstrip("0")
    point = len(parts) + exponent  # digits before the decimal point
    sign = "-" if value < 0 else ""
    if 0 < point <= 21:
        text = digits.ljust(point, "0") if len(digits) <= point else f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
        text = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + text
