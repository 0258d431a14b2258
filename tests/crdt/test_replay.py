"""Order and reach of a replay, where the vectors do not go: gaps, circles, what is made to be slow."""

import time

import pytest

from crdt.errors import Malformed, RemoteError, TooLarge, Unsupported
from crdt.replay import replay, visible
from crdt.varint import encode_uint

ROOT = b"\x01\x01t"
"""The parent of a block without origins: the root "t"."""


def client(number: int, *blocks: bytes, clock: int = 0) -> bytes:
    return encode_uint(len(blocks)) + encode_uint(number) + encode_uint(clock) + b"".join(blocks)


def update(*clients: bytes, deletions: bytes = b"\0") -> bytes:
    return encode_uint(len(clients)) + b"".join(clients) + deletions


def string(text: str) -> bytes:
    return encode_uint(len(text.encode())) + text.encode()


def text_of(document: bytes) -> str:
    branch = replay(document).get("t")
    return "" if branch is None else "".join(item.content for item in visible(branch))


def first(text: str) -> bytes:
    """A string at the start of the root."""
    return b"\x04" + ROOT + string(text)


def behind(number: int, clock: int, text: str) -> bytes:
    """A string with a left neighbour."""
    return b"\x84" + encode_uint(number) + encode_uint(clock) + string(text)


def test_those_who_write_at_one_spot_stand_in_order_of_their_ids() -> None:
    both = [client(1, first("a")), client(2, first("b"))]
    assert text_of(update(*both)) == text_of(update(*reversed(both))) == "ab"


def test_an_item_is_cut_where_another_one_and_a_deletion_refer_into_it() -> None:
    between = b"\xc4\x01\x01\x01\x02" + string("-")
    document = update(client(1, first("hello")), client(2, between), deletions=b"\x01\x01\x01\x02\x01")
    assert text_of(document) == "he-lo"


def test_clients_that_wait_for_each_other_back_and_forth_all_get_their_place() -> None:
    # Each character is written behind the other client's last one.
    turns = 500
    ones = [first("a"), *(behind(2, n, "a") for n in range(turns))]
    twos = [behind(1, n, "b") for n in range(turns + 1)]
    for order in ((1, 2), (2, 1)):
        clients = {1: client(1, *ones), 2: client(2, *twos)}
        assert text_of(update(*(clients[number] for number in order))) == "ab" * (turns + 1)


def test_a_long_chain_of_clients_needs_no_deep_stack() -> None:
    length = 5_000
    chain = [client(1, first("a")), *(client(n, behind(n - 1, 0, "a")) for n in range(2, length + 1))]
    assert text_of(update(*reversed(chain))) == "a" * length


@pytest.mark.parametrize(
    "waiting",
    [
        pytest.param(client(2, first("x"), clock=1), id="its own beginning"),
        pytest.param(client(2, behind(7, 0, "x")), id="a client that is not there"),
        pytest.param(client(2, behind(1, 9, "x")), id="a clock that is not there"),
        pytest.param(client(2, behind(2, 0, "x")), id="itself"),
        pytest.param(client(2, b"\x0a\x01", first("x")), id="what was skipped"),
        pytest.param(client(2, b"\x04\x00\x07\x00" + string("x")), id="a parent that is not there"),
    ],
)
def test_what_waits_for_something_stays_out_and_the_rest_is_shown(waiting: bytes) -> None:
    there = client(1, first("there"))
    assert text_of(update(there, waiting)) == text_of(update(waiting, there)) == "there"


def test_a_circle_stays_out() -> None:
    circle = [client(1, behind(2, 0, "x")), client(2, behind(3, 0, "y")), client(3, behind(1, 0, "z"))]
    assert text_of(update(*circle, client(4, first("there")))) == "there"


def test_neighbours_and_parents_that_are_gone_take_what_stands_there_with_them() -> None:
    gone = client(1, b"\x00\x03")
    assert text_of(update(gone, client(2, behind(1, 1, "x")), client(3, b"\x04\x00\x01\x00" + string("y")))) == ""


def test_a_parent_that_is_no_type_shows_nothing() -> None:
    assert text_of(update(client(1, first("a"), b"\x04\x00\x01\x00" + string("x")))) == "a"


@pytest.mark.parametrize("deletions", [b"\x01\x01\x02\x00\x02\x01\x03", b"\x02\x01\x01\x00\x04\x01\x01\x00\x01"])
def test_deletions_may_overlap_and_come_twice(deletions: bytes) -> None:
    assert text_of(update(client(1, first("hello")), deletions=deletions)) == "o"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(update(client(1, first("a")), client(1, first("b"))), id="client twice"),
        pytest.param(update(client(1, b"\x00\x00")), id="gc of no length"),
        pytest.param(update(client(1, b"\x04" + ROOT + b"\x00")), id="string of no length"),
        pytest.param(update(client(1, first("a"))) + b"\x00", id="left over"),
        pytest.param(b"\x01\xff\xff\xff\x3f\x01\x00", id="count beyond the bytes"),
        pytest.param(update(client(1, b"\x08" + ROOT + b"\x01\x50")), id="value tag"),
        pytest.param(update(client(1, b"\x05" + ROOT + string("{"))), id="broken json"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_broken_bytes_are_malformed(document: bytes) -> None:
    with pytest.raises(Malformed):
        replay(document)


@pytest.mark.parametrize("block", [b"\x0b" + ROOT + b"\x01", b"\x07" + ROOT + b"\x07"])
def test_unknown_content_is_unsupported(block: bytes) -> None:
    with pytest.raises(Unsupported):
        replay(update(client(1, block)))


def test_many_writers_at_one_spot_are_bounded_in_steps() -> None:
    crowd = update(*(client(n, first("a")) for n in range(1, 301)))
    assert text_of(crowd) == "a" * 300
    with pytest.raises(TooLarge, match="more than 1000 comparisons"):
        replay(crowd, steps_max=1000)


@pytest.mark.parametrize("clients", [range(1, 401), range(400, 0, -1)])
def test_what_is_read_on_the_loop_is_quick_however_it_was_made(clients: range) -> None:
    crowd = update(*(client(n, first("a")) for n in clients))
    assert len(crowd) <= 4096
    started = time.process_time()
    replay(crowd)
    assert time.process_time() - started < 0.05


def test_every_prefix_and_every_flipped_bit_of_an_update_raises_nothing_but_remote_errors() -> None:
    whole = update(
        client(1, first("h😀llo"), b"\x07" + ROOT + b"\x01", b"\x24\x00\x01\x06" + string("k") + string("v")),
        client(2, behind(1, 1, "-"), b"\x08" + ROOT + b"\x02\x7e\x7d\x05"),
        deletions=b"\x01\x01\x01\x03\x01",
    )
    broken = [whole[:end] for end in range(len(whole))]
    broken += [
        whole[:at] + bytes((whole[at] ^ 1 << bit,)) + whole[at + 1 :] for at in range(len(whole)) for bit in range(8)
    ]
    read = 0
    for document in broken:
        try:
            replay(document)
            read += 1
        except RemoteError:
            pass
    assert 0 < read < len(broken)
