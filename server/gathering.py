"""The loop's selector, which lets a little work gather before it looks again: what network cards call interrupt moderation.

A process that wakes for each message runs cold: at 500 edits a second in 100 rooms the same instructions took a sixth
more CPU, in the kernel too, than when two or three messages were handled at one waking (docs/PERFORMANCE.md). So
above `BUSY_EVENTS_PER_S` there are at least `gather_s` between two looks at the sockets. Below it nothing waits, and
nothing that is due by the clock (ticks, commits) ever does.
"""

import selectors
import time
from typing import Final

BUSY_EVENTS_PER_S: Final = 200.0
"""From here on there is company to wait for: one event each 5 ms."""

PERIOD_S: Final = 0.25
"""How often the rate is taken."""


class GatheringSelector(selectors.DefaultSelector):
    """For `asyncio.SelectorEventLoop`. `gather_s` of 0 makes it an ordinary selector."""

    def __init__(self, gather_s: float) -> None:
        super().__init__()
        self._gather_s = gather_s
        self._gathers = False
        self._looked_at = 0.0
        self._events = 0
        self._period_from = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As in `selectors`. Sleeps first if it looked a moment ago, though never past `timeout`."""
        if self._gathers and (timeout is None or timeout > 0):
            wait = self._looked_at + self._gather_s - time.monotonic()
            if wait > 0:
                if timeout is not None:
                    wait = min(wait, timeout)
                    timeout -= wait
                time.sleep(wait)
        ready = super().select(timeout)
        if ready and self._gather_s:
            now = self._looked_at = time.monotonic()
            self._events += len(ready)
            if now - self._period_from >= PERIOD_S:
                self._gathers = self._events >= BUSY_EVENTS_PER_S * (now - self._period_from)
                self._events = 0
                self._period_from = now
        return ready
