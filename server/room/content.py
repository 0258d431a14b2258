"""One room's document: the gate, what waits to be merged, and the pycrdt document behind both.

Updates come in through `offer`, pass the gate in order of arrival, queue, and take effect in `merge`, a bounded number
at a time. Work that could hold the loop (loading, gating a large update) is a generator that `work` advances by one
step (R17); while it runs, later updates of this room wait behind it, so their order never changes.
Knows nothing of sessions, rows or time: owners and refs are opaque integers.
"""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final

from crdt.document import RoomDocument
from crdt.errors import LocalError, NotAccepted, RemoteError, RoomFailed, TooLarge
from crdt.gate import STEP_BLOCKS, Admission, Gate
from crdt.joining import for_stored
from crdt.update import ParsedUpdate, parse_steps
from server.room.limits import RoomLimits
from server.room.rows import Entry, StoredRoom

LARGE_UPDATE_BYTES: Final = 65_536
"""From here on an update is gated in steps: 64 KiB take about 2 ms in one go."""

LOAD_STEP_BYTES: Final = 131_072
"""Stored bytes gated and applied per step while loading: about 8 ms of dense typing."""

STORED: Final = -1
"""The owner of what came from the journal. Its refs are negative."""


@dataclass(slots=True)
class _Offered:
    owner: int
    author: str
    ref: int
    update: bytes
    answers_step1: bool


@dataclass(slots=True)
class _Queued:
    """An admitted update on its way into the document. It is journaled with its last part (R13: never before)."""

    updates: Sequence[bytes]
    owners: Sequence[int]
    settled: tuple[int, ...]
    entry: Entry | None
    next: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """`ref` of `owner` was not accepted; the document is as it was."""

    owner: int
    ref: int
    error: RemoteError
    asked_for: bool = False
    """It answered our step 1 while edits can't be kept: a reader may bring home what it was sent before a commit failed.
    It is asked again later instead of being closed."""


class Merge:
    """What one tick did: the updates in the order applied and whose they were, what to journal, which refs are whole."""

    __slots__ = ("entries", "owners", "settled", "updates")

    def __init__(self) -> None:
        self.updates: list[bytes] = []
        self.owners: list[int] = []
        self.entries: list[Entry] = []
        self.settled: list[int] = []


class Content:
    """See the module. Starts empty and not loaded: `load` first."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self.gate = Gate(for_stored(limits.gate))
        self.document = RoomDocument(self.gate)
        self.loaded = False
        self.read_only: RemoteError | None = None
        """Set while edits can't be kept: what adds something is refused with it."""
        self.bytes = 0
        """Stored and accepted bytes; an upper bound of the document's size, brought down when it is reached."""
        self.waiting: dict[int, int] = {}
        """ref -> owner of updates that are held for a gap, whole or in part."""
        self.backlog_bytes = 0
        """Bytes offered and not merged yet: the actor stops reading from sockets above a limit (R7)."""
        self._applying: list[int] = []
        self._merges_from_bytes = 0
        self._revive_after = 0
        self._offered: deque[_Offered] = deque()
        self._queue: deque[_Queued] = deque()
        self._work: Generator[None, None, None] | None = None
        self._refusals: list[Refusal] = []

    @property
    def working(self) -> bool:
        """`work` has something to do."""
        return self._work is not None

    @property
    def queued(self) -> bool:
        """`merge` has something to do."""
        return bool(self._queue)

    def load(self, stored: StoredRoom) -> None:
        """Take the room from its journal. The caller then calls `work` until `working` is false."""
        if self.loaded or self._work is not None:
            raise LocalError("a room's content is loaded once")
        self._work = self._loading(stored)

    def offer(self, update: bytes, *, owner: int, author: str, ref: int, answers_step1: bool) -> Refusal | None:
        """Take an update in. Returns at once with a refusal if the gate refuses; large ones are refused by `work`."""
        self.backlog_bytes += len(update)
        if not self.loaded or self._work is not None or len(update) >= LARGE_UPDATE_BYTES or self.read_only is not None:
            self._offered.append(_Offered(owner, author, ref, update, answers_step1))
            if self.loaded and self._work is None:
                self._work = self._gating()
            return None
        try:
            if self.bytes + len(update) > self._limits.document_bytes_max:
                self._check_size(len(update))
            self._admitted(owner, author, ref, update, self.gate.admit(update, ref=ref, owner=owner))
        except RemoteError as error:
            self.backlog_bytes -= len(update)
            return Refusal(owner, ref, error)
        return None

    def work(self) -> list[Refusal]:
        """One step of loading or gating, about 10 ms at most. Returns what was refused in it."""
        assert self._work is not None
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        refusals, self._refusals = self._refusals, []
        return refusals

    def merge(self) -> Merge:
        """Let what is queued take effect, up to the tick's caps, in one transaction.

        Raises `DocumentBroken` (`owner_at` its index knows the offender): the content must then be thrown away.
        """
        done = Merge()
        if len(self._queue) == 1 and len(self._queue[0].updates) == 1:
            # One edit since the last tick: what follows does the same for many.
            (queued,) = self._queue
            self._queue.clear()
            done.updates.append(queued.updates[0])
            done.owners.append(queued.owners[0])
            self._finish(queued, done)
            self._apply(done)
            return done
        limits = self._limits
        room = limits.tick_bytes_max
        queue = self._queue
        while queue and room > 0 and len(done.updates) < limits.tick_updates_max:
            queued = queue[0]
            while queued.next < len(queued.updates):
                update = queued.updates[queued.next]
                done.updates.append(update)
                done.owners.append(queued.owners[queued.next])
                queued.next += 1
                room -= len(update)
                if room <= 0 or len(done.updates) >= limits.tick_updates_max:
                    break
            if queued.next < len(queued.updates):
                break
            queue.popleft()
            self._finish(queued, done)
        self._apply(done)
        return done

    def _finish(self, queued: _Queued, done: Merge) -> None:
        done.settled.extend(queued.settled)
        if queued.entry is not None:
            done.entries.append(queued.entry)
            self.backlog_bytes -= len(queued.entry.update)

    def _apply(self, done: Merge) -> None:
        if done.updates:
            self._applying = done.owners
            self.document.apply(done.updates)
            if not self.document.is_live and not self._queue and self._work is None:
                self._revive()
        if self.waiting:
            for ref in done.settled:
                self.waiting.pop(ref, None)

    def _revive(self) -> None:
        """An edit cut a surrogate pair; the document went on from bytes and can be a live one again.

        That takes O(document), and so does each join until then. Once for an accident; who keeps doing it finds the room
        reviving it ever more rarely.
        """
        self._merges_from_bytes += 1
        if self._merges_from_bytes > self._revive_after:
            self.document.revive()
            self._merges_from_bytes = 0
            self._revive_after = self._revive_after * 2 + 8

    def owner_at(self, index: int | None) -> int:
        """Who sent the update at that place of the last merge, `STORED` if that is not known."""
        return STORED if index is None else self._applying[index]

    def owner_waits(self, owner: int) -> bool:
        """Something `owner` sent is still held for a gap."""
        return owner in self.waiting.values()

    def _admitted(self, owner: int, author: str, ref: int, update: bytes, admission: Admission) -> None:
        for late, error in admission.refused:
            self._refusals.append(Refusal(self.waiting.pop(late, owner), late, error))
        if admission.waiting:
            self.waiting[ref] = owner
        entry = Entry(author, update) if admission.journal else None
        if entry is None:
            self.backlog_bytes -= len(update)
        else:
            self.bytes += len(update)
        self._queue.append(_Queued(admission.updates, admission.owners, admission.settled, entry))

    def _check_size(self, more: int) -> None:
        """The bound is reached: look how large the document really is, and refuse if it is."""
        self.bytes = len(self.document.full())
        if self.bytes + more > self._limits.document_bytes_max:
            raise TooLarge(f"document is {self.bytes} bytes, limit is {self._limits.document_bytes_max}")

    def _gating(self) -> Generator[None, None, None]:
        """Empties `_offered` in order, yielding between steps."""
        while self._offered:
            offered = self._offered.popleft()
            try:
                if self.read_only is not None:
                    yield from self._gate_read_only(offered)
                else:
                    if self.bytes + len(offered.update) > self._limits.document_bytes_max:
                        self._check_size(len(offered.update))
                    admission = yield from self.gate.admit_steps(offered.update, ref=offered.ref, owner=offered.owner)
                    self._admitted(offered.owner, offered.author, offered.ref, offered.update, admission)
            except RemoteError as error:
                self.backlog_bytes -= len(offered.update)
                asked_for = offered.answers_step1 and error is self.read_only
                self._refusals.append(Refusal(offered.owner, offered.ref, error, asked_for))
            if self._offered:
                yield

    def _gate_read_only(self, offered: _Offered) -> Generator[None, None, None]:
        """A reader's step 2 holds nothing new and is as good as saved; anything more is refused."""
        parsed = yield from parse_steps(offered.update, self._limits.gate, STEP_BLOCKS)
        if self._adds(parsed):
            assert self.read_only is not None
            raise self.read_only
        nothing_new = Admission(settled=(offered.ref,))
        self._admitted(offered.owner, offered.author, offered.ref, offered.update, nothing_new)

    def _adds(self, parsed: ParsedUpdate) -> bool:
        clocks, deletions = self.gate.clocks, self.gate.deletions
        if any(section.end > clocks.get(section.client, 0) for section in parsed.sections):
            return True
        for client, ranges in parsed.deletions:
            known = deletions.get(client)
            if known is None or any(known.missing(start, end) for start, end in ranges):
                return True
        return False

    def _loading(self, stored: StoredRoom) -> Generator[None, None, None]:
        batch: list[bytes] = []
        cost = 0
        for number, update in enumerate(_stored_updates(stored), start=1):
            self.bytes += len(update)
            try:
                admission = yield from self.gate.admit_steps(update, ref=-number, owner=STORED)
            except RemoteError as error:
                # It passed the gate once: a damaged file, or a gate that became stricter. The bytes stay.
                raise LocalError(f"the journal of {stored.key} holds what the gate refuses: {error}") from error
            batch.extend(admission.updates)
            cost += len(update)
            if cost >= LOAD_STEP_BYTES:
                self.document.apply(batch)
                batch, cost = [], 0
                yield
        self.document.apply(batch)
        self.document.revive()
        self.gate.relimit(self._limits.gate)
        if not self.document.agrees_with(self.gate.clocks, self.gate.clocks):
            raise LocalError(f"the journal of {stored.key} gives a document that lacks clocks")
        self.loaded = True
        yield from self._gating()


def _stored_updates(stored: StoredRoom) -> Generator[bytes, None, None]:
    if stored.snapshot is not None:
        yield from stored.snapshot.slices
    for row in stored.rows:
        for entry in row.entries:
            yield entry.update


def read_only_error(*, quarantined: bool) -> RemoteError:
    """What a writer is told while edits can't be kept."""
    if quarantined:
        return RoomFailed("room is quarantined, edits are refused")
    return NotAccepted("edits can't be stored now")
