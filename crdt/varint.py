"""Bounded reading and writing of lib0's encoding: integers, byte strings and text.

Owns the only reader that meets peers' bytes directly (the gate's parser inlines the same rules where speed decides).
Layout: shared protocol reference, "lib0 encoding"; https://github.com/dmonad/lib0 `decoding.js` is the other side.
Where lib0 throws, this raises `Malformed`; where lib0 is lenient without bound, this has a bound: an integer takes at
most eight bytes and fits 53 bits, a length never passes what is left, text is strict UTF-8.
"""

from typing import Final

from crdt.errors import LocalError, Malformed

UINT_MAX: Final = 2**53 - 1
"""Largest integer lib0 reads in JavaScript (Number.MAX_SAFE_INTEGER)."""

UINT_BYTES_MAX: Final = 8
"""Bytes of one integer: 53 bits at seven per byte. lib0 itself reads over-long encodings for as long as they last."""


class Reader:
    """A cursor over one message. Every method raises `Malformed` on bytes that break the encoding, and moves `pos`."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.end = len(data)
        self.pos = 0

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.pos >= self.end

    def expect_end(self) -> None:
        """Refuse what is left over: garbage after a message would be relayed with it."""
        if self.pos < self.end:
            raise Malformed(f"{self.end - self.pos} bytes left over after the message")

    def uint(self) -> int:
        """Read varUint: seven bits a byte, lowest first, at most 2^53 - 1."""
        data = self.data
        pos = self.pos
        try:
            byte = data[pos]
            pos += 1
            if byte < 0x80:
                self.pos = pos
                return byte
            value = byte & 0x7F
            shift = 7
            while True:
                byte = data[pos]
                pos += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift >= 7 * UINT_BYTES_MAX:
                    raise Malformed(f"integer is longer than {UINT_BYTES_MAX} bytes")
        except IndexError:
            raise Malformed("message ends inside an integer") from None
        if value > UINT_MAX:
            raise Malformed("integer is above 2^53 - 1")
        self.pos = pos
        return value

    def int_(self) -> int:
        """Read varInt: sign in bit 6 of the first byte. Minus zero reads as 0."""
        data = self.data
        pos = self.pos
        try:
            byte = data[pos]
            pos += 1
            negative = byte & 0x40
            value = byte & 0x3F
            shift = 6
            while byte >= 0x80:
                if shift >= 6 + 7 * (UINT_BYTES_MAX - 1):
                    raise Malformed(f"integer is longer than {UINT_BYTES_MAX} bytes")
                byte = data[pos]
                pos += 1
                value |= (byte & 0x7F) << shift
                shift += 7
        except IndexError:
            raise Malformed("message ends inside an integer") from None
        if value > UINT_MAX:
            raise Malformed("integer is beyond 2^53 - 1")
        self.pos = pos
        return -value if negative else value

    def bytes_(self) -> bytes:
        """Read varUint8Array: a length, then that many bytes."""
        length = self.uint()
        pos = self.pos
        end = pos + length
        if end > self.end:
            raise Malformed(f"length {length} passes the {self.end - pos} bytes left")
        self.pos = end
        return self.data[pos:end]

    def string(self) -> str:
        """Read varString: a length in bytes, then strict UTF-8 (no surrogates, nothing over-long)."""
        raw = self.bytes_()
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Malformed("text is not valid utf-8") from None


_ONE_BYTE: Final = tuple(bytes((n,)) for n in range(128))


def encode_uint(value: int) -> bytes:
    """varUint of 0 <= value < 2^53, in as few bytes as it takes."""
    if value < 0x80:
        if value < 0:
            raise LocalError(f"varUint of {value}")
        return _ONE_BYTE[value]
    if value > UINT_MAX:
        raise LocalError(f"varUint of {value}, beyond 2^53 - 1")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_int(value: int) -> bytes:
    """varInt of a value whose size is below 2^53, in as few bytes as it takes."""
    size = abs(value)
    if size > UINT_MAX:
        raise LocalError(f"varInt of {value}, beyond 2^53 - 1")
    sign = 0x40 if value < 0 else 0
    if size < 0x40:
        return bytes((size | sign,))
    return bytes((size & 0x3F | sign | 0x80,)) + encode_uint(size >> 6)


def encode_bytes(value: bytes) -> bytes:
    """varUint8Array of `value`."""
    return encode_uint(len(value)) + value


def encode_string(value: str) -> bytes:
    """varString of `value`. A lone surrogate is written as U+FFFD, as JavaScript's TextEncoder does."""
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    return encode_uint(len(raw)) + raw
