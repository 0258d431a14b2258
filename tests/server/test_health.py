"""Liveness says that the loop runs, readiness what is away and since when."""

from dataclasses import dataclass

import httpx
import pytest
from starlette.applications import Starlette

from server.health import health_routes


@dataclass(frozen=True)
class Dependency:
    name: str
    ok: bool
    reason: str | None
    since_s: float


@dataclass
class Hub:
    is_ready: bool
    dependencies: list[Dependency]

    def ready(self) -> tuple[bool, list[Dependency]]:
        return self.is_ready, self.dependencies


async def get(hub: Hub, path: str) -> httpx.Response:
    app = Starlette(routes=health_routes(lambda: hub, clock=lambda: 1_700_000_000.0))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        return await client.get(path)


BROKEN = Hub(is_ready=False, dependencies=[Dependency("journal", ok=False, reason="disk is full", since_s=90.04)])


async def test_a_ready_node_is_ready() -> None:
    hub = Hub(is_ready=True, dependencies=[Dependency("journal", ok=True, reason=None, since_s=5.0)])
    response = await get(hub, "/health/ready")
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    assert response.headers["cache-control"] == "no-cache"


async def test_what_is_away_is_named_with_its_reason_and_since_when() -> None:
    response = await get(BROKEN, "/health/ready")
    assert response.status_code == 503
    assert response.json() == {
        "status": "not_ready",
        "dependencies": [
            {"name": "journal", "ok": False, "reason": "disk is full", "since": "2023-11-14T22:11:49Z", "since_s": 90.0}
        ],
    }


async def test_a_draining_node_is_not_ready_although_nothing_is_away() -> None:
    response = await get(Hub(is_ready=False, dependencies=[]), "/health/ready")
    assert (response.status_code, response.json()) == (503, {"status": "not_ready", "dependencies": []})


@pytest.mark.parametrize("hub", [BROKEN, Hub(is_ready=True, dependencies=[])])
async def test_a_node_that_lacks_something_lives_all_the_same(hub: Hub) -> None:
    response = await get(hub, "/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "live"})
