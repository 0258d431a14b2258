"""Traces: everything a room was given, so that what it did can be done again (`--record DIR`, `tutti replay`).

One file per opening of a room, JSON lines: a header with the room's limits, then one line per call of the machine with
its input (none for a tick), its time, and a hash of the effects it answered with. The machine is deterministic, so a
replay of the inputs must give the same hashes; a bug report is a file. Values are written by their types: any frozen
dataclass of the room's inputs and effects, bytes as base64.
"""

import dataclasses
import hashlib
import types
import typing
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import orjson

from crdt.errors import TuttiError
from server.room import inputs
from server.room.effects import Effect
from server.room.inputs import Input
from server.room.key import RoomKey
from server.room.limits import RoomLimits
from server.room.machine import Room

TRACE_VERSION: Final = 1
"""In each header; a replay refuses a version it does not know (R18)."""

RAISED: Final = "raised"
"""Stands for the effects of a step that ended in an exception."""

_INPUTS: Final = {cls.__name__: cls for cls in typing.get_args(Input)}
assert all(getattr(inputs, name) is cls for name, cls in _INPUTS.items())


class BadTrace(TuttiError):
    """A file that is no trace, or one of another version."""


class TraceFiles:
    """Where a node's traces go."""

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run
        self._opened = 0

    def open(self, key: RoomKey, limits: RoomLimits, *, journal_available: bool) -> "Trace":
        """A new trace for a room that opens now."""
        self._opened += 1
        # 80 characters of name tell a person which room it was; run and number make it unique.
        name = f"{quote(str(key), safe='')[:80]}-{self._run}-{self._opened}.jsonl"
        return Trace((self._folder / name).open("wb"), key, limits, journal_available=journal_available)


class Trace:
    """One room's trace, being written (`server.actor.Recorder`)."""

    def __init__(self, file: BinaryIO, key: RoomKey, limits: RoomLimits, *, journal_available: bool) -> None:
        self._file = file
        self._write(
            {
                "trace": TRACE_VERSION,
                "key": to_plain(key),
                "limits": to_plain(limits),
                "journal_available": journal_available,
            }
        )

    def step(self, event: Input | None, now: float, effects: list[Effect] | None) -> None:
        """One call of the machine: an input, or a tick if None. `effects` is None if it raised."""
        given = None if event is None else {"is": type(event).__name__, **to_plain(event)}
        self._write({"now": now, "input": given, "effects": RAISED if effects is None else fingerprint(effects)})

    def close(self) -> None:
        """The room is closed."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(line) + b"\n")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step that did something else than it did when it was recorded."""

    line: int
    recorded: str
    replayed: str


def replay(path: Path, progress: Callable[[int], None] = lambda _: None) -> tuple[int, Difference | None]:
    """Give a fresh machine what the trace holds. Returns the steps taken and the first difference.

    Raises `BadTrace` with the line that can't be read, `OSError`.
    """
    room: Room | None = None
    steps = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # the node was killed while it wrote this line
            try:
                value = orjson.loads(line)
                if room is None:
                    room = _opened(value)
                    continue
                event = value["input"]
                given = None if event is None else from_plain(_INPUTS[event.pop("is")], event)
                now, recorded = float(value["now"]), str(value["effects"])
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise BadTrace(f"{path} line {number} is not a line of a trace: {error}") from None
            replayed = _step(room, given, now)
            steps += 1
            if replayed != recorded:
                return steps, Difference(number, recorded, replayed)
            progress(steps)
    return steps, None


def _opened(header: dict[str, Any]) -> Room:
    if header.get("trace") != TRACE_VERSION:
        raise BadTrace(f"trace version is {header.get('trace')!r}, this program reads {TRACE_VERSION}")
    room = Room(
        from_plain(RoomKey, header["key"]),
        from_plain(RoomLimits, header["limits"]),
        journal_available=header["journal_available"],
    )
    room.open()
    return room


def _step(room: Room, event: Input | None, now: float) -> str:
    try:
        return fingerprint(room.tick(now) if event is None else room.handle(event, now))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - what the machine raised then, it is to raise now: pycrdt's panics too
        return RAISED


def fingerprint(effects: list[Effect]) -> str:
    """16 hex digits that are equal only for equal effects, every byte of every frame included."""
    plain = [[type(effect).__name__, to_plain(effect)] for effect in effects]
    return hashlib.blake2b(orjson.dumps(plain), digest_size=8).hexdigest()


def to_plain(value: Any) -> Any:
    """A value of frozen dataclasses as JSON has it. Messages inside effects carry their kind, since it matters."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if dataclasses.is_dataclass(value):
        plain = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return plain if "message" not in plain else {**plain, "kind": type(value.message).__name__}  # type: ignore[union-attr]
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: Any, plain: Any) -> Any:
    """The reverse of `to_plain`, led by the type. Raises TypeError, KeyError or ValueError on what does not fit."""
    origin = typing.get_origin(kind)
    if origin in {types.UnionType, typing.Union}:
        if plain is None:
            return None
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
        return from_plain(kind, plain)
    if origin is tuple:
        item, *_ = typing.get_args(kind)
        return tuple(from_plain(item, part) for part in plain)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: from_plain(hints[name], part) for name, part in plain.items()})  # type: ignore[operator]
    if kind is bytes:
        return b64decode(plain)
    return kind(plain)
