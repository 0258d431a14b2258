"""The roster: who is present in one room, at which clock, and which session speaks for whom.

Follows the clock rule of y-protocols 1.0.7 (`applyAwarenessUpdate`; protocol reference, section 2) to the letter where
it decides what is accepted, because every browser decides by the same rule and must end at the same states. On top of
it stands what a server needs and a browser doesn't: ownership, so that a session that ends takes exactly its own
clients with it; a bound on everything; a lane that tells the room only what changed (R9); and nudges.

Nudges: y-protocols forgets everybody's state when a socket closes, but nobody's clock. So whoever comes back, and whoever
was there all along, is invisible to those who remember its clock until it rises, which for the quiet is their renewal up
to 18 s later. A client that is told of its own removal raises its clock by one and announces itself, which every version
of y-protocols does; such a removal, sent to its own session alone, is the nudge. A session is nudged for its first message
at most, and somebody's return is noticed once a session: what answers a nudge never causes another.

Invariants:
1. A client is present or buried (its clock is remembered) or unknown; never two of these.
2. Each present client is owned by one session, the last that raised its clock.
3. What changes nothing (an echo, an old clock) leaves owners, times and the lane as they were.
4. A message is accepted whole or refused before anything changes.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from crdt.errors import CloseCode, TooLarge
from presence.awareness import Entry, encode_awareness, encode_entry, join_entries, parse_awareness
from presence.echoes import Echoes
from presence.lane import Kind, Lane
from presence.limits import RosterLimits

__all__ = ["Present", "Received", "Roster", "RosterFull", "RosterLimits"]


class Received(NamedTuple):
    """What the caller must do next: send `nudge`, an awareness update, to that session alone, unless it is None.

    `returned`: a client that was here before is back by this session, and doesn't see those whose clock has not risen
    since it was cut off: call `Roster.nudges`, soon.
    """

    nudge: bytes | None
    returned: bool


class Present(NamedTuple):
    """One present client. `state` is JSON text in UTF-8."""

    client: int
    session: int
    state: bytes


class RosterFull(TooLarge):
    """The room's own share is used up: nothing its sender could do about it, so it may come back."""

    code = CloseCode.BUSY


_NOTHING: Final = Received(None, returned=False)


class _Presence:
    """A present client's record, replaced when it is raised. `nudged`: it was asked to be, at this clock."""

    __slots__ = ("_encoded", "client", "clock", "heard_at", "nudged", "session", "state")

    def __init__(self, session: int, entry: Entry, state: bytes, now: float) -> None:
        self.session = session
        self.client = entry.client
        self.clock = entry.clock
        self.state = state
        self.heard_at = now
        self.nudged = False
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """Made once, for the lane and for every joiner after it."""
        if self._encoded is None:
            self._encoded = encode_entry(self.client, self.clock, self.state)
        return self._encoded


class Roster:
    """The presence of one room. Sessions are the caller's numbers; `now` never goes back."""

    def __init__(self, limits: RosterLimits) -> None:
        self._limits = limits
        self._present: OrderedDict[int, _Presence] = OrderedDict()
        """By client, the one unheard of for longest first."""
        self._buried: OrderedDict[int, int] = OrderedDict()
        """The clock of each client that isn't present any more, by client, the oldest burial first."""
        self._owned: dict[int, dict[int, None]] = {}
        """The clients of each session that has any, in the order they came."""
        self._own: dict[int, int | None] = {}
        """The client that each session is, of the sessions that spoke: the first it came to own, None before. A session may
        own other tabs of its browser too, but told of their removal it would believe it, and pass it on."""
        self._bytes = 0
        self._lane = Lane(renewal_interval_s=limits.renewal_interval_s, removals_max=limits.entries_max)
        self._echoes = Echoes()
        self._full: bytes | None = None

    def __len__(self) -> int:
        return len(self._present)

    @property
    def present(self) -> list[Present]:
        """Everybody, by client id."""
        return [Present(client, here.session, here.state) for client, here in sorted(self._present.items())]

    @property
    def clocks(self) -> dict[int, int]:
        """The clock of every client that is present or remembered."""
        return {**self._buried, **{client: here.clock for client, here in self._present.items()}}

    @property
    def removals_shed(self) -> int:
        """Removals the room was never told about because too many came between two takes."""
        return self._lane.removals_shed

    def receive(self, session: int, update: bytes, now: float) -> Received:
        """Takes an awareness update of a session that is in the room. Raises RemoteError, with nothing changed.

        After an error the caller ends the session and calls `leave`.
        """
        owned = self._owned.get(session)
        # A session that owns nobody may be coming back with bytes we relayed for it before it was cut off: no echo.
        if owned and self._echoes.recognise(update, next(iter(owned))):
            return _NOTHING
        entries = parse_awareness(update, self._limits, self._present)
        accepted: list[Entry] = []
        own = self._own.get(session)
        returned = False
        for entry in entries:
            here = self._present.get(entry.client)
            known = here.clock if here is not None else self._buried.get(entry.client, 0)
            # The same clock and null removes, but only for the owner: another browser's null at this clock is its
            # own timeout or an echo, and says nothing about the client.
            leaves = entry.state is None and here is not None and here.session == session
            if entry.clock > known or (entry.clock == known and leaves):
                accepted.append(entry)
                if own is None and entry.state is not None:
                    own, returned = entry.client, known > 0
        if accepted:
            self._check_limits(session, accepted)
        nudge = None
        if session not in self._own and len(entries) == 1 and entries[0].state is not None:
            client, clock, _ = entries[0]
            nudge = self._nudge(client, clock)
            if nudge is None and clock == 0:
                own = client  # which is to appear: other tabs' states may come by this session first
        self._own[session] = own
        for entry in accepted:
            self._apply(session, entry, now)
            if nudge is not None:
                self._present[entry.client].nudged = True
        return _NOTHING if nudge is None and not returned else Received(nudge, returned)

    def nudges(self, newcomer: int) -> list[tuple[int, bytes]]:
        """For a client that is back in session `newcomer`: (session, its own client's removal) for all others.

        Those whose clock rose since the newcomer was last here are among them: it may have been cut off long before we
        were told. O(sessions), and each sent one answers: the caller decides how often.
        """
        nudges = []
        for session, client in self._own.items():
            here = None if client is None else self._present.get(client)
            if here is not None and session != newcomer:
                here.nudged = True
                nudges.append((session, encode_awareness([Entry(here.client, here.clock, None)])))
        return nudges

    def leave(self, session: int, now: float) -> None:
        """A session ended: removes the clients it still owns, at the clock they had."""
        self._own.pop(session, None)
        for client in self._owned.pop(session, ()):
            self._remove(client, self._present[client].clock, now)

    def expire(self, now: float) -> None:
        """Removes who was not heard of for `expiry_s`."""
        while self._present:
            client, here = next(iter(self._present.items()))
            if here.heard_at + self._limits.expiry_s > now:
                break
            self._disown(client, here.session)
            self._remove(client, here.clock, now)

    def next_expiry(self) -> float | None:
        """When `expire` has something to do, None while nobody is present."""
        if not self._present:
            return None
        return next(iter(self._present.values())).heard_at + self._limits.expiry_s

    def next_take(self) -> float | None:
        """When `take` has something to give, None while there is nothing to tell."""
        return self._lane.next_take()

    def take(self, now: float) -> bytes | None:
        """One awareness update for everybody with the latest of all that changed, None when nothing is due."""
        taken = self._lane.take(now)
        if taken is None:
            return None
        clients = [*taken.shown, *(client for client, _ in taken.gone)]
        encoded = [self._present[client].encoded for client in taken.shown]
        encoded += [encode_entry(client, clock, None) for client, clock in taken.gone]
        return self._echoes.remember(clients, encoded, now)

    def full(self) -> bytes | None:
        """All states, for one who joins; None while nobody is present."""
        if self._full is None and self._present:
            self._full = join_entries([here.encoded for here in self._present.values()])
        return self._full

    def _nudge(self, client: int, clock: int) -> bytes | None:
        """For one who opens with a state of this client, before it is applied."""
        # One who has no state of its own opens without a word, and the first we hear of it may be its echo of somebody.
        # It must not be told that this one left. If it was no echo but a client whose last socket died unnoticed, it will
        # be told with everybody when that is noticed, and is known to be back when it raises its clock.
        if client in self._present:
            return None
        known = self._buried.get(client, 0)
        if clock > known > 0:
            return None
        # It was removed at that clock. Or it is new to us with a clock, from a room that was lost: a node that restarted.
        # A clock of 0 nobody remembers.
        clock = max(clock, known)
        return encode_awareness([Entry(client, clock, None)]) if clock else None

    def gone(self) -> bytes | None:
        """The removals of everybody remembered, for one who was not told of some; None if there are none.

        Harmless to who was: a removal at a clock that is known, of a client that is not there, changes nothing.
        """
        if not self._buried:
            return None
        return encode_awareness([Entry(client, clock, None) for client, clock in self._buried.items()])

    def _check_limits(self, session: int, accepted: list[Entry]) -> None:
        owned = self._owned.get(session, {})
        clients, entries, size = len(owned), len(self._present), self._bytes
        for client, _, state in accepted:
            here = self._present.get(client)
            if here is not None:
                clients -= client in owned
                entries -= 1
                size -= len(here.state)
            if state is not None:
                clients += 1
                entries += 1
                size += len(state)
        limits = self._limits
        if clients > limits.clients_per_session_max:
            raise TooLarge(f"session speaks for {clients} clients, limit is {limits.clients_per_session_max}")
        if entries > limits.entries_max:
            raise RosterFull(f"{entries} clients would be present, limit is {limits.entries_max}")
        if size > limits.bytes_max:
            raise RosterFull(f"presence of the room would be {size} bytes, limit is {limits.bytes_max}")

    def _apply(self, session: int, entry: Entry, now: float) -> None:
        client, clock, state = entry
        here = self._present.get(client)
        if here is not None and (state is None or here.session != session):
            self._disown(client, here.session)
        if state is None:
            if here is not None:
                self._remove(client, clock, now)
            else:
                self._bury(client, clock)
            return
        if here is not None:
            # Who answers a nudge is news to somebody, though nothing changed.
            kind = Kind.RENEWED if here.state == state and not here.nudged else Kind.CHANGED
            self._bytes -= len(here.state)
        else:
            kind = Kind.ADDED if self._buried.pop(client, None) is None else Kind.CHANGED
        self._present[client] = _Presence(session, entry, state, now)
        self._present.move_to_end(client)
        self._owned.setdefault(session, {})[client] = None
        self._bytes += len(state)
        self._lane.add(client, kind, now)
        self._full = None

    def _remove(self, client: int, clock: int, now: float) -> None:
        """Ends a presence whose owner doesn't list it any more."""
        self._bytes -= len(self._present.pop(client).state)
        self._bury(client, clock)
        self._lane.remove(client, clock, now)
        self._full = None

    def _bury(self, client: int, clock: int) -> None:
        self._buried[client] = clock
        self._buried.move_to_end(client)
        if len(self._buried) > self._limits.clock_memory_max:
            self._buried.popitem(last=False)

    def _disown(self, client: int, session: int) -> None:
        owned = self._owned[session]
        del owned[client]
        if not owned:
            del self._owned[session]
