"""The roster: y-protocols' clock rule step by step, ownership, expiry, the lane, limits."""

import json
from pathlib import Path
from typing import Any

import pytest

from crdt.errors import CloseCode, Malformed, RemoteError, TooLarge
from presence.awareness import Entry, encode_awareness, parse_awareness
from presence.roster import Present, Received, Roster, RosterFull, RosterLimits

ANN, BOB, CAT = 11, 22, 33
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "awareness.json").read_text())


class Room:
    """A roster with one session per name, so that a test reads as who did what."""

    def __init__(self, **limits: Any) -> None:
        self.roster = Roster(RosterLimits(**limits))

    def says(self, session: int, *entries: tuple[int, int, str | None], now: float = 0.0) -> list[Entry]:
        """What the session is answered, after it presented these (client, clock, state)."""
        nudge = self.receive(session, *entries, now=now).nudge
        return [] if nudge is None else parse_awareness(nudge, RosterLimits())

    def receive(self, session: int, *entries: tuple[int, int, str | None], now: float = 0.0) -> Received:
        update = encode_awareness(
            Entry(client, clock, None if text is None else text.encode()) for client, clock, text in entries
        )
        return self.roster.receive(session, update, now)

    def nudges(self, newcomer: int) -> dict[int, list[Entry]]:
        """What each session is sent for the newcomer."""
        return {session: parse_awareness(update, RosterLimits()) for session, update in self.roster.nudges(newcomer)}

    def told(self, now: float = 0.0) -> list[tuple[int, int, str | None]]:
        """What everybody is told now."""
        update = self.roster.take(now)
        entries = [] if update is None else parse_awareness(update, RosterLimits())
        return [(client, clock, None if state is None else state.decode()) for client, clock, state in entries]

    def states(self) -> dict[int, str]:
        return {client: state.decode() for client, _, state in self.roster.present}

    def owners(self) -> dict[int, int]:
        return {client: session for client, session, _ in self.roster.present}

    def snapshot(self) -> tuple[Any, ...]:
        """All that an echo must leave alone."""
        roster = self.roster
        return (roster.present, roster.clocks, roster.next_take(), roster.next_expiry(), roster.full())


# ---------------------------------------------------------------------------------- the clock rule

REFUSED_WHOLE = {
    "state is not an object (a string)",
    "state is not JSON",
    "empty JSON string (undefined state)",
    "count larger than the entries",
    "duplicate client in one message: the higher clock wins in order",
}
"""Where a browser stores what no other browser should be shown, or stops half-way, the roster takes nothing."""


def test_P1_every_step_of_the_sequence_recorded_with_y_protocols() -> None:
    """The recorded receiver is client 99, which a server is not; clients of refused messages stay as they were."""
    room = Room()
    refused: set[int] = set()
    steps = 0
    for step in VECTORS["sequence"]:
        update = bytes.fromhex(step["hex"])
        if step["name"] in REFUSED_WHOLE:
            before = room.snapshot()
            with pytest.raises(RemoteError):
                room.roster.receive(ANN, update, 0.0)
            assert room.snapshot() == before
            refused |= {
                int(client)
                for client, clock in step["receiverAfter"]["clocks"].items()
                if room.roster.clocks.get(int(client)) != clock
            }
            refused -= {99}
            continue
        had = room.roster.clocks
        room.roster.receive(ANN, update, 0.0)
        after = step["receiverAfter"]
        assert room.roster.clocks == {
            int(client): clock for client, clock in after["clocks"].items() if int(client) not in refused | {99}
        } | {client: clock for client, clock in had.items() if client in refused}, step["name"]
        assert {client: json.loads(text) for client, text in room.states().items() if client not in refused} == {
            int(client): state for client, state in after["states"].items() if int(client) not in refused
        }, step["name"]
        events = {event["event"]: event for event in step["receiverEvents"]}
        told = events.get("update", {"added": [], "updated": [], "removed": []})
        expected = [*told["added"], *told["updated"], *told["removed"]]
        assert [client for client, _, _ in room.told(now=10.0)] == expected, step["name"]
        steps += 1
    assert steps == len(VECTORS["sequence"]) - len(REFUSED_WHOLE)
    assert refused == {1, 79, 81}


def test_a_leaving_server_side_keeps_the_clocks_as_y_protocols_does() -> None:
    room = Room()
    room.says(ANN, (1, 50, "{}"), (81, 2, "{}"))
    room.told()
    room.roster.leave(ANN, 0.0)
    update = room.roster.take(0.0)
    assert update is not None
    assert update.hex() == VECTORS["serverRemoval"]["encodedRemoval"]
    assert room.roster.clocks == {1: 50, 81: 2}


def test_the_first_message_of_a_provider_is_ignored_without_harm() -> None:
    room = Room()
    assert room.says(ANN, (1, 0, "{}")) == []
    assert (room.states(), room.roster.clocks, room.roster.next_take(), room.roster.full()) == ({}, {}, None, None)
    room.says(ANN, (1, 1, "{}"))
    assert room.told() == [(1, 1, "{}")]


def test_a_null_for_somebody_never_seen_is_remembered_and_told_to_nobody() -> None:
    room = Room()
    room.says(ANN, (77, 5, None))
    assert (room.roster.clocks, room.roster.next_take()) == ({77: 5}, None)
    room.says(ANN, (77, 6, None))
    assert (room.roster.clocks, room.roster.next_take()) == ({77: 6}, None)


def test_clock_memory_outlives_removal() -> None:
    room = Room()
    room.says(ANN, (1, 5, "{}"))
    room.says(ANN, (1, 5, None))
    room.told()
    room.says(BOB, (2, 1, "{}"))
    room.told()
    room.says(BOB, (1, 5, "{}"))
    room.says(BOB, (1, 4, "{}"))
    assert (room.states(), room.told()) == ({2: "{}"}, [])
    room.says(ANN, (1, 6, "{}"))
    assert room.told() == [(1, 6, "{}")]


# ---------------------------------------------------------------------------------- ownership


def test_P2_leaving_removes_exactly_what_the_session_owns() -> None:
    room = Room()
    room.says(ANN, (1, 3, '{"n":1}'), (2, 1, '{"n":2}'))
    room.says(BOB, (3, 1, '{"n":3}'))
    room.told()
    room.roster.leave(ANN, 1.0)
    assert room.told(1.0) == [(1, 3, None), (2, 1, None)]
    assert room.states() == {3: '{"n":3}'}
    room.roster.leave(ANN, 1.0)
    room.roster.leave(99, 1.0)
    assert room.told(1.0) == []


def test_P2_a_higher_clock_moves_ownership() -> None:
    room = Room()
    room.says(ANN, (1, 1, "{}"))
    room.says(BOB, (1, 2, "{}"))
    assert room.owners() == {1: BOB}
    room.roster.leave(ANN, 0.0)
    assert room.states() == {1: "{}"}
    room.roster.leave(BOB, 0.0)
    assert room.states() == {}


def test_a_reappearing_client_is_owned_again() -> None:
    """The y-websocket server forgets this one, and leaves a ghost when the client drops."""
    room = Room()
    room.says(ANN, (1, 1, "{}"))
    room.roster.leave(ANN, 0.0)
    room.says(BOB, (1, 2, "{}"))
    room.told()
    room.roster.leave(BOB, 0.0)
    assert room.told() == [(1, 2, None)]


def test_a_session_that_owns_nobody_is_not_kept() -> None:
    room = Room()
    room.says(ANN, (1, 1, "{}"))
    room.says(BOB, (1, 2, "{}"))
    assert list(room.roster._owned) == [BOB]
    room.says(BOB, (1, 2, None))
    assert room.roster._owned == {}


def test_P1_a_null_at_the_same_clock_counts_from_the_owner_only() -> None:
    room = Room()
    room.says(ANN, (1, 5, "{}"))
    room.told()
    before = room.snapshot()
    room.says(BOB, (1, 5, None))
    assert room.snapshot() == before
    room.says(ANN, (1, 5, None))
    assert room.told() == [(1, 5, None)]


def test_a_null_at_a_higher_clock_counts_from_anybody() -> None:
    room = Room()
    room.says(ANN, (1, 5, "{}"))
    room.told()
    room.says(BOB, (1, 6, None))
    assert room.told() == [(1, 6, None)]
    room.roster.leave(ANN, 0.0)
    room.roster.leave(BOB, 0.0)
    assert room.told() == []


@pytest.mark.parametrize("others", [0, 1, 5])
def test_P1_echoes_change_nothing(others: int) -> None:
    room = Room()
    for client in range(1, others + 2):
        room.says(client, (client, 1, '{"n":1}'), now=1.0)
    room.says(BOB, (BOB, 1, '{"n":1}'), now=1.0)
    frame = room.roster.take(1.0)
    assert frame is not None
    entries = parse_awareness(frame, RosterLimits())
    before = room.snapshot()
    own = [entry for entry in entries if entry.client != BOB]
    for echo in (entries, own, own[::-1], [entry._replace(state=None) for entry in own]):
        room.roster.receive(BOB, encode_awareness(echo), 20.0)
        room.roster.receive(CAT, encode_awareness(echo), 20.0)
        assert room.snapshot() == before
    assert room.told(100.0) == []


# ---------------------------------------------------------------------------------- coming back


def test_P5_one_who_comes_back_at_its_old_clock_is_told_of_its_removal() -> None:
    room = Room()
    room.says(ANN, (1, 7, '{"name":"Ann"}'))
    room.roster.leave(ANN, 0.0)
    room.told()
    assert room.says(BOB, (1, 7, '{"name":"Ann"}')) == [Entry(1, 7, None)]
    assert room.states() == {}
    # What y-protocols then does to its own client: the clock rises, the state stays.
    assert room.says(BOB, (1, 8, '{"name":"Ann"}')) == []
    assert room.told() == [(1, 8, '{"name":"Ann"}')]
    assert room.owners() == {1: BOB}


def test_so_is_one_whose_clock_began_anew() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.roster.leave(ANN, 0.0)
    assert room.says(BOB, (1, 0, "{}")) == [Entry(1, 7, None)]


def test_coming_back_with_the_very_bytes_that_were_relayed_is_no_echo() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    assert room.told() == [(1, 7, "{}")]
    room.roster.leave(ANN, 0.1)
    assert room.says(BOB, (1, 7, "{}"), now=0.2) == [Entry(1, 7, None)]


def test_somebody_elses_late_echo_is_not_answered() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.says(BOB, (2, 1, "{}"))
    room.told()
    room.roster.leave(ANN, 0.0)
    assert room.says(BOB, (1, 7, "{}")) == []
    assert room.says(BOB, (1, 6, "{}"), (1_000, 0, "{}")) == []


def test_P5_two_sockets_of_one_person_while_the_old_one_half_lives() -> None:
    """Its browser knows that the old one is dead. When we do, it is told with everybody, and raises its clock."""
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.told()
    assert room.receive(BOB, (1, 7, "{}")) == Received(None, returned=False)
    assert room.owners() == {1: ANN}
    room.roster.leave(ANN, 0.0)
    assert room.told() == [(1, 7, None)]
    assert room.receive(BOB, (1, 8, "{}")) == Received(None, returned=True)
    assert room.owners() == {1: BOB}


def test_P5_one_who_moves_on_its_new_socket_is_back_whatever_the_old_one_does() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.says(BOB, (1, 7, "{}"))
    assert room.receive(BOB, (1, 8, '{"x":1}')) == Received(None, returned=True)
    assert room.receive(BOB, (1, 9, '{"x":2}')) == Received(None, returned=False)
    room.roster.leave(ANN, 0.0)
    assert room.owners() == {1: BOB}


def test_P5_one_who_comes_with_a_clock_may_be_known_from_before_a_restart() -> None:
    room = Room()
    assert room.receive(ANN, (1, 7, "{}")) == Received(encode_awareness([Entry(1, 7, None)]), returned=False)
    assert room.told() == [(1, 7, "{}")], "shown at once to those who don't remember it"
    assert room.receive(ANN, (1, 8, "{}")) == Received(None, returned=False)
    assert room.told() == [(1, 8, "{}")]


def test_who_opens_as_new_is_new() -> None:
    room = Room()
    assert room.receive(ANN, (1, 0, "{}")) == Received(None, returned=False)
    assert room.receive(ANN, (1, 1, '{"x":1}')) == Received(None, returned=False)
    assert room.told() == [(1, 1, '{"x":1}')]


def test_P5_an_answer_to_a_nudge_is_not_gathered_and_the_next_renewal_is() -> None:
    room = Room(renewal_interval_s=2.0)
    for session, client in ((ANN, 1), (BOB, 2)):
        room.says(session, (client, 1, "{}"))
    room.told()
    room.nudges(BOB)
    room.says(ANN, (1, 2, "{}"), now=10.0)
    assert room.told(10.0) == [(1, 2, "{}")]
    room.says(ANN, (1, 3, "{}"), now=20.0)
    assert room.roster.next_take() == 22.0


@pytest.mark.parametrize("clock", [0, 6, 7])
def test_P5_who_was_here_before_is_back_with_its_answer(clock: int) -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.roster.leave(ANN, 0.0)
    assert room.receive(BOB, (1, clock, "{}")) == Received(encode_awareness([Entry(1, 7, None)]), returned=False)
    assert room.receive(BOB, (1, 8, "{}")) == Received(None, returned=True)
    assert room.receive(BOB, (1, 9, "{}")) == Received(None, returned=False)


def test_P5_who_moved_while_it_was_away_needs_no_nudge() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.roster.leave(ANN, 0.0)
    assert room.receive(BOB, (1, 8, "{}")) == Received(None, returned=True)
    room.roster.leave(BOB, 0.0)
    room.says(CAT, (1, 8, None))  # hidden while it opens, then not
    assert room.receive(CAT, (1, 9, "{}")) == Received(None, returned=True)


def test_only_the_first_message_of_a_session_is_nudged() -> None:
    """Later ones at a known clock are echoes and relays, or a client that doesn't answer."""
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.roster.leave(ANN, 0.0)
    assert room.says(BOB, (1, 7, "{}")) == [Entry(1, 7, None)]
    for _ in range(3):
        assert room.receive(BOB, (1, 7, "{}")) == Received(None, returned=False)
    room.says(CAT, (3, 0, "{}"))
    assert room.receive(CAT, (1, 7, "{}")) == Received(None, returned=False)
    # A tab tells of other tabs: one that has no socket yet, one that is here.
    assert room.receive(CAT, (4, 5, "{}")) == Received(None, returned=False)
    room.says(ANN, (5, 1, "{}"))
    assert room.receive(CAT, (5, 2, "{}")) == Received(None, returned=False)
    assert room.owners() == {4: CAT, 5: CAT}


@pytest.mark.parametrize(
    "echo",
    [
        [],
        [(1, 7, None)],
        [(1, 7, "{}")],
        [(1, 7, "{}"), (2, 4, "{}")],
        [(1, 7, "{}"), (2, 4, "{}"), (5, 1, None)],
        [(2, 4, "{}"), (9, 1, None)],
    ],
)
def test_one_without_a_state_is_not_taken_for_whom_it_echoes(echo: list[tuple[int, int, str | None]]) -> None:
    """It opens without a word, so that the first we hear of it is its echo of those we told it about."""
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.says(BOB, (2, 4, "{}"))
    room.roster.leave(BOB, 0.0)
    assert room.receive(CAT, *echo) == Received(None, returned=False)
    assert CAT not in room.nudges(99)
    assert room.receive(CAT, (3, 2, "{}")) == Received(None, returned=False)
    assert room.nudges(99) == {ANN: [Entry(1, 7, None)], CAT: [Entry(3, 2, None)]}


def test_P5_the_others_are_nudged_each_for_itself() -> None:
    room = Room()
    room.says(ANN, (1, 7, "{}"))
    room.says(BOB, (2, 4, "{}"))
    room.says(CAT, (3, 1, "{}"))
    room.says(44, (4, 0, "{}"))
    assert room.nudges(ANN) == {BOB: [Entry(2, 4, None)], CAT: [Entry(3, 1, None)]}
    room.says(44, (4, 1, "{}"))
    room.says(CAT, (3, 2, None))
    assert room.nudges(BOB) == {ANN: [Entry(1, 7, None)], 44: [Entry(4, 1, None)]}
    room.roster.leave(ANN, 0.0)
    assert room.nudges(BOB) == {44: [Entry(4, 1, None)]}


def test_tabs_that_relay_each_other_are_nudged_for_themselves_alone() -> None:
    """Of another tab's removal a tab would be convinced, and pass it on as that tab's owner."""
    room = Room()
    room.says(ANN, (1, 0, "{}"))
    room.says(BOB, (2, 1, "{}"))
    room.says(ANN, (2, 2, "{}"))  # before it shows itself
    room.says(ANN, (1, 1, "{}"))
    assert room.owners() == {1: ANN, 2: ANN}
    assert room.nudges(CAT) == {ANN: [Entry(1, 1, None)], BOB: [Entry(2, 2, None)]}
    room.says(BOB, (2, 3, "{}"))
    assert room.owners() == {1: ANN, 2: BOB}


def test_nothing_is_kept_of_sessions_that_left() -> None:
    room = Room()
    for session in range(100):
        room.says(session, (session, 5, "{}"))
        room.roster.leave(session, 0.0)
        room.says(session, (session, 5, "{}"))  # comes back, never answers, and leaves
        room.nudges(99)
        room.roster.leave(session, 0.0)
    assert (room.roster._own, room.roster._owned, len(room.roster)) == ({}, {}, 0)
    with pytest.raises(TooLarge):
        room.says(7, *((client, 9, "{}") for client in range(200, 300)))
    assert room.roster._own == {}


# ---------------------------------------------------------------------------------- expiry


def test_P4_who_is_not_heard_of_is_removed() -> None:
    room = Room()
    room.says(ANN, (1, 4, "{}"), now=0.0)
    room.says(BOB, (2, 1, "{}"), now=10.0)
    room.told(10.0)
    assert room.roster.next_expiry() == 30.0
    room.roster.expire(29.9)
    assert room.states() == {1: "{}", 2: "{}"}
    room.roster.expire(30.0)
    assert room.told(30.0) == [(1, 4, None)]
    assert room.roster.next_expiry() == 40.0
    room.roster.expire(1000.0)
    assert room.told(1000.0) == [(2, 1, None)]
    assert room.roster.next_expiry() is None
    room.roster.expire(2000.0)
    room.roster.leave(ANN, 2000.0)
    assert room.told(2000.0) == []


def test_a_renewal_puts_expiry_off() -> None:
    room = Room()
    room.says(ANN, (1, 1, "{}"), now=0.0)
    room.says(BOB, (2, 1, "{}"), now=5.0)
    room.says(ANN, (1, 2, "{}"), now=15.0)
    assert room.roster.next_expiry() == 35.0
    room.roster.expire(35.0)
    assert room.states() == {1: "{}"}
    assert room.roster.next_expiry() == 45.0


def test_expiry_of_one_client_leaves_the_sessions_others() -> None:
    room = Room()
    room.says(ANN, (1, 1, "{}"), (2, 1, "{}"), now=0.0)
    room.says(ANN, (2, 2, "{}"), now=20.0)
    room.roster.expire(30.0)
    assert room.owners() == {2: ANN}
    room.told(30.0)
    room.roster.leave(ANN, 31.0)
    assert room.told(31.0) == [(2, 2, None)]


# ---------------------------------------------------------------------------------- what the room is told


def test_P3_many_changes_between_two_takes_are_one_entry() -> None:
    room = Room()
    for clock in range(1, 50):
        room.says(ANN, (1, clock, f'{{"x":{clock}}}'))
    assert room.told() == [(1, 49, '{"x":49}')]
    assert room.told() == []


def test_a_change_and_its_removal_are_only_the_removal() -> None:
    room = Room()
    room.says(ANN, (1, 1, '{"x":1}'))
    room.roster.leave(ANN, 0.0)
    assert room.told() == [(1, 1, None)]


def test_P3_renewals_are_gathered_and_changes_are_not() -> None:
    room = Room(renewal_interval_s=2.0)
    for clock in (0, 1):  # as a provider opens, which needs no nudge
        room.says(ANN, (1, clock, "{}"), now=0.0)
        room.says(BOB, (2, clock, "{}"), now=0.0)
    room.told(0.0)
    room.says(ANN, (1, 2, "{}"), now=15.0)
    assert room.roster.next_take() == 17.0
    room.says(BOB, (2, 2, "{}"), now=16.0)
    assert room.told(16.9) == []
    assert room.told(17.0) == [(1, 2, "{}"), (2, 2, "{}")]
    room.says(ANN, (1, 3, "{}"), now=30.0)
    room.says(BOB, (2, 3, '{"x":1}'), now=30.5)
    assert room.roster.next_take() == 30.5
    assert room.told(30.5) == [(1, 3, "{}"), (2, 3, '{"x":1}')]


def test_newcomers_come_first_and_who_came_back_is_not_new() -> None:
    """The order in which browsers report what they got, so that most of their echoes are the bytes we sent."""
    room = Room()
    room.says(ANN, (1, 1, "{}"), (2, 1, "{}"))
    room.says(ANN, (1, 1, None))
    room.told()
    room.says(ANN, (2, 2, '{"x":1}'), (1, 2, "{}"))
    room.says(BOB, (3, 1, "{}"))
    assert [client for client, _, _ in room.told()] == [3, 2, 1]


def test_a_joiner_gets_everybody_and_it_is_made_once() -> None:
    room = Room()
    assert room.roster.full() is None
    room.says(BOB, (2, 1, "{}"))
    room.says(ANN, (1, 1, '{"x":1}'))
    full = room.roster.full()
    assert full is not None
    assert parse_awareness(full, RosterLimits()) == [Entry(2, 1, b"{}"), Entry(1, 1, b'{"x":1}')]
    room.told()
    assert room.roster.full() is full
    room.says(ANN, (1, 2, '{"x":1}'))
    renewed = room.roster.full()
    assert renewed is not None
    assert dict.fromkeys(parse_awareness(renewed, RosterLimits())) == dict.fromkeys(
        [Entry(2, 1, b"{}"), Entry(1, 2, b'{"x":1}')]
    )
    room.roster.leave(ANN, 0.0)
    assert room.roster.full() == encode_awareness([Entry(2, 1, b"{}")])
    room.roster.leave(BOB, 0.0)
    assert room.roster.full() is None


def test_states_are_relayed_as_the_text_they_came_as() -> None:
    room = Room()
    text = '{ "z":1, "a":"\\u00fc\\ud83d\\ude00", "n":1.0e0 }'
    room.says(ANN, (1, 1, text))
    assert room.told() == [(1, 1, text)]


def test_present_is_sorted_and_counted() -> None:
    room = Room()
    room.says(ANN, (5, 1, "{}"), (3, 1, "{}"))
    room.says(BOB, (4, 1, "{}"))
    assert room.roster.present == [Present(3, ANN, b"{}"), Present(4, BOB, b"{}"), Present(5, ANN, b"{}")]
    assert len(room.roster) == 3


# ---------------------------------------------------------------------------------- limits


def refused(room: Room, session: int, *entries: tuple[int, int, str | None]) -> TooLarge:
    before = room.snapshot()
    with pytest.raises(TooLarge) as caught:
        room.says(session, *entries)
    assert room.snapshot() == before, "a refused message changes nothing"
    return caught.value


def test_P7_clients_per_session_max() -> None:
    room = Room(clients_per_session_max=2)
    room.says(ANN, (1, 1, "{}"), (2, 1, "{}"))
    error = refused(room, ANN, (1, 2, "{}"), (3, 1, "{}"))
    assert (error.reason, error.code) == ("session speaks for 3 clients, limit is 2", CloseCode.TOO_LARGE)
    # One for another is within it, and so is what it has already.
    room.says(ANN, (2, 1, None), (3, 1, "{}"))
    room.says(ANN, (1, 2, "{}"), (3, 2, "{}"))
    assert room.owners() == {1: ANN, 3: ANN}
    # Taking over somebody else's counts as its own.
    room.says(BOB, (4, 1, "{}"))
    refused(room, ANN, (4, 2, "{}"))
    room.roster.leave(ANN, 0.0)
    assert room.owners() == {4: BOB}


def test_entries_max() -> None:
    room = Room(entries_max=2)
    room.says(ANN, (1, 1, "{}"))
    room.says(BOB, (2, 1, "{}"))
    error = refused(room, CAT, (3, 1, "{}"))
    assert (error.reason, error.code) == ("3 clients would be present, limit is 2", CloseCode.BUSY)
    assert isinstance(error, RosterFull)
    room.says(ANN, (1, 2, '{"still":"heard"}'))
    room.says(BOB, (2, 1, None))
    room.says(CAT, (3, 1, "{}"))
    assert room.owners() == {1: ANN, 3: CAT}


def test_bytes_max() -> None:
    room = Room(bytes_max=20)
    room.says(ANN, (1, 1, '{"x":12}'))
    room.says(BOB, (2, 1, '{"x":34567}'))
    error = refused(room, ANN, (1, 2, '{"x":1234}'))
    assert (error.reason, error.code) == ("presence of the room would be 21 bytes, limit is 20", CloseCode.BUSY)
    room.says(ANN, (1, 2, '{"x":123}'))
    refused(room, CAT, (3, 1, "{}"))
    room.roster.leave(BOB, 0.0)
    room.says(CAT, (3, 1, '{"x":1}'))
    assert room.states() == {1: '{"x":123}', 3: '{"x":1}'}


def test_clock_memory_max_forgets_the_oldest() -> None:
    room = Room(clock_memory_max=2)
    for client in (1, 2, 3):
        room.says(ANN, (client, 9, "{}"))
        room.says(ANN, (client, 9, None))
    assert room.roster.clocks == {2: 9, 3: 9}
    room.says(BOB, (2, 10, None))
    room.says(BOB, (4, 1, None))
    assert room.roster.clocks == {2: 10, 4: 1}


def test_removals_shed_are_counted() -> None:
    room = Room(entries_max=2)
    for client in (1, 2, 3):
        room.says(ANN, (client, 1, "{}"))
        room.says(ANN, (client, 1, None))
    assert room.roster.removals_shed == 1
    assert room.told() == [(2, 1, None), (3, 1, None)]


@pytest.mark.parametrize("state", ["NaN", '{"a":NaN}', '{"a":1e999}', "[]", "{"])
def test_a_broken_entry_refuses_the_whole_message(state: str) -> None:
    room = Room()
    room.says(ANN, (1, 1, "{}"))
    before = room.snapshot()
    with pytest.raises(Malformed):
        room.says(ANN, (1, 2, "{}"), (2, 1, state))
    assert room.snapshot() == before


def test_the_bounds_hold_against_one_who_tries_them_all() -> None:
    limits = RosterLimits(entries_max=20, clock_memory_max=30, bytes_max=400, clients_per_session_max=3)
    roster = Roster(limits)
    refusals = 0
    for turn in range(3000):
        session, client, clock = turn % 17, turn * 7919 % 101, turn // 50 + 1
        state = None if turn % 5 == 0 else b'{"x":"%s"}' % (b"a" * (turn % 40))
        try:
            roster.receive(session, encode_awareness([Entry(client, clock, state)]), turn / 10)
        except TooLarge:
            refusals += 1
            roster.leave(session, turn / 10)
        if turn % 40 == 0:
            roster.take(turn / 10)
        assert len(roster) <= limits.entries_max
        assert sum(len(state) for _, _, state in roster.present) == roster._bytes <= limits.bytes_max
        assert len(roster._buried) <= limits.clock_memory_max
        assert not set(roster._buried) & set(roster._present)
        assert {client: session for session, owned in roster._owned.items() for client in owned} == {
            client: session for client, session, _ in roster.present
        }
        assert all(roster._owned.values()), "a session that owns nobody is not kept"
        assert set(roster._owned) <= set(roster._own) <= set(range(17))
        assert max(map(len, roster._owned.values()), default=0) <= limits.clients_per_session_max
    assert refusals > 100


def test_who_was_not_told_of_removals_can_be_told_of_all_remembered() -> None:
    room = Room()
    assert room.roster.gone() is None
    room.says(ANN, (1, 4, '{"a":1}'))
    room.says(BOB, (2, 7, '{"b":1}'))
    assert room.roster.gone() is None
    room.roster.leave(ANN, 1.0)
    gone = room.roster.gone()
    assert gone is not None
    assert parse_awareness(gone, RosterLimits()) == [Entry(1, 4, None)]
