"""Which of a session's document frames are durable: the count behind the saved signal (R4).

A frame is *covered* by a row of the journal when everything in it took effect in that row or before. The count is the
longest prefix of frames whose rows are committed. A frame that was refused leaves a hole, and the prefix stops there
until a step 2 that answers a step 1 sent after the hole is covered: such an answer holds all the peer has.
"""

from collections import deque
from typing import Final

_WAITING: Final = -1
"""No row yet: queued, or held for a gap."""
_HOLE: Final = -2
"""Refused: only a later step 2 can stand for it."""


class SavedLedger:
    """One session's frames, oldest first. Frames are numbered from 0."""

    __slots__ = ("_answers", "_asked", "_first", "_holes", "_rows", "count")

    def __init__(self) -> None:
        self.count = 0
        """Frames known durable."""
        self._first = 0  # number of the frame at the head of _rows
        self._rows: deque[int] = deque()
        self._holes: list[tuple[int, int]] = []  # (frame, number of the step 1 whose answer stands for it)
        self._asked = 0  # step 1s sent
        self._answers = 0  # step 2s received: the nth answers the nth step 1, since a socket keeps order

    @property
    def settled(self) -> bool:
        """Every frame received is durable."""
        return not self._rows

    def asked(self) -> None:
        """We sent the peer a step 1."""
        self._asked += 1

    def received(self) -> int:
        """A document frame came in. Returns its number."""
        self._rows.append(_WAITING)
        return self._first + len(self._rows) - 1

    def answered(self) -> int:
        """That frame was a step 2. Returns which of our step 1s it answers."""
        self._answers += 1
        return self._answers

    def covered(self, frame: int, seq: int) -> None:
        """All of `frame` is in the rows up to `seq`."""
        self._rows[frame - self._first] = seq

    def covered_holes(self, answer: int, seq: int) -> None:
        """The step 2 numbered `answer` is in the rows up to `seq`, and so is whatever was refused before we asked."""
        if self._holes:
            for frame, needs in self._holes:
                if needs <= answer:
                    self._rows[frame - self._first] = seq
            self._holes = [hole for hole in self._holes if hole[1] > answer]

    def refused(self, frame: int) -> None:
        """`frame` was not accepted. The next step 1 sent repairs it."""
        self._rows[frame - self._first] = _HOLE
        self._holes.append((frame, self._asked + 1))

    def restarted(self, kept: int) -> None:
        """The room starts over with the rows up to `kept`: whatever has no row or a later one is a hole now (R13)."""
        for index, seq in enumerate(self._rows):
            if seq == _WAITING or seq > kept:
                self.refused(self._first + index)

    def committed(self, seq: int) -> bool:
        """Rows up to `seq` are on disk. True if `count` rose."""
        before = self.count
        rows = self._rows
        while rows and 0 <= rows[0] <= seq:
            rows.popleft()
            self._first += 1
        self.count = self._first
        return self.count > before
