"""Recognises our own frames when they come back.

y-websocket (every version) and Hocuspocus providers 2 and 3 send each awareness change they receive back to the server.
In a room of a thousand, one frame of a hundred entries returns a thousand times; parsing a hundred entries each time
would be most of the node's work. A provider that runs JSON.stringify over what JSON.parse gave it produces the bytes it
received, except for its own entry, which was no news to it. Both forms are compared as bytes.

Only ever a shortcut: whatever isn't recognised is parsed, and changes nothing either.
"""

from collections import OrderedDict
from itertools import accumulate, pairwise
from typing import Final

from crdt.varint import encode_uint
from presence.awareness import join_entries

FRAMES_MAX: Final = 16
"""A round trip of 200 ms at 60 frames a second is 12."""
BYTES_MAX: Final = 256 * 1024
WINDOW_S: Final = 5.0
"""An echo that takes longer is parsed. A quiet room shouldn't keep its last frames for good."""


class _Frame:
    """One sent update of several entries, and where each client's lies in it: found out when somebody asks."""

    __slots__ = ("_clients", "_encoded", "_header_size", "_spans", "_update", "sent_at")

    def __init__(self, update: bytes, clients: list[int], encoded: list[bytes], sent_at: float) -> None:
        self.sent_at = sent_at
        self._update = update
        self._clients = clients
        self._encoded = encoded
        self._header_size = len(encode_uint(len(clients)))
        self._spans: dict[int, tuple[int, int]] | None = None

    def without(self, client: int, update: bytes) -> bool:
        """Whether `update` is this frame without that client's entry."""
        if self._spans is None:
            ends = list(accumulate(map(len, self._encoded), initial=self._header_size))
            self._spans = dict(zip(self._clients, pairwise(ends), strict=True))
        if client not in self._spans:
            return False
        start, end = self._spans[client]
        header = encode_uint(len(self._clients) - 1)
        return (
            len(update) == len(self._update) - self._header_size + len(header) - (end - start)
            and update.startswith(header)
            and update.startswith(self._update[self._header_size : start], len(header))
            and update.endswith(self._update[end:])
        )


class Echoes:
    """The last frames sent to everybody, bounded in number, bytes and time."""

    __slots__ = ("_bytes", "_frames")

    def __init__(self) -> None:
        self._frames: OrderedDict[bytes, _Frame] = OrderedDict()
        self._bytes = 0

    def remember(self, clients: list[int], encoded: list[bytes], now: float) -> bytes:
        """The update made of these entries (one per client), which is kept for a while."""
        update = join_entries(encoded)
        self._forget(update)
        self._frames[update] = _Frame(update, clients, encoded, now)
        self._bytes += len(update)
        while self._frames:
            oldest = next(iter(self._frames))
            fits = len(self._frames) <= FRAMES_MAX and self._bytes <= BYTES_MAX
            if fits and self._frames[oldest].sent_at + WINDOW_S > now:
                break
            self._forget(oldest)
        return update

    def recognise(self, update: bytes, own: int) -> bool:
        """Whether a session that owns the client `own` merely sends back what it was sent."""
        if update in self._frames:
            return True
        if len(update) < 2 or update[0] == 1:  # one entry: parsing it costs less than looking further
            return False
        return any(frame.without(own, update) for frame in reversed(self._frames.values()))

    def _forget(self, update: bytes) -> None:
        if self._frames.pop(update, None) is not None:
            self._bytes -= len(update)
