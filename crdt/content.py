"""What a block carries: checking and cutting lib0 `any` values, JSON text and strings.

Knows content only, not blocks, clients or clocks. Checks are strict where pycrdt or a browser is not safe: nesting is
bounded without recursion, JSON is what both `JSON.parse` and serde_json read (measured against pycrdt 0.14.13), text is
valid UTF-8. Long values are read in pieces: the scanners take a budget and hand back where they stopped (R17).
"""

import re
from functools import lru_cache
from typing import Final

from crdt.errors import Malformed, TooLarge, Unsupported
from crdt.varint import UINT_BYTES_MAX, Reader, encode_uint

NO_BUDGET: Final = 2**62
"""A budget nothing reaches: read to the end in one call."""

_PAYLOAD_BYTES: Final = {127: 0, 126: 0, 124: 4, 123: 8, 122: 8, 121: 0, 120: 0}
"""Any tags of fixed size: undefined, null, float32, float64, bigint, false, true. NaN and infinities are fine here."""


def scan_any(data: bytes, pos: int, levels: list[int], depth_max: int, budget: int) -> int:
    """Check `any` values from `pos` on; returns the position after the last one read.

    `levels` says what is still to come and is the memory between calls: one entry per open level, `n` for n more
    values, `-n` for n more key and value pairs. Start with `[count]`; it is finished when `levels` is empty.
    Raises `Malformed`, `TooLarge`; IndexError when the data ends early (the caller's one handler says so).
    """
    size = len(data)
    left = levels.pop()
    while True:
        if left == 0:
            if not levels:
                return pos
            left = levels.pop()
            continue
        if budget <= 0:
            levels.append(left)
            return pos
        budget -= 1
        if left < 0:
            left += 1
            length = data[pos]
            pos += 1
            if length >= 0x80:
                length, pos = long_uint(data, pos - 1)
            end = pos + length
            if end > size:
                raise Malformed(f"key of {length} bytes passes the {size - pos} bytes left")
            check_text(data[pos:end])
            pos = end
        else:
            left -= 1
        tag = data[pos]
        pos += 1
        if tag == 119 or tag == 116:  # noqa: PLR1714  two int comparisons are faster than a tuple; string, bytes
            length = data[pos]
            pos += 1
            if length >= 0x80:
                length, pos = long_uint(data, pos - 1)
            end = pos + length
            if end > size:
                raise Malformed(f"value of {length} bytes passes the {size - pos} bytes left")
            if tag == 119:
                check_text(data[pos:end])
            pos = end
        elif tag == 125:
            first = pos
            while data[pos] >= 0x80:
                pos += 1
            pos += 1
            # Six bits, then seven each: 53 bits end in the low five of the eighth byte.
            if pos - first >= UINT_BYTES_MAX and (pos - first > UINT_BYTES_MAX or data[pos - 1] >= 0x20):
                raise Malformed("integer is beyond 2^53 - 1")
        elif tag == 118 or tag == 117:  # noqa: PLR1714  as above; map, array
            count = data[pos]
            pos += 1
            if count >= 0x80:
                count, pos = long_uint(data, pos - 1)
            if count > size - pos:
                raise Malformed(f"{count} values announced in {size - pos} bytes")
            levels.append(left)
            if len(levels) > depth_max:
                raise TooLarge(f"values are nested deeper than {depth_max}")
            left = count if tag == 117 else -count
        else:
            fixed = _PAYLOAD_BYTES.get(tag)
            if fixed is None:
                raise Malformed(f"unknown value tag {tag}")
            pos += fixed
            if pos > size:
                raise Malformed("update ends inside a number")


def long_uint(data: bytes, pos: int) -> tuple[int, int]:
    """A varUint of two bytes or more, in as few bytes as it takes; returns (value, position after it).

    Stricter than `Reader`: yrs reads fewer over-long forms than lib0, and no encoder writes any.
    Raises `Malformed`; IndexError when the data ends early.
    """
    # The lengths that are common, spelled out: clocks of two and three bytes, client ids of five (32 random bits).
    if len(data) < pos + 5:
        return _any_uint(data, pos)
    one, two = data[pos], data[pos + 1]
    if 0 < two < 0x80 <= one:
        return one & 0x7F | two << 7, pos + 2
    three = data[pos + 2]
    if 0 < three < 0x80 <= min(one, two):
        return one & 0x7F | (two & 0x7F) << 7 | three << 14, pos + 3
    four, five = data[pos + 3], data[pos + 4]
    if 0 < five < 0x80 <= min(one, two, three, four):
        return one & 0x7F | (two & 0x7F) << 7 | (three & 0x7F) << 14 | (four & 0x7F) << 21 | five << 28, pos + 5
    return _any_uint(data, pos)


def _any_uint(data: bytes, pos: int) -> tuple[int, int]:
    value = 0
    shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 7 * UINT_BYTES_MAX:
            raise Malformed(f"integer is longer than {UINT_BYTES_MAX} bytes")
    if byte == 0 and shift:
        raise Malformed("integer is padded with zero bits")
    if value >= 2**53:
        raise Malformed("integer is above 2^53 - 1")
    return value, pos


def check_text(raw: bytes) -> None:
    """Refuse bytes that are not strict UTF-8: yrs takes them unchecked in places, browsers throw."""
    if not raw.isascii():
        try:
            raw.decode()
        except UnicodeDecodeError:
            raise Malformed("text is not valid utf-8") from None


_STRING: Final = (
    rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb'|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*+"'
)
_VALUE: Final = re.compile(
    rb"[ \t\n\r]*+(?:(" + _STRING + rb")|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    rb"|(true|false|null)|(\[)|(\{))"
)
_KEY: Final = re.compile(rb"[ \t\n\r]*+" + _STRING + rb"[ \t\n\r]*+:")
_AFTER: Final = re.compile(rb"[ \t\n\r]*+([,\]}]|\Z)")
_EMPTY: Final = re.compile(rb"[ \t\n\r]*+([\]}])")

_NUMBER_BYTES_MAX: Final = 64
"""JavaScript prints no number longer than 25 characters; longer ones reach corners of serde_json's float parser."""

_BIGGEST: Final = {b"1.7976931348623157e+308", b"1.7976931348623157e308"}
"""Number.MAX_VALUE. Other spellings above 1e308 may round to infinity in one parser and not in the other."""


def scan_json(text: bytes, pos: int, stack: list[int], depth_max: int, budget: int) -> int:
    """Check JSON text (valid UTF-8) from `pos` on; returns where to go on, or -1 when the text is complete.

    `stack` is the memory between calls: one closing bracket per open level. Start with `(text, 0, [])`.
    Stricter than JSON: paired surrogate escapes only, no number beyond what pycrdt reads. Raises `Unsupported`,
    or `TooLarge` for nesting.
    """
    while True:
        if budget <= 0:
            return pos
        budget -= 1
        value = _VALUE.match(text, pos)
        if value is None:
            raise Unsupported("json text that pycrdt can't read")
        pos = value.end()
        kind = value.lastindex
        if kind == 2:
            _check_number(value[2])
        elif kind is not None and kind >= 4:
            closing = 0x5D if kind == 4 else 0x7D
            empty = _EMPTY.match(text, pos)
            stack.append(closing)
            if len(stack) > depth_max:
                raise TooLarge(f"json is nested deeper than {depth_max}")
            if empty is None:
                if kind == 5:
                    pos = _after_key(text, pos)
                continue
        # A value is complete: close what ends here, until a comma says that another value follows.
        while True:
            after = _AFTER.match(text, pos)
            if after is None:
                raise Unsupported("json text that pycrdt can't read")
            pos = after.end()
            mark = after[1]
            if mark == b"":
                if stack:
                    raise Unsupported("json text that ends early")
                return -1
            if not stack:
                raise Unsupported("json text with something after it")
            if mark == b",":
                if stack[-1] == 0x7D:
                    pos = _after_key(text, pos)
                break
            if stack.pop() != mark[0]:
                raise Unsupported("json text with unpaired brackets")


def _after_key(text: bytes, pos: int) -> int:
    key = _KEY.match(text, pos)
    if key is None:
        raise Unsupported("json text that pycrdt can't read")
    return key.end()


def _check_number(token: bytes) -> None:
    if len(token) <= 18 and b"e" not in token and b"E" not in token:
        return
    if len(token) > _NUMBER_BYTES_MAX:
        raise Unsupported(f"json number of {len(token)} characters")
    if token.isdigit() and 2**63 <= int(token) < 2**64:
        raise Unsupported("json integer between 2^63 and 2^64, which pycrdt refuses")
    if abs(float(token)) > 1e308 and token.lstrip(b"-") not in _BIGGEST:
        raise Unsupported("json number out of range")


@lru_cache(maxsize=512)
def _small_json_ok(text: bytes, depth_max: int) -> bool:
    check_text(text)
    scan_json(text, 0, [], depth_max, NO_BUDGET)
    return True


SMALL_JSON: Final = 256
"""Texts up to this size are checked once and remembered: formatting repeats the same few values all day."""


def check_small_json(text: bytes, depth_max: int) -> None:
    """Check a JSON text of at most `SMALL_JSON` bytes. Raises `Malformed`, `Unsupported` or `TooLarge`."""
    _small_json_ok(text, depth_max)


def cut_string(raw: bytes, start: int, end: int) -> bytes:
    """The UTF-16 units `[start, end)` of a text. Half a surrogate pair becomes U+FFFD, as in Yjs."""
    units = raw.decode().encode("utf-16-le")[2 * start : 2 * end]
    return units.decode("utf-16-le", "replace").encode()


def cut_content(reader: Reader, ref: int, start: int, end: int) -> bytes:
    """Elements `[start, end)` of the content of kind `ref` that `reader` stands at (kinds with a length only)."""
    if ref == 4:
        part = cut_string(reader.bytes_(), start, end)
        return encode_uint(len(part)) + part
    if ref == 8:
        reader.uint()
        first = scan_any(reader.data, reader.pos, [start], NO_BUDGET, NO_BUDGET) if start else reader.pos
        last = scan_any(reader.data, first, [end - start], NO_BUDGET, NO_BUDGET)
        return encode_uint(end - start) + reader.data[first:last]
    # Deleted content and GC are a length and nothing else.
    return encode_uint(end - start)
