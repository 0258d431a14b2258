"""`/health/live` and `/health/ready`: for whoever restarts the process, and for whoever sends it traffic.

Live is answered as long as the event loop runs and says nothing else: a node whose disk is full must not be killed for
it. Ready is 503 while something the node needs is away, and says what, why and since when; editing goes on meanwhile
where it can.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.answers import json_response


class Dependency(Protocol):
    """Something the node needs, such as its journal. `since_s` is how long it has been as it is, in seconds."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def since_s(self) -> float: ...


class Hub(Protocol):
    """Knows what the node depends on."""

    def ready(self) -> tuple[bool, Sequence[Dependency]]:
        """Whether clients should be sent here, and every dependency."""


def health_routes(hub: Callable[[], Hub], *, clock: Callable[[], float] = time.time) -> list[Route]:
    """Both routes. `hub` is asked at each request; `clock` gives seconds since the epoch."""

    async def live(_request: Request) -> Response:
        return json_response({"status": "live"})

    async def ready(_request: Request) -> Response:
        is_ready, dependencies = hub().ready()
        body = {
            "status": "ready" if is_ready else "not_ready",
            "dependencies": [_describe(dependency, clock()) for dependency in dependencies],
        }
        return json_response(body, 200 if is_ready else 503)

    return [Route("/health/live", live), Route("/health/ready", ready)]


def _describe(dependency: Dependency, now: float) -> dict[str, Any]:
    since = datetime.fromtimestamp(now - dependency.since_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "name": dependency.name,
        "ok": dependency.ok,
        "reason": dependency.reason,
        "since": since,
        "since_s": round(dependency.since_s, 1),
    }
