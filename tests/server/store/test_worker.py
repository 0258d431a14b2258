"""server/store/worker.py: one process, one call at a time, and no process left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdt.errors import Malformed, Unavailable
from server.store.worker import Worker

pytestmark = pytest.mark.integration

OWNER = """
import asyncio, signal, sys, time
from server.store.worker import Worker

signal.alarm(50)  # whatever becomes of the test, this process ends

async def main():
    worker = Worker("test")
    await worker.run(abs, -1)
    print(worker.process_id, flush=True)
    if "busy" in sys.argv:
        await worker.run(time.sleep, 60)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("test")
    yield worker
    await worker.close()


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            # A process without parent may stay as a zombie where nobody reaps: it no longer runs.
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


async def test_it_starts_at_the_first_call_and_answers(worker: Worker) -> None:
    assert worker.process_id is None
    pid = await worker.run(os.getpid)
    assert pid == worker.process_id != os.getpid()
    assert await worker.run(divmod, 7, 2) == (3, 1)
    assert await worker.run(os.getpid) == pid


async def test_what_the_call_raises_is_raised(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.run(divmod, 1, 0)
    with pytest.raises(ValueError, match="invalid literal"):
        await worker.run(int, "x")
    assert await worker.run(abs, -3) == 3


async def test_errors_of_ours_come_back_whole(worker: Worker) -> None:
    error = await worker.run(Malformed, "reason")
    assert (error.reason, error.code) == ("reason", Malformed.code)


async def test_calls_run_one_after_another(worker: Worker) -> None:
    await worker.run(abs, 1)
    started = time.monotonic()
    await asyncio.gather(*(worker.run(time.sleep, 0.1) for _ in range(3)))
    assert time.monotonic() - started >= 0.3


async def test_a_caller_that_gives_up_does_not_mix_up_answers(worker: Worker) -> None:
    await worker.run(abs, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await worker.run(time.sleep, 0.2)
    assert await worker.run(abs, -7) == 7


async def test_a_process_that_dies_is_replaced(worker: Worker) -> None:
    first = await worker.run(os.getpid)
    with pytest.raises(Unavailable, match="test died during _exit"):
        await worker.run(os._exit, 3)
    with pytest.raises(Unavailable, match="test died during raise_signal"):
        await worker.run(signal.raise_signal, signal.SIGKILL)
    assert await worker.run(os.getpid) != first


async def test_close_ends_it_whatever_it_does() -> None:
    worker = Worker("test")
    pid = await worker.run(os.getpid)
    busy = asyncio.create_task(worker.run(time.sleep, 60))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await worker.close()
    assert time.monotonic() - started < 5
    with pytest.raises(Unavailable):
        await busy
    assert gone(pid)
    with pytest.raises(Unavailable, match="test is closed"):
        await worker.run(abs, 1)
    await worker.close()


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_ends_when_its_owner_is_killed(tmp_path: Path, state: str) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen([sys.executable, script, state], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert not gone(pid, 0.1)
        owner.kill()
    assert gone(pid)
