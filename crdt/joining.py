"""Many updates as few, block by block and byte for byte, in slices that apply one after the other.

pycrdt's `merge_updates` reads content and writes it again: a bigint of 53 bits becomes a number, options of a
subdocument are lost or change places (0.14.13). Here the bytes of each block stay as their author sent them; only what
frames them is written anew. For updates a gate let through. `crdt.merge` makes one update of them, this makes slices.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from crdt.blocks import Extent, write_update
from crdt.gate import GateLimits
from crdt.ranges import IdSet
from crdt.update import ParsedUpdate, parse_update

_COUNTLESS: Final = 2**53
"""No bound: what is stored was bounded when it came, by whatever the limits were then."""


def for_stored(limits: GateLimits) -> GateLimits:
    """`limits` for what is on disk already: those on sizes and counts of a peer's update do not hold there.

    A limit that was lowered must not make a room unreadable, a whole document may be more than one update can be, and
    everything stored has one owner, who may hold what many did.
    """
    return replace(
        limits,
        update_bytes_max=_COUNTLESS,
        blocks_max=_COUNTLESS,
        delete_ranges_max=_COUNTLESS,
        clients_max=_COUNTLESS,
        held_bytes_max=_COUNTLESS,
        held_bytes_per_owner_max=_COUNTLESS,
        held_updates_max=_COUNTLESS,
        pair_runs_max=_COUNTLESS,
    )


def join(updates: Iterable[bytes], limits: GateLimits) -> list[bytes]:
    """The same updates as slices of about `slice_blocks` blocks and `slice_bytes` bytes, each closed as they were."""
    slices: list[bytes] = []
    part: list[ParsedUpdate] = []
    count = size = 0
    for parsed in _parsed(updates, limits):
        costs = parsed.block_count + sum(len(ranges) for _, ranges in parsed.deletions)
        if part and (count + costs > limits.slice_blocks or size + len(parsed.data) > limits.slice_bytes):
            slices.append(_write(part))
            part = []
            count = size = 0
        part.append(parsed)
        count += costs
        size += len(parsed.data)
    if part:
        slices.append(_write(part))
    return slices


def blocks_by_client(updates: Iterable[bytes], limits: GateLimits) -> dict[int, bytes]:
    """The bytes of each client's blocks, in order of clock: equal for equal blocks, however they are framed."""
    blocks: dict[int, bytearray] = {}
    for parsed in _parsed(updates, limits):
        for section in parsed.sections:
            blocks.setdefault(section.client, bytearray()).extend(parsed.data[section.start : section.stop])
    return {client: bytes(data) for client, data in blocks.items()}


def _parsed(updates: Iterable[bytes], limits: GateLimits) -> Iterator[ParsedUpdate]:
    unbounded = for_stored(limits)
    for update in updates:
        yield parse_update(update, unbounded)


def _write(parts: Iterable[ParsedUpdate]) -> bytes:
    extents: list[Extent] = []
    deletions = IdSet()
    for parsed in parts:
        for section in parsed.sections:
            blocks = parsed.data[section.start : section.stop]
            extents.append(Extent(section.client, section.clock, section.count, blocks))
        for client, ranges in parsed.deletions:
            deletions.add_many(client, ranges)
    return write_update(extents, [(client, list(ranges)) for client, ranges in deletions.items()])
