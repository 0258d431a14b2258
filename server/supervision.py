"""How often a room may be restarted before it is quarantined: a bounded restart intensity, as in Erlang's supervisors."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RestartBudget:
    """At most `restarts_max` restarts in any `window_s` seconds."""

    restarts_max: int
    window_s: float
    _spent: deque[float] = field(default_factory=deque)

    def spend(self, now: float) -> bool:
        """One restart at `now`. False when there have been too many: do something else."""
        while self._spent and self._spent[0] <= now - self.window_s:
            self._spent.popleft()
        if len(self._spent) >= self.restarts_max:
            return False
        self._spent.append(now)
        return True

    def reset(self) -> None:
        """Forget what was spent: the quarantine is over."""
        self._spent.clear()
