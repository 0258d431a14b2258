"""Many browsers, one roster, any interleaving: everybody ends at the truth, and nobody stays who left.

The browsers are a model of y-protocols' `Awareness` inside y-websocket's provider: they echo every change, forget the
states of others (not their clocks) when their socket closes, and raise their clock when told of their own removal.
Sockets are lost, noticed late, and nodes restart, which forget everybody.
"""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presence.awareness import Entry, encode_awareness, parse_awareness
from presence.echoes import Echoes
from presence.roster import Roster, RosterLimits

LIMITS = RosterLimits()
LEAVE = None


@dataclass
class Browser:
    """One tab: its client, what it believes about everybody, and its socket's two queues while it has one."""

    client: int
    clocks: dict[int, int] = field(default_factory=dict)
    states: dict[int, bytes] = field(default_factory=dict)
    up: deque[bytes | None] | None = None
    down: deque[bytes] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.clocks[self.client] = 0
        self.states[self.client] = b"{}"

    @property
    def state(self) -> bytes | None:
        return self.states.get(self.client)

    def send(self, clients: list[int]) -> None:
        if self.up is not None and clients:
            self.up.append(
                encode_awareness([Entry(client, self.clocks[client], self.states.get(client)) for client in clients])
            )

    def set(self, state: bytes | None) -> None:
        self.clocks[self.client] += 1
        if state is None:
            self.states.pop(self.client, None)
        else:
            self.states[self.client] = state
        self.send([self.client])

    def open(self) -> deque[bytes | None]:
        self.up = deque()
        if self.state is not None:
            self.send([self.client])
        return self.up

    def close(self, *, cleanly: bool) -> None:
        if cleanly and self.up is not None:
            self.up.append(encode_awareness([Entry(self.client, self.clocks[self.client], None)]))
        if self.up is not None:
            self.up.append(LEAVE)
        self.up = None
        self.down.clear()
        self.states = {client: state for client, state in self.states.items() if client == self.client}

    def apply(self, update: bytes) -> None:
        """`applyAwarenessUpdate`, and the provider's handler that sends what changed back."""
        added, updated, removed = [], [], []
        for client, told, state in parse_awareness(update, LIMITS):
            clock, known = told, self.clocks.get(client)
            if not ((known or 0) < clock or ((known or 0) == clock and state is None and client in self.states)):
                continue
            if state is not None:
                self.states[client] = state
            elif client == self.client and client in self.states:
                clock += 1
            else:
                self.states.pop(client, None)
            self.clocks[client] = clock
            if known is None and state is not None:
                added.append(client)
            elif known is not None and state is None:
                removed.append(client)
            elif state is not None:
                updated.append(client)
        self.send([*added, *updated, *removed])


class World:
    """Browsers around a roster. A session's messages arrive in order; its end arrives after them, perhaps late."""

    def __init__(self, count: int) -> None:
        self.roster = Roster(LIMITS)
        self.browsers = [Browser(1000 + number) for number in range(count)]
        self.sessions: dict[int, tuple[Browser, deque[bytes | None]]] = {}
        self.opened = 0
        self.now = 0.0
        self.newcomer: int | None = None
        """The last session for which the others have yet to be nudged."""
        self.frames: list[bytes] = []

    def live(self, session: int) -> bool:
        browser, up = self.sessions[session]
        return browser.up is up

    def connect(self, browser: Browser) -> None:
        if browser.up is None:
            self.opened += 1
            self.sessions[self.opened] = (browser, browser.open())
            if (full := self.roster.full()) is not None:
                browser.down.append(full)

    def deliver_up(self, session: int, *, twice: bool = False) -> None:
        browser, up = self.sessions[session]
        if not up:
            return
        message = up.popleft()
        if message is LEAVE:
            self.roster.leave(session, self.now)
            del self.sessions[session]
            return
        for _ in range(2 if twice else 1):
            received = self.roster.receive(session, message, self.now)
            if received.nudge is not None and self.live(session):
                browser.down.append(received.nudge)
            if received.returned:
                self.newcomer = session

    def deliver_down(self, browser: Browser, *, twice: bool = False) -> None:
        if browser.up is not None and browser.down:
            update = browser.down.popleft()
            for _ in range(2 if twice else 1):
                browser.apply(update)

    def restart(self) -> None:
        """The node goes and comes back; whatever was on its way is lost."""
        self.roster = Roster(LIMITS)
        self.newcomer = None
        self.sessions.clear()
        for browser in self.browsers:
            browser.close(cleanly=False)

    def take(self) -> None:
        if self.newcomer is not None:
            for session, nudge in self.roster.nudges(self.newcomer):
                if self.live(session):
                    self.sessions[session][0].down.append(nudge)
            self.newcomer = None
        update = self.roster.take(self.now)
        if update is not None:
            self.frames.append(update)
            for session, (browser, _) in self.sessions.items():
                if self.live(session):
                    browser.down.append(update)

    def settle(self, *, at_once: bool = False) -> None:
        """Deliver everything, until nobody has anything to say; `at_once` also leaves out what was put off."""
        for _ in range(100):
            if not at_once:
                self.now += LIMITS.renewal_interval_s
            self.take()
            for session in list(self.sessions):
                while session in self.sessions and self.sessions[session][1]:
                    self.deliver_up(session)
            for browser in self.browsers:
                while browser.up is not None and browser.down:
                    self.deliver_down(browser)
            due = self.roster.next_take()
            quiet = self.newcomer is None and not any(up for _, up in self.sessions.values())
            if quiet and (due is None or (at_once and due > self.now)):
                return
        raise AssertionError("the browsers and the roster never stop talking")

    def truth(self) -> dict[int, bytes]:
        return {
            browser.client: browser.state
            for browser in self.browsers
            if browser.up is not None and browser.state is not None and browser.clocks[browser.client] > 0
        }

    def assert_converged(self) -> None:
        self.settle()
        truth = self.truth()
        assert {client: state for client, _, state in self.roster.present} == truth, (
            "the roster has a ghost or misses somebody"
        )
        for client, session, _ in self.roster.present:
            assert self.sessions[session][0].client == client, "somebody is owned by another's session"
        # A browser that was away without a state opened without a word, so nobody was nudged for it: it sees the others
        # again at their next renewal.
        self.now += 15.0
        for browser in self.browsers:
            if browser.up is not None and browser.state is not None:
                browser.set(browser.state)
        self.settle()
        truth = self.truth()
        assert {client: state for client, _, state in self.roster.present} == truth
        for browser in self.browsers:
            if browser.up is not None:
                assert browser.states == truth, f"browser {browser.client} ends elsewhere"


def steps_of(words: str) -> st.SearchStrategy[list[tuple[str, int, bool]]]:
    return st.lists(st.tuples(st.sampled_from(words.split()), st.integers(0, 4), st.booleans()), max_size=120)


MOVES = "connect set set renew leave drop up up up down down take take silence restart"
STEPS = steps_of(f"{MOVES} set null")
SHOWN = steps_of(f"{MOVES} connect")
RELAYED = steps_of(f"{MOVES} connect tell tell")


def run(world: World, steps: list[tuple[str, int, bool]]) -> None:
    for number, (what, which, twice) in enumerate(steps):
        world.now += 0.01
        browser = world.browsers[which % len(world.browsers)]
        match what:
            case "connect":
                world.connect(browser)
            case "set":
                browser.set(b'{"x":%d}' % number)
            case "renew" if browser.state is not None:
                browser.set(browser.state)
            case "null":
                browser.set(None)
            case "tell":
                # Tabs of one browser talk to each other as well, and pass on to their server what they hear.
                client, other = browser.client, world.browsers[(which + number) % len(world.browsers)]
                other.apply(encode_awareness([Entry(client, browser.clocks[client], browser.state)]))
            case "leave" | "drop":
                browser.close(cleanly=what == "leave")
            case "up" if world.sessions:
                world.deliver_up(list(world.sessions)[which % len(world.sessions)], twice=twice)
            case "down":
                world.deliver_down(browser, twice=twice)
            case "take":
                world.take()
            case "silence":
                world.now += LIMITS.expiry_s
                world.roster.expire(world.now)
            case "restart":
                world.restart()


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 5), STEPS)
def test_everybody_ends_at_the_truth(count: int, steps: list[tuple[str, int, bool]]) -> None:
    world = World(count)
    for browser in world.browsers:
        world.connect(browser)
    run(world, steps)
    world.assert_converged()
    for browser in world.browsers:
        browser.close(cleanly=False)
    world.settle()
    assert world.roster.present == [], "a ghost"
    assert world.roster.full() is None
    assert world.roster.next_expiry() is None


@settings(max_examples=500, deadline=None)
@given(st.integers(2, 5), st.booleans(), SHOWN)
def test_P5_everybody_sees_everybody_at_once(count: int, met: bool, steps: list[tuple[str, int, bool]]) -> None:
    """Whatever was lost before: no clock runs, nobody renews, and nobody has to."""
    world = World(count)
    for browser in world.browsers:
        browser.set(b'{"name":"%d"}' % browser.client)
        world.connect(browser)
    if met:
        world.settle(at_once=True)
    run(world, steps)
    for browser in world.browsers:
        world.connect(browser)
    world.settle(at_once=True)
    truth = world.truth()
    assert len(truth) == count
    assert {client: state for client, _, state in world.roster.present} == truth
    for browser in world.browsers:
        assert browser.states == truth, f"browser {browser.client} ends elsewhere"


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 5), RELAYED)
def test_tabs_that_relay_each_other_end_at_the_truth_too(count: int, steps: list[tuple[str, int, bool]]) -> None:
    """One that another tab owns is not known to be back before it moves, or all have renewed twice."""
    world = World(count)
    for browser in world.browsers:
        browser.set(b'{"name":"%d"}' % browser.client)
        world.connect(browser)
    run(world, steps)
    for browser in world.browsers:
        world.connect(browser)
    world.settle(at_once=True)
    assert {client: state for client, _, state in world.roster.present} == world.truth()
    for _ in range(2):  # a relay may bring somebody's renewal before its own does, and then the next one is needed
        for browser in world.browsers:
            assert browser.state is not None
            browser.set(browser.state)
        world.settle()
    assert [client for client, _, _ in world.roster.present] == [browser.client for browser in world.browsers]
    for browser in world.browsers:
        assert browser.states == world.truth(), f"browser {browser.client} ends elsewhere"


@pytest.mark.parametrize("late", [False, True], ids=["noticed", "not noticed"])
def test_P5_a_lost_socket_and_a_lost_node_cost_each_browser_one_answer(late: bool) -> None:
    world = World(5)
    for browser in world.browsers:
        browser.set(b'{"x":1}')
        world.connect(browser)
    world.settle(at_once=True)
    assert {browser.clocks[browser.client] for browser in world.browsers} == {2}
    ann = world.browsers[0]
    ann.close(cleanly=False)
    if not late:
        world.settle(at_once=True)
    world.connect(ann)
    if late:
        world.deliver_up(list(world.sessions)[-1])
    world.settle(at_once=True)
    assert {browser.clocks[browser.client] for browser in world.browsers} == {3}
    assert all(browser.states == world.truth() for browser in world.browsers)
    world.restart()
    for browser in world.browsers:
        world.connect(browser)
    world.settle(at_once=True)
    assert {browser.clocks[browser.client] for browser in world.browsers} == {4}
    assert all(browser.states == world.truth() for browser in world.browsers)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 5), STEPS)
def test_recognising_echoes_by_their_bytes_changes_nothing(count: int, steps: list[tuple[str, int, bool]]) -> None:
    """Two rosters, the same inputs: one takes the short cut, the other parses every echo."""
    ends = []
    for short_cut in (True, False):
        world = World(count)
        for browser in world.browsers:
            world.connect(browser)
        with pytest.MonkeyPatch.context() as patch:
            if not short_cut:
                patch.setattr(Echoes, "recognise", lambda *_: False)
            run(world, steps)
            world.settle()
        ends.append((world.frames, world.roster.present, world.roster.clocks, world.roster.next_expiry()))
    assert ends[0] == ends[1]


def test_the_model_meets_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a plain run has echoes which are recognised, and a come-back that is answered."""
    recognised = []
    original = Echoes.recognise

    def recognise(self: Echoes, update: bytes, own: int) -> bool:
        recognised.append(original(self, update, own))
        return recognised[-1]

    monkeypatch.setattr(Echoes, "recognise", recognise)
    world = World(4)
    for browser in world.browsers:
        world.connect(browser)
    for browser in world.browsers:
        browser.set(b'{"x":1}')
    world.settle()
    assert recognised.count(True) == 4, "each sends the frame back without its own entry"
    ann = world.browsers[0]
    clock = ann.clocks[ann.client]
    ann.close(cleanly=False)
    world.settle()
    assert ann.client not in {client for client, _, _ in world.roster.present}
    world.connect(ann)
    world.settle()
    assert ann.clocks[ann.client] == clock + 1
    assert world.truth() == {client: state for client, _, state in world.roster.present}
    for browser in world.browsers[1:]:
        assert browser.states == world.truth(), "visible to the others at once"
