"""Everything about a node that can be turned, in one frozen object.

`Settings(...)` takes keyword arguments and nothing else, so a test or an embedding program gets exactly what it wrote.
`server.configuration.load` is what the command line uses: it alone reads flags, environment and file.

Names end in their unit (`_ms`, `_s`, `_bytes`) and bound (`_max`, `_min`). What enforces a limit stands elsewhere; here
stands what each is, and what turning it does: the text below a field is its text in `tutti serve --help`.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from crdt.errors import TuttiError

KIB: Final = 1024
MIB: Final = 1024 * KIB

_HOSTNAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s,]+")

_AT_MOST: Final = (
    ("tick_interval_ms", "tick_interval_max_ms", "the interval stretches under load, it never shrinks"),
    ("sessions_per_room_max", "sessions_max", "a room's sessions are sessions of its node"),
    ("message_bytes_max", "document_bytes_max", "a message that fits into no document need not be read"),
    ("held_bytes_per_session_max", "held_bytes_max", "one session's share is part of its room's"),
    ("outbox_slice_bytes", "outbox_bytes_max", "a slice must fit into the outbox"),
    ("presence_state_bytes_max", "presence_bytes_max", "one state must fit into its room"),
    ("commit_interval_ms", "commit_interval_busy_ms", "the interval grows with load, it never shrinks"),
)
"""The first must be at most the second, and why."""


class SettingsError(TuttiError):
    """What a flag, variable or file asks for can't be done. The message is the one sentence its operator reads; exit code 2."""


def _refusal(allowed: str) -> PydanticCustomError:
    """A value that is not `allowed`, which ends the sentence "it must be …"."""
    return PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})


def _host(value: object) -> str:
    """Takes the brackets off an IPv6 address; `10.0.0.300` is a mistyped address, though it would do for a name."""
    if isinstance(value, str):
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            last_label = bare.rstrip(".").rpartition(".")[2]
            if bare == value and _HOSTNAME.fullmatch(bare) and not last_label.isdigit():
                return bare
        else:
            return bare
    raise _refusal("an IP address or a host name, without a port")


def _path(value: object) -> Path:
    """Refuses what `Path` would quietly take for the current folder, and what no file system can name."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise _refusal("a path, not empty")
    return Path(value)


def _origins(value: object) -> tuple[str, ...]:
    """Flags and variables give one string with commas, TOML and code give a list."""
    origins = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if isinstance(origins, list | tuple) and all(
        isinstance(origin, str) and (origin == "*" or _ORIGIN.fullmatch(origin)) for origin in origins
    ):
        return tuple(origins)
    raise _refusal("origins such as https://app.example.org, without a path, with commas between them, or *")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=KIB)]
Folder = Annotated[Path, BeforeValidator(_path)]


class Settings(BaseSettings):
    """One node's settings. Frozen: what runs is what was checked at the start."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    sections: ClassVar[Mapping[str, str]] = {
        "host": "where it listens, what it keeps",
        "tick_interval_ms": "the tick: how often a room sends",
        "room_idle_evict_s": "how many rooms and sessions",
        "message_bytes_max": "how large messages and documents get",
        "session_inbox_bytes_max": "slow and silent connections",
        "presence_state_bytes_max": "presence",
        "commit_interval_ms": "the journal",
        "restart_max": "when something breaks",
        "cors_origins": "the web side",
    }

    host: Annotated[str, BeforeValidator(_host)] = "127.0.0.1"
    """Address to listen on. 0.0.0.0 or :: lets other machines in, and nobody is asked who they are: put a proxy that asks in front."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on. 0 takes a free one and says which."""
    data_dir: Folder = Path("data")
    """Folder of the journal. Created when missing; one node at a time owns it."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    """Least severe line that is logged."""
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = "text"
    """text is for people, json is one object per line."""

    tick_interval_ms: Annotated[float, Field(ge=1, le=1000)] = 16
    """Least time between two ticks of a busy room; the first edit after a quiet spell never waits. Higher: fewer and fuller frames, less CPU, that much more delay."""
    tick_interval_max_ms: Annotated[float, Field(ge=1, le=10_000)] = 200
    """How far that time stretches by itself while the node is busy. Higher: more load before readers fall behind, but typing arrives in larger pieces."""
    gather_ms: Annotated[float, Field(ge=0, le=20)] = 4
    """Least time between two looks at the sockets of a busy node (200 messages a second and more), so that messages are handled together. Higher: less CPU, that much more delay; 0 turns it off."""
    tick_updates_max: Count = 512
    """Updates one tick takes; the rest waits for the next. Higher: one busy room may hold up the others for longer."""
    tick_bytes_max: Bytes = 256 * KIB
    """Bytes of updates one tick takes; the rest waits for the next. A larger single update is taken alone."""

    room_idle_evict_s: Annotated[float, Field(ge=0, le=86_400)] = 30
    """How long a room stays in memory after its last session left. Higher: quicker to come back to, more memory."""
    rooms_open_max: Count = 50_000
    """Rooms in memory at once. One more is refused, to be tried again later."""
    sessions_max: Count = 60_000
    """Open sessions on this node. One more is refused, to be tried again later."""
    sessions_per_room_max: Count = 5_000
    """Open sessions in one room. One more is refused, to be tried again later."""
    room_name_bytes_max: Annotated[int, Field(ge=1, le=64 * KIB)] = 1024
    """Longest room name, in UTF-8 bytes."""

    message_bytes_max: Annotated[int, Field(ge=64 * KIB)] = 32 * MIB
    """Largest message a client may send. What somebody wrote offline comes home as one message, so a low limit locks them out for good."""
    document_bytes_max: Annotated[int, Field(ge=64 * KIB)] = 256 * MIB
    """Largest document. Edits that would go past it are refused."""
    held_bytes_max: Annotated[int, Field(ge=0)] = 4 * MIB
    """Bytes of edits one room holds back while what they build on is missing. Past it the sender is asked to sync anew."""
    held_updates_max: Annotated[int, Field(ge=0)] = 2_000
    """The same as a number of edits. Higher: more disorder is borne, and each costs a little at every later edit."""
    held_bytes_per_session_max: Annotated[int, Field(ge=0)] = MIB
    """How much of it one session may fill."""

    session_inbox_bytes_max: Bytes = 4 * MIB
    """Bytes received but not yet handled, above which a session's socket is not read. Its sender waits, nothing is lost."""
    outbox_bytes_max: Bytes = MIB
    """Unsent bytes above which a reader gets no presence and, in place of each edit, one difference once it caught up. Lower: less memory for a slow reader."""
    outbox_slice_bytes: Bytes = 256 * KIB
    """A large frame goes out in slices of this size, as the reader takes them."""
    slow_reader_close_s: Seconds = 60
    """How long a reader that is owed a difference may take nothing. Then it is closed, and may come back."""
    send_keepalive_s: Annotated[float, Field(gt=0, lt=25)] = 20
    """Longest silence towards a client; then it is sent a small message. Providers drop a connection after 30 s without one, WebSocket pings don't count."""
    ping_interval_s: Annotated[float, Field(ge=1, le=3600)] = 30
    """Time between WebSocket pings; one unanswered when the next is due closes the connection. Lower: the dead are found sooner."""
    handshake_timeout_s: Annotated[float, Field(gt=0, le=300)] = 10
    """How long a connection may take to open before it is dropped."""
    close_delay_s: Annotated[float, Field(ge=0, le=60)] = 2
    """Wait before a close that clients answer by coming back at once. Lower: a refused client tries more often."""

    presence_state_bytes_max: Annotated[int, Field(ge=64, le=MIB)] = 16 * KIB
    """Largest presence state (name, colour, cursor) of one client, in bytes of JSON."""
    presence_clients_per_session_max: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Clients one session may speak for. Above it the session is closed. A browser tab relays the other tabs of its browser."""
    presence_bytes_max: Bytes = 4 * MIB
    """Bytes of all presence states in one room. Whoever would go past it is closed."""
    presence_expiry_s: Annotated[float, Field(ge=20, le=600)] = 30
    """Not heard of for this long, a client is gone. Browsers repeat their state each 15 to 18 s and forget others after 30 s."""
    presence_renewal_interval_s: Annotated[float, Field(gt=0, le=8)] = 2
    """Repeated states that change nothing are gathered for this long. Higher: fewer frames in large rooms, less time left before browsers forget somebody."""

    commit_interval_ms: Annotated[float, Field(ge=0, le=1000)] = 5
    """Edits of all rooms are gathered for this long, then written to disk together and confirmed as saved. Higher: less disk and CPU, later confirmation."""
    commit_interval_busy_ms: Annotated[float, Field(ge=0, le=1000)] = 25
    """The same while one commit follows another."""
    journal_retry_s: Annotated[float, Field(gt=0, le=60)] = 1
    """Pause before the disk is tried again after a failed write. Nothing is confirmed as saved meanwhile."""
    compact_rows_min: Count = 500
    """Rows of a room from which it is folded into a snapshot. Lower: rooms open faster, more work in the background."""
    compact_bytes_min: Bytes = MIB
    """The same in bytes of its rows; whichever comes first."""

    restart_max: Annotated[int, Field(ge=1, le=1000)] = 3
    """How often a room may be rebuilt from the journal within restart_window_s before it is put aside."""
    restart_window_s: Seconds = 60
    """The time within which these rebuilds are counted."""
    quarantine_s: Seconds = 300
    """How long a room that was put aside stays closed before it is tried again. Its bytes are kept."""
    shutdown_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10
    """How long stopping may take: sockets closed, last edits written. What is not done by then is cut off."""

    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ()
    """Origins whose pages may call the HTTP API, with commas between them; * is any."""
    record_dir: Annotated[Path | None, BeforeValidator(lambda value: None if value is None else _path(value))] = None
    """Folder to record what every room is given, to replay a failure from. Holds the documents' content and grows without bound."""
    web: bool = True
    """Serve the web app at /."""
    metrics: bool = True
    """Serve counters for Prometheus at /metrics."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings calls it by these names)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed: pydantic's environment source can't say which variable a wrong value came from."""
        return (init_settings,)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: object, info: ValidationInfo) -> object:
        # Python's True is the number 1, so `port = true` in a file would listen on port 1.
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in {int, float}:
            raise PydanticCustomError("bool_as_number", "a number, not true or false")
        return value

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        for low, high, why in _AT_MOST:
            low_value, high_value = getattr(self, low), getattr(self, high)
            if low_value > high_value:
                raise PydanticCustomError(
                    "relation",
                    "{low} ({low_value}) must be at most {high} ({high_value}): {why}",
                    {"low": low, "low_value": low_value, "high": high, "high_value": high_value, "why": why},
                )
        return self


_BOUND_WORDS: Final = {"ge": "from", "gt": "above", "le": "up to", "lt": "and below"}


def allowed(field: str) -> str:
    """What a number, choice or switch takes, as a sentence's end: `a whole number from 0 up to 65535`. Else empty."""
    info = Settings.model_fields[field]
    if info.annotation is bool:
        return "true or false"
    if info.annotation in {int, float}:
        bounds = {name: getattr(rule, name) for rule in info.metadata for name in _BOUND_WORDS if hasattr(rule, name)}
        words = [f"{word} {bounds[name]}" for name, word in _BOUND_WORDS.items() if name in bounds]
        return " ".join(["a whole number" if info.annotation is int else "a number", *words, *["up"][: 2 - len(words)]])
    return f"one of {', '.join(get_args(info.annotation))}" if get_origin(info.annotation) is Literal else ""
