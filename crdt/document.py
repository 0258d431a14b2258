"""The pycrdt document behind the gate, and its stand-in that serves from bytes.

The only module (with `crdt.views`) that calls pycrdt. Knows what can break there: a `ValueError` or `RuntimeError`
on bytes it can't hold, and a Rust panic, which derives from BaseException. Any of them on bytes the gate let
through means the document is no longer trusted: `DocumentBroken`, and the room is rebuilt from its journal (R13).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pycrdt

from crdt.errors import DocumentBroken
from crdt.gate import Gate
from crdt.merge import ANY_SIZE, join_updates, mend_pairs, update_beyond
from crdt.ranges import IdSet
from crdt.state_vector import decode_state_vector, encode_state_vector
from crdt.update import parse_update

MERGE_FAN_IN: Final = 50
"""Updates merged in one call: merge_updates is quadratic (20,000 at once take 10 s, in a tree of 50 milliseconds)."""

EMPTY_UPDATE: Final = b"\x00\x00"
"""An update of nothing."""

_CLIENTS_MAX: Final = 2**31
"""No bound on our own state vectors: the gate bounded what went in."""


def is_pycrdt_fault(error: BaseException) -> bool:
    """Whether pycrdt refused or panicked, rather than somebody interrupting us (R10)."""
    return isinstance(error, ValueError | RuntimeError) or type(error).__name__ == "PanicException"


def merge_all(updates: Iterable[bytes]) -> bytes:
    """Merge updates without a document, keeping every clock, in a tree of 50 at a time. Nothing merges to `0000`."""
    level = list(updates)
    try:
        while len(level) > 1:
            level = [
                pycrdt.merge_updates(*level[start : start + MERGE_FAN_IN])
                for start in range(0, len(level), MERGE_FAN_IN)
            ]
    except BaseException as error:
        if is_pycrdt_fault(error):
            raise DocumentBroken(f"merging updates failed: {error}") from error
        raise
    return level[0] if level else EMPTY_UPDATE


class Document:
    """A live document: content in its most compact form, with deleted text collected."""

    __slots__ = ("_doc", "_full")

    def __init__(self, *, client_id: int = 0) -> None:
        """`client_id` would sign local edits; this class makes none, so a constant keeps runs alike."""
        self._doc = pycrdt.Doc(client_id=client_id, skip_gc=False)  # type: ignore[var-annotated]
        self._full: bytes | None = None

    def apply(self, updates: Sequence[bytes]) -> None:
        """Apply updates in one transaction. On `DocumentBroken` drop this object: some of them may be in."""
        self._full = None
        index = 0
        try:
            if len(updates) == 1:
                self._doc.apply_update(updates[0])  # a transaction of its own, at half the cost of one around it
                return
            with self._doc.transaction():
                for index, update in enumerate(updates):  # noqa: B007  the index is for the message
                    self._doc.apply_update(update)
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"update {index} of {len(updates)} broke the document: {error}", index) from error
            raise

    def state_vector(self) -> bytes:
        """What is in, as an encoded state vector."""
        try:
            return self._doc.get_state()
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"reading the state vector failed: {error}") from error
            raise

    def clocks(self) -> dict[int, int]:
        """What is in, per client."""
        return decode_state_vector(self.state_vector(), clients_max=_CLIENTS_MAX)

    def update_since(self, sv: bytes) -> bytes:
        """An update with everything beyond `sv` (already checked), and all deletions."""
        try:
            return self._doc.get_update(sv)
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"encoding an update failed: {error}") from error
            raise

    def full(self) -> bytes:
        """An update with everything, kept until the next `apply`."""
        if self._full is None:
            self._full = self.update_since(b"\x00")
        return self._full

    def agrees_with(self, clocks: Mapping[int, int], touched_clients: Iterable[int]) -> bool:
        """Whether the document still counts these clients' clocks as the gate does.

        For after a tick with deletions: one inside a surrogate pair makes the live document lose clocks. Cheap, and
        late, since the fault shows here only with later edits: `Gate.cut_pairs` tells before, and `is_whole` proves it
        on a document at rest.
        """
        own = self.clocks()
        return all(own.get(client, 0) == clocks.get(client, 0) for client in touched_clients)

    def is_whole(self) -> bool:
        """Whether `full` holds every clock of the document: O(document), for before a snapshot replaces a log."""
        try:
            encoded = pycrdt.get_state(self.full())
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"reading an update's state failed: {error}") from error
            raise
        return decode_state_vector(encoded, clients_max=_CLIENTS_MAX) == self.clocks()


class MergedDocument:
    """The same answers from bytes alone, for rooms where an edit cut a surrogate pair in two.

    pycrdt loses clocks then, and with more such edits can crash the process; so it isn't used here. Cut pairs are written
    as two U+FFFD, which is what every Yjs client makes of them, so what this serves is safe to load anywhere, pycrdt
    included. Larger and slower than `Document`: nothing is squashed or collected, and each answer reads all of it.
    """

    __slots__ = ("_cut_pairs", "_full", "_joined", "_mended_size", "_pending")

    def __init__(self, updates: Iterable[bytes], cut_pairs: IdSet) -> None:
        """`updates` as a gate let them through (or `Document.full()` of them), `cut_pairs` that gate's, shared."""
        self._pending = list(updates)
        self._cut_pairs = cut_pairs
        self._joined = EMPTY_UPDATE
        self._full = EMPTY_UPDATE
        self._mended_size = 0

    def apply(self, updates: Sequence[bytes]) -> None:
        """Keep updates; they are joined when somebody asks."""
        self._pending.extend(updates)

    def full(self) -> bytes:
        """An update with everything."""
        size = self._cut_pairs.size
        if self._pending or size != self._mended_size:
            self._joined = join_updates([self._joined, *self._pending])
            self._pending.clear()
            self._full = mend_pairs(self._joined, self._cut_pairs)
            self._mended_size = size
        return self._full

    def clocks(self) -> dict[int, int]:
        """What is in, per client."""
        return {section.client: section.end for section in parse_update(self.full(), ANY_SIZE).sections}

    def state_vector(self) -> bytes:
        """What is in, as an encoded state vector."""
        return encode_state_vector(self.clocks())

    def update_since(self, sv: bytes) -> bytes:
        """An update with everything beyond `sv` (already checked), and all deletions."""
        return update_beyond(self.full(), decode_state_vector(sv, clients_max=_CLIENTS_MAX))

    def agrees_with(self, clocks: Mapping[int, int], touched_clients: Iterable[int]) -> bool:
        """Whether these clients' clocks are those the gate counts."""
        own = self.clocks()
        return all(own.get(client, 0) == clocks.get(client, 0) for client in touched_clients)

    def is_whole(self) -> bool:
        """Whether `full` holds every clock: nothing here can lose one."""
        return True


class RoomDocument:
    """A room's document, whichever way it is kept: live, and from bytes once the gate has seen a surrogate pair cut.

    Ask `gate.admit` first and `apply` what it let through: the switch happens before pycrdt meets the cut.
    """

    __slots__ = ("_gate", "_kept", "_mended_size")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._kept: Document | MergedDocument = Document()
        self._mended_size = 0

    @property
    def is_live(self) -> bool:
        """Whether pycrdt holds it."""
        return isinstance(self._kept, Document)

    def apply(self, updates: Sequence[bytes]) -> None:
        """Take in updates the gate let through, in order. On `DocumentBroken` drop this object and the gate."""
        cut_pairs = self._gate.cut_pairs
        if cut_pairs and isinstance(self._kept, Document):
            if cut_pairs.size != self._mended_size:
                # Everything in so far was before the cut, so the live document is still right.
                self._kept = MergedDocument([self._kept.full()], cut_pairs)
            else:
                # The gate runs ahead of the document: text whose cut is known already may come only now.
                updates = [mend_pairs(update, cut_pairs) for update in updates]
        self._kept.apply(updates)

    def revive(self) -> None:
        """Go back to a live document, for a quiet moment: O(document). Cut pairs are U+FFFD in it, like everywhere."""
        if isinstance(self._kept, MergedDocument):
            live = Document()
            live.apply([self._kept.full()])
            self._mended_size = self._gate.cut_pairs.size
            self._kept = live

    def full(self) -> bytes:
        """An update with everything."""
        return self._kept.full()

    def clocks(self) -> dict[int, int]:
        """What is in, per client."""
        return self._kept.clocks()

    def state_vector(self) -> bytes:
        """What is in, as an encoded state vector."""
        return self._kept.state_vector()

    def update_since(self, sv: bytes) -> bytes:
        """An update with everything beyond `sv` (already checked), and all deletions."""
        return self._kept.update_since(sv)

    def agrees_with(self, clocks: Mapping[int, int], touched_clients: Iterable[int]) -> bool:
        """Whether these clients' clocks are those the gate counts."""
        return self._kept.agrees_with(clocks, touched_clients)

    def is_whole(self) -> bool:
        """Whether `full` holds every clock."""
        return self._kept.is_whole()
