"""Strict parser of Yjs V1 updates: checks every byte, and says where each block is and what it depends on.

Knows the format and its bounds, nothing of any room. What it accepts, pycrdt and Yjs read alike; what no honest editor
writes is refused whole, never repaired (protocol reference, section 2; the hostile inputs of the gate, 1-3).
Content is not kept: a block is a tuple of numbers that point into the raw bytes, so that the gate can let the same
bytes through untouched, or cut them.
"""

import re
from array import array
from codecs import getincrementaldecoder
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Final

from crdt.content import (
    NO_BUDGET,
    SMALL_JSON,
    check_small_json,
    check_text,
    long_uint,
    scan_any,
    scan_json,
)
from crdt.errors import Malformed, TooLarge, Unsupported
from crdt.limits import GateLimits
from crdt.ranges import RangeSet

GC: Final = 0
DELETED: Final = 1
STRING: Final = 4
TYPE: Final = 7
ANY: Final = 8
SKIP: Final = 10
REF_MASK: Final = 0x1F
"""Content kinds as the low five bits of the info byte; 2 JSON, 3 binary, 5 embed, 6 format, 9 subdocument."""

HAS_LEFT: Final = 0x80
HAS_RIGHT: Final = 0x40
HAS_KEY: Final = 0x20
PARENT_ID: Final = 0x100
"""Beyond the info byte: the parent is an item, and its id stands in the fields of the left origin."""

CLOCK_END: Final = 2**31
"""A block ends below this clock. pycrdt accepts more and panics on every later update of that client."""

Block = tuple[int, int, int, int, int, int, int, int, int]
"""(clock, end clock, info with the flags above, start byte, end byte, left client, left clock, right client, right
clock). Origins that are absent are 0, 0: the info byte tells."""

_BLOCK_FIELDS: Final = 9
_PACK_BLOCKS: Final = 4096
"""Blocks of one client kept as tuples (230 bytes each) before they are packed into an array (72 bytes each)."""

_LONG_TEXT: Final = 64 * 1024
"""Text and JSON longer than this, in bytes, is checked in pieces with pauses between (R17)."""

_UTF8: Final = getincrementaldecoder("utf-8")
_PAIRS: Final = re.compile("[\U00010000-\U0010ffff]+")


class Section:
    """One client's blocks in an update, in clock order without gaps (a Skip counts as a block)."""

    __slots__ = ("_packed", "_recent", "client", "clock", "count", "end", "pairs", "start", "stop")

    def __init__(self, client: int, clock: int, start: int) -> None:
        self.client = client
        self.clock = clock
        """First clock."""
        self.end = clock
        """Clock after the last block."""
        self.count = 0
        self.start = start
        """Position of the first block's first byte."""
        self.stop = start
        """Position after the last block."""
        self.pairs: RangeSet | None = None
        """Clocks of surrogate pairs in its text; a range begins with the first half of one."""
        self._recent: list[Block] = []
        self._packed: list[array[int]] = []

    def pack(self) -> None:
        """Put the recent blocks away in compact form."""
        self._packed.append(array("q", chain.from_iterable(self._recent)))
        self._recent.clear()

    def __iter__(self) -> Iterator[Block]:
        if not self._packed:
            return iter(self._recent)
        # zip over one iterator named nine times regroups the flat numbers into blocks without a Python loop.
        grouped = (zip(*[iter(flat)] * _BLOCK_FIELDS, strict=True) for flat in self._packed)
        return chain(chain.from_iterable(grouped), self._recent)


class ParsedUpdate:
    """One update, checked whole."""

    __slots__ = ("block_count", "data", "deletions", "sections")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sections: list[Section] = []
        self.deletions: list[tuple[int, list[tuple[int, int]]]] = []
        """Per client: its delete ranges `[start, end)`, ascending and disjoint."""
        self.block_count = 0


def parse_update(data: bytes, limits: GateLimits) -> ParsedUpdate:
    """Check a whole update. Raises `Malformed`, `TooLarge` or `Unsupported`."""
    steps = parse_steps(data, limits, NO_BUDGET)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        parsed: ParsedUpdate = stop.value
        return parsed


def parse_steps(data: bytes, limits: GateLimits, step_blocks: int) -> Generator[None, None, ParsedUpdate]:
    """The same, pausing after every `step_blocks` blocks, values or delete ranges: about 1 µs of work each.

    One long function on purpose: it is the hottest loop of the server, and a call per integer would double it.
    """
    size = len(data)
    if size > limits.update_bytes_max:
        raise TooLarge(f"update is {size} bytes, limit is {limits.update_bytes_max}")
    parsed = ParsedUpdate(data)
    any_depth_max = limits.any_depth_max
    budget = step_blocks
    try:
        pos = 1
        clients = data[0]
        if clients >= 0x80:
            clients, pos = long_uint(data, 0)
        if clients > limits.clients_max:
            raise TooLarge(f"update lists {clients} clients, limit is {limits.clients_max}")
        seen: set[int] = set()
        total = 0
        for _ in range(clients):
            count = data[pos]
            pos += 1
            if count >= 0x80:
                count, pos = long_uint(data, pos - 1)
            id_start = pos
            client = data[pos]
            pos += 1
            if client >= 0x80:
                client, pos = long_uint(data, pos - 1)
            id_bytes = data[id_start:pos]
            id_size = pos - id_start
            clock = data[pos]
            pos += 1
            if clock >= 0x80:
                clock, pos = long_uint(data, pos - 1)
            if count == 0:
                raise Malformed(f"client {client} is listed without blocks")
            if count > size - pos:
                raise Malformed(f"{count} blocks announced in {size - pos} bytes")
            total += count
            if total > limits.blocks_max:
                raise TooLarge(f"update holds {total} blocks or more, limit is {limits.blocks_max}")
            if client in seen:
                raise Malformed(f"client {client} is listed twice")
            seen.add(client)
            section = Section(client, clock, pos)
            blocks = section._recent  # noqa: SLF001  one list for the loop below; pack() empties it in place
            for _ in range(count):
                start = pos
                info = data[pos]
                pos += 1
                left_client = left_clock = right_client = right_clock = 0
                if info & 0xC0:
                    if info & HAS_LEFT:
                        # Most origins are the same client's: comparing its bytes is cheaper than reading five.
                        if data.startswith(id_bytes, pos):
                            left_client = client
                            pos += id_size
                        else:
                            left_client = data[pos]
                            pos += 1
                            if left_client >= 0x80:
                                left_client, pos = long_uint(data, pos - 1)
                        left_clock = data[pos]
                        pos += 1
                        if left_clock >= 0x80:
                            left_clock, pos = long_uint(data, pos - 1)
                    if info & HAS_RIGHT:
                        if data.startswith(id_bytes, pos):
                            right_client = client
                            pos += id_size
                        else:
                            right_client = data[pos]
                            pos += 1
                            if right_client >= 0x80:
                                right_client, pos = long_uint(data, pos - 1)
                        right_clock = data[pos]
                        pos += 1
                        if right_clock >= 0x80:
                            right_clock, pos = long_uint(data, pos - 1)
                        if left_clock == right_clock and left_client == right_client and info & HAS_LEFT:
                            raise Malformed("left and right origin are the same item")
                        if right_client == client and right_clock >= clock:
                            raise Malformed(f"block at clock {clock} has a right origin in its own future")
                    if left_client == client and left_clock >= clock and info & HAS_LEFT:
                        raise Malformed(f"block at clock {clock} has a left origin in its own future")
                    if left_clock >= CLOCK_END or right_clock >= CLOCK_END:
                        raise Malformed("an origin's clock is not below 2^31")
                elif info != GC and info != SKIP:  # noqa: PLR1714  two int comparisons are faster than a tuple
                    named = data[pos]
                    pos += 1
                    if named == 1:
                        length = data[pos]
                        pos += 1
                        if length >= 0x80:
                            length, pos = long_uint(data, pos - 1)
                        end = pos + length
                        if end > size:
                            raise Malformed(f"root name of {length} bytes passes the {size - pos} bytes left")
                        check_text(data[pos:end])
                        pos = end
                    elif named == 0:
                        left_client = data[pos]
                        pos += 1
                        if left_client >= 0x80:
                            left_client, pos = long_uint(data, pos - 1)
                        left_clock = data[pos]
                        pos += 1
                        if left_clock >= 0x80:
                            left_clock, pos = long_uint(data, pos - 1)
                        if left_clock >= CLOCK_END:
                            raise Malformed("a parent's clock is not below 2^31")
                        if left_client == client and left_clock >= clock:
                            raise Malformed(f"block at clock {clock} has a parent in its own future")
                        info |= PARENT_ID
                    else:
                        raise Malformed(f"parent is of unknown kind {named}")
                    if info & HAS_KEY:
                        length = data[pos]
                        pos += 1
                        if length >= 0x80:
                            length, pos = long_uint(data, pos - 1)
                        end = pos + length
                        if end > size:
                            raise Malformed(f"key of {length} bytes passes the {size - pos} bytes left")
                        check_text(data[pos:end])
                        pos = end

                ref = info & REF_MASK
                units = 1
                if ref == STRING:
                    length = data[pos]
                    pos += 1
                    if length >= 0x80:
                        length, pos = long_uint(data, pos - 1)
                    end = pos + length
                    if end > size:
                        raise Malformed(f"text of {length} bytes passes the {size - pos} bytes left")
                    raw = data[pos:end]
                    if raw.isascii():
                        units = length
                    else:
                        units = 0
                        decoder = _UTF8()
                        for chunk in range(pos, end, _LONG_TEXT):
                            if chunk > pos:
                                yield
                            try:
                                text = decoder.decode(
                                    data[chunk : min(chunk + _LONG_TEXT, end)], chunk + _LONG_TEXT >= end
                                )
                            except UnicodeDecodeError:
                                raise Malformed("text is not valid utf-8") from None
                            units += _measure(text, section, clock + units, limits)
                    pos = end
                elif ref == GC or ref == SKIP or ref == DELETED:  # noqa: PLR1714, SIM109  as above
                    if ref not in (info, DELETED):
                        raise Malformed(f"block of kind {ref} has flags {info & 0xE0:#x}")
                    units = data[pos]
                    pos += 1
                    if units >= 0x80:
                        units, pos = long_uint(data, pos - 1)
                elif ref == ANY:
                    units = data[pos]
                    pos += 1
                    if units >= 0x80:
                        units, pos = long_uint(data, pos - 1)
                    if units > size - pos:
                        raise Malformed(f"{units} values announced in {size - pos} bytes")
                    levels = [units]
                    pos = scan_any(data, pos, levels, any_depth_max, step_blocks)
                    while levels:
                        yield
                        pos = scan_any(data, pos, levels, any_depth_max, step_blocks)
                elif ref == 6 or ref == 5:  # noqa: PLR1714  as above; format, embed
                    if ref == 6:
                        length = data[pos]
                        pos += 1
                        if length >= 0x80:
                            length, pos = long_uint(data, pos - 1)
                        end = pos + length
                        if end > size:
                            raise Malformed(f"format key of {length} bytes passes the {size - pos} bytes left")
                        check_text(data[pos:end])
                        pos = end
                    length = data[pos]
                    pos += 1
                    if length >= 0x80:
                        length, pos = long_uint(data, pos - 1)
                    end = pos + length
                    if end > size:
                        raise Malformed(f"json of {length} bytes passes the {size - pos} bytes left")
                    raw = data[pos:end]
                    if length <= SMALL_JSON:
                        check_small_json(raw, any_depth_max)
                    else:
                        decoder = _UTF8()
                        for chunk in range(0, length, _LONG_TEXT):
                            if chunk > 0:
                                yield
                            try:
                                decoder.decode(raw[chunk : chunk + _LONG_TEXT], chunk + _LONG_TEXT >= length)
                            except UnicodeDecodeError:
                                raise Malformed("text is not valid utf-8") from None
                        stack: list[int] = []
                        at = scan_json(raw, 0, stack, any_depth_max, step_blocks)
                        while at >= 0:
                            yield
                            at = scan_json(raw, at, stack, any_depth_max, step_blocks)
                    pos = end
                elif ref == TYPE:
                    kind = data[pos]
                    pos += 1
                    if kind == 3:
                        length = data[pos]
                        pos += 1
                        if length >= 0x80:
                            length, pos = long_uint(data, pos - 1)
                        end = pos + length
                        if end > size:
                            raise Malformed(f"node name of {length} bytes passes the {size - pos} bytes left")
                        check_text(data[pos:end])
                        pos = end
                    elif kind > 6 or kind == 5:
                        # 5 is Y.XmlHook, 7 a weak link: no pycrdt document can hold either.
                        raise Unsupported(f"shared type of kind {kind}")
                elif ref == 3 or ref == 9:  # noqa: PLR1714  as above; binary, subdocument
                    length = data[pos]
                    pos += 1
                    if length >= 0x80:
                        length, pos = long_uint(data, pos - 1)
                    end = pos + length
                    if end > size:
                        raise Malformed(f"content of {length} bytes passes the {size - pos} bytes left")
                    if ref == 9:
                        check_text(data[pos:end])
                        pos = end
                        if data[pos] != 118:
                            raise Malformed("a subdocument's options are not a map")
                        levels = [1]
                        pos = scan_any(data, pos, levels, any_depth_max, step_blocks)
                        while levels:
                            yield
                            pos = scan_any(data, pos, levels, any_depth_max, step_blocks)
                    else:
                        pos = end
                elif ref == 2:
                    # Yjs before 13.0 wrote it; pycrdt 0.14.13 reads one string too many and takes the next block for it.
                    raise Unsupported("content of kind 2 (JSON of Yjs 12)")
                else:
                    raise Unsupported(f"content of kind {ref}")

                if units == 0:
                    raise Malformed(f"block at clock {clock} has length 0")
                end = clock + units
                if end >= CLOCK_END:
                    raise Malformed(f"block ends at clock {end}, not below 2^31")
                blocks.append((clock, end, info, start, pos, left_client, left_clock, right_client, right_clock))
                clock = end
                budget -= 1
                if len(blocks) >= _PACK_BLOCKS:
                    section.pack()
                if budget <= 0:
                    budget = step_blocks
                    yield
            section.end = clock
            section.count = count
            section.stop = pos
            parsed.sections.append(section)
        parsed.block_count = total

        clients = data[pos]
        pos += 1
        if clients:
            if clients >= 0x80:
                clients, pos = long_uint(data, pos - 1)
            if clients > limits.clients_max:
                raise TooLarge(f"update deletes from {clients} clients, limit is {limits.clients_max}")
            seen = set()
            total = 0
            for _ in range(clients):
                client = data[pos]
                pos += 1
                if client >= 0x80:
                    client, pos = long_uint(data, pos - 1)
                count = data[pos]
                pos += 1
                if count >= 0x80:
                    count, pos = long_uint(data, pos - 1)
                # A client without any range is harmless, and pycrdt writes it (0.14.13, in updates it merged).
                if count * 2 > size - pos:
                    raise Malformed(f"{count} deletions announced in {size - pos} bytes")
                total += count
                if total > limits.delete_ranges_max:
                    raise TooLarge(f"update holds {total} deletions or more, limit is {limits.delete_ranges_max}")
                if client in seen:
                    raise Malformed(f"client {client} is listed twice in the deletions")
                seen.add(client)
                ranges: list[tuple[int, int]] = []
                last = 0
                for _ in range(count):
                    clock = data[pos]
                    pos += 1
                    if clock >= 0x80:
                        clock, pos = long_uint(data, pos - 1)
                    length = data[pos]
                    pos += 1
                    if length >= 0x80:
                        length, pos = long_uint(data, pos - 1)
                    if length == 0:
                        raise Malformed(f"deletion at clock {clock} has length 0")
                    if clock < last:
                        raise Malformed(f"deletion at clock {clock} comes after one that ends at {last}")
                    last = clock + length
                    if last >= CLOCK_END:
                        raise Malformed(f"deletion ends at clock {last}, not below 2^31")
                    ranges.append((clock, last))
                    budget -= 1
                    if budget <= 0:
                        budget = step_blocks
                        yield
                if ranges:
                    parsed.deletions.append((client, ranges))
        if pos != size:
            raise Malformed(f"{size - pos} bytes left over after the update")
    except IndexError:
        # Every read of a byte past the end lands here; slices are checked where they are taken.
        raise Malformed("update ends early") from None
    return parsed


def _measure(text: str, section: Section, clock: int, limits: GateLimits) -> int:
    """UTF-16 units of a text at `clock`; notes where it has surrogate pairs."""
    units = len(text)
    pairs = section.pairs
    for run in _PAIRS.finditer(text):
        if pairs is None:
            pairs = section.pairs = RangeSet()
        start, end = run.span()
        pairs.append(clock + start, clock + end + end - start)
        # Each pair is one character and two units, so all that follows lies one clock further.
        clock += end - start
        units += end - start
    if pairs is not None and len(pairs) > limits.pair_runs_max:
        raise TooLarge(f"text has more than {limits.pair_runs_max} separate runs of surrogate pairs")
    return units
