"""y-websocket framing against bytes recorded with y-protocols and the providers: both directions, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from crdt.errors import CloseCode
from crdt.sync import SyncStep1, SyncStep2, SyncUpdate
from server import framing
from server.room.effects import Awareness, Message, Saved
from server.room.inputs import AwarenessQueried, AwarenessReceived, FrameRefused, StateVectorReceived, UpdateReceived

VECTORS = Path(__file__).parents[1] / "vectors"
SYNC = json.loads((VECTORS / "sync-messages.json").read_text())
TRANSCRIPTS = sorted(VECTORS.glob("session-y-websocket-*.json"))
SESSION = 7


def recorded(direction: str) -> list[tuple[bytes, dict[str, Any]]]:
    """Frames that went that way, with what they mean."""
    return [
        (bytes.fromhex(line["hex"]), line["meaning"])
        for path in TRANSCRIPTS
        for line in json.loads(path.read_text())["transcript"]
        if line.get("dir") == direction
    ]


def awareness_body(frame: bytes) -> bytes:
    assert frame[1] == len(frame) - 2 < 0x80
    return frame[2:]


def test_what_providers_send_is_understood() -> None:
    frames = recorded("c2s")
    assert len(frames) > 50
    for frame, meaning in frames:
        event = framing.decode(SESSION, frame)
        match event:
            case StateVectorReceived():
                assert meaning["sync"] == "step1"
                assert event.state_vector.hex() == meaning["payload"]
            case UpdateReceived():
                assert meaning["sync"] == ("step2" if event.answers_step1 else "update")
                assert event.update.hex() == meaning["payload"]
            case AwarenessReceived():
                assert meaning["type"] == "awareness"
                assert event.update == awareness_body(frame)
            case _:
                pytest.fail(f"{frame.hex()} became {event}")
        assert event.session == SESSION


def test_what_the_reference_server_sends_is_what_ours_would() -> None:
    frames = recorded("s2c")
    assert len(frames) > 50
    for frame, meaning in frames:
        payload = bytes.fromhex(meaning["payload"]) if meaning["type"] == "sync" else awareness_body(frame)
        kinds: dict[str | None, type[Any]] = {
            "step1": SyncStep1,
            "step2": SyncStep2,
            "update": SyncUpdate,
            None: Awareness,
        }
        message: Message = kinds[meaning.get("sync")](payload)
        assert framing.encode(message) == frame


@pytest.mark.parametrize("case", SYNC["messages"], ids=lambda case: case["name"])
def test_messages_of_y_protocols(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["hex"])
    event = framing.decode(SESSION, frame)
    match event:
        case StateVectorReceived():
            assert framing.encode(SyncStep1(event.state_vector)) == frame
        case UpdateReceived(answers_step1=True):
            assert framing.encode(SyncStep2(event.update)) == frame
        case UpdateReceived():
            assert framing.encode(SyncUpdate(event.update)) == frame
        case AwarenessQueried():
            assert frame == b"\x03"
        case _:
            assert event is None
            assert frame[0] == 2, "auth is the server's to send"


@pytest.mark.parametrize("case", SYNC["malformed"], ids=lambda case: case["name"])
def test_malformed_sync_messages(case: dict[str, Any]) -> None:
    event = framing.decode(SESSION, b"\x00" + bytes.fromhex(case["payload"]))
    if case["name"] == "step2 with garbage update":
        # The frame is sound, the update in it is not: that is the gate's to refuse.
        assert isinstance(event, UpdateReceived)
    else:
        assert isinstance(event, FrameRefused)
        assert event.code == CloseCode.MALFORMED


@pytest.mark.parametrize("size", [0, 1, 2, 124, 127, 128, 129, 16_383, 16_384, 70_000])
@pytest.mark.parametrize("kind", [SyncStep1, SyncStep2, SyncUpdate, Awareness])
def test_a_body_of_any_size_comes_back(kind: type[Any], size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    message = kind(body[:size])
    event = framing.decode(SESSION, framing.encode(message))
    assert event is not None
    expected = {
        SyncStep1: StateVectorReceived(SESSION, body[:size]),
        SyncStep2: UpdateReceived(SESSION, body[:size], answers_step1=True),
        SyncUpdate: UpdateReceived(SESSION, body[:size], answers_step1=False),
        Awareness: AwarenessReceived(SESSION, body[:size]),
    }
    assert event == expected[kind]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x80",
        b"\xff" * 9,
        b"\x00",
        b"\x00\x00",
        b"\x00\x03\x00",
        b"\x00\x02\x02\x00",
        b"\x00\x02\x01\x00\x00",
        b"\x00\x02\x7f" + bytes(126),
        b"\x00\x02\x7f" + bytes(128),
        b"\x01",
        b"\x01\x02\x00",
        b"\x01\x01\x00\x00",
        b"\x03\x00",
    ],
    ids=lambda frame: frame[:8].hex() or "empty",
)
def test_W4_what_does_not_parse_is_refused(frame: bytes) -> None:
    event = framing.decode(SESSION, frame)
    assert isinstance(event, FrameRefused)
    assert event.code == CloseCode.MALFORMED
    assert 0 < len(event.reason.encode()) <= 123


def test_W4_padded_integers_are_read_as_lib0_reads_them() -> None:
    assert framing.decode(SESSION, b"\x80\x00\x82\x00\x81\x00\x55") == UpdateReceived(
        SESSION, b"\x55", answers_step1=False
    )


@pytest.mark.parametrize("kind", [2, 4, 99, 116, 127, 128, 2**53 - 1])
def test_W4_a_type_nobody_knows_is_ignored(kind: int) -> None:
    frame = bytearray()
    while kind >= 0x80:
        frame.append(kind & 0x7F | 0x80)
        kind >>= 7
    frame.append(kind)
    assert framing.decode(SESSION, bytes(frame) + b"\xff\xff") is None


def test_W4_text_is_refused() -> None:
    assert framing.text_refused(SESSION).code == CloseCode.MALFORMED


@pytest.mark.parametrize(("count", "hex_frame"), [(0, "740000"), (127, "74007f"), (128, "74008001"), (300, "7400ac02")])
def test_D1_the_saved_message(count: int, hex_frame: str) -> None:
    assert framing.encode(Saved(count)).hex() == hex_frame


def test_K1_the_keepalive_is_an_awareness_message_of_nobody() -> None:
    assert framing.encode(Awareness(b"\x00")) == framing.KEEPALIVE == b"\x01\x01\x00"
