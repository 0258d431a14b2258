"""loadtest/bench/__main__.py: the order of the runs, the exit codes, the JSON file; and short runs for real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.bench import __main__ as bench
from loadtest.bench.profiles import Profile
from loadtest.bench.report import LoadSample
from loadtest.bench.runs import Options
from loadtest.bench.servers import ROOT, ServerKind, process_tree, read_stats
from loadtest.bench.websocket import ServerError

GOOD = LoadSample("", "", 0, 10.0, 1.0, 1.0, 0.0, 100, 900, 900, 0, 0, 0.1, 0.2, 0.3, 0.4)
Run = Callable[[ServerKind, Profile, int, Options], LoadSample]


@pytest.fixture(autouse=True)
def _undisturbed() -> Iterator[None]:
    """`main` pins this process and takes SIGTERM over; both are given back, and every server counts as installed."""
    cpus, handler = os.sched_getaffinity(0), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "unavailable", lambda _kind: None)
        yield
    os.sched_setaffinity(0, cpus)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def runs_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[tuple[str, str, int]]]:
    """Puts made-up runs in the place of real ones; returns the list their order is written to."""

    def place(run: Run) -> list[tuple[str, str, int]]:
        order: list[tuple[str, str, int]] = []

        def recorded(kind: ServerKind, profile: Profile, number: int, options: Options) -> LoadSample:
            order.append((profile.name, kind.name, number))
            return replace(run(kind, profile, number, options), profile=profile.name, server=kind.name, round=number)

        monkeypatch.setattr(bench, "run", recorded)
        return order

    return place


Place = Callable[[Run], list[tuple[str, str, int]]]


def test_servers_take_turns(runs_of: Place, capsys: pytest.CaptureFixture[str]) -> None:
    order = runs_of(lambda *_: GOOD)
    assert bench.main(["--rounds", "2", "--profiles", "small-rooms,busy-room"]) == 0
    assert [(profile, server) for profile, server, _ in order] == [
        (profile, server)
        for profile in ("small-rooms", "busy-room")
        for _ in range(2)
        for server in ("tutti", "y-websocket")
    ]
    printed = capsys.readouterr().out
    assert printed.count("tutti / y-websocket") == 2


def test_a_missed_delivery_fails_the_benchmark(runs_of: Place, capsys: pytest.CaptureFixture[str]) -> None:
    runs_of(lambda kind, *_: replace(GOOD, missed=3) if kind.name == "tutti" else GOOD)
    assert bench.main(["--rounds", "1", "--profiles", "busy-room"]) == 1
    assert "MISSED busy-room, tutti, round 1: 3 deliveries" in capsys.readouterr().err


def test_a_failed_run_fails_the_benchmark_and_the_others_go_on(
    runs_of: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(kind: ServerKind, _profile: Profile, number: int, _options: Options) -> LoadSample:
        if (kind.name, number) == ("tutti", 1):
            raise ServerError("the server closed a socket")
        return GOOD

    order = runs_of(run)
    assert bench.main(["--rounds", "2", "--profiles", "busy-room", "--json", str(tmp_path / "bench.json")]) == 1
    assert len(order) == 4
    assert "FAILED busy-room, tutti, round 1: the server closed a socket" in capsys.readouterr().err
    record = json.loads((tmp_path / "bench.json").read_text())
    assert [run.get("reason") for run in record["runs"]] == ["the server closed a socket", None, None, None]
    assert record["machine"]["cores"]


def test_ctrl_c_prints_what_there_is(runs_of: Place, capsys: pytest.CaptureFixture[str]) -> None:
    def run(kind: ServerKind, *_: object) -> LoadSample:
        if kind.name == "y-websocket":
            raise KeyboardInterrupt
        return GOOD

    runs_of(run)
    assert bench.main(["--rounds", "1", "--profiles", "busy-room"]) == 130
    printed = capsys.readouterr()
    assert "interrupted after 1 of 2 runs" in printed.err
    assert "tutti" in printed.out


def test_void_runs_are_told(runs_of: Place, capsys: pytest.CaptureFixture[str]) -> None:
    runs_of(lambda *_: replace(GOOD, client_cpu_s=8.0))
    assert bench.main(["--rounds", "1", "--profiles", "busy-room"]) == 0
    assert "void: the client used more than 70% of its core" in capsys.readouterr().err


def test_a_busy_machine_is_told(runs_of: Place, capsys: pytest.CaptureFixture[str]) -> None:
    runs_of(lambda *_: replace(GOOD, others_cpu_s=5.0))
    assert bench.main(["--rounds", "1", "--profiles", "busy-room"]) == 0
    assert "disturbed: other programs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--servers", "etherpad"], "'etherpad' is not one of tutti, y-websocket"),
        (["--profiles", "busy"], "'busy' is not one of"),
        (["--rounds", "0"], "0 is below 1"),
        (["--steady-s", "nan"], "nan is below 0.5"),
        (["--rounds", "many"], "'many' is not a number"),
    ],
)
def test_wrong_arguments_are_told_with_what_is_right(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(arguments)
    assert left.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_server_that_is_not_installed_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "unavailable", lambda kind: f"{kind.name} is not here")
    with pytest.raises(SystemExit):
        bench.main([])
    assert "tutti is not here" in capsys.readouterr().err


SHORT = ("--rounds", "1", "--warm-up-s", "0.2", "--steady-s", "1", "--settle-s", "0.3")


@pytest.mark.integration
@pytest.mark.node
@pytest.mark.slow
@pytest.mark.parametrize("server", ["tutti", "y-websocket"])
def test_a_short_run_misses_nothing_and_leaves_nothing_behind(server: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "loadtest.bench",
        "--servers",
        server,
        "--scratch",
        str(tmp_path),
        "--json",
        str(tmp_path / "bench.json"),
        *SHORT,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {run["profile"]: run for run in json.loads((tmp_path / "bench.json").read_text())["runs"]}
    assert runs["small-rooms"]["deliveries"] == pytest.approx(4_500, rel=0.1)
    assert runs["busy-room"]["deliveries"] == pytest.approx(39_800, rel=0.1)
    assert 1 < runs["idle"]["shown"]["KiB/connection"] < 500
    assert [entry.name for entry in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.integration
@pytest.mark.node
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_of_a_run_ends_its_server(sign: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "loadtest.bench",
        "--servers",
        "y-websocket",
        "--profiles",
        "busy-room",
        "--scratch",
        str(tmp_path),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        try:
            deadline = time.monotonic() + 20
            while len(tree := process_tree(running.pid, read_stats())) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1.5)  # into the warm-up
            (server,) = (stat.pid for stat in tree if stat.pid != running.pid)
            running.send_signal(sign)
            assert running.stderr is not None
            told = running.stderr.read().decode()
            assert running.wait(20) == 130
        finally:
            running.kill()
    assert "interrupted after 0 of 3 runs" in told
    assert not Path(f"/proc/{server}").exists()
    assert list(tmp_path.iterdir()) == []
