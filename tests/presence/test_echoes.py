"""Recognising our own frames: as they are, without the sender's own entry, and nothing else."""

import pytest

from presence.awareness import Entry, encode_awareness, encode_entry
from presence.echoes import BYTES_MAX, FRAMES_MAX, WINDOW_S, Echoes


def entries(count: int, clock: int = 1) -> list[Entry]:
    return [Entry(1000 + client, clock, b'{"x":%d}' % client) for client in range(count)]


def remember(echoes: Echoes, told: list[Entry], now: float = 0.0) -> bytes:
    return echoes.remember([entry.client for entry in told], [encode_entry(*entry) for entry in told], now)


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 129])
def test_it_makes_the_update_and_knows_it_again(count: int) -> None:
    echoes = Echoes()
    told = entries(count)
    update = remember(echoes, told)
    assert update == encode_awareness(told)
    assert echoes.recognise(bytes(bytearray(update)), own=5)


@pytest.mark.parametrize("count", [3, 127, 128, 129])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_it_knows_the_update_without_the_senders_own_entry(count: int, place: int) -> None:
    echoes = Echoes()
    told = entries(count)
    remember(echoes, told)
    own = told[place].client
    without = encode_awareness([entry for entry in told if entry.client != own])
    assert echoes.recognise(without, own)
    assert not echoes.recognise(without, own=5)
    assert not echoes.recognise(without, own=told[place - 1].client)


def test_one_changed_byte_is_no_echo() -> None:
    echoes = Echoes()
    told = entries(4)
    update = remember(echoes, told)
    without = encode_awareness(told[1:])
    for known in (update, without):
        for at in range(len(known)):
            changed = bytearray(known)
            changed[at] ^= 1
            assert not echoes.recognise(bytes(changed), own=1000), at
        assert not echoes.recognise(known[:-1], own=1000)
        assert not echoes.recognise(known + b"\0", own=1000)


def test_something_else_in_place_of_the_own_entry_is_no_echo() -> None:
    echoes = Echoes()
    told = entries(4)
    remember(echoes, told)
    around = [encode_entry(*entry) for entry in told]
    for strange in (encode_entry(9, 1, b"{}"), b"\0", around[1]):
        assert not echoes.recognise(b"\x03" + around[0] + strange + around[2] + around[3], own=1001)


@pytest.mark.parametrize("update", [b"", b"\0", b"\1", b"\2"])
def test_tiny_messages(update: bytes) -> None:
    echoes = Echoes()
    assert not echoes.recognise(update, own=1)
    remember(echoes, entries(2))
    assert not echoes.recognise(update, own=1000)


def test_frames_are_forgotten_by_number() -> None:
    echoes = Echoes()
    updates = [remember(echoes, entries(2, clock)) for clock in range(FRAMES_MAX + 1)]
    assert [echoes.recognise(update, own=5) for update in updates] == [False] + [True] * FRAMES_MAX


def test_frames_are_forgotten_by_time() -> None:
    echoes = Echoes()
    first = remember(echoes, entries(2, 1), now=0.0)
    second = remember(echoes, entries(2, 2), now=WINDOW_S - 0.1)
    assert echoes.recognise(first, own=5)
    remember(echoes, entries(2, 3), now=WINDOW_S)
    assert not echoes.recognise(first, own=5)
    assert echoes.recognise(second, own=5)


def test_frames_are_forgotten_by_size() -> None:
    echoes = Echoes()
    large = [Entry(1, 1, b'{"x":"%s"}' % (b"a" * (BYTES_MAX // 2)))]
    first = remember(echoes, large)
    assert echoes.recognise(first, own=5)
    second = remember(echoes, [large[0]._replace(clock=2)])
    assert not echoes.recognise(first, own=5)
    assert echoes.recognise(second, own=5)
    third = remember(echoes, [Entry(1, 3, b'{"x":"%s"}' % (b"a" * BYTES_MAX))])
    assert not echoes.recognise(third, own=5)
    assert echoes._bytes == 0


def test_the_same_frame_twice_counts_once() -> None:
    echoes = Echoes()
    first = remember(echoes, entries(2), now=0.0)
    remember(echoes, entries(2), now=WINDOW_S - 1)
    assert echoes._bytes == len(first)
    remember(echoes, entries(2, 2), now=WINDOW_S)
    assert echoes.recognise(first, own=5)
