"""How busy the node is, and the tick interval that follows from it.

Rooms tick at the fastest cadence while there is CPU to spare; when the loop's thread nears saturation the interval
stretches by half each period, down to the slowest cadence, and shrinks by a quarter once there is room again: latency
is given up a little before throughput is. The share of CPU says it better than loop lag, which also grows by chance
when another process takes the core.
"""

from dataclasses import dataclass

BUSY_SHARE = 0.85
"""Above it the loop can't take a burst any more; below `SPARE_SHARE` there is room for faster ticks."""
SPARE_SHARE = 0.6
PERIOD_S = 0.25
"""How often to look: ten slow ticks at most before a change shows."""


@dataclass(slots=True)
class Pace:
    """The node's current tick interval, in seconds."""

    fastest_s: float
    slowest_s: float
    tick_interval_s: float

    @classmethod
    def between(cls, fastest_s: float, slowest_s: float) -> "Pace":
        """Starts at the fastest."""
        return cls(fastest_s, slowest_s, fastest_s)

    def observe(self, cpu_share: float) -> None:
        """`cpu_share` (0 to 1) of the last period was spent by the loop's thread."""
        if cpu_share > BUSY_SHARE:
            self.tick_interval_s = min(self.tick_interval_s * 1.5, self.slowest_s)
        elif cpu_share < SPARE_SHARE:
            self.tick_interval_s = max(self.tick_interval_s * 0.75, self.fastest_s)
