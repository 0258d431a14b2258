"""Puts a node together and runs it: journal, hub, sockets, HTTP, web app, in one process on one event loop.

`create_app` is the ASGI application over a hub; uvicorn with `DirectWebSocket` hosts it fast, any other server hosts it.
`run` is what `tutti serve` calls. Order at the end (R16): readiness off, sockets closed with 1012, rooms closed after their
last commit, then the journal. A disk that fails at the end makes the exit code 1.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from crdt.errors import TuttiError
from server.answers import EXCEPTION_HANDLERS
from server.api import ApiLimits, api_routes
from server.gathering import GatheringSelector
from server.health import health_routes
from server.hub import Hub, settings_to_limits
from server.logs import configure_logging
from server.record import TraceFiles
from server.settings import Settings, SettingsError
from server.socket import Sockets
from server.startup import listen
from server.static import web_routes
from server.store.journal import Journal
from server.store.worker import Worker
from server.telemetry import Telemetry, metrics_route
from server.transport import DeadlineHTTP, DirectWebSocket

logger = logging.getLogger("tutti")


def create_app(hub: Hub, journal: Journal, worker: Worker) -> ASGIApp:
    """The ASGI application of a node whose hub and journal are running. `worker` makes views of large documents.

    Their life is the caller's.
    """
    settings = hub.settings
    routes: list[BaseRoute] = [
        *health_routes(lambda: hub),
        *api_routes(
            lambda: hub,
            journal,
            worker.run,
            limits=ApiLimits(room_name_bytes_max=settings.room_name_bytes_max),
            cors_origins=settings.cors_origins,
        ),
    ]
    if settings.metrics:
        routes.append(metrics_route(hub.telemetry, lambda: hub, journal.counts))
    if settings.web:
        routes += web_routes()
    http = Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS)
    http.router.redirect_slashes = False
    sockets = Sockets(hub)

    async def node(scope: Scope, receive: Receive, send: Send) -> None:
        # Not a route: a room's name may hold anything, line breaks too, which no path pattern matches.
        is_socket = scope["type"] == "websocket" and scope["path"].startswith("/ws/")
        await (sockets if is_socket else http)(scope, receive, send)

    return node


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit code; raises SettingsError when the node can't start."""
    configure_logging(settings.log_level, settings.log_format)
    listeners = listen(settings)
    try:
        try:
            journal = open_journal(settings)
        except TuttiError as error:
            raise SettingsError(f"data_dir {settings.data_dir}: {error}") from None
        selector = GatheringSelector(settings.gather_ms / 1000)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            return runner.run(_serve(settings, journal, listeners))
    finally:
        for listener in listeners:
            listener.close()


def open_journal(settings: Settings) -> Journal:
    """The node's journal as its settings say. Blocks; raises Unavailable or Unreadable."""
    return Journal.open(
        settings.data_dir,
        commit_interval_s=settings.commit_interval_ms / 1000,
        commit_interval_busy_s=settings.commit_interval_busy_ms / 1000,
        retry_s=settings.journal_retry_s,
        compact_rows_min=settings.compact_rows_min,
        compact_bytes_min=settings.compact_bytes_min,
        gate_limits=settings_to_limits(settings).gate,
    )


async def _serve(settings: Settings, journal: Journal, listeners: list[socket.socket]) -> int:
    node_run = os.urandom(4).hex()
    traces = TraceFiles(settings.record_dir, node_run) if settings.record_dir is not None else None
    journal.start(asyncio.get_running_loop())
    telemetry = Telemetry()
    telemetry.watch_gc()
    hub = Hub(settings, journal, telemetry, run=node_run, traces=traces)
    hub.start()
    worker = Worker("views")
    config = uvicorn.Config(
        create_app(hub, journal, worker),
        http=type("HTTP", (DeadlineHTTP,), {"handshake_timeout_s": settings.handshake_timeout_s}),
        ws=DirectWebSocket,
        ws_max_size=settings.message_bytes_max,
        ws_per_message_deflate=False,  # one frame for all readers; compressing is per connection
        ws_ping_interval=None,  # the hub pings, without two timers a connection
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s)),
    )
    server = _Server(config, hub, listeners)
    # What is here now stays: the collector need not look at it again. And it need not look after each 700 objects, with
    # pauses that grow with the number of sessions; reference counting frees nearly everything (R17).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await server.serve(sockets=listeners)
    try:
        await asyncio.wait_for(hub.close(), settings.shutdown_timeout_s)
    except TimeoutError:
        logger.error(  # noqa: TRY400  the traceback of a timeout tells nothing
            "some rooms could not be closed within %g s", settings.shutdown_timeout_s
        )
        return 1
    finally:
        kept = journal.available
        await worker.close()
        await journal.close()
    return 0 if kept else 1


class _Server(uvicorn.Server):
    """uvicorn's server, with signals that end in an orderly return instead of being raised again afterwards."""

    def __init__(self, config: uvicorn.Config, hub: Hub, listeners: list[socket.socket]) -> None:
        super().__init__(config)
        self._hub = hub
        self._listeners = listeners

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """SIGINT and SIGTERM drain the node; a second SIGINT does not wait for open connections."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Readiness off at once, then the rest of the shutdown."""
        self._hub.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Announce where to find us once connections are taken."""
        await super().startup(sockets)
        for listener in self._listeners:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            logger.info("ready on http://%s:%d", "localhost" if shown == "127.0.0.1" else shown, port)
