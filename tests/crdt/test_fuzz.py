"""pycrdt behind the gate meets hostile updates and neither raises, crashes nor hangs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("first_seed", [0, 1000])
def test_pycrdt_behind_the_gate_survives_what_the_gate_lets_through(first_seed: int) -> None:
    """For a longer look: `python -m tests.crdt.fuzz_rooms FIRST_SEED ROOMS`, 1,000 rooms in about a minute."""
    rooms = 250
    # Freed memory is overwritten, so that reading it shows.
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "RUST_BACKTRACE": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.crdt.fuzz_rooms", str(first_seed), str(rooms)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}: {run.stderr[-2000:]}"
    met = json.loads(run.stdout)
    assert met["updates"] == 60 * rooms
    for kind in ("accepted", "waiting", "Malformed", "Unsupported", "TooLarge", "with cut pairs", "refused late"):
        assert met[kind] > 0, f"the run never met {kind}: {met}"
