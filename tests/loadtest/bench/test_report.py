"""loadtest/bench/report.py: hand-made samples in, figures and tables out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.report import Failure, IdleSample, LoadSample, as_json, percentile, table

LOAD = LoadSample(
    "small-rooms",
    "tutti",
    1,
    wall_s=10.0,
    server_cpu_s=0.9,
    client_cpu_s=1.0,
    others_cpu_s=0.1,
    edits=5_000,
    deliveries=45_000,
    frames=50_000,
    duplicates=0,
    missed=0,
    latency_p50_ms=0.3,
    latency_p90_ms=0.6,
    latency_p99_ms=1.25,
    latency_max_ms=9.0,
)
PEER = replace(LOAD, server="y-websocket", server_cpu_s=1.8)
IDLE = IdleSample(
    "idle",
    "tutti",
    1,
    wall_s=4.0,
    server_cpu_s=0.0,
    client_cpu_s=0.0,
    connections=1024,
    before_bytes=50 * 2**20,
    after_bytes=66 * 2**20,
)


def cells(text: str) -> list[list[str]]:
    """The table's lines, split where at least two spaces stand."""
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()[1:]]


def test_percentiles_are_values_that_were_measured() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.01, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]
    assert percentile([3.0], 0.01) == percentile([3.0], 1.0) == 3.0


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50).map(sorted), st.floats(0.001, 1.0))
def test_at_least_that_share_is_not_above_it_and_less_is_below(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= len(values) * share - 1e-9
    assert sum(value < found for value in values) < len(values) * share + 1e-9


def test_cpu_per_delivery_is_the_median_with_its_spread_and_the_ratio_below() -> None:
    rounds = [replace(LOAD, round=n, server_cpu_s=cpu) for n, cpu in enumerate((0.9, 0.45, 1.35), 1)]
    lines = cells(table("title", [*rounds, PEER], ["tutti", "y-websocket"], idle=False))
    assert [line[0].strip() for line in lines] == ["server", "tutti", "y-websocket", "tutti / y-websocket"]
    assert [line[2].strip() for line in lines[1:3]] == ["20.0 (10.0-30.0)", "40.0"]
    assert lines[3][1].strip() == "0.50"


def test_a_void_run_is_left_out_of_the_medians_and_counted() -> None:
    void = replace(LOAD, server_cpu_s=90.0, client_cpu_s=7.1)
    assert void.void
    assert not replace(LOAD, client_cpu_s=7.0).void
    lines = cells(table("title", [LOAD, void], ["tutti"], idle=False))
    assert [cell.strip() for cell in lines[1][1:3]] == ["1 (1 void)", "20.0"]


def test_servers_without_a_valid_run_show_no_figures_and_no_ratio() -> None:
    text = table("title", [replace(LOAD, client_cpu_s=9.0)], ["tutti", "y-websocket"], idle=False)
    assert [[cell.strip() for cell in line] for line in cells(text)[1:]] == [["tutti", "void"], ["y-websocket", "none"]]


def test_memory_per_idle_connection() -> None:
    lines = cells(table("title", [IDLE], ["tutti"], idle=True))
    assert lines[0][2].strip() == "KiB/connection"
    assert lines[1][2].strip() == "16.0"


def test_the_json_record_holds_what_was_measured_and_what_is_shown() -> None:
    record = as_json(LOAD)
    assert as_json(replace(LOAD, others_cpu_s=1.1))["disturbed"]
    assert not record["disturbed"]
    assert (record["deliveries"], record["void"], record["shown"]["CPU us/delivery"]) == (
        45_000,
        False,
        pytest.approx(20.0),
    )
    assert as_json(IDLE)["shown"]["KiB/connection"] == 16.0
    assert as_json(Failure("idle", "tutti", 2, "it died"))["reason"] == "it died"
