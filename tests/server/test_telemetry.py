"""Counts as Prometheus reads them."""

import gc
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.applications import Starlette

from crdt.errors import CloseCode
from server import telemetry as module
from server.store.journal import JournalCounts
from server.telemetry import LAG_BUCKETS_S, Telemetry, metrics_route


@dataclass
class Hub:
    sessions: int = 12
    open_rooms: int = 3


class Node:
    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.counts = JournalCounts()
        self.app = Starlette(routes=[metrics_route(self.telemetry, Hub, self.counts)])

    async def text(self, accept: str = "") -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://node") as client:
            return await client.get("/metrics", headers={"Accept": accept})

    async def samples(self) -> dict[str, float]:
        """`name` or `name{label="value"}` -> value."""
        found = {}
        for family in parse_text((await self.text()).text):
            assert family.documentation
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


async def test_every_field_that_counts_is_exported() -> None:
    node = Node()
    plain = [name for name in Telemetry.__slots__ if isinstance(getattr(node.telemetry, name), int)]
    assert sorted(plain) == sorted(module._COUNTERS)
    for number, name in enumerate(plain, start=1):
        setattr(node.telemetry, name, number)
    samples = await node.samples()
    for number, name in enumerate(plain, start=1):
        assert samples[f"tutti_{module._COUNTERS[name][0]}_total"] == number


async def test_the_journal_counts_for_itself() -> None:
    node = Node()
    assert set(module._JOURNAL_COUNTERS) == set(JournalCounts.__slots__)
    node.counts.commits = 5
    node.counts.commit_s = 0.25
    samples = await node.samples()
    assert samples["tutti_journal_commits_total"] == 5
    assert samples["tutti_journal_commit_seconds_total"] == 0.25


async def test_what_is_open_is_asked_at_each_scrape() -> None:
    samples = await Node().samples()
    assert (samples["tutti_sessions"], samples["tutti_rooms_open"]) == (12, 3)


async def test_closes_and_refusals_are_told_apart_by_code() -> None:
    node = Node()
    node.telemetry.closed(CloseCode.TOO_SLOW)
    node.telemetry.closed(CloseCode.TOO_SLOW)
    node.telemetry.refused(CloseCode.MALFORMED)
    samples = await node.samples()
    assert samples['tutti_closes_total{code="4508"}'] == 2
    assert samples['tutti_closes_total{code="4400"}'] == 0
    assert samples['tutti_updates_refused_total{reason="malformed"}'] == 1


async def test_codes_a_peer_could_choose_are_one_label() -> None:
    node = Node()
    before = len(await node.samples())
    for code in range(3000, 3100):
        node.telemetry.closed(code)
    samples = await node.samples()
    assert samples['tutti_closes_total{code="other"}'] == 100
    assert len(samples) == before


async def test_loop_lag_is_a_histogram_and_a_worst_since_the_last_scrape() -> None:
    node = Node()
    for lag_s in (0.0, 0.001, 0.002, 0.3, 7.0):
        node.telemetry.observe_loop_lag(lag_s)
    samples = await node.samples()
    buckets = [samples[f'tutti_loop_lag_seconds_bucket{{le="{bound}"}}'] for bound in (*LAG_BUCKETS_S, "+Inf")]
    assert buckets == [2, 3, 3, 3, 3, 3, 3, 4, 5]
    assert samples["tutti_loop_lag_seconds_count"] == 5
    assert samples["tutti_loop_lag_seconds_sum"] == pytest.approx(7.303)
    assert samples["tutti_loop_lag_max_seconds"] == 7.0
    node.telemetry.observe_loop_lag(0.02)
    assert (await node.samples())["tutti_loop_lag_max_seconds"] == 0.02


async def test_garbage_collections_are_counted_until_told_to_stop() -> None:
    node = Node()
    stop = node.telemetry.watch_gc()
    gc.collect()
    stop()
    counted = node.telemetry.gc_pauses
    assert counted >= 1
    assert 0 < node.telemetry.gc_pause_max_s <= node.telemetry.gc_pause_s
    gc.collect()
    assert node.telemetry.gc_pauses == counted


async def test_scrapers_get_the_format_they_ask_for() -> None:
    node = Node()
    assert (await node.text()).headers["content-type"].startswith("text/plain")
    response = await node.text("application/openmetrics-text;version=1.0.0")
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(response.text)}
    assert {"tutti_sessions", "tutti_ticks", "process_resident_memory_bytes"} <= names


async def test_two_nodes_in_one_process_share_nothing() -> None:
    one, other = Node(), Node()
    one.telemetry.ticks = 9
    assert (await other.samples())["tutti_ticks_total"] == 0
    assert (await one.samples())["tutti_ticks_total"] == 9


def test_fields_cannot_be_misspelt() -> None:
    with pytest.raises(AttributeError):
        Telemetry().tikcs = 1  # type: ignore[attr-defined]
