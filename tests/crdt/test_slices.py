"""Snapshots in slices: each applies alone, and together they are the whole."""

import json
from pathlib import Path
from typing import Any

import pytest

from crdt.document import Document
from crdt.errors import LocalError, Malformed
from crdt.gate import Gate
from crdt.limits import GateLimits
from crdt.slices import slice_update
from crdt.update import parse_update
from tests.crdt.editors import content, session
from tests.crdt.hand import typed

DOCS = json.loads((Path(__file__).parent.parent / "vectors" / "docs.json").read_text())["docs"]


@pytest.mark.parametrize("doc", [doc for doc in DOCS if doc["name"] != "xml"], ids=lambda doc: doc["name"])
@pytest.mark.parametrize("slice_blocks", [1, 3, 1000])
def test_slices_of_yjs_documents_make_the_whole(doc: dict[str, Any], slice_blocks: int) -> None:
    limits = GateLimits(slice_blocks=slice_blocks)
    whole = bytes.fromhex(doc["stateV1"])
    slices = slice_update(whole, limits)
    gate, direct = Gate(limits), Gate()
    document = Document()
    for ref, part in enumerate(slices):
        parsed = parse_update(part, limits)
        assert parsed.block_count + sum(len(ranges) for _, ranges in parsed.deletions) <= slice_blocks
        assert gate.admit(part, ref=ref, owner=0).updates == (part,)
        document.apply([part])
        assert document.clocks() == dict(gate.clocks)
    direct.admit(whole, ref=0, owner=0)
    assert gate.digests() == direct.digests()


@pytest.mark.parametrize("seed", range(6))
def test_slices_of_large_sessions_make_the_whole(seed: int) -> None:
    people, _ = session(seed, rounds=60)
    whole = people[0].doc.get_update()
    limits = GateLimits(slice_blocks=20, slice_bytes=300)
    slices = slice_update(whole, limits)
    assert len(slices) > 2
    document = Document()
    for part in slices:
        document.apply([part])
    assert content(document.full()) == content(whole)


def test_a_small_update_is_its_own_slice() -> None:
    assert slice_update(typed(7, 0, "ab"), GateLimits()) == [typed(7, 0, "ab")]
    assert slice_update(b"\x00\x00", GateLimits()) == []


def test_an_update_that_lacks_something_can_t_be_sliced() -> None:
    with pytest.raises(LocalError, match="lacks clocks of clients \\[7\\]"):
        slice_update(typed(7, 3, "d"), GateLimits())
    with pytest.raises(Malformed):
        slice_update(b"", GateLimits())
