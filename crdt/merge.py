"""Updates as bytes, without a document: joining them, what a peer lacks of one, and mending cut surrogate pairs.

For what pycrdt can't be trusted with. Works on what a gate let through: each client's blocks in clock order, without gaps
or overlaps. Nothing is squashed or collected, so the result is as large as the edits were.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from crdt.blocks import Extent, cut_block, replace_units, write_update
from crdt.errors import LocalError
from crdt.limits import GateLimits
from crdt.ranges import IdSet, RangeSet
from crdt.update import REF_MASK, STRING, Section, parse_update

ANY_SIZE: Final = GateLimits(
    update_bytes_max=2**40,
    blocks_max=2**40,
    delete_ranges_max=2**40,
    clients_max=2**40,
    pair_runs_max=2**40,
)
"""What is read here passed a gate already, one by one."""


def join_updates(updates: Iterable[bytes]) -> bytes:
    """All blocks and deletions of updates a gate let through, in that order, as one update. Of nothing: `0000`."""
    extents: list[Extent] = []
    ends: dict[int, int] = {}
    deletions = IdSet()
    for update in updates:
        parsed = parse_update(update, ANY_SIZE)
        for section in parsed.sections:
            client = section.client
            if section.clock != ends.get(client, 0):
                raise LocalError(f"client {client} goes on at clock {section.clock}, expected {ends.get(client, 0)}")
            ends[client] = section.end
            blocks = update[section.start : section.stop]
            extents.append(Extent(client, section.clock, section.count, blocks))
        for client, ranges in parsed.deletions:
            for start, end in ranges:
                deletions.add(client, start, end)
    return write_update(extents, [(client, list(ranges)) for client, ranges in deletions.items()])


def update_beyond(update: bytes, clocks: Mapping[int, int]) -> bytes:
    """What of an update lies beyond these clocks, with all its deletions: the step 2 for a peer that has them."""
    parsed = parse_update(update, ANY_SIZE)
    extents = [
        extent
        for section in parsed.sections
        if section.end > clocks.get(section.client, 0)
        for extent in _beyond(update, section, clocks.get(section.client, 0))
    ]
    return write_update(extents, parsed.deletions)


def _beyond(update: bytes, section: Section, clock: int) -> Iterable[Extent]:
    client = section.client
    passed = 0
    for start, end, _, at, stop, *_ in section:
        if end > clock:
            if start < clock:
                yield Extent(client, clock, 1, cut_block(update[at:stop], client, start, clock, end))
                start, at, passed = end, stop, passed + 1  # noqa: PLW2901  go on after the cut block
            if section.count > passed:
                yield Extent(client, start, section.count - passed, update[at : section.stop])
            return
        passed += 1


def mend_pairs(update: bytes, cut_pairs: IdSet) -> bytes:
    """The update with every cut surrogate pair written as two U+FFFD, as Yjs keeps it. Lengths in clocks stay."""
    parsed = parse_update(update, ANY_SIZE)
    if not any(_has_cut(section, cut_pairs) for section in parsed.sections):
        return update
    extents: list[Extent] = []
    for section in parsed.sections:
        client = section.client
        cut = cut_pairs.get(client)
        whole = Extent(client, section.clock, section.count, update[section.start : section.stop])
        extents += [whole] if cut is None else _mended(update, section, cut)
    return write_update(extents, parsed.deletions)


def _has_cut(section: Section, cut_pairs: IdSet) -> bool:
    cut = cut_pairs.get(section.client)
    return cut is not None and section.pairs is not None and cut.overlaps(section.clock, section.end)


def _mended(update: bytes, section: Section, cut: RangeSet) -> Iterable[Extent]:
    for start, end, info, at, stop, *_ in section:
        block = update[at:stop]
        if info & REF_MASK == STRING and cut.overlaps(start, end):
            marks = [unit - start for first, last in cut.clipped(start, end) for unit in range(first, last)]
            block = replace_units(block, marks)
        yield Extent(section.client, start, 1, block)
