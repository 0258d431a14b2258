"""A node inside the test's own loop, hosted by any uvicorn protocol: for what must also work without our transport.

async with Hosted(tmp_path, ws="websockets-sansio") as node:
    connect(node.ws_url + "/room")
    node.hub.rooms
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from server.app import create_app, open_journal
from server.hub import Hub
from server.record import TraceFiles
from server.settings import Settings
from server.store.worker import Worker
from server.telemetry import Telemetry
from server.transport import DirectWebSocket


class Hosted:
    """One node; `settings` as `Settings` takes them, `ws` as uvicorn does (the default is what a node runs with)."""

    def __init__(
        self, folder: Path, *, ws: Any = DirectWebSocket, record_dir: Path | None = None, **settings: Any
    ) -> None:
        self.settings = Settings(data_dir=folder / "data", web=False, record_dir=record_dir, **settings)
        self._ws = ws

    async def __aenter__(self) -> Self:
        self._journal = open_journal(self.settings)
        self._journal.start(asyncio.get_running_loop())
        self.telemetry = Telemetry()
        traces = TraceFiles(self.settings.record_dir, "run") if self.settings.record_dir is not None else None
        self.hub = Hub(self.settings, self._journal, self.telemetry, run="run", traces=traces)
        self.hub.start()
        self._worker = Worker("views")
        self._stack = AsyncExitStack()
        app = create_app(self.hub, self._journal, self._worker)
        self.ws_url = await self._stack.enter_async_context(
            serving(app, ws=self._ws, max_size=self.settings.message_bytes_max)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await self.hub.close()
        await self._worker.close()
        await self._journal.close()


@asynccontextmanager
async def serving(app: Any, *, ws: Any = DirectWebSocket, max_size: int = 1 << 24) -> AsyncIterator[str]:
    """Any ASGI application on loopback, in this loop. Gives the address in front of a room's name."""
    config = uvicorn.Config(
        app,
        ws=ws,
        ws_max_size=max_size,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    with socket.create_server(("127.0.0.1", 0)) as plug:
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[plug]))
        try:
            while not server.started:
                assert not task.done()
                await asyncio.sleep(0.005)
            yield f"ws://127.0.0.1:{plug.getsockname()[1]}/ws"
        finally:
            server.should_exit = True
            await task


class _Server(uvicorn.Server):
    """uvicorn's, leaving signals to pytest."""

    def capture_signals(self) -> Any:
        return _Nothing()


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
