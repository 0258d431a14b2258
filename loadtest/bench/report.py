"""What the runs say: percentiles, medians over rounds, ratios, and the printed table. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

CLIENT_SHARE_MAX: Final = 0.70
"""Above this share of its core the client may be what is measured: the run is void."""

OTHERS_SHARE_MAX: Final = 0.10
"""Above this share of one core other programs are told about: latencies then show them too."""


@dataclass(frozen=True, slots=True)
class LoadSample:
    """The measured window of one run with writers, and whether everything arrived in the end."""

    profile: str
    server: str
    round: int
    wall_s: float
    server_cpu_s: float
    client_cpu_s: float
    others_cpu_s: float
    """What anything else used of the benchmark's cores meanwhile."""
    edits: int
    deliveries: int
    frames: int
    duplicates: int
    missed: int
    """Deliveries that had not come when the run ended, warm-up included."""
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    latency_max_ms: float

    @property
    def client_share(self) -> float:
        return self.client_cpu_s / self.wall_s

    @property
    def void(self) -> bool:
        return self.client_share > CLIENT_SHARE_MAX

    @property
    def disturbed(self) -> bool:
        return self.others_cpu_s / self.wall_s > OTHERS_SHARE_MAX


@dataclass(frozen=True, slots=True)
class IdleSample:
    """What connections cost that do nothing."""

    profile: str
    server: str
    round: int
    wall_s: float
    server_cpu_s: float
    client_cpu_s: float
    connections: int
    before_bytes: int
    after_bytes: int
    void: bool = False
    disturbed: bool = False

    @property
    def missed(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that gave no figures: a server that did not start, a socket it closed, clients that never synced."""

    profile: str
    server: str
    round: int
    reason: str


Sample = LoadSample | IdleSample


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of the table: how it is had from a sample, and how it is shown."""

    title: str
    decimals: int
    value: Callable[[Any], float]
    spread: bool = False
    """Whether smallest and largest of the rounds are shown too."""
    compared: bool = True


LOAD_COLUMNS: Final = (
    Column("CPU us/delivery", 1, lambda s: s.server_cpu_s / s.deliveries * 1e6, spread=True),
    Column("deliveries/s", 0, lambda s: s.deliveries / s.wall_s),
    Column("frames/s", 0, lambda s: s.frames / s.wall_s),
    Column("p50 ms", 2, lambda s: s.latency_p50_ms),
    Column("p90 ms", 2, lambda s: s.latency_p90_ms),
    Column("p99 ms", 2, lambda s: s.latency_p99_ms),
    Column("max ms", 1, lambda s: s.latency_max_ms),
    Column("server CPU %", 1, lambda s: s.server_cpu_s / s.wall_s * 100),
    Column("client CPU %", 1, lambda s: s.client_share * 100, compared=False),
    Column("others CPU %", 1, lambda s: s.others_cpu_s / s.wall_s * 100, compared=False),
    Column("wall s", 1, lambda s: s.wall_s, compared=False),
)

IDLE_COLUMNS: Final = (
    Column("KiB/connection", 1, lambda s: (s.after_bytes - s.before_bytes) / s.connections / 1024, spread=True),
    Column("connections", 0, lambda s: s.connections, compared=False),
    Column("MiB before", 1, lambda s: s.before_bytes / 2**20),
    Column("MiB after", 1, lambda s: s.after_bytes / 2**20),
    Column("server CPU %", 2, lambda s: s.server_cpu_s / s.wall_s * 100),
    Column("wall s", 1, lambda s: s.wall_s, compared=False),
)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 < share <= 1) of the values don't exceed; `ordered` ascending."""
    if not ordered:
        raise ValueError("no values, so no percentile")
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1]


def table(title: str, samples: Sequence[Sample], servers: Sequence[str], *, idle: bool) -> str:
    """One profile's medians, a line per server, and the first server's over each other one's below."""
    columns = IDLE_COLUMNS if idle else LOAD_COLUMNS
    lines = [["server", "runs", *(column.title for column in columns)]]
    medians: dict[str, list[float]] = {}
    for server in servers:
        own = [sample for sample in samples if sample.server == server]
        valid = [sample for sample in own if not sample.void]
        if not valid:
            lines.append([server, "void" if own else "none", *("" for _ in columns)])
            continue
        values = [[column.value(sample) for sample in valid] for column in columns]
        medians[server] = [median(column) for column in values]
        runs = str(len(valid)) if len(valid) == len(own) else f"{len(valid)} ({len(own) - len(valid)} void)"
        lines.append([server, runs, *map(_cell, columns, values)])
    first, *others = servers
    for other in others:
        if first in medians and other in medians:
            ratios = (
                f"{a / b:.2f}" if column.compared and b else ""
                for column, a, b in zip(columns, medians[first], medians[other], strict=True)
            )
            lines.append([f"{first} / {other}", "", *ratios])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rows = ("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines)
    return "\n".join([title, *(f"  {row}" for row in rows)])


def _cell(column: Column, values: Sequence[float]) -> str:
    shown = f"{median(values):.{column.decimals}f}"
    if column.spread and len(values) > 1:
        shown += f" ({min(values):.{column.decimals}f}-{max(values):.{column.decimals}f})"
    return shown


def as_json(sample: Sample | Failure) -> dict[str, Any]:
    """A sample with what the table derives from it, for the JSON file."""
    record: dict[str, Any] = asdict(sample)
    if isinstance(sample, LoadSample):
        record |= {"void": sample.void, "disturbed": sample.disturbed}
    if not isinstance(sample, Failure):
        columns = LOAD_COLUMNS if isinstance(sample, LoadSample) else IDLE_COLUMNS
        record["shown"] = {column.title: column.value(sample) for column in columns}
    return record
