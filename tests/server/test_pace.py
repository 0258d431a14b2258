"""The pace: stretches under load, comes back, stays within its bounds."""

from server.pace import Pace


def test_it_stretches_to_the_slowest_and_comes_back() -> None:
    pace = Pace.between(0.016, 0.2)
    for _ in range(20):
        pace.observe(0.99)
    assert pace.tick_interval_s == 0.2
    pace.observe(0.7)
    assert pace.tick_interval_s == 0.2
    for _ in range(20):
        pace.observe(0.1)
    assert pace.tick_interval_s == 0.016
