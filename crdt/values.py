"""Values as JavaScript has them, read from lib0's `any` and from JSON.

Owns what each becomes in Python: numbers are int or float as they were written, bytes are bytes, `undefined` and bigints
are types of their own, since JSON and JavaScript's `String()` say something else of them. Text is always well formed.
"""

import struct
from json import loads as json_loads
from typing import Any, Final, final

from crdt.errors import Malformed, TooLarge
from crdt.varint import Reader

ANY_DEPTH_MAX: Final = 100
"""Nesting inside one value. The gate lets 64 through; the room between is for documents older than a lower limit."""

SAFE_INTEGER_MAX: Final = 2**53 - 1
"""Largest integer a JavaScript number keeps exactly."""


@final
class Undefined:
    """JavaScript's `undefined`, which is not null. One instance: `UNDEFINED`."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = Undefined()


class BigInt(int):
    """A JavaScript `bigint`: an integer, but not a number there."""


def read_byte(reader: Reader) -> int:
    """One byte: a tag, or what a block is."""
    pos = reader.pos
    if pos >= reader.end:
        raise Malformed("message ends where a byte was expected")
    reader.pos = pos + 1
    return reader.data[pos]


def read_count(reader: Reader) -> int:
    """A number of things of at least one byte each."""
    count = reader.uint()
    if count > reader.end - reader.pos:
        raise Malformed(f"{count} entries announced in the {reader.end - reader.pos} bytes left")
    return count


def read_any(reader: Reader, depth: int = 0) -> Any:
    """One lib0 `any`. Integers beyond 53 bits cannot occur but as `BigInt`; bytes stay bytes."""
    tag = read_byte(reader)
    match tag:
        case 0x77:
            return reader.string()
        case 0x7D:
            return reader.int_()
        case 0x7B:
            return _float(reader, ">d", 8)
        case 0x7C:
            return _float(reader, ">f", 4)
        case 0x78:
            return True
        case 0x79:
            return False
        case 0x7E:
            return None
        case 0x7F:
            return UNDEFINED
        case 0x74:
            return reader.bytes_()
        case 0x7A:
            return BigInt.from_bytes(_take(reader, 8), "big", signed=True)
        case 0x75 | 0x76 if depth >= ANY_DEPTH_MAX:
            raise TooLarge(f"value is nested deeper than {ANY_DEPTH_MAX}")
        case 0x75:
            return [read_any(reader, depth + 1) for _ in range(read_count(reader))]
        case 0x76:
            return {reader.string(): read_any(reader, depth + 1) for _ in range(read_count(reader))}
        case _:
            raise Malformed(f"value tag {tag} is not known")


def _take(reader: Reader, size: int) -> bytes:
    end = reader.pos + size
    if end > reader.end:
        raise Malformed(f"value of {size} bytes passes the {reader.end - reader.pos} bytes left")
    raw = reader.data[reader.pos : end]
    reader.pos = end
    return raw


def _float(reader: Reader, layout: str, size: int) -> float:
    value: float = struct.unpack(layout, _take(reader, size))[0]
    return value


def read_json_text(reader: Reader) -> Any:
    """A varString of JSON (yjs `readJSON`)."""
    return parse_json(reader.string())


def read_json_or_undefined(reader: Reader) -> Any:
    """The same in a `ContentJSON`, which has a word for undefined."""
    text = reader.string()
    return UNDEFINED if text == "undefined" else parse_json(text)


def parse_json(text: str) -> Any:
    """JSON as JavaScript reads it: numbers are doubles, half a surrogate pair is U+FFFD. Raises `Malformed`/`TooLarge`."""
    try:
        value = json_loads(text, parse_int=_js_integer)
    except RecursionError:
        raise TooLarge("json is nested too deeply") from None
    except ValueError:
        raise Malformed("value is not valid json") from None
    return _mend(value, 0)


def _js_integer(digits: str) -> int | float:
    value = float(digits)
    return int(value) if abs(value) <= SAFE_INTEGER_MAX else value


def _mend(value: Any, depth: int) -> Any:
    """Half a surrogate pair, which an escape can write, has no UTF-8; nesting is bounded as everywhere."""
    if depth > ANY_DEPTH_MAX:
        raise TooLarge(f"value is nested deeper than {ANY_DEPTH_MAX}")
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_mend(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {well_formed(key): _mend(each, depth + 1) for key, each in value.items()}
    return value


def well_formed(text: str) -> str:
    """`text` with every half of a surrogate pair replaced by U+FFFD (JavaScript: `toWellFormed`)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
