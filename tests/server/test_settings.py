"""The settings object: defaults, what each field takes, and the relations between fields."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.settings import Settings, allowed

UNITS = ("_ms", "_s", "_bytes", "_max", "_min")


def built(**values: Any) -> Settings:
    """From values as a flag or file gives them, which a type checker would refuse."""
    return Settings(**values)


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        built(**values)
    return str(caught.value)


def test_defaults_hold_without_anything_set() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path("data"))
    assert settings.message_bytes_max == 32 * 1024 * 1024
    assert settings.send_keepalive_s == 20
    assert (settings.web, settings.metrics, settings.record_dir, settings.cors_origins) == (True, True, None, ())


def test_the_environment_does_not_reach_an_object_built_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTTI_PORT", "9")
    monkeypatch.setenv("PORT", "9")
    assert Settings().port == 8000


def test_it_is_frozen_and_refuses_unknown_names() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1
    assert "Extra inputs" in refusal(prot=1)


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_field_says_what_turning_it_does(field: str) -> None:
    description = Settings.model_fields[field].description or ""
    assert description.endswith("."), f"{field} needs a sentence below it, for `tutti serve --help`"


@pytest.mark.parametrize(
    "field", [name for name, info in Settings.model_fields.items() if info.annotation in {int, float}]
)
def test_every_number_names_its_unit_and_is_bounded_below(field: str) -> None:
    assert field == "port" or field.endswith(UNITS), f"{field} must end in its unit or bound: {UNITS}"
    assert "from" in allowed(field) or "above" in allowed(field)
    assert "Input should be greater than" in refusal(**{field: -1})


def test_every_section_of_the_help_begins_at_a_field() -> None:
    assert set(Settings.sections) <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("port", "a whole number from 0 up to 65535"),
        ("sessions_max", "a whole number from 1 up"),
        ("send_keepalive_s", "a number above 0 and below 25"),
        ("handshake_timeout_s", "a number above 0 up to 300"),
        ("log_format", "one of text, json"),
        ("web", "true or false"),
        ("host", ""),
        ("data_dir", ""),
        ("record_dir", ""),
        ("cors_origins", ""),
    ],
)
def test_what_is_allowed_in_words(field: str, words: str) -> None:
    assert allowed(field) == words


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
        ("node-1.example.org.", "node-1.example.org."),
    ],
)
def test_host(given: str, kept: str) -> None:
    assert Settings(host=given).host == kept


@pytest.mark.parametrize(
    "host",
    ["", " ", "http://a", "a:80", "[localhost]", "[", "10.0.0.300", "1.2.3", "-a", "a..b", "a\nb", "ü", 5, None, b"a"],
)
def test_host_refused(host: Any) -> None:
    assert "an IP address or a host name, without a port" in refusal(host=host)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ()),
        ("https://a.example", ("https://a.example",)),
        (" https://a.example , http://localhost:3000,", ("https://a.example", "http://localhost:3000")),
        (["https://a.example"], ("https://a.example",)),
        ("*", ("*",)),
    ],
)
def test_cors_origins(given: Any, kept: tuple[str, ...]) -> None:
    assert Settings(cors_origins=given).cors_origins == kept


@pytest.mark.parametrize(
    "given", ["a.example", "https://a.example/", "https://a.example/x", [5], 5, {"a": 1}, "https://"]
)
def test_cors_origins_refused(given: Any) -> None:
    assert "without a path" in refusal(cors_origins=given)


@pytest.mark.parametrize("given", ["", "a\0b", 5])
@pytest.mark.parametrize("field", ["data_dir", "record_dir"])
def test_folders_refused(field: str, given: Any) -> None:
    assert "a path, not empty" in refusal(**{field: given})


def test_folders_are_paths() -> None:
    settings = built(data_dir="x", record_dir="y")
    assert (settings.data_dir, settings.record_dir) == (Path("x"), Path("y"))


def test_levels_and_formats_in_any_case() -> None:
    settings = built(log_level="WARNING", log_format="Json")
    assert (settings.log_level, settings.log_format) == ("warning", "json")
    assert "Input should be" in refusal(log_level="verbose")
    assert "Input should be" in refusal(log_level=3)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", float("nan"), float("inf"), "1e999"])
def test_numbers_are_finite(value: Any) -> None:
    refusal(tick_interval_ms=value)


@pytest.mark.parametrize("field", ["port", "ping_interval_s"])
def test_true_is_not_the_number_one(field: str) -> None:
    assert "not true or false" in refusal(**{field: True})


@pytest.mark.parametrize("value", [-1, 65536, "70000", "abc", "80.5", "", "9" * 5000])
def test_port_refused(value: Any) -> None:
    refusal(port=value)


@pytest.mark.parametrize("value", [25, 25.0, 30, 0])
def test_the_keepalive_comes_before_providers_give_up(value: float) -> None:
    refusal(send_keepalive_s=value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tick_interval_ms": 300}, "tick_interval_ms (300.0) must be at most tick_interval_max_ms (200.0)"),
        ({"sessions_max": 10}, "sessions_per_room_max (5000) must be at most sessions_max (10)"),
        ({"document_bytes_max": 65536}, "message_bytes_max (33554432) must be at most document_bytes_max (65536)"),
        ({"held_bytes_max": 0}, "held_bytes_per_session_max (1048576) must be at most held_bytes_max (0)"),
        ({"outbox_bytes_max": 1024}, "outbox_slice_bytes (262144) must be at most outbox_bytes_max (1024)"),
        ({"presence_bytes_max": 1024}, "presence_state_bytes_max (16384) must be at most presence_bytes_max (1024)"),
        ({"commit_interval_busy_ms": 0}, "commit_interval_ms (5.0) must be at most commit_interval_busy_ms (0.0)"),
    ],
)
def test_relations(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**values)
