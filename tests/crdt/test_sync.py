"""Sync messages: y-protocols' bytes in both directions."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import Malformed
from crdt.sync import (
    MESSAGE_SYNC,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    decode_sync,
    encode_step1,
    encode_step2,
    encode_update,
)
from crdt.varint import Reader

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "sync-messages.json").read_text())
FRAMES = {message["name"]: bytes.fromhex(message["hex"]) for message in VECTORS["messages"]}


def decode_frame(frame: bytes) -> object:
    reader = Reader(frame)
    assert reader.uint() == MESSAGE_SYNC
    return decode_sync(reader)


def test_messages_of_y_protocols() -> None:
    update = bytes.fromhex("010101000401047465787402686900")
    assert decode_frame(FRAMES["step1 of an empty doc"]) == SyncStep1(b"\x00")
    assert decode_frame(FRAMES["step1 of doc {1:2}"]) == SyncStep1(bytes.fromhex("010102"))
    assert decode_frame(FRAMES["step2 full"]) == SyncStep2(update)
    assert decode_frame(FRAMES["step2 with nothing to send"]) == SyncStep2(b"\x00\x00")
    assert decode_frame(FRAMES["update"]) == SyncUpdate(update)
    assert encode_step1(bytes.fromhex("010102")) == FRAMES["step1 of doc {1:2}"]
    assert encode_step2(update) == FRAMES["step2 full"]
    assert encode_update(update) == FRAMES["update"]


@pytest.mark.parametrize("case", VECTORS["malformed"], ids=lambda case: case["name"])
def test_what_y_protocols_throws_on_is_refused(case: dict[str, str]) -> None:
    payload = bytes.fromhex(case["payload"])
    if case["name"] == "step2 with garbage update":
        # The message is sound, the update in it is not: the gate's to refuse.
        assert decode_sync(payload) == SyncStep2(payload[2:])
    else:
        with pytest.raises(Malformed):
            decode_sync(payload)


def test_bytes_after_a_message_are_refused() -> None:
    with pytest.raises(Malformed, match="left over"):
        decode_sync(b"\x02\x00\x01")


@given(st.binary(max_size=30))
def test_anything_else_raises_nothing_but_malformed(payload: bytes) -> None:
    try:
        decode_sync(payload)
    except Malformed:
        return
