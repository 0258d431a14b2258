"""The pycrdt document behind the gate, and its stand-in that serves from bytes.

The only module (with `crdt.views`) that calls pycrdt. Knows what can break there: a `ValueError` or `RuntimeError`
on bytes it can't hold, and a Rust panic, which derives from BaseException. Any of them on bytes the gate let
through means the document is no longer trusted: `DocumentBroken`, and the room is rebuilt from its journal (R13).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import pycrdt

from crdt.errors import DocumentBroken
from crdt.state_vector import decode_state_vector

MERGE_FAN_IN: Final = 50
"""Updates merged in one call: merge_updates is quadratic (20,000 at once take 10 s, in a tree of 50 milliseconds)."""

_CLIENTS_MAX: Final = 2**31
"""No bound on our own state vectors: the gate bounded what went in."""


class Holding(Protocol):
    """What a room needs of its document, whichever way it is kept."""

    def apply(self, updates: Sequence[bytes]) -> None:
        """Take in updates the gate let through, in order."""

    def state_vector(self) -> bytes:
        """What is in, as an encoded state vector."""

    def clocks(self) -> dict[int, int]:
        """What is in, per client."""

    def update_since(self, sv: bytes) -> bytes:
        """An update with everything beyond `sv`, and all deletions."""

    def full(self) -> bytes:
        """An update with everything."""


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
    return level[0] if level else b"\x00\x00"


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
        late: the fault shows here with the edits that follow it; `Gate.splits_pairs` tells at once, and
        `is_whole` proves it on a document at rest.
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
    """The same answers from bytes alone, for rooms whose live document lost clocks.

    Larger and slower than `Document` (nothing is squashed or collected) and right where pycrdt is not: a deletion or
    insertion between the two halves of a surrogate pair (protocol reference, section 7).
    """

    __slots__ = ("_merged", "_pending")

    def __init__(self, updates: Iterable[bytes] = ()) -> None:
        self._pending = list(updates)
        self._merged: bytes | None = None

    def apply(self, updates: Sequence[bytes]) -> None:
        """Keep updates; they are merged when somebody asks."""
        self._pending.extend(updates)

    def full(self) -> bytes:
        """An update with everything."""
        if self._pending:
            fresh = merge_all(self._pending)
            self._merged = fresh if self._merged is None else merge_all((self._merged, fresh))
            self._pending.clear()
        return self._merged if self._merged is not None else b"\x00\x00"

    def state_vector(self) -> bytes:
        """What is in, as an encoded state vector."""
        full = self.full()
        try:
            return pycrdt.get_state(full)
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"reading an update's state failed: {error}") from error
            raise

    def clocks(self) -> dict[int, int]:
        """What is in, per client."""
        return decode_state_vector(self.state_vector(), clients_max=_CLIENTS_MAX)

    def update_since(self, sv: bytes) -> bytes:
        """An update with everything beyond `sv` (already checked), and all deletions."""
        full = self.full()
        try:
            return pycrdt.get_update(full, sv)
        except BaseException as error:
            if is_pycrdt_fault(error):
                raise DocumentBroken(f"encoding an update failed: {error}") from error
            raise

    def agrees_with(self, clocks: Mapping[int, int], touched_clients: Iterable[int]) -> bool:
        """Whether these clients' clocks are those the gate counts."""
        own = self.clocks()
        return all(own.get(client, 0) == clocks.get(client, 0) for client in touched_clients)
