"""The journal against a real kernel: killed at any moment, a file that may not grow, an fsync that fails.

Each scenario is a process of its own; what it printed as committed is compared with what its file holds.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.room.key import RoomKey
from server.store.readers import page_rooms, read_room
from server.store.schema import open_reader, open_writer
from server.store.writer import Writer

pytestmark = pytest.mark.integration

COMMON = """
import asyncio, json, os, resource, signal, sys, time
from pathlib import Path
from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store.journal import Journal

signal.alarm(50)  # whatever becomes of the test, this process ends
seqs = {}
outcomes = []

def say(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")

def append(journal, name, size=50, quiet=False):
    seq = seqs.get(name, 0) + 1
    update = b"%s %d " % (name.encode(), seq) + b"x" * size
    def done(seq, error):
        outcomes.append((name, seq, error is None))
        if not quiet:
            say(name=name, seq=seq, ok=error is None, error=str(error))
    journal.append(Row(RoomKey("", name), 1, seq, (Entry("ann", update),)), done)
    seqs[name] = seq

async def until(condition, limit=20):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.005)
"""

WRITES_FOREVER = (
    COMMON
    + """
async def main():
    journal = Journal.open(Path(sys.argv[1]), commit_interval_s=0.001, compact_rows_min=10**9)
    journal.start(asyncio.get_running_loop())
    for name in "abcde":
        seqs[name] = (await journal.load(RoomKey("", name))).last_seq
    while True:
        for name in "abcde":
            append(journal, name, size=len(outcomes) % 3000)
        await asyncio.sleep(0.001)

asyncio.run(main())
"""
)


def stored(folder: Path) -> dict[str, list[int]]:
    """Each room's sequences; their updates are checked to be what was written."""
    connection = open_reader(folder / "journal.db")
    rooms: dict[str, list[int]] = {}
    for record in page_rooms(connection, "", None, 100):
        rows = read_room(connection, record.key).rows
        for row in rows:
            assert row.entries[0].update.startswith(b"%s %d " % (record.key.name.encode(), row.seq))
        rooms[record.key.name] = [row.seq for row in rows]
    connection.close()
    return rooms


def acknowledged(output: str) -> dict[str, int]:
    newest: dict[str, int] = {}
    for line in output.splitlines(keepends=True):
        if line.endswith("\n"):
            said = json.loads(line)
            assert said["ok"]
            assert said["seq"] > newest.get(said["name"], 0), "told in order"
            newest[said["name"]] = said["seq"]
    return newest


def test_what_was_told_survives_a_kill_at_any_moment(folder: Path) -> None:
    dice = random.Random(1)
    told: dict[str, int] = {}
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITES_FOREVER, folder], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.15))
            process.kill()
            told.update(acknowledged(first + process.stdout.read()))
        kept = stored(folder)
        assert set(told) <= set(kept)
        for name, seqs in kept.items():
            assert seqs == list(range(1, len(seqs) + 1)), "no gap"
            assert len(seqs) >= told.get(name, 0), "nothing that was told is gone"
    assert sum(told.values()) > 100


FILE_MAY_NOT_GROW = (
    COMMON
    + """
async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal.open(Path(sys.argv[1]), commit_interval_s=0.001, retry_s=0.05, compact_rows_min=10**9)
    journal.start(asyncio.get_running_loop())
    append(journal, "a")
    await journal.flush()
    limit = (Path(sys.argv[1]) / "journal.db-wal").stat().st_size + 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    while journal.available:
        append(journal, "a", size=20_000)
        append(journal, "b", size=20_000)
        await asyncio.sleep(0.002)
    failed_at = len(outcomes)
    say(event="away", reason=journal.reason)
    await asyncio.sleep(0.3)
    try:
        append(journal, "a")
        say(event="taken while away")
    except Unavailable:
        pass
    assert not journal.available
    for name in "ab":
        seqs[name] = (await journal.load(RoomKey("", name))).last_seq
        say(event="reloaded", name=name, seq=seqs[name])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await until(lambda: journal.available)
    say(event="back")
    for name in "ab":
        append(journal, name)
    if sys.argv[2] == "kill":
        await journal.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    await journal.close()

asyncio.run(main())
"""
)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_file_that_may_not_grow_fails_and_heals(folder: Path, end: str) -> None:
    """RLIMIT_FSIZE: write() gives EFBIG, SQLite a disk I/O error."""
    run = subprocess.run(
        [sys.executable, "-c", FILE_MAY_NOT_GROW, folder, end], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == (0 if end == "close" else -signal.SIGKILL), run.stderr
    said = [json.loads(line) for line in run.stdout.splitlines()]
    events = [entry["event"] for entry in said if "event" in entry]
    assert events == ["away", "reloaded", "reloaded", "back"]
    assert "disk I/O error" in next(entry["reason"] for entry in said if entry.get("event") == "away")
    kept = {"a": 0, "b": 0}
    for entry in said:
        if entry.get("ok"):
            kept[entry["name"]] = entry["seq"]
        elif entry.get("event") == "reloaded":
            assert entry["seq"] == kept[entry["name"]], "a load after the failure has what was told, and no more"
    assert any(entry.get("ok") is False for entry in said)
    assert stored(folder) == {name: list(range(1, seq + 1)) for name, seq in kept.items()}


FSYNC_FAILS = (
    COMMON
    + """
async def main():
    journal = Journal.open(Path(sys.argv[1]), commit_interval_s=0.001, retry_s=0.05, compact_rows_min=10**9)
    journal.start(asyncio.get_running_loop())
    while journal.available:
        append(journal, "a")
        await journal.flush()
    seqs["a"] = (await journal.load(RoomKey("", "a"))).last_seq
    say(event="reloaded", name="a", seq=seqs["a"])
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await until(lambda: journal.available)
    append(journal, "a")
    await journal.flush()
    say(event="back")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
)


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(not _can_trace(), reason="needs strace, and permission to trace")


@needs_strace
@pytest.mark.parametrize("end", ["kill", "heal"])
def test_an_fsync_that_fails_is_told_as_failed(folder: Path, end: str) -> None:
    """The rows are in the write-ahead log, only their fsync failed: SQLite doesn't count them, and neither may we."""
    folder.mkdir()
    open_writer(folder / "journal.db").close()
    inject = "inject=fdatasync,fsync:error=EIO:when=12..16"
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject]
    run = subprocess.run(
        [*command, sys.executable, "-c", FSYNC_FAILS, folder, end],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [json.loads(line) for line in run.stdout.splitlines()]
    committed = [entry["seq"] for entry in said if entry.get("ok")]
    (failed,) = [entry["seq"] for entry in said if entry.get("ok") is False]
    (reloaded,) = [entry["seq"] for entry in said if entry.get("event") == "reloaded"]
    assert len(committed) > 3, run.stderr
    before = [seq for seq in committed if seq <= reloaded]
    assert before == list(range(1, failed))
    assert reloaded == failed - 1
    kept = stored(folder)["a"]
    if end == "heal":
        assert said[-1] == {"event": "back"}
        assert kept == committed == list(range(1, failed + 1)), "the row after the failure took the failed one's place"
    else:
        # Killed before a write worked again: the failed commit may be found whole, but nothing told is gone.
        assert kept in (committed, [*committed, failed])


@needs_strace
def test_each_commit_ends_with_an_fsync(folder: Path, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store.writer import Writer
writer = Writer(Path(sys.argv[1]))
for seq in range(1, 21):
    os.write(1, b"commit")
    writer.commit([Row(RoomKey("", "a"), 1, seq, (Entry("ann", b"x"),))])
    os.write(1, b"told")
"""
    log = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(log), "-e", "trace=fdatasync,fsync,write", sys.executable, "-c", script]
    folder.mkdir()
    subprocess.run([*command, folder / "journal.db"], stdout=subprocess.DEVNULL, check=True, timeout=60)
    synced = None
    commits = 0
    for line in log.read_text().splitlines():
        if '"commit"' in line:
            synced = False
        elif "fdatasync(" in line or "fsync(" in line:
            synced = True
        elif '"told"' in line:
            assert synced, "told before it was on disk"
            commits += 1
    assert commits == 20


def test_a_second_node_on_the_folder_is_turned_away_and_harms_nothing(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES_FOREVER, folder], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = subprocess.run(
            [sys.executable, "-c", WRITES_FOREVER, folder], capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode == 1
        assert f"is in use by another node (process {first.pid})" in second.stderr
        assert second.stdout == ""
        line = first.stdout.readline()
        assert json.loads(line)["ok"], "the first one goes on"
        first.kill()
    writer = Writer(folder / "journal.db")
    writer.close()
    assert RoomKey("", "a").name in stored(folder)
