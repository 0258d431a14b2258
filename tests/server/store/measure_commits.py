"""What a commit costs: CPU of the whole process and time, by rows per commit.

    python tests/server/store/measure_commits.py [FOLDER]

Rows are one update of 150 bytes, spread over 1,000 rooms. FOLDER should be on the disk a node would use; without it a
temporary one is made. Prints one line per size of a commit, then the rate with as many rows as go in, and how long ten
rows and a load of 500 rows take while the loop's thread is busy (they share the interpreter's lock).
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from crdt.errors import Unavailable
from server.room.key import RoomKey
from server.room.rows import Entry, Row
from server.store.journal import Journal

ROOMS = 1000
UPDATE = os.urandom(150)
KEYS = [RoomKey("", f"room {number}") for number in range(ROOMS)]


class Load:
    """Rows for random rooms, each with its next sequence."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.seqs = [0] * ROOMS
        self.dice = random.Random(1)

    def append(self, room: int | None = None) -> None:
        room = self.dice.randrange(ROOMS) if room is None else room
        self.seqs[room] += 1
        self.journal.append(Row(KEYS[room], 1, self.seqs[room], (Entry("ann", UPDATE),)), self.told)

    @staticmethod
    def told(_: int, error: Unavailable | None) -> None:
        if error is not None:
            raise error


async def measure(folder: Path) -> None:
    journal = Journal.open(folder, compact_rows_min=10**9, compact_bytes_min=10**12)
    journal.start(asyncio.get_running_loop())
    load = Load(journal)
    for room in range(ROOMS):
        load.append(room)
    await journal.flush()

    for rows in (1, 10, 100):
        commits = 2000 if rows < 100 else 500
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(commits):
            for _ in range(rows):
                load.append()
            await journal.flush()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(f"{rows:4} rows a commit: {cpu / commits * 1e3:.3f} ms CPU, {wall / commits * 1e3:.2f} ms")

    before, cpu, wall = journal.counts.rows, time.process_time(), time.perf_counter()
    while time.perf_counter() < wall + 3:
        for _ in range(500):
            load.append()
        await journal.flush()
    rows, cpu, wall = journal.counts.rows - before, time.process_time() - cpu, time.perf_counter() - wall
    print(f"as many as go in: {rows / wall:,.0f} rows/s, {cpu / rows * 1e6:.1f} us CPU a row")

    for _ in range(500):
        load.append(0)
    await journal.flush()
    stop = False

    async def keep_busy() -> None:
        while not stop:
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    busy = asyncio.create_task(keep_busy())
    commit_ms, load_ms = [], []
    for _ in range(100):
        for _ in range(10):
            load.append()
        wall = time.perf_counter()
        await journal.flush()
        commit_ms.append((time.perf_counter() - wall) * 1e3)
        wall = time.perf_counter()
        await journal.load(KEYS[0])
        load_ms.append((time.perf_counter() - wall) * 1e3)
    stop = True
    await busy
    print(
        f"beside a busy loop: ten rows {sorted(commit_ms)[50]:.1f} ms, a load of 500 rows {sorted(load_ms)[50]:.1f} ms"
    )
    await journal.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(measure(Path(sys.argv[1] if len(sys.argv) > 1 else made)))
