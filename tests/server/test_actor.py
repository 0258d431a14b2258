"""The actor: in which order things happen, and what becomes of a room, its peers and the node when they go wrong."""

import asyncio
import logging
from typing import Any

import pytest

import server.actor as actor_module
from crdt.errors import CloseCode, LocalError, TuttiError, Unavailable
from server.outbox import Fill
from server.room.inputs import (
    AwarenessReceived,
    FrameRefused,
    Input,
    OutboxDrained,
    OutboxFull,
    StateVectorReceived,
    UpdateReceived,
)
from server.room.limits import RoomLimits
from server.room.machine import Room
from tests.server.acting import MemoryJournal, Stage, settle, stage, until


class Panic(BaseException):
    """As pycrdt's: no Exception."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "asyncio")


def fail_on(monkeypatch: pytest.MonkeyPatch, text: bytes, error: BaseException) -> None:
    """Every room raises on updates with that in them, as a bug of ours would make it."""
    handle = Room.handle

    def broken(self: Room, event: Input, now: float) -> Any:
        if isinstance(event, UpdateReceived) and text in event.update:
            raise error
        return handle(self, event, now)

    monkeypatch.setattr(Room, "handle", broken)


# ---- the ordinary


async def test_R1_what_is_posted_before_the_room_is_loaded_is_answered_after() -> None:
    async with stage() as room:
        ann = room.join(1, saved=True)
        room.type(ann, "early")
        assert not ann.received
        await until(lambda: ann.saved() == 1)
        assert ann.kinds()[0] == "SyncStep1"
        assert "SyncStep2" in ann.kinds()
        bob = room.join(2)
        await until(lambda: str(bob.text) == "early")
        assert room.actor.state == "open"
        assert room.actor.opened.is_set()


async def test_effects_run_in_order_the_readers_before_the_journal() -> None:
    async with stage() as room:
        ann, bob = room.join(1, saved=True), room.join(2)
        await settle()
        room.journal.log.clear()
        room.type(ann, "x")
        await until(lambda: ann.saved() == 1)
        assert room.journal.log == ["send 2 SyncUpdate", "append 1", "send 1 Saved"]
        assert str(bob.text) == "x"


async def test_what_comes_between_two_ticks_is_one_tick() -> None:
    async with stage(limits=RoomLimits(tick_interval_s=0.05)) as room:
        ann, bob, cy = room.join(1), room.join(2), room.join(3)
        await settle()
        room.type(ann, "first")
        await until(lambda: str(cy.text) == "first")
        for number in range(50):
            room.type(ann, f" {number}")
            room.type(bob, f" {number}")
        await until(lambda: len(str(cy.text)) == len("first") + 2 * sum(len(f" {number}") for number in range(50)))
        assert cy.kinds().count("SyncUpdate") == 2
        await until(lambda: len(room.journal.rows) == 2)
        assert [len(row.entries) for row in room.journal.rows] == [1, 100]
        assert [entry.author for entry in room.journal.rows[1].entries[:2]] == ["author 1", "author 2"]


async def test_a_broadcast_is_encoded_once_for_each_protocol() -> None:
    async with stage() as room:
        ann = room.join(1)
        readers = [room.join(session, framing="y" if session % 2 else "other") for session in range(2, 12)]
        await settle()
        before = ann.encoded + sum(peer.encoded for peer in readers)
        room.type(ann, "x")
        await until(lambda: all(str(peer.text) == "x" for peer in readers))
        assert ann.encoded + sum(peer.encoded for peer in readers) - before == 2
        assert len({id(peer.frames[-1]) for peer in readers}) == 2, "one object for all of a protocol"
        assert room.telemetry.frames_out >= 10


async def test_R8_a_full_outbox_is_known_before_the_next_edit_is_sent() -> None:
    async with stage() as room:
        ann, bob = room.join(1), room.join(2)
        await settle()
        bob.fill = Fill.FULL
        room.type(ann, "1")
        room.type(ann, "2")
        room.type(ann, "3")
        await settle()
        assert str(bob.text) == "1", "the frame that filled it was taken, and nothing after it"
        room.actor.post(OutboxDrained(2))
        await until(lambda: str(bob.text) == "123")
        assert bob.kinds()[-1] == "SyncUpdate"
        assert room.telemetry.outbox_overflows == 1


async def test_R7_frames_of_one_that_left_are_applied() -> None:
    async with stage() as room:
        ann, bob = room.join(1), room.join(2)
        await settle()
        room.type(ann, "the last words")
        room.actor.leave(1)
        room.actor.leave(1)
        await until(lambda: str(bob.text) == "the last words")
        assert 1 not in room.actor.peers


async def test_K4_a_sender_ahead_of_the_room_is_paused_until_the_room_caught_up() -> None:
    async with stage(inbox_bytes_max=10_000) as room:
        ann, bob = room.join(1), room.join(2)
        await settle()
        for _ in range(100):
            room.type(ann, "x" * 1000)
        assert not ann.reading
        assert bob.reading
        await until(lambda: ann.reading)
        await until(lambda: len(bob.text) == 100_000)
        assert room.telemetry.reads_paused >= 1


async def test_K4_one_that_left_while_paused_is_not_resumed() -> None:
    async with stage(inbox_bytes_max=1000) as room:
        ann, bob = room.join(1), room.join(2)
        await settle()
        room.type(ann, "x" * 5000)
        room.type(ann, "x" * 5000)
        room.actor.leave(1)
        await until(lambda: len(bob.text) == 10_000)
        await settle()
        assert not ann.reading


async def test_stopping_waits_for_the_commit() -> None:
    room = Stage(journal=MemoryJournal(autocommit=False))
    room.actor.start()
    ann = room.join(1)
    await settle()
    room.type(ann, "kept")
    room.actor.leave(1)
    room.actor.stop()
    await settle()
    assert not room.actor.closed.is_set()
    room.journal.commit()
    await asyncio.wait_for(room.actor.closed.wait(), 5)
    assert [row.seq for row in room.journal.rows] == [1]


async def test_stopping_before_the_room_is_loaded_keeps_what_was_posted() -> None:
    room = Stage()
    room.actor.start()
    ann = room.join(1)
    room.type(ann, "early")
    room.actor.leave(1)
    room.actor.stop()
    await asyncio.wait_for(room.actor.closed.wait(), 5)
    assert len(room.journal.rows) == 1


# ---- faults


@pytest.mark.parametrize("error", [ValueError("bug"), Panic("bug")], ids=["exception", "panic"])
async def test_R10_an_exception_ends_the_offender_and_rebuilds_the_room(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fail_on(monkeypatch, b"poison", error)
    async with stage() as room:
        ann, mallory = room.join(1, saved=True), room.join(2)
        await settle()
        room.type(ann, "kept")
        await until(lambda: ann.saved() == 1)
        ann.received.clear()
        room.type(mallory, "poison")
        await until(lambda: mallory.closed is not None)
        assert mallory.closed == (CloseCode.INTERNAL_ERROR, "internal error")
        await until(lambda: room.actor.state == "open")
        assert "SyncStep1" in ann.kinds(), "everybody is asked for their state"
        assert ann.closed is None
        room.type(ann, " and more")
        fresh = room.join(3)
        await until(lambda: str(fresh.text) == "kept and more")
        assert room.telemetry.room_rebuilds == 1
        assert room.telemetry.closes[CloseCode.INTERNAL_ERROR] == 1


async def test_R13_a_tick_that_raises_rebuilds_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = Room.tick
    broken = [True]

    def breaks_once(self: Room, now: float) -> Any:
        effects = tick(self, now)
        if self.content.bytes and broken:
            broken.clear()
            raise Panic("bug")
        return effects

    monkeypatch.setattr(Room, "tick", breaks_once)
    async with stage() as room:
        ann = room.join(1, saved=True)
        await settle()
        room.type(ann, "x")
        await until(lambda: room.telemetry.room_rebuilds == 1)
        await until(lambda: room.actor.state == "open")
        # Its step 2 brings home what was lost with the memory, and only then is it called saved.
        assert ann.saved() <= 0
        for _ in range(ann.kinds().count("SyncStep1")):
            room.answer(ann)
        await until(lambda: len(room.journal.rows) == 1)
        fresh = room.join(2)
        await until(lambda: str(fresh.text) == "x")


async def test_R13_a_failed_commit_takes_back_what_was_not_kept() -> None:
    async with stage(journal=MemoryJournal(autocommit=False)) as room:
        ann, bob = room.join(1, saved=True), room.join(2)
        await settle()
        room.type(ann, "kept")
        await settle()
        room.journal.commit()
        await until(lambda: ann.saved() == 1)
        room.type(ann, " lost")
        await until(lambda: str(bob.text) == "kept lost")
        room.journal.fail(Unavailable("disk is full"))
        await until(lambda: room.actor.state == "open")
        assert room.journal.loads == 2
        fresh = room.join(3)
        await until(lambda: "SyncStep2" in fresh.kinds())
        assert str(fresh.text) == "kept"
        assert ann.saved() == 1
        room.answer(ann)
        room.answer(ann)
        await settle()
        room.journal.commit()
        await until(lambda: str(fresh.text) == "kept lost")
        assert ann.closed is None
        assert bob.closed is None


async def test_R13_a_journal_that_refuses_at_once_is_a_failed_commit() -> None:
    async with stage() as room:
        ann = room.join(1, saved=True)
        await settle()
        room.journal.refusal = Unavailable("too much is pending")
        room.type(ann, "x")
        await until(lambda: room.journal.loads == 2)
        room.journal.refusal = None
        await until(lambda: room.actor.state == "open")
        assert ann.saved() == 0


async def test_R13_what_is_reported_of_an_earlier_run_is_no_concern() -> None:
    async with stage(journal=MemoryJournal(autocommit=False)) as room:
        ann = room.join(1, saved=True)
        await settle()
        room.type(ann, "1")
        await settle()
        ((row, done),) = room.journal.pending
        room.journal.pending.clear()
        done(row.seq, Unavailable("disk is full"))
        await until(lambda: room.journal.loads == 2 and room.actor.state == "open")
        done(row.seq, None)
        done(row.seq, Unavailable("again"))
        await settle()
        assert ann.saved() == 0
        assert room.journal.loads == 2


async def test_R13_a_row_the_journal_will_never_take_is_a_fault_of_the_room() -> None:
    async with stage(journal=MemoryJournal(autocommit=False)) as room:
        ann = room.join(1)
        await settle()
        room.type(ann, "1")
        await settle()
        room.journal.fail(LocalError("out of order"))  # type: ignore[arg-type]
        await until(lambda: room.telemetry.room_rebuilds == 1)


async def test_R13_too_many_faults_make_the_room_read_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on(monkeypatch, b"poison", ValueError("bug"))
    async with stage(restarts_max=2, quarantine_s=0.3) as room:
        ann = room.join(1, saved=True)
        await settle()
        room.type(ann, "kept")
        await until(lambda: ann.saved() == 1)
        for session in (2, 3, 4):
            mallory = room.join(session)
            room.type(mallory, "poison")
            await until(lambda mallory=mallory: mallory.closed is not None)  # type: ignore[misc]
        await until(lambda: room.actor.state == "quarantined")
        assert room.telemetry.quarantines == 1
        reader = room.join(5)
        await until(lambda: str(reader.text) == "kept")
        writer = room.join(6)
        room.type(writer, "refused")
        await until(lambda: writer.closed is not None)
        assert writer.closed is not None
        assert writer.closed[0] == CloseCode.ROOM_FAILED
        assert reader.closed is None
        await until(lambda: room.actor.state == "open")
        room.type(reader, " again")
        await until(lambda: len(room.journal.rows) == 2)
        assert ann.closed is None


async def test_R13_a_room_that_fails_even_when_read_only_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on(monkeypatch, b"poison", ValueError("bug"))
    room = Stage(restarts_max=1)
    room.actor.start()
    ann = room.join(1)
    await settle()
    for session in (2, 3, 4):
        if room.actor.state != "failed":
            room.type(room.join(session), "poison")
            await settle()
    await asyncio.wait_for(room.actor.closed.wait(), 5)
    assert room.actor.state == "failed"
    assert room.gave_up == [room.actor]
    assert ann.closed == (CloseCode.ROOM_FAILED, "room can't be opened now")
    assert not room.actor.peers
    late = room.join(9)
    assert late.closed is not None
    assert late.closed[0] == CloseCode.ROOM_FAILED


async def test_R1_while_the_disk_can_not_be_read_nobody_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "LOAD_RETRY_S", 0.05)
    journal = MemoryJournal()
    journal.load_errors = [Unavailable("disk fails"), Unavailable("disk fails")]
    async with stage(journal=journal) as room:
        ann = room.join(1)
        await settle()
        assert not ann.received
        await until(lambda: "SyncStep2" in ann.kinds())
        assert journal.loads == 3


async def test_R13_a_room_that_can_not_be_read_is_given_up_with_its_bytes_kept() -> None:
    journal = MemoryJournal()
    journal.load_errors = [TuttiError("row 7 is of version 9")]
    room = Stage(journal=journal)
    room.actor.start()
    ann = room.join(1)
    await asyncio.wait_for(room.actor.closed.wait(), 5)
    assert ann.closed is not None
    assert ann.closed[0] == CloseCode.ROOM_FAILED
    assert room.actor.opened.is_set(), "who waits for the document must not wait forever"


async def test_stopping_while_the_disk_can_not_be_read_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_module, "LOAD_RETRY_S", 0.05)
    journal = MemoryJournal()
    journal.load_errors = [Unavailable("disk fails") for _ in range(1000)]
    room = Stage(journal=journal)
    room.actor.start()
    room.join(1)
    await settle()
    room.actor.stop()
    await asyncio.wait_for(room.actor.closed.wait(), 5)


async def test_R10_what_a_closed_session_still_sends_is_ignored() -> None:
    async with stage() as room:
        ann, mallory = room.join(1), room.join(2)
        await settle()
        room.actor.post(FrameRefused(2, CloseCode.MALFORMED, "nonsense"))
        room.actor.post(UpdateReceived(2, b"\xff", answers_step1=False))
        room.actor.post(AwarenessReceived(2, b"\xff"))
        room.actor.post(StateVectorReceived(2, b"\x00"))
        room.actor.post(OutboxFull(2))
        room.actor.leave(2)
        await settle()
        assert mallory.closed == (CloseCode.MALFORMED, "nonsense")
        assert room.telemetry.closes == {CloseCode.MALFORMED: 1}
        room.type(ann, "on")
        await until(lambda: len(room.journal.rows) == 1)


@pytest.mark.parametrize(
    "event",
    [AwarenessReceived(1, b"\x00"), StateVectorReceived(1, b"\x00"), UpdateReceived(1, b"\0\0", answers_step1=False)],
)
async def test_R7_inputs_that_hold_few_bytes_are_bounded_as_well(event: Input) -> None:
    """A flood of the smallest messages while the room is busy: their sender is not read from after a while."""
    async with stage(inbox_bytes_max=100_000) as room:
        mallory = room.join(1)
        await settle()
        room.actor._wake()  # a turn is due: from here on inputs wait for it
        for _ in range(20_000):
            room.actor.post(event)
            if not mallory.reading:
                return
        pytest.fail(f"{len(room.actor._inbox)} inputs wait")
