"""What is on its way to one reader: bounded, in pieces, and honest about being full (R7, R8).

While the peer reads, a frame goes straight to the transport and nothing is kept here. Once the transport's own buffer
is over its high-water mark, frames queue here *by reference* (a broadcast frame is one object for all its readers), and
large ones, which come as fragments, are handed over one by one as the buffer drains: 150 readers of 20 MB cost 20 MB
and not 3 GB. The outbox never drops or reorders: it reports what it holds, and the room decides what is not sent.
"""

from collections import deque
from enum import IntEnum
from typing import Protocol

WireFrame = bytes | tuple[bytes, ...]
"""A finished WebSocket message: one frame, or its fragments in order."""


class Fill(IntEnum):
    """How full an outbox is."""

    CLEAR = 0
    BUSY = 1
    """Over half the limit."""
    FULL = 2
    """Over the limit; the frame that went over it was still taken."""


class Wire(Protocol):
    """The transport under an outbox."""

    writable_now: bool
    """The kernel took all that was written so far."""

    def write(self, data: bytes) -> None:
        """Hand a finished frame or fragment to the kernel or the transport's buffer; never blocks."""


class Outbox:
    """One connection's outgoing side."""

    __slots__ = ("_queue", "_wire", "bytes", "bytes_max", "reported")

    def __init__(self, wire: Wire, bytes_max: int) -> None:
        self._wire = wire
        self._queue: deque[bytes] | None = None  # made when first needed: most readers never need one
        self.bytes = 0
        """Bytes held here, the transport's buffer not included."""
        self.bytes_max = bytes_max
        self.reported = Fill.CLEAR
        """The worst that `put` returned since the outbox was last empty."""

    def put(self, frame: WireFrame) -> Fill:
        """Take a frame. Returns BUSY or FULL when that has just come to be, else CLEAR."""
        if type(frame) is bytes:
            if not self.bytes and self._wire.writable_now:
                self._wire.write(frame)
                return Fill.CLEAR
            pieces: tuple[bytes, ...] = (frame,)
        else:
            assert isinstance(frame, tuple)
            pieces = frame
        if self._queue is None:
            self._queue = deque()
        self._queue.extend(pieces)
        self.bytes += sum(map(len, pieces))
        self.pump()
        fill = Fill.FULL if self.bytes > self.bytes_max else Fill(self.bytes > self.bytes_max // 2)
        if fill <= self.reported:
            return Fill.CLEAR
        self.reported = fill
        return fill

    def pump(self) -> bool:
        """The transport may take more. True when the outbox ran empty after it had been reported busy or full."""
        queue = self._queue
        while queue and self._wire.writable_now:
            piece = queue.popleft()
            self.bytes -= len(piece)
            self._wire.write(piece)
        if self.bytes or not self._wire.writable_now:
            return False
        self._queue = None
        was_reported = self.reported is not Fill.CLEAR
        self.reported = Fill.CLEAR
        return was_reported
