"""SIGKILL under load, again and again: what was called saved is there afterwards, and what was deleted stays deleted.

Two hundred writers in twenty rooms, the server killed at a random moment, their documents thrown away: no client may
bring home what the server lost. Then fresh readers look. A longer soak, or the same run again:

    CRASH_ROUNDS=500 CRASH_CLIENTS=400 CRASH_ROOMS=40 CRASH_SEED=7 pytest -s tests/integration/test_kill.py
"""

import asyncio
import os
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import pytest
from pycrdt import Doc, Text
from websockets.exceptions import WebSocketException

from tests.peer import Peer
from tests.serving import Serve
from tests.tokens import Ledger

ROUNDS: Final = int(os.environ.get("CRASH_ROUNDS", "20"))
CLIENTS: Final = int(os.environ.get("CRASH_CLIENTS", "200"))
ROOMS: Final = int(os.environ.get("CRASH_ROOMS", "20"))
SEED: Final = int(os.environ.get("CRASH_SEED", "1"))

KILL_AFTER_S: Final = (0.1, 2.0)
"""From when all writers are connected, or in each fourth round begin to: those kills hit rooms that are being loaded."""
PAUSE_S: Final = 0.3
"""Mean time between two edits of one writer."""
DELETIONS: Final = 0.35
"""Share of edits that delete: rooms stay at some hundred tokens, most of what was ever written is a tombstone."""

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(60 + 20 * ROUNDS)]


class Crowd:
    """Everybody who writes in one round; their documents start empty and are thrown away with it."""

    def __init__(self, node: Serve, ledgers: dict[str, Ledger], number: int, random: Random) -> None:
        self._node = node
        self._ledgers = ledgers
        self._number = number
        self._random = random
        self._connecting = CLIENTS
        self._all_connected = asyncio.Event()
        self._killed = False

    async def run(self, kill_after_s: float, *, early: bool) -> None:
        """Writes until the server is killed, and reads what it still had to say."""
        rooms = list(self._ledgers)
        async with asyncio.TaskGroup() as writers:
            for client in range(CLIENTS):
                writers.create_task(self._write(rooms[client % len(rooms)], client, Random(self._random.random())))
            if not early:
                await self._all_connected.wait()
            await asyncio.sleep(kill_after_s)
            self._killed = True
            self._node.kill()

    async def _write(self, room: str, client: int, random: Random) -> None:
        try:
            peer = await Peer.open(self._node.ws_url, room)
        except (OSError, WebSocketException):
            if not self._killed:
                raise
            return
        self._connecting -= 1
        if not self._connecting:
            self._all_connected.set()
        author = self._ledgers[room].author(peer, f"{self._number}.{client}", random)
        while peer.closed is None:
            if random.random() < DELETIONS:
                await author.delete()
            else:
                await author.write()
            if random.random() < 0.5:  # else another one behind it at once
                await asyncio.sleep(random.uniform(0, 4 * PAUSE_S))
        assert self._killed, f"the server closed a writer with {peer.closed}"
        await peer.leave()


def read_by_http(node: Serve, room: str) -> str:
    with urllib.request.urlopen(f"{node.url}/api/rooms/{quote(room, safe='')}/update", timeout=10) as answer:
        doc: Doc[Text] = Doc()
        doc.apply_update(answer.read())
    return str(doc.get("text", type=Text))


async def read(node: Serve, room: str) -> str:
    async with await Peer.join(node.ws_url, room) as reader:
        return str(reader.text)


async def faults_after_restart(node: Serve, ledgers: dict[str, Ledger], by_http: str) -> list[str]:
    """What fresh readers find wrong; one room is read through the API first, while nobody has opened it."""
    faults = []
    if ledgers[by_http].kept:
        content = await asyncio.to_thread(read_by_http, node, by_http)
        faults = [f"{by_http} by HTTP: {fault}" for fault in ledgers[by_http].faults(content)]
    contents = await asyncio.gather(*[read(node, room) for room in ledgers])
    for (room, ledger), content in zip(ledgers.items(), contents, strict=True):
        faults += [f"{room}: {fault}" for fault in ledger.faults(content)]
        ledger.reloaded(content)
    return faults


async def test_R4_nothing_saved_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    random = Random(SEED)
    ledgers = {f"room {number}": Ledger() for number in range(ROOMS)}
    rounds_with_saved = rounds_cut_short = 0
    print(f"\nseed {SEED}: {CLIENTS} writers in {ROOMS} rooms")
    # Rooms are folded into snapshots all the time, so that kills hit that too.
    with Serve(tmp_path / "data", "--compact-rows-min", "20") as node:
        for number in range(ROUNDS):
            kill_after_s = random.uniform(*KILL_AFTER_S)
            early = number % 4 == 3
            await Crowd(node, ledgers, number, random).run(kill_after_s, early=early)
            authors = [author for ledger in ledgers.values() for author in ledger.authors]
            sent = sum(author.edits for author in authors)
            saved = sum(author.saved_edits for author in authors)
            deleted = sum(frame <= author.peer.saved for author in authors for _, frame in author.deleted)
            for ledger in ledgers.values():
                ledger.settle()
            node.restart()
            faults = await faults_after_restart(node, ledgers, random.choice(list(ledgers)))
            print(
                f"round {number:3}: killed {kill_after_s:.2f} s after {'the start' if early else 'all came'}:"
                f" {sent:5} edits sent, {saved:5} saved ({deleted:5} deletions), {len(faults)} lost or wrong"
            )
            assert not faults, f"seed {SEED}, round {number}, {len(faults)} faults:\n" + "\n".join(faults[:20])
            rounds_with_saved += deleted > 0
            rounds_cut_short += saved < sent
        assert node.stop() == 0
    assert rounds_with_saved > ROUNDS / 2, "the load was too light to tell anything"
    assert rounds_cut_short > ROUNDS / 4, "no kill hit edits that were under way"
    with closing(sqlite3.connect(tmp_path / "data" / "journal.db")) as journal:
        (snapshots,) = journal.execute("SELECT count(*) FROM snapshots").fetchone()
    assert snapshots > 0, "no room was compacted"
