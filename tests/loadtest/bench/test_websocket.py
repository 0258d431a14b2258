"""loadtest/bench/websocket.py against the websockets library's own idea of the same bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from loadtest.bench.websocket import BINARY, PING, ServerError, client_frame, handshake, read_handshake, split_frames

KEY = bytes(range(16))


def upgrade(path: str = "/ws/room") -> tuple[ServerProtocol, bytes]:
    """A server's side that has answered our handshake, and its answer."""
    server = ServerProtocol()
    server.receive_data(handshake("127.0.0.1:1", path, KEY))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    assert request.path == path
    server.send_response(server.accept(request))
    return server, b"".join(server.data_to_send())


def server_frame(payload: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=False)


def test_a_server_accepts_our_handshake_and_we_its_answer() -> None:
    _, answer = upgrade()
    assert [read_handshake(answer[:cut], KEY) for cut in range(len(answer))] == [0] * len(answer)
    assert read_handshake(answer + b"\x82\x01x", KEY) == len(answer)


def test_an_answer_to_somebody_elses_handshake_is_refused() -> None:
    _, answer = upgrade()
    with pytest.raises(ServerError, match="does not belong"):
        read_handshake(answer, bytes(16))


def test_a_refused_upgrade_names_its_status() -> None:
    with pytest.raises(ServerError, match="404 Not Found"):
        read_handshake(b"HTTP/1.1 404 Not Found\r\n\r\n", KEY)


def test_an_endless_answer_is_refused() -> None:
    with pytest.raises(ServerError, match="no end"):
        read_handshake(b"x" * 20_000, KEY)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 127, 65_535, 65_536, 70_001])
def test_a_server_reads_what_we_frame(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    server, _ = upgrade()
    server.receive_data(client_frame(payload, b"\x01\xf2\x03\x00"))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, payload)


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(min_value=0, max_value=400))
def test_frames_come_out_whole_however_the_bytes_are_cut(payloads: list[bytes], cut: int) -> None:
    data = b"".join(map(server_frame, payloads))
    first, used = split_frames(data[:cut])
    second, rest = split_frames(data[used:])
    assert first + second == [(BINARY, payload) for payload in payloads]
    assert used + rest == len(data)


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_each_length_form_is_read_and_not_before_it_is_whole(size: int) -> None:
    data = server_frame(b"x" * size, Opcode.PING if size == 125 else Opcode.BINARY)
    assert split_frames(data) == ([(PING if size == 125 else BINARY, b"x" * size)], len(data))
    assert split_frames(data[:-1]) == ([], 0)
    assert split_frames(data[:3]) == ([], 0)


@pytest.mark.parametrize(
    "data",
    [
        server_frame(b"x", fin=False),
        server_frame(b"x", Opcode.CONT),
        client_frame(b"x", b"abcd"),
        bytes((server_frame(b"x")[0] | 0x40,)) + server_frame(b"x")[1:],
    ],
    ids=["fragment", "continuation", "masked", "compressed"],
)
def test_frames_nobody_was_offered_are_refused(data: bytes) -> None:
    with pytest.raises(ServerError, match="a frame begins with"):
        split_frames(data)


def test_websockets_reads_the_same_frames() -> None:
    """Guards `server_frame`: that it makes what the library itself would read back."""
    reader = StreamReader()
    reader.feed_data(server_frame(b"abc"))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    assert bytes(done.value.value.data) == b"abc"
