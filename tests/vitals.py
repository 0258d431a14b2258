"""How a running server feels: its memory, and how long its loop held still, seen from the outside.

A stall is measured by WebSocket pings, which the server answers in the turn of the loop that reads them. On a machine
with other work an answer is late for many reasons, so a late answer counts only as far as the server's own loop thread
was computing meanwhile, by the kernel's books. Linux only, as the memory figures are.
"""

import asyncio
import re
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from websockets.frames import Opcode

from tests.serving import Serve
from tests.wire import Wire, frame

PROBE_PAUSE_S = 0.002
"""Between a pong and the next ping."""


class LoopProbe:
    """Watches the server's loop while the `async with` block runs; then `stall_s` is its longest hold."""

    def __init__(self, node: Serve) -> None:
        self._node = node
        self.stall_s = 0.0
        """The longest time that a ping waited while the loop thread computed."""
        self.late_s = 0.0
        """The longest time that a ping waited, for whatever reason."""
        self.pings = 0

    async def __aenter__(self) -> Self:
        self._wire = await Wire.open(self._node.ws_url, "probe of the loop")
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One more full round, so that a hold that lasts until now is seen whole.
        rounds = self.pings + 2
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self.pings < rounds and not self._task.done():  # noqa: ASYNC110  counted up by the task itself
                    await asyncio.sleep(0.005)
        self._task.cancel()
        ended = (await asyncio.gather(self._task, return_exceptions=True))[0]
        await self._wire.cut()
        if error is None and not isinstance(ended, asyncio.CancelledError):
            raise AssertionError(f"the loop could not be watched to the end: {ended!r}")

    async def _run(self) -> None:
        wire = self._wire
        while True:
            cpu, asked = loop_cpu_s(self._node.pid), time.perf_counter()
            await wire.write(frame(b"", Opcode.PING))
            pongs = wire.pongs
            await wire.read_until("a pong", lambda count=pongs: wire.pongs > count, within_s=60)  # type: ignore[misc]
            waited = time.perf_counter() - asked
            self.late_s = max(self.late_s, waited)
            self.stall_s = max(self.stall_s, min(waited, loop_cpu_s(self._node.pid) - cpu))
            self.pings += 1
            wire.messages.clear()
            await asyncio.sleep(PROBE_PAUSE_S)


def loop_cpu_s(pid: int) -> float:
    """CPU time that the process's first thread has used: it runs the event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def rss_bytes(pid: int) -> int:
    """Memory the process holds now."""
    (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


class RssProbe:
    """Watches the server's memory while the `async with` block runs: `growth_bytes` is its highest above the start."""

    def __init__(self, node: Serve) -> None:
        self._pid = node.pid
        self.start_bytes = 0
        self.peak_bytes = 0

    @property
    def growth_bytes(self) -> int:
        return self.peak_bytes - self.start_bytes

    async def __aenter__(self) -> Self:
        self.start_bytes = self.peak_bytes = rss_bytes(self._pid)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.peak_bytes = max(self.peak_bytes, rss_bytes(self._pid))

    async def _run(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, rss_bytes(self._pid))
            await asyncio.sleep(0.01)


async def metrics(node: Serve) -> dict[str, float]:
    """What `/metrics` says now, by name with labels. Asking resets the worst loop lag."""
    text = await asyncio.to_thread(_get, f"{node.url}/metrics")
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    }


async def is_live(node: Serve) -> bool:
    """`/health/live` answers."""
    await asyncio.to_thread(_get, f"{node.url}/health/live")
    return True


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text
