"""loadtest/bench/servers.py: reading /proc, on made-up lines and on this very machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.servers import (
    SERVERS,
    ProcessStat,
    busy_s,
    cpu_ticks,
    parse_busy,
    parse_stat,
    process_tree,
    read_stats,
    unavailable,
)


def stat_line(
    pid: int,
    command: str = "python",
    *,
    parent: int = 1,
    ticks: tuple[int, int, int, int] = (0, 0, 0, 0),
    pages: int = 0,
) -> str:
    """A line as in proc(5), every other field a number of its own so that a wrong position shows."""
    fields = [str(1000 + n) for n in range(52)]
    fields[0], fields[1], fields[2], fields[3] = str(pid), f"({command})", "S", str(parent)
    fields[13:17] = map(str, ticks)
    fields[23] = str(pages)
    return " ".join(fields) + "\n"


def test_ticks_are_user_and_system_of_the_process_and_its_reaped_children() -> None:
    assert parse_stat(stat_line(7, parent=3, ticks=(1, 20, 300, 4000), pages=99)) == ProcessStat(7, 3, 4321, 99)


def test_a_command_may_look_like_fields() -> None:
    assert parse_stat(stat_line(7, "a) R 1 (b", parent=3, ticks=(1, 0, 0, 0))) == ProcessStat(7, 3, 1, 0)


def test_the_tree_holds_grandchildren_and_nobody_else() -> None:
    stats = [
        parse_stat(stat_line(pid, parent=parent, ticks=(pid, 0, 0, 0)))
        for pid, parent in ((4, 3), (3, 2), (2, 1), (5, 2), (6, 1), (9, 8))
    ]
    assert {stat.pid for stat in process_tree(2, stats)} == {2, 3, 4, 5}
    assert cpu_ticks(process_tree(2, stats)) == 14
    assert process_tree(77, stats) == []


def test_a_busy_child_shows_in_its_parents_tree() -> None:
    code = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nprint('x', flush=True)\ntime.sleep(30)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            tree = process_tree(os.getpid(), read_stats())
            assert child.pid in {stat.pid for stat in tree}
            used = next(stat for stat in tree if stat.pid == child.pid)
            assert used.ticks / os.sysconf("SC_CLK_TCK") >= 0.15
            assert used.resident_pages > 100
        finally:
            child.kill()


def test_a_server_that_cannot_be_started_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("loadtest.bench.servers._PEER_SCRIPT", tmp_path / "missing.js")
    assert "npm ci" in (unavailable(SERVERS["y-websocket"]) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "node" in (unavailable(SERVERS["y-websocket"]) or "")
    assert unavailable(SERVERS["tutti"]) is None


def test_busy_is_all_but_idle_and_waiting_on_the_cores_asked_for() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 4 800 900 8 16 32 64 128\ncpu1 100 0 0 5 5 0 0 0 0 0\ncpu11 1000 0 0 0 0 0 0 0 0 0\nintr 5\n"
    assert parse_busy(text, {0}) == 63
    assert parse_busy(text, {0, 1}) == 163
    assert busy_s(os.sched_getaffinity(0)) > 0
