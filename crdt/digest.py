"""Two 8-byte hashes of what a room knows: one of its clocks, one of its deletions (R5).

Equal sets give equal hashes on any node and in any order of arrival: each client is hashed alone and the hashes are
added modulo 2^64. Only clients changed since the last call are hashed again. A room that is never asked keeps none
of this.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from crdt.ranges import IdSet

_MODULUS: Final = 2**64


def _hash(client: int, content: bytes) -> int:
    return int.from_bytes(blake2b(client.to_bytes(8, "little") + content, digest_size=8).digest(), "little")


class Digest:
    """The hashes of one room. Whoever changes clocks or deletions adds the client to `stale_*`."""

    __slots__ = ("_clock_hashes", "_clock_sum", "_deletion_hashes", "_deletion_sum", "stale_clocks", "stale_deletions")

    def __init__(self, clocks: Mapping[int, int], deletions: IdSet) -> None:
        self._clock_hashes: dict[int, int] = {}
        self._deletion_hashes: dict[int, int] = {}
        self._clock_sum = 0
        self._deletion_sum = 0
        self.stale_clocks = set(clocks)
        self.stale_deletions = set(deletions)

    def hashes(self, clocks: Mapping[int, int], deletions: IdSet) -> tuple[bytes, bytes]:
        """Both hashes, 8 bytes each, after hashing what went stale. Sums commute: the order of a set is no matter."""
        for client in self.stale_clocks:
            fresh = _hash(client, clocks[client].to_bytes(8, "little"))
            self._clock_sum += fresh - self._clock_hashes.get(client, 0)
            self._clock_hashes[client] = fresh
        self.stale_clocks.clear()
        for client in self.stale_deletions:
            ranges = deletions.get(client)
            fresh = _hash(client, ranges.packed()) if ranges is not None else 0
            self._deletion_sum += fresh - self._deletion_hashes.get(client, 0)
            self._deletion_hashes[client] = fresh
        self.stale_deletions.clear()
        self._clock_sum %= _MODULUS
        self._deletion_sum %= _MODULUS
        return self._clock_sum.to_bytes(8, "little"), self._deletion_sum.to_bytes(8, "little")
