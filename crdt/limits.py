"""What one update and one room's gate may cost: every bound of the parser and the gate, as plain values.

Owned here so that the parser (`crdt.update`) and the gate (`crdt.gate`) share one object; settings build it once.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Bounds of the gate. Passing one is `TooLarge`, except those on held parts, which are `HoldOverflow`."""

    update_bytes_max: int = 64 * 1024 * 1024
    """Bytes of one update. A backstop behind the socket's message limit: everything below scales with it."""

    blocks_max: int = 1_000_000
    """Blocks of one update. A parsed block takes up to 230 bytes until its section is packed, 72 after."""

    delete_ranges_max: int = 500_000
    """Delete ranges of one update, over all clients."""

    clients_max: int = 100_000
    """Clients in one update's blocks or deletions. A document gains about one per editing session."""

    any_depth_max: int = 64
    """Nesting of lib0 `any` values and of JSON. pycrdt crashes from 26,000 (8 MiB stack), refuses JSON from 128,
    and Yjs throws from 5,000: real content stays below 20."""

    type_depth_max: int = 128
    """Nesting of shared types, a root's own children being at depth 1. Deleting 60,000 levels kills the process,
    and browsers recurse as well; real documents stay below 50."""

    slice_blocks: int = 8_000
    """Blocks and delete ranges handed to pycrdt at once, so that one apply stays under 20 ms (R17)."""

    slice_bytes: int = 512 * 1024
    """Bytes handed to pycrdt at once, for the same reason. One block is never cut for it."""

    held_bytes_max: int = 8 * 1024 * 1024
    """Bytes of held parts of a room, bookkeeping included. An honest gap is a few messages long."""

    held_bytes_per_owner_max: int = 2 * 1024 * 1024
    """The same per sender, so that one can't take the whole allowance (R10)."""

    held_updates_max: int = 4_096
    """Updates of a room of which some part waits, pure duplicates of waiting ones included."""

    pair_runs_max: int = 500_000
    """Separate runs of surrogate pairs (emoji, mostly) in a room's text: 16 bytes each, for finding the edit that
    cuts one before pycrdt sees it."""
