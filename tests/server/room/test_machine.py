"""The room machine: every rule that one room decides alone. Time is a number, the journal a list."""

import pycrdt
import pytest

from crdt.errors import CloseCode
from crdt.limits import GateLimits
from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from presence.awareness import Entry, encode_awareness, parse_awareness
from presence.limits import RosterLimits
from server.room import inputs as i
from server.room.effects import Awareness, Saved, Send
from server.room.limits import RoomLimits
from server.room.nudging import NUDGE_INTERVAL_S, NUDGED_MAX
from server.room.sessions import Crowded, Lagging, Live
from tests.server.room.harness import Peer, World

HELD_LITTLE = RoomLimits(gate=GateLimits(held_updates_max=1))


def state(client: int, clock: int, text: bytes | None = b'{"name":"Ann"}') -> bytes:
    return encode_awareness([Entry(client, clock, text)])


def present(message: Awareness) -> dict[int, bytes | None]:
    return {entry.client: entry.state for entry in parse_awareness(message.update, RosterLimits())}


# ---- R1: load first


def test_R1_nothing_is_answered_before_the_room_is_loaded() -> None:
    world = World()
    ann = world.join(1, sync=False)
    world.handle(i.StateVectorReceived(1, b"\0"))
    world.handle(i.UpdateReceived(1, ann.insert("early"), answers_step1=False))
    world.settle()
    assert ann.received == []
    world.load()
    world.settle()
    kinds = [type(message) for message in ann.received]
    assert kinds[:2] == [SyncStep1, SyncStep2]
    assert world.document() == "early"


def test_R1_what_the_journal_has_is_in_the_first_step_2() -> None:
    before = World()
    before.load()
    ann = before.join(1)
    before.send(ann, ann.insert("kept"))
    after = World(rows=tuple(before.rows))
    bob = after.join(2)
    assert str(bob.text) == ""
    after.load()
    after.settle()
    assert str(bob.text) == "kept"


def test_a_joiner_is_greeted_with_step_1_presence_and_its_saved_count() -> None:
    world = World()
    world.load()
    world.join(1)
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.settle(1.0)
    bob = world.join(2, saved=True, sync=False)
    assert [type(message) for message in bob.received] == [SyncStep1, Awareness, Saved]


# ---- the tick


def test_the_first_update_after_a_quiet_spell_goes_out_at_once() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.now = 10.0
    bob.received.clear()
    world.send(ann, ann.insert("a"), settle=False)
    assert world.room.next_deadline() is not None
    assert world.room.next_deadline() <= world.now
    world.tick()
    assert [type(message) for message in bob.received] == [SyncUpdate]


def test_updates_within_a_tick_go_out_as_one_frame_and_one_row() -> None:
    world = World()
    world.load()
    ann, bob, cid = world.join(1), world.join(2), world.join(3)
    world.now = 10.0
    world.send(ann, ann.insert("a"), settle=False)
    world.tick()
    rows = len(world.rows)
    for letter in "bcd":
        world.send(ann, ann.insert(letter), settle=False)
        world.send(bob, bob.insert(letter.upper()), settle=False)
    assert world.tick() == []
    cid.received.clear()
    world.now += RoomLimits().tick_interval_s
    world.tick()
    assert len(cid.take(SyncUpdate)) == 1
    assert len(world.rows) == rows + 1
    assert [entry.author for entry in world.rows[-1].entries] == ["author-1", "author-2"] * 3
    assert sorted(str(cid.text)) == sorted("abcdBCD")


def test_the_only_author_of_a_tick_is_not_sent_its_own_update() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    ann.received.clear()
    bob.received.clear()
    world.send(ann, ann.insert("a"))
    assert ann.take(SyncUpdate) == []
    assert len(bob.take(SyncUpdate)) == 1


def test_a_quiet_room_has_no_deadline() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.send(ann, ann.insert("a"))
    assert world.room.next_deadline() is None


@pytest.mark.parametrize(
    "limits", [RoomLimits(tick_updates_max=2), RoomLimits(tick_bytes_max=40)], ids=["updates", "bytes"]
)
def test_a_tick_takes_no_more_than_its_cap_and_carries_the_rest_over(limits: RoomLimits) -> None:
    world = World(limits)
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.now = 10.0
    for letter in "abcdefgh":
        world.send(ann, ann.insert(letter), settle=False)
    world.tick()
    assert 0 < len(str(bob.text)) < 8
    assert world.room.content.queued
    world.settle(1.0)
    assert str(bob.text) == "abcdefgh"
    assert not world.room.content.backlog_bytes


def test_the_cadence_follows_the_pace() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.now = 10.0
    world.send(ann, ann.insert("a"), settle=False)
    world.tick()
    world.handle(i.PaceChanged(0.2))
    world.send(ann, ann.insert("b"), settle=False)
    assert world.room.next_deadline() == pytest.approx(10.2)


def test_what_a_session_sent_before_it_left_is_still_merged() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.send(ann, ann.insert("last words"), settle=False)
    world.handle(i.SessionLeft(1))
    del world.peers[1]
    world.settle(0.1)
    assert str(bob.text) == "last words"


# ---- R4: saved


def test_R4_saved_follows_the_commit() -> None:
    world = World(autocommit=False)
    world.load()
    ann = world.join(1, saved=True)
    world.commit()
    base = world.saved(ann)
    world.send(ann, ann.insert("a"))
    assert world.saved(ann) == base
    world.commit()
    assert world.saved(ann) == base + 1


def test_R4_a_duplicate_waits_for_the_commit_of_the_copy() -> None:
    world = World(autocommit=False)
    world.load()
    ann, bob = world.join(1), world.join(2, saved=True)
    world.commit()
    base = world.saved(bob)
    update = ann.insert("a")
    world.send(ann, update)
    world.send(bob, update)
    assert world.saved(bob) == base
    world.commit()
    assert world.saved(bob) == base + 1


def test_R4_a_duplicate_of_what_is_durable_is_saved_at_once() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2, saved=True)
    update = ann.insert("a")
    world.send(ann, update)
    base = world.saved(bob)
    rows = len(world.rows)
    world.send(bob, update)
    assert world.saved(bob) == base + 1
    assert len(world.rows) == rows


def test_R4_a_held_frame_counts_only_when_it_takes_effect() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1, saved=True), world.join(2)
    base = world.saved(ann)
    first, second = ann.insert("a"), ann.insert("b")
    world.send(ann, second)
    assert world.saved(ann) == base
    assert str(bob.text) == ""
    world.send(ann, first)
    assert world.saved(ann) == base + 2
    assert str(bob.text) == "ab"


def test_R4_sessions_that_did_not_ask_are_told_nothing() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.send(ann, ann.insert("a"))
    assert world.saved(ann) is None


def test_R4_a_hole_is_filled_by_the_step_2_that_answers_a_later_step_1() -> None:
    world = World(HELD_LITTLE)
    world.load()
    ann = world.join(1, saved=True)
    base = world.saved(ann)
    first, second, third = ann.insert("a"), ann.insert("b"), ann.insert("c")
    world.send(ann, third)  # held
    world.send(ann, second)  # one too many: refused
    assert world.saved(ann) == base
    world.answer(ann)
    world.settle(1.0)
    assert world.document() == "abc"
    assert world.saved(ann) == base + 1  # what was held; the answer was to a step 1 from before the hole
    world.answer(ann)
    assert world.saved(ann) == base + 4
    world.send(ann, first)
    assert world.saved(ann) == base + 5


# ---- R7: holes


def test_R7_a_gap_is_answered_with_step_1_at_once_and_then_with_growing_waits() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    ann.insert("a")
    world.now = 100.0
    world.send(ann, ann.insert("b"), settle=False)
    world.settle()
    assert len(ann.take(SyncStep1)) == 1
    asked = []
    while len(asked) < 4:
        deadline = world.room.next_deadline()
        assert deadline is not None
        world.now = deadline
        world.tick()
        if ann.take(SyncStep1):
            asked.append(world.now)
    waits = [later - earlier for earlier, later in zip([100.0, *asked], asked, strict=False)]
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_R7_no_more_step_1_once_the_gap_is_closed() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    first, second = ann.insert("a"), ann.insert("b")
    world.send(ann, second)
    world.send(ann, first)
    ann.received.clear()
    world.settle(100.0)
    assert ann.take(SyncStep1) == []
    assert world.room.next_deadline() is None


def test_too_much_held_is_refused_and_repaired_by_the_senders_own_state() -> None:
    world = World(HELD_LITTLE)
    world.load()
    ann, bob = world.join(1), world.join(2)
    ann.insert("a")
    world.send(ann, ann.insert("b"))
    world.send(ann, ann.insert("c"))
    assert str(bob.text) == ""
    world.answer(ann)
    world.settle(1.0)
    assert str(bob.text) == "abc"
    assert not world.closed


# ---- R10: one hostile client ends its own session


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (i.UpdateReceived(1, b"\xff\xff\xff", answers_step1=False), CloseCode.MALFORMED),
        (i.StateVectorReceived(1, b"\xff\xff\xff\x3f"), CloseCode.TOO_LARGE),
        (i.AwarenessReceived(1, state(1, 1, b"NaN")), CloseCode.MALFORMED),
        (i.FrameRefused(1, 4400, "empty frame"), CloseCode.MALFORMED),
    ],
    ids=["update", "state vector", "awareness", "frame"],
)
def test_R10_the_offender_is_closed_and_the_others_go_on(event: i.Input, code: CloseCode) -> None:
    world = World()
    world.load()
    world.join(1)
    ann, bob = world.join(2), world.join(3)
    world.handle(event)
    world.settle(0.1)
    assert world.closed[1][0] == code
    world.send(ann, ann.insert("still here"))
    assert str(bob.text) == "still here"
    assert not world.failures


def test_R10_frames_of_a_closed_session_are_ignored() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.handle(i.FrameRefused(1, 4400, "empty frame"))
    for event in (
        i.UpdateReceived(1, ann.insert("x"), answers_step1=False),
        i.StateVectorReceived(1, b"\0"),
        i.AwarenessReceived(1, state(1, 1)),
        i.AwarenessQueried(1),
        i.OutboxBusy(1),
        i.OutboxFull(1),
        i.OutboxDrained(1),
        i.SessionLeft(1),
    ):
        assert world.handle(event) == []
    assert world.room.next_deadline() is None


# ---- R9: presence


def test_R9_presence_goes_to_everybody_the_sender_included_as_one_frame_a_tick() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.now = 10.0
    for peer in (ann, bob):
        peer.received.clear()
    for clock in (0, 1):  # as a provider opens
        world.handle(i.AwarenessReceived(1, state(1, clock)))
        world.handle(i.AwarenessReceived(2, state(2, clock)))
    world.handle(i.AwarenessReceived(1, state(1, 2, b'{"name":"Anna"}')))
    world.settle()
    for peer in (ann, bob):
        (message,) = peer.take(Awareness)
        assert present(message) == {1: b'{"name":"Anna"}', 2: b'{"name":"Ann"}'}


def test_R9_a_session_that_leaves_takes_its_presence_with_it() -> None:
    world = World()
    world.load()
    world.join(1)
    bob = world.join(2)
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.settle(1.0)
    bob.received.clear()
    world.handle(i.SessionLeft(1))
    del world.peers[1]
    world.settle(1.0)
    assert present(bob.take(Awareness)[0]) == {1: None}


def test_R9_silence_expires() -> None:
    world = World()
    world.load()
    world.join(1)
    bob = world.join(2)
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.settle(1.0)
    bob.received.clear()
    world.settle(31.0)
    assert present(bob.take(Awareness)[0]) == {1: None}


def test_P6_presence_is_answered_to_who_asks() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.settle(1.0)
    ann.received.clear()
    bob.received.clear()
    world.handle(i.AwarenessQueried(2))
    assert ann.received == []
    assert present(bob.take(Awareness)[0]) == {1: b'{"name":"Ann"}'}


def test_P5_a_client_back_at_the_clock_it_was_buried_with_is_sent_its_own_null() -> None:
    world = World()
    world.load()
    world.join(1)
    world.handle(i.AwarenessReceived(1, state(7, 3)))
    world.settle(1.0)
    world.handle(i.SessionLeft(1))
    del world.peers[1]
    world.settle(1.0)
    back = world.join(2)
    back.received.clear()
    world.handle(i.AwarenessReceived(2, state(7, 3)))
    assert present(back.take(Awareness)[0]) == {7: None}


def crowd(count: int) -> World:
    """A loaded room where sessions 1 … count are present as clients of the same number, at clock 3."""
    world = World()
    world.load()
    for session in range(1, count + 1):
        world.join(session, sync=False)
        world.handle(i.AwarenessReceived(session, state(session, 3)))
    world.settle(1.0)
    return world


def loses_its_socket(world: World, session: int) -> None:
    """It is noticed; the client of the same number comes back in session + 1000, is nudged alone, and answers."""
    world.handle(i.SessionLeft(session))
    world.peers.pop(session)
    world.settle(0.1)
    world.join(session + 1000, sync=False)
    for peer in world.peers.values():
        peer.received.clear()
    world.handle(i.AwarenessReceived(session + 1000, state(session, 3)))
    assert nudged(world) == {session + 1000: {session: None}}
    world.handle(i.AwarenessReceived(session + 1000, state(session, 4)))


def nudged(world: World) -> dict[int, dict[int, bytes | None]]:
    """What the sessions that were sent presence at all were sent."""
    return {peer.id: present(message) for peer in world.peers.values() for message in peer.take(Awareness)}


def test_P5_when_one_returns_the_others_are_nudged_and_what_they_answer_is_told_at_once() -> None:
    world = crowd(3)
    loses_its_socket(world, 1)
    assert nudged(world) == {2: {2: None}, 3: {3: None}}
    for session in (2, 3):
        world.handle(i.AwarenessReceived(session, state(session, 4)))
    assert nudged(world) == {}, "an answer is answered by nobody"
    world.settle(0.1)
    told = dict.fromkeys((1, 2, 3), b'{"name":"Ann"}')
    assert nudged(world) == {1001: told, 2: told, 3: told}
    world.settle(10.0)
    assert nudged(world) == {}


def test_P5_the_others_are_nudged_at_most_once_an_interval_and_nobody_is_left_out() -> None:
    world = crowd(5)
    loses_its_socket(world, 1)
    began = world.now
    assert set(nudged(world)) == {2, 3, 4, 5}
    for session in (2, 3):
        loses_its_socket(world, session)
        assert nudged(world) == {}
    world.settle(began + NUDGE_INTERVAL_S - world.now - 0.001)
    nudged(world)
    world.settle(0.002)
    # One round for both: the last of them, whose clock has just risen, needs none.
    assert nudged(world) == {1001: {1: None}, 1002: {2: None}, 4: {4: None}, 5: {5: None}}
    world.settle(2 * NUDGE_INTERVAL_S)
    assert nudged(world) == {}
    loses_its_socket(world, 4)
    assert set(nudged(world)) == {1001, 1002, 1003, 5}


def test_P5_who_gets_no_presence_gets_no_nudge() -> None:
    world = crowd(3)
    world.sync(world.peers[2])
    world.handle(i.OutboxBusy(2))
    loses_its_socket(world, 1)
    assert set(nudged(world)) == {3}


@pytest.mark.parametrize("many", [False, True])
def test_P5_in_large_rooms_the_others_are_not_nudged(many: bool) -> None:
    world = crowd(NUDGED_MAX + many)
    loses_its_socket(world, 1)
    assert len(nudged(world)) == (0 if many else NUDGED_MAX - 1)


# ---- R8: slow readers


def slow(world: World, peer: Peer) -> None:
    world.handle(i.OutboxBusy(peer.id))
    world.handle(i.OutboxFull(peer.id))


def test_R8_presence_is_shed_first() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.handle(i.OutboxBusy(2))
    bob.received.clear()
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.send(ann, ann.insert("a"))
    world.settle(1.0)
    assert bob.take(Awareness) == []
    assert str(bob.text) == "a"
    world.handle(i.OutboxDrained(2))
    assert present(bob.take(Awareness)[0]) == {1: b'{"name":"Ann"}'}
    assert isinstance(world.room._sessions.get(2).state, Live)


def test_R8_then_edits_are_replaced_by_one_diff_and_the_full_roster() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2, saved=True)
    world.send(ann, ann.insert("before "))
    slow(world, bob)
    bob.received.clear()
    for letter in "while lagging":
        world.send(ann, ann.insert(letter))
    world.send(ann, ann.delete(0, 3))
    world.handle(i.AwarenessReceived(1, state(1, 1)))
    world.settle(1.0)
    assert bob.received == []
    effects = world.handle(i.OutboxDrained(2))
    assert [type(effect.message) for effect in effects if isinstance(effect, Send)] == [SyncUpdate, Awareness, Saved]
    assert str(bob.text) == str(ann.text) == "ore while lagging"
    world.send(ann, ann.insert("!"))
    assert str(bob.text) == str(ann.text)


def test_R8_a_step_1_sent_while_lagging_is_answered_by_the_diff() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    slow(world, bob)
    world.send(ann, ann.insert("abc"))
    bob.received.clear()
    world.handle(i.StateVectorReceived(2, bob.doc.get_state()))
    assert bob.received == []
    world.handle(i.OutboxDrained(2))
    assert len(bob.take(SyncStep2)) == 1
    assert str(bob.text) == "abc"


def test_R8_one_that_never_drains_is_closed_with_a_code_that_retries() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    slow(world, bob)
    world.settle(59.0)
    assert 2 not in world.closed
    world.settle(2.0)
    assert world.closed[2][0] == CloseCode.TOO_SLOW
    world.send(ann, ann.insert("a"))
    assert world.document() == "a"


def test_R8_a_crowded_session_can_still_fall_behind() -> None:
    world = World()
    world.load()
    world.join(1)
    world.join(2)
    world.handle(i.OutboxBusy(2))
    assert isinstance(world.room._sessions.get(2).state, Crowded)
    world.handle(i.OutboxFull(2))
    assert isinstance(world.room._sessions.get(2).state, Lagging)
    world.handle(i.OutboxBusy(2))
    assert isinstance(world.room._sessions.get(2).state, Lagging)


# ---- R13: memory is never ahead of the journal


def test_R13_a_failed_commit_rebuilds_the_room_and_asks_everybody() -> None:
    world = World(autocommit=False)
    world.load()
    ann, bob = world.join(1, saved=True), world.join(2)
    world.commit()
    world.send(ann, ann.insert("kept "))
    world.commit()
    saved = world.saved(ann)
    world.send(ann, ann.insert("lost"))
    assert str(bob.text) == "kept lost"
    ann.received.clear()
    world.fail_commit()
    assert not world.failures[0].poisoned
    world.handle(i.Restarted(read_only=False))
    world.load()
    assert world.document() == "kept "
    assert world.saved(ann) == saved
    world.handle(i.JournalChanged(available=True))
    world.answer(ann)
    assert world.document() == "kept lost"
    world.commit()
    assert world.saved(ann) == saved + 2


def test_R13_while_the_journal_is_away_writers_are_refused_and_readers_stay() -> None:
    world = World()
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.send(ann, ann.insert("a"))
    world.handle(i.JournalChanged(available=False))
    world.send(bob, bob.doc.get_update())  # nothing new in it
    assert not world.closed
    world.send(ann, ann.insert("b"))
    assert world.closed[1][0] == CloseCode.NOT_ACCEPTED
    assert world.document() == "a"
    world.handle(i.JournalChanged(available=True))
    world.send(bob, bob.insert("c"))
    assert world.document() == "ac"


def test_R13_a_quarantined_room_is_read_only() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.send(ann, ann.insert("a"))
    world.handle(i.Restarted(read_only=True))
    world.load()
    bob = world.join(2)
    assert str(bob.text) == "a"
    world.send(ann, ann.insert("b"))
    assert world.closed[1][0] == CloseCode.ROOM_FAILED
    world.handle(i.Restarted(read_only=False))
    world.load()
    world.send(bob, bob.insert("c"))
    assert world.document() == "ac"


def test_R13_frames_that_wait_for_a_commit_survive_a_restart_as_holes() -> None:
    world = World(autocommit=False)
    world.load()
    ann = world.join(1, saved=True)
    world.commit()
    base = world.saved(ann)
    world.send(ann, ann.insert("a"))
    world.send(ann, ann.insert("b"), settle=False)
    world.uncommitted.clear()
    world.handle(i.Restarted(read_only=False))
    world.load()
    assert world.saved(ann) == base
    world.answer(ann)
    world.commit()
    assert world.document() == "ab"
    assert world.saved(ann) == base + 3


# ---- what pycrdt gets wrong (HOSTILE, gate 5)


def test_a_delete_inside_a_surrogate_pair_loses_nothing() -> None:
    """Yjs: after `x😀y`, delete(1, 1) and two more edits, `AB` at the end; pycrdt's own document forgets a clock."""
    world = World()
    world.load()
    ann = world.join(1)
    # Written by hand, since pycrdt can't make it: client 9 inserts x😀y at clocks 0-3, deletes clock 1, appends A, B.
    updates = [
        bytes.fromhex("01010900040104746578740678f09f98807900"),
        bytes.fromhex("000109010101"),
        bytes.fromhex("0101090484090301" + "41" + "00"),
        bytes.fromhex("0101090584090401" + "42" + "00"),
    ]
    for update in updates:
        world.send(ann, update)
    assert world.room.content.gate.clocks == {9: 6}
    fresh = pycrdt.Doc()
    fresh.apply_update(world.room.content.document.full())
    assert pycrdt.get_state(world.room.content.document.full()) == bytes.fromhex("010906")
    assert not world.failures


# ---- step 2


def test_a_state_vector_of_strangers_costs_nothing_and_is_answered() -> None:
    world = World()
    world.load()
    ann = world.join(1)
    world.send(ann, ann.insert("abc"))
    bob = world.join(2, sync=False)
    world.handle(i.StateVectorReceived(2, bytes.fromhex("0209ffffff0701ff01")))
    world.settle()
    assert isinstance(world.room._sessions.get(2).state, Live)
    assert bob.take(SyncStep2) == [SyncStep2(b"\0\0")]


def test_a_document_at_its_limit_takes_no_more() -> None:
    world = World(RoomLimits(document_bytes_max=2000))
    world.load()
    ann, bob = world.join(1), world.join(2)
    world.send(ann, ann.insert("x" * 1900))
    world.send(ann, ann.insert("y" * 500))
    assert world.closed[1][0] == CloseCode.TOO_LARGE
    world.send(bob, bob.insert("z"))
    assert world.document().count("z") == 1


def test_the_document_limit_is_about_the_document_not_about_all_that_was_ever_typed() -> None:
    world = World(RoomLimits(document_bytes_max=2000))
    world.load()
    ann = world.join(1)
    for _ in range(20):
        world.send(ann, ann.insert("x" * 500))
        world.send(ann, ann.delete(0, 500))
    assert not world.closed
