"""Logging set-up: one line an event, as text for people or as JSON for machines, on stderr.

Owns the format of every line of the process, uvicorn's and the libraries' included. What is logged holds names of rooms
and numbers of sessions, never content of documents, presence states or tokens: whoever logs takes care of that, here
only the length is bounded. Fields given as `extra=` come out as fields. What a peer did wrong is logged without a
traceback, since the fault is not in our code.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import orjson

from crdt.errors import RemoteError, Unavailable

MESSAGE_CHARACTERS_MAX: Final = 2_000
"""Longest message. A room's name may be 1,024 bytes, and a peer chooses it."""

_OWN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""Attributes every record has (and uvicorn's coloured twin of the message); the rest came in as `extra`."""

_EXPECTED: Final = (RemoteError, Unavailable)
"""Errors whose traceback says nothing: a peer's mistake, a dependency that is away."""


def configure_logging(level: str, log_format: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Send everything from `level` up to `stream` (stderr). Called once, before the node starts; a second call replaces."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # uvicorn hangs up handlers of its own unless it is started with log_config=None; either way its lines are ours.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    # One line for each request, with its query, in which clients may put tokens: off, also at debug.
    logging.getLogger("uvicorn.access").disabled = True
    # Both say at info what we say ourselves, or that somebody's connection ended.
    for name in ("uvicorn.error", "websockets", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.123 info tutti.hub: message key=value`, then the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        fields = "".join(f" {name}={_escaped(str(value))}" for name, value in _fields(record))
        head = f"{at}.{int(record.msecs):03d} {record.levelname.lower()} {record.name}: {_message(record)}{fields}"
        traceback = _traceback(record)
        return head + ("\n" + traceback if traceback else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, and error with traceback."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        line.update((name, value) for name, value in _fields(record) if name not in line)
        traceback = _traceback(record)
        if traceback:
            line["traceback"] = traceback
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:
            # A key that is no string, an integer beyond 64 bits, half a surrogate pair: a line is never lost for it.
            return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _EXPECTED):
        message = f"{message}: {error}"
    if len(message) > MESSAGE_CHARACTERS_MAX:
        message = f"{message[:MESSAGE_CHARACTERS_MAX]}… ({len(message)} characters)"
    return _escaped(message)


def _escaped(text: str) -> str:
    """A peer may choose parts of a line: a line break would begin one of its own, an escape would paint the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in vars(record).items() if name not in _OWN_FIELDS)


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None or isinstance(record.exc_info[1], _EXPECTED):
        return ""
    return logging.Formatter().formatException(record.exc_info)
