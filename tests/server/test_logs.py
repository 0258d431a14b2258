"""Lines of the log: one an event, fields as fields, nothing forged, no tracebacks for what others did wrong."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from crdt.errors import LocalError, Malformed, Unavailable
from server.logs import MESSAGE_CHARACTERS_MAX, configure_logging

NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "websockets", "asyncio")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Logging is global: put back what the test changed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = [(logger := logging.getLogger(name), logger.level, logger.handlers[:], logger.disabled) for name in NAMES]
    yield
    root.handlers[:], root.level = handlers, level
    for logger, own_level, own_handlers, disabled in others:
        logger.setLevel(own_level)
        logger.handlers[:], logger.disabled = own_handlers, disabled


def configured(log_format: Literal["text", "json"], level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, log_format, stream)
    return stream


def only_json(stream: io.StringIO) -> dict[str, Any]:
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1, lines
    line: dict[str, Any] = json.loads(lines[0])
    return line


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_json_has_the_fields_of_the_event() -> None:
    stream = configured("json")
    logging.getLogger("tutti.hub").warning("room %s closed", "plan", extra={"sessions": 3, "level": "forged"})
    line = only_json(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "tutti.hub", "message": "room plan closed", "sessions": 3}


def test_text_is_one_line_with_the_fields_behind() -> None:
    stream = configured("text")
    logging.getLogger("tutti.hub").warning("room %s closed", "plan", extra={"sessions": 3})
    assert stream.getvalue().split(" ", 2)[2] == "warning tutti.hub: room plan closed sessions=3\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_name_with_a_line_break_forges_no_line(log_format: Literal["text", "json"]) -> None:
    stream = configured(log_format)
    name = "a\nerror forged \x1b[31m\u2028\ud83d"
    logging.getLogger("tutti").info("room %s opened", name, extra={"room": name})
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("error", [Malformed("update ends inside a block"), Unavailable("disk is full")])
def test_what_others_did_wrong_has_no_traceback(log_format: Literal["text", "json"], error: Exception) -> None:
    stream = configured(log_format)
    logging.getLogger("tutti").warning("session 7 closed", exc_info=raised(error))
    assert f"session 7 closed: {error}" in stream.getvalue()
    assert "Traceback" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1


def test_our_own_faults_have_one() -> None:
    stream = configured("json")
    logging.getLogger("tutti").error("room failed", exc_info=raised(LocalError("a bug")))
    line = only_json(stream)
    assert line["message"] == "room failed"
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("a bug")
    text = configured("text")
    logging.getLogger("tutti").error("room failed", exc_info=raised(LocalError("a bug")))
    assert "Traceback" in text.getvalue()


def test_a_long_message_is_cut_and_says_so() -> None:
    stream = configured("json")
    logging.getLogger("tutti").info("x" * 10_000)
    message = only_json(stream)["message"]
    assert len(message) < MESSAGE_CHARACTERS_MAX + 50
    assert message.endswith("… (10000 characters)")


@pytest.mark.parametrize("value", [2**100, {1: 2}, object(), "\ud83d", b"\xff", float("nan")])
def test_no_field_costs_a_line(value: object) -> None:
    stream = configured("json")
    logging.getLogger("tutti").info("event", extra={"value": value})
    assert only_json(stream)["message"] == "event"


def test_below_the_level_nothing_is_written() -> None:
    stream = configured("json", "error")
    logging.getLogger("tutti").warning("not this")
    logging.getLogger("tutti").error("but this")
    assert only_json(stream)["message"] == "but this"


def test_uvicorn_writes_our_lines_and_no_access_log() -> None:
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).addHandler(logging.StreamHandler(io.StringIO()))
    stream = configured("json", "debug")
    logging.getLogger("uvicorn.access").info('127.0.0.1 - "GET /ws/plan?token=secret HTTP/1.1" 101')
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    assert stream.getvalue() == ""
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert only_json(stream)["logger"] == "uvicorn.error"


def test_a_second_call_replaces_the_first() -> None:
    first = configured("text")
    second = configured("json")
    logging.getLogger("tutti").info("event")
    assert first.getvalue() == ""
    assert only_json(second)["message"] == "event"
