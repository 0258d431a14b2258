"""The numbered rules of docs/PROTOCOL.md on real sockets: on the node's own transport, and on a stock ASGI server.

Bytes go through `tests.wire`, so what is sent and when is the test's choice; documents are pycrdt's.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pycrdt import Doc, Text, get_state, merge_updates
from websockets.asyncio.client import connect
from websockets.frames import Opcode

from server.transport import DirectWebSocket
from tests.hosting import Hosted
from tests.offences import MALLORY, awareness, presence, section, step1, step2, text_block, uint, update, whole
from tests.peer import Peer
from tests.server.acting import until
from tests.serving import Serve
from tests.vitals import metrics
from tests.wire import Wire, body, frame

STEP1: Final = b"\x00\x00"
STEP2: Final = b"\x00\x01"
UPDATE: Final = b"\x00\x02"
AWARENESS: Final = b"\x01"
SAVED: Final = b"\x74\x00"
KEEPALIVE: Final = b"\x01\x01\x00"

HOSTS: Final = {"direct": DirectWebSocket, "plain": "websockets-sansio"}

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture(params=HOSTS)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosted]:
    """The same node on our transport and on uvicorn's own."""
    async with Hosted(tmp_path, ws=HOSTS[request.param], close_delay_s=0.05) as hosted:
        yield hosted


@asynccontextmanager
async def synced(node: Hosted | Serve, room: str, *, query: str = "", **how: Any) -> AsyncIterator[Wire]:
    """Somebody in the room who was sent everything up to now."""
    async with await Wire.open(node.ws_url, room, query=query, **how) as wire:
        await wire.send(step1(b"\x00"))
        await wire.read_message(STEP2)
        yield wire


class Editor:
    """A document of one's own, and each edit as the update it makes."""

    def __init__(self, client: int, base: bytes | None = None) -> None:
        self.doc: Doc[Text] = Doc(client_id=client)
        self.text = self.doc.get("text", type=Text)
        if base is not None:
            self.doc.apply_update(base)

    def edit(self, change: Callable[[Text], object]) -> bytes:
        updates: list[bytes] = []
        subscription = self.doc.observe(lambda event: updates.append(event.update))
        with self.doc.transaction():
            change(self.text)
        self.doc.unobserve(subscription)
        return updates[0]

    def type(self, text: str) -> bytes:
        return self.edit(lambda on: on.insert(len(on), text))


def text_of(*updates: bytes) -> str:
    doc: Doc[Text] = Doc()
    for each in updates:
        doc.apply_update(each)
    return str(doc.get("text", type=Text))


async def document(node: Hosted | Serve, room: str) -> bytes:
    """What somebody who comes now is sent."""
    async with await Wire.open(node.ws_url, room) as wire:
        await wire.send(step1(b"\x00"))
        return body(await wire.read_message(STEP2))


async def read_text(wire: Wire, expected: str, *seen: bytes) -> list[bytes]:
    """Reads updates until they make that text of what was seen before. Returns them."""
    got: list[bytes] = []
    while text_of(*seen, *got) != expected:
        got.append(body(await wire.read_message(UPDATE)))
    return got


async def nothing_more(wire: Wire, kind: bytes, *, seconds: float = 0.2) -> None:
    await wire.read_for(seconds)
    assert not [message for message in wire.messages if message.startswith(kind)]


# ---- connection


async def test_W1_the_room_is_the_path_decoded_once(node: Hosted) -> None:
    async with synced(node, "a/b%20c%25d") as ann, synced(node, "a%2Fb%20c%25d") as bob, synced(node, "a/b%20cd") as cy:
        await ann.send(update(Editor(1).type("here")))
        await read_text(bob, "here")
        await nothing_more(cy, UPDATE)
    async with synced(node, "größe%E2%82%AC\n".encode().decode()) as dan:
        assert dan.closed is None


@pytest.mark.parametrize("name", ["", "%FF", "a%00b", "x" * 1025, "%C3%A4" * 513])
async def test_W2_a_name_nobody_can_have_is_closed_with_4404(node: Hosted, name: str) -> None:
    async with await Wire.open_url(f"{node.ws_url}/{name}") as wire:
        close = await wire.wait_closed()
    assert close.code == 4404
    assert close.reason
    assert not wire.messages


async def test_W2_the_longest_name_is_a_room(node: Hosted) -> None:
    async with synced(node, "x" * 1024) as wire:
        assert wire.closed is None


async def test_W3_the_first_subprotocol_is_selected(node: Hosted) -> None:
    async with synced(node, "room", subprotocols=["yjs", "other"]) as wire:
        assert wire.subprotocol == "yjs"
    async with synced(node, "room") as wire:
        assert wire.subprotocol is None
    async with await Wire.open_url(f"{node.ws_url}/%00", subprotocols=["yjs"]) as wire:
        assert wire.subprotocol == "yjs", "a browser would not get to read the close code"


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"text", Opcode.TEXT),
        (b"\xff", Opcode.TEXT),
        (b"", Opcode.BINARY),
        (b"\x00\x07", Opcode.BINARY),
        (b"\x03\x03", Opcode.BINARY),
    ],
    ids=["text", "broken text", "empty", "no sync message", "something after it"],
)
async def test_W4_what_is_no_message_is_closed(node: Hosted, data: bytes, opcode: Opcode) -> None:
    async with synced(node, "room") as wire:
        await wire.write(frame(data, opcode))
        # A stock server looks at text itself, and has a code of its own for what is not UTF-8.
        assert (await wire.wait_closed()).code in ({1007, 4400} if data == b"\xff" else {4400})


async def test_W4_an_unknown_type_is_ignored(node: Hosted) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        for kind in (2, 4, 99, 116, 127):
            await ann.send(uint(kind) + b"whatever")
        await ann.send(update(Editor(1).type("still here")))
        await read_text(bob, "still here")


async def test_W4_a_message_may_come_in_fragments(node: Hosted) -> None:
    message = update(Editor(1).type("in pieces"))
    parts = [message[:1], b"", message[1:9], message[9:10], message[10:], b""]
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        for number, part in enumerate(parts):
            opcode = Opcode.CONT if number else Opcode.BINARY
            await ann.write(frame(part, opcode, fin=number == len(parts) - 1))
            await ann.write(frame(b"in between", Opcode.PING))
        await read_text(bob, "in pieces")
        await ann.read_until("each ping is answered", lambda: ann.pongs == len(parts))


@pytest.mark.parametrize("size", [1, 100, 125, 126, 4095, 4096, 4097, 65_535, 65_536, 300_000])
async def test_W4_messages_of_any_size_are_taken_whole(node: Hosted, size: int) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        content = "x" * size
        edits = Editor(1)
        await ann.write(frame(update(edits.type(content))) + frame(update(edits.type("end"))))
        await read_text(bob, f"{content}end")


async def test_W5_large_messages_come_in_fragments_and_uncompressed(tmp_path: Path) -> None:
    async with Hosted(tmp_path, outbox_slice_bytes=10_000) as node:
        large = Editor(1).type("x" * 95_000)
        async with synced(node, "room") as ann, synced(node, "room") as bob:
            before = bob.fragments
            await ann.send(update(large))
            await read_text(bob, "x" * 95_000)
            assert bob.fragments - before == 10
        async with connect(f"{node.ws_url}/room", compression="deflate", ping_interval=None) as offering:
            assert offering.protocol.extensions == []


# ---- sync


async def test_S1_the_server_asks_first_and_then_tells_who_is_there(node: Hosted) -> None:
    edits = Editor(1)
    written = edits.type("hello")
    async with synced(node, "room") as ann:
        await ann.send(update(written))
        await ann.send(presence(1, 1, b'{"n":"ann"}'))
        await ann.read_message(AWARENESS)  # its echo: it is known now
        async with await Wire.open(node.ws_url, "room") as bob:
            await bob.read_until("two messages", lambda: len(bob.messages) >= 2)
            first, second = bob.messages[:2]
            assert first == step1(get_state(written))
            assert second == presence(1, 1, b'{"n":"ann"}')
    async with await Wire.open(node.ws_url, "nobody here") as first_one:
        await first_one.read_for(0.2)
        assert first_one.messages == [step1(b"\x00")]


async def test_S1_the_answer_brings_offline_edits_home(node: Hosted) -> None:
    async with await Wire.open(node.ws_url, "room") as ann, synced(node, "room") as bob:
        await ann.read_message(STEP1)
        await ann.send(step2(Editor(1).type("written offline")))
        await read_text(bob, "written offline")


async def test_S2_step_2_holds_only_what_is_missing_and_all_deletions(node: Hosted) -> None:
    edits = Editor(1)
    old, new = edits.type("old "), edits.type("new")
    gone = edits.edit(lambda text: text.__delitem__(slice(0, 4)))
    async with synced(node, "room") as ann:
        async with synced(node, "room") as bob:
            for each in (old, new, gone):
                await ann.send(update(each))
            await read_text(bob, "new")
            await bob.send(step1(get_state(old)))
            missing = body(await bob.read_message(STEP2))
        assert text_of(old, missing) == "new"
        assert text_of(old, new, missing) == "new"
        assert len(missing) < len(merge_updates(old, new, gone))


async def test_S2_updates_come_from_step_2_on(node: Hosted) -> None:
    async with synced(node, "room") as ann, await Wire.open(node.ws_url, "room") as bob:
        edits = Editor(1)
        await ann.send(update(edits.type("before")))
        await nothing_more(bob, UPDATE)
        await bob.send(step1(b"\x00"))
        have = body(await bob.read_message(STEP2))
        assert text_of(have) == "before"
        await ann.send(update(edits.type(" after")))
        await read_text(bob, "before after", have)


async def test_S2_each_step_1_is_answered(node: Hosted) -> None:
    async with synced(node, "room") as ann:
        await ann.write(frame(step1(b"\x00")) * 5)
        for _ in range(5):
            assert await ann.read_message(STEP2) == step2(b"\x00\x00")


async def test_S3_a_tick_is_one_message_and_its_only_author_is_not_sent_it(node: Hosted) -> None:
    edits = Editor(1)
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        await ann.write(b"".join(frame(update(edits.type(f"{number} "))) for number in range(100)))
        got = await read_text(bob, str(edits.text))
        # The first goes out at once; a machine that is very busy may need more than one turn to read the others.
        assert len(got) < 20
        await nothing_more(ann, UPDATE)


async def test_S3_one_that_is_not_the_only_author_is_sent_the_whole_tick(tmp_path: Path) -> None:
    async with (
        Hosted(tmp_path, tick_interval_ms=200) as node,
        synced(node, "room") as ann,
        synced(node, "room") as bob,
    ):
        one, two = Editor(1), Editor(2)
        await ann.send(update(one.type("first")))  # at once; what follows waits for the next tick together
        await read_text(bob, "first")
        await ann.send(update(one.type("A")))
        await bob.send(update(two.type("B")))
        merged = body(await ann.read_message(UPDATE))
        assert merged == body(await bob.read_message(UPDATE))
        assert sorted(text_of(one.doc.get_update(), merged)) == sorted("firstAB")


async def test_S4_an_update_that_lacks_another_waits_for_it(node: Hosted) -> None:
    edits = Editor(1)
    first, second = edits.type("first "), edits.type("second")
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        ann.messages.clear()
        await ann.send(update(second))
        assert await ann.read_message(STEP1) == step1(b"\x00"), "asked for its state at once"
        await nothing_more(bob, UPDATE)
        await ann.send(update(first))
        (together,) = await read_text(bob, "first second")
        assert text_of(together) == "first second"


async def test_S4_the_sender_is_asked_with_growing_waits(tmp_path: Path) -> None:
    async with Hosted(tmp_path) as node, synced(node, "room") as ann:
        edits = Editor(1)
        edits.type("lost ")
        started = time.monotonic()
        await ann.send(update(edits.type("waits")))
        asked = []
        for _ in range(3):
            await ann.read_message(STEP1)
            asked.append(time.monotonic() - started)
        assert asked[0] < 0.5
        assert asked[1] > 0.9
        assert asked[2] > asked[1] + 1.8
        await ann.send(step2(edits.doc.get_update()))
        await nothing_more(ann, STEP1, seconds=4.5)


async def test_S5_what_is_known_is_neither_taken_nor_sent_again(node: Hosted) -> None:
    edits = Editor(1)
    first, second = edits.type("first "), edits.type("second")
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        await ann.send(update(first))
        (got,) = await read_text(bob, "first ")
        await ann.send(update(first))
        await ann.send(step2(first))
        await nothing_more(bob, UPDATE)
        await ann.send(update(merge_updates(first, second)))
        (new,) = await read_text(bob, "first second", got)
        assert len(new) < len(merge_updates(first, second))
        other = whole(section(1, 0, text_block("other")))
        await ann.send(update(other))
        await nothing_more(bob, UPDATE)
        assert text_of(await document(node, "room")) == "first second"


async def test_S6_a_refused_update_is_refused_whole_and_ends_its_session(node: Hosted) -> None:
    good, bad = section(MALLORY + 1, 0, text_block("good")), section(MALLORY, 0, b"\x00\x00")
    async with synced(node, "room") as mallory, synced(node, "room") as bob:
        await mallory.send(update(whole(good, bad)))
        assert (await mallory.wait_closed()).code == 4400
        await nothing_more(bob, UPDATE)
        assert text_of(await document(node, "room")) == ""


async def test_S6_what_was_sent_before_an_offence_stays(node: Hosted) -> None:
    async with synced(node, "room") as mallory, synced(node, "room") as bob:
        await mallory.write(frame(update(Editor(1).type("kept"))) + frame(b"") + frame(update(Editor(2).type("late"))))
        await read_text(bob, "kept")
        assert (await mallory.wait_closed()).code == 4400
        assert text_of(await document(node, "room")) == "kept"


async def test_S6_a_sender_of_too_much_that_waits_is_asked_instead_of_closed(tmp_path: Path) -> None:
    async with Hosted(tmp_path, held_updates_max=5) as node, synced(node, "room") as ann:
        edits = Editor(1)
        lost = edits.type("0")
        for number in range(1, 20):
            await ann.send(update(edits.type(str(number))))
        await ann.read_message(STEP1)
        await ann.send(update(lost))
        await ann.send(step2(edits.doc.get_update()))
        await ann.read_for(0.2)
        assert ann.closed is None
        assert text_of(await document(node, "room")) == str(edits.text)


# ---- presence


async def test_P2_who_leaves_is_removed_at_its_clock(node: Hosted) -> None:
    async with synced(node, "room") as bob:
        async with synced(node, "room") as ann:
            await ann.send(presence(7, 5, b"{}"))
            assert await bob.read_message(AWARENESS) == presence(7, 5, b"{}")
        assert await bob.read_message(AWARENESS) == presence(7, 5, b"null")


async def test_P3_presence_goes_to_everybody_the_sender_included(node: Hosted) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        await ann.send(presence(7, 0, b"{}"))  # as providers open
        await ann.send(presence(7, 1, b'{"x":1}'))
        for wire in (ann, bob):
            assert await wire.read_message(AWARENESS) == presence(7, 1, b'{"x":1}')
        await bob.send(presence(7, 1, b'{"x":1}'))  # an echo: it changes nothing
        await ann.send(presence(7, 1, b'{"x":2}'))  # not above the clock
        for wire in (ann, bob):
            await nothing_more(wire, AWARENESS)


async def test_P6_who_asks_is_told_who_is_there(node: Hosted) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        await bob.send(b"\x03")
        await nothing_more(bob, AWARENESS)
        await ann.send(presence(7, 1, b"{}"))
        await bob.read_message(AWARENESS)
        await bob.send(b"\x03")
        assert await bob.read_message(AWARENESS) == presence(7, 1, b"{}")


@pytest.mark.parametrize("state", [b"5", b'{"x":NaN}', b"", b"{"])
async def test_P7_a_state_is_an_object_or_null(node: Hosted, state: bytes) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob:
        await ann.send(presence(7, 1, state))
        assert (await ann.wait_closed()).code == 4400
        await nothing_more(bob, AWARENESS)


async def test_P7_the_largest_state_is_taken_and_one_byte_more_is_not(node: Hosted) -> None:
    largest = b'{"x":"' + b"x" * (node.settings.presence_state_bytes_max - 8) + b'"}'
    async with synced(node, "room") as ann:
        await ann.send(presence(7, 0, b"{}"))
        await ann.send(presence(7, 1, largest))
        assert await ann.read_message(AWARENESS) == presence(7, 1, largest)
        await ann.send(presence(7, 2, largest.replace(b"x", b"xx", 1)))
        assert (await ann.wait_closed()).code == 4413


# ---- saved


async def test_D1_saved_is_for_those_who_asked(node: Hosted) -> None:
    async with await Wire.open(node.ws_url, "room", query="saved=1") as ann:
        await ann.read_until("the greeting", lambda: len(ann.messages) >= 2)
        assert ann.messages[0].startswith(STEP1)
        assert ann.messages[1] == SAVED + b"\x00"
    for query in ("", "saved=0", "saved=2", "saved", "saved=1&saved=0", "other=1"):
        async with synced(node, "room", query=query) as bob:
            await bob.send(update(Editor(1).type("x")))
            await nothing_more(bob, SAVED, seconds=0.1)


async def test_D2_the_count_rises_to_what_was_sent(node: Hosted) -> None:
    edits = Editor(1)
    async with synced(node, "room", query="saved=1") as ann:
        await ann.send(step2(edits.doc.get_update()))  # the answer to the greeting counts as well
        for number in range(300):
            await ann.send(update(edits.type(f"{number} ")))
        counts: list[int] = []
        while not counts or counts[-1] < 301:
            message = await ann.read_message(SAVED)
            counts.append(message[2] if message[2] < 0x80 else message[2] & 0x7F | message[3] << 7)
        assert counts == sorted(set(counts)), "it only rises"
        assert counts[-1] == 301
        await ann.send(presence(1, 1, b"{}"))
        await ann.send(step1(b"\x00"))
        await nothing_more(ann, SAVED)


async def test_D3_a_repeated_message_counts_and_a_held_one_when_it_takes_effect(node: Hosted) -> None:
    edits = Editor(1)
    first, second, third = edits.type("1"), edits.type("2"), edits.type("3")
    async with synced(node, "room", query="saved=1") as ann:
        await ann.send(update(first))
        while await ann.read_message(SAVED) != SAVED + b"\x01":
            pass
        await ann.send(update(first))
        assert await ann.read_message(SAVED) == SAVED + b"\x02"
        await ann.send(update(third))
        await nothing_more(ann, SAVED)
        await ann.send(update(second))
        assert await ann.read_message(SAVED) == SAVED + b"\x04"


async def test_D4_the_answer_to_a_later_step_1_fills_a_hole(tmp_path: Path) -> None:
    async with Hosted(tmp_path, held_updates_max=1) as node, synced(node, "room", query="saved=1") as ann:
        edits = Editor(1)
        edits.type("lost ")
        await ann.send(update(edits.type("held ")))
        await ann.send(update(edits.type("refused")))
        await ann.read_message(STEP1)
        await ann.read_message(STEP1)  # once for the gap, and once more for the hole after a second
        await nothing_more(ann, SAVED)
        for _ in range(3):  # one answer to each step 1, the first on entry included: a socket keeps their order
            await ann.send(step2(edits.doc.get_update()))
        while await ann.read_message(SAVED) != SAVED + b"\x05":
            pass
        assert text_of(await document(node, "room")) == "lost held refused"


# ---- silence and slowness


async def test_K1_silence_is_broken_before_a_provider_gives_up(node: Hosted, tmp_path: Path) -> None:
    ws = node._ws
    async with Hosted(tmp_path / "quiet", ws=ws, send_keepalive_s=0.5) as quiet, synced(quiet, "room") as ann:
        for _ in range(3):
            started = time.monotonic()
            assert await ann.read_message(AWARENESS, within_s=3) == KEEPALIVE
            assert time.monotonic() - started < 1.5
        await ann.send(step1(b"\x00"))
        await ann.read_message(STEP2)
        assert ann.closed is None


async def test_K2_one_that_does_not_answer_pings_is_dropped(tmp_path: Path) -> None:
    async with (
        Hosted(tmp_path, ping_interval_s=1, send_keepalive_s=0.5) as node,
        synced(node, "room") as dead,
        synced(node, "room") as alive,
    ):
        dead.answers_pings = False
        reading = asyncio.create_task(alive.read_for(8))
        close = await dead.wait_closed(within_s=8)
        assert close.code == 1006, "nobody is there to read a close frame"
        assert dead.pings >= 1
        await reading
        assert alive.pings >= 2
        assert alive.closed is None
        assert node.hub.sessions == 1


async def test_K4_a_sender_that_is_ahead_is_not_read_from_and_loses_nothing(tmp_path: Path) -> None:
    with Serve(tmp_path / "data", "--session-inbox-bytes-max", "65536") as node:
        async with synced(node, "room") as ann, synced(node, "room") as bob, synced(node, "other") as cy:
            edits = Editor(1)
            updates = [edits.type("x" * 20_000) for _ in range(300)]
            writing = asyncio.create_task(ann.write(b"".join(frame(update(each)) for each in updates)))
            await cy.send(step1(b"\x00"))
            await cy.read_message(STEP2)
            got: list[bytes] = []
            while sum(map(len, got)) < 6_000_000:
                got.append(body(await bob.read_message(UPDATE)))
            await writing
            assert text_of(*got) == str(edits.text)
            assert (await metrics(node))["tutti_reads_paused_total"] > 0


# ---- close codes


async def test_C1_the_offender_is_closed_and_everybody_else_goes_on(node: Hosted) -> None:
    async with synced(node, "room") as ann, synced(node, "room") as bob, synced(node, "other") as cy:
        for offence in (b"", update(b"\xff"), step1(b"\xff"), awareness(b"\xff")):
            async with synced(node, "room") as mallory:
                await mallory.send(offence)
                assert (await mallory.wait_closed()).code == 4400
        await ann.send(update(Editor(1).type("hello")))
        await read_text(bob, "hello")
        await cy.send(step1(b"\x00"))
        await cy.read_message(STEP2)


async def test_C1_nothing_is_taken_from_one_that_is_being_closed(node: Hosted, tmp_path: Path) -> None:
    ws = node._ws
    async with (
        Hosted(tmp_path / "slow", ws=ws, close_delay_s=0.5) as slow,
        synced(slow, "room") as mallory,
        synced(slow, "room") as bob,
    ):
        started = time.monotonic()
        await mallory.send(b"")
        await asyncio.sleep(0.1)
        await mallory.send(update(Editor(1).type("too late")))
        assert (await mallory.wait_closed()).code == 4400
        assert time.monotonic() - started >= 0.5, "a client that comes back at once is kept waiting"
        await nothing_more(bob, UPDATE)


async def test_4529_past_a_limit_on_sessions_or_rooms_one_may_come_back(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "sessions_max": 3,
        "sessions_per_room_max": 2,
        "rooms_open_max": 2,
        "room_idle_evict_s": 0,
    }
    async with Hosted(tmp_path, close_delay_s=0.05, **limits) as node:
        async with synced(node, "a") as ann, synced(node, "a"):
            async with await Wire.open(node.ws_url, "a") as third:
                assert (await third.wait_closed()).code == 4529
            async with synced(node, "b"), await Wire.open(node.ws_url, "b") as fourth:
                assert (await fourth.wait_closed()).code == 4529
            assert ann.closed is None
        await until(lambda: not node.hub.rooms)
        async with synced(node, "b"), synced(node, "c"), await Wire.open(node.ws_url, "d") as in_a_third_room:
            assert (await in_a_third_room.wait_closed()).code == 4529
        await until(lambda: node.hub.sessions == 0)


async def test_4413_past_the_size_of_a_document_its_writer_is_closed(tmp_path: Path) -> None:
    small: dict[str, Any] = {"document_bytes_max": 65_536, "message_bytes_max": 65_536}
    async with Hosted(tmp_path, close_delay_s=0.05, **small) as node, synced(node, "room") as bob:
        async with synced(node, "room") as ann:
            edits = Editor(1)
            await ann.send(update(edits.type("x" * 40_000)))
            await read_text(bob, "x" * 40_000)
            await ann.send(update(edits.type("y" * 40_000)))
            assert (await ann.wait_closed()).code == 4413
        assert bob.closed is None
        assert text_of(await document(node, "room")) == "x" * 40_000


async def test_1009_a_message_over_the_limit(node: Hosted, tmp_path: Path) -> None:
    async with Hosted(tmp_path / "small", ws=node._ws, message_bytes_max=65_536) as small, synced(small, "room") as ann:
        await ann.send(b"\x63" * 65_536)
        await ann.send(step1(b"\x00"))
        await ann.read_message(STEP2)
        await ann.send(b"\x63" * 65_537)
        assert (await ann.wait_closed()).code == 1009


async def test_1012_a_node_that_stops_says_so(tmp_path: Path) -> None:
    with Serve(tmp_path / "data") as node:
        async with await Peer.join(node.ws_url, "room") as ann:
            frame_number = await ann.edit(lambda text: text.insert(0, "kept"))
            await ann.wait_saved(frame_number)
            assert await asyncio.to_thread(node.stop) == 0
            assert (await ann.wait_closed()).code == 1012


async def test_a_connection_that_asks_for_nothing_is_dropped(tmp_path: Path) -> None:
    """Neither silent ones nor half a request may keep a socket for ever."""
    with Serve(tmp_path / "data", "--handshake-timeout-s", "1") as node:
        for beginning in (b"", b"GET /ws/room HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(beginning)
            started = time.monotonic()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            assert time.monotonic() - started > 0.8
            writer.close()
