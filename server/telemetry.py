"""What a node counts, and how Prometheus reads it.

`Telemetry` is plain integers, raised where things happen: the loop is one thread, so there is nothing to lock and an
increment costs what an attribute does. They become metrics only when `/metrics` is asked for, through a collector in a
registry of its own: prometheus_client's own counters take a lock and a dictionary look-up each time.
"""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crdt.errors import CloseCode

LAG_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Upper bounds. 50 ms is what the design promises (R17), the ones below show how it is used up."""

_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "frames_in": ("frames_received", "WebSocket messages received"),
    "frames_out": ("frames_sent", "WebSocket messages sent, one for each reader"),
    "bytes_in": ("received_bytes", "bytes of WebSocket messages received"),
    "bytes_out": ("sent_bytes", "bytes of WebSocket messages sent"),
    "sessions_opened": ("sessions_opened", "sessions let in"),
    "updates_admitted": ("updates_admitted", "updates accepted by the gate"),
    "updates_held": ("updates_held", "updates held back, whole or in part, because something they build on is missing"),
    "ticks": ("ticks", "ticks of all rooms"),
    "tick_updates": ("tick_updates", "updates merged in ticks"),
    "presence_changes": ("presence_changes", "presence messages that changed something"),
    "outbox_overflows": ("outbox_overflows", "readers too slow for the edits sent to them"),
    "resyncs": ("resyncs", "sessions asked to sync anew after something of theirs was not accepted"),
    "slow_readers_closed": ("slow_readers_closed", "readers closed because they took nothing for too long"),
    "reads_paused": ("reads_paused", "times a session was not read from because its room had too much to do"),
    "room_rebuilds": ("room_rebuilds", "rooms rebuilt from the journal after a fault"),
    "quarantines": ("room_quarantines", "rooms put aside after repeated faults"),
    "gc_pauses": ("gc_pauses", "garbage collections"),
}
"""Field of `Telemetry` -> metric without `tutti_` and `_total`, and what it counts."""

_JOURNAL_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "commits": ("journal_commits", "commits to disk"),
    "commit_failures": ("journal_commit_failures", "commits that failed"),
    "commit_s": ("journal_commit_seconds", "time from hand-over to outcome of commits"),
    "rows": ("journal_rows", "rows committed"),
    "bytes": ("journal_bytes", "bytes of rows committed"),
    "compactions": ("journal_compactions", "rooms folded into a snapshot"),
}


class Hub(Protocol):
    """What is open now."""

    @property
    def open_rooms(self) -> int: ...
    @property
    def sessions(self) -> int: ...


class JournalCounts(Protocol):
    """What the journal counts by itself."""

    @property
    def commits(self) -> int: ...
    @property
    def commit_failures(self) -> int: ...
    @property
    def commit_s(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def compactions(self) -> int: ...


class Telemetry:
    """Counts since the start of the node. Raise the fields where things happen; only the loop's thread may."""

    __slots__ = (
        "_gc_started_at",
        "bytes_in",
        "bytes_out",
        "closes",
        "frames_in",
        "frames_out",
        "gc_pause_max_s",
        "gc_pause_s",
        "gc_pauses",
        "lag_counts",
        "lag_max_s",
        "lag_s",
        "outbox_overflows",
        "presence_changes",
        "quarantines",
        "reads_paused",
        "resyncs",
        "room_rebuilds",
        "sessions_opened",
        "slow_readers_closed",
        "tick_updates",
        "ticks",
        "updates_admitted",
        "updates_held",
        "updates_refused",
    )

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.sessions_opened = 0
        self.updates_admitted = 0
        self.updates_held = 0
        self.updates_refused: dict[int, int] = {}
        """By the close code of the error that refused them."""
        self.ticks = 0
        self.tick_updates = 0
        self.presence_changes = 0
        self.outbox_overflows = 0
        self.resyncs = 0
        self.slow_readers_closed = 0
        self.reads_paused = 0
        self.room_rebuilds = 0
        self.quarantines = 0
        self.closes: dict[int, int] = {}
        """By the close code sent."""
        self.lag_counts = [0] * (len(LAG_BUCKETS_S) + 1)
        self.lag_s = 0.0
        self.lag_max_s = 0.0
        """Worst since the last scrape."""
        self.gc_pauses = 0
        self.gc_pause_s = 0.0
        self.gc_pause_max_s = 0.0
        """Longest since the last scrape."""
        self._gc_started_at = 0.0

    def refused(self, code: int) -> None:
        """An update was not accepted."""
        self.updates_refused[code] = self.updates_refused.get(code, 0) + 1

    def closed(self, code: int) -> None:
        """A session was closed by us."""
        self.closes[code] = self.closes.get(code, 0) + 1

    def observe_loop_lag(self, lag_s: float) -> None:
        """The loop woke up so much later than it asked to."""
        bucket = 0
        for bound in LAG_BUCKETS_S:
            if lag_s <= bound:
                break
            bucket += 1
        self.lag_counts[bucket] += 1
        self.lag_s += lag_s
        self.lag_max_s = max(self.lag_max_s, lag_s)

    def watch_gc(self) -> Callable[[], None]:
        """Count the garbage collector's pauses from now on. Call what is returned to stop."""
        gc.callbacks.append(self._gc_called)
        return lambda: gc.callbacks.remove(self._gc_called)

    def _gc_called(self, phase: str, _info: Mapping[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._gc_started_at = now
        elif self._gc_started_at:
            pause_s = now - self._gc_started_at
            self.gc_pauses += 1
            self.gc_pause_s += pause_s
            self.gc_pause_max_s = max(self.gc_pause_max_s, pause_s)


def metrics_route(telemetry: Telemetry, hub: Callable[[], Hub], journal: JournalCounts) -> Route:
    """`/metrics`, in the text or the OpenMetrics format, as the scraper asks."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(telemetry, hub, journal))
    ProcessCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return Route("/metrics", metrics)


class _NodeCollector(Collector):
    """Reads the integers when asked."""

    def __init__(self, telemetry: Telemetry, hub: Callable[[], Hub], journal: JournalCounts) -> None:
        self._telemetry = telemetry
        self._hub = hub
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        telemetry, hub = self._telemetry, self._hub()
        yield GaugeMetricFamily("tutti_sessions", "sessions open now", value=hub.sessions)
        yield GaugeMetricFamily("tutti_rooms_open", "rooms in memory now", value=hub.open_rooms)
        yield from _counters(telemetry, _COUNTERS)
        yield from _counters(self._journal, _JOURNAL_COUNTERS)
        yield _by_code("tutti_updates_refused", "updates not accepted, by reason", "reason", telemetry.updates_refused)
        yield _by_code("tutti_closes", "sessions closed by this node, by close code", "code", telemetry.closes)
        lag = HistogramMetricFamily("tutti_loop_lag_seconds", "how late the event loop woke up")
        lag.add_metric([], list(_cumulative(telemetry.lag_counts)), telemetry.lag_s)
        yield lag
        yield GaugeMetricFamily(
            "tutti_loop_lag_max_seconds", "the latest it woke up since the last scrape", value=telemetry.lag_max_s
        )
        yield CounterMetricFamily("tutti_gc_pause_seconds", "time spent collecting garbage", value=telemetry.gc_pause_s)
        yield GaugeMetricFamily(
            "tutti_gc_pause_max_seconds", "the longest collection since the last scrape", value=telemetry.gc_pause_max_s
        )
        telemetry.lag_max_s = telemetry.gc_pause_max_s = 0.0


def _counters(source: Any, table: Mapping[str, tuple[str, str]]) -> Iterator[Metric]:
    for field, (name, meaning) in table.items():
        yield CounterMetricFamily(f"tutti_{name}", meaning, value=getattr(source, field))


def _by_code(name: str, meaning: str, label: str, counts: Mapping[int, int]) -> Metric:
    """Every code of ours from the start, so that a rate can be seen from its first event; any other is `other`."""
    family = CounterMetricFamily(name, meaning, labels=[label])
    for code in CloseCode:
        family.add_metric([code.name.lower() if label == "reason" else str(int(code))], counts.get(code, 0))
    family.add_metric(["other"], sum(count for code, count in counts.items() if code not in set(CloseCode)))
    return family


def _cumulative(counts: Iterable[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip([*map(str, LAG_BUCKETS_S), "+Inf"], counts, strict=True):
        total += count
        yield bound, total
