"""The gathering selector: waits only while busy, never past a deadline. Time is the module's, replaced by a number."""

import selectors
import socket
from collections.abc import Iterator

import pytest

from server import gathering
from server.gathering import GatheringSelector


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gathering, "time", clock)
    return clock


@pytest.fixture
def ready() -> Iterator[socket.socket]:
    """A socket that always has something to read."""
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    yield ours
    ours.close()
    theirs.close()


def busy(selector: GatheringSelector, clock: Clock, *, events_per_s: float) -> None:
    for _ in range(int(events_per_s)):
        clock.now += 1 / events_per_s
        selector.select(0)


def make(ready: socket.socket, gather_s: float) -> GatheringSelector:
    selector = GatheringSelector(gather_s)
    selector.register(ready, selectors.EVENT_READ)
    return selector


def test_a_quiet_loop_waits_for_nothing(clock: Clock, ready: socket.socket) -> None:
    with make(ready, 0.004) as selector:
        busy(selector, clock, events_per_s=150)
        assert selector.select(1.0)
        assert clock.slept == []


def test_a_busy_loop_looks_at_most_so_often(clock: Clock, ready: socket.socket) -> None:
    with make(ready, 0.004) as selector:
        busy(selector, clock, events_per_s=1000)
        clock.now += 0.001
        assert selector.select(1.0)
        assert clock.slept == [pytest.approx(0.003)]


def test_what_is_due_is_not_delayed(clock: Clock, ready: socket.socket) -> None:
    with make(ready, 0.004) as selector:
        busy(selector, clock, events_per_s=1000)
        assert selector.select(0.001)
        assert clock.slept == [0.001]
        assert selector.select(0)
        assert len(clock.slept) == 1


def test_a_loop_that_works_longer_than_that_does_not_wait(clock: Clock, ready: socket.socket) -> None:
    with make(ready, 0.004) as selector:
        busy(selector, clock, events_per_s=1000)
        clock.now += 0.005
        assert selector.select(1.0)
        assert clock.slept == []


def test_it_can_be_turned_off(clock: Clock, ready: socket.socket) -> None:
    with make(ready, 0.0) as selector:
        busy(selector, clock, events_per_s=1000)
        assert selector.select(1.0)
        assert clock.slept == []
