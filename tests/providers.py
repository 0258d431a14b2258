"""Real y-websocket providers as Python objects: each `Computer` is a Node process with any number of clients on it.

Owns those processes and the line-by-line conversation with `tests/node/agent.mjs`; knows nothing of the server. Every
request and every wait has a deadline, and what a client held when a wait failed is in the failure.

    with Computer() as computer:
        ann = computer.open(node.ws_url, "room", version="3.1.0")
        ann.edit(("text.insert", 0, "hello"))
        ann.wait("ann is synced", lambda state: state.synced)
"""

import json
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

FOLDER: Final = Path(__file__).resolve().parent / "node"
VERSIONS: Final = ("1.5.4", "2.1.0", "3.1.0")
"""One provider of each major version; what they do differently is in the protocol page."""

_ANSWER_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Connection:
    """One socket a provider made."""

    url: str
    protocol: str | None
    opened: bool
    documentFramesSent: int  # noqa: N815  as the agent spells it
    received: Mapping[str, int]
    """Frames by outer type."""
    saved: list[tuple[int, int]]
    """(subtype, count) of each saved frame."""
    close: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class State:
    """What a client held at one moment."""

    client_id: int
    connected: bool
    synced: bool
    should_connect: bool
    statuses: list[str]
    connections: list[Connection]
    closed: Mapping[str, Any] | None
    presence: Mapping[int, Any]
    presence_clocks: Mapping[int, int]
    content: Mapping[str, Any]
    clocks: Mapping[int, int]
    deletions: Mapping[int, list[list[int]]]
    pending: bool
    complaints: list[str]
    """Errors and warnings printed by anything in the client's whole process."""

    @property
    def text(self) -> str:
        return "".join(part["insert"] for part in self.content["text"])

    @property
    def document(self) -> tuple[object, ...]:
        """All that makes two replicas the same: content, clocks, deletions, nothing waiting."""
        return (self.content, self.clocks, self.deletions, self.pending)


class Client:
    """One provider with its document."""

    def __init__(self, computer: "Computer", name: str) -> None:
        self._computer = computer
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def edit(self, *edits: tuple[Any, ...]) -> None:
        """Edits in one transaction, each as (what, arguments…); see `edits` in the agent."""
        self._ask("edit", edits=edits)

    def present(self, state: object) -> None:
        """Sets its own presence; None leaves."""
        self._ask("present", state=state)

    def connect(self) -> None:
        self._ask("connect")

    def disconnect(self) -> None:
        self._ask("disconnect")

    def destroy(self) -> None:
        self._ask("destroy")

    def drop(self) -> None:
        """Its socket goes without goodbye; it reconnects by itself."""
        self._ask("drop")

    def vanish(self) -> None:
        """Its socket goes without goodbye, and it stays away."""
        self._ask("vanish")

    @property
    def state(self) -> State:
        raw = self._ask("snapshot")
        return State(
            client_id=raw["clientId"],
            connected=raw["connected"],
            synced=raw["synced"],
            should_connect=raw["shouldConnect"],
            statuses=raw["statuses"],
            connections=[
                Connection(**{**connection, "saved": [(subtype, count) for subtype, count in connection["saved"]]})
                for connection in raw["connections"]
            ],
            closed=raw["closed"],
            presence=_by_client(raw["presence"]),
            presence_clocks=_by_client(raw["presenceClocks"]),
            content=raw["content"],
            clocks=_by_client(raw["clocks"]),
            deletions=_by_client(raw["deletions"]),
            pending=raw["pending"],
            complaints=raw["complaints"],
        )

    def wait(self, what: str, holds: Callable[[State], bool], *, within_s: float = 10.0) -> State:
        """The first state in which it holds; `AssertionError` naming `what` with the last state if none does in time."""
        deadline = time.monotonic() + within_s
        while True:
            state = self.state
            if holds(state):
                return state
            if time.monotonic() > deadline:
                raise AssertionError(f"after {within_s:g} s still not so: {what}; {self} holds {state}")
            time.sleep(0.02)

    def wait_synced(self, *, within_s: float = 10.0) -> State:
        return self.wait(f"{self} is synced", lambda state: state.synced, within_s=within_s)

    def _ask(self, request: str, **arguments: object) -> Any:
        return self._computer.ask(request, client=self._name, **arguments)


class Computer:
    """A Node process; a context manager. `kill` is how everybody on it dies at once, without goodbye."""

    def __init__(self) -> None:
        self._clients = 0

    def __enter__(self) -> Self:
        if not (FOLDER / "node_modules").is_dir():
            raise RuntimeError("the JavaScript providers are not installed: run `npm ci` in tests/node")
        self._stderr = tempfile.TemporaryFile("a+b")
        self._process = subprocess.Popen(
            ["node", "agent.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # A thread, because a pipe cannot be read with a deadline line by line.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._stderr.close()

    def open(
        self,
        url: str,
        room: str,
        *,
        version: str = "3.1.0",
        name: str | None = None,
        presence: object = None,
        saved: bool = False,
        **options: object,
    ) -> Client:
        """A client that connects at once. `saved` listens to saved frames; `options` are the provider's own."""
        self._clients += 1
        client = f"{name or 'client'}-{self._clients} (y-websocket {version})"
        self.ask(
            "open", client=client, version=version, url=url, room=room, presence=presence, saved=saved, options=options
        )
        return Client(self, client)

    def ask(self, request: str, **arguments: object) -> Any:
        """One request to the agent and its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": request, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=_ANSWER_WITHIN_S)
        except queue.Empty:
            raise AssertionError(f"no answer to {request} after {_ANSWER_WITHIN_S:g} s\n{self._printed()}") from None
        if not line:
            raise AssertionError(f"the agent ended at {request}\n{self._printed()}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{request} failed in the agent: {answer['error']}")
        return answer["value"]

    def kill(self) -> None:
        """SIGKILL; harmless when repeated."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _printed(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")


def wait_same(*clients: Client, within_s: float = 10.0, having: Callable[[State], bool] = lambda _state: True) -> State:
    """Waits until all hold the same document and `having` is true of it; that state of the first one."""
    deadline = time.monotonic() + within_s
    while True:
        states = [client.state for client in clients]
        if having(states[0]) and all(state.document == states[0].document for state in states):
            return states[0]
        if time.monotonic() > deadline:
            held = "\n".join(f"{client}: {state}" for client, state in zip(clients, states, strict=True))
            raise AssertionError(f"not the same document after {within_s:g} s:\n{held}")
        time.sleep(0.02)


def _by_client(raw: Mapping[str, Any]) -> dict[int, Any]:
    """JSON keys are text; client ids are not."""
    return {int(client): value for client, value in raw.items()}
