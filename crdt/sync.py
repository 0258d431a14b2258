"""The sync messages of y-protocols: step 1 (what I have), step 2 (what you lack) and update.

Reads the payload after the outer message type 0, writes whole y-websocket frames with it (protocol reference,
section 2). Bytes only: what an update or a state vector holds is for `crdt.gate` and `crdt.state_vector`.
"""

from dataclasses import dataclass
from typing import Final

from crdt.errors import Malformed
from crdt.varint import Reader, encode_bytes

MESSAGE_SYNC: Final = 0
"""Outer message type of everything here."""

STEP1: Final = 0
STEP2: Final = 1
UPDATE: Final = 2


@dataclass(frozen=True, slots=True)
class SyncStep1:
    """The sender's state vector: it asks for step 2 with everything beyond."""

    sv: bytes


@dataclass(frozen=True, slots=True)
class SyncStep2:
    """The answer to a step 1: an update with what its vector lacked, and every known deletion."""

    update: bytes


@dataclass(slots=True)  # not frozen: one is made for each tick, at a third of the cost
class SyncUpdate:
    """An edit as it happened."""

    update: bytes


SyncMessage = SyncStep1 | SyncStep2 | SyncUpdate


def decode_sync(payload: bytes | Reader) -> SyncMessage:
    """Read one sync message to its end. `payload` starts at the subtype; a reader may already stand there.

    Raises `Malformed` for an unknown subtype, broken lengths or bytes left over.
    """
    reader = payload if isinstance(payload, Reader) else Reader(payload)
    subtype = reader.uint()
    if subtype > UPDATE:
        raise Malformed(f"unknown sync message {subtype}")
    body = reader.bytes_()
    reader.expect_end()
    if subtype == UPDATE:
        return SyncUpdate(body)
    return SyncStep2(body) if subtype == STEP2 else SyncStep1(body)


def encode_step1(sv: bytes) -> bytes:
    """The frame that asks a peer for everything beyond the state vector `sv`."""
    return b"\x00\x00" + encode_bytes(sv)


def encode_step2(update: bytes) -> bytes:
    """The frame that answers a step 1."""
    return b"\x00\x01" + encode_bytes(update)


def encode_update(update: bytes) -> bytes:
    """The frame that carries an edit."""
    return b"\x00\x02" + encode_bytes(update)
