"""What an update would change, worked out before anything does.

A plan lies over what the room knows (`crdt.known`): which blocks can go in and in what order, cut to what is new; which
deletions; and what would have to wait. It raises without having changed anything, or is committed at once.
Everything that may take long is a generator that pauses (R17).
"""

from collections import deque
from collections.abc import Generator, Iterator
from heapq import heappop, heappush
from typing import Final

from crdt.blocks import Deletions, Extent, cut_block, split_values, write_slices
from crdt.errors import Malformed, TooLarge
from crdt.known import Known
from crdt.limits import GateLimits
from crdt.pairs import Fresh, pairs_between
from crdt.places import COLLECTED, KEYED, LIST_SHIFT, NOWHERE, PLAIN, Draft
from crdt.ranges import RangeSet
from crdt.update import (
    ANY,
    HAS_LEFT,
    HAS_RIGHT,
    PARENT_ID,
    REF_MASK,
    SKIP,
    STRING,
    Block,
    ParsedUpdate,
    Section,
)

EXTENT_BLOCKS: Final = 256
"""Blocks planned in one piece: slices are cut between pieces, and long plans pause there."""

FEW_RANGES: Final = 64
"""Deletions of one client up to this many are added one by one, about 1 µs each; more are united in one pass."""


class Cursor:
    """How far one client's section of the update has been planned."""

    __slots__ = ("blocks", "pending", "section", "wait")

    def __init__(self, section: Section) -> None:
        self.section = section
        self.blocks: Iterator[Block] = iter(section)
        self.pending: Block | None = None
        """The first block that is not ready."""
        self.wait: tuple[int, int] | None = None
        """What it lacks: (client, clock). None with a pending block: a gap in its own client."""


class Plan:
    """One update's changes. See the module."""

    __slots__ = (
        "_extents",
        "_known",
        "_limits",
        "_united",
        "clocks",
        "cut_pairs",
        "data",
        "has_pairs",
        "later",
        "now",
        "pairs",
        "places",
        "whole",
    )

    def __init__(self, data: bytes, known: Known, limits: GateLimits) -> None:
        self._known = known
        self._limits = limits
        self.data = data
        self.clocks: dict[int, int] = {}
        """Clients that get new clocks, to how many they then have."""
        self.places = Draft(known.places)
        self.now: Deletions = []
        """Deletions that take effect."""
        self.later: Deletions = []
        """Deletions of clocks not in effect."""
        self.whole = True
        """Whether everything so far is new and goes in as it stands."""
        self.pairs: Fresh = {}
        """Surrogate pairs in the update's text, ready or not."""
        self.has_pairs = bool(known.pairs.known)
        """Whether there is any pair an origin might cut, in the room or here."""
        self.cut_pairs: list[tuple[int, int]] = []
        """(client, clock of the second half) of pairs that the update cuts."""
        self._extents: list[tuple[int, int, int, int, int, bytes | None]] = []
        """(client, clock, block count, start byte, end byte, or the bytes of a cut block)."""
        self._united: dict[int, RangeSet] = {}
        """Clients whose deletions are many, to all of them once this goes in."""

    def find_pairs(self, parsed: ParsedUpdate) -> None:
        """Take in where the update's text has surrogate pairs. Raises `TooLarge`."""
        known = self._known
        for section in parsed.sections:
            if section.pairs is not None:
                self.pairs[section.client] = pairs_between(section.pairs, known.clock(section.client), section.end)
                self.has_pairs = True
        if self.pairs:
            limit = self._limits.pair_runs_max
            if known.pairs.run_count + sum(map(len, self.pairs.values())) > limit:
                raise TooLarge(f"text would have more than {limit} separate runs of surrogate pairs")

    def blocks(self, parsed: ParsedUpdate, step_blocks: int) -> Generator[None, None, list[Cursor]]:
        """Find the blocks that can go in, in an order in which they can: a client whose block lacks another client of the
        update is taken up again when that one has come far enough. Returns the clients that are stuck."""
        ends = {section.client: section.end for section in parsed.sections}
        stuck: dict[int, Cursor] = {}
        waiting: dict[int, list[tuple[int, int, Cursor]]] = {}
        extent_blocks = min(EXTENT_BLOCKS, self._limits.slice_blocks)
        extent_bytes = self._limits.slice_bytes
        budget = step_blocks
        turn = 0
        work: deque[Cursor] = deque()
        for section in parsed.sections:
            work.append(Cursor(section))
            while work:
                cursor = work.popleft()
                client = cursor.section.client
                more = True
                while more:
                    more = self.extent(cursor, extent_blocks, extent_bytes)
                    budget -= extent_blocks if more else 8
                    if budget <= 0:
                        budget = step_blocks
                        yield
                if cursor.pending is None:
                    stuck.pop(client, None)
                else:
                    stuck[client] = cursor
                if cursor.wait is not None:
                    other, clock = cursor.wait
                    if clock < ends.get(other, 0):
                        # The turn keeps the heap from comparing cursors, and the order the same from run to run.
                        turn += 1
                        heappush(waiting.setdefault(other, []), (clock, turn, cursor))
                queue = waiting.get(client)
                while queue and queue[0][0] < self.clocks.get(client, 0):
                    work.append(heappop(queue)[2])
        return list(stuck.values())

    def extent(self, cursor: Cursor, blocks_max: int, bytes_max: int) -> bool:
        """Plan some blocks of one client; whether there may be more to plan at once."""
        section = cursor.section
        client = section.client
        known = self._known.clocks
        overlay = self.clocks
        clock = overlay.get(client)
        if clock is None:
            clock = known.get(client, 0)
        first = clock
        places = self.places
        place = places.last(client)
        only = places.only(client)
        unkeyed = COLLECTED
        count = passed = 0
        begin = finish = -1
        cursor.wait = None
        more = False
        blocks = cursor.blocks
        block = cursor.pending
        cursor.pending = None
        if block is None:
            block = next(blocks, None)
        while block is not None:
            start, end, info, at, stop, left_client, left_clock, right_client, right_clock = block
            if end <= clock:
                self.whole = False
                passed += 1
                if passed >= blocks_max:
                    more = True
                    break
                block = next(blocks, None)
                continue
            if start > clock or info == SKIP:
                cursor.pending = block
                break
            # The parser made sure that a block's own client's origins lie before it, so they are in.
            if left_client != client and info & (HAS_LEFT | PARENT_ID) and start == clock:  # noqa: SIM102  readable
                if left_clock >= known.get(left_client, 0) and left_clock >= overlay.get(left_client, 0):
                    cursor.pending = block
                    cursor.wait = (left_client, left_clock)
                    break
            if right_client != client and info & HAS_RIGHT:  # noqa: SIM102  as above
                if right_clock >= known.get(right_client, 0) and right_clock >= overlay.get(right_client, 0):
                    cursor.pending = block
                    cursor.wait = (right_client, right_clock)
                    break
            cut: bytes | None = None
            pieces = 1
            if start < clock:
                self.whole = False
                cut = cut_block(self.data[at:stop], client, start, clock, end)
                info = info & ~PARENT_ID | HAS_LEFT
                left_client, left_clock = client, clock - 1
            origins = info & (HAS_LEFT | HAS_RIGHT)
            if left_client == client and left_clock == clock - 1 and origins == HAS_LEFT:
                # Typed on after its own last item: in the same list.
                home = place >> LIST_SHIFT
            elif (
                only >= 0
                and origins
                and (left_client == client or not origins & HAS_LEFT)
                and (right_client == client or not origins & HAS_RIGHT)
            ):
                # Between its own items, which all lie in one list.
                home = only >> LIST_SHIFT
            else:
                left = (left_client, left_clock)
                home = places.home(info, left, (right_client, right_clock), self.data, at)
            ref = info & REF_MASK
            if home != unkeyed and end - clock > 1:
                if not places.traits(home) & KEYED:
                    unkeyed = home
                elif ref in (ANY, STRING):
                    cut, pieces = one_by_one(cut or self.data[at:stop], ref, client, clock)
                    self.whole = False
            own_place = home << LIST_SHIFT if ref in PLAIN else places.place(ref, home, self._limits.type_depth_max)
            if own_place != place:
                place = own_place
                only = NOWHERE
                places.append(client, clock, place)
            if self.has_pairs and info & (HAS_LEFT | HAS_RIGHT):
                self.note_cuts(info, left_client, left_clock, right_client, right_clock)
            if cut is not None:
                if count:
                    self._extents.append((client, first, count, begin, finish, None))
                    count = 0
                    begin = -1
                self._extents.append((client, clock, pieces, at, stop, cut))
                clock = first = end
                overlay[client] = clock
            else:
                if begin < 0:
                    begin = at
                finish = stop
                count += 1
                clock = end
                if count >= blocks_max or finish - begin >= bytes_max:
                    more = True
                    break
            block = next(blocks, None)
        if count:
            self._extents.append((client, first, count, begin, finish, None))
            overlay[client] = clock
        return more

    def note_cuts(self, info: int, left_client: int, left_clock: int, right_client: int, right_clock: int) -> None:
        """Notice an insertion between the halves of a pair."""
        pairs = self._known.pairs
        if info & HAS_LEFT and pairs.is_cut_at(self.pairs, left_client, left_clock + 1):
            self.cut_pairs.append((left_client, left_clock + 1))
        if info & HAS_RIGHT and pairs.is_cut_at(self.pairs, right_client, right_clock):
            self.cut_pairs.append((right_client, right_clock))

    def deletions(self, parsed: ParsedUpdate, step_blocks: int) -> Generator[None, None, None]:
        """Sort the deletions into `now` and `later`, after the blocks are planned."""
        known = self._known
        budget = step_blocks
        for client, ranges in parsed.deletions:
            clock = self.clocks.get(client) or known.clock(client)
            deleted = known.deletions.get(client)
            now: list[tuple[int, int]] = []
            later: list[tuple[int, int]] = []
            for start, end in ranges:
                budget -= 1
                if budget <= 0:
                    budget = step_blocks
                    yield
                if end > clock:
                    later.append((max(start, clock), end))
                    end = clock  # noqa: PLW2901  the part that is ready
                    self.whole = False
                    if start >= end:
                        continue
                if deleted is None or not deleted.overlaps(start, end):
                    now.append((start, end))
                else:
                    self.whole = False
                    now += deleted.missing(start, end)
                if self.has_pairs:
                    self.cut_pairs += known.pairs.cut_by(self.pairs, client, start, end)
            if now:
                self.now.append((client, now))
                if len(now) > FEW_RANGES:
                    self._united[client] = yield from (deleted or RangeSet()).uniting(now, step_blocks)
            if later:
                self.later.append((client, later))

    def few_deletions(self, parsed: ParsedUpdate) -> bool:
        """The same for a few that all go in as they stand; False, with the plan spoilt, if they don't."""
        known = self._known
        few = min(FEW_RANGES, self._limits.slice_blocks - parsed.block_count)
        for client, ranges in parsed.deletions:
            clock = self.clocks.get(client) or known.clock(client)
            deleted = known.deletions.get(client)
            if ranges[-1][1] > clock or len(ranges) > few:
                return False
            for start, end in ranges:
                if deleted is not None and deleted.overlaps(start, end):
                    return False
                if self.has_pairs:
                    self.cut_pairs += known.pairs.cut_by(self.pairs, client, start, end)
        self.now = parsed.deletions
        return True

    def write(self, *, whole: bool) -> Generator[None, None, list[bytes]]:
        """What goes in, as bytes in slices; the raw ones if that is all of it (`whole`) and in one go."""
        limits = self._limits
        if not self.clocks and not self.now:
            return []
        if whole and self.whole and len(self.data) <= limits.slice_bytes:
            count = sum([extent[2] for extent in self._extents]) + sum([len(ranges) for _, ranges in self.now])
            if count <= limits.slice_blocks:
                return [self.data]
        data = self.data
        extents = (
            Extent(client, clock, count, cut if cut is not None else data[start:stop])
            for client, clock, count, start, stop, cut in self._extents
        )
        slices = []
        for part in write_slices(extents, self.now, slice_blocks=limits.slice_blocks, slice_bytes=limits.slice_bytes):
            slices.append(part)
            yield
        return slices

    def commit(self) -> None:
        """Make the plan true."""
        known = self._known
        for client, pairs in self.pairs.items():
            if client in self.clocks:
                known.pairs.add(client, pairs, known.clock(client), self.clocks[client])
        known.clocks.update(self.clocks)
        self.places.commit()
        for client, ranges in self.now:
            united = self._united.get(client)
            if united is not None:
                known.deletions.put(client, united)
            else:
                for start, end in ranges:
                    known.deletions.add(client, start, end)
        if self.cut_pairs:
            known.pairs.note_cut(self.cut_pairs)
        digest = known.digest
        if digest is not None:
            digest.stale_clocks.update(self.clocks)
            digest.stale_deletions.update([client for client, _ in self.now])


def one_by_one(block: bytes, ref: int, client: int, clock: int) -> tuple[bytes, int]:
    """A block of several values under a key, as so many blocks. Raises `Malformed` for text.

    An entry of a key is one value. Yjs writes several in one block once they are overwritten, if it does not
    collect. But pycrdt must not have to divide them: it keeps the first as if it were not overwritten, and
    that one survives its parent, with a pointer to freed memory (0.14.13).
    """
    if ref == STRING:
        raise Malformed("text of several characters under a key")
    blocks = split_values(block, client, clock)
    return b"".join(blocks), len(blocks)
