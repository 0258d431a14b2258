"""Unmodified y-websocket providers of three major versions against the real server: what their users would notice."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_socket

from tests.providers import VERSIONS, Client, Computer, State, wait_same
from tests.serving import Serve

pytestmark = [pytest.mark.integration, pytest.mark.node]

ROOMS_FULL = [*((version, version) for version in VERSIONS), VERSIONS]
each_version = pytest.mark.parametrize("version", VERSIONS)
each_room = pytest.mark.parametrize("versions", ROOMS_FULL, ids=[*VERSIONS, "mixed"])

NewComputer = Callable[[], Computer]


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """For tests that don't end it: each uses rooms of its own."""
    with Serve(tmp_path_factory.mktemp("node") / "data") as node:
        yield node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serve]:
    """For tests that end and restart it."""
    with Serve(tmp_path / "data") as node:
        yield node


@pytest.fixture
def new_computer() -> Iterator[NewComputer]:
    with ExitStack() as computers:
        yield lambda: computers.enter_context(Computer())


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room nobody else is in."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


def everybody(computer: Computer, node: Serve, room: str, versions: Sequence[str], **how: Any) -> list[Client]:
    """A client of each version, all synced."""
    clients = [computer.open(node.ws_url, room, version=version, **how) for version in versions]
    for client in clients:
        client.wait_synced()
    return clients


def no_complaints(*clients: Client) -> None:
    assert [complaint for client in clients for complaint in client.state.complaints] == []


# -- documents -------------------------------------------------------------------------------------------------------


@each_room
def test_every_kind_of_content_is_the_same_everywhere(
    shared_node: Serve, new_computer: NewComputer, room: str, versions: Sequence[str]
) -> None:
    computer = new_computer()
    clients = everybody(computer, shared_node, room, versions)
    ann, ben, *_ = clients
    ann.edit(("text.insert", 0, "hello wörld 😀"), ("text.format", 0, 5, {"bold": True}))
    ann.edit(
        ("map.set", "deep", {"map": {"list": {"array": [1, {"map": {"x": "y"}}]}, "none": None}}),
        ("map.set", "gone", 1),
    )
    ben.edit(("array.insert", 0, [1, "two", 3.5, True, None, {"map": {"k": [1, 2]}}]))
    ben.edit(
        (
            "xml.insert",
            [],
            0,
            [
                {
                    "element": "doc",
                    "attributes": {"lang": "de"},
                    "children": [{"element": "p", "children": [{"text": "eins"}]}],
                }
            ],
        )
    )
    wait_same(*clients, having=lambda state: "eins" in state.content["xml"] and state.content["map"] != {})
    ben.edit(("text.delete", 0, 6), ("map.delete", "gone"), ("map.set", "ben", "was here"))
    ann.edit(
        ("array.delete", 1, 1),
        ("xml.attribute", [0, 0], "align", "left"),
        ("xml.insert", [0], 1, [{"element": "hr"}, {"text": "end"}]),
    )
    ann.edit(("xml.delete", [0, 0], 0, 1))
    state = wait_same(
        *clients,
        having=lambda state: (
            state.text == "wörld 😀" and state.content["array"][1:2] == [3.5] and "end" in state.content["xml"]
        ),
    )
    assert state.content == {
        "text": [{"insert": "wörld 😀"}],
        "map": {"deep": {"list": [1, {"x": "y"}], "none": None}, "ben": "was here"},
        "array": [1, 3.5, True, None, {"k": [1, 2]}],
        "xml": '<doc lang="de"><p align="left"></p><hr></hr>end</doc>',
    }
    late = computer.open(shared_node.ws_url, room, version=versions[0], name="late")
    late.wait_synced()
    assert late.state.document == state.document, "what a fresh client is given at once is the whole document"
    no_complaints(*clients, late)


@each_room
def test_typing_at_once_in_one_place_converges(
    shared_node: Serve, new_computer: NewComputer, room: str, versions: Sequence[str]
) -> None:
    clients = everybody(new_computer(), shared_node, room, versions)
    for turn in range(40):
        for client in clients:
            client.edit(("text.insert", 0, f"{turn % 10}"), ("array.insert", 0, [turn]))
            if turn % 5 == 4:
                client.edit(("text.delete", 1, 2), ("array.delete", 0, 1))
    state = wait_same(*clients, having=lambda state: len(state.content["array"]) == (40 - 8) * len(clients))
    assert len(state.clocks) == len(clients)
    no_complaints(*clients)


@each_version
def test_offline_edits_and_deletions_come_home_and_outlive_their_author(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    computer = new_computer()
    ann, ben = everybody(computer, shared_node, room, (version, version))
    ann.edit(("text.insert", 0, "keep this, drop that"), ("map.set", "a", 1), ("array.insert", 0, [1, 2, 3]))
    wait_same(ann, ben, having=lambda state: state.text != "")
    ann.disconnect()
    ann.wait("ann is offline", lambda state: not state.connected)
    ann.edit(("text.delete", 9, 11))
    ann.edit(("map.delete", "a"), ("map.set", "offline", True), ("array.delete", 0, 2))
    ben.edit(("text.insert", 0, "ben: "))
    ann.connect()
    wait_same(
        ann, ben, having=lambda state: state.content["map"] == {"offline": True} and state.text.startswith("ben: ")
    )
    computer.kill()
    fresh = new_computer().open(shared_node.ws_url, room, version=version)
    state = fresh.wait_synced()
    assert state.content == {"text": [{"insert": "ben: keep this"}], "map": {"offline": True}, "array": [3], "xml": ""}
    assert not state.pending


@each_version
def test_the_whole_first_document_of_an_author_may_be_made_offline(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    """Nothing but the answer to the server's step 1 brings it."""
    computer = new_computer()
    ann = computer.open(shared_node.ws_url, room, version=version)
    ann.disconnect()
    ann.edit(("text.insert", 0, "made on the train"))
    ann.connect()
    ann.wait_synced()
    ben = new_computer().open(shared_node.ws_url, room, version=version)
    ben.wait("ben has it", lambda state: state.text == "made on the train")


# -- the server goes and comes back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [Serve.stop, Serve.kill], ids=["SIGTERM", "SIGKILL"])
@each_room
def test_clients_outlive_the_server(
    node: Serve, new_computer: NewComputer, versions: Sequence[str], end: Callable[[Serve], object]
) -> None:
    computer = new_computer()
    clients = everybody(computer, node, "room", versions)
    ann, *others = clients
    ann.edit(("text.insert", 0, "before "), ("xml.insert", [], 0, [{"element": "p"}]))
    wait_same(*clients, having=lambda state: state.text != "")
    end(node)
    for client in clients:
        client.wait("the loss is noticed", lambda state: not state.connected)
    ann.edit(("text.append", "during "))
    for client in others:
        client.edit(("array.insert", 0, ["meanwhile"]), ("xml.delete", [], 0, 1))
    node.restart()
    state = wait_same(
        *clients,
        within_s=20,
        having=lambda state: len(state.content["array"]) == len(others) and "during" in state.text,
    )
    assert (state.text, state.content["xml"]) == ("before during ", "")
    ann.edit(("text.append", "after"))
    wait_same(*clients, having=lambda state: state.text == "before during after")
    computer.kill()
    fresh = new_computer().open(node.ws_url, "room", version=versions[0])
    fresh.wait("a fresh client has it all", lambda state: state.text == "before during after")
    assert fresh.state.content["array"] == ["meanwhile"] * len(others)


@each_version
def test_what_was_saved_is_there_after_a_kill_without_its_author(
    node: Serve, new_computer: NewComputer, version: str
) -> None:
    computer = new_computer()
    (ann,) = everybody(computer, node, "room", (version,), saved=True, params={"saved": "1"})
    for number in range(30):
        ann.edit(("array.insert", number, [number]), ("text.insert", 0, "x"))
        if number % 3 == 2:
            ann.edit(("text.delete", 0, 1))
    ann.wait("all is saved", all_saved)
    computer.kill()
    node.kill()
    node.restart()
    fresh = new_computer().open(node.ws_url, "room", version=version)
    state = fresh.wait_synced()
    assert (state.content["array"], state.text) == (list(range(30)), "x" * 20)


# -- presence --------------------------------------------------------------------------------------------------------


def sees(*people: Client, as_: Callable[[Client], object] | None = None) -> Callable[[State], bool]:
    """Whether exactly these are present (with these states)."""
    ids = {person.state.client_id: person for person in people}

    def holds(state: State) -> bool:
        return set(state.presence) == set(ids) and (
            as_ is None or all(state.presence[i] == as_(person) for i, person in ids.items())
        )

    return holds


@each_room
def test_people_appear_with_what_they_show_and_leave(
    shared_node: Serve, new_computer: NewComputer, room: str, versions: Sequence[str]
) -> None:
    clients = everybody(new_computer(), shared_node, room, versions)
    shown = {
        str(client): {"user": {"name": f"ü😀 {client}"}, "cursor": {"anchor": 1, "head": None}} for client in clients
    }
    for client in clients:
        client.present(shown[str(client)])
    for client in clients:
        client.wait("everybody is seen", sees(*clients, as_=lambda person: shown[str(person)]))
    ann, *others = clients
    ann.disconnect()
    for client in others:
        client.wait("ann left", sees(*others), within_s=3)
    ann.connect()
    # y-websocket 3.1 comes back at the very clock it left with: a server that only follows the clock rule hides it
    # until its next renewal, 15 s later.
    for client in others:
        client.wait("ann is back", sees(*clients), within_s=5)
    no_complaints(*clients)


@each_room
def test_people_who_vanish_are_removed_also_after_they_came_back(
    shared_node: Serve, new_computer: NewComputer, room: str, versions: Sequence[str]
) -> None:
    """A server that remembers only whom a socket *added* leaves a ghost of everybody who was there before."""
    clients = everybody(new_computer(), shared_node, room, versions)
    ann, *others = clients
    for client in clients:
        client.present({"name": str(client)})
    for client in clients:
        client.wait("everybody is seen", sees(*clients))
    for _ in range(2):
        ann.vanish()
        for client in others:
            client.wait("ann's socket went", sees(*others), within_s=5)
        ann.connect()
        for client in others:
            client.wait("ann is back", sees(*clients), within_s=5)
        ann.disconnect()
        for client in others:
            client.wait("ann left", sees(*others), within_s=5)
        ann.connect()
        for client in others:
            client.wait("ann is back again", sees(*clients), within_s=5)


@each_room
def test_a_computer_that_dies_takes_its_people_along(
    shared_node: Serve, new_computer: NewComputer, room: str, versions: Sequence[str]
) -> None:
    dying = new_computer()
    (stays,) = everybody(new_computer(), shared_node, room, versions[:1])
    stays.present({"name": "stays"})
    goes = everybody(dying, shared_node, room, versions)
    for client in goes:
        client.present({"name": str(client)})
    stays.wait("everybody is seen", sees(stays, *goes))
    dying.kill()
    stays.wait("only one is left", sees(stays), within_s=5)


@each_version
def test_a_short_loss_of_the_socket_brings_everybody_back(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    """Also those who stay quiet, whose clocks the one who lost its socket remembers: not with their next renewal, 15 s on."""
    clients = everybody(new_computer(), shared_node, room, (version, version, version))
    for client in clients:
        client.present({"name": str(client)})
    for client in clients:
        client.wait("everybody is seen", sees(*clients))
    ann, *others = clients
    ann.drop()
    ann.wait("ann is on a second socket", lambda state: len(state.connections) == 2 and state.synced)
    for client in clients:
        client.wait("everybody is seen again", sees(*clients, as_=lambda person: {"name": str(person)}), within_s=3)
    ann.present({"name": "renamed"})
    for client in others:
        client.wait("the new name is seen", lambda state: {"name": "renamed"} in state.presence.values())
    no_complaints(*clients)


@each_room
def test_people_see_each_other_again_at_once_after_the_server_was_away(
    node: Serve, new_computer: NewComputer, versions: Sequence[str]
) -> None:
    """Every provider remembers the clock of everybody it ever saw, and they come back with the same one."""
    clients = everybody(new_computer(), node, "room", versions)
    for client in clients:
        client.present({"name": str(client)})
    for client in clients:
        client.wait("everybody is seen", sees(*clients))
    node.restart()
    for client in clients:
        client.wait("the client is back", lambda state: len(state.connections) > 1 and state.synced, within_s=20)
    for client in clients:
        client.wait("everybody is seen again", sees(*clients), within_s=5)


def test_a_late_comer_is_told_who_is_here(shared_node: Serve, new_computer: NewComputer, room: str) -> None:
    (ann,) = everybody(new_computer(), shared_node, room, ("3.1.0",))
    ann.present({"name": "ann"})
    ben = new_computer().open(shared_node.ws_url, room)
    ben.wait("ben sees ann", lambda state: {"name": "ann"} in state.presence.values(), within_s=3)


# -- staying connected -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_silent_clients_in_silent_rooms_are_never_dropped(
    shared_node: Serve, new_computer: NewComputer, room: str
) -> None:
    """Each provider closes a connection that brought no message for 30 s; WebSocket pings don't count for it."""
    computer = new_computer()
    silent = [everybody(computer, shared_node, f"{room}-{version}", (version,))[0] for version in VERSIONS]
    shown = [
        everybody(computer, shared_node, f"{room}-{version}-shown", (version,), presence={"name": "x"})[0]
        for version in VERSIONS
    ]
    end = time.monotonic() + 70
    while time.monotonic() < end:
        time.sleep(5)
        assert all(client.state.connected for client in (*silent, *shown))
    for client in (*silent, *shown):
        state = client.state
        assert len(state.connections) == 1
        assert state.statuses.count("disconnected") == 0
    no_complaints(*silent, *shown)


@each_version
def test_asking_again_and_again_is_answered(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    (ann,) = everybody(new_computer(), shared_node, room, (version,), resyncInterval=100)
    before = ann.state.connections[0].received["0"]
    ann.wait("ten step 2 more", lambda state: state.connections[0].received["0"] >= before + 10, within_s=5)
    assert len(ann.state.connections) == 1


# -- names and addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "other"),
    [
        (("with space", "with%20space"), "with+space"),
        (("ünï😀", "%C3%BCn%C3%AF%F0%9F%98%80"), "uni"),
        (("a/b/c", "a%2Fb%2Fc", "a/b%2fc"), "a/b"),
        (("100%25", "%31%30%30%25"), "100"),
        (("double%252F", "d%6Fuble%252F"), "double%2F"),
        (("dots%2F..%2Fin", "dots%2f..%2fin"), "in"),
    ],
    ids=["space", "unicode", "slashes", "percent", "twice", "dots"],
)
def test_a_room_is_one_however_its_name_is_spelled(
    shared_node: Serve, new_computer: NewComputer, spellings: Sequence[str], other: str
) -> None:
    computer = new_computer()
    clients = [
        computer.open(shared_node.ws_url, spelling, version=version) for spelling in spellings for version in VERSIONS
    ]
    elsewhere = computer.open(shared_node.ws_url, other)
    for client in (*clients, elsewhere):
        client.wait_synced()
    clients[0].edit(("text.insert", 0, "found"))
    wait_same(*clients, having=lambda state: state.text == "found")
    assert elsewhere.state.text == ""


@each_version
def test_parameters_are_no_part_of_the_name(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    computer = new_computer()
    (plain,) = everybody(computer, shared_node, room, (version,))
    (with_parameters,) = everybody(computer, shared_node, room, (version,), params={"token": "a b&c=/ü", "x": "1"})
    assert "?token=a%20b%26c%3D%2F" in with_parameters.state.connections[0].url
    plain.edit(("text.insert", 0, "found"))
    wait_same(plain, with_parameters, having=lambda state: state.text == "found")


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_one_of_the_offered_subprotocols_is_chosen(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    """A browser fails a connection whose offer is not taken up."""
    (ann,) = everybody(new_computer(), shared_node, room, (version,), protocols=["foo", "bar"])
    (connection,) = ann.state.connections
    assert connection.protocol == "foo"


# -- saved -----------------------------------------------------------------------------------------------------------


def all_saved(state: State) -> bool:
    """Whether the last count on the present connection covers all document frames sent on it."""
    connection = state.connections[-1]
    return bool(connection.saved) and connection.saved[-1] == (0, connection.documentFramesSent)


@each_version
def test_the_saved_count_reaches_what_was_sent(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str
) -> None:
    computer = new_computer()
    (ann,) = everybody(computer, shared_node, room, (version,), saved=True, params={"saved": "1"})
    (ben,) = everybody(computer, shared_node, room, (version,), saved=True, params={"saved": "1"})
    assert ann.wait("the server says that it counts", lambda state: bool(state.connections[0].saved)).connections[
        0
    ].saved[0] == (0, 0)
    for number in range(5):
        ann.edit(("text.insert", 0, "x"))
        ann.edit(("text.insert", 0, "yz"))
        ben.wait("there is something to delete", lambda state: len(state.text) >= 2)
        ben.edit(("text.delete", 0, 1), ("map.set", "k", number))
    for client in (ann, ben):
        state = client.wait("all is saved", all_saved)
        counts = [count for _, count in state.connections[0].saved]
        assert counts == sorted(set(counts)), "each frame tells more than the one before"
        assert counts[-1] >= 5
    ann.drop()
    ann.wait(
        "all is saved on a new connection, which counts from its own start",
        lambda state: len(state.connections) == 2 and all_saved(state),
    )
    ann.edit(("text.insert", 0, "y"))
    ann.wait("and goes on counting", lambda state: state.connections[1].saved[-1][1] >= 2 and all_saved(state))
    no_complaints(ann, ben)


@each_version
def test_offline_edits_are_counted_saved_when_they_come_home(
    node: Serve, new_computer: NewComputer, version: str
) -> None:
    computer = new_computer()
    (ann,) = everybody(computer, node, "room", (version,), saved=True, params={"saved": "1"})
    ann.disconnect()
    ann.edit(("text.insert", 0, "offline"))
    ann.connect()
    ann.wait("all is saved", lambda state: len(state.connections) == 2 and state.synced and all_saved(state))
    computer.kill()
    node.kill()
    node.restart()
    fresh = new_computer().open(node.ws_url, "room", version=version)
    assert fresh.wait_synced().text == "offline"


@each_version
@pytest.mark.parametrize("params", [{}, {"saved": "0"}], ids=["unasked", "declined"])
def test_nobody_is_told_who_did_not_ask(
    shared_node: Serve, new_computer: NewComputer, room: str, version: str, params: dict[str, str]
) -> None:
    """A provider prints an error for each frame it does not know."""
    clients = everybody(new_computer(), shared_node, room, (version, version), params=params)
    for client in clients:
        client.edit(("text.insert", 0, "x"))
    wait_same(*clients, having=lambda state: state.text == "xx")
    time.sleep(0.5)  # longer than any commit: what would come has come
    for client in clients:
        assert set(client.state.connections[0].received) <= {"0", "1"}
    no_complaints(*clients)


# -- single frames ---------------------------------------------------------------------------------------------------


def receive_until(socket: Any, wanted: Callable[[bytes], bool], *, within_s: float = 5.0) -> bytes:
    """The first frame that is wanted; `TimeoutError` if none comes."""
    deadline = time.monotonic() + within_s
    while True:
        frame = socket.recv(timeout=max(0.0, deadline - time.monotonic()))
        if wanted(frame):
            return bytes(frame)


def test_a_query_for_presence_is_answered(shared_node: Serve, new_computer: NewComputer, room: str) -> None:
    (ann,) = everybody(new_computer(), shared_node, room, ("3.1.0",))
    ann.present({"name": "ann of the query"})
    with connect_socket(f"{shared_node.ws_url}/{room}") as socket:
        deadline = time.monotonic() + 5
        while True:  # she may not be in the room's roster yet when the question comes
            socket.send(b"\x03")
            answer = receive_until(socket, lambda frame: frame[0] == 1)
            if b"ann of the query" in answer:
                break
            assert time.monotonic() < deadline
        # The first of these may have been the greeting or the broadcast; the next can only be an answer.
        socket.send(b"\x03")
        assert b"ann of the query" in receive_until(socket, lambda frame: frame[0] == 1)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x03\x00",
        b"\x00\x02\x05\x01",
        b"\x00\x02\x02\xff\xff",
        b"\x00\x00\x02\x05\x01",
        b"\x01\x02\x01\x07",
        "text",
    ],
    ids=[
        "empty",
        "no-subtype",
        "unknown-subtype",
        "cut",
        "broken-update",
        "broken-vector",
        "broken-presence",
        "text-frame",
    ],
)
def test_a_malformed_frame_ends_its_own_connection_only(
    shared_node: Serve, new_computer: NewComputer, room: str, frame: bytes | str
) -> None:
    clients = everybody(new_computer(), shared_node, room, ("3.1.0", "2.1.0"))
    with connect_socket(f"{shared_node.ws_url}/{room}") as socket:
        socket.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            receive_until(socket, lambda _frame: False)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    clients[0].edit(("text.insert", 0, "still here"))
    wait_same(*clients, having=lambda state: state.text == "still here")
    assert [len(client.state.connections) for client in clients] == [1, 1]


def test_a_final_close_stops_the_provider_that_knows_them(shared_node: Serve, new_computer: NewComputer) -> None:
    """A room name that will never be right; 3.1 says so to its application and stays away, until it is told to try."""
    computer = new_computer()
    ann = computer.open(shared_node.ws_url, "%FF%FE", version="3.1.0")
    state = ann.wait("ann gave up", lambda state: state.closed is not None)
    assert state.closed is not None
    assert 4400 <= state.closed["code"] < 4500
    assert state.closed["reason"]
    time.sleep(1.0)
    assert len(ann.state.connections) == 1
    ann.connect()
    ann.wait("a second try", lambda state: len(state.connections) == 2 and state.connections[1].close is not None)


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_a_final_close_does_not_let_old_providers_storm(
    shared_node: Serve, new_computer: NewComputer, version: str
) -> None:
    """They try again for ever, and faster than one a second if they are refused at once after opening."""
    ann = new_computer().open(shared_node.ws_url, "%FF%FE", version=version)
    ann.wait("refused", lambda state: any(connection.close is not None for connection in state.connections))
    before = len(ann.state.connections)
    time.sleep(3.0)
    assert len(ann.state.connections) - before <= 6
