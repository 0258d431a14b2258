"""The lane: latest wins, changes at once, renewals gathered, nothing twice."""

from presence.lane import Kind, Lane, Taken


def lane(removals_max: int = 100) -> Lane:
    return Lane(renewal_interval_s=2.0, removals_max=removals_max)


def test_an_empty_lane_has_nothing_to_give() -> None:
    empty = lane()
    assert empty.next_take() is None
    assert empty.take(1e9) is None


def test_a_change_is_due_at_once_and_given_once() -> None:
    one = lane()
    one.add(1, Kind.ADDED, now=5.0)
    one.add(1, Kind.CHANGED, now=6.0)
    assert one.next_take() == 5.0
    assert one.take(4.9) is None
    assert one.take(5.0) == Taken([1], [])
    assert (one.next_take(), one.take(9.0)) == (None, None)


def test_renewals_wait_for_each_other() -> None:
    one = lane()
    one.add(1, Kind.RENEWED, now=5.0)
    one.add(2, Kind.RENEWED, now=6.5)
    assert one.next_take() == 7.0
    assert one.take(6.9) is None
    assert one.take(7.0) == Taken([1, 2], [])
    one.add(1, Kind.RENEWED, now=7.1)
    assert one.next_take() == 9.1


def test_a_change_takes_waiting_renewals_along() -> None:
    one = lane()
    one.add(1, Kind.RENEWED, now=5.0)
    one.add(2, Kind.CHANGED, now=5.5)
    assert one.next_take() == 5.5
    assert one.take(5.5) == Taken([1, 2], [])
    assert one.next_take() is None


def test_a_renewal_after_a_change_does_not_put_it_off() -> None:
    one = lane()
    one.add(1, Kind.CHANGED, now=5.0)
    one.add(1, Kind.RENEWED, now=5.1)
    assert one.next_take() == 5.0


def test_a_renewal_that_turns_into_a_change_is_due_at_once() -> None:
    one = lane()
    one.add(1, Kind.RENEWED, now=5.0)
    one.add(1, Kind.CHANGED, now=5.1)
    assert one.take(5.1) == Taken([1], [])


def test_a_removal_replaces_what_was_to_be_told() -> None:
    one = lane()
    one.add(1, Kind.ADDED, now=5.0)
    one.remove(1, 9, now=5.1)
    assert one.take(5.1) == Taken([], [(1, 9)])


def test_coming_back_replaces_the_removal() -> None:
    one = lane()
    one.remove(1, 9, now=5.0)
    one.add(1, Kind.CHANGED, now=5.1)
    assert one.take(5.1) == Taken([1], [])


def test_a_second_removal_counts_with_its_clock() -> None:
    one = lane()
    one.remove(1, 9, now=5.0)
    one.remove(2, 1, now=5.0)
    one.remove(1, 10, now=5.1)
    assert one.take(5.1) == Taken([], [(2, 1), (1, 10)])


def test_the_order_is_added_changed_gone() -> None:
    one = lane()
    one.remove(1, 9, now=5.0)
    one.add(2, Kind.CHANGED, now=5.0)
    one.add(3, Kind.ADDED, now=5.0)
    one.add(4, Kind.RENEWED, now=5.0)
    one.add(5, Kind.ADDED, now=5.0)
    one.add(5, Kind.CHANGED, now=5.0)
    assert one.take(5.0) == Taken([3, 5, 2, 4], [(1, 9)])


def test_removals_max_sheds_the_oldest_and_counts_it() -> None:
    one = lane(removals_max=2)
    for client in (1, 2, 3):
        one.remove(client, 7, now=5.0)
    one.remove(3, 8, now=5.0)
    assert one.removals_shed == 1
    assert one.take(5.0) == Taken([], [(2, 7), (3, 8)])
