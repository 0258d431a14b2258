"""y-websocket framing: what a frame of `/ws/{room}` means to the room, and how the room's messages look on that wire.

Frames are binary, one message each: varUint type, then the body (PROTOCOL, Y-WebSocket). Types 0 sync, 1 awareness,
3 query awareness come from y-protocols; 116 is ours and goes only to clients that asked for it.
"""

from typing import Final

from crdt.errors import CloseCode, Malformed, RemoteError
from crdt.sync import (
    STEP2,
    UPDATE,
    SyncStep1,
    SyncStep2,
    SyncUpdate,
    decode_sync,
    encode_step1,
    encode_step2,
    encode_update,
)
from crdt.varint import Reader, encode_bytes, encode_uint
from server.room.effects import Awareness, Message, Saved
from server.room.inputs import (
    AwarenessQueried,
    AwarenessReceived,
    FrameRefused,
    Input,
    StateVectorReceived,
    UpdateReceived,
)

SYNC: Final = 0
_DOCUMENT: Final = (STEP2, UPDATE)
AWARENESS: Final = 1
QUERY_AWARENESS: Final = 3
TUTTI: Final = 116
"""`t`. Below 128, so that it is one byte; not used by y-protocols, Hocuspocus, y-sweet (102) or their forks."""
TUTTI_SAVED: Final = 0

KEEPALIVE: Final = bytes((AWARENESS, 1, 0))
"""An awareness message of nobody. Providers drop a socket that has been silent for 30 s, and pings don't count for them;
this is the smallest message that every version takes without answering."""


def decode(session: int, frame: bytes) -> Input | None:
    """What the frame tells the room; None for a type nobody knows, which y-websocket ignores too.

    Never raises: a frame that makes no sense becomes `FrameRefused`.
    """
    try:
        if not frame:
            raise Malformed("empty frame")
        if len(frame) > 3 and frame[2] == len(frame) - 3 < 0x80 and frame[1] in _DOCUMENT and frame[0] == SYNC:
            # The common edit, read at one look; what follows reads it the same.
            return UpdateReceived(session, frame[3:], answers_step1=frame[1] == STEP2)
        reader = Reader(frame)
        kind = reader.uint()
        if kind == SYNC:
            message = decode_sync(reader)
            if isinstance(message, SyncStep1):
                return StateVectorReceived(session, message.sv)
            return UpdateReceived(session, message.update, answers_step1=isinstance(message, SyncStep2))
        if kind == AWARENESS:
            update = reader.bytes_()
            reader.expect_end()
            return AwarenessReceived(session, update)
        if kind == QUERY_AWARENESS:
            reader.expect_end()
            return AwarenessQueried(session)
    except RemoteError as error:
        return FrameRefused(session, error.code, error.reason)
    return None


def text_refused(session: int) -> FrameRefused:
    """This protocol has no text messages."""
    return FrameRefused(session, CloseCode.MALFORMED, "text frames are not part of this protocol")


def encode(message: Message) -> bytes:
    """The whole frame."""
    match message:
        case SyncUpdate():
            return encode_update(message.update)
        case SyncStep1():
            return encode_step1(message.sv)
        case SyncStep2():
            return encode_step2(message.update)
        case Awareness():
            return bytes((AWARENESS,)) + encode_bytes(message.update)
        case Saved():
            return bytes((TUTTI, TUTTI_SAVED)) + encode_uint(message.count)
