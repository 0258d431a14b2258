"""The awareness codec: strict about what a peer sends, faithful about what it relays.

Layout (y-protocols 1.0.7 `awareness.js`; protocol reference, section 2): varUint count, then per entry the client
(varUint), its clock (varUint) and its state as JSON text (varString), `null` for a client that left.

What every browser in the room would have to parse is checked here first: y-protocols parses one entry at a time and
stops at the first it can't, so a single NaN hides everybody behind it. States stay the text they came as.
"""

import json
import re
from collections.abc import Iterable, Mapping
from math import isfinite
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from crdt.errors import Malformed, TooLarge
from crdt.varint import Reader, encode_bytes, encode_uint
from presence.limits import RosterLimits

NULL: Final = b"null"


class Entry(NamedTuple):
    """One client's state at a clock. `state` is JSON text in UTF-8 (an object), or None: the client left."""

    client: int
    clock: int
    state: bytes | None


class HasState(Protocol):
    """Whatever keeps the text of a state that was checked before."""

    @property
    def state(self) -> bytes: ...


_NOTHING: Final[Mapping[int, HasState]] = MappingProxyType({})


def parse_awareness(data: bytes, limits: RosterLimits, checked: Mapping[int, HasState] = _NOTHING) -> list[Entry]:
    """The entries of a whole awareness update, in order. Raises Malformed or TooLarge.

    A state that equals the one `checked` has for its client isn't parsed again: renewals and echoes are most of what comes.
    """
    reader = Reader(data)
    count = reader.uint()
    if count > len(data) - reader.pos:
        raise Malformed(f"{count} awareness entries in {len(data) - reader.pos} bytes")
    if count > limits.message_entries_max:
        raise TooLarge(f"{count} awareness entries, limit is {limits.message_entries_max}")
    entries: list[Entry] = []
    for _ in range(count):
        client = reader.uint()
        clock = reader.uint()
        text = reader.bytes_()
        known = checked.get(client)
        state = text if known is not None and known.state == text else _checked(text, limits)
        entries.append(Entry(client, clock, state))
    reader.expect_end()
    if len({entry.client for entry in entries}) < count:
        # yjs never writes one, and which of the two counts would depend on the reader.
        raise Malformed("an awareness message names a client twice")
    return entries


def encode_entry(client: int, clock: int, state: bytes | None) -> bytes:
    """One entry, to be joined by `join_entries`."""
    return encode_uint(client) + encode_uint(clock) + encode_bytes(NULL if state is None else state)


def join_entries(encoded: list[bytes]) -> bytes:
    """An awareness update of entries that are encoded already."""
    return encode_uint(len(encoded)) + b"".join(encoded)


def encode_awareness(entries: Iterable[Entry]) -> bytes:
    """An awareness update of these entries, in this order."""
    return join_entries([encode_entry(*entry) for entry in entries])


def _checked(text: bytes, limits: RosterLimits) -> bytes | None:
    if text == NULL:
        return None
    if len(text) > limits.state_bytes_max:
        raise TooLarge(f"awareness state is {len(text)} bytes, limit is {limits.state_bytes_max}")
    if text.count(b"{") + text.count(b"[") > limits.state_depth_max:
        _check_depth(text, limits.state_depth_max)
    try:
        value = _DECODER.decode(text.decode())
    except UnicodeDecodeError:
        raise Malformed("awareness state is not valid utf-8") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"awareness state is not json at character {error.pos}") from None
    if value is None:
        return None
    if type(value) is not dict:
        raise Malformed("awareness state is neither an object nor null")
    return text


_STRINGS: Final = re.compile(rb'"(?:[^"\\]+|\\.)*"?', re.DOTALL)
"""Strings, the last one maybe unclosed: a match that could fail would be tried again from each escaped quote, in quadratic time."""


def _check_depth(text: bytes, depth_max: int) -> None:
    """Counts brackets outside strings: before parsing, because the parser recurses."""
    depth = 0
    for byte in _STRINGS.sub(b"", text):
        if byte in b"{[":
            depth += 1
            if depth > depth_max:
                raise TooLarge(f"awareness state is nested deeper than {depth_max}")
        elif byte in b"}]":
            depth -= 1


def _finite(number: str) -> float:
    """JSON.parse makes Infinity of 1e999, and of an integer of 400 digits; the next JSON.stringify makes null of that."""
    value = float(number)
    if not isfinite(value):
        raise Malformed("awareness state holds a number beyond a double's range")
    return value


def _refuse_constant(name: str) -> float:
    raise Malformed(f"awareness state holds {name}, which is not json")


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_int=_finite, parse_constant=_refuse_constant)
