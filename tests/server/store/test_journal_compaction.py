"""Compaction as a node runs it: the worker process, the journal, rows that keep coming, and a kill at each step."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from crdt.gate import GateLimits
from server.room.key import RoomKey
from server.room.rows import Entry, Row, StoredRoom
from server.store.compactor import Verdict
from server.store.readers import find_room, read_room
from server.store.rebuild import rebuild
from server.store.schema import open_reader
from server.store.writer import Swap, Writer

pytestmark = pytest.mark.integration

OpenNotebook = Callable[..., Any]
"""The `notebook` fixture."""
A = RoomKey("", "a")


def typed(text: str) -> list[bytes]:
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=1)
    sent: list[bytes] = []
    subscription = doc.observe(lambda event: sent.append(event.update))
    shared = doc.get("text", type=pycrdt.Text)
    for letter in text:
        shared += letter
    doc.unobserve(subscription)
    return sent


def shown(stored: StoredRoom) -> str:
    """What a room that replays it shows."""
    doc: pycrdt.Doc[object] = pycrdt.Doc(client_id=99)
    for part in stored.snapshot.slices if stored.snapshot else ():
        doc.apply_update(part)
    for row in stored.rows:
        for entry in row.entries:
            doc.apply_update(entry.update)
    return str(doc.get("text", type=pycrdt.Text))


TEXT = "it was a bright cold day in april, and the clocks were striking thirteen. " * 3


async def test_a_room_is_compacted_by_itself(notebook: OpenNotebook, folder: Path) -> None:
    async with notebook(compact_rows_min=50) as book:
        for update in typed(TEXT[:60]):
            book.append("a", update)
        await book.until(lambda: book.journal.counts.compactions == 1, 20)
        stored = await book.load("a")
        assert stored.snapshot is not None
        assert (stored.snapshot.seq, stored.last_seq, shown(stored)) == (60, 60, TEXT[:60])
        record = await book.journal.room(A)
        assert (record.rows, record.last_seq) == (0, 60)
    async with notebook() as book:
        assert shown(await book.reload("a")) == TEXT[:60]
        book.append("a", typed(TEXT[:61])[60])
        assert shown(await book.load("a")) == TEXT[:61]


async def test_rows_and_loads_go_on_while_rooms_are_compacted(notebook: OpenNotebook) -> None:
    updates = typed(TEXT)
    async with notebook(compact_rows_min=10**6) as book:
        stop = asyncio.Event()

        async def compact_again_and_again() -> int:
            swapped = 0
            while not stop.is_set():
                swapped += (await book.journal.compact(A)).swapped
            return swapped

        for update in updates[:20]:
            book.append("a", update)
        await book.journal.flush()
        compacting = asyncio.create_task(compact_again_and_again())
        for sent, update in enumerate(updates[20:], start=21):
            book.append("a", update)
            await asyncio.sleep(0.005)
            stored = await book.load("a")
            assert shown(stored) == TEXT[:sent]
            assert stored.last_seq == sent
        stop.set()
        assert await compacting >= 2
        assert book.failed == []


async def test_what_changed_meanwhile_is_not_overwritten(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        for update in typed(TEXT[:30]):
            book.append("a", update)
        await book.journal.flush()
        real = book.journal._worker.run

        async def run_and_be_overtaken(*args: object) -> object:
            made = await real(*args)
            swap = Swap(A, 1, made.from_seq, made.seq, made.blob)
            assert await book.in_writer(lambda writer: writer.swap(swap))
            return made

        book.journal._worker.run = run_and_be_overtaken
        verdict = await book.journal.compact(A)
        assert verdict == Verdict(swapped=False, reason="the room was changed meanwhile")
        assert shown(await book.load("a")) == TEXT[:30]


async def test_a_commit_that_fails_meanwhile_spoils_the_snapshot(notebook: OpenNotebook) -> None:
    """The rows the worker read may be among those that were reported as failed."""
    async with notebook(retry_s=0.01) as book:
        for update in typed(TEXT[:30]):
            book.append("a", update)
        await book.journal.flush()
        real = book.journal._worker.run

        async def run_and_fail(*args: object) -> object:
            made = await real(*args)
            book.journal._fail([], OSError("disk I/O error"))
            await book.until(lambda: book.journal.available)
            return made

        book.journal._worker.run = run_and_fail
        assert await book.journal.compact(A) == Verdict(swapped=False, reason="a commit failed meanwhile")


async def test_a_worker_that_is_killed_costs_the_attempt_only(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        for update in typed(TEXT[:30]):
            book.append("a", update)
        await book.journal.flush()
        assert (await book.journal.compact(A)).swapped
        os.kill(book.journal._worker.process_id, signal.SIGKILL)
        book.append("a", typed(TEXT[:31])[30])
        await book.journal.flush()
        verdict = await book.journal.compact(A)
        assert verdict == Verdict(swapped=False, reason="compaction died during compact_room")
        assert (await book.journal.compact(A)).swapped, "a new one"
        assert shown(await book.load("a")) == TEXT[:31]


async def test_a_closed_room_is_compacted_with_fewer_rows(notebook: OpenNotebook) -> None:
    async with notebook(compact_rows_min=100) as book:
        for update in typed(TEXT[:30]):
            book.append("a", update)
        await book.journal.flush()
        book.journal.evicted(A)
        await book.until(lambda: book.journal.counts.compactions == 1, 20)
        assert shown(await book.load("a")) == TEXT[:30]


async def test_a_room_that_cannot_be_read_keeps_its_rows(notebook: OpenNotebook) -> None:
    async with notebook() as book:
        book.append("a", b"these bytes are no update")
        await book.journal.flush()
        verdict = await book.journal.compact(A)
        assert not verdict.swapped
        assert "the journal of room a holds what the gate refuses" in verdict.reason
        assert (await book.load("a")).last_seq == 1


async def test_closing_does_not_wait_for_a_compaction(notebook: OpenNotebook) -> None:
    async with notebook(compact_rows_min=10) as book:
        for update in typed(TEXT[:30]):
            book.append("a", update)
        await book.journal.flush()
        await asyncio.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    async with notebook() as book:
        assert shown(await book.load("a")) == TEXT[:30]


DIES_IN_A_SWAP = """
import os, sys
from pathlib import Path
from crdt.gate import GateLimits
from server.room.key import RoomKey
from server.store.compaction import compact_room
from server.store.writer import Swap, Writer

path, steps_left = Path(sys.argv[1]), int(sys.argv[2])
writer = Writer(path)
made = compact_room(path, RoomKey("", "a"), GateLimits())

def step(*_):
    global steps_left
    steps_left -= 1
    if steps_left < 0:
        os._exit(9)

# Every few operations of SQLite's own machine: between statements and in the middle of them.
writer._connection.set_progress_handler(step, 5)
writer._connection.set_trace_callback(step)
assert writer.swap(Swap(RoomKey("", "a"), 1, made.from_seq, made.seq, made.blob))
os._exit(0)
"""


def test_a_kill_at_any_step_of_a_swap_leaves_the_old_or_the_new(folder: Path) -> None:
    folder.mkdir()
    path = folder / "journal.db"
    writer = Writer(path)
    updates = typed(TEXT[:40])
    writer.commit([Row(A, 1, seq, (Entry("ann", update),)) for seq, update in enumerate(updates, start=1)])
    writer.close()
    pristine = path.read_bytes()
    survived: list[tuple[int, bool]] = []
    steps = 0
    while True:
        for left_over in folder.iterdir():
            left_over.unlink()
        path.write_bytes(pristine)
        code = subprocess.run([sys.executable, "-c", DIES_IN_A_SWAP, path, str(steps)], check=False).returncode
        connection = open_reader(path)
        contents = read_room(connection, A)
        record = find_room(connection, A)
        connection.close()
        assert record is not None
        assert record.last_seq == 40
        swapped = contents.snapshot is not None
        assert len(contents.rows) == (0 if swapped else 40), "never half"
        assert shown(contents.stored()) == TEXT[:40]
        assert dict(rebuild(contents, GateLimits()).gate.clocks) == {1: 40}
        survived.append((code, swapped))
        if code == 0:
            break
        assert code == 9
        steps += 1 if steps < 12 else 17
    assert survived[0] == (9, False)
    assert survived[-1] == (0, True)
    assert len(survived) > 10, "it was killed at many steps"
