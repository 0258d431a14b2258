"""The saved ledger: a gapless prefix, holes and what fills them (R4)."""

from server.room.saved import SavedLedger


def ledger(frames: int) -> SavedLedger:
    made = SavedLedger()
    for number in range(frames):
        assert made.received() == number
    return made


def test_the_count_is_a_prefix() -> None:
    saved = ledger(3)
    saved.covered(1, 5)
    assert not saved.committed(5)
    assert saved.count == 0
    saved.covered(0, 6)
    assert not saved.committed(5)
    assert saved.committed(6)
    assert saved.count == 2
    assert not saved.settled
    saved.covered(2, 6)
    assert saved.committed(6)
    assert saved.settled


def test_a_hole_stops_the_count_until_a_later_step_1_is_answered() -> None:
    saved = ledger(2)
    saved.asked()
    assert saved.answered() == 1
    saved.refused(0)
    saved.covered(1, 1)
    assert not saved.committed(1)
    saved.covered_holes(1, 1)  # the answer to what was asked before the hole proves nothing
    assert not saved.committed(1)
    saved.asked()
    third = saved.received()
    answer = saved.answered()
    saved.covered(third, 2)
    saved.covered_holes(answer, 2)
    assert saved.committed(2)
    assert saved.count == 3


def test_a_restart_keeps_what_is_committed_or_on_its_way() -> None:
    saved = ledger(3)
    saved.covered(0, 1)
    saved.covered(1, 2)
    saved.restarted(kept=1)
    assert saved.committed(5)
    assert saved.count == 1
    assert not saved.settled
