"""A WebSocket client's bytes, no more than a benchmark needs: handshake, masked frames out, whole frames in.

Pure. A library would cost several times what is measured here: the load must come from a client that is cheaper than
the server. RFC 6455; fragmented messages and compression are not read, because nobody was offered them.
"""

import base64
import hashlib
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD_BYTES_MAX: Final = 16_384


class ServerError(Exception):
    """The server did something this client does not understand: the run's figures would mean nothing."""


def handshake(host: str, path: str, key: bytes) -> bytes:
    """The upgrade request; `key` is 16 bytes."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(key).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def read_handshake(data: bytes, key: bytes) -> int:
    """Bytes of the server's answer at the head of `data`, 0 if it is not whole yet; `ServerError` unless it accepts."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > _HEAD_BYTES_MAX:
            raise ServerError(f"no end of the handshake's answer in {len(data)} bytes")
        return 0
    status, *lines = data[:end].decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["101"]:
        raise ServerError(f"the upgrade was answered with {status!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    accept = base64.b64encode(hashlib.sha1(base64.b64encode(key) + _ACCEPT_GUID).digest()).decode()  # noqa: S324  RFC 6455 says SHA-1
    if headers.get("sec-websocket-accept") != accept:
        raise ServerError("the upgrade's answer does not belong to its question")
    return end + 4


def client_frame(payload: bytes, mask: bytes, opcode: int = BINARY) -> bytes:
    """One whole masked frame; `mask` is 4 bytes."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    pad = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")
    return head + mask + masked.to_bytes(size, "little")


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The whole frames at the head of `data` as (opcode, payload), and how many bytes they took."""
    frames: list[tuple[int, bytes]] = []
    size = len(data)
    start = 0
    while size - start >= 2:
        first, length = data[start], data[start + 1]
        if first & 0x70 or not first & 0x80 or not first & 0x0F or length & 0x80:
            raise ServerError(f"a frame begins with {data[start : start + 2].hex()}: fragmented, compressed or masked")
        body = start + 2
        if length == 126:
            body += 2
        elif length == 127:
            body += 8
        if body > size:
            break
        if length >= 126:
            length = int.from_bytes(data[start + 2 : body], "big")
        if body + length > size:
            break
        frames.append((first & 0x0F, data[body : body + length]))
        start = body + length
    return frames, start
