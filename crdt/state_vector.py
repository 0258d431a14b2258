"""State vectors: for each client the number of its clocks one has, as `{client: clock}`.

Reads and writes the payload of sync step 1 (protocol reference, section 2). pycrdt takes 280 MB on a count of five
bytes, so a peer's vector is read here first and never handed on unread.
"""

from collections.abc import Mapping

from crdt.errors import Malformed, TooLarge
from crdt.varint import Reader, encode_uint

CLOCK_END: int = 2**31
"""Clocks and their ends stay below this: beyond it pycrdt panics on every later update of that client."""


def decode_state_vector(data: bytes, *, clients_max: int) -> dict[int, int]:
    """Read a whole state vector. Entries of clock 0 say nothing and are left out.

    Raises `Malformed` on broken bytes, a client listed twice or a clock of 2^31 and above; `TooLarge` when it lists
    more than `clients_max` clients.
    """
    reader = Reader(data)
    count = reader.uint()
    if count > clients_max:
        raise TooLarge(f"state vector lists {count} clients, limit is {clients_max}")
    if count * 2 > reader.end - reader.pos:
        raise Malformed(f"state vector announces {count} clients in {reader.end - reader.pos} bytes")
    clocks: dict[int, int] = {}
    for _ in range(count):
        client = reader.uint()
        clock = reader.uint()
        if clock >= CLOCK_END:
            raise Malformed(f"clock {clock} is not below 2^31")
        if client in clocks:
            raise Malformed(f"client {client} is listed twice")
        clocks[client] = clock
    reader.expect_end()
    return {client: clock for client, clock in clocks.items() if clock}


def encode_state_vector(clocks: Mapping[int, int]) -> bytes:
    """Write a state vector, highest client first as Yjs does. Clients at clock 0 are left out."""
    known = sorted(((client, clock) for client, clock in clocks.items() if clock), reverse=True)
    out = bytearray(encode_uint(len(known)))
    for client, clock in known:
        out += encode_uint(client)
        out += encode_uint(clock)
    return bytes(out)
