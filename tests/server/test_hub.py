"""The hub: who may enter which room, when rooms end, and that the end of one waits for its last commit (R11, R16)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crdt.errors import CloseCode, Unavailable
from server.actor import Actor
from server.app import open_journal
from server.hub import Busy, Hub, Resting, settings_to_limits
from server.record import TraceFiles
from server.room.inputs import UpdateReceived
from server.room.key import RoomKey
from server.settings import Settings
from server.store.journal import Journal
from server.telemetry import Telemetry
from tests.offences import section, text_block, whole
from tests.server.acting import ActedPeer, until

KEY = RoomKey("", "room")
HELLO = whole(section(1, 0, text_block("hello")))


class House:
    """A hub on a real journal."""

    def __init__(self, hub: Hub, journal: Journal) -> None:
        self.hub = hub
        self.journal = journal

    async def visit(self, key: RoomKey = KEY) -> "Visit":
        session = self.hub.admit()
        actor = await self.hub.enter(key)
        peer = ActedPeer(session, [])
        actor.join(session, peer, author=f"a{session}", wants_saved=False)
        self.hub.release(actor)
        return Visit(self.hub, actor, peer)


class Visit:
    """Somebody in a room."""

    def __init__(self, hub: Hub, actor: Actor, peer: ActedPeer) -> None:
        self.hub = hub
        self.actor = actor
        self.peer = peer

    def write(self, update: bytes = HELLO) -> None:
        self.actor.post(UpdateReceived(self.peer.id, update, answers_step1=False))

    def leave(self) -> None:
        self.hub.dismiss(self.peer.id, self.actor)


@asynccontextmanager
async def house(folder: Path, *, traces: TraceFiles | None = None, **settings: Any) -> AsyncIterator[House]:
    settings.setdefault("room_idle_evict_s", 0)
    configured = Settings(data_dir=folder / "data", **settings)
    journal = open_journal(configured)
    journal.start(asyncio.get_running_loop())
    hub = Hub(configured, journal, Telemetry(), run="run", traces=traces)
    hub.start()
    try:
        yield House(hub, journal)
    finally:
        async with asyncio.timeout(5):
            await hub.close()
        await journal.close()


async def test_a_room_is_opened_once_and_shared(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        ann, bob, cy = await asyncio.gather(at.visit(), at.visit(), at.visit(RoomKey("", "other")))
        assert ann.actor is bob.actor is not cy.actor
        assert at.hub.open_rooms == 2
        assert at.hub.sessions == 3
        assert len({ann.peer.id, bob.peer.id, cy.peer.id}) == 3


async def test_a_room_that_nobody_is_in_ends_after_a_while(tmp_path: Path) -> None:
    async with house(tmp_path, room_idle_evict_s=0.5) as at:
        ann = await at.visit()
        ann.leave()
        assert at.hub.sessions == 0
        bob = await at.visit()
        assert bob.actor is ann.actor, "it was still there"
        await asyncio.sleep(1.0)
        assert at.hub.open_rooms == 1, "somebody is in it"
        bob.leave()
        await until(lambda: at.hub.open_rooms == 0)
        assert bob.actor.closed.is_set()


async def test_a_room_that_is_being_entered_does_not_end(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        actor = await at.hub.enter(KEY)
        await asyncio.sleep(0.6)
        assert at.hub.rooms[KEY] is actor
        at.hub.release(actor)
        await until(lambda: at.hub.open_rooms == 0)


async def test_R16_who_enters_while_a_room_ends_is_given_its_last_commit(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        ann = await at.visit()
        ann.write()
        ann.leave()
        at.hub._evict(ann.actor)
        assert at.hub.rooms[KEY] is ann.actor, "it is not gone before its row is on disk"
        bob = await at.visit()
        assert bob.actor is not ann.actor
        assert ann.actor.closed.is_set()
        await bob.actor.opened.wait()
        assert bob.actor.room.content.gate.clocks == {1: 5}


async def test_R16_many_may_wait_for_the_end_of_a_room(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        first = await at.visit()
        first.write()
        first.leave()
        at.hub._evict(first.actor)
        visits = await asyncio.gather(*(at.visit() for _ in range(20)))
        assert len({id(visit.actor) for visit in visits}) == 1
        assert at.hub.open_rooms == 1


async def test_past_a_limit_one_is_told_to_come_back(tmp_path: Path) -> None:
    async with house(tmp_path, rooms_open_max=1, sessions_max=2, sessions_per_room_max=2) as at:
        await at.visit()
        with pytest.raises(Busy) as refused:
            await at.hub.enter(RoomKey("", "other"))
        assert refused.value.code == CloseCode.BUSY
        at.hub.admit()
        with pytest.raises(Busy):
            at.hub.admit()
        assert at.hub.sessions == 2
        at.hub.dismiss(2, None)
        at.hub.admit()


async def test_closing_refuses_newcomers_and_keeps_what_was_written(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        visits = [await at.visit(RoomKey("", f"room {number}")) for number in range(10)]
        for visit in visits:
            visit.write()
        assert at.hub.ready()[0]
        await asyncio.wait_for(at.hub.close(), 5)
        assert at.hub.open_rooms == 0
        assert not at.hub.ready()[0]
        with pytest.raises(Busy):
            at.hub.admit()
        with pytest.raises(Busy):
            await at.hub.enter(KEY)
        for visit in visits:
            stored = await at.journal.load(visit.actor.key)
            assert [entry.update for row in stored.rows for entry in row.entries] == [HELLO]


async def test_a_room_that_was_given_up_rests_before_it_is_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path, quarantine_s=0.5) as at:
        ann = await at.visit()
        await ann.actor.opened.wait()
        ann.actor._give_up()
        assert ann.peer.closed is not None
        ann.leave()
        await until(lambda: at.hub.open_rooms == 0)
        with pytest.raises(Resting) as refused:
            await at.hub.enter(KEY)
        assert refused.value.code == CloseCode.ROOM_FAILED
        await at.visit(RoomKey("", "other"))
        await until(lambda: not at.hub._resting)
        bob = await at.visit()
        await bob.actor.opened.wait()
        assert bob.actor.state == "open"


async def test_a_document_is_read_without_being_made(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        assert await at.hub.document(KEY) is None
        assert at.hub.open_rooms == 0
        ann = await at.visit()
        ann.write()
        ann.leave()
        await until(lambda: at.hub.open_rooms == 0)
        document = await at.hub.document(KEY)
        assert document is not None
        assert b"hello" in document
        assert at.hub.live(KEY) is not None
        await until(lambda: at.hub.open_rooms == 0)
        assert at.hub.live(KEY) is None


async def test_a_document_that_can_not_be_read_now_is_said_to_be(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        ann = await at.visit()
        ann.write()
        await until(lambda: ann.actor.room.committed_seq == 1)
        ann.leave()
        await until(lambda: at.hub.open_rooms == 0)
        reading = asyncio.create_task(at.hub.document(KEY))
        while not at.hub.open_rooms:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0)  # it must not have been read by the time it is given up
        at.hub.rooms[KEY]._give_up()
        with pytest.raises(Unavailable):
            await reading


async def test_what_is_live_in_a_room(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        ann = await at.visit()
        await at.visit()
        ann.write()
        await until(lambda: ann.actor.room.committed_seq == 1)
        live = at.hub.live(KEY)
        assert live is not None
        assert (live.state, live.sessions, live.saved_seq, live.last_seq) == ("open", 2, 1, 1)
        assert live.document_bytes == len(HELLO)


class Watched:
    """A session on the wheel."""

    def __init__(self) -> None:
        self.visits: list[bool] = []

    def visit(self, *, ping: bool) -> None:
        self.visits.append(ping)


async def test_R11_each_session_is_visited_twice_a_keepalive_and_pinged_at_its_interval(tmp_path: Path) -> None:
    async with house(tmp_path, send_keepalive_s=0.5, ping_interval_s=1) as at:
        sessions = [(at.hub.admit(), Watched()) for _ in range(25)]
        for session, watched in sessions:
            at.hub.watch(session, watched)
        await asyncio.sleep(2.2)
        for _, watched in sessions:
            # Every 0.25 s, as the node's clock ticks; pinged each fourth time.
            assert 6 <= len(watched.visits) <= 10
            assert 1 <= sum(watched.visits) <= 3
        gone, watched = sessions[0]
        at.hub.dismiss(gone, None)
        seen = len(watched.visits)
        await asyncio.sleep(0.7)
        assert len(watched.visits) == seen


async def test_the_rooms_are_told_when_the_journal_comes_back(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        visits = [await at.visit(RoomKey("", f"room {number}")) for number in range(3)]
        for visit in visits:
            await visit.actor.opened.wait()
        available = True

        class Away:
            """The hub's journal, with its availability in the test's hand."""

            def __getattr__(self, name: str) -> Any:
                return available if name == "available" else getattr(at.journal, name)

        at.hub._journal = Away()  # type: ignore[assignment]
        available = False
        await until(lambda: all(visit.actor.room.content.read_only is not None for visit in visits))
        ready, dependencies = at.hub.ready()
        assert not ready
        assert [(each.name, each.ok) for each in dependencies] == [("journal", False)]
        available = True
        await until(lambda: all(visit.actor.room.content.read_only is None for visit in visits))


async def test_each_opening_of_a_room_has_a_trace_of_its_own(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    async with house(tmp_path, traces=TraceFiles(traces, "run")) as at:
        for _ in range(2):
            ann = await at.visit(RoomKey("", "a/b"))
            ann.leave()
            await until(lambda: at.hub.open_rooms == 0)
    assert len(list(traces.iterdir())) == 2


def test_the_limits_of_rooms_are_the_settings() -> None:
    limits = settings_to_limits(
        Settings(
            tick_interval_ms=20,
            tick_updates_max=7,
            slow_reader_close_s=3,
            document_bytes_max=1 << 20,
            message_bytes_max=1 << 19,
            held_updates_max=11,
            presence_state_bytes_max=999,
        )
    )
    assert limits.tick_interval_s == 0.02
    assert limits.tick_updates_max == 7
    assert limits.slow_reader_close_s == 3
    assert limits.document_bytes_max == 1 << 20
    assert limits.gate.update_bytes_max == 1 << 19
    assert limits.gate.held_updates_max == 11
    assert limits.roster.state_bytes_max == 999
