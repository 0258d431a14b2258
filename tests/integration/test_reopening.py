"""Rooms that are closed and opened again all the time: nothing lost, nothing doubled, whoever comes while they close."""

import asyncio
import http.client
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, Self

import pytest

from tests.peer import Peer
from tests.serving import Serve
from tests.tokens import Ledger

pytestmark = pytest.mark.integration

ROOM: Final = "room"


def state_of_room(node: Serve, room: str = ROOM) -> str:
    """`open`, `closing`, `stored` …; asking does not open it."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=10)
    try:
        connection.request("GET", f"/api/rooms/{room}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
        return str(body["state"]) if answer.status == 200 else "none"
    finally:
        connection.close()


async def wait_state(node: Serve, state: str) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(state_of_room, node) != state:  # noqa: ASYNC110  another process's state
            await asyncio.sleep(0.005)


async def test_R16_who_comes_while_the_room_closes_is_given_its_last_commit(tmp_path: Path) -> None:
    ledger = Ledger()
    # A commit takes longer to come than the hub takes to notice that nobody is left.
    commits = ("--commit-interval-ms", "1000", "--commit-interval-busy-ms", "1000")
    with Serve(tmp_path / "data", "--room-idle-evict-s", "0", *commits) as node:
        for visit in range(5):
            async with await Peer.join(node.ws_url, ROOM) as ann:
                ledger.kept.add(await ledger.author(ann, f"ann{visit}", Random(visit)).write())
            await wait_state(node, "closing")
            comers = await asyncio.gather(*[Peer.join(node.ws_url, ROOM) for _ in range(5)])
            for comer in comers:
                assert ledger.faults(str(comer.text)) == []
                await comer.leave()
            await wait_state(node, "stored")


@dataclass
class Books:
    """What must be in the room: at once what was saved, a tick later what others said before they said goodbye (R7)."""

    saved: Ledger
    said: Ledger

    @classmethod
    def new(cls) -> Self:
        saved = Ledger()
        return cls(saved, Ledger(written=saved.written, deleting=saved.deleting))

    def as_of_now(self) -> Self:
        """What others finish later may or may not be in what is given first."""
        return type(self)(*[replace(ledger, kept=set(ledger.kept), gone=set(ledger.gone)) for ledger in self.both])

    @property
    def both(self) -> tuple[Ledger, Ledger]:
        return self.saved, self.said


async def visit(node: Serve, books: Books, name: str) -> None:
    """Comes with nothing, looks, edits, leaves in one of several ways."""
    random = Random(name)
    expected = books.as_of_now()
    async with await Peer.join(node.ws_url, ROOM) as peer:
        assert expected.saved.faults(str(peer.text)) == []
        await peer.wait("all that was said is there", lambda: expected.said.faults(str(peer.text)) == [])
        author = books.saved.author(peer, name, random)
        token = await (author.delete() if random.random() < 0.3 else author.write())
        ledger = books.said
        if random.random() < 0.5:
            await peer.wait_saved()
            ledger = books.saved
        elif random.random() < 0.5:
            await peer.vanish()
            return
    (ledger.gone if author.deleted else ledger.kept).update({token} if token else ())


@pytest.mark.parametrize("commit_ms", ["0", "200"])
async def test_R16_a_storm_of_visits_loses_and_doubles_nothing(tmp_path: Path, commit_ms: str) -> None:
    books, random, states = Books.new(), Random(1), Counter[str]()
    flags = ("--room-idle-evict-s", "0", "--commit-interval-ms", commit_ms, "--commit-interval-busy-ms", commit_ms)
    with Serve(tmp_path / "data", *flags, "--compact-rows-min", "10") as node:
        for wave in range(20):
            async with asyncio.TaskGroup() as visitors:
                for number in range(12):
                    visitors.create_task(visit(node, books, f"{wave}.{number}"))
                    await asyncio.sleep(random.choice((0, 0, 0.01, 0.05)))
            # The hub looks for empty rooms four times a second: the next wave comes before, while or after it closes one.
            await asyncio.sleep(random.uniform(0, 0.35))
            states[await asyncio.to_thread(state_of_room, node)] += 1
        async with await Peer.join(node.ws_url, ROOM) as fresh:
            for ledger in books.both:
                assert ledger.faults(str(fresh.text)) == []
                assert len(ledger.kept) > 20
                assert len(ledger.gone) > 5
        assert states["stored"] > 0, f"the room was never closed: {states}"
        assert node.stop() == 0


async def test_R11_a_room_visited_now_and_then_does_not_keep_the_others_in_memory(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", "--room-idle-evict-s", "1") as node:
        for room in ("busy", "quiet"):
            async with await Peer.join(node.ws_url, room) as ann:
                await ann.wait_saved(await ann.edit(lambda text: text.insert(0, "hello")))
        async with asyncio.timeout(6):
            while await asyncio.to_thread(state_of_room, node, "quiet") != "stored":
                await (await Peer.join(node.ws_url, "busy")).leave()
                await asyncio.sleep(0.4)
        assert await asyncio.to_thread(state_of_room, node, "busy") == "open"
