"""State vectors: yjs' bytes, and the ones that cost pycrdt 280 MB."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt.errors import Malformed, RemoteError, TooLarge
from crdt.state_vector import decode_state_vector, encode_state_vector

VECTORS = Path(__file__).parent.parent / "vectors"
DOCS = json.loads((VECTORS / "docs.json").read_text())["docs"]
MALFORMED = json.loads((VECTORS / "pycrdt-malformed.json").read_text())["cases"]
CALLS_WITH_A_VECTOR = [case for case in MALFORMED if case["call"] == "diff"]


def decode(hex_bytes: str, clients_max: int = 100) -> dict[int, int]:
    return decode_state_vector(bytes.fromhex(hex_bytes), clients_max=clients_max)


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc["name"])
def test_vectors_of_yjs_round_trip(doc: dict[str, Any]) -> None:
    assert encode_state_vector(decode(doc["stateVector"])).hex() == doc["stateVector"]


@pytest.mark.parametrize("case", CALLS_WITH_A_VECTOR, ids=lambda case: case["name"])
def test_what_breaks_pycrdt_is_refused(case: dict[str, Any]) -> None:
    if case["name"] in ("00", "clock above the doc", "client 2^53"):
        decode(case["hex"])
    else:
        with pytest.raises(RemoteError):
            decode(case["hex"])


def test_highest_client_comes_first_and_zero_clocks_say_nothing() -> None:
    assert encode_state_vector({1: 5, 300: 2, 7: 0}).hex() == "02ac02020105"
    assert decode("020000" + "0105") == {1: 5}


def test_limits() -> None:
    assert decode("0101ffffffff07") == {1: 2**31 - 1}
    with pytest.raises(Malformed, match="not below 2\\^31"):
        decode("01018080808008")
    with pytest.raises(Malformed, match="listed twice"):
        decode("0201050106")
    with pytest.raises(TooLarge, match="lists 3 clients, limit is 2"):
        decode("03010102020303", clients_max=2)
    with pytest.raises(Malformed, match="announces 100 clients in 2 bytes"):
        decode("640101")


@given(st.dictionaries(st.integers(0, 2**53 - 1), st.integers(1, 2**31 - 1), max_size=20))
def test_round_trip(clocks: dict[int, int]) -> None:
    assert decode_state_vector(encode_state_vector(clocks), clients_max=20) == clocks


@given(st.binary(max_size=60))
def test_anything_else_is_refused_and_nothing_else_raised(data: bytes) -> None:
    try:
        decode_state_vector(data, clients_max=100)
    except RemoteError:
        return
