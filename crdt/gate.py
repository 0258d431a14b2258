"""The gate of one room: what of a peer's update reaches the document and the other peers, and when.

pycrdt must see an update only when everything it depends on is in: else it loses edits, or the process (protocol
reference, section 7). So the gate checks each update whole (`crdt.update`), lets through the part that is new and ready
and holds back the rest until its gap closes (`crdt.hold`, R2). It keeps, per client, how many clocks are in effect,
which of them are deleted and how deep items are nested: numbers, never content. The same updates in the same order
give the same answers, so a journal replays to the same room.

What is refused is refused before anything changes. One case can't be: a part that was held and turns out to be
impossible when its parent arrives is dropped then, and `Admission.refused` says whose it was.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final, NamedTuple

from crdt.blocks import Deletions, Extent, cut_block, read_parent, split_values, write_slices
from crdt.content import NO_BUDGET
from crdt.digest import Digest
from crdt.errors import LocalError, Malformed, RemoteError, TooLarge
from crdt.hold import (
    SPAN_COST,
    WAKE_BLOCKS,
    WAKE_DELETIONS,
    WAKE_UPDATE,
    HeldBlock,
    Hold,
    Need,
    Span,
    Wake,
)
from crdt.limits import GateLimits
from crdt.places import COLLECTED, KEYED, LIST_SHIFT, NOWHERE, PARENT, Draft, Place, Places, pack_id
from crdt.ranges import IdSet, RangeSet
from crdt.state_vector import encode_state_vector
from crdt.update import (
    ANY,
    DELETED,
    GC,
    HAS_LEFT,
    HAS_RIGHT,
    PARENT_ID,
    REF_MASK,
    SKIP,
    STRING,
    TYPE,
    Block,
    ParsedUpdate,
    Section,
    parse_steps,
    parse_update,
)

__all__ = ["Admission", "Gate", "GateLimits"]

EXTENT_BLOCKS: Final = 256
"""Blocks planned in one piece: slices are cut between pieces, and long plans pause there."""

STEP_BLOCKS: Final = 4_000
"""Blocks between two pauses of `admit_steps`: about 4 ms on the build machine, 2025-11."""


PLAIN: Final = frozenset((3, STRING, 5, 6, ANY, 9))
"""Kinds of content that are never a parent and have no depth of their own."""


class Admission(NamedTuple):
    """What one admitted update means for the room."""

    updates: tuple[bytes, ...] = ()
    """What takes effect now: apply and send in this order. The raw bytes themselves where all of them are new."""
    owners: tuple[int, ...] = ()
    """The owner of each of `updates`: released parts belong to who sent them."""
    settled: tuple[int, ...] = ()
    """Refs of which now every part is in effect: this one, and ones that waited."""
    waiting: bool = False
    """Whether a part of this update is held, or it repeats a held one."""
    journal: bool = False
    """Whether the raw bytes add anything, even if only held: they must be journaled."""
    refused: tuple[tuple[int, RemoteError], ...] = ()
    """Waiting refs that turned out to hold an impossible part, dropped now. They never settle."""


class _Cursor:
    """How far one client's section of the update has been planned."""

    __slots__ = ("blocks", "pending", "section", "wait")

    def __init__(self, section: Section) -> None:
        self.section = section
        self.blocks: Iterator[Block] = iter(section)
        self.pending: Block | None = None
        """The first block that is not ready."""
        self.wait: tuple[int, int] | None = None
        """What it lacks: (client, clock). None with a pending block: a gap in its own client."""


class _Plan:
    """What an update would change, decided before anything does."""

    __slots__ = ("clocks", "cut_pairs", "data", "extents", "has_pairs", "pairs", "places", "whole")

    def __init__(self, data: bytes, places: Places) -> None:
        self.data = data
        self.clocks: dict[int, int] = {}
        """Clients that get new clocks, to how many they then have."""
        self.places = Draft(places)
        self.pairs: dict[int, RangeSet] = {}
        """Surrogate pairs in the update's text, ready or not."""
        self.has_pairs = False
        """Whether there is any pair an origin might cut, in the room or here."""
        self.cut_pairs: list[tuple[int, int]] = []
        """(client, clock of the second half) of pairs that the update cuts."""
        self.extents: list[tuple[int, int, int, int, int, bytes | None]] = []
        """(client, clock, block count, start byte, end byte, or the bytes of a cut block)."""
        self.whole = True
        """Whether every block so far goes in as it stands."""


def pairs_between(pairs: RangeSet, start: int, end: int) -> RangeSet:
    """The whole pairs in `[start, end)`. Where an edge cuts one, the text was cut there and the halves written as U+FFFD."""
    part = pairs.clipped(start, end)
    for edge, half in ((start, start), (end, end - 1)):
        first = pairs.start_of(edge)
        if first is not None and (edge - first) & 1:
            part.remove(half, half + 1)
    return part


class Gate:
    """Decides what of a room's updates reaches its document, and when. See the module's docstring."""

    __slots__ = ("_clocks", "_deletions", "_digest", "_hold", "_limits", "_pair_runs", "_pairs", "_places", "cut_pairs")

    def __init__(self, limits: GateLimits | None = None) -> None:
        self._limits = limits or GateLimits()
        self._clocks: dict[int, int] = {}
        self._deletions = IdSet()
        self._places = Places()
        self._pairs: dict[int, RangeSet] = {}
        """Per client the clocks of surrogate pairs in its text; a range begins with the first half of one."""
        self._pair_runs = 0
        self.cut_pairs = IdSet()
        """Clocks of pairs that an edit in effect cut in two: both halves read U+FFFD since, in Yjs. pycrdt does it
        wrong, up to crashing, so once this is not empty it must not see those texts: see `crdt.document`."""
        self._hold: Hold | None = None
        self._digest: Digest | None = None

    # -- what the room knows -------------------------------------------------------------------------------------

    @property
    def clocks(self) -> Mapping[int, int]:
        """Clocks in effect per client: all of `[0, n)`. A live view."""
        return MappingProxyType(self._clocks)

    @property
    def deletions(self) -> IdSet:
        """Deletions in effect. Look, don't change."""
        return self._deletions

    @property
    def held_updates(self) -> int:
        """Updates of which a part waits."""
        return len(self._hold.needs) if self._hold is not None else 0

    @property
    def held_bytes(self) -> int:
        """Bytes of waiting parts with their bookkeeping."""
        return self._hold.bytes if self._hold is not None else 0

    def relimit(self, limits: GateLimits) -> None:
        """Other limits from now on: what is stored is admitted without some of those that peers are held to."""
        self._limits = limits
        if self._hold is not None:
            self._hold.relimit(limits)

    def state_vector(self) -> bytes:
        """`clocks`, encoded for step 1."""
        return encode_state_vector(self._clocks)

    def digests(self) -> tuple[bytes, bytes]:
        """8-byte hashes of clocks and of deletions, equal where the sets are (R5). Hashes what changed since last time."""
        if self._digest is None:
            self._digest = Digest(self._clocks, self._deletions)
        return self._digest.hashes(self._clocks, self._deletions)

    def missing(self) -> dict[int, int]:
        """Clients that held parts wait for, to the first clock of each that is not in effect."""
        if self._hold is None:
            return {}
        return {client: self._clocks.get(client, 0) for client in sorted(self._hold.waited_for())}

    # -- admitting -----------------------------------------------------------------------------------------------

    def admit(self, update: bytes, *, ref: int, owner: int) -> Admission:
        """Check an update and say what of it takes effect.

        `ref` names it in `settled` and `refused` (unique per gate), `owner` is charged for what is held. The caller
        applies and sends `updates` in order, and journals the raw bytes if told to. Raises `Malformed`, `TooLarge`,
        `Unsupported` or `HoldOverflow` with nothing changed.
        """
        parsed = parse_update(update, self._limits)
        if self._hold is None and len(parsed.sections) <= 1 and len(parsed.deletions) <= 1:
            admission = self._admit_edit(parsed, ref, owner)
            if admission is not None:
                return admission
        steps = self._admit_parsed(parsed, ref, owner, NO_BUDGET)
        try:
            while True:
                next(steps)
        except StopIteration as stop:
            admitted: Admission = stop.value
            return admitted

    def admit_steps(
        self, update: bytes, *, ref: int, owner: int, step_blocks: int = STEP_BLOCKS
    ) -> Generator[None, None, Admission]:
        """The same for large updates, pausing so that the loop is never held long (R17).

        No other update may be admitted in between. It may be closed at any pause: nothing has changed then.
        """
        parsed = yield from parse_steps(update, self._limits, step_blocks)
        return (yield from self._admit_parsed(parsed, ref, owner, step_blocks))

    def _admit_edit(self, parsed: ParsedUpdate, ref: int, owner: int) -> Admission | None:
        """The common case without its generality: an edit of one client that goes in as it stands, nothing being held.

        None if it is not that; nothing has changed then.
        """
        limits = self._limits
        data = parsed.data
        if len(data) > limits.slice_bytes or parsed.block_count > limits.slice_blocks:
            return None
        clocks = self._clocks
        plan = _Plan(data, self._places)
        plan.has_pairs = bool(self._pairs)
        for section in parsed.sections:
            if section.pairs is not None or section.clock != clocks.get(section.client, 0):
                return None
            cursor = _Cursor(section)
            self._plan_extent(plan, cursor, NO_BUDGET, NO_BUDGET)
            if cursor.pending is not None or not plan.whole:
                return None
        deletions = parsed.deletions
        for client, ranges in deletions:
            clock = plan.clocks.get(client) or clocks.get(client, 0)
            known = self._deletions.get(client)
            if ranges[-1][1] > clock or parsed.block_count + len(ranges) > limits.slice_blocks:
                return None
            for start, end in ranges:
                if known is not None and known.overlaps(start, end):
                    return None
                if plan.has_pairs:
                    plan.cut_pairs += self._cut_by(plan.pairs, client, start, end)
        if not plan.clocks and not deletions:
            return Admission(settled=(ref,))
        self._commit(plan, deletions)
        return Admission((data,), (owner,), (ref,), False, True)  # noqa: FBT003  in field order

    def _admit_parsed(
        self, parsed: ParsedUpdate, ref: int, owner: int, step_blocks: int
    ) -> Generator[None, None, Admission]:
        plan = _Plan(parsed.data, self._places)
        for section in parsed.sections:
            if section.pairs is not None:
                known = self._clocks.get(section.client, 0)
                plan.pairs[section.client] = pairs_between(section.pairs, known, section.end)
        plan.has_pairs = bool(plan.pairs or self._pairs)
        if plan.pairs and self._pair_runs + sum(map(len, plan.pairs.values())) > self._limits.pair_runs_max:
            raise TooLarge(f"text would have more than {self._limits.pair_runs_max} separate runs of surrogate pairs")
        cursors = yield from self._plan_blocks(parsed, plan, step_blocks)
        fresh, held, all_fresh = yield from self._plan_deletions(parsed, plan, step_blocks)
        stuck = [cursor for cursor in cursors if cursor.pending is not None]
        added = bool(plan.clocks or fresh)

        raw = parsed.data if plan.whole and all_fresh and not stuck else None
        if not stuck and not held:
            own = self._write(plan, fresh, raw=raw) if added else []
            self._commit(plan, fresh)
            hold = self._hold
            if hold is None or not any(hold.wakes(client, clock) for client, clock in plan.clocks.items()):
                return Admission(tuple(own), (owner,) * len(own), (ref,), False, added)  # noqa: FBT003  in field order
            seeds = [wake for client, clock in plan.clocks.items() for wake in hold.woken(client, clock)]
            return self._release(hold, seeds, own, ref, owner, journal=added)

        blocks, spans, needs = yield from self._plan_hold(parsed.data, stuck, held, ref, owner, step_blocks)
        own = self._write(plan, fresh, raw=None) if added else []
        # Nothing can be refused from here on.
        self._commit(plan, fresh)
        hold = self._hold
        if hold is None:
            hold = self._hold = Hold(self._limits)
        for client, block in blocks:
            hold.add_block(client, block)
        for client, span in spans:
            hold.add_span(client, span)
        hold.add_update(ref, Need(owner, needs))
        seeds = [wake for client, clock in plan.clocks.items() for wake in hold.woken(client, clock)]
        seeds += [(WAKE_BLOCKS, client) for client in dict.fromkeys(client for client, _ in blocks)]
        seeds.append((WAKE_UPDATE, ref))
        return self._release(hold, seeds, own, ref, owner, journal=added or bool(blocks or spans))

    # -- planning: nothing changes -------------------------------------------------------------------------------

    def _plan_blocks(
        self, parsed: ParsedUpdate, plan: _Plan, step_blocks: int
    ) -> Generator[None, None, list[_Cursor]]:
        """Find the blocks that can go in, in an order in which they can: a client whose block lacks another client of the
        update is taken up again when that one has come far enough. Returns all clients, stuck or done."""
        cursors = [_Cursor(section) for section in parsed.sections]
        ends = {section.client: section.end for section in parsed.sections}
        waiting: dict[int, list[tuple[int, int, _Cursor]]] = {}
        work = deque(cursors)
        extent_blocks = min(EXTENT_BLOCKS, self._limits.slice_blocks)
        extent_bytes = self._limits.slice_bytes
        budget = step_blocks
        turn = 0
        while work:
            cursor = work.popleft()
            client = cursor.section.client
            more = True
            while more:
                more = self._plan_extent(plan, cursor, extent_blocks, extent_bytes)
                budget -= extent_blocks if more else 4
                if budget <= 0:
                    budget = step_blocks
                    yield
            if cursor.wait is not None:
                other, clock = cursor.wait
                if clock < ends.get(other, 0):
                    # The turn keeps the heap from comparing cursors, and the order the same from run to run.
                    turn += 1
                    heappush(waiting.setdefault(other, []), (clock, turn, cursor))
            queue = waiting.get(client)
            while queue and queue[0][0] < plan.clocks.get(client, 0):
                work.append(heappop(queue)[2])
        return cursors

    def _plan_extent(self, plan: _Plan, cursor: _Cursor, blocks_max: int, bytes_max: int) -> bool:
        """Plan some blocks of one client; whether there may be more to plan at once."""
        section = cursor.section
        client = section.client
        known = self._clocks
        overlay = plan.clocks
        clock = overlay.get(client)
        if clock is None:
            clock = known.get(client, 0)
        first = clock
        places = plan.places
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
                plan.whole = False
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
            if left_client != client and info & (HAS_LEFT | PARENT_ID) and start == clock:
                if left_clock >= known.get(left_client, 0) and left_clock >= overlay.get(left_client, 0):
                    cursor.pending = block
                    cursor.wait = (left_client, left_clock)
                    break
            if right_client != client and info & HAS_RIGHT:
                if right_clock >= known.get(right_client, 0) and right_clock >= overlay.get(right_client, 0):
                    cursor.pending = block
                    cursor.wait = (right_client, right_clock)
                    break
            cut: bytes | None = None
            pieces = 1
            if start < clock:
                plan.whole = False
                cut = cut_block(plan.data[at:stop], client, start, clock, end)
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
                home = self._home(places, info, left, (right_client, right_clock), plan.data, at)
            ref = info & REF_MASK
            if home != unkeyed and end - clock > 1:
                if not places.traits(home) & KEYED:
                    unkeyed = home
                elif ref in (ANY, STRING):
                    cut, pieces = self._one_by_one(cut or plan.data[at:stop], ref, client, clock)
                    plan.whole = False
            own_place = home << LIST_SHIFT if ref in PLAIN else self._place(places, ref, home)
            if own_place != place:
                place = own_place
                only = NOWHERE
                places.append(client, clock, place)
            if plan.has_pairs and info & (HAS_LEFT | HAS_RIGHT):
                self._note_cuts(plan, info, left_client, left_clock, right_client, right_clock)
            if cut is not None:
                if count:
                    plan.extents.append((client, first, count, begin, finish, None))
                    count = 0
                    begin = -1
                plan.extents.append((client, clock, pieces, at, stop, cut))
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
            plan.extents.append((client, first, count, begin, finish, None))
            overlay[client] = clock
        return more

    def _home(
        self, places: Draft, info: int, left: tuple[int, int], right: tuple[int, int], data: bytes, at: int
    ) -> int:
        """The list a ready block goes into, whose bytes begin at `at`. Raises `Malformed`."""
        if info & (HAS_LEFT | HAS_RIGHT):
            home = places.at(*left) >> LIST_SHIFT if info & HAS_LEFT else COLLECTED
            if info & HAS_RIGHT:
                other = places.at(*right) >> LIST_SHIFT
                if home == COLLECTED:
                    # pycrdt takes the parent from whichever origin still has one.
                    home = other
                elif other not in (home, COLLECTED):
                    raise Malformed("left and right origin lie in different lists")
            return home
        if info == GC:
            return COLLECTED
        name, key = read_parent(data, at)
        if name is not None:
            return places.list_of(name if key is None else (name, key), 0)
        parent = places.at(*left)
        if not parent & PARENT:
            raise Malformed(f"parent at clock {left[1]} is no shared type")
        packed = pack_id(*left)
        return places.list_of(packed if key is None else (packed, key), (places.traits(parent >> LIST_SHIFT) >> 1) + 1)

    def _place(self, places: Draft, ref: int, home: int) -> Place:
        """The place of an item with content `ref` in the list `home`. Raises `TooLarge`."""
        if ref == TYPE:
            if places.traits(home) >> 1 >= self._limits.type_depth_max:
                raise TooLarge(f"shared types are nested deeper than {self._limits.type_depth_max}")
            return home << LIST_SHIFT | PARENT
        if ref == DELETED:
            return home << LIST_SHIFT | PARENT
        if ref == GC:
            return COLLECTED << LIST_SHIFT | PARENT
        return home << LIST_SHIFT

    @staticmethod
    def _one_by_one(block: bytes, ref: int, client: int, clock: int) -> tuple[bytes, int]:
        """A block of several values under a key, as so many blocks. Raises `Malformed` for text.

        An entry of a key is one value. Yjs writes several in one block once they are overwritten, if it does not
        collect. But pycrdt must not have to divide them: it keeps the first as if it were not overwritten, and
        that one survives its parent, with a pointer to freed memory (0.14.13).
        """
        if ref == STRING:
            raise Malformed("text of several characters under a key")
        blocks = split_values(block, client, clock)
        return b"".join(blocks), len(blocks)

    def _plan_deletions(
        self, parsed: ParsedUpdate, plan: _Plan, step_blocks: int
    ) -> Generator[None, None, tuple[Deletions, Deletions, bool]]:
        """Sort deletions into those that take effect now and those held; and whether all take effect as they stand."""
        fresh: Deletions = []
        held: Deletions = []
        all_fresh = True
        budget = step_blocks
        for client, ranges in parsed.deletions:
            clock = plan.clocks.get(client)
            if clock is None:
                clock = self._clocks.get(client, 0)
            known = self._deletions.get(client)
            now: list[tuple[int, int]] = []
            later: list[tuple[int, int]] = []
            for start, end in ranges:
                if end > clock:
                    later.append((max(start, clock), end))
                    end = clock  # noqa: PLW2901  the part that is ready
                    all_fresh = False
                    if start >= end:
                        continue
                if known is None or not known.overlaps(start, end):
                    now.append((start, end))
                else:
                    all_fresh = False
                    now += known.missing(start, end)
                if plan.has_pairs:
                    plan.cut_pairs += self._cut_by(plan.pairs, client, start, end)
                budget -= 1
                if budget <= 0:
                    budget = step_blocks
                    yield
            if now:
                fresh.append((client, now))
            if later:
                held.append((client, later))
        return fresh, held, all_fresh

    def _plan_hold(
        self, data: bytes, stuck: list[_Cursor], held: Deletions, ref: int, owner: int, step_blocks: int
    ) -> Generator[None, None, tuple[list[tuple[int, HeldBlock]], list[tuple[int, Span]], list[tuple[int, int, int]]]]:
        """What would be held: blocks, deletions, and what the update then waits for. Raises `HoldOverflow`.

        Clocks held already are not held twice: the first content seen at a clock stays.
        """
        hold = self._hold or Hold(self._limits)
        if ref in hold.needs:
            raise LocalError(f"update {ref} is waiting already")
        blocks: list[tuple[int, HeldBlock]] = []
        spans: list[tuple[int, Span]] = []
        needs: list[tuple[int, int, int]] = []
        cost = (len(stuck) + len(held)) * SPAN_COST
        hold.check_room(owner, cost)
        budget = step_blocks
        for cursor in stuck:
            section = cursor.section
            client = section.client
            lane = hold.blocks.get(client)
            block = cursor.pending
            first = last = -1
            while block is not None:
                start, end, info, at, stop, left_client, left_clock, right_client, right_clock = block
                if info != SKIP:
                    if first < 0:
                        first = start
                    last = end
                    gaps = [(start, end)] if lane is None else lane.gaps(start, end)
                    for gap_start, gap_end in gaps:
                        raw = data[at:stop]
                        left = (left_client, left_clock)
                        flags = info
                        if (gap_start, gap_end) != (start, end):
                            raw = cut_block(raw, client, start, gap_start, gap_end)
                            if gap_start > start:
                                left = (client, gap_start - 1)
                                flags = info & ~PARENT_ID | HAS_LEFT
                        pairs = section.pairs
                        if pairs is not None:
                            pairs = pairs_between(pairs, gap_start, gap_end)
                        right = (right_client, right_clock)
                        part = HeldBlock(gap_start, gap_end, flags, left, right, raw, pairs or None, owner)
                        blocks.append((client, part))
                        cost += part.cost
                        hold.check_room(owner, cost)
                block = next(cursor.blocks, None)
                budget -= 1
                if budget <= 0:
                    budget = step_blocks
                    yield
            if last >= 0:
                needs.append((client, first, last))
        for client, ranges in held:
            spans_lane = hold.deletions.get(client)
            for start, end in ranges:
                for gap_start, gap_end in [(start, end)] if spans_lane is None else spans_lane.gaps(start, end):
                    spans.append((client, Span(gap_start, gap_end, owner)))
                    cost += SPAN_COST
                    hold.check_room(owner, cost)
                budget -= 1
                if budget <= 0:
                    budget = step_blocks
                    yield
            needs.append((client, ranges[0][0], ranges[-1][1]))
        return blocks, spans, needs

    # -- changing ------------------------------------------------------------------------------------------------

    def _commit(self, plan: _Plan, fresh: Deletions) -> None:
        """Make the plan true."""
        for client, pairs in plan.pairs.items():
            if client in plan.clocks:
                self._add_pairs(client, pairs, self._clocks.get(client, 0), plan.clocks[client])
        self._clocks.update(plan.clocks)
        plan.places.commit()
        for client, ranges in fresh:
            self._deletions.add_many(client, ranges)
        self._cut(plan.cut_pairs)
        digest = self._digest
        if digest is not None:
            digest.stale_clocks.update(plan.clocks)
            digest.stale_deletions.update([client for client, _ in fresh])

    def _write(self, plan: _Plan, fresh: Deletions, raw: bytes | None) -> list[bytes]:
        """The update's own part as bytes: the raw ones if all of it goes in and in one go."""
        limits = self._limits
        if raw is not None and len(raw) <= limits.slice_bytes:
            count = sum([extent[2] for extent in plan.extents]) + sum([len(ranges) for _, ranges in fresh])
            if count <= limits.slice_blocks:
                return [raw]
        data = plan.data
        extents = [
            Extent(client, clock, count, cut if cut is not None else data[start:stop])
            for client, clock, count, start, stop, cut in plan.extents
        ]
        return write_slices(extents, fresh, slice_blocks=limits.slice_blocks, slice_bytes=limits.slice_bytes)

    # -- releasing what was held ---------------------------------------------------------------------------------

    def _release(
        self, hold: Hold, seeds: Iterable[Wake], own: list[bytes], ref: int, owner: int, *, journal: bool
    ) -> Admission:
        """Let in what the seeds wake, and what that wakes, until nothing more moves."""
        work = deque(seeds)
        released: list[tuple[int, Extent]] = []
        deletions: dict[int, IdSet] = {}
        settled: list[int] = [] if ref in hold.needs else [ref]
        refused: list[tuple[int, RemoteError]] = []
        while work:
            kind, key = work.popleft()
            if kind == WAKE_BLOCKS:
                if self._release_blocks(hold, key, released, refused):
                    work.extend(hold.woken(key, self._clocks[key]))
            elif kind == WAKE_DELETIONS:
                self._release_deletions(hold, key, deletions)
            elif key in hold.needs and self._is_met(hold, key):
                hold.drop_update(key)
                settled.append(key)
        waiting = ref in hold.needs
        if not (hold.blocks or hold.deletions or hold.needs):
            self._hold = None
        updates = list(own)
        owners = [owner] * len(own)
        for whose, parts in self._write_released(released, deletions):
            updates += parts
            owners += [whose] * len(parts)
        return Admission(tuple(updates), tuple(owners), tuple(settled), waiting, journal, tuple(refused))

    def _release_blocks(
        self,
        hold: Hold,
        client: int,
        released: list[tuple[int, Extent]],
        refused: list[tuple[int, RemoteError]],
    ) -> bool:
        """Let in the client's first held blocks as far as they are ready; whether any was."""
        lane = hold.blocks.get(client)
        if lane is None:
            return False
        clocks = self._clocks
        before = clock = clocks.get(client, 0)
        done = 0
        wait: tuple[int, int] | None = None
        for block in lane.parts:
            if block.end > clock:
                wait = self._lacking(client, clock, block)
                if wait is not None:
                    break
                try:
                    clock = self._release_block(client, clock, block, released)
                except RemoteError as error:
                    for other in self._touching(hold, client, block):
                        hold.drop_update(other)
                        refused.append((other, error))
            done += 1
        hold.drop_blocks(client, done)
        if wait is not None:
            hold.watch((WAKE_BLOCKS, client), *wait)
        if clock == before:
            return False
        if self._digest is not None:
            self._digest.stale_clocks.add(client)
        return True

    def _lacking(self, client: int, clock: int, block: HeldBlock) -> tuple[int, int] | None:
        """What a held block still waits for, as (client, clock count that is enough)."""
        if block.clock > clock:
            return client, block.clock
        clocks = self._clocks
        if block.info & (HAS_LEFT | PARENT_ID) and block.clock == clock:
            if block.left_clock >= clocks.get(block.left_client, 0):
                return block.left_client, block.left_clock + 1
        if block.info & HAS_RIGHT and block.right_clock >= clocks.get(block.right_client, 0):
            return block.right_client, block.right_clock + 1
        return None

    def _release_block(self, client: int, clock: int, block: HeldBlock, released: list[tuple[int, Extent]]) -> int:
        """Let in one ready block, cut to what is new; returns the client's clock. Raises `RemoteError` if it can't be."""
        data = block.data
        info = block.info
        left_client, left_clock = block.left_client, block.left_clock
        if block.clock < clock:
            data = cut_block(data, client, block.clock, clock, block.end)
            info = info & ~PARENT_ID | HAS_LEFT
            left_client, left_clock = client, clock - 1
        plan = _Plan(data, self._places)
        places = plan.places
        left = (left_client, left_clock)
        home = self._home(places, info, left, (block.right_client, block.right_clock), data, 0)
        pieces = 1
        if block.end - clock > 1 and places.traits(home) & KEYED and info & REF_MASK in (ANY, STRING):
            data, pieces = self._one_by_one(data, info & REF_MASK, client, clock)
        place = self._place(places, info & REF_MASK, home)
        if place != places.last(client):
            places.append(client, clock, place)
        places.commit()
        if block.pairs is not None:
            self._add_pairs(client, block.pairs, clock, block.end)
        if self._pairs:
            self._note_cuts(plan, info, left_client, left_clock, block.right_client, block.right_clock)
            self._cut(plan.cut_pairs)
        released.append((block.owner, Extent(client, clock, pieces, data)))
        self._clocks[client] = block.end
        return block.end

    @staticmethod
    def _touching(hold: Hold, client: int, block: HeldBlock) -> list[int]:
        """Waiting updates that hold or repeat this block."""
        return [
            ref
            for ref, need in hold.needs.items()
            if any(who == client and first < block.end and end > block.clock for who, first, end in need.spans)
        ]

    def _release_deletions(self, hold: Hold, client: int, deletions: dict[int, IdSet]) -> None:
        """Let in the client's held deletions below its clock."""
        for span in hold.take_spans(client, self._clocks.get(client, 0)):
            for start, end in self._deletions.missing(client, span.clock, span.end):
                deletions.setdefault(span.owner, IdSet()).add(client, start, end)
                self._deletions.add(client, start, end)
                self._cut(self._cut_by({}, client, start, end))
                if self._digest is not None:
                    self._digest.stale_deletions.add(client)

    def _is_met(self, hold: Hold, ref: int) -> bool:
        """Whether everything an update waits for is in effect; if not, it is woken again for the next it lacks."""
        need = hold.needs[ref]
        for client, _, end in need.spans[need.done :]:
            if self._clocks.get(client, 0) < end:
                hold.watch((WAKE_UPDATE, ref), client, end)
                return False
            need.done += 1
        return True

    def _write_released(
        self, released: list[tuple[int, Extent]], deletions: dict[int, IdSet]
    ) -> Iterator[tuple[int, list[bytes]]]:
        """Released parts as updates by owner: blocks in the order they became ready, deletions last."""
        limits = self._limits
        batches: list[tuple[int, list[Extent], Deletions]] = []
        for whose, extent in released:
            if not batches or batches[-1][0] != whose:
                batches.append((whose, [], []))
            batches[-1][1].append(extent)
        for whose, ids in deletions.items():
            ranges = [(client, list(spans)) for client, spans in ids.items()]
            if batches and batches[-1][0] == whose:
                batches[-1][2].extend(ranges)
            else:
                batches.append((whose, [], ranges))
        for whose, extents, ranges in batches:
            yield (
                whose,
                write_slices(extents, ranges, slice_blocks=limits.slice_blocks, slice_bytes=limits.slice_bytes),
            )

    # -- surrogate pairs -----------------------------------------------------------------------------------------

    def _note_cuts(
        self, plan: _Plan, info: int, left_client: int, left_clock: int, right_client: int, right_clock: int
    ) -> None:
        """Notice an insertion between the halves of a pair."""
        if info & HAS_LEFT and self._is_second_half(plan.pairs, left_client, left_clock + 1):
            plan.cut_pairs.append((left_client, left_clock + 1))
        if info & HAS_RIGHT and self._is_second_half(plan.pairs, right_client, right_clock):
            plan.cut_pairs.append((right_client, right_clock))

    def _cut_by(self, fresh: dict[int, RangeSet], client: int, start: int, end: int) -> list[tuple[int, int]]:
        """Pairs that the edges of a deletion cut."""
        return [(client, edge) for edge in (start, end) if self._is_second_half(fresh, client, edge)]

    def _is_second_half(self, fresh: dict[int, RangeSet], client: int, clock: int) -> bool:
        """Whether `clock` is the second half of a pair, so that an edge before it cuts the pair."""
        for pairs in (self._pairs, fresh):
            ranges = pairs.get(client)
            if ranges is not None:
                start = ranges.start_of(clock)
                if start is not None and (clock - start) & 1:
                    return True
        return False

    def _cut(self, second_halves: list[tuple[int, int]]) -> None:
        """Count pairs as cut: from now on they are two U+FFFD, and no pairs."""
        for client, clock in second_halves:
            self._pairs[client].remove(clock - 1, clock + 1)
            self.cut_pairs.add(client, clock - 1, clock + 1)

    def _add_pairs(self, client: int, pairs: RangeSet, start: int, end: int) -> None:
        """Remember the pairs of text that came into effect with clocks `[start, end)`."""
        fresh = pairs_between(pairs, start, end)
        if not fresh:
            return
        self._pair_runs += len(fresh)
        known = self._pairs.get(client)
        if known is None:
            self._pairs[client] = fresh
        else:
            known.extend(fresh)
