"""What of an update has to wait, and letting it in once what it waits for is there (R2).

`find_parts` is the last of planning: it changes nothing and refuses what would not fit. `Release` changes what the room
knows, starting from what just came into effect and going on with what that lets in, until nothing more moves.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

from crdt.blocks import Deletions, Extent, cut_block, write_slices
from crdt.errors import LocalError, RemoteError
from crdt.hold import NEED_COST, SPAN_COST, WAKE_BLOCKS, WAKE_DELETIONS, WAKE_UPDATE, HeldBlock, Hold, Need, Span, Wake
from crdt.known import Known
from crdt.limits import GateLimits
from crdt.pairs import pairs_between
from crdt.places import KEYED, Draft
from crdt.plan import Cursor, one_by_one
from crdt.ranges import IdSet
from crdt.update import ANY, HAS_LEFT, HAS_RIGHT, PARENT_ID, REF_MASK, SKIP, STRING


@dataclass(slots=True)
class Parts:
    """What of an update would be held, and what the update then waits for."""

    blocks: list[tuple[int, HeldBlock]] = field(default_factory=list)
    spans: list[tuple[int, Span]] = field(default_factory=list)
    needs: list[tuple[int, int, int]] = field(default_factory=list)


def find_parts(
    hold: Hold, data: bytes, stuck: list[Cursor], later: Deletions, *, ref: int, owner: int, step_blocks: int
) -> Generator[None, None, Parts]:
    """The parts of an update that are not ready and not held already. Raises `HoldOverflow`.

    Clocks held already are not held twice: the first content seen at a clock stays.
    """
    if ref in hold.needs:
        raise LocalError(f"update {ref} is waiting already")
    parts = Parts()
    cost = (len(stuck) + len(later)) * NEED_COST
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
                for gap_start, gap_end in [(start, end)] if lane is None else lane.gaps(start, end):
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
                    part = HeldBlock(
                        gap_start, gap_end, flags, left=left, right=right, data=raw, pairs=pairs or None, owner=owner
                    )
                    parts.blocks.append((client, part))
                    cost += part.cost
                    hold.check_room(owner, cost)
            block = next(cursor.blocks, None)
            budget -= 1
            if budget <= 0:
                budget = step_blocks
                yield
        if last >= 0:
            parts.needs.append((client, first, last))
    for client, ranges in later:
        spans = hold.deletions.get(client)
        for start, end in ranges:
            for gap_start, gap_end in [(start, end)] if spans is None else spans.gaps(start, end):
                parts.spans.append((client, Span(gap_start, gap_end, owner)))
                cost += SPAN_COST
                hold.check_room(owner, cost)
            budget -= 1
            if budget <= 0:
                budget = step_blocks
                yield
        parts.needs.append((client, ranges[0][0], ranges[-1][1]))
    return parts


def put_on_hold(hold: Hold, parts: Parts, ref: int, owner: int) -> list[Wake]:
    """Hold the parts; returns what to look at, since some of it may be ready with what else is held."""
    for client, block in parts.blocks:
        hold.add_block(client, block)
    for client, span in parts.spans:
        hold.add_span(client, span)
    hold.add_update(ref, Need(owner, parts.needs))
    return [
        *[(WAKE_BLOCKS, client) for client in dict.fromkeys(client for client, _ in parts.blocks)],
        (WAKE_UPDATE, ref),
    ]


class Release:
    """One round of letting held parts in."""

    __slots__ = ("_deletions", "_extents", "_hold", "_known", "_limits", "refused", "settled")

    def __init__(self, hold: Hold, known: Known, limits: GateLimits) -> None:
        self._hold = hold
        self._known = known
        self._limits = limits
        self._extents: list[tuple[int, Extent]] = []
        """(owner, block), in the order they became ready."""
        self._deletions: dict[int, IdSet] = {}
        """By owner."""
        self.settled: list[int] = []
        """Updates of which now everything is in effect."""
        self.refused: list[tuple[int, RemoteError]] = []
        """Updates of which a part turned out to be impossible."""

    def run(self, seeds: Iterable[Wake]) -> None:
        """Let in what the seeds wake, and what that wakes, until nothing more moves."""
        hold = self._hold
        work = deque(seeds)
        while work:
            kind, key = work.popleft()
            if kind == WAKE_BLOCKS:
                if self._release_blocks(key):
                    work.extend(hold.woken(key, self._known.clocks[key]))
            elif kind == WAKE_DELETIONS:
                self._release_deletions(key)
            elif key in hold.needs and self._is_met(key):
                hold.drop_update(key)
                self.settled.append(key)

    def write(self) -> Iterator[tuple[int, list[bytes]]]:
        """What went in, as updates by owner: blocks in the order they became ready, deletions last."""
        limits = self._limits
        batches: list[tuple[int, list[Extent], Deletions]] = []
        for owner, extent in self._extents:
            if not batches or batches[-1][0] != owner:
                batches.append((owner, [], []))
            batches[-1][1].append(extent)
        for owner, ids in self._deletions.items():
            ranges = [(client, list(spans)) for client, spans in ids.items()]
            if batches and batches[-1][0] == owner:
                batches[-1][2].extend(ranges)
            else:
                batches.append((owner, [], ranges))
        for owner, extents, ranges in batches:
            slices = write_slices(extents, ranges, slice_blocks=limits.slice_blocks, slice_bytes=limits.slice_bytes)
            yield owner, list(slices)

    def _release_blocks(self, client: int) -> bool:
        """Let in the client's first held blocks as far as they are ready; whether any was."""
        hold = self._hold
        lane = hold.blocks.get(client)
        if lane is None:
            return False
        before = clock = self._known.clock(client)
        done = 0
        wait: tuple[int, int] | None = None
        for block in lane.parts:
            if block.end > clock:
                wait = self._lacking(client, clock, block)
                if wait is not None:
                    break
                try:
                    clock = self._release_block(client, clock, block)
                except RemoteError as error:
                    for ref in self._touching(client, block):
                        hold.drop_update(ref)
                        self.refused.append((ref, error))
            done += 1
        hold.drop_blocks(client, done)
        if wait is not None:
            hold.watch((WAKE_BLOCKS, client), *wait)
        if clock == before:
            return False
        if self._known.digest is not None:
            self._known.digest.stale_clocks.add(client)
        return True

    def _lacking(self, client: int, clock: int, block: HeldBlock) -> tuple[int, int] | None:
        """What a held block still waits for, as (client, clock count that is enough)."""
        if block.clock > clock:
            return client, block.clock
        known = self._known
        # The origin of a block that is to be cut is the item before the cut, which is in.
        needs_left = block.info & (HAS_LEFT | PARENT_ID) and block.clock == clock
        if needs_left and block.left_clock >= known.clock(block.left_client):
            return block.left_client, block.left_clock + 1
        if block.info & HAS_RIGHT and block.right_clock >= known.clock(block.right_client):
            return block.right_client, block.right_clock + 1
        return None

    def _release_block(self, client: int, clock: int, block: HeldBlock) -> int:
        """Let in one ready block, cut to what is new; returns the client's clock. Raises `RemoteError` if it can't be."""
        known = self._known
        data = block.data
        info = block.info
        ref = info & REF_MASK
        left = (block.left_client, block.left_clock)
        right = (block.right_client, block.right_clock)
        if block.clock < clock:
            data = cut_block(data, client, block.clock, clock, block.end)
            info = info & ~PARENT_ID | HAS_LEFT
            left = (client, clock - 1)
        places = Draft(known.places)
        home = places.home(info, left, right, data, 0)
        count = 1
        if block.end - clock > 1 and places.traits(home) & KEYED and ref in (ANY, STRING):
            data, count = one_by_one(data, ref, client, clock)
        place = places.place(ref, home, self._limits.type_depth_max)
        if place != places.last(client):
            places.append(client, clock, place)
        places.commit()
        if block.pairs is not None:
            known.pairs.add(client, block.pairs, clock, block.end)
        if known.pairs.known:
            if info & HAS_LEFT and known.pairs.is_cut_at({}, left[0], left[1] + 1):
                known.pairs.note_cut([(left[0], left[1] + 1)])
            if info & HAS_RIGHT and known.pairs.is_cut_at({}, *right):
                known.pairs.note_cut([right])
        self._extents.append((block.owner, Extent(client, clock, count, data)))
        known.clocks[client] = block.end
        return block.end

    def _touching(self, client: int, block: HeldBlock) -> list[int]:
        """Waiting updates that hold or repeat this block."""
        return [
            ref
            for ref, need in self._hold.needs.items()
            if any(who == client and first < block.end and end > block.clock for who, first, end in need.spans)
        ]

    def _release_deletions(self, client: int) -> None:
        """Let in the client's held deletions below its clock."""
        known = self._known
        for span in self._hold.take_spans(client, known.clock(client)):
            for start, end in known.deletions.missing(client, span.clock, span.end):
                self._deletions.setdefault(span.owner, IdSet()).add(client, start, end)
                known.deletions.add(client, start, end)
                known.pairs.note_cut(known.pairs.cut_by({}, client, start, end))
                if known.digest is not None:
                    known.digest.stale_deletions.add(client)

    def _is_met(self, ref: int) -> bool:
        """Whether everything an update waits for is in effect; if not, it is woken again for the next it lacks."""
        need = self._hold.needs[ref]
        for client, _, end in need.spans[need.done :]:
            if self._known.clock(client) < end:
                self._hold.watch((WAKE_UPDATE, ref), client, end)
                return False
            need.done += 1
        return True
