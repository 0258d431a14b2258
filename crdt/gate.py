"""The gate of one room: what of a peer's update reaches the document and the other peers, and when.

pycrdt must see an update only when everything it depends on is in: else it loses edits, or the process (protocol
reference, section 7). So the gate checks each update whole (`crdt.update`), plans what is new and ready (`crdt.plan`), and
holds back the rest until its gap closes (`crdt.waiting`, R2). It knows clocks, deletions and where items lie
(`crdt.known`): numbers, never content. The same updates in the same order give the same answers, so a journal replays to the
same room.

What is refused is refused before anything changes. One case can't be: a part that was held and turns out to be
impossible when what it waited for arrives is dropped then, and `Admission.refused` says whose it was.
"""

from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from crdt.content import NO_BUDGET
from crdt.digest import Digest
from crdt.errors import RemoteError
from crdt.hold import WAKE_BLOCKS, Hold, Wake
from crdt.known import Known
from crdt.limits import GateLimits
from crdt.plan import Cursor, Plan
from crdt.ranges import IdSet
from crdt.state_vector import encode_state_vector
from crdt.update import ParsedUpdate, parse_steps, parse_update
from crdt.waiting import Release, find_parts, put_on_hold

__all__ = ["Admission", "Gate", "GateLimits"]

STEP_BLOCKS: Final = 4_000
"""Blocks between two pauses of `admit_steps`: 4 ms on the build machine, up to 7 ms of dense text (November 2025)."""


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


class Gate:
    """Decides what of a room's updates reaches its document, and when. See the module."""

    __slots__ = ("_hold", "_known", "_limits")

    def __init__(self, limits: GateLimits | None = None) -> None:
        self._limits = limits or GateLimits()
        self._known = Known()
        self._hold: Hold | None = None
        """None while nothing waits, which is nearly always."""

    @property
    def clocks(self) -> Mapping[int, int]:
        """Clocks in effect per client: all of `[0, n)`. A live view."""
        return MappingProxyType(self._known.clocks)

    @property
    def deletions(self) -> IdSet:
        """Deletions in effect. Look, don't change."""
        return self._known.deletions

    @property
    def cut_pairs(self) -> IdSet:
        """Clocks of surrogate pairs that an edit in effect cut in two: both halves read U+FFFD since, in Yjs.

        pycrdt does it wrong, up to crashing, so it must not see those texts: `crdt.document.RoomDocument` takes care.
        """
        return self._known.pairs.cut

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
        return encode_state_vector(self._known.clocks)

    def digests(self) -> tuple[bytes, bytes]:
        """8-byte hashes of clocks and of deletions, equal where the sets are (R5). Hashes what changed since last time."""
        known = self._known
        if known.digest is None:
            known.digest = Digest(known.clocks, known.deletions)
        return known.digest.hashes(known.clocks, known.deletions)

    def missing(self) -> dict[int, int]:
        """Clients that held parts wait for, to the first clock of each that is not in effect."""
        if self._hold is None:
            return {}
        return {client: self._known.clock(client) for client in sorted(self._hold.waited_for())}

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
        known = self._known
        plan = Plan(data, known, limits)
        for section in parsed.sections:
            if section.pairs is not None or section.clock != known.clocks.get(section.client, 0):
                return None
            cursor = Cursor(section)
            plan.extent(cursor, NO_BUDGET, NO_BUDGET)
            if cursor.pending is not None or not plan.whole:
                return None
        if parsed.deletions and not plan.few_deletions(parsed):
            return None
        if not plan.clocks and not plan.now:
            return Admission(settled=(ref,))
        plan.commit()
        return Admission((data,), (owner,), (ref,), False, True)  # noqa: FBT003  in field order

    def _admit_parsed(
        self, parsed: ParsedUpdate, ref: int, owner: int, step_blocks: int
    ) -> Generator[None, None, Admission]:
        known = self._known
        hold = self._hold
        plan = Plan(parsed.data, known, self._limits)
        plan.find_pairs(parsed)
        stuck = yield from plan.blocks(parsed, step_blocks)
        yield from plan.deletions(parsed, step_blocks)
        parts = None
        if stuck or plan.later:
            if hold is None:
                hold = Hold(self._limits)
            parts = yield from find_parts(
                hold, parsed.data, stuck, plan.later, ref=ref, owner=owner, step_blocks=step_blocks
            )
        own = yield from plan.write(whole=not stuck)
        added = bool(plan.clocks or plan.now)

        # Nothing can be refused from here on, and nothing pauses.
        plan.commit()
        if hold is None:
            return Admission(tuple(own), (owner,) * len(own), (ref,), False, added)  # noqa: FBT003  in field order
        wakes: list[Wake] = [wake for client, clock in plan.clocks.items() for wake in hold.woken(client, clock)]
        # A held block that became known another way must go, whatever it still waits for.
        wakes += [(WAKE_BLOCKS, client) for client in plan.clocks if client in hold.blocks]
        if parts is not None:
            wakes += put_on_hold(hold, parts, ref, owner)
            added = added or bool(parts.blocks or parts.spans)
        release = Release(hold, known, self._limits)
        release.run(wakes)
        self._hold = hold if hold.blocks or hold.deletions or hold.needs else None

        updates = own
        owners = [owner] * len(own)
        for whose, released in release.write():
            updates = updates + released
            owners += [whose] * len(released)
        settled = release.settled if parts is not None else [ref, *release.settled]
        return Admission(
            tuple(updates), tuple(owners), tuple(settled), ref in hold.needs, added, tuple(release.refused)
        )
