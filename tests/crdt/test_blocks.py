"""Blocks as bytes: what cutting and writing gives, compared with what Yjs' rules say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.blocks import Extent, cut_block, read_parent, replace_units, split_values, write_slices, write_update
from tests.crdt.hand import NULL, ONE, collected, deleted, embed, text, update, values


def test_a_part_that_does_not_begin_the_block_gets_the_item_before_it_as_origin() -> None:
    assert cut_block(text("hello"), 7, 10, 12, 15) == text("llo", left=(7, 11))
    assert cut_block(text("hello", left=(9, 300)), 7, 10, 12, 15) == text("llo", left=(7, 11))
    both = text("hello", left=(9, 300), right=(2**40, 5))
    assert cut_block(both, 7, 10, 12, 15) == text("llo", left=(7, 11), right=(2**40, 5))
    only_right = text("hello", right=(9, 300))
    assert cut_block(only_right, 7, 10, 12, 15) == text("llo", left=(7, 11), right=(9, 300))


def test_a_part_that_begins_the_block_keeps_its_origins() -> None:
    assert cut_block(text("hello"), 7, 10, 10, 12) == text("he")
    assert cut_block(text("hello", parent=(9, 3)), 7, 10, 10, 12) == text("he", parent=(9, 3))
    assert cut_block(text("hello", left=(9, 1), right=(9, 2)), 7, 0, 0, 1) == text("h", left=(9, 1), right=(9, 2))


def test_the_key_flag_stays_without_its_key() -> None:
    """As `Item.write` of Yjs: it only says that the item has a key, which both readers take from the origin."""
    cut = cut_block(values(NULL, ONE, parent="map", key="k"), 7, 0, 1, 2)
    assert cut == bytes((8 | 0x80 | 0x20,)) + b"\x07\x00" + b"\x01" + ONE
    nested = cut_block(values(NULL, ONE, parent=(9, 300), key="k"), 7, 0, 1, 2)
    assert nested == cut


def test_every_kind_with_a_length_is_cut() -> None:
    assert cut_block(collected(9), 7, 1, 3, 8) == collected(5)
    assert cut_block(deleted(9, left=(9, 1)), 7, 1, 3, 8) == deleted(5, left=(7, 2))
    data = values(NULL, ONE, b"\x75\x02\x7e\x7e", ONE, left=(9, 1))
    assert cut_block(data, 7, 1, 2, 4) == values(ONE, b"\x75\x02\x7e\x7e", left=(7, 1))
    assert cut_block(data, 7, 1, 1, 2) == values(NULL, left=(9, 1))


def test_half_a_pair_is_written_as_the_replacement_character() -> None:
    assert cut_block(text("x😀y"), 7, 0, 2, 4) == text("\ufffdy", left=(7, 1))
    assert cut_block(text("x😀y"), 7, 0, 0, 2) == text("x\ufffd")


def test_parents() -> None:
    data = b"??" + text("a", parent="root")
    assert read_parent(data, 2) == ("root", None)
    assert read_parent(text("a", parent="root", key="k"), 0) == ("root", "k")
    assert read_parent(text("a", parent=(300, 2), key="k"), 0) == (None, "k")
    assert read_parent(text("a", parent=(300, 2)), 0) == (None, None)


def test_values_one_by_one() -> None:
    block = values(NULL, b"\x75\x01\x7e", ONE, parent="map", key="k")
    later = bytes((8 | 0x80 | 0x20,))
    assert split_values(block, 300, 5) == [
        values(NULL, parent="map", key="k"),
        later + b"\xac\x02\x05\x01\x75\x01\x7e",
        later + b"\xac\x02\x06\x01" + ONE,
    ]
    with_right = values(NULL, ONE, left=(9, 0), right=(9, 1))
    assert split_values(with_right, 7, 5) == [
        values(NULL, left=(9, 0), right=(9, 1)),
        values(ONE, left=(7, 5), right=(9, 1)),
    ]


def test_units_are_replaced_in_place() -> None:
    assert replace_units(text("é😀😀z", left=(9, 0)), [1, 2]) == text("é\ufffd\ufffd😀z", left=(9, 0))


def test_an_update_is_written_highest_client_first() -> None:
    one = Extent(5, 0, 1, text("a"))
    two = Extent(9, 3, 1, text("b", left=(9, 2)))
    three = Extent(9, 4, 2, text("c", left=(9, 3)) + text("d", left=(9, 4)))
    deletions = [(5, [(0, 1), (3, 7)])]
    assert write_update([one, two, three], deletions) == update(
        (9, 3, [two.blocks, text("c", left=(9, 3)), text("d", left=(9, 4))]),
        (5, 0, [one.blocks]),
        delete={5: [(0, 1), (3, 4)]},
    )
    assert write_update([], []) == b"\x00\x00"


@given(
    st.lists(st.integers(1, 4), max_size=12),
    st.lists(st.integers(1, 6), max_size=4),
    st.integers(4, 7),
    st.integers(8, 60),
)
def test_slices_hold_everything_in_order_and_keep_to_their_size(
    sizes: list[int], drops: list[int], slice_blocks: int, slice_bytes: int
) -> None:
    extents = [Extent(7, 10 * n, size, b"x" * (3 * size)) for n, size in enumerate(sizes)]
    deletions = [(client, [(3 * n, 3 * n + 1) for n in range(count)]) for client, count in enumerate(drops)]
    written: list[tuple[list[Extent], list[tuple[int, list[tuple[int, int]]]]]] = []

    def note(part: list[Extent], dropped: list[tuple[int, list[tuple[int, int]]]]) -> bytes:
        written.append((list(part), list(dropped)))
        return b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crdt.blocks.write_update", note)
        slices = list(write_slices(extents, deletions, slice_blocks=slice_blocks, slice_bytes=slice_bytes))
    assert len(slices) == len(written)
    assert [extent for part, _ in written for extent in part] == extents
    joined: dict[int, list[tuple[int, int]]] = {}
    for _, dropped in written:
        for client, ranges in dropped:
            joined.setdefault(client, []).extend(ranges)
    assert joined == {client: ranges for client, ranges in deletions if ranges}
    first_drop = next((n for n, (_, dropped) in enumerate(written) if dropped), len(written))
    assert not any(part for part, _ in written[first_drop + 1 :])
    for part, dropped in written:
        count = sum(extent.block_count for extent in part) + sum(len(ranges) for _, ranges in dropped)
        assert 0 < count <= slice_blocks
        assert sum(len(extent.blocks) for extent in part) <= slice_bytes or len(part) == 1


def test_embedded_content_is_a_block_like_any_other() -> None:
    assert write_update([Extent(7, 0, 1, embed(b"1"))], []) == update((7, 0, [embed(b"1")]))
