"""Bytes that no honest client sends, each with what must become of its sender.

Owns what untrusted bytes are known to do to Yjs servers, as frames of the y-websocket protocol; knows nothing of sockets.
Encoded by hand, so that what is refused was not made by the code that refuses it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crdt.errors import CloseCode
from server.settings import Settings

VECTORS: Final = json.loads((Path(__file__).parent / "vectors" / "pycrdt-malformed.json").read_text())

CLIENTS_MAX: Final = Settings().presence_clients_per_session_max

MALLORY: Final = 0x6D616C
"""The client id that hostile blocks carry where a case needs no other."""


def uint(value: int) -> bytes:
    """varUint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sized(data: bytes) -> bytes:
    """varUint8Array."""
    return uint(len(data)) + data


def step1(state_vector: bytes) -> bytes:
    return b"\x00\x00" + sized(state_vector)


def step2(update: bytes) -> bytes:
    return b"\x00\x01" + sized(update)


def update(body: bytes) -> bytes:
    return b"\x00\x02" + sized(body)


def awareness(body: bytes) -> bytes:
    return b"\x01" + sized(body)


def presence(client: int, clock: int, state: bytes) -> bytes:
    """An awareness message of one client."""
    return awareness(uint(1) + uint(client) + uint(clock) + sized(state))


# ---- pieces of updates


def section(client: int, clock: int, *blocks: bytes) -> bytes:
    """One client's blocks."""
    return uint(len(blocks)) + uint(client) + uint(clock) + b"".join(blocks)


def whole(*sections: bytes, deletions: bytes = b"\x00") -> bytes:
    """An update of these sections."""
    return uint(len(sections)) + b"".join(sections) + deletions


def text_block(text: str, root: str = "text") -> bytes:
    """A string at the beginning of a root."""
    return b"\x04\x01" + sized(root.encode()) + sized(text.encode())


def text_after(text: str, client: int, clock: int) -> bytes:
    """A string right of an item."""
    return b"\x84" + uint(client) + uint(clock) + sized(text.encode())


def any_block(value: bytes, root: str = "map", key: str = "k") -> bytes:
    """A value of a map."""
    return b"\x28\x01" + sized(root.encode()) + sized(key.encode()) + b"\x01" + value


def nested_any(depth: int) -> bytes:
    return whole(section(MALLORY, 0, any_block(b"\x75\x01" * depth + b"\x7e")))


def array_block(clock: int) -> bytes:
    """An array that is the only item of the array at the clock before; the first one is in a root."""
    if clock == 0:
        return b"\x07\x01" + sized(b"nest") + b"\x00"
    return b"\x07\x00" + uint(MALLORY) + uint(clock - 1) + b"\x00"


def deletions(ranges: dict[int, list[tuple[int, int]]]) -> bytes:
    """A delete set of (clock, length) pairs."""
    return uint(len(ranges)) + b"".join(
        uint(client) + uint(len(parts)) + b"".join(uint(clock) + uint(length) for clock, length in parts)
        for client, parts in ranges.items()
    )


# ---- the table


@dataclass(frozen=True, slots=True)
class Offence:
    """`frames` are messages sent one after the other; then the sender is closed with one of `codes`, or none if empty.

    `answered` is the beginning of a message the sender must be sent instead. `text` sends them as text messages.
    """

    name: str
    frames: tuple[bytes, ...]
    codes: frozenset[int] = frozenset()
    answered: bytes = b""
    text: bool = False


MALFORMED: Final = frozenset({int(CloseCode.MALFORMED)})
TOO_LARGE: Final = frozenset({int(CloseCode.TOO_LARGE)})
UNSUPPORTED: Final = frozenset({int(CloseCode.UNSUPPORTED)})
IGNORED: Final[frozenset[int]] = frozenset()
STEP1: Final = b"\x00\x00"

TWICE: Final = bytes.fromhex("020107000401017403616263010700040101740358595a00")
HUGE_COUNT: Final = bytes.fromhex("ffffff3f")
VALID: Final = whole(section(MALLORY, 0, text_block("ok")))


def _held(count: int) -> tuple[bytes, ...]:
    """Updates of which each lacks the clock before it: none can take effect."""
    return tuple(update(whole(section(MALLORY, 2 * number + 1, text_block("x")))) for number in range(count))


def _nest(depth: int) -> tuple[bytes, ...]:
    """One level an update."""
    return tuple(update(whole(section(MALLORY, clock, array_block(clock)))) for clock in range(depth))


OFFENCES: Final = (
    # What untrusted bytes do to pycrdt without a gate.
    Offence("a client listed twice", (update(TWICE),), MALFORMED),
    Offence("a client listed twice in a step 2", (step2(TWICE),), MALFORMED),
    Offence("any nested 26,000 deep", (update(nested_any(26_000)),), TOO_LARGE),
    Offence("any nested 200,000 deep", (update(nested_any(200_000)),), TOO_LARGE),
    Offence("any nested 65 deep", (update(nested_any(65)),), TOO_LARGE),
    Offence("shared types nested past the limit", _nest(200), TOO_LARGE),
    Offence("shared types nested past the limit in one update", (update(whole(section(MALLORY, 0, *map(array_block, range(60_000))))),), TOO_LARGE),
    Offence("shared types nested to the limit, then the top deleted", (*_nest(120), update(whole(deletions=deletions({MALLORY: [(0, 1)]})))), IGNORED),
    Offence("clock 2^32-1", (update(whole(section(MALLORY, 2**32 - 1, text_block("a")))),), MALFORMED),
    Offence("clock 2^31", (update(whole(section(MALLORY, 2**31, text_block("a")))),), MALFORMED),
    Offence("clock and length beyond 2^31", (update(whole(section(MALLORY, 2**31 - 2, text_block("abc")))),), MALFORMED),
    Offence("a GC of no length", (update(whole(section(MALLORY, 0, b"\x00\x00"))),), MALFORMED),
    Offence("a GC of no length after a gap", (update(bytes.fromhex("01010601000000")),), MALFORMED),
    Offence("no blocks for a known client", (update(whole(section(MALLORY, 0, text_block("a")))), update(uint(1) + uint(0) + uint(MALLORY) + uint(1) + b"\x00")), MALFORMED),
    Offence("a parent that is no type", (update(whole(section(MALLORY, 0, text_block("base")))), update(whole(section(MALLORY, 4, b"\x04\x00" + uint(MALLORY) + uint(0) + b"\x01a")))), MALFORMED),
    Offence("100,000 deletions for unknown clients", (update(whole(deletions=deletions({2**20 + n: [(0, 1)] for n in range(100_000)}))),), IGNORED, STEP1),
    Offence("4,000 updates that wait for others", _held(4_000), IGNORED, STEP1),
    Offence("a huge count of clients", (update(HUGE_COUNT),), TOO_LARGE | MALFORMED),
    Offence("a huge count of blocks", (update(uint(1) + HUGE_COUNT + uint(MALLORY) + b"\x00"),), TOO_LARGE | MALFORMED),
    Offence("a huge count of deletions", (update(b"\x00" + HUGE_COUNT),), TOO_LARGE | MALFORMED),
    Offence("a huge count in a step 1", (step1(HUGE_COUNT),), TOO_LARGE | MALFORMED),
    Offence("a huge count in a step 1, five bytes", (step1(bytes.fromhex("80ffffcb00")),), TOO_LARGE | MALFORMED),
    Offence("garbage after a complete update", (update(VALID + b"\xff\xff"),), MALFORMED),
    Offence("garbage after a complete message", (update(VALID) + b"\xff",), MALFORMED),
    Offence("random bytes", (update(bytes(range(7, 250))),), MALFORMED | TOO_LARGE),
    Offence("a truncated update", (update(VALID[:-3]),), MALFORMED),
    Offence("text that is not UTF-8", (update(whole(section(MALLORY, 0, b"\x04\x01\x01t\x02\xff\xfe"))),), MALFORMED),
    Offence("the left origin is the right origin", (update(whole(section(MALLORY, 0, text_block("a")))), update(whole(section(MALLORY, 1, b"\xc4" + (uint(MALLORY) + uint(0)) * 2 + sized(b"b"))))), MALFORMED),
    Offence("a Y.XmlHook", (update(whole(section(MALLORY, 0, b"\x07\x01\x01x\x05" + sized(b"hook")))),), UNSUPPORTED),
    Offence("a weak link", (update(whole(section(MALLORY, 0, b"\x07\x01\x01x\x07\x00" + uint(MALLORY) + uint(0)))),), UNSUPPORTED),
    Offence("JSON nested 1,000 deep", (update(whole(section(MALLORY, 0, b"\x05\x01\x01x" + sized(b"[" * 1000 + b"]" * 1000)))),), TOO_LARGE),
    Offence("a V2 update", (update(bytes.fromhex("000002410202010001020501008400c4130f74657874656c6c6f20776f726c6448040a0101010001010103000101010000")),), MALFORMED),
    Offence("a state vector that names 200,000 clients", (step1(uint(200_000) + b"".join(uint(n) + b"\x01" for n in range(200_000))),), TOO_LARGE),
    # What loses data without anyone being hostile must at least harm nobody.
    Offence("other content at a known clock", (update(whole(section(MALLORY, 0, text_block("first")))), update(whole(section(MALLORY, 0, text_block("other"))))), IGNORED),
    # Awareness.
    Offence("awareness of 100 KB of ff", (awareness(b"\xff" * 100_000),), MALFORMED),
    Offence("awareness of 1 MB of ff", (awareness(b"\xff" * 1_000_000),), MALFORMED),
    Offence("an awareness state of NaN", (presence(7, 1, b"NaN"),), MALFORMED),
    Offence("an awareness state with NaN inside", (presence(7, 1, b'{"x":NaN}'),), MALFORMED),
    Offence("an awareness state with Infinity inside", (presence(7, 1, b'{"x":-Infinity}'),), MALFORMED),
    Offence("an awareness state with 1e999 inside", (presence(7, 1, b'{"x":1e999}'),), MALFORMED),
    Offence("an awareness state that is a number", (presence(7, 1, b"5"),), MALFORMED),
    Offence("an awareness state that is a list", (presence(7, 1, b"[]"),), MALFORMED),
    Offence("an empty awareness state", (presence(7, 1, b""),), MALFORMED),
    Offence("an awareness state of 17 KB", (presence(7, 1, b'{"x":"' + b"x" * 17_000 + b'"}'),), TOO_LARGE),
    Offence("an awareness state of 10 MB", (presence(7, 1, b'{"x":"' + b"x" * 10_000_000 + b'"}'),), TOO_LARGE),
    Offence("an awareness state nested 7,000 deep", (presence(7, 1, b'{"x":' + b"[" * 7_000 + b"]" * 7_000 + b"}"),), TOO_LARGE | MALFORMED),
    Offence("an awareness state that is not UTF-8", (presence(7, 1, b'{"x":"\xff"}'),), MALFORMED),
    Offence("awareness of 200,000 clients", (awareness(uint(200_000) + b"".join(uint(n) + b"\x01" + sized(b"{}") for n in range(200_000))),), TOO_LARGE),
    Offence("awareness of too many clients, one by one", tuple(presence(n, 1, b"{}") for n in range(1, CLIENTS_MAX + 2)), TOO_LARGE),
    Offence("an awareness client beyond 2^53", (awareness(b"\x01" + b"\xff" * 20 + b"\x01\x01\x02{}"),), MALFORMED),
    # Frames.
    Offence("a text message", (b"hello",), MALFORMED, text=True),
    Offence("a text message that would be a sync message", (step1(b"\x00"),), MALFORMED, text=True),
    Offence("an empty message", (b"",), MALFORMED),
    Offence("a sync message of no kind", (b"\x00",), MALFORMED),
    Offence("an unknown sync message", (b"\x00\x03\x00",), MALFORMED),
    Offence("a length past the end", (b"\x00\x02\x7f\x00",), MALFORMED),
    Offence("a type of nine bytes", (b"\xff" * 9 + b"\x00",), MALFORMED),
    Offence("a query awareness with a body", (b"\x03\x00",), MALFORMED),
    Offence("unknown types", (b"\x02\x00\x04nope", b"\x04", b"\x63" + b"x" * 1000, b"\xff\x7f"), IGNORED),
    Offence("our own saved message", (b"\x74\x00\x7f",), IGNORED),
)  # fmt: skip


HARMLESS_UPDATES: Final = {
    "canonical empty update",
    "Skip struct first",
}
"""Vectors that are odd and well-formed: what can't take effect yet waits, and its sender is asked for its state."""

HARMLESS_STATE_VECTORS: Final = {"00", "clock above the doc", "client 2^53"}


def vector_offences() -> list[Offence]:
    """The malformed vectors, each once, in the frame that brings it to the function that it was made for."""
    kinds: dict[str, Any] = {
        "apply": (update, HARMLESS_UPDATES),
        "diff": (step1, HARMLESS_STATE_VECTORS),
        "sync": (lambda body: b"\x00" + body, set()),
        "aw": (awareness, set()),
    }
    offences = []
    for case in VECTORS["cases"]:
        if case["call"] not in kinds or "..." in case["hex"]:  # the shortened ones stand in the table above
            continue
        wrap, harmless = kinds[case["call"]]
        codes = IGNORED if case["name"] in harmless else MALFORMED | TOO_LARGE | UNSUPPORTED
        offences.append(Offence(f"{case['call']}: {case['name']}", (wrap(bytes.fromhex(case["hex"])),), codes))
    for hazard in VECTORS["hazards"]:
        if "hex" in hazard:
            frames = [update(bytes.fromhex(part)) for part in (hazard["base"], hazard["hex"]) if part]
            codes = IGNORED if hazard["name"] in HARMLESS_HAZARDS else MALFORMED | TOO_LARGE | UNSUPPORTED
            offences.append(Offence(f"hazard: {hazard['name']}", tuple(frames), codes))
    return offences


HARMLESS_HAZARDS: Final = {"gap without dependencies: clock 1 before clock 0"}


# ---- legal, and made to be as much work as it can be


def crowd_at_one_place(clients: int) -> bytes:
    """Each of so many clients writes a letter, all between the same two others: each must be ordered against all."""
    return whole(*[section(2**20 + n, 0, text_block("x")) for n in range(clients)])


def crowd_in_places(clients: int) -> bytes:
    """The same, each in a root of its own."""
    return whole(*[section(2**20 + n, 0, text_block("x", root=str(n))) for n in range(clients)])


def typed_letters(letters: int) -> bytes:
    """Letters typed one after the other, never joined: the reader joins them."""
    return whole(section(MALLORY, 0, text_block("a"), *[text_after("b", MALLORY, n) for n in range(letters)]))


def every_other_letter_deleted(letters: int) -> tuple[bytes, bytes]:
    """A text, and then a hole at each second letter."""
    text = whole(section(MALLORY, 0, text_block("x" * letters)))
    return text, whole(deletions=deletions({MALLORY: [(n, 1) for n in range(0, letters, 2)]}))


def many_values(count: int) -> bytes:
    """One value of that many elements."""
    return whole(section(MALLORY, 0, any_block(b"\x75" + uint(count) + b"\x7e" * count)))
