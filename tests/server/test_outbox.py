"""The outbox: order, bounds, and what it reports (R7, R8)."""

from server.outbox import Fill, Outbox


class Pipe:
    """A transport whose buffer the test fills and empties."""

    def __init__(self, room: int = 10**9) -> None:
        self.writable_now = True
        self.written: list[bytes] = []
        self.room = room

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.room -= len(data)
        if self.room <= 0:
            self.writable_now = False

    def drain(self, room: int) -> None:
        self.room = room
        self.writable_now = True


def test_a_reading_peer_costs_nothing() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe, 100)
    for number in range(1000):
        assert outbox.put(b"%d" % number) is Fill.CLEAR
    assert outbox.bytes == 0
    assert pipe.written == [b"%d" % number for number in range(1000)]


def test_order_is_kept_and_the_limit_is_reported_once() -> None:
    pipe = Pipe(room=1)
    outbox = Outbox(pipe, 100)
    frames = [bytes([number]) * 20 for number in range(9)]
    reports = [outbox.put(frame) for frame in frames]
    # The first frame went to the transport; the fourth queued one passes half, the sixth the limit.
    assert [report for report in reports if report] == [Fill.BUSY, Fill.FULL]
    assert reports.index(Fill.BUSY) == 3
    assert reports.index(Fill.FULL) == 6
    assert outbox.bytes == 160
    pipe.drain(50)
    assert not outbox.pump()
    pipe.drain(1000)
    assert outbox.pump()
    assert not outbox.pump()
    assert pipe.written == frames
    assert outbox.bytes == 0


def test_fragments_go_out_as_the_transport_takes_them() -> None:
    pipe = Pipe(room=150)
    outbox = Outbox(pipe, 100)
    fragments = tuple(bytes([number]) * 100 for number in range(10))
    assert outbox.put(fragments) is Fill.FULL
    assert len(pipe.written) == 2
    assert outbox.put(b"after") is Fill.CLEAR  # full already, and said so
    while outbox.bytes:
        pipe.drain(150)
        outbox.pump()
    assert b"".join(pipe.written) == b"".join(fragments) + b"after"
