"""server/store/codec.py: the bytes of a row and of a snapshot."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import LocalError
from server.room.key import RoomKey
from server.room.rows import Entry
from server.store.codec import decode_batch, decode_snapshot, encode_batch, encode_snapshot
from server.store.schema import Unreadable

KEY = RoomKey("acme", "notes")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRIES = st.lists(st.builds(Entry, TEXT, st.binary(max_size=300)), min_size=1, max_size=5).map(tuple)
SLICES = st.lists(st.binary(max_size=300), max_size=4)


def test_a_batch_has_the_bytes_version_1_gave_it() -> None:
    blob = encode_batch((Entry("ann", b"\x01\x02"), Entry("", b"")))
    assert blob.hex() == "010203616e6e0201020000"


def test_a_snapshot_has_the_bytes_version_1_gave_it() -> None:
    blob = encode_snapshot([b"\x01\x02", b"\x03"], [Entry("ann", b"\x04")])
    assert blob.hex() == "010202010201030103616e6e0104"


@given(ENTRIES)
def test_a_batch_comes_back(entries: tuple[Entry, ...]) -> None:
    row = decode_batch(KEY, 3, 7, encode_batch(entries))
    assert (row.key, row.generation, row.seq, row.entries) == (KEY, 3, 7, entries)


@given(SLICES, ENTRIES)
def test_a_snapshot_comes_back(slices: list[bytes], held: tuple[Entry, ...]) -> None:
    snapshot = decode_snapshot(KEY, 7, encode_snapshot(slices, held))
    assert (snapshot.seq, snapshot.slices, snapshot.held) == (7, tuple(slices), held)
    assert snapshot.replayable().slices == tuple(slices) + tuple(entry.update for entry in held)


@given(ENTRIES, st.data())
def test_no_cut_and_no_addition_is_taken(entries: tuple[Entry, ...], data: st.DataObject) -> None:
    blob = encode_batch(entries)
    cut = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(Unreadable, match="row 7 of room acme:notes"):
        decode_batch(KEY, 1, 7, blob[:cut])
    with pytest.raises(Unreadable, match="left over"):
        decode_batch(KEY, 1, 7, blob + b"\0")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(blob: bytes) -> None:
    for decode in (lambda: decode_batch(KEY, 1, 7, blob), lambda: decode_snapshot(KEY, 7, blob)):
        with contextlib.suppress(Unreadable):
            decode()


def test_a_version_of_the_future_is_named() -> None:
    with pytest.raises(Unreadable, match="row 7 of room acme:notes has version 2, this program reads up to 1"):
        decode_batch(KEY, 1, 7, b"\x02" + encode_batch((Entry("ann", b""),))[1:])
    with pytest.raises(Unreadable, match="snapshot 9 of room acme:notes has version 0, this program reads up to 1"):
        decode_snapshot(KEY, 9, b"\x00\x00\x00")


def test_a_row_without_entries_is_our_mistake() -> None:
    with pytest.raises(LocalError, match="at least one entry"):
        encode_batch(())
    with pytest.raises(Unreadable, match="holds no update"):
        decode_batch(KEY, 1, 7, b"\x01\x00")
