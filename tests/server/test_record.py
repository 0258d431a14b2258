"""Traces: what a room was given and did, written by a real actor, does the same again; and what is not the same is found."""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any, Final, get_args

import pytest

from crdt.errors import CloseCode, Unavailable
from crdt.sync import SyncStep2, SyncUpdate
from server.outbox import Fill
from server.record import BadTrace, Difference, Trace, TraceFiles, fingerprint, from_plain, replay, to_plain
from server.room.effects import Broadcast, Send
from server.room.inputs import (
    AwarenessQueried,
    AwarenessReceived,
    FrameRefused,
    Input,
    Loaded,
    OutboxDrained,
    StateVectorReceived,
    UpdateReceived,
)
from server.room.limits import RoomLimits
from server.room.machine import Room
from server.room.rows import Entry, Row, Snapshot, StoredRoom
from tests.offences import TWICE, uint
from tests.server.acting import KEY, ActedPeer, Stage, settle, stage

LIMITS = RoomLimits(tick_interval_s=0.001)


def new_trace(folder: Path) -> Trace:
    folder.mkdir(exist_ok=True)
    return TraceFiles(folder, "run").open(KEY, LIMITS, journal_available=True)


async def record(folder: Path, seed: int, *, steps: int = 200) -> Path:
    """A session of random people doing random things, honest and not, on a disk that fails now and then."""
    random = Random(seed)
    async with stage(limits=LIMITS, recorder=new_trace(folder), restarts_max=1000) as room:
        people: dict[int, ActedPeer] = {}
        for step in range(steps):
            if len(people) < 3 or random.random() < 0.05:
                people[step] = room.join(step, saved=random.random() < 0.5)
            session = random.choice(list(people))
            if people[session].closed is not None:
                room.actor.leave(session)
                del people[session]
                continue
            act(room, people[session], random, step)
            if random.random() < 0.3:
                await (settle() if random.random() < 0.1 else asyncio.sleep(0))
        await settle()
    return only_file(folder)


DEEDS: Final = {
    "type": 20,
    "lose": 5,
    "answer": 3,
    "step 1": 3,
    "presence": 6,
    "query": 1,
    "poison": 1,
    "nonsense": 1,
    "read slowly": 2,
    "drain": 3,
    "hold commits": 1,
    "fail commits": 1,
    "leave": 1,
}


def act(room: Stage, peer: ActedPeer, random: Random, step: int) -> None:
    """One thing that one of them does, or that happens to the disk."""
    post = room.actor.post
    match random.choices(list(DEEDS), list(DEEDS.values()))[0]:
        case "type":
            room.type(peer, random.choice("abc 😀\n") * random.randrange(1, 5))
        case "lose":
            peer.insert("lost on the way")
        case "answer" if "SyncStep1" in peer.kinds():
            room.answer(peer)
        case "step 1":
            post(StateVectorReceived(peer.id, peer.doc.get_state()))
        case "presence":
            post(AwarenessReceived(peer.id, uint(1) + uint(peer.id) + uint(step + 1) + b"\x02{}"))
        case "query":
            post(AwarenessQueried(peer.id))
        case "poison":
            post(UpdateReceived(peer.id, TWICE, answers_step1=False))
        case "nonsense":
            post(FrameRefused(peer.id, CloseCode.MALFORMED, "nonsense"))
        case "read slowly":
            peer.fill = random.choice([Fill.BUSY, Fill.FULL])
        case "drain":
            post(OutboxDrained(peer.id))
        case "hold commits":
            room.journal.autocommit = not room.journal.autocommit
        case "fail commits":
            room.journal.fail(Unavailable("disk is full"))
        case "leave":
            room.actor.leave(peer.id)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("seed", range(5))
async def test_a_recorded_session_replays_with_equal_effects(tmp_path: Path, seed: int) -> None:
    path = await record(tmp_path / "traces", seed)
    lines = path.read_bytes().splitlines()
    assert len(lines) > 200
    inputs = {json.loads(line)["input"]["is"] for line in lines[1:] if json.loads(line)["input"]}
    assert len(inputs) > 10, "the session was too quiet to tell anything"
    seen: list[int] = []
    steps, difference = replay(path, seen.append)
    assert difference is None
    assert steps == len(lines) - 1 == seen[-1]


async def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = await record(tmp_path / "traces", 1)
    lines = path.read_bytes().splitlines(keepends=True)
    found = 0
    random = Random(1)
    updates = [
        number
        for number, line in enumerate(lines)
        if number and b'"UpdateReceived"' in line and json.loads(line)["input"]["update"]
    ]
    for number in random.sample(updates, 30):
        line = json.loads(lines[number])
        update = line["input"]["update"]
        at = random.randrange(len(update.rstrip("=")) - 1)
        line["input"]["update"] = update[:at] + ("A" if update[at] != "A" else "B") + update[at + 1 :]
        changed = tmp_path / "changed.jsonl"
        changed.write_bytes(b"".join([*lines[:number], json.dumps(line).encode() + b"\n", *lines[number + 1 :]]))
        _, difference = replay(changed)
        found += difference is not None and difference.line > number
    # A few changes are of what has no effect: the update of somebody who had left already, say.
    assert found > 20


async def test_a_changed_effect_is_found_where_it_is(tmp_path: Path) -> None:
    path = await record(tmp_path / "traces", 2, steps=50)
    lines = path.read_bytes().splitlines(keepends=True)
    line = json.loads(lines[20])
    recorded = line["effects"]
    line["effects"] = "0" * 16
    lines[20] = json.dumps(line).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    assert replay(path) == (20, Difference(21, "0" * 16, recorded))


async def test_a_step_that_raised_raises_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Room.handle

    def broken(self: Room, event: Input, now: float) -> Any:
        assert not isinstance(event, AwarenessQueried)
        return handle(self, event, now)

    monkeypatch.setattr(Room, "handle", broken)
    async with stage(limits=LIMITS, recorder=new_trace(tmp_path / "traces")) as room:
        ann = room.join(1)
        room.type(ann, "x")
        await settle()
        room.actor.post(AwarenessQueried(1))
        await settle()
        room.type(room.join(2), "y")
        await settle()
    path = only_file(tmp_path / "traces")
    assert b'"raised"' in path.read_bytes()
    assert replay(path)[1] is None
    monkeypatch.setattr(Room, "handle", handle)
    _, difference = replay(path)
    assert difference is not None, "a bug that is mended shows as a difference"
    assert difference.recorded == "raised"


async def test_a_line_cut_short_by_a_kill_is_the_end(tmp_path: Path) -> None:
    path = await record(tmp_path / "traces", 3, steps=30)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    steps, difference = replay(path)
    assert steps == whole.count(b"\n") - 2
    assert difference is None


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"no json\n", "line 1"),
        (b'{"trace": 99}\n', "version is 99"),
        (b"{}\n", "version is None"),
        (b'{"trace": 1}\n', "line 1"),
    ],
)
def test_R18_what_is_no_trace_of_ours_is_said_to_be(tmp_path: Path, first: bytes, says: str) -> None:
    path = tmp_path / "trace"
    path.write_bytes(first)
    with pytest.raises(BadTrace, match=says):
        replay(path)


async def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = await record(tmp_path / "traces", 4, steps=30)
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in (b"{}\n", b'{"now": 1, "input": {"is": "Nobody"}, "effects": ""}\n', b"\xff\n"):
        path.write_bytes(b"".join([*lines[:5], broken, *lines[6:]]))
        with pytest.raises(BadTrace, match="line 6"):
            replay(path)


def test_every_input_comes_back_from_its_line() -> None:
    stored = StoredRoom(
        KEY,
        1,
        Snapshot(4, (b"\x00\x00", b"\xff")),
        (Row(KEY, 1, 5, (Entry("ann", b"\x01"), Entry("bob", b""))),),
    )
    for event in (Loaded(stored), UpdateReceived(1, bytes(range(256)), answers_step1=True), FrameRefused(1, 4400, "ü")):
        assert from_plain(type(event), json.loads(json.dumps(to_plain(event)))) == event
    assert len(get_args(Input)) >= 16


def test_a_fingerprint_tells_effects_apart() -> None:
    effects = [
        [],
        [Send(1, SyncUpdate(b"a"))],
        [Send(2, SyncUpdate(b"a"))],
        [Send(1, SyncUpdate(b"b"))],
        [Send(1, SyncStep2(b"a"))],
        [Broadcast(SyncUpdate(b"a"), (1, 2), None)],
        [Broadcast(SyncUpdate(b"a"), (1, 2), 1)],
        [Send(1, SyncUpdate(b"a")), Send(1, SyncUpdate(b"a"))],
    ]
    assert len({fingerprint(each) for each in effects}) == len(effects)  # type: ignore[arg-type]
    assert fingerprint(effects[1]) == fingerprint([Send(1, SyncUpdate(b"a"))])  # type: ignore[arg-type]
