"""server/store/compactor.py: which room is due, and that only one is worked on."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.store import compactor as compactor_module
from server.store.compactor import ROW_WEIGHT_BYTES, Compactor, Growth, Verdict

A, B = RoomKey("", "a"), RoomKey("", "b")


class Jobs:
    """Stands for the work itself: notes what was asked for, answers what the test wants."""

    def __init__(self) -> None:
        self.asked: list[RoomKey] = []
        self.verdict = Verdict(swapped=True, snapshot_bytes=100)
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0

    async def compact(self, key: RoomKey) -> Verdict:
        self.asked.append(key)
        self.running += 1
        assert self.running == 1, "one at a time"
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return self.verdict


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def compactor(jobs: Jobs) -> AsyncIterator[Compactor]:
    compactor = Compactor(jobs.compact, rows_min=10, bytes_min=10_000, pause_s=0.0)
    yield compactor
    await compactor.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_nothing_new_is_never_due() -> None:
    assert not Growth(snapshot_bytes=0).due(0, 0)


@pytest.mark.parametrize(
    ("growth", "due"),
    [
        (Growth(rows=9, bytes=9_999), False),
        (Growth(rows=10), True),
        (Growth(rows=1, bytes=10_000), True),
        (Growth(rows=10, snapshot_bytes=8 * 10 * ROW_WEIGHT_BYTES), True),
        (Growth(rows=10, snapshot_bytes=8 * 10 * ROW_WEIGHT_BYTES + 1), False),
        (Growth(rows=10, not_before=10 * ROW_WEIGHT_BYTES), True),
        (Growth(rows=10, not_before=10 * ROW_WEIGHT_BYTES + 1), False),
    ],
)
def test_when_a_room_is_due(growth: Growth, *, due: bool) -> None:
    assert growth.due(10, 10_000) is due


async def test_commits_make_a_room_due(compactor: Compactor, jobs: Jobs) -> None:
    for _ in range(9):
        compactor.committed(A, 100)
    await settle()
    assert jobs.asked == []
    compactor.committed(A, 100)
    await settle()
    assert jobs.asked == [A]
    for _ in range(9):
        compactor.committed(A, 100)
    await settle()
    assert jobs.asked == [A], "counted from the snapshot on"


async def test_a_load_of_many_rows_makes_a_room_due(compactor: Compactor, jobs: Jobs) -> None:
    compactor.loaded(A, rows=3, row_bytes=300, snapshot_bytes=0)
    compactor.loaded(B, rows=300, row_bytes=300, snapshot_bytes=1)
    await settle()
    assert jobs.asked == [B]


async def test_a_closed_room_is_due_earlier_and_forgotten(compactor: Compactor, jobs: Jobs) -> None:
    compactor.committed(A, 10)
    compactor.loaded(B, rows=0, row_bytes=0, snapshot_bytes=100)
    compactor.evicted(A)
    compactor.evicted(B)
    compactor.evicted(RoomKey("", "never seen"))
    await settle()
    assert jobs.asked == [A]
    assert compactor._growth == {}


async def test_one_room_at_a_time_and_each_once(compactor: Compactor, jobs: Jobs) -> None:
    jobs.gate.clear()
    for _ in range(30):
        compactor.committed(A, 100)
        compactor.committed(B, 100)
        await settle()
    assert jobs.asked == [A]
    jobs.gate.set()
    async with asyncio.timeout(5):
        while len(jobs.asked) < 3:  # noqa: ASYNC110 - the compactor has nothing to wait on
            await asyncio.sleep(0.01)
    assert jobs.asked == [A, B, A], "rows that came while it ran count for the next time"


async def test_asked_for_by_hand_it_waits_its_turn(compactor: Compactor, jobs: Jobs) -> None:
    jobs.gate.clear()
    first, second = asyncio.create_task(compactor.compact(A)), asyncio.create_task(compactor.compact(B))
    await settle()
    assert jobs.asked == [A]
    jobs.gate.set()
    assert [await first, await second] == [jobs.verdict, jobs.verdict]


async def test_what_cannot_be_proven_is_left_alone_until_it_doubled(
    compactor: Compactor, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.verdict = Verdict(swapped=False, reason="its deletions would differ")
    for _ in range(19):
        compactor.committed(A, 0)
        await settle()
    assert jobs.asked == [A]
    assert "room a keeps its rows: its deletions would differ" in caplog.text
    compactor.evicted(A)
    compactor.loaded(A, rows=19, row_bytes=0, snapshot_bytes=0)
    await settle()
    assert jobs.asked == [A], "not at its next load either"
    compactor.committed(A, 0)
    await settle()
    assert jobs.asked == [A, A]


async def test_a_failed_job_counts_its_rows_again(compactor: Compactor, jobs: Jobs) -> None:
    jobs.error = Unavailable("compaction died")
    compactor.loaded(A, rows=10, row_bytes=50, snapshot_bytes=0)
    await settle()
    assert (compactor._growth[A].rows, compactor._growth[A].bytes) == (10, 50)


async def test_it_pauses_as_long_as_it_worked(jobs: Jobs) -> None:
    compactor = Compactor(jobs.compact, rows_min=1, bytes_min=1, pause_s=0.0)
    jobs.gate.clear()
    compactor.committed(A, 1)
    compactor.committed(B, 1)
    await asyncio.sleep(0.1)
    jobs.gate.set()
    await asyncio.sleep(0.05)
    assert jobs.asked == [A]
    await asyncio.sleep(0.1)
    assert jobs.asked == [A, B]
    await compactor.close()


async def test_closing_gives_up_what_is_under_way(compactor: Compactor, jobs: Jobs) -> None:
    jobs.gate.clear()
    compactor.loaded(A, rows=10, row_bytes=0, snapshot_bytes=0)
    await settle()
    await compactor.close()
    assert jobs.running == 0
    compactor.loaded(B, rows=10, row_bytes=0, snapshot_bytes=0)
    await settle()
    assert jobs.asked == [A]


async def test_only_so_many_rooms_are_remembered(
    compactor: Compactor, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor_module, "ROOMS_MAX", 3)
    for number in range(10):
        compactor.committed(RoomKey("", str(number)), 1)
    assert list(compactor._growth) == [RoomKey("", str(number)) for number in (7, 8, 9)]
