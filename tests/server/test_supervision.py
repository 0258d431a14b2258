"""Restart intensity: so many in a window, then no more (R13)."""

from server.supervision import RestartBudget


def test_restarts_are_bounded_in_a_window() -> None:
    budget = RestartBudget(3, 60.0)
    assert [budget.spend(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    assert not budget.spend(59.9)
    assert budget.spend(60.0)
    assert not budget.spend(60.5)
    budget.reset()
    assert budget.spend(60.5)
